"""What trouble on demand does to calls: decided by rules, dice and a clock alone; then felt by a client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from hypothesis import given
from hypothesis import strategies as st

from pointsman.localaws import control
from pointsman.localaws.chaos import NOTHING, AnyRule, Call, Chaos, Dropped, Failed, Plan, Throttled
from pointsman.localaws.lambda_.store import Failure, Fate
from pointsman.localaws.naming import operation_name, problem
from tests.localaws.conftest import TRUST, client, make_function, package, until

HANDLER = "def handler(event, context): return event"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def call(name: str, account: str = "1", region: str = "r") -> Call:
    service, _, operation = name.partition(":")
    return Call(service, operation or None, account, region)


def chaos(*rules: dict[str, Any], now: Clock | None = None) -> Chaos:
    return Chaos(Plan(msgspec.convert(rules, tuple[AnyRule, ...])), now or Clock())


# --- decided ---


def test_a_rule_strikes_what_it_is_for_and_nothing_else() -> None:
    made = chaos({"kind": "drop", "only": ["lambda:Update*", "s3"]})
    for name, struck in {
        "lambda:UpdateAlias": True,
        "lambda:updatefunctioncode": True,
        "lambda:GetAlias": False,
        "lambda": False,  # it cannot be told which operation it is
        "s3:PutObject": True,
        "s3": True,
        "iam:UpdateRole": False,
    }.items():
        assert (made.decide(call(name)).before == Dropped()) is struck, name


def test_it_strikes_as_often_as_was_said() -> None:
    made = chaos({"kind": "error", "status": 503, "times": 2})
    assert [made.decide(call("iam:GetRole")).before for _ in range(4)] == [Failed(503), Failed(503), None, None]
    assert made.document()["rules"][0]["hits"] == 2


def test_the_same_seed_is_the_same_luck() -> None:
    def luck(seed: int) -> list[bool]:
        made = chaos({"kind": "drop", "probability": 0.5, "seed": seed})
        return [made.decide(call("sts:AssumeRole")) != NOTHING for _ in range(100)]

    assert luck(1) == luck(1) != luck(2)
    assert 30 < sum(luck(1)) < 70


def test_one_trouble_for_each_moment_and_before_comes_first() -> None:
    made = chaos(
        {"kind": "drop", "after": True},
        {"kind": "latency", "least_s": 1, "most_s": 1},
        {"kind": "latency", "least_s": 2, "most_s": 2, "only": ["s3"]},
        {"kind": "error"},
    )
    struck = made.decide(call("s3:PutObject"))
    assert (struck.delay_s, struck.before, struck.after) == (3, Failed(500), None)
    assert {rule["kind"]: rule["hits"] for rule in made.document()["rules"]}["drop"] == 0


def test_latency_stays_in_its_range() -> None:
    made = chaos({"kind": "latency", "least_s": 1, "most_s": 3})
    delays = [made.decide(call("s3")).delay_s for _ in range(200)]
    assert min(delays) >= 1
    assert max(delays) <= 3
    assert max(delays) - min(delays) > 1


def test_the_control_plane_is_one_account_and_region_together() -> None:
    clock = Clock()
    made = chaos({"kind": "throttle", "per_second": 2}, now=clock)

    def throttled(name: str, **where: str) -> bool:
        return made.decide(call(name, **where)).before == Throttled()

    assert [throttled(f"lambda:{name}") for name in ("GetAlias", "UpdateAlias", "PublishVersion")] == [
        False,
        False,
        True,
    ]
    assert not throttled("lambda:GetAlias", account="2")
    assert not throttled("lambda:GetAlias", region="s")
    assert [throttled("lambda:GetFunction") for _ in range(14)] == [False] * 13 + [True]  # 100/15 as many
    assert not any(throttled("lambda:Invoke") for _ in range(100))
    assert not any(throttled("s3:PutObject") for _ in range(100))
    clock.seconds += 0.5
    assert [throttled("lambda:GetAlias") for _ in range(2)] == [False, True]


@given(
    st.floats(0.5, 50),
    st.lists(st.floats(0, 1), min_size=1, max_size=200),
)
def test_never_more_than_the_rate_and_one_second_of_burst(rate: float, waits: list[float]) -> None:
    clock = Clock()
    made = chaos({"kind": "throttle", "per_second": rate}, now=clock)
    passed = 0
    for wait in waits:
        clock.seconds += wait
        passed += made.decide(call("lambda:GetAlias")).before is None
    assert passed <= rate * clock.seconds + max(rate, 1) + 1e-6


def test_a_throttle_for_named_calls_counts_those_together() -> None:
    made = chaos({"kind": "throttle", "per_second": 1, "only": ["cloudformation"]})
    names = ("cloudformation:DescribeStacks", "cloudformation:CreateStack", "lambda:GetAlias")
    assert [made.decide(call(name)).before for name in names] == [None, Throttled(), None]


def test_updates_are_held_or_fail() -> None:
    made = chaos(
        {"kind": "stuck", "only": ["lambda:UpdateFunctionCode"]},
        {"kind": "fail", "only": ["lambda:PublishVersion"], "code": "InvalidImage", "reason": "no"},
    )
    assert made.fate("UpdateFunctionCode", 1) == Fate(float("inf"))
    assert made.fate("PublishVersion", 0) == Fate(0, Failure("InvalidImage", "no"))
    assert made.fate("CreateFunction", 1) == Fate(1)
    assert made.decide(call("lambda:UpdateFunctionCode")) == NOTHING


def test_a_rule_takes_the_place_of_its_like_and_leaves_the_others() -> None:
    made = chaos({"kind": "error", "times": 2}, {"kind": "drop", "only": ["s3"]})
    made.decide(call("iam:GetRole"))
    made.add(msgspec.convert([{"kind": "drop", "only": ["s3"], "times": 1}], list[AnyRule]))
    assert [(rule["kind"], rule["times"], rule["hits"]) for rule in made.document()["rules"]] == [
        ("error", 2, 1),
        ("drop", 1, 0),
    ]


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "name"),
    [
        ("PUT", "/b/k", {}, {}, "PutObject"),
        ("PUT", "/b/k", {}, {"x-amz-copy-source": "b/l"}, "CopyObject"),
        ("PUT", "/b/a/deep/key", {"partNumber": "1", "uploadId": "u"}, {}, "UploadPart"),
        ("GET", "/b", {"list-type": "2"}, {}, "ListObjectsV2"),
        ("GET", "/b", {"versioning": ""}, {}, "GetBucketVersioning"),
        ("GET", "/", {}, {}, "ListBuckets"),
        ("PATCH", "/", {}, {}, None),
    ],
)
def test_s3_says_its_operation_by_the_request(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], name: str | None
) -> None:
    assert operation_name("s3", method, path, query=query, headers=headers) == name


def test_a_name_that_is_no_operation_is_told() -> None:
    assert problem("lambda:Update*") is None
    assert problem("lamda") == "AWS has no service lamda; did you mean lambda?"
    assert problem("lambda:UpdateAlia") == "lambda has no operation UpdateAlia; did you mean UpdateAlias?"


# --- felt ---


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.Running]:
    directory: Path = tmp_path_factory.mktemp("chaos") / "aws"
    running = control.up(directory, settle_s=0.05)
    make_function(running, "f", HANDLER)
    client(running, "lambda").publish_version(FunctionName="f")
    yield running
    control.down(directory)


@pytest.fixture
def aws(server: control.Running) -> Iterator[control.Running]:
    yield server
    control.chaos(server, "DELETE")


def trouble(running: control.Running, kind: str, *only: str, **more: Any) -> None:
    control.chaos(running, "POST", rules=[{"kind": kind, "only": only} | more])


def alias_there(running: control.Running, name: str) -> bool:
    return name in [each["Name"] for each in client(running, "lambda").list_aliases(FunctionName="f")["Aliases"]]


def make_alias(running: control.Running, name: str) -> Any:
    return client(running, "lambda").create_alias(FunctionName="f", Name=name, FunctionVersion="1")


@pytest.mark.parametrize("after", [False, True])
def test_an_error_with_or_without_the_effect(aws: control.Running, after: bool) -> None:
    name = f"error-{after}"
    trouble(aws, "error", "lambda:CreateAlias", status=503, after=after, times=1)
    with pytest.raises(ClientError) as raised:
        make_alias(aws, name)
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert alias_there(aws, name) is after


@pytest.mark.parametrize("after", [False, True])
def test_a_lost_answer_with_or_without_the_effect(aws: control.Running, after: bool) -> None:
    name = f"lost-{after}"
    trouble(aws, "drop", "lambda:CreateAlias", after=after, times=1)
    with pytest.raises(ConnectionClosedError):
        make_alias(aws, name)
    assert alias_there(aws, name) is after


@pytest.mark.parametrize("service", ["iam", "s3", "ssm"])
def test_other_services_fail_in_their_own_words(aws: control.Running, service: str) -> None:
    ask = {
        "iam": lambda: client(aws, "iam").create_role(RoleName="made", AssumeRolePolicyDocument=TRUST),
        "s3": lambda: client(aws, "s3").create_bucket(
            Bucket="made", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        ),
        "ssm": lambda: client(aws, "ssm").put_parameter(Name="made", Value="v", Type="String"),
    }[service]
    trouble(aws, "error", service, status=500, times=1)
    with pytest.raises(ClientError) as raised:
        ask()
    assert raised.value.response["Error"]["Code"] == ("InternalError" if service == "s3" else "InternalFailure")
    trouble(aws, "drop", service, after=True, times=1)
    with pytest.raises(ConnectionClosedError):
        ask()
    with pytest.raises(ClientError, match=r"Exists|Already"):  # the lost answer's call took effect
        ask()


def test_a_throttled_call_is_refused_as_on_aws(aws: control.Running) -> None:
    trouble(aws, "throttle", per_second=0.001)
    client(aws, "lambda").list_aliases(FunctionName="f")
    with pytest.raises(ClientError) as raised:
        client(aws, "lambda").list_aliases(FunctionName="f")
    said = raised.value.response
    assert said["Error"] == {"Code": "TooManyRequestsException", "Message": "Rate exceeded"}
    assert (said["ResponseMetadata"]["HTTPStatusCode"], said["Reason"]) == (429, "CallerRateLimitExceeded")
    client(aws, "lambda").invoke(FunctionName="f")


def test_a_function_url_has_its_troubles_too(aws: control.Running) -> None:
    import urllib.error
    import urllib.request

    arn = make_function(aws, "served", HANDLER)
    lambda_ = client(aws, "lambda")
    url = lambda_.create_function_url_config(FunctionName="served", AuthType="NONE")["FunctionUrl"]
    for action, more in (("InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}), ("InvokeFunction", {})):
        lambda_.add_permission(FunctionName=arn, StatementId=action, Action=f"lambda:{action}", Principal="*", **more)
    trouble(aws, "error", "lambda:InvokeFunctionUrl", status=503, times=1)
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(url)
    assert raised.value.code == 503
    assert urllib.request.urlopen(url).status == 200


def test_an_account_stores_no_more_than_it_was_given(aws: control.Running) -> None:
    quota = {"account": control.ACCOUNT, "region": "us-west-2"}
    control.chaos(aws, "POST", "/code-quota", **quota, bytes=100)
    given = {"Runtime": "python3.11", "Handler": "index.handler", "Code": {"ZipFile": package(HANDLER)}}
    far = client(aws, "lambda", region="us-west-2")
    role = f"arn:aws:iam::{control.ACCOUNT}:role/role"
    with pytest.raises(ClientError, match="CodeStorageExceeded"):
        far.create_function(FunctionName="large", Role=role, **given)
    assert control.chaos(aws)["code_quotas"] == [quota | {"bytes": 100}]
    assert control.chaos(aws, "DELETE")["code_quotas"] == []
    far.create_function(FunctionName="large", Role=role, **given)


def test_latency_is_felt(aws: control.Running) -> None:
    trouble(aws, "latency", "lambda:ListAliases", least_s=0.3, most_s=0.3)
    began = time.monotonic()
    client(aws, "lambda").list_aliases(FunctionName="f")
    assert time.monotonic() - began >= 0.3


def test_an_update_is_stuck_until_it_is_released(aws: control.Running) -> None:
    lambda_ = client(aws, "lambda")
    trouble(aws, "stuck", "lambda:UpdateFunctionConfiguration")
    lambda_.update_function_configuration(FunctionName="f", Timeout=7)
    found = control.chaos(aws)
    assert found["under_way"] == ["arn:aws:lambda:eu-west-1:123456789012:function:f"]
    assert lambda_.get_function_configuration(FunctionName="f")["LastUpdateStatus"] == "InProgress"
    with pytest.raises(ClientError, match="An update is in progress"):
        lambda_.publish_version(FunctionName="f")

    assert control.chaos(aws, "POST", "/release")["under_way"] == []

    assert lambda_.get_function_configuration(FunctionName="f")["LastUpdateStatus"] == "Successful"


def test_a_call_that_waits_for_a_new_function_goes_on_when_it_is_released(aws: control.Running) -> None:
    from concurrent.futures import ThreadPoolExecutor

    trouble(aws, "stuck", "lambda:CreateFunction")
    lambda_ = client(aws, "lambda")
    given = {"Runtime": "python3.11", "Handler": "index.handler", "Code": {"ZipFile": package(HANDLER)}}
    lambda_.create_function(FunctionName="late", Role=f"arn:aws:iam::{control.ACCOUNT}:role/role", **given)

    def invoke() -> Any:
        return lambda_.invoke(FunctionName="late", Payload=b"1")["Payload"].read()

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(invoke)
        assert lambda_.get_function_configuration(FunctionName="late")["State"] == "Pending"
        assert not answer.done()
        control.chaos(aws, "DELETE")
        assert answer.result(60) == b"1"


def test_a_failed_update_leaves_what_ran_before(aws: control.Running) -> None:
    make_function(aws, "failing", "def handler(event, context): return 'before'")
    lambda_ = client(aws, "lambda")
    trouble(aws, "fail", code="InvalidZipFileException", reason="of all reasons", times=1)
    lambda_.update_function_code(FunctionName="failing", ZipFile=package("def handler(e, c): return 'broken'"))

    found = until(
        lambda: (
            (said := lambda_.get_function_configuration(FunctionName="failing"))["LastUpdateStatus"] == "Failed"
            and said
        ),
        "it has failed",
    )
    assert (found["State"], found["LastUpdateStatusReasonCode"]) == ("Active", "InvalidZipFileException")
    assert found["LastUpdateStatusReason"] == "of all reasons"
    assert lambda_.invoke(FunctionName="failing")["Payload"].read() == b'"before"'
    with pytest.raises(ClientError, match="currently in the following state: Failed"):
        lambda_.publish_version(FunctionName="failing")

    lambda_.update_function_code(FunctionName="failing", ZipFile=package("def handler(e, c): return 'mended'"))
    lambda_.get_waiter("function_updated_v2").wait(FunctionName="failing", WaiterConfig={"Delay": 0.05})
    assert lambda_.invoke(FunctionName="failing")["Payload"].read() == b'"mended"'


def test_a_version_may_fail(aws: control.Running) -> None:
    make_function(aws, "unpublished", HANDLER)
    lambda_ = client(aws, "lambda")
    trouble(aws, "fail", "lambda:PublishVersion", times=1)
    lambda_.publish_version(FunctionName="unpublished")
    assert lambda_.get_function_configuration(FunctionName="unpublished", Qualifier="1")["State"] == "Failed"
    with pytest.raises(ClientError, match="currently in the following state: Failed"):
        lambda_.invoke(FunctionName="unpublished", Qualifier="1")
    assert lambda_.publish_version(FunctionName="unpublished")["Version"] == "2"


def test_waits_pass_faster_also_those_under_way(aws: control.Running) -> None:
    lambda_ = client(aws, "lambda")
    trouble(aws, "stuck", "lambda:UpdateFunctionConfiguration", seconds=3600)
    lambda_.update_function_configuration(FunctionName="f", Timeout=8)
    control.chaos(aws, "POST", clock=36_000)
    until(
        lambda: lambda_.get_function_configuration(FunctionName="f")["LastUpdateStatus"] == "Successful",
        "an hour has passed",
    )


def test_an_event_that_waits_to_be_tried_again_is_hurried_too(aws: control.Running) -> None:
    """AWS waits a minute, then two."""
    make_function(aws, "never", "def handler(event, context): raise ValueError('always')")

    def attempts() -> int:
        return sum(line.message.startswith("START") for line in control.log_events(aws, "never"))

    client(aws, "lambda").invoke(FunctionName="never", InvocationType="Event")
    until(lambda: attempts() == 1, "the first attempt")
    control.chaos(aws, "POST", clock=600)
    until(lambda: attempts() == 3, "the others")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"rules": [{"kind": "bad luck"}]}, "bad luck"),
        ({"rules": [{"kind": "drop", "only": ["lambda:UpdateAlia"]}]}, "did you mean UpdateAlias"),
        ({"rules": [{"kind": "error", "status": 200}]}, "500"),
        ({"clock": 0}, "clock"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(aws: control.Running, asked: Any, said: str) -> None:
    before = control.chaos(aws)
    with pytest.raises(control.LocalAwsError, match=said):
        control.chaos(aws, "PUT", **asked)
    assert control.chaos(aws) == before


def test_trouble_outlives_a_restart(tmp_path: Path) -> None:
    running = control.up(tmp_path / "aws")
    control.chaos(running, "PUT", rules=[{"kind": "error", "only": ["sts"]}], clock=60)
    control.down(tmp_path / "aws")
    again = control.up(tmp_path / "aws")
    found = control.chaos(again)
    assert ([rule["kind"] for rule in found["rules"]], found["clock"]) == (["error"], 60)
    with pytest.raises(ClientError, match="InternalFailure"):
        client(again, "sts").get_caller_identity()
    control.down(tmp_path / "aws")
