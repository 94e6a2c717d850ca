"""Packages with dependencies, installed by the real npm and uv from the real registries (small packages)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from pointsman.artifact import build
from pointsman.artifact.builds import Builds
from pointsman.artifact.checks import check
from pointsman.artifact.source import choose
from pointsman.artifact.tools import Installed, Tools, files, version
from pointsman.errors import BuildFailed, UsageError
from pointsman.model import Artifact

from .test_artifact import ENVIRONMENT, lay, make, names

UV = str(Path(sys.executable).with_name("uv"))


def text(artifact: Artifact, name: str) -> str:
    return zipfile.ZipFile(artifact.path).read(name).decode()


def package_json(**more: object) -> str:
    return json.dumps({"name": "greeting", "version": "1.0.0", **more})


def locked(source: Path) -> Path:
    subprocess.run(
        ["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=source,
        check=True,
        capture_output=True,
    )
    return source


def everything(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


# The cache


def test_what_lies_in_the_cache_is_known_without_a_walk_until_a_folder_changes(tmp_path: Path) -> None:
    tree = lay(tmp_path / "entry" / "tree", {"a/one.js": "1", "a/b/two.js": "22", "a/b/x.pyc": "", "three": "3"})
    (tree / "link").symlink_to("three")
    for folder in (tree, tree / "a", tree / "a" / "b"):
        os.utime(folder, (1, 1))  # what changes it now shows, however coarse the clock
    entry = Installed(tree, {})
    note = tree.with_name("files")
    walked = sorted(choose(tree, kind="installed"))

    assert sorted(files(entry)) == walked
    assert not note.exists(), "its folders are so young that a change might not show"
    assert sorted(files(entry, young=0)) == walked
    noted = note.read_bytes()
    assert sorted(files(entry, young=0)) == walked
    assert note.read_bytes() == noted, "nothing was looked for again"

    (tree / "a" / "b" / "new.js").write_text("")
    (tree / "three").unlink()
    (tree / "link").unlink()
    assert [each.name for each in sorted(files(entry, young=0))] == ["a/b/new.js", "a/b/two.js", "a/one.js"]
    assert note.read_bytes() != noted

    note.write_bytes(b"damaged")
    assert sorted(files(entry, young=0)) == sorted(choose(tree, kind="installed"))


# Node


def test_npm_brings_production_dependencies_and_leaves_the_sources_alone(tmp_path: Path) -> None:
    """The root's own scripts (`prepare`: husky …) need what is not there, and are not run; its node_modules stay."""
    manifest = package_json(
        dependencies={"ms": "2.1.3"}, devDependencies={"is-number": "7.0.0"}, scripts={"prepare": "false"}
    )
    source = locked(lay(tmp_path / "src", {"package.json": manifest, "index.js": ""}))
    lay(source, {"node_modules/is-number/index.js": "", "node_modules/ms/index.js": "stale"})
    before = everything(source)

    made = make(source, tmp_path, build="node", handler="index.handler")

    assert [name for name in names(made) if not name.startswith("node_modules/ms/")] == ["index.js", "package.json"]
    assert "stale" not in text(made, "node_modules/ms/index.js")
    assert json.loads(text(made, "package.json"))["scripts"] == {"prepare": "false"}
    assert everything(source) == before
    there = tmp_path / "there"
    zipfile.ZipFile(made.path).extractall(there)
    ran = subprocess.run(
        ["node", "-p", "require('ms')('2 days')"], cwd=there, check=True, capture_output=True, text=True
    )
    assert ran.stdout == "172800000\n"


def test_two_checkouts_with_their_own_caches_give_the_same_bytes(tmp_path: Path) -> None:
    """`mkdirp` has a bin link, which npm would put into .bin; two installs, two paths, two umasks."""
    made = []
    lock = ""
    for place, umask in (("a", 0o022), ("b/c", 0o077)):
        before = os.umask(umask)
        try:
            source = lay(tmp_path / place / "src", {"package.json": package_json(dependencies={"mkdirp": "3.0.1"})})
            if not lock:
                lock = (locked(source) / "package-lock.json").read_text()
            lay(source, {"package-lock.json": lock, "index.js": ""})
            made.append(make(source, tmp_path / place, build="node"))
        finally:
            os.umask(before)

    assert made[0].sha256 == made[1].sha256
    assert [name for name in names(made[0]) if name.split("/")[1:2] in (["mkdirp"], [])] == names(made[0])


