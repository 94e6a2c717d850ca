"""Layers as they are built: what lies where, the same bytes every time."""

from __future__ import annotations

import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pointsman import building, config
from pointsman.artifact.builds import Builds
from pointsman.errors import BuildFailed
from pointsman.model import Artifact, BuiltLayer, CodeSha256

ROLE = "arn:aws:iam::123456789012:role/greeting"


def wheel(folder: Path, name: str) -> str:
    """A wheel for any Python, as a file: what is installed needs no registry."""
    file = folder / f"{name}-1.0-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr(f"{name}.py", "WORD = 'hello'\n")
        zipped.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        zipped.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        zipped.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return file.name


def built(root: Path, table: str, *, runtime: str = "python3.12") -> tuple[BuiltLayer, list[str]]:
    file = root / "pointsman.toml"
    (root / "app.py").write_text("handler = print")
    file.write_text(
        f'[function.greeting]\nhandler = "app.handler"\nruntime = "{runtime}"\nbuild = "python"\ninclude = ["app.py"]\n'
        f'provision = {{ with = "direct", role = "{ROLE}", layers = ["common"] }}\n[layer.common]\n{table}\n'
    )
    project = config.load(file)
    made = building.layer(project, project.layers["common"], environ=os.environ, say=lambda _: None)
    with zipfile.ZipFile(made.package.path) as zipped:
        return made, [each for each in sorted(zipped.namelist()) if ".dist-info" not in each]


def test_pythons_packages_and_sources_lie_in_python(tmp_path: Path) -> None:
    name = wheel(tmp_path / "common", "words")
    (tmp_path / "common" / "requirements.txt").write_text(f"./{name}\n")
    (tmp_path / "common" / "shared.py").write_text("")

    made, names = built(tmp_path, 'source = "common"')

    assert names == ["python/shared.py", "python/words.py"]
    assert (made.runtimes, made.architectures) == (("python3.12",), ("x86_64",))


def test_git_does_not_see_what_is_built(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "shared.py").write_text("")

    built(tmp_path, 'source = "common"')

    assert (tmp_path / ".pointsman" / ".gitignore").read_text() == "*\n"


def test_for_several_pythons_each_has_a_folder_that_only_it_looks_at(tmp_path: Path) -> None:
    name = wheel(tmp_path / "common", "words")
    (tmp_path / "common" / "requirements.txt").write_text(f"./{name}\n")
    (tmp_path / "common" / "shared.py").write_text("")

    _, names = built(tmp_path, 'source = "common"\nruntimes = ["python3.12", "python3.13"]')

    assert names == [
        "python/lib/python3.12/site-packages/words.py",
        "python/lib/python3.13/site-packages/words.py",
        "python/shared.py",
    ]


def test_a_folder_goes_in_as_it_is_and_twice_to_the_same_bytes(tmp_path: Path) -> None:
    for path in ("common/python/shared.py", "common/bin/tool", "common/extensions/watch"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("#!/bin/sh\n")
        (tmp_path / path).chmod(0o755)

    first, names = built(tmp_path, 'source = "common"\nname = "greeting-common"')
    os.utime(tmp_path / "common/bin/tool", (0, 0))
    second, _ = built(tmp_path, 'source = "common"\nname = "greeting-common"')

    assert names == ["bin/tool", "extensions/watch", "python/shared.py"]
    assert first.name == "greeting-common"
    assert first.package.sha256 == second.package.sha256


def test_a_command_makes_a_layer(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()

    _, names = built(
        tmp_path, 'source = "common"\ncommand = "mkdir -p out/lib && echo x >out/lib/x"\nartifact = "common/out"'
    )

    assert names == ["lib/x"]


def two_functions(root: Path, command: str) -> config.Project:
    """Of two folders, so that a release builds them side by side, with one layer that a command makes."""
    (root / "common").mkdir()
    tables = [f'[layer.common]\nsource = "common"\ncommand = "{command}"\nartifact = "common/out"\n']
    for name in ("greeting", "farewell"):
        (root / name).mkdir()
        (root / name / "app.py").write_text("handler = print")
        tables.append(
            f'[function.{name}]\nsource = "{name}"\nhandler = "app.handler"\nruntime = "python3.12"\n'
            f'provision = {{ with = "direct", role = "{ROLE}", layers = ["common"] }}\n'
        )
    (root / "pointsman.toml").write_text("".join(tables))
    return config.load(root / "pointsman.toml")


def side_by_side(project: config.Project) -> list[Artifact | BuildFailed]:
    builds = Builds()

    def build(function: config.Function) -> Artifact | BuildFailed:
        try:
            return building.build(project, function, environ=os.environ, say=lambda _: None, builds=builds)
        except BuildFailed as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(build, project.functions.values()))


def test_a_layer_is_built_once_for_all_functions_that_name_it(tmp_path: Path) -> None:
    """Two runs of one command in one folder, at the same time, would write over each other."""
    project = two_functions(tmp_path, "echo built >>../log && mkdir -p out/lib && echo x >out/lib/x")

    one, other = side_by_side(project)

    assert isinstance(one, Artifact)
    assert isinstance(other, Artifact)
    assert (one.function, other.function) == ("greeting", "farewell")
    assert one.layers == other.layers
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_layer_that_cannot_be_built_is_tried_once_and_fails_all_who_name_it(tmp_path: Path) -> None:
    project = two_functions(tmp_path, "echo tried >>../log && echo no disk && exit 3")

    for each in side_by_side(project):
        assert isinstance(each, BuildFailed)
        assert each.where == "building common"
        assert "no disk" in each.what
    assert (tmp_path / "log").read_text() == "tried\n"


def test_an_empty_layer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()

    with pytest.raises(BuildFailed, match="has no file to package"):
        built(tmp_path, 'source = "common"')


def test_a_digest_is_of_a_zip_or_of_an_image() -> None:
    zipped, image = CodeSha256("A" * 43 + "="), CodeSha256("ab" * 32)

    assert (zipped.image, zipped.hex) == (False, "00" * 32)
    assert (image.image, image.hex, image.short) == (True, "ab" * 32, "abababab")
    with pytest.raises(ValueError, match="of a zip in base64, of an image in hexadecimal"):
        CodeSha256("sha256:" + "ab" * 32)
