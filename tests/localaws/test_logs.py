"""Following functions' logs: every line once, as it comes, from every function, over restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws import control
from tests.localaws.conftest import client, make_function, until

SAYS = "def handler(event, context): print('saw', event)"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / ".pointsman" / "local" / "aws"  # where the command line looks
    yield made
    control.down(made)


class Follower:
    """Collects what a follower is told, in a thread of its own."""

    def __init__(self, running: control.Running, function: str | None = None, **more: Any) -> None:
        self.got: list[control.LogEvent] = []
        self._lines = control.log_events(running, function, follow=True, **more)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        for line in self._lines:
            self.got.append(line)

    @property
    def words(self) -> list[str]:
        return [line.message.strip() for line in self.got if line.message.startswith("saw")]


def invoke(running: control.Running, function: str, what: int | str) -> None:
    client(running, "lambda").invoke(FunctionName=function, Payload=json.dumps(what).encode())


def test_a_line_comes_at_once_and_waiting_costs_no_requests(directory: Path) -> None:
    running = control.up(directory, settle_s=0)
    make_function(running, "f", SAYS)
    invoke(running, "f", 0)
    follower = Follower(running)
    until(lambda: follower.words == ["saw 0"], "what was there")
    before = cpu(running.pid)
    time.sleep(1.0)  # idle: nothing may be asked again and again meanwhile
    assert cpu(running.pid) - before < 0.2
    began = time.monotonic()
    invoke(running, "f", 1)
    until(lambda: follower.words == ["saw 0", "saw 1"], "the new line")
    assert time.monotonic() - began < 20  # as long as one request waits for lines: it was told of this one


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("stop", [control.down, lambda directory: os.kill(pid_of(directory), signal.SIGKILL)])
def test_a_follower_goes_on_after_a_restart(directory: Path, stop: Callable[[Path], Any]) -> None:
    running = control.up(directory, settle_s=0)
    make_function(running, "f", SAYS)
    follower = Follower(running)
    invoke(running, "f", 1)
    until(lambda: follower.words == ["saw 1"], "the first line")
    until(lambda: not control._get(running, "/_pointsman/health", timeout=60)["unsaved"], "it is on disk")

    stop(directory)
    again = control.up(directory, settle_s=0)  # at another port

    invoke(again, "f", 2)
    until(lambda: follower.words == ["saw 1", "saw 2"], "the line of the second life")
    assert len({(line.stream, line.timestamp, line.message) for line in follower.got}) == len(follower.got)


def pid_of(directory: Path) -> int:
    return int(json.loads((directory / "server.json").read_text())["pid"])


def test_lines_that_come_late_and_from_many_are_all_there_once(directory: Path) -> None:
    """A long call's first line is old when it arrives; quick ones of another function came meanwhile."""
    running = control.up(directory, settle_s=0)
    slow = "import time\ndef handler(e, c):\n    print('saw begin')\n    time.sleep(1)\n    print('saw', e)"
    make_function(running, "slow", slow)
    make_function(running, "quick", SAYS)
    follower = Follower(running)
    calls = [threading.Thread(target=invoke, args=(running, "slow", number)) for number in range(3)]
    for call in calls:
        call.start()
    for number in range(20):
        invoke(running, "quick", number)
    for call in calls:
        call.join()
    until(lambda: len(follower.words) == 26, "all lines")
    assert sorted(follower.words) == sorted(
        [f"saw {number}" for number in range(20)] + ["saw begin"] * 3 + [f"saw {number}" for number in range(3)]
    )
    assert {line.function for line in follower.got} == {"slow", "quick"}


def test_only_what_was_asked_for(directory: Path) -> None:
    running = control.up(directory, settle_s=0)
    make_function(running, "f", SAYS)
    make_function(running, "g", SAYS, LoggingConfig={"LogGroup": "/elsewhere"})
    invoke(running, "f", "old")
    until(lambda: list(control.log_events(running, "f")), "it is logged")
    since = int(time.time() * 1000) + 1
    until(lambda: time.time() * 1000 > since, "a later moment")
    invoke(running, "f", "new")
    invoke(running, "g", "mine")

    def said(function: str | None, since_ms: int = 0) -> list[str]:
        found = control.log_events(running, function, since_ms=since_ms)
        return [line.message.strip() for line in found if line.message.startswith("saw")]

    until(lambda: len(said(None)) == 3, "all are logged")
    assert said("f") == ["saw old", "saw new"]
    assert said("f", since) == ["saw new"]
    assert said("g") == ["saw mine"]


def command(directory: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pointsman", "local", *words],
        cwd=directory.parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_follows_with_names_and_ends_clean(directory: Path) -> None:
    running = control.up(directory, settle_s=0)
    make_function(running, "f", SAYS)
    follower = command(directory, "logs", "-f", "--since", "1h")
    try:
        invoke(running, "f", 1)
        assert follower.stdout is not None
        lines = [follower.stdout.readline() for _ in range(2)]
        assert [line.split(" | ")[0] for line in lines] == ["f", "f"]
        assert "f | saw 1\n" in [*lines, follower.stdout.readline()]
        follower.send_signal(signal.SIGINT)
        out, err = follower.communicate(timeout=60)
    finally:
        follower.kill()
    assert (follower.returncode, err) == (0, "")
    assert all(line.startswith("f | ") for line in out.splitlines())


def test_json_is_one_document_for_all_or_for_each_line(directory: Path) -> None:
    running = control.up(directory, settle_s=0)
    make_function(running, "f", SAYS)
    invoke(running, "f", 1)
    until(lambda: any("REPORT" in line.message for line in control.log_events(running, "f")), "it is logged")
    out, _ = command(directory, "logs", "f", "--json").communicate(timeout=60)
    once = [each["message"] for each in json.loads(out)["result"]]
    assert "saw 1" in [message.strip() for message in once]
    follower = command(directory, "logs", "f", "--json", "--follow")
    try:
        assert follower.stdout is not None
        assert [json.loads(follower.stdout.readline())["result"]["message"] for _ in once] == once
    finally:
        follower.kill()
        follower.communicate()
