"""A CloudFormation stack owns the function: plain, SAM's or CDK's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pointsman.aws.stacks import ChangeSet, Stack
from pointsman.config import CloudFormation
from pointsman.errors import AccessDenied, GateRefused, NotFound, NotMade, UsageError
from pointsman.model import Artifact, Configuration, FunctionName
from pointsman.owners import Found, aliases_there, remember
from pointsman.owners.rendering import Rendered, render, url
from pointsman.plan import ApplyStack
from pointsman.provision import cloudformation, stack_roles, uploads
from pointsman.provision import template as templates
from pointsman.provision.template import Json
from pointsman.world import Session


def find(session: Session, provision: CloudFormation, made: Artifact) -> Found:
    """By its stack, which is asked nothing while the ledger knows what is in place."""
    ours = _ours(provision)
    wanted = render(session, provision, made, None) if ours else None
    if wanted:
        refuse_stack_alias(session, provision, wanted.aliases)
        for note in wanted.notes:
            session.world.show(note)
    digest, brings_code = (wanted.digest, wanted.mode != "api") if wanted else ("", False)
    makes_alias = bool(wanted and session.environment.alias in wanted.aliases)
    known = session.ledger.remembered("provisioned", session.provision_key) if digest else None
    if known and known["template"] == digest:
        function = session.gateway.function(known["name"])
        if function and str(function.arn.unqualified) == known["arn"] and _as_published(session, function):
            return Found(function=function, name=function.arn.name, template=digest, brings_code=brings_code)
    stack = cloudformation.present(session.gateway, provision.stack, settle=_settling(session))
    if stack is None:
        if not ours or not provision.template:
            raise _no_stack(provision)
        _must_be_mentioned(session, provision, wanted)
        return Found(
            function=None,
            name=None,
            stack="absent",
            template=digest,
            changes=_everything(wanted),
            brings_code=brings_code,
            makes_alias=makes_alias,
        )
    changes, losses = _changes(session, provision, made, stack) if ours else ((), ())
    if changes:
        _must_be_mentioned(session, provision, wanted)
    name = _name(session, provision, stack, certain=not changes)
    function = session.gateway.function(name) if name else None
    if changes and function and made.image and function.sha256 == made.sha256:
        changes = _changes_but_its_name(session, provision, made, stack, changes)
    if function:
        drifted = _set_outside(session, wanted, stack, function)
        if changes:
            changes = (*changes, *drifted)
        else:
            session.warnings += [line.removeprefix("warning: ") for line in drifted]
    return Found(
        function=function,
        name=name,
        stack="differs" if changes else "same",
        template=digest,
        changes=changes,
        losses=losses,
        brings_code=brings_code,
        makes_alias=makes_alias,
    )


def name(session: Session, provision: CloudFormation) -> FunctionName:
    stack = cloudformation.present(session.gateway, provision.stack, settle=_settling(session))
    if stack is None:
        raise _no_stack(provision)
    return cloudformation.function_name(session.gateway, stack, provision.function)


def apply(session: Session, provision: CloudFormation, step: ApplyStack, made: Artifact) -> FunctionName:
    """What is in local files goes to S3, then the change set is made, shown and carried out."""
    world, gateway = session.world, session.gateway
    stack = None if step.create else gateway.stack(provision.stack)
    wanted = render(session, provision, made, _deployed(session, stack) if stack else None)
    # From the first call on nobody may take the stack for what it was; nor, until it is through, for what it will be.
    remember(session, "", None)
    _rehearse(session, wanted)
    _bring_up(session, wanted)
    text, place = (None, None) if wanted.document is None else _sent(session, wanted)
    resources = templates.resources(wanted.document or {}).values()
    before = session.arn
    name = cloudformation.apply(
        gateway,
        cloudformation.Update(
            stack=provision.stack,
            function=provision.function,
            text=text,
            url=place,
            create=step.create,
            parameters=_parameters(session, provision, wanted, made),
            declared=tuple((wanted.document or {}).get("Parameters") or ()),
            capabilities=wanted.capabilities,
            tags=dict(provision.tags),
            nested=any(each["Type"] == "AWS::CloudFormation::Stack" for each in resources),
            ours=wanted.logical_id,
            code_by_api=wanted.mode == "api",
            allow_replace=world.options.allow_replace,
        ),
        name=f"pointsman-{session.run}",
        clock=world.clock,
        say=session.say,
        show=world.show,
        wait_s=max(world.options.wait_s, 900),
        live=lambda made: () if step.create else _roles_changed(session, provision, made, wanted),
    )
    found = gateway.function(name)
    if found:
        session.arn = found.arn.unqualified
        if before and before != session.arn:
            session.say(f"{before.name} was replaced by {name}: its versions and aliases are gone with it")
        remember(session, step.template, session.arn)
    return name


def refuse_stack_alias(session: Session, provision: CloudFormation, aliases: dict[str, str]) -> None:
    """An alias has one owner: where the template makes it, we leave it alone unless the file says otherwise."""
    alias = session.environment.alias
    if alias in aliases and provision.stack_alias == "refuse":
        raise GateRefused(
            f"alias {alias} belongs to stack {provision.stack}, which makes it by {aliases[alias]}",
            where=f"environment {session.environment.name}",
            next="Call the environment's alias otherwise; or take it out of the template; or let Pointsman move it: "
            f'stack_alias = "move" in the provision of function.{session.function.name}.',
        )


def stack_alias(session: Session, provision: CloudFormation) -> None:
    """The same for moves without a deploy."""
    if provision.template and provision.stack_alias == "refuse":
        refuse_stack_alias(session, provision, render(session, provision, None, None).aliases)


def brings_code(session: Session, provision: CloudFormation) -> bool:
    """Whether the stack brings the code, as its template tells."""
    return bool(provision.template) and render(session, provision, None, None).mode != "api"


def _must_be_mentioned(session: Session, provision: CloudFormation, wanted: Rendered | None) -> None:
    """A stack that is changed to hold no such function is changed for nothing."""
    known = session.ledger.remembered("provisioned", session.provision_key) or {}
    # A name that CloudFormation gave stands in no template.
    if wanted is None or wanted.document is None or provision.function == known.get("name"):
        return
    names = (
        templates.named(templates.properties(body).get("FunctionName"), wanted.document, wanted.parameters)
        for body in templates.functions(wanted.document).values()
    )
    if provision.function not in names and not re.search(rf"\b{re.escape(provision.function)}\b(?!::)", wanted.text):
        raise UsageError(
            f"the template does not mention {provision.function}",
            where=f"stack {provision.stack}",
            next="`function` must be a FunctionName, logical id or output of it. Nothing was changed.",
        )


def _ours(provision: CloudFormation) -> bool:
    """Whether we update the stack at all."""
    return provision.template is not None or provision.code_parameters is not None


def _no_stack(provision: CloudFormation) -> NotFound:
    return (NotMade if provision.template else NotFound)(
        f"there is no stack {provision.stack}",
        next="`pointsman deploy` creates it."
        if provision.template
        else "Name its `template` in pointsman.toml to have it created.",
    )


def _name(session: Session, provision: CloudFormation, stack: Stack, *, certain: bool) -> FunctionName | None:
    try:
        return cloudformation.function_name(session.gateway, stack, provision.function)
    except UsageError:
        if certain:
            raise
        return None  # the stack as it is has no such function; the template that is to come may


def _deployed(session: Session, stack: Stack) -> Json:
    return templates.read(session.gateway.stack_template(stack.name))


def _everything(wanted: Rendered | None) -> tuple[str, ...]:
    """What a stack that is still to be made will hold."""
    there = templates.resources((wanted and wanted.document) or {})
    return tuple(f"add {body['Type']} {name}" for name, body in there.items())


def _changes(
    session: Session, provision: CloudFormation, made: Artifact, stack: Stack
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What differs from the stack as it is, in words, nothing where it is the same; and what of it needs `--allow`."""
    deployed = _deployed(session, stack)
    wanted = render(session, provision, made, deployed)
    # A parameter with NoEcho reads "****": whether it is the same cannot be seen, and is taken for granted.
    given = {
        key: (stack.parameters.get(key), value)
        for key, value in wanted.parameters.items()
        if stack.parameters.get(key) not in (value, "****")
    }
    after = deployed if wanted.document is None else wanted.document
    undone = wanted.logical_id if wanted.mode == "api" else None
    changes = templates.differences(deployed, after, function=undone, parameters=given)
    return changes, _losses(session, provision, deployed, after, tuple(given)) if changes else ()


