"""Rollouts end to end: real traffic through a weighted alias, watched by the second, and what becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Shop

ROLLOUT = 'rollout = { steps = [20, 50], bake = "1s", minimum = 10, hold = "30s" }\n'
PATIENT = 'rollout = { steps = [20, 50], bake = "10m", minimum = 10, early = false }\n'


def handler(rate: float, build: str) -> str:
    """Fails so often; more often where the file "outage" is beside the project."""
    return f"""\
import os, random
def handler(event, context):
    rate = {rate}
    if os.path.exists(os.environ.get("OUTAGE", "")):
        rate = max(rate, 0.5)
    if random.random() < rate:
        raise ValueError("asked to")
    return {{"build": {build!r}, "version": context.function_version}}
"""


class Traffic:
    """Calls to an alias, as many as it answers, from a few callers; what came of each."""

    def __init__(self, shop: Shop, alias: str, callers: int = 3) -> None:
        self.client = shop.aws("lambda")
        self.name, self.alias = shop.name, alias
        self.stopped = threading.Event()
        self.seen: list[tuple[str, bool]] = []  # (executed version, whether it failed)
        self.threads = [threading.Thread(target=self._call, daemon=True) for _ in range(callers)]

    def _call(self) -> None:
        while not self.stopped.wait(0.01):
            reply = self.client.invoke(FunctionName=self.name, Qualifier=self.alias, Payload=b"{}")
            self.seen.append((reply["ExecutedVersion"], "FunctionError" in reply))

    def of(self, version: str) -> tuple[int, int]:
        calls = [failed for executed, failed in self.seen if executed == version]
        return len(calls), sum(calls)


@contextmanager
def traffic(shop: Shop, alias: str = "PROD") -> Iterator[Traffic]:
    made = Traffic(shop, alias)
    for thread in made.threads:
        thread.start()
    try:
        yield made
    finally:
        made.stopped.set()
        for thread in made.threads:
            thread.join()


def configure(shop: Shop, rollout: str = ROLLOUT, more: str = "") -> None:
    outage = shop.folder / "outage"
    settings = f'role = "{shop.role}", memory = 128, timeout = 1, environment = {{ OUTAGE = "{outage}" }}'
    shop.configure(
        provision=f'{{ with = "direct", name = "{shop.name}", {settings} }}',
        function='exclude = ["check.py", "outage", "*.log"]'.replace("exclude", "#"),
        more=rollout + more,
    )


@pytest.fixture
def rolling(shop: Shop) -> Shop:
    """PROD serves version 1; with a rollout."""
    configure(shop)
    shop.write("index.py", handler(0.0, "1"))
    shop.ok("deploy", "--build-id", "1")
    shop.ok("promote", "1", "--to", "PROD", "--approve")
    return shop


def stage(shop: Shop, rate: float = 0.0, build: str = "2") -> None:
    shop.write("index.py", handler(rate, build))
    shop.ok("deploy", "--build-id", build)


def routing(shop: Shop) -> tuple[str, dict[str, float]]:
    alias = shop.alias("PROD")
    assert alias is not None
    return alias["FunctionVersion"], alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})


@contextmanager
def watching(shop: Shop, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A watcher in a process of its own, which tests may kill."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pointsman", *(words or ("promote", "2", "--to", "PROD", "--approve", "-v"))],
        cwd=shop.folder,
        env={**os.environ, **shop.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """What it answers once it is something."""
    ends = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.05)
    return found


def shifted(shop: Shop) -> bool:
    return bool(routing(shop)[1])


def state(shop: Shop) -> str:
    """What its state says; "" while there is none."""
    answer = shop.run("rollout", "list", "--json")
    return str(answer.result[0]["state"]["state"]) if answer.code == 0 and answer.result else ""


def told(shop: Shop) -> dict[str, Any]:
    found: dict[str, Any] = shop.ok("rollout", "report", "PROD", "--json").result
    return found


def test_a_healthy_canary_gets_all_traffic_step_by_step(rolling: Shop) -> None:
    stage(rolling)

    with traffic(rolling) as calls:
        answer = rolling.ok("promote", "2", "--to", "PROD", "--approve", "--json")

    assert routing(rolling) == ("2", {})
    assert answer.result[0]["moved"]
    assert calls.of("2")[0] > 20
    report = told(rolling)
    assert report["outcome"] == "promoted"
    assert [each["weight"] for each in report["events"] if each["kind"] == "shift"] == [0.2, 0.5, 1.0]


def test_a_bad_canary_goes_back_and_the_numbers_are_those_of_the_calls(rolling: Shop) -> None:
    stage(rolling, 0.3)

    with traffic(rolling) as calls:
        answer = rolling.run("promote", "2", "--to", "PROD", "--approve")

    assert answer.code == 3, answer.err
    assert "of the canary were bad" in answer.err
    assert routing(rolling) == ("1", {})
    report = told(rolling)
    assert report["outcome"] == "rolled back"
    (errors,) = report["metrics"]
    counted, failed = calls.of("2")
    assert 0 < errors["canary"]["bad"] <= failed
    assert errors["canary"]["bad"] < errors["canary"]["calls"] <= counted
    assert errors["baseline"]["bad"] == 0
    again = rolling.ok("history").out
    assert "rolled back" in again


def test_a_shared_outage_moves_nothing(rolling: Shop) -> None:
    stage(rolling)
    outage = rolling.folder / "outage"

    with traffic(rolling), watching(rolling) as process:
        until(lambda: shifted(rolling))
        outage.touch()
        until(lambda: "outage" in rolling.run("rollout", "status", "PROD").out)
        held = routing(rolling)
        outage.unlink()
        output, _ = process.communicate(timeout=120)

    assert held[0] == "1"
    assert process.returncode == 0, output
    assert routing(rolling) == ("2", {})


def test_killed_at_every_change_another_watcher_goes_on(rolling: Shop) -> None:
    """kill -9 as soon as each weight is seen, and once in between; `rollout resume` ends where it would have ended."""
    stage(rolling)

    with traffic(rolling):
        with watching(rolling) as process:
            until(lambda: routing(rolling)[1] == {"2": 0.2})
            process.send_signal(signal.SIGKILL)
            process.wait()
        with watching(rolling, "rollout", "resume", "PROD", "-v") as process:
            until(lambda: routing(rolling)[1] == {"2": 0.5})
            process.send_signal(signal.SIGKILL)
            process.wait()
        rolling.ok("resume")

    assert routing(rolling) == ("2", {})
    assert told(rolling)["outcome"] == "promoted"
    assert rolling.ok("resume", "--json").result == []
    moves = [line for line in rolling.ok("history").out.splitlines() if "PROD → version 2" in line]
    assert len(moves) == 1


def test_the_same_command_again_goes_on_too(rolling: Shop) -> None:
    stage(rolling)
    with traffic(rolling):
        with watching(rolling) as process:
            until(lambda: shifted(rolling))
            process.send_signal(signal.SIGKILL)
            process.wait()
        again = rolling.ok("promote", "2", "--to", "PROD")  # it was approved then

    assert again.code == 0
    assert routing(rolling) == ("2", {})


def test_a_killed_deploy_goes_on_from_its_rollout(rolling: Shop) -> None:
    rolling.write("index.py", handler(0.0, "2"))
    with traffic(rolling):
        with watching(rolling, "deploy", "--to", "PROD", "--build-id", "2", "--approve", "-v") as process:
            until(lambda: shifted(rolling))
            process.send_signal(signal.SIGKILL)
            process.wait()
        rolling.ok("deploy", "--to", "PROD", "--build-id", "2", "--approve")

    assert routing(rolling) == ("2", {})


def test_it_is_paused_resumed_skipped_and_aborted_from_beside(rolling: Shop) -> None:
    configure(rolling, PATIENT)
    stage(rolling)

    with traffic(rolling), watching(rolling) as process:
        until(lambda: shifted(rolling))
        rolling.ok("rollout", "pause", "PROD")
        until(lambda: state(rolling) == "Paused")
        busy = rolling.ok("rollout", "resume", "PROD")
        assert "goes on" in busy.out
        until(lambda: state(rolling) != "Paused")
        rolling.ok("rollout", "skip", "PROD")
        until(lambda: routing(rolling)[1] == {"2": 0.5})
        aborted = rolling.ok("rollout", "abort", "PROD", "--why", "dinner")
        output, _ = process.communicate(timeout=60)

    assert "serves version 1 alone" in aborted.out
    assert process.returncode == 3, output
    assert "dinner" in output
    assert routing(rolling) == ("1", {})


def test_without_its_ledger_a_half_shifted_alias_is_seen_and_put_back(rolling: Shop) -> None:
    configure(rolling, PATIENT)
    stage(rolling)
    with watching(rolling) as process:
        until(lambda: shifted(rolling))
        process.send_signal(signal.SIGKILL)
        process.wait()
    for file in (rolling.folder / ".pointsman" / "local").glob("ledger.db*"):
        file.unlink()

    status = rolling.ok("status").out
    refused = rolling.run("promote", "2", "--to", "PROD", "--approve")
    aborted = rolling.ok("rollout", "abort", "PROD")

    assert "20% on 2" in status
    assert "half-way" in status
    assert refused.code == 4
    assert "serves version 1 alone" in aborted.out
    assert routing(rolling) == ("1", {})


def test_another_release_is_refused_or_ends_the_first_properly(rolling: Shop) -> None:
    configure(rolling, PATIENT)
    stage(rolling)
    with traffic(rolling), watching(rolling) as process:
        until(lambda: shifted(rolling))
        configure(rolling)
        stage(rolling, build="3")
        refused = rolling.run("promote", "3", "--to", "PROD", "--approve")
        taken = rolling.ok("promote", "3", "--to", "PROD", "--approve", "--supersede")
        output, _ = process.communicate(timeout=60)

    assert refused.code == 4
    assert "under way" in refused.err
    assert "--supersede" in refused.err
    assert taken.code == 0
    assert process.returncode == 3, output
    assert "superseded" in output
    assert routing(rolling) == ("3", {})


def test_an_alias_that_somebody_else_moves_is_theirs(rolling: Shop) -> None:
    configure(rolling, PATIENT)
    stage(rolling)
    with traffic(rolling), watching(rolling) as process:
        until(lambda: shifted(rolling))
        rolling.aws("lambda").update_alias(
            FunctionName=rolling.name, Name="PROD", RoutingConfig={"AdditionalVersionWeights": {"2": 0.9}}
        )
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 4, output
    assert "somebody else moved" in output
    assert routing(rolling) == ("1", {"2": 0.9})


def test_a_rollback_ends_the_rollout_and_goes_no_further_back(rolling: Shop) -> None:
    configure(rolling, PATIENT)
    stage(rolling)
    with traffic(rolling), watching(rolling) as process:
        until(lambda: shifted(rolling))
        rolling.ok("rollback", "PROD")
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 3, output
    assert routing(rolling) == ("1", {})


def test_an_alarm_goes_back_unless_it_was_red_before(rolling: Shop) -> None:
    watch = rolling.aws("cloudwatch")
    for name in ("old", "new"):
        watch.put_metric_alarm(
            AlarmName=f"{rolling.name}-{name}",
            Namespace="Shop",
            MetricName=name,
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="ignore",
        )
    watch.set_alarm_state(AlarmName=f"{rolling.name}-old", StateValue="ALARM", StateReason="since yesterday")
    names = f'alarms = ["{rolling.name}-old", "{rolling.name}-new"]'
    configure(rolling, f'rollout = {{ steps = [20, 50], bake = "10m", minimum = 10, early = false, {names} }}\n')
    stage(rolling)

    with traffic(rolling), watching(rolling) as process:
        until(lambda: state(rolling) in ("Baking", "Judging") and shifted(rolling))
        watch.set_alarm_state(AlarmName=f"{rolling.name}-new", StateValue="ALARM", StateReason="5xx")
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 3, output
    assert f"{rolling.name}-old is red already" in output
    assert f"alarm {rolling.name}-new turned red" in output
    assert routing(rolling) == ("1", {})


def test_gates_stand_at_their_moments_and_approvals_come_from_elsewhere(rolling: Shop) -> None:
    log = rolling.folder / "gates.log"
    gates = f"""
