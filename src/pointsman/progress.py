"""How far long work is, and how long it will take: told on one line that is redrawn, or now and then on a new one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pointsman.model import lasting

if TYPE_CHECKING:
    from pointsman.world import World

_EVERY_S = 10.0  # a new line, where none can be redrawn
_REDRAWN_S = 0.2
_SURE_S = 2.0  # what is said of the time that is left before that is a guess


class Course:
    """One piece of work. `reached` as often as you like, from any thread; `ended` takes the line away."""

    def __init__(self, world: World, what: str) -> None:
        self._world = world
        self._what = what
        self._began = self._told = world.clock.now()
        self._lock = threading.Lock()

    def reached(self, done: int, total: int | None, more: str = "") -> None:
        """`done` of `total` (None: nobody knows of how many); `more` says it in words."""
        now = self._world.clock.now()
        with self._lock:
            if now - self._told < (_REDRAWN_S if self._world.line else _EVERY_S):
                return
            self._told = now
            passed = now - self._began
            left = passed * (total - done) / done if total and done and passed >= _SURE_S else None
            told = ", ".join((more or f"{done} of {total}", *([f"{lasting(left)} left"] if left else [])))
            (self._world.line or self._world.say)(f"{self._what}: {told}")

    def ended(self) -> None:
        if self._world.line:
            self._world.line("")


__all__ = ["Course"]
