"""A rollout: traffic moves from a baseline to a canary step by step, and back when the canary is worse. Pure.

    advance(rollout, signal) → (rollout, action)

`signal` is what happened, with its time; `action` is what is to be done now. The action is read off the state alone
(`due`), and every action may be carried out again: so a rollout goes on from its last written state, on any machine.
Each state says what is true of the alias while in it:

    Ready         serves the baseline alone; nothing has moved
    Gating        serves what it did; gates of one moment decide whether the rollout goes on
    Shifting      a new weight was decided: serves the old weight or, already, the new one
    Baking        serves the canary at `weight`; its bake time runs, its calls are counted
    Judging       as Baking, and the bake time is over: waits for data, or for enough of it
    Paused        as Baking, held on purpose; a canary that is worse goes back all the same
    Promoting     is to serve the canary alone: serves both, or the canary alone already
    RollingBack   is to serve the baseline alone: serves both, or the baseline alone already
    Promoted      serves the canary alone                                             (the end)
    RolledBack    serves the baseline alone                                           (the end)
    Superseded    was moved by somebody else, and is theirs: nothing is touched       (the end)
    Stuck         may serve both, and AWS refuses to change that: a person must look  (the end, until `abort`)

    state         signal that matters → next state
    Ready         Tick → Gating(before)
    Gating        GatePassed → the next gate, or Shifting, Promoting, Promoted;  GateRefused → RollingBack, or
                  RolledBack where nothing had moved;  GateWaiting → the same (measured meanwhile)
    Shifting      WeightConfirmed → Baking, or Gating(spent) where the canary has no traffic left;
                  CallFailed → RollingBack
    Baking        Measured → Baking, Judging, Gating(step), Gating(full) or RollingBack
    Judging       Measured → the same;  after `hold` without enough data → Gating(quiet), or as `quiet` says
    with traffic  Measured (the budget is spent, and nothing shown) → Shifting(to 0), or RollingBack where nobody is
                  to be asked;  GatePassed(spent) → Shifting, without a budget
    Paused        ResumeAsked → Judging;  Measured (worse) → RollingBack
    Promoting     WeightConfirmed → Gating(after) or Promoted;  CallFailed → RollingBack
    RollingBack   WeightConfirmed → RolledBack;  CallFailed → Stuck
    any but ends  AbortAsked, Failed → RollingBack (RolledBack where nothing had moved);  DriftSeen → Superseded
    with traffic  PauseAsked → Paused;  SkipAsked → on to the next step
    Stuck         AbortAsked → RollingBack
    otherwise     the same state: a signal that comes late or twice changes nothing
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, assert_never

from msgspec.structs import replace

from pointsman import analysis
from pointsman.analysis import Bucket, Evidence, Judgement, Metric
from pointsman.config import Rollout as Declared
from pointsman.model import Canary as Share
from pointsman.model import Routing, Value, Verdict, Version, Weight, counted

Moment = Literal["before", "traffic", "step", "quiet", "spent", "full", "after"]

SMALLEST = 0.0001
"""The least weight that a risk budget begins with. Lambda takes any number from 0 to 1."""

NOISE = 2.5
"""So many standard deviations beyond chance, extra failed calls are held to be a budget that was spent."""


class Step(Value, frozen=True, kw_only=True):
    """A weight, in (0, 1), and how many seconds of its traffic must have been counted."""

    weight: float
    bake_s: float


class Policy(Value, frozen=True, kw_only=True):
    """How a rollout goes, as the file says. Times in seconds.

    `alpha`: the chance at most that a canary as good as the baseline is rolled back. `minimum`: canary calls that must
    have been measured before the weight grows. `hold`: how long too few of them are waited for, before `quiet` decides.
    `limit`: the longest that all of it may take. `period`, `lag`: of a bucket, and how late its counts are complete.
    `budget`: how many more calls may fail for a bad canary; the weight then follows the evidence, up to the steps'.
    `moments`, `gated`: at which there is something to pass (`step` at those weights). `usual`: the share of bad calls
    before the rollout, where it is known.
    """

    steps: tuple[Step, ...]
    metrics: tuple[Metric, ...] = ()
    alpha: float = 0.01
    minimum: int = 50
    early: bool = True
    proof: bool = False
    hold_s: float = 1800.0
    quiet: Literal["ask", "go-on", "roll-back"] = "ask"
    limit_s: float = 86_400.0
    period_s: float = 60.0
    lag_s: float = 120.0
    budget: int | None = None
    traffic: float = 0.0  # calls a second to the alias, before the rollout
    usual: float | None = None
    moments: tuple[Moment, ...] = ()
    gated: tuple[float, ...] = ()


def as_declared(declared: Declared, *, metrics: tuple[Metric, ...], period_s: float, lag_s: float) -> Policy:
    """As the file says; what is learnt of the time before, and the gates, are for the caller to add."""
    return Policy(
        steps=tuple(Step(weight=share / 100, bake_s=bake) for share, bake in declared.ramp),
        metrics=metrics,
        alpha=declared.alpha,
        minimum=declared.minimum,
        early=declared.early,
        proof=declared.proof,
        hold_s=declared.hold,
        quiet=declared.quiet,
        limit_s=declared.limit,
        period_s=period_s,
        lag_s=lag_s,
        budget=declared.budget,
    )


# States


class Ready(Value, frozen=True, kw_only=True, tag_field="state"):
    pass


class Gating(Value, frozen=True, kw_only=True, tag_field="state"):
    """`weight`: of a step's gates, the one they stand behind. `asked`: somebody was, and has not answered; `waiting`:
    it is not time yet to look again whether they have."""

    moment: Moment
    since: float
    weight: float = 0.0
    waiting: bool = False
    asked: bool = False


class Shifting(Value, frozen=True, kw_only=True, tag_field="state"):
    to: float


class Baking(Value, frozen=True, kw_only=True, tag_field="state"):
    """`until`: when the bake time is over and all that was called in it is counted, as far as can be told."""

    since: float
    until: float


class Judging(Value, frozen=True, kw_only=True, tag_field="state"):
    since: float
    why: str


class Paused(Value, frozen=True, kw_only=True, tag_field="state"):
    since: float
    by: str


class Promoting(Value, frozen=True, kw_only=True, tag_field="state"):
    pass


class RollingBack(Value, frozen=True, kw_only=True, tag_field="state"):
    """`perhaps`: the weight that was being set, where one was: the alias may serve that already, or yet."""

    why: str
    perhaps: float | None = None


class Promoted(Value, frozen=True, kw_only=True, tag_field="state"):
    pass


class RolledBack(Value, frozen=True, kw_only=True, tag_field="state"):
    why: str


class Superseded(Value, frozen=True, kw_only=True, tag_field="state"):
    what: str


class Stuck(Value, frozen=True, kw_only=True, tag_field="state"):
    """`perhaps`: as of RollingBack."""

    why: str
    perhaps: float | None = None


State: TypeAlias = (
    Ready
    | Gating
    | Shifting
    | Baking
    | Judging
    | Paused
    | Promoting
    | RollingBack
    | Promoted
    | RolledBack
    | Superseded
    | Stuck
)
ENDS = (Promoted, RolledBack, Superseded, Stuck)
WATCHED = (Baking, Judging, Paused)  # the canary has calls, and nothing else is under way


# Signals: what happened, and when (epoch seconds; of measurements by AWS's clock)


class Signal(Value, frozen=True, kw_only=True, tag_field="signal"):
    at: float


class Tick(Signal, frozen=True, kw_only=True):
    pass


class WeightConfirmed(Signal, frozen=True, kw_only=True):
    """The alias serves what was asked for; `revision` is its revision id now. `ahead`: AWS's clock, of ours."""

    revision: str
    ahead: float = 0.0


