"""Requests to Cohere."""

from typing import Any, Final

import msgspec

from pointsman.canonical.effort import budget_of
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.request import Request, Tool
from pointsman.providers.cohere.messages import Messages
from pointsman.providers.leftovers import Leftovers
from pointsman.wire.bodies import with_model
from pointsman.wire.cohere import API, CHAT_PATH, MAX_STOPS, NUMBERS, WIRE

_HEADERS: Final = (("content-type", "application/json"),)
_NOT_HAD: Final = (
    "max_tool_calls", "choices", "min_p", "top_a", "repetition_penalty", "logit_bias", "top_logprobs", "service_tier",
    "verbosity", "user", "safety_identifier", "metadata", "store", "prompt_cache_key", "prompt_cache_retention",
    "modalities", "audio", "prediction", "web_search", "betas",
)  # fmt: skip
_encode: Final = msgspec.json.Encoder().encode


def auth_headers(secret: str, upstream: Upstream) -> tuple[tuple[str, str], ...]:
    """A bearer token."""
    return (("authorization", f"Bearer {secret}"),)


def patch_request(body: bytes, request: Request, upstream: Upstream) -> Built:
    """The client's own body with the upstream's name of the model.

    Raises GatewayError(INVALID_REQUEST) when ``body`` is no JSON object.
    """
    return Built(path=CHAT_PATH, body=with_model(body, upstream.model), headers=_HEADERS)


def build_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """``/v2/chat``. Raises GatewayError(INVALID_REQUEST) for an earlier call whose arguments are no JSON object."""
    left = Leftovers(request, fidelity, API, WIRE)
    conversation = Messages(left, fidelity, cites=request.output_format is None)
    body: dict[str, Any] = {"model": upstream.model, "messages": conversation.write(request.messages)}
    body["stream"] = request.stream
    if conversation.documents:
        body["documents"] = conversation.documents
    _add_tools(request, body, left, fidelity)
    _add_output_format(request, body, fidelity)
    _add_thinking(request, body, fidelity)
    _add_options(request, body, fidelity)
    body |= left.extra("", request.extra)
    left.options(*_NOT_HAD)
    left.cache("", request.cache)
    return Built(path=CHAT_PATH, body=_encode(body), headers=_HEADERS)


def _add_options(request: Request, body: dict[str, Any], fidelity: Fidelity) -> None:
    for ours, (theirs, least, most) in NUMBERS.items():
        value = getattr(request, ours)
        if value is None:
            continue
        body[theirs] = max(least, min(value, most))
        if body[theirs] != value:
            fidelity.approximated(request.path(ours), f"Cohere takes {least} to {most}: {body[theirs]}")
    if request.max_output_tokens is not None:
        body["max_tokens"] = request.max_output_tokens
    if request.stop is not None:
        body["stop_sequences"] = request.stop[:MAX_STOPS]
        if len(request.stop) > MAX_STOPS:
            fidelity.dropped(f"{request.path('stop')}[{MAX_STOPS}]", f"Cohere takes {MAX_STOPS}; it and the rest")
    if request.logprobs is not None:
        body["logprobs"] = request.logprobs


def _add_output_format(request: Request, body: dict[str, Any], fidelity: Fidelity) -> None:
    wanted = request.output_format
    if wanted is None or wanted.kind == "text":
        return
    path = request.path("output_format")
    if wanted.kind == "grammar":
        fidelity.dropped(path, "Cohere takes JSON schemas only")
    elif body.get("tools"):
        fidelity.dropped(path, "Cohere takes no schema for the answer beside tools")
    else:
        body["response_format"] = {"type": "json_object"}
        if wanted.schema is not None:
            body["response_format"]["json_schema"] = wanted.schema
        if wanted.name is not None or wanted.description is not None or wanted.strict is not None:
            fidelity.mapped(path, "Cohere takes the schema alone, and always keeps to it")


