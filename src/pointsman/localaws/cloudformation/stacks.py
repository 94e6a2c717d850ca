"""Stacks and change sets: what is done, in which order, and how it is undone when something fails.

An operation runs in a thread of its own. The call that began it waits a while, so that on a laptop a stack is usually
finished when the call returns (botocore's waiters look only every 30 s); a slow one is seen IN_PROGRESS, as on AWS.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from uuid import uuid4

from pointsman.localaws.cloudformation import sources
from pointsman.localaws.cloudformation.kinds import Kinds
from pointsman.localaws.cloudformation.nested import STACK, NestedStack
from pointsman.localaws.cloudformation.records import (
    Change,
    ChangeSet,
    Output,
    Refused,
    Resource,
    Stack,
    Wanted,
    invalid,
    new_stack,
    now,
)
from pointsman.localaws.cloudformation.resources import Kind, Made, NotBegun, ResourceFailed, changed_properties
from pointsman.localaws.cloudformation.schemas import is_known, schema_of
from pointsman.localaws.cloudformation.template import (
    NO_VALUE,
    Json,
    Scope,
    Template,
    TemplateError,
    order,
    parameters,
    parse,
    references,
)
from pointsman.localaws.cloudformation.transform import TransformFailed, expand

log = logging.getLogger(__name__)

NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
NO_UPDATES = "No updates are to be performed."
UNKNOWN = "{{changeSet:KNOWN_AFTER_APPLY}}"
_WAIT_S = 25.0
_POLICIES = ("DeletionPolicy", "UpdateReplacePolicy")
_UPDATABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED")

Work: TypeAlias = Callable[[], None]


@dataclass
class Undo:
    """How to take an update back, last step first; and what it replaced, to be deleted if it is not."""

    before: Wanted
    outputs: tuple[Output, ...]
    resources: dict[str, Resource]
    steps: list[tuple[str, Work]] = field(default_factory=list)  # (logical id, how)
    replaced: list[Resource] = field(default_factory=list)


class Stacks:
    """Every stack of every account and region. Thread-safe; one operation at a time per stack, as on AWS."""

    def __init__(self, kinds: Kinds, *, saved: Work, wait_s: float = _WAIT_S) -> None:
        self._kinds = kinds
        self._saved = saved
        self._wait_s = wait_s
        self._nested = NestedStack(self)
        self._stacks: dict[tuple[str, str], dict[str, Stack]] = {}  # (account, region) → id → stack
        self._undos: dict[str, Undo] = {}  # of updates that failed and were not, or could not be, taken back
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
            for found in reversed(stack.change_sets.values()):  # an executed one may have the name, too
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

    # --- operations; each waits at most `wait_s` seconds for the end, None: as long as it takes ---

    def create(self, stack: Stack, wanted: Wanted, wait_s: float | None = -1) -> None:
        """Begin to make a new stack."""
        self._acknowledged(wanted, expanding=True)
        try:
            wanted = self._prepared(stack, wanted)
        except TransformFailed as error:
            words = f"{error}. Rollback requested by user."
            self._begin(stack, wanted, "CREATE_IN_PROGRESS")
            self._run(stack, lambda: self._end(stack, ("ROLLBACK_IN_PROGRESS", words), ("ROLLBACK_COMPLETE", None)))
            return
        self._begin(stack, wanted, "CREATE_IN_PROGRESS")
        self._run(stack, lambda: self._create(stack, wanted), wait_s)

    def _begin(self, stack: Stack, wanted: Wanted, status: str) -> None:
        with self._lock:
            if self.find(stack.account, stack.region, stack.name) not in (None, stack):
                raise Refused("AlreadyExistsException", f"Stack [{stack.name}] already exists")
            self._stacks.setdefault((stack.account, stack.region), {})[stack.id] = stack
            stack.asked = wanted
            _outdate(stack)
            stack.become(status, "User Initiated")

    def update(
        self, stack: Stack, wanted: Wanted, *, disable_rollback: bool = False, wait_s: float | None = -1
    ) -> None:
        self._acknowledged(wanted, expanding=True)
        self._updatable(stack, disable_rollback=disable_rollback)
        failed: TransformFailed | None = None
        try:
            wanted = self._prepared(stack, wanted)
        except TransformFailed as error:
            failed = error
        with self._lock:
            self._updatable(stack, disable_rollback=disable_rollback)
            if failed is None and not self._differs(stack, wanted):
                raise invalid(NO_UPDATES)
            stack.updated, stack.executed, stack.asked, stack.cancelled = now(), None, wanted, False
            _outdate(stack)
            stack.become("UPDATE_IN_PROGRESS", "User Initiated")
        if failed is not None:
            self._end(stack, ("UPDATE_ROLLBACK_IN_PROGRESS", str(failed)), ("UPDATE_ROLLBACK_COMPLETE", None))
            return
        self._run(stack, lambda: self._update(stack, wanted, disable_rollback=disable_rollback), wait_s)

    def cancel(self, stack: Stack) -> None:
        with self._lock:
            if stack.status != "UPDATE_IN_PROGRESS":
                raise invalid(f"CancelUpdateStack cannot be called from current stack status {stack.status}")
            stack.cancelled = True

    def continue_rollback(self, stack: Stack, skipped: Sequence[str] = ()) -> None:
        """Take up a roll-back that failed, without the steps that concern the skipped resources."""
        with self._lock:
            if stack.status != "UPDATE_ROLLBACK_FAILED":
                raise invalid(
                    f"Stack:{stack.id} is in {stack.status} state and can not continue rollback on the UpdateStack "
                    "operation."
                )
            undo = self._undo(stack)
            undo.steps = [step for step in undo.steps if step[0] not in skipped]
            stack.become("UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        self._run(stack, lambda: self._take_back(stack, undo))

    def roll_back(self, stack: Stack) -> None:
        """After a failure that was not to be rolled back."""
        with self._lock:
            if stack.status not in ("CREATE_FAILED", "UPDATE_FAILED"):
                raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be rolled back.")
            if stack.status == "CREATE_FAILED":
                stack.become("ROLLBACK_IN_PROGRESS", "User Initiated")
                work = lambda: self._take_down(stack, "ROLLBACK")  # noqa: E731
            else:
                undo = self._undo(stack)
                stack.become("UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
                work = lambda: self._take_back(stack, undo)  # noqa: E731
        self._run(stack, work)

    def _undo(self, stack: Stack) -> Undo:
        undo = self._undos.get(stack.id)
        if undo is None:
            raise invalid("The local AWS was started anew since that failure, and cannot take it back any more.")
        return undo

    def delete(self, stack: Stack, retain: Sequence[str] = (), wait_s: float | None = -1) -> None:
        with self._lock:
            if stack.status == "DELETE_COMPLETE":
                return
            if retain and stack.status != "DELETE_FAILED":
                raise invalid(
                    f"Invalid operation on stack [{stack.id}]. When you delete a stack, specify which "
                    "resources to retain only when the stack is in the DELETE_FAILED state."
                )
            if stack.protected:
                raise invalid(f"Stack [{stack.id}] cannot be deleted while TerminationProtection is enabled")
            if stack.busy:
                raise invalid(f"Stack [{stack.id}] cannot be deleted while in status {stack.status}")
            ours = {output.export for output in stack.outputs if output.export is not None}
            for other in self.within(stack.account, stack.region):
                if other is not stack and (used := ours & other.imports):
                    raise invalid(f"Export {min(used)} cannot be deleted as it is in use by {other.name}")
            stack.become("DELETE_IN_PROGRESS", "User Initiated")
        self._run(stack, lambda: self._delete(stack, frozenset(retain)), wait_s)

    def propose(
        self,
        stack: Stack,
        wanted: Wanted,
        *,
        name: str,
        type_: str,
        description: str | None,
        on_failure: str | None = None,
    ) -> ChangeSet:
        """Make a change set; for type CREATE, `stack` is new or in review."""
        failed: str | None = None
        try:
            wanted = self._prepared(stack, wanted)
        except TransformFailed as error:
            failed = str(error)
        else:
            self._acknowledged(wanted, expanding=False)
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
            if any(each.name == name and not each.executed for each in stack.change_sets.values()):
                raise Refused("AlreadyExistsException", f"ChangeSet {name} cannot be created as it already exists")
            if failed is None and type_ == "UPDATE" and not self._differs(stack, wanted):
                failed = NO_CHANGES
            found = ChangeSet(
                id=f"arn:aws:cloudformation:{stack.region}:{stack.account}:changeSet/{name}/{uuid4()}",
                name=name,
                type=type_,
                wanted=wanted,
                changes=tuple(self._changes(stack, wanted)) if failed is None else (),
                status="CREATE_COMPLETE" if failed is None else "FAILED",
                execution="AVAILABLE" if failed is None else "UNAVAILABLE",
                reason=failed,
                description=description,
                created=now(),
                on_failure=on_failure,
            )
            stack.change_sets[found.id] = found
        self._saved()
        return found

    def execute(self, stack: Stack, chosen: ChangeSet, *, disable_rollback: bool = False) -> None:
        with self._lock:
            if chosen.execution != "AVAILABLE":
                raise Refused(
                    "InvalidChangeSetStatus",
                    f"ChangeSet [{chosen.id}] cannot be executed in its current status of [{chosen.status}]",
                )
            if chosen.type == "UPDATE":
                self._updatable(stack, disable_rollback=disable_rollback)
            # AWS drops the stack's other change sets: they describe a stack that is no more.
            stack.change_sets = {chosen.id: chosen}
            chosen.execution = "EXECUTE_IN_PROGRESS"
            stack.updated, stack.executed, stack.asked, stack.cancelled = now(), chosen.id, chosen.wanted, False
            if chosen.on_failure is not None:
                stack.on_failure = chosen.on_failure
            elif chosen.type == "CREATE" and disable_rollback:
                stack.on_failure = "DO_NOTHING"
            stack.become(f"{chosen.type}_IN_PROGRESS", "User Initiated")

        def execute() -> None:
            if chosen.type == "CREATE":
                self._create(stack, chosen.wanted)
            else:
                self._update(stack, chosen.wanted, disable_rollback=disable_rollback)
            succeeded = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
            chosen.execution = "EXECUTE_COMPLETE" if succeeded else "EXECUTE_FAILED"

        self._run(stack, execute)

    def withdraw(self, stack: Stack, chosen: ChangeSet) -> None:
        with self._lock:
            if chosen.execution == "EXECUTE_IN_PROGRESS":
                raise Refused("InvalidChangeSetStatus", f"ChangeSet [{chosen.id}] is being executed")
            stack.change_sets.pop(chosen.id, None)
        self._saved()

    def _run(self, stack: Stack, work: Work, wait_s: float | None = -1) -> None:
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
        thread.join(self._wait_s if wait_s == -1 else wait_s)

    def _end(self, stack: Stack, *statuses: tuple[str, str | None]) -> None:
        for status, reason in statuses:
            stack.become(status, reason)

    def _updatable(self, stack: Stack, *, disable_rollback: bool = False) -> None:
        if stack.status not in _UPDATABLE and not (disable_rollback and stack.status == "CREATE_FAILED"):
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")

    # --- deciding ---

    def _acknowledged(self, wanted: Wanted, *, expanding: bool) -> None:
        """Whether the caller has said that he knows what the template brings; a change set shows its expansion."""
        template = wanted.template
        needed = list(template.capabilities())
        if expanding and template.transforms and "CAPABILITY_AUTO_EXPAND" not in wanted.acknowledged:
            needed.append("CAPABILITY_AUTO_EXPAND")
        given = set(wanted.acknowledged)
        if "CAPABILITY_NAMED_IAM" in given:
            given.add("CAPABILITY_IAM")
        if not set(needed) <= given:
            raise Refused("InsufficientCapabilitiesException", f"Requires capabilities : [{', '.join(needed)}]")

    def _prepared(self, stack: Stack, wanted: Wanted) -> Wanted:
        """With its transforms run, and after everything that AWS refuses before it begins."""
        try:
            values = self._parameters(stack, wanted)
            template = expand(wanted.template, values, stack.region, sources.managed_policies)
            if template is not wanted.template:
                wanted = wanted.with_template(template)
                self._acknowledged(wanted, expanding=False)
            unknown = {each["Type"] for each in template.resources.values()}
            if unknown := {each for each in unknown if each.startswith("AWS::") and not is_known(each)}:
                raise TemplateError(
                    f"Template format error: Unrecognized resource types: [{', '.join(sorted(unknown))}]"
                )
            order(template)
            scope = self._scope(stack, wanted)
            for name in template.conditions:
                scope.condition(name)
            scope.check()
        except TemplateError as error:
            raise invalid(str(error)) from error
        return wanted

    def _differs(self, stack: Stack, wanted: Wanted) -> bool:
        before = stack.now
        assert before is not None
        if any(True for _ in self._changes(stack, wanted)) or dict(before.tags) != dict(wanted.tags):
            return True
        policies = [
            [(name, body.get(key)) for name, body in each.template.resources.items() for key in _POLICIES]
            for each in (before, wanted)
        ]
        if policies[0] != policies[1]:
            return True
        old, new = before.template.outputs, wanted.template.outputs
        if json.dumps(old, default=str) != json.dumps(new, default=str):
            return True
        values = [self._parameters(stack, each) for each in (before, wanted)]
        return any(values[0].get(name) != values[1].get(name) for name in references(new))

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
        secrets = self._secrets(stack, wanted)
        names = [name for name in order(wanted.template) if scope.exists(name)]
        for name in names:
            body = wanted.template.resources[name]
            old = stack.resources.get(name)
            if old is None:
                unknown.add(name)
                yield Change("Add", name, body["Type"])
                continue
            try:
                after = self._properties(scope, body, wanted.tags)
            except TemplateError as error:
                raise invalid(str(error)) from error
            names_changed = changed_properties(old.properties, after)
            metadata = scope.resolve(body.get("Metadata")) != old.metadata
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
                values=tuple(
                    (path, _masked(was, secrets), _masked(becomes, secrets))
                    for path, was, becomes in _values(old.properties, after)
                ),
            )
        for name, old in stack.resources.items():
            if name not in names:
                policy = "Retain" if old.retained else "Delete"
                yield Change("Remove", name, old.type, old.made.physical_id, policy=policy)

    def _secrets(self, stack: Stack, wanted: Wanted) -> frozenset[str]:
        """The values of NoEcho parameters, before and after, which a change set shows as ****."""
        return frozenset(
            str(value)
            for each in (stack.now, wanted)
            if each is not None
            for name, value in self._parameters(stack, each).items()
            if str(each.template.parameters.get(name, {}).get("NoEcho")).lower() == "true" and str(value)
        )

    def _kind(self, type_: str) -> Kind:
        return self._nested if type_ == STACK else self._kinds.of(type_)

    def _replacing(self, type_: str) -> frozenset[str]:
        try:
            return self._kind(type_).replacing
        except ResourceFailed:
            return frozenset()

    def _attribute(self, stack: Stack, name: str, key: str) -> Any:
        if name not in stack.resources:
            raise TemplateError(f"Template error: instance of Fn::GetAtt references undefined resource {name}")
        resource = stack.resources[name]
        return self._kind(resource.type).attribute(resource.made, key)

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
            self._parameters(stack, wanted),
            pseudo,
            physical_id or there,
            attribute or (lambda name, key: self._attribute(stack, name, key)),
            imported,
            lambda service, reference: sources.dynamic_reference(stack.account, stack.region, service, reference),
        )

    def _parameters(self, stack: Stack, wanted: Wanted) -> Json:
        def look_up(name: str) -> str:
            return sources.ssm_parameter(stack.account, stack.region, name)

        return parameters(wanted.template, wanted.parameters, look_up)

    def importers(self, account: str, region: str, export: str) -> list[Stack]:
        return [stack for stack in self.within(account, region) if export in stack.imports]

    # --- doing ---

    def _create(self, stack: Stack, wanted: Wanted) -> None:
        stack.now = wanted
        failed = self._bring_about(stack, wanted, None)
        if failed is None:
            stack.become("CREATE_COMPLETE")
        elif stack.on_failure == "DO_NOTHING":
            stack.become("CREATE_FAILED", failed)
        else:
            words = "ROLLBACK" if stack.on_failure == "ROLLBACK" else "DELETE"
            stack.become(f"{words}_IN_PROGRESS", f"{failed} {words.capitalize()} requested by user.")
            self._take_down(stack, words)

    def _take_down(self, stack: Stack, words: str) -> None:
        """Delete what a creation has made that failed."""
        for resource in reversed(list(stack.resources.values())):
            self._remove(stack, resource, created_now=True)
        stack.outputs, stack.imports = (), frozenset()
        if stack.resources:
            stack.become(f"{words}_FAILED", _not_deleted(stack))
            return
        if words == "DELETE":
            stack.deleted = now()
        stack.become(f"{words}_COMPLETE")

    def _update(self, stack: Stack, wanted: Wanted, *, disable_rollback: bool) -> None:
        assert stack.now is not None
        undo = Undo(stack.now, stack.outputs, dict(stack.resources))
        failed = self._bring_about(stack, wanted, undo)
        if failed is None:
            self._undos.pop(stack.id, None)
            stack.now = wanted
            _rearrange(stack, wanted.template)
            stack.become("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
            for resource in undo.replaced:
                self._discard(stack, resource)
            scope = self._scope(stack, wanted)
            names = {name for name in wanted.template.resources if scope.exists(name)}
            for resource in reversed(list(stack.resources.values())):
                if resource.logical_id not in names:
                    self._remove(stack, resource)
            stack.become("UPDATE_COMPLETE")
        elif disable_rollback:
            self._undos[stack.id] = undo
            stack.become("UPDATE_FAILED", failed)
        else:
            stack.become("UPDATE_ROLLBACK_IN_PROGRESS", failed)
            self._take_back(stack, undo)

    def _take_back(self, stack: Stack, undo: Undo) -> None:
        self._undos[stack.id] = undo  # it may have to be continued
        while undo.steps:
            name, step = undo.steps[-1]
            try:
                step()
            except ResourceFailed as error:
                old = undo.resources[name]
                stack.record(name, old.made.physical_id, old.type, "UPDATE_FAILED", str(error))
                reason = f"The following resource(s) failed to update: [{name}]. {error}"
                stack.become("UPDATE_ROLLBACK_FAILED", reason)
                return
            undo.steps.pop()
        self._undos.pop(stack.id, None)
        stack.become("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        for resource in reversed(list(stack.resources.values())):
            if resource.logical_id not in undo.resources:
                self._remove(stack, resource, created_now=True)
        stack.now, stack.outputs = undo.before, undo.outputs
        _rearrange(stack, undo.before.template)
        stack.become("UPDATE_ROLLBACK_COMPLETE")

    def _delete(self, stack: Stack, retain: frozenset[str]) -> None:
        for resource in reversed(list(stack.resources.values())):
            if resource.logical_id in retain:
                resource = replace(resource, policy={"DeletionPolicy": "Retain"})
            self._remove(stack, resource)
        if stack.resources:
            stack.become("DELETE_FAILED", _not_deleted(stack))
            return
        self._undos.pop(stack.id, None)
        stack.outputs, stack.imports = (), frozenset()
        stack.deleted = now()
        stack.become("DELETE_COMPLETE")

    def _bring_about(self, stack: Stack, wanted: Wanted, undo: Undo | None) -> str | None:
        """Create and update, in order, then the outputs. Returns what failed; fills in how to take it back."""
        scope, imports = self._scope(stack, wanted), set[str]()

        def imported(name: str) -> str:
            imports.add(name)
            return found(name)

        found, scope = scope.imported, replace(scope, imported=imported)
        patience_s = 60.0 * (stack.timeout_minutes or 0)
        deadline = time.monotonic() + patience_s if undo is None and patience_s else float("inf")
        for name in order(wanted.template):
            if not scope.exists(name):
                continue
            if stack.cancelled:
                return "User Initiated"
            if time.monotonic() > deadline:
                return f"Stack creation time exceeded the specified timeout of {stack.timeout_minutes} minutes."
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
            return f"{error}."
        stack.imports = frozenset(imports)
        return None

    def _properties(self, scope: Scope, body: Json, tags: Mapping[str, str]) -> Json:
        """Resolved, of the types AWS says, and with the stack's tags where the type takes any."""
        properties: Json = scope.resolve(body.get("Properties") or {})
        schema = schema_of(body["Type"])
        if schema is None:
            return properties
        properties = schema.typed(properties)
        if tags and schema.takes_tags and self._takes_tags(body["Type"]):
            own = properties.get("Tags", [])
            named = {tag["Key"] for tag in own}
            properties["Tags"] = [*own, *({"Key": k, "Value": v} for k, v in tags.items() if k not in named)]
        return properties

    def _takes_tags(self, type_: str) -> bool:
        try:
            return self._kind(type_).takes_tags
        except ResourceFailed:
            return False

    def _make(self, stack: Stack, scope: Scope, name: str, body: Json) -> None:
        kind, type_ = self._kind(body["Type"]), body["Type"]
        properties = self._properties(scope, body, _tags(stack))
        stack.record(name, "", type_, "CREATE_IN_PROGRESS", properties=properties)
        _check(name, type_, properties)
        made = kind.create(stack.place, name, properties)
        stack.record(
            name, made.physical_id, type_, "CREATE_IN_PROGRESS", "Resource creation Initiated", properties=properties
        )
        stack.resources[name] = _resource(scope, name, body, properties, made)
        stack.record(name, made.physical_id, type_, "CREATE_COMPLETE", properties=properties)

    def _change(self, stack: Stack, scope: Scope, old: Resource, body: Json, undo: Undo | None) -> None:
        name, type_ = old.logical_id, old.type
        if body["Type"] != type_:
            raise ResourceFailed("Update of resource type is not permitted. The new template modifies resource type.")
        kind = self._kind(type_)
        after = self._properties(scope, body, _tags(stack))
        changed = changed_properties(old.properties, after)
        if not changed:
            stack.resources[name] = _resource(scope, name, body, after, old.made)
            return
        assert undo is not None, "only an update finds resources that are there"
        _check(name, type_, after)
        if changed & kind.replacing:
            named = kind.name_property
            if named and after.get(named) is not None and after.get(named) == old.properties.get(named):
                raise ResourceFailed(
                    "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                    f"Rename {old.made.physical_id} and update the stack again."
                )
            words = "Requested update requires the creation of a new physical resource; hence creating one."
            stack.record(name, old.made.physical_id, type_, "UPDATE_IN_PROGRESS", words, properties=after)
            made = kind.create(stack.place, name, after)
            new = _resource(scope, name, body, after, made)

            def put_back() -> None:
                self._discard(stack, new)
                stack.resources[name] = old

            undo.steps.append((name, put_back))
            undo.replaced.append(old)
        else:

            def change_back() -> None:
                stack.record(name, old.made.physical_id, type_, "UPDATE_IN_PROGRESS")
                stack.resources[name] = replace(old, made=kind.update(stack.place, old.made, after, old.properties))
                stack.record(name, old.made.physical_id, type_, "UPDATE_COMPLETE")

            stack.record(name, old.made.physical_id, type_, "UPDATE_IN_PROGRESS", properties=after)
            undo.steps.append((name, change_back))  # before it is tried: it may fail half-way
            try:
                made = kind.update(stack.place, old.made, old.properties, after)
            except NotBegun:
                undo.steps.pop()
                raise
            new = _resource(scope, name, body, after, made)
        stack.resources[name] = new
        stack.record(name, made.physical_id, type_, "UPDATE_COMPLETE", properties=after)

    def _remove(self, stack: Stack, resource: Resource, *, created_now: bool = False) -> None:
        """Delete one of the stack's resources, unless it is to be retained; it is the stack's no more."""
        name, physical_id = resource.logical_id, resource.made.physical_id
        if resource.retained and not (created_now and resource.policy["DeletionPolicy"] == "RetainExceptOnCreate"):
            del stack.resources[name]
            stack.record(name, physical_id, resource.type, "DELETE_SKIPPED")
        elif self._discard(stack, resource):
            del stack.resources[name]

    def _discard(self, stack: Stack, resource: Resource) -> bool:
        name, physical_id, type_ = resource.logical_id, resource.made.physical_id, resource.type
        if resource.policy.get("UpdateReplacePolicy") == "Retain" and stack.resources.get(name) is not resource:
            stack.record(name, physical_id, type_, "DELETE_SKIPPED")
            return True
        stack.record(name, physical_id, type_, "DELETE_IN_PROGRESS")
        try:
            self._kind(type_).delete(stack.place, resource.made, resource.properties)
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
            try:
                value = scope.resolve(body["Value"])
                export = scope.resolve(body["Export"]["Name"]) if "Export" in body else None
            except TemplateError as error:
                function = next(iter(body["Value"])) if isinstance(body["Value"], dict) else ""
                raise TemplateError(f"[Error] /Outputs/{key}/Value/{function}: {error}") from error
            if value is NO_VALUE or isinstance(value, list | dict) or value is None:
                raise TemplateError(f"Template format error: Output {key} is malformed: its value is not a string")
            if export in taken and export is not None:
                raise TemplateError(f"Export with name {export} is already exported by another stack")
            description = body.get("Description")
            said = None if description is None else str(scope.resolve(description))
            yield Output(key, str(value).lower() if isinstance(value, bool) else str(value), said, export)


