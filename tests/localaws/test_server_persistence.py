"""A restart, and even a kill, brings everything back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws import control
from tests.localaws.conftest import TRUST, client, make_function, package, until

IAM = ["CAPABILITY_IAM"]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "aws"
    control.down(tmp_path / "aws")


def template(timeout: int) -> str:
    role = {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": json.loads(TRUST),
            "Description": f"for {timeout} s",
            "ManagedPolicyArns": ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"],
        },
    }
    function = {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "FunctionName": "f",
            "Runtime": "python3.11",
            "Handler": "index.handler",
            "Timeout": timeout,
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
            "Code": {"ZipFile": "def handler(event, context): return 'stand-in'"},
        },
    }
    queue = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "stacked", "VisibilityTimeout": timeout}}
    shown = {"Role": {"Value": {"Ref": "Role"}}}
    return json.dumps({"Resources": {"Role": role, "F": function, "Queue": queue}, "Outputs": shown})


def fill(running: control.Running) -> None:
    """Something in every service that is to be kept."""
    s3 = client(running, "s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="bucket", Key="k", Body=b"first")
    s3.put_object(Bucket="bucket", Key="k", Body=b"second" * 100_000, Metadata={"a": "b"})
    machine = {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
    made = client(running, "stepfunctions").create_state_machine(
        name="m", definition=json.dumps(machine), roleArn=f"arn:aws:iam::{control.ACCOUNT}:role/r"
    )["stateMachineArn"]
    machines = client(running, "stepfunctions")
    begun = machines.start_execution(stateMachineArn=made, name="e")["executionArn"]
    # First: what it comes to is not an answered write, and is saved with the next that is.
    until(lambda: machines.describe_execution(executionArn=begun)["status"] == "SUCCEEDED", "it ran")
    table = client(running, "dynamodb")
    table.create_table(
        TableName="t",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
    )
    table.put_item(TableName="t", Item={"k": {"S": "1"}})
    client(running, "ssm").put_parameter(Name="/p", Value="v", Type="String")
    queue = client(running, "sqs").create_queue(QueueName="q")["QueueUrl"]
    client(running, "sqs").send_message(QueueUrl=queue, MessageBody="kept")
    topic = client(running, "sns").create_topic(Name="topic")["TopicArn"]
    client(running, "sns").subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:eu-west-1:{control.ACCOUNT}:q"
    )
    client(running, "events").put_rule(Name="rule", ScheduleExpression="rate(1 day)")
    client(running, "secretsmanager").create_secret(Name="s", SecretString="hidden")
    client(running, "cloudwatch").put_metric_data(Namespace="N", MetricData=[{"MetricName": "m", "Value": 1.0}])
    client(running, "cloudformation").create_stack(StackName="stack", TemplateBody=template(3), Capabilities=IAM)
    client(running, "lambda").update_function_code(
        FunctionName="f", ZipFile=package("def handler(event, context): return 'deployed'")
    )
    client(running, "lambda").get_waiter("function_updated_v2").wait(FunctionName="f", WaiterConfig={"Delay": 0.05})
    client(running, "lambda").invoke(FunctionName="f")
    until(lambda: list(control.log_events(running, "f")), "the function's log")


def check(running: control.Running) -> None:
    s3 = client(running, "s3")
    found = s3.get_object(Bucket="bucket", Key="k")
    assert (found["Body"].read(), found["Metadata"]) == (b"second" * 100_000, {"a": "b"})
    versions = [each["VersionId"] for each in s3.list_object_versions(Bucket="bucket")["Versions"]]
    bodies = [s3.get_object(Bucket="bucket", Key="k", VersionId=version)["Body"].read() for version in versions]
    assert sorted(bodies) == [b"first", b"second" * 100_000]
    assert client(running, "dynamodb").get_item(TableName="t", Key={"k": {"S": "1"}})["Item"]
    assert client(running, "ssm").get_parameter(Name="/p")["Parameter"]["Value"] == "v"
    sqs = client(running, "sqs")
    queue = sqs.get_queue_url(QueueName="q")["QueueUrl"]
    client(running, "sns").publish(TopicArn=f"arn:aws:sns:eu-west-1:{control.ACCOUNT}:topic", Message="after")
    got = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert got[0]["Body"] == "kept"
    assert '"Message": "after"' in got[1]["Body"]
    assert client(running, "events").describe_rule(Name="rule")["ScheduleExpression"] == "rate(1 day)"
    assert client(running, "secretsmanager").get_secret_value(SecretId="s")["SecretString"] == "hidden"
    assert client(running, "cloudwatch").list_metrics(Namespace="N")["Metrics"][0]["MetricName"] == "m"
    assert client(running, "lambda").invoke(FunctionName="f")["Payload"].read() == b'"deployed"'
    machines = client(running, "stepfunctions")
    machine = machines.list_state_machines()["stateMachines"][0]["stateMachineArn"]
    assert machines.list_executions(stateMachineArn=machine)["executions"][0]["status"] == "SUCCEEDED"
    again = machines.start_execution(stateMachineArn=machine, name="e2")["executionArn"]
    until(lambda: machines.describe_execution(executionArn=again)["status"] == "SUCCEEDED", "it runs again")
    assert any(event.message.startswith("REPORT") for event in control.log_events(running, "f"))


def check_the_stack_still_works(running: control.Running) -> None:
    """A stack and IAM hold the same role: what the stack changes, IAM must see."""
    cf, iam = client(running, "cloudformation"), client(running, "iam")
    stack = cf.describe_stacks(StackName="stack")["Stacks"][0]
    role = stack["Outputs"][0]["OutputValue"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"

    cf.update_stack(StackName="stack", TemplateBody=template(5), Capabilities=IAM)

    assert cf.describe_stacks(StackName="stack")["Stacks"][0]["StackStatus"] == "UPDATE_COMPLETE"
    assert client(running, "lambda").get_function_configuration(FunctionName="f")["Timeout"] == 5
    assert client(running, "lambda").invoke(FunctionName="f")["Payload"].read() == b'"deployed"'
    assert iam.get_role(RoleName=role)["Role"]["Description"] == "for 5 s"
    url = client(running, "sqs").get_queue_url(QueueName="stacked")["QueueUrl"]
    attributes = client(running, "sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "5"

    cf.delete_stack(StackName="stack")
    assert cf.describe_stacks()["Stacks"] == []
    assert role not in [each["RoleName"] for each in iam.list_roles()["Roles"]]
    assert client(running, "lambda").list_functions()["Functions"] == []


def test_a_restart_brings_everything_back(directory: Path) -> None:
    running = control.up(directory, settle_s=0.05)
    fill(running)
    control.down(directory)
    log = (directory / "server.log").read_text()
    assert "cannot be saved" not in log
    again = control.up(directory, port=running.port, settle_s=0.05)
    check(again)
    check_the_stack_still_works(again)
    control.down(directory)
    assert "Traceback" not in (directory / "server.log").read_text()


def test_keys_and_certificates_are_the_same_after_a_restart(directory: Path) -> None:
    running = control.up(directory)
    kms = client(running, "kms")
    secret, signer = (
        kms.create_key(**given)["KeyMetadata"]["KeyId"]
        for given in ({}, {"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"})
    )
    kms.create_alias(AliasName="alias/code", TargetKeyId=secret)
    sealed = kms.encrypt(KeyId="alias/code", Plaintext=b"open")["CiphertextBlob"]
    with_algorithm = {"KeyId": signer, "Message": b"said", "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = kms.sign(**with_algorithm)["Signature"]
    certificate = client(running, "acm").request_certificate(DomainName="a.example.com")["CertificateArn"]
    before = client(running, "acm").describe_certificate(CertificateArn=certificate)["Certificate"]["Serial"]
    control.down(directory)
    assert "cannot be saved" not in (directory / "server.log").read_text()

    again = control.up(directory)
    kms = client(again, "kms")
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"open"
    assert kms.verify(**with_algorithm, Signature=signature)["SignatureValid"]
    assert client(again, "acm").describe_certificate(CertificateArn=certificate)["Certificate"]["Serial"] == before


def health(running: control.Running) -> dict[str, Any]:
    import urllib.request

    with urllib.request.urlopen(f"{running.url}/_pointsman/health") as reply:
        found: dict[str, Any] = json.loads(reply.read())
    return found


def test_a_kill_loses_nothing_that_is_a_moment_old(directory: Path) -> None:
    running = control.up(directory, settle_s=0.05)
    fill(running)
    until(lambda: not health(running)["unsaved"], "it is saved by itself")
    os.kill(running.pid, signal.SIGKILL)
    again = control.up(directory, settle_s=0.05)
    check(again)
    check_the_stack_still_works(again)


def test_state_of_another_moto_is_put_aside_and_said(directory: Path) -> None:
    """All of it, so that the moto that wrote it can have it back; and what functions logged, every moto can read."""
    running = control.up(directory, settle_s=0)
    s3, lambda_ = client(running, "s3"), client(running, "lambda")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="bucket", Key="k", Body=b"theirs")
    make_function(running, "f", "def handler(e, c): print('said before')")
    lambda_.invoke(FunctionName="f")
    control.down(directory)
    state = directory / "moto"
    readable = (state / "services.pickle").read_bytes()
    (state / "services.pickle").write_bytes(b"not a pickle")

    again = control.up(directory)
    assert client(again, "s3").list_buckets()["Buckets"] == []
    client(again, "ssm").put_parameter(Name="/p", Value="v", Type="String")
    assert "said before" in [event.message for event in control.log_events(again, "f")]
    control.down(directory)

    assert "moto starts empty" in (directory / "server.log").read_text()
    [aside] = state.glob("unreadable-*")
    assert (aside / "services.pickle").read_bytes() == b"not a pickle"
    shutil.rmtree(state / "objects")
    (aside / "objects").rename(state / "objects")
    (state / "services.pickle").write_bytes(readable)
    assert client(control.up(directory), "s3").get_object(Bucket="bucket", Key="k")["Body"].read() == b"theirs"


def test_state_is_dated_to_when_it_was_read(tmp_path: Path) -> None:
    """A log stream that is younger was made since, one that is older and not in it was deleted."""
    from pointsman.localaws.persistence import Snapshots  # imports moto

    read_at: list[float] = []

    def large() -> bytes:
        read_at.append(time.time())
        return bytes(50_000_000)

    saved = Snapshots(tmp_path, keep=large, restored=lambda _: None)
    saved.save()
    assert (tmp_path / "services.pickle").stat().st_mtime <= read_at[-1]
    saved.close()


def test_objects_that_are_gone_are_gone_from_the_disk(directory: Path) -> None:
    running = control.up(directory)
    s3 = client(running, "s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="bucket", Key="k", Body=b"x" * 10_000)
    objects = directory / "moto" / "objects"
    until(lambda: len(list(objects.iterdir())) == 1, "it is written")
    s3.delete_object(Bucket="bucket", Key="k")
    until(lambda: not list(objects.iterdir()), "it is removed")
