"""What a restore does, from what is saved and what is seen: nothing twice, nothing over somebody else's work."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import BackupFailed, LostRace, UsageError
from pointsman.model import (
    LATEST,
    AliasName,
    Canary,
    CodeSha256,
    Configuration,
    FunctionArn,
    FunctionName,
    Permission,
    Routing,
    Version,
    Weight,
    fingerprint,
    from_json,
    to_json,
)
from pointsman.reinstating import (
    Asked,
    BringLatest,
    Carried,
    CopyLayer,
    CreateFunction,
    Document,
    Grant,
    MakeAlias,
    PublishVersion,
    Restoring,
    SavedAlias,
    SavedLayer,
    SavedPolicy,
    SavedVersion,
    Seen,
    another,
    changes,
    choose,
    chosen,
    describe,
    joined,
    like,
    parameters,
    plan,
    routed,
    saved,
)

HERE = FunctionArn(account="123456789012", region="eu-west-1", name=FunctionName("greeting"))
THERE = FunctionArn(account="999999999999", region="eu-west-2", name=FunctionName("greeting"))
LAYER = "arn:aws:lambda:eu-west-1:123456789012:layer:common:3"
ROLE = "arn:aws:iam::123456789012:role/lambda"


def sha(letter: str) -> CodeSha256:
    return CodeSha256(letter * 43 + "=")


def a_version(number: str, code: str, description: str = "", **settings: Any) -> SavedVersion:
    given = {"Role": ROLE, "Handler": "index.handler", **settings}
    return SavedVersion(version=Version(number), sha256=sha(code), settings=given, description=description, size=10)


def live(version: SavedVersion, number: str | None = None, arn: FunctionArn = HERE) -> Configuration:
    return Configuration(
        arn=arn,
        version=Version(number or version.version),
        sha256=version.sha256,
        revision="r",
        settings=version.settings,
        fingerprint=fingerprint(version.settings),
        description=version.description,
        modified=version.modified,
    )


ONE, TWO, THREE = a_version("1", "A", "101"), a_version("2", "B", "102"), a_version("3", "A", "103")
NOW = a_version(LATEST, "C")


def a_document(**more: Any) -> Document:
    given: dict[str, Any] = {
        "arn": HERE,
        "at": 1.0,
        "by": "me",
        "latest": NOW,
        "versions": (ONE, TWO, THREE),
        "aliases": (
            SavedAlias(
                name=AliasName("PROD"),
                routing=Routing(version=Version("2"), canary=Canary(version=Version("3"), weight=Weight(0.1))),
            ),
        ),
    }
    return Document(**{**given, **more})


def kinds(made: Any) -> list[str]:
    return [type(each).__name__ for each in made.steps]


def test_a_document_comes_back_as_it_was() -> None:
    document = a_document(policies={"PROD": SavedPolicy(permissions=(Permission(id="a", parameters={}),), text="{}")})

    assert from_json(to_json(document), Document) == document


def test_a_deleted_function_gets_the_versions_its_aliases_serve_and_its_own_latest() -> None:
    made = plan(a_document(), HERE, Asked(), Seen())

    assert kinds(made) == [
        *("CreateFunction", "PublishVersion", "BringLatest", "PublishVersion", "BringLatest", "MakeAlias"),
        "Weigh",
    ]
    assert [step.version.version for step in made.steps if isinstance(step, PublishVersion)] == ["2", "3"]
    assert isinstance(made.steps[4], BringLatest)
    assert made.steps[4].version is NOW
    assert "1 more saved versions" in made.notes[0]
    assert set(made.digests) == {sha("B"), sha("A"), sha("C")}


def test_a_function_without_aliases_gets_its_latest() -> None:
    made = plan(a_document(aliases=()), HERE, Asked(), Seen())

    assert kinds(made) == ["CreateFunction"]
    assert made.digests == (sha("C"),)


def test_an_alias_whose_version_is_not_saved_is_left_out_aloud() -> None:
    """Its number may be another version by now."""
    permission = SavedPolicy(permissions=(Permission(id="a", parameters={"Principal": "*"}),), text="")
    made = plan(a_document(versions=(ONE, TWO), policies={"PROD": permission}), HERE, Asked(), Seen())

    assert "MakeAlias" not in kinds(made)
    assert "Grant" not in kinds(made)
    assert "alias PROD is left out: version 3, which it serves, is not saved" in made.notes


def test_every_version_on_request() -> None:
    made = plan(a_document(), HERE, Asked(every=True), Seen())

    assert [step.version.version for step in made.steps if isinstance(step, PublishVersion)] == ["1", "2", "3"]


def test_a_function_that_is_there_is_not_overwritten() -> None:
    with pytest.raises(UsageError, match="nothing of it is overwritten"):
        plan(a_document(), HERE, Asked(), Seen(function=live(NOW)))


def test_an_interrupted_restore_goes_on_where_it_was() -> None:
    begun = Restoring(source=HERE, target=HERE, version=None, was=None, newest=None, at=1, by="me")
    seen = Seen(function=live(TWO, LATEST), versions=(live(TWO, "4"),), begun=begun)

    made = plan(a_document(), HERE, Asked(), seen)

    assert kinds(made) == ["BringLatest", "PublishVersion", "BringLatest", "MakeAlias", "Weigh"]
    assert made.mapping == {Version("2"): Version("4")}


def test_an_interrupted_restore_is_not_gone_on_with_over_somebody_elses_function() -> None:
    begun = Restoring(source=HERE, target=HERE, version=None, was=None, newest=None, at=1, by="me")
    foreign = a_version("4", "Z")

    with pytest.raises(LostRace, match="version 4 is not of this restore"):
        plan(a_document(), HERE, Asked(), Seen(function=live(TWO, LATEST), versions=(live(foreign),), begun=begun))
    with pytest.raises(LostRace, match=r"\$LATEST holds something else"):
        plan(a_document(), HERE, Asked(), Seen(function=live(foreign, LATEST), begun=begun))


def test_a_version_comes_back_as_a_new_one_and_latest_is_put_back() -> None:
    seen = Seen(function=live(NOW), versions=(live(TWO),))

    made = plan(a_document(), HERE, Asked(version=Version("1")), seen)

    assert kinds(made) == ["BringLatest", "PublishVersion", "BringLatest"]
    last = made.steps[-1]
    assert isinstance(last, BringLatest)
    assert last.back
    assert last.version == saved(live(NOW))


def test_a_version_of_a_function_that_is_gone_makes_one_with_it_alone() -> None:
    made = plan(a_document(), HERE, Asked(version=Version("2")), Seen())

    assert kinds(made) == ["CreateFunction", "PublishVersion"]
    assert made.notes == ("greeting is not there: it is made with this version alone, without aliases",)


def test_a_version_that_is_there_needs_nothing() -> None:
    made = plan(a_document(), HERE, Asked(version=Version("1")), Seen(function=live(NOW), versions=(live(ONE),)))

    assert not made.steps
    assert made.why_nothing == "version 1 of greeting has exactly this code and configuration"


@pytest.mark.parametrize(
    ("latest", "published", "left"),
    [
        (NOW, False, ["BringLatest", "PublishVersion", "BringLatest"]),
        (ONE, False, ["PublishVersion", "BringLatest"]),
        (ONE, True, ["BringLatest"]),
        (NOW, True, []),
    ],
)
def test_from_whatever_point_of_it_only_what_is_left(latest: SavedVersion, published: bool, left: list[str]) -> None:
    begun = Restoring(source=HERE, target=HERE, version=Version("1"), was=NOW, newest=Version("3"), at=1, by="me")
    versions = (live(THREE), *([live(ONE, "4")] if published else []))
    seen = Seen(function=live(latest, LATEST), versions=versions, begun=begun)

    made = plan(a_document(), HERE, Asked(version=Version("1")), seen)

    assert kinds(made) == left
    assert made.mapping == ({Version("1"): Version("4")} if published else {})


def test_latest_that_somebody_changed_meanwhile_is_theirs() -> None:
    begun = Restoring(source=HERE, target=HERE, version=Version("1"), was=NOW, newest=None, at=1, by="me")

    with pytest.raises(LostRace):
        plan(
            a_document(),
            HERE,
            Asked(version=Version("1")),
            Seen(function=live(a_version(LATEST, "Z")), begun=begun),
        )


def test_another_account_needs_a_role_and_gets_nothing_that_names_the_old_one() -> None:
    there = {"VpcConfig": {"SubnetIds": ["subnet-1"]}, "LoggingConfig": {"LogGroup": "/aws/lambda/greeting"}}
    own = Permission(id="api", parameters={"Principal": "apigateway.amazonaws.com", "SourceAccount": HERE.account})
    any_ = Permission(id="all", parameters={"Principal": "*", "Action": "lambda:InvokeFunction"})
    document = a_document(
        versions=(a_version("1", "A", **there),),
        aliases=(SavedAlias(name=AliasName("PROD"), routing=Routing(version=Version("1"))),),
        policies={"PROD": SavedPolicy(permissions=(own, any_), text="")},
    )

    with pytest.raises(UsageError, match="the saved role"):
        plan(document, THERE, Asked(), Seen())
    made = plan(document, THERE, Asked(role="arn:aws:iam::999999999999:role/x"), Seen())

    assert made.carried.settings(document.versions[0]) == {
        "Role": "arn:aws:iam::999999999999:role/x",
        "Handler": "index.handler",
        "LoggingConfig": {"LogGroup": "/aws/lambda/greeting"},
    }
    assert [step.permission.id for step in made.steps if isinstance(step, Grant)] == ["all"]
    assert any("VpcConfig" in note for note in made.notes)
    assert any("permission api on PROD is left out" in note for note in made.notes)


def test_a_default_log_group_follows_the_name() -> None:
    version = a_version("1", "A", LoggingConfig={"LogFormat": "Text", "LogGroup": "/aws/lambda/greeting"})
    copy = msgspec.structs.replace(HERE, name=FunctionName("copy"))

    assert Carried(source=HERE, target=copy).settings(version)["LoggingConfig"]["LogGroup"] == "/aws/lambda/copy"


def test_a_layer_that_is_not_here_is_published_from_the_backup_or_the_restore_is_refused() -> None:
    with_layer = a_version("1", "A", Layers=[LAYER])
    aliases = (SavedAlias(name=AliasName("PROD"), routing=Routing(version=Version("1"))),)
    content = SavedLayer(arn=LAYER, sha256=sha("L"), size=5)
    document = a_document(versions=(with_layer,), aliases=aliases, layers=(content,))

    assert isinstance(plan(document, HERE, Asked(), Seen()).steps[0], CopyLayer)
    assert isinstance(plan(document, HERE, Asked(), Seen(layers={LAYER: LAYER})).steps[0], CreateFunction)
    without = msgspec.structs.replace(document, layers=(SavedLayer(arn=LAYER, problem="it is deleted"),))
    with pytest.raises(BackupFailed, match="its content is not in the backup: it is deleted"):
        plan(without, HERE, Asked(), Seen())


def test_hidden_variables_are_never_lost_silently() -> None:
    hidden = msgspec.structs.replace(TWO, hidden="KMS said no")
    document = a_document(versions=(ONE, hidden, THREE))

    with pytest.raises(UsageError, match="KMS said no"):
        plan(document, HERE, Asked(), Seen())
    made = plan(document, HERE, Asked(without_variables=True), Seen())
    assert "environment variables that AWS did not show are missing" in made.notes


def test_an_image_cannot_take_the_place_of_a_zip() -> None:
    image = SavedVersion(version=Version("1"), sha256=CodeSha256("a" * 64), settings={"Role": ROLE}, image="r@sha256:a")

    with pytest.raises(UsageError, match="a function cannot change that"):
        plan(a_document(versions=(image,)), HERE, Asked(version=Version("1")), Seen(function=live(NOW)))


def test_the_versions_of_a_backup_outlive_those_in_lambda() -> None:
    before = a_document(versions=(ONE, TWO))
    now = a_document(versions=(THREE,), at=2.0)

    both = joined(before, now, [Version("3")])

    assert [each.version for each in both.versions] == ["1", "2", "3"]
    assert both.gone == ("1", "2")
    assert joined(both, now, [Version("3")]) == both


def test_policies_of_versions_that_were_not_asked_again_stay() -> None:
    policy = SavedPolicy(permissions=(), text="{}")
    before = a_document(versions=(ONE,), policies={"1": policy, "PROD": policy})

    after = joined(before, a_document(versions=(TWO,), policies={}), [Version("1"), Version("2")])

    assert set(after.policies) == {"1"}


def test_a_function_that_took_anothers_place_is_told_by_a_version_that_is_not_the_same() -> None:
    before = a_document(versions=(ONE,))

    assert not another(before, [live(ONE), live(TWO)])
    assert another(before, [live(TWO, "1")])
    assert another(before, [live(a_version("1", "A", Timeout=9))])
    hidden = msgspec.structs.replace(live(a_version("1", "A", KMSKeyArn="k")), hidden="no")
    assert not another(before, [hidden])  # what AWS does not show is no difference


def test_a_version_is_chosen_by_number_or_build() -> None:
    document = a_document(versions=(ONE, TWO, a_version("101", "D", "x")))

    assert chosen(document, "102") is TWO
    assert chosen(document, "101") is ONE  # as everywhere, builds come first
    assert chosen(document, "version:101").version == "101"
    assert chosen(document, "2") is TWO
    with pytest.raises(UsageError, match="no build or version 2 of greeting is saved"):
        chosen(document, "build:2")
    with pytest.raises(UsageError, match="no build or version 77 of greeting is saved"):
        chosen(document, "77")


def test_two_versions_that_became_one_are_no_canary() -> None:
    both = Routing(version=Version("1"), canary=Canary(version=Version("2"), weight=Weight(0.5)))

    assert routed(both, {Version("1"): Version("7"), Version("2"): Version("7")}) == Routing(version=Version("7"))
    assert routed(both, {Version("1"): Version("7"), Version("2"): Version("8")}).canary is not None


SETTINGS = st.fixed_dictionaries(
    {"Role": st.just(ROLE)},
    optional={
        "Environment": st.dictionaries(st.sampled_from(["AA", "BB"]), st.sampled_from(["1", "2"]), min_size=1),
        "Layers": st.lists(st.sampled_from([LAYER, LAYER[:-1] + "4"]), min_size=1, unique=True),
        "Timeout": st.integers(1, 5),
        "MemorySize": st.just(256),
        "DeadLetterConfig": st.just("arn:aws:sqs:eu-west-1:123456789012:dead"),
        "TracingConfig": st.sampled_from(["Active", "PassThrough"]),
        "EphemeralStorage": st.sampled_from([512, 1024]),
        "VpcConfig": st.just({"SubnetIds": ["a"], "SecurityGroupIds": ["b"]}),
        "KMSKeyArn": st.just("arn:aws:kms:eu-west-1:123456789012:key/1"),
    },
)


def updated(present: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """As Lambda takes an update: what is not said stays, an empty value is none."""
    inner = {
        "Environment": "Variables",
        "DeadLetterConfig": "TargetArn",
        "TracingConfig": "Mode",
        "EphemeralStorage": "Size",
    }
    after = {**present}
    for key, value in given.items():
        plain = value[inner[key]] if key in inner else value
        after[key] = {each: of for each, of in plain.items() if of} if isinstance(plain, dict) else plain
    return {key: value for key, value in after.items() if value}


@given(present=SETTINGS, wanted=SETTINGS)
def test_an_update_leaves_nothing_of_what_was_there(present: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Timeout and memory always have a value on Lambda, so a saved version always says them."""
    present, wanted = ({"Timeout": 3, "MemorySize": 128, **each} for each in (present, wanted))

    assert like(updated(present, changes(present, wanted)), wanted)
    assert changes(wanted, wanted) == {}
    assert parameters({"Environment": {"A": "b"}}) == {"Environment": {"Variables": {"A": "b"}}}


