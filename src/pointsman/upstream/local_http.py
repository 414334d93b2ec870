"""A small HTTP/1.1 server for a child process that only its own gateway talks to, over loopback, with a key."""

import asyncio
import hmac
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, cast

import httptools
import msgspec

MAX_BODY_BYTES: Final = 256 * 1024 * 1024  # the gateway's own limit stands before this one


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON answer; ``retry_after`` in seconds."""

    status: int
    body: bytes
    retry_after: int | None = None


Serve = Callable[[str, str, bytes], Awaitable[Answer]]


class LocalHttp(asyncio.Protocol):
    """One connection. Requests are answered one after another; one whose client goes away is cancelled."""

    def __init__(self, api_key: str, serve: Serve, refuse: Callable[[int], Answer]) -> None:
        """``serve(method, path, body)`` answers; ``refuse(status)`` is the answer to what doesn't get there."""
        self._expected = f"Bearer {api_key}".encode()
        self._serve = serve
        self._refuse = refuse
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[str, str, bytes, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._presented = b""
        self._pieces: list[bytes] = []
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only the credential matters."""
        if name.lower() == b"authorization":
            self._presented = value

    def on_body(self, body: bytes) -> None:
        """A piece of the body; too many end the connection."""
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            self._transport.abort()
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """A request is whole: answer it when its turn comes."""
        method = self._parser.get_method().decode("ascii")
        allowed = hmac.compare_digest(self._presented, self._expected)
        self._waiting.append((method, self._url.decode("latin-1"), b"".join(self._pieces), allowed))
        self._begin()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        while self._waiting:
            method, path, body, allowed = self._waiting.popleft()
            answer = await self._serve(method, path, body) if allowed else self._refuse(401)
            self._write(answer)

    def _write(self, answer: Answer) -> None:
        lines = [
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
            "content-type: application/json",
            f"content-length: {len(answer.body)}",
        ]
        if answer.retry_after is not None:
            lines.append(f"retry-after: {answer.retry_after}")
        self._transport.write("\r\n".join([*lines, "", ""]).encode("ascii") + answer.body)
