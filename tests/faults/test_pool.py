"""Connections to an upstream: reused, limited, repeated once when stale, and never lost."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gateway import KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import Outcome
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import Answer, Connection, ask, ask_async, chat, chat_body, request
from scripted_upstream import ScriptedUpstream, running_upstream

BODY = b'{"model":"m","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[ScriptedUpstream]:
    """An upstream whose manners are set by each test."""
    with running_upstream() as running:
        yield running


@pytest.fixture
def upstream(shared_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """The same, counting from zero."""
    shared_upstream.connections = shared_upstream.requests = 0
    shared_upstream.most_open = shared_upstream.open
    shared_upstream.reset = False
    return shared_upstream


@pytest.fixture(scope="module")
def limited_simulator() -> Iterator[RunningSimulator]:
    """The upstream that takes three requests at once, by the operator's word."""
    with running_simulator(OpenAIChat()) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    shared_upstream: ScriptedUpstream, limited_simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """A gateway in front of both."""
    free = {"kind": "openai", "base_url": shared_upstream.base_url, "models": ["m"]}
    limited = {"kind": "openai", "base_url": limited_simulator.base_url, "models": ["m", "m#first_token_ms=30"]}
    settings = {
        "connections": [
            {"id": "free", **free},
            {"id": "single", "max_concurrent": 1, **free},
            {"id": "three", "max_concurrent": 3, **limited},
        ],
        "upstream": {"headers_timeout_seconds": 3.0, "total_timeout_seconds": 3.0, "max_waiting_per_host": 40},
        "resilience": {"probes": {"enabled": False}},  # they open connections of their own
    }
    with running_gateway(tmp_path_factory.mktemp("pool"), settings) as running:
        yield running


def ask_together(gateway: RunningGateway, messages: list[bytes]) -> list[Answer]:
    """All at the same time."""

    async def work() -> list[Answer]:
        return await asyncio.gather(*(ask_async(gateway.port, message) for message in messages))

    return asyncio.run(work())


def closing(model: str, directives: str = "", **members: object) -> bytes:
    """A request on a connection of its own."""
    return chat(directives, "connection: close", model=model, **members)


