"""Resource types that are made by their service's own operations, which moto answers better than it keeps models."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, cast

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from pointsman.localaws.cloudformation.resources import Made, NotBegun, Place, ResourceFailed
from pointsman.localaws.cloudformation.schemas import schema_of
from pointsman.localaws.cloudformation.template import Json, TemplateError

Answer: TypeAlias = Callable[[AWSPreparedRequest, str, str], tuple[int, Mapping[str, str], bytes]]
"""(request, the service it is signed for, account) → status, headers, body"""


class Calls:
    """AWS's operations, by botocore and without a socket: requests go to `answer`. Thread-safe."""

    def __init__(self, url: str, answer: Answer) -> None:
        self._url = url
        self._answer = answer
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._lock = threading.Lock()

    @cached_property
    def _session(self) -> Session:
        """One for all clients: each reads anew what there is to know of a service."""
        # What the environment says of profiles, proxies and retries is for real accounts.
        return Session(session_vars={"profile": (None, None, None, None)})

    def __call__(self, place: Place, service: str, operation: str, parameters: Json) -> Json:
        """Raises ResourceFailed, whose cause is botocore's ClientError."""
        client = self._client(service, place.account, place.region)
        try:
            return cast(Json, client._make_api_call(operation, parameters))
        except ClientError as error:
            said = error.response["Error"].get("Message") or error.response["Error"]["Code"]
            status = error.response["ResponseMetadata"].get("HTTPStatusCode")
            named = client.meta.service_model.service_id
            words = f'"{said} (Service: {named}, Status Code: {status})"'
            raise ResourceFailed(f"Resource handler returned message: {words}") from error
        except BotoCoreError as error:  # what botocore does not even send
            raise ResourceFailed(f"Properties validation failed: {error}") from error

    def _client(self, service: str, account: str, region: str) -> Any:
        with self._lock:
            found = self._clients.get((service, account, region))
            if found is None:
                config = Config(proxies={}, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
                found = self._session.create_client(
                    service,
                    region_name=region,
                    endpoint_url=self._url,
                    aws_access_key_id=account,
                    aws_secret_access_key="local",
                    config=config,
                )

                scope = found.meta.service_model.signing_name

                def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
                    status, headers, body = self._answer(request, scope, account)
                    return AWSResponse(request.url, status, HTTPHeaders.from_dict(headers), _Raw(body))

                found.meta.events.register("before-send", send)
                self._clients[service, account, region] = found
        return found


class _Raw(io.BytesIO):
    """What botocore reads an answer from: at once, or an object's content as a stream."""

    def stream(self) -> Iterable[bytes]:
        yield self.read()


class Described:
    """What a `Kind` takes from AWS's schema of its type."""

    type: ClassVar[str]
    name_property: str | None = None
    takes_tags = True

    @property
    def replacing(self) -> frozenset[str]:
        schema = schema_of(self.type)
        assert schema is not None
        return schema.replacing

    def attribute(self, made: Made, name: str) -> Any:
        if name not in made.attributes:
            raise TemplateError(f"Resource type {self.type} does not support attribute {{{name}}}")
        return made.attributes[name]


class Called(Described):
    """A type by its service's operations; what a subclass does not know of the type's properties is refused."""

    service: ClassVar[str]
    known: ClassVar[frozenset[str]]

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def _check(self, properties: Json) -> None:
        if unknown := sorted(properties.keys() - self.known - {"Tags"}):
            raise NotBegun(f"The local CloudFormation does not offer {', '.join(unknown)} of {self.type}.")

    def _call(self, place: Place, operation: str, **parameters: Any) -> Json:
        return self._calls(place, self.service, operation, parameters)

    def _gone(self, place: Place, operation: str, **parameters: Any) -> None:
        """Delete; what somebody else has deleted before is fine."""
        try:
            self._call(place, operation, **parameters)
        except ResourceFailed as error:
            if not is_missing(error):
                raise


_MISSING = ("NotFound", "NoSuch", "NonExistent", "DoesNotExist")


def is_missing(error: ResourceFailed) -> bool:
    if not isinstance(error.__cause__, ClientError):
        return False
    code = str(error.__cause__.response["Error"]["Code"])
    return any(word in code for word in _MISSING)


def undone(work: Callable[[], Any], undo: Callable[[], Any]) -> Any:
    """What `work` gives; if it fails, `undo` takes back what came before it."""
    try:
        return work()
    except BaseException:
        undo()
        raise


def text_of(value: Any) -> str:
    """A property as an attribute of SQS or SNS: documents as JSON."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def tags_of(pairs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {str(tag["Key"]): text_of(tag["Value"]) for tag in pairs}


def retagged(before: Json, after: Json) -> tuple[list[str], dict[str, str]]:
    """(the keys to take away, the tags to set)"""
    old, new = tags_of(before.get("Tags", [])), tags_of(after.get("Tags", []))
    return sorted(old.keys() - new.keys()), {key: value for key, value in new.items() if old.get(key) != value}


def pairs_of(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
