"""How an invocation can end, and what Lambda says about each ending: to the caller, and in the log."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from pointsman.localaws.execution.runtime_api import RESPONSE_LIMIT


@dataclass(frozen=True, slots=True)
class Answered:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Raised:
    """The runtime reported an error, of the invocation or of its initialisation."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class TooLarge:
    pass


@dataclass(frozen=True, slots=True)
class TimedOut:
    limit_s: float


@dataclass(frozen=True, slots=True)
class Exited:
    """The process ended before it answered; `code` as subprocess has it, negative for a signal."""

    code: int


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    pass


@dataclass(frozen=True, slots=True)
class NotStarted:
    kind: str
    reason: str


Ending: TypeAlias = Answered | Raised | TooLarge | TimedOut | Exited | OutOfMemory | NotStarted


@dataclass(frozen=True, slots=True)
class Account:
    """One ending in Lambda's words. `lines` stand before END, `status` closes the REPORT line."""

    payload: bytes
    error: str | None
    lines: tuple[str, ...] = ()
    status: str = ""


def tell(ending: Ending, request_id: str, now: str) -> Account:
    """`now` is the moment as Lambda prints it, in ISO 8601."""
    match ending:
        case Answered(payload):
            return Account(payload, None)
        case Raised(payload):
            return Account(payload, "Unhandled")
        case TooLarge():
            said = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT} bytes)."
            kind = "Function.ResponseSizeTooLarge"
            return Account(_json(errorMessage=said, errorType=kind), "Unhandled", status=_status(kind))
        case TimedOut(limit_s):
            said = f"Task timed out after {limit_s:.2f} seconds"
            payload = _json(errorType="Sandbox.Timedout", errorMessage=f"RequestId: {request_id} Error: {said}")
            return Account(payload, "Unhandled", (f"{now} {request_id} {said}\n",), "Status: timeout")
        case Exited() | OutOfMemory() | NotStarted():
            kind, reason = _reason(ending)
            said = f"RequestId: {request_id} Error: {reason}"
            payload = _json(errorType=kind, errorMessage=said)
            return Account(payload, "Unhandled", (f"{said}\n{kind}",), _status(kind))
        case _:
            assert_never(ending)


def init_status(ending: Ending) -> str:
    """What the INIT_REPORT line says of an initialisation that came to nothing."""
    match ending:
        case TimedOut():
            return "Status: timeout"
        case Raised(payload):
            return _status(_error_type(payload))
        case Exited() | OutOfMemory() | NotStarted():
            return _status(_reason(ending)[0])
        case Answered() | TooLarge():
            raise AssertionError(ending)
        case _:
            assert_never(ending)


def report(
    request_id: str, *, ms: float, init_ms: float | None, memory_mb: int, used_mb: float, status: str
) -> tuple[str, int]:
    """The REPORT line, and the milliseconds it bills (initialisation included, as since August 2025)."""
    billed = max(1, math.ceil(round(ms + (init_ms or 0), 2)))
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {ms:.2f} ms",
        f"Billed Duration: {billed} ms",
        f"Memory Size: {memory_mb} MB",
        f"Max Memory Used: {min(math.ceil(used_mb), memory_mb)} MB",
        f"Init Duration: {init_ms:.2f} ms" if init_ms is not None else "",
        status,
    ]
    return "\t".join(field for field in fields if field) + "\t", billed


def _reason(ending: Exited | OutOfMemory | NotStarted) -> tuple[str, str]:
    match ending:
        case Exited(0):
            return "Runtime.ExitError", "Runtime exited without providing a reason"
        case Exited(code) if code > 0:
            return "Runtime.ExitError", f"Runtime exited with error: exit status {code}"
        case Exited(code):
            name = signal.strsignal(-code) or f"signal {-code}"  # "Segmentation fault"; Lambda's are in lower case
            return "Runtime.ExitError", f"Runtime exited with error: signal: {name.lower()}"
        case OutOfMemory():
            return "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"
        case NotStarted(kind, reason):
            return kind, reason
        case _:
            assert_never(ending)


def _status(kind: str) -> str:
    return f"Status: error\tError Type: {kind}"


def _error_type(payload: bytes) -> str:
    try:
        document = json.loads(payload)
    except ValueError:
        return "Runtime.Unknown"
    return str(document.get("errorType", "Runtime.Unknown")) if isinstance(document, dict) else "Runtime.Unknown"


def _json(**members: str) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()
