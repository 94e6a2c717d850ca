"""What stands in the way of the next release: tools, credentials, permissions, limits, roles. Changes nothing."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pointsman import branch_roles, building, images, layers, owners, runtimes, storage
from pointsman import places as where
from pointsman.artifact import programs
from pointsman.artifact.programs import Program
from pointsman.aws import permissions
from pointsman.aws.gateway import Caller
from pointsman.aws.identity import partition
from pointsman.aws.permissions import Target
from pointsman.config import Branches, CloudFormation, Direct, Environment, Function, Terraform
from pointsman.errors import (
    AccessDenied,
    AccountMismatch,
    AwsError,
    BuildFailed,
    LedgerError,
    NotFound,
    NotYet,
    PointsmanError,
    UsageError,
)
from pointsman.model import (
    Alias,
    Configuration,
    FunctionArn,
    FunctionName,
    Value,
    counted,
    few,
    role_name,
    size,
    to_json,
)
from pointsman.role_guard import looked
from pointsman.roles import Served, changed, is_clone, shared
from pointsman.survey import places, status_of
from pointsman.world import Session, World, git


class Check(Value, frozen=True, kw_only=True):
    """One thing looked at. `next` says what to do where it is not ok; `about` which function and aliases."""

    name: str
    verdict: Literal["ok", "warning", "problem"]
    what: str
    next: str = ""
    about: str = "this machine"


def examine(world: World, functions: tuple[Function, ...], only: Environment | None) -> list[Check]:
    """Every check of these functions; with `only`, in that environment alone."""
    found = [*_tools(world, functions)]
    if world.shared:
        found.append(ledger := _ledger(world))
        if ledger.verdict == "problem":
            return found  # all else stands on it
    for function in functions:
        for session, environments in places(world, function):
            if only is None or only.name in {each.name for each in environments}:
                chosen = (only,) if only else environments
                about = f"{session.title} → {', '.join(str(each.alias) for each in chosen)}"
                found += [_about(each, about) for each in _place(session, chosen)]
    return found


def _about(check: Check, about: str) -> Check:
    return Check(name=check.name, verdict=check.verdict, what=check.what, next=check.next, about=about)


def _ok(name: str, what: str) -> Check:
    return Check(name=name, verdict="ok", what=what)


def _warning(name: str, what: str, next: str) -> Check:
    return Check(name=name, verdict="warning", what=what, next=next)


def _problem(name: str, what: str, next: str) -> Check:
    return Check(name=name, verdict="problem", what=what, next=next)


# This machine


def _tools(world: World, functions: tuple[Function, ...]) -> Iterator[Check]:
    """The programs that this file's builds and tests call."""
    wanted: dict[str, tuple[Program, list[str]]] = {}

    def want(program: Program, purpose: str) -> None:
        _, purposes = wanted.setdefault(program.name, (program, []))
        if purpose not in purposes:
            purposes.append(purpose)

    for function in functions:
        recipes = {} if function.build == "image" else {function.name: building.recipe(world.project, function)}
        for layer in building.layers_of(world.project, function):
            recipes[f"layer {layer.name}"] = building.layer_recipe(world.project, layer)
        for name, recipe in recipes.items():
            try:
                needed = [*programs.needed(recipe), *_of_command(recipe.command)]
            except (BuildFailed, UsageError) as error:
                yield _problem("tools", f"{error.where or name}: {error.what}", error.next)
                continue
            for each in needed:
                want(each, f"{name}'s build")
        if isinstance(function.provision, Terraform):
            want(_installed("terraform"), f"{function.name}'s infrastructure")
        for name, test in {"unit": function.test.unit, "integration": function.test.integration}.items():
            for each in _of_command(test.run if test else None):
                want(each, f"{function.name}'s {name} tests")
    path = world.environ.get("PATH")
    for program, purposes in wanted.values():
        there = shutil.which(program.name, path=path)
        if program.name == "terraform":
            there = there or shutil.which("tofu", path=path)
        if there:
            yield _ok("tools", f"{program.name}: {there}")
            continue
        need = "need" if len(purposes) > 1 or purposes[0].endswith("tests") else "needs"
        yield _problem("tools", f"{program.name} is not on PATH, and {few(purposes)} {need} it", program.get)
    if git(world.project.root, "rev-parse", "HEAD"):
        yield _ok("tools", "git: builds are named after the commit")
    else:
        yield _warning(
            "tools",
            "no git commit is checked out here: builds are named after the time",
            "Give `--build-id`, or deploy from a git checkout.",
        )


