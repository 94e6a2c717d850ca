"""Wrappers around one `send`: each adds one thing, and knows nothing of the others.

`World` puts them together, inside out: wire, Faults (tests), Count, Throttle, Journal or ReadOnly, Declared, Halt,
Retry.
Those that several functions' calls share (Count, Throttle) may be used by many threads at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from pointsman.aws.operation import Operation, R, Transport
from pointsman.errors import Ambiguous, AwsError, Interrupted, PointsmanError, Throttled, Unreachable, UsageError


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
    """At most `per_second` calls in any second: Lambda's control plane allows 15 for a whole account and region.

    CloudWatch has limits of its own: watching a rollout never holds up what moves it.

    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html#api-requests
    """

    def __init__(self, inner: Transport, clock: Clock, *, per_second: int = 15) -> None:
        self.inner = inner
        self.clock = clock
        self.sent: list[float] = []  # when calls were or will be sent, the newest last
        self.per_second = per_second
        self._lock = threading.Lock()

    def send(self, operation: Operation[R]) -> R:
        wait = 0.0 if operation.service == "cloudwatch" else self._book()
        if wait > 0:
            self.clock.sleep(wait)
        return self.inner.send(operation)

    def _book(self) -> float:
        """Takes the next free moment, and says how many seconds that is from now: each caller waits by itself."""
        with self._lock:
            now = self.clock.now()
            # A clock that was set back must not keep calls waiting for a time that is long in coming.
            furthest = now + 1 + len(self.sent) / self.per_second
            self.sent = [at for at in self.sent if now - 1 < at <= furthest]
            full = len(self.sent) >= self.per_second
            at = max(now, self.sent[-self.per_second] + 1) if full else max([now, *self.sent[-1:]])
            self.sent.append(at)
            return at - now


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
    """

    def __init__(self, inner: Transport, clock: Clock, draw: Callable[[], float], *, attempts: int = 8) -> None:
        self.inner = inner
        self.clock = clock
        self.draw = draw
        self.attempts = attempts

    def send(self, operation: Operation[R]) -> R:
        for attempt in range(self.attempts):
            try:
                return self.inner.send(operation)
            except Throttled:
                left = self.attempts - 1 - attempt
            except (Ambiguous, Unreachable):
                left = 2 - attempt if not operation.mutates else 0
                if left <= 0:
                    raise
            if left <= 0:
                break
            self.clock.sleep(self.draw() * min(8.0, 0.2 * 2**attempt))
        raise Throttled(
            f"AWS still throttles after {self.attempts} attempts",
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
