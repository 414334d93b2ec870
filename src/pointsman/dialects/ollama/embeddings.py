"""``POST /api/embeddings``, which `embed` has replaced: one text, one vector."""

from typing import Final

import msgspec

from pointsman.canonical.embeddings import EmbeddingRequest, Embeddings
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.dialects.ollama.embed import OPERATION, numbers
from pointsman.dialects.ollama.errors import render_error, render_limits, render_stream_error
from pointsman.dialects.ollama.requests import read_model
from pointsman.wire import members as reading
from pointsman.wire.ollama import WIRE

__all__ = [
    "NAME",
    "OPERATION",
    "WIRE",
    "read_request",
    "render_error",
    "render_limits",
    "render_stream_error",
    "write_response",
]

NAME: Final = "ollama.embeddings"

_encode: Final = msgspec.json.Encoder().encode


def read_request(body: bytes, call: ClientCall) -> EmbeddingRequest:
    """Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
    members = reading.read_request(body, "'model' and 'prompt'")
    return EmbeddingRequest(
        wire=WIRE,
        model=read_model(members, call),
        inputs=[members.text("prompt")],
        paths={"inputs": "prompt"},
        extra=members.rest() or {},
    )


def write_response(response: Embeddings, request: EmbeddingRequest, identity: Identity, fidelity: Fidelity) -> bytes:
    """The vector. Raises GatewayError(UPSTREAM_ERROR) for what is none."""
    return _encode({"embedding": next(iter(numbers(response)), [])})
