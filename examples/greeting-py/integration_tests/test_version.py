"""Run against one version of the function; Pointsman says which."""

import json
import os

import boto3
import pytest

FUNCTION = os.environ.get("POINTSMAN_FUNCTION", "greeting-py")
QUALIFIER = os.environ.get("POINTSMAN_QUALIFIER", "$LATEST")


@pytest.fixture(scope="session")
def lambda_():
    return boto3.client("lambda")


def invoke(lambda_, event):
    reply = lambda_.invoke(FunctionName=FUNCTION, Qualifier=QUALIFIER, Payload=json.dumps(event))
    return reply, json.load(reply["Payload"])


def test_greets_by_name(lambda_):
    _, answer = invoke(lambda_, {"name": "Ada"})
    assert "Ada" in answer["greeting"]


def test_brings_the_dependencies_it_needs_to_speak_another_language(lambda_):
    _, answer = invoke(lambda_, {"name": "Ada", "language": "fr-CA"})
    assert answer["greeting"].startswith("Bonjour")


def test_is_answered_by_the_version_under_test(lambda_):
    reply, answer = invoke(lambda_, {"name": "Ada"})
    assert (reply["ExecutedVersion"], answer["version"]) == (QUALIFIER, QUALIFIER)


def test_refuses_a_caller_without_a_name(lambda_):
    reply, answer = invoke(lambda_, {})
    assert (reply["FunctionError"], answer["errorType"]) == ("Unhandled", "ValueError")
