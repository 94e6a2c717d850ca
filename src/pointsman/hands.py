"""What carrying out a plan takes from outside: package, gates, approval, the owner's step, the ledger's pen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pointsman import (
    approving,
    branch_roles,
    carrying,
    furnishing,
    layers,
    owners,
    places,
    role_guard,
    rolling,
    rollout_record,
)
from pointsman.aws.gateway import Package
from pointsman.belongings import RemoveUrl
from pointsman.config import Direct, Function, Test
from pointsman.errors import FunctionFailed, GateRefused, PointsmanError
from pointsman.execute import Applied, Done, Execution, Hands
from pointsman.model import (
    LATEST,
    AliasName,
    Artifact,
    Bits,
    FunctionArn,
    FunctionName,
    Move,
    TestReport,
    Url,
    Value,
    Version,
    plain,
)
from pointsman.observe import arn_of, declared_before
from pointsman.plan import (
    ApplyStack,
    ApplyTerraform,
    AskApproval,
    CreateAlias,
    CreateFunction,
    Gate,
    Plan,
    ReturnRole,
    RunGate,
)
from pointsman.provision import uploads
from pointsman.roles import parts
from pointsman.world import Session


class Released(Value, frozen=True, kw_only=True):
    """What a deploy, promote or rollback came to. `outcome`: done, or unchanged where nothing was to be done."""

    command: str
    function: str
    name: str
    environment: str
    alias: str
    outcome: str
    build: str | None
    version: str | None
    was: str | None
    published: bool
    moved: bool
    why: str
    sha256: str | None = None
    run: str = ""
    region: str = ""  # of an environment that has several
    release: str = ""  # the run of all that were released together; the same as `run` for one function
    branch: str = ""
    preview: str = ""  # the branch's function URL, "" where it has none
    notes: tuple[str, ...] = ()
    tests: dict[str, TestReport]
    warnings: tuple[str, ...] = ()
    rollout: dict[str, Any] | None = None  # where traffic moved step by step: id, outcome, reports
    unsaved: str = ""  # why the version is not in the backup where it was to be: the release is done all the same


def carry_out(session: Session, made: Plan, *, tests: dict[str, TestReport] | None = None) -> Released:
    role_guard.check(session, made)
    work = Work(session, made, tests=tests)
    work.prepare()
    work.execution.approve()
    work.execution.move()
    return work.released()


class Work:
    """A plan in the hands of its session. One function's runs through; several wait for each other before they move."""

    def __init__(self, session: Session, made: Plan, *, tests: dict[str, TestReport] | None = None) -> None:
        self.session = session
        self.made = made
        self.reports = dict(tests or {})
        hands = Hands(
            gateway=session.gateway,
            undoing=session.undoing,
            clock=session.world.clock,
            record=_Record(session, made),
            package=lambda: _package(session, made.artifact),
            gate=lambda step, arn, version: _gate(session, step, arn, version, self.reports),
            approve=lambda step, version: _approve(session, step, version),
            apply_stack=lambda step: _apply(session, made, step),
            clone_role=lambda step: branch_roles.clone(session, step),
            must_be_assumable=lambda role: branch_roles.must_be_assumable(session, role),
            apply_terraform=lambda step: _apply_terraform(session, made, step),
            publish_layer=lambda step: layers.publish(session, step, _artifact(made)),
            shift=lambda step, arn, version, description, revision: rolling.shift(
                session,
                arn,
                rolling.Asked(
                    alias=step.alias,
                    was=step.was,
                    version=version,
                    name=arn.name,
                    description=description,
                    revision=revision,
                    build=made.build or "",
                ),
            ),
            say=session.say,
            wait_s=session.world.options.wait_s,
        )
        self.execution = Execution(made, hands)
        self.execution.arn = session.arn
        self.unsaved = ""

    def prepare(self) -> None:
        session, provision = self.session, self.session.function.provision
        creates = any(isinstance(step, CreateFunction) for step in self.made.steps)
        if session.world.staged and creates and isinstance(provision, Direct):
            from pointsman.provision import rehearsal

            rehearsal.role(session.gateway, provision.role, session.say)
        for note in self.made.notes:
            session.say(note)
        for step in self.made.steps:
            if isinstance(step, ReturnRole) and session.arn:
                session.ledger.lend(session.run, session.arn, step.lent, step.role)
        self.execution.prepare()
        execution, made = self.execution, self.made
        wanted = session.world.project.backup.after_publish and made.kind == "deploy"
        if wanted and execution.arn and execution.version:
            from pointsman import backups

            self.unsaved = backups.published(session, execution.arn, execution.version, made.artifact)

    def released(self) -> Released:
        session, made, done = self.session, self.made, self.execution.done
        _remember(session, made, done)
        url = _furnished(session, made, done)
        session.outcome = "done" if made.steps or session.went_back else "unchanged"
        return Released(
            command=made.kind,
            function=made.function,
            name=made.name or (done.alias.arn.name if done.alias else ""),
            environment=made.environment,
            alias=made.alias,
            outcome=session.outcome,
            build=made.build,
            version=done.version,
            was=session.went_back or done.was,
            published=done.published,
            moved=done.moved or bool(session.went_back),
            why=made.why_nothing,
            sha256=made.artifact.sha256 if made.artifact else None,
            run=session.run,
            region=places.one_of_several(session.environment),
            release=session.release or session.run,
            branch=made.branch,
            preview=url.url if url else "",
            notes=made.notes,
            tests=self.reports,
            warnings=tuple(session.warnings),
            rollout=session.rollout,
            unsaved=self.unsaved,
        )


