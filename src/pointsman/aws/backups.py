"""What a backup asks and a restore says beyond a release: code and layers by the bytes, settings of what belongs to
qualifiers as a whole, and a store's objects in S3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pointsman.aws.belongings import _event_source, _events, _permission
from pointsman.aws.layers import _version
from pointsman.aws.sending import Reply, Sender, nothing
from pointsman.errors import BackupFailed, Unreachable
from pointsman.model import Configuration, EventSource, FunctionArn, LayerVersion, Permission

R = TypeVar("R")
_PATIENCE_S = 60
_PIECE = 1 << 20


class Code(NamedTuple):
    """Where the code is to be had for ten minutes (`location`, signed), or the image; tags and reserved concurrency."""

    location: str
    image: str  # by its digest
    image_uri: str  # as it was given: by a tag, say
    tags: dict[str, str]
    reserved: int | None


class Listed(NamedTuple):
    """An object in S3."""

    key: str
    size: int


class Backups(Sender):
    # Looking

    def listing(self, name: str, read: Callable[[Reply], Configuration]) -> list[Configuration]:
        """`$LATEST` and every version, in Lambda's order. Raises NotFound where there is no such function."""
        return list(self._all("ListVersionsByFunction", "Versions", read, subject=name, FunctionName=name))

    def code_of(self, name: str, qualifier: str | None = None) -> Code:
        """https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html. Raises NotFound."""
        return self._send(
            "GetFunction",
            _code,
            subject=f"{name}:{qualifier}" if qualifier else name,
            FunctionName=name,
            Qualifier=qualifier,
        )

    def whole_policy(self, name: str, qualifier: str) -> tuple[tuple[Permission, ...], str] | None:
        """As AddPermission can say it, and AWS's own text. "" is the function's own."""

        def read(reply: Reply) -> tuple[tuple[Permission, ...], str]:
            text = str(reply["Policy"])
            return tuple(map(_permission, json.loads(text)["Statement"])), text

        return self._or_none("GetPolicy", read, **_on(name, qualifier))

    def url_settings(self, name: str) -> dict[str, dict[str, Any]]:
        """By qualifier, as CreateFunctionUrlConfig takes them."""
        return dict(self._all("ListFunctionUrlConfigs", "FunctionUrlConfigs", _url, subject=name, FunctionName=name))

    def event_settings(self, name: str) -> dict[str, dict[str, Any]]:
        """By qualifier, as PutFunctionEventInvokeConfig takes them."""

        def read(reply: Reply) -> tuple[str, dict[str, Any]]:
            return _qualifier(reply["FunctionArn"]), _events(reply)

        found = self._all(
            "ListFunctionEventInvokeConfigs", "FunctionEventInvokeConfigs", read, subject=name, FunctionName=name
        )
        return dict(found)

    def all_event_sources(self) -> Iterator[tuple[FunctionArn, EventSource]]:
        """Every mapping of the account and region, with what it feeds."""

        def read(reply: Reply) -> tuple[FunctionArn, EventSource]:
            return FunctionArn.parse(reply["FunctionArn"]), _event_source(reply)

        return self._all("ListEventSourceMappings", "EventSourceMappings", read)

    def layer_content(self, arn: str) -> tuple[LayerVersion, str] | None:
        """A layer version, and where its content is to be had; None where it is gone."""
        return self._or_none(
            "GetLayerVersionByArn",
            lambda reply: (_version(reply), str(reply.get("Content", {}).get("Location", ""))),
            subject=arn,
            Arn=arn,
        )

    def _all(self, action: str, key: str, read: Callable[[Reply], R], **parameters: Any) -> Iterator[R]:
        marker: str | None = None
        while True:
            page, marker = self._send(
                action,
                lambda reply: ([read(each) for each in reply.get(key, ())], reply.get("NextMarker")),
                Marker=marker,
                **parameters,
            )
            yield from page
            if not marker:
                return

    # Bringing back. "" is the function's own.

    def permit(self, name: str, qualifier: str, parameters: Mapping[str, Any]) -> None:
        """Conflict where the policy has a statement of that id already."""
        self._send("AddPermission", nothing, mutates=True, **_on(name, qualifier), **parameters)

    def give_url(self, name: str, qualifier: str, settings: Mapping[str, Any]) -> str:
        """The URL, which AWS chooses. Conflict where there is one."""
        return self._send(
            "CreateFunctionUrlConfig",
            lambda reply: str(reply["FunctionUrl"]),
            mutates=True,
            **_on(name, qualifier),
            **settings,
        )

    def configure_events(self, name: str, qualifier: str, settings: Mapping[str, Any]) -> None:
        self._send("PutFunctionEventInvokeConfig", nothing, mutates=True, **_on(name, qualifier), **settings)

    def reserve(self, name: str, number: int) -> None:
        self._send(
            "PutFunctionConcurrency",
            nothing,
            mutates=True,
            subject=name,
            FunctionName=name,
            ReservedConcurrentExecutions=number,
        )

    def map_source(self, name: str, qualifier: str, settings: Mapping[str, Any]) -> None:
        """Made disabled. Conflict where this source feeds it already."""
        target = f"{name}:{qualifier}" if qualifier else name
        self._send(
            "CreateEventSourceMapping",
            nothing,
            mutates=True,
            subject=target,
            FunctionName=target,
            Enabled=False,
            **settings,
        )

    # A store in S3

    def objects_under(self, bucket: str, prefix: str) -> Iterator[Listed]:
        token: str | None = None
        while True:
            page, token = self._send(
                "ListObjectsV2",
                lambda reply: (
                    [Listed(each["Key"], each["Size"]) for each in reply.get("Contents", ())],
                    reply.get("NextContinuationToken"),
                ),
                service="s3",
                subject=f"s3://{bucket}/{prefix}",
                Bucket=bucket,
                Prefix=prefix,
                ContinuationToken=token,
            )
            yield from page
            if not token:
                return

    def object_text(self, bucket: str, key: str) -> tuple[bytes, str] | None:
        """A small object, and its ETag: what a conditional PutObject compares."""
        return self._or_none("GetObject", lambda reply: (reply["Body"].read(), str(reply["ETag"])), **_at(bucket, key))

    def object_into(self, bucket: str, key: str, path: Path, most: int) -> bool:
        """False where there is none. Of more than `most` bytes only so many, and one."""

        def read(reply: Reply) -> bool:
            with path.open("wb") as file:
                _copy(reply["Body"].read, file.write, most)
            return True

        return bool(self._or_none("GetObject", read, **_at(bucket, key)))


