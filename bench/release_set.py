"""Ten functions: one release set, beside one deploy after the other, beside a shell loop with the AWS CLI.

    python bench/release_set.py [FUNCTIONS]

All on one local AWS that throttles as AWS does: 15 control-plane calls a second. Prints times, ratios, counted calls.
Where the AWS CLI is not installed, the loop makes the same calls in one Python process by botocore (an AWS CLI would
start anew for each, at some 0.3 s).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pointsman.localaws import control

FUNCTION = """
[function.{name}]
source    = "{name}"
handler   = "index.handler"
runtime   = "python{version}"
build     = "python"
provision = {{ with = "direct", role = "{role}" }}
"""
LOOP = """
for name in {names}; do
    ( cd "$name" && zip -q -X ../"$name".zip index.py )
    aws lambda update-function-code --function-name "$name" --zip-file fileb://"$name".zip
    aws lambda wait function-updated-v2 --function-name "$name"
    number=$(aws lambda publish-version --function-name "$name" --query Version --output text)
    aws lambda wait published-version-active --function-name "$name" --qualifier "$number"
    aws lambda update-alias --function-name "$name" --name STAGE --function-version "$number"
done
"""


def loop(names: list[str], folder: Path) -> int:
    """The shell loop's calls, by botocore; returns how many."""
    import botocore.session

    client = botocore.session.get_session().create_client("lambda")
    calls: list[str] = []
    client.meta.events.register("before-call.lambda.*", lambda model, **_: calls.append(model.name))
    for name in names:
        package = folder / f"{name}.zip"
        package.unlink(missing_ok=True)
        subprocess.run(["zip", "-q", "-X", package, "index.py"], cwd=folder / name, check=True)
        client.update_function_code(FunctionName=name, ZipFile=package.read_bytes())
        client.get_waiter("function_updated_v2").wait(FunctionName=name)
        number = client.publish_version(FunctionName=name)["Version"]
        client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=number)
        client.update_alias(FunctionName=name, Name="STAGE", FunctionVersion=number)
    return len(calls)


def change(folder: Path, names: list[str], word: str) -> None:
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "index.py").write_text(f"def handler(event, context):\n    return {word!r}\n")


def timed(words: list[str], environ: dict[str, str], cwd: Path) -> tuple[float, dict[str, Any]]:
    began = time.perf_counter()
    command = [sys.executable, "-m", "pointsman", *words, "--json"]
    done = subprocess.run(command, cwd=cwd, env=environ, check=True, capture_output=True, text=True)
    return time.perf_counter() - began, json.loads(done.stdout)["calls"]


def main(count: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pointsman-bench-"))
    running = control.up(folder / "aws")
    control.chaos(running, "PUT", rules=[{"kind": "throttle", "per_second": 15}])
    environ = {**os.environ, **control.environment(running)}
    os.environ.update(environ)
    names = [f"f{number}" for number in range(count)]
    try:
        import botocore.session

        trust = {"Version": "2012-10-17", "Statement": []}
        iam = botocore.session.get_session().create_client("iam")
        role = iam.create_role(RoleName="bench", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        version = ".".join(map(str, sys.version_info[:2]))
        tables = "".join(FUNCTION.format(name=name, role=role, version=version) for name in names)
        (folder / "pointsman.toml").write_text(f'{tables}\n[environment.staging]\nalias = "STAGE"\n')

        change(folder, names, "zero")
        timed(["deploy", "--build-id", "zero"], environ, folder)
        change(folder, names, "together")
        together, calls = timed(["deploy", "--build-id", "together"], environ, folder)
        nothing, no_calls = timed(["deploy", "--build-id", "together"], environ, folder)
        change(folder, names, "alone")
        alone, alone_calls = 0.0, {"reads": 0, "writes": 0}
        for name in names:
            seconds, each = timed(["deploy", "--function", name, "--build-id", "alone"], environ, folder)
            alone += seconds
            alone_calls = {kind: alone_calls[kind] + each[kind] for kind in alone_calls}
        change(folder, names, "loop")
        began = time.perf_counter()
        if shutil.which("aws"):
            script = LOOP.format(names=" ".join(names))
            subprocess.run(["bash", "-ec", script], cwd=folder, env=environ, check=True, capture_output=True)
            label, loop_calls = "shell loop, AWS CLI", count * 5  # at least: its waiters may look more than once
        else:
            label, loop_calls = "loop, botocore in one process", loop(names, folder)
        by_loop = time.perf_counter() - began
    finally:
        control.down(folder / "aws")
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{count} changed functions                     seconds   to the set   calls")
    print(f"{'one release set':<38} {together:8.2f}   {1:10.2f}   {calls['reads']} reads, {calls['writes']} writes")
    told = f"{alone_calls['reads']} reads, {alone_calls['writes']} writes"
    print(f"{'one deploy after the other':<38} {alone:8.2f}   {alone / together:10.2f}   {told}")
    print(f"{label:<38} {by_loop:8.2f}   {by_loop / together:10.2f}   {loop_calls} calls")
    told = f"{no_calls['reads']} reads, {no_calls['writes']} writes"
    print(f"{'the release set again, nothing changed':<38} {nothing:8.2f}   {nothing / together:10.2f}   {told}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
