"""One process answers for Lambda and for everything else."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pointsman.localaws import control
from tests.localaws.conftest import TRUST, Client, client, make_function, package, until

ECHO = "import json\ndef handler(event, context):\n    print('saw', json.dumps(event))\n    return event\n"


@pytest.fixture(scope="module")
def echo(aws: control.Running) -> str:
    """A function whose alias `live` names version 1, which says what it saw; $LATEST fails."""
    lambda_ = client(aws, "lambda")
    arn = make_function(aws, "echo", ECHO)
    lambda_.publish_version(FunctionName="echo")
    lambda_.create_alias(FunctionName="echo", Name="live", FunctionVersion="1")
    lambda_.update_function_code(FunctionName="echo", ZipFile=package("def handler(e, c): raise ValueError('latest')"))
    lambda_.get_waiter("function_updated_v2").wait(FunctionName="echo", WaiterConfig={"Delay": 0.05})
    return f"{arn}:live"


def saw(aws: control.Running, text: str) -> Any:
    """Whether version 1 of echo logged `text`."""
    return until(
        lambda: [
            e.message for e in control.log_events(aws, "echo") if e.message.startswith("saw") and text in e.message
        ],
        f"echo sees {text}",
    )


def test_the_services_a_deployment_needs_answer(connect: Client) -> None:
    assert connect("sts").get_caller_identity()["Account"] == control.ACCOUNT

    s3 = connect("s3")
    s3.create_bucket(Bucket="things", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="things", Key="a b/ü+c", Body=b"x" * 300_000, Metadata={"built_by": "me"})
    found = s3.get_object(Bucket="things", Key="a b/ü+c")
    assert (found["Body"].read(), found["Metadata"]) == (b"x" * 300_000, {"built_by": "me"})
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="things", Key="a b/ü+c", Body=b"y", IfNoneMatch="*")

    connect("ssm").put_parameter(Name="/p", Value="v", Type="String")
    assert connect("ssm").get_parameter(Name="/p")["Parameter"]["Value"] == "v"

    queue = connect("sqs").create_queue(QueueName="q")["QueueUrl"]
    connect("sqs").send_message(QueueUrl=queue, MessageBody="hello")
    assert connect("sqs").receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "hello"


def test_an_assumed_role_works_in_its_own_account(aws: control.Running, connect: Client) -> None:
    arn = "arn:aws:iam::210987654321:role/deployer"
    given = connect("sts").assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
    keys = {"aws_access_key_id": given["AccessKeyId"], "aws_secret_access_key": given["SecretAccessKey"]}
    there = client(aws, "iam", **keys, aws_session_token=given["SessionToken"])
    made = there.create_role(RoleName="there", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    lambda_ = client(aws, "lambda", **keys, aws_session_token=given["SessionToken"])

    function = lambda_.create_function(
        FunctionName="f", Role=made, Runtime="python3.11", Handler="index.handler", Code={"ZipFile": package(ECHO)}
    )

    assert function["FunctionArn"] == "arn:aws:lambda:eu-west-1:210987654321:function:f"
    assert "f" not in [each["FunctionName"] for each in connect("lambda").list_functions()["Functions"]]
    assert client(aws, "lambda", aws_access_key_id="210987654321").get_function(FunctionName="f")


def test_a_role_that_is_not_there_is_refused(connect: Client) -> None:
    with pytest.raises(ClientError, match="cannot be assumed by Lambda") as refused:
        connect("lambda").create_function(
            FunctionName="homeless",
            Role=f"arn:aws:iam::{control.ACCOUNT}:role/nobody",
            Runtime="python3.11",
            Handler="index.handler",
            Code={"ZipFile": package(ECHO)},
        )
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"


def test_code_comes_from_the_local_s3_by_version(aws: control.Running, connect: Client) -> None:
    s3 = connect("s3")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="code", Key="f.zip", Body=package("def handler(e, c): return 1"))["VersionId"]
    s3.put_object(Bucket="code", Key="f.zip", Body=package("def handler(e, c): return 2"))

    make_function(aws, "from-s3", "", Code={"S3Bucket": "code", "S3Key": "f.zip", "S3ObjectVersion": first})

    assert connect("lambda").invoke(FunctionName="from-s3")["Payload"].read() == b"1"
    with pytest.raises(ClientError, match="S3 Error Code: NoSuchKey"):
        connect("lambda").update_function_code(FunctionName="from-s3", S3Bucket="code", S3Key="missing.zip")


def test_a_function_reaches_the_local_aws(aws: control.Running, connect: Client) -> None:
    source = """
import os, urllib.request
def handler(event, context):
    with urllib.request.urlopen(os.environ['AWS_ENDPOINT_URL'] + '/_pointsman/health') as reply:
        return reply.status
