"""The folder for what is kept beside the file: packages, the ledger, reports. Git does not see it."""

from __future__ import annotations

from pathlib import Path

NAME = ".pointsman"


def make(root: Path) -> Path:
    """Of the folder of pointsman.toml: else git would find every tree changed, and add packages. Raises OSError."""
    folder = root / NAME
    ignore = folder / ".gitignore"
    if not ignore.exists():
        folder.mkdir(exist_ok=True)
        ignore.write_text("*\n")
    return folder
