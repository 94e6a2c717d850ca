"""What a new alias is to have: what its model alias has, and a preview's URL. Steps, and what cannot be had. Pure.

Permissions, event-invoke configuration, event sources, provisioned concurrency and URLs belong to a qualifier: a new
alias has none, and callers of it are answered 500 by API Gateway until it has.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, TypeAlias

from pointsman.model import AliasName, Belongings, Permission, Url, Value


class GrantPermission(Value, frozen=True, kw_only=True, tag_field="step"):
    """`parameters` of AddPermission, for the alias."""

    alias: AliasName
    parameters: dict[str, Any]
    reason: str


class RevokePermission(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    statement: str
    reason: str


class ConfigureEvents(Value, frozen=True, kw_only=True, tag_field="step"):
    """How asynchronous invocations of the alias are retried and reported."""

    alias: AliasName
    settings: dict[str, Any]
    reason: str


class MapEventSource(Value, frozen=True, kw_only=True, tag_field="step"):
    """Feed the alias from a queue or stream, disabled: on one queue, two consumers take each other's messages."""

    alias: AliasName
    settings: dict[str, Any]
    reason: str


class ProvisionConcurrency(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    number: int
    reason: str


class GiveUrl(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    auth: str
    reason: str


class ChangeUrl(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    auth: str
    reason: str


class RemoveUrl(Value, frozen=True, kw_only=True, tag_field="step"):
    alias: AliasName
    reason: str


Furnish: TypeAlias = (
    GrantPermission
    | RevokePermission
    | ConfigureEvents
    | MapEventSource
    | ProvisionConcurrency
    | GiveUrl
    | ChangeUrl
    | RemoveUrl
)


class Furnishing(Value, frozen=True, kw_only=True):
    """Steps for the alias once it is there; `notes` say what its model has and it will not."""

    steps: tuple[Furnish, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Furnishing) -> Furnishing:
        return Furnishing(steps=self.steps + other.steps, notes=self.notes + other.notes)


NOTHING = Furnishing()


def like(alias: AliasName, model: AliasName, has: Belongings, present: Belongings, copy: Collection[str]) -> Furnishing:
    """What `alias` lacks of what its model has, of the kinds in `copy` ("policy", "event-invoke", …)."""
    reason = f"as {model} has"
    steps: list[Furnish] = []
    notes: list[str] = []
    if "policy" in copy:
        there = {each.id for each in present.permissions}
        for each in has.permissions:
            if why := _not_carried_over(each):
                notes.append(f"permission {each.id} of {model} is not carried over: {why}")
            elif each.id not in there:
                steps.append(GrantPermission(alias=alias, parameters=each.parameters, reason=reason))
    if "event-invoke" in copy and has.events and has.events != present.events:
        steps.append(ConfigureEvents(alias=alias, settings=has.events, reason=reason))
    if "event-sources" in copy:
        fed = {each.source for each in present.sources}
        for source in has.sources:
            if not re.match(r"arn:[^:]+:(sqs|kinesis|dynamodb):", source.source):
                what = source.source or source.uuid
                notes.append(f"event source {what} of {model} is not carried over: only queues and streams are")
            elif source.source not in fed:
                # From now on: what a stream held before is none of a new alias's business.
                start = {"StartingPosition": "LATEST"} if "StartingPosition" in source.settings else {}
                steps.append(MapEventSource(alias=alias, settings={**source.settings, **start}, reason=reason))
    if "provisioned-concurrency" in copy and has.provisioned and not present.provisioned:
        steps.append(ProvisionConcurrency(alias=alias, number=has.provisioned, reason=reason))
    return Furnishing(steps=tuple(steps), notes=tuple(notes))


def _not_carried_over(permission: Permission) -> str:
    given = permission.parameters
    if permission.beyond:
        return permission.beyond
    if "FunctionUrlAuthType" in given or "InvokedViaFunctionUrl" in given:
        return "it is for its function URL"
    # arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH
    stage = re.match(r"arn:[^:]+:execute-api:[^:]*:[^:]*:[^/]+/([^/]+)", given.get("SourceArn", ""))
    if stage and stage[1] not in ("*", "$default"):
        return f"it is for the stage {stage[1]} of an API"
    return ""


URL_STATEMENTS = ("pointsman-preview-url", "pointsman-preview-invoke")


def public(alias: AliasName) -> tuple[GrantPermission, ...]:
    """What lets everybody in. Of accounts without URLs from before October 2025 AWS asks for both statements.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
    """
    both: tuple[dict[str, Any], ...] = (
        {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
        {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
    )
    return tuple(
        GrantPermission(
            alias=alias, parameters={"StatementId": name, "Principal": "*", **each}, reason='preview_auth = "NONE"'
        )
        for name, each in zip(URL_STATEMENTS, both, strict=True)
    )


def preview(alias: AliasName, auth: str, present: Url | None) -> Furnishing:
    """The steps to a function URL with this `auth` ("" for none). Whoever may call it may do so before it is there:

    so a URL that exists is whole, whatever interrupted its making.
    """
    steps: tuple[Furnish, ...] = ()
    revoked = tuple(RevokePermission(alias=alias, statement=each, reason="its URL") for each in URL_STATEMENTS)
    if auth and present is None:
        steps = (GiveUrl(alias=alias, auth=auth, reason="preview = true"),)
    elif auth and present and present.auth != auth:
        steps = (ChangeUrl(alias=alias, auth=auth, reason=f"it was {present.auth}"),)
    elif not auth and present:
        steps = (RemoveUrl(alias=alias, reason="preview = false"),)
    if steps and auth == "NONE":
        steps = (*public(alias), *steps)
    elif steps and present and present.auth == "NONE":
        steps = (*steps, *revoked)
    return Furnishing(steps=steps)


def describe(step: Furnish) -> str:
    match step:
        case GrantPermission(parameters=given):
            source = f" for {given['SourceArn']}" if "SourceArn" in given else ""
            who = "everybody" if given["Principal"] == "*" else given["Principal"]
            return f"permit {who} {given['Action']} on {step.alias}{source} ({step.reason})"
        case RevokePermission():
            return f"withdraw permission {step.statement} on {step.alias} ({step.reason})"
        case ConfigureEvents():
            return f"configure asynchronous calls of {step.alias}: {', '.join(step.settings)} ({step.reason})"
        case MapEventSource():
            return f"map {step.settings['EventSourceArn']} to {step.alias}, disabled ({step.reason})"
        case ProvisionConcurrency():
            return f"keep {step.number} environments ready for {step.alias} ({step.reason})"
        case GiveUrl():
            return f"give {step.alias} a function URL, {_callers(step.auth)} ({step.reason})"
        case ChangeUrl():
            return f"change the function URL of {step.alias}: {_callers(step.auth)} ({step.reason})"
        case RemoveUrl():
            return f"remove the function URL of {step.alias} ({step.reason})"


def _callers(auth: str) -> str:
    return "for everybody who knows it" if auth == "NONE" else "for signed requests"


__all__ = [
    "NOTHING",
    "URL_STATEMENTS",
    "ChangeUrl",
    "ConfigureEvents",
    "Furnish",
    "Furnishing",
    "GiveUrl",
    "GrantPermission",
    "MapEventSource",
    "ProvisionConcurrency",
    "RemoveUrl",
    "RevokePermission",
    "describe",
    "like",
    "preview",
    "public",
]
