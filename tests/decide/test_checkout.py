"""Which branch is built, by each CI system's own variables."""

from __future__ import annotations

import json

import pytest

from pointsman.checkout import present
from pointsman.errors import UsageError

EVENTS = {
    "own": json.dumps({"pull_request": {"number": 5, "head": {"ref": "fix/a", "repo": {"full_name": "team/app"}}}}),
    "fork": json.dumps({"pull_request": {"number": 5, "head": {"ref": "main", "repo": {"full_name": "other/app"}}}}),
    "gone": json.dumps({"pull_request": {"number": 5, "head": {"ref": "main", "repo": None}}}),
    "teamcity": "teamcity.configuration.properties.file=conf\nx=1\n",
    "conf": "a=b\nteamcity.build.branch=refs/heads/feature/t\n",
    "teamcity-pr": "teamcity.build.branch=pull/5\n",
}


def ask(environ: dict[str, str], head: str = "") -> str:
    return present(environ, head=head, read=lambda path: EVENTS.get(path, ""))


GITHUB = {"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "team/app"}
PULLED = GITHUB | {
    "GITHUB_EVENT_NAME": "pull_request", "GITHUB_REF": "refs/pull/5/merge", "GITHUB_REF_NAME": "5/merge",
}  # fmt: skip
TARGETED = GITHUB | {
    "GITHUB_EVENT_NAME": "pull_request_target", "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main",
    "GITHUB_HEAD_REF": "main",
}  # fmt: skip
AZURE = {
    "TF_BUILD": "True", "BUILD_SOURCEBRANCH": "refs/pull/5/merge", "SYSTEM_PULLREQUEST_PULLREQUESTNUMBER": "5",
    "SYSTEM_PULLREQUEST_PULLREQUESTID": "90001", "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/fix/a",
}  # fmt: skip
GITLAB_MR = {
    "GITLAB_CI": "true", "CI_COMMIT_REF_NAME": "fix/a", "CI_MERGE_REQUEST_IID": "5", "CI_MERGE_REQUEST_ID": "123456",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "fix/a", "CI_MERGE_REQUEST_PROJECT_ID": "1",
}  # fmt: skip
JENKINS_PR = {"JENKINS_URL": "x", "BRANCH_NAME": "PR-5", "CHANGE_ID": "5", "CHANGE_TARGET": "main"}
TRAVIS_PR = {
    "TRAVIS": "true", "TRAVIS_BRANCH": "main", "TRAVIS_PULL_REQUEST": "5", "TRAVIS_PULL_REQUEST_BRANCH": "fix/a",
    "TRAVIS_REPO_SLUG": "team/app",
}  # fmt: skip
BUILDKITE_PR = {
    "BUILDKITE": "true", "BUILDKITE_BRANCH": "fix/a", "BUILDKITE_PULL_REQUEST": "5",
    "BUILDKITE_REPO": "git@github.com:team/app.git",
}  # fmt: skip
APPVEYOR_PR = {
    "APPVEYOR": "True", "APPVEYOR_REPO_BRANCH": "main", "APPVEYOR_PULL_REQUEST_NUMBER": "5",
    "APPVEYOR_PULL_REQUEST_HEAD_REPO_BRANCH": "fix/a", "APPVEYOR_REPO_NAME": "team/app",
}  # fmt: skip
SEMAPHORE_PR = {
    "SEMAPHORE": "true", "SEMAPHORE_GIT_BRANCH": "main", "SEMAPHORE_GIT_PR_NUMBER": "5",
    "SEMAPHORE_GIT_PR_BRANCH": "fix/a", "SEMAPHORE_GIT_REPO_SLUG": "team/app",
}  # fmt: skip
CODEBUILD = {"CODEBUILD_BUILD_ID": "app:1"}

TABLE: list[tuple[str, dict[str, str], str]] = [
    ("github push", GITHUB | {"GITHUB_REF": "refs/heads/fix/a", "GITHUB_REF_NAME": "fix/a"}, "fix/a"),
    ("github own pr", PULLED | {"GITHUB_HEAD_REF": "fix/a", "GITHUB_EVENT_PATH": "own"}, "fix/a"),
    ("github fork", PULLED | {"GITHUB_HEAD_REF": "main", "GITHUB_EVENT_PATH": "fork"}, "pr:5"),
    ("github fork is gone", PULLED | {"GITHUB_HEAD_REF": "main", "GITHUB_EVENT_PATH": "gone"}, "pr:5"),
    ("github no event", PULLED | {"GITHUB_HEAD_REF": "main"}, "pr:5"),
    ("github target, fork", TARGETED | {"GITHUB_EVENT_PATH": "fork"}, "pr:5"),
    ("gitlab", {"GITLAB_CI": "true", "CI_COMMIT_BRANCH": "fix/a", "CI_COMMIT_REF_NAME": "fix/a"}, "fix/a"),
    ("gitlab own", GITLAB_MR | {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "1"}, "fix/a"),
    ("gitlab fork", GITLAB_MR | {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "2"}, "pr:5"),
    ("circle", {"CIRCLECI": "true", "CIRCLE_BRANCH": "fix/a"}, "fix/a"),
    ("circle own", {"CIRCLECI": "true", "CIRCLE_BRANCH": "fix/a", "CIRCLE_PULL_REQUEST": "https://x/pull/5"}, "fix/a"),
    ("circle fork", {"CIRCLECI": "true", "CIRCLE_BRANCH": "pull/5", "CIRCLE_PR_NUMBER": "5"}, "pr:5"),
    ("circle fork, short", {"CIRCLECI": "true", "CIRCLE_BRANCH": "pull/5"}, "pr:5"),
    ("jenkins multibranch", {"JENKINS_URL": "x", "BRANCH_NAME": "fix/a", "GIT_BRANCH": "origin/fix/a"}, "fix/a"),
    ("jenkins freestyle", {"JENKINS_URL": "x", "GIT_BRANCH": "origin/fix/a"}, "fix/a"),
    ("jenkins remotes", {"JENKINS_URL": "x", "GIT_BRANCH": "refs/remotes/origin/fix/a"}, "fix/a"),
    ("jenkins own", JENKINS_PR | {"CHANGE_BRANCH": "fix/a"}, "fix/a"),
    ("jenkins fork", JENKINS_PR | {"CHANGE_BRANCH": "main", "CHANGE_FORK": "other"}, "pr:5"),
    ("jenkins old plugin", JENKINS_PR, "pr:5"),
    ("bitbucket", {"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_BRANCH": "fix/a"}, "fix/a"),
    ("bitbucket pr", {"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_BRANCH": "fix/a", "BITBUCKET_PR_ID": "5"}, "fix/a"),
    ("travis", {"TRAVIS": "true", "TRAVIS_BRANCH": "fix/a", "TRAVIS_PULL_REQUEST": "false"}, "fix/a"),
    ("travis own", TRAVIS_PR | {"TRAVIS_PULL_REQUEST_SLUG": "team/app"}, "fix/a"),
    ("travis fork", TRAVIS_PR | {"TRAVIS_PULL_REQUEST_SLUG": "other/app"}, "pr:5"),
    ("azure", {"TF_BUILD": "True", "BUILD_SOURCEBRANCH": "refs/heads/fix/a", "BUILD_SOURCEBRANCHNAME": "a"}, "fix/a"),
    ("azure own", AZURE | {"SYSTEM_PULLREQUEST_ISFORK": "False"}, "fix/a"),
    ("azure fork", AZURE | {"SYSTEM_PULLREQUEST_ISFORK": "True"}, "pr:5"),
    ("codebuild", CODEBUILD | {"CODEBUILD_WEBHOOK_HEAD_REF": "refs/heads/fix/a"}, "fix/a"),
    (
        "codebuild pr",
        CODEBUILD | {"CODEBUILD_WEBHOOK_HEAD_REF": "refs/heads/main", "CODEBUILD_WEBHOOK_TRIGGER": "pr/5"},
        "pr:5",
    ),
    ("codebuild by hand", CODEBUILD | {"CODEBUILD_SOURCE_VERSION": "refs/heads/fix/a^{d6cd1e2bd19e}"}, "fix/a"),
    ("buildkite", {"BUILDKITE": "true", "BUILDKITE_BRANCH": "fix/a", "BUILDKITE_PULL_REQUEST": "false"}, "fix/a"),
    ("buildkite own", BUILDKITE_PR | {"BUILDKITE_PULL_REQUEST_REPO": "git://github.com/team/app.git"}, "fix/a"),
    ("buildkite fork", BUILDKITE_PR | {"BUILDKITE_PULL_REQUEST_REPO": "git://github.com/other/app.git"}, "pr:5"),
    ("drone", {"DRONE": "true", "DRONE_BRANCH": "fix/a"}, "fix/a"),
    ("drone pr", {"DRONE": "true", "DRONE_BRANCH": "main", "DRONE_PULL_REQUEST": "5"}, "pr:5"),
    ("woodpecker", {"CI": "woodpecker", "CI_COMMIT_BRANCH": "fix/a"}, "fix/a"),
    ("woodpecker pr", {"CI": "woodpecker", "CI_COMMIT_BRANCH": "main", "CI_COMMIT_PULL_REQUEST": "5"}, "pr:5"),
    ("teamcity", {"TEAMCITY_VERSION": "1", "TEAMCITY_BUILD_PROPERTIES_FILE": "teamcity"}, "feature/t"),
    ("teamcity pr", {"TEAMCITY_VERSION": "1", "TEAMCITY_BUILD_PROPERTIES_FILE": "teamcity-pr"}, "pr:5"),
    ("appveyor", {"APPVEYOR": "True", "APPVEYOR_REPO_BRANCH": "fix/a"}, "fix/a"),
    ("appveyor own", APPVEYOR_PR | {"APPVEYOR_PULL_REQUEST_HEAD_REPO_NAME": "team/app"}, "fix/a"),
    ("appveyor fork", APPVEYOR_PR | {"APPVEYOR_PULL_REQUEST_HEAD_REPO_NAME": "other/app"}, "pr:5"),
    ("semaphore", {"SEMAPHORE": "true", "SEMAPHORE_GIT_BRANCH": "fix/a"}, "fix/a"),
    ("semaphore own", SEMAPHORE_PR | {"SEMAPHORE_GIT_PR_SLUG": "team/app"}, "fix/a"),
    ("semaphore fork", SEMAPHORE_PR | {"SEMAPHORE_GIT_PR_SLUG": "other/app"}, "pr:5"),
    ("cirrus", {"CIRRUS_CI": "true", "CIRRUS_BRANCH": "fix/a"}, "fix/a"),
    ("cirrus pr", {"CIRRUS_CI": "true", "CIRRUS_BRANCH": "pull/5", "CIRRUS_PR": "5"}, "pr:5"),
    ("bitrise", {"BITRISE_IO": "true", "BITRISE_GIT_BRANCH": "fix/a"}, "fix/a"),
    ("buddy", {"BUDDY_WORKSPACE_ID": "1", "BUDDY_EXECUTION_BRANCH": "fix/a"}, "fix/a"),
    ("codefresh", {"CF_BUILD_ID": "1", "CF_BRANCH": "fix/a"}, "fix/a"),
    ("codefresh pr", {"CF_BUILD_ID": "1", "CF_BRANCH": "fix/a", "CF_PULL_REQUEST_NUMBER": "5"}, "pr:5"),
    ("vela", {"VELA": "true", "VELA_BUILD_BRANCH": "fix/a"}, "fix/a"),
    ("bamboo", {"bamboo_agentId": "1", "bamboo_planRepository_1_branchName": "fix/a"}, "fix/a"),
    ("amplify", {"AWS_APP_ID": "d1", "AWS_BRANCH": "fix/a"}, "fix/a"),
    ("vercel", {"VERCEL": "1", "VERCEL_GIT_COMMIT_REF": "fix/a"}, "fix/a"),
    ("netlify", {"NETLIFY": "true", "BRANCH": "fix/a", "HEAD": "fix/a"}, "fix/a"),
    ("netlify pr", {"NETLIFY": "true", "BRANCH": "x", "HEAD": "fix/a", "REVIEW_ID": "5"}, "pr:5"),
    ("cloudflare", {"CF_PAGES": "1", "CF_PAGES_BRANCH": "fix/a"}, "fix/a"),
    ("codeship", {"CI_NAME": "codeship", "CI_BRANCH": "fix/a"}, "fix/a"),
    ("a script's variable", {"GIT_BRANCH": "fix/a"}, "fix/a"),
]


@pytest.mark.parametrize(("environ", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_each_ci_system_says_which_branch_it_builds(environ: dict[str, str], expected: str) -> None:
    assert ask(environ) == expected


TAGS = [
    GITHUB | {"GITHUB_REF": "refs/tags/v1", "GITHUB_REF_NAME": "v1", "GITHUB_REF_TYPE": "tag"},
    {"GITLAB_CI": "true", "CI_COMMIT_TAG": "v1", "CI_COMMIT_REF_NAME": "v1"},
    {"CIRCLECI": "true", "CIRCLE_TAG": "v1"},
    {"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_TAG": "v1"},
    {"JENKINS_URL": "x", "BRANCH_NAME": "v1", "TAG_NAME": "v1"},
    {"TRAVIS": "true", "TRAVIS_BRANCH": "v1", "TRAVIS_TAG": "v1"},
    {"TF_BUILD": "True", "BUILD_SOURCEBRANCH": "refs/tags/v1"},
    CODEBUILD | {"CODEBUILD_WEBHOOK_HEAD_REF": "refs/tags/v1"},
    {"BUILDKITE": "true", "BUILDKITE_BRANCH": "v1", "BUILDKITE_TAG": "v1"},
    {"DRONE": "true", "DRONE_BRANCH": "main", "DRONE_TAG": "v1"},
]


@pytest.mark.parametrize("environ", TAGS)
def test_a_tags_build_is_no_branchs(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="builds the tag v1") as caught:
        ask(environ, head="main")
    assert "--branch NAME" in caught.value.next


def test_on_a_desk_git_tells() -> None:
    assert ask({}, head="feature/x") == "feature/x"
    assert ask({"GIT_BRANCH": "another"}, head="feature/x") == "feature/x"


@pytest.mark.parametrize("environ", [{}, {"GIT_BRANCH": "HEAD"}, {"CIRCLECI": "true"}, CODEBUILD, GITHUB])
def test_where_nobody_knows_it_must_be_named(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        ask(environ)
    assert "--branch NAME" in caught.value.next


def test_a_system_that_keeps_silent_leaves_it_to_git() -> None:
    assert ask(CODEBUILD | {"CODEBUILD_SOURCE_VERSION": "0123abcd"}, head="fix/a") == "fix/a"
