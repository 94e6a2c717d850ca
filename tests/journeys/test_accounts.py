"""The same bits in another account: what is built in staging's is promoted to production's, with its own settings."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import Any

import botocore.session
import pytest

from pointsman.aws.operation import Operation, R, Transport
from pointsman.errors import AccessDenied, Ambiguous, PointsmanError, Unreachable
from pointsman.localaws import control
from tests.journeys.conftest import CHECK, Shop, control_runtime
from tests.journeys.test_release_set import On

PROD = "222222222222"
SESSION: Any = botocore.session.Session()  # one for all clients: each reads anew what there is to know of a service


def configure(shop: Shop, *, test: str = "", more: str = "", production: str = "", staging: str = "") -> None:
    shop.write(
        "pointsman.toml",
        f"""\
[function.greeting]
handler   = "index.handler"
runtime   = "{control_runtime()}"
build     = "python"
exclude   = ["check.py"]
provision = {{ with = "direct", name = "{shop.name}", role = "arn:aws:iam::{{account}}:role/journeys", memory = 128 }}
{test}
[environment.staging]
alias   = "STAGE"
account = "123456789012"
{staging}
[environment.production]
alias   = "PROD"
account = "{PROD}"
{production}
{more}
""",
    )


@dataclass
class Other:
    """Production's account, looked at with its own credentials."""

    client: Any
    name: str

    def alias(self) -> str | None:
        try:
            return str(self.client.get_alias(FunctionName=self.name, Name="PROD")["FunctionVersion"])
        except self.client.exceptions.ResourceNotFoundException:
            return None

    def settings(self, qualifier: str = "PROD") -> dict[str, Any]:
        return dict(self.client.get_function_configuration(FunctionName=self.name, Qualifier=qualifier))

    def says(self) -> str:
        reply = self.client.invoke(FunctionName=self.name, Qualifier="PROD", Payload=b"{}")
        return str(json.loads(reply["Payload"].read())["word"])


def client_of(running: control.Running, service: str, account: str = PROD, region: str = "eu-west-1") -> Any:
    return client_at(running.url, service, account, region)


def client_at(url: str, service: str, account: str, region: str) -> Any:
    keys = {"aws_access_key_id": account, "aws_secret_access_key": "secret"}
    return SESSION.create_client(service, region_name=region, endpoint_url=url, **keys)


@pytest.fixture
def other(shop: Shop, local_aws: control.Running) -> Other:
    configure(shop)
    iam = client_of(local_aws, "iam")
    try:
        iam.get_role(RoleName="journeys")
    except iam.exceptions.NoSuchEntityException:
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        }
        iam.create_role(RoleName="journeys", AssumeRolePolicyDocument=json.dumps(trust))
    return Other(client_of(local_aws, "lambda"), shop.name)


def digest(shop: Shop, qualifier: str = "STAGE") -> str:
    found = shop.aws("lambda").get_function_configuration(FunctionName=shop.name, Qualifier=qualifier)
    return str(found["CodeSha256"])


def test_a_build_of_staging_becomes_a_version_of_production_with_the_same_digest(shop: Shop, other: Other) -> None:
    configure(shop, more='[environment.production.function.greeting]\nmemory = 256\nenvironment = { STAGE = "prod" }')
    shop.ok("deploy", "--build-id", "101")
    assert other.alias() is None

    planned = shop.ok("plan", "promote", "101", "--to", "production").out
    assert "create the function" in planned
    done = shop.ok("promote", "101", "--to", "production", "--json")
    assert [(each["version"], each["build"], each["moved"]) for each in done.result] == [("1", "101", True)]
    there = other.settings()
    assert there["CodeSha256"] == digest(shop)
    assert (there["MemorySize"], there["Environment"]["Variables"]) == (256, {"STAGE": "prod"})
    assert there["Role"] == f"arn:aws:iam::{PROD}:role/journeys"
    assert other.says() == "hello"

    again = shop.ok("promote", "101", "--to", "production", "--json")
    assert again.calls == (2, 0)
    assert again.result[0]["outcome"] == "unchanged"
    by_alias = shop.ok("promote", "STAGE", "--to", "PROD", "--json")
    assert by_alias.result[0]["outcome"] == "unchanged"

    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.ok("promote", "STAGE", "--to", "PROD")
    assert other.says() == "two"
    shop.ok("rollback", "PROD")
    assert other.says() == "hello"
    shop.ok("promote", "102", "--to", "PROD")  # which is version 2 already: nothing goes up again
    assert other.alias() == "2"