def _apply(session: Session, made: Plan, step: ApplyStack) -> FunctionName:
    """The owner's step, once for all functions it owns: who finds it done by another only looks up its function."""
    with _owners_turn(session) as done_before:
        if done_before and made.artifact and made.build:
            found = owners.find(session, made.artifact, made.build)
            if found.stack == "same" and found.function:
                session.arn = found.function.arn.unqualified
                owners.remember(session, step.template, session.arn)
                return found.function.arn.name
            if found.stack == "differs":  # each brings its own code; the first of them made the stack
                step = msgspec.structs.replace(step, create=False)
        assert made.artifact is not None, "only a deploy asks the owner"
        return owners.apply(session, step, made.artifact)


def _apply_terraform(session: Session, made: Plan, step: ApplyTerraform) -> Applied:
    """The same of Terraform. What another function's apply made stale is planned again, and must bring nothing new."""
    assert made.artifact is not None, "only a deploy applies"
    with _owners_turn(session) as done_before:
        if done_before and made.build:
            saved, session.saved = session.saved, None  # its file is stale by now, so what is there decides
            found = owners.find(session, made.artifact, made.build)
            if found.stack == "same" and found.function:
                session.arn = found.function.arn.unqualified
                version = found.published or (owners.terraform_applied(session, step) if step.brings else None)
                return Applied(name=found.function.arn.name, version=version)
            now = found.terraform
            same = now and now.key == step.key and {*now.losses} <= {*step.losses}
            if now and same and {*now.changes} <= {*step.changes} and not saved:
                step = now
        return owners.apply_terraform(session, step, made.artifact)


@contextmanager
def _owners_turn(session: Session) -> Iterator[bool]:
    """Its turn with what it shares with other functions of the release; an owner that failed is not tried again."""
    owner, turns = owners.shared(session), session.world.turns
    with turns.take(owner) as done_before:
        if owner in turns.failed:
            raise FunctionFailed(
                f"{owner} failed with another function of this release: {turns.failed[owner]}",
                where=f"deploying {session.function.name}",
                next="It was not tried again.",
            )
        try:
            yield done_before
        except BaseException as error:
            turns.failed[owner] = error.what if isinstance(error, PointsmanError) else "interrupted"
            raise


