"""`pointsman ci SYSTEM` writes a pipeline; `pointsman ci comment` prints what a deploy came to, for a pull request."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import msgspec

from pointsman import __version__, config, pipelines
from pointsman.cli import reports
from pointsman.config import CloudFormation, Project, Terraform
from pointsman.errors import UsageError
from pointsman.provision import terraform_module
from pointsman.world import git, no_environment

if TYPE_CHECKING:
    from pointsman.cli.commands import Typed


def run(typed: Typed) -> int:
    return _comment(typed) if typed.asked.system == "comment" else _write(typed)


def _write(typed: Typed) -> int:
    asked, screen = typed.asked, typed.screen
    project = config.load(typed.file())
    if not project.environments:
        raise no_environment()
    top = Path(git(project.root, "rev-parse", "--show-toplevel") or project.root)
    seen, notes = _look(project, top, install=asked.install, main=asked.main)
    path = Path(asked.out) if asked.out else _place(asked.system, top, seen)
    if beside := _beside(asked.system, top, path):
        seen = msgspec.structs.replace(seen, beside=beside)
    text = pipelines.pipeline(asked.system, project, seen)
    if asked.out == "-":
        if not screen.json:
            screen.print(text.rstrip("\n"))
        screen.result({"system": asked.system, "file": None, "changed": True, "text": text, "notes": notes})
        return 0
    before = path.read_text(encoding="utf-8") if path.exists() else None
    if before is not None and before != text and not screen.json:
        screen.print(_difference(path, before, text))
    whose = pipelines.folder_of(before or "")
    if whose not in (None, seen.folder) and not asked.force:
        beside = pipelines.ONE_FILE.get(asked.system, "`--out FILE` writes beside it.")
        raise UsageError(
            f"{path} is the pipeline of another project, {whose}pointsman.toml",
            where=f"ci {asked.system}",
            next=f"Nothing was written. One pointsman.toml with the functions of both has one pipeline. {beside} "
            "`--force` overwrites it.",
        )
    if before not in (None, text) and not pipelines.untouched(before or "") and not asked.force:
        raise UsageError(
            f"{path} was edited, or written by somebody else",
            where=f"ci {asked.system}",
            next="Nothing was written. `--force` overwrites it; `--out FILE` writes beside it.",
        )
    if before != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if not screen.json:
        screen.print(f"wrote {path}" if before != text else f"{path} is as it should be")
        for note in notes:
            screen.print(f"  {note}")
        screen.print("Its first lines say what has to be set up once.")
    screen.result({"system": asked.system, "file": str(path), "changed": before != text, "text": text, "notes": notes})
    return 0


def _place(system: pipelines.System, top: Path, seen: pipelines.Seen) -> Path:
    """GitHub reads all files of its folder, so a second project gets one of its own. The others read one."""
    first = top / pipelines.PLACES[system]
    if system != "github":
        return first
    own = first.with_name(f"pointsman-{seen.slug or 'root'}.yml")
    other = first.exists() and pipelines.folder_of(first.read_text(encoding="utf-8")) not in (None, seen.folder)
    return own if own.exists() or other else first


def _beside(system: pipelines.System, top: Path, path: Path) -> str:
    """The workflow's place in the repository, where it is one beside others, by our choice or by `--out`."""
    first, whole = (top / pipelines.PLACES["github"]).resolve(), Path(path).resolve()
    if system != "github" or whole == first or whole.parent != first.parent:
        return ""
    return whole.relative_to(top.resolve()).as_posix()


def _difference(path: Path, before: str, after: str) -> str:
    import difflib

    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), "as it would be", lineterm="")
    return "\n".join(lines)


def _look(project: Project, top: Path, *, install: str | None, main: str | None) -> tuple[pipelines.Seen, list[str]]:
    """What the file alone does not tell, and what to tell of it."""
    root = project.root.resolve()
    folder = _folder(root, top)
    notes: list[str] = []
    if install is None:
        install = _vendored(top) or _installed_from()
    if install is None:
        install = f"pointsman=={__version__}"
        notes.append(f"It installs {install}: say where Pointsman comes from with --install URL|WHEEL.")
    modules = {each.provision.directory for each in project.functions.values() if isinstance(each.provision, Terraform)}
    notes += [
        f"Terraform in {each} keeps its state in a file here, which CI machines do not have: give it a backend."
        for each in sorted(modules)
        if not terraform_module.shares_its_state(root / each)
    ]
    prepare: list[str] = []
    locks: list[str] = []
    for function in project.functions.values():
        source = (root / function.source).resolve()
        if not (function.test.unit or function.test.integration) or not source.is_relative_to(top.resolve()):
            continue
        at = source.relative_to(top.resolve()).as_posix()
        place = "" if at == "." else f"{at}/"
        for name, line in (
            ("package-lock.json", "npm ci"),
            *((f, f"pip install --quiet -r {quote(place + f)}") for f in _NEEDS),
        ):
            if (source / name).exists():
                locks.append(f"{place}{name}")
                prepare.append(f"(cd {quote(at)} && {line})" if place and line == "npm ci" else line)
                if name != "package-lock.json":
                    break
    seen = pipelines.Seen(
        install=install,
        main=main or _main(root),
        folder=folder,
        prepare=tuple(dict.fromkeys(prepare)),
        locks=tuple(dict.fromkeys(locks)),
        made_of=_made_of(project, top.resolve(), folder),
    )
    return seen, notes


