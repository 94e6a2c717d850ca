"""SimulatePrincipalPolicy on the local AWS: what a user may do, and what not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pointsman.localaws import control

FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:greeting"


def test_a_users_policies_are_weighed(tmp_path: Any) -> None:
    import botocore.session

    running = control.up(tmp_path)
    try:
        given = control.environment(running)
        session = botocore.session.Session()
        session.set_credentials(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
        iam = session.create_client("iam", region_name="eu-west-1", endpoint_url=running.url)
        user = iam.create_user(UserName="ci")["User"]["Arn"]
        statements = [
            {"Effect": "Allow", "Action": ["lambda:Get*", "lambda:updatealias"], "Resource": f"{FUNCTION}*"},
            {"Effect": "Deny", "Action": "lambda:GetPolicy", "Resource": "*"},
        ]
        iam.put_user_policy(
            UserName="ci", PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements})
        )

        results = iam.simulate_principal_policy(
            PolicySourceArn=user,
            ActionNames=["lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetPolicy", "lambda:PublishVersion"],
            ResourceArns=[FUNCTION],
        )["EvaluationResults"]

        assert [(each["EvalActionName"], each["EvalDecision"]) for each in results] == [
            ("lambda:GetAlias", "allowed"),
            ("lambda:UpdateAlias", "allowed"),
            ("lambda:GetPolicy", "explicitDeny"),
            ("lambda:PublishVersion", "implicitDeny"),
        ]
        elsewhere = iam.simulate_principal_policy(
            PolicySourceArn=user,
            ActionNames=["lambda:GetAlias"],
            ResourceArns=["arn:aws:lambda:eu-west-1:1:function:x"],
        )
        assert elsewhere["EvaluationResults"][0]["EvalDecision"] == "implicitDeny"
        with pytest.raises(iam.exceptions.NoSuchEntityException):
            iam.simulate_principal_policy(PolicySourceArn=f"{user}-x", ActionNames=["lambda:GetAlias"])
    finally:
        control.down(tmp_path)
