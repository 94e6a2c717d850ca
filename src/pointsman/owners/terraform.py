"""A Terraform (or OpenTofu) module owns the function.

Terraform is run where a digest of all that decides a plan, or the package, is not the one that was applied last. Its
plan is made once, read, shown, and applied as it is. Where the module publishes the package, the version is
Terraform's; where it only makes the function, code and versions are Pointsman's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pointsman.config import Terraform
from pointsman.errors import GateRefused, NotFound, StalePlan, TerraformFailed, UsageError
from pointsman.execute import Applied
from pointsman.model import Artifact, Bits, BuildId, Configuration, FunctionArn, FunctionName, Version
from pointsman.owners import Found, aliases_there, place_of, remember
from pointsman.plan import ApplyTerraform
from pointsman.provision import terraform, terraform_module, terraform_plan
from pointsman.provision.terraform import Work
from pointsman.provision.terraform_plan import Planned
from pointsman.world import Session, git

_OLD_PLANS_S = 86_400


def find(session: Session, provision: Terraform, made: Artifact, build: BuildId) -> Found:
    """GetFunction alone where nothing that decides has changed since the last apply; else by a plan of Terraform's."""
    directory = _directory(session, provision)
    inputs = _inputs(session, provision, directory, made, build)
    key = _key(session, provision, directory, inputs)
    saved = next((s for s in session.saved.steps if isinstance(s, ApplyTerraform)), None) if session.saved else None
    if saved:
        return _saved(session, saved, key)
    known = session.ledger.remembered("terraform", _state(session, provision))
    if known and known["key"] == key and known["name"] and _may_stand(session, known, made):
        function = session.gateway.function(known["name"])
        if function and _as_applied(session, function, known, made):
            return Found(function=function, name=function.arn.name, template=key)
    if session.environment.account:
        session.check_account(None)  # before Terraform is let at it
    return _planned(session, provision, made, build, inputs=inputs, known=known or {})


def name(session: Session, provision: Terraform) -> FunctionName:
    known = session.ledger.remembered("terraform", _state(session, provision))
    if known and known["name"]:
        return FunctionName(known["name"])
    found, _ = _told(_work(session, provision), provision, None, version_too=False)
    if found is None:
        raise NotFound(
            f"Terraform in {provision.directory} tells of no function",
            next=f"`pointsman deploy` applies it; an output {provision.outputs.name} names the function.",
        )
    return found


def apply(session: Session, provision: Terraform, step: ApplyTerraform, made: Artifact) -> Applied:
    where = f"applying {step.directory}"
    if step.losses and not session.world.options.allow_replace:
        raise GateRefused(
            "this plan would\n" + "\n".join(f"  {line}" for line in step.losses),
            where=where,
            next="Nothing was changed. `--allow` does it all the same.",
        )
    file = Path(step.file)
    if terraform.file_digest(file) != step.digest:
        raise StalePlan(f"{file} is not the plan that was shown", where=where, next="Make a new plan.")
    _place(session, provision, made)
    for line in (*step.changes, *step.notes):
        session.world.show(f"terraform: {line}")
    # From here on nobody may take the state for what it was; nor, until it is through, for what it will be.
    _remember(session, provision, None, key="", brings=step.publishes)
    remember(session, "", None)
    work = _work(session, provision)
    intent = session.ledger.append(
        session.run, "call", function=session.function.name, subject=step.directory, action="terraform apply"
    )
    terraform.apply(work, file)
    session.ledger.append(session.run, "settled", function=session.function.name, intent=intent, outcome="done")
    file.unlink(missing_ok=True)
    found, version = _told(work, provision, step.address or None, version_too=step.brings)
    if found is None:
        raise UsageError(
            f"Terraform was applied, and no output tells the function's name ({provision.outputs.name})",
            where=where,
            next="Add the output, or name yours: provision.outputs.name. Then deploy again.",
        )
    function = session.gateway.function(found)
    if function is None:
        raise NotFound(
            f"Terraform was applied, and there is no function {found} in {session.wire.region}",
            where=where,
            next="Does its provider make it in another region or account? Then set `region` (or `role_arn`) of "
            f"[environment.{session.place.name}]. Then deploy again.",
        )
    session.arn = function.arn.unqualified
    _remember(session, provision, function, key=step.key, brings=step.publishes)
    remember(session, step.key, session.arn)
    return Applied(name=found, version=version)


