"""What a resource type is to a stack: something that is created, updated and deleted."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pointsman.localaws.cloudformation.template import Json


class ResourceFailed(Exception):
    """A resource cannot be created, updated or deleted; the message becomes the event's reason."""


class NotBegun(ResourceFailed):
    """What was asked for cannot be done, and nothing of it was begun: there is nothing to take back."""


@dataclass(frozen=True, slots=True)
class Place:
    account: str
    region: str
    stack_id: str
    stack_name: str

    @property
    def partition(self) -> str:
        return self.stack_id.split(":")[1]

    def name(self, logical_id: str, most: int = 64) -> str:
        """A name as CloudFormation makes one: stack-LogicalId-RANDOM, the stack's part cut to fit."""
        tail = f"-{logical_id}-{''.join(random.choices(string.ascii_uppercase + string.digits, k=12))}"
        return (self.stack_name[: max(1, most - len(tail))] + tail)[-most:]


@dataclass(frozen=True, slots=True)
class Made:
    """A resource that exists."""

    physical_id: str
    name: str  # what it was created as; for some of moto's models that is not the physical id
    attributes: Mapping[str, Any] = field(default_factory=dict)
    live: Any = None  # moto's object, which is also in moto's backend


class Kind(Protocol):
    """One resource type. `create` and `update` return when the resource is ready; both raise ResourceFailed."""

    takes_tags: bool  # the stack's tags, where AWS's schema says that the type has any

    @property
    def name_property(self) -> str | None: ...
    @property
    def replacing(self) -> frozenset[str]:
        """Properties that cannot change: the resource is made anew."""
        ...

    def create(self, place: Place, logical_id: str, properties: Json) -> Made: ...
    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made: ...
    def delete(self, place: Place, made: Made, properties: Json) -> None: ...
    def attribute(self, made: Made, name: str) -> Any: ...


def changed_properties(before: Json, after: Json) -> frozenset[str]:
    return frozenset(
        name for name in before.keys() | after.keys() if before.get(name, _ABSENT) != after.get(name, _ABSENT)
    )


_ABSENT = object()
