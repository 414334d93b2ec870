"""A small HTTP/1.1 client that shows every byte: requests by hand, answers taken apart."""

import asyncio
import json
import socket
import time
from typing import Any

import msgspec

from gateway import KEY, PATIENCE_S

CHAT = "/v1/chat/completions"
READ_TIMEOUT_S = PATIENCE_S


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. ``complete``: its framing was kept; ``chunks`` is None unless it was chunked."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes
    complete: bool
    chunks: int | None = None

    @property
    def request_id(self) -> str:
        """The id that the gateway gave the request."""
        return self.headers["x-request-id"]

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The inside of an error body."""
        error: dict[str, Any] = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return error

    @property
    def events(self) -> list[Any]:
        """The values of a stream's events; ``[DONE]`` as that text. Comments are left out."""
        assert self.body.endswith(b"\n\n"), self.body[-200:]
        events = [event for event in self.body.split(b"\n\n")[:-1] if not event.startswith(b":")]
        values = [event.removeprefix(b"data: ") for event in events]
        return [value.decode() if value == b"[DONE]" else json.loads(value) for value in values]

    @property
    def text(self) -> str:
        """The content of the first choice, streamed or not."""
        if self.headers["content-type"].startswith("application/json"):
            content: str = self.json()["choices"][0]["message"]["content"]
            return content
        deltas = [event for event in self.events if event != "[DONE]" and event.get("choices")]
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in deltas)


def parse_answer(data: bytes, *, ended: bool = False, head_only: bool = False) -> tuple[Answer, bytes] | None:
    """The first final answer in ``data`` and the bytes behind it; None while it is not whole and may still become so.

    With ``ended`` no more will come: what is there is given, marked by ``complete``.
    """
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        assert not (ended and data), f"the connection ended inside a head: {data!r}"
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    if status.startswith("1"):
        return parse_answer(rest, ended=ended, head_only=head_only)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name not in headers, f"{name} is there twice"
        headers[name] = value
    body, complete, after, chunks = _body(rest, headers, ended, head_only or status == "204")
    if not complete and not ended:
        return None
    raw = data[: len(data) - len(after)]
    answer = Answer(status=int(status), headers=headers, body=body, raw=raw, complete=complete, chunks=chunks)
    return answer, after


def _body(rest: bytes, headers: dict[str, str], ended: bool, head_only: bool) -> tuple[bytes, bool, bytes, int | None]:
    if head_only:
        return b"", True, rest, None
    if headers.get("transfer-encoding") == "chunked":
        body, complete, after, count = _unchunk(rest)
        return body, complete, after, count
    if "content-length" in headers:
        length = int(headers["content-length"])
        return rest[:length], len(rest) >= length, rest[length:], None
    return rest, ended, b"", None


def _unchunk(data: bytes) -> tuple[bytes, bool, bytes, int]:
    parts: list[bytes] = []
    start = 0
    while (end := data.find(b"\r\n", start)) >= 0:
        size = int(data[start:end], 16)
        begin = end + 2
        if len(data) < begin + size + 2:
            break
        assert data[begin + size : begin + size + 2] == b"\r\n"
        start = begin + size + 2
        if size == 0:
            return b"".join(parts), True, data[start:], len(parts)
        parts.append(data[begin : begin + size])
    return b"".join(parts), False, b"", len(parts)


def request(method: str, path: str, body: bytes = b"", *headers: str, key: str | None = KEY) -> bytes:
    """The bytes of a request; a body gets its Content-Length unless it is chunked."""
    lines = [f"{method} {path} HTTP/1.1", "host: gateway"]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    if body and not any(header.lower().startswith("transfer-encoding") for header in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def chat_body(
    directives: str = "", *, text: str = "one two three", model: str = "sim/sim-model", **members: Any
) -> bytes:
    """The JSON of a chat request; ``directives`` go to the simulator in the model's name."""
    name = f"{model}#{directives}" if directives else model
    return json.dumps({"model": name, "messages": [{"role": "user", "content": text}], **members}).encode()


def chat(directives: str = "", *headers: str, key: str | None = KEY, **members: Any) -> bytes:
    """The bytes of a chat request."""
    return request("POST", CHAT, chat_body(directives, **members), *headers, key=key)


class Connection:
    """A blocking connection on which several requests can be sent."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(READ_TIMEOUT_S)
        self.socket.connect(("127.0.0.1", port))
        self._unread = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """All of ``data``."""
        self.socket.sendall(data)

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next answer; AssertionError when the connection ends before there is any of it."""
        while True:
            found = parse_answer(self._unread, head_only=head_only)
            if found is None:
                data = self.socket.recv(262144)
                self._unread += data
                if data:
                    continue
                found = parse_answer(self._unread, ended=True, head_only=head_only)
                assert found is not None, "the connection was closed without an answer"
            answer, self._unread = found
            return answer

    def ask(self, message: bytes) -> Answer:
        """Send a request and read its answer."""
        self.send(message)
        return self.answer(head_only=message.startswith(b"HEAD "))

    def read_until(self, mark: bytes) -> bytes:
        """Bytes up to and including ``mark``."""
        received = bytearray(self._unread)
        start = 0
        while (found := received.find(mark, start)) < 0:
            start = max(0, len(received) - len(mark) + 1)
            data = self.socket.recv(262144)
            assert data, f"the connection ended before {mark!r}: {received[-1000:]!r}"
            received += data
        end = found + len(mark)
        self._unread = bytes(received[end:])
        return bytes(received[:end])

    def peek(self, mark: bytes) -> None:
        """Wait for ``mark``; what was read is read again."""
        begin = self.read_until(mark)
        self._unread = begin + self._unread

    def is_closed(self) -> bool:
        """Wait for the other side to close; False when more bytes come instead."""
        try:
            return self._unread == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def read_slowly(connection: Connection, size: int, seconds: float) -> None:
    """Read ``size`` bytes steadily, in more than twice ``seconds``. AssertionError when the connection is cut."""
    parts = 50
    began, received = time.monotonic(), 0
    while received < size:
        data = connection.socket.recv(size // parts)
        assert data, f"cut after {received} bytes and {time.monotonic() - began:.1f} s"
        received += len(data)
        time.sleep(3 * seconds * len(data) / size)
    assert time.monotonic() - began > 2 * seconds, "it read too fast to prove anything"


def ask(port: int, message: bytes, *, receive_buffer: int | None = None) -> Answer:
    """One request on a connection of its own."""
    with Connection(port, receive_buffer=receive_buffer) as connection:
        return connection.ask(message)


async def ask_all(port: int, messages: list[bytes], concurrency: int = 32) -> list[Answer]:
    """The answers to many requests, each on a connection of its own, some at a time."""
    turn = asyncio.Semaphore(concurrency)

    async def one(message: bytes) -> Answer:
        async with turn:
            return await ask_async(port, message)

    return await asyncio.gather(*map(one, messages))


async def ask_async(port: int, message: bytes) -> Answer:
    """One request on a connection of its own, which must say ``connection: close``."""
    assert b"connection: close\r\n" in message.lower()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(message)
        async with asyncio.timeout(READ_TIMEOUT_S * 2):
            data = await reader.read()
    finally:
        writer.close()
    found = parse_answer(data, ended=True)
    assert found is not None, "the connection was closed without an answer"
    return found[0]
