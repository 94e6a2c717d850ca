"""CloudFormation's calls: stacks, their resources, change sets. Absent is `None`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pointsman.aws.sending import Reply, Sender, nothing
from pointsman.model import Value


class Stack(Value, frozen=True, kw_only=True):
    """A CloudFormation stack. `status` is AWS's, e.g. UPDATE_COMPLETE; `id` is its ARN."""

    name: str
    id: str
    status: str
    reason: str
    outputs: dict[str, str]
    parameters: dict[str, str]
    change_set: str = ""  # the ARN of the one last executed


class Resource(Value, frozen=True, kw_only=True):
    logical_id: str
    physical_id: str
    type: str


class Detail(Value, frozen=True, kw_only=True):
    """One property that changes. `before` and `after` where AWS gives them; `dynamic`: known only while it is done."""

    name: str
    before: str = ""
    after: str = ""
    dynamic: bool = False
    cause: str = ""


class Change(Value, frozen=True, kw_only=True):
    """One line of a change set: Add, Modify, Remove …; `replacement` is True, False or Conditional.

    `kept`: what is removed from the stack stays in the account. `nested` is the change set of a nested stack.
    """

    action: str
    logical_id: str
    type: str
    physical_id: str = ""
    replacement: str = ""
    scope: tuple[str, ...] = ()
    details: tuple[Detail, ...] = ()
    kept: bool = False
    nested: str = ""


class ChangeSet(Value, frozen=True, kw_only=True):
    id: str
    status: str
    reason: str
    execution: str
    changes: tuple[Change, ...]
    more: str = ""  # the next page's token


class Stacks(Sender):
    def stack(self, name: str) -> Stack | None:
        return self._or_none(
            "DescribeStacks",
            lambda reply: _stack(reply["Stacks"][0]),
            service="cloudformation",
            subject=name,
            StackName=name,
        )

    def stack_template(self, name: str, stage: Literal["Original", "Processed"] = "Original") -> Any:
        """The template as last executed: text, or what botocore made of JSON. `Processed`: after its transforms."""
        return self._send(
            "GetTemplate",
            lambda reply: reply["TemplateBody"],
            service="cloudformation",
            subject=name,
            StackName=name,
            TemplateStage=stage,
        )

    def stack_resources(self, name: str) -> tuple[Resource, ...]:
        found: list[Resource] = []
        marker: str | None = None
        while True:
            page, marker = self._send(
                "ListStackResources",
                lambda reply: ([_resource(each) for each in reply["StackResourceSummaries"]], reply.get("NextToken")),
                service="cloudformation",
                subject=name,
                StackName=name,
                NextToken=marker,
            )
            found += page
            if not marker:
                return tuple(found)

    def stack_failures(self, name: str) -> tuple[str, ...]:
        """Why the newest operation on the stack failed: "LogicalId (Type): reason", the root cause first."""

        def read(reply: Reply) -> tuple[str, ...]:
            failed: list[str] = []
            for event in reply["StackEvents"]:
                status = event["ResourceStatus"]
                if event["LogicalResourceId"] == name and status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"):
                    break
                reason = event.get("ResourceStatusReason", "")
                if status.endswith("_FAILED") and "cancelled" not in reason:
                    failed.append(f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}")
            return tuple(reversed(failed))

        return self._send("DescribeStackEvents", read, service="cloudformation", subject=name, StackName=name)

    def create_change_set(
        self,
        stack: str,
        name: str,
        *,
        template: str | None,
        url: str | None,
        create: bool,
        nested: bool,
        parameters: Mapping[str, str | None],
        capabilities: tuple[str, ...],
        tags: Mapping[str, str],
    ) -> str:
        """Returns the change set's ARN. A parameter that is None keeps the stack's present value.

        The template is a text or a place in S3; with neither the stack keeps its own. `nested`: look into nested ones.
        """
        return self._send(
            "CreateChangeSet",
            lambda reply: str(reply["Id"]),
            service="cloudformation",
            mutates=True,
            subject=stack,
            StackName=stack,
            ChangeSetName=name,
            ChangeSetType="CREATE" if create else "UPDATE",
            TemplateBody=template,
            TemplateURL=url,
            UsePreviousTemplate=True if template is None and url is None else None,
            IncludeNestedStacks=True if nested else None,
            Parameters=[
                {"ParameterKey": k, "UsePreviousValue": True} if v is None else {"ParameterKey": k, "ParameterValue": v}
                for k, v in parameters.items()
            ],
            Capabilities=list(capabilities),
            Tags=[{"Key": k, "Value": v} for k, v in tags.items()] or None,
        )

    def change_set(self, stack: str | None, name: str) -> ChangeSet | None:
        """With all its changes, however many pages they take. Without `stack` the name is an ARN."""
        asked = _of_stack(stack, ChangeSetName=name) | {"IncludePropertyValues": True}
        found = self._or_none("DescribeChangeSet", _change_set, **asked)
        more = found.more if found else ""
        while found and more:
            page = self._send("DescribeChangeSet", _change_set, **asked, NextToken=more)
            more = page.more
            found = msgspec.structs.replace(found, changes=(*found.changes, *page.changes), more="")
        return found

    def execute_change_set(self, stack: str, name: str) -> None:
        self._send("ExecuteChangeSet", nothing, mutates=True, **_of_stack(stack, ChangeSetName=name))

    def delete_change_set(self, stack: str, name: str) -> None:
        self._send("DeleteChangeSet", nothing, mutates=True, **_of_stack(stack, ChangeSetName=name))

    def delete_stack(self, stack: str) -> None:
        self._send("DeleteStack", nothing, mutates=True, **_of_stack(stack))


