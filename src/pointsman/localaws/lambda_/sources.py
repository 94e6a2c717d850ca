"""Where code comes from, as parameters name it: a zip in the request, an object in S3, an image in a registry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pointsman.localaws.lambda_.errors import ObjectMissing, invalid, not_built
from pointsman.localaws.lambda_.packages import Package, inspect
from pointsman.localaws.lambda_.store import Store
from pointsman.localaws.lambda_.wire import Json

_IMAGE = re.compile(
    r"(?P<name>(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/"
    r"(?P<repository>[a-z0-9._/-]+))(?::(?P<tag>[\w.-]{1,128})|@(?P<digest>sha256:[0-9a-f]{64}))"
)


class Sources(Store):
    def _package(self, account: str, region: str, given: Mapping[str, Any], *, store: bool = True) -> Package:
        """The zip that parameters name. Before any transaction: hashing and writing a big one must hold up nobody."""
        if given.get("S3ObjectStorageMode") not in (None, "COPY"):
            raise not_built("the parameter S3ObjectStorageMode")
        zipped = given.get("ZipFile")
        bucket, key = given.get("S3Bucket"), given.get("S3Key")
        if zipped is not None and (bucket or key):
            raise invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
        if zipped is None:
            if not bucket or not key:
                raise invalid("Please provide a source for function code.")
            zipped = self._object(account, region, bucket, key, given.get("S3ObjectVersion"))
        package = inspect(zipped, uploaded="ZipFile" in given)
        if store:
            self.packages.add(package, zipped)
        return package

    def _object(self, account: str, region: str, bucket: str, key: str, version: str | None) -> bytes:
        if self._read_object is None:
            raise not_built("code from S3 (it was started without S3)")
        try:
            return self._read_object(account, region, bucket, key, version)
        except ObjectMissing as missing:
            raise invalid(
                f"Error occurred while GetObject. S3 Error Code: {missing.code}. S3 Error Message: {missing.message}"
            ) from missing

    def _image(self, region: str, uri: str) -> Json:
        """What a function's settings say of an image; its tag is resolved now, once (as on AWS)."""
        found = _IMAGE.fullmatch(uri)
        if found is None or found["region"] != region:
            raise invalid(f"Source image {uri} is not valid. Provide a valid source image.")
        digest = found["digest"]
        if digest is None and self._image_digest is not None:
            digest = self._image_digest(found["account"], region, found["repository"], found["tag"])
        if digest is None:
            raise invalid(f"Source image {uri} does not exist. Provide a valid source image.")
        # Images count against the registry's quota, not against Lambda's.
        return {"CodeSha256": digest.removeprefix("sha256:"), "CodeSize": 0, "ImageUri": uri}


def code_of(package: Package) -> Json:
    """What a function's settings say of a zip."""
    return {"CodeSha256": package.sha256, "CodeSize": package.size}


def code_path(digest: str) -> str:
    """Where a zip is to be had, below this service; whoever answers over HTTP puts scheme and host before it."""
    return f"/2015-03-31/code/{digest}.zip"


def code_location(settings: Json, digest: str) -> Json:
    """GetFunction's Code."""
    if (uri := settings.get("ImageUri")) is None:
        return {"RepositoryType": "S3", "Location": code_path(digest)}
    found = _IMAGE.fullmatch(uri)
    assert found is not None, "only such an URI was let in"
    return {"RepositoryType": "ECR", "ImageUri": uri, "ResolvedImageUri": f"{found['name']}@sha256:{digest}"}
