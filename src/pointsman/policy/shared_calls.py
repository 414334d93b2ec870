"""Calls whose answer several requests get: by an idempotency key, or by being the same at the same time.

The call runs by itself; every request that asks for it, the first one too, follows its answer from the beginning, live.
With an idempotency key the call goes on when its client has gone (it said that it may come back), and an answer that
was a success is kept for a while. What failed is forgotten: the next request with the key tries anew.

Kept in the memory of one process, within bounds; answers to requests with a key also beyond it (kept_answers.py).
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.kept_settings import AnswerSettings

KEY_HEADER: Final = b"idempotency-key"
SHARE_HEADER: Final = b"x-pointsman-share"
HEADERS: Final = (KEY_HEADER, SHARE_HEADER)
REPLAY_HEADER: Final = b"x-pointsman-replay-of"
OVERHEAD_BYTES: Final = 2048  # of an answer in memory, beside its bytes
_KEY: Final = re.compile(rb"[!-~](?:[ -~]{0,253}[!-~])?")
_BOUNDARY: Final = re.compile(rb"""^multipart/.*?;\s*boundary="?([^";\s]+)""", re.IGNORECASE)
# Headers that change what an answer is.
_TELLING: Final = (b"anthropic-version", b"anthropic-beta", b"openai-beta", b"x-pointsman-strict", b"accept")

KeepAlive = tuple[bytes, bytes, Callable[[], bytes] | None]


class Asking(Protocol):
    """A request and the way to answer it (server/exchange.py)."""

    path: bytes
    headers: dict[bytes, bytes]
    body: bytes
    request_id: str
    started: float
    started_at: int
    throttle: Callable[[bool], None] | None
    limit_head: bytes
    plan_head: bytes

    @property
    def responded(self) -> bool: ...
    def respond(self, status: int, body: bytes, content_type: bytes = ..., extra: bytes = ...) -> None: ...
    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None: ...
    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def cut(self) -> None: ...
    def keep_alive(self, content_type: bytes, comment: bytes, head: Callable[[], bytes] | None = ...) -> None: ...


def is_asked(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request wants its call to be shared."""
    return KEY_HEADER in headers or headers.get(SHARE_HEADER, b"0").lower() not in (b"0", b"false")


class Name:
    """What a call is found by, within one API key, and a digest of all that makes its answer."""

    __slots__ = ("digest", "goes_on", "text")

    def __init__(self, asking: Asking, key_id: str, dialect: str) -> None:
        """Raises INVALID_REQUEST for an idempotency key that is empty, too long or not ASCII."""
        told = [asking.path, getattr(asking, "query", b""), dialect.encode(), _content(asking)]
        told += [asking.headers.get(name, b"") for name in _TELLING]
        self.digest = hashlib.sha256(b"".join(b"%d:%b" % (len(one), one) for one in told)).digest()
        key = asking.headers.get(KEY_HEADER)
        self.goes_on = key is not None
        if key is None:
            self.text: tuple[str, bytes, bytes] = (key_id, b"", self.digest)
            return
        if _KEY.fullmatch(key) is None:
            name = KEY_HEADER.decode()
            raise GatewayError(Kind.INVALID_REQUEST, f"'{name}' must have 1 to 255 ASCII characters", param=name)
        self.text = (key_id, asking.path, key)


def _content(asking: Asking) -> bytes:
    """The body, without the words that a form is divided by: clients draw them anew each time."""
    boundary = _BOUNDARY.search(asking.headers.get(b"content-type", b""))
    return asking.body if boundary is None else asking.body.replace(boundary[1], b"")


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """A whole answer, and the request that it was first given to."""

    request_id: str
    status: int
    content_type: bytes
    lines: bytes
    streamed: bool
    body: bytes


def used_otherwise() -> GatewayError:
    """The error for a key that was used for another request."""
    key = KEY_HEADER.decode()
    message = f"this '{key}' was used for a request with another body or path; use a new one"
    return GatewayError(Kind.INVALID_REQUEST, message, param=key, status=422)


