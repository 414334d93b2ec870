"""The event-stream splitter: the same events however the bytes arrive."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import GatewayError
from pointsman.framing.sse import ServerSentEvent, SseSplitter, encode_event

STREAM = (
    "\ufeffdata: one\n\n: a comment\n\nevent: named\ndata: two\ndata:  lines ✓\n\nid: 7\nretry: 5\n\n"
    "data\n\ndata:no space\n\nevent: without data\n\ndata: last\n\n"
).encode()
EVENTS = [
    ServerSentEvent(b"one"),
    ServerSentEvent("two\n lines ✓".encode(), "named"),
    ServerSentEvent(b""),
    ServerSentEvent(b"no space"),
    ServerSentEvent(b"last"),
]


def split(stream: bytes, cuts: list[int]) -> list[ServerSentEvent]:
    splitter = SseSplitter()
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [event for start, end in itertools.pairwise(places) for event in splitter.feed(stream[start:end])]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_any_split_gives_the_same_events(ending: str, cuts: list[int]) -> None:
    stream = STREAM.replace(b"\n", ending.encode())
    # After a lone CR at the very end nobody can know whether an LF follows: the last event needs one more byte.
    assert split(stream + (b":" if ending == "\r" else b""), cuts) == EVENTS


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_single_byte_alone_gives_the_same_events(ending: str) -> None:
    stream = STREAM.replace(b"\n", ending.encode()) + b":"
    assert split(stream, list(range(len(stream)))) == EVENTS


def test_an_unfinished_event_is_never_given_out() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: half") == []
    assert splitter.pending
    assert splitter.feed(b"\n\n") == [ServerSentEvent(b"half")]
    assert not splitter.pending


def test_a_comment_alone_is_nothing_pending() -> None:
    splitter = SseSplitter()
    splitter.feed(b": keep-alive")
    assert not splitter.pending


def test_an_event_without_measure_is_an_error() -> None:
    splitter = SseSplitter(max_event_bytes=100)
    splitter.feed(b"data: 12345" * 9)
    with pytest.raises(GatewayError, match="more than 100 bytes"):
        splitter.feed(b"data: 12345")


@given(st.lists(st.binary(max_size=50).filter(lambda data: not {10, 13} & set(data)), max_size=5))
def test_what_is_encoded_is_read_again(payloads: list[bytes]) -> None:
    stream = b"".join(encode_event(data, "name") for data in payloads)
    found = [event.data for event in SseSplitter().feed(stream)]
    assert found == [data for data in payloads]
