"""How fast the local AWS runs functions: `python bench/invoke.py [INVOKES]`, without its HTTP server.

Prints, for each runtime: cold start, warm p50 and p99, eight callers of a 100 ms handler at once, and what many
invokes leave behind (processes, open files, memory of this process).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles

from pointsman.localaws.contract import Outcome, Target
from pointsman.localaws.execution import LocalExecutor

SOURCES = {
    "app.py": "import time\ndef echo(e, c): return e\ndef slow(e, c): time.sleep(0.1)\n",
    "app.js": "exports.echo = async (e) => e; exports.slow = async () => new Promise((done) => setTimeout(done, 100));",
}


async def measure(executor: LocalExecutor, runtime: str, code: Path, invokes: int) -> None:
    target = Target(
        account="123456789012",
        region="us-east-1",
        function_name="bench",
        version="1",
        revision=runtime,
        runtime=runtime,
        handler="app.echo",
        code=code,
        environment={},
        memory_mb=256,
        timeout_s=10,
        log_group="/aws/lambda/bench",
    )

    async def invoke(target: Target) -> tuple[float, Outcome]:
        began = time.perf_counter()
        outcome = await executor.invoke(target, b'{"n": 1}', invoked_arn="arn", request_id="8476a536")
        if outcome.error:
            raise SystemExit(outcome.log.decode())
        return (time.perf_counter() - began) * 1000, outcome

    cold = [(await invoke(replace(target, revision=f"{runtime}-{n}")))[0] for n in range(12)]
    print(f"{runtime:12} cold   first {cold[0]:6.1f} ms   median {median(cold):6.1f}   later max {max(cold[1:]):6.1f}")

    for _ in range(50):
        await invoke(target)
    before = standing()
    warm = [(await invoke(target))[0] for _ in range(invokes)]
    after = standing()
    print(
        f"{runtime:12} warm   p50 {median(warm):6.3f} ms   p99 {quantiles(warm, n=100)[98]:6.3f}   max {max(warm):6.1f}"
    )
    grown = ", ".join(f"{name} {before[name]} → {after[name]}" for name in before)
    print(f"{runtime:12} {invokes} invokes: {grown}")

    slow = replace(target, handler="app.slow", revision=f"{runtime}-slow")
    await asyncio.gather(*(invoke(slow) for _ in range(8)))
    began = time.perf_counter()
    await asyncio.gather(*(invoke(slow) for _ in range(8)))
    print(f"{runtime:12} eight at once of a 100 ms handler, warm: {(time.perf_counter() - began) * 1000:6.1f} ms")
    await executor.retire("bench", "123456789012", "us-east-1")


def standing() -> dict[str, int]:
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    resident_kb = int(Path("/proc/self/statm").read_text().split()[1]) * 4
    return {"processes": len(children), "files": sum(1 for _ in Path("/proc/self/fd").iterdir()), "kB": resident_kb}


async def main(invokes: int) -> None:
    async def sink(target: Target, stream: str, lines: list[tuple[int, str]]) -> None:
        pass

    executor = LocalExecutor(sink, endpoint=lambda: None)
    with tempfile.TemporaryDirectory() as folder:
        for name, source in SOURCES.items():
            (Path(folder) / name).write_text(source)
        ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
        node = [name for name in executor.runtimes() if name.startswith("nodejs")]
        for runtime in (ours, *node):
            await measure(executor, runtime, Path(folder), invokes)
        await executor.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
