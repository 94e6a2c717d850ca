"""SAM's and CDK's templates, taken as they are: what lies in local folders goes to S3, and their aliases are theirs."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Shop, control_runtime

_HERE = Path(__file__).parent

# After the first template that `sam init` writes (aws/aws-sam-cli-app-templates, Apache-2.0), in fewer words.
HELLO = """\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Timeout: 3
    Runtime: {runtime}
Resources:
  HelloWorldFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: hello_world/
      Handler: index.handler
      {more}
{resources}
Outputs:
  HelloWorldFunction:
    Value: !GetAtt HelloWorldFunction.Arn
{outputs}
"""
API = """Events:
        HelloWorld:
          Type: Api
          Properties: {Path: /hello, Method: get}"""
ADDRESS = """\
  HelloWorldApi:
    Value: !Sub "https://${ServerlessRestApi}.execute-api.${AWS::Region}.amazonaws.com/Prod/hello/"
"""


def sam(shop: Shop, *, more: str = "", resources: str = "", outputs: str = "") -> None:
    text = HELLO.format(runtime=control_runtime(), more=more, resources=resources, outputs=outputs)
    (shop.folder / "template.yaml").write_text(text)


def own(shop: Shop, function: str = "HelloWorldFunction", *, more: str = "", template: str = "template.yaml") -> None:
    shop.configure(
        provision=f'{{ with = "cloudformation", stack = "{shop.name}", template = "{template}",'
        f' function = "{function}"{more} }}',
        function='source = "hello_world"',
    )


def say(shop: Shop, word: str) -> None:
    shop.write(
        "hello_world/index.py",
        f"""\
        def handler(event, context):
            return {{"word": "{word}"}}
        """,
    )


@pytest.fixture
def hello(shop: Shop) -> Shop:
    """`sam init`'s function, its package in a folder, nothing deployed."""
    sam(shop)
    own(shop)
    say(shop, "hello")
    return shop


