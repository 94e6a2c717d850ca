"""The story of a rollout: what every view and report is made from, and what it says in sentences. Pure.

    story = tell(story, signal)      the rollout one signal further, with what the signal added to tell

A story told again from the signals that the ledger kept is the same story. Times are epoch seconds and shown in UTC, as
AWS shows them. Texts that came from outside pass `clean` before anybody sees them.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal, assert_never

from msgspec.structs import replace

from pointsman import analysis
from pointsman.analysis import Counts, Judgement
from pointsman.model import Value, Verdict, Version
from pointsman.rollout import (
    WATCHED,
    AbortAsked,
    Action,
    AnySignal,
    Baking,
    CallFailed,
    DriftSeen,
    Failed,
    GatePassed,
    GateRefused,
    GateWaiting,
    Gating,
    Judging,
    Measure,
    Measured,
    Moment,
    Nothing,
    PauseAsked,
    Paused,
    Promote,
    Promoted,
    Promoting,
    Ready,
    Restore,
    ResumeAsked,
    RolledBack,
    RollingBack,
    Rollout,
    RunGates,
    SetWeight,
    Shifting,
    SkipAsked,
    Step,
    Stuck,
    Superseded,
    Tick,
    WeightConfirmed,
    advance,
)

Kind = Literal["shift", "gate", "pause", "alarm", "measure", "verdict", "error", "end"]


class Side(Value, frozen=True, kw_only=True):
    """One of the two versions, and where it came from ("" where that is not known)."""

    version: Version
    build: str = ""
    commit: str = ""

    def __str__(self) -> str:
        return f"version {self.version}" + (f" (build {clean(self.build)})" if self.build else "")


class Point(Value, frozen=True, kw_only=True):
    """One bucket of one metric: its own counts, and what all buckets up to it come to.

    `at`: its beginning. `worse`, `no_worse`: log10 of the e-values. `ratio`, `low`, `high`: the odds ratio and its
    interval; None: no estimate, no upper bound.
    """

    metric: str
    at: float
    seconds: float
    weight: float
    canary: Counts
    baseline: Counts
    worse: float
    no_worse: float
    ratio: float | None
    low: float
    high: float | None


class Event(Value, frozen=True, kw_only=True):
    """What happened at a moment, in a sentence; `by` whom, where it was somebody; `weight`: the canary's since then."""

    at: float
    kind: Kind
    what: str
    by: str = ""
    weight: float | None = None


class Story(Value, frozen=True, kw_only=True):
    """`function` is the file's name for it, `name` AWS's. `ended` is 0 while it is under way."""

    id: str
    function: str
    name: str
    environment: str
    alias: str
    baseline: Side
    canary: Side
    by: str
    began: float
    rollout: Rollout
    ended: float = 0.0
    points: tuple[Point, ...] = ()
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """One word for how it ended, or "under way"."""
        match self.rollout.state:
            case Promoted():
                return "promoted"
            case RolledBack():
                return "rolled back"
            case Superseded():
                return "superseded"
            case Stuck():
                return "stuck"
            case _:
                return "under way"

    def of(self, metric: str) -> tuple[Point, ...]:
        return tuple(each for each in self.points if each.metric == metric)


# Telling


def tell(story: Story, signal: AnySignal) -> Story:
    """The story after the signal. What only repeats the last event (an error, minute by minute) is told once."""
    before = story.rollout
    after, _ = advance(before, signal)
    last = {each.what for each in (*story.events[-1:], *[each for each in story.events if each.kind == "gate"][-1:])}
    events = [each for each in _events(before, signal, after) if each.what not in last]
    ended = signal.at if after.ended and not before.ended else 0.0 if not after.ended else story.ended
    return replace(
        story,
        rollout=after,
        ended=ended,
        points=(*story.points, *_points(before, signal)),
        events=(*story.events, *events),
    )


