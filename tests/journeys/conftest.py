"""A project in a folder of its own, the real command line, and a real local AWS that all tests of a worker share."""

from __future__ import annotations

import io
import json
import os
import textwrap
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from pointsman.aws.operation import Transport
from pointsman.aws.transports import Clock
from pointsman.cli import main
from pointsman.localaws import control


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)  # type: ignore[no-any-return]

    @property
    def result(self) -> Any:
        return self.document["result"]

    @property
    def calls(self) -> tuple[int, int]:
        counted = self.document["calls"]
        return counted["reads"], counted["writes"]


@dataclass
class Shop:
    """One project. `run` is one command line; `aws` a plain client beside it, to look with other eyes."""

    folder: Path
    name: str
    aws: Callable[[str], Any]
    role: str
    variables: dict[str, str] = field(default_factory=dict)
    local: control.Running | None = None

    def run(
        self, *words: str, wrap: Callable[[Transport], Transport] | None = None, clock: Clock | None = None
    ) -> Answer:
        self.rest()
        out, err = io.StringIO(), io.StringIO()
        before, here = dict(os.environ), Path.cwd()
        os.environ.update(self.variables)
        os.chdir(self.folder)
        try:
            code = main(words, out=out, err=err, wrap=wrap, clock=clock)
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)
        return Answer(code, out.getvalue(), err.getvalue())

    def rest(self) -> None:
        """As if a second had passed since the last command, as it has between two that are typed.

        Else the calls of both together would be more than AWS takes in one, and a throttled one is counted, too.
        """
        if self.local and any(AS_ON_AWS.items() <= each.items() for each in control.chaos(self.local)["rules"]):
            control.chaos(self.local, "POST", rules=[AS_ON_AWS])

    def ok(self, *words: str, **more: Any) -> Answer:
        answer = self.run(*words, **more)
        assert answer.code == 0, f"{words}: exit {answer.code}\n{answer.out}{answer.err}"
        return answer

    def another(self, folder: Path, name: str) -> Shop:
        """A second project with a function of its own, on the same local AWS, nothing deployed."""
        folder.mkdir()
        made = replace(self, folder=folder, name=name[:64])
        made.configure()
        made.greet("hello")
        return made

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text))

    def greet(self, word: str) -> None:
        """Other code: the handler answers another word."""
        self.write(
            "index.py",
            f"""\
            def handler(event, context):
                return {{"word": "{word}", "version": context.function_version}}
            """,
        )

    def configure(self, *, provision: str | None = None, test: str = "", more: str = "", function: str = "") -> None:
        provision = provision or f'{{ with = "direct", name = "{self.name}", role = "{self.role}", memory = 128 }}'
        self.write(
            "pointsman.toml",
            f"""\
[function.greeting]
handler   = "index.handler"
runtime   = "{control_runtime()}"
build     = "python"
exclude   = ["check.py"]
provision = {provision}
{function}
{test}

[environment.staging]
alias = "STAGE"

[environment.production]
alias   = "PROD"
approve = true
{more}
""",
        )

    def invoke(self, qualifier: str) -> dict[str, Any]:
        reply = self.aws("lambda").invoke(FunctionName=self.name, Qualifier=qualifier, Payload=b"{}")
        return json.loads(reply["Payload"].read())  # type: ignore[no-any-return]

    def alias(self, name: str) -> dict[str, Any] | None:
        client = self.aws("lambda")
        try:
            return client.get_alias(FunctionName=self.name, Name=name)  # type: ignore[no-any-return]
        except client.exceptions.ResourceNotFoundException:
            return None

    def serves(self, name: str) -> str | None:
        found = self.alias(name)
        return found["FunctionVersion"] if found else None

    def versions(self) -> list[str]:
        listed = self.aws("lambda").list_versions_by_function(FunctionName=self.name)["Versions"]
        return [each["Version"] for each in listed if each["Version"] != "$LATEST"]


def control_runtime() -> str:
    import sys

    return f"python{sys.version_info[0]}.{sys.version_info[1]}"


CHECK = """
import json, os, sys
from pathlib import Path
import botocore.session

client = botocore.session.get_session().create_client("lambda")
reply = client.invoke(
    FunctionName=os.environ["POINTSMAN_FUNCTION"], Qualifier=os.environ["POINTSMAN_QUALIFIER"], Payload=b"{}"
)
word = json.loads(reply["Payload"].read()).get("word", "")
failure = "" if word and not word.startswith("bad") else f"<failure message='got {word}'/>"
Path("report.xml").write_text(
    f"<testsuite tests='1'><testcase classname='greeting' name='answers a good word'>{failure}</testcase></testsuite>"
)
sys.exit(1 if failure else 0)
"""


AS_ON_AWS = {"kind": "throttle", "per_second": 15}
"""Calls to Lambda's control plane, of everybody in the account together: nobody may see that there is a limit."""


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.Running]:
    directory = tmp_path_factory.mktemp("local-aws")
    running = control.up(directory, settle_s=0.02)
    control.chaos(running, "PUT", rules=[AS_ON_AWS])
    yield running
    control.down(directory)


@pytest.fixture(scope="session")
def aws(local_aws: control.Running) -> Callable[[str], Any]:
    given = control.environment(local_aws)
    session = botocore.session.Session()
    session.set_credentials(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
    clients: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in clients:
            clients[service] = session.create_client(service, region_name="eu-west-1", endpoint_url=local_aws.url)
        return clients[service]

    return client


@pytest.fixture(scope="session")
def role(aws: Callable[[str], Any]) -> str:
    return made_role(aws)


def made_role(aws: Callable[[str], Any]) -> str:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    made = aws("iam").create_role(RoleName="journeys", AssumeRolePolicyDocument=json.dumps(trust))
    return made["Role"]["Arn"]  # type: ignore[no-any-return]


@pytest.fixture
def shop(
    tmp_path: Path,
    local_aws: control.Running,
    aws: Callable[[str], Any],
    role: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shop]:
    """A Python function that Pointsman creates itself, nothing deployed yet."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "POINTSMAN_", "GITHUB_", "CI")):
            monkeypatch.delenv(name)
    made = Shop(
        folder=tmp_path / "project",
        name=f"greeting-{uuid.uuid4().hex[:8]}",
        aws=aws,
        role=role,
        variables=control.environment(local_aws),
        local=local_aws,
    )
    made.folder.mkdir()
    made.configure()
    made.greet("hello")
    yield made
    control.down(made.folder / ".pointsman" / "local" / "aws")  # of a rehearsal, which has its own


@pytest.fixture
def tested(shop: Shop) -> Shop:
    """The same, with integration tests against the published version."""
    import sys

    shop.write("check.py", CHECK)
    shop.configure(
        test=f"""[function.greeting.test]
integration = {{ run = "{sys.executable} check.py", junit = "report.xml" }}"""
    )
    return shop


@pytest.fixture
def account(shop: Shop, local_aws: control.Running) -> Shop:
    """The shop in an account where nobody else is, for what asks after every function of one.

    The local AWS keeps accounts apart by the access key. Before fixtures that deploy the shop.
    """
    number = str(uuid.uuid4().int)[:12]
    session = botocore.session.Session()
    session.set_credentials(number, "local")

    def client(service: str, region: str = "eu-west-1") -> Any:
        return session.create_client(service, region_name=region, endpoint_url=local_aws.url)

    shop.aws, shop.role = client, made_role(client)
    shop.variables = control.environment(local_aws, account=number)
    shop.configure()
    return shop
