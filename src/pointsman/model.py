"""The vocabulary: frozen values, valid once built. Imports nothing of ours.

Texts with rules (`AliasName`, `Version` …) are `str` subclasses that refuse a wrong text in words; structures are
`msgspec.Struct`s, which serialise (`to_json`) and come back validated (`from_json`).
"""

from __future__ import annotations

import binascii
import re
import sys
import threading
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, ClassVar, Self, TypeVar

# msgspec takes a few names from typing_extensions where that is installed, and the same from typing where it is not.
# Python 3.11 has them all, and without the detour every command starts 7 ms earlier.
_detour: object = sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
import msgspec  # noqa: E402

if _detour is None:
    del sys.modules["typing_extensions"]

T = TypeVar("T")


WITH_IT = "and every version and alias with it"
"""How a line ends that tells of a function an owner would remove or replace."""


class Text(str):
    """A `str` with a rule: building one that breaks it raises ValueError with the rule in words."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]
    rule: ClassVar[str]

    def __new__(cls, text: str) -> Self:
        if not cls.pattern.fullmatch(text):
            raise ValueError(f"{text!r} is not {cls.rule}")
        return super().__new__(cls, text)


class FunctionName(Text):
    __slots__ = ()
    pattern = re.compile(r"[a-zA-Z0-9-_]{1,64}")
    rule = "a function name: 1 to 64 letters, digits, hyphens and underscores"


class AliasName(Text):
    """https://docs.aws.amazon.com/lambda/latest/api/API_CreateAlias.html: all digits would read as a version."""

    __slots__ = ()
    pattern = re.compile(r"(?![0-9]+$)[a-zA-Z0-9-_]{1,128}")
    rule = "an alias name: 1 to 128 letters, digits, hyphens and underscores, not digits only"


class BuildId(Text):
    """What people call a build. It becomes the version's description, so it stays far below Lambda's 256 characters."""

    __slots__ = ()
    pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/@#-]{0,127}")
    rule = "a build id: 1 to 128 letters, digits and . _ + / @ # -, beginning with a letter or digit"


class Version(Text):
    """A published number, `$LATEST`, or `$LATEST.PUBLISHED`. Numbers sort as numbers, before the unpublished ones."""

    __slots__ = ()
    pattern = re.compile(r"[1-9][0-9]*|\$LATEST(\.PUBLISHED)?")
    rule = "a version: a whole number, or $LATEST"

    @property
    def published(self) -> bool:
        return not self.startswith("$")

    def _order(self) -> tuple[bool, int, str]:
        return (not self.published, int(self) if self.published else 0, str(self))

    # All four: `str` brings its own, by letters, and functools.total_ordering would leave those in place.
    def __lt__(self, other: str) -> bool:
        return self._order() < Version(other)._order()

    def __le__(self, other: str) -> bool:
        return self._order() <= Version(other)._order()

    def __gt__(self, other: str) -> bool:
        return self._order() > Version(other)._order()

    def __ge__(self, other: str) -> bool:
        return self._order() >= Version(other)._order()

    __hash__ = str.__hash__


LATEST = Version("$LATEST")
# Of a package with its layers: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
UNZIPPED = 262_144_000


class CodeSha256(Text):
    """Lambda's CodeSha256: of a zip the SHA-256 of its bytes in base64, of a container image its digest in hex."""

    __slots__ = ()
    pattern = re.compile(r"[A-Za-z0-9+/]{43}=|[0-9a-f]{64}")
    rule = "a CodeSha256: 32 bytes, of a zip in base64, of an image in hexadecimal"

    @property
    def short(self) -> str:
        return self[:8]

    @property
    def image(self) -> bool:
        return len(self) == 64

    @property
    def hex(self) -> str:
        return str(self) if self.image else binascii.a2b_base64(self).hex()


class Weight(float):
    """A share of traffic, in (0, 1]. People see per cent."""

    __slots__ = ()

    def __new__(cls, share: float) -> Self:
        if not 0 < share <= 1:
            raise ValueError(f"{share} is not a weight: it must be above 0 and at most 1")
        return super().__new__(cls, share)

    def __str__(self) -> str:
        return f"{self * 100:g} %"


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """The root of our structures. `kw_only`: two strings must not be mixed up."""


