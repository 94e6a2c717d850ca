"""Where the conformance suite runs: our Lambda behind a small server by default, or a witness.

POINTSMAN_CONFORM_ENDPOINT=http://…   another server's Lambda (the credentials and region are then the environment's)
POINTSMAN_CONFORM_AWS=1               Lambda on AWS itself
POINTSMAN_CONFORM_ROLE, _RUNTIME      a role its functions may have; a Python runtime it has
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pointsman.localaws.lambda_ import LambdaService, LambdaState
from pointsman.localaws.lambda_.store import Fate
from tests.conform.local_lambda import (
    ACCOUNT,
    ENDPOINT,
    HERE,
    HttpServer,
    InProcess,
    NamedSources,
    client_of,
    find_network,
    image_digest,
    package,
    read_object,
    settle,
)


@pytest.fixture(scope="session")
def executor() -> InProcess:
    return InProcess()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, executor: InProcess) -> Iterator[tuple[LambdaState, str]]:
    """Our Lambda and the URL it is served at."""
    directory: Path = tmp_path_factory.mktemp("lambda")
    state = LambdaState(
        directory,
        runtimes=executor.runtimes,
        role_exists=lambda account, role: not role.endswith("/nobody"),
        read_object=read_object,
        url_of=lambda url_id, _region: f"{server.url}/_url/{url_id}/",
        image_digest=image_digest,
        find_network=find_network,
    )
    state.sources = NamedSources()
    server = HttpServer(LambdaService(state, executor))
    yield state, server.url
    server.close()
    state.close()


@pytest.fixture(scope="session")
def endpoint(request: pytest.FixtureRequest) -> str | None:
    return str(request.getfixturevalue("served")[1]) if HERE else ENDPOINT


@pytest.fixture
def held(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[None]]:
    """What begins within does not end before it. A witness has its own pace: there it holds nothing."""
    if not HERE:
        return nullcontext
    state, _ = request.getfixturevalue("served")

    @contextmanager
    def hold() -> Iterator[None]:
        usual, state.fate = state.fate, lambda _operation, _seconds: Fate(math.inf)
        try:
            yield
        finally:
            state.fate = usual
            state.release()

    return hold


@pytest.fixture(scope="session")
def lambda_client(endpoint: str | None) -> Iterator[Any]:
    client = client_of("lambda", endpoint)
    yield client
    client.close()


@pytest.fixture(scope="session")
def account(endpoint: str | None) -> str:
    return ACCOUNT if HERE else str(client_of("sts", endpoint).get_caller_identity()["Account"])


@pytest.fixture(scope="session")
def region(lambda_client: Any) -> str:
    return str(lambda_client.meta.region_name)


@pytest.fixture(scope="session")
def role(account: str) -> str:
    return os.environ.get("POINTSMAN_CONFORM_ROLE", f"arn:aws:iam::{account}:role/conform")


@pytest.fixture(scope="session")
def runtime() -> str:
    return os.environ.get("POINTSMAN_CONFORM_RUNTIME", "python3.11")


@pytest.fixture
def function(lambda_client: Any, role: str, runtime: str) -> Iterator[Callable[..., str]]:
    """Create a function (parameters as CreateFunction's) and wait until it is active; gone after the test."""
    made: list[str] = []

    def create(**parameters: Any) -> str:
        name = f"conform-{uuid4().hex[:12]}"
        given = {"Role": role, "Runtime": runtime, "Handler": "index.handler", "Code": {"ZipFile": package()}}
        lambda_client.create_function(FunctionName=name, **(given | parameters))
        made.append(name)
        settle(lambda_client, name)
        return name

    yield create
    for name in made:
        with suppress(lambda_client.exceptions.ResourceNotFoundException):  # the test deleted it
            lambda_client.delete_function(FunctionName=name)
