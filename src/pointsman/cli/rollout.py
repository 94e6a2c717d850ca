"""`pointsman rollout …`: a rollout followed, steered and told, by whoever carries it through or from beside."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman import report_page, reporting, rollout_record
from pointsman.cli import rollout_view
from pointsman.cli.rollout_view import View
from pointsman.cli.terminal import at
from pointsman.errors import PointsmanError, UsageError
from pointsman.model import plain
from pointsman.rollout import Gating
from pointsman.story import Story, state_sentence, tell, verdict

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed
    from pointsman.cli.terminal import Screen
    from pointsman.hands import Released
    from pointsman.world import World


def run(typed: Typed) -> int:
    match typed.asked.rollout_command:
        case "list":
            return _list(typed)
        case "watch":
            return _watch(typed)
        case "status":
            return _status(typed)
        case "report":
            return _report(typed)
        case "resume":
            return _resume(typed)
        case "abort":
            return _abort(typed)
        case "approve":
            return _approve(typed)
        case "simulate":
            from pointsman.cli import simulate

            return simulate.run(typed)
        case other:
            return _ask(typed, other)


def found(typed: Typed) -> rollout_record.Known:
    """The rollout meant. Raises UsageError where there is none."""
    name, there = typed.asked.name, _called(typed)
    if there is None:
        raise UsageError(
            f"the ledger knows no rollout{f' of {name}' if name else ''}",
            next="`pointsman rollout list` shows those it knows; `pointsman status` shows what an alias serves.",
        )
    if there.open and not typed.asked.region and name != there.opened.id:
        same = (there.opened.alias, there.opened.function, there.opened.environment)
        regions = {
            each.region
            for each in islice(rollout_record.listed(typed.world.ledger), 100)
            if each.open and (each.opened.alias, each.opened.function, each.opened.environment) == same
        }
        if len(regions) > 1:
            listed = ", ".join(sorted(regions))
            raise UsageError(
                f"{there.opened.alias} is rolled out in {listed} at once", next=f"Say which: --region {there.region}."
            )
    return there


def _called(typed: Typed) -> rollout_record.Known | None:
    asked = typed.asked
    functions = getattr(asked, "function", None) or ()
    return rollout_record.called(typed.world.ledger, asked.name or "", functions, asked.region or "")


def open_one(typed: Typed) -> rollout_record.Known:
    there = found(typed)
    if not there.open:
        raise UsageError(
            f"the rollout of {there.opened.alias} has ended: {state_sentence(there.rollout)}",
            next=f"`pointsman rollout report {there.opened.alias}` tells how.",
        )
    return there


class Telling:
    """The story of one rollout, as far as the ledger has it: `more` reads on from where it was."""

    def __init__(self, world: World, there: rollout_record.Known) -> None:
        self.world = world
        self.there = there
        self.story: Story = rollout_record.prologue(world.ledger, there)
        self.read = 0

    def more(self) -> bool:
        """Whether there was something new."""
        read = self.read
        for entry, signal in rollout_record.signals(self.world.ledger, self.there.opened.id, after=self.read):
            self.read, self.story = entry.seq, tell(self.story, signal)
        return self.read != read


def shown_live(screen: Screen, world: World) -> Callable[[str], None]:
    """What a watcher calls at each step of the rollout that it carries through."""
    told: dict[str, Telling] = {}

    def show(rollout: str) -> None:
        if rollout not in told and (there := rollout_record.called(world.ledger, rollout)):
            told[rollout] = Telling(world, there)
            screen.view = View(screen.err, lively=screen.lively, colour=screen.colour)
        if rollout in told and screen.view:
            told[rollout].more()
            screen.view.show(told[rollout].story, world.clock.now())

    return show


def _list(typed: Typed) -> int:
    world, screen = typed.world, typed.screen
    rows: list[rollout_record.Known] = []
    for there in rollout_record.listed(world.ledger):
        if len(rows) == typed.asked.limit:
            break
        if typed.asked.region not in (None, there.region):
            continue
        rows.append(there)
    if not screen.json:
        screen.table(
            ("began", "region", "alias", "from", "to", "build", "by", "how it stands", "id"),
            [
                (
                    at(each.opened.at),
                    each.region,
                    each.opened.alias,
                    each.rollout.baseline,
                    each.rollout.canary,
                    each.opened.build or "-",
                    each.opened.by,
                    state_sentence(each.rollout),
                    each.opened.id,
                )
                for each in rows
            ],
        )
        if not rows:
            screen.print("No rollout yet: `promote` and `deploy` begin one where an environment has `rollout`.")
    screen.result([_facts(each) for each in rows])
    return 0


def _facts(there: rollout_record.Known) -> dict[str, object]:
    opened, state = there.opened, there.rollout.state
    return {
        "id": opened.id,
        "function": opened.function,
        "environment": opened.environment,
        "region": there.region,
        "alias": opened.alias,
        "baseline": there.rollout.baseline,
        "canary": there.rollout.canary,
        "weight": there.rollout.weight,
        "build": opened.build,
        "by": opened.by,
        "began": opened.at,
        "ended": there.rollout.ended,
        "state": plain(state),
        "says": state_sentence(there.rollout),
    }


def _status(typed: Typed) -> int:
    world, screen = typed.world, typed.screen
    there = found(typed)
    telling = Telling(world, there)
    telling.more()
    lease = rollout_record.watcher(world.ledger, there)
    if not screen.json:
        now = world.clock.now()
        width = shutil.get_terminal_size().columns
        for line in rollout_view.draw(telling.story, now, width, 40, screen.colour):
            screen.print(line)
        if not there.rollout.ended:
            screen.print(
                f"Carried through by {lease.holder}."
                if lease
                else f"Nobody carries it through: `pointsman rollout resume {there.opened.alias}` does."
            )
    screen.result({**reporting.document(telling.story), "watcher": lease.holder if lease else None})
    return 0


def _watch(typed: Typed) -> int:
    world, screen = typed.world, typed.screen
    there = found(typed)
    telling = Telling(world, there)
    view = View(screen.err, lively=screen.lively, colour=screen.colour)
    alone = False
    while True:
        telling.more()
        if not screen.json:
            view.show(telling.story, world.clock.now())
        if telling.story.rollout.ended:
            break
        if rollout_record.watcher(world.ledger, there) is None:
            if alone:  # looked at twice: one who has just ended it has written that down by now
                raise PointsmanError(
                    f"nobody carries the rollout of {there.opened.alias} through",
                    next=f"`pointsman rollout resume {there.opened.alias}` does, from where it is; "
                    f"`pointsman rollout abort {there.opened.alias}` ends it.",
                )
            alone = True
        else:
            alone = False
        world.clock.sleep(world.glance_s)
        world.refresh()
    return _ended(typed, telling.story)


def _ended(typed: Typed, story: Story) -> int:
    screen = typed.screen
    if not screen.json:
        screen.print(verdict(story))
    screen.result(reporting.document(story))
    return 0 if story.outcome == "promoted" else 4 if story.outcome == "superseded" else 3


def _report(typed: Typed) -> int:
    screen, asked = typed.screen, typed.asked
    if screen.json and "-" in (asked.html, asked.markdown):
        raise UsageError("--json and a report on standard output exclude each other", next="Give a file's name.")
    there = found(typed)
    telling = Telling(typed.world, there)
    telling.more()
    wrote = False
    for path, text in ((asked.html, report_page.html), (asked.markdown, reporting.markdown)):
        if path == "-":
            screen.print(text(telling.story))
        elif path:
            try:
                Path(path).write_text(text(telling.story), encoding="utf-8")
            except OSError as error:
                raise UsageError(f"cannot write {path}: {error.strerror}") from error
            if not screen.json:
                screen.print(f"wrote {path}")
        wrote = wrote or bool(path)
    if not screen.json and not wrote:
        screen.print(reporting.text(telling.story))
    screen.result(reporting.document(telling.story))
    return 0


def _ask(typed: Typed, what: rollout_record.Ask) -> int:
    world, screen = typed.world, typed.screen
    there = open_one(typed)
    if what == "skip":
        _must_not_wait_for_a_person(there)
    lease = rollout_record.watcher(world.ledger, there)
    rollout_record.ask(world, there, what, why=getattr(typed.asked, "why", ""))
    heard = "" if lease else f" Nobody carries it through now: `pointsman rollout resume {there.opened.alias}` does."
    if not screen.json:
        words = {"pause": "It is to hold where it is.", "skip": "It is not to wait for the rest of this step."}
        screen.print(f"Asked the rollout of {there.opened.alias}: {words[what]}{heard}")
    screen.result({**_facts(there), "asked": what, "watcher": lease.holder if lease else None})
    return 0


def _must_not_wait_for_a_person(there: rollout_record.Known) -> None:
    state = there.rollout.state
    if isinstance(state, Gating) and state.asked:
        raise UsageError(
            f"the rollout of {there.opened.alias} waits for a person",
            next=f"`pointsman rollout approve {there.opened.alias}` lets it go on, `rollout abort` ends it.",
        )


def _resume(typed: Typed) -> int:
    world, screen = typed.world, typed.screen
    there = found(typed)
    if not there.open and rollout_record.unfinished(world.ledger, there) is None:
        there = open_one(typed)  # says that it has ended, and how
    if there.open:
        if rollout_record.watcher(world.ledger, there) and not rollout_record.pauses(world, there):
            _must_not_wait_for_a_person(there)
        rollout_record.ask(world, there, "resume")
    if lease := rollout_record.watcher(world.ledger, there):
        if not screen.json:
            left = max(1.0, lease.expires - world.clock.now())
            screen.print(
                f"The rollout of {there.opened.alias} goes on; {lease.holder} carries it through. "
                f"If that is dead: the same again in {left:.0f} s."
            )
        screen.result({**_facts(there), "asked": "resume", "watcher": lease.holder})
        return 0
    from pointsman.cli.commands import told

    return told(typed, rolling_on(world, there))


def rolling_on(world: World, there: rollout_record.Known) -> list[Released]:
    """Carry it through here, as part of the release that began it, where that is still open; else on its own."""
    from pointsman import release, release_set

    opened = there.opened
    if run := rollout_record.unfinished(world.ledger, there):
        return release_set.resume(world, run)
    function, environment = world.functions(opened.function)[0], rollout_record.where(world, there)
    return [release.promote(world, function, environment, f"version:{there.canary}")]


def _abort(typed: Typed) -> int:
    world, screen, asked = typed.world, typed.screen, typed.asked
    there = _perhaps(typed)
    if there is None or not there.open:
        return _abort_alone(typed, there)
    from pointsman import release

    done = release.abort(world, there, why=asked.why)
    there = rollout_record.again(world.ledger, there)
    if not screen.json:
        baseline = there.rollout.baseline
        screen.print(f"{there.opened.alias} serves version {baseline} alone: {state_sentence(there.rollout)}")
        if path := (done.rollout or {}).get("reports", {}).get("text"):
            screen.print(f"Its report: {path}")
    screen.result({**_facts(there), "rollout": done.rollout})
    return 0


def _perhaps(typed: Typed) -> rollout_record.Known | None:
    try:
        return _called(typed)
    except PointsmanError as error:
        if error.code != "ledger_corrupt":
            raise
        typed.screen.warn(f"{error.what}; going by the alias alone")
        return None


def _abort_alone(typed: Typed, there: rollout_record.Known | None) -> int:
    """By the alias alone: what it serves beside its version is taken from it."""
    world, screen, asked = typed.world, typed.screen, typed.asked
    if not asked.name and there is None:
        raise UsageError("which alias?", where="rollout abort", next="`pointsman rollout abort PROD`.")
    from pointsman import release

    environment = rollout_record.where(world, there) if there else world.environment(asked.name)
    done = []
    for function in typed.functions:
        restored, _released = release.restore_alone(world, function, environment)
        done.append(restored)
        if not screen.json:
            was = f"; version {restored.was} had {restored.weight:.3g} % of its calls." if restored.was else " already."
            screen.print(f"{function.name}: {environment.alias} serves version {restored.version} alone{was}")
    screen.result(done)
    return 0


def _approve(typed: Typed) -> int:
    from pointsman import gating
    from pointsman.model import FunctionArn

    world, screen = typed.world, typed.screen
    there = open_one(typed)
    opened, state = there.opened, there.rollout.state
    if not isinstance(state, Gating):
        raise UsageError(f"the rollout of {opened.alias} waits for no approval: {state_sentence(there.rollout)}")
    function, environment = world.functions(opened.function)[0], rollout_record.where(world, there)
    session = world.session(function, environment)
    given = gating.approve(
        session,
        opened.id,
        state.moment,
        state.weight,
        arn=FunctionArn.parse(there.arn),
        version=there.canary,
        since=state.since,
    )
    if not screen.json:
        screen.print(f"Approved by {given.by}: the rollout of {opened.alias} to version {there.canary} may go on.")
    screen.result({**_facts(there), "approved_by": given.by})
    return 0


__all__ = ["run", "shown_live"]
