"""Cohere's v2 chat API as upstreams speak it."""

from typing import Final

from pointsman.canonical.halves import Upstream
from pointsman.providers.cohere.answers import parse_error, parse_response
from pointsman.providers.cohere.requests import auth_headers, build_request, patch_request
from pointsman.providers.cohere.stream import StreamParser
from pointsman.wire.cohere import WIRE

__all__ = [
    "STREAM_TYPE",
    "WIRE",
    "StreamParser",
    "auth_headers",
    "build_request",
    "lacks",
    "parse_error",
    "parse_response",
    "patch_request",
]

STREAM_TYPE: Final = b"text/event-stream"
_LACKING: Final = frozenset(("choices",))


def lacks(upstream: Upstream) -> frozenset[str]:
    """Cohere gives one answer."""
    return _LACKING
