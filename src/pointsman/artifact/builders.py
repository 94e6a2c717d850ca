"""Java, Go, .NET, Ruby, Rust and Makefiles, built by aws-lambda-builders as AWS SAM does, from a copy of the sources.

It runs as a process of its own (https://github.com/aws/aws-lambda-builders/blob/develop/DESIGN.md: JSON-RPC), so that
Ctrl-C ends the compiler too, and the tools get the environment that this build was given.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal, NamedTuple

from pointsman.artifact.tools import (
    Installed,
    Program,
    Tools,
    copy,
    digest,
    on_path,
    once,
    output,
    refuse_foreign,
    run,
    version,
)
from pointsman.errors import BuildFailed, PointsmanError, UsageError

Language = Literal["ruby", "java", "go", "dotnet", "rust", "make"]
LANGUAGES: tuple[Language, ...] = ("ruby", "java", "go", "dotnet", "rust", "make")


class Way(NamedTuple):
    """aws-lambda-builders' capability, the file it starts from, the programs it needs and where they are had."""

    language: str
    manager: str | None
    manifests: tuple[str, ...]
    programs: tuple[str, ...]
    get: str


GRADLE = ("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts")
WAYS: dict[Language, Way] = {
    "ruby": Way(
        "ruby", "bundler", ("Gemfile",), ("ruby", "bundle"), "Install Ruby, of the runtime's release, and Bundler."
    ),
    "java": Way("java", "maven", ("pom.xml",), ("java", "mvn"), "Install a JDK and Maven (https://maven.apache.org)."),
    "go": Way("go", "modules", ("go.mod",), ("go",), "Install Go (https://go.dev/dl)."),
    "dotnet": Way(
        "dotnet",
        "cli-package",
        ("*.csproj", "*.fsproj", "*.vbproj"),
        ("dotnet",),
        "Install the .NET SDK (https://dot.net).",
    ),
    "rust": Way(
        "rust",
        "cargo",
        ("Cargo.toml",),
        ("cargo", "cargo-lambda"),
        "Install Rust (https://rustup.rs), and `pip install cargo-lambda ziglang` for the python3 on PATH.",
    ),
    "make": Way("provided", None, ("Makefile",), ("make",), "Install GNU Make."),
}


def programs(language: Language, project: Path) -> list[Program]:
    """What has to be on PATH for the sources. Raises UsageError where they are none of that language."""
    way, _ = _way(language, project)
    wrapped = (project / "gradlew").is_file()
    return [Program(each, way.get) for each in way.programs if not (each == "gradle" and wrapped)]


def compiled(
    language: Language,
    mirror: Path,
    project: Path,
    tools: Tools,
    *,
    runtime: str | None,
    architecture: str,
    target: str | None,
) -> Installed:
    """What the sources come to. `project` is a copy of them that may be written to, in `mirror`, with shared code
    beside it. `target`: make's is `build-TARGET`. For several functions of the same sources they are compiled once.

    The same sources, by the same compiler, are not compiled twice; but a Makefile may ask anything, and is run by each
    command.
    """
    way, manifest = _way(language, project)
    for program in programs(language, project):
        on_path(program, tools, why=f'build = "{language}"')

    if language == "go" and (runtime is None or runtime.startswith("provided")):
        _refuse_rpc(project)

    def make(scratch: Path) -> Installed:
        tree = scratch / "tree"
        tree.mkdir(parents=True)
        tools.say(f"building {manifest.name} by aws-lambda-builders")
        with _without_spaces(tree) if language == "make" else nullcontext(tree) as place:
            _call(language, way, manifest, project, place, tools, runtime, architecture, target)
        if not any(tree.iterdir()):
            raise BuildFailed(
                f"{manifest.name} was built, but put nothing into the package", next=_NOTHING.get(language, "")
            )
        return Installed(tree, {})

    sources = digest(mirror, kind="installed")  # all: what is not meant was not copied
    key = (str(project.relative_to(mirror)), manifest.name, sources, runtime, architecture, target)
    if language == "make":
        return tools.builds.once((language, *key), lambda: make(tools.builds.folder(tools.cache)))
    return once(tools, language, [*key, _compiler(language, tools)], make)


