"""Functions that are compiled, by aws-lambda-builders: for real where the tools are, else up to a stand-in's call."""

from __future__ import annotations

import functools
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from pointsman.artifact import Recipe, build
from pointsman.artifact.builds import Builds
from pointsman.artifact.checks import check
from pointsman.errors import BuildFailed, UsageError
from pointsman.model import Artifact

from .test_artifact import ENVIRONMENT, lay, names


def make(
    root: Path,
    home: Path,
    said: list[str] | None = None,
    *,
    environment: dict[str, str] | None = None,
    source: str = ".",
    runtime: str | None = "provided.al2023",
    builds: Builds | None = None,
    **recipe: object,
) -> Artifact:
    settings = {"function": "greeting", "source": str(root / source), "root": str(root), "runtime": runtime, **recipe}
    return build(
        Recipe(**settings),  # type: ignore[arg-type]
        out=home / "out",
        cache=home / "cache",
        environment=environment or ENVIRONMENT,
        say=(lambda line: None) if said is None else said.append,
        builds=builds,
    )


def looks(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All of a tree: names, modes, times, content."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


def stand_in(folder: Path, name: str, script: str) -> dict[str, str]:
    """An environment with a tool of ours first on PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return {**ENVIRONMENT, "PATH": f"{folder}{os.pathsep}{ENVIRONMENT['PATH']}"}


# make

MAKEFILE = """
build-greeting:
\tcp bootstrap $(ARTIFACTS_DIR)/
\tcat ../common/words.txt > $(ARTIFACTS_DIR)/words.txt 2>/dev/null || true
\ttouch left-here && rm bootstrap
build-Other:
\techo other > $(ARTIFACTS_DIR)/bootstrap && chmod +x $(ARTIFACTS_DIR)/bootstrap
build-nothing:
\ttrue
build-broken:
\techo "no such thing" && exit 3
"""


def makefile(root: Path) -> Path:
    lay(root, {"Makefile": MAKEFILE, "bootstrap": "#!/bin/sh\necho hi\n", ".git/HEAD": "", "tests/t.sh": ""})
    (root / "bootstrap").chmod(0o755)
    return root


def test_make_builds_a_copy_and_never_writes_to_the_sources(tmp_path: Path) -> None:
    """Even if they may not be written to, as a read-only checkout or another user's."""
    source = makefile(tmp_path / "src")
    for path in [*source.rglob("*"), source]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = looks(source)

    made = make(source, tmp_path, build="make")

    assert looks(source) == before
    assert names(made) == ["bootstrap", "words.txt"]
    check(made, handler=None, runtime="provided.al2023", bucket=None)
    assert not list((tmp_path / "cache").glob(".making-*"))


def test_a_target_is_named_and_failures_are_in_makes_words(tmp_path: Path) -> None:
    source = makefile(tmp_path / "src")

    assert zipfile.ZipFile(make(source, tmp_path, build="make", target="Other").path).read("bootstrap") == b"other\n"
    with pytest.raises(BuildFailed, match=r"(?s)build = \"make\" failed: .*no such thing"):
        make(source, tmp_path, build="make", target="broken")
    with pytest.raises(BuildFailed, match=r"put nothing into the package\n.*\$\(ARTIFACTS_DIR\)"):
        make(source, tmp_path, build="make", target="nothing")


def test_make_may_leave_its_folder_unquoted_in_a_checkout_with_spaces(tmp_path: Path) -> None:
    source = makefile(tmp_path / "my code" / "src")
    (source / "Makefile").write_text("build-greeting:\n\tcp bootstrap $(ARTIFACTS_DIR)\n")

    assert names(make(source, tmp_path / "my code", build="make")) == ["bootstrap"]


def test_shared_folders_lie_beside_the_copy(tmp_path: Path) -> None:
    root = lay(tmp_path / "src", {"common/words.txt": "shared words"})
    makefile(root / "fn")

    made = make(root, tmp_path, build="make", source="fn", shared=("common",))

    assert zipfile.ZipFile(made.path).read("words.txt") == b"shared words"


# Real compilers, where they are


POM = """
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>hello</groupId><artifactId>hello</artifactId><version>1</version>
  <properties>
    <maven.compiler.release>11</maven.compiler.release><maven.test.skip>true</maven.test.skip>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <build><pluginManagement><plugins>
    <plugin><artifactId>maven-clean-plugin</artifactId><version>3.4.1</version></plugin>
    <plugin><artifactId>maven-resources-plugin</artifactId><version>3.3.1</version></plugin>
    <plugin><artifactId>maven-compiler-plugin</artifactId><version>3.15.0</version></plugin>
    <plugin><artifactId>maven-surefire-plugin</artifactId><version>3.2.5</version></plugin>
    <plugin><artifactId>maven-jar-plugin</artifactId><version>3.5.1</version></plugin>
    <plugin><artifactId>maven-install-plugin</artifactId><version>3.1.4</version></plugin>
  </plugins></pluginManagement></build>
</project>
"""
JAVA = {
    "pom.xml": POM,
    "src/main/java/hello/App.java": 'package hello; public class App { public String run(Object o) { return "hi"; } }',
    "src/main/resources/words.properties": "a=b",
}


def maven(folder: Path) -> dict[str, str]:
    """The real Maven, without the network, but for the plugin that copies dependencies: the sample has none."""
    real = shutil.which("mvn")
    if not real:
        pytest.skip("Maven is not on this machine")
    return stand_in(folder / "bin", "mvn", f'case "$*" in *copy-dependencies*) exit 0;; esac\nexec {real} -o "$@"')


def test_java_is_compiled_to_the_same_bytes_anywhere(tmp_path: Path) -> None:
    environment = maven(tmp_path)
    said: list[str] = []
    made = []
    for place in ("a", "b/c"):
        source = lay(tmp_path / place / "src", JAVA)
        before = looks(source)
        recipe = {"build": "java", "runtime": "java17", "handler": "hello.App::run", "environment": environment}
        try:
            made += [make(source, tmp_path / place, said, **recipe) for _ in range(2)]  # type: ignore[arg-type]
        except BuildFailed as error:
            if "could not be resolved" in str(error):
                pytest.skip("Maven's plugins are not on this machine, and it is not let on the network")
            raise
        assert looks(source) == before

    assert len({each.sha256 for each in made}) == 1
    assert names(made[0]) == ["hello/App.class", "words.properties"]
    assert said.count("building pom.xml by aws-lambda-builders") == 2  # not again for sources that are the same

    lay(tmp_path / "a" / "src", {"src/main/java/hello/App.java": "package hello; public class App {"})
    with pytest.raises(BuildFailed, match=r"(?s)build = \"java\" failed: .*App.java"):
        make(tmp_path / "a" / "src", tmp_path, build="java", runtime="java17", environment=environment)


@functools.cache
def has(*tools: str) -> bool:
    return all(shutil.which(tool) for tool in tools)


@pytest.mark.skipif(not has("cargo", "cargo-lambda"), reason="cargo-lambda is not on this machine")
def test_rust_is_compiled_to_the_same_bytes_anywhere(tmp_path: Path) -> None:
    """A panic has the path of its source in the program: not this machine's."""
    cargo = '[package]\nname = "hello"\nversion = "0.1.0"\nedition = "2021"\n'
    made = []
    for place in ("a", "b/c d"):
        source = lay(tmp_path / place / "src", {"Cargo.toml": cargo, "src/main.rs": 'fn main() { panic!("no") }'})
        before = looks(source)
        made.append(make(source, tmp_path / place, build="rust"))
        assert looks(source) == before

    assert made[0].sha256 == made[1].sha256
    assert str(tmp_path).encode() not in zipfile.ZipFile(made[0].path).read("bootstrap")
    check(made[0], handler=None, runtime="provided.al2023", bucket=None)


@pytest.mark.skipif(not has("go"), reason="Go is not on this machine")
def test_what_gos_compiler_says_is_told(tmp_path: Path) -> None:
    """The builder goes on to look for a folder `bootstrap`, and tells of that alone."""
    files = {"go.mod": "module hello\n\ngo 1.19\n", "main.go": "package main\n\nfunc main() { missing() }\n"}

    with pytest.raises(BuildFailed, match=r"\./main\.go:3:15: undefined: missing"):
        make(lay(tmp_path / "src", files), tmp_path, build="go")


@pytest.mark.skipif(not has("go"), reason="Go is not on this machine")
def test_go_is_compiled_to_the_same_bytes_anywhere(tmp_path: Path) -> None:
    made = []
    for place in ("a", "b/c"):
        files = {"go.mod": "module hello\n\ngo 1.19\n", "main.go": "package main\n\nfunc main() { panic(1) }\n"}
        made.append(make(lay(tmp_path / place / "src", files), tmp_path / place, build="go", architecture="arm64"))

    assert made[0].sha256 == made[1].sha256
    assert zipfile.ZipFile(made[0].path).read("bootstrap")[18:20] == b"\xb7\0"  # arm64


# Stand-ins: what would be called


def test_go_is_called_for_the_functions_architecture_without_paths_or_this_machines_c_library(tmp_path: Path) -> None:
    script = """
        case "$1" in version) echo go version go1.99; exit;; esac
        while [ $# -gt 0 ]; do case "$1" in -o) out=$2;; -trimpath) trim=yes;; esac; shift; done
        echo "$GOOS $GOARCH $CGO_ENABLED $trim" > "$out"; chmod +x "$out"
    """
    environment = stand_in(tmp_path / "bin", "go", script)
    source = lay(tmp_path / "src", {"go.mod": "module hello\n", "main.go": "package main\n"})

    made = make(source, tmp_path, build="go", architecture="arm64", environment=environment)

    assert zipfile.ZipFile(made.path).read("bootstrap") == b"linux arm64 0 yes\n"


def test_a_program_below_the_module_is_named_by_target(tmp_path: Path) -> None:
    """As in SAM, where the handler names it. The module's root has no program: the first call fails."""
    script = """
        case "$1" in version) echo go version go1.99; exit;; esac
        while [ $# -gt 1 ]; do case "$1" in -o) out=$2;; esac; shift; done
        case "$1" in */cmd/api) echo built > "$out"; chmod +x "$out";; *) exit 1;; esac
    """
    environment = stand_in(tmp_path / "bin", "go", script)
    source = lay(tmp_path / "src", {"go.mod": "module hello\n", "cmd/api/main.go": "package main\n"})

    assert names(make(source, tmp_path, build="go", target="cmd/api", environment=environment)) == ["bootstrap"]


def test_a_jdk_8_which_knows_only_version_with_one_dash_is_asked_which_it_is(tmp_path: Path) -> None:
    java = """
        [ "$1" = -version ] || { echo "Unrecognized option: $1" >&2; exit 1; }
        echo "openjdk version \\"1.8.0_$UPDATE\\"" >&2
    """
    mvn = """
        case "$*" in *-version*) echo Java version: 1.8.0; exit;; esac
        mkdir -p target/classes && echo compiled >> "$LOG" && echo class > target/classes/App.class
    """
    stand_in(tmp_path / "bin", "mvn", mvn)
    environment = stand_in(tmp_path / "bin", "java", java) | {"LOG": str(tmp_path / "log")}
    source = lay(tmp_path / "src", {"pom.xml": POM})
    compiled = []
    for update in ("392", "392", "402"):
        made = make(source, tmp_path, build="java", runtime="java8.al2", environment=environment | {"UPDATE": update})
        compiled.append((tmp_path / "log").read_text().count("compiled"))
        assert names(made) == ["App.class"]

    assert compiled[0] == compiled[1] < compiled[2]  # anew by another compiler


GO = """
    case "$1" in version) echo go version go1.99; exit;; esac
    while [ $# -gt 0 ]; do case "$1" in -o) out=$2;; esac; shift; done
    echo compiled >> "$LOG"
    { echo built; cat ../common/words.txt 2>/dev/null; } > "$out"; chmod +x "$out"
"""


def test_functions_of_one_source_are_compiled_once(tmp_path: Path) -> None:
    environment = stand_in(tmp_path / "bin", "go", GO) | {"LOG": str(tmp_path / "log")}
    source = lay(tmp_path / "src", {"go.mod": "module hello\n", "main.go": "package main\n"})

    one, other = (make(source, tmp_path, build="go", function=each, environment=environment) for each in ("a", "b"))

    assert (tmp_path / "log").read_text() == "compiled\n"
    assert one.sha256 == other.sha256
    make(source, tmp_path, build="go", function="b", architecture="arm64", environment=environment)
    assert (tmp_path / "log").read_text() == "compiled\n" * 2


def test_shared_code_that_changed_is_compiled_anew(tmp_path: Path) -> None:
    environment = stand_in(tmp_path / "bin", "go", GO) | {"LOG": str(tmp_path / "log")}
    root = tmp_path / "src"
    found = []
    for words in ("one", "two"):
        lay(root, {"fn/go.mod": "module hello\n", "fn/main.go": "package main\n", "common/words.txt": words})
        made = make(root, tmp_path, build="go", source="fn", shared=("common",), environment=environment)
        found.append(zipfile.ZipFile(made.path).read("bootstrap"))

    assert found == [b"built\none", b"built\ntwo"]


def test_a_make_target_is_run_once_by_each_command(tmp_path: Path) -> None:
    """A Makefile may ask anything: the next command runs it again, but it gives all of this one the same."""
    makefile = "build-all:\n\techo run >> $(LOG)\n\techo $$(wc -l < $(LOG)) > $(ARTIFACTS_DIR)/bootstrap\n"
    source = lay(tmp_path / "src", {"Makefile": makefile})
    environment = ENVIRONMENT | {"LOG": str(tmp_path / "log")}
    recipe = {"build": "make", "target": "all", "environment": environment}

    def command() -> list[str]:
        builds = Builds()
        made = [make(source, tmp_path, function=each, builds=builds, **recipe) for each in ("a", "b")]  # type: ignore[arg-type]
        return [each.sha256 for each in made]

    first, second = command(), command()

    assert (tmp_path / "log").read_text() == "run\n" * 2
    assert first[0] == first[1] != second[0] == second[1]
    assert not list((tmp_path / "cache").glob(".making-*"))


OLD_GO = "module hello\n\nrequire (\n\tgithub.com/aws/aws-lambda-go v1.8.0{}\n)\n"
USES_IT = 'package main\n\nimport "github.com/aws/aws-lambda-go/lambda"\n\nfunc main() { lambda.Start(nil) }\n'


def test_a_go_library_that_would_never_answer_is_refused(tmp_path: Path) -> None:
    """It waits for a call by the protocol of the runtime go1.x: on AWS, too, nothing is seen of that but a timeout."""
    environment = stand_in(tmp_path / "bin", "go", "exit 1")
    source = lay(tmp_path / "src", {"go.mod": OLD_GO.format(""), "main.go": USES_IT})

    with pytest.raises(BuildFailed, match=r"aws-lambda-go v1.8.0, which serves the runtime go1.x alone.*\n`go get"):
        make(source, tmp_path, build="go", environment=environment)


@pytest.mark.parametrize(
    "files",
    [
        {"go.mod": OLD_GO.format(" // indirect")},
        {"go.mod": OLD_GO.format("") + "replace github.com/aws/aws-lambda-go => ../newer\n"},
        {"go.mod": OLD_GO.format("").replace("1.8.0", "1.47.0")},
        {"main.go": USES_IT.replace("lambda-go/lambda", "lambda-go/events")},
    ],
    ids=["another's", "replaced", "newer", "not called"],
)
def test_a_go_library_that_may_answer_is_not(tmp_path: Path, files: dict[str, str]) -> None:
    script = """
        case "$1" in version) echo go version go1.22; exit;; esac
        while [ $# -gt 1 ]; do case "$1" in -o) out=$2;; esac; shift; done
        echo built > "$out"; chmod +x "$out"
    """
    environment = stand_in(tmp_path / "bin", "go", script)
    source = lay(tmp_path / "src", {"go.mod": OLD_GO.format(""), "main.go": USES_IT, **files})

    assert names(make(source, tmp_path, build="go", environment=environment)) == ["bootstrap"]


def test_another_ruby_than_the_runtimes_is_refused(tmp_path: Path) -> None:
    """It would install gems where the runtime's Ruby does not look."""
    stand_in(tmp_path / "bin", "ruby", "echo ruby 3.1.2p20")
    environment = stand_in(tmp_path / "bin", "bundle", "exit 1")
    source = lay(tmp_path / "src", {"Gemfile": "gem 'rack'\n", "app.rb": ""})

    with pytest.raises(BuildFailed, match=r"the ruby on PATH is 3.1, .*: not for ruby3.4"):
        make(source, tmp_path, build="ruby", runtime="ruby3.4", environment=environment)


def test_gems_lie_below_the_sources_and_are_installed_once_for_a_lock(tmp_path: Path) -> None:
    """Bundler is called in a folder with nothing in it but what it reads."""
    bundle = """
        case "$*" in *--version*) echo 2.5; exit;; esac
        [ -e "$LOG" ] || ls -A > "$LOG"
        mkdir -p vendor/bundle/ruby/3.4.0/gems/rack-3.0/lib vendor/bundle/ruby/3.4.0/specifications
        mkdir -p vendor/bundle/ruby/3.4.0/cache && touch vendor/bundle/ruby/3.4.0/cache/rack-3.0.gem
        echo x > vendor/bundle/ruby/3.4.0/gems/rack-3.0/lib/rack.rb
        echo x > vendor/bundle/ruby/3.4.0/specifications/rack-3.0.gemspec
    """
    environment = stand_in(tmp_path / "bin", "bundle", bundle)
    environment |= stand_in(tmp_path / "bin", "ruby", "echo ruby 3.4.1") | {"LOG": str(tmp_path / "log")}
    source = lay(tmp_path / "src", {"Gemfile": "gem 'rack'\n", "Gemfile.lock": "", "app.rb": "", "tests/t.rb": ""})
    said: list[str] = []
    recipe = {"build": "ruby", "runtime": "ruby3.4", "handler": "app.handler", "environment": environment}

    made = make(source, tmp_path, said, **recipe)  # type: ignore[arg-type]
    lay(source, {"app.rb": "puts 1"})
    again = make(source, tmp_path, said, **recipe)  # type: ignore[arg-type]

    assert (tmp_path / "log").read_text().split() == ["Gemfile", "Gemfile.lock"]
    assert "vendor/bundle/ruby/3.4.0/gems/rack-3.0/lib/rack.rb" in names(made)
    assert not any("cache" in name or name.startswith("tests") for name in names(made))
    assert [line for line in said if line.startswith("bundle")] == ["bundle install for ruby3.4 in a scratch folder"]
    assert made.sha256 != again.sha256
    check(again, handler="app.handler", runtime="ruby3.4", bucket=None)


@pytest.mark.parametrize(
    ("kind", "files", "why"),
    [
        ("java", {"pom.xml": ""}, r"java is not on PATH, and build = \"java\" needs it\nInstall a JDK and Maven"),
        ("java", {"build.gradle": ""}, r"java is not on PATH.*\nInstall Gradle, or commit its wrapper"),
        ("go", {"go.mod": ""}, r"go is not on PATH, and build = \"go\" needs it\nInstall Go"),
        ("dotnet", {"a.csproj": ""}, r"dotnet is not on PATH.*\nInstall the .NET SDK"),
        ("rust", {"Cargo.toml": ""}, r"cargo is not on PATH.*\nInstall Rust .*pip install cargo-lambda"),
        ("make", {"Makefile": ""}, r"make is not on PATH.*\nInstall GNU Make"),
        ("ruby", {"Gemfile": ""}, r"ruby is not on PATH.*\nInstall Ruby"),
    ],
)
def test_a_tool_that_is_missing_is_named_with_where_it_is_had(
    tmp_path: Path, kind: str, files: dict[str, str], why: str
) -> None:
    with pytest.raises(BuildFailed, match=why):
        make(lay(tmp_path / "src", files), tmp_path, build=kind, environment={"PATH": "/nowhere"}, runtime="java21")


def test_a_source_without_the_languages_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"build = \"java\" needs pom.xml or build.gradle in the source folder"):
        make(lay(tmp_path / "src", {"a.txt": ""}), tmp_path, build="java")
