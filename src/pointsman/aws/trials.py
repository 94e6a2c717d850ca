"""What the credentials may do, found out without IAM: calls that read, and calls that cannot succeed.

Where nobody may ask iam:SimulatePrincipalPolicy, AWS is asked the thing itself. It checks permissions first, so a
refusal of any other kind means yes. Writes are sent so that they change nothing whatever happens: with a revision id
that no function ever has (412), or as the dry run that UpdateFunctionCode knows.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

from pointsman.aws.sending import Sender, nothing
from pointsman.errors import AccessDenied, AwsError, CredentialsRefused, InvalidRequest, NotFound, PreconditionFailed

_NO_REVISION = "00000000-0000-0000-0000-000000000000"
_ANSWERED = (NotFound, InvalidRequest, PreconditionFailed)


class Trials(Sender):
    def tried(self, function: str, alias: str, *, writes: bool) -> dict[str, bool | None]:
        """IAM action → whether it is allowed; None where the answer told nothing. `writes`: the function is there."""
        of = {"FunctionName": function}
        found = {
            action: self._try(action, **parameters)
            for action, parameters in {
                "GetFunction": of,
                "GetAlias": {**of, "Name": alias},
                "ListAliases": of,
                "ListVersionsByFunction": of,
                "GetAccountSettings": {},
            }.items()
        }
        if writes:
            never = {**of, "RevisionId": _NO_REVISION}
            found["UpdateFunctionCode"] = self._try("UpdateFunctionCode", **of, ZipFile=_a_zip(), DryRun=True)
            found["UpdateFunctionConfiguration"] = self._try("UpdateFunctionConfiguration", **never)
            found["PublishVersion"] = self._try("PublishVersion", **never)
            found["UpdateAlias"] = self._try("UpdateAlias", **never, Name=alias)
        return {f"lambda:{action}": allowed for action, allowed in found.items()}

    def _try(self, action: str, **parameters: Any) -> bool | None:
        try:
            self._send(action, nothing, subject=str(parameters.get("FunctionName", "")), **parameters)
        except AccessDenied:
            return False
        except CredentialsRefused:
            raise
        except _ANSWERED:
            return True
        except AwsError:
            return None
        return True


def _a_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.py", "")
    return packed.getvalue()


__all__ = ["Trials"]
