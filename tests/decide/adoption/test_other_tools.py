"""SAM, the CDK, the Serverless Framework, Claudia and lambroll as people use them: after aws/aws-sam-cli-app-templates,
serverless/examples, claudiajs/example-projects, fujiwara/lambroll's own tests, and an app synthesised by the CDK."""

from __future__ import annotations

import json

import pytest

from pointsman.config import Bundle, CloudFormation, Direct, Existing
from pointsman.errors import UsageError
from tests.decide.adoption.conftest import Seen

ROLE = "arn:aws:iam::123456789012:role/hello"

SAM = """\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Timeout: 3
    Runtime: python3.13
    Architectures: [arm64]
Parameters:
  Level: { Type: String }
Resources:
  HelloWorldFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: hello_world/
      Handler: app.lambda_handler
      AutoPublishAlias: live
      Events:
        HelloWorld:
          Type: Api
          Properties: { Path: /hello, Method: get }
  Compiled:
    Type: AWS::Serverless::Function
    Metadata: { BuildMethod: go1.x }
    Properties:
      CodeUri: compiled/
      Handler: bootstrap
      Runtime: provided.al2023
"""
SAMCONFIG = """\
version = 0.1
[default.global.parameters]
stack_name = "sam-app"
[default.deploy.parameters]
region = "eu-west-1"
profile = "team"
s3_bucket = "sam-artifacts"
capabilities = "CAPABILITY_NAMED_IAM CAPABILITY_AUTO_EXPAND"
parameter_overrides = "Level=\\"info\\" Other=1"
"""


def test_sam_with_globals_and_samconfig(seen: Seen) -> None:
    files = {"template.yaml": SAM, "samconfig.toml": SAMCONFIG, "hello_world/app.py": "", "compiled/main.go": ""}

    project, found = seen(files)
    hello = project.functions["HelloWorldFunction"]
    compiled = project.functions["Compiled"]

    assert found.kind == "sam"
    assert (hello.source, hello.runtime, hello.architecture) == ("hello_world", "python3.13", "arm64")
    assert hello.provision == CloudFormation(
        stack="sam-app",
        template="template.yaml",
        function="HelloWorldFunction",
        parameters={"Level": "info", "Other": "1"},
        capabilities=("CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"),
    )
    assert (compiled.build, compiled.command, compiled.artifact) == (
        "command",
        "sam build Compiled",
        ".aws-sam/build/Compiled",
    )
    environment = next(iter(project.environments.values()))
    assert (environment.alias, environment.region, environment.profile, environment.bucket) == (
        "STAGE",
        "eu-west-1",
        "team",
        "sam-artifacts",
    )
    assert any("the stack has alias live of its own" in note for note in found.notes)
    assert found.functions[0].owned == ("live",)


BUILT = """\
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: provided.al2023, Handler: bootstrap}}
Resources:
  Gone: {Type: AWS::Serverless::Function, Metadata: {BuildMethod: go1.x}, Properties: {CodeUri: hello/}}
  Rusty:
    Type: AWS::Serverless::Function
    Metadata: {BuildMethod: rust-cargolambda, BuildProperties: {Binary: second}}
    Properties: {CodeUri: ./rusty}
  Made:
    Type: AWS::Serverless::Function
    Metadata: {BuildMethod: makefile}
    Properties: {CodeUri: made, Runtime: python3.13, Handler: app.handler}
  Typed:
    Type: AWS::Serverless::Function
    Metadata: {BuildMethod: esbuild, BuildProperties: {Minify: true, Sourcemap: true, Target: es2020}}
    Properties: {CodeUri: typed/, Handler: app.run, Runtime: nodejs20.x}
"""


def test_what_sam_compiles_is_compiled_without_it(seen: Seen) -> None:
    """By the same aws-lambda-builders, so that nobody has to install the SAM CLI."""
    files = {"template.yaml": BUILT, "hello/go.mod": "module hello\n", "rusty/Cargo.toml": "[package]\nname = 'r'\n"}
    files |= {"made/Makefile": "build-Made:\n\tcp app.py $(ARTIFACTS_DIR)\n", "made/app.py": "", "typed/app.ts": ""}
    files |= {"typed/package.json": '{"devDependencies": {"esbuild": "^0.25"}}'}

    project, found = seen(files)

    made = {name: (each.source, each.build, each.target) for name, each in project.functions.items()}
    assert made == {
        "Gone": ("hello", "go", None),
        "Rusty": ("rusty", "rust", "second"),
        "Made": ("made", "make", "Made"),
        "Typed": ("typed", "node", None),
    }
    assert project.functions["Typed"].bundle == Bundle(sourcemap=True, target="es2020")
    assert not any("SAM CLI" in note for note in found.notes)