def test_dependencies_are_installed_once_until_the_lock_changes(tmp_path: Path) -> None:
    source = locked(lay(tmp_path / "src", {"package.json": package_json(dependencies={"ms": "2.1.3"}), "index.js": ""}))
    said: list[list[str]] = [[], [], []]

    make(source, tmp_path, said[0], build="node")
    lay(source, {"index.js": "changed", "package.json": package_json(dependencies={"ms": "2.1.3"}, version="1.0.1")})
    make(source, tmp_path, said[1], build="node")
    lay(source, {"package.json": package_json(dependencies={"ms": "2.1.2"})})
    third = make(locked(source), tmp_path, said[2], build="node")

    assert [[line for line in lines if "npm ci" in line] for lines in said] == [
        ["npm ci in a scratch folder"],
        [],
        ["npm ci in a scratch folder"],
    ]
    assert json.loads(text(third, "node_modules/ms/package.json"))["version"] == "2.1.2"
    assert not list((tmp_path / "cache").glob(".making-*"))


def test_without_a_lock_npm_chooses_and_we_say_so(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"package.json": package_json(dependencies={"ms": "^2.1.0"}), "index.js": ""})
    said: list[str] = []

    made = make(source, tmp_path, said, build="node")

    assert "node_modules/ms/index.js" in names(made)
    assert not (source / "package-lock.json").exists()
    assert "there is no package-lock.json: npm chooses versions now, which stay until dependencies change" in said


@pytest.mark.parametrize("with_lock", [True, False])
def test_local_packages_are_copied_in_with_their_own_dependencies(tmp_path: Path, with_lock: bool) -> None:
    """npm only links `file:` packages, to a place that does not exist on Lambda. A change of theirs is a change."""
    lay(
        tmp_path / "shared",
        {
            "package.json": json.dumps({"name": "shared", "version": "1.0.0", "dependencies": {"ms": "2.1.3"}}),
            "index.js": "exports.two = () => require('ms')('2s')",
            "node_modules/ms/index.js": "stale",
        },
    )
    manifest = package_json(dependencies={"shared": "file:../shared"})
    source = lay(tmp_path / "src", {"package.json": manifest, "index.js": "console.log(require('shared').two())"})
    if with_lock:
        locked(source)

    made = make(source, tmp_path, build="node")
    lay(tmp_path / "shared", {"index.js": "exports.two = () => 2"})
    changed = make(source, tmp_path, build="node")

    for artifact, expected in ((made, "2000\n"), (changed, "2\n")):
        there = tmp_path / artifact.sha256.short.replace("/", "-")
        subprocess.run(["unzip", "-q", artifact.path, "-d", there], check=True)
        ran = subprocess.run(["node", "index.js"], cwd=there, check=True, capture_output=True, text=True)
        assert ran.stdout == expected
        assert not [path for path in there.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize(("machine", "fits"), [(b"\x3e\0", True), (b"\xb7\0", False)])
def test_an_addon_compiled_here_must_fit_and_brings_only_itself(tmp_path: Path, machine: bytes, fits: bool) -> None:
    """What node-gyp leaves beside an addon holds paths of this machine."""
    addon = b"\x7fELF\2\1\1" + b"\0" * 9 + b"\3\0" + machine
    shared = lay(tmp_path / "shared", {"package.json": '{"name": "shared", "version": "1.0.0"}'})
    lay(shared, {"build/config.gypi": "/home/me", "build/Makefile": "", "build/Release/obj.target/fast.o": ""})
    (shared / "build" / "Release" / "fast.node").write_bytes(addon)
    manifest = package_json(dependencies={"shared": "file:../shared"})
    source = locked(lay(tmp_path / "src", {"package.json": manifest, "index.js": ""}))

    if fits:
        found = [name for name in names(make(source, tmp_path, build="node")) if "/build/" in name]
        assert found == ["node_modules/shared/build/Release/fast.node"]
    else:
        with pytest.raises(BuildFailed, match=r"fast\.node was compiled for this machine, not for Lambda on x86_64"):
            make(source, tmp_path, build="node")


def test_packages_with_one_build_per_platform_bring_lambdas(tmp_path: Path) -> None:
    """Whatever machine builds: here the arm64 build of an addon, and no other."""
    source = lay(tmp_path / "src", {"package.json": package_json(dependencies={"@node-rs/crc32": "1.10.6"})})

    made = make(locked(source), tmp_path, build="node", architecture="arm64")

    assert [name for name in names(made) if name.endswith(".node")] == [
        "node_modules/@node-rs/crc32-linux-arm64-gnu/crc32.linux-arm64-gnu.node"
    ]


def test_without_production_dependencies_npm_is_not_even_looked_for(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"package.json": package_json(devDependencies={"mocha": "2.5.3"}), "index.js": ""})

    from pointsman.artifact import Recipe

    made = build(
        Recipe(function="greeting", source=str(source), build="node"),
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        environment={"PATH": str(tmp_path)},
        say=lambda line: None,
    )
    assert names(made) == ["index.js", "package.json"]
    assert not list((tmp_path / "cache").glob("node-*"))

    lay(source, {"package.json": package_json(dependencies={"ms": "2.1.3"})})
    with pytest.raises(BuildFailed, match=r"npm is not on PATH\nInstall Node\.js"):
        build(
            Recipe(function="greeting", source=str(source), build="node"),
            out=tmp_path / "out",
            cache=tmp_path / "cache",
            environment={"PATH": str(tmp_path)},
            say=lambda line: None,
        )


