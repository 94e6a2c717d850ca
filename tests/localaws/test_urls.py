"""Function URLs of a real local AWS: where they are, that they stay, who may ask from a browser, and streams."""

from __future__ import annotations

import json
import socket
import threading
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws import control
from pointsman.localaws.lambda_.visits import Head, Malformed, Opening
from tests.localaws.conftest import Client, client, make_function, package
from tests.localaws.test_cloudformation import QUICK, ROLE, body, function, outputs
from tests.localaws.test_execution import NODE, needs_node

ECHO = """
def handler(event, context):
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": event}
"""


def public(lambda_: Any, name: str, **given: Any) -> str:
    url = lambda_.create_function_url_config(FunctionName=name, **({"AuthType": "NONE"} | given))["FunctionUrl"]
    everybody = {"FunctionName": name, "Principal": "*"}
    lambda_.add_permission(
        **everybody,
        StatementId="u",
        Action="lambda:InvokeFunctionUrl",
        FunctionUrlAuthType=given.get("AuthType", "NONE"),
    )
    lambda_.add_permission(**everybody, StatementId="i", Action="lambda:InvokeFunction", InvokedViaFunctionUrl=True)
    return str(url)


def id_of(url: str) -> str:
    return next(part for part in url.replace(".", "/").split("/") if len(part) == 32)


def ask(
    running: control.Running, path: str, *, method: str = "GET", headers: dict[str, str] | None = None
) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", running.port, timeout=120)
    connection.request(method, path, headers=headers or {})
    return connection.getresponse()


@pytest.fixture(scope="module")
def url_id(aws: control.Running, connect: Client) -> str:
    """The URL of a function that shows its event; its CORS allows one origin to read."""
    make_function(aws, "shown", ECHO)
    return id_of(public(connect("lambda"), "shown", Cors={"AllowOrigins": ["https://allowed.example"]}))


def host(aws: control.Running, url_id: str) -> dict[str, str]:
    return {"Host": f"{url_id}.lambda-url.eu-west-1.localhost:{aws.port}"}


def test_a_url_is_reached_by_its_name_and_by_path(aws: control.Running, url_id: str) -> None:
    for reply in (
        ask(aws, "/a/b?c=1", headers=host(aws, url_id)),
        ask(aws, f"/_url/{url_id}/a/b?c=1"),
        ask(aws, f"/_url/{url_id}/a/b?c=1", headers={"Host": f"localhost:{aws.port}"}),
    ):
        event = json.loads(reply.read())
        assert (event["rawPath"], event["rawQueryString"]) == ("/a/b", "c=1")
        assert event["requestContext"]["domainPrefix"] == url_id
    assert json.loads(ask(aws, f"/_url/{url_id}").read())["rawPath"] == "/"


def test_the_url_in_replies_is_one_that_this_machine_resolves(
    aws: control.Running, connect: Client, url_id: str
) -> None:
    url = connect("lambda").get_function_url_config(FunctionName="shown")["FunctionUrl"]
    try:
        resolves = socket.gethostbyname("x.localhost") == "127.0.0.1"
    except OSError:
        resolves = False
    named = f"http://{url_id}.lambda-url.eu-west-1.localhost:{aws.port}/"
    assert url == (named if resolves else f"http://127.0.0.1:{aws.port}/_url/{url_id}/")


def test_a_url_stays_when_the_server_is_started_again(tmp_path: Path) -> None:
    running = control.up(tmp_path, settle_s=0.05)
    make_function(running, "kept", ECHO)
    made = id_of(public(client(running, "lambda"), "kept"))
    control.down(tmp_path)

    running = control.up(tmp_path, settle_s=0.05)
    assert id_of(client(running, "lambda").get_function_url_config(FunctionName="kept")["FunctionUrl"]) == made
    assert ask(running, f"/_url/{made}/").status == 200
    control.down(tmp_path)


