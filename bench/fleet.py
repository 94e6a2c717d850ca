"""A whole account: `status --all` and `prune` on many functions, counted and measured, on the local AWS.

    python bench/fleet.py [--functions N] [--versions N] [--delete N] [--compare FOLDER]

The full size is --functions 500 --versions 40 --delete 10000 (a quarter of an hour); the default is short.

- Calls beside the listing bound: V/50 pages and one ListAliases for each function. Own seconds are the command's own
  processor time; MB its peak.
- Deleting under the limit: the local AWS takes 15 control-plane calls a second, as AWS does; elapsed time beside
  calls / 15 s, the throttles that were met, and those that a user saw.
- Deleting without the limit, with --compare: beside a shell loop of `aws lambda delete-function` (a sample of it: each
  of its calls takes the same), and beside serverless-prune-plugin on 110 of 120 versions. FOLDER is where the AWS CLI
  (from PyPI) and serverless 3 with the plugin (from npm) are installed, once.

Ratios and counted calls: seconds are this machine's.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointsman.localaws import control
from pointsman.localaws.lambda_ import LambdaState

RUNTIME = "nodejs20.x"
PROJECT = """
[function.greeting]
handler   = "index.handler"
runtime   = "nodejs20.x"
provision = { with = "existing" }

[environment.staging]
alias = "STAGE"

