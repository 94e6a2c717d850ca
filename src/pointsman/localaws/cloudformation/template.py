"""What a template says: parse it, resolve its parameters, conditions and functions, order its resources. Pure."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

Json = dict[str, Any]

NO_VALUE: Final = object()
_IAM = re.compile(r"AWS::IAM::(AccessKey|Group|InstanceProfile|ManagedPolicy|Policy|Role|User|UserToGroupAddition)")
_NAMED = ("RoleName", "UserName", "GroupName", "ManagedPolicyName", "InstanceProfileName")
_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")
_DYNAMIC = re.compile(r"\{\{resolve:([^:}]+):([^}]*)\}\}")
_ATTRIBUTES = frozenset((
    "Type", "Properties", "DependsOn", "Condition", "Metadata", "DeletionPolicy", "UpdateReplacePolicy", "UpdatePolicy",
    "CreationPolicy", "Version", "Connectors",
))  # fmt: skip
_POLICIES = ("Delete", "Retain", "Snapshot", "RetainExceptOnCreate")
_PSEUDO = ("AccountId", "NotificationARNs", "NoValue", "Partition", "Region", "StackId", "StackName", "URLSuffix")


class TemplateError(Exception):
    """CloudFormation's ValidationError: the template, or what was given to it, is wrong."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms (!Ref, !GetAtt a.b, …); dates and "yes" stay the texts they are."""


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
    first: [(tag, regexp) for tag, regexp in resolvers if tag.rpartition(":")[2] not in ("timestamp", "bool")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


LANGUAGE_EXTENSIONS: Final = "AWS::LanguageExtensions"


@dataclass(frozen=True)
class Template:
    """A template's sections, known to be of the right shape."""

    text: str
    document: Json
    resources: Mapping[str, Any]  # dicts, once it is expanded; and so are the others
    parameters: Mapping[str, Any] = field(default_factory=dict)
    mappings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)
    transforms: tuple[str, ...] = ()  # still to be run, unless it is `expanded`
    expanded: bool = False

    @property
    def description(self) -> str | None:
        found = self.document.get("Description")
        return None if found is None else str(found)

    def capabilities(self) -> tuple[str, ...]:
        """What the caller must acknowledge."""
        resources = [r for r in self.resources.values() if isinstance(r, dict)]  # not so with Fn::ForEach
        iam = [r for r in resources if _IAM.fullmatch(str(r.get("Type")))]
        if any(name in (r.get("Properties") or {}) for r in iam for name in _NAMED):
            return ("CAPABILITY_NAMED_IAM",)
        return ("CAPABILITY_IAM",) if iam else ()


def parse(text: str) -> Template:
    return from_document(text, read(text))


