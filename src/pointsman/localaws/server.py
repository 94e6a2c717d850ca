"""The process on 127.0.0.1: what it is made of, how it listens, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import pointsman
from pointsman.localaws import snapshots
from pointsman.localaws.application import Application, Bell, Scope
from pointsman.localaws.cloudwatch import CloudWatch
from pointsman.localaws.contract import Target
from pointsman.localaws.control import FACTS, LIFE
from pointsman.localaws.delivery import MotoCarrier
from pointsman.localaws.event_sources import Feeding, MotoSources
from pointsman.localaws.execution import LocalExecutor
from pointsman.localaws.lambda_ import LambdaService, LambdaState, UrlOf
from pointsman.localaws.moto_alarms import AlarmActions
from pointsman.localaws.moto_bridge import MotoBridge
from pointsman.localaws.moto_schedules import MotoSchedules
from pointsman.localaws.schedules import Schedules, Timetable
from pointsman.localaws.trail import Trail
from pointsman.localaws.trouble import Troublemaker

_THREADS = 64  # moto's long polls (SQS) and synchronous invocations hold one each
_GRACE_S = 5
_LAMBDA_STATE = "lambda"  # the entry of our directory with all of Lambda's state

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """The port is taken, or another local AWS has the directory."""


@dataclass(frozen=True, slots=True)
class Settings:
    directory: Path
    port: int = 0
    settle_s: float | None = None
    ready_fd: int | None = None


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or POST /_pointsman/shutdown; then save and end every function process."""
    settings.directory.mkdir(parents=True, exist_ok=True)
    with _life(settings.directory), _listening(settings.port) as listener:
        snapshots.finish(settings.directory)
        asyncio.run(_serve(settings, listener))


@contextlib.contextmanager
def _life(directory: Path) -> Iterator[None]:
    with (directory / LIFE).open("wb") as life:
        _hold(life, directory)
        try:
            yield
        finally:
            (directory / FACTS).unlink(missing_ok=True)


def _hold(life: IO[bytes], directory: Path) -> None:
    deadline = time.monotonic() + 1.0  # whoever asks whether we live holds the lock for an instant, too
    while True:
        try:
            return fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise CannotStart(f"Another local AWS is using {directory}.") from None
            time.sleep(0.02)


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    # The protocol is named, or asyncio leaves Nagle's algorithm on: head and body of a reply then take 40 ms apart.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise CannotStart(f"Port {port} on 127.0.0.1 cannot be had: {error.strerror}.") from error
        listener.listen(512)
        yield listener


class _Protocol(HttpToolsProtocol):
    """uvicorn's, but for two things.

    It writes head and body of a reply apart: two packets, and the client is woken twice for one short reply. And the
    application may end a connection in the middle: scope["abort"]().
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Joining(transport))  # type: ignore[arg-type]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(Scope, self.scope)["abort"] = self.transport.abort


class _Joining:
    """A transport that holds a reply's head back until the body comes, within the same turn of the event loop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n"):
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)  # a reply without a body
            return
        self._transport.write(data)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Server(uvicorn.Server):
    """uvicorn, but signals are ours: its own way raises them again before anything could be saved."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True
        self._stopping()  # or who waits for log lines would hold us up


async def _end_without(directory: Path, server: _Server) -> None:
    """End when our directory is deleted under us: nobody could find this process any more to stop it."""
    while (directory / LIFE).exists():
        await asyncio.sleep(1)
    log.warning("%s is gone: ending", directory)
    server.stop()


async def _url_of(port: int) -> UrlOf:
    """How function URLs are named: as on AWS, if clients on this machine can resolve such a name."""
    try:
        async with asyncio.timeout(1):
            found = await asyncio.get_running_loop().getaddrinfo("x.localhost", port, family=socket.AF_INET)
    except (OSError, TimeoutError):
        found = []
    if any(address[0] == "127.0.0.1" for *_, address in found):
        return lambda url_id, region: f"http://{url_id}.lambda-url.{region}.localhost:{port}/"
    return lambda url_id, _region: f"http://127.0.0.1:{port}/_url/{url_id}/"


def _announce(settings: Settings, facts: Mapping[str, Any]) -> None:
    """Tell whoever started us, and whoever looks for us later."""
    line = json.dumps(facts).encode()
    temporary = settings.directory / f"{FACTS}.new"
    temporary.write_bytes(line)
    temporary.rename(settings.directory / FACTS)
    if settings.ready_fd is not None:
        os.write(settings.ready_fd, line + b"\n")
        os.close(settings.ready_fd)
    log.info("serving %s at %s", settings.directory, facts["url"])


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the process is made of, wired together."""

    moto: MotoBridge
    executor: LocalExecutor
    state: LambdaState
    cloudwatch: CloudWatch
    service: LambdaService
    feeding: Feeding
    schedules: Schedules
    bell: Bell
    logging_thread: ThreadPoolExecutor

    async def close(self) -> None:
        await self.schedules.close()
        await self.feeding.close()
        await self.service.close()
        await self.executor.close()
        await asyncio.to_thread(self.cloudwatch.close)  # while moto can still be told of alarms
        await asyncio.get_running_loop().run_in_executor(self.logging_thread, self.moto.close)
        self.logging_thread.shutdown()


