"""What is said of a package before anything is called: all of it at once, and nothing that cannot be known."""

from __future__ import annotations

import gc
import os
import struct
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pointsman.artifact import contents, inspect
from pointsman.artifact.checks import Problem, check, problems
from pointsman.errors import BuildFailed
from pointsman.model import UNZIPPED, Artifact, BuiltLayer

NODE, PYTHON = "nodejs22.x", f"python{sys.version_info[0]}.{sys.version_info[1]}"


def elf(machine: int, *, big: bool = False) -> bytes:
    head = b"\x7fELF\x02" + (b"\x02" if big else b"\x01") + bytes(10)
    return head + struct.pack(">HH" if big else "<HH", 3, machine) + bytes(44)


X86, ARM, S390 = elf(62), elf(183), elf(22, big=True)
MAC, FAT, JAVA, WINDOWS = (
    b"\xcf\xfa\xed\xfe" + bytes(60),
    b"\xca\xfe\xba\xbe\x00\x00\x00\x02" + bytes(60),
    b"\xca\xfe\xba\xbe\x00\x00\x00\x3d" + bytes(60),
    b"MZ" + bytes(60),
)


def package(folder: Path, files: dict[str, bytes | str], name: str = "greeting") -> Artifact:
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for each, content in files.items():
            info = zipfile.ZipInfo(each)
            info.external_attr = 0o100755 << 16
            zipped.writestr(info, content)
    return inspect(path, name)


def layer(
    folder: Path, files: dict[str, bytes | str], *architectures: str, runtimes: tuple[str, ...] = ()
) -> BuiltLayer:
    made = package(folder, files, "common")
    return BuiltLayer(layer="common", name="common", package=made, architectures=architectures, runtimes=runtimes)


def said(
    folder: Path,
    files: dict[str, bytes | str],
    *,
    handler: str | None = None,
    runtime: str = PYTHON,
    architecture: str = "x86_64",
    layers: tuple[BuiltLayer, ...] = (),
) -> list[str]:
    made = package(folder, files)
    made = Artifact(**{each: getattr(made, each) for each in made.__struct_fields__} | {"layers": layers})
    return [each.what for each in problems(made, handler, runtime, None, architecture)]


@pytest.mark.parametrize(
    "text",
    [
        "def handler(event, context): ...",
        "async def handler(event, context): ...",
        "class handler: ...",
        "handler = print",
        "handler: object = print",
        "first, (handler, *rest) = things",
        "from shop.api import handler",
        "from shop.api import main as handler",
        "import handler",
        "import handler.deep",
        "try:\n    import fast\n    handler = fast.run\nexcept ImportError:\n    def handler(event, context): ...",
        "if True:\n    with open('x') as handler: ...",
        "for handler in [print]: ...",
        "print(handler := 1)",
        "from shop.api import *",  # what that brings, only running it tells
        "globals()['handler'] = print",
        "def __getattr__(name): return print",
        "def set():\n    global handler\n    handler = print\nset()",
        "import sys\nsys.modules[__name__] = something",
        "match 1:\n    case handler: ...",
    ],
)
def test_a_python_handler_that_is_there_or_may_be_is_not_refused(tmp_path: Path, text: str) -> None:
    assert said(tmp_path, {"app.py": text}, handler="app.handler") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def handle(event, context): ...", "it defines no handler, but handle"),
        ("def main():\n    def handler(): ...", "it defines no handler, but main"),
        ("class App:\n    def handler(self): ...", "it defines no handler, but App"),
        ("x = lambda: (handler := 1)", "it defines no handler, but x"),
        ("", "it defines no handler"),
        ("def handler(event, context)\n    pass", "it is no Python (expected ':', line 1)"),
    ],
)
def test_a_python_module_without_the_handlers_name_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert said(tmp_path, {"app.py": text}, handler="app.handler") == [
        f'handler = "app.handler" is not in app.py: {expected}'
    ]


