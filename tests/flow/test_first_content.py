"""The first content of a stream is the point of no return: until then another target can take over."""

import gc
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import Outcome
from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai import StreamReader
from pointsman.routing.failures import classify
from pointsman.testing import AnthropicMessages, OpenAIChat, RunningSimulator, running_simulator
from pointsman.upstream.answers import StreamedAnswer
from raw_client import Answer, Connection, ask, request

# Streams that break before any content: after nothing, or after what a stream begins with.
EARLY = [
    f"{fault},after_events={count}"
    for fault in ("cut_mid_stream", "reset_mid_stream", "malformed_chunk", "malformed_json", "error_event", "stall")
    for count in (0, 1)
]
LIMITS = {"first_byte_timeout_seconds": 0.4}


class Client:
    """Takes nothing, for it must get nothing."""

    throttle = None

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        raise AssertionError

    def write(self, data: bytes) -> None:
        raise AssertionError

    finish = cut = lambda self: None


class Site:
    """A gateway before upstreams of two APIs; each has a sound twin."""

    def __init__(self, gateway: RunningGateway, upstreams: dict[str, RunningSimulator]) -> None:
        self.gateway = gateway
        self.upstreams = upstreams

    def ask(self, path: str, model: str, **members: Any) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": "one two"}], "stream": True, **members}
        return ask(self.gateway.port, request("POST", path, msgspec.json.encode(body)))


def combos(kind: str) -> list[dict[str, Any]]:
    """For each way to break early a target of its own, which has not failed yet, and the sound one."""
    return [
        {"name": f"{kind} {fault}", "targets": [f"{kind}-{number}/m#tokens=3,fault={fault}", f"{kind}-sound/m"]}
        for number, fault in enumerate(EARLY)
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        openai = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        claude = stack.enter_context(running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)))
        urls = {"openai": openai.base_url, "anthropic": claude.origin}
        rows = [
            {"id": f"{kind}-{which}", "kind": kind, "base_url": url, "api_key": UPSTREAM_KEY}
            for kind, url in urls.items()
            for which in (*range(len(EARLY)), "sound")
        ]
        settings = {"connections": rows, "combos": combos("openai") + combos("anthropic"), "upstream": LIMITS}
        gateway = stack.enter_context(running_gateway(tmp_path_factory.mktemp("gateway"), settings))
        yield Site(gateway, {"openai": openai, "anthropic": claude})


@pytest.mark.parametrize("fault", EARLY)
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_stream_that_breaks_before_its_content_is_another_targets_turn(site: Site, kind: str, fault: str) -> None:
    """OpenAI's API on its raw lane, Anthropic's behind the hub."""
    answer = site.ask("/v1/chat/completions", f"{kind} {fault}")
    assert (answer.status, answer.text, answer.events[-1]) == (200, "echo: one two", "[DONE]")
    assert len({event["id"] for event in answer.events if event != "[DONE]"}) == 1, "nothing of the first is left"
    record = site.gateway.journal.the(answer.request_id)
    assert (record.connection_id, record.outcome) == (f"{kind}-sound", Outcome.SUCCESS)
    assert len(msgspec.json.decode(record.attempts or "")) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_without_another_target_it_is_an_ordinary_error(site: Site, path: str) -> None:
    answer = site.ask(path, "openai-sound/m#fault=cut_mid_stream,after_events=1", max_tokens=9)
    assert answer.status == 502
    assert "error" in answer.json()


def test_what_was_held_back_comes_with_the_first_content(site: Site) -> None:
    answer = site.ask("/v1/chat/completions", "openai-sound/m#tokens=3,pace_ms=60")
    first, *_ = answer.events
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert answer.text


def test_a_beginning_is_not_held_back_for_ever(site: Site, tmp_path: Path) -> None:
    model = "slow/m#tokens=2,pace_ms=700"
    rows = [
        {"id": "slow", "kind": "anthropic", "base_url": site.upstreams["anthropic"].origin, "api_key": UPSTREAM_KEY}
    ]
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "stream": True}
    message = request("POST", "/v1/messages", msgspec.json.encode(body), f"x-api-key: {KEY}", key=None)
    settings = {"connections": rows, "upstream": {"hold_seconds": 0.1}}
    with running_gateway(tmp_path, settings) as gateway, Connection(gateway.port) as connection:
        connection.send(message)
        connection.peek(b"message_start")
        answer = connection.answer()
    assert answer.status == 200
    assert answer.body.index(b"message_start") < answer.body.index(b"text_delta")


def is_held() -> bool:
    """Whether the beginning of any stream is held back in this process."""
    return any(issubclass(type(one), StreamedAnswer) and one._held for one in gc.get_objects())


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_client_that_leaves_a_beginning_leaves_nothing_that_is_held(site: Site, tmp_path: Path, kind: str) -> None:
    """Neither the answer nor its timer, which would keep it until the time is over."""
    upstream = site.upstreams[kind]
    url, path = (upstream.base_url, "chat/completions") if kind == "openai" else (upstream.origin, "messages")
    rows = [{"id": "slow", "kind": kind, "base_url": url, "api_key": UPSTREAM_KEY}]
    body = {
        "model": "slow/m#fault=stall,after_events=1",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 9,
        "stream": True,
    }
    message = request("POST", f"/v1/{path}", msgspec.json.encode(body))
    with running_gateway(tmp_path, {"connections": rows, "upstream": {"hold_seconds": 600.0}}) as gateway:
        with Connection(gateway.port) as connection:
            connection.send(message)
            wait_until(is_held, "a beginning that is held back")
        wait_until(lambda: not is_held(), "its end")


def test_content_must_come_in_time_after_a_beginning(site: Site) -> None:
    began = time.monotonic()
    answer = site.ask("/v1/chat/completions", "openai-sound/m#fault=stall,after_events=1")
    assert time.monotonic() - began < 4
    assert b"the upstream took too long to send the first byte" in answer.body


def test_an_error_instead_of_content_is_held_against_the_upstream_as_its_refusal_would_be() -> None:
    answer = StreamedAnswer(Client(), StreamReader(), lambda error, last: None, lambda error: b"")
    answer.head(200, {b"content-type": b"text/event-stream"}, None)  # type: ignore[arg-type]
    answer.data(b'data: {"error":{"message":"slow down","code":"rate_limit_exceeded"}}\n\n')
    error = answer._error
    assert isinstance(error, GatewayError)
    assert (error.kind, classify(error).word, classify(error).scope) == (
        Kind.RATE_LIMITED,
        "rate_limited",
        "connection",
    )
