"""Which IAM actions each call takes, on what, and which part of the work makes it: the least a deployer needs.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html. Most calls are an action of the
same name; those that are not stand here with what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

Target: TypeAlias = Literal[
    "function",
    "everything",
    "role",
    "clones",
    "stack",
    "bucket",
    "buckets",
    "policies",
    "mappings",
    "layers",
    "others",
    "images",
    "table",
    "backup",
    "shelf",
]
"""What an action is for: everything is `*`, where IAM knows no resource; clones are branches' own roles.

`layers` are those of the file, `others` those that others published; `images` their repositories. `bucket` is for what
lies in one, `buckets` for the bucket itself; `backup` is what is kept in S3, `shelf` the bucket it is kept in.
"""


class Need(NamedTuple):
    """`actions` that one AWS call takes, `on` what, for which `parts` of the work.

    look: status, versions, history, diff. create, settings: of a function that Pointsman owns. guard: role_guard.
    together: several functions in one release. rollout: traffic that moves little by little, watched. ledger: it is a
    table, reached by the deployer's own credentials. backup: after each publish. restore: for whoever brings something
    back, not for each deployer. storage, prune: of the whole account, as docs/prune.md lists them.
    """

    actions: tuple[str, ...]
    on: Target
    parts: tuple[str, ...]


def _same(service: str, on: Target, parts: tuple[str, ...], *names: str) -> dict[str, Need]:
    return {f"{service}:{name}": Need((f"{service}:{name}",), on, parts) for name in names}


CALLS: Mapping[str, Need] = {
    **_same("lambda", "function", ("look", "deploy"), "GetFunction", "GetAlias", "ListVersionsByFunction"),
    **_same("lambda", "function", ("look", "backup"), "ListAliases"),
    **_same("lambda", "function", ("deploy",), "UpdateFunctionCode", "PublishVersion", "CreateAlias", "UpdateAlias"),
    **_same("lambda", "function", ("create",), "CreateFunction"),
    **_same("lambda", "function", ("settings", "per-branch"), "UpdateFunctionConfiguration"),
    **_same("lambda", "everything", ("doctor",), "GetAccountSettings"),
    # What fills the code storage: of the whole account.
    **_same("lambda", "everything", ("storage",), "ListFunctions", "ListLayers"),
    # Who may name a version: `prune` looks everywhere in the account, and keeps what it may not look at.
    **_same("lambda", "everything", ("prune",), "GetLayerVersionPolicy"),
    **{
        f"{service}:{call}": Need(("apigateway:GET",), "everything", ("prune",))
        for service, calls in {
            "apigateway": ("GetRestApis", "GetResources", "GetAuthorizers", "GetStages", "GetExport"),
            "apigatewayv2": ("GetApis", "GetIntegrations", "GetAuthorizers", "GetStages", "ExportApi"),
        }.items()
        for call in calls
    },
    **{
        f"stepfunctions:{call}": Need((f"states:{call}",), "everything", ("prune",))
        for call in ("ListStateMachines", "ListStateMachineVersions", "DescribeStateMachine")
    },
    **_same("events", "everything", ("prune",), "ListEventBuses", "ListRules", "ListTargetsByRule"),
    **_same("scheduler", "everything", ("prune",), "ListSchedules", "GetSchedule"),
    **_same("pipes", "everything", ("prune",), "ListPipes"),
    **_same("sns", "everything", ("prune",), "ListSubscriptions"),
    **_same("cognito-idp", "everything", ("prune",), "ListUserPools", "DescribeUserPool"),
    **_same("cloudfront", "everything", ("prune",), "ListDistributions"),
    **_same("cloudformation", "everything", ("prune",), "ListStacks"),
    "s3:ListBuckets": Need(("s3:ListAllMyBuckets",), "everything", ("prune",)),
    "s3:GetBucketNotificationConfiguration": Need(("s3:GetBucketNotification",), "everything", ("prune",)),
    # A ledger written anew learns there who moved what; it goes on without.
    **_same("cloudtrail", "everything", ("rebuild",), "LookupEvents"),
    # Neither call knows a resource: composite alarms are told only to those who may see all.
    **_same("cloudwatch", "everything", ("rollout",), "GetMetricData", "DescribeAlarms"),
    # Aliases named after branches, what they get of their model alias, and their end.
    **_same(
        *("lambda", "function", ("branches",)),
        *("AddPermission", "RemovePermission", "GetFunctionEventInvokeConfig"),
        *("PutFunctionEventInvokeConfig", "DeleteFunctionEventInvokeConfig", "DeleteFunction"),
    ),
    **_same(
        *("lambda", "function", ("branches", "backup")),
        *("GetPolicy", "ListFunctionEventInvokeConfigs", "ListFunctionUrlConfigs"),
    ),
    **_same(
        *("lambda", "function", ("branches", "rollout")),
        *("GetProvisionedConcurrencyConfig", "PutProvisionedConcurrencyConfig", "DeleteProvisionedConcurrencyConfig"),
    ),
    **_same("lambda", "function", ("branches", "rollout", "backup"), "ListProvisionedConcurrencyConfigs"),
    **_same("lambda", "function", ("restore",), "PutFunctionConcurrency"),
    "lambda:Invoke": Need(("lambda:InvokeFunction",), "function", ("traffic",)),
    **_same("lambda", "function", ("branches", "together"), "DeleteAlias"),
    **_same(
        *("lambda", "function", ("preview",)),
        *("GetFunctionUrlConfig", "CreateFunctionUrlConfig", "UpdateFunctionUrlConfig", "DeleteFunctionUrlConfig"),
    ),
    **_same("lambda", "everything", ("branches", "backup"), "ListEventSourceMappings"),
    **_same("lambda", "everything", ("branches",), "CreateEventSourceMapping"),
    **_same("lambda", "mappings", ("branches",), "DeleteEventSourceMapping"),
    # The layers of the file; and what others' layers tell of themselves.
    **_same("lambda", "layers", ("layers",), "ListLayerVersions", "PublishLayerVersion", "DeleteLayerVersion"),
    "lambda:GetLayerVersionByArn": Need(("lambda:GetLayerVersion",), "layers", ("layers",)),
    **_same("ecr", "images", ("images",), "BatchGetImage"),
    # HEAD has no permission of its own.
    "s3:HeadObject": Need(("s3:GetObject",), "bucket", ("bucket",)),
    **{
        f"s3:{call}": Need(("s3:PutObject",), "bucket", ("bucket",))
        for call in ("PutObject", "CopyObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
    },
    "s3:GetObject": Need(("s3:GetObject",), "backup", ("backup in S3",)),
    "s3:ListObjectsV2": Need(("s3:ListBucket",), "shelf", ("backup in S3",)),
    "s3:ListParts": Need(("s3:ListMultipartUploadParts",), "bucket", ("bucket",)),
    # Without it an upload that was cut short begins anew.
    "s3:ListMultipartUploads": Need(("s3:ListBucketMultipartUploads",), "buckets", ("bucket",)),
    **_same(
        *("cloudformation", "stack", ("stack",)),
        *("DescribeStacks", "GetTemplate", "ListStackResources", "DescribeStackEvents"),
        *("CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet", "DeleteChangeSet", "DeleteStack"),
    ),
    **_same(
        *("iam", "role", ("guard", "per-branch")),
        *("GetRole", "ListRolePolicies", "GetRolePolicy", "ListAttachedRolePolicies"),
    ),
    **_same("iam", "policies", ("guard", "per-branch"), "GetPolicy", "GetPolicyVersion"),
    **_same(
        *("iam", "clones", ("per-branch",)),
        *("CreateRole", "DeleteRole", "TagRole", "UpdateAssumeRolePolicy", "PutRolePolicy", "DeleteRolePolicy"),
        *("AttachRolePolicy", "DetachRolePolicy", "PutRolePermissionsBoundary", "DeleteRolePermissionsBoundary"),
    ),
    # A ledger in a table; `ledger init` is for whoever sets it up, not for each deployer.
    **_same("dynamodb", "table", ("ledger",), "DescribeTable", "GetItem", "PutItem", "Query", "UpdateItem"),
    **_same(
        *("dynamodb", "table", ("ledger init",)),
        *("CreateTable", "UpdateTable", "DescribeContinuousBackups", "UpdateContinuousBackups"),
        *("DescribeTimeToLive", "UpdateTimeToLive"),
    ),
    # What a rehearsal supplies where the local AWS lacks it: never called on AWS.
    **_same("s3", "everything", ("rehearsal",), "CreateBucket"),
    **_same("ssm", "everything", ("rehearsal",), "PutParameter"),
    **_same("ecr", "everything", ("rehearsal",), "CreateRepository", "PutImage"),
    "iam:SimulatePrincipalPolicy": Need(("iam:SimulatePrincipalPolicy",), "everything", ("doctor",)),
    "sts:GetCallerIdentity": Need((), "everything", ("doctor",)),  # whatever the policies say
}

BEYOND: tuple[Need, ...] = (
    Need(("iam:PassRole",), "role", ("create", "settings", "per-branch")),  # with the function's settings, no call
    Need(("iam:PassRole",), "clones", ("per-branch",)),
    Need(("s3:ListBucket",), "buckets", ("bucket",)),  # or a missing key is answered 403, as one that may not be read
    Need(("iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy"), "clones", ("per-branch",)),
    Need(("iam:ListAttachedRolePolicies",), "clones", ("per-branch",)),
    Need(("lambda:GetLayerVersion",), "others", ("others",)),  # Lambda itself asks for it when a function gets one
    # Lambda lets itself read the repository when a function is created: https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
    Need(("ecr:GetRepositoryPolicy", "ecr:SetRepositoryPolicy", "ecr:InitiateLayerUpload"), "images", ("images",)),
    Need(("s3:PutObject", "s3:ListMultipartUploadParts"), "backup", ("backup in S3",)),  # in another bucket
    Need(("lambda:InvokeFunction",), "function", ("tests",)),  # what integration tests do with the credentials
)
"""What is asked for and no call of its own."""


def needed(parts: Iterable[str]) -> dict[Target, tuple[str, ...]]:
    """Target → the actions on it that this much of the work takes, sorted."""
    wanted = {*parts}
    found: dict[Target, set[str]] = {}
    for need in (*CALLS.values(), *BEYOND):
        if wanted & {*need.parts}:
            found.setdefault(need.on, set()).update(need.actions)
    return {target: tuple(sorted(actions)) for target, actions in found.items() if actions}


def policy(actions: Mapping[Target, tuple[str, ...]], arns: Mapping[Target, tuple[str, ...]]) -> dict[str, Any]:
    """The policy document that allows these actions on these ARNs, and nothing more."""
    statements = []
    for target, wanted in actions.items():
        passing = [each for each in wanted if each == "iam:PassRole"]
        for said, conditions in (
            ([each for each in wanted if each not in passing], {}),
            (passing, {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}),
        ):
            if said:
                sid = f"{'Pass' if conditions else ''}{target.title()}"
                statement = {"Sid": sid, "Effect": "Allow", "Action": said, "Resource": list(arns[target])}
                statements.append({**statement, **({"Condition": conditions} if conditions else {})})
    return {"Version": "2012-10-17", "Statement": statements}


__all__ = ["BEYOND", "CALLS", "Need", "Target", "needed", "policy"]
