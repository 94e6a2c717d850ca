"""One process on 127.0.0.1: Lambda's requests are answered here, all others by moto, in threads."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any, TypeAlias, cast
from urllib.parse import parse_qsl, urlsplit

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import pointsman
from pointsman.localaws import snapshots
from pointsman.localaws.accounts import Caller, KeyRefused
from pointsman.localaws.cloudwatch import CloudWatch
from pointsman.localaws.contract import CutShort, Request, Response, Target
from pointsman.localaws.control import FACTS, LIFE, REGION
from pointsman.localaws.delivery import MotoCarrier
from pointsman.localaws.event_sources import Feeding, MotoSources
from pointsman.localaws.execution import LocalExecutor
from pointsman.localaws.lambda_ import Caller as Visitor
from pointsman.localaws.lambda_ import LambdaService, LambdaState, UrlOf, Visit, addressed
from pointsman.localaws.moto_alarms import AlarmActions
from pointsman.localaws.moto_bridge import MotoBridge, WebRequest, key_refusal
from pointsman.localaws.moto_schedules import MotoSchedules
from pointsman.localaws.schedules import Schedules, Timetable
from pointsman.localaws.trouble import Troublemaker

_THREADS = 64  # moto's long polls (SQS) and synchronous invocations hold one each
_GRACE_S = 5
_LAMBDA_STATE = "lambda"  # the entry of our directory with all of Lambda's state

_LAMBDA_PATH = re.compile(r"/20\d\d-\d\d-\d\d/")
_SCOPE = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/,\s]+)/([^/,\s]+)/aws4_request")

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """The port is taken, or another local AWS has the directory."""


@dataclass(frozen=True, slots=True)
class Settings:
    directory: Path
    port: int = 0
    settle_s: float | None = None
    ready_fd: int | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """Who a request says it is from, by its SigV4 scope. Signatures are not checked."""

    access_key: str | None
    region: str
    service: str | None
    token: str | None = None


def signed(headers: Mapping[str, str], query: Mapping[str, str]) -> Signed:
    credential = headers.get("authorization", "") or f"Credential={query.get('X-Amz-Credential', '')}"
    found = _SCOPE.search(credential)
    if found is None:
        return Signed(None, REGION, None)
    token = headers.get("x-amz-security-token") or query.get("X-Amz-Security-Token")
    return Signed(found[1], found[2], found[3], token)


class Application:
    """The ASGI application."""

    def __init__(
        self,
        service: LambdaService,
        moto: MotoBridge,
        threads: ThreadPoolExecutor,
        trouble: Troublemaker,
        *,
        bell: _Bell,
        health: Callable[[], Any],
        save_to: Callable[[Path], None],
        stop: Callable[[], None],
    ) -> None:
        self._service = service
        self._moto = moto
        self._trouble = trouble
        self._bell = bell
        self._threads = threads
        self._health = health
        self._save_to = save_to
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        path = scope["raw_path"].decode("latin-1")
        query = _query(scope["query_string"])
        names: list[tuple[str, str]] = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]]
        headers = {name.lower(): value for name, value in names}
        visited = addressed(headers.get("host"), path)
        own = path.startswith("/_pointsman/")
        if visited is not None:
            welcome = _host_is_here(headers)
        else:  # what is our own no page needs at all, and those of functions are from here, too
            welcome = _from_here(headers) and not (own and "origin" in headers)
        if not welcome:
            await _reply(send, scope["method"], _json(403, {"message": "The local AWS answers this machine only."}))
            return
        body = await _body(receive)
        if body is None:
            return  # the client went away
        response: Response | None
        if visited is not None:
            search = scope["query_string"].decode("latin-1")
            visit = Visit(*visited, scope["method"], search, names, body, scope["server"][1], visited[1] != path)
            visiting = partial(self._visit, visit, headers, query)
            response = await (visiting() if self._trouble.idle else self._trouble.around_url(visiting))
        elif own:
            response = await self._own(scope["method"], path, body)
        else:
            who = signed(headers, query)
            if ".lambda-url." in headers.get("origin", "") and who.service != "s3":
                # A function's page may upload to S3 by a link it was given; no page has the keys for anything else.
                await _reply(send, scope["method"], _json(403, {"message": "The local AWS answers this machine only."}))
                return
            text = scope["query_string"].decode("latin-1")
            web = WebRequest(scope["method"], path, text, names, body, who.service)
            try:
                caller = await self._caller(who)
            except KeyRefused as error:
                response = key_refusal(web, error)
            else:
                if who.service == "lambda" or (who.service is None and _LAMBDA_PATH.match(path)):
                    response = await self._lambda(
                        Request(web.method, path, query, headers, body, caller.account, who.region, caller.arn)
                    )
                else:
                    response = await self._other(web, caller.account, who)
        if response is None:
            scope["abort"]()
            while (await receive())["type"] != "http.disconnect":  # or uvicorn would answer for us
                pass
        else:
            await _reply(send, scope["method"], response)

    async def _lambda(self, request: Request) -> Response | None:
        if self._trouble.idle:
            return await self._service.handle(request)
        return await self._trouble.around_lambda(request, lambda: self._service.handle(request))

    async def _other(self, request: WebRequest, account: str, who: Signed) -> Response | None:
        async def answer() -> Response:
            response: Response = await self._in_thread(lambda: self._moto.answer(request, account, who.access_key))
            return response

        if self._trouble.idle:
            return await answer()
        return await self._trouble.around(request, account, who.region, answer)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _caller(self, who: Signed) -> Caller:
        """At once for twelve digits, which are an account; only keys that STS or IAM gave out need moto to be asked."""
        known = self._moto.caller_at_once(who.access_key, who.token)
        if known is None:
            assert who.access_key is not None, "who gives no key is known at once"
            known = await self._in_thread(partial(self._moto.caller, who.access_key, who.token))
        return known

    async def _visit(self, visit: Visit, headers: Mapping[str, str], query: Mapping[str, str]) -> Response:
        """A request to a function URL. Any page may send one, as on AWS: the URL cannot be guessed, the function's
        policy says whether strangers may ask, and its CORS whether their pages may read the answer."""
        if visit.by_path and headers.get("sec-fetch-mode") == "navigate":
            # A page of the function's must not be of one origin with the control plane; and its links begin with a
            # slash. Browsers resolve *.localhost by themselves.
            place = f"http://{visit.url_id}.lambda-url.{REGION}.localhost:{visit.port}{visit.path}"
            return Response(307, b"", {"location": f"{place}?{visit.query}" if visit.query else place})
        who = signed(headers, query)
        if who.service == "lambda" and who.access_key is not None:
            try:
                visit = replace(visit, caller=Visitor(who.access_key, (await self._caller(who)).account))
            except KeyRefused as error:
                return _json(403, {"Message": str(error)})
        return await self._service.visit(visit)

    async def _own(self, method: str, path: str, body: bytes) -> Response:
        if path == "/_pointsman/chaos" or path.startswith("/_pointsman/chaos/"):
            return self._trouble.control(method, path.removeprefix("/_pointsman/chaos"), body)
        match method, path.removeprefix("/_pointsman/"):
            case "GET", "health":
                return _json(200, self._health())
            case "POST", "shutdown":
                self._stop()
                return _json(202, {})
            case "POST", "logs":
                return _json(200, await self._logs(**json.loads(body)))
            case "POST", "snapshot":
                target = Path(json.loads(body)["to"])
                try:
                    await self._in_thread(lambda: self._save_to(target))
                except (OSError, TimeoutError) as error:
                    return _json(503, {"message": str(error)})
                return _json(200, {})
            case _:
                return _json(404, {"message": f"The local AWS has no {method} {path}."})

    async def _logs(
        self, *, function: str | None, since_ms: int, seen: Mapping[str, int], wait_s: float
    ) -> Mapping[str, Any]:
        """What was logged beyond `seen`; when that is nothing, wait for it so long."""
        deadline = time.monotonic() + wait_s
        while True:
            rung = self._bell.rung
            lines, seen = await self._in_thread(partial(self._moto.logs, function, since_ms, seen))
            left = deadline - time.monotonic()
            if lines or left <= 0 or self._bell.silent:
                return {"lines": lines, "seen": seen}
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), left)


class _Bell:
    """Wakes those who wait for `rung`; rung from any thread. Once `silent`, nobody may wait any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.rung = asyncio.Event()
        self.silent = False

    def ring(self) -> None:
        def wake() -> None:
            self.rung.set()
            self.rung = asyncio.Event()

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(wake)

    def silence(self) -> None:
        self.silent = True
        self.ring()


