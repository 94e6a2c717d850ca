"""What a template's transforms make of it: AWS's own two, by AWS's own library where there is one.

`AWS::Serverless-2016-10-31` is run by the very translator that AWS runs (aws-sam-translator), which is imported only
here, and only when asked for: it takes a second. What it makes that the local AWS does not have is refused in words.
"""

from __future__ import annotations

import copy
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pointsman.localaws.cloudformation.template import (
    LANGUAGE_EXTENSIONS,
    Json,
    Template,
    TemplateError,
    from_document,
)

SERVERLESS: Final = "AWS::Serverless-2016-10-31"
_LOOP: Final = "Fn::ForEach::"
_ONE_AT_A_TIME = threading.Lock()  # the translator keeps the region in a class


class TransformFailed(Exception):
    """A transform refused the template; the message is what a change set or a stack gives as its reason."""


def expand(
    template: Template, parameters: Mapping[str, Any], region: str, managed_policies: Callable[[], Mapping[str, str]]
) -> Template:
    """The template after its transforms. `managed_policies` gives AWS's own: name → ARN."""
    if template.expanded or not template.transforms:
        return template
    document = copy.deepcopy(template.document)
    for transform in template.transforms:
        match transform:
            case "AWS::LanguageExtensions":
                document = _unrolled(document, parameters)
            case "AWS::Serverless-2016-10-31":
                document = _translated(document, parameters, region, managed_policies)
            case _:
                raise TransformFailed(
                    f"Transform {transform} failed with: the local CloudFormation runs {SERVERLESS} and "
                    f"{LANGUAGE_EXTENSIONS} only"
                )
    try:
        return from_document(template.text, document | {"Transform": list(template.transforms)}, expanded=True)
    except TemplateError as error:
        raise TransformFailed(str(error)) from error


def processed(template: Template) -> str:
    """What GetTemplate gives for the stage Processed."""
    if not template.expanded:
        return template.text
    return json.dumps({key: value for key, value in template.document.items() if key != "Transform"})


# --- AWS::Serverless ---


def _translated(
    document: Json, parameters: Mapping[str, Any], region: str, managed_policies: Callable[[], Mapping[str, str]]
) -> Json:
    from boto3 import Session
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    logging.getLogger("samtranslator.metrics").setLevel(logging.ERROR)  # it warns that nobody wants its metrics
    source = copy.deepcopy(document)
    with _ONE_AT_A_TIME:
        translator = Translator(None, Parser(), boto_session=Session(region_name=region))
        try:
            made: Json = translator.translate(
                document, dict(parameters), get_managed_policy_map=lambda: dict(managed_policies())
            )
        except InvalidDocumentException as error:
            causes = " ".join(sorted(str(cause.message) for cause in error.causes))
            raise TransformFailed(f"Transform {SERVERLESS} failed with: {error.message} {causes}") from error
    if refused := sorted(set(_not_here(source, made))):
        raise TransformFailed(f"Transform {SERVERLESS} failed with: {' '.join(refused)}")
    return made


def _not_here(source: Json, made: Json) -> Iterator[str]:
    """What the local AWS does not have, by the resource and property that ask for it."""
    wishes = {
        "AWS::ApiGateway": "API Gateway",
        "AWS::ApiGatewayV2": "API Gateway",
        "AWS::AppSync": "AppSync",
        "AWS::CodeDeploy": "CodeDeploy",
        "AWS::Cognito": "Cognito",
        "AWS::IoT": "IoT",
        "AWS::ServerlessRepo": "the Serverless Application Repository",
    }
    for name, body in made.get("Resources", {}).items():
        service = wishes.get(body["Type"].rpartition("::")[0])
        if service == "CodeDeploy":
            continue  # the aliases that it would move say who asks for it
        if service is None and "CodeDeployLambdaAliasUpdate" in body.get("UpdatePolicy", {}):
            service = "CodeDeploy"
        if service is not None:
            yield f"The local AWS has no {service}, which {_asked_by(source, name, body['Type'], service)} asks for."


def _asked_by(source: Json, name: str, type_: str, service: str) -> str:
    resources = source["Resources"]
    if name in resources:
        return f"the resource {name} ({resources[name]['Type']})"
    for origin, body in resources.items():
        properties = body.get("Properties", {})
        if service == "CodeDeploy" and body["Type"] == "AWS::Serverless::Function" and name.startswith(origin):
            return f"the property DeploymentPreference of {origin}"
        for event, given in (properties.get("Events") or {}).items():
            if given.get("Type") in ("Api", "HttpApi", "WebSocketApi") and service == "API Gateway":
                return f"the event {event} ({given['Type']}) in the property Events of {origin}"
            if name.startswith(f"{origin}{event}"):
                return f"the event {event} ({given['Type']}) in the property Events of {origin}"
    asking = [origin for origin in resources if name.startswith(origin)]
    return f"the resource {asking[0]}" if asking else f"{name} ({type_})"


# --- AWS::LanguageExtensions ---


def _unrolled(node: Any, parameters: Mapping[str, Any]) -> Any:
    """The node with every Fn::ForEach written out. What the other extensions do is done when values are resolved."""
    if isinstance(node, list):
        return [_unrolled(each, parameters) for each in node]
    if not isinstance(node, dict):
        return node
    out: Json = {}
    for key, value in node.items():
        if not str(key).startswith(_LOOP):
            out[key] = _unrolled(value, parameters)
            continue
        match value:
            case [str(variable), collection, dict(body)]:
                for item in _collection(collection, parameters, key):
                    out |= _unrolled(_with(body, variable, str(item)), parameters)
            case _:
                raise TransformFailed(f"Transform {LANGUAGE_EXTENSIONS} failed with: {key} layout is incorrect")
    return out


def _collection(collection: Any, parameters: Mapping[str, Any], loop: str) -> list[Any]:
    found = parameters.get(collection["Ref"]) if isinstance(collection, dict) and "Ref" in collection else collection
    if not isinstance(found, list):
        raise TransformFailed(f"Transform {LANGUAGE_EXTENSIONS} failed with: {loop} could not resolve its collection")
    return found


def _with(node: Any, variable: str, item: str) -> Any:
    match node:
        case {"Ref": name} if name == variable and len(node) == 1:
            return item
        case dict():
            return {_with(key, variable, item): _with(value, variable, item) for key, value in node.items()}
        case list():
            return [_with(each, variable, item) for each in node]
        case str():
            alphanumeric = "".join(filter(str.isalnum, item))  # &{…} is for logical ids
            return node.replace(f"${{{variable}}}", item).replace(f"&{{{variable}}}", alphanumeric)
    return node
