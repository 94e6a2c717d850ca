"""Time all of `pointsman build` beside `sam build` and its zip, and `pip install -t`: python bench/build.py [RUNS]

The two functions of bench/package.py. Three times each: with every cache empty (pip's, uv's and npm's too), with warm
download caches but nothing built yet, and with nothing changed (`sam build --cached`). Whole processes, medians; `cpu`
is what all its processes took. What is not installed is left out: `sam` (`pip install aws-sam-cli`), `python3.13`.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import package

HOME = package.HOME / "build"
CACHES = HOME / "caches"
TEMPLATE = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Transform": "AWS::Serverless-2016-10-31",
}


class Run(NamedTuple):
    seconds: float
    cpu: float


def run(*commands: list[str], at: Path) -> Run:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PIP_CACHE_DIR": str(CACHES / "pip"),
        "UV_CACHE_DIR": str(CACHES / "uv"),
        "npm_config_cache": str(CACHES / "npm"),
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(CACHES / "sam"),
    }
    before, began = os.times(), time.perf_counter()
    for command in commands:
        done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(time.perf_counter() - began, cpu)


def project(name: str) -> Path:
    """The sources of bench/package.py's function, with a file of ours and a template of SAM's."""
    at = HOME / name
    shutil.rmtree(at, ignore_errors=True)
    theirs = package.project(name)
    shutil.copytree(theirs / "src", at / "src")
    shutil.copyfile(theirs / "pointsman.toml", at / "pointsman.toml")
    runtime = "python3.13" if name == "python" else "nodejs22.x"
    if name == "node":  # SAM runs `npm pack`, which asks for both
        manifest = at / "src" / "package.json"
        manifest.write_text(json.dumps({"name": "f", "version": "1.0.0"} | json.loads(manifest.read_text())))
    properties = {"CodeUri": "src", "Handler": "app.handler", "Runtime": runtime}
    resources = {"F": {"Type": "AWS::Serverless::Function", "Properties": properties}}
    (at / "template.json").write_text(json.dumps({**TEMPLATE, "Resources": resources}))
    return at


def main(runs: int) -> None:
    for name in ("python", "node"):
        measure(name, project(name), runs)


def measure(name: str, at: Path, runs: int) -> None:
    sam = ["sam", "build", "--template", "template.json"]
    zipped = ["sh", "-c", "cd .aws-sam/build/F && rm -f ../../f.zip && zip -r -q ../../f.zip ."]
    ours = [str(package.POINTSMAN), "build"]
    pip = ["python3.13", "-m", "pip", "install", "-q", "-r", "src/requirements.txt", "-t", "target"]

    def fresh(*kept: Path) -> None:
        for each in (at / ".aws-sam", at / ".pointsman", at / "target", CACHES):
            if each not in kept:
                shutil.rmtree(each, ignore_errors=True)

    makers: dict[str, Callable[[], Run]] = {"pointsman build": lambda: run(ours, at=at)}
    if shutil.which("sam"):
        makers["sam build + zip"] = lambda: run(sam, zipped, at=at)
    if (
        name == "python"
        and shutil.which("python3.13")
        and subprocess.run(["python3.13", "-V"], check=False).returncode == 0
    ):
        makers["pip install -t"] = lambda: run(pip, at=at)
    found: dict[tuple[str, str], list[Run]] = {}

    def note(tool: str, when: str, once: Run) -> None:
        found.setdefault((tool, when), []).append(once)
        print(f"  {name}, {tool}, {when}: {once.seconds:.2f} s, {once.cpu:.2f} s cpu", file=sys.stderr, flush=True)

    for _ in range(runs):
        for tool, make in makers.items():
            fresh()
            note(tool, "empty caches", make())
            fresh(CACHES)
            note(tool, "warm caches", make())
            if tool == "sam build + zip":
                run([*sam, "--cached"], at=at)  # its first time is no use of its cache
                note(tool, "nothing changed", run([*sam, "--cached"], zipped, at=at))
            elif tool == "pointsman build":
                note(tool, "nothing changed", make())
    print(f"{name}; {runs} runs")
    for (tool, when), all_runs in found.items():
        seconds = statistics.median(each.seconds for each in all_runs)
        cpu = statistics.median(each.cpu for each in all_runs)
        print(f"  {tool:16} {when:16} {seconds:7.2f} s {cpu:7.2f} s cpu")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
