"""Ollama's own API as upstreams speak it: ``/api/chat``, and ``/api/generate`` for what came in its words.

Pictures are sent as bytes: what has an address is fetched before.
"""

from typing import Final

from pointsman.canonical.halves import Upstream
from pointsman.providers.ollama.answers import StreamParser, parse_error, parse_response
from pointsman.providers.ollama.requests import auth_headers, build_request, patch_request
from pointsman.wire.ollama import NDJSON, WIRE

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

STREAM_TYPE: Final = NDJSON
_LACKING: Final = frozenset(("choices", "image_url"))


def lacks(upstream: Upstream) -> frozenset[str]:
    """Ollama gives one answer, and reads no addresses."""
    return _LACKING
