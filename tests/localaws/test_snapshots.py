"""Named copies of the whole state: consistent while clients write, and loaded whole or not at all."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws import control, snapshots
from pointsman.localaws.lambda_.packages import Package, Packages
from tests.localaws.conftest import TRUST, client, make_function, package, until


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "aws"
    control.down(tmp_path / "aws")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


BUCKET = {"Bucket": "bucket", "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}


def answers(running: control.Running, name: str) -> Any:
    return json.loads(client(running, "lambda").invoke(FunctionName=name)["Payload"].read())


def test_everything_is_as_it_was(directory: Path, shelf: Path) -> None:
    running = control.up(directory, settle_s=0)
    make_function(running, "f", "def handler(e, c): return 'then'")
    s3 = client(running, "s3")
    s3.create_bucket(**BUCKET)
    s3.put_object(Bucket="bucket", Key="k", Body=b"then")

    made = snapshots.save(directory, shelf, "then")

    client(running, "lambda").update_function_code(FunctionName="f", ZipFile=package("def handler(e, c): return 'now'"))
    make_function(running, "g", "def handler(e, c): return 'new'")
    s3.put_object(Bucket="bucket", Key="k", Body=b"now")
    assert snapshots.saved(shelf) == [made]
    assert made.size > 0

    again = snapshots.load(directory, shelf, "then")

    assert again is not None
    assert (again.port, again.pid != running.pid) == (running.port, True)
    assert answers(again, "f") == "then"
    assert [each["FunctionName"] for each in client(again, "lambda").list_functions()["Functions"]] == ["f"]
    assert client(again, "s3").get_object(Bucket="bucket", Key="k")["Body"].read() == b"then"
    assert client(again, "iam").get_role(RoleName="role")
    client(again, "lambda").publish_version(FunctionName="f")
    control.down(directory)
    assert "Traceback" not in (directory / "server.log").read_text()

    assert snapshots.load(directory, shelf, "then") is None  # what was down stays down
    third = control.up(directory)
    assert len(client(third, "lambda").list_versions_by_function(FunctionName="f")["Versions"]) == 1


def test_a_snapshot_taken_while_clients_write_is_of_one_moment(directory: Path, shelf: Path) -> None:
    """Each client writes its number to S3, then to Lambda, then to SSM: never may the later one be there alone."""
    running = control.up(directory, settle_s=0)
    make_function(running, "f", "def handler(e, c): return 1")
    client(running, "lambda").publish_version(FunctionName="f")
    client(running, "s3").create_bucket(**BUCKET)
    enough = threading.Event()
    wrote = [0, 0, 0]

    def write(who: int) -> None:
        s3, lambda_, ssm = (client(running, name) for name in ("s3", "lambda", "ssm"))
        while not enough.is_set():
            name = f"w{who}-{wrote[who]:05}"
            s3.put_object(Bucket="bucket", Key=name, Body=b"x")
            lambda_.create_alias(FunctionName="f", Name=name, FunctionVersion="1")
            ssm.put_parameter(Name=name, Value="x", Type="String")
            wrote[who] += 1

    writers = [threading.Thread(target=write, args=(who,)) for who in range(len(wrote))]
    for writer in writers:
        writer.start()
    for number in range(2):
        until(lambda goal=5 * (number + 1): sum(wrote) >= goal, "they write")
        snapshots.save(directory, shelf, f"s{number}")
    enough.set()
    for writer in writers:
        writer.join()
    assert all(wrote)

    for number in range(2):
        again = snapshots.load(directory, shelf, f"s{number}")
        assert again is not None
        objects = {each["Key"] for each in client(again, "s3").list_objects_v2(Bucket="bucket")["Contents"]}
        pages = client(again, "lambda").get_paginator("list_aliases").paginate(FunctionName="f")
        aliases = {each["Name"] for page in pages for each in page["Aliases"]}
        pages = client(again, "ssm").get_paginator("describe_parameters").paginate()
        parameters = {each["Name"] for page in pages for each in page["Parameters"]}
        assert objects >= aliases >= parameters
        assert len(objects - parameters) <= len(wrote)
        assert parameters


def test_lambda_answers_while_the_rest_is_copied(directory: Path, shelf: Path) -> None:
    running = control.up(directory, settle_s=0)
    client(running, "iam").create_role(RoleName="role", AssumeRolePolicyDocument=TRUST)  # there is something of moto's
    saving = threading.Thread(target=snapshots.save, args=(directory, shelf, "s"))
    with closing(sqlite3.connect(directory / "moto/large.db", isolation_level=None)) as large:
        large.execute("CREATE TABLE t (c)")
        large.execute("BEGIN EXCLUSIVE")  # cannot be copied now
        saving.start()
        until(lambda: list(shelf.glob(".s.*/moto")), "moto's part is being copied")
        try:
            assert control.ask(running, "GET", "/2015-03-31/functions/", timeout=60)[0] == 200
        finally:
            large.execute("COMMIT")
            saving.join()
    assert [each.name for each in snapshots.saved(shelf)] == ["s"]


def test_code_that_is_just_arriving_is_in_no_copy(tmp_path: Path) -> None:
    """It is no function's yet, and is renamed under whoever copies it."""
    (tmp_path / "state").mkdir()
    packages = Packages(tmp_path / "state/lambda")
    names = [f"{number:064x}" for number in range(40)]

    def arrive() -> None:
        for name in names:
            packages.add(Package(name, 1, 1), bytes(4_000_000))

    arriving = threading.Thread(target=arrive)
    arriving.start()
    copied: set[str] = set()
    copies = 0
    while arriving.is_alive():
        copies += 1
        (copy := tmp_path / f"copy{copies}").mkdir()
        snapshots.copy_state(tmp_path / "state", copy)
        copied |= {path.name for path in (copy / "lambda/code").iterdir()}
    arriving.join()
    packages.close()

    assert copies > 1
    assert copied <= {f"{name}.zip" for name in names}


