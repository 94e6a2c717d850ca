"""CI systems, small: each reads its own pipeline file and does what the system documents, on fresh clones of a remote.

Shell steps run exactly as they are written, by the shell that system uses. What is not shell is replaced by its
documented effect, and listed: anything else in a file is an error here (`Unknown`), so that nothing is passed over.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROLE = "arn:aws:iam::123456789012:role/deployer"
TOKEN = "a.web.identity-token"


class Unknown(AssertionError):
    """The file says what this small system does not know."""


@dataclass
class Event:
    """What happened: a push to a branch, its deletion, the clock; a pull request's number where there is one."""

    kind: str  # push | delete | schedule
    branch: str
    number: int
    approves: str = ""  # who says yes, "" for nobody
    commit: str = ""  # what was pushed, "" for the branch's head


@dataclass
class Machine:
    """What stands still: the remote, the machine's variables and programs, and what a system keeps between jobs."""

    remote: Path
    home: Path
    variables: Mapping[str, str]
    sts: Callable[..., Any]
    kept: dict[str, Path] = field(default_factory=dict)  # caches, artifacts, stashes by key
    log: list[str] = field(default_factory=list)
    junit: list[Path] = field(default_factory=list)
    clones: int = 0

    def clone(self, branch: str) -> Path:
        self.clones += 1
        folder = self.home / f"clone-{self.clones}"
        if re.fullmatch("[0-9a-f]{40}", branch):
            git(self.home, "clone", "--quiet", "--no-checkout", str(self.remote), str(folder))
            git(folder, "checkout", "--quiet", "--detach", branch)
        else:
            git(self.home, "clone", "--quiet", "--branch", branch, str(self.remote), str(folder))
        return folder

    def head(self, branch: str) -> str:
        return git(self.remote, "rev-parse", f"refs/heads/{branch}")

    def shell(self, words: Sequence[str], script: str, folder: Path, environment: Mapping[str, str]) -> int:
        done = subprocess.run(
            [*words, script], cwd=folder, env=dict(environment), capture_output=True, text=True, check=False
        )
        self.log.append(f"$ {script}\n{done.stdout}{done.stderr}[{done.returncode}]")
        return done.returncode

    def keep(self, key: str, folder: Path, paths: Sequence[str]) -> None:
        for path in paths:
            source = folder / path
            if source.exists() and not path.startswith("~"):
                target = self.home / "kept" / re.sub(r"\W", "_", key) / path
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
                self.kept.pop(key, None)  # the newest is the last
                self.kept[key] = self.home / "kept" / re.sub(r"\W", "_", key)

    def bring(self, folder: Path, *keys: str) -> bool:
        """The first key that is there exactly, else the newest that begins so."""
        for key in keys:
            begins = (each for each in reversed(self.kept) if each.startswith(key))
            found = key if key in self.kept else next(begins, None)
            if found:
                shutil.copytree(self.kept[found], folder, dirs_exist_ok=True)
                return True
        return False

    def collect(self, folder: Path, pattern: str) -> None:
        self.junit += sorted(path for path in folder.glob(pattern) if path.suffix == ".xml")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


class Failed(AssertionError):
    """A job failed, with the log of all that ran."""


# GitHub Actions


