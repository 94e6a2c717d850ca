"""One listing of all versions and one of each function's aliases: that is all it takes to know an account."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pointsman import config, inventory
from pointsman.aws.operation import Operation, R, Transport
from pointsman.errors import AccessDenied, AwsError, NotFound
from pointsman.fleet import Fleet
from pointsman.world import World
from tests.fakes import FakeClock

FILE = """
[function.greeting]
handler   = "index.handler"
runtime   = "nodejs22.x"
provision = { with = "existing" }
[environment.staging]
alias  = "STAGE"
region = "eu-west-1"
"""
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:"
Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


class Account:
    """Lambda as far as lists go, 50 a page: functions with so many versions and aliases. `gone`: deleted meanwhile."""

    def __init__(self, versions: Mapping[str, int], aliases: Mapping[str, int], *, gone: str = "") -> None:
        self.versions = [
            (name, str(number or "$LATEST")) for name in sorted(versions) for number in range(versions[name] + 1)
        ]
        self.aliases = aliases
        self.gone = gone
        self.calls: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.fails: AwsError | None = None

    def send(self, operation: Operation[R]) -> R:
        with self.lock:
            self.calls[operation.action] += 1
        given = operation.parameters
        match operation.action:
            case "ListFunctions":
                assert given["FunctionVersion"] == "ALL"
                start = int(given.get("Marker", 0))
                if start and self.fails:
                    raise self.fails
                page = [self.version(*each) for each in self.versions[start : start + 50]]
                return operation.read({"Functions": page, **self.more(start, len(self.versions))})
            case "ListAliases":
                name, start = given["FunctionName"], int(given.get("Marker", 0))
                if name == self.gone:
                    raise NotFound("Function not found")
                numbers = range(start, min(start + 50, self.aliases.get(name, 0)))
                page = [self.alias(name, number) for number in numbers]
                return operation.read({"Aliases": page, **self.more(start, self.aliases.get(name, 0))})
            case "GetAccountSettings":
                raise AccessDenied("not this")
            case other:
                raise AssertionError(other)

    @staticmethod
    def more(start: int, of: int) -> dict[str, str]:
        return {"NextMarker": str(start + 50)} if start + 50 < of else {}

    @staticmethod
    def version(name: str, version: str) -> dict[str, Any]:
        return {
            "FunctionArn": f"{ARN}{name}:{version}",
            "Version": version,
            "CodeSha256": "A" * 43 + "=",
            "Role": "arn:aws:iam::123456789012:role/r",
            "Environment": {"Variables": {"NAME": name}},
            "CodeSize": 1000,
        }

    @staticmethod
    def alias(name: str, number: int) -> dict[str, Any]:
        weights = {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.25}}} if number == 0 else {}
        return {"AliasArn": f"{ARN}{name}:a{number}", "Name": f"a{number}", "FunctionVersion": "1", **weights}


def read(account: Transport, folder: Path, **more: Any) -> Fleet:
    project = config.parse(FILE, file=folder / "pointsman.toml")
    world = World(project=project, environ={}, clock=FakeClock(), wrap=lambda _inner: account)
    try:
        return inventory.read(world, world.door(world.environment(None)), **more)
    finally:
        world.close()


def test_an_account_is_read_in_a_page_for_fifty_versions_and_a_call_for_each_functions_aliases(tmp_path: Path) -> None:
    account = Account({"a": 120, "b": 0, "c": 30}, {"a": 2, "c": 1})

    fleet = read(account, tmp_path)

    assert account.calls == {"ListFunctions": 4, "ListAliases": 3}  # 153 versions
    assert (fleet.account, fleet.region, fleet.at) == ("123456789012", "eu-west-1", pytest.approx(1_700_000_000, abs=9))
    assert [(each.name, len(each.versions), len(each.aliases)) for each in fleet.members] == [
        ("a", 120, 2),
        ("b", 0, 0),
        ("c", 30, 1),
    ]
    a = fleet.members[0]
    assert a.latest.version == "$LATEST"
    assert [int(each.version) for each in a.versions] == list(range(1, 121))
    assert str(a.aliases[0].routing) == "version 1 and 25 % to version 2"
    assert str(a.arn) == f"{ARN}a"


def test_whose_aliases_nobody_needs_are_not_asked_for(tmp_path: Path) -> None:
    account = Account({"a": 1}, {"a": 2})

    assert read(account, tmp_path, aliases=False).members[0].aliases == ()
    assert account.calls == {"ListFunctions": 1}


def test_more_than_fifty_aliases_are_all_found(tmp_path: Path) -> None:
    assert len(read(Account({"a": 2}, {"a": 130}), tmp_path).members[0].aliases) == 130


def test_a_function_that_is_deleted_meanwhile_is_left_out(tmp_path: Path) -> None:
    account = Account({"a": 2, "b": 2}, {}, gone="a")

    assert [each.name for each in read(account, tmp_path).members] == ["b"]


def test_equal_settings_are_held_once(tmp_path: Path) -> None:
    """20,000 versions must not take 20,000 copies of their settings."""
    a, b = read(Account({"a": 30, "b": 1}, {}), tmp_path).members

    assert len({id(each.settings) for each in (a.latest, *a.versions)}) == 1
    assert a.latest.settings != b.latest.settings


def test_a_listing_that_fails_is_told_and_nothing_more_is_asked(tmp_path: Path) -> None:
    account = Account({"a": 120}, {})
    account.fails = AccessDenied("no")

    with pytest.raises(AccessDenied):
        read(account, tmp_path)
    assert account.calls["ListFunctions"] == 2


def test_after_ctrl_c_nothing_is_sent(tmp_path: Path) -> None:
    account = Account({f"f{number:03}": 0 for number in range(200)}, {})

    class Interrupting:
        """Ctrl-C arrives in the second page."""

        def send(self, operation: Operation[R]) -> R:
            if operation.parameters.get("Marker") == "50":
                raise KeyboardInterrupt
            return account.send(operation)

    with pytest.raises(KeyboardInterrupt):
        read(Interrupting(), tmp_path)
    assert account.calls["ListFunctions"] == 1
    assert account.calls["ListAliases"] <= 50
