"""What a ledger in a table does that a file need not: others write to it, answers get lost, mirrors are thrown away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pointsman.aws.operation import Transport
from pointsman.aws.transports import Faults
from pointsman.errors import (
    Ambiguous,
    BuildIdTaken,
    LedgerCorrupt,
    LedgerError,
    PointsmanError,
    Throttled,
    Unreachable,
)
from pointsman.ledger import Ledger, Recorder
from pointsman.ledger.team import NoTable, TeamLedger, create
from pointsman.model import BuildId, Version
from tests.do.places import TABLE, Machines, Wrap
from tests.do.test_ledger import ARN, ONE, TWO, run, table
from tests.fakes import FakeClock, Watched

__all__ = ["table"]  # the fixture


def kinds(ledger: Ledger) -> list[str]:
    return [each.kind for each in reversed(ledger.entries())]


def counted(machines: Machines, action: str) -> int:
    return sum(call.action == action for call in machines.calls)


def items(machines: Machines) -> list[dict[str, Any]]:
    return list(machines.table().rows(machines.name, "entry#", "entry$"))


def broken(
    action: str,
    *,
    before: Callable[[int], PointsmanError | None] = lambda _n: None,
    after: Callable[[int], PointsmanError | None] = lambda _n: None,
) -> Wrap:
    """The calls of one kind fail, counted from 0."""
    counts = {"before": 0, "after": 0}

    def struck(which: str, ask: Callable[[int], PointsmanError | None], called: str) -> PointsmanError | None:
        if called != action:
            return None
        counts[which] += 1
        return ask(counts[which] - 1)

    return lambda inner: Faults(
        inner,
        before=lambda _n, called: struck("before", before, called),
        after=lambda _n, called: struck("after", after, called),
    )


# What is written when


def test_what_need_not_be_durable_waits_and_goes_along(table: Machines) -> None:
    ledger, other = table.opened("one"), table.opened("two")
    before = len(table.calls)
    ledger.start(run("r1"))
    ledger.append("r1", "packaged")
    assert kinds(ledger) == ["run", "packaged"]
    assert len(table.calls) == before

    Recorder(ledger, "r1", "greeting").intended("lambda:UpdateAlias", "alias PROD")

    assert counted(table, "PutItem") == 1
    other.sync()
    assert kinds(other) == ["run", "packaged", "call"]
    assert [each.seq for each in other.entries()] == [3, 2, 1]


@pytest.mark.parametrize("kind", ["call", "built", "ended", "approval", "rollout", "rollout-state"])
def test_what_has_to_be_durable_is_before_the_call_returns(table: Machines, kind: str) -> None:
    table.opened("one").append("r1", kind)

    assert kinds(table.opened("two")) == [kind]


def test_what_waited_is_written_at_the_end(table: Machines) -> None:
    ledger = table.opened("one")
    ledger.append("r1", "seen")
    ledger.close()

    assert kinds(table.opened("two")) == ["seen"]


def test_opening_is_one_read_and_of_the_news_only(table: Machines) -> None:
    first = table.opened("one")
    for number in range(5):
        first.append("r1", "ended", subject=str(number))
    first.close()
    table.calls.clear()
    served: list[int] = []

    def watch(inner: Transport) -> Transport:
        class Watching:
            def send(self, operation: Any) -> Any:
                return inner.send(
                    operation._replace(
                        read=lambda reply: (served.append(len(reply["Items"])), operation.read(reply))[1]
                    )
                )

        return Watching()

    assert len(table.opened("one", wrap=watch).entries()) == 5
    assert [call.action for call in table.calls] == ["Query"]
    assert served == [1]  # the last one it knew: proof that this is its table


# Two at once


def test_of_two_writers_one_is_told_and_writes_behind_the_other(table: Machines) -> None:
    other = table.opened("two")
    racing = ["theirs"]

    def look(action: str) -> None:
        if action == "PutItem" and racing:
            other.append("r2", "ended", subject=racing.pop())

    ledger = table.opened("one", wrap=lambda inner: Watched(inner, look))
    seq = ledger.append("r1", "call", subject="mine")

    assert [(each.seq, each.subject) for each in ledger.entries()] == [(2, "mine"), (1, "theirs")]
    assert seq == 2
    other.sync()
    assert other.entries() == ledger.entries()


def test_a_build_id_that_was_taken_while_it_was_claimed_is_refused(table: Machines) -> None:
    other = table.opened("two")
    racing = [BuildId("101")]

    def look(action: str) -> None:
        if action == "PutItem" and racing:
            other.built("r2", ARN, racing.pop(), TWO)

    ledger = table.opened("one", wrap=lambda inner: Watched(inner, look))
    ledger.start(run("r1"))
    with pytest.raises(BuildIdTaken):
        ledger.built("r1", ARN, BuildId("101"), ONE)

    ledger.end("r1", "refused")
    assert kinds(ledger) == ["built", "run", "ended"]
    found = ledger.build(ARN, "101")
    assert found is not None
    assert found.sha256 == TWO


def test_a_build_id_that_another_process_with_this_mirror_takes_between_look_and_claim_is_refused(
    table: Machines,
) -> None:
    """What it wrote is in the mirror at once: nothing stands where the claim would go, and it must not go behind."""
    mine, theirs = table.opened(), table.opened()
    look, looked = mine.build, list[str]()

    def build(*asked: Any) -> Any:
        found = look(*asked)
        if not looked:
            theirs.built("r", ARN, BuildId("b"), ONE)
        looked.append("once")
        return found

    mine.build = build  # type: ignore[method-assign]

    with pytest.raises(BuildIdTaken):
        mine.built("r", ARN, BuildId("b"), TWO)

    assert len(looked) == 2
    mine.built("r", ARN, BuildId("c"), TWO)
    assert [each.subject for each in reversed(mine.entries()) if each.kind == "built"] == ["b", "c"]


def test_the_same_bits_may_be_claimed_by_two(table: Machines) -> None:
    other = table.opened("two")
    racing = [BuildId("101")]

    def look(action: str) -> None:
        if action == "PutItem" and racing:
            other.built("r2", ARN, racing.pop(), ONE)

    ledger = table.opened("one", wrap=lambda inner: Watched(inner, look))
    ledger.built("r1", ARN, BuildId("101"), ONE)

    assert kinds(ledger) == ["built"]


def test_that_a_claimed_build_became_a_version_needs_no_write_of_its_own(table: Machines) -> None:
    ledger = table.opened()
    ledger.built("r1", ARN, BuildId("101"), ONE)
    ledger.built("r1", ARN, BuildId("101"), ONE, version=Version("1"))

    assert counted(table, "PutItem") == 1
    found = ledger.build(ARN, "101")
    assert found is not None
    assert found.version == "1"


# Lost answers


def test_an_answer_that_was_lost_after_the_write_is_not_written_twice(table: Machines) -> None:
    lost = broken("PutItem", after=lambda n: Ambiguous("read timed out") if n == 0 else None)
    ledger = table.opened("one", wrap=lost)
    seq = ledger.append("r1", "call")

    assert seq == 1
    assert counted(table, "PutItem") == 1
    assert kinds(ledger) == kinds(table.opened("two")) == ["call"]


@pytest.mark.parametrize("error", [Ambiguous("read timed out"), Unreachable("connection refused")])
def test_a_write_that_did_not_arrive_is_sent_again(table: Machines, error: PointsmanError) -> None:
    ledger = table.opened("one", wrap=broken("PutItem", before=lambda n: error if n == 0 else None))
    ledger.append("r1", "call")

    assert kinds(ledger) == kinds(table.opened("two")) == ["call"]


class Late:
    """The first put arrives only after the second was sent: what was read back in between could not show it."""

    def __init__(self, inner: Transport, between: Callable[[], None] = lambda: None) -> None:
        self.inner = inner
        self.between = between
        self.held: Any = None
        self.puts = 0

    def send(self, operation: Any) -> Any:
        if operation.action != "PutItem":
            return self.inner.send(operation)
        self.puts += 1
        if self.puts == 1:
            self.held = operation
            raise Ambiguous("read timed out")
        if self.held:
            held, self.held = self.held, None
            self.inner.send(held)
            self.between()
        return self.inner.send(operation)


def test_a_write_that_arrives_late_is_known_as_ones_own(table: Machines) -> None:
    ledger = table.opened("one", wrap=Late)
    ledger.append("r1", "seen")
    ledger.append("r1", "call")
    ledger.append("r1", "ended")

    assert kinds(ledger) == kinds(table.opened("two")) == ["seen", "call", "ended"]


def test_so_it_is_where_another_process_of_the_machine_has_read_it_first(table: Machines) -> None:
    """They share the mirror, whose last entry is then beyond the one in question."""

    def overtake() -> None:
        beside = table.opened("one")
        beside.append("r2", "ended")
        beside.close()

    ledger = table.opened("one", wrap=lambda inner: Late(inner, overtake))
    ledger.append("r1", "call")

    assert kinds(ledger) == kinds(table.opened("two")) == ["call", "ended"]


def test_without_any_answer_it_is_an_error_that_says_so_and_nothing_is_announced(table: Machines) -> None:
    dead = broken("PutItem", before=lambda _n: Unreachable("network down"))
    ledger = table.opened("one", wrap=dead)
    ledger.append("r1", "run")
    with pytest.raises(LedgerError, match="5 writes without an answer: network down") as told:
        ledger.append("r1", "call")

    assert "pointsman resume" in told.value.next
    assert kinds(ledger) == ["run"]
    ledger.close()
    assert kinds(table.opened("two")) == []


def test_where_nothing_can_be_read_it_is_the_ledgers_error_and_not_a_calls(table: Machines) -> None:
    """Journal and execute take an AwsError for the answer to the release's own call."""
    with pytest.raises(LedgerError, match="network down") as told:
        table.opened("one", wrap=broken("Query", before=lambda _n: Unreachable("network down")))
    assert "reading the ledger" in told.value.where


