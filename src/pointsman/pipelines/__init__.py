"""The pipeline of a project for a CI system, as text. Pure: project + what was seen of its folder → file.

Every pipeline says the same: each branch to its own alias, main to the first environment, the others after it with
what that one got, those with `approve = true` behind the system's own approval; branches that are gone are cleaned up.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from shlex import quote
from typing import Literal, TypeAlias

import msgspec

from pointsman.config import Environment, Project, Terraform
from pointsman.model import Value

System: TypeAlias = Literal["github", "gitlab", "circleci", "jenkins", "bitbucket"]
TERRAFORM = "1.9.8"
_MARK = re.compile(r"pointsman-ci: ([0-9a-f]{12})")


class Seen(Value, frozen=True, kw_only=True):
    """What the file alone does not tell. `folder` is where it lies in the repository: "" or "services/greeting/".

    `beside` is the pipeline's own file where the repository has another project's, too: it is then for a change of
    `made_of` only.
    `prepare` are the shell lines that bring what the tests need; `locks` the files that decide what those lines bring.
    """

    install: str
    main: str = "main"
    folder: str = ""
    prepare: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    beside: str = ""
    made_of: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        return slug(self.folder)

    @property
    def marker(self) -> str:
        """What a comment on a pull request begins with: of each project the repository has, one."""
        return marker(self.folder)


class Recipe(Value, frozen=True, kw_only=True):
    """What every system's file is written from."""

    seen: Seen
    first: Environment
    later: tuple[Environment, ...]
    branch: Environment
    names: dict[str, str]  # environment → what `--to` calls it
    preview: bool
    python: str
    node: str
    terraform: bool
    reports: str
    ledger: str  # its file, "" where it is no file

    @property
    def pointsman(self) -> str:
        """The command. -v: a log tells what went on, with the tests' own output."""
        at = f" -f {quote(self.seen.folder + 'pointsman.toml')}" if self.seen.folder else ""
        return f"pointsman -v{at}"

    @property
    def to_branch(self) -> str:
        return f"{self.pointsman} deploy --branch"

    def to_first(self, number: str) -> str:
        return f"{self.pointsman} deploy --to {self.names[self.first.name]} --build-id {number}"

    def onwards(self, number: str, environment: Environment) -> str:
        return f"{self.pointsman} promote {number} --to {self.names[environment.name]}"

    @property
    def clean_up(self) -> str:
        return f"{self.pointsman} branch sync --yes"

    @property
    def home(self) -> str:
        return f"{self.seen.folder}.pointsman"

    @property
    def cache(self) -> str:
        """Where pip, npm and our own builds keep what they fetched: inside .pointsman, which is neither packaged nor
        seen by git."""
        return f"{self.home}/cache"

    def comments(self, mark: str, *lines: str, carried: str) -> str:
        """The lines, and why a ledger's file is `carried`; nothing of it where the ledger is a table."""
        ledger = (
            f"The ledger ({self.ledger}) goes {carried}: which build is which version,",
            "what failed its tests, what an alias served before. Where it is lost, builds are looked up in AWS.",
        )
        return "\n".join(f"{mark} {line}" for line in (*lines, *(ledger if self.ledger else ())))

    def called(self, environment: Environment) -> str:
        return self.names[environment.name]


def recipe(project: Project, seen: Seen) -> Recipe:
    # Of several regions a job is told the first: Pointsman itself goes to all of them.
    environments = tuple(
        msgspec.structs.replace(each, region=each.region or next(iter(each.regions), None))
        for each in project.environments.values()
    )
    first, later = environments[0], environments[1:]
    aliases = [each.alias for each in environments]
    runtimes = [each.runtime or "" for each in project.functions.values()]
    url = project.ledger.url
    return Recipe(
        seen=seen,
        first=first,
        later=later,
        branch=next((each for each in environments if each.name == project.branches.like), first),
        names={each.name: each.alias if aliases.count(each.alias) == 1 else each.name for each in environments},
        preview=project.branches.preview,
        python=_newest(
            [each.removeprefix("python") for each in runtimes if re.match(r"python3\.1[1-9]", each)], "3.13"
        ),
        node=_newest(
            [found[1] for each in runtimes if (found := re.match(r"nodejs(\d+)", each))],
            "22" if any("npm" in line for line in seen.prepare) else "",
        ),
        terraform=any(isinstance(each.provision, Terraform) for each in project.functions.values()),
        reports=f"{seen.folder}.pointsman/reports",
        ledger=f"{seen.folder}{url.removeprefix('sqlite:')}" if url.startswith("sqlite:") else "",
    )


