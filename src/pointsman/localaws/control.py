"""Start, find and stop the local AWS of a directory, and reach it. Imports nothing slow: every CLI call pays for it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "LocalAwsError",
    "LogEvent",
    "Running",
    "chaos",
    "down",
    "environment",
    "javascript_v2_preload",
    "log_events",
    "reset",
    "running",
    "up",
]

ACCOUNT = "123456789012"
REGION = "eu-west-1"
FACTS = "server.json"
LIFE = "server.lock"  # flock'ed by the server as long as it lives: what a recycled pid cannot fake
_BUSY_S = 10.0  # how long a living server may take to answer a health check
_PATIENCE_S = 20.0  # how long a stopping server may take to save, before it is killed
_LISTENING_S = 20.0  # how long one request waits for log lines

_children: dict[int, subprocess.Popen[bytes]] = {}  # started here, so to be reaped here


class LocalAwsError(Exception):
    """The local AWS cannot be started, stopped or reached; the message says why, with its log's last lines."""


@dataclass(frozen=True)
class Running:
    """A local AWS that answers. `started` is in epoch seconds."""

    pid: int
    port: int
    url: str
    started: float
    directory: Path


@dataclass(frozen=True)
class LogEvent:
    """One line a function logged, or Lambda's START, END and REPORT. `timestamp` is in epoch milliseconds."""

    timestamp: int
    message: str
    function: str
    account: str
    region: str
    group: str
    stream: str


def up(directory: Path, *, port: int | None = None, wait_s: float = 30, settle_s: float | None = None) -> Running:
    """Start the local AWS of `directory`, or find it running. Raises LocalAwsError when it does not come up."""
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / "up.lock", wait_s):
        if (there := running(directory)) is not None:
            if port not in (None, there.port):
                raise LocalAwsError(f"It already runs, at port {there.port}. Stop it to have it at {port}.")
            return there
        return _start(directory, port, wait_s, settle_s)


def _start(directory: Path, port: int | None, wait_s: float, settle_s: float | None) -> Running:
    ready, ready_child = os.pipe()
    command = [sys.executable, "-m", "pointsman.localaws", "--directory", str(directory)]
    command += ["--ready-fd", str(ready_child)]
    command += [] if port is None else ["--port", str(port)]
    command += [] if settle_s is None else ["--settle", str(settle_s)]
    log = directory / "server.log"
    try:
        with log.open("ab") as output:
            began = output.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                env={name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))},
                pass_fds=[ready_child],
                start_new_session=True,
            )
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(ready_child)
    _children[process.pid] = process
    with open(ready, "rb", buffering=0) as pipe:  # noqa: PTH123 (a descriptor)
        if select.select([pipe], [], [], wait_s)[0] and (line := pipe.read(4096)):
            return _running(json.loads(line), directory)
    # Nothing came: the pipe ended, because the process did, or the time is over.
    late = process.poll() is None and not _ends(process.pid, 1.0)
    _kill(process.pid)
    with log.open("rb") as output:
        output.seek(began)
        words = output.read().decode(errors="replace").strip().splitlines()
    what = f"It did not come up within {wait_s:g} s." if late else "It ended while starting."
    raise LocalAwsError("\n".join([f"{what} Its log ({log}) ends:", *words[-12:]] if words else [what]))


def running(directory: Path) -> Running | None:
    """The local AWS of `directory`, if it is up. What a dead one left behind is cleaned away."""
    directory = directory.absolute()
    facts = _facts(directory)
    if facts is None:
        return None
    found = _running(facts, directory)
    deadline = time.monotonic() + _BUSY_S
    while alive(directory):
        try:
            if _get(found, "/_pointsman/health", timeout=_BUSY_S)["pid"] == found.pid:
                return found
            break  # somebody else's port by now
        except (OSError, ValueError) as error:  # it listens before it says so: it is stopping, or stuck
            if time.monotonic() > deadline:
                raise LocalAwsError(f"Process {found.pid} does not answer at {found.url}: {error}") from error
        time.sleep(0.02)
    if _facts(directory) == facts:  # another `up` may have begun meanwhile
        (directory / FACTS).unlink(missing_ok=True)
    return None