async def _assemble(settings: Settings, port: int) -> _Parts:
    loop = asyncio.get_running_loop()
    logging_thread = ThreadPoolExecutor(1, "logs")

    async def sink(target: Target, stream: str, lines: list[tuple[int, str]]) -> None:
        await loop.run_in_executor(logging_thread, keep, target, stream, lines)

    def keep(target: Target, stream: str, lines: list[tuple[int, str]]) -> None:
        try:
            moto.write_logs(target, stream, lines)
        finally:
            cloudwatch.logged(target.account, target.region, target.log_group, (line for _, line in lines))

    bell = Bell(loop)
    moto = MotoBridge(settings.directory / "moto", port=port, loop=loop)
    executor = LocalExecutor(sink, endpoint=lambda: f"http://127.0.0.1:{port}", credentials=moto.role_session)
    settle: dict[str, Any] = {} if settings.settle_s is None else {"settle_s": settings.settle_s}
    state = LambdaState(
        settings.directory / _LAMBDA_STATE,
        runtimes=executor.runtimes,
        role_exists=moto.role_exists,
        read_object=moto.read_object,
        url_of=await _url_of(port),
        image_digest=moto.image_digest,
        find_network=moto.find_network,
        **settle,
    )
    actions = AlarmActions(moto)
    cloudwatch = CloudWatch(settings.directory / "cloudwatch", act=actions.act, announce=actions.announce)
    state.occurred = cloudwatch.measure
    service = LambdaService(state, executor, MotoCarrier(moto))
    moto.serve_lambda(state, service)
    moto.serve_cloudwatch(cloudwatch)
    moto.logged = bell.ring
    state.sources = sources = MotoSources(moto)
    feeding = Feeding(state, service, sources)
    moto.tell_arrivals(feeding.arrived)
    timetable = Timetable(time.time)
    schedules = Schedules(MotoSchedules(moto), timetable, lambda: state.speed)
    state.paced.append(schedules.paced)
    moto.tell_schedules(schedules.changed, timetable.moment)
    return _Parts(moto, executor, state, cloudwatch, service, feeding, schedules, bell, logging_thread)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    started = time.time()
    threads = ThreadPoolExecutor(_THREADS, "moto")
    parts = await _assemble(settings, port)
    moto, state = parts.moto, parts.state
    trouble = Troublemaker(  # before anything goes on
        settings.directory / "chaos.json", state, time.monotonic, delay=parts.cloudwatch.come_late
    )
    trail = Trail(settings.directory / "trail.db")
    parts.service.resume()

    def health() -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "url": url,
            "version": pointsman.__version__,
            "started": started,
            "runtimes": parts.executor.runtimes(),
            "unsaved": moto.unsaved,
        }

    def ready() -> None:
        _announce(settings, {"pid": os.getpid(), "port": port, "url": url, "started": started})
        threads.submit(moto.load)  # ahead of the first request that needs it

    def stop() -> None:
        server.stop()

    def save_to(target: Path) -> None:
        with moto.still():
            # What Lambda knows goes first, and by itself: the event loop waits for it, and logs may be large.
            with state.still():
                snapshots.copy_state(settings.directory, target, only=_LAMBDA_STATE)
            parts.cloudwatch.metrics.flush()
            snapshots.copy_state(settings.directory, target, but=_LAMBDA_STATE)

    application = Application(
        parts.service,
        moto,
        threads,
        trouble,
        trail,
        bell=parts.bell,
        health=health,
        save_to=save_to,
        stop=stop,
    )
    server = _Server(
        uvicorn.Config(
            application,
            http=_Protocol,
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=True,
            ws="none",
            timeout_keep_alive=65,
            timeout_graceful_shutdown=_GRACE_S,
        ),
        ready,
        stopping=parts.bell.silence,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    watching = loop.create_task(_end_without(settings.directory, server))
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()
        await parts.close()
        threads.shutdown(wait=False, cancel_futures=True)
        state.close()
        trail.close()
        log.info("stopped")
