"""Time `pointsman build` beside `zip -r -q` and `7z -tzip -mx=1` of the same files: python bench/package.py [RUNS]

Two functions, dependencies installed already: a Python one (numpy, pydantic, requests, boto3: 85 MB in 3,400 files) and
a Node one (19 MB in 5,400 small files). Both are made in .bench on the first run, from the registries, and kept. Whole
processes, medians; `cpu` is what all its threads took, and tells more than the time where others are at work; peak
memory is that of the largest process. Asserts nothing but that a rebuild gives the bytes of a cold build.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HOME = Path(__file__).parent.parent / ".bench"
POINTSMAN = Path(sys.executable).with_name("pointsman")
PYTHON = "boto3==1.44.8\nnumpy==2.5.5\npydantic==2.14.4\nrequests==2.34.2\n"
NODE = {
    "axios": "1.21.1",
    "express": "4.22.3",
    "lodash": "4.18.1",
    "moment": "2.31.0",
    "rxjs": "7.8.2",
    "uuid": "9.0.1",
    "zod": "3.25.76",
}
FILE = """
[function.f]
handler = "app.handler"
runtime = "{runtime}"
build = "{build}"
source = "src"
provision = {{ with = "existing", name = "f" }}
"""
READ = """
import hashlib, os
for folder, _, names in os.walk("."):
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            hashlib.file_digest(file, "sha256")
"""


class Run(NamedTuple):
    seconds: float
    cpu: float
    kilobytes: int


def run(command: list[str], at: Path) -> Run:
    """A process, its time, its peak memory."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=at, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {said.decode()}")
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss // (1024 if sys.platform == "darwin" else 1))


def made(project: Path) -> Path:
    """The newest package."""
    return max((project / ".pointsman" / "artifacts").glob("f-*.zip"), key=lambda path: path.stat().st_mtime_ns)


def digest(path: Path) -> str:
    with path.open("rb") as file:  # in pieces: what we hold would count as our children's memory
        return hashlib.file_digest(file, "sha256").hexdigest()


def project(name: str) -> Path:
    """A function with its dependencies installed in our cache, and in `tree` what its package holds."""
    at = HOME / name
    source = at / "src"
    if not (at / "tree").is_dir():
        shutil.rmtree(at, ignore_errors=True)
        source.mkdir(parents=True)
        if name == "python":
            (at / "pointsman.toml").write_text(FILE.format(runtime="python3.13", build="python"))
            (source / "app.py").write_text("def handler(event, context): ...\n")
            (source / "requirements.txt").write_text(PYTHON)
        else:
            (at / "pointsman.toml").write_text(FILE.format(runtime="nodejs22.x", build="node"))
            (source / "app.js").write_text("exports.handler = async () => {}\n")
            (source / "package.json").write_text(json.dumps({"dependencies": NODE}))
            lock = ["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(lock, cwd=source, check=True, stdout=subprocess.DEVNULL)
        run([str(POINTSMAN), "build"], at)
        subprocess.run(["unzip", "-q", made(at), "-d", at / "tree.part"], check=True)
        (at / "tree.part").rename(at / "tree")
        time.sleep(2.1)  # a file is known by its times only once it is older than times are exact
    return at


def main(runs: int) -> None:
    for name in ("python", "node"):
        at = project(name)
        measure(name, at, runs)


def measure(name: str, at: Path, runs: int) -> None:
    tree, scratch = at / "tree", at / "scratch"
    scratch.mkdir(exist_ok=True)
    source = next((at / "src").glob("app.*"))
    number = iter(range(time.time_ns(), time.time_ns() + 1000))

    def archiver(*command: str) -> Callable[[], tuple[Run, Path]]:
        def make() -> tuple[Run, Path]:
            to = scratch / "theirs.zip"
            to.unlink(missing_ok=True)  # or it would be updated
            return run([*command, str(to), "."], tree), to

        return make

    def build() -> tuple[Run, Path]:
        return run([str(POINTSMAN), "build"], at), made(at)

    def cold() -> tuple[Run, Path]:
        shutil.rmtree(at / ".pointsman" / "artifacts", ignore_errors=True)
        return build()

    def changed() -> tuple[Run, Path]:
        with source.open("a") as file:
            file.write(f"// {next(number)}\n" if source.suffix == ".js" else f"# {next(number)}\n")
        return build()

    def unchanged() -> tuple[Run, Path]:
        return build()

    def read() -> tuple[Run, Path]:
        return run([sys.executable, "-c", READ], tree), scratch

    makers: dict[str, Callable[[], tuple[Run, Path]]] = {"zip -r -q": archiver("zip", "-r", "-q")}
    if seven := next(filter(None, map(shutil.which, ("7z", "7za", "7zz"))), None):
        makers["7z -mx=1"] = archiver(seven, "a", "-tzip", "-mx=1", "-bso0", "-bsp0")
    else:
        print("7z is not installed: it is left out")
    makers |= {"reading and hashing": read, "ours, cold": cold, "ours, one file changed": changed}
    makers |= {"ours, nothing changed": unchanged}

    found: dict[str, list[Run]] = {each: [] for each in makers}
    sizes: dict[str, int] = {}
    for _ in range(runs):
        for each, make in makers.items():
            once, zipped = make()
            found[each].append(once)
            if zipped != scratch:
                sizes[each] = zipped.stat().st_size
    warm = digest(made(at))
    cold()
    assert digest(made(at)) == warm, "what was copied from earlier packages is not what would have been made anew"

    with zipfile.ZipFile(made(at)) as zipped:
        infos = zipped.infolist()
    print(f"{name}: {sum(each.file_size for each in infos) / 1e6:.0f} MB in {len(infos):,} files; {runs} runs")
    zip_s = statistics.median(each.seconds for each in found["zip -r -q"])
    for each, all_runs in found.items():
        seconds = statistics.median(once.seconds for once in all_runs)
        cpu = statistics.median(once.cpu for once in all_runs)
        memory = max(once.kilobytes for once in all_runs) / 1024
        size = f"{sizes[each]:12,} bytes" if each in sizes else " " * 18
        ratio = f"{zip_s / seconds:5.1f} x zip's speed"
        print(f"  {each:24} {seconds:7.3f} s {cpu:7.3f} s cpu {ratio} {size}   {memory:5.0f} MiB")
    print(f"  sha256 {warm}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
