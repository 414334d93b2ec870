"""Answers of any upstream as Gemini clients get them: whole and streamed the same, strict for the official SDK."""

import json
from typing import Any

import msgspec
import pytest
from google.genai import types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.canonical.collect import collect, replay
from pointsman.canonical.events import ChoiceEnded, Ended, Failed, PartDelta, PartEnded, PartStarted, Started
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import (
    Citation,
    ImagePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.request import ReasoningOptions, Request
from pointsman.canonical.response import Choice, FinishReason, Response, TokenLogprob
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects import gemini
from pointsman.dialects.gemini import array
from pointsman.dialects.gemini.errors import STATUSES
from pointsman.errors import GatewayError, Kind
from pointsman.providers.gemini import StreamParser, parse_response

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=80)
IDENTITY = Identity(request_id="r1", created=1)
REQUEST = Request(wire="gemini", model="m", messages=[])
WORDS = st.text(min_size=1, max_size=9)
OWN = st.builds(Opaque, origin=st.just("gemini"), kind=st.just("thought_signature"), data=st.just("c2ln"))
OPAQUE = st.none() | OWN
PARTS = st.one_of(
    st.builds(TextPart, text=WORDS, opaque=OPAQUE),
    st.builds(ReasoningPart, text=WORDS, opaque=OPAQUE),
    st.builds(ReasoningPart, text=st.just(""), summary=st.lists(WORDS, min_size=1, max_size=3)),
    st.builds(ToolCallPart, id=WORDS, name=WORDS, arguments=st.sampled_from(['{"a":1}', "", "{}"]), opaque=OPAQUE),
    st.builds(RefusalPart, text=WORDS),
    st.builds(ImagePart, source=st.builds(Source, data=st.just("UE5H"), media_type=st.just("image/png"))),
)
USAGE = st.builds(
    TokenUsage,
    input_tokens=st.integers(5, 99),
    output_tokens=st.integers(9, 99),
    cache_read_tokens=st.integers(0, 5),
    reasoning_tokens=st.integers(0, 9),
)
LOGPROBS = st.none() | st.lists(st.builds(TokenLogprob, token=WORDS, logprob=st.just(-1.0)), min_size=1, max_size=2)
REASONS = st.sampled_from([reason for reason in FinishReason])


@st.composite
def responses(draw: st.DrawFn) -> Response:
    count = draw(st.integers(1, 2))
    choices = [
        Choice(
            index=index,
            parts=draw(st.lists(PARTS, max_size=4)),
            finish_reason=draw(REASONS),
            logprobs=draw(LOGPROBS),
        )
        for index in range(count)
    ]
    return Response(wire="anthropic", id="a1", model="claude", choices=choices, usage=draw(st.none() | USAGE))


def whole(response: Response, request: Request = REQUEST) -> Any:
    return json.loads(gemini.write_response(response, request, IDENTITY, Fidelity()))


def streamed(response: Response, request: Request = REQUEST) -> bytes:
    renderer = gemini.StreamRenderer(request, IDENTITY, Fidelity())
    return b"".join(renderer.feed(event) for event in replay(response))


def chunks_of(stream: bytes) -> list[Any]:
    return [json.loads(event.removeprefix(b"data: ")) for event in stream.split(b"\r\n\r\n") if event]


def comparable(response: Response) -> Any:
    return msgspec.to_builtins(response)


@PATIENT
@given(responses())
def test_a_streamed_answer_reads_like_the_whole_one(response: Response) -> None:
    parser = StreamParser(IDENTITY)
    read = collect([*parser.feed(streamed(response)), *parser.finish()], "gemini")
    body = gemini.write_response(response, REQUEST, IDENTITY, Fidelity())
    assert comparable(read) == comparable(parse_response(body, IDENTITY))


@PATIENT
@given(responses())
def test_the_array_holds_the_chunks_of_the_events(response: Response) -> None:
    renderer = array.StreamRenderer(REQUEST, IDENTITY, Fidelity())
    data = b"".join(renderer.feed(event) for event in replay(response))
    assert json.loads(data) == chunks_of(streamed(response))


@PATIENT
@given(responses())
def test_the_sdk_knows_every_answer(response: Response) -> None:
    for chunk in (whole(response), *chunks_of(streamed(response))):
        types.GenerateContentResponse.model_validate(chunk)


@pytest.mark.parametrize("reason", list(FinishReason))
def test_every_reason_has_a_word_of_googles(reason: FinishReason) -> None:
    answer = whole(Response(wire="anthropic", choices=[Choice(finish_reason=reason, native_finish_reason="end_turn")]))
    types.FinishReason(answer["candidates"][0]["finishReason"])


def test_usage_is_counted_as_google_counts() -> None:
    usage = TokenUsage(
        input_tokens=10, output_tokens=30, cache_read_tokens=4, reasoning_tokens=20, cache_write_tokens=3
    )
    fidelity = Fidelity()
    response = Response(wire="anthropic", choices=[Choice(finish_reason=FinishReason.STOP)], usage=usage)
    made = json.loads(gemini.write_response(response, REQUEST, IDENTITY, fidelity))["usageMetadata"]
    assert made == {
        "promptTokenCount": 10,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 10,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 40,
    }
    assert [note.path for note in fidelity.notes] == ["usage.cache_write_tokens"]


def test_usage_that_comes_after_the_end_of_the_choice_is_in_the_last_chunk() -> None:
    response = Response(
        wire="openai.chat",
        choices=[Choice(parts=[TextPart(text="a")], finish_reason=FinishReason.STOP)],
        usage=TokenUsage(input_tokens=1, output_tokens=2),
    )
    last = chunks_of(streamed(response))[-1]
    assert last["candidates"][0]["finishReason"] == "STOP"
    assert last["usageMetadata"]["totalTokenCount"] == 3


