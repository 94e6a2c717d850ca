"""What `init` makes of a folder: every file it writes is one that `parse` accepts."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman import adoption, config
from pointsman.config import CloudFormation, CodeParameters, Direct, Existing, Function, Project
from pointsman.errors import UsageError
from pointsman.model import FunctionName

ROLE = "arn:aws:iam::123456789012:role/greeting"
TEMPLATE = {
    "Resources": {
        "GreetingLambda": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Code": {"ZipFile": "exports.handler = async () => 1"},
                "FunctionName": "Greeting",
                "Handler": "index.handler",
                "Role": {"Fn::GetAtt": ["GreetingRole", "Arn"]},
                "Runtime": "nodejs22.x",
            },
        },
        "GreetingRole": {"Type": "AWS::IAM::Role", "Properties": {}},
    }
}
SCRIPTS = {
    "test": "mocha",
    "xunit-test": "XUNIT_FILE=xunit-test.xml mocha -R xunit-file",
    "itest": "mocha integration-test",
    "xunit-itest": "XUNIT_FILE=xunit-itest.xml mocha integration-test -R xunit-file",
}


def lay(folder: Path, files: dict[str, str | dict[str, Any]]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def written(folder: Path, **given: str) -> Project:
    return config.parse(adoption.write(adoption.look(folder), **given), file=folder / "pointsman.toml")


def only(project: Project) -> Function:
    (function,) = project.functions.values()
    return function


def test_a_stack_with_node_sources_and_tests(tmp_path: Path) -> None:
    """The second article's shape, whose integration tests call the function by its bare name."""
    lay(
        tmp_path,
        {
            "cloudformation.template": TEMPLATE,
            "package.json": {"main": "index.js", "scripts": SCRIPTS, "devDependencies": {"mocha": "10"}},
            "index.js": "exports.handler = async () => 1",
            "integration-test/test.js": "lambda.invoke({FunctionName: 'Greeting'})",
            "scripts/0-create.sh": "stack_name=greeting-stack\naws … --stack-name $stack_name",
        },
    )

    project = written(tmp_path)

    function = only(project)
    assert function.provision == CloudFormation(
        stack="greeting-stack", function="Greeting", template="cloudformation.template"
    )
    assert (function.handler, function.runtime, function.build) == ("index.handler", "nodejs22.x", "node")
    unit, integration = function.test.unit, function.test.integration
    assert unit is not None
    assert integration is not None
    assert unit.run == "npm install --no-audit --no-fund && npm run xunit-test"
    assert unit.junit == ("xunit-test.xml",)
    assert integration.run == "npm install --no-audit --no-fund && npm run xunit-itest"
    assert (integration.junit, integration.against) == (("xunit-itest.xml",), "latest")
    environments = [(each.alias, each.approve) for each in project.environments.values()]
    assert environments == [("STAGE", False), ("PROD", True)]
    assert any("POINTSMAN_QUALIFIER" in note for note in adoption.look(tmp_path).notes)


def test_tests_that_speak_of_a_qualifier_test_the_version(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "package.json": {"scripts": {"itest": "mocha integration-test"}},
            "index.js": "exports.handler = 1",
            "integration-test/test.js": "invoke({Qualifier: process.env.POINTSMAN_QUALIFIER})",
            "integration-test/node_modules/aws-sdk/lambda.js": "",
        },
    )
    before = only(written(tmp_path)).test.integration
    lay(tmp_path, {"integration-test/test.js": "", "integration-test/node_modules/aws-sdk/lambda.js": "Qualifier"})
    after = only(written(tmp_path)).test.integration

    assert before is not None
    assert after is not None
    assert (before.against, after.against) == ("version", "latest")
    assert before.run == "npm run itest"  # nothing to install


def test_a_lock_file_is_installed_from(tmp_path: Path) -> None:
    lay(
        tmp_path, {"package.json": {"scripts": {"test": "jest"}, "dependencies": {"a": "1"}}, "package-lock.json": "{}"}
    )

    unit = only(written(tmp_path)).test.unit

    assert unit is not None
    assert (unit.run, unit.junit) == ("npm ci && npm run test", ())


