"""How fast the waits of the local AWS pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pace:
    """AWS's waits, divided by `speed()`: how many times as fast as there they pass here."""

    def __init__(self, speed: Callable[[], float]) -> None:
        self._speed = speed
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def changed(self) -> None:
        """Have the waits under way go on at the new speed. From whatever thread."""
        for loop, changed in self._waiting.copy():
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

    async def wait(self, seconds: float) -> float:
        """Wait so many of AWS's seconds; how many of them this machine did not have to wait."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        began, left = loop.time(), seconds
        self._waiting.add((loop, changed))
        try:
            while left > 0:
                changed.clear()
                speed, since = self._speed(), loop.time()
                try:
                    async with asyncio.timeout(left / speed):
                        await changed.wait()
                except TimeoutError:
                    break
                left -= (loop.time() - since) * speed
        finally:
            self._waiting.discard((loop, changed))
        return seconds - (loop.time() - began)
