"""WebSockets on the edge, judged by the `websockets` library and by hand-made bytes; the Responses API over them."""

import asyncio
import json
import os
import socket
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import uvloop
import websockets
from websockets.asyncio.client import ClientConnection, connect

from pointsman.clock import SystemClock
from pointsman.errors import GatewayError, Kind
from pointsman.runner import in_task
from pointsman.server.connection import WRITE_HIGH_WATER, EdgeConnection
from pointsman.server.edge import Edge
from pointsman.server.error_dialects import error_dialect
from pointsman.server.exchange import Exchange
from pointsman.server.response_socket import response_socket
from pointsman.server.routes import Router
from pointsman.server.websockets import (
    CONTROL_SECONDS,
    FRAMES_AT_ONCE,
    MAX_CONTROL_FRAMES,
    MAX_EARLY_BYTES,
    MAX_WAITING,
    MIN_FRAGMENT_BYTES,
    WebSocket,
    WebSocketLimits,
)
from pointsman.settings import ServerSettings
from pointsman.testing import Behaviour, OpenAIResponses
from pointsman.testing.reply import Request as HttpRequest
from pointsman.ticker import NEVER, Ticker
from pointsman.wire import json_width

PATH = "/v1/responses"
LIMIT = 100_000
READ_BYTES = 256 * 1024  # the most that the loop gives at once


class SimulatedFlow:
    """Answers with the simulated Responses API; ``hold`` keeps an answer back until it is set."""

    def __init__(self) -> None:
        self.api = OpenAIResponses()
        self.bodies: list[Any] = []
        self.cancelled = asyncio.Event()
        self.hold: asyncio.Event | None = None

    async def stream(self, body: bytes) -> AsyncIterator[bytes]:
        self.bodies.append(json.loads(body))
        if self.bodies[-1]["model"] == "refused":
            raise GatewayError(Kind.MODEL_NOT_FOUND, "no such model", param="model")
        request = HttpRequest(method="POST", path=PATH, headers=(), body=body, http_version="1.1", keep_alive=True)
        reply = self.api.answer(request, Behaviour())
        if reply.events is None:
            raise GatewayError(Kind.INVALID_REQUEST, json.loads(reply.body)["error"]["message"])
        try:
            for number, event in enumerate(reply.events):
                yield event.data
                if number == 3 and self.hold is not None:
                    await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Served:
    """An edge with one WebSocket route, and what answers on it."""

    def __init__(self) -> None:
        self.flow = SimulatedFlow()
        self.port = 0
        self.edge: Edge


def on_edge(story: Callable[[Served], Awaitable[None]]) -> None:
    """Run ``story`` beside an edge on a free port."""

    async def run() -> None:
        served, loop, clock = Served(), asyncio.get_running_loop(), SystemClock()

        def open_flow(exchange: Exchange) -> SimulatedFlow:
            if exchange.headers.get(b"authorization") != b"Bearer k":
                raise GatewayError(Kind.UNAUTHENTICATED, "no key")
            return served.flow

        async def fallback(exchange: Exchange) -> None:
            raise GatewayError(Kind.NOT_FOUND, "nothing here")

        router = Router(fallback)
        router.websockets[PATH.encode()] = response_socket(open_flow, clock)
        ticker = Ticker(loop, clock)
        ticker.start()
        served.edge = Edge(ServerSettings(max_body_bytes=LIMIT), ticker, clock, router, error_dialect)
        server = await loop.create_server(served.edge.protocol, "127.0.0.1", 0)
        served.port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(10):
                await story(served)
        except TimeoutError:
            raise AssertionError("what the story waits for has not come") from None
        finally:
            server.close()
            served.edge.abort()
            ticker.stop()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that servers run on
        runner.run(run())


async def until(happened: Callable[[], bool]) -> None:
    """Let everything else run until it has happened; the story's deadline ends the wait."""
    while not happened():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.001)


def client(served: Served, **options: Any) -> connect:
    return connect(f"ws://127.0.0.1:{served.port}{PATH}", additional_headers={"authorization": "Bearer k"}, **options)


async def create(socket: ClientConnection, text: Any = "hello", **members: Any) -> list[Any]:
    """Ask, and take all events of the answer in."""
    await socket.send(json.dumps({"type": "response.create", "model": "m", "input": text, **members}))
    return await events(socket)


