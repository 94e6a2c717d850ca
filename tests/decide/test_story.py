"""What is said of a rollout: true sentences with the numbers, whatever state it is in, and no false hope about time."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pointsman import story
from pointsman.analysis import Bucket, Counts
from pointsman.model import Verdict
from pointsman.rollout import (
    Baking,
    CallFailed,
    GatePassed,
    GateWaiting,
    Gating,
    Measured,
    Paused,
    Promoted,
    Rollout,
    Shifting,
    State,
    Tick,
    WeightConfirmed,
    due,
)
from tests import rollout_stories as stories
from tests.rollout_stories import BEGAN, EVERY, policy, run, steady


@pytest.mark.parametrize(
    ("name", "headline", "verdict", "state"),
    [
        (
            "healthy",
            "Version 8 was promoted",
            "Version 8 is no worse than tolerated (2 times the odds): 32 of 10,860 calls failed (0.29 %) against "
            "94 of 31,140 (0.30 %); odds ratio about 0.97 (at most 2.2); e-value 10^2 against its being worse than "
            "that, the limit is 10^2.",
            "Version 8 serves everything.",
        ),
        (
            "bad",
            "Version 8 was rolled back",
            "Version 8 is worse: 4 of 120 calls failed (3.3 %) against 5 of 11,880 (0.042 %); "
            "odds ratio about 82 (at least 2.3); e-value 10^3.9, the limit is 10^2.3.",
            "Version 7 serves everything: version 8 is worse by its errors.",
        ),
        (
            "quiet",
            "Version 8 is at 1 %",
            "No call of version 8 has been counted, so nothing speaks for it or against it.",
            "Waits for an answer: whether to go on with too few calls to judge by (`rollout approve`; `rollout abort` "
            "goes back).",
        ),
        (
            "superseded",
            "The rollout of version 8 was superseded",
            "Nothing is proved of version 8: 0 of 60 calls failed (0 %) against 18 of 5,940 (0.30 %); "
            "odds ratio about 0 (0 to 33); e-value 10^-0.2 against it and 10^0.1 for it, the limit is 10^2.",
            "The alias was moved by somebody else, and nothing of theirs was touched: "
            "it serves version 9 since 12:04:51.",
        ),
        (
            "stuck",
            "The rollout of version 8 is stuck",
            "Nothing is proved of version 8: 0 of 60 calls failed (0 %) against 18 of 5,940 (0.30 %); "
            "odds ratio about 0 (0 to 33); e-value 10^-0.2 against it and 10^0.1 for it, the limit is 10^2.",
            "A person must look; the alias may serve both versions: the alarm greeting-5xx turned red; "
            "going back failed: UpdateAlias: the role of CI may not change this alias.",
        ),
        (
            "approved",
            "Version 8 was promoted",
            "Version 8 is no worse than tolerated (2 times the odds): 34 of 11,460 calls failed (0.30 %) against "
            "110 of 36,540 (0.30 %); odds ratio about 0.98 (at most 2.2); e-value 10^2.1 against its being worse "
            "than that, the limit is 10^2.",
            "Version 8 serves everything.",
        ),
        (
            "unmeasured",
            "Version 8 is at 1 %",
            "No call of version 8 has been counted, so nothing speaks for it or against it.",
            "Version 8 serves 1 %, and is watched there until 12:03:00 at least.",
        ),
        (
            "aborted",
            "Version 8 was rolled back",
            "No call of version 8 has been counted, so nothing speaks for it or against it.",
            "Version 7 serves everything: ann aborted it: wrong build.",
        ),
    ],
)
def test_a_story_says_what_came_of_it(name: str, headline: str, verdict: str, state: str) -> None:
    told = EVERY[name]()

    assert story.headline(told) == headline
    assert story.verdict(told) == verdict
    assert story.state_sentence(told.rollout) == state


def test_events_tell_who_did_what_and_when() -> None:
    told = stories.approved()

    assert [(story.clock(each.at), each.kind, each.what, each.by) for each in told.events] == [
        ("12:00:01", "shift", "version 8 serves 1 %", ""),
        ("12:03:01", "shift", "version 8 serves 10 %", ""),
        ("12:03:20", "pause", "held at 10 %", "ben"),
        ("12:08:20", "pause", "goes on", "ann"),
        ("12:09:01", "shift", "version 8 serves 50 %", ""),
        ("12:14:00", "verdict", "version 8 is no worse than tolerated", ""),
        ("12:14:01", "gate", "waits for an answer: before all of the traffic", ""),
        ("12:15:00", "gate", "passed: before all of the traffic", "cleo"),
        ("12:15:01", "shift", "version 8 serves everything", ""),
    ]
    assert [weight for _, weight in story.weights(told)] == [0.0, 0.01, 0.1, 0.5, 1.0]


def test_points_add_up_to_what_the_rollout_knows() -> None:
    for name, make in EVERY.items():
        told = make()
        for judged in told.rollout.judgements:
            points = told.of(judged.metric)
            assert sum((each.canary for each in points), Counts()) == judged.canary, name
            assert sum((each.baseline for each in points), Counts()) == judged.baseline, name
            if points:
                last = points[-1]
                assert (last.worse, last.no_worse, last.ratio) == (judged.worse, judged.no_worse, judged.ratio), name


def test_a_bucket_that_comes_twice_or_late_is_no_second_point() -> None:
    told = run(stories.story(policy()), steady, until=BEGAN + 300)
    again = stories.counted(told, steady, told.rollout.counted + 120)

    once = story.tell(told, again)

    assert len(once.points) == len(told.points) + 1
    assert story.tell(once, again).points == once.points


def test_an_error_that_stays_is_told_once() -> None:
    told = run(stories.story(policy()), steady, until=BEGAN + 60)
    for minute in range(3):
        told = story.tell(told, Measured(at=BEGAN + 180 + 60 * minute, until=BEGAN + 60, error="CloudWatch: throttled"))

    assert [each.what for each in told.events if each.kind == "error"] == [
        "could not be measured: CloudWatch: throttled"
    ]


def test_a_question_asked_anew_after_each_measurement_is_told_once() -> None:
    told = stories.quiet()
    for minute in range(3):
        at = told.rollout.counted + 120 + 60 * minute
        told = story.tell(told, stories.counted(told, lambda metric, at: (0.01, 0.0, 0.0), at))
        told = story.tell(told, GateWaiting(at=at, moment="quiet"))

    assert sum("waits for an answer" in each.what for each in told.events) == 1


def test_what_is_late_tells_nothing() -> None:
    told = stories.healthy()
    for signal in (Tick(at=BEGAN), WeightConfirmed(at=BEGAN, revision="r"), CallFailed(at=BEGAN, what="no")):
        assert story.tell(told, signal) == told


def test_a_version_that_is_worse_within_what_is_tolerated_is_said_to_be_worse() -> None:
    told = stories.approved()
    judged = told.rollout.judgements[0]
    both = replace(judged, worse=2.5)

    class Knows(Rollout, frozen=True, kw_only=True):
        @property
        def judgements(self) -> Any:
            return (both,)

    rollout = Knows(**{f: getattr(told.rollout, f) for f in told.rollout.__struct_fields__})
    retold = replace(told, rollout=rollout)

    assert story.verdict(retold).startswith("Version 8 is worse, but no more than tolerated (2 times the odds): ")


def test_without_a_metric_it_says_so() -> None:
    told = stories.story(policy(metrics=()))

    assert story.verdict(told) == "Nothing is measured: no metric was named to judge version 8 by."


# Time left


def test_time_left_is_what_it_then_takes() -> None:
    """Foretold at every moment of a rollout that goes by its steps; right to the second or two that calls take."""
    whole = run(stories.story(policy(early=False)), steady)
    for after in range(2, int(whole.ended - BEGAN), 37):
        told = run(stories.story(policy(early=False)), steady, until=BEGAN + after)
        left = story.time_left(told, BEGAN + after)
        assert left is not None
        assert left == pytest.approx(whole.ended - BEGAN - after, abs=4), after


def test_time_left_is_less_where_evidence_comes_first() -> None:
    patient = (*stories.STEPS[:1], stories.Step(weight=0.5, bake_s=86_000))
    told = run(stories.story(policy(steps=patient)), steady, until=BEGAN + 300)

    left = story.time_left(told, BEGAN + 300)

    assert left is not None
    assert 60 < left < 3600


@pytest.mark.parametrize(
    ("state", "left"),
    [
        (Paused(since=BEGAN, by="ben"), None),
        (Gating(moment="full", since=BEGAN, waiting=True), None),
        (Gating(moment="quiet", since=BEGAN), None),
        (Promoted(), 0.0),
    ],
)
def test_time_left_is_not_guessed_where_people_decide(state: State, left: float | None) -> None:
    told = stories.unmeasured()
    rollout = replace(told.rollout, state=state)
    held = replace(told, rollout=rollout)

    assert story.time_left(held, BEGAN + 60) == left


def test_time_left_is_unknown_without_traffic() -> None:
    told = run(stories.story(policy(traffic=0.0)), lambda metric, at: (0.0, 0.0, 0.0), until=BEGAN + 60)

    assert story.time_left(told, BEGAN + 60) is None


# Every state and action has its sentence


STATES: dict[str, dict[str, Any]] = {
    "Ready": {}, "Gating": {"moment": "full", "since": BEGAN}, "Shifting": {"to": 0.1},
    "Baking": {"since": BEGAN, "until": BEGAN}, "Judging": {"since": BEGAN, "why": "too few"},
    "Paused": {"since": BEGAN, "by": ""}, "Promoting": {}, "RollingBack": {"why": "an alarm"}, "Promoted": {},
    "RolledBack": {"why": "an alarm"}, "Superseded": {"what": "version 9"}, "Stuck": {"why": "no"},
}  # fmt: skip


@pytest.mark.parametrize("kind", get_args(State), ids=lambda kind: kind.__name__)
def test_every_state_has_a_sentence_and_what_comes_next(kind: type) -> None:
    told = stories.unmeasured()
    state = kind(**STATES[kind.__name__])
    rollout = replace(told.rollout, state=state)

    said, following = story.state_sentence(rollout), story.action_sentence(due(rollout))

    assert said[0].isupper()
    assert said.endswith(".")
    assert bool(following) is not rollout.ended


def test_states_differ_in_what_they_say() -> None:
    rollout = stories.unmeasured().rollout
    assert isinstance(rollout.state, Baking)
    assert story.action_sentence(due(rollout)) == "counts again at 12:03:00, when the counts are complete"
    moved = replace(rollout, state=Shifting(to=0.1))
    assert story.action_sentence(due(moved)) == "sets version 7 and 10 % to version 8"


# Numbers


@pytest.mark.parametrize(
    ("bad", "calls", "said"),
    [
        (0, 0, "-"), (0, 50, "0 %"), (50, 50, "100 %"), (3, 10_000, "0.030 %"), (31, 1020, "3.0 %"),
        (4, 9480, "0.042 %"), (996, 100_000, "1.0 %"), (9996, 10_000, "99.96 %"), (999_999, 1_000_000, "99.9999 %"),
        (1, 10**9, "0.00000010 %"), (1, 2, "50 %"),
    ],
)  # fmt: skip
def test_a_share_never_rounds_to_none_or_all(bad: int, calls: int, said: str) -> None:
    assert story.share(Counts(calls=calls, bad=bad)) == said


@given(st.integers(1, 10**9).flatmap(lambda calls: st.tuples(st.just(calls), st.integers(0, calls))))
def test_a_share_reads_as_what_it_is(counts: tuple[int, int]) -> None:
    calls, bad = counts
    said = float(story.share(Counts(calls=calls, bad=bad)).removesuffix(" %"))

    assert math.isclose(said, 100 * bad / calls, rel_tol=0.06)
    assert (said == 0) is (bad == 0)
    assert (said == 100) is (bad == calls)


@pytest.mark.parametrize(
    ("exponent", "said"), [(6.2, "10^6.2"), (2.0, "10^2"), (-0.04, "10^0"), (-0.26, "10^-0.3"), (123.45, "10^123.5")]
)
def test_powers(exponent: float, said: str) -> None:
    assert story.power(exponent) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.6, "1 min"), (250, "4 min 10 s"), (7500, "2 h 5 min"), (90_000, "1 d 1 h")]
)
def test_lengths_of_time(seconds: float, said: str) -> None:
    assert story.lasted(seconds) == said


def test_texts_from_outside_cannot_move_the_cursor_or_turn_text_around() -> None:
    assert story.clean("a\x1b[2Jb\r\nc\u202ed\u2066") == "a [2Jb  c d"


def test_a_verdict_passed_on_a_bucket_of_another_metric_is_no_point() -> None:
    told = run(stories.story(policy()), steady, until=BEGAN + 60)
    alien = Bucket(metric="memory", at=BEGAN + 60, seconds=60, canary=Counts(calls=1), baseline=Counts(calls=1))

    after = story.tell(told, Measured(at=BEGAN + 180, until=BEGAN + 120, buckets=(alien,)))

    assert after.points == ()
    assert story.telling(after) is None


def test_an_early_end_is_told_as_a_verdict() -> None:
    told = run(
        stories.story(policy()), lambda metric, at: (1000.0, 0.003, 0.003), [GatePassed(at=BEGAN + 9000, moment="full")]
    )

    assert ("verdict", "version 8 is no worse than tolerated") in [(each.kind, each.what) for each in told.events]
    judged = story.telling(told)
    assert judged is not None
    assert judged.verdict is Verdict.PASS