class GitHub:
    """Jobs in the order of `needs`. Actions known: checkout, setup-*, cache, upload-artifact, AWS credentials."""

    def __init__(self, machine: Machine, text: str) -> None:
        self.machine = machine
        self.file = yaml.safe_load(text)
        self.outputs: dict[str, str] = {}
        self.summary = ""
        self.reviewers = True  # whether the environment PROD has required reviewers

    def run(self, event: Event) -> list[str]:
        """The jobs that ran. An environment's reviewers are asked; where nobody approves, the job waits for ever."""
        on = self.file[True]  # YAML 1.1: `on` is true
        assert event.kind in on, event.kind
        ran: list[str] = []
        for name, job in self.file["jobs"].items():
            if "needs" in job and job["needs"] not in ran:
                continue
            if not self.value(job["if"], event, name):
                continue
            if job.get("environment") == "PROD" and self.reviewers:
                if not event.approves:
                    continue  # it waits
                self.approved(event.approves)
            self.job(name, job, event)
            ran.append(name)
        return ran

    def approved(self, by: str) -> None:
        """What https://docs.github.com/rest/actions/workflow-runs#get-the-review-history-for-a-workflow-run answers."""
        state = json.loads((self.machine.home / "github.json").read_text())
        state["approvals"] = [{"state": "approved", "environments": [{"name": "PROD"}], "user": {"login": by}}]
        (self.machine.home / "github.json").write_text(json.dumps(state))

    def github(self, event: Event, job: str) -> dict[str, Any]:
        gone = event.kind == "delete"
        branch = "main" if event.kind in ("delete", "schedule") else event.branch
        return {
            "github": {
                "event_name": event.kind,
                "ref_name": branch,
                "ref": f"refs/heads/{branch}",
                "sha": event.commit or self.machine.head(branch),
                "head_ref": "",
                "job": job,
                "run_id": str(1000 + event.number),
                "run_attempt": "1",
                "token": "t",
                "repository": "team/greeting",
                "event": {"ref": event.branch, "ref_type": "branch"} if gone else {"ref": f"refs/heads/{branch}"},
            },
            "runner": {"os": "Linux"},
            "vars": {"AWS_ROLE_ARN": ROLE, "AWS_REGION": "eu-west-1"},
        }

    def value(self, text: str, event: Event, job: str, *, bad: bool = False) -> Any:
        return Expression(text, {**self.github(event, job), "bad": bad}).value()

    def filled(self, text: Any, event: Event, job: str) -> str:
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(self.value(found[1], event, job)), str(text))

    def job(self, name: str, job: Mapping[str, Any], event: Event) -> None:
        machine, bad = self.machine, False
        temp = machine.home / f"temp-{machine.clones}-{name}"
        temp.mkdir()
        environment = {
            **machine.variables,
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_REF_NAME": self.github(event, name)["github"]["ref_name"],
            "GITHUB_REF": self.github(event, name)["github"]["ref"],
            "GITHUB_REF_TYPE": "branch",
            "GITHUB_EVENT_NAME": event.kind,
            "GITHUB_ACTOR": "octocat",
            "GITHUB_RUN_NUMBER": str(event.number),
            "GITHUB_RUN_ID": str(1000 + event.number),
            "GITHUB_REPOSITORY": "team/greeting",
            "RUNNER_TEMP": str(temp),
            **{key: self.filled(each, event, name) for key, each in self.file["env"].items()},
        }
        folder = machine.home
        later: list[tuple[str, list[str]]] = []
        for number, step in enumerate(job["steps"]):
            condition = step.get("if", "success()")
            if "always()" not in condition:
                condition = f"success() && ({condition})"
            if not self.value(condition, event, name, bad=bad):
                continue
            given = {key: self.filled(each, event, name) for key, each in step.get("env", {}).items()}
            if "run" in step:
                files = {key: temp / f"{key.lower()}-{number}" for key in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
                told = {"GITHUB_WORKSPACE": str(folder), **{key: str(path) for key, path in files.items()}}
                script = self.filled(step["run"], event, name)
                assert script == step["run"], "an expression inside a script is a hole for injection"
                code = machine.shell(["bash", "-e", "-c"], script, folder, {**environment, **told, **given})
                bad = bad or code != 0
                self.read(files)
            else:
                options = {key: self.filled(each, event, name) for key, each in step.get("with", {}).items()}
                match step["uses"].split("@")[0]:
                    case "actions/checkout":
                        ref = options.get("ref", "main" if event.kind != "push" else event.branch)
                        folder = machine.clone(ref.removeprefix("refs/heads/"))
                    case "actions/setup-python" | "actions/setup-node":
                        assert options["python-version" if "python" in step["uses"] else "node-version"]
                    case "actions/cache":
                        machine.bring(folder, options["key"], *options["restore-keys"].split())
                        later.append((options["key"], options["path"].split()))
                    case "actions/cache/restore":
                        machine.bring(folder, options["key"], *options["restore-keys"].split())
                    case "actions/cache/save":
                        machine.keep(options["key"], folder, [options["path"]])
                    case "actions/upload-artifact":
                        machine.collect(folder, f"{options['path']}/**/*")
                    case "aws-actions/configure-aws-credentials":
                        assert job["permissions"]["id-token"] == "write"
                        environment |= machine.sts(options["role-to-assume"], TOKEN)
                        environment["AWS_REGION"] = options["aws-region"]
                    case other:
                        raise Unknown(other)
        for key, paths in later:
            machine.keep(key, folder, paths)
        if bad:
            raise Failed("\n".join(machine.log))

    def read(self, files: Mapping[str, Path]) -> None:
        if files["GITHUB_STEP_SUMMARY"].exists():
            self.summary = files["GITHUB_STEP_SUMMARY"].read_text()
        if files["GITHUB_OUTPUT"].exists():
            self.outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())


