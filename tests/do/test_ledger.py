"""The ledger: what it remembers, and what becomes of it when the machine fails. A file and a team's table alike."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pointsman.errors import BuildIdTaken, LedgerCorrupt, LedgerError
from pointsman.ledger import Lease, Ledger, Recorder, Run
from pointsman.ledger.team import create
from pointsman.localaws import control
from pointsman.model import AliasName, Bits, BuildId, CodeSha256, FunctionArn, FunctionName, Move, Version
from tests.do.places import File, Machines
from tests.fakes import FakeClock

ARN = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("greeting"))
ONE, TWO = CodeSha256("A" * 43 + "="), CodeSha256("B" * 43 + "=")
PROD = AliasName("PROD")


Place = File | Machines


@pytest.fixture
def table(local_aws: control.Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    """An empty ledger in the table."""
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in control.environment(local_aws).items():
        monkeypatch.setenv(name, value)
    made = Machines(tmp_path, uuid.uuid4().hex)
    create(made.table(), FakeClock())
    return made


@pytest.fixture(params=["file", "table"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    found: Place = File(tmp_path) if request.param == "file" else request.getfixturevalue("table")
    return found


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    made = place.opened()
    yield made
    made.close()


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


def test_moves_and_outcomes_survive_a_restart(place: Place) -> None:
    first = place.opened()
    first.start(run("r1"))
    move = Move(
        alias=PROD, version=Version("2"), was=Version("1"), kind="promote", at=5.0, by="me", build=BuildId("102")
    )
    first.moved("r1", ARN, move)
    first.end("r1", "done")
    first.start(run("r2"))
    first.close()

    again = place.opened()
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
        File(path.parent).opened()
    assert "history --rebuild" in refused.value.next
    assert path.read_bytes().startswith(b"not a database")


def test_a_damaged_page_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    whole = File(path.parent).opened()
    for number in range(400):
        whole.append("r", "built", function=str(ARN), subject=f"b{number}", sha256=ONE, filler="x" * 200)
    whole.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 12] = os.urandom(4096 * 9)
    path.write_bytes(bytes(content))

    with pytest.raises(LedgerCorrupt):
        File(path.parent).opened().builds(ARN)


def test_a_newer_format_is_refused_rather_than_misread(tmp_path: Path) -> None:
    File(tmp_path).opened().close()
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("PRAGMA user_version=99")

    with pytest.raises(LedgerError, match="newer Pointsman"):
        File(tmp_path).opened()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(LedgerError, match="cannot create"):
        File(tmp_path / "file").opened()


FULL_DISK = """
    import resource, signal
    from pointsman.errors import LedgerError
    from tests.do.places import from_variables
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ledger = from_variables()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    written = 0
    try:
        while written < 1000:
            ledger.append("r", "built", filler="x" * 2000)
            written += 1
    except LedgerError as error:
        print(written, type(error).__name__, error.next)
"""


def process(program: str, place: Place) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **place.variables()},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_is_a_clear_error_and_loses_nothing_written_before(place: Place) -> None:
    """The file may not grow past 200 kB: what SQLite meets then is what it meets on a full disk."""
    said, _ = process(FULL_DISK, place).communicate()

    written, kind, *more = said.split(maxsplit=2)
    assert kind == "LedgerError"
    assert "Free space" in more[0]
    # In the table is also what only the mirror had no room for.
    assert len(place.opened().entries()) - int(written) in ((0,) if isinstance(place, File) else (0, 1))
    assert int(written) > 3


WRITER = """
    from tests.do.places import from_variables
    ledger = from_variables()
    number = 0
    while True:
        print(ledger.append("r", "built", number=number), flush=True)
        number += 1
