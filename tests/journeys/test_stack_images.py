"""A stack owns a function of a container image: by the API, by a parameter, or in the template's own ImageUri."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.journeys.conftest import Shop
from tests.journeys.test_any_call_fails import Disturbed, Fault, dead_after, end_state, lost, refused, stacked_journey
from tests.journeys.test_cloudformation import lambda_writes, named
from tests.journeys.test_cloudformation import template as zipped
from tests.journeys.test_images import REGISTRY, code, configure, push

SAM = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  Greeter:
    Type: AWS::Serverless::Function
    Properties:
      PackageType: Image
      MemorySize: {memory}
      {more}
    Metadata:
      Dockerfile: Dockerfile
      DockerContext: ./app
      DockerTag: v1
{resources}
"""


def template(image: Any, *, memory: int = 128, name: str | None = None) -> str:
    """With `image` as ImageUri; a parameter where that is a Ref."""
    document = json.loads(zipped(name=name, memory=memory, PackageType="Image", Code={"ImageUri": image}))
    for key in ("Handler", "Runtime"):
        del document["Resources"]["Greeter"]["Properties"][key]
    if isinstance(image, dict):
        document["Parameters"] = {image["Ref"]: {"Type": "String"}}
    return json.dumps(document)


def own(shop: Shop, more: str = "", *, file: str = "stack.json", image: str | None = None) -> None:
    provision = f'{{ with = "cloudformation", stack = "{shop.name}", template = "{file}", function = "Greeter"{more} }}'
    configure(shop, image or f"{shop.name}:live", provision=provision)


def parameter(shop: Shop, name: str) -> str:
    stack = shop.aws("cloudformation").describe_stacks(StackName=shop.name)["Stacks"][0]
    return str(next(each["ParameterValue"] for each in stack["Parameters"] if each["ParameterKey"] == name))


def in_stack(shop: Shop) -> Any:
    """The function's image as the stack's template says it."""
    found = shop.aws("cloudformation").get_template(StackName=shop.name, TemplateStage="Original")["TemplateBody"]
    document = json.loads(found) if isinstance(found, str) else found
    held = document["Resources"]["Greeter"]["Properties"]
    return held.get("ImageUri") or held["Code"]["ImageUri"]


def test_an_image_given_as_a_stack_parameter_never_disagrees_with_the_stack(shop: Shop) -> None:
    shop.write("stack.json", template({"Ref": "ImageUri"}))
    own(shop, ', code_parameters = { image = "ImageUri" }')
    first = push(shop, "hello")
    uri = f"{REGISTRY}/{shop.name}@sha256:"

    made = shop.ok("deploy", "--build-id", "101", "--json")
    assert lambda_writes(made.document) == ["PublishVersion", "CreateAlias"]
    assert parameter(shop, "ImageUri") == f"{uri}{first}"
    assert shop.ok("deploy", "--build-id", "102", "--json").calls == (3, 0)

    second = push(shop, "goodbye")
    shown = shop.ok("plan", "--build-id", "103").out
    assert "it brings the code" in shown
    assert f"parameter ImageUri: {REGISTRY}" in shown
    again = shop.ok("deploy", "--build-id", "103", "--json")
    assert lambda_writes(again.document) == ["PublishVersion", "UpdateAlias"]
    shop.name, stack = named(shop), shop.name
    assert (code(shop, "STAGE")["CodeSha256"], code(shop, "$LATEST")["CodeSha256"]) == (second, second)

    told = shop.ok("rollback", "STAGE", "-v").err
    assert f"stack {stack}, and $LATEST with it, stays at its code" in told
    assert (code(shop, "STAGE")["CodeSha256"], code(shop, "$LATEST")["CodeSha256"]) == (first, second)


def test_somebody_elses_template_takes_the_image_as_a_parameter_too(shop: Shop) -> None:
    push(shop, "old", "old")
    shop.aws("cloudformation").create_stack(
        StackName=shop.name,
        TemplateBody=template({"Ref": "ImageUri"}),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": "ImageUri", "ParameterValue": f"{REGISTRY}/{shop.name}:old"}],
    )
    stack = shop.name
    digest = push(shop, "hello")
    provision = f'{{ with = "cloudformation", stack = "{stack}", function = "Greeter",'
    configure(shop, f"{stack}:live", provision=f'{provision} code_parameters = {{ image = "ImageUri" }} }}')

    done = shop.ok("deploy", "--build-id", "101", "--json")

    assert lambda_writes(done.document) == ["PublishVersion", "CreateAlias"]
    shop.name = named(shop)
    assert code(shop, "STAGE")["ImageUri"] == f"{REGISTRY}/{stack}@sha256:{digest}"


