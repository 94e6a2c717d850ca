"""Terraform owns a function of a container image: told by its digest, or left to Pointsman. The real Terraform."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest

from tests.journeys.conftest import Shop, control_runtime
from tests.journeys.test_any_call_fails import Disturbed, Fault, dead_after, end_state, lost, refused
from tests.journeys.test_images import REGISTRY, code, configure, push
from tests.journeys.test_terraform import (
    PROVIDER,
    REAL,
    ROLE,
    journey,
    plugins,
    runs_terraform,
    terraformed,
    with_stand_in,
)

__all__ = ["plugins", "terraformed"]

FUNCTION = """
resource "aws_lambda_function" "lambda" {
  function_name = "%(name)s"
  package_type  = "Image"
  image_uri     = %(image)s
  role          = aws_iam_role.role.arn
  memory_size   = 128
%(more)s
}
"""
OUTPUTS = """
output "lambda_name" { value = aws_lambda_function.lambda.function_name }
output "lambda_version" { value = aws_lambda_function.lambda.version }
"""
LEFT = "  lifecycle {\n    ignore_changes = [image_uri]\n  }"


def module(
    shop: Shop, image: str = "var.image_uri", *, more: str = "  publish = true", head: str | None = None
) -> None:
    head = 'variable "image_uri" { type = string }\n' if head is None else head
    function = FUNCTION % {"name": shop.name, "image": image, "more": more}
    shop.write("terraform/main.tf", PROVIDER + ROLE % {"name": shop.name} + head + function + OUTPUTS)


def owned(shop: Shop, more: str = "", *, image: str | None = None) -> None:
    configure(shop, image or f"{shop.name}:live", provision=f'{{ with = "terraform"{more} }}')


def released(answer: Any) -> tuple[Any, ...]:
    made = answer.result[0]
    return made["version"], made["published"], made["outcome"]


@REAL
def test_terraform_is_told_the_image_by_its_digest_and_publishes_it(terraformed: Shop) -> None:
    shop = terraformed
    module(shop, head='variable "image_uri" { type = string }\nvariable "build_id" { default = "" }\n')
    owned(shop)
    first = push(shop, "hello")

    assert "create aws_lambda_function.lambda" in shop.ok("plan", "--build-id", "1").out
    made = shop.ok("deploy", "--build-id", "1", "--json")
    assert released(made) == ("1", True, "done")
    assert made.calls[1] == 1  # the alias is all that Pointsman itself changes
    assert code(shop, "STAGE")["ImageUri"] == f"{REGISTRY}/{shop.name}@sha256:{first}"

    # The same digest, by another build id: Terraform is not started.
    again = shop.ok("deploy", "--build-id", "2", "--json", "-v")
    assert again.calls == (3, 0)
    assert not runs_terraform(again)

    # The tag moves: exactly the plan that was shown, also where it moves once more meanwhile.
    second = push(shop, "goodbye")
    shown = shop.ok("plan", "--build-id", "3", "--out", "release.plan").out
    assert "update aws_lambda_function.lambda: image_uri" in shown
    push(shop, "too late")
    assert released(shop.ok("apply", "release.plan", "--json")) == ("2", True, "done")
    assert (code(shop, "STAGE")["CodeSha256"], code(shop, "$LATEST")["CodeSha256"]) == (second, second)

    # Other settings of the function: a version of the same image.
    push(shop, "goodbye")
    main = shop.folder / "terraform" / "main.tf"
    main.write_text(main.read_text().replace("memory_size   = 128", "memory_size   = 256"))
    assert released(shop.ok("deploy", "--build-id", "4", "--json")) == ("3", True, "done")
    assert (code(shop, "STAGE")["CodeSha256"], code(shop, "STAGE")["MemorySize"]) == (second, 256)

    shop.ok("rollback", "STAGE", "--to", "1")
    assert code(shop, "STAGE")["CodeSha256"] == first

    # Another machine, with an empty ledger and the same state.
    shop.ok("rollback", "STAGE", "--to", "version:3")
    shutil.rmtree(shop.folder / ".pointsman")
    unknown = shop.ok("deploy", "--build-id", "4", "--json", "-v")
    assert (unknown.result[0]["outcome"], unknown.calls[1]) == ("unchanged", 0)
    assert shop.ok("deploy", "--build-id", "4", "--json").calls == (3, 0)


@REAL
def test_terraform_makes_the_function_and_the_image_is_left_to_pointsman(terraformed: Shop) -> None:
    """The module has an image to begin with; its own variable for that is the module's business."""
    shop = terraformed
    stand_in = push(shop, "stand-in", "stand-in")
    module(shop, f'"{REGISTRY}/{shop.name}:stand-in"', more=LEFT, head="")
    owned(shop)
    first = push(shop, "hello")

    assert released(shop.ok("deploy", "--build-id", "1", "--json")) == ("1", True, "done")
    assert code(shop, "STAGE")["CodeSha256"] == first != stand_in

    second = push(shop, "goodbye")
    answer = shop.ok("deploy", "--build-id", "2", "--json", "-v")
    assert released(answer) == ("2", True, "done")
    assert answer.calls[1] == 3
    assert not runs_terraform(answer)

    main = shop.folder / "terraform" / "main.tf"
    main.write_text(main.read_text().replace("memory_size   = 128", "memory_size   = 256"))
    assert released(shop.ok("deploy", "--build-id", "3", "--json")) == ("3", True, "done")
    assert (code(shop, "STAGE")["CodeSha256"], code(shop, "STAGE")["MemorySize"]) == (second, 256)


