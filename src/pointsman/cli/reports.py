"""What a CI system is told beside the log: summary, outputs, annotations, the text of a comment. Never fails a command.

GitHub's files and workflow commands: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
Elsewhere POINTSMAN_OUTPUT names a file of NAME=VALUE lines (a GitLab dotenv report). Nothing told is secret: names,
versions, digests and test names, never a variable's value.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pointsman import home
from pointsman.model import plain
from pointsman.pipelines import marker

if TYPE_CHECKING:
    from pointsman.errors import PointsmanError
    from pointsman.hands import Released


def last(root: Path) -> Path:
    """Where the result of the last deploy of a CI job is kept."""
    return root / home.NAME / "reports" / "last.json"


def released(done: Sequence[Released], command: str, environ: Mapping[str, str], root: Path, err: TextIO) -> None:
    result: list[dict[str, Any]] = [plain(each) for each in done]
    _tell({"ok": True, "command": command, "result": result}, _outputs(result), environ, root, err)


def failed(error: PointsmanError, command: str, environ: Mapping[str, str], root: Path | None, err: TextIO) -> None:
    from pointsman import testrun

    failures: list[dict[str, Any]] = []
    if files := [Path(each) for each in getattr(error, "reports", ())]:
        source = Path(environ.get("GITHUB_WORKSPACE") or environ.get("CI_PROJECT_DIR") or root or Path.cwd())
        try:
            failures = [plain(_placed(each, source, root)) for each in testrun.failures(files)]
        except (OSError, ValueError) as also:  # the report itself is broken: the error says so already
            print(f"pointsman: {also}", file=err)
    notes = list(getattr(error, "__notes__", ()))
    document = {
        "ok": False,
        "command": command,
        "error": {**plain(error.facts()), "notes": notes},
        "failures": failures,
    }
    _tell(document, {}, environ, root, err)
    if environ.get("GITHUB_ACTIONS") == "true":
        for failure in failures or [{"name": f"pointsman {command}", "message": str(error)}]:
            print(annotation(failure), file=err)


def _tell(
    document: dict[str, Any], outputs: Mapping[str, str], environ: Mapping[str, str], root: Path | None, err: TextIO
) -> None:
    try:
        if path := environ.get("GITHUB_STEP_SUMMARY"):
            _append(path, summary(document))
            _append(path, _rollouts(document))
        if path := environ.get("GITHUB_OUTPUT"):
            _append(path, "".join(_output(name, value) for name, value in outputs.items()))
        if path := environ.get("POINTSMAN_OUTPUT"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            _append(path, "".join(_dotenv(name, value) for name, value in outputs.items()))
        if root and (environ.get("CI") or environ.get("GITHUB_ACTIONS")):
            last(root).parent.mkdir(parents=True, exist_ok=True)
            last(root).write_text(json.dumps(document), encoding="utf-8")
    except OSError as error:
        # A summary that cannot be written is no reason to call a deploy failed that was none.
        print(f"pointsman: could not tell the CI system: {error}", file=err)


def _append(path: str, text: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(text)


def _outputs(result: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """One value where there is one function; of several the first's, and all in `released`, as JSON."""
    first = result[0] if result else {}
    named = {
        "function": first.get("name") or first.get("function"),
        "version": first.get("version"),
        "alias": first.get("alias"),
        "build": first.get("build"),
        "preview-url": first.get("preview"),
    }
    outputs = {name: str(value or "") for name, value in named.items()}
    outputs["unchanged"] = str(all(each.get("outcome") == "unchanged" for each in result)).lower()
    outputs["released"] = json.dumps(result)
    return outputs


def _output(name: str, value: str) -> str:
    """A line of GITHUB_OUTPUT, or the form for several: the delimiter is one that the value cannot hold."""
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}\n"
    end = f"end-{hashlib.sha256(value.encode()).hexdigest()}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def _dotenv(name: str, value: str) -> str:
    """GitLab's dotenv knows neither quotes nor more than a line."""
    if name == "released":
        return ""
    return f"POINTSMAN_{name.upper().replace('-', '_')}={' '.join(value.split())}\n"