class Expression:
    """https://docs.github.com/actions/reference/workflows-and-actions/expressions, as far as the files go."""

    def __init__(self, text: str, contexts: Mapping[str, Any]) -> None:
        self.words = re.findall(r"'(?:[^']|'')*'|&&|\|\||==|!=|!|[(),]|[\w.-]+", text)
        self.contexts = contexts

    def value(self) -> Any:
        found = self.either()
        assert not self.words, self.words
        return found

    def either(self) -> Any:
        left = self.both()
        while self.next("||"):
            right = self.both()
            left = left or right
        return left

    def both(self) -> Any:
        left = self.compared()
        while self.next("&&"):
            right = self.compared()
            left = left and right
        return left

    def compared(self) -> Any:
        left = self.one()
        for sign in ("==", "!="):
            if self.next(sign):
                return (left == self.one()) is (sign == "==")
        return left

    def one(self) -> Any:
        if self.next("!"):
            return not self.one()
        if self.next("("):
            found = self.either()
            assert self.next(")")
            return found
        word = self.words.pop(0)
        if word.startswith("'"):
            return word[1:-1].replace("''", "'")
        if self.next("("):
            arguments = []
            while not self.next(")"):
                arguments.append(self.either())
                self.next(",")
            match word:
                case "always":
                    return True
                case "success":
                    return not self.contexts["bad"]
                case "hashFiles":
                    return f"hash-{len(arguments)}"
            raise Unknown(word)
        found = self.contexts
        for part in word.split("."):
            found = found.get(part, "") if isinstance(found, Mapping) else ""
        return found

    def next(self, word: str) -> bool:
        if self.words and self.words[0] == word:
            self.words.pop(0)
            return True
        return False


# GitLab CI/CD


class _Loader(yaml.SafeLoader):
    """With GitLab's own tag."""


_Loader.add_constructor("!reference", lambda loader, node: ("!reference", *loader.construct_sequence(node)))  # type: ignore[no-untyped-call]


