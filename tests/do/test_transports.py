"""Each wrapper around `send` adds exactly one thing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from pointsman.aws.operation import Operation, R
from pointsman.aws.transports import Count, Faults, Halt, Journal, ReadOnly, Retry, Throttle
from pointsman.errors import Ambiguous, Interrupted, LedgerError, PreconditionFailed, Throttled, Unreachable, UsageError
from tests.fakes import FakeClock, Scripted

READ = Operation("lambda", "GetAlias", {}, lambda reply: reply["x"])
WRITE = Operation("lambda", "UpdateAlias", {}, lambda reply: reply["x"], mutates=True, subject="alias PROD of f")
ANSWER = {"x": 1}


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
    throttle = Throttle(Scripted(*[ANSWER] * 40), clock, per_second=15)

    for _ in range(40):
        throttle.send(READ)
        times.append(clock.now())

    assert all(later - earlier >= 1 for earlier, later in zip(times, times[15:], strict=False))
    assert times[-1] == pytest.approx(2.0)


def test_many_threads_together_keep_to_the_budget_too() -> None:
    """Each waits by itself for a moment it has booked: with real time, and a budget of 40 a second to be quick."""
    sent: list[float] = []

    class Stamping:
        def send(self, operation: Operation[R]) -> R:
            sent.append(time.monotonic())
            return operation.read(ANSWER)

    class Real:
        def now(self) -> float:
            return time.monotonic()

        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

    throttle = Throttle(Stamping(), Real(), per_second=40)
    began = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        for done in [pool.submit(throttle.send, READ) for _ in range(120)]:
            assert done.result() == 1

    assert len(sent) == 120
    assert sent[-1] - began >= 2.0  # the last 40 had to wait for two seconds to pass
    assert len(throttle.sent) <= 80


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
    throttle = Throttle(Scripted(*[ANSWER] * 50), clock, per_second=15)

    for _ in range(35):
        throttle.send(READ._replace(service="cloudwatch", action="GetMetricData"))
    for _ in range(15):
        throttle.send(READ)

    assert clock.slept == []
