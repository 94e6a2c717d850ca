"""CircleCI. https://circleci.com/docs/reference/configuration-reference/"""

from __future__ import annotations

from pointsman.config import Environment
from pointsman.pipelines import TERRAFORM, Recipe, indented, yaml

_NUMBER = "<< pipeline.number >>"
_CONTEXT = "aws"


def write(recipe: Recipe) -> str:
    main = yaml(recipe.seen.main)
    first = recipe.called(recipe.first)
    given = (("AWS_ROLE_ARN", recipe.first.role_arn), ("AWS_REGION", recipe.first.region))
    variables = " and ".join(name for name, value in given if not value)
    needs = ["Needs, once: an IAM role that trusts this organization's OIDC provider for this project; a context"]
    needs += [f'"{_CONTEXT}"{f" with {variables}" if variables else ""}; and, for the clean-up, a schedule trigger.']
    jobs = [
        _job(recipe, "branch", recipe.branch, [recipe.to_branch], tests=True),
        _job(recipe, first, recipe.first, [recipe.to_first(_NUMBER)], tests=True),
        *(_promote(recipe, each) for each in recipe.later),
        _job(recipe, "clean-up", recipe.branch, [recipe.clean_up], tests=False),
    ]
    return f"""\
{recipe.comments("#", *needs, carried="from job to job and from build to build")}
version: 2.1

executors:
  pointsman:
    docker:
      - image: {_image(recipe)}
    environment:
      POINTSMAN_INSTALL: {yaml(recipe.seen.install)} # what `pip install` gets: the one line to change
      AWS_WEB_IDENTITY_TOKEN_FILE: /tmp/aws-token # every AWS SDK exchanges it for the role's credentials

commands:
  set-up:
    steps:
      - checkout
      - restore_cache:
          keys:
            - pointsman-{{{{ .Branch }}}}-
            - pointsman-{recipe.seen.main}-
      - run:
          name: Install
          command: |
            printf '%s' "$CIRCLE_OIDC_TOKEN_V2" > "$AWS_WEB_IDENTITY_TOKEN_FILE"
            pip install --quiet "$POINTSMAN_INSTALL"{_terraform(recipe)}

jobs:
{chr(10).join(jobs)}
workflows:
  release:
    when:
      not:
        equal: [scheduled_pipeline, << pipeline.trigger_source >>]
    jobs:
      - branch:
          context: {_CONTEXT}
          serial-group: << pipeline.project.slug >>/<< pipeline.git.branch >> # one after the other
          filters: {{ branches: {{ ignore: {main} }} }}
      - {first}:
          context: {_CONTEXT}
          serial-group: << pipeline.project.slug >>/{first}
          filters: {{ branches: {{ only: {main} }} }}
{_onwards(recipe, first)}
  clean-up:
    when:
      equal: [scheduled_pipeline, << pipeline.trigger_source >>]
    jobs:
      - clean-up:
          context: {_CONTEXT}
"""


def _image(recipe: Recipe) -> str:
    return f"cimg/python:{recipe.python}-node" if recipe.node else f"cimg/python:{recipe.python}"


def _terraform(recipe: Recipe) -> str:
    if not recipe.terraform:
        return ""
    archive = f"https://releases.hashicorp.com/terraform/{TERRAFORM}/terraform_{TERRAFORM}_linux_amd64.zip"
    return f"""
            curl -fsSL {archive} -o /tmp/terraform.zip
            sudo unzip -qo /tmp/terraform.zip terraform -d /usr/local/bin"""


def _role(environment: Environment, *more: str) -> list[str]:
    lines = [f"  AWS_ROLE_ARN: {environment.role_arn}"] if environment.role_arn else []
    lines += [f"  AWS_REGION: {environment.region}"] if environment.region else []
    lines += [f"  {each}" for each in more]
    return ["environment:", *lines] if lines else []


def _job(recipe: Recipe, name: str, environment: Environment, commands: list[str], *, tests: bool) -> str:
    lines = ["executor: pointsman", *_role(environment), "steps:", "  - set-up"]
    if tests and recipe.seen.prepare:
        lines += ["  - run:", "      name: Dependencies of the tests", "      command: |"]
        lines += [f"        {line}" for line in recipe.seen.prepare]
    lines += ["  - run:", f"      name: {commands[-1].split(' -v')[0]} {name}", "      command: |"]
    lines += [f"        {line}" for line in commands]
    if tests:
        lines += ["  - store_test_results:", f"      path: {recipe.reports}"]
        lines += ["  - store_artifacts:", f"      path: {recipe.reports}"]
        lines += _keep(recipe)
        if recipe.ledger and name != "branch":
            lines += ["  - persist_to_workspace: # for the jobs after this one", "      root: .", "      paths:"]
            lines += [f"        - {recipe.ledger}"]
    return f"  {name}:\n{indented(lines, 4)}\n"


def _keep(recipe: Recipe) -> list[str]:
    return [
        "  - save_cache:",
        "      when: always # a failed test is to be remembered",
        "      key: pointsman-{{ .Branch }}-{{ epoch }}",
        "      paths:",
        *(f"        - {each}" for each in (recipe.cache, recipe.ledger) if each),
    ]


def _promote(recipe: Recipe, environment: Environment) -> str:
    name = recipe.called(environment)
    lines = ["executor: pointsman", *_role(environment), "steps:", "  - set-up"]
    if recipe.ledger:
        lines += ["  - attach_workspace:", "      at: ."]
    lines += ["  - run:", f"      name: pointsman {name}"]
    if environment.approve:
        lines += [
            "      environment: # CircleCI tells jobs that somebody approved, not who",
            "        POINTSMAN_APPROVED_BY: CircleCI approval before this job",
        ]
    lines += ["      command: |", f"        {recipe.onwards(_NUMBER, environment)}"]
    lines += _keep(recipe) if recipe.ledger else []
    return f"  {name}:\n{indented(lines, 4)}\n"


def _onwards(recipe: Recipe, before: str) -> str:
    lines: list[str] = []
    only = f"filters: {{ branches: {{ only: {yaml(recipe.seen.main)} }} }}"
    for each in recipe.later:
        name = recipe.called(each)
        if each.approve:
            lines += [f"- approve-{name}:", "    type: approval", f"    requires: [{before}]", f"    {only}"]
            before = f"approve-{name}"
        lines += [f"- {name}:", f"    context: {_CONTEXT}", f"    requires: [{before}]"]
        lines += [f"    serial-group: << pipeline.project.slug >>/{name}", f"    {only}"]
        before = name
    return indented(lines, 6)
