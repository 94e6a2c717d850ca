"""A real local AWS in a process of its own, and clients for it."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from pointsman.localaws import control

Client = Callable[..., Any]

TRUST = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow",'
    '"Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}'
)


# One for all clients: each session reads anew what there is to know of a service, which takes longer than most tests.
SESSION = boto3.session.Session()
MAKING = threading.Lock()  # a session is not for several threads at once; its clients are


def client(running: control.Running, service: str, *, region: str = "eu-west-1", **more: Any) -> Any:
    given = {"aws_access_key_id": control.ACCOUNT, "aws_secret_access_key": "local"} | more
    config = Config(retries={"total_max_attempts": 1}, read_timeout=60)
    with MAKING:
        return SESSION.client(service, endpoint_url=running.url, region_name=region, config=config, **given)


def package(source: str, name: str = "index.py") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, source)
    return packed.getvalue()


def until(holds: Callable[[], Any], what: str, within_s: float = 60.0) -> Any:
    """Ask again until it holds."""
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)
    return found


def make_function(running: control.Running, name: str, source: str, **more: Any) -> str:
    """A Python function, ready; its ARN."""
    iam, lambda_ = client(running, "iam"), client(running, "lambda")
    if not any(role["RoleName"] == "role" for role in iam.list_roles()["Roles"]):
        iam.create_role(RoleName="role", AssumeRolePolicyDocument=TRUST)
    given = {"Runtime": "python3.11", "Handler": "index.handler", "Code": {"ZipFile": package(source)}} | more
    made = lambda_.create_function(FunctionName=name, Role=f"arn:aws:iam::{control.ACCOUNT}:role/role", **given)
    lambda_.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
    return str(made["FunctionArn"])


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.Running]:
    directory: Path = tmp_path_factory.mktemp("aws")
    running = control.up(directory, settle_s=0.05)
    yield running
    control.down(directory)


@pytest.fixture(scope="session")
def connect(aws: control.Running) -> Client:
    """connect(service, region=…) → a boto3 client of the session's local AWS."""
    return lambda service, **more: client(aws, service, **more)