def test_an_image_put_beside_a_stack_that_brings_it_is_put_right(shop: Shop) -> None:
    shop.write("stack.json", template({"Ref": "ImageUri"}))
    own(shop, ', code_parameters = { image = "ImageUri" }')
    digest = push(shop, "hello")
    shop.ok("deploy", "--build-id", "101")
    push(shop, "theirs", "theirs")
    stack, name = shop.name, named(shop)
    client = shop.aws("lambda")
    client.update_function_code(FunctionName=name, ImageUri=f"{REGISTRY}/{stack}:theirs")
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    shop.write("stack.json", template({"Ref": "ImageUri"}, memory=256))
    assert shop.run("deploy", "--build-id", "102").code == 4

    shop.ok("deploy", "--build-id", "102")

    shop.name = name
    assert (shop.serves("STAGE"), code(shop, "STAGE")["CodeSha256"]) == ("2", digest)


@pytest.mark.parametrize("said", ["parameter", "tag"])
def test_code_by_the_stack_is_written_into_the_templates_image(shop: Shop, said: str) -> None:
    """Whatever stands there: a parameter keeps its value, and nobody asks it any more."""
    push(shop, "first", "first")
    given = {"Ref": "Picture"} if said == "parameter" else f"{REGISTRY}/{shop.name}:first"
    shop.write("stack.json", template(given))
    parameters = f', parameters = {{ Picture = "{REGISTRY}/{shop.name}:first" }}' if said == "parameter" else ""
    own(shop, f', code = "stack"{parameters}')
    first = push(shop, "hello")

    made = shop.ok("deploy", "--build-id", "101", "--json")
    assert lambda_writes(made.document) == ["PublishVersion", "CreateAlias"]
    assert in_stack(shop) == f"{REGISTRY}/{shop.name}@sha256:{first}"
    assert shop.ok("deploy", "--build-id", "102", "--json").calls == (3, 0)

    second = push(shop, "goodbye")
    assert "Greeter.Code.ImageUri: " in shop.ok("plan", "--build-id", "103").out
    again = shop.ok("deploy", "--build-id", "103", "--json")
    assert lambda_writes(again.document) == ["PublishVersion", "UpdateAlias"]
    shop.name = named(shop)
    assert code(shop, "STAGE")["CodeSha256"] == second


def test_by_the_api_the_stack_keeps_its_own_image(shop: Shop) -> None:
    push(shop, "first", "first")
    shop.write("stack.json", template(f"{REGISTRY}/{shop.name}:first"))
    own(shop)
    digest = push(shop, "hello")
    made = shop.ok("deploy", "--build-id", "101", "--json")
    assert lambda_writes(made.document) == ["UpdateFunctionCode", "PublishVersion", "CreateAlias"]
    shop.write("stack.json", template(f"{REGISTRY}/{shop.name}:first", memory=256))

    again = shop.ok("deploy", "--build-id", "102", "--json")

    assert "UpdateFunctionCode" not in lambda_writes(again.document)
    assert in_stack(shop) == f"{REGISTRY}/{shop.name}:first"
    shop.name = named(shop)
    assert (code(shop, "STAGE")["CodeSha256"], code(shop, "STAGE")["MemorySize"]) == (digest, 256)


def sam(shop: Shop, *, memory: int = 128, more: str = "", resources: str = "") -> None:
    (shop.folder / "template.yaml").write_text(SAM.format(memory=memory, more=more, resources=resources))


def test_a_sam_template_that_builds_its_image_gets_ours(shop: Shop) -> None:
    """`PackageType: Image` with Metadata, as `sam init` writes it: no ImageUri, which `sam package` would put in."""
    sam(shop)
    own(shop, file="template.yaml")
    first = push(shop, "hello")

    made = shop.ok("deploy", "--build-id", "1", "--json")
    assert lambda_writes(made.document) == ["PublishVersion", "CreateAlias"]
    assert shop.ok("deploy", "--build-id", "2", "--json").calls == (3, 0)

    # Another image goes by the API, and does not touch the stack; other settings leave the image as it is.
    second = push(shop, "goodbye")
    changed = shop.ok("deploy", "--build-id", "3", "--json")
    assert lambda_writes(changed.document) == ["UpdateFunctionCode", "PublishVersion", "UpdateAlias"]
    sam(shop, memory=256)
    shown = shop.ok("plan", "--build-id", "4").out
    assert "Greeter.MemorySize: 128 → 256" in shown
    assert "ImageUri" not in shown
    shop.ok("deploy", "--build-id", "4")
    assert in_stack(shop) == f"{REGISTRY}/{shop.name}@sha256:{first}"
    stack, shop.name = shop.name, named(shop)
    assert (code(shop, "STAGE")["CodeSha256"], code(shop, "STAGE")["MemorySize"]) == (second, 256)

    # And by the stack, where the file says so.
    shop.name = stack
    own(shop, ', code = "stack"', file="template.yaml")
    shop.ok("deploy", "--build-id", "5")
    assert in_stack(shop) == f"{REGISTRY}/{stack}@sha256:{second}"


