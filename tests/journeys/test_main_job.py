"""The main job end to end: deploy, promote, the bad build, the rollback; with the calls it costs, counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.journeys.conftest import Shop


def test_from_nothing_to_production_and_back(tested: Shop) -> None:
    first = tested.ok("deploy", "--build-id", "101", "--json").result[0]
    assert (first["alias"], first["version"], first["published"], first["build"]) == ("STAGE", "1", True, "101")
    assert tested.invoke("STAGE") == {"word": "hello", "version": "1"}

    refused = tested.run("promote", "101", "--to", "PROD")
    assert refused.code == 3
    assert "--approve" in refused.err
    assert tested.serves("PROD") is None

    tested.ok("promote", "101", "--to", "PROD", "--approve")
    assert tested.serves("PROD") == "1"

    tested.greet("good evening")
    tested.ok("deploy", "--build-id", "102")
    tested.ok("promote", "STAGE", "--to", "production", "--approve")
    assert tested.invoke("PROD") == {"word": "good evening", "version": "2"}

    back = tested.ok("rollback", "PROD").out
    assert back == "greeting: PROD serves version 1, build 101 (was version 2).\n"
    assert tested.invoke("PROD")["word"] == "hello"
    assert tested.serves("STAGE") == "2"


def test_a_build_whose_tests_fail_moves_nothing(tested: Shop) -> None:
    tested.ok("deploy", "--build-id", "101")
    tested.greet("bad")

    failed = tested.run("deploy", "--build-id", "102")

    assert failed.code == 3
    assert "integration tests of greeting against version 2: " in failed.err
    assert "answers a good word" in failed.err
    assert tested.serves("STAGE") == "1"

    tested.greet("better")
    tested.ok("deploy", "--build-id", "103")
    assert tested.invoke("STAGE")["word"] == "better"


def test_identical_code_under_a_new_build_id_publishes_nothing_and_is_found_by_it(tested: Shop) -> None:
    """Lambda answers an unchanged publish with the old version and its old description; the ledger knows both ids."""
    tested.ok("deploy", "--build-id", "101")

    again = tested.ok("deploy", "--build-id", "102")
    assert "nothing to do" in again.out
    assert "102 is that build too" in again.out
    assert tested.versions() == ["1"]
    assert tested.run("deploy", "--build-id", "102", "--fail-if-unchanged").code == 5

    tested.ok("promote", "102", "--to", "PROD", "--approve")
    assert tested.serves("PROD") == "1"


def test_what_a_deploy_costs_in_calls(shop: Shop) -> None:
    """design.md's figures: 15 control-plane calls a second are all an account has."""
    shop.ok("deploy", "--build-id", "101")

    assert shop.ok("deploy", "--build-id", "102", "--json").calls == (2, 0)

    shop.greet("good evening")
    changed = shop.ok("deploy", "--build-id", "103", "--json")
    assert changed.calls[1] == 3
    sent = [call["action"] for call in changed.document["calls"]["list"]]
    writes = [action for action in sent if not action.startswith(("Get", "List"))]
    assert writes == ["UpdateFunctionCode", "PublishVersion", "UpdateAlias"]

    shop.ok("promote", "101", "--to", "PROD", "--approve")
    reads, writes_made = shop.ok("promote", "103", "--to", "PROD", "--approve", "--json").calls
    assert reads <= 2
    assert writes_made == 1
    assert shop.ok("rollback", "PROD", "--json").calls == (1, 1)