def test_cdk_output_is_taken_without_the_functions_of_its_own_constructs(seen: Seen) -> None:
    asset = "asset.71967241d77ac124ba0a65d478097f678a6d78f7593cfb8daa65187d2efd9cb3"
    template = {
        "Resources": {
            "ReportC847FC22": {
                "Type": "AWS::Lambda::Function",
                "Properties": {"Handler": "app.handler", "Runtime": "python3.13", "FunctionName": "nightly-report"},
                "Metadata": {"aws:cdk:path": "ApiStack/Report/Resource", "aws:asset:path": asset},
            },
            "LogRetentionaae0aa3c5b4d4f87b02d85b201efdd8aFD4BFC8A": {
                "Type": "AWS::Lambda::Function",
                "Properties": {"Handler": "index.handler", "Runtime": "nodejs22.x"},
            },
            "CustomS3AutoDeleteObjectsCustomResourceProviderHandler9D90184F": {
                "Type": "AWS::Lambda::Function",
                "Properties": {"Handler": "index.handler", "Runtime": "nodejs22.x"},
            },
        }
    }
    stack = {
        "type": "aws:cloudformation:stack",
        "environment": "aws://123456789012/eu-west-1",
        "properties": {"templateFile": "ApiStack.template.json", "stackName": "api-prod"},
    }
    files = {
        "cdk.json": {"app": "node bin/app.js"},
        "bin/app.js": "",
        "lambda/report/app.py": "",
        "cdk.out/manifest.json": {"artifacts": {"ApiStack": stack, "ApiStack.assets": {"type": "cdk:asset-manifest"}}},
        "cdk.out/ApiStack.template.json": template,
        f"cdk.out/{asset}/app.py": "",
    }

    project, found = seen(files)
    function = project.functions["nightly-report"]

    assert (found.kind, list(project.functions)) == ("cdk", ["nightly-report"])
    assert function.source == "lambda/report"
    assert isinstance(function.provision, CloudFormation)
    assert (function.provision.stack, function.provision.function) == ("api-prod", "ReportC847FC22")
    assert function.provision.template == "cdk.out/ApiStack.template.json"
    assert next(iter(project.environments.values())).region == "eu-west-1"


def test_a_cdk_app_that_was_not_synthesised_says_how(seen: Seen) -> None:
    _, found = seen({"cdk.json": {"app": "python3 app.py"}, "app.py": "def handler(event, context): pass"})

    assert "`npx cdk synth`, then init again" in found.notes[0]
    assert found.functions[0].handler is None


SERVERLESS = """\
service: serverless-rest-api
frameworkVersion: ">=1.1.0 <5.0.0"
custom:
  regions: { dev: us-east-1, prod: eu-west-1 }
  runtime: ${file(settings.json):runtime}
provider:
  name: aws
  runtime: ${self:custom.runtime}
  stage: ${opt:stage, 'dev'}
  region: ${self:custom.regions.${self:provider.stage}}
  environment: { TABLE: "${self:service}-${sls:stage}" }
package:
  patterns: ['!node_modules/**', '!docs/**', 'docs/api.json']
functions:
  create:
    handler: todos/create.create
    events: [{ http: { path: todos, method: post } }]
  named:
    handler: ./todos/create.named
    name: ${ssm:/names/todo}
  image: { image: 'repository:tag' }
"""


def test_serverless_yml_with_its_variables(seen: Seen) -> None:
    files = {"serverless.yml": SERVERLESS, "settings.json": {"runtime": "nodejs20.x"}, "todos/create.js": ""}

    project, found = seen(files)
    create = project.functions["create"]

    assert create.provision == Existing(name="serverless-rest-api-dev-create")
    assert (create.handler, create.runtime, create.build) == ("todos/create.create", "nodejs20.x", "node")
    assert create.exclude == ("node_modules/**", "docs/**", "!docs/api.json")
    assert project.functions["named"].handler == "todos/create.named"
    assert next(iter(project.environments.values())).region == "us-east-1"
    notes = " ".join(found.notes)
    assert "named's name on AWS could not be read" in notes
    assert "image is a container image" in notes
    assert "this file is for stage dev" in notes


