"""Answers in our own words, written for Chat Completions clients: the official SDK and our own reader judge them."""

import json
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion import Completion

from pointsman.canonical.collect import collect, replay
from pointsman.canonical.events import (
    ChoiceEnded,
    Ended,
    Failed,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    UsageReported,
)
from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Citation,
    ImagePart,
    NativePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.request import Request, Tool
from pointsman.canonical.response import Choice, FinishReason, Response, TokenLogprob
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects import openai_chat, openai_completions
from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai_chat import StreamParser, parse_response

IDENTITY = Identity(request_id="req-1", created=1_800_000_000)
USAGE = TokenUsage(input_tokens=90, output_tokens=12, cache_read_tokens=64, reasoning_tokens=4)
SIGNED = Opaque(origin="anthropic", kind="signature", data="sig")


def request(**members: Any) -> Request:
    return Request(wire="openai.chat", model="asked", messages=[], include_usage=True, **members)


def response(*parts: AnyPart, reason: FinishReason = FinishReason.STOP, **members: Any) -> Response:
    choice = Choice(parts=list(parts), finish_reason=reason, native_finish_reason="end_turn")
    return Response(wire="anthropic", id="msg_1", model="claude", choices=[choice], usage=USAGE, **members)


def whole(answer: Response, asked: Request | None = None) -> tuple[dict[str, Any], Fidelity]:
    fidelity = Fidelity()
    written = openai_chat.write_response(answer, asked or request(), IDENTITY, fidelity)
    body: dict[str, Any] = json.loads(written)
    return body, fidelity


def stream(answer: Response, asked: Request | None = None) -> bytes:
    renderer = openai_chat.StreamRenderer(asked or request(), IDENTITY, Fidelity())
    return b"".join(renderer.feed(event) for event in replay(answer))


