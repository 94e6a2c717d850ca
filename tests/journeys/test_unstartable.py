"""What cannot start is told before AWS is asked: by a build, and by a deploy before its first write."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from pointsman import building, preflight
from pointsman.errors import BuildFailed
from pointsman.world import Session
from tests.fakes import FakeClock
from tests.journeys.conftest import Shop, control_runtime


def with_runtime(shop: Shop, runtime: str) -> None:
    text = (shop.folder / "pointsman.toml").read_text()
    shop.write("pointsman.toml", text.replace(f'"{control_runtime()}"', f'"{runtime}"'))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def handle(event, context): ...", 'handler = "index.handler" is not in index.py: it defines no handler'),
        (None, 'handler = "index.handler" is looked for in index.py, and that is not in the package'),
    ],
)
def test_a_build_says_that_there_is_no_such_handler(shop: Shop, code: str | None, says: str) -> None:
    (shop.folder / "index.py").rename(shop.folder / "other.py")
    if code:
        shop.write("index.py", code)

    answer = shop.run("build", "--list")

    assert answer.code != 0
    assert says in answer.err
    assert "other.py" in answer.out  # the list tells why


def test_a_runtime_of_next_year_is_tried_after_a_warning_and_a_refusal_says_what_to_do(shop: Shop) -> None:
    """This Pointsman cannot know what AWS has by then."""
    with_runtime(shop, "python3.99")

    answer = shop.run("deploy", "--build-id", "1")

    assert answer.code != 0
    warned, refused = (
        answer.err.index("warning: function.greeting.runtime: python3.99 is not"),
        answer.err.index("enum"),
    )
    assert warned < refused
    assert "Correct `runtime` of the function in pointsman.toml. AWS lists those it has: https://" in answer.err


@pytest.mark.parametrize(
    ("runtime", "local", "is_refused"),
    [
        ("python2.7", False, True),
        ("nodejs21.x", False, True),
        ("python2.7", True, False),  # a rehearsal runs what this machine has
        ("python3.9", False, False),  # its last day was still ahead when the table was read, and may have been moved
    ],
)
def test_only_a_runtime_that_is_surely_blocked_is_refused(runtime: str, *, local: bool, is_refused: bool) -> None:
    """Without an AWS: on the local one nothing is blocked."""
    made = building.of_image("greeting", "1.dkr.ecr.eu-west-1.amazonaws.com/it", "0" * 64)
    session = SimpleNamespace(
        function=SimpleNamespace(name="greeting", runtime=runtime),
        world=SimpleNamespace(clock=FakeClock(1_900_000_000.0), local=local),
        warnings=[],
    )

    try:
        preflight.check(cast("Session", session), made)
    except BuildFailed as refused:
        assert is_refused
        assert refused.where == "function.greeting.runtime"
        assert refused.next
    else:
        assert not is_refused
        assert session.warnings[0].startswith(
            f"function.greeting.runtime: AWS refuses to update functions with {runtime}"
        )
