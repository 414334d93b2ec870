"""Cross-origin requests (the Fetch standard's CORS protocol): which web pages may call the gateway from a browser.

Credentials in CORS's sense (cookies) are never allowed: a page presents its API key in a header, as every client does.
"""

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pointsman.server.exchange import Exchange

ANY: Final = b"*"
METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
# Every answer's headers: the contracts have families of them. Named are those that older browsers should know too.
EXPOSED: Final = b"x-request-id, retry-after, date, allow, payment-required, payment-response, x-payment-response, *"
PREFLIGHT_SECONDS: Final = 600
MAX_NAMES_BYTES: Final = 2048
_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~\-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~\-]+)*")


class Cors:
    """The answer headers for pages of the given origins; ``*`` means every origin."""

    def __init__(self, origins: list[str]) -> None:
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._any = ANY in self._origins

    def headers(self, request_headers: dict[bytes, bytes]) -> bytes:
        """Header lines for any answer. Vary is there for every request: a shared cache must not mix them up."""
        origin = request_headers.get(b"origin")
        if origin is None or not (self._any or origin in self._origins):
            return b"vary: origin\r\n"
        allowed = ANY if self._any else origin
        return b"vary: origin\r\naccess-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\n" % (
            allowed,
            EXPOSED,
        )

    def is_preflight(self, headers: dict[bytes, bytes]) -> bool:
        """Does an OPTIONS request only ask whether another request may be sent?"""
        return b"origin" in headers and b"access-control-request-method" in headers

    async def answer_preflight(self, exchange: "Exchange") -> None:
        """The same answer for every path, known or not, without a key: browsers send none."""
        origin = exchange.headers[b"origin"]
        extra = b""
        if self._any or origin in self._origins:
            extra = b"access-control-allow-methods: %b\r\naccess-control-max-age: %d\r\n" % (METHODS, PREFLIGHT_SECONDS)
            names = exchange.headers.get(b"access-control-request-headers", b"")
            if len(names) <= MAX_NAMES_BYTES and _NAMES.fullmatch(names):
                extra += b"access-control-allow-headers: %b\r\n" % names
        exchange.respond(200, b"", b"text/plain", extra)
