"""One version, other settings per alias: both helpers, packaged by `pointsman build`, in functions that really run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.journeys.conftest import Shop, control_runtime

RUNTIME = Path(__file__).parents[2] / "runtime"

PYTHON = """
    from dataclasses import asdict, dataclass
    from pointsman_runtime import AppConfig, Configuration, ConfigurationError, Parameters, alias, configuration

    @dataclass
    class Settings:
        topic: str
        retries: int = 3

    parameters = Configuration(Parameters("/{name}/{{alias}}"), into=Settings, fallback="STAGE")
    flags = Configuration(AppConfig("{name}", "flags"), fallback=None)

    def handler(event, context):
        try:
            return {{
                "alias": alias(context),
                "version": context.function_version,
                "file": configuration(context)["topic"],
                **({{"parameters": asdict(parameters.read(context))}} if event.get("parameters") else {{}}),
                **({{"flags": flags.read(context)}} if event.get("flags") else {{}}),
            }}
        except ConfigurationError as error:
            return {{"refused": type(error).__name__, "where": error.where}}
"""

NODE = """
    'use strict';
    const runtime = require('pointsman-runtime');
    const { AppConfig, Configuration, Parameters, alias, configuration } = runtime;

    const shape = { topic: 'string', retries: 'number?' };
    const parameters = new Configuration(new Parameters('/NAME/{alias}'), { shape, fallback: 'STAGE' });
    const flags = new Configuration(new AppConfig('NAME', 'flags'), { fallback: null });

    exports.handler = async (event, context) => {
      try {
        return {
          alias: alias(context) ?? null,
          version: context.functionVersion,
          file: (await configuration(context)).topic,
          ...(event.parameters && { parameters: { retries: 3, ...(await parameters.read(context)) } }),
          ...(event.flags && { flags: await flags.read(context) }),
        };
      } catch (error) {
        if (!(error instanceof runtime.ConfigurationError)) throw error;
        return { refused: error.name, where: error.where };
      }
    };
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=RUNTIME / "python",
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tarball")
    subprocess.run(
        ["npm", "pack", "--pack-destination", str(out)], cwd=RUNTIME / "node", check=True, capture_output=True
    )
    return next(out.glob("*.tgz"))


@pytest.fixture(scope="module")
def node_runtime() -> str:
    said = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    return f"nodejs{said.strip('v').partition('.')[0]}.x"


@pytest.fixture
def extension() -> Iterator[tuple[int, dict[str, Any]]]:
    """The HTTP side of AWS's AppConfig extension: (port, environment → content), and 404 for every other."""
    content: dict[str, Any] = {}

    class Extension(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, _, _, environment, _, profile = self.path.split("/")
            known = environment in content and profile == "flags"
            body = json.dumps(content.get(environment)).encode()
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Extension)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1], content
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def sdk_layer(aws: Callable[[str], Any]) -> str:
    """What AWS's Node runtimes bring, and the local ones do not: the SDK, found by NODE_PATH there as here."""
    packed = io.BytesIO()
    modules = RUNTIME / "node" / "node_modules"
    assert modules.is_dir(), "`make setup` installs runtime/node's packages"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as layer:
        for path in sorted(modules.rglob("*")):
            name = path.relative_to(modules)
            if path.is_file() and name.parts[0] != "typescript" and path.suffix in (".js", ".cjs", ".json"):
                layer.write(path, f"nodejs/node_modules/{name}")
    made = aws("lambda").publish_layer_version(LayerName="sdk", Content={"ZipFile": packed.getvalue()})
    return str(made["LayerVersionArn"])


def put_parameters(shop: Shop) -> None:
    for name, value in {"STAGE/topic": "s", "PROD/topic": "p", "PROD/retries": "9"}.items():
        shop.aws("ssm").put_parameter(Name=f"/{shop.name}/{name}", Value=value, Type="SecureString")


def put_files(shop: Shop) -> None:
    shop.write("config/default.json", '{"topic": "greetings"}')
    shop.write("config/PROD.json", '{"topic": "greetings-of-production"}')


def provision(shop: Shop, port: int, layers: str = "") -> str:
    environment = f'{{ AWS_APPCONFIG_EXTENSION_HTTP_PORT = "{port}" }}'
    return (
        f'{{ with = "direct", name = "{shop.name}", role = "{shop.role}", memory = 256, timeout = 20,'
        f" environment = {environment}{layers} }}"
    )


def ask(shop: Shop, qualifier: str | None, **event: Any) -> Any:
    qualified = {"Qualifier": qualifier} if qualifier else {}
    reply = shop.aws("lambda").invoke(FunctionName=shop.name, Payload=json.dumps(event).encode(), **qualified)
    answer = json.loads(reply["Payload"].read())
    assert "FunctionError" not in reply, answer
    return answer


