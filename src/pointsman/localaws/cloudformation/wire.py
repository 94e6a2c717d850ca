"""The API: query parameters in, documents in AWS's shapes out (moto reads and writes the protocol)."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from flask import Flask
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse, EmptyResult
from moto.core.utils import convert_to_flask_response
from moto.moto_server.werkzeug_app import BackendRequest

from pointsman.localaws.cloudformation.called import text_of
from pointsman.localaws.cloudformation.records import (
    Change,
    ChangeSet,
    Refused,
    Resource,
    Stack,
    Wanted,
    invalid,
    new_stack,
)
from pointsman.localaws.cloudformation.schemas import schema_of
from pointsman.localaws.cloudformation.sources import ssm_parameter, template_at
from pointsman.localaws.cloudformation.stacks import Stacks
from pointsman.localaws.cloudformation.template import Template, TemplateError, parse
from pointsman.localaws.cloudformation.transform import processed

_STACK_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}")
_PAGE = 100
_MOST_IN_REQUEST = 51_200
_MOST_IN_S3 = 1_048_576


def application(stacks: Stacks) -> Flask:
    """A WSGI application for moto's dispatcher."""

    class Bound(CloudFormation):
        pass

    Bound.stacks = stacks
    app = Flask("cloudformation")
    app.debug = True  # exceptions reach the caller of the application, who logs them
    app.request_class = BackendRequest
    view = convert_to_flask_response(Bound.dispatch)
    app.add_url_rule("/", endpoint="cloudformation", view_func=view, methods=["GET", "POST"])
    return app


class _Error(ServiceException):
    def __init__(self, error: Refused) -> None:
        super().__init__(str(error))
        self.code = error.code
        self.message = str(error)
        self.status_code = error.status


