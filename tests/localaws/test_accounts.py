"""Accounts and regions are apart; whoever assumes a role is in its account, and stays so over restarts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pointsman.localaws import control
from pointsman.localaws.accounts import Caller, Callers, KeyRefused
from pointsman.localaws.lambda_.operations import OPERATIONS
from tests.localaws.conftest import TRUST, Client, client, make_function, package

HANDLER = "def handler(event, context): return context.invoked_function_arn"
OTHER = "210987654321"


def keys(given: dict[str, Any]) -> dict[str, str]:
    return {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }


def assume(running: control.Running, account: str = OTHER, session: str = "tester") -> dict[str, str]:
    arn = f"arn:aws:iam::{account}:role/deployer"
    return keys(client(running, "sts").assume_role(RoleArn=arn, RoleSessionName=session)["Credentials"])


def function_in(running: control.Running, given: dict[str, str], name: str, **more: Any) -> str:
    iam, lambda_ = client(running, "iam", **given), client(running, "lambda", **given)
    role = iam.create_role(RoleName=f"{name}-role", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    code = {"Runtime": "python3.11", "Handler": "index.handler", "Code": {"ZipFile": package(HANDLER)}} | more
    made = lambda_.create_function(FunctionName=name, Role=role, **code)
    lambda_.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
    return str(made["FunctionArn"])


def test_each_account_has_its_own_of_everything(aws: control.Running, connect: Client) -> None:
    there = assume(aws)
    arn = function_in(aws, there, "theirs")
    assert arn == f"arn:aws:lambda:eu-west-1:{OTHER}:function:theirs"
    client(aws, "s3", **there).create_bucket(
        Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    template = '{"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}'
    client(aws, "cloudformation", **there).create_stack(StackName="theirs", TemplateBody=template)

    def seen(**given: str) -> tuple[bool, ...]:
        names = lambda service: client(aws, service, **given)  # noqa: E731
        return (
            "theirs" in [each["FunctionName"] for each in names("lambda").list_functions()["Functions"]],
            "theirs-role" in [each["RoleName"] for each in names("iam").list_roles()["Roles"]],
            "theirs" in [each["Name"] for each in names("s3").list_buckets()["Buckets"]],
            "theirs" in [each["StackName"] for each in names("cloudformation").describe_stacks()["Stacks"]],
        )

    assert seen(**there) == (True,) * 4
    assert seen() == (False,) * 4
    assert seen(aws_access_key_id=OTHER) == (True,) * 4  # twelve digits are the key of their account
    assert client(aws, "lambda", **there).invoke(FunctionName="theirs")["Payload"].read() == f'"{arn}"'.encode()


def test_regions_are_apart(aws: control.Running, connect: Client) -> None:
    make_function(aws, "here", HANDLER)
    far = connect("lambda", region="us-east-1")
    assert "here" not in [each["FunctionName"] for each in far.list_functions()["Functions"]]
    with pytest.raises(ClientError, match=r"Functions from 'eu-west-1' are not reachable in this region"):
        far.get_function(FunctionName=f"arn:aws:lambda:eu-west-1:{control.ACCOUNT}:function:here")


NEEDED: dict[str, dict[str, Any]] = {
    "AddPermission": {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"},
    "CreateAlias": {"Name": "a", "FunctionVersion": "1"},
    "CreateFunction": {"Role": f"arn:aws:iam::{control.ACCOUNT}:role/r", "Code": {"ZipFile": b"x"}},
    "DeleteAlias": {"Name": "a"},
    "GetAlias": {"Name": "a"},
    "PutFunctionCodeSigningConfig": {
        "CodeSigningConfigArn": f"arn:aws:lambda:eu-west-1:{control.ACCOUNT}:code-signing-config:csc-0123456789abcdef0"
    },
    "UpdateAlias": {"Name": "a"},
    "UpdateFunctionCode": {"ZipFile": b"x"},
}


def of_functions(lambda_: Any) -> dict[str, dict[str, Any]]:
    """Every operation that takes a function's name → what it asks for besides."""
    shapes = {name: lambda_.meta.service_model.operation_model(name).input_shape for name in [*OPERATIONS, "Invoke"]}
    asked = {name: shape for name, shape in shapes.items() if shape and "FunctionName" in shape.members}
    return {
        name: {member: some(shape.members[member]) for member in shape.required_members if member != "FunctionName"}
        | NEEDED.get(name, {})
        for name, shape in asked.items()
        if "EventSourceMapping" not in name  # found by their own ids; the function is only what they lead to
    }


def some(shape: Any) -> Any:
    """A value that the model lets pass; `NEEDED` has those that it cannot tell."""
    match shape.type_name:
        case "string":
            return shape.enum[0] if shape.enum else "1"
        case "integer":
            return shape.metadata.get("min", 1)
        case "list":
            return []
    return {}


