"""How a zip comes to be: the same bytes anew, in threads, by any Python, and out of an earlier zip; or not at all."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import deflate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.artifact import archive, inventory, packing
from pointsman.artifact.archive import Entry, Member, Seen, Zip
from pointsman.artifact.packing import Earlier, NotAsNoted, pack, write
from pointsman.errors import BuildFailed
from pointsman.model import Artifact

from .test_artifact import ENVIRONMENT, lay, make

OLD: Seen = (4, 10**18, 10**18, 7)
WORDS = "".join(f"{number:x} " for number in range(3000))


def bytes_of(source: Path, home: Path) -> bytes:
    return Path(make(source, home).path).read_bytes()


def method_of(data: bytes) -> int:
    return archive.packed(data)[0]


# The same bytes


def test_the_compressor_gives_these_bytes() -> None:
    """Pinned: whoever takes another release of it, or another level, publishes every function anew."""
    text = "".join(f"line {number} of {number * number}\n" for number in range(20_000)).encode()

    digests = [hashlib.sha256(archive.packed(each)[1]).hexdigest() for each in (text[:8191], text, b"\x7fELF" + text)]

    assert method_of(text) == archive.DEFLATED
    assert digests == [
        "97fbc851bdfd04240cc00bf83f45f0716e582c2e0344da80bdb95ab58699204f",
        "15c2a618444d92f48262314962c82321a2053c96a64c71385dc1b227324fd116",
        "f51397c1949a9da8e9541d2de1bef9ed8e60b12ff9e363d266d24bddbc0814d6",
    ]


def pythons() -> dict[str, str]:
    """This one, and others of ours that the machine has, by version."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for version in ("3.11", "3.12", "3.13", "3.14"):
        beside = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        for path in (*map(str, beside), shutil.which(f"python{version}") or ""):
            if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
                found.setdefault(version, path)
    return found


BUILD = """
import os, sys
sys.path[:0] = sys.argv[1].split(os.pathsep)
from pathlib import Path
from pointsman.artifact import Recipe, build
recipe = Recipe(function="f", source=sys.argv[2], build="python")
out = Path(sys.argv[3])
print(build(recipe, out=out, cache=out, environment=os.environ, say=lambda line: None).sha256)
"""


def test_other_pythons_places_times_umasks_locales_and_zones_give_the_same_bytes(tmp_path: Path) -> None:
    files = {"app.py": WORDS, "lib/ünï.py": "é", "lib/b.py": WORDS[:999], "lib-x/c.py": "", "bootstrap": "#!/bin/sh\n"}
    places = [("C", "UTC", 0o022), ("C.UTF-8", "Asia/Tokyo", 0o077), ("POSIX", "America/Lima", 0o002)]
    digests = {}
    for version, python in pythons().items():
        needs = [str(tmp_path / version), str(Path(archive.__file__).parents[2])]
        wanted = [f"{name}=={metadata.version(name)}" for name in ("deflate", "msgspec")]
        command = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*command, "--python", python, "--target", needs[0], *wanted], env=ENVIRONMENT, check=True)
        for number, (locale, zone, umask) in enumerate(places):
            before = os.umask(umask)
            try:
                ordered = sorted(files.items(), reverse=bool(number % 2))
                source = lay(tmp_path / f"{version}-{number}" / ("deep" * number), dict(ordered))
                (source / "bootstrap").chmod(0o777 & ~umask)
                (source / "link.py").symlink_to("lib/b.py" if number % 2 else source / "lib" / "b.py")
                for path in files:
                    os.utime(source / path, (1e9 + number, 1e9 + number))
                environment = {"LC_ALL": locale, "TZ": zone, "PATH": os.environ["PATH"]}
                command = [
                    python,
                    "-S",
                    "-c",
                    BUILD,
                    os.pathsep.join(needs),
                    source,
                    tmp_path / f"out-{version}-{number}",
                ]
                done = subprocess.run(command, env=environment, cwd=source, capture_output=True, text=True, check=True)
                digests[version, locale] = done.stdout
            finally:
                os.umask(before)

    assert len(set(digests.values())) == 1, digests