def _folder(root: Path, top: Path | None = None) -> str:
    """The project's, in its repository: "" or "services/greeting/"."""
    above = (top or Path(git(root, "rev-parse", "--show-toplevel") or root)).resolve()
    return "" if root.resolve() == above else f"{root.resolve().relative_to(above).as_posix()}/"


def _made_of(project: Project, top: Path, folder: str) -> tuple[str, ...]:
    """What of the repository is, when it changes, a change of the functions: as a workflow's `paths`."""
    root, functions = project.root.resolve(), project.functions.values()
    places = [*(each.source for each in functions), *(each.source for each in project.layers.values())]
    places += [text.partition(" as ")[0].strip() for each in functions for text in each.shared]
    for each in functions:
        match each.provision:
            case Terraform(directory=directory):
                places.append(directory)
            case CloudFormation(template=str(template)):
                places.append(template)
    inside = [(root / each).resolve() for each in places]
    found = dict.fromkeys([folder, *(_path(each, top) for each in inside if each.is_relative_to(top))])
    kept = [each for each in found if not any(each != other and each.startswith(other) for other in found)]
    return tuple(re.sub(r"([*?+\[\]!])", r"\\\1", each) + ("" if each and each[-1] != "/" else "**") for each in kept)


def _path(place: Path, top: Path) -> str:
    """Of a folder with a `/` at its end, of all of the repository "". What is not there is taken for a folder."""
    relative = place.relative_to(top)
    return "" if not relative.parts else relative.as_posix() + ("" if place.is_file() else "/")


_NEEDS = ("requirements-dev.txt", "dev-requirements.txt", "requirements-test.txt", "requirements.txt")


def _main(root: Path) -> str:
    """The default branch: of the remote, else what there is of main and master."""
    if remote := git(root, "symbolic-ref", "--short", "refs/remotes/origin/HEAD"):
        return remote.removeprefix("origin/")
    there = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()
    return next((name for name in ("main", "master", "trunk") if name in there), "main")


def _vendored(top: Path) -> str | None:
    """A wheel that lies in the repository."""
    found = sorted(path for place in ("vendor", "wheels", ".") for path in (top / place).glob("pointsman-*.whl"))
    return f"./{found[-1].relative_to(top).as_posix()}" if found else None


def _installed_from() -> str | None:
    """The git URL that this Pointsman came from, at its commit (PEP 610); None where it came from elsewhere."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = json.loads(distribution("pointsman").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    if vcs := origin.get("vcs_info"):
        return f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
    checkout = Path(str(origin.get("url", "")).removeprefix("file://"))
    if "dir_info" not in origin or not checkout.is_dir():
        return None
    remote, commit = git(checkout, "remote", "get-url", "origin"), git(checkout, "rev-parse", "HEAD")
    # Somebody's password has no place in a pipeline, and a path of this machine means nothing there.
    remote = re.sub(r"^(https?://)[^/@]*@", r"\1", remote)
    return f"git+{remote}@{commit}" if re.match(r"https?://|ssh://", remote) and commit else None


def _comment(typed: Typed) -> int:
    asked, screen = typed.asked, typed.screen
    root = typed.file().resolve().parent
    path = Path(asked.source) if asked.source else reports.last(root)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        text = reports.comment(document, _folder(root))
    except OSError as error:
        raise UsageError(
            f"there is no result to tell of: {path}: {error.strerror}",
            next="In CI, every deploy leaves one; elsewhere: `pointsman deploy --json > FILE`, and `--from FILE`.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not the JSON document of a deploy", next="`pointsman deploy --json`.") from error
    if asked.to:
        Path(asked.to).write_text(text, encoding="utf-8")
    if not screen.json and not asked.to:
        screen.print(text.rstrip("\n"))
    screen.result({"text": text, "file": asked.to})
    return 0
