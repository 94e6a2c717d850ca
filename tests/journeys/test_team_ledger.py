"""One project on two machines that share a ledger in DynamoDB: what one did, the other knows, and goes on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pointsman.aws.operation import Transport
from tests.journeys.conftest import Answer, Shop
from tests.journeys.test_any_call_fails import Disturbed, dead_after, end_state, prepared
from tests.journeys.test_bad_luck import killed
from tests.journeys.test_rollouts import ROLLOUT, handler, stage, traffic


@pytest.fixture
def here(shop: Shop) -> Shop:
    return sharing(shop, f"ledger-{uuid.uuid4().hex[:8]}")


def sharing(shop: Shop, table: str, *, rollout: str = "") -> Shop:
    shop.configure(more=f'{rollout}\n[ledger]\nurl = "dynamodb://{table}"\n')
    return shop


@pytest.fixture
def there(here: Shop, tmp_path: Path) -> Shop:
    """Another checkout of the same project: no package, no mirror, nothing but the files."""
    return elsewhere(here, tmp_path / "elsewhere")


def elsewhere(shop: Shop, folder: Path) -> Shop:
    folder.mkdir()
    for name in ("pointsman.toml", "index.py"):
        (folder / name).write_text((shop.folder / name).read_text())
    return replace(shop, folder=folder)


def costs(answer: Answer) -> tuple[int, int]:
    told = answer.document["ledger"]
    return told["reads"], told["writes"]


def said(shop: Shop) -> list[str]:
    return [line["what"] for line in shop.ok("history", "--limit", "100", "--json").result]


def test_a_build_made_on_one_machine_is_promoted_and_rolled_back_on_another(here: Shop, there: Shop) -> None:
    first = here.ok("deploy", "--build-id", "101")
    assert "rehearsal: created the table" in first.err
    here.greet("two")
    here.ok("deploy", "--build-id", "102")

    there.ok("promote", "101", "--to", "PROD", "--approve")
    there.ok("promote", "102", "--to", "PROD", "--approve")
    assert here.serves("PROD") == "2"
    assert here.ok("status", "--json").result[0]["aliases"][0]["build"] == "102"

    here.ok("rollback", "PROD")
    assert here.serves("PROD") == "1"
    assert said(here) == said(there)
    assert any(line.startswith("rollback: PROD → version 1") for line in said(there))


def test_a_build_id_means_one_thing_on_all_machines(here: Shop, there: Shop) -> None:
    here.ok("deploy", "--build-id", "101")
    there.greet("other code")

    refused = there.run("deploy", "--build-id", "101", "--json")

    assert refused.code == 2
    assert refused.document["error"]["code"] == "build_id_taken"


def test_a_deploy_costs_six_writes_at_most_and_none_of_lambdas_calls(here: Shop) -> None:
    here.ok("deploy", "--build-id", "101")
    sent: list[str] = []

    def watch(inner: Transport) -> Transport:
        class Watching:
            def send(self, operation: Any) -> Any:
                sent.append(operation.action)
                return inner.send(operation)

        return Watching()

    here.greet("two")
    changed = here.ok("deploy", "--build-id", "102", "--json", wrap=watch)
    assert costs(changed) == (1, 5) == (sent.count("Query"), sent.count("PutItem"))
    assert changed.calls[1] == 3

    unchanged = here.ok("deploy", "--build-id", "102", "--json")
    assert unchanged.calls == (2, 0)
    assert costs(unchanged) == (1, 1)

    assert costs(here.ok("promote", "102", "--to", "PROD", "--approve", "--json")) == (1, 2)
    here.ok("promote", "101", "--to", "PROD", "--approve")
    assert costs(here.ok("rollback", "PROD", "--json")) == (1, 2)
    assert costs(here.ok("status", "--json")) == (1, 0)


def test_without_a_table_the_document_is_as_it_was(shop: Shop) -> None:
    assert "ledger" not in shop.ok("deploy", "--json").document


@pytest.mark.parametrize("first", [0, 1])
def test_killed_at_any_call_on_one_machine_it_is_resumed_on_the_other(here: Shop, tmp_path: Path, first: int) -> None:
    """kill -9 before every other call of a deploy, the ledger's own among them."""
    here.ok("deploy", "--build-id", "b0")
    number, resumed = first, 0
    while True:
        build = f"b{number + 1}"
        here.greet(build)
        there = elsewhere(here, tmp_path / build)
        dead = killed(here, "before", number, "SIGKILL", "deploy", "--build-id", build)
        if dead.returncode == 0:
            break  # it has fewer calls than that
        assert dead.returncode == -signal.SIGKILL
        if there.ok("resume", "--json").result == []:
            # The ledger knows of no call, so none was made.
            assert here.invoke("STAGE")["word"] != build
            there.ok("deploy", "--build-id", build)
        else:
            resumed += 1

        assert there.invoke("STAGE")["word"] == build
        status = there.ok("status", "--json").result[0]
        assert (status["aliases"][0]["build"], status["unfinished"]) == (build, "")
        number += 2
    assert number >= 12
    assert resumed >= 4


