"""What a Terraform plan would do, read off `terraform show -json FILE`. Pure; values are never repeated, only names.

https://developer.hashicorp.com/terraform/internals/json-format
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pointsman.model import WITH_IT, FunctionArn, FunctionName, Value, Version

Json = Mapping[str, Any]
Action = Literal["create", "update", "delete", "replace"]

# Outputs that are known without being declared: those of terraform-aws-modules/lambda, then those people choose.
NAMES: tuple[str, ...] = (
    *("lambda_function_name", "lambda_function_arn", "lambda_function_qualified_arn"),
    *("function_name", "lambda_function", "lambda_arn", "function_arn"),
)
VERSIONS = ("lambda_function_version", "lambda_function_qualified_arn", "function_version", "lambda_qualified_arn")
_CODE = {"filename", "source_code_hash", "s3_bucket", "s3_key", "s3_object_version", "image_uri"}
_FOLLOWS = {"code_sha256", "last_modified", "source_code_size", "qualified_arn", "qualified_invoke_arn", "version"}
_HARMLESS = {"tags", "tags_all", "description"}
_POLICIES = (
    *("aws_iam_role_policy", "aws_iam_role_policy_attachment", "aws_iam_policy_attachment"),
    *("aws_iam_role_policies_exclusive", "aws_iam_role_policy_attachments_exclusive"),
)


class Change(Value, frozen=True, kw_only=True):
    """One resource the plan touches. `attributes`: the names of those that change (of an update or a replacement)."""

    action: Action
    address: str
    type: str
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = [name for name in self.attributes if name not in _FOLLOWS] or self.attributes
        return f"{self.action} {self.address}" + (f": {', '.join(names)}" if names else "")


class Planned(Value, frozen=True, kw_only=True):
    """The function as it is to be. `version` where the plan leaves it; `sha256` of its code where that is known.

    `was`: what it is called before, None where it is not there yet. `had`: the version that the state knows now.
    `package`: Zip or Image, where that is known; `image` is what it is made of then, of which `sha256` is "" where it
    is not named by its digest.
    """

    address: str
    name: FunctionName | None
    was: FunctionName | None
    version: Version | None
    publish: bool
    sha256: str | None
    action: Action | None = None
    package: str = ""
    image: str = ""
    had: Version | None = None


def changes(plan: Json) -> tuple[Change, ...]:
    """What would be changed, in the plan's order; reads and what stays as it is left out."""
    found = []
    for each in plan.get("resource_changes", ()):
        action = _action(each["change"]["actions"])
        if action and each.get("mode") != "data":
            names = _attributes(each["change"]) if action in ("update", "replace") else ()
            found.append(Change(action=action, address=each["address"], type=each["type"], attributes=names))
    return tuple(found)


def function(plan: Json, *, name_output: str, known: str = "") -> Planned | None:
    """The function meant: what the output refers to, or is called so, or the only one. None where that is not told."""
    candidates = {each["address"]: each for each in _resources(plan.get("planned_values"), "aws_lambda_function")}
    acts = {each.address: each.action for each in changes(plan) if each.type == "aws_lambda_function"}
    there = {
        each["address"]: each
        for each in _resources((plan.get("prior_state") or {}).get("values"), "aws_lambda_function")
    }
    everything = {**there, **candidates}
    address = _meant(plan, everything, name_output, known)
    if address is None:
        return None
    values, before = everything[address]["values"], there[address]["values"] if address in there else {}
    package, image = str(values.get("package_type") or ""), values.get("image_uri") or ""
    return Planned(
        address=address,
        name=_named(values.get("function_name")),
        was=_named(before.get("function_name")),
        version=version_of(values.get("version")) if address not in acts else None,
        publish=bool(values.get("publish")),
        sha256=_image_digest(image) if package == "Image" else values.get("source_code_hash") or None,
        action=acts.get(address),
        package=package,
        image=image,
        had=version_of(before.get("version")),
    )


def _image_digest(image: str) -> str | None:
    """As Lambda's CodeSha256 has it; "" where a tag says which image it is, None where nothing is known yet."""
    return image.partition("@sha256:")[2] if image else None


def lost(plan: Json) -> tuple[str, ...]:
    """Which functions' versions and aliases would be gone: destroyed, replaced, or moved to another address.

    Any function's, not only the one deployed: an apply for one carries out what the module says of all.
    """
    return tuple(
        f"{each}, {WITH_IT}"
        for each in changes(plan)
        if each.type == "aws_lambda_function" and each.action in ("delete", "replace")
    )


