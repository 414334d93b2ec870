"""Upstreams that answer whole although a stream was asked for: the client gets its stream, and usage is recorded."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from gateway import KEY, RunningGateway, running_gateway
from pointsman.canonical.record import Outcome
from raw_client import Answer, ask, chat, request
from scripted_upstream import ScriptedUpstream, running_upstream

TOLD = [{"role": "user", "content": "hello"}]
CHAT_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "said",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
                ],
            },
        }
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m-1",
    "content": [{"type": "text", "text": "said"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 11, "output_tokens": 7},
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    connections = [
        {"id": "gpt", "kind": "openai", "base_url": upstream.base_url, "api_key": "sk-upstream"},
        {"id": "claude", "kind": "anthropic", "base_url": upstream.base_url, "api_key": "sk-upstream"},
    ]
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"connections": connections}) as running:
        yield running


def whole(body: Any) -> Any:
    """A script that says it, as JSON unless it is bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body, indent=1).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data)
    return lambda number, _: [head + data]


def assert_recorded(gateway: RunningGateway, answer: Answer) -> None:
    record = gateway.journal.the(answer.request_id)
    assert (record.outcome, record.input_tokens, record.output_tokens) == (Outcome.SUCCESS, 11, 7)
    assert (record.usage_estimated, record.bytes_out) == (False, len(answer.body))
    assert ["stream", "synthesised"] in [note[:2] for note in json.loads(record.fidelity or "")]
    assert "synthesised=" in answer.headers["x-pointsman-fidelity"]


@pytest.mark.parametrize(("model", "body"), [("gpt/m", CHAT_ANSWER), ("claude/m", MESSAGE)])
def test_a_chat_client_gets_a_stream(
    gateway: RunningGateway, upstream: ScriptedUpstream, model: str, body: Any
) -> None:
    upstream.script = whole(body)
    answer = ask(gateway.port, chat(model=model, stream=True, stream_options={"include_usage": True}))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == "said"
    assert answer.events[-2]["usage"]["prompt_tokens"] == 11
    assert answer.events[-1] == "[DONE]"
    assert_recorded(gateway, answer)


@pytest.mark.parametrize(("model", "body"), [("gpt/m", CHAT_ANSWER), ("claude/m", MESSAGE)])
def test_a_messages_client_gets_a_stream(
    gateway: RunningGateway, upstream: ScriptedUpstream, model: str, body: Any
) -> None:
    upstream.script = whole(body)
    asked = json.dumps({"model": model, "max_tokens": 9, "messages": TOLD, "stream": True}).encode()
    assert_recorded(gateway, ask(gateway.port, request("POST", "/v1/messages", asked)))
    with (
        anthropic.Anthropic(base_url=gateway.address, api_key=KEY, max_retries=0, timeout=20) as sdk,
        sdk.messages.stream(model=model, max_tokens=9, messages=TOLD) as stream,  # type: ignore[arg-type]
    ):
        assert stream.get_final_message().usage.output_tokens == 7


def test_openais_sdk_puts_the_tool_call_together(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = whole(CHAT_ANSWER)
    with (
        openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as sdk,
        sdk.chat.completions.stream(model="gpt/m", messages=TOLD) as stream,  # type: ignore[arg-type]
    ):
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].id, calls[0].function.arguments) == ("call_1", '{"a": 1}')


@pytest.mark.parametrize("body", [b'{"error": {"message": "no"}}', b"<html>", b'{"choices": 1}', b""])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_what_is_no_answer_is_an_error(
    gateway: RunningGateway, upstream: ScriptedUpstream, path: str, body: bytes
) -> None:
    upstream.script = whole(body)
    asked = json.dumps({"model": "gpt/m", "max_tokens": 9, "messages": TOLD, "stream": True}).encode()
    answer = ask(gateway.port, request("POST", path, asked))
    assert answer.status == 502
    assert gateway.journal.the(answer.request_id).error_kind == "upstream_error"
