"""Signatures are those of AWS's documentation and of botocore."""

import datetime
from typing import Any
from unittest.mock import patch

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.canonical.halves import Built
from pointsman.providers.bedrock.signing import AwsCredentials, Scope, read_credentials, signature_headers

KEY = AwsCredentials(access_key_id="AKIDEXAMPLE", secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW = 1_440_938_160  # 2015-08-30T12:36:00Z


def signed(built: Built, host: str, service: str, key: AwsCredentials = KEY) -> dict[str, str]:
    return dict(signature_headers(built, host, key, Scope("us-east-1", service, NOW)))


@pytest.mark.parametrize(
    ("built", "host", "service", "signature"),
    [
        (
            Built(
                path="/?Action=ListUsers&Version=2010-05-08",
                body=b"",
                method="GET",
                headers=(("content-type", "application/x-www-form-urlencoded; charset=utf-8"),),
            ),
            "iam.amazonaws.com",
            "iam",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
        (
            Built(path="/", body=b"", method="GET"),
            "example.amazonaws.com",
            "service",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            Built(path="/", body=b""),
            "example.amazonaws.com",
            "service",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
    ],
    ids=["documentation", "get-vanilla", "post-vanilla"],
)
def test_the_published_vectors_are_met(built: Built, host: str, service: str, signature: str) -> None:
    headers = signed(built, host, service)
    assert headers["x-amz-date"] == "20150830T123600Z"
    assert headers["authorization"].endswith(f"Signature={signature}")


@settings(deadline=None, max_examples=60)
@given(
    model=st.text("abz.:/-_~ é", min_size=1, max_size=12),
    body=st.binary(max_size=40),
    token=st.none() | st.just("token/+="),
)
def test_botocore_signs_the_same(model: str, body: bytes, token: str | None) -> None:
    from urllib.parse import quote

    path = f"/model/m{quote(model, safe='')}/converse"
    key = AwsCredentials(access_key_id="AKIAX", secret_access_key="secret", session_token=token)
    built = Built(path=path, body=body, headers=(("content-type", "application/json"),))
    ours = signed(built, "h.example", "bedrock", key)
    request: Any = AWSRequest("POST", f"https://h.example{path}", {"content-type": "application/json"}, body)
    now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    with patch("botocore.auth.get_current_datetime", return_value=now):
        SigV4Auth(Credentials("AKIAX", "secret", token), "bedrock", "us-east-1").add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]


def test_access_keys_are_told_from_api_keys() -> None:
    assert read_credentials("AKIAEXAMPLE:secret") == AwsCredentials(
        access_key_id="AKIAEXAMPLE", secret_access_key="secret"
    )
    temporary = read_credentials("ASIAEXAMPLE:secret:a:b")
    assert temporary is not None
    assert temporary.session_token == "a:b"
    assert "secret" not in repr(temporary)
    assert read_credentials("bedrock-api-key-YmVk:x") is None
    assert read_credentials("AKIAEXAMPLE") is None
