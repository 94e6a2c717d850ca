"""Carrying out gates, and the checks of a rollout: commands, URLs, approvals, pauses.

Whatever a gate comes to is in the ledger before the rollout is told: an entry `gate`, whose subject is the rollout, the
moment, the weight and the gate's name. So a gate that passed or refused does not run again after a crash.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from pointsman import approving, errors, gates
from pointsman.config import Check, Gate
from pointsman.errors import UsageError
from pointsman.gates import Approval, Standing
from pointsman.model import FunctionArn, Value, Version, from_json, plain, to_json
from pointsman.rollout import GatePassed, GateRefused, GateWaiting, Moment
from pointsman.world import Session

BODY = 1_000_000
"""How much of an answer is read, in bytes: `contains` looks in that."""

COMMAND_S = 900.0
URL_S = 10.0
"""How long a gate may take where the file does not say."""


# Gates


def run_gates(
    session: Session,
    rollout: str,
    moment: Moment,
    weight: float,
    *,
    arn: FunctionArn,
    version: Version,
    since: float,
) -> GatePassed | GateRefused | GateWaiting:
    """Carry out what stands at that moment, in the file's order, up to the first that refuses or waits.

    `rollout`: its key, the same on every machine and after every crash. `weight`: the canary's, 0 to 1. `since`: when
    the rollout came to this moment (epoch seconds): what is from before it counts for nothing.
    """
    at_hand = _Gates(Target(session, arn, version), rollout, moment, weight)
    by: list[str] = []
    for i, each in enumerate(gates.standing(session.environment, moment, weight)):
        ruling = at_hand.rule(each, i, since)
        match ruling.verdict:
            case "pass":
                by += [ruling.by] if ruling.by else []
            case "fail":
                return GateRefused(at=session.world.clock.now(), moment=moment, why=f"{each.name}: {ruling.why}")
            case "waiting":
                return GateWaiting(at=session.world.clock.now(), moment=moment)
    return GatePassed(at=session.world.clock.now(), moment=moment, by=", ".join(dict.fromkeys(by)))


class Ruling(Value, frozen=True, kw_only=True):
    """What a gate came to, by whom where it was a person, why not, and the numbers: `facts`."""

    verdict: Literal["pass", "fail", "waiting"]
    by: str = ""
    why: str = ""
    facts: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True)
class _Gates:
    target: Target
    rollout: str
    moment: Moment
    weight: float

    @property
    def session(self) -> Session:
        return self.target.session

    @property
    def version(self) -> Version:
        return self.target.version

    def rule(self, standing: Standing, place: int, since: float) -> Ruling:
        subject = f"{self.rollout} {self.moment} {self.weight * 100:g}% {standing.name}"
        before = self.session.ledger.newest("gate", subject)
        asked = before is not None and before.body.get("ruled", before.at) >= since
        if before and asked and before.body["verdict"] != "waiting":
            return Ruling(verdict=before.body["verdict"], by=before.body["by"], why=before.body["problem"])
        ruling = self._rule(standing, place, since)
        if ruling.verdict != "waiting":
            self._record(subject, standing, ruling)
            self.session.say(f"gate {standing.name}: {_told(ruling)}")
        elif not asked:
            self._record(subject, standing, ruling)
            self.session.say(self._how_to_go_on(standing))
        return ruling

    def _rule(self, standing: Standing, place: int, since: float) -> Ruling:
        gate = standing.gate
        if gate.run is not None:
            self.session.say(f"gate: {gate.run}")
            return self.target.run(
                gate.run,
                name=f"gate-{self.moment}-{self.weight * 100:g}-{place + 1}",
                timeout_s=gate.timeout or COMMAND_S,
                gate=gate,
                POINTSMAN_MOMENT=self.moment,
                POINTSMAN_WEIGHT=f"{self.weight * 100:g}",
            )
        if gate.url is not None:
            return self.target.ask(gate.url, gate, gate.timeout or URL_S)
        return self._approval(standing, since) if gate.approve else self._pause(since)

    def _approval(self, standing: Standing, since: float) -> Ruling:
        session = self.session
        alias, function = session.environment.alias, session.function.name
        if given := self._approved(since):
            return Ruling(verdict="pass", by=given.by, facts={"how": given.how, "until": given.until})
        late = since + standing.expires_s
        if session.world.clock.now() >= late:
            return Ruling(verdict="fail", why=f"nobody approved within {_lasts(standing.expires_s)}")
        what = f"let version {self.version} of {function} pass on {alias} ({told(self.moment, self.weight)})"
        try:
            said = approving.approval(session, what, watching=0 < self.weight < 1)
        except errors.GateRefused as refused:
            return Ruling(verdict="fail", by=session.world.actor.by, why=refused.what)
        if said is None:
            return Ruling(verdict="waiting")
        by, how = said
        now = session.world.clock.now()
        if now >= late:  # the question stood on the terminal for that long
            return Ruling(verdict="fail", why=f"nobody approved within {_lasts(standing.expires_s)}")
        approval = self.approval(by, how, now, now + standing.expires_s)
        _write(session, self.rollout, approval)
        return Ruling(verdict="pass", by=by, facts={"how": how, "until": approval.until})

    def _approved(self, since: float) -> Approval | None:
        entry = self.session.ledger.newest("approval", f"{self.rollout} {self.moment}")
        return gates.approved(
            [from_json(to_json(entry.body["approval"]), Approval)] if entry else [],
            function=self.session.function.name,
            alias=self.session.environment.alias,
            version=self.version,
            moment=self.moment,
            since=since,
            at=self.session.world.clock.now(),
        )

    def approval(self, by: str, how: str, at: float, until: float) -> Approval:
        return Approval(
            by=by,
            how=how,
            at=at,
            until=until,
            function=self.session.function.name,
            alias=self.session.environment.alias,
            version=self.version,
            moment=self.moment,
        )

    def _pause(self, since: float) -> Ruling:
        asked = self.session.ledger.newest("rollout-asked", self.rollout)
        if asked and asked.body.get("asked", asked.at) > since and asked.body["ask"] == "resume":
            return Ruling(verdict="pass", by=str(asked.body.get("by", "")))
        return Ruling(verdict="waiting")

    def _how_to_go_on(self, standing: Standing) -> str:
        alias = self.session.environment.alias
        if standing.gate.approve:
            return (
                f"waits {_lasts(standing.expires_s)} for an approval, {told(self.moment, self.weight)}: "
                f"`pointsman rollout approve {alias}`"
            )
        return f"paused {told(self.moment, self.weight)}: `pointsman rollout resume {alias}` lets it go on"

    def _record(self, subject: str, standing: Standing, ruling: Ruling) -> None:
        self.session.ledger.append(
            self.session.run,
            "gate",
            function=self.session.function.name,
            subject=subject,
            rollout=self.rollout,
            moment=self.moment,
            weight=self.weight,
            gate=standing.name,
            verdict=ruling.verdict,
            problem=ruling.why,
            by=ruling.by,
            ruled=self.session.world.clock.now(),  # as `since` is: the ledger's own time may be set back in between
            arn=str(self.target.arn.unqualified),
            version=self.version,
            **ruling.facts,
        )


def approve(
    session: Session, rollout: str, moment: Moment, weight: float, *, arn: FunctionArn, version: Version, since: float
) -> Approval:
    """Approve, from any machine with the ledger, of what a rollout waits for at that moment: `since` is its state's.

    Raises UsageError where no approval stands there, or its time is over.
    """
    asked = [each for each in gates.standing(session.environment, moment, weight) if each.gate.approve]
    # This machine's clock may be behind that of the watcher, who asked at `since`.
    now = max(session.world.clock.now(), since)
    expires = min((each.expires_s for each in asked), default=0.0)
    if now >= since + expires:
        what = "its time is over" if asked else "it waits for none"
        raise UsageError(
            f"the rollout of {session.function.name} on {session.environment.alias} takes no approval: {what}",
            next="`pointsman rollout status` shows what it waits for.",
        )
    at_hand = _Gates(Target(session, arn, version), rollout, moment, weight)
    given = at_hand.approval(session.world.actor.by, "pointsman rollout approve", now, now + expires)
    _write(session, rollout, given)
    return given


def _write(session: Session, rollout: str, given: Approval) -> None:
    subject = f"{rollout} {given.moment}"
    session.ledger.append(session.run, "approval", function=given.function, subject=subject, approval=given)


def told(moment: Moment, weight: float) -> str:
    """The moment in words."""
    match moment:
        case "before":
            return "before anything moves"
        case "traffic":
            return "before it gets traffic"
        case "step":
            return f"at {weight * 100:g} %"
        case "quiet":
            return f"at {weight * 100:g} %, with few calls counted"
        case "spent":
            return f"without traffic, its budget spent at {weight * 100:g} %"
        case "full":
            return "before it gets all traffic"
        case "after":
            return "after it got all traffic"


def _lasts(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"


def _told(ruling: Ruling) -> str:
    if ruling.verdict == "fail":
        return f"refused: {ruling.why}"
    return f"passed by {ruling.by}" if ruling.by else "passed"


# Commands and URLs


@dataclass(frozen=True)
class Target:
    """The version that is looked at."""

    session: Session
    arn: FunctionArn
    version: Version

    def filled(self, text: str) -> str:
        """With {version}, {alias} and {function} in place; a shell's own ${version} is left alone."""
        facts = {
            "version": self.version,
            "alias": self.session.environment.alias,
            "function": self.session.function.name,
        }
        return re.sub(r"(?<!\$)\{(version|alias|function)\}", lambda found: str(facts[found[1]]), text)

    def run(self, command: str, *, name: str, timeout_s: float, gate: Gate | None = None, **given: str) -> Ruling:
        """The command as a test of the version, in the function's source folder. `given`: more for its environment."""
        from pointsman import testrun

        session = self.session
        junit = gate.junit if gate else ()
        # Functions of one folder may write the same report: those take turns.
        with session.world.turns.take(*(str(session.source.resolve() / path) for path in junit)):
            run = testrun.run(
                self.filled(command),
                cwd=session.source,
                environment={
                    **session.test_environment(self.arn, self.version),
                    "POINTSMAN_ALIAS": session.environment.alias,
                    **given,
                },
                junit=junit,
                reports=session.world.reports / session.run,
                name=name,
                timeout_s=timeout_s,
                echo=session.world.echo if gate else None,
                halted=session.world.halted,
            )
        facts = {"exit_code": run.exit_code, "seconds": run.seconds, "report": plain(run.report), "log": run.log}
        return Ruling(verdict="fail" if run.problem else "pass", why=run.problem, facts=facts)

    def ask(self, url: str, wanted: Gate | Check, timeout_s: float) -> Ruling:
        url = self.filled(url)
        answer = fetch(url, timeout_s)
        status, why = answer.status, answer.problem
        if not why and not (status == wanted.status if wanted.status else 200 <= status < 300):
            why = f"it answered {status}, not {wanted.status or 'from 200 to 299'}"
        elif not why and wanted.contains and wanted.contains not in answer.body.decode(errors="replace"):
            why = f"it answered {status}, without {wanted.contains!r}"
        return Ruling(verdict="fail" if why else "pass", why=why, facts={"url": url, "status": status})


