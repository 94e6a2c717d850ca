"""As whom calls are made: a profile, a role assumed with it, or a CI job's own identity. One for all regions.

Credentials are fetched once, and again before they expire: a rollout may outlive them. With `wire`, the only importer
of botocore, where it is first needed; what it raises here is botocore's, and `wire` translates it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from copy import copy
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from pointsman import __version__
from pointsman.aws import oidc
from pointsman.errors import CredentialsRefused, UsageError
from pointsman.model import Value

if TYPE_CHECKING:
    from botocore.config import Config

SERVICES = (
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


def partition(region: str) -> str:
    """Of AWS ("aws", "aws-cn"), by the pattern of its regions' names. Raises UsageError for a name that fits none."""
    import botocore.session
    from botocore.exceptions import UnknownRegionError

    try:
        return str(botocore.session.Session().get_partition_for_region(region))
    except UnknownRegionError as error:
        raise UsageError(
            f"AWS has no region {region!r}", where="--region", next="Nothing was changed. Such as eu-west-1."
        ) from error


class Role(Value, frozen=True, kw_only=True):
    """A role to assume, and what its trust policy asks for. `duration`: of its credentials, in seconds."""

    arn: str
    external_id: str | None = None
    mfa_serial: str | None = None
    duration: float | None = None
    token_file: str | None = None


class Identity:
    """`code` is asked for the MFA device's code, with a sentence that says which. Many threads may ask at once."""

    def __init__(
        self,
        *,
        profile: str | None = None,
        role: Role | None = None,
        actor: str = "pointsman",
        code: Callable[[str], str] | None = None,
        timeout: float = 60,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.profile = profile
        self.role = role
        self.account = ""  # once it is known: by an answer of AWS
        self.lock = threading.RLock()
        self._actor = actor
        self.code = code or _nobody
        self._timeout = timeout
        self._environ = os.environ if environ is None else environ
        self._session: Any = None

    @property
    def ambient(self) -> bool:
        """Whether a child process has the same credentials anyway."""
        return self.profile is None and self.role is None

    def session(self, region: str | None = None) -> Any:
        """A botocore session that acts as this; signed in by the time it is returned. `region`: of STS."""
        from botocore.credentials import CredentialResolver

        with self.lock:
            if self._session is None:
                made = self._begin()
                # A job that signed in as this very role (by OIDC) is it already; few roles may assume themselves.
                if self.role and self.role.arn != self._environ.get("AWS_ROLE_ARN"):
                    made.register_component("credential_provider", CredentialResolver([self._assume(region)]))
                self._session = made
            return self._session

    def region(self) -> str | None:
        """As botocore is configured, by the profile for one; nobody is signed in for that."""
        with self.lock:
            region: str | None = (self._session or self._begin()).get_config_variable("region")
            return region

    def _begin(self) -> Any:
        """A CI machine has nobody's ~/.aws/config: where it lacks the profile, the job's own credentials serve."""
        made = _session(self.profile)
        if self.profile and self._environ.get("CI"):
            made = _session(None)
            if self.profile in made.available_profiles:
                made = _session(self.profile)
            else:
                self.profile = None
        paths = made.get_config_variable("data_path") or ""
        made.register_component("data_loader", _loader(tuple(each for each in paths.split(os.pathsep) if each)))
        made.get_config_variable("region")  # reads the profile now: a wrong one is named here
        return made

    def _assume(self, region: str | None) -> _Assumed:
        """By the job's token where that is all there is, or where the job's keys may not; else by those credentials."""
        from botocore.exceptions import ClientError

        assert self.role is not None
        token = oidc.source(self._environ, self.role.token_file)
        if self.role.token_file or (token and self.profile is None and oidc.first(self._environ)):
            assert token is not None, "a file is a source"
            return _Assumed(self._by_token(token, region), "assume-role-with-web-identity")
        try:
            return _Assumed(self._by_keys(region), "assume-role")
        except ClientError as refused:
            if token is None or refused.response.get("Error", {}).get("Code") != "AccessDenied":
                raise
            try:
                return _Assumed(self._by_token(token, region), "assume-role-with-web-identity")
            except ClientError:
                raise refused from None  # the token is for another role: what was asked first is what matters

    def _by_keys(self, region: str | None) -> Callable[[], Mapping[str, Any]]:
        from botocore import credentials as theirs
        from botocore.exceptions import NoCredentialsError

        assert self.role is not None
        began = self._begin()
        keys = began.get_credentials()
        if keys is None:
            raise NoCredentialsError
        asked = {"ExternalId": self.role.external_id, "SerialNumber": self.role.mfa_serial}
        fetcher = theirs.AssumeRoleCredentialFetcher(
            partial(began.create_client, region_name=region, config=client_config(self._timeout)),
            keys,
            self.role.arn,
            extra_args={**self._said(), **{key: value for key, value in asked.items() if value}},
            mfa_prompter=lambda _prompt: self._mfa(),
        )
        return fetcher.fetch_credentials  # type: ignore[no-any-return]

    def _by_token(self, token: oidc.Token, region: str | None) -> Callable[[], Mapping[str, Any]]:
        from botocore import credentials as theirs

        assert self.role is not None
        fetcher = theirs.AssumeRoleWithWebIdentityCredentialFetcher(
            partial(self._begin().create_client, region_name=region, config=client_config(self._timeout)),
            token,
            self.role.arn,
            extra_args=self._said(),
        )
        return fetcher.fetch_credentials  # type: ignore[no-any-return]

    def _said(self) -> dict[str, Any]:
        assert self.role is not None
        said: dict[str, Any] = {"RoleSessionName": _session_name(self._actor)}
        return {**said, "DurationSeconds": int(self.role.duration)} if self.role.duration else said

    def _mfa(self) -> str:
        assert self.role is not None
        return self.code(f"MFA code of {self.role.mfa_serial}")


def _nobody(device: str) -> str:
    raise CredentialsRefused(
        f"the {device} is asked for", where="signing in to AWS", next="Give it: `--mfa CODE`, or POINTSMAN_MFA_CODE."
    )


class _Assumed:
    """Credentials of a role as botocore takes them from a provider: fetched now, and anew before they expire."""

    CANONICAL_NAME = None

    def __init__(self, fetch: Callable[[], Mapping[str, Any]], method: str) -> None:
        from botocore import credentials as theirs

        self.METHOD = method
        self._credentials = theirs.RefreshableCredentials.create_from_metadata(
            metadata=fetch(), refresh_using=fetch, method=method
        )

    def load(self) -> Any:
        return self._credentials


def client_config(timeout: float) -> Config:
    """As all clients are made; `timeout` in seconds, for an answer."""
    from botocore.config import Config

    return Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=min(10, timeout),
        read_timeout=timeout,
        user_agent_extra=f"pointsman/{__version__}",
        s3={"addressing_style": "auto"},
        max_pool_connections=20,  # a release of several functions talks in parallel
    )


