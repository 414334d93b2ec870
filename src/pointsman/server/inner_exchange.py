"""Exchanges between the flow and a client: one that holds the end of an answer back, one that nobody listens to."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.framing.sse import SseSplitter
from pointsman.policy.stored_responses import LOST
from pointsman.server.exchange import JSON

if TYPE_CHECKING:
    from pointsman.server.exchange import Exchange

MAX_WAITING_BYTES: Final = 256 * 1024  # of events that nobody has taken yet; then the upstream has to wait
_END: Final = re.compile(
    rb'^(?:event: ?|data: ?\{"type": ?")response\.(?:completed|incomplete|failed|cancelled)\b', re.MULTILINE
)
_ENDED: Final = frozenset(("response.completed", "response.incomplete", "response.failed", "response.cancelled"))
T = TypeVar("T")
_decode: Final = msgspec.json.Decoder().decode


class OfOuter(Generic[T]):
    """A member that is that of the exchange below, ``_outer``, under the same name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, exchange: Any, owner: type) -> T:
        return getattr(exchange._outer, self._name)  # type: ignore[no-any-return]

    def __set__(self, exchange: Any, value: T) -> None:
        setattr(exchange._outer, self._name, value)


class HeldExchange:
    """A client's exchange whose answer waits before its end, so that it can be kept before the client knows of it.

    `response` is the whole response object once the flow is through; `release` lets the rest go.
    """

    throttle = OfOuter[Callable[[bool], None] | None]()  # who is told when the client reads too slowly
    api_head = OfOuter[bytes]()
    limit_head = OfOuter[bytes]()
    plan_head = OfOuter[bytes]()
    telling = OfOuter[Callable[[], bytes] | None]()  # gives the lines about who answers, when somebody does
    bytes_out = OfOuter[int]()
    first_byte = OfOuter[float | None]()

    def __init__(self, outer: "Exchange", body: bytes) -> None:
        self._outer = outer
        self.body = body
        self.path = outer.path
        self.headers = outer.headers
        self.request_id = outer.request_id
        self.started = outer.started
        self.started_at = outer.started_at
        self._answer: tuple[int, bytes, bytes, bytes] | None = None
        self._held: list[bytes] = []
        self._finished = False

    @property
    def responded(self) -> bool:
        """True once any part of an answer was given."""
        return self._answer is not None or self._outer.responded

    def respond(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """The whole answer."""
        self._answer = (status, body, content_type, extra)

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """Begin a streamed answer."""
        self._outer.start(status, content_type, extra)

    def keep_alive(self, content_type: bytes, comment: bytes, head: Callable[[], bytes] | None = None) -> None:
        """The client waits for a stream."""
        self._outer.keep_alive(content_type, comment, head)

    def write(self, data: bytes) -> None:
        """A part of a streamed answer, in whole events."""
        if not self._held:
            end = _END.search(data)
            if end is None:
                self._outer.write(data)
                return
            self._outer.write(data[: end.start()])
            data = data[end.start() :]
        self._held.append(data)

    def finish(self) -> None:
        """End a streamed answer."""
        self._finished = True

    def cut(self) -> None:
        """Break the connection."""
        self._held.clear()
        self._outer.cut()

    def response(self) -> dict[str, Any] | None:
        """The response object that the answer holds; None for an error, or an answer that never ended."""
        if self._answer is not None:
            status, body, _, _ = self._answer
            return _object(body) if status == 200 else None
        found = None
        for event in SseSplitter().feed(b"".join(self._held)):
            found = ended_response(event.data) or found
        return found

    def release(self) -> None:
        """Give the client what was held back."""
        if self._answer is not None:
            self._outer.respond(*self._answer)
            return
        for data in self._held:
            self._outer.write(data)
        if self._finished:
            self._outer.finish()


class QuietExchange:
    """An exchange without a connection: the flow's answer is taken from it event by event."""

    def __init__(self, like: "Exchange", body: bytes, request_id: str, path: bytes) -> None:
        """``like`` says who asks and since when."""
        self.method = b"POST"
        self.body = body
        self.path = path
        self.contract = like.contract
        self.query = b""
        self.headers = like.headers
        self.request_id = request_id
        self.started = like.started
        self.started_at = like.started_at
        self.api_head = self.limit_head = self.plan_head = b""
        self.content_type = JSON
        self.broken = False
        self.bytes_out = 0
        self.first_byte: float | None = None
        self.telling: Callable[[], bytes] | None = None
        self.throttle: Callable[[bool], None] | None = None
        self.responded = False
        self.refusal: tuple[int, bytes] | None = None
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._change = asyncio.Event()
        self._over = False
        self._flow: asyncio.Task[None] | None = None
        self._stopped = False

    def respond(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """The whole answer: a refusal, where a stream was asked for."""
        self.responded = True
        self.refusal = (status, body)
        self.content_type = content_type
        self._end()

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """Begin a streamed answer."""
        self.responded = True
        self.content_type = content_type

    def keep_alive(self, content_type: bytes, comment: bytes, head: Callable[[], bytes] | None = None) -> None:
        """Nobody's connection has to be kept open here."""

    def write(self, data: bytes) -> None:
        """A part of a streamed answer."""
        self.bytes_out += len(data)
        self._waiting.append(data)
        self._size += len(data)
        self._change.set()
        if self._size > MAX_WAITING_BYTES and self.throttle is not None:
            self.throttle(True)

    def finish(self) -> None:
        """End a streamed answer."""
        self._end()

    def cut(self) -> None:
        """Break off."""
        self.broken = True
        self._end()

    async def parts(self, flow: Coroutine[Any, Any, None], *, whole: bool = False) -> AsyncGenerator[bytes]:
        """What ``flow`` writes while it runs. Closing the iterator cancels it.

        A whole answer is in ``refusal`` at the end. Raises GatewayError for it unless a ``whole`` one is welcome;
        NOT_READY behind what there is when the flow was stopped.
        """
        task = self._flow = asyncio.ensure_future(flow)
        if self._stopped:
            task.cancel()
        task.add_done_callback(lambda _: self._end())
        try:
            while True:
                while self._waiting:
                    data = self._waiting.popleft()
                    self._size -= len(data)
                    if not self._waiting and self.throttle is not None:
                        self.throttle(False)
                    yield data
                if self._over:
                    break
                self._change.clear()
                await self._change.wait()
            await asyncio.wait((task,))
            if task.cancelled():
                raise GatewayError(Kind.NOT_READY, LOST)
            task.result()
            if self.refusal is not None and not whole:
                raise refused(*self.refusal)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def stop(self) -> None:
        """Have the flow end now; `parts` tells."""
        self._stopped = True
        if self._flow is not None:
            self._flow.cancel()

    def _end(self) -> None:
        self._over = True
        self._change.set()


def refused(status: int, body: bytes) -> GatewayError:
    """The error that an answer with this body told, to be told once more."""
    error = (_object(body) or {}).get("error")
    message = str(error.get("message")) if isinstance(error, dict) else "the request was refused"
    return GatewayError(Kind.INVALID_REQUEST, message, status=status, upstream_body=body)


def ended_response(data: bytes) -> dict[str, Any] | None:
    """The response object in the data of an event that ends one."""
    event = _object(data)
    if event is None or event.get("type") not in _ENDED:
        return None
    response = event.get("response")
    return response if isinstance(response, dict) else None


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = _decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None
