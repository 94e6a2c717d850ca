"""Terraform owns the function: the first article's repository, with the real Terraform and its real AWS provider.

Runs of Terraform take seconds, so the journeys are few and long. Where each of our own calls fails in turn a stand-in
takes Terraform's place, for the real one would take half an hour.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests import terraform_provider
from tests.journeys.conftest import Shop, control_runtime
from tests.journeys.test_any_call_fails import Disturbed, Fault, dead_after, end_state, lost, refused

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "api-backend"


@pytest.fixture(scope="module")
def plugins() -> str:
    return terraform_provider.folder()


REAL = pytest.mark.timeout(900)  # a busy machine takes a quarter of a minute for each run of Terraform


@pytest.fixture
def terraformed(shop: Shop, plugins: str) -> Shop:
    """The shop, its Terraform finding the provider on this disk."""
    found = {"TF_CLI_ARGS_init": f"-plugin-dir={plugins}", "CHECKPOINT_DISABLE": "1"}
    shop.variables |= found | terraform_provider.SPARING
    return shop


ROLE = """
resource "aws_iam_role" "role" {
  name = "%(name)s"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{ Action = "sts:AssumeRole", Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" } }]
  })
}
"""
PROVIDER = 'terraform {\n  required_providers {\n    aws = { source = "hashicorp/aws" }\n  }\n}\n'
POLICY = """
resource "aws_iam_role_policy" "more" {
  role   = aws_iam_role.%s.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Action = "s3:*", Effect = "Allow", Resource = "*" }] })
}
"""


def own(shop: Shop, more: str = "") -> None:
    shop.configure(provision=f'{{ with = "terraform"{more} }}')


def runs_terraform(answer: Any) -> bool:
    return "terraform plan in" in answer.err


def example(shop: Shop) -> None:
    """The example's own files, with a name and the Node of this machine."""
    if shutil.which("node") is None:
        pytest.skip("the example is written for Node, which is not installed here")
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    runtime = f"nodejs{node.strip().lstrip('v').split('.')[0]}.x"
    ignore = shutil.ignore_patterns(".terraform*", ".pointsman")
    shutil.copytree(EXAMPLE, shop.folder, dirs_exist_ok=True, ignore=ignore)
    (shop.folder / "index.py").unlink()
    for path, old, new in (
        ("terraform/lambda.tf", 'default = "api-backend"', f'default = "{shop.name}"'),
        ("terraform/lambda.tf", "nodejs20.x", runtime),
        ("pointsman.toml", "nodejs20.x", runtime),
    ):
        file = shop.folder / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))


def taken_over(shop: Shop) -> None:
    """Who comes later and has no file: `init` writes one by which nothing is to be done."""
    file = shop.folder / "pointsman.toml"
    written = file.read_text()
    shop.ok("init", "--force")
    assert 'with = "terraform"' in file.read_text()
    assert "nothing to do" in shop.ok("plan").out
    file.write_text(written)