def test_a_tool_that_is_as_it_was_is_not_asked_for_its_version_again(tmp_path: Path) -> None:
    """It is asked before every build, to tell whether what is installed still fits: 50 ms of node."""
    node = Path(os.path.realpath(shutil.which("node") or ""))
    if node.name != "node" or node.read_bytes()[:4] != b"\x7fELF":
        pytest.skip("node is not a binary here, and its version may depend on more")
    tools = Tools(tmp_path, ENVIRONMENT, lambda line: None, Builds())
    expected = version("node", tools)
    (note,) = tmp_path.iterdir()

    note.write_text(note.read_text().replace(expected.strip(), "v99.0.0"))
    assert version("node", tools).strip() == "v99.0.0", "taken from the note"

    for broken in (note.read_text().replace("/node", "/other"), "[]", "{", ""):
        note.write_text(broken)
        assert version("node", tools) == expected


def test_a_failing_npm_is_quoted_and_leaves_no_cache_entry(tmp_path: Path) -> None:
    source = locked(lay(tmp_path / "src", {"package.json": package_json(dependencies={"ms": "2.1.3"})}))
    lay(source, {"package.json": package_json(dependencies={"ms": "2.0.0"})})

    with pytest.raises(
        BuildFailed, match=r"(?s)^building greeting: `npm ci .* exit code 1:.*ms@2\.0\.0.*commit the lock file"
    ) as caught:
        make(source, tmp_path, build="node")

    assert len(str(caught.value).splitlines()) < 25
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".version"}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"package.json": "{"}, "it is not JSON"),
        ({"package.json": "[]"}, "it is not a JSON object"),
        ({"package.json": package_json(dependencies={"a": "1"}), "bun.lock": ""}, "bun.lock cannot be installed from"),
    ],
)
def test_what_npm_could_not_install_alike_is_said_in_words(tmp_path: Path, files: dict[str, str], why: str) -> None:
    source = lay(tmp_path / "src", {"package.json": package_json(dependencies={"ms": "2.1.3"}), **files})

    with pytest.raises(BuildFailed, match=f"(?s){why}"):
        make(source, tmp_path, build="node")


def test_two_builds_at_once_end_with_one_entry_and_equal_bytes(tmp_path: Path) -> None:
    source = locked(lay(tmp_path / "src", {"package.json": package_json(dependencies={"ms": "2.1.3"}), "index.js": ""}))
    made: list[Artifact] = []
    builders = [threading.Thread(target=lambda: made.append(make(source, tmp_path, build="node"))) for _ in range(2)]

    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()

    assert len(made) == 2
    assert made[0].sha256 == made[1].sha256
    assert len(list((tmp_path / "cache").glob("node-*"))) == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        Path(made[0].path).with_suffix(end).name for end in (".zip", ".note", ".about")
    }


# Python


