"""Tags of functions."""

from __future__ import annotations

import msgspec

from pointsman.localaws.lambda_.address import Address, address
from pointsman.localaws.lambda_.errors import invalid, not_built
from pointsman.localaws.lambda_.settings import MOST_TAGS
from pointsman.localaws.lambda_.store import Store
from pointsman.localaws.lambda_.wire import Json, validate


class Tags(Store):
    def tag_resource(self, account: str, region: str, parameters: Json) -> Json:
        here = self._tagged("TagResource", account, region, parameters)
        if not parameters["Tags"]:
            raise invalid("An error occurred and the request cannot be processed.")
        with self._writing():
            function = self._function(here)
            tags = self._tags(function) | parameters["Tags"]
            if len(tags) > MOST_TAGS:
                raise invalid("Number of tags exceeds resource tag limit.")
            self._retag(function, tags)
        return {}

    def untag_resource(self, account: str, region: str, parameters: Json) -> Json:
        here = self._tagged("UntagResource", account, region, parameters)
        with self._writing():
            function = self._function(here)
            kept = {key: value for key, value in self._tags(function).items() if key not in parameters["TagKeys"]}
            self._retag(function, kept)
        return {}

    def list_tags(self, account: str, region: str, parameters: Json) -> Json:
        here = self._tagged("ListTags", account, region, parameters)
        with self._lock:
            return {"Tags": self._tags(self._function(here))}

    def _tagged(self, operation: str, account: str, region: str, parameters: Json) -> Address:
        validate(operation, parameters)
        resource = parameters["Resource"]
        if ":function:" not in resource:
            raise not_built("tags on anything but functions")
        here = address(operation, account, region, resource)
        if here.qualifier is not None:
            raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
        return here

    def _tags(self, function: int) -> dict[str, str]:
        (tags,) = self._db.execute("SELECT tags FROM function WHERE id = ?", (function,)).fetchone()
        found: dict[str, str] = msgspec.json.decode(tags)
        return found

    def _retag(self, function: int, tags: dict[str, str]) -> None:
        """Changes $LATEST's RevisionId, too (recorded)."""
        self._db.execute("UPDATE function SET tags = ? WHERE id = ?", (msgspec.json.encode(tags), function))
        latest = self._version(function, 0)
        assert latest is not None, "every function has $LATEST"
        self._put(latest.revised(self._now()))
