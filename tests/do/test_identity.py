"""As whom calls are made: roles with what their trust asks for, codes used once, a CI job's own identity, renewal."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from pointsman import config, places
from pointsman.aws import oidc
from pointsman.aws.gateway import Gateway
from pointsman.aws.identity import Identity, Role
from pointsman.aws.transports import Declared
from pointsman.aws.wire import Wire
from pointsman.errors import AccessDenied, CredentialsRefused, UsageError
from pointsman.localaws import control
from pointsman.model import AliasName, Version
from pointsman.world import Options, World
from tests.fakes import Scripted

ROLE = "arn:aws:iam::222222222222:role/deployer"
DEVICE = "arn:aws:iam::111111111111:mfa/ada"


class Sts:
    """AWS's side, as strict as a trust policy; and GitHub's token service under /token."""

    def __init__(self) -> None:
        self.external_id = ""
        self.code = ""  # of MFA: the one that is right now
        self.trusted = "a-token"  # of OIDC
        self.lasts_s = 3600.0
        self.keys_may = True
        self.given = 0
        self.asked: list[dict[str, str]] = []
        self.headers: list[str] = []
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                right = self.headers["Authorization"] == "bearer jobs-own"
                self.answer(200 if right else 403, json.dumps({"value": outer.trusted}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(*outer.take({key: value[0] for key, value in parse_qs(body.decode()).items()}))

            def answer(self, status: int, said: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, asked: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append(asked)
        action = asked["Action"]
        if action == "GetCallerIdentity":
            account, arn = "222222222222", "arn:aws:sts::222222222222:assumed-role/deployer/x"
            return 200, _xml(action, f"<Account>{account}</Account><Arn>{arn}</Arn>")
        if action == "AssumeRole":
            refused = not self.keys_may or asked.get("ExternalId", "") != self.external_id
            if self.code and (asked.get("SerialNumber"), asked.get("TokenCode")) != (DEVICE, self.code):
                refused = True
            if refused:
                return 403, _error("AccessDenied", "is not authorized to perform: sts:AssumeRole")
        elif asked["WebIdentityToken"] != self.trusted:
            return 400, _error("InvalidIdentityToken", "No OpenIDConnect provider found")
        self.given += 1
        ends = datetime.now(UTC) + timedelta(seconds=self.lasts_s)
        keys = (
            f"<AccessKeyId>ASIA{self.given}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>t</SessionToken><Expiration>{ends:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        )
        return 200, _xml(action, f"<Credentials>{keys}</Credentials>")

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def _xml(action: str, inner: str) -> bytes:
    return f"<{action}Response><{action}Result>{inner}</{action}Result></{action}Response>".encode()


def _error(code: str, message: str) -> bytes:
    kind = "<Type>Sender</Type>"
    return (
        f"<ErrorResponse><Error>{kind}<Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>".encode()
    )


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sts]:
    made = Sts()
    for name in list(os.environ):
        if name.startswith(("AWS_", "ACTIONS_", "CIRCLE", "BITBUCKET")) or name == "CI":
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": made.url,
        "AWS_ACCESS_KEY_ID": "AKIDADA",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


def wire(identity: Identity, region: str = "eu-west-1") -> Wire:
    return Wire(region=region, identity=identity)


def test_a_role_is_told_what_its_trust_asks_for_and_refuses_without(sts: Sts) -> None:
    sts.external_id = "greeting-7f3a"
    with pytest.raises(AccessDenied) as refused:
        wire(Identity(role=Role(arn=ROLE))).environment()
    assert f"AssumeRole of {ROLE}" in refused.value.where
    assert "`external_id`" in refused.value.next

    role = Role(arn=ROLE, external_id="greeting-7f3a", duration=7200)
    assert wire(Identity(role=role, actor="ada@home")).environment()["AWS_ACCESS_KEY_ID"] == "ASIA1"
    asked = sts.asked[-1]
    assert (asked["DurationSeconds"], asked["RoleSessionName"]) == ("7200", "ada@home")


def test_a_code_of_mfa_is_asked_for_once_for_all_regions(sts: Sts) -> None:
    sts.code = "123456"
    asked: list[str] = []

    def code(device: str) -> str:
        asked.append(device)
        return "123456"

    identity = Identity(role=Role(arn=ROLE, mfa_serial=DEVICE), code=code)
    for region in ("eu-west-1", "us-east-1", "ap-southeast-2"):
        assert Gateway(wire(identity, region)).caller_account() == "222222222222"
    assert asked == [f"MFA code of {DEVICE}"]
    assert [each["Action"] for each in sts.asked].count("AssumeRole") == 1


def test_without_a_code_of_mfa_it_is_said_how_to_give_one(sts: Sts) -> None:
    with pytest.raises(CredentialsRefused) as refused:
        wire(Identity(role=Role(arn=ROLE, mfa_serial=DEVICE))).environment()
    assert DEVICE in refused.value.what
    assert "--mfa CODE" in refused.value.next
    assert sts.asked == []


def test_credentials_that_are_about_to_expire_are_renewed_between_two_calls(sts: Sts) -> None:
    """A rollout may last longer than an hour."""
    sts.lasts_s = 60.0  # botocore renews ten minutes ahead
    gateway = Gateway(wire(Identity(role=Role(arn=ROLE))))
    for _ in range(3):
        assert gateway.caller_account() == "222222222222"
    assert [each["Action"] for each in sts.asked].count("AssumeRole") > 3

    sts.keys_may = False
    with pytest.raises(AccessDenied, match="not authorized") as refused:
        gateway.caller_account()
    assert "AssumeRole" in refused.value.where  # not the call that happened to be next


@pytest.mark.parametrize(
    "variable", ["CIRCLE_OIDC_TOKEN_V2", "BITBUCKET_STEP_OIDC_TOKEN", "AWS_TOKEN", "GITLAB_OIDC_TOKEN"]
)
def test_a_job_without_credentials_is_the_role_by_its_own_token(
    sts: Sts, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv(variable, sts.trusted)

    assert wire(Identity(role=Role(arn=ROLE))).environment()["AWS_ACCESS_KEY_ID"] == "ASIA1"
    assert [(each["Action"], each["RoleArn"]) for each in sts.asked] == [("AssumeRoleWithWebIdentity", ROLE)]

    sts.trusted = "another"
    with pytest.raises(Exception, match="No OpenIDConnect provider") as refused:
        wire(Identity(role=Role(arn=ROLE))).environment()
    assert "trust this job" in refused.value.next  # type: ignore[attr-defined]


def test_github_gives_its_token_when_it_is_asked(sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{sts.url}/token?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "jobs-own")

    assert wire(Identity(role=Role(arn=ROLE))).environment()["AWS_ACCESS_KEY_ID"] == "ASIA1"
    assert sts.paths == ["/token?api-version=2.0&audience=sts.amazonaws.com"]

    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "another's")
    with pytest.raises(CredentialsRefused) as refused:
        wire(Identity(role=Role(arn=ROLE))).environment()
    assert refused.value.what == "GitHub gives no OIDC token: HTTP 403"
    assert "id-token: write" in refused.value.next


def test_a_jobs_keys_that_may_not_assume_the_role_leave_it_to_the_jobs_token(
    sts: Sts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed in as staging's role, a promotion to production is still this job."""
    sts.keys_may = False
    monkeypatch.setenv("CIRCLE_OIDC_TOKEN_V2", sts.trusted)

    wire(Identity(role=Role(arn=ROLE))).environment()

    assert [each["Action"] for each in sts.asked] == ["AssumeRole", "AssumeRoleWithWebIdentity"]