def test_a_configuration_change_costs_one_write_more(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    changed = f'{{ with = "direct", name = "{shop.name}", role = "{shop.role}", memory = 256 }}'
    shop.configure(provision=changed)
    shop.greet("hi")

    answer = shop.ok("deploy", "--build-id", "102", "--json")

    assert answer.calls[1] == 4
    memory = shop.aws("lambda").get_function_configuration(FunctionName=shop.name, Qualifier="STAGE")["MemorySize"]
    assert memory == 256


def test_rollback_returns_to_the_previous_deployment_of_that_alias_not_to_the_number_before(shop: Shop) -> None:
    for number, word in enumerate(("one", "two", "three"), 1):
        shop.greet(word)
        shop.ok("deploy", "--build-id", f"b{number}")
        if number != 2:
            shop.ok("promote", f"b{number}", "--to", "PROD", "--approve")

    shop.ok("rollback", "PROD")
    assert shop.invoke("PROD")["word"] == "one"

    nothing = shop.run("rollback", "PROD")
    assert nothing.code == 2
    assert "this is its first deployment" in nothing.err
    shop.ok("rollback", "PROD", "--to", "b2", "--approve")  # PROD never served it: no way back, but a promotion
    assert shop.invoke("PROD")["word"] == "two"


def test_promoting_what_does_not_exist_shows_the_nearest_builds(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "release-101")

    wrong = shop.run("promote", "relase-101", "--to", "PROD", "--approve")

    assert wrong.code == 2
    assert "release-101" in wrong.err
    assert shop.serves("PROD") is None


def test_a_build_is_found_through_all_pages_of_descriptions_without_a_ledger(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "first")
    client = shop.aws("lambda")
    for number in range(60):
        client.update_function_configuration(FunctionName=shop.name, Timeout=10 + number)
        client.get_waiter("function_updated_v2").wait(FunctionName=shop.name, WaiterConfig={"Delay": 0.05})
        client.publish_version(FunctionName=shop.name, Description=f"n{number}")
    for each in (shop.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()

    shop.ok("promote", "n55", "--to", "PROD", "--approve")

    assert shop.serves("PROD") == "57"


def test_the_same_build_id_for_other_code_is_refused(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("other")

    refused = shop.run("deploy", "--build-id", "101")
    assert refused.code == 2
    assert "build 101 is other code already" in refused.err

    for each in (shop.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()
    assert shop.run("deploy", "--build-id", "101").code == 2
    assert shop.versions() == ["1"]


def test_deploying_a_build_again_takes_its_alias_back_from_a_hand(shop: Shop) -> None:
    """A CI run started again to repair what somebody moved: the alias is still described as the build it served."""
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.aws("lambda").update_alias(FunctionName=shop.name, Name="STAGE", FunctionVersion="1")

    shop.ok("promote", "STAGE", "--to", "PROD", "--approve")
    assert shop.alias("PROD")["Description"] == "101"  # type: ignore[index]
    shop.ok("deploy", "--build-id", "102")
    assert shop.serves("STAGE") == "2"

    shop.aws("lambda").update_alias(FunctionName=shop.name, Name="STAGE", FunctionVersion="1")
    for each in (shop.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()
    shop.ok("deploy", "--build-id", "102")
    assert shop.serves("STAGE") == "2"
    shop.greet("three")
    assert "build 102 is other code already" in shop.run("deploy", "--build-id", "102").err


def test_an_alias_moved_by_hand_is_not_the_build_it_is_described_as(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101", "--to", "PROD", "--approve")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.aws("lambda").update_alias(FunctionName=shop.name, Name="STAGE", FunctionVersion="1")
    shop.aws("lambda").delete_alias(FunctionName=shop.name, Name="PROD")

    shop.ok("promote", "STAGE", "--to", "PROD", "--approve")

    assert shop.alias("PROD")["Description"] == "101"  # type: ignore[index]


def test_a_saved_plan_is_run_exactly_or_refused_with_what_differs(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("planned")
    shown = shop.ok("plan", "--to", "STAGE", "--build-id", "102", "--out", "release.plan")
    assert "publish a version of it, described “102”" in shown.out
    assert shop.versions() == ["1"]

    shop.greet("not what was planned")
    shop.ok("apply", "release.plan")
    assert shop.invoke("STAGE")["word"] == "planned"

    stale = shop.run("apply", "release.plan")
    assert stale.code == 4
    assert "nothing is left of this plan: it was applied already" in stale.err
    assert "revision" not in stale.err


def test_a_plan_made_before_somebody_moved_the_alias_is_stale(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.ok("promote", "101", "--to", "PROD", "--approve")
    shop.ok("plan", "promote", "102", "--to", "PROD", "--out", "p.plan")
    shop.aws("lambda").update_alias(FunctionName=shop.name, Name="PROD", Description="touched")

    stale = shop.run("apply", "p.plan", "--approve")

    assert stale.code == 4
    assert shop.serves("PROD") == "1"


def test_planning_sends_nothing_that_changes_anything(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")

    for words in (("plan",), ("plan", "promote", "101", "--to", "PROD"), ("plan", "rollback", "STAGE", "--to", "1")):
        assert shop.ok(*words, "--json").calls[1] == 0


def test_status_versions_history_and_diff_tell_the_story(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.ok("promote", "101", "--to", "PROD", "--approve")

    status = shop.ok("status", "--json").result[0]
    assert [(row["alias"], row["version"], row["build"]) for row in status["aliases"]] == [
        ("STAGE", "2", "102"),
        ("PROD", "1", "101"),
    ]
    rows = shop.ok("versions", "--json").result["greeting"]
    assert [(row["version"], row["builds"], row["aliases"]) for row in rows] == [
        ("2", ["102"], ["STAGE"]),
        ("1", ["101"], ["PROD"]),
    ]
    told = [line["what"] for line in shop.ok("history", "--json").result]
    assert "promote: PROD → version 1, build 101" in told
    assert "deploy: STAGE → version 2 (was 1), build 102" in told
    difference = shop.ok("diff", "STAGE", "PROD", "--json").result["greeting"]
    assert difference["code"] is True
    assert difference["files"] == {"index.py": "changed"}
    assert "index.py" in shop.ok("diff", "1", "2").out


def test_status_says_when_an_alias_was_moved_by_other_hands(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.aws("lambda").update_alias(FunctionName=shop.name, Name="STAGE", FunctionVersion="1")

    assert "STAGE was moved outside Pointsman" in shop.ok("status").out
    lost = shop.run("rollback", "STAGE")
    assert lost.code == 4
    assert "moved outside Pointsman" in lost.err


def test_everything_but_rollback_works_without_a_ledger(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    for each in (shop.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()

    assert shop.ok("status", "--json").result[0]["aliases"][0]["build"] == "102"
    shop.ok("promote", "version:1", "--to", "PROD", "--approve")
    shop.ok("rollback", "STAGE", "--to", "1")
    assert shop.serves("STAGE") == "1"


def test_approval_names_who_approved(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.variables["POINTSMAN_APPROVED_BY"] = "the release manager"

    shop.ok("promote", "101", "--to", "PROD")

    approved = [line for line in shop.ok("history", "--json").result if line["kind"] == "approved"]
    assert approved[0]["what"] == "PROD approved by the release manager, version 1"


def test_json_has_one_shape_for_success_and_failure(shop: Shop) -> None:
    done = shop.ok("deploy", "--build-id", "101", "--json").document
    assert set(done) == {"schema", "ok", "result", "calls"}
    assert done["schema"] == 1
    assert set(done["calls"]) == {"reads", "writes", "list"}
    assert set(done["calls"]["list"][0]) == {"service", "action", "ms"}

    failed = json.loads(shop.run("promote", "nothing-like-it", "--to", "PROD", "--json").out)
    assert set(failed) == {"schema", "ok", "result", "error", "calls"}
    assert (failed["ok"], failed["error"]["code"]) == (False, "unknown_target")


def test_a_build_is_byte_identical_the_second_time_and_says_so(shop: Shop) -> None:
    first = shop.ok("build", "--json").result[0]
    second = shop.ok("build", "--json").result[0]

    assert set(first) >= {"function", "path", "sha256", "size", "files", "cached"}
    assert first["sha256"] == second["sha256"]
    assert (first["cached"], second["cached"]) == (False, True)
    assert Path(first["path"]).exists()


def test_it_is_quiet_when_piped_and_talks_when_asked(shop: Shop) -> None:
    quiet = shop.ok("deploy", "--build-id", "101")
    assert quiet.err == ""
    assert quiet.out == "greeting: STAGE serves version 1, build 101.\n"

    shop.greet("two")
    assert "published version 2" in shop.ok("deploy", "--build-id", "102", "-v").err


@pytest.mark.parametrize("against", ["latest", "version"])
def test_tests_run_against_what_the_file_says(tested: Shop, against: str) -> None:
    text = (tested.folder / "pointsman.toml").read_text()
    tested.write("pointsman.toml", text.replace('junit = "report.xml"', f'junit = "report.xml", against = "{against}"'))
    tested.ok("deploy", "--build-id", "101")
    tested.greet("bad")

    failed = tested.run("deploy", "--build-id", "102")

    assert failed.code == 3
    assert tested.versions() == (["1"] if against == "latest" else ["1", "2"])