class CloudFormation(BaseResponse):
    """One method per operation; moto finds it by name."""

    stacks: ClassVar[Stacks]

    def __init__(self) -> None:
        super().__init__(service_name="cloudformation")
        self.automated_parameter_parsing = True

    def call_action(self) -> Any:
        try:
            return super().call_action()
        except (Refused, TemplateError) as error:
            refused = error if isinstance(error, Refused) else invalid(str(error))
            status, headers, body = self.serialized(ActionResult(_Error(refused)))
            return status, headers, body

    # --- stacks ---

    def create_stack(self) -> ActionResult:
        name = self._get_param("StackName")
        _check_name(name)
        on_failure = self._get_param("OnFailure", "ROLLBACK")
        # One that has only been proposed so far becomes real under its own id (recorded).
        stack = self._in_review(name) or new_stack(self.current_account, self.region, name)
        wanted = self._wanted(None)
        stack.protected = self._get_bool("EnableTerminationProtection")
        stack.on_failure = "DO_NOTHING" if self._get_bool("DisableRollback") else on_failure
        stack.timeout_minutes = self._get_param("TimeoutInMinutes")
        self.stacks.create(stack, wanted)
        return ActionResult({"StackId": stack.id})

    def update_stack(self) -> ActionResult:
        stack = self._named()
        self.stacks.update(stack, self._wanted(stack), disable_rollback=self._get_bool("DisableRollback"))
        return ActionResult({"StackId": stack.id})

    def cancel_update_stack(self) -> ActionResult:
        self.stacks.cancel(self._named())
        return EmptyResult()

    def continue_update_rollback(self) -> ActionResult:
        self.stacks.continue_rollback(self._named(), self._get_param("ResourcesToSkip", []))
        return EmptyResult()

    def rollback_stack(self) -> ActionResult:
        stack = self._named()
        self.stacks.roll_back(stack)
        return ActionResult({"StackId": stack.id})

    def delete_stack(self) -> ActionResult:
        stack = self.stacks.find(self.current_account, self.region, self._get_param("StackName"))
        if stack is not None:  # AWS says nothing about one that is not there
            self.stacks.delete(stack, self._get_param("RetainResources", []))
        return EmptyResult()

    def describe_stacks(self) -> ActionResult:
        if self._get_param("StackName"):
            return ActionResult({"Stacks": [_stack(self._stack())]})
        there = [s for s in self.stacks.within(self.current_account, self.region) if s.status != "DELETE_COMPLETE"]
        return self._page("Stacks", [_stack(stack) for stack in reversed(there)])

    def list_stacks(self) -> ActionResult:
        wanted = self._get_param("StackStatusFilter", [])
        there = [
            _summary(stack)
            for stack in reversed(self.stacks.within(self.current_account, self.region))
            if not wanted or stack.status in wanted
        ]
        return self._page("StackSummaries", there)

    def describe_stack_events(self) -> ActionResult:
        stack = self._named()
        events = [
            {
                "StackId": stack.id,
                "StackName": stack.name,
                "EventId": event.id,
                "LogicalResourceId": event.logical_id,
                "PhysicalResourceId": event.physical_id,
                "ResourceType": event.type,
                "ResourceStatus": event.status,
                "ResourceStatusReason": event.reason,
                "ResourceProperties": event.properties,
                "ClientRequestToken": event.token,
                "Timestamp": event.timestamp,
            }
            for event in reversed(stack.events)
        ]
        return self._page("StackEvents", events)

    def describe_stack_resource(self) -> ActionResult:
        stack, name = self._stack(), self._get_param("LogicalResourceId")
        if name not in stack.resources:
            raise invalid(f"Resource {name} does not exist for stack {stack.name}")
        found = _described(stack, stack.resources[name])
        found["LastUpdatedTimestamp"] = found.pop("Timestamp")
        found["Metadata"] = json.dumps(stack.resources[name].metadata or {})
        return ActionResult({"StackResourceDetail": found})

    def describe_stack_resources(self) -> ActionResult:
        name, physical_id = self._get_param("LogicalResourceId"), self._get_param("PhysicalResourceId")
        if self._get_param("StackName"):
            stacks = [self._stack()]
        else:
            stacks = self.stacks.within(self.current_account, self.region)
            stacks = [s for s in stacks if any(r.made.physical_id == physical_id for r in s.resources.values())]
            if not stacks:
                raise invalid(f"Stack for {physical_id} does not exist")
        found = [
            _described(stack, resource)
            for stack in stacks
            for resource in stack.resources.values()
            if name in (None, resource.logical_id)
        ]
        return ActionResult({"StackResources": found})

    def list_stack_resources(self) -> ActionResult:
        stack = self._stack()
        found = [_described(stack, resource) for resource in stack.resources.values()]
        for each in found:
            each["LastUpdatedTimestamp"] = each.pop("Timestamp")
        return self._page("StackResourceSummaries", found)

    def get_template(self) -> ActionResult:
        name = self._get_param("ChangeSetName")
        if name and not name.startswith("arn:") and not self._get_param("StackName"):
            raise invalid("StackName is a required parameter.")
        if name:
            wanted: Wanted | None = self._change_set(name)[1].wanted
        elif self._get_param("StackName"):
            wanted = self._stack().now
        else:
            raise invalid("StackName is required if ChangeSetName is not specified.")
        text = ""
        if wanted is not None:
            original = self._get_param("TemplateStage", "Original") == "Original"
            text = wanted.template.text if original else processed(wanted.template)
        return ActionResult({"TemplateBody": text, "StagesAvailable": ["Original", "Processed"]})

    def get_template_summary(self) -> ActionResult:
        stack = self._stack() if self._get_param("StackName") else None
        if stack is not None and stack.now is None:
            raise invalid("GetTemplateSummary cannot be called on REVIEW_IN_PROGRESS stacks.")
        template = self._template(stack)
        types: dict[str, list[str]] = {}
        for name, resource in template.resources.items():
            if isinstance(resource, dict) and "Type" in resource:
                types.setdefault(resource["Type"], []).append(name)
        metadata = template.document.get("Metadata")
        return ActionResult(
            _validated(template)
            | {
                "Parameters": [_declared(name, slot) for name, slot in template.parameters.items()],
                "ResourceTypes": sorted(types),
                "Version": str(template.document.get("AWSTemplateFormatVersion", "2010-09-09")),
                "Metadata": None if metadata is None else json.dumps(metadata),
                "ResourceIdentifierSummaries": [
                    {
                        "ResourceType": type_,
                        "LogicalResourceIds": names,
                        "ResourceIdentifiers": schema.identifiers or None,
                    }
                    for type_, names in sorted(types.items())
                    if (schema := schema_of(type_)) is not None
                ],
            }
        )

    def validate_template(self) -> ActionResult:
        return ActionResult(_validated(self._template(None)))

    def update_termination_protection(self) -> ActionResult:
        stack = self._named()
        stack.protected = self._get_bool("EnableTerminationProtection")
        return ActionResult({"StackId": stack.id})

    def list_exports(self) -> ActionResult:
        found = self.stacks.exports(self.current_account, self.region)
        return self._page(
            "Exports", [{"ExportingStackId": stack.id, "Name": o.export, "Value": o.value} for stack, o in found]
        )

    def list_imports(self) -> ActionResult:
        export = self._get_param("ExportName")
        using = self.stacks.importers(self.current_account, self.region, export)
        if not using:
            raise invalid(f"Export '{export}' is not imported by any stack.")
        return self._page("Imports", [stack.name for stack in using])

    # --- stack policies, which are not enforced here, so none can be had ---

    def get_stack_policy(self) -> ActionResult:
        self._named()
        return ActionResult({})

    def set_stack_policy(self) -> ActionResult:
        raise invalid("The local CloudFormation does not enforce stack policies.")

    # --- change sets ---

    def create_change_set(self) -> ActionResult:
        name, type_ = self._get_param("StackName"), self._get_param("ChangeSetType", "UPDATE")
        if type_ == "CREATE":
            there = self._in_review(name)
            if there is None and name.startswith("arn:"):
                words = f"cannot be created again with the changeSet [{self._get_param('ChangeSetName')}]."
                raise invalid(f"Stack [{self._named().id}] already exists and {words}")
            if there is None:
                _check_name(name)
            stack = there or new_stack(self.current_account, self.region, name)
            wanted = self._wanted(None)
        elif type_ == "UPDATE":
            stack = self._stack()
            if stack.status == "REVIEW_IN_PROGRESS":
                raise invalid(f"Stack [{name}] does not exist")
            wanted = self._wanted(stack)
        else:
            raise invalid(f"The local CloudFormation makes no change sets of type {type_}: it imports no resources.")
        change_set_name = self._get_param("ChangeSetName")
        if not _STACK_NAME.fullmatch(change_set_name):
            raise invalid(
                f"1 validation error detected: Value '{change_set_name}' at 'changeSetName' failed to satisfy "
                "constraint: Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
            )
        found = self.stacks.propose(
            stack,
            wanted,
            name=change_set_name,
            type_=type_,
            description=self._get_param("Description"),
            on_failure=self._get_param("OnStackFailure"),
        )
        return ActionResult({"Id": found.id, "StackId": stack.id})

    def describe_change_set(self) -> ActionResult:
        stack, found = self._change_set(self._get_param("ChangeSetName"))
        document = _listed(stack, found) | {
            "Parameters": _parameters(found.wanted, stack) or None,
            "NotificationARNs": list(found.wanted.notifications),
            "Capabilities": list(found.wanted.capabilities),
            "Tags": _pairs(found.wanted.tags) or None,
            "RollbackConfiguration": {},
            "OnStackFailure": found.on_failure,
            "Changes": [
                {"Type": "Resource", "ResourceChange": _change(change, values=self._get_bool("IncludePropertyValues"))}
                for change in found.changes
            ],
        }
        return ActionResult(document)

    def list_change_sets(self) -> ActionResult:
        stack = self._stack()
        pending = [found for found in stack.change_sets.values() if not found.executed]
        return self._page("Summaries", [_listed(stack, found) for found in pending])

    def execute_change_set(self) -> ActionResult:
        stack, found = self._change_set(self._get_param("ChangeSetName"))
        self.stacks.execute(stack, found, disable_rollback=self._get_bool("DisableRollback"))
        return EmptyResult()

    def delete_change_set(self) -> ActionResult:
        self.stacks.withdraw(*self._change_set(self._get_param("ChangeSetName")))
        return EmptyResult()

    # --- parameters ---

    def _stack(self) -> Stack:
        return self.stacks.get(self.current_account, self.region, self._get_param("StackName"))

    def _in_review(self, name: str) -> Stack | None:
        stack = self.stacks.find(self.current_account, self.region, name)
        return stack if stack is not None and stack.status == "REVIEW_IN_PROGRESS" else None

    def _named(self) -> Stack:
        """As `_stack`, for the operations that word its absence otherwise (recorded)."""
        name = self._get_param("StackName")
        if (stack := self.stacks.find(self.current_account, self.region, name)) is None:
            raise invalid(f"Stack [{name}] does not exist")
        return stack

    def _change_set(self, name: str) -> tuple[Stack, ChangeSet]:
        stack_name = self._get_param("StackName")
        if not name.startswith("arn:"):
            if stack_name is None:
                raise invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
            self._named()
        return self.stacks.change_set(self.current_account, self.region, name, self._get_param("StackName"))

    def _wanted(self, stack: Stack | None) -> Wanted:
        """`stack` is the one to update: its template, parameters and tags may be meant."""
        self._refuse_unserved()
        before = stack.now if stack is not None else None
        given: dict[str, str] = {}
        for each in self._get_param("Parameters", []):
            key = each["ParameterKey"]
            if not each.get("UsePreviousValue"):
                given[key] = each.get("ParameterValue", "")
            elif before is not None and key in before.parameters:
                given[key] = before.parameters[key]
            elif before is None or key not in before.template.parameters:
                raise invalid(
                    f"Invalid input for parameter key {key}. Cannot specify usePreviousValue as true "
                    "for a parameter key not in the previous template"
                )
        if (tags := self._get_param("Tags")) is not None:
            named = {tag["Key"]: tag["Value"] for tag in tags}
        else:
            named = dict(before.tags) if before is not None else {}
        template = self._template(stack)
        self._check_types(template)
        return Wanted(
            template,
            given,
            named,
            tuple(self._get_param("NotificationARNs", before.notifications if before else [])),
            tuple(self._get_param("Capabilities") or (before.capabilities if before else ())),
            self._get_param("RoleARN"),
            self._get_param("ClientRequestToken"),
            acknowledged=tuple(self._get_param("Capabilities", [])),
        )

    def _refuse_unserved(self) -> None:
        """What would seem to be taken care of.

        ImportExistingResources may pass: `cdk bootstrap` always says it, and where there is something to import, making
        it anew fails in words.
        """
        if self._get_param("StackPolicyBody") or self._get_param("StackPolicyURL"):
            raise invalid("The local CloudFormation does not enforce stack policies.")
        if (self._get_param("RollbackConfiguration") or {}).get("RollbackTriggers"):
            raise invalid("The local CloudFormation watches no alarms: it takes no RollbackTriggers.")

    def _check_types(self, template: Template) -> None:
        allowed = self._get_param("ResourceTypes", [])
        for resource in template.resources.values() if allowed else ():
            type_ = str(resource["Type"])
            if not any(type_ == each or (each.endswith("*") and type_.startswith(each[:-1])) for each in allowed):
                words = f"[{', '.join(allowed)}]"
                raise invalid(f"Resource type {type_} is not allowed by parameter ResourceTypes {words}")

    def _template(self, stack: Stack | None) -> Template:
        body, url = self._get_param("TemplateBody"), self._get_param("TemplateURL")
        if body:
            if len(body.encode()) > _MOST_IN_REQUEST:
                raise invalid(
                    f"1 validation error detected: Value '{body}' at 'templateBody' failed to satisfy constraint: "
                    f"Member must have length less than or equal to {_MOST_IN_REQUEST}"
                )
            return parse(body)
        if url:
            text = template_at(url, self.current_account, self.region)
            if len(text.encode()) > _MOST_IN_S3:
                raise invalid(f"Template may not exceed {_MOST_IN_S3} bytes in size.")
            return parse(text)
        if (
            stack is not None
            and stack.now is not None
            and (self._get_bool("UsePreviousTemplate") or self._get_action() == "GetTemplateSummary")
        ):
            # What its transforms made of it depends on parameters, which may be others now.
            before = stack.now.template
            return parse(before.text) if before.transforms else before
        raise invalid("Either Template URL or Template Body must be specified.")

    def _get_bool(self, name: str) -> bool:
        return str(self._get_param(name, "false")).lower() == "true"

    def _page(self, key: str, found: list[Any]) -> ActionResult:
        start = int(self._get_param("NextToken") or 0)
        document: dict[str, Any] = {key: found[start : start + _PAGE]}
        if len(found) > start + _PAGE:
            document["NextToken"] = str(start + _PAGE)
        return ActionResult(document)


