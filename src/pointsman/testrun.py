"""Run a test command and say whether it proved anything: a gate passes only by tests that ran, now, and passed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pointsman.model import TestReport, Value

if TYPE_CHECKING:
    import selectors
    import subprocess
    from typing import IO

SHOWN = 5
GRACE_S = 5.0  # between asking a timed-out run to end and ending it


class TestRun(Value, frozen=True, kw_only=True):
    """`problem`: why this run proves nothing, or "" for a pass. `log`: the path of its output."""

    __test__ = False  # pytest: not a test class

    exit_code: int
    report: TestReport | None
    log: str
    seconds: float
    problem: str = ""


def run(
    command: str,
    *,
    cwd: Path,
    environment: Mapping[str, str],
    junit: Sequence[str],
    reports: Path,
    name: str,
    timeout_s: float,
    echo: Callable[[str], None] | None,
    halted: Callable[[], bool] | None = None,
) -> TestRun:
    """Run through the shell, output to `reports/<name>.log` and by line to `echo`; keep the JUnit files in `reports`.

    `junit`: files relative to `cwd`, or globs. `halted` is asked now and then: threads get no Ctrl-C.
    All that the command started ends with it, at the timeout, or at Ctrl-C.
    """
    import time

    reports.mkdir(parents=True, exist_ok=True)
    log = reports / f"{name}.log"
    before = {pattern: _found(cwd, pattern) for pattern in junit}
    began = time.monotonic()
    code, timed_out = _command(command, cwd, environment, log=log, timeout_s=timeout_s, echo=echo, halted=halted)
    seconds = time.monotonic() - began

    problems: list[str] = []
    total: list[TestReport] = []
    for pattern in junit:
        after = _found(cwd, pattern)
        fresh = [path for path, identity in after.items() if before[pattern].get(path) != identity]
        if not after:
            problems.append(f"{pattern} was not written")
        elif not fresh:
            problems.append(f"{pattern} is from before this run")
        else:
            kept = [_keep(path, cwd, reports, name) for path in fresh]
            try:
                report = read_junit(kept)
            except ValueError as error:
                problems.append(str(error))
                continue
            total.append(report)
            if problem := _judged(report, code):
                problems.append(f"{pattern} {problem}")
    if timed_out:
        problems.insert(0, f"it did not end within {timeout_s:g} s")
    elif code:
        unfound = " (command not found)" if code == 127 else ""
        problems.insert(
            0, f"it ended with exit code {code}{unfound}" if code > 0 else f"it was ended by signal {-code}"
        )
    return TestRun(
        exit_code=code,
        report=_sum(total) if total else None,
        log=str(log),
        seconds=seconds,
        problem="; ".join(problems),
    )


def read_junit(files: Sequence[Path]) -> TestReport:
    """The tests of all files together, counted by test case; a suite that tells of more failures is believed.

    Raises ValueError for what is not JUnit XML (of mocha's xunit-file too), is broken, or defines entities.
    """
    return _sum([_read(file) for file in files])


class Failure(Value, frozen=True, kw_only=True):
    """A test that failed. `places`: where it may lie, as the report tells it (file, line), the likeliest first."""

    name: str
    message: str = ""
    file: str = ""
    line: int | None = None
    places: tuple[tuple[str, int | None], ...] = ()


def failures(files: Sequence[Path]) -> list[Failure]:
    """Every failed test of JUnit files, with what it says. Raises ValueError as `read_junit` does."""
    found: list[Failure] = []
    for file in files:
        reader = _Failures(str(file))
        _parse(file, reader)
        found += reader.found
    return found


def _judged(report: TestReport, code: int) -> str:
    if report.failures or report.errors:
        although = "" if code else "tells of failures although the command ended with exit code 0: "
        named = ", ".join(report.failed[:SHOWN])
        bad = report.failures + report.errors
        more = f" and {bad - SHOWN} more" if bad > SHOWN else ""
        return f"{although or 'says: '}{report}" + (f" ({named}{more})" if named else "")
    if not report.tests:
        return "holds no test"
    if report.tests == report.skipped:
        return "holds only skipped tests"
    return ""


def _sum(reports: Sequence[TestReport]) -> TestReport:
    return TestReport(
        tests=sum(each.tests for each in reports),
        failures=sum(each.failures for each in reports),
        errors=sum(each.errors for each in reports),
        skipped=sum(each.skipped for each in reports),
        failed=tuple(name for each in reports for name in each.failed)[:SHOWN],
        files=tuple(file for each in reports for file in each.files),
    )


def _found(cwd: Path, pattern: str) -> dict[Path, tuple[int, ...]]:
    """The files a declared pattern means, each with what changes when it is written again."""
    import glob
    import stat

    names = glob.glob(str(Path(glob.escape(str(cwd))) / pattern), recursive=True)  # noqa: PTH207
    names += [str(cwd / pattern)] if (cwd / pattern).exists() else []  # [] and * may be letters of a name
    stats = {Path(name): Path(name).stat() for name in sorted(set(names)) if Path(name).exists()}
    return {
        path: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        for path, s in stats.items()
        if stat.S_ISREG(s.st_mode)
    }


def _keep(path: Path, cwd: Path, reports: Path, name: str) -> Path:
    import shutil

    to = reports / f"{name}-{os.path.relpath(path, cwd).replace('/', '-')}"
    shutil.copyfile(path, to)
    return to


def _command(
    command: str,
    cwd: Path,
    environment: Mapping[str, str],
    *,
    log: Path,
    timeout_s: float,
    echo: Callable[[str], None] | None,
    halted: Callable[[], bool] | None,
) -> tuple[int, bool]:
    """(exit code, whether the time was up). When this returns or raises, the command's whole group has been ended."""
    import selectors
    import signal
    import subprocess
    import threading

    process = subprocess.Popen(
        command,
        shell=True,
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,  # its own group, to end it whole; a terminal's Ctrl-C reaches us, not it
    )
    assert process.stdout
    ended, tell = os.pipe()

    def wait() -> None:
        process.wait()
        os.close(tell)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    with process.stdout as output, log.open("wb", buffering=0) as file, selectors.DefaultSelector() as ready:
        ready.register(output, selectors.EVENT_READ)
        ready.register(ended, selectors.EVENT_READ)
        pump = _Pump(ready, file, echo)
        try:
            in_time = pump.until_end(timeout_s, halted)
            if not in_time:
                _signal(process, signal.SIGTERM)
                pump.until_end(GRACE_S)
        except KeyboardInterrupt:
            _signal(process, signal.SIGINT)  # so that tests can tidy up; a second Ctrl-C ends them at once
            pump.until_end(GRACE_S)
            raise
        finally:
            _signal(process, signal.SIGKILL)
            waiter.join()
            ready.unregister(ended)
            os.close(ended)
            pump.until_end(1.0)  # what is still in the pipe; somebody who left the group may hold it open
            pump.flush()
    return process.returncode, not in_time


class _Pump:
    """Passes a command's output on to its log, and by line to `echo`."""

    def __init__(self, ready: selectors.BaseSelector, log: IO[bytes], echo: Callable[[str], None] | None) -> None:
        self.ready, self.log, self.echo = ready, log, echo
        self.rest = b""

    def until_end(self, limit_s: float, halted: Callable[[], bool] | None = None) -> bool:
        """True once the command has ended or all pipes are closed, False after `limit_s`.

        Raises KeyboardInterrupt once `halted` says so.
        """
        import time

        until = time.monotonic() + limit_s
        while self.ready.get_map():
            left = until - time.monotonic()
            if left <= 0:
                return False
            if halted and halted():
                raise KeyboardInterrupt
            for key, _ in self.ready.select(min(left, 0.1) if halted else left):
                if isinstance(key.fileobj, int):  # the pipe that is closed when the command has ended
                    return True
                if data := os.read(key.fd, 65536):
                    self.log.write(data)
                    *lines, self.rest = (self.rest + data).split(b"\n")
                    self._show(lines)
                else:
                    self.ready.unregister(key.fileobj)
        return True

    def flush(self) -> None:
        self._show([self.rest] if self.rest else [])

    def _show(self, lines: list[bytes]) -> None:
        if self.echo:
            for line in lines:
                self.echo(line.decode(errors="replace").rstrip("\r"))


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    import contextlib

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class _Bad(NamedTuple):
    failures: int = 0
    errors: int = 0

    def and_also(self, other: _Bad) -> _Bad:
        return _Bad(self.failures + other.failures, self.errors + other.errors)

    def believing(self, claimed: _Bad) -> _Bad:
        """At least as many as a suite's own attributes claim. mocha tells the same number as failures and as errors."""
        missing = max(0, max(claimed) - sum(self))
        return self.and_also(_Bad(failures=missing) if claimed.failures else _Bad(errors=missing))


def _read(file: Path) -> TestReport:
    reader = _Reader(str(file))
    _parse(file, reader)
    return reader.report()


def _parse(file: Path, reader: _Reader) -> None:
    from xml.parsers import expat

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.EntityDeclHandler = reader.entity
    if isinstance(reader, _Failures):
        parser.CharacterDataHandler = reader.text
    try:
        with file.open("rb") as opened:
            parser.ParseFile(opened)
    except expat.ExpatError as error:
        raise ValueError(f"{file} is not well-formed XML: {error}") from error
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error


class _Reader:
    """One file's elements as they come; a stack of suites, so that nesting of any depth costs no recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.tests = self.skipped = 0
        self.failed: list[str] = []
        self.path: list[str] = []
        self.suites: list[tuple[str, _Bad, _Bad]] = [("", _Bad(), _Bad())]  # name, claimed, counted
        self.case = self.outcome = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition("}")[2]
        within = self.path[-1] if self.path else ""
        if not within and tag not in ("testsuites", "testsuite"):
            raise ValueError(f"{self.file} is not a JUnit report: it begins with <{tag}>")
        self.path.append(tag)
        match tag:
            case "testsuites" | "testsuite":
                claimed = _Bad(self._number(attributes, "failures"), self._number(attributes, "errors"))
                self.suites.append((attributes.get("name", ""), claimed, _Bad()))
            case "testcase":
                named = (attributes.get("classname"), attributes.get("name"))
                self.case = " ".join(filter(None, named)) or "a nameless test"
                unrun = attributes.get("status", "").lower() in ("notrun", "disabled", "skipped")
                self.outcome = "skipped" if unrun else ""
            case "failure" | "error" if within == "testcase":
                self.outcome = self.outcome if self.outcome in ("failure", "error") else tag
            case "failure" | "error" if within == "testsuite":  # before or after all of its tests
                self._bad(tag, f"the suite {self.suites[-1][0]} itself")
            case "skipped" if within == "testcase":
                self.outcome = self.outcome or tag

    def end(self, _: str) -> None:
        match self.path.pop():
            case "testcase":
                self.tests += 1
                self.skipped += self.outcome == "skipped"
                if self.outcome in ("failure", "error"):
                    self._bad(self.outcome, self.case)
            case "testsuites" | "testsuite":
                _, claimed, counted = self.suites.pop()
                name, above, so_far = self.suites[-1]
                self.suites[-1] = name, above, so_far.and_also(counted.believing(claimed))

    def entity(self, *_: object) -> None:
        raise ValueError(f"{self.file} defines XML entities, which no JUnit report needs: refused")

    def report(self) -> TestReport:
        _, _, total = self.suites[0]
        return TestReport(
            tests=self.tests,
            failures=total.failures,
            errors=total.errors,
            skipped=self.skipped,
            failed=tuple(self.failed[:SHOWN]),
            files=(self.file,),
        )

    def _bad(self, kind: str, name: str) -> None:
        suite, claimed, counted = self.suites[-1]
        self.suites[-1] = suite, claimed, counted.and_also(_Bad(int(kind == "failure"), int(kind == "error")))
        self.failed.append(name)

    def _number(self, attributes: dict[str, str], name: str) -> int:
        text = attributes.get(name, "").strip()
        if text and not text.isdecimal():
            raise ValueError(f"{self.file} has {name}={text!r}, which is not a number")
        return int(text or 0)


class _Failures(_Reader):
    """The same, with what each failed test says and where it may lie."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.found: list[Failure] = []
        self.attributes: dict[str, str] = {}
        self.said: list[str] | None = None
        self.told = False  # a test that failed may tell of errors, too
        self.message = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        super().start(tag, attributes)
        match tag.rpartition("}")[2]:
            case "testcase" | "testsuite":
                self.attributes, self.told = attributes, False
            case "failure" | "error" if self.said is None and not (self.told and "testcase" in self.path):
                self.said, self.message = [], attributes.get("message", "")

    def text(self, said: str) -> None:
        if self.said is not None:
            self.said.append(said)

    def end(self, tag: str) -> None:
        if self.said is not None and tag.rpartition("}")[2] in ("failure", "error"):
            text = "".join(self.said).strip()
            name = self.case if "testcase" in self.path else f"the suite {self.suites[-1][0]} itself"
            failure = Failure(name=name, message=self.message or text, places=_places(self.attributes, text))
            self.found.append(failure)
            self.said, self.told = None, "testcase" in self.path
        super().end(tag)


def _places(attributes: Mapping[str, str], text: str) -> tuple[tuple[str, int | None], ...]:
    """Where a failed test may lie: in the files its traceback or stack names, or as its attributes have it."""
    import re

    declared, line = attributes.get("file", ""), attributes.get("line", "")
    stack = [(file, int(number)) for file, number in re.findall(r"((?:[\w.@+-]*/)*[\w.@+-]+\.\w+):(\d+)", text)]
    own = [each for each in stack if not declared or each[0].endswith(declared)]
    # pytest counts lines from 0; the traceback is exact, so it comes first.
    places = [*reversed(own), *([(declared, int(line) + 1 if line.isdecimal() else None)] if declared else [])]
    module = attributes.get("classname", "").split(".")
    places += [("/".join(module[:end]) + ".py", None) for end in range(len(module), 0, -1) if module[0]]
    return tuple(dict.fromkeys(places))
