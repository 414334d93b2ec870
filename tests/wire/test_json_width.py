"""JSON of too many objects and lists is refused before anything reads it; what stands in strings doesn't count."""

import json

import pytest

from pointsman.errors import GatewayError, Kind
from pointsman.wire.json_width import LARGE_BYTES, MOST_OBJECTS, MOST_QUOTES, MOST_VALUES, refuse_wide

PADDING = " " * LARGE_BYTES
MANY = MOST_OBJECTS + 1


def is_refused(text: str, encoding: str = "utf-8") -> bool:
    """Whether it is too wide."""
    try:
        refuse_wide(text.encode(encoding))
    except GatewayError as error:
        return error.kind is Kind.TOO_LARGE
    return False


@pytest.mark.parametrize("one", ["{}", "[]", '{"a":[1]}', "[[[]]]"])
def test_more_objects_and_lists_than_may_be_are_refused(one: str) -> None:
    brackets = one.count("{") + one.count("[")
    most = (MOST_OBJECTS - 1) // brackets
    assert not is_refused(f"[{PADDING}{','.join([one] * most)}]")
    assert is_refused(f"[{PADDING}{','.join([one] * (most + 1))}]")


@pytest.mark.parametrize("one", ["1", "null", '"a"'])
def test_more_values_than_may_be_are_refused(one: str) -> None:
    few = ",".join([one] * (MOST_VALUES // 4))
    assert not is_refused(f"[{PADDING}{few}]")
    assert is_refused(f"[{PADDING}{few},{few},{few},{few},1]")


def test_commas_in_strings_are_none() -> None:
    assert not is_refused(json.dumps([PADDING, "," * 2 * MOST_VALUES]))


def test_a_small_body_is_not_looked_at() -> None:
    assert not is_refused(("[" + "{}," * MANY)[: LARGE_BYTES - 1])


@pytest.mark.parametrize("text", ["{" * MANY, '"[' * MANY, '\\"{' * MANY, "\\" * 1001 + "[" * MANY, "\\" * 1000 + '"{'])
def test_brackets_in_strings_are_none(text: str) -> None:
    assert not is_refused(json.dumps([text, PADDING, text]))
    assert is_refused(f"{json.dumps([text, PADDING])[:-1]}{',{}' * MANY}]")


def test_what_is_no_json_is_not_counted() -> None:
    assert not is_refused("--boundary\r\n" + "{" * LARGE_BYTES)


def test_json_in_other_encodings_is_counted() -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-16-be", "utf-32-be"):
        assert is_refused(f"[{PADDING}{'{},' * MANY}1]", encoding)


def test_with_too_many_strings_all_brackets_count() -> None:
    strings = ",".join(['"{"'] * (MOST_QUOTES // 2 + 1))
    assert is_refused(f"[{strings}]")
