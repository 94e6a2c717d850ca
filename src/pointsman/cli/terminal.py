"""What a person or a program sees: sentences, tables, progress; or one JSON document. Colour only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from pointsman.errors import PointsmanError
from pointsman.model import Gauge, plain

if TYPE_CHECKING:
    from pointsman.cli.live import Live
    from pointsman.cli.rollout_view import View
    from pointsman.world import Progress

SCHEMA = 1
_NARROW = 8  # narrower no column is made


class OutputLost(OSError):
    """Standard output takes no more: its disk is full, say. Not to be taken for a file of ours."""


class Screen:
    """`groups`: a log that folds, as GitHub's does: tests' own output goes into a group under what was said last."""

    def __init__(self, *, out: TextIO, err: TextIO, json: bool, verbose: bool, groups: bool = False) -> None:
        self.out = out
        self.err = err
        self.json = json
        self.verbose = verbose
        self.groups = groups
        self._said = ""
        self._gauge = False  # whether that is what the last line was
        self._open = False
        self.calls: list[Any] = []
        self.ledger: Callable[[], dict[str, int] | None] = lambda: None
        self.began = time.monotonic()
        self._live: Live | None = None
        self._line = False  # whether a line that will be redrawn stands last
        self.view: View | None = None  # of a rollout; lines are printed above it

    @property
    def colour(self) -> bool:
        import os

        return self.out.isatty() and "NO_COLOR" not in os.environ

    @property
    def progress(self) -> bool:
        """Whether to tell what is going on: on a terminal always, piped only when asked."""
        return self.verbose or (self.err.isatty() and not self.json)

    @property
    def lively(self) -> bool:
        """Whether lines may be redrawn; told everything (-v), people get it line by line."""
        import os

        return self.err.isatty() and not self.json and not self.verbose and os.environ.get("TERM") != "dumb"

    def board(self, rows: Sequence[Progress], now: float) -> None:
        """How far the functions of a release are: a table in place of the one before."""
        if self._live is None:
            from pointsman.cli.live import Live

            self._live = Live(self.err)
        self._live.draw(rows, now)

    def board_is_final(self) -> None:
        """What follows says it all; while something fails, the table stays to show where."""
        if self._live:
            self._live.lift()
            self._live = None

    def line(self, text: str) -> None:
        """One line that is redrawn, under all that was said; "" takes it away."""
        import shutil

        if text or self._line:
            shown = text[: shutil.get_terminal_size().columns - 1]  # one that wraps could not be written over
            self.err.write(f"\r\033[K{shown}")
            self.err.flush()
        self._line = bool(text)

    def say(self, line: str) -> None:
        if self._live is not None:
            return  # the table tells it, in the function's line
        if self.progress:
            self._close()
            self.line("")
            if self.view:
                self.view.lift()
            self._said = line
            passed = time.monotonic() - self.began
            again = "\033[F\033[K" if self._gauge and isinstance(line, Gauge) and self.lively else ""
            print(f"{again}{passed:6.1f}s  {line}", file=self.err, flush=True)
            self._gauge = isinstance(line, Gauge)

    def show(self, line: str) -> None:
        """What must have been seen before it is done: also when piped, where the rest of the progress is left out."""
        if self.progress:
            self.say(line)
        else:
            print(line, file=self.err, flush=True)

    def echo(self, line: str) -> None:
        """A line of a test's own output, as it comes."""
        if self.progress and self._live is None:
            if self.groups and not self._open:
                self._open = True
                print(f"::group::{self._said}", file=self.err)
            print(f"         | {line.rstrip()}", file=self.err, flush=True)
            self._gauge = False

    def _close(self) -> None:
        if self._open:
            self._open = False
            print("::endgroup::", file=self.err)

    def ask(self, question: str) -> bool:
        self.line("")
        self._live = None  # the table stays above the question, and another is begun below
        if self.view:
            self.view.lift()
        print(f"{question} [y/N] ", end="", file=self.err, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def answer(self, question: str) -> str:
        """The same, answered in words."""
        self._live = None
        if self.view:
            self.view.lift()
        print(f"{question}: ", end="", file=self.err, flush=True)
        return sys.stdin.readline().strip()

    @property
    def can_ask(self) -> bool:
        return sys.stdin is not None and sys.stdin.isatty() and self.err.isatty() and not self.json

    def print(self, text: str = "") -> None:
        self.put(f"{text}\n")

    def put(self, text: str) -> None:
        """As it is. Raises OutputLost, or BrokenPipeError where its reader went away."""
        try:
            self.out.write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLost(error.errno, error.strerror) from error

    def warn(self, text: str) -> None:
        """What stops nothing and should be known: beside the result, not in it."""
        print(f"warning: {text}", file=self.err)

    def bold(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self.colour else text

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, cut: Sequence[int] = ()) -> None:
        """`cut`: columns that give way, the widest first, where a terminal is too narrow for all."""
        if not rows:
            return
        widths = [max(len(str(row[i])) for row in (head, *rows)) for i in range(len(head))]
        room = self.columns - 2 * (len(head) - 1)
        while cut and sum(widths) > room and (most := max(widths[i] for i in cut)) > _NARROW:
            widths[next(i for i in cut if widths[i] == most)] -= 1

        def told(cells: Sequence[str]) -> str:
            return "  ".join(_cut(str(cell), width).ljust(width) for cell, width in zip(cells, widths, strict=True))

        self.print(self.bold(told([name.upper() for name in head]).rstrip()))
        for row in rows:
            self.print(told(row).rstrip())

    @property
    def columns(self) -> int:
        """How wide a line may be: piped, as wide as it is."""
        import shutil

        return shutil.get_terminal_size().columns if self.out.isatty() else 10_000

    # The one JSON document

    def result(self, result: object, *, ok: bool = True) -> None:
        if self.json:
            self._document({"schema": SCHEMA, "ok": ok, "result": plain(result), **self._costs()})

    def failed(self, error: PointsmanError) -> None:
        self._close()
        self.line("")
        if self.json:
            notes = {"notes": notes} if (notes := getattr(error, "__notes__", [])) else {}
            facts = {"schema": SCHEMA, "ok": False, "result": None, "error": {**plain(error.facts()), **notes}}
            self._document({**facts, **self._costs()})
            return
        head = f"{error.where}: {error.what}" if error.where else error.what
        print(f"pointsman: {head}", file=self.err)
        for line in (error.next, *getattr(error, "__notes__", ())):
            if line:
                print(line, file=self.err)

    def _costs(self) -> dict[str, object]:
        """The calls of the release; and, where the ledger is a table, what that took."""
        kept = self.ledger()
        writes = sum(call.mutates for call in self.calls)
        listed = [{"service": call.service, "action": call.action, "ms": call.ms} for call in self.calls]
        calls = {"reads": len(self.calls) - writes, "writes": writes, "list": listed}
        return {"calls": calls, **({"ledger": kept} if kept else {})}

    def _document(self, document: dict[str, object]) -> None:
        self.put(f"{msgspec.json.encode(document).decode()}\n")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def ago(seconds: float) -> str:
    """A length of time in its largest unit: "12 s", "5 min", "3 h", "8 days"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size * (2 if unit == "days" else 1):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def at(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
