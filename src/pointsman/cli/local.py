"""`pointsman local …`, and what `--local` means. The only importer of `localaws`."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pointsman import config, home
from pointsman.cli import chaos
from pointsman.cli.terminal import at
from pointsman.errors import LocalAwsFailed, UsageError
from pointsman.localaws import control
from pointsman.model import size

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed
    from pointsman.cli.terminal import Screen

_LEDGER = "ledger.db"  # of rehearsals: beside the local AWS's folder, and forgotten and kept together with it
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def directory(root: Path) -> Path:
    return root / home.NAME / "local" / "aws"


def join(root: Path, *, wanted: bool, say: Callable[[str], None]) -> bool:
    """Whether this command is a rehearsal. `--local` starts the local AWS and points this process at it."""
    if not wanted:
        # A shell that `local env` prepared is in a rehearsal too: its history is kept apart from the account's.
        return urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname in _LOOPBACK
    running = control.running(directory(root))
    if running is None:
        say("starting the local AWS")
        running = _up(root, None)
        say(f"the local AWS answers at {running.url}")
    given = variables(running)
    for name in astray(given):
        os.environ.pop(name, None)
    os.environ.update(given)
    return True


def astray(given: Mapping[str, str]) -> list[str]:
    """The AWS_ variables of this process that would lead elsewhere: a profile, a token, an endpoint of one service …"""
    kept = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PAGER", "AWS_CA_BUNDLE", "AWS_DEFAULT_OUTPUT")
    return sorted(name for name in os.environ if name.startswith("AWS_") and name not in given and name not in kept)


def variables(running: control.Running) -> dict[str, str]:
    """What a process needs to reach the local AWS, the AWS SDK for JavaScript v2 (which knows no endpoint) included."""
    given = control.environment(running, region=_region())
    preload = f'--require "{control.javascript_v2_preload()}"'
    options = os.environ.get("NODE_OPTIONS", "")
    given["NODE_OPTIONS"] = options if preload in options else f"{options} {preload}".strip()
    return given


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or control.REGION


def run(typed: Typed) -> int:
    screen, asked = typed.screen, typed.asked
    root = _root(asked.file)
    match asked.local_command:
        case "up":
            running = _up(root, asked.port)
            if not screen.json:
                screen.print(f"The local AWS answers at {running.url} (process {running.pid}).")
                screen.print('Point a shell at it: eval "$(pointsman local env)"')
            screen.result(_facts(running))
        case "down":
            stopped = control.down(directory(root))
            if not screen.json:
                screen.print("The local AWS is down; its state stays." if stopped else "The local AWS was not up.")
            screen.result({"stopped": stopped})
        case "status":
            _status(screen, control.running(directory(root)))
        case "env":
            given = variables(_running(root))
            if not screen.json:
                if wrong := astray(given):
                    screen.print(f"unset {' '.join(wrong)}")
                for name, value in given.items():
                    screen.print(f"export {name}='{value}'")
            screen.result(given)
        case "logs":
            _logs(typed, root)
        case "chaos":
            chaos.run(screen, asked, _running(root), _region())
        case "snapshot":
            _snapshot(screen, asked, directory(root))
        case "reset":
            control.reset(directory(root))
            for suffix in ("", "-wal", "-shm"):
                (directory(root).parent / f"{_LEDGER}{suffix}").unlink(missing_ok=True)
            if not screen.json:
                screen.print("The local AWS is down and has forgotten everything, the rehearsal's ledger too.")
            screen.result({"reset": True})
        case other:
            raise UsageError(f"there is no `pointsman local {other}`")
    return 0


def _status(screen: Screen, there: control.Running | None) -> None:
    trouble = {} if there is None else control.chaos(there)
    if not screen.json:
        screen.print(f"up at {there.url} (process {there.pid})" if there else "down")
        for line in chaos.lines(trouble) if trouble else ():
            screen.print(f"  {line}")
    screen.result(_facts(there) | {"chaos": trouble} if there else {"up": False})


def _snapshot(screen: Screen, asked: argparse.Namespace, aws: Path) -> None:
    from pointsman.localaws import snapshots

    shelf = aws.with_name("snapshots")
    said: list[str] = []
    result: object = {"name": getattr(asked, "name", None)}
    try:
        match asked.snapshot_command:
            case "save":
                made = snapshots.save(aws, shelf, asked.name, beside=[_LEDGER])
                said, result = [f"Saved as {made.name}: {size(made.size)}."], made
            case "load":
                running = snapshots.load(aws, shelf, asked.name)
                where = f"it answers at {running.url}" if running else "it is not up"
                said = [f"The local AWS is as it was when {asked.name} was saved; {where}."]
            case "remove":
                snapshots.remove(shelf, asked.name)
                said = [f"The snapshot {asked.name} is gone."]
            case _:
                found = snapshots.saved(shelf)
                result = found
                if not screen.json:
                    screen.table(
                        ("name", "saved", "size"), [(each.name, at(each.saved), size(each.size)) for each in found]
                    )
                    said = [] if found else ["There are no snapshots."]
    except control.LocalAwsError as error:
        raise LocalAwsFailed(str(error), where="snapshot", next="See `pointsman local snapshot list`.") from error
    if not screen.json:
        for line in said:
            screen.print(line)
    screen.result(result)


def _logs(typed: Typed, root: Path) -> None:
    screen, asked = typed.screen, typed.asked
    if asked.server:
        if asked.follow or asked.since is not None:
            raise UsageError("--server shows the whole log of the local AWS itself: no --follow, no --since")
        path = directory(root) / "server.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        if not screen.json:
            for line in lines:
                screen.print(line)
        screen.result(lines)
        return
    since_ms = 0 if asked.since is None else int((time.time() - asked.since) * 1000)
    running = _running(root)
    found: Iterable[control.LogEvent]
    found = control.log_events(running, asked.function, since_ms=since_ms, follow=asked.follow)
    if asked.function and not asked.follow and not (found := list(found)):
        logged = sorted({each.function for each in control.log_events(running)})
        if asked.function not in logged:
            screen.warn(f"nothing is logged of {asked.function}; there are lines of: {', '.join(logged) or 'nobody'}")
    if screen.json and not asked.follow:
        screen.result(list(found))
        return
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it, and no failure
        for event in found:
            if not screen.json:
                for line in event.message.rstrip().splitlines():
                    screen.print(line if asked.function else f"{_called(event)} | {line}")
            screen.result(event)
            screen.out.flush()


def _called(event: control.LogEvent) -> str:
    return event.function if event.account == control.ACCOUNT else f"{event.account}:{event.function}"


def _root(file: str | None) -> Path:
    """The project's folder; the local AWS can be used without a pointsman.toml: the nearest that has one, or this."""
    try:
        return (Path(file) if file else config.find(Path.cwd())).resolve().parent
    except UsageError:
        here = Path.cwd()
        return next((each for each in (here, *here.parents) if directory(each).is_dir()), here)


def _up(root: Path, port: int | None) -> control.Running:
    try:
        return control.up(directory(root), port=port)
    except control.LocalAwsError as error:
        raise LocalAwsFailed(str(error), where="starting the local AWS") from error


def _running(root: Path) -> control.Running:
    running = control.running(directory(root))
    if running is None:
        raise LocalAwsFailed("the local AWS is not up", next="Start it: `pointsman local up`.")
    return running


def _facts(running: control.Running) -> dict[str, object]:
    return {"up": True, "url": running.url, "port": running.port, "pid": running.pid}
