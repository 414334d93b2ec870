"""StreamReader: readings and bytes of a chat completion stream, however it is cut, spaced, commented or broken off."""

import contextlib
import itertools
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai import MAX_EVENT_BYTES, StreamReader

MODEL = "gpt-5.2-2026-10-01"
# Text that looks like what the reader searches for, when it stands inside a JSON string.
TRAPS = (
    "[DONE]",
    "data: [DONE]",
    '"usage"',
    "usage",
    "error",
    '"error": {"message": "no"}',
    '"finish_reason":"stop"',
    '"usage":null',
    "\n\n",
    "\r\n\r\n",
    "\n\ndata: [DONE]\n\n",
    "data:",
    "\u2028",
    "é",
    "\\",
)
TEXTS = st.one_of(st.sampled_from(TRAPS), st.text(max_size=20))
SEPARATORS = ((",", ":"), (", ", ": "), (" , ", " : "), (",\t", ":\t"))


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A whole stream and what must be read in it. ``silent``: the same without usage that nobody asked for."""

    data: bytes
    silent: bytes
    choices: int
    events: int
    usage: TokenUsage | None
    finish_reason: str | None
    done: bool


def chunk(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """One event's JSON."""
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices, **more}


def delta(index: int, text: str, finish_reason: str | None = None) -> dict[str, Any]:
    """One choice of an event."""
    return {"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": finish_reason}


USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
READ_USAGE = TokenUsage(input_tokens=19, output_tokens=10, cache_read_tokens=7, reasoning_tokens=3)


