"""`pointsman storage` on a real (local) account, and what `doctor` writes down on the way."""

from __future__ import annotations

from typing import Any

from tests.journeys.conftest import Shop


def test_storage_tells_what_is_used_of_what_and_writes_a_page(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")

    answer = shop.ok("storage", "--html", "storage.html")
    (report,) = shop.ok("storage", "--json").result

    assert "of 75.0 GB" in answer.out
    assert "not enough history" in answer.out
    assert "wrote storage.html" in answer.out
    assert (shop.folder / "storage.html").read_text().startswith("<!doctype html>")
    used = report["usage"]
    mine = next(each for each in used["by_function"] if each["name"] == shop.name)
    assert mine["count"] == 2
    assert used["latest"] + used["versions"] + used["layers"] + used["other"] == used["code"]
    assert used["other"] == 0
    assert report["environments"] == ["staging", "production"]
    assert report["published_count"] == 2
    assert report["published"] == mine["size"] - _latest(shop)


def _latest(shop: Shop) -> int:
    size: int = shop.aws("lambda").get_function_configuration(FunctionName=shop.name)["CodeSize"]
    return size


def test_the_page_alone_goes_to_standard_output(shop: Shop) -> None:
    answer = shop.ok("storage", "--to", "production", "--html", "-")

    assert answer.out.startswith("<!doctype html>")
    assert answer.out.rstrip().endswith("</html>")


def test_a_page_that_cannot_be_written_is_said_before_anything_is_read(shop: Shop) -> None:
    sent: list[object] = []

    class Counting:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def send(self, operation: Any) -> Any:
            sent.append(operation)
            return self.inner.send(operation)

    answer = shop.run("storage", "--html", "/nonexistent/a.html", wrap=Counting)

    assert answer.code == 2
    assert "cannot write /nonexistent/a.html: there is no folder /nonexistent" in answer.err
    assert sent == []


def test_doctor_leaves_a_sample_and_an_hour_holds_one(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    shop.run("doctor")
    shop.ok("storage")
    shop.run("doctor")

    from pointsman.ledger import Ledger

    ledger = Ledger(shop.folder / ".pointsman" / "local" / "ledger.db", now=lambda: 0.0)
    kept = list(ledger.all_of("storage"))
    ledger.close()

    assert [each.subject for each in kept] == ["123456789012 eu-west-1"]
    assert kept[0].body["code"] > 0
