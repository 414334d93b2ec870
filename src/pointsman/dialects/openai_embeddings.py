"""OpenAI's embeddings as clients speak them, with what OpenRouter and other compatible gateways add (``input_type``).

Source: the API reference at platform.openai.com/docs/api-reference/embeddings, as of 2026-11.
"""

from typing import Any, Final

import msgspec

from pointsman.canonical.embeddings import EmbeddingRequest, Embeddings, Inputs, pack, purpose_of, unpack
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.usage import NO_USAGE
from pointsman.dialects.openai_chat import MAX_MODEL_LENGTH
from pointsman.dialects.openai_chat import render_error as render_error
from pointsman.dialects.openai_chat import render_limits as render_limits
from pointsman.dialects.openai_chat import render_stream_error as render_stream_error
from pointsman.errors import GatewayError, Kind
from pointsman.wire.members import Members
from pointsman.wire.members import read_request as read_json

NAME: Final = "openai.embeddings"
WIRE: Final = "openai.embeddings"
OPERATION: Final = "embeddings"
MAX_INPUTS: Final = 2048
MAX_DIMENSIONS: Final = 65_536

_encode: Final = msgspec.json.Encoder().encode


def read_request(body: bytes, call: ClientCall) -> EmbeddingRequest:
    """Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
    members = read_json(body, "'model' and 'input'")
    request = EmbeddingRequest(
        wire=WIRE,
        model=read_model(members, call),
        inputs=_read_inputs(members),
        dimensions=members.integer("dimensions", 1, MAX_DIMENSIONS),
        encoding=members.one_of("encoding_format", "float", "base64"),  # type: ignore[arg-type]
        user=members.string("user"),
        paths={"inputs": "input", "encoding": "encoding_format", "purpose": "input_type"},
    )
    word = members.string("input_type")
    if word is not None:
        request.purpose = purpose_of(word)
        if request.purpose is None:
            request.extra["input_type"] = word
    request.extra |= members.rest() or {}
    return request


def read_model(members: Members, call: ClientCall, default: str | None = None) -> str:
    """The model that a request asks for: the path's, the body's, or the default of its operation."""
    model = call.model or members.string("model") or default
    members.ignore("model")
    if not model:
        raise GatewayError(Kind.INVALID_REQUEST, "'model' is missing", param="model")
    if len(model) > MAX_MODEL_LENGTH:
        raise GatewayError(Kind.INVALID_REQUEST, f"'model' is longer than {MAX_MODEL_LENGTH} characters", param="model")
    return model


def write_response(response: Embeddings, request: EmbeddingRequest, identity: Identity, fidelity: Fidelity) -> bytes:
    """OpenAI's list of embeddings, in the encoding that was asked for."""
    usage = response.usage if response.usage is not None else NO_USAGE
    rows = [
        {"object": "embedding", "index": index, "embedding": _as_asked(vector, request.encoding)}
        for index, vector in enumerate[list[float] | str](response.vectors)
    ]
    return _encode(
        {
            "object": "list",
            "data": rows,
            "model": response.model or request.model,
            "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens},
        }
    )


def _as_asked(vector: list[float] | str, encoding: str | None) -> list[float] | str:
    try:
        if encoding == "base64":
            return vector if isinstance(vector, str) else pack(vector)
        return unpack(vector) if isinstance(vector, str) else vector
    except ValueError:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream sent a vector that holds no 32-bit floats") from None


def _read_inputs(members: Members) -> Inputs:
    value = members.raw("input")
    if value is None:
        raise members.wrong("input", "is missing")
    found: Any = value if isinstance(value, list) else [value]
    if found and all(type(item) is int for item in found):
        found = [found]
    if not found or len(found) > MAX_INPUTS:
        raise members.wrong("input", f"must hold 1 to {MAX_INPUTS} inputs")
    if all(type(item) is str for item in found):
        empty = next((number for number, item in enumerate(found) if not item), None)
        if empty is not None:
            raise members.wrong("input" if found is not value else f"input[{empty}]", "is empty")
        return found  # type: ignore[no-any-return]
    if all(type(item) is list and item and all(type(token) is int and token >= 0 for token in item) for item in found):
        return found  # type: ignore[no-any-return]
    if all(type(item) is dict for item in found):
        return found  # type: ignore[no-any-return]
    raise members.wrong("input", "must be a text, a list of texts, tokens, or a list of lists of tokens")