class GitLab:
    def __init__(self, machine: Machine, text: str) -> None:
        self.machine = machine
        self.file = yaml.load(text, _Loader)  # a safe loader, with one more tag
        self.environments: dict[str, str] = {}

    def run(self, event: Event) -> list[str]:
        if event.kind == "delete":  # GitLab starts the on_stop job of the last pipeline of that branch
            pushed = Event("push", event.branch, event.number)
            stop = self.job_of("branch")["environment"]["on_stop"]
            self.job(stop, pushed, self.variables(pushed))
            return [stop]
        variables = self.variables(event)
        assert any(_gitlab(rule["if"], variables) for rule in self.file["workflow"]["rules"])
        ran: list[str] = []
        names = [name for name in self.file if name not in ("stages", "variables", "workflow") and name[0] != "."]
        for name in sorted(names, key=lambda each: self.file["stages"].index(self.file[each]["stage"])):
            job = self.job_of(name)
            rule = next((each for each in job["rules"] if _gitlab(each["if"], variables)), None)
            if rule is None or any(need not in ran for need in job.get("needs", [])):
                continue
            if rule.get("when") == "manual" and (not event.approves or "action" in job["environment"]):
                continue
            self.job(name, event, variables)
            ran.append(name)
        return ran

    def job_of(self, name: str) -> dict[str, Any]:
        job = self.file[name]
        return {**self.file[job["extends"]], **job}

    def variables(self, event: Event) -> dict[str, str]:
        return {
            **self.machine.variables,
            "CI": "true",
            "GITLAB_CI": "true",
            "CI_PIPELINE_SOURCE": "schedule" if event.kind == "schedule" else "push",
            "CI_COMMIT_BRANCH": event.branch,
            "CI_COMMIT_REF_NAME": event.branch,
            "CI_COMMIT_REF_SLUG": re.sub(r"[^a-z0-9]+", "-", event.branch.lower())[:63].strip("-"),
            "CI_DEFAULT_BRANCH": "main",
            "CI_PIPELINE_IID": str(event.number),
            "CI_REPOSITORY_URL": str(self.machine.remote),
            "CI_SERVER_URL": "https://gitlab.example",
            "GITLAB_USER_LOGIN": event.approves or "tanuki",
        }

    def job(self, name: str, event: Event, variables: Mapping[str, str]) -> None:
        job, machine = self.job_of(name), self.machine
        folder = machine.home / f"empty-{name}-{event.number}"
        given = {**self.file["variables"], **job.get("variables", {})}
        if given.get("GIT_STRATEGY") == "none":
            folder.mkdir()
        else:
            folder = machine.clone(event.branch)
        environment = {**variables, "CI_PROJECT_DIR": str(folder), "AWS_TOKEN": TOKEN}
        assert "AWS_TOKEN" in job["id_tokens"]
        for key, value in given.items():
            environment[key] = _dollars(str(value), environment)
        environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = str(machine.home / "aws-token")  # not the real /tmp
        cache = job.get("cache")
        if cache:
            machine.bring(folder, *(_dollars(key, environment) for key in (cache["key"], *cache["fallback_keys"])))
        for need in job.get("needs", []):
            machine.bring(folder, f"artifact/{need}/{event.number}")
        code = machine.shell(["bash", "-eo", "pipefail", "-c"], "\n".join(self.script(job)), folder, environment)
        if cache and (code == 0 or cache["when"] == "always"):
            machine.keep(_dollars(cache["key"], environment), folder, cache["paths"])
        artifacts = job.get("artifacts", {})
        if artifacts:
            machine.keep(f"artifact/{name}/{event.number}", folder, artifacts["paths"])
            for kind, path in artifacts.get("reports", {}).items():
                if kind == "junit":
                    machine.collect(folder, path)
                else:
                    assert kind == "dotenv"
                    lines = (folder / path).read_text().splitlines()
                    told = dict(re.fullmatch(r"([A-Z_]+)=(.*)", line).groups() for line in lines)  # type: ignore[union-attr,misc]
                    self.environments[name] = _dollars(job["environment"]["url"], told)
        if code:
            raise Failed("\n".join(machine.log))

    def script(self, job: Mapping[str, Any]) -> Iterator[str]:
        for line in (*job["before_script"], *job["script"]):
            if isinstance(line, tuple):
                _, of, key = line
                yield from self.file[of][key]
            else:
                yield line


def _gitlab(rule: str, variables: Mapping[str, str]) -> bool:
    """`$A == "b" && $C`: https://docs.gitlab.com/ci/jobs/job_rules/#cicd-variable-expressions"""

    def holds(part: str) -> bool:
        found = re.fullmatch(r'\s*\$(\w+)(?:\s*(==|!=)\s*(?:"([^"]*)"|\$(\w+)))?\s*', part)
        if found is None:
            raise Unknown(part)
        name, sign, text, other = found.groups()
        if sign is None:
            return bool(variables.get(name))
        return (variables.get(name) == (text if other is None else variables.get(other))) is (sign == "==")

    return all(holds(part) for part in rule.split("&&"))


def _dollars(text: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda found: variables.get(found[1], ""), text)


# CircleCI


