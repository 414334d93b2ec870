"""The OpenAI Chat Completions dialect: reads a request, writes errors. On the raw lane answers pass as they come."""

from typing import Final

import msgspec

from pointsman.dialects.openai_chat_request import read_request as read_request
from pointsman.dialects.openai_chat_response import write_response as write_response
from pointsman.dialects.openai_chat_stream import StreamRenderer as StreamRenderer
from pointsman.dialects.openai_errors import ERROR_TYPES as ERROR_TYPES
from pointsman.dialects.openai_errors import render_error as render_error
from pointsman.dialects.openai_errors import render_limits as render_limits
from pointsman.dialects.openai_errors import render_stream_error as render_stream_error
from pointsman.errors import GatewayError, Kind
from pointsman.wire.bodies import LARGE_BODY_BYTES, refuse_other_models
from pointsman.wire.json_faults import describe
from pointsman.wire.long_strings import shorten
from pointsman.wire.openai_chat import MAX_TOKENS, ChatRequest, Fields

NAME: Final = "openai.chat"
WIRE: Final = "openai.chat"
OPERATION: Final = "chat"
STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"
KEEP_ALIVE: Final = b": keep-alive\n\n"  # a comment
UNSAID: Final = frozenset(("stop_sequence", "quotes"))
MAX_MODEL_LENGTH: Final = 256
MAX_CHOICES: Final = 128
_SOME_MESSAGES: Final = msgspec.Raw(b'[{"role":"user"}]')

_request: Final = msgspec.json.Decoder(ChatRequest)
_fields: Final = msgspec.json.Decoder(Fields)
_encode: Final = msgspec.json.Encoder().encode


class ChatCall(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request: what the gateway needs of it, and every member as it came."""

    model: str
    stream: bool
    choices: int
    max_output_tokens: int
    outline: bytes | None
    usage_wanted: bool  # the client asked for a stream's usage
    fields: Fields
    request: None = None

    @property
    def members(self) -> Fields:
        """Every member, as it came."""
        return self.fields


def parse_request(body: bytes) -> ChatCall:
    """Check a request's body and take it apart; each member's value stays byte for byte.

    Raises GatewayError(INVALID_REQUEST) that gives the byte where malformed JSON broke, or names the wrong field.
    """
    if not body:
        raise GatewayError(
            Kind.INVALID_REQUEST, "the request has no body; send a JSON object with 'model' and 'messages'"
        )
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into members that are only carried
        if len(body) < LARGE_BODY_BYTES:
            request = _request.decode(body)
            fields = _fields.decode(body)
            ambiguous, outline = _is_ambiguous(body, fields), None
        else:
            request, fields, ambiguous, outline = _read_large(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise describe(error, body) from None
    if ambiguous:
        raise GatewayError(
            Kind.INVALID_REQUEST, "'model' is given twice, or a member's name is written with escapes", param="model"
        )
    refuse_other_models(fields)
    if len(request.model) > MAX_MODEL_LENGTH:
        raise GatewayError(Kind.INVALID_REQUEST, f"'model' is longer than {MAX_MODEL_LENGTH} characters", param="model")
    if request.n is not None and not 1 <= request.n <= MAX_CHOICES:
        raise GatewayError(Kind.INVALID_REQUEST, f"'n' must be a whole number from 1 to {MAX_CHOICES}", param="n")
    if not request.messages:
        raise GatewayError(Kind.INVALID_REQUEST, "'messages' is empty; send at least one message", param="messages")
    choices = request.n or 1
    tokens = request.max_completion_tokens or request.max_tokens
    return ChatCall(
        model=request.model,
        stream=request.stream is True,
        choices=choices,
        max_output_tokens=min(max(0, tokens), MAX_TOKENS) * choices if tokens else 0,
        usage_wanted=request.stream_options is not None and request.stream_options.include_usage is True,
        fields=fields,
        outline=outline,
    )


def _read_large(body: bytes) -> tuple[ChatRequest, Fields, bool, bytes | None]:
    """A large body: what is read, its members, whether it is ambiguous, its outline. Long strings are stepped over."""
    short = shorten(body)
    if short is not None:
        try:
            request, fields = _request.decode(short.text), _fields.decode(short.text)
            ambiguous = _is_ambiguous(short.text, fields)  # a mark's quotes can't stand inside a string
            return request, {name: short.whole(value) for name, value in fields.items()}, ambiguous, short.text
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass  # what is wrong is told from the body as it came
    fields = _fields.decode(body)
    return _request.decode(_without_contents(fields)), fields, _is_ambiguous(body, fields), None


def _without_contents(fields: Fields) -> bytes:
    """A large body's members without its messages, which the decoder would have to walk through once more.

    Whether each message has a role is then the upstream's to say; an empty list is still told from a filled one.
    """
    messages = memoryview(fields.get("messages", b""))
    if len(messages) < LARGE_BODY_BYTES // 2 or messages[0] != ord("["):
        return _encode(fields)
    return _encode(fields | {"messages": _SOME_MESSAGES})


def _is_ambiguous(body: bytes, fields: Fields) -> bool:
    """True when two readers of the body could see two models: the member is there twice, or spelled with escapes.

    Decoding keeps the last of equal members, so what was lost shows as marks that no kept value holds. The letters of
    the name begin with ``\\u006`` as escapes. Values are looked through only when a mark is there more than expected.
    """
    shortest = 1
    for name, value in fields.items():
        shortest += len(name) + len(value) + 4
    if len(body) == shortest:
        return False  # there is room for nothing but what was kept
    for mark, expected in ((b'"model"', 1), (b"\\u006", 0)):
        count = body.count(mark)
        if count > expected and count - sum(bytes(value).count(mark) for value in fields.values()) > expected:
            return True
    return False
