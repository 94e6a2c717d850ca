"""`pointsman prune`, and `apply` of what it saved: decisions as a table, or one by one; then the deleting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman import inventory, places, prune, prune_plan, retention
from pointsman.errors import PointsmanError, UsageError
from pointsman.model import counted, few, size

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed
    from pointsman.config import Environment
    from pointsman.ledger import Run
    from pointsman.model import Version
    from pointsman.prune import Pruned
    from pointsman.prune_plan import Planned, Pruning, Spared
    from pointsman.retention import Decision, Retained

SHOWN = 20  # functions in the table, those that free most first
_WHY = {
    "latest": "unpublished ($LATEST)",
    "alias": "served by an alias",
    "reference": "named by somebody, or in use",
    "deployment": "wanted by a rollback",
    "pin": "pinned",
    "left-out": "left out by name",
    "newest": "among the newest",
    "young": "too young",
    "unseen": "perhaps in use: not all could be looked up",
}


def run(typed: Typed) -> int:
    world, asked = typed.world, typed.asked
    named_places = (place for each in asked.env or () for place in places.each(world.environment(each)))
    environments = tuple(named_places) or world.everywhere()
    named = prune_plan.functions_named(world, environments[0], asked.function or ())
    policy = prune_plan.policy_of(
        world.project.retention,
        keep_deployments=asked.keep_deployments,
        keep_days=asked.keep_days,
        keep_versions=asked.keep_versions,
        pins=(*world.project.retention.pins, *asked.pin) if asked.pin else None,
        only=named or asked.only,
        but=(*world.project.retention.but, *asked.but) if asked.but else None,
        skip=(*world.project.retention.skip, *asked.skip) if asked.skip else None,
        thorough=asked.thorough or None,
    )
    failures: inventory.Failures = []
    made = list(prune_plan.plan(world, environments, policy, failures))
    if not made:
        raise failures[0][1]
    if not failures:  # or it may be there
        prune_plan.must_exist(made, named)
    idle = prune_plan.idle(made, "idle_pins")
    if asked.yes and (mistaken := [pin for pin in asked.pin or () if pin in idle]):
        raise UsageError(
            f"--pin {mistaken[0]} matches no version of any function or layer, so what it was to keep might go",
            where="pruning",
            next="Nothing was deleted. A pin is a version, a build, version:N or build:ID, after FUNCTION: where it is "
            "of one; `pointsman prune --list` shows what there is.",
        )
    if asked.out:
        prune_plan.save(Path(asked.out), [each.pruning for each in made])
    return _told(typed, made, agreed=asked.yes, failures=failures)


def apply(typed: Typed, saved: prune_plan.SavedPruning) -> int:
    failures: inventory.Failures = []
    made = list(prune_plan.again(typed.world, saved, failures))
    if failures and not made:
        raise failures[0][1]
    return _told(typed, made, agreed=True, failures=failures)


def resume(typed: Typed, run: Run) -> int:
    """Look again, and show it; what was agreed to less than a day ago goes without another yes."""
    world, screen = typed.world, typed.screen
    functions, layers = prune.meant(world, run)
    what = [f"{name} {retention.spans(which)}" for name, which in functions.items()]
    what += [f"layer {name} {retention.spans(which)}" for name, which in layers.items()]
    told = f"it was to delete {few(what)}" if what else "it had not decided yet what to delete"
    (screen.say if screen.json else screen.show)(told)
    then = None if typed.asked.yes else prune.agreed(run, world.clock.now())
    agreed = typed.asked.yes or then is not None
    return _told(typed, [prune.resume(world, run)], agreed=agreed, resumes=run.id, agreed_at=then)


def _told(
    typed: Typed,
    made: Sequence[Planned],
    *,
    agreed: bool,
    resumes: str = "",
    agreed_at: float | None = None,
    failures: Sequence[tuple[Environment, PointsmanError]] = (),
) -> int:
    """Show the plan; carry it out where that is agreed, or somebody at the terminal says so."""
    world, screen = typed.world, typed.screen
    if not screen.json:
        for each in made:
            _show(typed, each)
    _warn_of_idle(typed, made)
    unread = inventory.unread(failures)
    for one in unread:
        screen.warn(f"{one.error.rstrip('.')}. Nothing of it was looked at, and nothing goes. {one.next}".strip())
    any_doomed = any(each.pruning.doomed or _of_layers(each.pruning) for each in made)
    out = getattr(typed.asked, "out", None)
    if not agreed and not out and any_doomed and world.ask:
        agreed = world.ask("Delete them?")
    done: list[Pruned] = []
    if agreed and any_doomed:
        for each in made:
            if each.pruning.doomed or _of_layers(each.pruning):
                done.append(
                    prune.carry_out(world, each, before_delete=_backup(typed), resumes=resumes, agreed=agreed_at)
                )
                if not screen.json:
                    _show_done(typed, done[-1], each)
    elif resumes and not any_doomed:
        world.ledger.end(resumes, "done")
    if not screen.json and any_doomed and not agreed:
        yes = f"`pointsman resume {resumes} --yes`" if resumes else "`--yes`"
        more = "" if resumes or typed.asked.list else "; `--list` shows every version with its reason"
        screen.print(
            f"Nothing was deleted. Saved: `pointsman apply {out}` deletes what of this may still go."
            if out
            else f"Nothing was deleted: {yes} does it{more}."
        )
    failed = any(each.failed for each in done) or any(each.pruning.blind for each in made) or bool(unread)
    screen.result(
        {
            "plans": [each.pruning for each in made],
            "done": done,
            "unread": unread,
            "idle_pins": prune_plan.idle(made, "idle_pins"),
            "idle_globs": prune_plan.idle(made, "idle_globs"),
        },
        ok=not failed,
    )
    return 1 if failed else 0


def _warn_of_idle(typed: Typed, made: Sequence[Planned]) -> None:
    for pin in prune_plan.idle(made, "idle_pins"):
        typed.screen.warn(f"pin {pin} matches no version of any function or layer: it keeps nothing.")
    for glob in prune_plan.idle(made, "idle_globs"):
        typed.screen.warn(f"no function and no layer is called {glob}.")


def _backup(typed: Typed) -> prune.BeforeDelete | None:
    """Where the file says where to, and nobody says that it need not be."""
    if typed.world.project.backup.to is None or getattr(typed.asked, "without_backup", False):
        return None
    from pointsman import backups

    return lambda world, door, versions, fleet: backups.save(world, door, versions, world.say, fleet=fleet)


def _show(typed: Typed, made: Planned) -> None:
    screen, pruning = typed.screen, made.pruning
    screen.print(screen.bold(f"{pruning.account} {pruning.region}"))
    if getattr(typed.asked, "list", False):
        for each in (*pruning.functions, *pruning.layers):
            if not pruning.policy.leaves_out(each.name):  # of the others, how many they are is said below
                _show_all(typed, each)
    else:
        _show_table(typed, pruning)
    _show_sum(typed, pruning)
    _show_spared(typed, made.spared)
    for unseen in pruning.unseen:
        way_out = f" {unseen.way_out}." if unseen.way_out else ""
        screen.warn(f"{unseen.source} could not be looked up ({unseen.why}): {unseen.holds}.{way_out}")
    for note in pruning.notes:
        screen.print(f"  Note: {note}.")
    for note in dict.fromkeys(note for each in pruning.functions for note in each.notes):
        names = few(each.name for each in pruning.functions if note in each.notes)
        screen.print(f"  Note: {names}: {note}.")


def _show_table(typed: Typed, pruning: Pruning) -> None:
    losing = sorted((each for each in pruning.functions if each.doomed), key=lambda each: (-each.freed, each.name))
    rows = [_row(each, each.name) for each in losing[:SHOWN]]
    if rest := losing[SHOWN:]:
        rows.append(_sum_of(rest, f"({counted(len(rest), 'function')} more)"))
    rows += [_row(each, f"layer {each.name}", sized=False) for each in pruning.layers if each.doomed]
    typed.screen.table(("function", "versions", "keep", "delete", "freed"), rows)


def _row(each: Retained, name: str, *, sized: bool = True) -> tuple[str, ...]:
    return _sum_of([each], name, sized=sized)


def _sum_of(several: Iterable[Retained], name: str, *, sized: bool = True) -> tuple[str, ...]:
    decisions = [one for each in several for one in each.decisions if one.version.published]
    doomed = [one for one in decisions if one.action == "delete"]
    freed = size(sum(one.size for one in doomed)) if sized else "not told"
    return name, str(len(decisions)), str(len(decisions) - len(doomed)), str(len(doomed)), freed


def _show_all(typed: Typed, each: Retained) -> None:
    screen = typed.screen
    screen.print(screen.bold(each.name))
    rows = [(one.version, one.action, size(one.size) if one.size else "-", one.reason) for one in each.decisions]
    screen.table(("version", "decision", "size", "reason"), rows)


def _show_sum(typed: Typed, pruning: Pruning) -> None:
    meant = [each for each in pruning.functions if not pruning.policy.leaves_out(each.name)]
    decisions: list[Decision] = [one for each in meant for one in each.decisions if one.version.published]
    doomed = [one for one in decisions if one.action == "delete"]
    kept = Counter(one.rule for one in decisions if one.action == "keep")
    of_layers = _of_layers(pruning)
    stored = size(sum(one.size for each in meant for one in each.decisions))
    of = f"{counted(len(decisions), 'version')} of {counted(len(meant), 'function')}"
    if not doomed and not of_layers:
        typed.screen.print(f"Nothing to delete: of {of} ({stored}) all stay.")
    else:
        more = f", and {counted(of_layers, 'layer version')}" if of_layers else ""
        typed.screen.print(f"{len(doomed)} of {of} go{more}: {size(pruning.freed)} of {stored}.")
    if kept:
        said = "; ".join(f"{count} {_WHY[rule]}" for rule, count in kept.most_common())
        typed.screen.print(f"{sum(kept.values())} stay: {said}.")
    if others := len(pruning.functions) - len(meant):
        typed.screen.print(
            f"{counted(others, 'function')} more {'is' if others == 1 else 'are'} left alone by the names."
        )


def _of_layers(pruning: Pruning) -> int:
    return sum(len(each.doomed) for each in pruning.layers)


def _show_spared(typed: Typed, spared: Iterable[Spared]) -> None:
    """A line for all versions of a function that stay for the same reason."""
    alike: dict[tuple[str, str, bool], list[Version]] = {}
    for each in spared:
        alike.setdefault((each.name, each.why, each.failed), []).append(each.version)
    for (name, why, failed), versions in alike.items():
        word = "could not be deleted" if failed else f"{'stay' if len(versions) > 1 else 'stays'} after all"
        typed.screen.print(f"  {name}:{retention.spans(versions)} {word}: {why}.")


def _show_done(typed: Typed, done: Pruned, made: Planned) -> None:
    screen = typed.screen
    layers = (
        f" and of layers {', '.join(f'{name}: {which}' for name, which in done.layers.items())}" if done.layers else ""
    )
    what = f"{counted(done.versions, 'version')}{layers}"
    screen.print(f"Deleted {what} in {done.account} {done.region}: {size(done.freed)} are free.")
    if done.backed_up:
        from pointsman import backups

        screen.print(f"Backed up before: {counted(done.backed_up, 'version')}, to {backups.place(typed.world, None)}.")
    _show_spared(typed, done.spared[len(made.spared) :])  # those were shown with the plan
    if done.failed:
        screen.print("`pointsman resume` tries the rest again.")


__all__ = ["apply", "resume", "run"]
