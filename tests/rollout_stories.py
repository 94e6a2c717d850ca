"""Rollouts with fixed traffic, told by the real state machine: what views and reports are tested on.

Counts are no chance: of every `1 / rate` calls one is bad, spread evenly. The clock goes from one action to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pointsman.analysis import Bucket, Counts, Metric
from pointsman.model import Version
from pointsman.rollout import (
    AbortAsked,
    AnySignal,
    CallFailed,
    DriftSeen,
    Failed,
    GatePassed,
    GateWaiting,
    Measure,
    Measured,
    PauseAsked,
    Policy,
    Promote,
    Restore,
    ResumeAsked,
    RunGates,
    SetWeight,
    Step,
    Tick,
    WeightConfirmed,
    begin,
    due,
)
from pointsman.story import Side, Story, tell

BEGAN = 1_772_452_800.0  # 2026-03-02 12:00:00 UTC
STEPS = (Step(weight=0.01, bake_s=60), Step(weight=0.1, bake_s=180), Step(weight=0.5, bake_s=180))

World = Callable[[str, float], tuple[float, float, float]]
"""(metric, at) → calls a second, and which share of the canary's and of the baseline's is bad."""


def story(policy: Policy, **more: Any) -> Story:
    rollout = begin(policy, baseline=Version("7"), canary=Version("8"), revision="r0", at=BEGAN)
    facts: dict[str, Any] = {
        "id": "r-20260302-120000", "function": "greeting", "name": "greeting-prod", "environment": "production",
        "alias": "PROD", "baseline": Side(version=Version("7"), build="100", commit="1f0c9d2"),
        "canary": Side(version=Version("8"), build="101", commit="8a3be41"), "by": "ann", "began": BEGAN,
        "rollout": rollout, **more,
    }  # fmt: skip
    return Story(**facts)


def run(told: Story, world: World, said: Sequence[AnySignal] = (), *, until: float = BEGAN + 86_400) -> Story:
    """The story until it ends, or until then; `said` is what people and alarms do at their times."""
    waiting = list(said)
    told, now, turn = tell(told, Tick(at=BEGAN)), BEGAN, 0
    while not told.rollout.ended:
        match action := due(told.rollout):
            case Measure(at=at):
                now = max(now, at)
            case _:
                now += 1
        if now > until:
            return told
        if waiting and waiting[0].at <= now and not isinstance(action, RunGates):
            now = waiting[0].at
            told = tell(told, waiting.pop(0))
            continue
        turn += 1
        match action:
            case SetWeight() | Promote() | Restore():
                told = tell(told, WeightConfirmed(at=now, revision=f"r{turn}"))
            case RunGates() if waiting and isinstance(waiting[0], GateWaiting | GatePassed):
                told, now = tell(told, waiting[0]), waiting.pop(0).at
            case RunGates(moment="quiet"):
                told = tell(told, GateWaiting(at=now, moment="quiet"))
            case RunGates(moment=moment):
                told = tell(told, GatePassed(at=now, moment=moment))
            case Measure():
                told = tell(told, counted(told, world, now))
    return told


def counted(told: Story, world: World, now: float) -> Measured:
    """Every bucket that is complete by now, of each metric."""
    rollout = told.rollout
    period, first = rollout.policy.period_s, rollout.counted
    whole = int((now - rollout.policy.lag_s - first) // period)
    buckets = [
        bucket(metric.name, first + n * period, period, rollout.weight, world)
        for n in range(whole)
        for metric in rollout.policy.metrics
    ]
    return Measured(at=now, until=first + whole * period, buckets=tuple(each for each in buckets if each))


def bucket(metric: str, at: float, seconds: float, weight: float, world: World) -> Bucket | None:
    rate, canary, baseline = world(metric, at)
    if not rate:
        return None
    begin_s = at - BEGAN

    def side(part: float, bad: float) -> Counts:
        before, after = begin_s * rate * part, (begin_s + seconds) * rate * part
        return Counts(calls=int(after) - int(before), bad=int(after * bad) - int(before * bad))

    return Bucket(
        metric=metric, at=at, seconds=seconds, canary=side(weight, canary), baseline=side(1 - weight, baseline)
    )


def policy(**more: Any) -> Policy:
    facts: dict[str, Any] = {
        "steps": STEPS, "metrics": (Metric(name="errors"),), "traffic": 100.0, "lag_s": 60.0, **more,
    }  # fmt: skip
    return Policy(**facts)


def steady(metric: str, at: float) -> tuple[float, float, float]:
    return 100.0, 0.003, 0.003


def broken(metric: str, at: float) -> tuple[float, float, float]:
    return (100.0, 0.031, 0.0004) if metric == "errors" else (100.0, 0.01, 0.01)


def healthy() -> Story:
    return run(story(policy()), steady)


def bad() -> Story:
    both = (Metric(name="errors"), Metric(name="slow"))
    return run(story(policy(metrics=both), notes=("the alarm greeting-5xx was red before, and is ignored",)), broken)


def leaking() -> Story:
    """Worse only after a while, by 3 to 1, at little traffic: it takes its time."""
    slow = tuple(Step(weight=weight, bake_s=600) for weight in (0.05, 0.2, 0.5))

    def world(metric: str, at: float) -> tuple[float, float, float]:
        return 12.0, (0.012 if at > BEGAN + 900 else 0.004), 0.004

    return run(story(policy(steps=slow, early=False, lag_s=120.0, traffic=12.0)), world)


def quiet() -> Story:
    """Nobody calls it. After the hold the rollout asks, and waits for the answer."""
    held = policy(hold_s=600.0, moments=("quiet",), traffic=0.0)
    return run(story(held), lambda metric, at: (0.01, 0.0, 0.0), until=BEGAN + 1020)


def superseded() -> Story:
    return run(story(policy()), steady, [DriftSeen(at=BEGAN + 300, what="it serves version 9 since 12:04:51")])


def stuck() -> Story:
    return run(
        story(policy()),
        steady,
        [
            Failed(at=BEGAN + 240, why="the alarm greeting-5xx turned red"),
            CallFailed(at=BEGAN + 241, what="UpdateAlias: the role of CI may not change this alias"),
        ],
    )


def approved() -> Story:
    """Held by one person, let go by another; approved before all of the traffic by a third."""
    return run(
        story(policy(moments=("full",))),
        steady,
        [
            PauseAsked(at=BEGAN + 200, by="ben"),
            ResumeAsked(at=BEGAN + 500, by="ann"),
            GateWaiting(at=BEGAN + 841, moment="full"),
            GatePassed(at=BEGAN + 900, moment="full", by="cleo"),
        ],
    )


def unmeasured() -> Story:
    """At its first weight, before any count is complete."""
    return run(story(policy()), steady, until=BEGAN + 60)


def aborted() -> Story:
    return run(story(policy()), steady, [AbortAsked(at=BEGAN, by="ann", why="wrong build")])


EVERY: dict[str, Callable[[], Story]] = {
    each.__name__: each for each in (healthy, bad, leaking, quiet, superseded, stuck, approved, unmeasured, aborted)
}
