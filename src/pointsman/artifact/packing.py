"""Members into a zip, on all cores and with bounded memory; what an earlier zip holds already is copied out of it.

A file is read once, hashed, and deflated only if the earlier zip has no such content. One whose size, times and inode
are what they were is not even read, unless it was so young when it was read that a later change could look the same.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import marshal
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeAlias

import deflate

from pointsman.artifact.archive import YOUNG, Entry, Member, Written, Zip, header, packed
from pointsman.errors import BuildFailed

BATCH = 256 << 10  # bytes of small files that one thread takes at once: a batch is a millisecond or more
FLYING = 64 << 20  # bytes of files that are read and not yet written to the zip
LARGE, EARLY = 2 << 20, 32 << 20  # members that are begun first, lest one core deflates the last of them alone
BLOCK = 1 << 20
PER_FILE = 4096  # what a file costs beside its bytes
WORTH = 2 << 20  # below this, threads cost more than they bring

Range: TypeAlias = tuple[int, int]


class Earlier:
    """A zip that is here already, with what it is known to hold. Its bytes are hashed once, beside other work."""

    def __init__(self, file: BinaryIO, digest: bytes, entries: list[Entry]) -> None:
        self.entries = entries
        self.starts = [0, *itertools.accumulate(entry.length for entry in entries)]
        self.at = {entry.name: place for place, entry in enumerate(entries)}
        self._by_digest: dict[bytes, int] | None = None
        self._file, self._digest, self._found = file, digest, b""
        self._hashing = threading.Thread(target=self._hash, daemon=True)

    @contextlib.contextmanager
    def being_hashed(self) -> Iterator[None]:
        self._hashing.start()
        try:
            yield
        finally:
            self._hashing.join()  # it reads a file that is closed next

    def by_digest(self, digest: bytes) -> int | None:
        if self._by_digest is None:
            self._by_digest = {entry.digest: place for place, entry in enumerate(self.entries)}
        return self._by_digest.get(digest)

    def read(self, start: int, end: int) -> Iterator[bytes]:
        for place in range(start, end, BLOCK):
            data = os.pread(self._file.fileno(), min(BLOCK, end - place), place)
            if len(data) < min(BLOCK, end - place):
                raise NotAsNoted
            yield data

    def sound(self) -> bool:
        """Whether the zip is, byte for byte, the one it is noted to be."""
        self._hashing.join()
        return self._found == self._digest

    def _hash(self) -> None:
        with contextlib.suppress(OSError):  # then it is not sound
            self._found = hashlib.file_digest(self._file, "sha256").digest()  # type: ignore[arg-type]


class NotAsNoted(Exception):
    """The earlier zip is damaged: nothing that was taken from it counts."""


class Packed(NamedTuple):
    """`written` is None where the earlier zip is what would have been written; `entries` may still know more."""

    entries: list[Entry]
    written: Written | None


def write(members: Iterable[Member], to: BinaryIO) -> Written:
    """All of it anew. The members in any order; there must not be two of one name."""
    written = pack(members, None, lambda: to).written
    assert written
    return written


def pack(members: Iterable[Member], earlier: Earlier | None, begin: Callable[[], BinaryIO]) -> Packed:
    """Write the members' zip, sorted by the bytes of their names, to what `begin` opens.

    Raises NotAsNoted, after which what was written is worth nothing, and BuildFailed for a file that cannot be read.
    """
    jobs = _jobs(sorted(members, key=_name), earlier)
    young = time.time_ns() - YOUNG

    def do(batch: Batch) -> _Result:
        return _packed(batch, earlier, young)

    with _crew(jobs, do) as crew, earlier.being_hashed() if earlier else contextlib.nullcontext():
        return _written(_in_order(jobs, crew, do), earlier, begin)


def _written(results: Iterator[_Result], earlier: Earlier | None, begin: Callable[[], BinaryIO]) -> Packed:
    entries: list[Entry] = []
    same: Range | None = (0, 0) if earlier else None  # so far it is the earlier zip's beginning, of this length
    zipped: Zip | None = None
    for result in results:
        entries += result.entries
        for piece in result.pieces:
            if zipped is None and same and isinstance(piece, tuple) and piece[0] == same[1]:
                same = (0, piece[1])
                continue
            if zipped is None:
                zipped = Zip(begin())
                if same:
                    _put(zipped, same, earlier)
            _put(zipped, piece, earlier)
    if earlier and zipped is None and _alike(entries, earlier.entries):
        if not earlier.sound():
            raise NotAsNoted
        return Packed(entries, None)
    if zipped is None:
        zipped = Zip(begin())
        if same:
            _put(zipped, same, earlier)
    written = zipped.close(entries)
    if earlier and not earlier.sound():
        raise NotAsNoted
    return Packed(entries, written)


def _name(member: Member) -> bytes:
    return member.name.encode()


def _alike(entries: list[Entry], others: list[Entry]) -> bool:
    """Whether they make the same directory; their records are known to be the same."""
    return len(entries) == len(others) and all(
        one is other or (one.name == other.name and one.mode == other.mode)
        for one, other in zip(entries, others, strict=True)
    )


Piece: TypeAlias = "bytes | bytearray | Range"  # bytes to write, or a range of the earlier zip to copy


def _put(zipped: Zip, piece: Piece, earlier: Earlier | None) -> None:
    if not isinstance(piece, tuple):
        zipped.put(piece)
    elif earlier:
        for block in earlier.read(*piece):
            zipped.put(block)


# One batch, in some thread


class _Result(NamedTuple):
    entries: list[Entry]
    pieces: list[Piece]


Batch: TypeAlias = "list[tuple[Member, int | None]]"  # with the place of the earlier entry that a member surely is
Do: TypeAlias = Callable[[Batch], _Result]


def _packed(batch: Batch, earlier: Earlier | None, young: int) -> _Result:
    entries: list[Entry] = []
    pieces: list[Piece] = []
    for member, place in batch:
        if earlier and place is not None:
            entry = earlier.entries[place]
            if entry.mode != member.mode:
                entry = entry._replace(mode=member.mode)
            _copy(pieces, earlier.starts[place], earlier.starts[place + 1])
        else:
            entry = _read(member, earlier, young, pieces)
        entries.append(entry)
    return _Result(entries, _joined(pieces))


def _read(member: Member, earlier: Earlier | None, young: int, pieces: list[Piece]) -> Entry:
    data = member.link.encode() if member.link is not None else _content(member)
    digest = hashlib.sha256(data).digest()
    seen = member.seen if member.seen and max(member.seen[1:3]) < young and member.seen[0] == len(data) else None
    place = earlier.by_digest(digest) if earlier else None
    if earlier and place is not None:
        known, start, end = earlier.entries[place], earlier.starts[place], earlier.starts[place + 1]
        entry = known._replace(name=member.name, mode=member.mode, seen=seen)
        if known.name != member.name:
            pieces.append(header(entry))
            start = end - known.packed
        _copy(pieces, start, end)
        return entry
    method, body = packed(data)
    entry = Entry(member.name, member.mode, len(data), digest, deflate.crc32(data), len(body), method, seen)
    pieces += (header(entry), body)
    return entry


def _copy(pieces: list[Piece], start: int, end: int) -> None:
    if pieces and isinstance(last := pieces[-1], tuple) and last[1] == start:
        pieces[-1] = (last[0], end)
    else:
        pieces.append((start, end))


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Fewer pieces, for whoever writes them has little to spare; a large one is not copied for that."""
    joined: list[Piece] = []
    small: list[bytes | bytearray] = []
    for piece in pieces:
        if isinstance(piece, tuple) or len(piece) >= BATCH:
            joined += (b"".join(small), piece) if small else (piece,)
            small = []
        else:
            small.append(piece)
    return [*joined, b"".join(small)] if small else joined


