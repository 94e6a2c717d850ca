"""Configurations as files of the package. And what a source is.

A source is anything with `max_age` (seconds), `where(name)` and `read(name)`, which answers the configuration called
`name`, None where there is none, or raises ConfigurationError. `name` is an alias, or the name to fall back to.
"""

from __future__ import annotations

import json
import os

from pointsman_runtime.errors import ConfigurationInvalid, ConfigurationUnreachable

TYPE_CHECKING = False  # importing `typing` costs more than all of this package
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Source(Protocol):
        max_age: float

        def where(self, name: str) -> str: ...

        def read(self, name: str) -> Any: ...


class Files:
    """`<folder>/<name>.json` of the package."""

    def __init__(self, folder: str = "config") -> None:
        self._folder = os.path.join(os.environ.get("LAMBDA_TASK_ROOT", os.curdir), folder)
        self.max_age = float("inf")  # a version's package never changes

    def where(self, name: str) -> str:
        return os.path.join(self._folder, f"{name}.json")

    def read(self, name: str) -> Any:
        try:
            with open(self.where(name), "rb") as file:
                return parsed(file.read(), self.where(name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationUnreachable(self.where(name), f"it cannot be read ({error.strerror})") from error


def parsed(data: Any, where: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:  # the message tells the place, never the text
        raise ConfigurationInvalid(where, f"it is not JSON ({error})") from error
