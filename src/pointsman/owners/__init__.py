"""Who owns the function's settings, and how each kind of owner is asked: one module a kind, all with the same three.

`find` looks (reads only), `name` says what the function is called on AWS, `apply` carries out the owner's own step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pointsman import places
from pointsman.config import CloudFormation, Direct, Environment, Existing, Terraform
from pointsman.model import Artifact, BuildId, Configuration, FunctionArn, FunctionName, Value, Version
from pointsman.world import Session

if TYPE_CHECKING:
    from pointsman.execute import Applied
    from pointsman.plan import ApplyStack, ApplyTerraform


class Found(Value, frozen=True, kw_only=True):
    """Where the function is, and how its stack stands. `template` is the digest of what the stack is to be.

    `changes` says what differs, a line each, `losses` what of it needs `--allow`. `brings_code`: the stack does, not
    we. `makes_alias`: the template makes the environment's alias, too.
    `terraform` would change what Terraform owns; `published` is the version it tells of, where that is the package.
    """

    function: Configuration | None
    name: FunctionName | None
    stack: Literal["absent", "same", "differs"] = "same"
    template: str = ""
    changes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    brings_code: bool = False
    makes_alias: bool = False
    terraform: ApplyTerraform | None = None
    published: Version | None = None


def find(session: Session, made: Artifact, build: BuildId) -> Found:
    """The function as it is now, and what its owner would do to it with this package."""
    match session.function.provision:
        case Direct() | Existing():
            name = FunctionName(session.declared_name() or session.function.name)
            return Found(function=session.gateway.function(name), name=name)
        case CloudFormation() as stack:
            from pointsman.owners import stacks

            return stacks.find(session, stack, made)
        case Terraform() as module:
            from pointsman.owners import terraform

            return terraform.find(session, module, made, build)


def name(session: Session) -> FunctionName:
    """The function's name, from the file, the ledger or its owner (in this order of cost)."""
    if declared := session.declared_name():
        return declared
    known = session.ledger.remembered("provisioned", session.provision_key)
    if known and known["name"]:
        return FunctionName(known["name"])
    match session.function.provision:
        case CloudFormation() as stack:
            from pointsman.owners import stacks

            return stacks.name(session, stack)
        case Terraform() as module:
            from pointsman.owners import terraform

            return terraform.name(session, module)
        case Direct(name=own) | Existing(name=own):
            return FunctionName(own or session.function.name)


def place_of(environment: Environment) -> tuple[str, ...]:
    """Environments with the same account, region and credentials share a function."""
    return tuple(
        each or "-" for each in (environment.account, environment.region, environment.profile, environment.role_arn)
    )


def aliases_there(session: Session) -> list[str]:
    """The aliases of all environments that share this one's function."""
    environments, here = session.world.project.environments.values(), place_of(session.environment)
    return [str(each.alias) for each in environments if place_of(each) == here]


def shared(session: Session) -> str:
    """What owns this function, as a name that is the same for all functions it owns together."""
    match session.function.provision:
        case CloudFormation(stack=stack):
            return f"stack {stack} of {places.title(session.environment.name, session.environment)}"
        case Terraform(directory=directory):
            return f"terraform {directory} of {session.environment.name}"  # in any region: its folder is shared
        case _:
            return f"function {session.title}"


def may_move(session: Session) -> None:
    """Raises GateRefused where the environment's alias is the owner's to move."""
    match session.function.provision:
        case CloudFormation() as stack:
            from pointsman.owners import stacks

            stacks.stack_alias(session, stack)
        case _:
            pass


def stays_behind(session: Session) -> str:
    """What a rollback leaves as it is, in words; "" where the alias is all there is."""
    provision = session.function.provision
    if isinstance(provision, CloudFormation) and (provision.code == "stack" or provision.code_parameters):
        return f"stack {provision.stack}, and $LATEST with it, stays at its code: only the alias goes back"
    return ""


def brings_code(session: Session) -> str:
    """Who brings the function's code instead of us, in words; "" where it is ours to put there."""
    match session.function.provision:
        case CloudFormation() as stack:
            from pointsman.owners import stacks

            return f"stack {stack.stack}" if stacks.brings_code(session, stack) else ""
        case Terraform() as module:
            from pointsman.owners import terraform

            return f"the module in {module.directory}" if terraform.brings_code(session, module) else ""
        case _:
            return ""


def apply(session: Session, step: ApplyStack, made: Artifact) -> FunctionName:
    """Carry out the owner's step, as shown. Returns the function's name, which may be new."""
    from pointsman.owners import stacks

    provision = session.function.provision
    assert isinstance(provision, CloudFormation)
    return stacks.apply(session, provision, step, made)


def apply_terraform(session: Session, step: ApplyTerraform, made: Artifact | None) -> Applied:
    """Exactly the plan that was shown. Raises GateRefused where it would lose what `--allow` was not given for."""
    from pointsman.owners import terraform

    provision = session.function.provision
    assert isinstance(provision, Terraform)
    assert made is not None, "only a deploy applies"
    return terraform.apply(session, provision, step, made)


def terraform_applied(session: Session, step: ApplyTerraform) -> Version | None:
    """The version that the step was to bring, where an apply for another function brought it already."""
    from pointsman.owners import terraform

    provision = session.function.provision
    assert isinstance(provision, Terraform)
    return terraform.applied(session, provision, step)


def remember(session: Session, digest: str, arn: FunctionArn | None) -> None:
    """What the owner was last seen to have (its template's digest), and which function; "" and None: look next time.

    A function that takes another's place says whose: also when the run that made it did not live to tell.
    """
    fact = {"template": digest, "name": arn.name if arn else "", "arn": str(arn.unqualified) if arn else ""}
    known = session.ledger.remembered("provisioned", session.provision_key) or {}
    if not session.run or {key: known.get(key) for key in fact} == fact:
        return
    before = known.get("arn") or known.get("was", "")
    if arn is None:
        fact["was"] = before
    elif before and before != fact["arn"]:
        fact["replaces"] = before
    session.ledger.append(
        session.run, "provisioned", function=session.function.name, subject=session.provision_key, **fact
    )
