"""moto's ECR, put right in one thing: an image's digest is that of its manifest, and not of its layers' names.

https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests. Two images of the same layers have other
configurations, and other digests; one without layers has one as well.

Imports moto, so nothing may import this before moto is wanted.
"""

from __future__ import annotations

import hashlib
from typing import Any, cast

from moto.ecr.models import Image


def put_digests_right() -> None:
    def create_digest(self: Any) -> None:
        self._image_digest = f"sha256:{hashlib.sha256(self.image_manifest.encode()).hexdigest()}"

    cast(Any, Image)._create_digest = create_digest
