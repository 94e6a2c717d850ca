"""The window holds deploys and promotions, never a rollback."""

from __future__ import annotations

from tests.journeys.conftest import Shop

NEVER = 'window = { freeze = ["2000-01-01..2099-12-31"] }\n'  # frozen for as long as anybody runs this


def test_a_shut_window_refuses_before_anything_is_written(shop: Shop) -> None:
    shop.configure(more=NEVER)
    build = ("deploy", "--to", "PROD", "--build-id", "101", "--approve")

    refused = shop.run(*build)
    assert refused.code == 3
    assert "is a day without moves" in refused.err
    assert shop.alias("PROD") is None

    shop.ok(*build, "--outside-window")
    assert shop.serves("PROD") == "1"
    told = shop.ok("history").out
    assert "window of PROD: overridden by" in told

    shop.greet("hi")
    shop.ok("deploy", "--to", "PROD", "--build-id", "102", "--approve", "--outside-window")
    shop.ok("plan", "promote", "101", "--to", "PROD", "--out", "back.plan")
    assert shop.run("apply", "back.plan", "--approve").code == 3
    assert shop.run("promote", "101", "--to", "PROD", "--approve").code == 3
    shop.ok("rollback", "PROD")
    assert shop.serves("PROD") == "1"
