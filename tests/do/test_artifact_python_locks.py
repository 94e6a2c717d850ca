"""Lock files of Poetry, PDM, pipenv and PEP 751; local packages and uv's workspaces, by the real uv."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from pointsman.artifact import Recipe, build, python_locks
from pointsman.errors import BuildFailed
from pointsman.model import Artifact

from .test_artifact import ENVIRONMENT, lay, names
from .test_artifact import make as make_here
from .test_artifact_dependencies import UV, text
from .test_building import wheel as a_wheel

SIX = "sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"
HERE = python_locks.environment("3.13.9", "x86_64")
PYPI = "https://pypi" + ".org/simple"  # the lint lets no file name the host


def make(
    root: Path, source: str, home: Path, said: list[str] | None = None, *, more: Mapping[str, str] | None = None
) -> Artifact:
    return build(
        Recipe(function="greeting", source=str(root / source), build="python", runtime="python3.13", root=str(root)),
        out=home / "out",
        cache=home / "cache",
        environment={**ENVIRONMENT, **(more or {})},
        say=(lambda line: None) if said is None else said.append,
    )


def packages(made: Artifact) -> set[str]:
    return {name.partition(".dist-info")[0] for name in names(made) if ".dist-info/" in name}


LOCKS = {
    "poetry.lock": f"""
        [[package]]
        name = "six"
        version = "1.17.0"
        optional = false
        python-versions = "*"
        files = [{{file = "six-1.17.0-py2.py3-none-any.whl", hash = "{SIX}"}}]
        [[package]]
        name = "colorama"
        version = "0.4.6"
        optional = false
        python-versions = "*"
        files = []
        [metadata]
        lock-version = "2.0"
        """,
    "pdm.lock": f"""
        [[package]]
        name = "six"
        version = "1.17.0"
        groups = ["default"]
        files = [{{file = "six-1.17.0-py2.py3-none-any.whl", hash = "{SIX}"}}]
        [[package]]
        name = "colorama"
        version = "0.4.6"
        groups = ["default"]
        marker = "sys_platform == 'win32'"
        files = []
        [[package]]
        name = "pytest"
        version = "8.0.0"
        groups = ["dev"]
        files = []
        """,
    "Pipfile.lock": json.dumps(
        {
            "_meta": {"sources": [{"name": "pypi", "url": PYPI}]},
            "default": {
                "six": {"version": "==1.17.0", "hashes": [SIX]},
                "colorama": {"version": "==0.4.6", "hashes": [], "markers": "sys_platform == 'win32'"},
            },
            "develop": {"pytest": {"version": "==8.0.0", "hashes": []}},
        }
    ),
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_installed_as_it_stands_without_the_tool_that_wrote_it(tmp_path: Path, name: str) -> None:
    manifest = """
        [tool.poetry.dependencies]
        python = "^3.9"
        six = "^1.16"
        colorama = {version = "*", markers = "sys_platform == 'win32'"}
        """
    source = lay(tmp_path / "src", {"app.py": "", name: LOCKS[name], "pyproject.toml": manifest})

    made = make(source, ".", tmp_path)

    assert packages(made) == {"six-1.17.0"}
    assert name not in names(made)


def test_another_hash_than_the_locks_is_refused(tmp_path: Path) -> None:
    lock = LOCKS["Pipfile.lock"].replace(SIX, SIX[:-4] + "0000")

    with pytest.raises(BuildFailed, match=r"(?i)hash mismatch"):
        make(lay(tmp_path / "src", {"app.py": "", "Pipfile.lock": lock}), ".", tmp_path)


def test_pylock_is_installed(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "", "in.txt": "six==1.17.0\n"})
    subprocess.run(
        [UV, "pip", "compile", "in.txt", "--format", "pylock.toml", "-o", "pylock.toml", "--quiet"],
        cwd=source,
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )

    assert packages(make(source, ".", tmp_path)) == {"six-1.17.0"}


def test_requirements_txt_decides_over_another_lock_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    source = lay(tmp_path / "src", {"app.py": "", "requirements.txt": "six==1.16.0\n", "poetry.lock": ""})

    assert packages(make(source, ".", tmp_path, said)) == {"six-1.16.0"}
    assert "requirements.txt decides, not poetry.lock: remove it to install from the lock" in said


# Poetry's, read alone


def locked(lock: str, *, manifest: dict[str, object], target: dict[str, str] = HERE) -> list[str]:
    return [pin.line.split(" --hash")[0] for pin in python_locks.poetry(lock, manifest, target).pins]


def poetry(**dependencies: object) -> dict[str, object]:
    return {"tool": {"poetry": {"name": "itself", "dependencies": {"python": "^3.9", **dependencies}}}}


OLD = """
[[package]]
name = "App-Kit"
version = "2.0"
python-versions = ">=3.8"
[package.dependencies]
itself = "*"
base = ">=1,<3"
tomli = {version = "*", markers = "python_version < '3.11'"}
fast = {version = "*", optional = true}
[package.extras]
speed = ["fast (>=1.0)"]

