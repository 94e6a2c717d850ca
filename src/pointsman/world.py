"""What one command works with: the file, the ledger, the door to AWS, the clock, the person asking. Built by the CLI.

A `World` is one command's; a `Session` is one function in one environment, with a gateway of its own.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pointsman import home, places
from pointsman.artifact.builds import Builds
from pointsman.aws.budget import LAMBDA, Allowance, Budgets
from pointsman.aws.gateway import Gateway
from pointsman.aws.operation import Transport
from pointsman.aws.transports import Call, Clock, Count, Declared, Halt, Journal, ReadOnly, Retry, Throttle, Waking
from pointsman.branches import alias_name, pull_request, titled
from pointsman.config import CloudFormation, Direct, Environment, Existing, Function, Project, Terraform
from pointsman.errors import (
    AccountMismatch,
    CredentialsRefused,
    GateRefused,
    LedgerError,
    LostRace,
    PointsmanError,
    UnknownTarget,
    UsageError,
)
from pointsman.gates import judge_window
from pointsman.ledger import Ledger, Recorder, Run, born
from pointsman.model import Alias, Artifact, FunctionArn, FunctionName, Role, Value

if TYPE_CHECKING:
    from pointsman.aws.dynamodb import Table
    from pointsman.aws.identity import Identity
    from pointsman.aws.wire import Wire
    from pointsman.plan import Plan


_TABLE = "dynamodb://"
_PATIENCE_S = 300.0  # so long AWS may take no call at all before a throttle is an error


class SystemClock:
    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Actor(Value, frozen=True, kw_only=True):
    """Who runs this, from which commit, in which CI run ("" where unknown)."""

    by: str
    commit: str = ""
    ci: str = ""


@dataclass
class Progress:
    """How far one function of a release is: the phase, from when to when, the version, what it is waiting for."""

    function: str
    phase: str = "waiting"
    version: str = ""
    doing: str = ""
    began: float = 0.0
    ended: float = 0.0

    def starts(self, phase: str, now: float) -> None:
        self.phase, self.doing, self.began, self.ended = phase, "", self.began or now, 0.0

    def stops(self, phase: str, now: float) -> None:
        self.phase, self.doing, self.ended = phase, "", now


class Turns:
    """Whose turn it is with what cannot be shared: a stack, a folder's test report. One lock for each name."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.Lock] = {}
        self._taken: dict[str, int] = {}
        self._guard = threading.Lock()
        self.failed: dict[str, str] = {}  # what was tried in its turn, and must not be tried again: why

    @contextmanager
    def take(self, *names: str) -> Iterator[bool]:
        """Waits for all of them; tells whether somebody had them before, in this command."""
        with ExitStack() as held:
            for name in sorted(set(names)):  # in one order for all: else two could wait for each other
                with self._guard:
                    lock = self._locks.setdefault(name, threading.Lock())
                held.enter_context(lock)
            before = any(self._taken.get(name) for name in names)
            for name in names:
                self._taken[name] = self._taken.get(name, 0) + 1
            yield before


# What guards an environment of the file does not guard the aliases of branches that are like it.
UNGUARDED: dict[str, Any] = {"approve": False, "rollout": None, "gates": (), "window": None}


class Options(Value, frozen=True, kw_only=True):
    """What the command line adds to the file."""

    approve: bool = False
    allow_replace: bool = False
    all_at_once: bool = False
    supersede: bool = False  # a rollout that is under way is ended first
    outside_window: bool = False
    wait_s: float = 300
    region: str = ""  # of an environment that has several, this one alone
    mfa: str = ""  # the code of the MFA device a role asks for

    @property
    def how(self) -> dict[str, object]:
        """How it is to move, as the ledger keeps it: what is resumed moves the same way."""
        asked = {"all_at_once": self.all_at_once, "supersede": self.supersede}
        return {name: each for name, each in asked.items() if each}