def applied(session: Session, provision: Terraform, step: ApplyTerraform) -> Version | None:
    """The version that the step was to bring, where an apply for another function of the module brought it already."""
    return _told(_work(session, provision), provision, step.address or None, version_too=True)[1]


def brings_code(session: Session, provision: Terraform) -> bool:
    """Whether the module takes the package, as its files tell: then an apply would put back what is put beside it."""
    if session.function.build == "image":
        return bool(_taken(session, provision)) and not any(
            terraform_module.leaves_images(_directory(session, provision))
        )
    given = provision.package or terraform_module.constant_package(_directory(session, provision))
    return bool(given or _taken(session, provision))


# What is there, what is to be


def _may_stand(session: Session, known: Mapping[str, Any], made: Artifact) -> bool:
    """Whether the ledger alone does not rule out `_as_applied`: a package it never saw is Terraform's to bring."""
    if not known["brings"] or known.get("sha256", made.sha256) == made.sha256:
        return True
    bits = Bits(sha256=made.sha256, fingerprint=known["fingerprint"])
    return session.ledger.version_of(FunctionArn.parse(known["arn"]), bits) is not None


def _as_applied(session: Session, function: Configuration, known: Mapping[str, Any], made: Artifact) -> bool:
    """Whether the function is as the last apply left it, and the package needs no other."""
    arn = function.arn.unqualified
    if str(arn) != known["arn"] or function.fingerprint != known["fingerprint"]:
        return False
    bits = Bits(sha256=made.sha256, fingerprint=function.fingerprint)
    return not known["brings"] or function.sha256 == made.sha256 or session.ledger.version_of(arn, bits) is not None


def _planned(
    session: Session,
    provision: Terraform,
    made: Artifact,
    build: BuildId,
    *,
    inputs: Mapping[str, str],
    known: Mapping[str, Any],
) -> Found:
    if made.image and (left := terraform_module.leaves_images(_directory(session, provision))) and not any(left):
        _must_take_image(session, provision)
    place = _place(session, provision, made)
    for name, other in _neighbours(session, provision).items():
        if other.package and other.package != provision.package and name in session.world.packages:
            _place(session, other, session.world.packages[name])
    work = _work(session, provision, {**_of_neighbours(session, provision, inputs), **inputs})
    file = _plan_file(session)
    session.wire.warm("lambda")  # Terraform takes its seconds: the calls after it then need not wait for botocore
    terraform.make_ready(work)
    key = _key(session, provision, work.directory, inputs)  # now: init may have written the lock file
    session.say(f"{work.name} plan in {provision.directory}")
    changed = terraform.plan(work, file)
    document = terraform.show(work, file)
    outputs = provision.outputs
    meant = terraform_plan.function(document, name_output=outputs.name, known=known.get("name", ""))
    planned_outputs = (document.get("planned_values") or {}).get("outputs") or {}
    told, version = terraform_plan.outputs(planned_outputs, name=outputs.name, version=outputs.version)
    found = told or (meant.name if meant else None)
    if found is None and not changed:
        raise UsageError(
            f"Terraform in {provision.directory} does not tell which function is meant",
            next=f"Add an output {outputs.name} with its name, or name yours: provision.outputs.name.",
        )
    function = session.gateway.function(found) if found else None
    if meant:
        _must_fit(session, provision, document, meant, made)
    if function and meant and (meant.action, meant.name) == ("create", function.arn.name):
        _must_be_known(session, provision, document, meant)
    if made.image and meant and function and function.sha256 == made.sha256:
        # The same image by its tag, say as somebody deployed it before: not worth a write, and no other version.
        changed = changed and not terraform_plan.names_image_only(document, meant)
        version = version if changed else meant.had
    stays = not changed or meant is None or meant.action is None
    version = (meant.version if meant else None) or (version if stays else None)
    takes = place is not None or _taken(session, provision)
    publishes = brings = _brings(meant, made, takes=bool(takes))
    published = _published(session, function, version, made, build) if brings and version else None
    if brings and version and not published:
        brings = False  # an apply that was cut short left the code and no version of it: publishing is left to us
    if not changed:
        file.unlink(missing_ok=True)
        if function is None:
            raise NotFound(
                f"Terraform's state has function {found}, but Lambda does not",
                next="Is it another account or region than the state's? Nothing was changed.",
            )
        if session.run:
            _remember(session, provision, function, key=key, brings=publishes)
        return Found(function=function, name=found, template=key, published=published)
    step = ApplyTerraform(
        directory=provision.directory,
        workspace=work.workspace or "",
        file=str(file),
        digest=terraform.file_digest(file),
        key=key,
        address=meant.address if meant else "",
        changes=_lines(document),
        publishes=publishes,
        brings=brings,
        losses=_losses(session, document, meant),
        notes=_notes(document, meant, made),
        version=published,
        makes_alias=any(
            each.type == "aws_lambda_alias" and each.action == "create" for each in terraform_plan.changes(document)
        ),
        reason="nothing is applied yet" if not known and function is None else "it changed",
    )
    return Found(function=function, name=found, stack="differs", template=key, terraform=step)


