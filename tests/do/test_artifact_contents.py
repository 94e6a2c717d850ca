"""What goes in, from where, and why: shared code, secrets, listings, explanations; and the cache that forgets."""

from __future__ import annotations

import os
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from pointsman.artifact import Recipe, build, explain, last, listing
from pointsman.artifact.builds import Builds
from pointsman.artifact.contents import Difference
from pointsman.artifact.tools import Installed, Tools, once
from pointsman.errors import BuildFailed, UsageError
from pointsman.model import Artifact

from .test_artifact import ENVIRONMENT, lay, make, names
from .test_artifact_dependencies import text


def make_in(root: Path, source: str, home: Path, **more: object) -> Artifact:
    recipe = {"function": "greeting", "source": str(root / source), "build": "python", "root": str(root), **more}
    return build(
        Recipe(**recipe),  # type: ignore[arg-type]
        out=home / "out",
        cache=home / "cache",
        environment=ENVIRONMENT,
        say=lambda line: None,
    )


# Shared code


def test_shared_folders_go_in_under_their_own_or_another_name(tmp_path: Path) -> None:
    root = lay(
        tmp_path / "src",
        {
            "functions/a/app.py": "",
            "functions/a/common/own.py": "mine",
            "libs/common/own.py": "shared",
            "libs/common/words.py": "",
            "libs/common/tests/t.py": "",
            "libs/util/u.py": "",
            "libs/flat/f.py": "",
            "limits.json": "{}",
        },
    )
    shared = ("libs/common", "libs/util as vendor/util", "libs/flat as .", "limits.json")

    made = make_in(root, "functions/a", tmp_path, shared=shared, exclude=("vendor/util/gone.py",))

    expected = ["app.py", "common/own.py", "common/words.py", "f.py", "limits.json", "vendor/util/u.py"]
    assert names(made) == expected
    assert text(made, "common/own.py") == "mine"  # the function's own file lies over a shared one
    assert {each.name: each.origin for each in listing(made).files}["common/words.py"] == "shared"


@pytest.mark.parametrize(
    ("shared", "error", "why"),
    [
        ("../elsewhere", UsageError, r"lies outside of .*, the folder of pointsman.toml"),
        ("libs/gone", BuildFailed, r"there is no .*libs/gone"),
        ("libs as ../up", UsageError, r"\.\./up is not a place in the package"),
    ],
)
def test_what_cannot_be_shared_is_said(tmp_path: Path, shared: str, error: type[Exception], why: str) -> None:
    root = lay(tmp_path / "src", {"fn/app.py": "", "libs/a.py": ""})

    with pytest.raises(error, match=why):
        make_in(root, "fn", tmp_path, shared=(shared,))


# Secrets

AWS = "aws_access_key_id = AKIAQWERTYUIOPASDFGH\naws_secret_access_key = abcdEFGH1234ijklMNOP5678qrstUVWX90yzABCD\n"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("settings.py", AWS, "an access key of AWS's"),
        ("config/keys.yaml", "k: |\n  -----BEGIN RSA PRIVATE KEY-----\n  " + "Ab3/" * 16, "a private key"),
        ("npm.conf", "//registry.example/:_authToken=12345678-abcd-1234-abcd-123456789012\n", "an npm token"),
        ("client.js", "const token = 'ghp_" + "a1B2" * 9 + "'", "a GitHub token"),
        ("pay.rb", "KEY = 'sk_live_" + "a1B2" * 6 + "'", "a key of Stripe's"),
    ],
)
def test_secrets_are_refused_unless_they_are_named(tmp_path: Path, name: str, content: str, what: str) -> None:
    source = lay(tmp_path / "src", {"app.py": "", name: content})

    with pytest.raises(BuildFailed, match=f"secrets would be packaged: {name} holds {what}") as caught:
        make(source, tmp_path)
    assert f'exclude = ["{name}"]' in caught.value.next
    assert names(make(source, tmp_path, exclude=(name,))) == ["app.py"]
    assert name in names(make(source, tmp_path, include=("**", name)))
    with pytest.raises(BuildFailed, match="secrets would be packaged"):  # no longer named: looked at again
        make(source, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        # of AWS's own documentation
        "key = 'AKIAIOSFODNN7EXAMPLE'\nsecret = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'\n",
        "AKIAQWERTYUIOPASDFGH is only an id; sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "-----BEGIN PUBLIC KEY-----\n" + "Ab3/" * 40,
        "if text.startswith('-----BEGIN PRIVATE KEY-----'):\n    refuse()\n",
        "//registry/:_authToken=${NPM_TOKEN}\n",
        "prefixes = ('ghp_', 'npm_', 'sk_live_', 'xoxb-')\n",
        "live_sk: 'sk_live_XXXXXXXXXXXXXXXXXXXXXXXX'\n",
    ],
)
def test_what_only_looks_like_a_secret_goes_in(tmp_path: Path, content: str) -> None:
    assert "app.py" in names(make(lay(tmp_path / "src", {"app.py": content}), tmp_path))


