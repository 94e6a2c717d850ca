"""Before anything is written: who shares a role with whom, and whether a role changed under an environment's version.

Which versions run with which role is read off the ledger; IAM is asked only where a version is about to be published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from pointsman import branch_roles
from pointsman.errors import AccessDenied, AwsError, GateRefused
from pointsman.model import WITH_IT, FunctionArn, Value, role_name
from pointsman.plan import (
    ApplyStack,
    ApplyTerraform,
    CreateAlias,
    Plan,
    PointAlias,
    PublishVersion,
    ShiftTraffic,
)
from pointsman.roles import Finding, Parts, Served, changed, is_clone, other, parts, shared
from pointsman.world import Session


class _Told(Value, frozen=True, kw_only=True):
    """What was found. `now`: what the roles of `rest`, that others serve, come to; remembered where that was meant."""

    common: tuple[Finding, ...] = ()
    drifted: tuple[Finding, ...] = ()
    another: tuple[Finding, ...] = ()
    unseen: str = ""
    rest: tuple[Served, ...] = ()
    now: Mapping[str, Parts] = msgspec.field(default_factory=dict)

    @property
    def all(self) -> list[Finding]:
        return [*self.common, *self.drifted, *self.another]


def check(session: Session, made: Plan) -> None:
    """Adds a warning to the session for each finding. Raises GateRefused where `role_guard` or common sense refuses."""
    found = _look(session, made)
    session.warnings += [str(each) for each in found.all]
    if found.unseen:
        session.warnings.append(found.unseen)
    if session.world.project.branches.role_guard == "refuse":
        if (found.all or found.unseen) and not session.world.options.allow_replace:
            session.warnings.clear()
            raise _refused(session, found.all, found.unseen)
        _accept(session, session.arn, found.drifted, found.rest, found.now)


def planned(session: Session, made: Plan) -> Plan:
    """The same plan, with a note on each thing that `check` would refuse. Where that is nothing, IAM is not asked."""
    try:
        if session.world.project.branches.role_guard != "refuse":
            _refuse_clone(session, made)
            return made
        found = _look(session, made)
    except GateRefused as error:
        return msgspec.structs.replace(made, notes=(*made.notes, f"is refused: {error.what}"))
    needs = [each.what for each in found.all] + ([found.unseen] if found.unseen else [])
    return msgspec.structs.replace(made, notes=(*made.notes, *(f"needs --allow: {each}" for each in needs)))


def _look(session: Session, made: Plan) -> _Told:
    """Raises GateRefused where an environment's alias would move onto a branch's clone."""
    publishes = next((step for step in made.steps if isinstance(step, PublishVersion)), None)
    if not publishes and not _moves(made):
        return _Told()
    arn, guard = session.arn, session.world.project.branches.role_guard
    branch = bool(session.environment.branch)
    role = _refuse_clone(session, made)
    if guard == "off" or (made.kind == "rollback" and not publishes):
        return _Told()  # going back must never wait
    known = served(session, arn) if arn and not _replaces(made) else ()
    before = next((each for each in known if each.alias == session.environment.alias), None)
    rest = tuple(each for each in known if each is not before)
    target = Served(
        alias=session.environment.alias,
        environment="" if branch else session.environment.name,
        version=made.version,
        role=role,
    )
    now, unseen = looked(session, {role, *(each.role for each in rest if each.environment)}) if publishes else ({}, "")
    # That branches share a role with an environment is a branch's doing: an environment's deploy hears nothing of it.
    with_it = [each for each in rest if each.role == role] if role and branch else []
    return _Told(
        common=shared((*_standing(session, with_it), target)) if with_it else (),
        drifted=changed(_standing(session, [each for each in rest if changed([each], now)]), now),
        another=other(before, made.version, role) if before and not branch else (),
        unseen=unseen,
        rest=rest,
        now=now,
    )


def _moves(made: Plan) -> bool:
    return any(isinstance(step, CreateAlias | PointAlias | ShiftTraffic) for step in made.steps)


def _refuse_clone(session: Session, made: Plan) -> str:
    """The role that the version has, or will have. Raises GateRefused for a clone made for a branch. No call."""
    publishes = next((step for step in made.steps if isinstance(step, PublishVersion)), None)
    role = publishes.role if publishes else session.role
    if session.arn and not role and made.version:
        role = session.ledger.role_of(session.arn, made.version).role
    if (publishes or _moves(made)) and role and is_clone(role) and not session.environment.branch:
        raise _refused(session, [_clone(session, made, role)], "")
    return role


def _replaces(made: Plan) -> bool:
    """Whether the owner's step takes what aliases serve away: nobody will run with any role of it."""
    owners = (each for each in made.steps if isinstance(each, ApplyStack | ApplyTerraform))
    return any(line.endswith(WITH_IT) for each in owners for line in each.losses)


