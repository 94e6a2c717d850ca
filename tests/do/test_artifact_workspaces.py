"""Node's workspaces and bundles: by the real npm, pnpm, yarn and esbuild from the real registry (small packages)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman.artifact import Recipe, build
from pointsman.artifact.node_tree import Asked, gather
from pointsman.config import Bundle
from pointsman.errors import BuildFailed
from pointsman.model import Artifact

from .test_artifact import ENVIRONMENT, lay, names
from .test_artifact_dependencies import package_json, text

# What the sample workspace asks for: `semver` of two releases, one of them by a member that another one needs.
WORKSPACE = {
    "index.js": "",
    "functions/fn/package.json": package_json(
        name="fn", dependencies={"@team/common": "*", "semver": "7.6.3"}, devDependencies={"is-number": "7.0.0"}
    ),
    "functions/fn/index.js": "exports.handler = () => [require('@team/common'), require('semver/package').version]",
    "functions/other/package.json": package_json(name="other", dependencies={"left-pad": "1.3.0"}),
    "packages/common/package.json": package_json(
        name="@team/common", main="main.js", dependencies={"semver": "5.7.2", "ms": "2.1.3"}
    ),
    "packages/common/main.js": "module.exports = [require('semver/package').version, require('ms')(1000)]",
    "packages/common/test/t.js": "",
}
MEMBERS = ["functions/*", "packages/*"]


@pytest.fixture(scope="session")
def managers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """name → folder with its binary. npm is on PATH already."""
    found = {}
    for name, what in (("pnpm", "pnpm@9.15.9"), ("yarn 1", "yarn@1.22.22"), ("yarn 4", "@yarnpkg/cli-dist@4.5.3")):
        home = tmp_path_factory.mktemp("manager")
        subprocess.run(
            ["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", what], check=True, capture_output=True
        )
        found[name] = str(home / "node_modules" / ".bin")
    return {"npm": "", **found}


def with_path(folder: str) -> dict[str, str]:
    """An environment whose PATH begins with the folder; and of which pnpm and yarn keep their stores to themselves."""
    return {**ENVIRONMENT, "PATH": os.pathsep.join(filter(None, [folder, ENVIRONMENT["PATH"]]))}


def workspace(root: Path, manager: str, environment: dict[str, str]) -> Path:
    asked = WORKSPACE
    if manager in ("pnpm", "yarn 4"):
        linked = {"@team/common": "workspace:*", "semver": "7.6.3"}
        asked = asked | {"functions/fn/package.json": package_json(name="fn", dependencies=linked)}
    lay(root, asked)
    top = package_json(name="top", private=True, workspaces=MEMBERS, scripts={"prepare": "false"})
    match manager:
        case "npm":
            lay(root, {"package.json": top})
            command = ["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"]
        case "pnpm":
            members = "".join(f"  - '{each}'\n" for each in MEMBERS)
            lay(root, {"package.json": package_json(name="top"), "pnpm-workspace.yaml": f"packages:\n{members}"})
            command = ["pnpm", "install", "--lockfile-only"]
        case "yarn 1":
            lay(root, {"package.json": top})
            command = ["yarn", "install", "--ignore-scripts", "--non-interactive"]
        case _:
            lay(root, {"package.json": top, "yarn.lock": "", ".yarnrc.yml": "nodeLinker: pnp\n"})
            command = ["yarn", "install", "--mode=update-lockfile"]
    done = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for each in root.rglob("node_modules"):
        shutil.rmtree(each, ignore_errors=True)
    return root


def make(
    root: Path, source: str, home: Path, environment: dict[str, str], said: list[str] | None = None, **more: object
) -> Artifact:
    recipe = {"function": "greeting", "source": str(root / source), "build": "node", "root": str(root), **more}
    return build(
        Recipe(**recipe),  # type: ignore[arg-type]
        out=home / "out",
        cache=home / "cache",
        environment=environment,
        say=(lambda line: None) if said is None else said.append,
    )


def call(made: Artifact, there: Path) -> object:
    """What the handler of the unzipped package returns."""
    subprocess.run(["unzip", "-q", made.path, "-d", str(there)], check=True)  # unlike zipfile, it makes links
    script = "console.log(JSON.stringify(require('./index').handler()))"
    done = subprocess.run(["node", "-e", script], cwd=there, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("manager", ["npm", "pnpm", "yarn 1", "yarn 4"])
def test_a_member_gets_what_it_needs_and_nothing_of_the_others(
    tmp_path: Path, managers: dict[str, str], manager: str
) -> None:
    """Two releases of one package: each asker must find its own, though the member is no longer below the top."""
    environment = with_path(managers[manager])
    root = workspace(tmp_path / "a", manager, environment)
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}

    made = make(root, "functions/fn", tmp_path, environment)

    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before
    top = {name.split("/")[1] for name in names(made) if name.startswith("node_modules/")}
    assert {"@team", "semver"} <= top
    assert not {"other", "left-pad", "is-number", "fn", ".bin"} & top
    assert "node_modules/@team/common/test/t.js" not in names(made)
    assert call(made, tmp_path / "there") == [["5.7.2", "1s"], "7.6.3"]

    shutil.copytree(root, tmp_path / "b" / "c")
    again = make(tmp_path / "b" / "c", "functions/fn", tmp_path / "b", environment)
    assert again.sha256 == made.sha256


def test_a_member_with_a_pointsman_toml_of_its_own_is_installed_from_the_workspace_above_it(tmp_path: Path) -> None:
    root = workspace(tmp_path / "repository", "npm", with_path(""))
    member = root / "functions/fn"
    whole = make(root, "functions/fn", tmp_path / "one", with_path(""))
    (root / ".git").mkdir()

    alone = make(member, ".", tmp_path / "two", with_path(""))

    assert alone.sha256 == whole.sha256
    assert call(alone, tmp_path / "there") == [["5.7.2", "1s"], "7.6.3"]


def test_members_share_one_install_and_a_changed_member_asks_no_registry(
    tmp_path: Path, managers: dict[str, str]
) -> None:
    root = workspace(tmp_path / "src", "npm", ENVIRONMENT)
    said: list[str] = []

    make(root, "functions/fn", tmp_path, ENVIRONMENT, said)
    make(root, "functions/other", tmp_path, ENVIRONMENT, said)
    lay(root, {"packages/common/main.js": "module.exports = 'changed'"})
    made = make(root, "functions/fn", tmp_path, ENVIRONMENT, said)

    assert [line for line in said if line.startswith("npm ")] == ["npm ci in a scratch folder"]
    assert text(made, "node_modules/@team/common/main.js") == "module.exports = 'changed'"


def test_a_package_alone_is_installed_by_its_own_manager_too(tmp_path: Path, managers: dict[str, str]) -> None:
    for manager, command in (("pnpm", ["pnpm", "install", "--lockfile-only"]), ("yarn 1", ["yarn", "install"])):
        environment = with_path(managers[manager])
        asked = package_json(dependencies={"ms": "2.1.3"}, devDependencies={"is-number": "7.0.0"})
        source = lay(
            tmp_path / manager, {"package.json": asked, "index.js": "exports.handler = () => require('ms')(1)"}
        )
        subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)

        made = make(tmp_path, manager, tmp_path / f"home of {manager}", environment)

        assert {name.split("/")[1] for name in names(made) if "/" in name} == {"ms"}
        assert call(made, tmp_path / f"there of {manager}") == "1ms"


def test_a_source_below_its_package_json_gets_the_packages_of_that(tmp_path: Path) -> None:
    """As Node finds it; it may say what kind of modules these are."""
    asked = package_json(dependencies={"ms": "2.1.3"}, type="module")
    root = lay(tmp_path / "src", {"package.json": asked, "src/index.js": "", "elsewhere/package.json": "{}"})
    said: list[str] = []

    made = make(root, "src", tmp_path, ENVIRONMENT, said)

    assert {"index.js", "package.json", "node_modules/ms/index.js"} <= set(names(made))
    assert f"the packages are those of {root / 'package.json'}" in said


def test_a_lock_that_is_out_of_step_is_refused_in_words(tmp_path: Path, managers: dict[str, str]) -> None:
    for manager in ("npm", "pnpm", "yarn 4"):
        environment = with_path(managers[manager])
        root = workspace(tmp_path / manager, manager, environment)
        lay(root, {"functions/other/package.json": package_json(name="other", dependencies={"mkdirp": "3.0.1"})})

        with pytest.raises(BuildFailed, match=rf"Run `{manager.split()[0]} install` in .*, and commit the lock file"):
            make(root, "functions/fn", tmp_path / f"home of {manager}", environment)


@pytest.mark.parametrize(
    ("lock", "tools", "why"),
    [
        ("yarn.lock", {}, r"yarn is not on PATH, and yarn.lock needs it\n.*npm install -g yarn@1"),
        ("pnpm-lock.yaml", {}, r"pnpm is not on PATH, and pnpm-lock.yaml needs it\n.*npm install -g pnpm"),
        ("yarn.lock", {"yarn": "4.5.3"}, r"yarn.lock is of Yarn 1, and the yarn on PATH is release 4"),
    ],
)
def test_a_manager_that_is_missing_or_too_new_is_named_with_what_to_do(
    tmp_path: Path, lock: str, tools: dict[str, str], why: str
) -> None:
    source = lay(tmp_path / "src", {"package.json": package_json(dependencies={"ms": "2.1.3"}), lock: ""})
    there = tmp_path / "bin"
    there.mkdir()
    (there / "node").symlink_to(shutil.which("node") or "")
    for name, release in tools.items():
        (there / name).write_text(f"#!/bin/sh\necho {release}\n")
        (there / name).chmod(0o755)

    with pytest.raises(BuildFailed, match=why):
        make(source, ".", tmp_path, {**ENVIRONMENT, "PATH": str(there)})


# The layout alone


def tree(root: Path, packages: dict[str, dict[str, str]]) -> Path:
    """Folders with package.json: path → what it asks for."""
    for path, asks in packages.items():
        lay(root / path, {"package.json": package_json(name=Path(path).name, version=path, dependencies=asks)})
    return root


def laid_out(root: Path, to: Path, wanted: list[str]) -> dict[str, str]:
    """Where each package lies, and where it was found."""
    found = {}

    def copy(real: Path, goal: Path) -> None:
        goal.mkdir(parents=True)
        found[str(goal.relative_to(to))] = str(real.relative_to(root))

    gather([Asked(name, required=True) for name in wanted], root, root, to, copy)
    return found


def test_what_is_hoisted_never_shadows_what_another_found_higher_up(tmp_path: Path) -> None:
    """b@1 lies at the top and a finds it there. c, below a, asks for b@2: it may lie in c only, not in a."""
    root = tree(
        tmp_path / "from",
        {
            "node_modules/a": {"b": "1", "c": "1"},
            "node_modules/b": {},
            "node_modules/c": {},
            "node_modules/a/node_modules/c": {"b": "2"},
            "node_modules/a/node_modules/c/node_modules/b": {},
        },
    )

    assert laid_out(root, tmp_path / "to", ["a", "c"]) == {
        "node_modules/a": "node_modules/a",
        "node_modules/c": "node_modules/c",
        "node_modules/b": "node_modules/b",
        "node_modules/a/node_modules/c": "node_modules/a/node_modules/c",
        "node_modules/a/node_modules/c/node_modules/b": "node_modules/a/node_modules/c/node_modules/b",
    }


def test_packages_may_need_each_other_and_what_is_missing_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "from", {"node_modules/a": {"b": "1"}, "node_modules/b": {"a": "1"}})

    assert set(laid_out(root, tmp_path / "to", ["a"])) == {"node_modules/a", "node_modules/b"}
    with pytest.raises(BuildFailed, match=r"c was not installed, though package.json asks for it"):
        laid_out(root, tmp_path / "more", ["c"])


# Bundles


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Lays a TypeScript function whose tools are development dependencies, locked once."""
    asked = package_json(
        dependencies={"ms": "2.1.3", "semver": "7.6.3"}, devDependencies={"esbuild": "0.24.2", "left-pad": "1.3.0"}
    )
    files = {
        "package.json": asked,
        "src/index.ts": "import ms from 'ms'\nimport semver from 'semver'\nimport pad from 'left-pad'\n"
        "import { one } from './lib/one'\n"
        "export const handler = () => [ms(one * 1000), semver.valid('v1.2.3'), pad('x', 3)]\n",
        "src/lib/one.ts": "export const one: number = 1\n",
        "templates/mail.txt": "Dear",
        "index.test.ts": "",
    }
    locked = lay(tmp_path_factory.mktemp("locked"), files)
    subprocess.run(
        ["npm", "install", "--package-lock-only", "--no-audit", "--no-fund"],
        cwd=locked,
        check=True,
        capture_output=True,
    )
    return lambda there: Path(shutil.copytree(locked, there))


