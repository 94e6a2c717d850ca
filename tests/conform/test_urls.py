"""Function URLs as recorded on AWS: their configurations, what a function is told of a request, what is answered."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import botocore.session
import pytest
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.conform.local_lambda import AWS, HERE, package, refused, settle

Create = Callable[..., str]
PATTERN = r"((?!^\d+$)^[0-9a-zA-Z-_]+$)"
FORBIDDEN = {
    "Message": "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
}
HTTP = urllib3.PoolManager(retries=False)

# Answers what `?answer=` asks for, and otherwise the event itself.
SOURCE = """\
import json
def handler(event, context):
    query = event.get("queryStringParameters", {})
    if "raise" in query:
        raise ValueError(query["raise"])
    return json.loads(query["answer"]) if "answer" in query else event
"""


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """Without what is another each time, once that it has been looked at."""
    assert config["FunctionUrl"].startswith("http")
    assert config["FunctionUrl"].endswith("/")
    return {
        key: value
        for key, value in config.items()
        if key not in ("ResponseMetadata", "FunctionUrl", "CreationTime", "LastModifiedTime")
    }


def public(client: Any, name: str, **given: Any) -> str:
    """Make a URL that everybody may ask; what it is."""
    config = client.create_function_url_config(FunctionName=name, **({"AuthType": "NONE"} | given))
    grant(client, name, "*", given.get("AuthType", "NONE"), given.get("Qualifier"))
    return str(config["FunctionUrl"])


def grant(client: Any, name: str, principal: str, auth: str, qualifier: str | None = None) -> None:
    to: dict[str, Any] = {"FunctionName": name, "Principal": principal}
    to |= {"Qualifier": qualifier} if qualifier else {}
    client.add_permission(**to, StatementId="url", Action="lambda:InvokeFunctionUrl", FunctionUrlAuthType=auth)
    client.add_permission(**to, StatementId="invoke", Action="lambda:InvokeFunction", InvokedViaFunctionUrl=True)


def ask(url: str, *, method: str = "GET", **given: Any) -> urllib3.BaseHTTPResponse:
    return HTTP.request(method, url, **given)


def returned(url: str, answer: Any) -> urllib3.BaseHTTPResponse:
    return ask(url, fields={"answer": json.dumps(answer)})


@pytest.fixture
def visited(lambda_client: Any, function: Create) -> Callable[..., str]:
    """A new function with a public URL (parameters as CreateFunctionUrlConfig's); the URL."""

    def make(**given: Any) -> str:
        name = function(Code={"ZipFile": package(**{"index.py": SOURCE})})
        return public(lambda_client, name, **given)

    return make


# --- configurations ---


def test_the_life_of_a_configuration(lambda_client: Any, function: Create) -> None:
    name = function()
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]
    base = {"FunctionArn": arn, "AuthType": "NONE"}

    made = lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE")
    assert (made["ResponseMetadata"]["HTTPStatusCode"], plain(made)) == (201, base)
    assert "LastModifiedTime" not in made
    taken = f"Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig exists"
    again = {"FunctionName": name, "AuthType": "AWS_IAM"}
    conflict = ("ResourceConflictException", 409, f"{taken} for this Lambda function")
    assert refused(lambda_client.create_function_url_config, **again) == conflict
    found = lambda_client.get_function_url_config(FunctionName=name)
    assert plain(found) == base | {"InvokeMode": "BUFFERED"}
    assert (found["FunctionUrl"], found["LastModifiedTime"]) == (made["FunctionUrl"], found["CreationTime"])
    updated = lambda_client.update_function_url_config(FunctionName=name, AuthType="AWS_IAM")
    assert plain(updated) == base | {"AuthType": "AWS_IAM"}
    assert updated["LastModifiedTime"] > updated["CreationTime"]
    mode = {"AuthType": "AWS_IAM", "InvokeMode": "RESPONSE_STREAM"}
    assert (
        plain(lambda_client.update_function_url_config(FunctionName=name, InvokeMode=mode["InvokeMode"])) == base | mode
    )
    assert plain(lambda_client.update_function_url_config(FunctionName=name)) == base | mode
    cors = {"AllowOrigins": ["*"], "MaxAge": 5}
    assert plain(lambda_client.update_function_url_config(FunctionName=name, Cors=cors)) == base | mode | {"Cors": cors}
    deleted = lambda_client.delete_function_url_config(FunctionName=name)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    none = ("ResourceNotFoundException", 404, "The resource you requested does not exist.")
    assert refused(lambda_client.get_function_url_config, FunctionName=name) == none
    assert refused(lambda_client.delete_function_url_config, FunctionName=name) == none


