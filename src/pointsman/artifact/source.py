"""Which files of a folder go into a package, and why not the others. DESIGN.md has the rules in words."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase, translate
from pathlib import Path
from posixpath import dirname, isabs, join, normpath, realpath
from typing import Literal, NamedTuple

from pointsman.artifact.archive import Member
from pointsman.errors import BuildFailed, UsageError

# Globs over one component of a path. A leading `/`: only at the root; a trailing `/`: only folders.
BYTECODE = ("__pycache__", "*.pyc", "*.pyo")
NOISE = (
    *(".git", ".gitignore", ".gitattributes", ".gitmodules", ".github", ".gitlab-ci.yml", ".circleci", ".hg", ".svn"),
    *(".pointsman", "/pointsman.toml", *BYTECODE, ".DS_Store", "Thumbs.db", "*.swo", "*.swp", "*~"),
    *(".venv", "venv/", ".tox", ".nox", "*.egg-info/", ".*_cache", ".hypothesis", ".eslintcache", ".nyc_output"),
    *(".idea", ".vscode", ".editorconfig", ".terraform*", ".serverless", ".aws-sam", "/cdk.out/"),
    *(".env.example", ".env.sample", ".env.template", ".envrc"),
)
SECRETS = (  # by their very names: left out aloud, also of what a command made
    *(".env", ".env.*", ".npmrc", ".pypirc", ".netrc", ".git-credentials", ".dockercfg", ".pgpass", ".boto", ".s3cfg"),
    *(".aws/", ".ssh/", ".gnupg/", ".docker/", "*.kdbx"),
)
MANIFESTS = (  # for tools, not for functions; package.json goes in, for Node asks it what kind of modules these are
    *(
        "node_modules/",
        "/README*",
        "/CHANGELOG*",
        "/CONTRIBUTING*",
        "/package-lock.json",
        "/npm-shrinkwrap.json",
        "/yarn.lock",
    ),
    *("/pnpm-lock.yaml", "/pnpm-workspace.yaml", "/.yarn/", "/.yarnrc*", "/.pnp.*", "/.pnpmfile.cjs"),
    *("/requirements*.txt", "/pyproject.toml", "/uv.lock", "/poetry.lock", "/pdm.lock", "/pylock.toml", "/Pipfile*"),
    *("/tsconfig*.json", "/Makefile", "/Jenkinsfile", "/bitbucket-pipelines.yml", "/azure-pipelines.yml"),
    *("/Dockerfile", "/serverless.y*ml", "/samconfig.toml", "/cdk.json", "*.tf", "*.tfvars", "*.tfstate*"),
)
MISSED = (  # what somebody might expect to find in the package
    *(
        "*.zip",
        "*.whl",
        "/target/",
        "/coverage/",
        "/htmlcov/",
        "/coverage.xml",
        ".coverage",
        "/xunit-*.xml",
        "/junit-*.xml",
        "/scripts/*.sh",
    ),
    *("/test/", "/tests/", "__tests__/", "/integration-test/", "/integration-tests/", "/integration_test/"),
    *("/integration_tests/", "/itest/", "/e2e/"),
)
REMADE = (  # by the build itself, in the scratch folder that sources are copied to
    *(".git", ".hg", ".svn", ".pointsman", ".aws-sam", ".serverless", ".terraform", "/cdk.out/", "/target/", ".gradle"),
    *("node_modules/", ".venv", "venv/", ".tox", ".nox", *BYTECODE),
)
RULES = {
    "sources": NOISE + SECRETS + MANIFESTS + MISSED,
    "made": NOISE + SECRETS,
    "copied": REMADE,
    "installed": BYTECODE,
}
TEMPLATES = (".template", ".yaml", ".yml", ".json")  # at the root, when they are CloudFormation's by their content
KEYS = ("*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519")
PERHAPS_KEYS = ("*.pem", "*.key", "*.json")  # a .pem may also be a certificate: its content tells

EVERYTHING = {"*", "**", "/**", "**/*"}

Kind = Literal["sources", "made", "copied", "installed"]
Matches = Callable[[str], bool]


class LeftOut(NamedTuple):
    """A file, or a folder (its name ends in `/`) with all in it; `rule` is why. `missed`: somebody might expect it."""

    name: str
    rule: str
    missed: bool = False


def choose(
    root: Path,
    *,
    include: Sequence[str] = ("**",),
    exclude: Sequence[str] = (),
    never: Iterable[str] = (),
    handler: str | None = None,
    kind: Kind = "sources",
    left_out: list[LeftOut] | None = None,
) -> list[Member]:
    """The files of `root` to package, in no order. Raises BuildFailed naming what cannot or must not be packaged.

    What a default leaves out comes back when an `include` names it (`tests/**` names `tests/`, `**` names nothing);
    the handler's top folder counts as named. `exclude` and `never` have the last word. No link is followed.
    Of a folder `made` to be packaged only noise and secrets are left out, of one to be `copied` for a build what that
    makes itself, of `installed` dependencies only bytecode. `left_out` collects what is left out, and by which rule.
    """
    naming = _naming(include)
    top = re.split(r"[./]", (handler or "").removeprefix("./"))[0]  # of src/index.handler, or tests.echo.handler
    if top and top != "node_modules":
        naming.append(f"{top}/**")
    included = None if include and set(include) <= EVERYTHING else matcher(include)
    choice = _Choice(root, naming, included, _excluded(root, exclude, never), kind)
    choice.walk("", (), kind in ("installed", "copied"))
    if left_out is not None:
        patterns = [(each, matcher([each])) for each in exclude if not each.startswith("!")]
        left_out += (each if each.rule else each._replace(rule=_pattern(patterns, each)) for each in choice.left_out)
    if refused := sorted(choice.own_keys()):
        raise BuildFailed(
            f"private keys would be packaged: {', '.join(refused)}",
            next=f'Leave them out (exclude = ["{refused[0]}"]), or name them (include = ["**", "{refused[0]}"]).',
        )
    return choice.members


def _naming(include: Sequence[str]) -> list[str]:
    return [text for text in include if not text.startswith("!")]


def _pattern(patterns: Sequence[tuple[str, Matches]], left: LeftOut) -> str:
    """Which pattern of `exclude` it was: the last one that matches decides, as in .gitignore."""
    own = next((text for text, matches in reversed(patterns) if matches(left.name)), None)
    return f'exclude = "{own}"' if own else "made by the build or its tests"


def named(include: Sequence[str], name: str) -> bool:
    """Whether an include means this very file: how the user says that it is no mistake."""
    return f"/{name}".endswith(tuple(f"/{text.strip('/')}" for text in _naming(include)))


def secret_by_name(name: str) -> str | None:
    """The rule by which a file, or a folder that it is in, is a secret."""
    parts = name.split("/")
    return next((rule for rule in SECRETS if any(fnmatchcase(each, rule.strip("/")) for each in parts)), None)


def _excluded(root: Path, exclude: Sequence[str], never: Iterable[str]) -> Matches | None:
    """Whether a name has been ruled out by the user or by us; None where nothing is."""
    within = [path for each in never if not (path := os.path.relpath(root / each, root)).startswith("..")]
    globs = [f"/{path}" for path in within if re.search(r"[^\w./-]", path)]  # a plain path needs no matcher's import
    plain = {each for path in within for each in (path, f"{path}/")}
    matches = [matcher(patterns) for patterns in (exclude, globs) if patterns]
    if not plain and not matches:
        return None
    return lambda name: name in plain or any(match(name) for match in matches)


def matcher(patterns: Sequence[str]) -> Matches:
    """.gitignore's rules as a predicate over relative `/`-separated names (a folder's ends in `/`)."""
    if not patterns:
        return lambda _: False
    if set(patterns) <= EVERYTHING:
        return lambda _: True
    from pathspec import GitIgnoreSpec  # 60 ms, so only for those who have patterns

    # `data/**` means all that is in it, and not the folder itself: or nothing in it could be brought back by a `!`.
    try:
        return GitIgnoreSpec.from_lines(f"{each}/*" if each.endswith("/**") else each for each in patterns).match_file
    except ValueError as error:
        said = ", ".join(f'"{each}"' for each in patterns)
        raise UsageError(
            f"{error}, of {said}", next="`include` and `exclude` are .gitignore's patterns: folders end in a slash."
        ) from error


class _Choice:
    """One walk over a folder, and what it has found so far."""

    def __init__(
        self, root: Path, naming: list[str], included: Matches | None, excluded: Matches | None, kind: Kind
    ) -> None:
        self.root, self.naming, self.kind = root, naming, kind
        self.included, self.excluded = included, excluded
        self.named = functools.cache(self._named)
        self.by_name = tuple(f"/{text.strip('/')}" for text in naming)
        self.by_last, self.by_path = _any_rule(kind)
        self.members: list[Member] = []
        self.keys: list[Member] = []
        self.left_out: list[LeftOut] = []

    def own_keys(self) -> list[str]:
        """The keys that no package brought; those of packages, which a layer's folder holds, are chosen too."""
        if not self.keys:
            return []
        from pointsman.artifact.secrets import RECORD, brought

        records = {each.name: Path(each.path).read_bytes() for each in self.members if each.name.endswith(RECORD)}
        foreign = brought((each.name for each in self.keys), records)
        self.members += [each for each in self.keys if each.name in foreign]
        return [each.name for each in self.keys if each.name not in foreign]

    def walk(self, at: str, conditions: tuple[Matches, ...], foreign: bool) -> None:
        """`conditions`: the includes that brought this folder back; a file in it must be meant by them too.
        `foreign`: it is within a package, which may bring keys for its tests."""
        folders: list[tuple[str, tuple[Matches, ...], bool]] = []
        place = f"{self.root}/{at}"
        try:
            opened = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _unreadable(at or str(self.root), error) from error
        try:  # by its descriptor, from which looking up a file in it is shorter than from the root
            with os.scandir(opened) as entries:
                for entry in entries:
                    if into := self._judge(entry, at, place, conditions, foreign):
                        folders.append(into)
        finally:
            os.close(opened)
        for each in folders:  # once it is closed: folders may be nested deeper than a process may open files
            self.walk(*each)

    def _judge(
        self, entry: os.DirEntry[str], at: str, place: str, conditions: tuple[Matches, ...], foreign: bool
    ) -> tuple[str, tuple[Matches, ...], bool] | None:
        """Of thousands of files each passes here: what most do not need is asked last. Returns a folder to walk."""
        last = entry.name
        name = at + last
        folder = entry.is_dir(follow_symlinks=False)
        if not last.isascii() and not _is_utf8(name):
            raise BuildFailed(f"the name of {name!r} is not UTF-8", next="Rename it.")
        if self.excluded and self.excluded(f"{name}/" if folder else name):
            self.left_out.append(LeftOut(f"{name}/" if folder else name, ""))
            return None
        meant = conditions
        if self.by_last(last) or (at and self.by_path and self.by_path(name)):
            back = {rule: self.named(rule.strip("/")) for rule in _rules(self.kind, name, folder)}
            meant = (*conditions, *filter(None, back.values()))
            if None in back.values():
                rule = next(rule for rule, found in back.items() if found is None)
                why = f"a secret by its name: {rule}" if rule in SECRETS else f"by default: {rule}"
                missed = rule in MISSED or rule in SECRETS
                self.left_out.append(LeftOut(f"{name}/" if folder else name, why, missed))
                return None
        if folder:
            return f"{name}/", meant, foreign or last == "node_modules"
        if (self.included is None or self.included(name)) and (not meant or all(matches(name) for matches in meant)):
            self._add(entry, name, place + last, foreign)
        else:
            self.left_out.append(LeftOut(name, "not in `include`"))
        return None

    def _add(self, entry: os.DirEntry[str], name: str, path: str, foreign: bool) -> None:
        try:
            if entry.is_symlink():
                self.members.append(Member(name, path, link=_target(self.root, name)))
                return
            if not entry.is_file():
                raise BuildFailed(f"{name} is neither a file nor a folder", next=f'Add exclude = ["{name}"].')
            stat = entry.stat()
            seen = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
            if not foreign and _PERHAPS_REFUSED(entry.name) and not f"/{name}".endswith(self.by_name):
                if _is_key(entry.name, path, stat.st_size):
                    self.keys.append(Member(name, path, bool(stat.st_mode & 0o100), None, seen))
                    return
                if self.kind == "sources" and "/" not in name and _is_template(path, stat.st_size):
                    self.left_out.append(LeftOut(name, "a CloudFormation template", missed=True))
                    return
            self.members.append(Member(name, path, bool(stat.st_mode & 0o100), None, seen))
        except OSError as error:
            raise _unreadable(name, error) from error

    def _named(self, glob: str) -> Matches | None:
        texts = [text for text in self.naming if _names(text, glob)]
        return matcher(texts) if texts else None