def _losses(
    session: Session, provision: CloudFormation, deployed: Json, after: Json, given: tuple[str, ...]
) -> tuple[str, ...]:
    """As far as the templates tell: what the change set says decides, and there is none yet."""
    expected = stack_roles.expected(deployed, after, given, {})
    lost = stack_roles.lost(expected)
    if not stack_roles.touched(expected):
        return lost
    physical = _physical(session, provision.stack)
    expected = stack_roles.expected(deployed, after, given, physical)
    processed = templates.read(session.gateway.stack_template(provision.stack, "Processed"))
    served = _served(session, provision, provision.stack)
    return (*lost, *stack_roles.role_changes(expected, served, (deployed, processed, after), physical))


def _roles_changed(
    session: Session, provision: CloudFormation, made: ChangeSet, wanted: Rendered, *, stack: str = "", depth: int = 0
) -> tuple[str, ...]:
    """What a change set would change of roles that are live; nested stacks' too. `stack` is a nested one's ARN."""
    gateway = session.gateway
    found: list[str] = []
    if stack_roles.touched(made.changes):
        name = stack or provision.stack
        processed = templates.read(gateway.stack_template(name, "Processed"))
        documents = (processed,) if stack or wanted.document is None else (processed, wanted.document)
        served = _served(session, provision, provision.stack)
        if stack:
            served |= _served(session, provision, stack)
        found += stack_roles.role_changes(made.changes, served, documents, _physical(session, name))
    for each in made.changes:
        inner = gateway.change_set(None, each.nested) if each.nested and each.physical_id and depth < 5 else None
        if inner is not None and each.action != "Add":
            found += _roles_changed(session, provision, inner, wanted, stack=each.physical_id, depth=depth + 1)
    return tuple(found)