async def events(socket: ClientConnection) -> list[Any]:
    found = []
    while True:
        found.append(json.loads(await socket.recv()))
        if found[-1]["type"] in ("response.completed", "response.incomplete", "response.failed", "error"):
            return found


def test_events_come_as_text_frames_with_the_same_types_as_in_a_stream() -> None:
    async def story(served: Served) -> None:
        async with client(served) as socket:
            for _ in range(2):
                found = await create(socket, stream_id="s1")
                assert [event["sequence_number"] for event in found] == list(range(len(found)))
                assert found[0]["type"] == "response.created"
                assert found[-1]["response"]["output"][0]["content"][0]["text"] == "echo: hello"
                assert all(event["stream_id"] == "s1" for event in found)
        assert served.flow.bodies == [{"model": "m", "input": "hello", "stream": True}] * 2

    on_edge(story)


def test_a_prewarm_asks_nobody_and_the_next_request_goes_on_from_it() -> None:
    async def story(served: Served) -> None:
        async with client(served) as socket:
            warm = await create(socket, "first", generate=False, store=False, instructions="be kind")
            assert [event["type"] for event in warm] == [
                "response.created", "response.in_progress", "response.completed"
            ]  # fmt: skip
            assert served.flow.bodies == []
            second = await create(socket, [], previous_response_id=warm[-1]["response"]["id"], store=False)
            assert second[-1]["response"]["output"][0]["content"][0]["text"] == "echo: first"
            turn = [{"role": "user", "content": "more"}]
            third = await create(socket, turn, previous_response_id=second[-1]["response"]["id"], store=False)
            assert third[-1]["type"] == "response.completed"
        roles = [item["role"] for item in served.flow.bodies[-1]["input"]]
        assert roles == ["user", "assistant", "user"]
        assert "previous_response_id" not in served.flow.bodies[-1]

    on_edge(story)


def test_a_wrong_message_gets_an_error_event_and_the_socket_stays_open() -> None:
    async def story(served: Served) -> None:
        async with client(served) as socket:
            for message, words in (
                ("{", "JSON object"),
                ("[]", "JSON object"),
                ('{"type":"response.steer"}', "response.steer"),
                ('{"type":"response.create","model":"refused","input":"x"}', "no such model"),
                ('{"type":"response.create","model":"m","input":"x","previous_response_id":"resp_x"}', "not found"),
            ):
                await socket.send(message)
                (error,) = await events(socket)
                assert error["type"] == "error"
                assert words in error["error"]["message"]
                assert error["status"] in (400, 404)
            assert (await create(socket))[-1]["type"] == "response.completed"

    on_edge(story)


def test_a_message_of_too_many_objects_gets_an_error_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_width, "LARGE_BYTES", 1000)
    monkeypatch.setattr(json_width, "MOST_OBJECTS", 400)

    async def story(served: Served) -> None:
        async with client(served) as socket:
            [error] = await create(socket, other=[{}] * 400)
            assert (error["status"], "400 objects" in error["error"]["message"]) == (413, True)
            assert (await create(socket))[-1]["type"] == "response.completed"

    on_edge(story)


def test_a_client_that_leaves_cancels_its_call() -> None:
    async def story(served: Served) -> None:
        served.flow.hold = asyncio.Event()
        async with client(served) as socket:
            await socket.send(json.dumps({"type": "response.create", "model": "m", "input": "x"}))
            await socket.recv()
        await served.flow.cancelled.wait()
        await until(lambda: not served.edge.active)

    on_edge(story)


def test_fragments_and_pings_are_taken() -> None:
    async def story(served: Served) -> None:
        async with client(served) as socket:
            text = json.dumps({"type": "response.create", "model": "m", "input": "日本"})
            await socket.send([text[:20], text[20:25], text[25:]])
            assert (await events(socket))[-1]["type"] == "response.completed"
            await (await socket.ping())

    on_edge(story)


@pytest.mark.parametrize(("message", "code"), [("x" * (LIMIT + 1), 1009), (b"bytes", 1003), (["x" * LIMIT, "x"], 1009)])
def test_what_is_too_large_or_no_text_closes_the_socket(message: Any, code: int) -> None:
    async def story(served: Served) -> None:
        async with client(served) as socket:
            await socket.send(message)
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                await socket.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == code

    on_edge(story)


