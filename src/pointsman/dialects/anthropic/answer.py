"""A whole answer as an Anthropic message, and the parts of one that streams have too."""

from typing import Any, Final

import msgspec

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import Extra, ToolCallPart
from pointsman.canonical.request import Request
from pointsman.canonical.response import Choice, FinishReason, Response
from pointsman.canonical.usage import NO_USAGE, TokenUsage
from pointsman.dialects.anthropic.blocks import write_blocks
from pointsman.errors import GatewayError, Kind
from pointsman.wire.anthropic.stop_reasons import WRITE
from pointsman.wire.anthropic.token_usage import write_usage

_BROKEN: Final = frozenset({FinishReason.ERROR, FinishReason.MALFORMED_CALL})
_WORDS: Final = frozenset({*WRITE.values(), "compaction"})
# What Anthropic says of an answer beyond our words.
_MEMBERS: Final = frozenset(
    {
        "container",
        "context_management",
        "diagnostics",
        "input_transformations",
        "usage.fallback_credit",
        "usage.inference_geo",
        "usage.iterations",
        "usage.server_tool_use",
        "usage.speed",
    }
)
_TIERS: Final = {"default": "standard", "priority": "priority", "batch": "batch"}

_encode: Final = msgspec.json.Encoder().encode


def write_response(response: Response, request: Request, identity: Identity, fidelity: Fidelity) -> bytes:
    """The message. Raises GatewayError(UPSTREAM_ERROR) when the answer ended in a way that is no answer."""
    choice = response.choices[0] if response.choices else Choice()
    if len(response.choices) > 1:
        fidelity.dropped("choices", "Anthropic's messages are one answer")
    message = opening(response.id, response.model or request.model, identity)
    message["content"] = write_blocks(choice.parts, fidelity)
    called = any(isinstance(part, ToolCallPart) for part in choice.parts)
    message |= closing(choice, called=called)
    if response.usage is None:
        fidelity.synthesised("usage", "the upstream reported none")
    message["usage"] = usage_of(response.usage, response.service_tier)
    put_extra(message, response.extra, fidelity)
    return _encode(message | identity.told())


def opening(response_id: str | None, model: str, identity: Identity) -> dict[str, Any]:
    """What a message begins with; an id that isn't Anthropic's gives way to one that is like it."""
    named = response_id if response_id is not None and response_id.startswith("msg_") else identity.derive("msg_")
    return {"id": named, "type": "message", "role": "assistant", "model": model, "content": []}


def closing(choice: Choice, *, called: bool) -> dict[str, Any]:
    """Why the answer ended. Raises GatewayError(UPSTREAM_ERROR) when that is a failure."""
    reason = choice.finish_reason or FinishReason.STOP
    if reason in _BROKEN:
        raise GatewayError(
            Kind.UPSTREAM_ERROR,
            "the model's answer broke off"
            if reason is FinishReason.ERROR
            else "the model called a tool in a way that can't be read; try again",
        )
    word = WRITE[reason]
    if choice.native_finish_reason in _WORDS:
        word = choice.native_finish_reason or word
    elif called and reason is FinishReason.STOP:
        word = "tool_use"  # OpenAI ends a forced call with "stop"
    details = (choice.extra or {}).get("stop_details")
    if word == "refusal" and details is None:
        details = {"type": "refusal", "category": None, "explanation": None}
    return {"stop_reason": word, "stop_sequence": choice.stop_sequence, "stop_details": details}


def usage_of(usage: TokenUsage | None, tier: str | None) -> dict[str, Any]:
    """The usage object, which Anthropic's clients can't do without."""
    written = write_usage(usage or NO_USAGE)
    if tier in _TIERS:
        written["service_tier"] = _TIERS[tier]
    return written


def put_extra(message: dict[str, Any], extra: Extra, fidelity: Fidelity) -> None:
    """What an upstream said beyond our words: in its place when it is Anthropic's, else noted."""
    for path, value in extra.items():
        if path not in _MEMBERS:
            fidelity.unplaced(path, value, "Anthropic's answers have no such member")
        elif path.startswith("usage."):
            message["usage"].setdefault(path.removeprefix("usage."), value)
        else:
            message.setdefault(path, value)