def _physical(session: Session, stack: str) -> dict[str, str]:
    return {each.logical_id: each.physical_id for each in session.gateway.stack_resources(stack)}


def _served(session: Session, provision: CloudFormation, stack: str) -> dict[str, dict[str, str]]:
    """Of each of the stack's functions, by the ARN of a role that an environment's version has, whose it is."""
    served: dict[str, dict[str, str]] = {}
    for each in session.gateway.stack_resources(stack):
        if each.type != templates.PLAIN_FUNCTION or not each.physical_id:
            continue
        roles = served.setdefault(each.physical_id, {})
        ours = session.arn is not None and each.physical_id == session.arn.name
        ours = ours or provision.function in (each.logical_id, each.physical_id)
        for alias in aliases_there(session):
            whose = alias if ours else f"{alias} of {each.physical_id}"
            try:
                live = session.gateway.function(FunctionName(each.physical_id), alias)
            except AccessDenied:
                if ours:
                    raise
                break  # a helper of the stack's own, which nobody here deploys
            if live and (role := live.settings.get("Role")):
                roles[role] = f"{roles[role]}, {whose}" if role in roles else whose
    return served


def _changes_but_its_name(
    session: Session, provision: CloudFormation, made: Artifact, stack: Stack, changes: tuple[str, ...]
) -> tuple[str, ...]:
    """Where the function has the image already, and the stack calls it by a tag: that alone is not worth an update."""
    names, deployed = provision.code_parameters, _deployed(session, stack)
    if names and names.image:
        present = stack.parameters.get(names.image)
    else:
        logical = render(session, provision, made, deployed).logical_id
        present = templates.image(deployed, logical) if logical in templates.functions(deployed) else None
    if not isinstance(present, str) or "@" in present:
        return changes
    same, _ = _changes(session, provision, msgspec.structs.replace(made, image=present), stack)
    return changes if same else ()


