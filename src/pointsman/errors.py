"""Every way Pointsman says no. One tree, one file; each class has an exit code and a stable code for `--json`.

    PointsmanError                1  failed, and said why
    ├── UsageError                2  the command line or the file is wrong
    │   ├── ConfigInvalid            pointsman.toml has problems (all of them, at once)
    │   ├── NotYet                   a key is valid, but what it asks for is not built yet
    │   ├── UnknownTarget            no such build, version, alias or environment
    │   └── BuildIdTaken             the id names a build with other bits
    ├── GateRefused               3  a test, an approval or another gate did not pass
    ├── LostRace                  4  somebody else changed it first; nothing was overwritten
    │   ├── StalePlan                the world is no longer what a saved plan saw
    │   ├── StateLocked              another run holds the lock on Terraform's state
    │   └── Drift                    an alias is not where the ledger says
    ├── AwsError                  1  AWS refused a call
    │   ├── CredentialsRefused       none, expired, or wrong
    │   ├── AccountMismatch          they belong to another account than the file declares
    │   ├── AccessDenied             a permission is missing
    │   ├── NotFound                 the function, alias, stack … is not there
    │   │   └── NotMade              what the first deploy makes
    │   ├── PreconditionFailed    4  a revision id is no longer the present one
    │   ├── Conflict                 AWS is busy with it, or it exists already
    │   ├── Throttled                still throttled after all retries
    │   ├── InvalidRequest           AWS found a value unacceptable
    │   ├── Unreachable              the call surely did not take effect
    │   └── Ambiguous                the call may have taken effect
    ├── FunctionFailed            1  the function, version or stack ended in a failed state
    ├── TerraformFailed           1  Terraform or OpenTofu said no, in its own words
    ├── TimedOut                  1  waited as long as allowed
    ├── BuildFailed               1  the package could not be made, or Lambda would refuse it
    ├── BackupFailed              1  a backup cannot be made or read, or what is in it is damaged
    ├── LedgerError               1  the ledger cannot be read or written
    │   └── LedgerCorrupt            it can be rebuilt: `pointsman history --rebuild`
    ├── NotRestored               1  a release failed, and could not be taken back in full
    ├── LocalAwsFailed            1  the local AWS did not start or stop
    └── Interrupted             130  by Ctrl-C, or by whoever ended the process

An error says *where* (what was being done), *what* (the cause, with the numbers) and *next* (what to do about it).
"""

from __future__ import annotations

from typing import ClassVar


class PointsmanError(Exception):
    """The root: `where` was being done, `what` went wrong, `next` is what to do now (each a sentence or less)."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, what: str, *, where: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next = next
        self.release: dict[str, object] | None = None  # of several functions: how it stands
        self.rollout: dict[str, object] | None = None  # that ended so: its id, its outcome, where its reports lie

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n{self.next}" if self.next else head

    def facts(self) -> dict[str, object]:
        """The error as `--json` shows it."""
        more = {"release": self.release, "rollout": self.rollout}
        facts = {name: each for name, each in more.items() if each}
        return {"code": self.code, "where": self.where, "what": self.what, "next": self.next, **facts}


class UsageError(PointsmanError):
    exit_code = 2
    code = "usage"


class ConfigInvalid(UsageError):
    """All problems of a file at once; each is one line: key path, value, what is allowed, the likely typo."""

    code = "config_invalid"

    def __init__(self, file: str, problems: tuple[str, ...]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            "\n".join((f"{count} in {file}:", *(f"  {problem}" for problem in problems))),
            next="`pointsman config explain` describes every key.",
        )
        self.file = file
        self.problems = problems

    def facts(self) -> dict[str, object]:
        return {**super().facts(), "file": self.file, "problems": list(self.problems)}


class NotYet(UsageError):
    code = "not_yet"


class UnknownTarget(UsageError):
    code = "unknown_target"


class BuildIdTaken(UsageError):
    code = "build_id_taken"


class GateRefused(PointsmanError):
    """`reports` are the JUnit files that tell of the failures, where there are any."""

    exit_code = 3
    code = "gate_refused"

    def __init__(self, what: str, *, where: str = "", next: str = "", reports: tuple[str, ...] = ()) -> None:
        super().__init__(what, where=where, next=next)
        self.reports = reports


class LostRace(PointsmanError):
    exit_code = 4
    code = "lost_race"


class StalePlan(LostRace):
    code = "stale_plan"


class StateLocked(LostRace):
    code = "state_locked"


class Drift(LostRace):
    code = "drift"


class AwsError(PointsmanError):
    """AWS's own error code is kept in `aws_code`."""

    code = "aws"

    def __init__(self, what: str, *, where: str = "", next: str = "", aws_code: str = "") -> None:
        super().__init__(what, where=where, next=next)
        self.aws_code = aws_code

    def facts(self) -> dict[str, object]:
        return {**super().facts(), "aws_code": self.aws_code}


class CredentialsRefused(AwsError):
    code = "credentials_refused"


class AccountMismatch(AwsError):
    code = "account_mismatch"


class AccessDenied(AwsError):
    code = "access_denied"


class NotFound(AwsError):
    code = "not_found"


class NotMade(NotFound):
    """What the first deploy makes is not there."""


class Conflict(AwsError):
    code = "conflict"


class PreconditionFailed(AwsError):
    """A revision id was not the present one. `execute` turns it into LostRace once it has looked at what is there."""

    code = "precondition_failed"
    exit_code = 4


class Throttled(AwsError):
    code = "throttled"


class InvalidRequest(AwsError):
    code = "invalid_request"


class Unreachable(AwsError):
    code = "unreachable"


class Ambiguous(AwsError):
    """No answer, or a server error: a mutating call may have taken effect. Read back before anything else."""

    code = "ambiguous"


class FunctionFailed(PointsmanError):
    code = "function_failed"


class TerraformFailed(PointsmanError):
    code = "terraform"


class TimedOut(PointsmanError):
    code = "timed_out"


class BuildFailed(PointsmanError):
    code = "build_failed"


class BackupFailed(PointsmanError):
    code = "backup_failed"


class LedgerError(PointsmanError):
    code = "ledger"


class LedgerCorrupt(LedgerError):
    code = "ledger_corrupt"


class NotRestored(PointsmanError):
    """Which aliases are not where they were, each with its reason."""

    code = "not_restored"


class LocalAwsFailed(PointsmanError):
    code = "local_aws"


class Interrupted(PointsmanError):
    exit_code = 130
    code = "interrupted"