def test_uv_brings_the_wheels_of_the_functions_python_and_architecture(tmp_path: Path) -> None:
    source = lay(
        tmp_path / "src",
        {
            "app.py": "import markupsafe, idna\nhandler = print",
            "requirements.txt": "# pinned\n-r more.txt\nmarkupsafe==3.0.2\n",
            "more.txt": "idna==3.10  # text\ncolorama==0.4.6 ; sys_platform == 'win32'\n",
        },
    )
    before = everything(source)

    made = make(source, tmp_path, runtime="python3.12", architecture="arm64", exclude=("more.txt",))

    assert "markupsafe/_speedups.cpython-312-aarch64-linux-gnu.so" in names(made)
    assert {name.split("/")[0] for name in names(made)} == {
        *("app.py", "idna", "markupsafe", "idna-3.10.dist-info", "MarkupSafe-3.0.2.dist-info")
    }
    assert not [name for name in names(made) if name.endswith((".pyc", "RECORD", "INSTALLER", "REQUESTED"))]
    assert everything(source) == before
    check(made, handler="app.handler", runtime="python3.12", bucket=None)


def test_two_python_checkouts_give_the_same_bytes(tmp_path: Path) -> None:
    """The wheel brings a script, whose first line would be the path of this machine's Python."""
    digests = set()
    for place, umask in (("a", 0o022), ("b/c", 0o077)):
        before = os.umask(umask)
        try:
            files = {"app.py": "", "requirements.txt": "charset-normalizer==3.4.0\n"}
            made = make(lay(tmp_path / place / "src", files), tmp_path / place, runtime="python3.13")
            digests.add(made.sha256)
        finally:
            os.umask(before)

    assert len(digests) == 1
    assert "charset_normalizer/__init__.py" in names(made)
    assert not [name for name in names(made) if name.startswith("bin/")]


def test_a_project_with_and_without_its_lock(tmp_path: Path) -> None:
    """uv.lock decides what pyproject.toml leaves open; the development group stays out of both."""
    project = """
        [project]
        name = "greeting"
        version = "1"
        requires-python = ">=3.11"
        dependencies = ["idna>=3.9"]
        [dependency-groups]
        dev = ["six"]
    """
    source = lay(tmp_path / "src", {"app.py": "", "pyproject.toml": project})

    unlocked = make(source, tmp_path, runtime="python3.13")
    subprocess.run([UV, "lock", "--quiet", "-P", "idna==3.9"], cwd=source, check=True)
    lock = (source / "uv.lock").read_text()
    said: list[str] = []
    by_lock = make(source, tmp_path, said, runtime="python3.13")

    assert "idna-3.9.dist-info/METADATA" in names(by_lock)
    assert "idna-3.9.dist-info/METADATA" not in names(unlocked)
    assert not [name for name in names(by_lock) + names(unlocked) if name.startswith("six")]
    assert said == ["installing the packages of uv.lock for python3.13 on x86_64"]
    assert (source / "uv.lock").read_text() == lock
    assert sorted(path.name for path in source.iterdir()) == ["app.py", "pyproject.toml", "uv.lock"]


def test_a_change_in_an_included_requirements_file_is_a_change(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "", "requirements.txt": "-r more.txt\n", "more.txt": "idna==3.9\n"})

    first = make(source, tmp_path, runtime="python3.13")
    lay(source, {"more.txt": "idna==3.10\n"})
    second = make(source, tmp_path, runtime="python3.13")

    assert "idna-3.9.dist-info/METADATA" in names(first)
    assert "idna-3.10.dist-info/METADATA" in names(second)


