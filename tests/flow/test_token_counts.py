"""Counts of tokens that an upstream makes are calls like others: admitted, limited, ended in time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import UPSTREAM_KEY, RunningGateway, limited_key, running_gateway, wait_until
from pointsman.canonical.limits import Limits
from pointsman.testing import AnthropicMessages, Gemini, OpenAIChat, RunningSimulator, running_simulator
from raw_client import Answer, Connection, ask, chat, request

HELLO = [{"role": "user", "content": "hello there"}]
SLOW = "fault=slow_headers,headers_ms=30000"


@pytest.fixture
def upstream() -> Iterator[RunningSimulator]:
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as running:
        yield running


@contextmanager
def counting(directory: Path, simulator: RunningSimulator, *rows: Any, **settings: Any) -> Iterator[RunningGateway]:
    """A gateway with the connection ``claude``, which counts, and others."""
    claude = {"id": "claude", "kind": "anthropic", "base_url": simulator.origin, "requests_per_minute": 4}
    connections = [{"api_key": UPSTREAM_KEY, **row} for row in (claude, *rows)]
    with running_gateway(directory, {"connections": connections, **settings}) as gateway:
        yield gateway


def count(*headers: str, model: str = "claude/m", **more: Any) -> bytes:
    """The bytes of a request for a count."""
    body = msgspec.json.encode({"model": model, "messages": HELLO})
    return request("POST", "/v1/messages/count_tokens", body, *headers, **more)


def running(gateway: RunningGateway) -> int:
    """How many calls run."""
    return gateway.read(lambda: gateway.server.admission.running)


def test_a_count_is_a_request_of_its_key_and_of_the_connection(tmp_path: Path, upstream: RunningSimulator) -> None:
    with counting(tmp_path, upstream) as gateway:
        key, other = (limited_key(gateway, Limits(requests_per_minute=3, tokens_per_minute=1)) for _ in range(2))
        answers = [ask(gateway.port, count(key=key)) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        left = [answer.headers["anthropic-ratelimit-requests-remaining"] for answer in answers]
        assert left == ["2", "1", "0", "0"]
        assert "3 requests per minute of the key" in answers[-1].json()["error"]["message"]
        assert int(answers[-1].headers["retry-after"]) > 50
        others = [ask(gateway.port, count(key=other)) for _ in range(2)]
        assert [answer.status for answer in others] == [200, 429]
        assert "4 requests per minute of the connection" in others[-1].json()["error"]["message"]
        assert len(upstream.requests) == 4
        assert running(gateway) == 0


def test_a_gemini_count_is_a_request_of_its_key(tmp_path: Path, upstream: RunningSimulator) -> None:
    with running_simulator(Gemini(api_key=UPSTREAM_KEY)) as google:
        row = {"id": "google", "kind": "gemini", "base_url": google.origin}
        with counting(tmp_path, upstream, row) as gateway:
            key = limited_key(gateway, Limits(requests_per_minute=1))
            body = msgspec.json.encode({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
            message = request("POST", "/v1beta/models/google%2Fsim-model:countTokens", body, key=key)
            answers = [ask(gateway.port, message) for _ in range(2)]
            assert [answer.status for answer in answers] == [200, 429], answers[0].body
            assert len(google.requests) == 1


def test_a_count_that_never_got_to_an_upstream_gives_its_request_back(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    closed = {"id": "closed", "kind": "anthropic", "base_url": "http://127.0.0.1:1", "allow_private": True}
    with counting(tmp_path, upstream, closed) as gateway:
        key = limited_key(gateway, Limits(requests_per_minute=1))
        answers = [ask(gateway.port, count(model="closed/m", key=key)) for _ in range(3)]
        assert [answer.status for answer in answers] == [502] * 3
        assert ask(gateway.port, count(key=key)).status == 200


def test_an_estimate_made_here_needs_no_place_and_is_no_request(tmp_path: Path, upstream: RunningSimulator) -> None:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as plain:
        row = {"id": "plain", "kind": "openai", "base_url": plain.base_url, "api_key": UPSTREAM_KEY}
        places = {"max_concurrent_requests": 1, "max_queued_requests": 1}
        with counting(tmp_path, upstream, row, server=places) as gateway, Connection(gateway.port) as busy:
            key = limited_key(gateway, Limits(requests_per_minute=1))
            busy.send(chat("first_token_ms=30000", model="plain/m"))
            plain.wait_for_requests(1)
            assert running(gateway) == 1
            assert [ask(gateway.port, count(model="plain/m", key=key)).status for _ in range(3)] == [200] * 3
            assert len(plain.requests) == 1


def test_counts_wait_for_a_place_as_other_calls_do(tmp_path: Path, upstream: RunningSimulator) -> None:
    def queued() -> int:
        return gateway.read(lambda: gateway.server.admission.queued)

    places = {"max_concurrent_requests": 1, "max_queued_requests": 1}
    with counting(tmp_path, upstream, server=places) as gateway, Connection(gateway.port) as waiting:
        with Connection(gateway.port) as slow:
            slow.send(count(model=f"claude/m#{SLOW}"))
            upstream.wait_for_requests(1)
            waiting.send(count())
            wait_until(lambda: queued() == 1, "a count that waits")
            refused: Answer = ask(gateway.port, count())
            assert (refused.status, refused.headers["retry-after"]) == (529, "1")
            assert len(upstream.requests) == 1
        assert waiting.answer().status == 200  # who left has freed its place
        wait_until(lambda: running(gateway) == 0, "free places")


def test_a_count_ends_with_its_request_s_time(tmp_path: Path, upstream: RunningSimulator) -> None:
    with counting(tmp_path, upstream) as gateway:
        late = ask(gateway.port, count("x-pointsman-timeout: 0.3", model=f"claude/m#{SLOW}"))
        assert late.status == 504
        wrong = ask(gateway.port, count("x-pointsman-timeout: soon"))
        assert wrong.status == 400
        assert running(gateway) == 0


def test_counts_take_turns_for_an_upstream_s_connections_by_key(tmp_path: Path, upstream: RunningSimulator) -> None:
    with (
        counting(tmp_path, upstream, upstream={"max_connections_per_host": 1}) as gateway,
        Connection(gateway.port) as busy,
    ):
        row = gateway.call(gateway.installation.keys.find(key := limited_key(gateway)))

        def lines() -> list[str]:
            client = gateway.server.gateway.client
            return [caller for pool in client._pools.values() for caller in pool._waiters.lines]

        busy.send(count(model=f"claude/m#{SLOW}"))
        upstream.wait_for_requests(1)
        with Connection(gateway.port) as waiting:
            waiting.send(count(key=key))
            wait_until(lambda: gateway.read(lines) == [row.id], "a count that waits in its key's line")
