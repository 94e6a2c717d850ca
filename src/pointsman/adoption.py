"""What `init` sees in a folder, and the `pointsman.toml` it writes, which `config.parse` accepts. Reads only."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from pointsman.config import Handler, Runtime, Test, Tests, toml
from pointsman.errors import UsageError
from pointsman.model import FunctionName, Value

_TOOLS = ("node_modules", "target", "build", "dist", "coverage", "venv", "cdk.out", "__pycache__")
_LARGEST = 1_000_000  # bytes; CloudFormation takes templates of 1 MB at most
_NODE = (".js", ".mjs", ".cjs")
_PYTHON = ("lambda_function.py", "app.py", "main.py", "handler.py", "index.py")

# Runtimes that Lambda creates no function with any more, by family, and what to take instead. Those past their date
# only: one that is deprecated still works. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
_RETIRED = (
    (r"nodejs(4\.3|6\.10|8\.10|10\.x|12\.x|14\.x)?", "nodejs22.x"),
    (r"python(2\.7|3\.6|3\.7)", "python3.13"),
    (r"ruby2\.[57]", "ruby3.4"),
    (r"dotnetcore[123]\.[01]", "dotnet8"),
    (r"java8", "java21"),
    (r"go1\.x|provided", "provided.al2023"),
)


class Candidate(Value, frozen=True, kw_only=True):
    """A function that can be deployed from `source`; `owner` is how its stack calls it, or AWS."""

    owner: str
    source: str = "."
    handler: str | None = None
    runtime: str | None = None
    build: Literal["node", "python"] | None = None
    test: Tests = Tests()


class Found(Value, frozen=True, kw_only=True):
    """What a folder holds. `notes` are for the person: one sentence each, what was seen and what to do about it."""

    kind: Literal["cloudformation", "plain"]
    functions: tuple[Candidate, ...]
    template: str | None = None
    stack: str = ""
    capabilities: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def look(folder: Path) -> Found:
    """What to deploy from `folder`: the functions of its CloudFormation template, else the handler it holds."""
    notes: list[str] = []
    templates = dict(_templates(folder))
    if not templates:
        functions: tuple[Candidate, ...] = (_plain(folder, notes),)
        return Found(kind="plain", functions=functions, notes=tuple(notes))
    path, template = next(iter(templates.items()))
    if len(templates) > 1:
        notes.append(f"{path} was taken; there are other templates: {', '.join([*templates][1:])}.")
    functions = _declared(folder, path, template, notes)
    stack = _stack(folder, notes)
    needed = tuple(key for key, each in _table(template.get("Parameters")).items() if "Default" not in _table(each))
    if needed:
        notes.append(f"{path} has parameters without a default, to be given in `parameters`: {', '.join(needed)}.")
    return Found(
        kind="cloudformation",
        functions=functions,
        template=path,
        stack=stack,
        capabilities=_capabilities(template),
        parameters=needed,
        notes=tuple(notes),
    )


# Files


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder and of the folders in it, without those that tools fill."""
    for path in _inside(folder):
        if path.is_dir() and path.name not in _TOOLS:
            yield from (each for each in _inside(path) if _is_file(each))
        elif _is_file(path):
            yield path


def _inside(folder: Path) -> list[Path]:
    """What stands in a folder, sorted; none of an unreadable one. A name that is no text cannot stand in the file."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.isprintable() and not path.name.startswith("."))
    except OSError:
        return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or a null character
        return False


def _text(path: Path) -> str:
    """The file's text; "" for what is no text, too large, not there or not readable."""
    try:
        return path.read_text("utf-8-sig") if path.stat().st_size <= _LARGEST else ""
    except (OSError, ValueError):
        return ""


def _table(value: object) -> Mapping[str, Any]:
    return {str(key): each for key, each in value.items()} if isinstance(value, dict) else {}


def _parsed(text: str, *, json: bool) -> Mapping[str, Any]:
    """JSON or YAML, CloudFormation's tags in their long form; an empty table for anything else."""
    from json import loads

    try:
        return _table(loads(text) if json else _yaml(text))
    except (ValueError, RecursionError):
        return {}


