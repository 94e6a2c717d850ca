"""The state machine: every state takes every signal, what each pair leads to, and what holds whatever happens."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pointsman.analysis import Bucket, Counts, Metric
from pointsman.model import Routing, Version, from_json, to_json
from pointsman.rollout import (
    ENDS,
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
    Nothing,
    PauseAsked,
    Paused,
    Policy,
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
    State,
    Step,
    Stuck,
    Superseded,
    Tick,
    WeightConfirmed,
    advance,
    affordable,
    begin,
    due,
    warnings,
)

T0 = 1_700_000_040.0  # a whole minute
STEPS = (Step(weight=0.1, bake_s=120), Step(weight=0.5, bake_s=120))
PLAIN = Policy(steps=STEPS, metrics=(Metric(name="errors"),), traffic=100.0)
ALL = ("before", "traffic", "step", "quiet", "spent", "full", "after")


def ready(policy: Policy = PLAIN) -> Rollout:
    return begin(policy, baseline=Version("7"), canary=Version("8"), revision="r0", at=T0)


def at(state: State, *, weight: float = 0.1, policy: Policy = PLAIN, step: int = 0, **facts: Any) -> Rollout:
    """A rollout in the middle of things: confirmed at T0, nothing measured since."""
    facts = {"counted": T0, "measured": T0, **facts}
    return replace(ready(policy), state=state, weight=weight, step=step, **facts)


def measured(rollout: Rollout, *, canary: int, bad: int = 0, baseline: int = 900, baseline_bad: int = 0) -> Measured:
    """The next minute, complete two minutes after its end."""
    begins = rollout.counted
    bucket = Bucket(
        metric="errors",
        at=begins,
        seconds=60,
        canary=Counts(calls=canary, bad=bad),
        baseline=Counts(calls=baseline, bad=baseline_bad),
    )
    return Measured(at=begins + 180, until=begins + 60, buckets=(bucket,))


STATES: dict[str, Rollout] = {
    "ready": ready(),
    "gating": at(Gating(moment="traffic", since=T0), weight=0.0),
    "gating with traffic": at(Gating(moment="step", since=T0, weight=0.1)),
    "shifting": at(Shifting(to=0.5)),
    "first shift": at(Shifting(to=0.1), weight=0.0),
    "baking": at(Baking(since=T0, until=T0 + 120)),
    "judging": at(Judging(since=T0, why="too few calls")),
    "paused": at(Paused(since=T0, by="ada")),
    "promoting": at(Promoting(), weight=0.5),
    "rolling back": at(RollingBack(why="worse")),
    "promoted": at(Promoted(), weight=1.0),
    "rolled back": at(RolledBack(why="worse"), weight=0.0),
    "superseded": at(Superseded(what="serves 9")),
    "stuck": at(Stuck(why="refused")),
}
SIGNALS: dict[str, AnySignal] = {
    "tick": Tick(at=T0 + 1),
    "confirmed": WeightConfirmed(at=T0 + 1, revision="r1"),
    "nothing new": Measured(at=T0 + 1, until=T0),
    "not measured": Measured(at=T0 + 1, until=T0, error="AccessDenied"),
    "failed": Failed(at=T0 + 1, why="alarm red"),
    "passed": GatePassed(at=T0 + 1, moment="traffic", by="ada"),
    "refused": GateRefused(at=T0 + 1, moment="traffic", why="tests failed"),
    "waiting": GateWaiting(at=T0 + 1, moment="traffic"),
    "pause": PauseAsked(at=T0 + 1, by="ada"),
    "resume": ResumeAsked(at=T0 + 1, by="ada"),
    "skip": SkipAsked(at=T0 + 1, by="ada"),
    "abort": AbortAsked(at=T0 + 1, by="ada"),
    "drift": DriftSeen(at=T0 + 1, what="serves 9"),
    "call failed": CallFailed(at=T0 + 1, what="refused"),
}
# state × signal → the next state; what is not named stays as it is.
NEXT: dict[str, dict[str, type]] = {
    "ready": {"tick": Shifting, "failed": RolledBack, "abort": RolledBack, "drift": Superseded},
    "gating": {
        "passed": Shifting,
        "refused": RolledBack,
        "waiting": Gating,
        "failed": RolledBack,
        "abort": RolledBack,
        "drift": Superseded,
    },
    "gating with traffic": {"failed": RollingBack, "abort": RollingBack, "drift": Superseded},
    "shifting": {
        "confirmed": Baking,
        "failed": RollingBack,
        "abort": RollingBack,
        "drift": Superseded,
        "call failed": RollingBack,
    },
    "first shift": {
        "confirmed": Baking,
        "failed": RollingBack,
        "abort": RollingBack,
        "drift": Superseded,
        "call failed": RollingBack,
    },
    "baking": {
        "not measured": Judging,
        "failed": RollingBack,
        "pause": Paused,
        "skip": Shifting,
        "abort": RollingBack,
        "drift": Superseded,
    },
    "judging": {
        "nothing new": Baking,
        "failed": RollingBack,
        "pause": Paused,
        "skip": Shifting,
        "abort": RollingBack,
        "drift": Superseded,
    },
    "paused": {
        "failed": RollingBack,
        "resume": Judging,
        "skip": Shifting,
        "abort": RollingBack,
        "drift": Superseded,
    },
    "promoting": {
        "confirmed": Promoted,
        "failed": RollingBack,
        "abort": RollingBack,
        "drift": Superseded,
        "call failed": RollingBack,
    },
    "rolling back": {"confirmed": RolledBack, "drift": Superseded, "call failed": Stuck},
    "promoted": {},
    "rolled back": {},
    "superseded": {},
    "stuck": {"abort": RollingBack},
}


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_takes_every_signal(state: str, signal: str) -> None:
    before = STATES[state]

    after, action = advance(before, SIGNALS[signal])

    expected = NEXT[state].get(signal, type(before.state))
    if state == "judging" and signal == "nothing new":
        expected = Judging  # its bake time had not run out by the clock of the signal: it waits on
    assert type(after.state) is expected
    assert action == due(after)
    if signal not in NEXT[state] and signal not in ("nothing new", "not measured"):
        assert after == before


def test_a_healthy_canary_goes_step_by_step_to_all_of_the_traffic() -> None:
    rollout, action = advance(ready(replace(PLAIN, early=False)), Tick(at=T0))
    weights = []

    for minute in range(1, 12):
        match action:
            case SetWeight(routing=routing):
                assert routing.canary is not None
                weights.append(float(routing.canary.weight))
                rollout, action = advance(rollout, WeightConfirmed(at=T0 + 60 * minute, revision=f"r{minute}"))
            case Measure(at=when, since=since):
                assert (when, since) == (rollout.counted + 180, rollout.counted)
                calls = round(6000 * rollout.weight)
                rollout, action = advance(rollout, measured(rollout, canary=calls, baseline=6000 - calls))
            case Promote():
                rollout, action = advance(rollout, WeightConfirmed(at=T0 + 60 * minute, revision="last"))
            case _:
                break

    assert weights == [0.1, 0.5]
    assert rollout.state == Promoted()
    assert rollout.revision == "last"


def test_a_worse_canary_goes_back_with_the_numbers_that_tell_it() -> None:
    rollout = at(Baking(since=T0, until=T0 + 120))

    after, action = advance(rollout, measured(rollout, canary=600, bad=60, baseline=5400, baseline_bad=5))

    assert isinstance(after.state, RollingBack)
    assert "60 of 600" in after.state.why
    assert isinstance(action, Restore)
    assert action.routing.canary is None
    assert action.routing.version == "7"


def test_a_canary_that_turns_bad_while_it_is_paused_goes_back_all_the_same() -> None:
    rollout = at(Paused(since=T0, by="ada"))

    after, _ = advance(rollout, measured(rollout, canary=600, bad=60, baseline=5400, baseline_bad=5))

    assert isinstance(after.state, RollingBack)


def test_a_shared_outage_moves_nothing_until_it_is_over() -> None:
    policy = replace(PLAIN, usual=0.001)
    rollout = at(Baking(since=T0, until=T0 + 120), policy=policy)

    for _minute in range(5):
        rollout, _ = advance(rollout, measured(rollout, canary=600, bad=300, baseline=5400, baseline_bad=2700))
        assert isinstance(rollout.state, Judging)
        assert "outage" in rollout.state.why
    over, _ = advance(rollout, measured(rollout, canary=600, baseline=5400))

    assert isinstance(over.state, Shifting | Promoting)


def test_a_canary_that_mends_an_outage_goes_on() -> None:
    rollout = at(Baking(since=T0, until=T0 + 120), policy=replace(PLAIN, usual=0.001))

    after, _ = advance(rollout, measured(rollout, canary=600, bad=0, baseline=5400, baseline_bad=2700))

    assert isinstance(after.state, Promoting)


def test_shown_to_be_no_worse_it_goes_to_all_of_the_traffic_at_once() -> None:
    policy = replace(PLAIN, metrics=(Metric(name="errors", difference=0.01),))
    rollout = at(Baking(since=T0, until=T0 + 120), policy=policy)

    after, action = advance(rollout, measured(rollout, canary=5000, bad=0, baseline=5000))

    assert isinstance(after.state, Promoting)
    assert isinstance(action, Promote)
    assert action.routing.canary is None, "the new version and empty weights in one call"


@pytest.mark.parametrize(("quiet", "expected"), [("ask", Gating), ("go-on", Shifting), ("roll-back", RollingBack)])
def test_too_few_calls_hold_and_then_do_as_the_policy_says(quiet: Any, expected: type) -> None:
    policy = replace(PLAIN, quiet=quiet, hold_s=600.0)
    rollout = at(Baking(since=T0, until=T0 + 120), policy=policy)
    held = []

    while isinstance(rollout.state, Baking | Judging):
        rollout, _ = advance(rollout, measured(rollout, canary=1, baseline=9))
        held.append(type(rollout.state))

    assert isinstance(rollout.state, expected)
    assert held.count(Judging) >= 9, "for ten minutes it waits"


def test_who_accepts_too_few_calls_has_not_passed_the_gates_of_the_step() -> None:
    policy = replace(PLAIN, moments=("step",), gated=(0.1,))

    after, _ = advance(at(Gating(moment="quiet", since=T0, weight=0.1), policy=policy), _pass("quiet"))
    assert after.state == Gating(moment="step", since=T0 + 1, weight=0.1)
    after, _ = advance(after, _pass("step"))
    assert isinstance(after.state, Shifting)


def test_a_step_that_a_budget_kept_small_has_its_gates() -> None:
    policy = replace(BUDGET, moments=("step",), gated=(0.5,))

    after, _ = advance(
        at(Baking(since=T0, until=T0 + 240), weight=0.003, policy=policy), SkipAsked(at=T0 + 1, by="ada")
    )

    assert after.state == Gating(moment="step", since=T0 + 1, weight=0.5)


def _pass(moment: Any) -> GatePassed:
    return GatePassed(at=T0 + 1, moment=moment, by="ada")


def test_half_way_to_being_proven_worse_it_is_given_no_more() -> None:
    rollout = at(Baking(since=T0, until=T0 + 120))
    rollout, _ = advance(rollout, measured(rollout, canary=600, bad=5, baseline=5400, baseline_bad=8))
    (judged,) = rollout.judgements
    assert judged.limit / 2 < judged.worse < judged.limit

    for _minute in range(3):
        rollout, _ = advance(rollout, measured(rollout, canary=0, baseline=5400, baseline_bad=8))
        assert isinstance(rollout.state, Judging | Baking)
    assert isinstance(rollout.state, Judging)
    assert "already" in rollout.state.why
    tolerant = replace(rollout, policy=replace(PLAIN, metrics=(Metric(name="errors", difference=0.05),)))
    after, _ = advance(tolerant, measured(tolerant, canary=0, baseline=5400, baseline_bad=8))
    assert isinstance(after.state, Shifting), "what is tolerated is no reason to wait"


def test_no_data_at_all_never_passes() -> None:
    rollout = at(Baking(since=T0, until=T0 + 120), policy=replace(PLAIN, quiet="ask"))

    for minute in range(1, 200):
        rollout, _ = advance(rollout, Measured(at=T0 + 60 * minute, until=T0 + 60 * (minute - 2)))

    assert rollout.state == Gating(moment="quiet", since=rollout.state.since, weight=0.1)  # type: ignore[union-attr]


def test_what_cannot_be_measured_for_too_long_goes_back() -> None:
    rollout = at(Baking(since=T0, until=T0 + 120))

    held, _ = advance(rollout, Measured(at=T0 + 1000, until=T0, error="AccessDenied"))
    gone, _ = advance(held, Measured(at=T0 + 1900, until=T0, error="AccessDenied"))

    assert isinstance(held.state, Judging)
    assert "AccessDenied" in held.state.why
    assert isinstance(gone.state, RollingBack)
    assert "AccessDenied" in gone.state.why


def test_a_bucket_is_counted_once_and_one_that_spans_a_shift_never() -> None:
    rollout, _ = advance(at(Shifting(to=0.1), weight=0.0), WeightConfirmed(at=T0 + 13, revision="r1"))
    assert rollout.counted == T0 + 60

    early = Bucket(metric="errors", at=T0, seconds=60, canary=Counts(calls=9, bad=9), baseline=Counts(calls=9, bad=0))
    after, _ = advance(rollout, Measured(at=T0 + 200, until=T0 + 60, buckets=(early,)))
    assert after.evidence == rollout.evidence

    signal = measured(after, canary=100)
    once, _ = advance(after, signal)
    twice, _ = advance(once, signal)
    assert once.evidence == twice.evidence
    assert once.fresh == twice.fresh == 100


def test_gates_stand_at_their_moments() -> None:
    policy = replace(PLAIN, moments=ALL, gated=(0.1,), early=False)
    rollout, action = advance(ready(policy), Tick(at=T0))
    seen = []

    for minute in range(1, 40):
        match action:
            case RunGates(moment=moment, weight=weight):
                seen.append((moment, weight))
                rollout, action = advance(rollout, GatePassed(at=T0 + 60 * minute, moment=moment))
            case SetWeight() | Promote():
                rollout, action = advance(rollout, WeightConfirmed(at=T0 + 60 * minute, revision="r"))
            case Measure():
                calls = round(6000 * rollout.weight)
                rollout, action = advance(rollout, measured(rollout, canary=calls, baseline=6000 - calls))
            case _:
                break

    assert rollout.state == Promoted()
    assert seen == [("before", 0.0), ("traffic", 0.0), ("step", 0.1), ("full", 0.5), ("after", 1.0)]


def test_a_gate_after_all_traffic_that_refuses_puts_the_baseline_back() -> None:
    rollout = at(Gating(moment="after", since=T0, weight=1.0), weight=1.0)

    after, action = advance(rollout, GateRefused(at=T0 + 1, moment="after", why="smoke test"))

    assert isinstance(after.state, RollingBack)
    assert isinstance(action, Restore)


def test_while_somebody_is_asked_the_canary_is_measured() -> None:
    rollout = at(Gating(moment="step", since=T0, weight=0.1))

    waiting, action = advance(rollout, GateWaiting(at=T0 + 1, moment="step"))
    again, asked = advance(waiting, measured(waiting, canary=600, baseline=5400))
    worse, _ = advance(waiting, measured(waiting, canary=600, bad=60, baseline=5400))

    assert isinstance(action, Measure)
    assert isinstance(again.state, Gating)
    assert isinstance(asked, RunGates)
    assert isinstance(worse.state, RollingBack)


def test_all_at_once_is_a_rollout_without_steps() -> None:
    rollout, action = advance(ready(replace(PLAIN, steps=())), Tick(at=T0))

    assert rollout.state == Promoting()
    assert isinstance(action, Promote)


def test_the_budget_lets_the_weight_grow_with_the_evidence() -> None:
    policy = replace(PLAIN, budget=50, steps=(Step(weight=0.5, bake_s=120),), early=False)
    rollout, action = advance(ready(policy), Tick(at=T0))
    weights = []

    for minute in range(1, 60):
        match action:
            case SetWeight(routing=routing):
                assert routing.canary is not None
                weights.append(float(routing.canary.weight))
                rollout, action = advance(rollout, WeightConfirmed(at=T0 + 60 * minute, revision="r"))
            case Measure():
                calls = round(6000 * rollout.weight)
                rollout, action = advance(rollout, measured(rollout, canary=calls, baseline=6000 - calls))
            case _:
                break

    assert weights[0] == pytest.approx(50 / (100 * 240))
    assert all(later > earlier for earlier, later in pairwise(weights))
    assert weights[-1] == 0.5


def test_the_smallest_cost_of_a_budget_that_cannot_be_kept_is_said_before_the_start() -> None:
    busy = replace(PLAIN, budget=50, traffic=10_000.0)

    assert "240 calls" in " ".join(warnings(ready(busy)))
    assert warnings(ready(replace(PLAIN, budget=50))) == ()


def test_without_evidence_the_budget_affords_what_would_fail_altogether() -> None:
    assert affordable(50, (), traffic=100, blind_s=240, late_s=120, weight=0.0) == pytest.approx(50 / 24_000)


BUDGET = replace(PLAIN, budget=20, steps=(Step(weight=0.5, bake_s=120),))


def _costly(policy: Policy = BUDGET, state: State | None = None) -> tuple[Rollout, Action]:
    """30 of 400 calls failed where 15 would have: as many as planned with, and no proof."""
    rollout = at(state or Baking(since=T0, until=T0 + 240), weight=0.05, policy=policy)
    return advance(rollout, measured(rollout, canary=400, bad=30, baseline=7600, baseline_bad=285))


@pytest.mark.parametrize(
    "state",
    [Baking(since=T0, until=T0 + 240), Paused(since=T0, by="ada"), Gating(moment="step", since=T0, waiting=True)],
    ids=["baking", "paused", "gating"],
)
def test_a_budget_that_is_spent_takes_the_traffic_away_and_asks(state: State) -> None:
    """It is not shown that the canary is worse: so it is not rolled back, but costs nothing while a person thinks."""
    rollout, action = _costly(state=state)

    assert action == SetWeight(routing=Routing(version=Version("7")))
    rollout, action = advance(rollout, WeightConfirmed(at=T0 + 200, revision="r2"))
    assert rollout.weight == 0
    assert action == RunGates(moment="spent", weight=0.05, since=T0 + 200)
    refused, action = advance(rollout, GateRefused(at=T0 + 300, moment="spent", why="ada: too many"))
    assert refused.state == RolledBack(why="ada: too many"), "the baseline serves everything already"
    assert isinstance(action, Nothing)
    rollout, action = advance(rollout, GatePassed(at=T0 + 300, moment="spent", by="ada"))
    assert isinstance(action, SetWeight)
    assert action.routing == rollout.routing(0.5), "who lets it go on knows that the budget is spent"
    assert rollout.policy.budget is None


@pytest.mark.parametrize("quiet", ["go-on", "roll-back"])
def test_where_nobody_is_to_be_asked_a_spent_budget_goes_back(quiet: Any) -> None:
    rollout, action = _costly(replace(BUDGET, quiet=quiet))

    assert isinstance(rollout.state, RollingBack)
    assert "the budget of 20 calls is as good as spent: about 15 more calls" in rollout.state.why
    assert isinstance(action, Restore)


def test_chance_spends_no_budget() -> None:
    """As many extra failures, but among so many that chance alone makes as much difference."""
    rollout = at(Baking(since=T0, until=T0 + 240), weight=0.05, policy=replace(BUDGET, early=False))
    rollout, action = advance(rollout, measured(rollout, canary=4000, bad=215, baseline=76_000, baseline_bad=3800))

    assert rollout.judgements[0].extra * 4000 == pytest.approx(15)
    assert isinstance(action, Measure), "no more than it has, and no less"


def test_what_is_not_counted_yet_is_part_of_what_the_budget_affords() -> None:
    judged = _costly(replace(BUDGET, budget=1000))[0].judgements
    late, soon = (affordable(1000, judged, traffic=133, blind_s=240, late_s=s, weight=0.05) for s in (120, 0))

    assert 0.05 < late < soon


def test_a_rollout_survives_its_ledger() -> None:
    rollout = at(Baking(since=T0, until=T0 + 120))
    rollout, _ = advance(rollout, measured(rollout, canary=600, bad=3, baseline=5400, baseline_bad=2))

    assert from_json(to_json(rollout), Rollout) == rollout


# Whatever happens

_MOMENTS = st.sampled_from(ALL)


def _signal(event: tuple[str, Any, int, int], rollout: Rollout, now: float) -> AnySignal:
    kind, moment, canary, bad = event
    match kind:
        case "measured":
            counts = {"canary": canary, "bad": min(bad, canary), "baseline": 500, "baseline_bad": 3}
            return replace(measured(rollout, **counts), at=now)
        case "passed":
            return GatePassed(at=now, moment=moment)
        case "refused":
            return GateRefused(at=now, moment=moment, why="no")
        case "waiting":
            return GateWaiting(at=now, moment=moment)
        case "confirmed":
            return WeightConfirmed(at=now, revision=f"r{now}")
        case _:
            return replace(SIGNALS[kind], at=now)


POLICIES = st.builds(
    Policy,
    steps=st.lists(st.integers(1, 99), unique=True, max_size=4).map(
        lambda all_: tuple(Step(weight=each / 100, bake_s=120) for each in sorted(all_))
    ),
    metrics=st.just((Metric(name="errors"),)),
    quiet=st.sampled_from(["ask", "go-on", "roll-back"]),
    budget=st.sampled_from([None, 5, 500]),
    early=st.booleans(),
    traffic=st.sampled_from([0.0, 1.0, 100.0]),
    moments=st.lists(_MOMENTS, unique=True).map(tuple),
    gated=st.just((0.1,)),
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([*SIGNALS, "measured", "measured", "measured"]),
        _MOMENTS,
        st.integers(0, 900),
        st.integers(0, 9),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(policy=POLICIES, events=EVENTS)
def test_the_weight_never_passes_its_step_and_the_baseline_can_always_be_restored(policy: Policy, events: Any) -> None:
    rollout, now, drifted = ready(policy), T0, False

    for event in events:
        now += 60
        ended = rollout.ended
        signal = _signal(event, rollout, now)
        rollout, action = advance(rollout, signal)
        drifted = drifted or (isinstance(signal, DriftSeen) and not ended)

        if isinstance(action, SetWeight) and action.routing.canary is None:
            assert policy.budget is not None
            assert policy.quiet == "ask"
        elif isinstance(action, SetWeight):
            assert action.routing.canary is not None
            top = policy.steps[rollout.step].weight
            assert float(action.routing.canary.weight) <= top + 1e-12
            assert action.routing.version == "7"
        if drifted and isinstance(rollout.state, Superseded):
            assert isinstance(action, Nothing), "what somebody else moved is theirs"
        if not rollout.ended and not isinstance(rollout.state, Promoting):
            back, restore = advance(rollout, AbortAsked(at=now, by="ada"))
            assert isinstance(back.state, RolledBack | RollingBack)
            if isinstance(restore, Restore):
                assert restore.routing.version == "7"
                assert restore.routing.canary is None


@settings(max_examples=60, deadline=None)
@given(policy=POLICIES, canary=st.integers(0, 900), bad=st.integers(0, 30))
def test_it_always_ends(policy: Policy, canary: int, bad: int) -> None:
    """Each action done in turn, gates never answered: the limit ends what nothing else does."""
    policy = replace(policy, limit_s=6 * 3600.0)
    rollout, action = advance(ready(policy), Tick(at=T0))
    now = T0

    for _turn in range(1500):
        now += 60
        match action:
            case SetWeight() | Promote() | Restore():
                signal: AnySignal = WeightConfirmed(at=now, revision="r")
            case Measure():
                signal = replace(measured(rollout, canary=canary, bad=min(bad, canary), baseline_bad=2), at=now)
            case RunGates(moment=moment):
                signal = GateWaiting(at=now, moment=moment)
            case Nothing():
                break
        rollout, action = advance(rollout, signal)

    assert isinstance(rollout.state, ENDS)


def test_nothing_moved_means_nothing_to_restore() -> None:
    after, action = advance(ready(), AbortAsked(at=T0, by="ada"))

    assert after.state == RolledBack(why="ada aborted it")
    assert action == Nothing()
    assert Ready() == ready().state
