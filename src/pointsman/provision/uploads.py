"""Objects in S3 under keys that name their content: what is there already is not sent again.

Ours are compared by SHA-256, for an object of the right name may be another's, or half of one. A large file goes up in
parts, several at once; what a killed run had sent stays sent, and the next run goes on with it. (A bucket that is to
forget those nobody goes on with needs a lifecycle rule, as for any tool that sends parts.)
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pointsman.aws.gateway import Gateway
from pointsman.aws.objects import Part
from pointsman.errors import Ambiguous, BuildFailed, NotFound, PointsmanError, Unreachable
from pointsman.model import Artifact, size

PART = 8 << 20  # S3 takes 5 MiB at least, and 10,000 parts at most: 80 GB, a hundred times what Lambda takes
AT_ONCE = 4  # so not more than 32 MiB are held
OURS = "pointsman/"

Say = Callable[[str], None]


def key_of(made: Artifact) -> str:
    """A package's: the same whether it goes up for a function or for a stack."""
    return f"{OURS}{made.function}/{made.sha256.hex}.zip"


def store(
    gateway: Gateway,
    bucket: str,
    key: str,
    content: bytes | Path,
    say: Say,
    *,
    ours: bool = False,
    sealed: Mapping[str, str] | None = None,
) -> None:
    """Put it there, unless it is. The same content again does no harm, so a lost answer is simply asked after.

    `ours`: what is there is compared, also where the key does not begin as ours do. `sealed`: how S3 is to encrypt it.

    Raises BuildFailed for a file that is changed while it is sent, and whatever S3 says.
    """
    where = f"s3://{bucket}/{key}"
    compared = ours or key.startswith(OURS)
    sent = _Sent(gateway, bucket, key, content, _digests(content), _length(content), compared, sealed or {})
    if _is_there(sent):
        say(f"{where} is there already")
        return
    say(f"uploading {size(sent.size)} to {where}")
    try:
        if len(sent.digests) == 1:
            _whole(sent)
        else:
            _in_parts(sent, say)
    except NotFound as error:
        made_by = "`cdk bootstrap` makes it" if bucket.startswith("cdk-") else "Make it, or correct `bucket`"
        error.next = f"There is no bucket {bucket} for these credentials. {made_by}."
        raise


class _Sent(NamedTuple):
    """What is to be where, with the SHA-256 of each part (from 1; just one of what goes up whole) and all its bytes."""

    gateway: Gateway
    bucket: str
    key: str
    content: bytes | Path
    digests: list[bytes]
    size: int
    compared: bool
    sealed: Mapping[str, str]

    def piece(self, number: int) -> bytes:
        """One part. Raises BuildFailed where it is no longer what its digest was taken of."""
        piece = _read(self.content, number - 1)
        if hashlib.sha256(piece).digest() != self.digests[number - 1]:
            raise BuildFailed(f"{self.content!s} was changed while it was uploaded", next="Deploy again.")
        return piece


def _is_there(sent: _Sent) -> bool:
    found = sent.gateway.stored(sent.bucket, sent.key)
    if found is None or not sent.compared:  # others' keys are by their own digests, of what we cannot know
        return found is not None
    return found.size == sent.size and found.sha256 == _checksum(sent.digests)


def _whole(sent: _Sent) -> None:
    body = sent.piece(1)
    try:
        sent.gateway.put_object(sent.bucket, sent.key, body, **sent.sealed)
    except Ambiguous:
        if not _is_there(sent):
            sent.gateway.put_object(sent.bucket, sent.key, body, **sent.sealed)


def _in_parts(sent: _Sent, say: Say) -> None:
    upload, parts = _begun(sent)
    if parts:
        say(f"going on with an upload that has {size(sum(each.size for each in parts.values()))} already")
    else:
        upload = upload or sent.gateway.begin_parts(sent.bucket, sent.key, **sent.sealed)
    missing = [number for number in range(1, len(sent.digests) + 1) if number not in parts]
    failures: list[BaseException] = []
    lock = threading.Lock()

    def send() -> None:
        while True:
            with lock:
                if failures or not missing:
                    return
                number = missing.pop(0)
            try:
                part = _send_part(sent, upload, number)
            except BaseException as error:  # noqa: BLE001 - raised below, in the thread that waits
                failures.append(error)
                return
            with lock:
                parts[number] = part
                say(f"uploaded {size(sum(each.size for each in parts.values()))} of {size(sent.size)}")

    threads = [threading.Thread(target=send, daemon=True) for _ in range(min(AT_ONCE, len(missing)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        with lock:
            missing.clear()
        # Interrupted: what is under way ends first, is written down, and stays for the next run.
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    if failures:
        raise failures[0]
    try:
        sent.gateway.end_parts(sent.bucket, sent.key, upload, [parts[number] for number in sorted(parts)])
    except (Ambiguous, NotFound):  # NotFound: another run, or our own lost call, has ended it
        if not _is_there(sent):
            raise


def _send_part(sent: _Sent, upload: str, number: int) -> Part:
    """A part sent twice is one part: so a lost answer costs sending it again, three times at most."""
    piece = sent.piece(number)
    for _ in range(2):
        try:
            return sent.gateway.put_part(sent.bucket, sent.key, upload, number, piece)
        except (Ambiguous, Unreachable):
            pass
    return sent.gateway.put_part(sent.bucket, sent.key, upload, number, piece)


def _begun(sent: _Sent) -> tuple[str, dict[int, Part]]:
    """The upload that an earlier run left ("": none), with those of its parts that are what we would send."""
    try:
        upload = sent.gateway.begun_parts(sent.bucket, sent.key)
        found = list(sent.gateway.parts(sent.bucket, sent.key, upload)) if upload else []
    except PointsmanError:  # not allowed to look, or ended meanwhile: it is only a saving
        return "", {}
    parts = {}
    for part in found:
        if 1 <= part.number <= len(sent.digests):
            sha256 = base64.b64encode(sent.digests[part.number - 1]).decode()
            if part.sha256 == sha256 or (part.sha256 is None and _is_piece(part, sent)):
                parts[part.number] = part._replace(sha256=sha256)
    return upload or "", parts


def _is_piece(part: Part, sent: _Sent) -> bool:
    """By MD5, which an ETag is where S3 encrypts with a key of its own, and where it tells no SHA-256."""
    return part.etag.strip('"') == hashlib.md5(sent.piece(part.number), usedforsecurity=False).hexdigest()


def _length(content: bytes | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _digests(content: bytes | Path) -> list[bytes]:
    count = max(1, -(-_length(content) // PART))
    return [hashlib.sha256(_read(content, place)).digest() for place in range(count)]


def _read(content: bytes | Path, place: int) -> bytes:
    if isinstance(content, bytes):
        return content[place * PART : (place + 1) * PART]
    with content.open("rb") as file:
        file.seek(place * PART)
        return file.read(PART)


def _checksum(digests: list[bytes]) -> str:
    """As S3 tells it of the whole object."""
    whole = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()
    return base64.b64encode(whole).decode()
