"""Provisioned concurrency through a rollout on the local AWS: as much as before, whatever dies on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from pointsman import footing, sharing
from pointsman.aws.operation import Operation, R, Transport
from pointsman.config import load
from pointsman.errors import Ambiguous, FunctionFailed, Interrupted, Throttled, UsageError
from pointsman.localaws import control
from pointsman.model import AliasName, Canary, Configuration, FunctionArn, Routing, Version, Weight
from pointsman.synthetic import Synthetic, traffic
from pointsman.world import Session, World
from tests.fakes import Watched
from tests.journeys.conftest import AS_ON_AWS, Shop

PROD = AliasName("STAGE")
ONE, TWO = Version("1"), Version("2")
TO_ONE, TO_TWO = Routing(version=ONE), Routing(version=TWO)
SHARED = Routing(version=ONE, canary=Canary(version=TWO, weight=Weight(0.1)))


class Kill:
    """The process dies at its n-th moment: before a call that changes something, or after it and before its answer."""

    def __init__(self, inner: Transport, moment: int) -> None:
        self.inner, self.left = inner, moment

    def send(self, operation: Operation[R]) -> R:
        if not operation.mutates:
            return self.inner.send(operation)
        self.die()
        try:
            reply = self.inner.send(operation)
        except Throttled:
            self.left += 1  # changed nothing, and is tried again
            raise
        self.die()
        return reply

    def die(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Interrupted("killed")


class Rolling:
    """A shop with versions 1 (served) and 2, and sessions on it."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.client, self.said = shop, shop.aws("lambda"), list[str]()

        self.arn = FunctionArn.parse(self.client.get_function(FunctionName=shop.name)["Configuration"]["FunctionArn"])

    @contextmanager
    def session(self, wrap: Callable[[Transport], Transport] = lambda each: each) -> Iterator[Session]:
        project = load(self.shop.folder / "pointsman.toml")
        world = World(project=project, environ=self.shop.variables, say=self.said.append, wrap=wrap, local=True)
        try:
            yield world.session(world.functions()[0], world.environment("STAGE"), run="run")
        finally:
            world.close()

    def keep(self, qualifier: str, number: int = 1) -> None:
        self.client.put_provisioned_concurrency_config(
            FunctionName=self.shop.name, Qualifier=qualifier, ProvisionedConcurrentExecutions=number
        )

    def drop(self, qualifier: str) -> None:
        self.client.delete_provisioned_concurrency_config(FunctionName=self.shop.name, Qualifier=qualifier)

    def kept(self) -> dict[str, int]:
        listed = self.client.list_provisioned_concurrency_configs(FunctionName=self.shop.name)
        return {
            each["FunctionArn"].rpartition(":")[2]: each["RequestedProvisionedConcurrentExecutions"]
            for each in listed["ProvisionedConcurrencyConfigs"]
        }

    def point(self, version: str) -> None:
        self.client.update_alias(
            FunctionName=self.shop.name, Name=PROD, FunctionVersion=version,
            RoutingConfig={"AdditionalVersionWeights": {}},
        )  # fmt: skip

    def serves(self) -> Routing | None:
        with self.session() as session:
            found = session.gateway.alias(self.shop.name, PROD)
        return found.routing if found else None


@pytest.fixture
def rolling(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rolling]:
    for build in ("101", "102"):
        shop.greet(build)
        shop.ok("deploy", "--build-id", build)
    for name, value in shop.variables.items():
        monkeypatch.setenv(name, value)
    made = Rolling(shop)
    made.point("1")
    yield made
    made.client.delete_function(FunctionName=shop.name)  # its environments would be kept ready for the tests to come


def canary(session: Session, name: str, version: Version = TWO) -> Configuration:
    found = session.gateway.function(name, version)
    assert found
    return found


