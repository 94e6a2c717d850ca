"""A thousand versions that share code, on a Lambda in memory behind the one seam: what is asked, and what is stored."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pointsman.aws.operation import Operation, R
from pointsman.errors import NotFound
from tests.journeys.conftest import Shop

VERSIONS, PACKAGES = 1000, 4
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:many"


def package(number: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("index.py", f"def handler(event, context):\n    return {number}\n")
    return made.getvalue()


CODE = [package(number) for number in range(PACKAGES)]


class Hurried:
    """Nobody is kept waiting: what is counted here is calls."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0


class Many:
    """One function of many versions, its code at a web server's."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.versions = list(range(1, VERSIONS + 1))
        self.shift = 0
        self.calls: Counter[str] = Counter()
        self.lock = threading.Lock()

    def send(self, operation: Operation[R]) -> R:
        with self.lock:
            self.calls[operation.action] += 1
        return operation.read(self.answer(operation.action, operation.parameters))

    def answer(self, action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        match action:
            case "ListVersionsByFunction":
                start = int(asked.get("Marker", "0"))
                all_ = [self.configuration(None), *map(self.configuration, self.versions)]
                more = {"NextMarker": str(start + 50)} if start + 50 < len(all_) else {}
                return {"Versions": all_[start : start + 50], **more}
            case "GetFunction":
                number = int(asked.get("Qualifier", VERSIONS))
                return {
                    "Configuration": self.configuration(number),
                    "Code": {"Location": f"{self.address}/{(number + self.shift) % PACKAGES}"},
                }
            case "GetPolicy":
                raise NotFound("The resource you requested does not exist.")
            case _:
                return {"Aliases": [], "ProvisionedConcurrencyConfigs": []}

    def configuration(self, number: int | None) -> dict[str, Any]:
        code = CODE[((number or VERSIONS) + self.shift) % PACKAGES]
        version = str(number) if number else "$LATEST"
        return {
            "FunctionArn": f"{ARN}:{version}",
            "Version": version,
            "CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode(),
            "CodeSize": len(code),
            "Description": f"build-{number}",
            "Environment": {"Variables": {"NUMBER": version}},
            "LastModified": f"at {number}",
        }


@pytest.fixture
def served() -> Iterator[tuple[Many, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CODE[int(self.path[1:])])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Many(f"http://127.0.0.1:{server.server_port}"), asked
    server.shutdown()
    server.server_close()


def test_a_thousand_versions_store_each_package_once(shop: Shop, served: tuple[Many, list[str]]) -> None:
    many, asked = served

    def kept(*more: str) -> dict[str, Any]:
        many.calls.clear()
        words = ("backup", "many", "--to", "kept", "--json", *more)
        return shop.ok(*words, wrap=lambda _inner: many, clock=Hurried()).result  # type: ignore[no-any-return]

    first = kept()

    assert (first["fetched"], first["functions"][0]["versions"]) == (PACKAGES, VERSIONS)
    assert sorted(asked) == [f"/{number}" for number in range(PACKAGES)]
    names = sorted(path.name for path in (shop.folder / "kept" / "packages").iterdir())
    assert names == sorted(f"{hashlib.sha256(code).hexdigest()}.zip" for code in CODE)
    assert many.calls["ListVersionsByFunction"] == 21
    assert many.calls["GetFunction"] == PACKAGES + 1
    assert many.calls["GetPolicy"] == VERSIONS + 1  # a new version's own policy is asked for once

    many.versions = [*range(11, VERSIONS + 1), VERSIONS + 1]  # ten were deleted, one is new
    second = kept()

    (path,) = (shop.folder / "kept").rglob("functions/**/many.json")
    document = json.loads(path.read_text())
    assert (second["fetched"], second["functions"][0]["versions"], second["functions"][0]["gone"]) == (0, 1001, 10)
    assert many.calls["GetPolicy"] == 2
    assert [each["version"] for each in document["versions"]] == [str(n) for n in range(1, VERSIONS + 2)]
    assert [each["sha256"] for each in document["versions"]] == [
        base64.b64encode(hashlib.sha256(CODE[n % PACKAGES]).digest()).decode() for n in range(1, VERSIONS + 2)
    ]
    assert kept("--again")["problems"] == []
    assert many.calls["GetPolicy"] == len(many.versions) + 1


def test_a_version_that_is_deleted_while_it_is_saved_is_told(shop: Shop, served: tuple[Many, list[str]]) -> None:
    many, _asked = served
    many.versions = [1, 2]
    answer = many.answer

    def gone(action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        if action == "GetFunction" and asked.get("Qualifier") == "1":
            raise NotFound("Function not found")
        return answer(action, asked)

    many.answer = gone  # type: ignore[method-assign]
    told = shop.run("backup", "many", "--to", "kept", "--json", wrap=lambda _inner: many, clock=Hurried())

    assert told.code == 1
    assert told.result["functions"][0]["versions"] == 1
    (problem,) = told.result["problems"]
    assert (problem["function"], problem["what"]) == ("many", "version 1: Function not found")


def test_a_function_that_took_anothers_place_gets_a_document_of_its_own(
    shop: Shop, served: tuple[Many, list[str]]
) -> None:
    """Deleted, and made again under the same name: version 1 is another now, and the old one is not lost."""
    many, _asked = served
    words = ("--json",)
    for many.shift, many.versions in ((0, [1, 2, 3]), (1, [1])):
        shop.ok("backup", "many", "--to", "kept", *words, wrap=lambda _inner: many, clock=Hurried())

    listed = shop.ok("backup", "list", "--from", "kept", "--json").result["functions"]
    assert sorted(each["versions"] for each in listed) == [1, 3]
    shop.ok("backup", "verify", "--from", "kept")


def test_latest_that_is_changed_while_it_is_saved_is_told(shop: Shop, served: tuple[Many, list[str]]) -> None:
    many, _asked = served
    many.versions = []
    answer = many.answer

    def changed(action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        many.shift = int(action == "GetFunction")  # what is fetched is the next deploy's
        return answer(action, asked)

    many.answer = changed  # type: ignore[method-assign]
    told = shop.run("backup", "many", "--to", "kept", wrap=lambda _inner: many, clock=Hurried())

    assert told.code == 1
    assert "the code of many:$LATEST was changed while it was saved. Back it up again." in told.err
    assert not list((shop.folder / "kept").rglob("*.zip"))
