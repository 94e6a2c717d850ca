"""Layers: their versions, and a new one. https://docs.aws.amazon.com/lambda/latest/api/API_PublishLayerVersion.html

There is nothing to make publishing conditional on: who must not publish twice has to look first, and again after an
answer that was lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pointsman.aws.sending import Reply, Sender, nothing
from pointsman.model import LayerVersion


class Layers(Sender):
    def layer_version(self, arn: str) -> LayerVersion | None:
        """With its digest and size; of any account whose permission one has. None where it is gone."""
        return self._or_none("GetLayerVersionByArn", _version, subject=arn, Arn=arn)

    def layer_versions(self, name: str) -> Iterator[LayerVersion]:
        """Newest first, page by page (50 each), without digest and size. Nothing of a layer that is not there."""
        marker: str | None = None
        while True:
            page, marker = self._send(
                "ListLayerVersions",
                lambda reply: ([_version(each) for each in reply["LayerVersions"]], reply.get("NextMarker")),
                subject=f"layer {name}",
                LayerName=name,
                Marker=marker,
            )
            yield from page
            if not marker:
                return

    def publish_layer(
        self,
        name: str,
        content: dict[str, Any],
        *,
        description: str,
        runtimes: Sequence[str],
        architectures: Sequence[str],
    ) -> LayerVersion:
        return self._send(
            "PublishLayerVersion",
            _version,
            mutates=True,
            subject=f"layer {name}",
            LayerName=name,
            Content=content,
            Description=description,
            CompatibleRuntimes=list(runtimes) or None,
            CompatibleArchitectures=list(architectures) or None,
        )

    def delete_layer_version(self, name: str, number: int) -> None:
        """Functions that have it keep it. What is not there is no error."""
        self._send(
            "DeleteLayerVersion",
            nothing,
            mutates=True,
            subject=f"layer {name}:{number}",
            LayerName=name,
            VersionNumber=number,
        )


def _version(reply: Reply) -> LayerVersion:
    content = reply.get("Content", {})
    return LayerVersion(
        arn=reply["LayerVersionArn"],
        description=reply.get("Description", ""),
        sha256=content.get("CodeSha256", ""),
        size=content.get("CodeSize", 0),
        runtimes=tuple(reply.get("CompatibleRuntimes", ())),
        architectures=tuple(reply.get("CompatibleArchitectures", ())),
    )