def roll(session: Session, name: str, end: Routing) -> None:
    """Prepare, shift, end, give back: from wherever it is, as a watcher would that was begun anew."""
    alias = session.gateway.alias(name, PROD)
    assert alias
    if alias.routing != end or end == TO_ONE:
        found = canary(session, name)
        footing.ready(session, alias.arn, TWO)
        footing.provision(session, alias, found)
        alias = session.gateway.point(alias, SHARED, expecting=alias.revision, description="")
        footing.wait_ready(session, alias.arn, PROD)
        alias = session.gateway.point(alias, end, expecting=alias.revision, description="")
        after = footing.moved(session, alias, end, ONE)
        assert after and after.routing == end
    footing.give_back(session, alias.arn, PROD)


@pytest.mark.parametrize(("end", "left"), [(TO_TWO, {"2": 1}), (TO_ONE, {"1": 1})])
def test_the_canary_is_as_ready_as_the_version_before_and_who_is_not_served_gives_back(
    rolling: Rolling, end: Routing, left: dict[str, int]
) -> None:
    rolling.keep("1")

    with rolling.session() as session:
        alias = session.gateway.alias(rolling.shop.name, PROD)
        assert alias
        footing.provision(session, alias, canary(session, rolling.shop.name))
        assert rolling.kept() == {"1": 1, "2": 1}
        ready = session.gateway.kept_ready(rolling.shop.name, "2")
        assert ready and ready.status == "READY"
        roll(session, rolling.shop.name, end)

        assert footing.open_one(session, alias.arn, PROD) is None
    assert (rolling.kept(), rolling.serves()) == (left, end)


@pytest.mark.parametrize(("end", "left"), [(TO_TWO, {"2": 1}), (TO_ONE, {"1": 1})])
def test_whenever_it_dies_it_ends_as_if_it_had_not(rolling: Rolling, end: Routing, left: dict[str, int]) -> None:
    moments = 0
    died = True
    while died:
        moments += 1
        rolling.keep("1")
        with rolling.session(partial(Kill, moment=moments)) as session:
            try:
                roll(session, rolling.shop.name, end)
                died = False
            except Interrupted:
                pass
        if died:
            with rolling.session() as session:
                roll(session, rolling.shop.name, end)
        assert (rolling.kept(), rolling.serves()) == (left, end), f"killed at moment {moments}"
        rolling.point("1")
        if end == TO_TWO:
            rolling.drop("2")
    assert moments == 2 * len(("Put", "UpdateAlias", "UpdateAlias", "Delete")) + 1


def test_a_lost_answer_is_looked_up(rolling: Rolling) -> None:
    class Lossy:
        def __init__(self, inner: Transport) -> None:
            self.inner, self.lost = inner, 0

        def send(self, operation: Operation[R]) -> R:
            reply = self.inner.send(operation)
            if operation.action == "PutProvisionedConcurrencyConfig" and not self.lost:
                self.lost += 1
                raise Ambiguous("no answer")
            return reply

    rolling.keep("1")
    with rolling.session(Lossy) as session:
        roll(session, rolling.shop.name, TO_TWO)

    assert rolling.kept() == {"2": 1}


def test_what_somebody_else_set_meanwhile_stays(rolling: Rolling) -> None:
    rolling.keep("1")
    with rolling.session() as session:
        alias = session.gateway.alias(rolling.shop.name, PROD)
        assert alias
        footing.provision(session, alias, canary(session, rolling.shop.name))
        rolling.keep("2", 2)

        (note,) = footing.give_back(session, alias.arn, PROD)

    assert note == "2 provisioned environments of version 2 stay, and are paid for: somebody set it meanwhile"
    assert rolling.kept() == {"1": 1, "2": 2}


def test_a_canary_that_cannot_start_gives_back_and_gets_no_traffic(rolling: Rolling) -> None:
    rolling.keep("1")
    rolling.shop.write("index.py", "def handler(event, context): ...\nraise RuntimeError('not today')\n")
    rolling.shop.ok("deploy", "--build-id", "103")
    rolling.point("1")

    with rolling.session() as session:
        alias = session.gateway.alias(rolling.shop.name, PROD)
        assert alias
        with pytest.raises(FunctionFailed, match="FUNCTION_ERROR_INIT_FAILURE"):
            footing.provision(session, alias, canary(session, rolling.shop.name, Version("3")))

    assert (rolling.kept(), rolling.serves()) == ({"1": 1}, TO_ONE)