def test_a_sam_template_with_an_alias_of_its_own_brings_the_image_without_a_bucket(shop: Shop) -> None:
    sam(shop, more="AutoPublishAlias: live")
    own(shop, file="template.yaml")
    push(shop, "hello")
    shop.ok("deploy", "--build-id", "1")
    digest = push(shop, "goodbye")

    made = shop.ok("deploy", "--build-id", "2", "--json")

    assert "UpdateFunctionCode" not in lambda_writes(made.document)
    assert in_stack(shop) == f"{REGISTRY}/{shop.name}@sha256:{digest}"
    shop.name = named(shop)
    assert code(shop, "live")["CodeSha256"] == code(shop, "STAGE")["CodeSha256"] == digest


def test_two_images_of_one_stack_are_released_together(shop: Shop) -> None:
    sam(
        shop,
        resources="""\
  Other:
    Type: AWS::Serverless::Function
    Properties: {PackageType: Image}
    Metadata: {Dockerfile: Dockerfile, DockerContext: ./other}
""",
    )
    own(shop, file="template.yaml")
    path = shop.folder / "pointsman.toml"
    first, environments = path.read_text().split("[environment", 1)
    second = first.replace("function.greeting", "function.other").replace('"Greeter"', '"Other"')
    path.write_text(f"{first}{second.replace(':live', ':other')}[environment{environments}")
    digests = {push(shop, "hello"), push(shop, "other", "other")}

    done = shop.ok("deploy", "--build-id", "1", "--json").result

    assert {each["sha256"] for each in done} == digests
    served = {
        shop.aws("lambda").get_function(FunctionName=each["name"], Qualifier="STAGE")["Configuration"]["CodeSha256"]
        for each in done
    }
    assert served == digests
    assert shop.ok("deploy", "--build-id", "2", "--json").calls[1] == 0


def test_what_a_template_cannot_do_with_an_image_is_refused_in_words(shop: Shop) -> None:
    push(shop, "hello")
    shop.write("stack.json", zipped())
    own(shop)
    zip_there = shop.run("deploy", "--build-id", "1")
    assert zip_there.code == 2
    assert "Greeter is to have a zip, and an image is to be deployed" in zip_there.err

    shop.write("stack.json", template(f"{REGISTRY}/{shop.name}:live"))
    shop.configure(
        provision=f'{{ with = "cloudformation", stack = "{shop.name}", template = "stack.json", function = "Greeter" }}'
    )
    image_there = shop.run("deploy", "--build-id", "1")
    assert image_there.code == 2
    assert "Greeter is to have an image, and a zip is to be deployed" in image_there.err

    own(shop, ', code_parameters = { key = "CodeKey" }')
    key = shop.run("deploy", "--build-id", "1")
    assert key.code == 2
    assert "code_parameters.key has no use with build" in key.err


def test_a_rehearsal_makes_the_stack_with_a_stand_in(shop: Shop) -> None:
    sam(shop)
    own(shop, file="template.yaml")

    try:
        made = shop.ok("--local", "-v", "deploy", "--build-id", "1", "--json")
    finally:
        shop.run("local", "down")

    assert made.result[0]["version"] == "1"
    assert f"put a stand-in for image {shop.name}:live into the local ECR" in made.err


def by_parameter(shop: Shop) -> Shop:
    """A stack that takes the image by a parameter, deployed once; the tag has moved since."""
    shop.write("stack.json", template({"Ref": "ImageUri"}, name=shop.name))
    own(shop, ', code_parameters = { image = "ImageUri" }')
    push(shop, "hello")
    shop.ok("deploy", "--build-id", "100")
    push(shop, "goodbye")
    return shop


@pytest.mark.parametrize("fault", [refused, lost, dead_after], ids=lambda each: each.__name__)
def test_whichever_call_fails_the_end_is_the_same(
    shop: Shop, fault: Fault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    counter = Disturbed({})
    stacked_journey(by_parameter(shop), counter)
    expected = end_state(shop)
    assert counter.count >= 15
    for k in counter.worth(fault, [refused, lost, dead_after]):
        again = shop.another(
            tmp_path_factory.mktemp("again") / "project", f"{shop.name}-i-{fault.__name__.replace('_', '-')}-{k}"
        )

        stacked_journey(by_parameter(again), Disturbed(fault(k)))

        assert end_state(again) == expected, f"call {k} of {counter.count}"