class CircleCI:
    """Steps known: checkout, run, *_cache, *_workspace, store_*; one custom command."""

    def __init__(self, machine: Machine, text: str) -> None:
        self.machine = machine
        self.file = yaml.safe_load(text)
        self.saves = 0

    def run(self, event: Event) -> list[str]:
        trigger = "scheduled_pipeline" if event.kind in ("schedule", "delete") else "webhook"
        branch = "main" if event.kind in ("schedule", "delete") else event.branch
        ran: list[str] = []
        for workflow in self.file["workflows"].values():
            when = workflow["when"]
            equal = when.get("equal") or when["not"]["equal"]
            assert equal == ["scheduled_pipeline", "<< pipeline.trigger_source >>"]
            if (trigger == "scheduled_pipeline") is not ("equal" in when):
                continue
            for each in workflow["jobs"]:
                ((name, options),) = each.items()
                filters = options.get("filters", {}).get("branches", {})
                if branch == filters.get("ignore") or filters.get("only", branch) != branch:
                    continue
                if any(need not in ran for need in options.get("requires", [])):
                    continue
                if options.get("type") == "approval":
                    ran += [name] if event.approves else []
                    continue
                assert options["context"] == "aws"  # only jobs with a context get tokens
                self.job(name, event, branch)
                ran.append(name)
        return ran

    def job(self, name: str, event: Event, branch: str) -> None:
        job, machine = self.file["jobs"][name], self.machine
        executor = self.file["executors"][job["executor"]]
        assert executor["docker"][0]["image"]
        environment = {
            **machine.variables,
            "CI": "true",
            "CIRCLECI": "true",
            "CIRCLE_BRANCH": branch,
            "CIRCLE_USERNAME": "circe",
            "CIRCLE_OIDC_TOKEN_V2": TOKEN,
            **executor["environment"],
            **job.get("environment", {}),
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(machine.home / "aws-token"),  # not the real /tmp
        }
        folder, bad = machine.home, False
        for step in self.steps(job["steps"]):
            kind, options = (step, {}) if isinstance(step, str) else next(iter(step.items()))
            if bad and options.get("when") != "always" and not kind.startswith("store_"):
                continue

            def key(text: str) -> str:
                return text.replace("{{ .Branch }}", branch).replace("{{ epoch }}", f"{self.saves:06}")

            match kind:
                case "checkout":
                    folder = machine.clone(branch)
                case "run":
                    script = options["command"].replace("<< pipeline.number >>", str(event.number))
                    assert "<<" not in script, script
                    given = {**environment, **options.get("environment", {})}
                    bad = machine.shell(["bash", "-eo", "pipefail", "-c"], script, folder, given) != 0 or bad
                case "restore_cache":
                    machine.bring(folder, *(key(each) for each in options["keys"]))
                case "save_cache":
                    self.saves += 1
                    machine.keep(key(options["key"]), folder, options["paths"])
                case "persist_to_workspace":
                    machine.keep(f"workspace/{event.number}", folder, options["paths"])
                case "attach_workspace":
                    machine.bring(folder, f"workspace/{event.number}")
                case "store_test_results":
                    machine.collect(folder, f"{options['path']}/**/*")
                case "store_artifacts":
                    pass
                case other:
                    raise Unknown(other)
        if bad:
            raise Failed("\n".join(machine.log))

    def steps(self, steps: Sequence[Any]) -> Iterator[Any]:
        for step in steps:
            if isinstance(step, str) and step in self.file["commands"]:
                yield from self.steps(self.file["commands"][step]["steps"])
            else:
                yield step


# Bitbucket Pipelines


class Bitbucket:
    def __init__(self, machine: Machine, text: str) -> None:
        self.machine = machine
        self.file = yaml.safe_load(text)

    def run(self, event: Event) -> list[str]:
        pipelines = self.file["pipelines"]
        if event.kind in ("schedule", "delete"):
            steps, branch = pipelines["custom"]["clean-up"], "main"
        else:
            steps, branch = pipelines["branches"].get(event.branch, pipelines["default"]), event.branch
        ran: list[str] = []
        for each in steps:
            step = each["step"]
            if step.get("trigger") == "manual" and not event.approves:
                break  # the steps after it wait, too
            self.step(step, event, branch)
            ran.append(step["name"])
        return ran

    def step(self, step: Mapping[str, Any], event: Event, branch: str) -> None:
        machine = self.machine
        folder = machine.clone(branch)
        assert step["oidc"] is True
        environment = {
            **machine.variables,
            "CI": "true",
            "BITBUCKET_BUILD_NUMBER": str(event.number),
            "BITBUCKET_BRANCH": branch,
            "BITBUCKET_CLONE_DIR": str(folder),
            "BITBUCKET_STEP_OIDC_TOKEN": TOKEN,
            "BITBUCKET_STEP_TRIGGERER_UUID": event.approves or "{nobody}",
        }
        known = {
            "name",
            "oidc",
            "trigger",
            "deployment",
            "concurrency-group",
            "caches",
            "script",
            "after-script",
            "artifacts",
        }
        if unknown := set(step) - known:
            raise Unknown(str(unknown))
        for name in step.get("caches", []):
            definition = self.file["definitions"]["caches"][name]
            assert all((folder / file).exists() for file in definition["key"]["files"]), "a key's file must be there"
            machine.bring(folder, f"cache/{name}")
        machine.bring(folder, f"artifacts/{event.number}")
        token = "export AWS_WEB_IDENTITY_TOKEN_FILE=/tmp/aws-token"
        script = "\n".join(step["script"])
        assert token in script
        script = script.replace(
            token, f"export AWS_WEB_IDENTITY_TOKEN_FILE={machine.home}/aws-token"
        )  # not the real /tmp
        code = machine.shell(["bash", "-e", "-c"], script, folder, environment)
        for line in step.get("after-script", []):
            machine.shell(["bash", "-e", "-c"], line, folder, environment)
        machine.collect(folder, "test-results/**/*")
        machine.keep(f"artifacts/{event.number}", folder, step.get("artifacts", []))
        for name in step.get("caches", []):
            machine.keep(f"cache/{name}", folder, [self.file["definitions"]["caches"][name]["path"]])
        if code:
            raise Failed("\n".join(machine.log))


