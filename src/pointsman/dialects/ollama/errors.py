"""Ollama's errors: one member with a text, whatever went wrong; the kind shows in the HTTP status alone."""

from typing import Final

import msgspec

from pointsman.canonical.limits import Standing
from pointsman.errors import GatewayError

_encode: Final = msgspec.json.Encoder().encode


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The error as a whole body; an upstream's own 4xx answer is passed on as it came."""
    if error.upstream_body is not None:
        return error.upstream_body
    return _encode({"error": error.message})


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """The error as the last line of a stream; the Ollama SDKs raise ResponseError at it."""
    body = render_error(error, request_id).strip()
    if b"\n" in body or b"\r" in body:
        body = msgspec.json.format(body, indent=-1)
    return body + b"\n"


def render_limits(standing: Standing) -> bytes:
    """Nothing: Ollama has no headers for limits."""
    return b""
