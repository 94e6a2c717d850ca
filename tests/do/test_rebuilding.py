"""A ledger written anew: CloudTrail is asked twice a second and no more, page by page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pointsman import chronicle, config, rebuilding
from pointsman.aws.operation import Operation, R
from pointsman.chronicle import Wanted
from pointsman.errors import AccessDenied, UsageError
from pointsman.traces import CALLS
from pointsman.world import World
from tests.do.test_storage import FILE
from tests.fakes import FakeClock

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:greeting"


class Account:
    """One function: version 1 of build 101, version 2 of 102; PROD was moved 60 times in an hour, STAGE never."""

    def __init__(self, clock: FakeClock) -> None:
        self.now = clock.time
        self.clock = clock
        self.asked: list[float] = []
        self.since = 0.0
        self.denied = False

    def send(self, operation: Operation[R]) -> R:
        match operation.action:
            case "ListVersionsByFunction":
                return operation.read({"Versions": [self.version(1), self.version(2)]})
            case "ListAliases":
                return operation.read({"Aliases": [self.alias("PROD", "2"), self.alias("STAGE", "2")]})
            case "LookupEvents":
                if self.denied:
                    raise AccessDenied("User: anna is not authorized to perform: cloudtrail:LookupEvents")
                self.asked.append(self.clock.now())
                return operation.read(self.events(operation.parameters))
            case other:
                raise AssertionError(other)

    def events(self, given: Any) -> dict[str, Any]:
        self.since = given["StartTime"]
        if given["LookupAttributes"][0]["AttributeValue"] != "UpdateAlias20150331":
            return {"Events": []}
        start = int(given.get("NextToken", 0))
        every = [self.moved(n) for n in reversed(range(60))]
        more = {"NextToken": str(start + 50)} if start + 50 < len(every) else {}
        return {"Events": every[start : start + 50], **more}

    def moved(self, number: int) -> dict[str, Any]:
        told = {
            "requestParameters": {"functionName": ARN, "name": "PROD", "functionVersion": str(1 + number % 2)},
            "responseElements": None,
        }
        return {
            "EventName": "UpdateAlias20150331",
            "EventTime": datetime.fromtimestamp(self.now - 60 * (60 - number), UTC),
            "Username": f"person-{number}",
            "CloudTrailEvent": json.dumps(told),
        }

    def version(self, number: int) -> dict[str, Any]:
        return {
            "FunctionArn": f"{ARN}:{number}",
            "Version": str(number),
            "CodeSha256": "A" * 43 + "=",
            "CodeSize": 1000,
            "Description": str(100 + number),
            "LastModified": f"2023-11-0{number}T10:00:00.000+0000",
        }

    @staticmethod
    def alias(name: str, version: str) -> dict[str, Any]:
        return {"AliasArn": f"{ARN}:{name}", "Name": name, "FunctionVersion": version}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def account(clock: FakeClock) -> Account:
    return Account(clock)


@pytest.fixture
def world(tmp_path: Path, account: Account, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (tmp_path / "pointsman.toml").write_text(FILE)
    project = config.load(tmp_path / "pointsman.toml")
    return World(project=project, environ={}, clock=clock, wrap=lambda _wire: account)


def test_moves_of_the_last_ninety_days_are_written_with_who_and_when(world: World, account: Account) -> None:
    done = rebuilding.rebuild(world, world.functions())

    assert (done.versions, done.aliases, done.moves, done.sources) == (2, 2, 60, ("Lambda", "CloudTrail"))
    assert "60 moves" in done.notes[0]
    assert account.since == pytest.approx(account.now - 90 * 86_400)
    told = chronicle.history(world.ledger.told(), Wanted(aliases=("PROD",), topics=("move",)))
    assert (told[0].version, told[0].was, told[0].by, told[0].build) == ("2", "1", "person-59", "102")
    assert told[0].at == account.now - 60
    then = {each.alias: each for each in chronicle.then(world.ledger.told(), account.now - 90).aliases}
    assert (then["PROD"].version, then["PROD"].by, then["PROD"].sure) == ("1", "person-58", True)
    assert (then["STAGE"].version, then["STAGE"].sure) == ("", False)


def test_cloudtrail_is_asked_twice_a_second_and_once_for_each_account_and_region(
    world: World, account: Account
) -> None:
    rebuilding.rebuild(world, world.functions())

    assert len(account.asked) == len(CALLS) + 1  # one of them has two pages
    assert min(b - a for a, b in zip(account.asked, account.asked[2:], strict=False)) >= 1 - 1e-6


def test_versions_keep_the_dates_and_builds_that_lambda_tells(world: World) -> None:
    rebuilding.rebuild(world, world.functions())

    told = chronicle.history(world.ledger.told(), Wanted(topics=("publish",)))

    assert [(each.version, each.build, datetime.fromtimestamp(each.at, UTC).day) for each in told] == [
        ("2", "102", 2),
        ("1", "101", 1),
    ]


def test_without_the_permission_lambda_alone_tells_and_it_is_said(world: World, account: Account) -> None:
    account.denied = True

    done = rebuilding.rebuild(world, world.functions())

    assert (done.versions, done.aliases, done.moves, done.sources) == (2, 2, 0, ("Lambda",))
    assert "grant cloudtrail:LookupEvents" in done.notes[0]
    moves = chronicle.history(world.ledger.told(), Wanted(topics=("move",)))
    assert [(each.alias, each.version, each.at) for each in moves] == [
        ("STAGE", "2", account.now),
        ("PROD", "2", account.now),
    ]


def test_a_sound_ledger_is_not_rebuilt_unasked(world: World) -> None:
    rebuilding.must_be_needed(world)  # empty: there is nothing to lose
    rebuilding.rebuild(world, world.functions())

    with pytest.raises(UsageError, match="is sound"):
        rebuilding.must_be_needed(world)