class Answer(Value, frozen=True, kw_only=True):
    """An HTTP answer, `body` cut at BODY; or `problem`: why there is none."""

    status: int = 0
    body: bytes = b""
    problem: str = ""


def fetch(url: str, timeout_s: float) -> Answer:
    """GET over http or https, redirects followed (never to another scheme), within `timeout_s` in all."""
    answers: list[Answer] = []
    # In a thread: urllib's own time-out is of each read, and of a name's look-up it has none.
    asking = threading.Thread(target=lambda: answers.append(_fetch(url, timeout_s)), daemon=True)
    asking.start()
    asking.join(timeout_s)
    return answers[0] if answers else Answer(problem=f"no answer within {timeout_s:g} s")


def _fetch(url: str, timeout_s: float) -> Answer:
    import http.client
    import urllib.error
    import urllib.request as web

    opener = web.OpenerDirector()  # not build_opener's: that reads files and FTP, too
    for handler in (
        web.ProxyHandler,
        web.HTTPHandler,
        web.HTTPSHandler,
        web.HTTPDefaultErrorHandler,
        web.HTTPRedirectHandler,
        web.HTTPErrorProcessor,
        web.UnknownHandler,
    ):
        opener.add_handler(handler())
    try:
        try:
            answer = opener.open(web.Request(url, headers={"User-Agent": "pointsman"}), timeout=timeout_s)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return Answer(status=answer.status, body=answer.read(BODY))
    except TimeoutError:
        return Answer(problem=f"no answer within {timeout_s:g} s")
    except urllib.error.URLError as error:
        slow = isinstance(error.reason, TimeoutError)
        return Answer(problem=f"no answer within {timeout_s:g} s" if slow else f"no answer: {error.reason}")
    except (http.client.HTTPException, OSError, ValueError) as error:
        return Answer(problem=f"no answer: {error!r}")


