"""Carries out what `chaos` decides: waits, refuses, lets answers go astray; and is told over HTTP what to do.

What is in force is kept in a file: a restart in the middle of bad luck does not end it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, assert_never
from urllib.parse import parse_qsl

import msgspec

from pointsman.localaws.chaos import AnyRule, Call, Chaos, Dropped, Failed, Plan, Positive, Seconds, Throttled, Trouble
from pointsman.localaws.contract import Request, Response
from pointsman.localaws.lambda_ import LambdaError, LambdaState
from pointsman.localaws.lambda_.errors import RateExceeded
from pointsman.localaws.lambda_.wire import refusal as lambda_refusal
from pointsman.localaws.lambda_.wire import route
from pointsman.localaws.moto_bridge import WebRequest, refusal
from pointsman.localaws.naming import operation_name, problem, service_name

Refuse: TypeAlias = Callable[[Throttled | Failed], Response]

log: Final = logging.getLogger(__name__)


class Troublemaker:
    """The rules in force for `state` and every other service; `file` keeps them. `delay` has metrics come late."""

    def __init__(
        self, file: Path, state: LambdaState, now: Callable[[], float], *, delay: Callable[[float], None]
    ) -> None:
        self._file = file
        self._delay = delay
        self._state = state
        self._now = now
        self._chaos = Chaos(_kept(file), now)
        self._apply()

    @property
    def idle(self) -> bool:
        return self._chaos.idle

    # --- calls ---

    async def around_lambda(self, request: Request, answer: Callable[[], Awaitable[Response]]) -> Response | None:
        """What the caller gets; None: nothing, and the connection is to be closed."""
        found = route(request)
        operation = None if found is None else found[0][0]
        return await self._around(Call("lambda", operation, request.account, request.region), answer, _lambda)

    async def around_url(self, answer: Callable[[], Awaitable[Response]]) -> Response | None:
        """The same for a function URL; whose, is not asked before."""
        return await self._around(Call("lambda", "InvokeFunctionUrl", "", ""), answer, _url)

    async def around(
        self, request: WebRequest, account: str, region: str, answer: Callable[[], Awaitable[Response]]
    ) -> Response | None:
        """The same for the services of moto."""
        service = service_name(request.service or "s3")
        operation = request.action
        if operation is None:
            query = dict(parse_qsl(request.query, keep_blank_values=True))
            headers = {name.lower(): value for name, value in request.headers}
            operation = operation_name(service, request.method, request.path, query=query, headers=headers)
        return await self._around(
            Call(service, operation, account, region), answer, lambda what: _other(request, service, what)
        )

    async def _around(self, call: Call, answer: Callable[[], Awaitable[Response]], refuse: Refuse) -> Response | None:
        verdict = self._chaos.decide(call)
        if verdict.delay_s:
            await asyncio.sleep(verdict.delay_s)
        if verdict.before is not None:
            return self._instead(call, verdict.before, refuse)
        response = await answer()
        if verdict.after is None:
            return response
        if response.chunks is not None:
            async for _ in response.chunks:  # the function comes to its end
                pass
        return self._instead(call, verdict.after, refuse)

    @staticmethod
    def _instead(call: Call, trouble: Trouble, refuse: Refuse) -> Response | None:
        log.info("chaos: %s for %s:%s", trouble, call.service, call.operation)
        return None if isinstance(trouble, Dropped) else refuse(trouble)

    # --- control ---

    def control(self, method: str, path: str, body: bytes) -> Response:
        """GET: what is in force; PUT: this and nothing else; POST: this too; DELETE: nothing; what is stuck ends.

        POST .../release ends updates that are stuck, POST .../code-quota says how much code an account may store.
        """
        try:
            match method, path:
                case "GET", "":
                    pass
                case (("PUT" | "POST"), ""):
                    self._change(method, body)
                case "DELETE", "":
                    self._chaos = Chaos(Plan(), self._now)
                    self._changed()
                    self._state.release()
                    for account, region, _ in self._state.code_quotas():
                        self._state.set_code_quota(account, region, None)
                case "POST", "/release":
                    self._state.release()
                case "POST", "/code-quota":
                    quota = msgspec.json.decode(body, type=_Quota)
                    self._state.set_code_quota(quota.account, quota.region, quota.bytes)
                case _:
                    return _json(404, {"message": f"The local AWS has no {method} /_pointsman/chaos{path}."})
        except (msgspec.DecodeError, ValueError) as wrong:  # a ValidationError is a DecodeError
            return _json(400, {"message": str(wrong)})
        quotas = [{"account": who, "region": where, "bytes": size} for who, where, size in self._state.code_quotas()]
        there = {"under_way": self._state.under_way(), "code_quotas": quotas}
        return _json(200, self._chaos.document() | there)

    def _change(self, method: str, body: bytes) -> None:
        given = msgspec.json.decode(body, type=_Change)
        for rule in given.rules:
            for pattern in rule.only:
                if wrong := problem(pattern):
                    raise ValueError(wrong)
        if method == "PUT":
            self._chaos = Chaos(Plan(given.rules), self._now)
        else:
            self._chaos.add(given.rules)
        if given.clock is not None:
            self._chaos.clock = given.clock
        if given.metrics_late is not None:
            self._chaos.metrics_late = given.metrics_late
        self._changed()

    def _changed(self) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(self._chaos.plan))
        draft.replace(self._file)
        self._apply()

    def _apply(self) -> None:
        self._state.fate = self._chaos.fate
        self._delay(self._chaos.metrics_late)
        if self._state.speed != self._chaos.clock:
            self._state.speed = self._chaos.clock


class _Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rules: tuple[AnyRule, ...] = ()
    clock: Positive | None = None
    metrics_late: Seconds | None = None


class _Quota(msgspec.Struct, forbid_unknown_fields=True):
    """`bytes` None: AWS's 75 GB again."""

    account: str
    region: str
    bytes: Annotated[int, msgspec.Meta(ge=0)] | None


