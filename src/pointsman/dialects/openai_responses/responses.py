"""The response object around the items: the request's settings as the client gave them, and how the answer stands."""

from types import MappingProxyType
from typing import Any, Final

from pointsman.canonical.parts import Extra, TextPart
from pointsman.canonical.request import Request
from pointsman.canonical.response import FinishReason
from pointsman.dialects.openai_responses.reading import INSTRUCTIONS
from pointsman.errors import GatewayError, Kind
from pointsman.wire.openai_responses.tools import write_choice, write_format, write_tools

# What a failed response's error is called. OpenAI has few words for it; every other failure is a server_error.
FAILURE_CODES: Final = MappingProxyType(
    {
        **dict.fromkeys(Kind, "server_error"),
        Kind.RATE_LIMITED: "rate_limit_exceeded",
        Kind.CONTEXT_LENGTH: "context_length_exceeded",
        Kind.CONTENT_FILTERED: "invalid_prompt",
        Kind.INVALID_REQUEST: "invalid_prompt",
        Kind.UNSUPPORTED: "invalid_prompt",
    }
)
# Why an answer is not whole.
_INCOMPLETE: Final = MappingProxyType(
    {
        FinishReason.LENGTH: "max_output_tokens",
        FinishReason.CONTEXT_LENGTH: "max_output_tokens",
        FinishReason.PAUSE: "max_output_tokens",
        FinishReason.CONTENT_FILTER: "content_filter",
    }
)
_MALFORMED: Final = "the model called a tool in a way that can't be read"
_BROKEN: Final = "the model's answer ended with an error"


def begin_response(request: Request) -> Extra:
    """A response with nothing in it yet: all of the request's settings."""
    options, extra = request.reasoning, request.extra
    return {
        "id": "",
        "object": "response",
        "created_at": 0,
        "status": "in_progress",
        "background": extra.get("background") or False,
        "error": None,
        "incomplete_details": None,
        "instructions": _instructions(request),
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "model": request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": extra.get("previous_response_id") or request.paths.get("previous_response_id"),
        "prompt_cache_key": request.prompt_cache_key,
        "prompt_cache_retention": request.prompt_cache_retention,
        "reasoning": {
            "effort": options.effort if options is not None else None,
            "summary": options.summary if options is not None else None,
        },
        "safety_identifier": request.safety_identifier,
        "service_tier": request.service_tier,
        "temperature": request.temperature,
        "text": _text(request),
        "tool_choice": write_choice(request.tool_choice, request.tools) if request.tool_choice else "auto",
        "tools": write_tools(request.tools, own=True),
        "top_logprobs": request.top_logprobs,
        "top_p": request.top_p,
        "truncation": extra.get("truncation") or "disabled",
        "usage": None,
        "user": request.user,
        "metadata": request.metadata or {},
    }


def end_response(response: Extra, reason: FinishReason | None, *, refused: bool) -> None:
    """Say how an answer that came whole stands: completed, incomplete and why, or failed."""
    if reason is FinishReason.REFUSAL and not refused:
        reason = FinishReason.CONTENT_FILTER  # an upstream that stops without words of refusal
    why = _INCOMPLETE.get(reason) if reason is not None else None
    if why is not None:
        response["status"] = "incomplete"
        response["incomplete_details"] = {"reason": why}
    elif reason in (FinishReason.MALFORMED_CALL, FinishReason.ERROR):
        response["status"] = "failed"
        message = _MALFORMED if reason is FinishReason.MALFORMED_CALL else _BROKEN
        response["error"] = {"code": "server_error", "message": message}
    else:
        response["status"] = "completed"


def fail_response(response: Extra, error: GatewayError) -> None:
    """Say that an answer broke off."""
    response["status"] = "failed"
    response["error"] = {"code": FAILURE_CODES[error.kind], "message": error.message}


def _instructions(request: Request) -> str | None:
    first = request.messages[0] if request.messages else None
    if first is None or first.path != INSTRUCTIONS:
        return None
    return "".join(part.text for part in first.parts if isinstance(part, TextPart))


def _text(request: Request) -> Extra:
    wanted = request.output_format
    text: dict[str, Any] = {"format": {"type": "text"} if wanted is None else write_format(wanted)}
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    return text
