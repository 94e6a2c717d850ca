"""What a template says of its function, and what is left out of one for a rehearsal."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.errors import UsageError
from pointsman.provision import rehearsal
from pointsman.provision import template as templates

SAM = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String, Default: live}
Globals:
  Function: {Runtime: python3.13, CodeUri: src/}
Resources:
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: hello
      AutoPublishAlias: !Ref Stage
  Bye:
    Type: AWS::Serverless::Function
    Properties: {InlineCode: "x"}
Outputs:
  HelloArn: {Value: !GetAtt Hello.Arn}
  HelloAlias: {Value: !Ref HelloAliaslive}
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2010-09-09", "2010-09-09"),
        ("1.10", "1.10"),
        ("012345678901", "012345678901"),
        ("12:30:45", "12:30:45"),
        ("yes", "yes"),
        ("128", 128),
        ("0.5", 0.5),
        ("true", True),
        ("!GetAtt A.B.C", {"Fn::GetAtt": ["A", "B.C"]}),
        ("!Sub '${A}-x'", {"Fn::Sub": "${A}-x"}),
        ("!If [A, !Ref B, c]", {"Fn::If": ["A", {"Ref": "B"}, "c"]}),
    ],
)
def test_values_are_read_as_cloudformation_reads_them(text: str, value: Any) -> None:
    """A template is sent on as JSON: "1.10" must not become 1.1, nor an account id an octal number."""
    found = templates.read(f"Resources: {{}}\nValue: {text}\n")["Value"]

    assert found == value
    assert type(found) is type(value)


def test_a_text_that_is_no_template_is_refused() -> None:
    for text in ("just words", "a: [", "- 1"):
        with pytest.raises(UsageError):
            templates.read(text)


@pytest.mark.parametrize("function", ["Hello", "hello", "HelloArn"])
def test_a_function_is_found_by_logical_id_name_or_output(function: str) -> None:
    assert templates.logical_id(templates.read(SAM), function, {}) == "Hello"


def test_the_alias_that_sam_publishes_is_known_by_its_parameter() -> None:
    document = templates.read(SAM)

    assert templates.own_aliases(document, "Hello", {}) == {"live": "AutoPublishAlias of Hello"}
    assert list(templates.own_aliases(document, "Hello", {"Stage": "prod"})) == ["prod"]
    assert not templates.publishes(document, "Bye", {})


def test_a_plain_alias_resource_belongs_to_the_function_it_names() -> None:
    document = {
        "Resources": {
            "F": {"Type": "AWS::Lambda::Function", "Properties": {"FunctionName": "f"}},
            "A": {"Type": "AWS::Lambda::Alias", "Properties": {"FunctionName": {"Ref": "F"}, "Name": "live"}},
            "B": {"Type": "AWS::Lambda::Alias", "Properties": {"FunctionName": "other", "Name": "theirs"}},
        }
    }

    assert templates.own_aliases(document, "F", {}) == {"live": "A (AWS::Lambda::Alias)"}


def test_differences_name_properties_and_keep_secrets() -> None:
    before = templates.read(SAM)
    after = templates.read(SAM.replace("FunctionName: hello", "FunctionName: hallo\n      Timeout: 7"))
    for document, token in ((before, "old"), (after, "new")):
        document["Globals"]["Function"] |= {"MemorySize": 256} if token == "new" else {}
        document["Parameters"]["Key"] = {"Type": "String", "NoEcho": True}
        document["Resources"]["Bye"]["Properties"]["Environment"] = {"Variables": {"TOKEN": token}}

    lines = templates.differences(
        before, after, function="Hello", parameters={"Key": ("****", "s3cret"), "Stage": ("live", "prod")}
    )

    assert lines == (
        "parameter Key: changed",
        "parameter Stage: live → prod",
        "Hello.FunctionName: hello → hallo (replaces the function: every version and alias of it goes)",
        "Hello.Timeout: unset → 7",
        "Bye.Environment.Variables.TOKEN: changed",
        "Globals.Function.MemorySize: unset → 256",
    )


def test_a_rehearsal_leaves_out_what_the_local_aws_has_not() -> None:
    document = templates.read(
        SAM.replace("AutoPublishAlias: !Ref Stage", "Events: {Get: {Type: HttpApi}, Queue: {Type: SQS}}")
        + """  Address: {Value: !Sub "https://${ServerlessHttpApi}.example"}
