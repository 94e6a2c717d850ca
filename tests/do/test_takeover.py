"""When two zips are the same package."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pointsman.takeover import differences


def packed(path: Path, files: dict[str, bytes], *, mode: int = 0o644, system: int = 3, stored: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder") if stored else None
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0) if stored else (2026, 1, 2, 3, 4, 6))
            info.create_system = system
            info.external_attr = (0o100000 | mode) << 16
            archive.writestr(info, content)
    return path


FILES = {"index.js": b"exports.handler = 1", "lib/a.js": b"1"}


def test_order_times_compression_and_folders_count_for_nothing(tmp_path: Path) -> None:
    ours = packed(tmp_path / "ours.zip", FILES, stored=True)
    theirs = packed(tmp_path / "theirs.zip", dict(reversed(FILES.items())))

    assert ours.read_bytes() != theirs.read_bytes()
    assert differences(ours, theirs) == []


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ({**FILES, "README.md": b""}, ["only there: README.md"]),
        ({"index.js": FILES["index.js"]}, ["only here: lib/a.js"]),
        ({**FILES, "lib/a.js": b"2"}, ["of other content: lib/a.js"]),
        ({f"{n}.js": b"" for n in range(7)} | FILES, ["only there: 0.js, 1.js, 2.js, 3.js, 4.js and 2 more"]),
    ],
)
def test_what_differs_is_named(tmp_path: Path, theirs: dict[str, bytes], told: list[str]) -> None:
    assert differences(packed(tmp_path / "ours.zip", FILES), packed(tmp_path / "theirs.zip", theirs)) == told


@pytest.mark.parametrize(
    ("mode", "system", "told"),
    [(0o644, 3, ["a program here only: bootstrap"]), (0o755, 3, []), (0o644, 0, [])],
)
def test_a_program_must_be_one_there_too_where_the_zip_says_so(
    tmp_path: Path, mode: int, system: int, told: list[str]
) -> None:
    """A zip made on Windows (system 0) has no permissions, and Lambda lets everything in it be run."""
    ours = packed(tmp_path / "ours.zip", {"bootstrap": b"#!/bin/sh"}, mode=0o755)

    assert differences(ours, packed(tmp_path / "t.zip", {"bootstrap": b"#!/bin/sh"}, mode=mode, system=system)) == told
