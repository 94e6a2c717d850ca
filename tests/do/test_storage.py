"""What `storage` reads and writes down: so many calls and no more, one sample an hour, and each place once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pointsman import config, storage
from pointsman.aws.operation import Operation, R
from pointsman.errors import AccessDenied, LedgerError
from pointsman.ledger import Ledger
from pointsman.storing import DAY_S
from pointsman.world import World
from tests.fakes import FakeClock

HERE = "arn:aws:lambda:eu-west-1:123456789012"
FILE = """
[function.greeting]
handler   = "index.handler"
runtime   = "nodejs22.x"
provision = { with = "existing" }
[environment.staging]
alias  = "STAGE"
region = "eu-west-1"
[environment.production]
alias  = "PROD"
region = "eu-west-1"
"""


class Account:
    """Two functions of 60 versions, three layers of 55 versions in all."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.code = 200_000
        self.layers: Mapping[str, int] = {"common": 52, "numeric": 2, "old": 1}
        self.denied = ""

    def send(self, operation: Operation[R]) -> R:
        self.calls[operation.action] += 1
        if operation.action == self.denied:
            raise AccessDenied(f"not authorized to perform: lambda:{operation.action}")
        given = operation.parameters
        start = int(given.get("Marker", 0))
        match operation.action:
            case "GetAccountSettings":
                limits = {"TotalCodeSize": 75 * 2**30, "ConcurrentExecutions": 1, "UnreservedConcurrentExecutions": 1}
                usage = {"TotalCodeSize": self.code, "FunctionCount": 2}
                return operation.read({"AccountUsage": usage, "AccountLimit": limits})
            case "ListFunctions":
                every = [self.version(name, n) for name in ("api", "greeting") for n in range(61)]
                return operation.read({"Functions": every[start : start + 50], **self.more(start, len(every))})
            case "ListLayers":
                names = [{"LayerName": name, "LayerArn": f"{HERE}:layer:{name}"} for name in self.layers]
                return operation.read({"Layers": names})
            case "ListLayerVersions":
                name, count = given["LayerName"], self.layers[given["LayerName"]]
                every = [{"LayerVersionArn": f"{HERE}:layer:{name}:{n}"} for n in range(count, 0, -1)]
                return operation.read({"LayerVersions": every[start : start + 50], **self.more(start, count)})
            case "GetLayerVersionByArn":
                content = {"CodeSha256": given["Arn"], "CodeSize": 10}
                return operation.read({"LayerVersionArn": given["Arn"], "Content": content})
            case other:
                raise AssertionError(other)

    @staticmethod
    def more(start: int, of: int) -> dict[str, str]:
        return {"NextMarker": str(start + 50)} if start + 50 < of else {}

    @staticmethod
    def version(name: str, number: int) -> dict[str, Any]:
        return {
            "FunctionArn": f"{HERE}:function:{name}:{number or '$LATEST'}",
            "Version": str(number or "$LATEST"),
            "CodeSha256": "A" * 43 + "=",
            "CodeSize": 1000,
            "LastModified": "2023-10-01T10:00:00.000+0000",
        }


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def world(tmp_path: Path, account: Account, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (tmp_path / "pointsman.toml").write_text(FILE)
    project = config.load(tmp_path / "pointsman.toml")
    return World(project=project, environ={}, clock=clock, wrap=lambda _wire: account)


def test_an_account_is_read_once_whatever_it_is_called_and_sizes_of_layers_are_asked_for_once(
    world: World, account: Account
) -> None:
    (report,) = storage.reports(world, quick=True)

    assert report.environments == ("staging", "production")
    assert account.calls == {
        "GetAccountSettings": 1,
        "ListFunctions": 3,
        "ListLayers": 1,
        "ListLayerVersions": 4,
        "GetLayerVersionByArn": 55,
    }
    used = report.usage
    assert (used.latest, used.versions, used.layers, used.other) == (2000, 120_000, 550, 200_000 - 122_550)
    assert [(each.name, each.count) for each in used.by_layer] == [("common", 52), ("numeric", 2), ("old", 1)]
    assert used.repeated == 121_000

    account.calls.clear()
    assert storage.reports(world, quick=True)[0].usage.by_layer == used.by_layer
    assert account.calls["GetLayerVersionByArn"] == 0


def test_layers_that_may_not_be_seen_are_said_and_the_rest_is_told(world: World, account: Account) -> None:
    account.denied = "ListLayers"

    (report,) = storage.reports(world, quick=True)

    assert "lambda:ListLayers" in report.notes[0]
    assert (report.usage.layers, report.usage.other) == (0, 78_000)


def test_samples_are_kept_by_the_hour_and_the_day_it_is_full_comes_of_them(
    world: World, account: Account, clock: FakeClock
) -> None:
    for _ in range(10):
        for _ in range(3):
            storage.reports(world, quick=True)
            clock.sleep(60)
        account.code += 10**9
        clock.sleep(DAY_S - 180)
    account.code -= 10**9

    (report,) = storage.reports(world, quick=True)

    kept = storage.samples(world.ledger, "123456789012", "eu-west-1")
    assert len(kept) == 11
    assert report.growth.basis == "samples"
    assert report.growth.per_day == pytest.approx(10**9, rel=0.2)
    assert report.growth.full is not None
    assert storage.samples(world.ledger, "123456789012", "us-east-1") == []


def test_a_ledger_that_cannot_be_written_stops_nobody_from_looking(world: World, tmp_path: Path) -> None:
    class Shut(Ledger):
        def append(self, *_: object, **__: object) -> int:
            raise LedgerError("the disk is full")

    world._ledger = Shut(tmp_path / "ledger.db", now=world.clock.now)

    (report,) = storage.reports(world, quick=True)

    assert report.usage.code == 200_000
    assert storage.samples(world.ledger, "123456789012", "eu-west-1") == []
