"""Runs that were interrupted: what they had decided, and whether the world still lets them go on."""

from __future__ import annotations

from typing import Any

from pointsman.errors import Drift
from pointsman.ledger import Run
from pointsman.model import Alias, Artifact, FunctionArn, Move, Value, from_json, to_json
from pointsman.plan import ApplyStack, ApplyTerraform, CreateFunction, Plan, Seen
from pointsman.world import Session, World


class Told(Value, frozen=True, kw_only=True):
    """What a run, and those it resumed, had decided before it ended. `versions`: where its alias may rightly be."""

    packaged: dict[str, Any] | None
    planned: Plan | None
    unit_passed: bool
    versions: tuple[str, ...]
    approved: dict[str, str]  # "ALIAS version" → by whom


_DECISIONS = ("packaged", "planned", "gate", "published", "approved")


def told(world: World, run: Run) -> Told:
    entries = list(world.ledger.of_run(run.id, *_DECISIONS))
    earlier = run.request.get("resumes")
    while earlier:
        entries = [*world.ledger.of_run(earlier, *_DECISIONS), *entries]
        before = next((each for each in world.ledger.runs() if each.id == earlier), None)
        earlier = before.request.get("resumes") if before else None
    plans = [from_json(to_json(each.body["plan"]), Plan) for each in entries if each.kind == "planned"]
    published = [each.subject for each in entries if each.kind == "published"]
    return Told(
        packaged=next((each.body for each in reversed(entries) if each.kind == "packaged"), None),
        planned=plans[-1] if plans else None,
        unit_passed=any(
            each.kind == "gate" and each.subject == "unit" and each.body["verdict"] == "pass" for each in entries
        ),
        versions=tuple({*published, *(str(each.version) for each in plans if each.version)}),
        approved={
            f"{each.subject} {each.body['version']}": each.body["by"] for each in entries if each.kind == "approved"
        },
    )


def not_overtaken(before: Told, made: Artifact, seen: Seen) -> None:
    """What the interrupted run saw must still be so, or be its own doing; anything else is somebody else's work."""
    then = before.planned
    if then is None:
        return
    routing = str(seen.alias.routing) if seen.alias else None
    ours = {f"version {version}" for version in before.versions}
    sha256 = seen.function.sha256 if seen.function else None
    own_code = {then.expects.function_sha256, made.sha256}
    by_stack = any(isinstance(step, ApplyStack | ApplyTerraform | CreateFunction) for step in then.steps)
    if routing in {then.expects.alias_routing, *ours} and (by_stack or sha256 in own_code):
        return
    what = f"{then.alias} is at {routing}" if routing != then.expects.alias_routing else "$LATEST holds other code"
    raise Drift(
        f"somebody else went on since the interrupted deploy: {what}",
        where=f"resuming the deploy of build {then.build}",
        next="Nothing was changed. Deploy again if this build is still the one you want.",
    )


def catch_up(session: Session, arn: FunctionArn, alias: Alias) -> None:
    """A run killed right after its move left the alias where it meant to, and the ledger without it: write it down."""
    world = session.world
    mine = ((session.title,), session.environment.name)
    open_runs = world.ledger.open_runs(but=session.part_of or session.run)
    run = next((each for each in open_runs if not each.members and (each.titles, each.environment) == mine), None)
    if run is None:
        return
    before = told(world, run)
    moves = session.ledger.moves(arn, alias.name)
    if alias.version not in before.versions or (moves and moves[-1].version == alias.version):
        return
    was = moves[-1].version if moves else None
    move = Move(
        alias=alias.name,
        version=alias.version,
        was=was,
        kind=before.planned.kind if before.planned else run.command,
        at=world.clock.now(),
        by=run.by,
        build=before.planned.build if before.planned else None,
    )
    if session.run:
        session.ledger.moved(run.id, arn, move)
        session.ledger.end(run.id, "done")
