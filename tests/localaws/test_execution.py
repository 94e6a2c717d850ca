"""Real Python, Node and shell handlers through LocalExecutor. Nothing is patched; every process is a real one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pointsman.localaws.contract import Outcome, Target
from pointsman.localaws.execution import LocalExecutor

PYTHON = f"python3.{sys.version_info.minor}"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:greeting:PROD"


def node_runtime() -> str | None:
    node = shutil.which("node")
    if node is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return f"nodejs{version[1:].split('.')[0]}.x"


NODE = node_runtime()
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")


class Stage:
    """One executor, the lines it logged, and a short way to invoke."""

    def __init__(self, executor: LocalExecutor, lines: list[tuple[str, int, str]]) -> None:
        self.executor = executor
        self.lines = lines

    async def __call__(self, target: Target, event: object = None, request_id: str = "r-1", **more: Any) -> Outcome:
        payload = json.dumps(event).encode()
        return await self.executor.invoke(target, payload, invoked_arn=ARN, request_id=request_id, **more)


def children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ended while we looked has no children
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def lives(pid: int) -> bool:
    """Whether a process still runs; a zombie nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(true: Callable[[], bool], within_s: float = 50) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[Stage]:
    """Whatever a test did, closing leaves no child process and no open file behind."""
    before, files = children(), open_files()
    lines: list[tuple[str, int, str]] = []

    async def sink(target: Target, stream: str, batch: list[tuple[int, str]]) -> None:
        assert target.log_group == "/aws/lambda/greeting"
        lines.extend((stream, at, line) for at, line in batch)

    executor = LocalExecutor(sink, endpoint=lambda: "http://127.0.0.1:4566", **options)
    try:
        yield Stage(executor, lines)
    finally:
        await executor.close()
    assert children() == before
    await until(lambda: open_files() <= files)


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Callable[..., Target]]:
    """`package({"app.py": source}, "app.handler")` → a Target; the unpacked files must be unchanged at the end."""
    made: list[tuple[Path, set[Path]]] = []

    def make(files: dict[str, str], handler: str, runtime: str = PYTHON, **more: Any) -> Target:
        folder = tmp_path / f"code{len(made)}"
        for name, source in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(source))
        made.append((folder, set(folder.rglob("*"))))
        target = Target(
            account="123456789012",
            region="us-east-1",
            function_name="greeting",
            version="7",
            revision=f"{folder.name}-{handler}",
            runtime=runtime,
            handler=handler,
            code=folder,
            environment={},
            memory_mb=256,
            timeout_s=10,
            log_group="/aws/lambda/greeting",
        )
        return replace(target, **more)

    yield make
    for folder, files in made:
        assert set(folder.rglob("*")) == files


Package = Callable[..., Target]


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 120))


def said(outcome: Outcome) -> Any:
    return json.loads(outcome.payload)


# Python


def test_a_python_handler_answers_and_stays_warm(package: Package) -> None:
    target = package(
        {
            "app.py": """
            import os
            calls = 0
            def handler(event, context):
                global calls
                calls += 1
                return {"event": event, "calls": calls, "pid": os.getpid(), "arn": context.invoked_function_arn,
                        "version": context.function_version, "id": context.aws_request_id,
                        "name": context.function_name,
                        "left": context.get_remaining_time_in_millis(), "custom": context.client_context.custom,
                        "memory": context.memory_limit_in_mb, "trace": os.environ["_X_AMZN_TRACE_ID"][:7]}
            """
        },
        "app.handler",
    )

    async def scene() -> None:
        async with stage() as invoke:
            first = await invoke(target, {"n": "é"}, client_context='{"custom": {\n"k": "v"}}')
            second = await invoke(target, 2, "r-2", client_context="eyJjdXN0b20iOiB7ImsiOiAidiJ9fQ==")

        assert (first.error, second.error) == (None, None)
        assert said(first)["event"] == {"n": "é"}
        assert said(first)["arn"] == ARN
        assert said(first)["custom"] == said(second)["custom"] == {"k": "v"}
        assert (said(first)["version"], said(first)["name"], said(first)["memory"]) == ("7", "greeting", "256")
        assert said(first)["trace"] == "Root=1-"
        assert 0 < said(first)["left"] <= 10_000
        assert (said(second)["calls"], said(second)["id"]) == (2, "r-2")
        assert said(first)["pid"] == said(second)["pid"]
        assert first.init_ms is not None
        assert second.init_ms is None
        assert first.billed_ms >= first.init_ms
        assert second.billed_ms < 1000

    run(scene)


def test_a_python_error_is_the_runtimes_json_and_keeps_the_process(package: Package) -> None:
    target = package(
        {"app.py": "import os\ndef handler(e, c):\n    if e: raise ValueError('no')\n    return os.getpid()\n"},
        "app.handler",
    )

    async def scene() -> None:
        async with stage() as invoke:
            before = await invoke(target, 0)
            failed = await invoke(target, 1)
            after = await invoke(target, 0)

        assert failed.error == "Unhandled"
        assert set(said(failed)) == {"errorMessage", "errorType", "requestId", "stackTrace"}
        assert (said(failed)["errorMessage"], said(failed)["errorType"]) == ("no", "ValueError")
        assert said(failed)["stackTrace"] == [
            "  File \"/var/task/app.py\", line 3, in handler\n    if e: raise ValueError('no')\n"
        ]
        assert before.payload == after.payload

    run(scene)


