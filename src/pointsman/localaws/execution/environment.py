"""One execution environment: a process that runs one version, is initialised once, and answers one call at a time."""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pointsman.localaws.contract import Outcome, Stream, Target
from pointsman.localaws.execution.endings import (
    Answered,
    Ending,
    Exited,
    NotStarted,
    OutOfMemory,
    Raised,
    TimedOut,
    TooLarge,
    init_status,
    report,
    tell,
)
from pointsman.localaws.execution.logs import Line, LineCutter
from pointsman.localaws.execution.process import Process
from pointsman.localaws.execution.runtime_api import (
    ACCEPTED,
    TOO_LARGE,
    UNKNOWN_REQUEST,
    WRONG_STATE,
    Answer,
    Connection,
    RuntimeApi,
)
from pointsman.localaws.execution.runtimes import CannotStart, Command, Runtimes

_RUNTIME_NAME = re.compile(r"^([a-z]+)\.?(.*?)(?:\.x)?$")  # nodejs20.x → nodejs, 20
_SAMPLE_S = 0.1  # how often the memory of a running call is looked at


@dataclass(frozen=True, slots=True)
class Call:
    payload: bytes
    invoked_arn: str
    request_id: str
    client_context: str | None  # JSON
    stream: Stream | None = None  # for what the runtime streams; without, that is collected


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an environment is given by the executor that owns it."""

    runtimes: Runtimes
    scratch: Path
    init_limit_s: float
    variables: Callable[[Target], Mapping[str, str]]  # endpoint and credentials
    now: Callable[[], float]  # epoch seconds
    put: Callable[[Target, str, Line], None]
    started: Callable[[int], None]  # a process group
    ended: Callable[[int], None]


class Environment:
    """Starts its process at the first `invoke`, and again inside that call if initialising fails, as Lambda does.

    After a time-out, an exit or too much memory it is `gone`: of no more use, and `closed` once nothing is left of it.
    """

    def __init__(self, target: Target, surroundings: Surroundings) -> None:
        self.target = target
        self.idle_since = 0.0
        self.gone = False
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._given = surroundings
        identity = secrets.token_hex(16)
        self._stream = f"{datetime.fromtimestamp(surroundings.now(), UTC):%Y/%m/%d}/[{target.version}]{identity}"
        self._folder = surroundings.scratch / identity
        self._api: RuntimeApi | None = None
        self._process: Process | None = None
        self._poll: Connection | None = None  # the runtime's unanswered /next
        self._initialising = False
        self._request_id: str | None = None  # of the call the runtime is working on
        self._stream_to: Stream | None = None  # where that call's answer goes
        self._undelivered: Call | None = None
        self._ending: asyncio.Future[Ending | None] | None = None
        self._freed: asyncio.Future[None] | None = None  # somebody waits for the next poll
        self._buried: asyncio.Future[None] | None = None  # somebody waits for the end of a failed start
        self._command: Command | None = None
        self._exit_code = -signal.SIGKILL  # of the last process; before there is one, only being killed can end us
        self._cutter = LineCutter()
        self._captured: list[str] | None = None
        self._used_mb = 0.0

    async def invoke(self, call: Call) -> Outcome:
        """Run one call to its end, whichever that is. Not for two callers at once. Cancelled, it leaves no process."""
        self._sampler = self._loop.call_later(_SAMPLE_S, self._sample)
        try:
            return await self._invoke(call)
        except BaseException:
            self.kill()
            raise
        finally:
            self._sampler.cancel()

    async def prepare(self) -> bool:
        """Initialise before there is a call. False: it failed, and no process is left."""
        ready = False
        try:
            _, ending = await self._cold_start()
            ready = ending is None
        finally:
            if not ready:
                self.kill()
        return ready

    async def free(self, patience_s: float) -> bool:
        """Wait until the runtime asks for its next call: after answering, it may need a moment. False: not in time."""
        if self._poll is None and not self.gone:
            self._freed = self._loop.create_future()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._freed, patience_s)
        return self._poll is not None and not self.gone

    @property
    def fresh(self) -> bool:
        """No process was started yet."""
        return self._api is None

    def kill(self) -> None:
        """End the whole process group now."""
        self.gone = True
        if self._process is not None:
            self._process.kill()
        else:
            self._close()

    # The course of a call

    async def _invoke(self, call: Call) -> Outcome:
        init_ms, ending = (None, None) if self._process else await self._cold_start()
        limit_s = self.target.timeout_s
        began = self._loop.time()
        self._captured = []
        self._print(f"START RequestId: {call.request_id} Version: {self.target.version}")
        try:
            async with asyncio.timeout(limit_s):
                if self._command is not None and ending is not None:
                    ending = await self._initialise(self._command, "invoke", None)
                if ending is None:
                    ending = await self._serve(call)
        except TimeoutError:
            ending = TimedOut(limit_s)
        ms = min(self._loop.time() - began, limit_s) * 1000
        return self._conclude(call.request_id, ending, ms, init_ms)

    async def _cold_start(self) -> tuple[float | None, Ending | None]:
        """→ (milliseconds it took, None) or (None, how it failed)."""
        runtime = _RUNTIME_NAME.sub(r"\1:\2", self.target.runtime)
        arn = f"arn:aws:lambda:{self.target.region}::runtime:local"
        self._print(f"INIT_START Runtime Version: {runtime}.v10\tRuntime Version ARN: {arn}")
        try:
            self._command = await self._given.runtimes.command(self.target)
        except CannotStart as refused:
            return None, NotStarted(refused.kind, str(refused))
        if self.gone:  # closed meanwhile
            return None, Exited(self._exit_code)
        for notice in self._command.opt.notices if self._command.opt else ():
            self._print(notice)
        self._folder.mkdir(parents=True)
        self._api = await RuntimeApi.open(self)
        await self._api.serve()
        began = self._loop.time()
        ending = await self._initialise(self._command, "init", self._given.init_limit_s)
        return ((self._loop.time() - began) * 1000 if ending is None else None), ending

    async def _initialise(self, command: Command, phase: str, limit_s: float | None) -> Ending | None:
        """Start the process; None once it asks for work, else how it failed, and then the process is no more."""
        if self.gone:
            return Exited(self._exit_code)
        began = self._loop.time()
        ended = self._expect()
        self._initialising = True
        try:
            async with asyncio.timeout(limit_s):
                self._process = self._start(command)
                ending = await ended
        except TimeoutError:
            ending = TimedOut(limit_s or 0)
        except OSError as refused:
            reason = f"fork/exec {command.shown}: {os.strerror(refused.errno or 0).lower()}"
            ending = NotStarted("Runtime.InvalidEntrypoint", reason)
        else:
            if ending is None:
                return None
        finally:
            self._initialising = False
        await self._bury()
        ms = (self._loop.time() - began) * 1000
        self._print(f"INIT_REPORT Init Duration: {ms:.2f} ms\tPhase: {phase}\t{init_status(ending)}")
        return ending

    async def _serve(self, call: Call) -> Ending:
        if self._process is None:  # it asked for work, and ended before it could be given any
            return Exited(self._exit_code)
        ended = self._expect()
        self._undelivered = call
        self._deliver()
        ending = await ended
        assert ending is not None
        return ending

    def _deliver(self) -> None:
        """Answer the runtime's poll with the call, once there are both."""
        poll, call = self._poll, self._undelivered
        if poll is None or call is None:
            return
        self._poll = self._undelivered = None
        self._request_id, self._stream_to = call.request_id, call.stream
        now = self._given.now()
        headers = (
            f"Lambda-Runtime-Aws-Request-Id: {call.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {int((now + self.target.timeout_s) * 1000)}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {call.invoked_arn}\r\n"
            f"Lambda-Runtime-Trace-Id: Root=1-{int(now):08x}-{random.getrandbits(96):024x};"
            f"Parent={random.getrandbits(64):016x};Sampled=0\r\n"
        )
        if call.client_context:
            headers += f"Lambda-Runtime-Client-Context: {call.client_context}\r\n"
        poll.send(200, call.payload, headers)

    def _conclude(self, request_id: str, ending: Ending, ms: float, init_ms: float | None) -> Outcome:
        match ending:
            case Answered() | Raised() | TooLarge() if self._process is not None:
                pass  # the process lives on, as on AWS; what it printed was read when it answered
            case _:
                if self._process is not None:
                    self._process.drain()
                self.kill()
        for line in self._cutter.flush(self._now_ms()):
            self._keep(line)
        self._request_id = self._undelivered = None
        memory_mb = self.target.memory_mb
        used_mb = memory_mb if isinstance(ending, OutOfMemory) else self._used_mb
        moment = datetime.fromtimestamp(self._given.now(), UTC).isoformat(timespec="milliseconds")
        account = tell(ending, request_id, moment.replace("+00:00", "Z"))
        for text in account.lines:
            self._print(text)
        self._print(f"END RequestId: {request_id}")
        text, billed_ms = report(
            request_id, ms=ms, init_ms=init_ms, memory_mb=memory_mb, used_mb=used_mb, status=account.status
        )
        self._print(text)
        log = "".join(f"{line}\n" for line in self._captured or ())
        self._captured = None
        return Outcome(account.payload, account.error, log.encode(), ms, billed_ms, init_ms)

    # What the runtime says (runtime_api.Listener)

    def next_asked(self, poll: Connection) -> None:
        self._poll = poll
        if self._initialising:
            self._resolve(None)
        if self._freed is not None and not self._freed.done():
            self._freed.set_result(None)
        self._deliver()

    def poll_gone(self, poll: Connection) -> None:
        if self._poll is poll:
            self._poll = None

    def streaming(self, request_id: str) -> Stream | None:
        return self._stream_to if request_id == self._request_id else None

    def responded(self, request_id: str, body: bytes | None) -> Answer:
        return self._answered(request_id, TooLarge() if body is None else Answered(body))

    def failed(self, request_id: str, body: bytes | None) -> Answer:
        return self._answered(request_id, TooLarge() if body is None else Raised(self._as_on_aws(body)))

    def init_failed(self, body: bytes | None) -> Answer:
        if not self._initialising:
            return WRONG_STATE
        self._resolve(Raised(self._as_on_aws(body or b"")))
        return ACCEPTED

    def _as_on_aws(self, error: bytes) -> bytes:
        """Stack traces name files: where they would be on AWS, not where they are on this machine."""
        shown = {} if self._command is None else self._command.places
        for here, there in {str(self.target.code): "/var/task", **shown}.items():
            error = error.replace(here.encode(), there.encode())
        return error

    def _answered(self, request_id: str, ending: Answered | Raised | TooLarge) -> Answer:
        if request_id != self._request_id:
            return UNKNOWN_REQUEST
        self._request_id = None
        self._resolve(ending)
        return TOO_LARGE if isinstance(ending, TooLarge) else ACCEPTED

    # The process

    def _start(self, command: Command) -> Process:
        argv = command.argv
        wrapper = self.target.environment.get("AWS_LAMBDA_EXEC_WRAPPER")
        if wrapper and not self.target.runtime.startswith("provided"):
            # By a shell, as on AWS: a wrapper that is not there then ends it with 127
            argv = ("/bin/sh", "-c", 'exec "$0" "$@"', wrapper.replace("/var/task/", f"{self.target.code}/", 1), *argv)
        process = Process(
            argv,
            launcher=command.opt.launcher if command.opt else (),
            environment=self._variables(command),
            folder=self.target.code,
            framed=command.framed,
            output=self._output,
            exited=self._exited,
        )
        self._given.started(process.pid)
        return process

    def _variables(self, command: Command) -> dict[str, str]:
        target, code = self.target, str(self.target.code)
        libraries = ["/lib64", "/usr/lib64", code, f"{code}/lib"]
        if command.opt is not None:
            libraries.append(f"{command.opt.root}/lib")
        assert self._api is not None
        return {
            "AWS_LAMBDA_FUNCTION_NAME": target.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": target.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(target.memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": target.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self._stream,
            "AWS_LAMBDA_INITIALIZATION_TYPE": target.initialization,
            "AWS_LAMBDA_RUNTIME_API": self._api.address,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{target.runtime}",
            "AWS_REGION": target.region,
            "AWS_DEFAULT_REGION": target.region,
            "LAMBDA_TASK_ROOT": code,
            "LD_LIBRARY_PATH": ":".join(libraries),
            "_HANDLER": target.handler,
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "TMPDIR": str(self._folder),
            "HOME": str(self._folder),  # unset on AWS; here the SDKs would find the developer's own profiles
            **command.environment,
            **self._given.variables(target),
            **target.environment,
        }

    async def _bury(self) -> None:
        """Wait until a process that failed to initialise is no more, so that another may take its place."""
        if self._process is not None:
            self._buried = self._loop.create_future()
            self._process.kill()
            await self._buried
        self._poll = None

    def _exited(self, code: int) -> None:
        assert self._process is not None
        self._given.ended(self._process.pid)
        self._process = None
        self._exit_code = code
        self._resolve(Exited(code))
        if self._buried is not None and not self._buried.done():
            self._buried.set_result(None)
        elif not self._initialising:
            self.gone = True
            self._close()

    def _close(self) -> None:
        if self.closed.done():
            return
        if self._api is not None:
            self._api.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._freed is not None and not self._freed.done():
            self._freed.set_result(None)
        self.closed.set_result(None)

    def _expect(self) -> asyncio.Future[Ending | None]:
        self._ending = self._loop.create_future()
        return self._ending

    def _resolve(self, ending: Ending | None) -> None:
        """The first ending counts."""
        if self._ending is not None and not self._ending.done():
            if self._process is not None:
                self._process.drain()  # what was printed before the answer belongs to this call
                self._used_mb = max(self._used_mb, self._process.resident_mb())
            self._ending.set_result(ending)

    def _sample(self) -> None:
        self._sampler = self._loop.call_later(_SAMPLE_S, self._sample)
        if self._process is not None:
            used_mb = self._process.tree_resident_mb()
            self._used_mb = max(self._used_mb, used_mb)
            if used_mb > self.target.memory_mb:
                self._resolve(OutOfMemory())
                self._process.kill()

    # Its log

    def _now_ms(self) -> int:
        return int(self._given.now() * 1000)

    def _output(self, chunk: bytes) -> None:
        for line in self._cutter.feed(chunk, self._now_ms()):
            self._keep(line)

    def _print(self, text: str) -> None:
        self._keep((self._now_ms(), text))

    def _keep(self, line: Line) -> None:
        self._given.put(self.target, self._stream, line)
        if self._captured is not None:
            self._captured.append(line[1])
