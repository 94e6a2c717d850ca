"""Each wrapper around `send` adds exactly one thing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from pointsman.aws.budget import Allowance, Budgets
from pointsman.aws.operation import Operation
from pointsman.aws.transports import Count, Faults, Halt, Journal, ReadOnly, Retry, Throttle, Waking
from pointsman.errors import Ambiguous, Interrupted, LedgerError, PreconditionFailed, Throttled, Unreachable, UsageError
from tests.fakes import FakeClock, Scripted

READ = Operation("lambda", "GetAlias", {}, lambda reply: reply["x"])
WRITE = Operation("lambda", "UpdateAlias", {}, lambda reply: reply["x"], mutates=True, subject="alias PROD of f")
ANSWER = {"x": 1}


def allowance() -> Allowance:
    return Allowance(Budgets(), "123456789012", "eu-west-1")


class Notes:
    def __init__(self, *, full: bool = False) -> None:
        self.lines: list[str] = []
        self.full = full

    def intended(self, action: str, subject: str) -> int:
        if self.full:
            raise LedgerError("disk full")
        self.lines.append(f"{action} {subject}")
        return len(self.lines)

    def settled(self, intent: int, outcome: str) -> None:
        self.lines.append(f"{intent} {outcome}")


def test_count_keeps_calls_that_failed_too() -> None:
    ticks = iter([0.0, 0.25, 1.0, 1.5])
    count = Count(Scripted(ANSWER, PreconditionFailed("no")), lambda: next(ticks))

    count.send(READ)
    with pytest.raises(PreconditionFailed):
        count.send(WRITE)

    assert count.calls == [("lambda", "GetAlias", 250.0, False), ("lambda", "UpdateAlias", 500.0, True)]


def test_journal_writes_the_intent_before_and_the_outcome_after_of_what_mutates() -> None:
    notes = Notes()
    journal = Journal(Scripted(ANSWER, ANSWER, Ambiguous("lost")), notes)

    journal.send(READ)
    journal.send(WRITE)
    with pytest.raises(Ambiguous):
        journal.send(WRITE)

    assert notes.lines == [
        "lambda:UpdateAlias alias PROD of f",
        "1 done",
        "lambda:UpdateAlias alias PROD of f",
        "3 ambiguous",
    ]


def test_what_cannot_be_written_down_is_not_done() -> None:
    aws = Scripted(ANSWER)

    with pytest.raises(LedgerError):
        Journal(aws, Notes(full=True)).send(WRITE)

    assert aws.sent == []


def test_read_only_lets_nothing_through_that_mutates() -> None:
    aws = Scripted(ANSWER)

    assert ReadOnly(aws).send(READ) == 1
    with pytest.raises(UsageError, match="UpdateAlias of alias PROD of f changes something"):
        ReadOnly(aws).send(WRITE)
    assert len(aws.sent) == 1


def test_throttle_sends_at_most_so_many_in_any_second() -> None:
    clock, times = FakeClock(0.0), []
    throttle = Throttle(Scripted(*[ANSWER] * 40), clock, allowance())

    for _ in range(40):
        throttle.send(READ)
        times.append(clock.now())

    assert all(later - earlier >= 1 for earlier, later in zip(times, times[15:], strict=False))
    assert times[-1] == pytest.approx(2.0)


def test_several_doors_together_keep_to_one_budget() -> None:
    clock, times, shared = FakeClock(0.0), [], allowance()
    doors = [Throttle(Scripted(*[ANSWER] * 40), clock, shared) for _ in range(3)]

    for number in range(45):
        doors[number % 3].send(READ)
        times.append(clock.now())

    assert all(later - earlier >= 1 for earlier, later in zip(times, times[15:], strict=False))


def test_many_threads_together_book_each_moment_once() -> None:
    """Each waits by itself for a moment it has booked: nobody's is another's."""
    shared = allowance()
    moments: list[float] = []

    class Noting:
        """A clock that stands still, and notes how long each was to wait."""

        def now(self) -> float:
            return 0.0

        def sleep(self, seconds: float) -> None:
            moments.append(seconds)

    throttle = Throttle(Scripted(*[ANSWER] * 120), Noting(), shared)
    with ThreadPoolExecutor(12) as pool:
        for done in [pool.submit(throttle.send, READ) for _ in range(120)]:
            assert done.result() == 1

    expected = [1 + number / 15 for number in range(105)]  # 15 need not wait
    assert sorted(moments) == pytest.approx(expected)


def test_a_throttle_teaches_the_budget_and_is_told() -> None:
    clock, shared = FakeClock(0.0), allowance()
    told: list[str] = []
    throttle = Throttle(Scripted(Throttled("slow"), *[ANSWER] * 30), clock, shared, told.append)

    with pytest.raises(Throttled):
        throttle.send(READ)
    for _ in range(30):
        throttle.send(READ)

    assert told == ["AWS throttles, for others use this account, too: going on with 10 calls a second"]
    assert clock.now() > 1.0


def test_who_waits_for_room_in_the_budget_is_woken_by_ctrl_c() -> None:
    clock = FakeClock(0.0)
    waking = Waking(clock, lambda: clock.now() >= 3)

    with pytest.raises(Interrupted):
        waking.sleep(60)
    assert clock.now() == pytest.approx(3.0, abs=0.2)

    clock.time = 0.0
    waking.sleep(1.1)
    assert clock.now() == pytest.approx(1.1)


def test_halted_nothing_more_is_sent() -> None:
    aws = Scripted(ANSWER, ANSWER)
    halted = Event()
    halt = Halt(aws, halted.is_set)
    halt.send(WRITE)
    halted.set()

    with pytest.raises(Interrupted):
        halt.send(READ)

    assert len(aws.sent) == 1


def test_a_throttled_write_is_sent_again_and_a_lost_answer_to_one_is_not() -> None:
    clock = FakeClock()
    patient = Retry(Scripted(Throttled("slow"), Throttled("slow"), ANSWER), clock, lambda: 1.0)
    assert patient.send(WRITE) == 1
    assert clock.slept == [0.2, 0.4]

    lost = Scripted(Ambiguous("lost"), ANSWER)
    with pytest.raises(Ambiguous):
        Retry(lost, clock, lambda: 1.0).send(WRITE)
    assert len(lost.sent) == 1


def test_a_read_is_sent_three_times_before_it_is_given_up() -> None:
    aws = Scripted(*[Unreachable("down")] * 9)

    with pytest.raises(Unreachable):
        Retry(aws, FakeClock(), lambda: 1.0).send(READ)

    assert len(aws.sent) == 3


def test_throttling_without_end_is_said_in_words() -> None:
    aws = Scripted(*[Throttled("slow")] * 20)

    with pytest.raises(Throttled, match="still throttles after 8 attempts"):
        Retry(aws, FakeClock(), lambda: 1.0).send(WRITE)

    assert len(aws.sent) == 8


def test_while_aws_takes_calls_at_all_a_throttle_is_borne() -> None:
    """Others use the account up: what is slow is not what fails. Every 20th try gets through, for hours."""
    clock, aws = FakeClock(), Scripted(*([Throttled("slow")] * 19 + [ANSWER]) * 30)
    throttle = Throttle(aws, clock, allowance())
    patient = Retry(throttle, clock, lambda: 1.0, patience_s=300, heard=throttle.heard)

    assert [patient.send(WRITE) for _ in range(30)] == [1] * 30
    assert aws.answers == []


def test_where_aws_takes_no_call_for_minutes_it_is_said_in_words() -> None:
    clock, aws = FakeClock(), Scripted(*[Throttled("slow")] * 999)
    began = clock.now()
    throttle = Throttle(aws, clock, allowance())

    with pytest.raises(Throttled, match="still throttles after"):
        Retry(throttle, clock, lambda: 1.0, patience_s=300, heard=throttle.heard).send(WRITE)

    assert clock.now() - began == pytest.approx(300, abs=10)


def test_faults_fail_before_or_after_the_effect() -> None:
    aws = Scripted(ANSWER, ANSWER)
    faults = Faults(
        aws,
        before=lambda number, _action: Unreachable("down") if number == 0 else None,
        after=lambda number, _action: Ambiguous("lost") if number == 1 else None,
    )

    with pytest.raises(Unreachable):
        faults.send(WRITE)
    assert aws.sent == []
    with pytest.raises(Ambiguous):
        faults.send(WRITE)
    assert len(aws.sent) == 1
    assert faults.send(READ) == 1


def test_watching_takes_nothing_of_lambdas_budget() -> None:
    clock = FakeClock(0.0)
    throttle = Throttle(Scripted(*[ANSWER] * 50), clock, allowance())

    for _ in range(35):
        throttle.send(READ._replace(service="cloudwatch", action="GetMetricData"))
    for _ in range(15):
        throttle.send(READ)

    assert clock.slept == []