def down(directory: Path) -> bool:
    """Stop it: requests finish, state is saved, function processes end. False if it was not up."""
    directory = directory.absolute()
    if not directory.exists():
        return False
    with locked(directory / "up.lock", _PATIENCE_S):  # one that is just starting is stopped when it is up
        facts, lives = _facts(directory), alive(directory)
        if facts is not None and lives:
            pid = int(facts["pid"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            if not _ends(pid, _PATIENCE_S):
                _kill(pid)
        (directory / FACTS).unlink(missing_ok=True)
    return lives


def reset(directory: Path) -> None:
    """Stop it and forget everything it knew."""
    down(directory)
    if directory.exists():
        shutil.rmtree(directory)


def environment(running: Running, *, region: str = REGION, account: str | None = None) -> dict[str, str]:
    """Variables that point every AWS SDK, the AWS CLI and Terraform at `running`, and at no profile of the user's."""
    return {
        "AWS_ENDPOINT_URL": running.url,
        "AWS_ACCESS_KEY_ID": account or ACCOUNT,  # the local AWS reads the account from a key of twelve digits
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def chaos(running: Running, method: str = "GET", action: str = "", **asked: Any) -> dict[str, Any]:
    """What trouble is in force, after PUT (this only), POST (this too) or DELETE (none). See `trouble.Troublemaker`."""
    status, found = ask(running, method, f"/_pointsman/chaos{action}", timeout=60, body=asked or None)
    if status != 200:
        raise LocalAwsError(str(found["message"]))
    document: dict[str, Any] = found
    return document


def javascript_v2_preload() -> Path:
    """What `node --require` needs for the AWS SDK for JavaScript v2, which does not read AWS_ENDPOINT_URL."""
    return Path(__file__).parent / "execution" / "node" / "aws-sdk-v2.cjs"


def log_events(
    running: Running, function: str | None = None, *, since_ms: int = 0, follow: bool = False
) -> Iterator[LogEvent]:
    """What functions logged since `since_ms` (epoch), oldest first.

    With `follow`, goes on until the caller stops, over restarts of the local AWS; each line comes once.
    """
    from http.client import HTTPException

    asked: dict[str, Any] = {
        "function": function,
        "since_ms": since_ms,
        "seen": {},
        "wait_s": _LISTENING_S if follow else 0,
    }
    while True:
        try:
            _, found = ask(running, "POST", "/_pointsman/logs", timeout=_LISTENING_S + 60, body=asked)
        except (OSError, HTTPException, ValueError):  # it was stopped or killed, perhaps in the middle of its answer
            if not follow:
                raise
            running = _back(running.directory)
            continue
        asked["seen"] = found["seen"]
        for line in found["lines"]:
            yield LogEvent(**line | {"message": line["message"].removesuffix("\n")})
        if not follow:
            return


def _back(directory: Path) -> Running:
    """The local AWS of `directory`, as soon as it is up again."""
    while True:
        with contextlib.suppress(LocalAwsError):
            if (there := running(directory)) is not None:
                return there
        time.sleep(0.2)


# --- files, locks and processes ---


def _facts(directory: Path) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads((directory / FACTS).read_bytes())
    except (FileNotFoundError, ValueError):  # written by a rename, so what does not parse is nobody's
        return None
    return facts


def _running(facts: dict[str, Any], directory: Path) -> Running:
    return Running(facts["pid"], facts["port"], facts["url"], facts["started"], directory)


def alive(directory: Path) -> bool:
    try:
        with (directory / LIFE).open("rb") as life:
            fcntl.flock(life, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def locked(path: Path, wait_s: float) -> Iterator[None]:
    with path.open("ab") as lock:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LocalAwsError(f"Another process has been starting it for {wait_s:g} s.") from None
                time.sleep(0.02)
        yield


def _ends(pid: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while True:
        child = _children.get(pid)
        if child is not None and child.poll() is not None:
            del _children[pid]
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def _kill(pid: int) -> None:
    """The server leads a process group of its own; functions outlive it by no more than their warden needs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _ends(pid, 5.0)


def _get(running: Running, path: str, *, timeout: float) -> Any:
    return ask(running, "GET", path, timeout=timeout)[1]


def ask(running: Running, method: str, path: str, *, timeout: float, body: Any = None) -> tuple[int, Any]:
    from http.client import HTTPConnection

    connection = HTTPConnection("127.0.0.1", running.port, timeout=timeout)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()
