"""Whatever bytes lie in the files that are read: no stack trace, and a file that the config accepts."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman import adoption, config
from tests.decide.adoption.conftest import lay

FILES = (
    *(
        "main.tf",
        "cdktf.tf.json",
        "terraform/main.tf",
        "terraform/terraform.tfvars",
        "terraform.tfstate",
        ".terraform/environment",
    ),
    *("template.yaml", "samconfig.toml", "cdk.json", "cdk.out/manifest.json", "cdk.out/a.template.json"),
    *(
        "serverless.yml",
        "package.json",
        "claudia.json",
        "function.json",
        "function.jsonnet",
        ".lambdaignore",
        "deploy.sh",
    ),
)
# What the readers look for, so that junk gets past the first question.
WORDS = (
    *(b'resource "aws_lambda_function" "f" {\n', b"}\n", b"function_name = ", b'"${', b'}"', b"<<EOT\n", b"lambda"),
    *(
        b'module "m" {\nsource = "./terraform"\n',
        b"AWS::Serverless::Function",
        b"AWS::Lambda::Function",
        b"Resources:\n",
    ),
    *(
        b"  A:\n    Type: ",
        b"Properties: ",
        b"functions:\n",
        b"service: x\n",
        b"provider: {name: aws}\n",
        b"handler: a.b\n",
    ),
    *(
        b"${self:a}",
        b"a: ${self:a.b}\n",
        b"${file(package.json)}",
        b'{"FunctionName": "',
        b'"Role"',
        b"{{ env `A` }}",
        b'"}',
    ),
    *(
        b"&a [*a]",
        b"!Ref ",
        b"!!python/object:os.system",
        b"\xff\xfe",
        b"\x00",
        b"[" * 500,
        b"{",
        b"}",
        b"'",
        b'"',
        b"\t",
        b"\n",
    ),
)
TEXT = st.lists(st.sampled_from(WORDS) | st.binary(max_size=12), max_size=12).map(b"".join)
KEYS = (
    *(
        "Resources",
        "A",
        "Type",
        "Properties",
        "Handler",
        "CodeUri",
        "functions",
        "handler",
        "service",
        "provider",
        "name",
    ),
    *(
        "package",
        "patterns",
        "FunctionName",
        "Role",
        "Environment",
        "Variables",
        "lambda",
        "api",
        "module",
        "resources",
    ),
    *("instances", "attributes", "type", "mode", "artifacts", "properties", "templateFile", "default", "deploy"),
)
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["a.b", "${self:service}", "./x"])
)
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(FILES), TEXT | JSON, min_size=1, max_size=5))
def test_whatever_bytes_lie_there_a_file_is_written_that_is_accepted(files: dict[str, Any]) -> None:
    with TemporaryDirectory() as home:
        lay(Path(home), {path: each if each is not None else b"" for path, each in files.items()})

        text = adoption.write(adoption.look(Path(home)))

        assert config.parse(text, file=Path(home) / "pointsman.toml").functions


def test_a_huge_file_and_a_deep_folder_are_passed_over(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "template.yaml": b"Resources: {A: {Type: AWS::Lambda::Function}}\n" + b"# " * 600_000,
            "a/b/c/d/e/f/serverless.yml": "service: x\nprovider: {name: aws}\nfunctions: {a: {handler: b.c}}\n",
            "index.js": "exports.handler = 1",
        },
    )

    assert adoption.look(tmp_path).kind == "plain"


def test_yaml_that_would_fill_the_memory_is_no_template(tmp_path: Path) -> None:
    lines = ["a0: &a0 [AWS::Lambda::Function]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 300)}]" for n in range(1, 9)]
    lay(tmp_path, {"template.yaml": "\n".join(lines), "serverless.yml": "\n".join(lines), "index.js": ""})

    assert adoption.look(tmp_path).kind == "plain"
