"""What a CloudFormation template says, as far as a release needs it: its function, that function's code and aliases.

Pure: documents in, documents and words out. A document is the template as JSON values, short forms written out.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from pointsman.errors import UsageError

Json: TypeAlias = dict[str, Any]

SERVERLESS = "AWS::Serverless-2016-10-31"
PLAIN_FUNCTION, SAM_FUNCTION = "AWS::Lambda::Function", "AWS::Serverless::Function"
_CODE = {PLAIN_FUNCTION: ("Code",), SAM_FUNCTION: ("CodeUri", "InlineCode", "ImageUri")}
_ECR = re.compile(r"[0-9]{12}\.dkr[.-]ecr(-fips)?\.")
REPLACING = frozenset(
    {"FunctionName", "PackageType", "TenancyConfig"}
)  # createOnlyProperties of AWS::Lambda::Function's schema
_SHOWN = 25
_LONGEST = 60


def read(text: Any) -> Json:
    """The document behind JSON or YAML, or behind what botocore made of JSON. Raises UsageError."""
    if not isinstance(text, str):
        found = json.loads(json.dumps(text))
    else:
        try:
            found = json.loads(text)
        except ValueError:
            found = _yaml(text)
    if not isinstance(found, dict):
        raise UsageError("the template is no template: neither a JSON object nor a YAML mapping")
    return found


def written(document: Json) -> str:
    return json.dumps(document, separators=(",", ":"))


def _yaml(text: str) -> Any:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """CloudFormation's short forms written out; "2010-09-09", "1.10", "012" and "yes" stay the texts they are."""

    def short_form(loader: Any, suffix: str, node: Any) -> Json:
        value: Any
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        else:
            value = loader.construct_mapping(node, deep=True)
        if suffix == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}

    Loader.add_multi_constructor("!", short_form)
    Loader.yaml_implicit_resolvers = {
        first: [each for each in resolvers if each[0].rpartition(":")[2] in ("null", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"0|-?[1-9][0-9]{0,17}", "-0123456789"),
        ("float", r"-?(0|[1-9][0-9]{0,8})\.[0-9]{0,5}[1-9]", "-0123456789"),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})$"), list(first))
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"the template is neither JSON nor YAML: {error}") from error


def transforms(document: Json) -> tuple[str, ...]:
    section = document.get("Transform") or ()
    each = section if isinstance(section, list) else [section]
    return tuple(str(one.get("Name", "")) if isinstance(one, dict) else str(one) for one in each)


def resources(document: Json) -> dict[str, Json]:
    """Those that are written as such; what a loop (Fn::ForEach) makes is not seen."""
    found = document.get("Resources")
    if not isinstance(found, dict):
        return {}
    return {name: body for name, body in found.items() if isinstance(body, dict) and "Type" in body}


def properties(body: Json) -> Json:
    found = body.get("Properties")
    return found if isinstance(found, dict) else {}


def global_(document: Json, key: str) -> Any:
    """What SAM's Globals say for every function."""
    section = document.get("Globals")
    functions = section.get("Function") if isinstance(section, dict) else None
    return functions.get(key) if isinstance(functions, dict) else None


def functions(document: Json) -> dict[str, Json]:
    return {name: body for name, body in resources(document).items() if body["Type"] in _CODE}


def setting(document: Json, logical_id: str, key: str) -> Any:
    """A property of a function, SAM's Globals regarded."""
    body = resources(document)[logical_id]
    found = properties(body).get(key)
    return global_(document, key) if found is None and body["Type"] == SAM_FUNCTION else found


def named(value: Any, document: Json, parameters: Mapping[str, str | None]) -> str | None:
    """A text, or the parameter that a Ref names; None for anything that only CloudFormation can tell."""
    match value:
        case str():
            return value
        case {"Ref": str(name)} if name in (document.get("Parameters") or {}):
            given = parameters.get(name)
            default = (document["Parameters"][name] or {}).get("Default")
            return given if given is not None else None if default is None else str(default)
        case _:
            return None


def _refers_to(value: Any) -> str:
    """The logical id behind Ref, GetAtt or a Sub of nothing else; "" where there is none."""
    match value:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), *_]}:
            return name
        case {"Fn::Sub": str(text)} if found := re.fullmatch(r"\$\{([A-Za-z0-9]+)(\.[A-Za-z.]+)?\}", text):
            return found[1]
        case _:
            return ""


