"""Up, down, and everything that can be in the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from pointsman.localaws import control
from tests.localaws.conftest import client, make_function, until


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "aws"
    control.down(tmp_path / "aws")


def processes_of(directory: Path) -> list[int]:
    """Processes that name `directory` in their command line, or work in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes().decode(errors="replace") + str((entry / "cwd").readlink())
            except OSError:
                continue
            if str(directory) in text:
                found.append(int(entry.name))
    return found


def test_up_and_down(directory: Path) -> None:
    assert control.running(directory) is None
    assert control.down(directory) is False

    running = control.up(directory)

    assert control.running(directory) == running
    assert control.up(directory) == running
    assert control.down(directory) is True
    assert control.running(directory) is None
    assert processes_of(directory) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port))


def test_it_listens_on_loopback_only(directory: Path) -> None:
    running = control.up(directory)
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{running.port:04X}")
    ]
    assert listening == [f"0100007F:{running.port:04X}"]


def test_the_port_is_the_one_asked_for(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert control.up(directory, port=port).port == port
    with pytest.raises(control.LocalAwsError, match=f"already runs, at port {port}"):
        control.up(directory, port=port + 1)


def test_a_taken_port_is_said(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            control.LocalAwsError, match=rf"Port {port} on 127\.0\.0\.1 cannot be had: Address already in"
        ):
            control.up(directory, port=port)
    assert control.running(directory) is None
    assert control.up(directory, port=port).port == port


def test_two_at_once_are_one(directory: Path) -> None:
    code = (
        "import sys, pathlib; from pointsman.localaws import control; print(control.up(pathlib.Path(sys.argv[1])).pid)"
    )
    with ThreadPoolExecutor(3) as pool:
        ends = list(
            pool.map(
                lambda _: subprocess.run(
                    [sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=True
                ).stdout.strip(),
                range(3),
            )
        )
    running = control.running(directory)
    assert running is not None
    assert ends == [str(running.pid)] * 3


def test_a_second_server_in_the_same_directory_refuses(directory: Path) -> None:
    control.up(directory)
    second = subprocess.run(
        [sys.executable, "-m", "pointsman.localaws", "--directory", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert "Another local AWS is using" in second.stderr


def test_what_a_killed_server_left_is_cleaned(directory: Path) -> None:
    running = control.up(directory)
    os.kill(running.pid, signal.SIGKILL)
    until(lambda: control.running(directory) is None, "it is seen to be gone")
    assert not (directory / "server.json").exists()
    assert control.down(directory) is False
    assert control.up(directory).pid != running.pid


def test_a_recycled_pid_is_not_mistaken(directory: Path) -> None:
    directory.mkdir()
    facts = {"pid": os.getpid(), "port": 1, "url": "http://127.0.0.1:1", "started": 0.0}
    (directory / "server.json").write_text(json.dumps(facts))
    assert control.running(directory) is None
    (directory / "server.json").write_text(json.dumps(facts))
    assert control.down(directory) is False  # and this process lives


def test_functions_end_with_the_server(directory: Path) -> None:
    running = control.up(directory, settle_s=0)
    make_function(running, "f", "import os\ndef handler(e, c): return os.getpid()")
    process = int(client(running, "lambda").invoke(FunctionName="f")["Payload"].read())
    assert Path(f"/proc/{process}").exists()
    control.down(directory)
    assert not Path(f"/proc/{process}").exists()


def test_functions_end_with_a_killed_server(directory: Path) -> None:
    running = control.up(directory, settle_s=0)
    make_function(running, "f", "import os\ndef handler(e, c): return os.getpid()")
    process = int(client(running, "lambda").invoke(FunctionName="f")["Payload"].read())
    os.kill(running.pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{process}").exists(), "the function ends")


def test_shutdown_by_request(directory: Path) -> None:
    import http.client

    running = control.up(directory)
    connection = http.client.HTTPConnection("127.0.0.1", running.port)
    connection.request("POST", "/_pointsman/shutdown")
    assert connection.getresponse().status == 202
    connection.close()
    until(lambda: control.running(directory) is None, "it stops")


def test_reset_forgets(directory: Path) -> None:
    running = control.up(directory)
    client(running, "sqs").create_queue(QueueName="q")
    control.reset(directory)
    assert not directory.exists()
    assert "QueueUrls" not in client(control.up(directory), "sqs").list_queues()


def test_environment_keeps_the_users_profile_out(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = us-west-2\nendpoint_url = http://127.0.0.1:1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name, value in control.environment(control.up(directory), account="210987654321").items():
        monkeypatch.setenv(name, value)
    session = boto3.session.Session()
    assert session.region_name == "eu-west-1"
    assert session.client("sts").get_caller_identity()["Account"] == "210987654321"


def test_control_is_quick_to_import() -> None:
    """Every command of the CLI pays for it."""
    code = "import sys; import pointsman.localaws.control; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "moto", "uvicorn", "botocore", "http.client", "sqlite3"} & set(loaded)


def test_a_long_poll_does_not_hold_it_up(directory: Path) -> None:
    running = control.up(directory)
    sqs = client(running, "sqs")
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=20)
        assert control.down(directory) is True
        assert polling.exception() is not None  # cut off: had it been waited for, it would have an answer
