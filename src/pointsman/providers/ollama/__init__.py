"""Ollama's own API as upstreams speak it: ``/api/chat``, and ``/api/generate`` for what came in its words.

Pictures are sent as bytes: addresses have to be fetched before (``MEDIA_BY_URL``).
"""

from typing import Final

from pointsman.providers.ollama.answers import StreamParser, parse_error, parse_response
from pointsman.providers.ollama.requests import auth_headers, build_request, patch_request
from pointsman.wire.ollama import WIRE

__all__ = [
    "MEDIA_BY_URL",
    "WIRE",
    "StreamParser",
    "auth_headers",
    "build_request",
    "parse_error",
    "parse_response",
    "patch_request",
]

MEDIA_BY_URL: Final = False
