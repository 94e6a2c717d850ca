"""What a template says: parse it, resolve its parameters, conditions and functions, order its resources. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

Json = dict[str, Any]

NO_VALUE: Final = object()
_IAM = re.compile(r"AWS::IAM::(AccessKey|Group|InstanceProfile|ManagedPolicy|Policy|Role|User|UserToGroupAddition)")
_NAMED = ("RoleName", "UserName", "GroupName", "ManagedPolicyName", "InstanceProfileName")
_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")
_DYNAMIC = re.compile(r"\{\{resolve:[^}]*\}\}")
_PSEUDO = ("AccountId", "NotificationARNs", "NoValue", "Partition", "Region", "StackId", "StackName", "URLSuffix")


class TemplateError(Exception):
    """CloudFormation's ValidationError: the template, or what was given to it, is wrong."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms (!Ref, !GetAtt a.b, …); dates stay the text they are ("2012-10-17")."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> Json:
    value: Any
    match node:
        case yaml.ScalarNode():
            value = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case _:
            assert isinstance(node, yaml.MappingNode)
            value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Template:
    """A template's sections, known to be of the right shape."""

    text: str
    resources: Mapping[str, Json]
    parameters: Mapping[str, Json] = field(default_factory=dict)
    mappings: Mapping[str, Json] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Json] = field(default_factory=dict)
    description: str | None = None
    metadata: Any = None

    def capabilities(self) -> tuple[str, ...]:
        """What the caller must acknowledge."""
        iam = [r for r in self.resources.values() if _IAM.fullmatch(r["Type"])]
        if any(name in r.get("Properties", {}) for r in iam for name in _NAMED):
            return ("CAPABILITY_NAMED_IAM",)
        return ("CAPABILITY_IAM",) if iam else ()


def parse(text: str) -> Template:
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=_Loader)
    except (ValueError, yaml.YAMLError) as error:
        raise TemplateError(f"Template format error: JSON or YAML not well-formed. ({error})") from error
    if not isinstance(document, dict):
        raise TemplateError("Template format error: unsupported structure.")
    if document.get("Transform"):
        raise TemplateError(f"The local CloudFormation runs no transforms or macros: {document['Transform']}.")
    if document.get("Rules"):
        raise TemplateError("The local CloudFormation does not evaluate the section Rules.")
    sections: Json = {}
    for name in ("Resources", "Parameters", "Mappings", "Conditions", "Outputs"):
        section = document.get(name)
        if not isinstance(section if section is not None else {}, dict):
            raise TemplateError(f"Template format error: [/{name}] must be an object.")
        sections[name] = section or {}
    if not sections["Resources"]:
        raise TemplateError("Template format error: At least one Resources member must be defined.")
    for name, resource in sections["Resources"].items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            raise TemplateError(
                f"Template format error: [/Resources/{name}] Every Resources object must contain a Type member."
            )
    for name, output in sections["Outputs"].items():
        if not isinstance(output, dict) or output.get("Value") is None:
            raise TemplateError(
                f"Template format error: [/Outputs/{name}] Every Outputs member must contain a Value object"
            )
    template = Template(
        text,
        sections["Resources"],
        sections["Parameters"],
        sections["Mappings"],
        sections["Conditions"],
        sections["Outputs"],
        document.get("Description"),
        document.get("Metadata"),
    )
    _check_references(template)
    return template