@pytest.mark.parametrize(
    "script",
    [
        'echo "Error: no test specified" && exit 1',
        "claudia test-lambda --event test.json",
        "serverless invoke -f hello",
        "",
    ],
)
def test_npms_stand_in_and_a_call_of_what_is_deployed_are_no_tests(tmp_path: Path, script: str) -> None:
    scripts = (
        {"test": script, "posttest": "x", "test:watch": "x"} if script else {"latest-deploy": "x", "test:deploy": "x"}
    )
    lay(tmp_path, {"package.json": {"scripts": scripts}})

    assert only(written(tmp_path)).test == config.Tests()


def test_a_retired_runtime_is_kept_out_and_told(tmp_path: Path) -> None:
    """Lambda would refuse to create the stack; the template is the user's to change."""
    template = json.dumps(TEMPLATE).replace("nodejs22.x", "nodejs4.3")
    lay(tmp_path, {"cloudformation.template": template, "index.js": ""})

    function = only(written(tmp_path))
    notes = adoption.look(tmp_path).notes

    assert (function.runtime, function.build) == (None, "node")
    assert any("Greeting's Runtime, nodejs4.3: make it nodejs22.x" in note for note in notes)
    assert "# - cloudformation.template: Lambda no longer takes" in adoption.write(adoption.look(tmp_path))


def test_a_yaml_template_with_short_tags(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "infra/stack.yaml": """\
                AWSTemplateFormatVersion: 2010-09-09
                Transform: AWS::LanguageExtensions
                Parameters:
                  Runtime: { Type: String, Default: python3.12 }
                  Level: { Type: String }
                Resources:
                  Backend:
                    Type: AWS::Lambda::Function
                    Properties:
                      FunctionName: !Sub "${AWS::StackName}-backend"
                      Role: !GetAtt Role.Arn
                      Handler: app.lambda_handler
                      Runtime: !Ref Runtime
                      Tags: !If [Yes, [{ Key: a, Value: !Join ["-", [a, b]] }], !Ref AWS::NoValue]
                  Role: { Type: AWS::IAM::Role, Properties: { RoleName: backend } }
                """,
            "backend/app.py": "def lambda_handler(event, context): pass",
        },
    )

    function = only(written(tmp_path))

    assert (function.source, function.handler, function.runtime) == ("backend", "app.lambda_handler", "python3.12")
    provision = function.provision
    assert isinstance(provision, CloudFormation)
    assert (provision.template, provision.function) == ("infra/stack.yaml", "Backend")
    assert provision.capabilities == ("CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")
    assert provision.parameters == {"Level": ""}
    assert any("Level" in note for note in adoption.look(tmp_path).notes)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("AWS::Serverless::Function", "CodeUri: {Bucket: !Ref Bucket, Key: !Ref Zip}"),
        ("AWS::Lambda::Function", "Code: {S3Bucket: !Ref Bucket, S3Key: !Ref Zip}"),
    ],
)
def test_parameters_for_the_codes_place_are_recognised(tmp_path: Path, kind: str, code: str) -> None:
    template = f"""
Parameters:
  Bucket: {{Type: String}}
  Zip: {{Type: String}}
  Topic: {{Type: String}}
Resources:
  Hello:
    Type: {kind}
    Properties: {{{code}, Handler: app.handler, Runtime: python3.13}}
"""
    lay(tmp_path, {"template.yaml": template, "src/app.py": ""})

    provision = only(written(tmp_path)).provision

    assert isinstance(provision, config.CloudFormation)
    assert provision.code_parameters == config.CodeParameters(bucket="Bucket", key="Zip")
    assert provision.parameters == {"Topic": ""}


