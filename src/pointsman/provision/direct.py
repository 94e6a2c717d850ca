"""`provision = { with = "direct" }`: the file declares the settings, Pointsman sees to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pointsman.config import Direct, Function, ImageConfig


def settings(function: Function, direct: Direct, layers: Sequence[str]) -> dict[str, Any]:
    """What the file declares, in UpdateFunctionConfiguration's names. What it leaves out is left as it is.

    `layers`: those of `direct`, as Lambda is to have them.
    """
    declared: dict[str, Any] = {
        "Description": direct.description,
        "Role": direct.role,
        "Handler": function.handler,
        "Runtime": function.runtime,
        "MemorySize": direct.memory,
        "Timeout": direct.timeout,
        "Layers": list(layers) or None,
        "Environment": {"Variables": dict(direct.environment)} if direct.environment is not None else None,
        "Architectures": [function.architecture],
        "ImageConfig": _image(function.image_config) if function.image_config else None,
    }
    return {key: value for key, value in declared.items() if value is not None}


def _image(config: ImageConfig) -> dict[str, Any]:
    said = {
        "Command": list(config.command),
        "EntryPoint": list(config.entry_point),
        "WorkingDirectory": config.working_directory,
    }
    return {key: value for key, value in said.items() if value}
