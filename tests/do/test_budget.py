"""The budget of calls: never more than AWS allows, as many as it allows, and a fair share where others call, too."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.aws.budget import Allowance, Budget, Budgets, Lane, lane_of
from pointsman.aws.operation import Operation
from pointsman.errors import UsageError
from pointsman.model import Alias, AliasName, FunctionArn, Routing, Version
from pointsman.world import calls_per_second


def call(action: str, service: str = "lambda") -> Operation[object]:
    return Operation(service, action, {}, lambda reply: reply)


def of(account: str, region: str = "eu-west-1") -> Alias:
    arn = FunctionArn.parse(f"arn:aws:lambda:{region}:{account}:function:f:PROD")
    return Alias(arn=arn, name=AliasName("PROD"), routing=Routing(version=Version("1")), revision="r")


class Bucket:
    """How AWS may count: tokens for one second, of all callers together."""

    def __init__(self, per_second: float) -> None:
        self.per_second = self.tokens = per_second
        self.at = 0.0

    def take(self, now: float) -> bool:
        self.tokens = min(self.per_second, self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def simulated(
    lanes: list[Lane], takes: Callable[[float], bool], *, threads: int, seconds: float, answer_s: float = 0.05
) -> tuple[list[list[float]], list[int]]:
    """Each lane has callers who call again as soon as they may: (when calls were taken, how many were not), by lane."""
    taken: list[list[float]] = [[] for _ in lanes]
    refused = [0 for _ in lanes]
    tie = itertools.count()
    moments: list[tuple[float, int, int, float]] = []  # when, tie, lane, and the moment it was booked for (0: to book)
    for which in range(len(lanes)):
        for each in range(threads):
            heapq.heappush(moments, (each * 0.001, next(tie), which, 0.0))
    while moments:
        now, _, which, booked = heapq.heappop(moments)
        if now > seconds:
            break
        if not booked:
            at = lanes[which].book(now)
            heapq.heappush(moments, (max(at, now), next(tie), which, at or 1e-9))
        elif takes(now):
            taken[which].append(now)
            lanes[which].answered(now)
            heapq.heappush(moments, (now + answer_s, next(tie), which, 0.0))
        else:
            refused[which] += 1
            lanes[which].throttled(booked, now)
            heapq.heappush(moments, (now + 0.2, next(tie), which, 0.0))
    return taken, refused


PAUSES = st.one_of(st.just(0.0), st.floats(0, 0.2), st.floats(0, 3))


@given(st.lists(st.tuples(PAUSES, st.sampled_from(["", "", "", "answered", "throttled"])), max_size=200))
def test_in_any_second_there_are_no_more_calls_than_allowed(happens: list[tuple[float, str]]) -> None:
    """Whenever they are asked for, and however AWS answers meanwhile."""
    lane, now = Lane(15), 1000.0
    sent = []
    for pause, answer in happens:
        now += pause
        sent.append(lane.book(now))
        if answer == "answered":
            lane.answered(now)
        elif answer:
            lane.throttled(now, now)

    assert sent == sorted(sent)
    for first, past in zip(sent, sent[15:], strict=False):
        assert past - first >= 1 - 1e-9


@given(st.integers(1, 400), st.integers(1, 40))
def test_no_second_that_is_allowed_is_wasted(calls: int, most: int) -> None:
    """A burst first, then evenly: what takes longest is one second more than AWS's limit alone would take."""
    lane = Lane(most)

    last = max(lane.book(0.0) for _ in range(calls))

    assert last <= calls / most + 1e-9


def test_after_a_burst_calls_go_evenly() -> None:
    """A burst each second would meet AWS's own counting a moment too early or too late."""
    lane = Lane(15)

    sent = [lane.book(0.0) for _ in range(60)]

    assert sent[:15] == [0.0] * 15
    assert sent[15] == 1.0
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent[15:])]
    assert gaps == [pytest.approx(1 / 15)] * len(gaps)


