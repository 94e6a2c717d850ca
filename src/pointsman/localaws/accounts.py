"""Who calls: the account behind an access key, and the sessions that STS gives out.

Twelve digits are the key of their account, whoever they are; any other key that moto did not give out is of the default
account. But a session's key (ASIA...) must be one of ours, with its own token, and not expired: a key from elsewhere
would otherwise work in the wrong account.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pointsman.localaws.control import ACCOUNT

_ACCOUNT: Final = re.compile(r"\d{12}")

GIVES_KEYS: Final = frozenset(
    {
        "AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "CreateAccessKey", "GetFederationToken",
        "GetSessionToken",
    }
)  # fmt: skip
"""What they answered must be known after a kill, too: whoever got a key goes on using it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`arn` is None for the account itself (its root)."""

    account: str
    arn: str | None = None


class KeyRefused(Exception):
    """The key is of no session here, or its token is another; `expired`: it was one."""

    def __init__(self, *, expired: bool) -> None:
        super().__init__(f"The security token included in the request is {'expired' if expired else 'invalid'}.")
        self.expired = expired


@dataclass(frozen=True, slots=True)
class _Session:
    caller: Caller
    token: str
    expires: datetime


class Callers:
    """`find` needs moto to be loaded, `at_once` does not."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._sessions: dict[str, _Session] = {}

    def at_once(self, key: str | None, token: str | None) -> Caller | None:
        """None: only moto can tell."""
        if key is None or not key.startswith(("AKIA", "ASIA")):
            return Caller(key if key is not None and _ACCOUNT.fullmatch(key) else ACCOUNT)
        return self._admitted(session, token) if (session := self._sessions.get(key)) is not None else None

    def find(self, key: str, token: str | None) -> Caller:
        from moto.iam.models import iam_backends

        if key.startswith("ASIA"):
            session = _session(key)
            if session is None:
                raise KeyRefused(expired=False)
            self._sessions[key] = session
            return self._admitted(session, token)
        for account, partitions in list(iam_backends.items()):
            for backend in list(partitions.values()):
                if key in backend.access_keys:
                    user = backend.get_user_from_access_key_id(key)
                    return Caller(account, None if user is None else user.arn)
        return Caller(ACCOUNT)

    def _admitted(self, session: _Session, token: str | None) -> Caller:
        if token != session.token:
            raise KeyRefused(expired=False)
        if self._now() >= session.expires:
            raise KeyRefused(expired=True)
        return session.caller


def _session(key: str) -> _Session | None:
    from moto.sts.models import sts_backends

    for account, partitions in list(sts_backends.items()):
        for backend in list(partitions.values()):
            if (found := backend.get_assumed_role_from_access_key(key)) is not None:
                return _Session(Caller(account, found.arn), found.session_token, _naive(found.expiration))
    return None


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)
