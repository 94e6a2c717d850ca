"""The reference, the schema and `explain` say what `parse` does."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman import config
from pointsman.errors import ConfigInvalid, UsageError

REFERENCE = files("pointsman").joinpath("config_reference.toml").read_text("utf-8")
# A commented-out key or table, unlike a sentence, follows its # at once.
ALTERNATIVE = re.compile(r"^#(?=[\[a-z])", re.MULTILINE)
STRUCTS = [each for each in vars(config).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cloudformation.template").write_text("{}")
    (tmp_path / "terraform").mkdir()
    (tmp_path / "layers" / "common").mkdir(parents=True)
    return tmp_path


def test_the_committed_reference_is_the_generated_one() -> None:
    """After a change: python -c "from pointsman import config; print(config.explain(), end='')" > the file."""
    assert config.explain() == REFERENCE


def test_the_reference_is_a_file_that_is_accepted(folder: Path) -> None:
    project = config.parse(REFERENCE, file=folder / "pointsman.toml")

    assert project.functions["greeting"].test.integration is not None
    assert project.environments["production"].rollout is not None


def test_the_references_alternatives_are_accepted(folder: Path) -> None:
    """Each commented-out table in place of the one that stands there; each commented-out key in place of its rivals."""
    before, provisions = REFERENCE.split("# A stack owns", 1)
    provisions, after = provisions.split("# The gates of", 1)
    blocks = re.split(r"\n(?=#\[function\.greeting\.provision\]\n)", ALTERNATIVE.sub("#", provisions))
    assert len(blocks) == 4

    kinds = set()
    for block in (ALTERNATIVE.sub("", each) for each in blocks[1:]):
        block = re.sub(r"(?m)^image = ", "#image = ", block)  # of an input that is for images only
        text = before + block + "\n#" + after
        kinds.add(type(config.parse(text, file=folder / "pointsman.toml").functions["greeting"].provision))
    assert kinds == {config.Terraform, config.Direct, config.Existing}

    for build, keys in {"command": ("command", "artifact"), "zip": ("artifact",), "image": ("image",)}.items():
        text = REFERENCE.replace('build = "node"', f'build = "{build}"')
        for key in keys:
            text = text.replace(f"\n#{key} = ", f"\n{key} = ", 1)  # the first is the function's
        if build == "image":  # which brings both
            text = text.replace("\nhandler = ", "\n#handler = ").replace("\nruntime = ", "\n#runtime = ")
            text = re.sub(r'(?m)^((key|bucket|version) = "Code)', r"#\1", text)  # and goes by a parameter of its own
            text = text.replace('\n#image = "ImageUri"', '\nimage = "ImageUri"')
        assert config.parse(text, file=folder / "pointsman.toml").functions["greeting"].build == build

    text = REFERENCE.replace("\n#type = ", "\ntype = ").replace("\nsteps = ", "\n#steps = ")
    rollout = config.parse(text, file=folder / "pointsman.toml").environments["production"].rollout
    assert rollout is not None
    assert rollout.type == "Linear10PercentEvery1Minute"

    gates = REFERENCE.split("[[environment.production.gates]]")[1]
    for keys in ((), ("url", "status", "contains"), ("approve", "expires"), ("pause",)):
        one = re.sub(r"^(run|junit|timeout) = .*\n", "", gates, flags=re.MULTILINE) if keys else gates
        for key in keys:
            one = one.replace(f"\n#{key} = ", f"\n{key} = ")
        (gate, *_) = (
            config.parse(REFERENCE.replace(gates, one), file=folder / "pointsman.toml").environments["production"].gates
        )
        assert getattr(gate, keys[0] if keys else "run"), keys


def test_every_key_stands_in_the_reference() -> None:
    written = set(re.findall(r"^#?([a-z_]+) = ", REFERENCE, re.MULTILINE))
    written |= {part for table in re.findall(r"^#?\[+(.*?)\]+$", REFERENCE, re.MULTILINE) for part in table.split(".")}

    inside = {
        "file",
        "root",
        "name",
        "table",
        "branch",
    }  # where the file lies; the table's name, twice; whose alias it is
    for struct in STRUCTS:
        keys = {field.encode_name for field in msgspec.structs.fields(struct)} - inside
        assert keys <= written, struct


def test_every_key_is_described_and_says_what_it_does() -> None:
    for path, struct, key in config._keys():
        text = config.explain(".".join(path))
        assert text.startswith("# "), path
        assert key in text, (path, struct)


def test_explain_shows_one_key() -> None:
    assert config.explain("environment.*.rollout.bake") == (
        "# environment.*.rollout.bake\n"
        '# How much of each step\'s traffic is counted, in time, before the next. Default: "2m".\n'
        '#   a duration such as "5m", "1h30m" or 90 (seconds), of 30 days at most\n'
        'bake = "2m"\n'
    )
    assert config.explain("environment.production.rollout.bake") == config.explain("environment.*.rollout.bake")


def test_explain_shows_one_table() -> None:
    assert config.explain("[ledger]") in REFERENCE
    assert tomllib.loads(config.explain("environment"))["environment"]["production"]["alias"] == "PROD"
    assert config.explain("environment") == config.explain("environment.staging")
    gates = tomllib.loads(config.explain("environment"))["environment"]["production"]["gates"]
    assert [each["when"] for each in gates] == ["traffic", "step"]
    assert "[[environment.*.rollout.checks]]" in config.explain("environment.production.rollout.checks")
    assert '#with = "terraform"' in config.explain("function.greeting.provision")
    assert 'with = "direct"' in config.explain("function.*.provision.role")


def test_explain_knows_the_likely_key() -> None:
    with pytest.raises(UsageError, match=r"Did you mean environment\.\*\.alias\?"):
        config.explain("environment.*.alia")


# The schema


def test_the_schema_is_one_and_takes_the_reference() -> None:
    schema = json.loads(json.dumps(config.schema()))

    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(tomllib.loads(REFERENCE))
    assert schema["properties"]["function"]["additionalProperties"]["properties"]["source"]["description"]


@pytest.mark.parametrize(
    "gates",
    [
        "gates = [{ when = 'step', approve = true }, { when = 'full', pause = true }]",
        "gates = { when = 'step', approve = true }",
        "[[environment.b.gates]]\nwhen = 'step'\nrun = 'x'\n[[environment.b.gates]]\nwhen = 'full'\nurl = 'http://x'",
    ],
)
def test_the_schema_takes_tables_of_a_list_in_every_form(folder: Path, gates: str) -> None:
    text = f"[function.a]\nbuild = 'python'\n[environment.b]\nalias = 'B'\nrollout = {{}}\n{gates}"

    jsonschema.Draft7Validator(config.schema()).validate(tomllib.loads(text))
    assert config.parse(text, file=folder / "pointsman.toml").environments["b"].gates[0].when == "step"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[function.a]\nsorce = '.'",
        "[function.a]\nbuild = 'nod'",
        "[function.'a b']",
        "[function.a]\nprovision = { with = 'direct' }",
        "[function.a]\nprovision = { with = 'existing', name = 'a/b' }",
        "[function.a]\ntest.unit = { run = 'x', timeout = '5 minutes' }",
        "[function.a]\n[environment.b]\nalias = '12'",
        "[function.a]\n[environment.b]\nalias = 'B'\nrollout = { steps = [0] }",
        "[function.a]\n[retention]\nkeep_days = 1.5",
        "[function.a]\n[[environment.b.gates]]\nrun = 'x'",
        "[function.a]\n[environment.b]\nalias = 'B'\ngates = [{ when = 'sometimes', run = 'x' }]",
        "[function.a]\n[environment.b]\nalias = 'B'\nwindow = { days = ['monday'] }",
        "[function.a]\n[environment.b]\nalias = 'B'\nrollout = { metrics = [{ name = 'a' }] }",
    ],
)
def test_the_schema_refuses_what_parse_refuses(folder: Path, text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(config.schema()).validate(tomllib.loads(text))
    with pytest.raises(ConfigInvalid):
        config.parse(text, file=folder / "pointsman.toml")


# Anything

SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["1970-01-01", "07:32:00"]).map(lambda text: ("date", text)),
    st.sampled_from(["5m", "PROD", "123456789012", "version", "node", "direct", "existing", "cloudformation", "a.zip"]),
    st.sampled_from(["python3.13", "index.handler", "arn:aws:iam::123456789012:role/x", "p99 * 2", "dynamodb://abc"]),
)
KEYS = st.one_of(st.sampled_from(sorted({path[-1] for path, *_ in config._keys()} | {"greeting"})), st.text(max_size=4))
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def likely(at: config._At = ()) -> st.SearchStrategy[dict[str, Any]]:
    """A document of the right shape, with any values in it."""
    keys = {path[len(at)] for path, *_ in config._keys() if path[: len(at)] == at and len(path) > len(at)}
    if keys == {"*"}:
        return st.dictionaries(st.sampled_from(["greeting", "b", ""]), likely((*at, "*")), max_size=2)
    inner = {
        key: likely((*at, key)) | ANYTHING
        if any(path[: len(at) + 1] == (*at, key) and len(path) > len(at) + 1 for path, *_ in config._keys())
        else ANYTHING
        for key in sorted(keys)
    }
    return st.fixed_dictionaries({}, optional=inner)


def as_toml(value: Any) -> str:
    match value:
        case ("date", str(text)):
            return text
        case dict():
            return f"{{ {', '.join(f'{config.toml(key)} = {as_toml(each)}' for key, each in value.items())} }}"
        case list():
            return f"[{', '.join(as_toml(each) for each in value)}]"
        case _:
            return config.toml(value)


def settle(folder: Path, text: str) -> None:
    """Parsed, or refused with problems of one line each; what is parsed, the schema takes too."""
    try:
        config.parse(text, file=folder / "pointsman.toml")
    except ConfigInvalid as refused:
        assert refused.problems
        assert all(problem and "\n" not in problem for problem in refused.problems)
        assert len(set(refused.problems)) == len(refused.problems)
    else:
        jsonschema.Draft7Validator(config.schema()).validate(tomllib.loads(text))


RUN = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@RUN
@given(st.one_of(st.dictionaries(KEYS, ANYTHING, max_size=4), likely()))
def test_any_document_is_parsed_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    text = "\n".join(f"{config.toml(key)} = {as_toml(each)}" for key, each in document.items())
    assert isinstance(tomllib.loads(text), dict)

    settle(tmp_path_factory.getbasetemp(), text)


@RUN
@given(st.data())
def test_any_change_of_the_reference_is_parsed_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """One value of a good file replaced by anything: deeper places are reached than by documents drawn at large."""
    document = tomllib.loads(REFERENCE)
    table: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(table)))
        value = table[key]
        tables = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        if not isinstance(tables[0], dict) or not tables[0] or data.draw(st.integers(0, 9)) == 0:
            break
        table = data.draw(st.sampled_from(tables))
    table[key] = data.draw(ANYTHING)

    settle(tmp_path_factory.getbasetemp(), "\n".join(f"{config.toml(k)} = {as_toml(v)}" for k, v in document.items()))


@RUN
@given(st.text())
def test_any_text_is_parsed_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    settle(tmp_path_factory.getbasetemp(), text)


@RUN
@given(
    st.one_of(
        st.text(), st.floats(allow_nan=False), st.integers(), st.booleans(), st.dictionaries(st.text(), st.text())
    )
)
def test_toml_writes_what_toml_reads(value: Any) -> None:
    assert tomllib.loads(f"a = {config.toml(value)}") == {"a": value}