def test_throttled_it_waits_and_goes_on(table: Machines) -> None:
    ledger = table.opened("one", wrap=broken("PutItem", before=lambda n: Throttled("slow down") if n < 3 else None))
    ledger.append("r1", "call")
    assert kinds(table.opened("two")) == ["call"]

    never = table.opened("one", wrap=broken("PutItem", before=lambda _n: Throttled("slow down")))
    with pytest.raises(LedgerError, match="still throttles"):
        never.append("r1", "call")


def test_the_lease_survives_a_lost_answer_under_one_token(table: Machines) -> None:
    now = lambda: 1_700_000_000.0  # noqa: E731
    lost = broken("UpdateItem", after=lambda n: Ambiguous("read timed out") if n == 0 else None)
    mine = table.opened("one", now=now, wrap=lost).lease("x", "me", 60)

    assert mine is not None
    assert mine.token == 1
    assert table.opened("two", now=now).holder("x") == mine


def test_a_renewal_is_one_write(table: Machines) -> None:
    ledger = table.opened()
    ledger.lease("x", "me", 60)
    ledger.lease("x", "me", 60)

    assert counted(table, "UpdateItem") == 2


# Mirrors


def filled(machines: Machines, machine: str = "one") -> TeamLedger:
    ledger = machines.opened(machine)
    ledger.built("r1", ARN, BuildId("101"), ONE, version=Version("1"))
    ledger.end("r1", "done")
    return ledger