@pytest.mark.parametrize("place", ["template.yaml", "cdk.out/App.template.json"])
def test_code_that_stands_in_the_template_is_told(tmp_path: Path, place: str) -> None:
    code = {"ZipFile": "def main(event, context): pass"}
    function = {"Code": code, "Handler": "index.main", "Runtime": "python3.13"}
    template = {"Resources": {"Cron": {"Type": "AWS::Lambda::Function", "Properties": function}}}
    stack = {"type": "aws:cloudformation:stack", "properties": {"templateFile": "App.template.json"}}
    lay(tmp_path, {place: template})
    if place.startswith("cdk.out"):
        lay(tmp_path, {"cdk.json": {}, "cdk.out/manifest.json": {"artifacts": {"App": stack}}})

    notes = adoption.look(tmp_path).notes

    assert f"{place}: Cron's code stands in the template: put it into a file to have it versioned." in notes


@pytest.mark.parametrize(
    ("source", "bundle"),
    [("app.ts", config.Bundle(minify=True)), ("other.ts", None)],
)
def test_sams_bundle_is_taken_where_it_starts_at_the_handlers_file_and_is_minified_unless_told_not_to_be(
    tmp_path: Path, source: str, bundle: config.Bundle | None
) -> None:
    made_by = {"BuildMethod": "esbuild", "BuildProperties": {"EntryPoints": [source]}}
    said = {"CodeUri": "src/", "Handler": "app.handler", "Runtime": "nodejs22.x", "FunctionName": "Greeting"}
    template = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {"G": {"Type": "AWS::Serverless::Function", "Properties": said, "Metadata": made_by}},
    }
    lay(tmp_path, {"template.json": template, f"src/{source}": "export const handler = async () => 1"})
    lay(tmp_path, {"src/package.json": {"devDependencies": {"esbuild": "1"}}})

    found = written(tmp_path).functions

    assert [each.bundle for each in found.values()] == [bundle]


FUNCTION = {"Type": "AWS::Lambda::Function", "Properties": {"Handler": "app.handler", "Runtime": "python3.13"}}


@pytest.mark.parametrize(
    ("script", "stack"),
    [
        ("aws cloudformation deploy --stack-name shop-prod --template-file t.yaml", "shop-prod"),
        ('sam deploy --stack-name="shop"', "shop"),
        ("STACK_NAME=shop\n", "shop"),
        ('  export MY_STACK_NAME="${STACK_NAME:-shop-api}"', "shop-api"),
        ('echo "Please specify STACK_NAME environment variable"', None),
        ('echo "Deleting stack: $STACK_NAME in region: $REGION"', None),
        ("sam deploy --stack-name $STACK_NAME --region eu-west-1", None),
        ('STACK_NAME="$1"', None),
    ],
)
def test_the_stacks_name_is_an_option_or_an_assignment_and_no_prose(
    tmp_path: Path, script: str, stack: str | None
) -> None:
    lay(
        tmp_path, {"template.json": {"Resources": {"F": FUNCTION}}, "app.py": "def handler(e, c): ...", "go.sh": script}
    )

    provision = only(written(tmp_path)).provision

    assert isinstance(provision, CloudFormation)
    guessed = any("is a guess" in note for note in adoption.look(tmp_path).notes)
    assert (None if guessed else provision.stack) == stack


def test_a_nested_stack_is_said_to_be_one(tmp_path: Path) -> None:
    inner = {"Type": "AWS::Serverless::Application", "Properties": {"Location": "./admin.yaml"}}
    lay(tmp_path, {"template.yaml": {"Resources": {"Admin": inner}}, "admin.yaml": {"Resources": {"F": FUNCTION}}})
    lay(tmp_path, {"app.py": "def handler(e, c): ..."})

    assert any("admin.yaml is a nested stack of template.yaml" in note for note in adoption.look(tmp_path).notes)


def test_what_sam_tells_esbuild_is_told_to_it_here(tmp_path: Path) -> None:
    asked = {"Format": "esm", "MainFields": "module,main", "Loader": [".txt=text"], "KeepNames": True}
    said = {"CodeUri": "src/", "Handler": "app.handler", "Runtime": "nodejs22.x", "FunctionName": "Greeting"}
    made_by = {"BuildMethod": "esbuild", "BuildProperties": asked}
    function = {"Type": "AWS::Serverless::Function", "Properties": said, "Metadata": made_by}
    lay(tmp_path, {"template.yaml": {"Resources": {"G": function}}, "src/app.ts": "export const handler = 1"})
    lay(tmp_path, {"src/package.json": {"devDependencies": {"esbuild": "1"}}})

    bundle = only(written(tmp_path)).bundle

    assert bundle
    assert (bundle.format, bundle.options) == (
        "esm",
        ("--main-fields=module,main", "--loader:.txt=text", "--keep-names"),
    )


