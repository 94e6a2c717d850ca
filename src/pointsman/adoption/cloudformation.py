"""CloudFormation templates, SAM's with `samconfig.toml`, and what `cdk synth` left in cdk.out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec.structs import replace

from pointsman import assembly
from pointsman.adoption.code import candidate, has_esbuild, holds, home_of
from pointsman.adoption.compiled import builder
from pointsman.adoption.found import Candidate, Found
from pointsman.adoption.plain import function as plain_function
from pointsman.adoption.tree import Tree, items, table, text_of, within
from pointsman.config import Bucket, Bundle, CloudFormation, CodeParameters, Image, Region, Runtime, Stack, fits
from pointsman.errors import UsageError
from pointsman.model import FunctionName

_LAMBDA, _SAM = "AWS::Lambda::Function", "AWS::Serverless::Function"
# As an option or as an assignment, perhaps as the default of a variable; never as a word of a sentence.
_STACK_NAME = re.compile(
    r"(?:--stack-name[ =]+|^[ \t]*(?:(?:export|readonly|local|-)[ \t]+)?[\"']?\w*stack[_-]name[\"']?[ \t]*[=:]+[ \t]*)"
    r"[\"']?(?:\$\{\w+:?-)?[\"']?([A-Za-z][A-Za-z0-9-]{0,127})(?![\w.$(])",
    re.IGNORECASE | re.MULTILINE,
)
_NESTED = {"AWS::Serverless::Application": "Location", "AWS::CloudFormation::Stack": "TemplateURL"}
_CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")
# Functions that constructs of the CDK's own bring along: https://docs.aws.amazon.com/cdk/v2/guide/resources.html
_OF_THE_CDK = re.compile(
    r"^(LogRetention[0-9a-f]{32}|BucketNotificationsHandler|AWS679f53fac002430cb0da5b7982bd2287)"
    r"|CustomResourceProvider|frameworkon(Event|IsComplete|Timeout)|^Custom(CDKBucketDeployment|VpcRestrictDefaultSG)"
)


# Templates, plain and SAM's


def look(tree: Tree) -> Found | None:
    """The functions of the likeliest template, whose code lies here; None where there is no template with any."""
    templates = dict(_templates(tree))
    if not templates:
        return None
    path, template = next(iter(templates.items()))
    told, notes = [], []
    if outer := _outer(tree, path):
        notes.append(
            f"{path} is a nested stack of {outer}: it is not to be deployed by itself. Deploy {outer} as you do, and "
            'name each function as it is on AWS: provision = { with = "existing", name = "…" }.'
        )
    if len(templates) > 1:
        notes.append(
            f"{path} was taken; there are other templates: {', '.join([*templates][1:][:5])}. For one of those, set "
            "`template` and `stack`; or init in its folder, where it lies in another."
        )
    sam = _is_sam(template)
    samconfig, deploying = _samconfig(tree, path) if sam else (None, {})
    stack = text_of(deploying.get("stack_name"))
    if samconfig and stack and fits(Stack, stack):
        told.append(f"{samconfig}: stack {stack}")
    else:
        stack = _stack(tree, notes)
    given = _overrides(deploying.get("parameter_overrides"))
    needed = [key for key, each in table(template.get("Parameters")).items() if "Default" not in table(each)]
    places = _code_parameters(template)
    asked = given
    if places:
        ours = (places.bucket, places.key, places.version, places.image)
        needed, given = [each for each in needed if each not in ours], {k: v for k, v in given.items() if k not in ours}
    if places and places.key:
        notes.append(
            f"{path} takes the code's place by parameter {places.key}: on AWS an environment needs a `bucket`."
        )
    if missing := [key for key in needed if key not in given]:
        notes.append(f"{path} has parameters without a default, to be given in `parameters`: {', '.join(missing)}.")
    owner = CloudFormation(
        stack=stack,
        template=path,
        function="",
        parameters={**given, **dict.fromkeys(missing, "")},
        code_parameters=places,
        capabilities=_capabilities(template, deploying),
    )
    functions = _declared(tree, path, template, owner, told=told, notes=notes)
    if places and places.image and fits(Image, image := asked.get(places.image)):
        functions = tuple(replace(each, image=image) for each in functions)
    functions = _owning(functions, _own_aliases(template, path, notes))
    region, bucket = deploying.get("region"), deploying.get("s3_bucket")
    return Found(
        kind="sam" if sam else "cloudformation",
        functions=functions,
        told=tuple(told),
        notes=tuple(notes),
        region=region if fits(Region, region) else None,
        profile=text_of(deploying.get("profile")),
        bucket=bucket if fits(Bucket, bucket) else None,
        depth=path.count("/"),
    )


def _templates(tree: Tree) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The templates with a Lambda function, the likeliest first: path, content."""
    named = tree.ending(".template", ".json", ".yaml", ".yml")
    for path in sorted(named, key=lambda path: (path.count("/"), not path.endswith(".template"), path)):
        text = tree.text(path)
        if _LAMBDA not in text and _SAM not in text:
            continue
        template = tree.table(path)
        if any(_is_function(each) for each in _resources(template).values()):
            yield path, template


