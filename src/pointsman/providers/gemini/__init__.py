"""Gemini's generateContent as upstreams speak it: the Gemini API, and Vertex AI by project and token or by key.

A connection leads to Vertex AI when its options name a ``project`` (and a ``location``), or its host's row does. The
base URL is the origin; paths bring their version (option ``api_version``).
"""

from typing import Final

from pointsman.providers.gemini.building import (
    auth_headers,
    build_count_request,
    build_request,
    lacks,
    patch_request,
)
from pointsman.providers.gemini.errors import parse_error
from pointsman.providers.gemini.parsing import StreamParser, parse_count_response, parse_models, parse_response
from pointsman.providers.gemini.target import models_path
from pointsman.wire.gemini import WIRE

STREAM_TYPE: Final = b"text/event-stream"

__all__ = [
    "STREAM_TYPE",
    "WIRE",
    "StreamParser",
    "auth_headers",
    "build_count_request",
    "build_request",
    "lacks",
    "models_path",
    "parse_count_response",
    "parse_error",
    "parse_models",
    "parse_response",
    "patch_request",
]