def _must_take_image(session: Session, provision: Terraform) -> None:
    """Of a module that says which image its function has: a variable must tell it ours."""
    if not _taken(session, provision):
        taken = [each for each in provision.variables if each in terraform_module.OBVIOUS_OF_IMAGES["image"]]
        raise UsageError(
            f"no variable of the module in {provision.directory} takes the image, so Terraform would set its own",
            where=f"function.{session.function.name}.provision",
            next=f"Take {taken[0]} out of `variables`: it is told by itself then. Nothing was changed."
            if taken
            else 'Add variable "image_uri" { type = string } and image_uri = var.image_uri to it; or name a variable '
            'of yours: inputs = { image = "…" }. Or leave the image to Pointsman: '
            "lifecycle { ignore_changes = [image_uri] } in the function's resource. Nothing was changed.",
        )


def _must_fit(session: Session, provision: Terraform, document: Any, meant: Planned, made: Artifact) -> None:
    """A zip for a function of zips, an image for one of images; and no other image than this one set by Terraform."""
    where = f"function.{session.function.name}.provision"
    if meant.action == "delete":
        return
    if meant.package and (meant.package == "Image") != bool(made.image):
        has, given = ("a zip", "an image") if made.image else ("an image", "a zip")
        raise UsageError(
            f"{meant.address} is to have {has}, and {given} is to be deployed",
            where=where,
            next='In the module, package_type = "Image" and image_uri = var.image_uri make it one of an image.'
            if made.image
            else f"Name it in function.{session.function.name}: `image` (docs/images.md).",
        )
    if not made.image or meant.sha256 in (None, made.sha256) or not terraform_plan.sets_image(document, meant):
        return
    leaves = any(terraform_module.leaves_images(_directory(session, provision)))
    if meant.action in ("create", "replace") and leaves:
        return  # with an image to begin with, which ours takes the place of
    _must_take_image(session, provision)
    raise UsageError(
        f"{meant.address} would get the image {meant.image}, and not the one that the module was told",
        where=where,
        next=f"Let its image_uri be the variable ({', '.join(sorted(_taken(session, provision)))}), as it is. "
        "Nothing was changed.",
    )


def _must_be_known(session: Session, provision: Terraform, document: Any, meant: Planned) -> None:
    """Of a function that is there and would be created: by a state without it, all else is made, and that fails."""
    if not terraform_plan.lost(document):  # else it was renamed in the module, and that is refused as a loss
        raise TerraformFailed(
            f"Terraform would create {meant.address}, and Lambda has {meant.name} already: "
            f"the state of {provision.directory} does not know it",
            where=f"planning {provision.directory}",
            next="An earlier rehearsal made it: `pointsman local reset` forgets that, then rehearse again."
            if session.world.staged
            else "A local state that another machine has, another workspace or backend? Else `terraform import "
            f"{meant.address} {meant.name}`. Nothing was changed.",
        )


def _saved(session: Session, step: ApplyTerraform, key: str) -> Found:
    """A saved plan stands, while its file and all that decided it are what they were."""
    if key != step.key:
        raise StalePlan(f"the files in {step.directory} are not those of the plan", next="Make a new plan.")
    assert session.saved
    name = session.saved.name
    function = session.gateway.function(name) if name else None
    return Found(function=function, name=name, stack="differs", template=key, terraform=step)


def _brings(meant: Planned | None, made: Artifact, *, takes: bool) -> bool:
    """Whether the module publishes the package: by its digest, or, where the plan cannot know that, by its inputs."""
    if meant is None or not meant.publish or meant.action == "delete":
        return False
    return meant.sha256 == made.sha256 or (meant.sha256 is None and takes)


