"""IAM's calls: execution roles, what their policies say, and what a caller may do. Absent is `None`.

Every write here says what is to be there, not what is to change: sent twice it does what it did once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from pointsman.aws.sending import R, Reply, Sender, nothing
from pointsman.errors import NotFound
from pointsman.model import Role

LAMBDA_MAY_ASSUME = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


_PASSED_TO_LAMBDA = {  # what policies with iam:PassRole usually ask for
    "ContextKeyName": "iam:PassedToService",
    "ContextKeyValues": ["lambda.amazonaws.com"],
    "ContextKeyType": "string",
}


class Roles(Sender):
    def role(self, name: str) -> Role | None:
        """The role without its policies: one call."""
        return self._iam_or_none("GetRole", _role, name)

    def role_policies(self, role: Role) -> Role:
        """The same role with its policies: two lists, a call for each inline policy, two for each of the account's own.

        AWS's managed policies are known by their version alone: nobody can change what that says.
        """
        inline = {name: self.inline_policy(role.name, name) for name in self.inline_policies(role.name)}
        attached = {arn: self._managed(arn) for arn in self.attached_policies(role.name)}
        return role.with_policies(inline, attached)

    def inline_policies(self, role: str) -> tuple[str, ...]:
        return self._named("ListRolePolicies", lambda reply: list(reply["PolicyNames"]), role)

    def attached_policies(self, role: str) -> tuple[str, ...]:
        """Their ARNs."""
        return self._named(
            "ListAttachedRolePolicies", lambda reply: [each["PolicyArn"] for each in reply["AttachedPolicies"]], role
        )

    def inline_policy(self, role: str, name: str) -> Any:
        return self._send(
            "GetRolePolicy",
            lambda reply: document(reply["PolicyDocument"]),
            service="iam",
            subject=f"role {role}",
            RoleName=role,
            PolicyName=name,
        )

    def _managed(self, arn: str) -> Any:
        version = self._send(
            "GetPolicy", lambda reply: reply["Policy"]["DefaultVersionId"], service="iam", subject=arn, PolicyArn=arn
        )
        if arn.split(":")[4] == "aws":
            return {"version": version}
        said = self._send(
            "GetPolicyVersion",
            lambda reply: document(reply["PolicyVersion"]["Document"]),
            service="iam",
            subject=arn,
            PolicyArn=arn,
            VersionId=version,
        )
        return {"version": version, "says": said}

    # Writing

    def create_role(
        self,
        name: str,
        *,
        trust: Any = LAMBDA_MAY_ASSUME,
        path: str = "/",
        description: str = "",
        boundary: str = "",
        longest_s: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Role:
        """Without more than a name: a role that Lambda may assume and that may do nothing."""
        return self._send(
            "CreateRole",
            _role,
            service="iam",
            mutates=True,
            subject=f"role {name}",
            RoleName=name,
            AssumeRolePolicyDocument=json.dumps(trust),
            Path=path,
            Description=description or None,
            PermissionsBoundary=boundary or None,
            MaxSessionDuration=longest_s,
            Tags=_tags(tags or {}) or None,
        )

    def trust(self, role: str, policy: Any) -> None:
        self._change("UpdateAssumeRolePolicy", role, PolicyDocument=json.dumps(policy))

    def put_inline_policy(self, role: str, name: str, policy: Any) -> None:
        self._change("PutRolePolicy", role, PolicyName=name, PolicyDocument=json.dumps(policy))

    def attach_policy(self, role: str, arn: str) -> None:
        self._change("AttachRolePolicy", role, PolicyArn=arn)

    def put_boundary(self, role: str, arn: str) -> None:
        """An empty ARN takes the boundary away."""
        if arn:
            self._change("PutRolePermissionsBoundary", role, PermissionsBoundary=arn)
        else:
            self._remove("DeleteRolePermissionsBoundary", role)

    def tag_role(self, role: str, tags: Mapping[str, str]) -> None:
        self._change("TagRole", role, Tags=_tags(tags))

    def delete_inline_policy(self, role: str, name: str) -> None:
        self._remove("DeleteRolePolicy", role, PolicyName=name)

    def detach_policy(self, role: str, arn: str) -> None:
        self._remove("DetachRolePolicy", role, PolicyArn=arn)

    def delete_role(self, role: str) -> None:
        self._remove("DeleteRole", role)

    # What a caller may do

    def denied(self, caller: str, asked: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """Of the actions asked for (each with the ARNs it is for), those that the caller's policies do not allow.

        Service control policies count too. https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
        """
        groups: dict[tuple[str, ...], list[str]] = {}
        for action, resources in asked.items():
            groups.setdefault(resources, []).append(action)
        found: list[str] = []
        for resources, actions in groups.items():
            marker: str | None = None
            while True:
                page, marker = self._send(
                    "SimulatePrincipalPolicy",
                    lambda reply: (
                        [each["EvalActionName"] for each in reply["EvaluationResults"] if not _allowed(each)],
                        reply.get("Marker") if reply.get("IsTruncated") else None,
                    ),
                    service="iam",
                    subject=caller,
                    PolicySourceArn=caller,
                    ActionNames=actions,
                    ResourceArns=list(resources),
                    ContextEntries=[_PASSED_TO_LAMBDA],
                    Marker=marker,
                )
                found += page
                if not marker:
                    break
        return tuple(dict.fromkeys(found))

    # Sending

    def _iam_or_none(self, action: str, read: Callable[[Reply], R], role: str, **parameters: Any) -> R | None:
        return self._or_none(action, read, service="iam", subject=f"role {role}", RoleName=role, **parameters)

    def _named(self, action: str, read: Callable[[Reply], list[str]], role: str) -> tuple[str, ...]:
        found: list[str] = []
        marker: str | None = None
        while True:
            page, marker = self._send(
                action,
                lambda reply: (read(reply), reply.get("Marker") if reply.get("IsTruncated") else None),
                service="iam",
                subject=f"role {role}",
                RoleName=role,
                Marker=marker,
            )
            found += page
            if not marker:
                return tuple(found)

    def _change(self, action: str, role: str, **parameters: Any) -> None:
        self._send(action, nothing, service="iam", mutates=True, subject=f"role {role}", RoleName=role, **parameters)

    def _remove(self, action: str, role: str, **parameters: Any) -> None:
        """What is gone already is removed."""
        try:
            self._change(action, role, **parameters)
        except NotFound:
            return


def document(given: Any) -> Any:
    """A policy document as values. botocore decodes the ones it knows; in others they are URL-encoded JSON."""
    return json.loads(unquote(given)) if isinstance(given, str) else given


def _role(reply: Reply) -> Role:
    role = reply["Role"]
    return Role(
        arn=role["Arn"],
        path=role.get("Path", "/"),
        description=role.get("Description", ""),
        boundary=role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""),
        longest_s=role.get("MaxSessionDuration", 3600),
        tags={each["Key"]: each["Value"] for each in role.get("Tags", ())},
        trust=document(role.get("AssumeRolePolicyDocument") or {}),
    )


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _allowed(result: Mapping[str, Any]) -> bool:
    return bool(result["EvalDecision"] == "allowed")


__all__ = ["LAMBDA_MAY_ASSUME", "Roles", "document"]
