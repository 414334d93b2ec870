"""Long strings are taken out of large JSON, and values come back byte for byte."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.wire.long_strings import LONG_BYTES, shorten

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LONG = "x" * LONG_BYTES


def encoded(value: object, *, ascii_only: bool = True) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only).encode()


def test_what_is_left_is_small_and_has_the_same_members() -> None:
    body = encoded({"model": "m", "messages": [{"role": "user", "content": _LONG * 100}], "n": 1})
    short = shorten(body)
    assert short is not None
    assert len(short.text) < 100
    assert list(_members.decode(short.text)) == ["model", "messages", "n"]


_texts = st.sampled_from(
    ["", "a", '"', "\\", '\\"', "\\\\", "é", "\U0001f600", "line\nline", _LONG, _LONG + '\\"', '"' + _LONG]
)
_values = st.recursive(
    st.none() | st.integers() | st.lists(_texts, max_size=4).map("".join),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["model", "messages", "x", "y"]), _values), st.booleans())
def test_every_value_comes_back_as_it_came(value: dict[str, object], ascii_only: bool) -> None:
    body = encoded(value, ascii_only=ascii_only)
    short = shorten(body)
    if short is not None:
        wanted = _members.decode(body)
        found = {name: short.whole(raw) for name, raw in _members.decode(short.text).items()}
        assert {name: bytes(raw) for name, raw in found.items()} == {n: bytes(raw) for n, raw in wanted.items()}


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"a":"' + b"x" * 100_000,
        b'{"a":"' + b"x" * 100_000 + b'\\"',
        encoded({"a": _LONG, "b": ["x"] * 1000}),
        b'{"a":"' + b"x" * 100_000 + b'\n"}',
    ],
    ids=["nothing long", "no end", "an escaped end", "too many strings", "a raw line feed"],
)
def test_a_decoder_gets_what_is_not_worth_it_or_not_right_as_it_came(body: bytes) -> None:
    assert shorten(body) is None
