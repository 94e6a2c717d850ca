"""How a typed method becomes an `Operation` on its way: what every family of the gateway's methods stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pointsman.aws.operation import Operation, Transport
from pointsman.errors import NotFound

R = TypeVar("R")
Reply = Mapping[str, Any]


class Sender:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _send(
        self,
        action: str,
        read: Callable[[Reply], R],
        *,
        service: str = "lambda",
        mutates: bool = False,
        subject: str = "",
        **parameters: Any,
    ) -> R:
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._transport.send(Operation(service, action, given, read, mutates, subject))

    def _or_none(self, action: str, read: Callable[[Reply], R], **parameters: Any) -> R | None:
        try:
            return self._send(action, read, **parameters)
        except NotFound:
            return None


def nothing(_reply: Reply) -> None:
    """For replies that say only that it was done."""