"""
    )
    document["Resources"] |= {
        "Users": {"Type": "AWS::Cognito::UserPool"},
        "May": {"Type": "AWS::Lambda::Permission", "Properties": {"SourceArn": {"Fn::GetAtt": ["Users", "Arn"]}}},
    }
    document["Resources"]["Bye"]["Properties"] |= {
        "Layers": [{"Fn::Sub": "arn:aws:lambda:${AWS::Region}:017000801446:layer:Powertools:32"}],
        "Environment": {"Variables": {"POOL": {"Ref": "Users"}}},
    }

    made, words = rehearsal.without(document, "123456789012")

    assert list(made["Resources"]) == ["Hello", "Bye"]
    assert list(made["Resources"]["Hello"]["Properties"]["Events"]) == ["Queue"]
    assert made["Resources"]["Bye"]["Properties"]["Layers"] == []
    assert made["Resources"]["Bye"]["Properties"]["Environment"]["Variables"]["POOL"].startswith("arn:aws:rehearsal")
    assert "Address" not in made["Outputs"]
    for each in ("Users (AWS::Cognito::UserPool)", "May", "the event Get of Hello", "the layer Powertools of Bye"):
        assert each in words[0]


def test_a_rehearsal_leaves_alone_what_the_local_aws_has() -> None:
    document = templates.read(SAM)

    assert rehearsal.without(document, "123456789012") == (document, [])
    assert rehearsal.with_runtimes(document, ("python3.13",)) == (document, [])


def test_a_runtime_this_machine_lacks_is_rehearsed_on_the_nearest() -> None:
    document = templates.read(SAM)
    document["Resources"]["Bye"]["Properties"]["Runtime"] = "java21"

    made, words = rehearsal.with_runtimes(document, ("nodejs20.x", "provided.al2023", "python3.10", "python3.12"))

    assert made["Globals"]["Function"]["Runtime"] == "python3.12"
    assert made["Resources"]["Bye"]["Properties"]["Runtime"] == "provided.al2023"
    assert [each.partition(": ")[2].partition(" wants")[0] for each in words] == ["Globals", "Bye"]


def test_what_was_set_outside_the_stack_is_told_apart_from_what_the_template_says() -> None:
    properties = {
        "Timeout": 3,
        "Role": {"Ref": "Role"},
        "EphemeralStorage": {"Size": 512},
        "TracingConfig": {"Mode": "Active"},
        "Layers": ["arn:one", {"Ref": "Second"}],
        "Architectures": ["arm64"],
    }
    document = {
        "Parameters": {"Role": {"Type": "String"}, "Second": {"Type": "String", "Default": "arn:two"}},
        "Resources": {"F": {"Type": "AWS::Lambda::Function", "Properties": properties}},
    }
    as_said = {
        "Timeout": 3, "Role": "arn:role", "EphemeralStorage": 512, "TracingConfig": "Active",
        "Layers": ["arn:one", "arn:two"], "Architectures": ["arm64"],
    }  # fmt: skip

    def told(**live: object) -> tuple[str, ...]:
        return templates.overwritten(document, "F", as_said | live, {"Role": "arn:role"})

    assert told() == ()
    assert told(Role="arn:other") == (
        "Role is arn:other, set outside the stack, whose template says arn:role: it may be set back",
    )
    assert told(EphemeralStorage=1024)[0].startswith("EphemeralStorage.Size is 1024, set outside the stack")
    assert told(Layers=["arn:two", "arn:one"]) == ("Layers were set outside the stack: they may be set back",)
    assert told(Architectures=["x86_64"], Layers=[])[1].startswith("Architectures were")
    properties["Layers"] = [{"Fn::ImportValue": "known to CloudFormation alone"}]
    assert told(Layers=["arn:any"]) == ()


IMAGES = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Built: {Type: AWS::Serverless::Function, Properties: {PackageType: Image}, Metadata: {Dockerfile: Dockerfile}}
  Local: {Type: AWS::Serverless::Function, Properties: {PackageType: Image, ImageUri: "built:v1"}}
  Pushed:
    Type: AWS::Serverless::Function
    Properties: {PackageType: Image, ImageUri: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:v1"}
  Given: {Type: AWS::Lambda::Function, Properties: {PackageType: Image, Code: {ImageUri: !Ref Picture}}}
  Zipped: {Type: AWS::Serverless::Function, Properties: {CodeUri: src/}}
"""


def test_a_function_of_an_image_is_told_and_whether_the_image_is_in_a_registry() -> None:
    document = templates.read(IMAGES)

    told = {
        name: templates.in_registry(templates.image(document, name)) if templates.of_image(document, name) else None
        for name in templates.functions(document)
    }

    assert told == {"Built": False, "Local": False, "Pushed": True, "Given": True, "Zipped": None}


@pytest.mark.parametrize("name", ["Built", "Local", "Pushed", "Given"])
def test_another_image_takes_the_place_of_whatever_stands_there(name: str) -> None:
    document = templates.read(IMAGES)

    made = templates.with_code(document, name, {"Image": "r@sha256:0"})

    assert templates.image(made, name) == "r@sha256:0"
    assert templates.image(templates.with_code(document, name, templates.deployed_code(made, name) or {}), name) == (
        "r@sha256:0"
    )