class Measured(Signal, frozen=True, kw_only=True):
    """New buckets, none twice, and until when data is complete. `error`: why nothing could be measured."""

    until: float
    buckets: tuple[Bucket, ...] = ()
    error: str = ""


class Failed(Signal, frozen=True, kw_only=True):
    """An alarm turned red, a check failed: no statistics needed."""

    why: str


class GatePassed(Signal, frozen=True, kw_only=True):
    moment: Moment
    by: str = ""


class GateRefused(Signal, frozen=True, kw_only=True):
    moment: Moment
    why: str


class GateWaiting(Signal, frozen=True, kw_only=True):
    moment: Moment


class PauseAsked(Signal, frozen=True, kw_only=True):
    by: str


class ResumeAsked(Signal, frozen=True, kw_only=True):
    by: str


class SkipAsked(Signal, frozen=True, kw_only=True):
    by: str


class AbortAsked(Signal, frozen=True, kw_only=True):
    by: str
    why: str = ""


class DriftSeen(Signal, frozen=True, kw_only=True):
    """The alias is not as this rollout left it."""

    what: str


class CallFailed(Signal, frozen=True, kw_only=True):
    """AWS refused the change that was due, for good."""

    what: str


AnySignal: TypeAlias = (
    Tick
    | WeightConfirmed
    | Measured
    | Failed
    | GatePassed
    | GateRefused
    | GateWaiting
    | PauseAsked
    | ResumeAsked
    | SkipAsked
    | AbortAsked
    | DriftSeen
    | CallFailed
)


