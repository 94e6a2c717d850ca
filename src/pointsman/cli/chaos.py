"""`pointsman local chaos`: the rules the options spell, and the rules in force as lines."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pointsman.cli.parser import shown_duration
from pointsman.errors import LocalAwsFailed, UsageError
from pointsman.localaws import control
from pointsman.model import counted

if TYPE_CHECKING:
    from pointsman.cli.terminal import Screen


def run(screen: Screen, asked: argparse.Namespace, running: control.Running, region: str) -> None:
    rules = _rules(asked)
    try:
        if asked.off:
            control.chaos(running, "DELETE")
        paces = {name: value for name in ("clock", "metrics_late") if (value := getattr(asked, name)) is not None}
        if rules or paces:
            control.chaos(running, "POST", rules=rules, **paces)
        if asked.code_quota is not None:
            control.chaos(
                running, "POST", "/code-quota", account=control.ACCOUNT, region=region, bytes=asked.code_quota
            )
        if asked.release:
            control.chaos(running, "POST", "/release")
        found = control.chaos(running)
    except control.LocalAwsError as error:
        raise LocalAwsFailed(str(error), where="chaos", next="Try `pointsman local chaos --help`.") from error
    if not screen.json:
        for line in lines(found) or ["No trouble: every call is answered at once."]:
            screen.print(line)
    screen.result(found)


def _rules(asked: argparse.Namespace) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    if asked.latency is not None:
        rules.append({"kind": "latency", "least_s": asked.latency[0], "most_s": asked.latency[1]})
    if asked.throttle is not None:
        rules.append({"kind": "throttle", "per_second": asked.throttle})
    for status, after in ((asked.error, False), (asked.error_after, True)):
        if status is not None:
            rules.append({"kind": "error", "status": status, "after": after})
    rules += [
        {"kind": "drop", "after": after} for after in (False, True) if (asked.drop_after if after else asked.drop)
    ]
    if asked.stuck is not None:
        rules.append({"kind": "stuck", "seconds": asked.stuck or None})
    if asked.fail is not None:
        rules.append({"kind": "fail"} | ({"reason": asked.fail} if asked.fail else {}))
    limits = {name: getattr(asked, name) for name in ("only", "probability", "times", "seed")}
    limits = {name: value for name, value in limits.items() if value is not None}
    if limits and not rules:
        raise UsageError(
            f"--{next(iter(limits))} limits a trouble, and none is named",
            next="Name one: pointsman local chaos --drop --times 3",
        )
    return [rule | limits for rule in rules]


def lines(found: Mapping[str, Any]) -> list[str]:
    """What is in force, one trouble a line; nothing when there is none."""
    said = [_line(rule) for rule in found["rules"]]
    if found["clock"] != 1:
        said.append(f"waits pass {found['clock']:g} times as fast as on AWS")
    if found["metrics_late"]:
        said.append(f"metrics come {shown_duration(found['metrics_late'])} late")
    said += [
        f"at most {each['bytes']:,} bytes of code in account {each['account']}, {each['region']}"
        for each in found["code_quotas"]
    ]
    said += [f"under way: {arn}" for arn in found["under_way"]]
    return said


def _line(rule: Mapping[str, Any]) -> str:
    after = ", after the effect" if rule.get("after") else ""
    match rule["kind"]:
        case "latency":
            least, most = shown_duration(rule["least_s"]), shown_duration(rule["most_s"])
            what = f"latency of {least}" if least == most else f"latency of {least} to {most}"
        case "throttle":
            what = f"throttle at {rule['per_second']:g} calls a second"
        case "error":
            what = f"error {rule['status']}{after}"
        case "drop":
            what = f"connection closed without an answer{after}"
        case "stuck":
            held = "until released" if rule["seconds"] is None else f"for {shown_duration(rule['seconds'])}"
            what = f"updates stuck {held}"
        case _:
            what = f"updates fail: {rule['reason']}"
    where = ", ".join(rule["only"]) or ("Lambda's control plane" if rule["kind"] == "throttle" else "")
    limits = [
        f"on {where}" if where else "",
        f"with probability {rule['probability']:g}" if rule["probability"] != 1 else "",
        f"at most {counted(rule['times'], 'time')}" if rule["times"] is not None else "",
        f"seed {rule['seed']}" if rule["seed"] is not None else "",
    ]
    return ", ".join([what, *filter(None, limits)]) + f" (struck {counted(rule['hits'], 'time')})"