@REAL
def test_the_first_articles_repository_from_nothing_to_production_and_back(terraformed: Shop) -> None:
    shop = terraformed
    example(shop)
    module, routes = shop.folder / "terraform/lambda.tf", shop.folder / "src/routes.js"

    # The plan is shown; the package is there for it, and nothing else happens.
    shown = shop.ok("plan", "--build-id", "1").out
    assert "create aws_lambda_function.lambda" in shown
    assert "Terraform in terraform tells of no function" in shop.run("status").err

    first = shop.ok("deploy", "--build-id", "1", "--json").result[0]
    assert (first["name"], first["version"], first["published"], first["build"]) == (shop.name, "1", True, "1")
    assert {name: report["tests"] for name, report in first["tests"].items()} == {"unit": 4, "integration": 2}
    assert not list((shop.folder / ".pointsman").rglob("*.tfplan")) or first["outcome"] == "done"

    # Unchanged: Terraform is not started, by another build id neither.
    again = shop.ok("deploy", "--build-id", "2", "--json", "-v")
    assert again.calls == (2, 0)
    assert not runs_terraform(again)
    shop.ok("promote", "2", "--to", "PROD", "--approve")

    # Other code: exactly the saved plan.
    routes.write_text(routes.read_text().replace("platforms: 12", "platforms: 13"))
    shown = shop.ok("plan", "--build-id", "3", "--out", "release.plan").out
    assert "update aws_lambda_function.lambda: source_code_hash" in shown
    second = shop.ok("apply", "release.plan", "--json")
    assert (second.result[0]["version"], second.result[0]["was"]) == ("2", "1")
    assert second.calls[1] == 1  # the alias is all that Pointsman itself changes
    assert shop.run("apply", "release.plan").code == 4
    shop.ok("promote", "3", "--to", "PROD", "--approve")

    # Other settings: a new version too. The role of what is live, or the function itself: not without a word.
    module.write_text(module.read_text().replace("timeout     = 120", "timeout     = 60"))
    assert shop.ok("deploy", "--build-id", "4", "--json").result[0]["version"] == "3"
    kept = module.read_text()
    module.write_text(kept + POLICY % "lambda_role")
    refusal = shop.run("deploy", "--build-id", "5")
    assert refusal.code == 3
    assert "create aws_iam_role_policy.more, a policy of the role of STAGE, PROD" in refusal.err
    shop.ok("deploy", "--build-id", "5", "--allow")
    assert shop.serves("STAGE") == "3"
    kept = module.read_text()
    renamed = kept.replace('_function" "lambda"', '_function" "other"').replace("_function.lambda.", "_function.other.")
    for changed, said in (
        (
            kept.replace(f'default = "{shop.name}"', 'default = "other"'),
            "replace aws_lambda_function.lambda: function_name",
        ),
        (renamed, "delete aws_lambda_function.lambda, and every version and alias with it"),
    ):
        module.write_text(changed)
        refusal = shop.run("deploy", "--build-id", "6")
        assert (refusal.code, said in refusal.err) == (3, True)

    # Invalid HCL: Terraform's own words.
    module.write_text(kept.replace("memory_size", "memory_sizes"))
    wrong = shop.run("deploy", "--build-id", "6")
    assert wrong.code == 1
    assert 'An argument named "memory_sizes" is not expected here' in wrong.err
    module.write_text(kept)

    taken_over(shop)

    # A branch has an alias of its own, and goes through the same module.
    routes.write_text(routes.read_text().replace("platforms: 13", "platforms: 14"))
    branch = shop.ok("deploy", "--branch", "feature/more-platforms", "--build-id", "7", "--json").result[0]
    assert (branch["version"], branch["published"], shop.serves(branch["alias"])) == ("4", True, "4")

    shop.ok("rollback", "PROD")
    assert (shop.serves("PROD"), shop.serves("STAGE")) == ("1", "3")


