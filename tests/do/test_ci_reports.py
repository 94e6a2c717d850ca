"""What CI systems are told: escapes, places of failed tests, and that nothing of it can fail a command."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from pointsman import testrun
from pointsman.cli import reports
from pointsman.cli.terminal import Screen
from pointsman.errors import GateRefused
from pointsman.hands import Released
from pointsman.model import TestReport


def done(**more: Any) -> Released:
    facts: dict[str, Any] = {
        "command": "deploy", "function": "greeting", "name": "greeting", "environment": "staging", "alias": "STAGE",
        "outcome": "done", "build": "101", "version": "7", "was": "6", "published": True, "moved": True, "why": "",
        "tests": {"unit": TestReport(tests=3, failures=0, errors=0, skipped=1)}, **more,
    }  # fmt: skip
    return Released(**facts)


def told(tmp_path: Path, *released: Released, **environ: str) -> tuple[str, dict[str, str], str]:
    """(step summary, outputs, what went to standard error)"""
    err = io.StringIO()
    files = {name: tmp_path / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    given = {"GITHUB_ACTIONS": "true", **{name: str(path) for name, path in files.items()}, **environ}
    reports.released(released, "deploy", given, tmp_path, err)
    lines = files["GITHUB_OUTPUT"].read_text().splitlines()
    return files["GITHUB_STEP_SUMMARY"].read_text(), dict(line.split("=", 1) for line in lines), err.getvalue()


def test_a_summary_is_a_table_of_what_moved(tmp_path: Path) -> None:
    summary, outputs, err = told(tmp_path, done())

    assert summary == (
        "### pointsman deploy\n\n"
        "| function | alias | version | was | build | tests | |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| greeting | STAGE | 7 | 6 | 101 | unit: 3 run, 1 skipped | moved |\n"
    )
    assert (outputs["version"], outputs["alias"], outputs["build"]) == ("7", "STAGE", "101")
    assert (outputs["unchanged"], outputs["function"]) == ("false", "greeting")
    assert json.loads(outputs["released"])[0]["was"] == "6"
    assert err == ""


def test_what_was_unchanged_says_so(tmp_path: Path) -> None:
    summary, outputs, _ = told(tmp_path, done(outcome="unchanged", moved=False, tests={}))

    assert "| nothing to do |" in summary
    assert outputs["unchanged"] == "true"


def test_text_of_others_is_no_markup(tmp_path: Path) -> None:
    error = GateRefused("<img src=x> | `code`", where="unit tests")
    err = io.StringIO()
    reports.failed(error, "deploy", {"GITHUB_STEP_SUMMARY": str(tmp_path / "s")}, tmp_path, err)

    assert "<img" not in (tmp_path / "s").read_text()


def test_an_output_of_several_lines_cannot_be_ended_by_its_own_text() -> None:
    forged = "one\nend-0\nversion=999"
    line, *rest = reports._output("why", forged).splitlines()

    end = line.removeprefix("why<<")
    assert rest[-1] == end
    assert end not in forged
    assert "\n".join(rest[:-1]) == forged


def test_an_annotation_cannot_be_broken_out_of() -> None:
    failure = {"name": "a, b: 100%\n::set-env", "message": "50%\r\n::error::forged", "file": "a:b.py", "line": 3}

    assert reports.annotation(failure) == (
        "::error file=a%3Ab.py,line=3,title=a%2C b%3A 100%25%0A%3A%3Aset-env::50%25%0D%0A::error::forged"
    )


JUNIT = {
    "pytest": (
        "<testsuites><testsuite><testcase classname='tests.test_greet.TestGreet' name='test_hello'>"
        "<failure message='assert 1 == 2'>def test_hello():\n>  assert 1 == 2\n\ntests/test_greet.py:4: AssertionError"
        "</failure></testcase></testsuite></testsuites>",
        "tests/test_greet.py",
        4,
    ),
    "pytest with places": (
        "<testsuite><testcase classname='x' file='tests/test_greet.py' line='2' name='test_hello'>"
        "<failure message='no'/></testcase></testsuite>",
        "tests/test_greet.py",
        3,
    ),
    "mocha": (
        "<testsuite name='Mocha'><testcase classname='Greeting' name='greets'><failure>AssertionError: no\n"
        "    at Context.&lt;anonymous&gt; ({top}/tests/greeting-test.js:10:14)\n"
        "    at process.processImmediate (node:internal/timers:485:21)</failure></testcase></testsuite>",
        "tests/greeting-test.js",
        10,
    ),
    "nothing said": ("<testsuite><testcase name='greets'><error/></testcase></testsuite>", "", None),
    "a file of elsewhere": (
        "<testsuite><testcase name='greets'><failure>/etc/passwd:1: no</failure></testcase></testsuite>",
        "",
        None,
    ),
}


@pytest.mark.parametrize("kind", list(JUNIT))
def test_a_failed_test_is_placed_where_its_report_or_its_stack_says(kind: str, tmp_path: Path) -> None:
    text, file, line = JUNIT[kind]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_greet.py").touch()
    (tmp_path / "tests" / "greeting-test.js").touch()
    report = tmp_path / "report.xml"
    report.write_text(text.replace("{top}", str(tmp_path)))
    err = io.StringIO()
    given = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "s")}

    reports.failed(GateRefused("no", where="unit tests", reports=(str(report),)), "deploy", given, tmp_path, err)

    (annotation,) = err.getvalue().splitlines()
    place = f"file={file},line={line}," if file else ""
    assert annotation.startswith(f"::error {place}title=")
    assert ("passwd" in annotation) is (kind == "a file of elsewhere"), "named in the message, not as a place"
    assert (f"({file}:{line})" in (tmp_path / "s").read_text()) is bool(file)


def test_every_failure_of_a_report_is_told_once(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuite name='s'><testcase name='a'><failure>one</failure><error>again</error></testcase>"
        "<testcase name='b'/><testcase name='c'><system-out>noise</system-out><error message='two'/></testcase>"
        "<error>before all</error></testsuite>"
    )

    found = [(each.name, each.message) for each in testrun.failures([report])]

    assert found == [("a", "one"), ("c", "two"), ("the suite s itself", "before all")]


def test_a_failure_without_a_report_is_one_annotation(tmp_path: Path) -> None:
    err = io.StringIO()
    reports.failed(GateRefused("nobody approved", where="approval"), "promote", {"GITHUB_ACTIONS": "true"}, None, err)

    assert err.getvalue() == "::error title=pointsman promote::approval: nobody approved\n"


def test_a_summary_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    err = io.StringIO()

    reports.released([done()], "deploy", {"GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "such")}, tmp_path, err)

    assert "could not tell the CI system" in err.getvalue()


def test_elsewhere_a_file_of_variables_is_written(tmp_path: Path) -> None:
    reports.released(
        [done()], "deploy", {"POINTSMAN_OUTPUT": str(tmp_path / "made" / "pointsman.env")}, tmp_path, io.StringIO()
    )

    lines = (tmp_path / "made" / "pointsman.env").read_text().splitlines()
    assert "POINTSMAN_VERSION=7" in lines
    assert "POINTSMAN_UNCHANGED=false" in lines
    assert all(line.startswith("POINTSMAN_") and "=" in line for line in lines)


def test_a_tests_own_output_folds_under_what_was_said_last() -> None:
    err = io.StringIO()
    screen = Screen(out=io.StringIO(), err=err, json=False, verbose=True, groups=True)

    screen.say("unit tests: npm test")
    screen.echo("::error::forged by a test")
    screen.echo("ok 1")
    screen.failed(GateRefused("no"))

    lines = err.getvalue().splitlines()
    assert lines[1] == "::group::unit tests: npm test"
    assert lines[2].startswith("         | "), "a command must begin its line: a test cannot give any"
    assert lines[4:] == ["::endgroup::", "pointsman: no"]


def test_without_groups_nothing_is_folded() -> None:
    err = io.StringIO()
    Screen(out=io.StringIO(), err=err, json=False, verbose=True).echo("ok 1")

    assert err.getvalue() == "         | ok 1\n"