def test_several_packages_are_looked_at_by_threads(tmp_path: Path) -> None:
    """CPython's parser counts one depth for all threads, which shows where the GIL is let go between two nodes."""
    long = "\n".join(f"def f{n}(a):\n    return [a, {{'x': a}}, (a, a)]" for n in range(200))
    package(tmp_path, {"app.py": f"{long}\nhandler = f1"})

    def look(number: int) -> list[Problem]:
        artifact = inspect(tmp_path / "greeting.zip", f"greeting-{number}")
        return problems(artifact, handler="app.handler", runtime=PYTHON, bucket=None, architecture=None)

    def let_go(phase: str, info: dict[str, int]) -> None:
        time.sleep(0.0001)

    often = gc.get_threshold()
    gc.callbacks.append(let_go)
    gc.set_threshold(100)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(look, range(32)))
    finally:
        gc.set_threshold(*often)
        gc.callbacks.remove(let_go)

    assert found == [[]] * 32


@pytest.mark.parametrize("handler", ["run.sh", "newrelic_lambda_wrapper.handler", "datadog_lambda.handler.handler"])
def test_what_a_wrapper_starts_is_not_looked_for_as_a_module(tmp_path: Path, handler: str) -> None:
    assert said(tmp_path, {"app.py": "", "run.sh": "exec python app.py"}, handler=handler) == []


@pytest.mark.parametrize(("handler", "runtime"), [("app.py", PYTHON), ("app.js", NODE)])
def test_a_source_file_is_no_handler_of_a_wrapper(tmp_path: Path, handler: str, runtime: str) -> None:
    """Lambda would look for `py` in app.py, as whoever wrote that forgot what to call."""
    assert said(tmp_path, {handler: "handler = 1"}, handler=handler, runtime=runtime) != []


def test_a_custom_runtimes_handler_does_not_excuse_its_bootstrap(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "greeting.zip", "w") as zipped:
        info = zipfile.ZipInfo("bootstrap")
        info.external_attr = 0o100644 << 16
        zipped.writestr(info, "#!/bin/sh")
    made = inspect(tmp_path / "greeting.zip", "greeting")

    (found,) = problems(made, handler="bootstrap", runtime="provided.al2023", bucket=None, architecture=None)

    assert found.what == "bootstrap is not executable"


def test_a_script_that_is_not_there_is_missed(tmp_path: Path) -> None:
    (problem,) = said(tmp_path, {"app.py": ""}, handler="run.sh")
    assert 'handler = "run.sh" is looked for in run.py' in problem


def test_a_module_too_deep_to_read_is_not_judged(tmp_path: Path) -> None:
    assert said(tmp_path, {"app.py": f"x = {'-' * 3000}1"}, handler="app.handler") == []


def test_a_newer_pythons_syntax_is_not_judged(tmp_path: Path) -> None:
    assert said(tmp_path, {"app.py": "syntax of the future"}, handler="app.handler", runtime="python3.99") == []


@pytest.mark.parametrize(
    "text",
    [
        "exports.handler = async () => 1",
        "module.exports.handler = f",
        "exports['handler'] = f",
        "exports.a = exports.handler = void 0",
        'Object.defineProperty(exports, "__esModule", { value: true });\nexports.handler = f;',
        'Object.defineProperty(exports, "handler", { enumerable: true, get: function () { return f; } });',
        "module.exports = { handler }",
        "module.exports = { other, handler: f, }",
        "module.exports = {\n  // the entry\n  handler: api.handler\n};",
        "export const handler = middy(f)",
        "export async function handler() {}",
        "export function* handler() {}",
        "export class handler {}",
        "export { f as handler, g }",
        "export { handler } from './api.mjs'",
        # What cannot be told without running it:
        "module.exports = require('./api')",
        "module.exports = { ...api }",
        "module.exports = { [name]: f }",
        "module.exports = { handler() { return 1 } }",
        "export * from './api.mjs'",
        "export const { handler } = api",
        "export const first = 1, handler = f",
        "const e = exports; e.handler = f",
        "exports[name] = f",
        "module.exports = __toCommonJS(index_exports);\n0 && (module.exports = { other });",  # esbuild's
        "module['exports'] = api",
    ],
)
def test_a_node_handler_that_is_there_or_may_be_is_not_refused(tmp_path: Path, text: str) -> None:
    assert said(tmp_path, {"index.js": text}, handler="index.handler", runtime=NODE) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exports.handle = async () => 1", "it exports no handler, but handle"),
        ("module.exports = { main, other: f }", "it exports no handler, but main, other"),
        ("export default async () => 1", "it exports no handler, but default"),
        ("async function handler() {}", "it exports no handler"),
    ],
)
def test_a_node_module_that_exports_another_name_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert said(tmp_path, {"index.mjs": text}, handler="index.handler", runtime=NODE) == [
        f'handler = "index.handler" is not in index.mjs: {expected}'
    ]


