"""A store in a folder and in S3: whole or not there, compared with its digest, and never written over unseen."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from pointsman.aws.backups import fetch
from pointsman.aws.gateway import Gateway
from pointsman.aws.wire import Wire
from pointsman.errors import Ambiguous, BackupFailed, NotFound, Unreachable
from pointsman.localaws import control
from pointsman.vault import Changed, Vault, digest_of, sha256_of
from pointsman.vault.bucket import Bucket
from pointsman.vault.contents import inspect
from pointsman.vault.folder import Folder
from tests.fakes import Watched

NAME = "functions/123456789012/eu-west-1/greeting.json"


@pytest.fixture
def actions() -> list[str]:
    return []


@pytest.fixture(params=["folder", "bucket"])
def vault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, actions: list[str]) -> Vault:
    if request.param == "folder":
        return Vault(Folder(tmp_path / "kept"))
    return Vault(in_s3(request.getfixturevalue("local_aws"), monkeypatch, actions.append))


def in_s3(aws: control.Running, monkeypatch: pytest.MonkeyPatch, look: Callable[[str], None]) -> Bucket:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in control.environment(aws, region="eu-west-1").items():
        monkeypatch.setenv(name, value)
    bucket = "b" + os.urandom(8).hex()
    s3 = boto3.client("s3", region_name="eu-west-1")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return Bucket(
        Gateway(Watched(Wire(region="eu-west-1"), look)), bucket, "/lambda/", sealed={}, say=lambda _line: None
    )


def a_package(folder: Path, content: bytes = b"zip") -> Path:
    path = folder / "package.zip"
    path.write_bytes(content)
    return path


def test_a_package_comes_back_and_is_listed(vault: Vault, tmp_path: Path) -> None:
    path = a_package(tmp_path, os.urandom(9_000_000))  # in S3 in two parts
    sha256 = sha256_of(digest_of(path))

    vault.put_package(sha256, path)
    vault.put_package(sha256, path)  # again does no harm
    vault.fetch_package(sha256, tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert vault.packages() == {sha256.hex: 9_000_000}
    assert vault.damage(sha256, tmp_path / "scratch") == ""


def test_what_is_not_what_its_digest_says_is_not_put_there(vault: Vault, tmp_path: Path) -> None:
    other = sha256_of(digest_of(a_package(tmp_path, b"other")))

    with pytest.raises(BackupFailed, match="is damaged"):
        vault.put_package(other, a_package(tmp_path))
    assert vault.packages() == {}


def test_a_missing_package_and_a_flipped_byte_are_told(vault: Vault, tmp_path: Path) -> None:
    path = a_package(tmp_path)
    sha256 = sha256_of(digest_of(path))

    assert "is missing" in vault.damage(sha256, tmp_path / "scratch")
    vault.shelf.put(vault.package(sha256), a_package(tmp_path, b"zap"))
    assert "is damaged: its SHA-256 is" in vault.damage(sha256, tmp_path / "scratch")
    with pytest.raises(BackupFailed, match="is damaged"):
        vault.fetch_package(sha256, tmp_path / "back")


def test_a_document_is_replaced_only_as_it_was_read(vault: Vault) -> None:
    assert vault.read(NAME) is None
    vault.replace(NAME, b"one", None)
    with pytest.raises(Changed):
        vault.replace(NAME, b"two", None)

    found = vault.read(NAME)
    assert found is not None
    assert found[0] == b"one"
    vault.replace(NAME, b"two", found[1])
    with pytest.raises(Changed):
        vault.replace(NAME, b"three", found[1])
    assert [each.name for each in vault.items("functions")] == [NAME]


def test_a_bucket_that_is_not_there_is_named(local_aws: control.Running, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = in_s3(local_aws, monkeypatch, lambda _action: None)
    shelf.bucket = "nobodys-bucket"

    with pytest.raises(NotFound) as told:
        Vault(shelf).packages()
    assert "There is no bucket nobodys-bucket" in told.value.next


def test_a_lost_answer_to_a_document_is_asked_after(
    local_aws: control.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 has it, and the connection broke: writing it again would say that somebody else was faster."""
    shelf = in_s3(local_aws, monkeypatch, lambda _action: None)
    wire = Wire(region="eu-west-1")

    class Lost:
        def send(self, operation):  # type: ignore[no-untyped-def]
            reply = wire.send(operation)
            if operation.action == "PutObject":
                raise Ambiguous("connection closed before the answer")
            return reply

    shelf.gateway = Gateway(Lost())
    shelf.replace(NAME, b"one", None)
    assert shelf.read(NAME) is not None


