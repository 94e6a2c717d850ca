"""CloudTrail's event history of the local AWS: who changed what of Lambda, found as on AWS."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pointsman.localaws import control
from pointsman.localaws.contract import Request, Response
from pointsman.localaws.trail import NAMES, Trail
from tests.fakes import FakeClock
from tests.localaws.conftest import client, make_function

HANDLER = "def handler(event, context):\n    return 1\n"


def events(running: control.Running, **more: Any) -> list[dict[str, Any]]:
    pages = client(running, "cloudtrail").get_paginator("lookup_events").paginate(**more)
    return [each for page in pages for each in page["Events"]]


def named(name: str) -> list[dict[str, str]]:
    return [{"AttributeKey": "EventName", "AttributeValue": name}]


def test_what_changed_a_function_is_found_with_who_and_what_newest_first(aws: control.Running) -> None:
    name, lambda_ = f"traced-{uuid.uuid4().hex[:8]}", client(aws, "lambda")
    make_function(aws, name, HANDLER, Publish=True)
    lambda_.create_alias(FunctionName=name, Name="PROD", FunctionVersion="1", Description="one")
    lambda_.update_alias(FunctionName=name, Name="PROD", FunctionVersion="$LATEST")
    with pytest.raises(ClientError):
        lambda_.update_alias(FunctionName=name, Name="PROD", FunctionVersion="99")
    lambda_.get_alias(FunctionName=name, Name="PROD")
    lambda_.delete_alias(FunctionName=name, Name="PROD")

    found = [each for each in events(aws) if name in each["CloudTrailEvent"]]

    assert [each["EventName"] for each in found] == [
        *("DeleteAlias20150331", "UpdateAlias20150331", "UpdateAlias20150331", "CreateAlias20150331"),
        "CreateFunction20150331",
    ]
    gone, refused, moved, made, created = (json.loads(each["CloudTrailEvent"]) for each in found)
    assert gone["responseElements"] is None
    assert refused["errorCode"] == "ResourceNotFoundException"
    assert moved["requestParameters"] == {"functionName": name, "name": "PROD", "functionVersion": "$LATEST"}
    assert made["responseElements"]["functionVersion"] == "1"
    assert made["responseElements"]["aliasArn"].endswith(f":function:{name}:PROD")
    assert made["userIdentity"]["arn"] == f"arn:aws:iam::{control.ACCOUNT}:root"
    assert created["responseElements"]["version"] == "1"
    assert "code" not in created["requestParameters"]
    assert {each["Username"] for each in found} == {"root"}
    assert {each["Resources"][0]["ResourceName"] for each in found} == {name}


def test_who_acts_in_a_role_is_named_by_the_session(aws: control.Running) -> None:
    name = f"traced-{uuid.uuid4().hex[:8]}"
    make_function(aws, name, HANDLER)
    keys = client(aws, "sts").assume_role(
        RoleArn=f"arn:aws:iam::{control.ACCOUNT}:role/role", RoleSessionName="anna@ci"
    )["Credentials"]
    theirs = client(
        aws,
        "lambda",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    theirs.publish_version(FunctionName=name)

    (found,) = [
        each
        for each in events(aws, LookupAttributes=named(NAMES["PublishVersion"]))
        if each["Resources"][0]["ResourceName"] == name
    ]

    assert found["Username"] == "anna@ci"
    assert json.loads(found["CloudTrailEvent"])["userIdentity"]["type"] == "AssumedRole"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"LookupAttributes": [*named("a"), *named("b")]}, "InvalidLookupAttributesException"),
        ({"NextToken": "nonsense"}, "InvalidNextTokenException"),
        ({"StartTime": 2000, "EndTime": 1000}, "InvalidTimeRangeException"),
    ],
)
def test_what_cloudtrail_refuses_is_refused(aws: control.Running, given: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as refused:
        client(aws, "cloudtrail").lookup_events(**given)

    assert refused.value.response["Error"]["Code"] == code


# The trail itself


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def trail(tmp_path: Path, clock: FakeClock) -> Iterator[Trail]:
    made = Trail(tmp_path / "trail.db", clock.now)
    yield made
    made.close()


def call(trail: Trail, number: int, *, region: str = "eu-west-1", account: str = "1" * 12) -> None:
    path = f"/2015-03-31/functions/f{number}/versions"
    answer = Response(201, json.dumps({"Version": str(number)}).encode(), {"x-amzn-requestid": "r"})
    trail.record(Request("POST", path, {}, {}, b"{}", account, region), answer, "KEY")


def looked_up(trail: Trail, **given: Any) -> dict[str, Any]:
    answer = trail.answer("1" * 12, "eu-west-1", json.dumps(given).encode())
    return json.loads(answer.body)  # type: ignore[no-any-return]


def test_pages_of_fifty_lead_through_all_once(trail: Trail) -> None:
    for number in range(120):
        call(trail, number)
    seen: list[str] = []
    given: dict[str, Any] = {}
    sizes = []
    while True:
        page = looked_up(trail, **given)
        sizes.append(len(page["Events"]))
        seen += [each["Resources"][0]["ResourceName"] for each in page["Events"]]
        if "NextToken" not in page:
            break
        given["NextToken"] = page["NextToken"]

    assert sizes == [50, 50, 20]
    assert seen == [f"f{number}" for number in reversed(range(120))]


def test_accounts_and_regions_are_apart_and_ninety_days_is_all(trail: Trail, clock: FakeClock) -> None:
    call(trail, 1)
    call(trail, 2, region="us-east-1")
    call(trail, 3, account="2" * 12)
    assert [each["Resources"][0]["ResourceName"] for each in looked_up(trail)["Events"]] == ["f1"]

    clock.sleep(90 * 86_400 + 1)
    assert looked_up(trail)["Events"] == []


def test_a_stretch_of_time_is_in_whole_seconds_both_ends_counted(trail: Trail, clock: FakeClock) -> None:
    for number in range(4):
        call(trail, number)
        clock.sleep(10)
    begin = 1_700_000_010

    found = looked_up(trail, StartTime=begin, EndTime=begin + 10)

    assert [each["Resources"][0]["ResourceName"] for each in found["Events"]] == ["f2", "f1"]


def test_it_is_there_after_a_restart(tmp_path: Path, trail: Trail, clock: FakeClock) -> None:
    call(trail, 7)

    again = Trail(tmp_path / "trail.db", clock.now)

    assert len(looked_up(again)["Events"]) == 1
    again.close()
