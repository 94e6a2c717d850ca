"""`provision = { with = "terraform" }`: runs the user's Terraform or OpenTofu, and says what it said.

Nothing is applied but a plan that was made, read and shown before. Its state's lock is respected, never broken.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pointsman.errors import StalePlan, StateLocked, TerraformFailed, UsageError
from pointsman.provision.terraform_module import REHEARSAL, needs_init

if TYPE_CHECKING:
    import subprocess
    import threading

OLDEST = (1, 1)  # https://developer.hashicorp.com/terraform/internals/json-format: format 1.0; both speak it since then
_SHOWN = 40  # lines of its diagnostics


@dataclass(frozen=True, kw_only=True)
class Work:
    """One root module, in one workspace of one backend, with the words it is run by.

    `variables` are sure to be declared, or the user's own; `rehearsal` is the file of a state apart,
    `alone` one to be locked while Terraform runs.
    """

    directory: Path
    binary: str
    environ: Mapping[str, str]
    workspace: str | None = None
    create_workspace: bool = False
    backend: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    lock_timeout_s: float = 0
    alone: Path
    rehearsal: Path | None = None
    say: Callable[[str], None] = lambda _line: None
    echo: Callable[[str], None] | None = None
    halted: Callable[[], bool] | None = None  # asked while it runs, where a Ctrl-C does not arrive by itself

    @property
    def data(self) -> Path:
        return self.directory / self.environ.get("TF_DATA_DIR", ".terraform")

    @property
    def name(self) -> str:
        return Path(self.binary).name


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int
    out: str
    err: str


def binary(wanted: str | None, path: str | None) -> str:
    """The program to run. Raises UsageError where there is none."""
    for name in (wanted,) if wanted else ("terraform", "tofu"):
        if found := shutil.which(name, path=path):
            return found
    raise UsageError(
        f"there is no {wanted or 'terraform or tofu'} on the PATH",
        where="provision with terraform",
        next="Install Terraform or OpenTofu, or name it: provision.binary.",
    )


def make_ready(work: Work) -> None:
    """Initialised and in its workspace, where it is not yet."""
    with _alone(work):
        _ready(work)


def plan(work: Work, file: Path) -> bool:
    """Makes the plan `file` (it may hold secrets: mode 0600). False where it has nothing to change."""
    with _alone(work):
        _ready(work)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        words = ("plan", f"-out={file}", "-detailed-exitcode", "-input=false", *_locking(work), *work.arguments)
        ended = _run(work, *words)
        if ended.code == 1 and re.search(rf"\b{work.name} init\b|terraform init\b", ended.err):
            _init(work)  # what needs it is not always to be seen from the files
            ended = _run(work, *words)
        if ended.code not in (0, 2):
            raise _refused(work, "plan", ended)
        file.chmod(0o600)
        return ended.code == 2


def show(work: Work, file: Path) -> Any:
    """The plan in `file`, as JSON."""
    with _alone(work):
        return _json(work, "show", "-json", str(file))


def apply(work: Work, file: Path) -> None:
    """Exactly the plan in `file`. Raises StalePlan where the state is no longer what it was made from."""
    with _alone(work):
        ended = _run(work, "apply", "-input=false", *_locking(work), str(file))
        if ended.code:
            raise _refused(work, "apply", ended)


def outputs(work: Work) -> Any:
    with _alone(work):
        _ready(work)
        return _json(work, "output", "-json")


def state(work: Work) -> Any:
    """Empty where there is none yet: `state pull` then says nothing at all."""
    with _alone(work):
        ended = _run(work, "state", "pull", quiet=True)
        if ended.code:
            raise _refused(work, "state pull", ended)
        return _read_json(work, "state pull", ended.out) if ended.out.strip() else {}


def file_digest(file: Path) -> str:
    """Of a saved plan; "" where it is gone."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


# Making ready


def _ready(work: Work) -> None:
    """Initialised, where files changed that `init` reads, and in the workspace that is wanted."""
    stamp = work.data / "pointsman-init"
    due = _stamp(work)
    if not work.data.is_dir() or not stamp.exists() or stamp.read_text() != due:
        _init(work)
    present = work.data / "environment"
    selected = present.read_text().strip() if present.exists() else "default"
    if work.workspace and selected != work.workspace:
        create = ("-or-create=true",) if work.create_workspace else ()
        ended = _run(work, "workspace", "select", *create, work.workspace, selecting=True)
        if ended.code:
            raise _refused(
                work,
                "workspace select",
                ended,
                advice=("" if work.create_workspace else "`create_workspace = true` has it created."),
            )


