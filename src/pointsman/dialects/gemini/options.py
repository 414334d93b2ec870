"""Options of Gemini requests: generationConfig, tools and toolConfig in our own words."""

from typing import Any, Final

from pointsman.canonical.request import OutputFormat, ReasoningOptions, Request, Tool, ToolChoice
from pointsman.wire.gemini import WIRE, json_schema_of
from pointsman.wire.members import Members

CONFIG: Final = "generationConfig"
_CALLING: Final = "toolConfig.functionCallingConfig"
# Ours and Google's names of the options that mean the same.
_WHOLE: Final = {
    "max_output_tokens": "maxOutputTokens",
    "choices": "candidateCount",
    "seed": "seed",
    "top_logprobs": "logprobs",
    "top_k": "topK",
}
_NUMBERS: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
_LEAST: Final = {"max_output_tokens": 1, "choices": 1, "top_logprobs": 0, "top_k": 1}
_MOST: Final = {"choices": 8, "top_logprobs": 20}
PATHS: Final = {
    **{ours: f"{CONFIG}.{theirs}" for ours, theirs in (_WHOLE | _NUMBERS).items()},
    "stop": f"{CONFIG}.stopSequences",
    "logprobs": f"{CONFIG}.responseLogprobs",
    "output_format": f"{CONFIG}.responseMimeType",
    "reasoning": f"{CONFIG}.thinkingConfig",
    "modalities": f"{CONFIG}.responseModalities",
    "audio": f"{CONFIG}.speechConfig",
    "tool_choice": _CALLING,
    "metadata": "labels",
    "service_tier": "serviceTier",
}
# How its clients call what the ledger calls by our words.
NAMES: Final = {
    "thought_signature": "thoughtSignature",
    "detail": "mediaResolution",
    "filename": "inlineData.displayName",
    "functionDeclarations.parameters": "parametersJsonSchema",
    "thinkingConfig.max_tokens": "thinkingBudget",
    "thinkingConfig.adaptive": "thinkingBudget",
    "thinkingConfig.enabled": "thinkingBudget",
    "thinkingConfig.effort": "thinkingLevel",
    "thinkingConfig.exclude": "includeThoughts",
    "responseJsonSchema.schema": "../responseJsonSchema",
    "responseSchema.schema": "../responseSchema",
}
_TIERS: Final = {"standard": "default", "unspecified": "auto"}


def read_config(config: Members | None, request: Request) -> None:
    """Put generationConfig into ``request``, what has no word there into its extra. Raises GatewayError."""
    if config is None:
        return
    for ours, theirs in _WHOLE.items():
        found = _whole(config, theirs, _LEAST.get(ours), _MOST.get(ours))
        if found is not None:
            setattr(request, ours, found)
    for ours, theirs in _NUMBERS.items():
        setattr(request, ours, config.number(theirs))
    request.stop = config.strings("stopSequences")
    request.logprobs = config.boolean("responseLogprobs")
    modalities = config.strings("responseModalities")
    request.modalities = None if modalities is None else [one.lower() for one in modalities]
    request.reasoning = _thinking(config.object("thinkingConfig"), request)
    request.output_format = _format(config)
    request.audio = _voice(config)
    keep(request, CONFIG, config)


def _whole(config: Members, name: str, least: int | None, most: int | None) -> int | None:
    bounds: dict[str, int] = {} if least is None else {"least": least}
    if most is not None:
        bounds["most"] = most
    return config.integer(name, **bounds)


def keep(request: Request, prefix: str, members: Members) -> None:
    """Keep what nobody read of an object as the request's extra, by path."""
    for key, value in (members.rest() or {}).items():
        request.extra[f"{prefix}.{key}"] = value


def _thinking(config: Members | None, request: Request) -> ReasoningOptions | None:
    """Thoughts are shown only when they are asked for; a budget of 0 is none, -1 the model's own choice."""
    if config is None:
        return None
    shown = config.boolean("includeThoughts")
    budget = config.integer("thinkingBudget", least=-1)
    level = config.string("thinkingLevel")
    keep(request, f"{CONFIG}.thinkingConfig", config)
    effort = None if level in (None, "THINKING_LEVEL_UNSPECIFIED") else str(level).lower()
    if effort is not None and effort not in ("minimal", "low", "medium", "high", "xhigh"):
        raise config.wrong("thinkingLevel", "must be one of MINIMAL, LOW, MEDIUM, HIGH, XHIGH")
    return ReasoningOptions(
        enabled=False if budget == 0 else None,
        effort=effort,
        max_tokens=budget if budget is not None and budget > 0 else None,
        adaptive=True if budget == -1 else None,
        exclude=not shown,
    )