def logical_id(document: Json, function: str, parameters: Mapping[str, str | None]) -> str | None:
    """Which resource `function` means: its logical id, FunctionName, or an output of it; else the only one there is."""
    there = functions(document)
    if function in there:
        return function
    for name, body in there.items():
        if named(properties(body).get("FunctionName"), document, parameters) == function:
            return name
    output = (document.get("Outputs") or {}).get(function)
    behind = _refers_to(output.get("Value")) if isinstance(output, dict) else ""
    if behind in there:
        return behind
    published = resources(document).get(behind)  # an output may name the alias or version that SAM or CDK makes
    if published and (origin := _refers_to(properties(published).get("FunctionName"))) in there:
        return origin
    return next(iter(there)) if len(there) == 1 else None


def own_aliases(document: Json, function: str, parameters: Mapping[str, str | None]) -> dict[str, str]:
    """The aliases the template itself makes of its function `function` (a logical id): name → what makes it."""
    found: dict[str, str] = {}
    if resources(document)[function]["Type"] == SAM_FUNCTION:
        name = named(setting(document, function, "AutoPublishAlias"), document, parameters)
        if name:
            found[name] = f"AutoPublishAlias of {function}"
    for logical, body in resources(document).items():
        if body["Type"] == "AWS::Lambda::Alias" and _is_of(document, body, function, parameters):
            name = named(properties(body).get("Name"), document, parameters)
            if name:
                found[name] = f"{logical} (AWS::Lambda::Alias)"
    return found


def publishes(document: Json, function: str, parameters: Mapping[str, str | None]) -> bool:
    """Whether the stack itself publishes versions of the function."""
    return bool(own_aliases(document, function, parameters)) or any(
        body["Type"] == "AWS::Lambda::Version" and _is_of(document, body, function, parameters)
        for body in resources(document).values()
    )


def _is_of(document: Json, body: Json, function: str, parameters: Mapping[str, str | None]) -> bool:
    said = properties(body).get("FunctionName")
    own = named(properties(resources(document)[function]).get("FunctionName"), document, parameters)
    return _refers_to(said) == function or (own is not None and named(said, document, parameters) == own)


# The function's code


def is_local(value: Any) -> bool:
    """A path on this machine, where AWS wants a place in S3."""
    return isinstance(value, str) and not re.match(r"(s3|https?)://|arn:|\{\{", value)


def code(document: Json, function: str) -> Any:
    """What the template gives as the function's code; a path, where SAM takes a folder by default."""
    body = resources(document)[function]
    for key in _CODE[body["Type"]]:
        if (found := properties(body).get(key)) is not None:
            return found
    return (global_(document, "CodeUri") or ".") if body["Type"] == SAM_FUNCTION else None


def of_image(document: Json, function: str) -> bool:
    """Whether a function is one of a container image."""
    return setting(document, function, "PackageType") == "Image" or image(document, function) is not None


def image(document: Json, function: str) -> Any:
    """What the template gives as the function's image; None where SAM is still to build it."""
    held = setting(document, function, "Code")
    return setting(document, function, "ImageUri") or (held.get("ImageUri") if isinstance(held, dict) else None)


def in_registry(value: Any) -> bool:
    """Whether an image is one that Lambda can take, as far as the template tells: not one of this machine's docker."""
    return value is not None and (not isinstance(value, str) or _ECR.match(value) is not None or "{{" in value)


def with_code(document: Json, function: str, given: Json) -> Json:
    """A copy with other code: `given` has Bucket and Key, or Inline, or Image, or (with Properties) another
    template's own.
    """
    made = copy.deepcopy(document)
    body = made["Resources"][function]
    held = body.setdefault("Properties", {})
    for key in _CODE[body["Type"]]:
        held.pop(key, None)
    match given:
        case {"Properties": dict(theirs)}:
            held |= theirs
        case {"Inline": text}:
            held |= {"InlineCode": text} if body["Type"] == SAM_FUNCTION else {"Code": {"ZipFile": text}}
        case {"Image": uri}:
            held |= {"ImageUri": uri} if body["Type"] == SAM_FUNCTION else {"Code": {"ImageUri": uri}}
        case {"Bucket": bucket, "Key": key} if body["Type"] == SAM_FUNCTION:
            held["CodeUri"] = {"Bucket": bucket, "Key": key}
        case {"Bucket": bucket, "Key": key}:
            held["Code"] = {"S3Bucket": bucket, "S3Key": key}
    # CDK notes which asset it was. Another asset alone must not make another template of it.
    metadata = body.get("Metadata")
    for note in ("aws:asset:path", "aws:asset:original-path") if isinstance(metadata, dict) else ():
        metadata.pop(note, None)
        if note in given.get("Metadata", {}):
            metadata[note] = given["Metadata"][note]
    return made


