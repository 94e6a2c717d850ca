"""AWS::Serverless and the language extensions: what they make, and what is refused in words."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pointsman.localaws import control
from tests.localaws.conftest import Client, package
from tests.localaws.test_cloudformation import call, cf, complete, events, name, outputs, physical_id, propose, stack_of

__all__ = ["cf", "name"]  # fixtures

ALL = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
CODE = "def handler(event, context):\n    return {version!r}, context.function_version\n"


def serverless(more: str = "", *, code: str = "one", resources: str = "") -> str:
    return f"""
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {{Type: String, Default: live}}
Globals:
  Function: {{Runtime: python3.11, Timeout: 7, Environment: {{Variables: {{STAGE: !Ref Stage}}}}}}
Resources:
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      Handler: index.handler
      CodeUri: s3://BUCKET/{code}.zip
      AutoPublishAlias: !Ref Stage
{more}
{resources}
Outputs:
  Version: {{Value: !GetAtt Fn.Version.Version}}
  Alias: {{Value: !Ref Fn.Alias}}
"""


@pytest.fixture
def bucket(connect: Client, name: str) -> str:
    """A bucket with two packages, one and two."""
    s3 = connect("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for version in ("one", "two"):
        s3.put_object(Bucket=name, Key=f"{version}.zip", Body=package(CODE.format(version=version)))
    return name


def test_new_code_becomes_a_version_that_the_alias_moves_to(cf: Any, connect: Client, name: str, bucket: str) -> None:
    first = serverless().replace("BUCKET", bucket)
    cf.create_stack(StackName=name, TemplateBody=first, Capabilities=ALL)
    complete(cf, name)
    arn = outputs(cf, name)["Alias"]
    assert arn.endswith(":live")
    assert call(connect, arn) == ["one", "1"]
    function = connect("lambda").get_function(FunctionName=physical_id(cf, name, "Fn"))
    assert function["Configuration"]["Timeout"] == 7
    assert function["Configuration"]["Environment"]["Variables"] == {"STAGE": "live"}
    assert function["Tags"]["lambda:createdBy"] == "SAM"
    assert function["Tags"]["aws:cloudformation:stack-name"] == name

    cf.update_stack(StackName=name, TemplateBody=serverless(code="two").replace("BUCKET", bucket), Capabilities=ALL)
    complete(cf, name, "UPDATE")
    assert (call(connect, arn), outputs(cf, name)["Version"]) == (["two", "2"], "2")
    # The version before is retained, so that one can go back to it.
    assert call(connect, f"{arn.rpartition(':')[0]}:1") == ["one", "1"]

    original = cf.get_template(StackName=name)["TemplateBody"]
    processed = cf.get_template(StackName=name, TemplateStage="Processed")["TemplateBody"]
    assert "AWS::Serverless::Function" in original
    assert "Transform" not in processed
    assert processed["Resources"]["Fn"]["Type"] == "AWS::Lambda::Function"

    given = [{"ParameterKey": "Stage", "ParameterValue": "other"}]
    cf.update_stack(StackName=name, UsePreviousTemplate=True, Parameters=given, Capabilities=ALL)
    complete(cf, name, "UPDATE")
    assert outputs(cf, name)["Alias"].endswith(":other")


def test_events_of_what_is_served_here(cf: Any, connect: Client, name: str, bucket: str) -> None:
    more = """
      Events:
        Queue: {Type: SQS, Properties: {Queue: !GetAtt Q.Arn, BatchSize: 5}}
        Topic: {Type: SNS, Properties: {Topic: !Ref T}}
        Pattern: {Type: EventBridgeRule, Properties: {Pattern: {source: [here]}}}