def test_a_stop_of_the_gateway_waits_for_the_answer_and_closes() -> None:
    async def story(served: Served) -> None:
        served.flow.hold = asyncio.Event()
        async with client(served) as idle, client(served) as busy:
            await busy.send(json.dumps({"type": "response.create", "model": "m", "input": "x"}))
            await busy.recv()
            served.edge.drain(0.0)
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await idle.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
            served.flow.hold.set()
            assert (await events(busy))[-1]["type"] == "response.completed"
            with pytest.raises(websockets.ConnectionClosed):
                await busy.recv()

    on_edge(story)


def let_expire(connection: EdgeConnection) -> None:
    """What the ticker does at the deadline, which a silent client's connection always has."""
    assert connection.deadline <= connection.edge.ticker.now + tunnel_of(connection).limits.ping_seconds
    connection.expired()


def test_a_silent_client_is_pinged_and_one_that_does_not_answer_is_given_up() -> None:
    async def story(served: Served) -> None:
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(handshake(f"sec-websocket-key: {key}"))
        assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in await reader.readuntil(b"\r\n\r\n")
        (connection,) = served.edge.connections
        let_expire(connection)
        assert await reader.readexactly(2) == b"\x89\x00"
        writer.write(b"\x8a\x80" + os.urandom(4))  # an answer
        await until(lambda: connection._tunnel is not None and not connection._tunnel._pinged)
        let_expire(connection)
        assert await reader.readexactly(2) == b"\x89\x00"
        let_expire(connection)
        assert await reader.read(1) == b""
        writer.close()

    on_edge(story)


def masked(text: str) -> bytes:
    """A text message as a client sends it, with a mask that changes nothing."""
    data = text.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + data


def test_a_client_that_says_nothing_for_long_is_told_to_go() -> None:
    async def story(served: Served) -> None:
        async with client(served) as socket_:
            await create(socket_)
            (connection,) = served.edge.connections
            tunnel = connection._tunnel
            assert tunnel is not None
            connection.expired()  # a ping, and no more
            await until(lambda: not tunnel._pinged)
            tunnel.limits = WebSocketLimits(max_message_bytes=LIMIT, idle_seconds=-1.0)
            connection.expired()
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket_.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "idle")

    on_edge(story)


@pytest.mark.parametrize("more", [0, 1])
def test_only_so_much_is_kept_before_the_handshake_is_answered(more: int) -> None:
    async def story(served: Served) -> None:
        async def never(exchange: Exchange) -> None:
            await in_task()
            await asyncio.Event().wait()

        served.edge.router.websockets[b"/never"] = never
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(handshake(GOOD_KEY, path="/never"))
        await until(lambda: any(connection._tunnel for connection in served.edge.connections))
        (connection,) = served.edge.connections
        tunnel = connection._tunnel
        assert tunnel is not None
        writer.write(bytes(MAX_EARLY_BYTES + more))
        await until(lambda: len(tunnel._early) == MAX_EARLY_BYTES + more)
        assert connection._transport.is_closing() == bool(more)
        writer.transport.abort()

    on_edge(story)


def test_messages_beyond_those_that_may_wait_are_left_in_the_network_and_all_are_answered() -> None:
    async def story(served: Served) -> None:
        served.flow.hold = asyncio.Event()
        async with client(served) as socket_:
            await socket_.send(json.dumps({"type": "response.create", "model": "m", "input": "hello"}))
            sent = asyncio.gather(*(socket_.send(json.dumps({"type": "odd", "pad": "x" * 5_000})) for _ in range(200)))
            (connection,) = served.edge.connections
            await until(lambda: not connection._transport.is_reading())
            tunnel = connection._tunnel
            assert tunnel is not None
            await until(lambda: len(tunnel._messages) >= MAX_WAITING)
            assert len(tunnel._messages) <= MAX_WAITING + READ_BYTES // 5_000
            served.flow.hold.set()
            assert (await events(socket_))[-1]["type"] == "response.completed"
            for _ in range(200):
                assert (await events(socket_))[-1]["type"] == "error"
            await sent

    on_edge(story)


def kept_bytes(tunnel: WebSocket) -> int:
    return sum(map(len, tunnel._messages)) + len(tunnel._parts)


def fragment(data: bytes) -> bytes:
    """A piece of a text message that goes on, with a mask that changes nothing."""
    return b"\x00" + bytes([0x80 | len(data)]) + b"\0\0\0\0" + data


