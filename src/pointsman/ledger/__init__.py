"""The ledger: an append-only history of what Lambda forgets. Intent before, outcome after.

One table of entries. What is live, which build is which version, what is half-done: all read off the entries. Here it
is a file in SQLite: every entry is durable (WAL, synchronous=FULL) before the call it announces is made, and several
processes may write at once. `team` keeps the same entries in DynamoDB, and reads them by the same SQL from a mirror.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from pointsman.errors import BuildIdTaken, LedgerCorrupt, LedgerError
from pointsman.model import (
    AliasName,
    Bits,
    Build,
    BuildId,
    CodeSha256,
    FunctionArn,
    Move,
    Value,
    Version,
    from_json,
    to_json,
)

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    at       REAL NOT NULL,
    run      TEXT NOT NULL,
    kind     TEXT NOT NULL,
    function TEXT NOT NULL,
    subject  TEXT NOT NULL,
    body     TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS by_subject ON entries (kind, function, subject, seq);
CREATE INDEX IF NOT EXISTS by_run ON entries (run, kind, seq);
CREATE TABLE IF NOT EXISTS leases (
    name     TEXT PRIMARY KEY,
    holder   TEXT NOT NULL,
    expires  REAL NOT NULL,
    token    INTEGER NOT NULL
) STRICT;
"""
_VERSION = 2  # 1 knew no leases
_PATIENCE_S = 30.0  # with others who write
_COLUMNS = "seq, at, run, kind, function, subject, body"

# Outcomes of a run that leave nothing to resume.
ENDED = ("done", "unchanged", "refused", "lost", "restored")


class Entry(Value, frozen=True, kw_only=True):
    """One line of history. `kind`: run, ended, call, settled, built, published, moved, gate, approved, provisioned."""

    seq: int
    at: float
    run: str
    kind: str
    function: str
    subject: str
    body: dict[str, Any]


class Lease(Value, frozen=True, kw_only=True):
    """The right to be the only one at something, until `expires` (epoch seconds).

    `token` grows with every take-over: who shows a smaller one than was seen has been overtaken, and must stop.
    https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
    """

    name: str
    holder: str
    expires: float
    token: int


class Worn(Value, frozen=True, kw_only=True):
    """A version's role, since when it is known, and (where IAM showed it) what it was made of then."""

    role: str
    at: float
    parts: dict[str, str] | None = None


class Run(Value, frozen=True, kw_only=True):
    """One command that may change something. `request` is what was asked, enough to ask it again.

    A release of several functions is one run that names its `members`, and one run for each of them, `part_of` it.
    """

    id: str
    command: str
    function: str
    alias: str
    environment: str
    request: dict[str, Any]
    by: str
    at: float
    host: str
    pid: int
    born: str = ""  # when the process began, as the system counts: a process id may be used again
    outcome: str = ""
    error: str = ""
    commit: str = ""
    members: tuple[str, ...] = ()
    part_of: str = ""
    ci: str = ""  # the CI system's run, its address where there is one

    @property
    def titles(self) -> tuple[str, ...]:
        """What it moves: its members, or its function, as `places.title` has it where there are several regions.

        A restore has its target's ARN: it is no release of that function, and overtakes none.
        """
        if target := self.request.get("target") if self.command == "restore" else None:
            return (str(target),)
        region = self.request.get("region")
        return self.members or (f"{self.function} in {region}" if region else self.function,)


