"""The pipelines that `pointsman ci` writes, run as written: shell steps by their shells, on fresh clones, against the
local AWS; credentials by a token that its STS exchanges."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore import UNSIGNED
from botocore.config import Config

from pointsman.cli import parser
from pointsman.localaws import control
from tests.journeys import ci
from tests.journeys.ci import Event, Machine, git
from tests.journeys.conftest import CHECK, Shop

ROOT = Path(__file__).parents[2]
CLEANS_UP = any(name == "branch" for _, group in parser.GROUPS for name, _ in group)
systems = pytest.mark.parametrize("system", list(ci.SYSTEMS))

UNIT = """
import sys
from pathlib import Path

word = "bad" if "bad at heart" in Path("index.py").read_text() else ""
failure = "<failure message='a bad word'>index.py:2: AssertionError</failure>" if word else ""
Path("unit.xml").write_text(
    f"<testsuite tests='1'><testcase classname='index' name='has good words'>{failure}</testcase></testsuite>"
)
sys.exit(1 if word else 0)
"""


# What pip did once in this session, for the same words and the same files named by them, is linked into the next
# environment, whichever worker asks: pip and venv take five seconds each, and the pipelines want them forty times. What
# pip never did, or failed to do, is pip's own to do.
REMEMBERING = {
    "pip": """\
#!/usr/bin/env bash
set -euo pipefail
shopt -s nullglob
home=$(dirname "$(dirname "$(realpath -s "$0")")")
[ "${1-}" = install ] || exec "$home/bin/python" -m pip "$@"
key=$({ printf '%s\\n' "$@"; for word; do if [ -f "$word" ]; then cat "$word"; fi; done; } | sha256sum | cut -c1-16)
kept=STORE/$key
exec 9>"$kept.lock"
flock 9
if [ ! -e "$kept.home" ]; then
    touch "$kept.before"
    "$home/bin/python" -m pip "$@" 9>&-
    mkdir -p "$kept"
    (cd "$home" && find . -type f -newer "$kept.before" -exec cp --parents -p -t "$kept" {} +)
    echo "$home" >"$kept.home"
elif [ "$(ls "$kept")" ]; then
    cp -R -l -f "$kept/." "$home"
    for script in "$kept"/bin/*; do
        rm "$home/bin/${script##*/}"
        sed "s|$(cat "$kept.home")|$home|g" "$script" >"$home/bin/${script##*/}"
        chmod +x "$home/bin/${script##*/}"
    done
fi
""",
    "python3": """\
#!/usr/bin/env bash
set -euo pipefail
if [ "$#" = 3 ] && [ "$1 $2" = "-m venv" ] && [ ! -e "$3" ]; then
    mkdir -p "$3"
    cp -R -P -l STORE/venv/. "$3"
    home=$(realpath "$3")
    for each in pyvenv.cfg bin/activate; do
        rm "$3/$each"
        sed "s|STORE/venv|$home|g" "STORE/venv/$each" >"$3/$each"
    done
else
    exec "$(dirname "$0")/python" "$@"
fi
""",
}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all workers of a session share: Pointsman's wheel, an environment with pip, and what pip did."""
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    home = session / "pip"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "done").exists():
            words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(home / "wheel")]
            subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
            subprocess.run([sys.executable, "-m", "venv", str(home / "venv")], check=True, capture_output=True)
            remembering(home, "pip", home / "venv" / "bin")
            (home / "done").touch()
    return home


def remembering(store: Path, name: str, folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).write_text(REMEMBERING[name].replace("STORE", str(store)))
    (folder / name).chmod(0o755)


@pytest.fixture(scope="session")
def wheel(store: Path) -> Path:
    return next((store / "wheel").glob("*.whl"))


@pytest.fixture(scope="session")
def programs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of the machine's own, with pip, in which Pointsman is yet to be installed."""
    home = tmp_path_factory.mktemp("machine") / "python"
    shutil.copytree(store / "venv", home, symlinks=True)
    remembering(store, "python3", home / "bin")
    return home / "bin"


class Team:
    """A repository with a remote, and a CI system that works on what is pushed."""

    def __init__(self, shop: Shop, machine: Machine, system: str) -> None:
        self.shop, self.machine, self.system = shop, machine, system
        self.number = 100

    @property
    def work(self) -> Path:
        return self.shop.folder

    def generate(self, *more: str) -> str:
        self.shop.ok("ci", self.system, "--main", "main", *more)
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--message", "Pipeline")
        return self.file.read_text()

    @property
    def file(self) -> Path:
        from pointsman import pipelines

        return self.work / dict(pipelines.PLACES)[self.system]  # type: ignore[call-overload,no-any-return]

    def push(self, branch: str, word: str) -> None:
        existing = git(self.work, "branch", "--list", branch)
        git(self.work, "checkout", "--quiet", *([] if existing else ["-b"]), branch)
        self.shop.greet(word)
        git(self.work, "commit", "--quiet", "--all", "--allow-empty", "--message", word)
        git(self.work, "push", "--quiet", "origin", branch)

    @property
    def log(self) -> str:
        return "\n".join(self.machine.log)

    def happens(self, kind: str, branch: str, *, approves: str = "", commit: str = "") -> list[str]:
        self.number += 1
        self.running = ci.SYSTEMS[self.system](self.machine, self.file.read_text())
        return self.running.run(Event(kind, branch, self.number, approves, commit))  # type: ignore[no-any-return]


