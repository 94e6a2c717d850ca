from types import SimpleNamespace

import pytest

from app import handler
from greeting import greet

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:greeting-py"


def called(arn, version):
    return handler({"name": "Ada"}, SimpleNamespace(invoked_function_arn=arn, function_version=version))


def test_says_hello_by_name():
    assert greet("Ada") == "Hello, Ada!"


@pytest.mark.parametrize(("language", "text"), [("sv-FI", "Hej, Ada!"), ("fr", "Bonjour, Ada!"), ("tlh", "Hello, Ada!")])
def test_speaks_the_closest_language_it_knows(language, text):
    assert greet("Ada", language) == text


@pytest.mark.parametrize("name", [None, "", "  ", 42])
def test_refuses_what_is_no_name(name):
    with pytest.raises(ValueError, match="name must be a text"):
        greet(name)


def test_knows_the_alias_it_was_called_by_and_the_version_that_answers():
    assert called(f"{ARN}:STAGE", "7") == {"greeting": "Hello, Ada!", "alias": "STAGE", "version": "7"}


@pytest.mark.parametrize("arn", [ARN, f"{ARN}:$LATEST", f"{ARN}:7"])
def test_has_no_alias_when_called_otherwise(arn):
    assert called(arn, "7")["alias"] is None
