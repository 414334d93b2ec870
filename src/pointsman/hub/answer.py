"""An upstream's streamed answer on its way through a passage."""

from collections.abc import Callable

from pointsman.errors import GatewayError
from pointsman.hub.reader import PassageReader
from pointsman.upstream.answers import Receiver, StreamedAnswer
from pointsman.upstream.http1 import UpstreamConnection


class StreamHead:
    """What the two sides call a stream: the upstream's content type, the client's, and header lines for the client."""

    __slots__ = ("client_type", "extra", "upstream_type")

    def __init__(self, upstream_type: bytes, client_type: bytes, extra: bytes) -> None:
        self.upstream_type = upstream_type
        self.client_type = client_type
        self.extra = extra


class PassageAnswer(StreamedAnswer):
    """A sink like `StreamedAnswer`; an error in mid-stream ends the call, whatever the upstream still says."""

    __slots__ = ("_head", "_passing")

    def __init__(
        self,
        receiver: Receiver,
        reader: PassageReader,
        settle: Callable[[GatewayError | None, int], None],
        head: StreamHead,
    ) -> None:
        super().__init__(receiver, reader, settle, reader.fail)
        self._head = head
        self._passing = reader

    def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
        """Relay a 200 stream of the expected type; collect anything else."""
        super().head(status, headers, call)
        told = headers.get(b"content-type", b"").lower()
        self.streaming = status == 200 and told.startswith(self._head.upstream_type)
        if self.streaming:
            self._receiver.throttle = self._throttle
        return self.streaming

    def data(self, chunk: bytes) -> None:
        """Forward what ``chunk`` gives; nothing after the end of the answer."""
        if self._passing.over:
            return
        super().data(chunk)
        if self.started and self._verdict() is not None:
            if self.connection is not None:
                self.connection.abort()
            self._complete()

    def _begin(self) -> None:
        self.started = True
        self._receiver.start(200, self._head.client_type, self._head.extra + b"cache-control: no-cache\r\n")

    def _verdict(self) -> GatewayError | None:
        return self._passing.error
