"""Rollouts end to end: real traffic through a weighted alias, watched by the second, and what becomes of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Shop

ROLLOUT = """
rollout = { steps = [20, 50], bake = "2s", minimum = 20, hold = "20s" }
"""


def handler(rate: float) -> str:
    return f"""\
import random
def handler(event, context):
    if random.random() < {rate}:
        raise ValueError("asked to")
    return {{"version": context.function_version}}
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
        while not self.stopped.wait(0.005):
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


@pytest.fixture
def rolling(shop: Shop) -> Shop:
    """PROD serves version 1; version 2 is on STAGE."""
    shop.configure(more=ROLLOUT)
    shop.write("index.py", handler(0.0))
    shop.ok("deploy", "--build-id", "1")
    shop.ok("promote", "1", "--to", "PROD", "--approve")
    return shop


def stage(shop: Shop, rate: float, build: str = "2") -> None:
    shop.write("index.py", handler(rate) + f"# {build}\n")
    shop.ok("deploy", "--build-id", build)


def test_a_healthy_canary_gets_all_traffic_step_by_step(rolling: Shop) -> None:
    stage(rolling, 0.0)

    with traffic(rolling) as calls:
        answer = rolling.ok("promote", "2", "--to", "PROD", "--approve", "--json")

    alias = rolling.alias("PROD")
    assert alias is not None
    assert alias["FunctionVersion"] == "2"
    assert "RoutingConfig" not in alias
    assert answer.result[0]["moved"]
    assert calls.of("2")[0] > 20
    told = rolling.ok("rollout", "report", "PROD", "--json").result
    print(rolling.ok("rollout", "report", "PROD").out)
    print(told)
    assert told["outcome"] == "promoted"


def test_a_bad_canary_goes_back_and_the_numbers_are_those_of_the_calls(rolling: Shop, tmp_path: Path) -> None:
    stage(rolling, 0.3)

    with traffic(rolling) as calls:
        answer = rolling.run("promote", "2", "--to", "PROD", "--approve")

    assert answer.code == 3, answer.err
    print(answer.err)
    alias: Any = rolling.alias("PROD")
    assert alias["FunctionVersion"] == "1"
    assert "RoutingConfig" not in alias
    told = rolling.ok("rollout", "report", "PROD", "--json").result
    assert told["outcome"] == "rolled back"
    print(rolling.ok("rollout", "report", "PROD").out)
    assert calls.of("2")[1] > 0
