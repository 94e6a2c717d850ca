"""`provision = { with = "cloudformation" }`: the stack is created and updated by change sets, shown first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pointsman.aws.gateway import Gateway
from pointsman.aws.stacks import Change, ChangeSet, Stack
from pointsman.aws.transports import Clock
from pointsman.errors import (
    Ambiguous,
    Conflict,
    FunctionFailed,
    GateRefused,
    InvalidRequest,
    LostRace,
    NotFound,
    PointsmanError,
    TimedOut,
    UsageError,
)
from pointsman.model import FunctionName, Value
from pointsman.provision import stack_roles

# Stacks that hold nothing: reviewed and never made, deleted, or rolled back while being created.
_NEVER_WAS = ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE", "ROLLBACK_COMPLETE")
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MOST_IN_REQUEST, MOST_IN_S3 = 51_200, 1_048_576
_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")
_LONGEST = 60


class Update(Value, frozen=True, kw_only=True):
    """What a stack is to become. Its template is `text` or at `url`; with neither it keeps the one it has.

    `declared` names the template's parameters, `ours` the logical id of the function where that is known.
    """

    stack: str
    function: str
    text: str | None = None
    url: str | None = None
    create: bool = False
    parameters: dict[str, str]
    declared: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    tags: dict[str, str]
    nested: bool = False
    ours: str | None = None
    code_by_api: bool = True
    allow_replace: bool = False


def present(gateway: Gateway, name: str, *, settle: Callable[[Stack], Stack]) -> Stack | None:
    """The stack, once nothing works on it; None where there is none, or none that holds anything."""
    stack = gateway.stack(name)
    if stack is not None and stack.status.endswith("_IN_PROGRESS") and stack.status != "REVIEW_IN_PROGRESS":
        stack = settle(stack)
    if stack is None or stack.status in _NEVER_WAS:
        return None
    if stack.status in ("ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
        raise FunctionFailed(
            f"stack {stack.name} is {stack.status}: {stack.reason or 'its creation failed'}",
            next="It can only be deleted, then deploy again: "
            f"`aws cloudformation delete-stack --stack-name {stack.name}`.",
        )
    return stack


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
    update: Update,
    *,
    name: str,
    clock: Clock,
    say: Callable[[str], None],
    show: Callable[[str], None],
    wait_s: float,
    live: Callable[[ChangeSet], tuple[str, ...]] = lambda _made: (),
) -> FunctionName:
    """Makes the change set called `name`, shows it, executes it, waits. Returns the function's name.

    Raises FunctionFailed with CloudFormation's own reasons when the stack rolls back, GateRefused when the change set
    would remove or replace the function (its versions and aliases would be lost), or change a role that is live:
    `live` says what of that it would do.
    """
    made = _change_set(gateway, update, name, clock=clock, say=say, wait_s=wait_s)
    if made.status == "FAILED":
        if not any(text in made.reason for text in _NO_CHANGE):
            raise FunctionFailed(f"the change set failed: {made.reason}", where=f"stack {update.stack}")
        gateway.delete_change_set(update.stack, name)
        say(f"stack {update.stack}: nothing to change")
    else:
        for line in _shown(gateway, update, made):
            show(f"stack {update.stack}: {line}")
        _keep_the_function(gateway, update, name, made.changes)
        try:
            roles = live(made)
        except PointsmanError:
            gateway.delete_change_set(update.stack, name)
            raise
        _keep_the_roles(gateway, update, name, roles)
        _execute(gateway, update.stack, name, made)
    stack = settled(gateway, update.stack, clock, wait_s, after=made.id if made.status != "FAILED" else "")
    if made.status != "FAILED" and "ROLLBACK" in stack.status:
        raise _failed(gateway, stack)
    say(f"stack {update.stack} is {stack.status}")
    return function_name(gateway, stack, update.function)


def _change_set(
    gateway: Gateway, update: Update, name: str, *, clock: Clock, say: Callable[[str], None], wait_s: float
) -> ChangeSet:
    """The change set, once CloudFormation has worked it out."""
    there = gateway.stack(update.stack)
    if update.create and there and there.status == "ROLLBACK_COMPLETE":
        say(f"stack {update.stack} rolled back when it was to be created: deleting what is left of it")
        gateway.delete_stack(update.stack)
        _poll(clock, lambda: gateway.stack(update.stack), _gone, f"the deletion of stack {update.stack}", wait_s)
    before = there.parameters if there and not update.create else {}
    kept: dict[str, str | None] = {
        key: None for key in before if key in update.declared or (update.text, update.url) == (None, None)
    }
    try:
        gateway.create_change_set(
            update.stack,
            name,
            template=update.text,
            url=update.url,
            create=update.create,
            nested=update.nested,
            parameters={**kept, **update.parameters},
            capabilities=update.capabilities,
            tags=update.tags,
        )
    except InvalidRequest as error:
        if error.aws_code == "InsufficientCapabilitiesException":
            error.next = "Say so by name: `capabilities` of its `provision` in pointsman.toml."
        elif "must have values" in error.what:
            error.next = "Give them: `parameters` of its `provision` in pointsman.toml."
        raise
    except (Ambiguous, Conflict):
        if gateway.change_set(update.stack, name) is None:
            raise
    made: ChangeSet = _poll(
        clock,
        lambda: gateway.change_set(update.stack, name),
        lambda found: found is not None and found.status not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"),
        f"the change set of stack {update.stack}",
        wait_s,
    )
    return made


def _execute(gateway: Gateway, stack: str, name: str, made: ChangeSet) -> None:
    if made.execution != "AVAILABLE":
        raise LostRace(
            f"the change set is {made.execution}: something else changed the stack meanwhile",
            where=f"stack {stack}",
            next="Nothing of it was carried out. Deploy again.",
        )
    try:
        gateway.execute_change_set(stack, name)
    except Ambiguous:
        again = gateway.change_set(stack, name)
        # AWS forgets a change set once it is carried out; one that is still available was not begun.
        if again is not None and again.execution == "AVAILABLE":
            gateway.execute_change_set(stack, name)


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


def _keep_the_function(gateway: Gateway, update: Update, name: str, changes: tuple[Change, ...]) -> None:
    functions = [change for change in changes if change.type == "AWS::Lambda::Function"]
    losing = [each for each in functions if each.action == "Remove" or each.replacement in ("True", "Conditional")]
    if not losing or update.allow_replace:
        return
    gateway.delete_change_set(update.stack, name)
    added = [each.logical_id for each in functions if each.action == "Add"]
    moved = ""
    if added and any(each.action == "Remove" for each in losing):
        moved = (
            f" If {added[0]} is the same function by another logical id: call it by the old one again; CloudFormation "
            "makes the new one before it removes the old, and moves nothing."
        )
    raise GateRefused(
        "this template would " + " and ".join(_line(change) for change in losing),
        where=f"stack {update.stack}",
        next="Every version and alias of it would be lost. `--allow-replace` does it all the same, and makes the "
        f"alias anew.{moved}",
    )


def _keep_the_roles(gateway: Gateway, update: Update, name: str, changed: tuple[str, ...]) -> None:
    if not changed or update.allow_replace:
        return
    gateway.delete_change_set(update.stack, name)
    raise GateRefused(
        "this change set would\n" + "\n".join(f"  {line}" for line in changed),
        where=f"stack {update.stack}",
        next="Nothing of the stack was changed. `--allow` does it all the same.",
    )


# A change set in words


def _shown(gateway: Gateway, update: Update, made: ChangeSet, depth: int = 0) -> Iterator[str]:
    for change in made.changes:
        indent = "  " * depth
        yield f"{indent}{_line(change)}"
        for detail in dict.fromkeys(_detail(each) for each in change.details):
            yield f"{indent}  {detail}"
        ours = change.logical_id == update.ours or (update.ours is None and update.function == change.physical_id)
        recoded = ours and change.action == "Modify" and any(each.name.startswith("Code") for each in change.details)
        if recoded and update.code_by_api and change.replacement != "True":
            yield f"{indent}  this sets $LATEST to the template's code; the build goes up again afterwards"
        if change.nested and depth < 5:
            inner = gateway.change_set(None, change.nested)
            if inner is not None:
                yield from _shown(gateway, update, inner, depth + 1)


def _line(change: Change) -> str:
    scope = f" ({', '.join(change.scope)})" if change.scope and not change.details else ""
    kept = ", which stays in the account" if change.kept else ""
    return f"{stack_roles.line(change)}{scope}{kept}"


def _detail(detail: Any) -> str:
    """One property; of environment variables the names only, for values may be secrets."""
    values = ""
    if (detail.before or detail.after) and not detail.name.startswith("Environment"):
        values = f": {_short(detail.before)} → {_short(detail.after)}"
    why = f" (by {detail.cause})" if detail.cause else " (known while it is done)" if detail.dynamic else ""
    return f"{detail.name}{values}{why}"


def _short(value: str) -> str:
    text = " ".join(value.split()) or "unset"
    if text == "{{changeSet:KNOWN_AFTER_APPLY}}":
        return "known afterwards"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


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