def _init(work: Work) -> None:
    _not_too_old(work)
    work.say(f"{work.name} init in {work.directory}")
    reconfigure = ("-reconfigure",) if work.backend and work.data.is_dir() else ()  # the file says which backend
    given = tuple(f"-backend-config={each}" for each in work.backend) if not work.rehearsal else ()
    ended = _run(work, "init", "-input=false", *reconfigure, *given, selecting=True)
    if ended.code:
        raise _refused(work, "init", ended)
    (work.data / "pointsman-init").write_text(_stamp(work))


def _stamp(work: Work) -> str:
    return needs_init(work.directory, [work.backend, work.binary, str(work.rehearsal)])


def _not_too_old(work: Work) -> None:
    told = _json(work, "version", "-json").get("terraform_version", "")
    numbers = tuple(int(each) for each in re.findall(r"\d+", told)[:2])
    if numbers < OLDEST:
        raise UsageError(
            f"{work.binary} is version {told}; {'.'.join(map(str, OLDEST))} or newer is needed", next="Update it."
        )


@contextmanager
def _alone(work: Work) -> Iterator[None]:
    """One at a time on this machine; in a rehearsal with a state apart, by an override file in the backend's place.

    Override files are Terraform's own way: https://developer.hashicorp.com/terraform/language/files/override
    """
    import fcntl

    with work.alone.open("a") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        with _apart(work):
            yield


@contextmanager
def _apart(work: Work) -> Iterator[None]:
    override = work.directory / REHEARSAL
    if work.rehearsal is None:
        if override.exists():  # of a rehearsal that was killed: the real state must not be looked for there
            override.unlink()
        yield
        return
    work.rehearsal.parent.mkdir(parents=True, exist_ok=True)
    path = json.dumps(str(work.rehearsal))
    override.write_text(f'terraform {{\n  backend "local" {{\n    path = {path}\n  }}\n}}\n')
    try:
        yield
    finally:
        override.unlink(missing_ok=True)


# Running


def _locking(work: Work) -> tuple[str, ...]:
    return (f"-lock-timeout={max(work.lock_timeout_s, 0):.0f}s",)


def _json(work: Work, *words: str) -> Any:
    ended = _run(work, *words, quiet=True)
    if ended.code:
        raise _refused(work, words[0], ended)
    return _read_json(work, " ".join(words), ended.out)


def _read_json(work: Work, command: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise TerraformFailed(f"{work.name} {command} answered no JSON: {error}") from error


def _run(work: Work, *words: str, quiet: bool = False, selecting: bool = False) -> Ended:
    """Runs it to its end; what a plan says is not echoed, for it shows values.

    Ctrl-C is handed on once, and waited for: Terraform finishes what is under way, and writes its state.
    """
    import subprocess
    import threading

    environ = {**work.environ}
    if work.workspace and not selecting:
        environ["TF_WORKSPACE"] = work.workspace  # whatever is selected meanwhile
    plain = () if quiet else ("-no-color",)
    at = 2 if words[0] == "workspace" else 1
    later = _Later()
    try:
        process = subprocess.Popen(
            [work.binary, *words[:at], *plain, *words[at:]],
            cwd=work.directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # a terminal's Ctrl-C would reach it twice, and twice means: drop everything
        )
    except OSError as error:
        later.now()  # nothing was started
        raise UsageError(f"cannot run {work.binary}: {error.strerror}", where=f"{work.name} {words[0]}") from error
    assert process.stdout
    assert process.stderr
    told: tuple[list[str], list[str]] = ([], [])
    readers = [
        threading.Thread(target=_read, args=(stream, lines, None if quiet else work, words[0] != "plan"), daemon=True)
        for stream, lines in zip((process.stdout, process.stderr), told, strict=True)
    ]
    for reader in readers:
        reader.start()
    if _stopped(work, process, readers, later):
        raise KeyboardInterrupt
    return Ended(code=process.returncode, out="".join(told[0]), err="".join(told[1]))


class _Later:
    """Ctrl-C, and what else asks to stop, waits from here on until `now`, which raises KeyboardInterrupt if it came.

    Of a program that is just being started nobody would know else, and it would go on alone.
    """

    def __init__(self) -> None:
        import signal
        import threading

        self._came = False
        here = threading.current_thread() is threading.main_thread()  # elsewhere no signal arrives
        asking = (signal.SIGINT, signal.SIGTERM) if here else ()
        self._before = {each: handler for each in asking if callable(handler := signal.getsignal(each))}
        for each in self._before:
            signal.signal(each, self._note)

    def _note(self, _number: int, _frame: object) -> None:
        self._came = True

    def now(self) -> None:
        import signal

        while self._before:
            signal.signal(*self._before.popitem())
        if self._came:
            self._came = False
            raise KeyboardInterrupt


def _stopped(work: Work, process: subprocess.Popen[str], readers: Sequence[threading.Thread], later: _Later) -> bool:
    """Waits for its end; whether it was asked to stop, by a Ctrl-C that came here or to another thread.

    By what it says: a thread's end is seen at once, a process's only every twentieth of a second.
    """
    import signal

    asked = False
    while True:
        try:
            later.now()
            for reader in readers:
                reader.join(0.2 if work.halted and not asked else None)
            if not any(reader.is_alive() for reader in readers):
                process.wait()
                return asked
            if not (work.halted and work.halted()):
                continue
        except KeyboardInterrupt:
            pass
        asked = True
        work.say(f"asked {work.name} to stop; it finishes what is under way")
        _signal(process, signal.SIGINT)


def _read(stream: IO[str], lines: list[str], work: Work | None, echoed: bool) -> None:
    for line in stream:
        lines.append(line)
        if work is None or not line.strip():
            continue
        if "Acquiring state lock" in line:
            work.say(f"the state is locked; waiting up to {work.lock_timeout_s:g} s for it")
        elif echoed and work.echo:
            work.echo(line)


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError):  # it may have just ended
        os.kill(process.pid, number)