class _Follower:
    """A request that is given the answer of a shared call."""

    __slots__ = ("asking", "change", "slow")

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.change = asyncio.Event()  # there is more, or the client can take more
        self.slow = False  # it can't take more now


class SharedCall:
    """One call, for the flow an exchange; its answer is kept as it comes, for all who follow it."""

    def __init__(self, like: Asking, name: Name) -> None:
        self.name = name
        self.method = b"POST"
        self.path = like.path
        self.query = getattr(like, "query", b"")
        self.headers = like.headers
        self.body = like.body
        self.request_id = like.request_id
        self.started = like.started
        self.started_at = like.started_at
        self.api_head = self.limit_head = self.plan_head = b""
        self.first_byte: float | None = None
        self.bytes_out = 0
        self.telling: Callable[[], bytes] | None = None  # gives the lines about who answers, when somebody does
        self.throttle: Callable[[bool], None] | None = None
        self.until = 0.0  # when it is forgotten, once it is over
        self.over = False
        self._broken = False
        self._whole: tuple[int, bytes, bytes, bytes] | None = None
        self._head: tuple[int, bytes, bytes] | None = None
        self._parts: list[bytes] = []
        self._keep_alive: KeepAlive | None = None
        self._followers: set[_Follower] = set()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def answered(cls, like: Asking, name: Name, answer: Answer) -> "SharedCall":
        """A call that was answered elsewhere."""
        call = cls(like, name)
        call.request_id = answer.request_id
        if answer.streamed:
            call.start(answer.status, answer.content_type, answer.lines)
            call.write(answer.body)
            call.finish()
        else:
            call.respond(answer.status, answer.body, answer.content_type, answer.lines)
        return call

    def answer(self) -> Answer | None:
        """The answer; None while it is not whole."""
        if not self.over or self._broken:
            return None
        if self._whole is not None:
            status, body, content_type, lines = self._whole
            return Answer(self.request_id, status, content_type, lines, False, body)
        assert self._head is not None
        return Answer(self.request_id, *self._head, True, b"".join(self._parts))

    # the flow's side

    @property
    def responded(self) -> bool:
        """True once any part of an answer was given, be it a comment to one who waits: then it is a stream for all."""
        return self._begun or any(follower.asking.responded for follower in self._followers)

    @property
    def _begun(self) -> bool:
        return self._whole is not None or self._head is not None

    def respond(self, status: int, body: bytes, content_type: bytes = b"application/json", extra: bytes = b"") -> None:
        """The whole answer."""
        if not self._begun:
            self._whole = (status, body, content_type, extra if self.telling is None else extra + self.telling())
            self.bytes_out = len(body)
            self._end()

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """Begin a streamed answer."""
        if not self._begun:
            self._head = (status, content_type, extra if self.telling is None else extra + self.telling())
            self._tell()

    def write(self, data: bytes) -> None:
        """A part of a streamed answer; one that was not begun is that of which those who wait were told."""
        if data and not self.over:
            if self._head is None and self._keep_alive is not None:
                self.start(200, self._keep_alive[0])
            self._parts.append(data)
            self.bytes_out += len(data)
            self._tell()

    def finish(self) -> None:
        """End a streamed answer."""
        self._end()

    def cut(self) -> None:
        """Break off."""
        self._broken = True
        self._end()

    def keep_alive(self, content_type: bytes, comment: bytes, head: Callable[[], bytes] | None = None) -> None:
        """Followers are told that the answer is being made."""
        self._keep_alive = (content_type, comment, head)
        self._tell()

    # the followers' side

    @property
    def status(self) -> int:
        """Of the answer."""
        return self._whole[0] if self._whole is not None else self._head[0] if self._head is not None else 0

    def begin(self, task: asyncio.Task[None]) -> None:
        """The call is made by ``task``."""
        self._task = task
        task.add_done_callback(self._ended)

    async def follow(self, asking: Asking, extra: bytes, settle: Callable[[], None]) -> None:
        """Give a client the answer from its beginning. ``settle`` is called before its last bytes.

        Raises GatewayError(NOT_READY) when the call was given up before it had any.
        """
        follower = _Follower(asking)
        self._followers.add(follower)

        def pace(slow: bool) -> None:
            follower.slow = slow
            self._throttle()
            follower.change.set()

        try:
            asking.throttle = pace
            await self._pass(follower, extra, settle)
        finally:
            asking.throttle = None
            self._followers.remove(follower)
            self._throttle()
            # What is over ends by itself: the task may still have to note that it went well.
            if not (self._followers or self.name.goes_on or self.over) and self._task is not None:
                self._task.cancel()

    async def _pass(self, follower: _Follower, extra: bytes, settle: Callable[[], None]) -> None:
        asking = follower.asking
        position, told, begun = 0, False, False
        while True:
            follower.change.clear()
            if self._keep_alive is not None and not told:
                told = True
                asking.keep_alive(*self._keep_alive)
            if self._whole is not None:
                settle()
                status, body, content_type, lines = self._whole
                self._give_lines(asking)
                asking.respond(status, body, content_type, lines + extra)
                return
            if self._head is not None and not begun:
                begun = True
                self._give_lines(asking)
                asking.start(self._head[0], self._head[1], self._head[2] + extra)
            while position < len(self._parts) and not follower.slow:
                asking.write(self._parts[position])
                position += 1
            if self.over and position == len(self._parts):
                break
            await follower.change.wait()
        if not begun:
            raise GatewayError(Kind.NOT_READY, "the call that this request shares was given up", retry_after_seconds=1)
        settle()
        if self._broken:
            asking.cut()
        else:
            asking.finish()

    def _give_lines(self, asking: Asking) -> None:
        """Have a follower told what the flow has to tell beside the answer."""
        asking.limit_head = asking.limit_head or self.limit_head
        asking.plan_head = self.plan_head

    def _throttle(self) -> None:
        if self.throttle is not None:
            self.throttle(any(follower.slow for follower in self._followers))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # it was logged where it was raised
        if not self.over:
            self._broken = True
            self._end()

    def _end(self) -> None:
        self.over = True
        self._tell()

    def _tell(self) -> None:
        for follower in self._followers:
            follower.change.set()


