"""What a function process prints, cut into log lines, and their way to the log sink."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from pointsman.localaws.contract import LogSink, Target

logger = logging.getLogger(__name__)

Line = tuple[int, str]
"""(epoch milliseconds, text without its final newline)"""

# Lambda's telemetry framing: type (4 bytes), length (4), microseconds (8), message. awslambdaric and our Node client
# write such frames into the same pipe as plain output: a message of many lines stays one, and the order is kept.
_FRAME = b"\xa5\x5a\x00"
_HEADER = 16
_LONGEST = 256 * 1024  # bytes; CloudWatch's limit for one log line


class LineCutter:
    """Bytes as they come from the pipe → whole lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes, now_ms: int) -> Iterator[Line]:
        data, at = self._rest + chunk, 0
        frame = data.find(_FRAME)
        while at < len(data):
            if -1 < frame < at:
                frame = data.find(_FRAME, at)
            if frame == at:
                if len(data) < at + _HEADER:
                    break
                end = at + _HEADER + int.from_bytes(data[at + 4 : at + 8])
                if len(data) < end:
                    break
                # Not with the frame's own time: beside lines timed here it would not ascend, as CloudWatch demands
                yield now_ms, _text(data[at + _HEADER : end])
                at = end
                continue
            end = data.find(b"\n", at, frame if frame >= 0 else len(data))
            if end < 0:
                end = frame if frame >= 0 else at + _LONGEST
            if end > len(data):
                break
            if end > at:  # empty lines never reach CloudWatch (recorded)
                yield now_ms, _text(data[at:end])
            at = end + (data[end : end + 1] == b"\n")
        self._rest = data[at:]

    def flush(self, now_ms: int) -> Iterator[Line]:
        """The unfinished line, if any: what `print(end="")` left when the invocation was over."""
        if self._rest and not self._rest.startswith(_FRAME):
            yield now_ms, _text(self._rest)
            self._rest = b""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").removesuffix("\n")


class LogShipment:
    """Takes lines at once, delivers them in order and in batches, and never makes an invocation wait."""

    PAUSE_S = 0.05

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink
        self._waiting: dict[str, tuple[Target, list[Line]]] = {}
        self._task: asyncio.Task[None] | None = None

    def put(self, target: Target, stream: str, line: Line) -> None:
        self._waiting.setdefault(stream, (target, []))[1].append(line)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._ship())

    async def _ship(self) -> None:
        while self._waiting:
            await asyncio.sleep(self.PAUSE_S)  # one delivery for all lines of a burst: each one costs every call
            await self._deliver()
        self._task = None

    async def _deliver(self) -> None:
        batch, self._waiting = self._waiting, {}
        for stream, (target, lines) in batch.items():
            try:
                await self._sink(target, stream, lines)
            except Exception:
                logger.exception("%d log lines of %s were lost", len(lines), target.log_group)

    async def close(self) -> None:
        """Deliver what is left."""
        if self._task is not None:
            await self._task
        await self._deliver()
