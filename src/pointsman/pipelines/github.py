"""GitHub Actions. https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax"""

from __future__ import annotations

from pointsman.config import Environment
from pointsman.pipelines import Recipe, indented, yaml

_NUMBER = '"$GITHUB_RUN_NUMBER"'
# Others' actions by commit, as GitHub advises: a tag can be moved. GitHub's own by tag.
_CREDENTIALS = "aws-actions/configure-aws-credentials@e6de054238d6b7531b4efff3b6587d9aade6a06c # v6.2.3"
_TERRAFORM = "hashicorp/setup-terraform@dfe3c3f87815947d99a8997f908cb6525fc44e9e # v4.0.1"


def write(recipe: Recipe) -> str:
    main = recipe.seen.main.replace("'", "''")
    approvals = [recipe.called(each) for each in recipe.later if each.approve]
    given = (("AWS_ROLE_ARN", recipe.first.role_arn), ("AWS_REGION", recipe.first.region))
    variables = " and ".join(name for name, value in given if not value)
    needs = ["Needs, once: an IAM role that trusts GitHub's OIDC provider for this repository"]
    needs[0] += f"; variables {variables}." if variables else "."
    for name in approvals:
        needs.append(f"And Settings → Environments → {name} with required reviewers: without them nobody approves, and")
        needs.append("nothing is promoted.")
    jobs = [_deploy(recipe, main)]
    before = "deploy"
    for each in recipe.later:
        jobs.append(_promote(recipe, each, before, main))
        before = _job(recipe, each)
    jobs.append(_clean_up(recipe))
    return f"""\
{recipe.comments("#", *needs, carried="from job to job and from build to build")}
name: pointsman{" " + (recipe.seen.folder.rstrip("/") or "root") if recipe.seen.beside else ""}

on:
  push:
    branches: ["**"]
{_paths(recipe)}{_opened(recipe)}  delete:
  schedule:
    - cron: "17 3 * * *" # branches whose deletion nobody heard of
  workflow_dispatch:

permissions: {{}}

env:
  POINTSMAN_INSTALL: {yaml(recipe.seen.install)} # what `pip install` gets: the one line to change

jobs:
{chr(10).join(jobs)}"""


def _paths(recipe: Recipe) -> str:
    """What a workflow beside others is for. One that is alone misses nothing by running always."""
    if not recipe.seen.beside:
        return ""
    paths = "".join(f"      - {yaml(each)}\n" for each in (*recipe.seen.made_of, recipe.seen.beside))
    return f"    paths: # what else goes into these functions (a lock file above, common code) goes here\n{paths}"


def _group(recipe: Recipe) -> str:
    """Groups are the whole repository's: two workflows in one would cancel what waits. No ref has a colon."""
    return f"pointsman:{recipe.seen.slug}:" if recipe.seen.beside else "pointsman-"


def _opened(recipe: Recipe) -> str:
    if not recipe.preview:
        return ""
    return """\
  pull_request: # what was pushed before had no pull request to comment on
    types: [opened, reopened]
"""


def _job(recipe: Recipe, environment: Environment) -> str:
    return f"to-{recipe.called(environment)}"


def _deploy(recipe: Recipe, main: str) -> str:
    on_main = f"github.event_name == 'push' && github.ref_name == '{main}'"
    only = (
        f"github.event_name == 'push' || (github.event_name == 'pull_request' && github.head_ref != '{main}' &&\n"
        "      github.event.pull_request.head.repo.full_name == github.repository)"
    )
    comment = "\n      pull-requests: write # the preview's URL" if recipe.preview else ""
    # What was pushed. A branch's name would check out its head by then: for a queued run, or one run again, other code.
    steps = _checkout("${{ github.event.pull_request.head.sha || github.sha }}")
    steps += _python(recipe, tests=True) + _ledger(recipe)
    steps += _install(recipe, tests=True) + _credentials(recipe.first, recipe.branch, on_main)
    steps += [
        "- name: Deploy the branch to its own alias",
        f"  if: github.ref_name != '{main}'",
        f"  run: {recipe.to_branch}",
        *_role(recipe.branch),
        f"- name: Deploy {recipe.seen.main} to {recipe.called(recipe.first)}",
        f"  if: {on_main}",
        f"  run: {recipe.to_first(_NUMBER)}",
        *_role(recipe.first),
    ]
    if recipe.preview:
        steps += _comment(recipe, main)
    steps += [
        "- name: Keep the test reports",
        "  if: always()",
        "  uses: actions/upload-artifact@v6",
        "  with:",
        "    name: test-reports",
        f"    path: {yaml(recipe.reports)}",
        "    include-hidden-files: true",
        "    if-no-files-found: ignore",
        *_keep_ledger(recipe),
    ]
    return f"""\
  deploy:
    if: >-
      {only}
    runs-on: ubuntu-latest
    timeout-minutes: 60
    permissions:
      contents: read
      id-token: write # OIDC{comment}
    concurrency: # one after the other, and none cut short
      group: {_group(recipe)}${{{{ github.head_ref || github.ref_name }}}}
      cancel-in-progress: false
    steps:
{indented(steps, 6)}
"""