@pytest.fixture
def bucket(hello: Shop) -> str:
    name = f"packages-{uuid.uuid4().hex[:12]}"
    hello.aws("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return name


def with_bucket(shop: Shop, bucket: str) -> None:
    path = shop.folder / "pointsman.toml"
    path.write_text(path.read_text().replace('alias = "STAGE"', f'alias = "STAGE"\nbucket = "{bucket}"'))


def physical(shop: Shop, logical: str) -> str:
    resources = shop.aws("cloudformation").list_stack_resources(StackName=shop.name)["StackResourceSummaries"]
    return next(each["PhysicalResourceId"] for each in resources if each["LogicalResourceId"] == logical)


def word(shop: Shop, name: str, qualifier: str) -> Any:
    reply = shop.aws("lambda").invoke(FunctionName=name, Qualifier=qualifier, Payload=b"{}")
    return json.loads(reply["Payload"].read())["word"]


def writes(document: dict[str, Any]) -> list[str]:
    reads = ("Get", "Describe", "List", "Head")
    return [call["action"] for call in document["calls"]["list"] if not call["action"].startswith(reads)]


def test_a_sam_template_with_a_local_folder_needs_no_bucket(hello: Shop) -> None:
    hello.ok("deploy", "--build-id", "1")

    assert word(hello, physical(hello, "HelloWorldFunction"), "STAGE") == "hello"


def test_an_unchanged_sam_deploy_costs_two_reads_and_changed_code_leaves_the_stack_alone(hello: Shop) -> None:
    hello.ok("deploy", "--build-id", "1")
    assert hello.ok("deploy", "--build-id", "2", "--json").calls == (2, 0)
    say(hello, "two")

    changed = hello.ok("deploy", "--build-id", "3", "--json")

    assert writes(changed.document) == ["UpdateFunctionCode", "PublishVersion", "UpdateAlias"]
    assert word(hello, physical(hello, "HelloWorldFunction"), "STAGE") == "two"


def test_without_a_ledger_a_sam_stack_is_found_to_be_the_same(hello: Shop) -> None:
    hello.ok("deploy", "--build-id", "1")
    for each in (hello.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()

    again = hello.ok("deploy", "--build-id", "1", "--json")

    assert again.result[0]["outcome"] == "unchanged"


def test_a_plan_says_which_property_differs_and_makes_no_change_set(hello: Shop) -> None:
    hello.ok("deploy", "--build-id", "1")
    sam(hello, more="MemorySize: 512")

    shown = hello.ok("plan", "--build-id", "2")

    assert "HelloWorldFunction.MemorySize: unset → 512" in shown.out
    made = hello.aws("cloudformation").list_change_sets(StackName=hello.name)["Summaries"]
    assert made == []


def test_a_settings_change_keeps_the_code_of_the_stack(hello: Shop) -> None:
    """The template sent names the code the stack has: an update must not bring back a stand-in."""
    hello.ok("deploy", "--build-id", "1")
    sam(hello, more="MemorySize: 512")

    done = hello.ok("deploy", "--build-id", "2", "--json", "-v")

    assert "UpdateFunctionCode" not in writes(done.document)
    assert "sets $LATEST" not in done.err
    name = physical(hello, "HelloWorldFunction")
    found = hello.aws("lambda").get_function_configuration(FunctionName=name, Qualifier="STAGE")
    assert (found["MemorySize"], word(hello, name, "STAGE")) == (512, "hello")


def test_what_was_set_outside_the_stack_is_warned_of_before_the_stack_undoes_it(hello: Shop) -> None:
    hello.ok("deploy", "--build-id", "1")
    hello.aws("lambda").update_function_configuration(
        FunctionName=physical(hello, "HelloWorldFunction"), Timeout=77, Environment={"Variables": {"TOKEN": "s3cret"}}
    )
    told = "warning: Timeout is 77, set outside the stack, whose template says 3: it may be set back"
    assert told in hello.ok("plan", "--build-id", "2").err, "also while the template is as it was"
    sam(hello, more="MemorySize: 512")

    shown = hello.ok("plan", "--build-id", "2").out

    assert told in shown
    assert "environment variable TOKEN was set outside the stack" in shown
    assert "s3cret" not in shown


def test_other_functions_and_layers_of_the_template_go_to_the_bucket(hello: Shop, bucket: str) -> None:
    sam(
        hello,
        more="Layers: [!Ref Common]",
        resources="""\
  Other:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: ./other, Handler: index.handler}
  Common:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layer/}
""",
    )
    hello.write("other/index.py", "def handler(event, context):\n    return {'word': 'other'}\n")
    hello.write("layer/python/common.py", "WORD = 'common'\n")
    hello.write("hello_world/index.py", "import common\ndef handler(e, c):\n    return {'word': common.WORD}\n")

    refused = hello.run("deploy", "--build-id", "1")
    assert refused.code == 2
    assert "Set `bucket` in [environment.staging]" in refused.err

    with_bucket(hello, bucket)
    hello.ok("deploy", "--build-id", "1")

    assert word(hello, physical(hello, "Other"), "$LATEST") == "other"
    assert word(hello, physical(hello, "HelloWorldFunction"), "STAGE") == "common"
    assert hello.ok("deploy", "--build-id", "2", "--json").calls == (2, 0)


def test_a_layer_with_a_build_method_is_built_as_sam_builds_it(hello: Shop, bucket: str) -> None:
    sam(
        hello,
        more="Layers: [!Ref Common]",
        resources=f"""\
  Common:
    Type: AWS::Serverless::LayerVersion
    Properties: {{ContentUri: layer/}}
    Metadata: {{BuildMethod: {control_runtime()}}}
""",
    )
    hello.write("layer/common.py", "WORD = 'common'\n")
    hello.write("hello_world/index.py", "import common\ndef handler(e, c):\n    return {'word': common.WORD}\n")
    with_bucket(hello, bucket)

    hello.ok("deploy", "--build-id", "1")

    assert word(hello, physical(hello, "HelloWorldFunction"), "STAGE") == "common"


def test_a_state_machines_definition_goes_to_the_bucket(hello: Shop, bucket: str) -> None:
    sam(
        hello,
        resources="""\
  Steps:
    Type: AWS::Serverless::StateMachine
    Properties:
      DefinitionUri: steps.asl.json
      DefinitionSubstitutions: {Function: !GetAtt HelloWorldFunction.Arn}
      Policies: [{LambdaInvokePolicy: {FunctionName: !Ref HelloWorldFunction}}]
""",
    )
    steps = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "${Function}", "End": True}}}
    hello.write("steps.asl.json", json.dumps(steps))
    with_bucket(hello, bucket)
    assert "add AWS::Serverless::StateMachine Steps" in hello.ok("plan", "--build-id", "1").out

    hello.ok("deploy", "--build-id", "1")

    found = hello.aws("stepfunctions").describe_state_machine(stateMachineArn=physical(hello, "Steps"))
    task = json.loads(found["definition"])["States"]["A"]["Resource"]
    assert task.endswith(f":function:{physical(hello, 'HelloWorldFunction')}")


