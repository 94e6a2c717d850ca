"""What an account holds in one region: every function with its versions and aliases. Values; `inventory` reads them."""

from __future__ import annotations

from pointsman.model import Alias, Configuration, FunctionArn, FunctionName, Value


class Member(Value, frozen=True, kw_only=True):
    """One function. `versions` are the published ones, oldest first; `latest` is `$LATEST`.

    As ListFunctions tells them: it says nothing of `state` and `update`, and those of a member are the defaults.
    https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html
    """

    latest: Configuration
    versions: tuple[Configuration, ...] = ()
    aliases: tuple[Alias, ...] = ()

    @property
    def arn(self) -> FunctionArn:
        return self.latest.arn.unqualified

    @property
    def name(self) -> FunctionName:
        return self.arn.name


class Fleet(Value, frozen=True, kw_only=True):
    """`at`: when it was read, in epoch seconds. `members` by name."""

    account: str
    region: str
    at: float
    members: tuple[Member, ...] = ()


__all__ = ["Fleet", "Member"]
