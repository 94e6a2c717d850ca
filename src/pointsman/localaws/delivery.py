"""Brings what Lambda reports to moto's queues, topics, event buses and buckets, without going through HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pointsman.localaws.contract import Unreachable
from pointsman.localaws.moto_bridge import MotoBridge


class MotoCarrier:
    """A `contract.Carrier`."""

    def __init__(self, moto: MotoBridge) -> None:
        self._moto = moto

    def message(self, arn: str, body: str, attributes: Mapping[str, tuple[str, str]]) -> None:
        _, _, service, region, account, name = arn.split(":", 5)
        with self._reaching(service):
            if service == "sqs":
                from moto.sqs.models import sqs_backends

                sqs_backends[account][region].send_message(
                    name,
                    body,
                    {key: {"DataType": kind, "StringValue": value} for key, (kind, value) in attributes.items()},
                )
            else:
                from moto.sns.models import sns_backends

                sns_backends[account][region].publish(
                    body,
                    arn=arn,
                    message_attributes={
                        key: {"Type": kind, "Value": value} for key, (kind, value) in attributes.items()
                    },
                )

    def event(self, arn: str, detail_type: str, resources: list[str], detail: bytes) -> None:
        _, _, _, region, account, bus = arn.split(":", 5)
        entry = {
            "Source": "lambda",
            "DetailType": detail_type,
            "Resources": resources,
            "Detail": detail.decode(),
            "EventBusName": bus.removeprefix("event-bus/"),
        }
        with self._reaching("events"):
            from moto.events.models import events_backends

            for answer in events_backends[account][region].put_events([entry]):
                if "ErrorCode" in answer:
                    raise Unreachable(f"{answer['ErrorCode']}: {answer['ErrorMessage']}")

    def store(self, account: str, region: str, bucket_arn: str, key: str, body: bytes) -> None:
        with self._reaching("s3"):
            from moto.s3.models import s3_backends
            from moto.utilities.utils import get_partition

            s3_backends[account][get_partition(region)].put_object(bucket_arn.rpartition(":")[2], key, body)

    @contextmanager
    def _reaching(self, service: str) -> Iterator[None]:
        with self._moto.using(service, writes=True):
            from moto.core.exceptions import ServiceException
            from werkzeug.exceptions import HTTPException

            try:
                yield
            except (ServiceException, HTTPException) as error:  # moto has both kinds
                raise Unreachable(words_of(error)) from error


def words_of(error: Any) -> str:
    """moto's exceptions differ in where they keep their words."""
    message = getattr(error, "message", None) or getattr(error, "description", None) or str(error)
    return message if isinstance(message, str) else json.dumps(message)
