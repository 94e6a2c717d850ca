"""What a template says, and what is refused in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.localaws.cloudformation.template import (
    NO_VALUE,
    Scope,
    Template,
    TemplateError,
    order,
    parameters,
    parse,
    references,
)

PSEUDO = {"Region": "eu-west-1", "AccountId": "123456789012", "StackName": "s", "Partition": "aws"}


def template(**sections: Any) -> Template:
    return parse(json.dumps({"Resources": {"A": {"Type": "T"}}} | sections))


def scope(found: Template | None = None, **given: Any) -> Scope:
    return Scope(
        found or template(),
        given,
        PSEUDO,
        lambda name: f"id-of-{name}",
        lambda name, attribute: f"{attribute}-of-{name}",
        lambda name: f"import-of-{name}",
    )


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ({"Ref": "A"}, "id-of-A"),
        ({"Ref": "AWS::Region"}, "eu-west-1"),
        ({"Ref": "Size"}, 5),
        ({"Fn::GetAtt": ["A", "Arn"]}, "Arn-of-A"),
        ({"Fn::GetAtt": "A.B.C"}, "B.C-of-A"),
        ({"Fn::Sub": "${A}/${A.Arn}/${AWS::AccountId}/${!kept}"}, "id-of-A/Arn-of-A/123456789012/${kept}"),
        ({"Fn::Sub": ["${X}${Size}", {"X": {"Ref": "A"}}]}, "id-of-A5"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Size"}, True]]}, "a-5-true"),
        ({"Fn::Select": [1, {"Fn::Split": ["/", "a/b"]}]}, "b"),
        ({"Fn::Base64": "a"}, "YQ=="),
        ({"Fn::ImportValue": {"Fn::Sub": "${AWS::StackName}-x"}}, "import-of-s-x"),
        ({"a": [1, {"Ref": "AWS::NoValue"}], "b": {"Ref": "AWS::NoValue"}}, {"a": [1]}),
        ({"Ref": "AWS::NoValue"}, NO_VALUE),
        ({"Ref": "A", "Other": 1}, {"Ref": "A", "Other": 1}),  # a function stands alone
        ({"Fn::Cidr": ["10.0.0.0/16", 2, 8]}, ["10.0.0.0/24", "10.0.1.0/24"]),
    ],
)
def test_functions(node: Any, value: Any) -> None:
    assert scope(Size=5).resolve(node) == value


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"Fn::Select": [2, ["a"]]}, "nonexistent value at index 2"),
        ({"Fn::Cidr": ["10.0.0.0/24", 2, 8]}, "cannot make 2 blocks of 8 host bits"),
        ({"Fn::Length": [1]}, "needs the transform AWS::LanguageExtensions"),
        ({"Fn::Transform": {"Name": "AWS::Include"}}, "does not know Fn::Transform"),
        ({"Fn::FindInMap": ["M", "a", "b"]}, "Unable to get mapping for M::a::b"),
        ({"a": "{{resolve:ssm:x}}"}, r"not resolved here: \{\{resolve:ssm:x\}\}"),
        ({"Fn::If": ["Missing", 1, 2]}, "Unresolved condition Missing"),
    ],
)
def test_functions_that_cannot_be_resolved(node: Any, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        scope().resolve(node)


def test_conditions_and_mappings() -> None:
    found = template(
        Conditions={
            "Here": {"Fn::Equals": [{"Ref": "AWS::Region"}, "eu-west-1"]},
            "Big": {"Fn::Equals": [{"Ref": "Size"}, "5"]},  # a Number against a text
            "Both": {"Fn::And": [{"Condition": "Here"}, {"Condition": "Big"}]},
            "Neither": {"Fn::Not": [{"Fn::Or": [{"Condition": "Here"}, {"Condition": "Big"}]}]},
        },
        Mappings={"M": {"eu-west-1": {"Size": "12"}}},
    )
    resolved = scope(found, Size=5)
    assert [resolved.condition(name) for name in ("Here", "Big", "Both", "Neither")] == [True, True, True, False]
    assert (
        resolved.resolve({"Fn::If": ["Neither", 1, {"Fn::FindInMap": ["M", {"Ref": "AWS::Region"}, "Size"]}]}) == "12"
    )


CDK = {"Fn::Not": [{"Fn::Contains": [["1", "2"], {"Ref": "Version"}]}]}  # in every template that CDK makes


@pytest.mark.parametrize(
    ("assertion", "kept", "broken"),
    [
        (CDK, {"Version": "3"}, {"Version": "2"}),
        ({"Fn::EachMemberIn": [{"Ref": "Zones"}, ["a", "b"]]}, {"Zones": ["a"]}, {"Zones": ["a", "c"]}),
        ({"Fn::EachMemberEquals": [{"Ref": "Zones"}, "a"]}, {"Zones": ["a", "a"]}, {"Zones": ["a", "b"]}),
        ({"Fn::Or": [{"Fn::Equals": [{"Ref": "Size"}, "5"]}, CDK]}, {"Size": 5}, {"Size": 6, "Version": 1}),
    ],
)
def test_rules(assertion: Any, kept: dict[str, Any], broken: dict[str, Any]) -> None:
    rule = {"Assertions": [{"Assert": assertion, "AssertDescription": "as it must be"}]}
    elsewhere = {"RuleCondition": {"Fn::Equals": [{"Ref": "AWS::Region"}, "elsewhere"]}}

    scope(template(Rules={"R": rule}), **kept).check()
    scope(template(Rules={"R": rule | elsewhere}), **broken).check()
    with pytest.raises(TemplateError, match="Rule R failed: as it must be"):
        scope(template(Rules={"R": rule}), **broken).check()


def test_what_only_rules_may_ask_is_no_condition() -> None:
    with pytest.raises(TemplateError, match="is not a condition"):
        scope(template(Conditions={"C": CDK}), Version="3").condition("C")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not well-formed"),
        ("a: [", "not well-formed"),
        ("just text", "unsupported structure"),
        ("Resources: {}", "At least one Resources member"),
        ("Resources: {A: {}}", "must contain a Type member"),
        ("Resources: [1]", "Any Resources member must be an object"),
        (
            "Resources: {A: {Type: T, Properties: {P: !Ref B}}}",
            r"Unresolved resource dependencies \[B\] in the Resources",
        ),
        ("Resources: {A: {Type: T}}\nOutputs: {O: {Value: !GetAtt B.C}}", r"\[B\] in the Outputs block"),
        ("Resources: {A: {Type: T}}\nOutputs: {O: {}}", "must contain a Value"),
        ("Resources: {A: {Type: T, Condition: C}}", "Unresolved condition dependency C"),
        ("Resources: {A: {Type: T}}\nOutputs: {O: {Value: null}}", "'null' values are not allowed"),
        ("Resources: {A-1: {Type: T}}", "Resource name A-1 is non alphanumeric"),
        ("Resources: {A: {Type: T, Invalid: 1}}", "Invalid template resource property 'Invalid'"),
        ("Resources: {A: {Type: T, DeletionPolicy: Keep}}", "Unrecognized DeletionPolicy Keep for resource A"),
        ("Resources: {A: 1}", "Any Resources member must be an object"),
        ("Resources: {A: {Type: T, UpdatePolicy: {CodeDeployLambdaAliasUpdate: {}}}}", "no CodeDeploy: A asks for it"),
        ("Resources: {A: {Type: T, CreationPolicy: {ResourceSignal: {}}}}", "takes no signals: A asks for them"),
        ("Mappings: {M: {A: x}}\nResources: {A: {Type: T}}", "Every Mappings member A must be a map"),
        ("Mappings: {M: {A: {B: {C: x}}}}\nResources: {A: {Type: T}}", "must be a String or a List"),
        ("Resources: {A: {Type: T}}\nRules: {R: {}}", "must list Assertions"),
        ('{"a": {"b": }', r"JSON not well-formed. \(line 1, column 14\)"),
    ],
)
def test_templates_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        parse(text)


def test_yaml_is_read_as_cloudformation_reads_it() -> None:
    found = parse(
        "Resources:\n  A:\n    Type: T\n    Properties:\n"
        "      V: 2012-10-17\n      W: !Sub ['${x}', {x: !GetAtt A.B}]\n"
        "      X: [yes, On, true, False, TrueStory]\n"
    )
    assert found.resources["A"]["Properties"] == {
        "V": "2012-10-17",
        "X": ["yes", "On", True, False, "TrueStory"],
        "W": {"Fn::Sub": ["${x}", {"x": {"Fn::GetAtt": ["A", "B"]}}]},
    }


@pytest.mark.parametrize(
    ("slot", "value", "found"),
    [
        ({"Type": "Number"}, "7", 7),
        ({"Type": "Number"}, "0.5", 0.5),
        ({"Type": "CommaDelimitedList"}, "a, b", ["a", "b"]),
        ({"Type": "List<Number>"}, "1,2", [1, 2]),
        ({"Type": "AWS::SSM::Parameter::Value<String>"}, "/path", "looked-up-/path"),
        ({"Type": "String", "Default": 5}, None, "5"),
    ],
)
def test_parameters(slot: Any, value: str | None, found: Any) -> None:
    given = {} if value is None else {"P": value}
    assert parameters(template(Parameters={"P": slot}), given, lambda name: f"looked-up-{name}") == {"P": found}


@pytest.mark.parametrize(
    ("slot", "given", "words"),
    [
        ({"Type": "String"}, {}, r"Parameters: \[P\] must have values"),
        ({"Type": "String"}, {"P": "a", "Q": "b"}, r"Parameters: \[Q\] do not exist in the template"),
        ({"Type": "String", "AllowedValues": ["a"]}, {"P": "b"}, "must be one of AllowedValues"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, {"P": "B"}, "must match pattern"),
        ({"Type": "String", "MinLength": 2}, {"P": "b"}, "must have a length"),
        ({"Type": "Number"}, {"P": "b"}, "must be a number"),
        ({"Type": "Number", "MaxValue": 3}, {"P": "4"}, "between MinValue and MaxValue"),
    ],
)
def test_parameters_that_are_refused(slot: Any, given: dict[str, str], words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        parameters(template(Parameters={"P": slot}), given, str)


def test_a_circle_is_named() -> None:
    circle = {"A": {"Type": "T", "DependsOn": "B"}, "B": {"Type": "T", "Properties": {"P": {"Ref": "A"}}}}
    with pytest.raises(TemplateError, match=r"Circular dependency between resources: \[A, B\]"):
        order(template(Resources=circle))


@given(st.lists(st.lists(st.integers(0, 11), max_size=4), min_size=1, max_size=12))
def test_order_puts_everything_after_what_it_needs(needs: list[list[int]]) -> None:
    resources = {
        f"R{n}": {"Type": "T", "Properties": {"P": [{"Ref": f"R{m}"} for m in before if m < n]}}
        for n, before in enumerate(needs)
    }
    shuffled = dict(sorted(resources.items(), key=lambda item: hash(item[0])))
    ordered = order(template(Resources=shuffled))
    assert sorted(ordered) == sorted(resources)
    for name, body in resources.items():
        assert all(ordered.index(other) < ordered.index(name) for other in references(body))


@pytest.mark.parametrize(
    ("type_", "properties", "needed"),
    [
        ("AWS::SQS::Queue", {"QueueName": "q"}, ()),
        ("AWS::IAM::Role", {}, ("CAPABILITY_IAM",)),
        ("AWS::IAM::Role", {"RoleName": "r"}, ("CAPABILITY_NAMED_IAM",)),
        ("AWS::IAM::OIDCProvider", {}, ()),
    ],
)
def test_capabilities(type_: str, properties: Any, needed: tuple[str, ...]) -> None:
    found = template(Resources={"A": {"Type": type_, "Properties": properties}})
    assert found.capabilities() == needed