class FunctionArn(Value, frozen=True, kw_only=True):
    """arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]"""

    account: str
    region: str
    name: FunctionName
    qualifier: str | None = None
    partition: str = "aws"

    def __str__(self) -> str:
        tail = f":{self.qualifier}" if self.qualifier else ""
        return f"arn:{self.partition}:lambda:{self.region}:{self.account}:function:{self.name}{tail}"

    @property
    def unqualified(self) -> FunctionArn:
        return msgspec.structs.replace(self, qualifier=None)

    @classmethod
    def parse(cls, text: str) -> FunctionArn:
        match text.split(":"):
            case ["arn", partition, "lambda", region, account, "function", name, *qualifier] if len(qualifier) < 2:
                return cls(
                    account=account,
                    region=region,
                    name=FunctionName(name),
                    qualifier=qualifier[0] if qualifier else None,
                    partition=partition,
                )
        raise ValueError(f"{text!r} is not the ARN of a Lambda function")


class Canary(Value, frozen=True, kw_only=True):
    version: Version
    weight: Weight


class Routing(Value, frozen=True, kw_only=True):
    """Which versions an alias serves. Lambda's rules: at most one more version, never `$LATEST` beside another."""

    version: Version
    canary: Canary | None = None

    def __post_init__(self) -> None:
        if self.canary and not (self.version.published and self.canary.version.published):
            raise ValueError("$LATEST cannot share an alias's traffic with another version")
        if self.canary and self.canary.version == self.version:
            raise ValueError(f"version {self.version} cannot be its own canary")

    def __str__(self) -> str:
        if not self.canary:
            return f"version {self.version}"
        return f"version {self.version} and {self.canary.weight} to version {self.canary.version}"


class Alias(Value, frozen=True, kw_only=True):
    arn: FunctionArn
    name: AliasName
    routing: Routing
    revision: str
    description: str = ""

    @property
    def version(self) -> Version:
        return self.routing.version


class Configuration(Value, frozen=True, kw_only=True):
    """A function's `$LATEST`, or one of its versions, as GetFunction answers it.

    `settings` are the parameters that decide how code runs, in AWS's names, canonical and without the description;
    `fingerprint` is their digest: equal fingerprints and equal `sha256` mean Lambda would publish nothing new.
    """

    arn: FunctionArn
    version: Version
    sha256: CodeSha256
    revision: str
    settings: dict[str, Any]
    fingerprint: str
    description: str = ""
    state: str = "Active"
    state_reason: str = ""
    update: str = "Successful"
    update_reason: str = ""
    modified: str = ""
    code_size: int = 0
    hidden: str = ""  # why AWS does not show the environment variables ("" where it does)

    @property
    def bits(self) -> Bits:
        return Bits(sha256=self.sha256, fingerprint=self.fingerprint)


def fingerprint(settings: dict[str, Any]) -> str:
    """The digest of a configuration's settings, whatever the order of its keys."""
    import hashlib

    return hashlib.sha256(to_json(settings)).hexdigest()


class Bits(Value, frozen=True, kw_only=True):
    """What makes one version behave unlike another: its code and its settings."""

    sha256: CodeSha256
    fingerprint: str


class Role(Value, frozen=True, kw_only=True):
    """An execution role: who may act as it (`trust`), and what it may do.

    `inline`: policy name → document; `attached`: ARN → its default version and, where the account's own, what it says.
    """

    arn: str
    trust: Any
    path: str = "/"
    description: str = ""
    boundary: str = ""
    longest_s: int = 3600
    tags: dict[str, str] = {}
    inline: dict[str, Any] = {}
    attached: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return role_name(self.arn)

    def with_policies(self, inline: dict[str, Any], attached: dict[str, Any]) -> Role:
        return msgspec.structs.replace(self, inline=inline, attached=attached)


def role_name(arn: str) -> str:
    """Without the path: names are unique in an account whatever their path."""
    return arn.rpartition("/")[2]


class Artifact(Value, frozen=True, kw_only=True):
    """What is deployed: `path` of the zip, `sha256` as Lambda's CodeSha256, sizes in bytes; and the layers it takes.

    Of a container image there is nothing here: `image` is where it lies, REPOSITORY@sha256:DIGEST, and `path` is "".
    """

    function: str
    path: str
    sha256: CodeSha256
    size: int
    unzipped: int
    files: int
    cached: bool = False
    image: str = ""
    layers: tuple[BuiltLayer, ...] = ()


