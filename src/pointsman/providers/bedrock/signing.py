"""Amazon's request signatures, version 4.

Source: docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html. The path is encoded once more than it is
sent, as for every service but S3.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, quote

import msgspec

from pointsman.canonical.halves import Built

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICE: Final = "bedrock"
_SAFE: Final = "-_.~"


class AwsCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """An access key; ``session_token`` goes with temporary ones."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"AwsCredentials({self.access_key_id})"


class Scope(msgspec.Struct, frozen=True):
    """Where and when a signature holds; ``now`` is in seconds since 1970."""

    region: str
    service: str
    now: int


def read_credentials(secret: str) -> AwsCredentials | None:
    """The access key in ``ID:SECRET`` or ``ID:SECRET:TOKEN``; None for an API key, which needs no signature."""
    name, colon, rest = secret.partition(":")
    if not colon or not (name.startswith(("AKIA", "ASIA", "AKID")) and name.isalnum()):
        return None
    key, _, token = rest.partition(":")
    return AwsCredentials(access_key_id=name, secret_access_key=key, session_token=token or None) if key else None


def signature_headers(
    built: Built, host: str, credentials: AwsCredentials, scope: Scope, *, prefix: str = ""
) -> tuple[tuple[str, str], ...]:
    """The headers to add to ``built``, which is sent to ``host`` below the path ``prefix``, with no query of its own.

    Host and content type are signed; other headers may be added by whoever carries the request.
    """
    stamp = datetime.fromtimestamp(scope.now, UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {"host": host, "x-amz-date": stamp}
    signed |= {name.lower(): value for name, value in built.headers if name.lower() == "content-type"}
    if credentials.session_token is not None:
        signed["x-amz-security-token"] = credentials.session_token
    target, _, query = built.path.partition("?")
    canonical = canonical_request(built.method, prefix + target, query, signed, built.body)
    place = f"{stamp[:8]}/{scope.region}/{scope.service}/aws4_request"
    to_sign = "\n".join([ALGORITHM, stamp, place, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.digest(_signing_key(credentials, stamp[:8], scope), to_sign.encode(), "sha256").hex()
    value = (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{place}, SignedHeaders={';'.join(sorted(signed))}, "
        f"Signature={signature}"
    )
    added = [(name, value) for name, value in signed.items() if name.startswith("x-amz-")]
    return (*added, ("authorization", value))


def canonical_request(method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> str:
    """A request in the form that is signed; names of headers in lower case."""
    pairs = sorted((quote(name, safe=_SAFE), quote(value, safe=_SAFE)) for name, value in parse_qsl(query, True))
    return "\n".join(
        [
            method,
            quote(path, safe="/" + _SAFE) or "/",
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)),
            "",
            ";".join(sorted(headers)),
            hashlib.sha256(body).hexdigest(),
        ]
    )


def _signing_key(credentials: AwsCredentials, day: str, scope: Scope) -> bytes:
    key = f"AWS4{credentials.secret_access_key}".encode()
    for step in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return key
