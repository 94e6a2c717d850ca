"""Terraform's own AWS provider against the local AWS: role, published function, alias, permission, URL; there and gone.

It needs `terraform` and the provider on disk: POINTSMAN_TERRAFORM_PLUGINS names the folder for `-plugin-dir`, or a
command `terraform-provider-dir` prints it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from pointsman.localaws import control
from tests.localaws.conftest import Client, package

MODULE = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "%(account)s"
  secret_key                  = "local"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true
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
  compatible_runtimes = ["python3.11"]
}

resource "aws_lambda_code_signing_config" "signing" {
  allowed_publishers {
    signing_profile_version_arns = ["arn:aws:signer:eu-west-1:%(account)s:/signing-profiles/terraform"]
  }
  policies {
    untrusted_artifact_on_deployment = "Warn"
  }
}

resource "aws_lambda_function" "function" {
  function_name                  = "terraform"
  role                           = aws_iam_role.role.arn
  runtime                        = "python3.11"
  handler                        = "index.handler"
  filename                       = "${path.module}/package.zip"
  source_code_hash               = filebase64sha256("${path.module}/package.zip")
  publish                        = true
  layers                         = [aws_lambda_layer_version.layer.arn]
  code_signing_config_arn        = aws_lambda_code_signing_config.signing.arn
  reserved_concurrent_executions = 5
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
}

resource "aws_lambda_permission" "events" {
  statement_id   = "events"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.function.function_name
  qualifier      = aws_lambda_alias.live.name
  principal      = "events.amazonaws.com"
  source_account = "%(account)s"
}

resource "aws_lambda_function_event_invoke_config" "live" {
  function_name          = aws_lambda_function.function.function_name
  qualifier              = aws_lambda_alias.live.name
  maximum_retry_attempts = 1
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
"""


@pytest.fixture(scope="module")
def plugins() -> str:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed here")
    folder = os.environ.get("POINTSMAN_TERRAFORM_PLUGINS")
    if folder is None and (printer := shutil.which("terraform-provider-dir")) is not None:
        folder = subprocess.run([printer], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    if folder is None or not (Path(folder) / "registry.terraform.io" / "hashicorp" / "aws").is_dir():
        pytest.skip("Terraform's AWS provider is not on this disk (POINTSMAN_TERRAFORM_PLUGINS names its folder)")
    return folder


def test_a_function_is_applied_changed_and_destroyed(
    aws: control.Running, connect: Client, plugins: str, tmp_path: Path
) -> None:
    (tmp_path / "main.tf").write_text(MODULE % {"account": control.ACCOUNT})
    (tmp_path / "layer.zip").write_bytes(package("BUILD = 1", "python/layered.py"))

    def terraform(*words: str) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_ENDPOINT_URL": aws.url}
        environment |= {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        ran = subprocess.run(
            ["terraform", *words, "-no-color"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def deploy(build: int) -> None:
        (tmp_path / "package.zip").write_bytes(
            package(f"import layered\ndef handler(event, context): return layered.BUILD * {build}")
        )
        terraform("apply", "-auto-approve", "-input=false")
        terraform("plan", "-detailed-exitcode", "-input=false")  # 0: nothing left to change

    lambda_ = connect("lambda")

    def live() -> tuple[str, object]:
        found = lambda_.invoke(FunctionName="terraform", Qualifier="live")
        return found["ExecutedVersion"], json.loads(found["Payload"].read())

    terraform("init", f"-plugin-dir={plugins}", "-input=false")
    deploy(1)
    first = live()
    deploy(2)
    second = live()
    policy = json.loads(lambda_.get_policy(FunctionName="terraform", Qualifier="live")["Policy"])
    principals = {each["Sid"]: each["Principal"] for each in policy["Statement"]}
    url = lambda_.get_function_url_config(FunctionName="terraform", Qualifier="live")["FunctionUrl"]
    with urllib.request.urlopen(url) as reply:
        by_url = json.load(reply)
    reserved = lambda_.get_function_concurrency(FunctionName="terraform")["ReservedConcurrentExecutions"]
    events = lambda_.get_function_event_invoke_config(FunctionName="terraform", Qualifier="live")
    terraform("destroy", "-auto-approve", "-input=false")

    assert (first, second) == (("1", 1), ("2", 2))
    assert (principals["events"], principals["url"], by_url) == ({"Service": "events.amazonaws.com"}, "*", 2)
    assert (reserved, events["MaximumRetryAttempts"]) == (5, 1)
    with pytest.raises(ClientError, match="Function not found"):
        lambda_.get_function(FunctionName="terraform")
    assert "terraform" not in [role["RoleName"] for role in connect("iam").list_roles()["Roles"]]
