"""moto inside our process: its requests, our Lambda where it expects its own, and what Lambda asks of it.

moto takes about a second to import. `load` does it once, in the background; everything here that needs moto waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import io
import json
import logging
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote_to_bytes, urlsplit

from pointsman.localaws.accounts import GIVES_KEYS, Caller, Callers, KeyRefused
from pointsman.localaws.cloudwatch import CloudWatch
from pointsman.localaws.contract import Response, Target
from pointsman.localaws.lambda_ import LambdaService, LambdaState, NetworkMissing, ObjectMissing

if TYPE_CHECKING:
    from pointsman.localaws.log_journal import LogJournal
    from pointsman.localaws.persistence import Snapshots

T = TypeVar("T")

_READ = re.compile(r"(Batch)?(Get|List|Describe|Head|Query|Scan|Filter|Lookup|Search|Validate|Estimate|Preview)")
_RPC = re.compile(r"/service/\w+/operation/(\w+)")
_ACTION = re.compile(rb"(?:^|&)Action=(\w+)")
# moto has no locks of its own here, and read-modify-write by several clients is what these are used for.
_LOCKED = ("dynamodb", "kinesis", "s3")
_HTML = "text/html"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SESSIONS = 4096  # kept; many more than there are environments at a time
_OURS = "an environment of a function"
_KEPT_ELSEWHERE = ("PutMetricData", "PutMetricAlarm", "PutCompositeAlarm", "SetAlarmState", "DeleteAlarms")
_LOG_GROUPS = "/aws/lambda/"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WebRequest:
    method: str
    path: str  # percent-encoded
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    service: str | None  # by its SigV4 scope

    def header(self, name: str) -> str | None:
        return next((value for given, value in self.headers if given.lower() == name), None)

    @property
    def form(self) -> bool:
        """Whether it speaks the query protocol, which is answered in XML."""
        return (self.header("content-type") or "").startswith("application/x-www-form-urlencoded")

    @property
    def action(self) -> str | None:
        """The operation's name, where it is in a header or the form; None for REST."""
        if target := self.header("x-amz-target"):
            return target.rpartition(".")[2]
        if called := _RPC.fullmatch(self.path):
            return called[1]
        if found := _ACTION.search(self.body[:4096]) or _ACTION.search(self.query.encode()):
            return found[1].decode()
        return None

    @property
    def writes(self) -> bool:
        if (action := self.action) is not None:
            return not _READ.match(action)
        return self.method not in ("GET", "HEAD", "OPTIONS")