def test_a_bundle_is_one_file_the_same_in_every_checkout(tmp_path: Path, bundled: Callable[[Path], Path]) -> None:
    made = [
        make(
            bundled(tmp_path / place / "fn"),
            ".",
            tmp_path / place,
            ENVIRONMENT,
            handler="src/index.handler",
            runtime="nodejs20.x",
            bundle=Bundle(minify=False, sourcemap=True),
        )
        for place in ("a", "b/c")
    ]

    assert made[0].sha256 == made[1].sha256
    assert names(made[0]) == ["src/index.js", "src/index.js.map"]
    assert "tmp" not in text(made[0], "src/index.js")
    there = tmp_path / "there"
    zipfile.ZipFile(made[0].path).extractall(there)
    ran = subprocess.run(
        ["node", "-p", "JSON.stringify(require('./src/index').handler())"], cwd=there, check=True, capture_output=True
    )
    assert json.loads(ran.stdout) == ["1s", "1.2.3", "  x"]


def test_what_is_external_is_packaged_beside_the_bundle_with_what_it_needs(
    tmp_path: Path, bundled: Callable[[Path], Path]
) -> None:
    made = make(
        bundled(tmp_path / "fn"),
        ".",
        tmp_path,
        ENVIRONMENT,
        handler="src/index.handler",
        runtime="nodejs20.x",
        include=("**", "templates/**"),
        bundle=Bundle(external=("semver",)),
    )

    assert {name.split("/")[1] for name in names(made) if name.startswith("node_modules/")} == {"semver"}
    assert {name for name in names(made) if not name.startswith("node_modules/")} == {
        "src/index.js",
        "templates/mail.txt",
    }
    assert "1.2.3" in str(call_in(made, tmp_path / "there"))


