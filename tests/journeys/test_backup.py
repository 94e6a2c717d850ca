"""Backup, loss, restore: what comes back is what was there, by digest, whatever failed on the way."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from pointsman.errors import AccessDenied
from tests.fakes import Watched
from tests.journeys import test_images
from tests.journeys.conftest import Shop
from tests.journeys.test_any_call_fails import (
    Disturbed,
    DisturbedTogether,
    Fault,
    dead_after,
    dead_from,
    lost,
    refused,
)

PLACE = "kept"


@pytest.fixture
def furnished(shop: Shop) -> Shop:
    """Two builds, weights, and something of every kind that hangs on a function or an alias."""
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.ok("promote", "101", "--to", "PROD", "--approve")
    furnish(shop)
    return shop


def furnish(shop: Shop) -> None:
    aws, name = shop.aws("lambda"), shop.name
    one, two = shop.versions()
    queue = shop.aws("sqs").create_queue(QueueName=name)["QueueUrl"]
    asked = shop.aws("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    aws.put_provisioned_concurrency_config(FunctionName=name, Qualifier="PROD", ProvisionedConcurrentExecutions=1)
    aws.update_alias(FunctionName=name, Name="PROD", RoutingConfig={"AdditionalVersionWeights": {two: 0.25}})
    permission = {"Action": "lambda:InvokeFunction", "Principal": "apigateway.amazonaws.com"}
    for qualifier in ({}, {"Qualifier": "PROD"}, {"Qualifier": one}):
        aws.add_permission(FunctionName=name, StatementId="api", **permission, **qualifier)
    aws.create_function_url_config(
        FunctionName=name,
        Qualifier="PROD",
        AuthType="AWS_IAM",
        Cors={"AllowOrigins": ["https://shop.example"]},
        InvokeMode="RESPONSE_STREAM",
    )
    aws.put_function_event_invoke_config(FunctionName=name, Qualifier="PROD", MaximumRetryAttempts=1)
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=7)
    aws.tag_resource(Resource=aws.get_function_configuration(FunctionName=name)["FunctionArn"], Tags={"team": "shop"})
    aws.create_event_source_mapping(
        FunctionName=f"{name}:PROD", EventSourceArn=asked["Attributes"]["QueueArn"], Enabled=False
    )


def state(shop: Shop, *, numbers: bool = False) -> dict[str, Any]:
    """All of it with other eyes. Version numbers are replaced by their builds, unless they matter."""
    aws, name = shop.aws("lambda"), shop.name
    listed = aws.list_versions_by_function(FunctionName=name)["Versions"]
    called = {each["Version"]: each["Version"] if numbers else each["Description"] for each in listed}
    called["$LATEST"] = "$LATEST"
    kept = ("CodeSha256", "Runtime", "Handler", "MemorySize", "Environment", "Role", "Timeout", "LoggingConfig")
    found = aws.get_function(FunctionName=name)
    policies = {}
    for qualifier in ("", "PROD", "STAGE", *(each["Version"] for each in listed[1:])):
        try:
            reply = aws.get_policy(FunctionName=name, **({"Qualifier": qualifier} if qualifier else {}))
        except aws.exceptions.ResourceNotFoundException:
            continue
        statements = json.loads(reply["Policy"])["Statement"]
        policies[called.get(qualifier, qualifier)] = [
            (each["Sid"], each["Principal"], each["Action"]) for each in statements
        ]
    urls = aws.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]
    events = aws.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]
    ready = aws.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    return {
        "versions": [(called[each["Version"]], {key: each.get(key) for key in kept}) for each in listed],
        "aliases": {
            each["Name"]: (
                called[each["FunctionVersion"]],
                {
                    called[version]: weight
                    for version, weight in (each.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {}).items()
                },
                each["Description"],
            )
            for each in aws.list_aliases(FunctionName=name)["Aliases"]
        },
        "policies": policies,
        "urls": [(each["FunctionArn"], each["AuthType"], each["Cors"], each["InvokeMode"]) for each in urls],
        "events": [(each["FunctionArn"], each["MaximumRetryAttempts"]) for each in events],
        "ready": [(each["FunctionArn"], each["RequestedProvisionedConcurrentExecutions"]) for each in ready],
        "tags": found["Tags"],
        "reserved": found["Concurrency"],
    }


def test_a_deleted_function_comes_back_as_it_was_and_answers(furnished: Shop) -> None:
    shop = furnished
    before, answer = state(shop), shop.invoke("STAGE")
    report = shop.ok("backup", "--to", PLACE, "--json").result
    assert (report["fetched"], report["functions"][0]["versions"]) == (2, 2)
    shop.aws("lambda").delete_function(FunctionName=shop.name)

    shown = shop.ok("restore", "greeting", "--from", PLACE)
    assert "Nothing was changed: `--yes` does it." in shown.out
    assert "the URL of PROD will be another" in shown.out
    assert "not mapped: 1 event source; --event-sources" in shown.out
    done = shop.ok("restore", "greeting", "--from", PLACE, "--yes", "--json").result

    assert state(shop) == before
    assert {**shop.invoke("STAGE"), "version": ""} == {**answer, "version": ""}
    assert done["mapping"] == dict(zip(("1", "2"), shop.versions(), strict=True))
    assert done["urls"]["PROD"].startswith("http")
    # The ledger knows which is which, and nothing of the deleted function can be rolled back to.
    assert shop.ok("promote", "101", "--to", "PROD", "--approve", "--json").result[0]["version"] == shop.versions()[0]
    assert shop.run("rollback", "STAGE").code == 2


def test_event_sources_come_back_disabled_where_that_is_asked_for(furnished: Shop) -> None:
    shop, aws = furnished, furnished.aws("lambda")
    shop.ok("backup", "--to", PLACE)
    for each in aws.list_event_source_mappings(FunctionName=f"{shop.name}:PROD")["EventSourceMappings"]:
        aws.delete_event_source_mapping(UUID=each["UUID"])
    aws.delete_function(FunctionName=shop.name)

    shop.ok("restore", "greeting", "--from", PLACE, "--yes", "--event-sources")

    (mapped,) = aws.list_event_source_mappings(FunctionName=f"{shop.name}:PROD")["EventSourceMappings"]
    assert mapped["State"] in ("Disabled", "Disabling", "Creating")


def test_only_what_is_new_is_fetched(furnished: Shop) -> None:
    """A version is immutable: one that is known costs its share of the listing."""
    shop = furnished
    shop.ok("backup", "--to", PLACE)
    shop.greet("three")
    shop.ok("deploy", "--build-id", "103")

    second = shop.ok("backup", "--to", PLACE, "--json")
    third = shop.ok("backup", "--to", PLACE, "--json")

    assert (second.result["fetched"], second.result["functions"][0]["new"]) == (1, 1)
    assert third.result["fetched"] == 0
    actions = [call["action"] for call in third.document["calls"]["list"]]
    assert actions.count("GetPolicy") == 4  # the function, two aliases, and the version that has one
    assert sorted({*actions} - {"GetPolicy"}) == [
        *("GetFunction", "ListAliases", "ListEventSourceMappings", "ListFunctionEventInvokeConfigs"),
        *("ListFunctionUrlConfigs", "ListProvisionedConcurrencyConfigs", "ListVersionsByFunction"),
    ]
    assert len(actions) == 11


def test_a_version_that_was_deleted_comes_back_as_a_new_one(furnished: Shop) -> None:
    shop, aws = furnished, furnished.aws("lambda")
    shop.ok("backup", "--to", PLACE)
    one, two = shop.versions()
    code = aws.get_function_configuration(FunctionName=shop.name, Qualifier=one)["CodeSha256"]
    delete(shop, one)
    aws.update_function_configuration(FunctionName=shop.name, MemorySize=192, Environment={"Variables": {"KEY": "v"}})
    aws.get_waiter("function_updated_v2").wait(FunctionName=shop.name)
    shop.greet("three")  # what is on this disk plays no part in it
    kept = ("CodeSha256", "MemorySize", "Environment", "Handler", "Runtime")
    latest = {key: aws.get_function_configuration(FunctionName=shop.name).get(key) for key in kept}

    done = shop.ok("restore", "greeting", "101", "--from", PLACE, "--yes", "--json").result

    number = done["mapping"][one]
    assert shop.versions() == [two, number]
    back = aws.get_function_configuration(FunctionName=shop.name, Qualifier=number)
    assert (back["CodeSha256"], back["Description"], back["MemorySize"]) == (code, "101", 128)
    assert {key: aws.get_function_configuration(FunctionName=shop.name).get(key) for key in kept} == latest
    assert shop.invoke(number)["word"] == "hello"
    again = shop.ok("restore", "greeting", "101", "--from", PLACE, "--yes")
    assert f"nothing to do: version {number} of {shop.name} has exactly this code" in again.out
    assert shop.ok("promote", "101", "--to", "PROD", "--approve", "--json").result[0]["version"] == number


def test_into_another_account_and_region(furnished: Shop) -> None:
    """The bits are the same, and what names the old account does not come along."""
    shop = furnished
    shop.configure(more='[environment.dr]\nalias = "PROD"\naccount = "999999999999"\nregion = "eu-central-1"\n')
    shop.ok("backup", "--to", PLACE)
    refused_ = shop.run("restore", "greeting", "--from", PLACE, "--env", "dr", "--yes")
    assert "Say which role it is to have: --role ARN." in refused_.err

    role = role_elsewhere(shop)
    words = ("restore", "greeting", "--from", PLACE, "--env", "dr", "--role", role, "--name", f"{shop.name}-dr")
    done = shop.ok(*words, "--yes", "--json").result

    assert done["target"]["account"] == "999999999999"
    backed = shop.ok("backup", f"{shop.name}-dr", "--env", "dr", "--to", "other", "--json").result
    assert backed["functions"][0]["versions"] == 2
    ours, theirs = (documents(shop, place)[0] for place in (PLACE, "other"))
    assert [each["sha256"] for each in theirs["versions"]] == [each["sha256"] for each in ours["versions"]]
    assert [each["settings"]["Role"] for each in theirs["versions"]] == [role, role]
    assert {each["name"] for each in theirs["aliases"]} == {"PROD", "STAGE"}


def role_elsewhere(shop: Shop) -> str:
    """An execution role in the other account, made with credentials of that."""
    whose = shop.aws("sts").assume_role(RoleArn="arn:aws:iam::999999999999:role/admin", RoleSessionName="test")
    keys = whose["Credentials"]
    session = botocore.session.Session()
    session.set_credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    url = shop.variables["AWS_ENDPOINT_URL"]
    iam = session.create_client("iam", region_name="eu-central-1", endpoint_url=url)
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    return iam.create_role(RoleName=shop.name, AssumeRolePolicyDocument=policy)["Role"]["Arn"]  # type: ignore[no-any-return]


def delete(shop: Shop, version: str) -> None:
    """A version that PROD serves: first that has to let it go."""
    aws, name = shop.aws("lambda"), shop.name
    aws.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="PROD")
    weights: dict[str, Any] = {"AdditionalVersionWeights": {}}
    aws.update_alias(FunctionName=name, Name="PROD", FunctionVersion=shop.versions()[-1], RoutingConfig=weights)
    aws.delete_function(FunctionName=name, Qualifier=version)


def documents(shop: Shop, place: str = PLACE) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((shop.folder / place).rglob("functions/**/*.json"))]


@pytest.mark.usefixtures("account")
def test_into_s3_and_back(furnished: Shop) -> None:
    shop = furnished
    shop.aws("s3").create_bucket(Bucket=shop.name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    shop.configure(more=f'[backup]\nto = "s3://{shop.name}/lambda"\n')
    before = state(shop)
    shop.ok("backup", "--all")
    assert shop.name in shop.ok("backup", "list").out
    assert "all are what they were." in shop.ok("backup", "verify").out
    shop.aws("lambda").delete_function(FunctionName=shop.name)

    shop.ok("restore", "greeting", "--yes")

    assert state(shop) == before


def test_layers_are_kept_and_published_again_where_they_are_gone(shop: Shop) -> None:
    aws = shop.aws("lambda")
    content = zipped({"python/shared.py": "WORD = 'layered'\n"})
    layer = aws.publish_layer_version(LayerName=shop.name, Content={"ZipFile": content})
    shop.configure(
        provision=f'{{ with = "direct", name = "{shop.name}", role = "{shop.role}", '
        f'layers = ["{layer["LayerVersionArn"]}"] }}'
    )
    shop.write("index.py", "import shared\n\ndef handler(event, context):\n    return {'word': shared.WORD}\n")
    shop.ok("deploy", "--build-id", "101")
    report = shop.ok("backup", "--to", PLACE, "--json").result
    assert report["problems"] == []
    aws.delete_function(FunctionName=shop.name)
    aws.delete_layer_version(LayerName=shop.name, VersionNumber=1)

    done = shop.ok("restore", "greeting", "--from", PLACE, "--yes", "--json").result

    assert done["steps"][0].startswith(f"publish layer {shop.name} from the backup")
    assert shop.invoke("STAGE") == {"word": "layered"}
    (there,) = aws.get_function_configuration(FunctionName=shop.name)["Layers"]
    again = aws.get_layer_version_by_arn(Arn=there["Arn"])
    assert again["Content"]["CodeSha256"] == base64.b64encode(hashlib.sha256(content).digest()).decode()


def zipped(files: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()


def test_of_an_image_the_digest_is_kept_and_the_report_says_so(shop: Shop) -> None:
    digest = test_images.push(shop, "hello")
    test_images.configure(shop, f"{shop.name}:live")
    shop.ok("deploy", "--build-id", "101")
    before = test_images.code(shop, "STAGE")

    saved = shop.ok("backup", "--to", PLACE, "--json").result
    shop.aws("lambda").delete_function(FunctionName=shop.name)
    shown = shop.ok("restore", "greeting", "--from", PLACE, "--yes")

    assert "the images themselves stay in ECR" in saved["functions"][0]["notes"][0]
    assert (saved["fetched"], shop.ok("backup", "verify", "--from", PLACE, "--json").result["packages"]) == (0, 0)
    assert f"{shop.name}@sha256:{digest} is not in the backup: it must still be in ECR" in shown.out
    after = test_images.code(shop, "STAGE")
    assert (after["ImageUri"], after["CodeSha256"]) == (before["ImageUri"], digest)


# Damage


def test_verify_names_what_is_damaged_or_missing_and_backup_mends_it(furnished: Shop) -> None:
    shop = furnished
    shop.ok("backup", "--to", PLACE)
    assert "1 document, 2 packages" in shop.ok("backup", "verify", "--from", PLACE).out
    flipped, missing = sorted((shop.folder / PLACE / "packages").iterdir())
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    missing.unlink()

    found = shop.run("backup", "verify", "--from", PLACE, "--json")

    assert found.code == 1
    assert not found.document["ok"]
    absent, changed = found.result["damage"]
    assert missing.name in absent
    assert "is missing: it is the code of" in absent
    assert flipped.name in changed
    assert "is damaged: its SHA-256 is" in changed
    flipped.unlink()
    assert shop.ok("backup", "--to", PLACE, "--json").result["fetched"] == 2
    shop.ok("backup", "verify", "--from", PLACE)


def test_a_damaged_package_is_not_restored(furnished: Shop) -> None:
    shop = furnished
    shop.ok("backup", "--to", PLACE)
    for path in (shop.folder / PLACE / "packages").iterdir():
        path.write_bytes(b"somebody else's code")
    shop.aws("lambda").delete_function(FunctionName=shop.name)

    answer = shop.run("restore", "greeting", "--from", PLACE, "--yes")

    assert answer.code == 1
    assert "is damaged: its SHA-256 is" in answer.err
    assert not exists(shop)


def test_a_malicious_zip_is_not_restored(furnished: Shop) -> None:
    """Whoever may write to the store can change a package and the digest that names it: its members are looked at."""
    shop = furnished
    shop.ok("backup", "--to", PLACE)
    (path,) = (shop.folder / PLACE).rglob("functions/**/*.json")
    text = path.read_text()
    evil = zipped({"index.py": "def handler(event, context): ...", "../../../tmp/evil": "x"})
    digest = hashlib.sha256(evil)
    for version in json.loads(text)["versions"]:
        text = text.replace(version["sha256"], base64.b64encode(digest.digest()).decode())
    path.write_text(text)
    (shop.folder / PLACE / "packages" / f"{digest.hexdigest()}.zip").write_bytes(evil)
    shop.aws("lambda").delete_function(FunctionName=shop.name)

    answer = shop.run("restore", "greeting", "--from", PLACE, "--yes")

    assert answer.code == 1
    assert "its member '../../../tmp/evil' leads out of the package" in answer.err
    assert not exists(shop)


def test_a_document_that_is_damaged_is_named(furnished: Shop) -> None:
    shop = furnished
    shop.ok("backup", "--to", PLACE)
    (path,) = (shop.folder / PLACE).rglob("functions/**/*.json")
    path.write_text(path.read_text()[:-40])

    assert shop.run("backup", "verify", "--from", PLACE).code == 1
    answer = shop.run("restore", "greeting", "101", "--from", PLACE)
    assert (answer.code, answer.err.count("it is damaged")) == (1, 1)
    path.write_text('{"schema": 99}')
    assert "Use a newer Pointsman" in shop.run("restore", "greeting", "101", "--from", PLACE).err


def test_secrets_are_for_their_owner(shop: Shop) -> None:
    shop.configure(
        provision=f'{{ with = "direct", name = "{shop.name}", role = "{shop.role}", environment = {{ KEY = "hush" }} }}'
    )
    shop.ok("deploy", "--build-id", "101")
    shop.ok("backup", "--to", PLACE)
    (path,) = (shop.folder / PLACE).rglob("functions/**/*.json")
    assert "hush" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    shop.aws("lambda").delete_function(FunctionName=shop.name)

    shown = shop.ok("restore", "greeting", "--from", PLACE, "--json")

    assert "hush" not in shown.out


def exists(shop: Shop) -> bool:
    client = shop.aws("lambda")
    try:
        client.get_function(FunctionName=shop.name)
    except client.exceptions.ResourceNotFoundException:
        return False
    return True


# After every publish


def configured(shop: Shop, place: Path) -> None:
    shop.configure(
        more=f'[backup]\nto = "s3://{shop.name}/{place}"\nafter_publish = true\n',
    )


def test_each_published_version_is_kept_without_fetching_it(shop: Shop) -> None:
    shop.aws("s3").create_bucket(Bucket=shop.name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    configured(shop, Path("lambda"))

    done = shop.ok("deploy", "--build-id", "101", "--json")

    assert done.result[0]["unsaved"] == ""
    assert "all are what they were." in shop.ok("backup", "verify").out
    assert [each["versions"] for each in shop.ok("backup", "list", "--json").result["functions"]] == [1]
    again = shop.ok("deploy", "--build-id", "102", "--json")
    assert again.calls == (2, 0)  # nothing new: nothing is asked


def test_a_backup_that_fails_undoes_nothing_and_is_not_passed_over(shop: Shop) -> None:
    configured(shop, Path("lambda"))  # and nobody made the bucket

    failed = shop.run("deploy", "--build-id", "101")

    assert failed.code == 1
    assert "STAGE serves version 1, build 101." in failed.out
    assert "version 1 of" in failed.err
    assert "is not backed up" in failed.err
    assert shop.serves("STAGE") == "1"
    shop.aws("s3").create_bucket(Bucket=shop.name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert shop.ok("backup", "greeting", "--version", "1", "--json").result["fetched"] == 1


# What fails


def test_a_permission_that_is_missing_is_named_and_no_half_document_is_written(furnished: Shop) -> None:
    def denied(action: str) -> None:
        if action == "ListFunctionUrlConfigs":
            raise AccessDenied("not authorized", next="The credentials need lambda:ListFunctionUrlConfigs on it.")

    shop = furnished
    answer = shop.run("backup", "--to", PLACE, wrap=lambda inner: Watched(inner, denied))

    assert answer.code == 1
    assert "is not backed up: not authorized. The credentials need lambda:ListFunctionUrlConfigs" in answer.err
    assert documents(shop) == []
    assert shop.ok("backup", "--to", PLACE, "--json").result["fetched"] == 0  # the packages are in already


def test_whose_function_is_meant_is_asked_where_several_are_saved(shop: Shop) -> None:
    shop.configure(more='[environment.dr]\nalias = "DR"\nregion = "eu-central-1"\n')
    shop.ok("deploy", "--build-id", "101")
    shop.ok("backup", "--to", PLACE)
    (path,) = (shop.folder / PLACE).rglob("functions/**/*.json")
    other = shop.folder / PLACE / "functions" / "999999999999" / "eu-west-1" / path.name
    other.parent.mkdir(parents=True)
    other.write_text(path.read_text().replace("123456789012", "999999999999"))

    answer = shop.run("restore", "greeting", "--from", PLACE, "--env", "dr")
    said = shop.ok("restore", "greeting", "--from", PLACE, "--env", "dr", "--source", "123456789012/eu-west-1")

    assert answer.code == 1
    assert "has no backup of" in answer.err
    assert "It has one of 123456789012/eu-west-1, 999999999999/eu-west-1: say which by --source." in answer.err
    assert f"to   arn:aws:lambda:eu-central-1:123456789012:function:{shop.name}" in said.out


def test_a_function_that_there_is_not_is_told(shop: Shop) -> None:
    answer = shop.run("backup", "nobody", "--to", PLACE)

    assert answer.code == 1
    assert "nobody is not backed up" in answer.err
    assert "to = " in shop.run("backup").err  # and nobody says where to
    assert shop.run("restore", "nobody", "--from", PLACE).code == 1
    assert "there is no backup in" in shop.run("backup", "verify", "--from", PLACE).err


FAULTS = [refused, lost, dead_after]


def lose(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.aws("lambda").add_permission(
        FunctionName=shop.name, StatementId="api", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
        Qualifier="STAGE",
    )  # fmt: skip
    shop.ok("backup", "--to", PLACE)


def restored(shop: Shop, words: tuple[str, ...], wrap: Disturbed | None) -> None:
    """The command; and, where it failed, the same again with the network back."""
    answer = shop.run(*words, wrap=wrap) if wrap else shop.run(*words)
    if answer.code:
        shop.ok(*words)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("whole", [True, False], ids=["function", "version"])
def test_whichever_call_fails_the_same_command_again_ends_where_an_undisturbed_one_ends(
    shop: Shop, fault: Fault, whole: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = ("restore", "greeting", *(() if whole else ("101",)), "--from", PLACE, "--yes")

    def prepared(here: Shop) -> Shop:
        lose(here)
        number = here.versions()[0]
        here.aws("lambda").delete_function(FunctionName=here.name, **({} if whole else {"Qualifier": number}))
        return here

    counter = Disturbed({})
    restored(prepared(shop), words, counter)
    expected = end(shop)
    assert len(counter.mutating) >= 3
    for k in counter.mutating:  # a read that fails is made again
        again = shop.another(tmp_path_factory.mktemp("again") / "project", f"{shop.name}-{fault.__name__[:6]}-{k}")

        restored(prepared(again), words, Disturbed(fault(k)))

        assert end(again) == expected, f"call {k} of {counter.count}"


def end(shop: Shop) -> dict[str, Any]:
    aws = shop.aws("lambda")
    listed = aws.list_versions_by_function(FunctionName=shop.name)["Versions"]
    aliases = aws.list_aliases(FunctionName=shop.name)["Aliases"]
    return {
        "versions": [(each["Version"], each["CodeSha256"], each["Description"]) for each in listed],
        "aliases": [(each["Name"], each["FunctionVersion"]) for each in aliases],
        "policy": len(json.loads(aws.get_policy(FunctionName=shop.name, Qualifier="STAGE")["Policy"])["Statement"]),
    }


def test_a_backup_that_is_interrupted_goes_on(furnished: Shop, tmp_path: Path) -> None:
    """Whichever call is the last that gets through: what was written is whole, and the next one fetches the rest."""
    shop = furnished
    counter = DisturbedTogether({})
    shop.ok("backup", "--to", str(tmp_path / "undisturbed"), wrap=counter)
    for k in range(counter.count):
        place = str(tmp_path / f"cut-{k}")
        assert shop.run("backup", "--to", place, wrap=DisturbedTogether(dead_from(k))).code == 1
        if any(Path(place).rglob("*.zip")):
            assert shop.run("backup", "verify", "--from", place).code == 0, f"call {k}"

        shop.ok("backup", "--to", place)

        assert "2 packages" in shop.ok("backup", "verify", "--from", place).out


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
def test_whichever_write_to_s3_fails_the_backup_is_whole_in_the_end(shop: Shop, fault: Fault) -> None:
    shop.aws("s3").create_bucket(Bucket=shop.name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    shop.ok("deploy", "--build-id", "101")
    counter = Disturbed({})
    shop.ok("backup", "--to", f"s3://{shop.name}/undisturbed", wrap=counter)
    assert len(counter.mutating) == 2  # the package, and the document
    for k in counter.mutating:
        place = f"s3://{shop.name}/{k}"
        if shop.run("backup", "--to", place, wrap=Disturbed(fault(k))).code:
            shop.ok("backup", "--to", place)

        assert "1 document, 1 package " in shop.ok("backup", "verify", "--from", place).out


def test_latest_that_is_changed_under_a_restore_is_theirs(furnished: Shop) -> None:
    """Somebody deploys while $LATEST is lent: nothing is overwritten, and the exit code says so."""
    shop, aws = furnished, furnished.aws("lambda")
    shop.ok("backup", "--to", PLACE)
    one, _two = shop.versions()
    delete(shop, one)
    theirs = zipped({"index.py": "def handler(event, context):\n    return {'word': 'theirs'}\n"})

    def meddle(action: str) -> None:
        if action == "PublishVersion":
            aws.update_function_code(FunctionName=shop.name, ZipFile=theirs)
            aws.get_waiter("function_updated_v2").wait(FunctionName=shop.name)

    answer = shop.run("restore", "greeting", "101", "--from", PLACE, "--yes", wrap=lambda inner: Watched(inner, meddle))

    assert answer.code == 4
    digest = base64.b64encode(hashlib.sha256(theirs).digest()).decode()
    assert aws.get_function_configuration(FunctionName=shop.name)["CodeSha256"] == digest
    assert shop.run("restore", "greeting", "101", "--from", PLACE, "--yes").code == 4
    assert "is forgotten" in shop.ok("restore", "greeting", "101", "--from", PLACE, "--forget").out
    shop.ok("restore", "greeting", "101", "--from", PLACE, "--yes")
    assert aws.get_function_configuration(FunctionName=shop.name)["CodeSha256"] == digest