def _as_published(session: Session, function: Configuration) -> bool:
    """Whether its settings are those of a version we published: others may have been set beside the stack."""
    return session.ledger.knows_settings(function.arn.unqualified, function.fingerprint)


def _set_outside(session: Session, wanted: Rendered | None, stack: Stack, function: Configuration) -> tuple[str, ...]:
    """What the update may undo: settings that are no longer as the stack last left them."""
    if wanted is None or wanted.logical_id is None:
        return ()
    expanded = templates.read(session.gateway.stack_template(stack.name, "Processed"))
    live = {**function.settings, "Environment": function.settings.get("Environment") or {}}
    return tuple(
        f"warning: {line}" for line in templates.overwritten(expanded, wanted.logical_id, live, stack.parameters)
    )


def _sent(session: Session, wanted: Rendered) -> tuple[str | None, str | None]:
    """The template in the request; a large one by S3, content-addressed."""
    size, where = len(wanted.text.encode()), f"function.{session.function.name}.provision"
    if size <= cloudformation.MOST_IN_REQUEST:
        return wanted.text, None
    if size > cloudformation.MOST_IN_S3:
        raise UsageError(
            f"the template has {size:,} bytes, and CloudFormation takes {cloudformation.MOST_IN_S3:,} at most",
            where=where,
            next="Put parts of it into nested stacks.",
        )
    bucket = wanted.bucket or next((each.bucket for each in wanted.uploads), None)
    if bucket is None:
        raise UsageError(
            f"the template has {size:,} bytes; a request takes {cloudformation.MOST_IN_REQUEST:,}, more goes by S3",
            where=where,
            next=f"Set `bucket` in [environment.{session.place.name}] to a bucket of the stack's region.",
        )
    bucket = _resolved(session, bucket)
    key = f"pointsman/templates/{wanted.digest}.template"
    uploads.store(session.gateway, bucket, key, wanted.text.encode(), session.say)
    return None, url(bucket, key, session.wire.region)


def _bring_up(session: Session, wanted: Rendered) -> None:
    for each in wanted.uploads:
        uploads.store(session.gateway, _resolved(session, each.bucket), each.key, Path(each.path), session.say)


def _parameters(session: Session, provision: CloudFormation, wanted: Rendered, made: Artifact) -> dict[str, str]:
    names = provision.code_parameters
    if names is None or names.version is None:
        return wanted.parameters
    assert wanted.bucket is not None
    version = session.gateway.object_version(wanted.bucket, uploads.key_of(made))
    if version is None:
        raise UsageError(
            f"bucket {wanted.bucket} keeps no versions, and code_parameters.version names parameter {names.version}",
            next="Leave `version` out: the key tells packages apart; or turn on versioning.",
        )
    return {**wanted.parameters, names.version: version}


def _resolved(session: Session, bucket: str) -> str:
    """A bucket of CDK's, whose name holds the account and the region."""
    if "${AWS::AccountId}" in bucket:
        account = session.arn.account if session.arn else session.gateway.caller_account()
        bucket = bucket.replace("${AWS::AccountId}", account)
    return bucket.replace("${AWS::Region}", session.wire.region)


def _rehearse(session: Session, wanted: Rendered) -> None:
    """With `--local`: the buckets, and what `cdk bootstrap` leaves, where the local AWS has none yet."""
    if not session.world.staged:
        return
    from pointsman.provision import rehearsal

    for bucket in sorted({_resolved(session, each) for each in _buckets(wanted)}):
        rehearsal.bucket(session.gateway, bucket, session.wire.region, session.say)
    for slot in ((wanted.document or {}).get("Parameters") or {}).values():
        rehearsal.bootstrap(session.gateway, slot, session.say)


def _buckets(wanted: Rendered) -> Iterator[str]:
    yield from (each.bucket for each in wanted.uploads)
    if wanted.bucket and len(wanted.text.encode()) > cloudformation.MOST_IN_REQUEST:
        yield wanted.bucket


def _settling(session: Session) -> Callable[[Stack], Stack]:
    world = session.world
    return lambda stack: cloudformation.settled(session.gateway, stack.name, world.clock, world.options.wait_s)
