"""What `cdk synth` left behind: which folder or zip is a function's code, and what goes where in S3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pointsman.errors import BuildFailed, UsageError

_AGAIN = "Run `npx cdk synth` first."


class File(NamedTuple):
    """A folder or file, and the object in S3 that it becomes."""

    path: Path
    bucket: str
    key: str


class Manifest(NamedTuple):
    """`images`: their hashes."""

    files: tuple[File, ...]
    images: tuple[str, ...]


def read(manifest: Path) -> Manifest:
    """The assets that a STACK.assets.json names. Raises UsageError.

    https://docs.aws.amazon.com/cdk/api/v2/docs/@aws-cdk_cloud-assembly-schema.FileAsset.html
    """
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
        files = [
            File(manifest.parent / each["source"]["path"], one["bucketName"], one["objectKey"])
            for each in said["files"].values()
            if "path" in each["source"]  # else a program of the app's own makes it
            for one in each["destinations"].values()
        ]
        return Manifest(tuple(files), tuple(said.get("dockerImages") or ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{manifest} is no assets manifest that is known here: {error!r}", next="`cdk synth` writes it anew."
        ) from error


def asset(template: Path, function: str) -> Path:
    """The code of the function with this logical id: by where the template has it from, in the manifest beside it.

    https://docs.aws.amazon.com/cdk/v2/guide/assets.html. Its name changes with its content, and the template with it.
    Raises BuildFailed, and UsageError for a manifest that cannot be read.
    """
    try:
        document = _table(json.loads(template.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise BuildFailed(f"there is no {template}", next=_AGAIN) from error
    except (OSError, ValueError) as error:
        raise BuildFailed(f"it cannot be read: {error}", where=str(template), next=_AGAIN) from error
    resource = _table(_table(document.get("Resources")).get(function))
    if not resource:
        raise BuildFailed(
            f"{template.name} has no function {function}", where=str(template), next="Correct `artifact`."
        )
    path = place(template, resource)
    if path is None:
        raise BuildFailed(f"{function} has no asset in {template.parent}", where=str(template), next=_AGAIN)
    return path


def place(template: Path, resource: Mapping[str, Any]) -> Path | None:
    """Where the asset lies that a function of the template is made of; None where the assembly does not tell.

    `resource` is the function as the template has it. Raises UsageError for a manifest that cannot be read.
    """
    key = _table(_table(resource.get("Properties")).get("Code")).get("S3Key")
    key = _table(key).get("Fn::Sub", key)
    noted = _table(resource.get("Metadata")).get("aws:asset:path")  # of the CDK's command, not of the app by itself
    if isinstance(noted, str):
        found = [template.parent / noted]
    else:  # in a nested stack's case the manifest is its parent's
        manifests = sorted(template.parent.glob("*.assets.json"))
        found = [each.path for manifest in manifests for each in read(manifest).files if each.key == key]
    return next((each.resolve() for each in found if each.exists()), None)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
