"""A call that is given up, in each of its phases: seen on the wire, and nothing of it stays behind."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress

import pytest

from pointsman.settings import UpstreamSettings
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.http1 import Sink
from pointsman.upstream.origins import Origin, Proxy
from upstream_peers import (
    ANSWER,
    FAR,
    Names,
    Peer,
    connecting,
    deaf_address,
    get,
    listening,
    run,
    until,
    upstream_client,
)

HALF = ANSWER[:-1]


@asynccontextmanager
async def calling(client: UpstreamClient, origin: Origin, caller: str = ""):  # type: ignore[no-untyped-def]
    """A call that runs, and is given up at the end."""
    call = asyncio.create_task(get(client, origin, caller))
    try:
        yield call
    finally:
        assert not call.done(), call.result()
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        assert call.cancelled()


async def nothing_left(client: UpstreamClient) -> None:
    """No connection, no slot, nobody in a queue, and room for the next call."""
    await until(lambda: all(pool.unused and not pool.waiting for pool in client._pools.values()), "rest")
    assert client.open_connections == 0


def test_in_the_queue() -> None:
    async def main() -> None:
        async with listening(Peer(None)) as peer, upstream_client(**FAR) as client:
            origin = peer.origin(limit=1)
            async with calling(client, origin):
                await until(lambda: peer.seen and peer.seen[0].data, "request")
                async with calling(client, origin):
                    await until(lambda: client.pool(origin).waiting == 1, "waiter")
                await until(lambda: client.pool(origin).waiting == 0, "empty queue")
                assert (len(peer.seen), peer.all_ended) == (1, False)
            await nothing_left(client)

    run(main())


def test_while_the_name_is_looked_up() -> None:
    async def main() -> None:
        names = Names({"a.example": ["127.0.0.1"]})
        names.free.clear()
        async with listening(Peer()) as peer, upstream_client(names, **FAR) as client:
            origin = peer.origin(host="a.example")
            async with calling(client, origin):
                await until(lambda: names.lookups, "look-up")
            await nothing_left(client)
            names.free.set()
            assert await get(client, origin) == "hi"
            assert (names.lookups, len(peer.seen)) == (1, 1)

    run(main())


@pytest.mark.parametrize("addresses", [["127.0.0.2"], ["127.0.0.2", "127.0.0.2"]], ids=["one", "race"])
def test_while_it_connects(addresses: list[str]) -> None:
    async def main() -> None:
        with deaf_address("127.0.0.2") as port:
            others = connecting("127.0.0.2", port)
            async with upstream_client(Names({"deaf.example": addresses}), **FAR) as client:
                origin = Origin(scheme="http", host="deaf.example", port=port, allow_private=True)
                async with calling(client, origin):
                    await until(lambda: connecting("127.0.0.2", port) == others + len(addresses), "connecting socket")
                assert connecting("127.0.0.2", port) == others
                await nothing_left(client)

    run(main())


def through_tls(peer: Peer) -> Origin:
    """A server that never answers the first TLS message."""
    return peer.origin(scheme="https")


def through_http_proxy(peer: Peer) -> Origin:
    """A proxy that never answers CONNECT."""
    return peer.origin(proxy=Proxy(kind="http", host=peer.host, port=peer.port))


def through_socks_proxy(peer: Peer) -> Origin:
    """A proxy that never answers the greeting."""
    return peer.origin(proxy=Proxy(kind="socks5h", host=peer.host, port=peer.port))


@pytest.mark.parametrize("way", [through_tls, through_http_proxy, through_socks_proxy, Peer.origin])
def test_while_the_other_side_is_silent(way: Callable[[Peer], Origin]) -> None:
    """In the TLS handshake, in a proxy's handshake, and while the answer's head is awaited."""

    async def main() -> None:
        async with listening(Peer(None)) as peer, upstream_client(**FAR) as client:
            async with calling(client, way(peer)):
                await until(lambda: peer.seen and peer.seen[0].data, "first bytes")
                assert not peer.all_ended
            await until(lambda: peer.all_ended, "end of the connection")
            assert len(peer.seen) == 1
            await nothing_left(client)

    run(main())


def test_in_the_middle_of_the_body() -> None:
    async def main() -> None:
        async with listening(Peer(HALF)) as peer, upstream_client(**FAR) as client:
            async with calling(client, peer.origin()):
                await until(lambda: peer.seen and peer.seen[0].requests, "half an answer")
                assert not peer.all_ended
            await until(lambda: peer.all_ended, "end of the connection")
            await nothing_left(client)

    run(main())


def test_while_a_stale_connection_is_replaced() -> None:
    async def main() -> None:
        names = Names({"a.example": ["127.0.0.1"]})
        async with upstream_client(names, **FAR, dns_ttl_seconds=0) as client, listening(Peer(patience=1)) as peer:
            origin = peer.origin(host="a.example", limit=1)
            assert await get(client, origin) == "hi"
            client._dialer._resolver.forget("a.example", peer.port)
            names.free.clear()
            async with calling(client, origin):
                await until(lambda: names.lookups == 2, "look-up for the repeat")
                assert [seen.requests for seen in peer.seen] == [2]
            await nothing_left(client)
            names.free.set()
            assert await get(client, origin) == "hi"
            assert [seen.requests for seen in peer.seen] == [2, 1]

    run(main())


def test_before_the_first_step_of_a_repeat() -> None:
    async def main() -> None:
        async with upstream_client(**FAR) as client, listening(Peer(patience=1)) as peer:
            origin = peer.origin(limit=1)
            pool = client.pool(origin)
            assert await get(client, origin) == "hi"
            repeat = pool.repeat

            def repeat_and_leave(
                message: bytes, sink: Sink, total_deadline: float, limits: UpstreamSettings, begin_by: float
            ) -> None:
                repeat(message, sink, total_deadline, limits, begin_by)
                pool.give_up(sink)  # in the same turn of the event loop, as a coroutine does that is stepped by hand
                call.cancel()

            pool.repeat = repeat_and_leave  # type: ignore[method-assign]
            call = asyncio.create_task(get(client, origin))
            await asyncio.wait([call])
            assert call.cancelled()
            await nothing_left(client)
            assert len(peer.seen) == 1

    run(main())
