"""`[ledger]` of pointsman.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman import config
from pointsman.errors import ConfigInvalid

FUNCTION = '[function.a]\nbuild = "python"\n[ledger]\n'


def parsed(text: str, folder: Path) -> config.Ledger:
    return config.parse(FUNCTION + text, file=folder / "pointsman.toml").ledger


def test_a_table_may_be_in_another_place_and_hold_several_ledgers(tmp_path: Path) -> None:
    found = parsed('url = "dynamodb://team/shop"\nregion = "eu-west-1"\nprofile = "tools"\nkeep_days = 400', tmp_path)

    assert (found.url, found.region, found.profile, found.keep_days) == (
        "dynamodb://team/shop",
        "eu-west-1",
        "tools",
        400,
    )


@pytest.mark.parametrize("url", ["dynamodb://ab", "dynamodb://team/", "dynamodb://team/a/b", "dynamodb://team/a b"])
def test_what_is_no_tables_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"ledger\.url is"):
        parsed(f'url = "{url}"', tmp_path)


@pytest.mark.parametrize(
    "line",
    ['region = "eu-west-1"', 'profile = "tools"', 'role_arn = "arn:aws:iam::123456789012:role/x"', "keep_days = 90"],
)
def test_what_only_a_table_has_use_for_is_refused_beside_a_file(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigInvalid, match="has no use with a ledger in a file"):
        parsed(line, tmp_path)


def test_less_than_thirty_days_are_too_few_to_resume_by(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"ledger\.keep_days is 29"):
        parsed('url = "dynamodb://team"\nkeep_days = 29', tmp_path)
