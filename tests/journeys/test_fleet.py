"""`status --all`: an account of our own in the local AWS, with functions of ours and of others."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import zipfile
from contextlib import suppress
from typing import Any

import pytest

from pointsman.aws.operation import Operation, R, Transport
from pointsman.aws.transports import Faults
from pointsman.errors import AccessDenied, Unreachable
from tests.journeys.conftest import Shop, control_runtime


def code(word: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.py", f"def handler(event, context):\n    return {word!r}\n")
    return packed.getvalue()


def stranger(shop: Shop, name: str, *, versions: int = 3) -> None:
    """A function that another tool made: PROD serves version 1, and a quarter of the calls go to version 2."""
    aws = shop.aws("lambda")
    settled = {"Delay": 0.05, "MaxAttempts": 200}
    aws.create_function(
        FunctionName=name,
        Runtime=control_runtime(),
        Handler="index.handler",
        Role=shop.role,
        Code={"ZipFile": code("")},
    )
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=settled)
    for number in range(versions):
        aws.update_function_code(FunctionName=name, ZipFile=code(f"{name} {number}"))
        aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=settled)
        aws.publish_version(FunctionName=name, Description=f"3f9c2a{number}")
    shifted = {"AdditionalVersionWeights": {"2": 0.25}}
    aws.create_alias(FunctionName=name, Name="PROD", FunctionVersion="1", RoutingConfig=shifted)


def overview(shop: Shop, *words: str, **more: Any) -> dict[str, Any]:
    (place,) = shop.ok("status", "--all", *words, "--json", **more).result["places"]
    return {each["function"]: each for each in place["functions"]} | {"": place}


def test_every_function_of_the_account_is_told_in_as_few_calls_as_that_takes(account: Shop) -> None:
    account.ok("deploy", "--build-id", "101")
    stranger(account, "orders")

    answer = account.ok("status", "--all", "--json")

    assert answer.calls == (1 + 2, 0)  # one page of versions, the aliases of two functions
    (place,) = answer.result["places"]
    assert place["environments"] == ["staging", "production"]
    ours, orders = sorted(place["functions"], key=lambda each: each["function"] == "orders")
    (stage,) = ours["aliases"]
    assert (stage["alias"], stage["version"], stage["build"], stage["drift"]) == ("STAGE", "1", "101", "")
    assert stage["since"] >= stage["published"]
    assert orders["versions"] == 3
    (prod,) = orders["aliases"]
    assert (prod["version"], prod["canary"], prod["weight"]) == ("1", "2", 0.25)
    assert (prod["commit"], prod["since"]) == ("3f9c2a0", None)
    assert "half-way through a shift that this ledger does not know" in prod["rollout"]


def test_what_was_done_behind_our_back_is_drift(account: Shop) -> None:
    account.ok("deploy", "--build-id", "101")
    account.greet("two")
    account.ok("deploy", "--build-id", "102")
    account.ok("promote", "102", "--to", "PROD", "--approve")
    aws = account.aws("lambda")
    aws.update_alias(FunctionName=account.name, Name="STAGE", FunctionVersion="1")
    aws.delete_alias(FunctionName=account.name, Name="PROD")

    said = account.ok("status", "--all").out

    moved = "STAGE was moved outside Pointsman: it serves version 1, and the ledger's last move was to version 2."
    assert f"! {account.name}: {moved}" in said
    assert f"! {account.name}: PROD is gone; the ledger's last move of it was to version 2." in said
    aws.delete_function(FunctionName=account.name)
    assert overview(account)[""]["lost"] == [account.name]


def test_a_run_that_did_not_end_is_told_with_what_goes_on(account: Shop) -> None:
    account.ok("deploy", "--build-id", "101")
    account.greet("two")

    def wrap(inner: Transport) -> Transport:
        return Faults(inner, before=lambda _n, action: Unreachable("down") if action == "UpdateAlias" else None)

    assert account.run("deploy", "--build-id", "102", wrap=wrap).code == 1

    said = account.ok("status", "--all").out
    assert "Unfinished: deploy to STAGE (run " in said
    assert "`pointsman resume` goes on." in said
    account.ok("resume")
    assert "Unfinished" not in account.ok("status", "--all").out


def test_a_branch_that_was_cleared_up_is_not_missed(account: Shop) -> None:
    account.ok("deploy", "--build-id", "101")
    account.greet("two")
    account.ok("deploy", "--branch", "feature/x", "--build-id", "102")
    assert [each["branch"] for each in overview(account)[account.name]["aliases"]] == ["", "feature/x"]

    account.ok("branch", "delete", "feature/x", "--yes")

    assert overview(account)[account.name]["gone"] == []


def test_only_some_functions_are_asked_for_their_aliases(account: Shop) -> None:
    for name in ("shop-orders", "shop-cart", "mail"):
        stranger(account, name, versions=2)

    answer = account.ok("status", "--all", "--only", "shop-*", "--json")

    (place,) = answer.result["places"]
    assert [each["function"] for each in place["functions"]] == ["shop-cart", "shop-orders"]
    assert answer.calls == (1 + 2, 0)
    assert "no function is called nope*." in account.ok("status", "--all", "--only", "nope*", "--only", "mail").err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "x"], "Say `status --all --only GLOB`"),
        (["--all", "--function", "greeting"], "Leave one of them out"),
    ],
)
def test_what_makes_no_sense_together_is_said(account: Shop, words: list[str], told: str) -> None:
    answer = account.run("status", *words)

    assert answer.code == 2
    assert told in answer.err


def test_an_account_without_functions_is_told_as_such(account: Shop) -> None:
    said = account.ok("status", "--all").out

    assert "eu-west-1 (staging, production): 0 functions, 0 published versions" in said


def regions(shop: Shop) -> None:
    text = (shop.folder / "pointsman.toml").read_text()
    (shop.folder / "pointsman.toml").write_text(
        text.replace('alias   = "PROD"', 'alias   = "PROD"\nregion  = "us-east-1"')
    )


def test_every_environments_account_and_region_is_looked_at(account: Shop) -> None:
    stranger(account, "orders", versions=2)
    regions(account)

    found = account.ok("status", "--all", "--json").result["places"]

    assert [(each["region"], each["environments"], len(each["functions"])) for each in found] == [
        ("eu-west-1", ["staging"], 1),
        ("us-east-1", ["production"], 0),
    ]


def test_a_place_that_cannot_be_read_hides_no_other(account: Shop) -> None:
    stranger(account, "orders", versions=2)
    regions(account)
    made: list[Transport] = []

    class Refusing:
        def send(self, operation: Operation[R]) -> R:
            raise AccessDenied("no", where=str(operation))

    def wrap(inner: Transport) -> Transport:
        made.append(inner)
        return inner if len(made) == 1 else Refusing()

    answer = account.run("status", "--all", wrap=wrap)

    assert answer.code == 1
    assert "orders" in answer.out
    assert "us-east-1 (production): could not be read. ListFunctions: no" in answer.out


@pytest.mark.parametrize("words", [("prune", "--yes", "--without-backup"), ("storage",)])
def test_prune_and_storage_go_on_without_a_place_that_cannot_be_read_and_name_it(
    account: Shop, words: tuple[str, ...]
) -> None:
    stranger(account, "orders", versions=2)
    regions(account)

    class Refusing:
        def __init__(self, inner: Transport) -> None:
            self.inner = inner

        def send(self, operation: Operation[R]) -> R:
            if getattr(self.inner, "region", "") == "us-east-1":
                raise AccessDenied("no", where=str(operation), next="The credentials need it.")
            return self.inner.send(operation)

    answer = account.run(*words, wrap=Refusing)

    assert answer.code == 1
    assert " eu-west-1" in answer.out
    assert "environment production (us-east-1): " in answer.err
    document = account.run(*words, "--json", wrap=Refusing).document
    assert not document["ok"]
    (unread,) = document["result"]["unread"] if words[0] == "prune" else document["result"][1:]
    assert (unread["environment"], unread["region"]) == ("production", "us-east-1")


def test_on_a_terminal_of_eighty_columns_no_line_of_the_table_wraps(account: Shop) -> None:
    stranger(account, "a-service-with-a-long-name-as-teams-like-to-give-them-0123456789", versions=2)
    stranger(account, "orders", versions=2)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "pointsman", "status", "--all"]
    environ = {**os.environ, **account.variables, "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen(command, cwd=account.folder, env=environ, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # Linux says EIO when the other end is closed
        while part := os.read(ours, 65536):
            said += part
    os.close(ours)
    assert process.wait(timeout=60) == 0

    head, *rows = [line for line in said.decode().split("\r\n") if line][1:4]
    assert head.startswith("FUNCTION")
    assert all(len(line) <= 80 for line in (head, *rows))
    assert any("…" in line and "1 + 25% on 2" in line for line in rows)
