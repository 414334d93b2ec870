"""Waiting for a connection: in turn for each caller, within the limits of each connection, and not for ever."""

import asyncio
import random
from collections.abc import Callable

import pytest

from pointsman.errors import GatewayError, Kind
from pointsman.upstream.answers import CollectedAnswer
from pointsman.upstream.http1 import UpstreamConnection
from pointsman.upstream.pool import RETRY_AFTER_SECONDS
from upstream_peers import (
    FAR,
    REQUEST,
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
            with pytest.raises(GatewayError, match="no connection to the upstream became free in time") as refused:
                await client.send(origin, REQUEST, CollectedAnswer())
            assert refused.value.kind is Kind.OVERLOADED, "it is busy: nothing to hold against it"
            assert refused.value.retry_after_seconds == RETRY_AFTER_SECONDS
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


def test_the_lower_of_two_limits_holds() -> None:
    async def main() -> None:
        async with listening(Peer(None)) as peer, upstream_client(max_connections_per_host=2) as client:
            origins = [peer.origin(limit=limit, owner=str(limit)) for limit in (1, None, 5)]
            calls = [asyncio.create_task(get(client, origin)) for origin in origins for _ in range(4)]
            await until(lambda: len(peer.seen) == 5, "five connections")
            assert [client.pool(origin).open for origin in origins] == [1, 2, 2]
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    run(main())


def test_the_connection_that_came_back_last_is_used_first() -> None:
    async def main() -> None:
        async with listening(Peer()) as peer, upstream_client() as client:
            await asyncio.gather(*(get(client, peer.origin()) for _ in range(2)))
            for _ in range(4):
                assert await get(client, peer.origin()) == "hi"
            assert sorted(seen.requests for seen in peer.seen) == [1, 5]  # the other one may grow old

    run(main())


def test_a_kept_connection_that_is_closing_is_not_used() -> None:
    async def main() -> None:
        async with listening(Peer()) as peer, upstream_client() as client:
            assert await get(client, peer.origin()) == "hi"
            pool = client.pool(peer.origin())
            pool._idle[0]._transport.abort()  # its end is told in a later turn of the event loop
            assert pool.take() is None
            await until(lambda: pool.open == 0, "end of the connection")

    run(main())


def test_a_kept_connection_that_the_upstream_closes_is_forgotten() -> None:
    async def main() -> None:
        async with listening(Peer()) as peer, upstream_client() as client:
            assert await get(client, peer.origin()) == "hi"
            pool = client.pool(peer.origin())
            assert len(pool._idle) == 1
            peer.hang_up()
            await until(lambda: pool.open == 0, "end of the connection")
            assert pool._idle == []

    run(main())


class Told(CollectedAnswer):
    """A sink that calls ``at_head``, and ``at_end`` when its connection has gone on to the next caller already."""

    def __init__(self, at_head: Callable[[], object], at_end: Callable[[], object]) -> None:
        self._at_head = at_head
        self._at_end = at_end

    def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
        """The head came."""
        self._at_head()
        return super().head(status, headers, call)

    def end(self, body: bytes) -> None:
        """All came."""
        self._at_end()
        super().end(body)


def test_the_turn_of_one_who_leaves_at_that_moment_goes_to_the_next() -> None:
    """Just before it is given the connection, or between that and its next step; with others behind it or without."""

    async def main() -> None:
        async with upstream_client(**FAR) as client:
            for moment in ("before", "after"):
                for behind in (0, 1):
                    async with listening(Peer(None)) as peer:
                        origin = peer.origin(limit=1)
                        pool = client.pool(origin)
                        leaver: list[asyncio.Task[str]] = []
                        leave = lambda leaver=leaver: leaver[0].cancel()  # noqa: E731
                        sink = Told(leave, bool) if moment == "before" else Told(bool, leave)
                        first = asyncio.create_task(get(client, origin, answer=sink))
                        await until(lambda peer=peer: peer.seen and peer.seen[0].data, "request")
                        leaver.append(asyncio.create_task(get(client, origin, "a")))
                        others = [asyncio.create_task(get(client, origin, "b")) for _ in range(behind)]
                        await until(lambda pool=pool, behind=behind: pool.waiting == 1 + behind, "waiters")
                        peer.speak()
                        assert await asyncio.wait_for(asyncio.gather(first, *others), 10) == ["hi"] * (1 + behind)
                        assert leaver[0].cancelled()
                        assert await asyncio.wait_for(get(client, origin), 10) == "hi"
                        assert (len(peer.seen), pool.open, pool.waiting) == (1, 1, 0)

    run(main())


def test_while_anyone_waits_every_slot_is_taken_and_nothing_is_idle() -> None:
    async def main() -> None:
        chance = random.Random(7)
        async with listening(Peer(patience=9)) as peer, upstream_client(**FAR, max_waiting_per_host=20) as client:
            origin = peer.origin(limit=2)
            pool, crowded = client.pool(origin), [0]

            async def watch() -> None:
                while True:
                    if pool.waiting:
                        crowded[0] += 1
                        assert (pool.open, pool._idle) == (2, [])
                    await asyncio.sleep(0)

            async def leave(call: asyncio.Task[str]) -> None:
                await asyncio.sleep(chance.choice((0, 0, 0.001, 0.003)))
                call.cancel()

            watcher = asyncio.create_task(watch())
            calls, leaving = [], []
            for number in range(300):
                calls.append(asyncio.create_task(get(client, origin, chance.choice("abc"))))
                if number % 3 == 0:
                    leaving.append(asyncio.create_task(leave(calls[-1])))
                if number % 11 == 0:
                    await asyncio.sleep(0.001)
            await asyncio.gather(*leaving)
            await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
            assert not watcher.done()
            watcher.cancel()
            assert crowded[0] > 10
            assert await get(client, origin) == "hi"

    run(main())


def test_a_client_that_closes_leaves_no_connection_and_no_repeat_behind() -> None:
    async def main() -> None:
        names = Names({"a.example": ["127.0.0.1"]})
        async with listening(Peer()) as idle, listening(Peer(patience=1)) as stale:
            with deaf_address("127.0.0.2", stale.port):
                async with upstream_client(names, **FAR) as client:
                    origin = stale.origin(host="a.example", limit=1)
                    assert [await get(client, idle.origin()), await get(client, origin)] == ["hi", "hi"]
                    names.table["a.example"] = ["127.0.0.2"]
                    client._dialer._resolver.forget("a.example", stale.port)
                    before = connecting("127.0.0.2", stale.port)
                    call = asyncio.create_task(get(client, origin))
                    await until(lambda: connecting("127.0.0.2", stale.port) > before, "repeat that connects")
                await until(lambda: idle.all_ended and client.open_connections == 0, "end")
                assert connecting("127.0.0.2", stale.port) == before
                call.cancel()
                await asyncio.wait([call])

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
