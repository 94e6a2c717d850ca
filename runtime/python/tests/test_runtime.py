"""What a handler is promised; AWS is played by servers on 127.0.0.1 and moto."""

from __future__ import annotations

import http.server
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Optional, TypedDict

import pytest

import pointsman_runtime
from pointsman_runtime import (
    AppConfig,
    Configuration,
    ConfigurationError,
    ConfigurationInvalid,
    ConfigurationMissing,
    ConfigurationUnreachable,
    Files,
    NoAlias,
    Parameters,
    alias,
)

FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:greeting"


def by(qualifier: str = "") -> Any:
    return SimpleNamespace(invoked_function_arn=f"{FUNCTION}:{qualifier}" if qualifier else FUNCTION)


class Shelf:
    """A source whose answers and failures the test decides."""

    max_age = 60.0

    def __init__(self, **books: Any) -> None:
        self.books = books
        self.reads: list[str] = []
        self.failure: ConfigurationError | None = None

    def where(self, name: str) -> str:
        return f"shelf {name}"

    def read(self, name: str) -> Any:
        self.reads.append(name)
        if self.failure:
            raise self.failure
        return self.books.get(name)


class Watch:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_alias_is_what_the_caller_named_and_nothing_else_is_one() -> None:
    assert alias(by("PROD")) == "PROD"
    assert alias(by("feature-12")) == "feature-12"
    assert [alias(by(none)) for none in ("12", "$LATEST", "$LATEST.PUBLISHED", "")] == [None] * 4
    assert alias(None) is None
    assert alias(f"{FUNCTION}:STAGE") == "STAGE"
    with pytest.raises(TypeError, match="dict is not a handler's context"):
        alias({"body": "an event"})


def test_an_alias_has_its_own_file_every_other_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "PROD.json").write_text('{"topic": "prod"}')
    (tmp_path / "config" / "default.json").write_text('{"topic": "other", "only": 1}')
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(tmp_path))
    settings = Configuration()

    assert settings.read(by("PROD")) == {"topic": "prod"}
    for other in ("STAGE", "7", "$LATEST", ""):
        assert settings.read(by(other)) == {"topic": "other", "only": 1}


def test_without_a_fallback_it_is_refused_in_words() -> None:
    settings = Configuration(Shelf(PROD={}), fallback=None)

    with pytest.raises(NoAlias) as refused:
        settings.read(by("7"))
    assert (refused.value.where, refused.value.next[:30]) == ("the invocation", "Call the function by an alias ")
    with pytest.raises(ConfigurationMissing, match=r"^shelf STAGE: there is no configuration\. Write one"):
        settings.read(by("STAGE"))


def test_the_fallback_may_be_the_alias_that_branches_are_modelled_on() -> None:
    assert Configuration(Shelf(STAGE={"topic": "s"}), fallback="STAGE").read(by("feature-x")) == {"topic": "s"}


def test_it_is_read_once_per_alias_and_age() -> None:
    watch, shelf = Watch(), Shelf(PROD={"n": 1}, default={"n": 0})
    settings = Configuration(shelf, clock=watch)
    first = settings.read(by("PROD"))
    assert settings.read(by("PROD")) is first
    settings.read(by("STAGE"))
    assert shelf.reads == ["PROD", "STAGE", "default"]

    watch.now += 59.9
    settings.read(by("PROD"))
    assert len(shelf.reads) == 3
    watch.now += 0.1
    shelf.books["PROD"] = {"n": 2}
    assert settings.read(by("PROD")) == {"n": 2}
    watch.now -= 3600  # set back
    shelf.books["PROD"] = {"n": 3}
    assert settings.read(by("PROD")) == {"n": 3}