"""
    resources = "  Q: {Type: AWS::SQS::Queue}\n  T: {Type: AWS::SNS::Topic}"
    template = serverless(more, resources=resources).replace("BUCKET", bucket)
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=ALL)
    complete(cf, name)
    arn = outputs(cf, name)["Alias"]
    (mapping,) = connect("lambda").list_event_source_mappings(FunctionName=arn)["EventSourceMappings"]
    assert (mapping["FunctionArn"], mapping["BatchSize"]) == (arn, 5)
    (subscription,) = connect("sns").list_subscriptions_by_topic(TopicArn=physical_id(cf, name, "T"))["Subscriptions"]
    assert subscription["Endpoint"] == arn
    (target,) = connect("events").list_targets_by_rule(Rule=physical_id(cf, name, "FnPattern"))["Targets"]
    assert target["Arn"] == arn
    policy = json.loads(connect("lambda").get_policy(FunctionName=arn)["Policy"])
    principals = {each["Principal"]["Service"] for each in policy["Statement"]}
    assert principals == {"events.amazonaws.com", "sns.amazonaws.com"}


def test_everything_that_may_hang_on_a_function(
    cf: Any, connect: Client, name: str, bucket: str, aws: control.Running
) -> None:
    more = """
      FunctionUrlConfig: {AuthType: NONE, Cors: {AllowOrigins: ['*']}}
      EventInvokeConfig: {MaximumRetryAttempts: 1, DestinationConfig: {OnFailure: {Type: SQS}}}
      DeadLetterQueue: {Type: SQS, TargetArn: !GetAtt Dead.Arn}
      Layers: [!Ref Layer]
      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 1}
      Policies: [AWSLambdaExecute, AmazonS3ReadOnlyAccess, {DynamoDBCrudPolicy: {TableName: !Ref Table}}]
"""
    resources = """
  Dead: {Type: AWS::SQS::Queue}
  Table: {Type: AWS::Serverless::SimpleTable}
  Layer:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: s3://BUCKET/two.zip, CompatibleRuntimes: [python3.11]}
"""
    template = serverless(more, resources=resources).replace("BUCKET", bucket)
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=ALL)
    complete(cf, name)

    lambda_, function = connect("lambda"), physical_id(cf, name, "Fn")
    url = lambda_.get_function_url_config(FunctionName=function, Qualifier="live")["FunctionUrl"]
    with urllib.request.urlopen(url) as answer:
        assert json.loads(answer.read()) == ["one", "1"]
    invoke = lambda_.get_function_event_invoke_config(FunctionName=function, Qualifier="live")
    assert invoke["MaximumRetryAttempts"] == 1
    assert ":sqs:" in invoke["DestinationConfig"]["OnFailure"]["Destination"]
    configuration = lambda_.get_function_configuration(FunctionName=function)
    assert ":layer:Layer:1" in configuration["Layers"][0]["Arn"]
    assert "-Dead-" in configuration["DeadLetterConfig"]["TargetArn"]
    provisioned = lambda_.get_provisioned_concurrency_config(FunctionName=function, Qualifier="live")
    assert provisioned["Status"] == "READY"
    role = {"RoleName": physical_id(cf, name, "FnRole")}
    attached = connect("iam").list_attached_role_policies(**role)["AttachedPolicies"]
    assert {"AWSLambdaExecute", "AmazonS3ReadOnlyAccess"} <= {each["PolicyName"] for each in attached}
    inline = connect("iam").list_role_policies(**role)["PolicyNames"]
    assert {"DeadLetterQueuePolicy", "FnEventInvokeConfigOnFailureSQSPolicy"} < set(inline)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("      Events: {Hello: {Type: HttpApi}}", r"no API Gateway, which the event Hello \(HttpApi\) .* of Fn asks"),
        (
            "      Events: {Hello: {Type: Api, Properties: {Path: /, Method: get}}}",
            r"no API Gateway, which the event Hello \(Api\) in the property Events of Fn asks for",
        ),
        (
            "      DeploymentPreference: {Type: AllAtOnce}",
            "no CodeDeploy, which the property DeploymentPreference of Fn",
        ),
        ("      Colour: red", r"Resource with id \[Fn\] is invalid. property Colour not defined"),
    ],
)
def test_what_is_not_here_is_refused_by_resource_and_property(
    cf: Any, name: str, bucket: str, more: str, said: str
) -> None:
    template = serverless(more).replace("BUCKET", bucket)
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=ALL)
    assert stack_of(cf, name)["StackStatus"] == "ROLLBACK_COMPLETE"
    ((_, _, reason),) = [event for event in events(cf, name) if event[1] == "ROLLBACK_IN_PROGRESS"]
    assert reason.startswith("Transform AWS::Serverless-2016-10-31 failed with: ")
    assert re.search(said, reason), reason

    proposed = f"{name}-proposed"
    made = cf.create_change_set(
        StackName=proposed, ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=template, Capabilities=ALL
    )
    found = cf.describe_change_set(ChangeSetName=made["Id"])
    assert (found["Status"], found["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert found["StatusReason"] in reason


def test_a_deployment_preference_that_is_off_is_none(cf: Any, name: str, bucket: str) -> None:
    template = serverless("      DeploymentPreference: {Enabled: false, Type: AllAtOnce}").replace("BUCKET", bucket)
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=ALL)
    complete(cf, name)


def test_expanding_must_be_acknowledged_but_for_change_sets(cf: Any, name: str, bucket: str) -> None:
    template = serverless().replace("BUCKET", bucket)
    with pytest.raises(cf.exceptions.InsufficientCapabilitiesException, match=r"\[CAPABILITY_AUTO_EXPAND\]"):
        cf.create_stack(StackName=name, TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
    given = {"StackName": name, "ChangeSetName": "c", "ChangeSetType": "CREATE", "TemplateBody": template}
    with pytest.raises(cf.exceptions.InsufficientCapabilitiesException, match=r"\[CAPABILITY_IAM\]"):
        cf.create_change_set(**given)
    made = cf.create_change_set(**given, Capabilities=["CAPABILITY_IAM"])
    added = {
        change["ResourceChange"]["ResourceType"]
        for change in cf.describe_change_set(ChangeSetName=made["Id"])["Changes"]
    }
    assert added == {"AWS::IAM::Role", "AWS::Lambda::Function", "AWS::Lambda::Version", "AWS::Lambda::Alias"}
    validated = cf.validate_template(TemplateBody=template)
    assert validated["DeclaredTransforms"] == ["AWS::Serverless-2016-10-31"]
    assert "CAPABILITY_AUTO_EXPAND" in validated["Capabilities"]


def test_an_unchanged_template_publishes_nothing(cf: Any, name: str, bucket: str) -> None:
    template = serverless().replace("BUCKET", bucket)
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=ALL)
    complete(cf, name)
    with pytest.raises(ClientError, match="No updates are to be performed"):
        cf.update_stack(StackName=name, TemplateBody=template, Capabilities=ALL)
    found = propose(cf, name, template)
    assert "didn't contain changes" in found["StatusReason"]


def test_the_language_extensions(cf: Any, connect: Client, name: str) -> None:
    template = """
