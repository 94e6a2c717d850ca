"""The ledger: what it remembers, and what becomes of it when the machine fails."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pointsman.errors import BuildIdTaken, LedgerCorrupt, LedgerError
from pointsman.ledger import Ledger, Recorder, Run
from pointsman.model import AliasName, Bits, BuildId, CodeSha256, FunctionArn, FunctionName, Move, Version

ARN = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("greeting"))
ONE, TWO = CodeSha256("A" * 43 + "="), CodeSha256("B" * 43 + "=")
PROD = AliasName("PROD")


def opened(path: Path) -> Ledger:
    ticks = itertools.count(1_700_000_000)
    return Ledger(path, now=lambda: float(next(ticks)))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return opened(tmp_path / "ledger.db")


def run(name: str, **more: object) -> Run:
    facts: dict[str, object] = {
        "id": name,
        "command": "deploy",
        "function": "greeting",
        "alias": "STAGE",
        "environment": "staging",
        "request": {},
    }
    return Run(**{**facts, "by": "me", "at": 1.0, "host": "h", "pid": 1, **more})  # type: ignore[arg-type]


def test_many_builds_are_one_version(ledger: Ledger) -> None:
    """Lambda publishes identical bits once, under the first description: only the ledger finds the later build ids."""
    bits = Bits(sha256=ONE, fingerprint="f")
    ledger.published("r1", ARN, Version("1"), bits, BuildId("101"))
    ledger.built("r2", ARN, BuildId("102"), ONE, version=Version("1"))

    for name in ("101", "102"):
        found = ledger.build(ARN, name)
        assert found is not None
        assert (found.version, found.sha256) == ("1", ONE)
    assert ledger.version_of(ARN, bits) == "1"
    assert list(ledger.builds(ARN)) == ["102", "101"]


def test_a_build_id_names_one_set_of_bits_for_good(ledger: Ledger) -> None:
    ledger.built("r1", ARN, BuildId("101"), ONE, version=Version("1"))

    ledger.built("r2", ARN, BuildId("101"), ONE, version=Version("1"))
    with pytest.raises(BuildIdTaken, match="build 101 is other code already"):
        ledger.built("r3", ARN, BuildId("101"), TWO)


def test_a_version_number_is_not_a_build_id(ledger: Ledger) -> None:
    """Build 4 may be version 3: asking for build 3 must not answer with what happens to be version 3."""
    ledger.published("r1", ARN, Version("3"), Bits(sha256=ONE, fingerprint="f"), BuildId("4"))
    assert ledger.build(ARN, "3") is None

    ledger.published("r2", ARN, Version("2"), Bits(sha256=TWO, fingerprint="f"), BuildId("3"))
    found = ledger.build(ARN, "3")
    assert found is not None
    assert found.version == "2"


def test_functions_of_different_accounts_do_not_share_builds(ledger: Ledger) -> None:
    other = FunctionArn(account="999999999999", region="eu-west-1", name=ARN.name)
    ledger.built("r1", ARN, BuildId("101"), ONE, version=Version("1"))

    assert ledger.build(other, "101") is None


def test_moves_and_outcomes_survive_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path / "ledger.db")
    first.start(run("r1"))
    move = Move(
        alias=PROD, version=Version("2"), was=Version("1"), kind="promote", at=5.0, by="me", build=BuildId("102")
    )
    first.moved("r1", ARN, move)
    first.end("r1", "done")
    first.start(run("r2"))
    first.close()

    again = opened(tmp_path / "ledger.db")
    assert again.moves(ARN, "PROD") == (move,)
    assert again.moves(ARN, "STAGE") == ()
    assert [(each.id, each.outcome) for each in again.runs()] == [("r2", ""), ("r1", "done")]


def test_every_mutating_call_leaves_its_intent_and_its_outcome(ledger: Ledger) -> None:
    recorder = Recorder(ledger, "r1", "greeting")
    intent = recorder.intended("lambda:UpdateAlias", "alias PROD of greeting")
    recorder.settled(intent, "ambiguous")

    call, settled = ledger.of_run("r1", "call", "settled")
    assert call.body["action"] == "lambda:UpdateAlias"
    assert settled.body == {"intent": call.seq, "outcome": "ambiguous"}


def test_what_is_not_a_ledger_is_refused_by_name_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 40)

    with pytest.raises(LedgerCorrupt, match=r"ledger\.db is damaged or not a ledger") as refused:
        opened(path)
    assert "history --rebuild" in refused.value.next
    assert path.read_bytes().startswith(b"not a database")


def test_a_damaged_page_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    whole = opened(path)
    for number in range(400):
        whole.append("r", "built", function=str(ARN), subject=f"b{number}", sha256=ONE, filler="x" * 200)
    whole.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 12] = os.urandom(4096 * 9)
    path.write_bytes(bytes(content))

    with pytest.raises(LedgerCorrupt):
        opened(path).builds(ARN)


def test_a_newer_format_is_refused_rather_than_misread(tmp_path: Path) -> None:
    opened(tmp_path / "ledger.db").close()
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("PRAGMA user_version=99")

    with pytest.raises(LedgerError, match="newer Pointsman"):
        opened(tmp_path / "ledger.db")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(LedgerError, match="cannot create"):
        opened(tmp_path / "file" / "ledger.db")


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from pointsman.errors import LedgerError
    from pointsman.ledger import Ledger
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ledger = Ledger(Path(sys.argv[1]), now=lambda: 1.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    written = 0
    try:
        while written < 1000:
            ledger.append("r", "built", filler="x" * 2000)
            written += 1
    except LedgerError as error:
        print(written, type(error).__name__, error.next)
"""


def test_a_full_disk_is_a_clear_error_and_loses_nothing_written_before(tmp_path: Path) -> None:
    """The file may not grow past 200 kB: what SQLite meets then is what it meets on a full disk."""
    path = tmp_path / "ledger.db"

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(path)], capture_output=True, text=True, check=True
    )

    written, kind, *said = done.stdout.split(maxsplit=2)
    assert kind == "LedgerError"
    assert "Free space" in said[0]
    assert len(opened(path).entries()) == int(written) > 3


WRITER = """
    import sys
    from pathlib import Path
    from pointsman.ledger import Ledger
    ledger = Ledger(Path(sys.argv[1]), now=lambda: 1.0)
    number = 0
    while True:
        print(ledger.append("r", "built", number=number), flush=True)
        number += 1
"""


def test_what_was_written_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for _ in range(20):
        said = writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    last = [*said.split(), *writer.stdout.read().split()][-1]
    writer.wait()

    assert len(opened(path).entries()) >= int(last)


def test_eight_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    opened(path).close()

    def write(writer: int) -> None:
        mine = opened(path)
        for number in range(25):
            mine.append(f"r{writer}", "built", number=number)
        mine.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))

    entries = opened(path).entries()
    assert len(entries) == 200
    assert len({entry.seq for entry in entries}) == 200


def test_two_claims_to_one_build_id_at_once_have_one_winner(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    opened(path).close()

    def claim(sha256: CodeSha256) -> bool:
        mine = opened(path)
        try:
            mine.built("r", ARN, BuildId("101"), sha256)
        except BuildIdTaken:
            return False
        finally:
            mine.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            assert sum(pool.map(claim, (ONE, TWO))) == 1
            path.unlink()
            opened(path).close()
