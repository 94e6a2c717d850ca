"""Packages without dependencies: which files, which bytes, which refusals."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.artifact import Recipe, build, inspect
from pointsman.artifact.archive import Member
from pointsman.artifact.checks import check
from pointsman.artifact.packing import write
from pointsman.errors import BuildFailed, UsageError
from pointsman.model import Artifact

from .test_testrun import ends

ENVIRONMENT = dict(os.environ)  # whole, for a machine may reach the registries only with its own certificates


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def make(source: Path, home: Path, said: list[str] | None = None, **recipe: object) -> Artifact:
    settings = {"function": "greeting", "source": str(source), "build": "python", **recipe}
    say = (lambda line: None) if said is None else said.append
    return build(
        Recipe(**settings),  # type: ignore[arg-type]
        out=home / "out",
        cache=home / "cache",
        environment=ENVIRONMENT,
        say=say,
    )


def names(artifact: Artifact) -> list[str]:
    return zipfile.ZipFile(artifact.path).namelist()


# Which files


def test_the_sample_project_gives_its_code_and_nothing_else(tmp_path: Path) -> None:
    """The layout of the second seed article: tests, scripts, template and documentation are not the function."""
    source = lay(
        tmp_path / "src",
        {
            ".gitignore": "node_modules/",
            ".git/config": "",
            "README.md": "# greeting",
            "cloudformation.template": '{"Resources": {"F": {"Type": "AWS::Lambda::Function"}}}',
            "index.js": "exports.handler = async () => 'hi'",
            "lib/greeter.js": "",
            "package.json": '{"devDependencies": {"mocha": "2.5.3"}}',
            "node_modules/mocha/index.js": "",
            "integration-test/greeting-lambda-test.js": "",
            "test/greeter-test.js": "",
            "scripts/1-test.sh": "",
            "xunit-test.xml": "<testsuite/>",
        },
    )
    said: list[str] = []

    made = make(source, tmp_path, said, build="node", handler="index.handler", runtime="nodejs20.x")

    assert names(made) == ["index.js", "lib/greeter.js", "package.json"]
    assert said == [
        "left out: cloudformation.template, integration-test/, scripts/…, test/, xunit-test.xml"
        " (`include` brings back what it names)"
    ]
    check(made, handler="index.handler", runtime="nodejs20.x", bucket=None)


def test_a_file_that_only_looks_like_a_template_stays(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "", "welcome.template": "Dear {name}", "openapi.yaml": "openapi: 3.1.0"})

    assert names(make(source, tmp_path)) == ["app.py", "openapi.yaml", "welcome.template"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("**",), (), ["app.py", "lib/a.py"]),
        (("**", "tests/**"), (), ["app.py", "lib/a.py", "tests/deep/t.py", "tests/t.py"]),
        (("**", "tests/t.py"), (), ["app.py", "lib/a.py", "tests/t.py"]),
        (("**", "*.zip"), (), ["app.py", "lib/a.py", "lib/data.zip"]),
        (("lib/**",), (), ["lib/a.py"]),
        (("**", "!lib/a.py"), (), ["app.py"]),
        (("**",), ("lib/",), ["app.py"]),
        (("**", "tests/**"), ("tests/deep/",), ["app.py", "lib/a.py", "tests/t.py"]),
        (("**", ".env.production"), (), [".env.production", "app.py", "lib/a.py"]),
    ],
)
def test_an_include_that_names_what_a_default_leaves_out_brings_it_back(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    paths = ("app.py", "lib/a.py", "lib/data.zip", "lib/__pycache__/a.cpython-311.pyc", "tests/t.py")
    more = ("tests/deep/t.py", "tests/__pycache__/t.pyc", ".env", ".env.production", ".venv/x.py", ".DS_Store")
    source = lay(tmp_path / "src", {name: name for name in (*paths, *more)})

    assert names(make(source, tmp_path, include=include, exclude=exclude)) == expected


@pytest.mark.parametrize("handler", ["tests/echo.handler", "tests.echo.handler", "./tests/echo.handler"])
def test_the_handlers_folder_is_never_lost(tmp_path: Path, handler: str) -> None:
    source = lay(
        tmp_path / "src", {"tests/echo.py": "handler = print", "tests/other.py": "", "e2e/x.py": "", "app.py": ""}
    )

    made = make(source, tmp_path, handler=handler)

    assert names(made) == ["app.py", "tests/echo.py", "tests/other.py"]
    check(made, handler=handler, runtime="python3.13", bucket=None)


@pytest.mark.parametrize("exclude", [("data/**", "!data/x.csv"), ("data/*", "!data/x.csv")])
def test_what_an_exclude_brings_back_is_packaged_as_git_would_have_it(tmp_path: Path, exclude: tuple[str, ...]) -> None:
    tree = {"index.py": "", "data/x.csv": "", "data/y.csv": "", "data/deep/x.csv": ""}
    source = lay(tmp_path / "src", tree)
    lay(tmp_path / "git", {**tree, ".gitignore": "\n".join((*exclude, ".gitignore"))})
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "git", check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-o", "--exclude-standard"],
        cwd=tmp_path / "git",
        check=True,
        capture_output=True,
        text=True,
    )

    assert names(make(source, tmp_path, exclude=exclude)) == listed.stdout.split()


def test_files_of_ci_systems_and_of_coverage_do_not_decide_a_package(tmp_path: Path) -> None:
    source = lay(
        tmp_path / "src", {"index.py": "", "Jenkinsfile": "", "bitbucket-pipelines.yml": "", "coverage.xml": ""}
    )
    lay(source, {".coverage": "", "azure-pipelines.yml": "", "deep/Jenkinsfile": ""})

    assert names(make(source, tmp_path)) == ["deep/Jenkinsfile", "index.py"]


def test_never_and_our_own_folders_are_left_out_whatever_is_included(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "", "reports/junit.xml": "", "state/ledger.db": ""})
    wanted = ("**", "reports/**", "out/**", "cache/**", "state/**")

    first = make(source, source, include=wanted, never=("reports/junit.xml", "state", "../elsewhere"))
    second = make(source, source, include=wanted, never=("reports/junit.xml", "state", "../elsewhere"))

    assert names(first) == ["app.py"]
    assert second.cached


def test_a_private_key_is_refused_until_it_is_named(tmp_path: Path) -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 8 + "\n-----END RSA PRIVATE KEY-----\n"
    account = '{"type": "service_account", "private_key": "' + key.replace("\n", "\\n") + '"}'
    files = {
        "app.py": "",
        "certs/server.pem": key,
        "certs/ca.pem": "-----BEGIN CERTIFICATE-----\n",
        "gcp.json": account,
    }
    source = lay(tmp_path / "src", files)

    with pytest.raises(
        BuildFailed, match=r"^building greeting: private keys would be packaged: certs/server.pem, gcp.json"
    ):
        make(source, tmp_path)
    by_name = make(source, tmp_path, include=("**", "certs/server.pem", "gcp.json"))

    assert names(by_name) == ["app.py", "certs/ca.pem", "certs/server.pem", "gcp.json"]
    assert names(make(source, tmp_path, exclude=("certs/server.pem", "gcp.json"))) == ["app.py", "certs/ca.pem"]


def test_a_packages_key_in_a_folder_that_was_installed_is_packaged(tmp_path: Path) -> None:
    """A layer that a script fills by `pip install --target`: packages bring keys for their tests."""
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 8 + "\n-----END RSA PRIVATE KEY-----\n"
    files = {
        "made/python/future/tests/badcert.pem": key,
        "made/python/future-1.dist-info/RECORD": "future/tests/badcert.pem,sha256=abc,1\n",
    }
    source = lay(tmp_path / "src", files)
    command = {"build": "command", "command": "rm -rf layer && cp -r made layer", "artifact": "layer"}

    assert "python/future/tests/badcert.pem" in names(make(source, tmp_path, **command))
    lay(source, {"made/mine.pem": key})
    with pytest.raises(BuildFailed, match=r"private keys would be packaged: mine.pem\n"):
        make(source, tmp_path, **command)


def test_source_code_that_mentions_a_key_is_no_key(tmp_path: Path) -> None:
    source = lay(
        tmp_path / "src", {"pem.py": "MARK = '-----BEGIN PRIVATE KEY-----'", "mark.pem": "-----BEGIN PRIVATE KEY-----"}
    )

    assert names(make(source, tmp_path)) == ["mark.pem", "pem.py"]


def test_nothing_to_package_is_an_error(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"test/a.js": ""})

    with pytest.raises(BuildFailed, match="has no file to package"):
        make(source, tmp_path)
    with pytest.raises(BuildFailed, match="there is no folder"):
        make(tmp_path / "nowhere", tmp_path)
    with pytest.raises(BuildFailed, match="there is no folder"):
        make(source / "test" / "a.js", tmp_path)


def test_what_cannot_be_packaged_is_named(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": ""})
    # A socket's path is limited to some 100 letters.
    with socket.socket(socket.AF_UNIX) as listening, tempfile.TemporaryDirectory(dir="/tmp") as short:
        listening.bind(f"{short}/s")
        Path(short, "s").rename(source / "agent.sock")
    with pytest.raises(BuildFailed, match=r"agent\.sock is neither a file nor a folder"):
        make(source, tmp_path)
    (source / "agent.sock").unlink()

    (source / os.fsdecode(b"caf\xe9.py")).touch()
    with pytest.raises(BuildFailed, match="is not UTF-8"):
        make(source, tmp_path)


@pytest.mark.parametrize("what", ["lib/secret.py", "lib"])
def test_an_unreadable_file_or_folder_is_named(what: str) -> None:
    """Root may read everything, so it becomes nobody for this test."""
    home = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        source = lay(home / "src", {"app.py": "", "lib/secret.py": ""})
        make(source, home)  # imports all that is needed, which nobody might not be allowed to read
        for path in (home, home / "out", home / "cache"):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        (source / what).chmod(0)
        if was_root := os.geteuid() == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(BuildFailed, match=f"{what}/? cannot be read: Permission denied"):
                make(source, home)
        finally:
            if was_root:
                os.seteuid(0)
            (source / what).chmod(0o755)
        assert not list((home / "out").glob(".*")), "no half-written zip is left"
    finally:
        shutil.rmtree(home)


# Links


def test_links_inside_are_kept_as_links_and_resolve_after_unzip(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"v2/app.py": "print('hi')", "a/b/data.txt": "x"})
    (source / "current").symlink_to("v2")
    (source / "app.py").symlink_to("current/app.py")
    (source / "a" / "up.txt").symlink_to("../v2/../a/b/data.txt")
    (source / "absolute.py").symlink_to(source / "v2" / "app.py")

    made = make(source, tmp_path)
    subprocess.run(["unzip", "-q", made.path, "-d", tmp_path / "there"], check=True)

    there = tmp_path / "there"
    assert {str(p.relative_to(there)): str(p.readlink()) for p in there.rglob("*") if p.is_symlink()} == {
        "current": "v2",
        "app.py": "current/app.py",
        "a/up.txt": "../v2/../a/b/data.txt",
        "absolute.py": "v2/app.py",
    }
    assert (there / "app.py").read_text() == "print('hi')"
    assert (there / "a" / "up.txt").read_text() == "x"
    assert made.files == 6


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("../outside.py", "outside of the source folder"),
        ("/etc/hostname", "outside of the source folder"),
        ("lib/../../src/app.py", "outside of the source folder"),
        ("gone.py", "not in the package"),
        ("tests/t.py", "not in the package"),
        ("link.py", "not in the package"),
    ],
)
def test_links_that_would_lead_nowhere_are_refused(tmp_path: Path, target: str, why: str) -> None:
    source = lay(tmp_path / "src", {"app.py": "", "lib/x.py": "", "tests/t.py": ""})
    lay(tmp_path, {"outside.py": ""})
    (source / "link.py").symlink_to(target)

    with pytest.raises(BuildFailed, match=rf"link.py is a link to {target}, .*{why}"):
        make(source, tmp_path)


# Which bytes


def test_two_checkouts_give_the_same_bytes(tmp_path: Path) -> None:
    """Other path, times, umask and order of creation: equal bytes, or every build would be published anew."""
    files = {"app.py": "x" * 1000, "lib/b.py": "b", "lib/a.py": "a", "lib-x/é.py": "", "bootstrap": "#!/bin/sh\n"}
    digests = set()
    for place, umask, reverse, time in (("one", 0o022, False, 1e9), ("two/deeper", 0o077, True, 1.7e9)):
        before = os.umask(umask)
        try:
            source = lay(tmp_path / place, dict(sorted(files.items(), reverse=reverse)))
            (source / "bootstrap").chmod(0o777 & ~umask)
            for path in source.rglob("*"):
                os.utime(path, (time, time))
            digests.add(make(source, tmp_path / f"home-{reverse}").sha256)
        finally:
            os.umask(before)

    assert len(digests) == 1


def test_the_bytes_are_these(tmp_path: Path) -> None:
    """Pinned: a Python or a library that changed them would publish every function anew. Nothing here is deflated, so
    the machine's zlib has no say."""
    lay(tmp_path, {"a.py": "1", "ü": "", "run": "x"})
    held = io.BytesIO()
    members = [
        Member("ü", tmp_path / "ü"),
        Member("run", tmp_path / "run", executable=True),
        Member("a.py", tmp_path / "a.py"),
        Member("link", tmp_path / "link", link="a.py"),
    ]

    written = write(members, held)

    assert written.digest == hashlib.sha256(held.getvalue()).digest()
    assert (written.size, written.files, written.unzipped) == (len(held.getvalue()), 4, 6)
    assert written.digest.hex() == "2469c44f31999211d2bf56e73888060d148114dfe2b04c0306d4b4b5b74c82c3"


