"""Layers of the account, for what they take of its code storage.

https://docs.aws.amazon.com/lambda/latest/api/API_ListLayers.html: 50 a page, each with its newest version only.
"""

from __future__ import annotations

from collections.abc import Iterator

from pointsman.aws.sending import Sender


class Stored(Sender):
    def layer_names(self) -> Iterator[str]:
        marker: str | None = None
        while True:
            page, marker = self._send(
                "ListLayers",
                lambda reply: ([str(each["LayerName"]) for each in reply["Layers"]], reply.get("NextMarker")),
                Marker=marker,
            )
            yield from page
            if not marker:
                return


__all__ = ["Stored"]