KILLED_WHILE_SHIFTING = """
    import os, signal, sys
    from pointsman.cli import main

    class Killer:
        def __init__(self, inner):
            self.inner = inner
        def send(self, operation):
            reply = self.inner.send(operation)
            if operation.action == "UpdateAlias":
                os.kill(os.getpid(), signal.SIGKILL)
            return reply

    sys.exit(main(sys.argv[1:], wrap=Killer))
"""


def test_a_rollout_whose_watcher_was_killed_is_watched_to_its_end_on_the_other(shop: Shop, tmp_path: Path) -> None:
    """The first shift took effect; that it did is for the other machine to find out."""
    here = sharing(shop, f"ledger-{uuid.uuid4().hex[:8]}", rollout=ROLLOUT)
    here.write("index.py", handler(0.0, "1"))
    here.ok("deploy", "--build-id", "1")
    here.ok("promote", "1", "--to", "PROD", "--approve")
    stage(here, 0.0)
    there = elsewhere(here, tmp_path / "elsewhere")

    with traffic(here):
        dead = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED_WHILE_SHIFTING), "promote", "2", "--to", "PROD", "--approve"],
            cwd=here.folder,
            env={**os.environ, **here.variables},
            capture_output=True,
            check=False,
        )
        assert dead.returncode == -signal.SIGKILL
        assert (here.alias("PROD") or {}).get("RoutingConfig")

        there.ok("rollout", "resume", "PROD")

    assert here.serves("PROD") == "2"
    assert not (here.alias("PROD") or {}).get("RoutingConfig")
    for machine in (here, there):
        assert machine.ok("rollout", "report", "PROD", "--json").result["outcome"] == "promoted"
        assert machine.ok("ledger", "status", "--json").result["leases"] == []
        assert machine.ok("status", "--json").result[0]["unfinished"] == ""
    here.ok("rollback", "PROD")
    assert here.serves("PROD") == "1"


class Counted(Disturbed):
    """Which of the calls are the ledger's writes."""

    def __init__(self, fault: dict[str, Any]) -> None:
        super().__init__(fault)
        self.puts: list[int] = []

    def __call__(self, inner: Transport) -> Transport:
        outer, counting = self, super().__call__(inner)

        class Noting:
            def send(self, operation: Any) -> Any:
                if operation.action == "PutItem":
                    outer.puts.append(outer.count)
                return counting.send(operation)

        return Noting()


def finished(shop: Shop, wrap: Disturbed) -> None:
    """As people do it: `resume`, and where there is nothing to resume the same command again."""
    for words in (("deploy", "--build-id", "102"), ("promote", "102", "--to", "PROD", "--approve")):
        if shop.run(*words, wrap=wrap).code != 0 and shop.ok("resume", "--approve", "--json").result == []:
            shop.ok(*words)


