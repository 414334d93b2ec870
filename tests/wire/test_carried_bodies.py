"""Bodies for an upstream of the same API: values byte for byte, each member once, only `model` changed."""

import json

import pytest

from pointsman.errors import GatewayError, Kind
from pointsman.wire.bodies import LARGE_BODY_BYTES, read_members, refuse_other_models, with_model

LONG = "é" * LARGE_BODY_BYTES


@pytest.mark.parametrize("long", ["", LONG])
def test_values_stay_byte_for_byte_and_of_equal_members_the_last_stays(long: str) -> None:
    values = f'{{ "text": "{long}\\u00e9", "n" : 1.50 }}'.encode()
    body = b'{ "model":"a", "x": 1, "messages": [%b], "\\u006dodel" : "b", "x": %b }' % (values, values)
    assert with_model(body, "c") == b'{"model":"c","x":%b,"messages":[%b]}' % (values, values)
    assert bytes(read_members(body)["model"]) == b'"b"'


def test_a_long_name_is_read_though_long_strings_are_stepped_over() -> None:
    body = json.dumps({LONG: 1, "model": "a", "text": LONG}).encode()
    assert json.loads(with_model(body, "b")) == {LONG: 1, "model": "b", "text": LONG}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a":', b'{"a":"%b' % LONG.encode()])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as refused:
        with_model(body, "m")
    assert refused.value.kind is Kind.INVALID_REQUEST


def test_only_other_letters_of_the_same_name_are_refused() -> None:
    refuse_other_models(["model", "models", "modal", "MODELS", "mode", ""])
    for name in ("Model", "MODEL", "moDel"):
        with pytest.raises(GatewayError) as refused:
            refuse_other_models(["messages", name])
        assert refused.value.param == "model"
