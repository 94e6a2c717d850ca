"""A branch's own execution role: a clone of the function's, made for it, brought up to date, removed with it.

The clone follows its origin when a build of the branch is published after the origin changed; what was changed in the
clone by hand, for the branch, stays until then. Its tags say whose it is, and nothing without them is ever touched.
"""

from __future__ import annotations

from pointsman.config import CloudFormation, Direct
from pointsman.errors import (
    AccessDenied,
    Ambiguous,
    Conflict,
    Drift,
    InvalidRequest,
    LostRace,
    NotFound,
    UsageError,
)
from pointsman.model import Configuration, FunctionArn, Role, Value, role_name, to_json
from pointsman.plan import CloneRole
from pointsman.roles import TAG_ORIGIN, TAG_PARTS, clone_arn, clone_name, clone_tags, digest, is_clone, ours, parts
from pointsman.world import Session


class Chosen(Value, frozen=True, kw_only=True):
    """`home`: what `$LATEST` is to have; `role`: what the version is published with. "" where nobody knows yet."""

    home: str
    role: str


def choose(session: Session, function: Configuration | None) -> Chosen:
    """From what is known already; IAM is asked only where `$LATEST` still has a branch's role. Raises UsageError."""
    provision = session.function.provision
    declared = provision.role if isinstance(provision, Direct) else ""
    present = function.settings.get("Role", "") if function else ""
    home = declared or (_origin(session, function, present) if function and is_clone(present) else present)
    if not session.environment.branch or session.world.project.branches.role == "shared":
        return Chosen(home=home, role=home)
    if not home:
        what = f"stack {provision.stack}" if isinstance(provision, CloudFormation) else "the function"
        raise UsageError(
            f"{what} does not exist yet, so there is no role to clone for branch {session.environment.branch}",
            where='branches.role = "per-branch"',
            next="Deploy to an environment first.",
        )
    arn = function.arn if function else _arn_to_be(session, home)
    return Chosen(home=home, role=clone_arn(home, arn, session.environment.branch))


def _arn_to_be(session: Session, role: str) -> FunctionArn:
    """Of a function that does not exist yet: in the account of its role."""
    _, partition, _, _, account, _ = role.split(":", 5)
    name = session.declared_name()
    assert name is not None, "only a function that the file names is made with a role from the file"
    return FunctionArn(account=account, region=session.wire.region, name=name, partition=partition)


def _origin(session: Session, function: Configuration, lent: str) -> str:
    """The role that `$LATEST` had before a branch's was lent to it and not returned."""
    if noted := session.ledger.lent(function.arn.unqualified, lent):
        return noted
    found = session.gateway.role(role_name(lent))
    if found and (origin := found.tags.get(TAG_ORIGIN)):
        return origin
    raise Drift(
        f"$LATEST of {function.arn.name} has role {role_name(lent)}, a branch's, and nothing tells which is its own",
        where=f"looking at {function.arn.name}",
        next=f"Give it back: aws lambda update-function-configuration --function-name {function.arn.name} --role ARN",
    )


def look(session: Session, arn: str) -> Role:
    """A role with its policies, read once in a run. Raises NotFound; AccessDenied where IAM does not show it."""
    if arn not in session.roles:
        found = session.gateway.role(role_name(arn))
        if found is None:
            if not (session.world.staged and session.run):
                raise NotFound(
                    f"there is no role {role_name(arn)}", where="looking at roles", next=f"It should be {arn}."
                )
            from pointsman.provision import rehearsal

            rehearsal.role(session.gateway, arn, session.say)
            found = session.gateway.role(role_name(arn))
            assert found is not None, "it was made a moment ago"
        session.roles[arn] = session.gateway.role_policies(found)
    return session.roles[arn]


def step(session: Session, chosen: Chosen) -> CloneRole | None:
    """What is to be done so that the branch's clone is as its origin; None where it is."""
    if chosen.role == chosen.home:
        return None
    origin = look(session, chosen.home)
    present = session.gateway.role(role_name(chosen.role))
    now = digest(parts(origin))
    if present is None:
        reason = f"a clone of {origin.name} for branch {session.environment.branch}"
        return CloneRole(role=chosen.role, origin=origin.arn, digest=now, create=True, reason=reason)
    if present.tags.get(TAG_ORIGIN) != origin.arn or present.tags.get(TAG_PARTS) != now:
        reason = f"{origin.name} changed, or the clone is not complete"
        return CloneRole(role=chosen.role, origin=origin.arn, digest=now, create=False, reason=reason)
    return None


def clone(session: Session, step: CloneRole) -> None:
    """Carry out the step. Every call says what is to be there, so that after a lost answer it is simply done again.

    Raises LostRace where the origin is no longer what the plan saw, Drift where the role is not ours.
    """
    session.roles.pop(step.origin, None)
    origin = look(session, step.origin)
    if digest(parts(origin)) != step.digest:
        raise LostRace(
            f"somebody changed role {origin.name} meanwhile", where="cloning it", next="Nothing was published."
        )
    function = session.arn or _arn_to_be(session, step.origin)
    _note(session, function, session.environment.alias, step.role)  # it is ours to remove, whatever becomes of this run
    attempts = 3
    for attempt in range(attempts):
        try:
            _clone(session, origin, step, function)
            break
        except Ambiguous as lost:
            if attempt + 1 == attempts:
                raise
            session.say(f"cloning role {origin.name}: no answer ({lost.what}); looking what is there, and going on")
    what = "made" if step.create else "brought up to date:"
    session.say(f"{what} role {role_name(step.role)}, a clone of {origin.name} for branch {session.environment.branch}")


