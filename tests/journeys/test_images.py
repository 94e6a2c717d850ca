"""Container images: a tag is resolved to its digest, and only the digest is deployed. Registered here, not run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .conftest import Shop

REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def manifest(word: str, **more: Any) -> str:
    """What `docker push` leaves in a registry for an image of one layer."""
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    digest = f"sha256:{hashlib.sha256(word.encode()).hexdigest()}"
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1000, "digest": digest}
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [], **more})


def push(shop: Shop, word: str, tag: str = "live", **more: Any) -> str:
    """The digest, in hex."""
    ecr = shop.aws("ecr")
    if shop.name not in [each["repositoryName"] for each in ecr.describe_repositories()["repositories"]]:
        ecr.create_repository(repositoryName=shop.name)
    text = manifest(word, **more)
    reply = ecr.put_image(repositoryName=shop.name, imageManifest=text, imageTag=tag)
    return str(reply["image"]["imageId"]["imageDigest"]).removeprefix("sha256:")


def configure(shop: Shop, image: str, *, more: str = "", provision: str = "") -> None:
    provision = provision or f'{{ with = "direct", name = "{shop.name}", role = "{shop.role}", memory = 256 }}'
    shop.write(
        "pointsman.toml",
        f"""\
[function.greeting]
build     = "image"
image     = "{REGISTRY}/{image}"
provision = {provision}
{more}

[environment.staging]
alias = "STAGE"

[environment.production]
alias = "PROD"
""",
    )


def code(shop: Shop, qualifier: str) -> dict[str, Any]:
    reply = shop.aws("lambda").get_function(FunctionName=shop.name, Qualifier=qualifier)
    return {**reply["Code"], **reply["Configuration"]}


def test_a_tag_is_resolved_and_only_its_digest_is_deployed(shop: Shop) -> None:
    digest = push(shop, "hello")
    configure(shop, f"{shop.name}:live", more='[function.greeting.image_config]\ncommand = ["app.handler"]')

    plan = shop.ok("plan", "--build-id", "1").out
    made = shop.ok("--json", "deploy", "--build-id", "1").result[0]

    assert "create the function" in plan
    assert made["sha256"] == digest
    found = code(shop, "STAGE")
    assert found["ImageUri"] == f"{REGISTRY}/{shop.name}@sha256:{digest}"
    assert (found["PackageType"], found["CodeSha256"]) == ("Image", digest)
    assert found["ImageConfigResponse"]["ImageConfig"] == {"Command": ["app.handler"]}

    again = shop.ok("--json", "deploy", "--build-id", "2")
    assert again.result[0]["outcome"] == "unchanged"
    assert again.calls == (3, 0)  # BatchGetImage, GetFunction, GetAlias


def test_the_same_tag_with_another_image_is_a_new_version_and_goes_back(shop: Shop) -> None:
    first = push(shop, "hello")
    configure(shop, f"{shop.name}:live")
    shop.ok("deploy", "--build-id", "1")
    second = push(shop, "goodbye")

    assert f"put image sha256:{second[:8]}" in shop.ok("plan", "--build-id", "2").out
    shop.ok("deploy", "--build-id", "2")
    shop.ok("promote", "1", "--to", "PROD")

    assert (code(shop, "STAGE")["CodeSha256"], code(shop, "PROD")["CodeSha256"]) == (second, first)
    shop.ok("rollback", "STAGE")
    assert code(shop, "STAGE")["CodeSha256"] == first
    assert second[:8] in shop.ok("versions").out
    assert f"another image: sha256:{first} → sha256:{second}" in shop.ok("diff", "1", "2").out
    assert shop.ok("--json", "status").result[0]["sha256"] == second


def test_a_digest_is_taken_as_it_is_and_asks_ecr_nothing(shop: Shop) -> None:
    digest = push(shop, "hello")
    configure(shop, f"{shop.name}:whatever@sha256:{digest}")

    shop.ok("deploy", "--build-id", "1")
    again = shop.ok("--json", "deploy", "--build-id", "1")

    assert code(shop, "STAGE")["ImageUri"] == f"{REGISTRY}/{shop.name}@sha256:{digest}"
    assert again.calls == (2, 0)


def test_a_build_id_names_one_image(shop: Shop) -> None:
    push(shop, "hello")
    configure(shop, f"{shop.name}:live")
    shop.ok("deploy", "--build-id", "1")
    push(shop, "goodbye")

    refused = shop.run("deploy", "--build-id", "1")

    assert refused.code != 0
    assert "build 1 is other code already" in refused.err


def test_a_saved_plan_deploys_the_image_that_it_saw(shop: Shop) -> None:
    seen = push(shop, "hello")
    configure(shop, f"{shop.name}:live")
    shop.ok("plan", "--build-id", "1", "--out", "plan.json")
    push(shop, "goodbye")

    shop.ok("apply", "plan.json")

    assert code(shop, "STAGE")["CodeSha256"] == seen


def test_what_is_wrong_with_an_image_is_said_before_anything_is_changed(shop: Shop) -> None:
    configure(shop, f"{shop.name}:live")
    missing = shop.run("deploy")
    assert missing.code == 1
    assert f"ECR has no image {REGISTRY}/{shop.name}:live" in missing.err

    index = "application/vnd.oci.image.index.v1+json"
    push(shop, "many", mediaType=index, manifests=[], layers=[])
    several = shop.run("deploy")
    assert "Lambda takes a single one" in several.err
    assert "--provenance=false" in several.err

    text = (shop.folder / "pointsman.toml").read_text()
    (shop.folder / "pointsman.toml").write_text(text.replace("eu-west-1", "us-east-1"))
    elsewhere = shop.run("deploy")
    assert "the image is in us-east-1" in elsewhere.err


def test_a_function_of_a_zip_cannot_become_one_of_an_image(shop: Shop) -> None:
    shop.ok("deploy", "--build-id", "1")
    push(shop, "hello")
    configure(shop, f"{shop.name}:live")

    refused = shop.run("deploy", "--build-id", "2")

    assert refused.code == 2
    assert "has a zip, and an image is to be deployed" in refused.err


def test_an_existing_function_gets_its_image(shop: Shop) -> None:
    digest = push(shop, "hello")
    shop.aws("lambda").create_function(
        FunctionName=shop.name,
        Role=shop.role,
        PackageType="Image",
        Code={"ImageUri": f"{REGISTRY}/{shop.name}:live"},
    )
    push(shop, "goodbye")
    configure(shop, f"{shop.name}:live", provision=f'{{ with = "existing", name = "{shop.name}" }}')

    shop.ok("deploy", "--build-id", "1")

    assert code(shop, "STAGE")["CodeSha256"] != digest


def test_a_rehearsal_puts_a_stand_in_into_the_registry_and_runs_nothing(shop: Shop, tmp_path: Path) -> None:
    configure(shop, f"{shop.name}:live")

    made = shop.ok("--local", "-v", "deploy", "--build-id", "1")

    assert f"put a stand-in for image {shop.name}:live into the local ECR" in made.err

    name = f"{shop.name}-theirs"
    configure(shop, f"{shop.name}:live", provision=f'{{ with = "existing", name = "{name}" }}')
    assert "made a stand-in for" in shop.ok("--local", "-v", "deploy", "--build-id", "1").err

    configure(shop, f"{shop.name}:live", more='[function.greeting.test]\nintegration = { run = "true" }')
    refused = shop.run("--local", "deploy", "--build-id", "2")
    assert refused.code == 3
    assert "registered on the local AWS, not run" in refused.err
