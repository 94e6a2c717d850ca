"""Layers under real function processes: at /opt where the kernel lets them, on the search paths everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pointsman.localaws.contract import Target
from pointsman.localaws.execution import own_opt
from pointsman.localaws.execution.layers import Layers
from tests.localaws.test_execution import NODE, PYTHON, lives, needs_node, package, run, said, stage, until

__all__ = ["package"]

Package = Callable[..., Target]


def with_opt(folder: Path, *, beneath: bool, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-S", own_opt.__file__, str(folder), "01"[beneath], *command]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


REFUSED = with_opt(Path("/"), beneath=False).stderr.strip()
needs_namespaces = pytest.mark.skipif(bool(REFUSED), reason=f"no /opt of one's own on this machine: {REFUSED}")


@pytest.fixture
def opt(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Layers' files, as they are when laid over each other."""

    def make(files: dict[str, str]) -> Path:
        folder = tmp_path / "layers"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return folder

    return make


Opt = Callable[[dict[str, str]], Path]

LIBRARIES = {
    "data.txt": "from a layer",
    "python/plain.py": "WHERE = 'plain'",
    "python/both.py": "WHERE = 'plain'",
    f"python/lib/{PYTHON}/site-packages/both.py": "WHERE = 'site-packages'",
    "bin/greet": "#!/bin/sh\necho hello $1\n",
    "nodejs/node_modules/plain/index.js": "module.exports = 'plain'",
    "nodejs/node_modules/both/index.js": "module.exports = 'plain'",
    f"nodejs/{(NODE or '').replace('nodejs', 'node').removesuffix('.x')}/node_modules/both/index.js": (
        "module.exports = 'of this version'"
    ),
}
PYTHON_HANDLER = """
import os, subprocess
import plain, both
def handler(event, context):
    greeting = subprocess.run(["greet", "you"], capture_output=True, text=True).stdout
    return [plain.WHERE, both.WHERE, greeting, os.path.dirname(os.path.dirname(plain.__file__)), os.getuid()]
"""


@needs_namespaces
def test_a_python_function_has_its_layers_at_opt(package: Package, opt: Opt) -> None:
    source = PYTHON_HANDLER + (
        "def absolute(event, context):\n"
        "    try:\n"
        "        open('/opt/new', 'w')\n"
        "    except OSError as refused:\n"
        "        return [open('/opt/data.txt').read(), refused.strerror, sorted(os.listdir('/opt'))]\n"
    )
    folder = opt(LIBRARIES)
    files = set(folder.rglob("*"))
    before = {path.name for path in Path("/opt").iterdir()}

    async def scene() -> None:
        async with stage() as invoke:
            outcome = await invoke(package({"app.py": source}, "app.handler", opt=folder))
            absolute = await invoke(package({"app.py": source}, "app.absolute", opt=folder))

        assert said(outcome) == ["plain", "site-packages", "hello you\n", "/opt", os.getuid()]
        assert said(absolute) == ["from a layer", "Read-only file system", ["bin", "data.txt", "nodejs", "python"]]
        assert outcome.init_ms is not None
        assert not any("layers" in line for _, _, line in invoke.lines)

    run(scene)
    assert set(folder.rglob("*")) == files  # no bytecode beside the sources
    assert {path.name for path in Path("/opt").iterdir()} == before


def test_where_there_are_no_namespaces_the_search_paths_lead_to_the_layers(package: Package, opt: Opt) -> None:
    folder = opt(LIBRARIES)

    async def scene() -> None:
        async with stage(namespaces=False) as invoke:
            outcome = await invoke(package({"app.py": PYTHON_HANDLER}, "app.handler", opt=folder))

        assert said(outcome) == ["plain", "site-packages", "hello you\n", str(folder), os.getuid()]
        (notice,) = [line for _, _, line in invoke.lines if "Absolute paths" in line]
        assert notice == (
            f"The layers of this function are in {folder}, which its search paths name. Absolute paths (/opt/...) do "
            "not work on this machine: it was told to do without namespaces."
        )

    run(scene)


@needs_node
@pytest.mark.parametrize("namespaces", [pytest.param(True, marks=needs_namespaces), False])
def test_a_node_function_finds_its_layers(package: Package, opt: Opt, *, namespaces: bool) -> None:
    source = "exports.handler = async () => [require('plain'), require('both'), require.resolve('plain')]"
    folder = opt(LIBRARIES)

    async def scene() -> None:
        async with stage(namespaces=namespaces) as invoke:
            target = package({"index.js": source}, "index.handler", str(NODE), opt=folder)
            plain, both, path = said(await invoke(target))

        root = "/opt" if namespaces else folder
        assert (plain, both, path) == ("plain", "of this version", f"{root}/nodejs/node_modules/plain/index.js")

    run(scene)


@needs_node
def test_a_node_module_imports_from_its_layers(package: Package, opt: Opt) -> None:
    """As on AWS since Node 18; Node itself looks into NODE_PATH for `require` alone."""
    source = """
        import plain from 'plain';
        import both from 'both';
        export const handler = async (name) => [plain, both, (await import(name).catch((error) => error.code))];
    """
    folder = opt(LIBRARIES)

    async def scene() -> None:
        async with stage(namespaces=False) as invoke:
            target = package({"index.mjs": source}, "index.handler", str(NODE), opt=folder)
            assert said(await invoke(target, "absent")) == ["plain", "of this version", "ERR_MODULE_NOT_FOUND"]

    run(scene)


