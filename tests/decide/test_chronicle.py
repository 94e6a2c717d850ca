"""History as it is told, and what an alias served at a moment: read off entries, with what they cannot know."""

from __future__ import annotations

import csv
import io
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pointsman import chronicle
from pointsman.chronicle import COLUMNS, TOPICS, Entry, Line, Serving, Wanted
from pointsman.cli import parser
from pointsman.ledger import Entry as Written

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:shop-greeting"
HOUR = 3600.0


class Book:
    """Entries as a ledger would have them, the clock told with each."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def write(self, at: float, kind: str, subject: str = "", *, of: str = "r1", function: str = "", **body: Any) -> int:
        """`of`: the run."""
        seq = len(self.entries) + 1
        entry = Written(seq=seq, at=at, run=of, kind=kind, function=function, subject=subject, body=body)
        self.entries.append(entry)
        return entry.seq

    def begin(self, at: float, run: str, command: str = "deploy", alias: str = "PROD", **more: Any) -> None:
        facts = {"id": run, "command": command, "function": "greeting", "alias": alias, "environment": "production"}
        facts |= {"by": "anna", "commit": "abc123", "ci": "https://ci.example/7", "part_of": "", **more}
        self.write(at, "run", alias, of=run, function="greeting", run=facts)

    def move(
        self, at: float, version: str, was: str | None = None, *, kind: str = "deploy", alias: str = "PROD", **more: Any
    ) -> None:
        run = more.pop("run", "r1")
        move = {"alias": alias, "version": version, "was": was, "kind": kind, "at": at, "by": "anna", **more}
        self.write(at, "moved", alias, of=run, function=ARN, move=move)

    def rollout(self, at: float, state: dict[str, Any], weight: float, signal: str = "Tick") -> None:
        rolled = {"baseline": "1", "canary": "2", "state": state, "weight": weight}
        self.write(at, "rollout-state", "r9", of="r9", function=ARN, rollout=rolled, signal={"signal": signal})

    def then(self, at: float) -> dict[str, Serving]:
        return {each.alias: each for each in chronicle.then(self.entries, at).aliases}

    def lines(self, **wanted: Any) -> list[Line]:
        return chronicle.history(self.entries, Wanted(**wanted))


@pytest.fixture
def book() -> Book:
    """Build 101 deployed to STAGE at one o'clock, promoted to PROD at two; 102 at three and four; back at five."""
    made = Book()
    for hour, build, version in ((1, "101", "1"), (3, "102", "2")):
        run, at = f"d{build}", hour * HOUR
        was = "1" if build == "102" else None
        made.begin(at, run, alias="STAGE", environment="staging", commit=f"c{build}", by="ci-bot")
        made.write(
            at + 1, "packaged", of=run, function="greeting", build=build, artifact={"sha256": "A" * 44, "image": ""}
        )
        made.write(at + 2, "published", version, of=run, function=ARN, build=build, commit=f"c{build}", size=1000)
        made.write(
            at + 3,
            "gate",
            "integration",
            of=run,
            function="greeting",
            verdict="pass",
            version=version,
            report={"tests": 3},
        )
        made.move(at + 4, version, was, alias="STAGE", run=run, build=build, by="ci-bot")
        made.write(at + 5, "ended", of=run, outcome="done")
        made.begin(at + HOUR, f"p{build}", "promote", commit="elsewhere")
        made.write(at + HOUR + 1, "approved", "PROD", of=f"p{build}", function="greeting", by="bert", version=version)
        made.move(at + HOUR + 2, version, was, kind="promote", run=f"p{build}", build=build)
        made.write(at + HOUR + 3, "ended", of=f"p{build}", outcome="done")
    made.begin(5 * HOUR, "b", "rollback")
    made.move(5 * HOUR + 1, "1", "2", kind="rollback", run="b", build="101")
    return made


# Lines