"""
    make_function(aws, "reaching", source)
    assert connect("lambda").invoke(FunctionName="reaching")["Payload"].read() == b"200"


@pytest.mark.parametrize(("name", "session"), [("whoami", "whoami"), ("w", "w@lambda_function")])
def test_a_function_is_its_role(aws: control.Running, connect: Client, name: str, session: str) -> None:
    source = """
import boto3, os
def handler(event, context):
    keys = [os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    return [boto3.client("sts").get_caller_identity()["Arn"], keys]
"""
    make_function(aws, name, source)

    ran = connect("lambda").invoke(FunctionName=name)
    arn, keys = json.loads(ran["Payload"].read())

    assert arn == f"arn:aws:sts::{control.ACCOUNT}:assumed-role/role/{session}"
    assert keys[0].startswith("ASIA")
    assert len({*keys}) == 3


def test_a_fifty_megabyte_body_arrives(connect: Client) -> None:
    """Lambda's own limit refuses it, not the server."""
    with pytest.raises(ClientError) as refused:
        connect("lambda").invoke(FunctionName="echo", Payload=b'"' + b"x" * 50_000_000 + b'"')
    assert refused.value.response["Error"]["Code"] == "RequestEntityTooLargeException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_connections_are_kept_alive(aws: control.Running) -> None:
    connection = HTTPConnection("127.0.0.1", aws.port)
    for path in ("/_pointsman/health", "/2015-03-31/functions/", "/_pointsman/nothing"):
        connection.request("GET", path)
        local = connection.sock.getsockname() if connection.sock else None
        connection.getresponse().read()
        assert connection.sock is not None
        assert connection.sock.getsockname() == local
    connection.close()


def test_nothing_is_lost_between_concurrent_writers(connect: Client) -> None:
    """Atomic counters and conditional writes are what leases and ledgers stand on."""
    table = connect("dynamodb")
    table.create_table(
        TableName="t",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
    )

    def add(_: int) -> None:
        table.update_item(
            TableName="t",
            Key={"k": {"S": "n"}},
            UpdateExpression="ADD v :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    def claim(number: int) -> bool:
        try:
            table.put_item(
                TableName="t",
                Item={"k": {"S": f"lease{number // 8}"}, "by": {"N": str(number)}},
                ConditionExpression="attribute_not_exists(k)",
            )
        except table.exceptions.ConditionalCheckFailedException:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(200)))
        won = list(pool.map(claim, range(80)))

    assert table.get_item(TableName="t", Key={"k": {"S": "n"}})["Item"]["v"] == {"N": "200"}
    assert [sum(won[lease * 8 : lease * 8 + 8]) for lease in range(10)] == [1] * 10


def test_what_is_not_served_is_said_in_words(connect: Client) -> None:
    with pytest.raises(ClientError, match="The local AWS does not do this") as refused:
        connect("codedeploy").stop_deployment(deploymentId="d-1")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    with pytest.raises(ClientError, match="The local AWS does not do this") as refused:
        connect("cloudcontrol").list_resources(TypeName="AWS::Lambda::Function")  # a service moto has nothing of
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


# --- other services reach our Lambda ---


def run_machine(connect: Client, name: str, states: dict[str, Any], given: Any = None) -> dict[str, Any]:
    machines = connect("stepfunctions")
    definition = json.dumps({"StartAt": next(iter(states)), "States": states})
    role = f"arn:aws:iam::{control.ACCOUNT}:role/role"
    machine = machines.create_state_machine(name=name, definition=definition, roleArn=role)["stateMachineArn"]
    execution = machines.start_execution(stateMachineArn=machine, input=json.dumps(given or {}))["executionArn"]

    def ended() -> Any:
        found = machines.describe_execution(executionArn=execution)
        return found if found["status"] != "RUNNING" else None

    found: dict[str, Any] = until(ended, f"{name} ends")
    return found


def test_step_functions_invokes_an_alias(connect: Client, echo: str) -> None:
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": echo, "Payload.$": "$"},
        "End": True,
    }
    ended = run_machine(connect, "invoking", {"Call": task}, {"n": 7})
    assert ended["status"] == "SUCCEEDED", ended
    reply = json.loads(ended["output"])
    assert (reply["Payload"], reply["ExecutedVersion"]) == ({"n": 7}, "1")


