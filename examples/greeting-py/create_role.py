"""Create the role the function runs as, or find it, and print its ARN: the one thing that exists before the first deploy."""

import json

import boto3

NAME = "greeting-py"
MAY_ASSUME = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}

iam = boto3.client("iam")
try:
    role = iam.create_role(
        RoleName=NAME, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [MAY_ASSUME]})
    )
except iam.exceptions.EntityAlreadyExistsException:
    role = iam.get_role(RoleName=NAME)
iam.attach_role_policy(RoleName=NAME, PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole")
print(role["Role"]["Arn"])
