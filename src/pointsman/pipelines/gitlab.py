"""GitLab CI/CD. https://docs.gitlab.com/ci/yaml/"""

from __future__ import annotations

from pointsman.config import Environment
from pointsman.pipelines import TERRAFORM, Recipe, indented, yaml

_NUMBER = '"$CI_PIPELINE_IID"'


def write(recipe: Recipe) -> str:
    first = recipe.called(recipe.first)
    jobs = [_branch(recipe), _stage(recipe, first)]
    before = first
    for each in recipe.later:
        jobs.append(_promote(recipe, each, before))
        before = recipe.called(each)
    jobs.append(_clean_up(recipe))
    home = f"$CI_PROJECT_DIR/{recipe.cache}"
    node = f"\n  npm_config_cache: {yaml(f'{home}/npm')}" if recipe.node else ""
    given = (("AWS_ROLE_ARN", recipe.first.role_arn), ("AWS_REGION", recipe.first.region))
    variables = " and ".join(name for name, value in given if not value)
    needs = ["Needs, once: an IAM role that trusts this GitLab's OIDC provider for this project"]
    needs[0] += f"; CI/CD variables {variables}." if variables else "."
    if approvals := ", ".join(recipe.called(each) for each in recipe.later if each.approve):
        needs.append(
            f"Protect {approvals} (Settings → CI/CD → Protected environments): who may deploy there may approve."
        )
    needs.append("And a pipeline schedule (Build → Pipeline schedules), for branches whose deletion nobody heard of.")
    return f"""\
{recipe.comments("#", *needs, carried="from job to job and from build to build")}
stages: [deploy, promote, clean-up]

variables:
  POINTSMAN_INSTALL: {yaml(recipe.seen.install)} # what `pip install` gets: the one line to change
  PIP_CACHE_DIR: {yaml(f"{home}/pip")}{node}
  AWS_WEB_IDENTITY_TOKEN_FILE: /tmp/aws-token # every AWS SDK exchanges it for the role's credentials

workflow:
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule"
    - if: $CI_PIPELINE_SOURCE == "push" && $CI_COMMIT_BRANCH
    - if: $CI_PIPELINE_SOURCE == "web" && $CI_COMMIT_BRANCH

.pointsman:
  image: {_image(recipe)}
  id_tokens:
    AWS_TOKEN:
      aud: $CI_SERVER_URL
  before_script:
    - printf '%s' "$AWS_TOKEN" > "$AWS_WEB_IDENTITY_TOKEN_FILE"
    - pip install --quiet "$POINTSMAN_INSTALL"{_terraform(recipe)}
  interruptible: false

{chr(10).join(jobs)}"""


def _image(recipe: Recipe) -> str:
    return (
        f"nikolaik/python-nodejs:python{recipe.python}-nodejs{recipe.node}"
        if recipe.node
        else f"python:{recipe.python}"
    )


def _terraform(recipe: Recipe) -> str:
    if not recipe.terraform:
        return ""
    archive = f"https://releases.hashicorp.com/terraform/{TERRAFORM}/terraform_{TERRAFORM}_linux_amd64.zip"
    return f"""
    - curl -fsSL {archive} -o /tmp/terraform.zip
    - python -c 'import zipfile; zipfile.ZipFile("/tmp/terraform.zip").extract("terraform", "/usr/local/bin")'
    - chmod +x /usr/local/bin/terraform"""


def _role(environment: Environment, *more: str) -> list[str]:
    lines = [f"  AWS_ROLE_ARN: {environment.role_arn}"] if environment.role_arn else []
    lines += [f"  AWS_REGION: {environment.region}"] if environment.region else []
    lines += [f"  {each}" for each in more]
    return ["variables:", *lines] if lines else []


def _kept(recipe: Recipe, *, tests: bool = True, dotenv: bool = False) -> list[str]:
    """JUnit by GitLab's own report; the ledger as an artifact for the jobs after this one, and in the cache."""
    return [
        "cache:",
        "  when: always # a failed test is to be remembered",
        "  key: pointsman-$CI_COMMIT_REF_SLUG",
        "  fallback_keys: [pointsman-$CI_DEFAULT_BRANCH]",
        f"  paths: {_list(f'{recipe.cache}/', recipe.ledger)}",
        "artifacts:",
        "  when: always",
        f"  paths: {_list(f'{recipe.reports}/', recipe.ledger)}",
        *(["  reports:", f"    junit: {yaml(f'{recipe.reports}/**/*.xml')}"] if tests else []),
        *([f"    dotenv: {recipe.home}/reports/pointsman.env"] if dotenv else []),
    ]


