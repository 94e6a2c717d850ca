"""What several builds of one command need: made once, by whichever comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Builds:
    """The builds of one command, which may go on side by side."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._wanted: dict[Hashable, _Wanted] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns or raises, which only the first who asks for `key` calls. The others wait for it."""
        with self._guard:
            wanted = self._wanted.setdefault(key, _Wanted())
        with wanted.turn:
            if not wanted.tried:
                wanted.tried = True
                try:
                    wanted.made = make()
                except BaseException as error:  # noqa: BLE001 - raised below, to each who asks
                    wanted.error = error
        if wanted.error:
            raise copy(wanted.error)  # each says where it was met
        made: T = wanted.made
        return made

    def folder(self, cache: Path) -> Path:
        """A new one in the cache, which is there as long as this is."""
        import shutil
        import tempfile  # 20 ms, so only for those who compile
        import weakref

        cache.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache, prefix=".making-")).resolve()
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return made


class _Wanted:
    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.tried = False
        self.made: Any = None
        self.error: BaseException | None = None