class BuiltLayer(Value, frozen=True, kw_only=True):
    """A layer of the file as it was built for this release: `layer` its name there, `name` the one on AWS.

    `runtimes` and `architectures`: what it is for. `retain`: how many versions stay; None: all.
    """

    layer: str
    name: str
    package: Artifact
    runtimes: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    retain: int | None = None


class LayerVersion(Value, frozen=True, kw_only=True):
    """A published version of a layer, as Lambda tells. `sha256` is "" and `size` 0 in a list, which tells neither."""

    arn: str
    description: str = ""
    sha256: str = ""
    size: int = 0
    runtimes: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        return int(self.arn.rpartition(":")[2])


class Build(Value, frozen=True, kw_only=True):
    """One build of one function. Many builds may be one version: identical bits publish nothing new."""

    id: BuildId
    sha256: CodeSha256
    version: Version | None = None
    fingerprint: str = ""
    commit: str = ""
    at: float = 0.0


class Verdict(IntEnum):
    """Ordered from best to worst, so that many verdicts combine by `max`. Failed was measured; error could not be."""

    PASS = 0
    INCONCLUSIVE = 1
    ERROR = 2
    FAIL = 3


class TestReport(Value, frozen=True, kw_only=True):
    """What JUnit files say. `failed` names the failed tests, at most a few.

    No tests at all: the command passed, and no file tells how many there were.
    """

    __test__ = False  # pytest: not a test class

    tests: int
    failures: int
    errors: int
    skipped: int
    failed: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.tests:
            return "passed"
        counts = ((self.failures, "failed"), (self.errors, "with errors"), (self.skipped, "skipped"))
        return ", ".join((counted(self.tests, "test"), *(f"{n} {word}" for n, word in counts if n)))


class Move(Value, frozen=True, kw_only=True):
    """One alias move, as the ledger tells it. `kind` is what was asked: deploy, promote, rollback; or observed;

    or restore, removed: what a release that failed took back; or restored, from a backup. `release` is the run it
    belongs to, with all that moved together.
    """

    alias: AliasName
    version: Version
    was: Version | None
    kind: str
    at: float
    by: str = ""
    build: BuildId | None = None
    release: str = ""


class Trace(Value, frozen=True, kw_only=True):
    """One call as CloudTrail kept it. `asked` and `answered` in AWS's names, first letter small (functionName).

    `call` is the event's name, UpdateAlias20150331; `refused` AWS's error code, "" where it took effect.
    """

    at: float
    call: str
    by: str
    asked: dict[str, Any] = {}
    answered: dict[str, Any] = {}
    refused: str = ""


class Permission(Value, frozen=True, kw_only=True):
    """One statement of a resource policy. `parameters` as AddPermission takes them, StatementId and all.

    `beyond` says what of it AddPermission could not say again, "" where it could.
    """

    id: str
    parameters: dict[str, Any]
    beyond: str = ""


class Url(Value, frozen=True, kw_only=True):
    """A function URL, and who may call it: signed requests (AWS_IAM), or everybody (NONE)."""

    url: str
    auth: str


class EventSource(Value, frozen=True, kw_only=True):
    """What feeds a qualifier: `settings` as CreateEventSourceMapping takes them, its EventSourceArn among them."""

    uuid: str
    source: str
    settings: dict[str, Any]
    enabled: bool


class Belongings(Value, frozen=True, kw_only=True):
    """What hangs on a qualifier, and is nowhere else: a new alias has none of it. `events` configures async calls."""

    permissions: tuple[Permission, ...] = ()
    events: dict[str, Any] | None = None
    sources: tuple[EventSource, ...] = ()
    provisioned: int | None = None


class KeptReady(Value, frozen=True, kw_only=True):
    """A provisioned concurrency configuration: so many environments asked for, and what became of that.

    `status` is READY, IN_PROGRESS, or FAILED for a `reason`; `modified` when somebody last asked, in AWS's words.
    """

    number: int
    status: str
    reason: str = ""
    modified: str = ""


class Gauge(str):
    """A line of progress that takes the place of the one before it, where lines may be redrawn."""

    __slots__ = ()


