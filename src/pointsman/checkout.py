"""Which branch or pull request is being built: what the CI system says, else what git has checked out. Pure.

A pull request goes by its branch's name where the system tells that the branch is of the repository itself, so that a
push and its pull request share one alias. From a fork, or where that cannot be told, it is `pr:NUMBER`: the name of
a stranger's branch must not reach the alias of one of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pointsman.errors import UsageError

Environ = Mapping[str, str]
Read = Callable[[str], str]
"""The text of a file that a variable names, "" where there is none."""


class _System(NamedTuple):
    """A CI system, by its variables. `marks`: any of them says that it runs (NAME, or NAME=VALUE).

    `ours` says whether a pull request's `source` branch is of the repository itself; None: the system does not tell.
    """

    name: str
    marks: tuple[str, ...]
    branch: tuple[str, ...]
    tag: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    ours: Callable[[Environ], bool] | None = None


def _same(one: str, other: str) -> Callable[[Environ], bool]:
    return lambda environ: bool(environ.get(one)) and environ.get(one) == environ.get(other)


def _same_repository(one: str, other: str) -> Callable[[Environ], bool]:
    """By owner and name: the same repository is git@host:owner/name.git here and https://host/owner/name there."""

    def path(url: str) -> str:
        return "/".join(re.split("[/:]", url.removesuffix("/").removesuffix(".git"))[-2:]).lower()

    return lambda environ: bool(environ.get(one)) and path(environ[one]) == path(environ.get(other, ""))


def _always(_environ: Environ) -> bool:
    return True


