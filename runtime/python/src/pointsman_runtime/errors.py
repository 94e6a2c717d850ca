"""What can go wrong, each with where, what, and what to do next."""

from __future__ import annotations


class ConfigurationError(Exception):
    """`where` it was looked for, `what` is wrong, what to do `next`. No value of a configuration is ever named."""

    def __init__(self, where: str, what: str, next: str = "") -> None:
        super().__init__(f"{where}: {what}.{f' {next}' if next else ''}")
        self.where, self.what, self.next = where, what, next

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[str, str, str]]:
        return type(self), (self.where, self.what, self.next)


class NoAlias(ConfigurationError):
    """The function was called without an alias, and there is no fallback."""


class ConfigurationMissing(ConfigurationError):
    """There is none for the alias, and none to fall back to."""


class ConfigurationInvalid(ConfigurationError):
    """It is there, and not what was asked for. `what` names every problem at once."""


class ConfigurationUnreachable(ConfigurationError):
    """It could not be read: a permission, the network, the service."""
