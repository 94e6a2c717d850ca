"""What a stack makes of Lambda: URLs, layers, provisioned concurrency, event invoke and code signing configurations."""

from __future__ import annotations

import io
import json
import sys
import urllib.request
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pointsman.localaws import control
from tests.localaws.conftest import Client, package, until
from tests.localaws.test_cloudformation import (
    IAM,
    ROLE,
    body,
    call,
    cf,
    complete,
    events,
    function,
    name,
    outputs,
    physical_id,
    stack_of,
)

__all__ = ["cf", "name"]  # fixtures

PYTHON = {
    "Runtime": "python3.11",
    "Code": {"ZipFile": "def handler(event, context):\n    return context.function_version\n"},
}
VERSION = {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "F"}}}


def alias(**more: Any) -> dict[str, Any]:
    given = {"FunctionName": {"Ref": "F"}, "Name": "live", "FunctionVersion": {"Fn::GetAtt": ["V", "Version"]}}
    return {"Type": "AWS::Lambda::Alias", "Properties": given | more}


def test_a_url_of_an_alias(cf: Any, connect: Client, name: str) -> None:
    def template(**url: Any) -> str:
        target = {"TargetFunctionArn": {"Ref": "F"}, "Qualifier": "live", "AuthType": "NONE"}
        anyone = {"FunctionName": {"Ref": "A"}, "Principal": "*"}
        resources = {
            "Role": ROLE,
            "F": function(**PYTHON),
            "V": VERSION,
            "A": alias(),
            "U": {"Type": "AWS::Lambda::Url", "DependsOn": "A", "Properties": target | url},
            "MayUrl": {
                "Type": "AWS::Lambda::Permission",
                "Properties": anyone | {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
            },
            "MayInvoke": {
                "Type": "AWS::Lambda::Permission",
                "Properties": anyone | {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": "true"},
            },
        }
        shown = {"Url": {"Value": {"Fn::GetAtt": ["U", "FunctionUrl"]}}, "Ref": {"Value": {"Ref": "U"}}}
        return body(shown, **resources)

    cf.create_stack(
        StackName=name, TemplateBody=template(Cors={"AllowOrigins": ["*"], "MaxAge": "5"}), Capabilities=IAM
    )
    complete(cf, name)
    made = outputs(cf, name)
    assert made["Ref"].endswith(":live")
    with urllib.request.urlopen(made["Url"]) as answer:
        assert answer.read() == b"1"
    lambda_ = connect("lambda")
    assert lambda_.get_function_url_config(FunctionName=made["Ref"])["Cors"] == {"AllowOrigins": ["*"], "MaxAge": 5}

    cf.update_stack(StackName=name, TemplateBody=template(InvokeMode="RESPONSE_STREAM"), Capabilities=IAM)
    complete(cf, name, "UPDATE")
    assert outputs(cf, name) == made
    found = lambda_.get_function_url_config(FunctionName=made["Ref"])
    assert (found["InvokeMode"], found.get("Cors")) == ("RESPONSE_STREAM", None)
    cf.update_stack(
        StackName=name, TemplateBody=body(Role=ROLE, F=function(**PYTHON), V=VERSION, A=alias()), Capabilities=IAM
    )
    complete(cf, name, "UPDATE")
    with pytest.raises(ClientError, match="The resource you requested does not exist"):
        lambda_.get_function_url_config(FunctionName=made["Ref"])


def test_a_layer_that_changes_is_a_new_version_of_it(cf: Any, connect: Client, name: str) -> None:
    s3, lambda_ = connect("s3"), connect("lambda")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for key in ("one", "two"):
        s3.put_object(Bucket=name, Key=key, Body=package(f"SAID = '{key}'", "python/layered.py"))

    def template(key: str) -> str:
        content = {"LayerName": name, "Content": {"S3Bucket": name, "S3Key": key}, "CompatibleRuntimes": ["python3.11"]}
        given = {"LayerVersionArn": {"Ref": "L"}, "Action": "lambda:GetLayerVersion", "Principal": "*"}
        code = {"ZipFile": "import layered\ndef handler(event, context):\n    return layered.SAID\n"}
        resources = {
            "Role": ROLE,
            "L": {"Type": "AWS::Lambda::LayerVersion", "Properties": content},
            "May": {"Type": "AWS::Lambda::LayerVersionPermission", "Properties": given},
            "F": function(Runtime="python3.11", Code=code, Layers=[{"Ref": "L"}]),
        }
        return body({"Layer": {"Value": {"Fn::GetAtt": ["L", "LayerVersionArn"]}}}, **resources)

    for number, (key, verb) in enumerate((("one", "CREATE"), ("two", "UPDATE")), 1):
        work = cf.create_stack if verb == "CREATE" else cf.update_stack
        work(StackName=name, TemplateBody=template(key), Capabilities=IAM)
        complete(cf, name, verb)
        assert outputs(cf, name)["Layer"].endswith(f":layer:{name}:{number}")
        assert call(connect, physical_id(cf, name, "F")) == key
        statements = json.loads(lambda_.get_layer_version_policy(LayerName=name, VersionNumber=number)["Policy"])
        assert [each["Action"] for each in statements["Statement"]] == ["lambda:GetLayerVersion"]
    assert [each["Version"] for each in lambda_.list_layer_versions(LayerName=name)["LayerVersions"]] == [2]


def test_provisioned_concurrency_comes_with_a_version_or_an_alias_and_goes(cf: Any, connect: Client, name: str) -> None:
    lambda_ = connect("lambda")
    provisioned = {"ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": "1"}}

    def requested(qualifier: str) -> int | None:
        try:
            found = lambda_.get_provisioned_concurrency_config(
                FunctionName=physical_id(cf, name, "F"), Qualifier=qualifier
            )
        except lambda_.exceptions.ProvisionedConcurrencyConfigNotFoundException:
            return None
        assert found["Status"] == "READY"
        number: int = found["RequestedProvisionedConcurrentExecutions"]
        return number

    version = {"Type": VERSION["Type"], "Properties": VERSION["Properties"] | provisioned}  # type: ignore[operator]
    cf.create_stack(StackName=name, TemplateBody=body(Role=ROLE, F=function(**PYTHON), V=version), Capabilities=IAM)
    complete(cf, name)
    assert requested("1") == 1

    changed = function(**PYTHON, Timeout=9)
    wanted: list[tuple[dict[str, Any], int | None]] = [(provisioned, 1), ({}, None)]
    for more, number in wanted:
        template = body(
            Role=ROLE, F=changed, W=VERSION, A=alias(FunctionVersion={"Fn::GetAtt": ["W", "Version"]}, **more)
        )
        cf.update_stack(StackName=name, TemplateBody=template, Capabilities=IAM)
        complete(cf, name, "UPDATE")
        assert requested("live") == number


def test_event_invoke_and_code_signing_configurations(cf: Any, connect: Client, name: str) -> None:
    lambda_ = connect("lambda")
    profile = f"arn:aws:signer:eu-west-1:{control.ACCOUNT}:/signing-profiles/test"

    def template(attempts: str, description: str) -> str:
        signing = {
            "AllowedPublishers": {"SigningProfileVersionArns": [profile]},
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
            "Description": description,
        }
        target = {"OnFailure": {"Destination": {"Fn::GetAtt": ["Q", "Arn"]}}}
        invoking = {"Qualifier": "$LATEST", "MaximumRetryAttempts": attempts, "DestinationConfig": target}
        resources = {
            "Role": ROLE,
            "Q": {"Type": "AWS::SQS::Queue"},
            "F": function(**PYTHON, CodeSigningConfigArn={"Ref": "C"}),
            "C": {"Type": "AWS::Lambda::CodeSigningConfig", "Properties": signing},
            "I": {
                "Type": "AWS::Lambda::EventInvokeConfig",
                "Properties": invoking | {"FunctionName": {"Ref": "F"}},
            },
        }
        return body({"C": {"Value": {"Ref": "C"}}}, **resources)

    for attempts, verb in (("0", "CREATE"), ("2", "UPDATE")):
        work = cf.create_stack if verb == "CREATE" else cf.update_stack
        work(StackName=name, TemplateBody=template(attempts, verb), Capabilities=IAM)
        complete(cf, name, verb)
        made = physical_id(cf, name, "F")
        found = lambda_.get_function_event_invoke_config(FunctionName=made, Qualifier="$LATEST")
        assert found["MaximumRetryAttempts"] == int(attempts)
        arn = outputs(cf, name)["C"]
        config = lambda_.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"]
        assert config["Description"] == verb
        assert lambda_.get_function_code_signing_config(FunctionName=made)["CodeSigningConfigArn"] == arn
    cf.delete_stack(StackName=name)
    with pytest.raises(ClientError, match=r"can ?not be found"):
        lambda_.get_code_signing_config(CodeSigningConfigArn=arn)


def test_an_event_source_mapping(cf: Any, connect: Client, name: str) -> None:
    lambda_, sqs = connect("lambda"), connect("sqs")
    keeping = {
        "ZipFile": "import boto3, json\n"
        "def handler(event, context):\n"
        "    bodies = [record['body'] for record in event['Records']]\n"
        "    boto3.client('ssm').put_parameter(Name=bodies[0], Type='String', Value=json.dumps(bodies))\n"
    }
    table = {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
            "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
        },
    }

    def template(**mapping: Any) -> str:
        feeding = {"FunctionName": {"Ref": "F"}, "EventSourceArn": {"Fn::GetAtt": ["Q", "Arn"]}} | mapping
        streaming = {
            "FunctionName": {"Ref": "F"},
            "EventSourceArn": {"Fn::GetAtt": ["T", "StreamArn"]},
            "StartingPosition": "LATEST",
        }
        resources = {
            "Role": ROLE,
            "F": function(Runtime="python3.11", Code=keeping),
            "Q": {"Type": "AWS::SQS::Queue"},
            "T": table,
            "E": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": feeding},
            "S": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": streaming},
        }
        return body({"Arn": {"Value": {"Fn::GetAtt": ["E", "EventSourceMappingArn"]}}}, **resources)

    narrow = {"BatchSize": "5", "FilterCriteria": {"Filters": [{"Pattern": '{"body": [{"prefix": "/"}]}'}]}}
    tags = {"Tags": [{"Key": "k", "Value": "v"}]}
    cf.create_stack(StackName=name, TemplateBody=template(**narrow, **tags), Capabilities=IAM)
    complete(cf, name)
    uuid, arn = physical_id(cf, name, "E"), outputs(cf, name)["Arn"]
    assert lambda_.get_event_source_mapping(UUID=uuid)["BatchSize"] == 5
    assert lambda_.list_tags(Resource=arn)["Tags"] == {"k": "v"}
    sqs.send_message(QueueUrl=physical_id(cf, name, "Q"), MessageBody=f"/{name}")
    kept = lambda: connect("ssm").get_parameters(Names=[f"/{name}"])["Parameters"]  # noqa: E731
    (parameter,) = until(kept, "the function got the message")
    assert json.loads(parameter["Value"]) == [f"/{name}"]

    cf.update_stack(StackName=name, TemplateBody=template(Enabled="false"), Capabilities=IAM)
    complete(cf, name, "UPDATE")
    found = lambda_.get_event_source_mapping(UUID=physical_id(cf, name, "E"))
    assert (found["UUID"], found["State"], found["BatchSize"]) == (uuid, "Disabled", 10)
    assert "FilterCriteria" not in found
    assert lambda_.list_tags(Resource=arn)["Tags"] == {}
    cf.delete_stack(StackName=name)
    with pytest.raises(ClientError, match="The resource you requested does not exist"):
        lambda_.get_event_source_mapping(UUID=uuid)