[[environment.production.gates]]
when = "traffic"
run  = "echo traffic $POINTSMAN_QUALIFIER >> {log}"
[[environment.production.gates]]
when = "step"
at   = 20
approve = true
[[environment.production.gates]]
when = "after"
run  = "echo after >> {log}; exit 1"
"""
    configure(rolling, ROLLOUT, gates)
    stage(rolling)

    with traffic(rolling), watching(rolling) as process:
        until(lambda: shifted(rolling))
        until(lambda: rolling.run("rollout", "approve", "PROD").code == 0)
        output, _ = process.communicate(timeout=120)

    assert process.returncode == 3, output
    assert log.read_text().splitlines() == ["traffic 2", "after"]
    assert routing(rolling) == ("1", {}), "a gate after the last step that refuses puts the baseline back"


def test_a_quiet_function_asks_and_never_passes_by_itself(rolling: Shop) -> None:
    configure(rolling, 'rollout = { steps = [50], bake = "1s", minimum = 10, hold = "2s" }\n')
    stage(rolling)

    with watching(rolling) as process:
        until(lambda: state(rolling) == "Gating" and shifted(rolling))
        assert routing(rolling) == ("1", {"2": 0.5})
        rolling.ok("rollout", "approve", "PROD")
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 0, output
    assert routing(rolling) == ("2", {})


def test_calls_of_our_own_stand_in_for_a_function_that_has_none(rolling: Shop) -> None:
    rolling.write("events/one.json", json.dumps({"name": "Ada"}))
    own = 'traffic = { events = "events/*.json", rate = 40 }'
    configure(rolling, f'rollout = {{ steps = [50], bake = "2s", minimum = 10, {own} }}\n')
    stage(rolling, 0.4)

    answer = rolling.run("promote", "2", "--to", "PROD", "--approve")

    assert answer.code == 3, answer.err
    assert "of the canary were bad" in answer.err


def test_calls_of_our_own_end_when_the_canary_is_not_watched_any_more(rolling: Shop, tmp_path: Path) -> None:
    """The gate after all traffic passes once nobody has called for a second: ours were forty."""
    log = tmp_path / "calls"
    still = """