def _check_name(name: str) -> None:
    if not _STACK_NAME.fullmatch(name):
        raise invalid(
            f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*|arn:[-a-zA-Z0-9:/._+]*"
        )


# --- documents ---


def _stack(stack: Stack) -> dict[str, Any]:
    now = stack.now
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "ChangeSetId": stack.executed,
        "ParentId": stack.parent,
        "RollbackConfiguration": {},
        "Description": now.template.description if now else None,
        "Parameters": (_parameters(now, stack) if now else None) or None,
        "CreationTime": stack.created,
        "DeletionTime": stack.deleted,
        "LastUpdatedTime": stack.updated,
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason,
        "DisableRollback": stack.on_failure == "DO_NOTHING",
        "NotificationARNs": list(now.notifications) if now else [],
        "TimeoutInMinutes": stack.timeout_minutes,
        "Capabilities": (list(now.capabilities) if now else None) or None,
        "Outputs": [
            {"OutputKey": o.key, "OutputValue": o.value, "Description": o.description, "ExportName": o.export}
            for o in stack.outputs
        ]
        or None,
        "RoleARN": now.role if now else None,
        # Recorded: empty lists are left out, but for the tags of what a change set made.
        "Tags": (_pairs(now.tags) if now else []) or ([] if stack.change_sets else None),
        "EnableTerminationProtection": stack.protected if stack.deleted is None else None,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
    }


