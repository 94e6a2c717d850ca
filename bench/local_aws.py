"""The local AWS beside plain moto_server and AWS's own runtime interface emulator (RIE), in one run, in turns.

`python bench/local_aws.py [INVOKES] [VERSIONS]`. Start to the first answered Lambda call, GetAlias on one and on eight
kept-alive connections, the pages of many versions and what publishing them costs, and one warm handler with logs,
metrics and an alias's weights on. Prints medians, ratios and counts; asserts nothing. The RIE is in the wheel of
aws-sam-cli, which is downloaded once into the user's cache folder.
"""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.session
from botocore.config import Config

import pointsman.localaws.execution
from pointsman.localaws import control

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=123456789012/20260101/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
)
SOURCES = {
    "app.py": "import time\ndef echo(e, c): return e\ndef slow(e, c): time.sleep(0.1)\n",
    "app.js": "exports.echo = async (e) => e; exports.slow = () => new Promise((done) => setTimeout(done, 100));",
}
Row = tuple[str, float]


class Connection:
    """HTTP/1.1 over one socket, opened again when the server closes it: a client that costs next to nothing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self.opened = 0

    def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: {SIGNED}\r\n"
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.opened += 1
        self._socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._more()
        headers, _, rest = read.partition(b"\r\n\r\n")
        status, *lines = headers.decode("latin-1").split("\r\n")
        named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if named.get("transfer-encoding") == "chunked":
            while not rest.endswith(b"0\r\n\r\n"):
                rest += self._more()
        while len(rest) < int(named.get("content-length", 0)):
            rest += self._more()
        if named.get("connection", "").lower() == "close":
            self.close()
        return int(status.split()[1]), rest

    def _more(self) -> bytes:
        assert self._socket is not None
        chunk = self._socket.recv(1 << 18)
        if not chunk:
            raise ConnectionResetError("the server closed the connection within a reply")
        return chunk

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def milliseconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], environ: dict[str, str] | None = None, cwd: Path | None = None) -> Iterator[int]:
    started = subprocess.Popen(command, env=environ, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started.pid
    finally:
        started.terminate()
        started.wait()


def answered(port: int, path: str, body: bytes | None = None, patience_s: float = 30) -> None:
    """Return at the first 200."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with closing(Connection(port)) as connection:
            try:
                status, _ = connection.send("GET" if body is None else "POST", path, body or b"")
            except OSError:
                time.sleep(0.001)
                continue
            if status == 200:
                return
    raise SystemExit(f"{path} was not answered at port {port}")


def client(service: str, port: int) -> Any:
    environ = {"aws_access_key_id": "123456789012", "aws_secret_access_key": "x", "region_name": "eu-west-1"}
    url = f"http://127.0.0.1:{port}"
    return botocore.session.get_session().create_client(
        service, endpoint_url=url, config=Config(retries={"max_attempts": 0}), **environ
    )


def package(*names: str, note: str = "") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, SOURCES[name])
        archive.writestr("note.txt", note)
    return packed.getvalue()


def function(port: int, name: str, handler: str, runtime: str) -> None:
    role = f"arn:aws:iam::123456789012:role/bench-{name}"
    document = json.dumps({"Version": "2012-10-17", "Statement": []})
    client("iam", port).create_role(RoleName=f"bench-{name}", AssumeRolePolicyDocument=document)
    aws = client("lambda", port)
    aws.create_function(
        FunctionName=name, Role=role, Handler=handler, Runtime=runtime, MemorySize=256, Timeout=10,
        Code={"ZipFile": package("app.py", "app.js")},
    )  # fmt: skip
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})


# --- the measurements -----------------------------------------------------------------------------------------------


def start(folder: Path, turns: int = 9) -> list[Row]:
    ours: list[float] = []
    theirs: list[float] = []
    path = "/2015-03-31/functions/"
    for turn in range(turns + 1):
        for taken in (ours, theirs):
            port = free_port()
            command = (
                [sys.executable, "-m", "pointsman.localaws", "--directory", str(folder / f"start{turn}"), "--port"]
                if taken is ours
                else [str(Path(sys.executable).with_name("moto_server")), "-p"]
            )
            began = time.perf_counter()
            with process([*command, str(port)]):
                answered(port, path)
                if turn:  # the first warms the page cache
                    taken.append((time.perf_counter() - began) * 1000)
    return [
        ("start → first Lambda answer, ours", statistics.median(ours)),
        ("  moto_server", statistics.median(theirs)),
    ]


