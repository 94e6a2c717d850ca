"""The rules of the local Lambda that need a clock, chosen chance, or 55 versions. What AWS recorded: tests/conform."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws.lambda_ import LambdaError, LambdaState
from pointsman.localaws.lambda_.errors import NotReady
from pointsman.localaws.lambda_.settings import CREATABLE, RETIRED
from pointsman.localaws.lambda_.wire import _model, _pattern, known_runtimes
from tests.conform.local_lambda import ACCOUNT, REGION, package

HERE = (ACCOUNT, REGION)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"


@dataclass
class Clock:
    seconds: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(directory: Path, clock: Clock) -> LambdaState:
    return LambdaState(directory, now=clock, settle_s=1.0, runtimes=lambda: ("python3.11",))


@pytest.fixture
def state(tmp_path: Path, clock: Clock) -> Iterator[LambdaState]:
    state = opened(tmp_path, clock)
    yield state
    state.close()


def create(state: LambdaState, clock: Clock, name: str = "f", **given: Any) -> dict[str, Any]:
    usual = {"Role": ROLE, "Runtime": "python3.11", "Handler": "index.handler", "Code": {"ZipFile": package()}}
    made = state.create_function(*HERE, {"FunctionName": name} | usual | given)
    clock.seconds += 1
    return made


def publish(state: LambdaState, clock: Clock, name: str = "f", **change: Any) -> str:
    if change:
        state.update_function_configuration(*HERE, {"FunctionName": name} | change)
        clock.seconds += 1
    version: str = state.publish_version(*HERE, {"FunctionName": name})["Version"]
    return version


def reached(state: LambdaState, qualifier: str | None = None, draw: float = 0.999) -> tuple[str, str]:
    reach = state.reach(*HERE, "f", qualifier, choose=lambda: draw)
    target, arn = reach.target, reach.arn
    return target.version, arn.rpartition(":")[2]


def refusal(call: Callable[[], object]) -> LambdaError:
    with pytest.raises(LambdaError) as raised:
        call()
    return raised.value


# --- time ---


def test_a_function_settles_exactly_when_its_time_has_come(state: LambdaState, clock: Clock) -> None:
    create(state, clock)
    given = {"FunctionName": "f"}
    update = state.update_function_configuration(*HERE, given | {"Timeout": 9})

    clock.seconds += 0.999
    early = state.get_function_configuration(*HERE, given)
    clock.seconds += 0.001
    settled = state.get_function_configuration(*HERE, given)
    later = state.get_function_configuration(*HERE, given)

    assert early == update
    assert settled["LastUpdateStatus"] == "Successful"
    assert settled["RevisionId"] != update["RevisionId"]
    assert later == settled


def test_the_old_code_runs_until_the_update_is_done(state: LambdaState, clock: Clock) -> None:
    """Whoever does not wait for LastUpdateStatus=Successful tests the old code: AWS does the same."""
    create(state, clock)
    before = state.reach(*HERE, "f", None).target

    state.update_function_code(*HERE, {"FunctionName": "f", "ZipFile": package("two")})
    during = state.reach(*HERE, "f", None).target
    clock.seconds += 1
    after = state.reach(*HERE, "f", None).target

    assert during == before
    assert after.revision != before.revision
    state.packages.unpack(after.code)
    assert "'two'" in (after.code / "index.py").read_text()


def test_what_is_being_created_cannot_run_yet(state: LambdaState, clock: Clock) -> None:
    create(state, clock)
    clock.seconds -= 0.25
    pending = refusal(lambda: state.reach(*HERE, "f", None))

    assert isinstance(pending, NotReady)
    assert pending.seconds == pytest.approx(0.25)
    assert (pending.code, pending.status) == ("ResourceConflictException", 409)
    assert refusal(lambda: publish(state, clock)).message == pending.message


def test_snapstart_versions_are_pending_first(state: LambdaState, clock: Clock) -> None:
    create(state, clock, SnapStart={"ApplyOn": "PublishedVersions"})

    version = state.publish_version(*HERE, {"FunctionName": "f"})
    clock.seconds += 1
    active = state.get_function_configuration(*HERE, {"FunctionName": "f:1"})

    assert version["State"] == "Pending"
    assert version["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    assert (active["State"], active["RevisionId"]) == ("Active", version["RevisionId"])


# --- where an invocation goes ---


def test_a_target_is_the_version_that_was_published(state: LambdaState, clock: Clock) -> None:
    create(state, clock, Environment={"Variables": {"KEY": "1"}}, Timeout=7, MemorySize=256)
    publish(state, clock)
    publish(state, clock, Environment={"Variables": {"KEY": "2"}}, LoggingConfig={"LogGroup": "logs"})

    reach = state.reach(*HERE, f"{ACCOUNT}:function:f:1", None)
    one, arn = reach.target, reach.arn
    latest = state.reach(*HERE, "f", None).target

    assert arn == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f:1"
    assert (one.function_name, one.version, one.runtime, one.handler) == ("f", "1", "python3.11", "index.handler")
    assert (one.environment, one.timeout_s, one.memory_mb, one.log_group) == ({"KEY": "1"}, 7.0, 256, "/aws/lambda/f")
    state.packages.unpack(one.code)
    assert (one.code / "index.py").is_file()
    assert (latest.version, latest.environment, latest.log_group) == ("$LATEST", {"KEY": "2"}, "logs")


@pytest.mark.parametrize(("draw", "version"), [(0.0, "2"), (0.2499, "2"), (0.25, "1"), (0.999, "1")])
def test_the_weight_is_the_additional_versions_share(
    state: LambdaState, clock: Clock, draw: float, version: str
) -> None:
    create(state, clock)
    publish(state, clock)
    publish(state, clock, Timeout=9)
    weights = {"AdditionalVersionWeights": {"2": 0.25}}
    alias = {"FunctionName": "f", "Name": "live", "FunctionVersion": "1", "RoutingConfig": weights}
    state.create_alias(*HERE, alias)

    assert reached(state, "live", draw) == (version, "live")


def test_publishing_again_does_not_end_what_is_warm(state: LambdaState, clock: Clock) -> None:
    """A Target's revision changes with code and configuration, not with every RevisionId."""
    create(state, clock)
    before = state.reach(*HERE, "f", None).target

    publish(state, clock)
    state.tag_resource(*HERE, {"Resource": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f", "Tags": {"a": "b"}})

    assert state.reach(*HERE, "f", None).target.revision == before.revision


def test_changes_are_told(state: LambdaState, clock: Clock) -> None:
    told: list[tuple[str, str | None]] = []
    state.changed = lambda here, version: told.append((here.name, version))
    create(state, clock)
    publish(state, clock, Timeout=9)

    state.update_function_code(*HERE, {"FunctionName": "f", "ZipFile": package("two"), "DryRun": True})
    state.update_function_code(*HERE, {"FunctionName": "f", "ZipFile": package("two")})
    state.delete_function(*HERE, {"FunctionName": "f", "Qualifier": "1"})
    refusal(lambda: state.delete_function(*HERE, {"FunctionName": "f", "Qualifier": "$LATEST"}))
    state.delete_function(*HERE, {"FunctionName": "f"})

    assert told == [("f", "$LATEST"), ("f", "$LATEST"), ("f", "1"), ("f", None)]


# --- numbers, lists, accounts ---


def test_numbers_go_on_when_a_function_is_made_anew(state: LambdaState, clock: Clock) -> None:
    create(state, clock, Publish=True)
    state.delete_function(*HERE, {"FunctionName": "f"})

    assert create(state, clock, Publish=True)["Version"] == "2"
    assert refusal(lambda: reached(state, "1")).status == 404


@pytest.mark.parametrize("label", ["0", "01", "-1", str((1 << 63) - 1), str(1 << 63), "9" * 100])
def test_digits_that_are_no_number_of_a_version_are_not_found(state: LambdaState, clock: Clock, label: str) -> None:
    create(state, clock, Publish=True)

    assert refusal(lambda: reached(state, label)).status == 404


def test_latest_published_is_not_found_where_it_is_not(state: LambdaState, clock: Clock) -> None:
    """$LATEST.PUBLISHED is a version to AWS's pattern, and never an int."""
    create(state, clock)
    alias = {"FunctionName": "f", "Name": "live", "FunctionVersion": "$LATEST.PUBLISHED"}

    assert refusal(lambda: state.create_alias(*HERE, alias)).status == 404
    assert refusal(lambda: reached(state, "$LATEST.PUBLISHED")).status == 404


def test_versions_come_50_a_page_whatever_is_asked(state: LambdaState, clock: Clock) -> None:
    create(state, clock)
    every = ["$LATEST", *(publish(state, clock, Timeout=number + 3) for number in range(1, 56))]

    first = state.list_versions_by_function(*HERE, {"FunctionName": "f", "MaxItems": 1000})
    second = state.list_versions_by_function(*HERE, {"FunctionName": "f", "Marker": first["NextMarker"]})

    assert [found["Version"] for found in first["Versions"]] == every[:50]
    assert [found["Version"] for found in second["Versions"]] == every[50:]
    assert "NextMarker" not in second


def test_functions_come_50_a_page_with_or_without_their_versions(state: LambdaState, clock: Clock) -> None:
    names = [f"f{number:02}" for number in range(60)]
    for name in names:
        create(state, clock, name, Publish=True)

    def pages(**given: str) -> list[list[str]]:
        found, more = [], dict(given)
        while True:
            page = state.list_functions(*HERE, more)
            found.append([f"{one['FunctionName']}:{one['Version']}" for one in page["Functions"]])
            if "NextMarker" not in page:
                return found
            more = given | {"Marker": page["NextMarker"]}

    plain, every = pages(), pages(FunctionVersion="ALL")

    assert [len(page) for page in plain] == [50, 10]
    assert [len(page) for page in every] == [50, 50, 20]
    assert [*chain(*plain)] == [f"{name}:$LATEST" for name in names]
    assert [*chain(*every)] == [f"{name}:{version}" for name in names for version in ("$LATEST", "1")]


@pytest.mark.parametrize("marker", ["nonsense", "bm9uc2Vuc2U=", "WzFd", "e30="])
def test_a_foreign_marker_is_refused(state: LambdaState, clock: Clock, marker: str) -> None:
    create(state, clock)

    for call in (
        lambda: state.list_functions(*HERE, {"Marker": marker}),
        lambda: state.list_aliases(*HERE, {"FunctionName": "f", "Marker": marker}),
    ):
        assert refusal(call).code == "InvalidParameterValueException"


def test_accounts_and_regions_are_apart(state: LambdaState, clock: Clock) -> None:
    create(state, clock)
    other = ("210987654321", REGION)

    assert state.list_functions(*other, {})["Functions"] == []
    assert state.list_functions(ACCOUNT, "us-east-1", {})["Functions"] == []
    assert state.get_account_settings(*other, {})["AccountUsage"] == {"FunctionCount": 0, "TotalCodeSize": 0}
    missing = refusal(lambda: state.get_function(*other, {"FunctionName": "f"}))
    assert missing.message == f"Function not found: arn:aws:lambda:{REGION}:210987654321:function:f"
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
    assert refusal(lambda: state.get_function(*other, {"FunctionName": arn})).code == "AccessDeniedException"


def test_what_would_be_a_lie_is_refused(state: LambdaState, clock: Clock) -> None:
    """A parameter that is stored and does nothing teaches the wrong thing."""
    create(state, clock)
    given = {"FunctionName": "f", "AcceleratorConfig": {"AcceleratorMemorySize": 16}}

    assert refusal(lambda: state.update_function_configuration(*HERE, given)).status == 501


# --- several threads ---


def test_threads_never_get_the_same_number(state: LambdaState, clock: Clock) -> None:
    """CloudFormation calls from threads of its own."""
    names = [f"f{number}" for number in range(4)]
    for name in names:
        create(state, clock, name)
    numbers: dict[str, list[str]] = {name: [] for name in names}
    refused: list[LambdaError] = []

    def work(name: str, worker: int) -> None:
        for turn in range(10):
            try:
                given = {"FunctionName": name, "ZipFile": package(f"{worker}-{turn}"), "Publish": True}
                numbers[name].append(state.update_function_code(*HERE, given)["Version"])
            except LambdaError as busy:
                refused.append(busy)
            state.list_functions(*HERE, {"FunctionVersion": "ALL"})
            clock.seconds += 1

    threads = [threading.Thread(target=work, args=(name, worker)) for name in names for worker in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {busy.code for busy in refused} <= {"ResourceConflictException"}
    for name in names:
        assert len(numbers[name]) == len(set(numbers[name]))
        listed = state.list_versions_by_function(*HERE, {"FunctionName": name})["Versions"]
        assert [found["Version"] for found in listed[1:]] == sorted(numbers[name], key=int)


# --- AWS's model ---


def test_every_pattern_of_the_model_can_be_checked() -> None:
    patterns = {shape["pattern"] for shape in _model()["shapes"].values() if "pattern" in shape}

    assert len(patterns) > 50
    for pattern in patterns:
        _pattern(pattern)


def test_runtimes_are_known_by_their_model() -> None:
    assert set(CREATABLE) <= set(known_runtimes())
    assert set(known_runtimes()) >= RETIRED
    assert not RETIRED & set(CREATABLE)


def test_replies_are_json(state: LambdaState, clock: Clock) -> None:
    """In-process callers (CloudFormation) get the same dicts as the wire."""
    made = create(state, clock, VpcConfig={"SubnetIds": ["subnet-1"]}, Layers=[], Tags={"a": "b"})
    found = state.get_function(*HERE, {"FunctionName": "f"})

    assert json.loads(json.dumps(made)) == made
    assert json.loads(json.dumps(found)) == found