# Actions: what is to be done now. Each may be done again: it then finds its effect there.


class SetWeight(Value, frozen=True, kw_only=True, tag_field="action"):
    routing: Routing


class Promote(Value, frozen=True, kw_only=True, tag_field="action"):
    """The canary, and no weights, in one call."""

    routing: Routing


class Restore(Value, frozen=True, kw_only=True, tag_field="action"):
    routing: Routing


class Measure(Value, frozen=True, kw_only=True, tag_field="action"):
    """Wait until `at`, then count what is complete from `since` on."""

    at: float
    since: float


class RunGates(Value, frozen=True, kw_only=True, tag_field="action"):
    moment: Moment
    weight: float
    since: float


class Nothing(Value, frozen=True, kw_only=True, tag_field="action"):
    pass


Action: TypeAlias = SetWeight | Promote | Restore | Measure | RunGates | Nothing


class Rollout(Value, frozen=True, kw_only=True):
    """One alias on its way from `baseline` to `canary`.

    `weight` is the canary's as last confirmed, `step` the index of the step that it is at. `counted`: until when
    buckets were taken; `settled`: how many of them since the weight was confirmed, `baked`: since its step began;
    `fresh`: canary calls since the weight was confirmed. `measured`: when that last worked. `revision`: of the alias,
    as this rollout last left or found it.
    """

    policy: Policy
    baseline: Version
    canary: Version
    began: float
    revision: str
    state: State = Ready()
    weight: float = 0.0
    step: int = 0
    counted: float = 0.0
    settled: int = 0
    fresh: int = 0
    measured: float = 0.0
    baked: int = 0
    traffic: float = 0.0
    evidence: tuple[Evidence, ...] = ()
    trouble: bool = False  # the canary fails far more often than is usual, and (or it had gone back) not it alone

    @property
    def ended(self) -> bool:
        return isinstance(self.state, ENDS)

    @property
    def moved(self) -> bool:
        """Whether the canary may have had calls."""
        return self.weight > 0 or isinstance(self.state, Shifting | Promoting | RollingBack)

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        policy = self.policy
        if not policy.metrics:
            return ()
        alpha = analysis.shares(policy.alpha, len(policy.metrics))
        return tuple(analysis.judge(each, alpha=alpha, minimum=policy.minimum) for each in self.evidence)

    def routing(self, weight: float) -> Routing:
        if weight <= 0:
            return Routing(version=self.baseline)
        if weight >= 1:
            return Routing(version=self.canary)
        return Routing(version=self.baseline, canary=Share(version=self.canary, weight=Weight(weight)))