def announce(session: Session, made: Plan) -> None:
    """Write down what is about to be carried out, before any of it is."""
    name = session.function.name
    session.ledger.append(session.run, "planned", function=name, subject=made.alias, plan=_without_values(made))
    if any(isinstance(step, CreateAlias) for step in made.steps[:-1]):  # and more for it after that
        furnishing.begin(session, made.alias, session.arn)
    if made.artifact:
        # What an earlier deploy declared too, until this one is through: if it fails, those are still ours to remove.
        _declare(session, {*declared_before(session), *_declared_now(session)})


def _furnished(session: Session, made: Plan, done: Done) -> Url | None:
    """Write down that the alias has all it is to have. Returns the URL of a branch's preview."""
    arn = session.arn or (done.alias.arn.unqualified if done.alias else None)
    if arn is None:
        return None
    furnishing.finish(session, made.alias, arn)
    if not made.branch:
        return None
    removed = any(isinstance(step, RemoveUrl) for step in made.steps)
    known = furnishing.preview(session, session.alias) if session.alias and not removed else None
    url = done.url or known
    furnishing.found_at(session, made.alias, arn, url)
    return url


def _declared_now(session: Session) -> set[str]:
    provision = session.function.provision
    return set(provision.environment or ()) if isinstance(provision, Direct) else set()


def _declare(session: Session, variables: set[str]) -> None:
    if variables != declared_before(session):
        name, key = session.function.name, session.provision_key
        session.ledger.append(session.run, "declared", function=name, subject=key, variables=sorted(variables))


def _without_values(made: Plan) -> Any:
    """The plan as the ledger keeps it: of environment variables the names, never the values."""

    def scrub(value: Any) -> Any:
        match value:
            case {"Variables": dict(variables), **rest}:
                return {**rest, "Variables": dict.fromkeys(variables, "…")}
            case dict():
                return {key: scrub(each) for key, each in value.items()}
            case list() | tuple():
                return [scrub(each) for each in value]
            case _:
                return value

    return scrub(plain(made))


def _remember(session: Session, made: Plan, done: Done) -> None:
    """What the steps themselves did not tell the ledger: the build's version, a move that had landed already."""
    ledger, arn = session.ledger, session.arn or (done.alias.arn.unqualified if done.alias else None)
    if arn is None or done.version is None:
        return
    if made.build and made.artifact:
        ledger.built(
            session.run,
            arn,
            made.build,
            made.artifact.sha256,
            version=done.version,
            size=made.artifact.size,
            commit=session.world.actor.commit,
        )
    if session.alias and not done.moved and session.alias.version == done.version:
        moves = ledger.moves(arn, made.alias)
        if not moves or moves[-1].version != done.version:
            was = moves[-1].version if moves else None
            _Record(session, made).moved(arn, made.alias, done.version, was)
    if made.artifact:
        _declare(session, _declared_now(session))


class _Record:
    """Tells the ledger what became true."""

    def __init__(self, session: Session, made: Plan) -> None:
        self.session = session
        self.made = made

    def published(self, function: FunctionArn, version: Version, bits: Bits, *, role: str, anew: bool) -> None:
        assert self.made.build is not None
        session = self.session
        commit = session.world.actor.commit
        size = self.made.artifact.size if self.made.artifact else 0
        session.ledger.published(
            session.run, function, version, bits, self.made.build, commit=commit, role=role, size=size
        )
        if role in session.roles and (anew or session.ledger.role_of(function, version).parts is None):
            session.ledger.role(session.run, function, version, role, parts(session.roles[role]))
        if session.proved_latest:  # what was tested as $LATEST is this version now
            facts = {"arn": str(function), "version": version, "verdict": "pass", "problem": "", "report": None}
            session.ledger.append(
                session.run, "gate", function=session.function.name, subject="integration", log="", **facts
            )

    def moved(self, function: FunctionArn, alias: AliasName, version: Version, was: Version | None) -> None:
        session, world = self.session, self.session.world
        if session.rollout and rollout_record.told(
            session.ledger, function, alias, version, str(session.rollout["id"])
        ):
            return  # by a watcher that was killed, or overtaken, right after
        move = Move(
            alias=alias,
            version=version,
            was=was,
            kind=self.made.kind,
            at=world.clock.now(),
            by=world.actor.by,
            build=self.made.build,
            release=session.release or session.run,
        )
        session.ledger.moved(session.run, function, move)

    def removed(self, function: FunctionArn, alias: AliasName, version: Version) -> None:
        session, actor = self.session, self.session.world.actor
        at, release = session.world.clock.now(), session.release or session.run
        gone = Move(alias=alias, version=version, was=version, kind="removed", at=at, by=actor.by, release=release)
        session.ledger.moved(session.run, function, gone)