@pytest.mark.parametrize(
    ("definition", "code", "message"),
    [
        ('{"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}}', None, ""),
        (" ", "SCHEMA_VALIDATION_FAILED", "Definition must be a valid JSON object"),
        ("{}", "SCHEMA_VALIDATION_FAILED", "These fields are required: [States, StartAt]"),
        ("not a definition", "INVALID_JSON_DESCRIPTION", ""),
        ('{"StartAt": "A", "States": {"A": {"Type": "Other"}}}', "SCHEMA_VALIDATION_FAILED", ""),
    ],
)
def test_a_definition_is_validated_before_there_is_a_state_machine(
    connect: Client, definition: str, code: str | None, message: str
) -> None:
    """Terraform asks before it creates one. Codes and texts as recorded on AWS; what is wrong inside, moto words."""
    answer = connect("stepfunctions").validate_state_machine_definition(definition=definition)
    assert answer["result"] == ("FAIL" if code else "OK")
    assert [each["code"] for each in answer["diagnostics"]] == ([code] if code else [])
    assert not message or answer["diagnostics"][0]["message"] == message


def test_versions_of_a_state_machine_are_listed_page_by_page(connect: Client) -> None:
    """Terraform asks for them after it made one."""
    machines = connect("stepfunctions")

    def given(word: str) -> dict[str, Any]:
        states = {"A": {"Type": "Pass", "Result": word, "End": True}}
        return {"definition": json.dumps({"StartAt": "A", "States": states}), "publish": True}

    role = f"arn:aws:iam::{control.ACCOUNT}:role/role"
    arn = machines.create_state_machine(name="versions", roleArn=role, **given("a"))["stateMachineArn"]
    for word in "bc":
        machines.update_state_machine(stateMachineArn=arn, **given(word))

    first = machines.list_state_machine_versions(stateMachineArn=arn, maxResults=2)
    second = machines.list_state_machine_versions(stateMachineArn=arn, maxResults=2, nextToken=first["nextToken"])

    listed = [
        each["stateMachineVersionArn"] for each in (*first["stateMachineVersions"], *second["stateMachineVersions"])
    ]
    assert listed == [f"{arn}:{number}" for number in (3, 2, 1)]
    assert "nextToken" not in second
    with pytest.raises(ClientError, match="StateMachineDoesNotExist"):
        machines.list_state_machine_versions(stateMachineArn=f"{arn}-not")


def test_step_functions_moves_an_alias(connect: Client, echo: str) -> None:
    lambda_ = connect("lambda")
    lambda_.create_alias(FunctionName="echo", Name="moving", FunctionVersion="1")
    second = lambda_.publish_version(FunctionName="echo")["Version"]
    weights = {"AdditionalVersionWeights": {second: 0.25}}
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:lambda:updateAlias",
        "Parameters": {"FunctionName": "echo", "Name": "moving", "FunctionVersion": "1", "RoutingConfig": weights},
        "End": True,
    }
    ended = run_machine(connect, "moving", {"Move": task})
    assert ended["status"] == "SUCCEEDED", ended
    assert lambda_.get_alias(FunctionName="echo", Name="moving")["RoutingConfig"] == weights


def test_sns_reaches_an_alias(aws: control.Running, connect: Client, echo: str) -> None:
    topic = connect("sns").create_topic(Name="topic")["TopicArn"]
    connect("sns").subscribe(TopicArn=topic, Protocol="lambda", Endpoint=echo)
    connect("sns").publish(TopicArn=topic, Message="from-sns")
    assert saw(aws, "from-sns")


def test_a_publisher_does_not_suffer_for_a_function_that_is_gone(connect: Client) -> None:
    topic = connect("sns").create_topic(Name="forlorn")["TopicArn"]
    gone = f"arn:aws:lambda:eu-west-1:{control.ACCOUNT}:function:gone"
    connect("sns").subscribe(TopicArn=topic, Protocol="lambda", Endpoint=gone)
    assert connect("sns").publish(TopicArn=topic, Message="m")["MessageId"]


