"""Gates and checks are real commands and real HTTP; what they came to is in the ledger, and stands after a crash."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pointsman import config, gating
from pointsman.errors import GateRefused as Refused
from pointsman.errors import UsageError
from pointsman.gating import Checks, run_gates
from pointsman.model import FunctionArn, Version
from pointsman.rollout import GatePassed, GateRefused, GateWaiting, Moment
from pointsman.world import Options, Session, World
from tests.fakes import FakeClock

ARN = FunctionArn.parse("arn:aws:lambda:eu-west-1:123456789012:function:greeting")
VERSION = Version("7")
KEY = "r1"
FILE = """
[function.greeting]
build = "python"
[environment.production]
alias = "PROD"
region = "eu-west-1"
"""
BEGAN = 1_700_000_000.0  # a Tuesday, 22:13 UTC


class Site:
    """An HTTP server whose answers a test sets: path → (status, body, headers), or what is to be done instead."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        self.silent = threading.Event()  # until it is set, /silent answers nothing
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                if self.path == "/silent":
                    site.silent.wait(30)
                status, body, headers = site.answers.get(self.path, (404, b"", {}))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def says(self, path: str, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.answers[path] = (status, body, headers)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.silent.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


class Place:
    """A project with these settings of its environment, and machines that work on it with one ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock(BEGAN)
        self.said: list[str] = []
        self.worlds: list[World] = []
        self.text = ""
        self.runs = 0

    def declare(self, text: str) -> None:
        self.text = f"{FILE}{text}"

    def machine(
        self, *, ask: Callable[[str], bool] | None = None, approve: bool = False, outside: bool = False, **environ: str
    ) -> Session:
        """A process of its own: nothing is shared with another but the folder."""
        world = World(
            project=config.parse(self.text, file=self.folder / "pointsman.toml"),
            environ={"PATH": "/usr/bin:/bin", "GITHUB_ACTOR": "ada", **environ},
            options=Options(approve=approve, outside_window=outside),
            clock=self.clock,
            say=self.said.append,
            ask=ask,
        )
        self.worlds.append(world)
        self.runs += 1
        return world.session(world.functions()[0], world.environment(None), f"run-{self.runs}")

    def entries(self, kind: str) -> list[dict[str, Any]]:
        return [each.body for each in reversed(self.worlds[-1].ledger.entries()) if each.kind == kind]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")  # what commands get to reach AWS with: nothing here does
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    made = Place(tmp_path)
    yield made
    for world in made.worlds:
        world.close()


def go(
    session: Session, moment: Moment = "traffic", weight: float = 0.0, *, since: float = BEGAN
) -> GatePassed | GateRefused | GateWaiting:
    return run_gates(session, KEY, moment, weight, arn=ARN, version=VERSION, since=since)


# Commands


def test_a_command_gets_the_version_the_moment_and_the_weight(place: Place) -> None:
    place.declare(
        """
        rollout = { steps = [10] }
        gates = [{ when = "step", run = "env | grep ^POINTSMAN_ > seen; echo {version} ${version}x > filled" }]
        """
    )

    assert isinstance(go(place.machine(), "step", 0.1), GatePassed)
    seen = dict(line.split("=", 1) for line in (place.folder / "seen").read_text().splitlines())
    assert seen == {
        "POINTSMAN_ENVIRONMENT": "production",
        "POINTSMAN_FUNCTION": "greeting",
        "POINTSMAN_FUNCTION_ARN": f"{ARN}:7",
        "POINTSMAN_QUALIFIER": "7",
        "POINTSMAN_ALIAS": "PROD",
        "POINTSMAN_MOMENT": "step",
        "POINTSMAN_WEIGHT": "10",
    }
    assert (place.folder / "filled").read_text() == "7 x\n"
    (entry,) = place.entries("gate")
    assert (entry["verdict"], entry["exit_code"], entry["weight"], entry["version"]) == ("pass", 0, 0.1, "7")


def test_a_gate_that_refuses_ends_it_and_the_later_ones_do_not_run(place: Place) -> None:
    place.declare(
        'rollout = {}\ngates = [{ when = "traffic", run = "exit 3" }, { when = "traffic", run = "touch later" }]'
    )

    refused = go(place.machine())

    assert refused == GateRefused(at=BEGAN, moment="traffic", why="exit 3: it ended with exit code 3")
    assert not (place.folder / "later").exists()
    assert [each["verdict"] for each in place.entries("gate")] == ["fail"]


def test_a_command_that_takes_too_long_refuses(place: Place) -> None:
    place.declare('rollout = {}\ngates = [{ when = "traffic", run = "sleep 60", timeout = 0.1 }]')

    refused = go(place.machine())

    assert isinstance(refused, GateRefused)
    assert "it did not end within 0.1 s" in refused.why


def test_a_report_with_failures_refuses_whatever_the_exit_code(place: Place) -> None:
    report = '<testsuite tests="1" failures="1"><testcase name="pays"><failure/></testcase></testsuite>'
    (place.folder / "report").write_text(report)
    place.declare('rollout = {}\ngates = [{ when = "traffic", run = "cp report smoke.xml", junit = "smoke.xml" }]')

    refused = go(place.machine())

    assert isinstance(refused, GateRefused)
    assert "1 test, 1 failed (pays)" in refused.why
    assert place.entries("gate")[0]["report"]["tests"] == 1


def test_what_passed_is_not_run_again_after_a_crash_but_for_another_moment(place: Place) -> None:
    place.declare(
        """
        rollout = { steps = [1, 10] }
        gates = [{ when = "step", run = "echo x >> times" }, { when = "step", run = "test -e go" }]
        """
    )

    def times() -> int:
        return (place.folder / "times").read_text().count("x")

    assert isinstance(go(place.machine(), "step", 0.01), GateRefused)
    assert isinstance(go(place.machine(), "step", 0.01), GateRefused)
    assert times() == 1
    place.clock.time += 60
    (place.folder / "go").touch()
    assert isinstance(go(place.machine(), "step", 0.01, since=place.clock.time), GatePassed)  # asked anew: run anew
    assert isinstance(go(place.machine(), "step", 0.1, since=place.clock.time), GatePassed)
    assert times() == 3


def test_a_moment_without_gates_is_passed(place: Place) -> None:
    place.declare("")

    assert go(place.machine(), "before") == GatePassed(at=BEGAN, moment="before")
    assert place.entries("gate") == []


# URLs


@pytest.mark.parametrize(
    ("wanted", "answer", "why"),
    [
        ("", (200, b""), ""),
        ("", (204, b""), ""),
        ("", (500, b"oops"), "it answered 500, not from 200 to 299"),
        ("status = 503", (503, b""), ""),
        ("status = 200", (204, b""), "it answered 204, not 200"),
        ('contains = "förberedd"', (200, "all förberedd".encode()), ""),
        ('contains = "ok"', (200, b"\xff no"), "it answered 200, without 'ok'"),
        ('contains = "ok"', (200, b" " * gating.BODY + b"ok"), "it answered 200, without 'ok'"),
    ],
)
def test_a_url_is_judged_by_what_it_answers(
    place: Place, site: Site, wanted: str, answer: tuple[int, bytes], why: str
) -> None:
    site.says("/healthy?version=7", *answer)
    gate = f'when = "traffic"\nurl = "{site.url}/healthy?version={{version}}"\n{wanted}'
    place.declare(f"rollout = {{}}\n[[environment.production.gates]]\n{gate}")

    came_to = go(place.machine())

    assert site.asked == ["/healthy?version=7"]
    assert (came_to.why.partition(": ")[2] if isinstance(came_to, GateRefused) else "") == why
    (entry,) = place.entries("gate")
    assert (entry["status"], entry["problem"]) == (answer[0], why)


def test_redirects_are_followed_but_not_to_files(place: Place, site: Site) -> None:
    site.says("/there", body=b"ok")
    site.says("/moved", 302, Location="/there")
    (place.folder / "secret").write_text("ok")
    site.says("/file", 302, Location=f"file://{place.folder}/secret")
    site.says("/round", 302, Location="/round")

    assert gating.fetch(f"{site.url}/moved", 5) == gating.Answer(status=200, body=b"ok")
    assert gating.fetch(f"{site.url}/file", 5).body == b""
    assert gating.fetch(f"{site.url}/round", 5).status == 302
    assert "unknown url type" in gating.fetch(f"file://{place.folder}/secret", 5).problem


def test_no_answer_is_no_pass(site: Site) -> None:
    assert gating.fetch(f"{site.url}/silent", 0.05).problem == "no answer within 0.05 s"
    site.silent.set()
    site.server.server_close()
    assert "no answer" in gating.fetch("http://127.0.0.1:1/", 5).problem
    assert "no answer" in gating.fetch("http://127.0.0.1:port/", 5).problem


# Approvals

ASKS_BEFORE = 'rollout = {}\ngates = [{ when = "traffic", approve = true }]'
ASKS = 'rollout = { steps = [10] }\ngates = [{ when = "step", approve = true, expires = "1h" }]'


def approve(session: Session, *, since: float = BEGAN) -> None:
    gating.approve(session, KEY, "step", 0.1, arn=ARN, version=VERSION, since=since)


def test_it_waits_until_somebody_approves_on_another_machine(place: Place) -> None:
    place.declare(ASKS)
    watcher = place.machine()

    assert go(watcher, "step", 0.1) == GateWaiting(at=BEGAN, moment="step")
    place.clock.time += 600
    assert isinstance(go(watcher, "step", 0.1), GateWaiting)
    assert sum("pointsman rollout approve PROD" in line for line in place.said) == 1  # said once
    approve(place.machine(GITHUB_ACTOR="grace"))

    assert go(watcher, "step", 0.1) == GatePassed(at=BEGAN + 600, moment="step", by="grace")
    assert [(each["verdict"], each["by"]) for each in place.entries("gate")] == [("waiting", ""), ("pass", "grace")]
    (entry,) = place.entries("approval")
    assert (entry["approval"]["by"], entry["approval"]["until"]) == ("grace", BEGAN + 600 + 3600)


def test_an_approver_whose_clock_is_behind_is_heard(place: Place) -> None:
    place.declare(ASKS)
    watcher = place.machine()
    asked = BEGAN + 60
    place.clock.time = asked
    assert isinstance(go(watcher, "step", 0.1, since=asked), GateWaiting)

    place.clock.time = asked - 30
    approve(place.machine(), since=asked)
    place.clock.time = asked + 1

    assert isinstance(go(watcher, "step", 0.1, since=asked), GatePassed)


def test_an_approval_of_what_was_asked_before_does_not_count(place: Place) -> None:
    place.declare(ASKS)
    approve(place.machine())
    place.clock.time += 60

    assert isinstance(go(place.machine(), "step", 0.1, since=BEGAN + 30), GateWaiting)


def test_nobody_approving_in_time_refuses(place: Place) -> None:
    place.declare(ASKS)
    place.clock.time += 3600

    assert go(place.machine(), "step", 0.1) == GateRefused(
        at=BEGAN + 3600, moment="step", why="approve: nobody approved within 1 h"
    )
    with pytest.raises(UsageError, match="its time is over"):
        approve(place.machine())


def test_what_waits_for_no_approval_takes_none(place: Place) -> None:
    place.declare("")

    with pytest.raises(UsageError, match="it waits for none"):
        approve(place.machine())


@pytest.mark.parametrize(
    ("machine", "by"),
    [
        ({"approve": True}, "ada"),
        ({"POINTSMAN_APPROVED_BY": "the release manager", "approve": True}, "the release manager"),
        ({"ask": lambda _what: True}, "ada"),
        (
            {"POINTSMAN_APPROVED_BY": "github", "GITHUB_ACTIONS": "true", "GITHUB_TRIGGERING_ACTOR": "grace"},
            "grace",
        ),
    ],
)
def test_who_approves_before_the_start(place: Place, machine: dict[str, Any], by: str) -> None:
    place.declare(ASKS_BEFORE)

    assert go(place.machine(**machine)) == GatePassed(at=BEGAN, moment="traffic", by=by)
    (entry,) = place.entries("approval")
    assert (entry["approval"]["by"], entry["approval"]["until"]) == (by, BEGAN + 4 * 3600)


def test_a_no_refuses(place: Place) -> None:
    asked: list[str] = []

    def no(what: str) -> bool:
        asked.append(what)
        return False

    place.declare(ASKS_BEFORE)

    refused = go(place.machine(ask=no))

    assert asked == ["Let version 7 of greeting pass on PROD (before it gets traffic)?"]
    assert isinstance(refused, GateRefused)
    assert "ada did not approve" in refused.why


def test_with_traffic_on_the_canary_nobody_approves_beforehand(place: Place) -> None:
    """A question on the terminal would leave it unwatched; who approved of the start has not seen it serve."""
    place.declare(ASKS)

    def never(what: str) -> bool:
        raise AssertionError(what)

    assert isinstance(go(place.machine(ask=never, POINTSMAN_APPROVED_BY="ada"), "step", 0.1), GateWaiting)
    assert isinstance(go(place.machine(approve=True), "step", 0.1), GateWaiting)


def test_a_quiet_function_waits_for_a_person(place: Place) -> None:
    place.declare("rollout = {}")
    assert isinstance(go(place.machine(), "quiet", 0.1), GateWaiting)

    gating.approve(place.machine(), KEY, "quiet", 0.1, arn=ARN, version=VERSION, since=BEGAN)

    assert isinstance(go(place.machine(), "quiet", 0.1), GatePassed)


def test_a_pause_ends_when_somebody_resumes(place: Place) -> None:
    place.declare('rollout = {}\ngates = [{ when = "full", pause = true }]')
    watcher = place.machine()

    def asked(ask: str) -> None:
        watcher.ledger.append("run-9", "rollout-asked", function="greeting", subject=KEY, ask=ask, by="grace")

    asked("resume")  # before it came here: for an earlier pause
    assert isinstance(go(watcher, "full"), GateWaiting)
    place.clock.time += 10
    asked("pause")
    assert isinstance(go(watcher, "full"), GateWaiting)
    asked("resume")
    assert go(watcher, "full") == GatePassed(at=BEGAN + 10, moment="full", by="grace")


# Checks


def test_failures_in_a_row_are_a_reason_to_go_back(place: Place, site: Site) -> None:
    site.says("/PROD/7", body=b"ok")
    place.declare(f'rollout = {{ checks = {{ url = "{site.url}/{{alias}}/{{version}}", every = 10, failures = 2 }} }}')
    checks = Checks(place.machine(), arn=ARN, version=VERSION)

    assert checks.run(0.0) == ""
    site.says("/PROD/7", 500)
    assert checks.run(9.9) == ""
    assert len(site.asked) == 1  # not due yet
    assert checks.next() == 10.0
    assert checks.run(10.0) == ""  # the first failure
    site.says("/PROD/7", body=b"ok")
    assert checks.run(20.0) == ""  # not in a row
    site.says("/PROD/7", 500)
    assert checks.run(30.0) == ""
    assert checks.run(40.0) == (
        f"check {site.url}/PROD/7 failed 2 times in a row: it answered 500, not from 200 to 299"
    )


def test_a_command_is_a_check_too(place: Place) -> None:
    place.declare('rollout = { checks = { run = "test $POINTSMAN_QUALIFIER = 8", failures = 1 } }')
    checks = Checks(place.machine(), arn=ARN, version=VERSION)

    assert checks.run(0.0) == "check test $POINTSMAN_QUALIFIER = 8 failed: it ended with exit code 1"


def test_without_checks_nothing_is_due(place: Place) -> None:
    place.declare("")
    checks = Checks(place.machine(), arn=ARN, version=VERSION)

    assert (checks.next(), checks.run(0.0)) == (None, "")


# The window

SHUT = 'window = { from = "09:00", to = "16:00" }'


@pytest.mark.parametrize("command", ["deploy", "promote"])
def test_nothing_is_written_where_the_window_is_shut(place: Place, command: str) -> None:
    place.declare(SHUT)
    session = place.machine()
    world = session.world

    with (
        pytest.raises(Refused, match="Tue 2023-11-14 22:13 UTC is outside the window") as refused,
        world.running(command, session.function, session.environment, {}),
    ):
        raise AssertionError("it began")

    assert refused.value.exit_code == 3
    assert "It opens Wed 2023-11-15 09:00 UTC" in refused.value.next
    assert world.ledger.entries() == ()


@pytest.mark.parametrize(
    ("command", "request_"), [("rollback", {}), ("deploy", {"resumes": "run-0"}), ("promote", {"resumes": "run-0"})]
)
def test_going_back_and_going_on_need_no_window(place: Place, command: str, request_: dict[str, object]) -> None:
    place.declare(SHUT)
    session = place.machine()

    with session.world.running(command, session.function, session.environment, request_) as running:
        assert running.run


def test_who_moves_outside_the_window_is_written_down(place: Place) -> None:
    place.declare(SHUT)
    session = place.machine(outside=True)

    with session.world.running("promote", session.function, session.environment, {}):
        (entry,) = place.entries("gate")

    assert (entry["verdict"], entry["by"]) == ("overridden", "ada")
    assert "outside the window" in entry["problem"]


def test_a_branch_that_is_like_it_has_no_window_and_no_gates(place: Place) -> None:
    place.declare(f'{SHUT}\napprove = true\nrollout = {{}}\ngates = [{{ when = "traffic", run = "false" }}]')
    environment = place.machine().world.of_branch("feature/x")

    assert environment == replace(
        place.machine().environment,
        name="branch:feature/x",
        alias=environment.alias,
        branch="feature/x",
        approve=False,
        rollout=None,
        gates=(),
        window=None,
    )
