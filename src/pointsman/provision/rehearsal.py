"""What a rehearsal lacks and AWS has: the execution role, and the function that somebody else made.

Only for `--local`, where the account is empty at first: a stand-in, said aloud, so that the release is rehearsed.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

from pointsman.aws.gateway import Gateway, Package
from pointsman.aws.transports import Clock
from pointsman.config import Function
from pointsman.errors import Conflict, UsageError
from pointsman.model import Configuration, FunctionName

_SOURCE = {
    "python": (".py", "def {name}(event, context):\n    return event\n"),
    "nodejs": (".js", "exports.{name} = async (event) => event;\n"),
}


def role(gateway: Gateway, arn: str, say: Callable[[str], None]) -> None:
    """The role, if the local AWS does not have it yet."""
    try:
        gateway.create_role(arn.rpartition("/")[2])
    except Conflict:
        return
    say(f"rehearsal: made the role {arn} on the local AWS, where it was missing")


def stand_in(
    gateway: Gateway, function: Function, *, name: FunctionName, account: str, say: Callable[[str], None], clock: Clock
) -> Configuration:
    """A function that echoes, under the name of one that exists on AWS."""
    family = next((each for each in _SOURCE if (function.runtime or "").startswith(each)), None)
    if family is None or function.handler is None:
        raise UsageError(
            f"there is no function {name} on the local AWS",
            next="Give `runtime` and `handler` in pointsman.toml, and a rehearsal makes a stand-in for it.",
        )
    arn = f"arn:aws:iam::{account}:role/{name}-rehearsal"
    role(gateway, arn, say)
    suffix, source = _SOURCE[family]
    path, _, called = function.handler.rpartition(".")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{path}{suffix}", source.format(name=called))
    settings: dict[str, Any] = {"Role": arn, "Handler": function.handler, "Runtime": function.runtime}
    settings["Architectures"] = [function.architecture]
    made = gateway.create_function(name, settings, Package(zip=packed.getvalue()))
    say(f"rehearsal: made a stand-in for {name} on the local AWS, where it was missing")
    while made.state == "Pending":
        clock.sleep(0.1)
        made = gateway.function(name) or made
    return made
