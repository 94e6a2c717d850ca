"""Branches' aliases and the branches themselves: which there are, which are gone from the remote, and clearing up.

Everything fails closed: a remote that cannot be asked, or answers that it has no branch at all, deletes nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Collection, Iterable
from typing import assert_never

import msgspec

from pointsman import branch_roles, branches, clearing, owners
from pointsman.clearing import Clear, Clearing, Doomed, Standing
from pointsman.config import Environment, Function
from pointsman.errors import Ambiguous, Conflict, LostRace, NotFound, PointsmanError, UsageError
from pointsman.ledger import Run, under_way
from pointsman.model import Alias, AliasName, Configuration, FunctionArn, Url, Value, Version, role_name
from pointsman.world import UNGUARDED, Session, World

COMMAND = "branch delete"


class Remote(Value, frozen=True, kw_only=True):
    """What a git remote has. `pull_requests` is None where it tells of none at all (not every host shows them)."""

    branches: frozenset[str]
    pull_requests: frozenset[str] | None = None

    def has(self, branch: str, alias: AliasName) -> bool | None:
        """None: it cannot tell. By the alias, for a long branch's name is cut in its description."""
        if number := branches.pull_request(branch):
            return None if self.pull_requests is None else number in self.pull_requests
        return alias in {branches.alias_name(each) for each in self.branches}


class BranchRow(Value, frozen=True, kw_only=True):
    """A branch's alias. `on_remote` is None where that cannot be told; `protected`: never deleted."""

    function: str
    branch: str
    alias: AliasName
    version: Version
    build: str
    since: float | None
    by: str
    preview: str
    on_remote: bool | None
    protected: bool


class Cleared(Value, frozen=True, kw_only=True):
    """What became of one branch: planned (only shown), or deleted."""

    plan: Clearing
    outcome: str
    run: str = ""


