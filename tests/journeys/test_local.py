"""`pointsman local …` and `--local`: a local AWS of the project's own, and nothing left of it afterwards."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import botocore.session
import pytest

from tests.journeys.conftest import Shop


@pytest.fixture
def alone(shop: Shop) -> Iterator[Shop]:
    """A shop whose shell knows nothing of any local AWS."""
    shop.variables = {"AWS_PROFILE": "somebody-elses"}
    yield shop
    shop.run("local", "down")


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_local_starts_one_when_there_is_none_and_down_leaves_nothing(alone: Shop) -> None:
    assert alone.ok("local", "status").out == "down\n"

    told = alone.ok("--local", "deploy", "--build-id", "101", "-v")
    assert "rehearsal: made the role" in told.err  # the account is empty at first

    facts = alone.ok("local", "status", "--json").result
    assert facts["up"] is True
    assert alive(facts["pid"])
    assert alone.ok("local", "up", "--json").result["pid"] == facts["pid"]

    assert alone.ok("local", "down").out == "The local AWS is down; its state stays.\n"
    assert not alive(facts["pid"])
    assert alone.ok("local", "down").out == "The local AWS was not up.\n"


def test_logs_of_a_name_that_nobody_has_say_whose_there_are(alone: Shop) -> None:
    alone.ok("--local", "deploy", "--build-id", "101")
    until_logged(alone, invoked(alone))

    answer = alone.ok("local", "logs", "greetings")

    assert answer.out == ""
    assert answer.err == f"warning: nothing is logged of greetings; there are lines of: {alone.name}\n"


def test_the_nearest_local_aws_above_is_meant_where_there_is_no_project(alone: Shop) -> None:
    (alone.folder / "pointsman.toml").unlink()
    below = alone.folder / "deep" / "down"
    below.mkdir(parents=True)
    url = alone.ok("local", "up", "--json").result["url"]

    status = replace(alone, folder=below).ok("local", "status", "--json").result

    assert (status["up"], status["url"]) == (True, url)


def test_a_function_of_somebody_else_is_rehearsed_on_a_stand_in(alone: Shop) -> None:
    alone.configure(provision=f'{{ with = "existing", name = "{alone.name}" }}')

    planned = alone.run("--local", "plan").err
    assert "there is no function" in planned
    assert "`pointsman --local deploy` makes a stand-in for it" in planned
    told = alone.ok("--local", "deploy", "--build-id", "101", "-v").err

    assert "made a stand-in" in told
    assert alone.ok("--local", "status", "--json").result[0]["aliases"][0]["build"] == "101"


@pytest.mark.parametrize("kind", ["existing", "direct"])
def test_a_runtime_that_this_machine_lacks_is_rehearsed_on_the_nearest(alone: Shop, kind: str) -> None:
    if kind == "existing":
        alone.configure(provision=f'{{ with = "existing", name = "{alone.name}" }}')
    path = alone.folder / "pointsman.toml"
    lacking = "python3.14" if shutil.which("python3.14") is None else "python3.10"
    path.write_text(re.sub(r'runtime( *)= "python[0-9.]+"', rf'runtime\1= "{lacking}"', path.read_text()))

    told = alone.ok("--local", "deploy", "--build-id", "101", "-v").err

    assert f"rehearsal: greeting wants {lacking}, which this machine does not have: python3" in told
    assert alone.ok("--local", "deploy", "--build-id", "102", "--json").calls == (2, 0)


def test_nothing_of_the_users_own_aws_is_reached_from_a_rehearsal(alone: Shop) -> None:
    alone.variables |= {
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:9",
        "AWS_SESSION_TOKEN": "stale",
    }

    alone.ok("--local", "deploy", "--build-id", "101")

    lines = alone.ok("local", "env").out.splitlines()
    assert lines[0].startswith("unset ")
    for name in (*alone.variables, "AWS_PROFILE"):
        assert name in lines[0].split()


def test_a_server_whose_folder_is_deleted_ends(alone: Shop) -> None:
    pid = alone.ok("local", "up", "--json").result["pid"]
    shutil.rmtree(alone.folder / ".pointsman")

    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def test_env_points_a_shell_at_it(alone: Shop) -> None:
    nothing = alone.run("local", "env")
    assert nothing.code == 1
    assert "pointsman local up" in nothing.err

    alone.ok("local", "up")
    lines = alone.ok("local", "env").out
    shell = f"{lines}\necho $AWS_ENDPOINT_URL $AWS_REGION $AWS_ACCESS_KEY_ID ${{AWS_PROFILE:-none}}"
    said = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    ).stdout.split()

    assert said[0] == alone.ok("local", "status", "--json").result["url"]
    assert said[1] == "eu-west-1"
    assert len(said) == 4


def test_it_takes_the_port_it_is_given_and_says_when_it_cannot(alone: Shop) -> None:
    url = alone.ok("local", "up", "--json").result["url"]
    port = url.rsplit(":", 1)[1]
    alone.ok("local", "down")

    assert alone.ok("local", "up", "--port", port, "--json").result["url"] == url
    elsewhere = alone.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "pointsman.toml").write_text((alone.folder / "pointsman.toml").read_text())
    other = replace(alone, folder=elsewhere)
    taken = other.run("local", "up", "--port", port)
    assert taken.code == 1
    assert port in taken.err


def test_a_rehearsal_has_a_ledger_of_its_own_and_reset_forgets_both(alone: Shop) -> None:
    template = """
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: "sts:AssumeRole"}]
  Greeter:
    Type: AWS::Lambda::Function
    Properties:
      Handler: index.handler
      Runtime: RUNTIME
      Role: !GetAtt Role.Arn
      Code: {ZipFile: "def handler(event, context): return 1"}
"""
    from tests.journeys.conftest import control_runtime

    alone.write("stack.yaml", template.replace("RUNTIME", control_runtime()))
    alone.configure(provision='{ with = "cloudformation", stack = "s", template = "stack.yaml", function = "Greeter" }')
    alone.ok("--local", "deploy", "--build-id", "101")
    assert not (alone.folder / ".pointsman" / "ledger.db").exists()
    assert "deploy: STAGE → version 1, build 101" in alone.ok("--local", "history").out

    alone.ok("local", "down")
    assert "101" in alone.ok("--local", "status").out, "state survives a restart"
    alone.greet("two")
    alone.ok("--local", "deploy", "--build-id", "102")

    until_logged(alone, invoked(alone))

    alone.ok("local", "reset")
    assert alone.ok("local", "status").out == "down\n"
    assert "The ledger is empty" in alone.ok("--local", "history").out


def invoked(shop: Shop) -> str:
    """Calls STAGE of the shop's function on the shop's own local AWS; the function's name."""
    name: str = shop.ok("--local", "status", "--json").result[0]["name"]
    given = shop.ok("local", "env", "--json").result
    session = botocore.session.Session()
    session.set_credentials(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
    client = session.create_client("lambda", region_name="eu-west-1", endpoint_url=given["AWS_ENDPOINT_URL"])
    client.invoke(FunctionName=name, Qualifier="STAGE", Payload=b"{}")
    return name


def until_logged(shop: Shop, name: str) -> None:
    """Logs arrive in the background, a moment after the reply."""
    end = time.monotonic() + 60
    while "REPORT RequestId" not in shop.ok("local", "logs", name).out:
        assert time.monotonic() < end, shop.ok("local", "logs", "--server").out
        time.sleep(0.02)