@pytest.mark.parametrize("metadata", [{"aws:asset:path": "asset.1", "aws:asset:is-bundled": True}, {}])
def test_what_the_cdk_bundled_is_the_package_wherever_it_lies_next_time(
    tmp_path: Path, metadata: dict[str, Any]
) -> None:
    """Its folder is named after its content, and is not written again where that is the same."""
    code = {"S3Bucket": {"Fn::Sub": "assets-${AWS::AccountId}"}, "S3Key": "1.zip"}
    properties = {"Handler": "index.handler", "Runtime": "nodejs22.x", "Code": code}
    function = {"Type": "AWS::Lambda::Function", "Properties": properties, "Metadata": metadata}
    stack = {"type": "aws:cloudformation:stack", "properties": {"templateFile": "App.template.json"}}
    to = {"bucketName": "assets", "objectKey": "1.zip"}
    files = {"1": {"source": {"path": "asset.1"}, "destinations": {"here": to}}}
    lay(tmp_path, {"cdk.json": {}, "cdk.out/manifest.json": {"artifacts": {"App": stack}}})
    lay(tmp_path, {"cdk.out/App.template.json": {"Resources": {"F1": function}}, "src/get.ts": ""})
    lay(tmp_path, {"cdk.out/App.assets.json": {"files": files}, "cdk.out/asset.1/index.js": "exports.handler = 1"})

    found = only(written(tmp_path))

    assert (found.build, found.artifact, found.command) == ("zip", "cdk.out/App.template.json#F1", None)


def test_of_many_functions_those_whose_code_is_here(tmp_path: Path) -> None:
    def function(handler: str, **more: str) -> dict[str, Any]:
        return {"Type": "AWS::Lambda::Function", "Properties": {"Handler": handler, "Runtime": "python3.13", **more}}

    resources = {
        "One": function("one.handler"),
        "Two": function("two.main.handler"),
        "Elsewhere": function("x.y"),
        "Image": {"Type": "AWS::Lambda::Function", "Properties": {"PackageType": "Image"}},
    }
    lay(tmp_path, {"template.json": {"Resources": resources}, "a/one.py": "", "b/two/main.py": ""})
    lay(tmp_path, {"b/other.py": "", "two/main.py": ""})

    project = written(tmp_path)

    assert {name: each.source for name, each in project.functions.items()} == {"One": "a", "Two": ".", "Image": "."}
    assert project.functions["Image"].image == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/image:latest"
    notes = " ".join(adoption.look(tmp_path).notes)
    assert "Elsewhere was left out" in notes


IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/greeting:live"


@pytest.mark.parametrize(
    ("said", "default", "given", "parameter"),
    [
        (IMAGE, "", "", None),
        ("!Ref Picture", IMAGE, "", "Picture"),
        ("!Ref Picture", "", IMAGE, "Picture"),
    ],
)
def test_a_function_of_an_image_is_taken_with_the_parameter_that_says_which(
    tmp_path: Path, said: str, default: str, given: str, parameter: str | None
) -> None:
    parameters = (
        ""
        if parameter is None
        else f"Parameters: {{Picture: {{Type: String{f', Default: {default!r}' if default else ''}}}}}\n"
    )
    resource = f"  Hello: {{Type: AWS::Serverless::Function, Properties: {{PackageType: Image, ImageUri: {said}}}}}\n"
    overrides = f'parameter_overrides = "Picture={given}"\n' if given else ""
    lay(
        tmp_path,
        {
            "template.yaml": parameters + "Resources:\n" + resource,
            "samconfig.toml": f'[default.deploy.parameters]\nstack_name = "hello"\n{overrides}',
        },
    )

    function = only(written(tmp_path))

    assert (function.build, function.image) == ("image", IMAGE)
    assert isinstance(function.provision, CloudFormation)
    assert function.provision.code_parameters == (CodeParameters(image=parameter) if parameter else None)
    assert function.provision.parameters == {}


