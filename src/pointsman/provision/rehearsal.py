"""What a rehearsal lacks and AWS has: the execution role, the function that somebody else made, buckets, and APIs.

Only for `--local`, where the account is empty at first: a stand-in, said aloud, so that the release is rehearsed.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any

import msgspec

from pointsman.aws.gateway import Gateway, Package
from pointsman.aws.transports import Clock
from pointsman.config import Direct, Existing, Function, Project
from pointsman.errors import Conflict, UsageError
from pointsman.model import Configuration, FunctionName

_SOURCE = {
    "python": (".py", "def {name}(event, context):\n    return event\n"),
    "nodejs": (".js", "exports.{name} = async (event) => event;\n"),
}


def role(gateway: Gateway, arn: str, say: Callable[[str], None]) -> None:
    """The role, if the local AWS does not have it yet."""
    try:
        gateway.create_role(arn.rpartition("/")[2])
    except Conflict:
        return
    say(f"rehearsal: made the role {arn} on the local AWS, where it was missing")


def stand_in(
    gateway: Gateway,
    function: Function,
    *,
    name: FunctionName,
    account: str,
    say: Callable[[str], None],
    clock: Clock,
    image: str = "",
) -> Configuration:
    """A function that echoes, under the name of one that exists on AWS; of an image one that has this."""
    arn = f"arn:aws:iam::{account}:role/{name}-rehearsal"
    if image:
        role(gateway, arn, say)
        settings: dict[str, Any] = {"Role": arn, "Architectures": [function.architecture]}
        return _made(gateway, name, settings, Package(image=image), say, clock)
    family = next((each for each in _SOURCE if (function.runtime or "").startswith(each)), None)
    if family is None or function.handler is None:
        raise UsageError(
            f"there is no function {name} on the local AWS",
            next="Give `runtime` and `handler` in pointsman.toml, and a rehearsal makes a stand-in for it.",
        )
    role(gateway, arn, say)
    suffix, source = _SOURCE[family]
    path, _, called = function.handler.rpartition(".")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{path}{suffix}", source.format(name=called))
    settings = {"Role": arn, "Handler": function.handler, "Runtime": function.runtime}
    settings["Architectures"] = [function.architecture]
    return _made(gateway, name, settings, Package(zip=packed.getvalue()), say, clock)


def _made(  # noqa: PLR0917 (what CreateFunction takes)
    gateway: Gateway,
    name: FunctionName,
    settings: dict[str, Any],
    package: Package,
    say: Callable[[str], None],
    clock: Clock,
) -> Configuration:
    made = gateway.create_function(name, settings, package)
    say(f"rehearsal: made a stand-in for {name} on the local AWS, where it was missing")
    while made.state == "Pending":
        clock.sleep(0.1)
        made = gateway.function(name) or made
    return made


def bucket(gateway: Gateway, name: str, region: str, say: Callable[[str], None]) -> None:
    """The bucket, if the local AWS does not have it yet."""
    try:
        gateway.create_bucket(name, region)
    except Conflict:
        return
    say(f"rehearsal: made the bucket {name} on the local AWS, where it was missing")


def bootstrap(gateway: Gateway, parameter: Any, say: Callable[[str], None]) -> None:
    """What `cdk bootstrap` leaves in SSM, if `parameter` (a template's) asks for it."""
    name = parameter.get("Default") if isinstance(parameter, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"/cdk-bootstrap/[a-z0-9]+/version", name):
        return
    try:
        gateway.put_parameter(name, "31")
    except Conflict:
        return
    say(f"rehearsal: put {name} on the local AWS, as `cdk bootstrap` does")


_SERVED = frozenset((
    "CDK", "CloudFormation", "CloudWatch", "DynamoDB", "EC2", "ECR", "EFS", "Events", "IAM", "KMS", "Kinesis", "Lambda",
    "Logs", "RDS", "Route53", "S3", "SNS", "SQS", "SSM", "Scheduler", "SecretsManager", "Serverless", "StepFunctions",
))  # fmt: skip
_NOT_SERVED = (
    *("AWS::CloudFormation::CustomResource", "AWS::CloudFormation::WaitCondition", "AWS::Events::ApiDestination"),
    *("AWS::Events::Connection", "AWS::Serverless::Api", "AWS::Serverless::HttpApi", "AWS::Serverless::WebSocketApi"),
    *("AWS::Serverless::Connector", "AWS::Serverless::GraphQLApi", "AWS::Serverless::Application"),
)
_EVENTS = ("Api", "HttpApi", "WebSocketApi", "Cognito", "IoTRule", "MQ", "MSK", "SelfManagedKafka", "DocumentDB")
_MISSING = "arn:aws:rehearsal:::missing"


def _served(kind: str) -> bool:
    words = kind.split("::")
    return len(words) == 3 and words[0] == "AWS" and words[1] in _SERVED and kind not in _NOT_SERVED


@functools.cache
def runtimes(endpoint: str) -> tuple[str, ...]:
    """What the local AWS at `endpoint` can run on this machine; nothing where it does not say."""
    import urllib.request

    try:
        with urllib.request.urlopen(f"{endpoint}/_pointsman/health", timeout=10) as answer:
            return tuple(json.load(answer)["runtimes"])
    except (OSError, ValueError, KeyError):
        return ()


def with_runtimes(document: dict[str, Any], there: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """The template with the nearest runtime of the family for each that this machine lacks, and words on it.

    Of a family that it lacks altogether, functions are made, and cannot be called.
    """
    made: dict[str, Any] = copy.deepcopy(document)
    said = []
    shared = (made.get("Globals") or {}).get("Function")
    bodies = {name: body for name, body in (made.get("Resources") or {}).items() if _typed(body)}
    for name, body in {"Globals": {"Type": "::Function", "Properties": shared or {}}, **bodies}.items():
        wanted = (body.get("Properties") or {}).get("Runtime") if str(body["Type"]).endswith("::Function") else None
        if not there or not isinstance(wanted, str) or wanted in there:
            continue
        near = _nearest(wanted, there)
        body["Properties"]["Runtime"] = near or "provided.al2023"
        how = f"{near} runs it" if near else "it is made, and cannot be called"
        said.append(f"rehearsal: {name} wants {wanted}, which this machine does not have: {how}")
    return (made, said) if said else (document, [])


def runnable(project: Project, there: tuple[str, ...], say: Callable[[str], None]) -> Project:
    """The same with the nearest runtimes for functions whose runtime this file decides, or a stand-in takes from it."""
    functions = dict(project.functions)
    for name, function in project.functions.items():
        wanted = function.runtime
        if not wanted or not there or wanted in there or not isinstance(function.provision, Direct | Existing):
            continue
        if near := _nearest(wanted, there):
            functions[name] = msgspec.structs.replace(function, runtime=near)
            say(f"rehearsal: {name} wants {wanted}, which this machine does not have: {near} runs it")
    layers = dict(project.layers)
    for name, layer in project.layers.items():
        runs = (each if each in there else _nearest(each, there) or each for each in layer.runtimes)
        layers[name] = msgspec.structs.replace(layer, runtimes=tuple(dict.fromkeys(runs)))
    return msgspec.structs.replace(project, functions=functions, layers=layers)


def _nearest(wanted: str, there: tuple[str, ...]) -> str | None:
    family = re.match(r"[a-z]+", wanted)
    near = [each for each in there if family and re.match(rf"{family[0]}[0-9]", each)]
    return min(near, key=lambda each: _apart(each, wanted)) if near else None


def _apart(one: str, other: str) -> int:
    first, second = ([int(each) for each in re.findall(r"[0-9]+", name)] + [0, 0] for name in (one, other))
    return abs((first[0] - second[0]) * 100 + first[1] - second[1])


def without(document: dict[str, Any], account: str) -> tuple[dict[str, Any], list[str]]:
    """The template without what the local AWS has not (APIs, user pools, others' layers …), and words on it.

    What else names such a thing: an output goes with it, a permission too, a function or role keeps its place.
    """
    made: dict[str, Any] = copy.deepcopy(document)
    resources = made.get("Resources")
    if not isinstance(resources, dict):
        return document, []
    left_out: list[str] = []
    gone = {"ServerlessRestApi", "ServerlessHttpApi"}
    for name, kind in {name: str(body.get("Type")) for name, body in resources.items() if _typed(body)}.items():
        if not _served(kind):
            gone.add(name)
            left_out.append(f"{name} ({kind})")
            del resources[name]
    everywhere = made.get("Globals") or {}
    for section in [key for key in everywhere if key in ("Api", "HttpApi", "WebSocketApi")]:
        del everywhere[section]
    shared = everywhere.get("Function")
    for name, body in [("Globals", {"Properties": shared or {}}), *resources.items()]:
        if name == "Globals" or (
            _typed(body) and body["Type"] in ("AWS::Serverless::Function", "AWS::Lambda::Function")
        ):
            left_out += _reduced(name, body.get("Properties") or {}, gone, account)
    while wired := [each for each, body in resources.items() if _typed(body) and _hangs_on(body, gone)]:
        for each in wired:
            gone.add(each)
            left_out.append(f"{each} ({resources[each]['Type']})")
            del resources[each]
    for each, body in resources.items():
        if _names(body, gone):
            resources[each] = _with_stand_ins(body, gone)
    outputs = made.get("Outputs") or {}
    for each in [each for each, body in outputs.items() if _names(body, gone)]:
        left_out.append(f"the output {each}")
        del outputs[each]
    if not left_out:
        return document, []
    if "Outputs" in made and not outputs:
        del made["Outputs"]
    return made, [f"rehearsal: left out of the template, for the local AWS has none: {', '.join(left_out)}"]


def _typed(body: Any) -> bool:
    return isinstance(body, dict) and "Type" in body


def _hangs_on(body: dict[str, Any], gone: set[str]) -> bool:
    wires = ("AWS::Lambda::Permission", "AWS::Lambda::EventSourceMapping", "AWS::Events::Rule", "AWS::S3::BucketPolicy")
    return body["Type"] in wires and _names(body, gone)


def _reduced(name: str, properties: dict[str, Any], gone: set[str], account: str) -> list[str]:
    """Takes from a function's properties what the local AWS has not; says what."""
    left_out = []
    events = properties.get("Events") or {}
    for event in [each for each, said in events.items() if (said or {}).get("Type") in _EVENTS or _names(said, gone)]:
        left_out.append(f"the event {event} of {name}")
        del events[event]
    if properties.pop("DeploymentPreference", None) is not None:
        left_out.append(f"the DeploymentPreference of {name}")
    layers = properties.get("Layers")
    for layer in list(layers) if isinstance(layers, list) else ():
        arn = layer.get("Fn::Sub") if isinstance(layer, dict) else layer
        found = re.match(r"arn:.+?:lambda:.+?:([0-9]{12}):layer:([^:]+)", arn) if isinstance(arn, str) else None
        if found and found[1] != account:
            left_out.append(f"the layer {found[2]} of {name}")
            properties["Layers"].remove(layer)
    return left_out


def _names(value: Any, gone: set[str]) -> bool:
    match value:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), *_]} | {"Fn::GetAtt": str(name)} if len(value) == 1:
            return name.partition(".")[0] in gone
        case {"Fn::Sub": str(text)} | {"Fn::Sub": [str(text), *_]}:
            return any(re.search(rf"\$\{{{each}[.}}]", text) for each in gone)
        case dict():
            depends = value.get("DependsOn") or ()
            depends = [depends] if isinstance(depends, str) else depends
            return any(each in gone for each in depends) or any(_names(each, gone) for each in value.values())
        case list():
            return any(_names(each, gone) for each in value)
        case _:
            return False


def _with_stand_ins(value: Any, gone: set[str]) -> Any:
    """A function keeps its place: what names something that is gone is a text that says so."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("Ref", "Fn::GetAtt", "Fn::Sub"):
        return _MISSING if _names(value, gone) else value
    if isinstance(value, dict):
        kept = {key: _with_stand_ins(each, gone) for key, each in value.items() if key != "DependsOn"}
        depends = value.get("DependsOn") or ()
        depends = [each for each in ([depends] if isinstance(depends, str) else depends) if each not in gone]
        return kept | ({"DependsOn": depends} if depends else {})
    if isinstance(value, list):
        return [_with_stand_ins(each, gone) for each in value]
    return value
