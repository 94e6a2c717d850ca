"""What is durable: functions, versions, aliases, layers, numbers and what hangs on them, in one SQLite file.

$LATEST is version 0 of its function and $LATEST.PUBLISHED the one after every number, so that lists, sizes and
look-ups need no second case. Reads are look-ups on
primary keys, without a cache that could go stale. Each operation is one transaction; with a write-ahead log that
survives a kill at any moment.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

import msgspec

from pointsman.localaws.lambda_.address import LATEST, LATEST_PUBLISHED, Address, address, partition_of
from pointsman.localaws.lambda_.errors import (
    LambdaError,
    NetworkMissing,
    NotReady,
    function_not_found,
    in_state,
    invalid,
    storage_exceeded,
    update_in_progress,
)
from pointsman.localaws.lambda_.pace import Pace
from pointsman.localaws.lambda_.packages import Packages
from pointsman.localaws.lambda_.schemas import SCHEMAS
from pointsman.localaws.lambda_.wire import Json, validate

PAGE: Final = 50  # whatever MaxItems says
MOST_STORED: Final = 80_530_636_800  # 75 GB of code for an account and region
LAST: Final = (1 << 63) - 1  # the number of $LATEST.PUBLISHED

RoleExists: TypeAlias = Callable[[str, str], bool]
"""(account, role ARN)"""
ReadObject: TypeAlias = Callable[[str, str, str, str, str | None], bytes]
"""(account, region, bucket, key, object version or None); raises ObjectMissing."""
ImageDigest: TypeAlias = Callable[[str, str, str, str], str | None]
"""(account, region, repository, tag) of a registry → "sha256:…", or None: it has no such image."""
FindNetwork: TypeAlias = Callable[[str, str, list[str], list[str]], str]
"""(account, region, subnets, security groups) → the VPC they are in; raises NetworkMissing."""
Stage: TypeAlias = Literal["creating", "updating", "deleting"]
Paced: TypeAlias = Callable[[], None]

_VERSION = "function, number, settings, digest, revision, settled_revision, stage, settles_at, previous, failure"
_ALIAS = "name, description, version, additional, weight, revision"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def new_revision() -> str:
    return str(uuid4())


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an update comes to nothing: AWS's ReasonCode, and the sentence beside it."""

    code: str
    reason: str


_failure = msgspec.json.Decoder(Failure).decode  # made once: threads that make one together crash within msgspec


@dataclass(frozen=True, slots=True)
class Fate:
    """How what begins now will end: after so many seconds (infinity: when it is released), and perhaps badly."""

    seconds: float
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A version; $LATEST is number 0, $LATEST.PUBLISHED number LAST.

    Until `settles_at` (epoch seconds) its `stage` is under way; what is being deleted is gone then.
    """

    function: int
    number: int
    settings: Json
    digest: str
    revision: str
    settled_revision: str  # takes over at `settles_at`; a published version's never differs
    stage: Stage
    settles_at: float
    previous: Json | None = None  # what invocations still reach while an update is in progress, or when it failed
    failure: Failure | None = None  # how it ends, at `settles_at`

    @property
    def label(self) -> str:
        return version_label(self.number)

    @property
    def managed(self) -> bool:
        """Whether it is for managed instances, which a capacity provider has."""
        return "CapacityProviderConfig" in self.settings

    def settled(self, now: float) -> bool:
        return now >= self.settles_at

    def ready(self, now: float) -> bool:
        """Whether it can be invoked, and is what it will stay."""
        return self.settled(now) and not (self.stage == "creating" and self.failure is not None)

    def runs(self, now: float) -> Json:
        """The settings an invocation gets: those from before while an update is in progress, or when it failed."""
        if self.stage == "updating" and (self.failure is not None or not self.settled(now)):
            return self.previous or self.settings
        return self.settings

    def revised(self, now: float) -> Version:
        """The same with new revision ids: what publishing or tagging does to $LATEST."""
        revision = new_revision()
        return replace(self, revision=revision, settled_revision=revision if self.settled(now) else new_revision())

    def current_revision(self, now: float) -> str:
        return self.settled_revision if self.settled(now) else self.revision


@dataclass(frozen=True, slots=True)
class Alias:
    name: str
    description: str
    version: int
    additional: int | None
    weight: float | None  # the share of calls that `additional` gets; None exactly when it is
    revision: str


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many execution environments a version on managed instances is to have from `settles_at` on."""

    wanted: Json
    before: Json
    settles_at: float

    def applied(self, now: float) -> Json:
        return self.wanted if now >= self.settles_at else self.before