def test_a_snapshot_does_not_wait_for_a_caller_who_waits_for_it(directory: Path, shelf: Path) -> None:
    """Who is given a key is answered when that is on disk: a save within a request, which a snapshot waits for."""
    running = control.up(directory, settle_s=0)
    client(running, "iam").create_role(RoleName="role", AssumeRolePolicyDocument=TRUST)
    enough = threading.Event()
    given: list[str] = []

    def assume() -> None:
        sts = client(running, "sts")
        while not enough.is_set():
            role = f"arn:aws:iam::{control.ACCOUNT}:role/role"
            given.append(sts.assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]["AccessKeyId"])

    callers = [threading.Thread(target=assume) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for number in range(12):
            before = len(given)
            until(lambda before=before: len(given) > before, "they are given keys")
            snapshots.save(directory, shelf, f"s{number}")
    finally:
        enough.set()
        for caller in callers:
            caller.join()


def test_what_a_snapshot_holds_outlives_what_it_was_made_of(directory: Path, shelf: Path) -> None:
    running = control.up(directory, settle_s=0)
    make_function(running, "f", "def handler(e, c): return 'kept'")
    snapshots.save(directory, shelf, "kept")
    control.reset(directory)
    assert snapshots.load(directory, shelf, "kept") is None
    assert answers(control.up(directory), "f") == "kept"


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "x" * 65, "ä"])
def test_a_name_is_a_name(directory: Path, shelf: Path, name: str) -> None:
    for ask in (
        lambda: snapshots.save(directory, shelf, name),
        lambda: snapshots.load(directory, shelf, name),
        lambda: snapshots.remove(shelf, name),
    ):
        with pytest.raises(control.LocalAwsError, match="cannot be a snapshot's name"):
            ask()


