"""Layers of the file: built, published once for all that name them, and again only when they change."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.aws.operation import Operation, R, Transport
from pointsman.errors import Ambiguous
from pointsman.localaws import control

from .conftest import Shop, control_runtime
from .test_accounts import client_of

LAYERED = """\
def handler(event, context):
    import greetings
    return {"word": greetings.WORD, "version": context.function_version}
"""


def two_functions(shop: Shop, *, more: str = "", layers: str = '["common"]') -> None:
    """Two functions that name one layer of one Python file."""
    shop.write("index.py", LAYERED)
    shop.write("layers/common/python/greetings.py", 'WORD = "hello"\n')
    tables = [
        f"""\
[function.{name}]
handler   = "index.handler"
runtime   = "{control_runtime()}"
build     = "python"
include   = ["index.py"]
provision = {{ with = "direct", name = "{shop.name}{tail}", role = "{shop.role}", layers = {layers} }}
"""
        for name, tail in (("greeting", ""), ("farewell", "-2"))
    ]
    shop.write(
        "pointsman.toml",
        "\n".join(tables)
        + f"""
[layer.common]
name   = "{shop.name}-common"
source = "layers/common"
{more}

[environment.staging]
alias = "STAGE"

[environment.production]
alias = "PROD"
""",
    )


def published(shop: Shop) -> list[dict[str, Any]]:
    listed = shop.aws("lambda").list_layer_versions(LayerName=f"{shop.name}-common")
    return listed["LayerVersions"]  # type: ignore[no-any-return]


def refers_to(shop: Shop, qualifier: str, name: str = "") -> list[str]:
    found = shop.aws("lambda").get_function_configuration(FunctionName=name or shop.name, Qualifier=qualifier)
    return [each["Arn"].rpartition(":")[2] for each in found.get("Layers", ())]


def actions(answer: Any) -> list[str]:
    return [each["action"] for each in answer.document["calls"]["list"]]


def test_a_layer_is_published_once_for_two_functions_and_only_when_it_changes(shop: Shop) -> None:
    two_functions(shop)

    first = shop.ok("--json", "deploy", "--build-id", "1")

    assert len(published(shop)) == 1
    assert shop.invoke("STAGE")["word"] == "hello"
    assert refers_to(shop, "STAGE") == refers_to(shop, "STAGE", f"{shop.name}-2") == ["1"]
    assert actions(first).count("PublishLayerVersion") == 1

    again = shop.ok("--json", "deploy", "--build-id", "2")
    assert again.calls == (4, 0)  # of each function GetFunction and GetAlias, and nothing else
    assert {each["outcome"] for each in again.result} == {"unchanged"}

    shop.write("layers/common/python/greetings.py", 'WORD = "goodbye"\n')
    plan = shop.ok("plan", "--function", "greeting", "--build-id", "3").out
    assert "as the next version of layer common (version 1 holds something else)" in plan
    assert f"Layers {shop.name}-common:1 → common (new)" in plan

    changed = shop.ok("--json", "deploy", "--build-id", "3")
    assert [each["published"] for each in changed.result] == [True, True]
    assert actions(changed).count("PublishLayerVersion") == 1
    assert "UpdateFunctionCode" not in actions(changed)
    assert shop.invoke("STAGE") == {"word": "goodbye", "version": "2"}
    assert shop.invoke("1")["word"] == "hello"
    assert "published version 2 of layer common" in shop.ok("history").out


def test_a_release_and_a_build_run_a_layers_command_once(shop: Shop) -> None:
    """Its artifact is a folder that each run writes: no function may read it while another one's run does."""
    made = 'command = "echo built >>../../log && mkdir -p out && cp -r python out"\nartifact = "layers/common/out"'
    two_functions(shop, more=made)

    shop.ok("deploy", "--build-id", "1")
    assert (shop.folder / "log").read_text() == "built\n"
    assert shop.invoke("STAGE")["word"] == "hello"

    shop.ok("build")
    assert (shop.folder / "log").read_text() == "built\nbuilt\n"


