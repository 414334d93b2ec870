"""The OpenAI Responses dialect: what clients of ``/v1/responses`` send and get.

Source: the API's reference and the types of OpenAI's Python SDK 3.54, as of 2026-11.
"""

from typing import Final

from pointsman.dialects.openai_chat import render_error, render_limits
from pointsman.dialects.openai_responses.reading import read_request
from pointsman.dialects.openai_responses.rendering import StreamRenderer, render_stream_error, write_response
from pointsman.wire.openai_responses import WIRE

NAME: Final = "openai.responses"
OPERATION: Final = "chat"
STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"
KEEP_ALIVE: Final = b": keep-alive\n\n"  # a comment
UNSAID: Final = frozenset(("stop_sequence", "quotes", "choice", "audio_tokens"))

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
