"""Stacks and change sets: what is done, in which order, and how it is undone when something fails.

An operation runs in a thread of its own. The call that began it waits a while, so that on a laptop a stack is usually
finished when the call returns (botocore's waiters look only every 30 s); a slow one is seen IN_PROGRESS, as on AWS.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import uuid4

from pointsman.localaws.cloudformation.resources import Kinds, Made, Place, ResourceFailed, changed_properties
from pointsman.localaws.cloudformation.template import (
    NO_VALUE,
    Json,
    Scope,
    Template,
    TemplateError,
    order,
    parameters,
    parse,
)

log = logging.getLogger(__name__)

NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
NO_UPDATES = "No updates are to be performed."
UNKNOWN = "{{changeSet:KNOWN_AFTER_APPLY}}"
_WAIT_S = 25.0
_UPDATABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED")

Work: TypeAlias = Callable[[], None]


class Refused(Exception):
    """An error of the API: AWS's code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def invalid(message: str) -> Refused:
    return Refused("ValidationError", message)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Resource:
    logical_id: str
    type: str
    properties: Json
    made: Made
    policy: Mapping[str, str]  # DeletionPolicy and UpdateReplacePolicy
    metadata: Any = None


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


@dataclass(frozen=True)
class Change:
    action: str  # Add, Modify, Remove
    logical_id: str
    type: str
    physical_id: str | None = None
    replacement: str | None = None  # True, False, Conditional; of Modify only
    properties: tuple[tuple[str, str], ...] = ()  # (name, Never | Conditionally | Always recreates)
    metadata: bool = False


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
    policy: str | None = None
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
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

    def record(self, logical_id: str, physical_id: str, type_: str, status: str, reason: str | None = None) -> None:
        self.events.append(Event(str(uuid4()), logical_id, physical_id, type_, status, reason, _now()))

    def become(self, status: str, reason: str | None = None) -> None:
        """The event first: whoever sees the final status also sees why."""
        self.record(self.name, self.id, "AWS::CloudFormation::Stack", status, reason)
        self.reason = reason
        self.status = status


@dataclass
class Undo:
    """How to take an update back, last step first; and what it replaced, to be deleted if it is not."""

    steps: list[Work] = field(default_factory=list)
    replaced: list[Resource] = field(default_factory=list)


