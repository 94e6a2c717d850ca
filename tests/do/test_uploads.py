"""Packages on their way to S3, against the local AWS: sent once, compared, gone on with, and never half there."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from pointsman.aws.gateway import Gateway
from pointsman.aws.wire import Wire
from pointsman.errors import Ambiguous, NotFound
from pointsman.localaws import control
from pointsman.provision.uploads import PART, store
from tests.fakes import Watched

KEY = "pointsman/greeting/0123.zip"


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.Running]:
    directory = tmp_path_factory.mktemp("aws")
    yield control.up(directory)
    control.down(directory)


class Door:
    """A bucket, and a gateway whose calls are noted; `at` is raised in the place of the call of that number."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.actions: list[str] = []
        self.said: list[str] = []
        self.at: dict[tuple[str, int], BaseException] = {}
        self.lock = threading.Lock()
        self.gateway = Gateway(Watched(Wire(region="eu-west-1"), self.look))
        self.s3 = boto3.client("s3", region_name="eu-west-1")
        self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def look(self, action: str) -> None:
        with self.lock:
            self.actions.append(action)
            if error := self.at.pop((action, self.actions.count(action)), None):
                raise error

    def store(self, content: bytes | Path, key: str = KEY) -> list[str]:
        """The calls that it took."""
        self.actions.clear()
        self.said.clear()
        store(self.gateway, self.bucket, key, content, self.said.append)
        return list(self.actions)

    def body(self, key: str = KEY) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())


@pytest.fixture
def door(aws: control.Running, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Door:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in control.environment(aws, region="eu-west-1").items():
        monkeypatch.setenv(name, value)
    return Door("b" + os.urandom(8).hex())


def test_what_is_there_is_not_sent_again(door: Door) -> None:
    assert door.store(b"zip") == ["HeadObject", "PutObject"]
    assert door.store(b"zip") == ["HeadObject"]
    assert door.said == [f"s3://{door.bucket}/{KEY} is there already"]


@pytest.mark.parametrize("length", [1000, PART + 1000])
@pytest.mark.parametrize("with_checksum", [True, False])
def test_another_object_under_the_name_is_replaced(door: Door, length: int, with_checksum: bool) -> None:
    """Of equal length, so that only the digest tells: Lambda would run what lies there."""
    body = os.urandom(length)
    more = {"ChecksumAlgorithm": "SHA256"} if with_checksum else {}
    door.s3.put_object(Bucket=door.bucket, Key=KEY, Body=body[:-1] + bytes([body[-1] ^ 1]), **more)

    door.store(body)

    assert door.body() == body


def test_a_key_by_anothers_digest_is_believed(door: Door) -> None:
    door.s3.put_object(Bucket=door.bucket, Key="cdk-hash.zip", Body=b"as the CDK zips it")

    assert door.store(b"as we do", key="cdk-hash.zip") == ["HeadObject"]


def test_a_large_file_goes_up_in_parts_with_its_progress_told(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(os.urandom(2 * PART + 1000))

    calls = door.store(path)

    assert sorted(calls) == sorted(
        [
            *("HeadObject", "ListMultipartUploads", "CreateMultipartUpload"),
            *["UploadPart"] * 3,
            "CompleteMultipartUpload",
        ]
    )
    assert door.body() == path.read_bytes()
    assert door.said[0] == f"uploading 16.8 MB to s3://{door.bucket}/{KEY}"
    assert door.said[-1] == "uploading [####################] 100% of 16.8 MB"
    assert re.fullmatch(r"uploading \[[#.]{20}\] \d+% of 16.8 MB, \d+ s left", door.said[-2])
    assert len(door.said) == 4
    assert door.store(path) == ["HeadObject"], "known by its parts' digests"


class Killed(BaseException):
    pass


def test_a_killed_upload_is_gone_on_with(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(os.urandom(5 * PART + 1000))
    door.at = {("UploadPart", 3): Killed()}
    with pytest.raises(Killed):
        door.store(path)
    sent = door.actions.count("UploadPart") - 1
    assert door.s3.list_objects_v2(Bucket=door.bucket)["KeyCount"] == 0, "nothing half"

    calls = door.store(path)

    assert calls.count("UploadPart") == 6 - sent
    assert "CreateMultipartUpload" not in calls
    assert door.body() == path.read_bytes()
    assert "Uploads" not in door.s3.list_multipart_uploads(Bucket=door.bucket)


def test_parts_of_something_else_are_not_taken(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(os.urandom(PART + 1000))
    upload = door.s3.create_multipart_upload(Bucket=door.bucket, Key=KEY, ChecksumAlgorithm="SHA256")["UploadId"]
    door.s3.upload_part(Bucket=door.bucket, Key=KEY, UploadId=upload, PartNumber=1, Body=bytes(PART))

    assert door.store(path).count("UploadPart") == 2
    assert door.body() == path.read_bytes()


def test_a_lost_answer_is_asked_after_or_sent_again(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(os.urandom(2 * PART))
    lost = Ambiguous("no answer")
    door.at = {("PutObject", 1): lost, ("UploadPart", 2): lost}

    assert door.store(b"small", key="pointsman/small.zip") == ["HeadObject", "PutObject", "HeadObject", "PutObject"]
    assert door.store(path).count("UploadPart") == 3
    assert door.body() == path.read_bytes()


def test_a_bucket_that_is_not_there_is_named(door: Door) -> None:
    door.bucket = "nowhere-" + door.bucket

    with pytest.raises(NotFound, match=rf"There is no bucket {door.bucket} for these credentials. Make it, or correct"):
        door.store(b"zip")
