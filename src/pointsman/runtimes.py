"""Which runtimes AWS has, and until when: `runtimes.toml`, read once. Pure but for that file."""

from __future__ import annotations

import functools
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, NamedTuple


class Days(NamedTuple):
    """When AWS stops patching a runtime, creating functions with it, and updating them. The last two may be moved."""

    deprecated: date
    no_create: date
    no_update: date


class Judged(NamedTuple):
    """What AWS makes of a runtime. blocked: creates and updates are refused; no_create: creates only.

    never: there is no such runtime. new: not in the table, and it may be younger than that.
    """

    verdict: Literal["ok", "soon", "deprecated", "no_create", "blocked", "never", "new"]
    what: str
    next: str = ""


_SOON = 90  # days


def judge(runtime: str, now: float) -> Judged:
    """What is to be said of a runtime at a time (seconds since 1970)."""
    known, today = table(), datetime.fromtimestamp(now, UTC).date()
    days = known.get(runtime)
    if days is None:
        return _unknown(runtime, known)
    successor = _newest(runtime, known)
    move = f"Move to a newer one ({successor})." if successor != runtime else "Move to another one."
    if today >= days.no_update:
        what = f"AWS refuses to update functions with {runtime} since {days.no_update}"
        return Judged("blocked", what, move)
    if today >= days.no_create:
        what = f"AWS refuses to create functions with {runtime} since {days.no_create}, and to update from "
        return Judged("no_create", f"{what}{days.no_update}", move)
    if today >= days.deprecated:
        what = f"{runtime} is deprecated since {days.deprecated}: no patches, and from {days.no_update} on no updates"
        return Judged("deprecated", what, move)
    if (days.deprecated - today).days <= _SOON:
        return Judged("soon", f"AWS deprecates {runtime} on {days.deprecated}", move)
    return Judged("ok", f"{runtime} is supported until {days.deprecated}")


def _unknown(runtime: str, known: dict[str, Days]) -> Judged:
    from difflib import get_close_matches

    near = get_close_matches(runtime, known, n=1, cutoff=0.6)
    newest = _newest(runtime, known)
    next_ = f"Did you mean {newest if newest != runtime else near[0]}?" if near else f"AWS lists them: {PAGE}"
    if newest != runtime and _number(runtime) < _number(newest):
        return Judged("never", f"AWS has no runtime {runtime}", next_)
    return Judged("new", f"{runtime} is not among the runtimes known on {read()}", next_)


def _newest(runtime: str, known: dict[str, Days]) -> str:
    """The newest of its family that is not deprecated before the others; itself where there is none."""
    family = [name for name in known if _family(name) == _family(runtime)]
    return max(family, key=_number, default=runtime)


def _family(runtime: str) -> str:
    return re.split(r"[0-9.]", runtime)[0].removesuffix("core")


def _number(runtime: str) -> list[int]:
    if runtime.startswith("provided"):
        return [int(each) for each in re.findall(r"[0-9]+", runtime)] or [1]
    return [int(each) for each in re.findall(r"[0-9]+", runtime.removesuffix(".al2023").removesuffix(".al2"))]


PAGE = "https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html"


def table() -> dict[str, Days]:
    """Every runtime of AWS's page, newest of a family first."""
    return _file().days


def read() -> date:
    """The day the page was read."""
    return _file().read


def python_release(runtime: str) -> str:
    """Which Python a runtime has, as far as is known: "3.13.9". Raises ValueError for one that has none."""
    if not re.fullmatch(r"python\d+\.\d+", runtime):
        raise ValueError(f"{runtime} is no runtime of Python")
    return _file().python.get(runtime, f"{runtime.removeprefix('python')}.0")


class _File(NamedTuple):
    read: date
    days: dict[str, Days]
    python: dict[str, str]


@functools.cache
def _file() -> _File:
    import tomllib

    found = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    days = {name: Days(*each) for name, each in found["runtimes"].items()}
    return _File(found["read"], days, found["python"])


__all__ = ["PAGE", "Days", "Judged", "judge", "python_release", "read", "table"]
