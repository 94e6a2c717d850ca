"""The reports of a rollout: whole texts; a document that gives the verdict again; a page that is safe to open."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pointsman import analysis, plots, report_page, reporting
from pointsman.analysis import Bucket, Counts, Metric
from pointsman.cli import rollout_view
from pointsman.model import Version
from pointsman.story import Event, Side, Story, tell
from tests import rollout_stories as stories
from tests.rollout_stories import BEGAN, EVERY, policy, run

NASTY = "<script>alert(1)</script>\"'>&`|\x1b[2J\u202e](javascript:x)\nhttps://example.com @all"


def nasty() -> Story:
    """Every text that comes from outside is as bad as it can be."""
    metric = Metric(name=NASTY)
    told = run(stories.story(policy(metrics=(metric,))), stories.broken, until=BEGAN + 500)
    told = tell(told, stories.AbortAsked(at=BEGAN + 501, by=NASTY, why=NASTY))
    side = Side(version=Version("8"), build=NASTY, commit=NASTY)
    events = (*told.events, Event(at=BEGAN, kind="gate", what=NASTY, by=NASTY))
    return replace(
        told, id=NASTY, function=NASTY, name=NASTY, environment=NASTY, alias=NASTY, canary=side, by=NASTY,
        events=events, notes=(NASTY,),
    )  # fmt: skip


# Text, Markdown, the terminal


def test_no_text_holds_what_moves_a_cursor() -> None:
    told = nasty()
    for text in (reporting.text(told), rollout_view.line(told, BEGAN), reporting.markdown(told)):
        assert all(each.isprintable() for each in text.split("\n"))


BAD_TEXT = """\
Version 8 was rolled back: greeting → PROD

Version 8 is worse: 4 of 120 calls failed (3.3 %) against 5 of 11,880 (0.042 %); odds ratio about 82 (at least \
2.3); e-value 10^3.9, the limit is 10^2.3.
Version 7 serves everything: version 8 is worse by its errors.

  function     greeting (greeting-prod on AWS)
  environment  production, alias PROD
  canary       version 8 (build 101, commit 8a3be41)
  baseline     version 7 (build 100, commit 1f0c9d2)
  began        2026-03-02 12:00:00 UTC, by ann
  ended        2026-03-02 12:04:01 UTC, after 4 min 1 s
  steps        1 % for 1 min, 10 % for 3 min, 50 % for 3 min
  rollout      r-20260302-120000

  METRIC  VERSION   CALLS  BAD    SHARE              ODDS RATIO          E-VALUE   LIMIT  VERDICT
  errors        8     120    4    3.3 %              82 (2.3–∞)   10^3.9 against  10^2.3  worse
                7  11,880    5  0.042 %                              10^-1.1 for  10^2.3
  slow          8     120    1   0.83 %  0.83 (under 0.001–8.4)  10^-0.3 against  10^2.3  not proved
                7  11,880  119    1.0 %                                 10^0 for  10^2.3

errors, bucket by bucket (tolerated: 2 times the odds)
      FROM  WEIGHT  CANARY BAD  OF  SHARE  BASELINE BAD     OF    SHARE  E-VALUE      FOR    ODDS RATIO
  12:01:00     1 %           2  60  3.3 %             2  5,940  0.034 %   10^1.7  10^-0.6  102 (0.35–∞)
  12:02:00     1 %           2  60  3.3 %             3  5,940  0.051 %   10^3.9  10^-1.1    82 (2.3–∞)

slow, bucket by bucket (tolerated: 1.5 times the odds)
      FROM  WEIGHT  CANARY BAD  OF  SHARE  BASELINE BAD     OF   SHARE  E-VALUE      FOR              ODDS RATIO
  12:01:00     1 %           1  60  1.7 %            59  5,940  0.99 %  10^-0.1  10^-0.1         1.7 (0.0017–18)
  12:02:00     1 %           0  60    0 %            60  5,940   1.0 %  10^-0.3     10^0  0.83 (under 0.001–8.4)

What happened
  12:00:01  version 8 serves 1 %
  12:03:00  waits: the evidence that it is worse is 10^1.7 of 10^2.3 already
  12:04:00  goes back: version 8 is worse by its errors
  12:04:01  version 7 serves everything again

