"""An exchange without a client: what the flow answers is kept, for whoever asked on the gateway's own behalf."""

from collections.abc import Callable, Mapping


class KeptExchange:
    """A call that the gateway itself makes, and its whole answer: ``status`` and ``answer``."""

    def __init__(
        self, request_id: str, body: bytes, path: bytes, headers: Mapping[bytes, bytes], started: tuple[float, int]
    ) -> None:
        """``started``: by the monotonic clock (s), and since 1970 (us)."""
        self.request_id = request_id
        self.body = body
        self.path = path
        self.headers = dict(headers)
        self.started, self.started_at = started
        self.limit_head = self.plan_head = self.api_head = b""
        self.bytes_out = 0
        self.first_byte: float | None = None
        self.telling: Callable[[], bytes] | None = None
        self.throttle: Callable[[bool], None] | None = None
        self.responded = False
        self.status = 0
        self.answer = b""

    def respond(self, status: int, body: bytes, content_type: bytes = b"", extra: bytes = b"") -> None:
        """The whole answer."""
        self.responded = True
        self.status, self.answer = status, body

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """Begin a streamed answer."""
        self.responded = True
        self.status = status

    def write(self, data: bytes) -> None:
        """A part of a streamed answer."""
        self.answer += data

    def finish(self) -> None:
        """End a streamed answer."""

    def cut(self) -> None:
        """Break off: what came is no answer."""
        self.status = 0

    def keep_alive(self, content_type: bytes, comment: bytes, head: Callable[[], bytes] | None = None) -> None:
        """Nobody is kept waiting."""
