"""Objects in S3, sent in one piece or in parts, each with the SHA-256 that S3 compares it with and keeps.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html: of an object in parts that is the
SHA-256 of its parts' SHA-256s, followed by `-` and their number.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pointsman.aws.sending import Sender, nothing
from pointsman.errors import AccessDenied


class Stored(NamedTuple):
    """An object that is there: bytes, and its SHA-256 in base64 (of parts' digests, where it came in parts) if told."""

    size: int
    sha256: str | None


class Part(NamedTuple):
    """A part that is there: its number (from 1), ETag, bytes, and SHA-256 in base64 if told."""

    number: int
    etag: str
    size: int
    sha256: str | None


class Objects(Sender):
    def stored(self, bucket: str, key: str) -> Stored | None:
        """None also where S3 will not say: without s3:ListBucket it answers 403 for a key that is not there."""

        def read(reply: Mapping[str, Any]) -> Stored:
            told = reply.get("ChecksumSHA256")
            return Stored(reply["ContentLength"], str(told).partition("-")[0] if told else None)

        try:
            return self._or_none("HeadObject", read, ChecksumMode="ENABLED", **_of(bucket, key))
        except AccessDenied:
            return None

    def object_version(self, bucket: str, key: str) -> str | None:
        """The newest version's id; None in a bucket that keeps no versions."""
        return self._or_none("HeadObject", lambda reply: reply.get("VersionId"), **_of(bucket, key))

    def put_object(self, bucket: str, key: str, body: bytes, **more: Any) -> None:
        """`more` of PutObject's parameters: how it is encrypted, what must be there."""
        checksum = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": _sha256(body)}
        self._send("PutObject", nothing, mutates=True, Body=body, **checksum, **more, **_of(bucket, key))

    def copy_object(self, source: str, source_key: str, bucket: str, key: str) -> None:
        """Within S3, up to 5 GB: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""
        self._send(
            "CopyObject",
            nothing,
            mutates=True,
            CopySource={"Bucket": source, "Key": source_key},
            ChecksumAlgorithm="SHA256",
            **_of(bucket, key),
        )

    # In parts

    def begin_parts(self, bucket: str, key: str, **more: Any) -> str:
        """The id of a new upload in parts."""
        return self._send(
            "CreateMultipartUpload",
            lambda reply: str(reply["UploadId"]),
            mutates=True,
            ChecksumAlgorithm="SHA256",
            **more,
            **_of(bucket, key),
        )

    def begun_parts(self, bucket: str, key: str) -> str | None:
        """The id of an upload of this key that was begun and not ended; None also where S3 will not say."""
        try:
            begun = self._send(
                "ListMultipartUploads",
                lambda reply: [each["UploadId"] for each in reply.get("Uploads", ()) if each["Key"] == key],
                service="s3",
                subject=f"s3://{bucket}/{key}",
                Bucket=bucket,
                Prefix=key,
            )
        except AccessDenied:
            return None
        return begun[-1] if begun else None  # they come oldest first

    def parts(self, bucket: str, key: str, upload: str) -> Iterator[Part]:
        """The parts that an upload has so far. Raises NotFound for one that has been ended."""
        marker: int | None = None
        while True:
            page, marker = self._send(
                "ListParts",
                lambda reply: (
                    [
                        Part(each["PartNumber"], each["ETag"], each["Size"], each.get("ChecksumSHA256"))
                        for each in reply.get("Parts", ())
                    ],
                    reply["NextPartNumberMarker"] if reply.get("IsTruncated") else None,
                ),
                UploadId=upload,
                PartNumberMarker=marker,
                **_of(bucket, key),
            )
            yield from page
            if marker is None:
                return

    def put_part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> Part:
        checksum = _sha256(body)
        etag = self._send(
            "UploadPart",
            lambda reply: str(reply["ETag"]),
            mutates=True,
            UploadId=upload,
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=checksum,
            **_of(bucket, key),
        )
        return Part(number, etag, len(body), checksum)

    def end_parts(self, bucket: str, key: str, upload: str, parts: list[Part]) -> None:
        """Make one object of them. They must be all, in order, with their digests."""
        told = [{"PartNumber": each.number, "ETag": each.etag, "ChecksumSHA256": each.sha256} for each in parts]
        self._send(
            "CompleteMultipartUpload",
            nothing,
            mutates=True,
            UploadId=upload,
            MultipartUpload={"Parts": told},
            **_of(bucket, key),
        )


def _of(bucket: str, key: str) -> dict[str, Any]:
    return {"service": "s3", "subject": f"s3://{bucket}/{key}", "Bucket": bucket, "Key": key}


def _sha256(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()
