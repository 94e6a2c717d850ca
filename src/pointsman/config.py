"""`pointsman.toml`: what may stand in it, and the frozen values it becomes.

The structs below are the one source: their types and annotations decide what `parse` accepts, what its problems say,
what `explain` and `config_reference.toml` tell, and the JSON Schema. What a type cannot say is in the rules further
down.
"""

# No `from __future__ import annotations` here: msgspec reads them all at every start, and as texts reads them twice.
import functools
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import pointsman.model  # noqa: F401 - first, for it imports msgspec by the shorter way

# isort: split
import msgspec
import msgspec.inspect as mi
from msgspec import Meta

from pointsman.errors import ConfigInvalid, UsageError
from pointsman.model import AliasName, FunctionName, Text, Value

NAME = "pointsman.toml"

_LEAST_ALPHA = 0.00001  # of each metric: what `analysis.judge` takes
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit}\s*)?" for unit in _UNITS))


def _seconds(raw: object) -> float:
    """A duration ("1h30m", "90s", or a number of seconds) in seconds; ValueError for anything else."""
    if isinstance(raw, str) and (found := _DURATION.fullmatch(raw.strip())):
        total = sum(float(count) * unit for count, unit in zip(found.groups(), _UNITS.values(), strict=True) if count)
    elif isinstance(raw, int | float) and not isinstance(raw, bool):
        total = raw
    else:
        raise ValueError
    if not 0 < total <= 30 * 86_400:
        raise ValueError
    return float(total)


def _seconds_or_none(raw: object) -> float:
    """The same, or 0."""
    return 0.0 if raw in (0, "0", "0s") and not isinstance(raw, bool) else _seconds(raw)


def _duration(seconds: float) -> str:
    """As a duration is written: "1h30m"."""
    parts: list[str] = []
    for unit, size in _UNITS.items():
        count, seconds = divmod(seconds, size) if size > 1 else (seconds, 0.0)
        parts += [f"{count:g}{unit}"] if count else []
    return "".join(parts) or "0s"


def _about(description: str, *examples: object, **extra: object) -> Meta:
    """What a key is for, and how it may look. extra: derived (filled in when left out), aside (an alternative)."""
    return Meta(description=description, examples=list(examples) or None, extra=extra or None)


def _shape(pattern: str, rule: str, **extra: object) -> Meta:
    """A string's pattern, and the same in words, as they follow "must be"."""
    # Not as msgspec's `pattern`, which compiles all of them at every start.
    return Meta(extra={"pattern": pattern, "rule": rule, **extra})


_KEY = Meta(extra={"key": True})  # where a table stands, not a key in it

