"""Each phase of a call has its own limit, and all of them together one more; the connection ends with the call."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from pointsman.errors import GatewayError
from pointsman.settings import UpstreamSettings
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.http1 import UpstreamConnection
from upstream_peers import (
    ANSWER,
    FAR,
    REQUEST,
    Names,
    Peer,
    deaf_address,
    get,
    limited_to,
    listening,
    run,
    until,
    upstream_client,
)

HEAD, BODY = ANSWER[:-2], ANSWER[-2:]
SLOW = "the upstream took too long "


class Parts(CollectedAnswer):
    """A sink that takes a body in parts; ``look_at`` is told each."""

    def __init__(self, look_at: Callable[[bytes], None] = lambda part: None) -> None:
        self.look_at = look_at

    def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
        """In parts."""
        super().head(status, headers, call)
        return True

    def data(self, chunk: bytes) -> None:
        """One."""
        self.body += chunk
        self.look_at(chunk)

    def end(self, body: bytes) -> None:
        """They have all come."""
        self.finish()


@pytest.mark.parametrize(
    ("setting", "answer", "message"),
    [
        ("headers_timeout_seconds", None, SLOW + "to answer"),
        ("headers_timeout_seconds", HEAD[:-3], SLOW + "to answer"),
        ("first_byte_timeout_seconds", HEAD, SLOW + "to send the first byte"),
        ("idle_timeout_seconds", ANSWER[:-1], SLOW + "between two parts of the answer"),
        ("total_timeout_seconds", None, SLOW + "in all"),
        ("total_timeout_seconds", ANSWER[:-1], SLOW + "in all"),
    ],
)
@pytest.mark.parametrize("kind", [CollectedAnswer, Parts], ids=["whole", "in parts"])
def test_a_slow_answer_ends_with_its_phase_named(
    setting: str, answer: bytes | None, message: str, kind: type[CollectedAnswer]
) -> None:
    async def main() -> None:
        async with listening(Peer(answer)) as peer, limited_to(setting) as client:
            assert await get(client, peer.origin(), answer=kind()) == message
            await until(lambda: peer.all_ended, "end of the connection")
            assert client.open_connections == 0
            assert not client.ticker.members

    run(main())


@pytest.mark.parametrize("setting", ["connect_timeout_seconds", "total_timeout_seconds"])
@pytest.mark.parametrize("phase", ["look-up", "connect"])
def test_reaching_an_upstream_has_a_limit(setting: str, phase: str) -> None:
    async def main() -> None:
        names = Names({"deaf.example": ["127.0.0.2"]})
        if phase == "look-up":
            names.free.clear()
        with deaf_address("127.0.0.2") as port:
            async with limited_to(setting, 0.01, names) as client:
                origin = Peer().origin(host="deaf.example", port=port)
                assert await get(client, origin) == SLOW + "to connect"
                assert client.open_connections == 0
            names.free.set()

    run(main())


def test_a_connection_notices_a_peer_that_vanished_and_sends_small_writes_at_once() -> None:
    async def main() -> None:
        async with listening(Peer()) as peer, upstream_client() as client:
            assert await get(client, peer.origin()) == "hi"
            [connection] = client.pool(peer.origin())._idle
            raw = connection._transport.get_extra_info("socket")
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            idle = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            interval = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            count = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            assert idle + interval * count == 120

    run(main())


async def sweeps(client: UpstreamClient, count: int) -> None:
    """Wait until the client has looked for what is late so many times."""
    for _ in range(count):
        before = client.ticker.now
        await until(lambda before=before: client.ticker.now != before, "sweep")  # type: ignore[misc]


def test_a_client_that_reads_slowly_is_not_the_upstreams_silence() -> None:
    async def main() -> None:
        async with listening(Peer(ANSWER[:-1])) as peer, limited_to("idle_timeout_seconds", 0.01) as client:
            sink = Parts(lambda _: held().pause())

            def held() -> UpstreamConnection:
                assert sink.connection is not None
                return sink.connection

            call = asyncio.create_task(get(client, peer.origin(), answer=sink))
            await until(lambda: sink.body, "first part")
            await sweeps(client, 4)
            assert not call.done()
            held().resume()
            assert await asyncio.wait_for(call, 10) == SLOW + "between two parts of the answer"

    run(main())


def test_a_call_ends_in_all_though_its_client_reads_slowly() -> None:
    async def main() -> None:
        async with listening(Peer(ANSWER[:-1])) as peer, limited_to("total_timeout_seconds") as client:
            sink = Parts(lambda _: sink.connection.pause() if sink.connection is not None else None)
            assert await get(client, peer.origin(), answer=sink) == SLOW + "in all"
            await until(lambda: peer.all_ended, "end of the connection")

    run(main())


def test_a_connection_whose_client_read_slowly_to_the_end_is_used_again() -> None:
    async def main() -> None:
        async with listening(Peer()) as peer, limited_to("headers_timeout_seconds", 2) as client:
            sink = Parts(lambda _: sink.connection.pause() if sink.connection is not None else None)
            assert await get(client, peer.origin(), answer=sink) == "hi"
            assert await get(client, peer.origin()) == "hi"
            assert len(peer.seen) == 1

    run(main())


def test_a_kept_connection_is_closed_after_its_own_time_and_no_other() -> None:
    async def main() -> None:
        short = {**FAR, "idle_timeout_seconds": 0.01, "first_byte_timeout_seconds": 0.01}
        async with listening(Peer()) as peer, upstream_client(**short, keepalive_seconds=1000) as client:
            sink = Parts()
            assert await get(client, peer.origin(), answer=sink) == "hi"
            await sweeps(client, 4)
            assert await get(client, peer.origin()) == "hi"
            assert len(peer.seen) == 1
        async with listening(Peer()) as peer, upstream_client(**FAR, keepalive_seconds=0.01) as client:
            assert await get(client, peer.origin()) == "hi"
            await until(lambda: peer.all_ended and not client.ticker.members, "close")
            assert client.open_connections == 0

    run(main())


def test_the_deadline_of_a_request_ends_its_wait_for_a_connection() -> None:
    async def main() -> None:
        async with listening(Peer(None)) as peer, upstream_client(**FAR) as client:
            origin = peer.origin(limit=1)
            first = asyncio.create_task(get(client, origin))
            await until(lambda: peer.seen and peer.seen[0].data, "request")
            soon = client.ticker.now + 0.01
            with pytest.raises(GatewayError, match="no connection to the upstream became free in time"):
                await asyncio.wait_for(client.send(origin, REQUEST, CollectedAnswer(), deadline=soon), 10)
            limits = UpstreamSettings(headers_timeout_seconds=0.01)
            with pytest.raises(GatewayError, match="no connection to the upstream became free in time"):
                await asyncio.wait_for(client.send(origin, REQUEST, CollectedAnswer(), limits=limits), 10)
            first.cancel()
            await asyncio.wait([first])

    run(main())


def test_a_call_that_waited_for_its_connection_has_only_what_is_left_of_its_time() -> None:
    async def main() -> None:
        async with listening(Peer(None)) as peer, upstream_client(**FAR) as client:
            origin = peer.origin(limit=1)
            first = asyncio.create_task(get(client, origin))
            await until(lambda: peer.seen and peer.seen[0].data, "request")
            limits = UpstreamSettings(**{**FAR, "headers_timeout_seconds": 10.0})  # type: ignore[arg-type]
            sink = CollectedAnswer()
            second = asyncio.create_task(client.send(origin, REQUEST, sink, limits=limits))
            await until(lambda: client.pool(origin).waiting, "wait")
            begun = client.ticker.now
            client.ticker.now += 5.0
            first.cancel()
            await until(lambda: sink.connection is not None, "connection")
            assert sink.connection is not None
            assert sink.connection.deadline <= begun + 10.0 + 1.0  # a tick
            second.cancel()
            await asyncio.wait([first, second])

    run(main())


class FailingPeer(Peer):
    """Answers once, resets the connection at its second request, and says nothing on any later one."""

    def __init__(self) -> None:
        super().__init__(patience=1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        if self.seen:
            self.answer = None
        await super().serve(reader, writer)


@pytest.mark.parametrize("limit", ["total", "total, name unknown", "the call's own"])
def test_the_repeat_on_a_new_connection_has_what_time_its_call_had(limit: str) -> None:
    async def main() -> None:
        names = Names({"a.example": ["127.0.0.1"]})
        async with listening(FailingPeer()) as peer, upstream_client(names, **FAR) as client:
            origin = peer.origin(host="a.example", limit=1)
            assert await get(client, origin) == "hi"
            if limit == "total, name unknown":
                client._dialer._resolver.forget("a.example", peer.port)
                names.free.clear()
            own = limit == "the call's own"
            limits = UpstreamSettings(**{**FAR, "headers_timeout_seconds": 0.3}) if own else None  # type: ignore[arg-type]
            deadline = client.ticker.now + (1000 if own else 0.3)
            expected = {"total": "in all", "total, name unknown": "to connect", "the call's own": "to answer"}[limit]
            sending = client.send(origin, REQUEST, CollectedAnswer(), deadline=deadline, limits=limits)
            with pytest.raises(GatewayError, match=SLOW + expected):
                await asyncio.wait_for(sending, 10)
            assert peer.seen[0].requests == 2
            names.free.set()
            await until(lambda: peer.all_ended and client.open_connections == 0, "end of both connections")

    run(main())
