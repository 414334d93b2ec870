"""Gemini's generateContent, as clients of the Gemini API and of Vertex AI speak it. Streams are server-sent events.

The path names the model and whether to stream: `ClientCall` has both. A client that streams without ``alt=sse`` wants
one JSON array instead: `pointsman.dialects.gemini.array` is the dialect for it.
"""

from typing import Final

from pointsman.dialects.gemini.answer import write_response
from pointsman.dialects.gemini.errors import render_error, render_limits, render_stream_error
from pointsman.dialects.gemini.models import write_count_response, write_model, write_models
from pointsman.dialects.gemini.reading import read_count_request, read_request
from pointsman.dialects.gemini.streaming import StreamRenderer
from pointsman.wire.gemini import WIRE

NAME: Final = "gemini.generate_content"
OPERATION: Final = "chat"
STREAM_TYPE: Final = b"text/event-stream"
KEEP_ALIVE: Final = b"\r\n"  # an empty line: Google's Python SDK takes a comment for JSON
UNSAID: Final = frozenset(("stop_sequence", "service_tier"))

__all__ = [
    "KEEP_ALIVE",
    "NAME",
    "OPERATION",
    "STREAM_TYPE",
    "UNSAID",
    "WIRE",
    "StreamRenderer",
    "read_count_request",
    "read_request",
    "render_error",
    "render_limits",
    "render_stream_error",
    "write_count_response",
    "write_model",
    "write_models",
    "write_response",
]