def read(text: str) -> Json:
    """The document behind JSON or YAML."""
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=_Loader)
    except json.JSONDecodeError as error:
        try:  # YAML may begin with a brace, too
            document = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError:
            where = f"(line {error.lineno}, column {error.colno + 1})"
            raise TemplateError(f"Template format error: JSON not well-formed. {where}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise TemplateError(f"Template format error: YAML not well-formed.{where}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise TemplateError("Template format error: YAML not well-formed.") from error
    if not isinstance(document, dict):
        raise TemplateError("Template format error: unsupported structure.")
    return document


def from_document(text: str, document: Json, *, expanded: bool = False) -> Template:
    """`text` is what the caller wrote; `document` what it says or, `expanded`, what its transforms made of it."""
    sections: dict[str, Json] = {}
    for name in ("Resources", "Parameters", "Mappings", "Conditions", "Outputs", "Rules"):
        section = document.get(name)
        if not isinstance(section if section is not None else {}, dict):
            raise TemplateError(f"Template format error: Any {name} member must be an object.")
        sections[name] = section or {}
    if not sections["Resources"]:
        raise TemplateError("Template format error: At least one Resources member must be defined.")
    template = Template(
        text,
        document,
        sections["Resources"],
        sections["Parameters"],
        sections["Mappings"],
        sections["Conditions"],
        sections["Outputs"],
        sections["Rules"],
        tuple(_transforms(document.get("Transform"))),
        expanded,
    )
    if expanded or not template.transforms:
        _check(template)
    return template


def _transforms(section: Any) -> Iterator[str]:
    for each in section if isinstance(section, list) else [section] if section else []:
        name = each.get("Name") if isinstance(each, dict) else each
        if not isinstance(name, str):
            raise TemplateError("Key Name of transform definition must be a string.")
        yield name


def _check(template: Template) -> None:
    """Shapes and references, as far as they can be seen without parameters."""
    for name, slot in template.parameters.items():
        if not name.isalnum():
            raise TemplateError(f"Template format error: Parameter name {name} is non alphanumeric.")
        if not isinstance(slot, dict) or "Type" not in slot:
            raise TemplateError(
                f"Template format error: [/Parameters/{name}] Every Parameters object must contain a Type member."
            )
    for name, mapping in template.mappings.items():
        for key, row in mapping.items() if isinstance(mapping, dict) else ():
            if not isinstance(row, dict):
                raise TemplateError(f"Template format error: Every Mappings member {key} must be a map")
            if any(isinstance(value, dict) for value in row.values()):
                raise TemplateError("Template format error: Every Mappings attribute must be a String or a List.")
        if not isinstance(mapping, dict):
            raise TemplateError(f"Template format error: Every Mappings member {name} must be a map")
    for name, rule in template.rules.items():
        if not isinstance(rule, dict) or not isinstance(rule.get("Assertions"), list):
            raise TemplateError(f"Template format error: [/Rules/{name}] Every Rules object must list Assertions.")
    for name, resource in template.resources.items():
        _check_resource(name, resource)
    for name, output in template.outputs.items():
        if not isinstance(output, dict) or "Value" not in output:
            raise TemplateError("Template format error: Every Outputs member must contain a Value object")
        if output["Value"] is None:
            raise TemplateError(f"[/Outputs/{name}/Value] 'null' values are not allowed in templates")
    _check_references(template)


def _check_resource(name: str, resource: Any) -> None:
    if not name.isalnum():
        raise TemplateError(f"Template format error: Resource name {name} is non alphanumeric.")
    if not isinstance(resource, dict):
        raise TemplateError("Template format error: Any Resources member must be an object.")
    if not isinstance(resource.get("Type"), str):
        raise TemplateError(
            f"Template format error: [/Resources/{name}] Every Resources object must contain a Type member."
        )
    if unknown := sorted(resource.keys() - _ATTRIBUTES):
        raise TemplateError(f"Invalid template resource property '{unknown[0]}'")
    if not isinstance(resource.get("Properties") or {}, dict):
        raise TemplateError(f"Template format error: [/Resources/{name}/Properties] must be an object.")
    for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
        value = resource.get(policy, "Delete")
        if isinstance(value, str) and value not in _POLICIES:
            raise TemplateError(f"Template format error: Unrecognized {policy} {value} for resource {name}")
    # What waits for signals, or moves an alias by CodeDeploy, would seem to work and be another thing.
    if "CodeDeployLambdaAliasUpdate" in (resource.get("UpdatePolicy") or {}):
        raise TemplateError(
            f"The local AWS has no CodeDeploy: {name} asks for it (UpdatePolicy: CodeDeployLambdaAliasUpdate)."
        )
    if resource.get("CreationPolicy"):
        raise TemplateError(f"The local CloudFormation takes no signals: {name} asks for them (CreationPolicy).")


def _check_references(template: Template) -> None:
    for section, body in (("Resources", template.resources), ("Outputs", template.outputs)):
        known = template.resources.keys() | template.parameters.keys()
        missing = sorted({name for name in references(body) if name not in known and not name.startswith("AWS::")})
        if missing:
            raise unresolved(missing, section)
    for name, resource in template.resources.items():
        for other in _listed(resource.get("DependsOn")):
            if other not in template.resources:
                raise unresolved([other], "Resources")
        condition = resource.get("Condition")
        if condition is not None and condition not in template.conditions:
            raise TemplateError(
                f"Template format error: Unresolved condition dependency {condition} in the {name} resource"
            )


def unresolved(names: Iterable[str], section: str) -> TemplateError:
    return TemplateError(
        f"Template format error: Unresolved resource dependencies [{', '.join(names)}] "
        f"in the {section} block of the template"
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


def _mappings(node: Any) -> Iterator[Json]:
    match node:
        case {"Fn::FindInMap": _} if len(node) == 1:
            yield node
        case dict():
            for value in node.values():
                yield from _mappings(value)
        case list():
            for value in node:
                yield from _mappings(value)


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
        value = _text(given[name] if name in given else slot["Default"])
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
    if allowed is not None and value not in [_text(each) for each in allowed]:
        raise TemplateError(f"Parameter '{name}' must be one of AllowedValues")
    pattern = slot.get("AllowedPattern")
    if pattern is not None and not re.fullmatch(pattern, value):
        if said := slot.get("ConstraintDescription"):
            raise TemplateError(f"Parameter {name} failed to satisfy constraint: {said}")
        raise TemplateError(f"Parameter '{name}' must match pattern {pattern}")
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
    dynamic: Callable[[str, str], str] | None = None  # what {{resolve:service:reference}} stands for

    def condition(self, name: str) -> bool:
        if name not in self.template.conditions:
            raise TemplateError(f"Template format error: Unresolved condition {name}")
        return self._holds(self.template.conditions[name])

    def _holds(self, node: Any, *, ruling: bool = False) -> bool:
        """Whether a condition holds, or with `ruling` an assertion: Rules have some functions to themselves."""
        match node:
            case {"Condition": str(name)}:
                return self.condition(name)
            case {"Fn::Equals": [left, right]}:
                return _text(self.resolve(left)) == _text(self.resolve(right))
            case {"Fn::Equals": _}:
                raise TemplateError("Template error: every Fn::Equals object requires a list of 2 string parameters.")
            case {"Fn::Not": [inner]}:
                return not self._holds(inner, ruling=ruling)
            case {"Fn::And": inner}:
                return all(self._holds(each, ruling=ruling) for each in inner)
            case {"Fn::Or": inner}:
                return any(self._holds(each, ruling=ruling) for each in inner)
            case {"Fn::Contains": [among, value]} if ruling:
                return self._texts(value) <= self._texts(among)
            case {"Fn::EachMemberIn": [values, among]} if ruling:
                return self._texts(values) <= self._texts(among)
            case {"Fn::EachMemberEquals": [values, value]} if ruling:
                return self._texts(values) <= self._texts(value)
        raise TemplateError(f"Template error: {json.dumps(node)} is not a condition")

    def _texts(self, node: Any) -> set[str]:
        found = self.resolve(node)
        return {_text(each) for each in found} if isinstance(found, list) else {_text(found)}

    def exists(self, name: str) -> bool:
        condition = self.template.resources[name].get("Condition")
        return condition is None or self.condition(condition)

    def check(self) -> None:
        """For this scope's parameters: rules are kept, what exists refers to nothing that does not, and mappings have
        what is asked."""
        for name, rule in self.template.rules.items():
            self._check_rule(name, rule)
        here = {name for name in self.template.resources if self.exists(name)}
        away = self.template.resources.keys() - here
        for name in here:
            body = self._chosen(self.template.resources[name])
            if missing := sorted(away & set(references(body))):
                raise unresolved(missing, "Resources")
            for node in _mappings(body):
                if not self.template.resources.keys() & set(references(node)):
                    self.resolve(node)
        for output in self.template.outputs.values():
            if "Condition" in output and not self.condition(output["Condition"]):
                continue
            if missing := sorted(away & set(references(self._chosen(output)))):
                words = str(unresolved(missing, "Outputs"))  # AWS leaves the prefix out here (recorded)
                raise TemplateError(words.removeprefix("Template format error: "))

    def _check_rule(self, name: str, rule: Json) -> None:
        if "RuleCondition" in rule and not self._holds(rule["RuleCondition"], ruling=True):
            return
        for each in rule["Assertions"]:
            if not self._holds(each["Assert"], ruling=True):  # AWS's sentence is not recorded
                said = each.get("AssertDescription", json.dumps(each["Assert"]))
                raise TemplateError(f"Template error: Rule {name} failed: {said}")

    def _chosen(self, node: Any) -> Any:
        """The node without the branches of Fn::If that are not taken."""
        match node:
            case {"Fn::If": [str(condition), yes, no]} if len(node) == 1:
                return self._chosen(yes if self.condition(condition) else no)
            case dict():
                return {key: self._chosen(value) for key, value in node.items()}
            case list():
                return [self._chosen(each) for each in node]
        return node

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
            case str() if "{{resolve:" in node:
                return self._dynamically(node)
        return node

    def _dynamically(self, text: str) -> str:
        if self.dynamic is None:
            raise TemplateError(f"Dynamic references are not resolved here: {text}")
        dynamic = self.dynamic
        return _DYNAMIC.sub(lambda found: dynamic(found[1], found[2]), text)

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
                return self._again(separator.join(_text(part) for part in self.resolve(parts)))
            case "Fn::Split", [str(separator), text]:
                return str(self.resolve(text)).split(separator)
            case "Fn::Select", [index, values]:
                choice, at = self.resolve(values), int(self.resolve(index))
                if not 0 <= at < len(choice):
                    raise TemplateError(f"Template error: Fn::Select cannot select nonexistent value at index {at}")
                return choice[at]
            case "Fn::If", [str(condition), yes, no]:
                return self.resolve(yes if self.condition(condition) else no)
            case "Fn::FindInMap", [mapping, first, second, *more]:
                keys = [_text(self.resolve(each)) for each in (mapping, first, second)]
                found: Any = self.template.mappings
                for key in keys:
                    if key not in found:
                        if more and self._extended and "DefaultValue" in more[0]:
                            return self.resolve(more[0]["DefaultValue"])
                        raise TemplateError(f"Template error: Unable to get mapping for {'::'.join(keys)}")
                    found = found[key]
                return found
            case "Fn::Cidr", [block, count, *bits]:
                return _cidr(str(self.resolve(block)), int(self.resolve(count)), int(self.resolve((bits or [8])[0])))
            case "Fn::Length", _ if self._extended:
                return len(self.resolve(body))
            case "Fn::ToJsonString", _ if self._extended:
                return json.dumps(self.resolve(body), separators=(",", ":"))
            case (("Fn::Length" | "Fn::ToJsonString"), _):
                raise TemplateError(f"Template error: {name} needs the transform {LANGUAGE_EXTENSIONS}.")
            case "Fn::Base64", _:
                return base64.b64encode(str(self.resolve(body)).encode()).decode()
            case "Fn::ImportValue", _:
                return self.imported(str(self.resolve(body)))
            case "Fn::GetAZs", _:
                region = self.resolve(body) or self.pseudo["Region"]
                return [f"{region}{zone}" for zone in "abc"]
        raise TemplateError(f"The local CloudFormation does not know {name} with {json.dumps(body)[:200]}")

    @property
    def _extended(self) -> bool:
        return LANGUAGE_EXTENSIONS in self.template.transforms

    def _again(self, text: str) -> str:
        """A dynamic reference may have been put together by Fn::Join or Fn::Sub."""
        return self._dynamically(text) if "{{resolve:" in text else text

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

        return self._again(_VARIABLE.sub(value, text).replace("${!", "${"))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cidr(block: str, count: int, bits: int) -> list[str]:
    network = ipaddress.ip_network(block)
    prefix = network.max_prefixlen - bits
    if not network.prefixlen <= prefix or not 1 <= count <= min(256, 2 ** (prefix - network.prefixlen)):
        raise TemplateError(f"Template error: Fn::Cidr cannot make {count} blocks of {bits} host bits of {block}")
    parts = network.subnets(new_prefix=prefix)
    return [str(next(parts)) for _ in range(count)]
