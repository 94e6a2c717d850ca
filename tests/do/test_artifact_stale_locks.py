"""A lock of another pyproject.toml than lies beside it is refused, by what real tools wrote; any other is not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pointsman.artifact import python_locks
from pointsman.errors import BuildFailed

from .test_artifact import ENVIRONMENT, lay
from .test_artifact_dependencies import UV
from .test_artifact_python_locks import HERE, make, packages

TOP = '[project]\nname = "App_x"\nversion = "1"\nrequires-python = ">=3.11, <4"\n'
ASKED = (
    "dependencies = ['six>=1.16, <2', 'Charset_Normalizer ~= 3.0', "
    '\'Idna; python_version<"3.14" and platform_system == "Linux"\', \'colorama==0.4.*; sys_platform == "win32"\', '
    "'tomli; python_version < \"3.11\"']\n"
    "[project.optional-dependencies]\nfast = ['certifi']\n[dependency-groups]\ndev = ['iniconfig']\n"
)


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What uv writes."""
    root = lay(tmp_path_factory.mktemp("locked"), {"pyproject.toml": TOP + ASKED})
    subprocess.run([UV, "lock", "--quiet"], cwd=root, env=ENVIRONMENT, check=True)
    return (root / "uv.lock").read_text()


def build(tmp_path: Path, lock: str, manifest: str) -> set[str]:
    root = lay(tmp_path / "src", {"pyproject.toml": manifest, "uv.lock": lock, "app.py": ""})
    return packages(make(root, ".", tmp_path))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        (">=1.16, <2", "<2,>=1.16"),
        ("Charset_Normalizer", "charset-normalizer"),
        ("'six>=1.16, <2', ", ""),  # and again, below
        ('python_version<"3.14" and ', ""),  # other words, and the same for this function
        ("'iniconfig'", "'iniconfig>=2', 'packaging'"),  # not for production
        ("['certifi']", "['certifi>2']"),
    ],
)
def test_what_means_the_same_for_the_function_is_not_stale(
    tmp_path: Path, locked: str, before: str, after: str
) -> None:
    manifest = (TOP + ASKED).replace(before, after) if before else TOP + ASKED
    if "six" not in manifest:
        manifest = manifest.replace("dependencies = [", "dependencies = ['six>=1.16,<2', ", 1)

    assert {each.rpartition("-")[0] for each in build(tmp_path, locked, manifest)} == {
        "six",
        "charset_normalizer",
        "idna",
    }


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("['six", "['pyyaml', 'six", "asks for pyyaml, and the lock does not know that it does"),
        ("six>=1.16, <2", "six==1.10", r"asks for six==1\.10, and was locked as six<2,>=1\.16"),
        ("'Idna", "'Idna[all]", r"asks for idna\[all\], and was locked as idna"),
        ('python_version < "3.11"', 'python_version > "3.11"', "asks for tomli"),
        ("'six>=1.16, <2', ", "", "no longer asks for six"),
        (">=3.11, <4", ">=3.12", r'requires-python is ">=3\.12", and was ">=3\.11, <4"'),
        (
            "[dependency-groups]",
            "[tool.uv]\ndefault-groups = ['prod']\n[dependency-groups]\nprod = ['certifi']",
            "certifi",
        ),
    ],
)
def test_a_lock_of_another_pyproject_is_refused(
    tmp_path: Path, locked: str, before: str, after: str, said: str
) -> None:
    assert before in TOP + ASKED

    with pytest.raises(BuildFailed, match=said) as refused:
        build(tmp_path, locked, (TOP + ASKED).replace(before, after, 1))

    assert refused.value.next == "Run `uv lock`, and commit uv.lock."


def test_a_member_of_a_workspace_that_the_function_needs_is_looked_at_and_no_other(tmp_path: Path) -> None:
    member = '[project]\nname = "{0}"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = [{1}]\n'
    backend = '[build-system]\nrequires = ["uv_build"]\nbuild-backend = "uv_build"\n'
    root = lay(
        tmp_path / "src",
        {
            "pyproject.toml": member.format("top", "")
            + '[tool.uv.workspace]\nmembers = ["libs/*", "fn"]\n[tool.uv.sources]\ncommon = { workspace = true }\n',
            "libs/common/pyproject.toml": member.format("common", "'six'") + backend,
            "libs/common/src/common/__init__.py": "",
            "libs/other/pyproject.toml": member.format("other", "'idna'"),
            "fn/pyproject.toml": member.format("fn", "'common>=1'"),
            "fn/app.py": "",
        },
    )
    subprocess.run([UV, "lock", "--quiet"], cwd=root, env=ENVIRONMENT, check=True)
    lay(root, {"libs/other/pyproject.toml": member.format("other", "'idna', 'pyyaml'")})
    assert {each.rpartition("-")[0] for each in packages(make(root, "fn", tmp_path))} == {"six", "common"}

    lay(root, {"libs/common/pyproject.toml": member.format("common", "'six', 'pyyaml'") + backend})

    with pytest.raises(BuildFailed, match=r"libs/common/pyproject.toml: pyproject.toml asks for pyyaml"):
        make(root, "fn", tmp_path)