def test_s3_is_told_the_key_to_encrypt_with(local_aws: control.Running, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = in_s3(local_aws, monkeypatch, lambda _action: None)
    shelf.sealed = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/lambda-backup"}

    shelf.replace(NAME, b"one", None)

    head = boto3.client("s3", region_name="eu-west-1").head_object(Bucket=shelf.bucket, Key=f"lambda/{NAME}")
    assert head["ServerSideEncryption"] == "aws:kms"


# A folder


def test_what_a_killed_run_left_half_written_is_not_there(tmp_path: Path) -> None:
    vault = Vault(Folder(tmp_path / "kept"))
    path = a_package(tmp_path)
    vault.put_package(sha256_of(digest_of(path)), path)
    (tmp_path / "kept" / "packages" / ".part-x").write_bytes(b"ha")

    assert len(vault.packages()) == 1


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "kept")
    folder.replace(NAME, b"one", None)

    with pytest.raises(BackupFailed):
        folder.put(NAME, tmp_path / "nothing")
    (tmp_path / "kept" / NAME).parent.chmod(0o700)
    assert folder.read(NAME) is not None
    assert [path.name for path in (tmp_path / "kept" / NAME).parent.iterdir()] == ["greeting.json"]


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    """Environment variables may be secrets."""
    vault = Vault(Folder(tmp_path / "kept"))
    path = a_package(tmp_path)
    vault.put_package(sha256_of(digest_of(path)), path)
    vault.replace(NAME, b"{}", None)

    for each in (tmp_path / "kept").rglob("*"):
        assert stat.S_IMODE(each.stat().st_mode) & 0o077 == 0, each


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "kept")

    for name in ("../outside", "/etc/passwd", "functions/../../outside"):
        with pytest.raises(BackupFailed, match="no name in a backup"):
            folder.read(name)


# Zips that somebody else made


def a_zip(path: Path, *members: tuple[str, bytes], links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(info, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            zipped.writestr(info, target)
    return path


def test_an_ordinary_package_passes(tmp_path: Path) -> None:
    links = {"node_modules/.bin/tsc": "../typescript/bin/tsc", "bin": "/opt/bin", "a/b": "../c"}
    inspect(a_zip(tmp_path / "a.zip", ("index.js", b"x"), ("node_modules/typescript/bin/tsc", b"y"), links=links))


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "a/../../b", "..\\x", "C:/x", "\\x"])
def test_a_member_that_leads_out_of_the_package_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BackupFailed, match="leads out of the package"):
        inspect(a_zip(tmp_path / "a.zip", (name, b"x")))


@pytest.mark.parametrize("target", ["../../etc/passwd", "/etc/passwd", "/opt/../etc/shadow"])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(BackupFailed, match="leads out of the package, to"):
        inspect(a_zip(tmp_path / "a.zip", ("index.js", b"x"), links={"a/link": target}))


def test_a_bomb_is_not_let_go_off(tmp_path: Path) -> None:
    """300 MB of zeros in 1 MB: counted as it is unpacked, to nowhere, and given up at Lambda's limit."""
    bomb = tmp_path / "a.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        for name in "abc":
            zipped.writestr(name, bytes(100_000_000))

    with pytest.raises(BackupFailed, match="larger than 262,144,000 bytes"):
        inspect(bomb)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="cannot be read"):
        inspect(a_package(tmp_path, b"not a zip"))
    torn = a_zip(tmp_path / "a.zip", ("a", os.urandom(5000)))
    content = bytearray(torn.read_bytes())
    content[2000] ^= 1
    torn.write_bytes(content)
    with pytest.raises(BackupFailed, match="cannot be read"):
        inspect(torn)


# Signed addresses


def test_an_address_is_never_told(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as told:
        fetch("http://127.0.0.1:9/code?X-Amz-Signature=secret", "the code of greeting:1", tmp_path / "x", 10)
    assert "secret" not in str(told.value)
    with pytest.raises(Unreachable, match="no address"):
        fetch("file:///etc/passwd", "the code of greeting:1", tmp_path / "x", 10)
