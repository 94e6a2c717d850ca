"""moto's memory on disk: one pickle for all services, so that an object two of them share is still one afterwards.

(A stack holds the very role IAM holds.) Contents of S3 objects are files of their own, by digest: they are large, do
not change, and so are written once. The pickle is for the same moto and Python that wrote it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import marshal
import os
import pickle
import sys
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import CellType, FunctionType
from typing import IO, Any

from moto import __version__ as moto_version
from moto.core.base_backend import BackendDict

log = logging.getLogger(__name__)

_VERSIONS = {"moto": moto_version, "python": list(sys.version_info[:2])}
_NOT_KEPT = frozenset({"lambda", "moto_api"})  # Lambda has a database of its own
_QUIET_S = 0.5  # how long to wait for a moment without requests

Contents = dict[str, list[tuple[str, str, Any]]]  # service → (account, region, backend)


class Snapshots:
    """Keeps moto's backends, and `extra` (any picklable object), in `directory`.

    Something changed (`request(writes=True)`) is on disk about `pause_s` later.
    """

    def __init__(
        self, directory: Path, *, keep: Callable[[], Any], restored: Callable[[Any], None], pause_s: float = 0.2
    ) -> None:
        self._file = directory / "services.pickle"
        self._objects = directory / "objects"
        self._objects.mkdir(parents=True, exist_ok=True)
        self._keep = keep
        self._restored = restored
        self._pause_s = pause_s
        self._gate = threading.Condition()
        self._requests = 0
        self._saving = 0  # how many have new requests wait
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._one_save = threading.Lock()
        self._refused: set[str] = set()
        self._proven: set[type] = set()
        self.restored_ms: int | None = None
        """Of when the state was that was found, in epoch milliseconds; None when there was none that could be read."""
        self._load()
        self._thread = threading.Thread(target=self._save_in_background, name="snapshots", daemon=True)
        self._thread.start()

    @property
    def unsaved(self) -> bool:
        return self._dirty.is_set() or self._one_save.locked()

    @contextlib.contextmanager
    def request(self, *, writes: bool) -> Iterator[None]:
        """Around every request. A snapshot waits for the requests under way, a new one for the snapshot only."""
        with self._gate:
            self._gate.wait_for(lambda: self._saving == 0)
            self._requests += 1
        try:
            yield
        finally:
            with self._gate:
                self._requests -= 1
                self._gate.notify_all()
            if writes:
                self._dirty.set()

    def changed(self) -> None:
        self._dirty.set()

    def close(self) -> None:
        self._closing.set()
        self._dirty.set()
        self._thread.join()
        self.save()

    def _save_in_background(self) -> None:
        while True:
            self._dirty.wait()
            if self._closing.wait(self._pause_s):
                return
            try:
                rest_s = 4 * self.save()  # a large state must not take more than a fifth of the time
            except Exception:  # a full disk, say: it must be in the log, and be tried again
                log.exception("the state of moto could not be saved")
                self._dirty.set()
                rest_s = 5.0
            self._closing.wait(rest_s)

    # A save waits for requests before it takes its turn among the saves: a request under way may want one itself.

    def save(self, quiet_s: float = _QUIET_S) -> float:
        """Write everything; wait at most `quiet_s` seconds for the requests under way. Returns the seconds it took."""
        with self._gate:
            # Not for ever: a request may itself be waiting for one that would have to wait for us.
            self._gate.wait_for(lambda: self._requests == 0, timeout=quiet_s)
            self._saving += 1
        waiting = contextlib.ExitStack()
        waiting.callback(self._go_on)
        with waiting, self._one_save:
            self._dirty.clear()
            began = time.monotonic()
            pickled = self._pickled()
            waiting.close()
            self._write(*pickled)
            return time.monotonic() - began

    @contextlib.contextmanager
    def still(self, patience_s: float = 10.0) -> Iterator[None]:
        """Everything is on disk, and no request changes it within. TimeoutError when requests take too long."""
        with self._gate:
            # A moment without requests, should there be one: some request may itself be waiting for another.
            self._gate.wait_for(lambda: self._requests == 0, timeout=_QUIET_S)
            self._saving += 1  # from now on new ones wait
        try:
            with self._gate:
                if not self._gate.wait_for(lambda: self._requests == 0, timeout=patience_s):
                    raise TimeoutError(f"Requests have been under way for {patience_s:g} s.")
            with self._one_save:
                self._dirty.clear()
                self._write(*self._pickled())
                yield
        finally:
            self._go_on()

    def _go_on(self) -> None:
        with self._gate:
            self._saving -= 1
            self._gate.notify_all()

    def _write(self, data: bytes, digests: set[str], moment: float) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_bytes(data)
        os.utime(temporary, (moment, moment))  # what it holds is of then: requests have gone on since
        temporary.rename(self._file)
        for path in self._objects.iterdir():
            if path.name not in digests:
                path.unlink()

    def _pickled(self) -> tuple[bytes, set[str], float]:
        """(the pickle, what it names of `objects`, when it was begun in epoch seconds)"""
        began = time.time()
        for attempt in range(5):
            contents = _contents(self._refused)
            try:
                data, pickler = self._dump({"services": contents, "extra": self._keep()})
                if not pickler.types <= self._proven:  # what pickles does not always unpickle
                    self._read(io.BytesIO(data))
                    self._proven |= pickler.types
                return data, pickler.digests, began
            except RuntimeError as error:  # a dict changed under the pickler: some of moto runs in its own threads
                if "changed size" not in str(error) or attempt == 4:
                    raise
            except Exception:
                if not self._refuse_the_unpicklable(contents):
                    raise
        return self._pickled()

    def _refuse_the_unpicklable(self, contents: Contents) -> bool:
        before = set(self._refused)
        for service, backends in contents.items():
            try:
                self._read(io.BytesIO(self._dump(backends)[0]))
            except Exception as error:  # noqa: BLE001  (pickle raises what it likes)
                log.error("%s cannot be saved, and will be empty after a restart: %s", service, error)
                self._refused.add(service)
        return self._refused != before

    def _dump(self, value: Any) -> tuple[bytes, _Pickler]:
        file = io.BytesIO()
        pickle.dump(_VERSIONS, file)
        pickler = _Pickler(file, self._objects)
        pickler.dump(value)
        return file.getvalue(), pickler

    def _read(self, file: IO[bytes], objects: Path | None = None) -> Any:
        """Without `objects`, S3 objects come out empty: a rehearsal."""
        if (versions := pickle.load(file)) != _VERSIONS:
            raise ValueError(f"it was written by {versions}, this is {_VERSIONS}")
        return _Unpickler(file, objects).load()

    def _load(self) -> None:
        try:
            with self._file.open("rb") as file:
                found = self._read(file, self._objects)
            for backends in found["services"].values():
                for account, region, backend in backends:
                    _dictionary(backend)[account][region] = backend
            _know_buckets()
        except FileNotFoundError:
            return
        except Exception:
            aside = self._file.parent / f"unreadable-{time.time_ns()}"
            log.exception("moto starts empty; its state could not be read and is kept as %s", aside)
            aside.mkdir()
            self._objects.rename(aside / self._objects.name)  # or the next save would remove all of them
            self._file.rename(aside / self._file.name)
            self._objects.mkdir()
            return
        self.restored_ms = int(self._file.stat().st_mtime * 1000)
        self._restored(found["extra"])


def _contents(refused: set[str]) -> Contents:
    found: Contents = {}
    in_use: list[BackendDict[Any]] = vars(BackendDict)["_instances"]
    for dictionary in list(in_use):
        if dictionary.service_name not in _NOT_KEPT | refused:
            found.setdefault(dictionary.service_name, []).extend(
                (account, region, backend)
                for account, regions in list(dictionary.items())
                for region, backend in list(regions.items())
            )
    return found


def _dictionary(backend: Any) -> Any:
    for value in vars(sys.modules[type(backend).__module__]).values():
        if isinstance(value, BackendDict) and value.backend is type(backend):
            return value
    raise LookupError(f"moto has no place for {type(backend)}")


def _know_buckets() -> None:
    """S3 finds other accounts' buckets, and names that are taken, by a table of its own beside the backends."""
    if (s3 := sys.modules.get("moto.s3.models")) is not None:
        for account, partitions in list(s3.s3_backends.items()):
            for partition, backend in list(partitions.items()):
                s3.s3_backends.bucket_accounts |= dict.fromkeys(backend.buckets, (partition, account))