def _list(*paths: str) -> str:
    return f"[{', '.join(yaml(each) for each in paths if each)}]"


def _branch(recipe: Recipe) -> str:
    rules = f'if: $CI_PIPELINE_SOURCE != "schedule" && $CI_COMMIT_BRANCH != {yaml(recipe.seen.main)}'
    outputs = f"POINTSMAN_OUTPUT: {recipe.home}/reports/pointsman.env # what the deploy came to, as variables"
    url = ["  url: $POINTSMAN_PREVIEW_URL"] if recipe.preview else []
    deploy = [
        "extends: .pointsman",
        "stage: deploy",
        "rules:",
        f"  - {rules}",
        "resource_group: branch/$CI_COMMIT_REF_SLUG # one after the other",
        "environment:",
        "  name: branch/$CI_COMMIT_REF_SLUG",
        *url,
        "  on_stop: branch-gone",
        *_role(recipe.branch, *([outputs] if recipe.preview else [])),
        "script:",
        *(f"  - {line}" for line in recipe.seen.prepare),
        f"  - {recipe.to_branch}",
        *_kept(recipe, dotenv=recipe.preview),
    ]
    gone = [
        "extends: .pointsman",
        "stage: deploy",
        "rules:",
        f"  - {rules}",
        "    when: manual # and by GitLab itself, when the branch is deleted",
        "    allow_failure: true",
        "needs: []",
        "resource_group: branch/$CI_COMMIT_REF_SLUG",
        "environment:",
        "  name: branch/$CI_COMMIT_REF_SLUG",
        "  action: stop",
        *_role(recipe.branch, "GIT_STRATEGY: none # the branch is gone"),
        "before_script:",
        '  - cd "$(mktemp -d)"',
        '  - git clone --quiet --depth 1 "$CI_REPOSITORY_URL" .',
        "  - !reference [.pointsman, before_script]",
        "script:",
        f'  - {recipe.pointsman} branch delete "$CI_COMMIT_REF_NAME" --yes',
    ]
    return f"branch:\n{indented(deploy, 2)}\n\nbranch-gone:\n{indented(gone, 2)}\n"


def _stage(recipe: Recipe, name: str) -> str:
    lines = [
        "extends: .pointsman",
        "stage: deploy",
        "rules:",
        f'  - if: $CI_PIPELINE_SOURCE != "schedule" && $CI_COMMIT_BRANCH == {yaml(recipe.seen.main)}',
        f"resource_group: {name}",
        "environment:",
        f"  name: {name}",
        "  deployment_tier: staging",
        *_role(recipe.first),
        "script:",
        *(f"  - {line}" for line in recipe.seen.prepare),
        f"  - {recipe.to_first(_NUMBER)}",
        *_kept(recipe),
    ]
    return f"{name}:\n{indented(lines, 2)}\n"


def _promote(recipe: Recipe, environment: Environment, before: str) -> str:
    name = recipe.called(environment)
    approved = "POINTSMAN_APPROVED_BY: $GITLAB_USER_LOGIN # of a manual job: who started it"
    lines = [
        "extends: .pointsman",
        "stage: promote",
        f"needs: [{before}]",
        "rules:",
        f'  - if: $CI_PIPELINE_SOURCE != "schedule" && $CI_COMMIT_BRANCH == {yaml(recipe.seen.main)}',
        *(["    when: manual # the approval"] if environment.approve else []),
        f"resource_group: {name}",
        "environment:",
        f"  name: {name}",
        "  deployment_tier: production" if environment.approve else "  deployment_tier: testing",
        *_role(environment, *([approved] if environment.approve else [])),
        "script:",
        f"  - {recipe.onwards(_NUMBER, environment)}",
        *_kept(recipe, tests=False),
    ]
    return f"{name}:\n{indented(lines, 2)}\n"


def _clean_up(recipe: Recipe) -> str:
    lines = [
        "extends: .pointsman",
        "stage: clean-up",
        "rules:",
        '  - if: $CI_PIPELINE_SOURCE == "schedule"',
        *_role(recipe.branch),
        "script:",
        f"  - {recipe.clean_up}",
    ]
    return f"clean-up:\n{indented(lines, 2)}\n"