def deployed_code(document: Json, function: str) -> Json | None:
    """The code the stack has of the function, for `with_code`; None where it has no such function."""
    body = resources(document).get(function)
    if body is None or body["Type"] not in _CODE:
        return None
    held = {key: properties(body)[key] for key in _CODE[body["Type"]] if key in properties(body)}
    metadata = body.get("Metadata")
    return {"Properties": held, "Metadata": metadata if isinstance(metadata, dict) else {}} if held else None


# What differs


def differences(
    before: Json, after: Json, *, function: str | None, parameters: Mapping[str, tuple[str | None, str]]
) -> tuple[str, ...]:
    """A line for each thing that differs. Of environment variables and NoEcho parameters no values are shown.

    `function` is the one whose code comes after the stack, where it does.
    """
    lines: list[str] = []
    secret = {name for name, slot in (after.get("Parameters") or {}).items() if _no_echo(slot)}
    for name, (was, now) in sorted(parameters.items()):
        lines.append(f"parameter {name}: {'changed' if name in secret else f'{_short(was)} → {_short(now)}'}")
    old, new = resources(before), resources(after)
    lines += [f"remove {body['Type']} {name}" for name, body in old.items() if name not in new]
    lines += [f"add {body['Type']} {name}" for name, body in new.items() if name not in old]
    for name, body in new.items():
        for path, was, now in _differing(old[name], body) if name in old else ():
            where = ".".join([name, *(path[1:] if path[:1] == ("Properties",) else path)])
            hidden = "Variables" in path or "NoEcho" in path
            line = f"{where}: changed" if hidden else f"{where}: {_short(was)} → {_short(now)}"
            if path[1:2] and path[1] in REPLACING and body["Type"] in _CODE:
                line += " (replaces the function: every version and alias of it goes)"
            if name == function and path[1:2] and path[1] in _CODE[body["Type"]]:
                line += " (the stack sets $LATEST to it, then this build goes up)"
            lines.append(line)
    for section in sorted({*before, *after} - {"Resources"}):
        for path, was, now in _differing({section: before.get(section)}, {section: after.get(section)}):
            shown = section == "Globals" and "Variables" not in path
            where = ".".join(path if shown else path[:3])
            lines.append(f"{where}: {_short(was)} → {_short(now)}" if shown else f"{where}: changed")
    lines = list(dict.fromkeys(lines))
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"… and {len(lines) - _SHOWN} more"]
    return tuple(lines)


_SET_BACK = (
    ("MemorySize",), ("Timeout",), ("Handler",), ("Runtime",), ("Role",), ("KMSKeyArn",),
    ("EphemeralStorage", "Size"), ("TracingConfig", "Mode"), ("DeadLetterConfig", "TargetArn"),
)  # fmt: skip


def overwritten(
    expanded: Json, function: str, live: Mapping[str, Any], parameters: Mapping[str, str | None]
) -> tuple[str, ...]:
    """The settings that somebody changed outside the stack: its template as deployed says otherwise, in plain words."""
    body = resources(expanded).get(function)
    if body is None or body["Type"] != PLAIN_FUNCTION:
        return ()
    lines = []
    for path in _SET_BACK:
        said, present = named(_text(_at(properties(body), path)), expanded, parameters), live.get(path[0])
        if said is not None and present is not None and said != str(present):
            name = ".".join(path)
            lines.append(f"{name} is {present}, set outside the stack, whose template says {said}: it may be set back")
    for key in ("Layers", "Architectures"):
        listed = properties(body).get(key)
        if isinstance(listed, list):
            meant = [named(_text(each), expanded, parameters) for each in listed]
            if None not in meant and meant != (live.get(key) or []):
                lines.append(f"{key} were set outside the stack: they may be set back")
    section = properties(body).get("Environment")
    said_all = section.get("Variables") if isinstance(section, dict) else None
    said_all = said_all if isinstance(said_all, dict) else {}
    present_all = live.get("Environment") or {}
    for name in sorted({*said_all, *present_all}):
        said = named(_text(said_all.get(name)), expanded, parameters)
        if said == "****":
            continue  # a NoEcho parameter
        if name not in said_all or (said is not None and present_all.get(name) != said):
            lines.append(f"environment variable {name} was set outside the stack: it may be set back")
    return tuple(lines)


def _at(document: Json, path: tuple[str, ...]) -> Any:
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> Any:
    return value if isinstance(value, dict | list) or value is None else str(value)


def _no_echo(slot: Any) -> bool:
    return isinstance(slot, dict) and str(slot.get("NoEcho")).lower() == "true"


def _differing(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict) and not any(str(key).startswith("Fn::") for key in after):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _differing(before.get(key), after.get(key), (*path, str(key)))
    elif before != after:
        yield path, before, after


def _short(value: Any) -> str:
    if value is None:
        return "unset"
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
