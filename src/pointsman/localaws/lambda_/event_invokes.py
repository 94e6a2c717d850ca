"""How asynchronous invocations are to be retried and reported (`asynchronous` does so)."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec

from pointsman.localaws.lambda_.address import LATEST, Address
from pointsman.localaws.lambda_.errors import LambdaError, invalid
from pointsman.localaws.lambda_.store import Store, after_marker, marker, page_size
from pointsman.localaws.lambda_.wire import Json

_SETTINGS = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
_DESTINATION = re.compile(
    r"arn:[^:]+:(?P<service>lambda|sns|sqs|events|s3):(?P<region>[^:]*):(?P<account>[^:]*):(?P<rest>.*)"
)


class EventInvokes(Store):
    def put_function_event_invoke_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._asked_of("PutFunctionEventInvokeConfig", account, region, parameters)
        self._check_event_invoke(here, parameters)
        with self._writing():
            return self._put_event_invoke(here, self._carrier(here), {}, parameters)

    def update_function_event_invoke_config(self, account: str, region: str, parameters: Json) -> Json:
        """What is not given stays."""
        here = self._asked_of("UpdateFunctionEventInvokeConfig", account, region, parameters)
        self._check_event_invoke(here, parameters)
        with self._writing():
            function = self._carrier(here)
            before = self._event_invoke(function, here)
            if before is None:
                raise _none(here)
            return self._put_event_invoke(here, function, before, parameters)

    def get_function_event_invoke_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._asked_of("GetFunctionEventInvokeConfig", account, region, parameters)
        with self._lock:
            found = self._event_invoke(self._find(here), here)
        if found is None:
            raise _none(here)
        return found

    def delete_function_event_invoke_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._asked_of("DeleteFunctionEventInvokeConfig", account, region, parameters)
        with self._writing():
            deleted = self._db.execute(
                "DELETE FROM event_invoke WHERE function = ? AND qualifier = ?", (self._find(here), here.qualifier)
            )
            if deleted.rowcount == 0:
                raise _none(here)
        return {}

    def list_function_event_invoke_configs(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("ListFunctionEventInvokeConfigs", account, region, parameters)
        size = page_size(parameters)
        (after,) = after_marker(parameters, "")
        with self._lock:
            function = self._find(here)
            if function is None:
                raise _no_function()
            rows = self._db.execute(
                "SELECT qualifier, settings FROM event_invoke WHERE function = ? AND qualifier > ?"
                " ORDER BY qualifier LIMIT ?",
                (function, after, size + 1),
            ).fetchall()
        reply: Json = {"FunctionEventInvokeConfigs": [msgspec.json.decode(settings) for _, settings in rows[:size]]}
        if len(rows) > size:
            reply["NextMarker"] = marker(rows[size - 1][0])
        return reply

    def _asked_of(self, operation: str, account: str, region: str, parameters: Json) -> Address:
        here = self._called(operation, account, region, parameters)
        return replace(here, qualifier=here.qualifier or LATEST)

    def _check_event_invoke(self, here: Address, given: Json) -> None:
        if not any(key in given for key in _SETTINGS):
            raise invalid("You must specify at least one of error handling or destination setting.")
        ends = given.get("DestinationConfig", {})
        for end in ("OnSuccess", "OnFailure"):
            destination = ends.get(end, {}).get("Destination")
            if not destination:
                continue
            found = _DESTINATION.fullmatch(destination)
            if found is None or (found["service"] == "s3" and end == "OnSuccess"):
                shown = f"onSuccess={_java(ends, 'OnSuccess')}, onFailure={_java(ends, 'OnFailure')}"
                raise invalid(f"The provided destination config DestinationConfig({shown}) is invalid.")
            if found["service"] == "lambda":
                name = found["rest"].removeprefix("function:").split(":")[0]
                target = Address(found["account"], found["region"], name)
                if (target.arn, target.name) == (here.arn, here.name):
                    raise invalid("You can't specify the function as a destination for itself.")
                with self._lock:
                    exists = self._find(target) is not None
                if not exists:
                    raise invalid(f"The destination ARN {destination} is invalid.")

    def _carrier(self, here: Address) -> int:
        try:
            function = self._function(here)
            self._reached(here)
        except LambdaError:
            raise _no_function() from None
        return function

    def _event_invoke(self, function: int | None, here: Address) -> Json | None:
        found = self._db.execute(
            "SELECT settings FROM event_invoke WHERE function = ? AND qualifier = ?", (function, here.qualifier)
        ).fetchone()
        return None if found is None else msgspec.json.decode(found[0], type=dict)

    def _put_event_invoke(self, here: Address, function: int, before: Json, given: Json) -> Json:
        settings: Json = {
            "LastModified": round(self._now(), 3),
            "FunctionArn": here.qualified(here.qualifier),
            **{key: before[key] for key in _SETTINGS if key in before},
            **{key: given[key] for key in _SETTINGS if key in given},
        }
        settings["DestinationConfig"] = {"OnSuccess": {}, "OnFailure": {}} | settings.get("DestinationConfig", {})
        self._db.execute(
            "REPLACE INTO event_invoke (function, qualifier, settings) VALUES (?, ?, ?)",
            (function, here.qualifier, msgspec.json.encode(settings)),
        )
        return settings


def _java(ends: Json, end: str) -> str:
    """AWS prints what it was given as Java does."""
    if end not in ends:
        return "null"
    return f"{end}(destination={ends[end].get('Destination', 'null')})"


def _no_function() -> LambdaError:
    return LambdaError("ResourceNotFoundException", 404, "The function doesn't exist.")


def _none(here: Address) -> LambdaError:
    arn = here.qualified(here.qualifier)
    return LambdaError("ResourceNotFoundException", 404, f"The function {arn} doesn't have an EventInvokeConfig")
