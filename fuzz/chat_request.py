"""Bytes of a body into `parse_request`, and what becomes of it into the request for the upstream.

Holds for any bytes: INVALID_REQUEST or a checked call; a taken body is JSON to others too; the rebuilt request
says the same but for the model, and reading it again changes nothing.
"""

import json
from typing import Any

import msgspec

from pointsman.dialects.openai_chat import parse_request, render_error
from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai import build_request

MODEL = msgspec.Raw(b'"other"')


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    try:
        call = parse_request(raw)
    except GatewayError as error:
        assert error.kind is Kind.INVALID_REQUEST, error.kind
        json.loads(render_error(error, "req_1"))
        return
    asked = _loads(raw)
    assert asked["model"] == call.model, "another reader sees another model"
    assert (asked.get("stream") is True) == call.stream, "another reader sees another stream"
    message = build_request(b"head ", call.fields, MODEL)
    head, _, body = message.partition(b"\r\n\r\n")
    assert int(head.removeprefix(b"head ")) == len(body)
    again = parse_request(body)
    assert (again.model, again.stream, again.choices) == ("other", call.stream, call.choices)
    sent = _loads(body)
    assert {**asked, "model": 0} == {**sent, "model": 0}, "a member changed"
    names = [name for name, _ in json.loads(body, object_pairs_hook=lambda pairs: pairs)]
    assert len(names) == len(set(names)), "a member is there twice"


def _loads(body: bytes) -> dict[str, Any]:
    """What Python's own reader sees; numbers as text, so that large ones compare."""
    value = json.loads(body, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    assert isinstance(value, dict)
    return value


def _refuse_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")
