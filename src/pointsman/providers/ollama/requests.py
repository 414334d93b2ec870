"""Requests to Ollama."""

from typing import Any, Final

import msgspec

from pointsman.canonical.effort import effort_of
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.parts import Extra
from pointsman.canonical.request import Request, Tool
from pointsman.providers.leftovers import Leftovers
from pointsman.providers.ollama.messages import API, PROMPT_MEMBERS, Messages, prompt_of
from pointsman.wire.bodies import with_model
from pointsman.wire.ollama import CHAT_PATH, GENERATE_PATH, LEVELS, NUMBERS, WHOLE_NUMBERS, WIRE

# Options of the connection that become options of every request that doesn't set them.
CONNECTION_OPTIONS: Final = ("num_ctx",)

_HEADERS: Final = (("content-type", "application/json"),)
_NOT_HAD: Final = (
    "max_tool_calls", "top_a", "choices", "logit_bias", "service_tier", "verbosity", "user", "safety_identifier",
    "metadata", "store", "prompt_cache_key", "prompt_cache_retention", "modalities", "audio", "prediction",
    "web_search", "betas",
)  # fmt: skip
# What is written from our words alone: a member of that name which its operation doesn't have must not take its place.
_WRITTEN: Final = frozenset(
    (
        "model", "messages", "prompt", "system", "images", "tools", "stream", "format", "think", "options", "logprobs",
        "top_logprobs",
    )
)  # fmt: skip
_NEAREST: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_encode: Final = msgspec.json.Encoder().encode


def auth_headers(secret: str, upstream: Upstream) -> tuple[tuple[str, str], ...]:
    """Ollama itself asks for no key; its hosted service, and proxies in front of it, take a bearer token."""
    return (("authorization", f"Bearer {secret}"),) if secret else ()


def patch_request(body: bytes, request: Request, upstream: Upstream) -> Built:
    """The client's own body with the upstream's name of the model.

    Raises GatewayError(INVALID_REQUEST) when ``body`` is no JSON object.
    """
    path = GENERATE_PATH if _wants_generate(request) else CHAT_PATH
    return Built(path=path, body=with_model(body, upstream.model), headers=_HEADERS)