Note: the alarm greeting-5xx was red before, and is ignored
"""


def test_the_text_of_a_bad_one() -> None:
    assert reporting.text(stories.bad()) == BAD_TEXT


UNMEASURED_TEXT = """\
Version 8 is at 1 %: greeting → PROD

No call of version 8 has been counted, so nothing speaks for it or against it.
Version 8 serves 1 %, and is watched there until 12:03:00 at least.

  function     greeting (greeting-prod on AWS)
  environment  production, alias PROD
  canary       version 8 (build 101, commit 8a3be41)
  baseline     version 7 (build 100, commit 1f0c9d2)
  began        2026-03-02 12:00:00 UTC, by ann
  steps        1 % for 1 min, 10 % for 3 min, 50 % for 3 min
  rollout      r-20260302-120000

  METRIC  VERSION  CALLS  BAD  SHARE  ODDS RATIO       E-VALUE  LIMIT  VERDICT
  errors        8      0    0  -      -           10^0 against   10^2  not proved
                7      0    0  -                      10^0 for   10^2

What happened
  12:00:01  version 8 serves 1 %
"""


def test_the_text_of_one_that_has_no_data() -> None:
    assert reporting.text(stories.unmeasured()) == UNMEASURED_TEXT


APPROVED_VIEW = """\
greeting → PROD   version 7 → 8 (build 101), production               15 min 1 s
████████████████████████████████████  100 %  1 % › 10 % › 50 % › 100 %  PROMOTED

METRIC  V   CALLS  BAD   SHARE  ODDS RATIO       EVIDENCE
errors  8  11,460   34  0.30 %  0.98 (0.42–2.2)  against ··············· 10^-0.7
        7  36,540  110  0.30 %  no worse         for     ███████████████ 10^2.1

e-value for version 8, errors (╌ the limit)
   10^2┤╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌⣀⡠⠄╌╌╌╌╌╌╌╌╌
       │                                                     ⢀⣀⠤⠔⠒⠉⠉
       │                               ⢀⣀⣀⣀⣀⠤⠤⠤⠤⠤⠤⠒⠒⠒⠒⠒⠒⠒⠉⠉⠉⠉⠁
   10^0┤⣀⣀⣀⣀⣀⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠔⠒⠊⠉⠉⠉⠁
       └0──────────────────────────────────────────────────────────── 15 min 1 s

Version 8 is no worse than tolerated (2 times the odds): 34 of 11,460 calls
failed (0.30 %) against 110 of 36,540 (0.30 %); odds ratio about 0.98 (at most
2.2); e-value 10^2.1 against its being worse than that, the limit is 10^2.
Version 8 serves everything.

12:09:01  version 8 serves 50 %
12:14:00  version 8 is no worse than tolerated
12:14:01  waits for an answer: before all of the traffic
12:15:00  passed: before all of the traffic (cleo)
12:15:01  version 8 serves everything"""


def test_the_picture_of_one_that_ended_by_evidence() -> None:
    told = stories.approved()
    assert "\n".join(rollout_view.draw(told, told.ended, 80, 24)) == APPROVED_VIEW


LEAKING_VIEW = """\
greeting → PROD   version 7 → 8 (build 101), production                                                           \
25 min
████████································   20 %  5 % › [20 %] › 50 % › 100 %                                   \
UNDER WAY

METRIC  V   CALLS  BAD   SHARE  ODDS RATIO      EVIDENCE
errors  8   1,656   14  0.85 %  2.1 (0.59–6.1)  against ███████················· 10^0.6
        7  12,024   48  0.40 %  not proved      for     ························ 10^-0.9

e-value against version 8, errors (╌ the limit)
       │
   \
10^2┤╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌
       │
       │
       │
       │                                                                                             ⣀⡠⠤⠒⠊⠉⠉⠉⠉⠉
   10^0┤⠤⠤⠤⠤⠤⣀⣀⣀⣀⣀⣀⡀                                                                       ⣀⣀⣀⣀⠤⠤⠤⠒⠊⠉
       │           ⠈⠉⠉⠉⠉⠒⠒⠒⠒⠒⠒⠒⠒⠒⠤⠤⠤⠔⠒⠉⠉⠉⠑⠒⠒⠒⠒⠒⠒⠒⠒⠢⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⢄⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⠤⠤⠤⠔⠒⠊⠉⠉⠉
       └0──────────────────────────────────────────────────────────────────────────────────────────────────────── \