def _published(
    session: Session, function: Configuration | None, version: Version, made: Artifact, build: BuildId
) -> Version | None:
    """The version, where it is the package with the settings that are there. What an interrupted apply published is
    written down now; what it only set is no version yet, though Terraform's state names the one before."""
    if function is None:
        return None
    arn = function.arn.unqualified
    wanted = Bits(sha256=made.sha256, fingerprint=function.fingerprint)
    bits = session.ledger.bits(arn, version)
    if bits is None:
        found = session.gateway.function(arn.name, version)
        bits = found.bits if found else None
        if bits == wanted and session.run:
            session.ledger.published(session.run, arn, version, wanted, build, commit=session.world.actor.commit)
    return version if bits == wanted else None


def _losses(session: Session, document: Any, meant: Planned | None) -> tuple[str, ...]:
    aliases = aliases_there(session)
    served: dict[FunctionName, dict[str, str]] = {}
    for name in terraform_plan.functions_before(document) if terraform_plan.roles_touched(document) else ():
        roles = served.setdefault(name, {})
        for alias in aliases:
            whose = alias if meant and name in (meant.was, meant.name) else f"{alias} of {name}"
            if (live := session.gateway.function(name, alias)) and (role := live.settings.get("Role")):
                roles[role] = f"{roles[role]}, {whose}" if role in roles else whose
    return (
        *terraform_plan.lost(document),
        *terraform_plan.role_changes(document, served),
        *terraform_plan.aliases_moved(document, aliases),
    )


def _lines(document: Any) -> tuple[str, ...]:
    lines = tuple(str(each) for each in terraform_plan.changes(document))
    names = sorted(
        name for name, each in (document.get("output_changes") or {}).items() if each["actions"] != ["no-op"]
    )
    return lines or ((f"update outputs: {', '.join(names)}",) if names else ())


def _notes(document: Any, meant: Planned | None, made: Artifact) -> tuple[str, ...]:
    if meant is None or made.image:
        return ()
    notes = []
    if meant.publish and meant.sha256 and meant.sha256 != made.sha256:
        notes.append(
            "the module publishes other code than the package, which goes up after it; "
            "`package` or `inputs` of provision give it the package"
        )
    for each in terraform_plan.changes(document):
        if each.address == meant.address and not meant.publish and terraform_plan.code_only(each):
            notes.append(
                "Terraform sets $LATEST's code back, and the package goes up again after it; in the resource, "
                "lifecycle { ignore_changes = [filename, source_code_hash] } leaves code to Pointsman"
            )
    return tuple(notes)


def _told(
    work: Work, provision: Terraform, address: str | None, *, version_too: bool
) -> tuple[FunctionName | None, Version | None]:
    """The function's name and version by the outputs; by the state itself where those do not tell."""
    outputs = provision.outputs
    found, version = terraform_plan.outputs(terraform.outputs(work), name=outputs.name, version=outputs.version)
    if found is None or (version_too and version is None):
        name, number = terraform_plan.by_state(terraform.state(work), address)
        found, version = found or name, version or number
    return found, version


# What Terraform is run with


