"""The Hardcarrx dialect: Chat Completions for one named provider, with few statuses and its own errors.

Requests are OpenAI's with ``provider``, which pins one upstream. Answers are written anew, since its messages always
have a text. Source: its OpenAPI document, as of 2026-11.
"""

from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart
from pointsman.canonical.request import Request
from pointsman.canonical.response import Response
from pointsman.dialects import openai_chat_stream
from pointsman.dialects.openai_chat_request import read_request as read_chat
from pointsman.dialects.openai_chat_response import AnswerWriter, answer_of
from pointsman.dialects.openai_errors import ERROR_TYPES
from pointsman.dialects.openai_errors import render_limits as render_limits
from pointsman.errors import GatewayError, Kind

NAME: Final = "hardcarrx.chat"
WIRE: Final = "hardcarrx"
OPERATION: Final = "chat"
STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"
KEEP_ALIVE: Final = b": keep-alive\n\n"  # a comment
UNSAID: Final = frozenset(("stop_sequence", "quotes"))
# Members for the service itself, and two of its past: no upstream gets them, two of them may be credentials.
_NOT_FOR_UPSTREAMS: Final = ("provider_key", "cache", "no_cache", "memory", "llm_provider", "llm_api_key")
ROLES: Final = ("system", "user", "assistant", "tool")
MAX_TEMPERATURE: Final = 2.0
# The contract's statuses beside success; what it has none for is told with the one of the same first digit.
_STATUSES: Final = frozenset((400, 401, 402, 429, 500))
_messages: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.Encoder().encode


class _Writer(AnswerWriter):
    """A message without text has an empty one."""

    def message(self, parts: list[AnyPart]) -> dict[str, Any]:
        out = super().message(parts)
        if out["content"] is None:
            out["content"] = ""
        return out


class StreamRenderer(openai_chat_stream.StreamRenderer):
    """Writes chunks for one client; a stream that broke ends with the error."""

    def _fail(self, error: GatewayError) -> bytes:
        return render_stream_error(error, self._identity.request_id)


def read_request(body: bytes, call: ClientCall) -> Request:
    """A chat. Raises GatewayError(INVALID_REQUEST) for what the contract does not allow beside OpenAI's own rules."""
    request = read_chat(body, call)
    for name in _NOT_FOR_UPSTREAMS:
        request.extra.pop(name, None)
    if request.temperature is not None and not 0 <= request.temperature <= MAX_TEMPERATURE:
        raise GatewayError(Kind.INVALID_REQUEST, "'temperature' must be from 0 to 2", param="temperature")
    if request.max_output_tokens is not None and request.max_output_tokens < 1:
        raise GatewayError(Kind.INVALID_REQUEST, "'max_tokens' must be 1 or more", param="max_tokens")
    for number, message in enumerate(_messages.decode(body)["messages"]):
        if message["role"] not in ROLES:
            place = f"messages[{number}].role"
            raise GatewayError(Kind.INVALID_REQUEST, f"'{place}' must be one of {', '.join(ROLES)}", param=place)
    return request


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """A chat completion, with the name of who gave it."""
    out = answer_of(_Writer(request, fidelity, response.wire), response, request, identity)
    aside = identity.aside() if identity.aside is not None else {}
    if "provider" in aside:
        out["provider"] = aside["provider"]
    return _encode(out)


def status_of(error: GatewayError) -> int:
    """One of the contract's five, where it is about a call at all and not about a path."""
    if error.status in _STATUSES or error.kind in (Kind.NOT_FOUND, Kind.METHOD_NOT_ALLOWED):
        return error.status
    return 401 if error.kind is Kind.PERMISSION_DENIED else 400 if error.status < 500 else 500


def render_error(error: GatewayError, request_id: str) -> bytes:
    """``{error: {code, message}}``, where the code is the status, and OpenAI's type and param for its SDKs."""
    told = {"code": status_of(error), "message": error.message, "type": ERROR_TYPES[error.kind][0]}
    return _encode({"error": told if error.param is None else told | {"param": error.param}})


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """The error as the last event of a stream."""
    return b"data: " + render_error(error, request_id) + b"\n\n"
