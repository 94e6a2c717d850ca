"""The queue of asynchronous invocations: what was accepted and has neither succeeded nor been given up.

Each change is one statement outside of `_writing`: it changes nothing about where invocations go, so what is
remembered of that stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pointsman.localaws.lambda_.address import LATEST, Address
from pointsman.localaws.lambda_.store import Store
from pointsman.localaws.lambda_.wire import Json

MOST_RETRIES = 2
OLDEST_S = 21_600.0

_EVENT = (
    "event.id, account, region, name, qualifier, request_id, payload, client_context, accepted_at, due_at, attempts,"
    " throttles, skipped"
)


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted event. Times are epoch seconds; a fast clock has saved it `skipped` seconds of waiting."""

    id: int
    here: Address
    request_id: str
    payload: bytes
    client_context: str | None
    accepted_at: float
    due_at: float
    attempts: int = 0
    throttles: int = 0
    skipped: float = 0.0


@dataclass(frozen=True, slots=True)
class Handling:
    """What a qualifier's event invoke configuration says."""

    most_retries: int
    oldest_s: float
    on_success: str | None
    on_failure: str | None


class EventQueue(Store):
    def accept_event(
        self, account: str, region: str, given: Json, payload: bytes, *, request_id: str, client_context: str | None
    ) -> Event:
        """The event, which is durable now. The function and its qualifier must exist: AWS asks no more."""
        here = self._called("Invoke", account, region, given)
        now = self._now()
        with self._lock:
            function = self._function(here, here.qualifier or LATEST)
            self._check_invocable(self._invoked(here)[1])
            row = self._db.execute(
                "INSERT INTO event (function, qualifier, request_id, payload, client_context, accepted_at, due_at,"
                " attempts, throttles, skipped) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0)",
                (function, here.qualifier, request_id, payload, client_context, now, now),
            ).lastrowid
        assert row is not None
        return Event(row, here, request_id, payload, client_context, now, now)

    def queued_events(self) -> list[int]:
        with self._lock:
            return [row for (row,) in self._db.execute("SELECT id FROM event ORDER BY due_at")]

    def event(self, number: int) -> Event | None:
        """None once it is forgotten, or its function deleted."""
        with self._lock:
            row = self._db.execute(
                f"SELECT {_EVENT} FROM event JOIN function ON function = function.id WHERE event.id = ?", (number,)
            ).fetchone()
        if row is None:
            return None
        number, account, region, name, qualifier, *rest = row
        return Event(number, Address(account, region, name, qualifier), *rest)

    def postpone_event(self, event: Event) -> None:
        with self._lock:
            self._db.execute(
                "UPDATE event SET due_at = ?, attempts = ?, throttles = ?, skipped = ? WHERE id = ?",
                (event.due_at, event.attempts, event.throttles, event.skipped, event.id),
            )

    def forget_event(self, event: Event) -> None:
        with self._lock:
            self._db.execute("DELETE FROM event WHERE id = ?", (event.id,))

    def handling(self, here: Address) -> Handling:
        """How events for this function and qualifier are retried and reported now."""
        with self._lock:
            row = self._db.execute(
                "SELECT settings FROM event_invoke WHERE function = ? AND qualifier = ?",
                (self._find(here), here.qualifier or LATEST),
            ).fetchone()
        settings: Json = {} if row is None else msgspec.json.decode(row[0])
        ends = settings.get("DestinationConfig", {})
        return Handling(
            settings.get("MaximumRetryAttempts", MOST_RETRIES),
            float(settings.get("MaximumEventAgeInSeconds", OLDEST_S)),
            ends.get("OnSuccess", {}).get("Destination"),
            ends.get("OnFailure", {}).get("Destination"),
        )

    def dead_letters(self, here: Address) -> str | None:
        """Where the version behind the qualifier has its dead letters sent."""
        with self._lock:
            target = self._reached(here).settings.get("DeadLetterConfig", {}).get("TargetArn")
        return None if target is None else str(target)
