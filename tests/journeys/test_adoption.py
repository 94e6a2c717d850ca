"""Functions that other tools made and keep: `init` in a fresh checkout writes a file; `plan` finds nothing to do."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Shop, control_runtime
from tests.journeys.test_images import REGISTRY, push

HANDLER = """\
def handler(event, context):
    return {"word": "hello", "version": context.function_version}
"""


def zipped(files: Mapping[str, str]) -> bytes:
    """As other tools zip: stored or deflated, with today's times, in the order they were found."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files, reverse=True):
            info = zipfile.ZipInfo(name, (2024, 5, 17, 11, 30, 0))
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    return packed.getvalue()


def deployed(shop: Shop, files: Mapping[str, str], **more: Any) -> str:
    """CreateFunction and PublishVersion, as all those tools call them in the end; the version."""
    client = shop.aws("lambda")
    given = {"Handler": "index.handler", "Runtime": control_runtime(), "Role": shop.role, **more}
    client.create_function(FunctionName=shop.name, Code={"ZipFile": zipped(files)}, **given)
    client.get_waiter("function_active_v2").wait(FunctionName=shop.name, WaiterConfig={"Delay": 0.05})
    return str(client.publish_version(FunctionName=shop.name)["Version"])


def alias(shop: Shop, name: str, version: str) -> None:
    shop.aws("lambda").create_alias(FunctionName=shop.name, Name=name, FunctionVersion=version)


@pytest.fixture
def checkout(shop: Shop) -> Shop:
    """A folder with nothing of ours in it."""
    (shop.folder / "pointsman.toml").unlink()
    shop.write("index.py", HANDLER)
    return shop


def lay(shop: Shop, files: Mapping[str, Any]) -> None:
    for path, content in files.items():
        shop.write(path, content if isinstance(content, str) else json.dumps(content, indent=2))


def test_lambrolls_function_is_taken_over_with_its_alias(checkout: Shop) -> None:
    lay(
        checkout,
        {
            "function.json": {
                "FunctionName": checkout.name,
                "Handler": "index.handler",
                "MemorySize": 256,
                "Role": checkout.role,
                "Runtime": control_runtime(),
                "Timeout": 7,
                "Environment": {"Variables": {"LEVEL": "info", "TOKEN": "{{ must_env `TOKEN` }}"}},
                "TracingConfig": {"Mode": "PassThrough"},
            },
            ".lambdaignore": "# not for Lambda\n*.md\n",
            "README.md": "hello",
        },
    )
    variables = {"Variables": {"LEVEL": "info", "TOKEN": "secret"}}
    version = deployed(checkout, {"index.py": HANDLER}, MemorySize=256, Timeout=7, Environment=variables)
    alias(checkout, "current", version)

    told = checkout.ok("init").out
    planned = checkout.ok("plan").out

    assert f"function.json: function {checkout.name}" in told
    assert "variables TOKEN are not known here" in told
    assert "nothing to do: current serves exactly this code and configuration already" in planned
    assert checkout.ok("deploy", "--approve", "--json").calls[1] == 0
    assert checkout.versions() == [version]

    checkout.write("index.py", HANDLER.replace("hello", "good evening"))
    checkout.ok("deploy", "--approve")
    assert checkout.invoke("current") == {"word": "good evening", "version": "2"}
    kept = checkout.aws("lambda").get_function_configuration(FunctionName=checkout.name)["Environment"]
    assert kept == variables
    checkout.ok("rollback", "current", "--to", version)
    assert checkout.invoke("current")["word"] == "hello"


def test_what_was_taken_over_stays_unchanged_on_the_next_deploy_and_costs_two_reads(checkout: Shop) -> None:
    alias(checkout, "live", deployed(checkout, {"index.py": HANDLER}))
    checkout.ok("init", "--function-name", checkout.name)
    checkout.ok("deploy", "--approve")

    again = checkout.ok("deploy", "--approve", "--json")

    assert again.result[0]["outcome"] == "unchanged"
    assert again.calls == (2, 0)