@REAL
def test_a_variable_that_only_begins_the_function_is_told_and_then_left(terraformed: Shop) -> None:
    shop = terraformed
    module(shop, "var.first", more=f"  publish = true\n{LEFT}", head='variable "first" { type = string }\n')
    owned(shop, ', inputs = { image = "first" }')
    push(shop, "hello")
    assert released(shop.ok("deploy", "--build-id", "1", "--json")) == ("1", True, "done")

    second = push(shop, "goodbye")
    assert released(shop.ok("deploy", "--build-id", "2", "--json")) == ("2", True, "done")
    assert code(shop, "STAGE")["CodeSha256"] == second
    assert not runs_terraform(shop.ok("deploy", "--build-id", "3", "-v"))


@REAL
def test_an_image_by_repository_and_digest_is_put_together_by_the_module(terraformed: Shop) -> None:
    shop = terraformed
    module(
        shop,
        f'"{REGISTRY}/{shop.name}@${{var.image_digest}}"',
        head='variable "image_digest" { type = string }\n',
        more="",
    )
    owned(shop)
    digest = push(shop, "hello")

    assert released(shop.ok("deploy", "--build-id", "1", "--json")) == ("1", True, "done")  # publishing is ours here
    assert code(shop, "STAGE")["CodeSha256"] == digest