def begin(policy: Policy, *, baseline: Version, canary: Version, revision: str, at: float) -> Rollout:
    """A rollout that has not begun."""
    return Rollout(
        policy=policy,
        baseline=baseline,
        canary=canary,
        began=at,
        revision=revision,
        traffic=policy.traffic,
        evidence=tuple(analysis.none(each, _history(policy, each)) for each in policy.metrics),
    )


def _history(policy: Policy, metric: Metric) -> analysis.Counts | None:
    """Three hours as they usually are: a first guess of the rate, so that evidence comes sooner. It is no evidence."""
    if policy.usual is None or metric.name != "errors":
        return None
    calls = round(policy.traffic * 10_800)
    return analysis.Counts(calls=calls, bad=round(policy.usual * calls))


def advance(rollout: Rollout, signal: AnySignal) -> tuple[Rollout, Action]:
    """What the rollout is after the signal, and what to do now. Total: every state takes every signal."""
    after = _after(rollout, signal)
    return after, due(after)


def due(rollout: Rollout) -> Action:
    """What the state calls for, whoever asks and however often."""
    match rollout.state:
        case Ready():
            return RunGates(moment="before", weight=0.0, since=rollout.began)
        case Gating(waiting=True) if 0 < rollout.weight < 1:
            return _measure(rollout)
        case Gating(moment=moment, weight=weight, since=since):
            return RunGates(moment=moment, weight=weight, since=since)
        case Shifting(to=to):
            return SetWeight(routing=rollout.routing(to))
        case Baking() | Judging() | Paused():
            return _measure(rollout)
        case Promoting():
            return Promote(routing=rollout.routing(1.0))
        case RollingBack():
            return Restore(routing=rollout.routing(0.0))
        case Promoted() | RolledBack() | Superseded() | Stuck():
            return Nothing()
        case _:
            assert_never(rollout.state)


def _measure(rollout: Rollout) -> Measure:
    """When the next bucket's counts are complete."""
    policy = rollout.policy
    return Measure(at=rollout.counted + policy.period_s + policy.lag_s, since=rollout.counted)


def _after(rollout: Rollout, signal: AnySignal) -> Rollout:
    state = rollout.state
    if isinstance(state, Stuck):
        if not isinstance(signal, AbortAsked):
            return rollout
        return _state(rollout, RollingBack(why=_asked(signal), perhaps=state.perhaps))
    if rollout.ended:
        return rollout
    match signal:
        case DriftSeen(what=what):
            return _state(rollout, Superseded(what=what))
        case AbortAsked():
            return _back(rollout, _asked(signal))
        case Failed(why=why):
            return _back(rollout, why)
        case CallFailed(what=what):
            return _refused(rollout, what)
        case PauseAsked(at=at, by=by):
            return _state(rollout, Paused(since=at, by=by)) if isinstance(state, Baking | Judging) else rollout
        case ResumeAsked(at=at, by=by):
            resumed = _state(rollout, Judging(since=at, why=f"{by} let it go on"))
            return resumed if isinstance(state, Paused) else rollout
        case SkipAsked(at=at):
            return _onward(rollout, at) if isinstance(state, WATCHED) else rollout
        case Measured():
            return _measured(rollout, signal)
        case WeightConfirmed():
            return _confirmed(rollout, signal)
        case GatePassed() | GateRefused() | GateWaiting():
            return _gated(rollout, signal)
        case Tick(at=at):
            return _gate(rollout, "before", at) if isinstance(state, Ready) else rollout
        case _:
            assert_never(signal)


def _state(rollout: Rollout, state: State) -> Rollout:
    return replace(rollout, state=state)


def _asked(signal: AbortAsked) -> str:
    return f"{signal.by} aborted it" + (f": {signal.why}" if signal.why else "")


def _back(rollout: Rollout, why: str) -> Rollout:
    """To the baseline: at once where no call ever went to the canary."""
    match rollout.state:
        case RollingBack():
            return rollout
        case Shifting(to=to):
            return _state(rollout, RollingBack(why=why, perhaps=to))
        case Promoting():
            return _state(rollout, RollingBack(why=why, perhaps=1.0))
        case _:
            return _state(rollout, RollingBack(why=why) if rollout.moved else RolledBack(why=why))