class MotoBridge:
    """Thread-safe, but for `serve_lambda` and `serve_cloudwatch`, which come first. `loop` is where Lambda runs."""

    def __init__(self, directory: Path, *, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self._directory = directory
        self._port = port
        self._loop = loop
        self._loading = threading.Lock()
        self._snapshots: Snapshots | None = None
        self._journal: LogJournal | None = None
        self._application: Callable[..., Any] | None = None
        self._sessions: dict[str, Target] = {}  # of functions' environments, by access key; the oldest first
        self._locks = {service: threading.RLock() for service in _LOCKED}
        self._state: LambdaState | None = None
        self._service: LambdaService | None = None
        self._cloudwatch: CloudWatch | None = None
        self._stacks: Any = None
        self._arrived: Callable[[str], None] = lambda _arn: None
        self._scheduled: Callable[[], None] = lambda: None
        self._moment: Callable[[float], float] = lambda ahead_s: time.time() + ahead_s
        self._callers = Callers(lambda: datetime.now(UTC).replace(tzinfo=None))
        self.logged: Callable[[], None] = lambda: None
        """Told, in whatever thread, after lines were logged."""

    def serve_lambda(self, state: LambdaState, service: LambdaService) -> None:
        self._state, self._service = state, service

    def tell_arrivals(self, arrived: Callable[[str], None]) -> None:
        """Have `arrived(arn)` called for each queue or stream with something new, in whatever thread that happens.

        Like `serve_lambda`, it comes first."""
        self._arrived = arrived

    def tell_schedules(self, changed: Callable[[], None], moment: Callable[[float], float]) -> None:
        """Have `changed()` called when other schedules are in force; `moment(s)` is AWS's time in s of our seconds."""
        self._scheduled, self._moment = changed, moment

    def serve_cloudwatch(self, cloudwatch: CloudWatch) -> None:
        self._cloudwatch = cloudwatch

    def load(self) -> Snapshots:
        if self._snapshots is not None:
            return self._snapshots
        with self._loading:
            if self._snapshots is None:
                try:
                    self._snapshots = self._load()
                except Exception:
                    log.exception("moto cannot be loaded")
                    raise
        return self._snapshots

    def _load(self) -> Snapshots:
        # Step Functions' tasks call back over HTTP, at this port of localhost.
        os.environ["MOTO_PORT"] = str(self._port)
        from moto.core.common_models import BaseModel
        from moto.core.config import default_user_config
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication

        from pointsman.localaws.cloudformation.called import Calls
        from pointsman.localaws.cloudformation.kinds import Kinds
        from pointsman.localaws.cloudformation.stacks import Stacks
        from pointsman.localaws.event_sources.backends import tell_arrivals
        from pointsman.localaws.log_journal import LogJournal
        from pointsman.localaws.moto_apis import put_apis_right
        from pointsman.localaws.moto_ecr import put_digests_right
        from pointsman.localaws.moto_iam import put_simulation_in_place
        from pointsman.localaws.moto_lambda import put_ours_in_place
        from pointsman.localaws.moto_schedules import have_schedules_tell
        from pointsman.localaws.moto_states import put_states_right
        from pointsman.localaws.moto_sts import put_sts_right
        from pointsman.localaws.moto_targets import put_rules_right
        from pointsman.localaws.persistence import Snapshots

        default_user_config["stepfunctions"]["execute_state_machine"] = True
        default_user_config["iam"]["load_aws_managed_policies"] = True
        # moto keeps every instance it ever made, for tests; a server would keep every S3 object ever uploaded.
        cast(Any, BaseModel).__new__ = lambda cls, *_args, **_kwargs: object.__new__(cls)
        _spare_moto_its_cloudformation()
        assert self._state is not None
        assert self._cloudwatch is not None
        put_ours_in_place(self._state, self.invoke)
        tell_arrivals(self._arrived)
        put_rules_right(self.invoke)
        have_schedules_tell(self._scheduled, self._moment)
        put_sts_right()
        put_digests_right()
        put_states_right()
        put_apis_right()
        put_simulation_in_place()
        _leave_conditions_open()
        calls = Calls(f"http://127.0.0.1:{self._port}", self._answer_ourselves)
        self._stacks = Stacks(Kinds(self._state, calls), saved=self._save_now)
        snapshots = Snapshots(self._directory, keep=self._stacks.kept, restored=self._stacks.restore)
        self._journal = LogJournal(self._directory / "logs.db", int(time.time() * 1000))
        self._journal.restore(snapshots.restored_ms)
        self._scheduled()
        self._application = DomainDispatcherApplication(self._create_app)
        gc.collect()
        gc.freeze()  # moto's modules and policies stay; to look through them again and again costs every request
        return snapshots

    def _save_now(self) -> None:
        """Within a request, so without waiting for it."""
        self.load().save(quiet_s=0)

    def _create_app(self, service: Any) -> Any:
        if service == "cloudformation":
            from pointsman.localaws.cloudformation.wire import application

            return application(self._stacks)
        if service == "cloudwatch":
            from pointsman.localaws.cloudwatch.wire import application as cloudwatch_application

            assert self._cloudwatch is not None
            return cloudwatch_application(self._cloudwatch)
        if service is None:
            raise NotImplementedError("the service is none of its own")
        from moto.moto_server.werkzeug_app import create_backend_app

        return create_backend_app(service)

    def still(self) -> contextlib.AbstractContextManager[None]:
        """Nothing of moto's changes within, and all of it is on disk."""
        return self.load().still()

    @property
    def unsaved(self) -> bool:
        return self._snapshots is not None and self._snapshots.unsaved

    def close(self) -> None:
        """Save. No request is under way any more; so if moto is just being loaded, nothing has changed."""
        if self._loading.acquire(blocking=False) and self._snapshots is not None:
            self._snapshots.close()
        if self._journal is not None:
            self._journal.close()

    # --- requests ---

    def answer(self, request: WebRequest, account: str, access_key: str | None = None) -> Response:
        snapshots = self.load()
        if access_key in self._sessions:
            self._introduce(access_key)
        # A state machine goes on in moto's threads when the request that started it is long answered.
        writes = (request.writes and request.action not in _KEPT_ELSEWHERE) or request.service == "states"
        waiting = request.action == "ReceiveMessage"  # may last 20 s, and nothing may wait for it
        with contextlib.ExitStack() as entered:
            if not waiting:
                entered.enter_context(snapshots.request(writes=writes))
            if request.service in self._locks:
                entered.enter_context(self._locks[request.service])
            response = self._answer(request, account)
            if request.action in GIVES_KEYS:
                self._save_now()
        if waiting:
            snapshots.changed()
        if request.service == "logs" and writes:
            self.logged()
        return response

    def _answer_ourselves(self, sent: Any, service: str, account: str) -> tuple[int, Mapping[str, str], bytes]:
        """What botocore would send over a socket."""
        parts = urlsplit(sent.url)
        headers = [("host", parts.netloc)]
        headers += [(key, value if isinstance(value, str) else value.decode()) for key, value in sent.headers.items()]
        body = sent.body or b""
        body = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else body.read()
        web = WebRequest(sent.method, parts.path or "/", parts.query, headers, body, service)
        response = self.answer(web, account)
        return response.status, response.headers, response.body

    def _answer(self, request: WebRequest, account: str) -> Response:
        assert self._application is not None
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
            begun.append((status, headers))

        try:
            body = b"".join(self._application(_environ(request, account), start_response))
        except NotImplementedError as error:
            return refusal(request, 501, "NotImplementedException", f"The local AWS does not do this: {error}")
        except Exception:
            log.exception("moto failed at %s %s (%s %s)", request.method, request.path, request.service, request.action)
            return refusal(request, 500, "InternalFailure", "moto failed at this request; the log says how.")
        status = int(begun[-1][0].split()[0])
        # Connections are the server's affair; moto ends some of them.
        headers = {name: value for name, value in begun[-1][1] if name.lower() != "connection"}
        kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
        if status == 404 and kind.startswith(_HTML) and request.service not in (None, "s3"):
            what = f"{request.service} has no {request.method} {request.path} in the local AWS."
            return refusal(request, 501, "NotImplementedException", what)
        return Response(status, body, headers)

    # --- callers ---

    def role_session(self, target: Target) -> Mapping[str, str]:
        """Credentials for one environment of a function, as which STS then knows its role. Needs no moto yet."""
        key = "ASIA" + "".join(secrets.choice(_BASE32) for _ in range(16))
        if len(self._sessions) >= _SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[key] = target
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
            "AWS_SESSION_TOKEN": secrets.token_urlsafe(96),
        }

    def _introduce(self, access_key: str) -> None:
        """Tell moto of a function's session, once the function asks it for anything."""
        from moto.iam.models import AccessKey
        from moto.sts.models import AssumedRole, sts_backends
        from moto.utilities.utils import get_partition

        target = self._sessions[access_key]
        backend = sts_backends[target.account][get_partition(target.region)]
        with self._loading:
            if backend.get_assumed_role_from_access_key(access_key) is not None:
                return
            key = cast(Any, AccessKey)(None, "ASIA", target.account)
            key.access_key_id = access_key
            session = AssumedRole(
                account_id=target.account,
                region_name=target.region,
                access_key=key,
                role_session_name=_session_name(target),
                role_arn=target.role,
                policy="",
                duration=43_200,
                external_id=_OURS,
            )
            still = [r for r in backend.assumed_roles if r.external_id != _OURS or r.access_key_id in self._sessions]
            backend.assumed_roles = [*still, session]

    def caller_at_once(self, key: str | None, token: str | None) -> Caller | None:
        """None if only moto can tell. KeyRefused, here and below, when the key is not one to call with."""
        if (target := self._sessions.get(key or "")) is not None:
            role = target.role.rpartition("/")[2]
            return Caller(
                target.account,
                f"arn:{target.role.split(':')[1]}:sts::{target.account}:assumed-role/{role}/{_session_name(target)}",
            )
        return self._callers.at_once(key, token)

    def caller(self, key: str, token: str | None) -> Caller:
        self.load()
        return self._callers.find(key, token)

    # --- what Lambda asks ---

    @contextlib.contextmanager
    def using(self, service: str, *, writes: bool) -> Iterator[None]:
        """Around whatever reaches into a backend of moto's from outside of a request."""
        with self.load().request(writes=writes), self._locks.get(service, contextlib.nullcontext()):
            yield

    def role_exists(self, account: str, arn: str) -> bool:
        self.load()
        from moto.iam.models import iam_backends

        partition = arn.split(":")[1]
        return any(role.arn == arn for role in list(iam_backends[account][partition].roles.values()))

    def read_object(self, account: str, region: str, bucket: str, key: str, version: str | None) -> bytes:
        self.load()
        from moto.core.exceptions import ServiceException
        from moto.s3.models import s3_backends
        from moto.utilities.utils import get_partition

        try:
            found = s3_backends[account][get_partition(region)].get_object(bucket, key, version_id=version)
        except ServiceException as error:
            code = "NoSuchBucket" if type(error).__name__ == "MissingBucket" else type(error).__name__
            raise ObjectMissing(code, str(getattr(error, "message", error))) from error
        if found is None or not hasattr(found, "value"):  # a delete marker has none
            raise ObjectMissing(
                "NoSuchKey" if version is None else "NoSuchVersion", "The specified key does not exist."
            )
        return bytes(found.value)

    def image_digest(self, account: str, region: str, repository: str, tag: str) -> str | None:
        self.load()
        from moto.core.exceptions import ServiceException
        from moto.ecr.models import ecr_backends

        try:
            (found,) = ecr_backends[account][region].describe_images(repository, image_ids=[{"imageTag": tag}])
        except ServiceException:
            return None
        return str(found.get_image_digest())

    def find_network(self, account: str, region: str, subnets: list[str], groups: list[str]) -> str:
        """Security groups first, as Lambda does."""
        self.load()
        from moto.ec2.exceptions import InvalidSubnetIdError
        from moto.ec2.models import ec2_backends

        ec2 = ec2_backends[account][region]
        for group in groups:
            if ec2.get_security_group_from_id(group) is None:
                raise NetworkMissing(
                    "DescribeSecurityGroups", "InvalidGroup.NotFound", f"The security group '{group}' does not exist"
                )
        vpc = ""
        for subnet in subnets:
            try:
                vpc = str(ec2.get_subnet(subnet).vpc_id)
            except InvalidSubnetIdError as missing:
                raise NetworkMissing(
                    "DescribeSubnets", "InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist"
                ) from missing
        return vpc

    def write_logs(self, target: Target, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        snapshots = self.load()
        assert self._journal is not None
        ended = [(at, f"{line}\n") for at, line in lines]  # as CloudWatch has what functions print (recorded)
        with snapshots.request(writes=False):
            made = self._journal.put(target.account, target.region, target.log_group, stream, ended)
        if made:
            snapshots.changed()
        self.logged()

    def logs(
        self, function: str | None, since_ms: int, seen: Mapping[str, int]
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """(what functions logged beyond `seen`, in every account and region, oldest first; what is seen by then).

        `seen` has the number of lines for each stream that there was, by whatever names it.
        """
        self.load()
        assert self._state is not None
        from moto.logs.models import logs_backends

        from pointsman.localaws.log_journal import identity

        elsewhere = self._state.log_groups()
        found: list[dict[str, Any]] = []
        now_seen: dict[str, int] = {}
        for account, regions in list(logs_backends.items()):
            for region, backend in list(regions.items()):
                for group in list(backend.groups.values()):
                    of = elsewhere.get((account, region, group.name))
                    if of is None and group.name.startswith(_LOG_GROUPS):
                        of = group.name.removeprefix(_LOG_GROUPS)
                    if of is None or function not in (None, of):
                        continue
                    for name, stream in list(group.streams.items()):
                        key = f"{account}|{region}|{group.name}|{identity(stream)}|{name}"
                        lines = list(stream.events)
                        now_seen[key] = len(lines)
                        where = {
                            "function": of, "account": account, "region": region, "group": group.name, "stream": name
                        }  # fmt: skip
                        found += [
                            {"timestamp": line.timestamp, "message": line.message} | where
                            for line in lines[seen.get(key, 0) :]
                            if line.timestamp >= since_ms
                        ]
        return sorted(found, key=lambda line: line["timestamp"]), now_seen

    # --- what moto asks of Lambda ---

    def invoke(self, account: str, region: str, function: str, payload: bytes, **options: Any) -> Any:
        """LambdaService.invoke, from a thread of moto's."""
        assert self._service is not None
        return self._on_loop(self._service.invoke(account, region, function, payload, **options))

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _session_name(target: Target) -> str:
    name = target.function_name  # AWS's sessions have two characters at least (recorded)
    return name if len(name) > 1 else f"{name}@lambda_function"


def _spare_moto_its_cloudformation() -> None:
    """Every Fn::GetAtt imports an exception from moto.cloudformation, whose __init__ imports nearly all of moto: a
    second, and 100 MB. Ours stands in for it, so the package is there, but its __init__ does not run."""
    spec = importlib.util.find_spec("moto.cloudformation")
    assert spec is not None
    sys.modules.setdefault("moto.cloudformation", importlib.util.module_from_spec(spec))


def _leave_conditions_open() -> None:
    """A bucket policy's statement with a condition is passed over, as AWS does where the condition does not hold.

    moto takes every such statement for a refusal. The condition all tools write is "deny what does not come by TLS",
    and plain HTTP on this machine stands for TLS. What others ask (networks, organizations) is not known here.
    """
    from moto.iam.access_control import IAMPolicy, PermissionResult
    from moto.s3.models import FakeBucket

    def get_permission(bucket: FakeBucket, action: str, resource: str) -> PermissionResult:
        statements = json.loads(bucket.policy)["Statement"] if bucket.policy else []
        every = statements if isinstance(statements, list) else [statements]
        unconditional = [each for each in every if not each.get("Condition")]
        return IAMPolicy(json.dumps({"Statement": unconditional})).is_action_permitted(action, resource)

    cast(Any, FakeBucket).get_permission = get_permission


# --- WSGI ---


def _environ(request: WebRequest, account: str) -> dict[str, Any]:
    from moto.core.request import (
        PRESERVED_HEADER_NAMES_ENVIRON_KEY,
        environ_key_for_header,
        should_preserve_original_header_name,
    )

    host = request.header("host") or "127.0.0.1"
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query,
        "RAW_URI": request.path + (f"?{request.query}" if request.query else ""),
        "REQUEST_URI": request.path + (f"?{request.query}" if request.query else ""),
        "SERVER_NAME": host.partition(":")[0],
        "SERVER_PORT": host.partition(":")[2] or "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    # WSGI cannot tell X_Foo from X-Foo; S3 metadata may have underscores, so moto wants to know how it was spelt.
    preserved: dict[str, str] = {}
    for name, value in request.headers:
        key = environ_key_for_header(name)
        if "_" in name:
            if not should_preserve_original_header_name(name):
                continue
            preserved[key] = name
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ.pop("HTTP_TRANSFER_ENCODING", None)  # the body is whole
    environ["CONTENT_LENGTH"] = str(len(request.body))
    environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
    environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = preserved
    return environ


def key_refusal(request: WebRequest, error: KeyRefused) -> Response:
    """What the service says of a key that is not one to call with."""
    if request.service == "s3":
        code, message = ("ExpiredToken", "expired") if error.expired else ("InvalidToken", "malformed or invalid")
        return refusal(request, 400, code, f"The provided token is {message}.")
    if request.form:
        return refusal(request, 403, "ExpiredToken" if error.expired else "InvalidClientTokenId", str(error))
    code = "ExpiredTokenException" if error.expired else "UnrecognizedClientException"
    return refusal(request, 400 if request.header("x-amz-target") else 403, code, str(error))


def refusal(request: WebRequest, status: int, code: str, message: str) -> Response:
    """In the shape the caller's protocol has for errors: JSON, or XML for the query services and S3."""
    if request.service == "s3" or request.form:
        from xml.sax.saxutils import escape

        error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        body = error if request.service == "s3" else f"<ErrorResponse>{error}</ErrorResponse>"
        return Response(status, body.encode(), {"content-type": "text/xml"})
    document: Mapping[str, str] = {"__type": code, "message": message}
    headers = {"content-type": "application/x-amz-json-1.1", "x-amzn-errortype": code}
    return Response(status, json.dumps(document).encode(), headers)
