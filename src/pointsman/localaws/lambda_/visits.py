"""One HTTP request to a function URL: as the event a function gets (payload format 2.0), and its answer as HTTP.

A visit arrives at `http://<id>.lambda-url.<region>.localhost:<port>/…`, as on AWS, or for clients that cannot resolve
such a name at `http://127.0.0.1:<port>/_url/<id>/…`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from pointsman.localaws.contract import Response
from pointsman.localaws.lambda_.address import partition_of
from pointsman.localaws.lambda_.urls import FunctionUrl
from pointsman.localaws.lambda_.wire import Json

_HOST = re.compile(r"(?P<id>[a-z0-9-]+)\.lambda-url\.[a-z0-9-]+\.localhost(?::\d+)?")
_PATH = re.compile(r"/_url/(?P<id>[a-z0-9]+)(?P<path>/.*)?", re.DOTALL)
# `connection` is known (recorded) not to reach a function; neither can what else concerns one connection only.
_OF_CONNECTION = frozenset(
    ("connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
_TEXT = re.compile(r"text/|application/(?:[^;]*\+)?(?:json|xml|javascript)\s*(?:;|$)", re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # strftime's are local
_PRELUDE: Final = "application/vnd.awslambda.http-integration-response"
MOST_PRELUDE: Final = 16_384


@dataclass(frozen=True, slots=True)
class Caller:
    """Who signed a request, as far as that is looked at: signatures are not checked."""

    access_key: str
    account: str


@dataclass(frozen=True, slots=True)
class Visit:
    url_id: str
    path: str  # percent-encoded
    method: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    port: int
    by_path: bool = False  # the URL's id was in the path, which is here without it
    caller: Caller | None = None

    def header(self, name: str) -> str | None:
        values = [value for given, value in self.headers if given.lower() == name]
        return ",".join(values) if values else None


class Malformed(Exception):
    """What a function returned cannot be made an HTTP response."""


def addressed(host: str | None, path: str) -> tuple[str, str] | None:
    """(id, path) if a request is for a function URL. Asked of every request, so nothing is matched without need."""
    if host is not None and ".lambda-url." in host and (found := _HOST.fullmatch(host)):
        return found["id"], path
    if path.startswith("/_url/") and (found := _PATH.fullmatch(path)):
        return found["id"], found["path"] or "/"
    return None


def event(url: FunctionUrl, visit: Visit, request_id: str, now: float) -> Json:
    """AWS's event. Absent, as recorded, is what there was none of: query, cookies, body."""
    headers: dict[str, str] = {}
    for given, value in visit.headers:
        if (name := given.lower()) not in _OF_CONNECTION:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    cookies = [each.strip() for each in headers.pop("cookie", "").split(";") if each.strip()]
    if url.auth == "AWS_IAM":
        headers.pop("authorization", None)
    headers |= {
        "x-amzn-trace-id": f"Root=1-{int(now):08x}-{token_hex(12)}",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-port": str(visit.port),
        "x-forwarded-proto": "http",
    }
    query: dict[str, str] = {}
    for name, value in parse_qsl(visit.query, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    path = "/" + unquote(visit.path).lstrip("/")  # recorded: decoded, and slashes it begins with are one
    context: Json = {"accountId": "anonymous", "apiId": url.id}
    if url.auth == "AWS_IAM" and visit.caller is not None:
        context |= {"accountId": visit.caller.account, "authentication": None, "authorizer": {"iam": _iam(url, visit)}}
    moment = datetime.fromtimestamp(now, UTC)
    context |= {
        "domainName": headers.get("host", ""),
        "domainPrefix": url.id,
        "http": {
            "method": visit.method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": "127.0.0.1",
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": f"{moment:%d}/{_MONTHS[moment.month - 1]}/{moment:%Y:%H:%M:%S} +0000",
        "timeEpoch": int(now * 1000),
    }
    text = _text(headers.get("content-type", ""), visit.body)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": visit.query,
        **({"cookies": cookies} if cookies else {}),
        "headers": headers,
        **({"queryStringParameters": query} if query else {}),
        "requestContext": context,
        **({"body": base64.b64encode(visit.body).decode() if text is None else text} if visit.body else {}),
        "isBase64Encoded": text is None,
    }


def _iam(url: FunctionUrl, visit: Visit) -> Json:
    assert visit.caller is not None
    account = visit.caller.account
    return {
        "accessKey": visit.caller.access_key,
        "accountId": account,
        "callerId": account,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": f"arn:{partition_of(url.address.region)}:iam::{account}:root",
        "userId": account,
    }


def _text(content_type: str, body: bytes) -> str | None:
    """None: it goes as base64."""
    if not body:
        return ""
    if not _TEXT.match(content_type):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


# --- the answer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    cookies: tuple[str, ...] = ()


def answer(payload: bytes) -> tuple[Head, bytes]:
    """What a buffered function returned. Raises Malformed.

    Without `statusCode` the whole of it is the body, as compact JSON, or, if it is a string, that (recorded).
    """
    try:
        document = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise Malformed(f"it is not JSON: {wrong}") from wrong
    if not isinstance(document, dict) or "statusCode" not in document:
        return Head(), _plain(document)
    content = document.get("body")
    head, body = _head(document, "application/json"), b"" if content is None else _plain(content)
    if document.get("isBase64Encoded") is True:
        try:
            body = base64.b64decode(body, validate=True)
        except binascii.Error as wrong:
            raise Malformed(f"isBase64Encoded is true, and the body is not base64: {wrong}") from wrong
    return head, body


class Opening:
    """The beginning of a streamed answer: with AWS's content type for it, JSON and eight zeros before the body."""

    def __init__(self, content_type: str) -> None:
        self.head: Head | None = None
        """Known once enough was fed."""
        self._fed = b""
        if content_type.partition(";")[0].strip().lower() != _PRELUDE:
            self.head = Head(200, {"content-type": content_type})

    def feed(self, chunk: bytes) -> bytes:
        """What of it belongs to the body. Raises Malformed."""
        if self.head is not None:
            return chunk
        self._fed += chunk
        before, zeros, body = self._fed.partition(bytes(8))
        if not zeros:
            if len(self._fed) > MOST_PRELUDE:
                raise Malformed(f"no eight zeros within the first {MOST_PRELUDE} bytes")
            return b""
        try:
            document = msgspec.json.decode(before)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            raise Malformed(f"what stands before the eight zeros is not JSON: {wrong}") from wrong
        if not isinstance(document, dict):
            raise Malformed("what stands before the eight zeros is not a JSON object")
        self.head = _head(document, "application/octet-stream")
        return body


def _plain(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _head(document: Json, content_type: str) -> Head:
    try:
        status = int(document.get("statusCode", 200))  # "418" is as good as 418 (recorded)
    except (TypeError, ValueError) as wrong:
        raise Malformed(f"statusCode is {document['statusCode']!r}") from wrong
    if not 200 <= status <= 599:
        raise Malformed(f"statusCode is {status}")
    given, cookies = document.get("headers") or {}, document.get("cookies") or []
    if not isinstance(given, dict) or not isinstance(cookies, list):
        raise Malformed("headers must be an object, and cookies a list")
    headers = {"content-type": content_type}
    for name, value in given.items():
        if not _TOKEN.fullmatch(name):
            raise Malformed(f"{name!r} cannot be the name of a header")
        if (key := name.lower()) not in _OF_CONNECTION and key != "content-length":
            headers[key] = _value(value)
    return Head(status, headers, tuple(_value(each) for each in cookies))


def _value(value: Any) -> str:
    """As it goes on the wire, where a header is bytes: UTF-8, shown as latin-1."""
    if not isinstance(value, (str, int, float)):
        raise Malformed(f"{value!r} cannot be the value of a header")
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if any(each in text for each in "\r\n\0"):
        raise Malformed(f"{value!r} cannot be the value of a header")
    return text.encode().decode("latin-1")


# --- other origins --------------------------------------------------------------------------------------------------


def is_preflight(url: FunctionUrl, visit: Visit) -> bool:
    """AWS answers these itself where CORS is configured; otherwise they are the function's to answer."""
    return (
        bool(url.cors)
        and visit.method == "OPTIONS"
        and visit.header("origin") is not None
        and visit.header("access-control-request-method") is not None
    )


def preflight(url: FunctionUrl, visit: Visit) -> Response:
    origin = _allowed_origin(url.cors, visit)
    if origin is None:
        return Response(200, b"", {"content-type": "application/json"})
    headers = {"content-type": "application/json", **_of_origin(url.cors, origin)}
    for key, name, asked in (
        ("AllowMethods", "access-control-allow-methods", "access-control-request-method"),
        ("AllowHeaders", "access-control-allow-headers", "access-control-request-headers"),
    ):
        if allowed := _listed(url.cors.get(key, ()), visit.header(asked)):
            headers[name] = allowed
    if "MaxAge" in url.cors:
        headers["access-control-max-age"] = str(url.cors["MaxAge"])
    return Response(200, b"", headers)


def with_cors(url: FunctionUrl, visit: Visit, headers: Mapping[str, str]) -> dict[str, str]:
    """`headers` and what the URL's CORS adds. Where the function has set the same, AWS sends both."""
    origin = _allowed_origin(url.cors, visit)
    if origin is None:
        return dict(headers)
    added = _of_origin(url.cors, origin)
    if exposed := url.cors.get("ExposeHeaders"):
        added["access-control-expose-headers"] = ",".join(exposed)
    return {**headers, **{name: ", ".join(filter(None, (headers.get(name), text))) for name, text in added.items()}}


def _allowed_origin(cors: Json, visit: Visit) -> str | None:
    origin = visit.header("origin")
    allowed: Iterable[str] = cors.get("AllowOrigins", ())
    return origin if origin is not None and any(each in ("*", origin) for each in allowed) else None


def _of_origin(cors: Json, origin: str) -> dict[str, str]:
    """The origin is sent back even where "*" allows it."""
    credentials = {"access-control-allow-credentials": "true"} if cors.get("AllowCredentials") else {}
    return {"access-control-allow-origin": origin, "vary": "Origin", **credentials}


def _listed(allowed: Sequence[str], asked: str | None) -> str:
    return asked or "" if "*" in allowed else ",".join(allowed)
