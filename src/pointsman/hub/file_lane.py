"""A call about an uploaded file, from the connection that has it to the client: asked for whole, or passed on as it
comes.
"""

from collections.abc import Callable
from typing import Final

from pointsman.canonical.halves import Built
from pointsman.canonical.record import Outcome
from pointsman.errors import GatewayError, Kind
from pointsman.hub.lane import Entry, Exchange, Services
from pointsman.providers.files import FileFormat
from pointsman.upstream.answers import CollectedAnswer, Receiver
from pointsman.upstream.endpoints import Access, Endpoint
from pointsman.upstream.http1 import UpstreamConnection

# A file is whatever its uploader made it: no browser shall take it for a page of this server's.
INERT: Final = b"x-content-type-options: nosniff\r\ncontent-security-policy: sandbox\r\n"
_MAX_VALUE: Final = 1000  # bytes of a header that is passed on


class FileLane:
    """One call to the upstream of a file."""

    def __init__(
        self, services: Services, entry: Entry, exchange: Exchange, endpoint: Endpoint, access: Access
    ) -> None:
        self._services = services
        self._entry = entry
        self._exchange = exchange
        self._endpoint = endpoint
        self._access = access

    @property
    def prefix(self) -> str:
        """Of every path at this upstream: the base URL's own."""
        return self._access.prefix

    @property
    def host(self) -> str:
        """The upstream's name."""
        return self._access.origin.host

    async def ask(self, built: Built) -> CollectedAnswer:
        """The upstream's whole answer. Raises GatewayError for every status that isn't 2xx."""
        answer = CollectedAnswer()
        await self._send(built, answer)
        self._check(answer)
        if answer.headers.get(b"content-type", b"").lower().startswith(b"text/html"):
            raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream answered with a web page")
        return answer

    async def relay(self, built: Built) -> None:
        """Pass a file on to the client as it comes, and settle the call. Raises GatewayError before its first byte."""

        def settle(error: GatewayError | None) -> None:
            settle_file(self._entry, error)

        answer = FileContent(self._exchange, settle)
        await self._send(built, answer)
        if not answer.streaming:
            self._check(answer)
            raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream's answer holds no file")

    async def _send(self, built: Built, answer: CollectedAnswer) -> None:
        message = self._endpoint.message(self._access, built)
        self._entry.sent(self._endpoint, None)
        self._entry.listen(answer)
        await self._services.client.send(self._access.origin, message, answer, self._entry.record.key_id or "")

    def _check(self, answer: CollectedAnswer) -> None:
        if 200 <= answer.status < 300:
            return
        files: FileFormat = self._endpoint.operations["files"]
        error = self._endpoint.hub.parse_error(answer.status, answer.headers, answer.body, self._access.reveal())
        if files.is_gone(answer.status, answer.body):
            body = error.upstream_body if answer.status == 404 else None
            raise GatewayError(Kind.NOT_FOUND, "the upstream has no such file", upstream_body=body)
        raise error


def settle_file(entry: Entry, error: GatewayError | None = None) -> None:
    """Settle a call that was answered. No vendor takes money for calls about files."""
    entry.record.cost_nano_usd = 0
    entry.settle(200, Outcome.SUCCESS if error is None else Outcome.ERROR, error.kind if error is not None else None)


class FileContent(CollectedAnswer):
    """A sink that passes a file on at the client's pace. Anything but 200 is collected (``streaming`` stays False).

    ``settle`` is called once, before the last bytes go to the client. A file that breaks off breaks the client's
    connection: there is no other way to say that it isn't whole.
    """

    def __init__(self, receiver: Receiver, settle: Callable[[GatewayError | None], None]) -> None:
        self._receiver = receiver
        self._settle = settle
        self.streaming = False
        self._started = False

    def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
        """A file begins, or an error."""
        super().head(status, headers, call)
        self.streaming = status == 200
        if self.streaming:
            self._receiver.throttle = self._throttle
        return self.streaming

    def data(self, chunk: bytes) -> None:
        """A part of the file."""
        if not self._started:
            self._begin()
        self._receiver.write(chunk)

    def end(self, body: bytes) -> None:
        """The file is whole, or the error's body is there."""
        if not self.streaming:
            super().end(body)
            return
        if not self._started:
            self._begin()
        self._settle(None)
        self._receiver.throttle = None
        self._receiver.finish()
        self.finish()

    def fail(self, error: GatewayError) -> None:
        """The call broke: an ordinary error before the first byte, else a broken connection."""
        if self.done:
            return
        self._receiver.throttle = None
        if not self._started:
            self.break_off(error)
            return
        self._settle(error)
        self._receiver.cut()
        self.finish()

    def _begin(self) -> None:
        self._started = True
        kind = self.headers.get(b"content-type", b"application/octet-stream")
        name = self.headers.get(b"content-disposition", b"attachment")
        if not name.lower().startswith(b"attachment"):
            name = b"attachment"
        extra = b"content-disposition: %b\r\n" % name[:_MAX_VALUE] + INERT
        self._receiver.start(200, kind[:_MAX_VALUE], extra)

    def _throttle(self, slow: bool) -> None:
        if self.connection is not None:
            if slow:
                self.connection.pause()
            else:
                self.connection.resume()
