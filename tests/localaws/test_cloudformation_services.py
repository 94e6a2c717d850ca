"""Resources of other services in stacks: made, changed in place and deleted; what is kept is asked of the service."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.localaws.conftest import Client
from tests.localaws.test_cloudformation import body, cf, complete, events, name, outputs, stack_of

__all__ = ["cf", "name"]  # fixtures

NAMED = ["CAPABILITY_NAMED_IAM"]


def policy(action: str) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}


class Deployed:
    """A stack of one resource called R, and what hangs on it."""

    def __init__(self, cf: Any, name: str) -> None:
        self._cf = cf
        self._name = name
        self._there = False

    def __call__(self, type_: str, properties: dict[str, Any], *, attributes: str = "", **more: Any) -> dict[str, str]:
        """Create or update; Ref and attributes of R."""
        given = {k: more.pop(k) for k in ("Tags",) if k in more}
        shown = {"Ref": {"Value": {"Ref": "R"}}}
        shown |= {each.replace(".", ""): {"Value": {"Fn::GetAtt": ["R", each]}} for each in attributes.split()}
        template = body(shown, R={"Type": type_, "Properties": properties}, **more)
        work = self._cf.update_stack if self._there else self._cf.create_stack
        work(StackName=self._name, TemplateBody=template, Capabilities=NAMED, **given)
        complete(self._cf, self._name, "UPDATE" if self._there else "CREATE")
        self._there = True
        return outputs(self._cf, self._name)

    def delete(self) -> None:
        self._cf.delete_stack(StackName=self._name)
        assert not [stack for stack in self._cf.describe_stacks()["Stacks"] if stack["StackName"] == self._name]


@pytest.fixture
def deploy(cf: Any, name: str) -> Deployed:
    return Deployed(cf, name)


def test_a_queue(deploy: Deployed, connect: Client) -> None:
    sqs = connect("sqs")

    def found(url: str) -> dict[str, str]:
        attributes: dict[str, str] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return attributes

    wide = {"VisibilityTimeout": "45", "DelaySeconds": 3, "Tags": [{"Key": "a", "Value": "b"}]}
    made = deploy("AWS::SQS::Queue", wide, attributes="Arn QueueName QueueUrl")
    assert made["QueueUrl"] == made["Ref"]
    assert made["Arn"].endswith(f":{made['QueueName']}")
    assert (found(made["Ref"])["VisibilityTimeout"], found(made["Ref"])["DelaySeconds"]) == ("45", "3")

    narrow = {"VisibilityTimeout": 50, "Tags": [{"Key": "c", "Value": "d"}]}
    assert deploy("AWS::SQS::Queue", narrow)["Ref"] == made["Ref"]
    assert (found(made["Ref"])["VisibilityTimeout"], found(made["Ref"])["DelaySeconds"]) == ("50", "0")
    assert sqs.list_queue_tags(QueueUrl=made["Ref"])["Tags"] == {"c": "d"}

    fifo = deploy("AWS::SQS::Queue", {"FifoQueue": True})["Ref"]
    assert fifo.endswith(".fifo")
    with pytest.raises(ClientError, match="NonExistentQueue"):
        found(made["Ref"])
    deploy.delete()
    with pytest.raises(ClientError, match="NonExistentQueue"):
        found(fifo)


def test_a_topic_its_subscription_and_the_policies_that_let_it(deploy: Deployed, connect: Client) -> None:
    sns, sqs = connect("sns"), connect("sqs")
    queue = {"Type": "AWS::SQS::Queue"}

    def subscription(pattern: str) -> dict[str, Any]:
        given = {
            "TopicArn": {"Ref": "R"},
            "Protocol": "sqs",
            "Endpoint": {"Fn::GetAtt": ["Queue", "Arn"]},
            "FilterPolicy": {"kind": [pattern]},
            "RawMessageDelivery": "true",
        }
        return {"Type": "AWS::SNS::Subscription", "Properties": given}

    may = {
        "Type": "AWS::SQS::QueuePolicy",
        "Properties": {"Queues": [{"Ref": "Queue"}], "PolicyDocument": policy("sqs:SendMessage")},
    }
    topic_may = {
        "Type": "AWS::SNS::TopicPolicy",
        "Properties": {"Topics": [{"Ref": "R"}], "PolicyDocument": policy("sns:Publish")},
    }
    rest = {"Queue": queue, "May": may, "TopicMay": topic_may}
    arn = deploy("AWS::SNS::Topic", {"DisplayName": "d"}, attributes="TopicName", S=subscription("a"), **rest)["Ref"]

    url = next(u for u in sqs.list_queues()["QueueUrls"] if "-Queue-" in u)
    (subscribed,) = sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    kind = {"kind": {"DataType": "String", "StringValue": "a"}}
    sns.publish(TopicArn=arn, Message="hello", MessageAttributes=kind)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == "hello"
    assert "sns:Publish" in sns.get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"]
    assert "SendMessage" in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]

    deploy("AWS::SNS::Topic", {"DisplayName": "e"}, S=subscription("b"), **rest)
    attributes = sns.get_subscription_attributes(SubscriptionArn=subscribed["SubscriptionArn"])["Attributes"]
    assert json.loads(attributes["FilterPolicy"]) == {"kind": ["b"]}
    assert sns.get_topic_attributes(TopicArn=arn)["Attributes"]["DisplayName"] == "e"
    deploy.delete()
    assert arn not in str(sns.list_topics()["Topics"])


def test_a_table(deploy: Deployed, connect: Client) -> None:
    dynamodb = connect("dynamodb")
    keys = {
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
    }
    streaming = keys | {"StreamSpecification": {"StreamViewType": "NEW_IMAGE"}}
    made = deploy("AWS::DynamoDB::Table", streaming, attributes="Arn StreamArn")
    dynamodb.put_item(TableName=made["Ref"], Item={"k": {"S": "kept"}})

    lasting = {"TimeToLiveSpecification": {"AttributeName": "t", "Enabled": "true"}}
    indexed = {
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("k", "i")],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "by-i",
                "KeySchema": [{"AttributeName": "i", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
                "ContributorInsightsSpecification": {"Enabled": "false"},
            }
        ],
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    }
    assert deploy("AWS::DynamoDB::Table", streaming | lasting | indexed)["Ref"] == made["Ref"]
    assert dynamodb.get_item(TableName=made["Ref"], Key={"k": {"S": "kept"}})["Item"]
    described = dynamodb.describe_table(TableName=made["Ref"])["Table"]
    assert [index["IndexName"] for index in described["GlobalSecondaryIndexes"]] == ["by-i"]
    assert described["LatestStreamArn"] == made["StreamArn"]
    ttl = dynamodb.describe_time_to_live(TableName=made["Ref"])["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "t"}

    deploy("AWS::DynamoDB::Table", keys)
    described = dynamodb.describe_table(TableName=made["Ref"])["Table"]
    assert not described.get("GlobalSecondaryIndexes")
    assert "StreamSpecification" not in described
    rekeyed = keys | {
        "KeySchema": [{"AttributeName": "z", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "z", "AttributeType": "S"}],
    }
    assert deploy("AWS::DynamoDB::Table", rekeyed)["Ref"] != made["Ref"]


def test_a_bucket(deploy: Deployed, connect: Client, name: str) -> None:
    s3 = connect("s3")
    full = {
        "VersioningConfiguration": {"Status": "Enabled"},
        "PublicAccessBlockConfiguration": {"BlockPublicAcls": "true"},
        "CorsConfiguration": {"CorsRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "MaxAge": "5"}]},
        "LifecycleConfiguration": {"Rules": [{"Id": "r", "Status": "Enabled", "ExpirationInDays": 3}]},
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "WebsiteConfiguration": {"IndexDocument": "index.html"},
    }
    may = {
        "Type": "AWS::S3::BucketPolicy",
        "Properties": {"Bucket": {"Ref": "R"}, "PolicyDocument": policy("s3:GetObject")},
    }
    made = deploy("AWS::S3::Bucket", full, attributes="Arn DomainName", May=may, Tags=[{"Key": "of", "Value": "stack"}])
    bucket = made["Ref"]
    assert made["Arn"] == f"arn:aws:s3:::{bucket}"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"][0]["MaxAgeSeconds"] == 5
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert (rule["ID"], rule["Expiration"]) == ("r", {"Days": 3})
    assert s3.get_bucket_website(Bucket=bucket)["IndexDocument"] == {"Suffix": "index.html"}
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "of", "Value": "stack"}]
    assert "s3:GetObject" in s3.get_bucket_policy(Bucket=bucket)["Policy"]

    assert deploy("AWS::S3::Bucket", {}, Tags=[])["Ref"] == bucket
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"
    for look in (
        s3.get_bucket_cors,
        s3.get_bucket_lifecycle_configuration,
        s3.get_bucket_policy,
        s3.get_bucket_tagging,
    ):
        with pytest.raises(ClientError, match="NoSuch"):
            look(Bucket=bucket)


def test_what_is_not_offered_of_a_type_is_refused_by_name(cf: Any, connect: Client, name: str) -> None:
    """And nothing is taken back that was not begun."""
    cf.create_stack(StackName=name, TemplateBody=body(B={"Type": "AWS::S3::Bucket"}))
    asked = {"Type": "AWS::S3::Bucket", "Properties": {"InventoryConfigurations": []}}
    cf.update_stack(StackName=name, TemplateBody=body(B=asked))
    assert stack_of(cf, name)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "does not offer InventoryConfigurations of AWS::S3::Bucket" in str(events(cf, name))


def test_a_log_group_and_an_alarm(deploy: Deployed, connect: Client) -> None:
    logs, cloudwatch = connect("logs"), connect("cloudwatch")

    def alarm(threshold: int) -> dict[str, Any]:
        given = {
            "MetricName": "Errors",
            "Namespace": "AWS/Lambda",
            "Statistic": "Sum",
            "Period": "60",
            "EvaluationPeriods": 1,
            "Threshold": threshold,
            "ComparisonOperator": "GreaterThanThreshold",
            "Dimensions": [{"Name": "FunctionName", "Value": {"Ref": "R"}}],
        }
        return {"Type": "AWS::CloudWatch::Alarm", "Properties": given}

    counted = {
        "LogGroupName": {"Ref": "R"},
        "FilterPattern": "ERROR",
        "MetricTransformations": [{"MetricName": "m", "MetricNamespace": "n", "MetricValue": "1"}],
    }
    filtered = {"Type": "AWS::Logs::MetricFilter", "Properties": counted}
    made = deploy("AWS::Logs::LogGroup", {"RetentionInDays": 3}, attributes="Arn", Alarm=alarm(1), Filter=filtered)
    assert made["Arn"].endswith(f":log-group:{made['Ref']}:*")
    (group,) = logs.describe_log_groups(logGroupNamePrefix=made["Ref"])["logGroups"]
    assert group["retentionInDays"] == 3
    assert logs.describe_metric_filters(logGroupName=made["Ref"])["metricFilters"][0]["filterPattern"] == "ERROR"

    deploy("AWS::Logs::LogGroup", {}, Alarm=alarm(2))
    (group,) = logs.describe_log_groups(logGroupNamePrefix=made["Ref"])["logGroups"]
    assert "retentionInDays" not in group
    assert logs.describe_metric_filters(logGroupName=made["Ref"])["metricFilters"] == []
    alarms = cloudwatch.describe_alarms()["MetricAlarms"]
    (found,) = [each for each in alarms if {"Name": "FunctionName", "Value": made["Ref"]} in each["Dimensions"]]
    assert found["Threshold"] == 2
    deploy.delete()
    assert logs.describe_log_groups(logGroupNamePrefix=made["Ref"])["logGroups"] == []
    assert found["AlarmName"] not in str(cloudwatch.describe_alarms()["MetricAlarms"])


def test_a_rule_of_a_bus(deploy: Deployed, connect: Client, name: str) -> None:
    events_ = connect("events")
    bus = {"Type": "AWS::Events::EventBus", "Properties": {"Name": name}}
    queue = {"Type": "AWS::SQS::Queue"}
    target = {"Id": "t", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}
    rule = {"EventBusName": {"Ref": "Bus"}, "EventPattern": {"source": ["a"]}, "Targets": [target]}
    made = deploy("AWS::Events::Rule", rule, attributes="Arn", Bus=bus, Queue=queue)
    bus_name, rule_name = made["Ref"].split("|")
    assert bus_name == name
    assert len(events_.list_targets_by_rule(Rule=rule_name, EventBusName=name)["Targets"]) == 1

    other = {"EventBusName": {"Ref": "Bus"}, "EventPattern": {"source": ["b"]}, "State": "DISABLED"}
    assert deploy("AWS::Events::Rule", other, Bus=bus, Queue=queue)["Ref"] == made["Ref"]
    found = events_.describe_rule(Name=rule_name, EventBusName=name)
    assert (json.loads(found["EventPattern"]), found["State"]) == ({"source": ["b"]}, "DISABLED")
    assert events_.list_targets_by_rule(Rule=rule_name, EventBusName=name)["Targets"] == []
    deploy.delete()
    with pytest.raises(ClientError, match="ResourceNotFound"):
        events_.describe_rule(Name=rule_name, EventBusName=name)


def test_parameters_and_secrets_and_what_refers_to_them(deploy: Deployed, connect: Client, name: str) -> None:
    ssm, secrets = connect("ssm"), connect("secretsmanager")
    ssm.put_parameter(Name=f"/{name}", Type="String", Value="from ssm")
    made_up = {"SecretStringTemplate": '{"user": "u"}', "GenerateStringKey": "password", "PasswordLength": "20"}
    secret = {"Type": "AWS::SecretsManager::Secret", "Properties": {"GenerateSecretString": made_up}}
    value = {"Fn::Sub": f"{{{{resolve:ssm:/{name}}}}} {{{{resolve:secretsmanager:${{S}}:SecretString:user}}}}"}
    made = deploy("AWS::SSM::Parameter", {"Type": "String", "Value": value}, attributes="Value", S=secret)
    assert made["Ref"].startswith("CFN-R-")
    assert made["Value"] == ssm.get_parameter(Name=made["Ref"])["Parameter"]["Value"] == "from ssm u"
    (found,) = [each for each in secrets.list_secrets()["SecretList"] if each["Name"].startswith(name)]
    assert len(json.loads(secrets.get_secret_value(SecretId=found["ARN"])["SecretString"])["password"]) == 20

    assert deploy("AWS::SSM::Parameter", {"Type": "String", "Value": "v"}, S=secret)["Ref"] == made["Ref"]
    assert ssm.get_parameter(Name=made["Ref"])["Parameter"]["Value"] == "v"
    deploy.delete()
    with pytest.raises(ClientError, match="ParameterNotFound"):
        ssm.get_parameter(Name=made["Ref"])


def test_policies_of_a_role(deploy: Deployed, connect: Client) -> None:
    iam = connect("iam")
    trust = {"Version": "2012-10-17", "Statement": []}
    role = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": trust}}

    def inline(action: str) -> dict[str, Any]:
        given = {"PolicyName": "inline", "PolicyDocument": policy(action), "Roles": [{"Ref": "Role"}]}
        return {"Type": "AWS::IAM::Policy", "Properties": given}

    managed = {"PolicyDocument": policy("s3:*"), "Roles": [{"Ref": "Role"}]}
    made = deploy("AWS::IAM::ManagedPolicy", managed, attributes="PolicyArn", Role=role, Inline=inline("sqs:*"))
    (holder,) = iam.list_entities_for_policy(PolicyArn=made["Ref"])["PolicyRoles"]
    holds = {"RoleName": holder["RoleName"], "PolicyName": "inline"}
    assert iam.get_role_policy(**holds)["PolicyDocument"] == policy("sqs:*")

    deploy("AWS::IAM::ManagedPolicy", {"PolicyDocument": policy("sns:*")}, Role=role, Inline=inline("ssm:*"))
    assert iam.get_role_policy(**holds)["PolicyDocument"] == policy("ssm:*")
    assert iam.list_entities_for_policy(PolicyArn=made["Ref"])["PolicyRoles"] == []
    current = iam.get_policy(PolicyArn=made["Ref"])["Policy"]["DefaultVersionId"]
    version = iam.get_policy_version(PolicyArn=made["Ref"], VersionId=current)["PolicyVersion"]
    assert version["Document"] == policy("sns:*")
    deploy.delete()
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.get_role(RoleName=holder["RoleName"])


def test_a_state_machine(deploy: Deployed, connect: Client) -> None:
    states = connect("stepfunctions")

    def machine(text: str) -> dict[str, Any]:
        steps = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": "${said}", "End": True}}}
        role = "arn:aws:iam::123456789012:role/role"
        return {"RoleArn": role, "DefinitionString": json.dumps(steps), "DefinitionSubstitutions": {"said": text}}

    made = deploy("AWS::StepFunctions::StateMachine", machine("one"), attributes="Arn Name")
    assert made["Arn"] == made["Ref"]
    assert deploy("AWS::StepFunctions::StateMachine", machine("two"))["Ref"] == made["Ref"]
    assert '"Result": "two"' in states.describe_state_machine(stateMachineArn=made["Ref"])["definition"]


def test_a_key_of_kms(deploy: Deployed, connect: Client, name: str) -> None:
    kms = connect("kms")
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"}],
    }
    alias = {
        "Type": "AWS::KMS::Alias",
        "Properties": {"AliasName": f"alias/{name}", "TargetKeyId": {"Ref": "R"}},
    }
    made = deploy("AWS::KMS::Key", {"KeyPolicy": document}, attributes="Arn KeyId", Alias=alias)
    rotating = {"KeyPolicy": document, "Description": "d", "EnableKeyRotation": "true"}
    assert deploy("AWS::KMS::Key", rotating, Alias=alias)["Ref"] == made["KeyId"]
    assert kms.describe_key(KeyId=f"alias/{name}")["KeyMetadata"]["Description"] == "d"
    assert kms.get_key_rotation_status(KeyId=made["KeyId"])["KeyRotationEnabled"] is True


def test_a_schedule_of_a_group(deploy: Deployed, connect: Client) -> None:
    scheduler = connect("scheduler")
    target = {"Arn": {"Fn::GetAtt": ["Queue", "Arn"]}, "RoleArn": "arn:aws:iam::123456789012:role/role"}
    group = {"Type": "AWS::Scheduler::ScheduleGroup", "Properties": {"Tags": [{"Key": "a", "Value": "b"}]}}
    around = {"Queue": {"Type": "AWS::SQS::Queue"}, "Group": group}
    given = {"FlexibleTimeWindow": {"Mode": "OFF"}, "ScheduleExpression": "rate(1 day)", "Target": target}
    made = deploy("AWS::Scheduler::Schedule", given | {"GroupName": {"Ref": "Group"}}, attributes="Arn", **around)
    _, group_name, name = made["Arn"].rsplit("/", 2)
    assert name == made["Ref"]
    (tag,) = scheduler.list_tags_for_resource(
        ResourceArn=scheduler.get_schedule_group(Name=group_name)["Arn"]
    )["Tags"]  # fmt: skip
    assert tag == {"Key": "a", "Value": "b"}

    changed = given | {"GroupName": {"Ref": "Group"}, "ScheduleExpression": "cron(0 0 * * ? *)", "State": "DISABLED"}
    assert deploy("AWS::Scheduler::Schedule", changed, **around)["Ref"] == name
    found = scheduler.get_schedule(Name=name, GroupName=group_name)
    assert (found["ScheduleExpression"], found["State"]) == ("cron(0 0 * * ? *)", "DISABLED")

    moved = deploy("AWS::Scheduler::Schedule", given, attributes="Arn", **around)
    assert moved["Arn"].split("/")[1] == "default"
    with pytest.raises(ClientError, match="ResourceNotFound"):
        scheduler.get_schedule(Name=name, GroupName=group_name)
    deploy.delete()
    with pytest.raises(ClientError, match="ResourceNotFound"):
        scheduler.get_schedule_group(Name=group_name)
