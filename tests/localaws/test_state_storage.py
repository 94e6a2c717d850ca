"""How much code an account stores, and how much it may."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws.lambda_ import LambdaError, LambdaState
from tests.conform.local_lambda import package
from tests.localaws.test_state import HERE, Clock, clock, create, opened, publish, state
from tests.localaws.test_state_durable import _back_to_the_first_schema

__all__ = ["clock", "state"]

SIZE = len(package())
FULL = ("CodeStorageExceededException", 400, "Code storage limit exceeded.")


def stored(state: LambdaState, region: str = HERE[1]) -> int:
    usage = state.get_account_settings(HERE[0], region, {})["AccountUsage"]
    return int(usage["TotalCodeSize"])


def layer(state: LambdaState, name: str = "l") -> dict[str, Any]:
    given = {"LayerName": name, "Content": {"ZipFile": package()}}
    published: dict[str, Any] = state.publish_layer_version(*HERE, given)
    return published


def refused(call: Callable[[], object]) -> tuple[str, int, str | None]:
    with pytest.raises(LambdaError) as raised:
        call()
    return raised.value.code, raised.value.status, raised.value.message


def test_everything_that_is_stored_counts_until_it_is_deleted(state: LambdaState, clock: Clock) -> None:
    big = package(filler="x" * 1000)

    create(state, clock)
    assert stored(state) == SIZE
    publish(state, clock)
    publish(state, clock)  # nothing changed: no new version
    assert stored(state) == 2 * SIZE
    publish(state, clock, Timeout=9)
    create(state, clock, "g", Publish=True)
    assert stored(state) == 5 * SIZE
    state.update_function_code(*HERE, {"FunctionName": "f", "ZipFile": big})
    clock.seconds += 1
    assert stored(state) == 4 * SIZE + len(big)
    layer(state)
    layer(state)
    assert stored(state) == 6 * SIZE + len(big)

    for _ in range(2):
        state.delete_layer_version(*HERE, {"LayerName": "l", "VersionNumber": 1})
        state.delete_function(*HERE, {"FunctionName": "f:2"})
        assert stored(state) == 4 * SIZE + len(big)
    state.delete_function(*HERE, {"FunctionName": "f"})
    assert stored(state) == 3 * SIZE
    state.delete_function(*HERE, {"FunctionName": "g"})
    state.delete_layer_version(*HERE, {"LayerName": "l", "VersionNumber": 2})
    assert (stored(state), stored(state, "us-east-1")) == (0, 0)


def test_a_full_account_stores_no_more(state: LambdaState, clock: Clock) -> None:
    create(state, clock)
    state.set_code_quota(*HERE, 2 * SIZE)
    usual = {"Role": f"arn:aws:iam::{HERE[0]}:role/r", "Runtime": "python3.11", "Handler": "index.handler"}
    code = {"ZipFile": package(filler="x" * 10)}

    assert state.get_account_settings(*HERE, {})["AccountLimit"]["TotalCodeSize"] == 2 * SIZE
    publish(state, clock)
    calls: list[Callable[[], object]] = [
        lambda: state.create_function(*HERE, {"FunctionName": "g", "Code": {"ZipFile": package()}} | usual),
        lambda: state.update_function_code(*HERE, {"FunctionName": "f", "Publish": True} | code),
        lambda: publish(state, clock, Timeout=9),
        lambda: layer(state),
    ]
    for call in calls:
        before = state.list_functions(*HERE, {"FunctionVersion": "ALL"})
        assert refused(call) == FULL
        if call is not calls[2]:
            assert state.list_functions(*HERE, {"FunctionVersion": "ALL"}) == before
    assert state.list_layers(*HERE, {}) == {"Layers": []}
    assert stored(state) == 2 * SIZE

    # Room is made by deleting, by a higher quota, or elsewhere.
    state.update_function_configuration(*HERE, {"FunctionName": "f", "Description": "no code comes with this"})
    clock.seconds += 1
    state.delete_function(*HERE, {"FunctionName": "f:1"})
    assert publish(state, clock) == "2"
    state.set_code_quota(*HERE, SIZE)
    state.delete_function(*HERE, {"FunctionName": "f:2"})
    state.set_code_quota(*HERE, None)
    assert layer(state)["Version"] == 1
    state.publish_layer_version(HERE[0], "us-east-1", {"LayerName": "l", "Content": code})


def test_the_quota_of_a_state_is_its_makers(tmp_path: Path, clock: Clock) -> None:
    state = LambdaState(tmp_path, now=clock, settle_s=1.0, runtimes=lambda: ("python3.11",), code_quota=SIZE - 1)

    assert refused(lambda: create(state, clock)) == FULL
    state.close()


def test_the_sum_and_the_quota_survive_a_restart(tmp_path: Path, clock: Clock) -> None:
    first = opened(tmp_path, clock)
    create(first, clock)
    layer(first)
    first.set_code_quota(*HERE, 123_456)
    before = first.get_account_settings(*HERE, {})
    first.close()

    second = opened(tmp_path, clock)
    assert second.get_account_settings(*HERE, {}) == before
    assert before["AccountLimit"]["TotalCodeSize"] == 123_456
    second.close()


def test_a_folder_from_before_is_summed_up(tmp_path: Path, clock: Clock) -> None:
    first = opened(tmp_path, clock)
    create(first, clock)
    publish(first, clock)
    first.close()
    _back_to_the_first_schema(tmp_path / "lambda.db")

    second = opened(tmp_path, clock)
    assert stored(second) == 2 * SIZE
    second.close()


def test_publishing_does_not_sum_up_what_is_there(tmp_path: Path, clock: Clock) -> None:
    """The number of rows SQLite visits stays the same, however many versions there are."""
    state = opened(tmp_path, clock)
    create(state, clock)

    def steps(description: str) -> int:
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return 0

        state._db.set_progress_handler(tick, 10)
        publish(state, clock, Description=description)
        state._db.set_progress_handler(None, 0)
        return count

    few = [steps(f"{turn}") for turn in range(10)][-1]
    many = [steps(f"{turn}") for turn in range(10, 300)][-1]
    state.close()

    assert many <= few * 1.2


def test_a_deleted_layer_stays_on_disk_while_a_function_has_it(tmp_path: Path, clock: Clock) -> None:
    first = opened(tmp_path, clock)
    kept, gone = layer(first, "kept"), layer(first, "gone")
    create(first, clock, Layers=[kept["LayerVersionArn"]])
    publish(first, clock)
    publish(first, clock, Layers=[])
    for name in ("kept", "gone"):
        first.delete_layer_version(*HERE, {"LayerName": name, "VersionNumber": 1})
    first.close()
    assert gone["Version"] == 1

    second = opened(tmp_path, clock)
    opt = second.reach(*HERE, "f", "1").target.opt
    assert opt is not None
    second.packages.unpack(opt)
    assert (opt / "index.py").exists()
    assert second.reach(*HERE, "f", "2").target.opt is None
    assert layer(second, "gone")["Version"] == 2
    second.delete_function(*HERE, {"FunctionName": "f"})
    second.close()

    opened(tmp_path, clock).close()
    with closing(sqlite3.connect(tmp_path / "lambda.db")) as db:
        assert db.execute("SELECT name, number FROM layer_version JOIN layer ON id = layer").fetchall() == [("gone", 2)]


def test_later_layers_lie_over_earlier_ones(state: LambdaState, clock: Clock) -> None:
    def published(name: str, **files: str) -> str:
        given = {"LayerName": name, "Content": {"ZipFile": package(**files)}}
        return str(state.publish_layer_version(*HERE, given)["LayerVersionArn"])

    under = published("a", **{"only": "a", "both": "a", "folder/x": "a", "file": "a", "deep/file": "a"})
    over = published("b", **{"both": "b", "folder/y": "b", "file/inside": "b", "deep": "b"})
    create(state, clock, "f", Layers=[under, over])
    create(state, clock, "g", Layers=[over, under])

    def files(name: str) -> dict[str, str]:
        opt = state.reach(*HERE, name, None).target.opt
        assert opt is not None
        state.packages.unpack(opt)
        found = {str(path.relative_to(opt)): path.read_text() for path in opt.rglob("*") if path.is_file()}
        del found["index.py"]
        return found

    assert files("f") == {"only": "a", "both": "b", "folder/x": "a", "folder/y": "b", "file/inside": "b", "deep": "b"}
    assert files("g") == {"only": "a", "both": "a", "folder/x": "a", "folder/y": "b", "file": "a", "deep/file": "a"}


def test_another_account_has_a_layer_if_its_policy_says_so(state: LambdaState) -> None:
    arn = layer(state)["LayerVersionArn"]
    theirs = ("210987654321", HERE[1])
    given = {"LayerName": "l", "VersionNumber": 1, "Action": "lambda:GetLayerVersion"}

    def got() -> object:
        return state.get_layer_version_by_arn(*theirs, {"Arn": arn})["Version"]

    assert refused(got)[:2] == ("AccessDeniedException", 403)
    organization = {"StatementId": "o", "Principal": "*", "OrganizationId": "o-0123456789"}
    said = state.add_layer_version_permission(*HERE, given | organization)["Statement"]
    assert said.endswith('"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-0123456789"}}}')
    assert refused(got)[:2] == ("AccessDeniedException", 403)
    state.add_layer_version_permission(*HERE, given | {"StatementId": "a", "Principal": theirs[0]})
    assert got() == 1
    function = {"FunctionName": "f", "Role": f"arn:aws:iam::{theirs[0]}:role/r", "Layers": [arn]}
    function |= {"Runtime": "python3.11", "Handler": "index.handler", "Code": {"ZipFile": package()}}
    assert state.create_function(*theirs, function)["Layers"] == [{"Arn": arn, "CodeSize": SIZE}]
    for call in (
        lambda: state.delete_layer_version(*theirs, {"LayerName": arn.removesuffix(":1"), "VersionNumber": 1}),
        lambda: state.list_layer_versions(*theirs, {"LayerName": arn.removesuffix(":1")}),
    ):
        assert refused(call)[:2] == ("AccessDeniedException", 403)
