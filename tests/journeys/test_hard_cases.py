"""Sequences that go wrong in a simpler tool: reverts after failures, rivals after crashes, unproved builds."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from pointsman.aws.operation import Transport
from tests.journeys.conftest import Shop
from tests.journeys.test_bad_luck import KILLED, killed, zipped
from tests.journeys.test_cloudformation import own, template


def settle(shop: Shop) -> None:
    shop.aws("lambda").get_waiter("function_updated_v2").wait(FunctionName=shop.name, WaiterConfig={"Delay": 0.05})


def memory(shop: Shop, qualifier: str) -> int:
    client = shop.aws("lambda")
    return int(client.get_function_configuration(FunctionName=shop.name, Qualifier=qualifier)["MemorySize"])


def test_a_template_reverted_after_a_failed_deploy_is_applied_again(tested: Shop) -> None:
    """The stack was changed, then the tests failed. What the ledger remembers of the stack must not be the old one."""
    text = (tested.folder / "pointsman.toml").read_text()
    gates = text[text.index("[function.greeting.test]") : text.index("[environment.staging]")]
    tested.write("stack.json", template(name=tested.name))
    own(tested, "Greeter")
    changed = (tested.folder / "pointsman.toml").read_text()
    tested.write("pointsman.toml", changed.replace("[environment.staging]", f"{gates}\n[environment.staging]"))
    tested.ok("deploy", "--build-id", "101")

    tested.write("stack.json", template(name=tested.name, memory=256))
    tested.greet("bad")
    assert tested.run("deploy", "--build-id", "102").code == 3

    tested.write("stack.json", template(name=tested.name))
    tested.greet("good again")
    tested.ok("deploy", "--build-id", "103")

    assert memory(tested, "STAGE") == 128


def test_a_stand_in_that_changes_in_the_template_does_not_replace_the_code(shop: Shop) -> None:
    shop.write("stack.json", template(name=shop.name))
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")

    shop.write("stack.json", template(name=shop.name).replace("stand-in", "another stand-in"))
    shop.ok("deploy", "--build-id", "102")

    assert shop.invoke("STAGE")["word"] == "hello"


def test_resume_does_not_go_over_what_somebody_deployed_since_the_crash(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("interrupted")
    killed(shop, "after", 2, "SIGKILL", "deploy", "--build-id", "102")
    client = shop.aws("lambda")
    settle(shop)
    client.update_function_code(FunctionName=shop.name, ZipFile=zipped("theirs"))
    settle(shop)
    theirs = client.publish_version(FunctionName=shop.name, Description="theirs")["Version"]
    client.update_alias(FunctionName=shop.name, Name="STAGE", FunctionVersion=theirs)

    lost = shop.run("resume")

    assert lost.code == 4
    assert "somebody else went on" in lost.err
    assert shop.serves("STAGE") == theirs


def test_settings_changed_after_the_tests_are_not_published_untested(tested: Shop) -> None:
    tested.ok("deploy", "--build-id", "101")
    client = tested.aws("lambda")
    client.update_function_configuration(FunctionName=tested.name, MemorySize=256)
    settle(tested)
    text = (tested.folder / "pointsman.toml").read_text()
    against = text.replace('junit = "report.xml"', 'junit = "report.xml", against = "latest"')
    tested.write("pointsman.toml", against.replace(", memory = 128", ""))

    class Meddled:
        """Between the tests on $LATEST and the publish somebody raises the memory."""

        def __init__(self, inner: Transport) -> None:
            self.inner = inner
            self.reads = 0

        def send(self, operation: Any) -> Any:
            self.reads += operation.action == "GetFunction"
            if self.reads == 2 and operation.action == "GetFunction":
                client.update_function_configuration(FunctionName=tested.name, MemorySize=512)
                settle(tested)
            return self.inner.send(operation)

    lost = tested.run("deploy", "--build-id", "102", wrap=Meddled)

    assert lost.code == 4, lost.out + lost.err
    assert memory(tested, "STAGE") == 128


def test_a_build_whose_tests_failed_cannot_be_promoted(tested: Shop) -> None:
    tested.ok("deploy", "--build-id", "101")
    tested.greet("bad")
    assert tested.run("deploy", "--build-id", "102").code == 3

    for name in ("102", "2"):
        refused = tested.run("promote", name, "--to", "PROD", "--approve")
        assert refused.code == 3
        assert "did not pass its integration tests" in refused.err
    assert tested.serves("PROD") is None


def test_a_rollback_right_after_a_killed_deploy_knows_what_that_did(shop: Shop) -> None:
    for number in (1, 2):
        shop.greet(f"word {number}")
        shop.ok("deploy", "--build-id", f"b{number}")
    shop.greet("word 3")
    calls = 0
    while shop.serves("STAGE") == "2":  # killed after each call in turn, until it dies right after its move
        killed(shop, "after", calls, "SIGKILL", "deploy", "--build-id", "b3")
        calls += 1
    assert shop.serves("STAGE") == "3"

    shop.ok("rollback", "STAGE")

    assert shop.invoke("STAGE")["word"] == "word 2"
    assert shop.ok("resume").out == "Nothing to resume: every run ended.\n"


def test_a_resume_that_is_refused_can_be_tried_again(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    killed(shop, "before", 2, "SIGKILL", "promote", "101", "--to", "PROD", "--approve")

    assert shop.run("resume").code == 3
    shop.ok("resume", "--approve")

    assert shop.serves("PROD") == "1"


def test_status_works_while_a_deploy_is_under_way(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    seen = []

    class Looking:
        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            if operation.action == "UpdateFunctionCode":
                command = [sys.executable, "-m", "pointsman", "status"]
                done = subprocess.run(command, cwd=shop.folder, capture_output=True, text=True, check=False)
                seen.append(done)
            return self.inner.send(operation)

    shop.ok("deploy", "--build-id", "102", wrap=Looking)

    assert seen[0].returncode == 0, seen[0].stderr
    assert "deploy to STAGE is under way" in seen[0].stdout


def test_two_environments_with_one_alias_are_told_apart(shop: Shop) -> None:
    text = (shop.folder / "pointsman.toml").read_text()
    more = '\n[environment.overseas]\nalias = "STAGE"\nregion = "us-east-1"\n'
    shop.write("pointsman.toml", text.replace('alias = "STAGE"', 'alias = "STAGE"\nregion = "eu-west-1"') + more)

    unclear = shop.run("rollback", "STAGE")

    assert unclear.code == 2
    assert "staging, overseas" in unclear.err
    shop.ok("deploy", "--to", "staging", "--build-id", "101")


def test_a_deploy_to_an_environment_with_a_rollout_does_not_move_all_traffic_silently(shop: Shop) -> None:
    shop.configure(more='rollout = { steps = [10, 50], bake = "1m" }\n')
    shop.ok("deploy", "--to", "PROD", "--approve")  # nothing is before it
    shop.write("index.py", "def handler(event, context):\n    return 'changed'\n")

    told = shop.ok("plan", "--to", "PROD").out
    assert "10 %" in told

    shop.ok("deploy", "--to", "PROD", "--approve", "--all-at-once")
    assert shop.serves("PROD") == "2"


def test_no_value_of_a_variable_reaches_the_ledger(shop: Shop) -> None:
    provision = (
        f'{{ with = "direct", name = "{shop.name}", role = "{shop.role}", environment = {{ TOKEN = "s3cr3t-value" }} }}'
    )
    shop.configure(provision=provision)
    shop.write("p.plan", "an older one, that everybody may read")
    shop.ok("plan", "--build-id", "101", "--out", "p.plan")
    shop.ok("apply", "p.plan")

    assert (shop.folder / "p.plan").stat().st_mode & 0o077 == 0
    with sqlite3.connect(shop.folder / ".pointsman" / "local" / "ledger.db") as db:
        assert "s3cr3t-value" not in str(db.execute("SELECT * FROM entries").fetchall())


def test_a_new_function_needs_a_runtime_and_a_handler(shop: Shop) -> None:
    """Lambda says so of no function in particular, and only after others of the release were published."""
    text = (shop.folder / "pointsman.toml").read_text()
    lines = [each for each in text.splitlines() if not each.startswith(("runtime", "handler"))]
    shop.write("pointsman.toml", "\n".join(lines))

    told = shop.run("--json", "deploy")

    assert told.code == 1
    for key in ("runtime", "handler"):
        assert f"function.greeting.{key}: greeting is not on AWS yet, and cannot be created without a {key}" in told.out
    assert told.calls[1] == 0


def test_a_variable_of_a_failed_deploy_is_removed_with_its_declaration(tested: Shop) -> None:
    def provision(variables: str) -> str:
        settings = f'name = "{tested.name}", role = "{tested.role}", environment = {{ {variables} }}'
        return f'{{ with = "direct", {settings} }}'

    text = (tested.folder / "pointsman.toml").read_text()
    line = next(each for each in text.splitlines() if each.startswith("provision"))

    def declare(variables: str) -> None:
        tested.write("pointsman.toml", text.replace(line, f"provision = {provision(variables)}"))

    declare('KEPT = "1"')
    tested.ok("deploy", "--build-id", "101")
    declare('KEPT = "1", TRIED = "1"')
    tested.greet("bad")
    assert tested.run("deploy", "--build-id", "102").code == 3
    declare('KEPT = "1"')
    tested.greet("good")
    tested.ok("deploy", "--build-id", "103")

    found = tested.aws("lambda").get_function_configuration(FunctionName=tested.name, Qualifier="STAGE")
    assert found["Environment"]["Variables"] == {"KEPT": "1"}


def test_a_clean_commit_is_the_build_id_and_a_changed_tree_is_marked(shop: Shop) -> None:
    def git(*words: str) -> str:
        settings = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        done = subprocess.run(["git", *settings, *words], cwd=shop.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    sha = git("rev-parse", "--short", "HEAD")

    assert shop.ok("deploy", "--json").result[0]["build"] == sha
    assert git("status", "--porcelain") == ""
    shop.greet("changed")
    assert shop.ok("deploy", "--json").result[0]["build"].startswith(f"{sha}-")


@pytest.mark.parametrize("words", [("promote", "101", "--to", "PROD"), ("rollback", "STAGE", "--to", "101")])
def test_an_applied_move_that_was_killed_is_resumed(shop: Shop, words: tuple[str, ...]) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.ok("plan", *words, "--out", "p.plan")

    killed(shop, "before", 0, "SIGKILL", "apply", "p.plan", "--approve")
    shop.ok("resume", "--approve")

    assert shop.serves("PROD" if words[0] == "promote" else "STAGE") == "1"


def test_a_second_function_can_be_added_to_a_stack_that_is_there(shop: Shop) -> None:
    shop.write("stack.json", template(name=shop.name))
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    two = json.loads(template(name=shop.name))
    two["Resources"]["Second"] = json.loads(template(name=f"{shop.name}-2"))["Resources"]["Greeter"]
    shop.write("stack.json", json.dumps(two))
    own(shop, "Second")

    done = shop.ok("deploy", "--build-id", "102", "--json")

    assert done.result[0]["name"] == f"{shop.name}-2"


def test_a_function_the_template_does_not_mention_is_refused_before_anything_changes(shop: Shop) -> None:
    shop.write("stack.json", template(name=shop.name))
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    shop.write("stack.json", template(name=shop.name).replace("Greeter", "Renamed"))

    refused = shop.run("deploy", "--build-id", "102", "--allow-replace")

    assert refused.code == 2
    assert "does not mention Greeter" in refused.err
    assert shop.serves("STAGE") == "1"


def test_a_sound_ledger_is_not_thrown_away_unasked(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")

    refused = shop.run("history", "--rebuild")
    assert refused.code == 2
    assert "--force" in refused.err
    shop.ok("history", "--rebuild", "--force")


@pytest.mark.parametrize(
    "words",
    [
        ("deploy", "--wait", "abc"),
        ("promote",),
        ("local",),
        ("deplyo",),
        ("local", "up", "--port", "99999"),
        ("plan", "--out", "/nonexistent/folder/x"),
        ("promote", "99", "--to", "PROD"),
        ("rollback", "STAGE", "--to", "99"),
    ],
)
def test_wrong_usage_is_one_json_document_too(shop: Shop, words: tuple[str, ...]) -> None:
    shop.ok("deploy", "--build-id", "101")

    answer = shop.run(*words, "--json")

    assert answer.code == 2
    assert answer.document["ok"] is False
    assert answer.document["error"]["what"]
    assert "_positive" not in answer.out


def test_sigterm_ends_a_deploy_as_ctrl_c_does_and_its_tests_with_it(shop: Shop) -> None:
    import signal
    import time

    shop.write("slow.py", "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(120)")
    shop.configure(
        test=f"""[function.greeting.test]
