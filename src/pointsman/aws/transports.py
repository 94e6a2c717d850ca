"""Wrappers around one `send`: each adds one thing, and knows nothing of the others.

`World` puts them together, inside out: wire, Faults (tests), Count, Journal or ReadOnly, Declared, Halt, Throttle,
Retry.
What several functions' calls share (Count, the Throttles' budget) may be used by many threads at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from pointsman.aws.budget import Allowance
from pointsman.aws.operation import Operation, R, Transport
from pointsman.errors import Ambiguous, AwsError, Interrupted, PointsmanError, Throttled, Unreachable, UsageError

_READS = 3  # attempts, where the answer was lost


class Clock(Protocol):
    """`now` in epoch seconds, `sleep` in seconds. Tests pass one whose time they move."""

    def now(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class Call(NamedTuple):
    """One call as `--json` shows it."""

    service: str
    action: str
    ms: float
    mutates: bool


class Count:
    """Keeps every call that was sent, the ones that failed too."""

    def __init__(self, inner: Transport, clock: Callable[[], float]) -> None:
        self.inner = inner
        self.clock = clock
        self.calls: list[Call] = []

    def send(self, operation: Operation[R]) -> R:
        begun = self.clock()
        try:
            return self.inner.send(operation)
        finally:
            ms = round((self.clock() - begun) * 1000, 1)
            self.calls.append(Call(operation.service, operation.action, ms, operation.mutates))


class Sink(Protocol):
    """Where `Journal` writes. `intended` must be durable before it returns; if it raises, the call is not made."""

    def intended(self, action: str, subject: str) -> int: ...
    def settled(self, intent: int, outcome: str) -> None: ...


class Journal:
    """Writes the intent of every mutating call before it, and its outcome after it."""

    def __init__(self, inner: Transport, sink: Sink) -> None:
        self.inner = inner
        self.sink = sink

    def send(self, operation: Operation[R]) -> R:
        if not operation.mutates:
            return self.inner.send(operation)
        intent = self.sink.intended(f"{operation.service}:{operation.action}", operation.subject)
        try:
            reply = self.inner.send(operation)
        except AwsError as error:
            self.sink.settled(intent, error.code)
            raise
        self.sink.settled(intent, "done")
        return reply


class Declared:
    """Sends nothing that mutates before `check` returned once: it raises where these are another account's credentials.

    Commands ask themselves as soon as an ARN tells them, which costs no call; what they forget ends here.
    """

    def __init__(self, inner: Transport, check: Callable[[Transport], None]) -> None:
        self.inner = inner
        self.check = check
        self.checked = False

    def send(self, operation: Operation[R]) -> R:
        if operation.mutates and not self.checked:
            self.check(self.inner)
            self.checked = True
        return self.inner.send(operation)


class ReadOnly:
    """Refuses everything that mutates: the proof that planning only looks."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    def send(self, operation: Operation[R]) -> R:
        if operation.mutates:
            raise UsageError(f"{operation} changes something, and this command only looks")
        return self.inner.send(operation)


class Throttle:
    """Sends each call when the account's budget has room for it, and lets AWS's throttles teach that budget.

    `tell` hears how many calls a second are left, where AWS lets fewer through.
    """

    def __init__(
        self,
        inner: Transport,
        clock: Clock,
        allowance: Allowance,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.inner = inner
        self.clock = clock
        self.allowance = allowance
        self.tell = tell

    def send(self, operation: Operation[R]) -> R:
        budget = self.allowance.budget
        sent = budget.book(operation, self.clock.now())
        if (wait := sent - self.clock.now()) > 0:
            self.clock.sleep(wait)
        try:
            reply = self.inner.send(operation)
        except Throttled:
            if (rate := budget.throttled(operation, sent, self.clock.now())) is not None:
                self.tell(f"AWS throttles, for others use this account, too: going on with {rate:.2g} calls a second")
            raise
        budget.answered(operation, self.clock.now())
        self.allowance.learn(reply)
        return reply

    def heard(self, operation: Operation[R]) -> float:
        return self.allowance.budget.heard(operation)


class Waking:
    """A clock whose sleepers wake as soon as `halted` says so: Ctrl-C must not wait for a busy account."""

    def __init__(self, clock: Clock, halted: Callable[[], bool]) -> None:
        self.clock = clock
        self.halted = halted

    def now(self) -> float:
        return self.clock.now()

    def sleep(self, seconds: float) -> None:
        while seconds > 0:
            if self.halted():
                raise Interrupted("interrupted")
            self.clock.sleep(min(seconds, 0.2))
            seconds -= 0.2


class Halt:
    """Sends nothing more once `halted` says so: how threads learn of a Ctrl-C, between two calls and never within."""

    def __init__(self, inner: Transport, halted: Callable[[], bool]) -> None:
        self.inner = inner
        self.halted = halted

    def send(self, operation: Operation[R]) -> R:
        if self.halted():
            raise Interrupted("interrupted", where=str(operation))
        return self.inner.send(operation)


class Retry:
    """Again, later: after a throttle always, after a lost answer only what does not mutate.

    A throttled call has not been carried out. A mutating call whose answer was lost may have been: that is for
    `execute` to find out by reading, never for a retry. Full jitter: delay uniform in (0, base * 2^n], at most 8 s.
    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/

    Throttles are borne for so long as AWS takes such calls at all: they end with an error only after `attempts`, and
    when `heard` (when did it last take one?) is longer ago than `patience_s`.
    """

    def __init__(
        self,
        inner: Transport,
        clock: Clock,
        draw: Callable[[], float],
        *,
        attempts: int = 8,
        patience_s: float = 0.0,
        heard: Callable[[Operation[Any]], float] = lambda _operation: -math.inf,
    ) -> None:
        self.inner = inner
        self.clock = clock
        self.draw = draw
        self.attempts = attempts
        self.patience_s = patience_s
        self.heard = heard

    def send(self, operation: Operation[R]) -> R:
        began, lost = self.clock.now(), 0
        for attempt in itertools.count(1):
            try:
                return self.inner.send(operation)
            except Throttled:
                silent = self.clock.now() - max(began, self.heard(operation))
                if attempt >= self.attempts and silent >= self.patience_s:
                    break
            except (Ambiguous, Unreachable):
                lost += 1
                if operation.mutates or lost >= _READS:
                    raise
            self.clock.sleep(self.draw() * min(8.0, 0.2 * 2 ** min(attempt - 1, 8)))
        raise Throttled(
            f"AWS still throttles after {attempt} attempts",
            where=str(operation),
            next="Something else uses up the account's control-plane calls (about 15 a second). Try again later.",
        )


class Faults:
    """Breaks chosen calls, counted from 0: for rehearsals of bad luck. `before` and `after` get the call's number.

    `before(n)` may raise instead of sending; `after(n)` may raise although the call took effect.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        before: Callable[[int, str], PointsmanError | None] = lambda _n, _action: None,
        after: Callable[[int, str], PointsmanError | None] = lambda _n, _action: None,
    ) -> None:
        self.inner = inner
        self.before = before
        self.after = after
        self.count = 0

    def send(self, operation: Operation[R]) -> R:
        number, self.count = self.count, self.count + 1
        if error := self.before(number, operation.action):
            raise error
        reply = self.inner.send(operation)
        if error := self.after(number, operation.action):
            raise error
        return reply