# Each line from that system's page of predefined variables.
_SYSTEMS = (
    _System(
        "GitLab CI", ("GITLAB_CI",), ("CI_COMMIT_BRANCH", "CI_COMMIT_REF_NAME"), ("CI_COMMIT_TAG",),
        ("CI_MERGE_REQUEST_IID", "CI_EXTERNAL_PULL_REQUEST_IID"),
        ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME"),
        lambda environ: _same("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "CI_MERGE_REQUEST_PROJECT_ID")(environ)
        or _same("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY", "CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY")(environ),
    ),
    # CIRCLE_PR_NUMBER is there for forks only.
    _System("CircleCI", ("CIRCLECI",), ("CIRCLE_BRANCH",), ("CIRCLE_TAG",), ("CIRCLE_PR_NUMBER",)),
    # Its pipelines do not run for forks' pull requests.
    _System(
        "Bitbucket Pipelines", ("BITBUCKET_BUILD_NUMBER",), ("BITBUCKET_BRANCH",), ("BITBUCKET_TAG",),
        ("BITBUCKET_PR_ID",), ("BITBUCKET_BRANCH",), _always,
    ),
    _System(
        "Jenkins", ("JENKINS_URL", "JENKINS_HOME"), ("BRANCH_NAME", "gitlabBranch", "GIT_LOCAL_BRANCH", "GIT_BRANCH"),
        ("TAG_NAME",), ("CHANGE_ID", "ghprbPullId", "gitlabMergeRequestIid"), ("CHANGE_BRANCH", "gitlabSourceBranch"),
        lambda environ: ("CHANGE_BRANCH" in environ and not environ.get("CHANGE_FORK"))
        or _same("gitlabSourceRepoURL", "gitlabTargetRepoURL")(environ),
    ),
    _System(
        "Azure Pipelines", ("TF_BUILD",), ("BUILD_SOURCEBRANCH",), (),
        ("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"),
        ("SYSTEM_PULLREQUEST_SOURCEBRANCH",),
        lambda environ: environ.get("SYSTEM_PULLREQUEST_ISFORK", "").lower() == "false",
    ),
    _System("AWS CodeBuild", ("CODEBUILD_BUILD_ID",), ("CODEBUILD_WEBHOOK_HEAD_REF", "CODEBUILD_SOURCE_VERSION")),
    _System(
        "Travis CI", ("TRAVIS",), ("TRAVIS_BRANCH",), ("TRAVIS_TAG",), ("TRAVIS_PULL_REQUEST",),
        ("TRAVIS_PULL_REQUEST_BRANCH",), _same("TRAVIS_PULL_REQUEST_SLUG", "TRAVIS_REPO_SLUG"),
    ),
    _System(
        "Buildkite", ("BUILDKITE",), ("BUILDKITE_BRANCH",), ("BUILDKITE_TAG",), ("BUILDKITE_PULL_REQUEST",),
        ("BUILDKITE_BRANCH",), _same_repository("BUILDKITE_PULL_REQUEST_REPO", "BUILDKITE_REPO"),
    ),
    _System("Drone", ("DRONE",), ("DRONE_BRANCH",), ("DRONE_TAG",), ("DRONE_PULL_REQUEST",)),
    _System(
        "Woodpecker", ("CI=woodpecker",), ("CI_COMMIT_BRANCH",), ("CI_COMMIT_TAG",), ("CI_COMMIT_PULL_REQUEST",)
    ),
    _System(
        "AppVeyor", ("APPVEYOR",), ("APPVEYOR_REPO_BRANCH",), ("APPVEYOR_REPO_TAG_NAME",),
        ("APPVEYOR_PULL_REQUEST_NUMBER",), ("APPVEYOR_PULL_REQUEST_HEAD_REPO_BRANCH",),
        _same("APPVEYOR_PULL_REQUEST_HEAD_REPO_NAME", "APPVEYOR_REPO_NAME"),
    ),
    _System(
        "Semaphore", ("SEMAPHORE",), ("SEMAPHORE_GIT_BRANCH",), ("SEMAPHORE_GIT_TAG_NAME",),
        ("SEMAPHORE_GIT_PR_NUMBER",), ("SEMAPHORE_GIT_PR_BRANCH",),
        _same("SEMAPHORE_GIT_PR_SLUG", "SEMAPHORE_GIT_REPO_SLUG"),
    ),
    _System("Cirrus CI", ("CIRRUS_CI",), ("CIRRUS_BRANCH",), ("CIRRUS_TAG",), ("CIRRUS_PR",)),
    _System("TeamCity", ("TEAMCITY_VERSION",), ("BUILD_VCS_BRANCH",)),
    _System(
        "Bitrise", ("BITRISE_IO",), ("BITRISE_GIT_BRANCH",), ("BITRISE_GIT_TAG",), ("BITRISE_PULL_REQUEST",),
        ("BITRISE_GIT_BRANCH",), _same_repository("BITRISEIO_PULL_REQUEST_REPOSITORY_URL", "GIT_REPOSITORY_URL"),
    ),
    _System(
        "Buddy", ("BUDDY_WORKSPACE_ID",), ("BUDDY_EXECUTION_BRANCH",), ("BUDDY_EXECUTION_TAG",),
        ("BUDDY_EXECUTION_PULL_REQUEST_NO", "BUDDY_EXECUTION_PULL_REQUEST_ID"),
    ),
    _System("Codefresh", ("CF_BUILD_ID",), ("CF_BRANCH",), (), ("CF_PULL_REQUEST_NUMBER",)),
    _System("Vela", ("VELA",), ("VELA_BUILD_BRANCH",), ("VELA_BUILD_TAG",), ("VELA_BUILD_PULL_REQUEST",)),
    _System(
        "Bamboo", ("bamboo_agentId",), ("bamboo_planRepository_branchName", "bamboo_planRepository_1_branchName"), (),
        ("bamboo_repository_pr_key",), ("bamboo_repository_pr_sourceBranch",), _always,
    ),
    _System("AWS Amplify", ("AWS_APP_ID",), ("AWS_BRANCH",), (), ("AWS_PULL_REQUEST_ID",)),
    _System("Vercel", ("VERCEL",), ("VERCEL_GIT_COMMIT_REF",), (), ("VERCEL_GIT_PULL_REQUEST_ID",)),
    _System("Netlify", ("NETLIFY",), ("BRANCH", "HEAD"), (), ("REVIEW_ID",)),
    _System("Cloudflare Pages", ("CF_PAGES",), ("CF_PAGES_BRANCH",)),
    _System("Codeship", ("CI_NAME=codeship",), ("CI_BRANCH",)),
)  # fmt: skip


def present(environ: Environ, *, head: str, read: Read) -> str:
    """The branch ("feature/x") or pull request ("pr:123"). `head` is what git has checked out, "" where detached.

    Raises UsageError for a tag's build, and where neither the CI system nor git knows.
    """
    if environ.get("GITHUB_ACTIONS"):
        return _on_github(environ, read)
    for system in _SYSTEMS:
        if any(_marked(environ, mark) for mark in system.marks):
            found = _on(system, environ, read)
            if found or head:
                return found or head
            raise _unknown(f"{system.name} does not say which branch it builds")
    if head:
        return head
    if given := _plain(environ.get("GIT_BRANCH", "").removeprefix("origin/")):  # as scripts call it
        return given
    raise _unknown("no branch is checked out (git's HEAD is detached, or this is no repository)")


def _marked(environ: Environ, mark: str) -> bool:
    name, _, value = mark.partition("=")
    return environ.get(name) == value if value else environ.get(name, "") not in ("", "0", "false")


def _on_github(environ: Environ, read: Read) -> str:
    """Of Actions (and of Gitea's and Forgejo's, which say the same). The event tells whose the branch is.

    https://docs.github.com/en/actions/reference/workflows-and-actions/variables
    """
    try:
        event: Any = json.loads(read(environ.get("GITHUB_EVENT_PATH", "")) or "{}")
        asked = event.get("pull_request") or {}
        number, source = asked.get("number"), asked.get("head") or {}
        home = (source.get("repo") or {}).get("full_name", "")
    except (ValueError, AttributeError):
        number, source, home = None, {}, ""
    if environ.get("GITHUB_EVENT_NAME", "").startswith("pull_request"):
        if home and home == environ.get("GITHUB_REPOSITORY"):
            return str(environ.get("GITHUB_HEAD_REF") or source["ref"])
        merged = re.fullmatch(r"refs/pull/([0-9]+)/.*", environ.get("GITHUB_REF", ""))
        if number or merged:
            return f"pr:{number or (merged and merged[1])}"
        raise _unknown("GitHub Actions does not say which pull request it builds")
    if environ.get("GITHUB_REF_TYPE") == "tag" or environ.get("GITHUB_REF", "").startswith("refs/tags/"):
        raise _tagged("GitHub Actions", environ.get("GITHUB_REF_NAME", ""))
    if found := _plain(environ.get("GITHUB_REF", "")) or environ.get("GITHUB_REF_NAME", ""):
        return found
    raise _unknown("GitHub Actions does not say which branch it builds")


def _on(system: _System, environ: Environ, read: Read) -> str:
    number = next((environ[name] for name in system.number if environ.get(name, "false") != "false"), "")
    if number.isdecimal():
        source = _plain(next((environ[name] for name in system.source if environ.get(name)), ""))
        return source if source and system.ours and system.ours(environ) else f"pr:{int(number)}"
    if tag := next((environ[name] for name in system.tag if environ.get(name)), ""):
        raise _tagged(system.name, tag)
    if system.name == "AWS CodeBuild" and (asked := re.fullmatch("pr/([0-9]+)", _trigger(environ))):
        return f"pr:{asked[1]}"
    if system.name == "TeamCity":
        return _plain(_of_teamcity(environ, read)) or _branch_of(system, environ)
    return _branch_of(system, environ)


def _branch_of(system: _System, environ: Environ) -> str:
    for name in system.branch:
        given = environ.get(name, "")
        if given.startswith("refs/tags/"):
            raise _tagged(system.name, given.removeprefix("refs/tags/"))
        if name == "CODEBUILD_SOURCE_VERSION" and not given.startswith("refs/heads/"):
            continue  # as a rule a commit, or where in S3 the source lies
        if name == "GIT_BRANCH":
            given = given.removeprefix("refs/remotes/").removeprefix("origin/")  # Jenkins's git plugin says both
        if found := _plain(given.partition("^{")[0]):
            return found
    return ""


def _trigger(environ: Environ) -> str:
    return environ.get("CODEBUILD_WEBHOOK_TRIGGER") or environ.get("CODEBUILD_SOURCE_VERSION", "")


def _of_teamcity(environ: Environ, read: Read) -> str:
    """It tells builds their branch in a Java properties file, which a first one names."""
    text = read(environ.get("TEAMCITY_BUILD_PROPERTIES_FILE", ""))
    for name in ("teamcity.configuration.properties.file", "teamcity.build.branch"):
        found = re.search(rf"^{re.escape(name)}\s*[=:]\s*(.*)$", text, re.MULTILINE)
        value = re.sub(r"\\(.)", r"\1", found[1].strip()) if found else ""
        if name == "teamcity.build.branch":
            return "" if value == "<default>" else value
        text += "\n" + read(value)
    return ""


def _plain(ref: str) -> str:
    """ "refs/heads/x" and "x" are branch x, "refs/pull/7/merge" and "pull/7" are pull request 7."""
    if asked := re.fullmatch(r"(?:refs/)?(?:pull|merge-requests|pull-requests)/([0-9]+)(?:/\w+)?", ref):
        return f"pr:{int(asked[1])}"
    if ref.startswith("refs/heads/"):
        return ref.removeprefix("refs/heads/")
    return "" if ref in ("HEAD", "detached") or ref.startswith("refs/") else ref


def _tagged(system: str, tag: str) -> UsageError:
    return _unknown(f"{system} builds the tag {tag}, not a branch")


def _unknown(what: str) -> UsageError:
    return UsageError(
        what,
        where="looking for the present branch",
        next="Name it: `--branch NAME`, or `--branch pr:123` for a pull request; or say the environment: `--to ENV`.",
    )


__all__ = ["present"]
