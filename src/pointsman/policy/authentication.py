"""Authentication: which key a request presents. Every refusal looks the same, whatever was wrong with the key."""

from typing import Final

from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key, KeyTable

# Where other vendors' clients put their key: Anthropic's, Google's, Azure's.
KEY_HEADERS: Final = (b"x-api-key", b"x-goog-api-key", b"api-key")


def is_credential_sent(headers: dict[bytes, bytes]) -> bool:
    """True when the caller shows a key of any kind, right or wrong."""
    return b"authorization" in headers or any(name in headers for name in KEY_HEADERS)


def authenticate(headers: dict[bytes, bytes], keys: KeyTable, now_us: int) -> Key:
    """The key in ``Authorization: Bearer`` or in one of `KEY_HEADERS`. ``now_us`` judges its expiry.

    Raises GatewayError(UNAUTHENTICATED) when there is none, or it is unknown, revoked or expired: one message for all
    three, so that nothing can be learned from it.
    """
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, presented = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not presented:
            message = "send the key as 'Authorization: Bearer <key>'"
            raise GatewayError(Kind.UNAUTHENTICATED, message, param="authorization")
    else:
        presented = next((headers[name] for name in KEY_HEADERS if name in headers), b"")
        if not presented:
            raise GatewayError(
                Kind.UNAUTHENTICATED,
                "no API key was sent; send 'Authorization: Bearer <key>' (make one with: pointsman keys create)",
            )
    key = keys.find(presented.strip())
    if key is None or (key.expires_at is not None and key.expires_at <= now_us):
        raise GatewayError(Kind.UNAUTHENTICATED, "the API key is not valid")
    return key
