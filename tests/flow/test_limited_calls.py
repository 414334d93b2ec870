"""Rate limits and overload as clients see them."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import UPSTREAM_KEY, RunningGateway, limited_key, running_gateway, wait_until
from pointsman.canonical.limits import Limits
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import Answer, Connection, ask, chat, request
from redis_server import RedisProcess, running_redis

SETTINGS = {
    "limits": {"workspace_tokens_per_minute": 1_000_000},
    "server": {"max_concurrent_requests": 3, "max_queued_requests": 1},
}


def test_a_key_s_limit_is_told_in_headers_and_enforced(gateway: RunningGateway) -> None:
    key = limited_key(gateway, Limits(requests_per_minute=2))
    first = ask(gateway.port, chat(key=key))
    assert first.status == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"] in ("1m0s", "1m1s")
    assert first.headers["x-ratelimit-limit-tokens"] == "1000000"
    streamed = ask(gateway.port, chat(key=key, stream=True))
    assert (streamed.status, streamed.headers["x-ratelimit-remaining-requests"]) == (200, "0")
    refused = ask(gateway.port, chat(key=key))
    assert refused.status == 429
    assert (refused.error["type"], refused.error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "2 requests per minute of the key" in refused.error["message"]
    assert 55 <= int(refused.headers["retry-after"]) <= 61
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    record = gateway.journal.the(refused.request_id)
    assert (record.status, record.error_kind, record.connection_id) == (429, "rate_limited", None)


def test_a_changed_limit_takes_effect_while_running(gateway: RunningGateway) -> None:
    key = limited_key(gateway, Limits(requests_per_minute=1))
    assert [ask(gateway.port, chat(key=key)).status for _ in range(2)] == [200, 429]

    async def raise_it() -> None:
        installation = gateway.installation
        row = await installation.keys.find(key)
        await installation.keys.limit(row.id, Limits(requests_per_minute=3), "high")
        assert await installation.await_revision(await installation.configuration.revision())

    gateway.call(raise_it())
    assert [ask(gateway.port, chat(key=key)).status for _ in range(3)] == [200, 200, 429]


def test_tokens_are_counted_as_the_upstream_reports_them(gateway: RunningGateway) -> None:
    key = limited_key(gateway, Limits(tokens_per_minute=5000))
    answer = ask(gateway.port, chat(key=key, max_tokens=4000))
    assert answer.status == 200
    usage = answer.json()["usage"]["total_tokens"]
    after = ask(gateway.port, chat("status=400", key=key))
    used = 5000 - int(after.headers["x-ratelimit-remaining-tokens"])
    assert usage < used < usage + 100  # with the estimate of the second call, which has not ended when it is told
    too_large = ask(gateway.port, chat(key=key, max_tokens=6000))
    assert too_large.status == 429
    assert "retry-after" not in too_large.headers


def test_a_call_that_is_wrong_consumes_nothing(gateway: RunningGateway) -> None:
    key = limited_key(gateway, Limits(requests_per_minute=1))
    for _ in range(3):
        assert ask(gateway.port, chat(key=key, model="nowhere/nothing")).status == 404
        assert ask(gateway.port, request("POST", "/v1/chat/completions", b"{}", key=key)).status == 400
    assert ask(gateway.port, chat(key=key)).status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_from_the_cache_counts_as_a_request_and_as_no_tokens(gateway: RunningGateway, stream: bool) -> None:
    key = limited_key(gateway, Limits(requests_per_minute=2, tokens_per_minute=5000))
    text, wish = f"cached and limited {stream}", "x-pointsman-cache: on"
    first = ask(gateway.port, chat("", wish, key=key, text=text, max_tokens=2000))
    hit = ask(gateway.port, chat("", wish, key=key, text=text, max_tokens=2000, stream=stream))
    assert (first.status, hit.status, hit.headers["x-pointsman-cache"]) == (200, 200, "hit")
    refused = ask(gateway.port, chat("", wish, key=key, text=text, max_tokens=2000))
    assert refused.status == 429
    assert "2 requests per minute of the key" in refused.error["message"]
    assert refused.headers["x-ratelimit-remaining-tokens"] == str(5000 - first.json()["usage"]["total_tokens"])


def test_without_a_limit_there_are_no_headers(shared_simulator: RunningSimulator, tmp_path: Path) -> None:
    connection = {"id": "sim", "kind": "openai", "base_url": shared_simulator.base_url, "api_key": UPSTREAM_KEY}
    with running_gateway(tmp_path, {"connections": [connection]}) as plain:
        assert not [name for name in ask(plain.port, chat()).headers if name.startswith("x-ratelimit")]


@contextlib.contextmanager
def streams(gateway: RunningGateway, count: int) -> Iterator[list[Connection]]:
    """Calls that stay in flight until they are closed."""
    connections = [Connection(gateway.port) for _ in range(count)]
    try:
        for connection in connections:
            connection.send(chat("first_token_ms=30000", stream=True))
        wait_until(lambda: gateway.read(lambda: gateway.server.admission.running) == count, "calls in flight")
        yield connections
    finally:
        for connection in connections:
            connection.socket.close()
        wait_until(lambda: gateway.read(lambda: gateway.server.admission.running) == 0, "free places")


def test_calls_beyond_the_places_wait_and_then_are_refused(gateway: RunningGateway) -> None:
    with streams(gateway, 3) as running, Connection(gateway.port) as waiting:
        waiting.send(chat())
        wait_until(lambda: gateway.read(lambda: gateway.server.admission.queued) == 1, "a call that waits")
        refused = ask(gateway.port, chat())
        assert (refused.status, refused.headers["retry-after"], refused.error["code"]) == (503, "1", "overloaded")
        assert ask(gateway.port, request("GET", "/health", key=None)).status == 200  # not an inference call
        running[0].socket.close()
        assert waiting.answer().status == 200


def test_a_waiting_client_that_leaves_frees_its_place(gateway: RunningGateway) -> None:
    with streams(gateway, 3):
        waiting = Connection(gateway.port)
        waiting.send(chat())
        wait_until(lambda: gateway.read(lambda: gateway.server.admission.queued) == 1, "a call that waits")
        waiting.socket.close()
        wait_until(lambda: gateway.read(lambda: gateway.server.admission.queued) == 0, "an empty queue")


def test_higher_priority_takes_the_place_of_a_lower_one_in_a_full_queue(gateway: RunningGateway) -> None:
    low, high = limited_key(gateway, priority="low"), limited_key(gateway, priority="high")
    with streams(gateway, 3) as running, Connection(gateway.port) as patient, Connection(gateway.port) as urgent:
        patient.send(chat(key=low))
        wait_until(lambda: gateway.read(lambda: gateway.server.admission.queued) == 1, "a call that waits")
        urgent.send(chat(key=high))
        assert patient.answer().status == 503
        running[0].socket.close()
        assert urgent.answer().status == 200


def test_all_of_it_is_in_the_metrics(gateway: RunningGateway) -> None:
    key = limited_key(gateway, Limits(requests_per_minute=1))
    assert [ask(gateway.port, chat(key=key)).status for _ in range(2)] == [200, 429]
    text = ask(gateway.port, request("GET", "/metrics", key=None)).body.decode()
    assert 'pointsman_rate_limited_requests_total{limit="key_requests"}' in text
    assert 'pointsman_overload_refusals_total{reason="full"}' in text
    assert 'pointsman_limit_store_events_total{event="failure"} 0.0' in text
    assert "pointsman_requests_queued 0.0" in text
    assert "pointsman_event_loop_lag_seconds" in text


def test_a_limits_store_that_is_away_is_held_against_no_connection(tmp_path: Path) -> None:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator, running_redis() as redis:
        connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        settings = {
            "connections": [{**connection, "requests_per_minute": 9}],
            "limits": {"on_failure": "closed"},
            "storage": {"redis_url": redis.url},
        }
        with running_gateway(tmp_path, settings) as gateway:
            redis.stop()
            refused = ask(gateway.port, chat())
            assert (refused.status, refused.error["code"]) == (503, "not_ready")
            assert not simulator.requests
            assert gateway.read(lambda: gateway.server.health.quiet)


@contextlib.contextmanager
def two_nodes(tmp_path: Path, redis: RedisProcess, limits: dict[str, Any]) -> Iterator[tuple[RunningGateway, ...]]:
    """Two gateways with one Redis."""
    with (
        running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)) as simulator,
        contextlib.ExitStack() as stack,
    ):
        connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        settings = {"connections": [connection], "limits": limits, "storage": {"redis_url": redis.url}}
        yield tuple(stack.enter_context(running_gateway(tmp_path / name, settings)) for name in ("one", "two"))


@pytest.mark.parametrize(("on_failure", "then"), [("open", 200), ("closed", 503)])
def test_two_nodes_share_a_limit_and_an_outage_is_handled_as_configured(
    tmp_path: Path, on_failure: str, then: int
) -> None:
    async def many(port: int) -> list[Answer]:
        return await asyncio.gather(*(asyncio.to_thread(ask, port, chat()) for _ in range(8)))

    with running_redis() as redis:
        limits = {"workspace_requests_per_minute": 10, "on_failure": on_failure}
        with two_nodes(tmp_path, redis, limits) as nodes:
            answers = [answer for node in nodes for answer in asyncio.run(many(node.port))]
            assert sorted(answer.status for answer in answers) == [200] * 10 + [429] * 6
            left = [int(one.headers["x-ratelimit-remaining-requests"]) for one in answers if one.status == 200]
            assert sorted(left) == list(range(10))
            for answer in answers:
                assert answer.headers["x-ratelimit-limit-requests"] == "10"
                assert answer.headers["x-ratelimit-reset-requests"] in ("59s", "1m0s", "1m1s")
            for refused in (one for one in answers if one.status == 429):
                assert 50 <= int(refused.headers["retry-after"]) <= 61
                assert f"try again in {refused.headers['retry-after']} s" in refused.error["message"]
                assert refused.headers["x-ratelimit-remaining-requests"] == "0"
            redis.stop()
            node = nodes[1]  # the one whose log is kept
            wait_until(lambda: ask(node.port, chat()).status == then, f"status {then}")
            assert "limits' store does not answer" in node.log_text()
