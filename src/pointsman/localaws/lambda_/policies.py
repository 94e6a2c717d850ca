"""Resource policies: who else may invoke a function, a version or an alias. Each of them has a policy of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from pointsman.localaws.lambda_.address import LATEST, Address, partition_of
from pointsman.localaws.lambda_.errors import (
    LambdaError,
    alias_not_found,
    conflict,
    invalid,
    stale_policy,
)
from pointsman.localaws.lambda_.store import Store, new_revision
from pointsman.localaws.lambda_.wire import Json

MOST_POLICY = 20_480

_SERVICE = re.compile(r"[a-z0-9.-]+\.amazon(?:aws)?\.com(?:\.cn)?")
_ENTITY = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::(?:\d{12}|cloudfront):\S+")


class Policies(Store):
    def add_permission(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("AddPermission", account, region, parameters)
        if here.qualifier == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        statement = _statement(here, parameters)
        with self._writing():
            function = self._function(here, here.qualifier)
            self._qualified_exists(function, here)
            found = self._policy(function, here)
            statements = [] if found is None else found[1]
            self._expect_policy(function, here, parameters)
            if any(each["Sid"] == statement["Sid"] for each in statements):
                raise conflict(
                    f"The statement id ({statement['Sid']}) provided already exists. "
                    "Please provide a new statement id, or remove the existing statement."
                )
            self._put_policy(function, here, [*statements, statement])
        return {"Statement": _text(statement)}

    def remove_permission(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("RemovePermission", account, region, parameters)
        with self._writing():
            function = self._find(here)
            if function is None:
                raise _missing(f"No policy found for: {here.qualified(here.qualifier)}")
            self._qualified_exists(function, here)
            found = self._policy(function, here)
            if found is None:
                raise _missing("No policy is associated with the given resource.")
            kept = [each for each in found[1] if each["Sid"] != parameters["StatementId"]]
            if len(kept) == len(found[1]):
                raise _missing(f"Statement {parameters['StatementId']} is not found in resource policy.")
            self._expect_policy(function, here, parameters)
            self._put_policy(function, here, kept)
        return {}

    def get_policy(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("GetPolicy", account, region, parameters)
        with self._lock:
            function = self._find(here)
            found = None if function is None else self._policy(function, here)
        if found is None:
            raise _missing("The resource you requested does not exist.")
        return {"Policy": _text(_document(found[1])), "RevisionId": found[0]}

    def _allows(self, account: str, here: Address, action: str) -> bool:
        """By a statement without conditions: none of what they compare is known of a caller here."""
        with self._lock:
            function = self._find(here)
            found = None if function is None else self._policy(function, here)
        theirs = {"AWS": f"arn:{partition_of(here.region)}:iam::{account}:root"}
        return found is not None and any(
            statement["Principal"] in ("*", theirs)
            and fnmatchcase(f"lambda:{action}", statement["Action"])
            and "Condition" not in statement
            for statement in found[1]
        )

    def _qualified_exists(self, function: int, here: Address) -> None:
        if here.qualifier is None or here.qualifier == LATEST:
            return
        if here.qualifier.isdecimal() or "$" in here.qualifier:
            self._existing(here, here.qualifier)
        elif self._alias(function, here.qualifier) is None:
            raise alias_not_found(here.qualified(here.qualifier), "Cannot find alias arn")

    def _policy(self, function: int, here: Address) -> tuple[str, list[Json]] | None:
        """(revision, statements)"""
        found = self._db.execute(
            "SELECT revision, statements FROM policy WHERE function = ? AND qualifier = ?",
            (function, here.qualifier or ""),
        ).fetchone()
        return None if found is None else (found[0], msgspec.json.decode(found[1]))

    def _expect_policy(self, function: int, here: Address, given: Json) -> None:
        """The policy's own RevisionId or, while there is none, that of the function, version or alias (recorded)."""
        if given.get("RevisionId") is None:
            return
        found = self._policy(function, here)
        if found is not None:
            current = found[0]
        elif here.qualifier is not None and (alias := self._alias(function, here.qualifier)) is not None:
            current = alias.revision
        else:
            current = self._reached(here).current_revision(self._now())
        if given["RevisionId"] != current:
            raise stale_policy()

    def _put_policy(self, function: int, here: Address, statements: list[Json]) -> None:
        """What carries the policy takes its new RevisionId (recorded of functions); an emptied policy is gone."""
        revision = new_revision()
        if not statements:
            self._db.execute(
                "DELETE FROM policy WHERE function = ? AND qualifier = ?", (function, here.qualifier or "")
            )
        else:
            size = len(_text(_document(statements)))
            if size > MOST_POLICY:
                raise LambdaError(
                    "PolicyLengthExceededException",
                    400,
                    f"The final policy size ({size}) is bigger than the limit ({MOST_POLICY}).",
                )
            self._db.execute(
                "REPLACE INTO policy (function, qualifier, revision, statements) VALUES (?, ?, ?, ?)",
                (function, here.qualifier or "", revision, msgspec.json.encode(statements)),
            )
        if here.qualifier is not None and self._alias(function, here.qualifier) is not None:
            self._db.execute(
                "UPDATE alias SET revision = ? WHERE function = ? AND name = ?", (revision, function, here.qualifier)
            )
            return
        version = self._reached(here)
        # Only $LATEST changes its RevisionId once more when it settles.
        late = revision if version.number or version.settled(self._now()) else new_revision()
        self._put(replace(version, revision=revision, settled_revision=late))