import os, sys, time
seen, since, end = -1, time.monotonic(), time.monotonic() + 15
while time.monotonic() < end:
    size = os.path.getsize(sys.argv[1])
    if size != seen:
        seen, since = size, time.monotonic()
    elif time.monotonic() - since > 1:
        sys.exit(0)
    time.sleep(0.05)
sys.exit("somebody calls")
"""
    rolling.write("still.py", still)
    rolling.write("events/one.json", json.dumps({"name": "Ada"}))
    own = 'traffic = { events = "events/*.json", rate = 40 }'
    gate = f'gates = [{{ when = "after", run = "{sys.executable} still.py {log}" }}]\n'
    configure(rolling, f'rollout = {{ steps = [50], bake = "1s", minimum = 10, early = false, {own} }}\n{gate}')
    rolling.write(
        "index.py", f"def handler(event, context):\n    with open({str(log)!r}, 'a') as all:\n        all.write('.')\n"
    )
    rolling.ok("deploy", "--build-id", "2")

    rolling.ok("promote", "2", "--to", "PROD", "--approve")

    assert log.stat().st_size >= 10
    assert rolling.serves("PROD") == "2"


def test_several_functions_roll_out_in_their_order_and_all_go_back(rolling: Shop, tmp_path: Path) -> None:
    """The second one's canary is worse: the first, which has all its traffic already, goes back too."""
    second = f"{rolling.name[:50]}-second"
    settings = f'role = "{rolling.role}", memory = 128, timeout = 1, environment = {{ OUTAGE = "nowhere" }}'
    text = (rolling.folder / "pointsman.toml").read_text()
    extra = f"""
[function.second]
source    = "second"
handler   = "index.handler"
runtime   = "{text.split('runtime   = "')[1].split('"')[0]}"
build     = "python"
provision = {{ with = "direct", name = "{second}", {settings} }}

[environment.staging]"""
    (rolling.folder / "pointsman.toml").write_text(text.replace("[environment.staging]", extra, 1))
    rolling.write("second/index.py", handler(0.0, "1"))
    rolling.ok("deploy", "--build-id", "1b")
    rolling.ok("promote", "1b", "--to", "PROD", "--approve", "--all-at-once")  # nobody calls it yet
    before = routing(rolling)
    rolling.write("index.py", handler(0.0, "2"))
    rolling.write("second/index.py", handler(0.4, "2"))
    rolling.ok("deploy", "--build-id", "2")
    other = replace(rolling, name=second)

    with traffic(rolling), traffic(other):
        answer = rolling.run("promote", "2", "--to", "PROD", "--approve")

    assert answer.code == 3, answer.err
    assert routing(rolling) == before, answer.err
    assert routing(other) == ("1", {})
    assert "Moved back" in answer.err
