"""Container images in ECR: what a tag means now. https://docs.aws.amazon.com/AmazonECR/latest/APIReference/"""

from __future__ import annotations

from typing import NamedTuple

from pointsman.aws.sending import Reply, Sender, nothing
from pointsman.errors import NotFound

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class Found(NamedTuple):
    """An image that is there: `digest` as sha256:…, its bytes (compressed), and whether it is several: an index."""

    digest: str
    size: int
    several: bool


class Images(Sender):
    def image(self, account: str, repository: str, tag: str) -> Found | None:
        """None where there is no such image or repository. `tag`: or its digest, sha256:…"""
        import json

        def read(reply: Reply) -> Found | None:
            if not reply.get("images"):
                return None
            found = reply["images"][0]
            manifest = json.loads(found["imageManifest"])
            kind = found.get("imageManifestMediaType") or manifest.get("mediaType", "")
            parts = [manifest.get("config", {}), *manifest.get("layers", ())]
            return Found(
                str(found["imageId"]["imageDigest"]),
                sum(each.get("size", 0) for each in parts),
                kind in _INDEXES or "manifests" in manifest,
            )

        try:
            return self._send(
                "BatchGetImage",
                read,
                service="ecr",
                subject=f"{repository}:{tag}",
                registryId=account,
                repositoryName=repository,
                imageIds=[{"imageDigest" if tag.startswith("sha256:") else "imageTag": tag}],
                acceptedMediaTypes=[*_MANIFESTS, *_INDEXES],
            )
        except NotFound:
            return None

    # What a rehearsal supplies

    def create_repository(self, repository: str) -> None:
        """Conflict where it is there already."""
        self._send(
            "CreateRepository", nothing, service="ecr", mutates=True, subject=repository, repositoryName=repository
        )

    def put_image(self, repository: str, tag: str, manifest: str) -> None:
        self._send(
            "PutImage",
            nothing,
            service="ecr",
            mutates=True,
            subject=f"{repository}:{tag}",
            repositoryName=repository,
            imageManifest=manifest,
            imageTag=tag,
        )
