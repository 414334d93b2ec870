"""Pictures and files that a client names by address, fetched for upstreams that take bytes only.

Only through the upstream client, whose egress guard judges every address after its name is resolved; nothing private is
ever asked, and no credential is sent along.
"""

import base64
from typing import Final
from urllib.parse import urljoin, urlsplit

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import AnyPart, FilePart, ImagePart, Source, TextPart, ToolResultPart
from pointsman.canonical.request import Request
from pointsman.errors import GatewayError, Kind
from pointsman.ticker import NEVER
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.endpoints import header_lines, host_header
from pointsman.upstream.http1 import UpstreamConnection
from pointsman.upstream.origins import Origin, port_of

MAX_FETCHES: Final = 20  # of one request
MAX_REDIRECTS: Final = 3
MAX_BYTES: Final = 20 * 1024 * 1024  # of one picture or file, as OpenAI has it
MAX_TOTAL_BYTES: Final = 32 * 1024 * 1024  # of all of one request, which is what Anthropic takes in a body
FETCH_SECONDS: Final = 30.0  # for all of one request: a client's own server could drip for as long as the call may last
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_UNTOLD: Final = ("", "application/octet-stream")  # servers that do not say what it is


class _FetchedAnswer(CollectedAnswer):
    """Takes the body in parts and breaks the call off when it is larger than a picture or file may be."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
        super().head(status, headers, call)
        return True

    def data(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > MAX_BYTES:
            if self.connection is not None:
                self.connection.abort()
            self.fail(GatewayError(Kind.INVALID_REQUEST, f"it is larger than {MAX_BYTES // 1024 // 1024} MB"))
            return
        self._parts.append(chunk)

    def end(self, body: bytes) -> None:
        super().end(b"".join((*self._parts, body)))


def addressed(request: Request, lacks: frozenset[str]) -> list[AnyPart]:
    """The parts whose bytes have to be fetched for an upstream that lacks addresses."""
    found: list[AnyPart] = []
    if lacks.isdisjoint(("image_url", "file_url")):
        return found
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                found += [one for one in part.content if _is_addressed(one, lacks)]
            elif not isinstance(part, TextPart) and _is_addressed(part, lacks):
                found.append(part)
    return found


def _is_addressed(part: AnyPart, lacks: frozenset[str]) -> bool:
    wanted = "image_url" if isinstance(part, ImagePart) else "file_url"
    return (
        isinstance(part, ImagePart | FilePart)
        and wanted in lacks
        and part.source is not None
        and part.source.url is not None
    )


async def fetch_parts(
    client: UpstreamClient, parts: list[AnyPart], fidelity: Fidelity, deadline: float = NEVER, *, allow_private: bool
) -> None:
    """Put bytes in the place of addresses before ``deadline`` (the ticker's clock).

    Raises GatewayError(INVALID_REQUEST) that names the part at fault.
    """
    if len(parts) > MAX_FETCHES:
        raise GatewayError(
            Kind.INVALID_REQUEST, f"more than {MAX_FETCHES} pictures or files are given by address", param="messages"
        )
    left = MAX_TOTAL_BYTES
    deadline = min(deadline, client.ticker.now + FETCH_SECONDS)
    for part in parts:
        if isinstance(part, ImagePart | FilePart) and part.source is not None and part.source.url is not None:
            try:
                part.source, size = await fetch(client, part.source.url, deadline, allow_private=allow_private)
                if isinstance(part, ImagePart) and not _is_picture(part.source.media_type or ""):
                    raise GatewayError(Kind.INVALID_REQUEST, "what is there is no picture")
                left -= size
                if left < 0:
                    most = MAX_TOTAL_BYTES // 1024 // 1024
                    raise GatewayError(
                        Kind.INVALID_REQUEST, f"together with those before it, it is larger than {most} MB"
                    )
            except GatewayError as error:
                message = f"'{part.path}' names an address that can't be fetched: {error.message}"
                raise GatewayError(Kind.INVALID_REQUEST, message, param=part.path or None) from None
            fidelity.mapped(part.path, "fetched and sent as bytes")


async def fetch(
    client: UpstreamClient, url: str, deadline: float = NEVER, *, allow_private: bool = False
) -> tuple[Source, int]:
    """The bytes at an address, in base64, and how many they are. Raises GatewayError."""
    for _ in range(MAX_REDIRECTS + 1):
        answer = await _get(client, url, deadline, allow_private)
        location = answer.headers.get(b"location")
        if answer.status not in _REDIRECTS or location is None:
            break
        url = urljoin(url, location.decode("latin-1"))
    if answer.status != 200:
        raise GatewayError(Kind.INVALID_REQUEST, f"it answered with status {answer.status}")
    media_type = answer.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    return Source(data=base64.b64encode(answer.body).decode("ascii"), media_type=media_type or None), len(answer.body)


def _is_picture(media_type: str) -> bool:
    return media_type.startswith("image/") or media_type in _UNTOLD


async def _get(client: UpstreamClient, url: str, deadline: float, allow_private: bool) -> CollectedAnswer:
    try:
        parts = urlsplit(url)
        port = port_of(parts)
    except ValueError:
        raise GatewayError(Kind.INVALID_REQUEST, "it is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise GatewayError(Kind.INVALID_REQUEST, "it is no http or https address")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise GatewayError(Kind.INVALID_REQUEST, "it holds characters that have to be percent-encoded")
    try:
        host = host_header(parts.scheme, parts.hostname, port)
    except UnicodeError:
        raise GatewayError(Kind.INVALID_REQUEST, "it names no sound host") from None
    origin = Origin(scheme=parts.scheme, host=parts.hostname, port=port, allow_private=allow_private)
    answer = _FetchedAnswer()
    message = b"GET %b HTTP/1.1\r\n%b\r\n" % (target.encode(), header_lines(host, ()))
    await client.send(origin, message, answer, "", deadline)
    return answer