def test_serverless_typescript_is_taken_as_the_framework_packages_it(seen: Seen) -> None:
    text = "service: {name: api}\nprovider: {name: aws, runtime: nodejs20.x}\nfunctions: {hi: {handler: src/hi.run}}\n"

    function = seen({"serverless.yml": text, "src/hi.ts": ""})[0].functions["hi"]

    assert (function.build, function.command, function.artifact) == (
        "command",
        "npx serverless package",
        ".serverless/api.zip",
    )


@pytest.mark.parametrize(
    ("plugin", "runtime", "handler", "build"),
    [
        ("serverless-wsgi", "python3.13", "wsgi_handler.handler", "command"),
        ("serverless-wsgi", "python3.13", "app.handler", "python"),
        ("serverless-webpack", "nodejs22.x", "app.handler", "command"),
        ("serverless-webpack", "python3.13", "app.handler", "python"),
        ("serverless-offline", "nodejs22.x", "app.handler", "node"),
    ],
)
def test_what_a_plugin_of_serverless_makes_is_taken_from_its_package(
    seen: Seen, plugin: str, runtime: str, handler: str, build: str
) -> None:
    """A wrapper's handler lies nowhere in the folder, and Lambda cannot load what a bundler has yet to read."""
    text = f"service: api\nprovider: {{name: aws, runtime: {runtime}}}\nplugins: [{plugin}]\n"
    text += f"functions: {{hi: {{handler: {handler}}}}}\n"

    function = seen({"serverless.yml": text, "app.py": "", "app.js": "import 'x'"})[0].functions["hi"]

    assert function.build == build


def test_serverless_modules_are_folders_of_their_own(seen: Seen) -> None:
    text = "service: api\nprovider: {name: aws, runtime: python3.13}\npackage: {individually: true}\n"
    text += "functions: {one: {handler: handler1.hello, module: module1}, two: {handler: two.hello, module: module1}}\n"

    project = seen({"serverless.yml": text, "module1/handler1.py": "", "two.py": ""})[0]

    assert {name: each.source for name, each in project.functions.items()} == {"one": "module1", "two": "."}


def test_the_framework_packages_with_its_plugins_installed(seen: Seen) -> None:
    """As in a fresh checkout, where `npx` finds neither them nor, without a terminal to ask, the Framework."""
    text = "service: api\nprovider: {name: aws, runtime: nodejs20.x}\nfunctions: {hi: {handler: src/hi.run}}\n"
    files = {"serverless.yml": text, "src/hi.ts": "", "package-lock.json": "{}"}
    files["package.json"] = json.dumps({"devDependencies": {"serverless": "^3", "serverless-esbuild": "^1"}})

    assert seen(files)[0].functions["hi"].command == "npm ci && npx serverless package"


def test_a_serverless_file_for_another_cloud_is_not_ours(seen: Seen) -> None:
    text = "service: api\nprovider: {name: google}\nfunctions: {hi: {handler: hi}}\n"

    assert seen({"serverless.yml": text, "index.js": "exports.handler = 1"})[1].kind == "plain"


def test_claudia_json_and_its_scripts(seen: Seen) -> None:
    files = {
        "claudia.json": {
            "lambda": {"role": "api-executor", "name": "api", "region": "us-east-1"},
            "api": {"id": "x", "module": "app"},
        },
        "package.json": {"scripts": {"deploy": "claudia update --version production", "test": "claudia test-lambda"}},
        "app.js": "const builder = new ApiBuilder(); module.exports = builder;",
    }

    project, found = seen(files)
    function = project.functions["api"]

    assert (found.kind, function.handler) == ("claudia", "app.proxyRouter")
    assert function.provision == Existing(name="api")
    assert [(each.alias, each.region, each.approve) for each in project.environments.values()] == [
        ("production", "us-east-1", True)
    ]


