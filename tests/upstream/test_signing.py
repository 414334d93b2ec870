"""Which connections sign their requests, and for which region."""

import pytest

from driven_clock import DrivenClock
from pointsman.canonical.halves import Built
from pointsman.upstream.signing import signer_for

SECRET = "AKIAEXAMPLE:secret"


def test_only_access_keys_of_bedrock_sign() -> None:
    clock = DrivenClock()
    assert signer_for("bedrock", "an-api-key", "https://h", b"h", clock) is None
    assert signer_for("bedrock", None, "https://h", b"h", clock) is None
    assert signer_for("openai.chat", SECRET, "https://h", b"h", clock) is None
    assert signer_for("bedrock", SECRET, "https://h", b"h", clock) is not None


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bedrock-runtime.eu-central-1.amazonaws.com", "eu-central-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("vpce-1.bedrock-runtime.us-west-2.vpce.amazonaws.com", "us-west-2"),
        ("proxy.example.org", "us-east-1"),
    ],
)
def test_the_region_is_the_one_in_the_address(host: str, region: str) -> None:
    signer = signer_for("bedrock", SECRET, f"https://{host}", host.encode(), DrivenClock())
    assert signer is not None
    headers = dict(signer.sign(Built(path="/model/m/converse", body=b"{}"), "").headers)
    assert f"/{region}/bedrock/aws4_request" in headers["authorization"]
    assert "secret" not in str(headers)