def test_a_stack_may_have_a_url_as_sam_writes_it(aws: control.Running, connect: Client) -> None:
    """SAM makes these resources of a function's FunctionUrlConfig."""
    everybody = {"FunctionName": {"Fn::GetAtt": ["F", "Arn"]}, "Principal": "*"}
    cors = {"AllowOrigins": ["*"], "MaxAge": 60}
    resources = {
        "Role": ROLE,
        "F": function(FunctionName="stacked", Runtime="python3.11", Code={"ZipFile": ECHO}),
        "Url": {
            "Type": "AWS::Lambda::Url",
            "Properties": {"TargetFunctionArn": {"Ref": "F"}, "AuthType": "NONE", "Cors": cors},
        },
        "Ask": {
            "Type": "AWS::Lambda::Permission",
            "Properties": everybody | {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
        },
        "Invoke": {
            "Type": "AWS::Lambda::Permission",
            "Properties": everybody | {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
        },
    }
    template = body({"Url": {"Value": {"Fn::GetAtt": ["Url", "FunctionUrl"]}}}, **resources)
    stacks = connect("cloudformation")
    stacks.create_stack(StackName="urls", TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
    stacks.get_waiter("stack_create_complete").wait(StackName="urls", WaiterConfig=QUICK)

    made = id_of(outputs(stacks, "urls")["Url"])
    reply = ask(aws, f"/_url/{made}/", headers={"Origin": "https://a.example"})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "https://a.example")
    assert connect("lambda").get_function_url_config(FunctionName="stacked")["Cors"] == cors
    stacks.delete_stack(StackName="urls")
    stacks.get_waiter("stack_delete_complete").wait(StackName="urls", WaiterConfig=QUICK)
    assert ask(aws, f"/_url/{made}/").read() == b'{"Message":null}'


# --- browsers ---


def test_a_page_from_elsewhere_may_ask_a_url_and_reads_what_its_cors_allows(aws: control.Running, url_id: str) -> None:
    preflight = {"Access-Control-Request-Method": "PUT"}
    for origin, allowed in (("https://allowed.example", "https://allowed.example"), ("https://other.example", None)):
        page = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
        for reply in (
            ask(aws, f"/_url/{url_id}/", headers=page),
            ask(aws, "/", headers=page | host(aws, url_id)),
            ask(aws, "/", method="OPTIONS", headers=page | host(aws, url_id) | preflight),
        ):
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, allowed)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/_url/ID/", {"Host": "example.com"}),  # a name that was made to resolve to this machine
        ("/", {"Host": "ID.lambda-url.eu-west-1.example.com"}),
        ("/2015-03-31/functions/", {"Origin": "https://allowed.example"}),
        ("/_pointsman/health", {"Sec-Fetch-Site": "cross-site"}),
        ("/_pointsman/health", {"Origin": "http://ID.lambda-url.eu-west-1.localhost:4566"}),
        ("/2015-03-31/functions/", {"Origin": "http://ID.lambda-url.eu-west-1.localhost:4566"}),
        ("/_urls/../_pointsman/health", {"Sec-Fetch-Site": "cross-site"}),
    ],
)
def test_no_page_gets_further_than_a_url(aws: control.Running, url_id: str, path: str, headers: dict[str, str]) -> None:
    given = {name: value.replace("ID", url_id) for name, value in headers.items()}
    reply = ask(aws, path.replace("ID", url_id), headers=given)
    assert (reply.status, json.loads(reply.read())) == (403, {"message": "The local AWS answers this machine only."})


def test_under_a_functions_name_there_is_only_the_function(aws: control.Running, url_id: str) -> None:
    """Its pages are of an origin that cannot read the control plane."""
    for path in ("/_pointsman/health", "/2015-03-31/functions/", "/_url/0/"):
        assert json.loads(ask(aws, path, headers=host(aws, url_id)).read())["rawPath"] == path


def test_a_browser_is_sent_from_the_path_to_the_name(aws: control.Running, url_id: str) -> None:
    """A page by path would be of one origin with the control plane, and its links would lead there."""
    reply = ask(aws, f"/_url/{url_id}/a%20b?c=1", headers={"Sec-Fetch-Mode": "navigate"})
    named = f"http://{url_id}.lambda-url.eu-west-1.localhost:{aws.port}/a%20b?c=1"
    assert (reply.status, reply.headers["location"]) == (307, named)
    direct = ask(aws, "/a", headers={"Sec-Fetch-Mode": "navigate"} | host(aws, url_id))
    assert direct.status == 200


def test_only_lambdas_signature_opens_what_aws_iam_guards(aws: control.Running, connect: Client) -> None:
    make_function(aws, "signed-only", ECHO)
    made = connect("lambda").create_function_url_config(FunctionName="signed-only", AuthType="AWS_IAM")
    path = f"/_url/{id_of(made['FunctionUrl'])}/"

    def status(credential: str) -> int:
        scope = f"AWS4-HMAC-SHA256 Credential={credential}/aws4_request, SignedHeaders=host, Signature=0"
        return ask(aws, path, headers={"Authorization": scope}).status

    assert ask(aws, path).status == 403
    assert status(f"{control.ACCOUNT}/20261122/eu-west-1/lambda") == 200
    assert status(f"{control.ACCOUNT}/20261122/eu-west-1/s3") == 403
    assert status("210987654321/20261122/eu-west-1/lambda") == 403


# --- streams ---

