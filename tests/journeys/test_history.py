"""`pointsman history`, as somebody asks it: who did what, what was live at two, in a spreadsheet, out of the ruins."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from pointsman.aws.operation import Operation, R, Transport
from pointsman.errors import AccessDenied
from tests.journeys.conftest import Shop


@pytest.fixture
def told(shop: Shop) -> Shop:
    """101 on STAGE and PROD; 102 on STAGE, and by a CI job on PROD; PROD rolled back."""
    shop.ok("deploy", "--build-id", "101")
    shop.ok("promote", "101", "--to", "PROD", "--approve")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    job = {
        "GITHUB_ACTOR": "anna",
        "GITHUB_RUN_ID": "77",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "shop/greeting",
    }
    shop.variables.update(job)
    shop.ok("promote", "102", "--to", "PROD", "--approve")
    for name in job:
        del shop.variables[name]
    shop.ok("rollback", "PROD")
    return shop


def lines(shop: Shop, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shop.ok("history", "--json", *words).result
    return found


def test_filters_choose_lines_and_each_knows_who_and_by_which_ci_run(told: Shop) -> None:
    promoted = lines(told, "--kind", "move", "--by", "ANNA")

    assert [(each["alias"], each["version"], each["build"]) for each in promoted] == [("PROD", "2", "102")]
    assert promoted[0]["ci"] == "https://github.com/shop/greeting/actions/runs/77"
    assert {each["alias"] for each in lines(told, "--env", "production")} == {"PROD"}
    assert {each["build"] for each in lines(told, "--build", "101")} == {"101"}
    assert [each["topic"] for each in lines(told, "--kind", "build", "--kind", "publish")] == ["publish", "build"] * 2
    assert [each["what"] for each in lines(told, "-n", "1")] == ["rollback: PROD → version 1 (was 2), build 101"]
    assert lines(told, "--function", told.name, "--since", "1h") == lines(told, "--function", "greeting")
    assert lines(told, "--until", "1h") == []
    assert "Nothing of that kind, in" in told.ok("history", "--by", "nobody").out
    assert "Older lines are left out" in told.ok("history", "-n", "2").out


def test_what_was_live_at_a_moment(told: Shop) -> None:
    by_anna = lines(told, "--kind", "move", "--by", "anna")[0]["at"]
    published = lines(told, "--kind", "publish")[0]["at"]  # a moment before her move its call is under way

    def live(at: float) -> dict[str, str]:
        moment = datetime.fromtimestamp(at, UTC).isoformat()
        found = told.ok("history", "--at", moment, "--json").result
        return {each["alias"]: each["version"] for each in found["aliases"] if each["sure"]}

    assert live(published) | {"STAGE": "2"} == {"PROD": "1", "STAGE": "2"}
    assert live(by_anna + 0.001) == {"PROD": "2", "STAGE": "2"}
    assert live(datetime.now(UTC).timestamp() - 1e-3) == {"PROD": "1", "STAGE": "2"}

    now = told.ok("history", "--at", "now", "--alias", "PROD").out
    assert "PROD" in now
    assert "STAGE" not in now
    assert "The ledger begins at" in told.ok("history", "--at", "2020-01-01").out


def test_a_spreadsheet_gets_all_lines(told: Shop) -> None:
    answer = told.ok("history", "--csv")

    rows = list(csv.DictReader(io.StringIO(answer.out, newline="")))
    assert len(rows) == len(lines(told, "-n", "1000"))
    assert rows[0]["what"] == "rollback: PROD → version 1 (was 2), build 101"
    assert rows[0]["arn"].endswith(f":function:{told.name}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--since", "yesterdya"), "--since: 'yesterdya' is not a time. Times look like"),
        (("--until", "2026-02-30"), "--until: '2026-02-30' is no date"),
        (("--at", "2999-01-01"), "has not come yet"),
        (("--since", "1h", "--until", "2h"), "nothing can lie between them"),
        (("--at", "now", "--since", "1h"), "--at is one moment"),
        (("--at", "now", "--by", "anna"), "--by chooses lines"),
        (("--csv", "--json"), "--csv"),
        (("--csv", "--at", "now"), "--csv"),
        (("--rebuild", "--csv"), "--rebuild writes the whole ledger anew, and --csv chooses what is shown"),
        (("--rebuild", "--at", "now"), "--rebuild writes the whole ledger anew, and --at chooses"),
        (("--env", "productoin"), "nearest): production"),
        (("--alias", "nope"), "there is no alias or environment nope"),
        (("--region", "xx"), "there is no region xx"),
        (("--function", "greting", "--at", "now"), "nearest): greeting"),
        (("--kind", "moves"), "did you mean move?"),
        (("-n", "0"), "-n"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(shop: Shop, words: tuple[str, ...], says: str) -> None:
    refused = shop.run("history", *words)

    assert refused.code == 2
    assert says in (refused.err + refused.out)


def test_a_lost_ledger_comes_back_with_who_moved_what_when(told: Shop) -> None:
    before = [(each["alias"], each["version"]) for each in lines(told, "--kind", "move")]
    (told.folder / ".pointsman" / "local" / "ledger.db").write_bytes(b"gone")

    rebuilt = told.ok("history", "--rebuild", "--json").result

    assert (rebuilt["versions"], rebuilt["aliases"], rebuilt["moves"]) == (2, 2, 5)
    assert rebuilt["sources"] == ["Lambda", "CloudTrail"]
    after = lines(told, "--kind", "move")
    assert [(each["alias"], each["version"]) for each in after] == before
    assert {each["by"] for each in after} == {"root"}
    assert "ledger rebuilt from Lambda and CloudTrail: 2 versions, 2 aliases" in told.ok("history").out
    told.ok("promote", "102", "--to", "PROD", "--approve")
    told.ok("rollback", "PROD")
    assert told.serves("PROD") == "1"


def test_without_cloudtrail_lambda_alone_tells(told: Shop) -> None:
    class Denied:
        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Operation[R]) -> R:
            if operation.service == "cloudtrail":
                raise AccessDenied("anna is not authorized to perform: cloudtrail:LookupEvents")
            return self.inner.send(operation)

    answer = told.ok("history", "--rebuild", "--force", wrap=Denied)

    assert "is not known; grant cloudtrail:LookupEvents" in answer.out
    assert [each["what"] for each in lines(told, "--kind", "move")] == [
        "observed: STAGE → version 2, build 102",
        "observed: PROD → version 1, build 101",
    ]