def _outer(tree: Tree, path: str) -> str | None:
    """The template that has this one as a nested stack."""
    for other in tree.ending(".template", ".json", ".yaml", ".yml"):
        if other == path or not any(kind in tree.text(other) for kind in _NESTED):
            continue
        for each in _resources(tree.table(other)).values():
            if table(each).get("Type") in _NESTED:
                said = table(table(each).get("Properties"))
                inner = said.get(_NESTED[table(each)["Type"]])
                if isinstance(inner, str) and within(other.rpartition("/")[0], inner) == path:
                    return other
    return None


def _resources(template: Mapping[str, Any]) -> Mapping[str, Any]:
    return table(template.get("Resources"))


def _is_function(resource: object) -> bool:
    return table(resource).get("Type") in (_LAMBDA, _SAM)


def _is_sam(template: Mapping[str, Any]) -> bool:
    return any(table(each).get("Type") == _SAM for each in _resources(template).values())


def _properties(template: Mapping[str, Any], logical: str) -> Mapping[str, Any]:
    """A function's properties; of SAM's with those that `Globals` gives to all."""
    resource = table(_resources(template).get(logical))
    own = table(resource.get("Properties"))
    if resource.get("Type") != _SAM:
        return own
    return {**table(table(template.get("Globals")).get("Function")), **own}


def _declared(
    tree: Tree, path: str, template: Mapping[str, Any], owner: CloudFormation, *, told: list[str], notes: list[str]
) -> tuple[Candidate, ...]:
    """The template's functions whose code lies here; a single one is taken to be the folder's, whatever that holds."""
    resources = _resources(template)
    declared = [key for key, each in resources.items() if _is_function(each) and key.strip()]
    functions: dict[str, Candidate] = {}
    for logical in declared:
        properties = _properties(template, logical)
        name = text_of(properties.get("FunctionName"))
        shown = name if name and FunctionName.pattern.fullmatch(name) else logical
        handler, runtime = (_literal(properties.get(key), template) for key in ("Handler", "Runtime"))
        runtime = runtime if fits(Runtime, runtime) else None
        if properties.get("PackageType") == "Image":
            functions[shown] = Candidate(
                owner=shown,
                build="image",
                image=_image(properties, template, owner.parameters),
                provision=_of(owner, shown),
                name=name if shown == name else _stack_name_in(properties.get("FunctionName"), owner.stack),
                architecture=_architecture(properties.get("Architectures"), template),
            )
            told.append(f"{path}: function {shown}, a container image")
            continue
        place = _code_uri(tree, path, properties)
        made = _built(tree, path, resources, place, logical, handler=handler, runtime=runtime) if place else {}
        source = (path.rpartition("/")[0] or ".") if "command" in made else place or home_of(tree, handler, runtime)
        if _inline(properties) and source is None:
            notes.append(_to_a_file(path, shown))
        if source is None and len(declared) > 1:
            notes.append(f"{shown} was left out: no file here is its handler, {handler}.")
            continue
        functions[shown] = candidate(
            tree,
            source or ".",
            shown,
            notes,
            where=path,
            handler=handler,
            runtime=runtime,
            provision=_of(owner, shown),
            name=name if shown == name else _stack_name_in(properties.get("FunctionName"), owner.stack),
            architecture=_architecture(properties.get("Architectures"), template),
            **made,
        )
        told.append(f"{path}: function {shown} ({handler}, {runtime}), code in {source or '.'}")
        if "command" in made:
            notes.append(f"{shown} has to be compiled: `{made['command']}` does it, and needs the SAM CLI.")
    if functions or not declared:
        return tuple(functions.values()) or (plain_function(tree, notes),)
    logical = declared[0]
    name = text_of(_properties(template, logical).get("FunctionName"))
    shown = name if name and FunctionName.pattern.fullmatch(name) else logical
    notes.append(f"{shown} stands in the file all the same, so that there is something to change.")
    return (candidate(tree, ".", shown, notes, provision=_of(owner, shown)),)


