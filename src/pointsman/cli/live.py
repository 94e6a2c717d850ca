"""A table on a terminal that is redrawn in place: one line for each function of a release."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pointsman.world import Progress


class Live:
    """`draw` as often as you like; `lift` takes the table away, for lines to be printed in its place."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.drawn: list[str] = []

    def draw(self, rows: Sequence[Progress], now: float) -> None:
        lines = self._lines(rows, now)
        if lines != self.drawn:
            self.lift()
            self.out.write("".join(f"{line}\n" for line in lines))
            self.out.flush()
            self.drawn = lines

    def lift(self) -> None:
        if self.drawn:
            self.out.write(f"\033[{len(self.drawn)}F\033[J")  # up to the table's first line, and clear from there
            self.out.flush()
            self.drawn = []

    def _lines(self, rows: Sequence[Progress], now: float) -> list[str]:
        width = shutil.get_terminal_size().columns - 1  # a line that wraps would be two lines to go up
        name = max(len("function"), *(len(row.function) for row in rows))
        lines = [f"{'FUNCTION':<{name}}  {'PHASE':<11}  {'VERSION':<7}  {'TIME':>6}"]
        for row in rows:
            passed = f"{(row.ended or now) - row.began:.1f}s" if row.began else ""
            lines.append(f"{row.function:<{name}}  {row.phase:<11}  {row.version or '-':<7}  {passed:>6}  {row.doing}")
        return [line.rstrip()[:width] for line in lines]
