"""Metrics in log lines: the embedded metric format (EMF), read as CloudWatch Logs does. Pure.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from pointsman.localaws.cloudwatch.metrics import Datum, Metric
from pointsman.localaws.cloudwatch.statistics import Distribution

Name = Annotated[str, Meta(min_length=1, max_length=255)]
DimensionSet = Annotated[tuple[Name, ...], Meta(max_length=30)]  # as many as a metric may have

_OLDEST_S: Final = 14 * 86400
_AHEAD_S: Final = 7200


class _Defined(msgspec.Struct, rename="pascal"):
    name: Name
    unit: str = "None"


class _Directive(msgspec.Struct, rename="pascal"):
    namespace: Name
    dimensions: Annotated[tuple[DimensionSet, ...], Meta(min_length=1)]
    metrics: Annotated[tuple[_Defined, ...], Meta(max_length=100)]


class _Metadata(msgspec.Struct, rename="pascal"):
    timestamp: int  # milliseconds
    cloud_watch_metrics: tuple[_Directive, ...]


class _Root(msgspec.Struct):
    metadata: _Metadata = msgspec.field(name="_aws")


class _Wrong(ValueError):
    """What the specification does not allow: the whole document is left out."""


_document = msgspec.json.Decoder(_Root).decode
_members = msgspec.json.Decoder(dict[str, Any]).decode


def embedded(account: str, region: str, log_group: str, lines: Iterable[str], now: float) -> Iterator[Datum]:
    """What lines as functions print them have in them; a document that is wrong counts in AWS/Logs, as on AWS.

    Runtimes may put the time and the request's id before a document, as Node's console.log does.
    """
    for line in lines:
        begins = line.find("{")
        if '"CloudWatchMetrics"' not in line or begins < 0:
            continue
        text = line[begins:]
        try:
            yield from list(_metrics(account, region, text, now))
        except (_Wrong, msgspec.ValidationError):
            of = (("LogGroupName", log_group),)
            yield Datum(
                Metric(account, region, "AWS/Logs", "EMFValidationErrors", of), "Count", now, Distribution.of(1.0)
            )
        except (msgspec.DecodeError, RecursionError):
            pass  # no document, but a line that speaks of one


def _metrics(account: str, region: str, text: str, now: float) -> Iterator[Datum]:
    metadata, members = _document(text).metadata, _members(text)
    at = metadata.timestamp / 1000
    if not now - _OLDEST_S <= at <= now + _AHEAD_S:
        raise _Wrong(f"Timestamp is {metadata.timestamp}")
    for directive in metadata.cloud_watch_metrics:
        for names in directive.dimensions:
            dimensions = tuple(sorted((name, _text(members, name)) for name in names))
            for defined in directive.metrics:
                metric = Metric(account, region, directive.namespace, defined.name, dimensions)
                counts: dict[float, float] = {}
                for value in _numbers(members, defined.name):
                    counts[value] = counts.get(value, 0.0) + 1.0
                if counts:
                    yield Datum(metric, defined.unit, at, Distribution.counted(counts))


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise _Wrong(f"{name} is no dimension")
    return value


def _numbers(members: dict[str, Any], name: str) -> list[float]:
    value = members.get(name)
    given: list[Any] = value if isinstance(value, list) else [value]
    if len(given) > 100 or any(isinstance(each, bool) or not isinstance(each, int | float) for each in given):
        raise _Wrong(f"{name} is no metric")
    values = [float(each) for each in given]
    if not all(math.isfinite(each) for each in values):
        raise _Wrong(f"{name} is not finite")
    return values