def chunks(data: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in data.decode().split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def unknown(value: object) -> Iterator[str]:
    """Members that the SDK doesn't know, but for those that other hosts made common."""
    if isinstance(value, pydantic.BaseModel):
        yield from set(value.model_extra or ()) - {"reasoning_content", "reasoning_details", "images", "annotations"}
        for name in type(value).model_fields:
            yield from unknown(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from unknown(item)


ANSWERS: dict[str, Response] = {
    "text": response(TextPart(text="hello")),
    "empty": response(),
    "reasoning": response(ReasoningPart(text="hm", opaque=SIGNED), TextPart(text="hello")),
    "calls": response(
        TextPart(text="let me see"),
        ToolCallPart(id="c1", name="f", arguments='{"a": 1}'),
        ToolCallPart(id="c2", name="g", arguments=""),
        reason=FinishReason.TOOL_CALLS,
    ),
    "a call alone": response(ToolCallPart(id="c1", name="f", arguments="{}"), reason=FinishReason.TOOL_CALLS),
    "refusal": response(RefusalPart(text="no"), reason=FinishReason.REFUSAL),
    "length": response(TextPart(text="hel"), reason=FinishReason.LENGTH),
    "filtered": response(TextPart(text="h"), reason=FinishReason.CONTENT_FILTER),
    "speech": response(AudioPart(source=Source(data="AAAA"), id="audio_1", transcript="hi", expires_at=1_800_003_600)),
    "sources": response(
        TextPart(text="hello", citations=[Citation(url="https://example.com", title="t", start=0, end=5)])
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_sdk_reads_every_answer_strictly(name: str) -> None:
    body, _ = whole(ANSWERS[name])
    parsed = ChatCompletion.model_validate_json(json.dumps(body), strict=True)
    assert not set(unknown(parsed))
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 102


@pytest.mark.parametrize("name", ANSWERS)
def test_the_sdk_reads_every_chunk_strictly(name: str) -> None:
    parsed = [
        ChatCompletionChunk.model_validate_json(json.dumps(one), strict=True) for one in chunks(stream(ANSWERS[name]))
    ]
    for chunk in parsed:
        assert not {extra for extra in unknown(chunk) if extra != "audio"}
    assert parsed[-1].choices == []
    assert parsed[-1].usage is not None
    assert [chunk.choices[0].finish_reason for chunk in parsed[:-1]].count(None) == len(parsed) - 2
    assert parsed[0].choices[0].delta.role == "assistant"


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_says_what_the_whole_answer_says(name: str) -> None:
    parser = StreamParser(IDENTITY)
    streamed = collect([*parser.feed(stream(ANSWERS[name])), *parser.finish()], "openai.chat")
    buffered = parse_response(json.dumps(whole(ANSWERS[name])[0]).encode(), IDENTITY)
    for answer in (streamed, buffered):
        for choice in answer.choices:
            choice.extra = None
            for part in choice.parts:
                if isinstance(part, AudioPart):
                    part.expires_at = None
    assert streamed == buffered


@pytest.mark.parametrize("name", ANSWERS)
def test_what_was_written_is_read_back(name: str) -> None:
    back = parse_response(json.dumps(whole(ANSWERS[name])[0]).encode(), IDENTITY)
    assert back.usage == USAGE
    assert back.choices[0].finish_reason == ANSWERS[name].choices[0].finish_reason
    expected = ANSWERS[name].choices[0].parts
    assert [type(part) for part in back.choices[0].parts] == [type(part) for part in expected]
    for part, other in zip(back.choices[0].parts, expected, strict=True):
        assert part.opaque == other.opaque
        if isinstance(part, ToolCallPart) and isinstance(other, ToolCallPart):
            assert (part.id, part.name, part.arguments) == (other.id, other.name, other.arguments or "{}")
        if isinstance(part, TextPart | ReasoningPart | RefusalPart):
            assert part.text == getattr(other, "text", None)


def test_usage_comes_only_when_it_was_asked_for() -> None:
    asked = request()
    asked.include_usage = None
    found = chunks(stream(ANSWERS["text"], asked))
    assert all("usage" not in chunk for chunk in found)
    assert all(chunk["usage"] is None for chunk in chunks(stream(ANSWERS["text"]))[:-1])


def test_a_broken_stream_ends_with_an_error_and_no_done() -> None:
    renderer = openai_chat.StreamRenderer(request(), IDENTITY, Fidelity())
    out = b"".join(
        renderer.feed(event)
        for event in (
            Started(),
            PartStarted(0, 0, TextPart(text="")),
            PartDelta(0, 0, "hel"),
            Failed(GatewayError(Kind.UPSTREAM_ERROR, "broke off")),
            PartDelta(0, 0, "late words"),
            Ended(),
        )
    )
    last = json.loads(out.decode().strip().split("\n\n")[-1][6:])
    assert last["error"]["message"] == "broke off"
    assert b"[DONE]" not in out
    assert b"late words" not in out


def test_parallel_calls_keep_their_places_when_their_pieces_are_mixed() -> None:
    renderer = openai_chat.StreamRenderer(request(), IDENTITY, Fidelity())
    events: list[Any] = [
        Started(id="x", model="m"),
        PartStarted(0, 0, ToolCallPart(id="a", name="f")),
        PartStarted(0, 1, ToolCallPart(id="b", name="g")),
        PartDelta(0, 1, "{"),
        PartDelta(0, 0, '{"x":'),
        PartDelta(0, 1, "}"),
        PartDelta(0, 0, "1}"),
        PartEnded(0, 0),
        PartEnded(0, 1),
        ChoiceEnded(0, FinishReason.TOOL_CALLS),
        UsageReported(USAGE),
        Ended(),
    ]
    calls: dict[int, str] = {}
    for chunk in chunks(b"".join(renderer.feed(event) for event in events)):
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls", ()):
                calls[call["index"]] = calls.get(call["index"], "") + call["function"]["arguments"]
    assert calls == {0: '{"x":1}', 1: "{}"}


def test_a_custom_tools_call_is_unwrapped_where_the_upstream_had_to_have_a_function() -> None:
    asked = request(tools=[Tool(kind="custom", name="notes")])
    answer = response(
        ToolCallPart(id="c1", name="notes", arguments='{"input": "free text"}'), reason=FinishReason.TOOL_CALLS
    )
    call = whole(answer, asked)[0]["choices"][0]["message"]["tool_calls"][0]
    assert call == {"id": "c1", "type": "custom", "custom": {"name": "notes", "input": "free text"}}
    deltas = [choice["delta"] for chunk in chunks(stream(answer, asked)) for choice in chunk["choices"]]
    assert [delta["tool_calls"] for delta in deltas if "tool_calls" in delta] == [[{"index": 0, **call}]]


def test_legacy_clients_get_a_function_call() -> None:
    asked = request(tools=[Tool(kind="function", name="f")], paths={"tools": "functions"})
    choice = whole(ANSWERS["a call alone"], asked)[0]["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"
    found = chunks(stream(ANSWERS["a call alone"], asked))
    calls = [one["choices"][0]["delta"].get("function_call", {}) for one in found[:-1]]
    assert "".join(call.get("arguments", "") for call in calls) == "{}"
    _, fidelity = whole(ANSWERS["calls"], asked)
    assert fidelity.notes[0].path == "response.tool_calls"


def test_foreign_state_goes_to_the_client_so_that_it_can_come_back() -> None:
    redacted = Opaque(origin="anthropic", kind="redacted", data="dark")
    answer = response(
        ReasoningPart(text="hm", opaque=SIGNED),
        ReasoningPart(opaque=redacted),
        ToolCallPart(
            id="c1", name="f", arguments="{}", opaque=Opaque(origin="gemini", kind="thought_signature", data="ts")
        ),
    )
    message = whole(answer)[0]["choices"][0]["message"]
    back = openai_chat.read_request(
        json.dumps({"model": "m", "messages": [message | {"role": "assistant"}]}).encode(), ClientCall()
    )
    assert [part.opaque for part in back.messages[0].parts] == [part.opaque for part in answer.choices[0].parts]
    deltas = [choice["delta"] for chunk in chunks(stream(answer)) for choice in chunk["choices"]]
    details = [one for delta in deltas for one in delta.get("reasoning_details", ())]
    assert [one.get("signature") or one.get("data") for one in details] == ["sig", "dark"]
    assert details[0]["text"] == "hm"


def test_every_piece_of_a_streamed_call_has_its_function() -> None:
    signed = Opaque(origin="gemini", kind="thought_signature", data="ts")
    call = ToolCallPart(id="c1", name="f", arguments='{"a":1}', opaque=signed)
    pieces = [
        piece
        for chunk in chunks(stream(response(call)))
        for choice in chunk["choices"]
        for piece in choice["delta"].get("tool_calls", ())
    ]
    assert any("extra_content" in piece for piece in pieces)
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"a":1}'


def test_what_has_no_place_is_named() -> None:
    native = NativePart(wire="anthropic", type="server_tool_use", value={})
    _, fidelity = whole(response(native, extra={"container": 1}, reason=FinishReason.PAUSE))
    assert {(note.path, note.action) for note in fidelity.notes} == {
        ("response.server_tool_use", Action.DROPPED),
        ("response.container", Action.DROPPED),
        ("response.finish_reason", Action.APPROXIMATED),
    }


def test_an_answer_of_the_same_api_keeps_what_it_said_beyond_our_words() -> None:
    raw = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "system_fingerprint": "fp",
        "prompt_filter_results": [1],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a", "refusal": None, "novel": 7},
                "logprobs": None,
                "finish_reason": "stop",
                "content_filter_results": {"hate": {}},
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.5},
    }
    answer = parse_response(json.dumps(raw).encode(), IDENTITY)
    body, fidelity = whole(answer)
    assert not fidelity.notes
    usage = body.pop("usage")
    assert usage["cost"] == 0.5
    raw.pop("usage")
    assert body == raw


def test_logprobs_and_pictures_come_out() -> None:
    token = TokenLogprob("a", -0.5, [97], [TokenLogprob("a", -0.5, [97])])
    answer = response(TextPart(text="a"), ImagePart(source=Source(data="AAAA", media_type="image/png")))
    answer.choices[0].logprobs = [token]
    choice = whole(answer)[0]["choices"][0]
    assert choice["message"]["images"][0]["image_url"]["url"] == "data:image/png;base64,AAAA"
    back = parse_response(json.dumps(whole(answer)[0]).encode(), IDENTITY)
    assert back.choices[0].logprobs == [token]
    parser = StreamParser(IDENTITY)
    streamed = collect([*parser.feed(stream(answer)), *parser.finish()], "openai.chat")
    assert streamed.choices[0].logprobs == [token]


PARTS = st.one_of(
    st.builds(TextPart, text=st.text(min_size=1, max_size=8)),
    st.builds(ToolCallPart, id=st.sampled_from(["a", "b"]), name=st.just("f"), arguments=st.text(max_size=6)),
    st.builds(ReasoningPart, text=st.text(min_size=1, max_size=6)),
    st.builds(ReasoningPart, summary=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=2)),
)


@settings(max_examples=100, deadline=None)
@given(choices=st.lists(st.lists(PARTS, max_size=4), min_size=1, max_size=2))
def test_any_answer_says_the_same_whole_and_streamed(choices: list[list[AnyPart]]) -> None:
    answer = Response(wire="gemini", model="m", usage=USAGE)
    answer.choices = [
        Choice(index=index, parts=parts, finish_reason=FinishReason.STOP) for index, parts in enumerate(choices)
    ]
    body, _ = whole(answer)
    said: dict[int, dict[str, str]] = {}
    for chunk in chunks(stream(answer)):
        for choice in chunk["choices"]:
            held = said.setdefault(choice["index"], {})
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                held[name] = held.get(name, "") + (delta.get(name) or "")
            for call in delta.get("tool_calls", ()):
                held[f"call {call['index']}"] = held.get(f"call {call['index']}", "") + call["function"]["arguments"]
    for choice in body["choices"]:
        message, held = choice["message"], said[choice["index"]]
        assert held["content"] == (message["content"] or "")
        assert held["reasoning_content"].replace("\n", "") == message.get("reasoning_content", "").replace("\n", "")
        for place, call in enumerate(message.get("tool_calls", ())):
            assert held[f"call {place}"] == call["function"]["arguments"]


def legacy(**members: Any) -> Request:
    body = {"model": "m", "prompt": "Once", **members}
    return openai_completions.read_request(json.dumps(body).encode(), ClientCall())


def test_a_legacy_prompt_is_one_users_message() -> None:
    asked = legacy(max_tokens=5, logprobs=2, stop="x", best_of=3, suffix="end", stream_options={"include_usage": True})
    assert asked.messages[0].parts == [TextPart(text="Once", path="prompt")]
    assert (asked.logprobs, asked.top_logprobs, asked.stop, asked.max_output_tokens) == (True, 2, ["x"], 5)
    assert asked.extra == {"best_of": 3, "suffix": "end"}


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1], [2]]])
def test_several_prompts_and_tokens_are_refused_by_name(prompt: Any) -> None:
    with pytest.raises(GatewayError) as refused:
        legacy(prompt=prompt)
    assert (refused.value.kind, refused.value.param) == (Kind.UNSUPPORTED, "prompt")


