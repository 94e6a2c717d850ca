"""CloudTrail's event history: who called what, of the last 90 days. One region and account at a time.

https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html: two calls a second, 50 events each,
newest first, up to 15 minutes late; one attribute to look by.
"""

from __future__ import annotations

import json
from typing import Any

from pointsman.aws.sending import Reply, Sender
from pointsman.model import Trace


class Trail(Sender):
    def traces(self, name: str, since: float, page: str | None = None) -> tuple[tuple[Trace, ...], str | None]:
        """Calls of that name (as CloudTrail writes it: UpdateAlias20150331), newest first; and which page is next."""
        return self._send(
            "LookupEvents",
            lambda reply: (tuple(map(_trace, reply["Events"])), reply.get("NextToken")),
            service="cloudtrail",
            subject=name,
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}],
            StartTime=since,
            NextToken=page,
        )


def _trace(event: Reply) -> Trace:
    told: dict[str, Any] = json.loads(event["CloudTrailEvent"])
    who = told.get("userIdentity") or {}
    return Trace(
        at=event["EventTime"].timestamp(),
        call=event["EventName"],
        by=event.get("Username") or str(who.get("arn") or "").rpartition(":")[2],
        asked=told.get("requestParameters") or {},
        answered=told.get("responseElements") or {},
        refused=told.get("errorCode") or "",
    )


__all__ = ["Trail"]