def _of(owner: CloudFormation, function: str) -> CloudFormation:
    return replace(owner, function=function)


def _code_uri(tree: Tree, path: str, properties: Mapping[str, Any]) -> str | None:
    """The folder that SAM's CodeUri (or a template for `aws cloudformation package`) names, from the template's."""
    uri = properties.get("CodeUri", properties.get("Code"))
    if not isinstance(uri, str) or "://" in uri:
        return None
    place = within(path.rpartition("/")[0], uri)
    return place if place and tree.is_folder(place) else None


def _image(properties: Mapping[str, Any], template: Mapping[str, Any], given: Mapping[str, str]) -> str | None:
    """Where a function's image lies in ECR, as the template says it, or a parameter's value."""
    said = properties.get("ImageUri", table(properties.get("Code")).get("ImageUri"))
    match said:
        case {"Ref": str(parameter)} if given.get(parameter):
            said = given[parameter]
    found = _literal(said, template)
    return found if fits(Image, found) else None


def _inline(properties: Mapping[str, Any]) -> bool:
    return "InlineCode" in properties or "ZipFile" in table(properties.get("Code"))


def _to_a_file(path: str, function: str) -> str:
    return f"{path}: {function}'s code stands in the template: put it into a file to have it versioned."


def _code_parameters(template: Mapping[str, Any]) -> CodeParameters | None:
    """The parameters by which the template's only function is told where its code lies."""
    functions = [logical for logical, each in _resources(template).items() if _is_function(each)]
    if len(functions) != 1:
        return None
    properties = _properties(template, functions[0])
    code = table(properties.get("CodeUri") or properties.get("Code"))
    declared = table(template.get("Parameters"))

    def named(*keys: str) -> str | None:
        name = next((table(code[key]).get("Ref") for key in keys if key in code), None)
        return name if isinstance(name, str) and name in declared else None

    if image := table(properties.get("ImageUri") or code.get("ImageUri")).get("Ref"):
        return CodeParameters(image=image) if isinstance(image, str) and image in declared else None
    key = named("Key", "S3Key")
    bucket, version = named("Bucket", "S3Bucket"), named("Version", "S3ObjectVersion")
    return CodeParameters(key=key, bucket=bucket, version=version) if key else None