def _content(member: Member) -> bytes:
    try:
        if member.seen:
            file = os.open(member.path, os.O_RDONLY)
            try:
                data = os.read(file, member.seen[0] + 1)
            finally:
                os.close(file)
            if len(data) == member.seen[0]:
                return data
        with open(member.path, "rb") as whole:  # noqa: PTH123 - it need not be a Path
            return whole.read()
    except OSError as error:
        raise BuildFailed(
            f"{member.name} cannot be read: {error.strerror}", next="Make it readable, or `exclude` it."
        ) from error


# All batches, on all cores


class _Job:
    """A batch, what it costs (bytes to read; 0: nothing), and what became of it."""

    def __init__(self, batch: Batch, cost: int) -> None:
        self.batch, self.cost = batch, cost
        self.begun = False
        self.result: _Result | None = None
        self.error: Exception | None = None


def _jobs(members: list[Member], earlier: Earlier | None) -> list[_Job]:
    jobs: list[_Job] = []
    batch: Batch = []
    cost = 0
    for member in members:
        place = earlier.at.get(member.name) if earlier and member.seen else None
        if earlier and place is not None and earlier.entries[place].seen != member.seen:
            place = None
        price = 0 if place is not None else PER_FILE + (member.seen[0] if member.seen else 0)
        if batch and (cost + price > BATCH or (price > 0) != (cost > 0)):
            jobs.append(_Job(batch, cost))
            batch, cost = [], 0
        batch.append((member, place))
        cost += price
    if batch:
        jobs.append(_Job(batch, cost))
    return jobs


