"""Ollama's clients are understood, whatever their age."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.joined_halves import IDENTITY, JSON, unhurried
from tests.ollama_fixtures import CHAT, GENERATE, PIXEL, SCHEMA

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.parts import ImagePart, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from pointsman.canonical.request import Request
from pointsman.dialects.ollama import chat, generate
from pointsman.errors import GatewayError, Kind

NAMES = [*CHAT, *GENERATE, "messages", "nonsense"]


def read(body: Any, dialect: Any = chat) -> Request:
    request: Request = dialect.read_request(json.dumps(body).encode(), ClientCall())
    return request


def ask(*messages: Any, **members: Any) -> Any:
    return {"model": "m", "messages": list(messages), **members}


def refusal(body: Any, dialect: Any = chat) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read(body, dialect)
    assert caught.value.kind is Kind.INVALID_REQUEST
    return caught.value


def test_every_member_of_a_chat_request_is_read() -> None:
    request = read(CHAT)
    assert (request.model, request.stream, request.wire) == ("llama4", False, "ollama")
    assert request.max_output_tokens == 50
    assert (request.temperature, request.top_p, request.top_k, request.min_p) == (0.5, 0.9, 40, 0.05)
    assert (request.presence_penalty, request.frequency_penalty, request.repetition_penalty) == (0.1, 0.2, 1.1)
    assert (request.seed, request.stop) == (7, ["END", "STOP"])
    assert (request.logprobs, request.top_logprobs) == (True, 3)
    assert request.reasoning is not None
    assert (request.reasoning.enabled, request.reasoning.effort) == (True, "high")
    assert request.output_format is not None
    assert request.output_format.schema == SCHEMA
    assert request.extra["keep_alive"] == "10m"
    assert request.extra["options.num_ctx"] == 8192
    assert request.path("max_output_tokens") == "options.num_predict"
    assert [tool.name for tool in request.tools] == ["weather", "clock"]


def test_messages_become_parts_in_the_order_of_their_making() -> None:
    system, user, assistant, results, last = read(CHAT).messages
    assert system.parts == [TextPart(text="Be brief.", path="messages[0].content")]
    assert isinstance(user.parts[1], ImagePart)
    assert (user.parts[1].source.data, user.parts[1].source.media_type) == (PIXEL, "image/png")
    thought, text, first, second = assistant.parts
    assert isinstance(thought, ReasoningPart)
    assert isinstance(text, TextPart)
    assert isinstance(first, ToolCallPart)
    assert isinstance(second, ToolCallPart)
    assert (first.id, first.name, json.loads(first.arguments)) == ("call_a", "weather", {"city": "Paris", "n": 1.5})
    assert second.id == "call_2_1"
    assert results.role == "user"
    found = [(part.call_id, part.name) for part in results.parts if isinstance(part, ToolResultPart)]
    assert found == [("call_2_1", "clock"), ("call_a", "weather")]
    assert last.parts == [TextPart(text="So?", path="messages[5].content")]


def test_a_prompt_becomes_messages_and_keeps_what_has_no_word() -> None:
    request = read(GENERATE, generate)
    assert [message.role for message in request.messages] == ["system", "user"]
    assert isinstance(request.messages[1].parts[0], TextPart)
    assert request.messages[1].parts[0].text == "def f("
    assert request.extra["suffix"] == "return 1"
    assert request.extra["context"] == [1, 22, 333]
    assert request.extra["raw"] is False
    assert request.stream


def test_answers_are_streamed_unless_the_client_says_no() -> None:
    assert read(ask({"role": "user", "content": "x"})).stream
    assert not read(ask({"role": "user", "content": "x"}, stream=False)).stream


@pytest.mark.parametrize(
    ("think", "enabled", "effort"),
    [(True, True, None), (False, False, None), ("low", True, "low"), ("none", False, "none")],
)
def test_thinking_is_a_switch_or_a_level(think: Any, enabled: bool, effort: str | None) -> None:
    reasoning = read(ask({"role": "user", "content": "x"}, think=think)).reasoning
    assert reasoning is not None
    assert (reasoning.enabled, reasoning.effort) == (enabled, effort)


def test_results_without_ids_answer_calls_by_name_then_in_order() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    other = {"function": {"name": "g", "arguments": {}}}
    request = read(
        ask(
            {"role": "assistant", "content": "", "tool_calls": [call, other, call]},
            {"role": "tool", "name": "g", "content": "1"},
            {"role": "tool", "content": "2"},
            {"role": "tool", "tool_name": "f", "content": "3"},
            {"role": "tool", "content": "4"},
        )
    )
    (results,) = request.messages[1:]
    found = [part.call_id for part in results.parts if isinstance(part, ToolResultPart)]
    assert found == ["call_0_1", "call_0_0", "call_0_2", "call_4_0"]


def test_an_unlimited_answer_is_no_limit() -> None:
    request = read(ask({"role": "user", "content": "x"}, options={"num_predict": -1, "stop": "END"}))
    assert request.max_output_tokens is None
    assert request.extra == {"options.num_predict": -1}
    assert request.stop == ["END"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "model"),
        ({"model": "", "messages": []}, "model"),
        (ask({"role": "robot", "content": "x"}), "messages[0].role"),
        (ask({"role": "user", "content": [{"type": "text"}]}), "messages[0].content"),
        (ask({"role": "user", "content": "x", "images": [1]}), "messages[0].images"),
        (
            ask({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (ask(format="xml"), "format"),
        (ask(think="enormous"), "think"),
        (ask(options={"temperature": "hot"}), "options.temperature"),
        (ask(options={"stop": [1]}), "options.stop"),
        (ask(top_logprobs=21), "top_logprobs"),
        (ask(tools=[{"type": "function"}]), "tools[0].function"),
    ],
)
def test_mistakes_are_named(body: Any, param: str) -> None:
    assert refusal(body).param == param


def test_a_wrong_context_is_named() -> None:
    assert refusal({"model": "m", "prompt": "x", "context": ["a"]}, generate).param == "context"


@pytest.mark.parametrize(("keep_alive", "reason"), [(None, "load"), (0, "unload"), ("5m", "load")])
def test_a_request_that_asks_nothing_is_answered_without_a_model(keep_alive: Any, reason: str) -> None:
    body = {"model": "m", "messages": [], "keep_alive": keep_alive}
    found = json.loads(chat.loading_answer(read(body), IDENTITY) or b"")
    assert (found["done"], found["done_reason"], found["message"]["content"]) == (True, reason, "")
    found = json.loads(generate.loading_answer(read({**body, "prompt": ""}, generate), IDENTITY) or b"")
    assert (found["done_reason"], found["response"]) == (reason, "")
    assert chat.loading_answer(read(ask({"role": "user", "content": "x"})), IDENTITY) is None


def assert_read_or_refused(body: Any, dialect: Any) -> None:
    kind = Kind.INVALID_REQUEST
    try:
        read(body, dialect)
    except GatewayError as error:
        kind = error.kind
    assert kind is Kind.INVALID_REQUEST


@unhurried
@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_whatever_comes_is_read_or_refused(body: dict[str, Any]) -> None:
    assert_read_or_refused(body, chat)
    assert_read_or_refused(body, generate)


@unhurried
@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "images", "thinking"]), JSON)))
def test_whatever_messages_come_are_read_or_refused(messages: list[Any]) -> None:
    for one in messages:
        one.setdefault("role", "assistant")
    assert_read_or_refused(ask(*messages), chat)


@given(st.binary(max_size=40))
def test_whatever_bytes_come_are_refused_in_words(body: bytes) -> None:
    with pytest.raises(GatewayError):
        chat.read_request(body, ClientCall())
