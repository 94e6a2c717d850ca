"""How a function process sees its layers: as /opt where the kernel lets it, and on its runtime's search paths."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = Path(__file__).parent / "own_opt.py"
_OPT = Path("/opt")


@dataclass(frozen=True, slots=True)
class Opt:
    """`folder` holds the layers' files, and `root` is the path by which the function process has them."""

    folder: Path
    root: str
    launcher: tuple[str, ...] = ()  # what stands before the command so that `root` is what it says
    notices: tuple[str, ...] = ()  # for the function's log


class Layers:
    """`needed`: paths that function processes must see whatever their layers hold. The kernel is asked once."""

    def __init__(self, needed: Iterable[Path], *, namespaces: bool = True) -> None:
        beneath = any(path.resolve().is_relative_to(_OPT) for path in needed)
        self._start = (os.path.realpath(sys.executable), "-I", "-S", str(_LAUNCHER))
        self._beneath = "1" if beneath else "0"
        self._refusal: asyncio.Task[str] | None = None
        self._namespaces = namespaces

    async def opt(self, folder: Path) -> Opt:
        notices = [_extensions(folder)]
        if self._refusal is None:
            self._refusal = asyncio.create_task(self._ask(folder))
        refusal = await asyncio.shield(self._refusal)
        if not refusal:
            launcher = (*self._start, str(folder), self._beneath)
            return Opt(folder, str(_OPT), launcher, tuple(filter(None, notices)))
        notices.append(
            f"The layers of this function are in {folder}, which its search paths name. Absolute paths (/opt/...) do "
            f"not work on this machine: {refusal}."
        )
        return Opt(folder, str(folder), (), tuple(filter(None, notices)))

    def close(self) -> None:
        if self._refusal is not None:
            self._refusal.cancel()

    async def _ask(self, folder: Path) -> str:
        """Why a process cannot have an /opt of its own; empty if it can."""
        if not self._namespaces:
            return "it was told to do without namespaces"
        if sys.platform != "linux":
            return "it takes Linux"
        process = await asyncio.create_subprocess_exec(
            *(*self._start, str(folder), self._beneath),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={},
        )
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            raise
        if process.returncode == 0:
            return ""
        lines = said.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the attempt ended with status {process.returncode}"


def _extensions(folder: Path) -> str | None:
    found = folder / "extensions"
    names = sorted(path.name for path in found.iterdir()) if found.is_dir() else []
    if not names:
        return None
    return f"Extensions in layers are not run on this machine: {', '.join(names)}."