def test_a_mirror_that_is_deleted_is_made_again(table: Machines) -> None:
    filled(table).close()
    shutil.rmtree(table.mirror("one").parent)

    assert kinds(table.opened("one")) == ["built", "ended"]


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b""])
def test_a_mirror_that_is_damaged_is_made_again(table: Machines, content: bytes) -> None:
    filled(table).close()
    table.mirror("one").write_bytes(content)

    assert kinds(table.opened("one")) == ["built", "ended"]


def test_a_damaged_page_of_a_mirror_is_found_when_it_is_read_and_the_way_out_is_named(table: Machines) -> None:
    ledger = table.opened("one")
    for number in range(400):
        ledger.append("r", "seen", function=str(ARN), subject=f"b{number}", filler=os.urandom(100).hex())
    ledger.flush()
    ledger.end("r", "done")  # the last item is looked at when the mirror is opened, and this is a small one
    ledger.close()
    path = table.mirror("one")
    ledger = table.opened("one")
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = os.urandom(third)
    path.write_bytes(bytes(content))

    with pytest.raises(LedgerCorrupt, match="the mirror of dynamodb://") as told:
        ledger.entries()
    assert told.value.next.startswith("Delete it")
    shutil.rmtree(path.parent)
    assert len(table.opened("one").entries()) == 401