Filled = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, _shape("[A-Za-z0-9_-]{1,64}", "a name of 1 to 64 letters, digits, - and _")]
Duration = Annotated[
    float,
    Meta(extra={"read": _seconds, "rule": 'a duration such as "5m", "1h30m" or 90 (seconds), of 30 days at most'}),
]
Lateness = Annotated[
    float, Meta(extra={"read": _seconds_or_none, "rule": 'a duration such as "2m", or 0, of 30 days at most'})
]
PerCent = Annotated[float, Meta(gt=0, le=100)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
Opening = Annotated[str, _shape(_CLOCK, 'a time from "00:00" to "23:59"')]
Closing = Annotated[str, _shape(f"{_CLOCK}|24:00", 'a time from "00:00" to "24:00"')]
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
Frozen = Annotated[
    str, _shape(rf"{_DATE}(\.\.{_DATE})?", 'a day such as "2026-12-24", or "FIRST..LAST" of several, in quotes')
]
HttpUrl = Annotated[str, _shape(r"https?://[^\s/]\S*", "a URL that begins with http:// or https://")]
Status = Annotated[int, Meta(ge=100, le=599)]
Account = Annotated[str, _shape("[0-9]{12}", "an account id: 12 digits, in quotes")]
Region = Annotated[str, _shape("[a-z]+(-[a-z]+)+-[0-9]+", 'a region such as "eu-west-1"')]
_PLACE = r"\{region\}|\{account\}"  # filled in by `places`
Bucket = Annotated[
    str,
    _shape(
        rf"([a-z0-9]|{_PLACE})([a-z0-9.-]|{_PLACE}){{0,61}}([a-z0-9]|{_PLACE})",
        "a bucket: 3 to 63 small letters, digits, . and - ({region} and {account} are filled in)",
    ),
]
Stack = Annotated[str, _shape("[A-Za-z][A-Za-z0-9-]{0,127}", "a letter, then letters, digits and -, 128 at most")]
Handler = Annotated[str, _shape(r"\S{1,128}", "a handler without spaces, such as index.handler")]
_VARIABLE = "a variable's name: a letter, then letters, digits and _; AWS wants two characters at least"
Variable = Annotated[str, _shape("[A-Za-z][A-Za-z0-9_]+", _VARIABLE)]
RoleArn = Annotated[
    str, _shape("arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+", "a role: arn:aws:iam::ACCOUNT:role/NAME")
]
ExecutionRole = Annotated[
    str,
    _shape(
        r"arn:aws[a-z-]*:iam::([0-9]{12}|\{account\}):role/[A-Za-z0-9+=,.@_/-]+",
        "a role: arn:aws:iam::ACCOUNT:role/NAME ({account}: the environment's)",
    ),
]
Mfa = Annotated[
    str, _shape(r"arn:aws[a-z-]*:iam::[0-9]{12}:mfa/\S+|[A-Za-z0-9]{9,64}", "an MFA device: its ARN, or serial number")
]
ExternalId = Annotated[
    str, _shape(r"[A-Za-z0-9_+=,.@:/-]{2,1224}", "an external id: 2 to 1224 letters, digits and _+=,.@:/-")
]
_LAYER_ARN = r"arn:aws[a-z-]*:lambda:([a-z0-9-]+|\{region\}):([0-9]{12}|\{account\}):layer:[A-Za-z0-9_-]+:[0-9]+"
LayerArn = Annotated[str, _shape(_LAYER_ARN, "the ARN of a layer version, which ends in its number")]
LayerRef = Annotated[
    str,
    _shape(
        f"{_LAYER_ARN}|[A-Za-z0-9_-]{{1,64}}",
        "the name of a [layer.NAME] of this file, or the ARN of a layer version, which ends in its number",
    ),
]
LayerName = Annotated[str, _shape("[A-Za-z0-9_-]{1,140}", "a layer's name: 1 to 140 letters, digits, - and _")]
# https://docs.aws.amazon.com/lambda/latest/api/API_FunctionCode.html: in ECR, and in the function's region
Image = Annotated[
    str,
    _shape(
        r"([0-9]{12}|\{account\})\.dkr[.-]ecr(-fips)?\.([a-z0-9.-]|\{region\})+/[a-z0-9][a-z0-9._/-]*"
        r"(:[A-Za-z0-9_{][A-Za-z0-9_.{}-]{0,127})?(@sha256:[0-9a-f]{64})?",
        "an image in ECR: ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY, with :TAG or @sha256:DIGEST "
        "({account} and {region}: the environment's)",
    ),
]
# By family rather than by list: next year's runtime must not need a new Pointsman.
Runtime = Annotated[
    str,
    _shape(
        r"nodejs([0-9]+\.x|4\.3|6\.10|8\.10)?|python[0-9]\.[0-9]+|ruby[0-9]\.[0-9]+|java[0-9]+(\.al[0-9]+)?"
        r"|dotnet(core[0-9]\.[0-9]|[0-9]+)|go1\.x|provided(\.al[0-9]+)?",
        'a runtime such as "nodejs22.x", "python3.13" or "provided.al2023"',
        known=[f"nodejs{n}.x" for n in (18, 20, 22, 24)]
        + [f"python3.{n}" for n in range(9, 15)]
        + ["java21", "dotnet8", "ruby3.4", "provided.al2023"],
    ),
]
Slow = Annotated[
    str,
    _shape(
        r"p[0-9]{1,2}(\.[0-9]+)?( ?\* ?[0-9]+(\.[0-9]+)?)?|[0-9]+(\.[0-9]+)?(ms|s)",
        'a percentile of the old version\'s durations, times a factor ("p99 * 1.5"), or a time ("800ms")',
    ),
]
LedgerUrl = Annotated[
    str,
    _shape(
        r"sqlite:[^\s?#].*|dynamodb://[A-Za-z0-9_.-]{3,255}(/[A-Za-z0-9_.-]{1,255})?",
        '"sqlite:PATH" or "dynamodb://TABLE"',
    ),
]
BackupPlace = Annotated[
    str,
    _shape(
        r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/-]*)?|(?![a-z0-9]+:)\S.*",
        '"s3://BUCKET/PREFIX" or a folder',
    ),
]
BuildKind = Literal["python", "node", "ruby", "java", "go", "dotnet", "rust", "make", "command", "zip", "image"]
LayerKind = Literal["python", "node", "command", "zip", "folder"]
Architecture = Literal["x86_64", "arm64"]
Belonging = Literal["policy", "event-invoke", "event-sources", "provisioned-concurrency"]
Capability = Literal["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
Ramp = Literal[
    "AllAtOnce",
    "Canary10Percent5Minutes",
    "Canary10Percent10Minutes",
    "Canary10Percent15Minutes",
    "Canary10Percent30Minutes",
    "Linear10PercentEvery1Minute",
    "Linear10PercentEvery2Minutes",
    "Linear10PercentEvery3Minutes",
    "Linear10PercentEvery10Minutes",
]


class Test(Value, frozen=True, kw_only=True):
    """A gate that runs a command. It gets POINTSMAN_FUNCTION; integration tests the ARN and the qualifier too."""

    __test__ = False  # pytest: not a test class

    run: Annotated[Filled, _about("The shell command, in the source folder; exit code 0 passes.", "npm test")]
    junit: Annotated[
        tuple[Filled, ...],
        _about("JUnit or xunit files it writes, globs allowed. Without any, the exit code alone decides."),
    ] = ()
    against: Annotated[
        Literal["version", "latest"],
        _about("What integration tests call: the published version, or $LATEST where they name no qualifier."),
    ] = "version"
    timeout: Annotated[Duration, _about("After this the command is stopped, and the gate fails.")] = 900.0


class Tests(Value, frozen=True, kw_only=True):
    """The gates of every release of this function: commands of yours."""

    unit: Annotated[
        Test | None,
        _about("Run before anything is changed.", {"run": "npm run xunit-test", "junit": "xunit-test.xml"}),
    ] = None
    integration: Annotated[
        Test | None,
        _about("Run on AWS before an alias moves.", {"run": "npm run xunit-itest", "junit": ["xunit-itest.xml"]}),
    ] = None


class CodeParameters(Value, frozen=True, kw_only=True):
    """The stack's parameters for the place of the function's code: packages go to the environment's `bucket`."""

    key: Annotated[
        Filled | None, _about("The parameter for the object's key. Required, but for a container image.", "CodeKey")
    ] = None
    bucket: Annotated[Filled | None, _about("The one for the bucket.", "CodeBucket")] = None
    version: Annotated[
        Filled | None, _about("The one for the object's version, in a bucket that keeps versions.", "CodeVersion")
    ] = None
    image: Annotated[
        Filled | None,
        _about(
            "Instead of all three, of a container image: the one for its URI, told by digest.", "ImageUri", aside=True
        ),
    ] = None


class CloudFormation(Value, frozen=True, kw_only=True, tag_field="with", tag="cloudformation"):
    """A stack owns the function: plain, SAM's or CDK's (docs/cloudformation.md). Changes go by change sets, shown."""

    stack: Annotated[Stack, _about("The stack's name.", "greeting-stack")]
    function: Annotated[
        Filled,
        _about("Its function: the FunctionName, the logical id, or an output with the name or ARN.", "GreetingLambda"),
    ]
    template: Annotated[
        Filled | None,
        _about("The template's file. Without it the stack is somebody else's, only read.", "cloudformation.template"),
    ] = None
    parameters: Annotated[dict[str, str], _about("The template's parameters.", {"LogLevel": "info"})] = msgspec.field(
        default_factory=dict
    )
    capabilities: Annotated[
        tuple[Capability, ...] | None,
        _about(
            "What the template may do: roles with names and macros need more than IAM. Default: samconfig.toml's, "
            "else CAPABILITY_IAM.",
            ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        ),
    ] = None
    code: Annotated[
        Literal["api", "stack"] | None,
        _about(
            "Who brings the code: we, after the stack; or the stack, from S3, so that the two never disagree. Default: "
            "the stack where its template publishes versions or aliases of its own, else we.",
            "stack",
            aside=True,
        ),
    ] = None
    code_parameters: Annotated[
        CodeParameters | None, _about("Or the stack by its parameters.", {"bucket": "CodeBucket", "key": "CodeKey"})
    ] = None
    stack_alias: Annotated[
        Literal["refuse", "move"],
        _about("An alias of the template's (AutoPublishAlias) that an environment names: leave it alone, or move it."),
    ] = "refuse"
    tags: Annotated[dict[str, str], _about("The stack's tags.", {"team": "greeters"})] = msgspec.field(
        default_factory=dict
    )


class Outputs(Value, frozen=True, kw_only=True):
    """The outputs that tell what was applied: names or ARNs. Those of terraform-aws-modules are known, too."""

    name: Annotated[Filled, _about("The output with the function's name.")] = "lambda_name"
    version: Annotated[Filled, _about("The output with the version that the apply published.")] = "lambda_version"


class Inputs(Value, frozen=True, kw_only=True):
    """The module's variables that are told about a build. Those with obvious names (package_path) are found."""

    package: Annotated[Filled | None, _about("Is told the path of the zip.", "package_path")] = None
    image: Annotated[
        Filled | None, _about("A container image's URI, by its digest: image_uri.", "image_uri", aside=True)
    ] = None
    digest: Annotated[
        Filled | None,
        _about("The zip's SHA-256 in base64: source_code_hash. An image's digest: sha256:HEX.", "package_hash"),
    ] = None
    build: Annotated[Filled | None, _about("The build id.", "build_id")] = None
    branch: Annotated[Filled | None, _about("The git branch.", "branch")] = None


class Terraform(Value, frozen=True, kw_only=True, tag_field="with", tag="terraform"):
    """Terraform or OpenTofu owns the function, and publishes its versions or leaves that to Pointsman."""

    directory: Annotated[Filled, _about("The folder of the root module.")] = "terraform"
    binary: Annotated[Filled | None, _about("What to run. Default: terraform, else tofu.", "tofu")] = None
    workspace: Annotated[
        Filled | None,
        _about("The workspace to select. {environment}, {region} and {branch} are filled in, below too.", "staging"),
    ] = None
    create_workspace: Annotated[bool, _about("Create it where there is none.")] = False
    backend: Annotated[dict[str, str], _about("Given to init as -backend-config.", {"bucket": "states"})] = (
        msgspec.field(default_factory=dict)
    )
    backend_file: Annotated[Filled | None, _about("The same, in a file.", "terraform/prod.tfbackend")] = None
    var_files: Annotated[tuple[Filled, ...], _about("Given as -var-file.", ["terraform/prod.tfvars"])] = ()
    variables: Annotated[dict[str, str], _about("Given as -var.", {"log_level": "info"})] = msgspec.field(
        default_factory=dict
    )
    package: Annotated[
        Filled | None,
        _about(
            "Where the module expects the zip: Pointsman's is copied there. Default: the constant `filename` of the "
            "module's only function, where no variable takes it.",
            "lambda.zip",
        ),
    ] = None
    inputs: Inputs = Inputs()
    outputs: Outputs = Outputs()


class Direct(Value, frozen=True, kw_only=True, tag_field="with", tag="direct"):
    """Pointsman creates the function and keeps these settings; what is left out is left as it is."""

    role: Annotated[ExecutionRole, _about("The execution role.", "arn:aws:iam::123456789012:role/greeting")]
    name: Annotated[FunctionName | None, _about("Its name on AWS. Default: the table's name.", "greeting")] = None
    # The service model's limits; an ordinary function's are lower (10,240 MB, 900 s), and for AWS to enforce.
    memory: Annotated[
        Annotated[int, Meta(ge=128, le=32_768)] | None, _about("In MB; the share of CPU grows with it.", 256)
    ] = None
    timeout: Annotated[Annotated[int, Meta(ge=1, le=5_400)] | None, _about("Of one invocation, in seconds.", 30)] = None
    environment: Annotated[
        dict[Variable, str] | None,
        _about("All environment variables, 4 KB together. The file is no place for secrets.", {"LOG_LEVEL": "info"}),
    ] = None
    description: Annotated[Annotated[str, Meta(max_length=256)] | None, _about("Of $LATEST.", "Greets people")] = None
    layers: Annotated[
        Annotated[tuple[LayerRef, ...], Meta(max_length=5)],
        _about(
            "Five at most, the later over the earlier: layers of this file by name, others' by the version's ARN.",
            ["common", "arn:aws:lambda:eu-west-1:123456789012:layer:tools:7"],
        ),
    ] = ()


class Existing(Value, frozen=True, kw_only=True, tag_field="with", tag="existing"):
    """Somebody else owns the function's settings; Pointsman brings code, versions and aliases only."""

    name: Annotated[FunctionName, _about("Its name on AWS. Default: the table's name.", "api-backend", derived=True)]


Provision: TypeAlias = CloudFormation | Terraform | Direct | Existing


class Bundle(Value, frozen=True, kw_only=True):
    """One file of JavaScript out of the handler and all it imports, by the project's own esbuild (`bundle = true`)."""

    minify: Annotated[bool, _about("Make it small: without comments, with short names.")] = True
    sourcemap: Annotated[bool, _about("Package a map beside it, for stack traces: set NODE_OPTIONS too.")] = False
    external: Annotated[
        tuple[Filled, ...],
        _about("Packages that are not bundled but installed beside it, such as those with native code.", ["sharp"]),
    ] = ()
    target: Annotated[
        Filled | None, _about("What the code is written down to. Default: the runtime's Node.", "node20")
    ] = None
    format: Annotated[Literal["cjs", "esm"], _about("CommonJS, or an ECMAScript module (.mjs).")] = "cjs"
    options: Annotated[tuple[Filled, ...], _about("More for esbuild.", ["--keep-names"])] = ()


class ImageConfig(Value, frozen=True, kw_only=True):
    """What a container image says of how it is started, said otherwise. For functions that are provisioned directly."""

    command: Annotated[tuple[Filled, ...], _about("Instead of its CMD: the handler, mostly.", ["app.handler"])] = ()
    entry_point: Annotated[
        tuple[Filled, ...], _about("Instead of its ENTRYPOINT.", ["/usr/bin/python3", "-m", "awslambdaric"])
    ] = ()
    working_directory: Annotated[Filled | None, _about("Instead of its WORKDIR.", "/var/task")] = None


class Layer(Value, frozen=True, kw_only=True):
    """A layer of yours (docs/layers.md): built like a package, and published only when its content changes."""

    name: Annotated[str, _KEY] = msgspec.field(name="table")
    published_as: Annotated[
        LayerName | None, _about("Its name on AWS. Default: the table's name.", "greeting-common")
    ] = msgspec.field(name="name", default=None)
    source: Annotated[Filled, _about("The folder it is made of.", "layers/common")]
    build: Annotated[
        LayerKind,
        _about(
            "How it is made: of Python's or Node's dependencies and the source, in python/ or nodejs/; of the folder "
            "as it is; by a command; or elsewhere. Default: by what is given and what the source holds.",
            "python",
            derived=True,
        ),
    ]
    runtimes: Annotated[
        Annotated[tuple[Runtime, ...], Meta(max_length=15)],
        _about("What it is for; Python's packages are installed for each. Default: what its functions have."),
    ] = ()
    architectures: Annotated[
        Annotated[tuple[Architecture, ...], Meta(max_length=2)],
        _about("The same. Both only where it has no native code.", ["x86_64"]),
    ] = ()
    include: Annotated[Annotated[tuple[Filled, ...], Meta(min_length=1)], _about("As functions have it.")] = ("**",)
    exclude: Annotated[tuple[Filled, ...], _about("As functions have it.", ["*.md"])] = ()
    command: Annotated[
        Filled | None, _about('With build = "command": the shell command that makes it.', "make layer", aside=True)
    ] = None
    artifact: Annotated[
        Filled | None,
        _about('With build = "command" or "zip": the zip, or folder.', "target/layer.zip", aside=True),
    ] = None
    retain: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        _about("How many versions stay; older ones of ours are deleted after a new one. Default: all.", 10),
    ] = None


class Function(Value, frozen=True, kw_only=True):
    """One Lambda function. The table may stand many times: one release then covers all of them."""

    name: Annotated[str, _KEY]
    source: Annotated[Filled, _about("The folder to package.")] = "."
    handler: Annotated[Handler | None, _about("What Lambda calls; must be in the package.", "index.handler")] = None
    runtime: Annotated[Runtime | None, _about("What runs the code; decides how it is built.", "nodejs22.x")] = None
    architecture: Annotated[Architecture, _about("Dependencies are installed for it.")] = "x86_64"
    include: Annotated[
        Annotated[tuple[Filled, ...], Meta(min_length=1)],
        _about("What of the source goes into the package, in .gitignore's patterns."),
    ] = ("**",)
    exclude: Annotated[
        tuple[Filled, ...], _about("What of that stays out, in .gitignore's patterns.", ["docs/", "*.test.js"])
    ] = ()
    shared: Annotated[
        tuple[Filled, ...],
        _about(
            'Folders beside the source that go into the package too, under their own name or another ("PATH as NAME"). '
            "Where code is compiled or bundled, they lie beside it.",
            ["libs/common", "libs/util as util"],
            aside=True,
        ),
    ] = ()
    sdk: Annotated[
        Literal["keep", "leave-out"],
        _about("The AWS SDK that Python's and Node's runtimes bring: package your own, or leave it out."),
    ] = "keep"
    build: Annotated[
        BuildKind,
        _about(
            "How the package is made: by a language's own tools, by a command, or elsewhere. Default: by what is given "
            "of command, artifact and image; else by runtime; else by what the source holds.",
            "node",
            derived=True,
        ),
    ]
    target: Annotated[
        Annotated[str, _shape("[A-Za-z0-9_./-]{1,128}", "a name or path of letters, digits, _, ., / and -")] | None,
        _about(
            'With build = "make": NAME of its target, build-NAME. Default: the table\'s name. With "rust": the binary, '
            'of several. With "go": the folder of the program, where it is not the source.',
            "greeting",
            aside=True,
        ),
    ] = None
    command: Annotated[
        Filled | None, _about('With build = "command": the shell command that makes it.', "make package", aside=True)
    ] = None
    artifact: Annotated[
        Filled | None,
        _about(
            'With build = "command" or "zip": the zip, or folder; cdk.out/TEMPLATE#FUNCTION is that function\'s asset.',
            "target/greeting.zip",
            aside=True,
        ),
    ] = None
    image: Annotated[
        Image | None,
        _about(
            'With build = "image": the image in ECR (docs/images.md). Only its digest is deployed. In a tag, {commit} '
            "is the commit that is checked out.",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/greeting:{commit}",
            aside=True,
        ),
    ] = None
    bundle: Annotated[Bundle | None, _about("Instead of packages as they are.", aside=True)] = None
    image_config: Annotated[
        ImageConfig | None, _about('With build = "image".', {"command": ["app.handler"]}, aside=True)
    ] = None
    provision: Annotated[
        Provision, _about("Who owns the function's settings. Default: somebody else (existing).", derived=True)
    ]
    test: Tests = Tests()


