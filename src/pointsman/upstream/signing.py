"""Requests that are signed one by one instead of carrying a key: Amazon's."""

import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from pointsman.canonical.halves import Built
from pointsman.clock import Clock
from pointsman.providers.bedrock.signing import (
    SERVICE,
    AwsCredentials,
    Scope,
    read_credentials,
    signature_headers,
)

DEFAULT_REGION: Final = "us-east-1"
_REGION: Final = re.compile(r"(?:^|\.)bedrock-runtime(?:-fips)?\.(?P<region>[a-z0-9-]+)\.")


class AwsSigner:
    """Signs what goes to ``host`` (as the Host header has it) with one access key."""

    __slots__ = ("_clock", "_credentials", "_host", "_region")

    def __init__(self, credentials: AwsCredentials, host: str, region: str, clock: Clock) -> None:
        self._credentials = credentials
        self._host = host
        self._region = region
        self._clock = clock

    def sign(self, built: Built, prefix: str) -> Built:
        """``built`` with the headers of its signature, valid for some minutes from now."""
        scope = Scope(self._region, SERVICE, self._clock.now_us() // 1_000_000)
        added = signature_headers(built, self._host, self._credentials, scope, prefix=prefix)
        return msgspec.structs.replace(built, headers=(*built.headers, *added))


def signer_for(wire: str, secret: str | None, base_url: str, host: bytes, clock: Clock) -> AwsSigner | None:
    """A signer for a connection to Bedrock whose secret is an access key; None for all others, which send a key.

    The region is the one in the address, us-east-1 where that names none.
    """
    credentials = read_credentials(secret) if wire == "bedrock" and secret is not None else None
    if credentials is None:
        return None
    found = _REGION.search(urlsplit(base_url).hostname or "")
    region = found["region"] if found is not None else DEFAULT_REGION
    return AwsSigner(credentials, host.decode("ascii"), region, clock)