"""


def test_what_was_written_is_there_after_kill_9(place: Place) -> None:
    writer = process(WRITER, place)
    assert writer.stdout is not None
    for _ in range(20):
        said = writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    last = [*said.split(), *writer.stdout.read().split()][-1]
    writer.wait()

    assert len(place.opened().entries()) >= int(last) >= 20


def test_eight_writers_at_once_lose_nothing(place: Place) -> None:
    place.opened().close()

    each = 25 if isinstance(place, File) else 8  # over the wire all of them lose most races

    def write(writer: int) -> None:
        mine = place.opened()
        for number in range(each):
            mine.append(f"r{writer}", "built", number=number)
        mine.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))

    entries = place.opened().entries()
    assert len(entries) == 8 * each
    assert len({entry.seq for entry in entries}) == 8 * each


def test_two_claims_to_one_build_id_at_once_have_one_winner(place: Place) -> None:
    place.opened().close()

    def claim(sha256: CodeSha256, build: str) -> bool:
        mine = place.opened()
        try:
            mine.built("r", ARN, BuildId(build), sha256)
        except BuildIdTaken:
            return False
        finally:
            mine.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        for number in range(10):
            assert sum(pool.map(claim, (ONE, TWO), [f"b{number}"] * 2)) == 1


# Leases


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


def test_a_lease_is_held_by_one_and_renewed_by_the_same(place: Place) -> None:
    now = Hand()
    here, there = place.opened(now=now), place.opened(now=now)

    taken = here.lease("rollout PROD", "me", 60)
    assert taken == Lease(name="rollout PROD", holder="me", expires=now() + 60, token=1)
    assert there.lease("rollout PROD", "you", 60) is None
    assert there.lease("rollout STAGE", "you", 60) is not None
    assert there.holder("rollout PROD") == taken

    now.time += 59
    renewed = here.lease("rollout PROD", "me", 60)
    assert renewed == Lease(name="rollout PROD", holder="me", expires=now() + 60, token=1)
    assert there.lease("rollout PROD", "you", 60) is None
    assert [each.name for each in there.leases()] == ["rollout PROD", "rollout STAGE"]


def test_an_expired_lease_is_taken_over_under_a_larger_token(place: Place) -> None:
    """Who slept too long is told so by the number, and by not getting the lease back."""
    now = Hand()
    here, there = place.opened(now=now), place.opened(now=now)
    mine = here.lease("x", "me", 60)
    assert mine is not None
    now.time += 60
    assert here.holder("x") is None

    theirs = there.lease("x", "you", 60)
    assert theirs is not None
    assert theirs.token > mine.token
    assert here.lease("x", "me", 60) is None

    here.release(mine)
    assert here.holder("x") == theirs


def test_a_released_lease_is_free_and_its_token_is_not_given_again(place: Place) -> None:
    now = Hand()
    ledger = place.opened(now=now)
    first = ledger.lease("x", "me", 60)
    assert first is not None
    ledger.release(first)
    assert ledger.holder("x") is None
    assert ledger.leases() == ()

    second = ledger.lease("x", "me", 60)
    assert second is not None
    assert second.token == first.token + 1


def test_a_holder_that_expired_and_was_not_overtaken_goes_on(place: Place) -> None:
    now = Hand()
    ledger = place.opened(now=now)
    first = ledger.lease("x", "me", 60)
    now.time += 3600

    again = place.opened(now=now).lease("x", "me", 60)
    assert first is not None
    assert again is not None
    assert (again.token, again.expires) == (first.token, now() + 60)


def test_of_eight_that_want_a_lease_at_once_one_gets_it(place: Place) -> None:
    now = Hand()
    ledgers = [place.opened(now=now) for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: ledgers[n].lease("x", f"p{n}", 60), range(8)))

    (won,) = [each for each in got if each]
    assert ledgers[0].holder("x") == won


def test_a_file_that_knows_no_leases_yet_learns_them(tmp_path: Path) -> None:
    place = File(tmp_path)
    before = place.opened()
    before.append("r", "built", subject="101")
    before.close()
    with sqlite3.connect(place.path) as db:
        db.execute("DROP TABLE leases")
        db.execute("PRAGMA user_version=1")

    after = place.opened()
    assert after.lease("x", "me", 60) is not None
    assert [each.subject for each in after.entries()] == ["101"]


# Copying


def test_entries_of_another_ledger_keep_all_but_their_numbers(place: Place, tmp_path: Path) -> None:
    source = File(tmp_path / "source").opened()
    source.append("r0", "run")
    intent = Recorder(source, "r1", "greeting").intended("lambda:UpdateAlias", "alias PROD")
    Recorder(source, "r1", "greeting").settled(intent, "done")
    source.end("r1", "done")
    target = place.opened()
    target.append("earlier", "ended")

    assert target.add(reversed(source.entries())) == 4

    assert [(e.at, e.run, e.kind) for e in target.entries()[:4]] == [(e.at, e.run, e.kind) for e in source.entries()]
    call, settled = target.of_run("r1", "call", "settled")
    assert settled.body["intent"] == call.seq == 3
