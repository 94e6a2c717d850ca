"""Terraform as people write it: after hashicorp/learn-terraform-lambda-api-gateway, the examples of
terraform-aws-modules/terraform-aws-lambda and aws-samples/serverless-patterns."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.config import Existing, Inputs, Outputs, Terraform
from pointsman.model import FunctionName
from tests.decide.adoption.conftest import Seen

S3_OBJECT = """
provider "aws" {
  region = var.aws_region
}
resource "aws_s3_bucket" "lambda_bucket" {
  bucket = random_pet.lambda_bucket_name.id
}
data "archive_file" "lambda_hello_world" {
  type = "zip"

  source_dir  = "${path.module}/hello-world"
  output_path = "${path.module}/hello-world.zip"
}
resource "aws_s3_object" "lambda_hello_world" {
  bucket = aws_s3_bucket.lambda_bucket.id
  key    = "hello-world.zip"
  source = data.archive_file.lambda_hello_world.output_path
  etag   = filemd5(data.archive_file.lambda_hello_world.output_path)
}
resource "aws_lambda_function" "hello_world" {
  function_name    = "HelloWorld"
  s3_bucket        = aws_s3_bucket.lambda_bucket.id
  s3_key           = aws_s3_object.lambda_hello_world.key
  runtime          = "nodejs20.x"
  handler          = "hello.handler"
  source_code_hash = data.archive_file.lambda_hello_world.output_base64sha256
  role             = aws_iam_role.lambda_exec.arn
}
"""
VARIABLES = 'variable "aws_region" {\n  type = string\n  default = "us-east-1"\n}\n'
OUTPUTS = 'output "function_name" {\n  value = aws_lambda_function.hello_world.function_name\n}\n'


def test_code_is_followed_through_the_s3_object_to_the_folder_it_is_zipped_from(seen: Seen) -> None:
    files = {"main.tf": S3_OBJECT, "variables.tf": VARIABLES, "outputs.tf": OUTPUTS, "hello-world/hello.js": ""}

    project, found = seen(files)
    function = project.functions["HelloWorld"]

    assert (found.kind, found.notes) == ("terraform", ())
    assert (function.source, function.handler, function.runtime) == ("hello-world", "hello.handler", "nodejs20.x")
    assert function.provision == Terraform(directory=".", outputs=Outputs(name="function_name"))
    assert {each.region for each in project.environments.values()} == {"us-east-1"}
    assert found.told == (
        ".: backend local, workspace default",
        "main.tf: function HelloWorld (hello.handler, nodejs20.x), code in hello-world",
    )


def test_without_an_output_it_exists_and_how_to_have_it_applied_is_said(seen: Seen) -> None:
    project, found = seen({"main.tf": S3_OBJECT, "variables.tf": VARIABLES, "hello-world/hello.js": ""})

    assert project.functions["HelloWorld"].provision == Existing(name="HelloWorld")
    assert 'add output "lambda_name" { value = aws_lambda_function.hello_world.function_name }' in found.notes[0]
    assert "ignore_changes = [s3_key, s3_object_version, source_code_hash]" in found.notes[1]


MODULE = """
module "lambda_function" {
  source  = "terraform-aws-modules/lambda/aws"
  version = "~> 7.0"