def _built(
    tree: Tree,
    path: str,
    resources: Mapping[str, Any],
    place: str,
    logical: str,
    *,
    handler: str | None,
    runtime: str | None,
) -> dict[str, Any]:
    """How what has to be compiled is made: by its own language's tools, else by `sam build`."""
    home = path[: path.rfind("/") + 1]
    metadata = table(table(resources.get(logical)).get("Metadata"))
    method, asked = text_of(metadata.get("BuildMethod")) or "", table(metadata.get("BuildProperties"))
    family = "".join(re.findall("^[a-z]*", runtime or ""))
    if not (method or family in ("java", "dotnet", "go", "ruby", "provided")):
        return {}
    if method.startswith(("python", "nodejs")) or (handler and not method and family == "python"):
        return {}
    if method == "esbuild" and handler and holds(tree, place, handler, runtime):
        return {}  # plain JavaScript runs unbundled, too
    ours = handler and holds(tree, place, handler, runtime, typescript=True)  # or its entry is another
    if method == "esbuild" and ours and has_esbuild(tree, f"{place}/" if place != "." else ""):
        return {"bundle": _bundle(asked)}
    if build := builder(tree, place, method, family):
        target = logical if build == "make" else text_of(asked.get("Binary"))
        return {"build": build, **({"target": target} if target else {})}
    return {"build": "command", "command": f"sam build {logical}", "artifact": f"{home}.aws-sam/build/{logical}"}


def _bundle(asked: Mapping[str, Any]) -> Bundle:
    """https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-using-build-typescript.html"""
    return Bundle(
        minify=asked.get("Minify") is not False,
        sourcemap=asked.get("Sourcemap") is True,
        external=tuple(each for each in items(asked.get("External")) if isinstance(each, str) and each),
        target=text_of(asked.get("Target")),
        format="esm" if asked.get("Format") == "esm" else "cjs",
        options=tuple(_options(asked)),
    )


def _options(asked: Mapping[str, Any]) -> Iterator[str]:
    """What else SAM hands to esbuild."""
    if fields := asked.get("MainFields"):
        yield f"--main-fields={fields if isinstance(fields, str) else ','.join(map(str, items(fields)))}"
    for name in ("Loader", "Define", "Banner", "Footer"):
        said = asked.get(name)
        for each in (f"{key}={value}" for key, value in table(said).items()) if table(said) else items(said):
            yield f"--{name.lower()}:{each}"
    if asked.get("KeepNames") is True:
        yield "--keep-names"
    if asked.get("SourcesContent") is False:
        yield "--sources-content=false"


def _literal(value: object, template: Mapping[str, Any]) -> str | None:
    """A property's text, also where it is a parameter with a default."""
    match value:
        case {"Ref": str(parameter)}:
            value = table(table(template.get("Parameters")).get(parameter)).get("Default")
    return value if isinstance(value, str) else None


def _stack_name_in(value: object, stack: str) -> str | None:
    """A FunctionName that names its stack, and nothing else that has to be asked for."""
    match value:
        case {"Fn::Sub": str(text)}:
            name = text.replace("${AWS::StackName}", stack)
            return name if FunctionName.pattern.fullmatch(name) else None
    return None


def _architecture(value: object, template: Mapping[str, Any]) -> Literal["x86_64", "arm64"]:
    said = items(value) or [value]
    return "arm64" if _literal(said[0], template) == "arm64" else "x86_64"


def _owning(functions: tuple[Candidate, ...], aliases: tuple[str, ...]) -> tuple[Candidate, ...]:
    return tuple(replace(each, owned=aliases) for each in functions)


def _own_aliases(template: Mapping[str, Any], path: str, notes: list[str]) -> tuple[str, ...]:
    """Aliases that the stack makes and moves: two cannot both be right about where they point."""
    functions = [key for key, each in _resources(template).items() if _is_function(each)]
    own = {alias for key in functions if (alias := text_of(_properties(template, key).get("AutoPublishAlias")))}
    own |= {
        name
        for each in _resources(template).values()
        if table(each).get("Type") == "AWS::Lambda::Alias"
        and (name := _literal(table(table(each).get("Properties")).get("Name"), template))
    }
    if own:
        notes.append(
            f"{path}: the stack has alias {', '.join(sorted(own))} of its own, which stays the stack's to move. "
            "Let callers use an alias of this file."
        )
    return tuple(sorted(own))


