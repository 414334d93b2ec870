"""Reading JSON member by member."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import GatewayError, Kind
from pointsman.wire.members import Members, read_answer, read_request, wrong_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
READERS = ("string", "text", "boolean", "integer", "number", "object", "mapping", "items", "strings")


def test_each_reader_takes_its_type() -> None:
    members = read_request(
        b'{"s":"x","b":true,"i":5.0,"n":1.5,"o":{"a":1},"l":["x"],"os":[{"k":2}],"null":null}', "'s'"
    )
    assert members.text("s") == "x"
    assert members.boolean("b") is True
    assert members.integer("i") == 5
    assert type(members.integer("i")) is int
    assert members.number("n") == 1.5
    inner = members.object("o")
    assert inner is not None
    assert inner.at("a") == "o.a"
    assert members.strings("l") == ["x"]
    assert [item.integer("k") for item in members.objects("os")] == [2]
    assert members.string("null") is None
    assert members.rest() is None
    assert inner.rest() == {"a": 1}


def test_what_nobody_read_is_left_over() -> None:
    members = Members({"known": 1, "new": {"a": [1]}, "null": None})
    members.integer("known")
    assert members.rest() == {"new": {"a": [1]}}


def test_a_member_whose_path_would_be_anothers_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        Members({"text.format": 1}).rest()
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, "text.format")
    with pytest.raises(GatewayError):
        Members({"": 1}, "text").rest()
    assert Members({"text.format": 1}, "", wrong_answer).rest() == {"text.format": 1}


@pytest.mark.parametrize(
    ("reader", "value", "said"),
    [
        ("string", 5, "'a.x' must be a string"),
        ("boolean", 1, "'a.x' must be true or false"),
        ("integer", True, "'a.x' must be a whole number"),
        ("integer", 1.5, "'a.x' must be a whole number"),
        ("integer", 2**70, "'a.x' must be a number of at most 64 bits"),
        ("number", "1", "'a.x' must be a number"),
        ("number", True, "'a.x' must be a number"),
        ("object", [], "'a.x' must be an object"),
        ("items", {}, "'a.x' must be a list"),
        ("strings", ["a", 1], "'a.x' must be a list of strings"),
        ("text", None, "'a.x' is missing"),
    ],
)
def test_a_wrong_type_is_named_by_its_path(reader: str, value: object, said: str) -> None:
    with pytest.raises(GatewayError) as caught:
        getattr(Members({"x": value}, "a"), reader)("x")
    assert caught.value.kind is Kind.INVALID_REQUEST
    assert caught.value.message == said
    assert caught.value.param == "a.x"


def test_a_list_member_that_is_no_object_is_named_by_its_place() -> None:
    with pytest.raises(GatewayError) as caught:
        list(Members({"messages": [{}, 5]}).objects("messages"))
    assert caught.value.param == "messages[1]"


def test_a_wrong_answer_is_the_upstreams_fault() -> None:
    with pytest.raises(GatewayError) as caught:
        Members({"x": 5}, "", wrong_answer).string("x")
    assert caught.value.kind is Kind.UPSTREAM_ERROR
    assert caught.value.status == 502


@given(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), st.sampled_from(READERS))
def test_readers_raise_only_our_error(value: dict[str, object], reader: str) -> None:
    with contextlib.suppress(GatewayError):
        getattr(Members(value), reader)("a")


@given(st.binary(max_size=40))
def test_bodies_raise_only_our_error(body: bytes) -> None:
    for read in (read_request, read_answer):
        with contextlib.suppress(GatewayError):
            read(body, "chat")
