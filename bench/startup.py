"""Start-up, side by side in one run: `pointsman --help` beside `python -c pass`; `pointsman status` beside a bare
botocore script that makes the same calls, and beside `aws lambda get-function` where the AWS CLI is installed.

Everything talks to one local AWS. Prints medians, ratios and counted calls; asserts nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

from pointsman.localaws import control

RUNS = 15
BARE = """
import botocore.session
client = botocore.session.get_session().create_client("lambda")
client.get_function(FunctionName="greeting")
client.list_aliases(FunctionName="greeting")
"""
FILE = """
[function.greeting]
handler = "index.handler"
runtime = "python3.11"
build = "python"
provision = {{ with = "direct", name = "greeting", role = "{role}" }}
[environment.staging]
alias = "STAGE"
"""


def interleaved(commands: dict[str, list[str]], environ: dict[str, str], cwd: Path) -> dict[str, float]:
    """Median milliseconds of each, taken in turn so that a slow moment of the machine hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(RUNS + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, env=environ, cwd=cwd, check=True, capture_output=True)
            if turn:  # the first warms the page cache
                taken[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(each) for name, each in taken.items()}


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="pointsman-bench-"))
    running = control.up(folder / "aws")
    environ = {**os.environ, **control.environment(running)}
    pointsman = str(Path(sys.executable).with_name("pointsman"))
    try:
        import botocore.session

        os.environ.update(control.environment(running))
        iam = botocore.session.get_session().create_client("iam")
        role = iam.create_role(RoleName="bench", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17"}))
        (folder / "pointsman.toml").write_text(FILE.format(role=role["Role"]["Arn"]))
        (folder / "index.py").write_text("def handler(event, context):\n    return 1\n")
        quiet: dict[str, Any] = {"env": environ, "cwd": folder, "capture_output": True}
        subprocess.run([pointsman, "deploy", "--build-id", "1"], check=True, **quiet)
        (folder / "bare.py").write_text(textwrap.dedent(BARE))
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "pointsman --help": [pointsman, "--help"],
            "bare botocore script": [sys.executable, "bare.py"],
            "pointsman status": [pointsman, "status"],
        }
        if aws := shutil.which("aws"):
            commands["aws lambda get-function"] = [aws, "lambda", "get-function", "--function-name", "greeting"]
        found = interleaved(commands, environ, folder)
        said = subprocess.run([pointsman, "status", "--json"], check=True, **quiet).stdout
        calls = json.loads(said)["calls"]
    finally:
        control.down(folder / "aws")
        shutil.rmtree(folder)
    for name, ms in found.items():
        print(f"{name:<26}{ms:8.1f} ms")
    print(f"--help above python -c pass{found['pointsman --help'] - found['python -c pass']:8.1f} ms   (at most 60)")
    ratio = found["pointsman status"] / found["bare botocore script"]
    print(f"status / bare botocore     {ratio:8.2f} x    (at most 1.2)")
    print(f"calls of status            {calls['reads']} reads, {calls['writes']} writes, as the bare script makes")


if __name__ == "__main__":
    main()