def test_a_template_whose_code_is_elsewhere_still_gives_a_file(tmp_path: Path) -> None:
    properties = {"Handler": "x.y", "Runtime": "python3.13"}
    resources = {name: {"Type": "AWS::Lambda::Function", "Properties": properties} for name in ("One", "Two")}
    lay(tmp_path, {"template.json": {"Resources": resources}})

    provision = only(written(tmp_path)).provision

    assert isinstance(provision, CloudFormation)
    assert provision.function == "One"


def test_a_plain_folder_is_an_existing_function_or_with_a_role_a_new_one(tmp_path: Path) -> None:
    lay(tmp_path, {"lambda_function.py": "import json\n\ndef lambda_handler(event, context):\n    pass\n"})

    existing = only(written(tmp_path, name="greeting"))
    direct = only(written(tmp_path, name="greeting", role=ROLE, region="eu-west-1"))

    assert existing.provision == Existing(name=FunctionName("greeting"))
    assert (existing.handler, existing.build) == ("lambda_function.lambda_handler", "python")
    assert direct.provision == Direct(role=ROLE)
    assert (direct.name, direct.runtime) == ("greeting", f"python{adoption.python_here()}")


NODE = f"nodejs{adoption.node_here()}.x"


@pytest.mark.parametrize(
    ("files", "handler", "runtime"),
    [
        ({"index.mjs": "export const handler = 1"}, "index.handler", NODE),
        ({"index.js": "exports.greet = 1"}, "index.greet", NODE),
        (
            {"package.json": {"main": "src/app.js", "engines": {"node": ">=20"}}, "src/app.js": ""},
            "src/app.handler",
            "nodejs20.x",
        ),
        ({"app.py": "async def run(event, context): pass"}, "app.run", f"python{adoption.python_here()}"),
        ({"main.py": "", "pyproject.toml": 'requires-python = ">=3.11"'}, "main.lambda_handler", "python3.11"),
        ({"package.json": {"main": "../outside.js"}, "index.js": ""}, "index.handler", NODE),
    ],
)
def test_the_handler_of_a_plain_folder(
    tmp_path: Path, files: dict[str, str | dict[str, Any]], handler: str, runtime: str
) -> None:
    lay(tmp_path, files)

    function = only(written(tmp_path))

    assert (function.handler, function.runtime) == (handler, runtime)


def test_pytest_is_recognised(tmp_path: Path) -> None:
    lay(tmp_path, {"app.py": "", "requirements-dev.txt": "pytest\n", "tests/unit/test_a.py": ""})
    lay(tmp_path, {"tests/integration/test_b.py": "os.environ['POINTSMAN_FUNCTION_ARN']"})

    tests = only(written(tmp_path)).test

    assert tests.unit is not None
    assert tests.integration is not None
    assert tests.unit.run == "python -m pytest --junitxml=junit-unit.xml tests/unit"
    assert (tests.integration.junit, tests.integration.against) == (("junit-integration.xml",), "version")


