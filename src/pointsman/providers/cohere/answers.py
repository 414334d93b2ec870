"""Cohere's whole answers and refusals."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, Citation, ReasoningPart, TextPart, ToolCallPart
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.errors import GatewayError, Kind
from pointsman.providers.refusals import cleared, refusal
from pointsman.wire.cohere import BROKEN, REASONS, WIRE, read_citations, read_logprobs, read_usage, usage_beyond
from pointsman.wire.members import Members, read_answer

_PLAN: Final = "PLAN"
_REJECTED: Final = 498  # Cohere's own status for a token that is not valid
_TOO_LONG: Final = "too many tokens"
_BLOCKED: Final = ("blocked", "content policy", "safety")
_decode: Final = msgspec.json.Decoder().decode


def parse_response(body: bytes, identity: Identity) -> Response:
    """A whole answer. Raises GatewayError(UPSTREAM_ERROR) when it isn't whole or ended with an error."""
    members = read_answer(body, "answer")
    message = members.object("message")
    if message is None:  # refusals have a text there
        raise members.wrong("message", "is missing")
    native = members.string("finish_reason")
    if native is None:
        raise members.wrong("finish_reason", "is missing")
    found = members.raw("usage")
    choice = Choice(
        parts=_parts(message, identity),
        finish_reason=finish_reason(native),
        native_finish_reason=native,
        logprobs=read_logprobs(members.raw("logprobs")),
    )
    usage = read_usage(found)
    return Response(
        wire=WIRE,
        id=members.string("id"),
        choices=[choice],
        usage=usage,
        extra=usage_beyond(found),
    )


def finish_reason(native: str) -> FinishReason:
    """Our word for Cohere's. Raises GatewayError for those that say that the answer broke off."""
    if native == "TIMEOUT":
        raise GatewayError(Kind.UPSTREAM_TIMEOUT, "the upstream took too long to answer and broke off")
    if native in BROKEN:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream broke its answer off with an error")
    return REASONS.get(native, FinishReason.STOP)


def call_part(call: Members, identity: Identity, number: int, *, begun: bool = False) -> ToolCallPart:
    """A tool call; ``begun``: without the arguments that it comes with."""
    function = call.object("function")
    if function is None:
        raise call.wrong("function", "is missing")
    arguments = function.string("arguments") or ""
    name = call.string("id") or identity.derive("call_", number)
    return ToolCallPart(id=name, name=function.text("name"), arguments="" if begun else arguments)


def is_plan(citation: Any) -> bool:
    """Whether a citation is one of the plan before tool calls."""
    return isinstance(citation, dict) and citation.get("type") == _PLAN


def _parts(message: Members, identity: Identity) -> list[AnyPart]:
    parts: list[AnyPart] = []
    blocks: dict[int, AnyPart] = {}
    for number, block in enumerate(_blocks(message)):
        part = _block_part(block)
        if part is not None:
            blocks[number] = part
            parts.append(part)
    plan = TextPart(text=text) if (text := message.string("tool_plan")) else None
    if plan is not None:
        parts.append(plan)
    for number, call in enumerate(message.objects("tool_calls")):
        parts.append(call_part(call, identity, number))
    texts = [part for part in parts if isinstance(part, TextPart)]
    for citation in message.items("citations") or ():
        index = citation.get("content_index") if isinstance(citation, dict) else None
        target: Any = plan if is_plan(citation) else blocks.get(index) if type(index) is int else None
        if target is None and texts:
            target = texts[-1]
        if isinstance(target, TextPart):
            added: list[Citation] = read_citations(citation)
            target.citations = [*(target.citations or ()), *added] or None
    return parts


def _blocks(message: Members) -> list[Members]:
    if isinstance(message.value.get("content"), str):
        message.ignore("content")
        return [Members({"type": "text", "text": message.value["content"]}, message.at("content"))]
    return list(message.objects("content"))


def _block_part(block: Members) -> AnyPart | None:
    """A block's part; None for an empty one."""
    if block.string("type") == "thinking":
        thinking = block.string("thinking")
        return ReasoningPart(text=thinking) if thinking else None
    text = block.string("text")
    return TextPart(text=text) if text else None


def parse_error(status: int, headers: Mapping[bytes, bytes], body: bytes, secret: str | None) -> GatewayError:
    """What an answer that isn't 200 means to the client."""
    try:
        decoded = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        decoded = None
    told = decoded.get("message") if isinstance(decoded, dict) else None
    message = cleared(told, secret) if isinstance(told, str) else None
    if status == _REJECTED:
        status = 401
    return refusal(status, headers, message, kind=_kind_of(message or "", status), body=body)


def _kind_of(message: str, status: int) -> Kind | None:
    """What Cohere's words say beyond its status."""
    if status in (400, 422):
        if _TOO_LONG in message:
            return Kind.CONTEXT_LENGTH
        if any(word in message for word in _BLOCKED):
            return Kind.CONTENT_FILTERED
    return Kind.UNSUPPORTED if status == 501 else None