def _kept(file: Path) -> Plan:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Plan)
    except FileNotFoundError:
        return Plan()
    except msgspec.DecodeError as error:  # of another release of ours, say
        log.warning("%s cannot be read, and is forgotten: %s", file, error)
        return Plan()


def _lambda(what: Throttled | Failed) -> Response:
    match what:
        case Throttled():
            return lambda_refusal(RateExceeded())
        case Failed(status=500):
            return lambda_refusal(LambdaError("ServiceException", 500, "An internal error occurred.", "Service"))
        case Failed(status=status):
            return lambda_refusal(LambdaError("ServiceUnavailableException", status, "Service Unavailable", "Service"))
        case _:
            assert_never(what)


def _url(what: Throttled | Failed) -> Response:
    match what:
        case Throttled():
            return _json(429, {"Message": "Rate Exceeded."})
        case Failed(status=status):
            return _json(status, {"Message": "Internal Server Error" if status == 500 else "Service Unavailable"})
        case _:
            assert_never(what)


def _other(request: WebRequest, service: str, what: Throttled | Failed) -> Response:
    s3, json_ = service == "s3", request.header("x-amz-target") is not None
    match what:
        case Throttled():
            if s3:
                return refusal(request, 503, "SlowDown", "Please reduce your request rate.")
            return refusal(request, 400, "ThrottlingException" if json_ else "Throttling", "Rate exceeded")
        case Failed(status=500):
            code = "InternalError" if s3 else "InternalFailure"
            return refusal(request, 500, code, "We encountered an internal error. Please try again.")
        case Failed(status=status):
            return refusal(request, status, "ServiceUnavailable", "Service is unable to handle request.")
        case _:
            assert_never(what)


def _json(status: int, document: Mapping[str, Any]) -> Response:
    return Response(status, json.dumps(document).encode(), {"content-type": "application/json"})
