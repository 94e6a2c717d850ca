"""One command over several regions: in waves, stopped by the first bad one, and all as before then."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest

from pointsman.errors import AccessDenied, Ambiguous, PointsmanError
from pointsman.localaws import control
from tests.journeys.conftest import Shop, control_runtime
from tests.journeys.test_release_set import On

REGIONS = ("eu-west-1", "us-east-1", "ap-southeast-2")


def configure(shop: Shop, *, waves: str = "", more: str = "", functions: str = "") -> None:
    shop.write(
        "pointsman.toml",
        f"""\
[function.greeting]
handler   = "index.handler"
runtime   = "{control_runtime()}"
build     = "python"
provision = {{ with = "direct", name = "{shop.name}", role = "{shop.role}", memory = 128 }}
{functions}
[environment.production]
alias   = "PROD"
regions = ["eu-west-1", "us-east-1", "ap-southeast-2"]
{waves}
{more}
""",
    )


class Elsewhere:
    """The same local AWS, looked at with other eyes, region by region."""

    def __init__(self, running: control.Running) -> None:
        given = control.environment(running)
        self.session: Any = botocore.session.Session()
        self.session.set_credentials(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
        self.url = running.url
        self.clients: dict[str, Any] = {}

    def __call__(self, region: str) -> Any:
        if region not in self.clients:
            self.clients[region] = self.session.create_client("lambda", region_name=region, endpoint_url=self.url)
        return self.clients[region]

    def serves(self, name: str, alias: str = "PROD", regions: tuple[str, ...] = REGIONS) -> list[str | None]:
        found: list[str | None] = []
        for region in regions:
            client = self(region)
            try:
                found.append(client.get_alias(FunctionName=name, Name=alias)["FunctionVersion"])
            except client.exceptions.ResourceNotFoundException:
                found.append(None)
        return found

    def says(self, name: str, region: str) -> str:
        reply = self(region).invoke(FunctionName=name, Qualifier="PROD", Payload=b"{}")
        return str(json.loads(reply["Payload"].read())["word"])


@pytest.fixture
def there(local_aws: control.Running) -> Elsewhere:
    return Elsewhere(local_aws)


def test_one_command_goes_over_all_regions_and_back(shop: Shop, there: Elsewhere) -> None:
    configure(shop, waves='waves = [["eu-west-1"], ["us-east-1", "ap-southeast-2"]]')
    done = shop.ok("deploy", "--build-id", "1", "--json").result
    assert [(each["region"], each["version"], each["moved"]) for each in done] == [(r, "1", True) for r in REGIONS]
    assert [there.says(shop.name, region) for region in REGIONS] == ["hello"] * 3

    shop.greet("two")
    shown = shop.ok("deploy", "--build-id", "2").out.splitlines()
    assert [line.split()[:3] for line in shown[1:]] == [["greeting", "in", region] for region in REGIONS]
    assert there.serves(shop.name) == ["2", "2", "2"]

    unchanged = shop.ok("deploy", "--build-id", "2", "--json")
    assert unchanged.calls == (6, 0)  # two reads for each region
    status = shop.ok("status", "--json").result
    assert [(each["region"], each["aliases"][0]["build"]) for each in status] == [(r, "2") for r in REGIONS]

    back = shop.ok("rollback", "PROD", "--json").result
    assert [(each["region"], each["version"]) for each in back] == [(region, "1") for region in REGIONS]
    assert there.serves(shop.name) == ["1", "1", "1"]

    shop.ok("promote", "2", "--to", "PROD", "--region", "us-east-1")
    assert there.serves(shop.name) == ["1", "2", "1"]
    assert shop.ok("status", "--region", "us-east-1", "--json").result[0]["aliases"][0]["version"] == "2"
    wrong = shop.run("promote", "2", "--to", "PROD", "--region", "eu-north-1")
    assert wrong.code == 2
    assert "environment production is not in eu-north-1" in wrong.err
    lines = shop.ok("history", "--region", "us-east-1", "--json").result
    moved = {(each["function"], each["region"]) for each in lines if each["kind"] == "moved"}
    assert moved == {("greeting", "us-east-1")}
    shown = shop.ok("history", "--kind", "move", "-n", "4").out.splitlines()
    assert shown[0].split()[:3] == ["WHEN", "REGION", "WHAT"]
    assert [line.split()[2] for line in shown[1:5]] == ["us-east-1", *reversed(REGIONS)]


@pytest.mark.parametrize(
    ("waves", "nth"),
    [("", 2), ("", 3), ('waves = [["eu-west-1"], ["us-east-1", "ap-southeast-2"]]', 3)],
)
def test_the_first_bad_region_puts_back_those_that_moved(shop: Shop, there: Elsewhere, waves: str, nth: int) -> None:
    configure(shop, waves=waves)
    shop.ok("deploy", "--build-id", "1")
    shop.greet("two")
    refused = shop.run("deploy", "--build-id", "2", "--json", wrap=On("UpdateAlias", nth, AccessDenied("no")))
    assert refused.code == 1
    assert there.serves(shop.name) == ["1", "1", "1"]
    release = refused.document["error"]["release"]
    assert release["outcome"] == "restored"
    assert [each["region"] for each in release["members"]] == list(REGIONS)
    assert shop.ok("resume", "--json").result == []

    shop.ok("deploy", "--build-id", "2")
    assert there.serves(shop.name) == ["2", "2", "2"]


@pytest.mark.parametrize("error", [AccessDenied("no"), Ambiguous("no answer")])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_between_two_regions_ends_with_all_new_or_all_as_before(
    shop: Shop, there: Elsewhere, error: PointsmanError, after: bool
) -> None:
    """The error stands for the end of the process: nothing is put back, as its calls fail from then on, too."""
    configure(shop)
    shop.ok("deploy", "--build-id", "1")
    shop.greet("two")
    broken = Dead("UpdateAlias", 2, error, after=after)
    assert shop.run("deploy", "--build-id", "2", wrap=broken).code != 0
    assert there.serves(shop.name)[0] == "2"

    shop.ok("resume")
    assert there.serves(shop.name) in (["2", "2", "2"], ["1", "1", "1"])


class Dead:
    """From the nth call of an action on every call fails."""

    def __init__(self, action: str, nth: int, error: BaseException, *, after: bool) -> None:
        self.on = On(action, nth, error, after=after)

    def __call__(self, inner: Any) -> Any:
        broken, on = self.on(inner), self.on

        class Gone:
            def send(self, operation: Any) -> Any:
                if on.count >= on.nth:
                    raise on.error
                return broken.send(operation)

        return Gone()


GATE = """
import os, sys, time
from pathlib import Path