def test_alone_nobody_is_ever_throttled() -> None:
    bucket = Bucket(15)

    (taken,), (refused,) = simulated([Lane(15)], bucket.take, threads=12, seconds=120)

    assert refused == 0
    assert len(taken) >= 15 * 119


def test_beside_others_it_slows_down_and_takes_what_is_left() -> None:
    """Somebody else makes ten calls a second: five are left, and nearly all of them are used."""
    bucket = Bucket(15)
    others = iter(range(1, 10**6))
    due = next(others) / 10

    def take(now: float) -> bool:
        nonlocal due
        while due <= now:
            bucket.take(due)
            due = next(others) / 10
        return bucket.take(now)

    (taken,), (refused,) = simulated([Lane(15)], take, threads=12, seconds=300)

    assert len(taken) >= 0.7 * 5 * 300
    assert refused <= 0.35 * len(taken)


def test_two_who_do_so_end_with_a_fair_share_each() -> None:
    bucket = Bucket(15)

    (one, other), refused = simulated([Lane(15), Lane(15)], bucket.take, threads=12, seconds=300)

    late = [len([at for at in each if at > 100]) for each in (one, other)]
    assert min(late) >= 0.7 * max(late)
    assert sum(late) >= 0.8 * 15 * 200
    assert sum(refused) <= 0.2 * (len(one) + len(other))


def test_a_throttle_counts_once_for_all_that_was_sent_before() -> None:
    lane = Lane(15)
    sent = [lane.book(0.0) for _ in range(15)]

    slower = [lane.throttled(at, 0.5) for at in sent]

    assert slower == [True] + [False] * 14
    assert lane.rate == pytest.approx(10.5)


def test_it_recovers_little_by_little_and_never_beyond_what_is_allowed() -> None:
    lane = Lane(15)
    assert lane.throttled(0.0, 0.0)
    low = lane.rate
    seen = []
    for _ in range(300):
        lane.answered(1.0)
        seen.append(lane.rate)

    assert seen == sorted(seen)
    assert seen[0] < low + 0.1
    assert seen[-1] == 15


@given(st.lists(st.sampled_from(["book", "answered", "throttled"]), max_size=300), st.sampled_from([15.0, 100.0]))
def test_whatever_happens_the_rate_stays_between_one_and_the_limit(happens: list[str], most: float) -> None:
    lane, now = Lane(most), 0.0
    for each in happens:
        now += 0.1
        match each:
            case "book":
                assert lane.book(now) >= now
            case "answered":
                lane.answered(now)
            case _:
                lane.throttled(now, now)
        assert 1 <= lane.rate <= most


def test_a_clock_that_is_set_back_keeps_nobody_waiting() -> None:
    lane = Lane(15)
    for _ in range(40):
        lane.book(10_000.0)

    assert lane.book(5.0) <= 6.0


@pytest.mark.parametrize(
    ("operation", "name", "most"),
    [
        (call("UpdateAlias"), "lambda", 15),
        (call("ListFunctions"), "lambda", 15),
        (call("GetFunction"), "lambda:GetFunction", 100),
        (call("GetPolicy"), "lambda:GetPolicy", 15),
        (call("Invoke"), "lambda:Invoke", float("inf")),
        (call("PutObject", "s3"), "s3", float("inf")),
        (call("GetMetricData", "cloudwatch"), "cloudwatch", float("inf")),
        (call("FilterLogEvents", "logs"), "logs", float("inf")),
        (call("GetRestApis", "apigateway"), "apigateway", 10),
    ],
)
def test_which_calls_share_which_limit(operation: Operation[object], name: str, most: float) -> None:
    assert lane_of(operation) == (name, most)