LAMBROLL = {
    "FunctionName": "hello",
    "Description": "hello function",
    "Architectures": ["arm64"],
    "EphemeralStorage": {"Size": 1024},
    "Environment": {
        "Variables": {"LEVEL": "info", "TOKEN": "{{ must_env `TOKEN` }}", "MODE": "{{ env `MODE` `fast` }}"}
    },
    "Handler": "index.handler",
    "MemorySize": 256,
    "Role": "{{ tfstate `aws_iam_role.lambda.arn` }}",
    "Runtime": "nodejs20.x",
    "Timeout": 5,
    "Layers": ["arn:aws:lambda:eu-west-1:123456789012:layer:common:7"],
    "VpcConfig": {"SubnetIds": ["{{ tfstate `aws_subnet.a.id` }}"]},
}
STATE = {
    "version": 4,
    "resources": [{"type": "aws_iam_role", "name": "lambda", "instances": [{"attributes": {"arn": ROLE}}]}],
}


def test_lambrolls_function_json_with_a_role_from_a_terraform_state(seen: Seen) -> None:
    files = {
        "function.json": LAMBROLL,
        "terraform.tfstate": STATE,
        ".lambdaignore": "# comment\n*.md\n\ntest/*\n",
        "function_url.json": {},
        "index.js": "",
    }

    project, found = seen(files)
    function = project.functions["hello"]

    assert function.provision == Direct(
        role=ROLE,
        name="hello",
        memory=256,
        timeout=5,
        environment={"LEVEL": "info", "MODE": "fast"},
        description="hello function",
        layers=("arn:aws:lambda:eu-west-1:123456789012:layer:common:7",),
    )
    assert function.architecture == "arm64"
    assert function.exclude == ("*.md", "test/*", ".lambdaignore", "function.json", "function_url.json")
    assert [each.alias for each in project.environments.values()] == ["current"]
    notes = " ".join(found.notes)
    assert "variables TOKEN are not known here" in notes
    assert "EphemeralStorage, VpcConfig stay as they are" in notes
    assert "function_url.json" in notes


def test_a_folder_of_lambroll_functions_becomes_one_file(seen: Seen) -> None:
    said = {"Handler": "index.handler", "Runtime": "nodejs20.x", "Role": ROLE}
    names = ("api", "jobs")
    files = {f"functions/{name}/function.json": {"FunctionName": name, **said} for name in names}

    project, _ = seen({**files, **{f"functions/{name}/index.js": "" for name in names}})

    assert {key: each.source for key, each in project.functions.items()} == {
        "api": "functions/api",
        "jobs": "functions/jobs",
    }


def test_a_role_that_is_not_known_leaves_the_settings_to_lambroll(seen: Seen) -> None:
    project, found = seen({"function.json": LAMBROLL, "index.js": ""})

    assert project.functions["hello"].provision == Existing(name="hello")
    assert any("Role is not known here" in note for note in found.notes)


def test_jsonnet_is_read_where_it_is_data_and_where_not_it_says_how(seen: Seen) -> None:
    lines = ("// the function", "FunctionName: 'hello',", "Handler: 'index.handler',", f"Role: '{ROLE}',")
    data = "\n  ".join(("{", *lines, "Runtime: 'nodejs20.x',", "}"))
    project, _ = seen({"function.jsonnet": data, "index.js": ""})
    assert project.functions["hello"].provision == Direct(role=ROLE, name="hello")

    logic = "local name = 'hello';\n{\n  FunctionName: name + '-x',\n  Handler: 'index.handler',\n}\n"
    _, found = seen({"function.jsonnet": logic})
    assert "lambroll render" in found.notes[0]
    assert found.functions[0].handler == "index.handler"


def test_the_nearest_wins_and_the_other_can_be_asked_for(seen: Seen) -> None:
    files = {
        "function.json": {**LAMBROLL, "Role": ROLE},
        "index.js": "",
        "legacy/template.yaml": SAM,
        "legacy/hello_world/app.py": "",
    }

    _, found = seen(files)
    assert found.kind == "lambroll"
    assert found.notes[0] == "lambroll was taken, as the nearest; `pointsman init --from sam` takes the other."

    project, found = seen(files, "sam")
    assert found.kind == "sam"
    assert project.functions["HelloWorldFunction"].source == "legacy/hello_world"
    with pytest.raises(UsageError, match="nothing of claudia"):
        seen(files, "claudia")
