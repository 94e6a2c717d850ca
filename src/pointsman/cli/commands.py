"""One function per command: what was typed → the use case → the screen. Returns the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointsman import config
from pointsman.cli.terminal import OutputLost, Screen, ago
from pointsman.errors import ConfigInvalid, Interrupted, PointsmanError, UsageError
from pointsman.model import Artifact, BuiltLayer, counted, plain, size

if TYPE_CHECKING:
    from pointsman import adoption
    from pointsman.aws.operation import Transport
    from pointsman.aws.transports import Clock
    from pointsman.config import Environment, Function
    from pointsman.hands import Released
    from pointsman.plan import Plan
    from pointsman.world import World

UNCHANGED = 5
MOVES = ("deploy", "promote", "rollback", "apply", "resume")  # what a CI system is told of


class Typed:
    """One command line, and what it takes to answer it."""

    def __init__(
        self,
        asked: argparse.Namespace,
        screen: Screen,
        environ: Mapping[str, str],
        wrap: Callable[[Transport], Transport] | None,
        clock: Clock | None,
    ) -> None:
        self.asked = asked
        self.screen = screen
        self.environ = environ
        self._wrap = wrap
        self._clock = clock
        self._world: World | None = None
        self._show: Callable[[str], None] | None = None

    def file(self) -> Path:
        return Path(self.asked.file) if self.asked.file else config.find(Path.cwd())

    @property
    def world(self) -> World:
        return self._world or self.open(config.load(self.file()))

    def left_open(self) -> bool:
        """Whether there is a run to resume; True also where the ledger cannot tell."""
        if self._world is None or self.asked.command == "build":
            return False
        try:
            return self._world.ledger.unfinished() is not None
        except (PointsmanError, OSError):
            return True

    def open(self, project: config.Project) -> World:
        """The world of a project's file, which need not be written yet."""
        if self._world is None:
            from pointsman.cli import local
            from pointsman.world import Options, World

            rehearsal = local.join(project.root, wanted=self.asked.local, say=self.screen.say)
            if self.asked.local:
                from pointsman.provision.rehearsal import runnable, runtimes

                project = runnable(project, runtimes(self.environ.get("AWS_ENDPOINT_URL", "")), self.screen.say)
            world = World(
                project=project,
                environ=self.environ,
                options=Options(
                    approve=getattr(self.asked, "approve", False),
                    allow_replace=getattr(self.asked, "allow_replace", False),
                    all_at_once=getattr(self.asked, "all_at_once", False),
                    supersede=getattr(self.asked, "supersede", False),
                    outside_window=getattr(self.asked, "outside_window", False),
                    wait_s=getattr(self.asked, "wait", 300),
                    region=(self.asked.command not in ("init", "history") and getattr(self.asked, "region", None))
                    or "",
                    mfa=self.asked.mfa or "",
                ),
                say=self.screen.say,
                show=self.screen.show,
                echo=self.screen.echo,
                ask=self.screen.ask if self.screen.can_ask else None,
                answer=self.screen.answer if self.screen.can_ask else None,
                local=rehearsal,
                staged=self.asked.local,
            )
            if self.screen.lively:
                world.board = self.screen.board
                world.line = self.screen.line
            if len(getattr(self.asked, "function", None) or project.functions) == 1 and not self.screen.json:
                world.watched = self._watched
            if self._wrap:
                world.wrap = self._wrap
            if self._clock:
                world.clock = self._clock
            self.screen.calls = world.calls
            self.screen.ledger = world.ledger_costs
            self._world = world
        return self._world

    def _watched(self, rollout: str) -> None:
        """Shows a rollout that this command carries through. Brought in when there is one: it starts slowly."""
        if self._show is None:
            from pointsman.cli.rollout import shown_live

            self._show = shown_live(self.screen, self.world)
        self._show(rollout)

    @property
    def functions(self) -> tuple[Function, ...]:
        return self.world.functions(*(self.asked.function or ()))

    @property
    def root(self) -> Path | None:
        """The project's folder, where the file could be read."""
        return self._world.project.root if self._world else None

    def close(self) -> None:
        if self._world is not None:
            self._world.close()


