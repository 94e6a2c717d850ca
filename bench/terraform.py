"""What Pointsman adds to Terraform: `python bench/terraform.py [ROUNDS]`. Needs terraform, its AWS provider and node.

Side by side on a local AWS: the article's shell steps (zip, init, apply, output, alias) and `pointsman deploy`, for the
first deploy, changed code, and nothing changed. Prints seconds of each, their ratio, what Pointsman takes beside the
runs of Terraform it starts, and its calls. POINTSMAN_TERRAFORM_PLUGINS names the provider's folder where there is one.
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
from statistics import median

from pointsman.localaws import control

EXAMPLE = Path(__file__).parents[1] / "examples" / "api-backend"
STEPS = """
import json, pathlib, subprocess, sys, zipfile
import botocore.session
with zipfile.ZipFile("lambda.zip", "w", zipfile.ZIP_DEFLATED) as packed:
    for path in sorted(pathlib.Path("src").iterdir()):
        packed.writestr(zipfile.ZipInfo(str(path)), path.read_bytes())
for words in (["init"], ["apply", "-auto-approve"]):
    subprocess.run(["terraform", *words, "-input=false"], cwd="terraform", check=True, stdout=subprocess.DEVNULL)
told = json.loads(subprocess.run(["terraform", "output", "-json"], cwd="terraform", check=True, stdout=-1).stdout)
name, version = told["lambda_name"]["value"], told["lambda_version"]["value"]
client = botocore.session.get_session().create_client("lambda")
try:
    client.update_alias(FunctionName=name, Name="STAGE", FunctionVersion=version)
except client.exceptions.ResourceNotFoundException:
    client.create_alias(FunctionName=name, Name="STAGE", FunctionVersion=version)
"""
# Notes how long each run of Terraform took, so that what is left is Pointsman's own.
TIMED = """#!/bin/bash
began=$EPOCHREALTIME
{terraform} "$@"
code=$?
echo "$began $EPOCHREALTIME $1 $2" >> "$TIMES"
exit $code
"""


def project(folder: Path, name: str) -> Path:
    """The example without its tests: only what both ways do is compared."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".terraform*", ".pointsman", "*.tfstate*"))
    module = folder / "terraform" / "lambda.tf"
    module.write_text(module.read_text().replace('"api-backend"', f'"{name}"'))
    config = (folder / "pointsman.toml").read_text()
    tests = config[config.index("[function.api-backend.test]") : config.index("[environment.staging]")]
    (folder / "pointsman.toml").write_text(config.replace(tests, ""))
    return folder


def timed(words: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - began, done.stdout


def main(rounds: int) -> None:
    terraform = shutil.which("terraform")
    if terraform is None:
        raise SystemExit("terraform is not installed here")
    home = Path(tempfile.mkdtemp(prefix="bench-terraform-"))
    running = control.up(home / "aws", settle_s=0.02)
    try:
        environment = {**os.environ, **control.environment(running), "CHECKPOINT_DISABLE": "1"}
        environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "TIMES": str(home / "times")}
        if plugins := os.environ.get("POINTSMAN_TERRAFORM_PLUGINS"):
            environment["TF_CLI_ARGS_init"] = f"-plugin-dir={plugins}"
        launcher = home / "bin" / "terraform"
        launcher.parent.mkdir()
        launcher.write_text(TIMED.format(terraform=terraform))
        launcher.chmod(0o755)
        watched = {**environment, "PATH": f"{launcher.parent}:{environment['PATH']}"}
        for kind in ("first deploy", "changed code", "unchanged"):
            rows = []
            for n in range(rounds):
                if kind == "first deploy":
                    by_hand, ours = (project(home / f"{name}-{n}", f"{name}-{n}") for name in ("by-hand", "ours"))
                if kind == "changed code":
                    for folder in (by_hand, ours):
                        routes = folder / "src" / "routes.js"
                        routes.write_text(f"{routes.read_text()}// {n}\n")
                (home / "times").write_text("")
                hand, _ = timed([sys.executable, "-c", STEPS], by_hand, environment)
                deploy = [sys.executable, "-m", "pointsman", "deploy", "--build-id", f"{kind.split()[0]}-{n}", "--json"]
                own, out = timed(deploy, ours, watched)
                lines = (home / "times").read_text().splitlines()
                moments = [line.split() for line in lines]
                inside = sum(float(ended) - float(began) for began, ended, *_ in moments)
                calls = json.loads(out)["calls"]
                rows.append((hand, own, own - inside, len(lines), calls["reads"], calls["writes"]))
            hand, own, beside, runs, reads, writes = (median(column) for column in zip(*rows, strict=True))
            print(
                f"{kind:13} by hand {hand:6.2f} s   pointsman {own:6.2f} s   ratio {own / hand:5.2f}   "
                f"beside terraform {beside:5.2f} s   runs of terraform {runs:g}   reads {reads:g}, writes {writes:g}"
            )
    finally:
        control.down(home / "aws")
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
