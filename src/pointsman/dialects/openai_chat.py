"""The OpenAI Chat Completions dialect: reads a request, writes errors. On the raw lane answers pass as they come."""

from types import MappingProxyType
from typing import Final

import msgspec

from pointsman.canonical.limits import Quota, Standing
from pointsman.errors import GatewayError, Kind
from pointsman.wire.json_faults import describe
from pointsman.wire.openai_chat import MAX_TOKENS, ChatRequest, ErrorBody, ErrorDetail, Fields

NAME: Final = "openai.chat"
OPERATION: Final = "chat"
MAX_MODEL_LENGTH: Final = 256
MAX_CHOICES: Final = 128
LARGE_BODY_BYTES: Final = 64 * 1024
_SOME_MESSAGES: Final = msgspec.Raw(b'[{"role":"user"}]')

# (type, code) of each kind, as OpenAI's own errors have them where there is one.
ERROR_TYPES: Final = MappingProxyType(
    {
        Kind.INVALID_REQUEST: ("invalid_request_error", None),
        Kind.TOO_LARGE: ("invalid_request_error", "request_too_large"),
        Kind.HEADERS_TOO_LARGE: ("invalid_request_error", "headers_too_large"),
        Kind.UNAUTHENTICATED: ("invalid_request_error", "invalid_api_key"),
        Kind.PERMISSION_DENIED: ("permission_error", "permission_denied"),
        Kind.NOT_FOUND: ("invalid_request_error", "not_found"),
        Kind.METHOD_NOT_ALLOWED: ("invalid_request_error", "method_not_allowed"),
        Kind.MODEL_NOT_FOUND: ("invalid_request_error", "model_not_found"),
        Kind.UNSUPPORTED: ("invalid_request_error", "unsupported"),
        Kind.UNSUPPORTED_ENCODING: ("invalid_request_error", "unsupported_content_encoding"),
        Kind.CONTEXT_LENGTH: ("invalid_request_error", "context_length_exceeded"),
        Kind.CONTENT_FILTERED: ("invalid_request_error", "content_policy_violation"),
        Kind.PAYMENT_REQUIRED: ("insufficient_quota", "insufficient_quota"),
        Kind.RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
        Kind.CLIENT_TIMEOUT: ("invalid_request_error", "request_timeout"),
        Kind.UPSTREAM_ERROR: ("upstream_error", "upstream_error"),
        Kind.UPSTREAM_REJECTED: ("upstream_error", "upstream_rejected"),
        Kind.UPSTREAM_TIMEOUT: ("upstream_error", "upstream_timeout"),
        Kind.UPSTREAM_UNAVAILABLE: ("upstream_error", "upstream_unavailable"),
        Kind.OVERLOADED: ("server_error", "overloaded"),
        Kind.NOT_READY: ("server_error", "not_ready"),
        Kind.INTERNAL: ("server_error", "internal_error"),
    }
)

_request: Final = msgspec.json.Decoder(ChatRequest)
_fields: Final = msgspec.json.Decoder(Fields)
_encode: Final = msgspec.json.Encoder().encode


class ChatCall(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request: what the gateway needs of it, and every member as it came."""

    model: str
    stream: bool
    choices: int
    max_output_tokens: int
    fields: Fields


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
        else:
            fields = _fields.decode(body)
            request = _request.decode(_without_contents(fields))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise describe(error, body) from None
    if _is_ambiguous(body, fields):
        raise GatewayError(
            Kind.INVALID_REQUEST, "'model' is given twice, or a member's name is written with escapes", param="model"
        )
    if len(request.model) > MAX_MODEL_LENGTH:
        raise GatewayError(Kind.INVALID_REQUEST, f"'model' is longer than {MAX_MODEL_LENGTH} characters", param="model")
    if request.n is not None and not 1 <= request.n <= MAX_CHOICES:
        raise GatewayError(Kind.INVALID_REQUEST, f"'n' must be a whole number from 1 to {MAX_CHOICES}", param="n")
    if not request.messages:
        raise GatewayError(Kind.INVALID_REQUEST, "'messages' is empty; send at least one message", param="messages")
    choices = request.n or 1
    return ChatCall(
        model=request.model,
        stream=request.stream is True,
        choices=choices,
        max_output_tokens=min(max(0, request.max_completion_tokens or request.max_tokens or 0), MAX_TOKENS) * choices,
        fields=fields,
    )


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
    for mark, expected in ((b'"model"', 1), (b"\\u006", 0)):
        count = body.count(mark)
        if count > expected and count - sum(bytes(value).count(mark) for value in fields.values()) > expected:
            return True
    return False


def render_error(error: GatewayError, request_id: str) -> bytes:
    """The error as a JSON body in OpenAI's shape; an upstream's own 4xx answer is passed on as it came."""
    if error.upstream_body is not None:
        return error.upstream_body
    kind, code = ERROR_TYPES[error.kind]
    return _encode(ErrorBody(error=ErrorDetail(message=error.message, type=kind, param=error.param, code=code)))


def render_limits(standing: Standing) -> bytes:
    """Header lines, as OpenAI has them, that say how near the caller is to its limits."""
    lines = b""
    if standing.requests is not None:
        lines = _quota(b"requests", standing.requests)
    if standing.tokens is not None:
        lines += _quota(b"tokens", standing.tokens)
    return lines


def _quota(unit: bytes, quota: Quota) -> bytes:
    return b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n" % (
        unit,
        quota.limit,
        unit,
        quota.remaining,
        unit,
        _duration(quota.reset_seconds),
    )


def _duration(seconds: int) -> bytes:
    """As OpenAI writes it: ``6m0s``, ``1h0m5s``, ``9s``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, rest)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """The error as the last event of a stream; the OpenAI SDKs raise APIError at it."""
    body = render_error(error, request_id)
    if b"\n" in body or b"\r" in body:
        body = msgspec.json.format(body, indent=-1)  # an event's data is one line
    return b"data: " + body + b"\n\n"