[[package]]
name = "base"
version = "1.0"
[[package]]
name = "base"
version = "2.0"
[[package]]
name = "fast"
version = "1.1"
[[package]]
name = "narrow"
version = "1.0"
[package.dependencies]
base = "<2"
[[package]]
name = "tomli"
version = "2.0"
[[package]]
name = "pytest"
version = "8.0"
"""


@pytest.mark.parametrize(
    ("dependencies", "expected"),
    [
        ({"app_kit": "^2.0"}, ["App-Kit==2.0", "base==2.0"]),
        ({"app_kit": {"version": "*", "extras": ["speed"]}}, ["App-Kit==2.0", "base==2.0", "fast==1.1"]),
        ({"app_kit": {"version": "*", "optional": True}}, []),
        ({"app-kit": "*", "narrow": "*"}, ["App-Kit==2.0", "base==1.0", "narrow==1.0"]),
        ({"base": [{"version": "<2", "python": "<3.10"}, {"version": "~2.0", "python": "^3.10"}]}, ["base==2.0"]),
    ],
)
def test_an_older_lock_is_walked_from_what_the_project_asks_for(
    dependencies: dict[str, object], expected: list[str]
) -> None:
    assert locked(OLD, manifest=poetry(**dependencies)) == expected


def test_markers_are_those_of_the_function_not_of_this_machine() -> None:
    older = python_locks.environment("3.10.19", "aarch64")

    assert "tomli==2.0" in locked(OLD, manifest=poetry(app_kit="*"), target=older)


@pytest.mark.parametrize(
    ("asked", "is_wanted"),
    [
        ({"markers": "python_full_version >= '3.11.3'"}, True),
        ({"markers": "python_full_version < '3.11.3'"}, False),
        ({"markers": "python_version == '3.11' and implementation_version > '3.11.0'"}, True),
        ({"python": ">=3.11.3"}, True),
        ({"python": "<3.11.3"}, False),
        ({"python": "<=3.11"}, True),
        ({"python": "3.11"}, True),
        ({"python": "3.11.*"}, True),
        ({"python": "!=3.11.*"}, False),
        ({"python": "^3.11.4"}, True),
        ({"python": "~3.11.99"}, False),
        ({"python": "<3.11"}, False),
    ],
)
def test_the_release_of_python_is_the_runtimes(asked: dict[str, str], is_wanted: bool) -> None:
    """Not the first of 3.11, which it has not had for years: what mends a bug of that one is not needed."""
    target = python_locks.environment("3.11.14", "x86_64")

    assert locked(OLD, manifest=poetry(base={"version": "*", **asked}), target=target) == ["base==2.0"] * is_wanted


@pytest.mark.parametrize("name", ["requirements.txt", "pdm.lock"])
def test_uv_judges_markers_by_the_runtimes_release_too(tmp_path: Path, name: str) -> None:
    marker = "python_full_version {} '3.13.1'"
    entry = '[[package]]\nname = "{}"\nversion = "{}"\ngroups = ["default"]\nmarker = "{}"\nfiles = []\n'
    asked = [("six", "1.17.0", marker.format(">=")), ("idna", "3.10", marker.format("<"))]
    text = {
        "requirements.txt": "\n".join(f"{each[0]}=={each[1]} ; {each[2]}" for each in asked),
        "pdm.lock": "\n".join(entry.format(*each) for each in asked),
    }[name]

    assert packages(make(lay(tmp_path / "src", {"app.py": "", name: text}), ".", tmp_path)) == {"six-1.17.0"}


def test_urls_and_folders_in_git_are_taken_from_where_a_lock_says() -> None:
    pdm = python_locks.pdm(
        """
        [[package]]
        name = "six"
        version = "1.17.0"
        groups = ["default"]
        url = "https://files.example/six.zip"
        subdirectory = "py"
        marker = "os_name == 'posix'"
        files = [{url = "https://files.example/six.zip", hash = "sha256:aa"}]
        [[package]]
        name = "idna"
        version = "3.10"
        groups = ["default"]
        git = "https://git.example/idna"
        revision = "abc"
        subdirectory = "py"
        marker = "os_name == 'nt'"
        """,
        HERE,
    )
    pipfile = python_locks.pipfile(
        json.dumps({"default": {"six": {"file": "https://files.example/six.whl", "hashes": ["sha256:aa"]}}}), HERE
    )

    assert [pin.line for pin in (*pdm.pins, *pipfile.pins)] == [
        "six @ https://files.example/six.zip#subdirectory=py ; os_name == 'posix' --hash=sha256:aa",
        "idna @ git+https://git.example/idna@abc#subdirectory=py ; os_name == 'nt'",
        "six @ https://files.example/six.whl --hash=sha256:aa",
    ]
    assert not any(pin.path for pin in (*pdm.pins, *pipfile.pins))


def test_a_local_package_is_left_out_where_its_marker_does_not_hold() -> None:
    entry = '[[package]]\nname = "{0}"\nversion = "1"\ngroups = ["default"]\npath = "./{0}"\nmarker = "{1}"\n'
    markers = {"here": "sys_platform == 'linux'", "there": "python_full_version < '3.13.9'"}
    entries = {name: {"path": f"./{name}", "markers": each} for name, each in markers.items()}

    pdm = python_locks.pdm("".join(entry.format(*each) for each in markers.items()), HERE)
    pipfile = python_locks.pipfile(json.dumps({"default": entries}), HERE)

    assert [pin.path for pin in (*pdm.pins, *pipfile.pins)] == ["./here", "./here"]


def test_a_url_in_a_lock_of_pdm_is_installed(tmp_path: Path) -> None:
    wheel = tmp_path / "wheels" / a_wheel(tmp_path / "wheels", "words")
    entry = f'[[package]]\nname = "words"\nversion = "1.0"\ngroups = ["default"]\nurl = "{wheel.as_uri()}"\n'
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = f'{entry}files = [{{url = "{wheel.as_uri()}", hash = "sha256:{digest}"}}]\n'

    assert packages(make(lay(tmp_path / "src", {"app.py": "", "pdm.lock": lock}), ".", tmp_path)) == {"words-1.0"}


# Indexes


@pytest.mark.parametrize(
    "url", [PYPI, f"{PYPI}/", PYPI.replace("//", "//user:${TOKEN}@"), PYPI.replace("https", "http")]
)
def test_pypi_is_no_index_of_its_own_whatever_it_is_called(url: str) -> None:
    """It is asked anyway; on a machine that has a mirror of it, only that one can be reached."""
    lock = json.dumps({"_meta": {"sources": [{"name": "main", "url": url}]}, "default": {}})
    package = '[[package]]\nname = "six"\nversion = "1"\ngroups = ["main"]\n[package.source]\ntype = "legacy"\n'

    assert python_locks.pipfile(lock, HERE).indexes == []
    assert python_locks.poetry(f'{package}url = "{url}"\n', {}, HERE).indexes == []


def test_another_index_is_asked_also_where_it_is_called_pypi(tmp_path: Path) -> None:
    """Its address may hold a variable, as pipenv has it, for a token: no error shows what that stands for."""
    shelf = tmp_path / "shelf" / "words"
    wheel = a_wheel(shelf, "words")
    lay(shelf, {"index.html": f'<a href="{wheel}">{wheel}</a>'})
    digest = hashlib.sha256((shelf / wheel).read_bytes()).hexdigest()
    lock = {
        "_meta": {"sources": [{"name": "pypi", "url": "file://${SHELF}"}]},
        "default": {"words": {"version": "==1.0", "hashes": [f"sha256:{digest}"], "index": "pypi"}},
    }
    source = lay(tmp_path / "src", {"app.py": "", "Pipfile.lock": json.dumps(lock)})

    made = make(source, ".", tmp_path, more={"SHELF": str(tmp_path / "shelf")})

    assert packages(made) == {"words-1.0"}


def test_a_newer_lock_says_itself_what_is_for_production() -> None:
    lock = """
        [[package]]
        name = "six"
        version = "1.17.0"
        optional = false
        groups = ["main", "dev"]
        markers = {main = "python_version >= '3.12'", dev = "python_version < '3'"}
        [[package]]
        name = "pytest"
        version = "8"
        groups = ["dev"]
        [[package]]
        name = "psycopg"
        version = "3"
        optional = true
        groups = ["main"]
        [[package]]
        name = "private"
        version = "1"
        groups = ["main"]
        [package.source]
        type = "legacy"
        url = "https://index.example/simple"
        """

    found = python_locks.poetry(lock, {}, HERE)

    assert [pin.line for pin in found.pins] == ["six==1.17.0", "private==1"]
    assert found.indexes == ["https://index.example/simple"]


def test_a_lock_that_does_not_know_a_dependency_is_out_of_step() -> None:
    with pytest.raises(BuildFailed, match=r"asks for flask, and the lock does not know it\nRun `poetry lock`"):
        locked(OLD, manifest=poetry(flask="*"))


# Local packages

COMMON = {
    "libs/common/pyproject.toml": '[project]\nname = "common"\nversion = "1"\ndependencies = ["six==1.17.0"]\n'
    '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n',
    "libs/common/src/common/__init__.py": "word = 'one'",
}


@pytest.mark.parametrize("line", ["./../libs/common", "-e ../libs/common", "common @ file:../libs/common"])
def test_a_local_package_is_built_from_a_copy_and_known_by_its_content(tmp_path: Path, line: str) -> None:
    made = []
    for place in ("a", "b/c"):
        root = lay(tmp_path / place, {**COMMON, "fn/app.py": "", "fn/requirements.txt": f"{line}  # ours\n"})
        before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
        made.append(make(root, "fn", tmp_path / f"home of {place[0]}"))
        assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before

    assert made[0].sha256 == made[1].sha256
    assert packages(made[0]) == {"six-1.17.0", "common-1"}
    assert text(made[0], "common/__init__.py") == "word = 'one'"
    lay(tmp_path / "a", {"libs/common/src/common/__init__.py": "word = 'another'"})
    assert text(make(tmp_path / "a", "fn", tmp_path / "home of a"), "common/__init__.py") == "word = 'another'"


def test_a_member_of_a_uv_workspace_is_installed_from_the_lock_above(tmp_path: Path) -> None:
    root = lay(
        tmp_path / "src",
        {
            **COMMON,
            "pyproject.toml": '[project]\nname = "top"\nversion = "1"\nrequires-python = ">=3.9"\n'
            '[tool.uv.workspace]\nmembers = ["libs/*", "fn"]\n',
            "fn/pyproject.toml": '[project]\nname = "fn"\nversion = "1"\ndependencies = ["common"]\n'
            "[tool.uv.sources]\ncommon = { workspace = true }\n[dependency-groups]\ndev = ['idna']\n",
            "fn/app.py": "",
        },
    )
    subprocess.run([UV, "lock", "--quiet"], cwd=root, env=ENVIRONMENT, check=True)

    made = make(root, "fn", tmp_path)

    assert packages(made) == {"six-1.17.0", "common-1"}
    assert [name for name in names(made) if "/" not in name] == ["app.py", "six.py"]
    (root / ".git").mkdir()
    assert make(root / "fn", ".", tmp_path / "alone").sha256 == made.sha256  # with a pointsman.toml of its own


def test_a_local_package_with_compiled_code_is_refused(tmp_path: Path) -> None:
    setup = "from setuptools import *\nsetup(name='fast', version='1', ext_modules=[Extension('f', ['f.c'])])"
    source = lay(
        tmp_path / "src",
        {"app.py": "", "requirements.txt": "./fast\n", "fast/setup.py": setup, "fast/f.c": "int PyInit_f(void);\n"},
    )

    with pytest.raises(BuildFailed, match=r"fast has compiled code: fast-1-.* is for this machine"):
        make(source, ".", tmp_path)


def test_sources_of_uv_without_a_lock_are_refused(tmp_path: Path) -> None:
    manifest = '[project]\nname = "a"\nversion = "1"\ndependencies = ["common"]\n'
    source = lay(
        tmp_path, {"pyproject.toml": f'{manifest}[tool.uv.sources]\ncommon = {{ path = "libs/common" }}\n', **COMMON}
    )

    with pytest.raises(BuildFailed, match=r"local package common, and there is no uv.lock\nRun `uv lock`"):
        make_here(source, tmp_path / "home", runtime="python3.13")


def test_the_sdk_of_the_runtime_is_kept_or_left_out(tmp_path: Path) -> None:
    """Of stand-ins: the real botocore is 90 MB."""
    wheels = {}
    for name in ("boto3", "botocore", "mine"):
        project = f'[project]\nname = "{name}"\nversion = "1"\n[build-system]\nrequires = ["hatchling"]\n'
        wheels[f"libs/{name}/pyproject.toml"] = f'{project}build-backend = "hatchling.build"\n'
        wheels[f"libs/{name}/{name}/__init__.py"] = "x" * 1000
    source = lay(
        tmp_path / "src", {**wheels, "app.py": "", "requirements.txt": "./libs/boto3\n./libs/botocore\n./libs/mine\n"}
    )
    said: list[str] = []
    more = {"runtime": "python3.13", "exclude": ("libs/",)}

    kept = make_here(source, tmp_path, said, **more)
    left = make_here(source, tmp_path, said, sdk="leave-out", **more)

    assert packages(kept) == {"boto3-1", "botocore-1", "mine-1"}
    assert packages(left) == {"mine-1"}
    assert [name for name in names(left) if name.startswith("boto")] == []
    assert any(line.startswith('python3.13 has boto3 too: sdk = "leave-out" would save 2.') for line in said)