class Ledger:
    """Opens (and creates) the file. Raises LedgerCorrupt where it is no ledger, LedgerError where it cannot be used."""

    def __init__(self, path: Path, *, now: Callable[[], float]) -> None:
        self.path = path
        self.place = str(path)  # as people are told it
        self.now = now
        self._lock = threading.RLock()  # one connection for all threads: a transaction must not take in another's lines
        with self._guard("opening the ledger"):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerError(f"cannot create {path.parent}: {error.strerror}") from error
            self._db = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False)
            self._write_ahead()
            self._db.execute("PRAGMA synchronous=FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise self._too_new(version)
            if version < _VERSION:
                self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")

    def _write_ahead(self) -> None:
        """Of two who open a new file at once SQLite refuses one at once, whatever `timeout` says."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def close(self) -> None:
        self._db.close()

    def _too_new(self, version: int) -> LedgerError:
        return LedgerError(
            f"{self.path} was written by a newer Pointsman (format {version})",
            next="Update this one: pip install -U.",
        )

    def sync(self) -> None:
        """Learns what others wrote since. A file always knows."""

    def flush(self) -> None:
        """Makes durable all that was written. In a file it is."""

    @property
    def sound(self) -> bool:
        """Whether every page can be read and there is something to read."""
        with self._guard("checking the ledger"):
            return bool(
                self._db.execute("PRAGMA quick_check").fetchone()[0] == "ok"
                and self._db.execute("SELECT 1 FROM entries").fetchone()
            )

    @contextmanager
    def _guard(self, where: str) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.OperationalError as error:
            # Disk full, read-only, locked: the file itself is sound, and nothing was done at AWS without being written.
            raise LedgerError(
                f"{self.path}: {error}",
                where=where,
                next="Free space or mend the permissions, then `pointsman resume`.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error, where) from error

    def _damaged(self, error: Exception, where: str) -> LedgerCorrupt:
        return LedgerCorrupt(
            f"{self.path} is damaged or not a ledger: {error}",
            where=where,
            next="`pointsman history --rebuild` sets it aside and writes a new one from what Lambda knows.",
        )

    @contextmanager
    def _transaction(self, where: str) -> Iterator[None]:
        """Alone with the file; after an error it is as it was."""
        with self._lock:
            with self._guard(where):
                self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with self._guard(where):
                    self._db.rollback()
                raise
            with self._guard(where):
                self._db.commit()

    # Writing

    def append(self, run: str, kind: str, /, *, function: str = "", subject: str = "", **body: object) -> int:
        with self._guard(f"writing “{kind}” to the ledger"):
            cursor = self._db.execute(
                "INSERT INTO entries (at, run, kind, function, subject, body) VALUES (?, ?, ?, ?, ?, ?)",
                (self.now(), run, kind, function, subject, to_json(body).decode()),
            )
            return int(cursor.lastrowid or 0)

    def start(self, run: Run) -> None:
        self.append(run.id, "run", function=run.function, subject=run.alias, run=run)

    def end(self, run: str, outcome: str, error: str = "") -> None:
        self.append(run, "ended", outcome=outcome, error=error)

    def built(self, run: str, function: FunctionArn, build: BuildId, sha256: CodeSha256, **facts: object) -> None:
        """The id names these bits from now on. Raises BuildIdTaken when it names others already."""
        with self._transaction("writing “built” to the ledger"):
            known = self.build(function, build)
            if known and known.sha256 != sha256:
                raise taken(build, known.sha256, sha256, where=f"the ledger {self.place}")
            if not known or facts.get("version") not in (None, known.version):
                self.append(run, "built", function=str(function), subject=build, sha256=sha256, **facts)

    def published(
        self,
        run: str,
        function: FunctionArn,
        version: Version,
        bits: Bits,
        build: BuildId,
        *,
        commit: str = "",
        role: str = "",
        size: int = 0,
    ) -> None:
        """`size`: of the package in bytes, as Lambda stores it; 0 where it is not known, or an image."""
        self.append(
            run,
            "published",
            function=str(function),
            subject=version,
            build=build,
            sha256=bits.sha256,
            fingerprint=bits.fingerprint,
            commit=commit,
            role=role,
            size=size,
        )

    def saw(self, run: str, function: FunctionArn, version: Version, bits: Bits) -> None:
        """What somebody else published as that version: it is so for good, and need not be asked for again."""
        facts = {"sha256": bits.sha256, "fingerprint": bits.fingerprint}
        self.append(run, "seen", function=str(function), subject=version, **facts)

    def role(self, run: str, function: FunctionArn, version: Version, role: str, parts: dict[str, str]) -> None:
        """What the version's role allowed when it was published, or when that was accepted later."""
        self.append(run, "role", function=str(function), subject=version, role=role, parts=parts)

    def lend(self, run: str, function: FunctionArn, lent: str, home: str) -> None:
        """`$LATEST` is about to have another role than its own."""
        self.append(run, "lent", function=str(function), subject=lent, home=home)

    def moved(self, run: str, function: FunctionArn, move: Move) -> None:
        self.append(run, "moved", function=str(function), subject=move.alias, move=move)

    def add(self, entries: Iterable[Entry]) -> int:
        """Entries of another ledger, oldest first, as they were but for their numbers. Returns how many."""
        with self._transaction("copying into the ledger"):
            rows = list(_renumbered(entries, self._last()))
            with self._guard("copying into the ledger"):
                self._db.executemany(f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return len(rows)

    def _last(self) -> int:
        with self._guard("reading the ledger"):
            return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0])

    # Leases

    def lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """Taken, or renewed by the same holder, or taken over where it has expired; None while another holds it.

        A holder is one process: who may run twice must say which one it is.
        """
        with self._transaction(f"taking the lease “{name}”"):
            there, now = self._lease(name), self.now()
            if there and there.holder not in ("", holder) and there.expires > now:
                return None
            token = there.token if there and there.holder == holder else (there.token if there else 0) + 1
            mine = Lease(name=name, holder=holder, expires=now + seconds, token=token)
            self._keep(mine)
        return mine

    def release(self, lease: Lease) -> None:
        """Nothing where another has it by now."""
        with self._transaction(f"releasing the lease “{lease.name}”"):
            there = self._lease(lease.name)
            if there and (there.holder, there.token) == (lease.holder, lease.token):
                self._keep(msgspec.structs.replace(there, holder="", expires=0.0))  # the row stays: tokens only grow

    def holder(self, name: str) -> Lease | None:
        """Who has it now; None where nobody does."""
        there = self._lease(name)
        return there if there and there.holder and there.expires > self.now() else None

    def leases(self) -> tuple[Lease, ...]:
        """All that somebody holds now, by name."""
        with self._guard("reading the leases"):
            names = self._db.execute("SELECT name FROM leases ORDER BY name").fetchall()
        return tuple(found for (name,) in names if (found := self.holder(name)))

    def _lease(self, name: str) -> Lease | None:
        with self._guard("reading the leases"):
            asked = "SELECT holder, expires, token FROM leases WHERE name = ?"
            row = self._db.execute(asked, (name,)).fetchone()
        return Lease(name=name, holder=row[0], expires=row[1], token=row[2]) if row else None

    def _keep(self, lease: Lease) -> None:
        with self._guard("writing the lease"):
            row = (lease.name, lease.holder, lease.expires, lease.token)
            self._db.execute("INSERT OR REPLACE INTO leases (name, holder, expires, token) VALUES (?, ?, ?, ?)", row)

    # Reading

    def _entries(self, where: str, *values: object, newest_first: bool = True, limit: int = -1) -> Iterator[Entry]:
        order = "DESC" if newest_first else "ASC"
        with self._guard("reading the ledger"):
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE {where} ORDER BY seq {order} LIMIT ?",
                (*values, limit),
            ).fetchall()
        for seq, at, run, kind, function, subject, body in rows:
            try:
                parsed = from_json(body, dict[str, Any])
            except ValueError as error:
                raise self._unreadable(seq, error) from error
            yield Entry(seq=seq, at=at, run=run, kind=kind, function=function, subject=subject, body=parsed)

    def _value(self, entry: Entry, key: str, kind: type[T]) -> T:
        try:
            return from_json(to_json(entry.body[key]), kind)
        except (KeyError, ValueError) as error:
            raise self._unreadable(entry.seq, error) from error

    def _unreadable(self, seq: int, error: Exception) -> LedgerCorrupt:
        return LedgerCorrupt(
            f"{self.place}: entry {seq} cannot be read: {error}",
            next="`pointsman history --rebuild --force` sets it aside and writes a new one from what Lambda knows.",
        )

    def build(self, function: FunctionArn, build: str) -> Build | None:
        """What is known of a build: its digest, and the version it became, if any."""
        # A version number is the subject of what was published: it must not pass for a build id.
        where = "function = ? AND (kind = 'built' AND subject = ? OR kind = 'published' AND body ->> 'build' = ?)"
        return _builds(self._entries(where, str(function), build, build, newest_first=False)).get(build)

    def builds(self, function: FunctionArn) -> dict[str, Build]:
        """Every known build of the function by id, the newest first."""
        where = "kind IN ('built', 'published') AND function = ?"
        found = _builds(self._entries(where, str(function), newest_first=False))
        return dict(reversed(found.items()))

    def homes(self, build: str) -> Iterator[tuple[FunctionArn, Run]]:
        """The functions that have a version of a build of this name, with the run that told so; the oldest first."""
        where = "kind = 'published' AND body ->> 'build' = ? OR kind = 'built' AND subject = ?"
        for entry in self._entries(where, build, build, newest_first=False):
            for begun in self._entries("run = ? AND kind = 'run'", entry.run, limit=1):
                yield FunctionArn.parse(entry.function), self._value(begun, "run", Run)

    def verdict(self, function: FunctionArn, version: Version) -> str:
        """What the integration tests said of a version: pass, fail, due (they were to run and did not), "" (none)."""
        where = "kind = 'gate' AND subject = 'integration' AND body ->> 'arn' = ? AND body ->> 'version' = ?"
        for entry in self._entries(where, str(function), str(version), limit=1):
            return str(entry.body["verdict"])
        for entry in self._entries(
            "kind = 'published' AND function = ? AND subject = ?", str(function), str(version), limit=1
        ):
            plans = [each.body["plan"]["steps"] for each in self.of_run(entry.run, "planned")]
            if any(step.get("gate") == "integration" for steps in plans for step in steps):
                return "due"
        return ""

    def bits(self, function: FunctionArn, version: Version) -> Bits | None:
        """What was published as that version."""
        for entry in self._entries(
            "kind IN ('published', 'seen') AND function = ? AND subject = ?", str(function), str(version), limit=1
        ):
            return Bits(sha256=CodeSha256(entry.body["sha256"]), fingerprint=entry.body["fingerprint"])
        return None

    def role_of(self, function: FunctionArn, version: Version) -> Worn:
        """The role a version was published with, and what that allowed; "" and None where it was not written down."""
        where = "kind = ? AND function = ? AND subject = ?"
        for entry in self._entries(where, "role", str(function), str(version), limit=1):
            return Worn(role=entry.body["role"], at=entry.at, parts=entry.body["parts"])
        for entry in self._entries(where, "published", str(function), str(version), limit=1):
            return Worn(role=entry.body.get("role", ""), at=entry.at)
        return Worn(role="", at=0.0)

    def lent(self, function: FunctionArn, role: str) -> str:
        """The role that `$LATEST` had before it was lent this one; "" where that is not known."""
        for entry in self._entries("kind = 'lent' AND function = ? AND subject = ?", str(function), role, limit=1):
            return str(entry.body["home"])
        return ""

    def knows_settings(self, function: FunctionArn, fingerprint: str) -> bool:
        """Whether a version with these settings was published."""
        where = "kind = 'published' AND function = ? AND body ->> 'fingerprint' = ?"
        return next(self._entries(where, str(function), fingerprint, limit=1), None) is not None

    def version_of(self, function: FunctionArn, bits: Bits) -> Version | None:
        """The newest version published from exactly these bits, if the ledger knows one."""
        for entry in self._entries(
            "kind = 'published' AND function = ? AND body ->> 'sha256' = ? AND body ->> 'fingerprint' = ?",
            str(function),
            str(bits.sha256),
            bits.fingerprint,
            limit=1,
        ):
            return Version(entry.subject)
        return None

    def published_at(self, function: FunctionArn) -> dict[str, float]:
        """When each version was published, in epoch seconds, where the ledger was told."""
        where = "kind = 'published' AND function = ?"
        return {each.subject: each.at for each in self._entries(where, str(function))}

    def layer(self, arn: str, sha256: CodeSha256) -> str:
        """The ARN of the newest version of a layer that is known to hold this zip, "" where none is."""
        where = "kind = 'layer' AND subject = ? AND body ->> 'sha256' = ?"
        found = next(self._entries(where, arn, str(sha256), limit=1), None)
        return str(found.body["version"]) if found else ""

    def moves(self, function: FunctionArn, alias: str | None = None) -> tuple[Move, ...]:
        """Alias moves, oldest first."""
        where, values = "kind = 'moved' AND function = ?", [str(function)]
        if alias:
            where, values = f"{where} AND subject = ?", [*values, alias]
        return tuple(self._value(entry, "move", Move) for entry in self._entries(where, *values, newest_first=False))

    def last_moves(self) -> dict[tuple[str, str], Move]:
        """The newest move of every alias: by the function's ARN, and its name."""
        newest = "seq IN (SELECT max(seq) FROM entries WHERE kind = 'moved' GROUP BY function, subject)"
        return {(entry.function, entry.subject): self._value(entry, "move", Move) for entry in self._entries(newest)}

    def builds_by_function(self) -> dict[str, tuple[Build, ...]]:
        """Every known build, by the function's ARN, the newest last."""
        found: dict[str, list[Entry]] = {}
        for entry in self._entries("kind IN ('built', 'published')", newest_first=False):
            found.setdefault(entry.function, []).append(entry)
        return {function: tuple(_builds(iter(entries)).values()) for function, entries in found.items()}

    def moves_by_function(self, environment: str, alias: str) -> dict[str, tuple[Move, ...]]:
        """An environment's moves by the function's title, oldest first: no ARN has to be known."""
        begun = self._entries("kind = 'run' AND body ->> '$.run.environment' = ?", environment)
        runs = {entry.run: self._value(entry, "run", Run).titles[0] for entry in begun}
        found: dict[str, tuple[Move, ...]] = {}
        for entry in self._entries("kind = 'moved' AND subject = ?", alias, newest_first=False):
            if function := runs.get(entry.run):
                found[function] = (*found.get(function, ()), self._value(entry, "move", Move))
        return found

    def runs(self, function: str | None = None) -> Iterator[Run]:
        """Runs, newest first, each with its outcome ("" while it has none)."""
        where, values = ("kind = 'run' AND function = ?", [function]) if function else ("kind = 'run'", [])
        for entry in self._entries(where, *values):
            run = self._value(entry, "run", Run)
            ended = next(self._entries("run = ? AND kind = 'ended'", run.id, limit=1), None)
            if ended:
                run = msgspec.structs.replace(run, outcome=ended.body["outcome"], error=ended.body.get("error", ""))
            yield run

    def unfinished(self, run_id: str | None = None, *, but: str = "") -> Run | None:
        """The newest of those that `open_runs` tells."""
        return next(self.open_runs(run_id, but=but), None)

    def open_runs(self, run_id: str | None = None, *, but: str = "") -> Iterator[Run]:
        """Runs that neither ended nor were overtaken by a later one of the same function and environment, newest first.

        A run that was refused or lost before it called anything overtakes nothing. `but`: one to leave out, one's own.
        What is part of a larger run is never gone on with alone, and counts for that.
        """
        overtaken: set[tuple[str, str]] = set()
        called: set[str] = set()
        for run in self.runs():
            if but and but in (run.id, run.part_of):
                continue
            if run.part_of:
                if self.of_run(run.id, "call"):
                    called.add(run.part_of)
                continue
            keys = {(title, run.environment) for title in run.titles}
            if run_id in (None, run.id) and not keys & overtaken and run.outcome not in ENDED:
                yield run
            if run.outcome in ("done", "unchanged", "restored") or run.id in called or self.of_run(run.id, "call"):
                overtaken |= keys

    def parts(self, run: str) -> tuple[Run, ...]:
        """The runs of a release's members, in their order."""
        begun = self._entries("kind = 'run' AND body ->> '$.run.part_of' = ?", run, newest_first=False)
        return tuple(self._value(entry, "run", Run) for entry in begun)

    def of_run(self, run: str, *kinds: str) -> tuple[Entry, ...]:
        marks = ", ".join("?" * len(kinds))
        return tuple(self._entries(f"run = ? AND kind IN ({marks})", run, *kinds, newest_first=False))

    def newest(self, kind: str, subject: str) -> Entry | None:
        """The newest entry of a kind about a subject, whatever the function."""
        return next(self._entries("kind = ? AND subject = ?", kind, subject, limit=1), None)

    def remembered(self, kind: str, subject: str) -> dict[str, Any] | None:
        """What that entry says."""
        entry = self.newest(kind, subject)
        return entry.body if entry else None

    def of_function(self, kind: str, function: FunctionArn, subject: str) -> Iterator[Entry]:
        """Entries of a kind about a subject of this function, newest first."""
        return self._entries("kind = ? AND function = ? AND subject = ?", kind, str(function), subject)

    def all_of(self, kind: str) -> Iterator[Entry]:
        """Every entry of a kind, newest first."""
        return self._entries("kind = ?", kind)

    def after(self, seq: int, kind: str, subject: str) -> Iterator[Entry]:
        """Entries of a kind about a subject behind this one, oldest first."""
        return self._entries("seq > ? AND kind = ? AND subject = ?", seq, kind, subject, newest_first=False)

    def count(self) -> int:
        with self._guard("reading the ledger"):
            return int(self._db.execute("SELECT count(*) FROM entries").fetchone()[0])

    def entries(self, *, function: str | None = None, limit: int = -1) -> tuple[Entry, ...]:
        """Everything, newest first."""
        if function is None:
            return tuple(self._entries("1", limit=limit))
        return tuple(self._entries("function = ?", function, limit=limit))

    def told(self) -> tuple[Entry, ...]:
        """Everything that history is told from, oldest first: without each bucket that a rollout counted."""
        counted = "kind = 'rollout-state' AND body ->> '$.signal.signal' IN ('Measured', 'Tick')"
        of_no_account = f"{counted} AND body ->> '$.rollout.state.state' IN ('Baking', 'Judging')"
        return tuple(self._entries(f"NOT ({of_no_account}) AND kind <> 'planned'", newest_first=False))


