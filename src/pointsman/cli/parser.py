"""The command line's grammar: every command, its options, its example. Starts fast: imports argparse and errors."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pointsman.errors import UsageError

NAMING = (  # the services that may name a version
    *("event-sources", "cloudformation", "apigateway", "apigatewayv2", "stepfunctions", "events", "scheduler"),
    *("pipes", "s3", "sns", "cognito", "cloudfront"),
)
KINDS = ("lambroll", "claudia", "serverless", "cdk", "sam", "cloudformation", "terraform", "plain")
EXIT_CODES = """\
exit codes:
  0  done                      3  a gate refused: tests, approval
  1  failed, and said why      4  lost a race: somebody else changed it first
  2  wrong usage or file       5  nothing to do, with --fail-if-unchanged
                             130  interrupted: `pointsman resume` goes on
"""

GROUPS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "release",
        (
            ("init", "look at this folder and write pointsman.toml"),
            ("build", "make the package only: path, size, digest"),
            ("deploy", "test, build, publish a version, prove it, move an alias to it"),
            ("promote", "move an alias to a build, a version, or what another alias serves"),
            ("rollback", "put an alias back to its previous deployment"),
            ("plan", "show exactly what a deploy, promote or rollback would call"),
            ("apply", "run exactly a saved plan, or refuse if the world moved"),
            ("resume", "go on with a run that was killed or failed"),
            ("rollout", "traffic that moves step by step: watch, pause, skip, abort, report, simulate"),
            ("branch", "aliases of branches: list them, clear up after those that are gone"),
        ),
    ),
    (
        "look",
        (
            ("status", "what is live where, since when, from which build"),
            ("versions", "every published version, its builds and aliases"),
            ("history", "who did what, when and why; what was live at a moment"),
            ("diff", "how two builds, versions or aliases differ"),
            ("storage", "how full the account's code storage is, of what, and until when"),
        ),
    ),
    (
        "keep",
        (
            ("backup", "keep packages, versions and all that hangs on them in a folder or in S3"),
            ("restore", "bring back a version, or a function that was deleted, from a backup"),
            ("prune", "delete the versions that nobody needs: shown first, each with its reason"),
        ),
    ),
    (
        "set up",
        (
            ("doctor", "what stands in the way: tools, credentials, permissions, limits, roles"),
            ("local", "the embedded local AWS: up, down, status, logs, env, chaos, snapshot, reset"),
            ("ledger", "the ledger itself: create a team's table, look at it, copy one"),
            ("ci", "write a pipeline for GitHub, GitLab, CircleCI, Jenkins or Bitbucket"),
            ("config", "explain every key, print the JSON Schema, check the file"),
            ("completion", "a completion script for bash, zsh or tcsh"),
        ),
    ),
)


class Help(argparse.RawDescriptionHelpFormatter):
    """`-f, --file FILE`, whatever the Python version: the reference in docs/ is compared with it."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class Parser(argparse.ArgumentParser):
    """Raises UsageError for wrong usage, and names the likely command."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, next=f"Try `{self.prog} --help`.")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            top = self.prog == "pointsman"
            # Of the commands only the one that was typed may have been built.
            known = (
                [name for _, group in GROUPS for name, _ in group] if top else [str(each) for each in action.choices]
            )
            if near := _nearest(str(value), known):
                self.error(f"there is no {'command ' if top else ''}{value}; did you mean {near}?")
        super()._check_value(action, value)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What nobody knows is an error of the command it was given to, not of the whole."""
        found, left = self.parse_known_args(args, namespace)
        if left:
            parser = self._of(found)
            options = [each for action in parser._actions for each in action.option_strings]
            near = _nearest(left[0].partition("=")[0], options) if left[0].startswith("-") else ""
            guess = f"; did you mean {near}?" if near else ""
            raise UsageError(f"{parser.prog} takes no {left[0]}{guess}", next=f"Try `{parser.prog} --help`.")
        return found

    def _of(self, found: argparse.Namespace) -> Parser:
        """The innermost command's."""
        parser: Parser = self
        while inner := next((each for each in parser._actions if isinstance(each, argparse._SubParsersAction)), None):
            chosen = inner.choices.get(getattr(found, inner.dest, None) or "")
            if chosen is None:
                break
            parser = chosen
        return parser


def _nearest(wrong: str, names: Sequence[str]) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(wrong, names, n=1)), "")


