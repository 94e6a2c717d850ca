"""Metrics in what functions print: taken as CloudWatch Logs takes them, or refused whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pointsman.localaws.cloudwatch.embedded import embedded
from pointsman.localaws.cloudwatch.metrics import Datum

NOW = 1_700_000_000.0
DIRECTIVE: dict[str, Any] = {
    "Namespace": "Shop",
    "Dimensions": [["service", "version"], ["service"], []],
    "Metrics": [{"Name": "Orders", "Unit": "Count"}, {"Name": "took"}],
}
MEMBERS: dict[str, Any] = {"service": "orders", "version": "7", "Orders": 1, "took": [5, 5, 7.5], "requestId": "r"}


def document(*, timestamp: Any = int(NOW) * 1000, directive: Any = DIRECTIVE, **members: Any) -> str:
    return json.dumps({"_aws": {"Timestamp": timestamp, "CloudWatchMetrics": [directive]}, **MEMBERS, **members})


def taken(*lines: str) -> list[Datum]:
    return list(embedded("1", "eu-west-1", "/aws/lambda/f", lines, NOW))


def test_every_metric_counts_under_every_set_of_dimensions() -> None:
    found = taken(document(timestamp=int(NOW) * 1000 - 1500))

    told = {(each.metric.name, each.metric.dimensions): (each.what.count, each.what.total) for each in found}
    service, version = ("service", "orders"), ("version", "7")
    sets = ((service, version), (service,), ())
    expected = {("Orders", of): (1, 1) for of in sets} | {("took", of): (3, 17.5) for of in sets}
    assert told == expected
    assert {(each.metric.namespace, each.at) for each in found} == {("Shop", NOW - 1.5)}
    assert {each.metric.name: each.unit for each in found} == {"Orders": "Count", "took": "None"}
    assert found[1].what.values == {5: 2, 7.5: 1}


def test_what_a_runtime_puts_before_a_document_is_passed_over() -> None:
    assert taken(f"2023-11-14T22:13:20.000Z\tabc-1\tINFO\t{document()}") == taken(document())


@pytest.mark.parametrize(
    "line", ["", "hello", '{"level": "INFO"}', 'no "CloudWatchMetrics" here', f"{document()} and more", document()[:-1]]
)
def test_other_lines_have_no_metrics(line: str) -> None:
    assert taken(line) == []


@pytest.mark.parametrize(
    "line",
    [
        document(timestamp=NOW),
        document(timestamp="today"),
        document(timestamp=int(NOW - 15 * 86400) * 1000),
        document(timestamp=int(NOW + 3 * 3600) * 1000),
        document(Orders="one"),
        document(Orders=True),
        document(Orders=[1] * 101),
        document(version=7),
        document(version=""),
        document(directive=DIRECTIVE | {"Namespace": ""}),
        document(directive=DIRECTIVE | {"Dimensions": []}),
        document(directive=DIRECTIVE | {"Metrics": [{"Name": "Absent"}]}),
        document(directive=DIRECTIVE | {"Metrics": [{"Name": "Orders"}] * 101}),
    ],
)
def test_a_wrong_document_makes_no_metric_and_counts_as_wrong(line: str) -> None:
    """On AWS, too, a typo is otherwise silent: the metric is simply not there."""
    (found,) = taken(line)

    assert (found.metric.namespace, found.metric.name) == ("AWS/Logs", "EMFValidationErrors")
    assert found.metric.dimensions == (("LogGroupName", "/aws/lambda/f"),)


def test_a_wrong_document_does_not_spoil_its_neighbours() -> None:
    found = taken(document(Orders="one"), document())

    assert [each.metric.name for each in found if each.metric.dimensions == ()] == ["Orders", "took"]
