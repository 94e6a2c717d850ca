"""What a Terraform module's files tell without running anything: its variables, the zip it expects, what decides it.

HCL is read by patterns, not parsed. A digest that misses what decides is mended by the next plan that anything else
makes necessary; one that holds too much costs a plan that finds nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_OWN = ("*.tf", "*.tf.json", "*.tofu", "*.tofu.json", "*.tfvars", "*.tfvars.json", ".terraform.lock.hcl")
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_HERE = re.compile(r"\$\{path\.(?:module|root|cwd)\}/?")
_NOT_DECIDING = (".tfstate", ".tfstate.backup", ".tfplan", ".tflock")
REHEARSAL = "pointsman_rehearsal_override.tf"

# Variables with these names are taken to be for the build, where the file does not say which are.
OBVIOUS: Mapping[str, tuple[str, ...]] = {
    "package": (
        "package_path",
        "package_file",
        "lambda_package",
        "lambda_zip",
        "zip_path",
        "zip_file",
        "lambda_filename",
    ),
    "digest": ("package_hash", "package_sha256", "package_digest", "source_code_hash", "lambda_hash", "code_sha256"),
    "build": ("build_id", "build_number", "build"),
    "branch": ("git_branch", "branch", "branch_name"),
}
OBVIOUS_OF_IMAGES: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("image_uri", "lambda_image_uri", "lambda_image", "container_image", "container_image_uri", "docker_image"),
        *("image", "ecr_image_uri", "image_url"),
    ),
    "digest": ("image_digest", "lambda_image_digest", "container_image_digest", "image_sha256"),
    "build": OBVIOUS["build"],
    "branch": OBVIOUS["branch"],
}


def variables(directory: Path) -> frozenset[str]:
    """The variables the root module declares."""
    found: set[str] = set()
    for file in _files(directory):
        text = _text(file)
        if file.name.endswith(".json"):
            declared = _json(text).get("variable")
            found |= set(declared) if isinstance(declared, dict) else set()
        else:
            found |= {a or b for a, b in re.findall(r'^\s*variable\s+(?:"([^"]+)"|([\w-]+))\s*\{', text, re.MULTILINE)}
    return frozenset(found)


def constant_package(directory: Path) -> Path | None:
    """The zip that the module's only function names by a constant, unless the module makes it itself.

    A zip that lies there already and is not published by the module is taken for a stand-in, and left alone.
    """
    text = "\n".join(_without_comments(_text(file)) for file in _files(directory) if file.suffix != ".json")
    made = {_place(directory, each) for each in re.findall(r'output_path\s*=\s*"([^"]+)"', text)}
    functions = [block for block in _blocks(text) if block.startswith('resource "aws_lambda_function"')]
    named = [found[1] for block in functions if (found := re.search(r'\bfilename\s*=\s*"([^"]+)"', block))]
    place = _place(directory, named[0]) if len(set(named)) == 1 else None
    if place is None or place in made or place.suffix not in (".zip", ".jar"):
        return None
    publishes = any(re.search(r"\bpublish\s*=\s*(?!false)", block) for block in functions)
    return place if publishes or not place.exists() else None


def leaves_images(directory: Path) -> tuple[bool, ...]:
    """Of each function made of an image, here and in modules that lie on this disk: whether it leaves that to others,
    by `ignore_changes`. What is not written in the function's own resource is not seen.
    """
    found = []
    for module in _modules(directory.resolve(), set()):
        for file in _files(module):
            text = _text(file)
            if file.name.endswith(".json"):
                found += [each for each in map(_leaves_its_image, _json_functions(_json(text))) if each is not None]
                continue
            for block in _blocks(_without_comments(text)):
                head, image = block.startswith('resource "aws_lambda_function"'), r"^\s*image_uri\s*=|\"Image\""
                if head and re.search(image, block, re.MULTILINE):
                    ignored = re.search(r"\bignore_changes\s*=\s*(all\b|\[[^\]]*\bimage_uri\b)", block)
                    found.append(ignored is not None)
    return tuple(found)


def _modules(directory: Path, seen: set[Path]) -> Iterator[Path]:
    """The root module, and those it calls: local ones, and what `init` has brought here of others."""
    if directory in seen or not directory.is_dir():
        return
    seen.add(directory)
    yield directory
    installed = _json(_text(directory / ".terraform" / "modules" / "modules.json")).get("Modules")
    for each in installed if isinstance(installed, list) else ():
        yield from _modules((directory / str(each.get("Dir") or ".")).resolve(), seen)
    for file in _files(directory):
        for source in re.findall(r'"?source"?\s*[=:]\s*"(\.\.?/[^"]*)"', _without_comments(_text(file))):
            yield from _modules((directory / source).resolve(), seen)


def _json_functions(document: Mapping[str, object]) -> list[object]:
    resources = document.get("resource")
    named = resources.get("aws_lambda_function") if isinstance(resources, dict) else None
    return list(named.values()) if isinstance(named, dict) else []


def _leaves_its_image(body: object) -> bool | None:
    if not isinstance(body, dict) or not ("image_uri" in body or body.get("package_type") == "Image"):
        return None
    return bool(re.search(r'"ignore_changes": ("all"|\[[^\]]*"image_uri")', json.dumps(body)))


def _blocks(text: str) -> list[str]:
    starts = r"^(?=(?:resource|data|module|variable|output|provider|locals|terraform)\b)"
    return re.split(starts, text, flags=re.MULTILINE)


def digest(directory: Path, *, root: Path, package: Path | None, more: object) -> str:
    """What decides the outcome of a plan but for the world and the package: hex SHA-256.

    The module's own files, local modules it uses, and files it names by a literal (policies, templates, sources).
    """
    total = hashlib.sha256(json.dumps(more, sort_keys=True).encode())
    for file in sorted(set(_deciding(directory.resolve(), root.resolve(), set()))):
        if file == package or file.name == REHEARSAL or file.name.endswith(_NOT_DECIDING):
            continue
        try:
            content = hashlib.sha256(file.read_bytes()).digest()
        except OSError:
            continue  # a link to nowhere, or gone meanwhile: Terraform will say if it matters
        total.update(os.path.relpath(file, root).encode() + b"\0" + content)
    return total.hexdigest()


def needs_init(directory: Path, more: object) -> str:
    """A digest of what `init` reads: backend, providers, module sources, the lock file."""
    words: list[str] = []
    for file in _files(directory):
        text = _without_comments(_text(file))
        words += re.findall(r'^\s*(?:source|version|required_version)\s*=\s*"[^"]*"', text, re.MULTILINE)
        words += re.findall(r"^\s*(?:backend|cloud)\b[^{\n]*\{[^}]*\}", text, re.MULTILINE)
        words += re.findall(r"^\s*module\b[^{\n]*", text, re.MULTILINE)
        words += re.findall(r"required_providers\s*\{(?:[^{}]|\{[^{}]*\})*\}", text)
        words += [text] if file.suffix == ".json" else []
    return hashlib.sha256(
        json.dumps([sorted(words), _text(directory / ".terraform.lock.hcl"), more]).encode()
    ).hexdigest()


def shares_its_state(directory: Path) -> bool:
    """Whether the module names a backend that other machines can reach: anything but "local"."""
    for file in _files(directory):
        if file.name.endswith(".json"):
            blocks = json.dumps(_json(_text(file)).get("terraform"))
            found = re.search(r'"backend": [\[{]+"(?!local")|"cloud": ', blocks)
        else:
            text = _without_comments(_text(file))
            found = re.search(r'^\s*backend\s+"(?!local")|^\s*cloud\s*\{', text, re.MULTILINE)
        if found:
            return True
    return False


def _files(directory: Path) -> list[Path]:
    patterns = _OWN[:4]
    return sorted(each for pattern in patterns for each in directory.glob(pattern) if each.name != REHEARSAL)


def _deciding(module: Path, root: Path, seen: set[Path]) -> Iterator[Path]:
    if module in seen or not module.is_dir():
        return
    seen.add(module)
    for pattern in _OWN:
        yield from (each for each in module.glob(pattern) if each.is_file())
    for file in _files(module):
        text = _without_comments(_text(file))
        made = {_place(module, each) for each in re.findall(r'output_path\s*=\s*"([^"]+)"', text)}
        for source in re.findall(r'"?source"?\s*[=:]\s*"(\.\.?/[^"]*)"', text):
            yield from _deciding((module / source).resolve(), root, seen)
        folders = {_place(module, each) for each in re.findall(r'source_(?:dir|path)\s*=\s*"([^"]+)"', text)}
        for literal in set(_STRING.findall(text)):
            place = _place(module, literal)
            if place is None or place in made:
                continue
            if "*" in place.name:
                yield from (each for each in place.parent.glob(place.name) if each.is_file())
            elif place.is_file():
                yield place
            elif place in folders and place.is_dir() and place != root:
                yield from (each for each in sorted(place.rglob("*")) if each.is_file())


def _place(module: Path, literal: str) -> Path | None:
    """The path a literal means, beside the module; None for what is no constant path."""
    text = _HERE.sub("", literal)
    if not text or text.startswith("/") or "${" in text or "%{" in text or len(text) > 200 or text in (".", ".."):
        return None
    try:
        return Path(os.path.normpath(module / text))
    except ValueError:
        return None


def _without_comments(text: str) -> str:
    return re.sub(
        r"^\s*(#|//).*$",
        "",
        re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL) if "/*\n" in text else text,
        flags=re.MULTILINE,
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
