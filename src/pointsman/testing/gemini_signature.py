"""Thought signatures as Gemini's models hand them out: opaque, and refused when they are missing or changed."""

import hashlib
import hmac
from typing import Any, Final

import msgspec

from .gemini_request import InvalidRequest, Json, objects_in, unbase64

# The same in every simulator, so that a conversation may go on at another one.
_KEY: Final = b"pointsman simulated thought signature"
_TEXT: Final = b"text"
_PAGE: Final = "https://ai.google.dev/gemini-api/docs/thought-signatures"
# What Google accepts in place of a signature, for calls that no Gemini model made.
_PLACEHOLDERS: Final = frozenset({"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"})

CORRUPTED: Final = "Corrupted thought signature."


def signature_of_call(name: str, arguments: Any) -> bytes:
    """The signature of a function call: valid for this name and these arguments, whatever their order."""
    return _signed(b"call:" + _digest(name, arguments))


def signature_of_text() -> bytes:
    """The signature of an answer in text."""
    return _signed(_TEXT)


def check_signatures(contents: list[Json], *, required: bool) -> None:
    """InvalidRequest for a changed signature anywhere, and with ``required`` for a missing one in the current turn.

    The current turn begins after the last content of the user that holds anything but function responses. Of each
    content of the model in it, the first function call must have its signature.
    """
    start = _current_turn(contents)
    for position, content in enumerate(contents):
        parts = objects_in(content, "parts")
        for part in parts:
            if "thoughtSignature" in part:
                _check_signature(part)
        first = next((part for part in parts if "functionCall" in part), None)
        if required and position >= start and first is not None and not first.get("thoughtSignature"):
            raise InvalidRequest(_missing(first["functionCall"].get("name", ""), position))


def _current_turn(contents: list[Json]) -> int:
    for position in range(len(contents) - 1, -1, -1):
        parts = objects_in(contents[position], "parts")
        if contents[position].get("role", "user") != "model" and any("functionResponse" not in part for part in parts):
            return position + 1
    return 0


def _check_signature(part: Json) -> None:
    sent = part["thoughtSignature"]
    if sent in _PLACEHOLDERS or unbase64(sent).decode("latin-1") in _PLACEHOLDERS:
        return
    payload, mark = unbase64(sent)[:-32], unbase64(sent)[-32:]
    if not hmac.compare_digest(mark, hmac.digest(_KEY, payload, "sha256")):
        raise InvalidRequest(CORRUPTED)
    call = part.get("functionCall")
    expected = _TEXT if call is None else b"call:" + _digest(call.get("name", ""), call.get("args") or {})
    if not hmac.compare_digest(payload, expected):
        raise InvalidRequest(CORRUPTED)


def _missing(name: str, position: int) -> str:
    return (
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
        "correctly, and missing thought_signature may lead to degraded model performance. Additional data, function "
        f"call `default_api:{name}` , position {position + 1}. Please refer to {_PAGE} for more details."
    )


def _signed(payload: bytes) -> bytes:
    return payload + hmac.digest(_KEY, payload, "sha256")


def _digest(name: str, arguments: Any) -> bytes:
    canonical = msgspec.json.encode([name, _as_struct(arguments)], order="deterministic")
    return hashlib.sha256(canonical).digest()


def _as_struct(value: Any) -> Any:
    """``value`` as Google's Struct holds it: every number is a double."""
    if isinstance(value, dict):
        return {key: _as_struct(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_struct(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
