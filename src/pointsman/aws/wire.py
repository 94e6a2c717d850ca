"""The botocore transport: sends an operation, translates every failure. With `identity` the only importer of botocore.

botocore's own retries are off: a lost answer to a mutating call must reach `execute` as `Ambiguous`.
It is brought in where it is first needed: that takes as long as all else of a command's start, and `Wire.warm` does it
while somebody else is waited for.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

import msgspec

from pointsman import errors, runtimes
from pointsman.aws import permissions
from pointsman.aws.identity import Identity, Role, client_config
from pointsman.aws.operation import Operation, R

_CREDENTIALS = "Check AWS_PROFILE, the environment's `profile` or `role_arn` in pointsman.toml, or sign in again."
_BY_CODE: Mapping[str, type[errors.AwsError]] = {
    **dict.fromkeys(
        (
            "TooManyRequestsException",
            "ThrottlingException",
            "ThrottledException",
            "Throttling",
            "RequestLimitExceeded",
            "SlowDown",
            "ProvisionedThroughputExceededException",
        ),
        errors.Throttled,
    ),
    **dict.fromkeys(
        ("AccessDeniedException", "AccessDenied", "NotAuthorized", "UnauthorizedOperation", "Forbidden", "403"),
        errors.AccessDenied,
    ),
    **dict.fromkeys(
        (
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "InvalidAccessKeyId",
            "MissingAuthenticationToken",
            "AuthFailure",
            "IncompleteSignature",
        ),
        errors.CredentialsRefused,
    ),
    **dict.fromkeys(
        (
            *("ResourceNotFoundException", "NoSuchBucket", "NoSuchKey", "ChangeSetNotFound"),
            "StateMachineDoesNotExist",
            *("ChangeSetNotFoundException", "RepositoryNotFoundException", "TableNotFoundException"),
        ),
        errors.NotFound,
    ),
    **dict.fromkeys(
        ("PreconditionFailedException", "PreconditionFailed", "ConditionalCheckFailedException"),
        errors.PreconditionFailed,
    ),
    **dict.fromkeys(
        (
            *("ResourceConflictException", "AlreadyExistsException", "EntityAlreadyExists", "OperationAborted"),
            *("BucketAlreadyOwnedByYou", "ParameterAlreadyExists", "ResourceInUseException"),
            *("TransactionConflictException", "TransactionCanceledException"),
            *("RepositoryAlreadyExistsException", "ImageAlreadyExistsException"),
        ),
        errors.Conflict,
    ),
}
_NEXT: Mapping[type[errors.AwsError], str] = {
    errors.CredentialsRefused: _CREDENTIALS,
    errors.AccessDenied: "The credentials lack this permission.",
}
_TOKEN = "Let the role trust this job: its identity provider, audience (sts.amazonaws.com) and subject."
_ASSUMING = {
    "AccessDenied": "The role's trust policy must name these credentials, and they need sts:AssumeRole on it. Where it "
    "asks for more, say that in pointsman.toml: `external_id`, `mfa_serial` (with `--mfa CODE`).",
    "ValidationError": "Is `role_duration` longer than the role allows (an hour, where it was assumed with a role)?",
    **dict.fromkeys(("InvalidIdentityToken", "ExpiredTokenException", "IDPRejectedClaim"), _TOKEN),
}


class Wire:
    """Clients are made once per service. Region and endpoint default to botocore's own look-up (AWS_* variables).

    Many threads may send at once: clients are safe to share, making them is not, and is guarded.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        profile: str | None = None,
        role_arn: str | None = None,
        actor: str = "pointsman",
        timeout: float = 60,
        identity: Identity | None = None,
    ) -> None:
        self._region = region
        self._timeout = timeout
        self._clients: dict[str, Any] = {}
        self._lock = threading.RLock()
        role = Role(arn=role_arn) if role_arn else None
        self.identity = identity or Identity(profile=profile, role=role, actor=actor, timeout=timeout)

    @property
    def region(self) -> str:
        """The region calls go to. Raises UsageError where none is configured."""
        # botocore itself reads AWS_DEFAULT_REGION only; every other SDK reads AWS_REGION first.
        region = self._region or os.environ.get("AWS_REGION") or self._configured()
        if not region:
            raise _no_region()
        return str(region)

    def environment(self) -> dict[str, str]:
        """What a child process needs to reach the same place: the region, and credentials that are not ambient."""
        found = {"AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region}
        if not self.identity.ambient:
            keys = self._frozen()
            found |= {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
            if keys.token:
                found["AWS_SESSION_TOKEN"] = keys.token
        return found

    def _frozen(self) -> Any:
        from botocore import exceptions as theirs

        operation = Operation("sts", "GetCredentials", {}, lambda reply: reply, subject=self.identity.profile or "")
        try:
            credentials = self._open().get_credentials()
            if credentials is None:
                raise theirs.NoCredentialsError
            return credentials.get_frozen_credentials()
        except (theirs.BotoCoreError, theirs.ClientError) as error:
            _translate(error, operation)

    def warm(self, service: str) -> None:
        """Makes the service's client beside whatever else is done. What goes wrong is the first call's to tell."""

        def make() -> None:
            with suppress(Exception):
                self._client(service)

        threading.Thread(target=make, name=f"warm {service}", daemon=True).start()

    def send(self, operation: Operation[R]) -> R:
        from botocore import exceptions as theirs
        from botocore.parsers import ResponseParserError

        try:
            client = self._client(operation.service)
            method = getattr(client, _snake(operation.action))
            reply = method(**operation.parameters)
        except (theirs.BotoCoreError, theirs.ClientError, ResponseParserError, ValueError) as error:
            _translate(error, operation)
        try:
            return operation.read(reply)
        except (KeyError, TypeError, ValueError, theirs.BotoCoreError) as error:
            # A proxy's login page, say, or a stream that broke off: nothing that AWS would answer.
            raise _lost(f"an answer that is not AWS's: {error!r}", operation) from error

    def _configured(self) -> str | None:
        from botocore import exceptions as theirs

        try:
            return self.identity.region()
        except theirs.BotoCoreError as error:
            raise errors.CredentialsRefused(str(error), next=_CREDENTIALS) from error

    def _open(self) -> Any:
        from botocore import exceptions as theirs

        role = self.identity.role
        try:
            return self.identity.session(self._region or os.environ.get("AWS_REGION"))
        except theirs.ProfileNotFound as error:
            raise errors.CredentialsRefused(str(error), next=_CREDENTIALS) from error
        except (theirs.BotoCoreError, theirs.ClientError) as error:
            _translate(error, Operation("sts", "AssumeRole", {}, lambda reply: reply, subject=role.arn if role else ""))

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                asked = {"region_name": self.region, "config": client_config(self._timeout)}
                client = self._open().create_client(service, **asked)
                for listing in _LISTS if service == "lambda" else ():
                    client.meta.events.register(f"before-parse.lambda.{listing}", _decode)
                self._clients[service] = client
            return self._clients[service]


# Lists of what has no times and no bytes in it: AWS's JSON is what botocore would make of it, member by member.
_LISTS = ("ListFunctions", "ListVersionsByFunction", "ListAliases")


def _decode(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_more: object) -> None:
    """Decodes a list before botocore does: of 20,000 versions that saves seconds. What is no JSON is left to it."""
    if response_dict["status_code"] != 200:
        return
    body = response_dict["body"]
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if isinstance(found, dict):
        customized_response_dict.update(_without_nulls(found) if b"null" in body else found)
        response_dict["body"] = b"{}"


def _without_nulls(value: Any) -> Any:
    """botocore leaves out what is null, and AWS sends a lot of that."""
    match value:
        case dict():
            return {key: _without_nulls(each) for key, each in value.items() if each is not None}
        case list():
            return [_without_nulls(each) for each in value]
        case _:
            return value


def _snake(action: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(action))


def _no_region() -> errors.UsageError:
    return errors.UsageError(
        "no AWS region is set", next="Set AWS_REGION, or `region` in the environment's table of pointsman.toml."
    )


def _translate(error: Exception, operation: Operation[Any]) -> NoReturn:
    from botocore import exceptions as theirs
    from botocore.parsers import ResponseParserError

    where = str(operation)
    match error:
        case theirs.ClientError():
            raise _refused(error, operation) from error
        case theirs.NoRegionError():
            raise _no_region() from error
        case theirs.NoCredentialsError() | theirs.PartialCredentialsError() | theirs.CredentialRetrievalError():
            raise errors.CredentialsRefused(str(error), where=where, next=_CREDENTIALS) from error
        case theirs.TokenRetrievalError() | theirs.SSOError() | theirs.ProfileNotFound():
            raise errors.CredentialsRefused(str(error), where=where, next=_CREDENTIALS) from error
        case theirs.EndpointConnectionError() | theirs.ConnectTimeoutError() | theirs.ProxyConnectionError():
            next_ = "Is the endpoint right (AWS_ENDPOINT_URL, region) and the network up?"
            raise errors.Unreachable(str(error), where=where, next=next_) from error
        case theirs.HTTPClientError() | theirs.ResponseStreamingError():
            raise _lost(str(error), operation) from error
        case ResponseParserError():
            raise _lost(f"an answer that is not AWS's: {error}", operation) from error
        case _:
            raise errors.InvalidRequest(str(error), where=where) from error


def _lost(what: str, operation: Operation[Any]) -> errors.AwsError:
    next_ = "It may have taken effect: `pointsman resume` looks, and goes on from there." if operation.mutates else ""
    return errors.Ambiguous(what, where=str(operation), next=next_)


def _refused(error: Any, operation: Operation[Any]) -> errors.AwsError:
    signing_in = getattr(error, "operation_name", "") if operation.action != "AssumeRole" else ""
    if signing_in in ("AssumeRole", "AssumeRoleWithWebIdentity"):  # when credentials are renewed, amid another call
        operation = Operation("sts", signing_in, {}, operation.read, subject=operation.subject)
    told = error.response.get("Error", {})
    code, what = str(told.get("Code", "")), str(told.get("Message") or error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status >= 500 and _BY_CODE.get(code) is not errors.Throttled:
        return _lost(f"{code or status}: {what}", operation)
    kind = _BY_CODE.get(code)
    if kind is None:
        by_status = {404: errors.NotFound, 412: errors.PreconditionFailed, 429: errors.Throttled}
        kind = by_status.get(status, errors.InvalidRequest)
    if code == "TransactionCanceledException":  # a list of reasons, one for each of its items
        if "ConditionalCheckFailed" in what:
            kind = errors.PreconditionFailed
        elif any(reason in what for reason in ("ThrottlingError", "ProvisionedThroughputExceeded")):
            kind = errors.Throttled
    if code == "ValidationError" and "does not exist" in what:  # CloudFormation's way to say 404
        kind = errors.NotFound
    next_ = _NEXT.get(kind, "")
    if kind is errors.AccessDenied:
        called = f"{operation.service}:{operation.action}"
        need = permissions.CALLS.get(called)
        actions = " and ".join(need.actions) if need and need.actions else called
        next_ = f"The credentials need {actions} on {operation.subject or 'it'}."
    if kind is errors.NotFound:
        next_ = "`pointsman versions` and `pointsman status` show what there is."
    if operation.action.startswith("AssumeRole"):
        next_ = _ASSUMING.get(code, next_)
    if code == "CodeStorageExceededException":
        next_ = "Old versions fill the account's code storage (75 GB by default): delete some, or ask AWS for more."
    if operation.service == "lambda" and re.search(r"at 'runtime' failed|runtime parameter of \S+ is no longer", what):
        next_ = f"Correct `runtime` of the function in pointsman.toml. AWS lists those it has: {runtimes.PAGE}"
    return kind(what, where=str(operation), next=next_, aws_code=code)