def test_processes_and_threads_and_none_give_the_same_bytes(tmp_path: Path) -> None:
    """More than is worth threads, with members that are begun early and others that are batched."""
    for number in range(60):
        (tmp_path / f"{number:02}").write_bytes((WORDS * (number % 3 * 20 + 1)).encode())
    (tmp_path / "30").write_bytes(os.urandom(packing.LARGE))
    (tmp_path / "31").write_bytes(bytes(3 * packing.LARGE))
    members = [Member(path.name, str(path), seen=(path.stat().st_size, 0, 0, 0)) for path in tmp_path.iterdir()]

    forked, threaded = io.BytesIO(), io.BytesIO()
    go_on = threading.Event()
    beside = threading.Thread(target=go_on.wait)
    write(members, forked)
    beside.start()
    write(members, threaded)  # a process with threads does not fork
    go_on.set()
    beside.join()

    alone = io.BytesIO()
    zipped, entries = Zip(alone), []
    for member in sorted(members):
        data = Path(member.path).read_bytes()
        method, body = archive.packed(data)
        digest = hashlib.sha256(data).digest()
        entry = Entry(member.name, member.mode, len(data), digest, deflate.crc32(data), len(body), method)
        zipped.put(archive.header(entry) + body)
        entries.append(entry)
    zipped.close(entries)
    assert forked.getvalue() == threaded.getvalue() == alone.getvalue()


def children() -> set[str]:
    """This process's own, ended ones that nobody waited for too: other tests' servers may be among them."""
    found = set()
    for told in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if told.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(told.parent.name)
    return found


@pytest.mark.parametrize("beside", [True, False])
def test_a_file_that_goes_away_is_named_and_nobody_is_left_behind(tmp_path: Path, beside: bool) -> None:
    members = [Member(f"{number}", str(tmp_path / "gone"), seen=(packing.LARGE, 0, 0, 0)) for number in range(3)]
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    if beside:
        thread.start()
    before = children()

    with pytest.raises(BuildFailed, match="0 cannot be read: No such file or directory\nMake it readable"):
        write(members, io.BytesIO())

    go_on.set()
    assert children() == before


def test_what_is_compressed_already_is_stored() -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a", WORDS)
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as zipped:
        zipped.writestr("a", WORDS)

    assert method_of(gzip.compress(WORDS.encode())) == archive.STORED
    assert method_of(held.getvalue()) == archive.STORED
    assert method_of(plain.getvalue()) == archive.DEFLATED, "a zip that stores, like NumPy's, is worth it"
    assert method_of(os.urandom(3 << 20)) == archive.STORED
    assert method_of(os.urandom(1 << 20) + WORDS.encode() * 100) == archive.DEFLATED
    assert method_of(b"") == method_of(b"x") == archive.STORED