def _format(config: Members) -> OutputFormat | None:
    mime = config.value.get("responseMimeType")
    if mime not in ("application/json", "text/plain"):
        return None  # text/x.enum and what it needs are carried as they came
    config.ignore("responseMimeType")
    if mime == "text/plain":
        return OutputFormat(kind="text")
    schema = config.mapping("responseJsonSchema")
    if schema is None:
        openapi = config.mapping("responseSchema")
        schema = None if openapi is None else json_schema_of(openapi)
    if schema is None:
        return OutputFormat(kind="json_object")
    return OutputFormat(kind="json_schema", schema=schema)


def _voice(config: Members) -> dict[str, Any] | None:
    """A single prebuilt voice by its name; any other speech configuration is carried as it came."""
    value = config.value.get("speechConfig")
    match value:
        case {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": str(name), **none}, **no_more}, **nothing} if not (
            none or no_more or nothing
        ):
            config.ignore("speechConfig")
            return {"voice": name}
    return None


def read_tools(body: Members, request: Request) -> None:
    """Put the tools into ``request``: functions one by one, Google's own as native tools. Raises GatewayError."""
    tools: list[Tool] = []
    for holder in body.objects("tools"):
        tools += [_function(declared) for declared in holder.objects("functionDeclarations")]
        for name, value in (holder.rest() or {}).items():
            tools.append(Tool(kind="native", name=name, wire=WIRE, value={name: value}, path=holder.at(name)))
    request.tools = tools


def _function(declared: Members) -> Tool:
    schema = declared.mapping("parametersJsonSchema")
    if schema is None:
        openapi = declared.mapping("parameters")
        schema = None if openapi is None else json_schema_of(openapi)
    return Tool(
        kind="function",
        name=declared.text("name"),
        description=declared.string("description"),
        parameters=schema,
        path=declared.path,
        extra=declared.rest(),
    )


def read_tool_config(config: Members | None, request: Request) -> None:
    """Put toolConfig into ``request``, what has no word there into its extra. Raises GatewayError."""
    if config is None:
        return
    calling = config.object("functionCallingConfig")
    if calling is not None:
        request.tool_choice = _choice(calling, request)
        keep(request, _CALLING, calling)
    keep(request, "toolConfig", config)


def _choice(calling: Members, request: Request) -> ToolChoice | None:
    mode = calling.one_of("mode", "MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
    names = calling.strings("allowedFunctionNames")
    allowed = tuple(names) if names else None
    if mode == "NONE":
        return ToolChoice(mode="none", allowed=allowed)
    if mode == "ANY":
        if allowed is not None and len(allowed) == 1:
            return ToolChoice(mode="tool", name=allowed[0])
        return ToolChoice(mode="required", allowed=allowed)
    if mode == "VALIDATED":
        request.extra[f"{_CALLING}.mode"] = mode  # arguments bound to their schemas: no word of ours says that
    return ToolChoice(mode="auto", allowed=allowed) if mode in ("AUTO", "VALIDATED") or allowed else None


def read_rest(body: Members, request: Request) -> None:
    """Labels, tier and store into ``request``, everything else into its extra. Raises GatewayError."""
    request.metadata = body.mapping("labels")
    request.store = body.boolean("store")
    tier = body.string("serviceTier")
    request.service_tier = None if tier is None else _TIERS.get(tier, tier)
    request.extra.update(body.rest() or {})
    request.paths, request.names = PATHS, NAMES
    if request.output_format is not None and request.output_format.kind == "json_schema":
        member = "responseJsonSchema" if "responseJsonSchema" in body.value.get(CONFIG, {}) else "responseSchema"
        request.paths = {**PATHS, "output_format": f"{CONFIG}.{member}"}