def test_the_mirror_of_another_ledger_is_not_believed(table: Machines) -> None:
    filled(table).close()
    other = Machines(table.folder / "other", f"{table.name}-other")
    ledger = other.opened("one")
    for number in range(3):
        ledger.append("r9", "ended", subject=str(number))
    ledger.close()
    shutil.copy(table.mirror("one"), other.mirror("one"))

    assert kinds(other.opened("one")) == ["ended"] * 3
    mirror = Machines(table.folder, f"{table.name}-empty")
    assert kinds(mirror.opened("one")) == []


def test_a_table_that_was_put_back_to_an_earlier_moment_is_believed(table: Machines) -> None:
    ledger = filled(table)
    ledger.end("r2", "done")
    ledger.close()
    last = items(table)[-1]
    removed(table, last)

    again = table.opened("one")
    assert kinds(again) == ["built", "ended"]
    again.end("r3", "done")
    assert [(each.run, each.seq) for each in again.entries(limit=1)] == [("r3", 3)]


def removed(machines: Machines, item: dict[str, Any]) -> None:
    client = machines.wire._client("dynamodb")
    client.delete_item(TableName=TABLE, Key={"ledger": {"S": machines.name}, "key": {"S": item["key"]}})


# Large things


def test_what_is_too_large_for_one_item_is_written_in_several_and_read_by_pages(table: Machines) -> None:
    ledger = table.opened("one")
    for number in range(10):
        ledger.append("r1", "planned", subject=str(number), plan=os.urandom(120_000).hex())
    ledger.append("r1", "call")

    assert len(items(table)) == counted(table, "PutItem") >= 3
    table.calls.clear()
    other = table.opened("two")
    assert [each.subject for each in reversed(other.entries())] == [*"0123456789", ""]
    assert [each.seq for each in other.entries()] == [*range(11, 0, -1)]
    assert counted(table, "Query") >= 2
    assert other.entries() == ledger.entries()


def test_what_is_large_and_dull_is_compressed(table: Machines) -> None:
    ledger = table.opened("one")
    ledger.append("r1", "planned", plan="x" * 2_000_000)
    ledger.append("r1", "call")

    (item,) = items(table)
    assert len(item["packed"]) < 20_000
    assert table.opened("two").entries() == ledger.entries()


def test_one_entry_that_no_item_holds_is_refused_and_is_in_nobodys_way(table: Machines) -> None:
    ledger = table.opened("one")
    with pytest.raises(LedgerError, match=r"one entry \(“planned”\) is 4\d\d KB, and DynamoDB takes 400 KB"):
        ledger.append("r1", "planned", plan=os.urandom(400_000).hex())

    ledger.append("r1", "call")
    assert kinds(ledger) == ["call"]


def test_a_writer_killed_amid_several_items_leaves_a_beginning(table: Machines) -> None:
    """What was announced was not written, so it was not done; what came before it is whole."""
    dead = broken("PutItem", before=lambda n: Unreachable("network down") if n >= 1 else None)
    ledger = table.opened("one", wrap=dead)
    for number in range(6):
        ledger.append("r1", "planned", subject=str(number), plan=os.urandom(120_000).hex())
    with pytest.raises(LedgerError):
        ledger.append("r1", "call")
    ledger._db.close()  # killed: nothing more is written

    left = [each.subject for each in reversed(table.opened("two").entries())]
    assert left == list("0123456")[: len(left)]
    assert 0 < len(left) < 6
    again = table.opened("one")
    again.append("r2", "call")
    assert kinds(again) == ["planned"] * len(left) + ["call"]


# What may go


def test_only_what_no_rollback_stands_on_gets_a_time_to_live(table: Machines) -> None:
    now = lambda: 1_700_000_000.0  # noqa: E731
    ledger = table.opened(now=now, keep_days=30)
    recorder = Recorder(ledger, "r1", "greeting")
    ledger.start(run("r1"))
    first = recorder.intended("lambda:UpdateFunctionCode", "greeting")  # tells that the run did something
    recorder.settled(first, "done")
    second = recorder.intended("lambda:PublishVersion", "greeting")
    recorder.settled(second, "done")
    ledger.append("r1", "published", function=str(ARN), subject="1")
    recorder.intended("lambda:UpdateAlias", "alias PROD")
    ledger.append("r1", "rollout-state", subject="r1", ended=False)
    ledger.append("r1", "rollout-state", subject="r1", ended=True)  # else it would seem to be going on
    ledger.append("r1", "rollout-asked", subject="r1")
    ledger.append("r1", "rollout-provisioned")
    ledger.end("r1", "done")

    goes = now() + 30 * 86_400
    assert [each.get("ttl") for each in items(table)] == [None, goes, None, goes, None, goes, None, None]