def test_a_function_of_the_serverless_framework_is_only_given_an_alias(checkout: Shop) -> None:
    """The Framework publishes versions and makes no alias: that one is all there is to do."""
    service, _, tail = checkout.name.partition("-")
    lay(
        checkout,
        {
            "serverless.yml": f"""\
                service: {service}
                custom: {{ stages: {{ dev: {tail} }} }}
                provider:
                  name: aws
                  runtime: {control_runtime()}
                  stage: ${{opt:stage, 'dev'}}
                package:
                  patterns: ['!docs/**']
                functions:
                  hello:
                    name: ${{self:service}}-${{self:custom.stages.${{self:provider.stage}}}}
                    handler: index.handler
                """,
            "docs/more.py": "",
        },
    )
    deployed(checkout, {"index.py": HANDLER})

    told = checkout.ok("init").out
    planned = checkout.ok("plan", "--json").result[0]

    assert "the first deploy makes STAGE" in told
    assert [step["step"] for step in planned["steps"]] == ["PublishVersion", "CreateAlias"]
    checkout.ok("deploy")
    assert (checkout.serves("STAGE"), checkout.versions()) == ("1", ["1"])
    assert "nothing to do" in checkout.ok("plan").out


def test_a_stacks_function_is_found_in_sync_and_its_own_alias_is_left_to_it(checkout: Shop) -> None:
    template = {
        "Resources": {
            "Greeting": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "FunctionName": checkout.name,
                    "Handler": "index.handler",
                    "Runtime": control_runtime(),
                    "Role": checkout.role,
                    "Code": {"ZipFile": HANDLER},
                },
            },
            "Version": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Greeting"}}},
            "Live": {
                "Type": "AWS::Lambda::Alias",
                "Properties": {
                    "Name": "live",
                    "FunctionName": {"Ref": "Greeting"},
                    "FunctionVersion": {"Fn::GetAtt": ["Version", "Version"]},
                },
            },
        }
    }
    lay(checkout, {"template.json": template, "deploy.sh": f"aws cloudformation deploy --stack-name {checkout.name}\n"})
    client = checkout.aws("cloudformation")
    client.create_stack(StackName=checkout.name, TemplateBody=(checkout.folder / "template.json").read_text())
    client.get_waiter("stack_create_complete").wait(StackName=checkout.name, WaiterConfig={"Delay": 0.2})
    alias(checkout, "STAGE", "1")

    told = checkout.ok("init").out

    assert "the stack has alias live of its own" in told
    assert "nothing to do: STAGE serves exactly this" in checkout.ok("plan").out
    assert "live" not in (checkout.folder / "pointsman.toml").read_text().split("[environment", 1)[1]


def test_terraforms_function_without_outputs_exists_and_its_free_alias_is_taken(checkout: Shop) -> None:
    lay(
        checkout,
        {
            "terraform/main.tf": """\
                variable "name" { default = "unknown" }
                data "archive_file" "code" {
                  type        = "zip"
                  source_file = "${path.module}/../index.py"
                  output_path = "${path.module}/code.zip"
                }
                resource "aws_lambda_function" "greeting" {
                  function_name = var.name
                  handler       = "index.handler"
                  runtime       = "RUNTIME"
                  role          = aws_iam_role.greeting.arn
                  filename      = data.archive_file.code.output_path
                  publish       = true
                }
                resource "aws_lambda_alias" "stage" {
                  name             = "STAGE"
                  function_name    = aws_lambda_function.greeting.function_name
                  function_version = aws_lambda_function.greeting.version
                  lifecycle {
                    ignore_changes = [function_version, routing_config]
                  }
                }
                """.replace("RUNTIME", control_runtime()),
            "terraform/terraform.tfvars": f'name = "{checkout.name}"\n',
        },
    )
    alias(checkout, "STAGE", deployed(checkout, {"index.py": HANDLER}))

    told = checkout.ok("init").out

    assert f"terraform/main.tf: function {checkout.name}" in told
    assert "no output with the name" in told
    assert "nothing to do: STAGE serves exactly this" in checkout.ok("plan").out


def test_a_live_function_that_no_file_here_declares(checkout: Shop) -> None:
    """Its package holds what our defaults leave out: the file that is written names it."""
    lay(checkout, {"README.md": "about", "notes.txt": "mine"})
    version = deployed(checkout, {"index.py": HANDLER, "README.md": "about"}, Timeout=9)
    alias(checkout, "PROD", version)
    alias(checkout, "STAGE", version)

    told = checkout.ok("init", "--function-name", checkout.name).out
    written = (checkout.folder / "pointsman.toml").read_text()

    assert '# - Its settings stay as they are. To have them kept by this file: provision = { with = "direct"' in written
    assert 'include = ["**", "/README.md"]' in written
    assert 'exclude = ["/notes.txt"]' in written
    assert "notes.txt" in told
    for name in ("STAGE", "PROD"):
        assert f"nothing to do: {name} serves exactly this" in checkout.ok("plan", "--to", name).out


