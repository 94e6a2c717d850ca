"""What EventBridge's rules and schedules reach: our Lambda; moto's queues, topics, state machines, log groups."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import uuid4

from moto.core.exceptions import ServiceException
from moto.core.utils import unix_time_millis
from moto.events import notifications
from moto.events.exceptions import ValidationException
from moto.events.models import EventPattern, EventsBackend, Rule, events_backends
from werkzeug.exceptions import HTTPException

from pointsman.localaws.delivery import words_of
from pointsman.localaws.event_inputs import InputError, Json, compact, complaint, input_of, iso
from pointsman.localaws.lambda_ import LambdaError
from pointsman.localaws.moto_lambda import Invoke

log = logging.getLogger(__name__)

_theirs = Rule.send_to_targets


def put_rules_right(invoke: Invoke) -> None:
    """moto's rules refuse Lambda, SNS and Step Functions, ignore Input, and take a schedule for "every event"."""

    def send_to_targets(self: Any, original_event: Any, transform_input: bool = True) -> None:
        if self.state != "DISABLED" and self.event_pattern.dump() and self.event_pattern.matches_event(original_event):
            send(invoke, self, original_event, transform_input=transform_input)

    def notify(account_id: str, fn_arn: str, event: Any) -> None:
        with said_in_the_log(fn_arn):
            reach(invoke, account_id, fn_arn, compact(event), name=str(uuid4()))

    def put_targets(self: Any, name: str, event_bus_arn: str | None, targets: list[Json]) -> None:
        if said := next(filter(None, map(complaint, targets)), None):
            raise ValidationException(said)
        _put_targets(self, name, event_bus_arn, targets)

    _put_targets = EventsBackend.put_targets
    cast(Any, EventsBackend).put_targets = put_targets
    notifications._invoke_lambda = notify
    cast(Any, Rule).send_to_targets = send_to_targets


def send(invoke: Invoke, rule: Any, event: Json, *, transform_input: bool = True) -> None:
    """To every target, as moto has events: `time` perhaps a number, and an `ingestion-time`. Patterns do not count."""
    shown = {key: value for key, value in event.items() if key != "ingestion-time"}
    if isinstance(shown.get("time"), int | float):
        shown["time"] = iso(shown["time"])
    for target in list(rule.targets):
        arn = target["Arn"]
        with said_in_the_log(f"rule {rule.name} to {arn}"):
            if ":api-destination/" in arn:
                raise NotImplementedError("the local AWS does not call API destinations")
            if arn.split(":")[2] == "events":  # buses and archives are moto's affair
                alone = copy.copy(rule)
                alone.targets, alone.event_pattern = [target], EventPattern.load(None)
                _theirs(alone, cast(Any, event), transform_input)
                continue
            body = input_of(
                target, shown, rule_name=rule.name, rule_arn=rule.arn, ingested=event.get("ingestion-time", 0)
            )
            group = target.get("SqsParameters", {}).get("MessageGroupId")
            reach(invoke, rule.account_id, arn, body, name=f"{event['id']}_{uuid4()}", group=group)


def reach(invoke: Invoke, caller: str, arn: str, body: str, *, name: str, group: str | None = None) -> None:
    """Deliver without waiting for what comes of it; `name` is what an execution is called.

    Raises for what is not there, or not served.
    """
    _, _, service, region, account, resource = arn.split(":", 5)
    match service:
        case "lambda":
            invoke(caller, region, arn, body.encode(), invocation_type="Event")
        case "sqs":
            from moto.sqs.models import sqs_backends

            sqs_backends[account][region].send_message(resource, body, group_id=group)
        case "sns":
            from moto.sns.models import sns_backends

            sns_backends[account][region].publish(body, arn=arn)
        case "states":
            from moto.stepfunctions.responses import get_backend

            get_backend(account, region).start_execution(arn, name, body)
        case "logs" if resource.startswith("log-group:"):
            from moto.logs.models import logs_backends

            log_group, stream = resource.split(":")[1], str(uuid4())
            logs = logs_backends[account][region]
            logs.create_log_stream(log_group, stream)
            logs.put_log_events(log_group, stream, [{"timestamp": int(unix_time_millis()), "message": body}])
        case _:
            raise NotImplementedError(f"the local AWS does not reach {service} from EventBridge")


def put_event(bus_arn: str, parameters: Json, detail: str) -> None:
    _, _, _, region, account, bus = bus_arn.split(":", 5)
    event = {**parameters, "Detail": detail, "EventBusName": bus.removeprefix("event-bus/")}
    for answer in events_backends[account][region].put_events([event]):
        if "ErrorCode" in answer:
            raise InputError(f"{answer['ErrorCode']}: {answer['ErrorMessage']}")


@contextmanager
def said_in_the_log(way: str) -> Iterator[None]:
    """AWS does not tell who put an event, or made a schedule, that it could not be delivered."""
    try:
        yield
    except (
        LambdaError,
        InputError,
        NotImplementedError,
        ServiceException,
        HTTPException,
    ) as error:  # moto has both kinds
        log.warning("EventBridge could not deliver, %s: %s", way, words_of(error))