class Metric(Value, frozen=True, kw_only=True):
    """A CloudWatch metric of your own, with counts, compared between the two versions as errors are."""

    name: Annotated[Name, _about("What it is called in reports.", "declined")]
    namespace: Annotated[Filled, _about("Its namespace.", "Shop")]
    bad: Annotated[Filled, _about("The metric whose sum is what went wrong.", "PaymentsDeclined")]
    calls: Annotated[Filled, _about("The metric whose sum is all that could go wrong.", "Payments")]
    dimensions: Annotated[
        dict[str, str],
        _about(
            "Their dimensions; one tells the versions apart. {version}, {alias} and {function} are filled in.",
            {"Version": "{version}"},
        ),
    ]
    extra: Annotated[
        Annotated[float, Meta(gt=0, le=0.5)] | None,
        _about("The share of bad ones that is tolerated beyond the old version's.", 0.005),
    ] = None
    ratio: Annotated[
        Annotated[float, Meta(gt=1, le=1000)] | None,
        _about("Or how many times the old version's odds of a bad one are tolerated.", 1.5, aside=True),
    ] = None


class Check(Value, frozen=True, kw_only=True):
    """Asked again and again while both versions serve: a URL or a command. {version}, {alias}, {function} are known."""

    url: Annotated[
        HttpUrl | None, _about("Must answer. One that redirects is followed.", "https://shop.example.com/healthy")
    ] = None
    status: Annotated[Status | None, _about("With this status. Default: any from 200 to 299.", 200)] = None
    contains: Annotated[Filled | None, _about("With this in the first MB of what it answers.", "ok")] = None
    run: Annotated[
        Filled | None,
        _about("Or a shell command, in the function's source folder: exit code 0 passes.", "./check.sh", aside=True),
    ] = None
    every: Annotated[Duration, _about("How often.")] = 30.0
    timeout: Annotated[Duration, _about("After this it has failed.")] = 5.0
    failures: Annotated[Annotated[int, Meta(ge=1, le=1000)], _about("So many failures in a row roll back.")] = 3


class Traffic(Value, frozen=True, kw_only=True):
    """Calls that Pointsman makes to the new version while it is watched, for functions with too few of their own."""

    events: Annotated[
        Annotated[tuple[Filled, ...], Meta(min_length=1)],
        _about("Recorded events, a JSON file each, globs allowed. They are sent in turn.", "events/*.json"),
    ]
    rate: Annotated[Annotated[float, Meta(gt=0, le=50)], _about("Calls a second.", 2)] = 1.0


class Rollout(Value, frozen=True, kw_only=True):
    """Traffic moves little by little, watched, and back by itself; without this table at once. Every key may go."""

    steps: Annotated[
        tuple[PerCent, ...],
        _about(
            "The new version's share of traffic, step by step, in per cent. Default: 2, 50; with a budget, 50.",
            [1, 5, 25, 50],
        ),
    ] = ()
    type: Annotated[
        Ramp | None,
        _about("One of CodeDeploy's ramps instead, with its own times.", "Linear10PercentEvery1Minute", aside=True),
    ] = None
    bake: Annotated[Duration, _about("How much of each step's traffic is counted, in time, before the next.")] = 120.0
    errors: Annotated[
        Annotated[float, Meta(gt=0, le=0.5)] | None,
        _about("The share of failed calls that is tolerated beyond the old version's: 0.001 is 1 in 1000.", 0.001),
    ] = None
    slow: Annotated[Slow | None, _about("A call slower than this counts as bad.", "p99 * 1.5")] = None
    throttles: Annotated[
        bool, _about("Compare throttled calls, too: where both versions have a concurrency of their own.")
    ] = False
    alarms: Annotated[
        tuple[Filled, ...], _about("CloudWatch alarms; one that turns red rolls back.", ["greeting-5xx"])
    ] = ()
    budget: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000)] | None,
        _about("How many more requests may fail for a bad release; weight then grows with the evidence.", 50),
    ] = None
    alpha: Annotated[
        Annotated[float, Meta(gt=0, le=0.2)],
        _about("The chance, at most, that a version as good as the old one is rolled back by what is compared."),
    ] = 0.01
    minimum: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000)],
        _about("So many calls of the new version must have been measured at a step before its weight grows."),
    ] = 50
    early: Annotated[
        bool, _about("End as soon as the new version is shown to be no worse than tolerated, whatever the step.")
    ] = True
    proof: Annotated[bool, _about("And not before that has been shown: steps and times alone do not do.")] = False
    hold: Annotated[
        Duration, _about("How long fewer calls than `minimum`, a proof, or a measurement that fails are waited for.")
    ] = 1800.0
    quiet: Annotated[
        Literal["ask", "go-on", "roll-back"],
        _about("What then: a person decides (`pointsman rollout approve`), or it goes on, or back."),
    ] = "ask"
    limit: Annotated[Duration, _about("The longest that all of it may take. What is undecided then goes back.")] = (
        86_400.0
    )
    lag: Annotated[
        Lateness,
        _about(
            "How late CloudWatch's counts of a minute are complete; the function's time-out, to a minute, is added. "
            "The local AWS is never late."
        ),
    ] = 60.0
    metrics: Annotated[
        tuple[Metric, ...], _about("Compared beside errors.", {"dimensions": {"Version": "{version}"}})
    ] = ()
    checks: Annotated[
        tuple[Check, ...],
        _about("What no statistics are needed for.", {}, {"run": "./healthy.sh", "every": "1m", "failures": 2}),
    ] = ()
    traffic: Traffic | None = None

    @property
    def ramp(self) -> tuple[tuple[float, float], ...]:
        """Each step's share of traffic, in per cent below 100, and for how long it is watched at least, in seconds."""
        if self.type is not None:
            return _ramp(self.type)
        steps = self.steps or ((2.0, 50.0) if self.budget is None else (50.0,))
        return tuple((each, self.bake) for each in steps if each < 100)


def _ramp(name: Ramp) -> tuple[tuple[float, float], ...]:
    """https://docs.aws.amazon.com/codedeploy/latest/userguide/deployment-configurations.html"""
    found = re.fullmatch("(Canary|Linear)([0-9]+)Percent(?:Every)?([0-9]+)Minutes?", name)
    if found is None:
        return ()
    kind, share, minutes = found[1], int(found[2]), int(found[3])
    shares = range(share, 100, share) if kind == "Linear" else (share,)
    return tuple((float(each), minutes * 60.0) for each in shares)


class Gate(Value, frozen=True, kw_only=True):
    """Something that must pass at one moment of a rollout: a command, a URL, an approval, or a pause."""

    when: Annotated[
        Literal["before", "traffic", "step", "full", "after"],
        _about(
            "before: before anything moves. traffic: before the new version has traffic (tests of it, by its number). "
            "step: before the next step. full: before it has all traffic. after: once it has.",
            "traffic",
        ),
    ]
    at: Annotated[
        PerCent | None, _about('With "step": behind which step, in per cent. Default: each.', 10, aside=True)
    ] = None
    run: Annotated[
        Filled | None,
        _about("A shell command, in the function's source folder; exit code 0 passes.", "npm run smoke"),
    ] = None
    junit: Annotated[
        tuple[Filled, ...],
        _about("JUnit or xunit files it writes, globs allowed. Without any, the exit code decides.", ["smoke.xml"]),
    ] = ()
    url: Annotated[
        HttpUrl | None,
        _about(
            "Or a URL that must answer. {version}, {alias} and {function} are filled in.",
            "https://shop.example.com/healthy?version={version}",
            aside=True,
        ),
    ] = None
    status: Annotated[Status | None, _about("With this status. Default: any from 200 to 299.", 200, aside=True)] = None
    contains: Annotated[Filled | None, _about("With this in the first MB of what it answers.", "ok", aside=True)] = None
    timeout: Annotated[
        Duration | None, _about("After this it has failed. Default: 15m for a command, 10s for a URL.", "15m")
    ] = None
    approve: Annotated[bool, _about("Or a person must approve.", aside=True)] = False
    expires: Annotated[
        Duration | None,
        _about("For how long one is asked for, and how long one counts. Default: 4h.", "4h", aside=True),
    ] = None
    pause: Annotated[bool, _about("Or `pointsman rollout resume` must be given.", aside=True)] = False


class Window(Value, frozen=True, kw_only=True):
    """When `deploy` and `promote` may move it. Going back is always allowed; `--outside-window` is, with a name."""

    days: Annotated[
        Annotated[tuple[Day, ...], Meta(min_length=1)],
        _about("Days of the week. A window over midnight belongs to the day it opens.", ["mon", "tue", "wed", "thu"]),
    ] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    since: Annotated[Opening, _about("From when on, in the zone.", "09:00")] = msgspec.field(
        name="from", default="00:00"
    )
    to: Annotated[Closing, _about("Until when. Before `from`: on the day after.", "16:00")] = "24:00"
    zone: Annotated[Filled, _about("The time zone, of the IANA database.", "Europe/Stockholm")] = "UTC"
    freeze: Annotated[
        tuple[Frozen, ...], _about("Days without moves, in the zone.", ["2026-12-24..2027-01-02", "2026-06-19"])
    ] = ()


class Here(Value, frozen=True, kw_only=True):
    """What of a function is otherwise in this environment: its settings (direct), or its stack (cloudformation)."""

    name: Annotated[str, _KEY] = ""
    role: Annotated[
        ExecutionRole | None, _about("Instead of the function's own.", "arn:aws:iam::123456789012:role/prod-greeting")
    ] = None
    memory: Annotated[Annotated[int, Meta(ge=128, le=32_768)] | None, _about("The same.", 1024)] = None
    timeout: Annotated[Annotated[int, Meta(ge=1, le=5_400)] | None, _about("The same.", 60)] = None
    environment: Annotated[
        dict[Variable, str] | None, _about("Variables beside the function's, or over them.", {"LOG_LEVEL": "warn"})
    ] = None
    stack: Annotated[
        Stack | None, _about("The stack's name, instead of the function's.", "greeting-prod", aside=True)
    ] = None
    parameters: Annotated[
        dict[str, str], _about("Template parameters beside those, or over them.", {"LogLevel": "warn"}, aside=True)
    ] = msgspec.field(default_factory=dict)