def test_going_back_to_an_earlier_layer_takes_its_version(shop: Shop) -> None:
    two_functions(shop)
    shop.ok("deploy", "--function", "greeting", "--build-id", "1")
    shop.write("layers/common/python/greetings.py", 'WORD = "goodbye"\n')
    shop.ok("deploy", "--function", "greeting", "--build-id", "2")
    shop.write("layers/common/python/greetings.py", 'WORD = "hello"\n')

    back = shop.ok("--json", "deploy", "--function", "greeting", "--build-id", "3")

    assert refers_to(shop, "STAGE") == ["1"]
    assert len(published(shop)) == 2
    assert "GetLayerVersionByArn" in actions(back)  # it may have been deleted since


def test_a_machine_without_a_ledger_finds_the_version_by_its_digest(shop: Shop) -> None:
    two_functions(shop)
    shop.ok("deploy", "--build-id", "1")
    for ledger in (shop.folder / ".pointsman").rglob("ledger.db*"):
        ledger.unlink()

    again = shop.ok("--json", "deploy", "--build-id", "1")

    assert len(published(shop)) == 1
    assert again.calls[1] == 0
    assert {each["outcome"] for each in again.result} == {"unchanged"}


def test_somebody_elses_publication_of_the_same_bytes_is_taken(shop: Shop) -> None:
    two_functions(shop)
    shop.ok("build")
    (package,) = (shop.folder / ".pointsman" / "artifacts" / "layers").glob("*.zip")
    for content in (b"", package.read_bytes()):
        if content:
            shop.aws("lambda").publish_layer_version(
                LayerName=f"{shop.name}-common", Content={"ZipFile": content}, Description="by hand"
            )

    shop.ok("deploy", "--build-id", "1")

    assert len(published(shop)) == 1


class Losing:
    """Sends, and loses the answer of the first call of an action."""

    def __init__(self, inner: Transport, action: str) -> None:
        self.inner, self.action, self.lost = inner, action, 0

    def send(self, operation: Operation[R]) -> R:
        reply = self.inner.send(operation)
        if operation.action == self.action and not self.lost:
            self.lost += 1
            raise Ambiguous("the answer was lost", where=str(operation))
        return reply


def test_after_a_lost_answer_the_version_is_found_and_not_published_again(shop: Shop) -> None:
    two_functions(shop)

    answer = shop.ok("-v", "deploy", "--build-id", "1", wrap=lambda inner: Losing(inner, "PublishLayerVersion"))

    assert "looking whether it took effect" in answer.err
    assert len(published(shop)) == 1
    assert shop.invoke("STAGE")["word"] == "hello"


def test_a_run_that_ended_after_publishing_goes_on_with_that_version(shop: Shop) -> None:
    class Killed(Exception):
        pass

    class Dying(Losing):
        def send(self, operation: Operation[R]) -> R:
            reply = self.inner.send(operation)
            if operation.action == self.action:
                raise Killed
            return reply

    two_functions(shop)
    with pytest.raises(Killed):
        shop.run(
            "deploy", "--function", "greeting", "--build-id", "1",
            wrap=lambda inner: Dying(inner, "PublishLayerVersion"),
        )  # fmt: skip

    shop.ok("resume")

    assert len(published(shop)) == 1
    assert shop.invoke("STAGE")["word"] == "hello"


def test_a_saved_plan_publishes_exactly_its_layer(shop: Shop) -> None:
    two_functions(shop)
    shop.ok("plan", "--function", "greeting", "--build-id", "1", "--out", "plan.json")
    shop.write("layers/common/python/greetings.py", 'WORD = "later"\n')

    shop.ok("apply", "plan.json")

    assert shop.invoke("STAGE")["word"] == "hello"


def test_retain_deletes_older_versions_of_ours_and_no_function_notices(shop: Shop) -> None:
    two_functions(shop, more="retain = 2")
    for n, word in enumerate(("one", "two", "three"), 1):
        shop.write("layers/common/python/greetings.py", f'WORD = "{word}"\n')
        shop.ok("deploy", "--function", "greeting", "--build-id", str(n))

    assert [each["Version"] for each in published(shop)] == [3, 2]
    assert shop.invoke("1")["word"] == "one"
    assert shop.invoke("STAGE")["word"] == "three"