def rate(port: int, connections: int, seconds: float = 1.5) -> float:
    """GetAlias requests a second."""
    path = "/2015-03-31/functions/aliased/aliases/live"
    counts = [0] * connections
    over = time.perf_counter() + seconds

    def ask(number: int) -> None:
        with closing(Connection(port)) as connection:
            while time.perf_counter() < over:
                status, body = connection.send("GET", path)
                assert status in (200, 201), body
                counts[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def versions(port: int, count: int) -> tuple[list[float], float, int]:
    """(milliseconds of each publish, of the listing of all pages, how many calls that took)."""
    name = "published"
    function(port, name, "app.echo", PYTHON)
    took: list[float] = []
    with closing(Connection(port)) as connection:
        for number in range(count):
            while True:
                body = json.dumps({"Description": str(number)}).encode()
                status, said = connection.send("PUT", f"/2015-03-31/functions/{name}/configuration", body)
                if status == 200:
                    break
                assert status == 409, said
            while True:
                began = time.perf_counter()
                status, said = connection.send("POST", f"/2015-03-31/functions/{name}/versions", b"{}")
                if status == 201:
                    break
                assert status == 409, said
            took.append((time.perf_counter() - began) * 1000)

        def listed() -> int:
            calls, found, marker = 0, 0, ""
            while True:
                after = f"?Marker={quote(marker)}" if marker else ""
                _, body = connection.send("GET", f"/2015-03-31/functions/{name}/versions{after}")
                page = json.loads(body)
                calls, found, marker = calls + 1, found + len(page["Versions"]), page.get("NextMarker")
                if not marker:
                    assert found == count + 1, found
                    return calls

        calls = listed()
        return took, milliseconds(listed), calls


def invoke_path(name: str) -> str:
    return f"/2015-03-31/functions/{name}/invocations?Qualifier=live"


def invoked(connection: Connection, path: str, payload: bytes = b'{"n": 1}') -> None:
    status, body = connection.send("POST", path, payload)
    assert status == 200 and b"error" not in body.lower(), body


def weighted(port: int, name: str, handler: str, runtime: str) -> None:
    """A function behind an alias with two versions, half and half."""
    function(port, name, handler, runtime)
    aws = client("lambda", port)
    aws.publish_version(FunctionName=name)
    aws.update_function_configuration(FunctionName=name, Description="another")
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})
    aws.publish_version(FunctionName=name)
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=routing)