region = os.environ["AWS_REGION"]
Path("asked").open("a").write(f"{region}\\n")
if Path("bad").exists() and region == "us-east-1":
    while "ap-southeast-2" not in Path("asked").read_text().split():
        time.sleep(0.05)
    sys.exit(1)
while Path("bad").exists() and region == "ap-southeast-2":
    time.sleep(0.05)
"""


def test_a_bad_region_stops_the_rollouts_beside_it_and_the_wave_before_goes_back(shop: Shop, there: Elsewhere) -> None:
    """In the second wave one region's gate refuses while the other's is still at work."""
    import sys

    shop.write("gate.py", GATE)
    configure(
        shop,
        waves='waves = [["eu-west-1"], ["us-east-1", "ap-southeast-2"]]\nrollout = { type = "AllAtOnce" }',
        more=f'[[environment.production.gates]]\nwhen = "traffic"\nrun = "{sys.executable} gate.py"',
    )
    shop.write(
        "pointsman.toml",
        (shop.folder / "pointsman.toml").read_text().replace("build     =", 'exclude = ["asked", "bad"]\nbuild     ='),
    )
    shop.ok("deploy", "--build-id", "1")
    shop.greet("two")
    (shop.folder / "bad").touch()
    (shop.folder / "asked").unlink(missing_ok=True)

    refused = shop.run("deploy", "--build-id", "2", "--json")
    assert refused.code == 3, refused.err
    assert "greeting in us-east-1" in refused.document["error"]["where"]
    assert there.serves(shop.name) == ["1", "1", "1"]
    assert sorted((shop.folder / "asked").read_text().split()) == sorted(REGIONS)
    phases = {each["region"]: each["phase"] for each in refused.document["error"]["release"]["members"]}
    assert phases["eu-west-1"] == "moved back"

    (shop.folder / "bad").unlink()
    shop.ok("deploy", "--build-id", "2")
    assert there.serves(shop.name) == ["2", "2", "2"]
    rollouts = shop.ok("rollout", "list", "--region", "us-east-1", "--json").result
    assert {each["region"] for each in rollouts} == {"us-east-1"}


def test_a_saved_plan_of_several_regions_is_applied_as_shown(shop: Shop, there: Elsewhere) -> None:
    configure(shop)
    shop.ok("deploy", "--build-id", "1")
    shop.greet("two")
    planned = shop.ok("plan", "deploy", "--build-id", "2", "--out", "plan.json").out
    for region in REGIONS:
        assert f"deploy of build 2: greeting → PROD (production, {region})" in planned
    shop.ok("apply", "plan.json")
    assert there.serves(shop.name) == ["2", "2", "2"]
    rolled = shop.ok("plan", "rollback", "PROD", "--json").result
    assert [(each["region"], each["version"]) for each in rolled] == [(region, "1") for region in REGIONS]
    listed = shop.ok("versions", "--to", "PROD", "--region", "us-east-1", "--json").result
    assert list(listed) == ["greeting in us-east-1"]


def test_two_functions_in_two_regions_move_together(shop: Shop, there: Elsewhere) -> None:
    configure(shop)
    text = (shop.folder / "pointsman.toml").read_text().replace(', "ap-southeast-2"]', "]")
    head, rest = text.split("[environment", 1)
    second = head.replace("[function.greeting]", "[function.second]").replace(f'"{shop.name}"', f'"{shop.name}-2"')
    shop.write("pointsman.toml", f"{head}\n{second}\n[environment{rest}")
    two = REGIONS[:2]
    shop.ok("deploy", "--build-id", "1")
    shop.greet("two")
    refused = shop.run("deploy", "--build-id", "2", wrap=On("UpdateAlias", 4, AccessDenied("no")))
    assert refused.code == 1
    assert there.serves(shop.name, regions=two) == there.serves(f"{shop.name}-2", regions=two) == ["1", "1"]
    shop.ok("deploy", "--build-id", "2")
    assert there.serves(shop.name, regions=two) == there.serves(f"{shop.name}-2", regions=two) == ["2", "2"]


def test_branches_live_in_the_first_region(shop: Shop, there: Elsewhere) -> None:
    configure(shop)
    shop.ok("deploy", "--build-id", "1")
    shop.greet("two")
    shop.ok("deploy", "--branch", "feature/x", "--build-id", "2")
    assert there.serves(shop.name, "feature-x--217d2bf51f") == ["2", None, None]
    assert there.serves(shop.name) == ["1", "1", "1"]


def test_a_rollback_names_the_region_that_it_leaves(shop: Shop, there: Elsewhere) -> None:
    """Promoted to one region by itself, and then to the two others: a rollback goes over those two."""
    configure(shop)
    shop.ok("deploy", "--build-id", "1")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "2", "--region", "us-east-1")
    shop.ok("deploy", "--build-id", "2")
    assert there.serves(shop.name) == ["2", "2", "2"]

    back = shop.ok("rollback", "PROD")
    assert there.serves(shop.name) == ["1", "2", "1"]
    assert "warning: greeting in us-east-1 was no part of that release, and still serves build 2" in back.err
    assert "`pointsman rollback PROD --region us-east-1` goes back there, too" in back.err
    shop.ok("rollback", "PROD", "--region", "us-east-1")
    assert there.serves(shop.name) == ["1", "1", "1"]


def test_status_and_history_tell_what_a_killed_run_left_in_which_region(shop: Shop, there: Elsewhere) -> None:
    """The call of the second region took effect, and its answer never came; the third was not called."""
    configure(shop)
    shop.ok("deploy", "--build-id", "1")
    shop.greet("two")
    assert shop.run("deploy", "--build-id", "2", wrap=Dead("UpdateAlias", 2, KeyboardInterrupt(), after=True)).code != 0
    assert there.serves(shop.name) == ["2", "2", "1"]

    status = shop.ok("status", "--json").result
    rows = [each["aliases"][0] for each in status]
    assert [row["drift"] for row in rows] == ["", "", ""]
    assert [("did not finish" in row["moving"]) for row in rows] == [False, True, False]
    said = shop.ok("status").out
    assert "PROD is where a run left it: deploy to PROD (run " in said
    assert "do not serve the same build: build 2 in eu-west-1, us-east-1; build 1 in ap-southeast-2." in said
    fleet = shop.ok("status", "--all", "--only", shop.name).out
    assert "outside Pointsman" not in fleet
    assert f"! {shop.name}: PROD is where a run left it: deploy to PROD (run " in fleet
    assert f"! {shop.name}: the regions of production do not serve the same build: build 2 in" in fleet

    then = shop.ok("history", "--at", "now").out
    assert "greeting PROD in us-east-1 (123456789012): a call that moves it was sent at" in then
    assert "PROD in eu-west-1" not in then
    sure = {
        each["arn"].split(":")[3]: each["sure"]
        for each in shop.ok("history", "--at", "now", "--json").result["aliases"]
    }
    assert sure["eu-west-1"]

    shop.ok("resume")
    assert "same build" not in shop.ok("status").out


def test_status_shows_the_other_places_where_one_has_no_function_yet(shop: Shop, there: Elsewhere) -> None:
    configure(shop, more='[environment.dr]\nalias = "DR"\nregion = "eu-central-1"')
    fresh = shop.ok("status").out
    assert "(dr): not deployed yet." in fresh
    shop.ok("deploy", "--build-id", "1", "--to", "production", "--region", "us-east-1")

    told = {each["region"]: each for each in shop.ok("status", "--json").result}
    assert {region: each["deployed"] for region, each in told.items()} == {
        "eu-west-1": False,
        "us-east-1": True,
        "ap-southeast-2": False,
        "eu-central-1": False,
    }
    assert told["eu-central-1"]["environments"] == ["dr"]
    assert f"greeting ({shop.name}) in 123456789012 eu-central-1 (dr): not deployed yet." in shop.ok("status").out

    there("us-east-1").delete_function(FunctionName=shop.name)
    gone = shop.run("status")
    assert gone.code == 1
    assert f"(production): could not be read. there is no function {shop.name} in us-east-1" in gone.out