BINARIES = """\
[package]
name = "test-handler"
[[bin]]
name = "function_a"
[[bin]]
name = "function_b"
"""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"Cargo.toml": '[package]\nname = "hello"\n', "src/main.rs": ""}, {"hello": ("rust", None, "bootstrap")}),
        (
            {"Cargo.toml": BINARIES, "src/function_a.rs": "", "src/function_b.rs": ""},
            {"function_a": ("rust", "function_a", "bootstrap"), "function_b": ("rust", "function_b", "bootstrap")},
        ),
        (
            {"Cargo.toml": '[workspace]\nmembers = ["foo", "bar"]\n'}
            | {f"{each}/Cargo.toml": f'[package]\nname = "{each}"\n' for each in ("foo", "bar")}
            | {f"{each}/src/main.rs": "" for each in ("foo", "bar")},
            {"foo": ("rust", "foo", "bootstrap"), "bar": ("rust", "bar", "bootstrap")},
        ),
        (
            {"go.mod": "module github.com/them/hello/v2\n\ngo 1.22\n", "main.go": "package main\n"},
            {"hello": ("go", None, "bootstrap")},
        ),
        (
            {"go.mod": "module them\n", "cmd/api/main.go": "package main\n", "lib/lib.go": "package lib\n"},
            {"api": ("go", "cmd/api", "bootstrap")},
        ),
        (
            {"pom.xml": "<maven.compiler.release>17</maven.compiler.release>"}
            | {"src/main/java/a/H.java": "package a;\npublic class H implements RequestHandler<A, B> {}"},
            {"api": ("java", None, "a.H::handleRequest")},
        ),
        (
            {
                "Makefile": "build-Hello:\n\tcp main.py $(ARTIFACTS_DIR)\n",
                "main.py": "def handler(event, context): 1\n",
            },
            {"Hello": ("make", "Hello", "main.handler")},
        ),
        ({"Hello.csproj": "<TargetFramework>net8.0</TargetFramework>"}, {"Hello": ("dotnet", None, None)}),
        (
            {"Cargo.toml": '[package]\nname = "hello"\n', "src/bin/one.rs": "", "src/lib.rs": ""},
            {"hello": ("rust", None, "bootstrap")},
        ),
        (
            {"build.gradle": "", "package.json": "{}", "index.js": "exports.handler = async () => 1"},
            {"api": ("node", None, "index.handler")},
        ),
    ],
    ids=[
        *("rust", "rust's binaries", "a rust workspace", "go", "go's programs", "java", "make", "dotnet"),
        *("rust's usual folder", "node beside Gradle"),
    ],
)
def test_what_is_compiled_is_told_by_its_manifest(
    tmp_path: Path, files: dict[str, str], expected: dict[str, tuple[str, str | None, str | None]]
) -> None:
    (tmp_path / "api").mkdir()
    lay(tmp_path / "api", files)

    functions = written(tmp_path / "api").functions

    assert {name: (each.build, each.target, each.handler) for name, each in functions.items()} == expected


@pytest.mark.parametrize(
    "files",
    [
        {"go.mod": "module them\n", "lib.go": "package lib\n"},
        {"Cargo.toml": '[package]\nname = "lib"\n', "src/lib.rs": ""},
    ],
    ids=["go", "rust"],
)
def test_a_library_is_no_function(tmp_path: Path, files: dict[str, str]) -> None:
    lay(tmp_path, files)

    assert only(written(tmp_path)).build == "zip"


def test_a_program_in_a_folder_below_is_found(tmp_path: Path) -> None:
    lay(tmp_path, {"README.md": "", "function/go.mod": "module example-go\n", "function/main.go": "package main\n"})

    function = only(written(tmp_path))

    assert (function.source, function.build, function.handler) == ("function", "go", "bootstrap")
    assert adoption.look(tmp_path).notes == ("function is the nearest folder with something to compile.",)


def test_a_handler_by_a_usual_name_is_found_in_a_file_of_any(tmp_path: Path) -> None:
    lay(tmp_path, {"included.ts": "export const lambdaHandler = async () => 1;", "excluded.js": "const x = 1;"})
    lay(tmp_path, {"package.json": {"name": "typed", "devDependencies": {"esbuild": "1"}}})

    function = only(written(tmp_path))

    assert (function.handler, function.build, function.bundle) == ("included.lambdaHandler", "node", config.Bundle())


def test_an_empty_folder_gives_a_file_to_start_from(tmp_path: Path) -> None:
    function = only(written(tmp_path))

    assert (function.build, function.artifact) == ("zip", "function.zip")
    assert adoption.look(tmp_path).notes == ("No handler was recognised: say what to package, and how.",)


def test_an_illegal_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 to 64 letters"):
        adoption.write(adoption.look(tmp_path), name="a/b")


