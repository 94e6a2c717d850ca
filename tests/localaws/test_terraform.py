"""Terraform's own AWS provider against the local AWS: every ordinary resource of Lambda's, made, changed and gone.

It needs `terraform` and the provider on disk: POINTSMAN_TERRAFORM_PLUGINS names the folder for `-plugin-dir`, or a
command `terraform-provider-dir` prints it.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws import control
from tests import terraform_provider
from tests.localaws.conftest import Client, package

MODULE = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "account" { type = string }
variable "queue" { type = string }
variable "build" { type = number }
variable "weights" {
  type    = map(number)
  default = {}
}
variable "provisioned" {
  type    = string
  default = "live"
}

provider "aws" {
  region                      = "eu-west-1"
  access_key                  = var.account
  secret_key                  = "local"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true
  default_tags { tags = { team = "a" } }
}

resource "aws_iam_role" "role" {
  name = "terraform"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_lambda_layer_version" "layer" {
  layer_name          = "terraform"
  filename            = "${path.module}/layer.zip"
  source_code_hash    = filebase64sha256("${path.module}/layer.zip")
  compatible_runtimes = ["python3.11"]
}

resource "aws_lambda_layer_version_permission" "everybody" {
  layer_name     = aws_lambda_layer_version.layer.layer_name
  version_number = aws_lambda_layer_version.layer.version
  principal      = "*"
  action         = "lambda:GetLayerVersion"
  statement_id   = "everybody"
}

resource "aws_lambda_code_signing_config" "signing" {
  allowed_publishers {
    signing_profile_version_arns = ["arn:aws:signer:eu-west-1:${var.account}:/signing-profiles/terraform"]
  }
  policies {
    untrusted_artifact_on_deployment = "Warn"
  }
}

resource "aws_lambda_function" "function" {
  function_name                  = "terraform"
  description                    = "build ${var.build}"
  role                           = aws_iam_role.role.arn
  runtime                        = "python3.11"
  handler                        = "index.handler"
  filename                       = "${path.module}/package.zip"
  source_code_hash               = filebase64sha256("${path.module}/package.zip")
  publish                        = true
  timeout                        = 20
  memory_size                    = 256
  layers                         = [aws_lambda_layer_version.layer.arn]
  code_signing_config_arn        = aws_lambda_code_signing_config.signing.arn
  reserved_concurrent_executions = 5
  environment { variables = { BUILD = var.build } }
  ephemeral_storage { size = 1024 }
  dead_letter_config { target_arn = var.queue }
  tracing_config { mode = "Active" }
  logging_config {
    log_format            = "JSON"
    application_log_level = "INFO"
    system_log_level      = "WARN"
  }
  tags = { own = "b" }
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
  dynamic "routing_config" {
    for_each = length(var.weights) > 0 ? [1] : []
    content { additional_version_weights = var.weights }
  }
}

# The pipeline moves these; Terraform makes them.
resource "aws_lambda_alias" "stage" {
  for_each         = toset(["blue", "green"])
  name             = each.key
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
  lifecycle { ignore_changes = [function_version, routing_config] }
}

resource "aws_lambda_provisioned_concurrency_config" "ready" {
  function_name                     = aws_lambda_function.function.function_name
  qualifier                         = var.provisioned
  provisioned_concurrent_executions = 1
  depends_on                        = [aws_lambda_alias.live, aws_lambda_alias.stage]
}

resource "aws_lambda_permission" "events" {
  statement_id   = "events"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.function.function_name
  qualifier      = aws_lambda_alias.live.name
  principal      = "events.amazonaws.com"
  source_account = var.account
}

resource "aws_lambda_function_event_invoke_config" "live" {
  function_name          = aws_lambda_function.function.function_name
  qualifier              = aws_lambda_alias.live.name
  maximum_retry_attempts = 1
  destination_config {
    on_failure { destination = var.queue }
  }
}

resource "aws_lambda_event_source_mapping" "queue" {
  event_source_arn        = var.queue
  function_name           = aws_lambda_alias.live.arn
  batch_size              = 5
  function_response_types = ["ReportBatchItemFailures"]
  filter_criteria {
    filter { pattern = jsonencode({ body = { kind = ["a"] } }) }
  }
  scaling_config { maximum_concurrency = 5 }
}

resource "aws_lambda_runtime_management_config" "runtime" {
  function_name     = aws_lambda_function.function.function_name
  update_runtime_on = "FunctionUpdate"
}

resource "aws_lambda_function_recursion_config" "recursion" {
  function_name  = aws_lambda_function.function.function_name
  recursive_loop = "Allow"
}

resource "aws_lambda_function_url" "live" {
  function_name      = aws_lambda_function.function.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "NONE"
  cors {
    allow_origins = ["*"]
    max_age       = 60
  }
}

# The provider grants everybody lambda:InvokeFunctionUrl by itself; AWS asks for this, too, since October 2025.
resource "aws_lambda_permission" "url" {
  statement_id  = "url"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function.function_name
  qualifier     = aws_lambda_alias.live.name
  principal     = "*"
}

# Code through S3, a snapshot of every version, and all anew with each build.
resource "aws_s3_bucket" "code" {
  bucket        = "terraform-code"
  force_destroy = true
}

resource "aws_s3_bucket_versioning" "code" {
  bucket = aws_s3_bucket.code.id
  versioning_configuration { status = "Enabled" }
}

resource "aws_s3_object" "code" {
  bucket = aws_s3_bucket_versioning.code.bucket
  key    = "package.zip"
  source = "${path.module}/package.zip"
  etag   = filemd5("${path.module}/package.zip")
}

resource "terraform_data" "build" { input = var.build }

resource "aws_lambda_function" "stored" {
  function_name     = "terraform-stored"
  role              = aws_iam_role.role.arn
  runtime           = "python3.11"
  handler           = "index.handler"
  s3_bucket         = aws_s3_object.code.bucket
  s3_key            = aws_s3_object.code.key
  s3_object_version = aws_s3_object.code.version_id
  publish           = true
  snap_start { apply_on = "PublishedVersions" }
  lifecycle { replace_triggered_by = [terraform_data.build] }
}

resource "aws_lambda_invocation" "once" {
  function_name = aws_lambda_function.function.function_name
  qualifier     = aws_lambda_alias.live.name
  input         = jsonencode({ n = 1 })
}

data "aws_lambda_function" "function" {
  function_name = aws_lambda_function.function.function_name
  qualifier     = aws_lambda_alias.live.name
}

data "aws_lambda_alias" "live" {
  function_name = aws_lambda_function.function.function_name
  name          = aws_lambda_alias.live.name
}

data "aws_lambda_functions" "all" { depends_on = [aws_lambda_function.function, aws_lambda_function.stored] }

data "aws_lambda_layer_version" "layer" {
  layer_name         = aws_lambda_layer_version.layer.layer_name
  compatible_runtime = "python3.11"
}

data "aws_lambda_code_signing_config" "signing" { arn = aws_lambda_code_signing_config.signing.arn }

data "aws_lambda_function_url" "live" {
  function_name = aws_lambda_function_url.live.function_name
  qualifier     = aws_lambda_alias.live.name
}

output "seen" {
  value = {
    invoked   = aws_lambda_invocation.once.result
    function  = data.aws_lambda_function.function.version
    alias     = data.aws_lambda_alias.live.function_version
    functions = data.aws_lambda_functions.all.function_names
    layer     = data.aws_lambda_layer_version.layer.version
    signing   = data.aws_lambda_code_signing_config.signing.policies[0].untrusted_artifact_on_deployment
    url       = data.aws_lambda_function_url.live.function_url
  }
}
"""


