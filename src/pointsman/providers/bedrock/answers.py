"""Bedrock's whole answers and refusals."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import (
    AnyPart,
    ImagePart,
    NativePart,
    Opaque,
    ReasoningPart,
    Source,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.errors import GatewayError, Kind
from pointsman.providers.refusals import cleared, refusal
from pointsman.wire.bedrock import REASONS, WIRE, read_citation, read_usage
from pointsman.wire.members import Members, read_answer

_ERROR_TYPE: Final = b"x-amzn-errortype"
# What a ValidationException is about, by its words.
_SAID: Final = {
    Kind.CONTEXT_LENGTH: ("too long", "context window", "context length", "maximum tokens", "too many input tokens"),
    Kind.MODEL_NOT_FOUND: ("model identifier is invalid",),
    Kind.CONTENT_FILTERED: ("content filtering policy",),
}
_KINDS: Final = {
    "ModelTimeoutException": Kind.UPSTREAM_TIMEOUT,
    "ModelErrorException": Kind.UPSTREAM_ERROR,
    "ModelNotReadyException": Kind.OVERLOADED,
}
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def parse_response(body: bytes, identity: Identity) -> Response:
    """A whole answer. Raises GatewayError(UPSTREAM_ERROR) when it isn't one."""
    members = read_answer(body, "answer")
    output = members.object("output")
    message = output.object("message") if output is not None else None
    if message is None:
        raise members.wrong("output", "is missing")
    native = members.string("stopReason")
    if native is None:
        raise members.wrong("stopReason", "is missing")
    parts = [read_block(block, identity, number) for number, block in enumerate(message.objects("content"))]
    choice = Choice(
        parts=[part for part in parts if part is not None],
        finish_reason=finish_reason(native),
        native_finish_reason=native,
    )
    found = members.raw("usage")
    usage = read_usage(found)
    return Response(
        wire=WIRE,
        choices=[choice],
        usage=usage,
        extra={} if usage is None else told_beyond(members),
    )


def told_beyond(members: Members) -> dict[str, Any]:
    """What an answer says beyond our words."""
    names = ("metrics", "trace", "performanceConfig", "serviceTier", "additionalModelResponseFields")
    return {name: value for name in names if (value := members.raw(name)) is not None}


def finish_reason(native: str) -> FinishReason:
    """Our word for Bedrock's."""
    return REASONS.get(native, FinishReason.STOP)


def read_block(block: Members, identity: Identity, number: int) -> AnyPart | None:
    """One block of an answer; None for an empty text."""
    if (text := block.string("text")) is not None:
        return TextPart(text=text) if text else None
    if (call := block.object("toolUse")) is not None:
        arguments = _encode(call.mapping("input") or {}).decode()
        name = call.string("toolUseId") or identity.derive("call_", number)
        return ToolCallPart(id=name, name=call.text("name"), arguments=arguments)
    if (thought := block.object("reasoningContent")) is not None:
        return _read_thought(thought)
    if (cited := block.object("citationsContent")) is not None:
        texts = [one.string("text") or "" for one in cited.objects("content")]
        found = [one for raw in cited.items("citations") or () if (one := read_citation(raw)) is not None]
        return TextPart(text="".join(texts), citations=found or None)
    if (image := block.object("image")) is not None:
        source = image.object("source")
        data = source.string("bytes") if source is not None else None
        if data is not None:
            kind = image.string("format") or "png"
            return ImagePart(source=Source(data=data, media_type=f"image/{kind}"))
    return NativePart(wire=WIRE, type=next(iter(block.value), ""), value=block.value)


def _read_thought(thought: Members) -> AnyPart:
    hidden = thought.string("redactedContent")
    if hidden is not None:
        return ReasoningPart(opaque=Opaque(origin=WIRE, kind="redacted", data=hidden))
    told = thought.object("reasoningText") or Members({})
    signature = told.string("signature")
    opaque = Opaque(origin=WIRE, kind="signature", data=signature) if signature else None
    return ReasoningPart(text=told.string("text") or "", opaque=opaque)


def parse_error(status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
    """What an answer that isn't 200 means to the client: the exception's name stands in a header."""
    try:
        decoded = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        decoded = None
    told = decoded.get("message") if isinstance(decoded, dict) else None
    message = cleared(told, secret) if isinstance(told, str) else None
    name = headers.get(_ERROR_TYPE, b"").partition(b":")[0].decode("latin-1")
    kind = _KINDS.get(name)
    if kind is not None:
        return GatewayError(kind, f"the upstream's model failed ({name})")
    if name == "ServiceQuotaExceededException":  # with status 400
        kind = Kind.RATE_LIMITED
    elif name == "ValidationException" and message is not None:
        words = message.lower()
        kind = next((kind for kind, marks in _SAID.items() if any(mark in words for mark in marks)), None)
    return refusal(status, headers, message, kind=kind, body=body)