@contextmanager
def _without_spaces(folder: Path) -> Iterator[Path]:
    """The folder by a path that a Makefile may leave unquoted, as most do with $(ARTIFACTS_DIR)."""
    if not re.search(r"\s", str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="pointsman-") as beside:
        link = Path(beside) / "artifacts"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _refuse_rpc(project: Path) -> None:
    """Before 1.18 aws-lambda-go served the runtime go1.x alone: elsewhere it waits for calls that nobody makes.

    https://github.com/aws/aws-lambda-go/releases/tag/v1.18.0
    """
    said = (project / "go.mod").read_text(errors="replace")
    name = "github.com/aws/aws-lambda-go"
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(name)}\s+(v[01]\.(\d+)\.\S+)(?!.*// indirect)", said, re.M)
    if not found or int(found[2]) >= 18 or re.search(rf"{re.escape(name)}\b.*=>", said):
        return
    if any(f'"{name}/lambda"' in path.read_text(errors="replace") for path in project.rglob("*.go")):
        raise BuildFailed(
            f"go.mod has aws-lambda-go {found[1]}, which serves the runtime go1.x alone: on another it never answers",
            next="`go get github.com/aws/aws-lambda-go@latest`.",
        )


ALOUD = ("java", "go")  # what Maven, Gradle and Go have against the sources is told at the level of debugging only
_NOTHING = {"make": "Let the target copy what belongs into it to $(ARTIFACTS_DIR)."}


def gems(source: Path, tools: Tools, *, runtime: str | None, architecture: str) -> Installed | None:
    """Ruby's gems, in vendor/bundle, or None without a Gemfile. The sources lie over them."""
    gemfile = source / "Gemfile"
    if not gemfile.is_file():
        return None
    way = WAYS["ruby"]
    for program in programs("ruby", source):
        on_path(program, tools, why='build = "ruby"')
    found = re.match(r"ruby (\d+\.\d+)", version("ruby", tools))
    if runtime and found and runtime != f"ruby{found[1]}":
        raise BuildFailed(
            f"the ruby on PATH is {found[1]}, and gems are installed for that: not for {runtime}",
            next=way.get,
        )
    named = re.findall(r"""\bpath:?\s*(?:=>)?\s*["']([^"']+)["']""", gemfile.read_text())
    files = [path for name in ("Gemfile.lock", ".ruby-version", *named) if (path := source / name).exists()]
    files = [gemfile, *files, *sorted(source.glob("*.gemspec"))]
    if outside := [path for path in files if not path.resolve().is_relative_to(source)]:
        raise BuildFailed(f"Gemfile asks for {outside[0]}, outside of the source folder", next="Copy that gem into it.")
    if not (source / "Gemfile.lock").is_file():
        tools.say("there is no Gemfile.lock: Bundler chooses versions now, which stay until Gemfile changes")

    def make(scratch: Path) -> Installed:
        project, tree = scratch / "project", scratch / "tree"
        tree.mkdir()
        for path in files:
            copy(path, project / path.relative_to(source), kind="made")
        tools.say(f"bundle install for {runtime} in a scratch folder")
        _call("ruby", way, project / "Gemfile", project, tree, tools, runtime, architecture, None)
        found = [path for path in tree.rglob("*.so") if path.is_file()]
        for path in found:
            refuse_foreign(path, tree, architecture)
        for each in (*tree.glob("vendor/bundle/ruby/*/cache"), *tree.glob("vendor/bundle/ruby/*/build_info")):
            import shutil

            shutil.rmtree(each)
        specifications = tree.glob("vendor/bundle/ruby/*/specifications/*.gemspec")
        names = [path.stem.rpartition("-") for path in sorted(specifications)]
        return Installed(tree, {name: [version] for name, _, version in names})

    key = [
        [[path.name, digest(path, kind="made")] for path in files],
        version("ruby", tools).split("p")[0],
        runtime,
        architecture,
    ]
    return once(tools, "ruby", key, make)


def _way(language: Language, project: Path) -> tuple[Way, Path]:
    way = WAYS[language]
    found = sorted(path for each in way.manifests for path in project.glob(each))
    if not found and language == "java":
        way = way._replace(
            manager="gradle", programs=("java", "gradle"), get="Install Gradle, or commit its wrapper (gradlew)."
        )
        found = [path for each in GRADLE if (path := project / each).is_file()]
    if not found:
        names = " or ".join((*way.manifests, *(GRADLE[:1] if language == "java" else ())))
        raise UsageError(
            f'build = "{language}" needs {names} in the source folder', next="Correct `source` or `build`."
        )
    return way, found[0]


def _compiler(language: Language, tools: Tools) -> str:
    match language:
        case "go":
            return output(["go", "version"], tools.environment)
        case "java":
            return version("java", tools, "-version")  # JDK 8 has no --version
        case "rust":
            return version("cargo", tools)
        case "dotnet":
            return version("dotnet", tools)
        case _:
            return ""


def _call(  # noqa: PLR0917
    language: Language,
    way: Way,
    manifest: Path,
    project: Path,
    tree: Path,
    tools: Tools,
    runtime: str | None,
    architecture: str,
    target: str | None,
) -> None:
    provided = runtime is None or runtime.startswith("provided")
    options: dict[str, object] = {}
    match language:
        case "make":
            options = {"build_logical_id": target}
        case "go":
            options = {"artifact_executable_name": target or "bootstrap", "trim_go_path": True}
        case "rust":
            options = {"artifact_executable_name": target, "cargo_lambda_flags": _glibc(runtime, architecture)}
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "LambdaBuilder.build",
        "params": {
            "__protocol_version": "0.3",
            "capability": {"language": way.language, "dependency_manager": way.manager, "application_framework": None},
            "source_dir": str(project),
            "artifacts_dir": str(tree),
            # Some build in here: beside the sources' copy, so that `../common` is there too.
            "scratch_dir": str(project.with_name(f".{project.name}-scratch")),
            "manifest_path": str(manifest),
            # Java's are told apart there by their number alone: not java8.al2 from java8.al2023.
            "runtime": "provided" if provided and language in ("go", "rust", "make") else _plain(runtime),
            "optimizations": {},
            "options": options,
            "architecture": architecture,
            **({"build_in_source": True} if language == "make" else {}),  # which is a copy already
        },
    }
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line := re.sub(r"\x1b\[[0-9;]*m", "", line))
        if not line.startswith("{") and (language not in ALOUD or line.lstrip().startswith("Running ")):
            tools.say(line.strip())

    command = [sys.executable, "-m", "aws_lambda_builders", json.dumps(request)]
    environment = {**tools.environment, **_settled(language, project, tools.environment)}
    if language in ALOUD:
        environment["LAMBDA_BUILDERS_LOG_LEVEL"] = "10"
    try:
        run(command, cwd=project, environment=environment, say=hear, halted=tools.halted)
    except BuildFailed as error:
        raise _failed(language, said) from error


