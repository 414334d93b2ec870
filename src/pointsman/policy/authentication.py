"""Authentication: which credential a request presents. Every refusal looks the same, whatever was wrong with it.

One look-up for an API key of any kind. Tokens and cookies are looked at only when there was none: calls with a key pay
nothing for them.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from pointsman.errors import GatewayError, Kind
from pointsman.identity.credentials import COOKIE
from pointsman.identity.key_table import KeyTable
from pointsman.identity.keys import Key
from pointsman.identity.late_keys import LateKeys
from pointsman.policy.authorization import is_taken

# Where other vendors' clients put their key: Anthropic's, Google's, Azure's.
KEY_HEADERS: Final = (b"x-api-key", b"x-goog-api-key", b"api-key")
_COOKIE: Final = re.compile(rb"(?:^|;)[ \t]*" + COOKIE + rb'=[ \t]*"?([A-Za-z0-9._~-]{16,4096})"?[ \t]*(?:;|$)')
_OWN_SITES: Final = (b"same-origin", b"none")


def is_credential_sent(headers: dict[bytes, bytes]) -> bool:
    """True when the caller shows a key of any kind, right or wrong, or a cookie that may be a session's."""
    if b"authorization" in headers or any(name in headers for name in KEY_HEADERS):
        return True
    return b"cookie" in headers and cookie_of(headers) is not None


def authenticate(headers: dict[bytes, bytes], keys: KeyTable, now_us: int, path: bytes = b"") -> Key:
    """Who may call models by ``path``: the key in ``Authorization: Bearer`` or in one of `KEY_HEADERS`, a token, or a
    session.

    Raises GatewayError(UNAUTHENTICATED) when there is none, or it is unknown, revoked or expired: one message for all
    three, so that nothing can be learned from it; PERMISSION_DENIED when it is good for management alone.
    """
    presented = _presented(headers)
    if presented is None:
        return _session(headers, keys, now_us)
    key = keys.find(presented)
    if key is None or (key.expires_at is not None and key.expires_at <= now_us):
        return _other(presented, keys, now_us, path)
    return key


def identify(headers: dict[bytes, bytes], keys: KeyTable, now_us: int, path: bytes = b"") -> Key:
    """Whose credential it is, of any kind that ``path`` takes: what it may do is the caller's to ask
    (policy/authorization.py).

    Raises GatewayError(UNAUTHENTICATED), as `authenticate` does.
    """
    presented = _presented(headers)
    if presented is None:
        return _session(headers, keys, now_us)
    key = keys.find_any(presented) or keys.verify(presented, now_us)
    if key is None or key.disabled or (key.expires_at is not None and key.expires_at <= now_us):
        raise _invalid()
    if not is_taken(path, key.kind):
        raise _invalid()
    return key


async def learn_caller(late: LateKeys | None, headers: dict[bytes, bytes], body: bytes, now_us: int) -> bool:
    """Have a credential looked up that this process has not seen; False: there is none, or what it is was known.

    ``body`` waits meanwhile.

    Raises GatewayError as `LateKeys.learn` does.
    """
    if late is None or late.table.whole:
        return False
    presented = presented_by(headers)
    if presented is None or late.is_known(presented, now_us):
        return False
    await late.learn(presented, len(body))
    return True


def cookie_of(headers: dict[bytes, bytes]) -> bytes | None:
    """The session that a browser presents by cookie, unverified."""
    found = _COOKIE.search(headers.get(b"cookie", b""))
    return None if found is None else found[1]


def is_own_page(headers: dict[bytes, bytes], public_origin: str | None) -> bool:
    """Whether a browser's request comes from a page of ours, or from no page at all.

    Browsers tell it by ``Sec-Fetch-Site``, older ones by ``Origin`` alone (Fetch, Fetch Metadata Request Headers); a
    page can set neither. Programs send none of both.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None and site not in _OWN_SITES:
        return False
    if origin is None:
        return True
    try:
        text = origin.decode("ascii")
        host = urlsplit(text).netloc
    except ValueError:
        return False
    return bool(host) and (host.encode() == headers.get(b"host", b"") or text == public_origin)


def presented_by(headers: dict[bytes, bytes]) -> bytes | None:
    """The credential of a request as it came, of whatever kind; None: there is none, or it is not understood."""
    try:
        return _presented(headers) or (cookie_of(headers) if b"cookie" in headers else None)
    except GatewayError:
        return None


def _presented(headers: dict[bytes, bytes]) -> bytes | None:
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, presented = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not presented:
            message = "send the key as 'Authorization: Bearer <key>'"
            raise GatewayError(Kind.UNAUTHENTICATED, message, param="authorization")
        return presented.strip()
    presented = next((headers[name] for name in KEY_HEADERS if name in headers), b"")
    return presented.strip() if presented else None


def _other(presented: bytes, keys: KeyTable, now_us: int, path: bytes) -> Key:
    """A token's bearer; else the refusal, after the same work whether the credential is unknown or has expired."""
    key = keys.verify(presented, now_us)
    if key is not None:
        if not is_taken(path, key.kind):
            raise _invalid()
        return key
    known = keys.find_any(presented)
    if known is None or known.disabled or (known.expires_at is not None and known.expires_at <= now_us):
        raise _invalid()
    raise GatewayError(Kind.PERMISSION_DENIED, "this key is for management; models need another one")


def _session(headers: dict[bytes, bytes], keys: KeyTable, now_us: int) -> Key:
    cookie = cookie_of(headers) if b"cookie" in headers else None
    if cookie is None:
        raise GatewayError(
            Kind.UNAUTHENTICATED,
            "no API key was sent; send 'Authorization: Bearer <key>' (make one with: pointsman keys create)",
        )
    key = keys.find(cookie)
    if key is None or key.kind != "session" or key.expires_at is None or key.expires_at <= now_us:
        raise _invalid()
    if not is_own_page(headers, keys.public_origin):
        raise GatewayError(Kind.PERMISSION_DENIED, "another site's page may not use this session")
    return key


def _invalid() -> GatewayError:
    return GatewayError(Kind.UNAUTHENTICATED, "the API key is not valid")
