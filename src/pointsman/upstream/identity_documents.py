"""JSON that other programs tell of identities: issuers' public keys, OpenID providers' documents and tokens."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
import structlog

from pointsman.clock import Clock
from pointsman.errors import GatewayError
from pointsman.identity.tokens import Tokens
from pointsman.identity_settings import IssuerSettings
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import header_lines, host_header
from pointsman.upstream.origins import Origin, port_of

ASK_SECONDS: Final = 10.0
MAX_BYTES: Final = 1024 * 1024
LOOK_SECONDS: Final = 1.0
REFRESH_SECONDS: Final = 3600.0
RETRY_SECONDS: Final = 30.0  # also when a token names an unknown key: nobody makes us ask more often
_PATH: Final = re.compile(r"/[!-~]*")
log = structlog.get_logger("pointsman.identity")


class DocumentError(Exception):
    """There was no such document; the message holds no secret."""


async def fetch_document(
    client: UpstreamClient, url: str, *, allow_private: bool, form: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object at ``url``, or what a posted form is answered with. Raises DocumentError.

    Redirects are not followed: an address is the operator's, or the provider's own document's.
    """
    origin, path = _place(url, allow_private)
    lines = header_lines(_host(origin), (("accept", "application/json"),))
    body = urlencode(form).encode() if form is not None else b""
    kind = b"content-type: application/x-www-form-urlencoded\r\n" if form is not None else b""
    verb = b"GET" if form is None else b"POST"
    head = b"%b %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n" % (verb, path.encode(), lines, kind, len(body))
    answer = CollectedAnswer()
    try:
        async with asyncio.timeout(ASK_SECONDS):
            await client.send(origin, head + body, answer)
    except (GatewayError, TimeoutError) as error:
        raise DocumentError(error.message if isinstance(error, GatewayError) else "it took too long") from None
    if answer.status != 200 or len(answer.body) > MAX_BYTES:
        raise DocumentError(f"the answer was status {answer.status} with {len(answer.body)} bytes")
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise DocumentError("the answer is no JSON object") from None


def _place(url: str, allow_private: bool) -> tuple[Origin, str]:
    """Where a document is, and its path there."""
    try:
        parts = urlsplit(url)
        port = port_of(parts)
    except ValueError:
        raise DocumentError("its address is none") from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme not in ("http", "https") or not parts.hostname or _PATH.fullmatch(path) is None:
        raise DocumentError("its address is none")
    return Origin(scheme=parts.scheme, host=parts.hostname, port=port, allow_private=allow_private), path


def _host(origin: Origin) -> bytes:
    try:
        return host_header(origin.scheme, origin.host, origin.port)
    except UnicodeError:
        raise DocumentError("its address names no sound host") from None


class IssuerKeys:
    """Keeps the public keys of declared issuers: once an hour, and when a token names one that is not known."""

    def __init__(self, client: UpstreamClient, issuers: Iterable[IssuerSettings], tokens: Tokens, clock: Clock) -> None:
        self._client = client
        self._places = {row.issuer: row.jwks_url for row in issuers if row.jwks_url is not None}
        self._tokens = tokens
        self._clock = clock
        self._asked: dict[str, float] = {}
        self._told: set[str] = set()

    async def run(self) -> None:
        """Until it is cancelled; at once when there is nobody to ask."""
        while self._places:
            await self.refresh()
            await asyncio.sleep(LOOK_SECONDS)

    async def refresh(self) -> None:
        """Ask whoever is due."""
        now = self._clock.monotonic()
        for issuer, url in self._places.items():
            wanted = issuer in self._tokens.wanted or issuer not in self._told
            asked = self._asked.get(issuer)
            if asked is not None and now - asked < (RETRY_SECONDS if wanted else REFRESH_SECONDS):
                continue
            self._asked[issuer] = now
            try:
                # The operator wrote the address: trusted, as connections of the configuration file are.
                document = await fetch_document(self._client, url, allow_private=True)
                count = await asyncio.to_thread(self._tokens.set_keys, issuer, document)
                self._told.add(issuer)
                log.info("an issuer's keys are known", issuer=issuer, keys=count)
            except (DocumentError, ValueError) as error:
                log.warning("an issuer does not tell its keys", issuer=issuer, reason=str(error))
