"""Clearing up after branches that are gone: with a plan first, never more than that, and to the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Shop
from tests.journeys.test_any_call_fails import Disturbed, Fault, dead_after, lost
from tests.journeys.test_branches import branch, commit, git, repository
from tests.journeys.test_previews import furnished, policy, previewed

__all__ = ["repository"]  # the fixture


def gone(shop: Shop, name: str) -> None:
    git(shop.folder, "push", "-q", "origin", "--delete", name)


def aliases(shop: Shop) -> set[str]:
    return {each["Name"] for each in shop.aws("lambda").list_aliases(FunctionName=shop.name)["Aliases"]}


def test_a_branch_that_is_gone_takes_its_alias_its_preview_and_its_versions_along(repository: Shop) -> None:
    previewed(repository)
    commit(repository, "url")
    repository.ok("deploy", "--build-id", "1")
    branch(repository, "feature/x", "two")
    repository.ok("deploy", "--branch", "--build-id", "2")
    repository.greet("three")
    done = repository.ok("deploy", "--branch", "--build-id", "3", "--json").result[0]
    branch(repository, "other", "four")
    repository.ok("deploy", "--branch", "--build-id", "4")
    assert repository.versions() == ["1", "2", "3", "4"]
    assert (
        repository.ok("branch", "sync").out
        == "Nothing to clear up: of no branch that has an alias it is known that it is gone.\n"
    )

    gone(repository, "feature/x")
    shown = repository.ok("branch", "sync", "--json")
    assert shown.calls[1] == 0
    assert aliases(repository) == {"STAGE", "other", done["alias"]}
    said = repository.ok("branch", "sync").out
    assert f"delete the function URL of {done['alias']} ({done['preview']})" in said
    assert "Nothing was deleted: `--yes` does it." in said

    repository.ok("branch", "sync", "--yes")

    assert aliases(repository) == {"STAGE", "other"}
    assert repository.versions() == ["1", "4"]
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(done["preview"], timeout=60)
    assert repository.ok("branch", "sync", "--yes", "--json").result == []
    assert repository.serves("STAGE") == "1"


def test_list_says_which_are_gone(repository: Shop) -> None:
    previewed(repository)
    branch(repository, "feature/x", "two")
    done = repository.ok("deploy", "--branch", "--build-id", "2", "--json").result[0]
    (row,) = repository.ok("branch", "list", "--json").result
    assert (row["branch"], row["build"], row["version"], row["on_remote"], row["preview"]) == (
        "feature/x", "2", "1", True, done["preview"],
    )  # fmt: skip

    gone(repository, "feature/x")
    assert "gone" in repository.ok("branch", "list").out
    git(repository.folder, "remote", "remove", "origin")
    (row,) = repository.ok("branch", "list", "--json").result
    assert row["on_remote"] is None


def test_a_version_others_use_or_may_roll_back_to_stays(repository: Shop) -> None:
    branch(repository, "topic", "two")
    for build in ("1", "2", "3", "4"):
        repository.greet(build)
        repository.ok("deploy", "--branch", "--build-id", build)
    repository.ok("promote", "2", "--to", "STAGE")  # served it …
    repository.ok("promote", "3", "--to", "STAGE")  # … before this
    gone(repository, "topic")

    shown = repository.ok("branch", "sync", "--json").result[0]["plan"]
    assert shown["kept"] == [
        "version 2 stays: STAGE served it, and may be rolled back to it",
        "version 3 stays: STAGE serves it",
    ]
    repository.ok("branch", "sync", "--yes")

    assert repository.versions() == ["2", "3"]
    assert repository.ok("rollback", "STAGE", "--json").result[0]["version"] == "2"


def test_versions_called_by_their_number_stay(repository: Shop) -> None:
    branch(repository, "topic", "two")
    client = repository.aws("lambda")
    for build in ("1", "2", "3"):
        repository.greet(build)
        repository.ok("deploy", "--branch", "--build-id", build)
    client.put_provisioned_concurrency_config(
        FunctionName=repository.name, Qualifier="1", ProvisionedConcurrentExecutions=1
    )
    client.add_permission(
        FunctionName=repository.name, Qualifier="2", StatementId="x", Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
    )  # fmt: skip
    gone(repository, "topic")

    kept = repository.ok("branch", "sync", "--yes", "--json").result[0]["plan"]["kept"]

    assert kept[0] == "version 1 stays: it has provisioned concurrency"
    assert kept[1].startswith("version 2 stays: it is called by its number")
    assert repository.versions() == ["1", "2"]


def test_without_the_ledger_that_knows_what_stage_served_no_version_goes(repository: Shop) -> None:
    repository.ok("deploy", "--build-id", "1")
    branch(repository, "topic", "two")
    repository.ok("deploy", "--branch", "--build-id", "2")
    gone(repository, "topic")
    for each in (repository.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()

    done = repository.ok("branch", "sync", "--yes", "--json").result[0]

    assert aliases(repository) == {"STAGE"}
    assert repository.versions() == ["1", "2"]
    assert "what STAGE served before is not in this ledger" in done["plan"]["kept"][0]


def test_protected_ones_environments_and_those_of_others_are_never_deleted(repository: Shop) -> None:
    repository.configure(more='[branches]\nprotect = ["main", "release/*"]')
    repository.ok("deploy", "--build-id", "1")
    for name in ("main", "release/1", "PROD", "topic"):
        repository.ok("deploy", "--branch", name, "--approve")
    client = repository.aws("lambda")
    client.create_alias(FunctionName=repository.name, Name="theirs", FunctionVersion="1", Description="our own")
    client.create_alias(
        FunctionName=repository.name, Name="copied", FunctionVersion="1", Description="branch topic, build 1"
    )
    git(repository.folder, "switch", "-q", "-c", "another")
    git(repository.folder, "push", "-q", "origin", "another")
    bare = repository.folder.parent / "remote.git"
    git(bare, "symbolic-ref", "HEAD", "refs/heads/another")
    gone(repository, "main")

    repository.ok("branch", "sync", "--yes")

    left = aliases(repository)
    assert "topic" not in left
    assert {"STAGE", "PROD", "main", "theirs", "copied"} < left
    assert any(each.startswith("release-1--") for each in left)
    for name in ("main", "release/1", "PROD", "STAGE"):
        assert repository.run("branch", "delete", name, "--yes").code == 2
    assert repository.run("branch", "delete", "theirs", "--yes").code == 1
    assert aliases(repository) == left


@pytest.mark.parametrize("remote", ["nowhere", "/does/not/exist", "http://127.0.0.1:9/x.git", "--upload-pack=touch x"])
def test_a_remote_that_does_not_answer_deletes_nothing(repository: Shop, remote: str) -> None:
    repository.ok("deploy", "--branch", "topic")

    refused = repository.run("branch", "sync", "--yes", f"--remote={remote}")

    assert refused.code == 1
    assert "Nothing was deleted." in refused.err
    assert aliases(repository) == {"topic"}


def test_a_remote_without_any_branch_deletes_nothing(repository: Shop, tmp_path: Path) -> None:
    repository.ok("deploy", "--branch", "topic")
    empty = tmp_path / "empty.git"
    subprocess.run(["git", "init", "-q", "--bare", str(empty)], check=True)

    refused = repository.run("branch", "sync", "--yes", "--remote", str(empty))

    assert refused.code == 1
    assert "no branch at all" in refused.err
    assert aliases(repository) == {"topic"}


def test_outside_a_repository_nothing_is_deleted(shop: Shop) -> None:
    shop.ok("deploy", "--branch", "topic")

    assert shop.run("branch", "sync", "--yes").code == 1
    assert aliases(shop) == {"topic"}


def test_pull_requests_go_when_the_remote_has_them_no_more(repository: Shop) -> None:
    for number in ("4", "5"):
        git(repository.folder, "push", "-q", "origin", f"HEAD:refs/pull/{number}/head")
        repository.ok("deploy", "--branch", f"pr:{number}")
    git(repository.folder, "push", "-q", "origin", "--delete", "refs/pull/4/head")

    repository.ok("branch", "sync", "--yes")
    assert aliases(repository) == {"pr-5"}

    assert repository.run("branch", "sync", "--yes", "--pull-requests", "").code == 2
    repository.ok("branch", "sync", "--yes", "--pull-requests", "5,9")
    assert aliases(repository) == {"pr-5"}
    repository.ok("branch", "sync", "--yes", "--pull-requests", "none")
    assert aliases(repository) == set()


def test_a_remote_that_tells_no_pull_requests_leaves_their_aliases(repository: Shop) -> None:
    repository.ok("deploy", "--branch", "pr:4")

    repository.ok("branch", "sync", "--yes")
    assert aliases(repository) == {"pr-4"}

    repository.ok("branch", "delete", "pr:4", "--yes")
    assert aliases(repository) == set()


def test_a_branch_deleted_by_name_can_come_back(repository: Shop) -> None:
    previewed(repository)
    first = repository.ok("deploy", "--branch", "fix/a", "--json").result[0]
    assert repository.ok("branch", "delete", "fix/a").out.endswith("Nothing was deleted: `--yes` does it.\n")
    assert aliases(repository) == {first["alias"]}

    repository.ok("branch", "delete", "fix/a", "--yes")
    assert repository.run("branch", "delete", "fix/a", "--yes").code == 1

    again = repository.ok("deploy", "--branch", "fix/a", "--json").result[0]
    assert again["preview"] not in ("", first["preview"])
    assert urllib.request.urlopen(again["preview"], timeout=60).status == 200


def test_what_was_copied_to_a_branch_goes_with_it(repository: Shop) -> None:
    repository.configure(
        more='[branches]\npreview = true\ncopy = ["policy", "event-invoke", "event-sources", "provisioned-concurrency"]'
    )
    furnished(repository)
    repository.greet("two")
    repository.ok("deploy", "--branch", "topic")

    repository.ok("branch", "delete", "topic", "--yes")

    client = repository.aws("lambda")
    assert client.list_event_source_mappings(FunctionName=f"{repository.name}:topic")["EventSourceMappings"] == []
    assert [each["Qualifier"] if "Qualifier" in each else each["FunctionArn"].rsplit(":", 1)[1]
            for each in client.list_provisioned_concurrency_configs(FunctionName=repository.name)[
                "ProvisionedConcurrencyConfigs"]] == ["STAGE"]  # fmt: skip
    assert client.list_function_url_configs(FunctionName=repository.name)["FunctionUrlConfigs"] == []
    assert repository.versions() == ["1"]


def test_an_alias_moved_between_the_look_and_the_deletion_stays(repository: Shop) -> None:
    repository.ok("deploy", "--branch", "topic", "--build-id", "1")
    repository.greet("two")

    class Meddling:
        """Somebody deploys to the branch right before its alias is read for the last time."""

        def __call__(self, inner: Any) -> Any:
            class Send:
                def send(self, operation: Any) -> Any:
                    if operation.action == "GetAlias":
                        repository.aws("lambda").update_alias(
                            FunctionName=repository.name, Name="topic", Description="branch topic, build 9"
                        )
                    return inner.send(operation)

            return Send()

    answer = repository.run("branch", "delete", "topic", "--yes", wrap=Meddling())

    assert answer.code == 4
    assert aliases(repository) == {"topic"}


def test_versions_of_a_branch_whose_tests_never_passed_go_too(repository: Shop) -> None:
    test = f"""[function.greeting.test]
