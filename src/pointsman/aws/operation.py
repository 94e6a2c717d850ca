"""An AWS call as a value, and the one method everything that carries one has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

R = TypeVar("R")


class Operation(NamedTuple, Generic[R]):
    """`service` and `action` in AWS's own names, `parameters` as botocore takes them, `read` turns the reply into R.

    `subject` says what it is about ("GreetingLambda", "alias PROD of GreetingLambda"): for errors and the ledger.
    """

    service: str
    action: str
    parameters: Mapping[str, Any]
    read: Callable[[Mapping[str, Any]], R]
    mutates: bool = False
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.action} of {self.subject}" if self.subject else self.action


class Transport(Protocol):
    """Carries an operation and returns what its `read` made of the reply. Raises only `errors.AwsError`s."""

    def send(self, operation: Operation[R]) -> R: ...
