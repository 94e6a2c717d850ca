"""Tags of functions, code signing configurations, event source mappings and capacity providers."""

from __future__ import annotations

import msgspec

from pointsman.localaws.lambda_.address import Address
from pointsman.localaws.lambda_.errors import LambdaError, invalid, not_built
from pointsman.localaws.lambda_.event_sources import EventSources
from pointsman.localaws.lambda_.managed import Managed
from pointsman.localaws.lambda_.settings import MOST_TAGS
from pointsman.localaws.lambda_.signing import Signing
from pointsman.localaws.lambda_.wire import Json


class Tags(Signing, EventSources, Managed):
    def tag_resource(self, account: str, region: str, parameters: Json) -> Json:
        self._asked("TagResource", parameters)
        if not parameters["Tags"]:
            raise invalid("An error occurred and the request cannot be processed.")
        with self._writing():
            table, row = self._tagged("TagResource", account, region, parameters["Resource"])
            tags = self._tags(table, row) | parameters["Tags"]
            if len(tags) > MOST_TAGS:
                raise invalid("Number of tags exceeds resource tag limit.")
            self._retag(table, row, tags)
        return {}

    def untag_resource(self, account: str, region: str, parameters: Json) -> Json:
        self._asked("UntagResource", parameters)
        with self._writing():
            table, row = self._tagged("UntagResource", account, region, parameters["Resource"])
            kept = {key: value for key, value in self._tags(table, row).items() if key not in parameters["TagKeys"]}
            self._retag(table, row, kept)
        return {}

    def list_tags(self, account: str, region: str, parameters: Json) -> Json:
        self._asked("ListTags", parameters)
        with self._lock:
            return {"Tags": self._tags(*self._tagged("ListTags", account, region, parameters["Resource"]))}

    def tagged_functions(self, account: str, region: str) -> list[tuple[str, dict[str, str]]]:
        """(ARN, tags) of every function that has any: what the tagging service asks."""
        with self._lock:
            found = self._db.execute(
                "SELECT name, tags FROM function WHERE account = ? AND region = ? AND tags <> ? ORDER BY name",
                (account, region, b"{}"),
            ).fetchall()
        return [(Address(account, region, name).arn, msgspec.json.decode(tags)) for name, tags in found]

    def _tagged(self, operation: str, account: str, region: str, resource: str) -> tuple[str, int]:
        """(table, id) of the row that has the resource's tags."""
        if ":code-signing-config:" in resource:
            return "code_signing", self._signing(account, region, resource)[0]
        if ":capacity-provider:" in resource:
            return "capacity_provider", self._provider(account, region, resource).id
        if ":event-source-mapping:" in resource:
            try:
                return "mapping", self._mapping_row(account, region, resource.rpartition(":")[2])
            except LambdaError as missing:  # worded otherwise than by the mapping's own operations (recorded)
                sentence = f"Event source mapping not found: {resource}"
                raise LambdaError(missing.code, missing.status, sentence, missing.type) from None
        if ":function:" not in resource:
            raise not_built(f"tags on {resource}")
        here = self._address(operation, account, region, resource)
        if here.qualifier is not None:
            raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
        return "function", self._function(here)

    def _tags(self, table: str, row: int) -> dict[str, str]:
        (tags,) = self._db.execute(f"SELECT tags FROM {table} WHERE id = ?", (row,)).fetchone()
        found: dict[str, str] = msgspec.json.decode(tags)
        return found

    def _retag(self, table: str, row: int, tags: dict[str, str]) -> None:
        """Changes the RevisionId of a function's $LATEST, too (recorded)."""
        self._db.execute(f"UPDATE {table} SET tags = ? WHERE id = ?", (msgspec.json.encode(tags), row))
        if table == "function":
            latest = self._version(row, 0)
            assert latest is not None, "every function has $LATEST"
            self._put(latest.revised(self._now()))
