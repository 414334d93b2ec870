"""Which API's client a request on a shared path comes from. It decides the shape of answers and errors, never a right.

Below ``/openrouter/api/v1`` the path says it. On ``/api/v1``, which OpenRouter's clients and OmniRoute's share, in this
order: the kind of the key, OmniRoute's headers, OpenRouter's headers or its SDK's name, members that OpenRouter alone
has. Without any of them an answer is OpenAI's, which both can read.
"""

from typing import Any, Final

import msgspec

from pointsman.policy.authentication import KEY_HEADERS
from pointsman.server.exchange import Exchange

OPENROUTER_BASE: Final = "/openrouter/api/v1"
SHARED_BASE: Final = "/api/v1"
_MOUNT: Final = OPENROUTER_BASE.encode() + b"/"
_SHARED: Final = SHARED_BASE.encode() + b"/"
_OPENROUTER_KEY: Final = b"sk-or-v1-"
_OMNIROUTE_HEADERS: Final = b"x-omniroute-"
_OPENROUTER_HEADERS: Final = b"x-openrouter-"
# An application's address and name, as OpenRouter asks its callers to send them.
_CALLER_HEADERS: Final = (b"http-referer", b"x-title")
# Members of requests that OpenRouter alone has, with the type that tells them from another API's of the same name.
_MEMBERS: Final[dict[str, type]] = {"provider": dict, "models": list, "plugins": list, "transforms": list}
_MARKS: Final = tuple(f'"{name}"'.encode() for name in _MEMBERS)
_object: Final = msgspec.json.Decoder(dict[str, Any])


def is_openrouter(exchange: Exchange) -> bool:
    """True when the request comes from a client of OpenRouter's API, as far as anybody can tell."""
    if exchange.path.startswith(_MOUNT):
        return True
    return exchange.path.startswith(_SHARED) and _is_hinted(exchange.headers, exchange.body)


def _is_hinted(headers: dict[bytes, bytes], body: bytes) -> bool:
    if headers.get(b"authorization", b"").partition(b" ")[2].strip().startswith(_OPENROUTER_KEY):
        return True
    if any(headers[name].startswith(_OPENROUTER_KEY) for name in KEY_HEADERS if name in headers):
        return True
    if any(name.startswith(_OMNIROUTE_HEADERS) for name in headers):
        return False
    if any(name in headers for name in _CALLER_HEADERS) or b"openrouter" in headers.get(b"user-agent", b""):
        return True
    if any(name.startswith(_OPENROUTER_HEADERS) for name in headers):
        return True
    return any(mark in body for mark in _MARKS) and _has_its_members(body)


def _has_its_members(body: bytes) -> bool:
    try:
        members = _object.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False  # what it is will be told by whoever reads it
    return any(isinstance(members.get(name), kind) for name, kind in _MEMBERS.items())
