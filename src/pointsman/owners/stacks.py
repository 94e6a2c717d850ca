"""A CloudFormation stack owns the function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pointsman.aws.stacks import Stack
from pointsman.config import CloudFormation
from pointsman.errors import NotFound, UsageError
from pointsman.model import FunctionName, to_json
from pointsman.owners import Found, remember
from pointsman.plan import ApplyStack
from pointsman.provision import cloudformation
from pointsman.world import Session


def find(session: Session, provision: CloudFormation) -> Found:
    """By its stack, which is asked nothing while the ledger knows the template in place."""
    digest = _template_digest(session, provision)
    known = session.ledger.remembered("provisioned", session.provision_key) if digest else None
    if known and known["template"] == digest:
        function = session.gateway.function(known["name"])
        if function and str(function.arn.unqualified) == known["arn"]:
            return Found(function=function, name=function.arn.name, template=digest)
    looked = cloudformation.look(session.gateway, provision, _template(session, provision), settle=_settling(session))
    function = session.gateway.function(looked.name) if looked.name else None
    return Found(function=function, name=looked.name, stack=looked.status, template=digest)


def name(session: Session, provision: CloudFormation) -> FunctionName:
    looked = cloudformation.look(session.gateway, provision, None, settle=_settling(session))
    if looked.name is None:
        raise NotFound(f"stack {provision.stack} does not exist yet", next="`pointsman deploy` creates it.")
    return looked.name


def apply(session: Session, provision: CloudFormation, step: ApplyStack) -> FunctionName:
    text = _template(session, provision)
    assert text is not None
    world = session.world
    # From the first call on nobody may take the stack for what it was; nor, until it is through, for what it will be.
    remember(session, "", None)
    name = cloudformation.apply(
        session.gateway,
        provision,
        text,
        name=f"pointsman-{session.run}",
        create=step.create,
        allow_replace=world.options.allow_replace,
        clock=world.clock,
        say=session.say,
        wait_s=max(world.options.wait_s, 900),
    )
    found = session.gateway.function(name)
    if found:
        session.arn = found.arn.unqualified
        remember(session, step.template, session.arn)
    return name


def _settling(session: Session) -> Callable[[Stack], Stack]:
    world = session.world
    return lambda stack: cloudformation.settled(session.gateway, stack.name, world.clock, world.options.wait_s)


def _template(session: Session, provision: CloudFormation) -> str | None:
    if provision.template is None:
        return None
    path = session.world.project.root / provision.template
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the template {path}: {error}") from error


def _template_digest(session: Session, provision: CloudFormation) -> str:
    text = _template(session, provision)
    if text is None:
        return ""
    asked = to_json([text, provision.stack, provision.function, dict(provision.parameters)])
    return hashlib.sha256(asked).hexdigest()