def functions_before(plan: Json) -> tuple[FunctionName, ...]:
    """The functions of the state, by name."""
    there = _resources((plan.get("prior_state") or {}).get("values"), "aws_lambda_function")
    return tuple(sorted({name for each in there if (name := _named(each["values"].get("function_name")))}))


def roles_touched(plan: Json) -> bool:
    """Whether it is worth asking which roles are in use."""
    return any(
        each.type in ("aws_iam_role", "aws_iam_policy", *_POLICIES)
        or (each.type == "aws_lambda_function" and "role" in each.attributes)
        for each in changes(plan)
    )


def role_changes(plan: Json, served: Mapping[FunctionName, Mapping[str, str]]) -> tuple[str, ...]:
    """What would change of the roles in use. `served`: of each function, by a role's ARN, whose it is to read."""
    roles: dict[str, str] = {}
    for each in served.values():
        for arn, whose in each.items():
            roles[arn] = f"{roles[arn]}, {whose}" if arn in roles else whose
    names = {arn.rpartition("/")[2]: (arn, whose) for arn, whose in roles.items()}
    attached = {  # customer managed policies of these roles, by ARN
        each["values"].get("policy_arn"): role
        for each in _resources((plan.get("prior_state") or {}).get("values"), "aws_iam_role_policy_attachment")
        if (role := each["values"].get("role")) in names
    }
    found = []
    told = {each.address: each for each in changes(plan)}
    for each in plan.get("resource_changes", ()):
        change = told.get(each["address"])
        if change is None:
            continue
        before, after = each["change"].get("before") or {}, each["change"].get("after") or {}
        if change.action == "update" and set(change.attributes) <= _HARMLESS:
            continue
        match change.type:
            case "aws_lambda_function" if "role" in change.attributes:
                theirs = served.get(before.get("function_name", ""), {})
                if before.get("role") in theirs:
                    found.append(f"{change.address} would run with another role than {theirs[before['role']]}")
            case "aws_iam_role" if before.get("name") in names:
                found.append(f"{change}, the role of {names[before['name']][1]}")
            case "aws_iam_policy" if before.get("arn") in attached:
                found.append(f"{change}, a policy of the role of {names[attached[before['arn']]][1]}")
            case kind if kind in _POLICIES:
                touched = [name for side in (before, after) for name in _role_names(side) if name in names]
                if touched:
                    found.append(f"{change}, a policy of the role of {names[touched[0]][1]}")
    return tuple(found)


def aliases_moved(plan: Json, aliases: Sequence[str]) -> tuple[str, ...]:
    """Aliases that Terraform would move by itself, past every gate. Those it creates have nothing to lose yet."""
    told = {each.address: each for each in changes(plan) if each.type == "aws_lambda_alias"}
    found = []
    for each in plan.get("resource_changes", ()):
        change = told.get(each["address"])
        before = each["change"].get("before") or {}
        if change and change.action != "create" and before.get("name") in aliases:
            moved = change.action != "update" or {"function_version", "routing_config"} & {*change.attributes}
            if moved:
                found.append(f"{change}, the alias {before['name']}, which Pointsman moves")
    return tuple(found)


def code_only(change: Change) -> bool:
    """Whether an update of a function changes nothing but its code."""
    return change.action == "update" and {*change.attributes} - _FOLLOWS <= _CODE


def sets_image(plan: Json, meant: Planned) -> bool:
    """Whether the function is made with, or given, an image."""
    told = [each for each in changes(plan) if each.address == meant.address]
    return any(each.action in ("create", "replace") or "image_uri" in each.attributes for each in told)


def names_image_only(plan: Json, meant: Planned) -> bool:
    """Whether all that would be done is to name the function's image otherwise, which goes by a tag so far."""
    told = changes(plan)
    there = [
        each["change"].get("before") or {} for each in plan["resource_changes"] if each["address"] == meant.address
    ]
    by_tag = any("@" not in (each.get("image_uri") or "@") for each in there)
    alone = [each.address for each in told] == [meant.address] and code_only(told[0])
    return by_tag and alone and sets_image(plan, meant)


