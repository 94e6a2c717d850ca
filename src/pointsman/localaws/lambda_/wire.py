"""AWS's own service model of Lambda, read as data: HTTP routes, request shapes, constraints, error shapes.

botocore ships the model; what it says about an operation that we have not built yet is enough to name it in a refusal.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote

import msgspec

from pointsman.localaws.contract import Request, Response
from pointsman.localaws.lambda_.errors import LambdaError, Throttled, validation

Json: TypeAlias = dict[str, Any]

_MODEL = "data/lambda/2015-03-31/service-2.json"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@cache
def _model() -> Json:
    data = files("botocore")
    plain = data / _MODEL
    packed = gzip.decompress((data / f"{_MODEL}.gz").read_bytes()) if not plain.is_file() else plain.read_bytes()
    model: Json = msgspec.json.decode(packed)
    model["shapes"]["InvokeMode"]["enum"].sort(reverse=True)  # the order in which AWS lists them (recorded)
    # AWS's refusals print this one without the brackets that the model has around the whole (recorded).
    layer = model["shapes"]["LayerVersionArn"]
    layer["pattern"] = re.sub(r"^\((\(.*\))\)$", r"\1", layer["pattern"])
    return model


def _shape(name: str) -> Json:
    shape: Json = _model()["shapes"][name]
    return shape


# --- routes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Route:
    """One operation as HTTP reaches it: its path's segments, None where a placeholder stands, and those by name."""

    operation: str
    status: int  # of success
    segments: tuple[str | None, ...]
    names: tuple[str, ...]
    query: tuple[tuple[str, str], ...]  # GetLayerVersionByArn and ListLayers differ only by these


@cache
def _routes() -> Mapping[tuple[str, int], list[_Route]]:
    """By method and number of segments; those that ask for a query come first."""
    table: dict[tuple[str, int], list[_Route]] = {}
    for name, operation in _model()["operations"].items():
        path, _, query = operation["http"]["requestUri"].partition("?")
        parts = path.strip("/").split("/")
        # The model says 200 for DeleteFunction; AWS answers 204 (recorded), and names it in the reply's StatusCode.
        status = 204 if name == "DeleteFunction" else operation["http"].get("responseCode", 200)
        segments = tuple(None if part.startswith("{") else part for part in parts)
        names = tuple(part.strip("{}") for part in parts if part.startswith("{"))
        found = _Route(name, status, segments, names, tuple(parse_qsl(query)))
        table.setdefault((operation["http"]["method"], len(parts)), []).append(found)
    for candidates in table.values():
        candidates.sort(key=lambda candidate: -len(candidate.query))
    return table


def route(request: Request) -> tuple[tuple[str, int], Mapping[str, str]] | None:
    """((operation, HTTP status of its success), values of the path's placeholders); None: Lambda has no such path."""
    for known, values in _fitting(request.method, request.path):
        if all(request.query.get(key) == value for key, value in known.query):
            return (known.operation, known.status), values
    return None


@lru_cache(1024)
def _fitting(method: str, path: str) -> list[tuple[_Route, Mapping[str, str]]]:
    parts = path.strip("/").split("/")
    found: list[tuple[_Route, Mapping[str, str]]] = []
    for known in _routes().get((method, len(parts)), ()):
        pairs = list(zip(known.segments, parts, strict=True))
        if all(want in (None, part) for want, part in pairs):
            values = [unquote(part) for want, part in pairs if want is None]
            found.append((known, dict(zip(known.names, values, strict=True))))
    return found


# --- requests -------------------------------------------------------------------------------------------------------


def parameters(operation: str, path: Mapping[str, str], request: Request) -> Json:
    """AWS's parameter dict (blobs as bytes) of a request for `operation`.

    A repeated query name (`tagKeys=a&tagKeys=b`) arrives as one value joined by commas, which no tag key holds.
    """
    source = _model()["operations"][operation].get("input")
    if source is None:
        return {}
    shape = _shape(source["shape"])
    given: Json = {}
    for name, member in shape["members"].items():
        wire_name = member.get("locationName", name)
        raw: str | None
        match member.get("location"):
            case "uri":
                raw = path.get(wire_name)
            case "querystring":
                raw = request.query.get(wire_name)
            case "header":
                raw = request.headers.get(wire_name.lower())
            case _:
                continue
        if raw is not None:
            given[name] = _from_text(raw, member["shape"])
    payload = shape.get("payload")
    if payload is not None:
        given[payload] = (
            request.body if _shape(shape["members"][payload]["shape"])["type"] == "blob" else _body(request)
        )
    elif request.body and request.method != "GET":
        document = _body(request)
        given |= {
            name: _from_json(document[wire_name], member["shape"])
            for name, member in shape["members"].items()
            if "location" not in member and document.get(wire_name := member.get("locationName", name)) is not None
        }
    return given