def _standing(session: Session, known: Iterable[Served]) -> list[Served]:
    """Without the environments whose alias is gone, say with the function that another took the place of.

    The ledger does not hear of that; it costs a read for each that something would be said of, and no other.
    """
    arn = session.arn
    return [each for each in known if not each.environment or (arn and session.gateway.alias(arn.name, each.alias))]


def served(session: Session, arn: FunctionArn) -> tuple[Served, ...]:
    """What each alias serves and with which role, as the ledger tells it. No call."""
    ledger = session.ledger
    environments = session.world.project.environments.values()
    declared = {str(each.alias): each.name for each in environments if not each.branch}
    newest = {str(move.alias): move for move in ledger.moves(arn)}
    found = []
    for alias, move in newest.items():
        told, cleared = ledger.role_of(arn, move.version), ledger.newest("cleared", f"{arn}:{alias}")
        gone = move.kind == "removed" or (cleared is not None and cleared.at >= move.at)
        if told.role and not gone:
            found.append(
                Served(
                    alias=move.alias,
                    environment=declared.get(alias, ""),
                    version=move.version,
                    role=told.role,
                    published=told.at,
                    then=told.parts,
                )
            )
    return tuple(found)


def looked(session: Session, roles: Iterable[str]) -> tuple[dict[str, Parts], str]:
    """Each role's parts as they are now, and a sentence on those that could not be seen ("" where all could)."""
    now: dict[str, Parts] = {}
    unseen: dict[str, str] = {}
    for arn in sorted(filter(None, roles)):
        if is_clone(arn) and arn not in session.roles:
            continue  # a clone is a branch's own affair, and this one may not be made yet
        try:
            now[arn] = parts(branch_roles.look(session, arn))
        except AccessDenied:
            unseen[role_name(arn)] = f"the credentials lack {', '.join(_denied(session, arn))}"
        except AwsError as error:
            unseen[role_name(arn)] = error.what
    told = "; ".join(f"role {name} could not be looked at: {why}" for name, why in unseen.items())
    return now, f"{told}. `[branches] role_guard` compares what roles allow" if told else ""


def _denied(session: Session, arn: str) -> list[str]:
    """Exactly the reads that are refused: each is tried."""
    gateway, name = session.gateway, role_name(arn)
    found = []
    tries = {"GetRole": gateway.role, "ListRolePolicies": gateway.inline_policies}
    for action, call in {**tries, "ListAttachedRolePolicies": gateway.attached_policies}.items():
        try:
            call(name)
        except AccessDenied:
            found.append(f"iam:{action}")
        except AwsError:
            continue
    return found or ["iam:GetRolePolicy, iam:GetPolicy or iam:GetPolicyVersion"]


def _clone(session: Session, made: Plan, role: str) -> Finding:
    named = f"version {made.version}" if made.version else "the new version"
    return Finding(
        kind="clone",
        what=f"{named} was published for a branch, with that branch's role {role_name(role)}: "
        f"{session.environment.alias} would fail once the branch and its role are gone",
        next=f"Deploy the commit instead: `pointsman deploy --to {session.environment.name}` publishes it with "
        "the function's own role.",
    )


def _refused(session: Session, findings: list[Finding], unseen: str) -> GateRefused:
    what = [each.what for each in findings] + ([unseen] if unseen else [])
    steps = [each.next for each in findings]
    if unseen:
        steps.append("Grant it (`pointsman doctor --policy` writes the policy), or say `--allow`.")
    elif not any(each.kind in ("clone", "changed") for each in findings):
        steps.append("`--allow` does it nevertheless.")
    return GateRefused(
        "; ".join(what),
        where=f"roles of {session.function.name}",
        next=f"{' '.join(steps)} Nothing was changed.",
    )


def _accept(
    session: Session,
    arn: FunctionArn | None,
    drifted: Iterable[Finding],
    served: Iterable[Served],
    now: Mapping[str, Parts],
) -> None:
    """What `--allow` let pass is what those versions are compared with from now on."""
    if arn is None or not tuple(drifted):
        return
    for each in served:
        if (
            each.environment
            and each.then is not None
            and each.version
            and each.role in now
            and each.then != now[each.role]
        ):
            session.ledger.role(session.run, arn, each.version, each.role, now[each.role])


__all__ = ["check", "looked", "planned", "served"]