def _points(before: Rollout, signal: AnySignal) -> list[Point]:
    """What the rollout takes from the signal, bucket by bucket: it keeps only the sum."""
    if not isinstance(signal, Measured) or signal.error:
        return []
    if not isinstance(before.state, (*WATCHED, Gating)) or not 0 < before.weight < 1:
        return []
    policy = before.policy
    alpha = analysis.shares(policy.alpha, len(policy.metrics))
    known = {metric.name: each for metric, each in zip(policy.metrics, before.evidence, strict=True)}
    points = []
    for bucket in sorted(signal.buckets, key=lambda each: each.at):
        if bucket.metric not in known or not before.counted <= bucket.at < signal.until:
            continue
        known[bucket.metric] = analysis.weigh(known[bucket.metric], bucket)
        judged = analysis.judge(known[bucket.metric], alpha=alpha, minimum=policy.minimum)
        points.append(
            Point(
                metric=bucket.metric,
                at=bucket.at,
                seconds=bucket.seconds,
                weight=before.weight,
                canary=bucket.canary,
                baseline=bucket.baseline,
                worse=judged.worse,
                no_worse=judged.no_worse,
                ratio=judged.ratio,
                low=judged.low,
                high=judged.high,
            )
        )
    return points


def _events(before: Rollout, signal: AnySignal, after: Rollout) -> list[Event]:
    if after == before and not isinstance(signal, Measured):
        return []  # came late or twice: nothing happened
    at = signal.at
    happened = _signalled(before, signal)
    if type(after.state) is not type(before.state) and (followed := _followed(before, signal, after)):
        happened.append(Event(at=at, kind=followed[0], what=followed[1]))
    return happened


def _signalled(before: Rollout, signal: AnySignal) -> list[Event]:
    at, canary = signal.at, before.canary

    def event(kind: Kind, what: str, by: str = "", weight: float | None = None) -> list[Event]:
        return [Event(at=at, kind=kind, what=what, by=by, weight=weight)]

    match signal:
        case WeightConfirmed():
            match before.state:
                case Shifting(to=to):
                    return event("shift", f"version {canary} serves {per_cent(to)}", weight=to)
                case Promoting():
                    return event("shift", f"version {canary} serves everything", weight=1.0)
                case RollingBack():
                    return event("shift", f"version {before.baseline} serves everything again", weight=0.0)
                case _:
                    return []
        case Measured(error=error):
            return event("error", f"could not be measured: {error}") if error else []
        case Failed(why=why):
            return event("alarm", why)
        case GatePassed(moment=moment, by=by):
            return event("gate", f"passed: {_moment(moment, before)}", by)
        case GateRefused(moment=moment, why=why):
            return event("gate", f"refused {_moment(moment, before)}: {why}")
        case GateWaiting(moment=moment):
            waits = event("gate", f"waits for an answer: {_moment(moment, before)}")
            return [] if isinstance(before.state, Gating) and before.state.asked else waits
        case PauseAsked(by=by):
            return event("pause", f"held at {per_cent(before.weight)}", by)
        case ResumeAsked(by=by):
            return event("pause", "goes on", by)
        case SkipAsked(by=by):
            return event("pause", f"no longer waits at {per_cent(before.weight)}", by)
        case AbortAsked(by=by, why=why):
            return event("pause", "aborted" + (f": {why}" if why else ""), by)
        case DriftSeen(what=what):
            return event("end", f"superseded: {what}")
        case CallFailed(what=what):
            return event("error", what)
        case Tick():
            return []
        case _:
            assert_never(signal)


def _followed(before: Rollout, signal: AnySignal, after: Rollout) -> tuple[Kind, str] | None:
    """What the state that came of it adds to the signal."""
    match after.state:
        case RollingBack(why=why) | RolledBack(why=why) if isinstance(signal, Measured):
            return "verdict", f"goes back: {_reason(after, why)}"
        case Judging(why=why) if isinstance(signal, Measured):
            return None if signal.error else ("measure", f"waits: {why}")  # the error was told
        case Promoting() | Gating(moment="full") if isinstance(signal, Measured):
            passed = any(each.verdict is Verdict.PASS for each in after.judgements)
            return ("verdict", f"version {after.canary} is no worse than tolerated") if passed else None
        case Gating(moment="quiet" | "spent" as moment):
            return "measure", "asks " + _moment(moment, before)
        case Shifting(to=0.0) if isinstance(signal, Measured):
            return "verdict", "takes the canary's traffic away: the budget is spent"
        case Stuck():
            return "end", "stuck: a person must look"
        case _:
            return None


# Sentences


