"""What would fail, said before anything is changed: of the package and the runtime, then of what AWS tells."""

from __future__ import annotations

from collections.abc import Callable

from pointsman import building, layers, runtimes
from pointsman.artifact import checks
from pointsman.errors import BuildFailed
from pointsman.model import UNZIPPED, Artifact
from pointsman.plan import CreateFunction, Plan, Seen, UpdateCode, UpdateConfiguration, Wanted
from pointsman.world import Session


def check(session: Session, made: Artifact, tell: Callable[[str], None] = lambda _line: None) -> None:
    """What Lambda would refuse, before it is asked: all of it at once. A handler may lie in another's layer.

    `tell`: at once what nobody would hear of later, because AWS refuses it, a runtime that we do not know.
    """
    function, runtime = session.function, session.function.runtime
    found: list[checks.Problem] = []
    if runtime:
        judged = runtimes.judge(runtime, session.world.clock.now())
        where = f"function.{function.name}.runtime"
        # Our table of days may be behind AWS's, which moved those ahead of it more than once: only what was over when
        # it was read is sure. All else is a warning, and AWS itself refuses or not.
        # A rehearsal runs what this machine has, whatever AWS makes of it by now.
        over = judged.verdict == "blocked" and runtimes.table()[runtime].no_update <= runtimes.read()
        if (over or judged.verdict == "never") and not session.world.local:
            found.append(checks.Problem(where, judged.what, judged.next))
        elif judged.verdict not in ("ok", "soon"):
            session.warnings.append(f"{where}: {judged.what}. {judged.next}")
            if judged.verdict == "new":
                tell(f"warning: {session.warnings[-1]}")
    if not made.image:
        found += building.problems(function, made, bucket=session.environment.bucket)
    checks.refuse(found)


def check_there(session: Session, wanted: Wanted, seen: Seen, made: Plan) -> None:
    """What only a look at AWS tells: how others' layers fit, and code of a function that somebody else made."""
    function = session.function
    if not any(isinstance(step, CreateFunction | UpdateCode | UpdateConfiguration) for step in made.steps):
        return
    if any(isinstance(step, CreateFunction) for step in made.steps) and not wanted.artifact.image:
        checks.refuse(
            [
                checks.Problem(
                    f"function.{function.name}.{key}",
                    f"{function.name} is not on AWS yet, and cannot be created without a {key}",
                    f"Say its {key}.",
                )
                for key, value in (("runtime", function.runtime), ("handler", function.handler))
                if not value
            ]
        )
    if seen.function and wanted.settings is None and seen.stack == "same" and not wanted.artifact.image:
        checks.refuse(checks.native(wanted.artifact, seen.function.settings.get("Architectures", ["x86_64"])[0]))
    ours = {layers.arn_of(session, each, seen.function) for each in wanted.artifact.layers}
    named = (wanted.settings or {}).get("Layers", ())
    found = layers.others(
        session, [each for each in named if each[:4] == "arn:" and each.rpartition(":")[0] not in ours]
    )
    session.warnings += layers.unfit(session, found)
    least, shown = layers.heaviest(found)
    own = wanted.artifact.unzipped + sum(each.package.unzipped for each in wanted.artifact.layers)
    if least + own > UNZIPPED:
        raise BuildFailed(
            f"{own:,} bytes unzipped, and others' layers of {least:,} zipped, pass Lambda's {UNZIPPED:,}: {shown}",
            where=f"the package of {function.name}",
            next="`exclude` what the function does not need, leave a layer out, or deploy it as a container image.",
        )
