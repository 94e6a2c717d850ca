"""The ledger of a team: the log of record is in DynamoDB, each machine reads it from a disposable mirror in SQLite.

A write puts one item: the entries that waited, under the number of the first of them, on condition that there is no
such item. Who writes must therefore know all that was written before: of two at once one is told, reads what the other
wrote, looks again whether it still wants to write, and writes behind it. Readings are the same SQL as of a file.

What has to be durable before something else happens (the intent of a call, the claim to a build id, a rollout's
decision, the end of a run) is written at once, and takes along all that was buffered before it.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pointsman.aws.dynamodb import TTL, Table
from pointsman.aws.transports import Clock
from pointsman.errors import (
    Ambiguous,
    AwsError,
    Conflict,
    LedgerCorrupt,
    LedgerError,
    NotFound,
    PreconditionFailed,
    Throttled,
    TimedOut,
    Unreachable,
)
from pointsman.ledger import Entry, Lease, Ledger, Row, _renumbered, taken
from pointsman.model import BuildId, CodeSha256, FunctionArn, to_json

_FORMAT = 1
_MOST = 380_000
"""Bytes of entries in one item: DynamoDB takes 400 KB, the names and keys included.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
"""
_LARGE = 1_000
"""From so many bytes on entries are compressed: a write is paid by the KB."""
_STALE_S = 3_600
_LOST = 5
_OVERTAKEN = 100
_DAY_S = 86_400

_MIRROR = """
CREATE TABLE IF NOT EXISTS main.head (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    writer TEXT NOT NULL
) STRICT;
"""
# What waits is in this connection alone, and reads as if it were written: the view stands before the table.
_WAITING = """
CREATE TEMP TABLE waiting (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    seq      INTEGER NOT NULL,
    at       REAL NOT NULL,
    run      TEXT NOT NULL,
    kind     TEXT NOT NULL,
    function TEXT NOT NULL,
    subject  TEXT NOT NULL,
    body     TEXT NOT NULL
) STRICT;
CREATE TEMP VIEW entries AS
    SELECT seq, at, run, kind, function, subject, body FROM main.entries
    UNION ALL
    SELECT seq, at, run, kind, function, subject, body FROM temp.waiting;