def call_in(made: Artifact, there: Path) -> object:
    zipfile.ZipFile(made.path).extractall(there)
    done = subprocess.run(
        ["node", "-p", "JSON.stringify(require('./src/index').handler())"], cwd=there, check=True, capture_output=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("export const handle = () => 1", "it exports no handler, but handle"),
        ("export * from './lib/one'", "it exports no handler, but one"),
        ("export default () => 1", "it exports no handler, but default"),
        ("export { handler } from './lib/more'", ""),
        ("export * from './lib/more'", ""),
        ("export * from './lib/old.cjs'", ""),  # only running it tells
        ("export * from 'semver'", ""),
        ("const api = require('./lib/more'); module.exports = api", ""),
        ("exports['hand' + 'ler'] = () => 1", ""),
    ],
)
def test_a_bundle_whose_entry_exports_another_name_is_refused(
    tmp_path: Path, bundled: Callable[[Path], Path], entry: str, said: str
) -> None:
    """A minified bundle does not tell: it was found when the function was called."""
    more = {"src/lib/more.ts": "export const handler = () => 1", "src/lib/old.cjs": "exports.handler = () => 1"}
    source = lay(bundled(tmp_path / "fn"), {**more, "src/index.ts": entry})

    for how in (Bundle(), Bundle(format="esm", minify=False, external=("semver",))):
        if not said:
            make(source, ".", tmp_path, ENVIRONMENT, handler="src/index.handler", runtime="nodejs20.x", bundle=how)
            continue
        with pytest.raises(BuildFailed, match=rf"is not in src/index.ts: {said}\nCorrect"):
            make(source, ".", tmp_path, ENVIRONMENT, handler="src/index.handler", runtime="nodejs20.x", bundle=how)