def run(
    asked: argparse.Namespace,
    screen: Screen,
    environ: Mapping[str, str],
    *,
    wrap: Callable[[Transport], Transport] | None,
    clock: Clock | None,
) -> int:
    """The command's exit code; every expected failure is one clear error and its own code."""
    typed = Typed(asked, screen, environ, wrap, clock)
    try:
        return _dispatch(typed)
    except PointsmanError as error:
        screen.failed(error)
        if asked.command in MOVES or getattr(asked, "rollout_command", "") == "resume":
            from pointsman.cli import reports

            reports.failed(error, asked.command, environ, typed.root, screen.err)
        return error.exit_code
    except (BrokenPipeError, OutputLost):
        raise  # `main` knows what to do without an output
    except OSError as error:
        # A folder that cannot be written, a full disk: the message names the file.
        screen.failed(PointsmanError(str(error)))
        return 1
    except KeyboardInterrupt:
        stopped = Interrupted("interrupted", next=_after_interrupt(typed))
        screen.failed(stopped)
        return stopped.exit_code
    finally:
        typed.close()


def _after_interrupt(typed: Typed) -> str:
    if typed.asked.command in ("backup", "restore"):
        return "The same command goes on where it stopped."
    if not typed.left_open():
        return "Nothing is left to resume: run it again when you want it."
    return "`pointsman resume` goes on where it stopped."


def _dispatch(typed: Typed) -> int:
    match typed.asked.command:
        case "init":
            return _init(typed)
        case "build":
            return _build(typed)
        case "deploy":
            return _deploy(typed)
        case "promote":
            return _promote(typed)
        case "rollback":
            return _rollback(typed)
        case "plan":
            return _plan(typed)
        case "apply":
            return _apply(typed)
        case "resume":
            return _resume(typed)
        case "status":
            if typed.asked.all or typed.asked.only:
                from pointsman.cli import overview

                return overview.run(typed)
            return _status(typed)
        case "versions":
            return _versions(typed)
        case "history":
            from pointsman.cli import history

            return history.run(typed)
        case "diff":
            return _diff(typed)
        case "storage":
            from pointsman.cli import storage

            return storage.run(typed)
        case "rollout":
            from pointsman.cli import rollout

            return rollout.run(typed)
        case "ledger":
            from pointsman.cli import ledger

            return ledger.run(typed)
        case "branch":
            from pointsman.cli import branch

            return branch.run(typed)
        case "prune":
            from pointsman.cli import prune

            return prune.run(typed)
        case "backup":
            from pointsman.cli import backup

            return backup.run(typed)
        case "restore":
            from pointsman.cli import backup

            return backup.restore(typed)
        case "doctor":
            return _doctor(typed)
        case "local":
            from pointsman.cli import local

            return local.run(typed)
        case "ci":
            from pointsman.cli import ci

            return ci.run(typed)
        case "config":
            return _config(typed)
        case "completion":
            import shtab

            from pointsman.cli import parser

            typed.screen.print(shtab.complete(parser.build(listed=True), shell=typed.asked.shell))
            return 0
        case other:
            raise UsageError(f"there is no command {other}")


def _init(typed: Typed) -> int:
    from msgspec.structs import replace

    from pointsman import adoption

    asked, screen = typed.asked, typed.screen
    folder = Path.cwd()
    path = Path(asked.file) if asked.file else folder / "pointsman.toml"
    if path.exists() and not asked.force:
        raise UsageError(f"{path} is there already", next="`pointsman init --force` overwrites it.")
    found = adoption.look(folder, asked.kind)
    found = replace(found, region=asked.region or found.region, profile=asked.profile or found.profile)
    found = _looked_up(typed, found, path)
    text = adoption.write(found, name=asked.name, role=asked.role)
    project = _parsed(text, path)
    path.write_text(text, encoding="utf-8")
    if not screen.json:
        screen.print(f"wrote {path}")
        for line in found.told:
            screen.print(f"  {line}")
        for note in found.notes:
            screen.print(f"  - {note}")
        if found.kind == "plain" and (theirs := [n for n, each in project.functions.items() if _exists(each)]):
            screen.print(
                f"  - `existing`: {', '.join(theirs)} must be on AWS already, made by somebody else. "
                "`pointsman init --force --role ARN` writes a file that creates it."
            )
        approve = " --approve" if next(iter(project.environments.values())).approve else ""
        ready = all(each.handler for each in found.functions)
        screen.print(
            "Next: read it; `pointsman plan` shows what a deploy would do, "
            f"`pointsman --local deploy{approve}` rehearses it."
            if ready
            else "Next: fill in what is missing (`pointsman config explain` describes every key)."
        )
    screen.result({"file": str(path), "found": plain(found)})
    return 0


def _exists(function: config.Function) -> bool:
    return isinstance(function.provision, config.Existing)