def test_deflated_files_round_trip_through_info_zip_and_python(tmp_path: Path) -> None:
    source = lay(
        tmp_path / "src", {"big.txt": "again and again " * 5000, "bin/run.sh": "#!/bin/sh\necho hi\n", "empty": ""}
    )
    (source / "bin" / "run.sh").chmod(0o755)
    (source / "random").write_bytes(os.urandom(5000))

    made = make(source, tmp_path)

    assert made.size < 8000
    subprocess.run(["unzip", "-tq", made.path], check=True, capture_output=True)
    subprocess.run(["unzip", "-q", made.path, "-d", tmp_path / "there"], check=True)
    for path in source.rglob("*"):
        if path.is_file():
            other = tmp_path / "there" / path.relative_to(source)
            assert other.read_bytes() == path.read_bytes()
            assert other.stat().st_mode & 0o111 == path.stat().st_mode & 0o111
    with zipfile.ZipFile(made.path) as zipped:
        assert zipped.testzip() is None
        assert {info.date_time for info in zipped.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=12),
        st.tuples(st.binary(max_size=300), st.booleans()),
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_any_files_come_back_as_they_were(contents: dict[str, tuple[bytes, bool]], random: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        members = []
        for number, (name, (data, executable)) in enumerate(contents.items()):
            path = Path(folder) / str(number)
            path.write_bytes(data)
            members.append(Member(f"a/{name}", path, executable))
        shuffled = list(members)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        one, other = io.BytesIO(), io.BytesIO()
        write(members, one)
        write(shuffled, other)

    with zipfile.ZipFile(one) as zipped:
        back = {i.filename: (zipped.read(i), bool(i.external_attr >> 16 & 0o111)) for i in zipped.infolist()}
        order = zipped.namelist()
    assert back == {f"a/{name}": content for name, content in contents.items()}
    assert order == sorted(order, key=str.encode)
    assert one.getvalue() == other.getvalue()


def test_more_than_65535_files_need_zip64(tmp_path: Path) -> None:
    lay(tmp_path, {"x": "x"})
    with (tmp_path / "many.zip").open("wb") as file:
        write((Member(f"{number:05}", tmp_path / "x") for number in range(65_536)), file)

    told = subprocess.run(
        ["unzip", "-Z", "-h", tmp_path / "many.zip"], check=True, capture_output=True, text=True
    ).stdout
    assert "number of entries: 65536" in told
    with zipfile.ZipFile(tmp_path / "many.zip") as zipped:
        assert len(zipped.namelist()) == 65_536
        assert zipped.read("65535") == b"x"


# What is kept


def test_a_second_build_writes_nothing(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "1"})

    first, second = make(source, tmp_path), make(source, tmp_path)

    assert (first.cached, second.cached) == (False, True)
    assert (first.path, first.sha256) == (second.path, second.sha256)
    digest = hashlib.sha256(Path(first.path).read_bytes())
    assert base64.b64decode(first.sha256) == digest.digest()
    assert Path(first.path).name == f"greeting-{digest.hexdigest()[:16]}.zip"
    assert first.size == Path(first.path).stat().st_size