Transform: AWS::LanguageExtensions
Parameters:
  Names: {Type: CommaDelimitedList, Default: "a,b"}
Mappings: {M: {k: {v: mapped}}}
Resources:
  Fn::ForEach::Queues:
    - Name
    - !Ref Names
    - Queue${Name}: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub "${AWS::StackName}-${Name}"}}
  Sizes:
    Type: AWS::SSM::Parameter
    Properties:
      Type: String
      Value: !Join ["/", [!Length [1, 2, 3], !FindInMap [M, none, v, {DefaultValue: fallback}]]]
  Document:
    Type: AWS::SSM::Parameter
    DeletionPolicy: !If [Always, Delete, Retain]
    Properties: {Type: String, Value: !ToJsonString {url: !Ref Queuea}}
Conditions: {Always: !Equals [1, "1"]}
"""
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=ALL)
    complete(cf, name)
    ssm = connect("ssm")
    assert ssm.get_parameter(Name=physical_id(cf, name, "Sizes"))["Parameter"]["Value"] == "3/fallback"
    document = json.loads(ssm.get_parameter(Name=physical_id(cf, name, "Document"))["Parameter"]["Value"])
    assert document == {"url": physical_id(cf, name, "Queuea")}
    assert physical_id(cf, name, "Queueb").endswith(f"/{name}-b")


def test_another_macro_is_refused(cf: Any, name: str) -> None:
    template = json.dumps({"Transform": "My::Macro", "Resources": {"Q": {"Type": "AWS::SQS::Queue"}}})
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=ALL)
    assert stack_of(cf, name)["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "Transform My::Macro failed with: the local CloudFormation runs" in str(events(cf, name))