def test_the_stacks_tags_are_its_functions_too(cf: Any, connect: Client, name: str) -> None:
    template = body(Role=ROLE, F=function(Tags=[{"Key": "own", "Value": "1"}, {"Key": "both", "Value": "own"}]))
    cf.create_stack(
        StackName=name,
        TemplateBody=template,
        Capabilities=IAM,
        Tags=[{"Key": "both", "Value": "s"}, {"Key": "s", "Value": "2"}],
    )
    complete(cf, name)

    def tags() -> dict[str, str]:
        found: dict[str, str] = connect("lambda").get_function(FunctionName=physical_id(cf, name, "F"))["Tags"]
        return {key: value for key, value in found.items() if not key.startswith("aws:cloudformation:")}

    assert tags() == {"own": "1", "both": "own", "s": "2"}
    cf.update_stack(StackName=name, UsePreviousTemplate=True, Capabilities=IAM, Tags=[{"Key": "t", "Value": "3"}])
    complete(cf, name, "UPDATE")
    assert tags() == {"own": "1", "both": "own", "t": "3"}


def test_code_that_is_packed_by_the_runtime_is_packed_anew_with_it(cf: Any, connect: Client, name: str) -> None:
    source = "exports.handler = async () => 'javascript'\nR = 1"
    both = {"ZipFile": "handler = lambda event, context: 'python'"}
    cf.create_stack(
        StackName=name, TemplateBody=body(Role=ROLE, F=function(Code={"ZipFile": source.partition("\n")[0]})),
        Capabilities=IAM,
    )  # fmt: skip
    complete(cf, name)
    assert call(connect, physical_id(cf, name, "F")) == "javascript"
    cf.update_stack(
        StackName=name, TemplateBody=body(Role=ROLE, F=function(Runtime="python3.11", Code=both)), Capabilities=IAM
    )
    complete(cf, name, "UPDATE")
    assert call(connect, physical_id(cf, name, "F")) == "python"


