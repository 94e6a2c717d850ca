"""The text of the pipelines: what each system's published schema or grammar makes of it, and when it is new."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman import config, pipelines
from pointsman.pipelines import PLACES, Seen, System, pipeline, untouched
from tests.journeys.ci import groovy

ROOT = Path(__file__).parents[2]
systems = pytest.mark.parametrize("system", list(PLACES))
SCHEMAS = {
    "github": ("vendor.github-workflows",),
    "gitlab": ("vendor.gitlab-ci", "--data-transform", "gitlab-ci"),
    "circleci": ("vendor.circle-ci",),
    "bitbucket": ("vendor.bitbucket-pipelines",),
}
SMALL = """
[function.greeting]
handler   = "app.handler"
runtime   = "python3.12"
provision = { with = "existing", name = "greeting" }
[environment.staging]
alias = "STAGE"
"""
LARGE = """
[function.greeting]
handler   = "index.handler"
runtime   = "nodejs22.x"
provision = { with = "existing", name = "greeting" }
[function.greeting.test]
unit = { run = "npm test", junit = "unit.xml" }
[function.api]
source    = "api"
handler   = "app.handler"
runtime   = "python3.12"
provision = { with = "terraform" }
[environment.staging]
alias    = "STAGE"
region   = "eu-west-1"
account  = "123456789012"
role_arn = "arn:aws:iam::123456789012:role/deployer"
[environment.sandbox]
alias    = "SANDBOX"
[environment.live]
alias    = "LIVE"
account  = "210987654321"
role_arn = "arn:aws:iam::210987654321:role/deployer"
approve  = true
[environment.production]
alias    = "LIVE"
region   = "us-east-1"
approve  = true
[branches]
like    = "sandbox"
preview = true
[ledger]
url = "dynamodb://pointsman-ledger"
"""
SEEN = Seen(install="git+https://git.example/team/pointsman@0123abc")
FAR = Seen(
    install="./vendor/pointsman-0.1.0-py3-none-any.whl",
    main="trunk",
    folder="services/the greeting/",
    prepare=("(cd 'services/the greeting' && npm ci)",),
    locks=("services/the greeting/package-lock.json",),
)
PROJECTS = {"small": (SMALL, SEEN), "large": (LARGE, FAR)}
projects = pytest.mark.parametrize("which", list(PROJECTS))


def written(system: System, which: str, tmp_path: Path) -> str:
    text, seen = PROJECTS[which]
    for folder in ("api", "terraform"):
        (tmp_path / folder).mkdir(exist_ok=True)
    return pipeline(system, config.parse(text, file=tmp_path / "pointsman.toml"), seen)


def accepts(schema: tuple[str, ...], file: Path) -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", *schema, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{file.read_text()}"


@projects
@pytest.mark.parametrize("system", list(SCHEMAS))
def test_the_systems_published_schema_accepts_it(system: System, which: str, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yml"
    file.write_text(written(system, which, tmp_path))

    accepts(SCHEMAS[system], file)


def test_the_schemas_do_find_what_is_wrong(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    for system, schema in SCHEMAS.items():
        file = tmp_path / f"{system}.yml"
        text = written(system, "large", tmp_path)  # type: ignore[arg-type]
        for sound, broken in (
            ("runs-on:", "run-on:"),
            ("resource_group: branch", "resource_groups: branch"),
            ("executor: pointsman", "executer: pointsman"),
            ("trigger: manual", "trigger: by hand"),
        ):
            text = text.replace(sound, broken)
        file.write_text(text)
        with pytest.raises(AssertionError, match="Schema validation errors"):
            accepts(schema, file)


@projects
def test_a_jenkinsfile_is_groovy_and_a_declarative_pipeline(which: str, tmp_path: Path) -> None:
    """By the grammar, and by the sections that https://www.jenkins.io/doc/book/pipeline/syntax/ allows where."""
    ((name, _, sections),) = groovy(written("jenkins", which, tmp_path))
    assert name == "pipeline"
    allowed = {"agent", "options", "triggers", "environment", "stages"}
    assert {each for each, _, _ in sections} == allowed
    stages = {each: body for each, _, body in sections}["stages"]
    for kind, _, body in stages:
        assert kind == "stage"
        parts = [each for each, _, _ in body]
        assert len(parts) == len(set(parts))
        assert {"when", "agent", "steps"} <= set(parts) <= {"when", "agent", "steps", "options", "input", "post"}


