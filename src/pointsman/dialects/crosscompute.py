"""The CrossCompute dialect: Chat Completions whose messages may also have the Responses API's names for their parts.

Everything else is OpenAI's, so a request takes the raw lane like OpenAI's own. Source: its OpenAPI document, as of
2026-11.
"""

from typing import Any, Final

import msgspec

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.request import Request
from pointsman.dialects import openai_chat
from pointsman.dialects.openai_chat import KEEP_ALIVE as KEEP_ALIVE
from pointsman.dialects.openai_chat import OPERATION as OPERATION
from pointsman.dialects.openai_chat import STREAM_TYPE as STREAM_TYPE
from pointsman.dialects.openai_chat import UNSAID as UNSAID
from pointsman.dialects.openai_chat import WIRE as WIRE
from pointsman.dialects.openai_chat import ChatCall
from pointsman.dialects.openai_chat import StreamRenderer as StreamRenderer
from pointsman.dialects.openai_chat import render_error as render_error
from pointsman.dialects.openai_chat import render_limits as render_limits
from pointsman.dialects.openai_chat import render_stream_error as render_stream_error
from pointsman.dialects.openai_chat import write_response as write_response

NAME: Final = "crosscompute.chat"
_MARKS: Final = (b'"input_text"', b'"input_image"')
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


def parse_request(body: bytes) -> ChatCall:
    """As OpenAI's. Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
    return openai_chat.parse_request(in_openai_s_words(body))


def read_request(body: bytes, call: ClientCall) -> Request:
    """As OpenAI's. Raises GatewayError(INVALID_REQUEST) that names the field at fault."""
    return openai_chat.read_request(in_openai_s_words(body), call)


def in_openai_s_words(body: bytes) -> bytes:
    """The body with the parts of its messages renamed; one that can't be read is left for its reader to refuse."""
    if not any(mark in body for mark in _MARKS):
        return body
    try:
        request = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return body
    messages = request.get("messages") if isinstance(request, dict) else None
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            message["content"] = [_renamed(part) for part in message["content"]]
    return _encode(request)


def _renamed(part: Any) -> Any:
    if not isinstance(part, dict) or part.get("type") not in ("input_text", "input_image"):
        return part
    if part["type"] == "input_text":
        return {**part, "type": "text"}
    rest = {name: value for name, value in part.items() if name not in ("image_url", "url", "detail")}
    image = part.get("image_url", part.get("url"))
    if not isinstance(image, dict):
        image = {"url": image}
    if "detail" in part:
        image = {**image, "detail": part["detail"]}
    return {**rest, "type": "image_url", "image_url": image}
