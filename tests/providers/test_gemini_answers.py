"""Gemini answers: streams and wholes say the same, however the bytes arrive; what breaks off is never a success."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.canonical.collect import collect
from pointsman.canonical.events import AnyEvent, Ended, Failed
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import ReasoningPart, TextPart, ToolCallPart
from pointsman.canonical.response import FinishReason, Response
from pointsman.errors import GatewayError, Kind
from pointsman.providers.gemini import StreamParser, parse_count_response, parse_error, parse_models, parse_response
from pointsman.testing import Behaviour, Gemini
from pointsman.testing.reply import Request
from pointsman.wire.gemini import FINISH
from pointsman.wire.gemini_schema import FINISH_REASONS

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
IDENTITY = Identity(request_id="r1", created=1)
THINKING = {"thinkingConfig": {"includeThoughts": True}}
TOOLS = [{"functionDeclarations": [{"name": "a", "parametersJsonSchema": {"properties": {"x": {}}}}, {"name": "b"}]}]
BODIES: dict[str, dict[str, Any]] = {
    "text": {},
    "thoughts": {"generationConfig": THINKING},
    "calls": {"text": "call the tool twice", "tools": TOOLS, "generationConfig": THINKING},
    "candidates": {"generationConfig": {"candidateCount": 2, "responseLogprobs": True, "logprobs": 1}},
    "grounded": {"text": "søk på nett", "tools": [{"googleSearch": {}}, {"urlContext": {}}]},
    "code": {"tools": [{"codeExecution": {}}]},
    "media": {"generationConfig": {"responseModalities": ["TEXT", "IMAGE", "AUDIO"]}},
    "cut": {"generationConfig": {"maxOutputTokens": 1}},
    "unsafe": {"text": "finish with SAFETY"},
    "blocked": {"text": "block with PROHIBITED_CONTENT"},
}


def answered(name: str, method: str, directives: str = "") -> bytes:
    """The simulator's own bytes, on Vertex AI so that everything is told."""
    body = dict(BODIES[name])
    text = body.pop("text", "hello wörld, how are you")
    body["contents"] = [{"role": "user", "parts": [{"text": text}]}]
    request = Request(
        method="POST",
        path=f"/v1/publishers/google/models/m:{method}",
        headers=(),
        body=json.dumps(body).encode(),
        http_version="1.1",
        keep_alive=True,
    )
    reply = Gemini().answer(request, Behaviour(cached_tokens=2))
    assert reply.status == 200
    return reply.body if reply.events is None else b"".join(event.data for event in reply.events)


def buffered(name: str) -> Response:
    return parse_response(answered(name, "generateContent"), IDENTITY)


def streamed(name: str) -> bytes:
    return answered(name, "streamGenerateContent?alt=sse")


def parsed(data: bytes, *cuts: int) -> list[AnyEvent]:
    parser = StreamParser(IDENTITY)
    events: list[AnyEvent] = []
    for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        events += parser.feed(data[start:end])
    return [*events, *parser.finish()]


def comparable(response: Response) -> dict[str, Any]:
    """Without what differs from one answer of the simulator to the next."""
    made: dict[str, Any] = msgspec.to_builtins(response)
    made.pop("id")
    made["created"] = made["created"] is not None
    made["extra"].pop("createTime", None)
    for choice in made["choices"]:
        for part in choice["parts"]:
            part.pop("id", None)
    return made


@pytest.mark.parametrize("name", list(BODIES))
def test_a_collected_stream_is_the_buffered_answer(name: str) -> None:
    assert comparable(collect(parsed(streamed(name)), "gemini")) == comparable(buffered(name))


@pytest.mark.parametrize("name", list(BODIES))
@PATIENT
@given(data=st.data())
def test_any_split_gives_the_same_events(name: str, data: st.DataObject) -> None:
    stream = STREAMS[name]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    assert parsed(stream, *cuts) == parsed(stream)


STREAMS = {name: streamed(name) for name in BODIES}


def test_every_byte_alone_gives_the_same_events() -> None:
    stream = STREAMS["calls"]
    assert parsed(stream, *range(1, len(stream))) == parsed(stream)


@pytest.mark.parametrize("name", list(BODIES))
def test_a_stream_without_its_last_chunk_failed(name: str) -> None:
    chunks = STREAMS[name].split(b"\r\n\r\n")[:-2]
    events = parsed(b"".join(chunk + b"\r\n\r\n" for chunk in chunks))
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Ended) for event in events)


def test_a_stream_that_is_cut_in_an_event_failed() -> None:
    assert isinstance(parsed(STREAMS["text"][:-3])[-1], Failed)


def test_nothing_follows_a_failure() -> None:
    parser = StreamParser(IDENTITY)
    assert isinstance(parser.feed(b"data: {nonsense\n\n")[-1], Failed)
    assert parser.feed(STREAMS["text"]) == []
    assert parser.finish() == []


def test_an_error_in_a_stream_has_its_kind() -> None:
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    failed = parsed(STREAMS["text"][:200].rsplit(b"data:")[0] + b"data: " + json.dumps(error).encode() + b"\n\n")[-1]
    assert isinstance(failed, Failed)
    assert failed.error.kind is Kind.OVERLOADED