  function_name = "${local.prefix}-lambda"
  handler       = "index.lambda_handler"
  runtime       = "python3.12"
  architectures = ["arm64"]
  publish       = true
  source_path = [
    { path = "${path.module}/../src/app", pip_requirements = true, patterns = ["!tests/.*"] },
  ]
}
locals {
  prefix = lower(format("%s-%s", var.project, terraform.workspace))
}
variable "project" {}
output "lambda_function_name" { value = module.lambda_function.lambda_function_name }
output "lambda_function_version" { value = module.lambda_function.lambda_function_version }
output "lambda_function_qualified_arn" { value = module.lambda_function.lambda_function_qualified_arn }
module "alias" {
  source        = "terraform-aws-modules/lambda/aws//modules/alias"
  refresh_alias = false
  name          = "current-with-refresh"
  function_name = module.lambda_function.lambda_function_name
}
"""


def test_a_call_of_the_lambda_module_with_workspace_tfvars_and_its_free_alias(seen: Seen) -> None:
    files = {
        "infra/main.tf": MODULE,
        "infra/terraform.tfvars": 'project = "Billing" # the team\n',
        "infra/prod.tfvars": 'project = "other"\n',
        "infra/.terraform/environment": "prod",
        "infra/.terraform/terraform.tfstate": {
            "backend": {"type": "s3", "config": {"bucket": "states", "key": "billing"}}
        },
        "src/app/index.py": "",
    }

    project, found = seen(files)
    function = project.functions["billing-prod-lambda"]

    assert (function.source, function.architecture) == ("src/app", "arm64")
    assert function.provision == Terraform(
        directory="infra",
        workspace="prod",
        outputs=Outputs(name="lambda_function_name", version="lambda_function_version"),
    )
    assert [each.alias for each in project.environments.values()] == ["current-with-refresh"]
    assert found.told[0] == "infra/.terraform/terraform.tfstate: backend s3 (states/billing), workspace prod"
    assert any("infra/prod.tfvars with -var-file only" in note for note in found.notes)


def test_a_child_module_gets_its_callers_values_and_its_outputs_are_followed(seen: Seen) -> None:
    files = {
        "main.tf": """
            module "lambda" {
              source = "./modules/function"
              name   = "orders"
              zip    = data.archive_file.code.output_path
            }
            data "archive_file" "code" {
              type        = "zip"
              source_file = "${path.module}/resources/lambda.py"
              output_path = "resources/lambda.zip"
            }
            output "arn" { value = module.lambda.arn }
            """,
        "modules/function/main.tf": """
            variable "name" {}
            variable "zip" {}
            resource "aws_lambda_function" "this" {
              function_name = var.name != "" ? "${var.name}-api" : null
              filename      = var.zip
              handler       = "lambda.handler"
              runtime       = "python3.13"
            }
            output "arn" { value = aws_lambda_function.this.arn }
            """,
        "resources/lambda.py": "",
        "resources/notes.md": "",
    }

    project, found = seen(files)
    function = project.functions["orders-api"]

    assert found.told[1].startswith("modules/function/main.tf: function orders-api")
    assert function.provision == Terraform(directory=".", outputs=Outputs(name="arn"))
    assert (function.source, function.handler) == ("resources", "lambda.handler")


def test_an_alias_that_terraform_moves_is_left_to_it(seen: Seen) -> None:
    alias = """
        resource "aws_lambda_alias" "live" {
          name             = "live"
          function_name    = aws_lambda_function.hello_world.function_name
          function_version = aws_lambda_function.hello_world.version
        }
        """

    project, found = seen({"main.tf": S3_OBJECT + alias, "variables.tf": VARIABLES, "outputs.tf": OUTPUTS})

    assert [each.alias for each in project.environments.values()] == ["STAGE", "PROD"]
    assert found.functions[0].owned == ("live",)
    assert any("alias live is Terraform's to move" in note for note in found.notes)


def test_the_syntax_before_0_12_and_the_same_as_json(seen: Seen) -> None:
    old = """
        variable "name" { default = "old" }
        resource "aws_lambda_function" "f" { function_name = "${var.name}" }
        output "name" { value = "${aws_lambda_function.f.function_name}" }
        """
    json = {
        "variable": {"name": {"default": "old"}},
        "resource": {"aws_lambda_function": {"f": {"function_name": "${var.name}"}}},
        "output": {"name": {"value": "${aws_lambda_function.f.function_name}"}},
    }
    expected = Terraform(directory=".", outputs=Outputs(name="name"))

    assert seen({"main.tf": old})[0].functions["old"].provision == expected
    assert seen({"main.tf": "", "main.tf.json": json})[0].functions["old"].provision == expected


STATE = {
    "version": 4,
    "resources": [
        {
            "mode": "managed",
            "type": "aws_lambda_function",
            "name": "each",
            "instances": [
                {
                    "index_key": key,
                    "attributes": {
                        "function_name": f"jobs-{key}",
                        "handler": "app.handler",
                        "runtime": "python3.13",
                        "architectures": ["arm64"],
                    },
                }
                for key in ("one", "two")
            ],
        }
    ],
}


def test_a_state_tells_what_for_each_leaves_open(seen: Seen) -> None:
    code = 'resource "aws_lambda_function" "each" {\n  for_each = var.jobs\n  function_name = "jobs-${each.key}"\n}\n'

    project, _ = seen({"main.tf": code, "terraform.tfstate": STATE, "app.py": ""})

    assert [each.provision for each in project.functions.values()] == [
        Existing(name="jobs-one"),
        Existing(name="jobs-two"),
    ]
    assert {each.architecture for each in project.functions.values()} == {"arm64"}


def test_a_state_alone_names_the_functions(seen: Seen) -> None:
    project, found = seen({"terraform.tfstate": STATE, "app.py": ""})

    assert list(project.functions) == ["jobs-one", "jobs-two"]
    assert "their .tf files are not here" in found.notes[-1]


def test_of_several_root_modules_the_nearest_is_taken_and_the_others_are_named(seen: Seen) -> None:
    code = 'resource "aws_lambda_function" "f" { function_name = "%s" }\n'
    files = {f"{folder}/main.tf": code % folder.replace("/", "-") for folder in ("live/dev", "live/prod", "terraform")}

    project, found = seen(files)

    assert list(project.functions) == ["terraform"]
    assert "Root module terraform was taken, as the nearest; others: live/dev, live/prod." in found.notes[0]


def test_a_broken_file_is_passed_over_and_named(seen: Seen) -> None:
    _, found = seen({"main.tf": S3_OBJECT, "broken.tf": 'resource "x" {{ lambda', "variables.tf": VARIABLES})

    assert "broken.tf could not be read as HCL, and was passed over." in found.notes


def test_a_jar_that_maven_makes_is_the_package(seen: Seen) -> None:
    code = """
        resource "aws_lambda_function" "f" {
          function_name = "presign"
          filename      = "target/presign.jar"
          handler       = "com.example.Presign::handleRequest"
          runtime       = "java21"
        }
        """

    function = seen({"main.tf": code})[0].functions["presign"]

    assert (function.build, function.artifact) == ("zip", "target/presign.jar")
    assert function.handler == "com.example.Presign::handleRequest"


def test_a_zip_in_the_repository_is_the_package_where_its_sources_are_not_there(seen: Seen) -> None:
    code = """
        resource "aws_lambda_function" "f" {
          function_name = "presign"
          filename      = "${path.module}/presign.zip"
          handler       = "presign.handler"
          runtime       = "python3.13"
        }
        """

    project, found = seen({"main.tf": code, "presign.zip": ""})
    function = project.functions["presign"]

    assert (function.build, function.artifact) == ("zip", "presign.zip")
    assert not any("was not found" in note for note in found.notes)

    function = seen({"presign.py": ""})[0].functions["presign"]
    assert (function.build, function.source) == ("python", ".")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('"plain"', "plain"),
        ('"${var.a}-${local.b}"', "one-two"),
        ('format("%s-%d", var.a, 3)', "one-3"),
        ('join("-", ["x", var.a])', "x-one"),
        ('replace(upper(var.a), "O", "0")', "0NE"),
        ('var.a == "one" ? "yes" : "no"', "yes"),
        ('var.flag ? "yes" : "no"', "no"),
        ('coalesce(var.missing, "other")', "other"),
        ('try(aws_thing.x.name, "other")', None),
        ('lookup(var.table, "k", "d")', "v"),
        ("var.table.k", "v"),
        ('var.table["k"]', "v"),
        ("local.circle", None),
        ("data.aws_region.here.name", None),
        ('trimsuffix("a-${terraform.workspace}", "-default")', "a"),
        ("(var.a)", "one"),
    ],
)
def test_what_expressions_come_to(seen: Seen, expression: str, value: str | None) -> None:
    code = f"""
        variable "a" {{ default = "one" }}
        variable "flag" {{ default = false }}
        variable "missing" {{}}
        variable "table" {{ default = {{ k = "v" }} }}
        locals {{
          b      = "two"
          circle = local.circle2
          circle2 = "${{local.circle}}"
        }}
        resource "aws_lambda_function" "label" {{ function_name = {expression} }}
        """

    _, found = seen({"main.tf": code})

    assert found.functions[0].name == value


IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/greeting:live"
OF_IMAGE = """
resource "aws_lambda_function" "f" {
  function_name = "greeting"
  package_type  = "Image"
  image_uri     = SAID
  publish       = true
  MORE
}
output "name" { value = aws_lambda_function.f.function_name }
output "version" { value = aws_lambda_function.f.version }
"""


@pytest.mark.parametrize(
    ("said", "more", "inputs"),
    [
        ("var.image_uri", "", Inputs()),
        ("var.picture", "", Inputs(image="picture")),
        (f'"{IMAGE}"', "lifecycle {\n    ignore_changes = [image_uri]\n  }", Inputs()),
    ],
)
def test_a_function_of_an_image_that_terraform_can_be_told(seen: Seen, said: str, more: str, inputs: Inputs) -> None:
    given = f'variable "image_uri" {{}}\nvariable "picture" {{ default = "{IMAGE}" }}\n'
    files = {
        "main.tf": given + OF_IMAGE.replace("SAID", said).replace("MORE", more),
        "terraform.tfvars": f'image_uri = "{IMAGE}"\n',
    }

    project, found = seen(files)
    function = project.functions["greeting"]

    assert (function.build, function.image) == ("image", IMAGE)
    assert function.provision == Terraform(
        directory=".", inputs=inputs, outputs=Outputs(name="name", version="version")
    )
    assert found.notes == ()


def test_an_image_that_terraform_cannot_be_told_is_left_to_who_runs_it(seen: Seen) -> None:
    project, found = seen({"main.tf": OF_IMAGE.replace("SAID", f'"{IMAGE}"').replace("MORE", "")})
    function = project.functions["greeting"]

    assert (function.image, function.provision) == (IMAGE, Existing(name=FunctionName("greeting")))
    notes = " ".join(found.notes)
    assert 'add variable "image_uri" { type = string }' in notes
    assert "lifecycle { ignore_changes = [image_uri] } to aws_lambda_function.f" in notes


def test_an_image_that_only_the_state_knows(seen: Seen) -> None:
    attributes = {"function_name": "greeting", "image_uri": IMAGE, "package_type": "Image"}
    state = {"type": "aws_lambda_function", "mode": "managed", "name": "f", "instances": [{"attributes": attributes}]}
    given = 'resource "aws_ecr_repository" "r" { name = "greeting" }\nvariable "image_uri" {}\n'

    project, _ = seen(
        {"main.tf": given + OF_IMAGE.replace("SAID", "var.image_uri").replace("MORE", ""),
         "terraform.tfstate": {"version": 4, "resources": [state]}}
    )  # fmt: skip

    assert project.functions["greeting"].image == IMAGE


def test_a_module_that_is_written_for_both_has_a_package(seen: Seen) -> None:
    both = """
