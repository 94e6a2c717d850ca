"""The schedules that moto keeps: EventBridge's rules, and EventBridge Scheduler's schedules. moto never fires them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, cast
from uuid import uuid4

from pointsman.localaws.event_inputs import Json, compact, iso
from pointsman.localaws.moto_bridge import MotoBridge
from pointsman.localaws.recurrence import (
    At,
    ExpressionError,
    Recurrence,
    Within,
    ZoneError,
    parse_rule,
    parse_schedule,
    zone_of,
)

Moment = Callable[[float], float]
"""AWS's time, so many of this machine's seconds from now"""

_SOON_S: Final = 0.5
_DETAIL_TYPE: Final = "Scheduled Event"

log: Final = logging.getLogger(__name__)


class MotoSchedules:
    """A `schedules.Source`; keys are ARNs."""

    def __init__(self, moto: MotoBridge) -> None:
        self._moto = moto

    def recurrences(self) -> dict[str, Recurrence]:
        found: dict[str, Recurrence] = {}
        with self._moto.using("events", writes=False):
            for arn, recurrence in (*_of_rules(), *_of_schedules()):
                try:
                    found[arn] = recurrence()
                except ExpressionError as error:  # kept by a release of ours that did not look
                    log.warning("%s never fires: %s", arn, error)
        return found

    def fire(self, key: str, at: float) -> None:
        _, _, service, region, account, resource = key.split(":", 5)
        with self._moto.using("events", writes=True):
            if service == "events":
                self._fire_rule(account, region, resource.removeprefix("rule/"), at)
            else:
                _, group, name = resource.split("/")
                self._fire_schedule(account, region, group, name, at)

    def _fire_rule(self, account: str, region: str, name: str, at: float) -> None:
        from moto.events.models import events_backends

        from pointsman.localaws.moto_targets import send

        rule = events_backends[account][region].event_buses["default"].rules.get(name)
        if rule is None or rule.state == "DISABLED" or not rule.scheduled_expression:
            return
        whole_minute = at - at % 60
        event = _event("aws.events", account, region, rule.arn) | {"time": whole_minute, "ingestion-time": at}
        send(self._moto.invoke, rule, event)

    def _fire_schedule(self, account: str, region: str, group: str, name: str, at: float) -> None:
        from moto.scheduler.models import scheduler_backends

        from pointsman.localaws.moto_targets import put_event, reach, said_in_the_log

        found = scheduler_backends[account][region].schedule_groups.get(group)
        schedule: Any = None if found is None else found.schedules.get(name)
        if found is None or schedule is None or schedule.state != "ENABLED":
            return
        if _recurrence(schedule).next(at) is None:
            if schedule.action_after_completion == "DELETE":
                found.schedules.pop(name, None)
            else:
                schedule.completed = True
        target = schedule.target
        body = target.get("Input")
        if body is None:
            # A text, not an object: so it is on AWS.
            event = _event("aws.scheduler", account, region, schedule.arn) | {"time": iso(at), "detail": "{}"}
            body = compact(event)
        execution = str(uuid4())
        context = {"scheduled-time": iso(at), "schedule-arn": schedule.arn, "execution-id": execution}
        for attribute, value in (context | {"attempt-number": "1"}).items():
            body = body.replace(f"<aws.scheduler.{attribute}>", value)
        arn = target["Arn"]
        with said_in_the_log(f"schedule {name} to {arn}"):
            if (parameters := target.get("EventBridgeParameters")) is not None:
                put_event(arn, parameters, body)
            else:
                group_id = target.get("SqsParameters", {}).get("MessageGroupId")
                reach(self._moto.invoke, account, arn, body, name=execution, group=group_id)


def _event(source: str, account: str, region: str, arn: str) -> Json:
    return {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": _DETAIL_TYPE,
        "source": source,
        "account": account,
        "time": "",
        "region": region,
        "resources": [arn],
        "detail": {},
    }


def _of_rules() -> Iterator[tuple[str, Callable[[], Recurrence]]]:
    from moto.events.models import events_backends

    for regions in list(events_backends.values()):
        for backend in list(regions.values()):
            for rule in list(backend.event_buses["default"].rules.values()):  # no other bus has schedules
                if rule.state != "DISABLED" and rule.scheduled_expression:
                    text, since = rule.scheduled_expression, getattr(rule, "scheduled_since", 0.0)
                    yield rule.arn, partial(parse_rule, text, since)


def _of_schedules() -> Iterator[tuple[str, Callable[[], Recurrence]]]:
    from moto.scheduler.models import scheduler_backends

    for regions in list(scheduler_backends.values()):
        for backend in list(regions.values()):
            for group in list(backend.schedule_groups.values()):
                for schedule in list(group.schedules.values()):
                    if schedule.state == "ENABLED" and not getattr(schedule, "completed", False):
                        yield schedule.arn, partial(_recurrence, schedule)


def _recurrence(schedule: Any) -> Recurrence:
    start, end = schedule.start_date, schedule.end_date
    since = getattr(schedule, "scheduled_since", 0.0) if start is None else float(start)
    whole = parse_schedule(schedule.schedule_expression, zone_of(schedule.schedule_expression_timezone), since)
    if isinstance(whole, At):  # neither date counts for it on AWS
        return whole
    return Within(whole, None if start is None else float(start), None if end is None else float(end))


# --- moto is told how AWS refuses, and tells of changes ---


def have_schedules_tell(changed: Callable[[], None], moment: Moment) -> None:
    """Call `changed` after each change of what is due; `moment(ahead_s)` is AWS's time in so many of our seconds."""
    _have_rules_tell(changed, moment)
    _have_scheduler_tell(changed, moment)