def _of_command(command: str | None) -> list[Program]:
    """What a shell command runs first; nothing where that is not plain to see, or a file of the project."""
    try:
        words = [each for each in shlex.split(command or "") if "=" not in each]
    except ValueError:
        return []
    first = words[0] if words else ""
    return [_installed(first)] if first.replace("-", "").replace("_", "").isalnum() and first not in _SHELL else []


def _installed(name: str) -> Program:
    return Program(name, f"Install {name}.")


_SHELL = ("cd", "exec", "export", "if", "for", "set", "source", "test", "umask", "unset", "while")  # is in it


def _ledger(world: World) -> Check:
    """Whether the team's ledger answers."""
    try:
        return _ok("ledger", f"{world.ledger.place} answers, and holds {world.ledger.count()} entries")
    except (LedgerError, AwsError, UsageError) as error:
        return _problem("ledger", f"{error.where}: {error.what}" if error.where else error.what, error.next)


# AWS


def _place(session: Session, environments: tuple[Environment, ...]) -> Iterator[Check]:
    """One function, as the credentials of these environments see it. What cannot be looked at is said."""
    try:
        caller = session.gateway.caller()
        yield _ok("credentials", f"{caller.arn} in {session.wire.region}")
        session.check_account(FunctionArn(account=caller.account, region="", name=FunctionName("any")))
    except AccountMismatch as error:
        yield _problem("credentials", error.what, error.next)
        return
    except (AwsError, UsageError) as error:
        yield _problem("credentials", error.what, error.next or "Sign in, or check AWS_PROFILE and AWS_REGION.")
        return
    looks: dict[str, Iterator[Check]] = {  # generators: nothing is asked before its turn
        "function": _function(session),
        "permissions": _permissions(session, environments, caller),
        "layers": _layers(session),
        "limits": _limits(session, caller),
        "aliases": _aliases(session, environments),
        "roles": _roles(session),
    }
    for name, look in looks.items():
        try:
            yield from look
        except NotFound as error:
            if name == "function":  # to the others it is no news
                yield _problem(name, error.what, error.next)
        except NotYet as error:
            yield _warning(name, error.what, error.next)
        except PointsmanError as error:
            yield _problem(name, f"{error.where}: {error.what}" if error.where else error.what, error.next)


def _function(session: Session) -> Iterator[Check]:
    made_here = isinstance(session.function.provision, Direct | CloudFormation)
    try:
        found = session.gateway.function(owners.name(session))
    except NotFound as error:
        if not made_here:
            raise
        yield _ok("function", f"{error.what}: the first deploy makes it")
        return
    if found is None:
        name = session.declared_name() or session.function.name
        if made_here:
            yield _ok("function", f"there is no function {name} yet: the first deploy makes it")
        else:
            yield _problem(
                "function", f"there is no function {name} in {session.wire.region}", "Check name and region."
            )
        return
    name = found.arn.name
    if found.state == "Failed" or found.update == "Failed":
        yield _problem("function", f"{name} is Failed: {found.state_reason or found.update_reason}", "Mend that first.")
    else:
        yield _ok("function", f"{name}: {found.state}, update {found.update}")
    yield from _runtime(session, found.settings.get("Runtime", ""))


def _runtime(session: Session, runtime: str) -> Iterator[Check]:
    if not runtime:
        return
    judged = runtimes.judge(runtime, session.world.clock.now())
    match judged.verdict:
        case "ok":
            yield _ok("runtime", judged.what)
        case "blocked" | "never" if not session.world.local:  # a rehearsal runs what this machine has
            yield _problem("runtime", judged.what, judged.next)
        case _:
            yield _warning("runtime", judged.what, judged.next)


def _layers(session: Session) -> Iterator[Check]:
    """Others' layers that the function is to have, as their publishers describe them."""
    provision = session.function.provision
    others = [each for each in getattr(provision, "layers", ()) if each.startswith("arn:")]
    if not others:
        return
    gone = [each for each in others if session.gateway.layer_version(each) is None]
    for arn in gone:
        yield _problem("layers", f"there is no layer version {arn}", "Correct `layers`, or ask who publishes it.")
    found = layers.others(session, [each for each in others if each not in gone])
    for unfit in layers.unfit(session, found):
        yield _warning("layers", unfit, "Take the version that is meant for it.")
    least, _ = layers.heaviest(found)
    if found:
        yield _ok("layers", f"{counted(len(found), 'layer')} of others, {size(least)} zipped")