class Environment(Value, frozen=True, kw_only=True):
    """An alias in an account and region (or several), and its policy. `deploy` goes to the first of the file."""

    name: Annotated[str, _KEY]
    alias: Annotated[AliasName, _about("The alias that callers use.", "PROD")]
    account: Annotated[
        Account | None, _about("Refused if the credentials belong to another account.", "123456789012")
    ] = None
    region: Annotated[Region | None, _about("Default: AWS_REGION, or the profile's.", "eu-west-1")] = None
    regions: Annotated[
        Annotated[tuple[Region, ...], Meta(min_length=1)],
        _about(
            "Or several: a command goes over all of them, or over the one that `--region` names.",
            ["eu-west-1", "us-east-1"],
            aside=True,
        ),
    ] = ()
    waves: Annotated[
        Annotated[tuple[tuple[Region, ...], ...], Meta(min_length=1)],
        _about(
            "Which of them move together, wave by wave: where one is bad, all that moved go back. "
            "Default: one region after the other. Without `regions`, these are the regions.",
            [["eu-west-1"], ["us-east-1", "ap-southeast-2"]],
            aside=True,
        ),
    ] = ()
    profile: Annotated[
        Filled | None,
        _about(
            "Whose credentials, of ~/.aws/config. A CI job whose machine has no such profile uses its own credentials.",
            "prod",
        ),
    ] = None
    role_arn: Annotated[
        RoleArn | None,
        _about(
            "A role to assume with them; in a CI job without credentials, by the job's own identity (OIDC).",
            "arn:aws:iam::123456789012:role/deployer",
        ),
    ] = None
    external_id: Annotated[
        ExternalId | None, _about("What the role's trust policy asks for.", "greeting-7f3a", aside=True)
    ] = None
    mfa_serial: Annotated[
        Mfa | None,
        _about(
            "The MFA device that the trust policy asks for. Its code: `--mfa`, POINTSMAN_MFA_CODE, or asked for.",
            "arn:aws:iam::111122223333:mfa/ada",
            aside=True,
        ),
    ] = None
    role_duration: Annotated[
        Duration | None,
        _about(
            "How long the role's credentials last, 15m to 12h; they are renewed in time. Default: an hour.",
            "4h",
            aside=True,
        ),
    ] = None
    web_identity_token_file: Annotated[
        Filled | None,
        _about("A file with an OIDC token by which the role is assumed.", "/run/secrets/oidc-token", aside=True),
    ] = None
    bucket: Annotated[
        Bucket | None,
        _about(
            "In S3, in the region: packages go through it (above 50 MB they must), and what stacks need.",
            "greeting-packages",
        ),
    ] = None
    approve: Annotated[bool, _about("Moves need a person's approval.")] = False
    like: Annotated[
        Filled | None,
        _about(
            "The environment whose alias is the model of this one's: when it is made, it gets what that one has "
            "(permissions and so on: branches.copy). Default: it gets nothing.",
            "staging",
            aside=True,
        ),
    ] = None
    rollout: Rollout | None = None
    gates: Annotated[
        tuple[Gate, ...],
        _about("", {"when": "traffic", "run": "npm run smoke"}, {"when": "step", "approve": True}),
    ] = ()
    window: Window | None = None
    functions: Annotated[dict[Name, Here], Meta(examples=["greeting"], extra={"aside": True})] = msgspec.field(
        name="function", default_factory=dict
    )
    branch: Annotated[str, _KEY] = ""  # the git branch or pull request an alias is named after


class Branches(Value, frozen=True, kw_only=True):
    """Aliases named after git branches: `pointsman deploy --branch`."""

    like: Annotated[
        Filled | None,
        _about(
            "The environment whose account, region and credentials they share, and whose alias is their model. "
            "Default: the first of the file.",
            "production",
        ),
    ] = None
    copy: Annotated[
        tuple[Belonging, ...],
        _about(
            "What a new alias gets of what its model alias has.",
            ["policy", "event-invoke", "event-sources", "provisioned-concurrency"],
        ),
    ] = ("policy", "event-invoke")
    preview: Annotated[bool, _about("Give each of them a function URL.")] = False
    preview_auth: Annotated[
        Literal["AWS_IAM", "NONE"], _about('Who may call it: signed requests, or with "NONE" everybody who knows it.')
    ] = "AWS_IAM"
    protect: Annotated[
        tuple[Filled, ...], _about("Aliases and branches that are never deleted.", ["STAGE", "PROD", "main"])
    ] = ()
    role: Annotated[
        Literal["shared", "per-branch"],
        _about(
            "The execution role of a branch's versions: the function's, or a clone of it that goes with the branch."
        ),
    ] = "shared"
    role_guard: Annotated[
        Literal["off", "warn", "refuse"],
        _about("When a branch shares its role with an environment's version, or the role changed since that version."),
    ] = "warn"


Service: TypeAlias = Literal[
    "event-sources", "cloudformation", "apigateway", "apigatewayv2", "stepfunctions", "events", "scheduler", "pipes",
    "s3", "sns", "cognito", "cloudfront",
]  # fmt: skip


class Retention(Value, frozen=True, kw_only=True):
    """What `prune` keeps beside what is in use. The rules add up: a version goes where none of them keeps it."""

    keep_deployments: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)], _about("Of each alias, the newest: what a rollback would want.")
    ] = 10
    keep_days: Annotated[Annotated[int, Meta(ge=0, le=36_500)], _about("Whatever is younger.")] = 30
    keep_versions: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)], _about("Of each function and layer, the newest.")
    ] = 10
    pins: Annotated[
        tuple[Filled, ...],
        _about(
            'Versions that are never deleted: "7", a build\'s id, "version:7", "build:101", or any of one function.',
            ["101", "checkout:7", "checkout:build:101"],
        ),
    ] = ()
    only: Annotated[
        tuple[Filled, ...],
        _about("Functions and layers that may be pruned, by Lambda's names. Default: all.", ["shop-*"]),
    ] = ()
    but: Annotated[
        tuple[Filled, ...],
        _about("Those that are left alone, by Lambda's names.", ["*-audit"]),
    ] = msgspec.field(name="except", default=())
    layers: Annotated[bool, _about("Prune layers' versions, too.")] = True
    skip: Annotated[
        tuple[Service, ...],
        _about("Services that are not looked at, for nothing there names a version by its number.", ["cognito"]),
    ] = ()
    thorough: Annotated[
        bool,
        _about(
            "Ask every version for permissions of its own before it is deleted, and while planning every function for "
            "provisioned concurrency: a call more for each."
        ),
    ] = False


class Ledger(Value, frozen=True, kw_only=True):
    """The record of builds, releases and alias moves."""

    url: Annotated[
        LedgerUrl,
        _about(
            "A file for one machine; a DynamoDB table for a team. A table takes several ledgers: dynamodb://TABLE/NAME."
        ),
    ] = "sqlite:.pointsman/ledger.db"
    region: Annotated[
        Region | None, _about("The table's. Default: AWS_REGION, or the profile's.", "eu-west-1", aside=True)
    ] = None
    profile: Annotated[Filled | None, _about("Whose credentials reach it, of ~/.aws/config.", "tools", aside=True)] = (
        None
    )
    role_arn: Annotated[
        RoleArn | None,
        _about("A role to assume with them.", "arn:aws:iam::123456789012:role/ledger", aside=True),
    ] = None
    keep_days: Annotated[
        Annotated[int, Meta(ge=30, le=36_500)] | None,
        _about(
            "In a table, outcomes of calls and what rollouts went through go after so long. Default: never.",
            400,
            aside=True,
        ),
    ] = None

    @property
    def table(self) -> tuple[str, str]:
        """The DynamoDB table, and which of its ledgers; ("", "") where it is a file."""
        head, _, rest = self.url.partition("://")
        table, _, name = rest.partition("/") if head == "dynamodb" else ("", "", "")
        return table, name


class Backup(Value, frozen=True, kw_only=True):
    """Where versions, their configuration and all that hangs on them are kept beside Lambda."""

    to: Annotated[
        BackupPlace | None, _about("A folder, or a place in S3. Default: `--to` says it.", "s3://acme-backups/lambda")
    ] = None
    after_publish: Annotated[
        bool, _about("Each version that a deploy publishes is kept there, before an alias moves to it.")
    ] = False
    region: Annotated[
        Region | None, _about("The bucket's. Default: the environment's.", "eu-central-1", aside=True)
    ] = None
    profile: Annotated[
        Filled | None,
        _about("Whose credentials reach it, of ~/.aws/config. Default: the environment's.", "vault", aside=True),
    ] = None
    role_arn: Annotated[
        RoleArn | None,
        _about("A role to assume with them.", "arn:aws:iam::123456789012:role/backup", aside=True),
    ] = None
    kms_key: Annotated[
        Filled | None,
        _about(
            "The KMS key that S3 is to encrypt with. Default: the bucket's own way.", "alias/lambda-backup", aside=True
        ),
    ] = None


class Project(Value, frozen=True, kw_only=True):
    """The whole file. `root` is its folder: every path in it is relative to that."""

    file: Annotated[Path, _KEY]
    root: Annotated[Path, _KEY]
    functions: Annotated[dict[Name, Function], Meta(min_length=1, examples=["greeting"])] = msgspec.field(
        name="function"
    )
    layers: Annotated[dict[Name, Layer], Meta(examples=["common"])] = msgspec.field(name="layer", default_factory=dict)
    environments: Annotated[dict[Name, Environment], Meta(examples=["production"])] = msgspec.field(
        name="environment", default_factory=dict
    )
    branches: Branches = Branches()
    retention: Retention = Retention()
    backup: Backup = Backup()
    ledger: Ledger = Ledger()


def find(start: Path) -> Path:
    """The nearest pointsman.toml from `start` upwards; not beyond the git repository that `start` is in."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / NAME).is_file():
            return folder / NAME
        if (folder / ".git").exists():
            break
    raise UsageError(
        f"there is no {NAME} in {start} or above it",
        next="`pointsman init` looks at the folder and writes one.",
    )


def load(file: Path) -> Project:
    """The file's project. Raises ConfigInvalid with all its problems, also when it cannot be read."""
    try:
        text = file.read_bytes().decode("utf-8-sig")  # Windows editors put a mark in front
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigInvalid(str(file), (f"line {line} is not UTF-8 text; save the file as UTF-8",)) from error
    except OSError as error:
        raise ConfigInvalid(str(file), (f"cannot be read: {error.strerror}",)) from error
    return parse(text, file=file)


