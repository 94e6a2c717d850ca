"""Answers that are sent while they are made: the pipe from a function to its caller, and AWS's event stream format."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Final
from zlib import crc32

import msgspec

EVENT_STREAM: Final = "application/vnd.amazon.eventstream"
_STRING: Final = 7  # the header type; AWS sends no other kind here


class Pipe:
    """Contract: `Stream`. Written by the executor; whoever asked awaits `begun`, then iterates over the chunks."""

    def __init__(self) -> None:
        self.content_type: str | None = None  # None: not a byte was answered yet
        self.executed_version = ""
        self.begun = asyncio.Event()
        """Set by the first byte, or by the end without one."""
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    def begin(self, content_type: str) -> None:
        self.content_type = content_type
        self.begun.set()

    def write(self, chunk: bytes) -> None:
        self._chunks.put_nowait(chunk)

    def end(self) -> None:
        self.begun.set()
        self._chunks.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk


def payload_chunk(payload: bytes) -> bytes:
    return _message("PayloadChunk", "application/octet-stream", payload)


def invoke_complete(error: str | None, details: bytes, log: str | None) -> bytes:
    """`log` is base64 already, and only given when it was asked for."""
    said = {"ErrorCode": error, "ErrorDetails": details.decode(errors="replace") if error else None, "LogResult": log}
    document = msgspec.json.encode({key: value for key, value in said.items() if value is not None})
    return _message("InvokeComplete", "application/json", document)


def _message(event: str, content_type: str, payload: bytes) -> bytes:
    """https://smithy.io/2.0/aws/amazon-eventstream.html"""
    headers = b"".join(
        struct.pack(f"!B{len(name)}sBH", len(name), name, _STRING, len(value)) + value
        for name, value in (
            (b":event-type", event.encode()),
            (b":content-type", content_type.encode()),
            (b":message-type", b"event"),
        )
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return message + struct.pack("!I", crc32(message))
