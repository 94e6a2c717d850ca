"""pointsman.toml: what is accepted, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman import config
from pointsman.config import CloudFormation, Direct, Existing, Function, Project, Terraform
from pointsman.errors import ConfigInvalid, UsageError
from pointsman.model import FunctionName

METRIC = '{ name = "m", namespace = "n", bad = "b", calls = "c", dimensions = { Version = "{version}" } }'
SLOW = METRIC.replace('"m"', '"slow"')
BLIND = METRIC.replace("{version}", "1")
FUNCTION = '[function.greeting]\nruntime = "python3.13"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cloudformation.template").write_text("{}")
    (tmp_path / "terraform").mkdir()
    return tmp_path


def read(folder: Path, text: str) -> Project:
    return config.parse(text, file=folder / "pointsman.toml")


def problems(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as refused:
        read(folder, text)
    return refused.value.problems


def only(folder: Path, text: str) -> str:
    (problem,) = problems(folder, text)
    return problem


def greeting(folder: Path, text: str) -> Function:
    return read(folder, f"[function.greeting]\n{text}").functions["greeting"]


# Accepted


def test_the_shortest_file_has_every_default(folder: Path) -> None:
    project = read(folder, FUNCTION)

    function = project.functions["greeting"]
    assert (function.name, function.source, function.build) == ("greeting", ".", "python")
    assert function.provision == Existing(name=FunctionName("greeting"))
    assert (function.test.unit, function.include, function.architecture) == (None, ("**",), "x86_64")
    assert (project.root, project.environments) == (folder, {})
    assert project.ledger.url == "sqlite:.pointsman/ledger.db"


def test_the_second_articles_file(folder: Path) -> None:
    project = read(
        folder,
        """
        [function.greeting]
        handler = "index.handler"
        runtime = "nodejs20.x"
        provision = { with = "cloudformation", stack = "s", template = "cloudformation.template", function = "G" }
        [function.greeting.test]
        unit = { run = "npm run xunit-test", junit = "xunit-test.xml" }
        integration = { run = "npm run xunit-itest", junit = ["a.xml", "b.xml"], against = "latest", timeout = "2m" }
        [environment.staging]
        alias = "STAGE"
        [environment.production]
        alias = "PROD"
        account = "123456789012"
        approve = true
        rollout = { steps = [1, 5.5, 100], bake = "1h30m", slow = "p99.9 * 1.5" }
        """,
    )

    function = project.functions["greeting"]
    assert function.build == "node"
    assert isinstance(function.provision, CloudFormation)
    assert (function.provision.function, function.provision.capabilities) == ("G", None)
    assert function.test.unit is not None
    assert function.test.unit.junit == ("xunit-test.xml",)
    assert function.test.integration is not None
    assert (function.test.integration.junit, function.test.integration.timeout) == (("a.xml", "b.xml"), 120)
    production = project.environments["production"]
    assert (production.name, production.alias, production.approve) == ("production", "PROD", True)
    assert production.rollout is not None
    assert (production.rollout.steps, production.rollout.bake) == ((1, 5.5, 100), 5400)
    assert list(project.environments) == ["staging", "production"]  # `deploy` goes to the first


def test_every_provisioner(folder: Path) -> None:
    role = "arn:aws:iam::123456789012:role/service-role/greeting"
    direct = greeting(
        folder, f'runtime = "python3.13"\nprovision = {{ with = "direct", role = "{role}", memory = 256 }}'
    )
    terraform = greeting(folder, 'runtime = "python3.13"\nprovision = { with = "terraform" }')
    existing = greeting(folder, 'runtime = "python3.13"\nprovision = { with = "existing", name = "api" }')

    assert direct.provision == Direct(role=role, memory=256)
    assert isinstance(terraform.provision, Terraform)
    assert terraform.provision.outputs.version == "lambda_version"
    assert existing.provision == Existing(name=FunctionName("api"))


@pytest.mark.parametrize(
    ("text", "files", "build"),
    [
        ('runtime = "python3.13"', (), "python"),
        ('runtime = "nodejs22.x"', ("app.py",), "node"),
        ("", ("package.json", "tool.py"), "node"),
        ("", ("index.mjs",), "node"),
        ("", ("app.py",), "python"),
        ('command = "make"\nartifact = "a.zip"\nruntime = "go1.x"', (), "command"),
        ('artifact = "a.zip"', ("app.py",), "zip"),
        ('image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a"', (), "image"),
        ('build = "python"\nruntime = "provided.al2023"', (), "python"),
    ],
)
def test_how_to_build_follows_from_what_is_given(folder: Path, text: str, files: tuple[str, ...], build: str) -> None:
    for name in files:
        (folder / name).touch()

    assert greeting(folder, text).build == build


@pytest.mark.parametrize(
    ("written", "seconds"), [('"5m"', 300), ('"90s"', 90), ('"1h 30m"', 5400), ("7", 7), ("0.5", 0.5), ('"1d"', 86400)]
)
def test_durations(folder: Path, written: str, seconds: float) -> None:
    function = greeting(folder, f'runtime = "python3.13"\ntest.unit = {{ run = "true", timeout = {written} }}')

    assert function.test.unit is not None
    assert function.test.unit.timeout == seconds


def test_the_same_alias_may_stand_in_two_accounts_or_regions(folder: Path) -> None:
    project = read(
        folder,
        FUNCTION
        + '[environment.a]\nalias = "PROD"\naccount = "111111111111"\n'
        + '[environment.b]\nalias = "PROD"\naccount = "222222222222"\n'
        + '[environment.c]\nalias = "PROD"\naccount = "222222222222"\nregion = "us-gov-west-1"\n'
        + '[environment.d]\nalias = "PROD"\nprofile = "other"\n',
    )

    assert len(project.environments) == 4


# Refused


def test_all_problems_are_told_at_once_and_each_in_one_line(folder: Path) -> None:
    """A user who mends one problem per run gives up before the last."""
    text = """
        functions = 3
        [function.greeting]
        sorce = "."
        source = "nowhere"
        handler = "index"
        runtime = "nodejs20"
        include = ["**", ""]
        build = "pyton"
        alias = "PROD"
        provision = { with = "cloudfront" }
        test.integration = { run = 3, against = "lastest", timeout = "5 minutes" }
        [function.b]
        runtime = "provided.al2023"
        [environment.staging]
        alias = "12"
        account = 123456789012
        [environment.production]
        aproved = true
        [ledger]
        url = "postgres://"
    """

    assert problems(folder, text) == (
        "functions is unknown; did you mean `function`?",
        "function.greeting.sorce is unknown; did you mean `source`?",
        'function.greeting.runtime is "nodejs20"; must be a runtime such as "nodejs22.x", "python3.13" or '
        '"provided.al2023"; did you mean "nodejs20.x"?',
        'function.greeting.include[1] is ""; must be a string that is not empty',
        'function.greeting.build is "pyton"; must be "command", "dotnet", "go", "image", '
        '"java", "make", "node", "python", "ruby", "rust" or "zip"; '
        'did you mean "python"?',
        "function.greeting.alias is unknown; must be one of source, handler, runtime, architecture, include, exclude, "
        "shared, sdk, build, target, command, artifact, image, bundle, image_config, provision, test "
        "(`alias` belongs in [environment.*])",
        'function.greeting.provision.with is "cloudfront"; must be "cloudformation", "terraform", "direct" or '
        '"existing"; did you mean "cloudformation"?',
        "function.greeting.test.integration.run is 3; must be a string that is not empty",
        'function.greeting.test.integration.against is "lastest"; must be "latest" or "version"; '
        'did you mean "latest"?',
        'function.greeting.test.integration.timeout is "5 minutes"; must be a duration such as "5m", "1h30m" or 90 '
        "(seconds), of 30 days at most",
        'function.greeting.source is "nowhere"; must be a folder, and there is none of this name beside the file',
        'function.b.build is missing, and neither the runtime nor the source tells it; must be "python", "node", '
        '"ruby", "java", "go", "dotnet", "rust", "make", "command", "zip" or "image"',
        'environment.staging.alias is "12"; must be an alias name: 1 to 128 letters, digits, hyphens and underscores, '
        "not digits only",
        "environment.staging.account is 123456789012; must be an account id: 12 digits, in quotes",
        "environment.production.aproved is unknown; did you mean `approve`?",
        "environment.production.alias is missing; must be an alias name: 1 to 128 letters, digits, hyphens and "
        "underscores, not digits only",
        'ledger.url is "postgres://"; must be "sqlite:PATH" or "dynamodb://TABLE"',
    )


IMAGE = 'image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a"'
STACK = 'with = "cloudformation", stack = "s", function = "f"'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('build = "command"\ncommand = "make"', 'artifact is missing; must be given with build = "command"'),
        ('build = "command"\nartifact = "a"', 'command is missing; must be given with build = "command"'),
        ('build = "zip"', 'artifact is missing; must be given with build = "zip"'),
        ('build = "image"', 'image is missing; must be given with build = "image"'),
        ('build = "node"\nartifact = "a"', 'artifact has no use with build = "node"'),
        (
            'build = "node"\nimage = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a"',
            'image has no use with build = "node"; must go (or be for build = "image")',
        ),
        ('runtime = "python3.13"\nhandler = "index"', 'handler is "index"; must be FILE.FUNCTION for python3.13'),
        ('build = "node"\nhandler = "in dex.h"', "handler without spaces"),
        ('build = "node"\nsource = ""', "source is"),
        ('build = "node"\nsource = "a\\u0000b"', 'source is "a\\u0000b"; must be a folder'),
        ('build = "node"\nsource = "cloudformation.template"', "must be a folder"),
        ('build = "node"\ninclude = []', "include is an empty list; must be a list, one at least"),
        ('build = "node"\nexclude = [" "]', "exclude[0] is"),
        ('build = "node"\nexclude = 3', "exclude is 3; must be a list"),
        ('build = "node"\narchitecture = "arm"', 'did you mean "arm64"?'),
        ('build = "node"\nprovision = "existing"', 'must be a table such as { with = "cloudformation", … }'),
        ('build = "node"\nprovision = {}', "provision.with is missing; must be"),
        ('build = "node"\nprovision = { with = 3 }', "provision.with is 3; must be"),
        ('build = "node"\nprovision = { with = "direct" }', "provision.role is missing; must be a role"),
        ('build = "node"\nprovision = { with = "direct", role = "arn:aws:iam::1:role/x" }', "must be a role"),
        ('build = "node"\nprovision = { with = "existing", name = "a/b" }', "must be a function name"),
        (
            'build = "node"\nprovision = { with = "existing", memory = 1 }',
            "belongs in [environment.*.function.*] or [function.*.provision]",
        ),
        (
            'build = "node"\nprovision = { with = "cloudformation", stack = "s", function = "f", template = "no" }',
            'provision.template is "no"; must be a file',
        ),
        ('build = "node"\nprovision = { with = "terraform", directory = "no" }', "directory is"),
        (
            f"{IMAGE}\nprovision = {{ {STACK}, code_parameters = {{ key = 'CodeKey' }} }}",
            'provision.code_parameters.key has no use with build = "image"; must be `image` instead',
        ),
        (
            f"build = 'node'\nprovision = {{ {STACK}, code_parameters = {{ image = 'ImageUri' }} }}",
            'provision.code_parameters.image has no use with build = "node"; must go',
        ),
        (
            f"{IMAGE}\nprovision = {{ {STACK}, code_parameters = {{ image = 'I', bucket = 'CodeBucket' }} }}",
            "provision.code_parameters.bucket stands beside `image`; must go, or `image` must",
        ),
        (
            f"build = 'node'\nprovision = {{ {STACK}, code_parameters = {{ bucket = 'CodeBucket' }} }}",
            "provision.code_parameters.key is missing; must be the parameter for the object's key",
        ),
        (
            f'{IMAGE}\nprovision = {{ with = "terraform", directory = ".", package = "a.zip" }}',
            'provision.package has no use with build = "image", which is no zip; must go',
        ),
        (
            f'{IMAGE}\nprovision = {{ with = "terraform", directory = ".", inputs = {{ package = "zip" }} }}',
            'provision.inputs.package has no use with build = "image"',
        ),
        (
            'build = "node"\nprovision = { with = "terraform", directory = ".", inputs = { image = "image_uri" } }',
            'provision.inputs.image has no use with build = "node"; must go (or be for build = "image")',
        ),
        ('build = "node"\ntest = [1]', "test is a list; must be a table, [function.greeting.test]"),
        ('build = "node"\ntest.unit = "npm test"', "test.unit is"),
        ('build = "node"\ntest.unit = { }', "test.unit.run is missing"),
        ('build = "node"\ntest.unit = { run = "x", timeout = 0 }', "timeout is 0; must be a duration"),
        ('build = "node"\ntest.unit = { run = "x", timeout = nan }', "timeout is nan; must be a duration"),
        ('build = "node"\ntest.unit = { run = "x", timeout = true }', "timeout is true; must be a duration"),
        ('build = "node"\ntest.unit = { run = "x", timeout = "" }', "must be a duration"),
    ],
)
def test_a_function_is_refused(folder: Path, text: str, problem: str) -> None:
    assert problem in only(folder, f"[function.greeting]\n{text}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "role_arn = 'arn:aws:iam::222222222222:role/x'\naccount = '111111111111'",
            "is a role of account 222222222222",
        ),
        ("account = '12345678901'", "must be an account id: 12 digits"),
        ("account = '１２３４５６７８９０１２'", "must be an account id: 12 digits"),
        ("region = 'Ireland'", "must be a region"),
        ("bucket = 'A'", "must be a bucket"),
        ("approve = 'yes'", 'approve is "yes"; must be true or false'),
        ("rollout = { steps = [5, 1] }", "rollout.steps is [5, 1]; must go up"),
        ("rollout = { steps = [5, 5] }", "must go up"),
        ("rollout = { steps = [0, 5] }", "rollout.steps[0] is 0; must be a number above 0 and up to 100"),
        ("rollout = { steps = [50, 101] }", "rollout.steps[1] is 101; must be a number above 0 and up to 100"),
        ("rollout = { steps = [inf] }", "rollout.steps[0] is inf"),
        ("rollout = { steps = [true] }", "rollout.steps[0] is true"),
        ("rollout = { steps = [1], type = 'AllAtOnce' }", "rollout.type stands beside `steps`"),
        ("rollout = { bake = 0 }", "rollout.bake is 0; must be a duration"),
        ("rollout = { lag = -1 }", 'rollout.lag is -1; must be a duration such as "2m", or 0'),
        ("rollout = { alpha = 0.5 }", "rollout.alpha is 0.5; must be a number above 0 and up to 0.2"),
        ("rollout = { quiet = 'go on' }", 'rollout.quiet is "go on"; must be "ask", "go-on" or "roll-back"; did you'),
        ("rollout = { metrics = 'a' }", 'rollout.metrics is "a"; must be a list of tables, [[environment.'),
        (f"rollout = {{ metrics = [{METRIC}, {METRIC}] }}", 'metrics[1].name is "m", which is another'),
        (f"rollout = {{ metrics = {BLIND} }}", "metrics.dimensions tell no version apart"),
        (f"rollout = {{ metrics = {SLOW} }}", "which is another signal's"),
        (f"rollout = {{ metrics = {METRIC[:-1]}, extra = 0.1, ratio = 2 }} }}", "ratio stands beside"),
        (
            "rollout = { checks = [{ every = '1m' }] }",
            "checks[0].run is missing; must be given: exactly one of `run` or",
        ),
        ("rollout = { checks = [{ run = 'a', status = 200 }] }", "checks[0].status has no use with `run`; must go"),
        ("rollout = { checks = [{ url = 'ftp://a' }] }", 'checks[0].url is "ftp://a"; must be a URL that begins'),
        ("rollout = { traffic = { events = [] } }", "rollout.traffic.events is an empty list; must be"),
        ("rollout = {}\ngates = [{ run = 'a' }]", "gates[0].when is missing"),
        (
            "rollout = {}\ngates = [{ when = 'full' }]",
            "gates[0].run is missing; must be given: exactly one of `run` or `url` or",
        ),
        ("rollout = {}\ngates = [{ when = 'full', approve = false }]", "exactly one of"),
        (
            "rollout = {}\ngates = [{ when = 'full', run = 'a', pause = true }]",
            "gates[0].pause stands beside `run`; must go, or",
        ),
        (
            "rollout = {}\ngates = [{ when = 'full', pause = true, expires = '4h' }]",
            "gates[0].expires has no use with `pause`",
        ),
        (
            "rollout = {}\ngates = [{ when = 'full', url = 'http://a', junit = 'a' }]",
            "gates[0].junit has no use with `url`",
        ),
        (
            "rollout = {}\ngates = [{ when = 'full', approve = true, at = 10 }]",
            'gates[0].at has no use with when = "full"',
        ),
        ("gates = { when = 'full', pause = true }", "production.gates stand without a rollout; must have one"),
        (
            "rollout = { type = 'AllAtOnce' }\ngates = { when = 'step', approve = true }",
            'gates[0].when is "step", and there are no steps',
        ),
        (
            "rollout = {}\ngates = [{ when = 'step', at = 5, pause = true }]",
            "gates[0].at is 5; must be one of the roll",
        ),
        ("window = { from = '9:00' }", 'window.from is "9:00"; must be a time from'),
        ("window = { from = '24:00' }", 'window.from is "24:00"; must be a time from'),
        ("window = { from = '09:00', to = '09:00' }", 'window.to is "09:00", as `from`; must be another time'),
        ("window = { days = 'sat sun' }", 'window.days is "sat sun"; must be "fri"'),
        ("window = { zone = 'Europe/Stokholm' }", 'did you mean "Europe/Stockholm"?'),
        ("window = { zone = '../UTC' }", 'window.zone is "../UTC"; must be a time zone'),
        ("window = { freeze = ['2026-02-30'] }", 'window.freeze[0] is "2026-02-30"; must be days that there are'),
        ("window = { freeze = '2026-12-24..2026-12-20' }", "window.freeze[0] is"),
        ("window = { freeze = [2026-12-24] }", "window.freeze[0] is a date or time; must be a day such as"),
        ("rollout = { budget = 5, errors = 1 }", "rollout.errors is 1; must be a number above 0 and up to 0.5"),
        ("rollout = { errors = 0 }", "rollout.errors is 0; must be a number above 0 and up to 0.5"),
        ("rollout = { alpha = 0.000001 }", "rollout.alpha is 1e-06, shared by 1 metric; must be at least 0.00001"),
        ("rollout = { alpha = 0.00001, slow = '1s' }", "shared by 2 metrics; must be at least 0.00002"),
        (
            "rollout = { traffic = { events = 'e.json', rate = 51 } }",
            "rate is 51; must be a number above 0",
        ),
        ("rollout = { budget = 5, slow = 'p99 + 1' }", "rollout.slow is"),
        ("rollout = { budget = 5, slow = 'p999' }", "rollout.slow is"),
        ("rollout = { type = 'Linear10PercentEvery1Minutes' }", "did you mean"),
    ],
)
def test_an_environment_is_refused(folder: Path, text: str, problem: str) -> None:
    assert problem in only(folder, f'{FUNCTION}[environment.production]\nalias = "PROD"\n{text}')


@pytest.mark.parametrize("slow", ["p99 * 1.5", "p99*2", "p50", "p99.9", "800ms", "1.5s"])
def test_what_slow_may_be(folder: Path, slow: str) -> None:
    project = read(folder, f"{FUNCTION}[environment.a]\nalias = 'A'\nrollout = {{ budget = 1, slow = '{slow}' }}")

    assert project.environments["a"].rollout is not None
    assert project.environments["a"].rollout.slow == slow


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "function is missing; must be a table with names, [function.NAME]"),
        ("function = 3", "function is 3; must be a table with names, [function.NAME]"),
        ("[[function]]\nname = 'x'", "function is a list; must be a table with names, [function.NAME]"),
        ("[function]", "function is an empty table; must be a table with names, [function.NAME]"),
        ("[function.'a b']\nbuild = 'node'", 'function."a b" cannot be called so; must be a name of 1 to 64 letters'),
        (
            FUNCTION + "[environment]\nalias = 'PROD'",
            'environment.alias is "PROD"; must be in a table with a name, [environment.NAME]',
        ),
        (FUNCTION + "[retention]\nkeep_days = 2026-01-01", "keep_days is a date or time; must be a whole number"),
        (FUNCTION + "[retention]\nkeep_deployments = 0", "must be a whole number from 1 to 10000"),
        (FUNCTION + "[retention]\nkeep_days = 1.5", "keep_days is 1.5; must be a whole number"),
        (FUNCTION + f"[retention]\nkeep_days = 0x{'f' * 6000}", "keep_days is a huge number; must be a whole number"),
        (FUNCTION + "[ledger]\nurl = 'dynamodb://a'", "ledger.url is"),
        (FUNCTION + "[branches]\nprotect = ['main', '']", 'branches.protect[1] is ""'),
        (FUNCTION + "[branches]\npreview = 1", "branches.preview is 1; must be true or false"),
    ],
)
def test_a_file_is_refused(folder: Path, text: str, problem: str) -> None:
    assert problem in only(folder, text)


def test_two_environments_may_not_move_one_alias(folder: Path) -> None:
    """Also where something else is wrong with one of them, and where one names the account by its role."""
    text = (
        FUNCTION
        + '[environment.a]\nalias = "PROD"\naccount = "111111111111"\napprove = 3\n'
        + '[environment.b]\nalias = "PROD"\nrole_arn = "arn:aws:iam::111111111111:role/x"\n'
    )

    assert problems(folder, text) == (
        "environment.a.approve is 3; must be true or false",
        'environment.b.alias is "PROD", which is environment.a\'s; must be another alias, account or region',
    )


def test_two_tables_may_not_release_one_function(folder: Path) -> None:
    text = FUNCTION + '[function.b]\nbuild = "node"\nprovision = { with = "existing", name = "greeting" }'

    assert only(folder, text) == "function.b is the same Lambda function as function.greeting; must be another, or go"


def test_a_variables_value_is_not_repeated(folder: Path) -> None:
    """It may be a secret, and problems end up in CI logs."""
    role = "arn:aws:iam::123456789012:role/x"
    text = f'provision = {{ with = "direct", role = "{role}", environment = {{ PIN = 4711, "1X" = "s3cret" }} }}'

    said = problems(folder, FUNCTION + text)

    assert said == (
        "function.greeting.provision.environment.PIN is a number; must be a string, in quotes",
        "function.greeting.provision.environment.1X cannot be called so; must be a variable's name: a letter, then "
        "letters, digits and _; AWS wants two characters at least",
    )


def test_variables_have_4_kb_together(folder: Path) -> None:
    role = "arn:aws:iam::123456789012:role/x"
    text = f'provision = {{ with = "direct", role = "{role}", environment = {{ LONG = "{"ä" * 2047}" }} }}'

    assert only(folder, FUNCTION + text).endswith("provision.environment is 4098 bytes in all; must be 4096 at most")


def test_a_problem_is_one_line_whatever_the_value(folder: Path) -> None:
    (problem,) = problems(folder, FUNCTION + '[environment.a]\nalias = "\\n\\u2028\\u0085\\u001b[2J' + "x" * 500 + '"')

    assert problem.isprintable()
    assert len(problem) < 250


# Not TOML, not readable


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[function.a]\nsource = .\n", 'line 2, column 10: not TOML: invalid value, in "source = ."'),
        ("a = [", 'line 1, at the end: not TOML: invalid value, in "a = ["'),
        ("a = 1\na = 2\n", 'line 2, column 6: not TOML: a key or table stands twice, in "a = 2"'),
        ("\x00", 'line 1, column 1: not TOML: invalid statement, in "\\u0000"'),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("a = " + "9" * 5000, "a number of thousands of digits"),
    ],
)
def test_what_is_not_toml(folder: Path, text: str, problem: str) -> None:
    assert problem in only(folder, text)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# fine\n# caf\xe9\n")

    for name, problem in (
        ("missing", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("latin", "line 2 is not UTF-8 text; save the file as UTF-8"),
    ):
        with pytest.raises(ConfigInvalid) as refused:
            config.load(tmp_path / name)
        assert refused.value.problems == (problem,)
        assert refused.value.file == str(tmp_path / name)


def test_what_a_windows_editor_saves_is_read(tmp_path: Path) -> None:
    (tmp_path / "pointsman.toml").write_bytes(b"\xef\xbb\xbf" + FUNCTION.replace("\n", "\r\n").encode())

    assert list(config.load(tmp_path / "pointsman.toml").functions) == ["greeting"]


# Found


def test_the_nearest_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "pointsman.toml").touch()
    (tmp_path / "a" / "pointsman.toml").touch()

    assert config.find(tmp_path / "a" / "b" / "c") == tmp_path / "a" / "pointsman.toml"


def test_a_repository_is_not_left(tmp_path: Path) -> None:
    """What lies above it belongs to something else, and its commands would be run."""
    (tmp_path / "repository" / "source").mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    (tmp_path / "pointsman.toml").touch()

    with pytest.raises(UsageError, match="pointsman init"):
        config.find(tmp_path / "repository" / "source")


@pytest.mark.parametrize(
    ("text", "ramp"),
    [
        ("", ((2, 120), (50, 120))),
        ("steps = [5, 100]\nbake = '1m'", ((5, 60),)),
        ("steps = [100]", ()),
        ("budget = 20", ((50, 120),)),
        ("type = 'AllAtOnce'", ()),
        ("type = 'Canary10Percent5Minutes'", ((10, 300),)),
        ("type = 'Linear10PercentEvery1Minute'", tuple((share, 60) for share in range(10, 100, 10))),
    ],
)
def test_what_a_rollouts_steps_come_to(folder: Path, text: str, ramp: tuple[tuple[float, float], ...]) -> None:
    rollout = (
        read(folder, f"{FUNCTION}[environment.a]\nalias = 'A'\n[environment.a.rollout]\n{text}")
        .environments["a"]
        .rollout
    )

    assert rollout is not None
    assert rollout.ramp == ramp


def test_a_rollout_without_keys_has_every_default(folder: Path) -> None:
    rollout = read(folder, f"{FUNCTION}[environment.a]\nalias = 'A'\nrollout = {{}}").environments["a"].rollout

    assert rollout == config.Rollout()
    assert (rollout.alpha, rollout.minimum, rollout.early, rollout.quiet) == (0.01, 50, True, "ask")
    assert (rollout.hold, rollout.limit, rollout.lag) == (1800, 86_400, 60)


def test_lists_of_tables(folder: Path) -> None:
    environment = read(
        folder,
        FUNCTION
        + """
        [environment.a]
        alias = "A"
        [environment.a.window]
        days = ["mon", "tue"]
        from = "22:00"
        to = "04:00"
        zone = "Europe/Stockholm"
        freeze = "2026-06-19"
        [environment.a.rollout]
        lag = 0
        checks = { url = "https://example.com/{version}", contains = "ok" }
        [[environment.a.gates]]
        when = "traffic"
        run = "npm run smoke"
        junit = "smoke.xml"
        [[environment.a.gates]]
        when = "step"
        at = 50
        approve = true
        expires = "1h"
        """,
    ).environments["a"]

    assert [(each.when, each.run, each.at, each.approve, each.expires) for each in environment.gates] == [
        ("traffic", "npm run smoke", None, False, None),
        ("step", None, 50, True, 3600),
    ]
    assert environment.window == config.Window(
        days=("mon", "tue"), since="22:00", to="04:00", zone="Europe/Stockholm", freeze=("2026-06-19",)
    )
    assert environment.rollout is not None
    assert environment.rollout.lag == 0
    assert environment.rollout.checks[0].failures == 3