def test_an_s3_notification_reaches_an_alias(aws: control.Running, connect: Client, echo: str) -> None:
    s3 = connect("s3")
    s3.create_bucket(Bucket="noticed", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    rule = {"LambdaFunctionArn": echo, "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket="noticed", NotificationConfiguration={"LambdaFunctionConfigurations": [rule]}
    )
    s3.put_object(Bucket="noticed", Key="from-s3-object", Body=b"1")
    assert saw(aws, "from-s3-object")


def test_a_bucket_that_demands_tls_is_written_to(connect: Client) -> None:
    """`sam deploy --resolve-s3` and most teams' own buckets have this statement; a plain Deny still denies."""
    s3 = connect("s3")
    s3.create_bucket(Bucket="guarded", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    arn = "arn:aws:s3:::guarded"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*"}
    tls = deny | {"Resource": [arn, f"{arn}/*"], "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    kept = deny | {"Resource": f"{arn}/kept/*"}
    for statements in (tls, [tls, kept]):
        policy = {"Version": "2012-10-17", "Statement": statements}
        s3.put_bucket_policy(Bucket="guarded", Policy=json.dumps(policy))
        s3.put_object(Bucket="guarded", Key="code.zip", Body=b"1")
        assert s3.get_object(Bucket="guarded", Key="code.zip")["Body"].read() == b"1"

    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket="guarded", Key="kept/code.zip", Body=b"1")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_functions_are_found_by_their_tags(aws: control.Running, connect: Client) -> None:
    arn = make_function(aws, "tagged", ECHO, Tags={"team": "tagged"})
    make_function(aws, "untagged", ECHO)
    tagging = connect("resourcegroupstaggingapi")

    def found(team: str) -> list[tuple[str, dict[str, str]]]:
        asked = {"ResourceTypeFilters": ["lambda:function"], "TagFilters": [{"Key": "team", "Values": [team]}]}
        listed = tagging.get_resources(**asked)["ResourceTagMappingList"]
        return [(each["ResourceARN"], {tag["Key"]: tag["Value"] for tag in each["Tags"]}) for each in listed]

    assert found("tagged") == [(arn, {"team": "tagged"})]
    tagging.tag_resources(ResourceARNList=[arn], Tags={"team": "other", "cost": "1"})
    tagging.untag_resources(ResourceARNList=[arn], TagKeys=["cost"])
    assert found("other") == [(arn, {"team": "other"})]
    assert connect("lambda").list_tags(Resource=arn)["Tags"] == {"team": "other"}
    assert connect("resourcegroupstaggingapi", region="eu-west-2").get_resources()["ResourceTagMappingList"] == []


def test_an_eventbridge_rule_reaches_an_alias(aws: control.Running, connect: Client, echo: str) -> None:
    events = connect("events")
    events.put_rule(Name="rule", EventPattern='{"source": ["here"]}')
    events.put_targets(Rule="rule", Targets=[{"Id": "1", "Arn": echo, "InputPath": "$.detail"}])
    events.put_events(Entries=[{"Source": "here", "DetailType": "d", "Detail": '{"from": "eventbridge"}'}])
    assert saw(aws, '{"from": "eventbridge"}')


def test_a_logs_subscription_reaches_an_alias(aws: control.Running, connect: Client, echo: str) -> None:
    logs = connect("logs")
    logs.create_log_group(logGroupName="group")
    logs.create_log_stream(logGroupName="group", logStreamName="stream")
    logs.put_subscription_filter(logGroupName="group", filterName="all", filterPattern="", destinationArn=echo)
    logs.put_log_events(
        logGroupName="group", logStreamName="stream", logEvents=[{"timestamp": 1_795_000_000_000, "message": "a line"}]
    )
    found = json.loads(saw(aws, "awslogs")[0].removeprefix("saw "))
    data = json.loads(gzip.decompress(base64.b64decode(found["awslogs"]["data"])))
    assert data["logEvents"][0]["message"] == "a line"


def test_secrets_manager_rotates_by_an_alias(aws: control.Running, connect: Client, echo: str) -> None:
    secrets = connect("secretsmanager")
    secrets.create_secret(Name="s", SecretString="1")
    secrets.rotate_secret(SecretId="s", RotationLambdaARN=echo, RotationRules={"AutomaticallyAfterDays": 1})
    assert saw(aws, "finishSecret")


# --- logs ---


def test_a_functions_log_is_in_cloudwatch_logs(aws: control.Running, connect: Client, echo: str) -> None:
    connect("lambda").invoke(FunctionName=echo, Payload=b'"into the log"')
    assert saw(aws, "into the log")
    found = connect("logs").filter_log_events(logGroupName="/aws/lambda/echo")["events"]
    messages = [event["message"] for event in found]
    assert 'saw "into the log"' in [message.rstrip() for message in messages]
    assert any(message.startswith("REPORT RequestId:") for message in messages)


def test_logs_are_followed(aws: control.Running, connect: Client, echo: str) -> None:
    """A follower sees what is logged after it began, once."""
    got: list[str] = []
    enough = threading.Event()

    def follow() -> None:
        for event in control.log_events(aws, "echo", follow=True):
            got.append(event.message)
            if '"second call"' in event.message:
                enough.set()
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    connect("lambda").invoke(FunctionName=echo, Payload=b'"first call"')
    saw(aws, "first call")
    connect("lambda").invoke(FunctionName=echo, Payload=b'"second call"')
    assert enough.wait(15)
    assert sum('"first call"' in message for message in got) == 1


# --- who may ask ---


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Host": "bucket.localhost"}, 200),
        ({"Origin": "https://example.com"}, 403),
        ({"Host": "example.com"}, 403),  # a name that was made to resolve to this machine
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_pages_from_elsewhere_are_not_answered(aws: control.Running, headers: dict[str, str], status: int) -> None:
    """Creating and invoking a function runs code: no web page may do it."""
    connection = HTTPConnection("127.0.0.1", aws.port)
    connection.request("GET", "/2015-03-31/functions/", headers=headers)
    assert connection.getresponse().status == status
    connection.close()