@pytest.mark.parametrize(
    ("source", "handler", "kind", "message"),
    [
        (
            "import nowhere",
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named",
        ),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("x = 1", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("1 / 0", "app.handler", "ZeroDivisionError", "division by zero"),
        (
            "import msgspec",
            "app.handler",
            "Runtime.ImportModuleError",
            "No module named 'msgspec'",
        ),  # ours, not Lambda's
    ],
)
def test_a_python_module_that_cannot_be_loaded_is_tried_twice(
    package: Package, source: str, handler: str, kind: str, message: str
) -> None:
    target = package({"app.py": source}, handler)

    async def scene() -> None:
        async with stage() as invoke:
            outcome = await invoke(target)
            again = await invoke(target)

        assert outcome.error == again.error == "Unhandled"
        assert said(outcome)["errorType"] == kind
        assert message in said(outcome)["errorMessage"]
        reports = [line for _, _, line in invoke.lines if line.startswith("INIT_REPORT")]
        assert [re.findall(r"Phase: (\w+)\tStatus: error\tError Type: (.*)", line) for line in reports] == [
            [("init", kind)],
            [("invoke", kind)],
        ] * 2

    run(scene)


def test_a_stack_trace_names_files_as_on_aws(package: Package) -> None:
    target = package({"app.py": "1 / 0"}, "app.handler")

    async def scene() -> None:
        async with stage() as invoke:
            trace = "".join(said(await invoke(target))["stackTrace"])

        assert set(re.findall(r'File "(/[^"]*/)', trace)) >= {"/var/task/", f"/var/lang/lib/{PYTHON}/importlib/"}
        assert str(target.code) not in trace

    run(scene)


def test_a_wrapper_starts_the_runtime(package: Package) -> None:
    files = {"wrap": '#!/bin/sh\nexport WRAPPED=$#\nexec "$@"\n', "app.py": "import os\n"}
    files["app.py"] += "def handler(e, c): return os.environ['WRAPPED']"
    target = package(files, "app.handler", environment={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"})
    (target.code / "wrap").chmod(0o755)
    missing = replace(target, revision="other", environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/nowhere"})

    async def scene() -> None:
        async with stage() as invoke:
            wrapped = await invoke(target)
            ended = await invoke(missing)

        assert int(said(wrapped)) >= 1
        assert said(ended) == {
            "errorType": "Runtime.ExitError",
            "errorMessage": "RequestId: r-1 Error: Runtime exited with error: exit status 127",
        }

    run(scene)


def test_what_is_provisioned_is_ready_before_it_is_called(package: Package) -> None:
    source = """
        import os
        kind = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
        print("born", kind)
        def handler(e, c): return kind
    """
    on_demand = package({"app.py": source}, "app.handler")
    provisioned = replace(on_demand, initialization="provisioned-concurrency")
    broken = replace(provisioned, handler="app.nothing")

    async def scene() -> None:
        async with stage() as invoke:
            assert await invoke.executor.prepare(provisioned)
            ready, first = await invoke(provisioned), await invoke(on_demand)
            assert not await invoke.executor.prepare(broken)

        assert (said(ready), ready.init_ms) == ("provisioned-concurrency", None)
        assert said(first) == "on-demand"
        assert first.init_ms is not None
        assert [line for _, _, line in invoke.lines if line.startswith("born")] == [
            "born provisioned-concurrency",
            "born on-demand",
            "born provisioned-concurrency",
        ]

    run(scene)


def test_boto3_is_there_as_on_aws_and_talks_to_the_local_endpoint(package: Package) -> None:
    source = """
        import boto3
        def handler(e, c):
            return [boto3.client("s3").meta.endpoint_url, boto3.session.Session().get_credentials().access_key]
    """
    target = package({"app.py": source}, "app.handler")

    async def scene() -> None:
        async with stage() as invoke:
            assert said(await invoke(target)) == ["http://127.0.0.1:4566", "123456789012"]

    run(scene)


def test_a_handler_may_spawn_python_processes(package: Package) -> None:
    source = """
        import multiprocessing
        def work(queue): queue.put("done")
        def handler(e, c):
            context = multiprocessing.get_context("spawn")
            queue = context.SimpleQueue()
            worker = context.Process(target=work, args=(queue,))
            worker.start()
            return queue.get()
    """
    target = package({"app.py": source}, "app.handler")

    async def scene() -> None:
        async with stage() as invoke:
            assert said(await invoke(target)) == "done"

    run(scene)


def test_the_environment_is_lambdas_and_nothing_else(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "secret")
    source = "import os\ndef handler(e, c): return [dict(os.environ), os.getcwd(), c.log_stream_name]"
    target = package({"app.py": source}, "app.handler", environment={"COLOUR": "blue", "TZ": "Europe/Rome"})

    async def scene() -> None:
        async with stage() as invoke:
            variables, folder, stream = said(await invoke(target))

        assert folder == variables["LAMBDA_TASK_ROOT"] == str(target.code)
        assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[7\][0-9a-f]{32}", stream)
        fixed = {
            "AWS_LAMBDA_FUNCTION_NAME": "greeting",
            "AWS_LAMBDA_FUNCTION_VERSION": "7",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/greeting",
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{PYTHON}",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
            "_HANDLER": "app.handler",
            "COLOUR": "blue",
            "TZ": "Europe/Rome",  # the function's own come last
        }
        assert {name: variables.get(name) for name in fixed} == fixed
        assert set(variables) - set(fixed) - {"LC_CTYPE"} == {  # Python sets that one where en_US is not installed
            "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API",
            "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH",
            "PYTHONDONTWRITEBYTECODE",
            "LANG", "HOME", "TMPDIR", "_X_AMZN_TRACE_ID",
        }  # fmt: skip

    run(scene)


def test_every_environment_has_a_scratch_folder_of_its_own(package: Package) -> None:
    source = """
        import os, tempfile
        def handler(e, c):
            open(os.path.join(tempfile.gettempdir(), e), "w").close()
            return [tempfile.gettempdir(), sorted(os.listdir(tempfile.gettempdir()))]
    """
    one, two = (package({"app.py": source}, "app.handler") for _ in range(2))

    async def scene() -> None:
        async with stage() as invoke:
            folder, first = said(await invoke(one, "a"))
            other, second = said(await invoke(two, "b"))
            _, third = said(await invoke(one, "c"))
            assert Path(folder).is_dir()

        assert (first, second, third) == (["a"], ["b"], ["a", "c"])
        assert folder != other
        assert not Path(folder).parent.exists()

    run(scene)


# How a call can end badly


def test_a_timeout_kills_the_grandchildren_too(package: Package) -> None:
    source = """
        import subprocess, time
        child = subprocess.Popen(["sleep", "1000"])
        def handler(e, c):
            print("child", child.pid)
            time.sleep(1000)
    """
    target = package({"app.py": source}, "app.handler", timeout_s=1)

    async def scene() -> None:
        async with stage() as invoke:
            outcome = await invoke(target, request_id="r-9")
            said_of = b"RequestId: r-9 Error: Task timed out after 1.00 seconds"
            assert outcome.payload == b'{"errorType":"Sandbox.Timedout","errorMessage":"%s"}' % said_of
            assert outcome.error == "Unhandled"
            assert outcome.duration_ms == 1000
            child = int(re.findall(rb"child (\d+)", outcome.log)[0])
            await until(lambda: not lives(child))
            assert b" r-9 Task timed out after 1.00 seconds\n\nEND RequestId: r-9\n" in outcome.log
            assert outcome.log.endswith(b"\tStatus: timeout\t\n")

            again = await invoke(target)
            assert again.init_ms is not None

    run(scene)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("os._exit(0)", "Runtime exited without providing a reason"),
        ("os._exit(3)", "Runtime exited with error: exit status 3"),
        ("os.abort()", "Runtime exited with error: signal: aborted"),
    ],
)
def test_a_process_that_ends_fails_its_call_only(package: Package, end: str, reason: str) -> None:
    target = package(
        {"app.py": f"import os\ndef handler(e, c):\n    print('x', end='')\n    if e: {end}\n"}, "app.handler"
    )

    async def scene() -> None:
        async with stage() as invoke:
            outcome = await invoke(target, 1)
            after = await invoke(target, 0)

        assert said(outcome) == {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: r-1 Error: {reason}"}
        assert f"x\nRequestId: r-1 Error: {reason}\nRuntime.ExitError\nEND".encode() in outcome.log
        assert (after.payload, after.error) == (b"null", None)

    run(scene)


def test_too_much_memory_is_killed_also_in_a_child(package: Package) -> None:
    hungry = "x = bytearray(300_000_000); import time; time.sleep(1000)"
    source = f"""
        import subprocess, sys
        def handler(e, c):
            subprocess.run([sys.executable, "-c", {hungry!r}])
    """
    target = package({"app.py": source}, "app.handler", memory_mb=128)

    async def scene() -> None:
        async with stage() as invoke:
            outcome = await invoke(target)

        assert said(outcome) == {
            "errorType": "Runtime.OutOfMemory",
            "errorMessage": "RequestId: r-1 Error: Runtime exited with error: signal: killed",
        }
        assert b"Max Memory Used: 128 MB\t" in outcome.log

    run(scene)


def test_an_answer_may_have_six_megabytes_and_no_more(package: Package) -> None:
    target = package({"app.py": "def handler(e, c): return 'x' * e"}, "app.handler")

    async def scene() -> None:
        async with stage() as invoke:
            largest = await invoke(target, 6_291_556 - 2)
            larger = await invoke(target, 6_291_556 - 1)
            after = await invoke(target, 1)

        assert len(largest.payload) == 6_291_556
        assert said(larger) == {
            "errorType": "Function.ResponseSizeTooLarge",
            "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        }
        assert larger.error == "Unhandled"
        assert after.payload == b'"x"'

    run(scene)


def test_an_initialisation_of_more_than_ten_seconds_is_tried_again_in_the_call(package: Package) -> None:
    source = """
        import os, time
        time.sleep(1000)
    """
    target = package({"app.py": source}, "app.handler", timeout_s=0.5)

    async def scene() -> None:
        async with stage(init_limit_s=0.5) as invoke:
            outcome = await invoke(target)

        assert said(outcome)["errorType"] == "Sandbox.Timedout"
        assert [line.split("\t")[1:] for _, _, line in invoke.lines if line.startswith("INIT_REPORT")] == [
            ["Phase: init", "Status: timeout"]
        ]

    run(scene)


def test_a_cancelled_call_leaves_no_process(package: Package) -> None:
    target = package(
        {"app.py": "import os, time\ndef handler(e, c):\n    print(os.getpid())\n    time.sleep(e)\n"}, "app.handler"
    )

    async def scene() -> None:
        async with stage(limit=1) as invoke:
            call = asyncio.create_task(invoke(target, 1000))
            await until(lambda: any(line.isdigit() for _, _, line in invoke.lines))
            waiting = asyncio.create_task(invoke(target, 0))
            abandoned = asyncio.create_task(invoke(target, 0))
            await asyncio.sleep(0)
            abandoned.cancel()
            call.cancel()
            for cancelled in (call, abandoned):
                with pytest.raises(asyncio.CancelledError):
                    await cancelled

            pid = next(int(line) for _, _, line in invoke.lines if line.isdigit())
            await until(lambda: not lives(pid))
            assert (await waiting).init_ms is not None  # the one place is free again

    run(scene)


def test_a_call_cancelled_while_starting_leaves_no_process(package: Package) -> None:
    target = package({"app.py": "import time; time.sleep(1000)"}, "app.handler")

    async def scene() -> None:
        before = children()
        async with stage() as invoke:
            call = asyncio.create_task(invoke(target))
            await until(lambda: len(children() - before) == 2)  # the function and the warden
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: len(children() - before) == 1)

    run(scene)


# The pool


TOGETHER = """
    import os, time
    def handler(meeting, c):
        folder, most = meeting
        os.makedirs(folder, exist_ok=True)
        open(f"{folder}/{os.getpid()}", "w").close()
        while len(os.listdir(folder)) < most:
            time.sleep(.01)
        return os.getpid()
"""
"""Answers once as many processes as it is told are at work."""


def test_eight_callers_of_a_slow_handler_are_served_at_once(package: Package, tmp_path: Path) -> None:
    target = package({"app.py": TOGETHER}, "app.handler", timeout_s=50)

    async def scene() -> None:
        async with stage() as invoke:
            cold = await asyncio.gather(*(invoke(target, [str(tmp_path / "cold"), 8]) for _ in range(8)))
            warm = await asyncio.gather(*(invoke(target, [str(tmp_path / "warm"), 8]) for _ in range(8)))

        assert len({outcome.payload for outcome in cold}) == 8
        assert {outcome.payload for outcome in warm} == {outcome.payload for outcome in cold}
        assert all(outcome.init_ms is None for outcome in warm)

    run(scene)


def test_revisions_and_versions_never_share_a_process(package: Package) -> None:
    target = package({"app.py": "import os\ndef handler(e, c): return os.getpid()"}, "app.handler")

    async def scene() -> None:
        async with stage() as invoke:
            pids = [
                (await invoke(each)).payload
                for each in (target, replace(target, version="8"), replace(target, revision="other"), target)
            ]

        assert len(set(pids)) == 3
        assert pids[0] == pids[3]

    run(scene)


def test_at_the_limit_the_longest_idle_goes_and_calls_queue(package: Package) -> None:
    source = "import os, time\ndef handler(e, c):\n    time.sleep(e)\n    return os.getpid()\n"
    one, two, three = (package({"app.py": source}, "app.handler") for _ in range(3))

    async def scene() -> None:
        async with stage(limit=2) as invoke:
            first, second = said(await invoke(one, 0)), said(await invoke(two, 0))
            await invoke(three, 0)
            await until(lambda: not lives(first))
            assert said(await invoke(two, 0)) == second

            outcomes = await asyncio.gather(*(invoke(each, 0.05) for each in (one, two, three) * 3))
            assert [outcome.error for outcome in outcomes] == [None] * 9

    run(scene)


def test_a_burst_at_the_limit_ends_as_many_idle_processes_as_it_needs(package: Package, tmp_path: Path) -> None:
    one, two = (package({"app.py": TOGETHER}, "app.handler", timeout_s=50) for _ in range(2))
    first, second = ([str(tmp_path / name), 4] for name in ("first", "second"))

    async def scene() -> None:
        async with stage(limit=4) as invoke:
            before = {said(outcome) for outcome in await asyncio.gather(*(invoke(one, first) for _ in range(4)))}
            after = {said(outcome) for outcome in await asyncio.gather(*(invoke(two, second) for _ in range(4)))}
            assert (len(before), len(after)) == (4, 4)
            await until(lambda: not any(map(lives, before)))

    run(scene)


def test_idle_processes_are_ended_after_a_while(package: Package) -> None:
    target = package({"app.py": "import os\ndef handler(e, c): return os.getpid()"}, "app.handler")

    async def scene() -> None:
        async with stage(idle_s=0.2) as invoke:
            pid = said(await invoke(target))
            await until(lambda: not lives(pid))
            assert said(await invoke(target)) != pid

    run(scene)


def test_retiring_ends_idle_processes_now_and_busy_ones_after_their_call(package: Package, tmp_path: Path) -> None:
    source = """
        import os, time
        def handler(go, c):
            print("at work")
            while go and not os.path.exists(go):
                time.sleep(.01)
            return os.getpid()
    """
    target, go = package({"app.py": source}, "app.handler", timeout_s=50), tmp_path / "go"
    other = replace(target, version="8")

    async def scene() -> None:
        async with stage() as invoke:
            idle = said(await invoke(target))
            kept = said(await invoke(other))
            busy = asyncio.create_task(invoke(target, str(go)))
            await until(lambda: sum(line == "at work" for _, _, line in invoke.lines) == 3)
            assert said(await invoke(target)) != idle  # idle's process is the busy one; this is a second

            await invoke.executor.retire("greeting", "123456789012", "us-east-1", "7")
            go.touch()
            outcome = await busy
            assert (outcome.error, said(outcome)) == (None, idle)
            await until(lambda: not lives(idle))
            assert lives(kept)

            await invoke.executor.retire("greeting", "123456789012", "us-east-1")
            assert not lives(kept)

    run(scene)


def test_close_ends_calls_under_way_and_refuses_new_ones(package: Package) -> None:
    target = package(
        {"app.py": "import os, time\ndef handler(e, c):\n    print(os.getpid())\n    time.sleep(1000)\n"}, "app.handler"
    )

    async def scene() -> None:
        async with stage(limit=1) as invoke:
            call = asyncio.create_task(invoke(target))
            waiting = asyncio.create_task(invoke(target))
            await until(lambda: any(line.isdigit() for _, _, line in invoke.lines))
            await invoke.executor.close()

            assert said(await call)["errorMessage"].endswith("Runtime exited with error: signal: killed")
            for refused in (waiting, invoke(target)):
                with pytest.raises(RuntimeError, match="closed"):
                    await refused
            pid = next(int(line) for _, _, line in invoke.lines if line.isdigit())
            assert not lives(pid)

    run(scene)


def test_close_also_ends_what_is_only_starting(package: Package) -> None:
    target = package({"app.py": "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(1000)\n"}, "app.handler")

    async def scene() -> None:
        async with stage() as invoke:
            call = asyncio.create_task(invoke(target))
            unstarted = asyncio.create_task(invoke(replace(target, revision="other")))
            await until(lambda: any(line.isdigit() for _, _, line in invoke.lines))
            late = asyncio.create_task(invoke(replace(target, revision="late")))
            await asyncio.sleep(0)
            await invoke.executor.close()
            for each in (call, unstarted, late):
                assert said(await each)["errorMessage"].endswith("Runtime exited with error: signal: killed")

    run(scene)


def test_nothing_outlives_a_server_killed_with_minus_9(package: Package) -> None:
    source = """
        import os, subprocess
        def handler(e, c):
            return [os.getpid(), subprocess.Popen(["sleep", "1000"]).pid, os.path.dirname(os.environ["TMPDIR"])]
    """
    target = package({"app.py": source}, "app.handler")
    server = f"""
        import asyncio
        from pathlib import Path, PosixPath
        from pointsman.localaws.contract import Target
        from pointsman.localaws.execution import LocalExecutor

        async def main():
            async def sink(*_): pass
            executor = LocalExecutor(sink, endpoint=lambda: None)
            outcome = await executor.invoke({target!r}, b"null", invoked_arn="arn", request_id="r")
            print(outcome.payload.decode(), flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """

    async def scene() -> None:
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(server)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process, process.stdout:
            function, grandchild, scratch = json.loads(process.stdout.readline())
            assert lives(function)
            assert lives(grandchild)
            process.send_signal(signal.SIGKILL)
            await until(lambda: not lives(function) and not lives(grandchild) and not Path(scratch).exists())

    run(scene)


def test_a_runtime_at_work_after_its_answer_is_neither_killed_nor_waited_for(package: Package) -> None:
    source = """\
        #!%s
        import os, time, urllib.request
        api = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation/"
        while True:
            with urllib.request.urlopen(api + "next") as answer:
                request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
            urllib.request.urlopen(api + request_id + "/response", b"%%d" %% os.getpid()).close()
            time.sleep(1000)
        """
    target = package({"bootstrap": source % sys.executable}, "any", "provided.al2")
    (target.code / "bootstrap").chmod(0o755)

    async def scene() -> None:
        async with stage() as invoke:
            first = await invoke(target)
            second = await invoke(target)
            assert first.payload != second.payload
            assert lives(said(first))

    run(scene)


# Logs


def test_the_log_is_lambdas_in_order_and_complete(package: Package) -> None:
    source = """
        import logging, sys
        print("loading")
        def handler(e, c):
            print("one")
            print("\\ntwo", file=sys.stderr)  # CloudWatch has no empty lines
            logging.getLogger().warning("three\\nof two lines")
            print("x" * 200_000)
            print("no end", end="")
    """
    target = package({"app.py": source}, "app.handler")

    async def scene() -> None:
        async with stage() as invoke:
            first = await invoke(target)
            second = await invoke(target, request_id="r-2")

        texts = [line for _, _, line in invoke.lines]
        assert len({stream for stream, _, _ in invoke.lines}) == 1
        assert sorted(at for _, at, _ in invoke.lines) == [at for _, at, _ in invoke.lines]
        assert texts[0].startswith(f"INIT_START Runtime Version: python:{PYTHON[6:]}")
        assert texts[1:5] == ["loading", "START RequestId: r-1 Version: 7", "one", "two"]
        assert re.fullmatch(r"\[WARNING\]\t\S+Z\tr-1\tthree\nof two lines", texts[5])
        assert texts[6:9] == ["x" * 200_000, "no end", "END RequestId: r-1"]
        assert re.fullmatch(
            r"REPORT RequestId: r-1\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB\t"
            r"Max Memory Used: [1-9]\d* MB\tInit Duration: \d+\.\d\d ms\t",
            texts[9],
        )
        assert texts[10] == "START RequestId: r-2 Version: 7"
        assert first.log.decode() == "".join(f"{text}\n" for text in texts[2:10])
        assert second.log.decode() == "".join(f"{text}\n" for text in texts[10:])
        assert "Init Duration" not in texts[-1]

    run(scene)


def test_a_failing_or_slow_log_sink_does_not_hold_a_call_up(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    target = package({"app.py": "def handler(e, c): print(e)"}, "app.handler")

    async def scene() -> None:
        gate = asyncio.Event()
        seen: list[str] = []

        async def sink(target: Target, stream: str, batch: list[tuple[int, str]]) -> None:
            await gate.wait()
            if not seen:
                seen.append("lost")
                raise ConnectionError("no CloudWatch")
            seen.extend(line for _, line in batch)

        executor = LocalExecutor(sink, endpoint=lambda: None)
        for number in range(3):
            await executor.invoke(target, b"%d" % number, invoked_arn=ARN, request_id=f"r-{number}")
            await asyncio.sleep(0.03)  # longer than a batch is kept open
        gate.set()
        await executor.close()
        assert "2" in seen
        assert "log lines of /aws/lambda/greeting were lost" in caplog.text

    run(scene)


# Node.js


NODE_SOURCE = """
    exports.async = async (event, context) => ({ event, version: context.functionVersion,
      arn: context.invokedFunctionArn,
      id: context.awsRequestId, left: context.getRemainingTimeInMillis(), custom: context.clientContext.custom,
      memory: context.memoryLimitInMB, name: context.functionName, group: context.logGroupName });
    exports.pid = async () => process.pid;
    exports.promise = () => new Promise((resolve) => setTimeout(resolve, 5, 'promise'));
    exports.callback = (event, context, callback) => {
      callback(null, 'callback');
      setTimeout(() => console.log('later'), 30);
    };
    exports.callbackNow = (event, context, callback) => {
      context.callbackWaitsForEmptyEventLoop = false;
      setTimeout(() => console.log('much later'), 60000);
      callback(null, 'now');
    };
    exports.callbackError = (event, context, callback) => callback(new TypeError('callback'));
    exports.succeed = (event, context) => context.succeed('succeed');
    exports.done = (event, context) => setTimeout(() => context.done(null, 'done'), 5);
    exports.fail = (event, context) => context.fail(new RangeError('fail'));
    exports.throws = () => { throw new RangeError('thrown'); };
    exports.rejects = async () => { throw 'a string'; };
    exports.nothing = () => {};
    exports.never = async () => { await new Promise(() => {}); };
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    exports.unhandled = async () => { Promise.reject(new Error('lost')); await pause(1000); };
    exports.uncaught = async () => { setTimeout(() => { throw new Error('late'); }, 1); await pause(1000); };
    exports.exits = async () => process.exit(2);
    exports.circular = async () => { const a = {}; a.a = a; return a; };
    exports.stream = awslambda.streamifyResponse(async (event, stream) => { stream.write('a'); stream.end('b'); });
    exports.logs = async () => {
      console.log('one', { a: 1 });
      console.error('two\\nlines');
      process.stdout.write('raw\\n');
    };
    exports.size = async (event) => event.length;
    exports.large = async (n) => 'x'.repeat(n);
    exports.sleep = async () => { await pause(60000); };
"""


@needs_node
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("promise", "promise"),
        ("callback", "callback"),
        ("callbackNow", "now"),
        ("succeed", "succeed"),
        ("done", "done"),
        ("nothing", None),
    ],
)
def test_every_way_a_node_handler_may_answer(package: Package, name: str, answer: object) -> None:
    target = package({"index.js": NODE_SOURCE}, f"index.{name}", NODE)

    async def scene() -> None:
        async with stage() as invoke:
            for number in range(3):
                outcome = await invoke(target)
                assert (outcome.init_ms is None) == (number > 0)
                assert (said(outcome), outcome.error) == (answer, None)
                assert outcome.duration_ms < 1000
                assert (b"later" in outcome.log) == (name == "callback")  # it waits until the event loop is empty

    run(scene)


@needs_node
@pytest.mark.parametrize(
    ("name", "kind", "message", "stays"),
    [
        ("callbackError", "TypeError", "callback", True),
        ("fail", "RangeError", "fail", True),
        ("throws", "RangeError", "thrown", True),
        ("rejects", "string", "a string", True),
        ("never", "Runtime.NodeJsExit", "nodejs process exited without fulfilling a promise", True),
        ("circular", "Error", "Unable to stringify response body", True),
        ("unhandled", "Runtime.UnhandledPromiseRejection", "Error: lost", False),
        ("uncaught", "Error", "late", False),
        ("exits", "Runtime.ExitError", "RequestId: r-1 Error: Runtime exited with error: exit status 2", False),
    ],
)
def test_every_way_a_node_handler_may_fail(package: Package, name: str, kind: str, message: str, stays: bool) -> None:
    target = package({"index.js": NODE_SOURCE}, f"index.{name}", NODE)

    async def scene() -> None:
        async with stage() as invoke:
            outcome = await invoke(target)
            again = await invoke(target)

        assert outcome.error == again.error == "Unhandled"
        assert (said(outcome)["errorType"], said(outcome)["errorMessage"]) == (kind, message)
        if kind != "Runtime.ExitError":
            assert set(said(outcome)) == {"errorType", "errorMessage", "trace"}
            assert b"\tERROR\t" in outcome.log
        assert (again.init_ms is None) == stays

    run(scene)


@needs_node
def test_a_node_context_is_complete(package: Package) -> None:
    target = package({"index.js": NODE_SOURCE}, "index.async", NODE)

    async def scene() -> None:
        async with stage() as invoke:
            answer = said(await invoke(target, {"n": "é"}, client_context='{"custom": {"k": "v"}}'))

        assert 0 < answer.pop("left") <= 10_000
        assert answer == {
            "event": {"n": "é"}, "version": "7", "arn": ARN, "id": "r-1", "custom": {"k": "v"},
            "memory": "256", "name": "greeting", "group": "/aws/lambda/greeting",
        }  # fmt: skip

    run(scene)


@needs_node
@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"index.mjs": "export const handler = async () => 'ok';"}, "index.handler"),
        ({"index.cjs": "exports.handler = async () => 'ok';"}, "index.handler"),
        (
            {"index.js": "export const handler = async () => 'ok';", "package.json": '{"type": "module"}'},
            "index.handler",
        ),
        (
            {"index.mjs": "const late = await Promise.resolve('ok'); export const handler = async () => late;"},
            "index.handler",
        ),
        ({"dist/main.js": "exports.handler = async () => 'ok';"}, "dist/main.handler"),
        ({"a/b.js": "exports.c = { handler: async () => 'ok' };"}, "a/b.c.handler"),
        ({"node_modules/lib/index.js": "exports.handler = async () => 'ok';"}, "lib.handler"),
        (
            {
                "src/app.js": "export { handler } from './other.js';",
                "src/other.js": "export const handler = async () => 'ok';",
                "package.json": '{"type": "module"}',
            },
            "src/app.handler",
        ),
    ],
)
def test_a_node_handler_is_found_wherever_lambda_looks(package: Package, files: dict[str, str], handler: str) -> None:
    target = package(files, handler, NODE)

    async def scene() -> None:
        async with stage() as invoke:
            assert said(await invoke(target)) == "ok"

    run(scene)


