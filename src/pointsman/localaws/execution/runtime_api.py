"""The Lambda Runtime API (2018-06-01) on one loopback port: the wire between us and a runtime.

One server per execution environment, because custom bootstraps take `AWS_LAMBDA_RUNTIME_API` as host:port and nothing
tells their requests apart otherwise. HTTP only: what a request *means* is for the `Listener`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import socket
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import unquote

import httptools

from pointsman.localaws.contract import Stream

PREFIX = "/2018-06-01/runtime/"
STREAM_LIMIT = 200 * 1024 * 1024  # 20 MB until July 2025
RESPONSE_LIMIT = 6 * 1024 * 1024 + 100  # bytes; the number Lambda's own error text gives
_REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    413: "Content Too Large",
}
ACCEPTED = 202, b'{"status":"OK"}'
TOO_LARGE = (
    413,
    (
        b'{"errorType":"RequestEntityTooLarge","errorMessage":"Exceeded maximum allowed payload size (%d bytes)."}'
        % RESPONSE_LIMIT
    ),
)
UNKNOWN_REQUEST = 400, b'{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}'
WRONG_STATE = 403, b'{"errorType":"InvalidStateTransition","errorMessage":"State transition is not allowed"}'
NOT_FOUND = 404, b'{"errorType":"NotFound","errorMessage":"404 page not found"}'

_CLOSING = "Connection: close\r\n"

_RESPONSE_MODE = b"lambda-runtime-function-response-mode"
_ERROR_TYPE = b"lambda-runtime-function-error-type"
_ERROR_BODY = b"lambda-runtime-function-error-body"

Answer = tuple[int, bytes]


class Listener(Protocol):
    """What a runtime can say. Every answer is (status, body); `body is None` means larger than allowed."""

    def next_asked(self, poll: Connection) -> None:
        """The runtime is free. Keep `poll` and `send` it the next invocation, however much later."""

    def poll_gone(self, poll: Connection) -> None: ...

    def streaming(self, request_id: str) -> Stream | None:
        """An answer begins that is sent while it is made. Returns where to; None: `responded` will get it whole."""

    def responded(self, request_id: str, body: bytes | None) -> Answer: ...

    def failed(self, request_id: str, body: bytes | None) -> Answer: ...

    def init_failed(self, body: bytes | None) -> Answer: ...


class Connection(asyncio.Protocol):
    """One keep-alive connection of a runtime."""

    def __init__(self, listener: Listener, connections: set[Connection]) -> None:
        self._listener = listener
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body: list[bytes] = []
        self._size = 0
        self._headers: dict[bytes, bytes] = {}
        self._stream: Stream | None = None
        self._stays = True  # asked to be kept for more requests

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._connections.discard(self)
        self._listener.poll_gone(self)

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.drop()

    def send(self, status: int, body: bytes, headers: str = "") -> None:
        """Answer the request under way; `headers` are whole lines, each ending in CRLF."""
        if self._transport is None:
            return
        # awslambdaric 4.2.2 crashes on an answer without Content-Type
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{headers}{'' if self._stays else _CLOSING}\r\n"
        )
        self._transport.write(head.encode() + body)
        if not self._stays:  # a client in a few lines reads up to the end, and would wait for it until its time is out
            self._transport.close()

    # httptools' callbacks, in the order they come

    def on_message_begin(self) -> None:
        self._url, self._body, self._size, self._headers, self._stream = b"", [], 0, {}, None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value  # trailers, too

    def on_headers_complete(self) -> None:
        self._stays = self._parser.should_keep_alive()
        # curl holds a larger body back for a second unless it is asked for
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._streams():
            match self._route():
                case b"POST", ["invocation", request_id, "response"]:
                    self._stream = self._listener.streaming(unquote(request_id))
                    if self._stream is not None:
                        content_type = self._headers.get(b"content-type", b"application/octet-stream")
                        self._stream.begin(content_type.decode("latin-1"))

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > (RESPONSE_LIMIT if self._stream is None else STREAM_LIMIT):
            self._body.clear()
        elif self._stream is None:
            self._body.append(body)
        else:
            self._stream.write(body)

    def on_message_complete(self) -> None:
        limit = RESPONSE_LIMIT if self._stream is None else STREAM_LIMIT
        body = b"".join(self._body) if self._size <= limit else None
        match self._route():
            case b"GET", ["invocation", "next"]:
                self._listener.next_asked(self)
            case b"POST", ["invocation", request_id, "response"] if {
                _RESPONSE_MODE,
                _ERROR_TYPE,
            } <= self._headers.keys():
                self.send(*self._listener.failed(unquote(request_id), _error(self._headers)))
            case b"POST", ["invocation", request_id, "response"]:
                self.send(*self._listener.responded(unquote(request_id), body))
            case b"POST", ["invocation", request_id, "error"]:
                self.send(*self._listener.failed(unquote(request_id), body))
            case b"POST", ["init", "error"]:
                self.send(*self._listener.init_failed(body))
            case _:
                self.send(*NOT_FOUND)

    def _streams(self) -> bool:
        return self._headers.get(_RESPONSE_MODE, b"").lower() == b"streaming"

    def _route(self) -> tuple[bytes, list[str]]:
        path = self._url.decode("latin-1")
        return self._parser.get_method(), path.removeprefix(PREFIX).split("/") if path.startswith(PREFIX) else []


def _error(trailers: Mapping[bytes, bytes]) -> bytes:
    """The error document of a stream that failed on its way: in base64 in one trailer, or only its type in another."""
    try:
        return base64.b64decode(trailers[_ERROR_BODY], validate=True)
    except (KeyError, binascii.Error):
        return json.dumps({"errorType": trailers[_ERROR_TYPE].decode("latin-1")}).encode()


class RuntimeApi:
    """A listening port of its own on 127.0.0.1, and the connections made to it."""

    def __init__(self, server: asyncio.Server, address: str, connections: set[Connection]) -> None:
        self._server = server
        self._connections = connections
        self.address = address
        """host:port, as AWS_LAMBDA_RUNTIME_API has it."""

    @classmethod
    async def open(cls, listener: Listener) -> RuntimeApi:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        connections: set[Connection] = set()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(listener, connections), sock=listening, backlog=16, start_serving=False
        )
        return cls(server, f"127.0.0.1:{listening.getsockname()[1]}", connections)

    async def serve(self) -> None:
        """Apart from `open`, which does not suspend: cancelled here, the caller has something to close."""
        await self._server.start_serving()

    def close(self) -> None:
        self._server.close()
        for connection in tuple(self._connections):
            connection.drop()
