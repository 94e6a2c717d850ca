"""Trouble on demand: what happens to a call, given rules, dice and a clock. Decides only; `trouble` carries it out."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, TypeAlias, assert_never

import msgspec
from msgspec import Meta

from pointsman.localaws.lambda_.store import Failure, Fate

Positive: TypeAlias = Annotated[float, Meta(gt=0)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
Pattern: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9-]+(:[A-Za-z0-9*?]+)?$")]

CONTROL_PLANE: Final = 15  # calls a second to all of Lambda's control plane together, on AWS
_UNCOUNTED: Final = frozenset({"Invoke", "InvokeAsync", "InvokeFunctionUrl", "InvokeWithResponseStream"})
# Apart from the others, and how many times their rate. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_APART: Final = {"GetFunction": 100 / 15, "GetPolicy": 1.0}


# --- rules ---


class Rule(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """`only`: "lambda", "lambda:UpdateAlias", "s3:Put*"; none: every call. At most `times` times; equal seeds, equal
    draws."""

    only: tuple[Pattern, ...] = ()
    probability: Annotated[float, Meta(gt=0, le=1)] = 1.0
    times: Annotated[int, Meta(ge=1)] | None = None
    seed: int | None = None


class Latency(Rule, frozen=True, tag="latency"):
    least_s: Seconds
    most_s: Seconds


class Throttle(Rule, frozen=True, tag="throttle"):
    """Without `only`: Lambda's control plane as on AWS, GetFunction with 100/15 of the rate, invocations not at all."""

    per_second: Positive = CONTROL_PLANE


class Error(Rule, frozen=True, tag="error"):
    """`after`: the call takes effect, and yet the answer is the error."""

    status: Annotated[int, Meta(ge=500, le=599)] = 500
    after: bool = False


class Drop(Rule, frozen=True, tag="drop"):
    """The connection is closed without an answer; `after` the call took effect."""

    after: bool = False


class Stuck(Rule, frozen=True, tag="stuck"):
    """Updates of functions stay under way for `seconds`; None: until they are released."""

    seconds: Positive | None = None


class Fail(Rule, frozen=True, tag="fail"):
    """Updates of functions end badly."""

    code: str = "InternalError"
    reason: str = "An internal error occurred."


