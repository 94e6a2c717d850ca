"""Event source mappings: which queue or stream feeds which function (`localaws.event_sources` does so), and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

import msgspec

from pointsman.localaws.contract import Sources
from pointsman.localaws.lambda_.address import Address, address, partition_of
from pointsman.localaws.lambda_.errors import LambdaError, conflict, invalid, not_built
from pointsman.localaws.lambda_.store import Store, Version, after_marker, marker
from pointsman.localaws.lambda_.wire import Json, validate

Kind: TypeAlias = Literal["sqs", "dynamodb", "kinesis"]
Stage: TypeAlias = Literal["Creating", "Enabling", "Disabling", "Updating", "Deleting"]

MOST_LISTED: Final = 100
UNTOUCHED: Final = "No records processed"
_BEYOND: Final = {
    "kafka": "Kafka", "mq": "Amazon MQ", "rds": "DocumentDB", "docdb-elastic": "DocumentDB"
}  # fmt: skip

# What can be set, with AWS's defaults; a default of None: not shown until set.
_EVERYWHERE: Final[Json] = {"MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": [], "FilterCriteria": None}
_OF_QUEUES: Final[Json] = _EVERYWHERE | {"BatchSize": 10, "ScalingConfig": None}
_OF_STREAMS: Final[Json] = _EVERYWHERE | {
    "BatchSize": 100,
    "BisectBatchOnFunctionError": False,
    "DestinationConfig": {"OnFailure": {}},
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "ParallelizationFactor": 1,
    "StartingPosition": None,
    "StartingPositionTimestamp": None,
    "TumblingWindowInSeconds": 0,
}
_SETTINGS: Final[Mapping[Kind, Json]] = MappingProxyType(
    {"sqs": _OF_QUEUES, "dynamodb": _OF_STREAMS, "kinesis": _OF_STREAMS}
)
_NOT_BUILT: Final = ("MetricsConfig", "LoggingConfig", "ProvisionedPollerConfig")
_NOT_SETTINGS: Final = frozenset(
    {"EventSourceArn", "FunctionName", "Enabled", "Tags", "UUID", "KMSKeyArn", *_NOT_BUILT}
)

_encode = msgspec.json.Encoder().encode
_MAPPING = "uuid, account, region, source, function, settings, tags, enabled, stage, settles_at, modified, result"


@dataclass(frozen=True, slots=True)
class EventSourceMapping:
    """One mapping. Until `settles_at` (epoch seconds) its `stage` is under way; then it is enabled, disabled, gone."""

    uuid: str
    account: str
    region: str
    source: str  # ARN
    function: str  # ARN, qualified as the caller did
    settings: Json
    tags: dict[str, str]
    enabled: bool
    stage: Stage
    settles_at: float
    modified: float
    result: str

    @property
    def kind(self) -> Kind:
        return kind_of(self.source)

    @property
    def arn(self) -> str:
        return f"arn:{partition_of(self.region)}:lambda:{self.region}:{self.account}:event-source-mapping:{self.uuid}"

    def state(self, now: float) -> str:
        if now < self.settles_at:
            return self.stage
        return "Enabled" if self.enabled else "Disabled"


def kind_of(source: str) -> Kind:
    match source.split(":")[2]:
        case "sqs" | "dynamodb" | "kinesis" as kind:
            return kind
        case service if service in _BEYOND:
            raise not_built(f"event sources of {_BEYOND[service]}")
        case _:
            raise invalid("Unrecognized event source.")


class EventSources(Store):
    sources: Sources | None = None
    """The services that have queues and streams; None: there are none, and nothing can be mapped."""
    mappings_changed: Callable[[], None] = staticmethod(lambda: None)
    """Called after a mapping was made, changed or deleted, in whatever thread did it."""

    def create_event_source_mapping(self, account: str, region: str, parameters: Json) -> Json:
        operation = "CreateEventSourceMapping"
        validate(operation, parameters)
        here = address(operation, account, region, parameters["FunctionName"])
        if "EventSourceArn" not in parameters:
            if "SelfManagedEventSource" in parameters:
                raise not_built("event sources of Kafka")
            raise invalid("Unrecognized event source.")
        source = parameters["EventSourceArn"]
        kind = kind_of(source)
        settings = _settings(kind, {}, parameters)
        _check_start(kind, source, settings)
        self._check_source(source, settings, self._mapped(here))
        enabled = parameters.get("Enabled", True)
        now = self._now()
        made = EventSourceMapping(
            uuid=str(uuid4()),
            account=account,
            region=region,
            source=source,
            function=here.qualified(here.qualifier),
            settings=settings,
            tags=parameters.get("Tags", {}),
            enabled=enabled,
            stage="Creating",
            settles_at=now + self._settle_s if enabled else now,  # recorded: made disabled, it is so at once
            modified=now,
            result=UNTOUCHED,
        )
        with self._writing():
            self._refuse_second(made)
            self._put_mapping(made)
        self.mappings_changed()
        return self._shown_mapping(made, now)

    def get_event_source_mapping(self, account: str, region: str, parameters: Json) -> Json:
        validate("GetEventSourceMapping", parameters)
        now = self._now()
        with self._lock:
            return self._shown_mapping(self._existing_mapping(account, region, parameters["UUID"], now), now)

    def update_event_source_mapping(self, account: str, region: str, parameters: Json) -> Json:
        """What is not given stays."""
        operation = "UpdateEventSourceMapping"
        validate(operation, parameters)
        now = self._now()
        with self._lock:
            before = self._existing_mapping(account, region, parameters["UUID"], now)
        settings = _settings(before.kind, before.settings, parameters)
        here = address(operation, account, region, parameters.get("FunctionName", before.function))
        self._check_source(before.source, settings, self._mapped(here) if "FunctionName" in parameters else None)
        with self._writing():
            before = self._existing_mapping(account, region, parameters["UUID"], now)
            if now < before.settles_at:
                raise _in_use("update")
            enabled = parameters.get("Enabled", before.enabled)
            stage: Stage = "Updating" if enabled == before.enabled else "Enabling" if enabled else "Disabling"
            after = replace(
                before,
                function=here.qualified(here.qualifier),
                settings=settings,
                enabled=enabled,
                stage=stage,
                settles_at=now + self._settle_s,
                modified=now,
            )
            if after.function != before.function:
                self._refuse_second(after)
            self._put_mapping(after)
        self.mappings_changed()
        return self._shown_mapping(after, now)

    def delete_event_source_mapping(self, account: str, region: str, parameters: Json) -> Json:
        validate("DeleteEventSourceMapping", parameters)
        now = self._now()
        with self._writing():
            before = self._existing_mapping(account, region, parameters["UUID"], now)
            if now < before.settles_at:
                raise _in_use("delete")
            after = replace(before, stage="Deleting", settles_at=now + self._settle_s, enabled=False)
            self._put_mapping(after)
        self.mappings_changed()
        return self._shown_mapping(after, now)

    def list_event_source_mappings(self, account: str, region: str, parameters: Json) -> Json:
        """Those whose function is named with the very same qualifier; neither function nor source need exist."""
        operation = "ListEventSourceMappings"
        validate(operation, parameters)
        function = None
        if (name := parameters.get("FunctionName")) is not None:
            here = address(operation, account, region, name)
            function = here.qualified(here.qualifier)
        size = min(parameters.get("MaxItems", MOST_LISTED), MOST_LISTED)
        (after,) = after_marker(parameters, "")
        now = self._now()
        with self._lock:
            self._bury_deleted(now)
            rows = self._db.execute(
                f"SELECT {_MAPPING} FROM mapping WHERE account = ? AND region = ? AND uuid > ?"
                " AND (?4 IS NULL OR function = ?4) AND (?5 IS NULL OR source = ?5) ORDER BY uuid LIMIT ?",
                (account, region, after, function, parameters.get("EventSourceArn"), size + 1),
            ).fetchall()
        found = [_as_mapping(row) for row in rows]
        reply: Json = {"EventSourceMappings": [self._shown_mapping(each, now) for each in found[:size]]}
        if len(found) > size:
            reply["NextMarker"] = marker(found[size - 1].uuid)
        return reply

    # --- for those who feed ---

    def mappings(self) -> list[EventSourceMapping]:
        """All there are, of every account and region."""
        with self._lock:
            self._bury_deleted(self._now())
            return [_as_mapping(row) for row in self._db.execute(f"SELECT {_MAPPING} FROM mapping")]

    def note_result(self, uuid: str, result: str) -> None:
        with self._lock:  # one statement, and nothing about where invocations go
            self._db.execute("UPDATE mapping SET result = ? WHERE uuid = ?", (result, uuid))

    def checkpoints(self, uuid: str) -> dict[str, int]:
        """Shard → the sequence number of the last record that is done with."""
        with self._lock:
            rows = self._db.execute("SELECT shard, sequence FROM checkpoint WHERE mapping = ?", (uuid,))
            return {shard: int(sequence) for shard, sequence in rows}

    def set_checkpoint(self, uuid: str, shard: str, sequence: int) -> None:
        with self._lock:
            self._db.execute(
                "INSERT OR REPLACE INTO checkpoint SELECT uuid, ?, ? FROM mapping WHERE uuid = ?",
                (shard, str(sequence), uuid),
            )

    # --- for tags ---

    def _mapping_row(self, account: str, region: str, uuid: str) -> int:
        self._existing_mapping(account, region, uuid, self._now())
        (row,) = self._db.execute("SELECT id FROM mapping WHERE uuid = ?", (uuid,)).fetchone()
        return int(row)

    # --- checks ---

    def _mapped(self, here: Address) -> Version:
        with self._lock:
            try:
                return self._reached(here)
            except LambdaError:
                raise invalid("Function does not exist") from None

    def _check_source(self, source: str, settings: Json, function: Version | None) -> None:
        """Refuse a source that is not there or not fit for the function (None: it was looked at before)."""
        if self.sources is None:
            raise not_built("event sources (it was started without the services that have them)")
        for criterion in settings.get("FilterCriteria", {}).get("Filters", ()):
            if not self.sources.is_pattern(criterion.get("Pattern", "")):
                raise invalid("Invalid filter pattern definition.")
        if kind_of(source) != "sqs":
            if not self.sources.stream_exists(source):
                raise invalid(f"Stream not found: {source}")
            return
        visible_after = self.sources.visibility_timeout(source)
        if visible_after is None:
            raise invalid(
                "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
                "SQS Error Message: The specified queue does not exist."
            )
        if function is not None and visible_after < (limit := function.settings["Timeout"]):
            raise invalid(
                f"Queue visibility timeout: {visible_after} seconds is less than Function timeout: {limit} seconds"
            )

    def _refuse_second(self, made: EventSourceMapping) -> None:
        found = self._db.execute(
            "SELECT uuid FROM mapping WHERE source = ? AND function = ? AND uuid <> ? AND NOT"
            " (stage = 'Deleting' AND settles_at <= ?)",
            (made.source, made.function, made.uuid, self._now()),
        ).fetchone()
        if found is None:
            return
        name = made.function.split(":function:")[1]
        which, end = (
            ("An event source mapping with SQS arn", "already exists")
            if made.kind == "sqs"
            else ("The event source arn", "provided mapping already exists")
        )
        raise conflict(
            f'{which} (" {made.source} ") and function (" {name} ") {end}. '
            f"Please update or delete the existing mapping with UUID {found[0]}"
        )

    # --- rows ---

    def _existing_mapping(self, account: str, region: str, uuid: str, now: float) -> EventSourceMapping:
        row = self._db.execute(
            f"SELECT {_MAPPING} FROM mapping WHERE uuid = ? AND account = ? AND region = ?", (uuid, account, region)
        ).fetchone()
        if row is None or _buried(found := _as_mapping(row), now):
            raise LambdaError("ResourceNotFoundException", 404, "The resource you requested does not exist.")
        return found

    def _bury_deleted(self, now: float) -> None:
        self._db.execute("DELETE FROM mapping WHERE stage = 'Deleting' AND settles_at <= ?", (now,))

    def _put_mapping(self, made: EventSourceMapping) -> None:
        values = (made.uuid, made.account, made.region, made.source, made.function, _encode(made.settings))
        rest = (_encode(made.tags), made.enabled, made.stage, made.settles_at, made.modified, made.result)
        self._db.execute(
            f"INSERT INTO mapping ({_MAPPING}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uuid)"
            " DO UPDATE SET function = excluded.function, settings = excluded.settings, enabled = excluded.enabled,"
            " stage = excluded.stage, settles_at = excluded.settles_at, modified = excluded.modified",
            values + rest,
        )

    def _shown_mapping(self, found: EventSourceMapping, now: float) -> Json:
        stream = found.kind != "sqs"
        return {
            "UUID": found.uuid,
            **found.settings,
            "EventSourceArn": found.source,
            "FunctionArn": found.function,
            "LastModified": round(found.modified, 3),
            **({"LastProcessingResult": found.result} if stream else {}),
            "State": found.state(now),
            "StateTransitionReason": "User action" if stream else "USER_INITIATED",
            "EventSourceMappingArn": found.arn,
        }


def _buried(found: EventSourceMapping, now: float) -> bool:
    return found.stage == "Deleting" and now >= found.settles_at


def _as_mapping(row: tuple[Any, ...]) -> EventSourceMapping:
    uuid, account, region, source, function, settings, tags, enabled, *rest = row
    decode = msgspec.json.decode
    return EventSourceMapping(
        uuid, account, region, source, function, decode(settings), decode(tags), bool(enabled), *rest
    )


def _in_use(verb: str) -> LambdaError:
    return LambdaError("ResourceInUseException", 400, f"Cannot {verb} the event source mapping because it is in use.")


def _settings(kind: Kind, before: Json, given: Json) -> Json:
    """The settings after `given`, or AWS's refusal of what this kind of source does not have."""
    known = _SETTINGS[kind]
    for key in given:
        if key in _NOT_BUILT and any(given[key].values()):
            raise not_built(f"the parameter {key}")
        if key not in known and key not in _NOT_SETTINGS:
            raise invalid(f"Unsupported {key} parameter for given event source mapping type.")
    if given.get("TumblingWindowInSeconds", 0) > 0:
        raise not_built("tumbling windows")
    defaults = {key: value for key, value in known.items() if value is not None}
    settings = defaults | before | {key: given[key] for key in known if key in given}
    if "KMSKeyArn" in given:
        settings["KMSKeyArn"] = given["KMSKeyArn"]
    for key, part in (("FilterCriteria", "Filters"), ("ScalingConfig", "MaximumConcurrency"), ("KMSKeyArn", None)):
        value = settings.get(key)
        if key in settings and not (value.get(part) if part and value else value):  # an empty one clears it
            del settings[key]
    if "DestinationConfig" in settings:
        ends = settings["DestinationConfig"]
        if ends.get("OnSuccess", {}).get("Destination"):
            raise invalid("Unsupported DestinationConfig parameter for given event source mapping type.")
        settings["DestinationConfig"] = {"OnFailure": ends.get("OnFailure", {})}
    if kind == "sqs" and settings["BatchSize"] > 10 and settings["MaximumBatchingWindowInSeconds"] == 0:
        raise invalid("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")
    return settings


def _check_start(kind: Kind, source: str, settings: Json) -> None:
    if kind == "sqs":
        fifo = source.endswith(".fifo")
        if fifo and settings["MaximumBatchingWindowInSeconds"] > 0:
            raise invalid("Batching window is not supported for FIFO queues.")
        return
    position = settings.get("StartingPosition")
    if position is None:
        raise invalid(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: "
            "Member must not be null."
        )
    if position == "AT_TIMESTAMP" and kind == "dynamodb":
        raise invalid(f"Unsupported starting position for arn type: {source}")
    if (position == "AT_TIMESTAMP") != ("StartingPositionTimestamp" in settings):
        raise invalid("StartingPositionTimestamp goes with the starting position AT_TIMESTAMP, and with no other.")