def _promote(recipe: Recipe, environment: Environment, before: str, main: str) -> str:
    name = recipe.called(environment)
    steps = _checkout("") + _python(recipe, tests=False) + _ledger(recipe) + _install(recipe, tests=False)
    steps += _credentials(environment)
    command = recipe.onwards(_NUMBER, environment)
    if environment.approve:
        mine = f'.state == "approved" and any(.environments[]; .name == "{name}")'
        jq = f"[.[] | select({mine})] | last | .user.login // empty"
        steps += [
            f"- name: Promote what {recipe.called(recipe.first)} got to {name}",
            "  env:",
            "    GH_TOKEN: ${{ github.token }}",
            *_role(environment)[1:],
            "  run: |",
            "    # Who approved. Nobody did, where the environment asks for no reviewer: then this is refused.",
            '    POINTSMAN_APPROVED_BY=$(gh api "repos/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID/approvals" |',
            f"      jq -r '{jq}')",
            "    export POINTSMAN_APPROVED_BY",
            f"    {command}",
        ]
    else:
        steps += [
            f"- name: Promote what {recipe.called(recipe.first)} got to {name}",
            f"  run: {command}",
            *_role(environment),
        ]
    steps += _keep_ledger(recipe)
    approvals = "\n      actions: read # who approved" if environment.approve else ""
    return f"""\
  {_job(recipe, environment)}:
    needs: {before}
    if: github.event_name == 'push' && github.ref_name == '{main}'
    runs-on: ubuntu-latest
    timeout-minutes: 60
    environment: {name}{" # its required reviewers approve" if environment.approve else ""}
    permissions:
      contents: read
      id-token: write # OIDC{approvals}
    concurrency:
      group: {_group(recipe)}{name}
      cancel-in-progress: false
    steps:
{indented(steps, 6)}
"""


def _clean_up(recipe: Recipe) -> str:
    steps = ["- uses: actions/checkout@v5 # its credentials stay: the remote is asked which branches there are"]
    steps += _python(recipe, tests=False) + _ledger(recipe) + _install(recipe, tests=False)
    steps += _credentials(recipe.branch)
    steps += [
        "- name: Delete the aliases of branches that are gone",
        f"  run: {recipe.clean_up}",
        *_role(recipe.branch),
    ]
    return f"""\
  clean-up:
    if: >-
      (github.event_name == 'delete' && github.event.ref_type == 'branch') || github.event_name == 'schedule' ||
      github.event_name == 'workflow_dispatch'
    runs-on: ubuntu-latest
    timeout-minutes: 30
    permissions:
      contents: read
      id-token: write # OIDC
    concurrency: # not while that branch is being deployed
      group: {_group(recipe)}${{{{ github.event_name == 'delete' && github.event.ref || 'clean-up' }}}}
      cancel-in-progress: false
    steps:
{indented(steps, 6)}
"""


def _checkout(ref: str) -> list[str]:
    lines = ["- uses: actions/checkout@v5", "  with:", "    persist-credentials: false"]
    return [*lines, f"    ref: {ref}"] if ref else lines