def _in_order(jobs: list[_Job], crew: _Crew | None, do: Do) -> Iterator[_Result]:
    """The jobs' results, in their order, whoever does them; not more than FLYING at a time, or one larger job."""
    if crew is None:
        yield from (do(job.batch) for job in jobs)
        return
    flying = ahead = 0

    def begin(place: int) -> None:
        nonlocal flying
        job = jobs[place]
        job.begun = True
        flying += job.cost
        if job.cost:
            crew.begin(place)
        else:  # there is nothing to wait for in it
            _do(job, do)

    large = sorted((place for place, job in enumerate(jobs) if job.cost >= LARGE), key=lambda place: -jobs[place].cost)
    for place in large:
        if flying + jobs[place].cost <= EARLY:
            begin(place)
    for place, job in enumerate(jobs):
        while ahead < len(jobs) and (ahead <= place or flying + jobs[ahead].cost <= FLYING):
            if not jobs[ahead].begun:
                begin(ahead)
            ahead += 1
        while job.result is None and job.error is None:
            crew.wait()
        if job.error:
            raise job.error
        assert job.result
        yield job.result
        flying -= job.cost
        job.result = None


def _do(job: _Job, do: Do) -> None:
    try:
        job.result = do(job.batch)
    except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
        job.error = error


@contextlib.contextmanager
def _crew(jobs: list[_Job], do: Do) -> Iterator[_Crew | None]:
    """Who does the jobs: nobody but the caller where it is not worth more, else as many as there are cores.

    Processes are faster for small files: two threads lose a third of their time in handing the interpreter's lock to
    and fro. But a process with threads (several functions are built side by side) must not fork, nor one on macOS.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1 or sum(job.cost for job in jobs) < WORTH:
        yield None
        return
    fork = sys.platform == "linux" and threading.active_count() == 1
    crew: _Crew
    try:
        crew = (_Processes if fork else _Threads)(jobs, do, min(cores, 8))
    except OSError:  # a container may allow no more processes
        crew = _Threads(jobs, do, min(cores, 8))
    try:
        yield crew
    finally:
        crew.end()


class _Crew(Protocol):
    def begin(self, place: int) -> None: ...
    def wait(self) -> None: ...  # until one job more is done
    def end(self) -> None: ...  # whatever is done or not


class _Threads:
    def __init__(self, jobs: list[_Job], do: Do, count: int) -> None:
        self._todo: SimpleQueue[int | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._stopped = False

        def work() -> None:
            while (place := self._todo.get()) is not None:
                if not self._stopped:
                    _do(jobs[place], do)
                self._done.put(None)

        self._threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def begin(self, place: int) -> None:
        self._todo.put(place)

    def wait(self) -> None:
        self._done.get()

    def end(self) -> None:
        self._stopped = True
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()


class _Processes:
    """Forks, which know all jobs, beside this process, which works too: a core for each.

    A fork takes a job's number from one pipe and answers into one of its own: the number, the length, and marshalled
    (entries, pieces), or (what, next) of what went wrong. They have a job ahead each, so that none waits for this one.
    """

    def __init__(self, jobs: list[_Job], do: Do, count: int) -> None:
        self._jobs, self._do = jobs, do
        self._todo: deque[int] = deque()
        self._given: set[int] = set()
        take, self._give = os.pipe()
        self._answers: list[int] = []
        self._buffer = bytearray(BLOCK)  # one for all: memory that is new costs more than what is read into it
        self._processes: list[int] = []
        self._poll = select.poll()
        for _ in range(count - 1):
            read, write_ = os.pipe()
            _widen(write_)
            try:
                process = os.fork()
            except OSError:
                for each in (take, read, write_):
                    os.close(each)
                self.end()
                raise
            if process == 0:
                try:
                    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end is theirs
                    gc.disable()
                    for other in (self._give, read, *self._answers):
                        os.close(other)
                    _answer(jobs, do, take, write_)
                finally:
                    os._exit(0)
            os.close(write_)
            self._answers.append(read)
            self._processes.append(process)
            self._poll.register(read, select.POLLIN)
        os.close(take)

    def begin(self, place: int) -> None:
        self._todo.append(place)
        self._give_out()

    def _give_out(self) -> None:
        while self._todo and len(self._given) < 2 * len(self._processes):
            self._given.add(place := self._todo.popleft())
            try:
                os.write(self._give, place.to_bytes(4, "little"))
            except BrokenPipeError:
                raise _ended_from_outside() from None

    def wait(self) -> None:
        if not (answers := self._poll.poll(0)):
            if (own := self._own()) is not None:
                _do(self._jobs[own], self._do)
                return
            answers = self._poll.poll()
        for pipe, _ in answers:
            head = bytes(self._read(pipe, 12))
            with self._read(pipe, int.from_bytes(head[4:], "little")) as answer:
                self._take(int.from_bytes(head[:4], "little"), *marshal.loads(answer))
        self._give_out()

    def _own(self) -> int | None:
        """A job for this process, which is done before the others have nothing more to do."""
        least = min(self._todo, key=lambda place: self._jobs[place].cost, default=None)
        ahead = sum(self._jobs[place].cost for place in self._given) / len(self._processes)
        place = next((each for each in self._todo if self._jobs[each].cost <= ahead), least)
        if place is not None:
            self._todo.remove(place)
        return place

    def _read(self, pipe: int, length: int) -> memoryview:
        if length > len(self._buffer):
            self._buffer = bytearray(length)
        whole = memoryview(self._buffer)[:length]
        left = whole
        while left:
            if not (read := os.readv(pipe, [left])):
                raise _ended_from_outside()
            left = left[read:]
        return whole

    def _take(self, place: int, first: Any, second: Any) -> None:
        self._given.remove(place)
        job = self._jobs[place]
        if isinstance(first, str):
            job.error = BuildFailed(first, next=second)
        else:
            job.result = _Result(list(itertools.starmap(Entry, first)), second)

    def end(self) -> None:
        os.close(self._give)
        for read in self._answers:
            os.close(read)  # whoever still writes to it ends, too
        for process in self._processes:
            os.waitpid(process, 0)


def _widen(pipe: int) -> None:
    """Room for a few answers: who compresses should not wait for who writes."""
    import fcntl

    with contextlib.suppress(OSError):  # a user's pipes may together be limited
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, BLOCK)


def _ended_from_outside() -> BuildFailed:
    return BuildFailed("a process that compresses was ended from outside", next="Build again.")


def _answer(jobs: list[_Job], do: Do, take: int, to: int) -> None:
    """The life of a forked process."""
    while place := os.read(take, 4):
        job = jobs[int.from_bytes(place, "little")]
        _do(job, do)
        if job.result:
            answer = marshal.dumps(([tuple(entry) for entry in job.result.entries], job.result.pieces))
        elif isinstance(job.error, BuildFailed):
            answer = marshal.dumps((job.error.what, job.error.next))
        else:
            answer = marshal.dumps((f"compressing failed: {job.error!r}", ""))
        job.result = None
        head = place + len(answer).to_bytes(8, "little")
        left = memoryview(answer)[max(0, os.writev(to, [head, answer]) - len(head)) :]
        while left:
            left = left[os.write(to, left) :]