@dataclass
class World:
    """`ask` puts a yes-or-no question to a person, and is None where there is none. `wrap` is the tests' seam."""

    project: Project
    environ: Mapping[str, str]
    options: Options = field(default_factory=Options)
    clock: Clock = field(default_factory=SystemClock)
    say: Callable[[str], None] = lambda _line: None
    show: Callable[[str], None] = lambda _line: None  # what must have been seen before it is done
    echo: Callable[[str], None] | None = None
    ask: Callable[[str], bool] | None = None
    answer: Callable[[str], str] | None = None  # puts a question that is answered in words
    wrap: Callable[[Transport], Transport] = lambda transport: transport
    draw: Callable[[], float] = random.random
    local: bool = False  # a rehearsal: the endpoint is on this machine
    staged: bool = False  # by `--local`: what the local AWS lacks may be supplied
    calls: list[Call] = field(default_factory=list)
    board: Callable[[Sequence[Progress], float], None] | None = None  # shows how far all are, at that time
    line: Callable[[str], None] | None = None  # one line that is redrawn: how far long work is; "" takes it away
    watched: Callable[[str], None] | None = None  # shows how the rollout of this id stands
    glance_s: float = 0.5  # how often a watcher that waits looks whether somebody wants something
    turns: Turns = field(default_factory=Turns)
    packages: dict[str, Artifact] = field(default_factory=dict)  # made by this command, by function
    builds: Builds = field(default_factory=Builds)
    halted: Callable[[], bool] | None = None  # asked before each call, where a Ctrl-C does not arrive by itself
    _refreshed: float = 0.0
    ledger_calls: list[Call] = field(default_factory=list)  # of a ledger in a table: not the release's
    _ledger: Ledger | None = None
    _wires: dict[tuple[object, ...], tuple[Wire, Transport, Allowance]] = field(default_factory=dict)
    _identities: dict[tuple[object, ...], Identity] = field(default_factory=dict)
    _codes: list[str] = field(default_factory=list)  # of MFA, that were used: AWS takes each once
    _budgets: Budgets | None = None

    def __post_init__(self) -> None:
        if self._budgets is None:  # worlds beside this one share it
            self._budgets = Budgets(per_second=calls_per_second(self.environ))

    @cached_property
    def actor(self) -> Actor:
        return actor(self.environ, self.project.root)

    @property
    def state(self) -> Path:
        """Where packages and the ledger lie. A rehearsal keeps its own: its history is not the account's."""
        kept = self.project.root / home.NAME
        return kept / "local" if self.local else kept

    @property
    def reports(self) -> Path:
        """Test reports and logs, a folder for each run; a rehearsal's too, for CI collects them from one place."""
        return self.project.root / home.NAME / "reports"

    def make_home(self) -> None:
        """The folder for what we keep. Raises LedgerError."""
        try:
            home.make(self.project.root)
        except OSError as error:
            raise LedgerError(f"cannot write {error.filename}: {error.strerror}") from error

    @property
    def shared(self) -> bool:
        """Whether the ledger is a table, which others write to as well."""
        return bool(self.project.ledger.table[0])

    @property
    def ledger_path(self) -> Path:
        """The ledger's file; of a table, the file of its mirror."""
        kept = self.project.ledger
        if not self.shared:
            return self.state / "ledger.db" if self.local else self.project.root / kept.url.removeprefix("sqlite:")
        # Where the same name is another table there is another mirror, for two commands may use both at once.
        place = (kept.url, kept.region, kept.profile or self.environ.get("AWS_PROFILE"), kept.role_arn)
        where = hashlib.sha256(repr((place, self.environ.get("AWS_REGION"))).encode()).hexdigest()[:10]
        return self.state / f"mirror-{kept.url.removeprefix(_TABLE).replace('/', '.')}-{where}.db"

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            self._ledger = self.open_ledger()
        return self._ledger

    def open_ledger(self, url: str | None = None) -> Ledger:
        """The file's ledger, or another by its url. In a rehearsal a table that is missing is created."""
        self.make_home()
        if url is not None and not url.startswith(_TABLE):
            return Ledger(self.project.root / url.removeprefix("sqlite:"), now=self.clock.now)
        if url is None and not self.shared:
            return Ledger(self.ledger_path, now=self.clock.now)
        from pointsman.ledger.team import NoTable, TeamLedger, create

        table, name = self.ledger_table(url)

        def opened() -> Ledger:
            mirror = self.ledger_path
            if url is not None:
                mirror = mirror.with_name(f"mirror-of-{hashlib.sha256(url.encode()).hexdigest()[:10]}.db")
            return TeamLedger(
                *(table, name, mirror),
                now=self.clock.now,
                sleep=self.clock.sleep,
                draw=self.draw,
                keep_days=self.project.ledger.keep_days,
            )

        try:
            return opened()
        except NoTable:
            if not self.local:
                raise
            for line in create(table, self.clock):
                self.show(f"rehearsal: {line}")
            return opened()

    def ledger_table(self, url: str | None = None) -> tuple[Table, str]:
        """(the table, which of its ledgers): reached by credentials of its own, beside the budget of Lambda's calls."""
        from pointsman.aws.dynamodb import Table
        from pointsman.aws.wire import Wire

        kept = self.project.ledger
        table, name = msgspec.structs.replace(kept, url=url or kept.url).table
        wire = Wire(
            region=kept.region,
            profile=None if self.local else kept.profile,
            role_arn=None if self.local else kept.role_arn,
            actor=self.actor.by,
            timeout=call_timeout(self.environ),
        )
        count = Count(self.wrap(wire), time.perf_counter)
        count.calls = self.ledger_calls
        return Table(Retry(count, self.clock, self.draw), table), name or table

    def ledger_costs(self) -> dict[str, int] | None:
        """What this command has read from and written to the ledger's table; None where that is a file."""
        if not self.shared:
            return None
        if self._ledger is not None:
            with suppress(LedgerError):  # told by the command itself, where it matters
                self._ledger.flush()
        writes = sum(call.mutates for call in self.ledger_calls)
        return {"reads": len(self.ledger_calls) - writes, "writes": writes}

    def begin_ledger_anew(self) -> Path | None:
        """Makes room for a ledger that is rebuilt: a file is set aside (returned, None where there was none).

        Raises UsageError for a table that has entries: what is in there is never rewritten.
        """
        if self.shared:
            if entries := self.ledger.count():
                raise UsageError(
                    f"{self.ledger.place} has {entries} entries, and what a table holds is never rewritten",
                    next="Put it back to a moment before the damage by point-in-time recovery; or begin another ledger "
                    f'in it, [ledger] url = "{_TABLE}TABLE/NAME", and rebuild that.',
                )
            return None
        path = self.ledger_path
        self.close()
        if not path.exists():
            return None
        aside = path.with_name(f"{path.name}.{self.run_id()}.damaged")
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + suffix))
        return aside

    def beside(
        self, *, say: Callable[[str], None], echo: Callable[[str], None] | None, halted: Callable[[], bool]
    ) -> World:
        """The same world for one of several threads: one ledger, one budget of calls, but a voice of its own."""
        _ = self.ledger  # opened now, by one
        made = replace(self, say=say, echo=echo, halted=halted, watched=None)
        made.actor = self.actor  # asked of git once; tests may have written into the tree since
        return made

    def refresh(self) -> None:
        """Learn what others wrote into the ledger, every few seconds at most: of a team's it is a paid read."""
        if not 0 <= self.clock.now() - self._refreshed < 3.0:  # the clock may be set back
            self._refreshed = self.clock.now()
            self.ledger.sync()

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    # Choosing

    def functions(self, *chosen: str) -> tuple[Function, ...]:
        """The functions meant: those named, or all, in the file's order. Raises UnknownTarget with the likely one."""
        there = self.project.functions
        if wrong := next((name for name in chosen if name not in there), None):
            raise unknown("function", wrong, there, "pointsman.toml has")
        return tuple(each for name, each in there.items() if name in chosen or not chosen)

    @property
    def backup_folder(self) -> Path | None:
        """Where the backup is, where it is a folder: a rehearsal's is its own. None for S3, and for none."""
        said = self.project.backup.to
        if said is None or said.startswith("s3://"):
            return None
        return self.state / "backup" if self.local else self.project.root / Path(said).expanduser()

    def environment(self, to: str | None, region: str = "") -> Environment:
        """By name or alias; `branch:NAME` and `pr:NUMBER` are branches'; without one, the first of the file.

        `region`: there alone; else as `--region` says, else in all it has. Raises UsageError for one it does not have.
        """
        found = self.environment_called(to)
        region = region or self.options.region
        if not region or found.region == region:
            return found
        if found.region or (found.regions and region not in found.regions):
            there = f"It is in {', '.join(found.regions or (found.region or '',))}."
            raise UsageError(f"environment {found.name} is not in {region}", where="--region", next=there)
        return places.in_region(found, region)

    def environment_of(self, run: Run) -> Environment:
        """Where a run of the ledger went to: a region alone, if it was narrowed to one."""
        return self.environment(run.environment, str(run.request.get("region") or ""))

    def everywhere(self) -> tuple[Environment, ...]:
        """Every environment of the file in each of its regions; with `--region`, in that one.

        Raises UsageError where there is none.
        """
        region = self.options.region
        found = tuple(place for each in self.project.environments.values() for place in places.each(each))
        if not found:
            raise no_environment()
        if not region:
            return found
        there = tuple(places.in_region(each, region) for each in found if each.region in (None, region))
        if not there:
            named = ", ".join(dict.fromkeys(each.region or "" for each in found))
            raise UsageError(f"no environment is in {region}", where="--region", next=f"They are in {named}.")
        return there

    def environment_called(self, to: str | None) -> Environment:
        """The same with all its regions, whatever was asked for."""
        environments = self.project.environments
        if not environments:
            raise no_environment()
        if to is None:
            return next(iter(environments.values()))
        if to.startswith("branch:") or pull_request(to):
            return self.of_branch(to.removeprefix("branch:"))
        if to in environments:
            return environments[to]
        meant = [each for each in environments.values() if each.alias == to]
        if len(meant) > 1:
            names = ", ".join(each.name for each in meant)
            raise UsageError(f"{to} is the alias of several environments", next=f"Say which: {names}.")
        if meant:
            return meant[0]
        if branch := self.branch_called(to):
            return self.of_branch(branch)
        there = {name for each in environments.values() for name in (each.name, str(each.alias))}
        raise unknown("environment or alias", to, there, "A branch is said as branch:NAME; pointsman.toml has")

    # Branches

    def present_branch(self) -> str:
        """The branch or pull request that is built here. Raises UsageError where neither CI nor git tells."""
        from pointsman import checkout

        def read(path: str) -> str:
            try:
                return Path(path).read_text(encoding="utf-8")
            except (OSError, ValueError):
                return ""

        head = git(self.project.root, "symbolic-ref", "--quiet", "HEAD").removeprefix("refs/heads/")
        return checkout.present(self.environ, head=head, read=read)

    def of_branch(self, branch: str) -> Environment:
        """Where a branch's builds go: to the alias named after it, in the place of the environment it is like.

        A branch that is called as an environment's alias *is* that environment, and moves under its policy: approval,
        rollout. One that is merely nearly called so is refused: nobody could tell the two aliases apart.
        """
        if not branch or (not pull_request(branch) and re.search(r"[\s~^:?*\[\\]|\.\.|@\{", branch)):
            raise UsageError(
                f"{branch!r} is not the name of a git branch", where="--branch", next="A pull request is pr:NUMBER."
            )
        alias = alias_name(branch)
        for each in self.project.environments.values():
            if each.alias == branch:
                return each
            if str(alias).lower() in (each.alias.lower(), each.name.lower()):
                raise UsageError(
                    f"{titled(branch)} would get the alias {alias}, and environment {each.name} has {each.alias}",
                    where="--branch",
                    next=f"`--to {each.name}` deploys there; or give the branch another name: `--branch NAME`.",
                )
        name = branch if pull_request(branch) else f"branch:{branch}"
        model = self.model
        return msgspec.structs.replace(model, name=name, alias=alias, branch=branch, **UNGUARDED)

    @property
    def model(self) -> Environment:
        """The environment that branches are like; of several regions the first, for a branch lives in one."""
        return places.each(self.environment(self.project.branches.like))[0]

    def branch_called(self, text: str) -> str:
        """The branch that the ledger knows by this name or alias, "" where it knows none."""
        if not self.shared and not self.ledger_path.exists():
            return ""
        known = self.ledger.remembered("branch", text) or self.ledger.remembered("branch", alias_name(text))
        return str(known["branch"]) if known and text in (known["branch"], alias_name(known["branch"])) else ""

    # The door to AWS

    def wire(self, environment: Environment) -> tuple[Wire, Transport, Allowance]:
        """One connection per credentials and region. A rehearsal has credentials of its own.

        The budget of calls is the account's, in that region, whoever's credentials reach it. Raises UsageError for an
        environment of several regions that was not narrowed to one.
        """
        from pointsman.aws.wire import Wire

        if environment.regions and not environment.region:
            raise UsageError(
                f"environment {environment.name} is in {', '.join(environment.regions)}",
                next="Say which is meant: --region REGION.",
            )
        region = environment.region
        identity = self.identity(environment)
        key = (region, id(identity))
        if key not in self._wires:
            wire = Wire(region=region, timeout=call_timeout(self.environ), identity=identity)
            count = Count(self.wrap(wire), time.perf_counter)
            count.calls = self.calls
            account = places.account(environment) or (places.REHEARSED if self.local else "")
            assert self._budgets is not None
            self._wires[key] = (wire, count, Allowance(self._budgets, account, region or ""))
        return self._wires[key]

    def identity(self, environment: Environment) -> Identity:
        """As whom: the same for all regions, so that a role is assumed, and a code asked for, once."""
        from pointsman.aws.identity import Identity, Role

        profile, role = environment.profile, None
        if self.local:
            profile, arn = None, _local_role(environment)
            role = Role(arn=arn) if arn else None
        elif environment.role_arn:
            role = Role(
                arn=environment.role_arn,
                external_id=environment.external_id,
                mfa_serial=environment.mfa_serial,
                duration=environment.role_duration,
                token_file=environment.web_identity_token_file,
            )
        key = (profile, repr(role))
        if key not in self._identities:
            self._identities[key] = Identity(
                profile=profile,
                role=role,
                actor=self.actor.by,
                code=self._mfa_code,
                timeout=call_timeout(self.environ),
            )
        return self._identities[key]

    def _mfa_code(self, device: str) -> str:
        """The one that was given; once that is used, and where there is a person, the one they read off it now."""
        with self.turns.take("MFA code"):  # two roles may be signed in to side by side
            return self._next_code(device)

    def _next_code(self, device: str) -> str:
        given = self.options.mfa or self.environ.get("POINTSMAN_MFA_CODE", "")
        if given and given not in self._codes:
            self._codes.append(given)
            return given
        if self.answer is None:
            what = "was used already, and AWS takes each once" if given else "is asked for, and nobody is there to ask"
            raise CredentialsRefused(
                f"the {device} {what}",
                where="signing in to AWS",
                next="Give the present one: `--mfa CODE`, or POINTSMAN_MFA_CODE; a longer `role_duration` helps.",
            )
        return self.answer(device)

    def door(self, environment: Environment, run: str = "", function: str = "") -> Door:
        """To an account and region as a whole. Without a run it only looks: every mutating call is refused.

        With one, nothing that mutates is sent before the credentials are known to be the declared account's.
        """
        wire, count, allowance = self.wire(environment)

        def where() -> dict[str, str]:
            account = wire.identity.account or places.account(environment)
            return {"region": wire.region, **({"account": account} if account else {})}

        chain: Transport = Journal(count, Recorder(self.ledger, run, function, where)) if run else ReadOnly(count)

        def check(inner: Transport) -> None:
            ask = Gateway(Retry(inner, self.clock, self.draw)).caller_account
            must_be_account(environment, wire.identity, "", ask)

        if environment.account and run:
            chain = Declared(chain, check)

        def gateway(inner: Transport, clock: Clock) -> Gateway:
            paced = Throttle(inner, clock, allowance, self.say)
            return Gateway(Retry(paced, clock, self.draw, patience_s=_PATIENCE_S, heard=paced.heard))

        undoing = gateway(chain, self.clock)
        halting = gateway(Halt(chain, self.halted), Waking(self.clock, self.halted)) if self.halted else undoing
        if environment.bucket and "{" in environment.bucket:
            bucket = self._filling(environment, undoing, wire)(environment.bucket)
            environment = msgspec.structs.replace(environment, bucket=bucket)
        return Door(environment=environment, gateway=halting, undoing=undoing, wire=wire)

    def _filling(self, environment: Environment, gateway: Gateway, wire: Wire) -> Callable[[str], str]:
        """Fills in {region} and {account}: AWS is asked for the account only where the file does not tell it."""

        def fill(text: str) -> str:
            account = places.account(environment) or (places.REHEARSED if self.local else "")
            if "{account}" in text and not account:
                account = wire.identity.account = wire.identity.account or gateway.caller_account()
            return places.filled(text, region=wire.region, account=account)

        return fill

    def session(self, function: Function, environment: Environment, run: str = "") -> Session:
        """Without a run the session only looks: every mutating call is refused before it is sent."""
        door = self.door(environment, run, function.name)
        fill = self._filling(environment, door.undoing, door.wire)
        return Session(
            world=self,
            function=places.function_at(function, environment, fill),
            environment=door.environment,
            gateway=door.gateway,
            undoing=door.undoing,
            wire=door.wire,
            run=run,
        )

    # Runs

    @contextmanager
    def running(
        self, command: str, function: Function, environment: Environment, request: dict[str, object]
    ) -> Iterator[Session]:
        """One run in the ledger: begun before the first call, ended with its outcome, whatever it is.

        An interrupted or failed run stays open for `resume`; a refused or lost one has nothing to go on with.
        """
        run = self.begin(self.run_id(), command, (function.name,), environment, request)
        session = self.session(function, environment, run.id)
        try:
            yield session
        except BaseException as error:
            self.end_badly(run.id, error)
            raise
        self.ledger.end(run.id, session.outcome)

    def begin(
        self,
        run_id: str,
        command: str,
        functions: tuple[str, ...],
        environment: Environment,
        request: dict[str, object],
        *,
        part_of: str = "",
    ) -> Run:
        """A run of one function, or of several together, in the ledger from now on.

        Raises GateRefused where the environment's window is shut: for a deploy or promotion, once, when it begins.
        """
        region = places.one_of_several(environment)
        request = {**({"region": region} if region else {}), **request}
        begins = command in ("deploy", "promote") and not part_of and "resumes" not in request
        overridden = self.outside_window(environment) if begins else ""
        run = Run(
            id=run_id,
            command=command,
            function=", ".join(functions),
            alias=environment.alias,
            environment=environment.name,
            request={**self.options.how, **request},
            by=self.actor.by,
            at=self.clock.now(),
            host=os.uname().nodename,
            pid=os.getpid(),
            born=born(os.getpid()),
            commit=self.actor.commit,
            ci=self.actor.ci,
            members=functions if len(functions) > 1 else (),
            part_of=part_of,
        )
        self.ledger.start(run)
        if overridden:
            facts = {"moment": "window", "verdict": "overridden", "problem": overridden, "by": run.by}
            self.ledger.append(run.id, "gate", function=run.function, subject=run.alias, **facts)
            self.say(f"moved outside the window, by {run.by}: {overridden}")
        if environment.branch and not self.ledger.remembered("branch", environment.alias):
            self.ledger.append(run.id, "branch", subject=environment.alias, branch=environment.branch)
        return run

    def as_asked(self, run: Run) -> None:
        """From now on as that run was told to move: what resumes it is typed without."""
        asked = {name: bool(run.request[name]) for name in ("all_at_once", "supersede") if name in run.request}
        self.options = msgspec.structs.replace(self.options, **asked)

    def outside_window(self, environment: Environment) -> str:
        """Why its window is shut, where `--outside-window` overrides that; "" where it is open or there is none.

        Raises GateRefused where it is shut and nobody overrides it.
        """
        window = environment.window
        refusal = judge_window(window, self.clock.now()) if window else None
        if refusal is None:
            return ""
        if self.options.outside_window:
            return refusal.why
        raise GateRefused(
            refusal.why,
            where=f"environment {environment.name}",
            next=f"Nothing was changed. {refusal.next} `--outside-window` moves now, under your name.",
        )

    def end_badly(self, run: str, error: BaseException, *, outcome: str = "") -> None:
        """The run's end by an error: what kind of end it was (unless told), and why."""
        match error:
            case _ if outcome:
                pass
            case GateRefused() | UsageError():
                outcome = "refused"
            case LostRace():
                outcome = "lost"
            case _:
                outcome = "failed"
        if isinstance(error, PointsmanError):
            what = error.what
        else:
            what = "interrupted" if isinstance(error, KeyboardInterrupt) else repr(error)
        try:
            self.ledger.end(run, outcome, what)
        except LedgerError as also:
            # The ledger is full or gone; the first error is the one to tell, and an unended run can be resumed.
            error.add_note(str(also))

    def run_id(self) -> str:
        """Sorts by time; the tail keeps two runs of one second apart."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self.clock.now()))
        return f"{stamp}-{int(self.draw() * 16**6):06x}"


@dataclass(frozen=True)
class Door:
    """A gateway to one account and region, with an environment's credentials. `undoing` is open after a Ctrl-C too."""

    environment: Environment
    gateway: Gateway
    undoing: Gateway
    wire: Wire


