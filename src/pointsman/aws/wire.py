"""The botocore transport: sends an operation, translates every failure. The only importer of botocore.

botocore's own retries are off: a lost answer to a mutating call must reach `execute` as `Ambiguous`.
It is brought in where it is first needed: that takes as long as all else of a command's start, and `Wire.warm` does it
while somebody else is waited for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from pointsman import __version__, errors
from pointsman.aws.operation import Operation, R

if TYPE_CHECKING:
    from botocore.config import Config

_SERVICES = (
    "cloudformation",
    "cloudtrail",
    "ecr",
    "cloudwatch",
    "dynamodb",
    "iam",
    "lambda",
    "s3",
    "ssm",
    "sts",
    "sso",
    "sso-oidc",
    "signin",
    *("apigateway", "apigatewayv2", "cloudfront", "cognito-idp", "events", "pipes", "scheduler", "sns"),
    "stepfunctions",
)  # those we call, or sign in with
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
    ) -> None:
        self._region = region
        self._profile = profile
        self._role_arn = role_arn
        self._actor = actor
        self._timeout = timeout
        self._clients: dict[str, Any] = {}
        self._session: Any = None
        self._lock = threading.RLock()

    @property
    def region(self) -> str:
        """The region calls go to. Raises UsageError where none is configured."""
        # botocore itself reads AWS_DEFAULT_REGION only; every other SDK reads AWS_REGION first.
        region = self._region or os.environ.get("AWS_REGION") or self._open().get_config_variable("region")
        if not region:
            raise _no_region()
        return str(region)

    def environment(self) -> dict[str, str]:
        """What a child process needs to reach the same place: the region, and credentials that are not ambient."""
        found = {"AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region}
        if self._profile or self._role_arn:
            keys = self._frozen()
            found |= {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
            if keys.token:
                found["AWS_SESSION_TOKEN"] = keys.token
        return found

    def _frozen(self) -> Any:
        from botocore import exceptions as theirs

        operation = Operation("sts", "GetCredentials", {}, lambda reply: reply, subject=self._profile or "")
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

    def _open(self) -> Any:
        from botocore import exceptions as theirs

        with self._lock:
            if self._session is None:
                try:
                    self._session = self._begin()
                    paths = self._session.get_config_variable("data_path") or ""
                    loader = _loader([each for each in paths.split(os.pathsep) if each])
                    self._session.register_component("data_loader", loader)
                    self._session.get_config_variable("region")  # reads the profile now: a wrong one is named here
                except theirs.ProfileNotFound as error:
                    raise errors.CredentialsRefused(str(error), next=_CREDENTIALS) from error
                # A job that signed in as this very role (by OIDC) is it already; few roles may assume themselves.
                if self._role_arn and self._role_arn != os.environ.get("AWS_ROLE_ARN"):
                    self._assume(self._role_arn)
            return self._session

    def _begin(self) -> Any:
        """A CI machine has nobody's ~/.aws/config: where it lacks the profile, the job's own credentials serve."""
        import botocore.session

        if self._profile and os.environ.get("CI"):
            session = botocore.session.Session()
            if self._profile not in session.available_profiles:
                self._profile = None
                return session
        return botocore.session.Session(profile=self._profile)

    def _assume(self, role_arn: str) -> None:
        """From here on act as the role: its temporary credentials replace the session's."""
        from botocore import exceptions as theirs

        region = self._region or os.environ.get("AWS_REGION")
        sts = self._session.create_client("sts", region_name=region, config=self._config())
        operation = Operation("sts", "AssumeRole", {}, lambda reply: reply, subject=role_arn)
        try:
            reply = sts.assume_role(RoleArn=role_arn, RoleSessionName=_session_name(self._actor))
        except (theirs.BotoCoreError, theirs.ClientError) as error:
            _translate(error, operation)
        keys = reply["Credentials"]
        self._session.set_credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])

    def _config(self) -> Config:
        from botocore.config import Config

        return Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=min(10, self._timeout),
            read_timeout=self._timeout,
            user_agent_extra=f"pointsman/{__version__}",
            s3={"addressing_style": "auto"},
            max_pool_connections=20,  # a release of several functions talks in parallel
        )

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                client = self._open().create_client(service, region_name=self.region, config=self._config())
                for listing in _LISTS if service == "lambda" else ():
                    client.meta.events.register(f"before-parse.lambda.{listing}", _decode)
                self._clients[service] = client
            return self._clients[service]


def _loader(folders: list[str]) -> Any:
    from botocore.loaders import Loader

    class Few(Loader):  # type: ignore[misc]  # botocore has no types
        """Without its survey of all 400 services, made twice for every client: 10 ms of a command."""

        def list_available_services(self, _type_name: str) -> list[str]:
            return list(_SERVICES)

    return Few(extra_search_paths=folders)


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


def _session_name(actor: str) -> str:
    return "".join(c if c.isalnum() or c in "+=,.@-" else "-" for c in actor)[:64] or "pointsman"


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
        next_ = f"The credentials need {operation.service}:{operation.action} on {operation.subject or 'it'}."
    if kind is errors.NotFound:
        next_ = "`pointsman versions` and `pointsman status` show what there is."
    if code == "CodeStorageExceededException":
        next_ = "Old versions fill the account's code storage (75 GB by default): delete some, or ask AWS for more."
    return kind(what, where=str(operation), next=next_, aws_code=code)