def test_what_is_refused(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    lost = ("ResourceNotFoundException", 404, "Function does not exist")
    none = ("ResourceNotFoundException", 404, "The resource you requested does not exist.")
    mismatch = "The derived qualifier from the function name does not match the specified qualifier."
    for operation, missing, more in (
        (lambda_client.create_function_url_config, lost, {"AuthType": "NONE"}),
        (lambda_client.get_function_url_config, none, {}),
        (lambda_client.update_function_url_config, lost, {"AuthType": "AWS_IAM"}),
        (lambda_client.delete_function_url_config, none, {}),
    ):
        assert refused(operation, FunctionName=f"absent-{uuid4().hex}", **more) == missing
        assert refused(operation, FunctionName=name, Qualifier="absent", **more) == missing
        if operation != lambda_client.create_function_url_config:
            assert refused(operation, FunctionName=name, **more) == none
        for qualifier in ("1", "2", "$LATEST"):
            found = refused(operation, FunctionName=name, Qualifier=qualifier, **more)
            wrong = f"Value '{qualifier}' at 'qualifier' failed to satisfy constraint: Member must satisfy regular "
            problem = f"1 validation error detected: {wrong}expression pattern: {PATTERN}"
            assert found == ("ValidationException", 400, problem)
        if operation != lambda_client.delete_function_url_config:  # AWS fails at this one by itself
            found = refused(operation, FunctionName=f"{name}:other", Qualifier="live", **more)
            assert found == ("InvalidParameterValueException", 400, mismatch)
    assert refused(lambda_client.list_function_url_configs, FunctionName=f"absent-{uuid4().hex}") == lost
    unknown = {"FunctionName": name, "AuthType": "NONE", "InvokeMode": "UNKNOWN"}
    assert refused(lambda_client.create_function_url_config, **unknown)[2] == (
        "1 validation error detected: Value 'UNKNOWN' at 'invokeMode' failed to satisfy constraint: "
        "Member must satisfy enum value set: [RESPONSE_STREAM, BUFFERED]"
    )


def test_an_alias_has_one_of_its_own_and_takes_it_along(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]
    assert lambda_client.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"] == []
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE")
    lambda_client.create_function_url_config(FunctionName=f"{name}:live", Qualifier="live", AuthType="AWS_IAM")

    first = lambda_client.list_function_url_configs(FunctionName=name, MaxItems=1)
    rest = lambda_client.list_function_url_configs(FunctionName=name, MaxItems=1, Marker=first["NextMarker"])
    assert "NextMarker" not in rest
    listed = [plain(each) for each in first["FunctionUrlConfigs"] + rest["FunctionUrlConfigs"]]
    assert sorted(listed, key=lambda each: len(each["FunctionArn"])) == [
        {"FunctionArn": arn, "AuthType": "NONE", "InvokeMode": "BUFFERED"},
        {"FunctionArn": f"{arn}:live", "AuthType": "AWS_IAM", "InvokeMode": "BUFFERED"},
    ]
    lambda_client.delete_function_url_config(FunctionName=name)
    assert lambda_client.get_function_url_config(FunctionName=name, Qualifier="live")["AuthType"] == "AWS_IAM"
    lambda_client.delete_alias(FunctionName=name, Name="live")
    if HERE:  # on AWS it takes a while
        none = ("ResourceNotFoundException", 404, "The resource you requested does not exist.")
        assert refused(lambda_client.get_function_url_config, FunctionName=name, Qualifier="live") == none


# --- the event ---


def test_a_function_gets_payload_format_2(visited: Callable[..., str]) -> None:
    url = visited()
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Cookie": "a=1; b=2",
        "ExTrA": "With WeiRd CapS",
        "User-Agent": "test/1",
        "Connection": "keep-alive",
    }
    reply = ask(f"{url}a%20b/%C3%BC?x=1&x=%2F2&y=", method="PUT", body="grüße".encode(), headers=headers)
    event = reply.json()

    context, http = event["requestContext"], event["requestContext"].pop("http")
    assert (reply.status, event["version"], event["routeKey"]) == (200, "2.0", "$default")
    assert (event["rawPath"], event["rawQueryString"]) == ("/a b/ü", "x=1&x=%2F2&y=")
    assert event["queryStringParameters"] == {"x": "1,/2", "y": ""}
    assert event["cookies"] == ["a=1", "b=2"]
    assert (event["body"], event["isBase64Encoded"]) == ("grüße", False)
    sent = {"content-type": headers["Content-Type"], "extra": "With WeiRd CapS", "user-agent": "test/1"}
    assert sent.items() <= event["headers"].items()
    assert not {"connection", "cookie"} & event["headers"].keys()
    added = ["x-amzn-trace-id", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"]
    assert [name for name in added if name not in event["headers"]] == []
    assert (http["method"], http["path"], http["protocol"], http["userAgent"]) == (
        "PUT",
        "/a b/ü",
        "HTTP/1.1",
        "test/1",
    )
    assert http["sourceIp"] == event["headers"]["x-forwarded-for"]
    assert context["accountId"] == "anonymous"
    assert context["apiId"] == context["domainPrefix"]
    assert context["domainPrefix"] in url
    assert (context["routeKey"], context["stage"]) == ("$default", "$default")
    assert context["requestId"] == reply.headers["x-amzn-requestid"]
    assert context["domainName"] == event["headers"]["host"]
    assert {"authorizer", "authentication"} & context.keys() == set()


def test_what_there_was_none_of_is_absent(visited: Callable[..., str]) -> None:
    event = ask(f"{visited()}/twice").json()
    assert event["rawPath"] == "/twice"  # recorded: not //twice
    assert event["isBase64Encoded"] is False
    assert {"body", "cookies", "queryStringParameters"} & event.keys() == set()


@pytest.mark.parametrize(
    ("content_type", "is_text"),
    [
        ("application/json", True),
        ("text/html", True),
        ("multipart/form-data; boundary=x", False),
        ("application/octet-stream", False),
    ],
)
def test_only_text_is_not_base64(visited: Callable[..., str], content_type: str, is_text: bool) -> None:
    event = ask(visited(), method="POST", body=b"{}", headers={"Content-Type": content_type}).json()
    assert (event["body"], event["isBase64Encoded"]) == ("{}" if is_text else "e30=", not is_text)


# --- the answer ---


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ({"hello": "world"}, b'{"hello":"world"}'),
        (["hello", 3, True], b'["hello",3,true]'),
        ("hello", b"hello"),
        (3, b"3"),
        (3.1, b"3.1"),
        (True, b"true"),
        (None, b"null"),
        ({"statusCode": 200, "body": "body123"}, b"body123"),
        ({"statusCode": 200, "body": None}, b""),
        ({"statusCode": 200, "body": '{"hello": "world"}'}, b'{"hello": "world"}'),
        ({"statusCode": 200, "body": {"hello": "world"}}, b'{"hello":"world"}'),
    ],
)
def test_an_answer_is_http_with_and_without_a_status(visited: Callable[..., str], answer: Any, body: bytes) -> None:
    reply = returned(visited(), answer)
    assert (reply.status, reply.data, reply.headers["content-type"]) == (200, body, "application/json")


