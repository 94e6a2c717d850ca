"""Every metric's values by the second, in SQLite; what is older is kept by the minute.

Recording appends to a list; a thread writes that down about once a second, and every question first writes down what
there is. So a kill loses a second at most. Amounts of memory and disk do not depend on the number of invocations.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from pointsman.localaws.cloudwatch.statistics import Distribution

Dimensions: TypeAlias = tuple[tuple[str, str], ...]
"""(name, value) pairs in the order of names."""

log: Final = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL, region TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    dimensions TEXT NOT NULL, unit TEXT NOT NULL,
    latest INTEGER NOT NULL,
    UNIQUE (account, region, namespace, name, dimensions, unit)
);
CREATE TABLE IF NOT EXISTS point (
    series INTEGER NOT NULL REFERENCES series (id) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    width INTEGER NOT NULL,  -- seconds: 1, or 60 when older
    count REAL NOT NULL, total REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
    sample BLOB,  -- how often each value occurred; NULL when only sums were reported
    PRIMARY KEY (series, start, width)
) WITHOUT ROWID;
"""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[float, float]).decode
_pairs = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode


class Metric(NamedTuple):
    account: str
    region: str
    namespace: str
    name: str
    dimensions: Dimensions = ()


class Datum(NamedTuple):
    metric: Metric
    unit: str
    at: float
    what: Distribution


@dataclass(frozen=True, slots=True)
class Retention:
    """How long which detail is kept. On AWS: 3 hours, and 15 days (by 5 minutes and by the hour for longer)."""

    seconds_s: float = 3 * 3600
    minutes_s: float = 15 * 86400


KEPT: Final = Retention()