def _summary(stack: Stack) -> dict[str, Any]:
    keys = (
        "StackId",
        "StackName",
        "CreationTime",
        "DeletionTime",
        "LastUpdatedTime",
        "StackStatus",
        "StackStatusReason",
        "DriftInformation",
    )
    document = _stack(stack)
    return {key: document[key] for key in keys} | {"TemplateDescription": document["Description"]}


def _described(stack: Stack, resource: Resource) -> dict[str, Any]:
    """Its status is its last event's, as it is on AWS."""
    last = next(event for event in reversed(stack.events) if event.logical_id == resource.logical_id)
    return {
        "StackName": stack.name,
        "StackId": stack.id,
        "LogicalResourceId": resource.logical_id,
        "PhysicalResourceId": resource.made.physical_id,
        "ResourceType": resource.type,
        "Timestamp": last.timestamp,
        "ResourceStatus": last.status,
        "ResourceStatusReason": last.reason,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }


def _parameters(wanted: Wanted, stack: Stack) -> list[dict[str, Any]]:
    return [_parameter(name, slot, wanted, stack) for name, slot in wanted.template.parameters.items()]


def _parameter(name: str, slot: Mapping[str, Any], wanted: Wanted, stack: Stack) -> dict[str, Any]:
    value = text_of(wanted.parameters.get(name, slot.get("Default")))
    secret = str(slot.get("NoEcho")).lower() == "true"
    document = {"ParameterKey": name, "ParameterValue": "****" if secret else value}
    if str(slot.get("Type")).startswith("AWS::SSM::Parameter::Value"):
        with contextlib.suppress(TemplateError):  # it may be gone by now
            document["ResolvedValue"] = ssm_parameter(stack.account, stack.region, value)
    return document


