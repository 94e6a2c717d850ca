"""What a rehearsal lacks and AWS has: the execution role, the function that somebody else made, buckets, and APIs.

Only for `--local`, where the account is empty at first: a stand-in, said aloud, so that the release is rehearsed.
"""

from __future__ import annotations

import copy
import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

from pointsman.aws.gateway import Gateway, Package
from pointsman.aws.transports import Clock
from pointsman.config import Function
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
    gateway: Gateway, function: Function, *, name: FunctionName, account: str, say: Callable[[str], None], clock: Clock
) -> Configuration:
    """A function that echoes, under the name of one that exists on AWS."""
    family = next((each for each in _SOURCE if (function.runtime or "").startswith(each)), None)
    if family is None or function.handler is None:
        raise UsageError(
            f"there is no function {name} on the local AWS",
            next="Give `runtime` and `handler` in pointsman.toml, and a rehearsal makes a stand-in for it.",
        )
    arn = f"arn:aws:iam::{account}:role/{name}-rehearsal"
    role(gateway, arn, say)
    suffix, source = _SOURCE[family]
    path, _, called = function.handler.rpartition(".")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{path}{suffix}", source.format(name=called))
    settings: dict[str, Any] = {"Role": arn, "Handler": function.handler, "Runtime": function.runtime}
    settings["Architectures"] = [function.architecture]
    made = gateway.create_function(name, settings, Package(zip=packed.getvalue()))
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


_APIS = ("Api", "HttpApi", "WebSocketApi")
_MISSING = ("AWS::ApiGateway::", "AWS::ApiGatewayV2::", "AWS::Serverless::Api", "AWS::Serverless::HttpApi")


def without(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The template without what the local AWS has not (APIs, gradual moves by CodeDeploy), and a word on each.

    What names an API elsewhere, such as an output with its address, goes with it.
    """
    made, left_out = copy.deepcopy(document), []
    resources = made.get("Resources")
    if not isinstance(resources, dict):
        return document, []
    gone = {"ServerlessRestApi", "ServerlessHttpApi"}
    for name, body in list(resources.items()):
        kind = str(body.get("Type")) if isinstance(body, dict) else ""
        if kind.startswith(_MISSING):
            gone.add(name)
            del resources[name]
            left_out.append(f"{name} ({kind})")
        elif kind == "AWS::Serverless::Function":
            properties = body.get("Properties") or {}
            events = properties.get("Events") or {}
            for event in [each for each, said in events.items() if (said or {}).get("Type") in _APIS]:
                left_out.append(f"the event {event} of {name}")
                del events[event]
            if properties.pop("DeploymentPreference", None) is not None:
                left_out.append(f"the DeploymentPreference of {name}")
    functions = (made.get("Globals") or {}).get("Function") or {}
    if functions.pop("DeploymentPreference", None) is not None:
        left_out.append("the DeploymentPreference of Globals")
    while named := [each for each, body in resources.items() if _names(body, gone)]:
        for each in named:
            kind = resources[each].get("Type", "")
            if kind in ("AWS::Serverless::Function", "AWS::Lambda::Function"):
                resources[each] = _with_stand_ins(resources[each], gone)
                continue
            gone.add(each)
            del resources[each]
            left_out.append(f"{each} ({kind})")
    outputs = made.get("Outputs") or {}
    for each in [each for each, body in outputs.items() if _names(body, gone)]:
        left_out.append(f"the output {each}")
        del outputs[each]
    if not left_out:
        return document, []
    if "Outputs" in made and not outputs:
        del made["Outputs"]
    return made, [f"rehearsal: left out of the template, for the local AWS has none: {', '.join(left_out)}"]


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
        return "not-on-the-local-aws" if _names(value, gone) else value
    if isinstance(value, dict):
        kept = {key: _with_stand_ins(each, gone) for key, each in value.items() if key != "DependsOn"}
        depends = value.get("DependsOn") or ()
        depends = [each for each in ([depends] if isinstance(depends, str) else depends) if each not in gone]
        return kept | ({"DependsOn": depends} if depends else {})
    if isinstance(value, list):
        return [_with_stand_ins(each, gone) for each in value]
    return value
