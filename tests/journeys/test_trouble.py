"""Trouble on demand and snapshots, as a user meets them: by the command line, over real connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pointsman.localaws import control
from tests.journeys.conftest import AS_ON_AWS, Shop


@pytest.fixture
def alone(shop: Shop) -> Iterator[Shop]:
    """A shop with a local AWS of its own, which is up, and where build 101 serves STAGE."""
    shop.variables = {}
    shop.ok("--local", "deploy", "--build-id", "101")
    yield shop
    shop.run("local", "down")


def stage(shop: Shop) -> str:
    (found,) = shop.ok("--local", "status", "--json").result
    return str(next(each["build"] for each in found["aliases"] if each["alias"] == "STAGE"))


def test_a_busy_account_slows_a_deploy_down_and_no_more(shop: Shop, local_aws: control.Running) -> None:
    control.chaos(local_aws, "POST", rules=[AS_ON_AWS | {"per_second": 2}])
    try:
        shop.ok("deploy", "--build-id", "101")
        assert control.chaos(local_aws)["rules"][0]["hits"] > 0
    finally:
        control.chaos(local_aws, "PUT", rules=[AS_ON_AWS])


@pytest.mark.parametrize("trouble", [["--drop-after"], ["--drop"], ["--error-after", "503"], ["--error"]])
def test_whatever_becomes_of_the_call_that_moves_an_alias_resume_brings_it_about(
    alone: Shop, trouble: list[str]
) -> None:
    alone.greet("two")
    alone.ok("local", "chaos", *trouble, "--only", "lambda:UpdateAlias", "--times", "1")

    if alone.run("--local", "deploy", "--build-id", "102").code != 0:
        alone.ok("--local", "resume")

    assert stage(alone) == "102"
    (rule,) = alone.ok("local", "chaos", "--json").result["rules"]
    assert rule["hits"] == 1


def test_a_failing_update_is_told_with_its_reason(alone: Shop) -> None:
    alone.greet("two")
    alone.ok("local", "chaos", "--fail", "The zip is haunted.", "--times", "1")

    told = alone.run("--local", "deploy", "--build-id", "102")

    assert told.code == 1
    assert "The zip is haunted." in told.err
    assert stage(alone) == "101"


def test_the_status_says_what_trouble_there_is_until_it_is_off(alone: Shop) -> None:
    alone.ok("local", "chaos", "--latency", "1ms..2ms", "--only", "s3", "--clock", "60")
    alone.ok("local", "chaos", "--metrics-late", "90s")

    said = alone.ok("local", "status").out.splitlines()[1:]

    assert said == [
        "  latency of 1 ms to 2 ms, on s3 (struck 0 times)",
        "  waits pass 60 times as fast as on AWS",
        "  metrics come 90 s late",
    ]
    assert alone.ok("local", "chaos", "--off").out == "No trouble: every call is answered at once.\n"
    assert len(alone.ok("local", "status").out.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--drop", "--only", "lambda:UpdateAlia"], "did you mean UpdateAlias?"),
        (["--times", "3"], "--times limits a trouble, and none is named"),
        (["--error", "404"], "500 to 599"),
        (["--latency", "2s..1s"], "2s is more than 1s"),
        (["--probability", "1.5", "--drop"], "1.5"),
    ],
)
def test_what_makes_no_sense_is_said(alone: Shop, words: list[str], said: str) -> None:
    told = alone.run("local", "chaos", *words)
    assert told.code != 0
    assert said in told.err
    assert alone.ok("local", "chaos", "--json").result["rules"] == []


def test_a_snapshot_brings_functions_and_ledger_back_together(alone: Shop) -> None:
    assert "Saved as first" in alone.ok("local", "snapshot", "save", "first").out
    alone.greet("two")
    alone.ok("--local", "deploy", "--build-id", "102")
    assert "102" in alone.ok("--local", "history").out

    told = alone.ok("local", "snapshot", "load", "first").out

    assert told.startswith("The local AWS is as it was when first was saved; it answers at http://127.0.0.1:")
    assert "102" not in alone.ok("--local", "history").out
    assert stage(alone) == "101"
    assert [each["name"] for each in alone.ok("local", "snapshot", "list", "--json").result] == ["first"]

    alone.ok("local", "reset")
    alone.ok("local", "snapshot", "load", "first")
    assert stage(alone) == "101"

    alone.ok("local", "snapshot", "remove", "first")
    assert alone.ok("local", "snapshot", "list").out == "There are no snapshots.\n"
    gone = alone.run("local", "snapshot", "load", "first")
    assert (gone.code, "There is no snapshot first." in gone.err) == (1, True)