def _clone(session: Session, origin: Role, step: CloneRole, function: FunctionArn) -> None:
    gateway, branch, name = session.gateway, session.environment.branch, role_name(step.role)
    tags = clone_tags(origin, function, branch)
    present = gateway.role(name)
    if present is None:
        try:
            present = gateway.create_role(
                name,
                trust=origin.trust,
                path=origin.path,
                description=f"{origin.name} for branch {_plain(branch)} of {function.name}",
                boundary=origin.boundary,
                longest_s=origin.longest_s,
                tags=tags,
            )
        except Conflict:
            present = gateway.role(name)
    if present is None or not ours(present, function, branch):
        raise Drift(
            f"role {name} exists, and it was not made for branch {branch} of {function.name}",
            where=f"cloning role {origin.name}",
            next="Rename or delete it. Nothing was published.",
        )
    clone = gateway.role_policies(present)
    if to_json(clone.trust) != to_json(origin.trust):
        gateway.trust(name, origin.trust)
    if clone.boundary != origin.boundary:
        gateway.put_boundary(name, origin.boundary)
    for policy, said in origin.inline.items():
        if clone.inline.get(policy) != said:
            gateway.put_inline_policy(name, policy, said)
    for policy in clone.inline.keys() - origin.inline.keys():
        gateway.delete_inline_policy(name, policy)
    for arn in origin.attached.keys() - clone.attached.keys():
        gateway.attach_policy(name, arn)
    for arn in clone.attached.keys() - origin.attached.keys():
        gateway.detach_policy(name, arn)
    gateway.tag_role(name, {**tags, TAG_PARTS: step.digest})  # last: a clone without it is not complete


def _note(session: Session, function: FunctionArn, alias: str, role: str) -> None:
    """Which role there is for an alias's branch, "" for none (any more)."""
    subject = f"{function.unqualified}:{alias}"
    if (session.ledger.remembered("cloned", subject) or {"role": ""})["role"] != role:
        session.ledger.append(session.run, "cloned", function=str(function.unqualified), subject=subject, role=role)


def _plain(text: str) -> str:
    """As a role's description may be written."""
    return "".join(c if c.isprintable() and ord(c) < 256 and c not in "`" else "?" for c in text)[:200]


def must_be_assumable(session: Session, arn: str) -> None:
    """Raises where waiting for the role is no use: it is not there, or its trust policy does not name Lambda."""
    try:
        found = session.gateway.role(role_name(arn))
    except AccessDenied:
        return  # it cannot be seen: waiting may help
    if found is None:
        raise NotFound(f"there is no role {arn}", where="looking whether Lambda can act as it", next="Check its ARN.")
    if b"lambda.amazonaws.com" not in to_json(found.trust):
        raise InvalidRequest(
            f"the trust policy of role {found.name} does not let Lambda act as it",
            next='Its principal must be {"Service": "lambda.amazonaws.com"}, its action sts:AssumeRole.',
        )


# With the branch


def of_branch(session: Session, function: FunctionArn, branch: str) -> Role | None:
    """The branch's role, for a plan that removes it; None where there is none that we made."""
    try:
        found = session.gateway.role(clone_name(function, branch))
    except AccessDenied:
        return None
    return found if found and ours(found, function, branch) else None


def remove_branch_role(session: Session, function: FunctionArn, branch: str) -> bool:
    """Delete the branch's role, what it holds first. Sent again after an interruption it goes on. True if it was there.

    Kept, and said, where `$LATEST` or an environment's version still has it: without its role nothing runs.
    """
    found = of_branch(session, function, branch)
    if found is None:
        _note(session, function, session.environment.alias, "")
        return False
    latest = session.gateway.function(function.name)
    if latest and latest.settings.get("Role") == found.arn:
        session.say(f"role {found.name} stays: $LATEST of {function.name} has it until it is deployed again")
        return False
    for each in session.world.project.environments.values():
        if each.branch:
            continue
        moves = session.ledger.moves(function, each.alias)
        if moves and session.ledger.role_of(function, moves[-1].version).role == found.arn:
            session.say(f"role {found.name} stays: {each.alias}'s version {moves[-1].version} runs with it")
            return False
    gateway, name = session.gateway, found.name
    attempts = 3
    for attempt in range(attempts):
        try:
            for policy in gateway.inline_policies(name):
                gateway.delete_inline_policy(name, policy)
            for arn in gateway.attached_policies(name):
                gateway.detach_policy(name, arn)
            gateway.delete_role(name)
            break
        except NotFound:
            break  # somebody else was at it, too
        except Ambiguous:
            if attempt + 1 == attempts:
                raise
    _note(session, function, session.environment.alias, "")
    session.say(f"removed role {name} of branch {branch}")
    return True


__all__ = ["Chosen", "choose", "clone", "look", "must_be_assumable", "of_branch", "remove_branch_role", "step"]