@REAL
def test_state_in_s3_with_its_lock_and_a_workspace(terraformed: Shop) -> None:
    shop = terraformed
    s3, bucket = shop.aws("s3"), f"states-{shop.name}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    shop.write(
        "terraform/main.tf",
        PROVIDER.replace("terraform {", 'terraform {\n  backend "s3" {}', 1)
        + ROLE % {"name": shop.name}
        + f"""
variable "zip" {{ type = string }}
variable "package_hash" {{ type = string }}
variable "level" {{ type = string }}
resource "aws_lambda_function" "lambda" {{
  function_name    = "{shop.name}-${{terraform.workspace}}"
  filename         = var.zip
  source_code_hash = var.package_hash
  role             = aws_iam_role.role.arn
  handler          = "index.handler"
  runtime          = "{control_runtime()}"
  publish          = true
  environment {{
    variables = {{ LEVEL = var.level }}
  }}
}}
output "arn" {{ value = aws_lambda_function.lambda.qualified_arn }}
""",
    )
    backend = f'bucket = "{bucket}", key = "api.tfstate", region = "eu-west-1", use_lockfile = "true"'
    backend += ', use_path_style = "true", skip_credentials_validation = "true", skip_requesting_account_id = "true"'
    own(
        shop,
        f', workspace = "{{environment}}", create_workspace = true, backend = {{ {backend} }}'
        ', variables = { level = "info" }, inputs = { package = "zip" }, outputs = { name = "arn", version = "arn" }',
    )

    first = shop.ok("deploy", "--build-id", "1", "--json").result[0]
    assert (first["name"], first["version"]) == (f"{shop.name}-staging", "1")
    assert shop.ok("deploy", "--build-id", "1b", "--json").calls == (2, 0)  # init wrote a lock file meanwhile
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["env:/staging/api.tfstate"]

    # Somebody else is at work: told by name, waited for, and never unlocked.
    held = {"ID": "0aa1", "Operation": "OperationTypeApply", "Who": "ci@runner-7", "Version": "1.11.4"}
    held |= {"Created": "2026-11-22T11:33:09Z", "Path": "api.tfstate", "Info": ""}
    lock = "env:/staging/api.tfstate.tflock"
    s3.put_object(Bucket=bucket, Key=lock, Body=json.dumps(held))
    shop.greet("two")
    locked = shop.run("deploy", "--build-id", "2", "--wait", "1")
    assert locked.code == 4
    assert "ci@runner-7" in locked.err
    assert "force-unlock 0aa1" in locked.err
    s3.delete_object(Bucket=bucket, Key=lock)
    assert shop.ok("deploy", "--build-id", "2", "--json").result[0]["version"] == "2"

    # Another laptop: an empty ledger, the same state.
    shutil.rmtree(shop.folder / ".pointsman")
    shutil.rmtree(shop.folder / "terraform" / ".terraform")
    unknown = shop.ok("deploy", "--build-id", "2", "--json", "-v")
    assert unknown.result[0]["outcome"] == "unchanged"
    assert unknown.calls[1] == 0
    assert shop.ok("deploy", "--build-id", "2", "--json").calls == (2, 0)


@REAL
def test_a_module_as_terraform_aws_modules_lambda_tells_its_outputs(terraformed: Shop) -> None:
    """Its outputs are known without being declared; so is the zip in `local_existing_package`, by the file."""
    shop = terraformed
    shop.write(
        "terraform/modules/lambda/main.tf",
        PROVIDER
        + ROLE % {"name": shop.name}
        + f"""
variable "function_name" {{}}
variable "local_existing_package" {{}}
resource "aws_lambda_function" "this" {{
  count            = 1
  function_name    = var.function_name
  filename         = var.local_existing_package
  source_code_hash = filebase64sha256(var.local_existing_package)
  role             = aws_iam_role.role.arn
  handler          = "index.handler"
  runtime          = "{control_runtime()}"
  publish          = true
}}
output "lambda_function_name" {{ value = aws_lambda_function.this[0].function_name }}
output "lambda_function_arn" {{ value = aws_lambda_function.this[0].arn }}
output "lambda_function_version" {{ value = aws_lambda_function.this[0].version }}
""",
    )
    shop.write(
        "terraform/main.tf",
        f"""
module "lambda" {{
  source                 = "./modules/lambda"
  function_name          = "{shop.name}"
  local_existing_package = "../build/package.zip"
}}
output "lambda_function_name" {{ value = module.lambda.lambda_function_name }}
output "lambda_function_version" {{ value = module.lambda.lambda_function_version }}
""",
    )
    own(shop, ', package = "build/package.zip"')

    shop.ok("deploy", "--build-id", "1")
    shop.greet("two")
    done = shop.ok("deploy", "--build-id", "2", "--json").result[0]

    assert (done["name"], done["version"], done["was"]) == (shop.name, "2", "1")
    assert shop.invoke("STAGE") == {"word": "two", "version": "2"}


