"""Bitbucket Pipelines. https://support.atlassian.com/bitbucket-cloud/docs/bitbucket-pipelines-configuration-reference/"""

from __future__ import annotations

from shlex import quote

from pointsman.config import Environment
from pointsman.pipelines import TERRAFORM, Recipe, indented, yaml

_NUMBER = '"$BITBUCKET_BUILD_NUMBER"'


def write(recipe: Recipe) -> str:
    first = recipe.first
    given = [name for name, value in (("AWS_ROLE_ARN", first.role_arn), ("AWS_REGION", first.region)) if not value]
    variables = f" Variables: {' and '.join(given)}." if given else ""
    needs = [
        f"Needs, once: an IAM role that trusts this workspace's OIDC provider, for this repository.{variables}",
        f"Deployments {', '.join(each.name for each in (first, *recipe.later))}: whoever may deploy there may approve.",
        "For the clean-up: a schedule of the custom pipeline clean-up.",
    ]
    steps = [
        _step(recipe, first, f"{recipe.called(first)}", recipe.to_first(_NUMBER), tests=True, deployment=first.name)
    ]
    steps += [_promote(recipe, each) for each in recipe.later]
    branch = _step(
        recipe,
        recipe.branch,
        "Branch to its own alias",
        recipe.to_branch,
        tests=True,
        group="pointsman-$BITBUCKET_BRANCH",
    )
    return f"""\
{recipe.comments("#", *needs, carried="from step to step, and no further")}
image: {_image(recipe)}

definitions:
  caches:
    pointsman:
      key:
        files: [{", ".join(yaml(each) for each in (*recipe.seen.locks, f"{recipe.seen.folder}pointsman.toml"))}]
      path: {recipe.cache}
  set-up: &set-up |
    export POINTSMAN_INSTALL={quote(recipe.seen.install)} # what `pip install` gets: the one line to change
    # Every AWS SDK exchanges the token for the role's credentials.
    export AWS_WEB_IDENTITY_TOKEN_FILE=/tmp/aws-token
    printf '%s' "$BITBUCKET_STEP_OIDC_TOKEN" > "$AWS_WEB_IDENTITY_TOKEN_FILE"
    export PIP_CACHE_DIR="$BITBUCKET_CLONE_DIR/{recipe.cache}/pip"{_npm(recipe)}
    pip install --quiet "$POINTSMAN_INSTALL"{_terraform(recipe)}

pipelines:
  default:
{indented(branch, 4)}
  branches:
    {yaml(recipe.seen.main)}:
{chr(10).join(indented(each, 6) for each in steps)}
  custom:
    clean-up:
{indented(_step(recipe, recipe.branch, "Delete the aliases of branches that are gone", recipe.clean_up), 6)}
"""


def _image(recipe: Recipe) -> str:
    return (
        f"nikolaik/python-nodejs:python{recipe.python}-nodejs{recipe.node}"
        if recipe.node
        else f"python:{recipe.python}"
    )


def _npm(recipe: Recipe) -> str:
    return f' npm_config_cache="$BITBUCKET_CLONE_DIR/{recipe.cache}/npm"' if recipe.node else ""


def _terraform(recipe: Recipe) -> str:
    if not recipe.terraform:
        return ""
    archive = f"https://releases.hashicorp.com/terraform/{TERRAFORM}/terraform_{TERRAFORM}_linux_amd64.zip"
    return f"""
    curl -fsSL {archive} -o /tmp/terraform.zip
    python -c 'import zipfile; zipfile.ZipFile("/tmp/terraform.zip").extract("terraform", "/usr/local/bin")'
    chmod +x /usr/local/bin/terraform"""


def _step(
    recipe: Recipe,
    environment: Environment,
    name: str,
    command: str,
    *,
    tests: bool = False,
    deployment: str = "",
    group: str = "",
    trigger: str = "",
    before: tuple[str, ...] = (),
) -> list[str]:
    lines = [f"name: {name}", "oidc: true"]
    lines += [f"trigger: {trigger}"] if trigger else []
    lines += [f"deployment: {deployment} # Bitbucket lets one at a time deploy to it"] if deployment else []
    lines += [f"concurrency-group: {group}"] if group else []
    lines += ["caches: [pointsman]"] if tests else []
    role = [f"export AWS_ROLE_ARN={environment.role_arn}"] if environment.role_arn else []
    role += [f"export AWS_REGION={environment.region}"] if environment.region else []
    lines += ["script:", "  - *set-up", *(f"  - {each}" for each in (*role, *before))]
    lines += [f"  - {line}" for line in recipe.seen.prepare] if tests else []
    lines += [f"  - {command}"]
    if tests:
        reports = quote(recipe.reports)
        # Bitbucket looks for JUnit in folders of a few names only; test-results is one.
        lines += [
            "after-script:",
            f"  - if [ -d {reports} ]; then cp -r {reports} test-results; fi",
        ]
        if recipe.ledger and deployment:
            lines += ["artifacts:", f"  - {recipe.ledger}"]
    return ["- step:", indented(lines, 4)]


def _promote(recipe: Recipe, environment: Environment) -> list[str]:
    approved = 'export POINTSMAN_APPROVED_BY="$BITBUCKET_STEP_TRIGGERER_UUID" # who started this step'
    return _step(
        recipe,
        environment,
        recipe.called(environment),
        recipe.onwards(_NUMBER, environment),
        deployment=environment.name,
        trigger="manual" if environment.approve else "",
        before=(approved,) if environment.approve else (),
    )