def _permissions(session: Session, environments: tuple[Environment, ...], caller: Caller) -> Iterator[Check]:
    wanted = permissions.needed(_parts(session, environments))
    arns = _arns(session, environments, caller.account)
    everything = sorted({action for actions in wanted.values() for action in actions})
    help_ = "Grant them: `pointsman doctor --policy` writes the whole policy."
    principal = _principal(session, caller)
    if principal == "root":
        yield _ok("permissions", f"the account itself is asking: all {len(everything)} actions are allowed")
        return
    try:
        if not principal:
            raise AccessDenied(f"{caller.arn} is no user and no role")
        missing = []
        for target, actions in wanted.items():
            asked = dict.fromkeys(actions, (_concrete(arns[target][0]),))
            missing += [f"{action} on {arns[target][0]}" for action in session.gateway.denied(principal, asked)]
    except AwsError as error:
        yield from _tried(session, environments, everything, error)
        return
    if missing:
        yield _problem("permissions", f"{counted(len(missing), 'action')} missing: {', '.join(missing)}", help_)
    else:
        yield _ok("permissions", f"all {len(everything)} actions are allowed, as IAM simulates it")


def _tried(
    session: Session, environments: tuple[Environment, ...], everything: list[str], why: AwsError
) -> Iterator[Check]:
    """IAM does not tell: the calls themselves do, as far as one can be sent without harm."""
    name = str(session.declared_name() or _known_name(session) or session.function.name)
    there = session.gateway.function(name) is not None
    found = session.gateway.tried(name, environments[0].alias, writes=there)
    refused = [action for action, allowed in found.items() if allowed is False and action in everything]
    told = {action for action, allowed in found.items() if allowed is not None}
    untold = [action for action in everything if action not in told]
    how = f"found by {counted(len(found), 'harmless call')}, for IAM does not simulate it ({why.what})"
    if refused:
        yield _problem(
            "permissions",
            f"{counted(len(refused), 'action')} missing: {', '.join(refused)}; {how}",
            "Grant them: `pointsman doctor --policy` writes the whole policy.",
        )
    else:
        yield _ok("permissions", f"{counted(len(told), 'action')} allowed; {how}")
    if untold:
        yield _warning(
            "permissions",
            f"{counted(len(untold), 'action')} could not be tried: {', '.join(untold)}",
            "Grant iam:SimulatePrincipalPolicy on the caller's own ARN, and doctor asks IAM.",
        )


def _principal(session: Session, caller: Caller) -> str:
    """The user or role whose policies decide; "root" where nothing does; "" where IAM cannot be asked about it."""
    _, partition, service, _, account, what = caller.arn.split(":", 5)
    if what == "root":
        return "root"
    if service == "sts" and what.startswith("assumed-role/"):
        name = what.split("/")[1]
        try:
            found = session.gateway.role(name)  # its path is not in the session's ARN
        except AccessDenied:
            found = None
        return found.arn if found else f"arn:{partition}:iam::{account}:role/{name}"
    return caller.arn if service == "iam" else ""


def _parts(session: Session, environments: Iterable[Environment]) -> set[str]:
    """Which part of the work this file asks for."""
    project, function = session.world.project, session.function
    found = {"look", "deploy", "doctor"}
    if isinstance(function.provision, Direct):
        found |= {"create", "settings"}
    if isinstance(function.provision, CloudFormation):
        found.add("stack")
    named = getattr(function.provision, "layers", ())
    found |= {"others" if each.startswith("arn:") else "layers" for each in named}
    if function.build == "image":
        found.add("images")
    if any(each.rollout for each in environments):
        found.add("rollout")
    if any(each.rollout and each.rollout.traffic for each in environments):
        found.add("traffic")
    if any(each.bucket for each in environments):
        found.add("bucket")
    if project.branches.role_guard != "off":
        found.add("guard")
    if project.branches.role == "per-branch":
        found.add("per-branch")
    if project.branches != Branches():
        found.add("branches")
    if project.branches.preview:
        found.add("preview")
    if len(project.functions) > 1:
        found.add("together")
    if function.test.integration:
        found.add("tests")
    kept = project.backup
    if kept.after_publish:
        found.add("backup")
        if (kept.to or "").startswith("s3://") and not (kept.profile or kept.role_arn):
            found.add("backup in S3")
    if session.world.shared and not (project.ledger.profile or project.ledger.role_arn):
        found.add("ledger")
    return found


