"""How Lambda refuses: the codes, HTTP statuses and sentences recorded on AWS.

LambdaError       what AWS would answer
├── Denied        what another account has, told to whoever calls
├── NotReady      ... for now: the version is still being created, and `seconds` says for how long
└── Throttled     ... for now: as many invocations run as were reserved
    └── RateExceeded  ... or more calls of the control plane came than AWS takes
ObjectMissing     raised by a `read_object` callable: S3's own code and message
NetworkMissing    raised by a `find_network` callable: EC2's
"""

from __future__ import annotations


class LambdaError(Exception):
    """One refusal: AWS's `code`, the HTTP `status`, the sentence (None: AWS sends none), and whose fault it is ("User",
    "Service", or "" where AWS sends no Type)."""

    def __init__(self, code: str, status: int, message: str | None, type: str = "User") -> None:
        super().__init__(f"{code} ({status}): {message}")
        self.code = code
        self.status = status
        self.message = message
        self.type = type


class NotReady(LambdaError):
    def __init__(self, seconds: float) -> None:
        super().__init__(
            "ResourceConflictException",
            409,
            "The operation cannot be performed at this time. The function is currently in the following state: Pending",
        )
        self.seconds = seconds


class Denied(LambdaError):
    def __init__(self, caller: str, may_not: str | None) -> None:
        """`caller`: the ARN of the calling account's root. `may_not`: what follows it; None: AWS does not say."""
        super().__init__("AccessDeniedException", 403, None if may_not is None else f"User: {caller} {may_not}", "")
        self._may_not = may_not

    def of(self, caller: str) -> Denied:
        """The same as `caller` is told."""
        return Denied(caller, self._may_not)


class Throttled(LambdaError):
    reason = "ReservedFunctionConcurrentInvocationLimitExceeded"

    def __init__(self, message: str = "Rate Exceeded.", *, for_good: bool = False) -> None:
        super().__init__("TooManyRequestsException", 429, message)
        self.for_good = for_good  # nothing is reserved, so waiting does not help


class RateExceeded(Throttled):
    reason = "CallerRateLimitExceeded"

    def __init__(self) -> None:
        super().__init__("Rate exceeded")


class ObjectMissing(Exception):
    """S3 has no such bucket, key or version. `code` and `message` are S3's, e.g. "NoSuchKey"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class NetworkMissing(Exception):
    """EC2 has no such subnet or security group. `call` is the EC2 operation; `code` and `message` are EC2's."""

    def __init__(self, call: str, code: str, message: str) -> None:
        super().__init__(f"{call}: {code}: {message}")
        self.call = call
        self.code = code
        self.message = message


def function_not_found(arn: str) -> LambdaError:
    return LambdaError("ResourceNotFoundException", 404, f"Function not found: {arn}")


def alias_not_found(arn: str, sentence: str) -> LambdaError:
    """GetAlias and UpdateAlias word the same fact differently."""
    return LambdaError("ResourceNotFoundException", 404, f"{sentence}: {arn}")


def invalid(message: str, type: str = "User") -> LambdaError:
    return LambdaError("InvalidParameterValueException", 400, message, type)


def conflict(message: str) -> LambdaError:
    return LambdaError("ResourceConflictException", 409, message)


def update_in_progress(arn: str) -> LambdaError:
    return conflict(f"The operation cannot be performed at this time. An update is in progress for resource: {arn}")


def in_state(state: str) -> LambdaError:
    return conflict(
        f"The operation cannot be performed at this time. The function is currently in the following state: {state}"
    )


def stale_revision() -> LambdaError:
    return LambdaError(
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    )


def stale_policy() -> LambdaError:
    return LambdaError(
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetPolicy API to retrieve the latest Revision Id",
    )


def stale_layer_policy() -> LambdaError:
    return LambdaError(
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetLayerPolicy API to retrieve the latest Revision Id",
    )


def storage_exceeded() -> LambdaError:
    return LambdaError("CodeStorageExceededException", 400, "Code storage limit exceeded.")


def too_large(message: str) -> LambdaError:
    return LambdaError("RequestEntityTooLargeException", 413, message, type="")


def validation(problems: list[str]) -> LambdaError:
    """AWS counts the problems and lists them all at once."""
    count = "1 validation error" if len(problems) == 1 else f"{len(problems)} validation errors"
    return LambdaError("ValidationException", 400, f"{count} detected: {'; '.join(problems)}", type="")


def not_built(what: str) -> LambdaError:
    return LambdaError("NotImplementedException", 501, f"The local Lambda does not offer {what} yet.", type="Service")