def _parsed(text: str, path: Path) -> config.Project:
    try:
        return config.parse(text, file=path)
    except ConfigInvalid as error:
        raise UsageError("\n".join(error.problems), where="what init was given", next="Nothing was written.") from error


def _looked_up(typed: Typed, found: adoption.Found, path: Path) -> adoption.Found:
    """With what AWS has, where that was asked for, or may be: `init` itself needs no AWS, and goes on without."""
    from msgspec.structs import replace

    from pointsman import adoption, sighting
    from pointsman.model import FunctionName

    asked, environ = typed.asked, typed.environ
    wanted = asked.function_name
    if wanted is not None and not FunctionName.pattern.fullmatch(wanted):
        raise UsageError(f"{wanted!r} is not {FunctionName.rule}", where="--function-name")
    # Those that stand in the environment; to look further (a machine's own role) would keep people waiting.
    credentials = (
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    may = asked.local or asked.profile or any(environ.get(each) for each in credentials)
    if asked.offline or not (may or wanted):
        return found
    world = typed.open(_parsed(adoption.write(found), path))
    try:
        return sighting.named(world, found, FunctionName(wanted)) if wanted else sighting.look(world, found)
    except PointsmanError as error:
        if wanted:
            raise
        return replace(found, notes=(*found.notes, f"What is on AWS is not known: {error.what}"))


def _build(typed: Typed) -> int:
    from pointsman import artifact, building
    from pointsman.artifact import checks
    from pointsman.artifact.builds import Builds
    from pointsman.cli import packages

    screen, asked = typed.screen, typed.asked
    if asked.layer and asked.function:
        raise UsageError("--layer and --function both say what to build", next="Leave one of them out.")
    builds = Builds()
    made: list[Artifact | BuiltLayer] = []
    results: list[dict[str, object]] = []
    found: list[checks.Problem] = []

    def add(project: config.Project, built: config.Function | config.Layer) -> None:
        before = building.last(project, built) if asked.explain else None
        if isinstance(built, config.Layer):
            layer = building.layer(project, built, environ=typed.environ, say=screen.say)
            made.append(layer)
            package = layer.package
        else:
            package = building.build(project, built, environ=typed.environ, say=screen.say, builds=builds)
            made.append(package)
            # Whether it must go through a bucket is the environment's matter.
            found.extend(building.problems(built, package, bucket="an environment's"))
        results.append(
            {
                **plain(made[-1]),
                **({"listing": artifact.listing(package)} if asked.list else {}),
                **({"explanation": artifact.explain(before, package)} if asked.explain else {}),
            }
        )

    if asked.layer:
        for project, layer in _buildable_layers(typed):
            add(project, layer)
    else:
        for project, function in _buildable(typed):
            if not _is_image(typed, function):
                add(project, function)
    if not screen.json:
        shown: dict[str, Artifact] = {}
        for each in made:
            if isinstance(each, BuiltLayer):
                shown[each.layer] = each.package
            else:
                shown[each.function] = each
        for each in made:
            for one in each.layers if isinstance(each, Artifact) else ():
                shown[f"layer {one.layer}"] = one.package
        rows = [
            (name, each.path, size(each.size), str(each.files), each.sha256, "yes" if each.cached else "no")
            for name, each in shown.items()
        ]
        screen.table(("layer" if asked.layer else "function", "path", "size", "files", "sha256", "cached"), rows)
        for result in results:
            if isinstance(listing := result.get("listing"), packages.Listing):
                packages.show_listing(screen, listing)
            if isinstance(explanation := result.get("explanation"), packages.Difference):
                packages.show_difference(screen, explanation)
    checks.refuse(found)  # last, for the list of what is in a package tells why
    screen.result(results)
    return 0


def _is_image(typed: Typed, function: Function) -> bool:
    if function.build == "image":
        typed.screen.show(f"{function.name} is a container image: nothing is built; `pointsman plan` shows its digest")
    return function.build == "image"


def _buildable_layers(typed: Typed) -> list[tuple[config.Project, config.Layer]]:
    project = typed.world.project if typed.asked.local else config.load(typed.file())
    if wrong := next((name for name in typed.asked.layer if name not in project.layers), None):
        from pointsman.world import unknown

        raise unknown("layer", wrong, project.layers, "pointsman.toml has")
    return [(project, each) for name, each in project.layers.items() if name in typed.asked.layer]


def _buildable(typed: Typed) -> list[tuple[config.Project, Function]]:
    """The functions meant, in the file's order. A world is opened only where it is needed: it takes time."""
    project = typed.world.project if typed.asked.local else config.load(typed.file())
    chosen = typed.asked.function or tuple(project.functions)
    if not set(chosen) <= set(project.functions):
        return [(project, each) for each in typed.functions]  # which says what there is instead
    return [(project, each) for name, each in project.functions.items() if name in chosen]


def _deploy(typed: Typed) -> int:
    from pointsman import release_set

    return told(typed, release_set.deploy(typed.world, typed.functions, _target(typed), given=typed.asked.build_id))


def _target(typed: Typed) -> Environment:
    """Where a deploy goes: `--to`, or `--branch`, which alone means the branch that is checked out."""
    world, asked = typed.world, typed.asked
    if asked.branch is None:
        return world.environment(asked.to)
    if asked.to is not None:
        raise UsageError("--to and --branch both say where to", next="Leave one of them out.")
    return world.of_branch(world.present_branch() if asked.branch == "HEAD" else asked.branch.removeprefix("branch:"))


def _promote(typed: Typed) -> int:
    from pointsman import release_set

    environment = typed.world.environment(typed.asked.to)
    return told(typed, release_set.promote(typed.world, typed.functions, environment, typed.asked.target))


def _rollback(typed: Typed) -> int:
    from pointsman import release_set

    environment = typed.world.environment(typed.asked.alias)
    return told(typed, release_set.roll_back(typed.world, typed.functions, environment, typed.asked.target))


def told(typed: Typed, done: list[Released]) -> int:
    screen = typed.screen
    screen.board_is_final()
    if not screen.json:
        if len(done) > 1:
            _released(screen, done)
        else:
            for each in done:
                screen.print(_sentence(each))
        for each in done:
            about = f"{_title(each)}: " if len(done) > 1 else "  "
            for note in each.notes:
                screen.print(f"{about}Note: {note}.")
            if each.preview:
                screen.print(f"{about}Preview: {each.preview}")
            if path := (each.rollout or {}).get("reports", {}).get("text"):
                screen.print(f"{about}The rollout's report: {path}")
            for warning in each.warnings:
                screen.warn(warning)
            if each.unsaved:
                again = f"`pointsman backup {each.function} --version {each.version}` tries again"
                screen.warn(f"{each.unsaved}. The release is done all the same; {again}.")
    unsaved = any(each.unsaved for each in done)
    screen.result(done, ok=not unsaved)
    from pointsman.cli import reports

    reports.released(done, typed.asked.command, typed.environ, typed.world.project.root, screen.err)
    if unsaved:
        return 1
    unchanged = all(each.outcome == "unchanged" for each in done)
    return UNCHANGED if unchanged and getattr(typed.asked, "fail_if_unchanged", False) else 0


def _released(screen: Screen, done: list[Released]) -> None:
    rows = [
        (
            _title(each),
            each.alias,
            each.version or "-",
            each.was or "-",
            each.build or "-",
            ", ".join(f"{name}: {report}" for name, report in each.tests.items()) or "-",
            {"done": "moved" if each.moved else "served already", "unchanged": "nothing to do"}.get(
                each.outcome, each.outcome
            ),
        )
        for each in done
    ]
    screen.table(("function", "alias", "version", "was", "build", "tests", "outcome"), rows)
    for each in done:
        if each.why:
            screen.print(f"{_title(each)}: {each.why}.")


def _title(done: Released) -> str:
    return f"{done.function} in {done.region}" if done.region else done.function


def _sentence(done: Released) -> str:
    build = f", build {done.build}" if done.build else ""
    if done.outcome == "unchanged":
        return f"{_title(done)}: nothing to do: {done.why}{f' ({done.build} is that build too)' if done.build else ''}."
    was = f" (was version {done.was})" if done.was else ""
    tests = "".join(f" {name.capitalize()} tests: {report}." for name, report in done.tests.items())
    if not done.moved:
        return f"{_title(done)}: {done.alias} serves version {done.version} already{build}."
    return f"{_title(done)}: {done.alias} serves version {done.version}{build}{was}.{tests}"


def _plan(typed: Typed) -> int:
    from pointsman import release, release_set

    world, asked = typed.world, typed.asked
    functions = typed.functions
    plans: Sequence[Plan]
    match asked.planned:
        case "promote":
            to = world.environment(asked.to)
            plans = release_set.plan_promote(world, functions, to, asked.target)
        case "rollback":
            plans = release_set.plan_rollback(world, functions, world.environment(asked.alias), asked.target)
        case _:
            plans = release_set.plan(world, functions, _target(typed), given=asked.build_id)
    if asked.out:
        release.save(Path(asked.out), plans, {"all_at_once": world.options.all_at_once})
    screen = typed.screen
    if not screen.json:
        for each in plans:
            _show_plan(screen, each)
        if asked.out:
            screen.print(f"\nsaved: `pointsman apply {asked.out}` runs exactly this")
    screen.result(plans)
    return 0


def _show_plan(screen: Screen, plan: Plan) -> None:
    from pointsman.plan import describe, details

    build = f" of build {plan.build}" if plan.build else ""
    where = f"{plan.environment}, {plan.region}" if plan.region else plan.environment
    screen.print(screen.bold(f"{plan.kind}{build}: {plan.function} → {plan.alias} ({where})"))
    if plan.why_nothing:
        screen.print(f"  nothing to do: {plan.why_nothing}")
    for number, step in enumerate(plan.steps, 1):
        screen.print(f"  {number}. {describe(step)}")
        for line in details(step):
            screen.print(f"       {line}")
    for note in plan.notes:
        screen.print(f"  Note: {note}.")


def _apply(typed: Typed) -> int:
    from pointsman import prune_plan, release, release_set

    if (saved := prune_plan.load(Path(typed.asked.plan_file))) is not None:
        from pointsman.cli import prune as pruning

        return pruning.apply(typed, saved)
    return told(typed, release_set.apply(typed.world, release.load(Path(typed.asked.plan_file))))


def _resume(typed: Typed) -> int:
    from pointsman import release_set, survey
    from pointsman.cli.terminal import at

    run = typed.world.ledger.unfinished(typed.asked.run_id)
    if run is None:
        if typed.asked.run_id:
            raise UsageError(f"run {typed.asked.run_id} is not open", next="`pointsman history` lists the runs.")
        if not typed.screen.json:
            typed.screen.print("Nothing to resume: every run ended.")
        typed.screen.result([])
        return 0
    what = f"{run.command} of {run.function} to {run.alias}" if run.function else survey.called(run)
    if run.command == "restore":
        what = f"restore of {run.request['target'].rpartition(':')[2]}"
    tell = typed.screen.say if typed.screen.json else typed.screen.show
    tell(f"resuming {what} (run {run.id} of {run.by}, begun {at(run.at)})")
    if run.command == "branch delete":
        from pointsman import branching

        cleared = branching.resume(typed.world, run)
        if not typed.screen.json:
            typed.screen.print(f"{run.function}: {run.alias} is deleted, with what was left of it.")
        typed.screen.result(cleared)
        return 0
    if run.command == "prune":
        from pointsman.cli import prune

        return prune.resume(typed, run)
    if run.command == "restore":
        from pointsman.cli import backup

        return backup.resume(typed, run)
    return told(typed, release_set.resume(typed.world, run))


def _status(typed: Typed) -> int:
    from pointsman import survey

    world, screen = typed.world, typed.screen
    found = survey.status(world, typed.functions)
    if not screen.json:
        now = world.clock.now()
        for index, each in enumerate(found):
            if index:
                screen.print()
            title = f"{each.function}" + (f" ({each.name})" if each.name != each.function else "")
            whose = f"{screen.bold(title)} in {f'{each.account} {each.region}'.strip()}"
            if not each.deployed:
                why = f"could not be read. {each.error}" if each.error else "not deployed yet"
                screen.print(f"{whose} ({', '.join(each.environments)}): {why}.")
                continue
            screen.print(f"{whose}: {each.state}, update {each.update}")
            rows = [
                (
                    row.alias,
                    row.version + (f" + {row.weight * 100:g}% on {row.canary}" if row.weight else ""),
                    row.build or "-",
                    row.commit[:10] or "-",
                    f"{ago(now - row.since)} ago" if row.since else "-",
                    row.by or "-",
                )
                for row in each.aliases
            ]
            screen.table(("alias", "version", "build", "commit", "since", "by"), rows)
            for alias in each.missing:
                screen.print(f"{alias} does not exist yet.")
            for row in each.aliases:
                if row.drift:
                    screen.print(f"{row.alias} was moved outside Pointsman: {row.drift}.")
                if row.moving:
                    screen.print(f"{row.alias} is where a run left it: {row.moving}.")
            for line in each.rollouts:
                screen.print(f"{line[0].upper()}{line[1:]}.")
            if each.unfinished and not any(row.moving for row in each.aliases):
                screen.print(f"{each.unfinished}.")
        parted = {(each.function, row.environment): row.apart for each in found for row in each.aliases if row.apart}
        for (name, environment), told in parted.items():
            screen.print(f"{name}: the regions of {environment} do not serve the same build: {told}.")
    unread = any(each.error for each in found)
    screen.result(found, ok=not unread)
    return 1 if unread else 0


def _versions(typed: Typed) -> int:
    from pointsman import release_set, survey

    world, screen = typed.world, typed.screen
    environment = world.environment(typed.asked.to)
    parts = release_set.parts_of(typed.functions, environment)
    found = {each.title: survey.versions(world, each.function, each.place) for each in parts}
    if not screen.json:
        for name, rows in found.items():
            screen.print(screen.bold(f"{name}: {counted(len(rows), 'version')}"))
            screen.table(
                ("version", "aliases", "builds", "sha256", "size", "published", "state"),
                [
                    (
                        row.version,
                        ", ".join(row.aliases) or "-",
                        ", ".join(row.builds) or "-",
                        f"{row.sha256[:10]}…",
                        size(row.code_size),
                        row.modified[:19].replace("T", " "),
                        row.state,
                    )
                    for row in rows
                ],
            )
    screen.result(found)
    return 0


def _diff(typed: Typed) -> int:
    from pointsman import release_set, survey

    world, screen, asked = typed.world, typed.screen, typed.asked
    home, over = survey.compared(world, asked.to, asked.a, asked.b)
    found = {
        each.title: survey.diff(world, each.function, home, asked.a, asked.b, near=each.place.region)
        for each in release_set.parts_of(typed.functions, over)
    }
    if not screen.json:
        for name, each in found.items():
            screen.print(screen.bold(f"{name}: {each.a} → {each.b}"))
            if not each.code and not each.settings:
                screen.print("  the same code and configuration")
            if each.images:
                screen.print(f"  another image: sha256:{each.images[0]} → sha256:{each.images[1]}")
            elif each.code and each.files is None:
                screen.print("  other code (which files: not known here, their packages are not in this checkout)")
            for path, what in (each.files or {}).items():
                screen.print(f"  {what:<8} {path}")
            for key, (before, after) in each.settings.items():
                screen.print(f"  {key}: {_changed(key, before, after)}")
    screen.result(found)
    return 0


def _changed(key: str, before: Any, after: Any) -> str:
    """A setting that differs: of environment variables the names only, for values may be secrets."""
    if key == "Environment":
        one, other = before or {}, after or {}
        return f"variables {', '.join(sorted(n for n in {*one, *other} if one.get(n) != other.get(n)))}"
    return " → ".join("unset" if each is None else str(each) for each in (before, after))


def _doctor(typed: Typed) -> int:
    import json

    from pointsman import doctor
    from pointsman.config import Terraform

    world, screen, asked = typed.world, typed.screen, typed.asked
    only = world.environment(asked.to) if asked.to else None
    functions = typed.functions
    if asked.policy:
        document = doctor.policy(world, functions, only)
        if not screen.json:
            screen.print(json.dumps(document, indent=2))
        if any(isinstance(each.provision, Terraform) for each in functions):
            screen.warn("what Terraform itself calls for the resources of its modules is not in this policy.")
        screen.result(document)
        return 0
    found = doctor.examine(world, functions, only)
    problems = sum(each.verdict == "problem" for each in found)
    if not screen.json:
        about = ""
        for each in found:
            if each.about != about:
                about = each.about
                screen.print(screen.bold(about))
            screen.print(f"  {each.verdict:<8} {each.name}: {each.what}")
            if each.next:
                screen.print(f"  {'':<8} → {each.next}")
        warnings = sum(each.verdict == "warning" for each in found)
        screen.print(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}.")
    screen.result(found, ok=not problems)
    return 1 if problems else 0


def _config(typed: Typed) -> int:
    from pointsman.model import to_json

    screen = typed.screen
    match typed.asked.config_command:
        case "explain":
            text = config.explain(typed.asked.key)
            if not screen.json:
                screen.print(text.rstrip())
            screen.result(text)
        case "schema":
            screen.print(to_json(config.schema()).decode()) if not screen.json else screen.result(config.schema())
        case _:
            project = config.load(typed.file())
            if not screen.json:
                names = ", ".join(project.functions) or "no function"
                screen.print(f"{project.file} is right: {names}; {len(project.environments)} environments.")
            screen.result({"file": str(project.file)})
    return 0


__all__ = ["Typed", "run"]