def test_a_zip_damaged_since_is_written_again(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "1"})
    first = make(source, tmp_path)
    Path(first.path).write_bytes(b"PK")

    second = make(source, tmp_path)

    assert not second.cached
    assert inspect(Path(second.path), "greeting").sha256 == first.sha256


def test_the_newest_five_of_a_function_are_kept_and_others_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "src"
    lay(tmp_path / "out", {"greeting-other-0123456789abcdef.zip": "", "notes.txt": ""})
    made = []
    for number in range(7):
        lay(source, {"app.py": str(number)})
        made.append(Path(make(source, tmp_path).path))
        os.utime(made[-1], (1e9 + number, 1e9 + number))
        os.utime(made[-1].with_suffix(".note"), (1e9 + number, 1e9 + number))
    lay(source, {"app.py": "2"})  # kept until now: the newest again

    again = make(source, tmp_path)

    left = {path.name for path in (tmp_path / "out").iterdir()}
    kept = {made[2], *made[3:]}
    expected = {
        path.name for path in (*kept, *(path.with_suffix(end) for path in kept for end in (".note", ".about")))
    } | {
        "greeting-other-0123456789abcdef.zip",
        "notes.txt",
    }
    assert again.cached
    assert left == expected


def test_the_sources_are_not_written_to(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "1", "lib/a.py": ""})
    before = {path: path.stat() for path in (source, *source.rglob("*"))}

    make(source, tmp_path)

    after = {path: path.stat() for path in (source, *source.rglob("*"))}
    assert {p: (s.st_mtime_ns, s.st_ctime_ns) for p, s in after.items()} == {
        p: (s.st_mtime_ns, s.st_ctime_ns) for p, s in before.items()
    }


