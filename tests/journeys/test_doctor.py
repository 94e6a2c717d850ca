"""`pointsman doctor`: what stands in the way, found before a release finds it; and the policy it writes."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pointsman import runtimes
from pointsman.aws import permissions
from pointsman.aws.operation import Transport
from pointsman.aws.transports import Faults
from pointsman.errors import AccessDenied, PointsmanError
from tests.fakes import FakeClock
from tests.journeys.conftest import Answer, Shop, control_runtime
from tests.journeys.test_cloudformation import template
from tests.journeys.test_roles import Staff, allow, deploy, existing, guarded, in_production, killed_at, remove

SENDING = ("_send", "_or_none", "_gone", "_pages", "_named", "_change", "_remove", "_iam_or_none")
SOURCES = Path(permissions.__file__).parent


def checks(answer: Answer, name: str, verdict: str = "") -> list[str]:
    return [
        each["what"] for each in answer.result if each["name"] == name and (not verdict or each["verdict"] == verdict)
    ]


@pytest.fixture
def staff(shop: Shop) -> Staff:
    made = Staff(shop)
    shop.configure()
    return made


def test_all_is_well_before_the_first_deploy_and_after_it(shop: Shop, staff: Staff) -> None:
    before = shop.ok("doctor", "--json")
    assert "the first deploy makes it" in checks(before, "function", "ok")[0]

    in_production(shop)
    after = shop.ok("doctor", "--json")

    assert checks(after, "function") == [f"{shop.name}: Active, update Successful"]
    assert checks(after, "aliases") == ["STAGE at version 1, PROD at version 1"]
    assert "75 GB of code are stored" in checks(after, "limits", "ok")[0]
    assert [each for each in after.result if each["verdict"] == "problem"] == []
    assert after.calls[1] == 0


def test_what_doctor_prints_is_a_list_with_what_to_do(shop: Shop, staff: Staff) -> None:
    answer = shop.ok("doctor")

    assert "this machine\n" in answer.out
    assert "greeting → STAGE, PROD\n" in answer.out
    assert "  ok       credentials: arn:aws:iam::123456789012:root in eu-west-1\n" in answer.out
    assert "  warning  tools: no git commit is checked out here" in answer.out
    assert answer.out.endswith("0 problems, 1 warning.\n")


# Permissions


def as_user(shop: Shop, *, document: dict[str, Any] | None) -> None:
    """From here on commands run with the keys of a user who may do what the document says."""
    iam = shop.aws("iam")
    name = f"ci-{shop.name}"
    if "AWS_ACCESS_KEY_ID" not in shop.variables or not shop.variables["AWS_ACCESS_KEY_ID"].startswith("AKIA"):
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        shop.variables = {
            **shop.variables,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
    if document:
        iam.put_user_policy(UserName=name, PolicyName="deployer", PolicyDocument=json.dumps(document))


def test_the_policy_that_doctor_writes_is_all_that_doctor_misses(shop: Shop, staff: Staff) -> None:
    guarded(shop, role="per-branch")
    in_production(shop)
    written = shop.ok("doctor", "--policy", "--json").result
    as_user(shop, document=None)

    none = shop.run("doctor", "--json")
    assert none.code == 1
    (missing,) = checks(none, "permissions", "problem")
    assert f"lambda:PublishVersion on arn:aws:lambda:eu-west-1:123456789012:function:{shop.name}" in missing
    assert f"iam:PassRole on {staff.arn}" in missing

    as_user(shop, document=written)
    assert "actions are allowed, as IAM simulates it" in checks(shop.ok("doctor", "--json"), "permissions")[0]

    for statement in written["Statement"]:
        statement["Action"] = [each for each in statement["Action"] if each != "lambda:UpdateAlias"]
    as_user(shop, document=written)
    (lacking,) = checks(shop.run("doctor", "--json"), "permissions", "problem")
    assert lacking.startswith("1 action missing: lambda:UpdateAlias on arn:aws:lambda:eu-west-1")


def test_the_policy_has_what_s3_asks_of_objects_and_what_it_asks_of_the_bucket() -> None:
    wanted = permissions.needed({"bucket"})

    assert wanted["bucket"] == ("s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject")
    assert wanted["buckets"] == ("s3:ListBucket", "s3:ListBucketMultipartUploads")


def test_where_iam_does_not_simulate_the_calls_themselves_tell_and_change_nothing(shop: Shop, staff: Staff) -> None:
    in_production(shop)
    as_user(shop, document=None)

    def mean(inner: Transport) -> Transport:
        def before(_number: int, action: str) -> PointsmanError | None:
            denied = action in ("SimulatePrincipalPolicy", "PublishVersion", "ListAliases")
            return AccessDenied("not authorized") if denied else None

        return Faults(inner, before=before)

    revision = shop.aws("lambda").get_function(FunctionName=shop.name)["Configuration"]["RevisionId"]
    answer = shop.run("doctor", "--json", wrap=mean)

    assert answer.code == 1
    (missing,) = checks(answer, "permissions", "problem")
    assert missing.startswith("2 actions missing: lambda:ListAliases, lambda:PublishVersion; found by 9 harmless calls")
    assert "iam:PassRole" in checks(answer, "permissions", "warning")[0]
    assert shop.aws("lambda").get_function(FunctionName=shop.name)["Configuration"]["RevisionId"] == revision
    assert shop.versions() == ["1"]


def test_every_call_of_the_gateway_stands_in_the_table() -> None:
    """Whoever adds a call says here which IAM action it takes; else `doctor --policy` would write too little."""
    named: set[str] = set()
    for path in SOURCES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            first = node.args[0]
            sends = node.func.attr in SENDING
            if sends and isinstance(first, ast.Constant):
                named.add(str(first.value))
            if node.func.attr == "_items":  # service, action
                action = node.args[1]
                assert isinstance(action, ast.Constant)
                named.add(str(action.value))

    assert len(named) >= 40
    assert named <= {call.split(":")[1] for call in permissions.CALLS}


def actions(*answers: Answer) -> set[str]:
    calls = {f"{each['service']}:{each['action']}" for a in answers for each in a.document["calls"]["list"]}
    return {action for call in calls for action in permissions.CALLS[call].actions}


def test_the_listed_actions_are_those_that_the_journeys_really_call(shop: Shop, staff: Staff) -> None:
    """Neither too few nor, for the deploy of a function of our own, too many."""
    policy = staff.iam.create_policy(PolicyName=f"p-{shop.name}", PolicyDocument=allow("s3:GetObject"))
    staff.iam.attach_role_policy(RoleName=staff.name, PolicyArn=policy["Policy"]["Arn"])
    answers = [shop.ok("deploy", "--build-id", "101", "--json")]
    shop.greet("again")
    shop.configure(
        provision=f'{{ with = "direct", name = "{shop.name}", role = "{shop.role}", memory = 256 }}',
    )
    answers.append(shop.ok("deploy", "--build-id", "102", "--json"))
    answers.append(shop.ok("promote", "102", "--to", "PROD", "--approve", "--json"))
    answers.append(shop.ok("promote", "101", "--to", "PROD", "--approve", "--json"))
    for words in (("status",), ("versions",), ("diff", "101", "102"), ("plan", "--build-id", "103"), ("doctor",)):
        answers.append(shop.ok(*words, "--json"))
    wanted = permissions.needed({"look", "deploy", "create", "settings", "guard", "doctor"})
    listed = {action for each in wanted.values() for action in each} - {"iam:PassRole", "iam:SimulatePrincipalPolicy"}

    assert actions(*answers) == listed


def test_the_actions_on_roles_are_those_that_a_branch_with_a_role_of_its_own_calls(shop: Shop, staff: Staff) -> None:
    guarded(shop, role="per-branch")
    shop.ok("deploy", "--build-id", "101")
    shop.greet("on a branch")
    called: set[str] = set()

    def watch(inner: Transport) -> Transport:
        class Watching:
            def send(self, operation: Any) -> Any:
                called.update(permissions.CALLS[f"{operation.service}:{operation.action}"].actions)
                return inner.send(operation)

        return Watching()

    deploy(shop, "feature-x", "f1", wrap=watch)
    staff.says("queue", "sqs:SendMessage")
    staff.iam.delete_role_policy(RoleName=staff.name, PolicyName="tables")
    shop.greet("again")
    deploy(shop, "feature-x", "f2", wrap=watch)
    remove(shop, "feature-x", wrap=watch)

    listed = permissions.needed({"per-branch"})
    rarely = {"iam:UpdateAssumeRolePolicy", "iam:PutRolePermissionsBoundary", "iam:DeleteRolePermissionsBoundary"}
    assert {each for each in called if each.startswith("iam:")} >= {*listed["clones"]} - rarely - {"iam:PassRole"}
    allowed = permissions.needed({"look", "deploy", "settings", "guard", "per-branch", "branches"})
    assert called <= {action for each in allowed.values() for action in each}


def test_the_actions_on_stacks_are_those_that_a_stacks_life_calls(shop: Shop) -> None:
    shop.write("stack.json", template(name=shop.name))
    shop.configure(
        provision=f'{{ with = "cloudformation", stack = "{shop.name}", template = "stack.json", function = "Greeter" }}'
    )
    answer = shop.ok("deploy", "--build-id", "101", "--json")
    allowed = permissions.needed({"look", "deploy", "stack", "guard", "doctor"})

    assert actions(answer) <= {action for each in allowed.values() for action in each}
    assert "cloudformation:ExecuteChangeSet" in actions(answer)
    policy = shop.ok("doctor", "--policy", "--json").result
    resources = {each["Sid"]: each["Resource"] for each in policy["Statement"]}
    assert resources["Stack"] == [f"arn:aws:cloudformation:eu-west-1:123456789012:stack/{shop.name}/*"]
    assert "PassRole" not in resources  # the stack's owner passes it


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_the_policy_names_what_is_in_another_partition_of_aws(shop: Shop, region: str, partition: str) -> None:
    role = f"arn:{partition}:iam::123456789012:role/greeting"
    shop.write("common/python/shared.py", "")
    shop.write(
        "pointsman.toml",
        f"""\
