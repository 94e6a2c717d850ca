"""What a template is given from other services, as moto has it: S3, SSM, Secrets Manager and IAM."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from pointsman.localaws.cloudformation.template import TemplateError

_S3_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3[.-](?:[a-z0-9.-]+\.)?(?:amazonaws\.com(?:\.cn)?|localhost)")


def template_at(url: str, account: str, region: str) -> str:
    """A template in S3, by a URL of the path or the virtual-host style, AWS's or ours."""
    from moto.core.exceptions import ServiceException
    from moto.s3.models import s3_backends
    from moto.utilities.utils import get_partition

    parts = urlsplit(url)
    host, path = parts.hostname or "", unquote(parts.path.lstrip("/"))
    found = _S3_HOST.fullmatch(host)
    local = host in ("127.0.0.1", "localhost")
    if parts.scheme == "s3":
        raise TemplateError(f"S3 error: Domain name specified in {host} is not a valid S3 domain")
    if parts.scheme not in ("http", "https") or not (found or local or host.endswith(".localhost")):
        raise TemplateError("TemplateURL must be a supported URL.")
    bucket = found["bucket"] if found else None if local else host.removesuffix(".localhost")
    key = path
    if bucket is None:
        bucket, _, key = path.partition("/")
    try:
        content = s3_backends[account][get_partition(region)].get_object(bucket, key)
    except ServiceException as error:
        raise TemplateError(f"S3 error: {getattr(error, 'message', error)}") from error
    if content is None or not hasattr(content, "value"):  # a delete marker has none
        raise TemplateError("S3 error: The specified key does not exist.")
    return str(content.value.decode())


def ssm_parameter(account: str, region: str, name: str, *, decrypted: bool = False) -> str:
    from moto.ssm.models import ssm_backends

    found = ssm_backends[account][region].get_parameter(name)
    if found is None:
        raise TemplateError(f"Unable to fetch parameters [{name}] from parameter store for this account.")
    return str(found.response_object(decrypted, region)["Value"])


def dynamic_reference(account: str, region: str, service: str, reference: str) -> str:
    """What {{resolve:service:reference}} stands for."""
    match service:
        case "ssm":
            return ssm_parameter(account, region, reference)
        case "ssm-secure":
            return ssm_parameter(account, region, reference, decrypted=True)
        case "secretsmanager":
            return _secret(account, region, reference)
    raise TemplateError(f"The local CloudFormation does not resolve dynamic references to {service}.")


def _secret(account: str, region: str, reference: str) -> str:
    from moto.core.exceptions import ServiceException
    from moto.secretsmanager.models import secretsmanager_backends

    # An ARN has colons of its own: arn:…:secret:name:SecretString:key:stage:version
    size = 7 if reference.startswith("arn:") else 1
    parts = reference.split(":")
    name, (_kind, key, stage, version) = ":".join(parts[:size]), (parts[size:] + [""] * 4)[:4]
    try:
        backend = secretsmanager_backends[account][region]
        text = str(backend.get_secret_value(name, version, stage or "AWSCURRENT")["SecretString"])
    except (ServiceException, KeyError) as error:
        raise TemplateError(f"Could not resolve {{{{resolve:secretsmanager:{reference}}}}}: {error}") from error
    if not key:
        return text
    try:
        return str(json.loads(text)[key])
    except (ValueError, KeyError, TypeError) as error:
        raise TemplateError(f"Could not find a value associated with JSONKey {key} in SecretString") from error


@lru_cache(maxsize=1)
def managed_policies() -> Mapping[str, str]:
    """AWS's own policies in IAM: name → ARN in the partition `aws`, as the translator of AWS::Serverless wants them."""
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    policies = json.loads(aws_managed_policies_data)
    return {name: f"arn:aws:iam::aws:policy{policy['Path']}{name}" for name, policy in policies.items()}