# Commands and ready zips


def test_a_command_makes_the_zip_which_is_taken_as_it_is(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "hello", "tests/t.py": ""})
    said: list[str] = []

    made = make(
        source, tmp_path, said, build="command", command="echo zipping; zip -qr app.zip app.py", artifact="app.zip"
    )

    assert Path(made.path).read_bytes() == (source / "app.zip").read_bytes()
    assert (made.files, made.unzipped) == (1, 5)
    assert said == ["$ echo zipping; zip -qr app.zip app.py", "zipping"]


def test_a_command_makes_a_folder_which_we_package_with_what_it_holds(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"index.ts": ""})
    command = "mkdir -p dist/node_modules dist/test; cd dist; touch index.js node_modules/i.js test/x.js .DS_Store"

    made = make(source, tmp_path, build="command", command=command, artifact="dist")

    assert names(made) == ["index.js", "node_modules/i.js", "test/x.js"]


@pytest.mark.parametrize("artifact", ["old.zip", "dist"])
def test_what_the_command_did_not_touch_is_not_deployed(tmp_path: Path, artifact: str) -> None:
    """The classic: the build step silently does nothing, and last week's zip goes out."""
    source = lay(tmp_path / "src", {"old.zip": "", "dist/index.js": ""})

    with pytest.raises(BuildFailed, match=f"`true` ended well, but did not touch {artifact}, which is from before"):
        make(source, tmp_path, build="command", command="true", artifact=artifact)