def fetch(address: str, what: str, path: Path, most: int) -> bytes:
    """The bytes from a signed address, into a file; of more than `most` only so many, and one. Their SHA-256.

    Raises Unreachable, which never tells the address: it is good for whoever reads the log.
    """
    import http.client
    import urllib.error
    import urllib.request

    where = f"fetching {what}"
    if not address.startswith(("https://", "http://")):
        raise Unreachable("AWS gives no address for it", where=where)
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE_S) as reply, path.open("wb") as file:

            def write(piece: bytes) -> None:
                digest.update(piece)
                file.write(piece)

            _copy(reply.read, write, most)
    except (urllib.error.URLError, TimeoutError, http.client.HTTPException, ConnectionError) as error:
        raise Unreachable(str(getattr(error, "reason", error)), where=where) from error
    except OSError as error:
        raise BackupFailed(f"{path}: {error.strerror}", where=where) from error
    return digest.digest()


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], object], most: int) -> None:
    left = most + 1
    while left > 0 and (piece := read(min(_PIECE, left))):
        write(piece)
        left -= len(piece)


def _code(reply: Reply) -> Code:
    code = reply.get("Code", {})
    return Code(
        location=str(code.get("Location", "")),
        image=str(code.get("ResolvedImageUri") or code.get("ImageUri") or ""),
        image_uri=str(code.get("ImageUri") or ""),
        tags=dict(reply.get("Tags") or {}),
        reserved=reply.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
    )


def _url(reply: Reply) -> tuple[str, dict[str, Any]]:
    kept = {key: reply[key] for key in ("AuthType", "Cors", "InvokeMode") if reply.get(key)}
    return _qualifier(reply["FunctionArn"]), kept


def _qualifier(arn: str) -> str:
    found = FunctionArn.parse(arn).qualifier or ""
    return "" if found == "$LATEST" else found


def _on(name: str, qualifier: str) -> dict[str, Any]:
    return {
        "subject": f"{name}:{qualifier}" if qualifier else name,
        "FunctionName": name,
        "Qualifier": qualifier or None,
    }


def _at(bucket: str, key: str) -> dict[str, Any]:
    return {"service": "s3", "subject": f"s3://{bucket}/{key}", "Bucket": bucket, "Key": key}


__all__ = ["Backups", "Code", "Listed", "fetch"]