25 min

Nothing is proved of version 8 yet: 14 of 1,656 calls failed (0.85 %) against 48 of 12,024 (0.40 %); odds ratio about
2.1 (0.59 to 6.1); e-value 10^0.6 against it and 10^-0.9 for it, the limit is 10^2; about 2,065 more calls of it would
tell.
Version 8 serves 20 %, and is watched there until 12:26:00 at least.
Next: counts again at 12:26:00, when the counts are complete; about 14 min to go if nothing speaks against it.

12:00:01  version 8 serves 5 %
12:13:01  version 8 serves 20 %"""


def test_the_picture_of_one_under_way_is_as_wide_as_the_terminal() -> None:
    told = under_way()
    assert "\n".join(rollout_view.draw(told, BEGAN + 1500, 120, 28)) == LEAKING_VIEW


def under_way() -> Story:
    slow = tuple(stories.Step(weight=weight, bake_s=600) for weight in (0.05, 0.2, 0.5))

    def world(metric: str, at: float) -> tuple[float, float, float]:
        return 12.0, (0.012 if at > BEGAN + 900 else 0.004), 0.004

    told = stories.story(policy(steps=slow, early=False, lag_s=120.0, traffic=12.0))
    return run(told, world, until=BEGAN + 1500)


@pytest.mark.parametrize("name", [*EVERY, "nasty"])
@pytest.mark.parametrize("size", [(40, 12), (60, 20), (80, 24), (120, 40), (200, 60)])
def test_no_picture_is_wider_or_higher_than_the_terminal(name: str, size: tuple[int, int]) -> None:
    told = nasty() if name == "nasty" else EVERY[name]()
    width, height = size

    lines = rollout_view.draw(told, BEGAN + 3600, width, height)

    assert len(lines) <= height
    assert max(rollout_view.columns(each) for each in lines) <= width
    assert all(each.isprintable() for each in lines)


def test_colour_changes_nothing_but_colour() -> None:
    for make in (*EVERY.values(), nasty):
        told = make()
        coloured = rollout_view.draw(told, BEGAN + 3600, 80, 24, colour=True)
        assert any("\033[" in each for each in coloured)
        bare = [re.sub(r"\033\[[0-9]*m", "", each).rstrip() for each in coloured]
        assert bare == rollout_view.draw(told, BEGAN + 3600, 80, 24)


def test_a_terminal_is_redrawn_in_place() -> None:
    out = io.StringIO()
    view = rollout_view.View(out, lively=True, colour=False)
    view.show(stories.unmeasured(), BEGAN + 60)
    lines = len(view.drawn)
    view.show(stories.unmeasured(), BEGAN + 61)

    _first, again = out.getvalue().split(f"\033[{lines}F")
    assert again.count("\n") == lines

    view.lift()
    assert out.getvalue().endswith(f"\033[{lines}F\033[J")


def test_piped_only_what_changed_is_written() -> None:
    out = io.StringIO()
    view = rollout_view.View(out, lively=False, colour=False)
    told = stories.bad()
    before = stories.run(stories.story(told.rollout.policy), stories.broken, until=BEGAN + 240)
    for second in range(5):
        view.show(before, BEGAN + 240 + second)
    view.show(told, told.ended)
    view.show(told, told.ended + 9)

    assert out.getvalue() == (
        "12:00:01  version 8 serves 1 %\n"
        "12:03:00  waits: the evidence that it is worse is 10^1.7 of 10^2.3 already\n"
        "12:04:00  goes back: version 8 is worse by its errors\n"
        "12:04:00  1 % to version 8; errors: 4 of 120 (3.3 %), baseline 5 of 11,880 (0.042 %), e-value 10^3.9 of "
        "10^2.3; slow: 1 of 120 (0.83 %), baseline 119 of 11,880 (1.0 %), e-value 10^-0.3 of 10^2.3; "
        "Goes back to version 7: version 8 is worse by its errors.\n"
        "12:04:01  version 7 serves everything again\n"
        "12:04:01  0 % to version 8; errors: 4 of 120 (3.3 %), baseline 5 of 11,880 (0.042 %), e-value 10^3.9 of "
        "10^2.3; slow: 1 of 120 (0.83 %), baseline 119 of 11,880 (1.0 %), e-value 10^-0.3 of 10^2.3; "
        "Version 7 serves everything: version 8 is worse by its errors.\n"
    )


def test_markdown_has_the_numbers_in_tables() -> None:
    told = reporting.markdown(stories.bad())

    assert told.startswith("### ❌ Version 8 was rolled back: greeting → PROD\n\n**Version 8 is worse: 4 of 120 calls")
    assert "| errors | 4 of 120 (3.3 %) | 5 of 11,880 (0.042 %) | 82 (2.3–∞) | 10^3.9 of 10^2.3 | ❌ worse |\n" in told
    assert "| 12:02:00 | 1 % | 2 | 60 | 3.3 % | 3 | 5,940 | 0.051 % | 10^3.9 | 10^-1.1 | 82 (2.3–∞) |\n" in told
    assert "> [!NOTE]\n> the alarm greeting-5xx was red before, and is ignored\n" in told


def test_in_markdown_no_text_from_outside_is_markup() -> None:
    told = reporting.markdown(nasty())

    assert set(re.findall(r"<(/?\w+)", told)) == {"details", "/details", "summary", "/summary"}
    assert not re.search(r"(?<!\\)`|@|://|(?<!\\)\]\(", told.replace("[!NOTE]", ""))
    for table in re.findall(r"(?:^\|.*\n)+", told, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table


# The document


@pytest.mark.parametrize("name", [*EVERY, "nasty"])
def test_the_document_survives_json(name: str) -> None:
    document = reporting.document(nasty() if name == "nasty" else EVERY[name]())

    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == 1


def test_the_verdict_can_be_computed_again_from_the_document() -> None:
    for make in EVERY.values():
        document = json.loads(json.dumps(reporting.document(make())))
        for metric in document["metrics"]:
            evidence = analysis.none(
                Metric(name=metric["name"], dispersion=metric["dispersion"], **metric["tolerated"])
            )
            for each in metric["buckets"]:
                evidence = analysis.weigh(evidence, _bucket(metric["name"], each))
            judged = analysis.judge(evidence, alpha=metric["alpha"], minimum=document["policy"]["minimum"])
            assert judged.verdict.name.lower() == metric["verdict"]
            assert {"worse": judged.worse, "no_worse": judged.no_worse, "limit": judged.limit} == metric["log10"]
            assert (judged.canary.calls, judged.canary.bad) == (metric["canary"]["calls"], metric["canary"]["bad"])


def test_the_method_in_the_document_is_the_one_that_was_used() -> None:
    """A bucket weighed by hand, with nothing but the document."""
    document = reporting.document(stories.bad())
    errors, method = document["metrics"][0], document["method"]
    first = errors["buckets"][0]
    canary, baseline = first["canary"], first["baseline"]

    kept = method["kept"] / (1 + first["seconds"] / method["patience_s"]) ** 0.5
    value = kept + sum(
        (1 - kept) * weight * _likelihood_ratio(float(odds), canary, baseline)
        for odds, weight in method["odds_ratios"].items()
    )

    assert 10 ** first["log10"]["worse"] == pytest.approx(value, rel=1e-6)


def _likelihood_ratio(odds: float, canary: dict[str, Any], baseline: dict[str, Any]) -> float:
    """ψ^e_c / E[ψ^K], K hypergeometric: by its definition."""
    from math import comb

    bad, calls = canary["bad"] + baseline["bad"], canary["calls"] + baseline["calls"]
    mean = sum(
        odds**k * comb(canary["calls"], k) * comb(baseline["calls"], bad - k) / comb(calls, bad)
        for k in range(min(bad, canary["calls"]) + 1)
    )
    result: float = odds ** canary["bad"] / mean
    return result


def _bucket(metric: str, each: dict[str, Any]) -> Bucket:
    def side(counts: dict[str, Any]) -> Counts:
        return Counts(calls=counts["calls"], bad=counts["bad"])

    return Bucket(
        metric=metric,
        at=each["at"],
        seconds=each["seconds"],
        canary=side(each["canary"]),
        baseline=side(each["baseline"]),
    )


def test_neighbours_are_summed_and_nothing_is_lost() -> None:
    points = stories.leaking().points
    few = reporting.merged(points, 10)

    assert len(few) <= 10
    assert sum((each.canary for each in few), Counts()) == sum((each.canary for each in points), Counts())
    assert few[-1].worse == points[-1].worse
    assert {each.weight for each in few} == {each.weight for each in points}
    assert reporting.merged(points, 100) == points


# The page


class Page(HTMLParser):
    """Open and closed in order, and what stands in it."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"{tag} says an attribute twice"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", [*EVERY, "nasty"])
