"""A real local AWS for those tests that need one: a process that all tests of a worker share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pointsman.localaws import control


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.Running]:
    directory = tmp_path_factory.mktemp("local-aws")
    yield control.up(directory, settle_s=0.02)
    control.down(directory)
