"""What is read off Terraform's plans and files: recorded from Terraform 1.11.4 and AWS provider 5.100."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pointsman.provision import terraform, terraform_module, terraform_plan

PLANS = Path(__file__).parent / "terraform_plans"
FUNCTION = "aws_lambda_function.lambda"


def recorded(name: str) -> Any:
    return json.loads((PLANS / f"{name}.json").read_text())


def meant(plan: Any) -> terraform_plan.Planned:
    found = terraform_plan.function(plan, name_output="lambda_name")
    assert found
    return found


def live_role(plan: Any) -> str:
    """The ARN of the role the function runs with before the plan."""
    resources = plan["prior_state"]["values"]["root_module"]["resources"]
    return next(each["values"]["role"] for each in resources if each["type"] == "aws_lambda_function")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("create", ["create aws_iam_role.lambda_role", f"create {FUNCTION}"]),
        ("nothing", []),
        ("code", [f"update {FUNCTION}: source_code_hash"]),
        ("settings", [f"update {FUNCTION}: environment, memory_size"]),
        ("replaced", [f"replace {FUNCTION}: function_name"]),
        ("removed", [f"delete {FUNCTION}"]),
        ("managed_policy", ["update aws_iam_policy.more: policy"]),
    ],
)
def test_changes_are_told_by_name_and_never_by_value(name: str, lines: list[str]) -> None:
    told = [str(each) for each in terraform_plan.changes(recorded(name))]

    assert told == lines
    assert "hunter" not in "".join(told)


def test_the_function_is_the_one_the_output_refers_to() -> None:
    found = meant(recorded("nothing"))

    assert (found.address, found.name, found.version, found.publish) == (FUNCTION, "api-backend", "2", True)


def test_a_version_that_is_yet_to_be_published_is_not_told() -> None:
    assert meant(recorded("code")).version is None
    assert meant(recorded("code")).sha256 == "6Yi8NhPX3Pn6mLU4SWASSKYxci56sXG0YGkIBzSEuAI="


def test_of_several_functions_the_output_tells_which() -> None:
    plan = recorded("nothing")
    module = plan["planned_values"]["root_module"]
    (own,) = (each for each in module["resources"] if each["address"] == FUNCTION)
    other = {
        **own,
        "address": "module.workers.aws_lambda_function.this[0]",
        "values": {**own["values"], "version": "9"},
    }
    module["child_modules"] = [{"address": "module.workers", "resources": [other]}]

    assert meant(plan).version == "2"
    reference = {"expression": {"references": ["module.workers.lambda_function_name", "module.workers"]}}
    plan["configuration"]["root_module"]["outputs"]["lambda_name"] = reference
    assert meant(plan).version == "9"
    plan["configuration"]["root_module"]["outputs"] = {}
    plan["planned_values"]["outputs"] = {}
    assert terraform_plan.function(plan, name_output="lambda_name") is None


@pytest.mark.parametrize(("name", "loses"), [("replaced", 1), ("removed", 1), ("settings", 0), ("create", 0)])
def test_a_function_destroyed_or_replaced_loses_its_versions(name: str, loses: int) -> None:
    plan = recorded(name)

    assert len(terraform_plan.lost(plan)) == loses


def test_a_function_whose_resource_is_renamed_is_destroyed_too() -> None:
    """Without a `moved` block Terraform deletes one and creates the other: what is meant is the new one by then."""
    gone = recorded("removed")
    plan = json.loads(json.dumps(recorded("create")).replace(FUNCTION, "aws_lambda_function.renamed"))
    plan["prior_state"] = gone["prior_state"]
    plan["resource_changes"] += [each for each in gone["resource_changes"] if each["address"] == FUNCTION]

    assert meant(plan).address == "aws_lambda_function.renamed"
    assert terraform_plan.lost(plan) == (f"delete {FUNCTION}, and every version and alias with it",)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other_role", f"{FUNCTION} would run with another role than PROD"),
        ("inline_policy", "update aws_iam_role_policy.inline: policy, a policy of the role of PROD"),
        ("inline_removed", "delete aws_iam_role_policy.inline, a policy of the role of PROD"),
        ("managed_policy", "update aws_iam_policy.more: policy, a policy of the role of PROD"),
        ("full", "create aws_iam_role_policy_attachment.more, a policy of the role of PROD"),
        ("role_tags", None),  # a role's tags let nobody do anything
        ("code", None),
        ("settings", None),
    ],
)
def test_what_changes_a_role_in_use_is_told(name: str, said: str | None) -> None:
    plan = recorded(name)

    (function,) = terraform_plan.functions_before(plan)
    told = terraform_plan.role_changes(plan, {function: {live_role(plan): "PROD"}})

    assert (said in told) if said else not told
    assert not terraform_plan.role_changes(plan, {function: {"arn:aws:iam::123456789012:role/elsewhere": "PROD"}})


def test_an_alias_that_terraform_would_move_itself_is_told() -> None:
    change = {"actions": ["update"], "before": {"name": "PROD", "function_version": "1"}, "after_unknown": {}}
    change["after"] = {"name": "PROD", "function_version": "2"}
    plan = {"resource_changes": [{"address": "aws_lambda_alias.live", "type": "aws_lambda_alias", "change": change}]}

    (told,) = terraform_plan.aliases_moved(plan, ["PROD"])

    assert "function_version, the alias PROD" in told
    assert not terraform_plan.aliases_moved(plan, ["STAGE"])
    change["after"] = {"name": "PROD", "function_version": "1", "description": "live"}
    assert not terraform_plan.aliases_moved(plan, ["PROD"])


ARN = "arn:aws:lambda:eu-west-1:123456789012:function:api"


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ({"lambda_name": "api", "lambda_version": "3"}, ("api", "3")),
        ({"lambda_name": "api", "lambda_version": 3}, ("api", "3")),
        ({"lambda_name": ARN, "lambda_version": f"{ARN}:3"}, ("api", "3")),
        ({"lambda_function_name": "api", "lambda_function_version": "4"}, ("api", "4")),  # terraform-aws-modules/lambda
        ({"lambda_function_arn": ARN, "lambda_function_qualified_arn": f"{ARN}:5"}, ("api", "5")),
        ({"lambda_name": "api", "lambda_version": "$LATEST"}, ("api", None)),
        ({"lambda_name": "api", "lambda_version": ARN}, ("api", None)),
        ({"lambda_name": ["api"]}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_outputs_may_be_names_numbers_or_arns(outputs: dict[str, object], told: tuple[object, object]) -> None:
    document = {name: {"value": value} for name, value in outputs.items()}

    assert terraform_plan.outputs(document, name="lambda_name", version="lambda_version") == told


def test_without_outputs_the_state_tells() -> None:
    def resource(module: str | None, name: str, index: object, **attributes: object) -> dict[str, Any]:
        instance: dict[str, object] = {"attributes": attributes}
        if index is not None:
            instance["index_key"] = index
        more = {"module": module} if module else {}
        return {**more, "mode": "managed", "type": "aws_lambda_function", "name": name, "instances": [instance]}

    one = resource("module.lambda", "this", 0, function_name="api", version="7")
    two = resource(None, "other", "a", function_name="other", version="8")

    assert terraform_plan.by_state({"resources": [one]}, None) == ("api", "7")
    assert terraform_plan.by_state({"resources": [one, two]}, None) == (None, None)
    both = {"resources": [one, two]}
    assert terraform_plan.by_state(both, "module.lambda.aws_lambda_function.this[0]") == ("api", "7")
    assert terraform_plan.by_state(both, 'aws_lambda_function.other["a"]') == ("other", "8")


LOCKED = """
Error: Error acquiring the state lock

