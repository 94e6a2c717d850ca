"""Leases, held: by one process, and for no longer than it lives. What keeps two from acting at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pointsman.errors import LedgerError, LostRace
from pointsman.ledger import Lease, Ledger, born

LEASE_S = 45.0
BEAT_S = 15.0
"""How often the lease is renewed while something else takes long: a gate's command, AWS starting environments."""


def holder_of(run: str) -> str:
    """One process may do several things: its run tells them apart."""
    return f"{os.uname().nodename} {os.getpid()} {born(os.getpid())} {run}"


def is_dead(holder: str) -> bool:
    """Whether it was a process of this machine that is gone: nobody has to wait for its lease to end."""
    match holder.split(" "):
        case [host, pid, began, *_] if host == os.uname().nodename and pid.isdecimal():
            now = born(int(pid))
            return now == "" or (now != began and "?" not in (now, began))
    return False


@contextmanager
def alone(ledger: Ledger, name: str, run: str, seconds: float, taken: Callable[[str], LostRace]) -> Iterator[Lease]:
    """Holds a lease; one whose holder died on this machine is taken over. Raises what `taken` makes of its holder."""
    other = ledger.holder(name)
    if other and is_dead(other.holder):
        ledger.release(other)
    lease = ledger.lease(name, holder_of(run), seconds)
    if lease is None:
        other = ledger.holder(name)
        raise taken(other.holder if other else "somebody")
    try:
        yield lease
    finally:
        with suppress(LedgerError):  # it ends by itself; what was done is the thing to tell
            ledger.release(lease)


def renewed(ledger: Ledger, lease: Lease, seconds: float = LEASE_S) -> Lease | None:
    """The lease, for so long again; None where another had it meanwhile, though it may be free by now."""
    now = ledger.lease(lease.name, lease.holder, seconds)
    if now and now.token != lease.token:
        ledger.release(now)
        return None
    return now


@contextmanager
def beating(ledger: Ledger, lease: Lease, every_s: float, seconds: float = LEASE_S) -> Iterator[None]:
    """Renews a lease from beside, in real time, each time for so long.

    One that was lost meanwhile stays lost: its holder finds that when it renews it.
    """
    done = threading.Event()

    def beat() -> None:
        while not done.wait(every_s):
            with suppress(LedgerError):
                if not renewed(ledger, lease, seconds):
                    return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