def test_a_function_that_needs_code_deploy_is_refused_before_anything_is_made(cf: Any, name: str) -> None:
    moved = alias() | {"UpdatePolicy": {"CodeDeployLambdaAliasUpdate": {"ApplicationName": "a"}}}
    with pytest.raises(ClientError, match="no CodeDeploy: A asks for it"):
        cf.create_stack(StackName=name, TemplateBody=body(Role=ROLE, F=function(), V=VERSION, A=moved))
    with pytest.raises(ClientError, match="does not exist"):
        stack_of(cf, name)


def test_a_type_that_aws_does_not_have_is_refused_before_anything_is_made(cf: Any, name: str) -> None:
    with pytest.raises(ClientError, match=r"Unrecognized resource types: \[AWS::Lambda::Funktion\]"):
        cf.create_stack(StackName=name, TemplateBody=body(F={"Type": "AWS::Lambda::Funktion"}))
    cf.create_stack(StackName=name, TemplateBody=body(D={"Type": "AWS::CodeDeploy::Application"}))
    assert "no resource type AWS::CodeDeploy::Application" in str(events(cf, name))


BOOTSTRAP = """\
#!%s
import json, os, urllib.request
api = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
while True:
    with urllib.request.urlopen(f"{api}/next") as event:
        number = event.headers["Lambda-Runtime-Aws-Request-Id"]
    names = ("BUILD", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE")
    answer = json.dumps([os.environ[name] for name in names]).encode()
    urllib.request.urlopen(f"{api}/{number}/response", answer).close()
"""


