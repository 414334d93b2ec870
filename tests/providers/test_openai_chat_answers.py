"""Answers of Chat Completions hosts, whole and streamed, read into our own words; the simulator speaks for them."""

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.chat_halves import IDENTITY, events_of, simulated

from pointsman.canonical.collect import collect
from pointsman.canonical.events import Ended, Failed, PartDelta, PartStarted
from pointsman.canonical.parts import (
    AudioPart,
    ImagePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.response import FinishReason, Response
from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai_chat import StreamParser, parse_error, parse_response
from pointsman.providers.think_tags import ThinkSplitter
from pointsman.testing import FLAVOURS

WIRE = "openai.chat"
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {}}}}}
NOTES: Any = {"type": "custom", "custom": {"name": "notes"}}
ASKED: dict[str, dict[str, Any]] = {
    "text": {},
    "tools": {"content": "call the tool", "tools": [TOOL]},
    "parallel tools": {"content": "call the tool twice", "tools": [TOOL, NOTES]},
    "choices": {"n": 3},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "refusal": {"content": "please refuse"},
    "filtered": {"content": "this will be filtered"},
    "length": {"max_completion_tokens": 1},
    "speech": {"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "pcm16"}},
    "sources": {"web_search_options": {}},
    "reasoning": {"reasoning_effort": "high"},
    "reasoning before a call": {"reasoning_effort": "high", "content": "call the tool", "tools": [TOOL]},
}


def asked(name: str, **options: Any) -> dict[str, Any]:
    body = dict(ASKED[name])
    return {
        "model": "m",
        "messages": [{"role": "user", "content": body.pop("content", "hello there")}],
        **body,
        **options,
    }


def streamed(name: str, flavour: str = "openai") -> bytes:
    return simulated(asked(name, stream=True, stream_options={"include_usage": True}), flavour)


def told(response: Response) -> Response:
    """An answer without what differs between two calls: its id, and what is derived from it."""
    response.id = None
    for choice in response.choices:
        for number, part in enumerate(choice.parts):
            if isinstance(part, ToolCallPart):
                part.id = str(number)
            if isinstance(part, AudioPart):
                part.id = part.expires_at = None
                choice.extra = None  # streams say late when the sound will be forgotten
    return response


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", ASKED)
def test_a_collected_stream_is_the_whole_answer(name: str, flavour: str) -> None:
    whole = parse_response(simulated(asked(name), flavour), IDENTITY)
    collected = collect(events_of(streamed(name, flavour)), WIRE)
    for answer in (whole, collected):
        answer.created = None
        answer.extra.pop("x_groq", None)
    assert told(collected) == told(whole)


@pytest.mark.parametrize("name", ASKED)
def test_every_cut_gives_the_same_events(name: str) -> None:
    stream = streamed(name, "deepseek")
    whole = events_of(stream)
    assert isinstance(whole[-1], Ended)
    for size in (1, 2, 3, 7, 64):
        assert events_of(stream, tuple(range(0, len(stream), size))) == whole
    assert events_of(stream.replace(b"\n", b"\r\n"), tuple(range(0, len(stream), 5))) == whole


def test_reasoning_content_is_kept_as_state_that_has_to_come_back() -> None:
    part = parse_response(simulated(asked("text"), "deepseek"), IDENTITY).choices[0].parts[0]
    said = "Thinking about: hello there"
    assert part == ReasoningPart(text=said, opaque=Opaque(origin=WIRE, kind="reasoning_content", data=said))


def test_openrouters_signature_belongs_to_its_maker() -> None:
    part = parse_response(simulated(asked("reasoning"), "openrouter"), IDENTITY).choices[0].parts[0]
    assert part.opaque is not None
    assert (part.opaque.origin, part.opaque.kind) == ("anthropic", "signature")


@pytest.mark.parametrize("flavour", ["think_tags", "mistral", "groq"])
def test_reasoning_is_found_wherever_a_host_has_it(flavour: str) -> None:
    parts = parse_response(simulated(asked("reasoning"), flavour), IDENTITY).choices[0].parts
    assert isinstance(parts[0], ReasoningPart)
    assert parts[0].text == "Thinking about: hello there"
    assert parts[1] == TextPart(text="echo: hello there")


def test_parts_of_all_kinds_are_read() -> None:
    calls = parse_response(simulated(asked("parallel tools")), IDENTITY).choices[0]
    assert [(part.name, part.kind) for part in calls.parts if isinstance(part, ToolCallPart)] == [
        ("weather", "function"),
        ("notes", "custom"),
    ]
    assert calls.finish_reason is FinishReason.TOOL_CALLS
    refused = parse_response(simulated(asked("refusal")), IDENTITY).choices[0]
    assert isinstance(refused.parts[0], RefusalPart)
    assert refused.finish_reason is FinishReason.REFUSAL
    speech = parse_response(simulated(asked("speech")), IDENTITY).choices[0].parts[0]
    assert isinstance(speech, AudioPart)
    assert speech.transcript == "echo: hello there"
    text = parse_response(simulated(asked("sources")), IDENTITY).choices[0].parts[0]
    assert isinstance(text, TextPart)
    assert [citation.url for citation in text.citations or ()] == ["https://example.com/source"]


def test_usage_is_read_with_its_parts() -> None:
    usage = parse_response(simulated(asked("reasoning"), "deepseek"), IDENTITY).usage
    assert usage is not None
    assert (usage.input_tokens, usage.cache_read_tokens, usage.reasoning_tokens) == (90, 64, 4)
    assert sum(usage.buckets().values()) == usage.input_tokens + usage.output_tokens


def chunk(delta: dict[str, Any], reason: str | None = None, **rest: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps({"id": "x", "model": "m", "choices": [choice], **rest}).encode() + b"\n\n"


def call(**members: Any) -> dict[str, Any]:
    return {"tool_calls": [members]}


@pytest.mark.parametrize(
    "deltas",
    [
        [  # mixed
            call(index=0, id="a", function={"name": "f", "arguments": ""}),
            call(index=1, id="b", function={"name": "g", "arguments": ""}),
            call(index=0, function={"arguments": '{"x"'}),
            call(index=1, function={"arguments": "{"}),
            call(index=0, function={"arguments": ":1}"}),
            call(index=1, function={"arguments": "}"}),
        ],
        [  # all of them at index 0
            call(index=0, id="a", function={"name": "f", "arguments": '{"x":1}'}),
            call(index=0, id="b", function={"name": "g", "arguments": "{}"}),
        ],
        [  # without an index, whole
            call(id="a", function={"name": "f", "arguments": '{"x":1}'}),
            call(id="b", function={"name": "g", "arguments": "{}"}),
        ],
        [  # the name after the arguments began, ids repeated
            call(index=0, id="a", function={"arguments": '{"x"'}),
            call(index=0, id="a", function={"name": "f", "arguments": ":1}"}),
            call(index=1, id="b", function={"name": "g", "arguments": "{"}),
            call(index=1, id="b", function={"arguments": "}"}),
        ],
    ],
)
def test_parallel_calls_never_collapse(deltas: list[dict[str, Any]]) -> None:
    stream = b"".join(chunk(delta) for delta in deltas) + chunk({}, "tool_calls") + b"data: [DONE]\n\n"
    parts = collect(events_of(stream), WIRE).choices[0].parts
    found = [(part.id, part.name, part.arguments) for part in parts if isinstance(part, ToolCallPart)]
    assert found == [("a", "f", '{"x":1}'), ("b", "g", "{}")]


def test_a_call_without_an_id_gets_the_same_one_every_time() -> None:
    stream = chunk(call(index=0, function={"name": "f", "arguments": "{}"}), "tool_calls")
    first, second = (collect(events_of(stream), WIRE).choices[0].parts[0] for _ in range(2))
    assert isinstance(first, ToolCallPart)
    assert first == second
    assert first.id.startswith("call_")


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        chunk({"content": "a"}),
        chunk({"content": "a"}) + b'data: {"id',
        chunk({"content": "a"}, "stop") + b'data: {"id',
        chunk({"content": "a"}) + b"data: nonsense\n\n",
        chunk({"content": "a"}) + b"data: []\n\n",
        chunk({"content": "a"}) + b'data: {"error": {"message": "secret words"}}\n\n',
        chunk({"content": 5, "refusal": 6}),
        b"data: [DONE]\n\n",
    ],
)
def test_what_is_not_whole_fails_and_says_nothing_more(stream: bytes) -> None:
    parser = StreamParser(IDENTITY)
    found = [*parser.feed(stream), *parser.finish(), *parser.feed(chunk({"content": "late"})), *parser.finish()]
    assert isinstance(found[-1], Failed)
    assert found[-1].error.kind is Kind.UPSTREAM_ERROR
    assert "secret" not in found[-1].error.message
    assert not any(isinstance(event, Ended) for event in found)