@pytest.fixture
def team(shop: Shop, tmp_path: Path, local_aws: control.Running, wheel: Path, programs: Path) -> Callable[[str], Team]:
    """A project with unit and integration tests and previews, whose function exists; nothing deployed."""

    def exchange(role: str, token: str) -> dict[str, str]:
        session = botocore.session.Session()
        sts = session.create_client(
            "sts", region_name="eu-west-1", endpoint_url=local_aws.url, config=Config(signature_version=UNSIGNED)
        )
        keys = sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="ci", WebIdentityToken=token)[
            "Credentials"
        ]
        return {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
        }

    def make(system: str) -> Team:
        remote, home = tmp_path / "remote.git", tmp_path / "machine"
        home.mkdir()
        (home / "bin").mkdir()
        state = home / "github.json"
        state.write_text(json.dumps({"pulls": [[7, "feature/hello"]], "comments": [], "approvals": []}))
        gh = home / "bin" / "gh"
        gh.write_text(ci.GH.format(python=sys.executable, state=str(state)))
        gh.chmod(0o755)
        git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", str(remote))
        shop.write("check.py", CHECK)
        shop.write("unit.py", UNIT)
        shop.write("requirements-dev.txt", "botocore\n")
        shop.write(".gitignore", "*.xml\n__pycache__/\n")
        (shop.folder / "vendor").mkdir()
        shutil.copy(wheel, shop.folder / "vendor")
        shop.configure(
            function='include = ["/index.py"]',
            test="""[function.greeting.test]
unit        = { run = "python unit.py", junit = "unit.xml" }
integration = { run = "python check.py", junit = "report.xml" }""",
            more=f"""role_arn = "{ci.ROLE}"
[branches]
preview = true
preview_auth = "NONE"
[ledger]
url = "sqlite:.pointsman/local/ledger.db"
""",
        )
        text = (shop.folder / "pointsman.toml").read_text()
        text = text.replace('alias = "STAGE"', f'alias = "STAGE"\nregion = "eu-west-1"\nrole_arn = "{ci.ROLE}"')
        text = text.replace('alias   = "PROD"', 'alias   = "PROD"\nregion = "eu-west-1"')
        text = text.replace('exclude   = ["check.py"]\n', "")
        (shop.folder / "pointsman.toml").write_text(text)
        git(shop.folder, "init", "--quiet", "--initial-branch", "main")
        git(shop.folder, "remote", "add", "origin", str(remote))
        git(shop.folder, "config", "user.email", "team@example.com")
        git(shop.folder, "config", "user.name", "Team")
        machine = Machine(
            remote=remote,
            home=home,
            variables={
                "PATH": f"{home / 'bin'}:{programs}:{os.environ['PATH']}",
                "HOME": str(home),
                "LANG": "C.UTF-8",
                "AWS_ENDPOINT_URL": local_aws.url,  # in place of the internet's
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                # What Pointsman needs comes from this very environment, not from an index; it itself does not.
                "PYTHONPATH": sysconfig.get_path("purelib"),
                "PIP_NO_INDEX": "1",
            },
            sts=exchange,
        )
        made = Team(shop, machine, system)
        made.generate()
        git(shop.folder, "push", "--quiet", "origin", "main")
        return made

    return make


