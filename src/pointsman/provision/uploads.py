"""Objects in S3 under keys that name their content: what is there already is not sent again."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

from pointsman.aws.gateway import Gateway
from pointsman.errors import Ambiguous, NotFound
from pointsman.model import Artifact, size


def key_of(made: Artifact) -> str:
    """A package's: the same whether it goes up for a function or for a stack."""
    return f"pointsman/{made.function}/{base64.b64decode(made.sha256).hex()}.zip"


def store(gateway: Gateway, bucket: str, key: str, content: bytes | Path, say: Callable[[str], None]) -> None:
    """Put it there, unless it is. The same content again does no harm, so a lost answer is simply asked after."""
    if gateway.object_exists(bucket, key):
        say(f"s3://{bucket}/{key} is there already")
        return
    body = content.read_bytes() if isinstance(content, Path) else content
    say(f"uploading {size(len(body))} to s3://{bucket}/{key}")
    try:
        gateway.put_object(bucket, key, body)
    except NotFound as error:
        made_by = "`cdk bootstrap` makes it" if bucket.startswith("cdk-") else "Make it, or correct `bucket`"
        error.next = f"There is no bucket {bucket} for these credentials. {made_by}."
        raise
    except Ambiguous:
        if not gateway.object_exists(bucket, key):
            gateway.put_object(bucket, key, body)
