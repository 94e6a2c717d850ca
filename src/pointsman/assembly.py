"""What `cdk synth` left behind: which folder or zip is a function's code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pointsman.errors import BuildFailed

_AGAIN = "Run `npx cdk synth` first."


def asset(template: Path, function: str) -> Path:
    """The code of the function with this logical id: by where the template has it from, in the manifest beside it.

    https://docs.aws.amazon.com/cdk/v2/guide/assets.html. Its name changes with its content, and the template with it.
    Raises BuildFailed.
    """
    if not template.is_file():
        raise BuildFailed(f"there is no {template}", next=_AGAIN)
    resource = _table(_table(_read(template).get("Resources")).get(function))
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

    `resource` is the function as the template has it. Raises BuildFailed for a manifest that cannot be read.
    """
    key = _table(_table(resource.get("Properties")).get("Code")).get("S3Key")
    key = _table(key).get("Fn::Sub", key)
    noted = _table(resource.get("Metadata")).get("aws:asset:path")  # of the CDK's command, not of the app by itself
    named = [noted] if isinstance(noted, str) else [path for path, keys in _assets(template.parent) if key in keys]
    found = (template.parent / each for each in named)
    return next((each.resolve() for each in found if each.exists()), None)


def _assets(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Of each file asset its path and the keys it goes to.

    https://docs.aws.amazon.com/cdk/api/v2/docs/@aws-cdk_cloud-assembly-schema.FileAsset.html
    """
    for manifest in sorted(folder.glob("*.assets.json")):
        for each in _table(_read(manifest).get("files")).values():
            source, destinations = _table(_table(each).get("source")), _table(_table(each).get("destinations"))
            if isinstance(path := source.get("path"), str):
                yield path, {str(_table(one).get("objectKey")) for one in destinations.values()}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return _table(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise BuildFailed(f"it cannot be read: {error}", where=str(file), next=_AGAIN) from error


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
