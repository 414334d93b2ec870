"""Anthropic's whole answers in our words."""

from typing import Any, Final

from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import AnyPart, Extra
from pointsman.canonical.response import Choice, Response
from pointsman.errors import GatewayError, Kind
from pointsman.wire.anthropic import WIRE
from pointsman.wire.anthropic.blocks import read_block, read_content
from pointsman.wire.anthropic.stop_reasons import read as read_reason
from pointsman.wire.anthropic.token_usage import read_extra, read_tier, read_usage
from pointsman.wire.members import Members, read_answer

_ENVELOPE: Final = ("type", "role", "content", "stop_reason", "stop_sequence", "stop_details", "usage")


def parse_response(body: bytes, identity: Identity) -> Response:
    """Raises GatewayError(UPSTREAM_ERROR) when the answer isn't whole or holds an error."""
    message = read_answer(body, "message")
    if message.value.get("type") == "error" or "error" in message:
        raise GatewayError(Kind.UPSTREAM_ERROR, "the upstream answered with status 200 and an error inside")
    if message.items("content") is None:
        raise message.wrong("content", "is missing")
    parts = read_content(message)
    for part in parts:
        part.path = ""  # it has no place in any client's request
    reason = message.text("stop_reason")
    response = Response(wire=WIRE, id=message.string("id"), model=message.string("model"))
    response.choices = [
        Choice(
            parts=parts,
            finish_reason=read_reason(reason),
            native_finish_reason=reason,
            stop_sequence=message.string("stop_sequence"),
            extra=details_of(message),
        )
    ]
    used = message.object("usage")
    message.ignore(*_ENVELOPE)
    response.extra = message.rest() or {}
    if used is not None:
        response.usage = read_usage(used)
        response.service_tier = read_tier(used)
        response.extra |= read_extra(used)
    return response


def parse_count_response(body: bytes) -> int:
    """The tokens of a prompt. Raises GatewayError(UPSTREAM_ERROR) when the upstream did not say."""
    counted = read_answer(body, "count of tokens")
    tokens = counted.integer("input_tokens", 0)
    if tokens is None:
        raise counted.wrong("input_tokens", "is missing")
    return tokens


def part_of(block: Members) -> AnyPart:
    """A block of an answer; it has no place in any client's request."""
    part = read_block(block)
    part.path = ""
    return part


def details_of(holder: Members) -> Extra | None:
    """What a refusal says of itself."""
    details: dict[str, Any] | None = holder.mapping("stop_details")
    return {"stop_details": details} if details is not None else None