Row: TypeAlias = tuple[int, float, str, str, str, str, str]
"""An entry as it lies in the table: seq, at, run, kind, function, subject, body (JSON)."""


def _renumbered(entries: Iterable[Entry], last: int) -> Iterator[Row]:
    """Numbered from `last` on; an outcome still names the entry of its intent."""
    now: dict[int, int] = {}
    for seq, each in enumerate(entries, last + 1):
        now[each.seq] = seq
        body = each.body
        if each.kind == "settled" and body.get("intent") in now:
            body = {**body, "intent": now[body["intent"]]}
        yield seq, each.at, each.run, each.kind, each.function, each.subject, to_json(body).decode()


def _builds(entries: Iterator[Entry]) -> dict[str, Build]:
    """Entries of builds, oldest first → builds by id; what a later entry leaves out, an earlier one told."""
    found: dict[str, Build] = {}
    for entry in entries:
        body, published = entry.body, entry.kind == "published"
        name = body.get("build") if published else entry.subject
        if not name:
            continue
        before = found.pop(name, None)  # popped: the newest entry decides the order
        version = entry.subject if published else body.get("version")
        found[name] = Build(
            id=BuildId(name),
            sha256=CodeSha256(body["sha256"]),
            version=Version(version) if version else before.version if before else None,
            fingerprint=body.get("fingerprint") or (before.fingerprint if before else ""),
            commit=body.get("commit") or (before.commit if before else ""),
            at=entry.at,
        )
    return found


