"""Says where a JSON body is wrong, without repeating any of it."""

import re
from typing import Final

import msgspec

from pointsman.errors import GatewayError, Kind

_PLACE: Final = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `(?P<name>[^`]+)`")
_POSITION: Final = re.compile(r"\(byte (?P<byte>\d+)\)")


def describe(error: Exception, body: bytes) -> GatewayError:
    """An INVALID_REQUEST error that says where a JSON body is wrong, without repeating any of it."""
    text = str(error)
    if isinstance(error, RecursionError):
        return GatewayError(Kind.INVALID_REQUEST, "the JSON body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return GatewayError(Kind.INVALID_REQUEST, "the body is not valid UTF-8")
    if not isinstance(error, msgspec.ValidationError):
        found = _POSITION.search(text)
        if found is None and "truncated" not in text:
            return GatewayError(Kind.INVALID_REQUEST, "the body is not valid JSON in UTF-8")
        if found is None:
            return GatewayError(
                Kind.INVALID_REQUEST, f"the body is not valid JSON: it ends too early, at byte {len(body)}"
            )
        position = int(found["byte"])
        line = body.count(b"\n", 0, position) + 1
        column = position - body.rfind(b"\n", 0, position)
        return GatewayError(
            Kind.INVALID_REQUEST, f"the body is not valid JSON: error at byte {position} (line {line}, column {column})"
        )
    missing = _MISSING.search(text)
    place = _PLACE.search(text)
    where = place["place"] if place is not None else ""
    if missing is not None:
        name = f"{where}.{missing['name']}" if where else missing["name"]
        return GatewayError(Kind.INVALID_REQUEST, f"'{name}' is missing", param=name)
    reason = _PLACE.sub("", text)
    if not where:
        return GatewayError(Kind.INVALID_REQUEST, f"the body must be a JSON object: {reason}")
    return GatewayError(Kind.INVALID_REQUEST, f"'{where}' has the wrong type: {reason}", param=where)
