"""Answers as streams and as wholes are the same thing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.canonical.collect import Collector, collect, replay
from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    Ended,
    Failed,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
)
from pointsman.canonical.parts import (
    AudioPart,
    Citation,
    NativePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.response import Choice, FinishReason, Response, TokenLogprob
from pointsman.canonical.sequence import Sequencer
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind

TEXTS = st.text(max_size=20)
OPAQUE = st.builds(Opaque, origin=st.just("anthropic"), kind=st.just("signature"), data=st.text(min_size=1, max_size=9))
PARTS = st.one_of(
    st.builds(
        TextPart,
        text=TEXTS,
        citations=st.none() | st.lists(st.builds(Citation, url=TEXTS), min_size=1, max_size=2),
        opaque=st.none() | OPAQUE,
    ),
    st.builds(
        ReasoningPart,
        text=TEXTS,
        summary=st.none() | st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=3),
        opaque=st.none() | OPAQUE,
    ),
    st.builds(ToolCallPart, id=st.just("call_1"), name=st.just("look"), arguments=TEXTS, opaque=st.none() | OPAQUE),
    st.builds(RefusalPart, text=TEXTS),
    st.builds(AudioPart, source=st.builds(Source, data=st.just("AAAA")), transcript=st.none() | TEXTS),
    st.builds(NativePart, wire=st.just("gemini"), type=st.just("executableCode"), value=st.just({"code": "1"})),
)
CHOICES = st.lists(st.lists(PARTS, max_size=4), min_size=1, max_size=3)


def response_of(choices: list[list[object]]) -> Response:
    return Response(
        wire="anthropic",
        id="msg_1",
        model="m",
        created=5,
        choices=[
            Choice(
                index=index,
                parts=parts,
                finish_reason=FinishReason.STOP,
                native_finish_reason="end_turn",
                logprobs=[TokenLogprob("a", -0.5)] if index == 0 else None,
            )
            for index, parts in enumerate(choices)
        ],
        usage=TokenUsage(input_tokens=3, output_tokens=4),
        extra={"native": 1},
    )


@given(CHOICES)
def test_a_replayed_answer_collects_to_itself(choices: list[list[object]]) -> None:
    # A choice without parts or logprobs shows in a stream by its end alone.
    response = response_of(choices)
    assert collect(replay(response), "anthropic") == response


@given(CHOICES)
def test_collecting_leaves_the_events_as_they_were(choices: list[list[object]]) -> None:
    events = list(replay(response_of(choices)))
    before = msgspec.json.encode([str(event) for event in events])
    collect(events, "anthropic")
    assert msgspec.json.encode([str(event) for event in events]) == before


def calls(count: int, interleaving: list[int]) -> list[AnyEvent]:
    """A choice with ``count`` tool calls whose argument pieces come in the order ``interleaving``."""
    events: list[AnyEvent] = [
        PartStarted(0, index, ToolCallPart(id=f"call_{index}", name="look")) for index in range(count)
    ]
    events += [PartDelta(0, piece % count, f"<{number}>") for number, piece in enumerate(interleaving)]
    events += [PartEnded(0, index) for index in range(count)]
    return [Started(), *events, ChoiceEnded(0, FinishReason.TOOL_CALLS), Ended()]


@given(st.integers(1, 4), st.lists(st.integers(0, 3), max_size=20))
def test_a_sequencer_loses_nothing_and_leaves_one_part_open_at_a_time(count: int, interleaving: list[int]) -> None:
    events, sequencer = calls(count, interleaving), Sequencer()
    ordered = [out for event in events for out in sequencer.feed(event)]
    assert sorted(map(str, ordered)) == sorted(map(str, events))
    assert collect(ordered, "openai.chat") == collect(events, "openai.chat")
    open_part: int | None = None
    for event in ordered:
        match event:
            case PartStarted():
                assert open_part is None
                open_part = event.index
            case PartDelta():
                assert open_part == event.index
            case PartEnded():
                assert open_part == event.index
                open_part = None


def test_a_sequencer_holds_nothing_back_when_parts_follow_each_other() -> None:
    sequencer = Sequencer()
    for event in replay(response_of([[TextPart(text="a"), TextPart(text="b")]])):
        assert sequencer.feed(event) == [event]


def test_a_stream_without_an_end_is_an_error() -> None:
    with pytest.raises(GatewayError) as caught:
        collect([Started(), PartStarted(0, 0, TextPart(text="")), PartDelta(0, 0, "half")], "anthropic")
    assert caught.value.kind is Kind.UPSTREAM_ERROR


def test_what_came_before_a_failure_is_kept() -> None:
    collector = Collector("anthropic")
    failure = GatewayError(Kind.OVERLOADED, "busy")
    for event in [Started(), PartStarted(0, 0, TextPart(text="")), PartDelta(0, 0, "half"), Failed(failure)]:
        collector.feed(event)
    assert collector.error is failure
    assert collector.response.choices[0].parts == [TextPart(text="half")]


@given(
    st.builds(
        TokenUsage,
        input_tokens=st.integers(900, 1000),
        output_tokens=st.integers(900, 1000),
        cache_read_tokens=st.integers(0, 300),
        cache_write_tokens=st.integers(100, 300),
        cache_write_1h_tokens=st.integers(0, 100),
        reasoning_tokens=st.integers(0, 300),
        input_audio_tokens=st.integers(0, 300),
        output_audio_tokens=st.integers(0, 300),
        output_image_tokens=st.integers(0, 300),
    )
)
def test_usage_buckets_are_disjoint_and_add_up(usage: TokenUsage) -> None:
    buckets = usage.buckets()
    assert min(buckets.values()) >= 0
    assert sum(buckets.values()) == usage.input_tokens + usage.output_tokens