def test_an_answer_may_say_everything(visited: Callable[..., str]) -> None:
    url = visited()
    binary = {
        "statusCode": "418",
        "headers": {"Content-Type": "image/png", "My-Header": "Some Value"},
        "cookies": ["a=1; Secure", "b=2"],
        "body": base64.b64encode(b"\x89PNG\0").decode(),
        "isBase64Encoded": True,
    }
    reply = returned(url, binary)
    assert (reply.status, reply.data, reply.headers["content-type"]) == (418, b"\x89PNG\0", "image/png")
    assert reply.headers["my-header"] == "Some Value"
    assert reply.headers.getlist("set-cookie") == ["a=1; Secure", "b=2"]
    empty = returned(url, {"statusCode": 204, "body": "not sent"})
    assert (empty.status, empty.data) == (204, b"")
    head = ask(url, method="HEAD", fields={"answer": '{"statusCode": 200, "body": "12345"}'})
    assert (head.status, head.headers["content-length"], head.data) == (200, "5", b"")


def test_a_function_that_fails_is_a_bad_gateway(visited: Callable[..., str]) -> None:
    url = visited()
    for fields in ({"raise": "x"}, {"answer": '{"statusCode": "many"}'}):
        reply = ask(url, fields=fields)
        assert (reply.status, reply.data) == (502, b"Internal Server Error")
        assert reply.headers["x-amzn-errortype"]


