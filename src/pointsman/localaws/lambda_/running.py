"""How many invocations run at once: in a region, of a function, by one way of calling it, on what is kept ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pointsman.localaws.contract import Target


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Those that ran when one began, it included."""

    counts: tuple[int, int, int]  # in the region, of the function, so called
    unreserved: int | None  # in the region without a reservation; None when this function has one
    ready: int | None  # on the version's provisioned concurrency; None when this one runs beside it


class Running:
    """Not thread-safe: for one event loop."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()

    def ready(self, target: Target) -> int:
        """Those on the version's provisioned concurrency."""
        return self._counts["ready", target.account, target.region, target.function_name, target.version]

    def on_demand(self, target: Target) -> int:
        """Those of the function that are not on provisioned concurrency."""
        return self._counts["on demand", target.account, target.region, target.function_name]

    @contextmanager
    def one_more(self, target: Target, qualifier: str | None, *, ready: bool, reserved: bool) -> Iterator[AtOnce]:
        place, name = (target.account, target.region), target.function_name
        keys: list[tuple[str, ...]] = [("region", *place), ("function", *place, name)]
        keys.append(("called", *place, name, qualifier or ""))
        keys.append(("ready", *place, name, target.version) if ready else ("on demand", *place, name))
        if not reserved:
            keys.append(("unreserved", *place))
        for key in keys:
            self._counts[key] += 1
        region, function, called, *_ = (self._counts[key] for key in keys)
        unreserved = None if reserved else self._counts[keys[-1]]
        try:
            yield AtOnce((region, function, called), unreserved, self.ready(target) if ready else None)
        finally:
            for key in keys:
                self._counts[key] -= 1
                if not self._counts[key]:
                    del self._counts[key]