# Workflow commands


def annotation(failure: Mapping[str, Any]) -> str:
    """`::error file=…,line=…,title=…::message` for a failed test."""
    properties = {"file": failure.get("file"), "line": failure.get("line"), "title": failure.get("name")}
    said = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items() if value)
    return f"::error {said}::{_data(str(failure.get('message') or failure.get('name')))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _placed(failure: Any, top: Path, root: Path | None) -> Any:
    """The failure with its file as the repository calls it, or without one where there is no such file."""
    import msgspec

    for base in filter(None, (root, top)):
        for name, line in failure.places:
            path = Path(os.path.normpath(base / name))
            if path.is_file() and path.is_relative_to(top.resolve()) and "node_modules" not in path.parts:
                where = path.relative_to(top.resolve()).as_posix()
                return msgspec.structs.replace(failure, file=where, line=line, places=())
    return msgspec.structs.replace(failure, places=())


# Markdown


def summary(document: Mapping[str, Any]) -> str:
    """A step summary, or the body of a comment: a table of what moved, or what went wrong."""
    if not document["ok"]:
        return _failure(document)
    lines = [
        f"### pointsman {document.get('command', 'deploy')}",
        "",
        "| function | alias | version | was | build | tests | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in document["result"]:
        cells = (
            each["name"] or each["function"],
            each["alias"],
            each["version"],
            each["was"],
            each["build"],
            "; ".join(f"{kind}: {_counts(report)}" for kind, report in (each.get("tests") or {}).items()),
            "nothing to do" if each["outcome"] == "unchanged" else "moved" if each["moved"] else "served already",
        )
        lines.append(f"| {' | '.join(_cell(each or '') for each in cells)} |")
    for each in document["result"]:
        if each.get("preview"):
            lines += ["", f"Preview of `{each['alias']}`: <{each['preview']}>"]
        lines += [f"\n> [!NOTE]\n> {_line(warning)}" for warning in each.get("notes") or ()]
    return "\n".join(lines) + "\n"


def _rollouts(document: Mapping[str, Any]) -> str:
    """The report of each rollout that ended, however it ended. A comment does without: it is of some lines only."""
    told = [each.get("rollout") for each in document.get("result") or ()]
    told.append((document.get("error") or {}).get("rollout"))
    paths = [each["reports"].get("markdown") for each in told if each]
    return "".join(f"\n{Path(path).read_text(encoding='utf-8')}" for path in paths if path)


def _failure(document: Mapping[str, Any]) -> str:
    error = document["error"]
    where = f"**{_line(error['where'])}**: " if error.get("where") else ""
    lines = [f"### pointsman {document.get('command', 'deploy')}: failed", "", f"{where}{_text(error['what'])}"]
    for failure in document.get("failures") or ():
        place = (
            f" ({failure['file']}{':' + str(failure['line']) if failure.get('line') else ''})"
            if failure.get("file")
            else ""
        )
        first = (failure.get("message") or "").strip().split("\n")[0]
        lines.append(f"- `{failure['name']}`{place}{': ' + _line(first) if first else ''}")
    for text in (error.get("next"), *(error.get("notes") or ())):
        lines += ["", _text(text)] if text else []
    return "\n".join(lines) + "\n"


def comment(document: Mapping[str, Any], folder: str = "") -> str:
    """For a pull request: begins with a marker that nobody sees, so that the next one can take its place."""
    return f"{marker(folder)}\n{summary({'command': 'deploy', **document})}"


def _counts(report: Mapping[str, Any]) -> str:
    if not report["tests"]:
        return "passed"
    named = ((report["failures"], "failed"), (report["errors"], "with errors"), (report["skipped"], "skipped"))
    return ", ".join((f"{report['tests']} run", *(f"{count} {word}" for count, word in named if count)))


def _cell(text: object) -> str:
    return _line(str(text)).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(_text(text).split())


def _text(text: str) -> str:
    """Shown as it is: what AWS or a test says must not become markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