Error message: operation error S3: PutObject, https response error StatusCode: 412, PreconditionFailed
Lock Info:
  ID:        f2ab3c31-6fa2-1f3c-3f4e-0d5b8d9f1f35
  Path:      states/api.tfstate
  Operation: OperationTypeApply
  Who:       ci@runner-7
  Version:   1.11.4
  Created:   2026-11-22 11:33:09.1 +0000 UTC
  Info:

Terraform acquires a state lock to protect the state from being written
by multiple users at the same time.
"""


def test_a_lock_is_told_by_who_holds_it() -> None:
    lock = terraform.lock_info(LOCKED)

    assert lock["Who"] == "ci@runner-7"
    assert lock["ID"] == "f2ab3c31-6fa2-1f3c-3f4e-0d5b8d9f1f35"
    assert lock["Operation"] == "OperationTypeApply"
    assert terraform.lock_info("Error: Unsupported argument") == {}


def test_diagnostics_are_terraforms_own_without_the_box() -> None:
    boxed = "Refreshing…\n╷\n│ Error: Unsupported argument\n│ \n│   on main.tf line 3:\n│    3:   nme = 1\n╵\n"

    assert terraform.diagnostics(boxed) == "Error: Unsupported argument\n  on main.tf line 3:\n   3:   nme = 1"


# The module's files

HCL = """
variable "package_path" {}
variable "secret" { default = "x" }
# variable "not_me" {}
module "queue" { source = "./queue" }
resource "aws_lambda_function" "lambda" {
  filename = "../lambda.zip"
  role     = file("${path.module}/../policies/role.json")
  publish  = true
}
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "terraform"
    for path, text in {
        "terraform/main.tf": HCL,
        "terraform/prod.tfvars": "a = 1",
        "terraform/queue/main.tf": 'resource "aws_sqs_queue" "q" {}',
        "policies/role.json": "{}",
        "src/index.js": "1",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return folder


def test_variables_are_those_declared(module: Path) -> None:
    (module / "more.tf.json").write_text('{"variable": {"build_id": {}}}')

    assert terraform_module.variables(module) == {"package_path", "secret", "build_id"}


def test_the_zip_of_a_module_that_publishes_is_found(module: Path) -> None:
    assert terraform_module.constant_package(module) == module.parent / "lambda.zip"


def test_a_stand_in_is_left_alone(module: Path) -> None:
    """Without `publish` the zip that lies there is what the function is made with, and no build of ours."""
    (module / "main.tf").write_text(HCL.replace("publish  = true", ""))
    (module.parent / "lambda.zip").write_bytes(b"")

    assert terraform_module.constant_package(module) is None


def test_a_zip_the_module_makes_itself_is_none_of_ours(module: Path) -> None:
    (module / "zip.tf").write_text('data "archive_file" "z" {\n  output_path = "${path.module}/../lambda.zip"\n}')

    assert terraform_module.constant_package(module) is None


@pytest.mark.parametrize(
    "path", ["terraform/main.tf", "terraform/prod.tfvars", "terraform/queue/main.tf", "policies/role.json"]
)
def test_every_file_that_decides_changes_the_digest(module: Path, path: str) -> None:
    def digest() -> str:
        return terraform_module.digest(module, root=module.parent, package=module.parent / "lambda.zip", more=[])

    before = digest()
    (module.parent / path).write_text((module.parent / path).read_text() + "\n#")

    assert digest() != before


@pytest.mark.parametrize("path", ["lambda.zip", "terraform/terraform.tfstate", "src/index.js"])
def test_what_does_not_decide_leaves_the_digest(module: Path, path: str) -> None:
    def digest() -> str:
        return terraform_module.digest(module, root=module.parent, package=module.parent / "lambda.zip", more=[])

    before = digest()
    (module.parent / path).write_text("other")

    assert digest() == before


def test_init_is_due_when_providers_modules_or_backend_change(module: Path) -> None:
    before = terraform_module.needs_init(module, [])
    (module / "main.tf").write_text(HCL.replace("publish  = true", "publish  = true\n  timeout = 3"))
    assert terraform_module.needs_init(module, []) == before

    (module / "backend.tf").write_text('terraform {\n  backend "s3" {\n    bucket = "a"\n  }\n}')
    backed = terraform_module.needs_init(module, [])
    assert backed != before
    (module / "backend.tf").write_text('terraform {\n  backend "s3" {\n    bucket = "b"\n  }\n}')
    assert terraform_module.needs_init(module, []) != backed


# Container images

REPOSITORY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/greeting"
DIGEST = "a" * 64


def of_image(after: str | None, before: str | None = None, **more: Any) -> Any:
    """A plan for one function of an image, as Terraform 1.11.4 and AWS provider 5.100 write it, in fewer words."""
    settings = {"function_name": "greeting", "package_type": "Image", "publish": True, "source_code_hash": ""}
    there = {**settings, "image_uri": before, "version": "3"} if before else None
    planned = {**settings, "image_uri": after, **({} if before is None else {"version": "3"}), **more}
    resource = {"address": FUNCTION, "type": "aws_lambda_function", "mode": "managed"}
    actions = ["create"] if there is None else ["no-op"] if planned == there else ["update"]
    unknown = {"version": True, "qualified_arn": True} if actions != ["no-op"] else {}
    change = {"actions": actions, "before": there, "after": planned, "after_unknown": unknown}
    return {
        "planned_values": {"root_module": {"resources": [{**resource, "values": planned}]}},
        "prior_state": {"values": {"root_module": {"resources": [{**resource, "values": there}] if there else []}}},
        "resource_changes": [{**resource, "change": change}],
    }


@pytest.mark.parametrize(
    ("image", "sha256"), [(f"{REPOSITORY}@sha256:{DIGEST}", DIGEST), (f"{REPOSITORY}:live", ""), (None, None)]
)
def test_an_image_is_known_by_its_digest_alone(image: str | None, sha256: str | None) -> None:
    """A tag may be anything by the time that it is applied."""
    found = meant(of_image(image))

    assert (found.package, found.image, found.sha256) == ("Image", image or "", sha256)


def test_whether_a_plan_sets_the_image_and_whether_that_is_all() -> None:
    by_tag, by_digest = f"{REPOSITORY}:live", f"{REPOSITORY}@sha256:{DIGEST}"
    for plan, sets, only in (
        (of_image(by_digest), True, False),
        (of_image(by_digest, by_tag), True, True),
        (of_image(by_digest, by_digest.replace("greeting", "elsewhere")), True, False),
        (of_image(by_digest, by_tag, memory_size=256), True, False),
        (of_image(by_tag, by_tag, memory_size=256), False, False),
        (of_image(by_tag, by_tag), False, False),
    ):
        function = meant(plan)
        assert (terraform_plan.sets_image(plan, function), terraform_plan.names_image_only(plan, function)) == (
            sets,
            only,
        )
    assert meant(of_image(by_digest, by_tag)).had == "3"


IMAGE = 'resource "aws_lambda_function" "f" {\n  package_type = "Image"\n  image_uri    = var.x\n'


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        (f"{IMAGE}}}", (False,)),
        (f"{IMAGE}  lifecycle {{\n    ignore_changes = [memory_size, image_uri]\n  }}\n}}", (True,)),
        (f"{IMAGE}  lifecycle {{\n    ignore_changes = all\n  }}\n}}", (True,)),
        (f"{IMAGE}  lifecycle {{\n    ignore_changes = [memory_size]\n  }}\n}}", (False,)),
        (f"{IMAGE}  # lifecycle {{ ignore_changes = [image_uri] }}\n}}", (False,)),
        ('resource "aws_lambda_function" "f" {\n  filename = "a.zip"\n}', ()),
        ('resource "aws_ecs_task_definition" "f" {\n  image_uri = "x"\n}', ()),
    ],
)
def test_a_module_leaves_the_image_to_others_by_ignore_changes(tmp_path: Path, text: str, leaves: object) -> None:
    (tmp_path / "main.tf").write_text(text)

    assert terraform_module.leaves_images(tmp_path) == leaves


def test_modules_that_are_called_are_looked_into_too(tmp_path: Path) -> None:
    left = f"{IMAGE}  lifecycle {{ ignore_changes = [image_uri] }}\n}}"
    for path, text in {
        "main.tf": 'module "a" {\n  source = "./inner"\n}\nmodule "b" {\n  source = "somebody/lambda/aws"\n}',
        "inner/main.tf": IMAGE + "}",
        ".terraform/modules/modules.json": '{"Modules": [{"Key": "", "Dir": "."}, {"Key": "b", "Dir": "theirs"}]}',
        "theirs/main.tf": left,
        "more.tf.json": json.dumps({"resource": {"aws_lambda_function": {"j": {"image_uri": "x"}}}}),
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert sorted(terraform_module.leaves_images(tmp_path)) == [False, False, True]
