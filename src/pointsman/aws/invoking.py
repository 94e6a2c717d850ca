"""Calling a function: Lambda's data plane, which has no share in the control plane's 15 calls a second."""

from __future__ import annotations

import base64
import json
import re

from pointsman.aws.sending import Reply, Sender
from pointsman.model import Value, Version

_DURATION = re.compile(r'(?:\tDuration: |"durationMs":\s*)([0-9.]+)')  # of REPORT, or of platform.report in JSON logs
_INIT = re.compile(r'\tInit Duration: |"initDurationMs":')


class Invoked(Value, frozen=True, kw_only=True):
    """What came of one call.

    `executed`: the version that ran. `error`: the function's own, as "ValueError: no such order", "" where it answered.
    `ms`: how long its code ran by Lambda's own measure, None where the end of the log does not tell. `cold`: its
    environment was started for this call.
    """

    executed: Version
    error: str = ""
    ms: float | None = None
    cold: bool = False


class Invoking(Sender):
    def invoke(self, function: str, qualifier: str, payload: bytes) -> Invoked:
        """Call and wait for the answer. It mutates: what the function's code does, nobody knows here.

        Raises AwsError where the function was not reached, or nobody can tell: throttled, refused, no answer.
        https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
        """
        return self._send(
            "Invoke",
            _invoked,
            mutates=True,
            subject=f"{function}:{qualifier}",
            FunctionName=function,
            Qualifier=qualifier,
            Payload=payload,
            LogType="Tail",
        )


def _invoked(reply: Reply) -> Invoked:
    answer = reply["Payload"].read()  # always: a connection that is not read to the end cannot be used again
    log = base64.b64decode(reply.get("LogResult", "")).decode(errors="replace")
    durations = _DURATION.findall(log)
    return Invoked(
        executed=Version(reply["ExecutedVersion"]),
        error=_why(answer) if reply.get("FunctionError") else "",
        ms=float(durations[-1]) if durations else None,
        cold=bool(_INIT.search(log)),
    )


def _why(answer: bytes) -> str:
    try:
        told = json.loads(answer)
        kind, message = told.get("errorType", "error"), told.get("errorMessage", "")
    except (ValueError, AttributeError):
        kind, message = "error", answer.decode(errors="replace")
    return f"{kind}: {message}"[:200]


__all__ = ["Invoked", "Invoking"]
