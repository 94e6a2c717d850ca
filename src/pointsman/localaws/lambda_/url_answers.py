"""Answers visits of function URLs: whom to let in, the invocation, and what is said when that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final
from uuid import uuid4

import msgspec

from pointsman.localaws.contract import CutShort, Response
from pointsman.localaws.lambda_.errors import LambdaError
from pointsman.localaws.lambda_.invocations import Invocations
from pointsman.localaws.lambda_.state import LambdaState
from pointsman.localaws.lambda_.urls import FunctionUrl
from pointsman.localaws.lambda_.visits import (
    Malformed,
    Opening,
    Visit,
    answer,
    event,
    is_preflight,
    preflight,
    with_cors,
)
from pointsman.localaws.lambda_.wire import refusal

_FORBIDDEN: Final = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)

log: Final = logging.getLogger(__name__)


class UrlAnswers:
    def __init__(self, state: LambdaState, invocations: Invocations) -> None:
        self._state = state
        self._invocations = invocations

    async def answer(self, visit: Visit) -> Response:
        request_id = str(uuid4())
        url = self._state.function_url(visit.url_id)
        if url is None:
            response = _denied(None)
        elif is_preflight(url, visit):
            response = preflight(url, visit)
        else:
            try:
                response = await self._visited(url, visit, request_id)
            except LambdaError as error:
                response = refusal(error)
            response = replace(response, headers=with_cors(url, visit, response.headers))
            if response.status != 403 and (warning := url.warns(visit.caller.account if visit.caller else None)):
                response = replace(response, headers={**response.headers, "x-pointsman-warning": warning})
        return replace(response, headers={**response.headers, "x-amzn-requestid": request_id})

    async def _visited(self, url: FunctionUrl, visit: Visit, request_id: str) -> Response:
        here = url.address
        caller = visit.caller.account if visit.caller else None
        if reason := url.refuses(caller):
            log.warning("403 for the URL of %s: %s", here.qualified(here.qualifier), reason)
            response = _denied(_FORBIDDEN)
            return replace(response, headers={**response.headers, "x-pointsman-reason": reason})
        payload = msgspec.json.encode(event(url, visit, request_id, time.time()))
        if url.streams:
            return await self._streamed(url, payload, request_id)
        reply = await self._invocations.invoke(
            here.account, here.region, here.name, payload, qualifier=here.qualifier, request_id=request_id
        )
        if reply.function_error is not None:
            return _bad_gateway()
        try:
            head, body = answer(reply.payload)
        except Malformed as wrong:
            return _malformed(url, wrong)
        return Response(head.status, body, head.headers, head.cookies)

    async def _streamed(self, url: FunctionUrl, payload: bytes, request_id: str) -> Response:
        here = url.address
        pipe, reply = await self._invocations.begin_invoke(
            here.account, here.region, here.name, payload, qualifier=here.qualifier, request_id=request_id
        )
        if pipe.content_type is None:
            return _bad_gateway()
        opening, chunks, first = Opening(pipe.content_type), aiter(pipe), b""
        try:
            while opening.head is None:
                first = opening.feed(await anext(chunks))
        except StopAsyncIteration:
            return _malformed(url, Malformed("it ended before the eight zeros"))
        except Malformed as wrong:
            return _malformed(url, wrong)

        async def body() -> AsyncIterator[bytes]:
            if first:
                yield first
            async for chunk in chunks:
                yield chunk
            if (ended := await reply).function_error is not None:
                raise CutShort(f"{here.qualified(here.qualifier)} failed while it answered: {ended.payload!r}")

        head = opening.head
        return Response(head.status, b"", head.headers, head.cookies, body())


def _denied(message: str | None) -> Response:
    """Recorded: AWS says nothing of a URL that is not there."""
    body = msgspec.json.encode({"Message": message})
    return Response(403, body, {"content-type": "application/json", "x-amzn-errortype": "AccessDeniedException"})


def _bad_gateway() -> Response:
    headers = {"content-type": "application/json", "x-amzn-errortype": "InternalServerErrorException"}
    return Response(502, b"Internal Server Error", headers)


def _malformed(url: FunctionUrl, wrong: Malformed) -> Response:
    log.warning(
        "%s: 502, what it returned is no HTTP response: %s", url.address.qualified(url.address.qualifier), wrong
    )
    return _bad_gateway()
