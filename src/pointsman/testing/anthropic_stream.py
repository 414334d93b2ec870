"""The server-sent events of a streamed message, made one at a time as they are sent."""

from collections.abc import Iterator
from typing import Final

import msgspec

from .anthropic_checks import Json
from .anthropic_completion import Block, Completion
from .reply import Event, EventKind

_PING: Final = Event(EventKind.DELTA, b'event: ping\ndata: {"type": "ping"}\n\n')
# message_delta repeats these totals of the usage object, and no others.
_DELTA_USAGE: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
)


def frame(kind: EventKind, name: str, body: Json | bytes) -> Event:
    """``body`` as Anthropic's event ``name``: an ``event:`` line and a ``data:`` line."""
    data = body if isinstance(body, bytes) else msgspec.json.encode({"type": name, **body})
    return Event(kind, b"event: %b\ndata: %b\n\n" % (name.encode(), data))


def stream(message: Json, made: Completion) -> Iterator[Event]:
    """All events of ``made``; ``message`` is the answer as it would be sent whole."""
    yield frame(EventKind.START, "message_start", {"message": _opening(message)})
    for index, block in enumerate(made.blocks):
        yield frame(EventKind.DELTA, "content_block_start", {"index": index, "content_block": _empty(block)})
        if index == 0:
            yield _PING
        for delta in _deltas(block):
            yield frame(EventKind.DELTA, "content_block_delta", {"index": index, "delta": delta})
        yield frame(EventKind.DELTA, "content_block_stop", {"index": index})
    yield frame(EventKind.FINISH, "message_delta", _closing(message))
    yield frame(EventKind.DONE, "message_stop", {})


def _opening(message: Json) -> Json:
    opening = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
    if "usage" in message:
        started = {name: value for name, value in message["usage"].items() if name != "server_tool_use"}
        opening["usage"] = {**started, "output_tokens": 1, "output_tokens_details": {"thinking_tokens": 0}}
    for late in ("container", "context_management"):
        opening.pop(late, None)
    return opening


def _closing(message: Json) -> Json:
    delta = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    if "container" in message:
        delta["container"] = message["container"]
    closing: Json = {"delta": delta}
    if "usage" in message:
        closing["usage"] = {name: message["usage"][name] for name in _DELTA_USAGE if name in message["usage"]}
    if "context_management" in message:
        closing["context_management"] = message["context_management"]
    return closing


def _empty(block: Block) -> Json:
    head = dict(block.head)
    if block.citations:
        head["citations"] = []
    if block.thought is not None:
        head |= {"thinking": "", "signature": ""}
    return head


def _deltas(block: Block) -> Iterator[Json]:
    if block.thought is not None:
        for start in range(0, len(block.thought), 12):
            yield {"type": "thinking_delta", "thinking": block.thought[start : start + 12]}
        yield {"type": "signature_delta", "signature": block.signature}
    for token in block.words or ():
        yield {"type": "text_delta", "text": token}
    for citation in block.citations:
        yield {"type": "citations_delta", "citation": citation}
    if block.arguments is not None:
        for fragment in block.fragments():
            yield {"type": "input_json_delta", "partial_json": fragment}