def _arns(session: Session, environments: Iterable[Environment], account: str) -> dict[Target, tuple[str, ...]]:
    """What each kind of target is called, the narrowest pattern that will do. The first is the one to ask IAM about."""
    provision = session.function.provision
    region, name = session.wire.region, session.declared_name() or _known_name(session)
    aws = f"arn:{partition(region)}"
    stack = provision.stack if isinstance(provision, CloudFormation) else ""
    role = provision.role if isinstance(provision, Direct) else _role_of(session, name)
    role = role or f"{aws}:iam::{account}:role/*"
    function = f"{aws}:lambda:{region}:{account}:function:{name or f'{stack}-*' if stack else name or '*'}"
    path = role.rpartition("/")[0]
    head = (name or "*")[:24] + ("*" if name and len(name) > 24 else "")
    function_ = session.function
    named = getattr(provision, "layers", ())
    built = [session.world.project.layers[each] for each in named if each in session.world.project.layers]
    own = [f"{aws}:lambda:{region}:{account}:layer:{each.published_as or each.name}" for each in built]
    buckets = [where.filled(each.bucket, region=region, account=account) for each in environments if each.bucket]
    kept = session.world.project.ledger
    shelf = f"{aws}:s3:::{(session.world.project.backup.to or '').removeprefix('s3://')}"
    stacks = f"{aws}:cloudformation:{region}:{account}:stack/{stack}/*"
    return {
        "function": (function, f"{function}:*"),
        "everything": ("*",),
        "role": (role,),
        "clones": (f"{path}/{head}-*-branch-*",),
        "stack": (stacks,),
        "bucket": tuple(f"{aws}:s3:::{bucket}/pointsman/*" for bucket in buckets),
        "buckets": tuple(f"{aws}:s3:::{bucket}" for bucket in buckets),
        "layers": tuple(f"{arn}{tail}" for arn in own for tail in ("", ":*")),
        "others": tuple(each for each in named if each.startswith("arn:")),
        "images": (images.arn(function_.image),) if function_.image else (),
        "policies": (f"{aws}:iam::{account}:policy/*", f"{aws}:iam::aws:policy/*"),
        "mappings": (f"{aws}:lambda:{region}:{account}:event-source-mapping:*",),
        "backup": (f"{shelf.rstrip('/')}/*",),
        "shelf": (shelf.partition("/")[0],),
        "table": (f"{aws}:dynamodb:{kept.region or region}:{account}:table/{kept.table[0]}",),
    }


def _concrete(pattern: str) -> str:
    """An ARN that the pattern matches: IAM simulates on names, not on patterns."""
    return pattern if pattern == "*" else pattern.replace("-branch-*", "-branch-0123456789").replace("*", "any")


def _known_name(session: Session) -> FunctionName | None:
    try:
        return owners.name(session)
    except PointsmanError:
        return None  # its owner has not made it, or does not tell: a pattern stands for it


def _role_of(session: Session, name: FunctionName | None) -> str:
    try:
        found = session.gateway.function(name) if name else None
    except AwsError:
        return ""
    role = str(found.settings.get("Role", "")) if found else ""
    return "" if is_clone(role) else role


def _limits(session: Session, caller: Caller) -> Iterator[Check]:
    quotas = session.gateway.quotas()
    storage.sample(session.world, caller.account, session.wire.region, quotas)
    share = quotas.code / quotas.code_limit
    used = f"{size(quotas.code)} of {quotas.code_limit / 2**30:.0f} GB of code are stored ({share:.0%})"
    if share < 0.8:
        yield _ok("limits", used)
    else:
        verdict = _problem if share >= 0.95 else _warning
        yield verdict("limits", used, "Every version counts whole: delete old ones, or ask AWS for more.")
    if quotas.unreserved <= 100 and quotas.concurrency > 100:
        yield _warning(
            "limits",
            f"only {quotas.unreserved} of {quotas.concurrency} concurrent executions are not reserved",
            "AWS keeps 100 back: functions without a reservation are throttled above it.",
        )
    elif quotas.concurrency < 100:
        yield _warning(
            "limits",
            f"the account may run {quotas.concurrency} executions at once (new accounts start low)",
            "Ask AWS for 1,000 in Service Quotas before the traffic comes.",
        )
    else:
        yield _ok("limits", f"{quotas.unreserved} concurrent executions are not reserved")


