"""Anthropic's Messages API, as its clients speak it: messages, counts of tokens, lists of models."""

from typing import Final

from pointsman.dialects.anthropic.answer import write_response
from pointsman.dialects.anthropic.errors import (
    render_error,
    render_limits,
    render_stream_error,
    request_lines,
    status_of,
)
from pointsman.dialects.anthropic.models import ModelCard, write_count_response, write_model, write_models
from pointsman.dialects.anthropic.reading import read_count_request, read_request
from pointsman.dialects.anthropic.streaming import PING, StreamRenderer
from pointsman.wire.anthropic import WIRE

NAME: Final = "anthropic.messages"
OPERATION: Final = "chat"
STREAM_TYPE: Final = b"text/event-stream"
KEEP_ALIVE: Final = PING
UNSAID: Final = frozenset(("logprobs", "choice"))

__all__ = [
    "KEEP_ALIVE",
    "NAME",
    "OPERATION",
    "STREAM_TYPE",
    "UNSAID",
    "WIRE",
    "ModelCard",
    "StreamRenderer",
    "read_count_request",
    "read_request",
    "render_error",
    "render_limits",
    "render_stream_error",
    "request_lines",
    "status_of",
    "write_count_response",
    "write_model",
    "write_models",
    "write_response",
]
