"""Requests to Bedrock's Converse API."""

from typing import Any, Final
from urllib.parse import quote

import msgspec

from pointsman.canonical.effort import EFFORTS, MIN_BUDGET, budget_of, effort_of
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import Built, Upstream
from pointsman.canonical.request import Request, Tool
from pointsman.providers.bedrock.messages import Messages, cache_point
from pointsman.providers.bedrock.signing import read_credentials
from pointsman.providers.leftovers import Leftovers
from pointsman.wire.bedrock import API, MAX_METADATA, WIRE

_HEADERS: Final = (("content-type", "application/json"),)
_NOT_HAD: Final = (
    "parallel_tool_calls", "max_tool_calls", "choices", "min_p", "top_a", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "seed", "logit_bias", "logprobs", "top_logprobs", "verbosity", "user", "safety_identifier",
    "store", "prompt_cache_key", "prompt_cache_retention", "modalities", "audio", "prediction", "web_search",
)  # fmt: skip
_TIERS: Final = ("priority", "default", "flex", "reserved")
_ANTHROPIC: Final = "anthropic"  # stands in the name of every Claude model on Bedrock
_encode: Final = msgspec.json.Encoder().encode


def auth_headers(secret: str, upstream: Upstream) -> tuple[tuple[str, str], ...]:
    """A bearer token for an API key; nothing for an access key, with which each request is signed."""
    return () if read_credentials(secret) is not None else (("authorization", f"Bearer {secret}"),)


def patch_request(body: bytes, request: Request, upstream: Upstream) -> Built:
    """The body as it is: the model stands in the path."""
    return Built(path=_path(request, upstream), body=body, headers=_HEADERS)


def build_request(request: Request, upstream: Upstream, fidelity: Fidelity) -> Built:
    """``converse`` or ``converse-stream``.

    Raises GatewayError(INVALID_REQUEST) for an earlier tool call whose arguments are no JSON object.
    """
    left = Leftovers(request, fidelity, API, WIRE)
    conversation = Messages(left, fidelity, signs=_is_anthropic(upstream))
    conversation.write(request.messages)
    body: dict[str, Any] = {"messages": conversation.messages}
    if conversation.system:
        body["system"] = conversation.system
    if request.cache is not None and conversation.messages:
        conversation.messages[-1]["content"].append(cache_point(request.cache))
    _add_inference(request, body, fidelity)
    _add_tools(request, body, left, fidelity)
    fields = _model_fields(request, upstream, body, fidelity)
    if fields:
        body["additionalModelRequestFields"] = fields
    _add_output_format(request, body, fidelity)
    _add_service(request, body, upstream, fidelity)
    body |= left.extra("", request.extra)
    left.options(*_NOT_HAD)
    return Built(path=_path(request, upstream), body=_encode(body), headers=_HEADERS)


def _path(request: Request, upstream: Upstream) -> str:
    return f"/model/{quote(upstream.model, safe='')}/{'converse-stream' if request.stream else 'converse'}"


def _is_anthropic(upstream: Upstream) -> bool:
    return _ANTHROPIC in upstream.model


def _add_inference(request: Request, body: dict[str, Any], fidelity: Fidelity) -> None:
    config: dict[str, Any] = {}
    if request.max_output_tokens is not None:
        config["maxTokens"] = request.max_output_tokens
    for ours, theirs in (("temperature", "temperature"), ("top_p", "topP")):
        value = getattr(request, ours)
        if value is not None:
            config[theirs] = max(0, min(value, 1))
            if config[theirs] != value:
                fidelity.approximated(request.path(ours), f"Bedrock takes 0 to 1: {config[theirs]}")
    if request.stop is not None:
        config["stopSequences"] = request.stop
    if config:
        body["inferenceConfig"] = config


def _model_fields(request: Request, upstream: Upstream, body: dict[str, Any], fidelity: Fidelity) -> dict[str, Any]:
    """What Converse has no word for and the model's own API has."""
    fields: dict[str, Any] = {}
    if request.top_k is not None:
        if _is_anthropic(upstream):
            fields["top_k"] = request.top_k
        else:
            fidelity.dropped(request.path("top_k"), "Bedrock has no such option")
    if request.all_betas and _is_anthropic(upstream):
        fields["anthropic_beta"] = list(request.all_betas)
    elif request.betas:
        fidelity.dropped(request.path("betas"), "only Anthropic's models have betas")
    wanted = request.reasoning
    if wanted is not None:
        if _is_anthropic(upstream):
            _add_thinking(request, fields, fidelity)
        else:
            _add_effort(request, body, fidelity)
        for name in ("summary", "exclude", "encrypted"):
            if getattr(wanted, name) is not None:
                fidelity.dropped(
                    f"{request.path('reasoning')}.{name}", "Bedrock shows thoughts as the model gives them"
                )
    return fields