# --- what pickle cannot do by itself ---

_LOCKS = {type(threading.Lock()): threading.Lock, type(threading.RLock()): threading.RLock}


class _Content(str):
    """The digest of an S3 object's content."""


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, objects: Path) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._objects = objects
        self.digests: set[str] = set()
        self.types: set[type] = set()
        s3 = sys.modules.get("moto.s3.models")
        self._key_type: Any = s3.FakeKey if s3 else ()
        iam = sys.modules.get("moto.iam.models")
        self._policy_type: Any = iam.AWSManagedPolicy if iam else ()
        journal = sys.modules.get("pointsman.localaws.log_journal")
        self._journaled: Any = journal.without_journaled_events if journal else lambda _value: None

    def persistent_id(self, value: Any) -> Any:
        return str(value) if type(value) is _Content else None

    def reducer_override(self, value: Any) -> Any:
        self.types.add(type(value))
        if isinstance(value, self._key_type):
            return _key, (type(value), *self._key_state(value))
        if isinstance(value, self._policy_type):  # 1,600 of them, 4 MB, and always the same
            return _aws_policy, (value.name, value.account_id, value.partition, value.id, value.attachment_count)
        if (logged := self._journaled(value)) is not None:
            return _new_empty, (type(value),), logged
        if type(value) in _LOCKS:
            return _LOCKS[type(value)], ()
        if isinstance(value, threading.Condition):
            return threading.Condition, ()
        if type(value).__module__.startswith("cryptography."):  # KMS has private keys, ACM certificates
            return _from_cryptography(value)
        if isinstance(value, dict) and type(value).__module__ not in ("builtins", "collections"):
            # Pickle would call their __init__ without arguments, and believe an items() that shows half (S3's versions)
            base = OrderedDict if isinstance(value, OrderedDict) else dict
            factory = value.default_factory if isinstance(value, defaultdict) else None
            state = (base, list(base.items(value)), factory, getattr(value, "__dict__", {}))
            return _new_empty, (type(value),), state, None, None, _fill_dict
        if isinstance(value, FunctionType) and "<l" in value.__qualname__:  # <lambda>, <locals>: in many a defaultdict
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            return _function, (marshal.dumps(value.__code__), value.__module__, value.__defaults__, cells)
        return NotImplemented

    def _key_state(self, key: Any) -> tuple[dict[str, Any], _Content]:
        kept = key.__dict__.get("_pointsman_content")
        if kept is None or kept[0] != key.etag or not (self._objects / kept[1]).exists():
            content = b"" if key.disposed else key.value
            digest = hashlib.sha256(content).hexdigest()
            temporary = self._objects / f"{digest}.new"
            temporary.write_bytes(content)
            temporary.rename(self._objects / digest)
            kept = key._pointsman_content = (key.etag, digest)
        self.digests.add(kept[1])
        state = {name: value for name, value in key.__dict__.items() if name not in ("_value_buffer", "lock")}
        return state, _Content(kept[1])


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, objects: Path | None) -> None:
        super().__init__(file)
        self._objects = objects

    def persistent_load(self, digest: str) -> bytes:
        return b"" if self._objects is None else (self._objects / digest).read_bytes()