def test_files_that_are_secrets_by_name_stay_out_aloud(tmp_path: Path) -> None:
    said: list[str] = []
    files = {"app.py": "", ".env": "A=1", ".env.example": "A=", ".npmrc": "", ".aws/credentials": AWS, "a/.netrc": ""}
    source = lay(tmp_path / "src", files)

    made = make(source, tmp_path, said)

    assert names(made) == ["app.py"]
    assert "left out: .aws/, .env, .npmrc, a/… (`include` brings back what it names)" in said
    assert {each.name: each.rule for each in listing(made).left_out} == {
        ".aws/": "a secret by its name: .aws/",
        ".env": "a secret by its name: .env",
        ".env.example": "by default: .env.example",
        ".npmrc": "a secret by its name: .npmrc",
        "a/.netrc": "a secret by its name: .netrc",
    }
    assert ".env" in names(make(source, tmp_path, include=("**", ".env")))


def test_a_ready_zip_with_secrets_is_refused_unless_they_are_named(tmp_path: Path) -> None:
    """Packages bring such names, and such texts, for their tests."""
    source = lay(tmp_path / "src", {"a.txt": ""})
    with zipfile.ZipFile(source / "ready.zip", "w") as zipped:
        for name in ("app.py", ".env", "node_modules/x/.npmrc", "six/.netrc"):
            zipped.writestr(name, "")
        zipped.writestr("config/aws.ini", AWS)
        zipped.writestr("six/keys.py", AWS)
        zipped.writestr("six-1.dist-info/RECORD", "six/keys.py,sha256=x,1\nsix/.netrc,,\nsix-1.dist-info/RECORD,,\n")

    with pytest.raises(BuildFailed, match=r"secrets would be packaged: \.env is .*, config/aws.ini holds an") as caught:
        make(source, tmp_path, build="zip", artifact="ready.zip")
    made = make(source, tmp_path, build="zip", artifact="ready.zip", include=("**", ".env", "config/aws.ini"))

    assert 'Make ready.zip without them, or name them (include = ["**", ".env"])' in caught.value.next
    assert made.files == 7


@pytest.mark.parametrize("how", ["command", "zip"])
def test_a_folder_that_a_command_filled_is_searched_for_secrets_but_not_what_packages_brought(
    tmp_path: Path, how: Literal["command", "zip"]
) -> None:
    files = {"out/app.py": "", "out/conf/aws.ini": AWS, "out/node_modules/x/keys.js": AWS, "out/six/keys.py": AWS}
    record = {"out/six-1.dist-info/RECORD": "six/keys.py,sha256=x,1\n"}
    source = lay(tmp_path / "src", {**files, **record})
    command = "touch out/app.py" if how == "command" else None

    with pytest.raises(BuildFailed, match=r"packaged: conf/aws.ini holds an access key of AWS's\n"):
        make(source, tmp_path, build=how, command=command, artifact="out")
    made = make(source, tmp_path, build=how, command=command, artifact="out", exclude=("conf/",))

    assert names(made) == ["app.py", "node_modules/x/keys.js", "six-1.dist-info/RECORD", "six/keys.py"]