def test_one_connection_serves_many_requests(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.keep = True
    upstream.script = lambda number, body: [ANSWER]
    for _ in range(30):
        assert ask(gateway.port, chat(model="free/m")).status == 200
    assert upstream.requests == 30
    assert upstream.connections <= 1


def test_a_stale_connection_is_repeated_once_on_a_new_one(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.keep = True
    upstream.script = lambda number, body: [ANSWER]
    assert ask(gateway.port, chat(model="free/m")).status == 200
    held = gateway.read(lambda: gateway.server.client.open_connections)
    assert held >= 1

    def die_when_reused(number: int, body: bytes) -> list[bytes | float]:
        if number > 0:
            raise ConnectionResetError
        return [ANSWER]

    upstream.script = die_when_reused
    upstream.requests = 0
    answer = ask(gateway.port, chat(model="free/m"))
    assert answer.status == 200
    assert upstream.requests == 2
    assert len(gateway.journal.of(answer.request_id)) == 1


def test_a_request_is_never_sent_a_third_time(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.keep = True
    upstream.script = lambda number, body: [ANSWER]
    assert ask(gateway.port, chat(model="free/m")).status == 200

    def die(number: int, body: bytes) -> list[bytes | float]:
        raise ConnectionResetError

    upstream.script = die
    upstream.requests = 0
    assert ask(gateway.port, chat(model="free/m")).status == 502
    assert upstream.requests == 2
    assert ask(gateway.port, chat(model="free/m")).status == 502
    assert upstream.requests == 3  # on a new connection there is no reason to repeat


def test_a_connection_that_spoke_out_of_turn_is_not_trusted(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.keep = True
    upstream.script = lambda number, body: [ANSWER, 0.02, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]
    assert ask(gateway.port, chat(model="single/m")).status == 200
    wait_until(lambda: upstream.open == 0 or gateway.read(lambda: gateway.server.client.open_connections) == 0, "close")
    upstream.script = lambda number, body: [ANSWER]
    assert ask(gateway.port, chat(model="single/m")).body == BODY


def test_max_concurrent_is_kept_and_everybody_is_served(
    gateway: RunningGateway, limited_simulator: RunningSimulator
) -> None:
    simulator = limited_simulator.simulator
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            most[0] = max(most[0], simulator.open_connections)

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers = ask_together(gateway, [closing("three/m#first_token_ms=30", stream=n % 2 == 0) for n in range(24)])
    done.set()
    watcher.join()
    assert [answer.status for answer in answers] == [200] * 24
    assert most[0] == 3


def test_too_many_waiters_are_told_to_come_back(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.keep = True
    upstream.script = lambda number, body: [0.02, ANSWER]
    answers = ask_together(gateway, [closing("single/m") for _ in range(60)])
    refused = [answer for answer in answers if answer.status != 200]
    assert 1 <= len(refused) <= 20
    for answer in refused:
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert upstream.most_open == 1


def test_a_key_with_many_requests_does_not_keep_another_waiting(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.keep = True
    slow = [0.5]  # the first answer takes long enough for everybody to come
    upstream.script = lambda number, body: [slow.pop() if slow else 0.01, ANSWER]
    _, other = gateway.call(gateway.installation.keys.create("other"))
    revision = gateway.call(gateway.installation.configuration.revision())
    wait_until(lambda: gateway.read(lambda: gateway.server.gateway.snapshot.revision) >= revision, "the new key")
    order: list[str] = []

    async def work(name: str, key: str) -> None:
        answer = await ask_async(gateway.port, chat("", "connection: close", model="single/m", key=key))
        assert answer.status == 200
        order.append(name)

    async def main() -> None:
        many = [asyncio.create_task(work("many", KEY)) for _ in range(20)]
        await asyncio.to_thread(
            wait_until, lambda: gateway.read(lambda: gateway.server.edge.active) >= 20, "requests that wait"
        )
        await asyncio.gather(*(work("few", other.reveal()) for _ in range(3)), *many)

    asyncio.run(main())
    assert order.count("many") == 20
    last = len(order) - 1 - order[::-1].index("few")
    assert last < 18, order
    assert upstream.most_open == 1


def test_waiters_that_leave_give_their_place_up(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.keep = True
    upstream.script = lambda number, body: [0.15, ANSWER]
    for _ in range(3):
        with Connection(gateway.port) as first:
            first.send(chat(model="single/m"))
            wait_until(lambda: upstream.requests >= 1, "request at the upstream")
            crowd = [Connection(gateway.port) for _ in range(10)]
            for connection in crowd:
                connection.send(chat(model="single/m"))
            last = Connection(gateway.port)
            wait_until(lambda: gateway.read(lambda: gateway.server.edge.active) >= 11, "waiters")
            last.send(chat(model="single/m"))
            for connection in crowd:
                connection.socket.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER 0: leave by RST
                connection.socket.close()
            wait_until(lambda: gateway.read(lambda: gateway.server.edge.active) <= 2, "end of those who left")
            assert first.answer().status == 200
            assert last.answer().status == 200
            last.socket.close()
        upstream.requests = 0
    pools = gateway.read(lambda: [(pool.open, len(pool._waiters)) for pool in gateway.server.client._pools.values()])
    assert all(waiters == 0 for _, waiters in pools)
    assert upstream.most_open == 1


@pytest.mark.parametrize(
    "message",
    [
        chat(model="single/m"),
        chat(model="single/m", stream=True),
        request("POST", "/v1/messages", chat_body(model="single/m", max_tokens=9)),
        request("POST", "/v1/messages", chat_body(model="single/m", max_tokens=9, stream=True)),
        request("POST", "/v1/embeddings", b'{"model": "single/m", "input": "one two"}'),
    ],
    ids=["chat", "stream", "another API", "stream for another API", "embeddings"],
)
def test_a_call_whose_client_leaves_before_it_had_a_connection_has_used_nothing(
    gateway: RunningGateway, upstream: ScriptedUpstream, message: bytes
) -> None:
    enough = threading.Event()

    def hold(number: int, body: bytes) -> Iterator[bytes | float]:
        while not enough.is_set():
            yield 0.01
        yield ANSWER

    upstream.script = hold

    def waiting() -> int:
        return sum(pool.waiting for pool in gateway.server.client._pools.values())

    with Connection(gateway.port) as first:
        first.send(chat(model="single/m"))
        wait_until(lambda: upstream.requests == 1, "request at the upstream")
        before = len(gateway.journal.records())
        with Connection(gateway.port) as second:
            second.send(message)
            wait_until(lambda: gateway.read(waiting), "wait for a connection")
        record = wait_until(lambda: gateway.journal.records()[before:], "record")[0]
    assert record.outcome is Outcome.CLIENT_CLOSED
    assert (record.input_tokens, record.cost_nano_usd, record.usage_estimated) == (0, None, False)
    wait_until(lambda: len(gateway.journal.records()) == before + 2, "record of the other call, which was sent")
    assert gateway.journal.records()[-1].input_tokens > 0
    enough.set()
    wait_until(lambda: not upstream.open, "end of its connection")


def test_a_dead_connection_in_use_lets_the_next_waiter_connect_and_the_limit_holds(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.keep = True
    upstream.script = lambda number, body: [ANSWER]
    assert ask(gateway.port, chat(model="single/m")).status == 200

    died: list[int] = []

    def die_at_first_reuse(number: int, body: bytes) -> list[bytes | float]:
        if number > 0 and not died:
            died.append(number)
            raise ConnectionResetError
        return [0.01, ANSWER]

    upstream.script = die_at_first_reuse
    upstream.most_open = upstream.open
    answers = ask_together(gateway, [closing("single/m") for _ in range(12)])
    assert {answer.status for answer in answers} == {200}
    assert len(died) == 1
    assert upstream.most_open == 1


def test_a_refused_connection_is_told_at_once(
    gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_upstream() as gone:
        base_url = gone.base_url
    settings = {"connections": [{"id": "gone", "kind": "openai", "base_url": base_url, "models": ["m"]}]}
    with running_gateway(tmp_path_factory.mktemp("gone"), settings) as alone:
        for stream in (False, True):
            answer = ask(alone.port, chat(model="gone/m", stream=stream))
            assert (answer.status, answer.error["code"]) == (502, "upstream_unavailable")
            assert alone.journal.the(answer.request_id).error_kind == "upstream_unavailable"
        assert alone.read(lambda: alone.server.client.open_connections) == 0


def test_a_private_address_is_never_reached_unless_it_was_allowed(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_upstream() as upstream:
        settings = {
            "connections": [
                {"id": "p", "kind": "openai", "base_url": upstream.base_url, "models": ["m"], "allow_private": False}
            ]
        }
        with running_gateway(tmp_path_factory.mktemp("guard"), settings) as guarded:
            answer = ask(guarded.port, chat(model="p/m"))
            assert (answer.status, answer.error["code"]) == (502, "upstream_unavailable")
            assert "private" in answer.error["message"]
        assert upstream.connections == 0
