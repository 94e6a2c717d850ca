"""What branches' aliases are called, and whose an alias says it is."""

from __future__ import annotations

import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.branches import alias_name, description, protected, pull_request, told
from pointsman.model import AliasName, BuildId


@pytest.mark.parametrize("name", ["main", "feature-123", "JIRA-7_x", "v2", "a" * 128, "release-20240101", "x--y"])
def test_a_simple_name_stays_as_it_is(name: str) -> None:
    assert alias_name(name) == name


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("feature/x", "feature-x--217d2bf51f"),
        ("dependabot/npm_and_yarn/lodash-4.17.21", "dependabot-npm_and_yarn-lodash-4-17-21--"),
        ("123", "123--a665a45920"),
        ("release/1.2.3", "release-1-2-3--"),
        ("größe/über", "groe-uber--"),
        ("日本語", "branch--"),
        ("😀", "branch--"),
        ("a" * 129, "a" * 52 + "--"),
        ("pr-7", "pr-7--"),
        ("PR-7", "PR-7--"),
        ("x--0123456789", "x-0123456789--"),
        ("-", "-"),
        ("fix\udcff", "fix--"),
    ],
)
def test_another_is_made_readable_and_told_from_its_likes(name: str, readable: str) -> None:
    """These are promises: an alias whose branch's name changed with a new Pointsman would be lost."""
    assert alias_name(name).startswith(readable)
    assert name == "-" or re.search("--[0-9a-f]{10}$", alias_name(name))


def test_likes_do_not_share_an_alias() -> None:
    likes = [
        *("feature/x", "feature-x", "Feature-X", "feature.x", "feature--x", "feature/x/", "feature_x", "feature/X"),
        *("7", "07", "pr-7", "pr/7", "pr:7", "PR-7", "é", "e\u0301", "ｅ", "feature-x--217d2bf51f"),
    ]

    assert len({alias_name(each).lower() for each in likes if each not in ("Feature-X",)}) == len(likes) - 1
    assert alias_name("Feature-X") == "Feature-X"


def test_a_pull_request_is_called_by_its_number_and_no_branch_is() -> None:
    assert alias_name("pr:12") == "pr-12"
    assert pull_request("pr:12") == "12"
    assert [pull_request(each) for each in ("pr-12", "pr:", "pr:0", "pr:1x", "branch")] == [""] * 5


LETTERS = string.ascii_letters + string.digits + "-_./#@+" + "éßñ日本語😀Ω"


def generated(seed: int, count: int) -> set[str]:
    """Names of all kinds: random, nearly the same, numbers, long ones, and such as we make ourselves."""
    draw = random.Random(seed)
    names: set[str] = set()
    while len(names) < count:
        name = "".join(draw.choices(LETTERS, k=draw.choice((1, 3, 8, 20, 128, 200))))
        names.add(name)
        names.add(draw.choice((str.lower, str.upper, str.title))(name))
        names.add(name.replace(draw.choice("/._"), draw.choice("/.-_")))
        names.add(str(draw.randrange(10**6)))
        names.add(str(alias_name(name)))
        names.add("".join(draw.choices("日本語", k=8)))
    return names


def test_ten_thousand_branches_have_ten_thousand_legal_aliases() -> None:
    names = generated(seed=1, count=10_000)

    aliases = {alias_name(each) for each in names}

    assert len(aliases) == len(names) >= 10_000
    assert all(re.fullmatch("(?!^[0-9]+$)[a-zA-Z0-9-_]{1,128}", each) for each in aliases)


@given(st.text(st.characters(exclude_categories=()), min_size=1, max_size=300))
def test_every_name_has_a_legal_alias_and_always_the_same(name: str) -> None:
    assert AliasName(alias_name(name)) == alias_name(name)


SPACELESS = st.text(st.characters(exclude_categories=("Cs", "Z", "Cc")), min_size=1, max_size=300)


@given(
    SPACELESS.filter(lambda name: not re.search(r"[\s:]", name)),
    st.sampled_from([None, BuildId("101"), BuildId("b" * 128)]),
)
def test_a_description_tells_the_branch_and_the_build(name: str, build: BuildId | None) -> None:
    text = description(build, name)
    found = told(text, alias_name(name))

    assert len(text) <= 256
    assert found.build == build
    assert found.branch == name or (len(text) == 256 and name.startswith(found.branch[:-1]))


@pytest.mark.parametrize(
    "text", ["", "101", "branch x, build 7 ", "branch", "The latest build in the x branch", "branch x y"]
)
def test_what_others_wrote_names_no_branch(text: str) -> None:
    assert told(text, "x").branch == ""


def test_an_environments_description_is_the_build_alone() -> None:
    assert description(BuildId("101"), "") == "101"
    assert told("101", "STAGE").build == "101"
    assert told("branch y, build 7", "x").branch == "", "another alias's description"


def test_protection_goes_by_branch_or_alias_and_by_pattern() -> None:
    assert protected("release/1", "release-1--0", ("release/*",))
    assert protected("main", "main", ("STAGE", "main"))
    assert protected("x" * 100 + "…", alias_name("x" * 250), ("x" * 250,))
    assert not protected("feature/main", "feature-main--0", ("main",))