def test_every_step_is_told_in_words() -> None:
    permission = Permission(id="a", parameters={"Principal": "*", "Action": "lambda:InvokeFunction"})
    document = a_document(
        policies={"": SavedPolicy(permissions=(permission,), text="")},
        urls={"PROD": {"AuthType": "NONE"}},
        events={"PROD": {"MaximumRetryAttempts": 1}},
        reserved=5,
        provisioned={"PROD": 2},
    )

    told = [describe(each) for each in plan(document, HERE, Asked(), Seen()).steps]

    assert told[0] == "create the function with the saved version 2: code BBBBBBBB…"
    assert "point alias PROD to what was version 2" in told
    assert told[-5:] == [
        "give PROD a function URL, for everybody who knows it",
        "configure asynchronous calls of PROD: MaximumRetryAttempts",
        "reserve a concurrency of 5",
        "keep 2 environments ready for PROD",
        "let alias PROD serve what was version 2 and 10 % to version 3",
    ]
    assert any(isinstance(each, MakeAlias) for each in plan(document, HERE, Asked(), Seen()).steps)


# Former states


def test_a_state_is_kept_when_a_later_one_lacks_what_it_had() -> None:
    before = a_document(urls={"PROD": {"AuthType": "NONE"}}, reserved=3)
    there = [each.version for each in before.versions]

    same = joined(before, msgspec.structs.replace(before, at=2.0), there)
    less = joined(before, msgspec.structs.replace(before, at=2.0, urls={}), there)
    fuller = joined(less, msgspec.structs.replace(before, at=3.0), there)

    assert same.earlier == ()
    assert [(each.at, each.urls, each.reserved) for each in less.earlier] == [(1.0, before.urls, 3)]
    assert fuller.earlier == less.earlier  # nothing went: no more states