def state_sentence(rollout: Rollout) -> str:
    """What is true of the alias now, in a sentence."""
    baseline, canary, share = rollout.baseline, rollout.canary, per_cent(rollout.weight)
    match rollout.state:
        case Ready():
            return f"Nothing has moved: version {baseline} serves everything."
        case Gating(moment=moment, asked=asked):
            person = moment in ("quiet", "spent")
            if asked:
                how = "`rollout approve`" if person else "`rollout approve`, at a pause `rollout resume`"
                return f"Waits for an answer: {_moment(moment, rollout)} ({how}; `rollout abort` goes back)."
            return f"{'Asks' if person else 'Looks at what must pass'} {_moment(moment, rollout)}."
        case Shifting(to=0.0):
            return f"Version {canary} is being given no more traffic: the budget is spent."
        case Shifting(to=to):
            return f"Version {canary} is being given {per_cent(to)} of the traffic."
        case Baking(until=until):
            return f"Version {canary} serves {share}, and is watched there until {clock(until)} at least."
        case Judging(why=why):
            return f"Version {canary} serves {share}, and that stays: {clean(why)}."
        case Paused(by=by):
            held = f"Held at {share} by {clean(by)}" if by else f"Held at {share}"
            return f"{held}; a version that is worse goes back all the same."
        case Promoting():
            return f"Version {canary} is being given all of the traffic."
        case RollingBack(why=why):
            return f"Goes back to version {baseline}: {_reason(rollout, why)}."
        case Promoted():
            return f"Version {canary} serves everything."
        case RolledBack(why=why):
            return f"Version {baseline} serves everything: {_reason(rollout, why)}."
        case Superseded(what=what):
            return f"The alias was moved by somebody else, and nothing of theirs was touched: {clean(what)}."
        case Stuck(why=why):
            return f"A person must look; the alias may serve both versions: {clean(why)}."
        case _:
            assert_never(rollout.state)


def _reason(rollout: Rollout, why: str) -> str:
    """A judgement's numbers are in the verdict already."""
    found = next((each.metric for each in rollout.judgements if each.why == why), None)
    return clean(why) if found is None else f"version {rollout.canary} is worse by its {clean(found)}"


def action_sentence(action: Action) -> str:
    """What is done next, in a sentence; "" where it is over."""
    match action:
        case SetWeight(routing=routing):
            return f"sets {routing}"
        case Promote(routing=routing) | Restore(routing=routing):
            return f"sets {routing} alone"
        case Measure(at=at):
            return f"counts again at {clock(at)}, when the counts are complete"
        case RunGates(moment=moment, weight=weight):
            return f"asks {_MOMENTS[moment].format(weight=per_cent(weight))}"
        case Nothing():
            return ""
        case _:
            assert_never(action)


_MOMENTS: dict[Moment, str] = {
    "before": "before anything is done",
    "traffic": "before the canary gets traffic",
    "step": "before more than {weight}",
    "quiet": "whether to go on with too few calls to judge by",
    "spent": "whether to go on with the budget spent, and nothing shown: nothing goes to the canary meanwhile",
    "full": "before all of the traffic",
    "after": "after all of the traffic",
}


def _moment(moment: Moment, rollout: Rollout) -> str:
    return _MOMENTS[moment].format(weight=per_cent(rollout.weight))


def headline(story: Story) -> str:
    """What came of it, in a few words: "Version 8 was rolled back"."""
    canary, state = story.canary.version, story.rollout.state
    match state:
        case Promoted():
            return f"Version {canary} was promoted"
        case RolledBack():
            served = len(weights(story)) > 1  # also when a shift may have taken effect, and was not confirmed
            return f"Version {canary} was rolled back" if served else f"Version {canary} got no traffic"
        case Superseded():
            return f"The rollout of version {canary} was superseded"
        case Stuck():
            return f"The rollout of version {canary} is stuck"
        case Paused():
            return f"Version {canary} is held at {per_cent(story.rollout.weight)}"
        case _:
            return f"Version {canary} is at {per_cent(story.rollout.weight)}"


def weights(story: Story) -> tuple[tuple[float, float], ...]:
    """The canary's weight over time: (seconds since the beginning, weight from then on)."""
    return ((0.0, 0.0), *((each.at - story.began, each.weight) for each in story.events if each.weight is not None))


