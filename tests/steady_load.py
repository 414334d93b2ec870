"""Clients that ask again and again while servers come and go, and an exact account of what each of them got."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from gateway import PATIENCE_S
from raw_client import Answer, chat, parse_answer

MOST_S = 200.0  # of a whole script, on a machine that does other things


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A request, or an attempt to connect, that went wrong at the instant ``at`` (monotonic seconds)."""

    client: int
    at: float
    what: str


class Load:
    """Clients of three kinds: one keeps its connection, one takes a new one for each request, one reads streams."""

    def __init__(self, ports: list[int], clients: int) -> None:
        self.answers: list[Answer] = []
        self.failures: list[Failure] = []
        self._ports = ports
        self._clients = clients
        self._stopped = False

    def stop(self) -> None:
        """Let every client end after its request."""
        self._stopped = True

    async def run(self, script: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """The load while ``script`` runs and until every client has ended: stopped, or refused by the port."""
        clients = [asyncio.create_task(self._client(number)) for number in range(self._clients)]
        try:
            async with asyncio.timeout(MOST_S):
                await script()
                await asyncio.gather(*clients)
        finally:
            for client in clients:
                client.cancel()

    async def answered(self, count: int) -> None:
        """Wait until there are so many more answers."""
        wanted = len(self.answers) + count
        await until(lambda: len(self.answers) >= wanted, f"{count} more answers (failures: {self.failures[:3]})")

    async def _client(self, number: int) -> None:
        port = self._ports[number % len(self._ports)]
        while not self._stopped:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                self._fail(number, "refused")
                return
            except (OSError, TimeoutError) as error:
                self._fail(number, f"connect: {error!r}")
                continue
            try:
                await self._talk(number, reader, writer)
            except (OSError, AssertionError) as error:
                self._fail(number, repr(error))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _talk(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests on one connection, until it is closed as announced, or while nothing is asked."""
        unread = b""
        while not self._stopped:
            writer.write(_message(number))
            while (found := parse_answer(unread)) is None:
                data = await reader.read(65536)
                assert data, f"the connection ended before the answer did: {unread!r}"
                unread += data
            answer, unread = found
            assert answer.status == 200, answer.body
            self.answers.append(answer)
            if number % 3 == 1 or answer.headers.get("connection") == "close":
                return
            if number % 2:
                await asyncio.sleep(0.005)
                if reader.at_eof():
                    return

    def _fail(self, number: int, what: str) -> None:
        self.failures.append(Failure(client=number, at=time.monotonic(), what=what))


def _message(number: int) -> bytes:
    if number % 3 == 2:
        return chat("tokens=10,pace_ms=5", stream=True)
    return chat(f"tokens=5,first_token_ms={number % 4 * 2}")


async def until(fact: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait for a fact without holding the clients up."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        await asyncio.sleep(0.005)
