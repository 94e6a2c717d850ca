"""Who answers a request: function URLs, Lambda and our own control here; all else moto, in threads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from pointsman.localaws.accounts import Caller, KeyRefused
from pointsman.localaws.contract import CutShort, Request, Response
from pointsman.localaws.control import REGION
from pointsman.localaws.lambda_ import Caller as Visitor
from pointsman.localaws.lambda_ import LambdaService, Visit, addressed
from pointsman.localaws.moto_bridge import MotoBridge, WebRequest, key_refusal
from pointsman.localaws.trail import Trail
from pointsman.localaws.trouble import Troublemaker

_LAMBDA_PATH = re.compile(r"/20\d\d-\d\d-\d\d/")
_SCOPE = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/,\s]+)/([^/,\s]+)/aws4_request")

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)


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
        trail: Trail,
        *,
        bell: Bell,
        health: Callable[[], Any],
        save_to: Callable[[Path], None],
        stop: Callable[[], None],
    ) -> None:
        self._service = service
        self._moto = moto
        self._trouble = trouble
        self._trail = trail
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
                    request = Request(web.method, path, query, headers, body, caller.account, who.region, caller.arn)
                    response = await self._lambda(request, who.access_key)
                else:
                    response = await self._other(web, caller.account, who)
        if response is None:
            scope["abort"]()
            while (await receive())["type"] != "http.disconnect":  # or uvicorn would answer for us
                pass
        else:
            await _reply(send, scope["method"], response)

    async def _lambda(self, request: Request, access_key: str | None) -> Response | None:
        async def answer() -> Response:
            response = await self._service.handle(request)
            self._trail.record(request, response, access_key)
            return response

        if self._trouble.idle:
            return await answer()
        return await self._trouble.around_lambda(request, answer)

    async def _other(self, request: WebRequest, account: str, who: Signed) -> Response | None:
        async def answer() -> Response:
            if request.service == "cloudtrail" and request.action == "LookupEvents":
                return self._trail.answer(account, who.region, request.body)
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


class Bell:
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