class SharedCalls:
    """All calls that can be shared, those under way and those that are kept."""

    def __init__(self, clock: Clock, settings: AnswerSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._calls: dict[tuple[str, bytes, bytes], SharedCall] = {}
        self.bytes = 0  # of the answers that are kept

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def window_ms(self) -> int:
        """For how long answers are kept."""
        return int(self._settings.keep_seconds * 1000)

    def find(self, name: Name) -> SharedCall | None:
        """The call of this name. Raises INVALID_REQUEST (422) when its key was used for another request."""
        self._sweep()
        call = self._calls.get(name.text)
        if call is not None and call.name.digest != name.digest:
            raise used_otherwise()
        return call

    def add(self, call: SharedCall) -> None:
        """A call begins."""
        self._calls[call.name.text] = call

    def ended(self, call: SharedCall, *, good: bool) -> bool:
        """A call is over: a good answer to a request with a key is kept, if it isn't too large. Gives whether it is."""
        if not good or not call.name.goes_on or call.bytes_out > self._settings.max_entry_bytes:
            self._calls.pop(call.name.text, None)
            return False
        self.keep(call, self._settings.keep_seconds)
        return True

    def keep(self, call: SharedCall, seconds: float) -> None:
        """Keep a call that is over, for so long."""
        call.until = self._clock.monotonic() + seconds
        self._calls.pop(call.name.text, None)
        self._calls[call.name.text] = call  # behind those that are to go before it
        self.bytes += call.bytes_out + OVERHEAD_BYTES
        self._sweep()

    def _sweep(self) -> None:
        """Forget what is too old, and the oldest while there is too much."""
        now = self._clock.monotonic()
        for text, call in list(self._calls.items()):
            if not call.until:
                continue  # under way
            if call.until > now and self.bytes <= self._settings.memory_bytes:
                return
            del self._calls[text]
            self.bytes -= call.bytes_out + OVERHEAD_BYTES