POETRY = """
[[package]]
name = "six"
version = "1.17.0"
optional = false
python-versions = "*"
{groups}
files = []
[metadata]
lock-version = "{version}"
{hash}
"""
SINCE_2 = POETRY.format(groups='groups = ["main"]', version="2.1", hash="")
BEFORE = POETRY.format(groups="", version="2.0", hash="")


@pytest.mark.parametrize("lock", [SINCE_2, BEFORE])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"six": "^1.16", "requests": "*"}, "asks for requests, and the lock does not know it"),
        ({"six": "1.10"}, r"asks for six==1\.10, and 1\.17\.0 is locked"),
        ({"six": {"version": "^1.16", "extras": ["a"]}, "Tomli": {"version": "*", "python": "<3.11"}}, ""),
        ({"six": "^1.10 || ^2"}, ""),
        ({"six": "*", "left": {"version": "1", "optional": True}}, ""),
    ],
)
def test_poetrys_lock_has_all_that_the_project_asks_for(lock: str, asked: dict[str, object], said: str) -> None:
    manifest = {"tool": {"poetry": {"dependencies": {"python": "^3.11", **asked}}}}

    if not said:
        assert [pin.line for pin in python_locks.poetry(lock, manifest, HERE).pins] == ["six==1.17.0"]
        return
    with pytest.raises(BuildFailed, match=said) as refused:
        python_locks.poetry(lock, manifest, HERE)
    assert refused.value.next == "Run `poetry lock`, and commit poetry.lock."


def test_poetrys_content_hash_tells_what_was_taken_away() -> None:
    """The hash is what Poetry 1.8.5 and 2 wrote of this very table."""
    table = {
        "name": "x",
        "dependencies": {"python": "^3.11", "six": "^1.16"},
        "group": {"dev": {"dependencies": {"idna": "*"}}},
    }
    kept = 'content-hash = "1a23919ccee13e0076011d7bb13cff2f2509c80af55895cc85162c6b2983a794"'
    lock = POETRY.format(groups="", version="2.0", hash=kept)

    assert python_locks.poetry(lock, {"tool": {"poetry": table}}, HERE).pins
    with pytest.raises(BuildFailed, match="content-hash"):
        python_locks.poetry(lock, {"tool": {"poetry": {"dependencies": {"python": "^3.11"}}}}, HERE)


def test_locks_of_pdm_and_pipenv_have_all_that_is_asked_for() -> None:
    pdm = '[[package]]\nname = "six"\nversion = "1.17.0"\ngroups = ["default"]\n'
    asked = {"project": {"dependencies": ["six>=1", "idna; sys_platform == 'win32'"]}}
    assert python_locks.pdm(pdm, HERE, asked).pins
    with pytest.raises(BuildFailed, match=r"asks for six<1, and 1\.17\.0 is locked"):
        python_locks.pdm(pdm, HERE, {"project": {"dependencies": ["six<1"]}})
    with pytest.raises(BuildFailed, match=r"pdm.lock is older .* asks for idna"):
        python_locks.pdm(pdm, HERE, {"project": {"dependencies": ["six", "idna"]}})

    pipenv = '{"default": {"six": {"version": "==1.17.0"}}}'
    assert python_locks.pipfile(pipenv, HERE, '[packages]\nSix = "*"\n').pins
    with pytest.raises(BuildFailed, match=r"Pipfile.lock is older .* asks for idna"):
        python_locks.pipfile(pipenv, HERE, '[packages]\nsix = ">=1"\nidna = {version = "*"}\n')


@pytest.mark.parametrize(
    ("line", "is_refused"),
    [
        ("six>=1 --hash=sha256:abc", True),
        ("six --hash=sha256:abc", True),
        ("six==1.* --hash=sha256:abc", True),
        ("six>=1 ; python_version >= '3' --hash=sha256:abc", True),
        ("six==1.17.0 --hash=sha256:abc", False),
        ("six[x] == 1.17.0 ; python_version >= '3' --hash=sha256:abc", False),
        ("six===1.17.0 --hash=sha256:abc", False),
        ("six @ https://example.com/six-1.17.0.whl --hash=sha256:abc", False),
    ],
)
def test_a_hash_of_what_is_not_pinned_is_refused(tmp_path: Path, line: str, is_refused: bool) -> None:
    """uv would not look at it, and the author thinks that it does."""
    root = lay(tmp_path / "src", {"app.py": "", "requirements.txt": f"{line}\n"})

    with pytest.raises(BuildFailed) as refused:
        make(root, ".", tmp_path)

    assert ("is not pinned" in str(refused.value)) is is_refused
