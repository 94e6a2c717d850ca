"""What invocations add to the metrics of AWS/Lambda, and under which dimensions. Pure.

A call has up to four sets of dimensions: none (all functions of the region), the function, the function and the
resource that was called (`name`, `name:2`, `name:live`), and with an alias also the version that ran, or would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias, assert_never

from pointsman.localaws.cloudwatch.metrics import Datum, Dimensions, Metric
from pointsman.localaws.cloudwatch.statistics import Distribution
from pointsman.localaws.contract import Occurrence, Sample

NAMESPACE: Final = "AWS/Lambda"
_UNITS: Final = {"Duration": "Milliseconds", "AsyncEventAge": "Milliseconds"}

_Sets: TypeAlias = tuple[int, ...]
_REGION, _FUNCTION, _RESOURCE, _EXECUTED = range(4)
_ALL: Final = (_REGION, _FUNCTION, _RESOURCE, _EXECUTED)
_PROVISIONED: Final = (_FUNCTION, _RESOURCE, _EXECUTED)
_READY: Final = (_RESOURCE, _EXECUTED)


class _Called(NamedTuple):
    account: str
    region: str
    function_name: str
    qualifier: str | None
    version: str | None
    second: int


def emit(happened: Iterable[Sample | Occurrence]) -> Iterator[Datum]:
    """Counted before it is spread over dimensions, so that a thousand calls in a second cost little more than one."""
    tallies: dict[_Called, dict[tuple[str, _Sets], dict[float, float]]] = {}
    for each in happened:
        version = each.version if isinstance(each, Sample) else None
        called = _Called(each.account, each.region, each.function_name, each.qualifier, version, int(each.at))
        tally = tallies.setdefault(called, {})
        for name, sets, value in _values(each):
            counts = tally.setdefault((name, sets), {})
            counts[value] = counts.get(value, 0.0) + 1.0
    for called, tally in tallies.items():
        dimensions = _dimensions(called)
        for (name, sets), counts in tally.items():
            for which in sets:
                if which < len(dimensions):
                    metric = Metric(called.account, called.region, NAMESPACE, name, dimensions[which])
                    yield Datum(metric, _UNITS.get(name, "Count"), called.second, Distribution.counted(counts))


def _values(each: Sample | Occurrence) -> Iterator[tuple[str, _Sets, float]]:
    match each:
        case Occurrence():
            yield each.name, _ALL, each.value
        case Sample(outcome="throttled"):
            yield "Throttles", _ALL, 1.0  # by the version that would have run: the CDK lists it so
        case Sample():
            yield "Invocations", _ALL, 1.0
            yield "Errors", _ALL, 1.0 if each.outcome == "failed" else 0.0
            yield "Throttles", _ALL, 0.0
            yield "Duration", _ALL, each.duration_ms
            for which, running in enumerate(each.running):
                yield "ConcurrentExecutions", (which,), float(running)
            if each.unreserved is not None:
                yield "UnreservedConcurrentExecutions", (_REGION,), float(each.unreserved)
            if each.provisioned:
                spilled = each.ready is None
                used = each.provisioned if each.ready is None else each.ready
                yield "ProvisionedConcurrencyInvocations", _PROVISIONED, float(not spilled)
                yield "ProvisionedConcurrencySpilloverInvocations", _PROVISIONED, float(spilled)
                yield "ProvisionedConcurrentExecutions", _READY, float(used)
                yield "ProvisionedConcurrencyUtilization", _READY, used / each.provisioned
        case _:
            assert_never(each)


def _dimensions(called: _Called) -> list[Dimensions]:
    name, qualifier = called.function_name, called.qualifier
    function = ("FunctionName", name)
    resource = ("Resource", f"{name}:{qualifier}" if qualifier else name)
    sets: list[Dimensions] = [(), (function,), (function, resource)]
    if called.version is not None and qualifier and qualifier[0] != "$" and not qualifier.isdecimal():
        sets.append((("ExecutedVersion", called.version), function, resource))
    return sets