def test_few_large_messages_are_left_in_the_network_like_many_small_ones() -> None:
    async def story(served: Served) -> None:
        served.flow.hold = asyncio.Event()
        async with client(served) as socket_:
            await socket_.send(json.dumps({"type": "response.create", "model": "m", "input": "hello"}))
            await socket_.recv()
            large = json.dumps({"type": "odd", "pad": "x" * (LIMIT - 100)})
            sent = asyncio.gather(*(socket_.send(large) for _ in range(12)))
            (connection,) = served.edge.connections
            await until(lambda: not connection._transport.is_reading())
            tunnel = connection._tunnel
            assert tunnel is not None
            assert 1 <= len(tunnel._messages) < 12
            assert kept_bytes(tunnel) <= LIMIT + READ_BYTES
            served.flow.hold.set()
            assert (await events(socket_))[-1]["type"] == "response.completed"
            for _ in range(12):
                assert (await events(socket_))[-1]["type"] == "error"
            await sent

    on_edge(story)


def test_a_client_that_is_not_read_from_is_not_given_up_for_its_silence() -> None:
    async def story(served: Served) -> None:
        served.flow.hold = asyncio.Event()
        async with client(served) as socket_:
            await socket_.send(json.dumps({"type": "response.create", "model": "m", "input": "hello"}))
            await socket_.recv()
            sent = asyncio.gather(*(socket_.send('{"type":"odd","pad":"%s"}' % ("x" * 60_000)) for _ in range(60)))
            (connection,) = served.edge.connections
            await until(lambda: not connection._transport.is_reading())
            assert connection.deadline == NEVER  # its answer to a ping would lie behind what is not read
            served.flow.hold.set()
            assert (await events(socket_))[-1]["type"] == "response.completed"
            for _ in range(60):
                await events(socket_)
            await sent
            assert connection._transport.is_reading()
            assert connection.deadline < NEVER

    on_edge(story)