def parse(text: str, *, file: Path) -> Project:
    """The project that `text` describes; paths in it are looked up beside `file`. Raises ConfigInvalid."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(str(file), (_syntax(str(error), text),)) from error
    except (RecursionError, ValueError) as error:  # tomllib lets these two through as they are
        what = "is not TOML that can be read: nested too deeply, or a number of thousands of digits"
        raise ConfigInvalid(str(file), (what,)) from error
    reader = _Reader(file.resolve().parent)
    project = reader.table(_root(), raw, (), {"file": file, "root": reader.root})
    if reader.problems:
        raise ConfigInvalid(str(file), tuple(reader.problems))
    assert isinstance(project, Project)
    return project


def _syntax(message: str, text: str) -> str:
    """tomllib's message, the place in front and the line itself behind."""
    found = re.fullmatch(r"(.*?) \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)", message, re.DOTALL)
    what, line, column = found.groups() if found else (message, None, None)
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    place = f"line {line}, column {column}" if line else f"line {len(lines)}, at the end"
    if "overwrite" in what or "twice" in what:
        what = "a key or table stands twice"
    there = lines[min(int(line or len(lines)), len(lines)) - 1].strip()
    return f"{place}: not TOML: {what[:1].lower()}{what[1:]}, in {_shown(there)}"


# Reading. `Any` is what TOML gave. A value that is no good becomes _BROKEN, which no rule takes for anything; tables
# are built around it, so that their other values are still compared, and thrown away once all problems are said.

_BROKEN: Any = object()
_At: TypeAlias = tuple[str, ...]


@functools.cache
def _root() -> mi.StructType:
    kind = mi.type_info(Project)
    assert isinstance(kind, mi.StructType)
    return kind


def _bare(kind: mi.Type) -> tuple[mi.Type, dict[str, Any]]:
    """Without its annotations and `| None` (TOML has no null); what the annotations say beside it."""
    extra: dict[str, Any] = {}
    while True:
        match kind:
            case mi.Metadata(type=inner):
                extra |= {**(kind.extra_json_schema or {}), **(kind.extra or {})}
                kind = inner
            case mi.UnionType(types=types) if any(isinstance(each, mi.NoneType) for each in types):
                rest = tuple(each for each in types if not isinstance(each, mi.NoneType))
                kind = rest[0] if len(rest) == 1 else mi.UnionType(types=rest)
            case _:
                return kind, extra


def _fields(struct: mi.StructType) -> dict[str, tuple[mi.Field, mi.Type, dict[str, Any]]]:
    """What may be written in its table: key → field, bare type, what its annotations say."""
    bare = {field.encode_name: (field, *_bare(field.type)) for field in struct.fields}
    return {key: each for key, each in bare.items() if "key" not in each[2]}


def _tables(kind: mi.Type) -> tuple[mi.StructType, ...]:
    """The tables that may stand under a key; none under a plain value."""
    match kind:
        case mi.StructType() as only:
            return (only,)
        case mi.VarTupleType(item_type=mi.StructType() as entry):
            return (entry,)
        case mi.DictType(value_type=mi.StructType() as entry):
            return (entry,)
        case mi.UnionType(types=types):
            return tuple(each for each in types if isinstance(each, mi.StructType))
        case _:
            return ()


def _may_be_true(struct: mi.StructType) -> bool:
    """Whether `true` means the table with all its defaults, and `false` none."""
    return struct.cls is Bundle


def _default(field: mi.Field) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


class _Reader:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []

    def problem(self, at: _At, what: str) -> Any:
        self.problems.append(f"{_dotted(at)} {what}" if at else what)
        return _BROKEN

    def value(self, kind: mi.Type, raw: Any, at: _At) -> Any:
        kind, extra = _bare(kind)
        match kind:
            case mi.StructType():
                if isinstance(raw, bool) and _may_be_true(kind):
                    return self.table(kind, {}, at, {}) if raw else None
                return self.table(kind, raw, at, {})
            case mi.UnionType():
                return self.choice({str(each.tag): each for each in _tables(kind)}, raw, at)
            case mi.DictType(min_length=least) if isinstance(raw, dict) and len(raw) >= (least or 0):
                return self.named(kind, raw, at)
            case mi.VarTupleType(item_type=item_type) if isinstance(raw, dict if _tables(kind) else str):
                # One is a list of one.
                return self.all_good([self.value(item_type, raw, at)])
            case mi.VarTupleType(item_type=item_type, min_length=least, max_length=most):
                if isinstance(raw, list) and (least or 0) <= len(raw) <= (most or len(raw)):
                    places = [(*at[:-1], f"{at[-1]}[{i}]") for i in range(len(raw))]
                    return self.all_good([self.value(item_type, *each) for each in zip(raw, places, strict=True)])
            case _ if (fit := _fitting(kind, raw, extra)) is not _BROKEN:
                return fit
        options = kind.values if isinstance(kind, mi.LiteralType) else extra.get("known", ())
        return self.problem(at, f"is {_shown(raw)}; must be {_words(kind, extra, at)}{_guess(raw, options)}")

    def all_good(self, items: list[Any]) -> Any:
        return _BROKEN if _BROKEN in items else tuple(items)

    def table(self, struct: mi.StructType, raw: Any, at: _At, filled: Mapping[str, Any]) -> Any:
        """The struct, after all problems of the table are said."""
        if not isinstance(raw, dict):
            return self.problem(at, f"is {_shown(raw)}; must be {_words(struct, {}, at)}")
        fields = _fields(struct)
        values: dict[str, Any] = dict(filled)
        for key, item in raw.items():
            if key in fields:
                field, _, _ = fields[key]
                values[field.name] = self.value(field.type, item, (*at, key))
            elif key != struct.tag_field:
                self.problem((*at, key), _unknown(key, fields))
        for key, (field, kind, extra) in fields.items():
            if field.name in values or "derived" in extra:
                continue
            values[field.name] = _default(field)
            if field.required:
                values[field.name] = self.problem((*at, key), f"is missing; must be {_words(kind, extra, (*at, key))}")
        for *below, what in _RULES.get(struct.cls, _no_rules)(values, at, self.root):
            self.problem((*at, *below), what)
        return struct.cls(**values)

    def named(self, kind: mi.DictType, raw: dict[str, Any], at: _At) -> dict[str, Any]:
        """A table of the user's own keys."""
        read: dict[str, Any] = {}
        key_kind, extra = _bare(kind.key_type)
        for key, item in raw.items():
            here = (*at, key)
            if _fitting(key_kind, key, extra) is _BROKEN:
                self.problem(here, f"cannot be called so; must be {_words(key_kind, extra, here)}")
            if isinstance(kind.value_type, mi.StructType) and isinstance(item, dict):
                read[key] = self.table(kind.value_type, item, here, {"name": key})
            elif isinstance(kind.value_type, mi.StructType):
                self.problem(here, f"is {_shown(item)}; must be in a table with a name, [{_dotted(at)}.NAME]")
            elif isinstance(item, str):
                read[key] = item
            else:
                # The value is not repeated: a variable may be a secret, and problems end up in CI logs.
                self.problem(here, f"is {_sort(item)}; must be a string, in quotes")
        return read

    def choice(self, kinds: Mapping[str, mi.StructType], raw: Any, at: _At) -> Any:
        """One of several tables, told apart by their `with`."""
        if not isinstance(raw, dict):
            return self.problem(at, f'is {_shown(raw)}; must be a table such as {{ with = "{next(iter(kinds))}", … }}')
        chosen = raw.get("with")
        if isinstance(chosen, str) and chosen in kinds:
            return self.table(kinds[chosen], raw, at, {})
        says = "is missing" if chosen is None else f"is {_shown(chosen)}"
        return self.problem((*at, "with"), f"{says}; must be {_or(kinds)}{_guess(chosen, kinds)}")


def _fitting(kind: mi.Type, raw: Any, extra: Mapping[str, Any]) -> Any:
    """`raw` as the plain type `kind`, or _BROKEN."""
    try:
        if "read" in extra:
            return extra["read"](raw)
        match kind, raw:
            case mi.CustomType(cls=cls), str():
                return cls(raw)
            case mi.LiteralType(values=values), str() if raw in values:
                return raw
            case mi.BoolType(), bool():
                return raw
            case mi.StrType(min_length=least, max_length=most), str():
                fits = len(raw.strip()) >= (least or 0) and (most is None or len(raw) <= most)
                return raw if fits and re.fullmatch(extra.get("pattern", r"[\s\S]*"), raw) else _BROKEN
            case mi.IntType(), int() if not isinstance(raw, bool) and _within(kind, raw):
                return raw
            case mi.FloatType(), int() | float() if not isinstance(raw, bool) and _within(kind, raw):
                return float(raw)
    except ValueError:
        pass  # the rule of a Text or of a duration: the caller says it in words
    return _BROKEN


def fits(kind: Any, raw: object) -> bool:
    """Whether a plain type of this file, such as `Region`, takes a value."""
    bare, extra = _bare(mi.type_info(kind))
    return _fitting(bare, raw, extra) is not _BROKEN


def _within(kind: mi.IntType | mi.FloatType, raw: float) -> bool:
    """Asked positively, so that nan is never within."""
    return (
        (kind.ge is None or raw >= kind.ge)
        and (kind.gt is None or raw > kind.gt)
        and (kind.le is None or raw <= kind.le)
        and (kind.lt is None or raw < kind.lt)
    )


# Rules over several keys of a table: they yield (key, …, problem), and fill in what the file leaves out.

_Problems: TypeAlias = Iterator[tuple[str, ...]]