def _refused(rollout: Rollout, what: str) -> Rollout:
    match rollout.state:
        case Shifting() | Promoting():
            return _back(rollout, what)
        case RollingBack(why=why, perhaps=perhaps):
            return _state(rollout, Stuck(why=f"{why}; going back failed: {what}", perhaps=perhaps))
        case _:
            return rollout


def _confirmed(rollout: Rollout, signal: WeightConfirmed) -> Rollout:
    at = signal.at
    if not isinstance(rollout.state, Shifting | Promoting | RollingBack):
        return rollout
    rollout = replace(rollout, revision=signal.revision)
    match rollout.state:
        case Shifting(to=0.0):
            return replace(rollout, weight=0.0, state=Gating(moment="spent", since=at, weight=rollout.weight))
        case Shifting(to=to):
            policy = rollout.policy
            # Only buckets that begin after the shift count: in one that spans it, a shared change of the error rate
            # would look like a difference between the versions.
            first = math.ceil((at + signal.ahead) / policy.period_s) * policy.period_s
            # A weight that a budget raised within a step does not begin its bake time anew.
            left_s = max(policy.period_s, policy.steps[rollout.step].bake_s - rollout.baked * policy.period_s)
            return replace(
                rollout,
                state=Baking(since=at, until=first - signal.ahead + left_s + policy.lag_s),
                weight=to,
                counted=first,
                settled=0,
                fresh=0,
                measured=at,
            )
        case Promoting():
            return _gate(replace(rollout, weight=1.0), "after", at)
        case RollingBack(why=why):
            return replace(rollout, weight=0.0, state=RolledBack(why=why))
        case _:
            raise AssertionError("the three are all that wait for it")


def _measured(rollout: Rollout, signal: Measured) -> Rollout:
    if not isinstance(rollout.state, (*WATCHED, Gating)) or not 0 < rollout.weight < 1:
        return rollout
    if signal.error:
        if signal.at - rollout.measured > rollout.policy.hold_s:
            return _back(rollout, f"nothing could be measured for {_time(rollout.policy.hold_s)}: {signal.error}")
        # The next attempt is a period later: what is not there yet is asked for again, from the same time on.
        blind = _again(rollout)
        if isinstance(blind.state, Baking | Judging):
            since = blind.state.since if isinstance(blind.state, Judging) else signal.at
            blind = _state(blind, Judging(since=since, why=f"nothing can be measured: {signal.error}"))
        return _overdue(blind, signal.at)
    after = _taken(rollout, signal)
    judgements = after.judgements
    worst = next((each for each in judgements if each.verdict is Verdict.FAIL), None)
    if worst:
        return _back(after, worst.why)
    if why := _spent(after, judgements):
        # Nobody was shown that the canary is worse, so it is not blamed for it: it only costs nothing any more.
        return _state(after, Shifting(to=0.0)) if after.policy.quiet == "ask" else _back(after, why)
    if isinstance(after.state, Paused):
        return _overdue(after, signal.at)
    return _overdue(_judged(after, signal.at, judgements), signal.at)


def _again(rollout: Rollout) -> Rollout:
    return _state(rollout, replace(rollout.state, waiting=False)) if isinstance(rollout.state, Gating) else rollout