@REAL
def test_terraform_makes_the_function_and_publishing_is_left_to_pointsman(terraformed: Shop) -> None:
    """The module has a stand-in and tells of no version; it has no outputs at all. tofu is run by its name."""
    shop = terraformed
    bin_ = shop.folder / "bin"
    bin_.mkdir()
    (bin_ / "tofu").write_text('#!/bin/sh\nexec terraform "$@"\n')
    (bin_ / "tofu").chmod(0o755)
    shop.variables["PATH"] = f"{bin_}:{os.environ['PATH']}"
    shop.write(
        "terraform/main.tf",
        PROVIDER
        + ROLE % {"name": shop.name}
        + f"""
resource "aws_lambda_function" "lambda" {{
  function_name = "{shop.name}"
  filename      = "${{path.module}}/stand-in.zip"
  role          = aws_iam_role.role.arn
  handler       = "index.handler"
  runtime       = "{control_runtime()}"
  memory_size   = 128
}}
""",
    )
    stand_in = shop.folder / "terraform" / "stand-in.zip"
    with zipfile.ZipFile(stand_in, "w") as packed:
        packed.writestr("index.py", "def handler(event, context): return {'word': 'stand-in'}")
    bytes_ = stand_in.read_bytes()
    own(shop, ', binary = "tofu"')

    shop.ok("deploy", "--build-id", "1")
    assert shop.invoke("STAGE") == {"word": "hello", "version": "1"}
    assert stand_in.read_bytes() == bytes_

    # Other code has nothing to do with Terraform: the three writes it costs elsewhere.
    shop.greet("two")
    answer = shop.ok("deploy", "--build-id", "2", "--json", "-v")
    assert answer.calls[1] == 3
    assert not runs_terraform(answer)

    # Other settings: applied, and published with the code that is there.
    main = shop.folder / "terraform" / "main.tf"
    main.write_text(main.read_text().replace("memory_size   = 128", "memory_size   = 256"))
    done = shop.ok("deploy", "--build-id", "3", "--json").result[0]
    assert (done["version"], done["published"]) == ("3", True)
    assert shop.invoke("STAGE") == {"word": "two", "version": "3"}

    # A branch's versions may have a role of their own, of which the module never hears.
    file = shop.folder / "pointsman.toml"
    file.write_text(file.read_text() + '\n[branches]\nrole = "per-branch"\n')
    shop.ok("deploy", "--branch", "feature-1", "--build-id", "4", "-v")
    roles = {q: shop.aws("lambda").get_function(FunctionName=shop.name, Qualifier=q)["Configuration"]["Role"]
             for q in ("$LATEST", "STAGE", "feature-1")}  # fmt: skip
    assert roles["$LATEST"] == roles["STAGE"] != roles["feature-1"]
    again = shop.ok("deploy", "--build-id", "3", "--json", "-v")
    assert again.calls == (2, 0)
    assert not runs_terraform(again)


PAIR = """
variable "zip_%(name)s" { type = string }
resource "aws_lambda_function" "%(name)s" {
  function_name    = "%(function)s"
  filename         = var.zip_%(name)s
  source_code_hash = filebase64sha256(var.zip_%(name)s)
  role             = aws_iam_role.role.arn
  handler          = "index.handler"
  runtime          = "%(runtime)s"
  publish          = true
}
output "%(name)s_name" { value = aws_lambda_function.%(name)s.function_name }
output "%(name)s_version" { value = aws_lambda_function.%(name)s.version }
"""


@REAL
def test_a_zip_of_the_same_files_that_terraform_deployed_is_replaced_by_ours(terraformed: Shop) -> None:
    """The module brings the package itself, so the zip that is there is not taken for it."""
    shop = terraformed
    shop.write(
        "terraform/main.tf",
        PROVIDER
        + ROLE % {"name": shop.name}
        + (PAIR % {"name": "lambda", "function": shop.name, "runtime": control_runtime()}),
    )
    own(shop, ', inputs = { package = "zip_lambda" }')
    with zipfile.ZipFile(shop.folder / "theirs.zip", "w") as theirs:
        theirs.write(shop.folder / "index.py", "index.py")
    for words in (("init",), ("apply", "-auto-approve", "-var=zip_lambda=../theirs.zip")):
        subprocess.run(
            ["terraform", *words, "-input=false"],
            cwd=shop.folder / "terraform",
            env={**os.environ, **shop.variables},
            check=True,
            capture_output=True,
        )
    (shop.folder / "theirs.zip").unlink()

    made = shop.ok("deploy", "--build-id", "1", "--json").result[0]

    assert (made["version"], made["published"], shop.serves("STAGE")) == ("2", True, "2")


