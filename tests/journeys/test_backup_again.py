"""What a backup keeps though the function is another by now, and restores that were cut short."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.journeys.conftest import Shop
from tests.journeys.test_backup import PLACE, documents, exists

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
        FunctionName=shop.name, Runtime="python3.12", Role=role, Handler="index.handler", Code={"ZipFile": code}
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


@pytest.mark.parametrize("meanwhile", ["nothing", "backup", "pruned"])
def test_an_interrupted_restore_goes_on_whatever_was_saved_meanwhile(served: Shop, meanwhile: str) -> None:
    shop = served
    before = has(shop, "PROD")
    lose(shop)
    words = ("restore", "greeting", *FROM, "--yes")
    cut_after(shop, words, "PublishVersion")
    assert len(shop.versions()) == 1
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
    assert told not in shop.ok("status").out


def cut_after(shop: Shop, words: tuple[str, ...], action: str) -> None:
    """The command, its network gone for good after the first call of this kind."""
    sent: list[str] = []
    from pointsman.errors import Unreachable

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