def _work(session: Session, provision: Terraform, inputs: Mapping[str, str] | None = None) -> Work:
    world = session.world
    directory = _directory(session, provision)
    environ = {**world.environ, "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}
    environ.setdefault("CHECKPOINT_DISABLE", "1")
    reach = session.wire.environment()
    if "AWS_ACCESS_KEY_ID" in reach:
        for each in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"):
            environ.pop(each, None)  # what else names credentials would win over them
    environ |= reach
    fill = _filling(session)
    root = world.project.root.resolve()
    backend = [f"{key}={fill(each)}" for key, each in provision.backend.items()]
    if provision.backend_file:
        backend.append(str(root / fill(provision.backend_file)))
    rehearsal = None
    if world.staged:  # one state for all functions of a module, and as many as there are of the real thing
        real = repr((os.path.relpath(directory, root), fill(provision.workspace or ""), backend))
        key = hashlib.sha256(real.encode()).hexdigest()[:8]
        apart = (world.state / "terraform" / f"{directory.name}-{key}").resolve()
        rehearsal = apart / "terraform.tfstate"
        environ["TF_DATA_DIR"] = str(apart / "data")
    return Work(
        directory=directory,
        binary=terraform.binary(provision.binary, environ.get("PATH")),
        environ=environ,
        workspace=fill(provision.workspace) if provision.workspace and not rehearsal else None,
        create_workspace=provision.create_workspace,
        backend=tuple(backend),
        arguments=terraform.arguments(_var_files(session, provision), inputs or {}),
        lock_timeout_s=world.options.wait_s,
        rehearsal=rehearsal,
        alone=_folder(session) / "lock",
        say=session.say,
        echo=world.echo,
        halted=world.halted,
    )


def _directory(session: Session, provision: Terraform) -> Path:
    return (session.world.project.root / provision.directory).resolve()


def _var_files(session: Session, provision: Terraform) -> list[Path]:
    fill, root = _filling(session), session.world.project.root.resolve()
    return [root / fill(each) for each in provision.var_files]


def _filling(session: Session) -> Callable[[str], str]:
    def fill(text: str) -> str:
        text = text.replace("{environment}", session.place.name)
        text = text.replace("{region}", session.wire.region) if "{region}" in text else text
        return text.replace("{branch}", _branch(session)) if "{branch}" in text else text

    return fill


def _branch(session: Session) -> str:
    """The branch an alias is named after, else the one that is built; "" where nobody tells (a tag's build, say)."""
    if session.environment.branch:
        return session.environment.branch
    try:
        return session.world.present_branch()
    except UsageError:
        return ""


def _taken(session: Session, provision: Terraform) -> set[str]:
    """By which of its variables the module takes the package, or the image."""
    names = _variable_names(provision, _directory(session, provision), image=session.function.build == "image")
    return {names[what] for what in ("package", "image", "digest") if what in names}


def _variable_names(provision: Terraform, directory: Path, *, image: bool) -> dict[str, str]:
    """What of a build (of a container image, or of a zip) the module has a variable for → the variable."""
    declared = terraform_module.variables(directory)
    names = {}
    for what, obvious in (terraform_module.OBVIOUS_OF_IMAGES if image else terraform_module.OBVIOUS).items():
        wanted = getattr(provision.inputs, what)
        if wanted and wanted not in declared:
            raise UsageError(
                f"the module in {provision.directory} has no variable {wanted}",
                where=f"provision.inputs.{what}",
                next=f"It has: {', '.join(sorted(declared)) or 'none'}.",
            )
        chosen = wanted or next((each for each in obvious if each in declared), None)
        if chosen and chosen not in provision.variables:
            names[what] = chosen
    return names


def _inputs(session: Session, provision: Terraform, directory: Path, made: Artifact, build: BuildId) -> dict[str, str]:
    """Every variable that is given, the user's own first."""
    fill = _filling(session)
    names = _variable_names(provision, directory, image=bool(made.image))
    values = {
        **_of_package(made, directory),
        "build": str(build),
        "branch": _branch(session) if "branch" in names else "",
    }
    given = {key: fill(each) for key, each in provision.variables.items()}
    return given | {names[what]: value for what, value in values.items() if what in names}


def _of_package(made: Artifact, directory: Path) -> dict[str, str]:
    """What the module is told of it. A zip's path is relative: the same on all machines."""
    if made.image:
        return {"image": made.image, "digest": f"sha256:{made.sha256.hex}"}
    return {"package": os.path.relpath(Path(made.path).resolve(), directory), "digest": str(made.sha256)}


def _neighbours(session: Session, provision: Terraform) -> dict[str, Terraform]:
    """The file's other functions that the same state of the same module has."""
    there, own = session.world.project.functions, session.function.name
    modules = {name: each.provision for name, each in there.items() if isinstance(each.provision, Terraform)}
    here = _module(session, provision)
    return {name: each for name, each in modules.items() if name != own and _module(session, each) == here}


def _of_neighbours(session: Session, provision: Terraform, inputs: Mapping[str, str]) -> dict[str, str]:
    """The neighbours' packages, by the variables they come in: without them this plan would take their code away."""
    values: dict[str, str] = {}
    directory, where = _directory(session, provision), f"planning {session.function.name} in {provision.directory}"
    for name, other in _neighbours(session, provision).items():
        image = session.world.project.functions[name].build == "image"
        names = _variable_names(other, directory, image=image)
        if not {"package", "image", "digest"} & names.keys():
            continue
        made = session.world.packages.get(name)
        if made is None:
            raise UsageError(
                f"{name} belongs to the same module, and Terraform needs its package, too, to leave its code alone",
                where=where,
                next=f"Deploy both in one release: `pointsman deploy --function {session.function.name} "
                f"--function {name}`. What did not change is left as it is.",
            )
        for what, value in _of_package(made, directory).items():
            variable = names.get(what)
            if variable is None:
                continue
            if {**inputs, **values}.get(variable, value) != value:
                raise UsageError(
                    f"variable {variable} of the module is to be the {what} of {name}, and of another function",
                    where=where,
                    next="Give each function a variable of its own: `inputs` in its provision.",
                )
            values[variable] = value
    return values


def _key(session: Session, provision: Terraform, directory: Path, inputs: Mapping[str, str]) -> str:
    """All that decides but the package and the build's id: an unchanged package under another id changes nothing."""
    names = _variable_names(provision, directory, image=session.function.build == "image")
    own = {names[what] for what in ("package", "image", "digest", "build") if what in names}
    environ = session.world.environ
    root = session.world.project.root.resolve()
    files = [*_var_files(session, provision), *([root / provision.backend_file] if provision.backend_file else ())]
    more = [
        {key: value for key, value in inputs.items() if key not in own},
        [terraform.file_digest(each) for each in files],
        _state(session, provision),
        {key: value for key, value in sorted(environ.items()) if key.startswith(("TF_VAR_", "TF_CLI_ARGS"))},
    ]
    package = (root / provision.package).resolve() if provision.package else None
    package = package or terraform_module.constant_package(directory)
    return terraform_module.digest(directory, root=root, package=package, more=more)


def _state(session: Session, provision: Terraform) -> str:
    """Which state is meant, and which function of it: what one deploy applied, the next one finds under it."""
    return f"{_module(session, provision)}/{session.function.name}"


def _module(session: Session, provision: Terraform) -> str:
    """Which state of which module."""
    fill, environ = _filling(session), session.world.environ
    workspace = provision.workspace or environ.get("TF_WORKSPACE") or ""
    backend = ",".join(f"{key}={each}" for key, each in sorted(provision.backend.items()))
    return fill(
        f"{'/'.join(place_of(session.environment))}/{provision.directory}@{workspace}"
        f"/{backend}{provision.backend_file or ''}"
    )


# Files


def _place(session: Session, provision: Terraform, made: Artifact) -> Path | None:
    """The package where the module looks for it by a constant, or None. Nothing that git keeps is overwritten."""
    if made.image:
        return None
    directory, root = _directory(session, provision), session.world.project.root
    if provision.package:
        place = (root / provision.package).resolve()
    elif (
        "package" in _variable_names(provision, directory, image=False)
        or (constant := terraform_module.constant_package(directory)) is None
    ):
        return None
    else:
        place = constant
    if place == Path(made.path).resolve() or terraform.file_digest(place) == terraform.file_digest(Path(made.path)):
        return place
    if place.exists() and git(place.parent, "ls-files", "--", place.name):
        if not provision.package:
            return None  # what lies in git is the module's own stand-in
        raise UsageError(
            f"{place} is where the module expects the package, and git keeps a file there",
            where="provision with terraform",
            next="Remove it from git, or name another place: provision.package.",
        )
    session.say(f"copied the package to {os.path.relpath(place, root)}")
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.new")
    shutil.copyfile(made.path, beside)
    beside.replace(place)
    return place


def _folder(session: Session) -> Path:
    session.world.make_home()
    folder = (session.world.state / "terraform").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _plan_file(session: Session) -> Path:
    """A name of its own for each; what was never applied goes after a day, for a plan may hold secrets."""
    world, folder = session.world, _folder(session)
    for each in folder.glob("*.tfplan"):
        if each.stat().st_mtime < world.clock.now() - _OLD_PLANS_S:
            each.unlink(missing_ok=True)
    return folder / f"{session.function.name}-{world.run_id()}.tfplan"


def _remember(
    session: Session, provision: Terraform, function: Configuration | None, *, key: str, brings: bool
) -> None:
    """What the state was last seen to be applied from; "" where that is not known."""
    fact = {
        "key": key,
        "brings": brings,
        "name": function.arn.name if function else "",
        "arn": str(function.arn.unqualified) if function else "",
        "fingerprint": function.fingerprint if function else "",
        "sha256": function.sha256 if function else "",
    }
    subject = _state(session, provision)
    if session.ledger.remembered("terraform", subject) != fact:
        session.ledger.append(session.run, "terraform", function=session.function.name, subject=subject, **fact)


__all__ = ["applied", "apply", "find", "name"]
