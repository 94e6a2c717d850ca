"""How Terraform is run: what reaches it, and what is waited for."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pointsman.provision import terraform

PROGRAM = """#!/bin/sh
trap 'echo stopped > told; exit 1' INT
echo > ready
while :; do sleep 0.05; done
"""


def test_a_ctrl_c_that_came_to_another_thread_reaches_it_and_is_waited_for(tmp_path: Path) -> None:
    program = tmp_path / "terraform"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    work = terraform.Work(
        directory=tmp_path,
        binary=str(program),
        environ=dict(os.environ),
        alone=tmp_path / "lock",
        halted=(tmp_path / "ready").exists,
    )

    with pytest.raises(KeyboardInterrupt):
        terraform.show(work, tmp_path / "plan")

    assert (tmp_path / "told").read_text() == "stopped\n"


AT_ONCE = """#!/bin/sh
trap 'echo stopped >> told; exit 1' INT
kill -INT $PPID
while :; do sleep 0.05; done
"""


def test_a_ctrl_c_while_it_is_being_started_is_handed_on_too(tmp_path: Path) -> None:
    """Wherever it comes, in the start of the program or in the wait for it: nobody is left alone."""
    program = tmp_path / "terraform"
    program.write_text(AT_ONCE)
    program.chmod(0o755)
    work = terraform.Work(directory=tmp_path, binary=str(program), environ=dict(os.environ), alone=tmp_path / "lock")
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(20):
            with pytest.raises(KeyboardInterrupt):
                terraform.show(work, tmp_path / "plan")
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)

    assert (tmp_path / "told").read_text() == "stopped\n" * 20