def gauge(what: str, done: int, whole: int, seconds: float) -> Gauge:
    """How far a transfer of `whole` bytes is: `done` of them in `seconds`, and as many more as that lets expect."""
    width = 20
    full = width * done // whole
    left = f", {seconds * (whole - done) / done:.0f} s left" if 0 < done < whole else ""
    return Gauge(f"{what} [{'#' * full}{'.' * (width - full)}] {100 * done // whole}% of {size(whole)}{left}")


def counted(number: int, what: str) -> str:
    """ "1 file", "3 files"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def few(names: Iterable[str]) -> str:
    """Five of them in their order, and how many more."""
    shown = list(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def size(count: int) -> str:
    """A number of bytes as people read it: "812 B", "2.1 kB", "34.7 MB"."""
    for unit, word in ((1_000_000, "MB"), (1000, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {word}"
    return f"{count} B"


def lasting(seconds: float) -> str:
    """A length of time as one waits for it: "8 s", "2 min", "1 h 10 min"."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if not hours else f"{hours} h {rest} min" if rest else f"{hours} h"


def _encode(value: object) -> object:
    match value:
        case str():
            return str.__str__(value)
        case float():
            return float(value)
        case _:
            raise NotImplementedError(f"{type(value).__name__} has no JSON form")


def _decode(kind: type, value: Any) -> Any:
    if issubclass(kind, Text | Weight):
        return kind(value)
    raise NotImplementedError(f"{kind.__name__} has no JSON form")


# msgspec takes a type apart when it is first decoded, and shows what it made of it before that is filled in: a thread
# that decodes the same type meanwhile reads a null pointer (functions are built side by side). So decoders are made one
# at a time, and used when they are whole. Encoding takes no types apart.
_MAKING = threading.RLock()
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    if (made := _DECODERS.get(kind)) is None:
        with _MAKING:
            made = _DECODERS[kind] = msgspec.json.Decoder(kind, dec_hook=_decode)
    return made


def to_json(value: object) -> bytes:
    """Any of our values as JSON, keys in a fixed order: equal values give equal bytes."""
    return msgspec.json.encode(value, enc_hook=_encode, order="deterministic")


def from_json(data: bytes | str, kind: type[T]) -> T:
    """The value back, validated. Raises msgspec.ValidationError (a ValueError) that names the path."""
    found: T = _decoder(kind).decode(data)
    return found


def plain(value: object) -> Any:
    """The value as dicts, lists, strings and numbers."""
    return msgspec.to_builtins(value, enc_hook=_encode, str_keys=True)


class Query(Value, frozen=True, kw_only=True):
    """One metric as CloudWatch is asked for it: `stat` in its words ("Sum", "SampleCount", "TC(812.5:)").

    Dimensions may hold {function}, {alias} and {version}: filled in for each version that is measured.
    """

    namespace: str
    metric: str
    stat: str
    dimensions: dict[str, str] = {}


class Series(Value, frozen=True, kw_only=True):
    """How one metric of a rollout is counted: `bad` of `calls`; `apart`: the bad ones are not among the calls.

    Both must tell the versions apart: a number for all of them together says nothing about the canary.
    """

    name: str
    calls: Query
    bad: Query
    apart: bool = False

    def __post_init__(self) -> None:
        for query in (self.calls, self.bad):
            if not any("{version}" in value for value in query.dimensions.values()):
                raise ValueError(f"{self.name}: {query.metric} has no dimension with {{version}} in it")


class Tally(Value, frozen=True, kw_only=True):
    """What one version did in the period that begins `at` (epoch seconds, AWS's). Nothing happened: no Tally."""

    at: float
    calls: int
    bad: int

    def __post_init__(self) -> None:
        if not 0 <= self.bad <= self.calls or not self.calls:
            raise ValueError(f"{self.bad} of {self.calls} calls cannot be bad")


class Measured(Value, frozen=True, kw_only=True):
    """All that is settled of [since, until): metric → version → its tallies, oldest first.

    Ask again from `until` on, and no period is ever counted twice. `now` is AWS's clock when it answered.
    """

    tallies: dict[str, dict[str, tuple[Tally, ...]]]
    until: float
    now: float


class AlarmState(Value, frozen=True, kw_only=True):
    """`state` in CloudWatch's words: OK, ALARM, INSUFFICIENT_DATA; since when (epoch seconds), and why."""

    name: str
    state: str
    since: float
    reason: str = ""
