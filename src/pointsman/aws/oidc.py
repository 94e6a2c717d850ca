"""The identity a CI job has by itself: an OIDC token of its CI system, which AWS takes for a role that trusts it.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

from pointsman.errors import CredentialsRefused

Token = Callable[[], str]

_AUDIENCE = "sts.amazonaws.com"
_PATIENCE_S = 20
_VARIABLES = (
    # https://docs.gitlab.com/ci/secrets/id_token_authentication/: the job names it; `pointsman ci gitlab` so
    *("AWS_TOKEN", "GITLAB_OIDC_TOKEN"),
    # https://circleci.com/docs/openid-connect-tokens/
    *("CIRCLE_OIDC_TOKEN_V2", "CIRCLE_OIDC_TOKEN"),
    # https://support.atlassian.com/bitbucket-cloud/docs/deploy-on-aws-using-bitbucket-pipelines-openid-connect/
    "BITBUCKET_STEP_OIDC_TOKEN",
)
_OWN = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI")


def source(environ: Mapping[str, str], file: str | None = None) -> Token | None:
    """How to get the job's token, each time anew; None where the job has no identity. Raises nothing itself."""
    if path := file or environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return lambda: _of_file(path)
    if environ.get("ACTIONS_ID_TOKEN_REQUEST_URL") and environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
        return lambda: _of_github(environ)
    name = next((each for each in _VARIABLES if environ.get(each)), None)
    return (lambda: environ[name]) if name else None


def first(environ: Mapping[str, str]) -> bool:
    """Whether nothing else signs the job in: no keys, no profile, no role that botocore takes a token for."""
    signed_in = environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN")
    return not signed_in and not any(environ.get(each) for each in _OWN)


def _of_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise CredentialsRefused(
            f"the OIDC token in {path} cannot be read: {getattr(error, 'strerror', error)}",
            where="signing in to AWS",
            next="Let the job write it there, or correct `web_identity_token_file` (or AWS_WEB_IDENTITY_TOKEN_FILE).",
        ) from error


def _of_github(environ: Mapping[str, str]) -> str:
    """https://docs.github.com/en/actions/reference/security/oidc"""
    url = environ["ACTIONS_ID_TOKEN_REQUEST_URL"]
    url += f"{'&' if '?' in url else '?'}audience={quote(_AUDIENCE)}"
    said = ""
    try:
        if not url.startswith(("https://", "http://")):
            raise ValueError("no address")
        headers = {"Authorization": f"bearer {environ['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_PATIENCE_S) as reply:
            return str(json.load(reply)["value"])
    except urllib.error.HTTPError as error:
        said = f"HTTP {error.code}"
    except (OSError, HTTPException) as error:  # URLError and TimeoutError are OSErrors
        said = str(getattr(error, "reason", error))
    except (KeyError, TypeError, ValueError):
        said = "an answer without a token"
    raise CredentialsRefused(
        f"GitHub gives no OIDC token: {said}",
        where="signing in to AWS",
        next="The job needs `permissions: id-token: write`; run it again if GitHub is only busy.",
    )


__all__ = ["Token", "first", "source"]
