"""One file per service: its resource types, by its own operations."""

from typing import Any, Final

from pointsman.localaws.cloudformation.services import (
    cloudwatch,
    dynamodb,
    events,
    iam,
    kms,
    logs,
    s3,
    scheduler,
    secretsmanager,
    sns,
    sqs,
    ssm,
    states,
)

SERVICE_TYPES: Final[tuple[type[Any], ...]] = (
    *cloudwatch.TYPES,
    *dynamodb.TYPES,
    *events.TYPES,
    *iam.TYPES,
    *kms.TYPES,
    *logs.TYPES,
    *s3.TYPES,
    *scheduler.TYPES,
    *secretsmanager.TYPES,
    *sns.TYPES,
    *sqs.TYPES,
    *ssm.TYPES,
    *states.TYPES,
)
