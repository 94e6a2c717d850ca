"""Where an environment is: its regions in waves, what of a function is otherwise there, and what the file may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman import config, places
from pointsman.config import CloudFormation, Direct, Project
from pointsman.errors import ConfigInvalid

FUNCTION = """\
[function.greeting]
handler = "index.handler"
runtime = "python3.13"
build = "python"
[function.greeting.provision]
with = "direct"
role = "arn:aws:iam::{account}:role/r"
memory = 128
environment = { AA = "1", BB = "1" }
"""


def parsed(tmp_path: Path, text: str, function: str = FUNCTION) -> Project:
    return config.parse(f"{function}\n{text}", file=tmp_path / "pointsman.toml")


def regions(project: Project) -> list[list[str | None]]:
    return [[each.region for each in wave] for wave in places.waves(project.environments["production"])]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('region = "eu-west-1"', [["eu-west-1"]]),
        ("", [[None]]),
        ('regions = ["eu-west-1", "us-east-1"]', [["eu-west-1"], ["us-east-1"]]),
        ('waves = ["eu-west-1", ["us-east-1", "eu-north-1"]]', [["eu-west-1"], ["us-east-1", "eu-north-1"]]),
        (
            'regions = ["us-east-1", "eu-west-1"]\nwaves = [["eu-west-1"], ["us-east-1"]]',
            [["eu-west-1"], ["us-east-1"]],
        ),
    ],
)
def test_regions_move_in_waves_one_by_one_where_none_are_said(
    tmp_path: Path, said: str, meant: list[list[str | None]]
) -> None:
    project = parsed(tmp_path, f'[environment.production]\nalias = "PROD"\naccount = "222222222222"\n{said}')
    assert regions(project) == meant


def test_narrowed_to_one_region_it_still_has_its_title(tmp_path: Path) -> None:
    text = '[environment.production]\nalias = "PROD"\naccount = "222222222222"\nregions = ["eu-west-1", "us-east-1"]'
    environment = places.in_region(parsed(tmp_path, text).environments["production"], "us-east-1")
    assert [[each.region for each in wave] for wave in places.waves(environment)] == [["us-east-1"]]
    assert places.title("greeting", environment) == "greeting in us-east-1"
    assert places.titled("greeting in us-east-1") == ("greeting", "us-east-1")
    assert places.titled("greeting") == ("greeting", "")


def test_an_environments_settings_stand_over_the_functions(tmp_path: Path) -> None:
    text = """\
[environment.production]
alias = "PROD"
account = "222222222222"
[environment.production.function.greeting]
memory = 512
environment = { BB = "2", CC = "3" }
"""
    project = parsed(tmp_path, text)
    environment = project.environments["production"]
    made = places.function_at(
        project.functions["greeting"],
        environment,
        lambda text: places.filled(text, region="eu-west-1", account=places.account(environment)),
    ).provision
    assert isinstance(made, Direct)
    assert (made.role, made.memory) == ("arn:aws:iam::222222222222:role/r", 512)
    assert made.environment == {"AA": "1", "BB": "2", "CC": "3"}


def test_a_stack_may_have_another_name_and_other_parameters(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("{}")
    function = """\
[function.greeting]
handler = "index.handler"
runtime = "python3.13"
build = "python"
provision = { with = "cloudformation", stack = "s", template = "t.yaml", function = "F", parameters = { A = "1" } }
"""
    text = '[environment.p]\nalias = "P"\n[environment.p.function.greeting]\nstack = "s-p"\nparameters = { B = "2" }'
    project = parsed(tmp_path, text, function)
    made = places.function_at(project.functions["greeting"], project.environments["p"], lambda text: text).provision
    assert isinstance(made, CloudFormation)
    assert (made.stack, made.parameters) == ("s-p", {"A": "1", "B": "2"})


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ('region = "eu-west-1"\nregions = ["us-east-1"]', "production.region stands beside `regions`"),
        ('regions = ["eu-west-1", "eu-west-1"]', "production.regions names a region twice"),
        ('regions = ["eu-west-1"]\nwaves = [["us-east-1"]]', "production.waves has"),
        ("regions = []", "production.regions is an empty list; must be"),
        ("waves = []", "production.waves is an empty list; must be"),
        ('waves = [["eu-west-1"], []]', "production.waves has an empty wave"),
        ('external_id = "abc"', "production.external_id has no use without a role to assume"),
        (
            'role_arn = "arn:aws:iam::222222222222:role/d"\nrole_duration = "13h"',
            'production.role_duration is "13h"; must be from 15m to 12h',
        ),
        (
            'role_arn = "arn:aws:iam::222222222222:role/d"\nweb_identity_token_file = "t"\nmfa_serial = "GAHT12345678"',
            "production.web_identity_token_file stands beside mfa_serial",
        ),
        (
            "function.greetings.memory = 256",
            "production.function.greetings is not a function of the file; did you mean",
        ),
        ('function.greeting.stack = "s"', 'must have provision = { with = "cloudformation", … }'),
        ('bucket = "Packages-{region}"', "production.bucket is"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, said: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        parsed(tmp_path, f'[environment.production]\nalias = "PROD"\naccount = "222222222222"\n{said}')
    assert problem in str(refused.value)
    assert len(refused.value.problems) == 1


def test_an_account_that_a_role_stands_for_must_be_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"environment\.production\.account is missing"):
        parsed(tmp_path, '[environment.production]\nalias = "PROD"')


def test_two_environments_may_share_an_alias_in_other_regions_and_not_in_one(tmp_path: Path) -> None:
    text = """\
[environment.one]
alias = "PROD"
account = "222222222222"
regions = ["eu-west-1", "us-east-1"]
[environment.two]
alias = "PROD"
account = "222222222222"
region = "us-east-1"
"""
    with pytest.raises(ConfigInvalid, match=r"is environment\.one's"):
        parsed(tmp_path, text)
    assert len(parsed(tmp_path, text.replace('region = "us-east-1"', 'region = "eu-north-1"')).environments) == 2