@dataclass
class Session:
    world: World
    function: Function
    environment: Environment
    gateway: Gateway
    undoing: Gateway  # the same, and open after a Ctrl-C: for what must not be left behind
    wire: Wire
    run: str
    part_of: str = ""  # the run of the release whose member this is
    release: str = ""  # what its moves belong to: that run, or the one that it resumed
    outcome: str = "done"
    arn: FunctionArn | None = None  # as seen when looking at the world
    alias: Alias | None = None
    went_back: str = ""  # the version whose rollout this run ended: the alias is back where it was
    proved_latest: bool = False  # the integration tests passed on $LATEST in this run
    role: str = ""  # of the version that is to be served, where that is published already
    roles: dict[str, Role] = field(default_factory=dict)  # by ARN, with their policies, as looked at in this run
    warnings: list[str] = field(default_factory=list)  # what the person asking should know, though it stops nothing
    carried: Any = None  # where the bits of a promotion come from (carrying.Source), if from another place
    saved: Plan | None = None  # the plan of a file that is being applied: what it decided is not decided again
    approved: Mapping[str, str] = field(default_factory=dict)  # by the run that is resumed: "ALIAS version" → by whom
    rollout: dict[str, Any] | None = None  # the one that ended in this run: id, outcome, where its reports lie

    @property
    def ledger(self) -> Ledger:
        return self.world.ledger

    @property
    def say(self) -> Callable[[str], None]:
        return self.world.say

    @property
    def title(self) -> str:
        """The function, and where its environment has several regions, this one."""
        return places.title(self.function.name, self.environment)

    @property
    def source(self) -> Path:
        return self.world.project.root / self.function.source

    def declared_name(self) -> FunctionName | None:
        """The function's name as the file alone tells it; None where its owner has to be asked."""
        match self.function.provision:
            case Direct(name=name) | Existing(name=name):
                return FunctionName(name or self.function.name)
            case CloudFormation() | Terraform():
                return None

    @property
    def provision_key(self) -> str:
        provision = self.function.provision
        where = f"{provision.stack}/{provision.function}" if isinstance(provision, CloudFormation) else ""
        return f"{places.title(self.place.name, self.place)}/{where}/{self.function.name}"

    @property
    def place(self) -> Environment:
        """The environment of the file whose account, region and owner this is; a branch's is the one it is like."""
        return self.world.model if self.environment.branch else self.environment

    def check_account(self, arn: FunctionArn | None) -> None:
        """Do the credentials belong to the declared account? An ARN tells without a call, and as early as can be.

        Where nobody asks, the door does before the first write.
        """
        told = arn.account if arn else ""
        must_be_account(self.environment, self.wire.identity, told, self.gateway.caller_account)

    def test_environment(self, arn: FunctionArn | None, qualifier: str | None) -> dict[str, str]:
        """What test commands get beside the caller's own environment."""
        given = {**self.world.environ, "POINTSMAN_ENVIRONMENT": self.place.name}
        if self.environment.branch:
            given["POINTSMAN_BRANCH"] = self.environment.branch
        if arn is None:
            known = self.ledger.remembered("provisioned", self.provision_key) or {}
            if name := self.declared_name() or known.get("name"):
                given["POINTSMAN_FUNCTION"] = name
        else:
            reach = self.wire.environment()
            if "AWS_ACCESS_KEY_ID" in reach:
                # Keys of a profile or role: what else names credentials would win over them in some SDKs.
                for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"):
                    given.pop(name, None)
            given |= reach
            given["POINTSMAN_FUNCTION"] = arn.name
            given["POINTSMAN_FUNCTION_ARN"] = f"{arn.unqualified}:{qualifier}" if qualifier else str(arn.unqualified)
        if qualifier:
            given["POINTSMAN_QUALIFIER"] = qualifier
        return given


