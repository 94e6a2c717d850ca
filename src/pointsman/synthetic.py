"""Calls of our own, for functions that have too few: recorded events, sent to both versions by their number, in turn.

CloudWatch has no dimension for calls by a version's number, so the counts come from the replies: an error is the
function's own, a duration is Lambda's (REPORT, at the end of the log), or else ours. Calls that did not reach the
function, throttled or without an answer, are counted apart: they say nothing of a version.

They are real calls. What the function does, it does: writes, mails, money. An event should be one that may be handled
any number of times.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from pointsman.aws.gateway import Gateway
from pointsman.aws.invoking import Invoked
from pointsman.aws.transports import Clock
from pointsman.errors import PointsmanError, UsageError
from pointsman.model import FunctionArn, Value, Version, counted
from pointsman.world import Session

MOST_A_SECOND = 50.0
ABREAST = 10  # calls under way at most: a slow function gets fewer a second than asked for
LARGEST = 6 * 1024 * 1024
"""https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: the payload of a synchronous call."""

Side = Literal["baseline", "canary"]


class Calls(Value, frozen=True, kw_only=True):
    """Of one version in one bucket. `ms`: durations of those that were answered, errors too; `cold`: started for it."""

    calls: int = 0
    bad: int = 0
    cold: int = 0
    ms: tuple[float, ...] = ()


class Sent(Value, frozen=True, kw_only=True):
    """One bucket: from `at` (epoch seconds, a whole multiple of the period) on. `lost`: calls that tell nothing."""

    at: float
    baseline: Calls = Calls()
    canary: Calls = Calls()
    lost: int = 0


class Caller(Protocol):
    def invoke(self, function: str, qualifier: str, payload: bytes) -> Invoked: ...


def events(root: Path, *patterns: str) -> tuple[bytes, ...]:
    """What files of the patterns hold, in the order of their names. Raises UsageError for a wrong one, and for none."""
    found: list[bytes] = []
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        try:
            payload = path.read_bytes()
            json.loads(payload)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{path} is not an event: {error}", where="traffic", next="Each file is one JSON event."
            ) from error
        if len(payload) > LARGEST:
            raise UsageError(f"{path} is {len(payload)} bytes, and Lambda takes {LARGEST}", where="traffic")
        found.append(payload)
    if not found:
        raise UsageError(
            f"no file matches {' or '.join(patterns)} in {root}", where="traffic", next="Record an event as JSON there."
        )
    return tuple(found)


def turn(number: int, count: int) -> tuple[Side, int]:
    """Whom the call of that number goes to, and with which of `count` events: each event to both, one after the other.

    Who is first changes from event to event, so that neither is always called on what the other has warmed.
    """
    pair, second = divmod(number, 2)
    sides: tuple[Side, Side] = ("baseline", "canary")
    return sides[(pair + second) % 2], pair % count


def added(bucket: Sent, side: Side, invoked: Invoked | None, ms: float) -> Sent:
    """With one call more; `invoked` is None where the function was not reached, `ms` our own measure of it."""
    if invoked is None:
        return Sent(at=bucket.at, baseline=bucket.baseline, canary=bucket.canary, lost=bucket.lost + 1)
    was: Calls = bucket.baseline if side == "baseline" else bucket.canary
    calls = Calls(
        calls=was.calls + 1,
        bad=was.bad + bool(invoked.error),
        cold=was.cold + invoked.cold,
        ms=(*was.ms, ms if invoked.ms is None else invoked.ms),
    )
    return Sent(
        at=bucket.at,
        baseline=calls if side == "baseline" else bucket.baseline,
        canary=calls if side == "canary" else bucket.canary,
        lost=bucket.lost,
    )


class Synthetic:
    """`rate` calls a second, both versions together, from `start` to `stop`; `take` tells what came of them.

    Its threads die with the process, and sleep on an event: `stop` returns at once, and no call begins after it.
    """

    def __init__(
        self,
        gateway: Caller,
        arn: FunctionArn,
        *,
        baseline: Version,
        canary: Version,
        events: tuple[bytes, ...],
        rate: float,
        clock: Clock,
        period_s: float = 60.0,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not events or not 0 < rate <= MOST_A_SECOND:
            raise UsageError(
                f"{counted(len(events), 'event')} at {rate:g} calls a second: it takes at least one, "
                f"and more than 0 and at most {MOST_A_SECOND:g} a second",
                where="traffic",
            )
        self._gateway, self._name, self._clock, self._stopwatch = gateway, str(arn.name), clock, stopwatch
        self._versions: dict[Side, Version] = {"baseline": baseline, "canary": canary}
        self._events, self._rate, self._period_s = events, rate, period_s
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._number, self._next = 0, 0.0
        self._buckets: dict[float, Sent] = {}
        self._threads: list[threading.Thread] = []
        self.trouble = ""  # why the last call that was lost was lost

    def start(self) -> None:
        for number in range(ABREAST):
            thread = threading.Thread(target=self._work, name=f"traffic {number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def join(self, wait_s: float) -> bool:
        """Waits for calls under way, so long at most; whether all have ended."""
        until = self._stopwatch() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, until - self._stopwatch()))
        return not any(thread.is_alive() for thread in self._threads)

    def take(self, until: float) -> tuple[Sent, ...]:
        """The buckets that are over by `until`, each once, in order. A call belongs to when it ended."""
        now = min(until, self._clock.now())
        with self._lock:
            over = sorted(at for at in self._buckets if at + self._period_s <= now)
            return tuple(self._buckets.pop(at) for at in over)

    def _work(self) -> None:
        while not self._stopped.is_set():
            number, wait_s = self._book()
            if self._stopped.wait(wait_s):
                return
            self._call(number)

    def _book(self) -> tuple[int, float]:
        """The next call's number, and in how many seconds it is due. What is overdue is not caught up with."""
        with self._lock:
            now = self._clock.now()
            # A clock that was set back must not keep calls waiting for a time that is long in coming.
            at = min(max(self._next, now), now + ABREAST / self._rate)
            self._next = at + 1 / self._rate
            self._number += 1
            return self._number - 1, at - now

    def _call(self, number: int) -> None:
        side, event = turn(number, len(self._events))
        begun = self._stopwatch()
        invoked: Invoked | None = None
        trouble = ""
        try:
            invoked = self._gateway.invoke(self._name, self._versions[side], self._events[event])
        except PointsmanError as error:
            trouble = error.what
        ms = (self._stopwatch() - begun) * 1000
        with self._lock:
            at = self._clock.now() // self._period_s * self._period_s
            self._buckets[at] = added(self._buckets.get(at, Sent(at=at)), side, invoked, ms)
            self.trouble = trouble or self.trouble


def traffic(
    session: Session,
    arn: FunctionArn,
    baseline: Version,
    canary: Version,
    *,
    patterns: tuple[str, ...],
    rate: float,
    period_s: float,
) -> Synthetic:
    """Not begun yet. Its calls go past the session's chain: they share no budget of control-plane calls, and the
    ledger has no line for each of them."""
    recorded = events(session.source, *patterns)
    gateway = Gateway(session.wire)
    return Synthetic(
        gateway,
        arn,
        baseline=baseline,
        canary=canary,
        events=recorded,
        rate=rate,
        clock=session.world.clock,
        period_s=period_s,
    )


__all__ = ["Calls", "Sent", "Side", "Synthetic", "added", "events", "traffic", "turn"]