def _taken(rollout: Rollout, signal: Measured) -> Rollout:
    """With the new buckets weighed. What belongs to another time than is due was taken before."""
    fits = [each for each in signal.buckets if rollout.counted <= each.at < signal.until]
    evidence = rollout.evidence
    for bucket in sorted(fits, key=lambda each: each.at):
        evidence = tuple(
            analysis.weigh(each, bucket) if metric.name == bucket.metric else each
            for each, metric in zip(evidence, rollout.policy.metrics, strict=True)
        )
    first = rollout.policy.metrics[0].name if rollout.policy.metrics else ""
    main = [each for each in fits if each.metric == first]
    periods = max(0, round((signal.until - rollout.counted) / rollout.policy.period_s))
    calls = sum(each.canary.calls + each.baseline.calls for each in main)
    usual, tried = rollout.policy.usual, sum((each.canary for each in main), analysis.Counts())
    trouble = usual is not None and tried.bad >= 5 and tried.bad > max(3 * usual, usual + 0.02) * tried.calls
    return replace(
        _again(rollout),
        evidence=evidence,
        counted=max(rollout.counted, signal.until),
        settled=rollout.settled + periods,
        baked=rollout.baked + periods,
        fresh=rollout.fresh + sum(each.canary.calls for each in main),
        measured=signal.at,
        traffic=calls / (periods * rollout.policy.period_s) if periods else rollout.traffic,
        trouble=trouble if tried.calls else rollout.trouble,
    )


def _judged(rollout: Rollout, at: float, judgements: tuple[Judgement, ...]) -> Rollout:
    """Where no metric speaks against it: early to the end, on to the next step, up within it, or wait."""
    policy, state = rollout.policy, rollout.state
    if isinstance(state, Gating):
        return rollout
    if rollout.trouble:
        # Neither version's doing, but no time to learn from: what is the same in an outage may not be so otherwise.
        since = state.since if isinstance(state, Judging) else at
        return _state(rollout, Judging(since=since, why=_why_waiting(rollout)))
    if policy.early and judgements and analysis.combine(judgements) is Verdict.PASS:
        return _gate(rollout, "full", at)
    short = policy.metrics and rollout.fresh < policy.minimum
    held = _unproved(rollout) or _suspect(rollout, judgements)
    if rollout.settled and not short:
        if (weight := _affordable(rollout, judgements)) < policy.steps[rollout.step].weight:
            if weight > rollout.weight * 1.25:
                return _state(rollout, Shifting(to=weight))
        elif rollout.weight < policy.steps[rollout.step].weight:
            return _state(rollout, Shifting(to=policy.steps[rollout.step].weight))
        elif rollout.baked * policy.period_s >= policy.steps[rollout.step].bake_s and not held:
            return _onward(rollout, at)
    if isinstance(state, Baking) and at < state.until:
        return rollout
    since = state.since if isinstance(state, Judging) else at
    if at - since > policy.hold_s and (short or held):
        return _quiet(rollout, at)
    return _state(rollout, Judging(since=since, why=_why_waiting(rollout)))


def _unproved(rollout: Rollout) -> bool:
    """The last step, where all traffic wants a proof. (Had it been given, the rollout would have gone on already.)"""
    return rollout.policy.proof and rollout.step + 1 >= len(rollout.policy.steps)


def _suspect(rollout: Rollout, judgements: Sequence[Judgement]) -> bool:
    """Half-way to being proven worse: that is no time to give it more. Of a healthy one this is rare, and passes."""
    pairs = zip(rollout.policy.metrics, judgements, strict=False)
    return any(
        each.worse >= each.limit / 2 and analysis.beyond(metric, each.extra, each.ratio) for metric, each in pairs
    )


def _why_waiting(rollout: Rollout) -> str:
    if rollout.trouble:
        return "calls fail far more often than is usual, of both versions alike: nothing is moved in an outage"
    if not rollout.settled:
        return "the bake time is over, and its counts are not complete yet"
    if rollout.fresh < rollout.policy.minimum:
        return f"{counted(rollout.fresh, 'call')} of the canary counted, {rollout.policy.minimum} are needed"
    step = rollout.policy.steps[rollout.step]
    if rollout.weight >= step.weight and rollout.baked * rollout.policy.period_s < step.bake_s:
        return "the bake time is over, and its last counts are not complete yet"
    if suspect := max((each for each in rollout.judgements if each.worse >= each.limit / 2), key=_worse, default=None):
        return f"the evidence that it is worse is 10^{suspect.worse:.1f} of 10^{suspect.limit:.1f} already"
    if _unproved(rollout) and rollout.weight >= rollout.policy.steps[rollout.step].weight:
        return "it is not shown yet that the canary is no worse than tolerated"
    return "the risk budget does not allow more yet"