integration = {{ run = "{sys.executable} -c 'raise SystemExit(1)'" }}"""
    repository.configure(test=test)
    branch(repository, "bad", "worse")
    assert repository.run("deploy", "--branch").code == 3
    assert (aliases(repository), repository.versions()) == (set(), ["1"])
    assert repository.ok("branch", "sync", "--json").result == []
    gone(repository, "bad")

    repository.ok("branch", "sync", "--yes")

    assert repository.versions() == []
    assert repository.ok("branch", "sync", "--json").result == []


@pytest.mark.parametrize("name", ["größe/日本-😀", "feature/" + "long" * 60, "1234", "a.b", "x--0123456789", "pr-7"])
def test_whatever_a_branch_is_called_it_is_known_again(repository: Shop, name: str) -> None:
    git(repository.folder, "switch", "-q", "-c", name)
    git(repository.folder, "push", "-q", "origin", f"HEAD:refs/heads/{name}")
    alias = repository.ok("deploy", "--branch", "--json").result[0]["alias"]
    for each in (repository.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()

    (row,) = repository.ok("branch", "list", "--json").result
    assert (row["alias"], row["on_remote"]) == (alias, True)
    assert row["branch"] == name or (row["branch"].endswith("…") and name.startswith(row["branch"][:-1]))
    assert repository.ok("branch", "sync", "--yes", "--json").result == []
    gone(repository, name)
    repository.ok("branch", "sync", "--yes")

    assert aliases(repository) == set()
    assert repository.versions() == []


def test_several_functions_of_a_branch_come_and_go_together(repository: Shop) -> None:
    runtime = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    second = f"""[function.second]
