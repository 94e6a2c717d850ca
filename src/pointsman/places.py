"""Where an environment is: its regions in waves, and what of a function is otherwise there. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pointsman.config import CloudFormation, Direct, Environment, Function

REHEARSED = "123456789012"
"""The local AWS's own account, where an environment declares none."""


def waves(environment: Environment) -> tuple[tuple[Environment, ...], ...]:
    """The environment once for each of its regions, in the order they move: all of a wave before the next one.

    One that is in a single region, or was narrowed to one by `in_region`, is one wave of itself.
    """
    if environment.region or not environment.regions:
        return ((environment,),)
    named = environment.waves or tuple((each,) for each in environment.regions)
    return tuple(tuple(in_region(environment, each) for each in wave) for wave in named)


def each(environment: Environment) -> tuple[Environment, ...]:
    """The same in one row."""
    return tuple(place for wave in waves(environment) for place in wave)


def in_region(environment: Environment, region: str) -> Environment:
    """The environment in that region alone; it still knows that there are others."""
    return msgspec.structs.replace(environment, region=region)


def one_of_several(environment: Environment) -> str:
    """The region, where the environment has several and this is one of them; "" else: nobody has to be told which."""
    return (environment.region or "") if environment.regions else ""


def title(function: str, environment: Environment) -> str:
    """A function as it is called beside itself in other regions: "greeting in eu-west-1"; as ever where there are none.

    No function of the file is called so: names have no spaces.
    """
    region = one_of_several(environment)
    return f"{function} in {region}" if region else function


def titled(text: str) -> tuple[str, str]:
    """(function, region) of such a title, the region "" where it has none."""
    function, _, region = text.partition(" in ")
    return function, region


def account(environment: Environment) -> str:
    """As the file tells, "" where it does not."""
    return environment.account or (environment.role_arn.split(":")[4] if environment.role_arn else "")


def filled(text: str, *, region: str, account: str) -> str:
    return text.replace("{region}", region).replace("{account}", account)


def function_at(function: Function, environment: Environment, fill: Callable[[str], str]) -> Function:
    """The function as this environment has it: its own settings over the function's; `fill` puts in the place."""
    here, provision = environment.functions.get(function.name), function.provision
    match provision:
        case Direct():
            layers = tuple(fill(each) for each in provision.layers)
            changes: dict[str, Any] = {"role": fill(provision.role), "layers": layers}
            if here:
                changes |= {key: value for key in ("memory", "timeout") if (value := getattr(here, key)) is not None}
                changes |= {"role": fill(here.role)} if here.role else {}
                if here.environment is not None:
                    changes["environment"] = {**(provision.environment or {}), **here.environment}
            provision = msgspec.structs.replace(provision, **changes)
        case CloudFormation() if here:
            stack = here.stack or provision.stack
            provision = msgspec.structs.replace(
                provision, stack=stack, parameters={**provision.parameters, **here.parameters}
            )
        case _:
            pass
    image = fill(function.image) if function.image else None
    return msgspec.structs.replace(function, provision=provision, image=image)


__all__ = [
    "REHEARSED",
    "account",
    "each",
    "filled",
    "function_at",
    "in_region",
    "one_of_several",
    "title",
    "titled",
    "waves",
]