def _aliases(session: Session, environments: tuple[Environment, ...]) -> Iterator[Check]:
    found = status_of(session, environments)
    sound = True
    for row in found.aliases:
        if not row.version.published:
            sound = False
            yield _problem(
                "aliases",
                f"{row.alias} points at {row.version}: whatever is uploaded next is live at once",
                f"`pointsman deploy --to {row.alias}` publishes a version and moves it there.",
            )
        if row.drift:
            sound = False
            yield _warning(
                "aliases",
                f"{row.alias} was moved outside Pointsman: it serves version {row.version}, and {row.drift}",
                "Find out who: `pointsman history`; the next deploy goes on from where it is.",
            )
    if sound:
        served = ", ".join(f"{row.alias} at version {row.version}" for row in found.aliases if row.environment)
        yield _ok("aliases", served or "none of them exists yet")
    if found.unfinished:
        yield _warning("runs", found.unfinished, "`pointsman resume`, or the same command again.")


def _roles(session: Session) -> Iterator[Check]:
    function = session.gateway.function(_known_name(session) or session.function.name)
    if function is None:
        return
    arn, present = function.arn.unqualified, function.settings.get("Role", "")
    if is_clone(present):
        yield _problem(
            "roles",
            f"$LATEST has role {role_name(present)}, a branch's: a run that lent it did not end",
            "`pointsman resume`, or the next deploy, gives it its own back.",
        )
    served = tuple(_served(session, arn, session.gateway.aliases(arn.name)))
    now, unseen = looked(session, {present, *(each.role for each in served)})
    if unseen:
        yield _warning("roles", unseen, "`pointsman doctor --policy` names what is to be granted.")
    elif b"lambda.amazonaws.com" not in _trust(session, present):
        yield _problem("roles", f"role {role_name(present)} does not let Lambda act as it", "Mend its trust policy.")
    else:
        yield _ok("roles", f"{arn.name} runs with {role_name(present)}")
    for finding in (*shared(served), *changed(served, now)):
        yield _warning("roles", finding.what, finding.next)
    for each in served:
        if each.environment and is_clone(each.role):
            yield _problem(
                "roles",
                f"{each} runs with a branch's role, {role_name(each.role)}",
                f"`pointsman deploy --to {each.environment}` publishes it with the function's own.",
            )


def _trust(session: Session, arn: str) -> bytes:
    return to_json(branch_roles.look(session, arn).trust)


def _served(session: Session, arn: FunctionArn, aliases: Iterable[Alias]) -> Iterator[Served]:
    """What each alias serves, and with which role: by Lambda's own word."""
    declared = {str(each.alias): each.name for each in session.world.project.environments.values()}
    known: dict[str, Configuration | None] = {}
    for alias in aliases:
        if alias.version not in known:
            known[alias.version] = session.gateway.function(arn.name, alias.version)
        found = known[alias.version]
        told = session.ledger.role_of(arn, alias.version)
        if found:
            yield Served(
                alias=alias.name,
                environment=declared.get(str(alias.name), ""),
                version=alias.version,
                role=found.settings.get("Role", ""),
                published=told.at,
                then=told.parts if told.role == found.settings.get("Role") else None,
            )


# The policy


def policy(world: World, functions: tuple[Function, ...], only: Environment | None) -> dict[str, Any]:
    """The least that lets these functions be released, as an IAM policy document."""
    actions: dict[Target, set[str]] = {}
    arns: dict[Target, list[str]] = {}
    for function in functions:
        for session, environments in places(world, function):
            chosen = (only,) if only else environments
            if only and only.name not in {each.name for each in environments}:
                continue
            account = chosen[0].account or session.gateway.caller_account()
            of = _arns(session, chosen, account)
            for target, wanted in permissions.needed(_parts(session, chosen)).items():
                actions.setdefault(target, set()).update(wanted)
                arns.setdefault(target, []).extend(each for each in of[target] if each not in arns.get(target, ()))
    return permissions.policy(
        {target: tuple(sorted(wanted)) for target, wanted in actions.items()},
        {target: tuple(said) for target, said in arns.items()},
    )


__all__ = ["Check", "examine", "policy"]
