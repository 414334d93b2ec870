"""Lines are the same however their bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import GatewayError
from pointsman.framing.ndjson import NdjsonSplitter

STREAM = b'{"a":1}\n\n{"b":"\xc3\xa9"}\r\n  \n{"c":3}'
LINES = [b'{"a":1}', b'{"b":"\xc3\xa9"}', b'{"c":3}']


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    splitter = NdjsonSplitter()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    found = [line for start, end in pairwise(edges) for line in splitter.feed(stream[start:end])]
    return [*found, *splitter.finish()]


@given(st.lists(st.integers(0, 1000), max_size=8), st.sampled_from([b"", b"\n", b"\r\n"]), st.booleans())
def test_any_cutting_gives_the_same_lines(cuts: list[int], ending: bytes, marked: bool) -> None:
    assert split((b"\xef\xbb\xbf" if marked else b"") + STREAM + ending, cuts) == LINES


def test_every_single_byte_alone_gives_the_same_lines() -> None:
    assert split(STREAM, list(range(len(STREAM)))) == LINES


def test_an_unfinished_line_waits_for_its_end() -> None:
    splitter = NdjsonSplitter()
    assert splitter.feed(b'{"a"') == []
    assert splitter.pending
    assert splitter.feed(b":1}\n ") == [b'{"a":1}']
    assert not splitter.pending


def test_a_line_without_measure_is_an_error() -> None:
    splitter = NdjsonSplitter(max_line_bytes=10)
    assert splitter.feed(b"0123456789") == []
    with pytest.raises(GatewayError, match="more than 10 bytes"):
        splitter.feed(b"0")