def telling(story: Story) -> Judgement | None:
    """The judgement that decides: the strongest against the canary; where all pass, the weakest. None: no calls."""
    judgements = story.rollout.judgements
    counted_ones = [each for each in judgements if each.canary.calls]
    if not counted_ones:
        return None
    worst = max(each.verdict for each in judgements)
    having = [each for each in judgements if each.verdict is worst]
    if worst is Verdict.PASS:
        return min(having, key=lambda each: each.no_worse - each.limit)
    return max(having, key=lambda each: each.worse - each.limit)


def verdict(story: Story) -> str:
    """The verdict in one sentence, with its numbers."""
    version, policy = story.canary.version, story.rollout.policy
    if not policy.metrics:
        return f"Nothing is measured: no metric was named to judge version {version} by."
    judgement = telling(story)
    if judgement is None:
        return f"No call of version {version} has been counted, so nothing speaks for it or against it."
    found = f"{found_sentence(judgement)}; {ratio_words(judgement)}"
    against, for_it, limit = power(judgement.worse), power(judgement.no_worse), power(judgement.limit)
    match judgement.verdict:
        case Verdict.FAIL:
            return f"Version {version} is worse: {found}; e-value {against}, the limit is {limit}."
        case Verdict.PASS:
            shown = f"e-value {for_it} against its being worse than that, the limit is {limit}"
            tolerated = next((each.tolerated for each in policy.metrics if each.name == judgement.metric), "")
            more = "worse, but no more" if judgement.worse >= judgement.limit else "no worse"
            return f"Version {version} is {more} than tolerated ({tolerated}): {found}; {shown}."
        case Verdict.INCONCLUSIVE:
            shown = f"e-value {against} against it and {for_it} for it, the limit is {limit}"
            ahead = judgement.needed and not story.ended
            more = f"; about {judgement.needed:,} more calls of it would tell" if ahead else ""
            return f"Nothing is proved of version {version}{'' if story.ended else ' yet'}: {found}; {shown}{more}."
        case Verdict.ERROR:
            return f"Version {version} could not be judged: {clean(judgement.why)}."
        case _:
            assert_never(judgement.verdict)


_DID = {"errors": "failed", "slow": "were slow", "throttles": "were throttled"}


def did(metric: str) -> str:
    """What a bad call of the metric did: "failed"."""
    return _DID.get(metric, f"were bad ({clean(metric)})")


def found_sentence(judgement: Judgement) -> str:
    """ "31 of 1,020 calls failed (3.0 %) against 4 of 9,480 (0.042 %)"."""
    canary, baseline = judgement.canary, judgement.baseline
    return (
        f"{canary.bad:,} of {counted_calls(canary.calls)} {did(judgement.metric)} ({share(canary)}) against "
        f"{baseline.bad:,} of {baseline.calls:,} ({share(baseline)})"
    )


def ratio_words(judgement: Judgement) -> str:
    """ "odds ratio about 74 (at least 21)": the side of the interval that the verdict is about."""
    if judgement.ratio is None:
        return "no odds ratio yet"
    low, high = number(judgement.low), number(judgement.high)
    match judgement.verdict:
        case Verdict.FAIL if judgement.low > 1:
            bound = f"at least {low}"
        case Verdict.PASS if judgement.high is not None:
            bound = f"at most {high}"
        case _:
            bound = f"{low} to {high}" if judgement.high is not None else f"{low} or more"
    return f"odds ratio about {number(judgement.ratio)} ({bound})"


VERDICTS = {
    Verdict.PASS: "no worse",
    Verdict.INCONCLUSIVE: "not proved",
    Verdict.ERROR: "not measured",
    Verdict.FAIL: "worse",
}


# Time