def _of_stack(stack: str | None, **more: str) -> dict[str, Any]:
    return {"service": "cloudformation", "subject": stack or "", "StackName": stack, **more}


def _stack(reply: Reply) -> Stack:
    return Stack(
        name=reply["StackName"],
        id=reply["StackId"],
        status=reply["StackStatus"],
        reason=reply.get("StackStatusReason", ""),
        outputs={each["OutputKey"]: each.get("OutputValue", "") for each in reply.get("Outputs", ())},
        parameters={each["ParameterKey"]: each.get("ParameterValue", "") for each in reply.get("Parameters", ())},
        change_set=reply.get("ChangeSetId", ""),
    )


def _resource(reply: Reply) -> Resource:
    return Resource(
        logical_id=reply["LogicalResourceId"],
        physical_id=reply.get("PhysicalResourceId", ""),
        type=reply["ResourceType"],
    )


def _detail(reply: Reply) -> Detail:
    target = reply["Target"]
    path = str(target.get("Path") or "").removeprefix("/Properties/").replace("/", ".")
    return Detail(
        name=path or target["Name"],
        before=str(target.get("BeforeValue") or ""),
        after=str(target.get("AfterValue") or ""),
        dynamic=reply.get("Evaluation") == "Dynamic",
        cause=reply.get("CausingEntity") or "",
    )


def _change_set(reply: Reply) -> ChangeSet:
    def change(each: Reply) -> Change:
        what = each["ResourceChange"]
        return Change(
            action=what["Action"],
            logical_id=what["LogicalResourceId"],
            type=what["ResourceType"],
            physical_id=what.get("PhysicalResourceId") or "",
            replacement=what.get("Replacement") or "",
            scope=tuple(what.get("Scope") or ()),
            details=tuple(_detail(one) for one in what.get("Details") or () if one.get("Target", {}).get("Name")),
            kept=what["Action"] == "Remove" and what.get("PolicyAction") == "Retain",
            nested=what.get("ChangeSetId") or "",
        )

    return ChangeSet(
        id=reply.get("ChangeSetId", ""),
        status=reply["Status"],
        reason=reply.get("StatusReason", ""),
        execution=reply.get("ExecutionStatus", ""),
        changes=tuple(change(each) for each in reply.get("Changes", ()) if "ResourceChange" in each),
        more=reply.get("NextToken", ""),
    )