@pytest.fixture(scope="module")
def plugins() -> str:
    return terraform_provider.folder()


@dataclass(frozen=True)
class Workspace:
    """A folder with MODULE in it, and where it is applied."""

    folder: Path
    url: str

    def terraform(self, *words: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_ENDPOINT_URL": self.url,
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            **terraform_provider.SPARING,
            "TF_VAR_account": control.ACCOUNT,
            "TF_VAR_queue": f"arn:aws:sqs:eu-west-1:{control.ACCOUNT}:terraform",
        }
        ran = subprocess.run(
            ["terraform", *words],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def apply(self, *variables: str) -> Any:
        """What the module put out, once nothing is left to change (-detailed-exitcode is 2 otherwise)."""
        given = ["-no-color", "-input=false", *(f"-var={each}" for each in variables)]
        self.terraform("apply", "-auto-approve", *given)
        self.terraform("plan", "-detailed-exitcode", *given)
        return json.loads(self.terraform("output", "-json", "seen"))


def test_everything_of_lambdas_is_applied_changed_and_destroyed(
    aws: control.Running, connect: Client, plugins: str, tmp_path: Path
) -> None:
    """One module, for each apply takes seconds. The queue is not Terraform's: the provider takes 25 s to make one."""
    (tmp_path / "main.tf").write_text(MODULE)
    source = "import layered, os\ndef handler(event, context): return [os.environ.get('BUILD'), layered.BUILD]"
    (tmp_path / "package.zip").write_bytes(package(source))
    (tmp_path / "layer.zip").write_bytes(package("BUILD = 1", "python/layered.py"))
    connect("sqs").create_queue(QueueName="terraform", Attributes={"VisibilityTimeout": "60"})
    lambda_ = connect("lambda")
    work = Workspace(tmp_path, aws.url)
    work.terraform("init", "-no-color", f"-plugin-dir={plugins}", "-input=false")

    def live() -> tuple[str, object]:
        found = lambda_.invoke(FunctionName="terraform", Qualifier="live")
        return found["ExecutedVersion"], json.loads(found["Payload"].read())

    def routing(alias: str) -> tuple[str, object]:
        found = lambda_.get_alias(FunctionName="terraform", Name=alias)
        return found["FunctionVersion"], found.get("RoutingConfig")

    def provisioned() -> list[str]:
        found = lambda_.list_provisioned_concurrency_configs(FunctionName="terraform")
        return [each["FunctionArn"].rpartition(":")[2] for each in found["ProvisionedConcurrencyConfigs"]]

    seen = work.apply("build=1")
    url = lambda_.get_function_url_config(FunctionName="terraform", Qualifier="live")["FunctionUrl"]
    assert live() == ("1", ["1", 1])
    assert {"terraform", "terraform-stored"} <= set(seen.pop("functions"))
    assert seen == {
        "invoked": '["1", 1]', "function": "1", "alias": "1", "layer": 1, "signing": "Warn", "url": url,
    }  # fmt: skip
    assert (provisioned(), routing("blue")) == (["live"], ("1", None))
    tags = lambda_.list_tags(Resource=f"arn:aws:lambda:eu-west-1:{control.ACCOUNT}:function:terraform")["Tags"]
    (mapping,) = lambda_.list_event_source_mappings(FunctionName="terraform:live")["EventSourceMappings"]
    events = lambda_.get_function_event_invoke_config(FunctionName="terraform", Qualifier="live")
    runtime = lambda_.get_runtime_management_config(FunctionName="terraform")
    assert tags == {"team": "a", "own": "b"}
    assert (mapping["State"], mapping["BatchSize"]) == ("Enabled", 5)
    assert (events["MaximumRetryAttempts"], runtime["UpdateRuntimeOn"]) == (1, "FunctionUpdate")

    # A new layer and a new build; the alias is weighted, and what is provisioned moves to another.
    (tmp_path / "layer.zip").write_bytes(package("BUILD = 2", "python/layered.py"))
    seen = work.apply("build=2", 'weights={"1"=0.25}', "provisioned=green")
    assert (routing("live"), routing("blue")) == (("2", {"AdditionalVersionWeights": {"1": 0.25}}), ("1", None))
    assert (seen["function"], seen["layer"], provisioned()) == ("2", 2, ["green"])
    assert lambda_.get_function(FunctionName="terraform-stored", Qualifier="2")["Configuration"]["State"] == "Active"

    promoted = ("-no-color", "-auto-approve", "-input=false", "-var=build=2", "-var=provisioned=green")
    work.terraform("apply", *promoted)
    policy = json.loads(lambda_.get_policy(FunctionName="terraform", Qualifier="live")["Policy"])
    principals = {each["Sid"]: each["Principal"] for each in policy["Statement"]}
    with urllib.request.urlopen(url) as reply:
        by_url = json.load(reply)
    assert (routing("live"), live()) == (("2", None), ("2", ["2", 2]))
    assert (principals["events"], principals["url"], by_url) == ({"Service": "events.amazonaws.com"}, "*", ["2", 2])

    work.terraform("destroy", *promoted)
    assert not [each for each in lambda_.list_functions()["Functions"] if each["FunctionName"].startswith("terraform")]
    assert not lambda_.list_event_source_mappings(FunctionName="terraform:live")["EventSourceMappings"]
    assert "terraform" not in [role["RoleName"] for role in connect("iam").list_roles()["Roles"]]
    assert "terraform" not in [layer["LayerName"] for layer in lambda_.list_layers()["Layers"]]


IMAGES = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "account" { type = string }
variable "queue" { type = string }
variable "tag" { type = string }

provider "aws" {
  region                      = "eu-west-1"
  access_key                  = var.account
  secret_key                  = "local"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

resource "aws_iam_role" "role" {
  name = "terraform-image"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

data "aws_ecr_repository" "app" { name = "terraform-image" }

data "aws_ecr_image" "app" {
  repository_name = data.aws_ecr_repository.app.name
  image_tag       = var.tag
}

resource "aws_lambda_function" "image" {
  function_name = "terraform-image"
  role          = aws_iam_role.role.arn
  package_type  = "Image"
  image_uri     = "${data.aws_ecr_repository.app.repository_url}@${data.aws_ecr_image.app.image_digest}"
  architectures = ["x86_64"]
  publish       = true
  image_config {
    command           = ["app.${var.tag}"]
    working_directory = "/var/task"
  }
}

output "seen" {
  value = {
    version = aws_lambda_function.image.version
    sha256  = aws_lambda_function.image.code_sha256
    uri     = aws_lambda_function.image.image_uri
  }
}
"""


@pytest.mark.timeout(900)  # as in the journeys: each run may take half a minute on a busy machine
def test_a_function_of_an_image_is_applied_changed_and_destroyed(
    aws: control.Running, connect: Client, plugins: str, tmp_path: Path
) -> None:
    (tmp_path / "main.tf").write_text(IMAGES)
    ecr, lambda_ = connect("ecr"), connect("lambda")
    work = Workspace(tmp_path, aws.url)
    work.terraform("init", "-no-color", f"-plugin-dir={plugins}", "-input=false")
    uri = ecr.create_repository(repositoryName="terraform-image")["repository"]["repositoryUri"]
    digests = {}
    for tag in ("one", "two"):
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
        config = {"mediaType": tag, "size": 7, "digest": f"sha256:{'c' * 64}"}
        text = json.dumps({**manifest, "config": config, "layers": []})
        pushed = ecr.put_image(repositoryName="terraform-image", imageManifest=text, imageTag=tag)
        digests[tag] = pushed["image"]["imageId"]["imageDigest"]

    for version, tag in (("1", "one"), ("2", "two")):
        seen = work.apply(f"tag={tag}")

        hexadecimal = digests[tag].removeprefix("sha256:")
        assert seen == {"version": version, "sha256": hexadecimal, "uri": f"{uri}@{digests[tag]}"}
        found = lambda_.get_function_configuration(FunctionName="terraform-image", Qualifier=version)
        assert (found["PackageType"], found["CodeSha256"]) == ("Image", hexadecimal)
        assert found["ImageConfigResponse"]["ImageConfig"]["Command"] == [f"app.{tag}"]

    work.terraform("destroy", "-no-color", "-auto-approve", "-input=false", "-var=tag=two")
    assert "terraform-image" not in [each["FunctionName"] for each in lambda_.list_functions()["Functions"]]