def _refused(work: Work, verb: str, ended: Ended, *, advice: str = "") -> Exception:
    where = f"{work.name} {verb} in {work.directory}"
    said = diagnostics(ended.err or ended.out)
    if lock := lock_info(said):
        held = f"the state is locked by {lock.get('Who', 'somebody')} since {lock.get('Created', '?')}"
        doing = lock.get("Operation", "").removeprefix("OperationType").lower() or "an operation"
        return StateLocked(
            f"{held} ({doing}, lock {lock.get('ID', '?')}), and was for all of {work.lock_timeout_s:g} s",
            where=where,
            next=f"Wait for it (`--wait SECONDS`). Only if that run is dead: `{work.name} force-unlock "
            f"{lock.get('ID', 'ID')}` in {work.directory}.",
        )
    if "Saved plan is stale" in said:
        return StalePlan(
            "the state was changed by somebody else since this plan was made", where=where, next="Make a new plan."
        )
    if ended.code < 0:
        said = f"it was ended by signal {-ended.code}\n{said}".strip()
        advice = advice or "`pointsman resume` looks at what it did, and goes on from there."
    return TerraformFailed(said or f"it ended with exit code {ended.code}", where=where, next=advice or _next(said))


def _next(said: str) -> str:
    if "Failed to query available provider packages" in said or "Failed to install provider" in said:
        return "Is the registry reachable? A mirror: `provider_installation` in ~/.terraformrc, or -plugin-dir."
    if "already exists" in said.lower() or "AlreadyExist" in said or "Function already exist" in said:
        return "The state does not know it: `terraform import` it, or point provision at the state that does."
    return "Mend what it names, then deploy again; no alias was moved."


def diagnostics(text: str) -> str:
    """Terraform's errors, without the box around them and what came before."""
    lines = [re.sub(r"^[╷│╵]\s?", "", line).rstrip() for line in text.splitlines()]
    first = next((i for i, line in enumerate(lines) if line.startswith("Error:")), None)
    kept = [line for line in (lines[first:] if first is not None else lines) if line]
    more = [f"… and {len(kept) - _SHOWN} lines more"] if len(kept) > _SHOWN else []
    return "\n".join([*kept[:_SHOWN], *more])


def lock_info(said: str) -> dict[str, str]:
    """Who holds the state's lock, where that is what was said: ID, Path, Operation, Who, Version, Created."""
    if "Lock Info:" not in said:
        return {"ID": "?"} if "Error acquiring the state lock" in said else {}
    rows = re.findall(r"^\s*(ID|Path|Operation|Who|Version|Created):\s*(.*?)\s*$", said.split("Lock Info:", 1)[1], re.M)
    return dict(rows)


def arguments(var_files: Sequence[Path], variables: Mapping[str, str]) -> tuple[str, ...]:
    return (*(f"-var-file={each}" for each in var_files), *(f"-var={name}={each}" for name, each in variables.items()))