def _plain(runtime: str | None) -> str | None:
    return runtime.partition(".al")[0] if runtime and runtime.startswith("java") else runtime


def _failed(language: Language, said: list[str]) -> PointsmanError:
    """In the builder's words, which come last, and the compiler's before them."""
    message, before = "", said
    if said and said[-1].startswith("{"):
        message, before = str(json.loads(said[-1]).get("error", {}).get("message", "")), said[:-1]
    message = re.sub(r"\x1b\[[0-9;]*m", "", message)
    if language == "go" and (compiler := _said_by_go(before)):
        return BuildFailed(f'build = "go" failed:\n{compiler}')
    before = [line for line in before if re.search(r"\bERROR\b|\berror:|FAILED", line)][:20] or before[-20:]
    shown = "\n".join(f"  {line}" for line in before)
    return BuildFailed(f'build = "{language}" failed: {message.strip()}' + (f"\n{shown}" if shown else ""))


def _said_by_go(said: list[str]) -> str:
    """What the compiler has against the package at the root; "" where there is none. The builder only tells that it
    then found no folder `bootstrap` either."""
    ends = [place for place, line in enumerate(said) if line.startswith("Go files not found.")]
    begins = [place for place, line in enumerate(said) if line.startswith("Trimpath requested")]
    found = said[begins[-1] + 1 : ends[-1]] if begins and ends else []
    return "" if any("no Go files in" in line for line in found) else "\n".join(f"  {line}" for line in found[:20])


def _glibc(runtime: str | None, architecture: str) -> list[str]:
    """provided.al2 has an older C library than compilers assume: 2.26."""
    if runtime != "provided.al2":
        return []
    return ["--target", f"{'aarch64' if architecture == 'arm64' else 'x86_64'}-unknown-linux-gnu.2.26"]


def _settled(language: Language, project: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """What keeps this machine's paths and C library, and the hour, out of what is compiled. What the user set stays."""
    match language:
        case "go":
            found = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
        case "rust":
            home = environment.get("CARGO_HOME") or str(Path(environment.get("HOME", "/")) / ".cargo")
            maps = {str(project): "/src", home: "/cargo"}
            encoded = environment.get("CARGO_ENCODED_RUSTFLAGS")  # before RUSTFLAGS, and a path may hold spaces
            flags = encoded.split("\x1f") if encoded else environment.get("RUSTFLAGS", "").split()
            flags += [f"--remap-path-prefix={here}={there}" for here, there in maps.items()]
            return {"CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags)}
        case "java":
            stamp = "-Dproject.build.outputTimestamp=1980-01-01T00:00:02Z"
            return {"MAVEN_OPTS": " ".join(filter(None, [environment.get("MAVEN_OPTS"), stamp]))}
        case "dotnet":
            found = {"ContinuousIntegrationBuild": "true", "DOTNET_CLI_TELEMETRY_OPTOUT": "1"}
        case _:
            found = {"SOURCE_DATE_EPOCH": "315532800"}
    return {key: each for key, each in found.items() if key not in environment}