def _no_rules(_values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    return iter(())


_NEEDS: dict[str, tuple[str, ...]] = {
    "python": (),
    "node": (),
    "ruby": (),
    "java": (),
    "go": (),
    "dotnet": (),
    "rust": (),
    "make": (),
    "command": ("command", "artifact"),
    "zip": ("artifact",),
    "image": ("image",),
}
_GIVEN = {"command": "command", "artifact": "zip", "image": "image"}
_USED_BY = {  # the builds that a key is for
    "bundle": ("node",),
    "sdk": ("python", "node"),
    "target": ("make", "rust", "go"),
    "shared": ("python", "node", "ruby", "java", "go", "dotnet", "rust", "make"),
}


def _function(values: dict[str, Any], at: _At, root: Path) -> _Problems:
    source, runtime, handler = values["source"], values["runtime"], values["handler"]
    if isinstance(source, str) and not _exists(root, source, Path.is_dir):
        yield "source", f"is {_shown(source)}; must be a folder, and there is none of this name beside the file"
    if "build" not in values:
        given = (build for key, build in _GIVEN.items() if values[key] is not None)
        values["build"] = next(given, None) or _built(root, source, runtime)
        if values["build"] is None:
            yield "build", f"is missing, and neither the runtime nor the source tells it; must be {_or(_NEEDS)}"
    for key in _GIVEN if values["build"] in _NEEDS else ():
        if key in _NEEDS[values["build"]]:
            if values[key] is None:
                yield key, f'is missing; must be given with build = "{values["build"]}"'
        elif values[key] is not None:
            users = [build for build, keys in _NEEDS.items() if key in keys]
            yield key, f'has no use with build = "{values["build"]}"; must go (or be for build = {_or(users)})'
    if values["build"] == "image":
        for key in ("handler", "runtime"):
            if values[key] not in (None, _BROKEN):
                yield key, 'has no use with build = "image", which brings its own; must go (`image_config.command`)'
        if getattr(values.get("provision"), "layers", None):
            yield "provision", "layers", 'has no use with build = "image"; must go: copy them into the image'
        for below in (("package",), ("inputs", "package")):
            if _at_end(values.get("provision"), below):
                yield "provision", *below, 'has no use with build = "image", which is no zip; must go'
    elif values["image_config"] is not None:
        yield "image_config", f'has no use with build = "{values["build"]}"; must go'
    if values["image_config"] is not None and not isinstance(values.get("provision"), Direct):
        yield "image_config", 'has no use where somebody else has the settings; must go, or provision be "direct"'
    for below in (("code_parameters", "image"), ("inputs", "image")):
        if values["build"] in _NEEDS and values["build"] != "image" and _at_end(values.get("provision"), below):
            yield (
                "provision",
                *below,
                f'has no use with build = "{values["build"]}"; must go (or be for build = "image")',
            )
    if values["build"] == "image" and _at_end(values.get("provision"), ("code_parameters", "key")):
        yield "provision", "code_parameters", "key", 'has no use with build = "image"; must be `image` instead'
    for key, builds in _USED_BY.items():
        if values["build"] in _NEEDS and values["build"] not in builds and values[key] not in (None, (), "keep"):
            yield key, f'has no use with build = "{values["build"]}"; must go (or be for build = {_or(builds)})'
    if (
        isinstance(handler, str)
        and str(runtime).startswith(("python", "nodejs"))
        and not re.search(r"[^.]\.[^.]", handler)
    ):
        yield "handler", f"is {_shown(handler)}; must be FILE.FUNCTION for {runtime}, such as index.handler"
    if "provision" not in values:
        values["provision"] = Existing(name=_own_name(at[-1]))


_FAMILIES = {"python": "python", "nodejs": "node", "ruby": "ruby", "java": "java", "go1": "go", "dotnet": "dotnet"}
_MARKS = (  # what a source holds, and how it is built then, where the runtime does not say
    ("node", ("package.json", "index.js", "index.mjs", "index.cjs")),
    ("python", ("requirements.txt", "pyproject.toml", "Pipfile", "*.py")),
    ("java", ("pom.xml", "build.gradle", "build.gradle.kts")),
    ("ruby", ("Gemfile",)),
    ("go", ("go.mod",)),
    ("rust", ("Cargo.toml",)),
    ("dotnet", ("*.csproj", "*.fsproj", "*.vbproj")),
    ("make", ("Makefile",)),
)
_PROVIDED = ("go", "rust", "dotnet", "make")  # what becomes a program, for runtimes that run any


_LAYER_NEEDS: dict[str, tuple[str, ...]] = {
    "python": (),
    "node": (),
    "folder": (),
    "command": ("command", "artifact"),
    "zip": ("artifact",),
}
_LAYER_GIVEN = {"command": "command", "artifact": "zip"}


def _at_end(value: Any, below: tuple[str, ...]) -> Any:
    """What stands there in a table and its tables; None where nothing does."""
    for key in below:
        value = getattr(value, key, None)
    return value


def _layer(values: dict[str, Any], _at: _At, root: Path) -> _Problems:
    source, runtimes = values["source"], values["runtimes"]
    there = _exists(root, source, Path.is_dir) if isinstance(source, str) else True
    if not there:
        yield "source", f"is {_shown(source)}; must be a folder, and there is none of this name beside the file"
    if "build" not in values:
        given = (build for key, build in _LAYER_GIVEN.items() if values[key] is not None)
        values["build"] = next(given, None) or _made_of(root / str(source))
    for key in _LAYER_GIVEN if values["build"] in _LAYER_NEEDS else ():
        if key in _LAYER_NEEDS[values["build"]] and values[key] is None:
            yield key, f'is missing; must be given with build = "{values["build"]}"'
        elif key not in _LAYER_NEEDS[values["build"]] and values[key] is not None:
            users = [build for build, keys in _LAYER_NEEDS.items() if key in keys]
            yield key, f'has no use with build = "{values["build"]}"; must go (or be for build = {_or(users)})'
    family = {"python": "python", "node": "nodejs"}.get(str(values["build"]))
    for n, each in enumerate(runtimes if isinstance(runtimes, tuple) and family else ()):
        if not str(each).startswith(str(family)):
            yield f"runtimes[{n}]", f'is {_shown(each)}; must be one of {family} with build = "{values["build"]}"'


def _made_of(source: Path) -> str:
    """How to build a layer by what its source holds."""
    for build, names in (("python", ("requirements.txt", "pyproject.toml", "uv.lock")), ("node", ("package.json",))):
        if any(_exists(source, name, Path.is_file) for name in names):
            return build
    return "folder"


def _built(root: Path, source: Any, runtime: Any) -> str | None:
    """How to build by the runtime, else by what the source holds; None where neither tells."""
    for family, build in _FAMILIES.items():
        if isinstance(runtime, str) and runtime.startswith(family):
            return build
    if _BROKEN in (source, runtime) or not _exists(root, source, Path.is_dir):
        return "python"  # the problem is said already, and nothing is built
    for build, patterns in _MARKS:
        if runtime is not None and build not in _PROVIDED:
            continue
        if any(next((root / source).glob(pattern), None) for pattern in patterns):
            return build
    return None


def _own_name(table: str) -> Any:
    return FunctionName(table) if FunctionName.pattern.fullmatch(table) else _BROKEN


def _exists(root: Path, path: str, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(root / path)
    except (OSError, ValueError):  # too long, or a null character
        return False


def _cloudformation(values: dict[str, Any], _at: _At, root: Path) -> _Problems:
    template = values["template"]
    if values["code"] and values["code_parameters"]:
        yield "code", "stands beside `code_parameters`; must go, or `code_parameters` must"
    if isinstance(template, str) and not _exists(root, template, Path.is_file):
        yield "template", f"is {_shown(template)}; must be a file, and there is none of this name beside this one"


def _code_parameters(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    if values["key"] is None and values["image"] is None:
        yield "key", "is missing; must be the parameter for the object's key (or `image`, for a container image's URI)"
    if values["image"] is not None:
        for key in ("key", "bucket", "version"):
            if values[key] is not None:
                yield key, "stands beside `image`; must go, or `image` must"


def _terraform(values: dict[str, Any], _at: _At, root: Path) -> _Problems:
    directory = values["directory"]
    if isinstance(directory, str) and not _exists(root, directory, Path.is_dir):
        yield "directory", f"is {_shown(directory)}; must be a folder, and there is none of this name beside the file"


def _direct(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    variables = values["environment"]
    if (
        isinstance(variables, dict)
        and (size := sum(len(f"{key}{each}".encode()) for key, each in variables.items())) > 4096
    ):
        yield "environment", f"is {size} bytes in all; must be 4096 at most"


def _existing(values: dict[str, Any], at: _At, _root: Path) -> _Problems:
    values.setdefault("name", _own_name(at[-2]))  # function.NAME.provision
    return iter(())


def _rollout(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    steps, ramp = values["steps"], values["type"]
    if _BROKEN not in (steps, ramp):
        if any(later <= earlier for earlier, later in pairwise(steps)):
            yield "steps", f"is {toml(steps)}; must go up, each step above the one before"
        if steps and ramp:
            yield "type", "stands beside `steps`; must go, or `steps` must"
    if isinstance(values["slow"], str) and re.search(r"\* ?0+(\.0+)?$", values["slow"]):
        yield "slow", f"is {_shown(values['slow'])}, by which every call is slow; must be times more than 0"
    waits = [values[each] for each in ("bake", "hold", "limit")]
    if _BROKEN not in waits and max(waits[:2]) >= waits[2]:
        which = "bake" if waits[0] >= waits[2] else "hold"
        yield "limit", f"is over before `{which}` is; must be longer than that"
    metrics = values["metrics"] if isinstance(values["metrics"], tuple) else ()
    taken = {"errors", "slow", "throttles"}
    for i, each in enumerate(metrics):
        if each.name in taken:
            yield f"metrics[{i}]", "name", f"is {_shown(each.name)}, which is another signal's; must be another"
        taken |= {each.name} - {_BROKEN}
    shared = 1 + (values["slow"] is not None) + (values["throttles"] is True) + len(metrics)
    if values["alpha"] is not _BROKEN and values["alpha"] / shared < _LEAST_ALPHA:
        least, whom = f"{shared * _LEAST_ALPHA:.7f}".rstrip("0"), f"metric{'s' * (shared > 1)}"
        yield "alpha", f"is {_shown(values['alpha'])}, shared by {shared} {whom}; must be at least {least}"


def _metric(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    dimensions = values["dimensions"]
    if isinstance(dimensions, dict) and not any("{version}" in each for each in dimensions.values()):
        yield "dimensions", "tell no version apart; must have one with {version}"
    if values["extra"] is not None and values["ratio"] is not None:
        yield "ratio", "stands beside `extra`; must go, or `extra` must"


_KINDS = {  # what a gate or check may be → what else only that may say
    "run": ("junit", "timeout"),
    "url": ("status", "contains", "timeout"),
    "approve": ("expires",),
    "pause": (),
}


def _gate(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    kinds = [key for key in _KINDS if values.get(key) not in (None, False)]
    if len(kinds) != 1:
        choice = " or ".join(f"`{key}`" for key in _KINDS if key in values)
        what = f"stands beside `{kinds[0]}`; must go, or that must" if kinds else "is missing; must be given"
        yield kinds[1] if kinds else "run", what + ("" if kinds else f": exactly one of {choice}")
    elif values[kinds[0]] is not _BROKEN:
        for key in ("junit", "status", "contains", "timeout", "expires"):
            users = [kind for kind, own in _KINDS.items() if key in own]
            if kinds[0] not in users and values.get(key) not in (None, (), _BROKEN):
                yield key, f"has no use with `{kinds[0]}`; must go (it belongs to {_or(users)})"
    if values.get("at") is not None and values["when"] not in ("step", _BROKEN):
        yield "at", f'has no use with when = "{values["when"]}"; must go, or `when` be "step"'


def _window(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    if isinstance(zone := values["zone"], str):
        import zoneinfo

        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            guess = _guess(zone, zoneinfo.available_timezones())
            yield "zone", f'is {_shown(zone)}; must be a time zone such as "Europe/Stockholm"{guess}'
    if values["since"] is not _BROKEN and values["since"] == values["to"]:
        yield "to", f"is {_shown(values['to'])}, as `from`; must be another time"
    for i, each in enumerate(values["freeze"] if isinstance(values["freeze"], tuple) else ()):
        try:
            first, last = (date.fromisoformat(day) for day in (each.split("..") * 2)[:2])
        except ValueError:
            yield f"freeze[{i}]", f"is {_shown(each)}; must be days that there are"
        else:
            if last < first:
                yield f"freeze[{i}]", f"is {_shown(each)}; must end after it begins"


def _environment(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    account, role = values["account"], values["role_arn"]
    if isinstance(account, str) and isinstance(role, str) and _account(role) != account:
        yield "role_arn", f"is a role of account {_account(role)}; must be one of `account`, {account}"
    yield from _regions(values)
    for key in ("external_id", "mfa_serial", "role_duration", "web_identity_token_file"):
        if values[key] not in (None, _BROKEN) and role is None:
            yield key, "has no use without a role to assume; must go (or `role_arn` must be given)"
    lasts = values["role_duration"]
    if isinstance(lasts, float) and not 900 <= lasts <= 43_200:
        yield "role_duration", f"is {_shown(_duration(lasts))}; must be from 15m to 12h, which AWS allows"
    if values["web_identity_token_file"] and (values["mfa_serial"] or values["external_id"]):
        yield "web_identity_token_file", "stands beside mfa_serial or external_id, which an OIDC token takes no part in"
    rollout = values["rollout"]
    if rollout is _BROKEN or (rollout and _BROKEN in (rollout.steps, rollout.type, rollout.budget)):
        return
    if rollout is None and isinstance(values["gates"], tuple) and values["gates"]:
        yield (
            "gates",
            'stand without a rollout; must have one: `rollout = { type = "AllAtOnce" }` moves at once, by them',
        )
        return
    ramp = [share for share, _ in rollout.ramp] if rollout else []
    for i, each in enumerate(values["gates"] if isinstance(values["gates"], tuple) else ()):
        if each.when == "step" and not ramp:
            yield (
                f"gates[{i}]",
                "when",
                'is "step", and there are no steps; must be another, or `rollout` must have some',
            )
        elif each.when == "step" and isinstance(each.at, float) and each.at not in ramp:
            yield f"gates[{i}]", "at", f"is {toml(each.at)}; must be one of the rollout's steps, {toml(ramp)}"


def _regions(values: dict[str, Any]) -> _Problems:
    """`waves` name each of `regions` once; without `regions`, they are the regions."""
    regions, waves = values["regions"], values["waves"]
    if _BROKEN in (regions, waves):
        return
    named = tuple(each for wave in waves for each in wave)
    if (regions or waves) and values["region"]:
        yield "region", "stands beside `regions`, which says it too; must go"
    if any(count > 1 for count in Counter(regions or named).values()):
        yield "regions" if regions else "waves", "names a region twice; must name each once"
    elif waves and regions and sorted(named) != sorted(regions):
        yield "waves", f"has {_or(named) or 'none'}; must name each of `regions` once"
    elif waves and not all(waves):
        yield "waves", "has an empty wave; must have a region in each"
    elif waves:
        values["regions"] = named


def _account(role_arn: str) -> str:
    return role_arn.split(":")[4]


def _project(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    """No two environments may move one alias, no two tables release one function; branches are like one there is."""
    if isinstance(values["branches"], Branches) and (like := values["branches"].like) not in (None, _BROKEN):
        names = [name for name, _ in _entries(values["environments"])]
        if like not in names:
            yield "branches", "like", f"is {_shown(like)}; must be an environment of the file{_guess(like, names)}"
    places: dict[object, str] = {}
    for name, each in _entries(values["environments"]):
        account = each.account or (_account(each.role_arn) if isinstance(each.role_arn, str) else each.profile)
        for place in ((each.alias, account, region) for region in _of(each.regions) or (each.region,)):
            if _BROKEN in place or (other := places.setdefault(place, name)) == name:
                continue
            what = f"is {_shown(each.alias)}, which is environment.{other}'s; must be another alias, account or region"
            yield "environment", name, "alias", what
    environments = dict(_entries(values["environments"]))
    for name, each in environments.items():
        if each.like in (None, _BROKEN):
            continue
        model = environments.get(each.like)
        same = model and (model.account, model.region, model.regions) == (each.account, each.region, each.regions)
        if not same or each.like == name:
            what = "another environment of the file, of the same account and region"
            yield "environment", name, "like", f"is {_shown(each.like)}; must be {what}"
    layers = dict(_entries(values["layers"]))
    called: dict[str, str] = {}
    for name, layer in layers.items():
        own = layer.published_as or name
        if own is not _BROKEN and (other := called.setdefault(own, name)) != name:
            yield "layer", name, "name", f"is {_shown(own)}, which is layer.{other}'s; must be another"
    for name, each in _entries(values["functions"]):
        for problem in _named_layers(each, layers):
            yield "function", name, *problem
        for environment, place in environments.items():
            yield from _in_place(each, place, ("environment", environment))
    for name, each in environments.items():
        for function, _ in _entries(each.functions):
            there = [named for named, _ in _entries(values["functions"])]
            if function not in there:
                what = f"is not a function of the file{_guess(function, there)}"
                yield "environment", name, "function", function, what
    owners: dict[object, str] = {}
    for name, each in _entries(values["functions"]):
        match each.provision:
            case CloudFormation(stack=stack, function=function):
                owned = (stack, function)
            case Direct(name=own) | Existing(name=own):
                owned = ("", own or name)
            case _:
                continue
        if _BROKEN not in owned and (other := owners.setdefault(owned, name)) != name:
            yield "function", name, f"is the same Lambda function as function.{other}; must be another, or go"


def _of(values: Any) -> tuple[Any, ...]:
    return values if isinstance(values, tuple) else ()


def _in_place(function: Function, environment: Environment, at: _At) -> _Problems:
    """What an environment says of a function is its owner's to have; and who owns it can be told for that place."""
    here: Here | None = dict(_entries(environment.functions)).get(function.name)
    provision: Any = function.provision  # or _BROKEN
    owned: dict[str, type] = dict.fromkeys(("role", "memory", "timeout", "environment"), Direct)
    owned |= dict.fromkeys(("stack", "parameters"), CloudFormation)
    for key, kind in owned.items() if here and provision is not _BROKEN else ():
        if getattr(here, key) and not isinstance(provision, kind):
            with_ = "direct" if kind is Direct else "cloudformation"
            what = f'has no use here; function.{function.name} must have provision = {{ with = "{with_}", … }}'
            yield *at, "function", function.name, key, what
    role = (here.role if here else None) or (provision.role if isinstance(provision, Direct) else "")
    if role is not _BROKEN and "{account}" in role and not (environment.account or environment.role_arn):
        yield *at, "account", f"is missing; must be given, for function.{function.name} has {{account}} in its role"
    if (
        environment.regions
        and isinstance(provision, Terraform)
        and not any("{region}" in each for each in (str(provision.workspace), *provision.backend.values()))
    ):
        what = f"are several, and function.{function.name} has one state; must have {{region}} in workspace or backend"
        yield *at, "regions", what


def _named_layers(function: Function, layers: Mapping[str, Layer]) -> _Problems:
    """Every layer that a function names is in the file, once, and made for what the function is."""
    named: Any = function.provision.layers if isinstance(function.provision, Direct) else ()
    for n, ref in enumerate(() if named is _BROKEN else named):
        here = ("provision", f"layers[{n}]")
        if ref.startswith("arn:"):
            continue
        if ref not in layers:
            there = f"one of {_or(layers)}" if layers else "in a table of its own"
            yield *here, f"is {_shown(ref)}; must be the name of a [layer.NAME]: {there}{_guess(ref, layers)}"
            continue
        if ref in named[:n]:
            yield *here, f"is {_shown(ref)} once more; must stand once"
        fits: tuple[tuple[str, Any, Any], ...] = (
            ("runtime", function.runtime, layers[ref].runtimes),
            ("architecture", function.architecture, layers[ref].architectures),
        )
        for what, own, may in fits:
            if own and may and _BROKEN not in (own, may) and own not in may:
                yield *here, f"is {_shown(ref)}, which is for {', '.join(may)}; the function's {what} is {own}"


def _entries(table: Any) -> Iterable[tuple[str, Any]]:
    return table.items() if isinstance(table, dict) else ()


def _ledger(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    for key in ("region", "profile", "role_arn", "keep_days"):
        if values[key] is not None and str(values["url"]).startswith("sqlite:"):
            yield key, "has no use with a ledger in a file; must go (or url must be a table)"


def _backup(values: dict[str, Any], _at: _At, _root: Path) -> _Problems:
    to = values["to"]
    if values["after_publish"] is True and to is None:
        yield "after_publish", 'needs a place: to = "s3://BUCKET/PREFIX", or a folder'
    for key in ("region", "profile", "role_arn", "kms_key"):
        if values[key] is not None and isinstance(to, str) and not to.startswith("s3://"):
            yield key, "has no use with a backup in a folder; must go (or to must be in S3)"


_RULES: dict[type, Callable[[dict[str, Any], _At, Path], _Problems]] = {
    Function: _function,
    Layer: _layer,
    CloudFormation: _cloudformation,
    CodeParameters: _code_parameters,
    Terraform: _terraform,
    Direct: _direct,
    Existing: _existing,
    Rollout: _rollout,
    Metric: _metric,
    Check: _gate,
    Gate: _gate,
    Window: _window,
    Environment: _environment,
    Backup: _backup,
    Ledger: _ledger,
    Project: _project,
}


# Words


def _words(kind: mi.Type, extra: Mapping[str, Any], at: _At) -> str:
    """What is allowed, as it follows "must be"."""
    if "rule" in extra:
        return str(extra["rule"])
    match kind:
        case mi.CustomType(cls=cls) if issubclass(cls, Text):
            return cls.rule
        case mi.LiteralType(values=values):
            return _or(values)
        case mi.BoolType():
            return "true or false"
        case mi.IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case mi.FloatType(ge=None, gt=above, le=most):
            return f"a number above {above:g} and up to {most:g}"
        case mi.FloatType(ge=least, lt=most):
            return f"a number from {least:g} to below {most:g}"
        case mi.StrType(max_length=int(most)):
            return f"a string of {most} characters at most"
        case mi.StrType(min_length=least):
            return "a string that is not empty" if least else "a string"
        case mi.VarTupleType(item_type=mi.StructType()):
            return f"a list of tables, [[{_dotted(at)}]]"
        case mi.VarTupleType(item_type=item_type, min_length=least, max_length=most):
            size = f", {most} at most" if most else ", one at least" if least else ""
            return f"a list{size}, each {_words(*_bare(item_type), at)}"
        case mi.DictType(value_type=mi.StructType()):
            return f"a table with names, [{_dotted(at)}.NAME]"
        case mi.StructType():
            return f"a table, [{_dotted(at)}]"
        case _:
            return "a table"


def _unknown(key: str, fields: Mapping[str, Any]) -> str:
    if near := _near(key, fields):
        return f"is unknown; did you mean `{near}`?"
    homes = sorted({_dotted(path[:-1]) for path, *_ in _keys() if path[-1] == key and len(path) > 1})
    elsewhere = f" (`{key}` belongs in [{'] or ['.join(homes)}])" if 0 < len(homes) < 4 else ""
    return f"is unknown; must be one of {', '.join(fields)}{elsewhere}"


def _guess(raw: object, options: Iterable[Any]) -> str:
    near = _near(raw, options) if isinstance(raw, str) else None
    return f'; did you mean "{near}"?' if near else ""


def _near(word: str, options: Iterable[Any]) -> str | None:
    from difflib import get_close_matches

    by_lower = {str(each).lower(): str(each) for each in options}
    found = get_close_matches(word[:80].lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def _or(options: Iterable[Any]) -> str:
    *others, last = (f'"{each}"' for each in options)
    return f"{', '.join(others)} or {last}" if others else last


def _shown(raw: object) -> str:
    """A value in one line, as in the file."""
    match raw:
        case int() if abs(raw) >= 10**60:
            return "a huge number"  # str() refuses thousands of digits
        case str() | int() | float():
            text = toml(raw)
            return text if len(text) <= 80 else f"{text[:76]}…{text[-1]}"
        case []:
            return "an empty list"
        case _:
            return _sort(raw)


def _sort(raw: object) -> str:
    match raw:
        case dict():
            return "a table" if raw else "an empty table"
        case list():
            return "a list"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case _:
            return "a date or time"


def _dotted(path: _At) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_*-]+(\[[0-9]+\])?", part) else toml(part) for part in path)


def toml(value: object) -> str:
    """A value as TOML, in one line. ValueError for a string with lone surrogates."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            quoted = msgspec.json.encode(str.__str__(value)).decode()
            return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in quoted)
        case float() if value.is_integer() and abs(value) < 1e15:
            return f"{value:.0f}"
        case int() | float():
            return repr(value)
        case dict():
            inner = ", ".join(f"{_bare_key(str(key))} = {toml(each)}" for key, each in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case list() | tuple():
            return f"[{', '.join(toml(each) for each in value)}]"
        case _:
            raise TypeError(f"{type(value).__name__} has no TOML form here")


def _bare_key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else toml(key)


# The reference: `config_reference.toml` is what `explain()` gives.

_PREFACE = """\
# pointsman.toml: every key there is, with an example. Most have a default: a real file is ten lines.
# A line that begins with # and no space is an alternative. Paths are relative to this file.
"""


def explain(path: str | None = None) -> str:
    """The annotated text of all keys, or of one key or table: "environment", "environment.*.rollout.bake"."""
    if path is None:
        return f"{_PREFACE}\n{_block(_root(), ())}"
    wanted = tuple(path.replace('"', "").strip(".[] ").split("."))
    found = [_piece(*key) for key in _keys() if _matches(key[0], wanted)]
    if not found:
        near = _near(path, [_dotted(key[0]) for key in _keys()])
        raise UsageError(
            f"{NAME} has no key {path}",
            next=f"Did you mean {near}?" if near else "`pointsman config explain` shows them all.",
        )
    return "\n".join(found)


def _matches(pattern: _At, wanted: _At) -> bool:
    return len(pattern) == len(wanted) and all(own in ("*", part) for own, part in zip(pattern, wanted, strict=True))


def _keys(struct: mi.StructType | None = None, at: _At = ()) -> Iterator[tuple[_At, mi.StructType, str]]:
    """Every key: its path (`*` for a name the user chooses), the table it is in, the key."""
    struct = struct or _root()
    if struct.tag_field:
        yield (*at, struct.tag_field), struct, struct.tag_field
    for key, (_, kind, _extra) in _fields(struct).items():
        here = (*at, key)
        yield here, struct, key
        if _tables(kind) and isinstance(kind, mi.DictType):
            here = (*here, "*")
            yield here, struct, key
        for each in _tables(kind):
            yield from _keys(each, here)


def _piece(path: _At, struct: mi.StructType, key: str) -> str:
    """The text of one key or table."""
    if key == struct.tag_field:
        return f'# {_dotted(path)}\n# {struct.cls.__doc__}\n{key} = "{struct.tag}"\n'
    if _tables(_fields(struct)[key][1]):
        return _subtables(struct, key, path[: -2 if path[-1] == "*" else -1])
    within = f', with = "{struct.tag}"' if struct.tag_field else ""
    return "\n".join((f"# {_dotted(path)}{within}", *_lines(struct, key), ""))


def _block(
    struct: mi.StructType,
    at: _At,
    *,
    about: str = "",
    sample: Any = None,
    aside: bool = False,
    terse: bool = False,
    listed: bool = False,
) -> str:
    """A table as annotated TOML, then its sub-tables. aside: commented out; terse: without what was said already;
    listed: one of a list."""
    mark = "#" if aside else ""
    head = f"[[{_dotted(at)}]]" if listed else f"[{_dotted(at)}]"
    lines = [f'{mark}{struct.tag_field} = "{struct.tag}"'] if struct.tag_field else []
    below: list[str] = []
    seen: set[type] = set()
    for key, (_, kind, extra) in _fields(struct).items():
        if tables := _tables(kind):
            below.append(_subtables(struct, key, at, aside=aside or "aside" in extra, terse=tables[0].cls in seen))
            seen.add(tables[0].cls)
        else:
            lines += _lines(struct, key, sample=sample or {}, aside=aside, terse=terse)
    if not at:
        return "\n".join(below)
    said = [f"# {line}" for line in (about, "" if terse else struct.cls.__doc__) if line]
    return "\n".join((*said, *([f"{mark}{head}", *lines] if lines else ()), "", *below))


def _subtables(struct: mi.StructType, key: str, at: _At, *, aside: bool = False, terse: bool = False) -> str:
    """What stands under `key`: of several tables the first, the others as alternatives."""
    _, kind, extra = _fields(struct)[key]
    sample = next(iter(extra.get("examples", ())), None)
    if isinstance(kind, mi.DictType):
        (entry,) = _tables(kind)
        return _block(entry, (*at, key, str(sample)), aside=aside or "aside" in extra)
    about = str(extra.get("description", ""))
    if isinstance(kind, mi.VarTupleType):
        (entry,) = _tables(kind)
        _, *more = extra.get("examples", ({},))
        first = _block(entry, (*at, key), about=about, sample=sample, aside=aside, terse=terse, listed=True)
        heads = [f"{'#' if aside else ''}[[{_dotted((*at, key))}]]"] * len(more)
        others = [
            "\n".join((head, *(f"{head[: head.index('[')]}{name} = {toml(each)}" for name, each in other.items()), ""))
            for head, other in zip(heads, more, strict=True)
        ]
        return "\n".join((first, *others))
    return "\n".join(
        _block(each, (*at, key), about="" if i else about, sample=sample, aside=aside or i > 0, terse=terse)
        for i, each in enumerate(_tables(kind))
    )


def _lines(
    struct: mi.StructType,
    key: str,
    *,
    sample: Mapping[str, Any] | None = None,
    aside: bool = False,
    terse: bool = False,
) -> list[str]:
    """A key as it stands in the reference: what it is for, its default, what is allowed, an example."""
    from textwrap import wrap

    field, kind, extra = _fields(struct)[key]
    default = _default(field)
    if "read" in extra and default is not None:
        default = _duration(default)
    about = str(extra["description"])
    if field.required and "derived" not in extra:
        about += " Required."
    elif default not in (None, (), {}, msgspec.NODEFAULT):
        about += f" Default: {toml(default)}."
    said = wrap(about, 116)
    if "rule" in extra or isinstance(kind, mi.LiteralType | mi.CustomType | mi.IntType | mi.FloatType):
        said += wrap(_words(kind, extra, ()), 116, initial_indent="  ", subsequent_indent="  ")
    shown = (sample or {}).get(key, next(iter(extra.get("examples", ())), default is False or default))
    mark = "#" if aside or "aside" in extra else ""
    return [*(() if terse else (f"# {line}" for line in said)), f"{mark}{key} = {toml(shown)}"]


# The schema


def schema() -> dict[str, object]:
    """JSON Schema (draft 7) for editors. It knows types and patterns, not the rules over several keys."""
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": NAME, **_schema(_root())}


def _schema(kind: mi.Type) -> dict[str, object]:
    kind, extra = _bare(kind)
    said = {key: extra[key] for key in ("description",) if key in extra}
    match kind:
        case _ if "read" in extra:
            return {**said, "type": ["string", "number"], "pattern": r"^\s*([0-9]+(\.[0-9]+)?[dhms]\s*)+$"}
        case mi.StructType() if _may_be_true(kind):
            return {**said, "oneOf": [{"type": "boolean"}, _schema_of_table(kind)]}
        case mi.StructType():
            return {**_schema_of_table(kind), **said}
        case mi.UnionType(types=types):
            return {**said, "oneOf": [_schema(each) for each in types]}
        case mi.DictType(key_type=keys, value_type=values, min_length=least):
            size = {"minProperties": least} if least else {}
            names, each = _schema(keys), _schema(values)
            return {**said, "type": "object", "propertyNames": names, "additionalProperties": each, **size}
        case mi.VarTupleType(item_type=item_type, min_length=least, max_length=most):
            item = _schema(item_type)
            sizes = {key: size for key, size in (("minItems", least), ("maxItems", most)) if size}
            return {**said, "anyOf": [item, {"type": "array", "items": item, **sizes}]}
        case mi.LiteralType(values=options):
            return {**said, "enum": list(options)}
        case mi.BoolType():
            return {**said, "type": "boolean"}
        case mi.CustomType(cls=cls) if issubclass(cls, Text):
            # Editors compile patterns with JavaScript's u flag, which refuses a range followed by a hyphen: 9-_
            return {**said, "type": "string", "pattern": f"^{cls.pattern.pattern.replace('9-_', '9_-')}$"}
        case mi.StrType(min_length=least, max_length=most):
            pattern = f"^({extra['pattern']})$" if "pattern" in extra else None
            limits = (("pattern", pattern), ("minLength", least), ("maxLength", most))
            return {**said, "type": "string", **{key: limit for key, limit in limits if limit}}
        case mi.IntType() | mi.FloatType():
            bounds = {"minimum": kind.ge, "exclusiveMinimum": kind.gt, "maximum": kind.le, "exclusiveMaximum": kind.lt}
            whole = "integer" if isinstance(kind, mi.IntType) else "number"
            return {**said, "type": whole, **{key: bound for key, bound in bounds.items() if bound is not None}}
        case _:
            raise TypeError(f"no schema for {kind}")


def _schema_of_table(kind: mi.StructType) -> dict[str, object]:
    fields = _fields(kind)
    tag = {kind.tag_field: {"const": kind.tag}} if kind.tag_field else {}
    return {
        "description": str(kind.cls.__doc__),
        "type": "object",
        "properties": {**tag, **{key: _schema_with_default(field) for key, (field, *_) in fields.items()}},
        "required": [*tag, *(k for k, (field, _, more) in fields.items() if field.required > ("derived" in more))],
        "additionalProperties": False,
    }


def _schema_with_default(field: mi.Field) -> dict[str, object]:
    plain = field.default not in (None, msgspec.NODEFAULT) and not isinstance(field.default, msgspec.Struct)
    return {**_schema(field.type), **({"default": field.default} if plain else {})}


__all__ = [
    "NAME",
    "Branches",
    "Bundle",
    "Check",
    "CloudFormation",
    "Direct",
    "Environment",
    "Existing",
    "Function",
    "Gate",
    "Here",
    "ImageConfig",
    "Inputs",
    "Layer",
    "Ledger",
    "Metric",
    "Outputs",
    "Project",
    "Provision",
    "Retention",
    "Rollout",
    "Terraform",
    "Test",
    "Tests",
    "Traffic",
    "Window",
    "explain",
    "find",
    "fits",
    "load",
    "parse",
    "schema",
    "toml",
]