def test_everything_is_told_newest_first_and_knows_what_its_run_knows(book: Book) -> None:
    lines = book.lines()

    assert [(each.topic, each.what) for each in lines[:6]] == [
        ("move", "rollback: PROD → version 1 (was 2), build 101"),
        ("run", "rollback to PROD began, and did not end"),
        ("move", "promote: PROD → version 2 (was 1), build 102"),
        ("approval", "PROD approved by bert, version 2"),
        ("move", "deploy: STAGE → version 2 (was 1), build 102"),
        ("verdict", "integration tests passed (3 tests)"),
    ]
    promoted = lines[2]
    assert (promoted.function, promoted.alias, promoted.environment) == ("greeting", "PROD", "production")
    assert (promoted.by, promoted.build, promoted.commit, promoted.ci) == (
        *("anna", "102", "c102"),
        "https://ci.example/7",
    )
    assert [each.at for each in lines] == sorted((each.at for each in lines), reverse=True)


def test_a_promotion_is_of_the_builds_commit_not_of_what_was_checked_out_then(book: Book) -> None:
    assert {each.commit for each in book.lines(build="102")} == {"c102"}
    assert all(each.commit != "elsewhere" for each in book.lines())


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"topics": ("build",)}, 2),
        ({"topics": ("build", "publish")}, 4),
        ({"aliases": ("PROD",)}, 6),
        ({"aliases": ("staging",)}, 8),
        ({"functions": ("shop-greeting",)}, 14),
        ({"functions": ("greeting",), "topics": ("move",)}, 5),
        ({"functions": ("greet",)}, 0),
        ({"build": "101"}, 8),
        ({"commit": "c10", "topics": ("move",)}, 5),
        ({"commit": "C101"}, 0),
        ({"by": "BOT"}, 8),
        ({"by": "bert"}, 2),
        ({"since": 3 * HOUR, "until": 4 * HOUR}, 4),
        ({"since": 5 * HOUR + 1}, 1),
        ({"until": HOUR}, 0),
    ],
)
def test_filters_choose_and_go_together(book: Book, wanted: dict[str, Any], count: int) -> None:
    assert len(book.lines(**wanted)) == count


def test_a_limit_takes_the_newest_of_what_is_wanted(book: Book) -> None:
    found = chronicle.history(book.entries, Wanted(topics=("publish",)), limit=1)

    assert [each.version for each in found] == ["2"]


def test_a_run_that_was_refused_is_told_when_it_ended(book: Book) -> None:
    book.begin(6 * HOUR, "r", "deploy", alias="STAGE")
    book.begin(6 * HOUR + 5, "other", "promote")
    book.move(6 * HOUR + 6, "2", "1", kind="promote", run="other", build="102")
    book.write(6 * HOUR + 7, "ended", of="other", outcome="done")
    book.write(6 * HOUR + 60, "ended", of="r", outcome="refused", error="its tests failed")

    newest, before, *_ = book.lines()

    assert (newest.at, newest.what) == (6 * HOUR + 60, "deploy to STAGE ended refused: its tests failed")
    assert before.what == "promote: PROD → version 2 (was 1), build 102"
    assert not [line for line in book.lines(since=6 * HOUR + 30) if line.run != "r"]


def test_deletions_are_told_where_they_took_effect_or_may_have() -> None:
    book = Book()
    book.begin(1, "r1", "branch delete")
    for number, (outcome, subject) in enumerate(
        [("done", "shop:3"), ("conflict", "shop:4"), ("", "shop:5"), ("done", "layer common:2"), ("done", "shop")]
    ):
        action = "lambda:DeleteLayerVersion" if "layer" in subject else "lambda:DeleteFunction"
        intent = book.write(2 + number, "call", subject, action=action)
        if outcome:
            book.write(2.5 + number, "settled", intent=intent, outcome=outcome)
    book.write(9, "call", "shop", action="lambda:UpdateFunctionCode")

    assert [each.what for each in book.lines(topics=("prune",))] == [
        "deleted function shop",
        "deleted layer version 2 of common",
        "version 5 of shop was to be deleted, and no answer came",
        "deleted version 3 of shop",
    ]
    book.write(10, "ended", outcome="done")  # a team's ledger forgets outcomes in time: the run ended well
    assert "deleted version 5 of shop" in [each.what for each in book.lines()]


