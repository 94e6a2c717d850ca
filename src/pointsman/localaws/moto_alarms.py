"""What alarms do when their state changes: moto's SNS and EventBridge, and our Lambda, are told."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any, cast
from uuid import uuid4

from pointsman.localaws.cloudwatch.notices import Notice, alarm_data, lambda_event, sns_message, subject
from pointsman.localaws.moto_bridge import MotoBridge


class AlarmActions:
    def __init__(self, moto: MotoBridge) -> None:
        self._moto = moto

    def act(self, action: str, notice: Notice) -> None:
        """Raises for what cannot be done."""
        _, _, service, region, account, *_ = action.split(":", 5)
        if service == "lambda":
            payload = json.dumps(lambda_event(notice)).encode()
            self._moto.invoke(account, region, action, payload, invocation_type="Event")
        elif service == "sns":
            snapshots = self._moto.load()
            from moto.sns.models import sns_backends

            title = _region_title(notice.region)
            message = json.dumps(sns_message(notice, title))
            with snapshots.request(writes=True):
                sns_backends[account][region].publish(message, subject=subject(notice, title), arn=action)
        else:
            raise NotImplementedError(f"The local CloudWatch does not act on {service}.")

    def announce(self, notice: Notice) -> None:
        """To the rules of EventBridge's default bus."""
        snapshots = self._moto.load()
        from moto.events.models import events_backends

        event = {
            "version": "0",
            "id": str(uuid4()),
            "detail-type": "CloudWatch Alarm State Change",
            "source": "aws.cloudwatch",
            "account": notice.account,
            "time": notice.after.since,
            "ingestion-time": notice.after.since,
            "region": notice.region,
            "resources": [notice.arn],
            "detail": alarm_data(notice),
        }
        bus = events_backends[notice.account][notice.region].event_buses["default"]
        rules = [rule for rule in list(bus.rules.values()) if rule.state == "ENABLED"]
        if rules:
            with snapshots.request(writes=True):
                for rule in rules:
                    rule.send_to_targets(cast(Any, copy.deepcopy(event)))  # moto rewrites the time in it


@cache
def _region_title(region: str) -> str:
    """As AWS writes it to people: EU (Ireland)."""
    from botocore.session import get_session

    for partition in get_session().get_data("endpoints")["partitions"]:
        if region in partition["regions"]:
            return str(partition["regions"][region]["description"]).replace("Europe (", "EU (")
    return region