class Stacks:
    """Every stack of every account and region. Thread-safe; one operation at a time per stack, as on AWS."""

    def __init__(self, kinds: Kinds, *, saved: Work, wait_s: float = _WAIT_S) -> None:
        self._kinds = kinds
        self._saved = saved
        self._wait_s = wait_s
        self._stacks: dict[tuple[str, str], dict[str, Stack]] = {}  # (account, region) → id → stack
        self._lock = threading.RLock()

    # --- persistence ---

    def kept(self) -> Any:
        with self._lock:
            return {place: dict(stacks) for place, stacks in self._stacks.items()}

    def restore(self, kept: Any) -> None:
        self._stacks = kept
        for stack in self.all():
            if stack.busy:
                stack.fail("The local AWS was stopped while this was in progress")

    # --- looking ---

    def all(self) -> Iterator[Stack]:
        with self._lock:
            return iter([stack for stacks in self._stacks.values() for stack in stacks.values()])

    def within(self, account: str, region: str) -> list[Stack]:
        with self._lock:
            return list(self._stacks.get((account, region), {}).values())

    def find(self, account: str, region: str, name: str) -> Stack | None:
        """By id, deleted stacks too; or by name, those that are not deleted."""
        for stack in self.within(account, region):
            if name == stack.id or (name == stack.name and stack.status != "DELETE_COMPLETE"):
                return stack
        return None

    def get(self, account: str, region: str, name: str) -> Stack:
        if (stack := self.find(account, region, name)) is None:
            raise invalid(f"Stack with id {name} does not exist")
        return stack

    def change_set(self, account: str, region: str, name: str, stack_name: str | None) -> tuple[Stack, ChangeSet]:
        """By its ARN, or by its name and its stack's."""
        stacks = self.within(account, region)
        if stack_name is not None:
            stacks = [self.get(account, region, stack_name)]
        for stack in stacks:
            for found in stack.change_sets.values():
                if name == found.id or (stack_name is not None and name == found.name):
                    return stack, found
        raise Refused("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", 404)

    def exports(self, account: str, region: str) -> list[tuple[Stack, Output]]:
        return [
            (stack, output)
            for stack in self.within(account, region)
            if stack.status != "DELETE_COMPLETE"
            for output in stack.outputs
            if output.export is not None
        ]

    # --- operations ---

    def create(self, stack: Stack, wanted: Wanted) -> None:
        """Begin to make a new stack."""
        self._check(stack, wanted)
        with self._lock:
            if self.find(stack.account, stack.region, stack.name) is not None:
                raise Refused("AlreadyExistsException", f"Stack [{stack.name}] already exists")
            self._stacks.setdefault((stack.account, stack.region), {})[stack.id] = stack
            stack.become("CREATE_IN_PROGRESS", "User Initiated")
        self._run(stack, lambda: self._create(stack, wanted))

    def update(self, stack: Stack, wanted: Wanted) -> None:
        self._check(stack, wanted)
        with self._lock:
            self._updatable(stack)
            if not self._differs(stack, wanted):
                raise invalid(NO_UPDATES)
            stack.updated = _now()
            stack.become("UPDATE_IN_PROGRESS", "User Initiated")
        self._run(stack, lambda: self._update(stack, wanted))

    def delete(self, stack: Stack, retain: Sequence[str] = ()) -> None:
        with self._lock:
            if stack.status == "DELETE_COMPLETE":
                return
            if stack.protected:
                raise invalid(f"Stack [{stack.id}] cannot be deleted while TerminationProtection is enabled")
            if stack.busy:
                raise invalid(f"Stack [{stack.id}] cannot be deleted while in status {stack.status}")
            ours = {output.export for output in stack.outputs if output.export is not None}
            for other in self.within(stack.account, stack.region):
                if other is not stack and other.now and (used := ours & _imports(other.now.template.resources)):
                    raise invalid(f"Export {min(used)} cannot be deleted as it is in use by {other.name}")
            stack.become("DELETE_IN_PROGRESS", "User Initiated")
        self._run(stack, lambda: self._delete(stack, frozenset(retain)))

    def propose(self, stack: Stack, wanted: Wanted, *, name: str, type_: str, description: str | None) -> ChangeSet:
        """Make a change set; for type CREATE, `stack` is new or in review."""
        self._check(stack, wanted)
        with self._lock:
            if type_ == "CREATE":
                there = self.find(stack.account, stack.region, stack.name)
                if there is not None and there.status != "REVIEW_IN_PROGRESS":
                    raise invalid(
                        f"Stack [{stack.name}] already exists and cannot be created again with the changeSet [{name}]."
                    )
                self._stacks.setdefault((stack.account, stack.region), {})[stack.id] = stack
                if there is None:
                    stack.become("REVIEW_IN_PROGRESS", "User Initiated")
            else:
                self._updatable(stack)
            if any(each.name == name for each in stack.change_sets.values()):
                raise Refused("AlreadyExistsException", f"ChangeSet {name} cannot be created as it already exists")
            differs = type_ == "CREATE" or self._differs(stack, wanted)
            found = ChangeSet(
                id=f"arn:aws:cloudformation:{stack.region}:{stack.account}:changeSet/{name}/{uuid4()}",
                name=name,
                type=type_,
                wanted=wanted,
                changes=tuple(self._changes(stack, wanted)) if differs else (),
                status="CREATE_COMPLETE" if differs else "FAILED",
                execution="AVAILABLE" if differs else "UNAVAILABLE",
                reason=None if differs else NO_CHANGES,
                description=description,
                created=_now(),
            )
            stack.change_sets[found.id] = found
        self._saved()
        return found

    def execute(self, stack: Stack, chosen: ChangeSet) -> None:
        with self._lock:
            if chosen.execution != "AVAILABLE":
                raise Refused(
                    "InvalidChangeSetStatus",
                    f"ChangeSet [{chosen.id}] cannot be executed in its current status of [{chosen.status}]",
                )
            if chosen.type == "UPDATE":
                self._updatable(stack)
            # AWS drops the stack's other change sets: they describe a stack that is no more.
            stack.change_sets = {chosen.id: chosen}
            chosen.execution = "EXECUTE_IN_PROGRESS"
            stack.updated = _now()
            stack.become(f"{chosen.type}_IN_PROGRESS", "User Initiated")
        work = self._create if chosen.type == "CREATE" else self._update

        def execute() -> None:
            work(stack, chosen.wanted)
            succeeded = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
            chosen.execution = "EXECUTE_COMPLETE" if succeeded else "EXECUTE_FAILED"

        self._run(stack, execute)

    def withdraw(self, stack: Stack, chosen: ChangeSet) -> None:
        with self._lock:
            if chosen.execution == "EXECUTE_IN_PROGRESS":
                raise Refused("InvalidChangeSetStatus", f"ChangeSet [{chosen.id}] is being executed")
            stack.change_sets.pop(chosen.id, None)
        self._saved()

    def _run(self, stack: Stack, work: Work) -> None:
        def guarded() -> None:
            try:
                work()
            except Exception as error:
                log.exception("stack %s", stack.name)
                stack.fail(f"Internal Failure: {error}")
            finally:
                self._saved()

        thread = threading.Thread(target=guarded, name=f"stack {stack.name}", daemon=True)
        thread.start()
        thread.join(self._wait_s)

    def _updatable(self, stack: Stack) -> None:
        if stack.status not in _UPDATABLE:
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")

    # --- deciding ---

    def _check(self, stack: Stack, wanted: Wanted) -> None:
        """What AWS refuses before it begins."""
        needed = wanted.template.capabilities()
        given = set(wanted.capabilities) | (
            {"CAPABILITY_IAM"} if "CAPABILITY_NAMED_IAM" in wanted.capabilities else set()
        )
        if not set(needed) <= given:
            raise Refused("InsufficientCapabilitiesException", f"Requires capabilities : [{', '.join(needed)}]")
        try:
            order(wanted.template)
            self._scope(stack, wanted)
            for name in wanted.template.conditions:
                self._scope(stack, wanted).condition(name)
        except TemplateError as error:
            raise invalid(str(error)) from error

    def _differs(self, stack: Stack, wanted: Wanted) -> bool:
        assert stack.now is not None
        if any(True for _ in self._changes(stack, wanted)):
            return True
        same_outputs = json.dumps(stack.now.template.outputs) == json.dumps(wanted.template.outputs)
        return not same_outputs or dict(stack.now.tags) != dict(wanted.tags)

    def _changes(self, stack: Stack, wanted: Wanted) -> Iterator[Change]:
        """In the order they would be made; what only the making can tell is UNKNOWN."""
        unknown: set[str] = set()
        modified: set[str] = set()

        def physical_id(name: str) -> Any:
            return UNKNOWN if name in unknown or name not in stack.resources else stack.resources[name].made.physical_id

        def attribute(name: str, key: str) -> Any:
            if name in unknown or name not in stack.resources:
                return UNKNOWN
            return self._attribute(stack, name, key)

        scope = self._scope(stack, wanted, physical_id, attribute)
        names = [name for name in order(wanted.template) if scope.exists(name)]
        for name in names:
            body = wanted.template.resources[name]
            old = stack.resources.get(name)
            if old is None:
                unknown.add(name)
                yield Change("Add", name, body["Type"])
                continue
            try:
                after = _properties(scope, body)
            except TemplateError as error:
                raise invalid(str(error)) from error
            names_changed = changed_properties(old.properties, after)
            metadata = body.get("Metadata") != old.metadata
            if not names_changed and body["Type"] == old.type and not metadata:
                continue
            modified.add(name)
            replacing = self._replacing(old.type)
            certain = {n for n in names_changed & replacing if UNKNOWN not in json.dumps(after.get(n), default=str)}
            replacement = "True" if certain else "Conditional" if names_changed & replacing else "False"
            if replacement != "False":
                unknown.add(name)
            recreation = {n: "Always" if n in certain else "Conditionally" for n in names_changed & replacing}
            yield Change(
                "Modify",
                name,
                old.type,
                old.made.physical_id,
                replacement,
                tuple((n, recreation.get(n, "Never")) for n in sorted(names_changed)),
                metadata,
            )
        for name, old in stack.resources.items():
            if name not in names:
                yield Change("Remove", name, old.type, old.made.physical_id)

    def _replacing(self, type_: str) -> frozenset[str]:
        try:
            return self._kinds.of(type_).replacing
        except ResourceFailed:
            return frozenset()

    def _attribute(self, stack: Stack, name: str, key: str) -> Any:
        if name not in stack.resources:
            raise TemplateError(f"Template error: instance of Fn::GetAtt references undefined resource {name}")
        resource = stack.resources[name]
        return self._kinds.of(resource.type).attribute(resource.made, key)

    def _scope(
        self,
        stack: Stack,
        wanted: Wanted,
        physical_id: Callable[[str], Any] | None = None,
        attribute: Callable[[str, str], Any] | None = None,
    ) -> Scope:
        def there(name: str) -> Any:
            if name not in stack.resources:
                raise TemplateError(f"Template format error: Unresolved resource dependencies [{name}]")
            return stack.resources[name].made.physical_id

        def imported(name: str) -> str:
            for _stack, output in self.exports(stack.account, stack.region):
                if output.export == name:
                    return output.value
            raise TemplateError(f"No export named {name} found.")

        partition = stack.id.split(":")[1]
        pseudo = {
            "AccountId": stack.account,
            "NotificationARNs": list(wanted.notifications),
            "Partition": partition,
            "Region": stack.region,
            "StackId": stack.id,
            "StackName": stack.name,
            "URLSuffix": "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com",
        }
        return Scope(
            wanted.template,
            parameters(wanted.template, wanted.parameters, lambda name: _ssm_parameter(stack, name)),
            pseudo,
            physical_id or there,
            attribute or (lambda name, key: self._attribute(stack, name, key)),
            imported,
        )

    # --- doing ---

    def _create(self, stack: Stack, wanted: Wanted) -> None:
        stack.now = wanted
        failed = self._bring_about(stack, wanted, Undo())
        if failed is None:
            stack.become("CREATE_COMPLETE")
            return
        if stack.on_failure == "DO_NOTHING":
            stack.become("CREATE_FAILED", failed)
            return
        words = "ROLLBACK" if stack.on_failure == "ROLLBACK" else "DELETE"
        stack.become(f"{words}_IN_PROGRESS", f"{failed} {words.capitalize()} requested by user.")
        gone = not [r for r in reversed(list(stack.resources.values())) if not self._remove(stack, r)]
        stack.outputs = ()
        if words == "DELETE" and gone:
            stack.deleted = _now()
        stack.become(
            f"{words}_COMPLETE" if gone else f"{words}_FAILED", None if gone else "Resources could not be deleted"
        )

    def _update(self, stack: Stack, wanted: Wanted) -> None:
        assert stack.now is not None
        before, outputs = stack.now, stack.outputs
        old = dict(stack.resources)
        undo = Undo()
        failed = self._bring_about(stack, wanted, undo)
        if failed is None:
            stack.now = wanted
            stack.become("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
            for resource in undo.replaced:
                self._discard(stack, resource)
            names = {name for name in wanted.template.resources if self._scope(stack, wanted).exists(name)}
            for resource in reversed(list(stack.resources.values())):
                if resource.logical_id not in names:
                    self._remove(stack, resource)
            stack.become("UPDATE_COMPLETE")
            return
        stack.become("UPDATE_ROLLBACK_IN_PROGRESS", failed)
        try:
            for step in reversed(undo.steps):
                step()
        except ResourceFailed as error:
            stack.become("UPDATE_ROLLBACK_FAILED", str(error))
            return
        stack.become("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        for resource in reversed(list(stack.resources.values())):
            if resource.logical_id not in old:
                self._remove(stack, resource)
        stack.now, stack.outputs = before, outputs
        stack.become("UPDATE_ROLLBACK_COMPLETE")

    def _delete(self, stack: Stack, retain: frozenset[str]) -> None:
        gone = True
        for resource in reversed(list(stack.resources.values())):
            if resource.logical_id in retain:
                resource = replace(resource, policy={"DeletionPolicy": "Retain"})
            gone = self._remove(stack, resource) and gone
        if gone:
            stack.outputs = ()
            stack.deleted = _now()
            stack.become("DELETE_COMPLETE")
        else:
            left = ", ".join(stack.resources)
            stack.become("DELETE_FAILED", f"The following resource(s) failed to delete: [{left}].")

    def _bring_about(self, stack: Stack, wanted: Wanted, undo: Undo) -> str | None:
        """Create and update, in order, then the outputs. Returns what failed; fills in how to take it back."""
        scope = self._scope(stack, wanted)
        for name in order(wanted.template):
            if not scope.exists(name):
                continue
            body = wanted.template.resources[name]
            old = stack.resources.get(name)
            step = "CREATE" if old is None else "UPDATE"
            physical_id = "" if old is None else old.made.physical_id
            try:
                if old is None:
                    self._make(stack, scope, name, body)
                else:
                    self._change(stack, scope, old, body, undo)
            except (ResourceFailed, TemplateError) as error:
                stack.record(name, physical_id, body["Type"], f"{step}_FAILED", str(error))
                return f"The following resource(s) failed to {step.lower()}: [{name}]."
            except Exception as error:
                log.exception("stack %s, resource %s", stack.name, name)
                said = f"The local CloudFormation failed at this resource: {type(error).__name__}: {error}"
                stack.record(name, physical_id, body["Type"], f"{step}_FAILED", said)
                return f"The following resource(s) failed to {step.lower()}: [{name}]."
        try:
            stack.outputs = tuple(self._outputs(stack, scope))
        except TemplateError as error:
            return str(error)
        return None

    def _make(self, stack: Stack, scope: Scope, name: str, body: Json) -> None:
        kind = self._kinds.of(body["Type"])
        stack.record(name, "", body["Type"], "CREATE_IN_PROGRESS")
        properties = _properties(scope, body)
        made = kind.create(stack.place, name, properties)
        stack.resources[name] = _resource(name, body, properties, made)
        stack.record(name, made.physical_id, body["Type"], "CREATE_COMPLETE")

    def _change(self, stack: Stack, scope: Scope, old: Resource, body: Json, undo: Undo) -> None:
        name, type_ = old.logical_id, old.type
        if body["Type"] != type_:
            raise ResourceFailed("Update of resource type is not permitted. The new template modifies resource type.")
        kind = self._kinds.of(type_)
        after = _properties(scope, body)
        changed = changed_properties(old.properties, after)
        if not changed:
            stack.resources[name] = _resource(name, body, after, old.made)
            return
        if changed & kind.replacing:
            named = kind.name_property
            if named and after.get(named) is not None and after.get(named) == old.properties.get(named):
                raise ResourceFailed(
                    "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                    f"Rename {old.made.physical_id} and update the stack again."
                )
            stack.record(
                name, old.made.physical_id, type_, "UPDATE_IN_PROGRESS",
                "Requested update requires the creation of a new physical resource; hence creating one.",
            )  # fmt: skip
            made = kind.create(stack.place, name, after)
            new = _resource(name, body, after, made)

            def put_back() -> None:
                self._discard(stack, new)
                stack.resources[name] = old

            undo.steps.append(put_back)
            undo.replaced.append(old)
        else:

            def change_back() -> None:
                stack.record(name, old.made.physical_id, type_, "UPDATE_IN_PROGRESS")
                stack.resources[name] = replace(old, made=kind.update(stack.place, old.made, after, old.properties))
                stack.record(name, old.made.physical_id, type_, "UPDATE_COMPLETE")

            stack.record(name, old.made.physical_id, type_, "UPDATE_IN_PROGRESS")
            undo.steps.append(change_back)  # before it is tried: it may fail half-way
            made = kind.update(stack.place, old.made, old.properties, after)
            new = _resource(name, body, after, made)
        stack.resources[name] = new
        stack.record(name, made.physical_id, type_, "UPDATE_COMPLETE")

    def _remove(self, stack: Stack, resource: Resource) -> bool:
        """Delete one of the stack's resources, unless it is to be retained; it is the stack's no more."""
        name, physical_id = resource.logical_id, resource.made.physical_id
        if resource.policy.get("DeletionPolicy", "").startswith("Retain"):
            del stack.resources[name]
            stack.record(name, physical_id, resource.type, "DELETE_SKIPPED")
            return True
        if not self._discard(stack, resource):
            return False
        del stack.resources[name]
        return True

    def _discard(self, stack: Stack, resource: Resource) -> bool:
        name, physical_id, type_ = resource.logical_id, resource.made.physical_id, resource.type
        if resource.policy.get("UpdateReplacePolicy") == "Retain" and stack.resources.get(name) is not resource:
            stack.record(name, physical_id, type_, "DELETE_SKIPPED")
            return True
        stack.record(name, physical_id, type_, "DELETE_IN_PROGRESS")
        try:
            self._kinds.of(type_).delete(stack.place, resource.made, resource.properties)
        except ResourceFailed as error:
            stack.record(name, physical_id, type_, "DELETE_FAILED", str(error))
            return False
        except Exception as error:
            log.exception("stack %s, resource %s", stack.name, name)
            stack.record(name, physical_id, type_, "DELETE_FAILED", f"{type(error).__name__}: {error}")
            return False
        stack.record(name, physical_id, type_, "DELETE_COMPLETE")
        return True

    def _outputs(self, stack: Stack, scope: Scope) -> Iterator[Output]:
        taken = {o.export for other, o in self.exports(stack.account, stack.region) if other is not stack}
        for key, body in scope.template.outputs.items():
            if "Condition" in body and not scope.condition(body["Condition"]):
                continue
            value = scope.resolve(body["Value"])
            if value is NO_VALUE or isinstance(value, list | dict) or value is None:
                raise TemplateError(f"Template format error: Output {key} is malformed: its value is not a string.")
            export = scope.resolve(body["Export"]["Name"]) if "Export" in body else None
            if export in taken and export is not None:
                raise TemplateError(f"Export with name {export} is already exported by another stack")
            yield Output(
                key, str(value).lower() if isinstance(value, bool) else str(value), body.get("Description"), export
            )


def _properties(scope: Scope, body: Json) -> Json:
    properties = scope.resolve(body.get("Properties", {}))
    if not isinstance(properties, dict):
        raise TemplateError("Template format error: Properties must be an object")
    return properties


def _resource(name: str, body: Json, properties: Json, made: Made) -> Resource:
    policy: dict[str, str] = {key: str(body[key]) for key in ("DeletionPolicy", "UpdateReplacePolicy") if key in body}
    return Resource(name, body["Type"], properties, made, policy, body.get("Metadata"))


def _imports(node: Any) -> set[str]:
    match node:
        case {"Fn::ImportValue": str(name)}:
            return {name}
        case dict():
            return set().union(*map(_imports, node.values()))
        case list():
            return set().union(*map(_imports, node))
    return set()


def _ssm_parameter(stack: Stack, name: str) -> str:
    from moto.ssm.models import ssm_backends

    found = ssm_backends[stack.account][stack.region].get_parameter(name)
    if found is None:
        raise TemplateError(f"Unable to fetch parameters [{name}] from parameter store for this account.")
    return str(found.value)


def new_stack(account: str, region: str, name: str, **more: Any) -> Stack:
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    identity = f"arn:{partition}:cloudformation:{region}:{account}:stack/{name}/{uuid4()}"
    return Stack(identity, name, account, region, None, more.pop("status", "REVIEW_IN_PROGRESS"), _now(), **more)


__all__ = ["ChangeSet", "Refused", "Stack", "Stacks", "Wanted", "invalid", "new_stack", "parse"]