def emulator() -> Path:
    """AWS's runtime interface emulator."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pointsman-bench" / "aws-sam-cli"
    kind = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    binary = cache / "samcli" / "local" / "rapid" / f"aws-lambda-rie-{kind}"
    if not binary.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "pip", "install", "-q", "--target", str(cache), "--no-deps", "aws-sam-cli"], check=True)
    binary.chmod(0o755)
    return binary


@contextmanager
def emulating(folder: Path, runtime: str, handler: str) -> Iterator[int]:
    folder.mkdir()
    for name, source in SOURCES.items():
        (folder / name).write_text(source)
    node = Path(pointsman.localaws.execution.__file__).parent / "node" / "runtime.cjs"
    client_of = [sys.executable, "-m", "awslambdaric"] if runtime == PYTHON else [str(shutil.which("node")), str(node)]
    port = free_port()
    api = free_port()
    command = [str(emulator()), "--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    command += ["--runtime-api-address", f"127.0.0.1:{api}", *client_of, handler]
    environ = os.environ | {
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "10",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "_HANDLER": handler,
        "LAMBDA_TASK_ROOT": str(folder),
    }
    with process(command, environ, folder):
        answered(port, "/2015-03-31/functions/function/invocations", b'{"n": 1}')
        yield port


def warm(ports: dict[str, tuple[int, str]], invokes: int) -> dict[str, float]:
    """Median milliseconds of each, in turns of a hundred."""
    taken: dict[str, list[float]] = {name: [] for name in ports}
    connections = {name: Connection(port) for name, (port, _) in ports.items()}
    for name, (_, path) in ports.items():
        for _ in range(50):
            invoked(connections[name], path)
    for _ in range(max(1, invokes // 100)):
        for name, (_, path) in ports.items():
            for _ in range(100):
                taken[name].append(milliseconds(lambda name=name, path=path: invoked(connections[name], path)))
    for connection in connections.values():
        connection.close()
    return {name: statistics.median(each) for name, each in taken.items()}


def at_once(port: int, path: str, callers: int = 8) -> float:
    """Milliseconds until every one of the callers of a 100 ms handler has its answer; environments are warm."""

    def all_of_them() -> None:
        threads = [threading.Thread(target=one) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def one() -> None:
        with closing(Connection(port)) as connection:
            invoked(connection, path)

    for _ in range(3):  # with two versions, each caller may need either
        all_of_them()
    return statistics.median(milliseconds(all_of_them) for _ in range(5))


def cold(port: int, name: str, turns: int = 8) -> float:
    """Median milliseconds of the first invocation of a configuration nobody has called yet."""
    aws = client("lambda", port)
    taken = []
    with closing(Connection(port)) as connection:
        for turn in range(turns):
            aws.update_function_configuration(FunctionName=name, Description=f"cold {turn}")
            aws.get_waiter("function_updated_v2").wait(
                FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 99}
            )
            path = f"/2015-03-31/functions/{name}/invocations"
            taken.append(milliseconds(lambda path=path: invoked(connection, path)))
    return statistics.median(taken)


def standing(pid: int) -> dict[str, int]:
    children = [
        each for task in Path(f"/proc/{pid}/task").iterdir() for each in (task / "children").read_text().split()
    ]
    resident_kb = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4
    return {"processes": len(children), "files": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()), "kB": resident_kb}


def main(invokes: int, many: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pointsman-bench-"))
    with ExitStack() as over:
        over.callback(shutil.rmtree, folder, ignore_errors=True)
        rows = start(folder)
        for name, taken in rows:
            print(f"{name:46}{taken:9.1f} ms")
        print(f"{'  ratio':46}{rows[0][1] / rows[1][1]:9.2f} x    (at most 1.2)")

        ours = control.up(folder / "aws", settle_s=0.0)
        over.callback(control.down, folder / "aws")
        moto = free_port()
        over.enter_context(process([str(Path(sys.executable).with_name("moto_server")), "-p", str(moto)]))
        answered(moto, "/2015-03-31/functions/")

        for port in (ours.port, moto):
            function(port, "aliased", "app.echo", PYTHON)
            client("lambda", port).publish_version(FunctionName="aliased")
            client("lambda", port).create_alias(FunctionName="aliased", Name="live", FunctionVersion="1")
            rate(port, 1, 0.3)
        found = {
            (name, connections): statistics.median(rate(port, connections) for _ in range(3))
            for connections in (1, 8)
            for name, port in (("ours", ours.port), ("moto", moto))
        }
        for (name, connections), each in found.items():
            print(f"{f'GetAlias, {connections} connection(s), {name}':46}{each:9.0f} a second")
        print(f"{'  ratio with one':46}{found['ours', 1] / found['moto', 1]:9.2f} x    (at least 5)")
        print(f"{'  ours with eight / with one':46}{found['ours', 8] / found['ours', 1]:9.2f} x    (at least 1)")

        took, listed, calls = versions(ours.port, many)
        print(f"{f'publish, first 500 of {many} versions':46}{statistics.median(took[:500]):9.2f} ms")
        print(f"{'  last 500':46}{statistics.median(took[-500:]):9.2f} ms")
        print(f"{f'list all of them, {calls} calls':46}{listed:9.0f} ms   (at most 1000)")

        with closing(Connection(ours.port)) as connection:
            runs = json.loads(connection.send("GET", "/_pointsman/health")[1])["runtimes"]
        for runtime in (PYTHON, *[name for name in runs if name.startswith("nodejs")][-1:]):
            name = f"warm-{runtime.partition('.')[0]}"
            weighted(ours.port, name, "app.echo", runtime)
            rie = over.enter_context(emulating(folder / runtime, runtime, "app.echo"))
            both = {
                "ours": (ours.port, invoke_path(name)),
                "RIE": (rie, "/2015-03-31/functions/function/invocations"),
            }
            medians = warm(both, invokes)
            print(f"{f'{runtime}, warm invoke p50, ours':46}{medians['ours']:9.3f} ms   (at most 1.5)")
            print(f"{'  RIE':46}{medians['RIE']:9.3f} ms")
            print(f"{'  ratio':46}{medians['ours'] / medians['RIE']:9.2f} x    (at most 1.5)")
            print(f"{f'{runtime}, cold':46}{cold(ours.port, name):9.1f} ms   (at most 120)")
            weighted(ours.port, f"slow-{name}", "app.slow", runtime)
            taken_by_eight = at_once(ours.port, invoke_path(f"slow-{name}"))
            print(f"{f'{runtime}, eight callers of a 100 ms handler':46}{taken_by_eight:9.1f} ms")

        before = standing(ours.pid)
        with closing(Connection(ours.port)) as connection:
            for _ in range(10_000):
                invoked(connection, invoke_path("warm-python3"))
        after = standing(ours.pid)
        print("10,000 invokes leave: " + ", ".join(f"{name} {before[name]} → {after[name]}" for name in before))


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    main(*given, *(2000, 20_000)[len(given) :])
