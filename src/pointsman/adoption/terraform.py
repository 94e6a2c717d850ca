"""Terraform and OpenTofu: `aws_lambda_function`, and calls of terraform-aws-modules/lambda; from HCL, and from states.

What HCL leaves open, a state that lies here tells. https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/lambda_function
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

from msgspec.structs import replace

from pointsman.adoption.code import candidate, home_of
from pointsman.adoption.found import Candidate, Found
from pointsman.adoption.hcl import Module, Ref, files_of, values
from pointsman.adoption.tree import Tree, items, table, text_of
from pointsman.config import Existing, Image, Inputs, Outputs, Region, Terraform, fits
from pointsman.model import FunctionName
from pointsman.model import Value as Frozen

_MODULE = re.compile(r"terraform-aws-modules/(terraform-aws-)?lambda(/aws)?(\.git)?/?(\?.*)?$")
_ALIAS_MODULE = re.compile(r"terraform-aws-modules/(terraform-aws-)?lambda(/aws|\.git)?//modules/alias")
_STATE = 50_000_000  # bytes
_NAMES = ("function_name", "id", "lambda_function_name", "arn", "lambda_function_arn")
_VERSIONS = ("version", "lambda_function_version", "qualified_arn", "lambda_function_qualified_arn")
_USUAL = ("terraform", "infra", "infrastructure", "tf", "deploy", ".")


class _Declared(Frozen, frozen=True, kw_only=True):
    """A function as Terraform declares it, in the file `where`. `code` is the folder it is zipped from, `only` the one
    file of it; `zip` a package that something else makes. Of a container image, `uri` is where it lies, and `variable`
    the root module's that says so. `brought`: the arguments by which an apply brings code. `rendered`: Terraform makes
    the files themselves.
    """

    address: str
    path: tuple[str, ...]
    where: str
    name: str | None
    handler: str | None
    runtime: str | None
    architecture: Literal["x86_64", "arm64"]
    publishes: bool
    ignores_code: bool
    code: str | None
    only: str | None = None
    zip: str | None = None
    image: bool = False
    uri: str | None = None
    variable: str | None = None
    many: bool = False
    brought: tuple[str, ...] = ("filename", "source_code_hash")
    rendered: bool = False


def look(tree: Tree) -> Found | None:
    """The functions of the likeliest root module; None where none is declared, nor in a state."""
    folders = [folder for folder in tree.folders if files_of(tree, folder)]
    if not any("lambda" in tree.text(path) for folder in folders for path in files_of(tree, folder)):
        return _of_state_alone(tree)
    roots: list[tuple[Module, list[_Declared]]] = []
    called: set[str] = set()
    broken: list[str] = []
    for folder in sorted(folders, key=lambda each: (each.count("/"), _rank(each), each))[:40]:
        if folder in called:
            continue
        module = _root(tree, folder, broken)
        functions = [each for inner in module.everywhere() for each in _functions(tree, inner)]
        called |= {inner.folder for inner in module.everywhere()} - {folder}
        if functions:
            roots.append((module, functions))
    # A module that another calls is no root, whichever was read first; nor is an example or a test, if there is more.
    roots = [each for each in roots if each[0].folder not in called] or roots
    roots.sort(key=lambda each: bool(re.search(r"(^|/)(examples?|tests?|modules)(/|$)", each[0].folder)))
    notes = [f"{path} could not be read as HCL, and was passed over." for path in dict.fromkeys(broken)]
    if not roots:
        return _of_state_alone(tree)
    module, functions = roots[0]
    if len(roots) > 1:
        others = ", ".join(each.folder for each, _ in roots[1:6])
        notes.insert(0, f"Root module {module.folder} was taken, as the nearest; others: {others}. Run init in those.")
    return _found(tree, module, functions, notes)


def _rank(folder: str) -> int:
    name = folder.rpartition("/")[2]
    return _USUAL.index(name) if name in _USUAL else len(_USUAL)


def _root(tree: Tree, folder: str, broken: list[str]) -> Module:
    workspace = tree.text(f"{folder}/.terraform/environment").strip() or "default"
    module = Module(tree, folder, workspace=workspace, broken=broken)
    here = [path for path in tree.files if (path.rpartition("/")[0] or ".") == folder]
    loaded = [path for path in here if re.search(r"(^|/)terraform\.tfvars(\.json)?$", path)]
    loaded += [path for path in here if re.search(r"\.auto\.tfvars(\.json)?$", path)]
    for path in loaded:
        module.given |= values(tree, path)
    return module


# What is declared


def _functions(tree: Tree, module: Module) -> list[_Declared]:
    found = []
    for (kind, name), body in module.of("resource").items():
        if kind == "aws_lambda_function":
            address = f"{kind}.{name}"
            where = module.where.get(("resource", kind, name), module.folder)
            code = _code(module, body)
            made = _declared(module, address, body, where=where, code=code)
            found.append(made if code[0] else replace(made, zip=module.place(body.get("filename"))))
    for (name, *_), body in module.of("module").items():
        if _makes_a_function(module, name, body):
            where = module.where.get(("module", name), module.folder)
            code = _source_path(tree, module, body)
            found.append(_declared(module, f"module.{name}", body, where=where, code=code))
    return found


def _makes_a_function(module: Module, name: str, body: Mapping[str, Any]) -> bool:
    """Calls of terraform-aws-modules/lambda; of others that cannot be read here those that are called like it."""
    source = module.text(body.get("source")) or ""
    alike = "function_name" in body and body.keys() & {"handler", "runtime", "source_path", "filename"}
    if not _MODULE.search(source) and not (alike and module.child(name) is None):
        return False
    return module.value(body.get("create_function")) is not False and module.value(body.get("create")) is not False


def _declared(
    module: Module, address: str, body: Mapping[str, Any], *, where: str, code: tuple[str | None, str | None]
) -> _Declared:
    ignoring = [table(block).get("ignore_changes") for block in items(body.get("lifecycle"))]
    ignored = {str(each) for one in ignoring for each in items(one)}
    uri = module.text(body.get("image_uri"))
    zipped = {"handler", "runtime", "filename", "s3_key"} & body.keys()  # a module may be written for both
    image = module.text(body.get("package_type")) == "Image" or ("image_uri" in body and not zipped)
    code_ = {"image_uri"} if image else {"filename", "source_code_hash", "s3_key", "s3_object_version"}
    return _Declared(
        address=address,
        path=module.path,
        where=where,
        name=module.text(body.get("function_name")),
        handler=module.text(body.get("handler")),
        runtime=module.text(body.get("runtime")),
        architecture="arm64" if items(module.value(body.get("architectures")))[:1] == ["arm64"] else "x86_64",
        publishes=module.value(body.get("publish")) is True,
        ignores_code="all" in ignoring
        or bool(ignored & code_)
        or module.value(body.get("ignore_source_code_hash")) is True,
        code=code[0],
        only=code[1],
        image=image,
        uri=uri if fits(Image, uri) else None,
        variable=module.variable(body.get("image_uri")) if not module.path else None,
        many="for_each" in body or "count" in body,
        brought=_brought(body, image=image),
        rendered=_rendered(module, body),
    )


def _brought(body: Mapping[str, Any], *, image: bool) -> tuple[str, ...]:
    if image:
        return ("image_uri",)
    first = ("s3_key", "s3_object_version") if "s3_key" in body else ("filename",)
    return (*first, "source_code_hash") if "filename" in first or "source_code_hash" in body else first


def _code(module: Module, body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The folder (and the one file of it) that a function's zip is made of, by whichever archive_file makes it."""
    found = _archive(module, body)
    return _archived(*found) if found else (None, None)