@pytest.mark.parametrize(
    ("name", "content", "architecture", "made_for"),
    [
        ("numpy/core/_umath.cpython-312-aarch64-linux-gnu.so", ARM, "x86_64", "arm64"),
        ("numpy.libs/libopenblas.so.0", X86, "arm64", "x86_64"),
        ("pydantic_core/_pydantic_core.cpython-312-darwin.so", MAC, "x86_64", "macOS"),
        ("fast.abi3.so", FAT, "arm64", "macOS"),
        ("node_modules/fast/build/Release/fast.node", WINDOWS, "x86_64", "Windows"),
        ("bootstrap", S390, "x86_64", "s390x"),
        ("bin/tool", ARM, "x86_64", "arm64"),
    ],
)
def test_native_code_for_another_machine_is_named(
    tmp_path: Path, name: str, content: bytes, architecture: str, made_for: str
) -> None:
    assert said(tmp_path, {name: content}, architecture=architecture) == [
        f"{name} is made for {made_for}, not for {architecture}"
    ]


@pytest.mark.parametrize(
    ("files", "origins", "build", "expected", "remedy"),
    [
        ({"native/x86.so": X86}, "o", "python", ["native/x86.so"], "Build native/x86.so for arm64, leave it out with"),
        ({"native/fast.so": X86}, "s", "python", ["native/fast.so"], "Build native/fast.so for arm64"),
        ({"native/arm.so": ARM, "native/x86.so": X86}, "oo", "python", [], ""),  # it has one for each
        ({"native/x86.so": X86}, "d", "python", [], ""),  # a package's: it may choose
        ({"native/x86.so": X86}, "o", "command", [], ""),  # nobody knows whose it is
        (
            {"node_modules/esbuild/bin/esbuild": X86},
            *("d", "node", ["node_modules/esbuild/bin/esbuild"]),
            "An install script of esbuild brought this machine's: run the build on arm64",
        ),
    ],
)
def test_native_code_of_ones_own_and_of_packages_is_told_apart(
    tmp_path: Path, *, files: dict[str, bytes | str], origins: str, build: str, expected: list[str], remedy: str
) -> None:
    made = package(tmp_path, files)
    contents.keep(made, contents.About(settings={"build": build}, origins=origins))

    found = problems(made, None, PYTHON, None, "arm64")

    assert [each.what for each in found] == [f"{name} is made for x86_64, not for arm64" for name in expected]
    assert "".join(each.next for each in found).startswith(remedy)


def test_a_zip_that_does_not_tell_files_from_links_is_looked_into_all_the_same(tmp_path: Path) -> None:
    """As Python's `writestr` makes them: permissions, and no kind."""
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as zipped:
        info = zipfile.ZipInfo("lib/x.so")
        info.external_attr = 0o644 << 16
        zipped.writestr(info, ARM)

    (found,) = problems(inspect(tmp_path / "made.zip", "greeting"), None, PYTHON, None, "x86_64")

    assert found.what == "lib/x.so is made for arm64, not for x86_64"