@needs_node
@pytest.mark.parametrize(
    ("source", "handler", "kind", "message"),
    [
        ("require('nowhere')", "index.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'nowhere'"),
        ("not javascript", "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
        ("exports.other = 1", "index.handler", "Runtime.HandlerNotFound", "index.handler is undefined or not exported"),
        ("exports.handler = 1", "index.handler", "Runtime.HandlerNotFound", "index.handler is not a function"),
        ("", "index", "Runtime.MalformedHandlerName", "Bad handler"),
        ("", "missing.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'missing'"),
        ("null.x", "index.handler", "TypeError", "Cannot read properties of null"),
    ],
)
def test_a_node_module_that_cannot_be_loaded(
    package: Package, source: str, handler: str, kind: str, message: str
) -> None:
    target = package({"index.js": source}, handler, NODE)

    async def scene() -> None:
        async with stage() as invoke:
            outcome = await invoke(target)

        assert said(outcome)["errorType"] == kind
        assert said(outcome)["errorMessage"].startswith(message)
        assert outcome.error == "Unhandled"

    run(scene)


@needs_node
def test_node_log_lines_have_lambdas_form(package: Package) -> None:
    target = package({"index.js": NODE_SOURCE}, "index.logs", NODE)

    async def scene() -> None:
        async with stage() as invoke:
            outcome = await invoke(target)

        stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
        assert re.search(
            rf"Version: 7\n{stamp}\tr-1\tINFO\tone {{ a: 1 }}\n{stamp}\tr-1\tERROR\ttwo\nlines\nraw\nEND ",
            outcome.log.decode(),
        )
        assert any(line.endswith("two\nlines") for _, _, line in invoke.lines)  # one event, two lines

    run(scene)


@needs_node
def test_node_streams_large_answers_and_timeouts(package: Package) -> None:
    files = {"index.js": NODE_SOURCE}

    async def scene() -> None:
        async with stage() as invoke:
            assert (await invoke(package(files, "index.stream", NODE))).payload == b"ab"

            size = package(files, "index.size", NODE, memory_mb=512)
            assert said(await invoke(size, "x" * 5_000_000)) == 5_000_000

            large = package(files, "index.large", NODE, memory_mb=512)
            assert len((await invoke(large, 6_000_000)).payload) == 6_000_002
            assert said(await invoke(large, 7_000_000))["errorType"] == "Function.ResponseSizeTooLarge"
            assert (await invoke(large, 1)).payload == b'"x"'

            slow = await invoke(package(files, "index.sleep", NODE, timeout_s=0.5))
            assert said(slow)["errorType"] == "Sandbox.Timedout"

    run(scene)


SDK_V2 = {
    "node_modules/aws-sdk/package.json": '{"name": "aws-sdk", "main": "lib/aws.js"}',
    # As the real one does: the loader replaces the configuration that the core has made
    "node_modules/aws-sdk/lib/core.js": """
        class Config { update(values) { Object.assign(this, values); } }
        module.exports = { Config, config: new Config() };
    """,
    "node_modules/aws-sdk/lib/node_loader.js": "const AWS = require('./core'); AWS.config = new AWS.Config();",
    "node_modules/aws-sdk/lib/aws.js": "require('./node_loader'); module.exports = require('./core');",
    "node_modules/aws-sdk/clients/s3.js": """
        require('../lib/node_loader');
        const AWS = require('../lib/core');
        module.exports = class S3 { constructor(options) { this.config = { ...AWS.config, ...options }; } };
    """,
}


@needs_node
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("index.js", "const { config } = require('aws-sdk'); exports.handler = async () => config;"),
        ("index.js", "const S3 = require('aws-sdk/clients/s3'); exports.handler = async () => new S3().config;"),
        ("index.mjs", "import AWS from 'aws-sdk'; export const handler = async () => AWS.config;"),
        ("index.mjs", "import S3 from 'aws-sdk/clients/s3.js'; export const handler = async () => new S3().config;"),
    ],
)
def test_version_2_of_the_javascript_sdk_finds_the_local_aws(package: Package, name: str, source: str) -> None:
    target = package({**SDK_V2, name: source}, "index.handler", NODE)

    async def scene() -> None:
        async with stage() as invoke:
            assert said(await invoke(target)) == {"endpoint": "http://127.0.0.1:4566", "s3ForcePathStyle": True}

    run(scene)