def test_a_request_may_have_six_megabytes(visited: Callable[..., str]) -> None:
    reply = ask(visited(), method="POST", body=b"x" * 6_400_000, headers={"Content-Type": "text/plain"})
    assert reply.status == 413


def test_a_url_without_concurrency_is_throttled(lambda_client: Any, function: Create) -> None:
    name = function()
    url = public(lambda_client, name)
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert ask(url).status == 429


def test_an_aliass_weights_are_drawn_for_every_request(lambda_client: Any, function: Create) -> None:
    source = "def handler(event, context): return context.function_version"
    name = function(Code={"ZipFile": package(**{"index.py": source})}, Publish=True)
    lambda_client.update_function_configuration(FunctionName=name, Description="second")
    settle(lambda_client, name)
    lambda_client.publish_version(FunctionName=name)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)
    url = public(lambda_client, name, Qualifier="live")
    assert {ask(url).data for _ in range(40)} == {b"1", b"2"}


# --- who may ask ---


def test_a_url_that_is_not_there_says_nothing(visited: Callable[..., str]) -> None:
    url, _, _ = visited().partition("?")
    gone = url.replace(next(part for part in url.replace(".", "/").split("/") if len(part) == 32), "0" * 32)
    reply = ask(gone)
    assert (reply.status, reply.data) == (403, b'{"Message":null}')
    assert reply.headers["x-amzn-errortype"] == "AccessDeniedException"


def test_everybody_may_ask_only_where_both_actions_are_granted(lambda_client: Any, function: Create) -> None:
    name = function(Code={"ZipFile": package(**{"index.py": SOURCE})})
    url = lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]

    def status() -> tuple[int, Any]:
        reply = ask(url)
        return reply.status, reply.json() if reply.status == 403 else None

    assert status() == (403, FORBIDDEN)
    grant(lambda_client, name, "*", "NONE")
    assert status() == (200, None)
    lambda_client.remove_permission(FunctionName=name, StatementId="invoke")
    if not AWS:  # where it depends on the account's age
        assert status() == (200, None)
        assert ask(url).headers["x-pointsman-warning"].endswith("its policy does not grant * lambda:InvokeFunction")
    given = {"FunctionName": name, "StatementId": "invoke", "Action": "lambda:InvokeFunction", "Principal": "*"}
    policy = json.loads(lambda_client.get_policy(FunctionName=name)["Policy"])
    assert policy["Statement"][0]["Condition"] == {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}
    statement = json.loads(lambda_client.add_permission(**given, InvokedViaFunctionUrl=True)["Statement"])
    assert statement["Condition"] == {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}
    assert status() == (200, None)
    lambda_client.update_function_url_config(FunctionName=name, AuthType="AWS_IAM")
    assert status() == (403, FORBIDDEN)  # it was granted to those that sign nothing


def signed(url: str, access_key: str, region: str) -> dict[str, str]:
    credentials: Any = Credentials(access_key, "secret") if HERE else botocore.session.Session().get_credentials()
    request = AWSRequest("GET", url)
    SigV4Auth(credentials, "lambda", region).add_auth(request)
    return dict(request.headers.items())


def test_aws_iam_asks_for_a_signature(lambda_client: Any, function: Create, account: str, region: str) -> None:
    name = function(Code={"ZipFile": package(**{"index.py": SOURCE})})
    url = lambda_client.create_function_url_config(FunctionName=name, AuthType="AWS_IAM")["FunctionUrl"]

    reply = ask(url)
    assert (reply.status, reply.json()) == (403, FORBIDDEN)
    event = ask(url, headers=signed(url, account, region)).json()
    assert event["requestContext"]["accountId"] == account
    assert event["requestContext"]["authorizer"]["iam"]["accountId"] == account
    assert f":{account}:" in event["requestContext"]["authorizer"]["iam"]["userArn"]
    if HERE:  # on AWS it would take a second account
        stranger = signed(url, "210987654321", region)
        assert ask(url, headers=stranger).status == 403
        grant(lambda_client, name, "210987654321", "AWS_IAM")
        assert ask(url, headers=stranger).json()["requestContext"]["accountId"] == "210987654321"
        assert ask(url, headers=signed(url, "999999999999", region)).status == 403


