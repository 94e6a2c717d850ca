"""Small real stand-ins for what tests must control: time, and the one door to AWS. No patching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pointsman.aws.operation import Operation, R, Transport
from pointsman.errors import AwsError


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time = now
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class Scripted:
    """A transport that answers from a list: a reply to read, or an error to raise. Keeps what was sent."""

    def __init__(self, *answers: dict[str, Any] | AwsError) -> None:
        self.answers = list(answers)
        self.sent: list[Operation[Any]] = []

    def send(self, operation: Operation[R]) -> R:
        self.sent.append(operation)
        answer = self.answers.pop(0)
        if isinstance(answer, AwsError):
            raise answer
        return operation.read(answer)


class Watched:
    """Passes everything on, and calls `look` with each action before it is sent."""

    def __init__(self, inner: Transport, look: Callable[[str], None]) -> None:
        self.inner = inner
        self.look = look

    def send(self, operation: Operation[R]) -> R:
        self.look(operation.action)
        return self.inner.send(operation)
