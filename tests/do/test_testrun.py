"""Test runs are real commands; a gate passes only by tests that ran in this run, and passed."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pointsman.testrun import TestRun, read_junit, run

PASSED = '<testsuite name="s" tests="2" failures="0"><testcase name="a"/><testcase name="b"/></testsuite>'


def go(tmp_path: Path, command: str, *junit: str, timeout_s: float = 60, echo: list[str] | None = None) -> TestRun:
    return run(
        command,
        cwd=tmp_path,
        environment={"PATH": os.environ["PATH"], "WHICH": "version 7"},
        junit=junit,
        reports=tmp_path / "reports",
        name="unit",
        timeout_s=timeout_s,
        echo=echo.append if echo is not None else None,
    )


def writes(report: str, name: str = "junit.xml") -> str:
    return f"printf %s {shlex.quote(report)} > {name}"


def ends(pid: int) -> bool:
    """Whether the process has ended, or soon does: a signal is sent, not carried out, at once."""
    try:
        told = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([told], [], [], 60)[0])
    finally:
        os.close(told)


# The command


def test_output_is_kept_and_echoed_by_line(tmp_path: Path) -> None:
    lines: list[str] = []

    done = go(tmp_path, 'echo "$WHICH"; echo oops >&2; printf "no end"; cat', echo=lines)

    assert (done.exit_code, done.problem, done.report) == (0, "", None)
    assert lines == ["version 7", "oops", "no end"]
    assert done.log == str(tmp_path / "reports" / "unit.log")
    assert Path(done.log).read_text() == "version 7\noops\nno end"
    assert done.seconds > 0


def test_much_output_and_bytes_that_are_no_text_arrive_whole(tmp_path: Path) -> None:
    lines: list[str] = []

    done = go(tmp_path, r"seq 1 200000; printf 'caf\351\r\n'", echo=lines)

    assert lines[:-1] == [str(number) for number in range(1, 200_001)]
    assert lines[-1] == "caf\ufffd"
    assert Path(done.log).read_bytes().endswith(b"200000\ncaf\xe9\r\n")


@pytest.mark.parametrize(
    ("command", "code", "problem"),
    [
        ("exit 3", 3, "it ended with exit code 3"),
        ("no-such-command-here", 127, "it ended with exit code 127 (command not found)"),
        ("kill -9 $$", -9, "it was ended by signal 9"),
    ],
)
def test_a_failing_command_is_a_problem(tmp_path: Path, command: str, code: int, problem: str) -> None:
    done = go(tmp_path, command)

    assert (done.exit_code, done.problem) == (code, problem)


def test_the_timeout_ends_all_that_the_command_started(tmp_path: Path) -> None:
    began = time.monotonic()

    done = go(tmp_path, "sleep 300 & echo $! > pid; echo begun; sleep 300", timeout_s=2)

    assert done.problem == "it did not end within 2 s"
    assert done.exit_code == -signal.SIGTERM
    assert Path(done.log).read_text() == "begun\n"
    assert ends(int((tmp_path / "pid").read_text()))
    assert time.monotonic() - began < 200


def test_a_command_that_never_stops_talking_meets_its_timeout_too(tmp_path: Path) -> None:
    assert go(tmp_path, "yes", timeout_s=0.3).problem == "it did not end within 0.3 s"


def test_what_a_command_leaves_behind_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    """A server started for the tests holds the output open; waiting for its end would take for ever."""
    began = time.monotonic()

    done = go(tmp_path, "sleep 300 & echo $! > pid; echo done", timeout_s=30)

    assert (done.exit_code, done.problem) == (0, "")
    assert ends(int((tmp_path / "pid").read_text()))
    assert time.monotonic() - began < 200


def test_ctrl_c_asks_the_whole_group_to_end(tmp_path: Path) -> None:
    program = f"""
import sys; from pathlib import Path; from pointsman.testrun import run
run("trap 'echo tidied > tidied; exit 1' INT; sleep 300 & echo $! > pid; echo ready; wait", cwd=Path({str(tmp_path)!r}),
    environment={{"PATH": "/usr/bin:/bin"}}, junit=(), reports=Path({str(tmp_path)!r}), name="x", timeout_s=300,
    echo=lambda line: print(line, flush=True))
