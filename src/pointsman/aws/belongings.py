"""What belongs to a qualifier: its policy, URL, event-invoke configuration, event sources, provisioned concurrency.

And the end of a version. Absent is `None`; deleting what is not there is done already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pointsman.aws.sending import Reply, Sender, nothing
from pointsman.errors import NotFound
from pointsman.model import EventSource, FunctionArn, KeptReady, Permission, Url

R = TypeVar("R")


class Belonging(Sender):
    # The resource policy

    def policy(self, function: str, qualifier: str) -> tuple[Permission, ...]:
        found = self._or_none(
            "GetPolicy",
            lambda reply: tuple(map(_permission, json.loads(reply["Policy"])["Statement"])),
            **_of(function, qualifier),
        )
        return found or ()

    def grant(self, function: str, qualifier: str, parameters: Mapping[str, Any]) -> Permission:
        """Conflict where the policy has a statement of that id already."""
        return self._send(
            "AddPermission",
            lambda reply: _permission(json.loads(reply["Statement"])),
            mutates=True,
            **_of(function, qualifier),
            **parameters,
        )

    def revoke(self, function: str, qualifier: str, statement: str) -> None:
        self._gone("RemovePermission", **_of(function, qualifier), StatementId=statement)

    # The URL

    def url(self, function: str, qualifier: str) -> Url | None:
        return self._or_none("GetFunctionUrlConfig", _url, **_of(function, qualifier))

    def urls(self, function: str) -> dict[str, Url]:
        """Every URL by its qualifier ("" the function's own)."""
        pages = self._pages("ListFunctionUrlConfigs", lambda reply: reply["FunctionUrlConfigs"], function)
        return {FunctionArn.parse(each["FunctionArn"]).qualifier or "": _url(each) for each in pages}

    def create_url(self, function: str, qualifier: str, auth: str) -> Url:
        return self._send("CreateFunctionUrlConfig", _url, mutates=True, **_of(function, qualifier), AuthType=auth)

    def change_url(self, function: str, qualifier: str, auth: str) -> Url:
        return self._send("UpdateFunctionUrlConfig", _url, mutates=True, **_of(function, qualifier), AuthType=auth)

    def delete_url(self, function: str, qualifier: str) -> None:
        self._gone("DeleteFunctionUrlConfig", **_of(function, qualifier))

    # Asynchronous invocations

    def event_invoke(self, function: str, qualifier: str) -> dict[str, Any] | None:
        return self._or_none("GetFunctionEventInvokeConfig", _events, **_of(function, qualifier))

    def event_invokes(self, function: str) -> frozenset[str]:
        """The qualifiers that have such a configuration."""
        pages = self._pages(
            "ListFunctionEventInvokeConfigs", lambda reply: reply["FunctionEventInvokeConfigs"], function
        )
        return frozenset(FunctionArn.parse(each["FunctionArn"]).qualifier or "" for each in pages)

    def put_event_invoke(self, function: str, qualifier: str, settings: Mapping[str, Any]) -> None:
        self._send("PutFunctionEventInvokeConfig", nothing, mutates=True, **_of(function, qualifier), **settings)

    def delete_event_invoke(self, function: str, qualifier: str) -> None:
        self._gone("DeleteFunctionEventInvokeConfig", **_of(function, qualifier))

    # Event sources

    def event_sources(self, function: str, qualifier: str) -> tuple[EventSource, ...]:
        """Those that feed exactly this qualifier."""
        name = f"{function}:{qualifier}"
        pages = self._pages("ListEventSourceMappings", lambda reply: reply["EventSourceMappings"], name)
        return tuple(
            _event_source(each)
            for each in pages
            if FunctionArn.parse(each["FunctionArn"]).qualifier == qualifier and each.get("State") != "Deleting"
        )

    def map_event_source(self, function: str, qualifier: str, settings: Mapping[str, Any]) -> EventSource:
        """Made disabled. Conflict where this source feeds this qualifier already."""
        return self._send(
            "CreateEventSourceMapping",
            _event_source,
            mutates=True,
            subject=f"{function}:{qualifier}",
            FunctionName=f"{function}:{qualifier}",
            Enabled=False,
            **settings,
        )

    def unmap_event_source(self, uuid: str) -> None:
        self._gone("DeleteEventSourceMapping", subject=uuid, UUID=uuid)

    # Provisioned concurrency

    def provisioned(self, function: str, qualifier: str) -> int | None:
        found = self.kept_ready(function, qualifier)
        return found.number if found else None

    def kept_ready(self, function: str, qualifier: str) -> KeptReady | None:
        return self._or_none("GetProvisionedConcurrencyConfig", _kept_ready, **_of(function, qualifier))

    def kept_ready_of_all(self, function: str) -> dict[str, KeptReady]:
        """By the version or alias that has it."""
        pages = self._pages(
            "ListProvisionedConcurrencyConfigs", lambda reply: reply["ProvisionedConcurrencyConfigs"], function
        )
        return {FunctionArn.parse(each["FunctionArn"]).qualifier or "": _kept_ready(each) for each in pages}

    def provisioned_of_all(self, function: str) -> frozenset[str]:
        """The qualifiers that have some."""
        return frozenset(self.kept_ready_of_all(function))

    def provision(self, function: str, qualifier: str, number: int) -> KeptReady:
        return self._send(
            "PutProvisionedConcurrencyConfig",
            _kept_ready,
            mutates=True,
            **_of(function, qualifier),
            ProvisionedConcurrentExecutions=number,
        )

    def unprovision(self, function: str, qualifier: str) -> None:
        self._gone("DeleteProvisionedConcurrencyConfig", **_of(function, qualifier))

    # The end

    def delete_version(self, function: str, version: str) -> None:
        """Conflict while an alias names it."""
        self._gone("DeleteFunction", **_of(function, version))

    def _gone(self, action: str, **parameters: Any) -> None:
        try:
            self._send(action, nothing, mutates=True, **parameters)
        except NotFound:
            return

    def _pages(self, action: str, read: Callable[[Reply], list[R]], function: str) -> Iterator[R]:
        marker: str | None = None
        while True:
            page, marker = self._send(
                action,
                lambda reply: (read(reply), reply.get("NextMarker")),
                subject=function,
                FunctionName=function,
                Marker=marker,
            )
            yield from page
            if not marker:
                return


def _of(function: str, qualifier: str) -> dict[str, str]:
    return {"subject": f"{function}:{qualifier}", "FunctionName": function, "Qualifier": qualifier}


def _kept_ready(reply: Reply) -> KeptReady:
    return KeptReady(
        number=reply["RequestedProvisionedConcurrentExecutions"],
        status=reply.get("Status", "READY"),
        reason=reply.get("StatusReason", ""),
        modified=reply.get("LastModified", ""),
    )


def _url(reply: Reply) -> Url:
    return Url(url=reply["FunctionUrl"], auth=reply["AuthType"])


def _events(reply: Reply) -> dict[str, Any]:
    """What PutFunctionEventInvokeConfig takes: without what AWS adds, and the empty ends it shows."""
    kept = {key: reply[key] for key in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds") if key in reply}
    ends = {end: where for end, where in reply.get("DestinationConfig", {}).items() if where.get("Destination")}
    return kept | ({"DestinationConfig": ends} if ends else {})


_MAPPED = (
    *("EventSourceArn", "BatchSize", "FilterCriteria", "MaximumBatchingWindowInSeconds", "ParallelizationFactor"),
    *("DestinationConfig", "MaximumRecordAgeInSeconds", "BisectBatchOnFunctionError", "MaximumRetryAttempts"),
    *("TumblingWindowInSeconds", "FunctionResponseTypes", "ScalingConfig", "KMSKeyArn", "StartingPosition"),
)


def _event_source(reply: Reply) -> EventSource:
    settings = {key: reply[key] for key in _MAPPED if reply.get(key) not in (None, [], {}, "")}
    if not settings.get("DestinationConfig", {}).get("OnFailure"):
        settings.pop("DestinationConfig", None)
    return EventSource(
        uuid=reply["UUID"],
        source=reply.get("EventSourceArn", ""),
        settings=settings,
        enabled=reply.get("State", "") in ("Enabled", "Enabling", "Creating", "Updating"),
    )


# https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html: the only conditions it can make.
_CONDITIONS = {
    ("arnlike", "aws:sourcearn"): "SourceArn",
    ("stringlike", "aws:sourcearn"): "SourceArn",
    ("arnequals", "aws:sourcearn"): "SourceArn",
    ("stringequals", "aws:sourceaccount"): "SourceAccount",
    ("stringequals", "lambda:eventsourcetoken"): "EventSourceToken",
    ("stringequals", "aws:principalorgid"): "PrincipalOrgID",
    ("stringequals", "lambda:functionurlauthtype"): "FunctionUrlAuthType",
    ("bool", "lambda:invokedviafunctionurl"): "InvokedViaFunctionUrl",
}


def _permission(statement: Mapping[str, Any]) -> Permission:
    """A statement in AddPermission's words."""
    beyond = "" if statement["Effect"] == "Allow" else "it denies"
    match statement["Principal"]:
        case str(principal) | {"Service": str(principal)} | {"AWS": str(principal)}:
            pass
        case other:
            principal, beyond = "", f"its principal is {json.dumps(other)}"
    parameters: dict[str, Any] = {
        "StatementId": statement["Sid"],
        "Action": statement["Action"],
        "Principal": principal,
    }
    if not isinstance(statement["Action"], str):
        beyond = f"its actions are {json.dumps(statement['Action'])}"
    for operator, tests in statement.get("Condition", {}).items():
        for key, value in tests.items():
            name = _CONDITIONS.get((operator.lower(), key.lower()))
            if name is None or not isinstance(value, str | bool):
                beyond = f"its condition {operator} {key}"
            else:
                parameters[name] = str(value).lower() == "true" if name == "InvokedViaFunctionUrl" else value
    return Permission(id=statement["Sid"], parameters=parameters, beyond=beyond)


__all__ = ["Belonging"]