def _statement(here: Address, given: Json) -> Json:
    url = given["Action"] == "lambda:InvokeFunctionUrl"
    if "FunctionUrlAuthType" in given and not url:
        raise invalid("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
    statement: Json = {
        "Sid": given["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(here, given["Principal"]),
        "Action": given["Action"],
        "Resource": here.qualified(here.qualifier),
    }
    equal = {
        key: given[name]
        for name, key in (
            ("SourceAccount", "AWS:SourceAccount"),
            ("EventSourceToken", "lambda:EventSourceToken"),
            ("FunctionUrlAuthType", "lambda:FunctionUrlAuthType"),
            ("PrincipalOrgID", "aws:PrincipalOrgID"),
        )
        if name in given
    }
    condition: Json = {"StringEquals": equal} if equal else {}
    if "SourceArn" in given:
        condition["ArnLike"] = {"AWS:SourceArn": given["SourceArn"]}
    if "InvokedViaFunctionUrl" in given:
        condition["Bool"] = {"lambda:InvokedViaFunctionUrl": str(given["InvokedViaFunctionUrl"]).lower()}
    return statement | ({"Condition": condition} if condition else {})


def _principal(here: Address, principal: str) -> Any:
    if principal == "*":
        return "*"
    if re.fullmatch(r"\d{12}", principal):
        return {"AWS": f"arn:{partition_of(here.region)}:iam::{principal}:root"}
    if _ENTITY.fullmatch(principal):
        return {"AWS": principal}
    if _SERVICE.fullmatch(principal):
        return {"Service": principal}
    raise invalid("The provided principal was invalid. Please check the principal and try again.")


def allows(statements: list[Json], action: str, account: str | None, facts: Mapping[str, str]) -> bool:
    """Whether a policy grants `action` to `account` (None: to anybody) when `facts` are what conditions ask about.

    A caller is known by its account only, so what is granted to a user or role is granted to all of its account.
    """
    return any(
        statement["Action"] in (action, "lambda:*", "*")
        and _is(statement["Principal"], account)
        and all(
            facts.get(key) == value for tests in statement.get("Condition", {}).values() for key, value in tests.items()
        )
        for statement in statements
    )


def _is(principal: Any, account: str | None) -> bool:
    return principal == "*" or (account is not None and f"::{account}:" in principal.get("AWS", ""))


def _document(statements: list[Json]) -> Json:
    return {"Version": "2012-10-17", "Id": "default", "Statement": statements}


def _text(document: Json) -> str:
    return msgspec.json.encode(document).decode()


def _missing(sentence: str) -> LambdaError:
    return LambdaError("ResourceNotFoundException", 404, sentence)