[function.greeting]
build     = "image"
image     = "123456789012.dkr.ecr.{region}.amazonaws.com/greeting:live"
provision = {{ with = "direct", name = "{shop.name}", role = "{role}" }}

[function.farewell]
build     = "python"
runtime   = "{control_runtime()}"
handler   = "app.handler"
provision = {{ with = "direct", name = "{shop.name}-2", role = "{role}", layers = ["common"] }}

[layer.common]
source = "common"

[branches]
role = "per-branch"

[environment.production]
alias   = "PROD"
region  = "{region}"
account = "123456789012"
bucket  = "packages-here"
""",
    )

    written = shop.ok("doctor", "--policy", "--json").result

    named = [each for statement in written["Statement"] for each in statement["Resource"] if each != "*"]
    assert {each.split(":")[1] for each in named} == {partition}
    services = {each.split(":")[2] for each in named}
    assert services == {"lambda", "iam", "s3", "ecr"}


def test_watching_a_rollout_takes_two_actions_more(shop: Shop) -> None:
    watching = {"cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData"}

    def written() -> set[str]:
        policy = shop.ok("doctor", "--policy", "--json").result
        return {action for each in policy["Statement"] for action in each["Action"] if each["Resource"] == ["*"]}

    before = written()
    shop.configure(more="\n[environment.production.rollout]\nsteps = [10]\n")

    assert not before & watching
    assert written() - before == watching


# What else it finds


def test_roles_that_are_shared_or_changed_are_found_by_lambdas_own_word(shop: Shop, staff: Staff) -> None:
    in_production(shop)
    shop.greet("on a branch")
    deploy(shop, "feature-x", "f1")
    staff.says("queue", "sqs:SendMessage")

    found = checks(shop.ok("doctor", "--json"), "roles", "warning")

    assert any("share role" in each and "feature-x's version 2" in each for each in found)
    assert any(each.startswith(f"role {staff.name} changed since PROD's version 1") for each in found)


def test_a_lent_role_an_open_run_and_an_alias_at_latest_are_found(shop: Shop, staff: Staff) -> None:
    existing(shop, staff)
    with pytest.raises(PointsmanError):
        deploy(shop, "feature-x", "f1", wrap=killed_at("UpdateFunctionConfiguration"))
    shop.aws("lambda").create_alias(FunctionName=shop.name, Name="PROD", FunctionVersion="$LATEST")

    answer = shop.run("doctor", "--json")

    assert answer.code == 1
    assert not answer.document["ok"]
    assert "a branch's: a run that lent it did not end" in checks(answer, "roles", "problem")[0]
    assert "PROD points at $LATEST" in checks(answer, "aliases", "problem")[0]
    assert "did not finish" in checks(answer, "runs", "warning")[0]


def test_an_alias_that_somebody_moved_is_found(shop: Shop, staff: Staff) -> None:
    in_production(shop)
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.aws("lambda").update_alias(FunctionName=shop.name, Name="PROD", FunctionVersion="2")

    assert "PROD was moved outside Pointsman" in checks(shop.ok("doctor", "--json"), "aliases", "warning")[0]


def test_a_missing_function_and_a_missing_tool_are_problems(shop: Shop) -> None:
    shop.configure(
        provision=f'{{ with = "existing", name = "{shop.name}" }}',
        test='[function.greeting.test]\nunit = { run = "no-such-program --all" }',
        more='[environment.elsewhere]\nalias = "ELSE"\naccount = "210987654321"\nregion = "eu-west-1"\n',
    )
    answer = shop.run("doctor", "--json")

    assert answer.code == 1
    assert "no-such-program is not on PATH, and greeting's unit tests need it" in checks(answer, "tools", "problem")
    assert f"there is no function {shop.name} in eu-west-1" in checks(answer, "function", "problem")
    only = shop.run("doctor", "--to", "STAGE", "--json")
    assert {each["about"] for each in only.result} == {"this machine", "greeting → STAGE"}


SOURCES_OF = {
    "gopher": ("go", {"go.mod": "module hello\n"}, ["go"]),
    "crab": ("rust", {"Cargo.toml": ""}, ["cargo", "cargo-lambda"]),
    "gem": ("ruby", {"Gemfile": ""}, ["ruby", "bundle"]),
    "bean": ("java", {"pom.xml": ""}, ["java", "mvn"]),
    "wrapped": ("java", {"build.gradle": "", "gradlew": ""}, ["java"]),
    "grinder": ("java", {"build.gradle": ""}, ["java", "gradle"]),
    "net": ("dotnet", {"a.csproj": ""}, ["dotnet"]),
    "made": ("make", {"Makefile": ""}, ["make"]),
    "npm": ("node", {"package.json": '{"dependencies": {"ms": "1"}}'}, ["node", "npm"]),
    "pnpm": ("node", {"package.json": '{"dependencies": {"ms": "1"}}', "pnpm-lock.yaml": ""}, ["node", "pnpm"]),
    "yarn": ("node", {"package.json": '{"dependencies": {"ms": "1"}}', "yarn.lock": ""}, ["node", "yarn"]),
    "bare": ("node", {"index.js": ""}, []),
    "snake": ("python", {"requirements.txt": "six\n"}, []),  # uv came with Pointsman
    "ordered": ("command", {}, ["earthly"]),
}


def test_each_functions_missing_programs_are_told_with_what_to_install(shop: Shop) -> None:
    tables = []
    for name, (build, files, _) in SOURCES_OF.items():
        for file, text in {"x": "", **files}.items():
            shop.write(f"{name}/{file}", text)
        more = 'command = "X=1 earthly +all"\nartifact = "out"' if build == "command" else ""
        runtime = {"java": "java21", "ruby": "ruby3.4", "node": "nodejs22.x", "dotnet": "dotnet8"}.get(build)
        runtime = runtime or ("python3.13" if build in ("python", "command") else "provided.al2023")
        tables.append(
            f'[function.{name}]\nsource = "{name}"\nbuild = "{build}"\nruntime = "{runtime}"\nhandler = "a.b"\n'
            f'provision = {{ with = "direct", name = "{shop.name}-{name}", role = "{shop.role}" }}\n{more}\n'
        )
    shop.write("pointsman.toml", "".join(tables) + '[environment.staging]\nalias = "STAGE"\n')
    shop.variables = {**shop.variables, "PATH": str(shop.folder)}

    answer = shop.run("doctor", "--json")

    missing = {each["what"]: each["next"] for each in answer.result if each["verdict"] == "problem"}
    needs: dict[str, list[str]] = {}
    for name, (_, _, programs) in SOURCES_OF.items():
        for program in programs:
            needs.setdefault(program, []).append(f"{name}'s build")
    for program, builds in needs.items():
        need = "needs" if len(builds) == 1 else "need"
        what = f"{program} is not on PATH, and {', '.join(builds)} {need} it"
        assert what in missing, missing
    assert len([each for each in missing if "is not on PATH" in each]) == len(needs)
    assert missing["cargo-lambda is not on PATH, and crab's build needs it"].startswith("Install Rust")
    assert missing["yarn is not on PATH, and yarn's build needs it"] == "Install it: `npm install -g yarn@1`."


def test_sources_that_no_program_could_build_are_told(shop: Shop) -> None:
    shop.write(
        "pointsman.toml",
        f'''\
[function.gopher]
build     = "go"
runtime   = "provided.al2023"
handler   = "bootstrap"
provision = {{ with = "direct", name = "{shop.name}", role = "{shop.role}", layers = ["words"] }}

[layer.words]
source = "words"
build  = "node"

[environment.staging]
alias = "STAGE"
''',
    )
    shop.write("words/package.json", '{"dependencies": {"ms": "1"}}')
    shop.write("words/bun.lock", "")

    found = checks(shop.run("doctor", "--json"), "tools", "problem")

    assert 'gopher: build = "go" needs go.mod in the source folder' in found
    assert f"{shop.folder}/words: bun.lock cannot be installed from" in found


@pytest.mark.parametrize(
    ("now", "verdict", "says"),
    [
        (1_700_000_000.0, "ok", "is supported until"),
        (None, "warning", "AWS deprecates"),
        (4_000_000_000.0, "warning", "AWS refuses to update functions with"),
    ],
)
def test_a_runtimes_end_is_told_in_time(shop: Shop, staff: Staff, now: float | None, verdict: str, says: str) -> None:
    shop.ok("deploy", "--build-id", "101")
    if now is None:
        end = runtimes.table()[control_runtime()].deprecated
        now = datetime.combine(end, datetime.min.time(), UTC).timestamp() - 30 * 86_400

    answer = shop.ok("doctor", "--json", clock=FakeClock(now))

    assert says in checks(answer, "runtime", verdict)[0]