def time_left(story: Story, now: float) -> float | None:
    """Seconds until the end, if all goes well and gates pass at once; None where only people or calls can tell.

    Each step takes its bake time in whole buckets, and until they are complete; longer, where the least number of
    calls takes longer at this traffic; all of it less, where evidence that the canary is no worse comes first.
    """
    rollout, policy = story.rollout, story.rollout.policy
    match rollout.state:
        case Promoted() | RolledBack() | Superseded() | Stuck():
            return 0.0
        case Paused() | Gating(waiting=True) | Gating(moment="quiet" | "spent"):
            return None
        case Promoting() | RollingBack() | Gating(moment="full" | "after"):
            return 0.0
        case _:
            pass
    if rollout.trouble:
        return None
    passed = isinstance(rollout.state, Gating) and rollout.state.moment == "step"
    enough = _enough(rollout)
    at, watched = now, isinstance(rollout.state, Baking | Judging)
    for n, step in enumerate(policy.steps[rollout.step + passed :], rollout.step + passed):
        if watched and policy.budget is not None and rollout.weight < step.weight:
            return None  # the weight goes up as fast as the evidence allows
        done = _step_done(rollout, step, at, watched=watched)
        if done is None:
            return None
        rate = rollout.traffic * (rollout.weight if watched else step.weight)
        proved = at + enough / rate + policy.lag_s if rate > 0 else math.inf
        if policy.early and proved < done:
            return max(0.0, proved - now)
        if policy.proof and n + 1 == len(policy.steps):
            done = max(done, proved)
        enough -= rate * (done - at)
        at, watched = done, False
    return max(0.0, at - now) if math.isfinite(at) else None


def _enough(rollout: Rollout) -> float:
    """Canary calls until every metric should have shown that it is no worse; infinite where that is not in sight."""
    needed = [each.needed for each in rollout.judgements]
    return max((math.inf if each is None else float(each) for each in needed), default=math.inf)


def _step_done(rollout: Rollout, step: Step, at: float, *, watched: bool) -> float | None:
    """When a step that begins at `at`, or is under way, may be over; None if it has too few calls for ever."""
    policy, period = rollout.policy, rollout.policy.period_s
    shifted = at + 1.0  # about what UpdateAlias takes: a bucket under way is lost to it
    first = rollout.counted if watched else math.ceil(shifted / period) * period
    buckets = math.ceil(step.bake_s / period) - (rollout.baked if watched else 0)
    missing = policy.minimum - (rollout.fresh if watched else 0) if policy.metrics else 0
    if missing > 0:
        rate = rollout.traffic * (rollout.weight if watched else step.weight)
        if rate <= 0:
            return None
        buckets = max(buckets, math.ceil(missing / rate / period))
    return first + max(buckets, 1) * period + policy.lag_s


# Numbers and times as people read them


def clean(text: str) -> str:
    """A text from outside on one line, without what could move a terminal's cursor or turn text around."""
    return "".join(each if each.isprintable() else " " for each in text).strip()


def share(counts: Counts) -> str:
    """Two digits that count: "3.0 %", "0.042 %"; "0 %" only of none, "100 %" only of all, "-" of no calls."""
    if not counts.calls:
        return "-"
    value = 100 * counts.bad / counts.calls
    if value in {0, 100}:
        return f"{value:.0f} %"
    if value < 99:
        value = float(f"{value:.1e}")  # 0.996 is 1.0, and not 1.00
        return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f} %"
    return f"{value:.{max(0, -math.floor(math.log10(100 - value)))}f} %"


def per_cent(part: float) -> str:
    """A share of 1 in per cent, as short as it can be said: "10 %", "0.1 %"."""
    return f"{part * 100:.4g} %" if part >= 1e-6 or part == 0 else f"{part * 100:.2g} %"


def number(value: float | None) -> str:
    """Of a ratio: "74", "1.3", "0.045", "∞" for what has no bound."""
    if value is None:
        return "∞"
    if 0 < value < 0.001:
        return "under 0.001"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def power(exponent: float) -> str:
    """An e-value, or its limit, from its log10: "10^6.2", "10^2"."""
    return f"10^{exponent_text(exponent)}"


def exponent_text(exponent: float) -> str:
    if math.isinf(exponent) or math.isnan(exponent):
        return "∞" if exponent > 0 else "-∞"
    return f"{exponent:.1f}".removesuffix(".0").replace("-0", "0", exponent > -0.05)


def counted_calls(calls: float) -> str:
    return f"{calls:,.0f} call{'' if calls == 1 else 's'}"


def clock(at: float) -> str:
    """The time of day, in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def lasted(seconds: float) -> str:
    """A length of time in its two largest units: "45 s", "4 min 10 s", "2 h 5 min"."""
    whole = round(max(seconds, 0.0))
    for size, unit, part, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
