"""AWS::CloudFormation::Stack: a stack within a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pointsman.localaws.cloudformation.records import Refused, Stack, Wanted, new_stack
from pointsman.localaws.cloudformation.resources import Made, Place, ResourceFailed
from pointsman.localaws.cloudformation.sources import template_at
from pointsman.localaws.cloudformation.template import Json, TemplateError, parse

if TYPE_CHECKING:
    from pointsman.localaws.cloudformation.stacks import Stacks

STACK: Final = "AWS::CloudFormation::Stack"


class NestedStack:
    name_property: str | None = None
    takes_tags = True
    replacing: frozenset[str] = frozenset()

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        # A failure is left as it is, until it is known what went wrong; then what there is goes.
        parent = self._stacks.get(place.account, place.region, place.stack_id)
        stack = new_stack(
            place.account,
            place.region,
            place.name(logical_id, 128),
            on_failure="DO_NOTHING",
            parent=place.stack_id,
            timeout_minutes=properties.get("TimeoutInMinutes"),
        )
        try:
            self._stacks.create(stack, self._wanted(parent, properties), wait_s=None)
        except Refused as error:
            raise ResourceFailed(str(error)) from error
        if stack.status != "CREATE_COMPLETE":
            reason = stack.reason
            if parent.on_failure != "DO_NOTHING":
                self._stacks.delete(stack, wait_s=None)
            raise ResourceFailed(f"Embedded stack {stack.id} was not successfully created: {reason}")
        return Made(stack.id, stack.name)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:  # noqa: ARG002
        stack = self._stack(made)
        parent = self._stacks.get(place.account, place.region, place.stack_id)
        try:
            self._stacks.update(stack, self._wanted(parent, after), wait_s=None)
        except Refused as error:
            if "No updates are to be performed" in str(error):
                return made
            raise ResourceFailed(str(error)) from error
        if stack.status != "UPDATE_COMPLETE":
            raise ResourceFailed(
                f"Embedded stack {stack.id} was not successfully updated. "
                f"Currently in {stack.status} with reason: {stack.reason}"
            )
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:  # noqa: ARG002
        stack = self._stack(made)
        try:
            self._stacks.delete(stack, wait_s=None)
        except Refused as error:
            raise ResourceFailed(str(error)) from error
        if stack.status != "DELETE_COMPLETE":
            raise ResourceFailed(f"Embedded stack {stack.id} was not successfully deleted: {stack.reason}")

    def attribute(self, made: Made, name: str) -> Any:
        stack = self._stack(made)
        for output in stack.outputs:
            if name == f"Outputs.{output.key}":
                return output.value
        raise TemplateError(f"Resource type {STACK} does not support attribute {{{name}}}")

    def _stack(self, made: Made) -> Stack:
        region, account = made.physical_id.split(":")[3:5]
        return self._stacks.get(account, region, made.physical_id)

    def _wanted(self, parent: Stack, properties: Json) -> Wanted:
        try:
            template = parse(template_at(properties["TemplateURL"], parent.account, parent.region))
        except TemplateError as error:
            raise ResourceFailed(str(error)) from error
        given = {
            key: ",".join(map(str, value)) if isinstance(value, list) else str(value)
            for key, value in properties.get("Parameters", {}).items()
        }
        tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        assert parent.asked is not None, "a resource is made by an operation"
        return Wanted(
            template,
            given,
            tags,
            properties.get("NotificationARNs", ()),
            parent.asked.acknowledged,
            parent.asked.role,
            acknowledged=parent.asked.acknowledged,
        )