def test_what_is_no_groovy_is_not_taken_for_it() -> None:
    with pytest.raises(AssertionError, match="not Groovy"):
        groovy("pipeline { stages { stage('a' { } }")


@projects
@systems
def test_equal_projects_give_equal_files_that_say_who_wrote_them(system: System, which: str, tmp_path: Path) -> None:
    once, again = written(system, which, tmp_path), written(system, which, tmp_path)

    assert once == again
    assert untouched(once)
    assert not untouched(once + "\n")
    assert not untouched(once.replace("pointsman -v", "pointsman -v --local", 1))
    assert not untouched("name: somebody else's\n")
    assert max(len(line) for line in once.splitlines()) < 180
    assert not [line for line in once.splitlines() if line != line.rstrip()]


@systems
def test_a_project_in_a_folder_of_its_repository_is_named_by_its_path(system: System, tmp_path: Path) -> None:
    text = written(system, "large", tmp_path)

    assert "-f 'services/the greeting/pointsman.toml' deploy --branch" in text.replace("\\'", "'")
    assert "services/the greeting/.pointsman/reports" in text


@systems
def test_a_ledger_that_is_a_table_is_carried_by_nobody(system: System, tmp_path: Path) -> None:
    assert "ledger.db" in written(system, "small", tmp_path)
    assert "ledger" not in written(system, "large", tmp_path).replace("pointsman-ledger", "")


def test_two_environments_of_one_alias_are_called_by_their_names(tmp_path: Path) -> None:
    text = written("gitlab", "large", tmp_path)

    assert 'promote "$CI_PIPELINE_IID" --to live' in text
    assert 'promote "$CI_PIPELINE_IID" --to production' in text
    assert "--to SANDBOX" in text


def test_a_branch_of_any_name_has_an_environment_on_gitlab(tmp_path: Path) -> None:
    """An environment's name takes no `#`, `@` or `ü`; a job that would create such a one does not run."""
    text = written("gitlab", "small", tmp_path)

    assert text.count("  name: branch/$CI_COMMIT_REF_SLUG") == 2
    assert "name: branch/$CI_COMMIT_REF_NAME" not in text


def test_the_role_of_the_file_is_the_one_a_job_signs_in_as(tmp_path: Path) -> None:
    jobs = yaml.safe_load(written("github", "large", tmp_path))["jobs"]

    def role(job: str) -> Any:
        return next(step["with"] for step in jobs[job]["steps"] if "aws-actions" in step.get("uses", ""))

    assert role("to-live") == {
        "role-to-assume": "arn:aws:iam::210987654321:role/deployer",
        "aws-region": "${{ vars.AWS_REGION }}",
        "allowed-account-ids": "210987654321",
    }
    assert role("to-SANDBOX")["role-to-assume"] == "${{ vars.AWS_ROLE_ARN }}"
    on_main = "github.event_name == 'push' && github.ref_name == 'trunk'"
    assert role("deploy")["aws-region"] == f"${{{{ {on_main} && 'eu-west-1' || vars.AWS_REGION }}}}"
    assert jobs["to-live"]["permissions"] == {"contents": "read", "id-token": "write", "actions": "read"}
    assert jobs["to-SANDBOX"]["needs"] == "deploy"
    assert jobs["to-production"]["needs"] == "to-live"


def test_the_action_is_one(tmp_path: Path) -> None:
    accepts(("vendor.github-actions",), ROOT / "action.yml")
    outputs = yaml.safe_load((ROOT / "action.yml").read_text())["outputs"]
    from pointsman.cli import reports

    assert set(outputs) == set(reports._outputs([]))


def test_the_containerfile_parses_and_runs_as_nobody_in_particular() -> None:
    from dockerfile_parse import DockerfileParser

    with (ROOT / "Containerfile").open("rb") as file:
        parsed = DockerfileParser(fileobj=file).structure
    words = [each["instruction"] for each in parsed]
    known = {"COMMENT", "ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"}
    assert set(words) <= known
    assert words.index("USER") > max(place for place, word in enumerate(words) if word == "RUN")
    for each in parsed:
        if each["instruction"] == "COPY" and not each["value"].startswith("--from"):
            assert all((ROOT / source).exists() for source in each["value"].split()[:-1])
        if each["instruction"] == "RUN":
            subprocess.run(["sh", "-n", "-c", each["value"]], check=True)


def test_systems_and_places_are_the_same_list() -> None:
    import typing

    assert set(typing.get_args(pipelines.System)) == set(PLACES)
