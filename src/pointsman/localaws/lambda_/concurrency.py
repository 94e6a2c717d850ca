"""Concurrency: what is reserved for a function (and the most it gets), and what is kept ready of a version or alias.

Both are enforced where invocations start. Of what is provisioned one environment is started ahead of any call, which
shows whether it can be; the others, when they are first needed.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from pointsman.localaws.lambda_.address import LATEST, Address
from pointsman.localaws.lambda_.errors import LambdaError, alias_not_found, conflict, function_not_found, invalid
from pointsman.localaws.lambda_.store import Store, after_marker, marker, new_revision, page_size, version_number
from pointsman.localaws.lambda_.wire import Json

MOST_CONCURRENT: Final = 1000
LEAST_UNRESERVED: Final = 100
LONGEST_START_S: Final = 900.0  # then what was provisioned counts as ready, whatever became of starting it


class Concurrency(Store):
    def put_function_concurrency(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("PutFunctionConcurrency", account, region, parameters)
        number = parameters["ReservedConcurrentExecutions"]
        with self._writing():
            function = self._find(here)
            if function is None:
                raise function_not_found(here.qualified(LATEST))  # recorded, though no qualifier may be given
            if number < (ready := self._provisioned(function)):
                raise invalid(
                    f" ReservedConcurrentExecutions  {number} should not be lower than function's total provisioned "
                    f"concurrency [{ready}].",
                    type="",
                )
            if self._unreserved(here.account, region, but=function) - number < LEAST_UNRESERVED:
                raise invalid(
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{LEAST_UNRESERVED}].",
                    type="",
                )
            self._db.execute("UPDATE function SET reserved = ? WHERE id = ?", (number, function))
        return {"ReservedConcurrentExecutions": number}

    def get_function_concurrency(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("GetFunctionConcurrency", account, region, parameters)
        with self._lock:
            number = self._reserved(self._function(here))
        return {} if number is None else {"ReservedConcurrentExecutions": number}

    def delete_function_concurrency(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("DeleteFunctionConcurrency", account, region, parameters)
        with self._writing():
            self._db.execute("UPDATE function SET reserved = NULL WHERE id = ?", (self._function(here),))
        return {}

    def put_provisioned_concurrency_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("PutProvisionedConcurrencyConfig", account, region, parameters)
        if here.qualifier == LATEST:
            raise invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        number = parameters["ProvisionedConcurrentExecutions"]
        self._arrive()
        with self._writing():
            function = self._provisionable(here)
            self._check_rivals(function, here)
            self._check_room(function, here, number)
            now = self._now()
            due, starts = self._due()
            self._db.execute(
                "REPLACE INTO provisioned (function, qualifier, number, modified, settles_at) VALUES (?, ?, ?, ?, ?)",
                (function, here.qualifier, number, _seconds(now), due),
            )
        self._provision(here, due if starts else None)
        return self._ready(number, _seconds(now), now + LONGEST_START_S, None, None)

    def _due(self) -> tuple[float, bool]:
        """When what is to be kept ready is so at the latest; whether it starts now, or is held back on purpose."""
        settles_at, _failure = self._begin("PutProvisionedConcurrencyConfig")
        now = self._now()  # not earlier: what begins after it would always seem to be held back
        starts = self.keep_ready is not None and settles_at <= now + self._settle_s
        return (now + LONGEST_START_S if starts else settles_at), starts

    def _provision(self, here: Address, due: float | None) -> None:
        if due is not None and self.keep_ready is not None:
            self.keep_ready(here, due)

    def _move_provisioned(self, function: int, alias: str, before: int) -> tuple[bool, float | None]:
        """What is provisioned of an alias goes with it; the version it leaves stays ready meanwhile (recorded).

        (Whether there is some, what `_provision` is to be told.)
        """
        due, starts = self._due()
        moving = self._db.execute(
            "UPDATE provisioned SET settles_at = ?, reason = NULL, before = ? WHERE function = ? AND qualifier = ?",
            (due, before, function, alias),
        )
        return bool(moving.rowcount), due if moving.rowcount and starts else None

    def _arrive(self) -> None:
        """Aliases whose provisioned concurrency moved with them lose the weights of the time between.

        Where it failed the weights stay, and the version before serves on, until somebody clears them (reported by
        users). Outside of transactions, before an alias is looked at.
        """
        over = "before IS NOT NULL AND settles_at <= ? AND reason IS NULL"
        with self._lock:
            arrived = self._db.execute(
                f"SELECT function, qualifier, before FROM provisioned WHERE {over}", (self._now(),)
            ).fetchall()
        if not arrived:
            return
        with self._writing():
            for function, name, before in arrived:
                self._db.execute(
                    "UPDATE alias SET additional = NULL, weight = NULL, revision = ?"
                    " WHERE function = ? AND name = ? AND additional = ? AND weight = 1.0",
                    (new_revision(), function, name, before),
                )
                self._db.execute(
                    f"UPDATE provisioned SET before = NULL WHERE function = ? AND qualifier = ? AND {over}",
                    (function, name, self._now()),
                )

    def _check_single(self, function: int, name: str, *versions: int | None) -> None:
        """Each version may have one configuration: its own, or that of one alias which reaches it (documented).

        https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html. The sentence is what users report.
        """
        if self._has_provisioned(function, name) and any(
            self._has_provisioned(function, str(version)) or self._provisioned_by(function, version, but=name)
            for version in versions
            if version is not None
        ):
            raise invalid("Invalid alias configuration for Provisioned Concurrency")

    def _has_provisioned(self, function: int, qualifier: str) -> bool:
        asked = "SELECT 1 FROM provisioned WHERE function = ? AND qualifier = ?"
        return self._db.execute(asked, (function, qualifier)).fetchone() is not None

    def _provisioned_by(self, function: int, version: int, *, but: str = "") -> bool:
        """Whether an alias with provisioned concurrency reaches the version, if only with a weight."""
        found = self._db.execute(
            "SELECT 1 FROM alias JOIN provisioned ON provisioned.function = alias.function AND qualifier = name"
            " WHERE alias.function = ?1 AND (version = ?2 OR additional = ?2) AND name <> ?3",
            (function, version, but),
        ).fetchone()
        return found is not None

    def provisioned(self, here: Address, due: float, reason: str | None) -> None:
        """What `keep_ready` was told with this `due` is ready, or failed for a reason in AWS's words.

        A version that was made ready has a new RevisionId (recorded).
        """
        at = max(self._now(), due - LONGEST_START_S + self._settle_s / self.speed)
        with self._writing():
            asked = self._db.execute(
                "UPDATE provisioned SET settles_at = ?, reason = ?"
                " WHERE function = ? AND qualifier = ? AND settles_at = ?",
                (at, reason, self._find(here), here.qualifier, due),
            )
            if asked.rowcount and reason is None:
                revision = new_revision()
                self._put(replace(self._reached(here), revision=revision, settled_revision=revision))

    def get_provisioned_concurrency_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._published("GetProvisionedConcurrencyConfig", account, region, parameters)
        with self._lock:
            found = self._db.execute(
                "SELECT number, modified, settles_at, reason, before FROM provisioned"
                " WHERE function = ? AND qualifier = ?",
                (self._provisionable(here), here.qualifier),
            ).fetchone()
        if found is None:
            raise LambdaError(
                "ProvisionedConcurrencyConfigNotFoundException",
                404,
                "No Provisioned Concurrency Config found for this function",
            )
        return self._ready(*found)

    def delete_provisioned_concurrency_config(self, account: str, region: str, parameters: Json) -> Json:
        """Deleting one that is not there is silently fine (recorded)."""
        here = self._published("DeleteProvisionedConcurrencyConfig", account, region, parameters)
        with self._writing():
            function = self._provisionable(here)
            self._db.execute("DELETE FROM provisioned WHERE function = ? AND qualifier = ?", (function, here.qualifier))
        return {}

    def list_provisioned_concurrency_configs(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called_unqualified("ListProvisionedConcurrencyConfigs", account, region, parameters)
        size = page_size(parameters)
        (after,) = after_marker(parameters, "")
        with self._lock:
            rows = self._db.execute(
                "SELECT qualifier, number, modified, settles_at, reason, before FROM provisioned"
                " WHERE function = ? AND qualifier > ? ORDER BY qualifier LIMIT ?",
                (self._function(here), after, size + 1),
            ).fetchall()
        found = [{"FunctionArn": here.qualified(row[0])} | self._ready(*row[1:]) for row in rows[:size]]
        reply: Json = {"ProvisionedConcurrencyConfigs": found}
        if len(rows) > size:
            reply["NextMarker"] = marker(rows[size - 1][0])
        return reply

    def _published(self, operation: str, account: str, region: str, parameters: Json) -> Address:
        here = self._called(operation, account, region, parameters)
        if here.qualifier == LATEST:
            raise invalid("The function resource provided must be an alias or a published version.")
        return here

    def _provisionable(self, here: Address) -> int:
        """The function's id, if the version or alias is there; of an alias the function itself is not spoken of."""
        assert here.qualifier is not None, "the model requires it"
        if here.qualifier.isdecimal():
            return self._existing(here, here.qualifier).function
        function = self._find(here)
        if function is None or self._alias(function, here.qualifier) is None:
            raise alias_not_found(here.qualified(here.qualifier), "Cannot find alias arn")
        return function

    def _check_rivals(self, function: int, here: Address) -> None:
        """A version and an alias that reaches it, if only with a weight, cannot both be provisioned."""
        assert here.qualifier is not None
        alias = self._alias(function, here.qualifier)
        if alias is None:
            if self._provisioned_by(function, version_number(here.qualifier)):
                raise conflict("Version is pointed by a Provisioned Concurrency alias")
            return
        if alias.version == 0:
            raise invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        if any(self._has_provisioned(function, str(each)) for each in (alias.version, alias.additional)):
            raise conflict(
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
            )
        if alias.additional is not None:
            # Documented; the sentence is what users report (hashicorp/terraform 24957).
            raise invalid("Alias with weights can not be used with Provisioned Concurrency")

    def _check_room(self, function: int, here: Address, number: int) -> None:
        others = self._provisioned(function, but=here.qualifier)
        reserved = self._reserved(function)
        if reserved is not None:
            if others + number > reserved:
                raise invalid(
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for "
                    "function"
                )
            return
        free = self._unreserved(here.account, here.region, but=function) - others
        if number > free:
            raise invalid(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency "
                f"[{free}].",
                type="",
            )
        if free - number < LEAST_UNRESERVED:
            raise invalid(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
                f"its minimum value of [{LEAST_UNRESERVED}].",
                type="",
            )

    def _provisioned(self, function: int, but: str | None = None) -> int:
        (number,) = self._db.execute(
            "SELECT COALESCE(SUM(number), 0) FROM provisioned WHERE function = ? AND qualifier IS NOT ?",
            (function, but),
        ).fetchone()
        return int(number)

    def _unreserved(self, account: str, region: str, but: int | None = None) -> int:
        """What functions without a reservation share (`but`: as if that function had none, nothing provisioned)."""
        (taken,) = self._db.execute(
            "SELECT COALESCE(SUM(COALESCE("
            "  reserved, (SELECT SUM(number) FROM provisioned WHERE provisioned.function = id), 0)), 0)"
            " FROM function WHERE account = ? AND region = ? AND id IS NOT ?",
            (account, region, but),
        ).fetchone()
        return MOST_CONCURRENT - int(taken)

    def _kept_ready(self, function: int) -> tuple[dict[int, int], bool]:
        """(How many environments of which version are, whether that stays so by itself.)"""
        rows = self._db.execute(
            "SELECT COALESCE(version, CAST(qualifier AS INTEGER)), provisioned.number, settles_at, reason, before"
            " FROM provisioned LEFT JOIN alias ON alias.function = provisioned.function AND name = qualifier"
            " WHERE provisioned.function = ?",
            (function,),
        ).fetchall()
        now, ready = self._now(), dict[int, int]()
        for version, number, settles_at, reason, before in rows:
            kept = before if settles_at > now else version if reason is None else None
            if kept is not None:
                ready[kept] = ready.get(kept, 0) + number
        return ready, all(settles_at <= now for _, _, settles_at, _, _ in rows)

    def _ready(self, number: int, modified: str, settles_at: float, reason: str | None, before: int | None) -> Json:
        settled = self._now() >= settles_at
        ready = number if (reason is None if settled else before is not None) else 0
        shown: Json = {
            "RequestedProvisionedConcurrentExecutions": number,
            "AvailableProvisionedConcurrentExecutions": ready,
            "AllocatedProvisionedConcurrentExecutions": ready,
            "Status": "IN_PROGRESS" if not settled else "READY" if reason is None else "FAILED",
            "LastModified": modified,
        }
        return shown | {"StatusReason": reason} if settled and reason is not None else shown


def _seconds(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "+0000")