def test_whichever_of_the_ledgers_writes_is_the_last_that_gets_through_the_end_is_the_same(
    here: Shop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its answer is lost, and then the network is down."""
    counter = Counted({})
    finished(prepared(here), counter)
    expected = end_state(here)
    assert len(counter.puts) == 7

    for k in counter.puts:
        again = here.another(tmp_path_factory.mktemp("again") / "project", f"{here.name}-{k}")

        finished(prepared(sharing(again, f"ledger-{uuid.uuid4().hex[:8]}")), Disturbed(dead_after(k)))

        assert end_state(again) == expected, f"call {k} of {counter.count}"


# The commands


def test_the_table_is_made_looked_at_and_named_when_it_is_missing(here: Shop) -> None:
    made = here.ok("ledger", "init", "--json").result
    assert len(made["done"]) == 3
    again = here.ok("ledger", "init")
    assert "is ready: there was nothing to do." in again.out

    here.ok("deploy", "--build-id", "101")
    status = here.ok("ledger", "status", "--json").result
    assert (status["kind"], status["place"]) == ("dynamodb", made["place"])
    assert status["entries"] > 5
    assert status["last"]["kind"] == "ended"
    assert status["leases"] == []
    assert Path(status["mirror"]).exists()
    assert f"{status['entries']} entries" in here.ok("ledger", "status").out


def test_a_file_is_made_and_looked_at_too(shop: Shop) -> None:
    assert shop.ok("ledger", "init", "--json").result["done"]
    shop.ok("deploy")

    status = shop.ok("ledger", "status", "--json").result
    assert (status["kind"], status["last"]["kind"]) == ("sqlite", "ended")
    assert status["size"] > 1000


def test_on_aws_a_missing_table_is_for_ledger_init(here: Shop) -> None:
    """What is no rehearsal creates nothing by the way."""
    url = here.variables["AWS_ENDPOINT_URL"]
    here.variables = {**here.variables, "AWS_ENDPOINT_URL": "https://aws.invalid", "AWS_ENDPOINT_URL_DYNAMODB": url}

    refused = here.run("deploy", "--json")

    assert refused.code == 1
    assert refused.document["error"]["code"] == "ledger"
    assert refused.document["error"]["next"].startswith("`pointsman ledger init`")


def test_a_file_is_carried_over_once(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "101")
    before = said(shop)
    file = shop.folder / ".pointsman" / "local" / "ledger.db"
    sharing(shop, f"ledger-{uuid.uuid4().hex[:8]}")
    source = f"sqlite:{file}"

    copied = shop.ok("ledger", "copy", "--from", source, "--json").result
    assert copied["copied"] > 5
    assert said(shop) == before
    assert shop.ok("ledger", "copy", "--from", source, "--json").result["copied"] == 0

    shop.greet("two")
    shop.ok("deploy", "--build-id", "102")
    refused = shop.run("ledger", "copy", "--from", source)
    assert refused.code == 2
    assert "entries of its own" in refused.err
    assert "--force" in refused.err

    shop.ok("ledger", "copy", "--to", "sqlite:back.db")
    shop.configure(more='[ledger]\nurl = "sqlite:back.db"\n')
    assert shop.ok("ledger", "copy", "--from", "sqlite:back.db", "--json").result["copied"] > 10


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "say either --from or --to"),
        (("--from", "sqlite:a", "--to", "sqlite:b"), "say either --from or --to"),
        (("--from", "postgres://x"), "neither"),
        (("--from", "sqlite:nowhere.db"), "there is no file"),
    ],
)
def test_a_copy_of_nothing_is_wrong_usage(shop: Shop, words: tuple[str, ...], told: str) -> None:
    refused = shop.run("ledger", "copy", *words)

    assert refused.code == 2
    assert told in refused.err


def test_a_lost_table_is_rebuilt_and_one_with_entries_never_rewritten(here: Shop, there: Shop) -> None:
    here.ok("deploy", "--build-id", "101")
    here.ok("promote", "101", "--to", "PROD", "--approve")

    refused = here.run("history", "--rebuild", "--force")
    assert refused.code == 2
    assert "never rewritten" in refused.err

    rebuilt = sharing(here, f"ledger-{uuid.uuid4().hex[:8]}").ok("history", "--rebuild", "--json").result
    assert (rebuilt["versions"], rebuilt["aliases"], rebuilt["set_aside"]) == (1, 2, None)
    sharing(there, here.folder.joinpath("pointsman.toml").read_text().rpartition("dynamodb://")[2].split('"')[0])
    assert "ledger rebuilt from Lambda and CloudTrail: 1 versions, 2 aliases" in said(there)
    there.greet("two")
    there.ok("deploy", "--build-id", "102")
    there.ok("promote", "102", "--to", "PROD", "--approve")
    here.ok("rollback", "PROD")
    assert here.serves("PROD") == "1"


# Doctor


def test_doctor_looks_at_the_table_and_names_its_actions(here: Shop) -> None:
    here.ok("deploy", "--build-id", "101")
    looked = [each for each in here.run("doctor", "--json").result if each["name"] == "ledger"]
    assert looked[0]["verdict"] == "ok"
    assert "answers, and holds" in looked[0]["what"]

    policy = here.ok("doctor", "--policy", "--json").result
    (statement,) = [each for each in policy["Statement"] if each["Sid"] == "Table"]
    table = here.folder.joinpath("pointsman.toml").read_text().rpartition("dynamodb://")[2].split('"')[0]
    assert statement["Resource"] == [f"arn:aws:dynamodb:eu-west-1:123456789012:table/{table}"]
    assert statement["Action"] == [
        *("dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem")
    ]
