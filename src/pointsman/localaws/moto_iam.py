"""SimulatePrincipalPolicy, which moto's IAM lacks: what a user's or role's policies allow. Imports moto.

Identity policies are weighed as AWS does it (an explicit deny wins), with `Condition` by StringEquals and StringLike on
the context that is given; permissions boundaries and the organisation's policies are not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import unquote

from moto.core.responses import ActionResult
from moto.iam.exceptions import NotFoundException
from moto.iam.responses import IamResponse


def put_simulation_in_place() -> None:
    def simulate_principal_policy(self: Any) -> ActionResult:
        documents = _policies(self.backend, self._get_param("PolicySourceArn"))
        context = {
            str(each["ContextKeyName"]).lower(): tuple(each.get("ContextKeyValues", ()))
            for each in self._get_param("ContextEntries", [])
        }
        results = [
            {
                "EvalActionName": action,
                "EvalResourceName": resource,
                "EvalDecision": decide(documents, action, resource, context),
            }
            for action in self._get_param("ActionNames", [])
            for resource in self._get_param("ResourceArns", []) or ["*"]
        ]
        return ActionResult({"EvaluationResults": results, "IsTruncated": False})

    cast(Any, IamResponse).simulate_principal_policy = simulate_principal_policy


def _policies(backend: Any, arn: str) -> list[Any]:
    kind, _, path = arn.split(":", 5)[5].partition("/")
    name = path.rpartition("/")[2]
    documents: list[str] = []
    if kind == "user":
        owner = backend.get_user(name)
        documents += [each["policy_document"] for each in (backend.get_user_policy(name, n) for n in owner.policies)]
        for group in backend.get_groups_for_user(name):
            documents += [str(each) for each in group.policies.values()]
            documents += [each.document for each in group.managed_policies.values()]
    elif kind == "role":
        owner = backend.get_role(name)
        documents += [str(each) for each in owner.policies.values()]
    else:
        raise NotFoundException(f"{arn} is neither a user nor a role.")
    documents += [each.document for each in owner.managed_policies.values()]
    return [json.loads(each if each.lstrip().startswith("{") else unquote(each)) for each in documents]


def decide(documents: Iterable[Any], action: str, resource: str, context: Mapping[str, tuple[str, ...]]) -> str:
    """allowed, explicitDeny or implicitDeny."""
    effects = {
        statement["Effect"]
        for document in documents
        for statement in _several(document["Statement"])
        if _concerns(statement, "Action", action.lower(), str.lower)
        and _concerns(statement, "Resource", resource, str)
        and _holds(statement.get("Condition", {}), context)
    }
    return "explicitDeny" if "Deny" in effects else "allowed" if "Allow" in effects else "implicitDeny"


def _concerns(statement: Mapping[str, Any], key: str, value: str, fold: Any) -> bool:
    if f"Not{key}" in statement:
        return not any(_like(fold(each), value) for each in _several(statement[f"Not{key}"]))
    return any(_like(fold(each), value) for each in _several(statement.get(key, ())))


def _holds(conditions: Mapping[str, Any], context: Mapping[str, tuple[str, ...]]) -> bool:
    for operator, wanted in conditions.items():
        like = {"stringequals": str.__eq__, "stringlike": _like}.get(operator.lower())
        for key, values in wanted.items():
            given = context.get(key.lower(), ())
            if like is None or not any(like(str(each), value) for each in _several(values) for value in given):
                return False
    return True


def _like(pattern: str, value: str) -> bool:
    return bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), value, re.DOTALL))


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]