# Jenkins: a declarative pipeline, read by a grammar of Groovy


class Jenkins:
    """Steps known: sh, withEnv, withCredentials, stash, unstash, junit, archiveArtifacts."""

    def __init__(self, machine: Machine, text: str) -> None:
        self.machine = machine
        self.blocks = groovy(text)

    def run(self, event: Event) -> list[str]:
        ((name, _, pipeline),) = self.blocks
        assert name == "pipeline"
        sections = {name: (arguments, body) for name, arguments, body in pipeline}
        if unknown := set(sections) - {"agent", "options", "triggers", "environment", "stages"}:
            raise Unknown(str(unknown))
        environment = {
            **self.machine.variables,
            "CI": "true",
            "JENKINS_URL": "http://jenkins.example/",
            "BUILD_NUMBER": str(event.number),
            "BRANCH_NAME": "main" if event.kind in ("schedule", "delete") else event.branch,
        }
        for name, arguments, _ in sections["environment"][1]:
            environment[name] = arguments[0]
        ran: list[str] = []
        for kind, (stage,), body in sections["stages"][1]:
            assert kind == "stage"
            parts = {name: (arguments, inside) for name, arguments, inside in body}
            if unknown := set(parts) - {"when", "options", "input", "agent", "steps", "post"}:
                raise Unknown(str(unknown))
            if not all(self.holds(each, event, environment) for each in parts["when"][1]):
                continue
            given = dict(environment)
            if "input" in parts:
                asked = {name: arguments for name, arguments, _ in parts["input"][1]}
                if not event.approves:
                    break  # the build waits here, and ends with its time-out
                given[asked["submitterParameter"][0]] = event.approves
            folder = self.machine.clone(environment["BRANCH_NAME"])
            try:
                self.steps(parts["steps"][1], folder, given, event)
            finally:
                for condition, _, inside in parts.get("post", ((), ()))[1]:
                    assert condition == "always"
                    self.steps(inside, folder, given, event)
            ran.append(stage)
        return ran

    def holds(self, condition: Any, event: Event, environment: Mapping[str, str]) -> bool:
        name, arguments, body = condition
        match name:
            case "beforeAgent" | "beforeInput":
                return True
            case "not":
                return not self.holds(body[0], event, environment)
            case "branch":
                return environment["BRANCH_NAME"] == arguments[0]
            case "triggeredBy":
                return (event.kind in ("schedule", "delete")) is (arguments[0] == "TimerTrigger")
        raise Unknown(name)

    def steps(self, steps: Any, folder: Path, environment: dict[str, str], event: Event) -> None:
        for name, arguments, body in steps:
            match name:
                case "sh":
                    if self.machine.shell(["sh", "-xec"], arguments[0], folder, environment):
                        raise Failed("\n".join(self.machine.log))
                case "withEnv":
                    more = dict(each.split("=", 1) for each in re.findall(r"'([^']*)'", arguments[0]))
                    self.steps(body, folder, environment | more, event)
                case "withCredentials":
                    # The plugin binds a user's keys; what they may do is IAM's to say.
                    assert "aws(credentialsId: 'aws')" in arguments[0]
                    keys = self.machine.sts(ROLE, TOKEN)
                    self.steps(body, folder, environment | keys, event)
                case "stash":
                    found = re.search(r"includes: '([^']*)'", arguments[0])
                    assert found
                    self.machine.keep(f"stash/{event.number}", folder, [found[1]])
                case "unstash":
                    self.machine.bring(folder, f"stash/{event.number}")
                case "junit":
                    pattern = re.search(r"testResults: '([^']*)'", arguments[0])
                    assert pattern
                    self.machine.collect(folder, pattern[1])
                case "archiveArtifacts":
                    pass
                case other:
                    raise Unknown(other)


