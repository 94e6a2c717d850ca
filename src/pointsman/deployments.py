"""What an alias served before: its deployments, read off its moves. Pure.

"The previous version" is not *number − 1* (aliases share one counter): it is the previous *deployment of that alias*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pointsman.model import Move, Version


def deployments(moves: Iterable[Move]) -> tuple[Move, ...]:
    """The deployments still standing, oldest first: a rollback takes away what it went back over.

    deploy 1, deploy 2, deploy 3, rollback to 2  →  1, 2: rolling back once more leads to 1, not to 3.
    A move that was merely observed, back to an older version that the alias had served, is taken for a rollback, too.
    """
    standing: list[Move] = []
    for move in moves:
        if move.kind == "removed":
            standing.clear()  # the alias itself is gone
            continue
        if move.was is not None and (not standing or standing[-1].version != move.was):
            # It came from where no entry had put it (another machine's deployment): worth going back to as well.
            standing.append(Move(alias=move.alias, version=move.was, was=None, kind="observed", at=move.at))
        versions = [each.version for each in standing]
        back = move.kind in ("rollback", "restore") or (move.kind == "observed" and versions[-1:] > [move.version])
        if back and move.version in versions:
            last = len(versions) - 1 - versions[::-1].index(move.version)
            del standing[last + 1 :]
        elif not standing or standing[-1].version != move.version:
            standing.append(move)
    return tuple(standing)


def previous(moves: Sequence[Move], serving: Version) -> Move | None:
    """The deployment to roll back to, or None when the alias had none before `serving`.

    Raises ValueError when the newest known deployment is not what the alias serves: somebody moved it, unrecorded.
    """
    standing = deployments(moves)
    if not standing:
        return None
    if standing[-1].version != serving:
        raise ValueError(f"the last recorded deployment is version {standing[-1].version}, not version {serving}")
    return standing[-2] if len(standing) > 1 else None