def _worse(judgement: Judgement) -> float:
    return judgement.worse - judgement.limit


def _quiet(rollout: Rollout, at: float) -> Rollout:
    policy = rollout.policy
    beyond = f"{_time(policy.hold_s)} beyond the bake time"
    why = f"only {counted(rollout.fresh, 'call')} of the canary in {beyond}; at least {policy.minimum} are needed"
    if rollout.fresh >= policy.minimum:
        why = f"nothing showed in {beyond} that the canary is no worse than tolerated"
    match policy.quiet:
        case "ask":
            return _state(rollout, Gating(moment="quiet", since=at, weight=rollout.weight))
        case "go-on":
            return _onward(rollout, at)
        case "roll-back":
            return _back(rollout, why)
        case _:
            assert_never(policy.quiet)


def _onward(rollout: Rollout, at: float) -> Rollout:
    """This step is done: its gates, then the next one. A budget may not have allowed all of the step's weight yet."""
    here = rollout.policy.steps[rollout.step].weight
    if here in rollout.policy.gated and "step" in rollout.policy.moments:
        return _state(rollout, Gating(moment="step", since=at, weight=here))
    return _next_step(rollout, at)


def _next_step(rollout: Rollout, at: float) -> Rollout:
    following = rollout.step + 1
    if following >= len(rollout.policy.steps):
        return _gate(rollout, "full", at)
    up = replace(rollout, step=following, baked=0)
    target = rollout.policy.steps[following].weight
    return _state(up, Shifting(to=max(rollout.weight, min(target, _affordable(up, up.judgements)))))


def _gate(rollout: Rollout, moment: Moment, at: float) -> Rollout:
    """The moment's gates, or what comes behind them where there are none."""
    if moment in rollout.policy.moments:
        return _state(rollout, Gating(moment=moment, since=at, weight=rollout.weight))
    return _passed(rollout, moment, at)


def _passed(rollout: Rollout, moment: Moment, at: float) -> Rollout:
    match moment:
        case "before":
            return _gate(rollout, "traffic", at)
        case "traffic":
            if not rollout.policy.steps:
                return _gate(rollout, "full", at)
            first = rollout.policy.steps[0].weight
            return _state(rollout, Shifting(to=min(first, _affordable(rollout, ()))))
        case "step":
            return _next_step(rollout, at)
        case "quiet":  # too few calls are accepted; what the step's own gates ask is another question
            return _onward(rollout, at)
        case "spent":
            # Who lets it go on knows that it is spent: from here on the steps count, and the evidence.
            going = replace(rollout, policy=replace(rollout.policy, budget=None))
            return _state(going, Shifting(to=rollout.policy.steps[rollout.step].weight))
        case "full":
            return _state(rollout, Promoting())
        case "after":
            return _state(rollout, Promoted())
        case _:
            assert_never(moment)


def _gated(rollout: Rollout, signal: GatePassed | GateRefused | GateWaiting) -> Rollout:
    state = rollout.state
    if isinstance(state, Ready):
        state = Gating(moment="before", since=rollout.began)
    if not isinstance(state, Gating) or state.moment != signal.moment:
        return rollout
    match signal:
        case GatePassed(at=at, moment=moment):
            return _passed(rollout, moment, at)
        case GateRefused(why=why):
            return _back(rollout, why)
        case GateWaiting(at=at):
            return _overdue(_state(rollout, replace(state, waiting=True, asked=True)), at)
        case _:
            assert_never(signal)


def _overdue(rollout: Rollout, at: float) -> Rollout:
    """All of it has an end: what is undecided by then goes back."""
    if rollout.ended or at - rollout.began <= rollout.policy.limit_s:
        return rollout
    if isinstance(rollout.state, Promoting | RollingBack):
        return rollout
    return _back(rollout, f"no decision within {_time(rollout.policy.limit_s)}")


# The risk budget


