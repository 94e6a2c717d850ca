"""What a backup keeps though the function is another by now, and restores that were cut short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pointsman.errors import Ambiguous, Unreachable
from tests.journeys.conftest import Shop, control_runtime
from tests.journeys.test_backup import PLACE, documents, exists, zipped

FROM = ("--from", PLACE)


@pytest.fixture
def served(shop: Shop) -> Shop:
    """Two builds, one in PROD with a URL and a permission, saved."""
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.ok("promote", "101", "--to", "PROD", "--approve")
    aws = shop.aws("lambda")
    aws.create_function_url_config(FunctionName=shop.name, Qualifier="PROD", AuthType="AWS_IAM")
    permission = {"Action": "lambda:InvokeFunction", "Principal": "apigateway.amazonaws.com"}
    aws.add_permission(FunctionName=shop.name, StatementId="api", Qualifier="PROD", **permission)
    shop.ok("backup", "--to", PLACE)
    return shop


def lose(shop: Shop) -> None:
    shop.aws("lambda").delete_function(FunctionName=shop.name)


def has(shop: Shop, alias: str) -> tuple[str, int, int]:
    """What it serves, its URLs, the statements of its policy."""
    aws = shop.aws("lambda")
    serves = shop.invoke(alias)["word"]
    urls = aws.list_function_url_configs(FunctionName=shop.name)["FunctionUrlConfigs"]
    policy = json.loads(aws.get_policy(FunctionName=shop.name, Qualifier=alias)["Policy"])
    return serves, len(urls), len(policy["Statement"])


@pytest.mark.parametrize("after_publish", [True, False], ids=["after-publish", "by-hand"])
def test_what_a_lost_function_had_is_kept_when_it_is_deployed_anew(served: Shop, *, after_publish: bool) -> None:
    shop = served
    before = has(shop, "PROD")
    shop.configure(more=f'[backup]\nto = "kept"\nafter_publish = {str(after_publish).lower()}\n')
    shop.ok("backup")
    listed = shop.ok("backup", "list", "--json").result
    place, stamp = listed["place"], listed["functions"][0]["state"]
    lose(shop)
    told = shop.ok("deploy", "--build-id", "104").err
    if not after_publish:
        told = shop.ok("backup").err

    (document,) = documents(shop, place)
    assert [each["name"] for each in document["earlier"][0]["aliases"]] == ["PROD", "STAGE"]
    assert "alias PROD" in told
    assert f"`pointsman restore {shop.name} --as-of {stamp}`" in told
    lose(shop)
    shown = shop.ok("restore", "greeting", "--as-of", stamp, "--yes").out
    assert "is restored" in shown
    assert has(shop, "PROD") == before
    shop.ok("backup", "verify")


def as_of(shop: Shop) -> str:
    listed = shop.ok("backup", "list", *FROM, "--json").result["functions"]
    return str(listed[0]["state"])


def test_without_a_state_that_is_taken_which_had_aliases_last(served: Shop) -> None:
    shop = served
    stamp = as_of(shop)
    lose(shop)
    role = shop.role
    code = next((shop.folder / PLACE / "packages").iterdir()).read_bytes()
    shop.aws("lambda").create_function(
        FunctionName=shop.name, Runtime=control_runtime(), Role=role, Handler="index.handler", Code={"ZipFile": code}
    )
    shop.ok("backup", "--to", PLACE)
    lose(shop)

    shown = shop.ok("restore", "greeting", *FROM).out

    assert f"this is how it was at {stamp} (UTC), the last that had aliases" in shown
    assert "point alias PROD" in shown
    wrong = shop.run("restore", "greeting", *FROM, "--as-of", "20200101T000000")
    assert (wrong.code, stamp in wrong.err) == (2, True)


def test_a_document_that_was_set_aside_is_restored_by_its_name(served: Shop) -> None:
    shop = served
    (path,) = (shop.folder / PLACE).rglob("functions/**/*.json")
    stamp = as_of(shop)
    document = json.loads(path.read_text())
    other = "A" * 43 + "="
    document["versions"][0]["sha256"] = other
    path.write_text(json.dumps(document))

    said = shop.ok("backup", "--to", PLACE)

    assert f"kept as functions/123456789012/eu-west-1/{shop.name}.{stamp}.json" in said.err
    aside = f"{shop.name}.{stamp}"
    assert aside in shop.ok("backup", "list", *FROM).out
    document["versions"][0]["sha256"] = documents(shop)[1]["versions"][0]["sha256"]
    path.with_name(f"{aside}.json").write_text(json.dumps(document))
    lose(shop)
    shop.ok("restore", aside, *FROM, "--yes")
    assert has(shop, "PROD")[0] == "hello"


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("cut", "meanwhile"),
    [
        ("PublishVersion", "nothing"),
        ("PublishVersion", "backup"),
        ("PublishVersion", "pruned"),
        ("CreateAlias", "backup"),
    ],
)
def test_an_interrupted_restore_goes_on_whatever_was_saved_meanwhile(served: Shop, cut: str, meanwhile: str) -> None:
    shop = served
    before = has(shop, "PROD")
    lose(shop)
    words = ("restore", "greeting", *FROM, "--yes")
    cut_after(shop, words, cut)
    assert len(shop.versions()) == (1 if cut == "PublishVersion" else 2)
    told = f"a restore of {shop.name} that"
    assert told in shop.ok("status").out
    assert told in shop.ok("status", "--all").out
    if meanwhile == "backup":
        shop.ok("backup", "--all", "--to", PLACE)
    elif meanwhile == "pruned":
        shop.ok("backup", "--to", PLACE)
        shop.aws("lambda").delete_function(FunctionName=shop.name, Qualifier=shop.versions()[0])

    shop.ok(*(("resume",) if meanwhile == "nothing" else words))

    assert has(shop, "PROD") == before
    assert len(shop.versions()) == 2
    assert "Nothing to resume" in shop.ok("resume").out
    after = shop.ok("status").out
    assert told not in after
    assert "moved outside Pointsman" not in after


def cut_after(shop: Shop, words: tuple[str, ...], action: str) -> None:
    """The command, its network gone for good after the first call of this kind."""
    sent: list[str] = []

    class Cut:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            if action in sent:
                raise Unreachable("the network is gone")
            found = self.inner.send(operation)
            sent.append(operation.action)
            return found

    assert shop.run(*words, wrap=Cut).code != 0
    assert exists(shop)


def test_an_alias_whose_making_was_not_answered_is_in_the_ledger(served: Shop) -> None:
    shop = served
    lose(shop)
    lost: list[str] = []

    class Lost:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            found = self.inner.send(operation)
            if operation.action == "CreateAlias" and not lost:
                lost.append(operation.action)
                raise Ambiguous("no answer")
            return found

    shop.ok("restore", "greeting", *FROM, "--yes", wrap=Lost)

    assert lost
    assert "moved outside Pointsman" not in shop.ok("status").out


def test_another_restore_than_the_interrupted_one_is_told_both_commands(served: Shop) -> None:
    shop = served
    lose(shop)
    cut_after(shop, ("restore", "greeting", *FROM, "--yes"), "PublishVersion")

    answer = shop.run("restore", "greeting", "101", *FROM)

    again = f"pointsman restore {shop.name} --env staging --from {PLACE}"
    assert answer.code == 2
    assert f"`{again} --yes` goes on with it; `{again} --forget` forgets it." in answer.err
    assert "is forgotten" in shop.ok("restore", shop.name, "--env", "staging", *FROM, "--forget").out
    assert "Nothing to resume" in shop.ok("resume").out


# Places


def test_every_place_is_saved_once_and_named(shop: Shop) -> None:
    shop.configure(more='[environment.dr]\nalias = "DR"\nregion = "eu-central-1"\n')
    shop.ok("deploy", "--build-id", "101")
    assert shop.ok("backup", "--to", PLACE).out.startswith("FUNCTION  ".rstrip())  # not deployed to the other one
    shop.ok("deploy", "--build-id", "101", "--to", "DR")

    done = shop.ok("backup", "--to", PLACE)

    rows = [line.split()[:3] for line in done.out.splitlines() if line.startswith(shop.name)]
    assert rows == [[shop.name, "123456789012", region] for region in ("eu-west-1", "eu-central-1")]
    one = shop.ok("backup", "--env", "staging", "--to", "other", "--json").result["functions"]
    assert [each["arn"]["region"] for each in one] == ["eu-west-1"]


def test_an_environment_is_no_place(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")

    for name in ("staging", "STAGE"):
        answer = shop.run("backup", "--to", name)
        assert answer.code == 2
        assert f"`--env {name}`" in answer.err
        assert not (shop.folder / name).exists()
    assert "Give --to PLACE" in shop.run("backup").err
    assert "Give --from PLACE" in shop.run("restore", "greeting").err
    assert "Give --from PLACE" in shop.run("backup", "list").err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--role", "foo"), "'foo' is no ARN of a role"),
        (("--role", "arn:aws:iam::999999999999:role/foo"), "is a role of account 999999999999"),
        (("--region", "mars-1"), "AWS has no region 'mars-1'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_plan(served: Shop, words: tuple[str, ...], told: str) -> None:
    lose(served)

    answer = served.run("restore", "greeting", *FROM, *words, "--yes")

    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert not exists(served)


def test_one_damaged_document_hides_no_other(served: Shop) -> None:
    shop = served
    (path,) = (shop.folder / PLACE).rglob("functions/**/*.json")
    broken = path.with_name("zoo.json")
    broken.write_text(path.read_text()[:-40])

    listed = shop.run("backup", "list", *FROM)

    assert listed.code == 1
    assert shop.name in listed.out
    assert "functions/123456789012/eu-west-1/zoo.json" in listed.err
    path.write_text(path.read_text()[:-40])
    failed = shop.run("backup", "--to", PLACE)
    assert failed.code == 1
    assert f"functions/123456789012/eu-west-1/{path.name}: it is damaged" in failed.err
    assert "Move it away" in failed.err


def test_status_points_to_the_backup_of_a_function_that_is_gone(shop: Shop) -> None:
    shop.configure(more='[backup]\nto = "kept"\n')
    shop.ok("deploy", "--build-id", "101")
    shop.ok("backup")
    lose(shop)

    answer = shop.run("status")

    assert answer.code == 1
    assert "`pointsman deploy --to staging` creates it" in answer.err
    assert f"`pointsman restore {shop.name}` brings back" in answer.err


# Layers


def test_layer_versions_are_kept_before_prune_deletes_them(shop: Shop) -> None:
    aws = shop.aws("lambda")
    for number in (1, 2, 3):
        content = zipped({"python/shared.py": f"WORD = {number}\n"})
        aws.publish_layer_version(LayerName=shop.name, Content={"ZipFile": content})
    shop.configure(more='[backup]\nto = "kept"\n\n[retention]\nlayers = true\nkeep_versions = 1\nkeep_days = 0\n')
    shop.ok("deploy", "--build-id", "101")

    shop.ok("prune", "--yes", "--only", shop.name)

    place = Path(shop.ok("backup", "list", "--json").result["place"])
    left = aws.list_layer_versions(LayerName=shop.name)["LayerVersions"]
    kept = sorted(place.glob(f"layers/123456789012/eu-west-1/{shop.name}/*.json"))
    assert len(kept) == 3 - len(left) > 0
    assert all(json.loads(each.read_text())["layer"]["sha256"] for each in kept)
    assert f"{len(kept)} documents" in shop.ok("backup", "verify").out
    next((place / "packages").iterdir()).unlink()
    assert ":layer:" in shop.run("backup", "verify").out