def test_the_bits_are_fetched_from_where_they_are(shop: Shop, other: Other) -> None:
    """Another machine has neither the package nor the ledger; the version's description tells the build."""
    shop.ok("deploy", "--build-id", "101")
    shutil.rmtree(shop.folder / ".pointsman")
    shop.greet("not this")

    done = shop.ok("promote", "101", "--to", "production", "--json")
    assert done.result[0]["build"] == "101"
    assert other.settings()["CodeSha256"] == digest(shop)
    assert other.says() == "hello"


def test_from_bucket_to_bucket_s3_copies(shop: Shop, other: Other, local_aws: control.Running) -> None:
    bucket = f"{shop.name}-{{account}}-{{region}}"
    configure(shop, staging=f'bucket = "{bucket}"', production=f'bucket = "{bucket}"')
    for account in ("123456789012", PROD):
        client_of(local_aws, "s3", account).create_bucket(
            Bucket=f"{shop.name}-{account}-eu-west-1", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
    shop.ok("deploy", "--build-id", "101")
    shutil.rmtree(shop.folder / ".pointsman" / "artifacts")

    done = shop.ok("promote", "101", "--to", "production", "--json")
    actions = [call["action"] for call in done.document["calls"]["list"]]
    assert "CopyObject" in actions
    assert "PutObject" not in actions
    assert other.settings()["CodeSha256"] == digest(shop)


def test_other_bytes_than_the_builds_go_nowhere(shop: Shop, other: Other) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("another build")
    shop.ok("deploy", "--build-id", "102")
    shutil.rmtree(shop.folder / ".pointsman" / "artifacts")

    class Mixed:
        """Asked for version 1, it gives the code of version 2."""

        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Operation[R]) -> R:
            if operation.action == "GetFunction" and operation.parameters.get("Qualifier") == "1":
                operation = operation._replace(parameters={**operation.parameters, "Qualifier": "2"})
            return self.inner.send(operation)

    refused = shop.run("promote", "101", "--to", "production", wrap=Mixed)
    assert refused.code == 1
    assert "bringing build 101 to production: version 1 of" in refused.err
    assert "was fetched as" in refused.err
    assert other.alias() is None

    shop.aws("lambda").delete_function(FunctionName=shop.name)
    gone = shop.run("promote", "101", "--to", "production")
    assert "is gone" in gone.err
    assert other.alias() is None


def test_a_build_that_failed_its_tests_in_staging_is_not_carried_and_one_that_passed_counts_as_proved(
    shop: Shop, other: Other
) -> None:
    import sys

    shop.write("check.py", CHECK)
    configure(
        shop,
        test=f'[function.greeting.test]\nintegration = {{ run = "{sys.executable} check.py", junit = "report.xml" }}',
    )
    shop.greet("bad")
    assert shop.run("deploy", "--build-id", "100").code == 3
    refused = shop.run("promote", "100", "--to", "production")
    assert refused.code == 3
    assert "did not pass its integration tests" in refused.err
    assert other.alias() is None

    shop.greet("good")
    shop.ok("deploy", "--build-id", "101")
    shop.ok("promote", "101", "--to", "production")
    assert other.says() == "good"
    shop.ok("promote", "version:1", "--to", "production")  # proved where it was built, and so not due here


def test_an_owner_that_has_not_made_the_function_there_is_asked_first(shop: Shop, other: Other) -> None:
    shop.ok("deploy", "--build-id", "101")
    text = (shop.folder / "pointsman.toml").read_text()
    shop.write(
        "pointsman.toml", text.replace("provision =", f'provision = {{ with = "existing", name = "{shop.name}" }} #')
    )

    refused = shop.run("promote", "101", "--to", "production")
    assert refused.code == 1
    assert f"there is no function {shop.name} in eu-west-1, and somebody else makes it" in refused.err
    assert other.alias() is None


def test_nothing_is_written_with_the_credentials_of_another_account(shop: Shop, other: Other) -> None:
    """A role that leads elsewhere: found by one GetCallerIdentity, before the first write."""
    shop.ok("deploy", "--build-id", "101")

    class Wrong:
        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Operation[R]) -> R:
            if operation.action == "GetCallerIdentity":
                return operation.read({"Account": "333333333333", "Arn": "arn:aws:iam::333333333333:root"})
            return self.inner.send(operation)

    refused = shop.run("promote", "101", "--to", "production", "--json", wrap=Wrong)
    assert refused.code == 1
    assert refused.document["error"]["code"] == "account_mismatch"
    assert refused.calls[1] == 0
    assert other.alias() is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_each_call_failing_in_turn_a_carried_promote_is_finished_by_the_next(
    shop: Shop, other: Other, after: bool
) -> None:
    """Two regions of production: each call of the promote is the last one of a process, once."""
    configure(shop, production='regions = ["eu-west-1", "us-east-1"]')
    shop.ok("deploy", "--build-id", "101", "--to", "staging")
    n = 0
    while True:
        died = Dies(n, Ambiguous("no answer") if after else Unreachable("the line is dead"), after=after)
        if shop.run("promote", "101", "--to", "production", wrap=died).code == 0 and not died.struck:
            break
        n += 2 if after else 3
        assert n < 60
        shop.run("resume")
        regions = [alias_in(shop, region) for region in ("eu-west-1", "us-east-1")]
        assert regions[0] == regions[1], (n, regions)
    assert regions == ["1", "1"]


