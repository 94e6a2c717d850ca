"""Functions made of images in the local registry, which is moto's, and with layers, through the real server."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pointsman.localaws import control
from tests.localaws.conftest import Client, make_function, package

MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": 7,
        "digest": "sha256:" + "c" * 64,
    },
    "layers": [{"mediaType": "x", "size": 7, "digest": "sha256:" + "d" * 64}],
}


def push(ecr: Any, tag: str, layer: str) -> str:
    manifest = MANIFEST | {"layers": [{"mediaType": "x", "size": 7, "digest": f"sha256:{layer * 64}"}]}
    pushed = ecr.put_image(repositoryName="app", imageManifest=json.dumps(manifest), imageTag=tag)
    return str(pushed["image"]["imageId"]["imageDigest"])


def test_a_tag_is_resolved_once_in_the_local_registry(aws: control.Running, connect: Client) -> None:
    ecr, lambda_ = connect("ecr"), connect("lambda")
    uri = ecr.create_repository(repositoryName="app")["repository"]["repositoryUri"]
    first = push(ecr, "latest", "a")
    role = {"Role": f"arn:aws:iam::{control.ACCOUNT}:role/role", "PackageType": "Image"}
    make_function(aws, "zip-for-the-role", "def handler(e, c): pass")

    lambda_.create_function(FunctionName="image", Code={"ImageUri": f"{uri}:latest"}, **role)
    second = push(ecr, "latest", "b")

    assert first != second
    code = lambda_.get_function(FunctionName="image")["Code"]
    assert code["ResolvedImageUri"] == f"{uri}@{first}"
    with pytest.raises(ClientError, match=f"Source image {uri}:none does not exist. Provide a valid source image."):
        lambda_.create_function(FunctionName="none", Code={"ImageUri": f"{uri}:none"}, **role)
    lambda_.get_waiter("function_active_v2").wait(FunctionName="image", WaiterConfig={"Delay": 0.05})
    updated = lambda_.update_function_code(FunctionName="image", ImageUri=f"{uri}:latest")
    assert f"sha256:{updated['CodeSha256']}" == second
    with pytest.raises(ClientError, match="registers images but does not run them"):
        lambda_.invoke(FunctionName="image")


def test_an_images_digest_is_that_of_its_manifest(connect: Client) -> None:
    """As docker and every SDK compute it: two images of the same layers differ by their configuration."""
    ecr = connect("ecr")
    ecr.create_repository(repositoryName="digests")
    text = '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}'

    pushed = ecr.put_image(repositoryName="digests", imageManifest=text, imageTag="one")["image"]["imageId"]
    other = ecr.put_image(repositoryName="digests", imageManifest=text + " ", imageTag="two")["image"]["imageId"]

    assert pushed["imageDigest"] == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert other["imageDigest"] != pushed["imageDigest"]


def test_a_function_runs_with_its_layers(aws: control.Running, connect: Client) -> None:
    lambda_ = connect("lambda")
    arns = [
        lambda_.publish_layer_version(LayerName=f"numbers-{n}", Content={"ZipFile": package(f"N = {n}", name)})[
            "LayerVersionArn"
        ]
        for n, name in ((1, "python/one.py"), (2, "python/two.py"), (3, "python/two.py"))
    ]
    source = "import one, two\ndef handler(event, context): return [one.N, two.N]"
    make_function(aws, "layered", source, Layers=arns)

    assert json.load(lambda_.invoke(FunctionName="layered")["Payload"]) == [1, 3]
    lambda_.delete_layer_version(LayerName="numbers-3", VersionNumber=1)
    lambda_.update_function_configuration(FunctionName="layered", Layers=arns[:2])
    lambda_.get_waiter("function_updated_v2").wait(FunctionName="layered", WaiterConfig={"Delay": 0.05})
    assert json.load(lambda_.invoke(FunctionName="layered")["Payload"]) == [1, 2]
