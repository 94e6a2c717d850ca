"""FilterCriteria: which records a function gets to see.

The patterns are EventBridge's, and moto matches them. What is Lambda's own: a record's data is matched as JSON where
both it and the pattern are, as text where neither is, and a record whose data is of the other kind does not pass.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Final, cast

from pointsman.localaws.lambda_.wire import Json

_DATA: Final = {"aws:sqs": "body", "aws:kinesis": "data"}  # DynamoDB's records are JSON all through


def is_pattern(text: str) -> bool:
    from moto.events.exceptions import InvalidEventPatternException
    from moto.events.models import EventPatternParser

    try:
        if not isinstance(pattern := json.loads(text), dict) or not pattern:
            return False
        EventPatternParser(text).parse()
    except (ValueError, InvalidEventPatternException):
        return False
    return True


class Filter:
    """Passes a record that matches any of the patterns (JSON texts); every record if there are none."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [json.loads(text) for text in patterns]

    def passes(self, record: Json) -> bool:
        return not self._patterns or any(_matches(pattern, record) for pattern in self._patterns)


def _matches(pattern: Json, record: Json) -> bool:
    from moto.events.models import EventPattern

    key = _DATA.get(record["eventSource"])
    if key is not None and key in pattern:
        found = record["body"] if key == "body" else base64.b64decode(record["kinesis"]["data"])
        data = _parsed(found)
        if isinstance(pattern[key], dict) != isinstance(data, dict | list):
            return False
        record = record | record.get("kinesis", {}) | {key: data}
    elif key == "data":
        record = record | record["kinesis"]
    return bool(EventPattern(None, pattern).matches_event(cast(Any, record)))


def _parsed(data: str | bytes) -> Any:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if isinstance(found, dict | list):
        return found
    return data if isinstance(data, str) else data.decode("utf-8", "replace")
