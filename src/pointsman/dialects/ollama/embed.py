"""``POST /api/embed``: one vector for each text."""

from typing import Any, Final

import msgspec

from pointsman.canonical.embeddings import EmbeddingRequest, Embeddings, unpack
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.dialects.ollama.errors import render_error, render_limits, render_stream_error
from pointsman.dialects.ollama.requests import read_model
from pointsman.errors import GatewayError, Kind
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

NAME: Final = "ollama.embed"
OPERATION: Final = "embeddings"
MAX_INPUTS: Final = 2048
MAX_DIMENSIONS: Final = 65_536

_encode: Final = msgspec.json.Encoder().encode


def read_request(body: bytes, call: ClientCall) -> EmbeddingRequest:
    """Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
    members = reading.read_request(body, "'model' and 'input'")
    given: Any = members.raw("input")
    if given is None:
        raise members.wrong("input", "is missing")
    inputs = given if isinstance(given, list) else [given]
    if not inputs or len(inputs) > MAX_INPUTS:
        raise members.wrong("input", f"must hold 1 to {MAX_INPUTS} texts")
    if not all(type(text) is str for text in inputs):
        raise members.wrong("input", "must be a text or a list of texts")
    return EmbeddingRequest(
        wire=WIRE,
        model=read_model(members, call),
        inputs=inputs,
        dimensions=members.integer("dimensions", 1, MAX_DIMENSIONS),
        truncate=members.boolean("truncate"),
        paths={"inputs": "input"},
        extra=members.rest() or {},
    )


def write_response(response: Embeddings, request: EmbeddingRequest, identity: Identity, fidelity: Fidelity) -> bytes:
    """The vectors in the order of the texts. Raises GatewayError(UPSTREAM_ERROR) for what is no vector."""
    answer: dict[str, Any] = {"model": response.model or request.model, "embeddings": numbers(response)}
    if response.usage is not None:
        answer["prompt_eval_count"] = response.usage.input_tokens
    return _encode(answer)


def numbers(response: Embeddings) -> list[list[float]]:
    """The vectors as numbers. Raises GatewayError(UPSTREAM_ERROR) for what is no vector."""
    try:
        return [unpack(vector) if isinstance(vector, str) else vector for vector in response.vectors]
    except ValueError:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream sent a vector that holds no 32-bit floats") from None
