"""The command line: parse → call the use case → show what it returned. No choices are made here.

`main` starts fast: it imports argparse, and what a command needs only once that command runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pointsman.aws.operation import Transport
    from pointsman.aws.transports import Clock


def main(
    arguments: Sequence[str],
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
    wrap: Callable[[Transport], Transport] | None = None,
    clock: Clock | None = None,
) -> int:
    """Run one command and return its exit code. `wrap` stands between it and AWS: there tests break calls."""
    from pointsman.cli import parser
    from pointsman.errors import UsageError

    out, err = out or sys.stdout, err or sys.stderr
    grammar = parser.build(parser.the_command(arguments))
    try:
        asked = parser.parse(grammar, arguments)
    except SystemExit as done:
        return int(done.code or 0)
    except UsageError as wrong:
        from pointsman.cli import terminal

        terminal.Screen(out=out, err=err, json="--json" in arguments, verbose=False).failed(wrong)
        return wrong.exit_code
    if asked.version:
        from pointsman import __version__

        print(f"pointsman {__version__}", file=out)
        return 0
    if asked.command is None:
        grammar.print_help(out)
        return 0
    from pointsman.cli import commands, terminal

    groups = os.environ.get("GITHUB_ACTIONS") == "true"
    screen = terminal.Screen(out=out, err=err, json=asked.json, verbose=asked.verbose, groups=groups)
    with _environment() as environ:
        try:
            code = commands.run(asked, screen, environ, wrap=wrap, clock=clock)
            out.flush()  # here, where what goes wrong can be told
        except BrokenPipeError:
            _close(out)
            return READER_GONE
        except OSError as error:
            _close(out)
            print(f"pointsman: the output could not be written: {error.strerror or error}", file=err)
            return 1
    return code


READER_GONE = 141
"""As the shell tells of a program that SIGPIPE ended: the reader (head, less) went away, and nothing is left to say."""


def _close(out: TextIO) -> None:
    """What is left in the buffer goes nowhere: Python would try again at exit, and fail with a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for each in (out, sys.stderr):
        with suppress(OSError, ValueError):
            if each is out or _broken(each):
                os.dup2(nowhere, each.fileno())


def _broken(stream: TextIO) -> bool:
    try:
        stream.flush()
    except OSError:
        return True
    return False


@contextmanager
def _environment() -> Iterator[Mapping[str, str]]:
    """The process's own variables, put back afterwards: `--local` points them at the local AWS for botocore to read."""
    before = dict(os.environ)
    try:
        yield os.environ
    finally:
        os.environ.clear()
        os.environ.update(before)