def _body(request: Request) -> Json:
    try:
        document = _decode(request.body) if request.body else {}
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise LambdaError(
            "InvalidRequestContentException", 400, f"Could not parse request body into json: {wrong}"
        ) from wrong
    if not isinstance(document, dict):
        raise LambdaError("SerializationException", 400, "Start of structure or map expected.", type="")
    return document


def _from_text(raw: str, shape_name: str) -> Any:
    match _shape(shape_name)["type"]:
        case "integer" | "long":
            try:
                return int(raw)
            except ValueError:
                raise _unreadable("STRING_VALUE", "an Integer") from None
        case "boolean":
            return raw.lower() == "true"
        case "list":
            return raw.split(",")
        case _:
            return raw


_PYTHON: dict[str, tuple[type | tuple[type, ...], str]] = {
    "structure": (dict, "a Structure"),
    "map": (dict, "a Map"),
    "list": (list, "a Collection"),
    "string": (str, "a String"),
    "integer": (int, "an Integer"),
    "long": (int, "a Long"),
    "double": ((int, float), "a Double"),
    "float": ((int, float), "a Float"),
    "boolean": (bool, "a Boolean"),
    "blob": (str, "a Blob"),
}


def _from_json(value: Any, shape_name: str) -> Any:
    """`value` with blobs as bytes, refused where its JSON type is not the shape's. Unknown members are dropped."""
    shape = _shape(shape_name)
    kind = shape["type"]
    wanted, words = _PYTHON.get(kind, (object, ""))
    fits = isinstance(value, wanted) and (kind == "boolean" or not isinstance(value, bool))
    if not fits:
        raise _unreadable(f"{type(value).__name__.upper()}_VALUE", words)
    match kind:
        case "structure":
            members = shape["members"]
            return {
                name: _from_json(inner, members[name]["shape"])
                for name, inner in value.items()
                if name in members and inner is not None
            }
        case "map":
            return {key: _from_json(inner, shape["value"]["shape"]) for key, inner in value.items()}
        case "list":
            return [_from_json(inner, shape["member"]["shape"]) for inner in value]
        case "double" | "float":
            return float(value)
        case "blob":
            try:
                return base64.b64decode(value, validate=True)
            except binascii.Error:
                raise _unreadable("STRING_VALUE", "a Blob") from None
        case _:
            return value


def _unreadable(given: str, wanted: str) -> LambdaError:
    return LambdaError("SerializationException", 400, f"{given} can not be converted to {wanted}", type="")


# --- constraints ----------------------------------------------------------------------------------------------------


def validate(operation: str, given: Mapping[str, Any]) -> None:
    """Refuse `given` in AWS's words (recorded ValidationExceptions)."""
    if broken := problems(operation, given):
        raise validation(broken)


def problems(operation: str, given: Mapping[str, Any]) -> list[str]:
    """Every constraint of the model that `given` breaks."""
    source = _model()["operations"][operation].get("input")
    return [] if source is None else _problems(given, source["shape"], "")


def _problems(value: Any, shape_name: str, path: str) -> list[str]:
    shape = _shape(shape_name)
    if shape_name in ("Runtime", "CompatibleRuntimes"):  # AWS checks them elsewhere, and words it differently
        return []
    match shape["type"]:
        case "structure":
            found = [
                f"Value null at '{_under(path, name)}' failed to satisfy constraint: Member must not be null"
                for name in shape.get("required", ())
                if value.get(name) is None
            ]
            for name, member in shape["members"].items():
                if value.get(name) is not None:
                    found += _problems(value[name], member["shape"], _under(path, name))
            return found
        case "list":
            whole = _broken(len(value), shape, "length")
            member = shape["member"]["shape"]
            if _shape(member)["type"] == "structure":
                inner = [
                    problem
                    for index, item in enumerate(value, 1)
                    for problem in _problems(item, member, f"{path}.{index}.member")
                ]
                return _sentences(value, path, whole) + inner
            if any(_scalar(item, _shape(member)) for item in value):
                # That of layers may not be null, those of subnets and security groups may (recorded).
                listed = _rules(_shape(member)) + ["Member must not be null"] * (member == "LayerVersionArn")
                whole.append(f"Member must satisfy constraint: [{', '.join(listed)}]")
            return _sentences(value, path, whole)
        case "map":
            whole = _broken(len(value), shape, "length")
            for part, items, words in (("key", value, "keys"), ("value", value.values(), "value")):
                rules = _shape(shape[part]["shape"])
                if any(_scalar(item, rules) for item in items):
                    listed = _rules(rules) + (["Member must not be null"] if part == "value" else [])
                    whole.append(f"Map {words} must satisfy constraint: [{', '.join(listed)}]")
            return _sentences(value, path, whole)
        case _ if isinstance(value, str) and len(value) < 256:
            return _sentences(value, path, _broken_by(value, shape_name))
        case _:
            return _sentences(value, path, _scalar(value, shape))