def must_be_account(environment: Environment, identity: Identity, told: str, ask: Callable[[], str]) -> None:
    """Raises AccountMismatch where these are not the declared account's credentials. AWS is asked once for each.

    `told`: the account of an ARN that AWS answered with, "" where there is none yet.
    """
    if environment.account is None:
        return
    with identity.lock:
        account = identity.account = told or identity.account or ask()
    if account != environment.account:
        raise AccountMismatch(
            f"the credentials belong to account {account}, but {environment.name} is in account {environment.account}",
            where=f"environment {environment.name}",
            next="Nothing was changed. Use the right profile, role or credentials.",
        )


def unknown(what: str, name: str, there: object, whose: str) -> UnknownTarget:
    """An error that names what there is, the likely one first."""
    from difflib import get_close_matches

    names = sorted({str(each) for each in there})  # type: ignore[attr-defined]
    near = get_close_matches(name, names, n=3, cutoff=0.4)
    listed = ", ".join(near or names[:10]) or "none"
    return UnknownTarget(f"there is no {what} {name}", next=f"{whose}{' (nearest)' if near else ''}: {listed}.")


def _local_role(environment: Environment) -> str | None:
    """The local AWS keeps an account's state apart by whom one acts as: its own account needs no role."""
    account = environment.account
    return f"arn:aws:iam::{account}:role/pointsman" if account and account != places.REHEARSED else None


