"""moto's Step Functions, put right: Terraform asks whether a definition is valid before it makes a state machine.

Imports moto, so nothing may import this before moto is wanted.
"""

from __future__ import annotations

import json
from typing import Any, cast

from moto.core.responses import ActionResult
from moto.stepfunctions.responses import StepFunctionResponse


def put_states_right() -> None:
    def validate_state_machine_definition(self: Any) -> ActionResult:
        found = _diagnostics(self._get_param("definition") or "")
        return ActionResult({"result": "FAIL" if found else "OK", "diagnostics": found, "truncated": False})

    cast(Any, StepFunctionResponse).validate_state_machine_definition = validate_state_machine_definition


def _diagnostics(definition: str) -> list[dict[str, str]]:
    """What AWS was recorded to say of no JSON and of missing fields; of the rest, what moto's parser says."""
    from moto.stepfunctions.parser.api import InvalidDefinition
    from moto.stepfunctions.parser.models import StepFunctionsParserBackend

    def error(code: str, message: str, **more: str) -> list[dict[str, str]]:
        return [{"severity": "ERROR", "code": code, "message": message, **more}]

    try:
        machine = json.loads(definition) if definition.strip() else None
    except ValueError as wrong:
        return error("INVALID_JSON_DESCRIPTION", str(wrong))
    if not isinstance(machine, dict):
        return error("SCHEMA_VALIDATION_FAILED", "Definition must be a valid JSON object")
    if missing := [field for field in ("States", "StartAt") if field not in machine]:
        return error("SCHEMA_VALIDATION_FAILED", f"These fields are required: [{', '.join(missing)}]", location="/")
    try:
        StepFunctionsParserBackend._validate_definition(definition)
    except InvalidDefinition as wrong:
        return error("SCHEMA_VALIDATION_FAILED", str(wrong.message))
    return []