def _session(profile: str | None) -> Any:
    import botocore.session

    return botocore.session.Session(profile=profile, event_hooks=copy(_hooks()), include_builtin_handlers=False)


@cache
def _hooks() -> Any:
    """What botocore itself hears of its calls. To enter it takes 10 ms; a copy for each session, 1 ms."""
    import botocore.session
    from botocore.hooks import HierarchicalEmitter

    heard = HierarchicalEmitter()
    botocore.session.Session(event_hooks=heard)
    return heard


@cache
def _loader(folders: tuple[str, ...]) -> Any:
    """One for all sessions: every account and region reads the same descriptions of the services, 40 ms of them."""
    from botocore.loaders import Loader

    lock = threading.RLock()

    class Few(Loader):  # type: ignore[misc]  # botocore has no types
        """Without its survey of all 400 services, made twice for every client: 10 ms of a command."""

        def list_available_services(self, _type_name: str) -> list[str]:
            return list(SERVICES)

        def load_service_model(self, *asked: Any, **more: Any) -> Any:
            with lock:  # it mends what it read, in place
                return super().load_service_model(*asked, **more)

    return Few(extra_search_paths=list(folders))


def _session_name(actor: str) -> str:
    return "".join(c if c.isalnum() or c in "+=,.@-" else "-" for c in actor)[:64] or "pointsman"


__all__ = ["SERVICES", "Identity", "Role", "client_config", "partition"]
