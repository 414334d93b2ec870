"""Clients that behave badly, and upstreams that do: the part of the soak that leaves things behind when it can."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import PATH, chat_body
from benchmarks.targets import KEY, POINTSMAN_PORT

SIMULATED = "sim/sim-model#"
TIMEOUT_SECONDS = 15.0
# Directives for the simulated upstream (`pointsman simulate openai`), in the model's name.
FAULTS = (
    "fault=http_500",
    "fault=http_503",
    "fault=rate_limit",
    "fault=reset",
    "fault=close",
    "fault=cut_mid_stream,after_events=2",
    "fault=reset_mid_stream,after_events=2",
    "fault=malformed_chunk,after_events=2",
    "fault=error_event,after_events=2",
    "fault=missing_terminator",
    "fault=gzip",
    "fault=html",
)


@dataclass
class Nuisances:
    """``per_second`` misbehaving clients until cancelled; ``statuses`` counts what they were answered."""

    per_second: float
    chance: random.Random
    statuses: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Start one after another, each in a task of its own."""
        acts = (self._leave_stream, self._upstream_fault, self._bad_request, self._half_request)
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._guarded(self.chance.choice(acts)()))
                await asyncio.sleep(1 / self.per_second)

    async def _guarded(self, act: Coroutine[Any, Any, str]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                self.statuses[await act] += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            self.statuses["connection ended"] += 1
        except TimeoutError:
            self.statuses["no answer"] += 1

    async def _leave_stream(self) -> str:
        """Ask for a stream, read a little, and be gone, by FIN or by RST."""
        reader, writer = await _send(chat_body("my-model-25ms", stream=True))
        try:
            await reader.readexactly(self.chance.randrange(1, 3000))
        finally:
            if self.chance.random() < 0.5:
                writer.transport.abort()
            await _close(writer)
        return "left a stream"

    async def _upstream_fault(self) -> str:
        """An upstream that fails, at a streamed or a buffered call."""
        model = SIMULATED + self.chance.choice(FAULTS)
        reader, writer = await _send(chat_body(model, stream=self.chance.random() < 0.5))
        try:
            return f"upstream fault: {await _status(reader)}"
        finally:
            await _close(writer)

    async def _bad_request(self) -> str:
        """Wrong key, wrong model, wrong JSON, wrong path."""
        body, key, path = chat_body("my-model-plain", stream=False), KEY, PATH
        fault = self.chance.randrange(4)
        if fault == 0:
            key = "sk-wrong-0123456789abcdef0123456789abcdef"
        elif fault == 1:
            body = chat_body("no-such-model", stream=False)
        elif fault == 2:
            body = body[: self.chance.randrange(len(body))]
        else:
            path = "/v1/nothing"
        reader, writer = await _send(body, key, path)
        try:
            return f"bad request: {await _status(reader)}"
        finally:
            await _close(writer)

    async def _half_request(self) -> str:
        """Begin a request and be gone in the middle of it."""
        _, writer = await asyncio.open_connection("127.0.0.1", POINTSMAN_PORT)
        request = _request(chat_body("my-model-plain", stream=False), KEY, PATH)
        writer.write(request[: self.chance.randrange(1, len(request))])
        await writer.drain()
        await _close(writer)
        return "left in mid-request"


def _request(body: bytes, key: str, path: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _send(body: bytes, key: str = KEY, path: str = PATH) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", POINTSMAN_PORT)
    writer.write(_request(body, key, path))
    await writer.drain()
    return reader, writer


async def _status(reader: asyncio.StreamReader) -> str:
    """The status of an answer that is then read to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.read(-1)
    return head.split(b" ", 2)[1].decode()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