def _archive(module: Module, body: Mapping[str, Any]) -> tuple[Module, Mapping[str, Any]] | None:
    ref = module.ref(body.get("filename"))
    if ref is None and (uploaded := module.ref(body.get("s3_key")) or module.ref(body.get("s3_object_version"))):
        # of an aws_s3_object, whose `source` is the archive
        holder = module.at(uploaded.module)
        stored = holder.body(uploaded.address) if holder else None
        ref = holder.ref(stored.get("source")) if holder and stored else None
    if ref is not None and "archive_file" in ref.address:
        owner = module.at(ref.module)
        archive = owner.body(ref.address) if owner else None
        return (owner, archive) if owner and archive else None
    zipped = module.place(body.get("filename"))
    blocks = [*module.of("data").items(), *module.of("resource").items()]
    archives = [body for labels, body in blocks if labels[0] == "archive_file"]
    same = [each for each in archives if zipped and module.place(each.get("output_path")) == zipped]
    return (module, same[0]) if same else None


def _rendered(module: Module, body: Mapping[str, Any]) -> bool:
    """Whether Terraform fills in the files that it zips: then those that lie here are templates, and no code."""
    found = _archive(module, body)
    contents = [str(table(each).get("content")) for each in items(found[1].get("source"))] if found else []
    return any("templatefile(" in each or "template_file." in each for each in contents)