def outputs(document: Json, *, name: str, version: str) -> tuple[FunctionName | None, Version | None]:
    """The function's name and version by `terraform output -json`; None for what it does not tell."""
    values = {key: each.get("value") for key, each in document.items()}

    def first(keys: Sequence[str], read: Any) -> Any:
        return next((found for key in keys if (found := read(values.get(key))) is not None), None)

    return first((name, *NAMES), _named), first((version, *VERSIONS), version_of)


def by_state(state: Json, address: str | None) -> tuple[FunctionName | None, Version | None]:
    """The same from the state itself (`terraform state pull`): of the only function there, or of `address`."""
    there = {}
    for each in state.get("resources", ()):
        if each.get("mode") == "managed" and each.get("type") == "aws_lambda_function":
            for instance in each.get("instances", ()):
                prefix = f"{each['module']}." if each.get("module") else ""
                index = instance.get("index_key")
                suffix = "" if index is None else f'["{index}"]' if isinstance(index, str) else f"[{index}]"
                there[f"{prefix}aws_lambda_function.{each['name']}{suffix}"] = instance.get("attributes") or {}
    chosen = there.get(address or "") or (next(iter(there.values())) if len(there) == 1 else {})
    return _named(chosen.get("function_name")), version_of(chosen.get("version"))


def version_of(value: Any) -> Version | None:
    """A published version in a number, a text, or the end of a qualified ARN."""
    if isinstance(value, str) and value.startswith("arn:"):
        value = value.rpartition(":")[2] if value.count(":") == 7 else None
    try:
        found = Version(str(value))
    except ValueError:
        return None
    return found if found.published else None


def _named(value: Any) -> FunctionName | None:
    try:
        return FunctionArn.parse(value).name if str(value).startswith("arn:") else FunctionName(value)
    except (ValueError, TypeError):
        return None


def _action(actions: Sequence[str]) -> Action | None:
    match sorted(actions):
        case ["create"]:
            return "create"
        case ["update"]:
            return "update"
        case ["delete"]:
            return "delete"
        case ["create", "delete"]:
            return "replace"
        case _:  # no-op, read; forget leaves what it forgets as it is
            return None


def _attributes(change: Json) -> tuple[str, ...]:
    if paths := change.get("replace_paths"):  # what forces a replacement says more than all that follows from it
        return tuple(sorted({str(path[0]) for path in paths}))
    before, after = change.get("before") or {}, change.get("after") or {}
    unknown = {name for name, each in (change.get("after_unknown") or {}).items() if _any(each)}
    names = {*before, *after} - unknown
    return tuple(sorted({name for name in names if before.get(name) != after.get(name)} | unknown))


def _any(unknown: Any) -> bool:
    match unknown:
        case dict():
            return any(_any(each) for each in unknown.values())
        case list():
            return any(_any(each) for each in unknown)
        case _:
            return bool(unknown)


def _resources(values: Json | None, kind: str) -> Iterator[Json]:
    modules = [(values or {}).get("root_module") or {}]
    while modules:
        module = modules.pop()
        modules += module.get("child_modules", ())
        for each in module.get("resources", ()):
            if each["type"] == kind and each.get("mode") == "managed":
                yield each


def _meant(plan: Json, there: Mapping[str, Json], name_output: str, known: str) -> str | None:
    declared = plan.get("configuration", {}).get("root_module", {}).get("outputs", {})
    for output in (name_output, *NAMES):
        expression = declared.get(output, {}).get("expression", {})
        for reference in expression.get("references", ()):
            # module.lambda.lambda_function_name → module.lambda; aws_lambda_function.api.arn → aws_lambda_function.api
            owner = ".".join(_bare(reference).split(".")[:2])
            of_it = [each for each in there if _bare(each) == owner or _bare(each).startswith(f"{owner}.")]
            if len(of_it) == 1:
                return of_it[0]
    called = plan.get("planned_values", {}).get("outputs", {}).get(name_output, {}).get("value")
    for name in filter(None, (_named(called), known)):
        of_it = [address for address, each in there.items() if each["values"].get("function_name") == name]
        if len(of_it) == 1:
            return of_it[0]
    return next(iter(there)) if len(there) == 1 else None


def _bare(address: str) -> str:
    return re.sub(r"\[[^\]]*\]", "", address)


def _role_names(side: Json) -> list[str]:
    several = side.get("roles") or ()
    return [each for each in (side.get("role"), side.get("role_name"), *several) if isinstance(each, str)]