BOOTSTRAP = """\
#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
  id=$(curl -sS -D - -o /dev/null "$api/next" | tr -d '\\r' | sed -n 's/^lambda-runtime-aws-request-id: //Ip')
  curl -sS -o /dev/null -d "\\"$0 $_HANDLER\\"" "$api/$id/response"
done
"""


@pytest.mark.parametrize("namespaces", [pytest.param(True, marks=needs_namespaces), False])
def test_a_runtime_may_come_from_a_layer(package: Package, opt: Opt, *, namespaces: bool) -> None:
    folder = opt({"bootstrap": BOOTSTRAP})

    async def scene() -> None:
        async with stage(namespaces=namespaces) as invoke:
            outcome = await invoke(package({"notes": ""}, "any.thing", "provided.al2023", opt=folder))
            assert said(outcome) == f"{'/opt' if namespaces else folder}/bootstrap any.thing"

            (folder / "bootstrap").chmod(0o644)
            locked = await invoke(package({"notes": ""}, "any.thing", "provided.al2023", opt=folder))
            assert said(locked)["errorType"] == "Runtime.InvalidEntrypoint"
            assert "fork/exec /opt/bootstrap: permission denied" in said(locked)["errorMessage"]

    run(scene)


@needs_namespaces
def test_a_process_with_layers_ends_as_any_other(package: Package, opt: Opt) -> None:
    source = """
        import os, subprocess, time
        child = subprocess.Popen(["sleep", "1000"])
        def handler(event, context):
            if event == "exit": os._exit(3)
            if event == "eat": waste = bytearray(400_000_000)
            print("child", child.pid)
            time.sleep(1000)
    """
    target = package({"app.py": source}, "app.handler", timeout_s=1, opt=opt(LIBRARIES))

    async def scene() -> None:
        async with stage() as invoke:
            late = await invoke(target, "stay")
            child = int(re.findall(rb"child (\d+)", late.log)[0])
            assert said(late)["errorType"] == "Sandbox.Timedout"
            await until(lambda: not lives(child))
            patient = replace(target, timeout_s=30)
            assert "exit status 3" in said(await invoke(patient, "exit"))["errorMessage"]
            assert said(await invoke(patient, "eat"))["errorType"] == "Runtime.OutOfMemory"

    run(scene)


@needs_namespaces
def test_a_functions_variables_mean_nothing_until_its_process_is_there(package: Package, opt: Opt) -> None:
    """LD_PRELOAD may name a layer's file: what starts the process must not look for it, for it is not there yet."""
    source = "import os\ndef handler(event, context): return [os.environ['LD_PRELOAD'], 'xHOME' in os.environ]"
    preload = {"LD_PRELOAD": "/opt/lib/none.so"}
    target = package({"app.py": source}, "app.handler", environment=preload, opt=opt(LIBRARIES))

    async def scene() -> None:
        async with stage() as invoke:
            assert said(await invoke(target)) == ["/opt/lib/none.so", False]

        complaints = [line for _, _, line in invoke.lines if "none.so" in line]
        assert len(complaints) == 1  # the function process's own

    run(scene)


def test_extensions_are_named_in_the_log(package: Package, opt: Opt) -> None:
    target = package(
        {"app.py": "def handler(e, c): return 1"},
        "app.handler",
        opt=opt({"extensions/watch": "", "extensions/ship": ""}),
    )

    async def scene() -> None:
        async with stage() as invoke:
            assert said(await invoke(target)) == 1

        lines = [line for _, _, line in invoke.lines]
        assert lines.count("Extensions in layers are not run on this machine: ship, watch.") == 1

    run(scene)


@needs_namespaces
def test_bytecode_of_one_layer_is_not_anothers(package: Package, opt: Opt, tmp_path: Path) -> None:
    """Both files are /opt/python/plain.py to Python, and equally long and old."""
    source = "import plain\ndef handler(event, context): return plain.WHERE"

    async def scene() -> None:
        async with stage() as invoke:
            for where in ("here ", "there"):
                folder = tmp_path / where
                (folder / "python").mkdir(parents=True)
                module = folder / "python" / "plain.py"
                module.write_text(f"WHERE = {where!r}")
                os.utime(module, (1_700_000_000, 1_700_000_000))
                assert said(await invoke(package({"app.py": source}, "app.handler", opt=folder))) == where

    run(scene)


@needs_namespaces
def test_what_lives_in_opt_stays_where_it_is_needed(opt: Opt) -> None:
    """Interpreters are in /opt on some build machines: the layers then lie over it."""
    folder = opt({"data.txt": "from a layer"})
    seen = with_opt(folder, beneath=True, command=("/bin/ls", "/opt"))

    if "overlay" in seen.stderr or "mount" in seen.stderr:
        pytest.skip(f"no overlays for users on this machine: {seen.stderr.strip()}")
    assert set(seen.stdout.split()) == {"data.txt", *(path.name for path in Path("/opt").iterdir())}


def test_a_refusal_is_told_in_the_kernels_words(tmp_path: Path) -> None:
    async def scene() -> None:
        layers = Layers([tmp_path])
        found = await layers.opt(tmp_path / "nowhere")

        assert (found.root, found.launcher) == (str(tmp_path / "nowhere"), ())
        (notice,) = found.notices
        assert re.search(r"do not work on this machine: .*(No such file|not permitted|denied|Linux)", notice)

    run(scene)
