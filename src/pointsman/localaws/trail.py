"""CloudTrail's event history, as far as Lambda goes: calls that changed a function, and `LookupEvents` to find them.

Recorded from the requests themselves, refused ones too. Not recorded: reads, what CloudFormation or a state machine
does in process, and calls of other services.
https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html
"""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from pointsman.localaws.contract import Request, Response
from pointsman.localaws.lambda_.errors import LambdaError
from pointsman.localaws.lambda_.wire import parameters, route

NAMES: Final[Mapping[str, str]] = {
    **{
        operation: f"{operation}20150331"
        for operation in (
            *("CreateAlias", "CreateEventSourceMapping", "CreateFunction", "DeleteAlias", "DeleteEventSourceMapping"),
            *("DeleteFunction", "PublishVersion", "UpdateAlias", "UpdateEventSourceMapping"),
        )
    },
    **{
        operation: f"{operation}20150331v2"
        for operation in ("AddPermission", "RemovePermission", "UpdateFunctionCode", "UpdateFunctionConfiguration")
    },
    "PublishLayerVersion": "PublishLayerVersion20181031",
    "DeleteLayerVersion": "DeleteLayerVersion20181031",
}
"""As CloudTrail calls them: https://docs.aws.amazon.com/lambda/latest/dg/logging-using-cloudtrail.html"""

_DAYS: Final = 90
_MOST: Final = 50
_HIDDEN: Final = frozenset({"Code", "Content", "ZipFile", "Environment"})  # CloudTrail keeps neither code nor secrets
_ATTRIBUTES: Final = {
    "EventId": "id",
    "EventName": "name",
    "Username": "username",
    "AccessKeyId": "access_key",
    "ResourceName": "resource",
}
_ALWAYS: Final = {"EventSource": "lambda.amazonaws.com", "ReadOnly": "false", "ResourceType": "AWS::Lambda::Function"}

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         REAL NOT NULL,
    account    TEXT NOT NULL,
    region     TEXT NOT NULL,
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    username   TEXT NOT NULL,
    access_key TEXT NOT NULL,
    resource   TEXT NOT NULL,
    document   TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS by_name ON events (account, region, name, seq);