def test_lanes_do_not_wait_for_each_other() -> None:
    budget = Budget()

    assert max(budget.book(call("GetFunction"), 0.0) for _ in range(100)) == 0.0
    assert max(budget.book(call("Invoke"), 0.0) for _ in range(500)) == 0.0
    assert max(budget.book(call("GetPolicy"), 0.0) for _ in range(15)) == 0.0
    assert max(budget.book(call("GetAlias"), 0.0) for _ in range(15)) == 0.0
    assert budget.book(call("UpdateAlias"), 0.0) == 1.0


def test_what_has_no_known_limit_learns_one_from_a_throttle() -> None:
    budget = Budget()
    sent = [budget.book(call("PutObject", "s3"), number / 200) for number in range(200)]
    assert sent[-1] == pytest.approx(199 / 200)

    assert budget.throttled(call("PutObject", "s3"), sent[-1], 1.0) == pytest.approx(140, rel=0.02)
    assert max(budget.book(call("PutObject", "s3"), 1.0) for _ in range(140)) > 1.0


def test_that_it_is_slower_is_told_now_and_then_and_not_each_time() -> None:
    budget, told = Budget(), []
    for second in range(60):
        told.append(budget.throttled(call("GetAlias"), float(second), second + 0.5))

    assert told[0] == pytest.approx(10.5)
    assert [second for second, each in enumerate(told) if each is not None] == [0, 15, 30, 45]


def test_environments_of_one_account_and_region_share_a_budget() -> None:
    budgets = Budgets()

    one = Allowance(budgets, "111111111111", "eu-west-1")
    same = Allowance(budgets, "111111111111", "eu-west-1")
    elsewhere = Allowance(budgets, "111111111111", "us-east-1")
    other = Allowance(budgets, "222222222222", "eu-west-1")

    assert one.budget is same.budget
    assert len({id(each.budget) for each in (one, elsewhere, other)}) == 3


def test_credentials_of_which_nobody_told_whose_they_are_share_one_until_an_answer_tells() -> None:
    budgets = Budgets()
    declared = Allowance(budgets, "111111111111", "eu-west-1")
    profile, ambient = Allowance(budgets, "", "eu-west-1"), Allowance(budgets, "", "eu-west-1")
    assert profile.budget is ambient.budget

    profile.learn(([of("111111111111")], None))
    ambient.learn(of("222222222222"))

    assert profile.budget is declared.budget
    assert ambient.budget is not declared.budget
    assert ambient.budget is Allowance(budgets, "222222222222", "eu-west-1").budget


def test_calls_made_before_the_account_was_known_count_in_its_budget() -> None:
    budgets = Budgets()
    unknown = Allowance(budgets, "", "")
    for _ in range(15):
        unknown.budget.book(call("GetAlias"), 0.0)

    unknown.learn(of("111111111111"))

    assert Allowance(budgets, "111111111111", "eu-west-1").budget.book(call("GetAlias"), 0.0) == 1.0


def test_whoever_wants_to_leave_room_for_others_takes_less_of_everything() -> None:
    budget = Budgets(per_second=5).of("111111111111", "eu-west-1")

    assert max(budget.book(call("GetAlias"), 0.0) for _ in range(5)) == 0.0
    assert budget.book(call("GetAlias"), 0.0) == 1.0
    assert max(budget.book(call("GetFunction"), 0.0) for _ in range(33)) == 0.0
    assert budget.book(call("GetFunction"), 0.0) > 0.9


@pytest.mark.parametrize(("given", "found"), [({}, 15), ({"POINTSMAN_CALLS_PER_SECOND": "5"}, 5)])
def test_the_environment_says_how_many_calls_are_made(given: dict[str, str], found: float) -> None:
    assert calls_per_second(given) == found


@pytest.mark.parametrize("given", ["many", "0", "-1", "nan", "inf"])
def test_what_is_no_number_of_calls_is_said(given: str) -> None:
    with pytest.raises(UsageError, match="is not a number of calls a second"):
        calls_per_second({"POINTSMAN_CALLS_PER_SECOND": given})