def remote(world: World, name: str, open_ones: frozenset[str] | None = None) -> Remote:
    """What the git remote (by name or URL) has. `open_ones`: the open pull requests, where the caller knows better."""
    where = f"asking the git remote {name}"
    kept = {key: value for key, value in world.environ.items() if key not in ("GIT_DIR", "GIT_WORK_TREE")}
    asked = ["git", "-C", str(world.project.root), "ls-remote", "--", name]
    nothing = "Nothing was deleted."
    try:
        done = subprocess.run(
            asked,
            env={**os.environ, **kept, "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PointsmanError(f"git did not answer: {error}", where=where, next=nothing) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["git failed, and does not say why"]
        raise PointsmanError(said[0].removeprefix("fatal: "), where=where, next=nothing)  # the rest is advice
    refs = [line.partition("\t")[2] for line in done.stdout.splitlines()]
    heads = frozenset(ref.removeprefix("refs/heads/") for ref in refs if ref.startswith("refs/heads/"))
    if not heads:
        raise PointsmanError("it has no branch at all, which cannot be right", where=where, next=nothing)
    numbers = (re.match(r"refs/(?:pull|merge-requests|pull-requests)/([0-9]+)/", ref) for ref in refs)
    pulls = frozenset(found[1] for found in numbers if found) or None
    return Remote(branches=heads, pull_requests=pulls if open_ones is None else open_ones)


def rows(world: World, function: Function, there: Remote | None) -> list[BranchRow]:
    """The branches' aliases of a function, by name."""
    session, arn, aliases = _look(world, function)
    found = _of_branches(aliases)
    if arn is None or not found:
        return []
    urls = session.gateway.urls(arn.name)
    return [_row(session, alias, branch, there, urls.get(alias.name)) for alias, branch in found]


def _row(session: Session, alias: Alias, branch: str, there: Remote | None, url: Url | None) -> BranchRow:
    moves = session.ledger.moves(alias.arn.unqualified, alias.name)
    known = moves[-1] if moves and moves[-1].version == alias.version else None
    return BranchRow(
        function=session.function.name,
        branch=branch,
        alias=alias.name,
        version=alias.version,
        build=branches.told(alias.description, alias.name).build or "",
        since=known.at if known else None,
        by=known.by if known else "",
        preview=url.url if url else "",
        on_remote=there.has(branch, alias.name) if there else None,
        protected=_kept_always(session.world, branch, alias.name),
    )


def plan_sync(world: World, function: Function, there: Remote) -> tuple[Clearing, ...]:
    """What is to go: of every branch that the remote does not have any more."""
    return _plan(world, function, lambda branch, alias: there.has(branch, alias) is False)


def plan_delete(world: World, function: Function, branch: str) -> tuple[Clearing, ...]:
    """What goes with this branch or alias. Raises UsageError where it is protected, NotFound where there is none."""
    branch = branch.removeprefix("branch:")
    wanted = {branch, str(branches.alias_name(branch))}
    for each in wanted:
        if _kept_always(world, branch, each):
            raise UsageError(
                f"{each} is an environment's alias, or protected by the file",
                where="branch delete",
                next="Only aliases of branches are deleted, and only those that `[branches] protect` does not name.",
            )
    made = _plan(world, function, lambda known, alias: bool({known, str(alias)} & wanted))
    if not made:
        raise NotFound(
            f"{function.name} has no alias of a branch {branch}", next="`pointsman branch list` shows those there are."
        )
    return made


def carry_out(world: World, function: Function, made: Clearing) -> Cleared:
    """Delete what the plan says, each step safe to be done again."""
    environment = _environment(world, made.branch, made.alias)
    with world.running(COMMAND, function, environment, {"branch": made.branch}) as session:
        session.ledger.append(session.run, "planned", function=function.name, subject=made.alias, clearing=made)
        _forget(session, made.arn, made.alias)
        whole = True
        for step in made.steps:
            if whole or not isinstance(step, clearing.DeleteRole):
                whole = _carry_out(session, made, step) and whole
            else:
                session.say(f"role {step.role} stays: a version that stays may run with it")
        subject, used = f"{made.arn}:{made.alias}", _used(session, made.arn, made.alias, made.branch, None)
        session.ledger.append(session.run, "cleared", function=str(made.arn), subject=subject, versions=sorted(used))
        return Cleared(plan=made, outcome="deleted", run=session.run)


def resume(world: World, run: Run) -> list[Cleared]:
    """Go on with a deletion that was interrupted: what is left of it now."""
    if under_way(run):
        raise LostRace(f"{run.command} of {run.alias} (run {run.id}) is still under way", next=f"Wait for {run.pid}.")
    function = world.functions(run.function)[0]
    made = _plan(world, function, lambda _branch, alias: alias == run.alias)
    if not made:
        # All was deleted, and only the ledger did not hear of it.
        session, arn, _aliases = _look(world, function)
        if arn is None:
            raise NotFound(
                f"there is no function {owners.name(session)}", where=f"resuming the deletion of {run.alias}"
            )
        branch, alias = str(run.request.get("branch", "")), AliasName(run.alias)
        made = (Clearing(function=function.name, arn=arn, branch=branch, alias=alias, steps=()),)
    return [carry_out(world, function, each) for each in made]


# Looking


def _look(world: World, function: Function) -> tuple[Session, FunctionArn | None, tuple[Alias, ...]]:
    """Every alias of the function; no ARN where there is no function."""
    session = world.session(function, world.model)
    name = owners.name(session)
    try:
        aliases = session.gateway.aliases(name)
    except NotFound:
        session.check_account(None)
        return session, None, ()
    found = aliases[0] if aliases else session.gateway.function(name)
    if found is None:
        return session, None, ()
    session.check_account(found.arn)
    return session, found.arn.unqualified, aliases


def _of_branches(aliases: tuple[Alias, ...]) -> list[tuple[Alias, str]]:
    """Those that say they are branches', with the branch."""
    told = ((each, branches.told(each.description, each.name).branch) for each in aliases)
    return [(alias, branch) for alias, branch in told if branch]


def _kept_always(world: World, branch: str, alias: str) -> bool:
    environments = {str(each.alias).lower() for each in world.project.environments.values()}
    return alias.lower() in environments or branches.protected(branch, alias, world.project.branches.protect)


def _plan(world: World, function: Function, goes: Callable[[str, AliasName], bool]) -> tuple[Clearing, ...]:
    session, arn, aliases = _look(world, function)
    if arn is None:
        return ()
    left: list[tuple[AliasName, str, Alias | None]] = [
        (each.name, branch, each) for each, branch in _of_branches(aliases)
    ]
    left += [(name, branch, None) for name, branch in _orphans(session, arn, {each.name for each in aliases})]
    doomed = tuple(
        Doomed(
            branch=branch,
            name=name,
            alias=alias,
            used=_used(session, arn, name, branch, alias),
            role=_role(session, arn, branch),
        )
        for name, branch, alias in left
        if goes(branch, name) and not _kept_always(world, branch, name)
    )
    if not doomed:
        return ()
    versions = tuple(session.gateway.versions(arn.name))
    doomed = tuple(_with_those_of_its_role(each, versions) for each in doomed)
    return clearing.clear(function.name, arn, doomed, _standing(session, arn, aliases, doomed, versions))


def _with_those_of_its_role(doomed: Doomed, versions: tuple[Configuration, ...]) -> Doomed:
    """What was published with the branch's own role is the branch's, whether or not the ledger heard of it."""
    own = {each.version for each in versions if doomed.role and _role_of(each) == doomed.role}
    return msgspec.structs.replace(doomed, used=doomed.used | own)


def _role_of(version: Configuration) -> str:
    return role_name(version.settings.get("Role", ""))


def _orphans(session: Session, arn: FunctionArn, there: Collection[AliasName]) -> Iterable[tuple[AliasName, str]]:
    """Branches that the ledger knows and that have no alias (any more), with versions or a role not cleared up yet."""
    ledger = session.ledger
    names = [move.alias for move in ledger.moves(arn)]
    names += [AliasName(run.alias) for run in ledger.runs(session.function.name) if run.command == "deploy"]
    for name in dict.fromkeys(names):
        branch = "" if name in there else session.world.branch_called(name)
        cleared = ledger.remembered("cleared", f"{arn}:{name}") or {"versions": ()}
        cloned = ledger.remembered("cloned", f"{arn}:{name}") or {"role": ""}
        if branch and (cloned["role"] or _used(session, arn, name, branch, None) - {*cleared["versions"]}):
            yield name, branch


def _used(session: Session, arn: FunctionArn, name: AliasName, branch: str, alias: Alias | None) -> frozenset[Version]:
    used = {move.version for move in session.ledger.moves(arn, name)}
    if alias:
        used |= {alias.version, *([alias.routing.canary.version] if alias.routing.canary else [])}
    environment = _environment(session.world, branch, name).name
    for run in session.ledger.runs(session.function.name):
        if run.environment == environment:
            used |= {Version(each.subject) for each in session.ledger.of_run(run.id, "published")}
    return frozenset(each for each in used if each.published)


def _role(session: Session, arn: FunctionArn, branch: str) -> str:
    found = branch_roles.of_branch(session, arn, branch)
    return found.name if found else ""


def _standing(
    session: Session,
    arn: FunctionArn,
    aliases: tuple[Alias, ...],
    doomed: tuple[Doomed, ...],
    there_are: tuple[Configuration, ...],
) -> Standing:
    gateway, ledger, name = session.gateway, session.ledger, arn.name
    environments = {each.alias for each in session.world.project.environments.values()}
    served: dict[AliasName, set[Version]] = {}
    newest: dict[AliasName, Version] = {}
    for move in ledger.moves(arn):
        served.setdefault(move.alias, set()).update({move.version, *([move.was] if move.was else [])})
        newest[move.alias] = move.version
    there = {each.name for each in aliases}
    known = {each.name for each in aliases if newest.get(each.name) == each.version}
    versions = frozenset(each.version for each in there_are)
    latest = gateway.function(name) if any(each.role for each in doomed) else None
    used = sorted(frozenset[Version]().union(*(each.used for each in doomed)) & versions)
    asked = [*(each.name for each in doomed if each.alias), *used]
    return Standing(
        versions=versions,
        aliases=aliases,
        served={each: frozenset(of) for each, of in served.items() if each in there or each in environments},
        untold=tuple(sorted((environments & there) - known)),
        urls={qualifier: each.url for qualifier, each in gateway.urls(name).items()},
        sources={each: gateway.event_sources(name, each) for each in asked},
        events=gateway.event_invokes(name),
        provisioned=gateway.provisioned_of_all(name),
        permitted=frozenset(each for each in used if gateway.policy(name, each)),
        worn={each.version: _role_of(each) for each in (*there_are, *([latest] if latest else []))},
    )


def _environment(world: World, branch: str, alias: AliasName) -> Environment:
    """A branch's, also one whose name is known by halves only."""
    name = branch if branches.pull_request(branch) else f"branch:{branch}"
    known = branch if branches.alias_name(branch) == alias else ""
    return msgspec.structs.replace(world.model, name=name, alias=alias, branch=known, **UNGUARDED)


def _forget(session: Session, arn: FunctionArn, alias: AliasName) -> None:
    """From here on the ledger must not call the alias whole, whatever becomes of it and of one made later."""
    subject = f"{arn}:{alias}"
    session.ledger.append(session.run, "preview", function=str(arn), subject=subject, url="", auth="")
    session.ledger.append(session.run, "furnished", function=str(arn), subject=subject, done=False)


# Doing


def _carry_out(session: Session, made: Clearing, step: Clear) -> bool:
    """False where it turns out that the thing has to stay."""
    gateway, name = session.gateway, made.arn.name
    match step:
        case clearing.DeleteUrl():
            _surely(session, lambda: gateway.delete_url(name, step.alias))
        case clearing.UnmapEventSource():
            _surely(session, lambda: gateway.unmap_event_source(step.uuid))
        case clearing.Unprovision():
            _surely(session, lambda: gateway.unprovision(name, step.alias))
        case clearing.DropEvents():
            _surely(session, lambda: gateway.delete_event_invoke(name, step.alias))
        case clearing.DeleteAlias():
            present = gateway.alias(name, step.alias)
            if present and present.revision != step.revision:
                raise LostRace(
                    f"{step.alias} was changed meanwhile: it serves {present.routing}",
                    where=COMMAND,
                    next="It was not deleted. Look again: `pointsman branch list`.",
                )
            _surely(session, lambda: gateway.delete_alias(name, step.alias))
        case clearing.DeleteVersion():
            try:
                _surely(session, lambda: gateway.delete_version(name, step.version))
            except Conflict as error:
                session.say(f"version {step.version} stays: {error.what}")  # an alias was pointed at it meanwhile
                return False
        case clearing.DeleteRole():
            if not branch_roles.remove_branch_role(session, made.arn, made.branch):
                return False
        case _:
            assert_never(step)
    session.say(f"done: {clearing.describe(step)}")
    return True


def _surely(session: Session, send: Callable[[], object]) -> None:
    """Deleting what is gone is no error, so a lost answer is asked for again."""
    for left in (2, 1, 0):
        try:
            send()
            return
        except Ambiguous as lost:
            session.say(f"no answer ({lost.what}); again")
            if not left:
                raise


__all__ = [
    "COMMAND",
    "BranchRow",
    "Cleared",
    "Remote",
    "carry_out",
    "plan_delete",
    "plan_sync",
    "remote",
    "resume",
    "rows",
]