def _check_references(template: Template) -> None:
    for section, body in (("Resources", template.resources), ("Outputs", template.outputs)):
        known = template.resources.keys() | (template.parameters.keys())
        missing = sorted({name for name in references(body) if name not in known and not name.startswith("AWS::")})
        if missing:
            raise TemplateError(
                f"Template format error: Unresolved resource dependencies [{', '.join(missing)}] "
                f"in the {section} block of the template"
            )
    for name, resource in template.resources.items():
        for other in _listed(resource.get("DependsOn")):
            if other not in template.resources:
                raise TemplateError(
                    f"Template format error: Unresolved resource dependencies [{other}] "
                    "in the Resources block of the template"
                )
        condition = resource.get("Condition")
        if condition is not None and condition not in template.conditions:
            raise TemplateError(
                f"Template format error: Unresolved condition dependency {condition} in the {name} resource"
            )


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def references(node: Any) -> Iterator[str]:
    """Names that Ref, Fn::GetAtt and Fn::Sub name."""
    match node:
        case {"Ref": str(name)} if len(node) == 1:
            yield name
        case {"Fn::GetAtt": target} if len(node) == 1:
            yield _attribute(target)[0]
        case {"Fn::Sub": template} if len(node) == 1:
            text, given = (template, {}) if isinstance(template, str) else (template[0], template[1])
            yield from (n.split(".")[0] for n in _VARIABLE.findall(text) if n.split(".")[0] not in given)
            yield from references(given)
        case dict():
            for value in node.values():
                yield from references(value)
        case list():
            for value in node:
                yield from references(value)


def _attribute(target: Any) -> tuple[str, Any]:
    name, attribute = target.split(".", 1) if isinstance(target, str) else target
    return str(name), attribute


def order(template: Template) -> list[str]:
    """Logical ids, each after what it depends on; otherwise as they are written."""
    needs = {
        name: {*_listed(resource.get("DependsOn")), *(set(references(resource)) & template.resources.keys())}
        for name, resource in template.resources.items()
    }
    done: dict[str, None] = {}
    while len(done) < len(needs):
        ready = [name for name in needs if name not in done and needs[name] <= done.keys()]
        if not ready:
            circle = ", ".join(name for name in needs if name not in done)
            raise TemplateError(f"Circular dependency between resources: [{circle}]")
        done |= dict.fromkeys(ready)
    return list(done)


def parameters(template: Template, given: Mapping[str, str], look_up: Callable[[str], str]) -> Json:
    """Every parameter's value. `look_up` reads SSM parameters, for the types that name one."""
    if unknown := sorted(given.keys() - template.parameters.keys()):
        raise TemplateError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    found: Json = {}
    for name, slot in template.parameters.items():
        kind = str(slot.get("Type", "String"))
        if name not in given and "Default" not in slot:
            raise TemplateError(f"Parameters: [{name}] must have values")
        value = str(given[name] if name in given else slot["Default"])
        _check_parameter(name, slot, value, kind)
        if kind.startswith("AWS::SSM::Parameter::Value"):
            value = look_up(value)
        parts = [part.strip() for part in value.split(",")] if "List" in kind else [value]
        typed = [_number(part) for part in parts] if "Number" in kind else parts
        found[name] = typed if "List" in kind else typed[0]
    return found


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _check_parameter(name: str, slot: Json, value: str, kind: str) -> None:
    allowed = slot.get("AllowedValues")
    if allowed is not None and value not in [str(each) for each in allowed]:
        raise TemplateError(f"Parameter '{name}' must be one of AllowedValues")
    pattern = slot.get("AllowedPattern")
    if pattern is not None and not re.fullmatch(pattern, value):
        said = slot.get("ConstraintDescription") or f"must match pattern {pattern}"
        raise TemplateError(f"Parameter '{name}' {said}")
    if kind == "Number":
        try:
            number = float(value)
        except ValueError:
            raise TemplateError(f"Parameter '{name}' must be a number.") from None
        if not float(slot.get("MinValue", "-inf")) <= number <= float(slot.get("MaxValue", "inf")):
            raise TemplateError(f"Parameter '{name}' must be a number between MinValue and MaxValue")
    elif not int(slot.get("MinLength", 0)) <= len(value) <= int(slot.get("MaxLength", 1 << 20)):
        raise TemplateError(f"Parameter '{name}' must have a length between MinLength and MaxLength")


