"""A function process and everything it starts: one session, one pipe for all its output, one notice of its end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_PIPE = 1 << 16  # bytes a pipe holds: one read empties it


class Process:
    """Started on construction, which raises OSError when it cannot be. `exited` is told the exit code, once.

    A `launcher` (own_opt) goes before and becomes the command; so it gets the variables as they mean nothing to it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        launcher: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        framed: bool,
        output: Callable[[bytes], None],
        exited: Callable[[int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._output = output
        self._exited = exited
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        if framed:
            environment = {**environment, "_LAMBDA_TELEMETRY_LOG_FD": str(theirs)}
        if launcher:
            environment = {f"x{name}": value for name, value in environment.items()}
        try:
            # stdout and stderr share the pipe, and so do log frames: the order of the lines is the order of writing
            self._popen = subprocess.Popen(
                [*launcher, *argv],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)
        self.pid = self._popen.pid
        self._statm = _open(f"/proc/{self.pid}/statm")
        self._loop.add_reader(self._pipe, self.drain)
        self._attend()

    def drain(self) -> None:
        """Hand over what is in the pipe now; after this, all that was written before an answer is known."""
        with suppress(BlockingIOError):
            chunk = os.read(self._pipe, _PIPE)
            if chunk:
                self._output(chunk)
            else:  # closed by the process itself; its end is told apart from this
                self._loop.remove_reader(self._pipe)

    def kill(self) -> None:
        """End the whole group. Safe at any time: an unreaped leader keeps its number from being used again."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def resident_mb(self) -> float:
        """Megabytes the leader holds now; 0 where there is no /proc. One cheap read."""
        if self._statm is None:
            return 0.0
        try:
            return int(os.pread(self._statm, 64, 0).split()[1]) * _PAGE_MB
        except (OSError, IndexError):  # it is just ending
            return 0.0

    def tree_resident_mb(self) -> float:
        """The same with everything it has started; pages that forked processes share are counted once."""
        descendants = _descendants(self.pid)
        return sum(map(_share_mb, [self.pid, *descendants])) if descendants else self.resident_mb()

    def _attend(self) -> None:
        try:
            pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or forbidden by a sandbox
            threading.Thread(target=self._wait, daemon=True).start()
            return

        def readable() -> None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
            self._reap()

        self._loop.add_reader(pidfd, readable)

    def _wait(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop is closed, and so is everything
            self._loop.call_soon_threadsafe(self._reap)

    def _reap(self) -> None:
        self.kill()  # what the leader left behind; its number is ours until the wait below
        code = self._popen.wait()
        self.drain()
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None
        self._exited(code)


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None


def _share_mb(pid: int) -> float:
    try:
        found = re.search(rb"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_bytes(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):  # a thread or the process may end meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_bytes().split())
    return children + [deeper for child in children for deeper in _descendants(child)]
