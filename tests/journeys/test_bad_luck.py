"""What bad input and bad luck get: a clear error, the documented exit code, and nothing lost or overwritten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pointsman.aws.operation import Transport
from pointsman.aws.transports import Faults
from pointsman.errors import Throttled
from tests.journeys.conftest import Answer, Shop


def test_no_credentials(shop: Shop) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        shop.variables.pop(name, None)

    answer = shop.run("deploy")

    assert answer.code == 1
    assert "Unable to locate credentials" in answer.err
    assert "AWS_PROFILE" in answer.err


def test_a_profile_that_does_not_exist(shop: Shop) -> None:
    shop.variables["AWS_PROFILE"] = "no-such-profile"

    answer = shop.run("status")

    assert answer.code == 1
    assert "no-such-profile" in answer.err


def test_a_function_that_is_missing(shop: Shop) -> None:
    shop.configure(provision=f'{{ with = "existing", name = "{shop.name}" }}')

    answer = shop.run("deploy")

    assert answer.code == 1
    assert f"there is no function {shop.name} in eu-west-1" in answer.err


@pytest.mark.parametrize("words", [("deploy",), ("promote", "101", "--to", "PROD", "--approve"), ("rollback", "STAGE")])
def test_another_account_than_declared_is_refused_before_the_first_write(shop: Shop, words: tuple[str, ...]) -> None:
    """The ARN of the first thing looked at tells whose credentials these are, without a call of its own."""
    shop.ok("deploy", "--build-id", "101")
    text = (shop.folder / "pointsman.toml").read_text()
    for alias in ('alias = "STAGE"', 'alias   = "PROD"'):
        text = text.replace(alias, f'{alias}\naccount = "123456789012"')
    shop.write("pointsman.toml", text)
    shop.greet("two")

    class OfAnotherAccount:
        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            def read(reply: Any) -> Any:
                said = json.dumps({k: v for k, v in reply.items() if k != "ResponseMetadata"}, default=str)
                return operation.read(json.loads(said.replace("123456789012", "210987654321")))

            return self.inner.send(operation._replace(read=read))

    refused = shop.run(*words, "--json", wrap=OfAnotherAccount)

    assert refused.code == 1
    assert refused.document["error"]["code"] == "account_mismatch"
    assert "210987654321" in refused.document["error"]["what"]
    assert refused.calls[1] == 0


def test_a_rehearsal_acts_in_the_declared_account(shop: Shop) -> None:
    """The local AWS keeps accounts apart: an environment in another one starts from nothing there."""
    text = (shop.folder / "pointsman.toml").read_text()
    shop.write("pointsman.toml", text.replace('alias = "STAGE"', 'alias = "STAGE"\naccount = "210987654321"'))
    text = (shop.folder / "pointsman.toml").read_text()
    shop.write("pointsman.toml", text.replace("123456789012:role", "210987654321:role"))

    answer = shop.run("deploy", "--build-id", "101")

    # There is no such role in that account: what AWS says of it, and nothing in the account of the others.
    assert answer.code == 1
    assert "role" in answer.err
    assert shop.name not in str(shop.aws("lambda").list_functions())


def test_a_package_that_is_too_large_is_refused_before_any_call(shop: Shop) -> None:
    (shop.folder / "noise.bin").write_bytes(os.urandom(54_000_000))

    answer = shop.run("deploy", "--json")

    assert answer.code == 1
    assert "bucket" in answer.document["error"]["next"] + answer.document["error"]["what"]
    assert answer.calls == (0, 0)


def test_a_large_package_goes_through_the_bucket_once(shop: Shop) -> None:
    (shop.folder / "noise.bin").write_bytes(os.urandom(54_000_000))
    shop.aws("s3").create_bucket(
        Bucket=f"packages-{shop.name}", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    text = (shop.folder / "pointsman.toml").read_text()
    shop.write("pointsman.toml", text.replace('alias = "STAGE"', f'alias = "STAGE"\nbucket = "packages-{shop.name}"'))

    shop.ok("deploy", "--build-id", "101")

    assert shop.invoke("STAGE")["word"] == "hello"
    assert len(shop.aws("s3").list_objects_v2(Bucket=f"packages-{shop.name}")["Contents"]) == 1


def test_a_package_over_250_mb_unzipped_is_refused_before_any_call(shop: Shop) -> None:
    with zipfile.ZipFile(shop.folder / "huge.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.py", "def handler(event, context): return 1\n")
        archive.writestr("zeros.bin", bytes(262_144_000))
    text = (shop.folder / "pointsman.toml").read_text()
    shop.write("pointsman.toml", text.replace('build     = "python"', 'build = "zip"\nartifact = "huge.zip"'))

    answer = shop.run("deploy", "--json")

    assert answer.code == 1
    assert "262,144,000" in answer.document["error"]["what"] or "250 MB" in answer.document["error"]["what"]
    assert answer.calls == (0, 0)


@pytest.mark.parametrize("alias", ["feature/x", "2024", "a b", "x" * 129, ""])
def test_illegal_alias_names_are_found_in_the_file(shop: Shop, alias: str) -> None:
    text = (shop.folder / "pointsman.toml").read_text()
    shop.write("pointsman.toml", text.replace('alias = "STAGE"', f'alias = "{alias}"'))

    answer = shop.run("status")

    assert answer.code == 2
    assert "environment.staging.alias" in answer.err


def test_two_deployers_at_once_one_wins_and_the_other_says_so(shop: Shop) -> None:
    """Both look, then both write: what the slower one saw is no longer so, and it must not overwrite."""
    shop.ok("deploy", "--build-id", "101")
    shop.greet("slow")
    client = shop.aws("lambda")
    met = threading.Event()

    class Overtaken:
        """Between the slow deployer's look and its first write, somebody else uploads other code."""

        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            if operation.action == "UpdateFunctionCode" and not met.is_set():
                met.set()
                client.update_function_code(FunctionName=shop.name, ZipFile=zipped("theirs"))
                client.get_waiter("function_updated_v2").wait(FunctionName=shop.name, WaiterConfig={"Delay": 0.05})
            return self.inner.send(operation)

    slow = shop.run("deploy", "--build-id", "102", wrap=Overtaken)

    assert slow.code == 4
    assert "Nothing was overwritten" in slow.err or "Nothing of theirs was overwritten" in slow.err
    assert client.get_function(FunctionName=shop.name)["Configuration"]["CodeSha256"] != ""
    assert shop.serves("STAGE") == "1"
    assert shop.versions() == ["1"]