unit = {{ run = "{sys.executable} slow.py" }}"""
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pointsman", "deploy"],
        cwd=shop.folder,
        env={**os.environ, **shop.variables},
        stderr=subprocess.PIPE,
        text=True,
    )
    written = shop.folder / "pid"
    deadline = time.monotonic() + 100
    while not (written.exists() and written.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _out, err = process.communicate(timeout=100)

    assert process.returncode == 130
    assert "interrupted" in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(written.read_text()), 0)


def test_a_build_whose_tests_were_cut_short_cannot_be_promoted(tested: Shop) -> None:
    tested.ok("deploy", "--build-id", "101")
    text = (tested.folder / "pointsman.toml").read_text()
    tested.write("pointsman.toml", text.replace(f"{sys.executable} check.py", "kill -9 $PPID; sleep 30"))
    tested.greet("unproved")
    dead = killed(tested, "never", 0, "SIGKILL", "deploy", "--build-id", "102")
    assert dead.returncode != 0
    tested.write("pointsman.toml", text)

    refused = tested.run("promote", "2", "--to", "PROD", "--approve")
    assert refused.code == 3
    assert "never had its integration tests run" in refused.err

    tested.ok("resume")
    tested.ok("promote", "2", "--to", "PROD", "--approve")


@pytest.mark.parametrize("against", ["latest", "version"])
def test_a_proved_build_can_be_promoted_whatever_it_was_proved_against(tested: Shop, against: str) -> None:
    text = (tested.folder / "pointsman.toml").read_text()
    tested.write("pointsman.toml", text.replace('junit = "report.xml"', f'junit = "report.xml", against = "{against}"'))
    tested.ok("deploy", "--build-id", "101")

    tested.ok("promote", "101", "--to", "PROD", "--approve")


def test_rolling_back_to_what_an_alias_never_served_is_a_promotion(tested: Shop) -> None:
    for word in ("one", "two"):
        tested.greet(word)
        tested.ok("deploy", "--build-id", word)
    tested.ok("promote", "two", "--to", "PROD", "--approve")
    tested.greet("bad")
    assert tested.run("deploy", "--build-id", "bad").code == 3

    assert tested.run("rollback", "PROD", "--to", "bad").code == 3
    unsigned = tested.run("rollback", "PROD", "--to", "one")
    assert unsigned.code == 3
    assert "wants an approval" in unsigned.err
    tested.ok("rollback", "PROD", "--to", "one", "--approve")
    tested.ok("rollback", "PROD", "--to", "two")


@pytest.mark.parametrize("more", [(), ("--to", "101")])
def test_a_planned_rollback_can_be_applied(shop: Shop, more: tuple[str, ...]) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.ok("plan", "rollback", "STAGE", *more, "--out", "p.plan")

    shop.ok("apply", "p.plan")

    assert shop.serves("STAGE") == "1"


def test_resume_goes_on_with_the_functions_that_were_still_to_come(shop: Shop) -> None:
    text = (shop.folder / "pointsman.toml").read_text()
    section = text[: text.index("[environment.staging]")]
    second = section.replace("greeting]", "second]").replace(shop.name, f"{shop.name}-2")
    shop.write("pointsman.toml", section + second + text[text.index("[environment.staging]") :])
    killed(shop, "before", 2, "SIGKILL", "deploy", "--build-id", "101")

    done = shop.ok("resume", "--json").result

    assert [each["function"] for each in done] == ["greeting", "second"]


def test_a_dead_process_that_nobody_reaped_is_not_under_way(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), "before", "2", "SIGKILL", "deploy", "--build-id", "102"]
    zombie = subprocess.Popen(command, cwd=shop.folder, env={**os.environ, **shop.variables})
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # dead, and left unreaped

    shop.ok("resume")

    zombie.wait()
    assert shop.serves("STAGE") == "2"


def test_what_was_approved_is_not_asked_again(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.ok("promote", "101", "--to", "PROD", "--approve")
    calls = sum(shop.ok("promote", "101", "--to", "PROD", "--approve", "--json").calls)

    killed(shop, "before", calls, "SIGKILL", "promote", "102", "--to", "PROD", "--approve")  # before it is moved
    assert shop.serves("PROD") == "1"
    refused = shop.run("promote", "102", "--to", "PROD")  # another command is another approval
    shop.ok("resume")

    assert refused.code == 3
    assert shop.serves("PROD") == "2"
