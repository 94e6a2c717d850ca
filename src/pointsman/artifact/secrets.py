"""Secrets in the user's own files, by their content. Only what can hardly be anything else is taken for one.

Each file is read once: what an earlier build has looked at and is unchanged is known to be clean.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pointsman.artifact.archive import Member, Seen
from pointsman.artifact.source import named
from pointsman.errors import BuildFailed

LARGEST = 256 << 10  # bytes; a longer text is data
# The same words may stand in documentation: EXAMPLE in a key of AWS's, and too few letters after a prefix.
_BEGINNINGS = re.compile(
    rb"PRIVATE KEY-----|AKIA|ASIA|_authToken|npm_|gh[pousr]_|github_pat_|glpat-|sk_live_|xox[abprs]-|SG\."
)
_KINDS = {
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\s|\\[nr]|[A-Za-z0-9+/=]){64}",
    "an npm token": rb"\bnpm_[A-Za-z0-9]{36}\b|_authToken\s*=\s*[A-Za-z0-9][A-Za-z0-9_=-]{19,}",
    "a GitHub token": rb"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b",
    "a GitLab token": rb"\bglpat-[A-Za-z0-9_-]{20}\b",
    "a key of Stripe's": rb"\bsk_live_[A-Za-z0-9]{24,}\b",
    "a Slack token": rb"\bxox[abprs]-[0-9]{10,}-[A-Za-z0-9-]{20,}",
    "a key of SendGrid's": rb"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b",
}
_KEY_ID = re.compile(rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
_SECRET = re.compile(rb"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")


def refuse(members: Iterable[Member], include: Sequence[str], clean: Collection[tuple[str, Seen | None]]) -> None:
    """Raise BuildFailed that names the files with secrets in them, but for those that `include` names.

    clean: names, with what was seen of them, of the files that need not be read again.
    """
    found = []
    for member in members:
        seen = member.seen
        if member.link is not None or seen is None or not 20 <= seen[0] <= LARGEST or (member.name, seen) in clean:
            continue
        if (what := _secret(member)) and not named(include, member.name):
            found.append((member.name, what))
    if found:
        first = sorted(found)[0][0]
        raise BuildFailed(
            f"secrets would be packaged: {', '.join(f'{name} holds {what}' for name, what in sorted(found))}",
            next=f'Leave them out (exclude = ["{first}"]), or name them (include = ["**", "{first}"]).'
            " At run time, secrets come from Secrets Manager or SSM.",
        )


def _secret(member: Member) -> str | None:
    try:
        text = Path(member.path).read_bytes()
    except OSError:  # packing says so
        return None
    if not _BEGINNINGS.search(text):
        return None
    for what, pattern in _KINDS.items():
        if re.search(pattern, text):
            return what
    ids = [each for each in _KEY_ID.findall(text) if b"EXAMPLE" not in each]
    if ids and any(b"EXAMPLE" not in each and _mixed(each) for each in _SECRET.findall(text)):
        return "an access key of AWS's"
    return None


def _mixed(text: bytes) -> bool:
    """Whether it has small and capital letters and digits: a path or a digest has not."""
    return all(re.search(each, text) for each in (rb"[a-z]", rb"[A-Z]", rb"[0-9]"))