@pytest.mark.parametrize("last", [b"data: [DONE]\n\n", b""])
def test_a_finish_reason_or_done_is_an_end(last: bytes) -> None:
    assert isinstance(events_of(chunk({"content": "a"}, "stop") + last)[-1], Ended)


def test_done_without_a_reason_ends_what_was_begun() -> None:
    answer = collect(events_of(chunk({"content": "a"}) + b"data: [DONE]\n\n"), WIRE)
    assert answer.choices[0].finish_reason is FinishReason.STOP
    assert answer.choices[0].native_finish_reason is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "context_length_exceeded", "message": "x"}, Kind.CONTEXT_LENGTH),
        ({"message": "This model's maximum context length is 10 tokens"}, Kind.CONTEXT_LENGTH),
        ({"code": "content_filter"}, Kind.CONTENT_FILTERED),
        ({"code": 429, "message": "slow down"}, Kind.RATE_LIMITED),
        ({"type": "overloaded_error"}, Kind.OVERLOADED),
        ("boom", Kind.UPSTREAM_ERROR),
    ],
)
def test_an_error_inside_a_stream_has_its_kind(error: Any, kind: Kind) -> None:
    last = events_of(chunk({"content": "a"}) + b"data: " + json.dumps({"error": error}).encode() + b"\n\n")[-1]
    assert isinstance(last, Failed)
    assert last.error.kind is kind
    with pytest.raises(GatewayError) as failed:
        parse_response(json.dumps({"error": error}).encode(), IDENTITY)
    assert failed.value.kind is kind


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"choices": 5}', b'{"choices": [5]}', b'{"choices": [{"message": 5}]}']
)
def test_what_is_no_answer_is_the_upstreams_error(body: bytes) -> None:
    with pytest.raises(GatewayError) as failed:
        parse_response(body, IDENTITY)
    assert failed.value.kind is Kind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("status", "body", "kind", "shown"),
    [
        (400, {"error": {"message": "no", "param": "top_p"}}, Kind.INVALID_REQUEST, 400),
        (422, {"message": {"detail": [{"loc": ["body", "x"], "msg": "extra"}]}}, Kind.INVALID_REQUEST, 422),
        (400, {"error": {"code": "context_length_exceeded", "message": "long"}}, Kind.CONTEXT_LENGTH, 400),
        (400, {"error": {"code": "content_filter", "message": "no"}}, Kind.CONTENT_FILTERED, 400),
        (403, {"error": {"message": "flagged", "metadata": {"reasons": ["x"]}}}, Kind.CONTENT_FILTERED, 403),
        (401, {"error": {"message": "key sk-secret"}}, Kind.UPSTREAM_REJECTED, 502),
        (402, {"error": {"message": "pay"}}, Kind.UPSTREAM_REJECTED, 502),
        (404, {"error": {"message": "no model"}}, Kind.MODEL_NOT_FOUND, 404),
        (413, {}, Kind.TOO_LARGE, 413),
        (429, {"error": {"message": "slow"}}, Kind.RATE_LIMITED, 429),
        (500, {"error": {"message": "sk-secret"}}, Kind.UPSTREAM_ERROR, 502),
        (503, {}, Kind.OVERLOADED, 503),
        (529, {}, Kind.OVERLOADED, 503),
    ],
)  # fmt: skip
def test_errors_have_their_kinds(status: int, body: dict[str, Any], kind: Kind, shown: int) -> None:
    error = parse_error(status, {b"retry-after": b"3"}, json.dumps(body).encode(), "sk-secret-0123456789")
    assert (error.kind, error.status) == (kind, shown)
    assert "sk-secret" not in error.message
    if status in (429, 503):
        assert error.retry_after_seconds == 3


