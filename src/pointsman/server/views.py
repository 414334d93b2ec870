"""Which contract's client a request comes from. It decides the shape of answers and errors, never a right.

First match wins: the host or mount that it came by (routes.py), the kind of its credential, headers of one API, members
that one API alone has. Without any of them an answer is OpenAI's, which all can read.
"""

import re
from types import MappingProxyType
from typing import Any, Final

import msgspec

from pointsman.contracts.operations import Contract
from pointsman.policy.authentication import KEY_HEADERS
from pointsman.server.exchange import Exchange

SHARED_BASE: Final = "/api/v1"  # where OpenRouter's and OmniRoute's clients come
PLAIN_BASE: Final = "/v1"  # where everybody's do
# For answers whose shape depends on who asks: no cache may give them to others.
VARY: Final = b"vary: authorization, cookie, host\r\n"
_SHARED: Final = SHARED_BASE.encode() + b"/"
_OMNIROUTE_HEADERS: Final = b"x-omniroute-"
_OPENROUTER_HEADERS: Final = b"x-openrouter-"
# How credentials begin, and whose they are on the shared base and elsewhere. A key of this gateway says nothing.
_OPENROUTER: Final = (Contract.OPENROUTER, Contract.OPENROUTER)
_OMNIROUTE: Final = (Contract.OMNIROUTE, Contract.OMNIROUTE)
_KINDS: Final = MappingProxyType(
    {
        b"sk-or-v1-": _OPENROUTER,
        b"hmpk_": (Contract.OPENROUTER, Contract.HARDCARRX),
        b"hxv_": (Contract.OPENROUTER, Contract.HARDCARRX),
        b"cc_live_": (Contract.OPENROUTER, Contract.CROSSCOMPUTE),
        b"cc_agent_": (Contract.OPENROUTER, Contract.CROSSCOMPUTE),
        b"oma_": _OMNIROUTE,
        b"eyJ": (None, Contract.HYBRID),  # a JWT: base64 of '{"'
    }
)
_OMNIROUTE_KEY: Final = re.compile(rb"sk-[0-9a-f]{16}-")
_COOKIE: Final = re.compile(rb"(?:^|;)\s*auth_token=")
# Where a bearer token's first bytes stand, and what they may be when a client's dialect is not OpenAI's. None at all:
# the key is in another header.
_AT: Final = slice(7, 11)
_MARKED: Final = frozenset((b"", b"sk-o", b"hmpk", b"hxv_", b"cc_l", b"cc_a"))
# An application's address and name, as OpenRouter asks its callers to send them.
_CALLER_HEADERS: Final = (b"http-referer", b"x-title")
# Members of requests that OpenRouter alone has, with the type that tells them from another API's of the same name.
_MEMBERS: Final[dict[str, type]] = {"provider": dict, "models": list, "plugins": list, "transforms": list}
_MARKS: Final = tuple(f'"{name}"'.encode() for name in _MEMBERS)
_object: Final = msgspec.json.Decoder(dict[str, Any])


def is_plain(exchange: Exchange) -> bool:
    """True when neither host, mount nor credential asks for another dialect than OpenAI's chat. It must be quick: so
    it is for nearly all requests.
    """
    return exchange.contract is None and exchange.headers.get(b"authorization", b"")[_AT] not in _MARKED


def contract_of(exchange: Exchange) -> Contract | None:
    """Whose client a request comes from, as far as anybody can tell."""
    if exchange.contract is not None:
        return exchange.contract
    shared = exchange.path.startswith(_SHARED)
    said = _by_credential(exchange.headers)
    if said is not None:
        return said[0 if shared else 1]
    return _by_hints(exchange.headers, exchange.body) if shared else None


def name_generation(exchange: Exchange) -> None:
    """Tell OpenRouter's clients in a header by which id they find the figures of their request."""
    if exchange.path.startswith(_SHARED) and is_openrouter(exchange):
        exchange.api_head += b"x-generation-id: gen-%b\r\n" % exchange.request_id.encode()


def is_openrouter(exchange: Exchange) -> bool:
    """True when the request comes from a client of OpenRouter's API, as far as anybody can tell."""
    return contract_of(exchange) is Contract.OPENROUTER


def _by_credential(headers: dict[bytes, bytes]) -> tuple[Contract | None, Contract | None] | None:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        token = next((headers[name] for name in KEY_HEADERS if name in headers), b"")
    token = token.strip()
    if not token:
        return _OMNIROUTE if _COOKIE.search(headers.get(b"cookie", b"")) else None
    for beginning, meant in _KINDS.items():
        if token.startswith(beginning):
            return meant
    return _OMNIROUTE if _OMNIROUTE_KEY.match(token) else None


def _by_hints(headers: dict[bytes, bytes], body: bytes) -> Contract | None:
    if any(name.startswith(_OMNIROUTE_HEADERS) for name in headers):
        return Contract.OMNIROUTE
    if any(name in headers for name in _CALLER_HEADERS) or b"openrouter" in headers.get(b"user-agent", b""):
        return Contract.OPENROUTER
    if any(name.startswith(_OPENROUTER_HEADERS) for name in headers):
        return Contract.OPENROUTER
    hinted = any(mark in body for mark in _MARKS) and _has_its_members(body)
    return Contract.OPENROUTER if hinted else None


def _has_its_members(body: bytes) -> bool:
    try:
        members = _object.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False  # what it is will be told by whoever reads it
    return any(isinstance(members.get(name), kind) for name, kind in _MEMBERS.items())
