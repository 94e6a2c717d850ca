"""A restart, a kill in the middle, and the packages on disk."""

from __future__ import annotations

import io
import signal
import sqlite3
import stat
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from pointsman.localaws.lambda_ import LambdaError, LambdaState
from tests.conform.local_lambda import package
from tests.localaws.test_state import HERE, Clock, create, opened, publish, reached


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    first = opened(tmp_path, clock)
    create(first, clock, Tags={"a": "b"})
    publish(first, clock)
    publish(first, clock, Description="two")
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    alias = {"FunctionName": "f", "Name": "live", "FunctionVersion": "1", "RoutingConfig": weights}
    first.create_alias(*HERE, alias)
    first.delete_alias(*HERE, {"FunctionName": "f", "Name": "never"})
    publish(first, clock, Timeout=9)
    first.delete_function(*HERE, {"FunctionName": "f:3"})
    before = (
        first.get_function(*HERE, {"FunctionName": "f"}),
        first.list_versions_by_function(*HERE, {"FunctionName": "f"}),
        first.list_aliases(*HERE, {"FunctionName": "f"}),
        first.get_account_settings(*HERE, {}),
    )
    first.close()

    second = opened(tmp_path, clock)

    assert before == (
        second.get_function(*HERE, {"FunctionName": "f"}),
        second.list_versions_by_function(*HERE, {"FunctionName": "f"}),
        second.list_aliases(*HERE, {"FunctionName": "f"}),
        second.get_account_settings(*HERE, {}),
    )
    assert publish(second, clock) == "4"
    assert reached(second, "live") == ("1", "live")
    second.close()