"""
    runner = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert runner.stdout
    assert runner.stdout.readline() == "ready\n"

    runner.send_signal(signal.SIGINT)
    _, errors = runner.communicate(timeout=60)

    assert "KeyboardInterrupt" in errors
    assert (tmp_path / "tidied").exists()
    assert ends(int((tmp_path / "pid").read_text()))


# What proves something


def test_a_run_with_a_report_of_its_own_passes(tmp_path: Path) -> None:
    done = go(tmp_path, writes(PASSED), "junit.xml")

    assert done.problem == ""
    assert done.report
    assert (done.report.tests, str(done.report)) == (2, "2 tests")
    kept = tmp_path / "reports" / "unit-junit.xml"
    assert done.report.files == (str(kept),)
    assert kept.read_text() == PASSED


def test_a_report_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(PASSED)

    done = go(tmp_path, "true", "junit.xml")

    assert (done.problem, done.report) == ("junit.xml is from before this run", None)
    assert not (tmp_path / "reports" / "unit-junit.xml").exists()


@pytest.mark.parametrize(
    "how", ["cp junit.xml new; mv new junit.xml", "touch junit.xml", "cat junit.xml > new; cat new > junit.xml"]
)
def test_a_report_written_again_with_equal_content_counts(tmp_path: Path, how: str) -> None:
    (tmp_path / "junit.xml").write_text(PASSED)
    os.utime(tmp_path / "junit.xml", (1e9, 1e9))

    assert go(tmp_path, how, "junit.xml").problem == ""


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("true", "junit.xml was not written"),
        ("mkdir junit.xml", "junit.xml was not written"),
        ("exit 2", "it ended with exit code 2; junit.xml was not written"),
        (writes("<testsuite/>"), "junit.xml holds no test"),
        (writes('<testsuite tests="9" failures="0"/>'), "junit.xml holds no test"),
        (
            writes('<testsuite><testcase name="a"><skipped/></testcase></testsuite>'),
            "junit.xml holds only skipped tests",
        ),
        (
            writes('<testsuite><testcase classname="c" name="a"><failure/></testcase><testcase/></testsuite>'),
            "junit.xml tells of failures although the command ended with exit code 0: 2 tests, 1 failed (c a)",
        ),
        (
            writes('<testsuite><testcase name="a"><error/></testcase></testsuite>') + "; exit 1",
            "it ended with exit code 1; junit.xml says: 1 test, 1 with errors (a)",
        ),
    ],
)
def test_a_run_that_proves_nothing_says_why(tmp_path: Path, command: str, problem: str) -> None:
    assert go(tmp_path, command, "junit.xml").problem == problem


def test_a_broken_report_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    done = go(tmp_path, writes("<testsuite><testcase"), "junit.xml")

    assert (
        done.problem == f"{tmp_path}/reports/unit-junit.xml is not well-formed XML: unclosed token: line 1, column 11"
    )
    assert done.report is None


def test_at_most_five_failed_tests_are_named(tmp_path: Path) -> None:
    cases = "".join(f'<testcase name="t{number}"><failure/></testcase>' for number in range(8))

    done = go(tmp_path, writes(f"<testsuite>{cases}</testsuite>") + "; exit 1", "junit.xml")

    assert done.problem.endswith("junit.xml says: 8 tests, 8 failed (t0, t1, t2, t3, t4 and 3 more)")


def test_of_a_glob_what_this_run_wrote_counts(tmp_path: Path) -> None:
    """Maven leaves the report of a removed test class behind; that one is from before, the others decide."""
    folder = tmp_path / "target" / "reports"
    folder.mkdir(parents=True)
    (folder / "TEST-old.xml").write_text("<testsuite><testcase><failure/></testcase></testsuite>")
    commands = "; ".join(writes(PASSED, f"target/reports/TEST-{name}.xml") for name in ("a", "b"))

    done = go(tmp_path, commands, "target/reports/*.xml")

    assert done.problem == ""
    assert done.report
    assert done.report.tests == 4
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == [
        "unit-target-reports-TEST-a.xml",
        "unit-target-reports-TEST-b.xml",
        "unit.log",
    ]
    assert go(tmp_path, "true", "target/reports/*.xml").problem == "target/reports/*.xml is from before this run"
    assert go(tmp_path, "true", "target/*.xml").problem == "target/*.xml was not written"


def test_every_declared_report_must_be_there(tmp_path: Path) -> None:
    done = go(tmp_path, writes(PASSED, "a.xml"), "a.xml", "b.xml")

    assert done.problem == "b.xml was not written"
    assert done.report
    assert done.report.tests == 2


def test_a_report_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    assert go(tmp_path, writes(PASSED, "'r[1].xml'"), "r[1].xml").problem == ""


# Reading JUnit


def read(tmp_path: Path, text: str | bytes) -> tuple[int, int, int, int, tuple[str, ...]]:
    file = tmp_path / "junit.xml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    report = read_junit([file])
    return report.tests, report.failures, report.errors, report.skipped, report.failed


def test_nested_suites_are_counted_once(tmp_path: Path) -> None:
    """Outer suites repeat the sums of the inner ones."""
    assert read(
        tmp_path,
        """<?xml version="1.0"?>
        <testsuites tests="4" failures="1" errors="1"><properties/>
          <testsuite name="outer" tests="4" failures="1" errors="1">
            <testsuite name="inner" tests="3" failures="1" errors="0">
              <testcase classname="c" name="good"><system-out>failure</system-out></testcase>
              <testcase classname="c" name="bad"><failure message="m">trace</failure></testcase>
              <testcase classname="c" name="not now"><skipped/></testcase>
            </testsuite>
            <testcase name="broken"><error type="E"/><failure/></testcase>
          </testsuite>
        </testsuites>""",
    ) == (4, 1, 1, 1, ("c bad", "broken"))


def test_mochas_xunit_file(tmp_path: Path) -> None:
    """It tells the number of failures a second time, as errors."""
    assert read(
        tmp_path,
        '<testsuite name="Mocha Tests" tests="3" failures="1" errors="1" skipped="1" timestamp="now" time="0.01">'
        '<testcase classname="Greeter" name="greets" time="0.001"/>'
        '<testcase classname="Greeter" name="fails" time="0"><failure classname="Greeter" name="fails" time="0" '
        'message="expected"><![CDATA[AssertionError: <b>]]></failure></testcase>'
        '<testcase classname="Greeter" name="later"><skipped/></testcase></testsuite>',
    ) == (3, 1, 0, 1, ("Greeter fails",))


def test_a_suite_that_claims_more_failures_than_its_tests_show_is_believed(tmp_path: Path) -> None:
    assert read(tmp_path, '<testsuite failures="2"><testcase name="a"/></testsuite>')[:3] == (1, 2, 0)
    assert read(tmp_path, '<testsuites errors="1"><testsuite><testcase/></testsuite></testsuites>')[:3] == (1, 0, 1)
    assert read(tmp_path, '<testsuite failures=""><testcase/></testsuite>')[:3] == (1, 0, 0)


def test_a_failure_before_all_tests_is_a_failure(tmp_path: Path) -> None:
    found = read(tmp_path, '<testsuite name="db"><error>no database</error><testcase name="a"/></testsuite>')

    assert found == (1, 0, 1, 0, ("the suite db itself",))


def test_other_dialects(tmp_path: Path) -> None:
    assert read(tmp_path, '<testsuite xmlns="urn:x"><testcase name="a"><failure/></testcase></testsuite>')[:2] == (1, 1)
    assert read(tmp_path, '<testsuite><testcase status="notrun"/><testcase status="run"/></testsuite>')[3] == 1
    assert (
        read(tmp_path, '<?xml version="1.0" encoding="utf-16"?><testsuite><testcase/></testsuite>'.encode("utf-16"))[0]
        == 1
    )
    assert read(tmp_path, "<testsuite>" * 50_000 + "<testcase/>" + "</testsuite>" * 50_000)[0] == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not well-formed XML: no element found"),
        ("<testsuite>", "not well-formed XML"),
        ("<testsuite><testcase>\x1b[31m</testcase></testsuite>", "not well-formed XML: .* line 1, column 21"),
        ("<html><testcase/></html>", "is not a JUnit report: it begins with <html>"),
        ('<testsuite failures="some"/>', "has failures='some', which is not a number"),
        (
            '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>',
            "defines XML entities",
        ),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuite>&a;</testsuite>', "defines XML entities"),
    ],
)
def test_what_is_no_report_is_refused_in_words(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=rf"junit\.xml.*{why}"):
        read(tmp_path, text)


def test_a_missing_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_junit([tmp_path / "gone.xml"])
