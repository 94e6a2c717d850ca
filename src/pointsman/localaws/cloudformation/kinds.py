"""The resource types that are served."""

# ruff: noqa: ARG002  (one protocol; hardly a type needs every argument)

from __future__ import annotations

from typing import Any

from pointsman.localaws.cloudformation.called import Calls
from pointsman.localaws.cloudformation.lambdas import LAMBDA_TYPES
from pointsman.localaws.cloudformation.modelled import Modelled, Role, model_of
from pointsman.localaws.cloudformation.resources import Kind, Made, Place, ResourceFailed
from pointsman.localaws.cloudformation.services import SERVICE_TYPES
from pointsman.localaws.cloudformation.template import Json, TemplateError
from pointsman.localaws.lambda_ import LambdaState


class Nothing:
    """Types that are only there for CloudFormation itself."""

    name_property = None
    takes_tags = False
    replacing: frozenset[str] = frozenset()

    def create(self, place: Place, logical_id: str, properties: Json) -> Made:
        name = place.name(logical_id)
        return Made(name, name)

    def update(self, place: Place, made: Made, before: Json, after: Json) -> Made:
        return made

    def delete(self, place: Place, made: Made, properties: Json) -> None:
        return

    def attribute(self, made: Made, name: str) -> Any:
        raise TemplateError(f"{made.name} has no attribute {name}")


class Kinds:
    def __init__(self, state: LambdaState, calls: Calls) -> None:
        self._served: dict[str, Kind] = {
            "AWS::CDK::Metadata": Nothing(),
            "AWS::CloudFormation::WaitConditionHandle": Nothing(),
        }
        self._served |= {kind.type: kind(state) for kind in LAMBDA_TYPES}
        self._served |= {kind.type: kind(calls) for kind in SERVICE_TYPES}

    def of(self, type_: str) -> Kind:
        """Raises ResourceFailed for a type nobody serves."""
        if type_ not in self._served:
            model = model_of(type_)
            if model is None:
                raise ResourceFailed(f"The local CloudFormation has no resource type {type_}.")
            self._served[type_] = Role(model) if type_ == "AWS::IAM::Role" else Modelled(model)
        return self._served[type_]