def test_a_bundle_that_cannot_be_made_says_why(tmp_path: Path, bundled: Callable[[Path], Path]) -> None:
    source = bundled(tmp_path / "fn")

    with pytest.raises(BuildFailed, match=r"would be bundled from index.ts or .js, and there is neither"):
        make(source, ".", tmp_path, ENVIRONMENT, handler="index.handler", bundle=Bundle())
    lay(source, {"src/index.ts": "import 'gone'"})
    with pytest.raises(
        BuildFailed, match=r"(?s)Could not resolve .gone..*add the package to package.json|Add the package"
    ):
        make(source, ".", tmp_path, ENVIRONMENT, handler="src/index.handler", bundle=Bundle())
    bare = lay(tmp_path / "bare", {"index.js": "exports.handler = 1"})
    with pytest.raises(BuildFailed, match=r"there is no esbuild: .*\n`npm install --save-dev esbuild`"):
        make(bare, ".", tmp_path, {**ENVIRONMENT, "PATH": "/nowhere"}, handler="index.handler", bundle=Bundle())


# The SDK that the runtime brings


def test_the_sdk_is_kept_or_left_out_with_what_only_it_needs(tmp_path: Path) -> None:
    """A stand-in for @aws-sdk: real ones bring a hundred packages. What another package needs too stays."""
    packages = {
        "client": {"name": "@aws-sdk/client", "dependencies": {"mine": "file:../mine", "both": "file:../both"}},
        "mine": {"name": "mine"},
        "both": {"name": "both"},
        "own": {"name": "own", "dependencies": {"both": "file:../both"}},
    }
    for name, about in packages.items():
        lay(tmp_path / "libs" / name, {"package.json": package_json(**about), "index.js": "x" * 1000})
    asked = {"@aws-sdk/client": "file:../libs/client", "own": "file:../libs/own"}
    source = lay(tmp_path / "src", {"package.json": package_json(dependencies=asked), "index.js": ""})
    said: list[str] = []

    kept = make(source, ".", tmp_path, ENVIRONMENT, said, runtime="nodejs20.x")
    left = make(source, ".", tmp_path, ENVIRONMENT, said, runtime="nodejs20.x", sdk="leave-out")

    def tops(made: Artifact) -> set[str]:
        return {name.split("/")[1] for name in names(made) if name.startswith("node_modules/")}

    assert {"@aws-sdk", "own"} <= tops(kept)
    assert "@aws-sdk" not in tops(left)
    assert "own" in tops(left)
    assert not any("mine" in name for name in names(left))
    assert any(line.startswith('nodejs20.x has @aws-sdk too: sdk = "leave-out" would save ') for line in said)
