"""`pointsman ci`, as somebody types it: what is written where, and what is never overwritten."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.journeys.ci import git
from tests.journeys.conftest import Shop


def test_it_writes_the_file_where_the_system_looks_for_it_and_again_only_what_changed(shop: Shop) -> None:
    git(shop.folder, "init", "--quiet", "--initial-branch", "main")

    first = shop.ok("ci", "github", "--install", "git+https://git.example/pointsman@v1", "--json").result
    path = shop.folder / ".github" / "workflows" / "pointsman.yml"
    assert first["file"] == str(path)
    assert first["changed"] is True
    assert path.read_text() == first["text"]

    again = shop.ok("ci", "github", "--install", "git+https://git.example/pointsman@v1")
    assert "is as it should be" in again.out

    newer = shop.ok("ci", "github", "--install", "git+https://git.example/pointsman@v2")
    assert '-  POINTSMAN_INSTALL: "git+https://git.example/pointsman@v1"' in newer.out
    assert '+  POINTSMAN_INSTALL: "git+https://git.example/pointsman@v2"' in newer.out
    assert "pointsman@v2" in path.read_text()


def test_what_somebody_edited_is_left_alone_without_force(shop: Shop) -> None:
    shop.ok("ci", "gitlab")
    path = shop.folder / ".gitlab-ci.yml"
    mine = path.read_text().replace("interruptible: false", "interruptible: true")
    path.write_text(mine)

    refused = shop.run("ci", "gitlab")
    assert refused.code == 2
    assert "-  interruptible: true" in refused.out
    assert "was edited" in refused.err
    assert path.read_text() == mine

    shop.ok("ci", "gitlab", "--force")
    assert "interruptible: false" in path.read_text()


def test_a_file_of_somebody_else_is_left_alone_too(shop: Shop) -> None:
    shop.write("Jenkinsfile", "pipeline { }\n")

    assert shop.run("ci", "jenkins").code == 2
    assert (shop.folder / "Jenkinsfile").read_text() == "pipeline { }\n"
    shop.ok("ci", "jenkins", "--out", "Jenkinsfile.pointsman")
    assert (shop.folder / "Jenkinsfile.pointsman").exists()


def test_it_can_be_read_before_it_is_written(shop: Shop) -> None:
    out = shop.ok("ci", "circleci", "--out", "-").out

    assert out.startswith("# Written by `pointsman ci circleci`")
    assert not (shop.folder / ".circleci").exists()


def test_a_wheel_in_the_repository_is_what_ci_installs(shop: Shop) -> None:
    git(shop.folder, "init", "--quiet")
    (shop.folder / "vendor").mkdir()
    (shop.folder / "vendor" / "pointsman-9.9.9-py3-none-any.whl").touch()

    assert '"./vendor/pointsman-9.9.9-py3-none-any.whl"' in shop.ok("ci", "github", "--out", "-").out


def test_in_a_folder_of_a_repository_the_file_goes_to_the_top_and_names_the_folder(shop: Shop, tmp_path: Path) -> None:
    top = tmp_path / "repository"
    folder = top / "services" / "greeting"
    shutil.copytree(shop.folder, folder)
    git(top, "init", "--quiet", "--initial-branch", "trunk")
    git(top, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--allow-empty", "-m", "a")
    shop.folder = folder

    shop.ok("ci", "github")

    text = (top / ".github" / "workflows" / "pointsman.yml").read_text()
    assert "run: pointsman -v -f services/greeting/pointsman.toml deploy --branch" in text
    assert "github.ref_name == 'trunk'" in text


def test_what_the_tests_need_is_brought_before_they_run(shop: Shop) -> None:
    shop.write("package-lock.json", "{}")
    shop.write("requirements-dev.txt", "")
    shop.write("requirements.txt", "")
    shop.configure(test='[function.greeting.test]\nunit = { run = "npm test", junit = "unit.xml" }')

    text = shop.ok("ci", "gitlab", "--out", "-").out

    assert "    - npm ci\n    - pip install --quiet -r requirements-dev.txt\n    - pointsman" in text
    assert "nodejs22" in text, "npm needs a Node"


def test_a_state_that_ci_machines_do_not_have_is_told(shop: Shop) -> None:
    shop.configure(provision='{ with = "terraform" }')
    shop.write("terraform/main.tf", 'terraform {\n  # backend "s3" {}\n}\n')
    assert "Terraform in terraform keeps its state in a file here" in shop.ok("ci", "github").out
    shop.write("terraform/backend.tf.json", '{"terraform": [{"backend": [{"local": {}}]}]}')
    assert "keeps its state" in shop.ok("ci", "gitlab").out
    shop.write("terraform/backend.tf.json", '{"terraform": {"backend": {"s3": {}}}}')
    assert "keeps its state" not in shop.ok("ci", "jenkins").out
    shop.write("terraform/backend.tf.json", "{}")
    shop.write("terraform/main.tf", 'terraform {\n  backend "s3" {}\n}\n')
    assert "keeps its state" not in shop.ok("ci", "circleci").out


def test_a_comment_needs_a_deploy_to_tell_of(shop: Shop, tmp_path: Path) -> None:
    nothing = shop.run("ci", "comment")
    assert nothing.code == 2
    assert "there is no result to tell of" in nothing.err

    document = tmp_path / "result.json"
    document.write_text(shop.ok("deploy", "--build-id", "101", "--json").out)
    told = shop.ok("ci", "comment", "--from", str(document)).out
    assert told.startswith("<!-- pointsman -->\n")
    assert f"| {shop.name} | STAGE | 1 |  | 101 |" in told

    document.write_text(shop.run("promote", "999", "--to", "PROD", "--json").out)
    assert "failed" in shop.ok("ci", "comment", "--from", str(document)).out

    document.write_text("[]")
    assert shop.run("ci", "comment", "--from", str(document)).code == 2


@pytest.mark.parametrize("words", [("deploy", "--build-id", "7"), ("promote", "nothing", "--to", "PROD")])
def test_with_json_standard_output_stays_one_document_on_github(
    shop: Shop, words: tuple[str, ...], tmp_path: Path
) -> None:
    shop.variables = {**shop.variables, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}

    answer = shop.run(*words, "--json")

    assert json.loads(answer.out)["schema"] == 1
    assert ("::error " in answer.err) is (answer.code != 0)
    assert (tmp_path / "summary").read_text().startswith(f"### pointsman {words[0]}")


def test_completion_knows_the_systems(shop: Shop) -> None:
    script = shop.ok("completion", "bash").out

    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0
    assert "'bitbucket'" in script or "bitbucket" in script


def test_a_branchs_preview_is_in_summary_outputs_and_comment(shop: Shop, tmp_path: Path) -> None:
    shop.configure(more="\n[branches]\npreview = true\n")
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"
    shop.variables |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(outputs)}

    done = shop.ok("deploy", "--branch", "feature/x", "--build-id", "1", "--json").result[0]
    comment = shop.ok("ci", "comment").out

    url = done["preview"]
    assert url.startswith("http")
    assert f"<{url}>" in summary.read_text()
    assert f"preview-url={url}" in outputs.read_text().splitlines()
    assert f"Preview of `{done['alias']}`: <{url}>" in comment

    shop.ok("deploy", "--branch", "feature/x", "--build-id", "2")
    assert f"<{url}>" in shop.ok("ci", "comment").out, "an unchanged build has its preview still"


def two_projects(shop: Shop) -> tuple[Shop, Shop]:
    git(shop.folder, "init", "--quiet", "--initial-branch", "main")
    (shop.folder / "svc").mkdir()
    return shop.another(shop.folder / "svc" / "api", "api"), shop.another(shop.folder / "svc" / "web", "web")


def test_on_github_a_second_project_of_a_repository_gets_a_workflow_of_its_own(shop: Shop) -> None:
    api, web = two_projects(shop)
    workflows = shop.folder / ".github" / "workflows"

    api.ok("ci", "github")
    first = (workflows / "pointsman.yml").read_text()
    web.ok("ci", "github")

    assert (workflows / "pointsman.yml").read_text() == first
    text = (workflows / "pointsman-svc-web.yml").read_text()
    assert "-f svc/web/pointsman.toml" in text
    workflow = yaml.safe_load(text)
    assert workflow["name"] == "pointsman svc/web"
    assert workflow[True]["push"]["paths"] == ["svc/web/**", ".github/workflows/pointsman-svc-web.yml"]
    groups = {job["concurrency"]["group"] for job in workflow["jobs"].values()}
    assert not groups & {job["concurrency"]["group"] for job in yaml.safe_load(first)["jobs"].values()}
    for project in (api, web):
        assert "is as it should be" in project.ok("ci", "github").out
    (workflows / "pointsman.yml").unlink()
    assert "pointsman-svc-web.yml is as it should be" in web.ok("ci", "github").out


@pytest.mark.parametrize("system", ["gitlab", "circleci", "jenkins", "bitbucket"])
def test_where_a_system_has_one_file_a_second_project_does_not_replace_the_firsts(shop: Shop, system: str) -> None:
    api, web = two_projects(shop)
    path = Path(api.ok("ci", system, "--json").result["file"])
    before = path.read_text()

    refused = web.run("ci", system)

    assert refused.code == 2
    assert "is the pipeline of another project, svc/api/pointsman.toml" in refused.err
    assert "One pointsman.toml with the functions of both has one pipeline" in refused.err
    assert path.read_text() == before
    web.ok("ci", system, "--out", str(web.folder / "pipeline"))
    web.ok("ci", system, "--force")
    assert "svc/web/pointsman.toml" in path.read_text()


def test_each_project_of_a_repository_has_its_own_comment_on_a_pull_request(shop: Shop) -> None:
    _, web = two_projects(shop)
    web.configure(more="[branches]\npreview = true")
    document = web.folder / "result.json"
    document.write_text(json.dumps({"result": [], "ok": True}))

    told = web.ok("ci", "comment", "--from", str(document)).out

    assert told.startswith("<!-- pointsman svc-web -->\n")
    assert 'startswith("<!-- pointsman svc-web -->")' in web.ok("ci", "github", "--out", "-").out
