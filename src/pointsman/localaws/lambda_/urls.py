"""Function URLs: which function or alias has one, how it is asked, and who may ask it."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

import msgspec

from pointsman.localaws.lambda_.address import Address
from pointsman.localaws.lambda_.errors import LambdaError, conflict
from pointsman.localaws.lambda_.policies import allows
from pointsman.localaws.lambda_.store import Store, after_marker, marker, page_size
from pointsman.localaws.lambda_.wire import Json

UrlOf: TypeAlias = Callable[[str, str], str]
"""(url_id, region) → the FunctionUrl of replies, ending in a slash."""

_ID: Final = string.ascii_lowercase + string.digits
_GIVEN = ("AuthType", "Cors", "InvokeMode")
# AWS asks for the second, too, of accounts without URLs from before October 2025; recorded is the first alone. What the
# first lets in is let in here, and told that some accounts would refuse it.
_ASKED: Final = "lambda:InvokeFunctionUrl"
_ASKED_OF_MOST: Final = "lambda:InvokeFunction"


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    id: str
    address: Address  # with the alias as qualifier, or none
    auth: Literal["NONE", "AWS_IAM"]
    cors: Json
    streams: bool
    policy: list[Json]  # its statements

    def refuses(self, caller: str | None) -> str | None:
        """Why `caller` (an account; None: nobody known) may not ask; AWS does not say it.

        IAM's own policies are not evaluated here: whoever is of the function's account may ask what AWS_IAM guards.
        """
        if self.auth == "AWS_IAM" and caller is None:
            return "AuthType is AWS_IAM, and the request is not signed for the service lambda"
        return self._lacks(_ASKED, caller)

    def warns(self, caller: str | None) -> str | None:
        """Why most accounts on AWS would refuse a caller that is let in here."""
        lacks = self._lacks(_ASKED_OF_MOST, caller)
        return f"AWS lets in accounts with URLs from before October 2025 only: {lacks}" if lacks else None

    def _lacks(self, action: str, caller: str | None) -> str | None:
        if self.auth == "NONE":
            caller = None
        elif caller == self.address.account:
            return None
        facts = {"lambda:FunctionUrlAuthType": self.auth, "lambda:InvokedViaFunctionUrl": "true"}
        allowed = allows(self.policy, action, caller, facts)
        return None if allowed else f"its policy does not grant {caller or '*'} {action}"


class Urls(Store):
    _url_of: UrlOf

    def create_function_url_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("CreateFunctionUrlConfig", account, region, parameters)
        with self._writing():
            function = self._url_carrier(here)
            if self._url(function, here) is not None:
                raise conflict(
                    f"Failed to create function url config for [functionArn = {here.qualified(here.qualifier)}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function"
                )
            now = self._moment()
            settings = {"CreationTime": now, "LastModifiedTime": now} | _given(parameters)
            url_id = "".join(secrets.choice(_ID) for _ in range(32))
            self._db.execute(
                "INSERT INTO url (id, function, qualifier, settings) VALUES (?, ?, ?, ?)",
                (url_id, function, here.qualifier or "", msgspec.json.encode(settings)),
            )
        shown = self._shown_url(here, url_id, settings)
        del shown["LastModifiedTime"]
        return shown

    def get_function_url_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("GetFunctionUrlConfig", account, region, parameters)
        with self._lock:
            found = self._url(self._find(here), here)
        if found is None:
            raise _missing("The resource you requested does not exist.")
        return {"InvokeMode": "BUFFERED"} | self._shown_url(here, *found)

    def update_function_url_config(self, account: str, region: str, parameters: Json) -> Json:
        """What is not given stays. The reply says the InvokeMode only if it was ever given (recorded)."""
        here = self._called("UpdateFunctionUrlConfig", account, region, parameters)
        with self._writing():
            found = self._url(self._url_carrier(here), here)
            if found is None:
                raise _missing("The resource you requested does not exist.")
            url_id, settings = found
            settings |= _given(parameters) | {"LastModifiedTime": self._moment()}
            self._db.execute("UPDATE url SET settings = ? WHERE id = ?", (msgspec.json.encode(settings), url_id))
        return self._shown_url(here, url_id, settings)

    def delete_function_url_config(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("DeleteFunctionUrlConfig", account, region, parameters)
        with self._writing():
            deleted = self._db.execute(
                "DELETE FROM url WHERE function = ? AND qualifier = ?", (self._find(here), here.qualifier or "")
            )
            if deleted.rowcount == 0:
                raise _missing("The resource you requested does not exist.")
        return {}

    def list_function_url_configs(self, account: str, region: str, parameters: Json) -> Json:
        here = self._called("ListFunctionUrlConfigs", account, region, parameters)
        size = page_size(parameters)
        (after,) = after_marker(parameters, "")
        with self._lock:
            function = self._find(here)
            if function is None:
                raise _missing("Function does not exist")
            rows = self._db.execute(
                "SELECT id, qualifier, settings FROM url WHERE function = ? AND id > ? ORDER BY id LIMIT ?",
                (function, after, size + 1),
            ).fetchall()
        reply: Json = {
            "FunctionUrlConfigs": [
                {"InvokeMode": "BUFFERED"}
                | self._shown_url(replace(here, qualifier=qualifier or None), url_id, msgspec.json.decode(settings))
                for url_id, qualifier, settings in rows[:size]
            ]
        }
        if len(rows) > size:
            reply["NextMarker"] = marker(rows[size - 1][0])
        return reply

    def function_url(self, url_id: str) -> FunctionUrl | None:
        with self._lock:
            row = self._db.execute(
                "SELECT account, region, name, url.qualifier, settings, statements FROM url"
                " JOIN function ON function.id = url.function"
                " LEFT JOIN policy ON policy.function = url.function AND policy.qualifier = url.qualifier"
                " WHERE url.id = ?",
                (url_id,),
            ).fetchone()
        if row is None:
            return None
        account, region, name, qualifier, text, statements = row
        settings = msgspec.json.decode(text)
        return FunctionUrl(
            url_id,
            Address(account, region, name, qualifier or None),
            settings["AuthType"],
            settings.get("Cors", {}),
            settings.get("InvokeMode") == "RESPONSE_STREAM",
            [] if statements is None else msgspec.json.decode(statements),
        )

    # --- rows ---

    def _url_carrier(self, here: Address) -> int:
        function = self._find(here)
        if function is None or (here.qualifier is not None and self._alias(function, here.qualifier) is None):
            raise _missing("Function does not exist")
        return function

    def _url(self, function: int | None, here: Address) -> tuple[str, Json] | None:
        """(url_id, settings)"""
        row = self._db.execute(
            "SELECT id, settings FROM url WHERE function = ? AND qualifier = ?", (function, here.qualifier or "")
        ).fetchone()
        return None if row is None else (row[0], msgspec.json.decode(row[1]))

    def _shown_url(self, here: Address, url_id: str, settings: Json) -> Json:
        shown = {
            "FunctionUrl": self._url_of(url_id, here.region),
            "FunctionArn": here.qualified(here.qualifier),
        } | settings
        if not settings.get("Cors"):
            shown.pop("Cors", None)
        return shown

    def _moment(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _given(parameters: Json) -> Json:
    return {key: parameters[key] for key in _GIVEN if key in parameters}


def _missing(sentence: str) -> LambdaError:
    return LambdaError("ResourceNotFoundException", 404, sentence)