def _key(kind: Any, state: dict[str, Any], content: bytes) -> Any:
    key = kind.__new__(kind)
    key.__setstate__(state | {"value": content})
    return key


def _from_cryptography(value: Any) -> Any:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.x509 import Certificate

    if hasattr(value, "private_bytes"):
        return _private_key, (value.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption()),)
    if isinstance(value, Certificate):
        return _certificate, (value.public_bytes(form.Encoding.DER),)
    return NotImplemented


def _private_key(der: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    return load_der_private_key(der, None)


def _certificate(der: bytes) -> Any:
    from cryptography.x509 import load_der_x509_certificate

    return load_der_x509_certificate(der)


def _new_empty(kind: Any) -> Any:
    return kind.__new__(kind)


def _fill_dict(made: Any, state: tuple[Any, list[tuple[Any, Any]], Any, dict[str, Any]]) -> None:
    base, items, factory, attributes = state
    if attributes:
        made.__dict__.update(attributes)
    if factory is not None:
        made.default_factory = factory
    for key, value in items:
        base.__setitem__(made, key, value)


@lru_cache(1)
def _aws_policies() -> Any:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    return json.loads(aws_managed_policies_data)


def _aws_policy(name: str, account: str, partition: str, identity: str, attachments: int) -> Any:
    from moto.iam.models import AWSManagedPolicy

    policy = AWSManagedPolicy.from_data(name, account, partition, _aws_policies()[name])
    policy.id, policy.attachment_count = identity, attachments
    return policy


def _function(code: bytes, module: str, defaults: tuple[Any, ...] | None, cells: list[Any]) -> FunctionType:
    __import__(module)
    closure = tuple(CellType(content) for content in cells)
    return FunctionType(marshal.loads(code), vars(sys.modules[module]), None, defaults, closure)