@pytest.mark.parametrize(
    "line", ["./wheels/shared-1-py3-none-any.whl", "shared @ file:wheels/shared-1-py3-none-any.whl"]
)
def test_a_local_wheel_is_installed_and_known_by_its_bytes(tmp_path: Path, line: str) -> None:
    """A team's own package, not on an index. Under one name it may be another tomorrow."""
    source = lay(tmp_path / "src", {"app.py": "", "requirements.txt": f"{line}\n"})

    def wheel(text: str) -> None:
        (source / "wheels").mkdir(exist_ok=True)
        with zipfile.ZipFile(source / "wheels" / "shared-1-py3-none-any.whl", "w") as packed:
            packed.writestr("shared.py", text)
            packed.writestr("shared-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: shared\nVersion: 1\n")
            packed.writestr(
                "shared-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            packed.writestr("shared-1.dist-info/RECORD", "")

    wheel("word = 'one'")
    first = make(source, tmp_path, runtime="python3.13")
    wheel("word = 'another'")
    second = make(source, tmp_path, runtime="python3.13")

    assert (text(first, "shared.py"), text(second, "shared.py")) == ("word = 'one'", "word = 'another'")
    assert set(names(first)) == {"app.py", "shared.py", "shared-1.dist-info/METADATA", "shared-1.dist-info/WHEEL"}

    (source / "wheels" / "shared-1-py3-none-any.whl").unlink()
    with pytest.raises(BuildFailed, match=r"asks for the local package .*shared-1-py3-none-any.whl, and there is none"):
        make(source, tmp_path, runtime="python3.13")


def test_a_package_without_a_wheel_is_built_where_that_needs_no_compiler(tmp_path: Path) -> None:
    """As of many small old ones there are sources only."""
    source = lay(tmp_path / "src", {"app.py": "", "requirements.txt": "docopt==0.6.2\n"})
    said: list[str] = []

    made = make(source, tmp_path, said, runtime="python3.13")

    assert "docopt.py" in names(made)
    assert "docopt has no wheel: building one, in case it is for any machine" in said


def test_a_package_without_a_wheel_is_named_with_what_to_do(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "", "requirements.txt": "ujson==1.35\n"})

    with pytest.raises(BuildFailed) as caught:
        make(source, tmp_path, runtime="python3.13")

    assert caught.value.next.startswith("ujson has no wheel for python3.13 on x86_64-manylinux_2_34. Ask for a version")
    assert "`uv pip install " in caught.value.what
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".version"}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"requirements.txt": "-e ./lib\n"}, "requirements.txt asks for the local package ./lib, and"),
        ({"requirements.txt": "idna\n../shared\n"}, r"asks for the local package \.\./shared, and there is none"),
        ({"requirements.txt": "-r gone.txt\n"}, "gone.txt cannot be read: No such file"),
        ({"pyproject.toml": "[project\n"}, "pyproject.toml: "),
        ({"pyproject.toml": '[project]\nname="a"\nversion="1"\ndynamic=["dependencies"]\n'}, "requirements.txt"),
        ({"poetry.lock": "["}, "poetry.lock: "),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.9"\nidna = "*"\n'}, "Run `poetry lock`"),
        ({"Pipfile": ""}, "Run `pipenv lock`"),
        ({"pdm.lock": '[[package]]\nname = "idna"\nversion = "3.10"\n'}, "pdm lock -S inherit_metadata"),
    ],
)
def test_what_uv_could_not_install_alike_is_said_in_words(tmp_path: Path, files: dict[str, str], why: str) -> None:
    with pytest.raises(BuildFailed, match=why):
        make(lay(tmp_path / "src", {"app.py": "", **files}), tmp_path, runtime="python3.13")


def test_dependencies_need_a_runtime_and_nothing_else_does(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "", "requirements.txt": "# none yet\n"})

    assert names(make(source, tmp_path)) == ["app.py"]
    lay(source, {"requirements.txt": "idna==3.10\n"})
    with pytest.raises(UsageError, match=r"requirements\.txt asks for packages, but runtime = \"\" does not say"):
        make(source, tmp_path)
    with pytest.raises(UsageError, match='architecture = "arm" is neither'):
        make(source, tmp_path, runtime="python3.13", architecture="arm")


def test_the_users_own_file_lies_over_a_dependencys(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"idna/codec.py": "mine", "requirements.txt": "idna==3.10\n"})

    made = make(source, tmp_path, runtime="python3.13")

    assert text(made, "idna/codec.py") == "mine"
    assert "idna/core.py" in names(made)
    lay(source, {"markupsafe": "a file"})
    lay(source, {"requirements.txt": "markupsafe==3.0.2\n"})
    with pytest.raises(BuildFailed, match="markupsafe is a folder, and at once a file"):
        make(source, tmp_path, runtime="python3.13")


def test_programs_that_a_wheel_brings_stay_and_scripts_of_this_machine_do_not(tmp_path: Path) -> None:
    """ruff is a program, and nothing else; what uvicorn puts there starts with the path of a Python."""
    source = lay(tmp_path / "src", {"app.py": "", "requirements.txt": "ruff==0.8.4\nuvicorn==0.32.1\n"})

    made = make(source, tmp_path, runtime="python3.12")

    assert [name for name in names(made) if name.startswith("bin/")] == ["bin/ruff"]
    with zipfile.ZipFile(made.path) as zipped:
        assert zipped.getinfo("bin/ruff").external_attr >> 16 & 0o111