def test_what_a_prune_deleted_of_a_function_is_one_line() -> None:
    book = Book()
    book.begin(1, "r1", "prune", alias="")
    for number in range(1, 41):
        intent = book.write(2, "call", f"shop:{number}", action="lambda:DeleteFunction")
        if number < 40:
            book.write(2.5, "settled", intent=intent, outcome="done")
    book.write(3, "pruned", "shop", function=ARN, versions="1-39", count=39, freed=39_000_000)
    book.write(4, "restored", ARN, function=ARN, source=f"{ARN}-old", place="s3://vault", mapping={"1": "7"})

    assert [(each.topic, each.what) for each in book.lines()] == [
        (
            "restore",
            "restored shop-greeting as it was as shop-greeting-old from the backup in s3://vault: saved version 1 as 7",
        ),
        ("prune", "pruned 39 versions of shop: 1-39 (39.0 MB)"),
        ("prune", "version 40 of shop was to be deleted, and no answer came"),
        ("run", "prune began, and did not end"),
    ]


def test_what_is_deleted_of_a_layer_is_the_layers_also_where_a_function_is_called_the_same() -> None:
    book = Book()
    book.begin(1, "r1", "prune", alias="")
    intent = book.write(2, "call", "layer shop:7", action="lambda:DeleteLayerVersion")
    book.write(2.5, "settled", intent=intent, outcome="done")
    book.write(3, "pruned", "shop", function=ARN, versions="1-39", count=39, freed=39_000_000)

    (line,) = (each for each in book.lines(topics=("prune",)) if each.kind == "call")

    assert (line.function, line.arn, line.what) == ("shop", "", "deleted layer version 7 of shop")


def test_what_a_prune_deletes_of_a_layer_is_of_no_function() -> None:
    book = Book()
    book.begin(1, "r1", "prune", alias="")
    book.write(2, "call", "layer common:7", action="lambda:DeleteLayerVersion")
    book.write(3, "pruned", "shop", function=ARN, versions="1-39", count=39, freed=39_000_000)

    assert {each.function for each in book.lines() if each.kind == "call"} == {"common"}


def test_a_ledger_of_before_ci_runs_were_kept_is_told() -> None:
    book = Book()
    book.begin(1, "old")
    del book.entries[0].body["run"]["ci"]

    assert book.lines()[0].ci == ""


def test_the_command_line_knows_every_kind() -> None:
    assert tuple(TOPICS) == parser._TOPICS


# As a table


def test_a_spreadsheet_gets_rows_of_rfc_4180_and_no_formula(book: Book) -> None:
    book.begin(9 * HOUR, "evil", "promote", by='=HYPERLINK("http://x","a, b")', alias="PROD")
    book.write(9 * HOUR + 1, "ended", of="evil", outcome="failed", error="@SUM(1)\nsecond line")
    text = chronicle.csv(book.lines())

    rows = list(csv.reader(io.StringIO(text, newline="")))

    assert text.startswith("at,topic,function,arn,alias,environment,version,was,build,commit,by,ci,run,what\r\n")
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert len(rows) == 1 + len(book.lines())
    assert rows[1][COLUMNS.index("by")] == '\'=HYPERLINK("http://x","a, b")'
    assert rows[1][COLUMNS.index("at")] == "1970-01-01T09:00:01.000Z"
    assert "\n" not in text.replace("\r\n", "")


@given(some.text(max_size=12))
def test_no_cell_of_a_table_is_a_formula(text: str) -> None:
    line = Line(at=0.0, function=text, what=text, by=text, run="", kind="", facts={}, topic="run", alias=text)

    (row,) = list(csv.reader(io.StringIO(chronicle.csv([line]), newline="")))[1:]

    for cell in row:
        assert not cell.lstrip().startswith(("=", "+", "-", "@"))
        assert not cell.startswith(("\t", "\r", "\n"))
    assert row[COLUMNS.index("by")].removeprefix("'") in (text, text.removeprefix("'"))


# A moment


@pytest.mark.parametrize(
    ("hour", "stage", "prod"),
    [
        (1.5, ("1", "101", "c101", "deploy"), None),
        (2.5, ("1", "101", "c101", "deploy"), ("1", "101", "c101", "promote")),
        (3.5, ("2", "102", "c102", "deploy"), ("1", "101", "c101", "promote")),
        (4.5, ("2", "102", "c102", "deploy"), ("2", "102", "c102", "promote")),
        (99.0, ("2", "102", "c102", "deploy"), ("1", "101", "c101", "rollback")),
    ],
)
def test_what_was_live_then(
    book: Book, hour: float, stage: tuple[str, ...] | None, prod: tuple[str, ...] | None
) -> None:
    found = book.then(hour * HOUR)

    for alias, expected in (("STAGE", stage), ("PROD", prod)):
        row = found.get(alias)
        assert (None if row is None else (row.version, row.build, row.commit, row.how)) == expected
        assert row is None or row.sure


