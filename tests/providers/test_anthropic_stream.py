"""Anthropic's answers in our words: whole or streamed, however the bytes are cut, and never a success that is none."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthropic_passage import IDENTITY, ask, bytes_of, parsed
from pointsman.canonical.collect import collect
from pointsman.canonical.events import AnyEvent, Ended, Failed, PartDelta, PartStarted, UsageReported
from pointsman.canonical.halves import Built
from pointsman.canonical.parts import NativePart, ReasoningPart, ToolCallPart
from pointsman.canonical.response import FinishReason
from pointsman.errors import GatewayError, Kind
from pointsman.providers import anthropic as provider
from pointsman.testing import AnthropicMessages

VERSION = ("anthropic-version", "2023-06-01")
TOOL: Any = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
EMPTY: Any = {"name": "now", "input_schema": {"type": "object"}}
SEARCH: Any = {"type": "web_search_20250305", "name": "web_search"}
REQUESTS: list[dict[str, Any]] = [
    {"messages": "hello"},
    {"messages": "call the tool twice", "tools": [TOOL, EMPTY], "thinking": {"type": "adaptive"}},
    {"messages": "think in secret", "thinking": {"type": "adaptive"}},
    {"messages": "search the web", "tools": [SEARCH]},
    {"messages": "please refuse"},
    {"messages": "a b c d", "max_tokens": 2},
]


def built(stream: bool, messages: str, **members: Any) -> Built:
    body = {"model": "m", "max_tokens": 9000, "stream": stream, **members}
    body["messages"] = [{"role": "user", "content": messages}]
    return Built(path="/v1/messages", body=json.dumps(body).encode(), headers=(VERSION,))


def fresh() -> AnthropicMessages:
    """Two of them give the same ids."""
    api = AnthropicMessages()
    api._run = "run"
    return api


def stream_of(**members: Any) -> bytes:
    return bytes_of(ask(fresh(), built(True, **members)))


def parse(*pieces: bytes) -> list[AnyEvent]:
    parser = provider.StreamParser(IDENTITY)
    return [event for piece in pieces for event in parser.feed(piece)] + parser.finish()


def failure(events: list[AnyEvent]) -> GatewayError:
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Ended) for event in events)
    return events[-1].error


@pytest.mark.parametrize("members", REQUESTS)
def test_the_collected_stream_is_the_buffered_answer(members: dict[str, Any]) -> None:
    whole = provider.parse_response(ask(fresh(), built(False, **members)).body, IDENTITY)
    assert collect(parse(stream_of(**members)), "anthropic") == whole


@settings(max_examples=60, deadline=None)
@given(members=st.sampled_from(REQUESTS), cuts=st.lists(st.integers(0, 5000), max_size=12), crlf=st.booleans())
def test_any_split_of_the_bytes_gives_the_same_events(members: dict[str, Any], cuts: list[int], crlf: bool) -> None:
    whole = stream_of(**members)
    data = whole.replace(b"\n", b"\r\n") if crlf else whole
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert parse(*pieces) == parse(whole)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10_000), junk=st.binary(max_size=20), cut=st.booleans())
def test_a_broken_stream_ends_in_an_error_of_ours_or_whole(at: int, junk: bytes, cut: bool) -> None:
    data = stream_of(**REQUESTS[1])
    at %= len(data)
    broken = data[:at] if cut else data[:at] + junk + data[at + len(junk) :]
    events = parse(broken)
    assert isinstance(events[-1], Failed | Ended)
    if cut and at < len(data) - 2:  # all but the last line feeds, without which the last event is no event
        assert failure(events).kind is Kind.UPSTREAM_ERROR


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["content", "type", "stop_reason", "usage", "text", "id", "input", "x"]),
                inner,
                max_size=4,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_parsers_raise_only_errors_of_ours(body: bytes) -> None:
    for read in (lambda: provider.parse_response(body, IDENTITY), lambda: provider.parse_count_response(body)):
        with pytest.raises(GatewayError):
            read()
    assert isinstance(provider.parse_error(400, {}, body, "secret"), GatewayError)
    events = parse(b"event: message_start\ndata: " + body.replace(b"\n", b"") + b"\n\n")
    assert isinstance(events[-1], Failed)


def test_usage_adds_what_caches_had_and_took() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 4},
        "service_tier": "standard",
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
    }
    message = {"id": "msg_1", "model": "m", "content": [], "stop_reason": "end_turn", "usage": usage}
    response = provider.parse_response(json.dumps(message).encode(), IDENTITY)
    assert response.usage is not None
    assert response.usage.input_tokens == 160
    assert response.usage.buckets() == {
        "input": 10,
        "cache_read": 100,
        "cache_write_5m": 20,
        "cache_write_1h": 30,
        "input_audio": 0,
        "output": 3,
        "reasoning": 4,
        "output_audio": 0,
        "output_image": 0,
    }
    assert response.service_tier == "default"
    assert response.extra["usage.server_tool_use"]["web_search_requests"] == 2


def test_usage_is_told_at_the_beginning_too() -> None:
    reports = [event.usage for event in parse(stream_of(**REQUESTS[0])) if isinstance(event, UsageReported)]
    assert reports[0].input_tokens == reports[-1].input_tokens > 0
    assert reports[-1].output_tokens == 2


def test_hidden_state_is_kept_as_it_was_made() -> None:
    response = collect(parse(stream_of(**REQUESTS[2])), "anthropic")
    thinking, redacted, _ = response.choices[0].parts
    assert isinstance(thinking, ReasoningPart)
    assert isinstance(redacted, ReasoningPart)
    assert thinking.opaque is not None
    assert redacted.opaque is not None
    assert (thinking.opaque.origin, thinking.opaque.kind) == ("anthropic", "signature")
    assert (redacted.opaque.kind, redacted.text) == ("redacted", "")


def test_server_tools_come_whole_with_their_streamed_input() -> None:
    response = collect(parse(stream_of(**REQUESTS[3])), "anthropic")
    call, result, text = response.choices[0].parts
    assert isinstance(call, NativePart)
    assert call.value["input"] == {"query": "search the web"}
    assert isinstance(result, NativePart)
    assert result.type == "web_search_tool_result"
    assert text.citations[0].url == "https://example.com/found"  # type: ignore[union-attr, index]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP_SEQUENCE),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.CONTEXT_LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("refusal", FinishReason.REFUSAL),
        ("pause_turn", FinishReason.PAUSE),
        ("compaction", FinishReason.STOP),
        ("from_the_future", FinishReason.STOP),
    ],
)
def test_every_stop_reason_has_our_word_and_keeps_its_own(word: str, reason: FinishReason) -> None:
    message = {"content": [], "stop_reason": word}
    choice = provider.parse_response(json.dumps(message).encode(), IDENTITY).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (reason, word)


def frame(name: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **members}))


START = frame("message_start", message={"id": "msg_1", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}})
END = frame("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9}) + frame("message_stop")


def test_calls_that_come_mixed_are_told_apart() -> None:
    data = START
    for index in (0, 1):
        block = {"type": "tool_use", "id": f"toolu_{index}", "name": "look", "input": {}}
        data += frame("content_block_start", index=index, content_block=block)
    for index, piece in ((0, '{"a'), (1, '{"b'), (0, '":1}'), (1, '":2}')):
        delta = {"type": "input_json_delta", "partial_json": piece}
        data += frame("content_block_delta", index=index, delta=delta)
    for index in (1, 0):
        data += frame("content_block_stop", index=index)
    parts = collect(parse(data + END), "anthropic").choices[0].parts
    assert [part.arguments for part in parts if isinstance(part, ToolCallPart)] == ['{"a":1}', '{"b":2}']


def test_an_input_that_comes_whole_at_the_start_is_kept() -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1}}
    data = START + frame("content_block_start", index=0, content_block=block) + frame("content_block_stop", index=0)
    (part,) = collect(parse(data + END), "anthropic").choices[0].parts
    assert isinstance(part, ToolCallPart)
    assert part.arguments == '{"a":1}'


def test_blocks_that_hosts_leave_open_are_closed() -> None:
    block = {"type": "text", "text": "Hel"}
    data = START + frame("content_block_start", index=0, content_block=block)
    data += frame("content_block_delta", index=0, delta={"type": "text_delta", "text": "lo"})
    response = collect(parse(data + END), "anthropic")
    assert response.choices[0].parts[0].text == "Hello"  # type: ignore[union-attr]


def test_pings_comments_and_unknown_events_mean_nothing() -> None:
    noise = b": waiting\n\n" + frame("ping") + frame("news_of_the_day", x=1)
    delta = frame("content_block_delta", index=7, delta={"type": "text_delta", "text": "x"})
    assert parse(noise + START + noise + delta + END) == parse(START + END)


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        ("overloaded_error", Kind.OVERLOADED),
        ("rate_limit_error", Kind.RATE_LIMITED),
        ("timeout_error", Kind.UPSTREAM_TIMEOUT),
        ("api_error", Kind.UPSTREAM_ERROR),
    ],
)
def test_an_error_event_ends_the_answer_with_its_kind(kind: str, ours: Kind) -> None:
    error = failure(parse(START + frame("error", error={"type": kind, "message": "secret words"}) + END))
    assert error.kind is ours
    assert "secret" not in error.message


@pytest.mark.parametrize(
    "data", [b"", START, START + END[: END.index(b"event: message_stop")], b"event: x\ndata: {\n\n"]
)
def test_a_stream_without_its_end_is_a_failure(data: bytes) -> None:
    assert failure(parse(data)).kind is Kind.UPSTREAM_ERROR


def test_nothing_follows_the_end() -> None:
    events = parse(START + END + START + b"event: x\ndata: {\n\n")
    assert isinstance(events[-1], Ended)
    assert sum(isinstance(event, Ended) for event in events) == 1


def test_a_part_begins_before_its_deltas_and_no_delta_is_empty() -> None:
    events = parsed(ask(fresh(), built(True, **REQUESTS[1])))
    begun = set()
    for event in events:
        if isinstance(event, PartStarted):
            begun.add(event.index)
        if isinstance(event, PartDelta):
            assert event.index in begun
            assert event.text


@pytest.mark.parametrize(
    "message",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
        {"content": [], "stop_reason": None},
        {"stop_reason": "end_turn"},
        {"content": [{"type": "text"}], "stop_reason": "end_turn"},
        {"content": "text", "stop_reason": "end_turn"},
    ],
)
def test_an_answer_that_is_not_whole_is_an_error(message: Any) -> None:
    with pytest.raises(GatewayError) as caught:
        provider.parse_response(json.dumps(message).encode(), IDENTITY)
    assert caught.value.kind is Kind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("status", "message", "kind", "told"),
    [
        (400, "messages: at least one", Kind.INVALID_REQUEST, True),
        (400, "prompt is too long: 3 tokens > 2 maximum", Kind.CONTEXT_LENGTH, True),
        (400, "Output blocked by content filtering policy", Kind.CONTENT_FILTERED, True),
        (400, "Your credit balance is too low", Kind.UPSTREAM_REJECTED, False),
        (401, "invalid x-api-key", Kind.UPSTREAM_REJECTED, False),
        (402, "billing", Kind.UPSTREAM_REJECTED, False),
        (403, "permission", Kind.UPSTREAM_REJECTED, False),
        (404, "model: m", Kind.MODEL_NOT_FOUND, True),
        (413, "too big", Kind.TOO_LARGE, True),
        (429, "org 123 is limited", Kind.RATE_LIMITED, False),
        (500, "Internal server error", Kind.UPSTREAM_ERROR, False),
        (504, "slow", Kind.UPSTREAM_TIMEOUT, False),
        (529, "Overloaded", Kind.OVERLOADED, False),
    ],
)
def test_an_error_status_has_its_kind_and_says_only_what_is_the_callers(
    status: int, message: str, kind: Kind, told: bool
) -> None:
    body = json.dumps({"type": "error", "error": {"type": "x", "message": message}}).encode()
    error = provider.parse_error(status, {b"retry-after": b"7"}, body, "sk-ant-secret-0123456789")
    assert error.kind is kind
    assert (message in error.message, error.upstream_body == body) == (told, told)
    if status in (429, 500, 529):
        assert error.retry_after_seconds == 7
    leaky = body.replace(message.encode(), b"key sk-ant-secret-0123456789 is odd")
    shown = provider.parse_error(status, {}, leaky, "sk-ant-secret-0123456789")
    assert "secret" not in shown.message
    assert shown.upstream_body is None