def _affordable(rollout: Rollout, judgements: tuple[Judgement, ...]) -> float:
    """The weight that the budget allows; 1 without one. See `ramp`."""
    if rollout.policy.budget is None:
        return 1.0
    return affordable(
        rollout.policy.budget,
        judgements,
        traffic=rollout.traffic,
        blind_s=_blind_s(rollout.policy),
        late_s=rollout.policy.lag_s,
        weight=rollout.weight,
    )


def affordable(
    budget: float, judgements: Sequence[Judgement], *, traffic: float, blind_s: float, late_s: float, weight: float
) -> float:
    """The greatest weight at which the calls that fail before the next look fit into what is left of the budget.

    `traffic`: calls a second. `blind_s`: for how long calls are made before a change of the weight can follow from what
    they show. `late_s`: how old what was counted is. Docs: docs/rollouts-figures.md, "The risk budget".
    """
    if traffic <= 0:
        return max(weight, SMALLEST)
    worst = max((each.extra_high for each in judgements), default=1.0)
    if worst <= 0:
        return 1.0
    spent = max((_harm(each) for each in judgements), default=0.0)
    left = (_planned(budget) if judgements else budget) - spent - worst * weight * traffic * late_s
    return max(SMALLEST, weight, min(1.0, left / (worst * traffic * blind_s)))


def _planned(budget: float) -> float:
    """What is planned with. Harm is estimated, and estimates of so many calls err by about their root."""
    return max(budget / 3, budget - 1.75 * math.sqrt(budget))


def _harm(judged: Judgement) -> float:
    """How many calls of the canary failed that would not have failed at the baseline, as estimated."""
    return max(0.0, judged.extra) * judged.canary.calls


def _spent(rollout: Rollout, judgements: tuple[Judgement, ...]) -> str:
    """Why the canary may cost no more: what it has cost, and will before the next look, is the budget, and no chance.

    Judged by estimates, not by their upper bounds: those are far above the harm that a good canary does.
    """
    policy = rollout.policy
    if policy.budget is None or (policy.early and analysis.combine(judgements) is Verdict.PASS):
        return ""
    for each, metric in zip(judgements, policy.metrics, strict=True):
        if not each.baseline.calls:
            continue
        harm = _harm(each)
        ahead = max(0.0, each.extra) * rollout.weight * rollout.traffic * (policy.period_s + policy.lag_s)
        bad = each.canary.bad + each.baseline.bad
        noise = math.sqrt(metric.dispersion * bad * each.canary.calls / each.baseline.calls)
        limit = _planned(policy.budget)
        if harm + ahead >= limit and harm >= max(limit / 2, NOISE * noise + metric.dispersion):
            return (
                f"the budget of {counted(policy.budget, 'call')} is as good as spent: about {harm:.0f} more calls of "
                f"the canary failed than the baseline's would have ({each.metric}), not counting the last minutes; "
                "it is not shown that it is worse"
            )
    return ""


def warnings(rollout: Rollout) -> tuple[str, ...]:
    """What a person should know before anything moves."""
    policy = rollout.policy
    found = []
    least = SMALLEST * rollout.traffic * _blind_s(policy)
    if policy.budget is not None and least > policy.budget:
        found.append(
            f"the budget is {counted(policy.budget, 'call')}, and even the smallest weight ({SMALLEST:.1%}) has about "
            f"{least:.0f} calls before its effect can be seen: a release that fails every call may cost as many"
        )
    if policy.steps and rollout.traffic > 0:
        need = policy.minimum / (policy.steps[0].weight * rollout.traffic)
        if need > policy.hold_s:
            found.append(
                f"at {rollout.traffic * 60:.3g} calls a minute the first step needs {_time(round(need))} for "
                f"{policy.minimum} calls of the canary: `minimum`, `steps` or `quiet` should say what is meant"
            )
    return tuple(found)


def _blind_s(policy: Policy) -> float:
    """For how long calls are made before what they show can change the weight: a bucket that has begun, and a whole
    one, and until it is complete."""
    return 2 * policy.period_s + policy.lag_s


def _time(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:g} s"