def test_an_expired_value_serves_on_while_it_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    watch, shelf = Watch(), Shelf(PROD={"n": 1})
    settings = Configuration(shelf, clock=watch)
    settings.read(by("PROD"))
    shelf.failure = ConfigurationUnreachable("shelf PROD", "it is locked")
    watch.now += 60
    with caplog.at_level(logging.WARNING):
        assert settings.read(by("PROD")) == {"n": 1}
        watch.now += 4.9
        assert settings.read(by("PROD")) == {"n": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "the configuration of before serves on: shelf PROD: it is locked."
    ]

    watch.now += 0.1
    shelf.failure, shelf.books["PROD"] = None, {"n": 2}
    assert settings.read(by("PROD")) == {"n": 2}


def test_what_was_never_read_and_cannot_be_is_an_error_and_asked_for_again() -> None:
    shelf = Shelf(PROD={"n": 1})
    shelf.failure = ConfigurationUnreachable("shelf PROD", "it is locked")
    settings = Configuration(shelf)
    with pytest.raises(ConfigurationUnreachable):
        settings.read(by("PROD"))
    shelf.failure = None
    assert settings.read(by("PROD")) == {"n": 1}


def test_of_many_threads_one_reads_and_an_expired_value_serves_the_others_meanwhile() -> None:
    """The source holds its answer back until all others were served or are waiting: no time is involved."""
    watch, shelf = Watch(), Shelf(PROD={"n": 1})
    entered, leave = threading.Event(), threading.Event()
    plain = shelf.read

    def slow(name: str) -> Any:
        entered.set()
        assert leave.wait(10)
        return plain(name)

    shelf.read = slow  # type: ignore[method-assign]
    settings = Configuration(shelf, clock=watch)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(settings.read(by("PROD")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert got == [{"n": 1}] * 8
    assert shelf.reads == ["PROD"]

    watch.now += 60
    shelf.books["PROD"] = {"n": 2}
    entered.clear()
    leave.clear()
    refreshing = threading.Thread(target=lambda: got.append(settings.read(by("PROD"))))
    refreshing.start()
    assert entered.wait(10)
    assert settings.read(by("PROD")) == {"n": 1}  # does not wait
    leave.set()
    refreshing.join(10)
    assert got[-1] == {"n": 2}


@dataclass(frozen=True)
class Database:
    host: str
    port: int = 5432


@dataclass(frozen=True)
class Settings:
    topic: str
    db: Database
    mode: Literal["fast", "safe"] = "safe"
    share: float = 0.5
    note: Optional[str] = None  # noqa: UP045  (Python 3.9)
    tags: tuple[str, ...] = ()
    limits: dict[str, int] = field(default_factory=dict)


class Loose(TypedDict, total=False):
    topic: str
    tries: int


def test_a_dataclass_is_filled_with_what_it_says_and_no_more() -> None:
    found = {"topic": "t", "db": {"host": "h"}, "share": 1, "tags": ["a"], "limits": {"x": 1}, "later": True}
    made = Configuration(Shelf(default=found), into=Settings).read(None)
    assert made == Settings(topic="t", db=Database(host="h"), share=1.0, tags=("a",), limits={"x": 1})
    assert type(made.share) is float


def test_a_dataclass_may_refuse_by_itself() -> None:
    @dataclass
    class Positive:
        tries: int

        def __post_init__(self) -> None:
            if self.tries < 1:
                raise ValueError("tries is below 1")

    with pytest.raises(ConfigurationInvalid, match="tries is below 1"):
        Configuration(Shelf(default={"tries": 0}), into=Positive).read(None)


def test_every_problem_is_named_with_the_likely_typo_and_without_a_value() -> None:
    found = {"topc": "secret", "db": {"host": 7, "port": True}, "mode": "secret", "tags": "secret", "note": 1}
    with pytest.raises(ConfigurationInvalid) as refused:
        Configuration(Shelf(default=found), into=Settings).read(None)
    assert refused.value.what == (
        "6 problems: topic is missing (there is topc); db.host is a whole number, and should be text; "
        'db.port is true or false, and should be a whole number; mode is text, and should be "fast" or "safe"; '
        "note is a whole number, and should be text; tags is text, and should be a list"
    )
    assert "secret" not in str(refused.value)


def test_a_typed_dictionary_is_one() -> None:
    assert Configuration(Shelf(default={"topic": "t", "other": 1}), into=Loose).read(None) == {"topic": "t"}
    with pytest.raises(ConfigurationInvalid, match="tries is text, and should be a whole number"):
        Configuration(Shelf(default={"tries": "3"}), into=Loose).read(None)


@pytest.mark.parametrize(("text", "said"), [("password", "it is not JSON"), ("[]", "it is a list, and should be an")])
def test_a_file_that_is_no_json_object_is_named_and_not_quoted(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "default.json").write_text(text)
    with pytest.raises(ConfigurationInvalid, match=said) as refused:
        Configuration(Files(str(tmp_path))).read(None)
    assert "password" not in str(refused.value)


# SSM


@pytest.fixture
def ssm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield boto3.client("ssm")


def test_parameters_are_read_by_path_page_by_page_decrypted_and_typed(ssm: Any) -> None:
    def put(name: str, value: str, type: str = "String") -> None:
        ssm.put_parameter(Name=f"/greeting/{name}", Value=value, Type=type)

    put("PROD/topic", "7", "SecureString")
    put("PROD/db/host", "db.example")
    put("PROD/db/port", "5433")
    put("PROD/tags", "a,b", "StringList")
    put("PROD/share", "0.25")
    put("PROD/limits", '{"x": 3}')
    for n in range(12):  # a page has ten
        put(f"PROD/more/{n}", str(n))
    put("PRODUCTION/topic", "of another alias")
    put("default/topic", "d")

    made = Configuration(Parameters("/greeting/{alias}"), into=Settings).read(by("PROD"))
    plain = Configuration(Parameters("/greeting/{alias}/")).read(by("PROD"))

    assert made == Settings(topic="7", db=Database("db.example", 5433), share=0.25, tags=("a", "b"), limits={"x": 3})
    assert plain["more"] == {str(n): str(n) for n in range(12)}
    assert Configuration(Parameters("/greeting/{alias}")).read(by("feature-x")) == {"topic": "d"}
    with pytest.raises(ConfigurationMissing, match="SSM /greeting/STAGE/: there is no configuration"):
        Configuration(Parameters("/greeting/{alias}"), fallback=None).read(by("STAGE"))
    with pytest.raises(ConfigurationInvalid, match="topic is another text, and should be a whole number"):
        put("bad/topic", "seven")
        Configuration(Parameters("/greeting/{alias}"), into=TypedDict("Bad", {"topic": int})).read(by("bad"))


def test_a_parameter_that_is_both_a_value_and_a_path_is_refused(ssm: Any) -> None:
    ssm.put_parameter(Name="/g/A/db", Value="x", Type="String")
    ssm.put_parameter(Name="/g/A/db/host", Value="y", Type="String")
    with pytest.raises(ConfigurationInvalid, match="is both a value and a path"):
        Configuration(Parameters("/g/{alias}")).read(by("A"))


def test_a_path_without_its_place_for_the_alias_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r'for example "/greeting/\{alias\}"'):
        Parameters("/greeting/PROD")


# What a server of AWS's answers


@contextmanager
def serving(answer: Callable[[str, str, bytes], tuple[int, str, dict[str, str]]]) -> Iterator[int]:
    """`answer` gets method, path and body, and gives status, body and headers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, text, headers = answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def pointed(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def point(port: int) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "123456789012")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
        monkeypatch.setenv("AWS_APPCONFIG_EXTENSION_HTTP_PORT", "9")  # where nobody listens

    return point


def test_a_refused_read_says_what_to_allow(pointed: Callable[[int], None]) -> None:
    denied = '{"__type": "AccessDeniedException", "message": "not you"}'
    with serving(lambda *_: (400, denied, {})) as port:
        pointed(port)
        with pytest.raises(
            ConfigurationUnreachable, match=r"^SSM /g/PROD/: .*not you\. Allow the function's role ssm:GetParametersBy"
        ):
            Configuration(Parameters("/g/{alias}")).read(by("PROD"))


def test_the_extension_of_appconfig_is_asked_where_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[str] = []

    def answer(_: str, path: str, __: bytes) -> tuple[int, str, dict[str, str]]:
        paths.append(path)
        if "/environments/PROD/" in path:
            return 200, '{"topic": "p"}', {}
        return (404, "{}", {}) if "/environments/default/" in path else (400, "no permission", {})

    with serving(answer) as port:
        monkeypatch.setenv("AWS_APPCONFIG_EXTENSION_HTTP_PORT", str(port))
        settings = Configuration(AppConfig("greet ing", "settings"))
        assert settings.read(by("PROD")) == {"topic": "p"}
        assert paths == ["/applications/greet%20ing/environments/PROD/configurations/settings"]
        with pytest.raises(ConfigurationMissing):
            settings.read(by())
        with pytest.raises(ConfigurationUnreachable, match=r"answered 400: no permission\. Its role needs appconfig:"):
            settings.read(by("STAGE"))


def test_the_api_of_appconfig_is_polled_with_the_token_of_before_each_once(pointed: Callable[[int], None]) -> None:
    """A worn-out token is replaced by a new session; an empty answer means unchanged; not before AppConfig says."""
    seen: list[Any] = []
    replies = [(200, '{"n": 1}', "0"), (200, "", "0"), (400, "{}", "0"), (200, '{"n": 2}', "3600")]

    def answer(method: str, path: str, body: bytes) -> tuple[int, str, dict[str, str]]:
        if method == "POST":
            seen.append(json.loads(body))
            return 201, json.dumps({"InitialConfigurationToken": f"initial-{len(seen)}"}), {}
        seen.append(path.partition("configuration_token=")[2])
        status, text, interval = replies.pop(0)
        headers = {"next-poll-configuration-token": f"next-{len(seen)}", "next-poll-interval-in-seconds": interval}
        return status, text, headers | ({"x-amzn-errortype": "BadRequestException"} if status == 400 else {})

    with serving(answer) as port:
        pointed(port)
        settings = Configuration(AppConfig("greeting", "settings"), max_age=0)
        assert [settings.read(by("PROD"))["n"] for _ in range(4)] == [1, 1, 2, 2]
    start = {
        "ApplicationIdentifier": "greeting",
        "EnvironmentIdentifier": "PROD",
        "ConfigurationProfileIdentifier": "settings",
    }
    assert seen == [start, "initial-1", "next-2", "next-3", start, "initial-5"]


def test_an_environment_that_appconfig_does_not_have_falls_back(pointed: Callable[[int], None]) -> None:
    def answer(method: str, path: str, body: bytes) -> tuple[int, str, dict[str, str]]:
        if method == "POST" and json.loads(body)["EnvironmentIdentifier"] != "default":
            return 404, "{}", {"x-amzn-errortype": "ResourceNotFoundException"}
        if method == "POST":
            return 201, '{"InitialConfigurationToken": "one"}', {}
        return 200, '{"topic": "d"}', {"next-poll-configuration-token": "two"}

    with serving(answer) as port:
        pointed(port)
        assert Configuration(AppConfig("greeting", "settings")).read(by("feature-x")) == {"topic": "d"}


def test_importing_it_brings_nothing_that_a_cold_start_would_feel() -> None:
    """Lambda's own bootstrap has json and logging loaded; typing, dataclasses, http and boto3 cost 5 to 300 ms each."""
    code = "import json, logging, sys; old = set(sys.modules); import pointsman_runtime; print(*set(sys.modules) - old)"
    folder = str(Path(pointsman_runtime.__file__).parents[1])
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": folder}, check=True, capture_output=True, text=True
    )
    allowed = {"__future__", "pointsman_runtime", "pointsman_runtime.errors", "pointsman_runtime.files"}
    assert set(shown.stdout.split()) == allowed


def test_errors_survive_a_pickle() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(NoAlias("here", "none", "Do.")))
    assert (type(error), error.where, error.what, error.next) == (NoAlias, "here", "none", "Do.")