def encode_stream(
    events: list[dict[str, Any]],
    *,
    done: bool = True,
    newline: str = "\n",
    space: str = " ",
    separators: tuple[str, str] = (",", ":"),
    ascii_only: bool = False,
    comment: str | None = None,
) -> bytes:
    """Events as server-sent events."""
    values = [json.dumps(event, separators=separators, ensure_ascii=ascii_only) for event in events]
    blocks = [f"data:{space}{value}{newline}{newline}" for value in values + ["[DONE]"] * done]
    if comment is not None:
        blocks = [f": {comment}{newline}{newline}{block}" for block in blocks]
    return "".join(blocks).encode("utf-8", "surrogatepass")


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Any stream that an OpenAI-compatible host may send, complete but perhaps without [DONE]."""
    count = draw(st.integers(1, 3))
    where = draw(st.sampled_from(["own event", "last event", "none"]))
    null_usage = {"usage": None} if draw(st.booleans()) else {}
    events = [
        chunk([delta(draw(st.integers(0, count - 1)), text)], **null_usage)
        for text in draw(st.lists(TEXTS, min_size=0, max_size=6))
    ]
    reason = None
    for index in draw(st.permutations(range(count))):
        reason = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        events.append(chunk([delta(index, draw(TEXTS), reason)], **null_usage))
    if where == "own event":
        events.append(chunk([], usage=USAGE))
    elif where == "last event":
        events[-1]["usage"] = USAGE
    done = draw(st.booleans())
    separators = draw(st.sampled_from(SEPARATORS))
    style: dict[str, Any] = {
        "done": done,
        "newline": draw(st.sampled_from(["\n", "\r\n"])),
        "space": draw(st.sampled_from(["", " "])),
        "separators": separators,
        "ascii_only": draw(st.booleans()),
    }
    comment = draw(st.sampled_from([None, "ping", "", "OPENROUTER PROCESSING", '"usage"']))
    return Stream(
        data=encode_stream(events, **style, comment=comment),
        silent=_silent(events, style, comment),
        choices=count,
        events=len(events) + done,
        usage=None if where == "none" else READ_USAGE,
        finish_reason=reason,
        done=done,
    )


def _silent(events: list[dict[str, Any]], style: dict[str, Any], comment: str | None) -> bytes:
    kept = [event for event in events if event["choices"]]
    if style["separators"] in SEPARATORS[:2]:  # as hosts write JSON
        kept = [{name: value for name, value in event.items() if (name, value) != ("usage", None)} for event in kept]
    whole = encode_stream(kept, **style, comment=comment)
    if len(kept) < len(events) and comment is not None:  # a comment is an event of its own, and stays
        mark = f": {comment}{style['newline'] * 2}".encode()
        place = whole.rfind(mark) if style["done"] else len(whole)
        whole = whole[:place] + mark + whole[place:]
    return whole


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces that end at ``places`` (taken modulo its length)."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def readings(reader: StreamReader) -> tuple[object, ...]:
    """Everything that a reader tells."""
    return (reader.usage, reader.finish_reason, reader.model, reader.events, reader.done, reader.failed)


def read(pieces: list[bytes], choices: int = 1, unasked: bool = False) -> tuple[StreamReader, bytes]:
    """Feed all pieces; gives the reader and what may be forwarded, without `finish`."""
    reader = StreamReader(choices, None, unasked)
    return reader, b"".join([reader.feed(piece) for piece in pieces])


@given(stream=streams(), places=st.lists(st.integers(min_value=0), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_chunking_gives_the_same_readings_and_bytes(stream: Stream, places: list[int]) -> None:
    reader, forwarded = read(cut(stream.data, places), stream.choices)
    assert forwarded == stream.data
    assert (reader.usage, reader.finish_reason, reader.model) == (stream.usage, stream.finish_reason, MODEL)
    assert (reader.done, reader.failed) == (stream.done, False)
    whole, _ = read([stream.data], stream.choices)
    assert readings(reader) == readings(whole)
    assert reader.finish() == (b"" if stream.done else b"data: [DONE]\n\n")
    assert reader.done


@given(stream=streams(), places=st.lists(st.integers(min_value=0), max_size=30))
@settings(max_examples=300, deadline=None)
def test_usage_that_the_client_did_not_ask_for_is_left_out_and_nothing_else(stream: Stream, places: list[int]) -> None:
    reader, forwarded = read(cut(stream.data, places), stream.choices, unasked=True)
    assert forwarded == stream.silent
    whole, _ = read([stream.data], stream.choices)
    assert readings(reader) == readings(whole)


def test_what_comes_behind_done_in_the_same_read_changes_nothing() -> None:
    answer = encode_stream([chunk([delta(0, "Hi", "stop")]), chunk([], usage=USAGE)])
    behind = encode_stream([chunk([], error={"message": "no"}), chunk([delta(0, "", "length")])])
    whole, _ = read([answer + behind])
    apart, _ = read([answer, behind])
    for reader in (whole, apart):
        told = (reader.usage, reader.finish_reason, reader.done, reader.failed, reader.error)
        assert told == (READ_USAGE, "stop", True, False, None)


def test_usage_stays_where_it_shares_an_event_with_a_choice_or_an_error() -> None:
    for event in (
        chunk([delta(0, "", "stop")], usage=USAGE),
        chunk([], usage=USAGE, error={"message": "no"}),
        chunk([], prompt_filter_results=[]),
    ):
        data = encode_stream([event])
        assert read([data], unasked=True)[1] == data


def test_a_text_that_looks_like_the_member_stays() -> None:
    data = encode_stream([chunk([delta(0, ',"usage":null, "usage": null')], usage=None)])
    assert read([data], unasked=True)[1] == data.replace(b',"usage":null}', b"}")


@given(stream=streams())
@settings(max_examples=50, deadline=None)
def test_one_byte_at_a_time_gives_the_same_readings_and_bytes(stream: Stream) -> None:
    reader, forwarded = read([stream.data[i : i + 1] for i in range(len(stream.data))], stream.choices)
    assert forwarded == stream.data
    assert (reader.usage, reader.finish_reason, reader.done) == (stream.usage, stream.finish_reason, stream.done)


@given(stream=streams())
@settings(max_examples=100, deadline=None)
def test_events_are_counted_without_looking_into_texts(stream: Stream) -> None:
    reader, _ = read([stream.data], stream.choices)
    assert reader.events == stream.events


def test_only_whole_events_are_given_back() -> None:
    stream = encode_stream([chunk([delta(0, "a")]), chunk([delta(0, "", "stop")])])
    reader = StreamReader()
    out = b""
    for position in range(len(stream)):
        out += reader.feed(stream[position : position + 1])
        assert stream.startswith(out)
        assert out == b"" or out.endswith(b"\n\n")
        assert out == stream[: stream.rfind(b"\n\n", 0, position + 1) + 2] or b"\n\n" not in stream[: position + 1]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("choices", [1, 2])
def test_truncation_at_any_byte_is_detected(newline: str, choices: int) -> None:
    events = [chunk([delta(i, text)]) for text in ("", "Hello", "[DONE]") for i in range(choices)]
    events += [chunk([delta(i, "", "stop")]) for i in range(choices)]
    events.append(chunk([], usage=USAGE))
    stream = encode_stream(events, newline=newline)
    finished = stream.rfind(b'"finish_reason":"stop"')
    for length in range(len(stream)):
        reader, forwarded = read([stream[:length]], choices)
        assert stream.startswith(forwarded)
        try:
            rest = reader.finish()
        except GatewayError:
            truncated = True
        else:
            truncated = False
        assert reader.done is not truncated
        if truncated:
            continue
        assert length > finished, "a stream without its finish reasons was taken for complete"
        assert (forwarded + rest).rstrip().endswith(b"data: [DONE]")


def test_an_empty_stream_is_truncated() -> None:
    with pytest.raises(GatewayError, match="before the answer was complete"):
        StreamReader().finish()


def test_done_is_added_when_every_choice_has_ended() -> None:
    reader, _ = read([encode_stream([chunk([delta(0, "a", "stop"), delta(1, "b", "length")])], done=False)], 2)
    assert not reader.done
    assert reader.finish() == b"data: [DONE]\n\n"
    assert reader.done


def test_done_is_not_added_while_a_choice_goes_on() -> None:
    reader, _ = read([encode_stream([chunk([delta(0, "a", "stop")]), chunk([delta(0, "", "stop")])], done=False)], 2)
    with pytest.raises(GatewayError, match="before the answer was complete"):
        reader.finish()


def test_an_empty_finish_reason_ends_no_choice() -> None:
    beginning = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": ""}
    stream = encode_stream([chunk([beginning]), chunk([delta(0, "a", "")])], done=False)
    reader, _ = read([stream])
    assert not StreamReader().has_content(encode_stream([chunk([beginning])], done=False)), "only who speaks"
    assert reader.has_content(stream)
    assert reader.finish_reason is None
    with pytest.raises(GatewayError, match="before the answer was complete"):
        reader.finish()


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_last_event_without_its_blank_line_counts_when_it_is_done(end: bytes) -> None:
    reader, forwarded = read([encode_stream([chunk([delta(0, "a", "stop")])], done=False) + b"data: [DONE]" + end])
    assert (forwarded + reader.finish()).endswith(b"data: [DONE]" + end + b"\n\n")
    assert reader.done


def test_an_error_event_is_noticed_and_passed() -> None:
    stream = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'
    reader, forwarded = read([stream])
    assert (reader.failed, reader.done, forwarded) == (True, False, stream)
    assert reader.finish() == b""


def test_an_error_event_whose_words_cannot_be_read_is_still_an_error() -> None:
    reader, _ = read([b'data: {"error":{"message":"\xff"}}\n\n'])
    assert reader.failed
    assert reader.error is not None
    assert reader.error.kind is Kind.UPSTREAM_ERROR


@pytest.mark.parametrize("text", ['{"error":null,"choices":[]}', '{"error" : null}'])
def test_an_error_that_is_null_is_none(text: str) -> None:
    reader, _ = read([f"data: {text}\n\n".encode()])
    assert not reader.failed


def test_the_word_error_as_a_text_is_no_error() -> None:
    reader, _ = read([encode_stream([chunk([delta(0, "error")], note="error"), chunk([delta(0, "", "stop")])])])
    assert (reader.failed, reader.done) == (False, True)


def test_the_last_usage_counts_when_it_comes_in_every_event() -> None:
    events = [chunk([delta(0, "a")], usage={"prompt_tokens": 19, "completion_tokens": n}) for n in (1, 2, 3)]
    reader, _ = read([encode_stream([*events, chunk([delta(0, "", "stop")])])])
    assert reader.usage == TokenUsage(input_tokens=19, output_tokens=3)


def test_an_empty_model_name_is_read_from_a_later_event() -> None:
    first = {**chunk([]), "model": "", "prompt_filter_results": []}  # Azure's first event
    reader, _ = read([encode_stream([first, chunk([delta(0, "a", "stop")])])])
    assert reader.model == MODEL


@pytest.mark.parametrize(
    "usage",
    ['{"prompt_tokens":"many"}', '{"prompt_tokens":1.5}', '{"prompt_tokens":1,"prompt_tokens_details":[]}', "[]", "7"],
)
def test_odd_usage_does_not_hide_the_finish_reason(usage: str) -> None:
    stream = b'data: {"model":"m","choices":[{"index":0,"finish_reason":"stop"}],"usage":%b}\n\n' % usage.encode()
    reader, forwarded = read([stream])
    assert (reader.finish_reason, forwarded) == ("stop", stream)


@pytest.mark.parametrize("value", [b"{", b"\xff", b'{"choices":5}', b'"text"', b"[" * 100_000, b""])
def test_an_event_that_cannot_be_read_is_passed_on(value: bytes) -> None:
    stream = b"data: " + value + b"\n\n"
    reader, forwarded = read([stream])
    assert forwarded == stream
    with pytest.raises(GatewayError):
        reader.finish()


def test_an_event_over_the_limit_is_refused() -> None:
    reader = StreamReader()
    piece = b"x" * (1024 * 1024)
    reader.feed(b'data: {"a":"')
    for _ in range(MAX_EVENT_BYTES // len(piece) - 1):
        assert reader.feed(piece) == b""
    with pytest.raises(GatewayError, match="larger than the limit"):
        reader.feed(piece * 2)


def test_many_events_in_one_chunk_are_not_an_event_over_the_limit() -> None:
    one = encode_stream([chunk([delta(0, "x" * 100_000)])], done=False)
    reader, forwarded = read([one * 100 + b"data: [DONE]\n\n"])
    assert len(forwarded) > MAX_EVENT_BYTES
    assert reader.done


def test_a_large_event_in_small_pieces_costs_linear_time() -> None:
    def seconds(size: int) -> float:
        data = encode_stream([chunk([delta(0, "x" * size, "stop")])])
        start = time.perf_counter()
        reader, forwarded = read([data[i : i + 1000] for i in range(0, len(data), 1000)])
        assert reader.done
        assert forwarded == data
        return time.perf_counter() - start

    small = min(seconds(250_000) for _ in range(3))
    assert seconds(2_000_000) < max(40 * small, 0.2)  # eight times the size; quadratic would be 64 times


@given(
    pieces=st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"data: ", b"\n\n", b"\r\n", b'{"choices":['])))
)
@settings(max_examples=300, deadline=None)
@example(pieces=[b"\n\n", b"\r\n\r\n"])
def test_arbitrary_bytes_raise_nothing_but_gateway_errors(pieces: list[bytes]) -> None:
    reader, forwarded = read(pieces)
    data = b"".join(pieces)
    assert data.startswith(forwarded)
    whole, _ = read([data])
    assert readings(reader) == readings(whole)
    with contextlib.suppress(GatewayError):
        reader.finish()


@given(stream=streams(), where=st.integers(min_value=0), what=st.binary(max_size=3), length=st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_a_damaged_stream_raises_nothing_but_gateway_errors(
    stream: Stream, where: int, what: bytes, length: int
) -> None:
    place = where % len(stream.data)
    damaged = stream.data[:place] + what + stream.data[place + length :]
    reader, forwarded = read([damaged], stream.choices)
    assert damaged.startswith(forwarded)
    with contextlib.suppress(GatewayError):
        reader.finish()


def test_what_follows_an_error_in_the_same_read_changes_nothing() -> None:
    first = b'data: {"error":{"message":"first","type":"server_error"}}\n\n'
    behind = (
        b'data: {"choices":[{"index":0,"del\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n',
        b'data: {"error":{"message":"second","type":"rate_limit_error","code":"429"}}\n\n',
    )
    for further in behind:
        reader = StreamReader(1)
        events = reader.feed(first + further)
        assert not reader.has_content(events)
        assert reader.failed
        assert reader.error is not None
        alone = StreamReader(1)
        alone.feed(first)
        assert alone.error is not None
        assert (reader.error.kind, reader.error.message) == (alone.error.kind, alone.error.message)