def test_without_keep_days_nothing_ever_goes(table: Machines) -> None:
    ledger = table.opened()
    ledger.append("r1", "rollout-asked")

    assert "ttl" not in items(table)[0]


def test_expired_entries_leave_the_rest_as_it_is(table: Machines) -> None:
    """In the middle, and at the end, where a machine's mirror knows a number that is then given anew."""
    ledger = table.opened("one")
    for run_id, kind in (("r1", "ended"), ("r2", "rollout"), ("r3", "ended"), ("r4", "rollout")):
        ledger.append(run_id, kind)
    ledger.close()
    for item in items(table)[1::2]:
        removed(table, item)

    other = table.opened("two")
    other.append("r5", "ended")
    assert [(each.run, each.seq) for each in other.entries()] == [("r5", 4), ("r3", 3), ("r1", 1)]
    assert table.opened("one").entries() == other.entries()


def test_who_slept_for_long_looks_before_it_writes(table: Machines) -> None:
    """The numbers it knows to be free may have been given, and have expired."""
    time = [1_700_000_000.0]
    ledger = table.opened("one", now=lambda: time[0])
    other = table.opened("two")
    other.append("r2", "rollout")
    other.append("r2", "ended")
    removed(table, items(table)[0])
    time[0] += 40 * 86_400
    ledger.append("r1", "ended")

    assert [(each.run, each.seq) for each in ledger.entries()] == [("r1", 3), ("r2", 2)]


# Edited and newer tables


def test_a_newer_format_is_refused_rather_than_misread(table: Machines) -> None:
    table.table().put({"ledger": table.name, "key": "entry#000000000000001", "v": 2, "writer": "w", "entries": "[]"})

    with pytest.raises(LedgerError, match="newer Pointsman"):
        table.opened()


@pytest.mark.parametrize("entries", ["nonsense", "[]", "[[1, 2]]"])
def test_an_item_that_somebody_edited_is_named(table: Machines, entries: str) -> None:
    row = {"ledger": table.name, "key": "entry#000000000000001", "v": 1, "writer": "w", "entries": entries}
    table.table().put(row)

    with pytest.raises(LedgerCorrupt, match="'entry#000000000000001' cannot be read") as told:
        table.opened()
    assert "point-in-time recovery" in told.value.next


# The table


def test_a_table_is_made_once_and_what_it_lacks_is_switched_on(table: Machines, tmp_path: Path) -> None:
    made = table.table()
    made.name = f"made-{table.name[:8]}"
    clock = FakeClock()

    assert [line.split()[0] for line in create(made, clock)] == ["created", "switched", "switched"]
    assert create(made, clock) == []
    described = made.described()
    assert described is not None
    assert described.protected
    assert made.backed_up()
    assert made.expires_by() == "ttl"

    client = table.wire._client("dynamodb")
    client.update_table(TableName=made.name, DeletionProtectionEnabled=False)
    assert create(made, clock) == ["protected it from deletion"]


def test_a_table_of_other_keys_is_left_alone(table: Machines) -> None:
    made = table.table()
    made.name = f"other-{table.name[:8]}"
    table.wire._client("dynamodb").create_table(
        TableName=made.name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )

    with pytest.raises(LedgerError, match=r"its keys are id \(HASH, S\)"):
        create(made, FakeClock())


def test_a_missing_table_is_an_error_that_says_how_to_make_it(table: Machines) -> None:
    missing = table.table()
    missing.name = "no-such-table"

    with pytest.raises(NoTable, match="there is no table no-such-table") as told:
        TeamLedger(*(missing, "x", table.mirror("one")), now=lambda: 1.0, sleep=lambda _seconds: None, draw=lambda: 0.5)
    assert told.value.next.startswith("`pointsman ledger init`")