def test_other_files_than_deployed_are_told_and_uploaded(checkout: Shop) -> None:
    alias(checkout, "live", deployed(checkout, {"index.py": HANDLER.replace("hello", "old")}))

    told = checkout.ok("init", "--function-name", checkout.name).out
    planned = checkout.ok("plan", "-v")

    assert "Other than deployed: index.py" in told
    assert "of other content: index.py" in planned.err
    assert "upload" in planned.out


def test_init_needs_no_aws_and_says_when_it_got_none(checkout: Shop) -> None:
    checkout.variables = {
        **checkout.variables,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }

    told = checkout.ok("init").out

    assert "What is on AWS is not known" in told
    checkout.ok("init", "--force", "--offline")
    refused = checkout.run("init", "--force", "--function-name", "api-backend")
    assert refused.code == 1
    assert "Traceback" not in refused.err


def test_a_function_that_is_not_there_is_an_error_and_nothing_is_written(checkout: Shop) -> None:
    refused = checkout.run("init", "--function-name", "nobody-made-this")

    assert refused.code != 0
    assert "there is no function nobody-made-this in" in refused.err
    assert not (checkout.folder / "pointsman.toml").exists()
    assert not list(Path(checkout.folder).glob(".pointsman/ledger*"))


SAM = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: hello/
      Handler: index.handler
      Runtime: RUNTIME
      Role: ROLE
"""


def test_a_sam_stack_that_sam_deployed_is_found_in_sync(checkout: Shop) -> None:
    """`sam deploy` uploads the code and sends the template with the address of it in CodeUri's place."""
    template = SAM.replace("RUNTIME", control_runtime()).replace("ROLE", checkout.role)
    samconfig = f'version = 0.1\n[default.deploy.parameters]\nstack_name = "{checkout.name}"\nregion = "eu-west-1"\n'
    lay(checkout, {"template.yaml": template, "samconfig.toml": samconfig, "hello/index.py": HANDLER})
    (checkout.folder / "index.py").unlink()
    s3, stacks = checkout.aws("s3"), checkout.aws("cloudformation")
    s3.create_bucket(Bucket=checkout.name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket=checkout.name, Key="code", Body=zipped({"index.py": HANDLER}))
    sent = template.replace("hello/", f"s3://{checkout.name}/code")
    capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    stacks.create_stack(StackName=checkout.name, TemplateBody=sent, Capabilities=capabilities)
    stacks.get_waiter("stack_create_complete").wait(StackName=checkout.name, WaiterConfig={"Delay": 0.2})
    function = stacks.describe_stack_resource(StackName=checkout.name, LogicalResourceId="Hello")
    name = function["StackResourceDetail"]["PhysicalResourceId"]
    checkout.aws("lambda").publish_version(FunctionName=name)
    checkout.aws("lambda").create_alias(FunctionName=name, Name="STAGE", FunctionVersion="1")

    told = checkout.ok("init").out

    assert f"samconfig.toml: stack {checkout.name}" in told
    assert f"function {name}" in told
    assert "nothing to do: STAGE serves exactly this" in checkout.ok("plan").out


def test_of_a_plain_folder_it_tells_what_was_recognised_what_is_guessed_and_that_the_function_must_be_there(
    checkout: Shop,
) -> None:
    told = checkout.ok("init", "--offline").out

    assert f": index.handler, {control_runtime()}, code in ." in told
    assert f"{control_runtime()} is what this machine has. Check `runtime`." in told
    assert "must be on AWS already" in told
    assert "must be on AWS already" not in checkout.ok("init", "--offline", "--force", "--role", checkout.role).out
    checkout.write("pyproject.toml", '[project]\nrequires-python = ">=3.12"\n')
    assert "this machine has" not in checkout.ok("init", "--offline", "--force").out


