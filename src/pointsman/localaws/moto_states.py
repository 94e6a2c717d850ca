"""moto's Step Functions, put right by two operations that Terraform cannot make a state machine without.

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

    def list_state_machine_versions(self: Any) -> ActionResult:
        """The newest first; a page's token is the number of its first version."""
        machine = self.stepfunction_backend.describe_state_machine(self._get_param("stateMachineArn"))
        before = int(self._get_param("nextToken") or machine.latest_version_number)
        numbers = sorted((number for number in machine.versions if number <= before), reverse=True)
        size = int(self._get_param("maxResults") or 100)
        page = [machine.versions[number] for number in numbers[:size]]
        more = {"nextToken": str(numbers[size])} if numbers[size:] else {}
        listed = [{"stateMachineVersionArn": each.arn, "creationDate": each.creation_date} for each in page]
        return ActionResult({"stateMachineVersions": listed, **more})

    theirs = cast(Any, StepFunctionResponse)
    theirs.validate_state_machine_definition = validate_state_machine_definition
    theirs.list_state_machine_versions = list_state_machine_versions


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