def member(name: str, path: Path) -> Member:
    """One file, by another name than it has."""
    try:
        stat = path.stat()
    except OSError as error:
        raise _unreadable(name, error) from error
    seen = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return Member(name, str(path), bool(stat.st_mode & 0o100), None, seen)


def closed(members: Iterable[Member]) -> None:
    """Refuse what would not unzip: links to what is not in the package, and a name that is a file and a folder."""
    links: dict[str, str] = {}
    files: set[str] = set()
    for member in members:
        if member.link is not None:
            links[member.name] = member.link
        else:
            files.add(member.name)
    folders: set[str] = set()
    for name in (*files, *links):
        while (cut := name.rfind("/")) > 0 and (name := name[:cut]) not in folders:
            folders.add(name)
    for name in (folders & files) | (folders & links.keys()):
        raise BuildFailed(
            f"{name} is a folder, and at once a file or a link: one is from the dependencies",
            next="Rename yours, or `exclude` one of them.",
        )
    there = files | folders if links else files

    def lands(name: str, hops: int) -> bool:
        done: list[str] = []
        parts = [part for part in name.split("/") if part not in ("", ".")]
        for place, part in enumerate(parts):
            if part == "..":
                if not done:
                    return False
                done.pop()
                continue
            done.append(part)
            here = "/".join(done)
            if here in links:
                onward = join(dirname(here), links[here], *parts[place + 1 :])
                return hops < 40 and lands(onward, hops + 1)  # 40: where Linux gives up too
        return not done or "/".join(done) in there

    for name, target in links.items():
        if not lands(name, 0):
            raise BuildFailed(
                f"{name} is a link to {target}, which is not in the package",
                next=f"`include` what it points to, or `exclude` {name}.",
            )