def build_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """``/api/chat``, or ``/api/generate`` for a prompt that is still what its client sent.

    Raises GatewayError(INVALID_REQUEST) for an earlier tool call whose arguments are no JSON object.
    """
    left = Leftovers(request, fidelity, API, WIRE)
    body: dict[str, Any] = {"model": upstream.model}
    prompt = prompt_of(request, left) if _wants_generate(request) else None
    if prompt is not None:
        body |= prompt
    else:
        body["messages"] = Messages(left, fidelity).write(request.messages)
    body["stream"] = request.stream
    if tools := _tools(request, left, fidelity):
        body["tools"] = tools
    _add_output_format(request, body, fidelity)
    _add_thinking(request, body, fidelity)
    for name in ("logprobs", "top_logprobs"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    options = _options(request, upstream, fidelity)
    _add_extra(left.extra("", request.extra), body, options, fidelity)
    if options:
        body["options"] = options
    left.options(*_NOT_HAD)
    left.cache("", request.cache)
    path = CHAT_PATH if prompt is None else GENERATE_PATH
    return Built(path=path, body=_encode(body), headers=_HEADERS)


def _wants_generate(request: Request) -> bool:
    return request.wire == WIRE and request.path("messages") == "prompt"


def _options(request: Request, upstream: Upstream, fidelity: Fidelity) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for ours, theirs in (*NUMBERS.items(), *WHOLE_NUMBERS.items(), ("stop", "stop")):
        if (value := getattr(request, ours)) is not None:
            options[theirs] = value
    if request.max_output_tokens is not None:
        options["num_predict"] = request.max_output_tokens
    for name in CONNECTION_OPTIONS:
        wanted = upstream.options.get(name, "")
        if wanted.isdecimal() and f"options.{name}" not in request.extra:
            options[name] = int(wanted)
            fidelity.synthesised(f"options.{name}", "set for this connection")
    return options


def _add_extra(extra: Extra, body: dict[str, Any], options: dict[str, Any], fidelity: Fidelity) -> None:
    """What an Ollama client said beyond our words, at its place; what only a prompt has can't go with messages."""
    for path, value in extra.items():
        if path.startswith("options."):
            options[path.removeprefix("options.")] = value
        elif path in _WRITTEN:
            fidelity.dropped(path, "it has no meaning in this operation")
        elif path in PROMPT_MEMBERS and "messages" in body:
            fidelity.dropped(path, "the prompt was rewritten, and a conversation has no such member")
        else:
            body[path] = value


def _add_output_format(request: Request, body: dict[str, Any], fidelity: Fidelity) -> None:
    wanted = request.output_format
    if wanted is None or wanted.kind == "text":
        return
    path = request.path("output_format")
    if wanted.kind == "json_object":
        body["format"] = "json"
    elif wanted.kind == "json_schema" and wanted.schema is not None:
        body["format"] = wanted.schema
    else:
        fidelity.dropped(path, "Ollama takes JSON schemas only")
        return
    if wanted.name is not None or wanted.description is not None or wanted.strict is not None:
        fidelity.mapped(path, "Ollama takes the schema alone, and always keeps to it")


def _add_thinking(request: Request, body: dict[str, Any], fidelity: Fidelity) -> None:
    wanted = request.reasoning
    if wanted is None:
        return
    path = request.path("reasoning")
    if wanted.enabled is False or wanted.effort == "none":
        body["think"] = False
    elif wanted.effort is not None:
        body["think"] = _NEAREST.get(wanted.effort, "high")
        if body["think"] != wanted.effort:
            fidelity.approximated(path, f"effort {wanted.effort} becomes {body['think']}")
    elif wanted.max_tokens is not None:
        body["think"] = effort_of(wanted.max_tokens, LEVELS)
        fidelity.mapped(path, f"a budget of {wanted.max_tokens} tokens becomes {body['think']}")
    elif wanted.enabled or wanted.adaptive:
        body["think"] = True
    if wanted.effort is not None and wanted.max_tokens is not None:
        fidelity.dropped(path, "Ollama takes an effort, no budget beside it")
    for name in ("summary", "exclude", "encrypted"):
        if getattr(wanted, name) is not None:
            fidelity.dropped(f"{path}.{name}", "Ollama shows its thoughts as they are")


def _tools(request: Request, left: Leftovers, fidelity: Fidelity) -> list[dict[str, Any]]:
    tools = [(tool.name, written) for tool in request.tools if (written := _tool(tool, left, fidelity)) is not None]
    path = request.path("parallel_tool_calls")
    if request.parallel_tool_calls is False:
        fidelity.dropped(path, "Ollama's models may always call tools in parallel")
    elif request.parallel_tool_calls:
        fidelity.mapped(path, "Ollama's models may always call tools in parallel")
    return _chosen(request, tools, fidelity)


def _chosen(request: Request, tools: list[tuple[str, dict[str, Any]]], fidelity: Fidelity) -> list[dict[str, Any]]:
    """Ollama has no choice of tools: those that may not be called are not offered."""
    choice = request.tool_choice
    if choice is None:
        return [written for _, written in tools]
    path = request.path("tool_choice")
    offered = tools
    if choice.mode == "none":
        fidelity.mapped(path, "no tools are offered")
        fidelity.mapped("tools", "left out, as none may be called")
        return []
    if choice.allowed is not None:
        offered = [one for one in tools if one[0] in choice.allowed]
        fidelity.mapped(path, "only the allowed tools are offered")
    if choice.mode == "tool":
        offered = [one for one in tools if one[0] == choice.name]
        fidelity.approximated(path, "only this tool is offered, but it may stay uncalled")
    elif choice.mode in ("required", "native"):
        fidelity.dropped(path, "Ollama can't force a tool call")
    if len(offered) < len(tools):
        fidelity.mapped(request.path("tools"), "those that may not be called are left out")
    return [written for _, written in offered]


def _tool(tool: Tool, left: Leftovers, fidelity: Fidelity) -> dict[str, Any] | None:
    if tool.kind == "native" and tool.wire == WIRE:
        return dict(tool.value or {})
    if tool.kind != "function":
        fidelity.dropped(tool.path, f"Ollama has functions, no {tool.kind} tools")
        return None
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters if tool.parameters is not None else {"type": "object", "properties": {}}
    if tool.strict is not None:
        fidelity.dropped(f"{tool.path}.strict", "Ollama checks no arguments")
    written: dict[str, Any] = {"type": "function", "function": function}
    for key, value in left.tool(tool).items():
        if key.startswith("function."):
            function[key.removeprefix("function.")] = value
        else:
            written[key] = value
    return written
