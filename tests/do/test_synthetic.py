"""Calls of our own: to both versions in turn, at a rate, and none after the word to stop."""

from __future__ import annotations

import base64
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pointsman.aws.gateway import Gateway
from pointsman.aws.invoking import Invoked
from pointsman.errors import Throttled, UsageError
from pointsman.model import FunctionArn, FunctionName, Version
from pointsman.synthetic import ABREAST, Calls, Sent, Synthetic, added, events, turn
from tests.fakes import FakeClock, Scripted

ARN = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("orders"))
ONE, TWO = Version("1"), Version("2")


def reply(log: str, answer: object = "fine", error: str = "") -> dict[str, Any]:
    told: dict[str, Any] = {
        "ExecutedVersion": "2",
        "Payload": io.BytesIO(json.dumps(answer).encode()),
        "LogResult": base64.b64encode(log.encode()).decode(),
    }
    return told | ({"FunctionError": error} if error else {})


def test_the_duration_is_lambdas_own() -> None:
    text = "START\nREPORT RequestId: x\tDuration: 12.34 ms\tBilled Duration: 13 ms\tInit Duration: 99.00 ms\n"
    record = '{"type":"platform.report","record":{"metrics":{"billedDurationMs":13,"durationMs":2.5}}}'
    transport = Scripted(reply(text), reply(record), reply(""))
    gateway = Gateway(transport)

    told = [gateway.invoke("orders", "2", b"{}") for _ in range(3)]

    assert [(each.ms, each.cold) for each in told] == [(12.34, True), (2.5, False), (None, False)]
    assert transport.sent[0].parameters == {
        "FunctionName": "orders", "Qualifier": "2", "Payload": b"{}", "LogType": "Tail",
    }  # fmt: skip
    assert transport.sent[0].mutates, "nobody knows what the function does"


def test_the_functions_own_error_is_told() -> None:
    failed = reply("", {"errorType": "ValueError", "errorMessage": "no such order"}, "Unhandled")

    assert Gateway(Scripted(failed)).invoke("orders", "2", b"{}").error == "ValueError: no such order"
    assert Gateway(Scripted(reply("", "plain", "Unhandled"))).invoke("orders", "2", b"{}").error == 'error: "plain"'


def test_each_event_goes_to_both_and_neither_is_always_first() -> None:
    assert [turn(number, 2) for number in range(6)] == [
        ("baseline", 0), ("canary", 0), ("canary", 1), ("baseline", 1), ("baseline", 0), ("canary", 0),
    ]  # fmt: skip


def test_what_did_not_reach_the_function_says_nothing_of_a_version() -> None:
    bucket = added(Sent(at=0.0), "canary", Invoked(executed=TWO, error="no", ms=5.0), 7.0)
    bucket = added(bucket, "baseline", Invoked(executed=ONE, cold=True), 7.0)
    bucket = added(bucket, "canary", None, 7.0)

    assert bucket == Sent(
        at=0.0, canary=Calls(calls=1, bad=1, ms=(5.0,)), baseline=Calls(calls=1, cold=1, ms=(7.0,)), lost=1
    )


class Function:
    """Tells when `most` calls were made. The canary fails, every third call is throttled."""

    def __init__(self, most: int) -> None:
        self.most, self.made = most, 0
        self.enough, self.guard = threading.Event(), threading.Lock()

    def invoke(self, function: str, qualifier: str, payload: bytes) -> Invoked:
        with self.guard:
            self.made += 1
            number = self.made
        if number >= self.most:
            self.enough.set()
        if number % 3 == 0:
            raise Throttled("Rate exceeded")
        assert (function, payload) == ("orders", b"{}")
        return Invoked(executed=Version(qualifier), error="no" if qualifier == "2" else "", ms=1.0)


def test_calls_are_counted_in_buckets_until_it_is_stopped() -> None:
    function, clock = Function(most=300), FakeClock(1200.0)
    sending = Synthetic(
        function, ARN, baseline=ONE, canary=TWO, events=(b"{}",), rate=50, clock=clock, stopwatch=lambda: 0.0
    )
    sending._rate = 1e6  # as fast as it goes: the pace is another test's

    sending.start()
    assert function.enough.wait(30)
    sending.stop()
    for thread in sending._threads:
        thread.join()
    assert sending.take(1e9) == ()  # the bucket is not over yet
    clock.time += 60
    (bucket,) = sending.take(1e9)

    assert bucket.at == 1200.0
    assert bucket.baseline.calls + bucket.canary.calls + bucket.lost == function.made
    assert bucket.lost == function.made // 3
    assert (bucket.baseline.bad, bucket.canary.bad) == (0, bucket.canary.calls)
    assert sending.trouble == "Rate exceeded"
    assert sending.take(1e9) == ()


def test_stopping_does_not_wait_for_the_next_call() -> None:
    function = Function(most=1)
    sending = Synthetic(function, ARN, baseline=ONE, canary=TWO, events=(b"{}",), rate=0.001, clock=FakeClock())

    sending.start()
    assert function.enough.wait(30)
    sending.stop()

    assert sending.join(30), "a thread slept on until its call was due, in 1000 s"
    assert function.made == 1


def test_the_rate_is_kept_and_what_is_overdue_is_not_caught_up_with() -> None:
    clock = FakeClock(1000.0)
    sending = Synthetic(Function(1), ARN, baseline=ONE, canary=TWO, events=(b"{}",), rate=2, clock=clock)

    assert [sending._book() for _ in range(3)] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    clock.time += 100
    assert [sending._book() for _ in range(2)] == [(3, 0.0), (4, 0.5)]
    clock.time -= 1000
    assert sending._book() == (5, ABREAST / 2), "a clock that was set back would have stopped it for minutes"


@pytest.mark.parametrize("rate", [0, -1, 51, float("nan")])
def test_a_rate_out_of_bounds_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="at most 50 a second"):
        Synthetic(Function(1), ARN, baseline=ONE, canary=TWO, events=(b"{}",), rate=rate, clock=FakeClock())


def test_events_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, text in (("b.json", "2"), ("a.json", "1"), ("c.txt", "no")):
        (tmp_path / name).write_text(text)

    assert events(tmp_path, "*.json") == (b"1", b"2")
    with pytest.raises(UsageError, match=r"c\.txt is not an event"):
        events(tmp_path, "*")
    with pytest.raises(UsageError, match="no file matches"):
        events(tmp_path, "none/*.json")
