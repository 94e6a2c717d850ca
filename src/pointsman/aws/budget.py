"""How many calls a second an account and region bear: as AWS documents it, and as its throttles tell.

Lambda's control plane takes 15 calls a second of all callers together, GetFunction has 100 of its own and GetPolicy 15;
calls of functions and of data (S3, CloudWatch …) are not counted there.
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html#api-requests

Others use the account, too. A throttle says so: we slow down by a third at once, and come back little by little. Two
who do so end with the same share each, and nobody has to know of anybody (additive increase, multiplicative decrease:
Chiu & Jain, Analysis of the increase and decrease algorithms for congestion avoidance in computer networks, 1989).
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Any

from pointsman.aws.operation import Operation
from pointsman.model import Alias, Configuration, FunctionArn

LAMBDA = 15.0
_OTHERS = 10.0  # a service whose limit is not told: API Gateway's, one of the lowest
_APART = {"GetFunction": 100.0, "GetPolicy": 15.0}
_DATA_PLANE = {"Invoke", "InvokeAsync", "InvokeWithResponseStream"}
_DATA = frozenset({"cloudwatch", "dynamodb", "logs", "s3", "sqs", "kinesis"})

_SLOWER = 0.7
_FASTER = 0.5  # calls a second more, each second without a throttle
_LEAST = 1.0
_TELL_S = 15.0  # so seldom it is told that AWS lets fewer calls through


def lane_of(operation: Operation[Any]) -> tuple[str, float]:
    """(which calls share a limit with this one, how many a second that is: infinity where none is known)."""
    if operation.service in _DATA:
        return operation.service, math.inf
    if operation.service != "lambda":
        return operation.service, _OTHERS
    if operation.action in _DATA_PLANE:
        return "lambda:Invoke", math.inf
    if operation.action in _APART:
        return f"lambda:{operation.action}", _APART[operation.action]
    return "lambda", LAMBDA


class Lane:
    """Calls that share one limit. At most `rate` of them in any second, and evenly once they have to wait.

    Evenly: a burst after each second would meet AWS's own counting a moment too early or late, and be throttled.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self.rate = most
        self.sent: deque[float] = deque()  # when calls were or will be sent, the newest last
        self.slowed = -math.inf  # when AWS last said that it was too much
        self.heard = -math.inf  # when it last took a call
        self.told = -math.inf

    def book(self, now: float) -> float:
        """Takes the next free moment, and says when that is."""
        sent, rate = self.sent, self.rate
        burst = max(1, int(rate)) if math.isfinite(rate) else 0
        window = burst / rate
        # A clock that was set back must not keep calls waiting for a time that is long in coming.
        furthest = now + (max(window, 1.0) + len(sent) / rate)
        while sent and sent[-1] > furthest:
            sent.pop()
        while sent and sent[0] <= now - max(window, 1.0):
            sent.popleft()
        at = now
        if burst and sent and sent[-1] > now:  # others wait: after them
            at = sent[-1] + 1 / rate
        if burst and len(sent) >= burst:
            at = max(at, sent[-burst] + window)
        sent.append(at)
        return at

    def answered(self, now: float) -> None:
        self.heard = now
        if self.rate < self.most:
            self.rate = min(self.most, self.rate + max(_FASTER, self.rate / 30) / self.rate)

    def throttled(self, sent: float, now: float) -> bool:
        """Whether that made us slower: what was sent before we last slowed down says nothing new."""
        if sent <= self.slowed:
            return False
        tried = self.rate if math.isfinite(self.rate) else sum(now - 1 < at <= now for at in self.sent)
        self.rate = max(_LEAST, tried * _SLOWER)
        self.slowed = now
        return True


class Budget:
    """All lanes of one account and region, for many threads at once."""

    def __init__(self, *, per_second: float = LAMBDA) -> None:
        self.scale = per_second / LAMBDA
        self._lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()

    def lane(self, operation: Operation[Any]) -> Lane:
        name, most = lane_of(operation)
        if name not in self._lanes:
            self._lanes[name] = Lane(most * self.scale)
        return self._lanes[name]

    def book(self, operation: Operation[Any], now: float) -> float:
        """When this call may be sent. Each caller waits by itself."""
        with self._lock:
            return self.lane(operation).book(now)

    def answered(self, operation: Operation[Any], now: float) -> None:
        with self._lock:
            self.lane(operation).answered(now)

    def throttled(self, operation: Operation[Any], sent: float, now: float) -> float | None:
        """How many calls a second there are from now on, where that is fewer, and was not told just now."""
        with self._lock:
            lane = self.lane(operation)
            if not lane.throttled(sent, now) or now - lane.told < _TELL_S:
                return None
            lane.told = now
            return lane.rate

    def heard(self, operation: Operation[Any]) -> float:
        """When AWS last took such a call: while it does, waiting leads somewhere."""
        with self._lock:
            return self.lane(operation).heard


class Budgets:
    """One for each account and region. Those of which nobody told yet ("") share one, until an answer tells.

    `per_second`: calls of Lambda's control plane; GetFunction and the others get more or fewer in proportion.
    """

    def __init__(self, *, per_second: float = LAMBDA) -> None:
        self.per_second = per_second
        self._known: dict[tuple[str, str], Budget] = {}
        self._lock = threading.Lock()

    def of(self, account: str, region: str) -> Budget:
        with self._lock:
            return self._known.setdefault((account, region), self._made())

    def learned(self, budget: Budget, account: str, region: str) -> Budget:
        """The budget of this account, now that credentials which used `budget` proved to be its."""
        with self._lock:
            if (account, region) not in self._known:
                partly = next((key for key, each in self._known.items() if each is budget and "" in key), None)
                if partly:  # its calls were this account's all along
                    del self._known[partly]
                self._known[account, region] = budget if partly else self._made()
            return self._known[account, region]

    def _made(self) -> Budget:
        return Budget(per_second=self.per_second)


class Allowance:
    """What one set of credentials may use: its account's budget, as soon as it is known whose it is."""

    def __init__(self, budgets: Budgets, account: str, region: str) -> None:
        self._budgets = budgets
        self._settled = bool(account and region)
        self.budget = budgets.of(account, region)

    def learn(self, reply: object) -> None:
        if not self._settled and (arn := _arn_in(reply)):
            self._settled = True
            self.budget = self._budgets.learned(self.budget, arn.account, arn.region)


def _arn_in(reply: object) -> FunctionArn | None:
    match reply:
        case Configuration(arn=arn) | Alias(arn=arn):
            return arn
        case [first, *_]:
            return _arn_in(first)
        case _:
            return None


__all__ = ["LAMBDA", "Allowance", "Budget", "Budgets", "Lane", "lane_of"]