"""


class Trail:
    """The events of all accounts and regions, in a file. May be used by any thread."""

    def __init__(self, file: Path, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def record(self, request: Request, response: Response, access_key: str | None) -> None:
        """A call of Lambda and its answer; nothing of what CloudTrail does not keep, or we do not."""
        if request.method == "GET" or (found := route(request)) is None or found[0][0] not in NAMES:
            return
        (operation, _), path = found
        try:
            given = parameters(operation, path, request)
        except LambdaError:
            given = dict(path)
        now = self._now()
        answer = json.loads(response.body) if response.body else {}
        function = str(given.get("FunctionName") or given.get("LayerName") or answer.get("FunctionName") or "")
        username = request.caller.rpartition("/")[2] if request.caller else "root"
        refused = response.status >= 400
        event = {
            "eventVersion": "1.11",
            "userIdentity": _identity(request, access_key),
            "eventTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": "lambda.amazonaws.com",
            "eventName": NAMES[operation],
            "awsRegion": request.region,
            "sourceIPAddress": "127.0.0.1",
            "userAgent": request.headers.get("user-agent", ""),
            "requestParameters": _camel(given),
            "responseElements": None if refused or not answer else _camel(answer),
            "requestID": response.headers.get("x-amzn-requestid", ""),
            "eventID": str(uuid4()),
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": request.account,
            "eventCategory": "Management",
        }
        if refused:
            event["errorCode"] = response.headers.get("x-amzn-errortype", "").partition(":")[0] or str(response.status)
            event["errorMessage"] = str(answer.get("Message") or answer.get("message") or "")
        row = (now, request.account, request.region, event["eventID"], NAMES[operation], username, access_key or "")
        with self._lock:
            self._db.execute(
                "INSERT INTO events (at, account, region, id, name, username, access_key, resource, document)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, function, json.dumps(event, default=str)),
            )

    def answer(self, account: str, region: str, body: bytes) -> Response:
        """LookupEvents: the newest first, 50 a page, of the last 90 days."""
        try:
            return _json(200, self._lookup(account, region, json.loads(body or b"{}")))
        except _Refused as error:
            return _json(400, {"__type": error.code, "message": str(error)})

    def _lookup(self, account: str, region: str, given: Mapping[str, Any]) -> dict[str, Any]:
        most = given.get("MaxResults", _MOST)
        if not isinstance(most, int) or not 1 <= most <= _MOST:
            raise _Refused("InvalidMaxResultsException", f"The MaxResults value must be between 1 and {_MOST}.")
        begin, end = given.get("StartTime"), given.get("EndTime")
        if begin is not None and end is not None and begin > end:
            raise _Refused("InvalidTimeRangeException", "The start time must be before the end time.")
        where, values = ["account = ?", "region = ?", "at >= ?"], [account, region, self._now() - _DAYS * 86_400]
        # EventTime has whole seconds, and so does what it is compared with.
        for bound, condition in ((begin, "CAST(at AS INTEGER) >= ?"), (end, "CAST(at AS INTEGER) <= ?")):
            if bound is not None:
                where.append(condition)
                values.append(bound)
        attributes = given.get("LookupAttributes", ())
        if len(attributes) > 1:
            raise _Refused("InvalidLookupAttributesException", "You can only specify one lookup attribute.")
        for each in attributes:
            key, value = each.get("AttributeKey"), each.get("AttributeValue")
            if key in _ALWAYS:
                where.append("1" if value == _ALWAYS[key] else "0")
            elif key in _ATTRIBUTES:
                where.append(f"{_ATTRIBUTES[key]} = ?")
                values.append(value)
            else:
                raise _Refused("InvalidLookupAttributesException", f"The attribute key {key} is not valid.")
        if token := given.get("NextToken"):
            where.append("seq < ?")
            values.append(_seq(token))
        with self._lock:
            rows = self._db.execute(
                "SELECT seq, at, id, name, username, access_key, resource, document FROM events"
                f" WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?",
                (*values, most + 1),
            ).fetchall()
        answer: dict[str, Any] = {"Events": [_event(row) for row in rows[:most]]}
        if len(rows) > most:
            answer["NextToken"] = base64.b64encode(str(rows[most - 1][0]).encode()).decode()
        return answer


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _seq(token: object) -> int:
    try:
        return int(base64.b64decode(str(token), validate=True))
    except ValueError:
        raise _Refused("InvalidNextTokenException", "Invalid token.") from None


def _event(row: tuple[Any, ...]) -> dict[str, Any]:
    _seq, at, id_, name, username, access_key, resource, document = row
    return {
        "EventId": id_,
        "EventName": name,
        "ReadOnly": "false",
        "AccessKeyId": access_key,
        "EventTime": int(at),
        "EventSource": "lambda.amazonaws.com",
        "Username": username,
        "Resources": [{"ResourceType": "AWS::Lambda::Function", "ResourceName": resource}] if resource else [],
        "CloudTrailEvent": document,
    }


def _identity(request: Request, access_key: str | None) -> dict[str, str]:
    arn = request.caller or f"arn:aws:iam::{request.account}:root"
    kind = "Root" if request.caller is None else "AssumedRole" if ":assumed-role/" in arn else "IAMUser"
    return {"type": kind, "arn": arn, "accountId": request.account, "accessKeyId": access_key or ""}


def _camel(value: Any) -> Any:
    """AWS's names as CloudTrail writes them: functionName. Keys of a map (weights by version) have no such first letter
    but digits, and stay as they are."""
    if isinstance(value, Mapping):
        return {name[:1].lower() + name[1:]: _camel(each) for name, each in value.items() if name not in _HIDDEN}
    if isinstance(value, list | tuple):
        return [_camel(each) for each in value]
    return value


def _json(status: int, document: Any) -> Response:
    return Response(status, json.dumps(document).encode(), {"content-type": "application/x-amz-json-1.1"})