# Listings


def test_a_listing_has_every_file_and_why_the_others_are_not_there(tmp_path: Path) -> None:
    files = {f"data/{number}.txt": "x" * number * 100 for number in range(1, 30)}
    source = lay(tmp_path / "src", {**files, "app.py": "", "a.md": "", "tests/t.py": "", "README": "", "other.js": ""})

    made = make(source, tmp_path, include=("**", "!*.js"), exclude=("docs/", "*.md"))
    found = listing(made)

    assert found.largest == tuple(f"data/{number}.txt" for number in range(29, 9, -1))
    assert sum(each.size for each in found.files) == found.unzipped == made.unzipped
    assert all(each.packed < each.size for each in found.files if each.size)
    assert [(each.name, each.rule) for each in found.left_out] == [
        ("README", "by default: /README*"),
        ("a.md", 'exclude = "*.md"'),
        ("other.js", "not in `include`"),
        ("tests/", "by default: /tests/"),
    ]


# Explanations


def explained(source: Path, home: Path, **recipe: object) -> Difference:
    before = last(home / "out", "greeting")
    return explain(before, make(source, home, **recipe))  # type: ignore[arg-type]


def test_why_a_build_is_not_the_last_one(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": "", "gone.py": "", "tool.sh": "", "requirements.txt": "six==1.16.0\n"})
    recipe = {"runtime": "python3.13", "include": ("**",)}

    assert explained(source, tmp_path, **recipe).why == "it is the first one here"
    same = explained(source, tmp_path, **recipe)
    assert (same.why, same.files, same.packages, same.settings) == ("identical to the last one", (), (), ())

    lay(source, {"app.py": "changed", "more.py": "", "requirements.txt": "six==1.17.0\n"})
    (source / "gone.py").unlink()
    (source / "tool.sh").chmod(0o755)
    other = explained(source, tmp_path, **recipe | {"architecture": "arm64"})

    assert other.why == "changed: 4 files of yours, 1 package it depends on, `architecture`"
    assert [(each.name, each.how) for each in other.files if each.origin == "own"] == [
        ("app.py", "content"),
        ("gone.py", "removed"),
        ("more.py", "added"),
        ("tool.sh", "mode"),
    ]
    assert ("six.py", "content", "dependency") in {(each.name, each.how, each.origin) for each in other.files}
    assert [(each.name, each.was, each.now) for each in other.packages] == [("six", ("1.16.0",), ("1.17.0",))]
    assert [(each.key, each.was, each.now) for each in other.settings] == [("architecture", "x86_64", "arm64")]


def test_a_setting_without_effect_is_told_beside_identical(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": ""})
    make(source, tmp_path)

    assert explained(source, tmp_path, exclude=("*.md",)).why == "identical to the last one, though `exclude` changed"


def test_a_package_without_notes_is_compared_by_what_it_holds(tmp_path: Path) -> None:
    """They are beside the zip, and may be deleted."""
    source = lay(tmp_path / "src", {"app.py": ""})
    made = Path(make(source, tmp_path).path)
    for end in (".note", ".about"):
        made.with_suffix(end).unlink()
    lay(source, {"app.py": "changed"})

    found = explained(source, tmp_path)

    assert [(each.name, each.how) for each in found.files] == [("app.py", "content")]
    assert found.settings == ()


def test_damaged_notes_cost_an_explanation_and_nothing_else(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": ""})
    made = make(source, tmp_path)
    Path(made.path).with_suffix(".about").write_bytes(b"{")

    assert [each.name for each in listing(made).files] == ["app.py"]
    assert make(source, tmp_path).sha256 == made.sha256


@pytest.mark.parametrize("pattern", ["docs\\", "!"])
def test_what_is_no_pattern_is_said_in_words(tmp_path: Path, pattern: str) -> None:
    source = lay(tmp_path / "src", {"app.py": ""})

    with pytest.raises(UsageError, match="Invalid git pattern") as caught:
        make(source, tmp_path, exclude=(pattern,))

    assert caught.value.where == "building greeting"
    assert "gitignore's patterns" in caught.value.next


# The cache


def entry(tools: Tools, key: str, size: int = 1000) -> Installed:
    def install(scratch: Path) -> Installed:
        return Installed(lay(scratch / "tree", {"a": key[:1] * size}), {"a": ["1"]})

    return once(tools, "python", key, install)


def test_the_cache_forgets_what_was_unused_for_longest_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []

    def command() -> Tools:
        return Tools(tmp_path, {}, said.append, Builds(), limit=2500)

    now = time.time()
    first, second = entry(command(), "first"), entry(command(), "second")
    for age, each in ((9000, first), (8000, second)):
        os.utime(each.tree.parent, (now - age, now - age))
    assert entry(command(), "first").made_now is False  # used: now the second is the oldest

    third = entry(command(), "third")

    assert [each.tree.is_dir() for each in (first, second, third)] == [True, False, True]
    assert said == ["the cache passed 0.0 GB: forgot 0 MB unused for longest"]


def test_what_another_build_may_be_reading_is_not_forgotten(tmp_path: Path) -> None:
    tools = Tools(tmp_path, {}, lambda line: None, Builds(), limit=10)

    made = [entry(tools, key) for key in ("a", "b", "c")]

    assert all(each.tree.is_dir() for each in made)


def test_what_killed_builds_and_older_releases_left_behind_is_cleared(tmp_path: Path) -> None:
    tools = Tools(tmp_path, {}, lambda line: None, Builds())
    old = time.time() - 2 * 86_400
    for name in (".making-dead", ".making-alive", "python-of-an-older-release"):
        lay(tmp_path / name, {"a": ""})
        if name != ".making-alive":
            os.utime(tmp_path / name, (old, old))

    entry(tools, "first")

    assert {path.name for path in tmp_path.iterdir()} == {".making-alive", entry(tools, "first").tree.parent.name}


def at_once(each: Sequence[Tools], install: Callable[[Path], Installed]) -> list[Installed]:
    """What `once` gives each, all asking for the same entry."""
    with ThreadPoolExecutor(len(each)) as pool:
        return list(pool.map(lambda tools: once(tools, "node", "key", install), each))


def test_an_entry_is_made_whole_or_not_at_all_by_several_commands_at_once(tmp_path: Path) -> None:
    barrier = threading.Barrier(4, timeout=60)

    def install(scratch: Path) -> Installed:
        barrier.wait()  # all four are at it, and none has finished
        return Installed(lay(scratch / "tree", {"a": "x"}), {"a": ["1"]})

    found = at_once([Tools(tmp_path, {}, lambda line: None, Builds()) for _ in range(4)], install)

    assert len({each.tree for each in found}) == 1
    assert [path.name for path in tmp_path.iterdir()] == [found[0].tree.parent.name]
    assert (found[0].tree / "a").read_text() == "x"


def test_an_entry_is_made_once_by_the_builds_of_one_command(tmp_path: Path) -> None:
    calls: list[Path] = []

    def install(scratch: Path) -> Installed:
        calls.append(scratch)
        return Installed(lay(scratch / "tree", {"a": "x"}), {"a": ["1"]})

    found = at_once([Tools(tmp_path, {}, lambda line: None, Builds())] * 4, install)

    assert len(calls) == 1
    assert sorted(each.made_now for each in found) == [False, False, False, True]
    assert len({each.tree for each in found}) == 1
