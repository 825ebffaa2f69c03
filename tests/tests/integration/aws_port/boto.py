# Puts AWS's own client to the agent's port, and fails where the two do not understand each other.
import json
import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

client = boto3.client(
    "secretsmanager",
    endpoint_url=os.environ["PORT"],
    region_name="eu-west-1",
    # The SDK signs by something; nobody looks at it.
    aws_access_key_id="AKIAUNUSED",
    aws_secret_access_key="unused",
    aws_session_token=os.environ.get("TOKEN"),
    config=Config(retries={"total_max_attempts": 1}),
)


def refused(code, call):
    try:
        call()
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, (code, error)
        return error
    sys.exit(f"{code} was due")


def whole():
    value = os.environ["VALUE"]
    read = client.get_secret_value(SecretId="shop/db")
    assert json.loads(read["SecretString"]) == {"password": value, "user": "shop"}, "something else was read"
    assert read["Name"] == "shop/db" and read["VersionId"].strip("=") == "1" and read["VersionStages"] == ["AWSCURRENT"]
    assert read["ResponseMetadata"]["RequestId"], "there is no request id"
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/db-Ab12Cd"
    assert client.get_secret_value(SecretId=arn)["ARN"] == arn
    assert client.get_secret_value(SecretId="password")["SecretString"] == value
    assert client.get_secret_value(SecretId="shop/db", VersionId=read["VersionId"])["VersionStages"] == []

    batch = client.batch_get_secret_value(SecretIdList=["shop/db", "shop/absent", "closed"])
    assert [one["Name"] for one in batch["SecretValues"]] == ["shop/db"]
    errors = {one["SecretId"]: one["ErrorCode"] for one in batch["Errors"]}
    assert errors == {"shop/absent": "ResourceNotFoundException", "closed": "AccessDeniedException"}, errors
    assert client.describe_secret(SecretId="shop/db")["VersionIdsToStages"] == {read["VersionId"]: ["AWSCURRENT"]}

    absent = client.exceptions.ResourceNotFoundException
    try:
        client.get_secret_value(SecretId="shop/absent")
        sys.exit("what is not there was found")
    except absent:
        pass
    refused("ResourceNotFoundException", lambda: client.get_secret_value(SecretId="shop/db", VersionId="9".rjust(32, "=")))
    refused("AccessDeniedException", lambda: client.get_secret_value(SecretId="closed"))
    refused("InvalidParameterException", lambda: client.get_secret_value(SecretId="a/../b"))
    refused("UnknownOperationException", lambda: client.put_secret_value(SecretId="shop/db", SecretString="x"))
    refused("UnknownOperationException", lambda: client.list_secrets())


def sealed():
    refused("DecryptionFailure", lambda: client.get_secret_value(SecretId="shop/other"))


def token():
    assert client.get_secret_value(SecretId="shop/db")["SecretString"] == os.environ["VALUE"]


def forged():
    refused("UnrecognizedClientException", lambda: client.get_secret_value(SecretId="shop/db"))


def ended():
    refused("ExpiredTokenException", lambda: client.get_secret_value(SecretId="shop/db"))


{"whole": whole, "sealed": sealed, "token": token, "forged": forged, "ended": ended}[os.environ["PART"]]()