@PATIENT
@given(st.binary(max_size=200) | st.sampled_from(sorted(STREAMS)).map(lambda name: STREAMS[name][:150]))
def test_no_bytes_make_the_parsers_raise_anything_but_our_errors(data: bytes) -> None:
    parsed(data)
    parsed(b"data: " + data + b"\n\n")
    with suppress(GatewayError):
        parse_response(data, IDENTITY)
    parse_error(400, {}, data, "secret")


def test_usage_counts_thoughts_as_output_and_tool_prompts_as_input() -> None:
    answer = {
        "candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 10,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 20,
            "toolUsePromptTokenCount": 5,
            "totalTokenCount": 42,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}, {"modality": "TEXT", "tokenCount": 7}],
        },
    }
    usage = parse_response(json.dumps(answer).encode(), IDENTITY).usage
    assert usage is not None
    assert usage.input_tokens + usage.output_tokens == 42
    assert usage.buckets() == {
        "input": 8, "cache_read": 4, "cache_write_5m": 0, "cache_write_1h": 0, "input_audio": 3,
        "output": 7, "reasoning": 20, "output_audio": 0, "output_image": 0,
    }  # fmt: skip


def test_parts_keep_their_order_kinds_and_signatures() -> None:
    parts = buffered("calls").choices[0].parts
    assert [type(part) for part in parts] == [ReasoningPart, ToolCallPart, ToolCallPart]
    assert [part.opaque is not None for part in parts] == [False, True, False]
    assert buffered("calls").choices[0].finish_reason is FinishReason.TOOL_CALLS
    text = buffered("thoughts").choices[0].parts[-1]
    assert isinstance(text, TextPart)
    assert text.opaque is not None


def test_sources_are_cited_with_their_places_in_characters() -> None:
    text = buffered("grounded").choices[0].parts[0]
    assert isinstance(text, TextPart)
    assert text.citations is not None
    assert text.citations[0].url == "https://example.com/a"
    assert (text.citations[0].start, text.citations[0].end) == (0, len(text.text))


@pytest.mark.parametrize("reason", sorted(FINISH_REASONS))
def test_every_finish_reason_is_understood_and_kept(reason: str) -> None:
    answer = {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": reason}]}
    choice = parse_response(json.dumps(answer).encode(), IDENTITY).choices[0]
    assert choice.finish_reason is FINISH.get(reason, FinishReason.ERROR)
    assert choice.native_finish_reason == reason


def test_a_blocked_prompt_is_a_filtered_answer() -> None:
    choice = buffered("blocked").choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (FinishReason.CONTENT_FILTER, "PROHIBITED_CONTENT")
    assert choice.parts == []


def test_an_answer_without_a_finish_reason_is_not_whole() -> None:
    with pytest.raises(GatewayError):
        parse_response(b'{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}', IDENTITY)


def refused(fault: str, method: str = "generateContent") -> GatewayError:
    request = Request(
        method="POST",
        path=f"/v1beta/models/m:{method}",
        headers=(("x-goog-api-key", "secret-key-0001"),),
        body=b"{}",
        http_version="1.1",
        keep_alive=True,
    )
    reply = Gemini().refuse(fault, request, Behaviour(retry_after=7))
    headers = {name.encode(): value.encode() for name, value in reply.headers}
    return parse_error(reply.status, headers, reply.body, "secret-key-0001")


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        ("unauthorized", Kind.UPSTREAM_REJECTED, 502),
        ("rate_limit", Kind.RATE_LIMITED, 429),
        ("rate_limit_bare", Kind.RATE_LIMITED, 429),
        ("http_500", Kind.UPSTREAM_ERROR, 502),
        ("http_503", Kind.OVERLOADED, 503),
        ("bad_request", Kind.INVALID_REQUEST, 400),
        ("context_length", Kind.CONTEXT_LENGTH, 400),
    ],
)
@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
def test_errors_get_their_kinds(fault: str, kind: Kind, status: int, method: str) -> None:
    error = refused(fault, method)
    assert (error.kind, error.status) == (kind, status)
    assert error.retry_after_seconds == (7.0 if fault == "rate_limit" else None)
    assert (error.upstream_body is None) == (kind in (Kind.UPSTREAM_REJECTED, Kind.UPSTREAM_ERROR, Kind.OVERLOADED))


def test_an_error_that_shows_the_key_is_not_passed_on() -> None:
    body = json.dumps({"error": {"code": 400, "message": "bad key secret-key-0001"}}).encode()
    error = parse_error(400, {}, body, "secret-key-0001")
    assert error.upstream_body is None
    assert "secret" not in error.message


def test_counts_and_models_are_read() -> None:
    assert parse_count_response(b'{"totalTokens": 31}') == 31
    page = Gemini(models=("a", "b"))
    request = Request(method="GET", path="/v1beta/models", headers=(), body=b"", http_version="1.1", keep_alive=True)
    assert parse_models(page.answer(request, Behaviour()).body) == ("a", "b")