@lru_cache(4096)
def _broken_by(value: str, shape_name: str) -> list[str]:
    """`_scalar`, remembered: a name is looked at in every call about its function. Not to be changed by the caller."""
    return _scalar(value, _shape(shape_name))


def _under(path: str, name: str) -> str:
    camel = name[:1].lower() + name[1:]
    return f"{path}.{camel}" if path else camel


def _sentences(value: Any, path: str, broken: list[str]) -> list[str]:
    return [f"Value '{_java(value)}' at '{path}' failed to satisfy constraint: {rule}" for rule in broken]


def _scalar(value: Any, shape: Json) -> list[str]:
    """The rules of a scalar's shape that `value` breaks, as AWS words them."""
    if "enum" in shape:
        return [] if value in shape["enum"] else [_enumerated(shape)]
    match shape["type"]:
        case "string":
            broken = _broken(len(value), shape, "length")
            if "pattern" in shape and not _pattern(shape["pattern"]).fullmatch(value):
                broken.append(f"Member must satisfy regular expression pattern: {shape['pattern']}")
            return broken
        case "blob":
            return _broken(len(value), shape, "length")
        case "integer" | "long" | "double" | "float":
            return _broken(value, shape, "value")
        case _:
            return []


def _broken(measure: float, shape: Json, what: str) -> list[str]:
    found = []
    if "max" in shape and measure > shape["max"]:
        found.append(f"Member must have {what} less than or equal to {shape['max']}")
    if "min" in shape and measure < shape["min"]:
        found.append(f"Member must have {what} greater than or equal to {shape['min']}")
    return found


def _rules(shape: Json) -> list[str]:
    """Every rule of a scalar's shape: AWS lists them all for a member of a list or map, broken or not."""
    if "enum" in shape:
        return [_enumerated(shape), "Member must not be null"]
    what = "length" if shape["type"] == "string" else "value"
    rules = []
    if "max" in shape:
        rules.append(f"Member must have {what} less than or equal to {shape['max']}")
    if "min" in shape:
        rules.append(f"Member must have {what} greater than or equal to {shape['min']}")
    if "pattern" in shape:
        rules.append(f"Member must satisfy regular expression pattern: {shape['pattern']}")
    return rules


# AWS names the values of some enumerations in another order than its model has them (recorded).
_SAID: Final[Mapping[frozenset[str], tuple[str, ...]]] = {
    frozenset(values): values
    for values in (
        ("Terminate", "Allow"),
        ("PublishedVersions", "None"),
        ("RESPONSE_STREAM", "BUFFERED"),
        ("LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"),
    )
}


def _enumerated(shape: Json) -> str:
    values = _SAID.get(frozenset(shape["enum"]), shape["enum"])
    return f"Member must satisfy enum value set: [{', '.join(values)}]"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    # The model's patterns are Java's; Python lacks only the Unicode categories: letters, numbers, spaces.
    for java, python in ((r"\p{L}", r"\w"), (r"\p{N}", r"\d"), (r"\p{Z}", r"\s")):
        text = text.replace(java, python)
    return re.compile(text)


def _java(value: Any) -> str:
    """AWS prints values as Java does: {2=2.0}, [a, b]."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}={_java(inner)}" for key, inner in value.items()) + "}"
        case list():
            return f"[{', '.join(_java(inner) for inner in value)}]"
        case _:
            return str(value)


def known_runtimes() -> tuple[str, ...]:
    """Every runtime identifier AWS has ever named."""
    return tuple(_shape("Runtime")["enum"])


# --- replies --------------------------------------------------------------------------------------------------------


def reply(status: int, document: Json) -> Response:
    if status == 204:
        return Response(204)
    return Response(status, _encode(document), {"content-type": "application/json"})


def refusal(error: LambdaError) -> Response:
    """An error as AWS puts it on the wire: the code in a header, and the sentence under the key the model says."""
    shape = _model()["shapes"].get(error.code, {"members": {}})
    key = "Message" if "Message" in shape["members"] or error.message is None else "message"
    body: Json = {key: error.message}
    if error.type and error.code != "ValidationException":
        body["Type"] = error.type
    if isinstance(error, Throttled):
        body["Reason"] = error.reason
    headers = {"content-type": "application/json", "x-amzn-errortype": error.code}
    return Response(error.status, _encode(body), headers)
