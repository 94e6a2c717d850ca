"""The code that Lambda keeps, and whose stack a function is part of."""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.aws.sending import Sender
from pointsman.errors import Unreachable

_PATIENCE_S = 60


class Packages(Sender):
    def code(self, name: str, qualifier: str | None = None) -> bytes | None:
        """The zip as it was given to Lambda, from where GetFunction says; None for a function that is not there.

        https://docs.aws.amazon.com/lambda/latest/api/API_FunctionCodeLocation.html: an address good for ten minutes
        """
        address = self._or_none(
            "GetFunction",
            lambda reply: str(reply["Code"].get("Location", "")),
            subject=name,
            FunctionName=name,
            Qualifier=qualifier,
        )
        return _get(address, name) if address else None

    def tags(self, name: str) -> Mapping[str, str]:
        """The function's tags, by which CloudFormation says what is its own. Empty where there is no such function."""
        found = self._or_none(
            "GetFunction", lambda reply: dict(reply.get("Tags") or {}), subject=name, FunctionName=name
        )
        return found or {}


def _get(address: str, name: str) -> bytes:
    import urllib.error
    import urllib.request

    if not address.startswith(("https://", "http://")):
        raise Unreachable(f"Lambda gives no address for the code of {name}", where="fetching its code")
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE_S) as reply:  # the scheme was looked at
            found: bytes = reply.read()
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        # Never the address itself: it is signed, and good for whoever reads the log.
        raise Unreachable(
            f"the code of {name}: {getattr(error, 'reason', error)}", where="fetching its code"
        ) from error
    return found
