"""`provision = { with = "direct" }`: the file declares the settings, Pointsman sees to them."""

from __future__ import annotations

from typing import Any

from pointsman.config import Direct, Function


def settings(function: Function, direct: Direct) -> dict[str, Any]:
    """What the file declares, in UpdateFunctionConfiguration's names. What it leaves out is left as it is."""
    declared: dict[str, Any] = {
        "Description": direct.description,
        "Role": direct.role,
        "Handler": function.handler,
        "Runtime": function.runtime,
        "MemorySize": direct.memory,
        "Timeout": direct.timeout,
        "Layers": list(direct.layers) or None,
        "Environment": {"Variables": dict(direct.environment)} if direct.environment is not None else None,
        "Architectures": [function.architecture],
    }
    return {key: value for key, value in declared.items() if value is not None}
