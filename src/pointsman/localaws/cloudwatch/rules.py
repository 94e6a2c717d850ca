"""The rules of composite alarms: ALARM("a") AND NOT (OK("b") OR INSUFFICIENT_DATA("c")). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[()]|[^\s()"]+)')
_STATES: Final = ("ALARM", "OK", "INSUFFICIENT_DATA")


class RuleError(Exception):
    """The rule cannot be parsed."""


@dataclass(frozen=True, slots=True)
class Is:
    alarm: str  # a name or an ARN
    state: str


@dataclass(frozen=True, slots=True)
class Not:
    rule: RuleTree


@dataclass(frozen=True, slots=True)
class Both:
    rules: tuple[RuleTree, RuleTree]


@dataclass(frozen=True, slots=True)
class Either:
    rules: tuple[RuleTree, RuleTree]


RuleTree: TypeAlias = bool | Is | Not | Both | Either


def parse_rule(text: str) -> RuleTree:
    tokens: list[str] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise RuleError(f"AlarmRule must not contain {text[at:].strip()[:1]!r} there")
        tokens.append(found[1])
        at = found.end()
    rule, rest = _either(tokens)
    if rest:
        raise RuleError(f"AlarmRule goes on with {rest[0]!r} where it should end")
    return rule


Parsed: TypeAlias = tuple[RuleTree, Sequence[str]]


def _either(tokens: Sequence[str]) -> Parsed:
    left, rest = _both(tokens)
    while rest and rest[0].upper() == "OR":
        right, rest = _both(rest[1:])
        left = Either((left, right))
    return left, rest


def _both(tokens: Sequence[str]) -> Parsed:
    left, rest = _one(tokens)
    while rest and rest[0].upper() == "AND":
        right, rest = _one(rest[1:])
        left = Both((left, right))
    return left, rest


def _one(tokens: Sequence[str]) -> Parsed:
    if not tokens:
        raise RuleError("AlarmRule ends where an alarm's state should follow")
    first, *rest = tokens
    match first.upper():
        case "NOT":
            inner, after = _one(rest)
            return Not(inner), after
        case "(":
            inner, after = _either(rest)
            return inner, _closed(after)
        case "TRUE" | "FALSE":
            return first.upper() == "TRUE", rest
        case state if state in _STATES:
            if len(rest) < 2 or rest[0] != "(":
                raise RuleError(f"{state} needs an alarm in parentheses")
            name = rest[1]
            if name.startswith('"'):
                name = re.sub(r"\\(.)", r"\1", name[1:-1])
            return Is(name, state), _closed(rest[2:])
        case _:
            raise RuleError(f"AlarmRule knows no {first!r}")


def _closed(tokens: Sequence[str]) -> Sequence[str]:
    if not tokens or tokens[0] != ")":
        raise RuleError("AlarmRule lacks a closing parenthesis")
    return tokens[1:]


def children(rule: RuleTree) -> list[str]:
    """The alarms a rule names, each once, in order."""
    match rule:
        case bool():
            return []
        case Is(alarm):
            return [alarm]
        case Not(inner):
            return children(inner)
        case Both((left, right)) | Either((left, right)):
            return list(dict.fromkeys(children(left) + children(right)))


def holds(rule: RuleTree, state_of: Callable[[str], str | None]) -> bool:
    match rule:
        case bool():
            return rule
        case Is(alarm, state):
            return state_of(alarm) == state
        case Not(inner):
            return not holds(inner, state_of)
        case Both((left, right)):
            return holds(left, state_of) and holds(right, state_of)
        case Either((left, right)):
            return holds(left, state_of) or holds(right, state_of)