variable "image_uri" { default = null }
variable "package" { default = "function.zip" }
resource "aws_lambda_function" "f" {
  function_name = "greeting"
  role          = "arn:aws:iam::123456789012:role/r"
  handler       = "app.handler"
  runtime       = "python3.13"
  filename      = var.package
  image_uri     = var.image_uri
}
output "name" { value = aws_lambda_function.f.function_name }
"""

    project, _ = seen({"main.tf": both, "app.py": "def handler(event, context): pass"})

    assert project.functions["greeting"].image is None
    assert project.functions["greeting"].runtime == "python3.13"


def test_versions_that_terraform_publishes_of_an_image_must_be_told(seen: Seen) -> None:
    given = f'variable "image_uri" {{ default = "{IMAGE}" }}\n'
    said = given + OF_IMAGE.replace("SAID", "var.image_uri").replace("MORE", "")

    _, found = seen({"main.tf": said.replace('output "version" { value = aws_lambda_function.f.version }\n', "")})

    (note,) = found.notes
    assert 'add output "lambda_version" { value = aws_lambda_function.f.version } to .' in note


TWO = """
resource "aws_lambda_function" "one" {
  function_name = "one"
  filename      = "one.zip"
  handler       = "one.handler"
  runtime       = "python3.13"
}
resource "aws_lambda_function" "two" {
  function_name = "two"
  s3_bucket     = "b"
  s3_key        = "two.zip"
  handler       = "two.handler"
  runtime       = "python3.13"
}
"""


def test_each_of_several_functions_gets_an_output_of_its_own(seen: Seen) -> None:
    files: dict[str, Any] = {"main.tf": TWO, "one.py": "def handler(e, c): ...", "two.py": "def handler(e, c): ..."}

    _, found = seen(files)

    notes = " ".join(found.notes)
    assert 'add output "one_name" { value = aws_lambda_function.one.function_name }' in notes
    assert 'output "two_name" { value = aws_lambda_function.two.function_name }, then init again' in notes
    assert "[filename, source_code_hash, s3_key, s3_object_version]" in notes
    told = 'output "one_name" { value = aws_lambda_function.one.function_name }\n'
    told += 'output "two_name" { value = aws_lambda_function.two.function_name }\n'
    project, _ = seen({**files, "outputs.tf": told})
    owners = {name: each.provision for name, each in project.functions.items()}
    assert owners == {name: Terraform(directory=".", outputs=Outputs(name=f"{name}_name")) for name in ("one", "two")}


def test_code_that_terraform_renders_is_not_taken_from_its_templates(seen: Seen) -> None:
    rendered = """
data "archive_file" "p" {
  type = "zip"
  source {
    content  = templatefile("files/producer.py", { queue_url = "u" })
    filename = "producer.py"
  }
  output_path = "files/producer.zip"
}
resource "aws_lambda_function" "f" {
  function_name = "producer"
  filename      = "files/producer.zip"
  handler       = "producer.handler"
  runtime       = "python3.13"
}
"""
    code = 'QUEUE = "${queue_url}"\ndef handler(event, context): ...'

    project, found = seen({"main.tf": rendered, "files/producer.py": code})

    function = project.functions["producer"]
    assert (function.build, function.artifact) == ("zip", "files/producer.zip")
    assert any("Terraform renders the code of producer from templates" in note for note in found.notes)
