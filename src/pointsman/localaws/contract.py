"""The words the parts of the local AWS share: what runs, what came of it, and who is asked.

`lambda_` (control plane) decides *which* version a call reaches and hands a `Target` to `execution`,
which runs it and answers with an `Outcome`. `server` gives both their HTTP requests and the rest of AWS (moto).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request for the Lambda service, already attributed to an account and region."""

    method: str
    path: str  # still percent-encoded, without the query string
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    account: str
    region: str
    caller: str | None = None  # its ARN; None: the account's root


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()  # Set-Cookie is the one header that several of cannot be joined
    chunks: AsyncIterator[bytes] | None = None  # instead of `body`: sent as they come; may raise CutShort


class CutShort(Exception):
    """An answer cannot be brought to its end, of which a part is sent already; why."""


Initialization: TypeAlias = Literal["on-demand", "provisioned-concurrency", "lambda-managed-instances"]


@dataclass(frozen=True, slots=True)
class Target:
    """One version of one function, ready to run. Execution environments are shared only by equal `revision`s."""

    account: str
    region: str
    function_name: str
    version: str  # "$LATEST", "$LATEST.PUBLISHED" or a number
    revision: str  # changes whenever code or configuration does
    runtime: str
    handler: str
    code: Path  # the unpacked package; read-only to the function
    environment: Mapping[str, str]
    memory_mb: int
    timeout_s: float
    log_group: str
    opt: Path | None = None  # what its layers put into /opt, read-only; None: it has none
    role: str = ""
    initialization: Initialization = "on-demand"  # environments are not shared across these either


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one invocation came to. `error` is Lambda's X-Amz-Function-Error ("Unhandled") or None."""

    payload: bytes
    error: str | None
    log: bytes  # this invocation's log lines, START to REPORT
    duration_ms: float
    billed_ms: int
    init_ms: float | None  # None when a warm environment answered


class Stream(Protocol):
    """Where an answer goes while the function is still making it: `begin` once, before the first `write`."""

    def begin(self, content_type: str) -> None: ...

    def write(self, chunk: bytes) -> None: ...


class Executor(Protocol):
    """Runs code for real. Implemented in `execution`."""

    async def invoke(
        self,
        target: Target,
        payload: bytes,
        *,
        invoked_arn: str,
        request_id: str,
        client_context: str | None = None,
        stream: Stream | None = None,
    ) -> Outcome:
        """What a function streams goes to `stream`, if given, and is then not in the Outcome."""
        ...

    async def prepare(self, target: Target) -> bool:
        """Initialise an environment ahead of any call, unless there is no room for it. False: that failed."""
        ...

    def runtimes(self) -> tuple[str, ...]:
        """The Lambda runtime identifiers this machine can run, e.g. ("nodejs20.x", "provided.al2023", "python3.11")."""
        ...

    async def retire(self, function_name: str, account: str, region: str, version: str | None = None) -> None:
        """End the environments of a function (or one of its versions) that was changed or deleted."""
        ...

    async def close(self) -> None:
        """End every process this executor started."""
        ...


LogSink: TypeAlias = Callable[[Target, str, list[tuple[int, str]]], Awaitable[None]]
"""(target, log stream name, [(epoch milliseconds, line)]) → written to CloudWatch Logs, group `target.log_group`."""


class Unreachable(Exception):
    """A queue, topic, bus or bucket that is not there, or that refused what it was given; the message says why."""


class Carrier(Protocol):
    """Brings what Lambda has to report to other services. Blocks; raises Unreachable."""

    def message(self, arn: str, body: str, attributes: Mapping[str, tuple[str, str]]) -> None:
        """To a queue or topic. `attributes`: name → (data type, value)."""
        ...

    def event(self, arn: str, detail_type: str, resources: list[str], detail: bytes) -> None:
        """To an event bus, from source "lambda"."""
        ...

    def store(self, account: str, region: str, bucket_arn: str, key: str, body: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One attempt to invoke, for the metrics of AWS/Lambda: throttled, or how it ran."""

    account: str
    region: str
    function_name: str
    qualifier: str | None  # as it was called
    version: str  # what ran, or would have
    at: float  # epoch seconds when it began; AWS, too, dates all metrics of an invocation so
    outcome: Literal["succeeded", "failed", "throttled"]
    duration_ms: float = 0.0
    running: tuple[int, int, int] = (1, 1, 1)  # at once, this one included: in the region, of the function, so called
    unreserved: int | None = None  # at once in the region without a reservation; None when this function has one
    provisioned: int = 0  # how many are kept ready of the version
    ready: int | None = None  # of them at once, this one included; None when it runs beside them


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that AWS/Lambda counts beside invocations: of asynchronous events."""

    account: str
    region: str
    function_name: str
    qualifier: str | None  # as it was called
    at: float  # epoch seconds
    name: Literal[
        "AsyncEventsReceived",
        "AsyncEventAge",  # milliseconds
        "AsyncEventsDropped",
        "DestinationDeliveryFailures",
        "DeadLetterErrors",
    ]
    value: float = 1.0


Measure: TypeAlias = Callable[[Sample | Occurrence], None]
"""Takes what happened, in microseconds."""


class Sources(Protocol):
    """What must be known of an event source before it is mapped to a function."""

    def visibility_timeout(self, queue_arn: str) -> int | None:
        """In seconds; None: there is no such queue."""
        ...

    def stream_exists(self, arn: str) -> bool:
        """Whether it is a Kinesis stream, or the stream that a DynamoDB table has now."""
        ...

    def is_pattern(self, text: str) -> bool:
        """Whether it can filter events."""
        ...