STREAMING = """
const fs = require('node:fs');
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  const { go, fail } = event.queryStringParameters ?? event;
  const headers = { 'Content-Type': 'text/plain', 'X-Own': 'yes' };
  const prelude = { statusCode: 203, headers, cookies: ['a=1', 'b=2'] };
  if (event.requestContext) stream = awslambda.HttpResponseStream.from(stream, prelude);
  stream.write('first,');
  while (go && !fs.existsSync(go)) await new Promise((done) => setTimeout(done, 5));
  if (fail) throw new Error('half');
  stream.end('last');
});
"""


@pytest.fixture(scope="module")
def stream_path(aws: control.Running, connect: Client) -> str:
    code = {"ZipFile": package(STREAMING, "index.js")}
    make_function(aws, "streaming", "", Runtime=NODE, Code=code)
    return f"/_url/{id_of(public(connect('lambda'), 'streaming', InvokeMode='RESPONSE_STREAM'))}/"


PRELUDE = "application/vnd.awslambda.http-integration-response"


def test_a_prelude_may_come_in_any_pieces() -> None:
    whole = b'{"statusCode": 201, "cookies": ["a=1"]}' + bytes(8) + b"body" + bytes(8) + b"more"
    for size in range(1, len(whole) + 1):
        opening, body = Opening(PRELUDE), b""
        for at in range(0, len(whole), size):
            body += opening.feed(whole[at : at + size])
        assert opening.head == Head(201, {"content-type": "application/octet-stream"}, ("a=1",))
        assert body == b"body" + bytes(8) + b"more"


@pytest.mark.parametrize(
    "wrong",
    [
        b"x" * 16_385,
        b"[1]" + bytes(8),
        b"{" + bytes(8),
        b'{"statusCode": 99}' + bytes(8),
        b'{"headers": {"a": "b\\r\\nc: d"}}' + bytes(8),
        b'{"headers": {"a b": "c"}}' + bytes(8),
        b'{"headers": {"a": {}}}' + bytes(8),
        b'{"cookies": "a=1"}' + bytes(8),
    ],
)
def test_a_prelude_that_is_none_is_malformed(wrong: bytes) -> None:
    with pytest.raises(Malformed):
        Opening(PRELUDE).feed(wrong)


@needs_node
def test_a_stream_arrives_while_it_is_made(aws: control.Running, stream_path: str, tmp_path: Path) -> None:
    reply = ask(aws, f"{stream_path}?go={tmp_path}/go")
    assert (reply.status, reply.headers["content-type"], reply.headers["x-own"]) == (203, "text/plain", "yes")
    assert reply.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert reply.read1(6) == b"first,"  # the function waits until we have it
    (tmp_path / "go").touch()
    assert reply.read() == b"last"


@needs_node
def test_a_stream_that_fails_half_way_is_cut_off(aws: control.Running, stream_path: str) -> None:
    reply = ask(aws, f"{stream_path}?fail=1")
    assert reply.status == 203
    with pytest.raises(IncompleteRead):
        reply.read()


@needs_node
def test_botocore_reads_a_stream_while_it_is_made(connect: Client, stream_path: str, tmp_path: Path) -> None:
    assert stream_path
    payload = json.dumps({"go": f"{tmp_path}/go"})
    reply = connect("lambda").invoke_with_response_stream(FunctionName="streaming", Payload=payload, LogType="Tail")
    events = iter(reply["EventStream"])
    assert next(events) == {"PayloadChunk": {"Payload": b"first,"}}
    (tmp_path / "go").touch()
    assert next(events) == {"PayloadChunk": {"Payload": b"last"}}
    assert list(next(events)["InvokeComplete"]) == ["LogResult"]
    assert list(events) == []
    failing = connect("lambda").invoke_with_response_stream(FunctionName="streaming", Payload=b'{"fail": true}')
    chunk, end = failing["EventStream"]
    assert chunk == {"PayloadChunk": {"Payload": b"first,"}}
    assert end["InvokeComplete"]["ErrorCode"] == "Unhandled"
    assert json.loads(end["InvokeComplete"]["ErrorDetails"])["errorMessage"] == "half"


@needs_node
def test_a_reader_that_goes_away_leaves_the_function_to_finish(
    aws: control.Running, connect: Client, stream_path: str, tmp_path: Path
) -> None:
    gone = ask(aws, f"{stream_path}?go={tmp_path}/go")
    assert gone.read1(6) == b"first,"
    gone.close()
    (tmp_path / "go").touch()
    assert connect("lambda").invoke(FunctionName="streaming")["Payload"].read() == b"first,last"


def test_many_ask_at_once(aws: control.Running, url_id: str) -> None:
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(ask(aws, f"/_url/{url_id}/").status)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [200] * 12