[environment.production]
alias = "PROD"
"""
SERVERLESS = f"""
service: bench
frameworkVersion: "3"
provider: {{name: aws, runtime: {RUNTIME}, region: eu-west-1}}
functions: {{one: {{handler: index.handler, name: compared-theirs}}}}
plugins: [serverless-prune-plugin]
"""
NO_LIMIT = {"POINTSMAN_CALLS_PER_SECOND": "100000"}


def package(word: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.js", f"exports.handler = async () => {word!r};\n")
    return packed.getvalue()


def seed(directory: Path, names: dict[str, int]) -> float:
    """Functions with so many versions, PROD on the last but one and STAGE on the last: before the local AWS starts."""
    began = time.perf_counter()
    account, region = control.ACCOUNT, control.REGION
    state = LambdaState(directory / "aws" / "lambda", settle_s=0.0, runtimes=lambda: (RUNTIME,))
    zips = [package(f"code {number}") for number in range(5)]
    for name, versions in names.items():
        state.create_function(
            account,
            region,
            {
                "FunctionName": name,
                "Runtime": RUNTIME,
                "Handler": "index.handler",
                "Role": f"arn:aws:iam::{account}:role/r",
                "Code": {"ZipFile": zips[0]},
                "Environment": {"Variables": {"TABLE": name, "LOG_LEVEL": "info", "ENDPOINT": "https://example.com/"}},
            },
        )
        for number in range(1, versions + 1):
            state.update_function_code(account, region, {"FunctionName": name, "ZipFile": zips[number % len(zips)]})
            state.publish_version(account, region, {"FunctionName": name, "Description": f"build-{number}"})
        for alias, back in (("PROD", 1), ("STAGE", 0)):
            version = str(max(1, versions - back))
            state.create_alias(account, region, {"FunctionName": name, "Name": alias, "FunctionVersion": version})
    state.close()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Ran:
    code: int
    seconds: float
    own_s: float
    mb: float
    document: dict[str, Any]
    err: str

    @property
    def calls(self) -> int:
        return self.document["calls"]["reads"] + self.document["calls"]["writes"]  # type: ignore[no-any-return]

    def counted(self, service: str) -> int:
        return sum(each["service"] == service for each in self.document["calls"]["list"])


def run(folder: Path, environ: dict[str, str], *words: str) -> Ran:
    """One command line in a process of its own, with what the system says that it took."""
    out, err = folder / "out", folder / "err"
    began = time.perf_counter()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        command = [sys.executable, "-m", "pointsman", *words, "--json"]
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=stdout, stderr=stderr)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    document = json.loads(out.read_bytes() or b"{}")
    if not document.get("ok"):
        raise SystemExit(f"{words} failed: {document.get('error')} {err.read_text()}")
    own = used.ru_utime + used.ru_stime
    return Ran(process.returncode, seconds, own, used.ru_maxrss / 1024, document, err.read_text())


def row(what: str, value: str, of: str = "") -> None:
    print(f"{what:<58} {value:>14}   {of}".rstrip())


def looking(folder: Path, environ: dict[str, str], functions: int, versions: int, keep: int) -> None:
    bound = math.ceil(functions * (versions + 1) / 50) + functions  # $LATEST is listed, too
    for words in (("status", "--all"), ("prune", "--keep-versions", str(keep), "--keep-days", "0")):
        ran = run(folder, environ, *words)
        calls = ran.counted("lambda")
        row(
            f"{' '.join(words[:2])}: Lambda calls",
            f"{calls:,}",
            f"bound {bound:,}: {calls / bound:.3f} x (at most 1.1)",
        )
        if others := ran.calls - calls:
            row("  calls of other services", f"{others:,}")
        row("  own seconds", f"{ran.own_s:.2f} s", f"of {ran.seconds:.1f} s (at most 5 s for 20,000 versions)")
        row("  peak", f"{ran.mb:.0f} MB", "(at most 300 MB)")


def throttles(running: control.Running) -> int:
    return sum(each["hits"] for each in control.chaos(running)["rules"])


def deleting(folder: Path, environ: dict[str, str], running: control.Running, keep: int, only: str) -> None:
    control.chaos(running, "PUT", rules=[{"kind": "throttle", "per_second": 15}])
    words = ["prune", "--keep-versions", str(keep), "--keep-days", "0", "--only", only, "--yes"]
    ran = run(folder, environ, *words)
    lane = [each for each in ran.document["calls"]["list"] if each["service"] == "lambda"]
    deleted = sum(each["action"] == "DeleteFunction" for each in lane)
    least = len(lane) / 15
    row(f"deleting {deleted:,} under the limit", f"{ran.seconds:.1f} s", f"calls / 15: {least:.1f} s")
    row("  to that", f"{ran.seconds / least:.3f} x", f"(at most 1.05 for 10,000); {len(lane):,} calls")
    row("  throttles met, and seen by the user", f"{throttles(running)}, {'hrottl' in ran.err:d}", "(none seen)")
    row("  own seconds, peak", f"{ran.own_s:.1f} s", f"{ran.mb:.0f} MB")
    control.chaos(running, "PUT", rules=[])


def free(folder: Path, environ: dict[str, str], keep: int, only: str) -> float:
    """Versions deleted in a second, the whole command counted, where nothing limits it."""
    words = ["prune", "--keep-versions", str(keep), "--keep-days", "0", "--only", only, "--yes"]
    ran = run(folder, environ | NO_LIMIT, *words)
    deleted = len([each for each in ran.document["calls"]["list"] if each["action"] == "DeleteFunction"])
    row(f"deleting {deleted:,} without a limit", f"{deleted / ran.seconds:.0f} a second", f"{ran.seconds:.1f} s")
    return deleted / ran.seconds


def tools(folder: Path) -> None:
    """The AWS CLI and serverless with its plugin, unless they are in the folder already."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "cli").exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "cli"], check=True)
        subprocess.run([folder / "cli" / "bin" / "pip", "-q", "install", "awscli"], check=True)
    if not (folder / "node_modules").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "serverless@3", "serverless-prune-plugin"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def by_loop(folder: Path, environ: dict[str, str], name: str, sample: int) -> float:
    """Deletions a second by a shell loop of the AWS CLI."""
    script = f"for n in $(seq 1 {sample}); do aws lambda delete-function --function-name {name} --qualifier $n; done"
    path = f"{folder / 'cli' / 'bin'}:{environ['PATH']}"
    began = time.perf_counter()
    subprocess.run(["bash", "-ec", script], env=environ | {"PATH": path}, check=True, stdout=subprocess.DEVNULL)
    return sample / (time.perf_counter() - began)


