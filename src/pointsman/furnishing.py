"""What an alias is to have beside its version: looked for where it is to be made, and where it may be half made.

An ordinary deploy asks nothing here: the ledger knows that the alias was furnished, and the URL of its preview.
"""

from __future__ import annotations

from pointsman import belongings
from pointsman.belongings import Furnishing
from pointsman.config import Environment
from pointsman.model import Alias, AliasName, Belongings, FunctionArn, FunctionName, Url
from pointsman.world import Session


def look(session: Session, name: FunctionName | None, alias: Alias | None) -> Furnishing:
    """What the alias lacks, of the function `name` (None: it is still to be made, and so has no model either)."""
    environment, branches = session.environment, session.world.project.branches
    lacks = Furnishing()
    model = _model(session)
    if name and model and (alias is None or _half_made(session, alias)):
        has = _belongings(session, name, model.alias)
        present = _belongings(session, name, environment.alias) if alias else Belongings()
        lacks = belongings.like(environment.alias, model.alias, has, present, branches.copy)
    if environment.branch:
        auth = branches.preview_auth if branches.preview else ""
        lacks += belongings.preview(environment.alias, auth, preview(session, alias) if alias else None)
    return lacks


def preview(session: Session, alias: Alias) -> Url | None:
    """The alias's URL, as the ledger knows it; AWS is asked only where the file wants one that the ledger lacks."""
    known = session.ledger.remembered("preview", str(alias.arn))
    if known:
        return Url(url=known["url"], auth=known["auth"]) if known["url"] else None
    if not session.world.project.branches.preview:
        return None
    found = session.gateway.url(alias.arn.name, alias.name)
    if session.run:
        found_at(session, alias.name, alias.arn, found)
    return found


def begin(session: Session, alias: AliasName, arn: FunctionArn | None) -> None:
    """From here on the alias counts as half made, until `finish`."""
    if arn:
        _remember(session, alias, arn, done=False)


def finish(session: Session, alias: AliasName, arn: FunctionArn) -> None:
    """All is there."""
    _remember(session, alias, arn, done=True)


def found_at(session: Session, alias: AliasName, arn: FunctionArn, url: Url | None) -> None:
    """Where the branch's preview is, None where there is none (any more): so that later deploys need not ask."""
    subject = f"{arn.unqualified}:{alias}"
    known = session.ledger.remembered("preview", subject)
    fact = {"url": url.url if url else "", "auth": url.auth if url else ""}
    if fact != (known and {key: known[key] for key in fact}):
        session.ledger.append(session.run, "preview", function=str(arn.unqualified), subject=subject, **fact)


def _model(session: Session) -> Environment | None:
    """The environment whose alias is this one's model, if it has any."""
    environment = session.environment
    if environment.branch:
        return session.place
    return session.world.environment(environment.like, environment.region or "") if environment.like else None


def _half_made(session: Session, alias: Alias) -> bool:
    known = session.ledger.remembered("furnished", str(alias.arn))
    return bool(known and not known["done"])


def _remember(session: Session, alias: AliasName, arn: FunctionArn, *, done: bool) -> None:
    subject = f"{arn.unqualified}:{alias}"
    known = session.ledger.remembered("furnished", subject)
    if known is None and done:
        return  # nothing had to be done in more than one step
    if known is None or known["done"] != done:
        session.ledger.append(session.run, "furnished", function=str(arn.unqualified), subject=subject, done=done)


def _belongings(session: Session, name: FunctionName, alias: AliasName) -> Belongings:
    """Of the kinds that are to be copied, so that no call is made in vain."""
    copy, gateway = session.world.project.branches.copy, session.gateway
    return Belongings(
        permissions=gateway.policy(name, alias) if "policy" in copy else (),
        events=gateway.event_invoke(name, alias) if "event-invoke" in copy else None,
        sources=gateway.event_sources(name, alias) if "event-sources" in copy else (),
        provisioned=gateway.provisioned(name, alias) if "provisioned-concurrency" in copy else None,
    )
