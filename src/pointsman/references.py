"""Looks up who names versions of functions by their number, in the account and region as a whole.

Every source ends in references, or in why it could not be looked up. Nothing here is guessed: one that fails, or one
thing in it that cannot be read, makes the whole source unseen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any, NamedTuple

from pointsman.aws.gateway import Gateway
from pointsman.aws.references import Document
from pointsman.errors import (
    AccessDenied,
    Ambiguous,
    AwsError,
    Conflict,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    Throttled,
    Unreachable,
)
from pointsman.model import Value, Version
from pointsman.retention import Reference, Unseen, versions_in

AT_ONCE = 12
# Not those that would come to the same for every call: no credentials, the ledger.
REFUSALS = (*(AccessDenied, Ambiguous, Conflict, InvalidRequest, NotFound, PreconditionFailed, Throttled, Unreachable),)


class Source(NamedTuple):
    """A service: `items` lists what may name versions, `documents` reads one of them.

    `key` is what people leave it out by; `needs` the permissions that it takes.
    """

    key: str
    label: str
    items: Callable[[Gateway, str], Iterable[Any]]
    documents: Callable[[Gateway, Any], Iterable[Document]]
    needs: tuple[str, ...]
    region: str = ""  # where alone it may name versions


def _whole(_gateway: Gateway, document: Document) -> Iterable[Document]:
    return (document,)


SOURCES: tuple[Source, ...] = (
    Source(
        "event-sources",
        "event sources",
        lambda gateway, _region: gateway.event_source_documents(),
        _whole,
        ("lambda:ListEventSourceMappings",),
    ),
    Source(
        "cloudformation",
        "CloudFormation",
        lambda gateway, _region: gateway.unsettled_stacks(),
        lambda gateway, each: gateway.stack_documents(*each),
        ("cloudformation:ListStacks", "cloudformation:ListStackResources"),
    ),
    Source(
        "apigateway",
        "API Gateway (REST)",
        lambda gateway, _region: gateway.rest_apis(),
        lambda gateway, each: gateway.rest_api_documents(*each),
        ("apigateway:GET",),
    ),
    Source(
        "apigatewayv2",
        "API Gateway (HTTP, WebSocket)",
        lambda gateway, _region: gateway.http_apis(),
        lambda gateway, each: gateway.http_api_documents(*each),
        ("apigateway:GET",),
    ),
    Source(
        "stepfunctions",
        "Step Functions",
        lambda gateway, _region: gateway.state_machines(),
        lambda gateway, each: gateway.state_machine_documents(each),
        ("states:ListStateMachines", "states:ListStateMachineVersions", "states:DescribeStateMachine"),
    ),
    Source(
        "events",
        "EventBridge rules",
        lambda gateway, _region: gateway.rules(),
        lambda gateway, each: gateway.rule_documents(*each),
        ("events:ListEventBuses", "events:ListRules", "events:ListTargetsByRule"),
    ),
    Source(
        "scheduler",
        "EventBridge Scheduler",
        lambda gateway, _region: gateway.schedules(),
        lambda gateway, each: gateway.schedule_documents(*each),
        ("scheduler:ListSchedules", "scheduler:GetSchedule"),
    ),
    Source("pipes", "EventBridge Pipes", lambda gateway, _region: gateway.pipes(), _whole, ("pipes:ListPipes",)),
    Source(
        "s3",
        "S3 notifications",
        lambda gateway, region: gateway.buckets(region),
        lambda gateway, each: gateway.bucket_documents(each),
        ("s3:ListAllMyBuckets", "s3:GetBucketNotification"),
    ),
    Source(
        "sns", "SNS subscriptions", lambda gateway, _region: gateway.subscriptions(), _whole, ("sns:ListSubscriptions",)
    ),
    Source(
        "cognito",
        "Cognito user pools",
        lambda gateway, _region: gateway.user_pools(),
        lambda gateway, each: gateway.user_pool_documents(*each),
        ("cognito-idp:ListUserPools", "cognito-idp:DescribeUserPool"),
    ),
    Source(
        "cloudfront",
        "CloudFront",
        lambda gateway, _region: gateway.distributions(),
        _whole,
        ("cloudfront:ListDistributions",),
        region="us-east-1",  # https://docs.aws.amazon.com/lambda/latest/dg/lambda-edge.html
    ),
)
KEYS = tuple(each.key for each in SOURCES)


class Looked(Value, frozen=True, kw_only=True):
    """What was found: who names versions of functions, and of layers (by the version's ARN); and what was not seen."""

    references: tuple[Reference, ...] = ()
    layers: Mapping[str, str] = {}
    unseen: tuple[Unseen, ...] = ()


def look(
    gateway: Gateway,
    functions: frozenset[str],
    *,
    account: str,
    region: str,
    skip: tuple[str, ...] = (),
    own: Iterable[Document] = (),
    halt: Event | None = None,
    reached: Callable[[int, int], None] = lambda _done, _of: None,
) -> Looked:
    """All sources at once; `own` are documents that are known without a call. Once `halt` is set nothing more is sent.

    Raises what stands in the way of everything: CredentialsRefused, Interrupted.
    """
    asked = [each for each in SOURCES if each.key not in skip and each.region in ("", region)]
    refused: dict[str, list[AwsError]] = {}
    documents: list[tuple[str, Document]] = [("own", each) for each in own]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            lists = {each: pool.submit(_read, partial(each.items, gateway, region)) for each in asked}
            details: list[tuple[Source, Any, Future[list[Any]]]] = []
            for source, listed in lists.items():
                for item in _result(listed, refused.setdefault(source.key, [])):
                    details.append((source, item, pool.submit(_read, partial(source.documents, gateway, item))))
            missing: list[tuple[Source, Any, AwsError]] = []
            for done, (source, item, read) in enumerate(details, 1):
                errors: list[AwsError] = []
                documents += [(source.key, each) for each in _result(read, errors)]
                missing += [(source, item, each) for each in errors if isinstance(each, NotFound)]
                refused[source.key] += [each for each in errors if not isinstance(each, NotFound)]
                reached(done, len(details))
            for source in {each[0] for each in missing}:
                # What was deleted since it was listed names nothing any more; what is still listed was not seen.
                again = pool.submit(_read, partial(source.items, gateway, region))
                there = _result(again, refused[source.key])
                refused[source.key] += [error for one, item, error in missing if one == source and item in there]
        except BaseException:
            if halt:
                halt.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    references: dict[tuple[str, Version | None], Reference] = {}
    layers: dict[str, str] = {}
    for key, each in documents:
        for name, version in _named(each, functions, account=account, region=region):
            by = f"{each.where} {'names it' if version else 'may name any version of it'}"
            references.setdefault((name, version), Reference(function=name, version=version, by=by))
        for name in functions.intersection(each.functions):
            references[name, None] = Reference(function=name, version=None, by=f"{each.where} has its function")
        if key == "cloudformation":
            layers |= {found[0]: f"{each.where} has it" for found in _LAYER.finditer(each.text)}
    unseen = tuple(
        Unseen(source=each.label, why=_why(refused[each.key]), skip=each.key, missing=lacking(*refused[each.key]))
        for each in asked
        if refused.get(each.key)
    )
    return Looked(references=tuple(references.values()), layers=layers, unseen=unseen)


_LAYER = re.compile(r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:layer:[A-Za-z0-9_-]+:[0-9]+")


def _read(ask: Callable[[], Iterable[Any]]) -> list[Any]:
    return list(ask())


def _result(future: Future[list[Any]], refused: list[AwsError]) -> list[Any]:
    try:
        return future.result()
    except REFUSALS as error:
        refused.append(error)
        return []


def _why(errors: list[AwsError]) -> str:
    first = errors[0]
    more = f", and {len(errors) - 1} more like it" if len(errors) > 1 else ""
    return f"{first.where}: {first.what}{more}"


def lacking(*errors: AwsError) -> str:
    """The permission that one of them was refused for, as AWS says or the call needs; "" where none was."""
    for error in errors:
        if isinstance(error, AccessDenied):
            said = re.search(r"perform: ([a-z0-9-]+:\w+)", error.what) or re.search(r"need (.+) on ", error.next)
            return said[1] if said else ""
    return ""


def _named(
    document: Document, functions: frozenset[str], *, account: str, region: str
) -> Iterator[tuple[str, Version | None]]:
    yield from sorted(versions_in(document.text, functions, account=account, region=region))
    if "Qualifier" in document.text:
        for name, qualifier in _called_with(document.text):
            function = name.rpartition(":function:")[2].partition(":")[0]
            if function not in functions:
                continue
            if qualifier is None or "{%" in qualifier:
                yield function, None  # it is chosen when it runs
            elif re.fullmatch(r"[1-9][0-9]*", qualifier):  # an alias says for itself what it serves
                yield function, Version(qualifier)


def _called_with(text: str) -> Iterator[tuple[str, str | None]]:
    """(FunctionName, Qualifier) of every call to Lambda in a document that is JSON, or a line of which is.

    https://docs.aws.amazon.com/step-functions/latest/dg/connect-lambda.html
    """
    for part in (text, *text.splitlines()):
        try:
            left = [json.loads(part)]
        except ValueError:
            continue
        while left:
            match left.pop():
                case dict() as found:
                    name, given = found.get("FunctionName"), found.get("Qualifier")
                    if isinstance(name, str) and ("Qualifier.$" in found or given is not None):
                        yield name, str(given) if given is not None else None
                    left += found.values()
                case list() as several:
                    left += several
                case str() as inner if "Qualifier" in inner and inner.lstrip().startswith(("{", "[")):
                    yield from _called_with(inner)
        if part is text:  # it was one document; else each of its lines may be one
            return


def environments(settings: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Document]:
    """(function, its settings) → what functions are told by their environment variables. Costs no call."""
    seen: set[tuple[str, int]] = set()
    for name, each in settings:
        variables = each.get("Environment")
        if variables and (name, id(variables)) not in seen:
            seen.add((name, id(variables)))
            yield Document(where=f"the environment of {name}", text="\n".join(map(str, variables.values())))


__all__ = ["KEYS", "REFUSALS", "SOURCES", "Looked", "Source", "environments", "lacking", "look"]