def test_of_lambroll_it_tells_a_name_that_cannot_be_from_a_value_that_is_not_known(checkout: Shop) -> None:
    variables = {"B": "2", "TOKEN": "{{ must_env `TOKEN` }}"}
    said = {"FunctionName": checkout.name, "Handler": "index.handler", "Role": checkout.role}
    said |= {"Runtime": control_runtime(), "Environment": {"Variables": variables}}
    lay(checkout, {"function.json": said})

    told = checkout.ok("init", "--offline").out

    assert "variables TOKEN are not known here" in told
    assert "variables B cannot be called so" in told
    assert "`pointsman --local deploy --approve` rehearses it" in told


# Container images


def by_image(shop: Shop, tag: str = "live") -> str:
    """A function that another tool made of that image, with a version; which one."""
    push(shop, "hello", tag)
    client = shop.aws("lambda")
    client.create_function(
        FunctionName=shop.name,
        Role=shop.role,
        PackageType="Image",
        Code={"ImageUri": f"{REGISTRY}/{shop.name}:{tag}"},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=shop.name, WaiterConfig={"Delay": 0.05})
    return str(client.publish_version(FunctionName=shop.name)["Version"])


def test_a_live_function_of_an_image_that_no_file_here_declares(checkout: Shop) -> None:
    alias(checkout, "STAGE", by_image(checkout))

    told = checkout.ok("init", "--function-name", checkout.name).out

    assert f"function {checkout.name} (a container image), STAGE → 1" in told
    assert f'image = "{REGISTRY}/{checkout.name}:live"' in (checkout.folder / "pointsman.toml").read_text()
    assert "nothing to do: STAGE serves exactly this" in checkout.ok("plan").out


def test_terraforms_function_of_an_image_is_left_to_who_runs_it_and_its_alias_taken(checkout: Shop) -> None:
    lay(
        checkout,
        {
            "terraform/main.tf": f"""\
                resource "aws_lambda_function" "greeting" {{
                  function_name = "{checkout.name}"
                  package_type  = "Image"
                  image_uri     = "{REGISTRY}/{checkout.name}:live"
                  role          = aws_iam_role.greeting.arn
                }}
                """
        },
    )
    alias(checkout, "STAGE", by_image(checkout))

    checkout.ok("init")

    assert "nothing to do: STAGE serves exactly this" in checkout.ok("plan").out


@pytest.mark.parametrize("said", ["Metadata", "parameter"])
def test_a_stacks_function_of_an_image_is_found_in_sync(checkout: Shop, said: str) -> None:
    """As `sam deploy` sends it, with the image's address in ImageUri's place; or by a parameter of its own."""
    push(checkout, "hello")
    uri = f"{REGISTRY}/{checkout.name}:live"
    function = SAM.replace("CodeUri: hello/", "PackageType: Image").replace("ROLE", checkout.role)
    function = "\n".join(line for line in function.splitlines() if not re.search("Handler|Runtime", line)) + "\n"
    parameters = []
    if said == "parameter":
        function = "Parameters: {Picture: {Type: String}}\n" + function + "      ImageUri: !Ref Picture\n"
        parameters = [{"ParameterKey": "Picture", "ParameterValue": uri}]
        sent, given = function, f'parameter_overrides = "Picture={uri}"\n'
    else:
        sent, given = function + f"      ImageUri: {uri}\n", ""
        function += "    Metadata: {Dockerfile: Dockerfile}\n"
        sent += "    Metadata: {Dockerfile: Dockerfile}\n"
    samconfig = f'version = 0.1\n[default.deploy.parameters]\nstack_name = "{checkout.name}"\nregion = "eu-west-1"\n'
    lay(checkout, {"template.yaml": function, "samconfig.toml": samconfig + given})
    stacks = checkout.aws("cloudformation")
    capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    stacks.create_stack(StackName=checkout.name, TemplateBody=sent, Capabilities=capabilities, Parameters=parameters)
    stacks.get_waiter("stack_create_complete").wait(StackName=checkout.name, WaiterConfig={"Delay": 0.2})
    found = stacks.describe_stack_resource(StackName=checkout.name, LogicalResourceId="Hello")
    name = found["StackResourceDetail"]["PhysicalResourceId"]
    checkout.aws("lambda").publish_version(FunctionName=name)
    checkout.aws("lambda").create_alias(FunctionName=name, Name="STAGE", FunctionVersion="1")

    told = checkout.ok("init").out

    assert f"function {name} (a container image), STAGE → 1" in told
    assert f'image = "{uri}"' in (checkout.folder / "pointsman.toml").read_text()
    assert "nothing to do: STAGE serves exactly this" in checkout.ok("plan").out