def no_environment() -> UsageError:
    return UsageError("pointsman.toml declares no environment", next='Add [environment.staging] alias = "STAGE".')


def call_timeout(environ: Mapping[str, str]) -> float:
    """How long an answer may take, in seconds. Raises UsageError for what is no number."""
    given = environ.get("POINTSMAN_CALL_TIMEOUT", "60")
    try:
        found = float(given)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise UsageError(
            f"{given!r} is not a number of seconds above 0",
            where="POINTSMAN_CALL_TIMEOUT",
            next="Leave it out for 60.",
        )
    return found


def calls_per_second(environ: Mapping[str, str]) -> float:
    """How many calls of Lambda's control plane we may make. Raises UsageError for what is no number."""
    given = environ.get("POINTSMAN_CALLS_PER_SECOND", "")
    try:
        found = float(given or LAMBDA)
    except ValueError:
        found = 0.0
    if not 1 <= found <= 100_000:
        raise UsageError(
            f"{given!r} is not a number of calls a second, from 1 on",
            where="POINTSMAN_CALLS_PER_SECOND",
            next=f"Leave it out for {LAMBDA:g}, which AWS allows; less leaves room for others.",
        )
    return found


def actor(environ: Mapping[str, str], root: Path) -> Actor:
    """Who is at work: the CI system's user, else the login name and machine."""
    by = next((environ[key] for key in _CI_USERS if environ.get(key)), "")
    if not by:
        from getpass import getuser

        by = f"{getuser()}@{os.uname().nodename}"
    ci = next((environ[key] for key in _CI_RUNS if environ.get(key)), "")
    if ci and ci == environ.get("GITHUB_RUN_ID") and all(environ.get(key) for key in _GITHUB):
        ci = "/".join((*(environ[key] for key in _GITHUB), "actions/runs", ci))
    return Actor(by=by, commit=git(root, "rev-parse", "HEAD"), ci=ci)


_CI_USERS = ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "CIRCLE_USERNAME", "BUILD_USER_ID", "BITBUCKET_STEP_TRIGGERER_UUID")
_CI_RUNS = ("GITHUB_RUN_ID", "CI_PIPELINE_URL", "CIRCLE_BUILD_URL", "BUILD_URL", "BITBUCKET_BUILD_NUMBER")
_GITHUB = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY")  # a run's number alone leads nowhere


def git(root: Path, *arguments: str) -> str:
    """What git answers, "" where there is no git or no repository."""
    import subprocess

    try:
        asked = ["git", "-C", str(root), *arguments]
        done = subprocess.run(asked, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