def test_a_nested_stacks_template_and_code_go_to_the_bucket(hello: Shop, bucket: str) -> None:
    sam(
        hello,
        resources="""\
  Inner:
    Type: AWS::CloudFormation::Stack
    Properties: {TemplateURL: inner/template.yaml}
""",
    )
    hello.write("inner/code/index.py", "def handler(event, context):\n    return {'word': 'inner'}\n")
    hello.write(
        "inner/template.yaml",
        f"""\
        Resources:
          Function:
            Type: AWS::Lambda::Function
            Properties: {{Code: ./code, Handler: index.handler, Runtime: {control_runtime()}, Role: !GetAtt Role.Arn}}
          Role:
            Type: AWS::IAM::Role
            Properties:
              AssumeRolePolicyDocument:
                Version: 2012-10-17
                Statement: [{{Effect: Allow, Principal: {{Service: lambda.amazonaws.com}}, Action: sts:AssumeRole}}]
        Outputs:
          Name: {{Value: !Ref Function}}
        """,
    )
    with_bucket(hello, bucket)

    hello.ok("deploy", "--build-id", "1")

    stack = hello.aws("cloudformation").describe_stacks(StackName=physical(hello, "Inner"))["Stacks"][0]
    assert word(hello, stack["Outputs"][0]["OutputValue"], "$LATEST") == "inner"
    assert hello.ok("deploy", "--build-id", "2", "--json").calls == (2, 0)


def test_two_functions_of_one_stack_are_released_together_and_do_not_undo_each_other(hello: Shop) -> None:
    sam(
        hello,
        resources="""\
  Other:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: ./other, Handler: index.handler}
""",
    )
    hello.write("other/index.py", "def handler(event, context):\n    return {'word': 'other'}\n")
    path = hello.folder / "pointsman.toml"
    second = path.read_text().split("[environment", 1)[0].replace("function.greeting", "function.other")
    second = second.replace("hello_world", "other").replace("HelloWorldFunction", "Other")
    path.write_text(f"{second}\n{path.read_text()}")

    hello.ok("deploy", "--build-id", "1")

    assert word(hello, physical(hello, "Other"), "STAGE") == "other"
    assert word(hello, physical(hello, "HelloWorldFunction"), "STAGE") == "hello"
    again = hello.ok("deploy", "--build-id", "2", "--json")
    assert again.calls[1] == 0
    say(hello, "two")
    assert writes(hello.ok("deploy", "--build-id", "3", "--json").document) == [
        "UpdateFunctionCode",
        "PublishVersion",
        "UpdateAlias",
    ]