def test_a_function_of_another_account_is_denied_by_every_operation(aws: control.Running) -> None:
    lambda_ = client(aws, "lambda", **assume(aws, "111122223333"))
    theirs = f"arn:aws:lambda:eu-west-1:{OTHER}:function:theirs"
    asked = of_functions(lambda_)
    assert len(asked) > 25
    for operation, given in asked.items():
        method = "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")
        with pytest.raises(ClientError) as raised:
            getattr(lambda_, method)(FunctionName=theirs, **given)
        said = raised.value.response
        assert (said["Error"]["Code"], said["ResponseMetadata"]["HTTPStatusCode"]) == (
            "AccessDeniedException",
            403,
        ), operation
        if operation == "CreateFunction":  # AWS gives no reason
            continue
        action = "InvokeFunction" if operation == "Invoke" else operation
        qualifier = f":{given['Qualifier']}" if "Qualifier" in given else ""
        assert said["Error"]["Message"] == (
            "User: arn:aws:sts::111122223333:assumed-role/deployer/tester is not authorized to perform: "
            f"lambda:{action} on resource: {theirs}{qualifier} because no resource-based policy allows the "
            f"lambda:{action} action"
        )


def test_code_may_come_from_a_bucket_of_another_account(aws: control.Running, connect: Client) -> None:
    """Bucket policies are not looked at: whatever is there can be read."""
    connect("s3").create_bucket(Bucket="shared", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    connect("s3").put_object(Bucket="shared", Key="code.zip", Body=package(HANDLER))
    there = assume(aws, "444455556666")
    function_in(aws, there, "from-there", Code={"S3Bucket": "shared", "S3Key": "code.zip"})
    assert client(aws, "lambda", **there).invoke(FunctionName="from-there")["StatusCode"] == 200


# --- who one is ---


def test_callers_are_named(aws: control.Running, connect: Client) -> None:
    def name(**given: str) -> tuple[str, str, str]:
        found = client(aws, "sts", **given).get_caller_identity()
        return found["Account"], found["Arn"], found["UserId"]

    root = f"arn:aws:iam::{control.ACCOUNT}:root"
    assert name() == (control.ACCOUNT, root, control.ACCOUNT)
    account, arn, user_id = name(**assume(aws, session="me"))
    assert (account, arn) == (OTHER, f"arn:aws:sts::{OTHER}:assumed-role/deployer/me")
    assert user_id == name(**assume(aws, session="me"))[2]  # a role that is not there has an id, and keeps it
    assert user_id.endswith(":me")

    made = client(aws, "iam", aws_access_key_id=OTHER)
    user = made.create_user(UserName="worker")["User"]
    key = made.create_access_key(UserName="worker")["AccessKey"]
    by_user = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    assert name(**by_user) == (OTHER, user["Arn"], user["UserId"])
    token = client(aws, "sts", **by_user).get_session_token()["Credentials"]
    assert name(**keys(token)) == (OTHER, user["Arn"], user["UserId"])
    federated = client(aws, "sts", **by_user).get_federation_token(Name="guest")["Credentials"]
    assert name(**keys(federated))[:2] == (OTHER, f"arn:aws:sts::{OTHER}:federated-user/guest")

    for each in (by_user["aws_access_key_id"], token["AccessKeyId"], federated["AccessKeyId"]):
        assert connect("sts").get_access_key_info(AccessKeyId=each)["Account"] == OTHER


def test_a_web_identity_gets_a_session_without_a_signature(aws: control.Running) -> None:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    sts = boto3.session.Session().client(
        "sts", endpoint_url=aws.url, region_name="eu-west-1", config=Config(signature_version=UNSIGNED)
    )
    given = sts.assume_role_with_web_identity(
        RoleArn=f"arn:aws:iam::{OTHER}:role/github", RoleSessionName="run", WebIdentityToken="x" * 20
    )
    found = client(aws, "sts", **keys(given["Credentials"])).get_caller_identity()
    assert found["Arn"] == given["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{OTHER}:assumed-role/github/run"
    assert found["UserId"] == given["AssumedRoleUser"]["AssumedRoleId"]


@pytest.mark.parametrize("service", ["lambda", "sts", "s3", "ssm"])
@pytest.mark.parametrize("wrong", [{"aws_access_key_id": "ASIAQQQQQQQQQQQQQQQQ"}, {"aws_session_token": "of-another"}])
def test_a_session_of_elsewhere_is_refused(aws: control.Running, service: str, wrong: dict[str, str]) -> None:
    ask = {
        "lambda": lambda made: made.list_functions(),
        "sts": lambda made: made.get_caller_identity(),
        "s3": lambda made: made.list_buckets(),
        "ssm": lambda made: made.describe_parameters(),
    }[service]
    good = assume(aws)
    ask(client(aws, service, **good))
    with pytest.raises(ClientError) as raised:
        ask(client(aws, service, **good | wrong))
    code = {"sts": "InvalidClientTokenId", "s3": "InvalidToken"}.get(service, "UnrecognizedClientException")
    assert raised.value.response["Error"]["Code"] == code


def test_a_session_expires() -> None:
    from moto.sts.models import sts_backends

    clock = [datetime(2030, 1, 1)]
    callers = Callers(lambda: clock[0])
    given = sts_backends[OTHER]["aws"].assume_role(
        region_name="eu-west-1", role_session_name="s", role_arn=f"arn:aws:iam::{OTHER}:role/r",
        policy="", duration=900, external_id="",
    )  # fmt: skip
    clock[0] = given.expiration - timedelta(seconds=1)
    who = Caller(OTHER, given.arn)
    assert callers.at_once(given.access_key_id, given.session_token) is None
    assert callers.find(given.access_key_id, given.session_token) == who
    assert callers.at_once(given.access_key_id, given.session_token) == who
    clock[0] += timedelta(seconds=1)
    with pytest.raises(KeyRefused, match="expired"):
        callers.at_once(given.access_key_id, given.session_token)


# --- over restarts ---


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "aws"
    control.down(tmp_path / "aws")


def test_who_got_a_key_goes_on_after_a_kill_at_once(directory: Path) -> None:
    running = control.up(directory, settle_s=0)
    client(running, "s3").create_bucket(Bucket="shared", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    first = assume(running)
    token = keys(client(running, "sts", **first).get_session_token()["Credentials"])
    os.kill(running.pid, signal.SIGKILL)  # at once: nothing is written in the background meanwhile

    again = control.up(directory, settle_s=0)

    for given in (first, token):
        assert client(again, "sts", **given).get_caller_identity()["Account"] == OTHER
    assert client(again, "s3", **first).head_bucket(Bucket="shared")  # names of buckets are everybody's
    with pytest.raises(ClientError, match="BucketAlreadyExists"):
        client(again, "s3", **first).create_bucket(
            Bucket="shared", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
    control.down(directory)
    assert "Traceback" not in (directory / "server.log").read_text()


def test_no_answered_write_of_lambda_is_lost_by_a_kill(directory: Path) -> None:
    """Four clients publish and move aliases; the server is killed in the middle, twice."""
    import threading

    running = control.up(directory, settle_s=0)
    names = [f"f{number}" for number in range(4)]
    for name in names:
        make_function(running, name, HANDLER)
    told: dict[str, list[str]] = {name: [] for name in names}

    for _life in range(2):
        enough = threading.Semaphore(0)

        def write(name: str, running: control.Running = running, enough: threading.Semaphore = enough) -> None:
            lambda_ = client(running, "lambda")
            try:
                while True:
                    lambda_.update_function_configuration(FunctionName=name, Description=str(len(told[name])))
                    version = lambda_.publish_version(FunctionName=name)["Version"]
                    lambda_.create_alias(FunctionName=name, Name=f"v{version}", FunctionVersion=version)
                    told[name].append(version)
                    enough.release()
            except Exception as error:  # noqa: BLE001  (whatever botocore makes of a server that is gone)
                assert "onnect" in str(error), error

        writers = [threading.Thread(target=write, args=(name,)) for name in names]
        for writer in writers:
            writer.start()
        for _ in range(12):
            assert enough.acquire(timeout=120)
        os.kill(running.pid, signal.SIGKILL)
        for writer in writers:
            writer.join()
        running = control.up(directory, settle_s=0)
        lambda_ = client(running, "lambda")
        for name in names:
            pages = lambda_.get_paginator("list_aliases").paginate(FunctionName=name)
            found = {each["Name"]: each["FunctionVersion"] for page in pages for each in page["Aliases"]}
            assert {f"v{version}": version for version in told[name]}.items() <= found.items()
            lambda_.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})


def test_connections_stay_open_whichever_service_answers(aws: control.Running) -> None:
    connection = HTTPConnection("127.0.0.1", aws.port)
    opened = None
    for service, method, path, body in (
        ("s3", "GET", "/", b""),
        ("lambda", "GET", "/2015-03-31/functions/", b""),
        ("sts", "POST", "/", b"Action=GetCallerIdentity&Version=2011-06-15"),
        ("cloudformation", "POST", "/", b"Action=DescribeStacks&Version=2010-05-15"),
        ("s3", "GET", "/no-such-bucket", b""),
        ("iam", "POST", "/", b"Action=GetRole&RoleName=nobody&Version=2010-05-08"),
    ):
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential=1/20300101/eu-west-1/{service}/aws4_request"}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        reply.read()
        assert reply.getheader("connection", "keep-alive") == "keep-alive", service
        assert connection.sock is not None, service
        opened = opened or connection.sock.getsockname()
        assert connection.sock.getsockname() == opened
    connection.close()
