"""One Chromium for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboard import browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.started(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium.page()
