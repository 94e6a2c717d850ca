"""Jenkins, a declarative pipeline for a multibranch job. https://www.jenkins.io/doc/book/pipeline/syntax/"""

from __future__ import annotations

from shlex import quote

from pointsman.config import Environment
from pointsman.pipelines import Recipe, indented

_NUMBER = '"$BUILD_NUMBER"'


def write(recipe: Recipe) -> str:
    main = _text(recipe.seen.main)
    on_main = ["when {", "    beforeAgent true", f"    branch {main}", "    not { triggeredBy 'TimerTrigger' }", "}"]
    stages = [
        _stage(
            "Branch",
            ["when {", "    beforeAgent true", f"    not {{ branch {main} }}", "}"],
            recipe.branch,
            _shell(recipe, recipe.to_branch, tests=True),
            recipe,
        ),
        _stage(
            recipe.called(recipe.first),
            on_main,
            recipe.first,
            _shell(recipe, recipe.to_first(_NUMBER), tests=True),
            recipe,
        ),
        *(_promote(recipe, each, on_main) for each in recipe.later),
        _clean_up(recipe, main),
    ]
    tools = ["Python 3.11 or newer", *(["Node"] if recipe.node else []), *(["Terraform"] if recipe.terraform else [])]
    needs = [
        f"For a multibranch pipeline. Agents need git, {', '.join(tools)}. Plugins: Pipeline, JUnit, AWS Credentials.",
        f'Credentials: "aws" (of kind AWS{_assumed(recipe)}) and',
        '"git" (to ask the remote which branches there are).',
    ]
    return f"""\
{recipe.comments("//", *needs, carried="from stage to stage, and stays on its agent")}
pipeline {{
    agent none // nobody's agent waits for an approval
    options {{
        disableConcurrentBuilds() // of one branch, one after the other
    }}
    triggers {{
        cron("${{env.BRANCH_NAME == {main} ? 'H 3 * * *' : ''}}")
    }}
    environment {{
        POINTSMAN_INSTALL = {_text(recipe.seen.install)} // what `pip install` gets: the one line to change
    }}
    stages {{
{chr(10).join(stages)}    }}
}}
"""


def _assumed(recipe: Recipe) -> str:
    roles = any(each.role_arn for each in (recipe.first, *recipe.later))
    return "; Pointsman assumes each environment's role_arn with them" if roles else ""


def _text(text: str) -> str:
    """As a Groovy string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _shell(recipe: Recipe, command: str, *, tests: bool) -> list[str]:
    """One shell, so that the virtual environment holds for all of it. Dependencies and .pointsman/cache stay on the
    agent."""
    lines = [
        f"rm -rf {quote(recipe.reports)}",
        f"python3 -m venv {quote(f'{recipe.home}/venv')}",
        f". {quote(f'{recipe.home}/venv/bin/activate')}",
        'pip install --quiet "$POINTSMAN_INSTALL"',
        *(recipe.seen.prepare if tests else ()),
        command,
    ]
    return ["sh '''", *(f"    {line}" for line in lines), "'''"]


def _credentials(environment: Environment, inside: list[str], *more: str) -> list[str]:
    bindings = ", ".join(("aws(credentialsId: 'aws')", *more))
    lines = [f"withCredentials([{bindings}]) {{", indented(inside, 4), "}"]
    if not environment.region:
        return lines
    return [
        f"withEnv(['AWS_REGION={environment.region}']) {{",
        indented(lines[0].split("\n"), 4),
        indented(inside, 8),
        "    }",
        "}",
    ]


def _stage(name: str, when: list[str], environment: Environment, shell: list[str], recipe: Recipe) -> str:
    keep = f"stash(name: 'ledger', includes: '{recipe.ledger}', allowEmpty: true, useDefaultExcludes: false)"
    post = [
        "post {",
        "    always {",
        f"        junit(testResults: '{recipe.reports}/**/*.xml', allowEmptyResults: true)",
        f"        archiveArtifacts(artifacts: '{recipe.reports}/**', allowEmptyArchive: true, defaultExcludes: false)",
        *([f"        {keep}"] if recipe.ledger and name != "Branch" else []),
        "    }",
        "}",
    ]
    return _block(name, [*when, "agent any", "steps {", indented(_credentials(environment, shell), 4), "}", *post])


def _promote(recipe: Recipe, environment: Environment, when: list[str]) -> str:
    name = recipe.called(environment)
    inside = ["unstash 'ledger'"] if recipe.ledger else []
    inside += _credentials(environment, _shell(recipe, recipe.onwards(_NUMBER, environment), tests=False))
    asked = []
    if environment.approve:
        when = [when[0], "    beforeInput true", *when[1:]]
        asked = [
            "options {",
            "    timeout(time: 1, unit: 'DAYS') // unanswered, it ends: builds after it wait",
            "}",
            "input {",
            f"    message 'Promote this build to {name}?'",
            "    submitterParameter 'POINTSMAN_APPROVED_BY'",
            "}",
        ]
    return _block(name, [*when, *asked, "agent any", "steps {", indented(inside, 4), "}"])


def _clean_up(recipe: Recipe, main: str) -> str:
    when = ["when {", "    beforeAgent true", f"    branch {main}", "    triggeredBy 'TimerTrigger'", "}"]
    shell = _shell(recipe, recipe.clean_up, tests=False)
    inside = _credentials(recipe.branch, shell, "gitUsernamePassword(credentialsId: 'git')")
    return _block("Clean up", [*when, "agent any", "steps {", indented(inside, 4), "}"])


def _block(name: str, lines: list[str]) -> str:
    return f"        stage('{name}') {{\n{indented(lines, 12)}\n        }}\n"
