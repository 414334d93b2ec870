"""Answers of other APIs as Anthropic's clients read them: the SDK's own types are the judge."""

import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from anthropic_client import EVENTS, assert_known, assert_strict
from anthropic_passage import IDENTITY
from pointsman.canonical.collect import replay
from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    Ended,
    Failed,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    SummaryDelta,
    TranscriptDelta,
    UsageReported,
)
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.limits import Quota, Standing
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
from pointsman.canonical.request import Request
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects import anthropic as dialect
from pointsman.errors import GatewayError, Kind

REQUEST = Request(wire="anthropic", model="asked", messages=[])
SEALED = Opaque(origin="openai.responses", kind="encrypted", data="x" * 40, id="rs_1")
USAGE = TokenUsage(input_tokens=10, output_tokens=5, cache_read_tokens=4, cache_write_tokens=3, reasoning_tokens=2)


def response(*parts: AnyPart, reason: FinishReason = FinishReason.STOP, **members: Any) -> Response:
    choice = Choice(parts=list(parts), finish_reason=reason, native_finish_reason=members.pop("native", "stop"))
    return Response(wire="openai.chat", id="chatcmpl-1", model="m", choices=[choice], usage=USAGE, **members)


def written(answer: Response) -> tuple[Message, Fidelity]:
    fidelity = Fidelity()
    raw = dialect.write_response(answer, REQUEST, IDENTITY, fidelity)
    message = Message.model_validate_json(raw)
    assert_strict(message, raw.decode())
    return message, fidelity


def frames(events: list[AnyEvent]) -> tuple[list[tuple[str, Any]], Fidelity]:
    """The frames that a stream of ours gives, as (name, JSON)."""
    fidelity = Fidelity()
    renderer = dialect.StreamRenderer(REQUEST, IDENTITY, fidelity)
    text = b"".join(renderer.feed(event) for event in events).decode()
    found = []
    for frame in filter(None, text.split("\n\n")):
        name, data = frame.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found, fidelity


