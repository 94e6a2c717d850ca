"""A table on a terminal that is redrawn in place: one line for each function of a release."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pointsman.world import Progress

_UNDER_WAY = ("building", "looking", "proving", "moving", "moving back")


class Live:
    """`draw` as often as you like; `lift` takes the table away, for lines to be printed in its place."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.drawn: list[str] = []
        self.ended: dict[str, float] = {}

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
            if row.phase in _UNDER_WAY:
                self.ended.pop(row.function, None)
            until = now if row.phase in _UNDER_WAY else self.ended.setdefault(row.function, now)
            passed = f"{until - row.since:.1f}s" if row.since else ""
            doing = row.doing if row.phase in _UNDER_WAY else ""
            lines.append(f"{row.function:<{name}}  {row.phase:<11}  {row.version or '-':<7}  {passed:>6}  {doing}")
        return [line.rstrip()[:width] for line in lines]