# Custom runtimes


BOOTSTRAP = """\
#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  headers=$(mktemp)
  event=$(curl -sS -D "$headers" "$api/invocation/next") || exit 1
  id=$(grep -i '^lambda-runtime-aws-request-id' "$headers" | tr -d '[:space:]' | cut -d: -f2)
  echo "got $event"
  case "$event" in
    '"fail"') curl -sS -d '{"errorType":"Oops","errorMessage":"sh"}' "$api/invocation/$id/error" ;;
    '"chunked"')
      echo answer | curl -sS -H 'Transfer-Encoding: chunked' --data-binary @- "$api/invocation/$id/response" ;;
    '"large"')
      head -c 3000000 /dev/zero | tr '\\0' x | curl -sS --data-binary @- "$api/invocation/$id/response" ;;
    '"stranger"') curl -sS -d x "$api/invocation/nobody/response"; exit 4 ;;
    *) curl -sS -d "$event" "$api/invocation/$id/response" ;;
  esac
done
"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="the bootstrap speaks HTTP through curl")
def test_a_bootstrap_in_sh(package: Package) -> None:
    target = package({"bootstrap": BOOTSTRAP}, "any", "provided.al2023")
    (target.code / "bootstrap").chmod(0o755)

    async def scene() -> None:
        async with stage() as invoke:
            assert (await invoke(target, {"a": 1})).payload == b'{"a": 1}'
            failed = await invoke(target, "fail")
            assert (failed.payload, failed.error) == (b'{"errorType":"Oops","errorMessage":"sh"}', "Unhandled")
            assert b'got "fail"\n' in failed.log
            assert (await invoke(target, "chunked")).payload == b"answer\n"
            large = await invoke(target, "large")
            assert large.payload == b"x" * 3_000_000
            assert large.duration_ms < 900  # curl was asked to continue; otherwise it waits for a second
            stranger = await invoke(target, "stranger")
            assert said(stranger)["errorMessage"].endswith("exit status 4")
            assert b'"errorType":"InvalidRequestID"' in stranger.log

    run(scene)


UP_TO_THE_END = """\
#!%s
import os, socket
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")

