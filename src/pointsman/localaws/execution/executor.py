"""The pool: which environment answers a call, how many there are, and when they end."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import secrets
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pointsman.localaws.contract import LogSink, Outcome, Stream, Target
from pointsman.localaws.execution.environment import Call, Environment, Surroundings
from pointsman.localaws.execution.logs import LogShipment
from pointsman.localaws.execution.orphans import Warden
from pointsman.localaws.execution.runtimes import Runtimes

_PATIENCE_S = 0.25  # how long a runtime that has answered may take to ask for more before another process is started

_Key = tuple[str, str, str, str, str, str]


def account_credentials(target: Target) -> Mapping[str, str]:
    """Credentials only the local AWS accepts; the access key names the function's account."""
    return {
        "AWS_ACCESS_KEY_ID": target.account,
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_SESSION_TOKEN": "local",
    }


class LocalExecutor:
    """Runs functions as processes of this machine (contract: `Executor`). Belongs to the event loop it is used on.

    At most `limit` processes stand at a time, busy or idle; a call beyond that ends the longest idle one, or waits.
    Without `namespaces` (or where the kernel refuses them) layers are on the search paths only, and not at /opt.
    """

    def __init__(
        self,
        logs: LogSink,
        *,
        endpoint: Callable[[], str | None],
        credentials: Callable[[Target], Mapping[str, str]] = account_credentials,
        limit: int = 16,
        idle_s: float = 300.0,
        init_limit_s: float = 10.0,
        cache: Path | None = None,
        now: Callable[[], float] = time.time,
        path: str | None = None,
        namespaces: bool = True,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._limit = limit
        self._idle_s = idle_s
        self._scratch = Path(tempfile.gettempdir()) / f"pointsman-functions-{secrets.token_hex(8)}"
        self._runtimes = Runtimes(
            scratch=self._scratch,
            cache=cache or Path.home() / ".cache" / "pointsman" / "runtimes",
            path=os.environ.get("PATH", os.defpath) if path is None else path,
            home=Path.home(),
            namespaces=namespaces,
        )
        self._warden: Warden | None = None
        self._shipment = LogShipment(logs)
        self._surroundings = Surroundings(
            runtimes=self._runtimes,
            scratch=self._scratch,
            init_limit_s=init_limit_s,
            variables=self._variables,
            now=now,
            put=self._shipment.put,
            started=self._started,
            ended=self._ended,
        )
        self._all: set[Environment] = set()
        self._idle: dict[_Key, list[Environment]] = {}  # last in, first out: the others may grow old
        self._busy: set[Environment] = set()
        self._retired: set[Environment] = set()
        self._queue: deque[asyncio.Future[None]] = deque()
        self._reaper: asyncio.TimerHandle | None = None
        self._closing = False

    def runtimes(self) -> tuple[str, ...]:
        return self._runtimes.names()

    async def invoke(
        self,
        target: Target,
        payload: bytes,
        *,
        invoked_arn: str,
        request_id: str,
        client_context: str | None = None,
        stream: Stream | None = None,
    ) -> Outcome:
        """One call to its end. `client_context` is JSON, plain or in base64 as the X-Amz-Client-Context header has it.

        Whatever the function does is an Outcome; RuntimeError only if the executor is closed.
        """
        context = _plain_context(client_context) if client_context else None
        environment = await self._take(target)
        try:
            return await environment.invoke(Call(payload, invoked_arn, request_id, context, stream))
        finally:
            self._give_back(environment)

    async def prepare(self, target: Target) -> bool:
        """Have an environment ready for the next call; at the limit none is. False: its initialisation failed."""
        environment = self._create(target)
        if environment is None:
            return True
        self._busy.add(environment)
        try:
            return await environment.prepare()
        finally:
            self._give_back(environment)

    async def retire(self, function_name: str, account: str, region: str, version: str | None = None) -> None:
        """End the idle environments now, the busy ones after their call."""
        wanted = (account, region, function_name)
        found = [e for e in self._all if _key(e.target)[:3] == wanted and version in (None, e.target.version)]
        self._retired.update(self._busy.intersection(found))
        await self._end(e for e in found if e not in self._busy)

    async def close(self) -> None:
        """End every process, deliver what was logged, remove the scratch folder. Calls under way end as killed."""
        self._closing = True
        if self._reaper is not None:
            self._reaper.cancel()
        await self._end(self._all)
        self._wake(len(self._queue))
        self._runtimes.close()
        await self._shipment.close()
        if self._warden is not None:
            await asyncio.to_thread(self._warden.dismiss)
            self._warden = None

    # The pool

    async def _take(self, target: Target) -> Environment:
        while True:
            environment = self._pop_idle(_key(target)) or self._create(target)
            if environment is None:
                await self._turn()
                continue
            self._busy.add(environment)
            try:
                if environment.fresh or await environment.free(_PATIENCE_S):
                    return environment
            except BaseException:
                self._give_back(environment)
                raise
            # Still at work although it has answered, or just gone. A process too many is better than a call too late.
            self._give_back(environment, last_choice=True)
            if (another := self._create(target)) is not None:
                self._busy.add(another)
                return another
            await self._turn()

    def _pop_idle(self, key: _Key) -> Environment | None:
        idle = self._idle.get(key)
        if not idle:
            return None
        environment = idle.pop()
        if not idle:
            del self._idle[key]
        return environment

    def _create(self, target: Target) -> Environment | None:
        """None at the limit; the longest idle environment is then on its way out, if there is one."""
        if self._closing:
            raise RuntimeError("the executor is closed")
        if self._warden is None:
            self._scratch.mkdir(mode=0o700)
            self._warden = Warden(self._scratch)
        if len(self._all) < self._limit:
            environment = Environment(target, self._surroundings)
            environment.closed.add_done_callback(lambda _: self._closed(environment))
            self._all.add(environment)
            return environment
        idle = [environment for pool in self._idle.values() for environment in pool]
        if idle:
            oldest = min(idle, key=lambda environment: environment.idle_since)
            self._forget_idle(oldest)  # the next to ask here must end another one
            oldest.kill()
        return None

    def _give_back(self, environment: Environment, *, last_choice: bool = False) -> None:
        self._busy.discard(environment)
        if environment in self._retired:
            environment.kill()
        elif not environment.gone:
            environment.idle_since = asyncio.get_running_loop().time()
            idle = self._idle.setdefault(_key(environment.target), [])
            idle.insert(0 if last_choice else len(idle), environment)
            if self._reaper is None:
                self._reaper = asyncio.get_running_loop().call_later(self._idle_s, self._reap)
        self._wake()

    def _closed(self, environment: Environment) -> None:
        self._all.discard(environment)
        self._retired.discard(environment)
        self._forget_idle(environment)
        self._wake()

    def _forget_idle(self, environment: Environment) -> None:
        key = _key(environment.target)
        if environment in self._idle.get(key, ()):
            self._idle[key].remove(environment)
            if not self._idle[key]:
                del self._idle[key]

    def _reap(self) -> None:
        """End what has been idle too long; look again when the next one may be due."""
        self._reaper = None
        loop = asyncio.get_running_loop()
        idle = sorted((e for pool in self._idle.values() for e in pool), key=lambda e: e.idle_since)
        for environment in idle:
            if (left_s := environment.idle_since + self._idle_s - loop.time()) > 0:
                self._reaper = loop.call_later(left_s, self._reap)
                break
            environment.kill()

    async def _end(self, environments: Iterable[Environment]) -> None:
        ending = list(environments)
        for environment in ending:
            self._forget_idle(environment)
            environment.kill()
        for environment in ending:
            await environment.closed

    async def _turn(self) -> None:
        """Wait in line until an environment is given back or gone."""
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake()  # the turn was ours: pass it on
            raise

    def _wake(self, count: int = 1) -> None:
        while count and self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1

    # What every environment is given

    def _variables(self, target: Target) -> dict[str, str]:
        endpoint = self._endpoint()
        return {**self._credentials(target), **({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})}

    def _started(self, group: int) -> None:
        if self._warden is not None:
            self._warden.watch(group)

    def _ended(self, group: int) -> None:
        if self._warden is not None:
            self._warden.forget(group)


def _key(target: Target) -> _Key:
    return target.account, target.region, target.function_name, target.version, target.revision, target.initialization


def _plain_context(given: str) -> str:
    """JSON on one line, in ASCII, fit for a header; what is neither JSON nor base64 goes through as it is."""
    try:
        text = given if given.lstrip().startswith("{") else base64.b64decode(given, validate=True).decode()
        return json.dumps(json.loads(text))
    except (binascii.Error, ValueError):
        return given.replace("\r", " ").replace("\n", " ")
