"""Bytes of a body into the Anthropic dialect, and what becomes of it into a request for Anthropic and for OpenAI.

Holds for any bytes: INVALID_REQUEST or a request in our words; that is built, or refused as the caller's mistake; what
goes out to Anthropic reads as the same request again.
"""

import json

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.request import Request
from pointsman.dialects import anthropic as dialect
from pointsman.errors import GatewayError, Kind
from pointsman.providers import anthropic, openai_chat

CALL = ClientCall(headers={b"anthropic-beta": b"x-2026-01-01"})
UPSTREAM = Upstream(model="m")
_REFUSALS = (Kind.INVALID_REQUEST, Kind.UNSUPPORTED)


def check(raw: bytes) -> None:
    """Raise AssertionError when the input breaks a promise."""
    request = _read(raw)
    if request is None:
        return
    fidelity = Fidelity()
    try:
        built = anthropic.build_request(request, UPSTREAM, fidelity)
    except GatewayError as error:
        assert error.kind in _REFUSALS, error.kind
        return
    if not fidelity:
        again = _read(built.body)
        assert again is not None, "what goes out can't be read"
        assert _meaning(again) == _meaning(request), "what goes out means something else"
    patched = anthropic.patch_request(raw, request, UPSTREAM)
    assert json.loads(patched.body)["model"] == "m"
    try:
        openai_chat.build_request(request, UPSTREAM, Fidelity())
    except GatewayError as error:
        assert error.kind in _REFUSALS, error.kind


def _read(raw: bytes) -> Request | None:
    try:
        return dialect.read_request(raw, CALL)
    except GatewayError as error:
        assert error.kind is Kind.INVALID_REQUEST, error.kind
        json.loads(dialect.render_error(error, "req_1"))
        return None


def _meaning(request: Request) -> bytes:
    """A request without the client's paths, and with its model's name changed."""
    plain = msgspec.to_builtins(msgspec.structs.replace(request, model="m", paths={}))
    return msgspec.json.encode(_without_paths(plain), order="deterministic")


def _without_paths(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_paths(inner) for name, inner in value.items() if name != "path"}
    return [_without_paths(inner) for inner in value] if isinstance(value, list) else value
