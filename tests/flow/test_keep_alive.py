"""A client that waits for a stream is told that it is being made, between whole events, and nothing else changes."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
from google import genai

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.canonical.record import Outcome
from pointsman.testing import AnthropicMessages, OpenAIChat, running_simulator
from raw_client import Answer, Connection, ask, chat, request
from scripted_upstream import ScriptedUpstream, running_upstream

SILENCE_S = 0.2
SLOW = "first_token_ms=900"
COMMENT, PING = b": keep-alive\n\n", b'event: ping\ndata: {"type":"ping"}\n\n'
TOLD = [{"role": "user", "content": "one two"}]
CLAUDE, GPT = f"claude/sim-model#{SLOW}", f"gpt/sim-model#{SLOW}"


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedUpstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(scripted: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with (
        running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as gpt,
        running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as claude,
    ):
        connections: list[dict[str, Any]] = [
            {"id": "gpt", "kind": "openai", "base_url": gpt.base_url},
            {"id": "claude", "kind": "anthropic", "base_url": claude.origin},
            {"id": "odd", "kind": "openai", "base_url": scripted.base_url},
        ]
        for connection in connections:
            connection |= {"api_key": UPSTREAM_KEY, "allow_private": True}
        models = [{"name": "slow", "target": GPT}]
        server = {"stream_silence_seconds": SILENCE_S}
        settings = {"connections": connections, "models": models, "server": server}
        with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as running:
            yield running


def post(gateway: RunningGateway, path: str, body: Any, *headers: str) -> Answer:
    return ask(gateway.port, request("POST", path, json.dumps(body).encode(), *headers))


@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_a_late_first_event_is_announced_by_comments_and_recorded_exactly(gateway: RunningGateway, model: str) -> None:
    answer = ask(gateway.port, chat(model=model, stream=True, text="one two"))
    assert answer.status == 200
    assert answer.body.startswith(COMMENT)
    assert answer.text == "echo: one two"
    assert answer.events[-1] == "[DONE]"
    record = gateway.journal.the(answer.request_id)
    assert (record.outcome, record.bytes_out) == (Outcome.SUCCESS, len(answer.body))
    assert record.first_byte_us is not None
    assert record.first_byte_us > 850_000  # of the answer, not of a comment


def test_comments_stand_between_whole_events_of_a_slow_stream(
    gateway: RunningGateway, scripted: ScriptedUpstream
) -> None:
    first = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    told = threading.Event()

    def script(number: int, body: bytes) -> Iterator[bytes | float]:
        yield head + first + last[:20]
        while not told.is_set():
            yield 0.01
        yield last[20:]

    scripted.script = script
    with Connection(gateway.port) as connection:
        connection.send(chat(model="odd/m", stream=True))
        connection.peek(COMMENT)
        told.set()
        answer = connection.answer()
    assert first + COMMENT in answer.body
    assert answer.body.replace(COMMENT, b"") == first + last


@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_openais_sdk_reads_past_them(gateway: RunningGateway, model: str) -> None:
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as sdk:
        chunks = sdk.chat.completions.create(model=model, messages=TOLD, stream=True)  # type: ignore[call-overload]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "echo: one two"
        with sdk.responses.stream(model=model, input="one two") as stream:
            assert stream.get_final_response().output_text == "echo: one two"


@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_anthropics_sdk_gets_its_own_pings(gateway: RunningGateway, model: str) -> None:
    body = {"model": model, "max_tokens": 9, "messages": TOLD, "stream": True}
    assert post(gateway, "/v1/messages", body).body.startswith(PING)
    with (
        anthropic.Anthropic(base_url=gateway.address, api_key=KEY, max_retries=0, timeout=20) as sdk,
        sdk.messages.stream(model=model, max_tokens=9, messages=TOLD) as stream,  # type: ignore[arg-type]
    ):
        assert stream.get_final_text() == "echo: one two"


def test_googles_sdk_reads_past_empty_lines(gateway: RunningGateway) -> None:
    options: Any = {"base_url": gateway.address, "timeout": 5000}
    with genai.Client(api_key=KEY, http_options=options) as sdk:
        chunks = sdk.models.generate_content_stream(model="slow", contents="one two")
        assert "".join(chunk.text or "" for chunk in chunks) == "echo: one two"
    contents = [{"role": "user", "parts": [{"text": "one two"}]}]
    path = "/v1beta/models/slow:streamGenerateContent"
    body = post(gateway, f"{path}?alt=sse", {"contents": contents}).body
    assert body.startswith(b"\r\n")
    assert body.lstrip().startswith(b"data: ")
    assert post(gateway, path, {"contents": contents}).json()[0]["candidates"]  # an array has no comments


def test_openrouters_clients_get_its_own_comment(gateway: RunningGateway) -> None:
    body = {"model": GPT, "messages": TOLD, "stream": True}
    answer = post(gateway, "/openrouter/api/v1/chat/completions", body)
    assert answer.body.startswith(b": OPENROUTER PROCESSING\n\n")


def test_ollamas_lines_have_no_comments_and_get_none(gateway: RunningGateway) -> None:
    with ollama.Client(host=gateway.address, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as sdk:
        parts = sdk.chat(model=GPT, messages=TOLD, stream=True)  # type: ignore[call-overload]
        assert "".join(part.message.content or "" for part in parts) == "echo: one two"


REFUSAL = b'{"error":{"message":"too many","type":"rate_limit_error","param":null,"code":null}}'
TOO_MANY = b"HTTP/1.1 429 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(REFUSAL), REFUSAL
)  # fmt: skip


@pytest.mark.parametrize(
    "shared", ["", "idempotency-key: late-{}", "x-pointsman-share: 1"], ids=["alone", "key", "share"]
)
@pytest.mark.parametrize("script", ["429", "gone"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_late_failure_is_the_dialects_error_event(
    gateway: RunningGateway, scripted: ScriptedUpstream, path: str, script: str, shared: str
) -> None:
    scripted.script = lambda number, body: [0.8, TOO_MANY if script == "429" else b""]
    asked: dict[str, Any] = {"input": "one two"} if "responses" in path else {"messages": TOLD, "max_tokens": 9}
    body = {"model": "odd/m", "stream": True, **asked}
    answer = post(gateway, path, body, *([shared.format(script)] if shared else []))
    assert answer.status == 200
    assert answer.complete
    comment = PING if "messages" in path else COMMENT
    *comments, last = answer.body.split(b"\n\n")[:-1]
    assert set(comments) == {comment.removesuffix(b"\n\n")}
    assert b"error" in last
    record = gateway.journal.the(answer.request_id)
    kind = "rate_limited" if script == "429" else "upstream_error"
    assert (record.outcome, record.error_kind) == (Outcome.ERROR, kind)
    told = last + b"\n\n" if shared else answer.body  # of a shared call no record counts who was told to wait how often
    assert record.bytes_out == len(told)


def test_a_late_failure_of_a_shared_call_is_told_to_all_who_follow_it(
    gateway: RunningGateway, scripted: ScriptedUpstream
) -> None:
    scripted.script = lambda number, body: [0.8, TOO_MANY]
    message = chat("", "idempotency-key: both", model="odd/m", stream=True)
    with Connection(gateway.port) as first, Connection(gateway.port) as second:
        first.send(message)
        first.peek(COMMENT)
        second.send(message)  # may see no comment before the failure
        for answer in (first.answer(), second.answer()):
            assert (answer.status, answer.complete) == (200, True)
            assert answer.events[-1]["error"]["type"] == "rate_limit_error"


def test_the_sdks_raise_their_error_for_a_late_failure(gateway: RunningGateway, scripted: ScriptedUpstream) -> None:
    scripted.script = lambda number, body: [0.6, b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"]
    with (
        openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as sdk,
        pytest.raises(openai.APIError),
    ):
        list(sdk.chat.completions.create(model="odd/m", messages=TOLD, stream=True))  # type: ignore[call-overload]
    with (
        anthropic.Anthropic(base_url=gateway.address, api_key=KEY, max_retries=0, timeout=20) as claude,
        pytest.raises(anthropic.APIStatusError),
    ):
        list(claude.messages.create(model="odd/m", max_tokens=9, messages=TOLD, stream=True))  # type: ignore[call-overload]


def held(gateway: RunningGateway) -> set[tuple[str, str]]:
    """What is held against anybody: of which scope, and why."""
    health, now = gateway.server.health, gateway.server.gateway.clock.now_us
    return {(view.scope, view.reason) for view in gateway.read(lambda: health.views(now()))}


def test_a_deadline_behind_a_comment_is_held_against_nobody(gateway: RunningGateway) -> None:
    gateway.read(lambda: gateway.server.health.reset(0))
    message = chat("first_token_ms=30000", "x-pointsman-timeout: 0.5", model="gpt/sim-model", stream=True)
    answer = ask(gateway.port, message)
    assert answer.body.startswith(COMMENT)
    assert answer.events[-1]["error"]["code"] == "upstream_timeout"
    assert not held(gateway)


def test_a_models_own_limit_behind_a_comment_is_not_held_against_its_connection(
    gateway: RunningGateway, scripted: ScriptedUpstream
) -> None:
    gateway.read(lambda: gateway.server.health.reset(0))
    refusal = b'{"error":{"message":"Rate limit reached for model `m`","type":"rate_limit_error"}}'
    head = b"HTTP/1.1 429 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(refusal)
    scripted.script = lambda number, body: [0.6, head + refusal]
    assert ask(gateway.port, chat(model="odd/m", stream=True)).body.startswith(COMMENT)
    assert held(gateway) == {("model", "model_rate_limited")}


def test_zero_seconds_turn_them_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as gpt:
        connection = {"id": "gpt", "kind": "openai", "base_url": gpt.base_url, "api_key": UPSTREAM_KEY}
        settings = {"connections": [connection], "server": {"stream_silence_seconds": 0}}
        with running_gateway(tmp_path_factory.mktemp("quiet"), settings) as running:
            answer = ask(running.port, chat(model=GPT, stream=True))
            assert answer.body.startswith(b"data: ")