# Checks


@dataclass
class _Course:
    check: Check
    place: int
    due: float = 0.0
    failed: int = 0  # in a row


class Checks:
    """A rollout's checks, each carried out when it is due. How often one failed in a row, only this process knows."""

    def __init__(self, session: Session, *, arn: FunctionArn, version: Version) -> None:
        rollout = session.environment.rollout
        self.target = Target(session, arn, version)
        self.courses = [_Course(each, i) for i, each in enumerate(rollout.checks if rollout else (), 1)]

    def next(self) -> float | None:
        """When the next one is due, in epoch seconds; None where there are none."""
        return min((each.due for each in self.courses), default=None)

    def run(self, now: float) -> str:
        """Carry out those that are due at `now`. Why to go back, or ""."""
        for course in self.courses:
            if now < course.due:
                continue
            check = course.check
            course.due = now + check.every
            name = self.target.filled(check.run or check.url or "")
            ruling = self._rule(course)
            course.failed = course.failed + 1 if ruling.verdict == "fail" else 0
            if course.failed:
                self.target.session.say(f"check {name} failed, {course.failed} of {check.failures}: {ruling.why}")
            if course.failed >= check.failures:
                times = f"{course.failed} times in a row" if course.failed > 1 else ""
                return f"check {name} failed {times}".rstrip() + f": {ruling.why}"
        return ""

    def _rule(self, course: _Course) -> Ruling:
        check = course.check
        if check.run is not None:
            return self.target.run(check.run, name=f"check-{course.place}", timeout_s=check.timeout)
        return self.target.ask(check.url or "", check, check.timeout)