def test_before_its_first_entry_a_ledger_knows_nothing_and_says_so(book: Book) -> None:
    then = chronicle.then(book.entries, 0.5 * HOUR)

    assert then.aliases == ()
    assert then.notes == ("The ledger begins at 1970-01-01 01:00:00Z: of the time before it has no record.",)
    assert chronicle.then([], 1.0).notes == ("The ledger is empty: it knows of no time.",)


def test_an_alias_that_was_there_before_the_ledger_is_not_known_but_what_it_served_last() -> None:
    book = Book()
    book.write(1, "branch", "x", branch="x")
    book.move(100, "7", "5")

    (row,) = book.then(50).values()

    assert (row.version, row.sure, row.since) == ("5", False, None)
    assert "first knows of it at 1970-01-01 00:01:40Z, when it had served version 5" in row.notes[0]


def test_what_no_run_did_is_of_the_function_that_runs_call_so(book: Book) -> None:
    """A rebuilt ledger has moves and no runs; the next deploy tells what the file calls the function."""
    book.move(7 * HOUR, "2", "1", kind="observed", run="rebuilt")

    assert book.lines(topics=("move",))[0].function == "greeting"
    assert book.then(8 * HOUR)["PROD"].function == "greeting"


def test_an_alias_that_somebody_moved_meanwhile_is_not_said_for_certain() -> None:
    book = Book()
    book.move(100, "1")
    book.move(300, "3", "2")

    (row,) = book.then(200).values()

    assert (row.version, row.sure) == ("1", False)
    assert "somebody moved it without this ledger before 1970-01-01 00:05:00Z: then it served version 2" in row.notes[0]
    assert book.then(300)["PROD"].sure


def test_an_alias_that_was_deleted_is_gone_from_then_on() -> None:
    book = Book()
    book.move(100, "1", alias="feature-x")
    book.move(150, "1", alias="other")
    book.write(200, "cleared", f"{ARN}:feature-x", function=ARN, versions=["1"])
    book.move(250, "1", "1", alias="other", kind="removed")

    assert set(book.then(199)) == {"feature-x", "other"}
    assert set(book.then(200)) == {"other"}
    assert set(book.then(250)) == set()


def test_while_a_call_was_on_its_way_nobody_knows_which_it_served() -> None:
    book = Book()
    book.begin(50, "r1")
    book.move(100, "1")
    intent = book.write(200, "call", "alias PROD of shop-greeting", action="lambda:UpdateAlias")

    assert "its answer is not known" in book.then(250)["PROD"].notes[0]
    book.write(300, "settled", intent=intent, outcome="done")
    book.move(301, "2", "1")
    assert "was sent at 1970-01-01 00:03:20Z, answered at 1970-01-01 00:05:00Z" in book.then(250)["PROD"].notes[0]
    assert book.then(199)["PROD"].notes == ()
    assert book.then(301)["PROD"].notes == ()


@pytest.mark.parametrize("tells", ["the call", "the run"])
def test_a_call_on_its_way_is_of_the_region_it_was_sent_to(tells: str) -> None:
    """The function has a namesake with the same alias in each region and account."""
    book = Book()
    regions = ("eu-west-1", "us-east-1")
    for region in regions:
        book.write(
            100,
            "moved",
            "PROD",
            function=f"arn:aws:lambda:{region}:111122223333:function:shop-greeting",
            move={"alias": "PROD", "version": "1", "was": None, "kind": "promote", "at": 100, "by": "anna"},
        )
    book.begin(150, "r2", request={"region": "us-east-1"})
    where = {"region": "us-east-1", "account": "111122223333"} if tells == "the call" else {}
    book.write(200, "call", "alias PROD of shop-greeting", of="r2", action="lambda:UpdateAlias", **where)

    found = {each.arn.split(":")[3]: each for each in chronicle.then(book.entries, 250).aliases}
    assert [found[region].sure for region in regions] == [True, False]
    assert len(found["us-east-1"].notes) == 1


