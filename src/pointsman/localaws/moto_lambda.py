"""Our Lambda where moto's other services expect moto's: SNS, S3, SQS, EventBridge, Logs, Secrets Manager, tagging...

What AWS does asynchronously is an `Event` here, so no service waits for a function that may call that very service.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, cast

from moto.awslambda import models
from moto.awslambda.models import LambdaBackend
from moto.core.resource_tagging import TaggableResourcesMixin, TaggedResource
from moto.utilities.utils import get_partition

from pointsman.localaws.lambda_ import LambdaError, LambdaState

log = logging.getLogger(__name__)

Invoke = Callable[..., Any]
"""(account, region, function, payload, **options) → InvokeReply"""


def put_ours_in_place(state: LambdaState, invoke: Invoke) -> None:
    def backend(account: str, region: str) -> _Backend:
        return _Backend(account, region, state, invoke)

    models.lambda_backends = cast(Any, _Backends(backend))
    _reach_from_tagging(backend)


class _Backends:
    """Looks like a BackendDict: [account][region]."""

    def __init__(self, backend: Callable[[str, str], _Backend]) -> None:
        self._backend = backend

    def __getitem__(self, account: str) -> _Regions:
        return _Regions(account, self._backend)


class _Regions:
    def __init__(self, account: str, backend: Callable[[str, str], _Backend]) -> None:
        self._account = account
        self._backend = backend

    def __getitem__(self, region: str) -> _Backend:
        return self._backend(self._account, region)


class _Function:
    """What moto does with a function it has found: ask its ARN, or invoke it without waiting."""

    def __init__(self, account: str, region: str, arn: str, role: str, invoke: Invoke) -> None:
        self._account = account
        self._region = region
        self._invoke = invoke
        self.function_arn = arn
        self.role = role

    def invoke(self, body: str, _headers: Any, _response_headers: Any) -> str:
        self._invoke(self._account, self._region, self.function_arn, body.encode(), invocation_type="Event")
        return "accepted"  # moto's DynamoDB streams take an empty answer for a failure


class _Backend(LambdaBackend):
    """moto's backend builds the events; functions and invocations are ours. What is neither fails, in words."""

    def __init__(self, account: str, region: str, state: LambdaState, invoke: Invoke) -> None:
        self.account_id = account
        self.region_name = region
        self.partition = get_partition(region)
        self._state = state
        self._invoke = invoke
        self._lambdas: Any = self  # moto's methods look functions up in here

    def get_function(  # type: ignore[override]
        self, function_name_or_arn: str, qualifier: str | None = None
    ) -> _Function:
        given = {"FunctionName": function_name_or_arn} | ({"Qualifier": qualifier} if qualifier else {})
        found = self._state.get_function_configuration(self.account_id, self.region_name, given)
        return _Function(self.account_id, self.region_name, found["FunctionArn"], found["Role"], self._invoke)

    get_function_by_name_or_arn_with_qualifier = get_function

    def get_arn(self, arn: str) -> _Function:
        return self.get_function(arn)

    def invoke(
        self, function_name: str, qualifier: str | None, body: Any, headers: Any, response_headers: Any
    ) -> bytes:
        """Waits for the function, as Secrets Manager's rotation does."""
        del headers
        payload = body if isinstance(body, bytes) else str(body or "").encode()
        reply = self._invoke(self.account_id, self.region_name, function_name, payload, qualifier=qualifier)
        if reply.function_error is not None:
            response_headers["x-amz-function-error"] = reply.function_error
        return bytes(reply.payload)

    def iter_tagged_resources(self) -> Iterator[TaggedResource]:
        for arn, tags in self._state.tagged_functions(self.account_id, self.region_name):
            yield TaggedResource(arn=arn, tags=tags, resource_type="lambda:function")

    def tag_resource(self, resource_arn: str, tags: dict[str, str]) -> None:
        self._state.tag_resource(self.account_id, self.region_name, {"Resource": resource_arn, "Tags": tags})

    def untag_resource(self, resource_arn: str, tag_keys: list[str]) -> None:
        self._state.untag_resource(self.account_id, self.region_name, {"Resource": resource_arn, "TagKeys": tag_keys})

    # AWS tells neither publisher nor writer when their function is gone.

    def send_sns_message(self, *args: Any, **named: Any) -> None:
        with _said_in_the_log("SNS"):
            super().send_sns_message(*args, **named)

    def send_log_event(self, *args: Any, **named: Any) -> None:
        with _said_in_the_log("a log subscription"):
            super().send_log_event(*args, **named)

    def __getattr__(self, name: str) -> NoReturn:
        raise NotImplementedError(f"moto asks Lambda for {name}, which the local Lambda does not offer")


@contextmanager
def _said_in_the_log(source: str) -> Iterator[None]:
    try:
        yield
    except LambdaError as error:
        log.warning("%s could not deliver to Lambda: %s", source, error)


def _reach_from_tagging(backend: Callable[[str, str], _Backend]) -> None:
    """The tagging service looks through the backends that moto made, and ours it did not make."""
    from moto.core.resource_tagging import iter_taggable_backends as theirs
    from moto.resourcegroupstaggingapi import models as tagging

    def iter_taggable_backends(account_id: str, region_name: str) -> Iterator[TaggableResourcesMixin]:
        yield backend(account_id, region_name)
        yield from theirs(account_id, region_name)

    cast(Any, tagging).iter_taggable_backends = iter_taggable_backends