def test_diff_looks_at_each_alias_where_its_environment_is(shop: Shop, other: Other) -> None:
    configure(shop, production='regions = ["eu-west-1", "us-east-1"]')
    shop.ok("deploy", "--build-id", "101")
    missing = shop.run("diff", "STAGE", "PROD")
    assert missing.code == 1
    assert "environment production: there is no function" in missing.err
    shop.ok("promote", "101", "--to", "production")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")

    found = shop.ok("diff", "STAGE", "PROD", "--json").result
    assert list(found) == ["greeting in eu-west-1", "greeting in us-east-1"]
    for each in found.values():
        assert (each["a"], each["b"]) == ("STAGE (version 2)", "PROD (version 1)")
        assert each["files"] == {"index.py": "changed"}
        assert "Role" in each["settings"]
    one = shop.ok("diff", "102", "PROD", "--region", "eu-west-1", "--json").result
    assert [each["code"] for each in one.values()] == [True]


def alias_in(shop: Shop, region: str) -> str | None:
    client = client_at(shop.variables["AWS_ENDPOINT_URL"], "lambda", PROD, region)
    try:
        return str(client.get_alias(FunctionName=shop.name, Name="PROD")["FunctionVersion"])
    except client.exceptions.ResourceNotFoundException:
        return None


class Dies:
    """From call n on (from 0), of all threads together, every call fails; `after`: that one took effect."""

    def __init__(self, n: int, error: PointsmanError, *, after: bool) -> None:
        from threading import Lock

        self.n, self.error, self.after = n, error, after
        self.count, self.lock, self.struck = 0, Lock(), False

    def __call__(self, inner: Transport) -> Transport:
        outer = self

        class Dying:
            def send(self, operation: Operation[R]) -> R:
                with outer.lock:
                    number, outer.count = outer.count, outer.count + 1
                if number < outer.n:
                    return inner.send(operation)
                outer.struck = True
                if number == outer.n and outer.after:
                    inner.send(operation)
                raise outer.error

        return Dying()


def test_a_refused_region_takes_back_the_function_that_was_carried(shop: Shop, other: Other) -> None:
    configure(shop, production='regions = ["eu-west-1", "us-east-1"]')
    shop.ok("deploy", "--build-id", "101", "--to", "staging")
    refused = shop.run("promote", "101", "--to", "production", wrap=On("CreateAlias", 2, AccessDenied("no")))
    assert refused.code == 1
    assert "Moved back: PROD of greeting in eu-west-1, which is removed again." in refused.err
    assert alias_in(shop, "eu-west-1") is None
    shop.ok("promote", "101", "--to", "production")
    assert [alias_in(shop, region) for region in ("eu-west-1", "us-east-1")] == ["1", "1"]


def test_a_saved_plan_of_a_carried_promotion_is_applied_with_a_rebuilt_ledger_too(shop: Shop, other: Other) -> None:
    """Such a ledger does not tell where a build was deployed; and the build may be in both accounts."""
    shop.ok("deploy", "--build-id", "101")
    shop.ok("promote", "101", "--to", "production")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    shop.ok("promote", "102", "--to", "production")
    shop.ok("rollback", "PROD")
    shop.ok("history", "--rebuild", "--force")

    shop.ok("plan", "promote", "102", "--to", "production", "--out", "plan.json")
    shop.ok("apply", "plan.json")
    assert other.alias() == "2"


def test_a_promotion_of_a_build_that_is_nowhere_says_so(shop: Shop, other: Other) -> None:
    """Production has no function yet, which is not what is wrong."""
    shop.ok("deploy", "--build-id", "101")
    shutil.rmtree(shop.folder / ".pointsman")

    refused = shop.run("promote", "100", "--to", "production")
    assert refused.code == 2
    assert "environment production: there is no build 100 in any place of the file" in refused.err


def test_a_rebuilt_ledger_tells_of_the_places_there_are_and_shows_which_it_reads(shop: Shop, other: Other) -> None:
    shop.ok("deploy", "--build-id", "101")

    told = shop.ok("history", "--rebuild", "--force", "-v")
    assert "reading greeting in eu-west-1 (staging), 1 of 2 places" in told.err
    assert "reading greeting in eu-west-1 (production), 2 of 2 places" in told.err
    assert "1 versions, 1 aliases" in told.out