@pytest.mark.parametrize("action", ["PublishVersion", "UpdateAlias"])
def test_whoever_is_overtaken_later_publishes_nothing_of_theirs_and_moves_nothing(shop: Shop, action: str) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("slow")
    client = shop.aws("lambda")
    met = threading.Event()

    class Overtaken:
        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            if operation.action == action and not met.is_set():
                met.set()
                if action == "PublishVersion":
                    client.update_function_code(FunctionName=shop.name, ZipFile=zipped("theirs"))
                    waiter = client.get_waiter("function_updated_v2")
                    waiter.wait(FunctionName=shop.name, WaiterConfig={"Delay": 0.05})
                else:
                    client.update_alias(FunctionName=shop.name, Name="STAGE", Description="theirs")
            return self.inner.send(operation)

    slow = shop.run("deploy", "--build-id", "102", wrap=Overtaken)

    assert slow.code == 4
    assert shop.serves("STAGE") == "1"
    alias = shop.alias("STAGE")
    assert alias is not None
    assert alias["Description"] == ("101" if action == "PublishVersion" else "theirs")
    assert shop.versions() == (["1"] if action == "PublishVersion" else ["1", "2"])


def test_an_alias_somebody_creates_meanwhile_is_not_overwritten(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    client = shop.aws("lambda")

    class Overtaken:
        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            if operation.action == "CreateAlias":
                client.create_alias(FunctionName=shop.name, Name="PROD", FunctionVersion="1")
            return self.inner.send(operation)

    slow = shop.run("promote", "102", "--to", "PROD", "--approve", wrap=Overtaken)

    assert slow.code == 4
    assert "somebody else created alias PROD" in slow.err
    assert shop.serves("PROD") == "1"


def test_two_processes_deploying_at_once_leave_what_one_of_them_meant(shop: Shop) -> None:
    """Two checkouts, two ledgers, one function: whoever loses says so, and the alias serves one whole build."""
    shop.ok("deploy", "--build-id", "first")
    folders = []
    for word in ("red", "blue"):
        folder = shop.folder.parent / word
        folder.mkdir()
        (folder / "pointsman.toml").write_text((shop.folder / "pointsman.toml").read_text())
        (folder / "index.py").write_text(f"def handler(event, context):\n    return {{'word': '{word}'}}\n")
        folders.append(folder)
    command = [sys.executable, "-m", "pointsman", "deploy", "--build-id"]
    started = [
        subprocess.Popen(
            [*command, folder.name],
            cwd=folder,
            env={**os.environ, **shop.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    ended = [(process, *process.communicate(timeout=120)) for process in started]

    codes = sorted(process.returncode for process, _out, _err in ended)
    assert codes in ([0, 0], [0, 4]), ended
    alias = shop.alias("STAGE")
    assert alias is not None
    word = shop.invoke("STAGE")["word"]
    assert alias["Description"] == word
    if codes == [0, 4]:
        (winner,) = [process for process, _out, _err in ended if process.returncode == 0]
        assert word == folders[started.index(winner)].name
        (loser,) = [err for process, _out, err in ended if process.returncode == 4]
        assert "somebody else" in loser or "revision" in loser.lower()


FULL = """
    import resource, signal, sys
    from pointsman.cli import main

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.exit(main(sys.argv[2:]))
"""


def test_a_disk_that_fills_up_in_the_middle_of_a_deploy(shop: Shop) -> None:
    """No file may grow past a limit: the ledger meets what it meets on a full disk, at one point after another."""
    shop.ok("deploy", "--build-id", "first")
    failed = 0
    for limit in (20_000, 40_000, 60_000, 80_000, 100_000, 140_000, 180_000):
        shop.greet(f"limit {limit}")
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(FULL), str(limit), "deploy", "--build-id", f"b{limit}"],
            cwd=shop.folder,
            env={**os.environ, **shop.variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            failed += 1
            assert done.returncode == 1, done.stderr
            assert "ledger" in done.stderr
            assert "Traceback" not in done.stderr
            resumed = shop.run("resume")
            assert resumed.code == 0, resumed.err
            shop.ok("deploy", "--build-id", f"b{limit}")
        assert shop.invoke("STAGE")["word"] == f"limit {limit}"
    assert failed >= 2


def test_throttling_is_waited_out_and_never_shown(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")

    def wrap(inner: Transport) -> Transport:
        return Faults(inner, before=lambda n, _action: Throttled("Rate exceeded") if n % 3 else None)

    answer = shop.ok("deploy", "--build-id", "102", wrap=wrap)

    assert answer.err == ""
    assert shop.serves("STAGE") == "2"


def test_a_file_that_is_not_toml_is_named_with_its_line(shop: Shop) -> None:
    shop.write("pointsman.toml", "[function.greeting\nsource = 1\n")

    answer = shop.run("deploy")

    assert answer.code == 2
    assert "pointsman.toml" in answer.err
    assert "line 1" in answer.err


def test_all_problems_of_a_file_come_at_once(shop: Shop) -> None:
    text = (shop.folder / "pointsman.toml").read_text()
    wrong = text.replace("handler", "handlr").replace('alias   = "PROD"', 'alias = "2024"')
    shop.write("pointsman.toml", wrong)

    answer = shop.run("deploy", "--json")

    problems = answer.document["error"]["problems"]
    assert answer.code == 2
    assert any("handlr" in line and "handler" in line for line in problems)
    assert any("environment.production.alias" in line for line in problems)


def test_a_corrupt_ledger_is_named_and_can_be_rebuilt(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    ledger = shop.folder / ".pointsman" / "local" / "ledger.db"
    for each in ledger.parent.glob("ledger.db-*"):
        each.unlink()
    ledger.write_bytes(b"\0garbage" * 4000)

    refused = shop.run("deploy", "--build-id", "103")
    assert refused.code == 1
    assert "history --rebuild" in refused.err

    rebuilt = shop.ok("history", "--rebuild", "--json").result
    assert rebuilt["versions"] == 2
    assert Path(rebuilt["set_aside"]).read_bytes().startswith(b"\0garbage")
    shop.ok("promote", "101", "--to", "PROD", "--approve")
    assert shop.serves("PROD") == "1"
    assert shop.ok("status", "--json").result[0]["aliases"][0]["build"] == "102"


def test_a_function_stuck_in_progress_is_waited_for_and_then_said(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")

    class Stuck:
        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            if operation.action != "GetFunction":
                return self.inner.send(operation)

            def read(reply: Any) -> Any:
                changed = {**reply["Configuration"], "LastUpdateStatus": "InProgress"}
                return operation.read({**reply, "Configuration": changed})

            return self.inner.send(operation._replace(read=read))

    from tests.fakes import FakeClock

    shop.greet("two")
    answer = shop.run("deploy", "--wait", "60", wrap=Stuck, clock=FakeClock())

    assert answer.code == 1
    assert "its update InProgress, after 60 s" in answer.err
    assert shop.versions() == ["1"]


def test_an_update_that_fails_is_told_with_awss_reason(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    updated = threading.Event()

    class Failing:
        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            if operation.action == "UpdateFunctionCode":
                updated.set()
            if operation.action != "GetFunction" or not updated.is_set():
                return self.inner.send(operation)

            def read(reply: Any) -> Any:
                changed = {
                    **reply["Configuration"],
                    "LastUpdateStatus": "Failed",
                    "LastUpdateStatusReason": "The KMS key is disabled.",
                }
                return operation.read({**reply, "Configuration": changed})

            return self.inner.send(operation._replace(read=read))

    answer = shop.run("deploy", "--build-id", "102", wrap=Failing)

    assert answer.code == 1
    assert "The KMS key is disabled." in answer.err
    assert shop.versions() == ["1"]


KILLED = """
    import os, signal, sys, threading
    from pointsman.cli import main

    when, number, how = sys.argv[1], int(sys.argv[2]), getattr(signal, sys.argv[3])
    count = 0

    class Killer:
        def __init__(self, inner):
            self.inner = inner
        def send(self, operation):
            global count
            mine, count = count, count + 1
            if when != "never" and how == signal.SIGKILL and mine > number:
                threading.Event().wait()  # sent by another thread, and not before death comes
            if when == "before" and mine == number:
                os.kill(os.getpid(), how)
            reply = self.inner.send(operation)
            if when == "after" and mine == number:
                os.kill(os.getpid(), how)
            return reply

    sys.exit(main(sys.argv[4:], wrap=Killer))
"""


def killed(shop: Shop, when: str, number: int, how: str, *words: str) -> subprocess.CompletedProcess[str]:
    shop.rest()
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), when, str(number), how, *words],
        cwd=shop.folder,
        env={**os.environ, **shop.variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_killed_at_any_call_resume_finishes(shop: Shop, how: str) -> None:
    """kill -9 and Ctrl-C, just before and just after each call of a deploy."""
    shop.ok("deploy", "--build-id", "b0")
    calls = sum(shop.ok("deploy", "--build-id", "b0", "--json").calls)
    assert calls == 2
    for number in range(6):
        for when in ("before", "after"):
            build = f"b-{how}-{number}-{when}"
            shop.greet(build)
            dead = killed(shop, when, number, how, "deploy", "--build-id", build)
            assert dead.returncode in ((-signal.SIGKILL,) if how == "SIGKILL" else (130, -signal.SIGINT))
            if how == "SIGINT" and dead.returncode == 130:
                assert "`pointsman resume` goes on" in dead.stderr

            shop.ok("resume")

            assert shop.invoke("STAGE")["word"] == build
            status = shop.ok("status", "--json").result[0]
            assert (status["aliases"][0]["build"], status["unfinished"]) == (build, "")


def test_a_killed_rollback_is_not_carried_out_twice(shop: Shop) -> None:
    """Asked again it would go back one deployment more; resumed it ends where it was going."""
    for number in (1, 2, 3):
        shop.greet(f"word {number}")
        shop.ok("deploy", "--build-id", f"b{number}")

    killed(shop, "after", 1, "SIGKILL", "rollback", "STAGE")
    assert shop.serves("STAGE") == "2"
    shop.ok("resume")

    assert shop.serves("STAGE") == "2"
    shop.ok("rollback", "STAGE")
    assert shop.serves("STAGE") == "1"


def test_somebody_elses_move_since_the_crash_is_not_overwritten_by_resume(shop: Shop) -> None:
    for number in (1, 2, 3):
        shop.greet(f"word {number}")
        shop.ok("deploy", "--build-id", f"b{number}")
    shop.ok("promote", "b1", "--to", "PROD", "--approve")
    killed(shop, "before", 2, "SIGKILL", "promote", "b2", "--to", "PROD", "--approve")
    shop.aws("lambda").update_alias(FunctionName=shop.name, Name="PROD", FunctionVersion="3")

    lost = shop.run("resume", "--approve")

    assert lost.code == 4
    assert shop.serves("PROD") == "3"


def test_a_run_under_way_in_another_process_is_not_resumed(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    stopped = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), "before", "3", "SIGSTOP", "deploy", "--build-id", "102"],
        cwd=shop.folder,
        env={**os.environ, **shop.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _pid, status = os.waitpid(stopped.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

        busy = shop.run("resume")
        assert busy.code == 4
        assert f"process {stopped.pid}" in busy.err
    finally:
        stopped.send_signal(signal.SIGCONT)
        stopped.communicate(timeout=120)
    assert shop.serves("STAGE") == "2"


def test_a_test_report_from_yesterday_does_not_count(tested: Shop) -> None:
    tested.ok("deploy", "--build-id", "101")
    tested.greet("two")
    text = (tested.folder / "pointsman.toml").read_text()
    tested.write("pointsman.toml", text.replace(f"{sys.executable} check.py", "true"))

    stale = tested.run("deploy", "--build-id", "102")

    assert stale.code == 3
    assert "report.xml" in stale.err
    assert tested.serves("STAGE") == "1"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ("<testsuite tests='0'></testsuite>", "no test"),
        ("<testsuite><testcase name='a'><skipped/></testcase></testsuite>", "skipped"),
        ("<testsuite><testcase name='is rude'><failure/></testcase></testsuite>", "is rude"),
        ("not xml", "report.xml"),
    ],
)
def test_a_report_that_proves_nothing_fails_the_gate(shop: Shop, report: str, said: str) -> None:
    shop.write("write.py", f"open('report.xml', 'w').write({report!r})")
    shop.configure(
        test=f"""[function.greeting.test]
unit = {{ run = "{sys.executable} write.py", junit = "report.xml" }}"""
    )

    answer = shop.run("deploy")

    assert answer.code == 3
    assert said in answer.err


def test_wrong_usage_is_exit_2_and_names_the_likely_command(shop: Shop) -> None:
    answer: Answer = shop.run("deplyo")
    assert answer.code == 2
    assert shop.run("promote", "101").code == 2
    assert shop.run("deploy", "--to", "PRDO").code == 2
    assert "PROD" in shop.run("deploy", "--to", "PRDO").err


def zipped(word: str) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.py", f"def handler(event, context):\n    return {json.dumps(word)}\n")
    return buffer.getvalue()