AnyRule: TypeAlias = Latency | Throttle | Error | Drop | Stuck | Fail


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `PUT /_pointsman/chaos` takes. `clock`: how many times as fast as on AWS waits pass.

    `metrics_late`: seconds until CloudWatch shows what happened.
    """

    rules: tuple[AnyRule, ...] = ()
    clock: Positive = 1.0
    metrics_late: Seconds = 0.0


# --- calls and what happens to them ---


@dataclass(frozen=True, slots=True)
class Call:
    """`operation` is None where it cannot be told: then only rules for its whole service concern it."""

    service: str
    operation: str | None
    account: str
    region: str


@dataclass(frozen=True, slots=True)
class Throttled:
    pass


@dataclass(frozen=True, slots=True)
class Failed:
    status: int


@dataclass(frozen=True, slots=True)
class Dropped:
    pass


Trouble: TypeAlias = Throttled | Failed | Dropped


@dataclass(frozen=True, slots=True)
class Verdict:
    """Wait, then `before` instead of an answer; or answer, then `after` instead of telling it."""

    delay_s: float = 0.0
    before: Trouble | None = None
    after: Trouble | None = None


NOTHING: Final = Verdict()


@dataclass(slots=True)
class _Bucket:
    """Tokens for one second at most, as many as were not used."""

    per_second: float
    tokens: float
    at: float

    def take(self, now: float) -> bool:
        self.tokens = min(max(self.per_second, 1.0), self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class _Active:
    rule: AnyRule
    dice: random.Random
    hits: int = 0
    buckets: dict[tuple[str, ...], _Bucket] = field(default_factory=dict)

    @property
    def late(self) -> bool:
        return bool(getattr(self.rule, "after", False))

    def concerns(self, service: str, operation: str | None) -> bool:
        return not self.rule.only or any(_matches(pattern, service, operation) for pattern in self.rule.only)

    def strikes(self) -> bool:
        rule = self.rule
        if rule.times is not None and self.hits >= rule.times:
            return False
        if rule.probability < 1 and self.dice.random() >= rule.probability:
            return False
        self.hits += 1
        return True

    def exceeds(self, per_second: float, call: Call, now: float) -> bool:
        group = "all"
        if not self.rule.only:
            if call.service != "lambda" or call.operation is None or call.operation in _UNCOUNTED:
                return False
            per_second *= _APART.get(call.operation, 1.0)
            group = call.operation if call.operation in _APART else "control plane"
        key = (call.account, call.region, group)
        bucket = self.buckets.setdefault(key, _Bucket(per_second, max(per_second, 1.0), now))
        return not bucket.take(now)


class Chaos:
    """The rules in force, and how often each struck. Thread-safe."""

    def __init__(self, plan: Plan, now: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._active: list[_Active] = []
        self.clock = plan.clock
        self.metrics_late = plan.metrics_late
        self.add(plan.rules)

    @property
    def plan(self) -> Plan:
        return Plan(tuple(active.rule for active in self._active), self.clock, self.metrics_late)

    @property
    def idle(self) -> bool:
        return not self._active

    def add(self, rules: Iterable[AnyRule]) -> None:
        """A rule takes the place of one of its kind with the same `only`; the others go on as they were."""
        with self._lock:
            for rule in rules:
                rest = [each for each in self._active if _about(each.rule) != _about(rule)]
                self._active = sorted([*rest, _Active(rule, random.Random(rule.seed))], key=lambda each: each.late)

    def document(self) -> dict[str, Any]:
        with self._lock:
            rules = [msgspec.to_builtins(active.rule) | {"hits": active.hits} for active in self._active]
        return {"rules": rules, "clock": self.clock, "metrics_late": self.metrics_late}

    def decide(self, call: Call) -> Verdict:
        """What happens to this call: the first trouble that strikes, those before the effect asked first."""
        delay = 0.0
        before: Trouble | None = None
        after: Trouble | None = None
        with self._lock:
            for active in self._active:
                if not active.concerns(call.service, call.operation):
                    continue
                match active.rule:
                    case Latency(least_s=least, most_s=most):
                        if active.strikes():
                            delay += least + (most - least) * active.dice.random()
                    case Throttle(per_second=per_second):
                        if before is None and active.exceeds(per_second, call, self._now()) and active.strikes():
                            before = Throttled()
                    case Error(status=status, after=False):
                        if before is None and active.strikes():
                            before = Failed(status)
                    case Drop(after=False):
                        if before is None and active.strikes():
                            before = Dropped()
                    case Error(status=status):
                        if before is after is None and active.strikes():
                            after = Failed(status)
                    case Drop():
                        if before is after is None and active.strikes():
                            after = Dropped()
                    case Stuck() | Fail():
                        pass  # of updates, not of calls: `fate`
                    case _:
                        assert_never(active.rule)
        return Verdict(delay, before, after)

    def fate(self, operation: str, seconds: float) -> Fate:
        """How an update of Lambda's that takes `seconds` ends this time."""
        failure = None
        with self._lock:
            for active in self._active:
                match active.rule:
                    case Stuck(seconds=held):
                        if active.concerns("lambda", operation) and active.strikes():
                            seconds = float("inf") if held is None else held
                    case Fail(code=code, reason=reason):
                        # Provisioned concurrency that fails is not built.
                        provisioning = operation == "PutProvisionedConcurrencyConfig"
                        if not provisioning and active.concerns("lambda", operation) and active.strikes():
                            failure = Failure(code, reason)
                    case _:
                        pass  # of calls, not of updates: `decide`
        return Fate(seconds, failure)


def _matches(pattern: str, service: str, operation: str | None) -> bool:
    wanted, _, what = pattern.partition(":")
    if wanted != service:
        return False
    return not what or (operation is not None and fnmatchcase(operation.lower(), what.lower()))


def _about(rule: AnyRule) -> tuple[object, ...]:
    return type(rule), rule.only, getattr(rule, "after", None)