def test_what_an_abandoned_rollout_left_is_given_back_by_the_next(rolling: Rolling) -> None:
    rolling.keep("1")
    rolling.shop.greet("103")
    rolling.shop.ok("deploy", "--build-id", "103")
    rolling.point("1")

    with rolling.session() as session:
        alias = session.gateway.alias(rolling.shop.name, PROD)
        assert alias
        for version in (TWO, Version("3")):
            footing.provision(session, alias, canary(session, rolling.shop.name, version))

    assert rolling.kept() == {"1": 1, "3": 1}


def test_an_account_without_room_says_so_before_anything_moves(rolling: Rolling) -> None:
    free = rolling.client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    rolling.keep("1", free // 2)

    with rolling.session() as session:
        alias = session.gateway.alias(rolling.shop.name, PROD)
        assert alias
        with pytest.raises(FunctionFailed, match="below its minimum value") as refused:
            footing.provision(session, alias, canary(session, rolling.shop.name))
        assert "Nothing moved" in refused.value.next
        assert footing.open_one(session, alias.arn, PROD) is None

    rolling.drop("1")
    assert rolling.kept() == {}


# The alias itself has it


@pytest.mark.parametrize("end", [TO_TWO, TO_ONE])
def test_what_the_alias_has_goes_with_it_and_aws_is_waited_for(rolling: Rolling, end: Routing) -> None:
    rolling.keep(PROD)

    with rolling.session() as session:
        roll(session, rolling.shop.name, end)

        assert any("may start cold" in each for each in session.warnings)
    assert (rolling.kept(), rolling.serves()) == ({PROD: 1}, end)


def test_aws_moving_the_alias_is_no_drift(rolling: Rolling, local_aws: control.Running) -> None:
    name = rolling.shop.name
    rolling.keep(PROD)
    with rolling.session() as session:
        alias = session.gateway.alias(name, PROD)
        assert alias
        footing.wait_ready(session, alias.arn, PROD)
        with held(local_aws, "PutProvisionedConcurrencyConfig"):
            moving = session.gateway.point(alias, TO_TWO, expecting=alias.revision, description="")
            kept = session.gateway.kept_ready(name, PROD)
            served = {rolling.shop.invoke(PROD)["version"] for _ in range(3)}
        after = footing.moved(session, alias, TO_TWO, ONE)

    assert moving.routing == Routing(version=TWO, canary=Canary(version=ONE, weight=Weight(1.0)))
    assert sharing.is_aws_moving(TO_TWO, ONE, moving.routing, kept)
    assert served == {"1"}
    assert after
    assert after.routing == TO_TWO
    assert after.revision != moving.revision


@contextmanager
def held(local_aws: control.Running, operation: str) -> Iterator[None]:
    """What this operation begins does not end before this does."""
    control.chaos(local_aws, "PUT", rules=[AS_ON_AWS, {"kind": "stuck", "only": [f"lambda:{operation}"]}])
    try:
        yield
    finally:
        control.chaos(local_aws, "PUT", rules=[AS_ON_AWS])
        control.chaos(local_aws, "POST", "/release")


def test_an_alias_that_aws_gave_up_on_is_told(rolling: Rolling) -> None:
    rolling.keep(PROD)
    rolling.shop.write("index.py", "def handler(event, context): ...\nraise RuntimeError('not today')\n")
    rolling.client.update_function_code(FunctionName=rolling.shop.name, ZipFile=broken())
    rolling.client.get_waiter("function_updated_v2").wait(FunctionName=rolling.shop.name, WaiterConfig={"Delay": 1})
    three = Routing(version=Version(rolling.client.publish_version(FunctionName=rolling.shop.name)["Version"]))

    with rolling.session() as session:
        alias = session.gateway.alias(rolling.shop.name, PROD)
        assert alias
        alias = session.gateway.point(alias, three, expecting=alias.revision, description="")
        with pytest.raises(FunctionFailed, match="AWS holds all traffic of STAGE on version 1"):
            footing.moved(session, alias, three, ONE)


def broken() -> bytes:
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.py", "def handler(event, context): ...\nraise RuntimeError('not today')\n")
    return packed.getvalue()


def test_two_configurations_for_one_version_are_refused_before_anything_moves(rolling: Rolling) -> None:
    rolling.keep(PROD)
    rolling.keep("2")

    with rolling.session() as session:
        alias = session.gateway.alias(rolling.shop.name, PROD)
        assert alias
        with pytest.raises(UsageError, match="Delete that of 2"):
            footing.provision(session, alias, canary(session, rolling.shop.name))

    assert (rolling.kept(), rolling.serves()) == ({PROD: 1, "2": 1}, TO_ONE)


def test_nothing_provisioned_costs_one_read(rolling: Rolling) -> None:
    with rolling.session() as session:
        alias = session.gateway.alias(rolling.shop.name, PROD)
        assert alias
        found = canary(session, rolling.shop.name)
        before = len(session.world.calls)

        assert footing.provision(session, alias, found) is None
        assert footing.give_back(session, alias.arn, PROD) == ()

        assert [each.action for each in session.world.calls[before:]] == ["ListProvisionedConcurrencyConfigs"]


# SnapStart


def test_a_version_whose_snapshot_is_being_made_is_waited_for(rolling: Rolling, local_aws: control.Running) -> None:
    name, asked = rolling.shop.name, list[str]()
    try:
        rolling.client.update_function_configuration(
            FunctionName=name, Runtime="python3.12", SnapStart={"ApplyOn": "PublishedVersions"}
        )
    except rolling.client.exceptions.InvalidParameterValueException as error:
        if "this machine cannot run it" not in str(error):
            raise
        pytest.skip("AWS makes snapshots of Python 3.12 and newer, and this machine has none to run")
    rolling.client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    with held(local_aws, "PublishVersion"):
        version = Version(rolling.client.publish_version(FunctionName=name)["Version"])
        pending = rolling.client.get_function_configuration(FunctionName=name, Qualifier=version)["State"]

        def look(action: str) -> None:
            asked.append(action)
            if len(asked) == 3:
                control.chaos(local_aws, "POST", "/release")

        with rolling.session(lambda inner: Watched(inner, look)) as session:
            found = footing.ready(session, rolling.arn, version)

    assert (pending, found.state) == ("Pending", "Active")
    assert asked == ["GetFunction"] * 3


# Traffic of our own


def test_both_versions_are_called_by_their_number_and_counted(rolling: Rolling) -> None:
    shop = rolling.shop
    shop.write("index.py", "def handler(event, context):\n    return {'word': 'x'}[event['order']]\n")
    shop.ok("deploy", "--build-id", "103")  # fails on every event
    for number in range(2):
        shop.write(f"events/{number}.json", f'{{"order": {number}}}')

    with rolling.session() as session:
        sending = traffic(session, rolling.arn, ONE, Version("3"), patterns=("events/*.json",), rate=40, period_s=0.25)
        before = len(session.world.calls)
        sent = collected(sending, 20)

        assert session.world.calls[before:] == [], "they share the budget of the control plane"
    totals = {
        side: (sum(getattr(each, side).calls for each in sent), sum(getattr(each, side).bad for each in sent))
        for side in ("baseline", "canary")
    }
    assert totals["baseline"][1] == 0
    assert totals["canary"][0] == totals["canary"][1] > 0
    assert abs(totals["baseline"][0] - totals["canary"][0]) <= 10
    assert all(0 < ms < 60_000 for each in sent for ms in each.baseline.ms + each.canary.ms)
    assert sum(each.lost for each in sent) == 0


def collected(sending: Synthetic, least: int) -> list[Any]:
    """What was sent in so many calls or more, once all of them are over."""
    import time

    sent: list[Any] = []
    sending.start()
    try:
        while sum(each.baseline.calls + each.canary.calls for each in sent) < least:
            sent += sending.take(time.time())
            assert not sending.trouble, sending.trouble
    finally:
        sending.stop()
    assert sending.join(30)
    return sent