def test_what_is_not_there_or_is_there_already_is_said(directory: Path, shelf: Path) -> None:
    with pytest.raises(control.LocalAwsError, match="nothing to save"):
        snapshots.save(directory, shelf, "s")
    directory.mkdir()
    snapshots.save(directory, shelf, "s")
    with pytest.raises(control.LocalAwsError, match="There is a snapshot s already"):
        snapshots.save(directory, shelf, "s")
    snapshots.remove(shelf, "s")
    for ask in (lambda: snapshots.load(directory, shelf, "s"), lambda: snapshots.remove(shelf, "s")):
        with pytest.raises(control.LocalAwsError, match="no snapshot s"):
            ask()
    assert snapshots.saved(shelf) == []
    assert list(shelf.iterdir()) == []


def test_one_that_this_moto_cannot_read_is_refused_and_nothing_stops(directory: Path, shelf: Path) -> None:
    running = control.up(directory)
    snapshots.save(directory, shelf, "old")
    manifest = shelf / "old" / "snapshot.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(facts | {"made_by": {"moto": "4.0.0", "Python": "3.11"}}))
    with pytest.raises(control.LocalAwsError, match=r"saved with moto 4\.0\.0 and Python 3\.11"):
        snapshots.load(directory, shelf, "old")
    assert control.running(directory) == running


# --- killed at any moment ---


def write_state(directory: Path, word: str, *more: str) -> None:
    """A state that says `word` in every kind of file, and in the ledger beside it."""
    (directory / "lambda" / "code").mkdir(parents=True, exist_ok=True)
    (directory / "moto" / "objects").mkdir(parents=True, exist_ok=True)
    for database in (directory / "lambda" / "lambda.db", directory.parent / "ledger.db"):
        with closing(sqlite3.connect(database)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT '{word}' AS word;")
    (directory / "moto" / "services.pickle").write_text(word)
    (directory / "moto" / "objects" / (word[0] * 64)).write_text(word)
    for name in more:
        (directory / name).mkdir()
        (directory / name / "file").write_text(word)


def read_state(directory: Path) -> set[str]:
    """Every word the state says: one, when it is whole."""
    found = {path.read_text() for path in directory.rglob("*") if path.is_file() and path.parent.name in KINDS}
    for database in (directory / "lambda" / "lambda.db", directory.parent / "ledger.db"):
        with closing(sqlite3.connect(database)) as db:
            found |= {word for (word,) in db.execute("SELECT word FROM t")}
    return found


KINDS = ("moto", "objects", "only-now", "only-then")


def killed_at(step: int, directory: Path, shelf: Path) -> bool:
    """Load in a process of its own that ends, as killed, before its `step`-th change of a file; False: it had fewer."""
    child = os.fork()
    if child == 0:
        left = step

        def end(event: str, _arguments: Any) -> None:
            nonlocal left
            if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree"):
                left -= 1
                if left < 0:
                    os._exit(9)

        sys.addaudithook(end)
        try:
            snapshots.load(directory, shelf, "then")
        except BaseException:  # noqa: BLE001  (this process is pytest's copy)
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def test_a_load_killed_anywhere_leaves_one_state_or_the_other(tmp_path: Path) -> None:
    first = tmp_path / "0" / "aws"
    write_state(first, "then", "only-then")
    shelf = tmp_path / "shelf"
    snapshots.save(first, shelf, "then", beside=["ledger.db"])

    ends: list[str] = []
    for step in range(1000):
        directory = tmp_path / str(step + 1) / "aws"
        directory.mkdir(parents=True)
        write_state(directory, "now", "only-now")
        killed = killed_at(step, directory, shelf)
        snapshots.finish(directory)  # as the server does when it starts
        (end,) = read_state(directory)
        assert (directory / "only-now").exists() is (end == "now")
        assert (directory / "only-then").exists() is (end == "then")
        assert not list(directory.glob("incoming*"))
        ends.append(end)
        if not killed:
            break
    assert "now" in ends
    assert ends == sorted(ends)  # never back to the old state once the new one was chosen
    assert len(ends) > 15