def test_a_function_made_anew_leaves_its_state_though_nothing_seems_to_lack() -> None:
    before = a_document()
    now = a_document(at=2.0, versions=(a_version("4", "B"),))

    whole = joined(before, now, [Version("4")])

    assert [each.at for each in whole.earlier] == [1.0]
    assert [each.version for each in whole.versions] == ["1", "2", "3", "4"]


def test_the_newest_state_that_had_aliases_is_taken_unless_one_is_named() -> None:
    before = a_document()
    now = a_document(at=2.0, aliases=(), versions=())
    whole = joined(before, now, [])

    taken, notes = choose([whole])
    newest, _ = choose([whole], "19700101T000002")

    assert (taken.at, taken.aliases, taken.versions) == (1.0, before.aliases, before.versions)
    assert notes == (
        "this is how it was at 19700101T000001 (UTC), the last that had aliases; as of 19700101T000002 it had none",
    )
    assert (newest.at, newest.aliases) == (2.0, ())
    with pytest.raises(UsageError, match="has no state 20200101T000000"):
        choose([whole], "20200101T000000")


def test_what_an_older_state_had_beside_the_one_taken_is_told() -> None:
    fuller = a_document(urls={"PROD": {"AuthType": "NONE"}})
    whole = joined(fuller, a_document(at=2.0), [each.version for each in fuller.versions])

    taken, notes = choose([whole])

    assert taken.at == 2.0
    assert notes == ("as of 19700101T000001 it also had the URL of PROD: `--as-of 19700101T000001` brings that back",)


def test_versions_of_a_restore_that_were_pruned_meanwhile_are_published_again() -> None:
    begun = Restoring(source=HERE, target=HERE, version=None, was=None, newest=None, at=1, by="me")
    seen = Seen(function=live(THREE, LATEST), versions=(live(THREE, "5"),), begun=begun)

    made = plan(a_document(), HERE, Asked(), seen)

    assert [step.version.version for step in made.steps if isinstance(step, PublishVersion)] == ["2"]
    assert made.mapping == {Version("3"): Version("5")}