class Metrics:
    """Thread-safe. `record` takes what `emit` makes data of; one process at a time uses a file."""

    def __init__(
        self,
        file: Path,
        *,
        emit: Callable[[Any], Iterable[Datum]],
        now: Callable[[], float] = time.time,
        retention: Retention = KEPT,
        pause_s: float = 1.0,
    ) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._now = now
        self._emit = emit
        self._retention = retention
        self._pause_s = pause_s
        self.late_s = 0.0  # how long what happened stays unseen: CloudWatch has a minute or two of it
        self._lock = threading.RLock()
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")
        self._db.executescript(_SCHEMA)
        self._ids: dict[tuple[Metric, str], int] = {}
        self._waiting: deque[object] = deque()
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._tidied = float("-inf")
        self._thread = threading.Thread(target=self._write_in_background, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._dirty.set()
        self._thread.join()
        with self._lock:
            self.flush()
            self._db.close()

    # --- writing ---

    def record(self, sample: object) -> None:
        """Costs no more than an append; from any thread."""
        self._waiting.append(sample)
        if not self._dirty.is_set():
            self._dirty.set()

    def put(self, data: Iterable[Datum]) -> None:
        """On disk when it returns."""
        with self._lock:
            self.flush()
            self._write(data)

    def flush(self) -> None:
        with self._lock:
            self._dirty.clear()
            samples: list[object] = []
            while self._waiting:
                samples.append(self._waiting.popleft())
            if samples:
                self._write(self._emit(samples))

    def _write_in_background(self) -> None:
        while True:
            self._dirty.wait()
            if self._closing.wait(self._pause_s):
                return
            try:
                self.flush()
                self.tidy()
            except sqlite3.Error:  # a full disk, say; what could not be written is lost
                log.exception("metrics could not be written")

    def _write(self, data: Iterable[Datum]) -> None:
        buckets: dict[tuple[Metric, str], dict[int, Distribution]] = {}
        for metric, unit, at, what in data:
            seconds = buckets.setdefault((metric, unit), {})
            found = seconds.get(int(at))
            if found is None:
                seconds[int(at)] = what
            else:
                found.merge(what)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for key, seconds in buckets.items():
                series = self._id(key, max(seconds))
                for second, what in seconds.items():
                    self._add(series, second, 1, what)
        except BaseException:
            self._db.execute("ROLLBACK")
            self._ids.clear()
            raise
        self._db.execute("COMMIT")

    def _id(self, key: tuple[Metric, str], latest: int) -> int:
        found = self._ids.get(key)
        if found is None:
            metric, unit = key
            (found,) = self._db.execute(
                "INSERT INTO series (account, region, namespace, name, dimensions, unit, latest)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET latest = MAX(latest, excluded.latest)"
                " RETURNING id",
                (*metric[:4], _text(metric.dimensions), unit, latest),
            ).fetchone()
            self._ids[key] = int(found)
        else:
            self._db.execute("UPDATE series SET latest = ? WHERE id = ? AND latest < ?", (latest, found, latest))
        return int(found)

    def _add(self, series: int, start: int, width: int, what: Distribution) -> None:
        before = self._db.execute(
            "SELECT count, total, low, high, sample FROM point WHERE series = ? AND start = ? AND width = ?",
            (series, start, width),
        ).fetchone()
        if before is not None:
            known = _distribution(*before)
            known.merge(what)
            what = known
        self._db.execute(
            "REPLACE INTO point VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                series,
                start,
                width,
                what.count,
                what.total,
                what.low,
                what.high,
                None if what.values is None else _encode(what.values),
            ),
        )

    def tidy(self) -> None:
        """Once a minute: seconds that are old become minutes, minutes that are old go."""
        now = self._now()
        if now - self._tidied < 60:
            return
        self._tidied = now
        oldest_second = int(now - self._retention.seconds_s) // 60 * 60
        with self._lock:
            rows = self._db.execute(
                "SELECT series, start, count, total, low, high, sample FROM point WHERE width = 1 AND start < ?",
                (oldest_second,),
            ).fetchall()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                minutes: dict[tuple[int, int], Distribution] = {}
                for series, start, *what in rows:
                    key = (series, start // 60 * 60)
                    if key in minutes:
                        minutes[key].merge(_distribution(*what))
                    else:
                        minutes[key] = _distribution(*what)
                for (series, minute), merged in minutes.items():
                    self._add(series, minute, 60, merged)
                self._db.execute("DELETE FROM point WHERE width = 1 AND start < ?", (oldest_second,))
                oldest = int(now - self._retention.minutes_s)
                self._db.execute("DELETE FROM point WHERE start < ?", (oldest,))
                self._db.execute("DELETE FROM series WHERE latest < ?", (oldest,))
                self._ids.clear()
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # --- asking ---

    def units(self, metric: Metric) -> dict[str, int]:
        """The units its values were reported in → the ids of the series."""
        with self._lock:
            self.flush()
            return dict(
                self._db.execute(
                    "SELECT unit, id FROM series WHERE account = ? AND region = ? AND namespace = ? AND name = ?"
                    " AND dimensions = ? ORDER BY unit",
                    (*metric[:4], _text(metric.dimensions)),
                ).fetchall()
            )

    def points(self, series: int, seconds: range, *, values: bool = False) -> dict[int, Distribution]:
        """What was measured, by the periods that begin at `seconds`; those without anything are absent.

        Only `values` brings those that percentiles need. What is only known by the minute does not answer for seconds.
        """
        start, period = seconds.start, seconds.step
        width = 60 if period >= 60 else 1
        end = min(seconds.stop, int(self._now() - self.late_s) + 1) if self.late_s else seconds.stop
        given = {"series": series, "start": start, "end": end, "period": period, "width": width}
        where = "FROM point WHERE series = :series AND start >= :start AND start < :end AND width <= :width"
        with self._lock:
            if not values:
                rows = self._db.execute(
                    "SELECT (start - :start) / :period AS slot, SUM(count), SUM(total), MIN(low), MAX(high)"
                    f" {where} GROUP BY slot ORDER BY slot",
                    given,
                ).fetchall()
                return {
                    start + slot * period: Distribution(count, total, low, high, None)
                    for slot, count, total, low, high in rows
                }
            rows = self._db.execute(
                f"SELECT (start - :start) / :period, count, total, low, high, sample {where} ORDER BY start", given
            ).fetchall()
        found: dict[int, Distribution] = {}
        for slot, *what in rows:
            at = start + slot * period
            if at in found:
                found[at].merge(_distribution(*what))
            else:
                found[at] = _distribution(*what)
        return found

    def listed(
        self,
        account: str,
        region: str,
        *,
        namespace: str | None,
        name: str | None,
        dimensions: Sequence[Mapping[str, str]],
        since: float,
        after: int,
        limit: int,
    ) -> list[tuple[int, Metric]]:
        """(id, metric): each metric once, whatever its units, by id; with all of `dimensions` (a value may be open)."""
        with self._lock:
            self.flush()
            rows = self._db.execute(
                "SELECT MIN(id), namespace, name, dimensions FROM series WHERE account = ? AND region = ?"
                " AND (?3 IS NULL OR namespace = ?3) AND (?4 IS NULL OR name = ?4) AND latest >= ?5"
                " GROUP BY namespace, name, dimensions HAVING MIN(id) > ?6 ORDER BY MIN(id)",
                (account, region, namespace, name, int(since), after),
            )
            found: list[tuple[int, Metric]] = []
            for id_, there, called, text in rows:
                pairs = _pairs(text)
                if all(any(_asked(wanted, pair) for pair in pairs) for wanted in dimensions):
                    found.append((id_, Metric(account, region, there, called, pairs)))
                    if len(found) == limit:
                        break
            return found


def dimensions_of(given: Iterable[Mapping[str, str]]) -> Dimensions:
    return tuple(sorted((each["Name"], each["Value"]) for each in given))


def _asked(wanted: Mapping[str, str], pair: tuple[str, str]) -> bool:
    return wanted["Name"] == pair[0] and wanted.get("Value") in (None, pair[1])


def _text(dimensions: Dimensions) -> str:
    return msgspec.json.encode(dimensions).decode()


def _distribution(count: float, total: float, low: float, high: float, sample: bytes | None) -> Distribution:
    return Distribution(count, total, low, high, None if sample is None else _decode(sample))