def test_a_promotion_that_brings_a_package_has_built_nothing_and_a_resumed_one_had_things_to_do() -> None:
    book = Book()
    book.begin(100, "p1", "promote")
    book.write(101, "packaged", of="p1", build="102", artifact={"sha256": "A" * 44, "image": ""})
    book.move(102, "2", run="p1", kind="promote")
    book.begin(110, "p2", "promote", request={"resumes": "p1"})
    book.write(111, "ended", of="p2", outcome="unchanged", error="")
    book.write(112, "ended", of="p1", outcome="done", error="")

    assert [line.what for line in book.lines()] == ["promote: PROD → version 2"]


def test_during_a_rollout_the_weights_and_what_was_under_way() -> None:
    book = Book()
    book.move(100, "1")
    book.begin(200, "r9", "promote")
    opened = {"id": "r9", "function": "greeting", "alias": "PROD", "by": "anna", "build": "102"}
    begun = {"baseline": "1", "canary": "2", "weight": 0.0, "state": {"state": "Ready"}}
    book.write(200, "rollout", "PROD", of="r9", function=ARN, opened={**opened, "rollout": begun})
    book.rollout(210, {"state": "Shifting", "to": 0.1}, 0.0)
    book.rollout(220, {"state": "Baking"}, 0.1, "WeightConfirmed")
    book.rollout(300, {"state": "Shifting", "to": 0.5}, 0.1, "Measured")
    book.rollout(310, {"state": "Baking"}, 0.5, "WeightConfirmed")
    book.rollout(400, {"state": "RollingBack", "why": "worse"}, 0.5, "Measured")
    book.rollout(410, {"state": "RolledBack", "why": "worse"}, 0.0, "WeightConfirmed")

    def at(when: float) -> tuple[str, str, float | None, bool, str]:
        row = book.then(when)["PROD"]
        return row.version, row.canary, row.weight, row.sure, (row.notes or ("",))[0]

    assert at(205) == ("1", "", None, True, "")
    assert at(215) == ("1", "", None, False, "a shift to 10 % on version 2 was under way")
    assert at(250) == ("1", "2", 0.1, True, "")
    assert at(305) == ("1", "2", 0.1, False, "a shift to 50 % on version 2 was under way")
    assert at(405) == ("1", "2", 0.5, False, "it was being put back to version 1 alone")
    assert at(500) == ("1", "", None, True, "")
    assert {(each.alias, each.build) for each in book.lines(topics=("rollout", "verdict"))} == {("PROD", "102")}
    assert [each.topic for each in book.lines(topics=("rollout", "verdict"))] == ["verdict", *["rollout"] * 3]


def test_a_rollout_that_ended_well_serves_the_canary_alone() -> None:
    book = Book()
    book.move(100, "1")
    book.begin(200, "r9", "promote")
    opened = {"id": "r9", "function": "greeting", "alias": "PROD", "by": "anna", "build": "102"}
    begun = {"baseline": "1", "canary": "2", "weight": 0.0, "state": {"state": "Ready"}}
    book.write(200, "rollout", "PROD", of="r9", function=ARN, opened={**opened, "rollout": begun})
    book.rollout(220, {"state": "Promoting"}, 0.5, "Measured")
    book.rollout(230, {"state": "Promoted"}, 1.0, "WeightConfirmed")

    row = book.then(240)["PROD"]

    assert (row.version, row.build, row.canary, row.weight, row.sure) == ("2", "102", "", None, True)


@given(
    moves=some.lists(
        some.tuples(
            some.sampled_from(("PROD", "STAGE")), some.integers(1, 9), some.floats(min_value=0, max_value=1000)
        ),
        max_size=20,
    ),
    at=some.floats(min_value=0, max_value=1000),
    dice=some.randoms(use_true_random=False),
)
def test_at_any_moment_an_alias_served_what_it_was_last_moved_to(
    moves: list[tuple[str, int, float]], at: float, dice: Random
) -> None:
    """Whatever order the entries lie in: those of a rebuilt ledger are written at once."""
    book = Book()
    serving: dict[str, str] = {}
    expected: dict[str, str] = {}
    for alias, version, when in sorted(moves, key=lambda each: each[2]):
        book.move(when, str(version), serving.get(alias), alias=alias)
        serving[alias] = str(version)
        if when <= at:
            expected[alias] = str(version)
    dice.shuffle(book.entries)

    found = {alias: row.version for alias, row in book.then(at).items()}

    assert found == expected