def test_a_function_on_managed_instances(cf: Any, connect: Client, name: str) -> None:
    """CloudFormation publishes it to $LATEST.PUBLISHED, which is what a call without a qualifier reaches."""
    s3, lambda_ = connect("s3"), connect("lambda")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, BOOTSTRAP % sys.executable)
    s3.put_object(Bucket=name, Key="code.zip", Body=packed.getvalue())
    subnets = [each["SubnetId"] for each in connect("ec2").describe_subnets()["Subnets"]]

    def template(build: str, environments: int, most: int) -> str:
        on = {"CapacityProviderArn": {"Fn::GetAtt": ["P", "Arn"]}}
        provider = {
            "VpcConfig": {"SubnetIds": subnets, "SecurityGroupIds": []},
            "PermissionsConfig": {"CapacityProviderOperatorRoleArn": {"Fn::GetAtt": ["Role", "Arn"]}},
            "CapacityProviderScalingConfig": {"MaxVCpuCount": most},
        }
        resources = {
            "Role": ROLE,
            "P": {"Type": "AWS::Lambda::CapacityProvider", "Properties": provider},
            "F": function(
                Runtime="provided.al2023",
                Code={"S3Bucket": name, "S3Key": "code.zip"},
                Environment={"Variables": {"BUILD": build}},
                CapacityProviderConfig={"LambdaManagedInstancesCapacityProviderConfig": on},
                FunctionScalingConfig={"MinExecutionEnvironments": 1, "MaxExecutionEnvironments": environments},
            ),
            "V": VERSION
            | {"Properties": VERSION["Properties"] | {"FunctionScalingConfig": {"MaxExecutionEnvironments": most}}},
        }
        return body({"F": {"Value": {"Ref": "F"}}, "P": {"Value": {"Ref": "P"}}}, **resources)

    def environments(version: str) -> int:
        found = lambda_.get_function_scaling_config(FunctionName=made["F"], Qualifier=version)
        return int(found["AppliedFunctionScalingConfig"]["MaxExecutionEnvironments"])

    cf.create_stack(StackName=name, TemplateBody=template("one", 5, 30), Capabilities=IAM)
    complete(cf, name)
    made = outputs(cf, name)

    assert call(connect, made["F"]) == ["one", "$LATEST.PUBLISHED", "lambda-managed-instances"]
    assert call(connect, f"{made['F']}:1") == ["one", "1", "lambda-managed-instances"]
    until(lambda: (environments("$LATEST.PUBLISHED"), environments("1")) == (5, 30), "scaling is applied")

    cf.update_stack(StackName=name, TemplateBody=template("two", 6, 40), Capabilities=IAM)
    complete(cf, name, "UPDATE")

    assert outputs(cf, name) == made
    assert call(connect, made["F"])[0] == "two"
    assert call(connect, f"{made['F']}:1")[0] == "one"
    until(lambda: (environments("$LATEST.PUBLISHED"), environments("1")) == (6, 40), "scaling is applied")
    provider = lambda_.get_capacity_provider(CapacityProviderName=made["P"])["CapacityProvider"]
    assert provider["CapacityProviderScalingConfig"] == {"MaxVCpuCount": 40, "ScalingMode": "Auto"}

    cf.delete_stack(StackName=name)
    with pytest.raises(ClientError, match="does not exist"):
        cf.describe_stacks(StackName=name)
    with pytest.raises(ClientError, match="Capacity provider not found"):
        lambda_.get_capacity_provider(CapacityProviderName=made["P"])


def test_what_an_update_added_is_deleted_after_what_needs_it(cf: Any, name: str) -> None:
    """A version of another name at each publishing is the usual way; its alias is older than it."""
    cf.create_stack(
        StackName=name, TemplateBody=body(Role=ROLE, F=function(**PYTHON), V=VERSION, A=alias()), Capabilities=IAM
    )
    complete(cf, name)
    moved = alias(FunctionVersion={"Fn::GetAtt": ["W", "Version"]})
    changed = body(Role=ROLE, F=function(**PYTHON, Description="b"), W=VERSION, A=moved)
    cf.update_stack(StackName=name, TemplateBody=changed, Capabilities=IAM)
    complete(cf, name, "UPDATE")

    made = cf.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
    cf.delete_stack(StackName=name)

    cf.get_waiter("stack_delete_complete").wait(StackName=made, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    events = cf.describe_stack_events(StackName=made)["StackEvents"]
    assert not [event for event in events if event["ResourceStatus"].endswith("FAILED")]
