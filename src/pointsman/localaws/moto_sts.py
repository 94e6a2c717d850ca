"""moto's STS, put right: its session tokens all have one key of no account, and callers are named wrongly.

Imports moto, so nothing may import this before moto is wanted.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, cast

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.iam.models import iam_backends
from moto.sts.models import AssumedRole, STSBackend
from moto.sts.responses import TokenResponse
from moto.sts.utils import random_session_token
from moto.utilities.utils import get_partition


class TokenSession:
    """What GetSessionToken and GetFederationToken give out; kept, and found, among moto's assumed roles."""

    def __init__(self, account: str, partition: str, arn: str, user_id: str, duration: int) -> None:
        key = iam_backends[account][partition].create_temp_access_key()
        self.account_id, self.arn, self.user_id = account, arn, user_id
        self.access_key_id, self.secret_access_key = key.access_key_id, key.secret_access_key
        self.session_token = random_session_token()
        self.expiration = utcnow() + timedelta(seconds=duration)


def put_sts_right() -> None:
    theirs, by_web_identity = STSBackend.get_caller_identity, TokenResponse.assume_role_with_web_identity

    def session(response: Any, arn: str, user_id: str) -> dict[str, Any]:
        duration = response._get_int_param("DurationSeconds", 43200)
        made = TokenSession(response.current_account, response.partition, arn, user_id, duration)
        response.backend.assumed_roles.append(made)
        return {
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.secret_access_key,
            "SessionToken": made.session_token,
            "Expiration": made.expiration,
        }

    def get_session_token(self: Any) -> ActionResult:
        user_id, arn, _ = self.backend.get_caller_identity(self.get_access_key(), self.region)
        return ActionResult({"Credentials": session(self, arn, user_id)})

    def get_federation_token(self: Any) -> ActionResult:
        name = self._get_param("Name")
        user_id = f"{self.current_account}:{name}"
        arn = f"arn:{self.partition}:sts::{self.current_account}:federated-user/{name}"
        user = {"FederatedUserId": user_id, "Arn": arn}
        return ActionResult({"Credentials": session(self, arn, user_id), "FederatedUser": user, "PackedPolicySize": 6})

    def get_caller_identity(self: Any, access_key_id: str, region: str) -> tuple[str, str, str]:
        user_id, arn, account = theirs(self, access_key_id, region)
        if arn.endswith(":user/moto"):  # a key that moto did not give out: the account itself
            return account, f"arn:{get_partition(region)}:iam::{account}:root", account
        return user_id, arn, account

    def get_access_key_info(self: Any, access_key_id: str) -> dict[str, str]:
        for account, partitions in list(iam_backends.items()):
            if any(access_key_id in backend.access_keys for backend in list(partitions.values())):
                return {"Account": account}
        return {"Account": self.account_id}

    def user_id(self: Any) -> str:
        """A role that does not exist has an id as well, and always the same."""
        roles = list(iam_backends[self.account_id][self.partition].roles.values())
        made_up = "AROA" + hashlib.sha256(self.role_arn.encode()).hexdigest()[:17].upper()
        role_id = next((role.id for role in roles if role.arn == self.role_arn), made_up)
        return f"{role_id}:{self.session_name}"

    def assume_role_with_web_identity(self: Any) -> ActionResult:
        result = cast(Any, by_web_identity(self).result)
        result["AssumedRoleUser"]["AssumedRoleId"] = result["Credentials"].user_id
        return ActionResult(result)

    response, backend, role = cast(Any, TokenResponse), cast(Any, STSBackend), cast(Any, AssumedRole)
    response.get_session_token = get_session_token
    response.get_federation_token = get_federation_token
    response.assume_role_with_web_identity = assume_role_with_web_identity
    backend.get_caller_identity = get_caller_identity
    backend.get_access_key_info = get_access_key_info
    role.user_id = property(user_id)