def _yaml(text: str) -> object:
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> object:
        key = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
        match node:
            case yaml.SequenceNode():
                return {key: loader.construct_sequence(node, deep=True)}
            case yaml.MappingNode():
                return {key: loader.construct_mapping(node, deep=True)}
            case _:
                return {key: node.value}

    Loader.add_multi_constructor("!", tagged)
    try:
        return yaml.load(text, Loader)  # a SafeLoader: it builds plain values only
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


# CloudFormation


def _templates(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The templates with a Lambda function, the likeliest first: path from `folder`, content."""
    named = (path for path in _files(folder) if path.suffix in (".template", ".json", ".yaml", ".yml"))
    for path in sorted(named, key=lambda path: (len(path.parts), path.suffix != ".template", path.name)):
        text = _text(path)
        if "AWS::Lambda::Function" not in text:
            continue
        template = _parsed(text, json=path.suffix == ".json" or text.lstrip().startswith("{"))
        if any(_table(each).get("Type") == "AWS::Lambda::Function" for each in _resources(template).values()):
            yield path.relative_to(folder).as_posix(), template


def _resources(template: Mapping[str, Any]) -> Mapping[str, Any]:
    return _table(template.get("Resources"))


def _declared(folder: Path, path: str, template: Mapping[str, Any], notes: list[str]) -> tuple[Candidate, ...]:
    """The template's functions whose code lies here; a single one is taken to be the folder's, whatever that holds."""
    declared = {
        key: _table(_table(each).get("Properties"))
        for key, each in _resources(template).items()
        if _table(each).get("Type") == "AWS::Lambda::Function" and key.strip()
    }
    functions: dict[str, Candidate] = {}
    for logical, properties in declared.items():
        name = properties.get("FunctionName")
        owner = name if isinstance(name, str) and FunctionName.pattern.fullmatch(name) else logical
        handler, runtime = (_literal(properties.get(key), template) for key in ("Handler", "Runtime"))
        runtime = runtime if _fits(Runtime, runtime) else None
        source = _source(folder, handler)
        if properties.get("PackageType") == "Image":
            notes.append(f'{owner} is a container image: add it yourself, with build = "image".')
        elif source is None and len(declared) > 1:
            notes.append(f"{owner} was left out: no file here is its handler, {handler}.")
        else:
            functions[owner] = _candidate(folder, source or ".", owner, notes, handler=handler, runtime=runtime)
            if functions[owner].runtime != runtime:
                notes.append(
                    f"{path}: Lambda no longer takes {owner}'s Runtime, {runtime}: "
                    f"make it {_successor(runtime)} there, or the stack cannot be created."
                )
    if functions or not declared:
        return tuple(functions.values()) or (_plain(folder, notes),)
    owner = next(iter(declared))
    notes.append(f"{owner} stands in the file all the same, so that there is something to change.")
    return (_candidate(folder, ".", owner, notes),)


def _literal(value: object, template: Mapping[str, Any]) -> str | None:
    """A property's text, also where it is a parameter with a default."""
    match value:
        case {"Ref": str(parameter)}:
            value = _table(_table(template.get("Parameters")).get(parameter)).get("Default")
    return value if isinstance(value, str) else None


def _source(folder: Path, handler: str | None) -> str | None:
    """The folder, this or one in it, that holds the handler's file."""
    if not handler or not _fits(Handler, handler):
        return None
    stem = handler.rpartition(".")[0]
    names = [f"{stem}{suffix}" for suffix in _NODE] + [f"{stem.replace('.', '/')}.py"]
    for path in (folder, *sorted({each.parent for each in _files(folder)} - {folder})):
        if any(_is_file(path / name) for name in names):
            return path.relative_to(folder).as_posix()
    return None


def _capabilities(template: Mapping[str, Any]) -> tuple[str, ...]:
    """What CloudFormation wants to be told: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html"""
    named = ("RoleName", "PolicyName", "ManagedPolicyName", "UserName", "GroupName", "InstanceProfileName")
    resources = [_table(each) for each in _resources(template).values()]
    iam = [each for each in resources if isinstance(each.get("Type"), str) and each["Type"].startswith("AWS::IAM::")]
    if any(key in _table(each.get("Properties")) for each in iam for key in named):
        found = ["CAPABILITY_NAMED_IAM"]
    else:
        found = ["CAPABILITY_IAM"]
    return (*found, "CAPABILITY_AUTO_EXPAND") if "Transform" in template else tuple(found)


def _stack(folder: Path, notes: list[str]) -> str:
    """The stack's name as scripts have it, else a guess."""
    for path in _files(folder):
        if path.suffix in (".sh", ".yml", ".yaml", ".json", ".toml") or path.name in ("Makefile", "Jenkinsfile"):
            found = re.search(r"stack[_-]name[ =:]+[\"']?([A-Za-z][A-Za-z0-9-]{0,127})\b", _text(path), re.IGNORECASE)
            if found:
                notes.append(f"The stack's name, {found[1]}, is from {path.relative_to(folder).as_posix()}.")
                return found[1]
    guess = re.sub("[^A-Za-z0-9]+", "-", folder.resolve().name).strip("-0123456789")[:100]
    guess = f"{guess}-stack" if guess else "stack"
    notes.append(f"The stack's name, {guess}, is a guess.")
    return guess


# The code


def _plain(folder: Path, notes: list[str]) -> Candidate:
    """The function that a folder without a template holds."""
    package = _package(folder)
    main = package.get("main")
    mains = [main, f"{main}.js"] if isinstance(main, str) else []
    names = [*(name for name in mains if name.endswith(_NODE)), *(f"index{suffix}" for suffix in _NODE), *_PYTHON]
    name = next((name for name in names if ".." not in name and _is_file(folder / name)), None)
    owner = _named(str(package.get("name") or folder.resolve().name))
    if name is None:
        notes.append("No handler was recognised: say what to package, and how.")
        return _candidate(folder, ".", owner, notes)
    text = _text(folder / name)
    if name.endswith(".py"):
        called = re.search(r"^(?:async )?def (lambda_handler|handler)\(", text, re.M) or re.search(
            r"^(?:async )?def (\w+)\(\s*event\b", text, re.M
        )
        version = re.search(r"requires-python\s*=\s*\"[~>=]*\s*(3\.(?:9|1[0-4]))\b", _text(folder / "pyproject.toml"))
        # Without a word of it in the folder: what this machine has, so that it can be rehearsed here.
        runtime = f"python{version[1] if version else python_here()}"
    else:
        called = re.search(r"exports\.(handler)\b|export\s+(?:const|let|(?:async\s+)?function)\s+(handler)\b", text)
        called = called or re.search(r"exports\.(\w+)\s*=", text)
        version = re.search(r"(18|20|22|24)\b", str(_table(package.get("engines")).get("node", "")))
        runtime = f"nodejs{version[1] if version else node_here()}.x"
    function = next(filter(None, called.groups()), "") if called else ""
    if not function:
        function = "lambda_handler" if name.endswith(".py") else "handler"
        notes.append(f"{name} has no {function} that was recognised: check `handler`.")
    handler = f"{name.removeprefix('./').rpartition('.')[0]}.{function}"
    return _candidate(folder, ".", owner, notes, handler=handler, runtime=runtime)


def python_here() -> str:
    """This Python, as far as Lambda has it."""
    return f"3.{max(10, min(14, sys.version_info.minor))}"


def node_here() -> str:
    """The major of this machine's Node where Lambda has it, else the newest long-lived one."""
    node = shutil.which("node")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout if node else ""
    found = re.match(r"v(18|20|22|24)\.", said)
    return found[1] if found else "22"


def _candidate(
    folder: Path, source: str, owner: str, notes: list[str], *, handler: str | None = None, runtime: str | None = None
) -> Candidate:
    home = folder / source
    build: Literal["node", "python"] | None = None
    if (runtime or "").startswith("nodejs") or _is_file(home / "package.json"):
        build = "node"
    elif (runtime or "").startswith("python") or next(home.glob("*.py"), None):
        build = "python"
    usable = _fits(Handler, handler) and re.search(r"[^.]\.[^.]", handler or "")
    return Candidate(
        owner=owner,
        source=source,
        handler=handler if usable else None,
        runtime=None if _successor(runtime) else runtime,
        build=build,
        test=_npm_tests(home, notes) if build == "node" else _python_tests(home) if build == "python" else Tests(),
    )


def _fits(kind: Any, text: str | None) -> bool:
    return text is not None and re.fullmatch(get_args(kind)[1].pattern, text) is not None


def _successor(runtime: str | None) -> str | None:
    return next((better for family, better in _RETIRED if runtime and re.fullmatch(family, runtime)), None)


def _named(text: str) -> str:
    """The nearest name that AWS takes for a function."""
    return re.sub("[^A-Za-z0-9_-]+", "-", text).strip("-")[:64] or "function"


# Tests


def _package(folder: Path) -> Mapping[str, Any]:
    return _parsed(_text(folder / "package.json"), json=True)


def _npm_tests(folder: Path, notes: list[str]) -> Tests:
    """From package.json's scripts: of the unit and of the integration tests the script that writes a report."""
    from shlex import quote

    package = _package(folder)
    scripts = {key: each for key, each in _table(package.get("scripts")).items() if isinstance(each, str)}
    tests: dict[bool, tuple[str, str | None]] = {}
    for key, script in scripts.items():
        words = {each.lower() for each in re.findall("[A-Z]?[a-z0-9]+", key)}
        integration = bool(words & {"itest", "itests", "integration", "e2e", "acceptance"})
        if not integration and not words & {"test", "tests", "unit"}:
            continue
        # Neither npm's stand-in, nor what does not end, nor what a word shows to do something else.
        if words & {"watch", "lint", "coverage", "deploy", "setup", "debug", "update"} or "no test specified" in script:
            continue
        report = re.search(r"=[\"']?([\w./-]+\.xml)\b", script)
        known = tests.get(integration)
        if known is None or (report and not known[1]):
            tests[integration] = (key, report[1] if report else None)
    if any(package.get(key) for key in ("dependencies", "devDependencies")):
        locked = any(_is_file(folder / lock) for lock in ("package-lock.json", "npm-shrinkwrap.json"))
        install = "npm ci && " if locked else "npm install --no-audit --no-fund && "
    else:
        install = ""
    runs = {
        which: Test(
            run=f"{install}npm run {quote(key)}",
            junit=(report,) if report else (),
            against=_against(folder, scripts[key]) if which else "version",
        )
        for which, (key, report) in tests.items()
    }
    if any(which and test.against == "latest" for which, test in runs.items()):
        notes.append(
            "The integration tests name no qualifier, so they test $LATEST. Let them invoke POINTSMAN_QUALIFIER, "
            'then take against = "version".'
        )
    return Tests(unit=runs.get(False), integration=runs.get(True))


def _python_tests(folder: Path) -> Tests:
    """By pytest, where it is asked for: tests/ or tests/unit, and tests/integration."""
    asked = "".join(_text(path) for path in sorted(folder.glob("*.t*")) if path.suffix in (".txt", ".toml"))
    if "pytest" not in asked:
        return Tests()
    pytest = "python -m pytest --junitxml="
    inner = next(
        (each for each in ("tests/integration", "integration-tests", "integration_tests") if (folder / each).is_dir()),
        None,
    )
    unit = next((each for each in ("tests/unit", "tests", "test") if (folder / each).is_dir()), None)
    ignore = f" --ignore={inner}" if inner and inner.startswith(f"{unit}/") else ""
    return Tests(
        unit=Test(run=f"{pytest}junit-unit.xml {unit}{ignore}", junit=("junit-unit.xml",)) if unit else None,
        integration=Test(
            run=f"{pytest}junit-integration.xml {inner}",
            junit=("junit-integration.xml",),
            against=_against(folder, f" {inner}"),
        )
        if inner
        else None,
    )


def _against(folder: Path, command: str) -> Literal["version", "latest"]:
    """Whether the tests that a command runs call a version: then they speak of a qualifier."""
    named = [folder / word for word in re.findall(r"(?<=\s)\w[\w./-]*", command) if ".." not in word]
    places = [path for path in named if path.is_dir()] or [
        path for path in _inside(folder) if path.is_dir() and re.search(r"test|integration|e2e", path.name)
    ]
    sources = (path for place in places for path in place.rglob("*") if not {*path.parts} & {"node_modules", ".venv"})
    for path in islice((path for path in sources if path.suffix in (*_NODE, ".ts", ".py")), 500):
        if re.search("POINTSMAN_|Qualifier", _text(path)):
            return "version"
    return "latest"


# Writing


def write(found: Found, *, name: str | None = None, role: str | None = None, region: str | None = None) -> str:
    """A pointsman.toml for what was found: minimal, commented. `name` is the (first) function's, `role` its execution
    role, with which Pointsman creates a function that no template owns.
    """
    if name is not None and not FunctionName.pattern.fullmatch(name):
        raise UsageError(f"{name!r} is not {FunctionName.rule}")
    lines = ["# What every key means: `pointsman config explain`."]
    # A comment is one line of printable characters, whatever a template had in it.
    lines += ["".join(each if each.isprintable() else " " for each in f"# - {note}") for note in found.notes]
    lines.append("")
    taken: set[str] = set()
    for candidate in found.functions:
        named = name if name and not taken else _named(candidate.owner)
        key, more = named, 2
        while key in taken:
            key, more = f"{named[:60]}-{more}", more + 1
        taken.add(key)
        lines += _function(found, candidate, key, role)
    where = [f"region = {toml(region)}"] if region else []
    lines += ["[environment.staging]", 'alias = "STAGE"', *where, ""]
    lines += ["[environment.production]", 'alias = "PROD"', *where, "approve = true", ""]
    return "\n".join(lines)


def _function(found: Found, candidate: Candidate, key: str, role: str | None) -> Iterator[str]:
    yield f"[function.{key}]"
    if candidate.source != ".":
        yield f"source = {toml(candidate.source)}"
    if candidate.handler:
        yield f"handler = {toml(candidate.handler)}"
    if candidate.runtime:
        if found.kind == "plain" and not role:
            yield "# A guess: take what the function has on AWS."
        yield f"runtime = {toml(candidate.runtime)}"
    if candidate.build:
        yield f"build = {toml(candidate.build)}"
    else:
        yield "# Nothing here told how to package it: a zip made elsewhere, or see `pointsman config explain function`."
        yield 'build = "zip"'
        yield 'artifact = "function.zip"'
    yield f"provision = {toml(_provision(found, candidate, key, role))}"
    yield ""
    tests = [
        (kind, test)
        for kind, test in (("unit", candidate.test.unit), ("integration", candidate.test.integration))
        if test
    ]
    if tests:
        yield f"[function.{key}.test]"
        for kind, test in tests:
            junit = {"junit": test.junit[0]} if test.junit else {}
            against = {"against": test.against} if kind == "integration" else {}
            yield f"{kind} = {toml({'run': test.run, **junit, **against})}"
        yield ""


def _provision(found: Found, candidate: Candidate, key: str, role: str | None) -> Mapping[str, object]:
    if found.kind == "cloudformation":
        extra: dict[str, object] = {}
        if found.parameters:
            extra["parameters"] = dict.fromkeys(found.parameters, "")
        if found.capabilities != ("CAPABILITY_IAM",):
            extra["capabilities"] = found.capabilities
        return {
            "with": "cloudformation",
            "stack": found.stack,
            "template": found.template,
            "function": candidate.owner,
            **extra,
        }
    return {"with": "direct", "role": role} if role else {"with": "existing", "name": key}


__all__ = ["Candidate", "Found", "look", "write"]