@REAL
def test_a_rehearsal_keeps_its_state_apart(terraformed: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--local` must neither read nor write the state of the real thing, here in a bucket that is nowhere."""
    shop = terraformed
    shop.write(
        "terraform/main.tf",
        PROVIDER.replace("terraform {", 'terraform {\n  backend "s3" {\n    bucket = "nowhere"\n    key = "x"\n  }', 1)
        + ROLE % {"name": shop.name}
        + f"""
resource "aws_lambda_function" "lambda" {{
  function_name    = "{shop.name}"
  filename         = "../lambda.zip"
  source_code_hash = filebase64sha256("../lambda.zip")
  role             = aws_iam_role.role.arn
  handler          = "index.handler"
  runtime          = "{control_runtime()}"
  publish          = true
}}
""",
    )
    own(shop)
    try:
        done = shop.ok("--local", "deploy", "--build-id", "1", "--json").result[0]
    finally:
        shop.run("local", "down")

    assert done["version"] == "1"
    left = {each.name for each in (shop.folder / "terraform").iterdir()}
    assert left == {"main.tf", ".terraform.lock.hcl"}


@REAL
def test_two_functions_of_one_module_are_one_release(terraformed: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applied once for both, and each finds its own version; in a rehearsal, where they share a state as well."""
    shop = terraformed
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    shop.variables = {name: value for name, value in shop.variables.items() if not name.startswith("AWS_")}
    shop.write(
        "terraform/main.tf",
        PROVIDER
        + ROLE % {"name": shop.name}
        + f"""
resource "aws_lambda_function" "each" {{
  for_each         = toset(["alpha", "beta"])
  function_name    = "{shop.name}-${{each.key}}"
  filename         = "../build/${{each.key}}.zip"
  source_code_hash = filebase64sha256("../build/${{each.key}}.zip")
  role             = aws_iam_role.role.arn
  handler          = "index.handler"
  runtime          = "{control_runtime()}"
  publish          = true
}}
output "alpha_name" {{ value = aws_lambda_function.each["alpha"].function_name }}
output "beta_name" {{ value = aws_lambda_function.each["beta"].function_name }}
""",
    )
    shop.write(
        "pointsman.toml",
        "".join(
            f"""
[function.{name}]
source = "{name}"
handler = "index.handler"
runtime = "{control_runtime()}"
build = "python"
provision = {{ with = "terraform", outputs = {{ name = "{name}_name" }}, package = "build/{name}.zip" }}
"""
            for name in ("alpha", "beta")
        )
        + '\n[environment.staging]\nalias = "STAGE"\n',
    )
    try:
        for version in ("1", "2"):
            for name in ("alpha", "beta"):
                shop.write(f"{name}/index.py", f"def handler(event, context): return '{name} {version}'\n")
            done = shop.ok("--local", "deploy", "--build-id", version, "--json").result
            assert [(each["function"], each["version"], each["moved"]) for each in done] == [
                ("alpha", version, True),
                ("beta", version, True),
            ]
    finally:
        shop.run("local", "down")


@REAL
def test_two_functions_of_one_module_are_rehearsed_together(terraformed: Shop) -> None:
    shop = terraformed
    with zipfile.ZipFile(shop.folder / "stand-in.zip", "w") as archive:
        archive.writestr("index.py", "def handler(event, context):\n    return None\n")
    module = PROVIDER + ROLE % {"name": shop.name}
    for each in ("one", "two"):
        module += f"""
resource "aws_lambda_function" "{each}" {{
  function_name = "{shop.name}-{each}"
  filename      = "../stand-in.zip"
  role          = aws_iam_role.role.arn
  handler       = "index.handler"
  runtime       = "{control_runtime()}"
}}
output "{each}" {{ value = aws_lambda_function.{each}.arn }}
"""
    shop.write("terraform/main.tf", module)
    own(shop, ', outputs = { name = "one" }')
    path = shop.folder / "pointsman.toml"
    first, environments = path.read_text().split("[environment", 1)
    second = first.replace("function.greeting", "function.second").replace('"one"', '"two"')
    path.write_text(f"{first}{second}[environment{environments}")

    try:
        done = shop.ok("--local", "deploy", "--build-id", "1", "--json").result
        again = shop.ok("--local", "deploy", "--build-id", "2", "--json")
    finally:
        shop.run("local", "down")

    assert [each["name"] for each in done] == [f"{shop.name}-one", f"{shop.name}-two"]
    assert again.calls == (4, 0)


@REAL
def test_two_functions_of_one_module_leave_each_others_code_alone(terraformed: Shop) -> None:
    """Each plan is given both packages; who is deployed alone is told why that cannot be."""
    shop = terraformed
    module, lines = PROVIDER + ROLE % {"name": shop.name}, []
    for name in ("one", "two"):
        shop.write(f"{name}/index.py", f'def handler(event, context):\n    return "{name}"\n')
        module += PAIR % {"name": name, "function": f"{shop.name}-{name}", "runtime": control_runtime()}
        lines.append(
            f"""[function.{name}]
source    = "{name}"
handler   = "index.handler"
runtime   = "{control_runtime()}"
build     = "python"
[function.{name}.provision]
with    = "terraform"
inputs  = {{ package = "zip_{name}" }}
outputs = {{ name = "{name}_name", version = "{name}_version" }}
"""
        )
    shop.write("terraform/main.tf", module)
    shop.write("pointsman.toml", "\n".join(lines) + '[environment.staging]\nalias = "STAGE"\n')

    first = shop.ok("deploy", "--build-id", "1", "--json")
    assert [each["version"] for each in first.result] == ["1", "1"]
    assert shop.ok("deploy", "--build-id", "2", "--json").calls == (4, 0)

    shop.write("two/index.py", 'def handler(event, context):\n    return "changed"\n')
    alone = shop.run("deploy", "--function", "two", "--build-id", "3")
    assert alone.code == 2
    assert "one belongs to the same module" in alone.err
    second = shop.ok("deploy", "--build-id", "3", "--json")
    assert [(each["version"], each["outcome"]) for each in second.result] == [("1", "unchanged"), ("2", "done")]
    said = {}
    for name in ("one", "two"):
        reply = shop.aws("lambda").invoke(FunctionName=f"{shop.name}-{name}", Qualifier="$LATEST", Payload=b"{}")
        said[name] = json.loads(reply["Payload"].read())
    assert said == {"one": "one", "two": "changed"}


# With the stand-in


@pytest.fixture
def stand_in(shop: Shop) -> Shop:
    return with_stand_in(shop)


def with_stand_in(shop: Shop) -> Shop:
    bin_ = shop.folder.parent / f"bin-{shop.folder.name}"
    bin_.mkdir(exist_ok=True)
    (bin_ / "terraform").write_text(
        f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent}/stand_in_terraform.py "$@"\n'
    )
    (bin_ / "terraform").chmod(0o755)
    shop.variables = {**shop.variables, "PATH": f"{bin_}:{os.environ['PATH']}"}
    shop.write(
        "terraform/main.tf",
        'variable "package_path" {}\nvariable "name" {}\nvariable "role" {}\nvariable "runtime" {}\n',
    )
    own(shop, f', variables = {{ name = "{shop.name}", role = "{shop.role}", runtime = "{control_runtime()}" }}')
    return shop


def journey(shop: Shop, wrap: Disturbed | None) -> None:
    """From nothing, and on to PROD; after every command that fails: the network is back, and `resume`."""
    for words in (("deploy", "--build-id", "101"), ("promote", "101", "--to", "PROD", "--approve")):
        answer = shop.run(*words, wrap=wrap) if wrap else shop.run(*words)
        if answer.code != 0:
            shop.run("resume", "--approve")


@REAL
@pytest.mark.parametrize("fault", [refused, lost, dead_after], ids=lambda each: each.__name__)
def test_whichever_of_our_calls_fails_the_end_is_the_same(
    stand_in: Shop, fault: Fault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Terraform is a stand-in here: the real one, run so often, would take half an hour."""
    counter = Disturbed({})
    journey(stand_in, counter)
    expected = end_state(stand_in)
    assert counter.count >= 8
    for k in counter.worth(fault, [refused, lost, dead_after]):
        folder = tmp_path_factory.mktemp("again") / "project"
        again = with_stand_in(stand_in.another(folder, f"{stand_in.name}-{fault.__name__.replace('_', '-')}-{k}"))

        journey(again, Disturbed(fault(k)))

        assert end_state(again) == expected, f"call {k} of {counter.count}"


@pytest.mark.parametrize("moment", ["before", "amid", "after"])
def test_killed_with_terraform_at_any_moment_resume_ends_as_undisturbed(stand_in: Shop, moment: str) -> None:
    """kill -9 of both: before Terraform calls AWS, between its upload and its publishing, and after its last call."""
    shop = stand_in
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    script = ROOT / "tests" / "journeys" / "stand_in_terraform.py"
    text = script.read_text()
    at = {
        "before": "    aws, name = client()",
        "amid": "    version = aws.publish_version",
        "after": '    STATE.write_text(json.dumps({"serial"',
    }[moment]
    assert text.count(at) == 1
    broken = shop.folder.parent / "broken.py"
    broken.write_text(text.replace(at, f"    os.kill(os.getppid(), 9); os.kill(os.getpid(), 9)\n{at}"))
    launcher = Path(shop.variables["PATH"].split(":")[0]) / "terraform"
    whole = launcher.read_text()
    launcher.write_text(whole.replace(str(script), str(broken)))

    environment = {**os.environ, **shop.variables, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-m", "pointsman", "deploy", "--build-id", "102"]
    killed = subprocess.run(words, cwd=shop.folder, env=environment, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    launcher.write_text(whole)
    assert shop.serves("STAGE") == "1"

    shop.ok("resume")

    assert shop.invoke("STAGE") == {"word": "two", "version": "2"}
    assert shop.versions() == ["1", "2"]
    status = shop.ok("status", "--json").result[0]
    assert [(row["alias"], row["version"], row["build"]) for row in status["aliases"]] == [("STAGE", "2", "102")]
    assert not status["unfinished"]


def test_ctrl_c_reaches_terraform_once_and_is_waited_for(stand_in: Shop) -> None:
    shop = stand_in
    launcher = Path(shop.variables["PATH"].split(":")[0]) / "terraform"
    whole, heard = launcher.read_text(), shop.folder.parent / "heard"
    launcher.write_text(
        "#!/bin/sh\n"
        + textwrap.dedent(f"""\
        if [ "$1" = apply ]; then
          trap 'echo INT >> {heard}' INT
          touch {heard}
          while [ ! -s {heard} ]; do sleep 0.05; done
          sleep 0.3
          echo "Error: execution halted" >&2
          exit 1
        fi
        """)
        + whole.partition("\n")[2]
    )
    environment = {**os.environ, **shop.variables, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-m", "pointsman", "deploy", "--build-id", "101"]
    process = subprocess.Popen(words, cwd=shop.folder, env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not heard.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)

    assert process.returncode == 130
    assert heard.read_text() == "INT\n"
    assert "`pointsman resume` goes on" in told
    launcher.write_text(whole)
    shop.ok("resume")
    assert shop.serves("STAGE") == "1"


def test_a_plan_whose_file_was_touched_is_not_applied(stand_in: Shop) -> None:
    stand_in.ok("plan", "--build-id", "1", "--out", "release.plan")
    (file,) = (stand_in.folder / ".pointsman").rglob("*.tfplan")
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(file.read_bytes() + b" ")

    answer = stand_in.run("apply", "release.plan")

    assert answer.code == 4
    assert "is not the plan that was shown" in answer.err


def test_a_zip_that_git_keeps_is_never_overwritten(shop: Shop) -> None:
    shop.write("build/package.zip", "kept")
    for words in (["init", "-q"], ["add", "build/package.zip"]):
        subprocess.run(["git", *words], cwd=shop.folder, check=True)
    with_stand_in(shop)
    own(shop, ', package = "build/package.zip"')

    answer = shop.run("deploy", "--build-id", "1")

    assert answer.code == 2
    assert "git keeps a file there" in answer.err
    assert (shop.folder / "build" / "package.zip").read_text() == "kept"


def test_a_plan_of_other_files_is_not_applied(stand_in: Shop) -> None:
    stand_in.ok("plan", "--build-id", "1", "--out", "release.plan")
    main = stand_in.folder / "terraform" / "main.tf"
    main.write_text(main.read_text() + "# other\n")

    assert stand_in.run("apply", "release.plan").code == 4


def test_what_somebody_else_changed_is_set_right_by_terraform(stand_in: Shop) -> None:
    """Other code in $LATEST, by hand: the next deploy is not taken in by its own ledger."""
    shop = stand_in
    shop.ok("deploy", "--build-id", "1")
    client = shop.aws("lambda")
    shop.greet("two")
    shop.ok("build")
    client.update_function_configuration(FunctionName=shop.name, MemorySize=256)
    client.get_waiter("function_updated_v2").wait(FunctionName=shop.name)

    answer = shop.ok("deploy", "--build-id", "2", "--json", "-v")

    assert runs_terraform(answer)
    assert shop.invoke("STAGE")["word"] == "two"


def test_settings_without_a_version_are_published_though_terraform_knows_only_the_version_before(
    stand_in: Shop,
) -> None:
    """An apply that Ctrl-C ended before it published: the provider kept the new settings with the old version."""
    shop = stand_in
    shop.ok("deploy", "--build-id", "1")
    client = shop.aws("lambda")
    client.update_function_configuration(FunctionName=shop.name, MemorySize=256)
    client.get_waiter("function_updated_v2").wait(FunctionName=shop.name)

    released = shop.ok("deploy", "--build-id", "2", "--json").result[0]

    assert (released["version"], released["was"], released["published"]) == ("2", "1", True)
    assert client.get_function_configuration(FunctionName=shop.name, Qualifier="STAGE")["MemorySize"] == 256
    assert shop.ok("deploy", "--build-id", "3", "--json").result[0]["outcome"] == "unchanged"


def test_the_policy_says_that_terraforms_own_calls_are_not_in_it(stand_in: Shop) -> None:
    stand_in.ok("deploy", "--build-id", "1")

    answer = stand_in.ok("doctor", "--policy")

    assert json.loads(answer.out)["Statement"]
    assert "what Terraform itself calls for the resources of its modules is not in this policy" in answer.err


def test_a_function_that_the_state_does_not_know_is_not_half_made_again(stand_in: Shop) -> None:
    """A CI machine without the local state: Terraform would make a second role, and fail at the function."""
    shop = stand_in
    shop.ok("deploy", "--build-id", "1")
    shutil.rmtree(shop.folder / ".pointsman")
    (shop.folder / "terraform" / "terraform.tfstate").unlink()

    answer = shop.run("deploy", "--build-id", "2")

    assert answer.code == 1
    assert f"and Lambda has {shop.name} already: the state of terraform does not know it" in answer.err
    assert f"`terraform import aws_lambda_function.lambda {shop.name}`" in answer.err
    assert not (shop.folder / "terraform" / "terraform.tfstate").exists()


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        (None, 2, "there is no nowhere on the PATH"),
        ('echo \'{"terraform_version": "0.12.31"}\'', 2, "is version 0.12.31; 1.1 or newer is needed"),
        (
            'case "$1" in version) echo \'{"terraform_version": "1.9.0"}\';; *) '
            "printf '\\nError: Failed to query available provider packages\\n\\nno such host\\n' >&2; exit 1;; esac",
            1,
            "Is the registry reachable?",
        ),
        ("kill -9 $$", 1, "ended by signal 9"),
    ],
)
def test_what_goes_wrong_with_the_program_itself_is_said(shop: Shop, script: str | None, code: int, said: str) -> None:
    shop.write("terraform/main.tf", "")
    program = shop.folder.parent / "program"
    if script:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    own(shop, f', binary = "{program if script else "nowhere"}"')

    answer = shop.run("deploy", "--build-id", "1")

    assert answer.code == code
    assert said in answer.err
    assert "Traceback" not in answer.err
