"""Inside a Lambda handler: which alias was called, and the configuration for it.

    from pointsman_runtime import configuration

    def handler(event, context):
        config = configuration(context)     # config/STAGE.json when called by STAGE, else config/default.json
        topic = config["topic"]

`Configuration` is the same from elsewhere, typed, and with rules of your own.
"""

from __future__ import annotations

import threading
import time

from pointsman_runtime.errors import (
    ConfigurationError,
    ConfigurationInvalid,
    ConfigurationMissing,
    ConfigurationUnreachable,
    NoAlias,
)
from pointsman_runtime.files import Files

__version__ = "0.1.0"
__all__ = [
    "AppConfig",
    "Configuration",
    "ConfigurationError",
    "ConfigurationInvalid",
    "ConfigurationMissing",
    "ConfigurationUnreachable",
    "Files",
    "NoAlias",
    "Parameters",
    "alias",
    "configuration",
]

TYPE_CHECKING = False  # importing `typing` costs more than all of this package
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Generic, TypeVar, overload

    from pointsman_runtime.aws import AppConfig, Parameters
    from pointsman_runtime.files import Source

    T = TypeVar("T")

    class _Of(Generic[T]): ...

else:
    T = None

    class _Of:
        def __class_getitem__(cls, _):
            return cls

    def __getattr__(name):  # a cold start that reads a file pays for no more
        if name not in ("AppConfig", "Parameters"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pointsman_runtime import aws

        return getattr(aws, name)


RETRY_AFTER = 5.0
"""Seconds that an expired value serves on after a refresh failed, before the next try."""


def alias(context: Any) -> str | None:
    """The alias this invocation came by, or None: by a version's number, by `$LATEST`, or without a qualifier.

    `context` is the handler's, or an ARN. None stands for the context of a unit test, and has no alias.
    """
    arn = context if context is None or isinstance(context, str) else getattr(context, "invoked_function_arn", context)
    if arn is None:
        return None
    parts = arn.split(":") if isinstance(arn, str) else []
    if len(parts) not in (7, 8) or parts[0] != "arn" or parts[5] != "function":
        raise TypeError(f"{type(context).__name__} is not a handler's context: it has no invoked_function_arn")
    qualifier = parts[7] if len(parts) == 8 else ""
    return None if not qualifier or qualifier.isdigit() or qualifier.startswith("$") else qualifier


class Configuration(_Of[T]):
    """The configuration of each alias, kept for as long as its source says. Make one, outside of the handler.

    - `source`: `Files()`, `Parameters("/greeting/{alias}")`, `AppConfig("greeting", "settings")`.
    - `into`: a dataclass or a TypedDict that it must fit, and is given as; plain JSON without one.
    - `fallback`: whose configuration serves an alias that has none of its own, a version's number and `$LATEST`.
      One or the other, never a mixture. None: NoAlias and ConfigurationMissing are raised instead.
    - `max_age`: seconds until it is read again. An expired one serves on when that fails, with a warning in the log.
    """

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Configuration[dict[str, Any]],
            source: Source = ...,
            *,
            fallback: str | None = ...,
            max_age: float | None = ...,
            clock: Callable[[], float] = ...,
        ) -> None: ...

        @overload
        def __init__(
            self,
            source: Source = ...,
            *,
            into: type[T],
            fallback: str | None = ...,
            max_age: float | None = ...,
            clock: Callable[[], float] = ...,
        ) -> None: ...

    def __init__(
        self,
        source: Source | None = None,
        *,
        into: type[T] | None = None,
        fallback: str | None = "default",
        max_age: float | None = None,
        # Not the monotonic clock: it stands still while Lambda has frozen the environment, and SnapStart copies it.
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = Files() if source is None else source
        self._into = into
        self._fallback = fallback
        self._max_age = self._source.max_age if max_age is None else max_age
        self._clock = clock
        # One environment serves every alias that its version has, so each has its own.
        self._kept: dict[str | None, _Kept] = {}
        self._making = threading.Lock()

    def read(self, context: Any) -> T:
        """The configuration for the alias of this invocation: at most one read of the source per alias and `max_age`,
        also by many threads. Everybody gets the same object. Raises ConfigurationError."""
        value: T = self._current(alias(context)).value
        return value

    def _current(self, name: str | None) -> _Kept:
        with self._making:
            kept = self._kept.setdefault(name, _Kept())
        # An expired value serves the other threads while one of them refreshes it; without a value they wait.
        if not kept.fresh(self._clock()) and kept.lock.acquire(blocking=not kept.known):
            try:
                now = self._clock()
                if not kept.fresh(now):
                    self._refresh(name, kept, now)
            finally:
                kept.lock.release()
        return kept

    def _refresh(self, name: str | None, kept: _Kept, now: float) -> None:
        try:
            kept.value = self._find(name)
        except ConfigurationError as error:
            if not kept.known:
                raise
            import logging

            logging.getLogger(__name__).warning("the configuration of before serves on: %s", error)
            kept.since, kept.until = now, now + RETRY_AFTER
        else:
            kept.known, kept.since, kept.until = True, now, now + self._max_age

    def _find(self, name: str | None) -> T:
        asked = [each for each in dict.fromkeys((name, self._fallback)) if each is not None]
        if not asked:
            raise NoAlias(
                "the invocation",
                "it came without an alias, and there is no fallback",
                "Call the function by an alias (the ARN ends in :PROD, or Qualifier=PROD), or give a `fallback`.",
            )
        for each in asked:
            found = self._source.read(each)
            if found is not None:
                return self._shaped(found, self._source.where(each))
        places = " and ".join(self._source.where(each) for each in asked)
        raise ConfigurationMissing(places, "there is no configuration", "Write one, or correct the name.")

    def _shaped(self, found: Any, where: str) -> T:
        if self._into is None and isinstance(found, dict):
            return found  # type: ignore[return-value]
        from pointsman_runtime.shape import problems_of, shaped

        value, problems = shaped(found, self._into or dict, texts=getattr(self._source, "texts", False))
        if problems:
            raise ConfigurationInvalid(where, problems_of(problems), "Correct it, or the type it should have.")
        return value  # type: ignore[no-any-return]


class _Kept:
    """`value` is good from `since` until `until`, by the clock: one set back must not keep it for ever."""

    def __init__(self) -> None:
        self.value: Any = None
        self.known = False
        self.since = self.until = 0.0
        self.lock = threading.Lock()

    def fresh(self, now: float) -> bool:
        return self.known and self.since <= now < self.until


def configuration(context: Any) -> dict[str, Any]:
    """`config/<alias>.json` of the package, or `config/default.json`: `Configuration()`, ready made."""
    return _files.read(context)


_files: Configuration[dict[str, Any]] = Configuration()
