"""Where a ledger may lie: a file, or a table with as many machines around it as a test wants."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

from pointsman.aws.dynamodb import Table
from pointsman.aws.operation import Transport
from pointsman.aws.transports import Call, Count, Retry
from pointsman.aws.wire import Wire
from pointsman.ledger import Ledger
from pointsman.ledger.team import TeamLedger
from tests.fakes import FakeClock

TABLE = "ledgers"
Wrap = Callable[[Transport], Transport]


class File:
    """`ledger.db` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.db"
        self.damaged = self.path  # what to damage

    def opened(self, *, now: Callable[[], float] | None = None) -> Ledger:
        return Ledger(self.path, now=now or ticking())

    def variables(self) -> dict[str, str]:
        """For `from_variables` in another process."""
        return {"PLACE": str(self.path.parent)}


class Machines:
    """One ledger of the table; each machine is a folder with a mirror. AWS_ variables say where the table is."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.wire = Wire()
        self.calls: list[Call] = []
        self.path = self.damaged = self.mirror("one")

    def mirror(self, machine: str) -> Path:
        return self.folder / machine / "mirror.db"

    def table(self, wrap: Wrap = lambda inner: inner) -> Table:
        count = Count(wrap(self.wire), time.perf_counter)
        count.calls = self.calls
        return Table(Retry(count, FakeClock(), lambda: 0.5), TABLE)

    def opened(
        self,
        machine: str = "one",
        *,
        now: Callable[[], float] | None = None,
        wrap: Wrap = lambda inner: inner,
        keep_days: int | None = None,
    ) -> TeamLedger:
        return TeamLedger(
            *(self.table(wrap), self.name, self.mirror(machine)),
            now=now or ticking(),
            sleep=lambda seconds: time.sleep(min(seconds, 0.01)),  # others are writing: let them
            draw=lambda: 0.5,
            keep_days=keep_days,
        )

    def variables(self) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        return {"PLACE": str(self.folder), "LEDGER": self.name, **given}


def from_variables() -> Ledger:
    folder = Path(os.environ["PLACE"])
    if "LEDGER" in os.environ:
        return Machines(folder, os.environ["LEDGER"]).opened(now=lambda: 1.0)
    return File(folder).opened(now=lambda: 1.0)


def ticking() -> Callable[[], float]:
    ticks = itertools.count(1_700_000_000)
    return lambda: float(next(ticks))