def test_two_functions_whose_code_the_stack_brings_are_released_together_from_the_first_deploy_on(
    hello: Shop, bucket: str
) -> None:
    sam(
        hello,
        more="AutoPublishAlias: live",
        resources="""\
  Other:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: ./other, Handler: index.handler, AutoPublishAlias: live}
""",
    )
    hello.write("other/index.py", "def handler(event, context):\n    return {'word': 'other'}\n")
    with_bucket(hello, bucket)
    path = hello.folder / "pointsman.toml"
    second = path.read_text().split("[environment", 1)[0].replace("function.greeting", "function.other")
    second = second.replace("hello_world", "other").replace("HelloWorldFunction", "Other")
    path.write_text(f"{second}\n{path.read_text()}")

    hello.ok("deploy", "--build-id", "1")

    for logical, said in (("HelloWorldFunction", "hello"), ("Other", "other")):
        name = physical(hello, logical)
        assert (word(hello, name, "live"), word(hello, name, "STAGE")) == (said, said)
    assert hello.ok("deploy", "--build-id", "2", "--json").calls[1] == 0


def test_the_templates_own_alias_moves_with_the_stack_and_an_environment_may_not_take_it(
    hello: Shop, bucket: str
) -> None:
    sam(hello, more="AutoPublishAlias: live")
    with_bucket(hello, bucket)
    hello.ok("deploy", "--build-id", "1")
    say(hello, "two")

    done = hello.ok("deploy", "--build-id", "2", "--json")

    assert "UpdateFunctionCode" not in writes(done.document)
    name = physical(hello, "HelloWorldFunction")
    assert (word(hello, name, "live"), word(hello, name, "STAGE")) == ("two", "two")
    assert hello.ok("deploy", "--build-id", "3", "--json").calls == (2, 0)

    path = hello.folder / "pointsman.toml"
    path.write_text(path.read_text().replace('"PROD"', '"live"'))
    for words in (("deploy", "--to", "production", "--build-id", "4"), ("promote", "2", "--to", "production")):
        refused = hello.run(*words)
        assert refused.code == 3
        assert f"alias live belongs to stack {hello.name}" in refused.err
        assert "AutoPublishAlias of HelloWorldFunction" in refused.err


def test_a_branch_leaves_the_templates_own_alias_where_it_is(hello: Shop, bucket: str) -> None:
    sam(hello, more="AutoPublishAlias: live")
    with_bucket(hello, bucket)
    hello.ok("deploy", "--build-id", "1")
    say(hello, "branch")

    hello.ok("deploy", "--branch", "feature/x", "--build-id", "2")

    name = physical(hello, "HelloWorldFunction")
    aliases = hello.aws("lambda").list_aliases(FunctionName=name)["Aliases"]
    served = {each["Name"]: word(hello, name, each["Name"]) for each in aliases}
    assert (served.pop("live"), served.pop("STAGE")) == ("hello", "hello")
    assert list(served.values()) == ["branch"]


def test_an_alias_of_the_template_is_moved_by_us_where_the_file_says_so(hello: Shop) -> None:
    """What calls it (an API, a queue) stays wired by the stack; code and alias go by the API, so nothing is undone."""
    sam(hello, more="AutoPublishAlias: live")
    own(hello, more=', stack_alias = "move"')
    path = hello.folder / "pointsman.toml"
    path.write_text(path.read_text().replace('"STAGE"', '"live"'))

    hello.ok("deploy", "--build-id", "1")

    name = physical(hello, "HelloWorldFunction")
    assert word(hello, name, "live") == "hello"
    sam(hello, more="AutoPublishAlias: live\n      MemorySize: 512")
    hello.ok("deploy", "--build-id", "2")
    assert word(hello, name, "live") == "hello"
    assert hello.ok("status", "--json").result[0]["aliases"][0]["drift"] in (None, "", False)


