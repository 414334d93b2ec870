"""Waiting for a connection: in turn for each caller, within the limits of each connection, and not for ever."""

import asyncio

from upstream_peers import Peer, get, listening, run, until, upstream_client

LIMIT = "too many requests wait for this upstream"


def test_a_caller_with_many_calls_does_not_keep_the_others_waiting() -> None:
    async def main() -> None:
        order: list[str] = []
        async with listening(Peer()) as peer, upstream_client() as client:
            origin = peer.origin(limit=1)

            async def call(caller: str) -> None:
                assert await get(client, origin, caller) == "hi"
                order.append(caller)

            calls = [call(caller) for caller in "aaaaaaaaaabcab"]
            await asyncio.gather(*calls)
            assert "".join(order) == "aabcab" + "aaaaaaaa"
            assert len(peer.seen) == 1

    run(main())


def test_a_full_queue_refuses_the_one_who_fills_it() -> None:
    async def main() -> None:
        async with listening(Peer(None)) as peer, upstream_client(max_waiting_per_host=4) as client:
            origin = peer.origin(limit=1)
            pool = client.pool(origin)
            greedy = [asyncio.create_task(get(client, origin, "greedy")) for _ in range(6)]
            await until(lambda: pool.waiting == 4 and sum(call.done() for call in greedy) == 1, "full queue")
            assert greedy[5].result() == LIMIT
            modest = asyncio.create_task(get(client, origin, "modest"))
            await until(lambda: greedy[4].done(), "eviction")
            assert greedy[4].result() == LIMIT
            assert not modest.done()
            assert pool.waiting == 4
            for call in (*greedy, modest):
                call.cancel()
            await asyncio.gather(*greedy, modest, return_exceptions=True)
            await until(lambda: pool.unused and pool.waiting == 0, "end")

    run(main())


def test_waiting_ends_after_its_own_time() -> None:
    async def main() -> None:
        async with listening(Peer(None)) as peer, upstream_client(queue_timeout_seconds=0.01) as client:
            origin = peer.origin(limit=1)
            first = asyncio.create_task(get(client, origin))
            await until(lambda: peer.seen and peer.seen[0].data, "request")
            assert await get(client, origin) == "no connection to the upstream became free in time"
            assert not first.done()
            first.cancel()
            await asyncio.wait([first])

    run(main())


def test_two_connections_at_one_host_each_have_their_own_limit() -> None:
    async def main() -> None:
        async with listening(Peer(None)) as peer, upstream_client() as client:
            origins = [peer.origin(limit=2, owner=owner) for owner in ("one", "two")]
            calls = [asyncio.create_task(get(client, origin)) for origin in origins for _ in range(5)]
            await until(lambda: len(peer.seen) == 4, "four connections")
            assert [client.pool(origin).open for origin in origins] == [2, 2]
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    run(main())


def test_pools_that_hold_nothing_are_dropped() -> None:
    async def main() -> None:
        async with listening(Peer()) as peer, upstream_client(keepalive_seconds=0.001) as client:
            for number in range(20):
                assert await get(client, peer.origin(owner=str(number))) == "hi"
            await until(lambda: client.open_connections == 0, "closing of idle connections")
            await until(lambda: peer.all_ended, "closing of idle connections at the other side")
            assert await get(client, peer.origin(owner="last")) == "hi"
            assert len(client._pools) == 1

    run(main())