def groovy(text: str) -> list[tuple[str, list[str], Any]]:
    """The calls of a declarative pipeline: (name, arguments, the calls in its closure). Fails for what is no Groovy."""
    import tree_sitter
    import tree_sitter_groovy

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_groovy.language()))
    root = parser.parse(text.encode()).root_node
    assert not root.has_error, "not Groovy"
    return [call for node in root.named_children for call in _calls(node)]


def _calls(node: Any) -> Iterator[tuple[str, list[str], Any]]:
    match node.type:
        case "expression_statement" | "labeled_statement":
            for child in node.named_children:
                yield from _calls(child)
        case "method_invocation" | "juxt_function_call":
            name, *rest = node.named_children
            arguments = [_literal(each) for part in rest if part.type == "argument_list" for each in _arguments(part)]
            closures = [part for part in rest if part.type == "closure"]
            body = [call for closure in closures for child in closure.named_children for call in _calls(child)]
            yield name.text.decode(), arguments, body
        case "local_variable_declaration":  # `agent any`, as the grammar sees it
            kind, declarator = node.named_children[0], node.named_children[1]
            yield kind.text.decode(), [declarator.text.decode()], []
        case "assignment_expression":
            left, right = node.named_children[0], node.named_children[-1]
            yield left.text.decode(), [_literal(right)], []
        case "line_comment" | "block_comment":
            return
        case other:
            raise Unknown(f"{other}: {node.text.decode()}")


def _arguments(part: Any) -> list[Any]:
    """One literal stands for itself; anything longer is given as it is written."""
    return part.named_children if len(part.named_children) == 1 else [part]


def _literal(node: Any) -> str:
    text = node.text.decode()
    for quotes in ("'''", '"""', "'", '"'):
        if text.startswith(quotes) and text.endswith(quotes) and len(text) >= 2 * len(quotes):
            return text[len(quotes) : -len(quotes)].replace("\\'", "'")
    return text


SYSTEMS: Mapping[str, Any] = {
    "github": GitHub,
    "gitlab": GitLab,
    "circleci": CircleCI,
    "jenkins": Jenkins,
    "bitbucket": Bitbucket,
}


GH = '''#!{python}
"""GitHub's command line as far as the workflow goes; its state is a file."""
import json, sys
from pathlib import Path

state_file = Path({state!r})
state = json.loads(state_file.read_text())
words = sys.argv[1:]


def after(name):
    return words[words.index(name) + 1]


match words:
    case ["pr", "list", *_]:
        print(json.dumps([{{"number": n}} for n, head in state["pulls"] if head == after("--head")]))
    case ["pr", "comment", number, *_]:
        body = Path(after("--body-file")).read_text()
        state["comments"].append({{"id": len(state["comments"]) + 70, "body": body}})
    case ["api", path] if path.endswith("/approvals"):
        print(json.dumps(state["approvals"]))
    case ["api", "--paginate", path] if path.endswith("/comments"):
        print(json.dumps(state["comments"]))
    case ["api", "--silent", "--method", "PATCH", path, "--field", body]:
        (mine,) = [each for each in state["comments"] if str(each["id"]) == path.rsplit("/", 1)[1]]
        mine["body"] = Path(body.removeprefix("body=@")).read_text()
    case _:
        sys.exit(f"gh: unknown {{words}}")
state_file.write_text(json.dumps(state))
'''