def test_a_layer_of_others_is_looked_at_once(shop: Shop) -> None:
    """One read tells what its publisher made it for; then the ledger knows."""
    shop.write("layers/theirs/python/greetings.py", 'WORD = "theirs"\n')
    two_functions(shop)
    shop.ok("build")
    (package,) = (shop.folder / ".pointsman" / "artifacts" / "layers").glob("*.zip")
    made = shop.aws("lambda").publish_layer_version(
        LayerName=f"{shop.name}-tools", Content={"ZipFile": package.read_bytes()}, CompatibleRuntimes=["nodejs20.x"]
    )
    two_functions(shop, layers=f'["{made["LayerVersionArn"]}"]')

    first = shop.ok("--json", "deploy", "--function", "greeting", "--build-id", "1")
    assert any("is for nodejs20.x" in each for each in first.result[0]["warnings"])
    assert actions(first).count("GetLayerVersionByArn") == 1

    shop.write("index.py", LAYERED + "# more\n")
    second = shop.ok("--json", "deploy", "--function", "greeting", "--build-id", "2")
    assert "GetLayerVersionByArn" not in actions(second)


def test_a_layer_of_another_account_is_others_also_where_it_is_named_like_ours(
    shop: Shop, local_aws: control.Running
) -> None:
    two_functions(shop)
    shop.ok("build")
    (package,) = (shop.folder / ".pointsman" / "artifacts" / "layers").glob("*.zip")
    theirs = client_of(local_aws, "lambda", "999999999999")
    name = f"{shop.name}-common"
    made = theirs.publish_layer_version(
        LayerName=name, Content={"ZipFile": package.read_bytes()}, CompatibleRuntimes=["nodejs20.x"]
    )
    theirs.add_layer_version_permission(
        LayerName=name, VersionNumber=1, StatementId="all", Principal="*", Action="lambda:GetLayerVersion"
    )
    two_functions(shop, layers=f'["common", "{made["LayerVersionArn"]}"]')

    answer = shop.ok("--json", "deploy", "--function", "greeting", "--build-id", "1")

    assert any("999999999999" in each and "is for nodejs20.x" in each for each in answer.result[0]["warnings"])


def test_build_makes_the_layers_too(shop: Shop) -> None:
    two_functions(shop)

    made = shop.ok("--json", "build", "--function", "greeting").result
    assert [each["layer"] for each in made[0]["layers"]] == ["common"]

    (alone,) = shop.ok("--json", "build", "--layer", "common").result
    assert alone["package"]["sha256"] == made[0]["layers"][0]["package"]["sha256"]


def test_a_node_layer_has_its_packages_where_node_looks(shop: Shop) -> None:
    shop.write("layers/words/package.json", '{"name": "words", "dependencies": {"greetings": "file:./greetings"}}')
    shop.write("layers/words/greetings/package.json", '{"name": "greetings", "version": "1.0.0", "main": "index.js"}')
    shop.write("layers/words/greetings/index.js", 'exports.word = "hello";\n')
    shop.write("index.js", 'exports.handler = async () => ({ word: require("greetings").word });\n')
    shop.write(
        "pointsman.toml",
        f"""\
[function.greeting]
handler   = "index.handler"
runtime   = "nodejs20.x"
build     = "node"
include   = ["index.js"]
provision = {{ with = "direct", name = "{shop.name}", role = "{shop.role}", layers = ["words"] }}

[layer.words]
name   = "{shop.name}-words"
source = "layers/words"

[environment.staging]
alias = "STAGE"
""",
    )

    shop.ok("deploy", "--build-id", "1")

    assert shop.invoke("STAGE")["word"] == "hello"


def test_a_rehearsal_makes_the_bucket_that_packages_go_by(shop: Shop) -> None:
    shop.configure()
    file = shop.folder / "pointsman.toml"
    file.write_text(file.read_text().replace('alias = "STAGE"', f'alias = "STAGE"\nbucket = "b-{shop.name.lower()}"'))

    made = shop.ok("--local", "-v", "deploy", "--build-id", "1")
    assert f"made the bucket b-{shop.name.lower()} on the local AWS" in made.err

    shop.greet("again")
    again = shop.ok("--local", "-v", "deploy", "--build-id", "2")
    assert "made the bucket" not in again.err
    assert f"to s3://b-{shop.name.lower()}/pointsman/" in again.err