handler   = "index.handler"
runtime   = "{runtime}"
build     = "python"
provision = {{ with = "direct", name = "{repository.name}-2", role = "{repository.role}", memory = 128 }}
"""
    repository.configure(more="[branches]\npreview = true\n" + second)
    done = repository.ok("deploy", "--branch", "fix/a", "--json").result
    assert [each["function"] for each in done] == ["greeting", "second"]
    assert len({each["preview"] for each in done}) == 2
    assert {each["branch"] for each in done} == {"fix/a"}
    assert repository.ok("deploy", "--branch", "fix/a", "--json").calls == (4, 0)
    assert len(repository.ok("branch", "list", "--json").result) == 2

    repository.ok("branch", "sync", "--yes", "--function", "second")
    assert [row["function"] for row in repository.ok("branch", "list", "--json").result] == ["greeting"]
    repository.ok("branch", "delete", "fix/a", "--yes")

    assert repository.ok("branch", "list", "--json").result == []
    assert repository.versions() == []


def end(shop: Shop) -> dict[str, Any]:
    client = shop.aws("lambda")
    there = client.list_aliases(FunctionName=shop.name)["Aliases"]
    return {
        "aliases": sorted((each["Name"], each["FunctionVersion"]) for each in there),
        "versions": shop.versions(),
        "urls": len(client.list_function_url_configs(FunctionName=shop.name)["FunctionUrlConfigs"]),
        "events": len(client.list_function_event_invoke_configs(FunctionName=shop.name)["FunctionEventInvokeConfigs"]),
        "policy": [len(policy(shop, each["Name"])) for each in there],
        "unfinished": shop.ok("status", "--json").result[0]["unfinished"],
    }  # fmt: skip


def begun(shop: Shop) -> Shop:
    """STAGE with permissions and an event configuration; branches get them, and a public URL."""
    previewed(shop)
    shop.ok("deploy", "--build-id", "1")
    client = shop.aws("lambda")
    client.add_permission(
        FunctionName=shop.name, Qualifier="STAGE", StatementId="s3", Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com", SourceArn="arn:aws:s3:::greetings",
    )  # fmt: skip
    client.put_function_event_invoke_config(FunctionName=shop.name, Qualifier="STAGE", MaximumRetryAttempts=0)
    shop.write("more.py", "two = 2\n")
    return shop


def deploy_and_delete(shop: Shop, wrap: Disturbed | None, *, resume: tuple[str, ...] = ("resume",)) -> list[int]:
    """A branch comes and goes; after every command that fails: the network is back, and `resume`."""
    codes = []
    for words in (
        ("deploy", "--branch", "fix/a", "--build-id", "2"),
        ("branch", "delete", "fix/a", "--yes"),
    ):
        made = shop.folder / "before.json"
        answer = shop.run(*words, wrap=wrap) if wrap else shop.run(*words)
        codes.append(answer.code)
        if answer.code != 0:
            again = shop.run(*resume) if words[0] == "deploy" else shop.run(*words)
            if words[0] == "deploy" and "Nothing to resume" in again.out:
                shop.ok(*words)  # it failed before it began
        if words[0] == "deploy":
            made.write_text(repr(end(shop)))
    return codes


@pytest.mark.parametrize("fault", [lost, dead_after], ids=lambda each: each.__name__)
def test_whichever_call_fails_a_branch_comes_and_goes_whole(
    shop: Shop, fault: Fault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    counter = Disturbed({})
    assert deploy_and_delete(begun(shop), counter) == [0, 0]
    expected, between = end(shop), (shop.folder / "before.json").read_text()
    assert expected["aliases"] == [("STAGE", "1")]
    assert expected["versions"] == ["1"]
    assert counter.count >= 25
    for k in counter.worth(fault, [lost, dead_after]):
        again = shop.another(
            tmp_path_factory.mktemp("again") / "project", f"{shop.name}-{fault.__name__.replace('_', '-')}-{k}"
        )

        codes = deploy_and_delete(begun(again), Disturbed(fault(k)))

        assert (again.folder / "before.json").read_text() == between, f"call {k}: {codes}"
        assert end(again) == expected, f"call {k}: {codes}"


def promoted(shop: Shop, wrap: Disturbed | None) -> None:
    """PROD, like STAGE, is made by a promotion."""
    path = shop.folder / "pointsman.toml"
    path.write_text(path.read_text().replace('alias   = "PROD"', 'alias   = "PROD"\nlike = "staging"'))
    words = ("promote", "1", "--to", "PROD", "--approve")
    answer = shop.run(*words, wrap=wrap) if wrap else shop.run(*words)
    if answer.code != 0 and "Nothing to resume" in shop.ok("resume", "--approve").out:
        shop.ok(*words)


@pytest.mark.parametrize("fault", [lost, dead_after], ids=lambda each: each.__name__)
def test_whichever_call_fails_a_new_environment_gets_all_its_model_has(
    shop: Shop, fault: Fault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    counter = Disturbed({})
    promoted(begun(shop), counter)
    expected = end(shop)
    assert expected["aliases"] == [("PROD", "1"), ("STAGE", "1")]
    assert (expected["events"], expected["policy"]) == (2, [1, 1])
    for k in counter.worth(fault, [lost, dead_after]):
        again = shop.another(
            tmp_path_factory.mktemp("again") / "project", f"{shop.name}-p-{fault.__name__.replace('_', '-')}-{k}"
        )

        promoted(begun(again), Disturbed(fault(k)))

        assert end(again) == expected, f"call {k}"


KILLED = """
import sys
from pointsman.cli import main