def build(only: str | None = None, *, listed: bool = False) -> Parser:
    """The whole grammar, or (to start fast: each command costs 0.3 ms) that of one command.

    Help has its own list of commands, in groups; completion needs argparse's, `listed`.
    """
    shared = Parser(add_help=False)
    _shared(shared, argparse.SUPPRESS)
    top = Parser(
        prog="pointsman",
        description="Continuous deployment of versioned AWS Lambda functions.",
        usage="pointsman [--local] [--json] COMMAND …",
        formatter_class=Help,
        epilog=_commands() + "\n" + EXIT_CODES + "\nexample:\n  pointsman --local deploy --to STAGE",
    )
    _shared(top, None)
    top.add_argument("--version", action="store_true", help="print the version and exit")
    said = "what to do" if listed else argparse.SUPPRESS
    commands = top.add_subparsers(dest="command", metavar="COMMAND", help=said, prog="pointsman")
    for _title, group in GROUPS:
        for name, text in group:
            if only in (None, name):
                example, more, fill = _COMMANDS[name]
                command = commands.add_parser(
                    name,
                    parents=[shared],
                    help=text,
                    description=f"{text[0].upper()}{text[1:]}.{f' {more}' if more else ''}",
                    epilog=f"example:\n  {example}",
                    formatter_class=Help,
                )
                fill(command, shared)
    return top


def the_command(arguments: Sequence[str]) -> str | None:
    """The command among the words, when it is one there is."""
    names = {name for _title, group in GROUPS for name, _text in group}
    first = next((word for word in arguments if not word.startswith("-")), None)
    return first if first in names else None


