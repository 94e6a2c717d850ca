"""Long work says how far it is and how long it will take: on one line that is redrawn, or now and then on a new one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pointsman import config
from pointsman.cli.terminal import Screen
from pointsman.model import lasting
from pointsman.progress import Course
from pointsman.world import World
from tests.fakes import FakeClock

FILE = '[function.f]\nhandler = "h.h"\nruntime = "nodejs22.x"\nprovision = { with = "existing" }\n'


def world(folder: Path, clock: FakeClock) -> World:
    return World(project=config.parse(FILE, file=folder / "pointsman.toml"), environ={}, clock=clock)


def work(course: Course, clock: FakeClock, *, of: int | None = 100) -> None:
    for done in range(1, 101):
        clock.time += 0.3
        course.reached(done, of, f"{done} of 100 functions")
    course.ended()


def test_a_line_that_can_be_redrawn_tells_the_time_that_is_left(tmp_path: Path) -> None:
    clock, lines = FakeClock(), list[str]()
    there = world(tmp_path, clock)
    there.line = lines.append

    work(Course(there, "reading"), clock)

    assert len(lines) == 101
    assert lines[0] == "reading: 1 of 100 functions"  # after a moment nobody can tell yet
    assert lines[49] == "reading: 50 of 100 functions, 15 s left"
    assert lines[-1] == ""


def test_where_nothing_can_be_redrawn_it_is_told_every_ten_seconds(tmp_path: Path) -> None:
    clock, lines = FakeClock(), list[str]()
    there = world(tmp_path, clock)
    there.say = lines.append

    work(Course(there, "reading"), clock)

    assert lines == ["reading: 34 of 100 functions, 20 s left", "reading: 68 of 100 functions, 10 s left"]


def test_where_the_whole_is_not_known_no_time_is_made_up(tmp_path: Path) -> None:
    clock, lines = FakeClock(), list[str]()
    there = world(tmp_path, clock)
    there.line = lines.append

    work(Course(there, "reading"), clock, of=None)

    assert not any("left" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 s"), (8.4, "8 s"), (89, "89 s"), (120, "2 min"), (3600, "1 h"), (4200, "1 h 10 min")],
)
def test_a_time_to_wait_is_told_in_its_largest_units(seconds: float, told: str) -> None:
    assert lasting(seconds) == told


def test_what_is_said_takes_the_place_of_the_line_that_is_redrawn() -> None:
    err = io.StringIO()
    screen = Screen(out=io.StringIO(), err=err, json=False, verbose=True)

    screen.line("half way")
    screen.say("something else")
    screen.line("")

    before, after = err.getvalue().split("\r\033[K")[1:]
    assert before == "half way"
    assert after.endswith("something else\n")


class Narrow(Screen):
    @property
    def columns(self) -> int:
        return 30


def test_a_table_that_is_too_wide_gives_way_in_the_columns_that_may() -> None:
    out = io.StringIO()
    screen = Narrow(out=out, err=io.StringIO(), json=False, verbose=False)

    screen.table(("name", "what", "n"), [("a-long-name-of-something", "kept whole", "1")], cut=(0,))

    assert out.getvalue() == "NAME             WHAT        N\na-long-name-of…  kept whole  1\n"