def call(method, path, body=b""):
    with socket.create_connection((host, int(port))) as stream:
        head = f"{method} /2018-06-01/runtime/invocation/{path} {ASKING}Content-Length: {len(body)}\\r\\n\\r\\n"
        stream.sendall(head.encode() + body)
        return stream.makefile("rb").read()

while True:
    head, _, event = call("GET", "next").partition(b"\\r\\n\\r\\n")
    lines = [line.partition(": ") for line in head.decode().splitlines()]
    names = {name.lower(): value for name, _, value in lines}
    call("POST", names["lambda-runtime-aws-request-id"] + "/response", event)
"""


@pytest.mark.parametrize("asking", ["HTTP/1.1\\r\\nHost: it\\r\\nConnection: close\\r\\n", "HTTP/1.0\\r\\n"])
def test_a_bootstrap_that_reads_up_to_the_end(package: Package, asking: str) -> None:
    """Runtimes without an HTTP library ask for a connection that is closed, and read until it is."""
    source = UP_TO_THE_END.replace("{ASKING}", asking) % sys.executable
    target = package({"bootstrap": source}, "any", "provided.al2023", timeout_s=20)
    (target.code / "bootstrap").chmod(0o755)

    async def scene() -> None:
        async with stage() as invoke:
            for event in ({"a": 1}, {"a": 2}):
                answer = await invoke(target, event)
                assert (answer.error, json.loads(answer.payload)) == (None, event)

    run(scene)


@pytest.mark.parametrize(
    ("files", "mode", "reason"),
    [
        ({"other": ""}, 0o755, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ({"bootstrap": "#!/bin/sh\n"}, 0o644, "fork/exec /var/task/bootstrap: permission denied"),
        ({"bootstrap": "\x7fnot a program"}, 0o755, "fork/exec /var/task/bootstrap: exec format error"),
    ],
)
def test_a_bootstrap_that_cannot_be_started(package: Package, files: dict[str, str], mode: int, reason: str) -> None:
    target = package(files, "any", "provided.al2023")
    for name in files:
        (target.code / name).chmod(mode)

    async def scene() -> None:
        async with stage() as invoke:
            outcome = await invoke(target)

        assert said(outcome) == {
            "errorType": "Runtime.InvalidEntrypoint",
            "errorMessage": f"RequestId: r-1 Error: {reason}",
        }

    run(scene)


def test_a_runtime_that_is_not_here_says_what_is(package: Package) -> None:
    target = package({"app.rb": ""}, "app.handler", "ruby3.3")

    async def scene() -> None:
        async with stage() as invoke:
            assert PYTHON in invoke.executor.runtimes()
            assert "provided.al2023" in invoke.executor.runtimes()
            assert NODE is None or NODE in invoke.executor.runtimes()
            outcome = await invoke(target)

        assert "ruby3.3 cannot be run on this machine; it has " in said(outcome)["errorMessage"]
        assert outcome.error == "Unhandled"

    run(scene)


def test_another_python_that_cannot_be_prepared_says_why_and_is_offered_no_more(
    package: Package, tmp_path: Path
) -> None:
    other = "python3.13" if PYTHON != "python3.13" else "python3.12"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / other).write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    (tmp_path / "bin" / other).chmod(0o755)
    target = package({"app.py": ""}, "app.handler", other)

    async def scene() -> None:
        async with stage(path=str(tmp_path / "bin"), cache=tmp_path / "cache") as invoke:
            assert other in invoke.executor.runtimes()
            outcome = await invoke(target)

            assert f"cannot be installed for {other}: " in said(outcome)["errorMessage"]
            assert other not in invoke.executor.runtimes()
            assert list((tmp_path / "cache").iterdir()) == []

    run(scene)


# Answers that are sent while they are made


class Reader:
    """A Stream, and a way to wait for what comes."""

    def __init__(self) -> None:
        self.content_type: str | None = None
        self.got = b""
        self._more = asyncio.Event()

    def begin(self, content_type: str) -> None:
        assert self.content_type is None
        self.content_type = content_type

    def write(self, chunk: bytes) -> None:
        self.got += chunk
        self._more.set()

    async def until(self, end: bytes) -> None:
        async with asyncio.timeout(50):
            while not self.got.endswith(end):
                self._more.clear()
                await self._more.wait()


STREAMING = """
    const fs = require('node:fs');
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    exports.slow = awslambda.streamifyResponse(async (go, stream, context) => {
      stream.setContentType('text/plain');
      stream.write('first,');
      while (!fs.existsSync(go)) await pause(5);
      stream.write('');
      stream.end('last');
    });
    exports.prelude = awslambda.streamifyResponse(async (event, stream) => {
      stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201 });
      stream.end('body');
    });
    exports.piped = awslambda.streamifyResponse(async (size, stream) => {
      const { Readable } = require('node:stream');
      const { pipeline } = require('node:stream/promises');
      function* zeros() { for (let n = 0; n < size; n += 65536) yield Buffer.alloc(65536); }
      await pipeline(Readable.from(zeros()), stream);
    });
    exports.fails = awslambda.streamifyResponse(async (event, stream) => {
      if (event === 'never') return;
      if (event !== 'early' && event !== 'done') { stream.write('so '); stream.write('far'); }
      if (event === 'destroyed') { await pause(20); stream.destroy(new RangeError('gone')); return; }
      if (event === 'uncaught') { setTimeout(() => { throw new RangeError('gone'); }, 1); await pause(1000); }
      if (event === 'done') return stream.end('fine');
      throw new RangeError('gone');
    });