def parse(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """`pointsman plan --to STAGE` means `plan deploy`, `pointsman backup --all` means `backup save`."""
    words = list(arguments)
    if "plan" in words:
        at = words.index("plan")
        kinds = ("deploy", "promote", "rollback", "-h", "--help")
        if not any(word in kinds for word in words[at + 1 :]):
            words.insert(at + 1, "deploy")
    if "backup" in words and the_command(words) in ("backup", None):
        at = words.index("backup")
        if not any(word in ("save", "verify", "list", "-h", "--help") for word in words[at + 1 : at + 2]):
            words.insert(at + 1, "save")
    parsed: argparse.Namespace = parser.parse_args(words)
    return parsed


def _commands() -> str:
    lines = []
    for title, group in GROUPS:
        lines.append(f"{title}:")
        lines += [f"  {name:<11}{text}" for name, text in group]
    return "\n".join(lines) + "\n"


def _shared(parser: argparse.ArgumentParser, default: object) -> None:
    """Options that may stand before or after the command."""
    flag = default if default is argparse.SUPPRESS else False
    parser.add_argument("--local", action="store_true", default=flag, help="on the local AWS, started if need be")
    parser.add_argument("--json", action="store_true", default=flag, help="one JSON document on standard output")
    parser.add_argument("-v", "--verbose", action="store_true", default=flag, help="progress, also when piped")
    parser.add_argument("-f", "--file", metavar="FILE", default=default, help="the pointsman.toml to use")
    parser.add_argument(
        "--mfa", metavar="CODE", default=default, help="of the device that an environment's role asks for"
    )


def _function(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--function",
        metavar="NAME",
        action="append",
        help="one of the file's functions; may be given several times (default: all)",
    )
    return parser


def _status_of(parser: Parser, _shared: Parser) -> None:
    _function(_region(parser))
    parser.add_argument("--all", action="store_true", help="every function there is, of all environments' accounts")
    parser.add_argument(
        "--only", metavar="GLOB", action="append", help="with --all: functions of these names; * and ? are any letters"
    )


def _build(parser: Parser, _shared: Parser) -> None:
    _function(parser)
    parser.add_argument("--layer", metavar="NAME", action="append", help="one of the file's layers instead")
    parser.add_argument(
        "--list", action="store_true", help="what is in the package, the twenty largest files first, and what is not"
    )
    parser.add_argument(
        "--explain", action="store_true", help="why it is not the last one: which files, dependencies, settings"
    )


def _to(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--to", metavar="ENV", help="the environment, by name or alias (default: the first of the file)"
    )
    return _region(parser)


def _region(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--region", metavar="REGION", help="this one alone (default: all that the environment has)")
    return parser


def _shifting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all-at-once", action="store_true", help="move all traffic at once, whatever `rollout` says")
    parser.add_argument("--supersede", action="store_true", help="end a rollout that is under way there first")


def _gates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--approve", action="store_true", help="approve what asks for approval, as yourself")
    parser.add_argument(
        "--allow", "--allow-replace", dest="allow_replace", action="store_true",
        help="do what a plan is refused for: an owner that replaces the function or changes a role that is live",
    )  # fmt: skip
    _wait(parser)


def _wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", type=_positive, default=300, metavar="SECONDS", help="how long to wait for AWS (300)")


def _outside(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--outside-window", action="store_true", help="move although the window is shut; under your name"
    )


def _deploying(parser: argparse.ArgumentParser) -> None:
    _function(_to(parser))
    parser.add_argument(
        "--branch",
        metavar="NAME",
        nargs="?",
        const="HEAD",
        help="to an alias named after this git branch, or pr:NUMBER (default: the present one)",
    )
    parser.add_argument("--build-id", metavar="ID", help="what to call this build (default: the commit, else a time)")
    _shifting(parser)
    _outside(parser)
    _gates(parser)


def _promoting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="BUILD|VERSION|ALIAS")
    parser.add_argument("--to", metavar="ENV", required=True, help="the environment, by name or alias")
    _function(_region(parser))
    _shifting(parser)
    _outside(parser)
    _gates(parser)


def _rolling_back(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("alias", metavar="ALIAS", help="the alias or environment to put back")
    parser.add_argument("--to", dest="target", metavar="BUILD|VERSION", help="this one, not the previous deployment")
    _function(_region(parser))
    _gates(parser)


def _unchanged(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fail-if-unchanged", action="store_true", help="exit 5 when there was nothing to do")


def _local(parser: Parser, shared: Parser) -> None:
    kinds: Any = parser.add_subparsers(dest="local_command", metavar="up|down|status|logs|…", required=True)
    up = kinds.add_parser("up", parents=[shared], help="start it (or find it started)", formatter_class=Help)
    up.add_argument("--port", type=_port, help="the port (default: a free one)")
    kinds.add_parser("down", parents=[shared], help="stop it; its state stays", formatter_class=Help)
    kinds.add_parser("status", parents=[shared], help="is it up, and where", formatter_class=Help)
    _chaos(kinds, shared)
    snapshot: Any = kinds.add_parser(
        "snapshot",
        parents=[shared],
        help="keep all it knows under a name, and come back to it",
        epilog="example:\n  pointsman local snapshot save before-the-migration",
        formatter_class=Help,
    ).add_subparsers(dest="snapshot_command", metavar="save|load|list|remove", required=True)
    for name, text in (
        ("save", "keep all it knows, and the rehearsal's ledger, while it goes on"),
        ("load", "forget what it knows, and know what it knew then"),
        ("list", "which there are, their dates and sizes"),
        ("remove", "forget one"),
    ):
        command = snapshot.add_parser(name, parents=[shared], help=text, formatter_class=Help)
        if name != "list":
            command.add_argument("name", metavar="NAME")
    ours = Parser(add_help=False, conflict_handler="resolve")  # -f follows here; --file is still --file
    _shared(ours, argparse.SUPPRESS)
    ours.add_argument("-f", "--follow", action="store_true", help="go on, over restarts too, until Ctrl-C")
    logs = kinds.add_parser(
        "logs",
        parents=[ours],
        help="what functions printed",
        epilog="examples:\n  pointsman local logs greeting --since 10m\n"
        "  pointsman local logs -f --json        one JSON document for each line",
        formatter_class=Help,
    )
    logs.add_argument("function", nargs="?", help="only this function's (default: all, each line with its name)")
    logs.add_argument("--since", type=duration, metavar="TIME", help="only of so long ago, e.g. 90s, 10m, 2h")
    logs.add_argument("--server", action="store_true", help="the local AWS's own log")
    kinds.add_parser("env", parents=[shared], help="export lines for a shell", formatter_class=Help)
    kinds.add_parser(
        "reset", parents=[shared], help="stop it and forget everything it held; snapshots stay", formatter_class=Help
    )


def _chaos(kinds: Any, shared: Parser) -> None:
    chaos = kinds.add_parser(
        "chaos",
        parents=[shared],
        help="trouble on demand: latency, throttles, errors, lost answers, stuck and failing updates",
        description="Trouble on demand. Without options: what is in force. Troubles add up; one takes the place of\n"
        "another of its kind with the same --only. All stay in force, over restarts too, until --off.",
        epilog="examples:\n"
        "  pointsman local chaos --throttle                                    as on AWS: 15 calls a second\n"
        "  pointsman local chaos --drop-after --only lambda:UpdateAlias --times 1\n"
        "  pointsman local chaos --latency 100ms..2s --probability 0.3 --seed 7\n"
        "  pointsman local chaos --error 503 --only s3 --only cloudformation:Describe*\n"
        "  pointsman local chaos --stuck --only lambda:UpdateFunctionCode      ends with --release\n"
        "  pointsman local chaos --clock 60                                    an hour of waiting in a minute\n"
        "  pointsman local chaos --off",
        formatter_class=Help,
    )
    option = chaos.add_argument
    option("--latency", type=_latency, metavar="TIME[..TIME]", help="wait before every answer, e.g. 200ms or 1s..3s")
    option(
        "--throttle", type=_above_zero, nargs="?", const=15.0, metavar="RATE",
        help="at most so many calls a second (15) for an account and region: Lambda's control plane, or --only",
    )  # fmt: skip
    option(
        "--error", type=_status, nargs="?", const=500, metavar="STATUS", help="answer an error (500); nothing happened"
    )
    option(
        "--error-after", type=_status, nargs="?", const=500, metavar="STATUS",
        help="the call takes effect, and the answer is an error (500)",
    )  # fmt: skip
    option("--drop", action="store_true", help="close the connection; nothing happened")
    option("--drop-after", action="store_true", help="the call takes effect, and then the connection is closed")
    option(
        "--stuck", type=duration, nargs="?", const=0.0, metavar="TIME",
        help="functions' updates stay under way so long, or until --release",
    )  # fmt: skip
    option("--fail", nargs="?", const="", metavar="REASON", help="functions' updates end Failed")
    option("--only", action="append", metavar="SERVICE[:OPERATION]", help="only these calls; * and ? are any letters")
    option("--probability", type=_share, metavar="P", help="strike with this probability, above 0 and at most 1")
    option("--times", type=_positive, metavar="N", help="strike at most N times")
    option("--seed", type=int, metavar="N", help="the same seed, the same bad luck")
    option("--clock", type=_above_zero, metavar="X", help="waits pass X times as fast as on AWS (1: as on AWS)")
    option(
        "--metrics-late", type=duration, metavar="TIME",
        help="CloudWatch shows what happened only so much later, e.g. 90s (0: at once)",
    )  # fmt: skip
    option(
        "--code-quota", type=_size, metavar="SIZE",
        help="how much code the account may store in this region, e.g. 100MB (75GB: as on AWS)",
    )  # fmt: skip
    option("--release", action="store_true", help="end the updates that are stuck")
    option("--off", action="store_true", help="no trouble any more; what is stuck ends")


def duration(text: str) -> float:
    """Seconds: "200ms", "1.5s", "10m", "2h", "1d", or a bare number of them."""

    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time: 200ms, 1.5s, 10m, 2h, 1d")
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[found[2] or "s"]


def shown_duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 or not seconds else f"{seconds * 1000:g} ms"


def _size(text: str) -> int:

    found = re.fullmatch(r"(\d+)\s*(kB|KB|MB|GB|B)?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: 500kB, 100MB, 75GB")
    return int(found[1]) * {"kb": 1024, "mb": 1024**2, "gb": 1024**3, "b": 1}[(found[2] or "B").lower()]


def _latency(text: str) -> tuple[float, float]:
    least, _, most = text.partition("..")
    found = duration(least), duration(most or least)
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: {least} is more than {most}")
    return found


def _status(text: str) -> int:
    if not text.isdecimal() or not 500 <= int(text) <= 599:
        raise argparse.ArgumentTypeError(f"{text!r} is not the status of a server's error: 500 to 599")
    return int(text)


def _above_zero(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _share(text: str) -> float:
    if (number := _above_zero(text)) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is more than 1")
    return number


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535")
    return int(text)


def _init(parser: Parser, _shared: Parser) -> None:
    parser.add_argument("--from", dest="kind", metavar="KIND", choices=KINDS, help=f"take it from {', '.join(KINDS)}")
    parser.add_argument("--function-name", metavar="NAME", help="a function that is on AWS, whoever made it")
    parser.add_argument("--offline", action="store_true", help="do not look at AWS, whatever credentials there are")
    parser.add_argument("--region", help="where to look, and what the file's environments say")
    parser.add_argument("--profile", help="the same, for credentials")
    parser.add_argument("--name", help="the function's name in the file")
    parser.add_argument("--role", help="the execution role's ARN: the function is then created by Pointsman itself")
    parser.add_argument("--force", action="store_true", help="overwrite a pointsman.toml that is there")


def _deploy(parser: Parser, _shared: Parser) -> None:
    _deploying(parser)
    _unchanged(parser)


def _promote(parser: Parser, _shared: Parser) -> None:
    _promoting(parser)
    _unchanged(parser)


def _plan(parser: Parser, shared: Parser) -> None:
    kinds: Any = parser.add_subparsers(dest="planned", metavar="deploy|promote|rollback")
    said = dict(GROUPS[0][1])
    for name, fill in (("deploy", _deploying), ("promote", _promoting), ("rollback", _rolling_back)):
        kind = kinds.add_parser(
            name, parents=[shared], help=said[name], description=f"Plan: {said[name]}.", formatter_class=Help
        )
        fill(kind)
        kind.add_argument("--out", metavar="FILE", help="keep the plan, for `pointsman apply FILE`")


def _apply(parser: Parser, _shared: Parser) -> None:
    parser.add_argument("plan_file", metavar="FILE")
    _outside(parser)
    _gates(parser)


def _resume(parser: Parser, _shared: Parser) -> None:
    parser.add_argument("run_id", metavar="RUN", nargs="?", help="the run, when several are open (see `history`)")
    parser.add_argument("--yes", action="store_true", help="of a prune: delete what is shown, though it is long ago")
    _gates(parser)


def _history(parser: Parser, _shared: Parser) -> None:
    option = parser.add_argument
    option("--function", metavar="NAME", action="append", help="only of this function, by its name here or on AWS")
    option("--alias", "--env", metavar="ALIAS", action="append", help="only of this alias or environment")
    option("--region", metavar="REGION", help="only what was done there")
    option("--build", metavar="ID", help="only of this build")
    option("--commit", metavar="SHA", help="only of builds of this commit; its beginning will do")
    option("--by", metavar="NAME", help="only what this person or job did; a part of the name will do")
    option("--kind", metavar="KIND", action="append", choices=_TOPICS, help=f"only of this kind: {', '.join(_TOPICS)}")
    option("--since", metavar="TIME", help="only from then on: 7d, 12h, 14:30, 2026-03-01, 2026-03-01T14:30+01:00")
    option("--until", metavar="TIME", help="only before then; a date counts to its end")
    option("-n", "--limit", type=_positive, metavar="N", help="how many lines (30; with --csv all)")
    option("--at", metavar="TIME", help="what each alias served then; a time of day is the last that has passed")
    option("--csv", action="store_true", help="comma-separated values, for a spreadsheet")
    option(
        "--rebuild",
        action="store_true",
        help="set the ledger aside and write a new one from what Lambda and CloudTrail know",
    )
    option("--force", action="store_true", help="with --rebuild: also a ledger that is sound")


_TOPICS = ("build", "publish", "move", "verdict", "approval", "rollout", "backup", "restore", "prune", "run", "ledger")


def _diff(parser: Parser, _shared: Parser) -> None:
    parser.add_argument("a", metavar="A", help="a build, version or alias, or $LATEST")
    parser.add_argument("b", metavar="B")
    _function(_to(parser))


def _storage(parser: Parser, _shared: Parser) -> None:
    parser.add_argument("--to", metavar="ENV", help="only where this environment is (default: all)")
    parser.add_argument("--html", metavar="FILE", help="one page with plots, - for standard output")
    parser.add_argument("--quick", action="store_true", help="do not ask what prune would free: that takes more calls")


def _config(parser: Parser, shared: Parser) -> None:
    kinds: Any = parser.add_subparsers(dest="config_command", metavar="explain|schema|check", required=True)
    explain = kinds.add_parser("explain", parents=[shared], help="describe every key, or one", formatter_class=Help)
    explain.add_argument("key", nargs="?", help="a key path, e.g. function.*.build")
    kinds.add_parser("schema", parents=[shared], help="print the JSON Schema, for editors", formatter_class=Help)
    kinds.add_parser("check", parents=[shared], help="read the file and name all its problems", formatter_class=Help)


def _branch(parser: Parser, shared: Parser) -> None:
    kinds: Any = parser.add_subparsers(dest="branch_command", metavar="list|sync|delete", required=True)
    listed = kinds.add_parser(
        "list",
        parents=[shared],
        help="which branches have an alias, and which of them are gone",
        epilog="example:\n  pointsman branch list",
        formatter_class=Help,
    )
    sync = kinds.add_parser(
        "sync",
        parents=[shared],
        help="delete aliases, previews and versions of branches that are gone from the remote",
        description="Delete the aliases of branches that are gone from the remote, with their previews and whatever\n"
        "hangs on them, and the versions that nobody else uses: shown first, done with --yes. Never an alias of an\n"
        "environment, nor what `[branches] protect` names. Nothing is deleted where the remote does not answer.",
        epilog="examples:\n  pointsman branch sync\n  pointsman branch sync --yes\n"
        "  pointsman branch sync --pull-requests \"$(gh pr list --json number --jq '[.[].number | tostring] "
        '| join(",") | if . == "" then "none" else . end\')"',
        formatter_class=Help,
    )
    delete = kinds.add_parser(
        "delete",
        parents=[shared],
        help="delete one branch's alias, its preview, and the versions that nobody else uses",
        epilog="example:\n  pointsman branch delete feature/x --yes",
        formatter_class=Help,
    )
    delete.add_argument("name", metavar="NAME", help="the branch, its alias, or pr:NUMBER")
    for kind in (listed, sync):
        kind.add_argument("--remote", metavar="NAME", default="origin", help="the git remote, or its URL (origin)")
    sync.add_argument(
        "--pull-requests",
        metavar="LIST",
        help="the open ones (12,15 or none), where the remote keeps the closed ones' refs, as GitHub does",
    )
    for kind in (sync, delete):
        kind.add_argument("--yes", action="store_true", help="delete what is shown")
    for kind in (listed, sync, delete):
        _function(kind)


def _prune(parser: Parser, _shared: Parser) -> None:
    option = parser.add_argument
    option("--env", metavar="ENV", action="append", help="only where this environment is (default: all of the file)")
    option(
        "--function", metavar="NAME", action="append",
        help="only this one, by its name in the file or at Lambda; may be given several times",
    )  # fmt: skip
    option("--only", metavar="GLOB", action="append", help="only functions and layers called so at Lambda")
    option("--except", dest="but", metavar="GLOB", action="append", help="leave those called so alone")
    option("--keep-versions", type=_positive, metavar="N", help="of each function, the newest N")
    option("--keep-days", type=_days, metavar="N", help="whatever is younger")
    option("--keep-deployments", type=_positive, metavar="N", help="of each alias, the newest N deployments")
    option(
        "--pin",
        metavar="WHICH",
        action="append",
        help="keep this one: version:N, build:ID, N or ID; FUNCTION: before it for one",
    )
    option("--skip", metavar="SERVICE", action="append", choices=NAMING, help="do not look who names versions there")
    option("--thorough", action="store_true", help="ask more: a call for each version and function")
    option("--without-backup", action="store_true", help="delete without a backup, although the file says where to")
    option("--list", action="store_true", help="every version, with the decision and its reason")
    option("--out", metavar="FILE", help="keep the plan, for `pointsman apply FILE`")
    option("--yes", action="store_true", help="delete what is shown")


def _days(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return found


def _backup(parser: Parser, shared: Parser) -> None:
    kinds: Any = parser.add_subparsers(dest="backup_command", metavar="save|verify|list", required=True)
    save = kinds.add_parser(
        "save",
        parents=[shared],
        help="fetch what is new (also without this word: `pointsman backup greeting`)",
        description="Fetch what is new: packages by their digest, each once; configuration, aliases, policies, URLs,\n"
        "tags, layers. What was interrupted goes on when it is run again.",
        epilog="examples:\n  pointsman backup --to s3://acme-backups/lambda\n  pointsman backup --all --to ~/lambda\n"
        "  pointsman backup greeting --version PROD",
        formatter_class=Help,
    )
    save.add_argument(
        "names", metavar="FUNCTION", nargs="*", help="of the file, or on Lambda (default: all of the file)"
    )
    save.add_argument("--all", action="store_true", help="every function of the accounts and regions")
    save.add_argument("--to", metavar="PLACE", help="a folder, or s3://BUCKET/PREFIX (default: `[backup] to`)")
    save.add_argument(
        "--version", dest="only", action="append", metavar="VERSION|ALIAS",
        help="of the versions only this one, or what this alias serves; may be given several times",
    )  # fmt: skip
    save.add_argument(
        "--again", action="store_true", help="look once more at the policies of versions that are saved: a call each"
    )
    _where(save, "those of all environments")
    for name, text in (
        ("verify", "read every document and hash every package; exit 1 where something is missing or damaged"),
        ("list", "what is in it"),
    ):
        kind = kinds.add_parser(
            name, parents=[shared], help=text, epilog=f"example:\n  pointsman backup {name}", formatter_class=Help
        )
        _from(kind)


def _where(parser: Parser, default: str = "the first of the file") -> None:
    parser.add_argument("--env", metavar="ENV", help=f"the environment whose account and region (default: {default})")
    parser.add_argument("--region", metavar="REGION", help="another region than its own")


def _from(parser: Parser) -> None:
    parser.add_argument(
        "--from", dest="place", metavar="PLACE", help="a folder, or s3://BUCKET/PREFIX (default: `[backup] to`)"
    )


def _restore(parser: Parser, _shared: Parser) -> None:
    parser.add_argument("name_of", metavar="FUNCTION", help="of the file, or on Lambda")
    parser.add_argument(
        "which",
        metavar="VERSION|BUILD",
        nargs="?",
        help="as a new version (default: a function that was deleted, whole)",
    )
    _from(parser)
    _where(parser)
    parser.add_argument("--name", metavar="NAME", help="restore it as a function of this name")
    parser.add_argument(
        "--role", metavar="ARN", help="the execution role it is to have (must be said in another account)"
    )
    parser.add_argument(
        "--source", metavar="ACCOUNT/REGION", help="whose backup, where functions of this name are saved of several"
    )
    parser.add_argument(
        "--as-of",
        metavar="STATE",
        help="an earlier state, such as 20261130T183100 (default: the newest that has aliases)",
    )
    parser.add_argument("--every", action="store_true", help="all saved versions, not only those that aliases serve")
    parser.add_argument("--event-sources", action="store_true", help="its event sources too, disabled")
    parser.add_argument(
        "--without-variables", action="store_true", help="although AWS did not show its environment variables"
    )
    parser.add_argument("--forget", action="store_true", help="forget a restore that was interrupted")
    parser.add_argument("--yes", action="store_true", help="do what is shown")
    _wait(parser)


def _ledger(parser: Parser, shared: Parser) -> None:
    kinds: Any = parser.add_subparsers(dest="ledger_command", metavar="init|status|copy", required=True)
    init = kinds.add_parser(
        "init",
        parents=[shared],
        help="create the table (or file) that `[ledger] url` names, or what it lacks",
        description="Create the table that `[ledger] url` names: on demand, protected from deletion, with\n"
        "point-in-time recovery and a time to live. Of one that is there: check its keys, switch on what is off.",
        epilog="example:\n  pointsman ledger init",
        formatter_class=Help,
    )
    init.add_argument("--wait", type=_positive, default=300, metavar="SECONDS", help="how long to wait for AWS (300)")
    kinds.add_parser(
        "status",
        parents=[shared],
        help="where it is, how many entries, how large, the last entry, who holds leases",
        epilog="example:\n  pointsman ledger status --json",
        formatter_class=Help,
    )
    copy = kinds.add_parser(
        "copy",
        parents=[shared],
        help="append the entries of another ledger to this one, or of this one to another",
        description="Append the entries of another ledger to that of pointsman.toml, or the other way round, once.\n"
        "A copy that was cut short goes on. Leases are not copied.",
        epilog="example:\n  pointsman ledger copy --from sqlite:.pointsman/ledger.db",
        formatter_class=Help,
    )
    copy.add_argument("--from", dest="source", metavar="URL", help="the other ledger is the source")
    copy.add_argument("--to", dest="target", metavar="URL", help="the other ledger is the target")
    copy.add_argument("--force", action="store_true", help="append to a ledger that has entries of its own")


def _ci(parser: Parser, shared: Parser) -> None:
    kinds: Any = parser.add_subparsers(dest="system", metavar="SYSTEM|comment", required=True)
    for name, called in (
        ("github", "GitHub Actions"),
        ("gitlab", "GitLab CI/CD"),
        ("circleci", "CircleCI"),
        ("jenkins", "Jenkins (a multibranch pipeline)"),
        ("bitbucket", "Bitbucket Pipelines"),
    ):
        kind = kinds.add_parser(
            name,
            parents=[shared],
            help=f"a pipeline for {called}",
            description=f"Write the pipeline for {called} from pointsman.toml.",
            epilog=f"example:\n  pointsman ci {name} --out -",
            formatter_class=Help,
        )
        kind.add_argument("--out", metavar="FILE", help="where to write it, - for standard output (default: its place)")
        kind.add_argument("--force", action="store_true", help="overwrite a file that was edited")
        kind.add_argument("--install", metavar="SPEC", help="what pip installs there: a git URL, a wheel, a version")
        kind.add_argument("--main", metavar="BRANCH", help="the branch that goes to the first environment")
    comment = kinds.add_parser(
        "comment",
        parents=[shared],
        help="what the last deploy came to, as Markdown for a pull request",
        description="What the last deploy of this CI job came to, as Markdown for a pull request.",
        epilog="example:\n  pointsman ci comment --to comment.md",
        formatter_class=Help,
    )
    comment.add_argument("--from", dest="source", metavar="FILE", help="the JSON document of a deploy")
    comment.add_argument("--to", metavar="FILE", help="write it there")


def _rollout(parser: Parser, shared: Parser) -> None:
    kinds: Any = parser.add_subparsers(
        dest="rollout_command",
        metavar="watch|status|pause|resume|skip|approve|abort|list|report|simulate",
        required=True,
    )
    which = "its alias, its environment, or its id (default: the newest)"
    for name, text, more in (
        ("watch", "follow it live, whoever carries it through", ""),
        ("status", "how it stands, once", ""),
        ("pause", "hold it at its weight; a canary that is worse still goes back", ""),
        ("resume", "let it go on; carry it through from here where nobody does", ""),
        ("skip", "do not wait for the rest of this step", ""),
        ("approve", "approve what it is waiting for", ""),
        ("abort", "end it: the old version alone serves the alias again", "Works without a ledger, too."),
        ("report", "what it came to and why, with the numbers", ""),
    ):
        kind = kinds.add_parser(
            name,
            parents=[shared],
            help=text,
            description=f"{text[0].upper()}{text[1:]}.{f' {more}' if more else ''}",
            epilog=f"example:\n  pointsman rollout {name} PROD" + (" --html prod.html" if name == "report" else ""),
            formatter_class=Help,
        )
        _region(kind).add_argument("name", metavar="ALIAS", nargs="?", help=which)
        if name in ("resume", "abort", "approve"):
            _function(kind)
        if name == "resume":
            _gates(kind)
        elif name == "abort":
            _wait(kind)
        if name in ("abort", "pause", "skip"):
            kind.add_argument("--why", metavar="TEXT", default="", help="the reason, for the record")
        if name == "report":
            kind.add_argument("--html", metavar="FILE", help="one page with plots, - for standard output")
            kind.add_argument("--markdown", metavar="FILE", help="for a summary or a comment, - for standard output")
    simulate = kinds.add_parser(
        "simulate",
        parents=[shared],
        help="what this configuration would do with such traffic and such a regression, without AWS",
        description="Draw traffic, and let the environment's rollout run on it many times: how often a healthy\n"
        "version is rolled back, how often and when a bad one, and how many more calls fail until then.",
        epilog="example:\n  pointsman rollout simulate PROD --calls 600 --rate 1% --regression 4x --html out.html",
        formatter_class=Help,
    )
    simulate.add_argument("name", metavar="ENV", nargs="?", help="whose rollout (default: the first that has one)")
    simulate.add_argument("--calls", type=_above_zero, default=6000.0, metavar="N", help="calls a minute (6000)")
    simulate.add_argument("--rate", type=_rate, default=0.001, metavar="SHARE", help="which fail anyway (0.1%%)")
    simulate.add_argument(
        "--regression", type=_regression, action="append", default=[], metavar="TIMES", help="one more, e.g. 4x"
    )
    simulate.add_argument("--runs", type=_positive, default=200, metavar="N", help="rollouts of each (200)")
    simulate.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same calls")
    simulate.add_argument("--html", metavar="FILE", help="a page with plots")
    listed = kinds.add_parser(
        "list",
        parents=[shared],
        help="every rollout, newest first",
        epilog="example:\n  pointsman rollout list --limit 5",
        formatter_class=Help,
    )
    _region(listed).add_argument("--limit", type=_positive, default=20, metavar="N", help="how many (20)")


def _regression(text: str) -> float:
    """ "3x" or "3": so many times as many errors."""
    try:
        times = float(text.lower().removesuffix("x"))
    except ValueError:
        times = 0.0
    if not 1 < times < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regression: 2x is twice as many errors")
    return times


def _rate(text: str) -> float:
    """ "0.1%" or 0.001."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of calls: 0.1% or 0.001")
    return found


def _doctor(parser: Parser, _shared: Parser) -> None:
    _function(_region(parser))
    parser.add_argument("--to", metavar="ENV", help="one environment, by name or alias (default: all)")
    parser.add_argument("--policy", action="store_true", help="print the least IAM policy that this file needs")


def _completion(parser: Parser, _shared: Parser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


# name: example, more to say, what fills its parser
_COMMANDS: dict[str, tuple[str, str, Callable[[Parser, Parser], object]]] = {
    "init": (
        "pointsman init --function-name api-backend --region eu-west-1",
        "Recognises Terraform, CloudFormation, SAM, the CDK, serverless.yml, claudia.json and lambroll's\n"
        "function.json, else a handler; the nearest wins. Where the environment has credentials (AWS_PROFILE,\n"
        "AWS_ACCESS_KEY_ID …) it looks at the functions on AWS, too: which aliases there are, what the packages hold.",
        _init,
    ),
    "build": ("pointsman build --list --explain", "", _build),
    "deploy": ("pointsman deploy --to STAGE --build-id 101", "", _deploy),
    "promote": (
        "pointsman promote 101 --to PROD",
        "A name is looked for among builds, aliases, versions; say build:X, version:X or alias:X to be exact.\n"
        "A build of another account or region is brought over: the same bits (docs/accounts.md).",
        _promote,
    ),
    "rollback": (
        "pointsman rollback PROD",
        "Without --to: the deployment of that alias before the present one; of several functions, back over the\n"
        "environment's last release: what moved in it. Approval is asked for only where --to names what the alias\n"
        "never served.",
        lambda parser, _shared: _rolling_back(parser),
    ),
    "plan": ("pointsman plan --to STAGE --out release.plan && pointsman apply release.plan", "", _plan),
    "apply": ("pointsman apply release.plan", "", _apply),
    "resume": ("pointsman resume", "", _resume),
    "rollout": (
        "pointsman rollout watch PROD",
        "`promote` and `deploy` begin one where the environment has a [rollout]; this looks at it and steers it, from\n"
        "any terminal or machine with the same ledger.",
        _rollout,
    ),
    "branch": ("pointsman branch sync --yes", "", _branch),
    "status": (
        "pointsman status --all --only 'shop-*'",
        "--all: every function of the accounts and regions that the environments are in, ours or not. It costs a call\n"
        "for 50 versions and one for each function, 15 a second. Exit code 1 where a place could not be read.",
        _status_of,
    ),
    "backup": (
        "pointsman backup --all --to s3://acme-backups/lambda",
        "Of packages each\nonce, by its digest; a document for each function and region; only what is new is fetched.",
        _backup,
    ),
    "restore": (
        "pointsman restore greeting 101 --yes",
        "A version becomes\na new version of the function, and $LATEST is put back afterwards; a deleted function\n"
        "gets its aliases as they were. The plan is shown first.",
        _restore,
    ),
    "versions": ("pointsman versions", "", lambda parser, _shared: _function(_to(parser))),
    "history": (
        "pointsman history --alias PROD --since 7d\n  pointsman history --at 02:00       what was live at two o'clock?",
        "Times without an offset are this machine's; a length of time is so long ago.",
        _history,
    ),
    "diff": ("pointsman diff STAGE PROD", "", _diff),
    "storage": (
        "pointsman storage --html storage.html",
        "Of every account and region in the file: by function, layer and age, how it grows, and when it is full.",
        _storage,
    ),
    "doctor": (
        "pointsman doctor --policy > deployer.json",
        "Exit code 1 where there is a problem; nothing is changed.",
        _doctor,
    ),
    "local": ('eval "$(pointsman local env)" && aws lambda list-functions', "", _local),
    "prune": (
        "pointsman prune --list && pointsman prune --yes",
        "Of every version of the account and region a decision and its reason, by [retention] in the file. What is in\n"
        "use stays, and where that could not be looked up, whatever might be. Nothing is deleted without --yes.",
        _prune,
    ),
    "ledger": ("pointsman ledger init", "", _ledger),
    "ci": ("pointsman ci github", "", _ci),
    "config": ("pointsman config explain environment.*.approve", "", _config),
    "completion": ('eval "$(pointsman completion bash)"', "", _completion),
}