def born(pid: int) -> str:
    """When a process of this machine began, "" where it is dead (or a zombie), "?" where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, IndexError):
        return "?"
    else:
        return "" if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "?"


def under_way(run: Run) -> bool:
    """Whether the run's process still lives, as far as this machine can tell."""
    if run.outcome or run.host != os.uname().nodename or run.pid == os.getpid():
        return False
    now = born(run.pid)
    return now != "" and (now == run.born or "?" in (now, run.born))


def taken(build: str, theirs: str, ours: str, *, where: str) -> BuildIdTaken:
    return BuildIdTaken(
        f"build {build} is other code already: {theirs[:12]}… according to {where}, not {ours[:12]}…",
        next="A build id names one set of bits for good: choose another --build-id.",
    )


class Recorder:
    """The journal's sink for one run: every mutating AWS call as an intent, then its outcome.

    `where` tells the place, {"region": …, "account": …}, as far as it is known: functions have namesakes elsewhere.
    """

    def __init__(self, ledger: Ledger, run: str, function: str, where: Callable[[], dict[str, str]] = dict) -> None:
        self.ledger = ledger
        self.run = run
        self.function = function
        self.where = where

    def intended(self, action: str, subject: str) -> int:
        facts = {"action": action, **self.where()}
        return self.ledger.append(self.run, "call", function=self.function, subject=subject, **facts)

    def settled(self, intent: int, outcome: str) -> None:
        self.ledger.append(self.run, "settled", function=self.function, intent=intent, outcome=outcome)


__all__ = ["ENDED", "AliasName", "Entry", "Lease", "Ledger", "Recorder", "Row", "Run", "born", "taken", "under_way"]
