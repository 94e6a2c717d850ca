"""Time our zip of an installed tree beside `zip` and `shutil.make_archive`: python bench/package.py [FOLDER [RUNS]]

Without a folder: the botocore that is installed here, 28 MB in some 2,000 files.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import botocore

from pointsman.artifact.archive import write
from pointsman.artifact.source import choose, closed


def main(folder: Path, runs: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        tree = Path(home, "tree")  # without bytecode, which only we would leave out
        shutil.copytree(folder, tree, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))

        def ours() -> Path:
            members = choose(tree, kind="installed")
            closed(members)
            with Path(home, "ours.zip").open("wb") as file:
                write(members, file)
            return Path(home, "ours.zip")

        def info_zip() -> Path:
            Path(home, "zip.zip").unlink(missing_ok=True)  # or zip would update it
            subprocess.run(["zip", "-r", "-q", "-y", Path(home, "zip.zip"), "."], cwd=tree, check=True)
            return Path(home, "zip.zip")

        def make_archive() -> Path:
            return Path(shutil.make_archive(str(Path(home, "shutil")), "zip", tree))

        makers = {"ours": ours, "zip -r -q": info_zip, "shutil": make_archive}
        measured = {name: measure(make, runs) for name, make in makers.items()}
    seconds, size = measured["ours"]
    print(f"{folder}: the best of {runs} runs")
    for name, (their_seconds, their_size) in measured.items():
        ratios = f"ours/this: time {seconds / their_seconds:.2f}, size {size / their_size:.3f}"
        print(f"{name:10} {their_seconds:7.3f} s {their_size / 1e6:8.2f} MB   {ratios}")


def measure(make: Callable[[], Path], runs: int) -> tuple[float, int]:
    """(seconds of the fastest run, bytes of its zip)"""
    best, size = float("inf"), 0
    for _ in range(runs):
        began = time.perf_counter()
        size = make().stat().st_size
        best = min(best, time.perf_counter() - began)
    return best, size


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(botocore.__file__).parent
    main(chosen.resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