"""


class _Item(NamedTuple):
    """Entries that were put together: the numbers of the first and the last, and a name that no other item has."""

    first: int
    last: int
    writer: str
    rows: tuple[Row, ...]


class _Attempt(NamedTuple):
    """A put of which it is not known yet that it came to nothing."""

    first: int
    ids: tuple[int, ...]


class NoTable(LedgerError):
    """There is no such table (yet)."""


class TeamLedger(Ledger):
    """Opens the mirror and brings it up to date: one read. Raises NoTable, or LedgerError where AWS does not answer."""

    def __init__(
        self,
        table: Table,
        name: str,
        mirror: Path,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        draw: Callable[[], float],
        keep_days: int | None = None,
    ) -> None:
        """`name`: which of the table's ledgers. `keep_days`: after these, what nobody needs any more may go."""
        self.table = table
        self.name = name
        self.keep_days = keep_days
        self._sleep = sleep
        self._draw = draw
        self._attempts: dict[str, _Attempt] = {}
        self._numbers: dict[int, int] = {}  # of what was just written: id among the waiting → number
        self._held: set[str] = set()
        self._synced = 0.0
        try:
            self._open(mirror, now)
        except LedgerCorrupt:
            for suffix in ("", "-wal", "-shm"):  # it is a copy: another is made
                mirror.with_name(mirror.name + suffix).unlink(missing_ok=True)
            self._open(mirror, now)

    def _open(self, mirror: Path, now: Callable[[], float]) -> None:
        super().__init__(mirror, now=now)
        self.place = f"dynamodb://{self.table.name}" + (f"/{self.name}" if self.name != self.table.name else "")
        try:
            with self._guard("opening the ledger's mirror"):
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.execute("PRAGMA temp_store=MEMORY")
                self._db.executescript(_MIRROR + _WAITING)
            self.sync()
        except BaseException:
            self._db.close()
            raise

    def _too_new(self, version: int) -> LedgerError:
        return LedgerCorrupt(f"{self.path} is the mirror of another Pointsman (format {version})")

    def _damaged(self, error: Exception, where: str) -> LedgerCorrupt:
        return LedgerCorrupt(
            f"{self.path}, the mirror of {self.place}, is damaged: {error}",
            where=where,
            next="Delete it: the next command reads all of it from the table.",
        )

    def _unreadable(self, seq: int, error: Exception) -> LedgerCorrupt:
        return LedgerCorrupt(
            f"{self.place}: entry {seq} cannot be read: {error}",
            next="Was the table edited? Put it back to before that: point-in-time recovery (docs/ledger.md).",
        )

    def close(self) -> None:
        """Writes what waits. Where that fails, no run lost anything (its end is written at once): it was a cache's."""
        try:
            self.flush()
        except LedgerError:
            pass
        finally:
            self._db.close()

    @property
    def sound(self) -> bool:
        return self.count() > 0

    # What others wrote

    def sync(self) -> None:
        """One strongly consistent read of what was written since: pages of 1 MB."""
        with self._lock:
            head = self._head()
            from_ = min([head.first if head else 0, *(each.first for each in self._attempts.values())])
            found = self._read(from_)
            # The mirror's last item must be there still, and be the same: else this is another table's mirror, or the
            # table was put back, or the item expired; whatever it is, numbers may have been given anew.
            anew = head is not None and not any(
                (each.first, each.writer) == (head.first, head.writer) for each in found
            )
            if anew and from_:
                found = self._read(0)
            if not self._store(found, head, anew=anew):
                return self.sync()
            for each in found:
                if landed := self._attempts.pop(each.writer, None):
                    self._settled(landed.ids, each.first)
            last = found[-1].last if found else 0  # what was to be put before that can arrive no more
            self._attempts = {writer: each for writer, each in self._attempts.items() if each.first > last}
            self._renumber()
            self._synced = self.now()
            return None

    def _read(self, first: int) -> list[_Item]:
        with self._asking("reading the ledger"):
            rows = self.table.rows(self.name, _key(first), _key(10**15 - 1))
            return [self._item(row) for row in rows]

    def _item(self, row: dict[str, Any]) -> _Item:
        try:
            if row["v"] > _FORMAT:
                raise LedgerError(
                    f"{self.place} was written to by a newer Pointsman (format {row['v']:.0f})",
                    next="Update this one: pip install -U.",
                )
            first = int(row["key"].removeprefix(_ENTRY))
            packed = zlib.decompress(row["packed"]) if "packed" in row else row["entries"].encode()
            rows = _unpacked(packed, first)
            return _Item(first, rows[-1][0], str(row["writer"]), rows)
        except (KeyError, ValueError, IndexError, AttributeError, zlib.error) as error:
            raise LedgerCorrupt(
                f"{self.place}: the item {row.get('key')!r} cannot be read: {error!r}",
                next="Was the table edited? Put it back to before that: point-in-time recovery (docs/ledger.md).",
            ) from error

    def _head(self) -> _Item | None:
        with self._guard("reading the ledger's mirror"):
            row = self._db.execute("SELECT first, last, writer FROM head").fetchone()
        return _Item(row[0], row[1], row[2], ()) if row else None

    def _store(self, found: Sequence[_Item], head: _Item | None, *, anew: bool) -> bool:
        """False where another process of this machine made the mirror anew meanwhile, and less far."""
        where = "writing the ledger's mirror"
        with self._transaction(where), self._guard(where):
            if anew:
                self._db.execute("DELETE FROM main.entries")
                self._db.execute("DELETE FROM head")
            elif head and ((now := self._head()) is None or now.last < head.last):
                return False
            for each in found:
                self._mirror(each)
        return True

    def _mirror(self, item: _Item) -> None:
        """Another process of this machine may have done so already."""
        values = "?, ?, ?, ?, ?, ?, ?"
        self._db.executemany(
            f"INSERT OR IGNORE INTO main.entries (seq, at, run, kind, function, subject, body) VALUES ({values})",
            item.rows,
        )
        self._db.execute(
            "INSERT INTO head (one, first, last, writer) VALUES (1, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET first = excluded.first, last = excluded.last, writer = excluded.writer WHERE excluded.last > last",
            (item.first, item.last, item.writer),
        )

    # Writing

    def append(self, run: str, kind: str, /, *, function: str = "", subject: str = "", **body: object) -> int:
        """Buffered unless it has to be durable before what follows. Only a durable entry's number is for good."""
        with self._lock:
            id_, seq = self._wait(run, kind, function, subject, to_json(body).decode())
            if not _durable(kind):
                return seq
            try:
                self.flush()
            except BaseException:
                self._forget(id_)  # it is not written, and what it announces will not happen
                raise
            return self._numbers[id_]

    def built(self, run: str, function: FunctionArn, build: BuildId, sha256: CodeSha256, **facts: object) -> None:
        where = "writing “built” to the ledger"
        body = to_json({"sha256": sha256, **facts}).decode()
        with self._lock:
            for _ in self._tries(where):
                seen = self._end()  # before looking: another process of this machine may write on in the same mirror
                known = self.build(function, build)
                if known and known.sha256 != sha256:
                    raise taken(build, known.sha256, sha256, where=f"the ledger {self.place}")
                if known and facts.get("version") in (None, known.version):
                    return
                id_, _seq = self._wait(run, "built", str(function), build, body)
                if known:  # the id is claimed: that it became a version may wait
                    return
                try:
                    written = self._write(after=seen)
                except BaseException:
                    self._forget(id_)
                    raise
                if written:
                    return
                self._forget(id_)  # somebody was first, perhaps with this very id

    def add(self, entries: Iterable[Entry]) -> int:
        with self._lock:
            self.flush()
            rows = list(_renumbered(entries, self._last()))
            for row in rows:
                self._wait(*row[2:], at=row[1])
            self.flush()
        return len(rows)

    def flush(self) -> None:
        with self._lock:
            for _ in self._tries("writing to the ledger"):
                if self._write():
                    return

    def _tries(self, where: str) -> Iterator[int]:
        """Again, a little later, while others are faster. Somebody's write succeeds each time: it comes to an end."""
        for number in range(_OVERTAKEN):
            yield number
            self._sleep(self._draw() * min(1.0, 0.01 * 2 ** min(number, 10)))
        raise LedgerError(
            f"{self.place}: others wrote first, {_OVERTAKEN} times in a row",
            where=where,
            next="Try again: `pointsman resume`.",
        )

    def _wait(
        self, run: str, kind: str, function: str, subject: str, body: str, *, at: float | None = None
    ) -> tuple[int, int]:
        if len(body) > _MOST:
            next(
                _parts([(0, (0.0, run, kind, function, subject, body))], self.place)
            )  # refused before it is in the way
        with self._guard(f"writing “{kind}” to the ledger"):
            seq = self._last() + 1
            cursor = self._db.execute(
                "INSERT INTO waiting (seq, at, run, kind, function, subject, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (seq, self.now() if at is None else at, run, kind, function, subject, body),
            )
            return int(cursor.lastrowid or 0), seq

    def _last(self) -> int:
        newest = "(SELECT seq FROM waiting ORDER BY id DESC LIMIT 1)"
        with self._guard("reading the ledger"):
            return int(self._db.execute(f"SELECT coalesce({newest}, (SELECT last FROM head), 0)").fetchone()[0])

    def _forget(self, *ids: int) -> None:
        with self._guard("writing to the ledger"):
            self._db.executemany("DELETE FROM waiting WHERE id = ?", [(each,) for each in ids])

    def _renumber(self) -> None:
        """What waits comes after what is written."""
        end = self._end()
        with self._guard("writing to the ledger"):
            ids = self._db.execute("SELECT id FROM waiting ORDER BY id").fetchall()
            numbered = [(seq, each) for seq, (each,) in enumerate(ids, end + 1)]
            self._db.executemany("UPDATE waiting SET seq = ? WHERE id = ?", numbered)

    def _settled(self, ids: Sequence[int], first: int) -> None:
        self._numbers |= {each: first + index for index, each in enumerate(ids)}
        self._forget(*ids)

    def _end(self) -> int:
        """The number of the last entry that is written, as far as the mirror knows."""
        head = self._head()
        return head.last if head else 0

    def _write(self, *, after: int | None = None) -> bool:
        """Puts what waits; with `after`, right behind the entry of that number, and nowhere else.

        False where somebody was first: what they wrote is known now, and it can be tried again.
        """
        if self._waiting() and self.now() - self._synced > _STALE_S:
            # Who slept for longer than items are kept would find a number free that was given before.
            self.sync()
        parts = list(_parts(self._waiting(), self.place))  # before the first is put: one may be too large
        if after not in (None, self._end()):
            return False
        for ids, rows, packed in parts:
            if not self._put(ids, rows, packed, after=after):
                return False
            after = None if after is None else after + len(rows)
        return True

    def _waiting(self) -> list[tuple[int, tuple[Any, ...]]]:
        with self._guard("writing to the ledger"):
            asked = "SELECT id, at, run, kind, function, subject, body FROM waiting ORDER BY id"
            return [(row[0], row[1:]) for row in self._db.execute(asked)]

    def _put(
        self, ids: tuple[int, ...], rows: Sequence[Sequence[Any]], packed: bytes, *, after: int | None = None
    ) -> bool:
        lost = 0
        while True:
            first = (self._end() if after is None else after) + 1
            writer = secrets.token_hex(12)
            item: dict[str, str | float | bytes] = {
                "ledger": self.name,
                "key": _key(first),
                "v": _FORMAT,
                "writer": writer,
                **({"packed": packed} if packed[:1] != b"[" else {"entries": packed.decode()}),
            }
            if self.keep_days is not None and _may_go(rows):
                item[TTL] = int(self.now()) + self.keep_days * _DAY_S
            self._attempts[writer] = _Attempt(first, ids)
            try:
                with self._asking("writing to the ledger", but=(PreconditionFailed, Ambiguous, Unreachable)):
                    self.table.put(item)
            except PreconditionFailed:
                self.sync()  # may find it ours: the answer to an earlier try was lost, and it arrived after all
                return self._known(ids)
            except (Ambiguous, Unreachable) as error:
                lost += 1
                self.sync()
                if self._known(ids):
                    return True
                if lost == _LOST:
                    raise LedgerError(
                        f"{self.place}: {lost} writes without an answer: {error.what}",
                        where=error.where,
                        next="Nothing that it announces was done. When the network is back: `pointsman resume`.",
                    ) from error
                if self._end() + 1 != first:
                    return False  # somebody wrote there: our own can arrive no more
                self._sleep(self._draw() * min(2.0, 0.1 * 2**lost))
            else:
                self._attempts = {}  # there can be one item of that number
                self._settled(ids, first)
                self._learn(_Item(first, first + len(rows) - 1, writer, _numbered(rows, first)))
                return True

    def _known(self, ids: Sequence[int]) -> bool:
        return all(each in self._numbers for each in ids)

    def _learn(self, item: _Item) -> None:
        """Our own item into the mirror, where that knows all before it; else another process made the mirror anew."""
        where = "writing the ledger's mirror"
        with self._transaction(where), self._guard(where):
            follows = self._end() + 1 == item.first
            if follows:
                self._mirror(item)
        if not follows:
            self.sync()
        self._renumber()

    # Leases

    def lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """As of a file; by this machine's clock, and the others' (docs/ledger.md). One write, else two."""
        where = f"taking the lease “{name}”"
        for lost in range(1, _LOST + 1):
            try:
                with self._asking(where, but=(Ambiguous, Unreachable)):
                    return self._lease_by(name, holder, seconds)
            except (Ambiguous, Unreachable) as error:
                # Can be asked again: if it was taken after all, it is renewed now, under the same token.
                if lost == _LOST:
                    raise self._unanswered(error, where) from error
                self._sleep(self._draw() * min(2.0, 0.1 * 2**lost))
        raise AssertionError("the last try returns or raises")

    def _lease_by(self, name: str, holder: str, seconds: float) -> Lease | None:
        key, now = _LEASE + name, self.now()
        mine = name in self._held
        row = self.table.renew(self.name, key, holder, now + seconds) if mine else None
        row = row or self.table.take(self.name, key, holder, now + seconds, now)
        if row is None and not mine:
            row = self.table.renew(self.name, key, holder, now + seconds)
        (self._held.add if row else self._held.discard)(name)
        return _as_lease(row) if row else None

    def release(self, lease: Lease) -> None:
        self._held.discard(lease.name)
        with self._asking(f"releasing the lease “{lease.name}”"):
            self.table.give_back(self.name, _LEASE + lease.name, lease.holder, lease.token)

    def holder(self, name: str) -> Lease | None:
        with self._asking(f"reading the lease “{name}”"):
            row = self.table.lease(self.name, _LEASE + name)
        found = _as_lease(row) if row else None
        return found if found and found.holder and found.expires > self.now() else None

    def leases(self) -> tuple[Lease, ...]:
        with self._asking("reading the leases"):
            found = [_as_lease(row) for row in self.table.rows(self.name, _LEASE, _PAST_LEASES)]
        return tuple(each for each in found if each.holder and each.expires > self.now())

    # Errors

    @contextmanager
    def _asking(self, where: str, *, but: tuple[type[AwsError], ...] = ()) -> Iterator[None]:
        """What AWS says no with becomes the ledger's own error: nobody may take it for the answer to another call."""
        try:
            yield
        except but:
            raise
        except NotFound as error:
            raise NoTable(
                f"{self.place}: there is no table {self.table.name}",
                where=where,
                next="`pointsman ledger init` creates it. Or is it elsewhere: [ledger] region, profile, role_arn?",
            ) from error
        except Throttled as error:
            raise LedgerError(
                f"{self.place}: {error.what}", where=where, next="The table is too busy. Later: `pointsman resume`."
            ) from error
        except AwsError as error:
            raise self._unanswered(error, where) from error

    def _unanswered(self, error: AwsError, where: str) -> LedgerError:
        return LedgerError(f"{self.place}: {error.what}", where=f"{where} ({error.where})", next=error.next)