def test_the_action_runs_as_it_is_written_and_gives_what_it_promises(
    tested: Shop, tmp_path: Path, local_aws: control.Running
) -> None:
    """Its one foreign step is actions/setup-python, whose documented effect is an interpreter's path."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    given = {name: each["default"] for name, each in action["inputs"].items()}
    given |= {"args": "--to 'STAGE' --build-id 7", "working-directory": str(tested.folder)}
    steps: dict[str, Any] = {"python": {"outputs": {"python-path": sys.executable}}}

    def filled(text: str) -> str:
        contexts = {"inputs": given, "steps": steps}
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(ci.Expression(found[1], contexts).value()), text)

    runner = tmp_path / "runner"
    runner.mkdir()
    environment = {
        **os.environ,
        **control.environment(local_aws),
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(runner / "output"),
        "GITHUB_ACTION_PATH": str(ROOT),
        "RUNNER_TEMP": str(runner),
        # Dependencies come from this very environment, not from an index.
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }
    for step in action["runs"]["steps"]:
        if "uses" in step:
            assert step["uses"].startswith("actions/setup-python@")
            continue
        assert "${{" not in step["run"], "an input inside a script is a hole for injection"
        env = environment | {name: filled(each) for name, each in step["env"].items()}
        where = filled(step.get("working-directory", str(ROOT)))
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(words, cwd=where, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    lines = (runner / "output").read_text().splitlines()
    steps["run"] = {"outputs": dict(line.split("=", 1) for line in lines)}
    outputs = {name: filled(each["value"]) for name, each in action["outputs"].items()}
    assert (outputs["version"], outputs["alias"], outputs["build"]) == ("1", "STAGE", "7")
    assert (outputs["unchanged"], outputs["preview-url"], outputs["function"]) == ("false", "", tested.name)
    assert "::group::" not in done.stderr.replace("::group::integration tests", "")


def alias_of(shop: Shop, branch: str) -> str:
    """The one alias whose description names the branch."""
    listed = shop.aws("lambda").list_aliases(FunctionName=shop.name)["Aliases"]
    (found,) = [each["Name"] for each in listed if branch in each.get("Description", "")]
    return str(found)


@systems
def test_branches_stage_prod_a_bad_build_and_the_end_of_a_branch(team: Callable[[str], Team], system: str) -> None:
    one = team(system)
    shop = one.shop

    one.push("main", "good morning")
    one.happens("push", "main")
    assert shop.serves("STAGE") == "1", one.log
    assert shop.serves("PROD") is None, "nobody approved"
    assert shop.aws("lambda").get_alias(FunctionName=shop.name, Name="STAGE")["Description"] == str(one.number)
    assert {"unit-unit.xml", "integration-report.xml"} <= {path.name for path in one.machine.junit}

    one.push("feature/hello", "hello from the branch")
    assert len(one.happens("push", "feature/hello")) == 1
    branch = alias_of(shop, "feature/hello")
    assert shop.invoke(branch)["word"] == "hello from the branch"
    assert shop.invoke("STAGE")["word"] == "good morning"

    # Identical code under a new number publishes nothing, so that no description names it: that PROD gets it
    # nonetheless is the work of the ledger, which the system carried here, and from one job to the next.
    one.push("main", "good morning")
    one.happens("push", "main", approves="mallory")
    assert shop.serves("PROD") == "1", one.log
    assert f"{one.number} is that build too" in one.log
    assert system == "circleci" or "approved by mallory" in one.log  # CircleCI does not tell jobs who approved

    one.push("main", "bad at heart")
    before = len(one.machine.junit)
    with pytest.raises(ci.Failed, match="unit tests of greeting"):
        one.happens("push", "main", approves="mallory")
    assert shop.serves("STAGE") == shop.serves("PROD") == "1"
    assert any("<failure" in path.read_text() for path in one.machine.junit[before:]), "the report is published too"

    git(one.work, "push", "--quiet", "origin", "--delete", "feature/hello")
    if not CLEANS_UP:
        pytest.skip("this tree has no `pointsman branch` yet")
    one.happens("delete", "feature/hello")
    assert shop.serves(branch) is None, one.log
    assert shop.serves("STAGE") == shop.serves("PROD") == "1"


def test_on_github_an_environment_without_reviewers_promotes_nothing(team: Callable[[str], Team]) -> None:
    """GitHub runs the job at once where nobody set up an approval: nobody approved then, and nothing may move."""
    one = team("github")
    one.push("main", "good morning")
    one.number += 1
    system = ci.GitHub(one.machine, one.file.read_text())
    system.reviewers = False

    with pytest.raises(ci.Failed, match="wants an approval to move PROD"):
        system.run(Event("push", "main", one.number))

    assert one.shop.serves("STAGE") == "1"
    assert one.shop.serves("PROD") is None


def test_on_github_a_run_that_waited_deploys_what_was_pushed_for_it(team: Callable[[str], Team]) -> None:
    one = team("github")
    one.push("main", "good morning")
    pushed = one.machine.head("main")
    one.push("main", "good evening")

    one.happens("push", "main", commit=pushed)

    assert one.shop.invoke("STAGE")["word"] == "good morning"


def test_on_github_a_pull_request_gets_one_comment_that_is_kept_up_to_date(team: Callable[[str], Team]) -> None:
    one = team("github")
    one.push("feature/hello", "hello")
    one.happens("push", "feature/hello")
    one.push("feature/hello", "hello again")
    one.happens("push", "feature/hello")

    (comment,) = json.loads((one.machine.home / "github.json").read_text())["comments"]
    assert comment["body"].startswith("<!-- pointsman -->\n### pointsman deploy\n")
    assert f"| {one.shop.name} | {alias_of(one.shop, 'feature/hello')} | 2 | 1 |" in comment["body"]
    assert one.running.outputs["version"] == "2"
    assert comment["body"].endswith(one.running.summary)

    one.push("feature/hello", "bad at heart")
    with pytest.raises(ci.Failed):
        one.happens("push", "feature/hello")
    (comment,) = json.loads((one.machine.home / "github.json").read_text())["comments"]
    assert "failed" in comment["body"]
    assert "`index has good words` (index.py:2): a bad word" in comment["body"]
    assert "::error file=index.py,line=2,title=index has good words::a bad word" in "".join(one.machine.log)
