"""A service that takes JSON by POST: called through the client of all upstreams and its egress guard."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

from pointsman.errors import GatewayError, Kind
from pointsman.keyring import Secret
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import header_lines, host_header
from pointsman.upstream.origins import Origin, port_of

JSON: Final = ("content-type", "application/json")


class JsonPost:
    """One service at a URL, which may hold a key and is not shown. ``name`` is what messages call it.

    Raises ValueError for a URL without a host.
    """

    def __init__(
        self,
        name: str,
        client: UpstreamClient,
        url: Secret,
        token: Secret | None = None,
        *,
        allow_private: bool = False,
    ) -> None:
        self.name = name
        self._client = client
        parts = urlsplit(url.reveal())
        host, port = parts.hostname or "", port_of(parts)
        self._origin = Origin(scheme=parts.scheme, host=host, port=port, allow_private=allow_private)
        bearer = (("authorization", f"Bearer {token.reveal()}"),) if token is not None else ()
        self._lines = header_lines(host_header(parts.scheme, host, port), (*bearer, JSON))
        self._path = parts.path
        self._query = f"?{parts.query}" if parts.query else ""

    async def ask(
        self, body: bytes, seconds: float, path: str = "", headers: tuple[tuple[str, str], ...] = ()
    ) -> CollectedAnswer:
        """The whole answer, whatever its status. Raises GatewayError, UPSTREAM_TIMEOUT after ``seconds``.

        ``path`` is added to the URL's; ``headers`` are plain words of ours.
        """
        target = ((self._path.rstrip("/") + path if path else self._path) or "/") + self._query
        more = "".join(f"{name}: {value}\r\n" for name, value in headers).encode("ascii")
        message = b"POST %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
            target.encode("ascii"), self._lines, more, len(body), body
        )  # fmt: skip
        answer = CollectedAnswer()
        try:
            async with asyncio.timeout(seconds):
                await self._client.send(self._origin, message, answer)
        except TimeoutError:
            raise GatewayError(Kind.UPSTREAM_TIMEOUT, f"{self.name} gave no answer within {seconds:g} s") from None
        except GatewayError as error:
            raise GatewayError(error.kind, f"{self.name} can't be reached: {error.message}") from None
        return answer