def test_a_legacy_answer_is_text_with_the_prompt_before_it_when_asked() -> None:
    asked = legacy(echo=True, stream_options={"include_usage": True})
    answer = response(ReasoningPart(text="hm"), TextPart(text=" upon"), reason=FinishReason.LENGTH)
    fidelity = Fidelity()
    written = openai_completions.write_response(answer, asked, IDENTITY, fidelity)
    parsed = Completion.model_validate_json(written, strict=True)
    assert (parsed.choices[0].text, parsed.choices[0].finish_reason) == ("Once upon", "length")
    assert fidelity.notes[0].path == "response.ReasoningPart"
    renderer = openai_completions.StreamRenderer(asked, IDENTITY, Fidelity())
    found = chunks(b"".join(renderer.feed(event) for event in replay(answer)))
    assert "".join(choice["text"] for chunk in found for choice in chunk["choices"]) == "Once upon"
    assert found[-1]["usage"]["total_tokens"] == 102
    for chunk in found:
        for choice in chunk["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"  # the SDK's type knows no null here
        Completion.model_validate(chunk, strict=True)


def test_state_that_comes_after_a_call_is_a_piece_that_the_sdk_takes() -> None:
    thought = Opaque(origin="gemini", kind="thought_signature", data="sig")
    renderer = openai_chat.StreamRenderer(request(), IDENTITY, Fidelity())
    renderer.feed(PartStarted(0, 0, ToolCallPart(id="call_1", name="look", arguments="{}")))
    piece = json.loads(renderer.feed(OpaqueSet(0, 0, thought)).removeprefix(b"data: "))
    [call] = piece["choices"][0]["delta"]["tool_calls"]
    assert call["function"] == {"arguments": ""}
    assert "extra_content" in call