class Killing:
    def __init__(self, inner): self.inner = inner
    def send(self, operation):
        import os, signal
        answer = self.inner.send(operation)
        if operation.action == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

sys.exit(main(sys.argv[2:], wrap=Killing))
"""


@pytest.mark.parametrize("action", ["DeleteFunctionUrlConfig", "DeleteAlias", "DeleteFunction"])
def test_killed_in_the_middle_it_goes_on_when_run_again(repository: Shop, action: str) -> None:
    previewed(repository)
    repository.ok("deploy", "--build-id", "1")
    branch(repository, "topic", "two")
    repository.ok("deploy", "--branch", "--build-id", "2")
    repository.greet("three")
    repository.ok("deploy", "--branch", "--build-id", "3")
    gone(repository, "topic")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, action, "branch", "sync", "--yes"],
        cwd=repository.folder,
        env={**os.environ, **repository.variables},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert "branch delete to topic" in repository.ok("status").out

    repository.ok("branch", "sync", "--yes")

    assert aliases(repository) == {"STAGE"}
    assert repository.versions() == ["1"]
    assert repository.ok("status", "--json").result[0]["unfinished"] == ""
    assert repository.ok("branch", "sync", "--json").result == []


def test_killed_in_the_middle_resume_goes_on_too(repository: Shop) -> None:
    repository.ok("deploy", "--branch", "topic", "--build-id", "2")
    subprocess.run(
        [sys.executable, "-c", KILLED, "DeleteAlias", "branch", "delete", "topic", "--yes"],
        cwd=repository.folder,
        env={**os.environ, **repository.variables},
        capture_output=True,
        check=False,
    )
    assert repository.versions() == ["1"]

    assert repository.ok("resume").out == "greeting: topic is deleted, with what was left of it.\n"

    assert repository.versions() == []
    assert repository.ok("resume").out == "Nothing to resume: every run ended.\n"
