"""Stacks on the local AWS: created, updated, rolled back and deleted as AWS does it."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from pointsman.localaws import control
from tests.localaws.conftest import TRUST, Client, package, until

IAM = ["CAPABILITY_IAM"]
QUICK = {"Delay": 0.1, "MaxAttempts": 50}
JS = "exports.handler = function (event, context) { context.succeed('hello ' + event.name); };"

ROLE = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "AssumeRolePolicyDocument": json.loads(TRUST),
        "ManagedPolicyArns": [
            {"Fn::Sub": "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"}
        ],
        "Policies": [{"PolicyName": "own", "PolicyDocument": {"Version": "2012-10-17", "Statement": []}}],
    },
}


def function(**properties: Any) -> dict[str, Any]:
    given = {
        "Runtime": "nodejs20.x",
        "Handler": "index.handler",
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        "Code": {"ZipFile": JS},
    }
    return {"Type": "AWS::Lambda::Function", "Properties": given | properties}


def body(outputs: dict[str, Any] | None = None, parameters: dict[str, Any] | None = None, **resources: Any) -> str:
    document = {"Resources": resources, "Outputs": outputs or {}, "Parameters": parameters or {}}
    return json.dumps({name: section for name, section in document.items() if section})


@pytest.fixture
def name() -> str:
    return f"stack-{random.randrange(10**9)}"


@pytest.fixture
def cf(connect: Client) -> Any:
    return connect("cloudformation")


def stack_of(cf: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cf.describe_stacks(StackName=name)["Stacks"][0]
    return found


def outputs(cf: Any, name: str) -> dict[str, str]:
    return {each["OutputKey"]: each["OutputValue"] for each in stack_of(cf, name).get("Outputs", [])}


def complete(cf: Any, name: str, verb: str = "CREATE") -> None:
    """The stack is; if not, why."""
    failed = [" ".join(event) for event in events(cf, name) if event[1].endswith("_FAILED")]
    assert stack_of(cf, name)["StackStatus"] == f"{verb}_COMPLETE", "\n".join(failed)


def events(cf: Any, name: str) -> list[tuple[str, str, str]]:
    found = cf.describe_stack_events(StackName=name)["StackEvents"]
    return [(e["LogicalResourceId"], e["ResourceStatus"], e.get("ResourceStatusReason", "")) for e in reversed(found)]


def physical_id(cf: Any, name: str, logical_id: str) -> str:
    found = cf.describe_stack_resource(StackName=name, LogicalResourceId=logical_id)
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def call(connect: Client, function_name: str, event: Any = None) -> Any:
    return json.loads(connect("lambda").invoke(FunctionName=function_name, Payload=json.dumps(event))["Payload"].read())


def test_a_stack_with_an_inline_node_function(cf: Any, connect: Client, name: str) -> None:
    shown = {"Name": {"Value": {"Ref": "F"}}, "Arn": {"Value": {"Fn::GetAtt": "F.Arn"}}}
    template = body(shown, Role=ROLE, F=function(Environment={"Variables": {"NUMBER": 1, "BOOLEAN": True}}))

    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=IAM, Tags=[{"Key": "team", "Value": "a"}])
    complete(cf, name)
    cf.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=QUICK)

    made = physical_id(cf, name, "F")
    assert made.startswith(f"{name}-F-")
    assert len(made) == len(f"{name}-F-") + 12
    assert outputs(cf, name) == {"Name": made, "Arn": f"arn:aws:lambda:eu-west-1:{control.ACCOUNT}:function:{made}"}
    assert call(connect, made, {"name": "you"}) == "hello you"
    variables = connect("lambda").get_function_configuration(FunctionName=made)["Environment"]["Variables"]
    assert variables == {"NUMBER": "1", "BOOLEAN": "true"}
    role = physical_id(cf, name, "Role")
    attached = connect("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert [each["PolicyName"] for each in attached] == ["AWSLambdaBasicExecutionRole"]
    assert connect("iam").get_role_policy(RoleName=role, PolicyName="own")["PolicyDocument"]["Version"] == "2012-10-17"
    assert [e[:2] for e in events(cf, name)] == [
        (name, "CREATE_IN_PROGRESS"),
        ("Role", "CREATE_IN_PROGRESS"),
        ("Role", "CREATE_IN_PROGRESS"),  # once its name is known, too
        ("Role", "CREATE_COMPLETE"),
        ("F", "CREATE_IN_PROGRESS"),
        ("F", "CREATE_IN_PROGRESS"),
        ("F", "CREATE_COMPLETE"),
        (name, "CREATE_COMPLETE"),
    ]

    cf.delete_stack(StackName=name)
    cf.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=QUICK)
    with pytest.raises(ClientError, match="Function not found"):
        connect("lambda").get_function(FunctionName=made)
    with pytest.raises(ClientError, match="NoSuchEntity"):
        connect("iam").get_role(RoleName=role)
    with pytest.raises(ClientError, match=f"Stack with id {name} does not exist"):
        cf.describe_stacks(StackName=name)


def test_python_code_inline_is_index_py(cf: Any, connect: Client, name: str) -> None:
    source = "def handler(event, context):\n    return __file__.rpartition('/')[2]\n"
    template = body(Role=ROLE, F=function(FunctionName=name, Runtime="python3.11", Code={"ZipFile": source}))
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=IAM)
    assert call(connect, name) == "index.py"


def test_every_property_reaches_the_function(cf: Any, connect: Client, name: str) -> None:
    layer = connect("lambda").publish_layer_version(LayerName="l", Content={"ZipFile": package("x = 1")})
    ec2 = connect("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    given = {
        "FunctionName": name,
        "Description": "d",
        "MemorySize": "512",
        "Timeout": 7,
        "Environment": {"Variables": {"NAME": "b"}},
        "Tags": [{"Key": "k", "Value": "v"}],
        "Architectures": ["arm64"],
        "TracingConfig": {"Mode": "Active"},
        "DeadLetterConfig": {"TargetArn": {"Fn::GetAtt": ["Queue", "Arn"]}},
        "EphemeralStorage": {"Size": 1024},
        "LoggingConfig": {"LogFormat": "JSON"},
        "VpcConfig": {"SubnetIds": [subnet], "SecurityGroupIds": [group]},
        "SnapStart": {"ApplyOn": "PublishedVersions"},
        "Layers": [layer["LayerVersionArn"]],
    }
    template = body(Role=ROLE, Queue={"Type": "AWS::SQS::Queue"}, F=function(**given))
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=IAM)
    complete(cf, name)

    found = connect("lambda").get_function(FunctionName=name)
    configuration = found["Configuration"]
    tags = found["Tags"]
    assert {key: value for key, value in tags.items() if not key.startswith("aws:")} == {"k": "v"}
    assert {key: configuration[key] for key in ("Description", "MemorySize", "Timeout", "Architectures")} == {
        "Description": "d",
        "MemorySize": 512,
        "Timeout": 7,
        "Architectures": ["arm64"],
    }
    assert configuration["TracingConfig"] == {"Mode": "Active"}
    assert configuration["DeadLetterConfig"]["TargetArn"].endswith(
        f":{physical_id(cf, name, 'Queue').rpartition('/')[2]}"
    )
    assert configuration["EphemeralStorage"] == {"Size": 1024}
    assert configuration["LoggingConfig"]["LogFormat"] == "JSON"
    assert configuration["VpcConfig"]["SubnetIds"] == [subnet]
    assert configuration["SnapStart"]["ApplyOn"] == "PublishedVersions"
    assert [layer["Arn"] for layer in configuration["Layers"]] == given["Layers"]

    # Taken out of the template: AWS's defaults again.
    cf.update_stack(StackName=name, TemplateBody=body(Role=ROLE, F=function(FunctionName=name)), Capabilities=IAM)
    complete(cf, name, "UPDATE")
    found = connect("lambda").get_function(FunctionName=name)
    configuration = found["Configuration"]
    assert (configuration["Description"], configuration["MemorySize"], configuration["Timeout"]) == ("", 128, 3)
    assert configuration["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}
    assert configuration["Architectures"] == ["x86_64"]
    assert not {"Layers", "DeadLetterConfig"} & configuration.keys()
    assert all(key.startswith("aws:cloudformation:") for key in found["Tags"])


def test_code_deployed_since_survives_an_update_of_the_stack(cf: Any, connect: Client, name: str) -> None:
    """The stack makes a place for the code; Pointsman delivers it."""
    cf.create_stack(StackName=name, TemplateBody=body(Role=ROLE, F=function(FunctionName=name)), Capabilities=IAM)
    deployed = package("exports.handler = async () => 'deployed'", "index.js")
    connect("lambda").update_function_code(FunctionName=name, ZipFile=deployed)

    changed = body(Role=ROLE, F=function(FunctionName=name, MemorySize=256))
    cf.update_stack(StackName=name, TemplateBody=changed, Capabilities=IAM)

    cf.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig=QUICK)
    assert connect("lambda").get_function_configuration(FunctionName=name)["MemorySize"] == 256
    assert call(connect, name) == "deployed"

    stand_in = {"ZipFile": "exports.handler = async () => 'stand-in'"}
    cf.update_stack(
        StackName=name, TemplateBody=body(Role=ROLE, F=function(FunctionName=name, Code=stand_in)), Capabilities=IAM
    )
    assert call(connect, name) == "stand-in"


def test_nothing_to_update_is_an_error(cf: Any, name: str) -> None:
    template = body(Role=ROLE, F=function())
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=IAM)
    with pytest.raises(ClientError) as refused:
        cf.update_stack(StackName=name, UsePreviousTemplate=True, Capabilities=IAM)
    assert refused.value.response["Error"] == {
        "Type": "Sender",
        "Code": "ValidationError",
        "Message": "No updates are to be performed.",
    }


def test_iam_must_be_acknowledged(cf: Any, name: str) -> None:
    named = {"Type": "AWS::IAM::Role", "Properties": ROLE["Properties"] | {"RoleName": name}}  # type: ignore[operator]
    for role, given, needed in ((ROLE, [], "CAPABILITY_IAM"), (named, IAM, "CAPABILITY_NAMED_IAM")):
        with pytest.raises(
            cf.exceptions.InsufficientCapabilitiesException, match=rf"Requires capabilities : \[{needed}\]"
        ):
            cf.create_stack(StackName=name, TemplateBody=body(Role=role), Capabilities=given)
    with pytest.raises(ClientError, match="does not exist"):
        cf.describe_stacks(StackName=name)


# --- change sets ---


def propose(cf: Any, name: str, template: str, **more: Any) -> dict[str, Any]:
    made = cf.create_change_set(
        StackName=name, ChangeSetName=f"c{random.randrange(10**9)}", TemplateBody=template, Capabilities=IAM, **more
    )
    found: dict[str, Any] = cf.describe_change_set(ChangeSetName=made["Id"])
    return found


def test_a_stack_by_change_set(cf: Any, connect: Client, name: str) -> None:
    found = propose(cf, name, body(Role=ROLE, F=function(FunctionName=name)), ChangeSetType="CREATE")
    assert stack_of(cf, name)["StackStatus"] == "REVIEW_IN_PROGRESS"
    assert [(c["ResourceChange"]["Action"], c["ResourceChange"]["LogicalResourceId"]) for c in found["Changes"]] == [
        ("Add", "Role"),
        ("Add", "F"),
    ]
    cf.execute_change_set(ChangeSetName=found["ChangeSetId"])
    cf.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=QUICK)
    assert cf.describe_change_set(ChangeSetName=found["ChangeSetId"])["ExecutionStatus"] == "EXECUTE_COMPLETE"

    found = propose(
        cf, name, body(Role=ROLE, F=function(FunctionName=name, Timeout=9, Tags=[{"Key": "a", "Value": "b"}]))
    )
    (change,) = found["Changes"]
    assert change["ResourceChange"]["Replacement"] == "False"
    assert change["ResourceChange"]["Scope"] == ["Properties", "Tags"]
    assert change["ResourceChange"]["PhysicalResourceId"] == name
    targets = [detail["Target"] for detail in change["ResourceChange"]["Details"]]
    assert {"Attribute": "Properties", "Name": "Timeout", "RequiresRecreation": "Never"} in targets
    assert connect("lambda").get_function_configuration(FunctionName=name)["Timeout"] == 3  # proposed, not done
    cf.execute_change_set(ChangeSetName=found["ChangeSetName"], StackName=name)
    assert connect("lambda").get_function_configuration(FunctionName=name)["Timeout"] == 9


def test_a_change_set_without_changes_fails(cf: Any, name: str) -> None:
    template = body(Role=ROLE, F=function())
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=IAM)
    found = propose(cf, name, template)
    assert (found["Status"], found["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert found["StatusReason"] == (
        "The submitted information didn't contain changes. Submit different information to create a change set."
    )
    with pytest.raises(WaiterError):
        cf.get_waiter("change_set_create_complete").wait(ChangeSetName=found["ChangeSetId"], WaiterConfig=QUICK)
    with pytest.raises(cf.exceptions.InvalidChangeSetStatusException):
        cf.execute_change_set(ChangeSetName=found["ChangeSetId"])
    cf.delete_change_set(ChangeSetName=found["ChangeSetId"])
    with pytest.raises(cf.exceptions.ChangeSetNotFoundException):
        cf.describe_change_set(ChangeSetName=found["ChangeSetId"])


def test_a_change_set_shows_replacement_and_removal(cf: Any, connect: Client, name: str) -> None:
    template = body(Role=ROLE, F=function(FunctionName=name), Queue={"Type": "AWS::SQS::Queue"})
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=IAM)
    renamed = body({"Name": {"Value": {"Ref": "F"}}}, Role=ROLE, F=function(FunctionName=f"{name}-2"))
    found = propose(cf, name, renamed)
    shown = [
        (
            c["ResourceChange"]["Action"],
            c["ResourceChange"]["LogicalResourceId"],
            c["ResourceChange"].get("Replacement"),
        )
        for c in found["Changes"]
    ]
    assert shown == [("Modify", "F", "True"), ("Remove", "Queue", None)]

    cf.execute_change_set(ChangeSetName=found["ChangeSetId"])

    assert outputs(cf, name) == {"Name": f"{name}-2"}
    assert call(connect, f"{name}-2", {"name": "you"}) == "hello you"
    with pytest.raises(ClientError, match="Function not found"):
        connect("lambda").get_function(FunctionName=name)


# --- failure ---


def test_a_failed_creation_is_rolled_back(cf: Any, connect: Client, name: str) -> None:
    template = body(Role=ROLE, F=function(FunctionName=name), G=function(Runtime="nodejs4.3", FunctionName=f"{name}-g"))
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=IAM)

    with pytest.raises(WaiterError):
        cf.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=QUICK)
    assert stack_of(cf, name)["StackStatus"] == "ROLLBACK_COMPLETE"
    ((_, _, reason),) = [event for event in events(cf, name) if event[:2] == ("G", "CREATE_FAILED")]
    assert "The runtime parameter of nodejs4.3 is no longer supported" in reason
    assert (
        name,
        "ROLLBACK_IN_PROGRESS",
        "The following resource(s) failed to create: [G]. Rollback requested by user.",
    ) in (events(cf, name))
    with pytest.raises(ClientError, match="Function not found"):
        connect("lambda").get_function(FunctionName=name)
    with pytest.raises(ClientError, match="is in ROLLBACK_COMPLETE state and can not be updated"):
        cf.update_stack(StackName=name, TemplateBody=template, Capabilities=IAM)
    cf.delete_stack(StackName=name)


def test_a_failed_update_is_rolled_back(cf: Any, connect: Client, name: str) -> None:
    before = body({"N": {"Value": {"Ref": "F"}}}, Role=ROLE, F=function(FunctionName=name, Timeout=4))
    cf.create_stack(StackName=name, TemplateBody=before, Capabilities=IAM)
    changed_role = {"Type": ROLE["Type"], "Properties": ROLE["Properties"] | {"ManagedPolicyArns": []}}  # type: ignore[operator]
    after = body(
        Role=changed_role,
        Queue={"Type": "AWS::SQS::Queue", "Properties": {"QueueName": name}},
        F=function(FunctionName=name, Timeout=5, Code={"ZipFile": "exports.handler = async () => 'new'"}),
        G=function(Role="arn:aws:iam::123456789012:role/nobody", FunctionName=f"{name}-g"),
    )
    cf.update_stack(StackName=name, TemplateBody=after, Capabilities=IAM)

    assert stack_of(cf, name)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", events(cf, name)
    assert [e[1] for e in events(cf, name) if e[0] == "G"] == ["CREATE_IN_PROGRESS", "CREATE_FAILED"]
    assert connect("lambda").get_function_configuration(FunctionName=name)["Timeout"] == 4
    assert call(connect, name, {"name": "you"}) == "hello you"
    assert name not in str(connect("sqs").list_queues().get("QueueUrls"))
    role = physical_id(cf, name, "Role")
    assert len(connect("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]) == 1
    assert outputs(cf, name) == {"N": name}
    assert json.dumps(cf.get_template(StackName=name)["TemplateBody"]) == json.dumps(json.loads(before))
    cf.update_stack(StackName=name, TemplateBody=body(Role=ROLE, F=function(FunctionName=name)), Capabilities=IAM)
    assert stack_of(cf, name)["StackStatus"] == "UPDATE_COMPLETE"


def test_a_type_nobody_serves_fails_by_name(cf: Any, name: str) -> None:
    cf.create_stack(StackName=name, TemplateBody=body(D={"Type": "AWS::CodeDeploy::DeploymentGroup"}))
    assert stack_of(cf, name)["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "no resource type AWS::CodeDeploy::DeploymentGroup" in str(events(cf, name))


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"Colour": "red"}, r"extraneous key \[Colour\] is not permitted"),
        ({"Code": {"Zip": ""}}, r"#/Code: extraneous key \[Zip\] is not permitted"),
        ({"Layers": "x"}, "#/Layers: expected type: JSONArray, found: String"),
        ({"FunctionScalingConfig": {"MinExecutionEnvironments": 1}}, r"Function not found: .*:\$LATEST\.PUBLISHED"),
        ({"Runtime": "nodejs4.3"}, "no longer supported"),
        ({"Code": {"S3Bucket": "nowhere", "S3Key": "k"}}, "S3 Error Code: NoSuchBucket"),
    ],
)
def test_a_function_that_cannot_be_made_says_why(cf: Any, name: str, properties: dict[str, Any], reason: str) -> None:
    cf.create_stack(StackName=name, TemplateBody=body(Role=ROLE, F=function(**properties)), Capabilities=IAM)
    assert stack_of(cf, name)["StackStatus"] == "ROLLBACK_COMPLETE"
    ((_, _, said),) = [event for event in events(cf, name) if event[:2] == ("F", "CREATE_FAILED")]
    assert re.search(reason, said), said


def test_an_output_that_cannot_be_had_fails_the_stack(cf: Any, name: str) -> None:
    """An output never just disappears: scripts read them."""
    shown = {"V": {"Value": {"Fn::GetAtt": ["Queue", "Colour"]}}}
    cf.create_stack(StackName=name, TemplateBody=body(shown, Queue={"Type": "AWS::SQS::Queue"}))
    assert stack_of(cf, name)["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "Resource type AWS::SQS::Queue does not support attribute {Colour}" in str(events(cf, name))


# --- versions and aliases ---


def test_version_and_alias_resources(cf: Any, connect: Client, name: str) -> None:
    def template(logical_id: str, timeout: int, weight: dict[str, Any] | None = None) -> str:
        version = {
            "Type": "AWS::Lambda::Version",
            "Properties": {"FunctionName": {"Ref": "F"}, "Description": logical_id},
        }
        routing = {} if weight is None else {"RoutingConfig": {"AdditionalVersionWeights": [weight]}}
        alias = {
            "Type": "AWS::Lambda::Alias",
            "Properties": {
                "FunctionName": {"Ref": "F"},
                "Name": "live",
                "FunctionVersion": {"Fn::GetAtt": [logical_id, "Version"]},
            }
            | routing,
        }
        kept = {"DeletionPolicy": "Retain"}
        shown = {
            "Version": {"Value": {"Fn::GetAtt": [logical_id, "Version"]}},
            "VersionArn": {"Value": {"Ref": logical_id}},
            "Alias": {"Value": {"Ref": "A"}},
        }
        return body(
            shown, Role=ROLE, F=function(FunctionName=name, Timeout=timeout), A=alias, **{logical_id: version | kept}
        )

    cf.create_stack(StackName=name, TemplateBody=template("V1", 3), Capabilities=IAM)
    arn = f"arn:aws:lambda:eu-west-1:{control.ACCOUNT}:function:{name}"
    assert outputs(cf, name) == {"Version": "1", "VersionArn": f"{arn}:1", "Alias": f"{arn}:live"}
    assert call(connect, f"{name}:live", {"name": "you"}) == "hello you"

    cf.update_stack(
        StackName=name,
        TemplateBody=template("V2", 4, {"FunctionVersion": "1", "FunctionWeight": 0.25}),
        Capabilities=IAM,
    )
    complete(cf, name, "UPDATE")
    alias = connect("lambda").get_alias(FunctionName=name, Name="live")
    assert (alias["FunctionVersion"], alias["RoutingConfig"]) == ("2", {"AdditionalVersionWeights": {"1": 0.25}})
    assert ("V1", "DELETE_SKIPPED", "") in events(cf, name)

    # Nothing changed: there is no version to publish.
    cf.update_stack(StackName=name, TemplateBody=template("V3", 4), Capabilities=IAM)
    assert stack_of(cf, name)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "A version for this Lambda function exists ( 2 )" in str(events(cf, name))

    cf.delete_stack(StackName=name)
    cf.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=QUICK)


# --- other types and functions ---


def test_resources_of_other_services(cf: Any, connect: Client, name: str) -> None:
    resources = {
        "Bucket": {"Type": "AWS::S3::Bucket"},
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
            },
        },
        "Topic": {"Type": "AWS::SNS::Topic"},
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": {"Ref": "Timeout"}}},
        "Parameter": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": f"/{name}", "Type": "String", "Value": "v"},
        },
        "Group": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": f"/{name}"}},
    }
    shown = {logical_id: {"Value": {"Ref": logical_id}} for logical_id in resources}
    template = body(shown, {"Timeout": {"Type": "Number", "Default": 45}}, **resources)
    cf.create_stack(StackName=name, TemplateBody=template)
    complete(cf, name)

    made = outputs(cf, name)
    connect("s3").head_bucket(Bucket=made["Bucket"])
    assert connect("dynamodb").describe_table(TableName=made["Table"])["Table"]["TableStatus"] == "ACTIVE"
    assert connect("sns").get_topic_attributes(TopicArn=made["Topic"])
    attributes = connect("sqs").get_queue_attributes(QueueUrl=made["Queue"], AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "45"
    assert connect("ssm").get_parameter(Name=f"/{name}")["Parameter"]["Value"] == "v"

    given = [{"ParameterKey": "Timeout", "ParameterValue": "50"}]
    cf.update_stack(StackName=name, UsePreviousTemplate=True, Parameters=given)
    attributes = connect("sqs").get_queue_attributes(QueueUrl=made["Queue"], AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "50"
    assert stack_of(cf, name)["Parameters"] == given

    cf.delete_stack(StackName=name)
    cf.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=QUICK)
    with pytest.raises(ClientError, match="404"):
        connect("s3").head_bucket(Bucket=made["Bucket"])


def test_exports_are_imported_and_guarded(cf: Any, name: str) -> None:
    exporting = body({"Q": {"Value": {"Ref": "Q"}, "Export": {"Name": name}}}, Q={"Type": "AWS::SQS::Queue"})
    cf.create_stack(StackName=name, TemplateBody=exporting)
    parameter = {
        "Type": "AWS::SSM::Parameter",
        "Properties": {"Name": f"/{name}-import", "Type": "String", "Value": {"Fn::ImportValue": name}},
    }
    cf.create_stack(StackName=f"{name}-importing", TemplateBody=body(P=parameter))
    assert stack_of(cf, f"{name}-importing")["StackStatus"] == "CREATE_COMPLETE"
    with pytest.raises(ClientError, match=f"Export {name} cannot be deleted as it is in use by {name}-importing"):
        cf.delete_stack(StackName=name)


def test_the_template_may_be_yaml_in_s3(cf: Any, connect: Client, aws: control.Running, name: str) -> None:
    text = """
