"""Amazon's event stream: any cutting gives the same messages, and botocore reads what is written."""

from itertools import pairwise

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import GatewayError
from pointsman.framing.aws_event_stream import EventMessage, EventStreamSplitter, encode_message

# The empty message of the specification, and one with a text header.
EMPTY = bytes.fromhex("000000100000000005c248eb7d98c8ff")
HEADED = encode_message({":event-type": "x", ":message-type": "event"}, b'{"a":1}')
STREAM = EMPTY + HEADED + encode_message({}, b"\x00" * 300)
MESSAGES = [
    EventMessage({}, b""),
    EventMessage({":event-type": "x", ":message-type": "event"}, b'{"a":1}'),
    EventMessage({}, b"\x00" * 300),
]


def split(stream: bytes, cuts: list[int]) -> list[EventMessage]:
    splitter = EventStreamSplitter()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [one for start, end in pairwise(edges) for one in splitter.feed(stream[start:end])]


@given(st.lists(st.integers(0, 10_000), max_size=8))
def test_any_cutting_gives_the_same_messages(cuts: list[int]) -> None:
    assert split(STREAM, cuts) == MESSAGES


def test_every_single_byte_alone_gives_the_same_messages() -> None:
    assert split(STREAM, list(range(len(STREAM)))) == MESSAGES


def test_the_empty_message_is_the_one_of_the_specification() -> None:
    assert encode_message({}, b"") == EMPTY


def test_botocore_reads_what_is_written() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(STREAM)
    found = [(message.headers, message.payload) for message in buffer]
    assert found == [(one.headers, one.payload) for one in MESSAGES]


def test_headers_of_every_type_are_skipped_over() -> None:
    import struct
    import zlib

    values = [b"\x00", b"\x01", b"\x02\x07", b"\x03\x00\x07", b"\x04" + b"\x00" * 4, b"\x05" + b"\x00" * 8]
    values += [b"\x06\x00\x02ab", b"\x08" + b"\x00" * 8, b"\x09" + b"\x00" * 16, b"\x07\x00\x01z"]
    headers = b"".join(b"\x01" + bytes([97 + number]) + value for number, value in enumerate(values))
    prelude = struct.pack(">II", 16 + len(headers), len(headers))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers
    assert split(body + struct.pack(">I", zlib.crc32(body)), []) == [EventMessage({"j": "z"}, b"")]


@pytest.mark.parametrize("place", range(len(HEADED)))
def test_a_changed_byte_anywhere_is_an_error(place: int) -> None:
    changed = bytearray(HEADED)
    changed[place] ^= 0x55
    splitter = EventStreamSplitter()
    assert splitter.feed(HEADED + bytes(changed) + b"\x00" * 64) == [MESSAGES[1]]
    assert isinstance(splitter.error, GatewayError)
    assert splitter.feed(HEADED) == []


def test_an_unfinished_message_waits_and_one_without_measure_is_refused() -> None:
    splitter = EventStreamSplitter()
    assert splitter.feed(HEADED[:-1]) == []
    assert splitter.pending
    assert len(splitter.feed(HEADED[-1:])) == 1
    assert not splitter.pending
    small = EventStreamSplitter(max_message_bytes=20)
    assert small.feed(HEADED) == []
    assert "impossible length" in str(small.error)