def _capabilities(template: Mapping[str, Any], deploying: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What CloudFormation wants to be told, beyond the default: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html"""
    named = ("RoleName", "PolicyName", "ManagedPolicyName", "UserName", "GroupName", "InstanceProfileName")
    resources = [table(each) for each in _resources(template).values()]
    iam = [each for each in resources if isinstance(each.get("Type"), str) and each["Type"].startswith("AWS::IAM::")]
    said = deploying.get("capabilities")
    found = {each for each in (said.split() if isinstance(said, str) else items(said)) if each in _CAPABILITIES}
    if any(key in table(each.get("Properties")) for each in iam for key in named):
        found.add("CAPABILITY_NAMED_IAM")
    if "CAPABILITY_NAMED_IAM" in found:
        found.discard("CAPABILITY_IAM")
    else:
        found.add("CAPABILITY_IAM")
    if "Transform" in template:
        found.add("CAPABILITY_AUTO_EXPAND")
    return tuple(each for each in _CAPABILITIES if each in found) if found != {"CAPABILITY_IAM"} else None


def _samconfig(tree: Tree, path: str) -> tuple[str | None, Mapping[str, Any]]:
    """What `sam deploy` is told by the file beside the template: its default environment's parameters.

    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-config.html
    """
    home = path.rpartition("/")[0]
    for name in ("samconfig.toml", "samconfig.yaml", "samconfig.yml"):
        file = f"{home}/{name}" if home else name
        default = table(tree.table(file).get("default"))
        if default:
            layers = (table(table(default.get(key)).get("parameters")) for key in ("global", "deploy"))
            return file, {key: each for layer in layers for key, each in layer.items()}
    return None, {}


def _overrides(said: object) -> dict[str, str]:
    """`parameter_overrides`: "Key=Value Other=\\"a b\\"", a list of such, or ParameterKey=…,ParameterValue=… pairs."""
    if isinstance(said, dict):
        return {str(key): str(value) for key, value in said.items()}
    text = said if isinstance(said, str) else " ".join(str(each) for each in items(said))
    if "ParameterKey=" in text:
        found = re.findall(r"ParameterKey=\"?(\w+)\"?,ParameterValue=(?:\"([^\"]*)\"|(\S*))", text)
    else:
        found = re.findall(r"(\w+)=(?:\"([^\"]*)\"|(\S*))", text)
    return {key: quoted or bare for key, quoted, bare in found}


def _stack(tree: Tree, notes: list[str]) -> str:
    """The stack's name as scripts have it, else a guess."""
    for path in tree.files:
        name = path.rpartition("/")[2]
        if path.count("/") > 1:
            break
        if name.endswith((".sh", ".yml", ".yaml", ".json", ".toml")) or name in ("Makefile", "Jenkinsfile"):
            found = _STACK_NAME.search(tree.text(path))
            if found:
                notes.append(f"The stack's name, {found[1]}, is from {path}.")
                return found[1]
    guess = re.sub("[^A-Za-z0-9]+", "-", tree.name).strip("-0123456789")[:100]
    guess = f"{guess}-stack" if guess else "stack"
    notes.append(f"The stack's name, {guess}, is a guess.")
    return guess


# The CDK


def look_cdk(tree: Tree) -> Found | None:
    """The functions of the stacks in cdk.out, whose template names them by logical id; None without a cdk.json.

    https://docs.aws.amazon.com/cdk/v2/guide/configure-synth.html
    """
    told, notes = [], []
    app = next(iter(tree.called("cdk.json")), None)
    output = within(app.rpartition("/")[0], text_of(tree.table(app).get("output")) or "cdk.out") if app else "cdk.out"
    stacks = list(_stacks(tree, output or "cdk.out"))
    if app is None and not stacks:
        return None
    depth = (app or "").count("/")
    functions: list[Candidate] = []
    region: str | None = None
    owned: list[str] = []
    for stack, path, where in stacks:
        template = tree.table(path, largest=20_000_000)
        for logical, each in _resources(template).items():
            resource = table(each)
            properties = table(resource.get("Properties"))
            if resource.get("Type") != _LAMBDA or _OF_THE_CDK.search(logical):
                continue
            handler, runtime = text_of(properties.get("Handler")), text_of(properties.get("Runtime"))
            if properties.get("PackageType") == "Image" or handler is None:
                notes.append(f'{logical} of {stack} is a container image: add it yourself, with build = "image".')
                continue
            source, more = _asset(tree, path, logical, resource, handler=handler, runtime=runtime)
            name = text_of(properties.get("FunctionName"))
            if _inline(properties) and home_of(tree, handler, runtime) is None:
                notes.append(_to_a_file(path, logical))
            owner = CloudFormation(
                stack=stack, template=path, function=logical, capabilities=_capabilities(template, {})
            )
            functions.append(
                candidate(
                    tree,
                    source,
                    name or logical,
                    notes,
                    handler=handler,
                    runtime=runtime,
                    provision=owner,
                    name=name,
                    architecture=_architecture(properties.get("Architectures"), template),
                    **more,
                )
            )
            told.append(f"{path}: function {logical} of stack {stack} ({handler}, {runtime}), code in {source}")
            region = region or (where if fits(Region, where) else None)
        owned += _own_aliases(template, path, notes)
    if functions:
        functions = [*_owning(tuple(functions), tuple(owned))]
        notes.append("cdk.out is what `npx cdk synth` made last: run it before a deploy.")
    else:
        notes.append(f"{app or output} is the CDK's, but nothing was synthesised: `npx cdk synth`, then init again.")
        functions = [candidate(tree, ".", tree.name, notes)]
    return Found(
        kind="cdk", functions=tuple(functions), told=tuple(told), notes=tuple(notes), region=region, depth=depth
    )


def _stacks(tree: Tree, output: str, deep: int = 0) -> Iterator[tuple[str, str, str]]:
    """The stacks of a cloud assembly, nested ones too: name, template, region ("" where it is the caller's)."""
    artifacts = table(tree.table(f"{output}/manifest.json", largest=20_000_000).get("artifacts"))
    for key, each in artifacts.items():
        artifact = table(each)
        properties = table(artifact.get("properties"))
        match artifact.get("type"):
            case "aws:cloudformation:stack" if file := text_of(properties.get("templateFile")):
                name = text_of(properties.get("stackName")) or key
                path = within(output, file)
                if path and fits(Stack, name):
                    yield name, path, str(artifact.get("environment", "")).rpartition("/")[2]
            case "cdk:cloud-assembly" if folder := text_of(properties.get("directoryName")):
                inner = within(output, folder)
                if inner and deep < 3:
                    yield from _stacks(tree, inner, deep + 1)


def _asset(
    tree: Tree, template: str, logical: str, resource: Mapping[str, Any], *, handler: str, runtime: str | None
) -> tuple[str, dict[str, Any]]:
    """Where a function's sources are: the folder whose files the asset is a copy of, else the asset as it is."""
    try:
        asset = assembly.place(tree.root / template, resource)
    except UsageError:
        asset = None
    copied = {each.name for each in asset.iterdir()} if asset and asset.is_dir() else set()
    bundled = table(resource.get("Metadata")).get("aws:asset:is-bundled")
    if bundled is not True:
        likely = [folder for folder in tree.folders if holds(tree, folder, handler, runtime)]
        folder = max(likely, key=lambda folder: len(copied & _names(tree, folder)), default=None)
        # An app that was not run by the CDK's command does not say: then every file must be there.
        if folder and (bundled is False or not asset or copied <= _names(tree, folder)):
            return folder, {}
    if asset:
        return ".", {"build": "zip", "artifact": f"{template}#{logical}"}
    return home_of(tree, handler, runtime) or ".", {}


def _names(tree: Tree, folder: str) -> set[str]:
    try:
        return {each.name for each in (tree.root / folder).iterdir()}
    except OSError:
        return set()
