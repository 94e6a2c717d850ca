"""The types moto has models for. What a model does wrong is put right here, or refused in words."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

import copy
import importlib
import inspect
import json
from collections.abc import Callable
from typing import Any

from moto.core.common_models import CloudFormationModel
from moto.core.exceptions import ServiceException
from werkzeug.exceptions import HTTPException

from pointsman.localaws.cloudformation.called import tags_of
from pointsman.localaws.cloudformation.resources import Made, NotBegun, Place, ResourceFailed
from pointsman.localaws.cloudformation.schemas import schema_of
from pointsman.localaws.cloudformation.template import Json, TemplateError


def model_of(type_: str) -> Any:
    """moto's class for a type, or None. Importing only its module spares the second that importing all takes."""
    match type_.split("::"):
        case ["AWS", str(service), str()] if service not in ("CloudFormation", "Lambda"):
            folder = {"ElasticLoadBalancing": "elb", "ElasticLoadBalancingV2": "elbv2"}.get(service, service.lower())
        case _:
            return None
    try:
        importlib.import_module(f"moto.{folder}.models")
    except ModuleNotFoundError:
        return None
    return next((m for m in CloudFormationModel.__subclasses__() if m.cloudformation_type() == type_), None)


class Modelled:
    """A type moto has a model for."""

    takes_tags = False  # hardly a model can change them

    def __init__(self, model: Any) -> None:
        self._model = model
        self._type = str(model.cloudformation_type())
        self.name_property: str | None = model.cloudformation_name_type() or None
        self._schema = schema_of(self._type)
        named = frozenset({self.name_property} if self.name_property else ())
        self.replacing = named if self._schema is None else named | self._schema.replacing

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = self._name(place, logical_id, properties)
        live = self._moto(
            self._model.create_from_cloudformation_json,
            name,
            self._document(properties),
            place.account,
            place.region,
            LogicalId=logical_id,
            StackId=place.stack_id,
            ResourceType=self._type,
        )
        live.type = self._type
        return Made(str(live.physical_resource_id), name, live=live)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        theirs = self._model.update_from_cloudformation_json
        if hasattr(theirs, "__isabstractmethod__"):
            raise NotBegun(f"The local CloudFormation cannot update {self._type}; only create and delete it.")
        live = self._moto(
            theirs,
            original_resource=made.live,
            new_resource_name=made.name,
            cloudformation_json=self._document(after),
            account_id=place.account,
            region_name=place.region,
        )
        live = made.live if live is None else live
        return Made(str(live.physical_resource_id), made.name, live=live)

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        theirs = getattr(made.live, "delete", None)
        if theirs is not None and _takes_two(theirs):
            self._moto(theirs, place.account, place.region)
        elif not hasattr(delete := self._model.delete_from_cloudformation_json, "__isabstractmethod__"):
            self._moto(delete, made.physical_id, self._document(properties), place.account, place.region)
        else:
            raise ResourceFailed(f"The local CloudFormation cannot delete {self._type}.")

    def attribute(self, made: Made, name: str) -> Any:
        try:
            value = made.live.get_cfn_attribute(name)
        except Exception as error:  # moto says "no such attribute" in several ways
            if self._schema is not None and self._schema.identity == name:
                return made.physical_id
            raise TemplateError(f"Resource type {self._type} does not support attribute {{{name}}}") from error
        return value

    def _name(self, place: Place, logical_id: str, properties: Json) -> str:
        if self.name_property and properties.get(self.name_property):
            return str(properties[self.name_property])
        return place.name(logical_id, 64 if self._type.startswith("AWS::IAM") else 80)

    def _document(self, properties: Json) -> Json:
        return {"Type": self._type, "Properties": copy.deepcopy(properties)}

    def _moto(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        try:
            return method(*args, **named)
        except (ServiceException, HTTPException) as error:
            message = getattr(error, "message", None) or getattr(error, "description", None) or str(error)
            raise ResourceFailed(f'Resource handler returned message: "{message}"') from error
        except KeyError as error:
            raise ResourceFailed(f"Properties validation failed: required key [{error.args[0]}] not found") from error


def _takes_two(method: Callable[..., Any]) -> bool:
    try:
        inspect.signature(method).bind("account", "region")
    except TypeError:
        return False
    return True


class Role(Modelled):
    """AWS::IAM::Role: moto attaches no managed policies, and its update forgets all policies and the trust policy."""

    takes_tags = True

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        later = ("ManagedPolicyArns", "Policies", "Tags")
        made = super().create(place, logical_id, {k: v for k, v in properties.items() if k not in later})
        try:
            return self._configure(place, made, {}, properties)
        except BaseException:
            self.delete(place, made, properties)
            raise

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        return self._configure(place, made, before, after)

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        iam = self._iam(place)
        role = next((role for role in iam.roles.values() if role.name == made.name), None)
        if role is None:
            return
        for arn in list(role.managed_policies):
            if arn in properties.get("ManagedPolicyArns", []):
                self._moto(iam.detach_role_policy, arn, made.name)
        for policy in properties.get("Policies", []):
            role.policies.pop(policy["PolicyName"], None)
        self._moto(iam.delete_role, made.name)

    def _configure(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        iam, role = self._iam(place), made.live
        if before:
            document = after["AssumeRolePolicyDocument"]
            text = document if isinstance(document, str) else json.dumps(document)
            self._moto(iam.update_assume_role_policy, made.name, text)
            role.description = after.get("Description", "")
            role.max_session_duration = int(after.get("MaxSessionDuration", 3600))
            if after.get("PermissionsBoundary"):
                self._moto(iam.put_role_permissions_boundary, made.name, after["PermissionsBoundary"])
            else:
                role.permissions_boundary_arn = None
        for policy in before.get("Policies", []):
            role.policies.pop(policy["PolicyName"], None)
        for policy in after.get("Policies", []):
            role.put_policy(policy["PolicyName"], json.dumps(policy["PolicyDocument"]))
        wanted, had = after.get("ManagedPolicyArns", []), before.get("ManagedPolicyArns", [])
        for arn in had:
            if arn not in wanted and arn in role.managed_policies:
                self._moto(iam.detach_role_policy, arn, made.name)
        for arn in wanted:
            if arn not in role.managed_policies:
                self._moto(iam.attach_role_policy, arn, made.name)
        if gone := sorted(tags_of(before.get("Tags", [])).keys() - tags_of(after.get("Tags", [])).keys()):
            self._moto(iam.untag_role, made.name, gone)
        if tags := after.get("Tags"):
            self._moto(iam.tag_role, made.name, tags)
        return made

    def _iam(self, place: Place) -> Any:
        from moto.iam.models import iam_backends
        from moto.utilities.utils import get_partition

        return iam_backends[place.account][get_partition(place.region)]
