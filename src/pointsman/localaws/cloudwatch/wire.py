"""CloudWatch over HTTP: moto reads and writes the query and JSON protocols; CBOR, which it lacks, becomes JSON here."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar, Final

from botocore.parsers import RpcV2CBORParser
from botocore.serialize import RpcV2CBORSerializer
from flask import Flask
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.core.utils import camelcase_to_underscores, convert_to_flask_response, get_service_model
from moto.moto_server.werkzeug_app import BackendRequest

from pointsman.localaws.cloudwatch.queries import CloudWatchError
from pointsman.localaws.cloudwatch.service import OPERATIONS, CloudWatch

_TAGS: Final = ("list_tags_for_resource", "tag_resource", "untag_resource")
_RPC = re.compile(r"/service/GraniteServiceVersion20100801/operation/(\w+)")


class _Error(ServiceException):
    def __init__(self, error: CloudWatchError) -> None:
        super().__init__(error.code, error.message)


class _Response(CloudWatchResponse):
    """moto's, but for what is ours."""

    cloudwatch: ClassVar[CloudWatch]

    def call_action(self) -> Any:
        action = camelcase_to_underscores(self._get_action())
        ours: Callable[..., Any] | None = OPERATIONS.get(action)
        given = dict(self._get_params())
        if action in _TAGS and ":alarm:" in given.get("ResourceARN", ""):
            ours = getattr(CloudWatch, action)
        if ours is None:
            return super().call_action()
        result: object
        try:
            result = ours(self.cloudwatch, self.current_account, self.region, _plain(given))
        except CloudWatchError as error:
            result = _Error(error)
        status, headers, body = self.serialized(ActionResult(result))
        return status, *self._enrich_response(headers, body)


def _plain(value: Any) -> Any:
    """moto's parsers give mappings of their own, and None for what was not there."""
    if hasattr(value, "items"):
        return {str(key): _plain(each) for key, each in value.items() if each is not None}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def application(cloudwatch: CloudWatch) -> Callable[..., Iterable[bytes]]:
    """A WSGI application for moto's dispatcher."""

    class Bound(_Response):
        pass

    Bound.cloudwatch = cloudwatch
    app = Flask("cloudwatch")
    app.debug = True  # exceptions reach the caller of the application, who logs them
    app.request_class = BackendRequest
    view = convert_to_flask_response(Bound.dispatch)
    app.add_url_rule("/", endpoint="cloudwatch", view_func=view, methods=["GET", "POST"])

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if (called := _RPC.fullmatch(environ["PATH_INFO"])) is None:
            return app(environ, start_response)
        return _from_cbor(app, called[1], environ, start_response)

    return serve


def _from_cbor(app: Any, operation: str, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ.pop("HTTP_CONTENT_ENCODING", None) == "gzip":
        body = gzip.decompress(body)
    parser = RpcV2CBORParser()
    given = parser.parse_data_item(parser.get_peekable_stream_from_bytes(body)) if body else {}
    request = json.dumps(given, default=_seconds).encode()
    translated = environ | {
        "PATH_INFO": "/",
        "RAW_URI": "/",
        "REQUEST_URI": "/",
        "CONTENT_TYPE": "application/x-amz-json-1.0",
        "CONTENT_LENGTH": str(len(request)),
        "HTTP_X_AMZ_TARGET": f"GraniteServiceVersion20100801.{operation}",
        "wsgi.input": io.BytesIO(request),
    }
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    answered = b"".join(app(translated, lambda status, headers, _error=None: begun.append((status, headers))))
    status, headers = begun[-1]
    reply = json.loads(answered or b"{}")
    shape = get_service_model("cloudwatch").operation_model(operation).output_shape
    if not status.startswith("200"):
        cbor = _texts({name: text for name, text in reply.items() if isinstance(text, str)})
    elif shape is None:
        cbor = b"\xa0"  # an empty map
    else:
        made = bytearray()
        RpcV2CBORSerializer()._serialize_data_item(made, reply, shape)
        cbor = bytes(made)
    kept = [(name, value) for name, value in headers if name.lower() not in ("content-type", "content-length")]
    start_response(
        status,
        [
            *kept,
            ("content-type", "application/cbor"),
            ("smithy-protocol", "rpc-v2-cbor"),
            ("content-length", str(len(cbor))),
        ],
    )
    return [cbor]


def _seconds(value: Any) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"{type(value).__name__} is nothing CloudWatch takes")


def _texts(error: dict[str, str]) -> bytes:
    """A map of at most 23 texts in CBOR; errors are no shape of an operation."""
    made = bytes([0xA0 | len(error)])
    for text in (part for pair in error.items() for part in pair):
        raw = text.encode()
        made += bytes([0x79, *len(raw).to_bytes(2, "big")]) + raw
    return made