def _rules(kind: Kind, name: str, folder: bool) -> list[str]:
    """The default rules that leave this entry out by its own name (its folders have been judged before)."""
    last = name.rpartition("/")[2]
    return [
        rule
        for rule in RULES[kind]
        if (folder or not rule.endswith("/"))
        and _one(rule.strip("/"))(name if rule.startswith("/") else last)
        and (not rule.startswith("/") or rule.strip("/").count("/") == name.count("/"))
    ]


@functools.cache
def _any_rule(kind: Kind) -> tuple[Callable[[str], object], Callable[[str], object] | None]:
    """Whether some default rule might be meant by an entry's own name; and by its path, where there are such rules."""
    rules = [rule.strip("/") for rule in RULES[kind]]
    paths = [rule for rule in rules if "/" in rule]
    return _any(rule for rule in rules if "/" not in rule), _any(paths) if paths else None


@functools.cache
def _one(glob: str) -> Callable[[str], object]:
    return _any((glob,))


def _any(globs: Iterable[str]) -> Callable[[str], object]:
    """Whether a text matches any: most are plain, or plain but for one star, and need no expression compiled."""
    plain: set[str] = set()
    ends: list[str] = []
    begins: list[str] = []
    pairs: list[tuple[str, str]] = []
    others: list[str] = []
    for glob in globs:
        begin, star, end = glob.partition("*")
        if not {*"*?["}.isdisjoint(begin + end):
            others.append(glob)
        elif not star:
            plain.add(glob)
        elif begin and end:
            pairs.append((begin, end))
        else:
            (begins if begin else ends).append(begin or end)
    ended, begun, paired = tuple(ends), tuple(begins), tuple(begin for begin, _ in pairs)
    match = re.compile("|".join(map(translate, others))).match if others else lambda _: None

    def between(text: str) -> bool:
        return any(
            len(text) >= len(begin) + len(end) and text.startswith(begin) and text.endswith(end) for begin, end in pairs
        )

    return lambda text: (
        text in plain
        or text.endswith(ended)
        or text.startswith(begun)
        or (text.startswith(paired) and between(text))
        or match(text)
    )