def test_the_page_is_one_well_formed_file_that_asks_for_nothing(name: str) -> None:
    text = report_page.html(nasty() if name == "nasty" else EVERY[name]())
    page = Page(text)

    allowed = {
        "html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer", "h1", "h2", "p",
        "span", "strong", "small", "br", "sup", "div", "dl", "dt", "dd", "figure", "figcaption", "svg", "desc", "path",
        "circle", "text", "details", "summary", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert {tag for tag, _ in page.tags} <= allowed
    names = {attribute for _, attributes in page.tags for attribute in attributes}
    assert not names & {"src", "href", "srcset", "action", "style", "xlink:href"}
    assert not [each for each in names if each.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert set(str(attributes["aria-labelledby"]).split()) <= set(ids)


def test_what_comes_from_outside_stays_text_on_the_page() -> None:
    page = Page(report_page.html(nasty()))

    assert "<script>alert(1)</script>" in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


def test_the_page_has_the_numbers_beside_the_plots() -> None:
    page = Page(report_page.html(stories.bad()))

    assert "Version 8 is worse: 4 of 120 calls failed (3.3 %)" in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 1 + 2 * 3
    assert "12:02:001 %2603.3 %35,9400.051 %" in page.text
    assert "In all 4 of 120 calls failed (3.3 %) against 5 of 11,880 (0.042 %)." in page.text


def test_a_long_rollout_makes_no_endless_page() -> None:
    told = stories.leaking()
    many = tuple(replace(told.points[0], at=BEGAN + 60 * n) for n in range(5000))

    assert len(report_page.html(replace(told, points=many))) < 250_000


# Plots


def test_round_marks() -> None:
    assert [text for _, text in plots.linear(0, 0.033, lambda each: f"{each:.2f}").ticks] == [
        "0.00", "0.01", "0.02", "0.03",
    ]  # fmt: skip
    assert [text for _, text in plots.times(3700).ticks] == ["0", "15 min", "30 min", "45 min", "1:00 h"]
    assert [value for value, _ in plots.tenfold(0.05, 300).ticks] == pytest.approx([0.1, 1, 10, 100])
    assert [value for value, _ in plots.tenfold(0.4, 3).ticks] == pytest.approx([0.5, 1, 2])


def test_what_has_no_bound_is_drawn_at_the_edge() -> None:
    frame = plots.Frame(x=plots.linear(0, 10), y=plots.tenfold(0.1, 10))

    drawn = plots.band(frame, [(0, 0.0, float("inf")), (10, 1.0, float("inf"))], "canary")

    assert "nan" not in drawn
    assert "inf" not in drawn
    assert frame.up(float("inf")) == frame.top
    assert frame.up(0.0) == frame.height - frame.bottom


def test_a_plot_may_be_a_file_of_its_own() -> None:
    frame = plots.Frame(x=plots.times(600), y=plots.linear(0, 1))
    drawn = plots.figure(
        "one", frame, [plots.line(frame, [(0, 0), (600, 1)], "good")], title="<a>", text="b", alone=True
    )

    assert 'xmlns="http://www.w3.org/2000/svg"' in drawn
    assert '<title id="one-title">&lt;a&gt;</title>' in drawn
    Page(drawn)


def test_braille_lines_and_bars() -> None:
    scale = plots.linear(0, 4)
    assert plots.braille([(0, 0), (4, 4)], x=scale, y=scale, width=4, height=2, limit=4) == ["╌╌⡠⠊", "⡠⠊  "]
    assert plots.braille([], x=scale, y=scale, width=3, height=1) == ["   "]
    assert [plots.bar(each, 4) for each in (0, 0.0001, 0.5, 0.6, 7)] == ["····", "▏···", "██··", "██▍·", "████"]
    assert plots.sparkline([0, 2, 4, 9], low=0, high=4) == "▁▅██"


def test_the_page_of_the_manual_shows_what_is_shown() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "rollout-report.md").read_text(encoding="utf-8")
    told = stories.bad()

    assert reporting.text(told) in manual
    assert "\n".join(rollout_view.draw(told, told.ended, 80, 24)) in manual
