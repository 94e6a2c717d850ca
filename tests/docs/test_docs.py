"""The documentation says what the code does: compared, not trusted."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from pointsman import config
from pointsman.cli import parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_command_reference_is_what_the_commands_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "docs"), "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_the_readme_names_every_command_and_every_exit_code() -> None:
    for _title, group in parser.GROUPS:
        for name, _text in group:
            assert re.search(rf"`{name}\b|`{name} |\b{name}\b.*`", README), f"README does not name {name}"
    documented = re.findall(r"^\s+(\d+)  ", parser.EXIT_CODES, re.MULTILINE)
    documented += re.findall(r"   (\d+)  ", parser.EXIT_CODES)
    for code in {*documented, "130"}:
        assert f"| {code} |" in README


def test_every_command_has_an_example_in_its_help() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for _title, group in parser.GROUPS:
        for name, _text in group:
            section = page.split(f"## `pointsman {name}`", 1)[1].split("\n## ", 1)[0]
            assert "example:\n  " in section, name


def test_the_readmes_file_is_one_that_pointsman_accepts(tmp_path: Path) -> None:
    """The first block is a whole file; what further ones show is added to it."""
    (tmp_path / "cloudformation.template").write_text("{}")
    whole, *parts = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    for block in ("", *parts):
        project = config.parse(whole + block, file=tmp_path / "pointsman.toml")
        assert [str(each.alias) for each in project.environments.values()] == ["STAGE", "PROD"]


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_pointsman_command_that_the_pages_type_is_one() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "local-aws.md"):
        typed = re.findall(r"^(?:eval \"\$\()?pointsman ([^#\n)]*)", page.read_text(), re.MULTILINE)
        assert typed, page.name
        for words in typed:
            parser.build().parse_args(shlex.split(words))  # exits with 2 if it is none


def test_an_operation_said_to_be_exact_is_proved_by_the_conformance_suite() -> None:
    page = (ROOT / "docs" / "local-aws-coverage.md").read_text()
    unproved = [name for name, tests in re.findall(r"^\| (\w+) \| exact \| (\d*) \|", page, re.MULTILINE) if not tests]
    assert unproved == []


def test_the_page_on_prune_names_every_permission_and_every_service() -> None:
    from pointsman.references import KEYS, SOURCES

    page = (ROOT / "docs" / "prune.md").read_text()
    assert not [need for source in SOURCES for need in source.needs if f"`{need}`" not in page]
    assert parser.NAMING == KEYS  # the grammar starts fast, and has its own list
    assert set(KEYS) == set(config.Service.__args__)
