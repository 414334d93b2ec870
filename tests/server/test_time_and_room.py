"""How long a connection may take and how much it may hold, seen from inside the edge."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from gateway import PATIENCE_S
from pointsman.clock import SystemClock
from pointsman.runner import in_task
from pointsman.server.bodies import SMALL_PIECE
from pointsman.server.connection import WRITE_HIGH_WATER, EdgeConnection
from pointsman.server.edge import Edge
from pointsman.server.error_dialects import error_dialect
from pointsman.server.exchange import Exchange
from pointsman.server.operations import not_found
from pointsman.server.routes import Router
from pointsman.settings import ServerSettings
from pointsman.ticker import Ticker

LARGE = b"x" * 50_000
LONG_S = 60.0  # much longer than any test takes
HEAD = b"POST /echo HTTP/1.1\r\nhost: x\r\n"


class Served:
    """An edge on a free port. ``go`` lets the answers of ``/later`` be given."""

    def __init__(self, limits: dict[str, Any]) -> None:
        loop, clock = asyncio.get_running_loop(), SystemClock()
        router = Router(not_found)
        for path, handler in (("/large", self._large), ("/echo", self._echo), ("/later", self._later)):
            router.add("POST", path, handler)
        self.edge = Edge(ServerSettings(**limits), Ticker(loop, clock), clock, router, error_dialect)
        self.go = asyncio.Event()
        self.answers = 0
        self.port = 0

    async def _large(self, exchange: Exchange) -> None:
        exchange.respond(200, LARGE)
        self.answers += 1

    async def _echo(self, exchange: Exchange) -> None:
        exchange.respond(200, exchange.body)

    async def _later(self, exchange: Exchange) -> None:
        await in_task()
        await self.go.wait()
        exchange.respond(200, b"later")

    @property
    def connection(self) -> EdgeConnection:
        """The only one."""
        (connection,) = self.edge.connections
        return connection

    def seconds_left(self) -> float:
        """Until the connection's deadline."""
        return self.connection.deadline - self.edge.ticker.now


def on_edge(limits: dict[str, Any], story: Callable[[Served], Awaitable[None]]) -> None:
    """Run ``story`` beside an edge with these limits."""

    async def run() -> None:
        served = Served(limits)
        server = await asyncio.get_running_loop().create_server(served.edge.protocol, "127.0.0.1", 0)
        served.port = server.sockets[0].getsockname()[1]
        served.edge.ticker.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await story(served)
        finally:
            server.close()
            served.edge.abort()
            served.edge.ticker.stop()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that servers run on
        runner.run(run())


async def until(happened: Callable[[], bool]) -> None:
    """Let everything else run until it has happened; the story's deadline ends the wait."""
    while not happened():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.001)


@asynccontextmanager
async def client(served: Served) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that the edge has taken in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        await until(lambda: bool(served.edge.connections))
        yield reader, writer
    finally:
        writer.transport.abort()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return int(head[9:12]), await reader.readexactly(int(length))


def echo(body: bytes) -> bytes:
    """A request whose answer is its body."""
    return HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("half_closed", [False, True], ids=["idle", "half-closed"])
def test_a_client_that_leaves_its_last_answers_unread_is_cut(half_closed: bool) -> None:
    async def story(served: Served) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.setblocking(False)
            await loop.sock_connect(plain, ("127.0.0.1", served.port))
            await until(lambda: bool(served.edge.connections))
            transport = served.connection._transport
            asked = 0
            while not transport.get_write_buffer_size():  # until the kernel is full
                asked += 1
                await loop.sock_sendall(plain, b"POST /large HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
                await until(lambda: served.answers == asked)  # noqa: B023 - it is over before the next one
                await asyncio.sleep(0.002)  # the loop writes at its next turn
            assert transport.get_write_buffer_size() < WRITE_HIGH_WATER
            assert not served.connection._paused
            if half_closed:
                plain.shutdown(socket.SHUT_WR)
            await until(lambda: not served.edge.connections)

    on_edge({"keepalive_timeout_seconds": LONG_S if half_closed else 0.5, "write_timeout_seconds": 0.5}, story)


def test_half_a_head_behind_an_answer_has_the_time_of_a_head_and_not_of_an_idle_connection() -> None:
    async def story(served: Served) -> None:
        async with client(served) as (reader, writer):
            writer.write(echo(b"one"))
            assert await answer(reader) == (200, b"one")
            assert served.seconds_left() > LONG_S / 2
            writer.write(HEAD)
            assert (await answer(reader))[0] == 408

    on_edge({"keepalive_timeout_seconds": LONG_S, "header_timeout_seconds": 0.3}, story)


def test_a_head_that_begins_when_the_idle_time_is_nearly_over_has_the_time_of_a_head() -> None:
    async def story(served: Served) -> None:
        async with client(served) as (reader, writer):
            writer.write(echo(b"one"))
            assert await answer(reader) == (200, b"one")
            assert served.seconds_left() < LONG_S / 2
            writer.write(HEAD)
            await until(lambda: served.connection._begun)
            assert served.seconds_left() > LONG_S / 2
            writer.write(b"content-length: 3\r\n\r\ntwo")
            assert await answer(reader) == (200, b"two")

    on_edge({"keepalive_timeout_seconds": PATIENCE_S / 2, "header_timeout_seconds": LONG_S}, story)


def test_a_body_that_is_under_way_when_the_answer_before_it_ends_has_the_time_of_a_body() -> None:
    async def story(served: Served) -> None:
        async with client(served) as (reader, writer):
            writer.write(b"POST /later HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" + echo(b"two")[:-1])
            await until(lambda: served.connection._exchange is not None and not served.connection._in_head)
            served.go.set()
            assert await answer(reader) == (200, b"later")
            assert served.seconds_left() > LONG_S / 2
            writer.write(b"o")
            assert await answer(reader) == (200, b"two")

    on_edge({"header_timeout_seconds": PATIENCE_S / 2, "body_timeout_seconds": LONG_S}, story)


def test_what_comes_behind_an_answer_that_ends_the_connection_gives_it_no_more_time() -> None:
    async def story(served: Served) -> None:
        async with client(served) as (reader, writer):
            served.edge.draining = True
            writer.write(echo(b"one") + echo(b"two")[:-1])
            assert await answer(reader) == (200, b"one")
            await until(lambda: served.connection._lingering)
            assert served.seconds_left() < LONG_S / 2

    on_edge({"header_timeout_seconds": LONG_S, "body_timeout_seconds": LONG_S}, story)


def test_a_body_in_small_pieces_costs_its_bytes_and_little_more() -> None:
    pieces = [b"ab"] * 200_000 + [b"c" * SMALL_PIECE, b"d"] * 100
    body = b"".join(pieces)

    async def story(served: Served) -> None:
        async with client(served) as (reader, writer):
            writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            writer.write(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
            await until(lambda: served.connection._received() == len(body))
            assert sum(map(sys.getsizeof, served.connection._body.pieces)) < 3 * len(body)
            writer.write(b"0\r\n\r\n")
            assert await answer(reader) == (200, body)

    on_edge({}, story)
