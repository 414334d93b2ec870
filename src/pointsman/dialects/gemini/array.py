"""The Gemini dialect for streamGenerateContent without ``alt=sse``: the stream, and an error before it, is an array."""

from typing import Final

from pointsman.dialects.gemini.answer import write_response
from pointsman.dialects.gemini.errors import render_array_error as render_stream_error
from pointsman.dialects.gemini.errors import render_error_in_array as render_error
from pointsman.dialects.gemini.errors import render_limits
from pointsman.dialects.gemini.reading import read_request
from pointsman.dialects.gemini.streaming import ArrayRenderer as StreamRenderer
from pointsman.wire.gemini import WIRE

NAME: Final = "gemini.generate_content"
OPERATION: Final = "chat"
STREAM_TYPE: Final = b"application/json; charset=UTF-8"
KEEP_ALIVE: Final = b""  # an array of JSON has no comments
UNSAID: Final = frozenset(("stop_sequence", "service_tier"))

__all__ = [
    "KEEP_ALIVE",
    "NAME",
    "OPERATION",
    "STREAM_TYPE",
    "UNSAID",
    "WIRE",
    "StreamRenderer",
    "read_request",
    "render_error",
    "render_limits",
    "render_stream_error",
    "write_response",
]
