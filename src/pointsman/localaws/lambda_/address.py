"""Which function a caller means: a name, a partial or full ARN, perhaps with a qualifier."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pointsman.localaws.lambda_.errors import Denied, LambdaError, invalid

LATEST = "$LATEST"
LATEST_PUBLISHED = "$LATEST.PUBLISHED"

_NAME = re.compile(
    r"(?:arn:(?P<partition>aws[a-zA-Z-]*)?:lambda:)?(?:(?P<region>[a-z]+(?:-[a-z]+)+-\d):)?(?:(?P<account>\d{12}):)?"
    r"(?:function:)?(?P<name>[a-zA-Z0-9-_.]+)(?::(?P<qualifier>[^:]+))?"
)


def partition_of(region: str) -> str:
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


@dataclass(frozen=True, slots=True)
class Address:
    """One function in one account and region, and the qualifier the caller named (None: none)."""

    account: str
    region: str
    name: str
    qualifier: str | None = None

    @property
    def arn(self) -> str:
        """The unqualified ARN."""
        return f"arn:{partition_of(self.region)}:lambda:{self.region}:{self.account}:function:{self.name}"

    def qualified(self, qualifier: str | None) -> str:
        return self.arn if qualifier is None else f"{self.arn}:{qualifier}"


def _nothing(_here: Address, _action: str) -> bool:
    return False


def address(
    operation: str,
    account: str,
    region: str,
    function_name: str,
    qualifier: str | None = None,
    *,
    allowed: Callable[[Address, str], bool] = _nothing,
) -> Address:
    """Read a `FunctionName` (already checked against AWS's pattern) as a caller in `account` and `region` means it.

    Another account's function can be meant only where its resource policy lets the caller: `allowed` says so of an IAM
    action without its "lambda:".
    """
    found = _NAME.fullmatch(function_name)
    if found is None:  # the callers validate first, so this is a pattern of ours that is narrower than AWS's
        raise invalid(f"{function_name} is not a function name or ARN that can be understood here.")
    if (other := found["region"]) is not None and other != region:
        raise LambdaError(
            "ResourceNotFoundException",
            404,
            f"Functions from '{other}' are not reachable in this region ('{region}')",
        )
    if found["qualifier"] is not None and qualifier is not None and found["qualifier"] != qualifier:
        raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
    here = Address(
        found["account"] or account, region, found["name"], qualifier if qualifier is not None else found["qualifier"]
    )
    if here.account != account:
        root = f"arn:{partition_of(region)}:iam::{account}:root"
        action = "InvokeFunction" if operation in ("Invoke", "InvokeAsync") else operation
        if operation == "CreateFunction":  # recorded: AWS denies it without a word
            raise Denied(root, None)
        if not allowed(here, action):
            raise Denied(
                root,
                f"is not authorized to perform: lambda:{action} on resource: {here.qualified(here.qualifier)} because "
                f"no resource-based policy allows the lambda:{action} action",
            )
    return here