_ENTRY = "entry#"
_LEASE, _PAST_LEASES = "lease#", "lease$"


def _key(first: int) -> str:
    return f"{_ENTRY}{first:015}"


def _durable(kind: str) -> bool:
    return kind in ("call", "built", "ended", "approval") or kind.startswith("rollout")


def _may_go(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether nobody needs these entries after a time: outcomes, all but the first call of a run, a rollout on its way.

    A run's first call tells that it did something, and a rollout's last state that it is over; on builds, versions,
    moves, approvals and ends rollbacks stand.
    """
    settled: set[str] = set()
    for _at, run, kind, _function, _subject, body in rows:
        match kind:
            case "settled":
                settled.add(run)
            case "call" if run in settled:
                pass
            case "rollout-asked":
                pass
            case "rollout-state" if msgspec.json.decode(body).get("ended") is False:
                pass
            case _:
                return False
    return True


def _parts(
    waiting: Sequence[tuple[int, Sequence[Any]]], place: str
) -> Iterator[tuple[tuple[int, ...], Sequence[Sequence[Any]], bytes]]:
    """What waits, in as few items as will hold it: ids, rows, and the rows packed."""
    if not waiting:
        return
    ids, rows = tuple(each for each, _ in waiting), [row for _, row in waiting]
    packed = _packed(rows)
    if len(packed) <= _MOST:
        yield ids, rows, packed
    elif len(rows) > 1:
        half = len(rows) // 2
        yield from _parts(waiting[:half], place)
        yield from _parts(waiting[half:], place)
    else:
        raise LedgerError(
            f"{place}: one entry (“{rows[0][2]}”) is {len(packed) / 1000:.0f} KB, and DynamoDB takes 400 KB",
            next="What is so large? A plan with thousands of settings belongs into a ledger in SQLite.",
        )


def _packed(rows: Sequence[Sequence[Any]]) -> bytes:
    """JSON, or (large) that compressed: [[at, run, kind, function, subject, body], …]."""
    plain = msgspec.json.encode([(*row[:-1], msgspec.Raw(row[-1].encode())) for row in rows])
    return plain if len(plain) < _LARGE else zlib.compress(plain, 9)


def _unpacked(plain: bytes, first: int) -> tuple[Row, ...]:
    found = msgspec.json.decode(plain, type=list[tuple[float, str, str, str, str, msgspec.Raw]])
    return _numbered([(*row[:-1], bytes(row[-1]).decode()) for row in found], first)


def _numbered(rows: Sequence[Sequence[Any]], first: int) -> tuple[Row, ...]:
    return tuple((seq, *row) for seq, row in enumerate(rows, first))


def _as_lease(row: dict[str, Any]) -> Lease:
    return Lease(
        name=row["key"].removeprefix(_LEASE), holder=row["holder"], expires=row["expires"], token=int(row["token"])
    )


# The table


def create(table: Table, clock: Clock, *, wait_s: float = 300) -> list[str]:
    """Makes the table, or what it lacks: protected from deletion, backed up to the second, with a time to live.

    Returns what was done, in words; nothing where all is as it should be. Raises LedgerError for a table of other keys,
    TimedOut where it does not become ACTIVE.
    """
    done = []
    described = table.described()
    if described is None:
        try:
            table.create()
            done.append(f"created the table {table.name}: on demand, protected from deletion")
        except Conflict:
            pass  # somebody else did, just now
    deadline = clock.now() + wait_s
    while (described := table.described()) is None or described.status != "ACTIVE":
        if clock.now() > deadline:
            status = described.status if described else "not there"
            raise TimedOut(f"table {table.name} is still {status} after {wait_s:.0f} s", next="`pointsman ledger init`")
        clock.sleep(0.5)
    if not described.fits:
        keys = ", ".join(f"{name} ({kind}, {type_})" for name, kind, type_ in described.keys)
        raise LedgerError(
            f"table {table.name} is something else's: its keys are {keys}",
            next="A ledger's are `ledger` and `key`, both strings. Choose another table.",
        )
    if not described.protected:
        table.protect()
        done.append("protected it from deletion")
    if not table.backed_up():
        _backed_up(table, clock, deadline)
        done.append("switched point-in-time recovery on")
    match table.expires_by():
        case "":
            table.expire()
            done.append(f"switched the time to live on, by the attribute {TTL}")
        case name if name != TTL:
            raise LedgerError(
                f"items of table {table.name} expire by the attribute {name}, not {TTL}",
                next="Switch that time to live off, then `pointsman ledger init` again.",
            )
    return done


def _backed_up(table: Table, clock: Clock, deadline: float) -> None:
    """A table that was made a moment ago is not ready for it: AWS answers ContinuousBackupsUnavailableException."""
    while True:
        try:
            return table.back_up()
        except AwsError as error:
            if error.aws_code != "ContinuousBackupsUnavailableException" or clock.now() > deadline:
                raise
        clock.sleep(1)


__all__ = ["NoTable", "TeamLedger", "create"]