def by_plugin(folder: Path, work: Path, environ: dict[str, str]) -> float:
    """Seconds that `serverless prune -n 10` takes."""
    (work / "serverless.yml").write_text(SERVERLESS)
    (work / "node_modules").symlink_to(folder / "node_modules")
    preload = {"NODE_OPTIONS": f"--require {control.javascript_v2_preload()}", "SLS_TELEMETRY_DISABLED": "1"}
    began = time.perf_counter()
    command = ["node_modules/.bin/serverless", "prune", "-n", "10"]
    done = subprocess.run(command, cwd=work, env=environ | preload, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"serverless prune failed: {done.stdout}{done.stderr}")
    return time.perf_counter() - began


def compare(folder: Path, work: Path, environ: dict[str, str], ours: float, sample: int) -> None:
    loop = by_loop(folder, environ, "sampled", sample)
    row(
        f"shell loop of the AWS CLI (a sample of {sample})",
        f"{loop:.1f} a second",
        f"ours: {ours / loop:.1f} x (at least 5)",
    )
    theirs = by_plugin(folder, work, environ)
    words = ["prune", "--function", "compared-ours", "--keep-versions", "10", "--keep-days", "0", "--yes"]
    ran = run(work, environ | NO_LIMIT, *words)
    row("110 of 120 versions: serverless prune -n 10", f"{theirs:.2f} s")
    row("  pointsman prune --keep-versions 10", f"{ran.seconds:.2f} s", f"{ran.seconds / theirs:.2f} x (at most 1)")


def left(running: control.Running, name: str) -> int:
    import botocore.session

    os.environ.update(control.environment(running))
    client = botocore.session.get_session().create_client("lambda", region_name=control.REGION)
    pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=name)
    return sum(len(page["Versions"]) for page in pages) - 1


def main(asked: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pointsman-bench-"))
    functions, versions = asked.functions, asked.versions
    each = math.ceil(asked.delete / max(1, versions - 2))  # functions that are emptied under the limit
    names = {f"{'slow' if number < each else 'fast'}-{number:04}": versions for number in range(functions)}
    extra = {"sampled": 60, "compared-ours": 120, "compared-theirs": 120} if asked.compare else {}
    try:
        took = seed(folder, names)
        (folder / "pointsman.toml").write_text(PROJECT)
        print(f"{functions:,} functions x {versions} versions, seeded in {took:.0f} s")
        running = control.up(folder / "aws")
        environ = {**os.environ, **control.environment(running)}
        looking(folder, environ | NO_LIMIT, functions, versions, 2)
        control.chaos(running, "PUT", rules=[{"kind": "throttle", "per_second": 15}])
        ran = run(folder, environ, "status", "--all")
        row("status --all under the limit", f"{ran.seconds:.1f} s", f"calls / 15: {ran.calls / 15:.1f} s")
        row("  throttles met", str(throttles(running)))
        deleting(folder, environ, running, 2, "slow-*")
        ours = free(folder, environ, 2, "fast-*")
        if asked.compare:
            tools(asked.compare)
            control.down(folder / "aws")
            seed(folder, extra)
            running = control.up(folder / "aws")
            compare(asked.compare.absolute(), folder, environ | control.environment(running), ours, 10)
            row(
                "  left of each",
                f"{left(running, 'compared-theirs')}, {left(running, 'compared-ours')}",
                "(the plugin keeps aliased ones beside its 10)",
            )
    finally:
        control.down(folder / "aws")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", type=int, default=40)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--delete", type=int, default=150, help="versions that are deleted under the limit")
    parser.add_argument("--compare", type=Path, metavar="FOLDER", help="beside the AWS CLI and serverless-prune-plugin")
    main(parser.parse_args())