def _values(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """What differs, leaf by leaf; lists are leaves."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _values(before.get(key), after.get(key), (*path, key))
    elif before != after:
        yield path, before, after


def _masked(value: Any, secrets: frozenset[str]) -> Any:
    match value:
        case dict():
            return {key: _masked(each, secrets) for key, each in value.items()}
        case list():
            return [_masked(each, secrets) for each in value]
        case _:
            return "****" if str(value) in secrets else value


def _outdate(stack: Stack) -> None:
    """What was proposed was for a stack that is no more."""
    for each in stack.change_sets.values():
        if each.execution == "AVAILABLE":
            each.execution = "OBSOLETE"


def _tags(stack: Stack) -> Mapping[str, str]:
    assert stack.asked is not None, "a resource is made by an operation"
    return stack.asked.tags


def _check(name: str, type_: str, properties: Json) -> None:
    schema = schema_of(type_)
    if schema is not None and (said := schema.complaints(properties)):
        raise ResourceFailed(f"Properties validation failed for resource {name} with message:\n[{', '.join(said)}]")


def _resource(scope: Scope, name: str, body: Json, properties: Json, made: Made) -> Resource:
    policy: dict[str, str] = {
        key: str(scope.resolve(body[key])) for key in ("DeletionPolicy", "UpdateReplacePolicy") if key in body
    }
    return Resource(name, body["Type"], properties, made, policy, scope.resolve(body.get("Metadata")))


def _rearrange(stack: Stack, template: Template) -> None:
    """Each resource after what it depends on: it is taken away before that. What an update added came last."""
    kept = [name for name in order(template) if name in stack.resources]
    gone = [name for name in stack.resources if name not in kept]
    stack.resources = {name: stack.resources[name] for name in [*kept, *gone]}


def _not_deleted(stack: Stack) -> str:
    return f"The following resource(s) failed to delete: [{', '.join(stack.resources)}]. "


__all__ = ["Refused", "Stack", "Stacks", "Wanted", "invalid", "new_stack", "parse"]