def _artifact(made: Plan) -> Artifact:
    assert made.artifact is not None, "only a deploy publishes"
    return made.artifact


def _package(session: Session, made: Artifact | None) -> Package:
    assert made is not None, "only a deploy uploads"
    if made.image:
        return Package(image=made.image)
    if session.carried is not None:
        return carrying.package(session, made, session.carried)
    path = Path(made.path)
    bucket = session.environment.bucket
    if not bucket:  # then it fits into a request: packaging.check asks for a bucket otherwise
        return Package(zip=path.read_bytes())
    return layers.by_bucket(session, bucket, uploads.key_of(made), path)


def unit_gate(function: Function) -> tuple[Gate, ...]:
    return (Gate(name="unit", against="source"),) if function.test.unit else ()


def release_gates(function: Function) -> tuple[Gate, ...]:
    test = function.test.integration
    return (Gate(name="integration", against=test.against),) if test else ()


def unit_tests(session: Session) -> dict[str, TestReport]:
    reports: dict[str, TestReport] = {}
    for gate in unit_gate(session.function):
        step = RunGate(gate=gate.name, against=gate.against, reason="before anything else")
        _gate(session, step, None, None, reports)
    return reports


def _gate(
    session: Session, step: RunGate, arn: FunctionArn | None, version: Version | None, reports: dict[str, TestReport]
) -> None:
    """Run the test, keep its reports, and raise GateRefused where it proves nothing or proves the build bad."""
    from pointsman import testrun

    test: Test | None = getattr(session.function.test, step.gate)
    assert test is not None
    if arn is None and step.against != "source":
        arn = arn_of(session, owners.name(session))
    qualifier = version if step.against != "source" else None
    against = {"source": "", "latest": " against $LATEST", "version": f" against version {version}"}[step.against]
    # Functions of one folder may write the same report: those take turns.
    with session.world.turns.take(*(str(session.source.resolve() / path) for path in test.junit)):
        session.say(f"{step.gate} tests{against}: {test.run}")
        run = testrun.run(
            test.run,
            cwd=session.source,
            environment=session.test_environment(arn if qualifier else None, qualifier),
            junit=test.junit,
            reports=session.world.reports / session.run,
            name=step.gate,
            timeout_s=test.timeout,
            echo=session.world.echo,
            halted=session.world.halted,
        )
    session.ledger.append(
        session.run,
        "gate",
        function=session.function.name,
        subject=step.gate,
        verdict="fail" if run.problem else "pass",
        problem=run.problem,
        arn=str(arn.unqualified) if arn else None,
        version=version if version != LATEST else None,
        report=run.report,
        log=run.log,
    )
    if run.report:
        reports[step.gate] = run.report
    if run.problem:
        raise GateRefused(
            run.problem,
            where=f"{step.gate} tests of {session.function.name}{against}",
            next=f"No alias of {session.function.name} was moved. Their output: {run.log}",
            reports=run.report.files if run.report else (),
        )
    reports.setdefault(step.gate, TestReport(tests=0, failures=0, errors=0, skipped=0))
    session.proved_latest = step.against == "latest"
    session.say(f"{step.gate} tests passed: {run.report}" if run.report else f"{step.gate} tests passed")


def _approve(session: Session, step: AskApproval, version: Version) -> None:
    # What is resumed was approved for this very version, and nobody has to be asked twice.
    by = session.approved.get(f"{step.alias} {version}", "")
    by = by or approving.approver(session, f"move {step.alias} of {session.function.name} to version {version}")
    session.ledger.append(
        session.run, "approved", function=session.function.name, subject=step.alias, by=by, version=version
    )
    session.say(f"approved by {by}")