def _add_thinking(request: Request, fields: dict[str, Any], fidelity: Fidelity) -> None:
    wanted, path = request.reasoning, request.path("reasoning")
    if wanted is None:
        return
    if wanted.enabled is False or wanted.effort == "none":
        fields["thinking"] = {"type": "disabled"}
    elif wanted.max_tokens is not None:
        fields["thinking"] = {"type": "enabled", "budget_tokens": wanted.max_tokens}
        if wanted.effort is not None:
            fidelity.dropped(f"{path}.effort", "the model takes a budget, no effort beside it")
    elif wanted.effort is not None:
        budget = budget_of(wanted.effort, request.max_output_tokens)
        fields["thinking"] = {"type": "enabled", "budget_tokens": max(budget, MIN_BUDGET)}
        fidelity.mapped(path, f"effort {wanted.effort} becomes a budget of {budget} tokens")
    elif wanted.adaptive:
        fields["thinking"] = {"type": "adaptive"}
    elif wanted.enabled:
        budget = budget_of("medium", request.max_output_tokens)
        fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
        fidelity.synthesised(path, f"the model demands a budget: {budget} tokens")


def _add_effort(request: Request, body: dict[str, Any], fidelity: Fidelity) -> None:
    wanted, path = request.reasoning, request.path("reasoning")
    if wanted is None:
        return
    effort = "none" if wanted.enabled is False else wanted.effort
    if effort is None and wanted.max_tokens is not None:
        effort = effort_of(wanted.max_tokens)
        fidelity.mapped(path, f"a budget of {wanted.max_tokens} tokens becomes effort {effort}")
    elif wanted.max_tokens is not None:
        fidelity.dropped(f"{path}.max_tokens", "Bedrock takes an effort, no budget beside it")
    if effort in EFFORTS:
        body["outputConfig"] = {"effort": effort}
    else:
        fidelity.dropped(path, "Bedrock takes an effort, and none was given")


def _add_output_format(request: Request, body: dict[str, Any], fidelity: Fidelity) -> None:
    wanted = request.output_format
    if wanted is None or wanted.kind == "text":
        return
    path = request.path("output_format")
    if wanted.kind != "json_schema" or wanted.schema is None:
        fidelity.dropped(path, "Bedrock takes JSON schemas only")
        return
    schema: dict[str, Any] = {"schema": _encode(wanted.schema).decode()}
    if wanted.name is not None:
        schema["name"] = wanted.name
    if wanted.description is not None:
        schema["description"] = wanted.description
    if wanted.strict is not None:
        fidelity.mapped(path, "Bedrock always keeps to the schema")
    text_format = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    body["outputConfig"] = {**body.get("outputConfig", {}), "textFormat": text_format}


def _add_service(request: Request, body: dict[str, Any], upstream: Upstream, fidelity: Fidelity) -> None:
    tier = request.service_tier
    if tier in _TIERS:
        body["serviceTier"] = {"type": tier}
    elif tier is not None:
        fidelity.dropped(request.path("service_tier"), f"Bedrock has {', '.join(_TIERS)}")
    metadata = request.metadata
    if metadata is not None:
        if 0 < len(metadata) <= MAX_METADATA and all(isinstance(value, str) for value in metadata.values()):
            body["requestMetadata"] = metadata
        else:
            fidelity.dropped(request.path("metadata"), f"Bedrock takes up to {MAX_METADATA} texts")
    guardrail = upstream.options.get("guardrail_identifier")
    if guardrail is not None:
        version = upstream.options.get("guardrail_version", "DRAFT")
        body["guardrailConfig"] = {"guardrailIdentifier": guardrail, "guardrailVersion": version}


def _add_tools(request: Request, body: dict[str, Any], left: Leftovers, fidelity: Fidelity) -> None:
    """Tools and their choice. A conversation with calls needs its tools even where none may be called."""
    choice, path = request.tool_choice, request.path("tool_choice")
    tools = request.tools
    if choice is not None and choice.allowed is not None:
        tools = [tool for tool in tools if tool.name in choice.allowed]
        fidelity.mapped(path, "only the allowed tools are offered")
        if len(tools) < len(request.tools):
            fidelity.mapped("tools", "those that may not be called are left out")
    if choice is not None and choice.mode == "none" and not _has_calls(body):
        fidelity.mapped(path, "no tools are offered")
        fidelity.mapped("tools", "left out, as none may be called")
        return
    written = [block for tool in tools for block in _tool(tool, left, fidelity)]
    if not written:
        if choice is not None:
            fidelity.dropped(path, "there are no tools that Bedrock could call")
        return
    body["toolConfig"] = {"tools": written}
    if choice is None:
        return
    if choice.mode in ("none", "native"):
        fidelity.dropped(path, "Bedrock has auto, any and a named tool")
        return
    named = {"tool": {"name": choice.name}}
    body["toolConfig"]["toolChoice"] = {"auto": {"auto": {}}, "required": {"any": {}}, "tool": named}[choice.mode]


def _has_calls(body: dict[str, Any]) -> bool:
    return any("toolUse" in block for message in body["messages"] for block in message["content"])


def _tool(tool: Tool, left: Leftovers, fidelity: Fidelity) -> list[dict[str, Any]]:
    if tool.kind == "native" and tool.wire == WIRE:
        return [dict(tool.value or {})]
    if tool.kind != "function":
        fidelity.dropped(tool.path, f"Bedrock has functions, no {tool.kind} tools")
        return []
    schema = tool.parameters if tool.parameters is not None else {"type": "object", "properties": {}}
    spec: dict[str, Any] = {"name": tool.name, "inputSchema": {"json": schema}}
    if tool.description:
        spec["description"] = tool.description
    if tool.strict is not None:
        spec["strict"] = tool.strict
    spec |= left.tool(tool, cached=True)
    point = [cache_point(tool.cache)] if tool.cache is not None else []
    return [{"toolSpec": spec}, *point]
