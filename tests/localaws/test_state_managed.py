"""The rules of managed instances that need a clock, a restart, a failure or 100 versions. The rest: tests/conform."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws.lambda_ import LambdaState
from pointsman.localaws.lambda_.managed import MOST_VERSIONS
from pointsman.localaws.lambda_.store import Failure, Fate
from tests.conform.local_lambda import ACCOUNT, REGION, package
from tests.localaws.test_state import HERE, Clock, clock, create, reached, refusal

__all__ = ["clock"]  # a fixture

LATEST_PUBLISHED = "$LATEST.PUBLISHED"
PROVIDER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:capacity-provider:p"


def opened(directory: Path, clock: Clock) -> LambdaState:
    return LambdaState(directory, now=clock, settle_s=1.0, runtimes=lambda: ("python3.13",))


@pytest.fixture
def state(tmp_path: Path, clock: Clock) -> Any:
    state = opened(tmp_path, clock)
    role = f"arn:aws:iam::{ACCOUNT}:role/operator"
    given = {
        "CapacityProviderName": "p",
        "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": []},
        "PermissionsConfig": {"CapacityProviderOperatorRoleArn": role},
    }
    state.create_capacity_provider(*HERE, given)
    clock.seconds += 1
    yield state
    state.close()


def managed(state: LambdaState, clock: Clock, **given: Any) -> None:
    on = {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": PROVIDER}}
    create(state, clock, Runtime="python3.13", CapacityProviderConfig=on, **given)


def publish(state: LambdaState, clock: Clock, **change: Any) -> None:
    if change:
        state.update_function_configuration(*HERE, {"FunctionName": "f"} | change)
        clock.seconds += 1
    state.publish_version(*HERE, {"FunctionName": "f", "PublishTo": "LATEST_PUBLISHED"})


def states(state: LambdaState, version: str = LATEST_PUBLISHED) -> tuple[Any, Any]:
    found = state.get_function_configuration(*HERE, {"FunctionName": "f", "Qualifier": version})
    return found["State"], found.get("LastUpdateStatus")


def test_deleting_goes_on_after_a_restart(state: LambdaState, clock: Clock, tmp_path: Path) -> None:
    managed(state, clock, Publish=True)
    provider = {"CapacityProviderName": "p"}
    state.delete_function(*HERE, {"FunctionName": "f"})
    assert refusal(lambda: state.delete_capacity_provider(*HERE, provider)).code == "ResourceConflictException"
    state.close()

    again = opened(tmp_path, clock)
    assert states(again, "1") == ("Deleting", "InProgress")
    clock.seconds += 0.999
    assert again.get_account_settings(*HERE, {})["AccountUsage"] == {
        "FunctionCount": 1,
        "TotalCodeSize": 2 * len(package()),
    }
    clock.seconds += 0.001
    assert again.list_functions(*HERE, {})["Functions"] == []
    assert again.get_account_settings(*HERE, {})["AccountUsage"] == {"FunctionCount": 0, "TotalCodeSize": 0}
    assert again.delete_capacity_provider(*HERE, provider)["CapacityProvider"]["State"] == "Deleting"
    clock.seconds += 1
    assert refusal(lambda: managed(again, clock)).message == f"Capacity provider not found: {PROVIDER}"
    again.close()


def test_what_cannot_be_published_again_leaves_what_was_there(state: LambdaState, clock: Clock) -> None:
    managed(state, clock)
    publish(state, clock)
    clock.seconds += 1
    first = state.reach(*HERE, "f", None).target.revision
    state.fate = lambda operation, seconds: Fate(
        seconds, Failure("InternalError", "no") if operation == "PublishVersion" else None
    )

    publish(state, clock, Description="two")
    clock.seconds += 1

    assert states(state) == ("Active", "Failed")
    assert state.reach(*HERE, "f", None).target.revision == first
    # Nobody could start it, so that it is tried again though nothing changed.
    state.fate = lambda _operation, seconds: Fate(seconds)
    publish(state, clock)
    assert states(state) == ("Active", "InProgress")
    clock.seconds += 1
    assert state.reach(*HERE, "f", None).target.revision != first


def test_one_that_never_started_is_created_again(state: LambdaState, clock: Clock) -> None:
    managed(state, clock)
    state.fate = lambda _operation, seconds: Fate(seconds, Failure("InternalError", "no"))
    publish(state, clock)
    clock.seconds += 1
    assert states(state)[0] == "Failed"
    assert "Failed" in (refusal(lambda: state.reach(*HERE, "f", None)).message or "")

    state.fate = lambda _operation, seconds: Fate(seconds)
    publish(state, clock)

    assert states(state) == ("Pending", None)
    clock.seconds += 1
    assert reached(state) == (LATEST_PUBLISHED, LATEST_PUBLISHED)


def test_released_deletion_ends_at_once(state: LambdaState, clock: Clock) -> None:
    managed(state, clock)
    state.fate = lambda _operation, _seconds: Fate(math.inf)
    state.delete_function(*HERE, {"FunctionName": "f"})
    clock.seconds += 1e6
    assert states(state, "$LATEST")[0] == "Deleting"

    assert state.release() == 1

    assert refusal(lambda: states(state, "$LATEST")).status == 404


def test_a_provider_has_room_for_so_many_versions(state: LambdaState, clock: Clock) -> None:
    managed(state, clock)
    for number in range(MOST_VERSIONS):
        state.update_function_configuration(*HERE, {"FunctionName": "f", "Description": f"{number}"})
        clock.seconds += 1
        state.publish_version(*HERE, {"FunctionName": "f"})

    refused = refusal(lambda: publish(state, clock))
    assert (refused.code, refused.status) == ("FunctionVersionsPerCapacityProviderLimitExceededException", 400)
    assert (
        refusal(lambda: state.get_function(*HERE, {"FunctionName": "f", "Qualifier": LATEST_PUBLISHED})).status == 404
    )

    state.delete_function(*HERE, {"FunctionName": "f:1"})
    clock.seconds += 1
    publish(state, clock)
    # What is there is published again, however full it is.
    clock.seconds += 1
    publish(state, clock, Description="once more")
    assert states(state) == ("Active", "InProgress")