"""


@needs_node
def test_a_node_stream_arrives_while_it_is_made(package: Package, tmp_path: Path) -> None:
    slow, go = package({"index.js": STREAMING}, "index.slow", NODE), tmp_path / "go"

    async def scene() -> None:
        async with stage() as invoke:
            reader = Reader()
            call = asyncio.ensure_future(invoke(slow, str(go), stream=reader))
            await reader.until(b"first,")
            assert (reader.content_type, call.done()) == ("text/plain", False)
            go.touch()
            outcome = await call
            assert (reader.got, outcome.payload, outcome.error) == (b"first,last", b"", None)
            assert (await invoke(slow, str(go))).payload == b"first,last"  # Invoke gets it in one piece
            assert outcome.init_ms is not None
            again = Reader()
            assert (await invoke(slow, str(go), stream=again)).init_ms is None
            assert again.got == b"first,last"

    run(scene)


@needs_node
def test_a_node_stream_may_have_a_prelude_and_more_than_six_megabytes(package: Package) -> None:
    files = {"index.js": STREAMING}

    async def scene() -> None:
        async with stage() as invoke:
            reader = Reader()
            await invoke(package(files, "index.prelude", NODE), stream=reader)
            assert reader.content_type == "application/vnd.awslambda.http-integration-response"
            assert reader.got == b'{"statusCode":201}' + bytes(8) + b"body"
            large = Reader()
            piped = package(files, "index.piped", NODE)
            outcome = await invoke(piped, 10_000_000, stream=large)
            assert (outcome.error, len(large.got)) == (None, 10_027_008)
            assert said(await invoke(piped, 10_000_000))["errorType"] == "Function.ResponseSizeTooLarge"

    run(scene)


@needs_node
@pytest.mark.parametrize(
    ("event", "got", "kind", "stays"),
    [
        ("early", b"", "RangeError", True),
        ("late", b"so far", "RangeError", True),
        ("uncaught", b"so far", "RangeError", False),
        ("destroyed", b"so far", "RangeError", True),
        ("never", b"", "Runtime.NodeJsExit", True),
    ],
)
def test_every_way_a_node_stream_may_fail(package: Package, event: str, got: bytes, kind: str, stays: bool) -> None:
    target = package({"index.js": STREAMING}, "index.fails", NODE)

    async def scene() -> None:
        async with stage() as invoke:
            reader = Reader()
            outcome = await invoke(target, event, stream=reader)
            assert (outcome.error, said(outcome)["errorType"], reader.got) == ("Unhandled", kind, got)
            after = Reader()
            assert ((await invoke(target, "done", stream=after)).init_ms is None) == stays
            assert after.got == b"fine"

    run(scene)


STREAMING_BOOTSTRAP = f"""\
#!{sys.executable}
import base64, http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    reply = api.getresponse()
    event = json.loads(reply.read())
    path = f"/2018-06-01/runtime/invocation/{{reply.headers['Lambda-Runtime-Aws-Request-Id']}}/response"
    api.putrequest("POST", path)
    for name, value in {{"Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked"}}.items():
        api.putheader(name, value)
    api.endheaders()
    for word in event["words"]:
        api.send(b"%x\\r\\n%b\\r\\n" % (len(word), word.encode()))
    trailers = "".join(f"{{name}}: {{value}}\\r\\n" for name, value in event["trailers"].items())
    api.send(f"0\\r\\n{{trailers}}\\r\\n".encode())
    print(api.getresponse().read())
"""


def test_a_custom_runtime_may_stream_and_fail_in_the_trailers(package: Package) -> None:
    target = package({"bootstrap": STREAMING_BOOTSTRAP}, "any", "provided.al2023")
    (target.code / "bootstrap").chmod(0o755)
    document = b'{"errorType":"Oops","errorMessage":"half"}'

    async def scene() -> None:
        async with stage() as invoke:
            fine = Reader()
            outcome = await invoke(target, {"words": ["one ", "two"], "trailers": {}}, stream=fine)
            assert (fine.content_type, fine.got, outcome.error) == ("application/octet-stream", b"one two", None)
            half = Reader()
            type_only = {"Lambda-Runtime-Function-Error-Type": "Oops"}
            whole = type_only | {"Lambda-Runtime-Function-Error-Body": base64.b64encode(document).decode()}
            outcome = await invoke(target, {"words": ["half"], "trailers": whole}, stream=half)
            assert (half.got, outcome.payload, outcome.error) == (b"half", document, "Unhandled")
            outcome = await invoke(target, {"words": ["half"], "trailers": type_only})
            assert (said(outcome), outcome.error) == ({"errorType": "Oops"}, "Unhandled")

    run(scene)
