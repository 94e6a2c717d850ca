"""Nothing outlives the server: a second process that ends every function process once the server is gone.

However the server dies, even by `kill -9`, the kernel closes its end of a pipe. The warden at the other end reads
end-of-file, kills the process groups it was told of, and removes the scratch folder. PR_SET_PDEATHSIG would not do: it
is Linux only, reaches the child but not the grandchildren, and fires when the *thread* that started the child ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


class Warden:
    """Holds the writing end. `watch` and `forget` cost one small write each."""

    def __init__(self, scratch: Path) -> None:
        reading, self._pipe = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(scratch)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C meant for the server must not end the warden first
        )
        os.close(reading)

    def watch(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        with suppress(BrokenPipeError):  # the warden was killed; the processes are still ended by close()
            os.write(self._pipe, line.encode())

    def dismiss(self) -> None:
        """The scratch folder goes too."""
        os.close(self._pipe)
        self._process.wait()


def stand_watch(scratch: Path) -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    stand_watch(Path(sys.argv[1]))
