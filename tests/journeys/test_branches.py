"""An alias for every branch: deployed from a real git repository, with a bare one as its remote."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.journeys.conftest import Shop
from tests.journeys.test_cloudformation import template


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Sandy", "-c", "user.email=sandy@example.com")
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(shop: Shop) -> Shop:
    """The project as a clone of a bare repository, on branch main, pushed."""
    bare = shop.folder.parent / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    git(shop.folder, "init", "-q", "-b", "main")
    git(shop.folder, "remote", "add", "origin", str(bare))
    commit(shop, "begin")
    git(shop.folder, "push", "-q", "origin", "main")
    return shop


def commit(shop: Shop, message: str) -> None:
    git(shop.folder, "add", "-A")
    git(shop.folder, "commit", "-q", "--allow-empty", "-m", message)


def branch(shop: Shop, name: str, word: str) -> None:
    """Onto a new branch with other code, pushed."""
    git(shop.folder, "switch", "-q", "-c", name)
    shop.greet(word)
    commit(shop, word)
    git(shop.folder, "push", "-q", "origin", name)


def test_the_present_branch_gets_an_alias_named_after_it(repository: Shop) -> None:
    branch(repository, "feature-123", "logging")

    done = repository.ok("deploy", "--branch", "--build-id", "7", "--json").result[0]

    assert (done["alias"], done["branch"], done["environment"]) == ("feature-123", "feature-123", "branch:feature-123")
    assert repository.invoke("feature-123")["word"] == "logging"
    found = repository.alias("feature-123")
    assert found
    assert found["Description"] == "branch feature-123, build 7"
    assert repository.alias("STAGE") is None


def test_a_branch_whose_name_lambda_refuses_gets_one_that_people_can_read(repository: Shop) -> None:
    branch(repository, "feature/x.1", "slashed")

    first = repository.ok("deploy", "--branch", "--json").result[0]
    again = repository.ok("deploy", "--branch", "feature/x.1", "--json")

    assert first["alias"].startswith("feature-x-1--")
    assert repository.invoke(first["alias"])["word"] == "slashed"
    assert again.result[0]["outcome"] == "unchanged"
    assert again.calls == (2, 0)


def test_changed_code_costs_three_writes_as_ever(repository: Shop) -> None:
    branch(repository, "topic", "one")
    repository.ok("deploy", "--branch")
    repository.greet("two")

    again = repository.ok("deploy", "--branch", "--json")

    assert again.calls[1] == 3
    assert repository.invoke("topic")["word"] == "two"


def test_what_deploys_to_a_branch_can_be_promoted_rolled_back_and_resumed_by_its_name(repository: Shop) -> None:
    branch(repository, "fix/y", "one")
    repository.ok("deploy", "--branch", "--build-id", "1")
    repository.greet("two")
    alias = repository.ok("deploy", "--branch", "--build-id", "2", "--json").result[0]["alias"]

    assert repository.ok("rollback", "fix/y", "--json").result[0]["version"] == "1"
    assert repository.ok("rollback", alias, "--to", "2", "--json").result[0]["version"] == "2"
    assert repository.ok("promote", "branch:fix/y", "--to", "STAGE", "--json").result[0]["build"] == "2"
    assert repository.serves("STAGE") == repository.serves(alias) == "2"
    (stage,) = (row for row in repository.ok("status", "--json").result[0]["aliases"] if row["alias"] == "STAGE")
    assert stage["build"] == "2"


def test_a_plan_for_a_branch_is_kept_and_applied(repository: Shop) -> None:
    branch(repository, "topic", "one")
    repository.ok("deploy", "--branch")
    repository.greet("two")
    repository.ok("plan", "--branch", "--build-id", "9", "--out", "kept.plan")

    done = repository.ok("apply", "kept.plan", "--json").result[0]

    assert (done["alias"], done["build"]) == ("topic", "9")


def test_a_pull_request_has_an_alias_by_its_number(repository: Shop) -> None:
    done = repository.ok("deploy", "--branch", "pr:17", "--json").result[0]

    found = repository.alias("pr-17")
    assert done["alias"] == "pr-17"
    assert found
    assert found["Description"].startswith("pull request 17, build ")


def test_a_forks_pull_request_never_reaches_the_alias_of_a_branch(
    repository: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's fork has a branch called PROD."""
    event = {"pull_request": {"number": 5, "head": {"ref": "PROD", "repo": {"full_name": "stranger/greeting"}}}}
    repository.write("event.json", json.dumps(event))
    repository.variables.update(
        GITHUB_ACTIONS="true",
        GITHUB_EVENT_NAME="pull_request",
        GITHUB_EVENT_PATH=str(repository.folder / "event.json"),
        GITHUB_REF="refs/pull/5/merge",
        GITHUB_HEAD_REF="PROD",
        GITHUB_REPOSITORY="team/greeting",
    )

    try:
        assert repository.ok("deploy", "--branch", "--json").result[0]["alias"] == "pr-5"
    finally:
        for name in [each for each in repository.variables if each.startswith("GITHUB_")]:
            del repository.variables[name]
    assert repository.alias("PROD") is None


def test_a_branch_called_as_an_alias_of_the_file_is_that_environment_with_its_approval(repository: Shop) -> None:
    refused = repository.run("deploy", "--branch", "PROD")
    assert refused.code == 3
    assert "approval" in refused.err
    assert repository.alias("PROD") is None

    done = repository.ok("deploy", "--branch", "PROD", "--approve", "--json").result[0]
    found = repository.alias("PROD")
    assert (done["environment"], done["branch"]) == ("production", "")
    assert found
    assert found["Description"] == done["build"]


@pytest.mark.parametrize("name", ["prod", "production", "stage", "Staging"])
def test_a_branch_nearly_called_as_an_environment_is_refused(repository: Shop, name: str) -> None:
    refused = repository.run("deploy", "--branch", name)

    assert refused.code == 2
    assert "deploys there" in refused.err


@pytest.mark.parametrize("name", ["a b", "a..b", "pr:x", "branch:", "x:y"])
def test_what_is_no_branchs_name_is_refused(repository: Shop, name: str) -> None:
    assert repository.run("deploy", "--branch", name).code == 2


def test_a_branchs_deploy_asks_a_known_stack_nothing(repository: Shop) -> None:
    """The stack is the environment's that branches are like, and the ledger knows it from there."""
    repository.write("stack.json", template(name=repository.name))
    provision = (
        f'{{ with = "cloudformation", stack = "{repository.name}", template = "stack.json", function = "Greeter" }}'
    )
    repository.configure(provision=provision)
    repository.ok("deploy", "--build-id", "1")
    repository.greet("two")

    made = repository.ok("deploy", "--branch", "topic", "--build-id", "2", "--json")
    again = repository.ok("deploy", "--branch", "topic", "--build-id", "2", "--json")

    assert "cloudformation" not in {call["service"] for call in made.document["calls"]["list"]}
    assert made.calls[1] == 3
    assert again.calls == (2, 0)


def test_a_detached_head_is_told_how_to_name_its_branch(repository: Shop) -> None:
    git(repository.folder, "checkout", "-q", "--detach")

    refused = repository.run("deploy", "--branch")

    assert refused.code == 2
    assert "detached" in refused.err
    assert "`--branch NAME`" in refused.err