def _archived(module: Module, archive: Mapping[str, Any]) -> tuple[str | None, str | None]:
    place = module.place(archive.get("source_dir"))
    if place is not None:
        return place, None
    file = module.place(archive.get("source_file"))
    return (file.rpartition("/")[0] or ".", file.rpartition("/")[2]) if file else (None, None)


def _source_path(tree: Tree, module: Module, body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """`source_path` of terraform-aws-modules/lambda: a path, a list of paths or of tables with `path`."""
    raw = body.get("source_path")
    for each in items(raw) or [raw]:
        place = module.place(each.get("path") if isinstance(each, dict) else each)
        if place and tree.is_folder(place):
            return place, None
        if place and tree.is_file(place):
            return place.rpartition("/")[0] or ".", place.rpartition("/")[2]
    return None, None


# What is written


def _found(tree: Tree, module: Module, declared: list[_Declared], notes: list[str]) -> Found:
    folder, told = module.folder, [_backend(tree, module, notes)]
    state = _state(tree, folder, module.workspace)
    functions: list[Candidate] = []
    aliases: list[str] = []
    left: list[_Declared] = []  # to whoever runs Terraform
    for each in declared:
        known = state.get((each.path, each.address)) or [{}]
        free, owned = _aliases(module, each, notes)
        if each.many and not known[0]:
            notes.append(f"{each.where}: {each.address} stands for several (count or for_each): one of them was taken.")
        for attributes in known:
            many = each.many or len(known) > 1
            make = _of_image if each.image else _candidate
            made = make(tree, module, each, attributes, many=many, told=told, notes=notes)
            made = replace(made, aliases=free, owned=owned)
            functions.append(made)
            if not isinstance(made.provision, Terraform):
                left.append(each)
        aliases += free
    _leave(module, left, notes)
    if not functions:
        from pointsman.adoption.plain import function

        functions = [function(tree, notes)]
    _variables(tree, module, {each.variable for each in declared if each.variable}, notes)
    provider = next((body for labels, body in module.of("provider").items() if labels == ("aws",)), {})
    region, profile = (module.text(provider.get(key)) for key in ("region", "profile"))
    return Found(
        kind="terraform",
        functions=tuple(functions),
        told=tuple(filter(None, told)),
        notes=tuple(dict.fromkeys(notes)),
        aliases=tuple(dict.fromkeys(aliases)),
        region=region if fits(Region, region) else None,
        profile=profile if profile != "default" else None,
        # A folder of its own for Terraform lies beside the code, not below it.
        depth=max(0, folder.count("/") if folder != "." else 0),
    )


def _candidate(
    tree: Tree,
    module: Module,
    each: _Declared,
    attributes: Mapping[str, Any],
    *,
    many: bool,
    told: list[str],
    notes: list[str],
) -> Candidate:
    name = text_of(attributes.get("function_name")) or each.name
    name = name if name and FunctionName.pattern.fullmatch(name) else None
    handler = text_of(attributes.get("handler")) or each.handler
    runtime = text_of(attributes.get("runtime")) or each.runtime
    shown = name or each.address.rpartition(".")[2]
    source = each.code if each.code and tree.is_folder(each.code) else None
    source = source or home_of(tree, handler, runtime)
    outputs = {} if many else _outputs(module, each)
    provision: Terraform | Existing | None = Existing(name=FunctionName(name)) if name else None
    if "name" in outputs:
        provision = Terraform(
            directory=module.folder,
            workspace=module.workspace if module.workspace != "default" else None,
            outputs=Outputs(**outputs),
        )
        _must_tell_versions(module, each, outputs, notes)
    elif name is None:
        notes.append(f"{each.where}: the name of {each.address} on AWS is not known here: put it into `provision`.")
    more: dict[str, Any] = {}
    compiled = runtime and not runtime.startswith(("nodejs", "python"))
    if each.rendered:
        notes.append(
            f"{each.where}: Terraform renders the code of {shown} from templates (archive_file's `source`), so its zip "
            "is the package, as of the last apply. Better: hand the values over as environment variables."
        )
    elsewhere = compiled or each.rendered or (source is None and each.zip and tree.is_file(each.zip))
    if each.zip and elsewhere:
        more = {"build": "zip", "artifact": each.zip}
    elif source is None:
        notes.append(f"{each.where}: the code of {shown} was not found ({handler}): say where in `source`.")
    told.append(
        f"{each.where}: function {shown} ({handler}, {runtime}), code in {more.get('artifact') or source or '.'}"
    )
    return candidate(
        tree,
        source or ".",
        shown,
        notes,
        handler=handler,
        runtime=runtime,
        where=each.where,
        provision=provision,
        name=name,
        architecture="arm64" if items(attributes.get("architectures")) == ["arm64"] else each.architecture,
        include=(each.only,) if each.only and source == each.code else (),
        **more,
    )


def _of_image(
    _tree: Tree,
    module: Module,
    each: _Declared,
    attributes: Mapping[str, Any],
    *,
    many: bool,
    told: list[str],
    notes: list[str],
) -> Candidate:
    """Terraform's, where it can be told the image by a variable, or leaves it to others."""
    name = text_of(attributes.get("function_name")) or each.name
    name = name if name and FunctionName.pattern.fullmatch(name) else None
    shown = name or each.address.rpartition(".")[2]
    outputs = {} if many else _outputs(module, each)
    provision: Terraform | Existing | None = Existing(name=FunctionName(name)) if name else None
    takes = each.variable or each.ignores_code
    if "name" in outputs and takes:
        provision = Terraform(
            directory=module.folder,
            workspace=module.workspace if module.workspace != "default" else None,
            inputs=Inputs(image=each.variable if each.variable != "image_uri" else None),
            outputs=Outputs(**outputs),
        )
        _must_tell_versions(module, each, outputs, notes)
    elif "name" in outputs:
        notes.append(
            f"{each.where}: {each.address} has its image from no variable of {module.folder}, so Terraform is left to "
            'you. To have it applied by a deploy, add variable "image_uri" { type = string }, then init again.'
        )
    elif name is None:
        notes.append(f"{each.where}: the name of {each.address} on AWS is not known here: put it into `provision`.")
    known = text_of(attributes.get("image_uri"))
    told.append(f"{each.where}: function {shown}, a container image")
    return Candidate(
        owner=shown,
        build="image",
        image=each.uri or (known if fits(Image, known) else None),
        provision=provision,
        name=name,
        architecture="arm64" if items(attributes.get("architectures")) == ["arm64"] else each.architecture,
    )


def _must_tell_versions(module: Module, each: _Declared, outputs: Mapping[str, str], notes: list[str]) -> None:
    if each.publishes and "version" not in outputs:
        notes.append(
            f"{each.where}: {each.address} publishes versions, but no output tells which: add "
            f"{_new_output(module, each, 'version')} to {module.folder}."
        )


def _leave(module: Module, left: list[_Declared], notes: list[str]) -> None:
    """What somebody should know whose Terraform goes on being run by hand."""
    single = [each for each in left if not each.many and not _outputs(module, each)]
    if single:
        names = ", ".join(each.address for each in single[:8])
        outputs = ", ".join(_new_output(module, each, "function_name") for each in single[:8])
        notes.append(
            f"{module.folder} has no output with the name of {names}, so Terraform is left to you. To have it applied "
            f"by a deploy, add {outputs}, then init again."
        )
    fought = [each for each in left if not each.ignores_code]
    if fought:
        names = ", ".join(dict.fromkeys(each.address for each in fought[:8]))
        brought = ", ".join(dict.fromkeys(name for each in fought for name in each.brought))
        notes.append(
            "The next `terraform apply` brings its own code back to $LATEST (no alias serves that). To prevent it, add "
            f"lifecycle {{ ignore_changes = [{brought}] }} to {names}."
        )


def _new_output(module: Module, each: _Declared, attribute: str) -> str:
    """An output of a name that is free, and that another function would not be told, too."""
    what, taken = attribute.removeprefix("function_"), {name for name, *_ in module.of("output")}
    alone = sum(kind == "aws_lambda_function" for kind, *_ in module.of("resource")) <= 1
    label = re.sub("[^A-Za-z0-9_-]", "_", each.address.rpartition(".")[2])
    names = [*(["lambda"] if alone else []), label, *(f"{label}{n}" for n in range(2, 99))]
    name = next((name for each in names if (name := f"{each}_{what}") not in taken), f"{label}_{what}")
    return f'output "{name}" {{ value = {_attribute(each, attribute)} }}'


def _attribute(each: _Declared, attribute: str) -> str:
    prefix = "lambda_" if each.address.startswith("module.") and attribute == "function_name" else ""
    prefix = "lambda_function_" if each.address.startswith("module.") and attribute == "version" else prefix
    return f"{each.address}.{prefix}{attribute}"


def _outputs(module: Module, each: _Declared) -> dict[str, str]:
    """The root module's outputs that give the function's name (or ARN) and the version it published."""
    refs: dict[str, str] = {}
    for (name, *_), body in module.of("output").items():
        ref = module.ref(body.get("value"))
        if isinstance(ref, Ref) and (ref.module, ref.address) == (each.path, each.address):
            refs.setdefault(ref.attribute, name)
    wanted = {"name": _NAMES, "version": _VERSIONS if each.publishes else ()}
    chosen = {key: next((refs[each] for each in those if each in refs), None) for key, those in wanted.items()}
    return {key: name for key, name in chosen.items() if name}


def _aliases(root: Module, each: _Declared, notes: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The function's aliases that Terraform made and leaves to others to move, and those it moves itself."""
    free: list[str] = []
    owned: list[str] = []
    for module in root.everywhere():
        for (kind, label), body in module.of("resource").items():
            target = module.ref(body.get("function_name"))
            of_it = (target and (target.module, target.address) == (each.path, each.address)) or (
                target is None and each.name and each.name in str(module.text(body.get("function_name")))
            )
            if kind != "aws_lambda_alias" or not of_it:
                continue
            name = module.text(body.get("name"))
            ignored = str([table(block).get("ignore_changes") for block in items(body.get("lifecycle"))])
            if name and ("function_version" in ignored or "all" in ignored):
                free.append(name)
            else:
                owned += [name] if name else []
                where = module.where.get(("resource", kind, label), module.folder)
                notes.append(
                    f"{where}: alias {name or label} is Terraform's to move. Let callers use an alias of this file, or "
                    "add lifecycle { ignore_changes = [function_version, routing_config] } to it, then init again."
                )
        for (label, *_), body in module.of("module").items():
            if _ALIAS_MODULE.search(module.text(body.get("source")) or ""):
                name = module.text(body.get("name"))
                if name and module.value(body.get("refresh_alias")) is False:
                    free.append(name)
                else:
                    owned += [name] if name else []
                    notes.append(f"module.{label}: alias {name or label} is Terraform's to move (refresh_alias).")
    return tuple(free), tuple(owned)


def _variables(tree: Tree, module: Module, ours: Collection[str], notes: list[str]) -> None:
    folder = module.folder
    variables = {labels[0]: body for labels, body in module.of("variable").items()}
    needed = [name for name, body in variables.items() if "default" not in body and name not in (*module.given, *ours)]
    if needed:
        notes.append(
            f"{folder} has variables without a value, to be given in `provision.variables`: {', '.join(needed[:12])}."
        )
    here = [path for path in tree.ending(".tfvars") if (path.rpartition("/")[0] or ".") == folder]
    unloaded = [path for path in here if not path.endswith((".auto.tfvars", "terraform.tfvars"))]
    if unloaded:
        notes.append(f"Terraform loads {', '.join(unloaded[:5])} with -var-file only: what they set is not known here.")


def _backend(tree: Tree, module: Module, notes: list[str]) -> str:
    """Where the state is, in words: as initialised here, else as HCL says it."""
    folder = module.folder
    kept = f"{folder}/.terraform/terraform.tfstate" if folder != "." else ".terraform/terraform.tfstate"
    initialised = table(tree.table(kept, largest=_STATE).get("backend"))
    blocks = module.blocks.get("terraform", {})
    declared = next(iter(table(next(iter(items(blocks.get(("backend",)))), None)).items()), None)
    states = [path for path in tree.called("terraform.tfstate") if f"{folder}/terraform.tfstate.d/" in f"./{path}"]
    workspaces = sorted(path.split("/")[-2] for path in states)
    if others := [each for each in workspaces if each != module.workspace]:
        notes.append(f"Workspace {module.workspace} was taken; {folder} has others: {', '.join(others[:8])}.")
    if initialised.get("type"):
        settings = table(initialised.get("config"))
        where = "/".join(str(settings[key]) for key in ("bucket", "key", "path") if settings.get(key))
        return f"{kept}: backend {initialised['type']}{f' ({where})' if where else ''}, workspace {module.workspace}"
    if ("cloud",) in blocks:
        return f"{folder}: state in HCP Terraform, workspace {module.workspace}"
    kind = str(declared[0]).strip('"') if declared else "local"
    if declared and kind == "s3" and "bucket" not in table(declared[1]):
        notes.append(f"{folder}: backend s3 is configured in part only: `terraform init -backend-config=…` first.")
    return f"{folder}: backend {kind}, workspace {module.workspace}"


# States: https://developer.hashicorp.com/terraform/internals/json-format is of plans; the file itself is version 4


def _state(tree: Tree, folder: str, workspace: str) -> dict[tuple[tuple[str, ...], str], list[Mapping[str, Any]]]:
    """The functions of a local state: module path and address → the attributes of each instance."""
    inner = "terraform.tfstate" if workspace == "default" else f"terraform.tfstate.d/{workspace}/terraform.tfstate"
    return _read_state(tree, inner if folder == "." else f"{folder}/{inner}")


def _read_state(tree: Tree, path: str) -> dict[tuple[tuple[str, ...], str], list[Mapping[str, Any]]]:
    found: dict[tuple[tuple[str, ...], str], list[Mapping[str, Any]]] = {}
    for each in items(tree.table(path, largest=_STATE).get("resources")):
        resource = table(each)
        if resource.get("mode") != "managed" or resource.get("type") != "aws_lambda_function":
            continue
        said = str(resource.get("module", ""))
        modules = tuple(re.findall(r"module\.([A-Za-z0-9_-]+)", said))
        attributes = [table(table(one).get("attributes")) for one in items(resource.get("instances"))]
        address = f"aws_lambda_function.{resource.get('name')}"
        if modules and address == "aws_lambda_function.this":  # terraform-aws-modules/lambda's own
            found.setdefault((modules[:-1], f"module.{modules[-1]}"), []).extend(attributes)
        found.setdefault((modules, address), []).extend(attributes)
    return found


def _of_state_alone(tree: Tree) -> Found | None:
    """The functions of a state whose HCL is elsewhere: Terraform is left to whoever has that."""
    for path in tree.called("terraform.tfstate"):
        functions: list[Candidate] = []
        notes: list[str] = []
        told: list[str] = []
        for (_, address), instances in _read_state(tree, path).items():
            for each in instances:
                name = text_of(each.get("function_name"))
                if name is None or not FunctionName.pattern.fullmatch(name) or address.startswith("module."):
                    continue
                handler, runtime = text_of(each.get("handler")), text_of(each.get("runtime"))
                told.append(f"{path}: function {name} ({handler}, {runtime})")
                functions.append(
                    candidate(
                        tree,
                        home_of(tree, handler, runtime) or ".",
                        name,
                        notes,
                        handler=handler,
                        runtime=runtime,
                        provision=Existing(name=FunctionName(name)),
                        name=name,
                        architecture="arm64" if items(each.get("architectures")) == ["arm64"] else "x86_64",
                    )
                )
        if functions:
            notes.append(f"{path} has the functions, but their .tf files are not here: Terraform is left to you.")
            made = Found(kind="terraform", functions=tuple(functions), told=tuple(told), notes=tuple(notes))
            return replace(made, depth=path.count("/"))
    return None