def _declared(name: str, slot: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "ParameterKey": name,
        "ParameterType": slot.get("Type", "String"),
        "NoEcho": str(slot.get("NoEcho", False)).lower() == "true",
        "Description": slot.get("Description"),
        "ParameterConstraints": {"AllowedValues": [text_of(value) for value in slot.get("AllowedValues", [])]},
    }
    return found | ({"DefaultValue": text_of(slot["Default"])} if "Default" in slot else {})


def _validated(template: Template) -> dict[str, Any]:
    """What ValidateTemplate says; of a template to be transformed, what it will need is not known (recorded)."""
    keys = ("ParameterKey", "DefaultValue", "NoEcho", "Description")
    declared = [_declared(name, slot) for name, slot in template.parameters.items()]
    capabilities, reason = list(template.capabilities()), None
    if capabilities:
        types = sorted({r["Type"] for r in template.resources.values() if r["Type"].startswith("AWS::IAM::")})
        reason = f"The following resource(s) require capabilities: [{', '.join(types)}]"
    if template.transforms:
        capabilities.append("CAPABILITY_AUTO_EXPAND")
        reason = f"The following resource(s) require capabilities: [{', '.join(template.transforms)}]"
    return {
        "Parameters": [{key: each[key] for key in keys if key in each} for each in declared],
        "Description": template.description,
        "Capabilities": capabilities or None,
        "CapabilitiesReason": reason,
        "DeclaredTransforms": list(template.transforms) or None,
    }


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _listed(stack: Stack, found: ChangeSet) -> dict[str, Any]:
    return {
        "ChangeSetName": found.name,
        "ChangeSetId": found.id,
        "StackId": stack.id,
        "StackName": stack.name,
        "Description": found.description,
        "CreationTime": found.created,
        "ExecutionStatus": found.execution,
        "Status": found.status,
        "StatusReason": found.reason,
        "IncludeNestedStacks": False,
    }


