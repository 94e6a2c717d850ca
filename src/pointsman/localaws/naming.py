"""Which operation of which service an HTTP request is, by botocore's models; and which names there are."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

import msgspec

# The name in a signature, where it is not the service's own.
_SIGNED: Final = {
    "elasticloadbalancing": "elbv2",
    "email": "ses",
    "execute-api": "apigatewaymanagementapi",
    "kinesisanalytics": "kinesisanalyticsv2",
    "monitoring": "cloudwatch",
    "states": "stepfunctions",
    "tagging": "resourcegroupstaggingapi",
}
_BY_SEGMENT: Final = "/operation/"  # .../service/GraniteServiceVersion20100801/operation/PutMetricData (CBOR)


def service_name(signed: str) -> str:
    """The name botocore and the AWS CLI have for the service a request was signed for."""
    return _SIGNED.get(signed, signed)


def operation_name(
    service: str, method: str, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]
) -> str | None:
    """The operation of a request whose path, not a header or form, tells it; None when it does not either."""
    if _BY_SEGMENT in path:
        return path.rpartition("/")[2]
    best: tuple[int, str | None] = (-1, None)
    for name, wanted in _rest(service).get(method, ()):
        score = wanted.score(path, query, headers)
        if score > best[0]:
            best = (score, name)
    return best[1]


def problem(pattern: str) -> str | None:
    """What is wrong with "service" or "service:Operation" (which may have * and ?), in a sentence."""
    service, _, operation = pattern.partition(":")
    if service not in _services():
        return f"AWS has no service {service}{_near(service, _services())}"
    if operation and not set("*?") & set(operation):
        there = {name.lower(): name for name in _model(service)["operations"]}
        if service == "lambda":
            there["invokefunctionurl"] = "InvokeFunctionUrl"  # a permission's name, and no operation of the model
        if operation.lower() not in there:
            return f"{service} has no operation {operation}{_near(operation.lower(), there)}"
    return None


def _near(wrong: str, names: Mapping[str, str]) -> str:
    near = get_close_matches(wrong, names, n=1)
    return f"; did you mean {names[near[0]]}?" if near else ""


class _Wanted:
    """How a REST operation is told from the others of its method: by its path, and what it cannot do without."""

    def __init__(self, uri: str, shape: Mapping[str, Any]) -> None:
        path, _, query = uri.partition("?")
        self._segments = path.strip("/").split("/") if path.strip("/") else []
        self._query = dict(each.partition("=")[::2] for each in query.split("&")) if query else {}
        members = [shape["members"][name] for name in shape.get("required", ())]
        self._needed = [each["locationName"] for each in members if each.get("location") == "querystring"]
        self._headers = [each["locationName"].lower() for each in members if each.get("location") == "header"]

    def score(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> int:
        """How much of the request it explains; -1: it is another operation."""
        given = path.strip("/").split("/") if path.strip("/") else []
        greedy = bool(self._segments) and self._segments[-1].endswith("+}")
        if len(given) < len(self._segments) if greedy else len(given) != len(self._segments):
            return -1
        plain = 0
        for wanted, part in zip(self._segments, given, strict=False):
            if not wanted.startswith("{"):
                if wanted != part:
                    return -1
                plain += 1
        if any(name not in query or (value and query[name] != value) for name, value in self._query.items()):
            return -1
        if any(name not in query for name in self._needed) or any(name not in headers for name in self._headers):
            return -1
        return plain + len(self._query) + len(self._needed) + len(self._headers)


@cache
def _rest(service: str) -> Mapping[str, list[tuple[str, _Wanted]]]:
    """By method."""
    if service not in _services():
        return {}
    model = _model(service)
    found: dict[str, list[tuple[str, _Wanted]]] = {}
    for name, operation in model["operations"].items():
        shape = model["shapes"][operation["input"]["shape"]] if "input" in operation else {"members": {}}
        wanted = _Wanted(operation["http"]["requestUri"], shape)
        found.setdefault(operation["http"]["method"], []).append((name, wanted))
    return found


@cache
def _services() -> Mapping[str, str]:
    return {each.name: each.name for each in (files("botocore") / "data").iterdir() if each.is_dir()}


@cache
def _model(service: str) -> Mapping[str, Any]:
    newest: Traversable = max((files("botocore") / "data" / service).iterdir(), key=lambda each: each.name)
    for file in newest.iterdir():
        if file.name.startswith("service-2.json"):
            data = file.read_bytes()
            model: Mapping[str, Any] = msgspec.json.decode(gzip.decompress(data) if file.name.endswith("gz") else data)
            return model
    raise LookupError(f"botocore has no model of {service}")
