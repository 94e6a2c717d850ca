"""`provision = { with = "cloudformation" }`: the stack is created and updated by change sets, shown first."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal

from pointsman.aws.gateway import Gateway
from pointsman.aws.stacks import Change, Stack
from pointsman.aws.transports import Clock
from pointsman.config import CloudFormation
from pointsman.errors import (
    Ambiguous,
    Conflict,
    FunctionFailed,
    GateRefused,
    LostRace,
    NotFound,
    NotYet,
    TimedOut,
    UsageError,
)
from pointsman.model import FunctionName, Value

# Stacks that hold nothing: reviewed and never made, deleted, or rolled back while being created.
_NEVER_WAS = ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE", "ROLLBACK_COMPLETE")
_MOST_TEMPLATE = 51_200  # https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateChangeSet.html
_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")


class Looked(Value, frozen=True, kw_only=True):
    status: Literal["absent", "same", "differs"]
    stack: Stack | None
    name: FunctionName | None


def look(gateway: Gateway, wanted: CloudFormation, template: str | None, *, settle: Callable[[Stack], Stack]) -> Looked:
    """Reads only. `settle` waits for a stack that something is at work on."""
    stack = gateway.stack(wanted.stack)
    if stack is not None and stack.status.endswith("_IN_PROGRESS") and stack.status != "REVIEW_IN_PROGRESS":
        stack = settle(stack)
    if stack is None or stack.status in _NEVER_WAS:
        if template is None:
            raise NotFound(
                f"there is no stack {wanted.stack}",
                next="`pointsman deploy` creates it."
                if wanted.template
                else "Name its `template` in pointsman.toml to have it created.",
            )
        return Looked(status="absent", stack=None, name=None)
    if stack.status in ("ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
        raise FunctionFailed(
            f"stack {stack.name} is {stack.status}: {stack.reason or 'its creation failed'}",
            next="It can only be deleted, then deploy again: "
            f"`aws cloudformation delete-stack --stack-name {stack.name}`.",
        )
    # A parameter with NoEcho reads "****": whether it is the same cannot be seen, and is taken for granted.
    given = {k for k, v in wanted.parameters.items() if stack.parameters.get(k) not in (v, "****")}
    same = template is None or (not given and _equal(gateway.stack_template(stack.name), template))
    try:
        name = function_name(gateway, stack, wanted.function)
    except UsageError:
        if same:
            raise
        name = None  # the stack as it is has no such function; the template that is to come may
    return Looked(status="same" if same else "differs", stack=stack, name=name)


def function_name(gateway: Gateway, stack: Stack, function: str) -> FunctionName:
    """The function by FunctionName, logical id or output, in this order. Raises UsageError naming what there is."""
    functions = [each for each in gateway.stack_resources(stack.name) if each.type == "AWS::Lambda::Function"]
    for each in functions:
        if function in (each.physical_id, each.logical_id):
            return FunctionName(each.physical_id)
    if function in stack.outputs:
        value = stack.outputs[function]  # a name, or an ARN with or without a qualifier
        try:
            return FunctionName(value.split(":function:", 1)[1].split(":", 1)[0] if ":function:" in value else value)
        except ValueError as error:
            raise UsageError(
                f"output {function} of stack {stack.name} is neither a function's name nor its ARN: {value}",
                next="Name an output that is, or the function's logical id.",
            ) from error
    there = [f"{each.logical_id} ({each.physical_id})" for each in functions]
    raise UsageError(
        f"stack {stack.name} has no function, logical id or output called {function}",
        next=f"Functions: {', '.join(there) or 'none'}. Outputs: {', '.join(stack.outputs) or 'none'}.",
    )


def apply(
    gateway: Gateway,
    wanted: CloudFormation,
    template: str,
    *,
    name: str,
    create: bool,
    allow_replace: bool,
    clock: Clock,
    say: Callable[[str], None],
    wait_s: float,
) -> FunctionName:
    """Makes the change set called `name`, shows it, executes it, waits. Returns the function's name.

    Raises FunctionFailed with CloudFormation's own reasons when the stack rolls back, GateRefused when the change set
    would remove or replace the function (its versions and aliases would be lost).
    """
    if len(template.encode()) > _MOST_TEMPLATE:
        raise NotYet(
            f"the template has {len(template.encode()):,} bytes; a request takes {_MOST_TEMPLATE:,}, more needs S3",
            next="Update the stack yourself, and leave `template` out.",
        )
    if not re.search(rf"\b{re.escape(wanted.function)}\b(?!::)", template):
        raise UsageError(
            f"the template does not mention {wanted.function}",
            where=f"stack {wanted.stack}",
            next="`function` must be a FunctionName, logical id or output of it. Nothing was changed.",
        )
    present = gateway.stack(wanted.stack)
    if create and present and present.status == "ROLLBACK_COMPLETE":
        say(f"stack {wanted.stack} rolled back when it was to be created: deleting what is left of it")
        gateway.delete_stack(wanted.stack)
        _poll(clock, lambda: gateway.stack(wanted.stack), _gone, f"the deletion of stack {wanted.stack}", wait_s)
    if create:
        present = None
    parameters: dict[str, str | None] = dict.fromkeys(present.parameters) if present else {}
    parameters |= wanted.parameters
    names = set(_parameters(template)) if present else set()
    try:
        gateway.create_change_set(
            wanted.stack,
            name,
            template,
            create=create,
            parameters={k: v for k, v in parameters.items() if v is not None or k in names},
            capabilities=wanted.capabilities,
            tags=wanted.tags,
        )
    except (Ambiguous, Conflict):
        if gateway.change_set(wanted.stack, name) is None:
            raise
    made = _poll(
        clock,
        lambda: gateway.change_set(wanted.stack, name),
        lambda found: found is not None and found.status not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"),
        f"the change set of stack {wanted.stack}",
        wait_s,
    )
    assert made is not None
    if made.status == "FAILED":
        if not any(text in made.reason for text in _NO_CHANGE):
            raise FunctionFailed(f"the change set failed: {made.reason}", where=f"stack {wanted.stack}")
        gateway.delete_change_set(wanted.stack, name)
        say(f"stack {wanted.stack}: nothing to change")
    else:
        for change in made.changes:
            say(f"stack {wanted.stack}: {_line(change)}")
        _keep_the_function(gateway, wanted.stack, name, made.changes, allow_replace)
        if made.execution != "AVAILABLE":
            raise LostRace(
                f"the change set is {made.execution}: something else changed the stack meanwhile",
                where=f"stack {wanted.stack}",
                next="Nothing of it was carried out. Deploy again.",
            )
        try:
            gateway.execute_change_set(wanted.stack, name)
        except Ambiguous:
            again = gateway.change_set(wanted.stack, name)
            # AWS forgets a change set once it is carried out; one that is still available was not begun.
            if again is not None and again.execution == "AVAILABLE":
                gateway.execute_change_set(wanted.stack, name)
    stack = settled(gateway, wanted.stack, clock, wait_s, after=made.id if made.status != "FAILED" else "")
    if made.status != "FAILED" and "ROLLBACK" in stack.status:
        raise _failed(gateway, stack)
    say(f"stack {wanted.stack} is {stack.status}")
    return function_name(gateway, stack, wanted.function)


def settled(gateway: Gateway, name: str, clock: Clock, wait_s: float, *, after: str = "") -> Stack:
    """The stack once nothing works on it any more. Raises FunctionFailed when it ended badly.

    `after` is the change set just executed: until the stack names it, what it says is what was before.
    """
    stack: Stack | None = _poll(
        clock,
        lambda: gateway.stack(name),
        lambda found: (
            found is None
            or (not found.status.endswith("_IN_PROGRESS") and (not found.change_set or after in found.change_set))
        ),
        f"stack {name}",
        wait_s,
    )
    if stack is None:
        raise NotFound(f"stack {name} is gone")
    if stack.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"):
        raise _failed(gateway, stack)
    return stack


def _failed(gateway: Gateway, stack: Stack) -> FunctionFailed:
    reasons = "\n".join(f"  {line}" for line in gateway.stack_failures(stack.name))
    return FunctionFailed(
        f"stack {stack.name} ended {stack.status}" + (f":\n{reasons}" if reasons else f": {stack.reason}"),
        next="Mend the template and deploy again; no alias was moved.",
    )


def _keep_the_function(
    gateway: Gateway, stack: str, name: str, changes: tuple[Change, ...], allow_replace: bool
) -> None:
    losing = [
        change
        for change in changes
        if change.type == "AWS::Lambda::Function"
        and (change.action == "Remove" or change.replacement in ("True", "Conditional"))
    ]
    if losing and not allow_replace:
        gateway.delete_change_set(stack, name)
        raise GateRefused(
            "this template would " + " and ".join(_line(change) for change in losing),
            where=f"stack {stack}",
            next="Every version and alias of it would be lost. `--allow-replace` does it all the same.",
        )


def _line(change: Change) -> str:
    replaced = {"True": ", replacing it", "Conditional": ", perhaps replacing it"}.get(change.replacement, "")
    scope = f" ({', '.join(change.scope)})" if change.scope else ""
    return f"{change.action.lower()} {change.type} {change.logical_id}{replaced}{scope}"


def _poll(clock: Clock, ask: Callable[[], Any], done: Callable[[Any], bool], what: str, wait_s: float) -> Any:
    began, delay = clock.now(), 0.2
    while not done(found := ask()):
        if clock.now() - began > wait_s:
            raise TimedOut(f"waited {wait_s:g} s for {what}", next="`pointsman resume` goes on when it is done.")
        clock.sleep(delay)
        delay = min(delay * 1.5, 5.0)
    return found


def _gone(stack: Stack | None) -> bool:
    if stack is not None and stack.status == "DELETE_FAILED":
        raise FunctionFailed(f"stack {stack.name} could not be deleted: {stack.reason}", next="Delete it by hand.")
    return stack is None or stack.status == "DELETE_COMPLETE"


def _equal(deployed: Any, template: str) -> bool:
    """Whether a deployed template says the same. JSON is compared as values, anything else as text."""
    ours = _json(template)
    theirs = deployed if not isinstance(deployed, str) else _json(deployed)
    if ours is not None and theirs is not None:
        return bool(ours == json.loads(json.dumps(theirs)))
    return isinstance(deployed, str) and deployed.strip() == template.strip()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _parameters(template: str) -> tuple[str, ...]:
    """The names of a template's parameters."""
    parsed = _json(template)
    if parsed is None:
        import yaml

        class Loader(yaml.SafeLoader):
            """Takes CloudFormation's tags (!Ref, !Sub …) as what they hold: only the parameters' names are wanted."""

        Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)
        try:
            parsed = yaml.load(template, Loader=Loader)
        except yaml.YAMLError as error:
            raise UsageError(f"the template is neither JSON nor YAML: {error}") from error
    return tuple((parsed or {}).get("Parameters") or {}) if isinstance(parsed, dict) else ()