def test_a_failing_command_shows_its_exit_code_and_last_lines(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": ""})

    with pytest.raises(BuildFailed) as caught:
        make(source, tmp_path, build="command", command="seq 1 100; echo broken >&2; exit 3", artifact="a.zip")

    assert "ended with exit code 3" in str(caught.value)
    assert str(caught.value).endswith("  99\n  100\n  broken")
    assert "  81\n" not in str(caught.value)


def test_an_interrupted_build_ends_its_command_and_leaves_no_zip(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": ""})
    program = f"""
from pathlib import Path; from pointsman.artifact import Recipe, build
recipe = Recipe(function="f", source={str(source)!r}, build="command", artifact="a.zip",
    command="sleep 300 & echo $! > pid; touch a.zip; echo ready; wait")
build(recipe, out=Path({str(tmp_path / "out")!r}), cache=Path({str(tmp_path / "cache")!r}),
    environment={{"PATH": "/usr/bin:/bin"}}, say=lambda line: print(line, flush=True))
"""
    builder = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert builder.stdout
    assert [builder.stdout.readline() for _ in range(2)][1] == "ready\n"

    builder.send_signal(signal.SIGINT)
    _, errors = builder.communicate(timeout=60)

    assert "KeyboardInterrupt" in errors
    assert ends(int((source / "pid").read_text()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ({"build": "command", "command": "true", "artifact": "a.zip"}, "`true` ended well, but there is no a.zip"),
        ({"build": "zip", "artifact": "a.zip"}, "there is no a.zip"),
        ({"build": "zip"}, "needs `artifact`"),
        ({"build": "command", "artifact": "a.zip"}, "needs `command`"),
    ],
)
def test_an_incomplete_recipe_is_refused(tmp_path: Path, recipe: dict[str, str], why: str) -> None:
    with pytest.raises((BuildFailed, UsageError), match=f"building greeting: .*{why}"):
        make(lay(tmp_path / "src", {"x": ""}), tmp_path, **recipe)


def test_a_ready_zip_is_taken_as_it_is(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "x"})
    subprocess.run(["zip", "-q", "ready.zip", "app.py"], cwd=source, check=True)

    first = make(source, tmp_path, build="zip", artifact="ready.zip")
    second = make(source, tmp_path, build="zip", artifact="ready.zip")

    assert Path(first.path).read_bytes() == (source / "ready.zip").read_bytes()
    assert (first.cached, second.cached) == (False, True)
    assert inspect(source / "ready.zip", "greeting").sha256 == first.sha256


def odd_zip(path: Path, name: str = "app.py", data: bytes = b"x" * 100, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as zipped:
        zipped.writestr(name, data)
    return path


def assembly(folder: Path, word: str) -> None:
    """What `cdk synth` leaves of a function whose code is `word`."""
    code = {"S3Bucket": {"Fn::Sub": "assets-${AWS::AccountId}"}, "S3Key": f"{word}.zip"}
    function = {"Type": "AWS::Lambda::Function", "Properties": {"Code": code}}
    to = {"here": {"bucketName": "assets", "objectKey": f"{word}.zip"}}
    files = {word: {"source": {"path": f"asset.{word}", "packaging": "zip"}, "destinations": to}}
    lay(folder, {f"asset.{word}/index.js": f"exports.handler = async () => '{word}'"})
    lay(folder, {"App.template.json": json.dumps({"Resources": {"F1": function}})})
    lay(folder, {"App.assets.json": json.dumps({"files": files})})


def test_an_asset_of_the_cdks_is_found_by_the_template_whatever_it_is_called(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"cdk.json": "{}"})
    for word in ("one", "two"):
        assembly(source / "cdk.out", word)  # the folders of earlier ones stay

        made = make(source, tmp_path, build="zip", artifact="cdk.out/App.template.json#F1")

        with zipfile.ZipFile(made.path) as zipped:
            assert (zipped.namelist(), word.encode() in zipped.read("index.js")) == (["index.js"], True)


@pytest.mark.parametrize(
    ("artifact", "what"),
    [
        ("cdk.out/App.template.json#Nothing", "App.template.json has no function Nothing"),
        ("cdk.out/Other.template.json#F1", "there is no .*Other.template.json"),
    ],
)
def test_an_asset_that_is_not_there_is_said_with_what_to_do(tmp_path: Path, artifact: str, what: str) -> None:
    source = lay(tmp_path / "src", {})
    assembly(source / "cdk.out", "one")

    with pytest.raises(BuildFailed, match=what) as caught:
        make(source, tmp_path, build="zip", artifact=artifact)

    assert caught.value.next


def test_an_asset_that_was_cleared_away_is_said_to_be_synthesised_again(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {})
    assembly(source / "cdk.out", "one")
    shutil.rmtree(source / "cdk.out/asset.one")

    with pytest.raises(BuildFailed, match="F1 has no asset in") as caught:
        make(source, tmp_path, build="zip", artifact="cdk.out/App.template.json#F1")

    assert caught.value.next == "Run `npx cdk synth` first."


def test_zips_that_lambda_could_not_unzip_are_refused(tmp_path: Path) -> None:
    damaged = odd_zip(tmp_path / "damaged.zip", data=os.urandom(100), method=zipfile.ZIP_STORED)
    raw = bytearray(damaged.read_bytes())
    raw[60] ^= 1
    damaged.write_bytes(raw)
    locked = odd_zip(tmp_path / "locked.zip")
    subprocess.run(["zip", "-q", "-P", "secret", "locked.zip", __file__], cwd=tmp_path, check=True)
    lay(tmp_path, {"text.zip": "not a zip"})
    cases = {
        damaged: "damaged: app.py",
        locked: "is encrypted",
        tmp_path / "text.zip": "is not a zip",
        tmp_path / "gone.zip": "there is no",
        odd_zip(tmp_path / "up.zip", "../up.py"): "lies outside",
        odd_zip(tmp_path / "win.zip", "lib\\a.py"): "separated by /",
        odd_zip(tmp_path / "xz.zip", method=zipfile.ZIP_LZMA): "other than deflate",
    }

    for path, why in cases.items():
        with pytest.raises(BuildFailed, match=why):
            inspect(path, "greeting")


# What Lambda would refuse


def sized(path: Path, *, size: int = 1000, **changes: object) -> Artifact:
    made = inspect(path, "greeting")
    return Artifact(
        function="greeting", path=str(path), sha256=made.sha256, size=size, unzipped=made.unzipped, files=made.files
    )


def test_more_than_fits_into_a_request_needs_a_bucket(tmp_path: Path) -> None:
    path = odd_zip(tmp_path / "a.zip")

    check(sized(path, size=50 * 1024 * 1024), handler=None, runtime=None, bucket=None)
    with pytest.raises(BuildFailed, match=r"52,428,801 bytes zipped are more than the 52,428,800 .*\nSet `bucket` in"):
        check(sized(path, size=50 * 1024 * 1024 + 1), handler=None, runtime=None, bucket=None)
    check(sized(path, size=50 * 1024 * 1024 + 1), handler=None, runtime=None, bucket="packages")


def test_more_than_lambda_unzips_is_refused_with_what_is_largest(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": ""})
    for name, size in (("models/a.bin", 250_000_000), ("models/b.bin", 10_000_000), ("lib/c.bin", 3_000_000)):
        (source / name).parent.mkdir(exist_ok=True)
        with (source / name).open("wb") as file:
            file.truncate(size)

    with pytest.raises(
        BuildFailed,
        match="263,000,000 bytes unzipped are more than Lambda's 262,144,000; the largest: models 260 MB, lib 3 MB",
    ):
        make(source, tmp_path)


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("folder/", "")

    with pytest.raises(BuildFailed, match="it is empty"):
        check(inspect(tmp_path / "a.zip", "greeting"), handler=None, runtime=None, bucket=None)


@pytest.mark.parametrize(
    ("handler", "runtime", "files"),
    [
        ("index.handler", "nodejs20.x", ["index.js"]),
        ("index.handler", "nodejs22.x", ["index.mjs"]),
        ("src/api/index.nested.handler", "nodejs22.x", ["src/api/index.cjs"]),
        ("app.index", "nodejs22.x", ["app/index.js"]),
        ("datadog/handler.handler", "nodejs22.x", ["node_modules/datadog/handler.js"]),
        ("app.handler", "python3.13", ["app.py"]),
        ("shop.api.handler", "python3.13", ["shop/api.py"]),
        ("shop/api.handler", "python3.13", ["shop/api/__init__.py"]),
        ("fast.handler", "python3.13", ["fast.cpython-313-x86_64-linux-gnu.so"]),
        ("app.Shop::Api.process", "ruby3.3", ["app.rb"]),
        ("anything", "provided.al2023", ["bootstrap"]),
        ("public/index.php", "provided.al2", ["public/index.php"]),
        ("com.example.Api::handle", "java21", ["lib/api.jar"]),
        ("/opt/nodejs/wrapper.handler", "nodejs22.x", ["x.js"]),
    ],
)
def test_the_handlers_file_is_found_where_the_runtime_finds_it(
    tmp_path: Path, handler: str, runtime: str, files: list[str]
) -> None:
    texts = {".py": "handler = print"}
    called = handler.rpartition("/")[2].partition(".")[2].partition(".")[0]
    texts |= dict.fromkeys((".js", ".mjs", ".cjs"), f"exports.{called} = print")
    source = lay(tmp_path / "src", {name: texts.get(Path(name).suffix, "x") for name in files})
    for name in files:
        (source / name).chmod(0o755)

    made = make(source, tmp_path, build="zip", artifact=".")

    check(made, handler=handler, runtime=runtime, bucket=None)


@pytest.mark.parametrize(
    ("handler", "runtime", "files", "why"),
    [
        (
            "index.handler",
            "nodejs20.x",
            ["src/index.js", "a.js"],
            r"looked for in index\.js, .*\nNear it: src/index\.js\.",
        ),
        ("indx.handler", "nodejs20.x", ["index.js"], r"indx\.js.*\nNear it: index\.js\."),
        ("index.handler", "nodejs20.x", ["index.ts"], r"Near it: index\.ts"),
        ("app.handler", "python3.13", ["main.txt"], r"looked for in app\.py.*\nLook at"),
        ("handler", "python3.13", ["handler.py"], r'names no function\nWrite it like "app\.handler"'),
        ("index", "nodejs20.x", ["index.js"], r'names no function\nWrite it like "index\.handler"'),
        ("x", "provided.al2023", ["main"], "bootstrap is not in the package"),
        ("x", "provided.al2023", ["bootstrap"], "bootstrap is not executable"),
    ],
)
def test_a_handler_without_its_file_is_refused_before_any_call(
    tmp_path: Path, handler: str, runtime: str, files: list[str], why: str
) -> None:
    source = lay(tmp_path / "src", dict.fromkeys(files, "x"))

    made = make(source, tmp_path, build="zip", artifact=".")

    with pytest.raises(BuildFailed, match=f"(?s){why}"):
        check(made, handler=handler, runtime=runtime, bucket=None)
    check(made, handler=None, runtime=runtime, bucket=None)
    check(made, handler=handler, runtime=runtime, bucket=None, layers=True)
