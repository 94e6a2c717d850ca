"""What is planned, case by case: the world before, and the exact steps or the reason for none."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import LostRace, UsageError
from pointsman.model import (
    Alias,
    AliasName,
    Artifact,
    Bits,
    BuildId,
    Canary,
    CodeSha256,
    Configuration,
    FunctionArn,
    FunctionName,
    Routing,
    Version,
    Weight,
    fingerprint,
    from_json,
    to_json,
)
from pointsman.plan import (
    ApplyTerraform,
    Gate,
    Plan,
    PublishLayer,
    Seen,
    Wanted,
    describe,
    details,
    differences,
    plan_deploy,
    plan_move,
)

OLD = CodeSha256("A" * 43 + "=")
NEW = CodeSha256("B" * 43 + "=")
ARN = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("greeting"))
SETTINGS = {"Handler": "index.handler", "MemorySize": 128, "Role": "arn:aws:iam::123456789012:role/r"}
STAGE = AliasName("STAGE")
INTEGRATION = Gate(name="integration", against="version")


def function(sha256: CodeSha256 = OLD, **settings: object) -> Configuration:
    merged = {**SETTINGS, **settings}
    return Configuration(
        arn=ARN,
        version=Version("$LATEST"),
        sha256=sha256,
        revision="rev-f",
        settings=merged,
        fingerprint=fingerprint(merged),
    )


def alias(version: str, *, canary: str | None = None) -> Alias:
    second = Canary(version=Version(canary), weight=Weight(0.1)) if canary else None
    routing = Routing(version=Version(version), canary=second)
    return Alias(arn=ARN, name=STAGE, routing=routing, revision="rev-a")


def wanted(sha256: CodeSha256 = NEW, **more: object) -> Wanted:
    artifact = Artifact(function="greeting", path="/p.zip", sha256=sha256, size=2100, unzipped=4000, files=3)
    facts: dict[str, object] = {
        "function": "greeting",
        "name": FunctionName("greeting"),
        "environment": "staging",
        "alias": STAGE,
        "build": BuildId("101"),
        "artifact": artifact,
        "gates": (INTEGRATION,),
    }
    return Wanted(**{**facts, **more})  # type: ignore[arg-type]


def bits(sha256: CodeSha256, of: Configuration) -> Bits:
    return Bits(sha256=sha256, fingerprint=of.fingerprint)


def told(plan: Plan) -> list[str]:
    return [describe(step) for step in plan.steps]


def test_new_code_is_uploaded_published_tested_and_served() -> None:
    plan = plan_deploy(wanted(), Seen(function=function(), alias=alias("3"), serving=bits(OLD, function())))

    assert told(plan) == [
        "upload 2.1 kB of code BBBBBBBB… to $LATEST ($LATEST holds AAAAAAAA…)",
        "publish a version of it, described “101”",
        "run the integration tests against the new version",
        "move alias STAGE from version 3 to the new version (build 101)",
    ]
    assert plan.expects.function_revision == "rev-f"
    assert plan.expects.alias_revision == "rev-a"


def test_code_and_configuration_that_the_alias_serves_already_need_nothing() -> None:
    seen = Seen(function=function(NEW), alias=alias("3"), serving=bits(NEW, function()))

    plan = plan_deploy(wanted(), seen)

    assert plan.steps == ()
    assert plan.why_nothing == "STAGE serves exactly this code and configuration already, as version 3"
    assert plan.version == "3"


def test_a_configuration_changed_by_somebody_else_is_published_though_the_code_is_the_same() -> None:
    """The commonest complaint about other tools: a changed variable that never reaches PROD."""
    now = function(NEW, MemorySize=512)

    plan = plan_deploy(wanted(gates=()), Seen(function=now, alias=alias("3"), serving=bits(NEW, function())))

    assert told(plan) == [
        "publish a version of it, described “101”",
        "move alias STAGE from version 3 to the new version (build 101)",
    ]


def test_bits_published_before_are_not_published_again() -> None:
    now = function(OLD)
    seen = Seen(function=now, alias=alias("4"), serving=bits(OLD, now), published=Version("3"))

    plan = plan_deploy(wanted(), seen)

    assert told(plan) == [
        "run the integration tests against version 3",
        "move alias STAGE from version 4 to version 3 (build 101)",
    ]


def test_tests_against_latest_force_the_code_there_even_if_it_was_published_before() -> None:
    now = function(OLD)
    seen = Seen(function=now, alias=alias("4"), serving=bits(OLD, now), published=Version("3"))

    plan = plan_deploy(wanted(gates=(Gate(name="integration", against="latest"),)), seen)

    assert told(plan) == [
        "upload 2.1 kB of code BBBBBBBB… to $LATEST ($LATEST holds AAAAAAAA…)",
        "run the integration tests against $LATEST",
        "publish a version of it, described “101”",
        "move alias STAGE from version 4 to the new version (build 101)",
    ]


def test_a_stack_that_is_not_there_is_created_first_and_its_stand_in_replaced() -> None:
    plan = plan_deploy(
        wanted(name=None, stack="greeting-stack", template="digest", approve=True), Seen(function=None, stack="absent")
    )

    assert told(plan) == [
        "create stack greeting-stack by a change set (there is none yet)",
        "upload 2.1 kB of code BBBBBBBB… to $LATEST (the stack brings a stand-in)",
        "publish a version of it, described “101”",
        "run the integration tests against the new version",
        "ask for approval to move STAGE (approve = true)",
        "create alias STAGE for the new version",
    ]


def test_a_changed_template_is_applied_and_published_though_the_code_is_the_same() -> None:
    now = function(NEW)
    seen = Seen(function=now, alias=alias("3"), serving=bits(NEW, now), stack="differs")

    plan = plan_deploy(wanted(stack="greeting-stack", template="digest", gates=()), seen)

    assert told(plan) == [
        "update stack greeting-stack by a change set (the template or its parameters changed)",
        "upload 2.1 kB of code BBBBBBBB… to $LATEST (if the stack changes it)",
        "publish a version of it, described “101”",
        "move alias STAGE from version 3 to the new version (build 101)",
    ]


def test_a_function_that_is_not_there_is_created_with_what_the_file_declares() -> None:
    plan = plan_deploy(wanted(settings=SETTINGS, gates=()), Seen(function=None))

    assert told(plan) == [
        "create the function (there is none yet)",
        "publish a version of it, described “101”",
        "create alias STAGE for the new version",
    ]


def test_only_declared_settings_are_changed_and_variables_of_others_are_kept() -> None:
    now = function(NEW, Environment={"THEIRS": "1", "MINE": "old", "GONE": "x"})
    declared = {"MemorySize": 256, "Environment": {"Variables": {"MINE": "new"}}}
    seen = Seen(function=now, alias=alias("3"), serving=bits(NEW, now))

    plan = plan_deploy(wanted(settings=declared, dropped=("GONE",), gates=()), seen)

    assert plan.steps[0].settings == {  # type: ignore[union-attr]
        "MemorySize": 256,
        "Environment": {"Variables": {"THEIRS": "1", "MINE": "new"}},
    }
    line = "change the configuration of $LATEST: MemorySize 128 → 256; environment variables GONE, MINE"
    assert told(plan)[0] == line


def test_a_plan_never_shows_the_value_of_a_variable() -> None:
    now = function(NEW, Environment={"TOKEN": "secret-before"})
    plan = plan_deploy(
        wanted(settings={"Environment": {"Variables": {"TOKEN": "secret-after"}}}), Seen(function=now, alias=None)
    )

    assert "secret" not in " ".join(told(plan))


def test_another_architecture_goes_with_the_code() -> None:
    now = function(NEW, Architectures=["x86_64"])
    seen = Seen(function=now, alias=alias("3"), serving=bits(NEW, now))

    plan = plan_deploy(wanted(settings={"Architectures": ["arm64"]}, gates=()), seen)

    assert plan.steps[0].architecture == "arm64"  # type: ignore[union-attr]
    assert len(plan.steps) == 3


def test_an_alias_in_the_middle_of_a_shift_is_left_alone() -> None:
    with pytest.raises(LostRace, match="half-way through a shift"):
        plan_deploy(wanted(), Seen(function=function(), alias=alias("3", canary="4")))


def move(kind: str, version: str, seen: Alias | None, *, approve: bool = False) -> Plan:
    return plan_move(
        kind,  # type: ignore[arg-type]
        function="greeting",
        environment="staging",
        alias=STAGE,
        name=FunctionName("greeting"),
        version=Version(version),
        seen=seen,
        build=None,
        approve=approve,
    )


def test_promoting_moves_or_creates_the_alias() -> None:
    assert told(move("promote", "4", alias("3"))) == ["move alias STAGE from version 3 to version 4 (as asked)"]
    assert told(move("promote", "4", None, approve=True)) == [
        "ask for approval to move STAGE (approve = true)",
        "create alias STAGE for version 4",
    ]


def test_promoting_what_is_served_needs_nothing_but_a_half_shifted_alias_is_ended() -> None:
    assert move("promote", "3", alias("3")).why_nothing == "STAGE serves version 3 already"
    assert len(move("rollback", "3", alias("3", canary="4")).steps) == 1


def test_a_saved_plan_comes_back_equal_and_tells_how_the_world_moved() -> None:
    seen = Seen(function=function(), alias=alias("3"), serving=bits(OLD, function()))
    plan = plan_deploy(wanted(), seen)

    assert from_json(to_json(plan), Plan) == plan
    assert differences(plan, plan_deploy(wanted(), seen)) == ()

    moved = plan_deploy(wanted(), Seen(function=function(), alias=alias("7"), serving=bits(OLD, function())))
    lines = differences(plan, moved)
    assert "no longer planned: move alias STAGE from version 3 to the new version (build 101)" in lines
    assert "not in the plan: move alias STAGE from version 7 to the new version (build 101)" in lines


SHAS = st.sampled_from([OLD, NEW])


def terraform(**more: object) -> ApplyTerraform:
    facts: dict[str, object] = {
        "directory": "terraform",
        "workspace": "",
        "file": "/p.tfplan",
        "digest": "d",
        "key": "k",
        "address": "aws_lambda_function.lambda",
        "changes": ("update aws_lambda_function.lambda: source_code_hash",),
        "publishes": True,
        "brings": True,
        "reason": "it changed",
    }
    return ApplyTerraform(**{**facts, **more})  # type: ignore[arg-type]


def test_a_version_that_terraform_publishes_is_not_published_again() -> None:
    seen = Seen(function=function(), alias=alias("3"), serving=bits(OLD, function()), stack="differs")

    plan = plan_deploy(wanted(), msgspec.structs.replace(seen, terraform=terraform()))

    assert told(plan) == [
        "apply Terraform's plan of terraform (it changed)",
        "run the integration tests against the new version",
        "move alias STAGE from version 3 to the new version (build 101)",
    ]
    assert from_json(to_json(plan), Plan) == plan


def test_what_terraform_changes_beside_the_function_moves_nothing() -> None:
    seen = Seen(function=function(NEW), alias=alias("3"), stack="differs", terraform=terraform(version=Version("3")))

    assert told(plan_deploy(wanted(), seen)) == ["apply Terraform's plan of terraform (it changed)"]


def test_a_function_that_terraform_only_makes_gets_code_and_version_from_pointsman() -> None:
    seen = Seen(function=None, stack="differs", terraform=terraform(publishes=False, brings=False))

    assert told(plan_deploy(wanted(gates=()), seen)) == [
        "apply Terraform's plan of terraform (it changed)",
        "upload 2.1 kB of code BBBBBBBB… to $LATEST (Terraform brings a stand-in)",
        "publish a version of it, described “101”",
        "create alias STAGE for the new version",
    ]


def test_what_terraform_would_do_is_shown_in_detail() -> None:
    step = terraform(losses=("delete aws_lambda_function.lambda",), notes=("the code goes back",))

    assert details(step) == (
        "update aws_lambda_function.lambda: source_code_hash",
        "needs --allow: delete aws_lambda_function.lambda",
        "the code goes back",
    )


@given(
    latest=SHAS,
    target=SHAS,
    memory=st.sampled_from([128, 512]),
    declared=st.sampled_from([None, 128, 512]),
    served=st.one_of(st.none(), st.tuples(SHAS, st.sampled_from([128, 512]))),
)
def test_what_a_plan_brings_about_leaves_nothing_to_do(
    latest: CodeSha256, target: CodeSha256, memory: int, declared: int | None, served: tuple[CodeSha256, int] | None
) -> None:
    """plan(x, after(plan(x))) is empty, whatever the world was: a deploy repeated does nothing."""
    before = function(latest, MemorySize=memory)
    serving = Bits(sha256=served[0], fingerprint=function(MemorySize=served[1]).fingerprint) if served else None
    asked = wanted(target, settings={"MemorySize": declared} if declared else None)
    plan = plan_deploy(asked, Seen(function=before, alias=alias("3") if served else None, serving=serving))

    after = function(target, MemorySize=declared or memory)
    if not plan.steps:
        after = before
    again = plan_deploy(asked, Seen(function=after, alias=alias("4"), serving=bits(target, after)))

    assert again.steps == ()
    assert plan == plan_deploy(asked, Seen(function=before, alias=alias("3") if served else None, serving=serving))


COMMON = "arn:aws:lambda:eu-west-1:123456789012:layer:common"
LAYER = PublishLayer(layer="common", arn=COMMON, sha256=NEW, size=1_200_000, reason="version 3 holds something else")


def test_a_changed_layer_is_published_and_the_configuration_refers_to_it() -> None:
    present = function(NEW, Layers=[f"{COMMON}:3"])
    asked = wanted(settings={**SETTINGS, "Layers": ["layer.common"]}, layers=(LAYER,))

    plan = plan_deploy(asked, Seen(function=present, alias=alias("1"), serving=bits(NEW, present)))

    assert told(plan) == [
        "publish 1.2 MB as the next version of layer common (version 3 holds something else)",
        "change the configuration of $LATEST: Layers common:3 → common (new)",
        "publish a version of it, described “101”",
        "run the integration tests against the new version",
        "move alias STAGE from version 1 to the new version (build 101)",
    ]
    assert from_json(to_json(plan), Plan) == plan


def test_a_layer_that_is_there_is_nothing_to_do() -> None:
    present = function(NEW, Layers=[f"{COMMON}:3"])
    asked = wanted(settings={**SETTINGS, "Layers": [f"{COMMON}:3"]})

    plan = plan_deploy(asked, Seen(function=present, alias=alias("1"), serving=bits(NEW, present)))

    assert plan.steps == ()


def test_a_layer_of_another_account_is_told_from_ours_of_that_name() -> None:
    theirs = f"{COMMON.replace('123456789012', '999999999999')}:3"
    present = function(NEW, Layers=[f"{COMMON}:3", f"{COMMON.replace('common', 'tools')}:1"])
    asked = wanted(settings={**SETTINGS, "Layers": [theirs, f"{COMMON.replace('common', 'tools')}:2"]})

    plan = plan_deploy(asked, Seen(function=present, alias=alias("1"), serving=bits(NEW, present)))

    assert told(plan)[0] == (f"change the configuration of $LATEST: Layers {COMMON}:3, tools:1 → {theirs}, tools:2")


def test_a_new_functions_layers_come_first() -> None:
    plan = plan_deploy(wanted(settings={**SETTINGS, "Layers": ["layer.common"]}, layers=(LAYER,)), Seen(function=None))

    assert told(plan)[:2] == [
        "publish 1.2 MB as the next version of layer common (version 3 holds something else)",
        "create the function (there is none yet)",
    ]


def test_an_image_is_put_by_its_digest_and_never_into_a_function_of_a_zip() -> None:
    old, new = CodeSha256("a" * 64), CodeSha256("b" * 64)

    plan = plan_deploy(wanted(new), Seen(function=function(old), alias=alias("1")))
    assert told(plan)[0] == "put image sha256:bbbbbbbb… into $LATEST ($LATEST holds aaaaaaaa…)"

    with pytest.raises(UsageError, match="has a zip, and an image is to be deployed"):
        plan_deploy(wanted(new), Seen(function=function(OLD), alias=alias("1")))
    with pytest.raises(UsageError, match="has an image, and a zip is to be deployed"):
        plan_deploy(wanted(NEW), Seen(function=function(old), alias=alias("1")))
