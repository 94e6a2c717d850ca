"""What a new alias is given, and what it cannot be given."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.belongings import describe, like, preview
from pointsman.model import AliasName, Belongings, EventSource, Permission, Url

TOPIC, STAGE = AliasName("topic"), AliasName("STAGE")
ALL = ("policy", "event-invoke", "event-sources", "provisioned-concurrency")


def permission(name: str, beyond: str = "", **given: Any) -> Permission:
    parameters = {"StatementId": name, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com", **given}
    return Permission(id=name, parameters=parameters, beyond=beyond)


def told(has: Belongings, *, present: Belongings | None = None, copy: tuple[str, ...] = ALL) -> list[str]:
    made = like(TOPIC, STAGE, has, present or Belongings(), copy)
    return [describe(step) for step in made.steps] + list(made.notes)


def test_only_the_kinds_asked_for_are_copied() -> None:
    source = EventSource(uuid="u", source="arn:aws:sqs:eu-west-1:1:q", settings={"EventSourceArn": "q"}, enabled=True)
    has = Belongings(
        permissions=(permission("s3"),), events={"MaximumRetryAttempts": 0}, sources=(source,), provisioned=2
    )

    assert told(has, copy=()) == []
    assert told(has) == [
        "permit s3.amazonaws.com lambda:InvokeFunction on topic (as STAGE has)",
        "configure asynchronous calls of topic: MaximumRetryAttempts (as STAGE has)",
        "map q to topic, disabled (as STAGE has)",
        "keep 2 environments ready for topic (as STAGE has)",
    ]
    assert told(has, present=has) == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (permission("x", "it denies"), "it denies"),
        (permission("x", FunctionUrlAuthType="NONE"), "it is for its function URL"),
        (permission("x", InvokedViaFunctionUrl=True), "it is for its function URL"),
        (permission("x", SourceArn="arn:aws:execute-api:eu-west-1:1:abc/prod/GET/x"), "the stage prod of an API"),
    ],
)
def test_what_cannot_be_carried_over_is_said(given: Permission, why: str) -> None:
    (note,) = told(Belongings(permissions=(given,)))

    assert note.startswith("permission x of STAGE is not carried over: ")
    assert note.endswith(why)


@pytest.mark.parametrize("stage", ["*", "$default"])
def test_a_permission_for_every_stage_is_carried_over(stage: str) -> None:
    source = f"arn:aws:execute-api:eu-west-1:1:abc/{stage}/GET/x"

    assert told(Belongings(permissions=(permission("x", SourceArn=source),))) == [
        f"permit s3.amazonaws.com lambda:InvokeFunction on topic for {source} (as STAGE has)"
    ]


def test_a_stream_is_read_from_now_on_and_kafka_is_not_copied() -> None:
    stream = EventSource(
        uuid="u", source="arn:aws:kinesis:eu-west-1:1:stream/s", enabled=True,
        settings={"EventSourceArn": "s", "StartingPosition": "TRIM_HORIZON"},
    )  # fmt: skip
    kafka = EventSource(uuid="k", source="arn:aws:kafka:eu-west-1:1:cluster/c", settings={}, enabled=True)

    made = like(TOPIC, STAGE, Belongings(sources=(stream, kafka)), Belongings(), ALL)

    assert [step.settings["StartingPosition"] for step in made.steps] == ["LATEST"]  # type: ignore[union-attr]
    assert "cluster/c of STAGE is not carried over" in made.notes[0]


IAM, NONE = Url(url="u", auth="AWS_IAM"), Url(url="u", auth="NONE")


@pytest.mark.parametrize(
    ("auth", "present", "steps"),
    [
        ("", None, []),
        ("AWS_IAM", IAM, []),
        ("NONE", NONE, []),
        ("AWS_IAM", None, ["GiveUrl"]),
        ("NONE", None, ["GrantPermission", "GrantPermission", "GiveUrl"]),
        ("NONE", IAM, ["GrantPermission", "GrantPermission", "ChangeUrl"]),
        ("AWS_IAM", NONE, ["ChangeUrl", "RevokePermission", "RevokePermission"]),
        ("", IAM, ["RemoveUrl"]),
        ("", NONE, ["RemoveUrl", "RevokePermission", "RevokePermission"]),
    ],
)
def test_a_preview_is_open_only_once_it_may_be_and_shut_first(auth: str, present: Url | None, steps: list[str]) -> None:
    made = preview(TOPIC, auth, present).steps

    assert [type(step).__name__ for step in made] == steps