def release(shop: Shop) -> None:
    """Version 1 under STAGE, PROD and the alias of a branch, and called by its number and without any, too."""
    shop.ok("deploy", "--build-id", "101")
    shop.ok("promote", "101", "--to", "PROD", "--approve")
    shop.aws("lambda").create_alias(FunctionName=shop.name, Name="feature-x", FunctionVersion="1")


def told(shop: Shop, content: dict[str, Any]) -> None:
    """The assertions are the same for both languages: that is the point of having the same helper twice."""
    expected = {
        "STAGE": ("STAGE", "1", "greetings"),
        "PROD": ("PROD", "1", "greetings-of-production"),
        "feature-x": ("feature-x", "1", "greetings"),
        "1": (None, "1", "greetings"),
        "$LATEST": (None, "$LATEST", "greetings"),
        None: (None, "$LATEST", "greetings"),
    }
    assert {qualifier: tuple(ask(shop, qualifier).values()) for qualifier in expected} == expected

    put_parameters(shop)
    parameters = {q: ask(shop, q, parameters=True)["parameters"] for q in ("PROD", "STAGE", "feature-x", "1", None)}
    stage = {"topic": "s", "retries": 3}
    production = {"topic": "p", "retries": 9}
    assert parameters == {"PROD": production, "STAGE": stage, "feature-x": stage, "1": stage, None: stage}

    content["PROD"] = {"banner": {"enabled": True}}
    assert ask(shop, "PROD", flags=True)["flags"] == {"banner": {"enabled": True}}
    assert ask(shop, "STAGE", flags=True) == {
        "refused": "ConfigurationMissing",
        "where": f"AppConfig {shop.name}/STAGE/flags",
    }
    assert ask(shop, "1", flags=True) == {"refused": "NoAlias", "where": "the invocation"}


def test_a_python_handler_is_told_its_alias_and_its_configuration(
    shop: Shop, wheel: Path, extension: tuple[int, dict[str, Any]]
) -> None:
    (shop.folder / "wheels").mkdir()
    (shop.folder / "wheels" / wheel.name).write_bytes(wheel.read_bytes())
    shop.write("requirements.txt", f"./wheels/{wheel.name}\n")
    shop.write("index.py", PYTHON.format(name=shop.name))
    put_files(shop)
    shop.configure(provision=provision(shop, extension[0]))

    release(shop)

    told(shop, extension[1])


def test_a_node_handler_is_told_its_alias_and_its_configuration(
    shop: Shop, tarball: Path, extension: tuple[int, dict[str, Any]], sdk_layer: str, node_runtime: str
) -> None:
    (shop.folder / "vendor").mkdir()
    (shop.folder / "vendor" / tarball.name).write_bytes(tarball.read_bytes())
    (shop.folder / "index.py").unlink()
    shop.write("package.json", json.dumps({"dependencies": {"pointsman-runtime": f"file:vendor/{tarball.name}"}}))
    shop.write("index.js", NODE.replace("NAME", shop.name))
    put_files(shop)
    shop.configure(provision=provision(shop, extension[0], f', layers = ["{sdk_layer}"]'))
    file = shop.folder / "pointsman.toml"
    text = file.read_text().replace(control_runtime(), node_runtime).replace('"python"', '"node"')
    file.write_text(text.replace('exclude   = ["check.py"]', 'exclude   = ["vendor/"]'))

    release(shop)

    told(shop, extension[1])


def test_the_python_package_holds_what_it_should_and_no_more(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"pointsman_runtime/{name}" for name in ("__init__.py", "aws.py", "errors.py", "files.py", "shape.py")}
    about = {
        f"pointsman_runtime-0.1.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")
    }
    assert held == modules | about | {"pointsman_runtime/py.typed"}
    metadata = zipfile.ZipFile(wheel).read("pointsman_runtime-0.1.0.dist-info/METADATA").decode()
    assert "Requires-Dist" not in metadata
    assert "# pointsman-runtime" in metadata  # the README is its long description


def test_the_node_package_holds_what_it_should_and_no_more(tarball: Path) -> None:
    with tarfile.open(tarball) as packed:
        held = {name.removeprefix("package/") for name in packed.getnames()}
    code = {"index.cjs", "index.mjs", "lib/errors.cjs", "lib/shape.cjs", "lib/sources.cjs"}
    assert held == code | {"index.d.cts", "index.d.mts", "package.json", "README.md", "LICENSE"}


def test_the_node_package_passes_its_own_tests() -> None:
    subprocess.run(["npm", "test"], cwd=RUNTIME / "node", check=True, timeout=120)


def test_the_types_of_the_node_package_say_what_they_should() -> None:
    subprocess.run(["npm", "run", "types"], cwd=RUNTIME / "node", check=True, timeout=120)
