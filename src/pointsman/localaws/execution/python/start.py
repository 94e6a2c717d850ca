"""Runs inside a Python function process: `start.py HANDLER BYTECODE [OPT BYTECODE]`, then awslambdaric for good.

`-S` keeps the machine's own site-packages away, so that what is missing on AWS is missing here, and saves 20 ms.
Runs on every Python that Lambda has, so nothing newer than 3.10 here.
"""

import os
import site
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)

TYPE_CHECKING = False  # importing `typing` costs more than the rest of this file
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

_RUNTIME, _TASK = os.environ["LAMBDA_RUNTIME_DIR"], os.environ["LAMBDA_TASK_ROOT"]
_BYTECODE = {_RUNTIME: _RUNTIME + "/.bytecode", _TASK: sys.argv[2], **dict([sys.argv[3:5]] if sys.argv[3:] else [])}


def _keep_bytecode(root: str, folder: str) -> "Callable[[str], FileFinder]":
    """Import from `root` with bytecode kept in `folder`.

    A package must stay as it was unpacked, and compiling a large one at every cold start would be slow.
    """

    class Loader(SourceFileLoader):
        def get_code(self, fullname: str) -> "CodeType | None":
            sys.pycache_prefix, sys.dont_write_bytecode = folder, False
            try:
                return super().get_code(fullname)
            finally:
                sys.pycache_prefix, sys.dont_write_bytecode = None, True

    def hook(path: str) -> FileFinder:
        if path != root and not path.startswith(root + "/"):
            raise ImportError(path)
        return FileFinder(
            path,
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (Loader, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    return hook


sys.path_hooks[:0] = [_keep_bytecode(root, folder) for root, folder in _BYTECODE.items()]
sys.path_importer_cache.clear()
site.setquit()  # exit() and quit() come from `site`; handlers do call them
sys.path[0] = _TASK

if __name__ == "__main__":  # not again in what `multiprocessing` spawns
    from awslambdaric.__main__ import main

    main(["bootstrap", sys.argv[1]])