AWSTemplateFormatVersion: 2010-09-09
Conditions:
  Here: !Equals [!Ref AWS::Region, eu-west-1]
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: 'sts:AssumeRole'}]
  F:
    Type: AWS::Lambda::Function
    Properties:
      FunctionName: !Sub '${AWS::StackName}-f'
      Runtime: python3.11
      Handler: index.handler
      Role: !GetAtt Role.Arn
      Timeout: !If [Here, 8, 9]
      Code:
        ZipFile: |
          def handler(event, context):
              return "from yaml"
"""
    s3 = connect("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket=name, Key="t.yaml", Body=text.encode())
    cf.create_stack(StackName=name, TemplateURL=f"{aws.url}/{name}/t.yaml", Capabilities=IAM)
    complete(cf, name)
    assert call(connect, f"{name}-f") == "from yaml"
    assert connect("lambda").get_function_configuration(FunctionName=f"{name}-f")["Timeout"] == 8
    assert cf.get_template(StackName=name)["TemplateBody"] == text


def test_a_protected_stack_stays(cf: Any, name: str) -> None:
    cf.create_stack(StackName=name, TemplateBody=body(Q={"Type": "AWS::SQS::Queue"}), EnableTerminationProtection=True)
    with pytest.raises(ClientError, match="TerminationProtection is enabled"):
        cf.delete_stack(StackName=name)
    cf.update_termination_protection(StackName=name, EnableTerminationProtection=False)
    cf.delete_stack(StackName=name)
    until(lambda: name not in [s["StackName"] for s in cf.describe_stacks()["Stacks"]], "it is gone")


def test_a_permission_is_added_to_what_it_names_and_removed_with_the_stack(cf: Any, connect: Client, name: str) -> None:
    permission = {
        "Type": "AWS::Lambda::Permission",
        "Properties": {
            "FunctionName": {"Ref": "F"},
            "Action": "lambda:InvokeFunction",
            "Principal": "events.amazonaws.com",
            "SourceAccount": {"Ref": "AWS::AccountId"},
        },
    }
    cf.create_stack(StackName=name, TemplateBody=body(Role=ROLE, F=function(), P=permission), Capabilities=IAM)
    complete(cf, name)

    made = physical_id(cf, name, "F")
    (statement,) = json.loads(connect("lambda").get_policy(FunctionName=made)["Policy"])["Statement"]
    assert statement["Sid"] == physical_id(cf, name, "P")
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"AWS:SourceAccount": control.ACCOUNT}}
    cf.update_stack(StackName=name, TemplateBody=body(Role=ROLE, F=function()), Capabilities=IAM)
    complete(cf, name, "UPDATE")
    with pytest.raises(ClientError, match="The resource you requested does not exist"):
        connect("lambda").get_policy(FunctionName=made)


def test_reserved_concurrency_is_set_changed_and_released(cf: Any, connect: Client, name: str) -> None:
    def reserved() -> int | None:
        found = connect("lambda").get_function(FunctionName=physical_id(cf, name, "F"))
        number: int | None = found.get("Concurrency", {}).get("ReservedConcurrentExecutions")
        return number

    template = body(Role=ROLE, F=function(ReservedConcurrentExecutions=3))
    cf.create_stack(StackName=name, TemplateBody=template, Capabilities=IAM)
    complete(cf, name)
    assert reserved() == 3
    for properties, number in (({"ReservedConcurrentExecutions": 5}, 5), ({}, None)):
        cf.update_stack(StackName=name, TemplateBody=body(Role=ROLE, F=function(**properties)), Capabilities=IAM)
        complete(cf, name, "UPDATE")
        assert reserved() == number


# --- stacks within stacks, and what templates are given ---


def nested(url: str, **parameters: Any) -> dict[str, Any]:
    return {"Type": "AWS::CloudFormation::Stack", "Properties": {"TemplateURL": url, "Parameters": parameters}}


def test_a_stack_within_a_stack(cf: Any, connect: Client, aws: control.Running, name: str) -> None:
    inner = body(
        {"Url": {"Value": {"Ref": "Q"}}, "Role": {"Value": {"Ref": "Role"}}},
        {"Name": {"Type": "String"}, "Ids": {"Type": "CommaDelimitedList"}},
        Q={
            "Type": "AWS::SQS::Queue",
            "Properties": {"QueueName": {"Fn::Join": ["-", [{"Ref": "Name"}, {"Fn::Select": [1, {"Ref": "Ids"}]}]]}},
        },
        Role=ROLE,
    )
    s3 = connect("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket=name, Key="inner.json", Body=inner.encode())
    # The host that `aws cloudformation package` writes.
    url = f"https://s3.eu-west-1.amazonaws.com/{name}/inner.json"
    shown = {"Url": {"Value": {"Fn::GetAtt": ["Inner", "Outputs.Url"]}}, "Id": {"Value": {"Ref": "Inner"}}}

    def template(id_: str) -> str:
        return body(shown, Inner=nested(url, Name=name, Ids=["a", id_]))

    cf.create_stack(StackName=f"{name}-unsaid", TemplateBody=template("b"))
    # The inner one's capabilities are acknowledged with the outer one's.
    assert "Requires capabilities : [CAPABILITY_IAM]" in str(events(cf, f"{name}-unsaid"))
    cf.create_stack(StackName=name, TemplateBody=template("b"), Capabilities=IAM)
    complete(cf, name)
    made = outputs(cf, name)
    assert made["Url"].endswith(f"/{name}-b")
    assert stack_of(cf, made["Id"])["ParentId"] == stack_of(cf, name)["StackId"]

    cf.update_stack(StackName=name, TemplateBody=template("c"), Capabilities=IAM)
    complete(cf, name, "UPDATE")
    assert outputs(cf, name) == {"Id": made["Id"], "Url": outputs(cf, made["Id"])["Url"]}
    assert outputs(cf, name)["Url"].endswith(f"/{name}-c")

    cf.delete_stack(StackName=name)
    assert stack_of(cf, made["Id"])["StackStatus"] == "DELETE_COMPLETE"
    assert name not in str(connect("sqs").list_queues().get("QueueUrls"))


def test_a_stack_within_a_stack_that_fails_takes_all_with_it(cf: Any, connect: Client, name: str) -> None:
    s3 = connect("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    inner = body(Q={"Type": "AWS::SQS::Queue"}, D={"Type": "AWS::CodeDeploy::Application", "DependsOn": "Q"})
    s3.put_object(Bucket=name, Key="inner.json", Body=inner.encode())
    outer = body(Inner=nested(f"https://{name}.s3.amazonaws.com/inner.json"))
    cf.create_stack(StackName=name, TemplateBody=outer)
    assert stack_of(cf, name)["StackStatus"] == "ROLLBACK_COMPLETE"
    ((_, _, reason),) = [event for event in events(cf, name) if event[:2] == ("Inner", "CREATE_FAILED")]
    assert re.search(r"Embedded stack \S+ was not successfully created: .*failed to create: \[D\]", reason)
    assert not [stack for stack in cf.describe_stacks()["Stacks"] if stack["StackName"].startswith(f"{name}-Inner")]


def test_a_parameter_may_be_read_from_ssm(cf: Any, connect: Client, name: str) -> None:
    connect("ssm").put_parameter(Name=f"/{name}", Type="String", Value="45")
    slots = {
        "Timeout": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": f"/{name}"},
        "Secret": {"Type": "String", "NoEcho": "true", "Default": "s"},
    }
    queue = {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": {"Ref": "Timeout"}}}
    cf.create_stack(StackName=name, TemplateBody=body(parameters=slots, Q=queue))
    complete(cf, name)
    found = connect("sqs").get_queue_attributes(QueueUrl=physical_id(cf, name, "Q"), AttributeNames=["All"])
    assert found["Attributes"]["VisibilityTimeout"] == "45"
    assert stack_of(cf, name)["Parameters"] == [
        {"ParameterKey": "Timeout", "ParameterValue": f"/{name}", "ResolvedValue": "45"},
        {"ParameterKey": "Secret", "ParameterValue": "****"},
    ]


def test_a_large_template_comes_by_way_of_s3(cf: Any, connect: Client, aws: control.Running, name: str) -> None:
    large = body(Q={"Type": "AWS::SQS::Queue", "Metadata": {"filler": "x" * 51_200}})
    with pytest.raises(ClientError, match="Member must have length less than or equal to 51200"):
        cf.create_stack(StackName=name, TemplateBody=large)
    s3 = connect("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket=name, Key="large.json", Body=large.encode())
    cf.create_stack(StackName=name, TemplateURL=f"{aws.url}/{name}/large.json")
    complete(cf, name)
    with pytest.raises(ClientError, match=r"TemplateURL must be a supported URL\."):
        cf.create_stack(StackName=f"{name}-2", TemplateURL="https://example.com/large.json")


def test_what_exists_must_not_refer_to_what_does_not(cf: Any, name: str) -> None:
    parameter = {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": {"Ref": "Q"}}}
    document = json.loads(body(Q={"Type": "AWS::SQS::Queue", "Condition": "Never"}, P=parameter))
    document["Conditions"] = {"Never": {"Fn::Equals": ["a", "b"]}}
    with pytest.raises(ClientError, match=r"Unresolved resource dependencies \[Q\] in the Resources block"):
        cf.create_stack(StackName=name, TemplateBody=json.dumps(document))
    document["Resources"]["P"]["Properties"]["Value"] = {"Fn::If": ["Never", {"Ref": "Q"}, "none"]}
    document["Outputs"] = {"O": {"Value": {"Ref": "Q"}}}
    with pytest.raises(ClientError, match=r": Unresolved resource dependencies \[Q\] in the Outputs block"):
        cf.create_stack(StackName=name, TemplateBody=json.dumps(document))
    document["Outputs"]["O"]["Condition"] = "Never"
    cf.create_stack(StackName=name, TemplateBody=json.dumps(document))
    complete(cf, name)


def test_who_imports_an_export_is_listed(cf: Any, name: str) -> None:
    exporting = body({"Q": {"Value": {"Ref": "Q"}, "Export": {"Name": name}}}, Q={"Type": "AWS::SQS::Queue"})
    cf.create_stack(StackName=name, TemplateBody=exporting)
    with pytest.raises(ClientError, match=f"Export '{name}' is not imported by any stack"):
        cf.list_imports(ExportName=name)
    parameter = {
        "Type": "AWS::SSM::Parameter",
        "Properties": {"Type": "String", "Value": {"Fn::ImportValue": {"Fn::Sub": name}}},
    }
    cf.create_stack(StackName=f"{name}-importing", TemplateBody=body(P=parameter))
    assert cf.list_imports(ExportName=name)["Imports"] == [f"{name}-importing"]
    cf.delete_stack(StackName=f"{name}-importing")
    cf.delete_stack(StackName=name)
    with pytest.raises(ClientError, match="does not exist"):
        stack_of(cf, name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"StackPolicyBody": "{}"}, "does not enforce stack policies"),
        (
            {"RollbackConfiguration": {"RollbackTriggers": [{"Arn": "a", "Type": "AWS::CloudWatch::Alarm"}]}},
            "no alarms",
        ),
        (
            {"ResourceTypes": ["AWS::SNS::*"]},
            r"AWS::SQS::Queue is not allowed by parameter ResourceTypes \[AWS::SNS::\*\]",
        ),
    ],
)
def test_what_would_seem_to_be_taken_care_of_is_refused(cf: Any, name: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said):
        cf.create_stack(StackName=name, TemplateBody=body(Q={"Type": "AWS::SQS::Queue"}), **given)


def test_an_import_is_refused_in_words(cf: Any, name: str) -> None:
    with pytest.raises(ClientError, match="makes no change sets of type IMPORT: it imports no resources"):
        cf.create_change_set(
            StackName=name,
            ChangeSetName="c",
            ChangeSetType="IMPORT",
            TemplateBody=body(Q={"Type": "AWS::SQS::Queue"}),
            ResourcesToImport=[
                {"ResourceType": "AWS::SQS::Queue", "LogicalResourceId": "Q", "ResourceIdentifier": {"QueueUrl": "u"}}
            ],
        )