@REAL
def test_what_a_module_cannot_do_with_an_image_is_refused_in_words(terraformed: Shop) -> None:
    shop = terraformed
    push(shop, "hello")
    owned(shop)
    tagged = f'"{REGISTRY}/{shop.name}:live"'

    module(shop, tagged, head="")
    nowhere = shop.run("deploy", "--build-id", "1")
    assert nowhere.code == 2
    assert "no variable of the module in terraform takes the image" in nowhere.err
    assert 'variable "image_uri" { type = string }' in nowhere.err
    assert not runs_terraform(nowhere)

    module(shop, tagged)
    unused = shop.run("deploy", "--build-id", "1")
    assert unused.code == 2
    assert f"aws_lambda_function.lambda would get the image {REGISTRY}/{shop.name}:live, and not the one" in unused.err
    assert "the variable (image_uri)" in unused.err

    owned(shop, f', variables = {{ image_uri = "{REGISTRY}/{shop.name}:live" }}')
    fixed = shop.run("deploy", "--build-id", "1")
    assert "Take image_uri out of `variables`" in fixed.err

    owned(shop, ', inputs = { image = "picture" }')
    misnamed = shop.run("deploy", "--build-id", "1")
    assert "has no variable picture" in misnamed.err

    (shop.folder / "code.zip").write_bytes(b"PK\5\6" + bytes(18))
    zipped = 'handler = "index.handler"\n  runtime = "python3.13"\n  filename = "../code.zip"'
    module(shop, "null", more=f"  {zipped}")
    main = shop.folder / "terraform" / "main.tf"
    main.write_text(main.read_text().replace('package_type  = "Image"', 'package_type  = "Zip"'))
    owned(shop)
    other = shop.run("deploy", "--build-id", "1")
    assert other.code == 2
    assert "aws_lambda_function.lambda is to have a zip, and an image is to be deployed" in other.err

    module(shop)
    shop.configure(provision='{ with = "terraform", variables = { image_uri = "x/y:z" } }')
    reverse = shop.run("deploy", "--build-id", "1")
    assert reverse.code == 2
    assert "aws_lambda_function.lambda is to have an image, and a zip is to be deployed" in reverse.err
    with pytest.raises(Exception, match="ResourceNotFound"):  # nothing of all this made one
        code(shop, "$LATEST")


@REAL
def test_an_image_that_terraform_deployed_by_its_tag_is_taken_as_it_is(terraformed: Shop) -> None:
    """Its digest is the one: naming it by that is not worth a write, and no other version."""
    shop = terraformed
    digest = push(shop, "hello")
    module(shop)
    for words in (("init",), ("apply", "-auto-approve", f"-var=image_uri={REGISTRY}/{shop.name}:live")):
        subprocess.run(
            ["terraform", *words, "-input=false"],
            cwd=shop.folder / "terraform",
            env={**os.environ, **shop.variables},
            check=True,
            capture_output=True,
        )
    owned(shop)

    made = shop.ok("deploy", "--build-id", "1", "--json")

    assert (made.result[0]["version"], made.calls[1]) == ("1", 1)
    assert code(shop, "STAGE")["CodeSha256"] == digest
    assert shop.ok("deploy", "--build-id", "2", "--json").calls == (3, 0)


@REAL
def test_a_rehearsal_registers_the_image(terraformed: Shop) -> None:
    shop = terraformed
    module(shop)
    owned(shop)
    try:
        made = shop.ok("--local", "deploy", "--build-id", "1", "--json")
    finally:
        shop.run("local", "down")

    assert made.result[0]["version"] == "1"


def by_stand_in(shop: Shop) -> Shop:
    """Terraform's stand-in, which takes an image: deployed once, and the tag has moved since."""
    with_stand_in(shop)
    main = shop.folder / "terraform" / "main.tf"
    main.write_text(main.read_text().replace("package_path", "image_uri"))
    variables = f'name = "{shop.name}", role = "{shop.role}", runtime = "{control_runtime()}"'
    owned(shop, f", variables = {{ {variables} }}")
    push(shop, "hello")
    shop.ok("deploy", "--build-id", "100")
    push(shop, "goodbye")
    return shop


@REAL
@pytest.mark.parametrize("fault", [refused, lost, dead_after], ids=lambda each: each.__name__)
def test_whichever_of_our_calls_fails_the_end_is_the_same(
    shop: Shop, fault: Fault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    counter = Disturbed({})
    journey(by_stand_in(shop), counter)
    expected = end_state(shop)
    assert sorted(row[:3] for row in expected["aliases"]) == [("PROD", "2", "101"), ("STAGE", "2", "101")]
    for k in counter.worth(fault, [refused, lost, dead_after]):
        folder = tmp_path_factory.mktemp("again") / "project"
        again = by_stand_in(shop.another(folder, f"{shop.name}-{fault.__name__.replace('_', '-')}-{k}"))

        journey(again, Disturbed(fault(k)))

        assert end_state(again) == expected, f"call {k} of {counter.count}"
