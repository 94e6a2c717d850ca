"""botocore's failures become ours: what surely did not happen, what may have, and what AWS refused."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.session
import pytest

from pointsman import errors
from pointsman.aws.gateway import Gateway, Package, configuration
from pointsman.aws.wire import Wire
from pointsman.model import Alias, AliasName, FunctionArn, FunctionName, Routing, Version


class Answering:
    """An HTTP server that gives every request one answer: (status, headers, body), or hangs, hangs up, breaks off."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str], bytes] | str = (200, {}, b"{}")
        self.requests: list[tuple[str, str, bytes]] = []
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, self.path, body))
                if outer.answer == "hang":
                    outer.release.wait(30)
                    return
                if outer.answer == "hang up":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if outer.answer == "break off":
                    self.send_response(200)
                    self.send_header("X-Amz-Executed-Version", "2")
                    self.send_header("Content-Length", "100")
                    self.end_headers()
                    self.wfile.write(b"{}")
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                assert not isinstance(outer.answer, str)
                status, headers, said = outer.answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(said))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_PUT = do_POST = do_DELETE = do  # noqa: N815 (http.server looks for these names)

            def log_message(self, *_arguments: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            block_on_close = False

            def handle_error(self, *_arguments: Any) -> None:
                """Clients that gave up are what these tests are about."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def refuses(self, status: int, code: str, message: str = "no") -> None:
        said = json.dumps({"Type": "User", "message": message, "Message": message}).encode()
        self.answer = (status, {"x-amzn-ErrorType": code, "Content-Type": "application/json"}, said)

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    answering = Answering()
    monkeypatch.setenv("AWS_ENDPOINT_URL", answering.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield answering
    answering.close()


def gateway(timeout: float = 60) -> Gateway:
    return Gateway(Wire(region="eu-west-1", timeout=timeout))


PROD = Alias(
    arn=FunctionArn(account="1", region="eu-west-1", name=FunctionName("f")),
    name=AliasName("PROD"),
    routing=Routing(version=Version("1")),
    revision="r",
)


def move(door: Gateway) -> None:
    door.point(PROD, Routing(version=Version("2")), expecting="r", description="")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (412, "PreconditionFailedException", errors.PreconditionFailed),
        (409, "ResourceConflictException", errors.Conflict),
        (404, "ResourceNotFoundException", errors.NotFound),
        (400, "NotAuthorized", errors.AccessDenied),
        (429, "TooManyRequestsException", errors.Throttled),
        (400, "ThrottlingException", errors.Throttled),
        (403, "AccessDeniedException", errors.AccessDenied),
        (403, "ExpiredTokenException", errors.CredentialsRefused),
        (403, "UnrecognizedClientException", errors.CredentialsRefused),
        (403, "InvalidSignatureException", errors.CredentialsRefused),
        (400, "InvalidParameterValueException", errors.InvalidRequest),
        (400, "CodeStorageExceededException", errors.InvalidRequest),
        (413, "RequestEntityTooLargeException", errors.InvalidRequest),
        (500, "ServiceException", errors.Ambiguous),
        (503, "ServiceUnavailable", errors.Ambiguous),
    ],
)
def test_what_aws_says_becomes_our_error(
    aws: Answering, status: int, code: str, expected: type[errors.AwsError]
) -> None:
    aws.refuses(status, code, "AWS's own words")

    with pytest.raises(expected, match="AWS's own words") as raised:
        move(gateway())

    assert raised.value.where == "UpdateAlias of alias PROD of f"
    assert len(aws.requests) == 1, "botocore must not retry by itself"


@pytest.mark.parametrize(
    "words",
    [
        "Value python3.99 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs20.x]",
        "The runtime parameter of python3.7 is no longer supported for creating or updating AWS Lambda functions.",
    ],
)
def test_a_runtime_that_aws_refuses_has_a_remedy(aws: Answering, words: str) -> None:
    aws.refuses(400, "InvalidParameterValueException", words)

    with pytest.raises(errors.InvalidRequest) as raised:
        move(gateway())

    assert raised.value.next.startswith("Correct `runtime` of the function in pointsman.toml. AWS lists those it has: ")


def test_a_missing_permission_is_named(aws: Answering) -> None:
    aws.refuses(403, "AccessDeniedException")

    with pytest.raises(errors.AccessDenied) as raised:
        move(gateway())

    assert "lambda:UpdateAlias on alias PROD of f" in raised.value.next


def test_an_answer_that_never_comes_is_ambiguous(aws: Answering) -> None:
    aws.answer = "hang"

    with pytest.raises(errors.Ambiguous) as raised:
        move(gateway(timeout=0.2))

    assert "pointsman resume" in raised.value.next


def test_a_connection_cut_before_the_answer_is_ambiguous(aws: Answering) -> None:
    aws.answer = "hang up"

    with pytest.raises(errors.Ambiguous):
        move(gateway())


def test_an_answer_that_breaks_off_while_it_is_read_is_ambiguous(aws: Answering) -> None:
    """A function's answer is a stream: the connection may be lost when botocore has returned already."""
    aws.answer = "break off"

    with pytest.raises(errors.Ambiguous):
        Gateway(Wire(region="eu-west-1")).invoke("greeting", "2", b"{}")


def test_an_answer_that_is_not_awss_is_ambiguous(aws: Answering) -> None:
    aws.answer = (200, {"Content-Type": "text/html"}, b"<html>proxy login</html>")

    with pytest.raises(errors.Ambiguous):
        move(gateway())


def test_a_server_that_is_not_there_surely_did_nothing(monkeypatch: pytest.MonkeyPatch, aws: Answering) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")

        with pytest.raises(errors.Unreachable, match="endpoint"):
            move(gateway())


def test_absent_is_a_value(aws: Answering) -> None:
    aws.refuses(404, "ResourceNotFoundException")

    assert gateway().function("f") is None
    assert gateway().alias("f", "PROD") is None


def test_finishing_a_move_always_says_the_weights(aws: Answering) -> None:
    """UpdateAlias keeps what it is not given: a forgotten weight would go on serving the old version."""
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:f:PROD"
    reply = {"AliasArn": arn, "Name": "PROD", "FunctionVersion": "2", "RevisionId": "r2"}
    aws.answer = (200, {"Content-Type": "application/json"}, json.dumps(reply).encode())

    move(gateway())

    method, path, body = aws.requests[0]
    assert (method, path) == ("PUT", "/2015-03-31/functions/f/aliases/PROD")
    assert json.loads(body) == {
        "FunctionVersion": "2",
        "RoutingConfig": {"AdditionalVersionWeights": {}},
        "RevisionId": "r",
        "Description": "",
    }


def test_without_credentials_the_error_says_where_they_come_from(
    aws: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(errors.CredentialsRefused) as raised:
        gateway().function("f")

    assert "AWS_PROFILE" in raised.value.next


def test_without_a_region_the_error_says_how_to_set_one(aws: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(errors.UsageError, match="no AWS region is set"):
        Gateway(Wire()).function("f")


def test_a_parameter_botocore_refuses_is_our_error_too(aws: Answering) -> None:
    with pytest.raises(errors.InvalidRequest):
        gateway().create_function(FunctionName("f"), {"Role": 3}, Package(zip=b""))


LISTED = {
    "FunctionName": "f",
    "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:f:7",
    "Runtime": "python3.13",
    "Role": "arn:aws:iam::123456789012:role/r",
    "CodeSize": 1234,
    "CodeSha256": "A" * 43 + "=",
    "Version": "7",
    "VpcConfig": {"SubnetIds": ["s-1"], "SecurityGroupIds": [], "VpcId": None},
    "DeadLetterConfig": None,
    "Environment": {"Variables": {"A": "null"}, "Error": None},
    "KMSKeyArn": None,
    "TracingConfig": {"Mode": "PassThrough"},
    "Layers": None,
    "Unheard": "of",
}


@pytest.mark.parametrize("null", [True, False])
def test_a_list_is_read_as_botocore_reads_it(aws: Answering, null: bool) -> None:
    """Lists are decoded before botocore takes them apart by its model, which takes seconds: with the same outcome."""
    listed = LISTED if null else {key: each for key, each in LISTED.items() if "null" not in json.dumps(each)}
    page = {"Functions": [listed], "NextMarker": None}
    aws.answer = (200, {"Content-Type": "application/json"}, json.dumps(page).encode())

    (ours,) = gateway().everything()
    plain = botocore.session.get_session().create_client("lambda", region_name="eu-west-1")
    (theirs,) = plain.list_functions()["Functions"]

    assert ours == configuration(theirs)
    assert ours.settings.get("Environment") == ({"A": "null"} if null else None)


def test_a_list_that_is_refused_is_refused_in_words(aws: Answering) -> None:
    aws.refuses(403, "AccessDeniedException", "not yours")

    with pytest.raises(errors.AccessDenied, match="not yours"):
        list(gateway().everything())


def test_a_list_that_is_not_aws_s_is_told(aws: Answering) -> None:
    aws.answer = (200, {"Content-Type": "text/html"}, b"<html>Sign in</html>")

    with pytest.raises(errors.Ambiguous, match="not AWS's"):
        list(gateway().everything())