def _have_rules_tell(changed: Callable[[], None], moment: Moment) -> None:
    from moto.events.exceptions import ValidationException
    from moto.events.models import EventsBackend

    def put_rule(self: Any, name: str, **given: Any) -> Any:
        text, since = given.get("scheduled_expression"), moment(0)
        if text and self._normalize_event_bus_arn(given.get("event_bus_arn")) == "default":
            try:
                parse_rule(text, since)
            except ExpressionError as error:
                raise ValidationException("Parameter ScheduleExpression is not valid.") from error
        rule: Any = _put(self, name, **given)
        rule.scheduled_since = since
        changed()
        return rule

    def enable_rule(self: Any, name: str, event_bus_arn: str | None) -> bool:
        found = _enable(self, name, event_bus_arn)
        if found:
            rule: Any = self.describe_rule(name, event_bus_arn)
            rule.scheduled_since = moment(0)
            changed()
        return found

    _put, _enable = EventsBackend.put_rule, EventsBackend.enable_rule
    cast(Any, EventsBackend).put_rule = put_rule
    cast(Any, EventsBackend).enable_rule = enable_rule
    for change in ("disable_rule", "delete_rule"):
        _then(EventsBackend, change, changed)


def _have_scheduler_tell(changed: Callable[[], None], moment: Moment) -> None:
    from moto.core.exceptions import JsonRESTError
    from moto.scheduler.exceptions import ValidationException
    from moto.scheduler.models import EventBridgeSchedulerBackend as Backend

    def refused(message: str) -> ValidationException:
        error = ValidationException(message)
        error.description = json.dumps({"Message": message})  # with a capital, unlike moto's (recorded)
        return error

    def checked(put: Callable[..., Any]) -> Callable[..., Any]:
        def checking(self: Any, **given: Any) -> Any:
            self.get_schedule_group(given["group_name"])  # or moto fails at one that is missing
            text, zone = given["schedule_expression"], given["schedule_expression_timezone"] or "UTC"
            try:
                parse_schedule(text, zone_of(zone), 0)
            except ZoneError as error:
                raise refused(f"Invalid Schedule Expression Timezone {zone}.") from error
            except ExpressionError as error:
                raise refused(f"Invalid Schedule Expression {text}.") from error
            given["state"] = given["state"] or "ENABLED"
            schedule = put(self, **given)
            schedule.completed = False
            # A rate without a start date begins at once: when it is looked for, that must be still to come.
            schedule.scheduled_since = moment(_SOON_S)
            if given["flexible_time_window"].get("Mode") == "FLEXIBLE":
                log.info("%s fires when its flexible time window begins", schedule.arn)
            changed()
            return schedule

        return checking

    def create_schedule_group(self: Any, name: str, tags: Any) -> Any:
        if name in self.schedule_groups:  # moto would forget its schedules
            raise JsonRESTError("ConflictException", f"Schedule group {name} already exists.")
        return _create_group(self, name, tags)

    def delete_schedule_group(self: Any, name: str | None) -> None:
        self.get_schedule_group(name)
        _delete_group(self, name)
        changed()

    def create_schedule(self: Any, **given: Any) -> Any:
        return _create(self, **given | {"action_after_completion": given["action_after_completion"] or "NONE"})

    _create, _create_group = Backend.create_schedule, Backend.create_schedule_group
    _delete_group = Backend.delete_schedule_group
    cast(Any, Backend).create_schedule = checked(create_schedule)
    cast(Any, Backend).update_schedule = checked(Backend.update_schedule)
    cast(Any, Backend).create_schedule_group = create_schedule_group
    cast(Any, Backend).delete_schedule_group = delete_schedule_group
    _then(Backend, "delete_schedule", changed)


def _then(kind: Any, name: str, told: Callable[[], None]) -> None:
    change = getattr(kind, name)

    def changing(*given: Any, **named: Any) -> Any:
        result = change(*given, **named)
        told()
        return result

    setattr(kind, name, changing)