def test_a_sam_build_and_its_samconfig_are_taken_as_they_are(hello: Shop, bucket: str) -> None:
    sam(
        hello,
        more="Role: !GetAtt Role.Arn\n      Environment: {Variables: {STAGE: !Ref Stage}}",
        resources="""\
  Role:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Sub "${AWS::StackName}-role"
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]
Parameters:
  Stage: {Type: String}
""",
    )
    build = hello.folder / ".aws-sam" / "build"
    shutil.copytree(hello.folder / "hello_world", build / "HelloWorldFunction")
    text = (hello.folder / "template.yaml").read_text().replace("hello_world/", "HelloWorldFunction")
    (build / "template.yaml").write_text(text)
    hello.write(
        "samconfig.toml",
        f"""\
        version = 0.1
        [default.deploy.parameters]
        stack_name = "{hello.name}"
        s3_bucket = "{bucket}"
        capabilities = "CAPABILITY_NAMED_IAM"
        parameter_overrides = "Stage=\\"from samconfig\\""
        """,
    )
    own(hello, template=".aws-sam/build/template.yaml")

    hello.ok("deploy", "--build-id", "1")

    name = physical(hello, "HelloWorldFunction")
    found = hello.aws("lambda").get_function_configuration(FunctionName=name)
    assert found["Environment"]["Variables"] == {"STAGE": "from samconfig"}
    assert hello.aws("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_an_api_is_left_out_of_a_rehearsal_aloud(hello: Shop) -> None:
    sam(hello, more=API, outputs=ADDRESS)

    told = hello.ok("--local", "deploy", "--build-id", "1", "-v").err

    assert "the event HelloWorld of HelloWorldFunction" in told
    assert "the output HelloWorldApi" in told
    hello.ok("local", "down")


def test_capabilities_are_asked_for_by_name(hello: Shop) -> None:
    sam(
        hello,
        resources="""\
  Role:
    Type: AWS::IAM::Role
    Properties:
      RoleName: named
      AssumeRolePolicyDocument: {Version: 2012-10-17, Statement: []}
""",
    )

    refused = hello.run("deploy", "--build-id", "1")

    assert refused.code == 1
    assert "Requires capabilities : [CAPABILITY_NAMED_IAM]" in refused.err
    assert "`capabilities`" in refused.err


@pytest.fixture
def bootstrapped(shop: Shop) -> Shop:
    """What `cdk bootstrap` leaves in an account, and two synthesised stacks."""
    shutil.copytree(_HERE / "cdk.out", shop.folder / "cdk.out")
    for each in (shop.folder / "cdk.out").glob("*.template.json"):
        each.write_text(each.read_text().replace("python3.13", control_runtime()))
    say(shop, "hello")
    s3, ssm = shop.aws("s3"), shop.aws("ssm")
    name = "cdk-hnb659fds-assets-123456789012-eu-west-1"
    if name not in {each["Name"] for each in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        ssm.put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="31", Type="String")
    return shop


def test_a_cdk_stack_gets_its_assets_and_our_package(bootstrapped: Shop) -> None:
    own(bootstrapped, "GreeterA41DC22A", template="cdk.out/Greeting.template.json")

    bootstrapped.ok("deploy", "--build-id", "1")

    assert word(bootstrapped, physical(bootstrapped, "GreeterA41DC22A"), "STAGE") == "hello"
    other = bootstrapped.aws("lambda").invoke(FunctionName=physical(bootstrapped, "Other34654A52"), Payload=b"{}")
    assert json.loads(other["Payload"].read()) == "other"
    assert bootstrapped.ok("deploy", "--build-id", "2", "--json").calls == (2, 0)
    say(bootstrapped, "two")
    changed = bootstrapped.ok("deploy", "--build-id", "3", "--json")
    assert writes(changed.document) == ["UpdateFunctionCode", "PublishVersion", "UpdateAlias"]


def test_code_that_the_cdk_bundles_is_our_package_after_each_synthesis(bootstrapped: Shop) -> None:
    """Another folder each time, named in the template: as `cdk synth` leaves it."""
    shop, path = bootstrapped, "cdk.out/Greeting.template.json"
    shop.configure(
        provision=f'{{ with = "cloudformation", stack = "{shop.name}", template = "{path}",'
        ' function = "GreeterA41DC22A" }',
        function=f'artifact = "{path}#GreeterA41DC22A"',
    )
    config = shop.folder / "pointsman.toml"
    config.write_text(config.read_text().replace('build     = "python"', 'build     = "zip"'))
    shop.ok("deploy", "--build-id", "1")
    first = word(shop, physical(shop, "GreeterA41DC22A"), "STAGE")
    assert shop.ok("deploy", "--build-id", "2", "--json").calls == (2, 0)

    folder, manifest = shop.folder / "cdk.out", shop.folder / "cdk.out/Greeting.assets.json"
    text = (shop.folder / path).read_text()
    (old,) = {each for each in json.loads(manifest.read_text())["files"] if f'"S3Key": "{each}.zip"' in greeter(text)}
    new = "0" * 64
    shutil.copytree(folder / f"asset.{old}", folder / f"asset.{new}")
    code = folder / f"asset.{new}" / "index.py"
    code.write_text(code.read_text().replace(first, "synthesised"))
    (shop.folder / path).write_text(text.replace(old, new))
    manifest.write_text(manifest.read_text().replace(old, new))
    shop.ok("deploy", "--build-id", "3")

    assert word(shop, physical(shop, "GreeterA41DC22A"), "STAGE") == "synthesised"


def greeter(template: str) -> str:
    return json.dumps(json.loads(template)["Resources"]["GreeterA41DC22A"])


def test_a_cdk_stack_is_rehearsed_in_an_account_that_was_never_bootstrapped(bootstrapped: Shop) -> None:
    own(bootstrapped, "GreeterA41DC22A", template="cdk.out/Greeting.template.json")

    told = bootstrapped.ok("--local", "deploy", "--build-id", "1", "-v").err

    assert "made the bucket cdk-hnb659fds-assets-123456789012-" in told
    assert "put /cdk-bootstrap/hnb659fds/version on the local AWS, as `cdk bootstrap` does" in told
    assert bootstrapped.ok("--local", "deploy", "--build-id", "2", "--json").calls == (2, 0)
    bootstrapped.ok("local", "down")


def test_a_cdk_alias_follows_the_stack(bootstrapped: Shop) -> None:
    own(bootstrapped, "GreeterA41DC22A", template="cdk.out/Versioned.template.json")
    bootstrapped.ok("deploy", "--build-id", "1")

    name = physical(bootstrapped, "GreeterA41DC22A")

    assert (word(bootstrapped, name, "live"), word(bootstrapped, name, "STAGE")) == ("hello", "hello")
    assert bootstrapped.ok("deploy", "--build-id", "2", "--json").calls == (2, 0)


def test_a_cdk_image_is_said_to_be_pushed_by_others(bootstrapped: Shop) -> None:
    own(bootstrapped, "GreeterA41DC22A", template="cdk.out/Greeting.template.json")
    manifest = bootstrapped.folder / "cdk.out" / "Greeting.assets.json"
    said = json.loads(manifest.read_text())
    image = next(iter(said["files"]))
    said["dockerImages"] = {image: {"source": {"directory": "asset"}, "destinations": {}}}
    template = bootstrapped.folder / "cdk.out" / "Greeting.template.json"
    document = json.loads(template.read_text())
    document["Metadata"] = {"image": image}
    template.write_text(json.dumps(document))
    manifest.write_text(json.dumps(said))

    told = bootstrapped.ok("plan", "-v").err

    assert "1 container image of cdk.out/Greeting.template.json must be in ECR already" in told