@dataclass(frozen=True)
class Scope:
    """What a template's functions are resolved against."""

    template: Template
    parameters: Mapping[str, Any]
    pseudo: Mapping[str, Any]  # "Region", "AccountId", …
    physical_id: Callable[[str], Any]  # of a resource, by logical id
    attribute: Callable[[str, str], Any]
    imported: Callable[[str], str]

    def condition(self, name: str) -> bool:
        if name not in self.template.conditions:
            raise TemplateError(f"Template format error: Unresolved condition {name}")
        return self._holds(self.template.conditions[name])

    def _holds(self, node: Any) -> bool:
        match node:
            case {"Condition": str(name)}:
                return self.condition(name)
            case {"Fn::Equals": [left, right]}:
                return _text(self.resolve(left)) == _text(self.resolve(right))
            case {"Fn::Not": [inner]}:
                return not self._holds(inner)
            case {"Fn::And": inner}:
                return all(self._holds(each) for each in inner)
            case {"Fn::Or": inner}:
                return any(self._holds(each) for each in inner)
        raise TemplateError(f"Template error: {json.dumps(node)} is not a condition")

    def exists(self, name: str) -> bool:
        condition = self.template.resources[name].get("Condition")
        return condition is None or self.condition(condition)

    def resolve(self, node: Any) -> Any:
        """The node without functions. NO_VALUE stands for AWS::NoValue at the top; inside, it is left out."""
        match node:
            case list():
                return [each for each in map(self.resolve, node) if each is not NO_VALUE]
            case dict():
                if len(node) == 1 and ((name := next(iter(node))) == "Ref" or str(name).startswith("Fn::")):
                    return self._function(name, node[name])
                resolved = {str(key): self.resolve(value) for key, value in node.items()}
                return {key: value for key, value in resolved.items() if value is not NO_VALUE}
            case str() if dynamic := _DYNAMIC.search(node):
                raise TemplateError(f"The local CloudFormation does not resolve dynamic references: {dynamic[0]}")
        return node

    def _function(self, name: str, body: Any) -> Any:
        match name, body:
            case "Ref", str():
                return self._ref(body)
            case "Fn::GetAtt", _:
                target, attribute = _attribute(body)
                return self.attribute(target, str(self.resolve(attribute)))
            case "Fn::Sub", str():
                return self._sub(body, {})
            case "Fn::Sub", [str(text), dict(given)]:
                return self._sub(text, {key: self.resolve(value) for key, value in given.items()})
            case "Fn::Join", [str(separator), parts]:
                return separator.join(_text(part) for part in self.resolve(parts))
            case "Fn::Split", [str(separator), text]:
                return str(self.resolve(text)).split(separator)
            case "Fn::Select", [index, values]:
                found, at = self.resolve(values), int(self.resolve(index))
                if not 0 <= at < len(found):
                    raise TemplateError(f"Template error: Fn::Select cannot select nonexistent value at index {at}")
                return found[at]
            case "Fn::If", [str(condition), yes, no]:
                return self.resolve(yes if self.condition(condition) else no)
            case "Fn::FindInMap", [mapping, first, second, *_]:
                keys = [str(self.resolve(each)) for each in (mapping, first, second)]
                found = self.template.mappings
                for key in keys:
                    if key not in found:
                        raise TemplateError(f"Template error: Unable to get mapping for {'::'.join(keys)}")
                    found = found[key]
                return found
            case "Fn::Base64", _:
                return base64.b64encode(str(self.resolve(body)).encode()).decode()
            case "Fn::ImportValue", _:
                return self.imported(str(self.resolve(body)))
            case "Fn::GetAZs", _:
                region = self.resolve(body) or self.pseudo["Region"]
                return [f"{region}{zone}" for zone in "abc"]
        raise TemplateError(f"The local CloudFormation does not know {name} with {json.dumps(body)[:200]}")

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name.startswith("AWS::"):
            if name.removeprefix("AWS::") not in _PSEUDO:
                raise TemplateError(f"Template format error: Unresolved resource dependencies [{name}]")
            return self.pseudo[name.removeprefix("AWS::")]
        return self.parameters[name] if name in self.parameters else self.physical_id(name)

    def _sub(self, text: str, given: Mapping[str, Any]) -> str:
        def value(found: re.Match[str]) -> str:
            name = found[1].strip()
            if name in given:
                return _text(given[name])
            target, dot, attribute = name.partition(".")
            return _text(self.attribute(target, attribute) if dot else self._ref(name))

        return _VARIABLE.sub(value, text).replace("${!", "${")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