def test_what_is_no_template_is_passed_over(tmp_path: Path) -> None:
    said = "AWS::Lambda::Function"
    for name, text in {
        "broken.json": f'{{"Resources": "{said}"',
        "list.json": f'["{said}"]',
        "deep.json": f'"{said}"' + "[" * 100_000,
        "tagged.yaml": f"a: !!python/object/apply:os.system [{said}]",
        "loop.yaml": f"&a [*a, {said}]",
        "tab.yml": f"\t{said}: [",
        "other.template": f"Resources: [{said}]",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe" + said.encode())
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "index.js").touch()

    assert adoption.look(tmp_path).kind == "plain"


JUNK = st.one_of(
    st.none(), st.integers(), st.text(max_size=12), st.lists(st.text(max_size=3)), st.dictionaries(st.text(), st.text())
)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "FunctionName": st.sampled_from(["Greeting", "a b", ""]) | JUNK,
        "Handler": st.sampled_from(["index.handler", "a.b.c", "index", "../x.y", "\u0000.a", "x" * 300 + ".y"]) | JUNK,
        "Runtime": st.sampled_from(["nodejs4.3", "python3.13", "java21", "nodejs22.x\n", {"Ref": "P"}]) | JUNK,
        "PackageType": st.sampled_from(["Zip", "Image"]),
        "RoleName": JUNK,
    },
)
RESOURCES = st.dictionaries(
    st.text(max_size=6),
    st.fixed_dictionaries({"Type": st.just("AWS::Lambda::Function") | JUNK, "Properties": PROPERTIES | JUNK}) | JUNK,
    max_size=4,
)
PACKAGE = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=6) | JUNK,
        "main": st.sampled_from(["index.js", "lib/a b.js", "./index.js", "\u0000.js"]) | JUNK,
        "scripts": st.dictionaries(
            st.sampled_from(["test", "itest", "test:a b", "e2e'", "unit\n"]) | st.text(max_size=5),
            st.sampled_from(["A=x.xml mocha test", "mocha ../..", "", "mocha ."]) | JUNK,
        )
        | JUNK,
        "dependencies": JUNK,
        "engines": JUNK,
    },
)
NAMES = st.sampled_from(["index.js", "lib/a b.js", "app.py", "test/a.js", "ä/index.mjs", "requirements.txt", 'q"/b.py'])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.none() | st.fixed_dictionaries({"Resources": RESOURCES}, optional={"Parameters": JUNK, "Transform": JUNK}),
    st.none() | PACKAGE,
    st.sets(NAMES),
    st.sampled_from(["a_b", "über uns", "-1", "9"]),
    st.sampled_from([{}, {"role": ROLE}, {"name": "n", "region": "eu-west-1"}]),
)
def test_whatever_lies_there_what_is_written_is_accepted(
    template: Any, package: Any, files: set[str], name: str, given: dict[str, str]
) -> None:
    with TemporaryDirectory() as home:
        folder = Path(home) / name
        folder.mkdir()
        lay(folder, dict.fromkeys(files, "exports.handler = pytest"))
        lay(folder, {key: each for key, each in {"t.template": template, "package.json": package}.items() if each})

        assert written(folder, **given).functions


@pytest.mark.parametrize(
    ("aliases", "environments"),
    [
        ((), [("staging", "STAGE", False), ("production", "PROD", True)]),
        (("PROD", "STAGE"), [("staging", "STAGE", False), ("production", "PROD", True)]),
        (("qa",), [("qa", "qa", False), ("production", "PROD", True)]),
        (("live",), [("live", "live", True)]),
        (("Dev", "dev", "no good"), [("dev", "Dev", False), ("dev_", "dev", False), ("production", "PROD", True)]),
    ],
)
def test_aliases_that_exist_become_the_environments(
    tmp_path: Path, aliases: tuple[str, ...], environments: list[tuple[str, str, bool]]
) -> None:
    found = msgspec.structs.replace(adoption.look(tmp_path), aliases=aliases)

    project = config.parse(adoption.write(found), file=tmp_path / "pointsman.toml")

    assert [(each.name, each.alias, each.approve) for each in project.environments.values()] == environments