def accumulated(events: list[AnyEvent]) -> Message:
    """What the SDK's accumulator makes of a stream; every event is read strictly, and its name is its type."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for name, value in frames(events)[0]:
        assert value["type"] == name
        if name == "ping":
            continue
        event: RawMessageStreamEvent = EVENTS.validate_json(json.dumps(value), strict=True)
        assert_known(event)
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    assert isinstance(snapshot, Message)
    return snapshot


def contents(message: Message) -> list[Any]:
    return [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in message.content]


ANSWERS = [
    response(TextPart(text="Hello")),
    response(),
    response(
        TextPart(text="Look:"),
        ToolCallPart(id="call_1", name="look", arguments='{"at": "x"}'),
        ToolCallPart(id="call_2", name="look", arguments=""),
        reason=FinishReason.TOOL_CALLS,
    ),
    response(ToolCallPart(id="call_1", name="free", arguments='say "hi"\n', kind="custom")),
    response(ReasoningPart(text="Hm"), TextPart(text="So")),
    response(ReasoningPart(summary=["One", "Two"], opaque=SEALED), TextPart(text="So")),
    response(ReasoningPart(opaque=SEALED), TextPart(text="So")),
    response(ReasoningPart(text="Hm", opaque=Opaque(origin="anthropic", kind="signature", data="c2ln"))),
    response(ReasoningPart(opaque=Opaque(origin="anthropic", kind="redacted", data="ZGF0YQ=="))),
    response(ReasoningPart(opaque=Opaque(origin="anthropic", kind="signature", data="c2ln"))),
    response(RefusalPart(text="No."), reason=FinishReason.CONTENT_FILTER),
    response(TextPart(text="x", citations=[Citation(url="https://x", title="X"), Citation()])),
    response(AudioPart(source=Source(data="AAAA"), transcript="Said")),
    response(ImagePart(source=Source(data="AAAA")), TextPart(text="x")),
    response(NativePart(wire="gemini", type="executableCode", value={}), TextPart(text="x")),
    response(TextPart(text="cut"), reason=FinishReason.LENGTH, service_tier="default"),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_stream_of_an_answer_is_the_answer(answer: Response) -> None:
    whole, _ = written(answer)
    built = accumulated(list(replay(answer)))
    assert contents(built) == contents(whole)
    assert (built.stop_reason, built.id, built.model) == (whole.stop_reason, whole.id, whole.model)
    assert {**whole.usage.to_dict(), "cache_creation": None} == {**built.usage.to_dict(), "cache_creation": None}


def test_usage_is_told_apart_as_anthropic_does() -> None:
    usage = written(ANSWERS[0])[0].usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 4, 3)
    assert (usage.output_tokens, usage.output_tokens_details.thinking_tokens) == (5, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("reason", "native", "word"),
    [
        (FinishReason.STOP, "stop", "end_turn"),
        (FinishReason.STOP_SEQUENCE, None, "stop_sequence"),
        (FinishReason.LENGTH, "length", "max_tokens"),
        (FinishReason.CONTEXT_LENGTH, None, "model_context_window_exceeded"),
        (FinishReason.TOOL_CALLS, "tool_calls", "tool_use"),
        (FinishReason.CONTENT_FILTER, "content_filter", "refusal"),
        (FinishReason.REFUSAL, None, "refusal"),
        (FinishReason.PAUSE, None, "pause_turn"),
        (FinishReason.STOP, "end_turn", "end_turn"),
    ],
)
def test_every_end_has_anthropics_word(reason: FinishReason, native: str | None, word: str) -> None:
    answer = response(TextPart(text="x"), reason=reason, native=native)
    assert written(answer)[0].stop_reason == accumulated(list(replay(answer))).stop_reason == word


def test_a_forced_call_ends_with_tool_use() -> None:
    answer = response(ToolCallPart(id="call_1", name="look", arguments="{}"))
    assert written(answer)[0].stop_reason == accumulated(list(replay(answer))).stop_reason == "tool_use"


@pytest.mark.parametrize("reason", [FinishReason.ERROR, FinishReason.MALFORMED_CALL])
def test_an_answer_that_broke_is_never_a_success(reason: FinishReason) -> None:
    answer = response(TextPart(text="x"), reason=reason)
    with pytest.raises(GatewayError) as caught:
        written(answer)
    assert caught.value.kind is Kind.UPSTREAM_ERROR
    names = [name for name, _ in frames(list(replay(answer)))[0]]
    assert names[-1] == "error"
    assert "message_stop" not in names


def test_arguments_that_nobody_can_read_are_an_error() -> None:
    with pytest.raises(GatewayError) as caught:
        written(response(ToolCallPart(id="call_1", name="look", arguments='{"a')))
    assert caught.value.kind is Kind.UPSTREAM_ERROR


@pytest.mark.parametrize("part", [ReasoningPart(text="Hm", opaque=SEALED), ReasoningPart(opaque=SEALED)])
def test_foreign_state_comes_back_with_the_clients_next_request(part: ReasoningPart) -> None:
    answer = response(part, ToolCallPart(id="call_1", name="look", arguments="{}"))
    content = contents(written(answer)[0])
    assert content == contents(accumulated(list(replay(answer))))
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode()
    (back, _) = dialect.read_request(body, ClientCall()).messages[1].parts
    assert isinstance(back, ReasoningPart)
    assert (back.text, back.opaque) == (part.text, SEALED)


def test_no_signature_is_ever_empty() -> None:
    (block,) = contents(written(response(ReasoningPart(text="Hm")))[0])
    assert block["signature"]
    turns = [{"role": "assistant", "content": [block]}, {"role": "user", "content": "x"}]
    read = dialect.read_request(json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode(), ClientCall())
    assert read.messages[0].parts[0].opaque is None


def test_parts_that_overlap_are_written_one_after_the_other() -> None:
    events: list[AnyEvent] = [
        Started(id="x", model="m"),
        PartStarted(0, 0, ToolCallPart(id="a", name="f")),
        PartStarted(0, 1, ToolCallPart(id="b", name="g")),
        PartDelta(0, 1, '{"y":2}'),
        PartDelta(0, 0, '{"x":1}'),
        PartEnded(0, 0),
        PartEnded(0, 1),
        ChoiceEnded(0, FinishReason.TOOL_CALLS),
        UsageReported(USAGE),
        Ended(),
    ]
    assert [block["input"] for block in contents(accumulated(events))] == [{"x": 1}, {"y": 2}]


def test_summaries_and_late_state_stream_as_one_thought() -> None:
    events: list[AnyEvent] = [
        Started(),
        PartStarted(0, 0, ReasoningPart()),
        SummaryDelta(0, 0, 0, "One"),
        SummaryDelta(0, 0, 1, "Two"),
        SummaryDelta(0, 0, 1, "!"),
        OpaqueSet(0, 0, SEALED),
        PartEnded(0, 0),
        PartStarted(0, 1, AudioPart(source=Source())),
        PartDelta(0, 1, "AAAA"),
        TranscriptDelta(0, 1, "Said"),
        PartEnded(0, 1),
        ChoiceEnded(0, FinishReason.STOP),
        Ended(),
    ]
    thinking, said = contents(accumulated(events))
    assert thinking["thinking"] == "One\n\nTwo!"
    assert said["text"] == "Said"


def test_known_usage_stands_at_the_beginning() -> None:
    events = [
        Started(),
        UsageReported(USAGE),
        PartStarted(0, 0, TextPart(text="")),
        PartEnded(0, 0),
        ChoiceEnded(0, FinishReason.STOP),
        Ended(),
    ]
    (name, first), *_ = frames(events)[0]
    assert (name, first["message"]["usage"]["input_tokens"]) == ("message_start", 3)


def test_a_failure_closes_the_stream_with_an_error_event() -> None:
    error = GatewayError(Kind.OVERLOADED, "busy")
    found, _ = frames([Started(), PartStarted(0, 0, TextPart(text="x")), Failed(error), Ended()])
    assert found[-1] == (
        "error",
        {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}, "request_id": "req_1"},
    )


def test_what_is_lost_is_named() -> None:
    second = Choice(index=1, parts=[TextPart(text="y")], finish_reason=FinishReason.STOP)
    answer = response(
        ImagePart(source=Source(data="A")), extra={"citations": ["https://a.example"], "system_fingerprint": "fp"}
    )
    answer.choices.append(second)
    _, whole = written(answer)
    _, streamed = frames(list(replay(answer)))
    for fidelity in (whole, streamed):
        told = {note.path: note.action.value for note in fidelity.notes}
        assert told["content[0]"] == told["citations"] == "dropped"
        assert "system_fingerprint" not in told  # telemetry
        assert any(path.startswith("choices") for path in told)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_error_has_anthropics_shape(kind: Kind) -> None:
    error = GatewayError(kind, "Wrong.")
    body = json.loads(dialect.render_error(error, "req_1"))
    assert body["request_id"] == "req_1"
    assert body["error"]["message"] == "Wrong."
    assert body["error"]["type"].endswith(("_error", "request_too_large"))
    assert dialect.render_stream_error(error, "req_1").startswith(b"event: error\ndata: {")


def test_an_upstreams_own_error_is_passed_on_in_one_line() -> None:
    error = GatewayError(Kind.INVALID_REQUEST, "x", upstream_body=b'{\n "type": "error"\n}')
    assert dialect.render_error(error, "req_1") == error.upstream_body
    assert dialect.render_stream_error(error, "req_1") == b'event: error\ndata: {"type":"error"}\n\n'


def test_limits_and_lists_are_anthropics() -> None:
    at_us = 1_795_000_000_900_000
    standing = Standing(at_us=at_us, requests=Quota(10, 9, 5_000_000), tokens=Quota(100, 50, 90_100_000))
    assert dialect.render_limits(standing).decode() == (
        "anthropic-ratelimit-requests-limit: 10\r\nanthropic-ratelimit-requests-remaining: 9\r\n"
        "anthropic-ratelimit-requests-reset: 2026-11-18T11:06:46Z\r\n"
        "anthropic-ratelimit-tokens-limit: 100\r\nanthropic-ratelimit-tokens-remaining: 50\r\n"
        "anthropic-ratelimit-tokens-reset: 2026-11-18T11:08:11Z\r\n"
    )
    assert dialect.render_limits(Standing(at_us=at_us)) == b""
    cards = [dialect.ModelCard(name=name, created=1_700_000_000) for name in "abc"]

    def page(**query: str) -> Any:
        told = json.loads(dialect.write_models(cards, query))
        return [one["id"] for one in told["data"]], told["first_id"], told["last_id"], told["has_more"]

    assert page() == (["a", "b", "c"], "a", "c", False)
    assert page(limit="2") == (["a", "b"], "a", "b", True)
    assert page(limit="2", after_id="b") == (["c"], "c", "c", False)
    assert page(limit="1", before_id="c") == (["b"], "b", "b", True)
    assert page(after_id="c") == ([], None, None, False)
    for query in ({"limit": "0"}, {"limit": "x"}, {"after_id": "z"}):
        with pytest.raises(GatewayError):
            page(**query)
    assert json.loads(dialect.write_model(cards[0]))["created_at"] == "2023-11-14T22:13:20Z"
    assert json.loads(dialect.write_count_response(7)) == {"input_tokens": 7}


PARTS = st.lists(
    st.one_of(
        st.builds(TextPart, text=st.text(max_size=8)),
        st.builds(ReasoningPart, text=st.text(max_size=5), opaque=st.none() | st.just(SEALED)),
        st.builds(ToolCallPart, id=st.just("c"), name=st.just("f"), arguments=st.sampled_from(["", "{}", '{"a":1}'])),
        st.builds(
            ToolCallPart, id=st.just("c"), name=st.just("f"), arguments=st.text(max_size=5), kind=st.just("custom")
        ),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(PARTS)
def test_whatever_an_answer_holds_its_stream_builds_the_same(parts: list[AnyPart]) -> None:
    answer = response(*parts)
    assert contents(accumulated(list(replay(answer)))) == contents(written(answer)[0])