def _newest(versions: list[str], otherwise: str) -> str:
    return max(versions, key=lambda each: tuple(int(part) for part in each.split(".")), default=otherwise)


def pipeline(system: System, project: Project, seen: Seen) -> str:
    """The file's text: equal projects give equal files."""
    from pointsman.pipelines import bitbucket, circleci, github, gitlab, jenkins

    writers: Mapping[System, Callable[[Recipe], str]] = {
        "github": github.write,
        "gitlab": gitlab.write,
        "circleci": circleci.write,
        "jenkins": jenkins.write,
        "bitbucket": bitbucket.write,
    }
    mark = "//" if system == "jenkins" else "#"
    head = f"{mark} Written by `pointsman ci {system}` from {seen.folder}pointsman.toml. Edit it as you like: it is\n"
    head += f"{mark} written anew only where nobody edited it, or with --force.\n"
    text = head + f"{mark} pointsman-ci: {'0' * 12}\n" + writers[system](recipe(project, seen))
    return text.replace(f"pointsman-ci: {'0' * 12}", f"pointsman-ci: {_digest(text)}", 1)


def yaml(text: str) -> str:
    """As a YAML scalar."""
    return json.dumps(text, ensure_ascii=False)


def indented(lines: Iterable[str], by: int) -> str:
    """Text of one or more lines each, further to the right."""
    return "\n".join(" " * by + line if line else "" for line in "\n".join(lines).split("\n"))


def untouched(text: str) -> bool:
    """Whether a file is exactly as some `pointsman ci` wrote it."""
    found = _MARK.search(text)
    return bool(found) and _digest(text) == found[1]  # type: ignore[index]


def folder_of(text: str) -> str | None:
    """The folder of the project that a file was written from, as `Seen.folder`; None where it is no file of ours."""
    if not _MARK.search(text):
        return None
    head = re.search(r"Written by `pointsman ci \w+` from (.*?)pointsman\.toml\. ", text)
    if head and head[1]:
        return head[1]
    # A head of before did not tell its folder, but its commands do.
    named = re.search(r"pointsman -v -f [\\']*([^'\n]*?)pointsman\.toml", text)
    return named[1] if named else ""


def slug(folder: str) -> str:
    """ "svc/web/" → "svc-web"."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", folder).strip("-.")


def marker(folder: str) -> str:
    return f"<!-- pointsman {slug(folder)} -->" if folder else "<!-- pointsman -->"


def _digest(text: str) -> str:
    return hashlib.sha256(_MARK.sub("", text, count=1).encode()).hexdigest()[:12]


PLACES: Mapping[System, str] = {
    "github": ".github/workflows/pointsman.yml",
    "gitlab": ".gitlab-ci.yml",
    "circleci": ".circleci/config.yml",
    "jenkins": "Jenkinsfile",
    "bitbucket": "bitbucket-pipelines.yml",
}

# Where a system has one file for a repository: what a second project does instead.
ONE_FILE: Mapping[System, str] = {
    "gitlab": "`--out FILE` writes beside it: a job with `trigger: {include: FILE}` runs it, and shares STAGE's turns.",
    "circleci": "`--out .circleci/NAME.yml` writes beside it: a second pipeline of the CircleCI project can name it.",
    "jenkins": "`--out FOLDER/Jenkinsfile` writes beside it: a second job has it as its Script Path.",
    "bitbucket": "`--out FILE` writes beside it, to copy from.",
}

__all__ = [
    "ONE_FILE",
    "PLACES",
    "Recipe",
    "Seen",
    "System",
    "folder_of",
    "marker",
    "pipeline",
    "recipe",
    "slug",
    "untouched",
]