def test_an_upstreams_words_are_kept_unless_they_hold_the_secret() -> None:
    body = json.dumps({"error": {"message": "bad top_p", "param": "top_p"}}).encode()
    error = parse_error(400, {}, body, "sk-secret-0123456789")
    assert (error.message, error.param, error.upstream_body) == ("bad top_p", "top_p", body)
    body = json.dumps({"error": {"message": "key sk-secret-0123456789 has no access"}}).encode()
    error = parse_error(400, {}, body, "sk-secret-0123456789")
    assert "sk-secret" not in error.message
    assert error.upstream_body is None


def test_an_image_of_an_answer_is_a_part() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    stream = chunk({"content": "see"}) + chunk({"images": [image]}, "stop")
    parts = collect(events_of(stream), WIRE).choices[0].parts
    assert isinstance(parts[1], ImagePart)
    assert parts[1].source.data == "AAAA"


TEXTS = st.text(alphabet="<>/think a\n", max_size=40)


@settings(max_examples=200, deadline=None)
@given(
    text=st.one_of(TEXTS, st.builds(lambda a, b: f"<think>{a}</think>{b}", TEXTS, TEXTS)),
    cuts=st.sets(st.integers(0, 50)),
)
def test_think_tags_are_found_however_the_text_is_cut(text: str, cuts: set[int]) -> None:
    def split(pieces: list[str]) -> tuple[str, str]:
        splitter = ThinkSplitter()
        found = [one for piece in pieces for one in splitter.feed(piece)] + splitter.finish()
        assert all(piece for _, piece in found)
        return "".join(p for t, p in found if t), "".join(p for t, p in found if not t)

    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert split(pieces) == split([text])
    if not text.lstrip().startswith("<think>") and not "<think>".startswith(text.lstrip()):
        assert split([text]) == ("", text)


NAMES = (
    "choices", "index", "delta", "content", "tool_calls", "function", "name", "arguments", "id", "finish_reason",
    "usage", "prompt_tokens", "reasoning_details", "type", "text", "audio", "images", "error", "logprobs", "model",
)  # fmt: skip
DELTAS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=150, deadline=None)
@given(values=st.lists(DELTAS, max_size=4), cut=st.integers(0, 200))
def test_whatever_an_upstream_streams_is_read_or_fails(values: list[Any], cut: int) -> None:
    stream = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)
    whole = events_of(stream)
    assert isinstance(whole[-1], Ended | Failed)
    again = events_of(stream, (min(cut, len(stream)),))
    assert [type(event) for event in again] == [type(event) for event in whole]
    for value in values:
        with suppress(GatewayError):
            parse_response(json.dumps(value).encode(), IDENTITY)


def test_parts_start_before_their_deltas_and_end_once() -> None:
    started: set[tuple[int, int]] = set()
    for event in events_of(streamed("parallel tools")):
        if isinstance(event, PartStarted):
            started.add((event.choice, event.index))
        if isinstance(event, PartDelta):
            assert (event.choice, event.index) in started
            assert event.text
