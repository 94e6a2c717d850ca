"""Whose credentials a CI job uses: the job's own, and no role is assumed a second time."""

from __future__ import annotations

import os

import pytest

from pointsman.aws.wire import Wire
from pointsman.errors import CredentialsRefused

ROLE = "arn:aws:iam::123456789012:role/deployer"


@pytest.fixture(autouse=True)
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with keys in its variables, and nobody's configuration."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name == "CI":
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDJOB",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # nobody answers: who asks is found out
    }.items():
        monkeypatch.setenv(name, value)


def test_a_profile_that_a_ci_machine_lacks_is_the_jobs_own_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CredentialsRefused, match="prod"):
        Wire(profile="prod").environment()

    monkeypatch.setenv("CI", "true")
    assert Wire(profile="prod").environment()["AWS_ACCESS_KEY_ID"] == "AKIDJOB"


def test_the_role_that_a_job_signed_in_as_is_not_assumed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)

    assert Wire(role_arn=ROLE).environment()["AWS_ACCESS_KEY_ID"] == "AKIDJOB"