@lru_cache(1024)
def _query(text: bytes) -> Mapping[str, str]:
    query: dict[str, str] = {}
    for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
        # A list comes as the name repeated (UntagResource); no value of such a list holds a comma.
        query[name] = f"{query[name]},{value}" if name in query else value
    return query


def _from_here(headers: Mapping[str, str]) -> bool:
    """False for what a browser sends for a page from elsewhere: anybody's page could run code here otherwise."""
    if headers.get("sec-fetch-site") == "cross-site" and _loopback(headers.get("origin")) is not True:
        return False
    return _loopback(headers.get("origin")) is not False and _host_is_here(headers)


def _host_is_here(headers: Mapping[str, str]) -> bool:
    """False for a name from elsewhere that was made to resolve to this machine."""
    return _loopback(f"//{headers.get('host', 'localhost')}") is True


@lru_cache(256)
def _loopback(url: str | None) -> bool | None:
    if url is None:
        return None
    host = urlsplit(url).hostname or ""
    return host in ("127.0.0.1", "localhost", "::1") or host.endswith(".localhost")


def _json(status: int, document: Any) -> Response:
    return Response(status, json.dumps(document).encode(), {"content-type": "application/json"})


async def _body(receive: Receive) -> bytes | None:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _reply(send: Send, method: str, response: Response) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    headers += [(b"set-cookie", cookie.encode("latin-1")) for cookie in response.cookies]
    bodiless = response.status in (204, 304)
    if response.chunks is None and not bodiless and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    bodiless = bodiless or method == "HEAD"
    if response.chunks is not None:
        try:
            async for chunk in response.chunks:
                if not bodiless:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except CutShort as cut:
            log.warning("%s", cut)
            return  # uvicorn closes the connection: there is no other way left to say it
    await send({"type": "http.response.body", "body": b"" if bodiless else response.body})


# --- the process ---


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
    bell: _Bell
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
        await loop.run_in_executor(logging_thread, moto.write_logs, target, stream, lines)

    bell = _Bell(loop)
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
    trouble = Troublemaker(settings.directory / "chaos.json", state, time.monotonic)  # before anything goes on
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
        log.info("stopped")
