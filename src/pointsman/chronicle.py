"""What was done, read off the ledger's entries: lines of history, and what each alias served at a moment. Pure.

A line has one shape whatever it tells of, so that it can be filtered, and be a row of a table. What a run knows (who,
from which commit, in which CI job, of which build) is told with everything that the run did.
"""

from __future__ import annotations

import csv as rows_of
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec.structs import replace

from pointsman.model import Value, counted, size

TOPICS = {
    "build": "packages that were built",
    "publish": "versions and layers published",
    "move": "aliases moved: deploys, promotions, rollbacks, restores, moves that were observed",
    "verdict": "tests, gates, windows, and how rollouts ended",
    "approval": "who approved what",
    "rollout": "rollouts: begun, shifted, paused",
    "backup": "versions saved in a backup",
    "restore": "functions and versions brought back from a backup",
    "prune": "versions, layers and aliases deleted",
    "run": "runs that did not end well, or had nothing to do",
    "ledger": "the ledger itself, and functions that were replaced",
}


class Entry(Protocol):
    """An entry of the ledger, as far as it is read here."""

    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> float: ...
    @property
    def run(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def function(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def body(self) -> dict[str, Any]: ...


class Line(Value, frozen=True, kw_only=True):
    """One line of history. `topic` is what it is about (`TOPICS`), `kind` and `facts` the ledger's entry as it is.

    `function` as the file calls it, `arn` the one on AWS where the entry names it; `region` and `account`, where it was
    done; "" whatever is not known, and the region of a release over several.
    """

    at: float
    function: str
    what: str
    by: str
    run: str
    kind: str
    facts: dict[str, Any]
    topic: str
    arn: str = ""
    region: str = ""
    account: str = ""
    alias: str = ""
    environment: str = ""
    version: str = ""
    was: str = ""
    build: str = ""
    commit: str = ""
    ci: str = ""


class Wanted(Value, frozen=True, kw_only=True):
    """Which lines: all that are set must be so. Of several functions, aliases or topics any one.

    `aliases`: an alias, or its environment. `commit` is how it begins, `by` a part of the name. [since, until).
    """

    functions: tuple[str, ...] = ()
    region: str = ""
    aliases: tuple[str, ...] = ()
    build: str = ""
    commit: str = ""
    by: str = ""
    topics: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None

    def takes(self, line: Line) -> bool:
        told = [each.partition(" in ") for each in line.function.split(", ")]  # a release of several regions names them
        named = {*(name for name, _, _ in told), line.arn.rpartition(":")[2]}
        return (
            (not self.functions or bool(named & {*self.functions}))
            and self.region in ("", line.region, *(region for _, _, region in told))
            and (not self.aliases or bool({line.alias, line.environment} & {*self.aliases}))
            and self.build in ("", line.build)
            and line.commit.startswith(self.commit)
            and self.by.lower() in line.by.lower()
            and (not self.topics or line.topic in self.topics)
            and (self.since is None or line.at >= self.since)
            and (self.until is None or line.at < self.until)
        )


class Serving(Value, frozen=True, kw_only=True):
    """What an alias served at a moment, as far as the ledger knows. `version` "" and `sure` False: it does not.

    `canary` had `weight` (0 to 1) of the traffic. `how`: deploy, promote, rollback, observed, rollout, restore.
    """

    function: str
    arn: str
    alias: str
    version: str
    canary: str = ""
    weight: float | None = None
    build: str = ""
    commit: str = ""
    since: float | None = None
    by: str = ""
    ci: str = ""
    how: str = ""
    sure: bool = True
    notes: tuple[str, ...] = ()


class Then(Value, frozen=True, kw_only=True):
    """How it was `at` a moment. `begins`: of the ledger's first entry, None where it has none."""

    at: float
    begins: float | None
    aliases: tuple[Serving, ...]
    notes: tuple[str, ...] = ()


class Names(Value, frozen=True, kw_only=True):
    """What the ledger's entries name: functions (as the file or AWS calls them), aliases and environments, regions."""

    functions: frozenset[str]
    aliases: frozenset[str]
    regions: frozenset[str]


def names(entries: Iterable[Entry]) -> Names:
    functions, aliases, regions = set[str](), set[str](), set[str]()
    for each in entries:
        if each.function.startswith("arn:"):
            functions.add(each.function.rpartition(":")[2])
            regions.add(_region(each.function))
        match each.kind:
            case "run":
                run = each.body["run"]
                told = [title.partition(" in ") for title in str(run.get("function", "")).split(", ")]
                functions |= {name for name, _, _ in told}
                regions |= {region for _, _, region in told}
                aliases |= {str(run.get("alias", "")), str(run.get("environment", ""))}
            case "moved" | "branch":
                aliases |= {each.subject, str(each.body.get("branch", ""))}
            case _:
                pass
    empty = {""}
    return Names(
        functions=frozenset(functions - empty),
        aliases=frozenset(aliases - empty),
        regions=frozenset(regions - empty),
    )


_TOLD_BY_STEPS = (None, "", "done", "unchanged")  # outcomes of a run whose own line is dated by its beginning


class _Runs:
    """What is known of runs and builds, from all entries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.builds: dict[str, str] = {}  # of a run
        self.arns: dict[str, str] = {}  # of a run
        self.commits: dict[tuple[str, str], str] = {}  # of a build, by the ARN
        self.made: dict[tuple[str, str], str] = {}  # the build of a version, by the ARN
        self.settled: dict[int, tuple[float, str]] = {}  # when a call's outcome was known, and which
        self.rollouts: dict[str, dict[str, Any]] = {}
        self.pruned: set[tuple[str, str]] = set()  # functions whose deletions a run told together
        for each in entries:
            body = each.body
            if each.run and each.function.startswith("arn:"):
                self.arns.setdefault(each.run, each.function)
            match each.kind:
                case "run":
                    self.runs[each.run] = body["run"]
                case "ended":
                    self.ended[each.run] = {**body, "at": each.at, "seq": each.seq}
                case "settled":
                    self.settled[body["intent"]] = (each.at, str(body["outcome"]))
                case "packaged":
                    self.builds.setdefault(each.run, str(body.get("build") or ""))
                case "built":
                    self._build(each, each.subject, str(body.get("version") or ""))
                case "published":
                    self._build(each, str(body.get("build") or ""), each.subject)
                case "moved" if body["move"].get("build"):
                    self.builds.setdefault(each.run, body["move"]["build"])
                case "rollout":
                    self.rollouts[body["opened"]["id"]] = body["opened"]
                    self.builds.setdefault(each.run, body["opened"].get("build") or "")
                case "pruned":
                    self.pruned.add((each.run, each.subject))

        self.names = {
            arn: str(run["function"])
            for each, arn in self.arns.items()
            if (run := self.runs.get(each)) and not run.get("members")
        }

    def name(self, arn: str, run: Mapping[str, Any]) -> str:
        """What the file calls the function, as far as any run tells; else what it is called on AWS."""
        return str(run.get("function") or self.names.get(arn) or arn.rpartition(":")[2])

    def _build(self, entry: Entry, build: str, version: str) -> None:
        if not build:
            return
        self.builds.setdefault(entry.run, build)
        if commit := entry.body.get("commit"):
            self.commits[entry.function, build] = commit
        if version:
            self.made.setdefault((entry.function, version), build)

    def outcome(self, call: Entry) -> tuple[float | None, str]:
        """When a call's outcome was known, and which; None and "" where it is not.

        A team's ledger may forget outcomes in time: what a run that ended well had called took effect.
        """
        if call.seq in self.settled:
            return self.settled[call.seq]
        ended = self.ended.get(call.run, {})
        return (ended["at"], "done") if ended.get("outcome") == "done" else (None, "")

    def told_at(self, entry: Entry) -> tuple[float, int]:
        """Where its line belongs: that of a run which ended badly tells its end, and not how it began."""
        ended = self.ended.get(entry.run, {}) if entry.kind == "run" else {}
        return (ended["at"], ended["seq"]) if ended.get("outcome") not in _TOLD_BY_STEPS else (entry.at, entry.seq)

    def commit(self, arn: str, build: str, run: Mapping[str, Any]) -> str:
        """A build's own commit; else, of a deploy, what was checked out."""
        if known := self.commits.get((arn, build)):
            return known
        return str(run.get("commit") or "") if run.get("command") == "deploy" else ""


# History


def history(entries: Iterable[Entry], wanted: Wanted, limit: int | None = None) -> list[Line]:
    """What was done, newest first, the newest `limit` of what is wanted."""
    known = sorted(entries, key=lambda each: (each.at, each.seq))
    runs = _Runs(known)
    found: list[Line] = []
    for entry in sorted(known, key=runs.told_at, reverse=True):
        if len(found) == limit:
            break
        line = _line(entry, runs)
        if line and wanted.takes(line):
            found.append(line)
    return found


def _line(entry: Entry, runs: _Runs) -> Line | None:
    run = runs.runs.get(entry.run, {})
    topic, what, more = _told(entry, run, runs)
    if not what:
        return None
    named = entry.function if entry.function.startswith("arn:") else str(entry.body.get("arn") or "")
    layer = str(more.pop("layer", ""))  # what is of a layer is not of the function that the run is of
    arn = "" if layer else named or runs.arns.get(entry.run, "")
    # A rebuilt ledger's entries are all of one run, which is no release: of such a build says nothing.
    build = str(more.pop("build", "") or (runs.builds.get(entry.run, "") if run else ""))
    return Line(
        at=runs.told_at(entry)[0],
        function=layer or runs.name(arn or entry.function, run),
        what=what,
        by=str(more.pop("by", "") or entry.body.get("by") or run.get("by", "")),
        run=entry.run,
        kind=entry.kind,
        facts=entry.body,
        topic=topic,
        arn=arn,
        region=_region(arn) or str(run.get("request", {}).get("region") or ""),
        account=arn.split(":")[4] if arn.count(":") > 4 else "",
        alias=str(more.pop("alias", "") or run.get("alias", "")),
        environment=run.get("environment", ""),
        build=build,
        commit=runs.commit(arn, build, run),
        ci=run.get("ci", ""),
        **more,
    )


def _told(entry: Entry, run: Mapping[str, Any], runs: _Runs) -> tuple[str, str, dict[str, Any]]:
    """(topic, sentence, what else the line knows); no sentence for what is not worth a line."""
    subject, body = entry.subject, entry.body
    match entry.kind:
        case "packaged" if run.get("command") == "promote":
            return "", "", {}  # brought from another place: nothing was built
        case "packaged":
            made = body["artifact"]
            return "build", f"built {body['build']}: {made.get('image') or made['sha256'][:10] + '…'}", {}
        case "published":
            build = body.get("build") or ""
            return "publish", f"published version {subject}, build {build or '-'}", {"version": subject, "build": build}
        case "layer" if body.get("published"):
            number = body["version"].rpartition(":")[2]
            return "publish", f"published version {number} of layer {body['layer']}", {}
        case "moved":
            return "move", *_moved(subject, body["move"])
        case "gate" if "moment" in body:
            return "verdict", _gate(subject, body), {"version": str(body.get("version") or "")}
        case "gate":
            counts = body.get("report") or {}
            tests = f" ({counted(counts['tests'], 'test')})" if counts else ""
            ended = {"pass": "passed", "due": "are still to run"}.get(body["verdict"], "failed")
            return "verdict", f"{subject} tests {ended}{tests}", {"version": str(body.get("version") or "")}
        case "approved":
            what = f"{subject} approved by {body['by']}, version {body['version']}"
            return "approval", what, {"alias": subject, "version": body["version"]}
        case "approval":
            given = body["approval"]
            return "approval", f"rollout: approved by {given['by']}", {"by": given["by"]}
        case "run":
            return "run", _run(run, runs.ended.get(entry.run)), {}
        case "rollout":
            begun = body["opened"]["rollout"]
            what = f"rollout: {subject} from version {begun['baseline']} to version {begun['canary']} begins"
            return "rollout", what, {"alias": subject, "version": begun["canary"], "was": begun["baseline"]}
        case "rollout-state":
            topic, what = _rolled(body)
            of = {"version": body["rollout"]["canary"], "was": body["rollout"]["baseline"]}
            return topic, what, {**of, **_of_rollout(subject, runs)}
        case "rollout-asked":
            why = f", {body['why']}" if body["why"] else ""
            return "rollout", f"rollout: asked to {body['ask']} by {body['by']}{why}", _of_rollout(subject, runs)
        case "cleared":
            alias = subject.rpartition(":")[2]
            return "prune", f"deleted alias {alias} of a branch", {"alias": alias}
        case "pruned":
            gone = f"{counted(body['count'], 'version')} of {subject}: {body['versions']}"
            return "prune", f"pruned {gone} ({size(body['freed'])})", {}
        case "call":
            return "prune", *_deleted(entry, runs)
        case "provisioned" if body.get("replaces"):
            gone = body["replaces"].rpartition(":")[2]
            return "ledger", f"{body['name']} replaces {gone}, whose versions and aliases are gone", {}
        case "rebuilt":
            what = f"ledger rebuilt from {' and '.join(body.get('sources', ('Lambda',)))}: "
            return "ledger", f"{what}{body['versions']} versions, {body['aliases']} aliases", {}
        case "restored":
            name, source = subject.rpartition(":")[2], str(body.get("source", "")).rpartition(":")[2]
            once = f" as it was as {source}" if source != name else ""
            versions = ", ".join(f"{old} as {now}" for old, now in body.get("mapping", {}).items())
            what = f"restored {name}{once} from the backup in {body.get('place') or 'a folder'}"
            return "restore", what + (f": saved version {versions}" if versions else ""), {}
        case "backed up":
            what = f"backed up in {body['place']}: {counted(body['versions'], 'version')}, {body['new']} new"
            return "backup", what, {}
        case "kept":
            return "backup", f"backed up in {body['place']}: version {subject.rpartition(':')[2]}", {}
        case _:
            return "", "", {}


def _of_rollout(id_: str, runs: _Runs) -> dict[str, Any]:
    opened = runs.rollouts.get(id_, {})
    return {"alias": opened.get("alias", ""), "build": opened.get("build") or ""}


def _moved(alias: str, move: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    build = f", build {move['build']}" if move.get("build") else ""
    version, was = move["version"], move.get("was") or ""
    facts = {"alias": alias, "by": move.get("by", ""), "build": move.get("build") or "", "was": was}
    if move["kind"] == "removed":
        return f"removed: {alias} is gone (it served version {version})", {**facts, "was": version}
    told = f" (was {was})" if was else ""
    return f"{move['kind']}: {alias} → version {version}{told}{build}", {**facts, "version": version}


def _gate(subject: str, body: Mapping[str, Any]) -> str:
    what = f"window of {subject}" if body["moment"] == "window" else f"gate {body['gate']} ({body['moment']})"
    by = f" by {body['by']}" if body["by"] else ""
    return f"{what}: {body['verdict']}{by}" + (f", {body['problem']}" if body["problem"] else "")


def _run(run: Mapping[str, Any], ended: Mapping[str, Any] | None) -> str:
    command = f"{run['command']} to {run['alias']}" if run["alias"] else run["command"]
    match (ended or {}).get("outcome", ""):
        case "":
            return "" if run.get("part_of") else f"{command} began, and did not end"  # the whole release tells it
        case "done":
            return ""  # its steps tell
        case "unchanged":
            # The whole release tells it; and what was resumed had been done by then, as the lines of its steps tell.
            silent = run.get("part_of") or run.get("request", {}).get("resumes")
            return "" if silent else f"{command}: nothing to do"
        case outcome:
            return f"{command} ended {outcome}: {_short((ended or {}).get('error', ''))}"


def _rolled(body: Mapping[str, Any]) -> tuple[str, str]:
    """What a rollout's state is worth telling of: weights, and how it ended; not each bucket."""
    rollout, confirmed = body["rollout"], body["signal"]["signal"] == "WeightConfirmed"
    state, canary = rollout["state"], rollout["canary"]
    match state["state"]:
        case "Baking" if confirmed:
            return "rollout", f"rollout: version {canary} serves {rollout['weight'] * 100:g} %"
        case "Promoted":
            return "verdict", f"rollout: version {canary} promoted"
        case "RolledBack":
            return "verdict", f"rollout: version {canary} rolled back: {_short(state['why'])}"
        case "Superseded":
            return "verdict", f"rollout: superseded: {_short(state['what'])}"
        case "Stuck":
            return "verdict", f"rollout: stuck: {_short(state['why'])}"
        case "Paused":
            return "rollout", f"rollout: paused by {state['by']}"
        case _:
            return "", ""


def _deleted(entry: Entry, runs: _Runs) -> tuple[str, dict[str, Any]]:
    """Of calls only those that took something away for good, and only where that happened, or may have."""
    action = entry.body["action"].rpartition(":")[2]
    _, outcome = runs.outcome(entry)
    name, _, number = entry.subject.removeprefix("layer ").rpartition(":")
    if action not in ("DeleteFunction", "DeleteLayerVersion") or outcome not in ("done", ""):
        return "", {}
    if outcome and action == "DeleteFunction" and (entry.run, name) in runs.pruned:
        return "", {}  # told together
    what = "version" if action == "DeleteFunction" else "layer version"
    told = f"{what} {number} of {name}" if name else f"function {number}"
    facts = {"version": number if name else "", **({"layer": name} if action == "DeleteLayerVersion" else {})}
    if outcome:
        return f"deleted {told}", facts
    return f"{told} was to be deleted, and no answer came", facts


def _short(error: str, most: int = 100) -> str:
    line = error.splitlines()[0] if error else ""
    return line if len(line) <= most else f"{line[: most - 1]}…"


# A moment


def then(entries: Iterable[Entry], at: float, wanted: Wanted | None = None) -> Then:
    """Every alias as it was at that moment, by function and name, and what the ledger cannot know of it."""
    known = sorted(entries, key=lambda each: (each.at, each.seq))
    runs = _Runs(known)
    serving: dict[tuple[str, str], Serving] = {}
    later: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in known:
        if entry.at <= at:
            _apply(entry, runs, serving)
        elif entry.kind == "moved":
            move = entry.body["move"]
            later.setdefault((entry.function, entry.subject), {**move, "at": entry.at})
    for place, move in later.items():
        there = serving.get(place)
        if there is None and (move.get("was") or move["kind"] == "observed"):
            serving[place] = _before(place, move, runs)
        elif there is not None and there.version and move.get("was") not in (None, there.version):
            serving[place] = replace(there, sure=False, notes=(*there.notes, _drifted(move)))
    for place, note in _under_way(known, at, runs, serving):
        serving[place] = replace(serving[place], sure=False, notes=(*serving[place].notes, note))
    begins = known[0].at if known else None
    rows = [each for _, each in sorted(serving.items()) if wanted is None or _wanted(each, wanted)]
    return Then(at=at, begins=begins, aliases=tuple(rows), notes=_unknown(at, begins))


def _wanted(row: Serving, wanted: Wanted) -> bool:
    names = {row.function, row.arn.rpartition(":")[2]}
    return (
        (not wanted.functions or bool(names & {*wanted.functions}))
        and (not wanted.aliases or row.alias in wanted.aliases)
        and wanted.region in ("", _region(row.arn))
    )


def _region(arn: str) -> str:
    return arn.split(":")[3] if arn.count(":") > 3 else ""


def _unknown(at: float, begins: float | None) -> tuple[str, ...]:
    if begins is None:
        return ("The ledger is empty: it knows of no time.",)
    if at < begins:
        return (f"The ledger begins at {_stamp(begins)}: of the time before it has no record.",)
    return ()


def _apply(entry: Entry, runs: _Runs, serving: dict[tuple[str, str], Serving]) -> None:
    run = runs.runs.get(entry.run, {})
    match entry.kind:
        case "moved":
            place, move = (entry.function, entry.subject), entry.body["move"]
            if move["kind"] == "removed":
                serving.pop(place, None)
            else:
                serving[place] = _served(place, move, entry.at, run, runs)
        case "cleared":
            serving.pop((entry.function, entry.subject.rpartition(":")[2]), None)
        case "rollout":
            opened = entry.body["opened"]
            place = (entry.function, opened["alias"])
            if place not in serving:
                known = {"version": opened["rollout"]["baseline"], "kind": "observed"}
                serving[place] = replace(_served(place, known, entry.at, {}, runs), function=opened["function"])
        case "rollout-state" if opened := runs.rollouts.get(entry.subject):
            place = (entry.function, opened["alias"])
            serving[place] = _shifted(serving.get(place), place, entry, opened, runs)


def _served(place: tuple[str, str], move: Mapping[str, Any], at: float, run: Mapping[str, Any], runs: _Runs) -> Serving:
    arn, alias = place
    version = move["version"]
    build = move.get("build") or runs.made.get((arn, version), "")
    return Serving(
        function=runs.name(arn, run),
        arn=arn,
        alias=alias,
        version=version,
        build=build,
        commit=runs.commit(arn, build, run),
        since=at,
        by=move.get("by") or run.get("by", ""),
        ci=run.get("ci", ""),
        how=move["kind"],
    )


def _shifted(
    there: Serving | None, place: tuple[str, str], entry: Entry, opened: Mapping[str, Any], runs: _Runs
) -> Serving:
    """After a state of a rollout: what was confirmed, and what was being done when it was written."""
    rollout = entry.body["rollout"]
    state, weight, confirmed = rollout["state"], rollout["weight"], entry.body["signal"]["signal"] == "WeightConfirmed"
    known = {"version": rollout["baseline"], "kind": "rollout", "by": opened["by"]}
    found = there or replace(_served(place, known, entry.at, {}, runs), function=opened["function"])
    found = replace(found, notes=(), sure=True)
    if confirmed:
        changed: dict[str, Any] = {"since": entry.at, "how": "rollout", "by": opened["by"]}
        if weight >= 1:
            known = {**known, "version": rollout["canary"], "build": opened.get("build") or ""}
            ci = runs.runs.get(opened["id"], {})
            found = replace(_served(place, known, entry.at, ci, runs), function=opened["function"])
        else:
            canary = rollout["canary"] if weight > 0 else ""
            found = replace(found, version=rollout["baseline"], canary=canary, weight=weight or None, **changed)
    match state["state"]:
        case "Shifting":
            note = f"a shift to {state['to'] * 100:g} % on version {rollout['canary']} was under way"
        case "Promoting":
            note = f"it was being moved to version {rollout['canary']} alone"
        case "RollingBack":
            note = f"it was being put back to version {rollout['baseline']} alone"
        case "Superseded":
            note = f"somebody else had moved it: {_short(state['what'])}"
        case "Stuck":
            note = f"the rollout could not put it back: {_short(state['why'])}"
        case _:
            return found
    return replace(found, sure=False, notes=(note,))


def _before(place: tuple[str, str], move: Mapping[str, Any], runs: _Runs) -> Serving:
    """Of an alias that the ledger first knows of later."""
    was = move.get("was") or ""
    first = f"the ledger first knows of it at {_stamp(move['at'])}"
    tail = f", when it had served version {was}; since when is not known" if was else ""
    known = _served(place, {"version": was, "kind": ""}, 0.0, {}, runs)
    return replace(known, since=None, sure=False, notes=(first + tail,))


def _drifted(move: Mapping[str, Any]) -> str:
    return (
        f"somebody moved it without this ledger before {_stamp(move['at'])}: then it served version {move['was']}; "
        "since when is not known"
    )


def _under_way(
    known: Sequence[Entry], at: float, runs: _Runs, serving: Mapping[tuple[str, str], Serving]
) -> list[tuple[tuple[str, str], str]]:
    """Calls that move an alias, sent by then and not answered by then: it may serve the one, or the other."""
    found = []
    for entry in known:
        if entry.kind != "call" or entry.at > at:
            continue
        settled, _ = runs.outcome(entry)
        if entry.body["action"].rpartition(":")[2] not in ("UpdateAlias", "DeleteAlias"):
            continue
        if settled is not None and settled <= at:
            continue
        place = _place_of(entry, runs)
        for (arn, alias), row in serving.items():
            if any(known not in ("", there) for known, there in zip(place, arn.split(":")[3:5], strict=True)):
                continue
            newer = row.since is not None and row.since >= entry.at
            if entry.subject == f"alias {alias} of {arn.rpartition(':')[2]}" and not newer and not row.notes:
                when = f"answered at {_stamp(settled)}" if settled else "its answer is not known"
                found.append(((arn, alias), f"a call that moves it was sent at {_stamp(entry.at)}, {when}"))
    return found


def _place_of(call: Entry, runs: _Runs) -> tuple[str, str]:
    """(region, account) that a call was sent to, "" what is not known: older ledgers tell at most the region."""
    asked = runs.runs.get(call.run, {}).get("request", {})
    return str(call.body.get("region") or asked.get("region") or ""), str(call.body.get("account") or "")


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


# As a table of values

COLUMNS = (
    *("at", "topic", "function", "arn", "alias", "environment", "version", "was", "build", "commit", "by", "ci"),
    *("run", "what"),
)


def csv(lines: Iterable[Line]) -> str:
    """RFC 4180, times in UTC. Columns keep their names and order; new ones come at the end."""
    out = io.StringIO()
    writer = rows_of.writer(out)
    writer.writerow(COLUMNS)
    for line in lines:
        at = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        writer.writerow([_cell(at if name == "at" else str(getattr(line, name))) for name in COLUMNS])
    return out.getvalue()


def _cell(text: str) -> str:
    """A spreadsheet takes for a formula what begins so, and a branch or a person may be called so: an apostrophe makes
    it text. https://owasp.org/www-community/attacks/CSV_Injection"""
    dangerous = text[:1] in ("\t", "\r", "\n") or text.lstrip()[:1] in ("=", "+", "-", "@", "＝", "＋", "－", "＠")
    return f"'{text}" if dangerous else text


__all__ = [
    "COLUMNS",
    "TOPICS",
    "Entry",
    "Line",
    "Names",
    "Serving",
    "Then",
    "Wanted",
    "csv",
    "history",
    "names",
    "then",
]
