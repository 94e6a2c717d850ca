"""Secrets in the user's own files, by their content. Only what can hardly be anything else is taken for one.

Each file is read once: what an earlier build has looked at and is unchanged is known to be clean.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pointsman.artifact import notes
from pointsman.artifact.archive import Member, Seen
from pointsman.artifact.source import PRIVATE_KEY, named, secret_by_name
from pointsman.errors import BuildFailed

LARGEST = 256 << 10  # bytes; a longer text is data
# The same words may stand in documentation: EXAMPLE in a key of AWS's, and too few letters after a prefix.
_BEGINNINGS = re.compile(
    rb"PRIVATE KEY-----|AKIA|ASIA|_authToken|npm_|gh[pousr]_|github_pat_|glpat-|sk_live_|xox[abprs]-|SG\."
)
_KINDS = {
    "a private key": PRIVATE_KEY,
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
        try:
            text = Path(member.path).read_bytes()
        except OSError:  # packing says so
            continue
        if (what := _secret(text)) and not named(include, member.name):
            found.append((member.name, f"holds {what}"))
    _refuse(found, "Leave them out (exclude = [{}])")


def refuse_in_zip(path: Path, include: Sequence[str]) -> None:
    """The same of a ready zip, which nothing can be left out of; there, files that are secrets by name count, too."""
    import zipfile

    found = []
    with zipfile.ZipFile(path) as zipped:
        infos = notes.members(zipped)
        records = {info.filename: zipped.read(info) for info in infos if info.filename.endswith(RECORD)}
        foreign = brought((info.filename for info in infos), records)
        for info in infos:
            if info.filename in foreign or named(include, info.filename):
                continue
            if rule := secret_by_name(info.filename):
                found.append((info.filename, f"is a secret by its name ({rule})"))
            elif 20 <= info.file_size <= LARGEST and (what := _secret(zipped.read(info))):
                found.append((info.filename, f"holds {what}"))
    _refuse(found, f"Make {path.name} without them")


RECORD = ".dist-info/RECORD"


def brought(names: Iterable[str], records: Mapping[str, bytes]) -> set[str]:
    """Of what somebody else installed those files that packages brought: node_modules, and what `records` list.

    records: by name the content of the RECORD files that installers leave beside each Python package.
    """
    listed = {
        f"{record.removesuffix(RECORD).rpartition('/')[0]}/{row.rsplit(',', 2)[0]}".removeprefix("/")
        for record, text in records.items()
        for row in text.decode(errors="replace").splitlines()
    }
    return {name for name in names if name in listed or "node_modules" in name.split("/") or "vendor/bundle/" in name}


def _refuse(found: Sequence[tuple[str, str]], how: str) -> None:
    if found:
        first = sorted(found)[0][0]
        raise BuildFailed(
            f"secrets would be packaged: {', '.join(f'{name} {what}' for name, what in sorted(found))}",
            next=how.format(f'"{first}"') + f', or name them (include = ["**", "{first}"]).'
            " At run time, secrets come from Secrets Manager or SSM.",
        )


def _secret(text: bytes) -> str | None:
    if not _BEGINNINGS.search(text):
        return None
    for what, pattern in _KINDS.items():
        if any(len({*each[0][-20:]}) > 2 for each in re.finditer(pattern, text)):  # not XXXX, which stands for one
            return what
    ids = [each for each in _KEY_ID.findall(text) if b"EXAMPLE" not in each]
    if ids and any(b"EXAMPLE" not in each and _mixed(each) for each in _SECRET.findall(text)):
        return "an access key of AWS's"
    return None


def _mixed(text: bytes) -> bool:
    """Whether it has small and capital letters and digits: a path or a digest has not."""
    return all(re.search(each, text) for each in (rb"[a-z]", rb"[A-Z]", rb"[0-9]"))
