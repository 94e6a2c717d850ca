"""A store in S3. S3 encrypts what it keeps by itself, with a key of its own or the bucket's; `sealed` says another.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/default-encryption-faq.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html: how a document is replaced as it was read
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pointsman.aws.gateway import Gateway
from pointsman.errors import Ambiguous, Conflict, NotFound, PreconditionFailed
from pointsman.provision import uploads
from pointsman.vault import Changed, Item


class Bucket:
    def __init__(
        self, gateway: Gateway, bucket: str, prefix: str, *, sealed: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self.gateway = gateway
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.sealed = sealed
        self.say = say
        self.place = f"s3://{bucket}/{self.prefix}".rstrip("/")

    def items(self, under: str) -> Iterator[Item]:
        try:
            for each in self.gateway.objects_under(self.bucket, f"{self.prefix}{under}/"):
                yield Item(each.key.removeprefix(self.prefix), each.size)
        except NotFound as error:
            error.next = f"There is no bucket {self.bucket} for these credentials: make it, or say another place."
            raise

    def read(self, name: str) -> tuple[bytes, str] | None:
        return self.gateway.object_text(self.bucket, self.key(name))

    def replace(self, name: str, content: bytes, mark: str | None) -> None:
        condition = {"IfMatch": mark} if mark else {"IfNoneMatch": "*"}
        try:
            self.gateway.put_object(self.bucket, self.key(name), content, **condition, **self.sealed)
        except (PreconditionFailed, Conflict, NotFound) as error:
            raise Changed(name) from error
        except Ambiguous:
            there = self.read(name)
            if there is None or there[0] != content:
                raise

    def put(self, name: str, source: Path) -> None:
        uploads.store(
            self.gateway, self.bucket, self.key(name), source, self.say, ours=True, sealed=self.sealed
        )  # fmt: skip

    def fetch(self, name: str, into: Path, most: int) -> bool:
        return self.gateway.object_into(self.bucket, self.key(name), into, most)

    def key(self, name: str) -> str:
        return f"{self.prefix}{name}"


__all__ = ["Bucket"]