# --- other origins ---

PREFLIGHT = {
    "Origin": "https://a.example",
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "x-a",
}


def cors(reply: urllib3.BaseHTTPResponse) -> dict[str, str]:
    return {
        name.lower().removeprefix("access-control-"): value
        for name, value in reply.headers.items()
        if name.lower().startswith("access-control-")
    }


def test_a_preflight_is_answered_from_the_configuration(visited: Callable[..., str]) -> None:
    origins = ["https://a.example", "https://b.example"]
    rules = {"AllowOrigins": origins, "AllowMethods": ["GET", "PUT"], "AllowHeaders": ["x-a", "x-b"], "MaxAge": 60}
    url = visited(AuthType="AWS_IAM", Cors=rules | {"AllowCredentials": True})

    reply = ask(url, method="OPTIONS", headers=PREFLIGHT)
    assert (reply.status, reply.data, reply.headers["vary"]) == (200, b"", "Origin")
    assert cors(reply) == {
        "allow-origin": "https://a.example",
        "allow-methods": "GET,PUT",
        "allow-headers": "x-a,x-b",
        "allow-credentials": "true",
        "max-age": "60",
    }
    assert cors(ask(url, method="OPTIONS", headers=PREFLIGHT | {"Origin": "https://c.example"})) == {}


def test_an_answer_gets_the_configured_headers_beside_its_own(visited: Callable[..., str]) -> None:
    url = visited(Cors={"AllowOrigins": ["*"], "ExposeHeaders": ["x-a", "x-b"]})
    fields = {"answer": '{"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "https://own.example"}}'}
    reply = ask(url, headers={"Origin": "https://a.example"}, fields=fields)
    both = reply.headers["access-control-allow-origin"].split(", ")
    assert sorted(both) == ["https://a.example", "https://own.example"]  # as on AWS, and browsers refuse it
    assert reply.headers["access-control-expose-headers"] == "x-a,x-b"
    assert cors(ask(url)) == {}


def test_without_cors_a_preflight_is_the_functions(visited: Callable[..., str]) -> None:
    assert ask(visited(), method="OPTIONS", headers=PREFLIGHT).json()["requestContext"]["http"]["method"] == "OPTIONS"


# --- streams ---


def test_a_function_that_does_not_stream_is_streamed_whole(lambda_client: Any, function: Create) -> None:
    name = function(Publish=True)
    reply = lambda_client.invoke_with_response_stream(FunctionName=name, Qualifier="1", Payload=b"{}", LogType="Tail")
    events = list(reply["EventStream"])
    assert (reply["StatusCode"], reply["ExecutedVersion"]) == (200, "1")
    chunks, end = events[:-1], events[-1]["InvokeComplete"]
    assert json.loads(b"".join(each["PayloadChunk"]["Payload"] for each in chunks))["version"] == "1"
    assert "ErrorCode" not in end
    assert b"START RequestId" in base64.b64decode(end["LogResult"])


def test_a_streamed_call_that_fails_says_so_at_the_end(lambda_client: Any, function: Create) -> None:
    name = function()
    reply = lambda_client.invoke_with_response_stream(FunctionName=name, Payload=b'{"fail": true}')
    end = list(reply["EventStream"])[-1]["InvokeComplete"]
    assert end["ErrorCode"] == "Unhandled"
    assert json.loads(end["ErrorDetails"])["errorType"] == "ValueError"
    missing = {"FunctionName": f"absent-{uuid4().hex}", "Payload": b"{}"}
    assert refused(lambda_client.invoke_with_response_stream, **missing)[:2] == ("ResourceNotFoundException", 404)


def test_a_url_that_streams_takes_an_answer_as_it_is(visited: Callable[..., str]) -> None:
    """Recorded: `statusCode` means nothing in it."""
    answer = {"statusCode": 201, "body": "b"}
    reply = returned(visited(InvokeMode="RESPONSE_STREAM"), answer)
    assert (reply.status, reply.json()) == (200, answer)
