"""A stack owns the function: created and changed by change sets, the function found whatever it is called."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.journeys.conftest import Shop, control_runtime


def template(*, name: str | None = None, memory: int = 128, **more: Any) -> str:
    function: dict[str, Any] = {
        "Code": {"ZipFile": "def handler(event, context):\n    return {'word': 'stand-in'}\n"},
        "Handler": "index.handler",
        "Runtime": control_runtime(),
        "MemorySize": memory,
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        **more,
    }
    if name:
        function["FunctionName"] = name
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    resources = {
        "Greeter": {"Type": "AWS::Lambda::Function", "Properties": function},
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": trust}},
    }
    outputs = {"FunctionArn": {"Value": {"Fn::GetAtt": ["Greeter", "Arn"]}}}
    return json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources, "Outputs": outputs})


@pytest.fixture
def stacked(shop: Shop) -> Shop:
    shop.write("stack.json", template())
    own(shop, "Greeter")
    return shop


def own(shop: Shop, function: str, more: str = "") -> None:
    shop.configure(
        provision=f'{{ with = "cloudformation", stack = "{shop.name}", template = "stack.json",'
        f' function = "{function}"{more} }}'
    )


def named(shop: Shop) -> str:
    """The name AWS gave the function."""
    resources = shop.aws("cloudformation").list_stack_resources(StackName=shop.name)["StackResourceSummaries"]
    return next(each["PhysicalResourceId"] for each in resources if each["LogicalResourceId"] == "Greeter")


@pytest.mark.parametrize("function", ["Greeter", "FunctionArn"])
def test_a_function_that_aws_named_is_found_by_logical_id_or_output(shop: Shop, function: str) -> None:
    shop.write("stack.json", template())
    own(shop, function)

    shop.ok("deploy", "--build-id", "101")

    shop.name = named(shop)
    assert shop.invoke("STAGE")["word"] == "hello"


def test_a_function_that_the_template_names_is_found_by_it(shop: Shop) -> None:
    shop.write("stack.json", template(name=f"{shop.name}-fn"))
    own(shop, f"{shop.name}-fn")

    done = shop.ok("deploy", "--build-id", "101", "--json")

    assert done.result[0]["name"] == f"{shop.name}-fn"


def test_an_unchanged_deploy_asks_the_stack_nothing(stacked: Shop) -> None:
    stacked.ok("deploy", "--build-id", "101")

    again = stacked.ok("deploy", "--build-id", "102", "--json")

    assert again.calls == (2, 0)
    assert [call["service"] for call in again.document["calls"]["list"]] == ["lambda", "lambda"]


def test_changed_code_leaves_the_stack_alone(stacked: Shop) -> None:
    stacked.ok("deploy", "--build-id", "101")
    stacked.greet("two")

    answer = stacked.ok("deploy", "--build-id", "102", "--json")

    assert answer.calls[1] == 3


def test_a_changed_template_is_a_new_version_and_keeps_the_code(stacked: Shop) -> None:
    stacked.ok("deploy", "--build-id", "101")
    stacked.write("stack.json", template(memory=256))
    shown = stacked.ok("plan", "--build-id", "102").out
    assert f"update stack {stacked.name} by a change set (the template or its parameters changed)" in shown

    told = stacked.ok("deploy", "--build-id", "102", "-v").err

    assert "modify AWS::Lambda::Function Greeter" in told
    assert "MemorySize: 128 → 256" in told
    stacked.name = named(stacked)
    configuration = stacked.aws("lambda").get_function_configuration(FunctionName=stacked.name, Qualifier="STAGE")
    assert (configuration["Version"], configuration["MemorySize"]) == ("2", 256)
    assert stacked.invoke("STAGE")["word"] == "hello"


def test_a_template_that_fails_says_why_and_can_be_mended(stacked: Shop) -> None:
    stacked.write("stack.json", template(Timeout=99_999))

    failed = stacked.run("deploy", "--build-id", "101")

    assert failed.code == 1
    assert "Greeter (AWS::Lambda::Function)" in failed.err
    assert "99999" in failed.err

    stacked.write("stack.json", template())
    stacked.ok("deploy", "--build-id", "101")
    stacked.name = named(stacked)
    assert stacked.serves("STAGE") == "1"


def test_an_update_that_fails_moves_no_alias(stacked: Shop) -> None:
    stacked.ok("deploy", "--build-id", "101")
    stacked.write("stack.json", template(Timeout=99_999))
    stacked.greet("two")

    failed = stacked.run("deploy", "--build-id", "102")

    assert failed.code == 1
    assert "UPDATE_ROLLBACK_COMPLETE" in failed.err
    stacked.name = named(stacked)
    assert stacked.serves("STAGE") == "1"


def test_a_template_that_would_lose_every_version_is_refused(shop: Shop) -> None:
    """Another FunctionName replaces the function, and its versions and aliases go with it."""
    shop.write("stack.json", template(name=f"{shop.name}-a"))
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    shop.write("stack.json", template(name=f"{shop.name}-b"))

    refused = shop.run("deploy", "--build-id", "102")

    assert refused.code == 3
    assert "replacing it" in refused.err
    shop.name = f"{shop.name}-a"
    assert shop.serves("STAGE") == "1"


def test_a_stack_that_has_no_such_function_names_those_it_has(shop: Shop) -> None:
    shop.write("stack.json", template())
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    own(shop, "Greter")

    wrong = shop.run("deploy", "--build-id", "102")

    assert wrong.code == 2
    assert "Functions: Greeter" in wrong.err
    assert "Outputs: FunctionArn" in wrong.err


def test_two_runs_of_one_deploy_make_one_stack(stacked: Shop) -> None:
    """Without a ledger the stack itself is asked, and found to be the same."""
    stacked.ok("deploy", "--build-id", "101")
    for each in (stacked.folder / ".pointsman" / "local").glob("ledger.db*"):
        each.unlink()

    again = stacked.ok("deploy", "--build-id", "101", "--json")

    assert again.calls[1] == 0
    assert again.result[0]["outcome"] == "unchanged"


def parametrized(**more: Any) -> str:
    """The code's place is the stack's business, told by parameters."""
    document = json.loads(template(**more))
    document["Parameters"] = {"CodeBucket": {"Type": "String"}, "CodeKey": {"Type": "String"}}
    document["Resources"]["Greeter"]["Properties"]["Code"] = {
        "S3Bucket": {"Ref": "CodeBucket"},
        "S3Key": {"Ref": "CodeKey"},
    }
    return json.dumps(document)


@pytest.fixture
def bucket(shop: Shop) -> str:
    name = f"packages-{shop.name}"
    shop.aws("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return name


def with_bucket(shop: Shop, bucket: str) -> None:
    path = shop.folder / "pointsman.toml"
    path.write_text(path.read_text().replace('alias = "STAGE"', f'alias = "STAGE"\nbucket = "{bucket}"'))


def lambda_writes(document: dict[str, Any]) -> list[str]:
    calls = [call["action"] for call in document["calls"]["list"] if call["service"] == "lambda"]
    return [action for action in calls if not action.startswith(("Get", "List"))]


def test_code_given_as_stack_parameters_never_disagrees_with_the_stack(shop: Shop, bucket: str) -> None:
    shop.write("stack.json", parametrized())
    own(shop, "Greeter", ', code_parameters = { bucket = "CodeBucket", key = "CodeKey" }')
    refused = shop.run("plan")
    assert refused.code == 2
    assert "Set `bucket` in [environment.staging]" in refused.err
    with_bucket(shop, bucket)
    first = shop.ok("deploy", "--build-id", "101", "--json")
    assert lambda_writes(first.document) == ["PublishVersion", "CreateAlias"]
    assert shop.ok("deploy", "--build-id", "102", "--json").calls == (2, 0)
    shop.greet("two")
    shown = shop.ok("plan", "--build-id", "103").out
    assert "it brings the code" in shown
    assert "parameter CodeKey: pointsman/greeting/" in shown

    second = shop.ok("deploy", "--build-id", "103", "--json")

    assert lambda_writes(second.document) == ["PublishVersion", "UpdateAlias"]
    stack = shop.aws("cloudformation").describe_stacks(StackName=shop.name)["Stacks"][0]
    key = next(each["ParameterValue"] for each in stack["Parameters"] if each["ParameterKey"] == "CodeKey")
    assert shop.aws("s3").head_object(Bucket=bucket, Key=key)["ContentLength"] > 0
    shop.name = named(shop)
    assert (shop.serves("STAGE"), shop.invoke("STAGE")["word"]) == ("2", "two")

    told = shop.ok("rollback", "STAGE", "-v").err
    assert "and $LATEST with it, stays at its code" in told
    assert (shop.invoke("STAGE")["word"], shop.invoke("$LATEST")["word"]) == ("hello", "two")
    shop.ok("deploy", "--build-id", "104")
    assert shop.invoke("STAGE")["word"] == "two"


def test_a_bucket_that_is_not_there_is_named(shop: Shop) -> None:
    shop.write("stack.json", parametrized())
    own(shop, "Greeter", ', code_parameters = { bucket = "CodeBucket", key = "CodeKey" }')
    with_bucket(shop, "no-such-bucket-anywhere")

    failed = shop.run("deploy", "--build-id", "101")

    assert failed.code == 1
    assert "Make it, or correct `bucket`" in failed.err


def test_somebody_elses_template_takes_code_parameters_too(shop: Shop, bucket: str) -> None:
    """Without `template` the stack keeps its own; only the parameters change."""
    body = parametrized()
    shop.aws("s3").put_object(Bucket=bucket, Key="first.zip", Body=_zipped("old"))
    shop.aws("cloudformation").create_stack(
        StackName=shop.name,
        TemplateBody=body,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": "CodeBucket", "ParameterValue": bucket},
            {"ParameterKey": "CodeKey", "ParameterValue": "first.zip"},
        ],
    )
    shop.configure(
        provision=f'{{ with = "cloudformation", stack = "{shop.name}", function = "Greeter",'
        ' code_parameters = { key = "CodeKey" } }'
    )
    with_bucket(shop, bucket)

    done = shop.ok("deploy", "--build-id", "101", "--json")

    assert lambda_writes(done.document) == ["PublishVersion", "CreateAlias"]
    shop.name = named(shop)
    assert shop.invoke("STAGE")["word"] == "hello"


def _zipped(word: str) -> bytes:
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.py", f"def handler(event, context):\n    return {{'word': '{word}'}}\n")
    return packed.getvalue()


def test_code_put_beside_a_stack_that_brings_it_is_put_right(shop: Shop, bucket: str) -> None:
    """The stack has no reason to send it again, and what is not ours must not be published as ours."""
    shop.write("stack.json", parametrized())
    own(shop, "Greeter", ', code_parameters = { bucket = "CodeBucket", key = "CodeKey" }')
    with_bucket(shop, bucket)
    shop.ok("deploy", "--build-id", "101")
    name = named(shop)
    shop.aws("lambda").update_function_code(FunctionName=name, ZipFile=_zipped("theirs"))
    shop.aws("lambda").get_waiter("function_updated_v2").wait(FunctionName=name)
    shop.write("stack.json", parametrized(memory=256))
    assert shop.run("deploy", "--build-id", "102").code == 4

    shop.ok("deploy", "--build-id", "102")

    shop.name = name
    assert (shop.serves("STAGE"), shop.invoke("STAGE")["word"]) == ("2", "hello")


def test_a_template_too_large_for_a_request_goes_by_the_bucket(shop: Shop, bucket: str) -> None:
    document = json.loads(template())
    document["Metadata"] = {f"Note{i}": "x" * 1000 for i in range(60)}
    shop.write("stack.json", json.dumps(document))
    own(shop, "Greeter")
    refused = shop.run("deploy", "--build-id", "101")
    assert refused.code == 2
    assert "a request takes 51,200" in refused.err
    assert "`bucket` in [environment.staging]" in refused.err
    with_bucket(shop, bucket)

    shop.ok("deploy", "--build-id", "101")

    shop.name = named(shop)
    assert shop.serves("STAGE") == "1"
    assert shop.ok("deploy", "--build-id", "102", "--json").calls == (2, 0)


def test_a_replaced_function_is_followed_and_history_says_so(shop: Shop) -> None:
    shop.write("stack.json", template(name=f"{shop.name}-a"))
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    shop.write("stack.json", template(name=f"{shop.name}-b"))
    shown = shop.ok("plan", "--build-id", "102").out
    assert f"Greeter.FunctionName: {shop.name}-a → {shop.name}-b (replaces the function" in shown

    shop.ok("deploy", "--build-id", "102", "--allow-replace")

    shop.name = f"{shop.name}-b"
    assert (shop.serves("STAGE"), shop.invoke("STAGE")["word"]) == ("1", "hello")
    assert "replaces" in shop.ok("history").out
    assert shop.ok("deploy", "--build-id", "103", "--json").calls == (2, 0)


def test_a_function_by_another_logical_id_is_no_other_function(shop: Shop) -> None:
    document = json.loads(template(name=f"{shop.name}-fn"))
    shop.write("stack.json", json.dumps(document))
    own(shop, f"{shop.name}-fn")
    shop.ok("deploy", "--build-id", "101")
    document["Resources"]["Welcomer"] = document["Resources"].pop("Greeter")
    document["Outputs"] = {}
    shop.write("stack.json", json.dumps(document))

    refused = shop.run("deploy", "--build-id", "102")

    assert refused.code == 3
    assert "If Welcomer is the same function by another logical id: call it by the old one again" in refused.err


def test_a_changed_code_of_the_template_is_warned_of(stacked: Shop) -> None:
    stacked.ok("deploy", "--build-id", "101")
    document = json.loads(template())
    document["Resources"]["Greeter"]["Properties"]["Code"]["ZipFile"] = "def handler(event, context):\n    return 1\n"
    stacked.write("stack.json", json.dumps(document))
    assert "the stack sets $LATEST to it, then this build goes up" in stacked.ok("plan", "--build-id", "102").out

    told = stacked.ok("deploy", "--build-id", "102", "-v").err

    assert "this sets $LATEST to the template's code; the build goes up again afterwards" in told
    stacked.name = named(stacked)
    assert stacked.invoke("STAGE")["word"] == "hello"


def test_a_secret_parameter_is_kept_and_never_shown(shop: Shop) -> None:
    document = json.loads(template())
    document["Parameters"] = {"Secret": {"Type": "String", "NoEcho": True}, "Level": {"Type": "String"}}
    document["Resources"]["Greeter"]["Properties"]["Environment"] = {
        "Variables": {"SECRET": {"Ref": "Secret"}, "LEVEL": {"Ref": "Level"}}
    }
    shop.write("stack.json", json.dumps(document))
    own(shop, "Greeter", ', parameters = { Secret = "hush", Level = "info" }')
    shop.ok("deploy", "--build-id", "101")
    own(shop, "Greeter", ', parameters = { Level = "debug" }')

    shown = shop.ok("plan", "--build-id", "102").out
    shop.ok("deploy", "--build-id", "102")

    assert "parameter Level: info → debug" in shown
    assert "hush" not in shown
    found = shop.aws("lambda").get_function_configuration(FunctionName=named(shop), Qualifier="STAGE")
    assert found["Environment"]["Variables"] == {"SECRET": "hush", "LEVEL": "debug"}


def reads(resource: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


def with_policy(document: dict[str, Any], resource: str) -> str:
    document["Resources"]["Role"]["Properties"]["Policies"] = [
        {"PolicyName": "reads", "PolicyDocument": reads(resource)}
    ]
    return json.dumps(document)


@pytest.mark.parametrize("guard", ["warn", "refuse"])
def test_a_stack_that_changes_a_role_that_is_live_is_refused_before_it_does(shop: Shop, guard: str) -> None:
    """PROD runs with the role that the deploy to STAGE widens: what it may do is read whenever its code runs."""
    document = json.loads(template())
    shop.write("stack.json", with_policy(document, "arn:aws:s3:::a/*"))
    own(shop, "Greeter")
    text = (shop.folder / "pointsman.toml").read_text()
    shop.write("pointsman.toml", f'{text}\n[branches]\nrole_guard = "{guard}"\n')
    shop.ok("deploy", "--build-id", "101")
    shop.ok("promote", "101", "--to", "PROD", "--approve")
    shop.write("stack.json", with_policy(document, "*"))
    shop.greet("with more")
    told = "modify AWS::IAM::Role Role: Policies, the role of STAGE, PROD"

    assert f"needs --allow: {told}" in shop.ok("plan", "deploy", "--build-id", "102").out
    (planned,) = shop.ok("plan", "deploy", "--build-id", "102", "--json").result
    assert planned["steps"][0]["losses"] == [told]
    refused = shop.run("deploy", "--build-id", "102")

    assert refused.code == 3
    assert told in refused.err
    assert "`--allow` does it all the same" in refused.err
    iam, name = shop.aws("iam"), physical(shop, "Role")
    held = iam.get_role_policy(RoleName=name, PolicyName="reads")["PolicyDocument"]
    assert held["Statement"][0]["Resource"] == "arn:aws:s3:::a/*"
    assert shop.aws("cloudformation").list_change_sets(StackName=shop.name)["Summaries"] == []

    shop.ok("deploy", "--build-id", "102", "--allow")
    held = iam.get_role_policy(RoleName=name, PolicyName="reads")["PolicyDocument"]
    assert held["Statement"][0]["Resource"] == "*"


def physical(shop: Shop, logical: str) -> str:
    resources = shop.aws("cloudformation").list_stack_resources(StackName=shop.name)["StackResourceSummaries"]
    return next(each["PhysicalResourceId"] for each in resources if each["LogicalResourceId"] == logical)


@pytest.mark.parametrize("kind", ["AWS::IAM::Policy", "AWS::IAM::RolePolicy", "AWS::IAM::ManagedPolicy"])
def test_so_is_one_that_gives_a_live_role_a_policy_from_beside_it_and_takes_it_away(shop: Shop, kind: str) -> None:
    document = json.loads(template())
    shop.write("stack.json", json.dumps(document))
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    holder = {"RoleName": {"Ref": "Role"}} if kind == "AWS::IAM::RolePolicy" else {"Roles": [{"Ref": "Role"}]}
    named = {} if kind == "AWS::IAM::ManagedPolicy" else {"PolicyName": "beside"}
    beside = {"Type": kind, "Properties": {"PolicyDocument": reads("*"), **holder, **named}}
    document["Resources"]["Beside"] = beside
    shop.write("stack.json", json.dumps(document))

    told = f"add {kind} Beside, a policy of the role of STAGE"
    assert f"needs --allow: {told}" in shop.ok("plan", "deploy", "--build-id", "102").out
    refused = shop.run("deploy", "--build-id", "102")
    assert refused.code == 3
    assert told in refused.err
    if kind == "AWS::IAM::RolePolicy":
        return  # which the local CloudFormation does not make

    shop.ok("deploy", "--build-id", "102", "--allow")
    del document["Resources"]["Beside"]
    shop.write("stack.json", json.dumps(document))
    refused = shop.run("deploy", "--build-id", "103")
    assert refused.code == 3
    assert f"remove {kind} Beside, a policy of the role of STAGE" in refused.err


def test_a_role_of_nobody_and_the_tags_of_a_live_one_are_free(shop: Shop) -> None:
    document = json.loads(template())
    shop.write("stack.json", json.dumps(document))
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    document["Resources"]["Other"] = {**document["Resources"]["Role"]}
    document["Resources"]["Role"]["Properties"]["Tags"] = [{"Key": "team", "Value": "greeters"}]
    shop.write("stack.json", json.dumps(document))
    assert "needs --allow" not in shop.ok("plan", "deploy", "--build-id", "102").out
    shop.ok("deploy", "--build-id", "102")

    document["Resources"]["Other"]["Properties"] = {
        **document["Resources"]["Role"]["Properties"],
        "Policies": [{"PolicyName": "reads", "PolicyDocument": reads("*")}],
    }
    shop.write("stack.json", json.dumps(document))
    shop.ok("deploy", "--build-id", "103")

    document["Resources"]["Greeter"]["Properties"]["Role"] = {"Fn::GetAtt": ["Other", "Arn"]}
    shop.write("stack.json", json.dumps(document))
    told = "Greeter would run with another role than STAGE"
    assert f"needs --allow: {told}" in shop.ok("plan", "deploy", "--build-id", "104").out
    refused = shop.run("deploy", "--build-id", "104")
    assert refused.code == 3
    assert told in refused.err


def test_the_role_that_sam_makes_of_a_function_is_its_live_role_too(shop: Shop) -> None:
    def sam(resource: str) -> str:
        function = {
            "CodeUri": ".",
            "Handler": "app.handler",
            "Runtime": control_runtime(),
            "Policies": [reads(resource)],
        }
        greeter = {"Type": "AWS::Serverless::Function", "Properties": function}
        return json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": {"Greeter": greeter}})

    shop.write("stack.json", sam("arn:aws:s3:::a/*"))
    own(shop, "Greeter", ', capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]')
    shop.ok("deploy", "--build-id", "101")
    shop.write("stack.json", sam("*"))

    told = "modify AWS::IAM::Role GreeterRole: Policies, the role of STAGE"
    assert f"needs --allow: {told}" in shop.ok("plan", "deploy", "--build-id", "102").out
    refused = shop.run("deploy", "--build-id", "102")
    assert refused.code == 3
    assert told in refused.err


def test_of_environments_that_go_with_a_replaced_function_no_role_is_told(shop: Shop) -> None:
    shop.write("stack.json", template(name=f"{shop.name}-a"))
    own(shop, "Greeter")
    shop.ok("deploy", "--build-id", "101")
    shop.greet("with a role that is known")
    shop.ok("deploy", "--build-id", "1011")
    shop.ok("promote", "1011", "--to", "PROD", "--approve")
    shop.aws("iam").put_role_policy(
        RoleName=physical(shop, "Role"), PolicyName="more", PolicyDocument=json.dumps(reads("*"))
    )
    for name, build in (("b", "102"), ("a", "103")):
        shop.write("stack.json", template(name=f"{shop.name}-{name}"))
        shop.greet(f"from {name}")
        done = shop.ok("deploy", "--build-id", build, "--allow-replace", "--json").result[0]
        assert not any("PROD" in each for each in done["warnings"])

    shop.greet("again")
    last = shop.ok("deploy", "--build-id", "104", "--json").result[0]
    assert not any("PROD" in each for each in last["warnings"])


def test_the_plan_says_that_another_logical_id_or_name_needs_to_be_allowed(shop: Shop) -> None:
    document = json.loads(template(name=f"{shop.name}-a"))
    shop.write("stack.json", json.dumps(document))
    own(shop, f"{shop.name}-a")
    shop.ok("deploy", "--build-id", "101")

    renamed = json.loads(json.dumps(document).replace("Greeter", "Welcomer"))
    shop.write("stack.json", json.dumps(renamed))
    shown = shop.ok("plan", "deploy", "--build-id", "102").out
    assert "needs --allow: remove AWS::Lambda::Function Greeter, and every version and alias with it" in shown

    own(shop, "Greeter")
    shop.write("stack.json", template(name=f"{shop.name}-b"))
    shown = shop.ok("plan", "deploy", "--build-id", "102").out
    told = "modify AWS::Lambda::Function Greeter, replacing it, and every version and alias with it"
    assert f"needs --allow: {told}" in shown
