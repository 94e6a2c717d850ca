"""What a person at a terminal meets: a question, an answer, colour and progress; and what a pipe does not."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from pointsman.cli.terminal import Screen
from pointsman.model import gauge
from tests.journeys.conftest import Shop


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_takes_the_place_of_the_one_before_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    shown, piped = Terminal(), io.StringIO()
    for err, verbose in ((shown, False), (piped, True)):
        screen = Screen(out=io.StringIO(), err=err, json=False, verbose=verbose)
        for line in ("begun", gauge("uploading", 5, 20, 2.0), gauge("uploading", 20, 20, 8.0), "done"):
            screen.say(line)

    lines = shown.getvalue().splitlines()
    assert [line.startswith("\033[F\033[K") for line in lines] == [False, False, True, False]
    assert lines[1].endswith("uploading [#####...............] 25% of 20 B, 6 s left")
    assert lines[2].endswith("uploading [####################] 100% of 20 B")
    assert "\033" not in piped.getvalue()
    assert len(piped.getvalue().splitlines()) == 4


def at_a_terminal(shop: Shop, *words: str, answer: str = "") -> tuple[int, str]:
    """Run the command on a terminal of its own; type `answer` when it asks."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pointsman", *words],
        cwd=shop.folder,
        env={**os.environ, **shop.variables, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    )
    os.close(theirs)
    said = b""
    while True:
        ready, _, _ = select.select([ours], [], [], 60)
        assert ready, f"nothing more came after: {said!r}"
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not part:
            break
        said += part
        if said.endswith(b"[y/N] ") and answer:
            os.write(ours, f"{answer}\n".encode())
            answer = ""
    os.close(ours)
    return process.wait(timeout=120), said.decode()


def test_promote_asks_and_takes_no_for_an_answer(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")

    code, said = at_a_terminal(shop, "promote", "101", "--to", "PROD", answer="n")

    assert code == 3
    assert "Move PROD of greeting to version 1? [y/N]" in said
    assert shop.serves("PROD") is None


def test_promote_asks_and_writes_down_who_said_yes(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")

    code, said = at_a_terminal(shop, "promote", "101", "--to", "PROD", answer="y")

    assert code == 0, said
    assert shop.serves("PROD") == "1"
    approved = [line for line in shop.ok("history", "--json").result if line["kind"] == "approved"]
    assert approved[0]["facts"]["by"]
    assert approved[0]["at"] > 0


def test_a_terminal_sees_progress_and_a_bold_head(shop: Shop) -> None:
    code, said = at_a_terminal(shop, "deploy", "--build-id", "101")
    assert code == 0
    assert "published version 1" in said

    _code, table = at_a_terminal(shop, "status")
    assert "\033[1mALIAS" in table
    assert "\033[" not in shop.ok("status").out


def test_init_writes_a_file_that_a_deploy_can_use(shop: Shop) -> None:
    (shop.folder / "pointsman.toml").unlink()
    (shop.folder / "index.py").rename(shop.folder / "lambda_function.py")
    text = (shop.folder / "lambda_function.py").read_text().replace("def handler", "def lambda_handler")
    shop.write("lambda_function.py", text)

    answer = shop.ok("init", "--name", shop.name, "--role", shop.role)
    assert "wrote" in answer.out
    assert shop.run("init").code == 2

    shop.ok("deploy", "--build-id", "101")
    assert shop.invoke("STAGE")["word"] == "hello"


def test_config_explains_checks_and_has_a_schema(shop: Shop) -> None:
    assert "approve" in shop.ok("config", "explain", "environment.*.approve").out
    assert shop.ok("config", "check").out.endswith("greeting; 2 environments.\n")
    assert shop.ok("config", "schema", "--json").result["properties"]["function"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_there_is_completion(shop: Shop, shell: str) -> None:
    assert "rollback" in shop.ok("completion", shell).out


def test_version_and_help(shop: Shop) -> None:
    from pointsman import __version__

    assert shop.ok("--version").out == f"pointsman {__version__}\n"
    assert "exit codes:" in shop.ok().out


def test_python_dash_m_is_the_same_command(shop: Shop) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pointsman", "--version"], capture_output=True, text=True, check=True, cwd=shop.folder
    )
    script = subprocess.run(
        [str(Path(sys.executable).with_name("pointsman")), "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == script.stdout


def test_a_release_of_several_functions_is_a_table_redrawn_in_place_and_asks_once(shop: Shop) -> None:
    text = (shop.folder / "pointsman.toml").read_text()
    section = text[: text.index("[environment.staging]")] + '[function.greeting.test]\nunit = { run = "sleep 0.5" }\n'
    second = section.replace("function.greeting", "function.second").replace(shop.name, f"{shop.name}-2")
    rest = text[text.index("[environment.staging]") :].replace('"STAGE"', '"STAGE"\napprove = true')
    shop.write("pointsman.toml", section + second + rest)

    code, said = at_a_terminal(shop, "deploy", "--build-id", "101", answer="y")

    assert code == 0, said
    assert said.count("[y/N]") == 1
    assert "Move STAGE of greeting to version 1, STAGE of second to version 1? [y/N]" in said
    assert "\033[3F\033[J" in said  # up over the head and two functions
    for phase in ("building", "proved", "moved"):
        assert f" {phase}" in said, phase
    last = said.rsplit("\033[J", 1)[1].replace("\r", "").splitlines()
    assert [line.split()[0] for line in last] == ["\033[1mFUNCTION", "greeting", "second"]
    assert shop.serves("STAGE") == "1"


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("words", [("history",), ("status",), ("status", "--all"), ("versions",), ("--json", "status")])
def test_a_reader_that_went_away_or_a_full_disk_ends_it_in_words(shop: Shop, words: tuple[str, ...]) -> None:
    shop.ok("deploy", "--build-id", "101")
    environment = {**os.environ, **shop.variables}
    command = [sys.executable, "-m", "pointsman", *words]

    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does, only sooner
    with os.fdopen(writing, "w") as pipe:
        gone = subprocess.run(
            command, stdout=pipe, stderr=subprocess.PIPE, cwd=shop.folder, env=environment, check=False
        )
    assert (gone.returncode, gone.stderr) == (141, b"")

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, cwd=shop.folder, env=environment, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "pointsman: the output could not be written: No space left on device\n"