_LABELS: Final = {0: LATEST, LAST: LATEST_PUBLISHED}
_NUMBERS: Final = {label: number for number, label in _LABELS.items()}


def version_label(number: int) -> str:
    return _LABELS.get(number) or str(number)


def version_number(label: str) -> int:
    """The number behind "$LATEST", "$LATEST.PUBLISHED" or digits; −1, which no version has, for anything else."""
    if (named := _NUMBERS.get(label)) is not None:
        return named
    number = int(label) if label.isdecimal() else -1
    return number if str(number) == label and 0 < number < LAST else -1


def provider_of(settings: Json) -> str | None:
    """The ARN of the capacity provider whose instances it is for."""
    config = settings.get("CapacityProviderConfig")
    return None if config is None else config["LambdaManagedInstancesCapacityProviderConfig"]["CapacityProviderArn"]


def code_digest(settings: Json) -> str:
    """Hexadecimal, as file names and database have it; of an image AWS itself shows it so."""
    if settings["PackageType"] == "Image":
        return str(settings["CodeSha256"])
    return base64.b64decode(settings["CodeSha256"]).hex()


class Store:
    """The database and what every family of operations asks of it. Thread-safe; one process at a time per directory."""

    def __init__(
        self,
        directory: Path,
        *,
        now: Callable[[], float],
        settle_s: float,
        runtimes: Callable[[], tuple[str, ...]],
        role_exists: RoleExists | None,
        read_object: ReadObject | None,
        image_digest: ImageDigest | None,
        code_quota: int,
        find_network: FindNetwork | None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._now = now
        self._settle_s = settle_s
        self._speed = 1.0
        self.pace = Pace(lambda: self._speed)
        self.paced: list[Paced] = [self.pace.changed]
        """Told when waits may have become shorter: of another `speed`, or of updates that were released."""
        self.fate: Callable[[str, float], Fate] = lambda _operation, seconds: Fate(seconds)
        """(operation, how long what it begins takes at most times) → how long this time, and how it ends."""
        self._runtimes = runtimes
        self._role_exists = role_exists
        self._read_object = read_object
        self._image_digest = image_digest
        self._code_quota = code_quota
        self._find_network = find_network
        self._lock = RLock()
        self._generation = 0  # of what is in the database: one more after each write
        self._db = sqlite3.connect(directory / "lambda.db", isolation_level=None, check_same_thread=False)
        # NORMAL: a killed process loses nothing; only a power cut could undo the last moments.
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")
        (known,) = self._db.execute("PRAGMA user_version").fetchone()
        if known > len(SCHEMAS):
            self._db.close()
            raise ValueError(f"{directory / 'lambda.db'} is of a later release, which has to be used to open it")
        for step, schema in enumerate(SCHEMAS[known:], known + 1):
            self._db.executescript(f"BEGIN; {schema} PRAGMA user_version = {step}; COMMIT;")
        self.packages = Packages(directory)
        self._next_gone = 0.0  # when something that is being deleted is gone
        self._sweep()
        self._forget_layers()
        self.packages.keep_only(self._codes())
        self.changed: Callable[[Address, str | None], None] = lambda _address, _version: None
        """Told after code or configuration changed or went away: which function, and which version (None: all)."""

        self.keep_ready: Callable[[Address, float], None] | None = None
        """Told what is to be kept ready from now on, and a token by which to tell `provisioned` how that went."""

    def close(self) -> None:
        with self._lock:
            self._db.close()
            self.packages.close()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is written within."""
        with self._lock:
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction; nothing of it remains when the operation is refused."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            self._generation += 1

    @contextmanager
    def _storing(self, account: str, region: str) -> Iterator[None]:
        """A transaction that may store more code, refused when that is more than the account may have."""
        with self._writing():
            before, _ = self._storage(account, region)
            yield
            used, quota = self._storage(account, region)
            if used > max(before, quota):
                raise storage_exceeded()

    def _storage(self, account: str, region: str) -> tuple[int, int]:
        """(bytes of code stored, bytes that may be)"""
        found = self._db.execute(
            "SELECT used, quota FROM storage WHERE account = ? AND region = ?", (account, region)
        ).fetchone()
        used, quota = found or (0, None)
        return used, self._code_quota if quota is None else quota

    def set_code_quota(self, account: str, region: str, size: int | None) -> None:
        """How many bytes of code the account may store in the region from now on; None: as many as by default."""
        with self._writing():
            self._db.execute(
                "INSERT INTO storage (account, region, quota) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET quota = excluded.quota",
                (account, region, size),
            )

    def code_quotas(self) -> list[tuple[str, str, int]]:
        """(account, region, bytes) wherever `set_code_quota` said something else than the default."""
        with self._lock:
            return self._db.execute(
                "SELECT account, region, quota FROM storage WHERE quota IS NOT NULL ORDER BY account, region"
            ).fetchall()

    def _sweep(self) -> None:
        """What was being deleted is gone when its time has come. Outside of transactions, before anything is found."""
        if self._now() < self._next_gone:
            return
        with self._writing():
            gone = "stage = 'deleting' AND settles_at <= ?"
            for table, where in (
                ("function", f"id IN (SELECT function FROM version WHERE {gone} AND number = 0)"),
                ("version", gone),
                ("capacity_provider", gone),
            ):
                self._db.execute(f"DELETE FROM {table} WHERE {where}", (self._now(),))
            self._expect_gone()

    def _expect_gone(self) -> None:
        (self._next_gone,) = self._db.execute(
            "SELECT COALESCE(MIN(settles_at), 9e999) FROM ("
            " SELECT settles_at FROM version WHERE stage = 'deleting'"
            " UNION ALL SELECT settles_at FROM capacity_provider WHERE stage = 'deleting')"
        ).fetchone()

    def _forget_layers(self) -> None:
        """Deleted layer versions go for good once no function has them. Only at start, like their packages."""
        deleted = self._db.execute(
            "SELECT layer, number, account, region, name FROM layer_version JOIN layer ON id = layer WHERE deleted"
        ).fetchall()
        if not deleted:
            return
        used = {
            layer["Arn"]
            for row in self._db.execute(
                "SELECT settings, previous FROM version WHERE settings || COALESCE(previous, '') LIKE '%\"Layers\":[%'"
            )
            for settings in row
            if settings is not None
            for layer in _decode(settings).get("Layers", ())
        }
        for layer, number, account, region, name in deleted:
            if f"{layer_arn(account, region, name)}:{number}" not in used:
                self._db.execute("DELETE FROM layer_version WHERE layer = ? AND number = ?", (layer, number))

    def _codes(self) -> set[str]:
        codes = {code for (code,) in self._db.execute("SELECT code FROM version UNION SELECT code FROM layer_version")}
        under_way = self._db.execute(
            "SELECT previous FROM function JOIN version ON function = id AND number = 0"
            " WHERE previous IS NOT NULL AND (settles_at > ? OR failure IS NOT NULL)",
            (self._now(),),
        )
        return codes | {code_digest(_decode(previous)) for (previous,) in under_way}

    # --- finding ---

    def _called(self, operation: str, account: str, region: str, given: Json) -> Address:
        """Validate the parameters against AWS's model, and read whom they are about."""
        validate(operation, given)
        self._sweep()
        return self._address(operation, account, region, given["FunctionName"], given.get("Qualifier"))

    def _address(
        self, operation: str, account: str, region: str, function_name: str, qualifier: str | None = None
    ) -> Address:
        allowed = partial(self._allows, account)
        return address(operation, account, region, function_name, qualifier, allowed=allowed)

    def _allows(self, account: str, here: Address, action: str) -> bool:  # noqa: ARG002 - `policies` does
        """Whether another account may do this, by the resource policy of what it is done to."""
        return False

    def _called_unqualified(self, operation: str, account: str, region: str, given: Json) -> Address:
        here = self._called(operation, account, region, given)
        if here.qualifier is not None:
            raise invalid(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this "
                "operation. Please specify either a function name or an unqualified function ARN."
            )
        return here

    def _find(self, here: Address) -> int | None:
        found = self._db.execute(
            "SELECT id FROM function WHERE account = ? AND region = ? AND name = ?",
            (here.account, here.region, here.name),
        ).fetchone()
        return None if found is None else found[0]

    def _function(self, here: Address, qualifier: str | None = None) -> int:
        """The function's id; `qualifier` only words the refusal, as AWS does."""
        found = self._find(here)
        if found is None:
            raise function_not_found(here.qualified(qualifier))
        return found

    def _reserved(self, function: int) -> int | None:
        (number,) = self._db.execute("SELECT reserved FROM function WHERE id = ?", (function,)).fetchone()
        return None if number is None else int(number)

    def _version(self, function: int, number: int) -> Version | None:
        row = self._db.execute(
            f"SELECT {_VERSION} FROM version WHERE function = ? AND number = ?", (function, number)
        ).fetchone()
        return None if row is None else _as_version(row)

    def _versions(self, function: int, after: int, limit: int) -> list[Version]:
        rows = self._db.execute(
            f"SELECT {_VERSION} FROM version WHERE function = ? AND number > ? ORDER BY number LIMIT ?",
            (function, after, limit),
        )
        return [_as_version(row) for row in rows]

    def _latest(self, here: Address) -> Version:
        latest = self._version(self._function(here), 0)
        assert latest is not None, "every function has $LATEST: both are written in one transaction"
        return latest

    def _existing(self, here: Address, label: str) -> Version:
        """The version `label` ("$LATEST" or a number), or the 404 that names it."""
        found = self._version(self._function(here, label), version_number(label))
        if found is None:
            raise function_not_found(here.qualified(label))
        return found

    def _alias(self, function: int, name: str) -> Alias | None:
        row = self._db.execute(
            f"SELECT {_ALIAS} FROM alias WHERE function = ? AND name = ?", (function, name)
        ).fetchone()
        return None if row is None else Alias(*row)

    def _reached(self, here: Address) -> Version:
        """The version behind the qualifier; the primary one of an alias."""
        if here.qualifier is None:
            return self._latest(here)
        if here.qualifier in _NUMBERS or here.qualifier.isdecimal():
            return self._existing(here, here.qualifier)
        function = self._function(here, here.qualifier)
        alias = self._alias(function, here.qualifier)
        if alias is None:
            raise function_not_found(here.qualified(here.qualifier))
        found = self._version(function, alias.version)
        assert found is not None, "the schema keeps every version that an alias names"
        return found

    def _invoked(self, here: Address) -> tuple[Address, Version]:
        """Whom an invocation reaches (of an alias: the primary version), and by what address.

        $LATEST of managed instances cannot be invoked: without a qualifier $LATEST.PUBLISHED is (documented; the
        sentences are reported, not recorded).
        """
        version = self._reached(here)
        if not version.managed or here.qualifier not in (None, LATEST):
            return here, version
        published = self._version(version.function, LAST)
        if published is None:
            raise LambdaError(
                "NoPublishedVersionException",
                400,
                "The function can't be invoked because no published version exists. For functions with capacity "
                "provider configuration, either publish a version to $LATEST.PUBLISHED, or specify a published version "
                "qualifier.",
            )
        if here.qualifier is None:
            return replace(here, qualifier=LATEST_PUBLISHED), published
        raise invalid(
            "Functions configured with capacity provider configuration can't be invoked with $LATEST qualifier. To "
            "invoke this function, specify a published version qualifier or $LATEST.PUBLISHED."
        )

    def _check_invocable(self, version: Version) -> None:
        """On managed instances nothing waits until it can run (reported, not recorded)."""
        if version.managed:
            with self._lock:
                state = self._state(version, self._now())
            if state != "Active":
                raise in_state(state)

    def _state(self, version: Version, now: float) -> str:
        """AWS's State of it."""
        if version.stage == "deleting":
            return "Deleting"
        if version.stage == "creating" and not version.settled(now):
            return "Pending"
        if version.stage == "creating" and version.failure is not None:
            return "Failed"
        if not version.managed:
            return "Active"
        if version.number == 0:
            return "ActiveNonInvocable"
        scaling = self._scaling(version)
        if scaling.wanted.get("MaxExecutionEnvironments") == 0:
            return "Deactivated" if now >= scaling.settles_at else "Deactivating"
        return "Deactivated" if scaling.applied(now).get("MaxExecutionEnvironments") == 0 else "Active"

    def _scaling(self, version: Version) -> Scaling:
        row = self._db.execute(
            "SELECT wanted, before, settles_at FROM scaling WHERE function = ? AND number = ?",
            (version.function, version.number),
        ).fetchone()
        return Scaling({}, {}, 0.0) if row is None else Scaling(_decode(row[0]), _decode(row[1]), row[2])

    def _vpc(self, account: str, region: str, subnets: list[str], groups: list[str]) -> str:
        """The VPC of these, or AWS's refusal."""
        if self._find_network is None:
            return "vpc-00000000"
        try:
            return self._find_network(account, region, subnets, groups)
        except NetworkMissing as missing:
            raise invalid(
                f"Error occurred while {missing.call}. EC2 Error Code: {missing.code}. "
                f"EC2 Error Message: {missing.message}"
            ) from missing

    def _changeable(self, here: Address, latest: Version) -> None:
        """Refuse while $LATEST is being created, updated or deleted."""
        if latest.stage == "deleting":
            raise in_state("Deleting")
        if not latest.settled(now := self._now()):
            raise NotReady(latest.settles_at - now) if latest.stage == "creating" else update_in_progress(here.arn)

    # --- time ---

    def _begin(self, operation: str, seconds: float | None = None) -> tuple[float, Failure | None]:
        """(when what begins now will have settled, in epoch seconds; how it fails). Takes `settle_s` unless told."""
        fate = self.fate(operation, self._settle_s if seconds is None else seconds)
        return self._now() + fate.seconds / self._speed, fate.failure

    @property
    def speed(self) -> float:
        """How many times as fast as on AWS waits pass; a change shortens those already under way."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        if not speed > 0:
            raise ValueError(f"time cannot pass {speed} times as fast")
        with self._writing():
            now = self._now()
            # What is provisioned is ready when its processes are, whatever the clock says.
            for table in ("version", "capacity_provider", "scaling"):
                self._db.execute(
                    f"UPDATE {table} SET settles_at = ?1 + (settles_at - ?1) * ?2 WHERE settles_at > ?1",
                    (now, self._speed / speed),
                )
            self._expect_gone()
            self._speed = speed
        self._tell_paced()

    def release(self) -> int:
        """End every update that is under way, now; how many there were."""
        with self._writing():
            now = self._now()
            ended = sum(
                self._db.execute(f"UPDATE {table} SET settles_at = ?1 WHERE settles_at > ?1", (now,)).rowcount
                for table in ("version", "provisioned", "capacity_provider", "scaling")
            )
            self._expect_gone()
        self._tell_paced()
        return ended

    def under_way(self) -> list[str]:
        """The ARNs of functions and versions whose update has not ended."""
        with self._lock:
            found = self._db.execute(
                "SELECT account, region, name, number FROM version JOIN function ON function = id"
                " WHERE settles_at > ? ORDER BY 1, 2, 3, 4",
                (self._now(),),
            ).fetchall()
        return [
            Address(account, region, name).qualified(version_label(number) if number else None)
            for account, region, name, number in found
        ]

    def _tell_paced(self) -> None:
        for tell in self.paced:
            tell()

    # --- writing ---

    def _put(self, version: Version) -> None:
        self._db.execute(
            f"INSERT INTO version ({_VERSION}, code, code_size, provider)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET settings = excluded.settings, digest = excluded.digest,"
            " revision = excluded.revision, settled_revision = excluded.settled_revision, stage = excluded.stage,"
            " settles_at = excluded.settles_at, previous = excluded.previous, failure = excluded.failure,"
            " code = excluded.code, code_size = excluded.code_size, provider = excluded.provider",
            (
                version.function,
                version.number,
                _encode(version.settings),
                version.digest,
                version.revision,
                version.settled_revision,
                version.stage,
                version.settles_at,
                None if version.previous is None else _encode(version.previous),
                None if version.failure is None else _encode(version.failure),
                code_digest(version.settings),
                version.settings["CodeSize"],
                provider_of(version.settings),
            ),
        )

    # --- replies ---

    def _configuration(self, here: Address, version: Version, qualifier: str | None) -> Json:
        """AWS's FunctionConfiguration, its ARN ending in the qualifier the caller used."""
        now = self._now()
        shown = self._listed(here, version, qualifier, now) | {"State": self._state(version, now)}
        if "Runtime" in shown:  # an image brings its own
            runtime = hashlib.sha256(shown["Runtime"].encode()).hexdigest()
            runtime_arn = f"arn:{partition_of(here.region)}:lambda:{here.region}::runtime:{runtime}"
            shown["RuntimeVersionConfig"] = {"RuntimeVersionArn": runtime_arn}
        if version.stage == "deleting":
            return shown | {"LastUpdateStatus": "InProgress"}
        what, waiting = ("State", "Pending") if version.stage == "creating" else ("LastUpdateStatus", "InProgress")
        if not version.settled(now):  # AWS says "created" of updates, too, but not of those of $LATEST.PUBLISHED
            status, why = waiting, _UPDATING if what != "State" and version.number == LAST else _CREATING
        elif version.failure is not None:
            status, why = "Failed", version.failure
        else:
            return shown | {"LastUpdateStatus": "Successful"}
        return shown | {what: status, f"{what}Reason": why.reason, f"{what}ReasonCode": why.code}

    def _listed(self, here: Address, version: Version, qualifier: str | None, now: float | None = None) -> Json:
        """The shorter form of the lists: without states and runtime version."""
        now = self._now() if now is None else now
        shown = version.settings | {
            "FunctionName": here.name,
            "FunctionArn": here.qualified(qualifier),
            "Version": version.label,
            "RevisionId": version.current_revision(now),
        }
        shown.pop("ImageUri", None)  # GetFunction says it elsewhere
        if version.managed:
            shown["ConfigSha256"] = _config_digest(version.settings)
        return shown


_CREATING: Final = Failure("Creating", "The function is being created.")
_UPDATING: Final = Failure("Updating", "The function is being updated.")


def _config_digest(settings: Json) -> str:
    rest = {key: value for key, value in settings.items() if not key.startswith(("Code", "LastModified", "ImageUri"))}
    return hashlib.sha256(msgspec.json.encode(rest, order="deterministic")).hexdigest()


def _as_version(row: tuple[Any, ...]) -> Version:
    *plain, settles_at, previous, failure = row
    function, number, settings, digest, revision, settled_revision, stage = plain
    return Version(
        function,
        number,
        _decode(settings),
        digest,
        revision,
        settled_revision,
        stage,
        settles_at,
        None if previous is None else _decode(previous),
        None if failure is None else _failure(failure),
    )


def timestamp(now: float) -> str:
    """As AWS writes the moments of functions, layers and code signing configurations."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")


def layer_arn(account: str, region: str, name: str) -> str:
    return f"arn:{partition_of(region)}:lambda:{region}:{account}:layer:{name}"


def page_size(given: Json) -> int:
    return min(int(given.get("MaxItems", PAGE)), PAGE)


def marker(*key: Any) -> str:
    """An opaque NextMarker: the key after which the next page begins."""
    return base64.urlsafe_b64encode(_encode(key)).decode()


def after_marker(given: Json, *first: Any) -> list[Any]:
    """The key after which this page begins; `first` when no Marker is given."""
    text = given.get("Marker")
    if not text:
        return list(first)
    try:
        key = _decode(base64.urlsafe_b64decode(text))
    except (binascii.Error, ValueError) as wrong:
        raise invalid("The marker is not one that this operation returned.") from wrong
    if not isinstance(key, list) or [type(part) for part in key] != [type(part) for part in first]:
        raise invalid("The marker is not one that this operation returned.")
    return key
