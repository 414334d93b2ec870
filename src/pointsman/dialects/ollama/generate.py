"""``POST /api/generate``: a prompt instead of messages."""

from typing import Any, Final

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, TextPart
from pointsman.canonical.request import Message, Request
from pointsman.canonical.response import Response
from pointsman.dialects.ollama import answers
from pointsman.dialects.ollama.answers import Lines, Piece, whole_answer
from pointsman.dialects.ollama.errors import render_error, render_limits, render_stream_error
from pointsman.dialects.ollama.requests import begin_request, read_images
from pointsman.wire import members as reading
from pointsman.wire import ollama as wire

__all__ = [
    "KEEP_ALIVE",
    "NAME",
    "OPERATION",
    "STREAM_TYPE",
    "UNSAID",
    "WIRE",
    "StreamRenderer",
    "loading_answer",
    "read_request",
    "render_error",
    "render_limits",
    "render_stream_error",
    "write_response",
]

NAME: Final = "ollama.generate"
WIRE: Final = wire.WIRE
OPERATION: Final = "text_completion"
STREAM_TYPE: Final = wire.NDJSON
KEEP_ALIVE: Final = b""  # lines of JSON have no comments
UNSAID: Final = frozenset(("stop_sequence", "service_tier", "state", "choice"))


def read_request(body: bytes, call: ClientCall) -> Request:
    """A prompt as one user message, after the system text. Suffix, template, context and raw mode stay in ``extra``.

    Without a prompt it only loads a model (`loading_answer`). Raises GatewayError(INVALID_REQUEST).
    """
    members = reading.read_request(body, "'model' and 'prompt'")
    request = begin_request(members, call, wire.GENERATE_PATHS)
    if (context := members.items("context")) is not None and not all(type(one) is int for one in context):
        raise members.wrong("context", "must be a list of whole numbers")
    system, prompt, images = members.string("system"), members.string("prompt"), read_images(members)
    if prompt or images:
        if system:
            text = TextPart(text=system, path="system")
            request.messages.append(Message(role="system", parts=[text], path="system"))
        parts: list[AnyPart] = [TextPart(text=prompt or "", path="prompt"), *images]
        request.messages.append(Message(role="user", parts=parts, path="prompt"))
    if context is not None:
        request.extra["context"] = context
    for name in ("suffix", "template"):
        if value := members.string(name):
            request.extra[name] = value
    if (raw := members.boolean("raw")) is not None:
        request.extra["raw"] = raw
    request.extra |= members.rest() or {}
    return request


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """The whole answer. Raises GatewayError(UPSTREAM_ERROR) for a tool call whose arguments are no JSON object."""
    return whole_answer(response, request, identity, fidelity, _shape)


def loading_answer(request: Request, identity: Identity) -> bytes | None:
    """The answer to a request that only loads or unloads a model; None for a request that asks it something."""
    return answers.loading_answer(request, identity, _shape)


class StreamRenderer(Lines):
    """Writes one object per line."""

    def __init__(self, request: Request, identity: Identity, fidelity: Fidelity) -> None:
        super().__init__(request, identity, fidelity, _shape)


def _shape(piece: Piece) -> dict[str, Any]:
    shaped: dict[str, Any] = {"response": piece.text}
    if piece.thinking:
        shaped["thinking"] = piece.thinking
    if piece.images:
        shaped["image"] = piece.images[0]
    if piece.calls:
        shaped["tool_calls"] = piece.calls
    return shaped