def test_what_was_being_made_ready_starts_when_called_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    first = opened(tmp_path, clock)
    create(first, clock)
    publish(first, clock)
    first.keep_ready = lambda _here, _due: None  # and never says how that went
    provisioned = {"FunctionName": "f", "Qualifier": "1"}
    first.put_provisioned_concurrency_config(*HERE, provisioned | {"ProvisionedConcurrentExecutions": 2})
    clock.seconds += 60
    before = first.get_provisioned_concurrency_config(*HERE, provisioned)["Status"]
    first.close()

    second = opened(tmp_path, clock)
    after = second.get_provisioned_concurrency_config(*HERE, provisioned)
    second.close()

    assert (before, after["Status"], after["AvailableProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", "READY", 2)


def test_policies_and_concurrency_survive_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    first = opened(tmp_path, clock)
    create(first, clock)
    given = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    first.add_permission(*HERE, {"FunctionName": "f"} | given)
    publish(first, clock)
    first.put_function_concurrency(*HERE, {"FunctionName": "f", "ReservedConcurrentExecutions": 7})
    first.put_provisioned_concurrency_config(
        *HERE, {"FunctionName": "f", "Qualifier": "1", "ProvisionedConcurrentExecutions": 2}
    )
    first.put_function_event_invoke_config(*HERE, {"FunctionName": "f", "MaximumRetryAttempts": 0})
    first.put_function_recursion_config(*HERE, {"FunctionName": "f", "RecursiveLoop": "Allow"})
    before = _everything_else(first)
    first.close()

    second = opened(tmp_path, clock)

    assert _everything_else(second) == before
    second.close()


def _everything_else(state: LambdaState) -> list[object]:
    named = {"FunctionName": "f"}
    return [
        state.get_policy(*HERE, named),
        state.get_function_concurrency(*HERE, named),
        state.list_provisioned_concurrency_configs(*HERE, named),
        state.list_function_event_invoke_configs(*HERE, named),
        state.get_function_recursion_config(*HERE, named),
    ]


def test_a_folder_from_before_resource_policies_is_taken_along(tmp_path: Path) -> None:
    clock = Clock()
    first = opened(tmp_path, clock)
    create(first, clock)
    publish(first, clock)
    first.close()
    _back_to_the_first_schema(tmp_path / "lambda.db")

    second = opened(tmp_path, clock)

    given = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    second.add_permission(*HERE, {"FunctionName": "f:1"} | given)
    assert second.get_policy(*HERE, {"FunctionName": "f:1"})["RevisionId"]
    second.delete_function(*HERE, {"FunctionName": "f:1"})
    with pytest.raises(LambdaError, match="does not exist"):
        second.get_policy(*HERE, {"FunctionName": "f:1"})
    second.close()


def _back_to_the_first_schema(file: Path) -> None:
    """What version 1 of the schema held, and no more: its four tables and their indexes."""
    first = ("function", "numbering", "version", "alias")
    with closing(sqlite3.connect(file)) as db:
        for index in ("function_code_signing", "version_provider", "version_deleting"):
            db.execute(f"DROP INDEX {index}")
        newer = db.execute(
            "SELECT type, name, tbl_name FROM sqlite_master WHERE type IN ('table', 'trigger') ORDER BY type DESC"
        )
        for kind, name, table in newer.fetchall():  # triggers first, or they would go with their tables
            if kind == "trigger" or table not in first:
                db.execute(f"DROP {kind} {name}")
        for column in ("reserved", "recursion", "code_signing"):
            db.execute(f"ALTER TABLE function DROP COLUMN {column}")
        for column in ("failure", "provider"):
            db.execute(f"ALTER TABLE version DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
        db.commit()


PUBLISHER = """
import sys
from pathlib import Path
from tests.conform.local_lambda import package
from tests.localaws.test_state import HERE, Clock, create, opened, publish
clock = Clock()
state = opened(Path(sys.argv[1]), clock)
create(state, clock)
for turn in range(1_000_000):
    state.update_function_code(*HERE, {"FunctionName": "f", "ZipFile": package(str(turn))})
    clock.seconds += 1
    print(publish(state, clock), flush=True)
"""


def test_a_folder_of_a_later_release_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, Clock()).close()
    with closing(sqlite3.connect(tmp_path / "lambda.db")) as database:
        database.execute("PRAGMA user_version = 99")

    with pytest.raises(ValueError, match="later release"):
        opened(tmp_path, Clock())


def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PUBLISHER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        for _ in range(25):
            process.stdout.readline()
        process.kill()
        answered = 25 + len(process.stdout.read().splitlines())
        assert process.wait() == -signal.SIGKILL

    state = opened(tmp_path, clock := Clock(1e10))
    listed, more = [], {"FunctionName": "f"}
    while True:
        page = state.list_versions_by_function(*HERE, more)
        listed += [int(found["Version"]) for found in page["Versions"] if found["Version"] != "$LATEST"]
        if "NextMarker" not in page:
            break
        more = {"FunctionName": "f", "Marker": page["NextMarker"]}

    # One more may have been written whose answer was never read.
    assert listed in ([*range(1, answered + 1)], [*range(1, answered + 2)])
    for number in (listed[0], listed[-1]):
        assert f"'{number - 1}'" in (code_of(state, str(number)) / "index.py").read_text()
    assert publish(state, clock, Timeout=9) == str(listed[-1] + 1)
    state.close()


def code_of(state: LambdaState, qualifier: str | None = None) -> Path:
    """The folder an invocation would run, unpacked."""
    code = state.reach(*HERE, "f", qualifier).target.code
    state.packages.unpack(code)
    return code


def test_code_that_no_version_has_is_gone_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    state = opened(tmp_path, clock)
    create(state, clock, Publish=True)
    reached(state)
    state.update_function_code(*HERE, {"FunctionName": "f", "ZipFile": package("two")})
    clock.seconds += 1
    reached(state)
    state.delete_function(*HERE, {"FunctionName": "f:1"})
    state.close()
    assert len(list((tmp_path / "code").iterdir())) == 2

    state = opened(tmp_path, clock)

    assert len(list((tmp_path / "code").iterdir())) == 1
    assert reached(state)[0] == "$LATEST"
    state.close()


def test_code_is_unpacked_outside_the_project_for_its_owner_alone(tmp_path: Path) -> None:
    """Node looks for modules in every folder above: a dependency missing from the package must be missing."""
    clock = Clock()
    state = opened(tmp_path / "project" / ".pointsman", clock)
    create(state, clock)
    code = code_of(state)

    assert tmp_path not in code.parents
    assert not code.parents[1].parent.stat().st_mode & 0o077
    state.close()
    assert not code.exists()


def test_code_is_kept_while_an_update_still_runs_the_old(tmp_path: Path) -> None:
    clock = Clock()
    state = opened(tmp_path, clock)
    create(state, clock)
    state.update_function_code(*HERE, {"FunctionName": "f", "ZipFile": package("two")})
    state.close()

    state = opened(tmp_path, clock)

    assert "'one'" in (code_of(state) / "index.py").read_text()
    state.close()


def zipped(*entries: tuple[str, int, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, mode, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def test_unpacking_keeps_permissions_and_links_that_stay_inside(tmp_path: Path) -> None:
    """`bootstrap` must stay executable; npm's `.bin` is made of links."""
    clock = Clock()
    state = opened(tmp_path, clock)
    code = zipped(
        ("bootstrap", stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
        ("deep/er/index.py", stat.S_IFREG | 0o600, b"x"),
        ("node_modules/", stat.S_IFDIR | 0o755, b""),
        ("node_modules/.bin/tool", stat.S_IFLNK | 0o777, b"../../bootstrap"),
        ("escape", stat.S_IFLNK | 0o777, b"../../../etc/passwd"),
        ("plain", 0, b"no permissions were written"),
    )
    create(state, clock, Code={"ZipFile": code})

    folder = code_of(state)

    assert (folder / "bootstrap").stat().st_mode & 0o111 == 0o111
    assert (folder / "deep/er/index.py").read_bytes() == b"x"
    assert (folder / "node_modules/.bin/tool").read_bytes() == b"#!/bin/sh\n"
    assert (folder / "plain").read_bytes() == b"no permissions were written"
    assert not (folder / "escape").is_symlink()
    assert code_of(state) == folder
    state.close()


def test_no_link_is_made_outside_by_way_of_another(tmp_path: Path) -> None:
    """Each stays inside by its name; `deep/up` makes `out` lead to another package, where `planted` would be."""
    clock = Clock()
    state = opened(tmp_path, clock)
    code = zipped(
        ("index.py", stat.S_IFREG | 0o644, b"x"),
        ("deep/up", stat.S_IFLNK | 0o777, b".."),
        ("deep/up/out", stat.S_IFLNK | 0o777, b"../beside"),
        ("deep/up/deep/up/in", stat.S_IFLNK | 0o777, b"index.py"),
        ("out/planted", stat.S_IFLNK | 0o777, b"../index.py"),
    )
    create(state, clock, Code={"ZipFile": code})
    (beside := state.packages.folder("beside")).mkdir()

    folder = code_of(state)

    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink()) == [
        "deep/up", "in", "out/planted"
    ]  # fmt: skip
    assert list(beside.iterdir()) == []
    state.close()


def test_what_cannot_be_unpacked_leaves_nothing(tmp_path: Path) -> None:
    clock = Clock()
    state = opened(tmp_path, clock)
    create(state, clock, Code={"ZipFile": zipped(("link", stat.S_IFLNK | 0o777, b"\xff"))})

    with pytest.raises(UnicodeDecodeError):
        code_of(state)

    assert list(state.packages.folder("").iterdir()) == []
    state.close()


@pytest.mark.parametrize("name", ["../outside", "/absolute", "a/../../outside"])
def test_a_zip_that_reaches_outside_is_refused(tmp_path: Path, name: str) -> None:
    clock = Clock()
    state = opened(tmp_path / "state", clock)

    with pytest.raises(LambdaError, match="Could not unzip uploaded file"):
        create(state, clock, Code={"ZipFile": zipped((name, 0o644, b"x"))})

    assert not (tmp_path / "outside").exists()
    assert list((tmp_path / "state/code").iterdir()) == []
    state.close()


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    clock = Clock()
    state = opened(tmp_path, clock)

    with pytest.raises(LambdaError, match="non-empty zip"):
        create(state, clock, Code={"ZipFile": zipped()})
    state.close()