def test_a_file_with_a_token_is_read_anew_and_missed_in_words(
    sts: Sts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    role = Role(arn=ROLE, token_file=str(file))
    with pytest.raises(CredentialsRefused, match="cannot be read"):
        wire(Identity(role=role)).environment()

    file.write_text(f"{sts.trusted}\n")
    wire(Identity(role=role)).environment()
    assert sts.asked[-1]["WebIdentityToken"] == sts.trusted

    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
    token = oidc.source(os.environ)
    assert token is not None
    assert token() == sts.trusted


def test_the_local_aws_takes_a_role_by_keys_and_by_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sts: Sts
) -> None:
    running = control.up(tmp_path)
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        assert Gateway(wire(Identity(role=Role(arn=ROLE, external_id="any")))).caller_account() == "222222222222"

        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("CIRCLE_OIDC_TOKEN_V2", "whatever")
        assert Gateway(wire(Identity(role=Role(arn=ROLE)))).caller_account() == "222222222222"
    finally:
        control.down(tmp_path)
    assert sts.asked == []


def test_nothing_that_mutates_passes_before_the_account_is_known() -> None:
    inner, asked = Scripted({"FunctionName": "f"}), []

    def refuse(_inner: Any) -> None:
        asked.append("who")
        raise CredentialsRefused("another account")

    gateway = Gateway(Declared(inner, refuse))
    assert gateway.function is not None
    with pytest.raises(CredentialsRefused):
        gateway.delete_alias("f", AliasName("PROD"))
    assert (inner.sent, asked) == ([], ["who"])

    known: list[str] = []
    inner = Scripted({}, {"AliasArn": "arn:aws:lambda:eu-west-1:1:function:f:B", "Name": "B", "FunctionVersion": "1"})
    gateway = Gateway(Declared(inner, lambda _inner: known.append("who")))
    gateway.delete_alias("f", AliasName("PROD"))
    gateway.create_alias("f", AliasName("B"), Version("1"), description="")
    assert known == ["who"]  # once


def test_one_code_serves_all_regions_of_a_command_and_a_person_is_asked_for_the_next(tmp_path: Path) -> None:
    text = f"""\
[function.greeting]
runtime = "python3.13"
[environment.production]
alias = "PROD"
role_arn = "{ROLE}"
mfa_serial = "{DEVICE}"
regions = ["eu-west-1", "us-east-1"]
"""
    project = config.parse(text, file=tmp_path / "pointsman.toml")
    world = World(project=project, environ={"POINTSMAN_MFA_CODE": "111111"})
    one, other = places.each(project.environments["production"])
    assert world.identity(one) is world.identity(other)

    identity = world.identity(one)
    assert identity.code("MFA code") == "111111"
    with pytest.raises(CredentialsRefused, match="was used already"):
        identity.code("MFA code")

    world = World(project=project, environ={}, options=Options(mfa="222222"), answer=lambda question: f"{question}?")
    assert [world.identity(one).code("MFA code"), world.identity(one).code("MFA code")] == ["222222", "MFA code?"]

    with pytest.raises(UsageError, match="is in eu-west-1, us-east-1"):
        world.door(project.environments["production"])
