"""Where the real Terraform finds the real AWS provider on this disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Go collects garbage from 4 MB on, ever again until the provider's 300 MB are there: a fifth of all that it does.
SPARING = {"GOGC": "off", "GOMEMLIMIT": "1GiB"}


def folder() -> str:
    """For `terraform init -plugin-dir=`; skips the test where there is no Terraform, or no provider."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed here")
    named = os.environ.get("POINTSMAN_TERRAFORM_PLUGINS")
    if named is None and (printer := shutil.which("terraform-provider-dir")) is not None:
        named = subprocess.run([printer], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    if named is None or not (Path(named) / "registry.terraform.io" / "hashicorp" / "aws").is_dir():
        pytest.skip("Terraform's AWS provider is not on this disk (POINTSMAN_TERRAFORM_PLUGINS names its folder)")
    return named