@asynccontextmanager
async def opened(served: Served) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, EdgeConnection]]:
    """A client that sends bytes of its own making behind the handshake, and its connection at the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(handshake(GOOD_KEY))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    (connection,) = served.edge.connections
    yield reader, writer, connection
    writer.transport.abort()


def tunnel_of(connection: EdgeConnection) -> WebSocket:
    assert connection._tunnel is not None
    return connection._tunnel


async def close_code(reader: asyncio.StreamReader) -> int:
    """The code of the frame that ends the socket, behind pongs."""
    try:
        async with asyncio.timeout(5):
            data = await reader.read()
    except TimeoutError:
        raise AssertionError("the socket is still open") from None
    while data[:1] == b"\x8a":
        data = data[2 + data[1] :]
    assert data[:1] == b"\x88"
    return int.from_bytes(data[2:4])


FIRST, EMPTY = b"\x01\x80\0\0\0\0", b"\x00\x80\0\0\0\0"
PING, PONG = b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0"


def test_a_compressed_message_closes_the_socket() -> None:
    async def story(served: Served) -> None:
        async with client(served, compression="deflate") as socket_:
            assert socket_.protocol.extensions == []  # although it offers one
        await until(lambda: not served.edge.connections)
        async with opened(served) as (reader, writer, _):
            packer = zlib.compressobj(wbits=-15)
            bomb = packer.compress(bytes(2 * LIMIT)) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]
            writer.write(b"\xc1\xfe" + len(bomb).to_bytes(2) + b"\0\0\0\0" + bomb)
            assert await close_code(reader) == 1002

    on_edge(story)


def test_a_message_in_small_pieces_is_kept_in_its_bytes_and_no_more() -> None:
    async def story(served: Served) -> None:
        async with opened(served) as (_, writer, connection):
            tunnel = tunnel_of(connection)
            writer.write(FIRST + fragment(b"") * 300 + fragment(b"cd") * 400)
            await until(lambda: len(tunnel._parts) == 800)
            assert sys.getsizeof(tunnel._parts) < 2 * 800

    on_edge(story)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("piece", [EMPTY, fragment(b"a"), fragment(b"x" * 125)], ids=["empty", "small", "largest"])
def test_each_fragment_counts_for_128_bytes_at_least(piece: bytes, at_once: bool) -> None:
    async def story(served: Served) -> None:
        async with opened(served) as (reader, writer, connection):
            tunnel = tunnel_of(connection)
            most = LIMIT // MIN_FRAGMENT_BYTES
            data = FIRST + piece * (most - 1)
            for part in [data] if at_once else [data[place : place + 5] for place in range(0, len(data), 5)]:
                writer.write(part)
                await writer.drain()
            writer.write(PING)
            assert await reader.readexactly(2) == b"\x8a\x00"  # so far it is open
            assert len(tunnel._parts) + tunnel._padding == most * MIN_FRAGMENT_BYTES
            writer.write(piece)
            assert await close_code(reader) == 1009

    on_edge(story)


def test_what_the_fragments_of_a_message_counted_for_is_not_counted_in_the_next() -> None:
    async def story(served: Served) -> None:
        async with opened(served) as (reader, writer, _):
            for _ in range(3):
                writer.write(FIRST + EMPTY * (LIMIT // MIN_FRAGMENT_BYTES - 2) + b"\x80\x82\0\0\0\0[]")
                head = await reader.readexactly(4)
                assert head[:2] == b"\x81\x7e"  # an error event
                await reader.readexactly(int.from_bytes(head[2:]))

    on_edge(story)


def test_pings_and_pongs_beyond_what_a_client_has_reason_to_send_close_the_socket() -> None:
    async def story(served: Served) -> None:
        for frame in (PONG, PING):
            async with opened(served) as (reader, writer, connection):
                writer.write(frame * MAX_CONTROL_FRAMES)
                tunnel = tunnel_of(connection)
                await until(lambda tunnel=tunnel: tunnel._control_frames == MAX_CONTROL_FRAMES)  # type: ignore[misc]
                assert not tunnel.closed
                writer.write(frame)
                assert await close_code(reader) == 1008
            await until(lambda: not served.edge.connections)

    on_edge(story)


def test_pings_and_pongs_of_a_client_that_lives_long_are_no_flood() -> None:
    async def story(served: Served) -> None:
        async with opened(served) as (_, writer, connection):
            tunnel = tunnel_of(connection)
            for _ in range(3):
                writer.write(PONG * MAX_CONTROL_FRAMES)
                await until(lambda: tunnel._control_frames == MAX_CONTROL_FRAMES)
                tunnel._control_since -= 2 * CONTROL_SECONDS  # so long ago
                writer.write(PONG)
                await until(lambda: tunnel._control_frames == 1)
                tunnel._control_frames = 0
            assert not tunnel.closed

    on_edge(story)


def test_others_have_their_turn_between_the_frames_of_one_read() -> None:
    async def story(served: Served) -> None:
        async with opened(served) as (_, writer, connection):
            tunnel = tunnel_of(connection)
            tunnel.limits = WebSocketLimits(max_message_bytes=10_000_000)
            count, seen = 20_000, [0]
            writer.write(FIRST + EMPTY * (count - 1))
            while seen[-1] < count:
                await asyncio.sleep(0)
                seen.append(tunnel._padding // MIN_FRAGMENT_BYTES)
                assert not (tunnel._behind and connection._transport.is_reading())  # more would only wait, too
            assert max(later - earlier for earlier, later in pairwise(seen)) <= 2 * FRAMES_AT_ONCE
            await until(connection._transport.is_reading)

    on_edge(story)


@pytest.mark.parametrize("how", ["lost", "closed"])
def test_frames_that_wait_for_their_turn_are_forgotten_when_the_socket_is(how: str) -> None:
    async def story(served: Served) -> None:
        async with opened(served) as (_, writer, connection):
            tunnel = tunnel_of(connection)
            tunnel.limits = WebSocketLimits(max_message_bytes=10_000_000)
            writer.write(FIRST + EMPTY * 30_000)
            await until(lambda: tunnel._turn is not None)
            if how == "lost":
                connection.abort()
            else:
                tunnel.close(1001)
            await until(lambda: tunnel.closed)
            taken = tunnel._padding
            assert taken < 30_000 * MIN_FRAGMENT_BYTES
            await until(lambda: not served.edge.connections)
            for _ in range(10):
                await asyncio.sleep(0)
            assert tunnel._padding == taken

    on_edge(story)


def test_frames_behind_messages_that_nobody_takes_wait_and_are_all_answered() -> None:
    async def story(served: Served) -> None:
        served.flow.hold = asyncio.Event()
        async with client(served) as socket_:
            await socket_.send(json.dumps({"type": "response.create", "model": "m", "input": "hello"}))
            await socket_.recv()
            (connection,) = served.edge.connections
            tunnel = tunnel_of(connection)
            sent = asyncio.gather(*(socket_.send('{"type":"odd"}') for _ in range(2_000)))
            await until(lambda: tunnel._full)
            assert len(tunnel._messages) <= MAX_WAITING + FRAMES_AT_ONCE
            served.flow.hold.set()
            assert (await events(socket_))[-1]["type"] == "response.completed"
            for _ in range(2_000):
                assert (await events(socket_))[-1]["type"] == "error"
            await sent
            assert not tunnel._held

    on_edge(story)


@pytest.mark.parametrize(
    "data", [PONG, PING, FIRST, FIRST + EMPTY, b"\x81\xfe"], ids=["pong", "ping", "begun", "going on", "half a head"]
)
def test_a_client_that_sends_anything_but_messages_is_idle_unless_it_is_answered(data: bytes) -> None:
    async def story(served: Served) -> None:
        async with opened(served) as (reader, writer, connection):
            tunnel = tunnel_of(connection)
            tunnel._spoke_at -= 2 * tunnel.limits.idle_seconds  # so long ago
            tunnel.busy = True
            writer.write(PONG)
            await until(lambda: tunnel._control_frames == 1)
            assert not tunnel.closed
            tunnel.busy = False
            writer.write(data)
            assert await close_code(reader) == 1001

    on_edge(story)


@asynccontextmanager
async def unread_client(served: Served) -> AsyncIterator[tuple[socket.socket, EdgeConnection]]:
    """A client whose WebSocket is open and who reads nothing from now on, and its connection at the server."""
    loop = asyncio.get_running_loop()
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setblocking(False)
        await loop.sock_connect(plain, ("127.0.0.1", served.port))
        await loop.sock_sendall(plain, handshake(GOOD_KEY))
        assert (await loop.sock_recv(plain, 13)).startswith(b"HTTP/1.1 101 ")
        (connection,) = served.edge.connections
        yield plain, connection


def test_answers_wait_for_a_client_that_reads_nothing() -> None:
    async def story(served: Served) -> None:
        loop = asyncio.get_running_loop()
        async with unread_client(served) as (plain, connection):
            ask = masked(json.dumps({"type": "response.create", "model": "m", "input": "x" * 40_000}))
            sender = loop.create_task(loop.sock_sendall(plain, ask * 300))
            await until(lambda: connection._paused)
            tunnel = connection._tunnel
            assert tunnel is not None
            await until(lambda: not connection._transport.is_reading())  # nobody takes them
            assert connection._transport.get_write_buffer_size() < WRITE_HIGH_WATER + 3 * LIMIT
            sender.cancel()

    on_edge(story)


def test_pings_of_a_client_that_reads_nothing_are_not_answered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman.server.websockets.MAX_CONTROL_FRAMES", 10**9)  # a client that takes its time

    async def story(served: Served) -> None:
        loop = asyncio.get_running_loop()
        async with unread_client(served) as (plain, connection):
            flood = (b"\x89\xfd\0\0\0\0" + bytes(125)) * 500
            for _ in range(130):  # 8 MB, more than the kernel holds of the answers
                await loop.sock_sendall(plain, flood)
            await until(lambda: connection._paused)
            assert connection._transport.get_write_buffer_size() < 3 * WRITE_HIGH_WATER

    on_edge(story)


def handshake(*headers: str, method: str = "GET", path: str = PATH, key: str = "k") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1", "host: gateway", f"authorization: Bearer {key}", "upgrade: websocket",
        "connection: Upgrade", "sec-websocket-version: 13", *headers, "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


GOOD_KEY = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (handshake(GOOD_KEY, key="wrong"), 401),
        (handshake("sec-websocket-key: short"), 400),
        (handshake(), 400),
        (handshake(GOOD_KEY).replace(b"version: 13", b"version: 8"), 426),
        (handshake(GOOD_KEY, path="/v1/other"), 426),
        (handshake(GOOD_KEY, method="POST"), 426),
        (handshake(GOOD_KEY, "content-length: 2") + b"ab", 426),
    ],
)
def test_a_handshake_that_is_none_is_refused_and_nothing_behind_it_is_read(request_bytes: bytes, status: int) -> None:
    async def story(served: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(request_bytes + b"\x81\x80abcd")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d " % status)
        assert b"HTTP/1.1 " not in await reader.read()
        writer.close()

    on_edge(story)


def test_a_frame_that_comes_with_the_handshake_is_not_lost() -> None:
    async def story(served: Served) -> None:
        text = b'{"type":"odd"}'
        frame = b"\x81" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(handshake(GOOD_KEY) + frame)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        head = await reader.readexactly(2)
        assert head[0] == 0x81
        writer.close()

    on_edge(story)
