"""Speaks as Terraform does to Pointsman, of one function: for journeys that would run the real one a hundred times.

It refreshes, plans, refuses a stale plan and publishes on the local AWS, by real calls; its state is a file. Run as
`terraform` by a two-line script (see `stand_in` in test_terraform.py).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import botocore.session

STATE = Path("terraform.tfstate")
ADDRESS = "aws_lambda_function.lambda"


def main(words: list[str]) -> int:
    options = dict(word.removeprefix("-").split("=", 1) for word in words if word.startswith("-") and "=" in word)
    variables = dict(word.removeprefix("-var=").split("=", 1) for word in words if word.startswith("-var="))
    match words[0]:
        case "version":
            print(json.dumps({"terraform_version": "1.11.4"}))
        case "init":
            Path(os.environ.get("TF_DATA_DIR", ".terraform")).mkdir(parents=True, exist_ok=True)
        case "plan":
            return plan(Path(options["out"]), variables)
        case "show":
            print(json.dumps(json.loads(Path(words[-1]).read_text())["shown"]))
        case "apply":
            return apply(json.loads(Path(words[-1]).read_text()))
        case "output":
            print(json.dumps(outputs(state())))
        case other:
            sys.exit(f"Error: no {other}")
    return 0


def state() -> dict[str, Any]:
    return json.loads(STATE.read_text()) if STATE.exists() else {"serial": 0}  # type: ignore[no-any-return]


def outputs(values: dict[str, Any]) -> dict[str, Any]:
    told = {"lambda_name": values.get("function_name"), "lambda_version": values.get("version")}
    return {name: {"value": value} for name, value in told.items() if value}


def client() -> Any:
    return botocore.session.get_session().create_client("lambda")


def there(name: str) -> dict[str, Any] | None:
    aws = client()
    try:
        reply = aws.get_function(FunctionName=name)
    except aws.exceptions.ResourceNotFoundException:
        return None
    versions = aws.list_versions_by_function(FunctionName=name)["Versions"]
    found, image = reply["Configuration"], reply["Code"].get("ImageUri")
    code = {"package_type": "Image", "image_uri": image} if image else {"source_code_hash": found["CodeSha256"]}
    return {**code, "version": versions[-1]["Version"], "role": found["Role"]}


def plan(out: Path, variables: dict[str, str]) -> int:
    known, name = state(), variables["name"]
    refreshed = there(name) if known["serial"] else None
    code = (
        {"package_type": "Image", "image_uri": variables["image_uri"]}
        if "image_uri" in variables
        else zipped(variables)
    )
    before = {"function_name": name, "publish": True, **refreshed} if refreshed else None
    after = {"function_name": name, "publish": True, "role": variables["role"], **code}
    same = before is not None and all(before[key] == value for key, value in code.items())
    values = before if same and before else after
    shown = {
        "planned_values": {
            "outputs": outputs(values if same else {"function_name": name}),
            "root_module": {"resources": [resource(values)]},
        },
        "prior_state": {"values": {"root_module": {"resources": [resource(before)] if before else []}}},
        "resource_changes": [
            {
                **resource(None),
                "change": {
                    "actions": ["no-op"] if same else ["update"] if before else ["create"],
                    "before": before,
                    "after": values,
                    "after_unknown": {} if same else {"version": True},
                },
            }
        ],
    }
    out.write_text(json.dumps({"serial": known["serial"], "variables": variables, "values": values, "shown": shown}))
    return 0 if same else 2


def zipped(variables: dict[str, str]) -> dict[str, str]:
    digest = hashlib.sha256(Path(variables["package_path"]).read_bytes()).digest()
    return {"source_code_hash": base64.b64encode(digest).decode()}


def resource(values: dict[str, Any] | None) -> dict[str, Any]:
    return {"address": ADDRESS, "type": "aws_lambda_function", "mode": "managed", "values": values or {}}


def apply(planned: dict[str, Any]) -> int:
    known, variables = state(), planned["variables"]
    if known["serial"] != planned["serial"]:
        print("\nError: Saved plan is stale\n", file=sys.stderr)
        return 1
    aws, name = client(), variables["name"]
    settings: dict[str, Any] = {"Handler": "index.handler", "Runtime": variables["runtime"]}
    if image := variables.get("image_uri"):
        code: dict[str, Any] = {"ImageUri": image}
        settings = {"PackageType": "Image"}
    else:
        code = {"ZipFile": Path(variables["package_path"]).read_bytes()}
    if there(name) is None:
        aws.create_function(FunctionName=name, Role=variables["role"], Code=code, **settings)
    else:
        aws.update_function_code(FunctionName=name, **code)
    while True:
        found = aws.get_function(FunctionName=name)["Configuration"]
        if found["State"] == "Active" and found["LastUpdateStatus"] == "Successful":
            break
        time.sleep(0.05)
    version = aws.publish_version(FunctionName=name)["Version"]
    STATE.write_text(json.dumps({"serial": known["serial"] + 1, "function_name": name, "version": version}))
    return 0


if __name__ == "__main__":
    sys.exit(main([word for word in sys.argv[1:] if word != "-no-color"]))
