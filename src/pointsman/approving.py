"""Who approves: said beforehand, in the environment of a CI job, or asked on the terminal."""

from __future__ import annotations

from pointsman.errors import GateRefused
from pointsman.world import Session


def approver(session: Session, what: str) -> str:
    """Who approves of it: said beforehand, or asked now. Raises GateRefused where nobody does."""
    if said := approval(session, what):
        return said[0]
    raise GateRefused(
        f"environment {session.environment.name} wants an approval to {what}, and there is no terminal to ask on",
        where="approval",
        next="Add `--approve`, or set POINTSMAN_APPROVED_BY to the name of who approved.",
    )


def approval(session: Session, what: str, *, watching: bool = False) -> tuple[str, str] | None:
    """(who approves of it, how): said beforehand, or asked now. None where nobody can be asked.

    `watching`: the new version has traffic. Who approved of the start has not seen that, and while a question stands
    on a terminal nobody would look at it: None, and `rollout approve` is what counts. Raises GateRefused at a no.
    """
    if watching:
        return None
    world = session.world
    by = world.environ.get("POINTSMAN_APPROVED_BY", "")
    if by == "github" and world.environ.get("GITHUB_ACTIONS") == "true":
        by = world.environ.get("GITHUB_TRIGGERING_ACTOR") or world.actor.by
        return by, "the GitHub environment of the job that they started"
    if by:
        return by, "POINTSMAN_APPROVED_BY"
    if world.options.approve:
        return world.actor.by, "--approve"
    if world.ask is None:
        return None
    if not world.ask(f"{what[0].upper()}{what[1:]}?"):
        raise GateRefused(f"{world.actor.by} did not approve to {what}", where="approval", next="Nothing was moved.")
    return world.actor.by, "on the terminal"