def _add_thinking(request: Request, body: dict[str, Any], fidelity: Fidelity) -> None:
    wanted = request.reasoning
    if wanted is None:
        return
    path = request.path("reasoning")
    if wanted.enabled is False or wanted.effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif wanted.max_tokens is not None:
        body["thinking"] = {"type": "enabled", "token_budget": max(1, wanted.max_tokens)}
        if wanted.effort is not None:
            fidelity.dropped(f"{path}.effort", "Cohere takes a budget, no effort beside it")
    elif wanted.effort is not None:
        budget = budget_of(wanted.effort, request.max_output_tokens)
        body["thinking"] = {"type": "enabled", "token_budget": budget}
        fidelity.mapped(path, f"effort {wanted.effort} becomes a budget of {budget} tokens")
    elif wanted.enabled or wanted.adaptive:
        body["thinking"] = {"type": "enabled"}
    for name in ("summary", "exclude", "encrypted"):
        if getattr(wanted, name) is not None:
            fidelity.dropped(f"{path}.{name}", "Cohere shows its thoughts as they are")


def _add_tools(request: Request, body: dict[str, Any], left: Leftovers, fidelity: Fidelity) -> None:
    tools = [one for tool in request.tools if (one := _tool(tool, left, fidelity)) is not None]
    offered = _chosen(request, tools, body, fidelity)
    if offered:
        body["tools"] = offered
        _add_strict(request, body, fidelity)
    else:
        body.pop("tool_choice", None)
    if request.parallel_tool_calls is False:
        fidelity.dropped(request.path("parallel_tool_calls"), "Cohere's models may always call tools in parallel")
    elif request.parallel_tool_calls:
        fidelity.mapped(request.path("parallel_tool_calls"), "Cohere's models may always call tools in parallel")


def _chosen(
    request: Request, tools: list[dict[str, Any]], body: dict[str, Any], fidelity: Fidelity
) -> list[dict[str, Any]]:
    """Cohere can force or forbid calls, but not say which: only the tools that may be called are offered."""
    choice = request.tool_choice
    if choice is None or (choice.mode == "auto" and choice.allowed is None):
        return tools
    path = request.path("tool_choice")
    names = choice.allowed
    if choice.mode == "native":
        fidelity.dropped(path, "Cohere has functions only")
        return tools
    if choice.mode == "tool":
        names = (choice.name or "",)
    if choice.mode != "auto":
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    if not tools:
        fidelity.dropped(path, "there are no tools that Cohere could call")
    if names is None:
        return tools
    offered = [one for one in tools if one["function"]["name"] in names]
    fidelity.mapped(path, "only the tools that may be called are offered")
    if len(offered) < len(tools):
        fidelity.mapped(request.path("tools"), "those that may not be called are left out")
    return offered


def _add_strict(request: Request, body: dict[str, Any], fidelity: Fidelity) -> None:
    """Strictness holds for all tools at once, and needs a required parameter in each."""
    strict = [tool for tool in request.tools if tool.strict]
    if not strict:
        return
    if not all(one["function"]["parameters"].get("required") for one in body["tools"]):
        for tool in strict:
            fidelity.dropped(f"{tool.path}.strict", "Cohere is strict only when every tool has a required parameter")
        return
    body["strict_tools"] = True
    if len(strict) < len(body["tools"]):
        for tool in strict:
            fidelity.approximated(f"{tool.path}.strict", "Cohere is strict with all tools or none: with all")


def _tool(tool: Tool, left: Leftovers, fidelity: Fidelity) -> dict[str, Any] | None:
    if tool.kind == "native" and tool.wire == WIRE:
        return dict(tool.value or {})
    if tool.kind != "function":
        fidelity.dropped(tool.path, f"Cohere has functions, no {tool.kind} tools")
        return None
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters if tool.parameters is not None else {"type": "object", "properties": {}}
    return {"type": "function", "function": function, **left.tool(tool)}