def test_a_call_whose_arguments_nobody_can_read_is_a_malformed_call() -> None:
    call = ToolCallPart(id="1", name="f", arguments='{"a":')
    response = Response(wire="openai.chat", choices=[Choice(parts=[call], finish_reason=FinishReason.TOOL_CALLS)])
    for candidate in (whole(response)["candidates"][0], chunks_of(streamed(response))[-1]["candidates"][0]):
        assert candidate["finishReason"] == "MALFORMED_FUNCTION_CALL"
        assert "content" not in candidate


def test_an_answer_that_broke_off_ends_with_an_error_and_no_finish_reason() -> None:
    renderer = gemini.StreamRenderer(REQUEST, IDENTITY, Fidelity())
    events: list[Any] = [
        Started(id="1"),
        PartStarted(0, 0, TextPart(text="")),
        PartDelta(0, 0, "so"),
        PartEnded(0, 0),
        ChoiceEnded(0, FinishReason.STOP),
        Failed(GatewayError(Kind.UPSTREAM_ERROR, "it broke")),
        Ended(),
    ]
    chunks = chunks_of(b"".join(renderer.feed(event) for event in events))
    assert chunks[-1]["error"]["code"] == 502
    assert not any("finishReason" in candidate for chunk in chunks for candidate in chunk.get("candidates", ()))


def test_parallel_calls_whose_arguments_arrive_mixed_stay_apart() -> None:
    renderer = gemini.StreamRenderer(REQUEST, IDENTITY, Fidelity())
    events: list[Any] = [
        Started(id="1"),
        PartStarted(0, 0, ToolCallPart(id="a", name="f")),
        PartStarted(0, 1, ToolCallPart(id="b", name="g")),
        PartDelta(0, 1, '{"y"'),
        PartDelta(0, 0, '{"x"'),
        PartDelta(0, 1, ":2}"),
        PartDelta(0, 0, ":1}"),
        PartEnded(0, 1),
        PartEnded(0, 0),
        ChoiceEnded(0, FinishReason.TOOL_CALLS),
        Ended(),
    ]
    chunks = chunks_of(b"".join(renderer.feed(event) for event in events))
    calls = [
        part["functionCall"] for chunk in chunks for part in chunk["candidates"][0].get("content", {}).get("parts", ())
    ]
    assert calls == [{"id": "a", "name": "f", "args": {"x": 1}}, {"id": "b", "name": "g", "args": {"y": 2}}]


def test_hidden_reasoning_stays_hidden() -> None:
    hidden = Request(wire="gemini", model="m", messages=[], reasoning=ReasoningOptions(exclude=True))
    parts: list[Any] = [ReasoningPart(text="hm"), TextPart(text="a")]
    response = Response(wire="anthropic", choices=[Choice(parts=parts, finish_reason=FinishReason.STOP)])
    assert whole(response, hidden)["candidates"][0]["content"]["parts"] == [{"text": "a"}]
    assert b"hm" not in streamed(response, hidden)


def test_sources_become_grounding_in_bytes() -> None:
    cited = TextPart(text="på nett", citations=[Citation(url="https://a.b/", title="A", start=3, end=7)])
    response = Response(wire="anthropic", choices=[Choice(parts=[cited], finish_reason=FinishReason.STOP)])
    for candidate in (whole(response)["candidates"][0], chunks_of(streamed(response))[-1]["candidates"][0]):
        assert candidate["groundingMetadata"] == {
            "groundingChunks": [{"web": {"uri": "https://a.b/", "title": "A"}}],
            "groundingSupports": [
                {"segment": {"startIndex": 4, "endIndex": 8, "text": "nett"}, "groundingChunkIndices": [0]}
            ],
        }


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_error_is_written_in_googles_shape(kind: Kind) -> None:
    error = GatewayError(kind, "words", param="contents", retry_after_seconds=2.5)
    made = json.loads(gemini.render_error(error, "r1"))["error"]
    assert (made["code"], made["message"], made["status"]) == (error.status, "words", STATUSES[kind])
    assert [detail["@type"].rpartition(".")[2] for detail in made["details"]] == [
        "ErrorInfo",
        "BadRequest",
        "RetryInfo",
    ]
    assert json.loads(gemini.render_stream_error(error, "r1").removeprefix(b"data: "))["error"] == made
    assert json.loads(array.render_error(error, "r1"))[0]["error"] == made
    assert json.loads(b"[{}" + array.render_stream_error(error, "r1"))[1]["error"] == made


@pytest.mark.parametrize(
    ("seconds", "told"), [(1, "1s"), (2.5, "2.5s"), (0.000_01, "0.00001s"), (2_592_000.0, "2592000s"), (100, "100s")]
)
def test_a_wait_is_told_as_a_duration_of_protobuf(seconds: float, told: str) -> None:
    error = GatewayError(Kind.RATE_LIMITED, "words", retry_after_seconds=seconds)
    details = json.loads(gemini.render_error(error, "r1"))["error"]["details"]
    assert details[-1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": told}


def test_models_and_counts_are_in_googles_shape() -> None:
    listed = json.loads(gemini.write_models(["a", "b"], "next"))
    assert [one["name"] for one in listed["models"]] == ["models/a", "models/b"]
    assert listed["nextPageToken"] == "next"
    assert json.loads(gemini.write_model("a"))["supportedGenerationMethods"] == ["generateContent", "countTokens"]
    assert types.CountTokensResponse.model_validate_json(gemini.write_count_response(3)).total_tokens == 3