def test_unpacked_by_info_zip_and_python_it_is_the_tree_it_was(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": WORDS, "bin/run": "#!", "lib/ünïcödé.py": "", "lib/日本/x.py": "x"})
    (source / "bin" / "run").chmod(0o755)
    (source / "lib" / "run").symlink_to("../bin/run")
    made = make(source, tmp_path)

    subprocess.run(
        ["unzip", "-q", made.path, "-d", tmp_path / "there"], check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    with zipfile.ZipFile(made.path) as zipped:
        assert zipped.testzip() is None
        told = {info.filename: (zipped.read(info), info.external_attr >> 16) for info in zipped.infolist()}

    def tree(root: Path) -> dict[str, tuple[bytes, bool, bool]]:
        found = {}
        for path in (each for each in root.rglob("*") if each.is_symlink() or each.is_file()):
            link = path.is_symlink()
            content = str(path.readlink()).encode() if link else path.read_bytes()
            found[str(path.relative_to(root))] = (content, link, not link and bool(path.stat().st_mode & 0o100))
        return found

    assert tree(tmp_path / "there") == tree(source)
    assert {
        name: (content, stat.S_ISLNK(mode), not stat.S_ISLNK(mode) and bool(mode & 0o100))
        for name, (content, mode) in told.items()
    } == tree(source)


def test_more_than_a_zip_can_tell_is_refused() -> None:
    large = Entry("a.bin", 0o100644, 3 << 30, b"", 0, 3 << 30, archive.STORED)

    with pytest.raises(BuildFailed, match=r"the package passes 4 GiB at b.bin\nLambda takes 250 MB"):
        Zip(io.BytesIO()).close([large, large._replace(name="b.bin")])
    with pytest.raises(BuildFailed, match=r"a.bin passes what a zip can tell"):
        archive.header(large._replace(size=5 << 30))


@pytest.mark.parametrize("beside", [True, False])
def test_memory_is_bounded_whatever_the_tree(tmp_path: Path, beside: bool) -> None:
    """240 MB of files, some of which deflate cannot shrink; in threads and in processes."""
    for number in range(12):
        with (tmp_path / f"{number}").open("wb") as file:
            if number % 4 == 0:
                file.write(os.urandom(20_000_000))
            else:
                file.truncate(20_000_000)
    script = (
        "import resource, sys, threading; from pathlib import Path; from pointsman.artifact.source import choose;"
        "from pointsman.artifact.packing import write; go_on = threading.Event();"
        "beside and threading.Thread(target=go_on.wait).start();"
        "write(choose(Path(sys.argv[1])), open(sys.argv[2], 'wb')); go_on.set();"
        # Linux counts what this test's own process held into RUSAGE_SELF of what it starts: its peak alone is in /proc.
        "own = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')] "
        "if Path('/proc/self/status').exists() else [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss];"
        "print(*own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", f"beside = {beside};{script}", tmp_path, os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert max(map(int, done.stdout.split())) < 150 * 1024 * (1024 if sys.platform == "darwin" else 1)


# Out of an earlier zip


def packed(members: list[Member], earlier: Earlier | None = None) -> tuple[bytes | None, list[Entry]]:
    to = io.BytesIO()
    done = pack(members, earlier, lambda: to)
    return (to.getvalue() if done.written else None), done.entries


def noted(home: Path, zipped: bytes, entries: list[Entry]) -> Earlier:
    (home / "earlier.zip").write_bytes(zipped)
    return Earlier((home / "earlier.zip").open("rb"), hashlib.sha256(zipped).digest(), entries)


def test_a_file_that_is_surely_as_it_was_is_not_even_read(tmp_path: Path) -> None:
    lay(tmp_path, {"a": "aaaa", "b": "bbbb"})
    members = [Member("a", tmp_path / "a", seen=OLD), Member("b", tmp_path / "b", seen=OLD)]
    zipped, entries = packed(members)
    assert zipped
    gone = [member._replace(path="/nowhere") for member in members]

    assert packed(gone, noted(tmp_path, zipped, entries)) == (None, entries), "and nothing is written"

    (tmp_path / "b").write_bytes(b"new")
    changed = [gone[0], Member("b", tmp_path / "b", seen=(3, *OLD[1:]))]
    assert packed(changed, noted(tmp_path, zipped, entries))[0] == packed([members[0], changed[1]])[0]


def test_a_young_file_is_read_again(tmp_path: Path) -> None:
    """It may have been changed within the very tick of the clock that its times were taken in."""
    lay(tmp_path, {"a": "old!"})
    young: Seen = (4, time.time_ns(), 10**18, 7)
    zipped, entries = packed([Member("a", tmp_path / "a", seen=young)])
    assert zipped
    assert entries[0].seen is None
    (tmp_path / "a").write_text("new!")

    again, _ = packed([Member("a", tmp_path / "a", seen=young)], noted(tmp_path, zipped, entries))

    assert again
    assert zipfile.ZipFile(io.BytesIO(again)).read("a") == b"new!"


TREE = st.dictionaries(
    st.sampled_from(["a", "b", "c/d", "c/é", "e"]),
    st.tuples(st.sampled_from([b"", b"1", b"2" * 500, WORDS.encode(), bytes(range(256))]), st.booleans()),
    min_size=1,
)


@settings(max_examples=60, deadline=None)
@given(TREE, TREE)
def test_out_of_any_earlier_zip_comes_what_would_be_made_anew(
    before: dict[str, tuple[bytes, bool]], after: dict[str, tuple[bytes, bool]]
) -> None:
    """Files changed, renamed, swapped, gone, new, made executable; or nothing at all."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)

        def laid(tree: dict[str, tuple[bytes, bool]]) -> list[Member]:
            members = []
            for name, (content, executable) in tree.items():
                path = home / hashlib.sha256(content).hexdigest()
                path.write_bytes(content)
                # Equal contents, equal inode; as an unchanged file of this name would have.
                seen = (len(content), 10**18, 10**18, int.from_bytes(hashlib.sha256(content).digest()[:4], "big"))
                members.append(Member(name, path, executable, None, seen))
            return members

        zipped, entries = packed(laid(before))
        assert zipped
        anew, expected = packed(laid(after))
        again, found = packed(laid(after), noted(home, zipped, entries))

    assert again == (None if before == after else anew)
    assert found == expected


def test_a_rebuild_after_a_change_gives_what_a_cold_build_gives(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {f"lib/{number}.py": WORDS + str(number) for number in range(50)})
    make(source, tmp_path / "warm")
    lay(source, {"lib/25.py": "changed", "lib/new.py": WORDS})
    (source / "lib" / "0.py").unlink()

    assert bytes_of(source, tmp_path / "warm") == bytes_of(source, tmp_path / "cold")


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int((len(data) - 1) * at)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda made, at=at: flip(made, at) for at in (0.0, 0.3, 0.6, 1.0)),
        *(lambda made, at=at: flip(made.with_suffix(".note"), at) for at in (0.0, 0.5, 0.9, 1.0)),
        lambda made: made.write_bytes(made.read_bytes()[:-1000]),
        lambda made: made.write_bytes(b""),
        lambda made: made.unlink(),
        lambda made: made.with_suffix(".note").write_bytes(b""),
        lambda made: made.with_suffix(".note").unlink(),
    ],
)
@pytest.mark.parametrize("change", [True, False])
def test_a_damaged_zip_or_note_costs_time_and_nothing_else(
    tmp_path: Path, damage: Callable[[Path], object], change: bool
) -> None:
    source = lay(tmp_path / "src", {f"lib/{number}.py": WORDS + str(number) for number in range(9)})
    made = make(source, tmp_path)
    damage(Path(made.path))
    if change:
        lay(source, {"lib/5.py": "changed"})

    again = make(source, tmp_path)

    cold = make(source, tmp_path / "cold")
    assert again.sha256 == cold.sha256
    assert Path(again.path).read_bytes() == Path(cold.path).read_bytes()
    assert inventory(again) == inventory(cold)


def test_a_damaged_earlier_zip_is_found_out_while_it_is_used(tmp_path: Path) -> None:
    lay(tmp_path, {"a": "aaaa"})
    members = [Member("a", tmp_path / "a", seen=OLD)]
    zipped, entries = packed(members)
    assert zipped
    earlier = Earlier(io.BytesIO(zipped[:-1] + b"?"), hashlib.sha256(zipped).digest(), entries)

    with pytest.raises(NotAsNoted):
        packed(members, earlier)


def test_what_a_package_holds_is_noted_and_the_same_without_the_note(tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {"app.py": WORDS, "bin/run": "#!"})
    (source / "bin" / "run").chmod(0o755)
    (source / "link").symlink_to("app.py")
    made: Artifact = make(source, tmp_path)

    found = inventory(made)
    Path(made.path).with_suffix(".note").unlink()

    assert inventory(made) == found
    assert {name: (held.size, oct(held.mode)) for name, held in found.items()} == {
        "app.py": (len(WORDS), "0o100644"),
        "bin/run": (2, "0o100755"),
        "link": (6, "0o120777"),
    }
    assert found["app.py"].digest == hashlib.sha256(WORDS.encode()).digest()