def test_a_packages_many_libraries_are_one_problem_with_its_remedy(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {f"numpy/{n}.so": ARM for n in range(7)}

    (found,) = problems(package(tmp_path, files), None, PYTHON, None, "x86_64")

    assert found.what == (
        "numpy/0.so, numpy/1.so, numpy/2.so, numpy/3.so, numpy/4.so and 2 more are made for arm64, not for x86_64"
    )
    assert found.next.startswith("Install numpy for Lambda on x86_64")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("numpy/core/_umath.cpython-312-x86_64-linux-gnu.so", X86),
        ("fast.so", b"not a library at all, but long enough to be looked at"),
        ("node_modules/fast/prebuilds/darwin-arm64/fast.node", MAC),  # it chooses one when it runs
        ("node_modules/fast/prebuilds/linux-arm64/fast.node", ARM),
        ("vendor/tool-aarch64", ARM),
        ("app/Main.class", JAVA),
        ("setuptools/cli-64.exe", WINDOWS),
        ("bpf/probe.so", elf(247)),  # for the kernel's own machine
        ("run.sh", b"#!/bin/sh\nexec something longer than twenty bytes"),
    ],
)
def test_what_runs_here_or_may_not_be_meant_to_is_not_named(tmp_path: Path, name: str, content: bytes) -> None:
    assert said(tmp_path, {name: content}) == []


def test_this_machines_own_libraries_are_for_this_machine(tmp_path: Path) -> None:
    """Against a real library, so that the offset read is the one that linkers write."""
    import _ctypes

    mine, other = ("arm64", "x86_64") if os.uname().machine == "aarch64" else ("x86_64", "arm64")
    library = Path(_ctypes.__file__).read_bytes() if hasattr(_ctypes, "__file__") else Path(sys.executable).read_bytes()

    assert said(tmp_path, {"it.so": library}, architecture=mine) == []
    assert said(tmp_path, {"it.so": library}, architecture=other) == [f"it.so is made for {mine}, not for {other}"]


def test_layers_count_and_are_looked_at_too(tmp_path: Path) -> None:
    mine = layer(tmp_path, {"python/fast.so": ARM, "note": "x"}, "x86_64", "arm64", runtimes=(PYTHON,))

    assert said(tmp_path, {"app.py": ""}, layers=(mine,)) == [
        "python/fast.so is made for arm64, not for x86_64 and arm64"
    ]

    large = BuiltLayer(layer="large", name="large", package=sized(mine.package, UNZIPPED))
    (found,) = said(tmp_path, {"app.py": "x"}, layers=(large,))
    assert found.startswith("262,144,001 bytes unzipped with its layers are more than Lambda's 262,144,000")
    assert "layer large 262 MB" in found


def sized(made: Artifact, unzipped: int) -> Artifact:
    return Artifact(**{each: getattr(made, each) for each in made.__struct_fields__} | {"unzipped": unzipped})


def test_a_layer_that_its_runtime_does_not_look_at_is_refused(tmp_path: Path) -> None:
    wrong = layer(tmp_path, {"greetings.py": ""}, "x86_64", runtimes=(PYTHON,))

    assert said(tmp_path, {"app.py": ""}, layers=(wrong,)) == [
        f"nothing of it is on a path that {PYTHON} looks at: it has greetings.py"
    ]


def test_all_that_is_wrong_is_said_at_once_each_with_file_and_remedy(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"app.py": "def handle(): ...", "fast/fast.so": ARM}
    more = [Problem("function.greeting.runtime", "AWS refuses it", "Move on.")]

    with pytest.raises(BuildFailed) as told:
        check(
            package(tmp_path, files),
            handler="app.handler",
            runtime=PYTHON,
            bucket=None,
            architecture="x86_64",
            more=more,
        )

    assert told.value.what.splitlines() == [
        "3 things stand in the way:",
        "  function.greeting.runtime: AWS refuses it. Move on.",
        '  the package of greeting: handler = "app.handler" is not in app.py: it defines no handler, but handle.'
        " Correct `handler`.",
        "  the package of greeting: fast/fast.so is made for arm64, not for x86_64. Install fast for Lambda on x86_64"
        " (build = python or node does), or set `architecture`.",
    ]


def test_looking_at_a_large_tree_is_quick(tmp_path: Path) -> None:
    """Three thousand files, two hundred of them libraries: only their first bytes are unpacked."""
    files: dict[str, bytes | str] = {f"a/{n}.py": "x = 1" for n in range(2800)}
    files |= {f"a/{n}.so": X86 + bytes(100_000) for n in range(200)}
    made = package(tmp_path, {**files, "app.py": "handler = print"})

    began = time.process_time()
    check(made, handler="app.handler", runtime=PYTHON, bucket=None, architecture="x86_64")

    assert time.process_time() - began < 2
