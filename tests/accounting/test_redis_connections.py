"""Questions to Redis wait neither for a handshake while another connection is free, nor for want of connections."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from redis.asyncio import Redis

from driven_clock import DrivenClock
from pointsman.accounting.counters import CountersError, UnaskedError
from pointsman.accounting.leases import LeasedCounters
from pointsman.accounting.redis_connections import MOST_CONNECTIONS, RedisConnections
from pointsman.accounting.redis_store import RedisStore
from pointsman.accounting.windows import MINUTE_US
from pointsman.keyring import Secret
from steady_load import until
from stories import tell

SHORT_SECONDS = 0.05  # a time-out that is meant to pass
LONG_SECONDS = 30.0


class Gate:
    """A way to Redis on which new connections are held up while it is shut."""

    def __init__(self, redis_url: str) -> None:
        self._port = int(redis_url.rpartition(":")[2].partition("/")[0])
        self.url = ""
        self.came = 0
        self.passes = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Gate"]:
        """Listen."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.passes.wait()
            theirs, to_redis = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await asyncio.gather(_copy(reader, to_redis), _copy(theirs, writer))
            finally:
                to_redis.close()
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


def counters_at(url: str, timeout_seconds: float) -> LeasedCounters:
    """A process' counters, on a clock that stands still."""
    clock = DrivenClock()
    return LeasedCounters(RedisStore(Secret(url), clock.now_us, LONG_SECONDS), clock, timeout_seconds)


def test_more_questions_at_once_than_connections_are_all_answered(redis_url: str) -> None:
    async def story() -> None:
        counters, run = counters_at(redis_url, LONG_SECONDS), uuid.uuid4().hex
        looker = Redis.from_url(redis_url)
        before = len(await looker.client_list())
        many = [counters.counter(f"{run}-{number}", MINUTE_US) for number in range(5 * MOST_CONNECTIONS)]
        await asyncio.gather(*(counter.lease(1, 10) for counter in many))
        assert counters.failures == 0
        assert len(await looker.client_list()) - before <= MOST_CONNECTIONS
        await counters.aclose()
        await looker.aclose()

    tell(story)


def test_a_handshake_that_lasts_longer_than_a_call_waits_serves_the_next_one(redis_url: str) -> None:
    async def story() -> None:
        async with Gate(redis_url).open() as gate:
            clock, name = DrivenClock(), uuid.uuid4().hex
            store = RedisStore(Secret(gate.url), clock.now_us, LONG_SECONDS)
            hasty, patient = LeasedCounters(store, clock, SHORT_SECONDS), LeasedCounters(store, clock, LONG_SECONDS)
            counter = hasty.counter(name, MINUTE_US)
            with pytest.raises(CountersError):
                await counter.lease(1, 10)
            gate.passes.set()
            await until(lambda: hasty.holding, "the connection")
            await patient.counter(name, MINUTE_US).lease(1, 10)
            assert gate.came == 1
            await hasty.aclose()
            await patient.aclose()

    tell(story)


def test_a_question_takes_the_first_connection_that_is_free_while_another_is_being_opened(redis_url: str) -> None:
    async def story() -> None:
        async with Gate(redis_url).open() as gate:
            counters, run = counters_at(gate.url, LONG_SECONDS), uuid.uuid4().hex
            gate.passes.set()
            await counters.counter(f"{run}-first", MINUTE_US).lease(1, 10)
            gate.passes.clear()
            others = [counters.counter(f"{run}-{number}", MINUTE_US) for number in range(5)]
            await asyncio.gather(*(other.lease(1, 10) for other in others))
            assert gate.came > 1
            assert counters.failures == 0
            await counters.aclose()

    tell(story)


class Line:
    """What stands for a client with its connection."""

    async def aclose(self) -> None:
        """Nothing to do."""


class Exchange:
    """Opens such connections, all of which fail their questions when `cut`; none while it is `away`."""

    def __init__(self) -> None:
        self.connections = RedisConnections(self._connect)
        self.opened = 0
        self.away = False
        self.cut = asyncio.Event()

    async def _connect(self) -> Redis:
        if self.away:
            raise UnaskedError("nobody listens")
        self.opened += 1
        return cast(Redis, Line())

    async def ask(self) -> None:
        """A question that is answered by nothing but the end of its connection."""
        async with self.connections.one():
            await self.cut.wait()
            raise ConnectionError


@pytest.mark.parametrize("away", [False, True])
def test_those_who_wait_while_all_connections_break_get_new_ones_or_hear_that_there_are_none(away: bool) -> None:
    async def story() -> None:
        exchange = Exchange()
        questions = [asyncio.create_task(exchange.ask()) for _ in range(3 * MOST_CONNECTIONS)]
        await until(lambda: exchange.opened == MOST_CONNECTIONS, "all connections")
        exchange.away = away
        exchange.cut.set()
        results = await asyncio.gather(*questions, return_exceptions=True)
        unasked = sum(isinstance(result, UnaskedError) for result in results)
        assert unasked == (2 * MOST_CONNECTIONS if away else 0)
        assert exchange.opened == (1 if away else 3) * MOST_CONNECTIONS
        exchange.away = False
        async with exchange.connections.one():
            pass
        await exchange.connections.aclose()

    tell(story)


def test_a_question_that_is_given_up_leaves_its_connection_to_the_next() -> None:
    async def story() -> None:
        exchange = Exchange()
        waiting = [asyncio.create_task(exchange.ask()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: exchange.opened == 2, "the connections")
        async with exchange.connections.one(), exchange.connections.one():
            assert exchange.opened == 2
        await exchange.connections.aclose()

    tell(story)


def test_a_handshake_under_way_is_given_up_at_the_end() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            counters = counters_at(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", SHORT_SECONDS)
            with pytest.raises(CountersError):
                await counters.counter("one", MINUTE_US).lease(1, 10)
            await counters.aclose()
        running = asyncio.all_tasks()
        assert len(running) == 1  # ours

    tell(story)