_MATCHES_KEY = _any(KEYS)
_PERHAPS_KEY = _any(PERHAPS_KEYS)
_PERHAPS_REFUSED = _any((*KEYS, *PERHAPS_KEYS, *(f"*{end}" for end in TEMPLATES)))


def _names(text: str, glob: str) -> bool:
    """Whether an include's own text names what the glob means: some component of it matches, wildcards as letters."""
    parts = [part for part in text.split("/") if part]
    if "/" in glob:
        return fnmatchcase("/".join(parts), glob)
    return any(fnmatchcase(part, glob) for part in parts if part.strip("*"))


def _target(root: Path, name: str) -> str:
    """A link's target, relative to the link. An absolute one would be another text in every checkout."""
    path = root / name
    written = str(path.readlink())
    target = os.path.relpath(written, (root / name).parent) if isabs(written) else written
    lexical = normpath(join(dirname(name), target))
    if lexical.split("/")[0] == ".." or not Path(realpath(path)).is_relative_to(realpath(root)):
        raise BuildFailed(
            f"{name} is a link to {written}, outside of the source folder",
            next="Copy what it points to into the source folder, or `exclude` the link.",
        )
    return target


def _is_key(last: str, path: str, size: int) -> bool:
    if _MATCHES_KEY(last):
        return True
    if not _PERHAPS_KEY(last):
        return False
    if last.endswith(".json") and size > 8192:  # a service account's key file has about 2,300 bytes
        return False
    return re.search(PRIVATE_KEY, Path(path).read_bytes()) is not None


PRIVATE_KEY = rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\s|\\[nr]|[A-Za-z0-9+/=]){64}"


def _is_template(path: str, size: int) -> bool:
    if not path.endswith(TEMPLATES) or size > 1 << 20:
        return False
    text = Path(path).read_bytes()
    return b"Resources" in text and b"AWS::" in text


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unreadable(name: str, error: OSError) -> BuildFailed:
    return BuildFailed(f"{name} cannot be read: {error.strerror}", next="Make it readable, or `exclude` it.")