def _change(change: Change, *, values: bool = False) -> dict[str, Any]:
    """`values`: a detail for each place in the properties, with what is there before and after (recorded)."""
    document: dict[str, Any] = {
        "Action": change.action,
        "PolicyAction": "ReplaceAndDelete" if change.replacement == "True" else change.policy,
        "LogicalResourceId": change.logical_id,
        "PhysicalResourceId": change.physical_id,
        "ResourceType": change.type,
        "Replacement": change.replacement,
        "Scope": [],
        "Details": [],
    }
    if change.action == "Modify":
        tags = any(name == "Tags" for name, _ in change.properties)
        others = any(name != "Tags" for name, _ in change.properties)
        scopes = (("Properties", others), ("Tags", tags), ("Metadata", change.metadata))
        document["Scope"] = [scope for scope, is_so in scopes if is_so]
        for name, recreation in change.properties:
            target = {"Attribute": "Tags" if name == "Tags" else "Properties", "RequiresRecreation": recreation}
            if name != "Tags":
                target["Name"] = name
            shown = [_shown(*each) for each in change.values if each[0][0] == name] if values else []
            document["Details"] += [
                {
                    "Target": target | each,
                    "Evaluation": "Dynamic" if recreation == "Conditionally" else "Static",
                    "ChangeSource": "DirectModification",
                }
                for each in shown or [{}]
            ]
    return document


def _shown(path: tuple[str, ...], before: Any, after: Any) -> dict[str, str]:
    kind = "Add" if before is None else "Remove" if after is None else "Modify"
    shown = {"Path": "/Properties/" + "/".join(path), "AttributeChangeType": kind}
    shown |= {"BeforeValue": text_of(before)} if before is not None else {}
    return shown | ({"AfterValue": text_of(after)} if after is not None else {})
