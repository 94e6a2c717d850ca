"""Schedules fire: one task waits for what is due next, by AWS's clock, which may run faster than this machine's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from pointsman.localaws.recurrence import Recurrence

_THREADS: Final = 4
_LATE_S: Final = 60.0
_LONGEST_WAIT_S: Final = 60.0
_END: Final = 253_370_764_800.0  # the year 9999, where Python's calendar ends: a clock may be hurried that far

T = TypeVar("T")

log: Final = logging.getLogger(__name__)


class Timetable:
    """What is due when. `now` is this machine's clock; AWS's is the same, but while time passes at another speed.

    Nothing is made up for: what was due while nobody looked (this machine slept, or we were not running) is left out.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since = now(), now(), 1.0  # one moment, by this machine's clock and by AWS's; how fast AWS's goes since
        self._due: dict[str, tuple[Recurrence, float | None]] = {}

    def moment(self, ahead_s: float = 0.0) -> float:
        """AWS's time, so many of this machine's seconds from now. From whatever thread."""
        here, there, speed = self._since
        return min(there + (self._now() + ahead_s - here) * speed, _END)

    def hurry(self, speed: float) -> None:
        """From now on time passes so fast. At AWS's own speed the two clocks agree again, whatever came before."""
        if speed == self._since[2]:
            return
        now = self._now()
        self._since = now, now if speed == 1 else self.moment(), speed
        if speed == 1:
            moment = self.moment()
            # What will never be due again was done: an at() must not come a second time.
            self._due = {
                key: (each, None if due is None else each.next(moment)) for key, (each, due) in self._due.items()
            }

    def follow(self, recurrences: Mapping[str, Recurrence]) -> None:
        """These are in force, and no others."""
        moment = self.moment()
        self._due = {
            key: known if (known := self._due.get(key)) and known[0] == each else (each, each.next(moment))
            for key, each in recurrences.items()
        }

    def take_due(self) -> list[tuple[str, float]]:
        """(what is due now, since when by AWS's clock); each is due again at its next time after now."""
        moment = self.moment()
        taken = [(key, due) for key, (_, due) in self._due.items() if due is not None and due <= moment]
        for key, _ in taken:
            recurrence = self._due[key][0]
            self._due[key] = recurrence, recurrence.next(moment)
        return [(key, due) for key, due in taken if moment - due <= _LATE_S * self._since[2]]

    def left_s(self) -> float | None:
        """How many of this machine's seconds until something is due; None: nothing ever will be."""
        soonest = min((due for _, due in self._due.values() if due is not None), default=None)
        return None if soonest is None else max(0.0, (soonest - self.moment()) / self._since[2])


class Source(Protocol):
    """Where schedules are kept. Both may block, and are called in threads."""

    def recurrences(self) -> Mapping[str, Recurrence]: ...
    def fire(self, key: str, at: float) -> None:
        """Do what is due, if it still is in force."""
        ...


class Schedules:
    """Fires what `source` has. Made and closed on the event loop; told of changes from any thread."""

    def __init__(self, source: Source, timetable: Timetable, speed: Callable[[], float]) -> None:
        self._source = source
        self._timetable = timetable
        self._speed = speed
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._stale = False
        self._threads = ThreadPoolExecutor(_THREADS, "schedules")
        self._task = self._loop.create_task(self._run())

    def changed(self) -> None:
        """There are other schedules now."""

        def look_again() -> None:
            self._stale = True
            self._woken.set()

        self._soon(look_again)

    def paced(self) -> None:
        """Time passes at another speed now."""
        self._soon(self._woken.set)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _soon(self, call: Callable[[], Any]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            self._timetable.hurry(self._speed())
            if self._stale:
                self._stale = False
                if (found := await self._ask(self._source.recurrences)) is not None:
                    self._timetable.follow(found)
            # All at once, but none again before it is done: what is slow to reach must not pile up.
            due = self._timetable.take_due()
            await asyncio.gather(*(self._ask(partial(self._source.fire, key, at)) for key, at in due))
            left = self._timetable.left_s()
            with contextlib.suppress(TimeoutError):
                # The loop's clock stands still while this machine sleeps: look at the other one now and then.
                await asyncio.wait_for(self._woken.wait(), None if left is None else min(left, _LONGEST_WAIT_S))

    async def _ask(self, work: Callable[[], T]) -> T | None:
        """In a thread, for moto may still be loading. None when it failed: the others go on."""
        try:
            return await self._loop.run_in_executor(self._threads, work)
        except Exception:
            log.exception("a schedule failed")
            return None
