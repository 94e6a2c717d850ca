"""What is remembered of stacks: their resources, events, outputs and change sets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pointsman.localaws.cloudformation.resources import Made, Place
from pointsman.localaws.cloudformation.template import Json, Template


class Refused(Exception):
    """An error of the API: AWS's code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def invalid(message: str) -> Refused:
    return Refused("ValidationError", message)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Resource:
    logical_id: str
    type: str
    properties: Json
    made: Made
    policy: Mapping[str, str]  # DeletionPolicy and UpdateReplacePolicy
    metadata: Any = None

    @property
    def retained(self) -> bool:
        return self.policy.get("DeletionPolicy", "").startswith("Retain")


@dataclass(frozen=True)
class Event:
    id: str
    logical_id: str
    physical_id: str
    type: str
    status: str
    reason: str | None
    timestamp: datetime
    properties: str | None = None
    token: str | None = None


@dataclass(frozen=True)
class Output:
    key: str
    value: str
    description: str | None
    export: str | None


@dataclass(frozen=True)
class Wanted:
    """What a caller asks a stack to become."""

    template: Template
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    notifications: Sequence[str] = ()
    capabilities: Sequence[str] = ()
    role: str | None = None
    token: str | None = None  # ClientRequestToken, shown in the events
    acknowledged: Sequence[str] = ()  # the capabilities of this very request

    def with_template(self, template: Template) -> Wanted:
        return replace(self, template=template)


@dataclass(frozen=True)
class Change:
    action: str  # Add, Modify, Remove
    logical_id: str
    type: str
    physical_id: str | None = None
    replacement: str | None = None  # True, False, Conditional; of Modify only
    properties: tuple[tuple[str, str], ...] = ()  # (name, Never | Conditionally | Always recreates)
    metadata: bool = False
    policy: str | None = None  # of Remove: Delete, Retain
    values: tuple[tuple[tuple[str, ...], Any, Any], ...] = ()  # (path in the properties, before, after); None: absent


@dataclass
class ChangeSet:
    id: str
    name: str
    type: str
    wanted: Wanted
    changes: tuple[Change, ...]
    status: str
    execution: str
    reason: str | None
    description: str | None
    created: datetime
    on_failure: str | None = None

    @property
    def executed(self) -> bool:
        return self.execution.startswith("EXECUTE_")


@dataclass
class Stack:
    id: str
    name: str
    account: str
    region: str
    now: Wanted | None
    status: str
    created: datetime
    reason: str | None = None
    updated: datetime | None = None
    deleted: datetime | None = None
    protected: bool = False
    on_failure: str = "ROLLBACK"
    timeout_minutes: int | None = None
    parent: str | None = None  # the stack this one is nested in
    executed: str | None = None  # the change set that made it what it is
    asked: Wanted | None = None  # what the operation under way, or the last one, is to bring about
    cancelled: bool = False
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    imports: frozenset[str] = frozenset()  # the exports of others that it uses
    events: list[Event] = field(default_factory=list)
    change_sets: dict[str, ChangeSet] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        return Place(self.account, self.region, self.id, self.name)

    @property
    def busy(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    def fail(self, reason: str) -> None:
        """What is in progress has failed."""
        self.become(f"{self.status.removesuffix('_IN_PROGRESS').removesuffix('_COMPLETE_CLEANUP')}_FAILED", reason)

    def record(
        self,
        logical_id: str,
        physical_id: str,
        type_: str,
        status: str,
        reason: str | None = None,
        *,
        properties: Json | None = None,
    ) -> None:
        said = None if properties is None else json.dumps(properties, default=str)
        token = self.asked.token if self.asked is not None else None
        # A resource's events are numbered by its name and the time, a stack's at random (recorded).
        when = now()
        millis = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        name = str(uuid4()) if physical_id == self.id else f"{logical_id}-{status}-{millis}"
        event = Event(name, logical_id, physical_id, type_, status, reason, when, said, token)
        self.events.append(event)

    def become(self, status: str, reason: str | None = None) -> None:
        """The event first: whoever sees the final status also sees why."""
        self.record(self.name, self.id, "AWS::CloudFormation::Stack", status, reason)
        self.reason = reason
        self.status = status


def new_stack(account: str, region: str, name: str, **more: Any) -> Stack:
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    identity = f"arn:{partition}:cloudformation:{region}:{account}:stack/{name}/{uuid4()}"
    return Stack(identity, name, account, region, None, more.pop("status", "REVIEW_IN_PROGRESS"), now(), **more)
