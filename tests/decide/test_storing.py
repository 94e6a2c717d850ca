"""How full the code storage is, and until when: sums that add up, and forecasts that say what they do not know."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec.structs import replace

from pointsman import storing
from pointsman.fleet import Member
from pointsman.storing import DAY_S, Sample
from tests import storage_stories as stories
from tests.storage_stories import GB, LIMIT, NOW, fleet, layer, member, version

SIZES = some.integers(min_value=0, max_value=2**28)
VERSIONS = some.lists(some.tuples(SIZES, some.floats(min_value=0, max_value=900)), max_size=8)
LAYERS = some.lists(some.tuples(some.sampled_from("abc"), SIZES), max_size=6)


@given(some.lists(VERSIONS, max_size=6), LAYERS, some.integers(min_value=0, max_value=GB))
def test_all_parts_add_up_to_what_aws_counts(
    functions: list[list[tuple[int, float]]], layers: list[tuple[str, int]], more: int
) -> None:
    there = fleet(*(member(f"f{n}", *each) for n, each in enumerate(functions)))
    shelves = [layer(name, n, size) for n, (name, size) in enumerate(layers, 1)]
    held = sum(each.code_size for one in there.members for each in (one.latest, *one.versions))
    code = held + sum(size for _, size in layers) + more

    used = storing.usage(there, shelves, code=code, limit=LIMIT)

    assert used.latest + used.versions + used.layers + used.other == used.code == code
    assert used.other == more
    assert sum(each.size for each in used.by_function) == used.latest + used.versions
    assert sum(each.size for each in used.by_layer) == used.layers
    assert sum(each.size for each in used.by_age) == used.versions
    assert sum(each.count for each in used.by_age) == sum(map(len, functions))
    assert 0 <= used.repeated <= used.latest + used.versions
    assert sum(each.repeated for each in used.by_function) <= used.repeated


def test_the_same_package_is_counted_again_within_a_function_and_between_two() -> None:
    one = Member(
        latest=version("a", 0, 100, 0, "same"),
        versions=(version("a", 1, 100, 9, "same"), version("a", 2, 100, 8, "same"), version("a", 3, 70, 7)),
    )
    other = Member(latest=version("b", 0, 100, 0, "same"))

    used = storing.usage(fleet(one, other), [], code=470, limit=LIMIT)

    assert used.repeated == 300
    assert [(each.name, each.size, each.count, each.repeated) for each in used.by_function] == [
        ("a", 370, 3, 200),
        ("b", 100, 0, 0),
    ]


def test_a_version_is_as_old_as_its_date_and_one_without_is_of_the_oldest() -> None:
    undated = replace(version("a", 5, 1, 0), modified="")
    there = member("a", (16, 400), (8, 100), (4, 30), (2, 6.9))
    used = storing.usage(fleet(replace(there, versions=(*there.versions, undated))), [], code=1000, limit=LIMIT)

    assert {each.name: each.size for each in used.by_age} == {
        "under 7 days": 2,
        "7 to 30 days": 0,
        "30 to 90 days": 4,
        "90 to 365 days": 8,
        "over a year": 17,
    }


# Growth

STEPS = some.lists(some.integers(min_value=-GB, max_value=3 * GB), min_size=8, max_size=40)


def walked(steps: list[int], begin: int = 20 * GB) -> list[Sample]:
    """A sample a day, the last now."""
    found, code = [], begin
    for n, step in enumerate(steps):
        code = max(0, code + step)
        found.append(Sample(at=NOW - (len(steps) - 1 - n) * DAY_S, code=code, limit=LIMIT))
    return found


@given(STEPS, some.randoms(use_true_random=False))
def test_a_forecast_does_not_depend_on_the_order_of_samples(steps: list[int], dice: Random) -> None:
    samples = walked(steps)
    mixed = dice.sample(samples, len(samples))

    one = storing.growth(samples, code=samples[-1].code, limit=LIMIT, now=NOW)

    assert storing.growth(mixed, code=samples[-1].code, limit=LIMIT, now=NOW) == one


@given(STEPS, some.integers(min_value=1, max_value=50 * GB))
def test_more_room_is_never_full_sooner_and_more_code_never_later(steps: list[int], more: int) -> None:
    samples = walked(steps)
    code = samples[-1].code

    def full(code: int, limit: int) -> float:
        found = storing.growth(samples, code=code, limit=limit, now=NOW).full
        return math.inf if found is None else found

    assert full(code, LIMIT + more) >= full(code, LIMIT) >= NOW
    assert full(code + more, LIMIT) <= full(code, LIMIT)


@given(STEPS)
def test_the_likely_day_lies_between_the_earliest_and_the_latest(steps: list[int]) -> None:
    samples = walked(steps)
    found = storing.growth(samples, code=samples[-1].code, limit=LIMIT, now=NOW)

    days = [math.inf if each is None else each for each in (found.earliest, found.full, found.latest)]
    assert days == sorted(days)
    assert found.low <= found.per_day <= found.high


@given(some.integers(min_value=1, max_value=GB), some.integers(min_value=8, max_value=60))
def test_what_grows_evenly_is_full_exactly_when_it_is(step: int, days: int) -> None:
    samples = walked([step] * days)
    code = samples[-1].code

    found = storing.growth(samples, code=code, limit=LIMIT, now=NOW)

    assert found.per_day == pytest.approx(step)
    assert found.full is None or found.full == pytest.approx(NOW + max(0, LIMIT - code) / step * DAY_S)


def test_one_prune_moves_the_slope_little() -> None:
    steady = [GB // 4] * 40
    pruned = [*steady[:34], -4 * GB, *steady[35:]]

    one, other = (
        storing.growth(walked(each), code=walked(each)[-1].code, limit=LIMIT, now=NOW) for each in (steady, pruned)
    )

    assert other.per_day == pytest.approx(one.per_day, rel=0.1)
    assert other.high - other.low > one.high - one.low  # and it is said that it is less sure
    assert other.added == pytest.approx(GB / 4, rel=0.05)
    assert one.added == 0


def test_nine_of_ten_intervals_hold_the_truth() -> None:
    """Of deploys that come by chance: a sum of what each day brings, whose errors add up."""
    held = 0
    for seed in range(300):
        dice = Random(seed)
        steps = [sum(dice.choices((0, GB // 8, GB), k=2)) for _ in range(45)]
        truth = 2 * (GB / 8 + GB) / 3
        samples = walked(steps)
        found = storing.growth(samples, code=samples[-1].code, limit=LIMIT, now=NOW)
        held += found.low <= truth <= found.high

    assert 0.85 <= held / 300 <= 0.97


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        ([], "no sample yet"),
        (walked([1] * 4), "4 days with a sample, 3 days apart"),
        (walked([1] * 7), "7 days with a sample, 6 days apart"),
        ([Sample(at=NOW - n, code=1) for n in range(50)], "1 day with a sample, 0 days apart"),
    ],
)
def test_too_little_history_is_said_and_nothing_guessed(samples: list[Sample], says: str) -> None:
    found = storing.growth(samples, code=1, limit=LIMIT, now=NOW)

    assert (found.basis, found.full) == ("", None)
    assert says in found.why
    assert "cannot be said" in storing.outlook(found, 0.1)


def test_without_samples_the_versions_dates_tell() -> None:
    there = fleet(member("a", *((GB // 4, 60 - n) for n in range(60))))
    code = there.members[0].latest.code_size + 60 * (GB // 4)

    dated = storing.grown(there, code)
    found = storing.growth(dated, code=code, limit=LIMIT, now=NOW, basis="versions")

    assert dated[-1].code == code
    assert dated[0].code == code - 60 * (GB // 4)
    assert found.per_day == pytest.approx(GB / 4, rel=0.05)
    assert "as if none had been deleted" in storing.outlook(found, 0.2)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (
            [GB] * 20,
            "Full on 2026-10-26, if it goes on so: between 2026-10-26 and 2026-10-26. It grows by 1.0 GB a day",
        ),
        ([0] * 20, "It does not grow to speak of: 0 B a day"),
        ([-(2**20)] * 20, "It does not grow to speak of: −1.0 MB a day"),
        ([3 * GB] * 20, "It is full: no version can be published any more."),
    ],
)
def test_the_outlook_in_words(steps: list[int], says: str) -> None:
    samples = walked(steps)
    code = samples[-1].code

    said = storing.outlook(storing.growth(samples, code=code, limit=LIMIT, now=NOW), code / LIMIT)

    assert said.startswith(says)


def test_sizes_are_told_as_aws_counts_them() -> None:
    assert [storing.stored(each) for each in (0, 900, 2048, 5 * 2**20, 75 * GB, 100 * GB, -GB)] == [
        *("0 B", "900 B", "2.0 kB", "5.0 MB", "75.0 GB", "100 GB", "-1.0 GB")
    ]


def test_the_stories_are_as_they_say() -> None:
    assert stories.growing().growth.basis == "samples"
    assert stories.full().usage.share > 0.95
