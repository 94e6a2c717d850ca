"""Alarms: what is watched, in what state it is, and one thread that judges all of them at their own moments.

An alarm is judged when a period of its metric ends, or every minute for longer periods (AWS's windows slide, too). A
state that was set by hand lasts until then. Composite alarms follow their children at once. Alarms, their states and
their history are in SQLite, and go on after a restart.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pointsman.localaws.cloudwatch.metrics import Metrics
from pointsman.localaws.cloudwatch.notices import Notice, Standing, single_query, stamp
from pointsman.localaws.cloudwatch.queries import Window, ask
from pointsman.localaws.cloudwatch.rules import RuleTree, children, holds, parse_rule
from pointsman.localaws.cloudwatch.verdicts import EXTRA, Point, Rule, State, Verdict, judge

Json: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["MetricAlarm", "CompositeAlarm"]
Act: TypeAlias = Callable[[str, Notice], None]
"""(ARN of an action, what happened); raises when it cannot be done."""

log: Final = logging.getLogger(__name__)

UNCHECKED: Final = "Unchecked: Initial alarm creation"
_ACTIONS: Final = {"OK": "OKActions", "ALARM": "AlarmActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
_HISTORY_S: Final = 30 * 86400

_SCHEMA = """
CREATE TABLE IF NOT EXISTS alarm (
    account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (account, region, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
    at REAL NOT NULL, type TEXT NOT NULL, summary TEXT NOT NULL, data TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS history_of ON history (account, region, name);
CREATE INDEX IF NOT EXISTS history_by_age ON history (at);
"""


@dataclass(frozen=True, slots=True)
class Alarm:
    account: str
    region: str
    name: str
    kind: Kind
    given: Json  # the parameters it was put with, but for its tags
    tags: dict[str, str]
    updated: float
    now: Standing
    changed: float  # when its state last became another; `now.since` also moves when only the reason does
    by_hand: bool = False
    rule: RuleTree = field(default=True, compare=False)  # of a composite alarm

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.account, self.region, self.name)

    @property
    def arn(self) -> str:
        partition = "aws-cn" if self.region.startswith("cn-") else "aws-us-gov" if "-gov-" in self.region else "aws"
        return f"arn:{partition}:cloudwatch:{self.region}:{self.account}:alarm:{self.name}"

    @property
    def queries(self) -> list[Json]:
        return list(self.given.get("Metrics") or [single_query(self.given)])

    @property
    def period(self) -> int:
        if "Period" in self.given:
            return int(self.given["Period"])
        periods = [query["MetricStat"]["Period"] for query in self.queries if "MetricStat" in query]
        watched = next(query for query in self.queries if query.get("ReturnData", True))
        return int(max([*periods, watched.get("Period", 1)]))

    def due_after(self, moment: float) -> float:
        step = min(self.period, 60)
        return (moment // step + 1) * step


@dataclass(frozen=True, slots=True)
class HistoryItem:
    id: int
    name: str
    kind: Kind
    at: float
    type: str
    summary: str
    data: str


class Alarms:
    """Thread-safe. `work` judges, and tells of changes: all by `announce`, and by `act` as alarms want it."""

    def __init__(
        self,
        file: Path,
        metrics: Metrics,
        *,
        act: Act,
        announce: Callable[[Notice], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._act = act
        self._announce = announce
        self._now = now
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
        self._db.executescript(_SCHEMA)
        self._alarms: dict[tuple[str, str, str], Alarm] = {}
        for row in self._db.execute("SELECT account, region, name, document FROM alarm"):
            alarm = _loaded(*row)
            self._alarms[alarm.key] = alarm
        metric_alarms = [alarm for alarm in self._alarms.values() if alarm.kind == "MetricAlarm"]
        self._due = {alarm.key: alarm.due_after(now()) for alarm in metric_alarms}
        self._following: set[tuple[str, str, str]] = set()
        self._notices: deque[Notice] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Work in a thread of its own, whenever there is something to do."""
        self._thread = threading.Thread(target=self._work, name="alarms", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._db.close()

    # --- what the API asks ---

    def all(self, account: str, region: str) -> list[Alarm]:
        """By name."""
        with self._changed:
            found = [alarm for alarm in self._alarms.values() if alarm.key[:2] == (account, region)]
        return sorted(found, key=lambda alarm: alarm.name)

    def get(self, account: str, region: str, name: str) -> Alarm | None:
        with self._changed:
            return self._alarms.get((account, region, name))

    def put(self, account: str, region: str, kind: Kind, given: Json, tags: dict[str, str]) -> Alarm:
        """New, or in place of one of that name, which keeps its state and its tags."""
        moment = self._now()
        with self._changed, self._writing():
            before = self._alarms.get((account, region, given["AlarmName"]))
            alarm = Alarm(
                account,
                region,
                given["AlarmName"],
                kind,
                given,
                tags if before is None else before.tags,
                moment,
                Standing("INSUFFICIENT_DATA", UNCHECKED, moment) if before is None else before.now,
                moment if before is None else before.changed,
                False if before is None else before.by_hand,
                parse_rule(given["AlarmRule"]) if kind == "CompositeAlarm" else True,
            )
            self._save(alarm)
            verb = "created" if before is None else "updated"
            self._remember(alarm, "ConfigurationUpdate", f'Alarm "{alarm.name}" {verb}', _configured(alarm, before))
            if kind == "CompositeAlarm":
                self._follow(alarm, None)
            else:
                self._due[alarm.key] = alarm.due_after(moment)
            self._changed.notify_all()
            return alarm

    def edit(self, account: str, region: str, name: str, edit: Callable[[Alarm], Alarm]) -> bool:
        """For what is neither a new state nor worth a line of history: tags, and whether actions are enabled."""
        with self._changed, self._writing():
            alarm = self._alarms.get((account, region, name))
            if alarm is not None:
                self._save(edit(alarm))
            return alarm is not None

    def delete(self, account: str, region: str, names: Sequence[str]) -> None:
        with self._changed, self._writing():
            for name in names:
                if (alarm := self._alarms.pop((account, region, name), None)) is not None:
                    self._due.pop(alarm.key, None)
                    self._db.execute("DELETE FROM alarm WHERE account = ? AND region = ? AND name = ?", alarm.key)
                    data = {"version": "1.0", "type": "Delete", "deletedAlarm": alarm.given}
                    self._remember(alarm, "ConfigurationUpdate", f'Alarm "{name}" deleted', data)

    def set_state(self, account: str, region: str, name: str, standing: tuple[State, str, str | None]) -> bool:
        """To (state, reason, its data), until the next judgement. False when there is no such alarm."""
        with self._changed, self._writing():
            alarm = self._alarms.get((account, region, name))
            if alarm is None:
                return False
            self._turn(alarm, *standing, by_hand=True)
            self._changed.notify_all()
            return True

    def history(self, account: str, region: str, name: str | None = None) -> list[HistoryItem]:
        """Of one alarm or of all, oldest first."""
        with self._changed:
            rows = self._db.execute(
                "SELECT id, name, kind, at, type, summary, data FROM history WHERE account = ?1 AND region = ?2"
                " AND (?3 IS NULL OR name = ?3) ORDER BY at, id",
                (account, region, name),
            )
            return [HistoryItem(*row) for row in rows]

    # --- states ---

    def _turn(self, alarm: Alarm, state: State, reason: str, data: str | None, *, by_hand: bool = False) -> None:
        """To a state, or to the same with another reason."""
        moment = self._now()
        after = Standing(state, reason, moment, data)
        differs = state != alarm.now.value
        turned = replace(alarm, now=after, changed=moment if differs else alarm.changed, by_hand=by_hand)
        self._save(turned)
        if not differs:
            return
        self._remember(
            alarm,
            "StateUpdate",
            f"Alarm updated from {alarm.now.value} to {state}",
            {"version": "1.0", "oldState": _standing(alarm.now), "newState": _standing(after)},
        )
        self._notices.append(Notice(*alarm.key, alarm.arn, alarm.given, alarm.updated, before=alarm.now, after=after))
        self._following.add(alarm.key)  # alarms that depend on each other in a circle must come to rest
        for other in self.all(alarm.account, alarm.region):
            if other.key not in self._following and alarm.name in map(_name, children(other.rule)):
                self._follow(other, turned)
        self._following.discard(alarm.key)

    def _follow(self, composite: Alarm, child: Alarm | None) -> None:
        """The state that its children's give a composite alarm; `child` has just changed (None: it is new itself)."""
        beside = {alarm.name: alarm for alarm in self.all(composite.account, composite.region)}

        def state_of(name: str) -> str | None:
            found = beside.get(_name(name))
            return None if found is None else found.now.value

        state: State = "ALARM" if holds(composite.rule, state_of) else "OK"
        if state == composite.now.value:
            return
        named = [beside[_name(name)] for name in children(composite.rule) if _name(name) in beside]
        causes = named if child is None else [child]
        reason = " and ".join(
            f"{cause.arn} transitioned to {cause.now.value} at "
            f"{datetime.fromtimestamp(cause.changed, UTC):%A %d %B, %Y %H:%M:%S UTC}"
            for cause in causes
        )
        data = {
            "triggeringAlarms": [
                {"arn": cause.arn, "state": {"value": cause.now.value, "timestamp": stamp(cause.changed)}}
                for cause in causes
            ]
        }
        self._turn(self._alarms[composite.key], state, reason, json.dumps(data, separators=(",", ":")))

    # --- judging ---

    def work(self) -> None:
        """Judge what is due, and tell of what has changed."""
        with self._changed:
            self._judge_due()
        self._tell_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._closing or self._notices or (patience := self._patience()) == 0):
                    self._changed.wait(patience)
            if self._closing:
                return self._tell_all()
            self.work()

    def _patience(self) -> float | None:
        """Until the next alarm is due; None without alarms."""
        return max(0.0, min(self._due.values()) - self._now()) if self._due else None

    def _judge_due(self) -> None:
        moment = self._now()
        for key, due in list(self._due.items()):
            if due <= moment:
                alarm = self._alarms[key]
                try:
                    self._judge(alarm, int(moment // min(alarm.period, 60) * min(alarm.period, 60)))
                except Exception:  # other alarms go on, and so does the thread that judges them
                    log.exception("alarm %s cannot be judged", alarm.name)
                self._due[key] = alarm.due_after(moment)

    def _judge(self, alarm: Alarm, end: int) -> None:
        """By the whole periods before `end`."""
        verdict = self._verdict(alarm, end)
        if verdict.state is not None and (verdict.state != alarm.now.value or alarm.by_hand):
            data = json.dumps(_reason_data(alarm, verdict, self._now()), separators=(",", ":"))
            with self._writing():
                self._turn(alarm, verdict.state, verdict.reason, data)

    def _verdict(self, alarm: Alarm, end: int) -> Verdict:
        period, given = alarm.period, alarm.given
        count = given["EvaluationPeriods"] + EXTRA
        moments = range(end - count * period, end, period)
        when = Window(moments.start, end, self._now(), exact=True)
        results = ask(self._metrics, alarm.account, alarm.region, alarm.queries, when)
        (result,) = (result for result in results if result.returned)
        (series,) = result.series
        samples = result.samples or {}
        points = [Point(at, series.points.get(at), samples.get(at)) for at in moments]
        rule = Rule(
            given["ComparisonOperator"],
            float(given["Threshold"]),
            given["EvaluationPeriods"],
            given.get("DatapointsToAlarm"),
            given.get("TreatMissingData", "missing"),
        )
        if given.get("EvaluateLowSampleCountPercentile") == "ignore" and _too_few(given, points):
            return Verdict(None, "", points)
        return judge(points, rule)

    def _tell_all(self) -> None:
        while self._notices:  # outside the lock: whoever is told may ask
            self._tell(self._notices.popleft())

    def _tell(self, notice: Notice) -> None:
        try:
            self._announce(notice)
        except Exception:  # whatever a rule's target makes of it; the alarm's own actions go on
            log.exception("the change of alarm %s could not be announced", notice.name)
        alarm = self.get(notice.account, notice.region, notice.name)
        if alarm is None or not alarm.given.get("ActionsEnabled", True):
            return
        for action in alarm.given.get(_ACTIONS[notice.after.value], []):
            try:
                self._act(action, notice)
            except Exception as error:  # noqa: BLE001 - whatever another service makes of it; AWS, too, only notes it
                summary = f'Failed to execute action {action}. Received error: "{error}"'
                failed: str | None = str(error)
                log.warning("alarm %s: %s", notice.name, summary)
            else:
                summary, failed = f"Successfully executed action {action}", None
            data = {
                "actionState": "Succeeded" if failed is None else "Failed",
                "stateUpdateTimestamp": int(notice.after.since * 1000),
                "notificationResource": action,
                "error": failed,
            }
            with self._changed, self._writing():
                self._remember(alarm, "Action", summary, data)

    # --- on disk ---

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _save(self, alarm: Alarm) -> None:
        document = {
            "kind": alarm.kind,
            "given": alarm.given,
            "tags": alarm.tags,
            "updated": alarm.updated,
            "now": [alarm.now.value, alarm.now.reason, alarm.now.since, alarm.now.data],
            "changed": alarm.changed,
            "by_hand": alarm.by_hand,
        }
        self._db.execute("REPLACE INTO alarm VALUES (?, ?, ?, ?)", (*alarm.key, json.dumps(document)))
        self._alarms[alarm.key] = alarm

    def _remember(self, alarm: Alarm, type_: str, summary: str, data: Json) -> None:
        moment = self._now()
        self._db.execute("DELETE FROM history WHERE at < ?", (moment - _HISTORY_S,))
        self._db.execute(
            "INSERT INTO history (account, region, name, kind, at, type, summary, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*alarm.key, alarm.kind, moment, type_, summary, json.dumps(data, separators=(",", ":"))),
        )


def _loaded(account: str, region: str, name: str, text: str) -> Alarm:
    document = json.loads(text)
    given, kind = document["given"], document["kind"]
    return Alarm(
        account,
        region,
        name,
        kind,
        given,
        document["tags"],
        document["updated"],
        Standing(*document["now"]),
        document["changed"],
        document["by_hand"],
        parse_rule(given["AlarmRule"]) if kind == "CompositeAlarm" else True,
    )


def _name(alarm: str) -> str:
    """Rules name alarms or give ARNs."""
    return alarm.partition(":alarm:")[2] if alarm.startswith("arn:") else alarm


def _standing(standing: Standing) -> Json:
    shown: Json = {"stateValue": standing.value, "stateReason": standing.reason}
    if standing.data is not None:
        try:
            shown["stateReasonData"] = json.loads(standing.data)
        except ValueError:  # set by hand to what is not JSON
            shown["stateReasonData"] = standing.data
    return shown


def _configured(alarm: Alarm, before: Alarm | None) -> Json:
    if before is None:
        return {"version": "1.0", "type": "Create", "createdAlarm": alarm.given}
    return {"version": "1.0", "type": "Update", "updatedAlarm": alarm.given}


def _too_few(given: Json, points: Sequence[Point]) -> bool:
    """AWS: fewer than 10 / (1 - percentile) values cannot tell it (10 / percentile under the median)."""
    name = str(given.get("ExtendedStatistic", ""))
    if not name.startswith("p"):
        return False
    share = float(name[1:]) / 100
    tail = min(share, 1 - share)
    real = [point.samples or 0.0 for point in points if point.value is not None]
    return sum(real[-given["EvaluationPeriods"] :]) < (round(10 / tail, 3) if tail else float("inf"))


def _reason_data(alarm: Alarm, verdict: Verdict, moment: float) -> Json:
    given = alarm.given
    real = [point for point in verdict.points if point.value is not None]
    data: Json = {"version": "1.0", "queryDate": stamp(moment)}
    if real:
        data["startDate"] = stamp(real[0].at)
    if "Unit" in given:
        data["unit"] = given["Unit"]
    if statistic := given.get("Statistic") or given.get("ExtendedStatistic"):
        data["statistic"] = statistic
    evaluated: list[Json] = []
    for point in reversed(verdict.points):
        shown: Json = {"timestamp": stamp(point.at)}
        if point.samples is not None:
            shown["sampleCount"] = point.samples
        if point.value is not None:
            shown["value"] = point.value
        evaluated.append(shown)
    return data | {
        "period": alarm.period,
        "recentDatapoints": [point.value for point in real],
        "threshold": float(given["Threshold"]),
        "evaluatedDatapoints": evaluated,
    }
