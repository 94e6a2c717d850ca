"""What an invocation is given must be JSON; what is not, AWS refuses in the words of its own parser."""

from __future__ import annotations

import re

import msgspec

from pointsman.localaws.lambda_.errors import LambdaError

_VALUES = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
_SPACE = b" \t\r\n"
_BEGINNINGS = b'"{[-0123456789'
_WORD = re.compile(rb"[A-Za-z_$][\w$]*")


def check_json(payload: bytes) -> None:
    if not payload:
        return
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise LambdaError(
            "InvalidRequestContentException",
            400,
            f"Could not parse request body into json: Could not parse payload into json: {_no_value(payload) or wrong}",
        ) from wrong


def _no_value(payload: bytes) -> str | None:
    """Jackson's sentence for something that does not even begin as a JSON value (recorded); None: it does."""
    at = len(payload) - len(payload.lstrip(_SPACE))
    first = payload[at : at + 1]
    if not first or first in _BEGINNINGS:
        return None
    word = _WORD.match(payload, at)
    if word is None:
        character = f"(CTRL-CHAR, code {first[0]})" if first[0] < 32 or 127 <= first[0] < 160 else None
        shown = character or f"'{first.decode('latin-1')}' (code {first[0]})"
        return f"Unexpected character ({shown}): expected a valid value {_VALUES}{_place(payload, at)}"
    end = word.end()
    following = payload[end : end + 1]
    if following and (0x80 <= following[0] < 0xC2 or following[0] > 0xF7):
        return f"Invalid UTF-8 start byte 0x{following[0]:02x}{_place(payload, end + 1)}"
    if word[0] in (b"true", b"false", b"null"):
        return None
    return f"Unrecognized token '{word[0].decode()}': was expecting {_VALUES}{_place(payload, end)}"


def _place(payload: bytes, at: int) -> str:
    before = payload[:at]
    line, column = before.count(b"\n") + 1, at - (before.rfind(b"\n") + 1) + 1
    source = "REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled)"
    return f"\n at [Source: {source}; line: {line}, column: {column}]"
