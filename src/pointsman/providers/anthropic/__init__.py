"""Anthropic's Messages API, as upstreams speak it: Anthropic itself, and hosts that are compatible with it."""

from typing import Final

from pointsman.providers.anthropic.answer import parse_count_response, parse_response
from pointsman.providers.anthropic.building import (
    auth_headers,
    build_count_request,
    build_request,
    lacks,
    patch_request,
)
from pointsman.providers.anthropic.errors import parse_error
from pointsman.providers.anthropic.streaming import StreamParser
from pointsman.wire.anthropic import WIRE

STREAM_TYPE: Final = b"text/event-stream"

__all__ = [
    "STREAM_TYPE",
    "WIRE",
    "StreamParser",
    "auth_headers",
    "build_count_request",
    "build_request",
    "lacks",
    "parse_count_response",
    "parse_error",
    "parse_response",
    "patch_request",
]
