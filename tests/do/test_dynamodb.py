"""DynamoDB's refusals become ours: lost a race, too busy, not there."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pointsman import errors
from pointsman.aws.dynamodb import Table
from pointsman.aws.wire import Wire
from tests.do.test_wire import Answering


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    made = Answering()
    given = {"ENDPOINT_URL": made.url, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "REGION": "eu-west-1"}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    yield made
    made.close()


def refuses(aws: Answering, status: int, code: str, message: str) -> None:
    said = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
    aws.answer = (status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(said).encode())


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("ConditionalCheckFailedException", "The conditional request failed", errors.PreconditionFailed),
        ("TransactionCanceledException", "[None, ConditionalCheckFailed]", errors.PreconditionFailed),
        ("TransactionCanceledException", "[ThrottlingError]", errors.Throttled),
        ("TransactionCanceledException", "[TransactionConflict]", errors.Conflict),
        ("TransactionConflictException", "ongoing", errors.Conflict),
        ("ProvisionedThroughputExceededException", "slower", errors.Throttled),
        ("RequestLimitExceeded", "slower", errors.Throttled),
        ("ThrottlingException", "slower", errors.Throttled),
        ("ResourceNotFoundException", "no table", errors.NotFound),
        ("ResourceInUseException", "being created", errors.Conflict),
        ("ValidationException", "Item size has exceeded", errors.InvalidRequest),
    ],
)
def test_a_refusal_is_told_apart(aws: Answering, code: str, message: str, kind: type[errors.AwsError]) -> None:
    refuses(aws, 400, code, message)

    with pytest.raises(errors.AwsError) as told:
        Table(Wire(), "team").put({"ledger": "a", "key": "b"})
    assert type(told.value) is kind


def test_a_servers_error_leaves_open_whether_it_was_written(aws: Answering) -> None:
    refuses(aws, 500, "InternalServerError", "once more")

    with pytest.raises(errors.Ambiguous):
        Table(Wire(), "team").put({"ledger": "a", "key": "b"})


def test_the_answer_to_a_read_is_checked_to_be_one(aws: Answering) -> None:
    aws.answer = (200, {"Content-Type": "text/html"}, b"<html>sign in</html>")

    with pytest.raises(errors.Ambiguous):
        list(Table(Wire(), "team").rows("a", "b", "c"))