def _python(recipe: Recipe, *, tests: bool) -> list[str]:
    lines = ["- uses: actions/setup-python@v6", "  with:", f'    python-version: "{recipe.python}"']
    if tests and recipe.node:
        lines += ["- uses: actions/setup-node@v6", "  with:", f'    node-version: "{recipe.node}"']
    if recipe.terraform:
        lines += [f"- uses: {_TERRAFORM}", "  with:", "    terraform_wrapper: false # it would mix into the outputs"]
    if tests:
        locks = ", ".join(f"'{each}'" for each in (*recipe.seen.locks, f"{recipe.seen.folder}pointsman.toml"))
        lines += [
            "- name: Dependencies from the last time",
            "  uses: actions/cache@v5",
            "  with:",
            "    path: |",
            "      ~/.cache/pip",
            *(["      ~/.npm"] if recipe.node else []),
            f"      {recipe.cache}",
            f"    key: pointsman-${{{{ runner.os }}}}-${{{{ hashFiles({locks}) }}}}",
            "    restore-keys: pointsman-${{ runner.os }}-",
        ]
    return lines


def _ledger(recipe: Recipe) -> list[str]:
    if not recipe.ledger:
        return []
    return [
        "- name: Fetch the ledger",
        "  uses: actions/cache/restore@v5",
        "  with:",
        f"    path: {yaml(recipe.ledger)}",
        "    key: pointsman-ledger-${{ github.run_id }}-${{ github.run_attempt }}-${{ github.job }}",
        "    restore-keys: |",
        "      pointsman-ledger-${{ github.run_id }}-",
        "      pointsman-ledger-",
    ]


def _keep_ledger(recipe: Recipe) -> list[str]:
    if not recipe.ledger:
        return []
    return [
        "- name: Keep the ledger",
        "  if: always()",
        "  uses: actions/cache/save@v5",
        "  with:",
        f"    path: {yaml(recipe.ledger)}",
        "    key: pointsman-ledger-${{ github.run_id }}-${{ github.run_attempt }}-${{ github.job }}",
    ]


def _install(recipe: Recipe, *, tests: bool) -> list[str]:
    lines = ["- name: Install", "  run: |", '    pip install --quiet "$POINTSMAN_INSTALL"']
    return lines + [f"    {line}" for line in recipe.seen.prepare] if tests else lines


def _credentials(environment: Environment, branch: Environment | None = None, on_main: str = "") -> list[str]:
    """One step; where branches live elsewhere than main, an expression chooses."""
    other = branch or environment

    def chosen(one: str | None, another: str | None, variable: str) -> str:
        if one == another:
            return one or f"${{{{ vars.{variable} }}}}"
        literals = (f"'{each}'" if each else f"vars.{variable}" for each in (one, another))
        return f"${{{{ {on_main} && {' || '.join(literals)} }}}}"

    account = environment.account if environment.account == other.account else None
    return [
        "- name: Credentials by OIDC",
        f"  uses: {_CREDENTIALS}",
        "  with:",
        f"    role-to-assume: {chosen(environment.role_arn, other.role_arn, 'AWS_ROLE_ARN')}",
        f"    aws-region: {chosen(environment.region, other.region, 'AWS_REGION')}",
        *([f'    allowed-account-ids: "{account}"'] if account else []),
    ]


def _role(environment: Environment) -> list[str]:
    """The role OIDC gave is the one the file names: it is not assumed a second time."""
    return ["  env:", f"    AWS_ROLE_ARN: {environment.role_arn}"] if environment.role_arn else []


def _comment(recipe: Recipe, main: str) -> list[str]:
    return [
        "- name: Comment on the pull request",
        f"  if: always() && github.ref_name != '{main}'",
        "  env:",
        "    GH_TOKEN: ${{ github.token }}",
        "    BRANCH: ${{ github.head_ref || github.ref_name }}",
        "  run: |",
        '    number=$(gh pr list --repo "$GITHUB_REPOSITORY" --head "$BRANCH" --json number |',
        "      jq -r '.[0].number // empty')",
        '    if [ -z "$number" ]; then exit 0; fi',
        f'    {recipe.pointsman.replace(" -v", "")} ci comment --to "$RUNNER_TEMP/comment.md"',
        "    # The comment of last time is changed; the first time there is none.",
        '    mine=$(gh api --paginate "repos/$GITHUB_REPOSITORY/issues/$number/comments" |',
        f"""      jq -r 'map(select(.body | startswith("{recipe.seen.marker}")))[0].id // empty' | head -n 1)""",
        '    if [ -n "$mine" ]; then',
        '      gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$mine" \\',
        '        --field "body=@$RUNNER_TEMP/comment.md"',
        "    else",
        '      gh pr comment "$number" --repo "$GITHUB_REPOSITORY" --body-file "$RUNNER_TEMP/comment.md"',
        "    fi",
    ]
