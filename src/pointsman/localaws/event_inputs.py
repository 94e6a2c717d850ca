"""What a rule's target gets of an event: the event, a part of it, or what its template makes of it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

_PLACEHOLDER: Final = re.compile(r"<([A-Za-z0-9_.\-]+)>")
_QUOTE: Final = re.compile(r'(?<!\\)"')


class InputError(ValueError):
    """Nothing can be made of the event for this target; AWS delivers nothing then (recorded)."""


def complaint(target: Mapping[str, Any]) -> str | None:
    """Why PutTargets would refuse it (recorded)."""
    if sum(way in target for way in ("Input", "InputPath", "InputTransformer")) > 1:
        return f"Only one of Input, InputPath, or InputTransformer must be provided for target {target['Id']}."
    transformer = target.get("InputTransformer", {})
    for name in _PLACEHOLDER.findall(transformer.get("InputTemplate", "")):
        if name not in transformer.get("InputPathsMap", {}) and not name.startswith("aws."):
            return f"InputTemplate for target {target['Id']} contains invalid placeholder {name}."
    return None


def input_of(target: Mapping[str, Any], event: Json, *, rule_name: str, rule_arn: str, ingested: float) -> str:
    """The body for `target`. `event` is as AWS shows it."""
    if "Input" in target:
        return str(target["Input"])
    if "InputPath" in target:
        return compact(_found(target["InputPath"], event))
    if (transformer := target.get("InputTransformer")) is None:
        return compact(event)
    values = {name: _found(path, event) for name, path in transformer.get("InputPathsMap", {}).items()}
    outline = {"detailType" if key == "detail-type" else key: value for key, value in event.items() if key != "detail"}
    values |= {
        "aws.events.rule-arn": rule_arn,
        "aws.events.rule-name": rule_name,
        "aws.events.event": outline,
        "aws.events.event.json": event,
        "aws.events.event.ingestion-time": iso(ingested),
    }
    return _filled(transformer["InputTemplate"], values)


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _found(path: str, event: Json) -> Any:
    from jsonpath_ng.ext.parser import parse  # takes a while to import, and few need it

    return next((match.value for match in parse(path).find(event)), None)


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """Between quotes a value stands without its own (recorded); elsewhere it is JSON, and nothing is ""."""

    def value(found: re.Match[str]) -> str:
        given = values.get(found[1])
        given = "" if given is None else given
        quoted = len(_QUOTE.findall(template, 0, found.start())) % 2 == 1
        if not quoted:
            return compact(given)
        if isinstance(given, str):
            return compact(given)[1:-1]
        if isinstance(given, dict | list) and template.lstrip().startswith("{"):
            raise InputError(f"{found[0]} is no text, but stands between the quotes of a JSON template")
        return compact(given).replace('"', "")

    return _PLACEHOLDER.sub(value, template)
