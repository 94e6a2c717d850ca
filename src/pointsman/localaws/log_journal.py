"""What functions logged, line by line on disk: a log only grows, and is too much to be written whole at every change.

moto answers CloudWatch Logs from memory, as ever; the events of a journaled stream are in no pickle, but here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from moto.logs.models import LogEvent, LogsBackend, LogStream, logs_backends

_SCHEMA = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;
CREATE TABLE IF NOT EXISTS stream (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, log_group TEXT NOT NULL, name TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS batch (
    stream INTEGER NOT NULL REFERENCES stream ON DELETE CASCADE, ingested INTEGER NOT NULL, events BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS batch_stream ON batch (stream);
"""
_MARK = "_pointsman_journal"


class LogJournal:
    """One thread writes; times are epoch milliseconds."""

    def __init__(self, file: Path, started_ms: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._db.executescript(_SCHEMA)
        # moto counts from 0 in every process, and `aws logs tail` takes an id it has seen for a line it has shown.
        LogEvent._event_id = max(LogEvent._event_id, started_ms * 1000)

    def put(self, account: str, region: str, group: str, stream: str, lines: Sequence[tuple[int, str]]) -> bool:
        """Add lines to the stream, made if need be; True when it was: then moto's own state has changed, too."""
        backend: LogsBackend = logs_backends[account][region]
        made = group not in backend.groups or stream not in backend.groups[group].streams
        if group not in backend.groups:
            backend.create_log_group(group, {})
        backend.ensure_log_stream(group, stream)
        kept = backend.groups[group].streams[stream]
        if made:
            self._journal(kept, group)
        before = len(kept.events)
        backend.put_log_events(group, stream, [{"timestamp": at, "message": line} for at, line in lines])
        if (identity := vars(kept).get(_MARK)) is not None:
            new = kept.events[before:]
            packed = msgspec.json.encode([(event.timestamp, event.message) for event in new])
            self._db.execute("INSERT INTO batch VALUES (?, ?, ?)", (identity, new[-1].ingestion_time, packed))
        return made

    def restore(self, saved_ms: int | None) -> None:
        """Give moto's streams their events back. `saved_ms`: when moto's own state was written.

        A stream that moto's state lacks was deleted, or made after that was written: then it is made again.
        """
        rows = self._db.execute(
            "SELECT id, account, region, log_group, name, ingested, events"
            " FROM stream JOIN batch ON stream = id ORDER BY id, batch.rowid"
        )
        gone: list[int] = []
        for (identity, account, region, group, name), found in groupby(rows, key=lambda row: row[:5]):
            batches = [(ingested, msgspec.json.decode(packed)) for *_, ingested, packed in found]
            backend: LogsBackend = logs_backends[account][region]
            there = backend.groups.get(group)
            if there is None or name not in there.streams:
                if saved_ms is not None and batches[-1][0] < saved_ms:
                    gone.append(identity)
                    continue
                if there is None:
                    backend.create_log_group(group, {})
                backend.ensure_log_stream(group, name)
            stream = backend.groups[group].streams[name]
            setattr(stream, _MARK, identity)
            stream.events = [
                LogEvent(ingested, {"timestamp": at, "message": text})
                for ingested, lines in batches
                for at, text in lines
            ]
            stream.stored_bytes = sum(len(event.message) for event in stream.events)
        self._db.executemany("DELETE FROM stream WHERE id = ?", [(identity,) for identity in gone])

    def close(self) -> None:
        self._db.close()

    def _journal(self, stream: LogStream, group: str) -> None:
        identity = self._db.execute(
            "INSERT INTO stream (account, region, log_group, name) VALUES (?, ?, ?, ?)",
            (stream.account_id, stream.region, group, stream.log_stream_name),
        ).lastrowid
        setattr(stream, _MARK, identity)


def identity(stream: LogStream) -> str:
    """What tells the stream from an earlier one of the same name, over restarts too."""
    kept = vars(stream).get(_MARK)
    return str(stream.creation_time.timestamp()) if kept is None else str(kept)


def without_journaled_events(value: Any) -> dict[str, Any] | None:
    """What of a log stream belongs into a pickle; None for what is not a journaled stream."""
    if not isinstance(value, LogStream) or _MARK not in vars(value):
        return None
    return {**vars(value), "events": []}
