"""Reads a Chat Completions request into our own words: options, tools, and what is left over by name."""

from collections.abc import Callable
from typing import Any, Final

from pointsman.canonical.effort import EFFORTS
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.request import OutputFormat, ReasoningOptions, Request, Tool, ToolChoice
from pointsman.dialects.openai_chat_messages import MessageReader
from pointsman.wire.members import Members
from pointsman.wire.members import read_request as read_body
from pointsman.wire.openai_chat_parts import WIRE, read_cache

MAX_MODEL_LENGTH: Final = 256
MAX_CHOICES: Final = 128
LEGACY_TOOLS: Final = "functions"
# How its clients call what the ledger calls by our words.
NAMES: Final = {
    "detail": "image_url.detail",
    "filename": "file.filename",
    "thought_signature": "extra_content.google.thought_signature",
    "reasoning_details.thought_signature": "data",
    "redacted": "data",
    "encrypted": "data",
    "thinking.max_tokens": "budget_tokens",
    "thinking.effort": "/reasoning_effort",
    "reasoning_effort.effort": "/reasoning_effort",
    "reasoning_effort.exclude": "/include_reasoning",
    "thinking.exclude": "/include_reasoning",
    "thinking.enabled": "type",
    "tools.strict": "function.strict",
    "tools.parameters": "function.parameters",
    "tools.format": "custom.format",
    "response_format.name": "json_schema.name",
    "response_format.schema": "json_schema.schema",
    "response_format.strict": "json_schema.strict",
    "response_format.description": "json_schema.description",
}

# What each part of a request is said with.
_TOOLS: Final = frozenset(("tools", LEGACY_TOOLS))
_CHOICES: Final = frozenset(("tool_choice", "function_call"))
_REASONING: Final = frozenset(("reasoning_effort", "include_reasoning", "reasoning", "thinking"))
_LIMITS: Final = frozenset(("max_tokens", "max_completion_tokens"))
_NUMBERS: Final = (
    "temperature",
    "top_p",
    "min_p",
    "top_a",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
)
_WHOLE: Final = ("seed", "top_k")
_WORDS: Final = (
    "service_tier", "verbosity", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
)  # fmt: skip
_SWITCHES: Final = ("parallel_tool_calls", "logprobs", "store")
_OBJECTS: Final = ("metadata", "audio", "prediction")
# Members whose name is ours, and how each is read.
_ONE_EACH: Final[dict[str, Callable[[Members, str], Any]]] = {
    **dict.fromkeys(_NUMBERS, Members.number),
    **dict.fromkeys(_WHOLE, Members.integer),
    **dict.fromkeys(_WORDS, Members.string),
    **dict.fromkeys(_SWITCHES, Members.boolean),
    **dict.fromkeys(_OBJECTS, Members.mapping),
    "modalities": Members.strings,
}


def read_request(body: bytes, call: ClientCall) -> Request:
    """A client's request. Raises GatewayError(INVALID_REQUEST) that names the client's field."""
    top = read_body(body, "'model' and 'messages'")
    model = call.model if call.model is not None else top.text("model")
    if not model or len(model) > MAX_MODEL_LENGTH:
        raise top.wrong("model", f"must have from 1 to {MAX_MODEL_LENGTH} characters")
    reader = MessageReader()
    for item in top.objects("messages"):
        reader.read(item)
    if not reader.messages:
        raise top.wrong("messages", "is missing or empty; send at least one message")
    top.ignore("model")
    request = Request(wire=WIRE, model=model, messages=reader.messages, paths={}, names=NAMES, extra={})
    stream = top.boolean("stream")
    request.stream = bool(stream if call.stream is None else call.stream)
    read_sampling(top, request)
    given = top.value.keys()
    if not given.isdisjoint(_TOOLS):
        _read_tools(top, request)
    if not given.isdisjoint(_CHOICES):
        request.tool_choice = _read_choice(top, request)
    if "response_format" in given:
        request.output_format = _read_format(top, request)
    if not given.isdisjoint(_REASONING):
        request.reasoning = _read_reasoning(top, request)
    _read_rest(top, request)
    return request


def read_sampling(top: Members, request: Request) -> None:
    """The options that are one member each, and those that have two names."""
    for name in top.value:  # a request has few of them
        read = _ONE_EACH.get(name)
        if read is not None:
            setattr(request, name, read(top, name))
    given = top.value
    if "n" in given:
        request.choices = top.integer("n", 1, MAX_CHOICES)
        request.paths["choices"] = "n"
    if "web_search_options" in given:
        request.web_search = top.mapping("web_search_options")
        request.paths["web_search"] = "web_search_options"
    request.cache = read_cache(top)
    if request.cache is not None:
        request.paths["cache"] = "cache_control"
    if "logit_bias" in given:
        request.logit_bias = _read_bias(top)
    if "stop" in given:
        request.stop = _read_stop(top)
    if not given.keys().isdisjoint(_LIMITS):
        _read_limit(top, request)
    if "top_logprobs" in given:
        request.top_logprobs = top.integer("top_logprobs", 0)


def _read_limit(top: Members, request: Request) -> None:
    newer, older = top.integer("max_completion_tokens", 1), top.integer("max_tokens", 1)
    request.max_output_tokens = older if newer is None else newer
    request.paths["max_output_tokens"] = "max_tokens" if newer is None else "max_completion_tokens"
    if newer is not None and older is not None and older != newer:
        raise top.wrong("max_tokens", "contradicts 'max_completion_tokens'; send one of them")


def _read_stop(top: Members) -> list[str] | None:
    value = top.raw("stop")
    if value is None:
        return None
    return [value] if isinstance(value, str) else top.strings("stop")


def _read_bias(top: Members) -> dict[str, float] | None:
    bias = top.mapping("logit_bias")
    if bias is not None and not all(type(value) in (int, float) for value in bias.values()):
        raise top.wrong("logit_bias", "must map tokens to numbers")
    return bias


def _read_tools(top: Members, request: Request) -> None:
    request.tools = [_read_tool(item) for item in top.objects("tools")]
    if LEGACY_TOOLS in top and not request.tools:
        request.tools = [_read_function(item, item) for item in top.objects(LEGACY_TOOLS)]
        request.paths["tools"] = LEGACY_TOOLS


def _read_tool(item: Members) -> Tool:
    kind = item.text("type")
    cache = read_cache(item)
    if kind == "function":
        inner = item.object("function")
        if inner is None:
            raise item.wrong("function", "is missing")
        tool = _read_function(inner, item)
    elif kind == "custom" and "custom" in item:
        inner = item.object("custom")
        assert inner is not None
        tool = Tool(
            kind="custom",
            name=inner.text("name"),
            description=inner.string("description"),
            format=inner.mapping("format"),
            path=item.path,
        )
        tool.extra = _joined(item, inner)
    else:
        return Tool(kind="native", name=kind, wire=WIRE, value=item.value, path=item.path)
    tool.cache = cache or tool.cache
    return tool


def _read_function(inner: Members, item: Members) -> Tool:
    cache = read_cache(inner)
    tool = Tool(
        kind="function",
        name=inner.text("name"),
        description=inner.string("description"),
        parameters=inner.mapping("parameters"),
        strict=inner.boolean("strict"),
        cache=cache,
        path=item.path,
    )
    tool.extra = inner.rest() if inner is item else _joined(item, inner)
    return tool


def _joined(item: Members, inner: Members) -> dict[str, Any] | None:
    """What is left of a tool, and of its inner object at its place."""
    outer, rest = item.rest(), inner.rest()
    return outer if rest is None else {**(outer or {}), inner.path.rpartition(".")[2]: rest}


def _read_choice(top: Members, request: Request) -> ToolChoice | None:
    legacy = "tool_choice" not in top and "function_call" in top
    name = "function_call" if legacy else "tool_choice"
    request.paths["tool_choice"] = name
    value = top.raw(name)
    if value is None:
        return None
    if isinstance(value, str):
        return _choice_of_word(top, name, value)
    if not isinstance(value, dict):
        raise top.wrong(name, "must be a string or an object")
    item = Members(value, top.at(name))
    if legacy:
        return ToolChoice(mode="tool", name=item.text("name"))
    kind = item.text("type")
    if kind == "allowed_tools":
        return _read_allowed(item)
    if kind in ("function", "custom"):
        inner = item.object(kind)
        named = inner.text("name") if inner is not None else item.text("name")
        return ToolChoice(mode="tool", name=named, kind=kind)  # type: ignore[arg-type]
    return ToolChoice(mode="native", name=kind, wire=WIRE, value=value)


def _choice_of_word(top: Members, name: str, word: str) -> ToolChoice:
    match word:
        case "auto" | "none" | "required":
            return ToolChoice(mode=word)
        case "any":  # Mistral's word
            return ToolChoice(mode="required")
    raise top.wrong(name, "must be auto, none, required or an object")


def _read_allowed(item: Members) -> ToolChoice:
    inner = item.object("allowed_tools")
    if inner is None:
        raise item.wrong("allowed_tools", "is missing")
    mode = inner.one_of("mode", "auto", "required") or "auto"
    if "tools" not in inner:
        raise inner.wrong("tools", "is missing")
    names = []
    for tool in inner.objects("tools"):
        held = tool.object(tool.text("type"))
        names.append(held.text("name") if held is not None else tool.text("name"))
    return ToolChoice(mode=mode, allowed=tuple(names))  # type: ignore[arg-type]


def _read_format(top: Members, request: Request) -> OutputFormat | None:
    item = top.object("response_format")
    if item is None:
        return None
    request.paths["output_format"] = "response_format"
    kind = item.text("type")
    if kind in ("text", "json_object"):
        return OutputFormat(kind=kind)  # type: ignore[arg-type]
    if kind != "json_schema":
        return OutputFormat(kind="grammar", value=item.value)
    inner = item.object("json_schema")
    if inner is None:
        raise item.wrong("json_schema", "is missing")
    return OutputFormat(
        kind="json_schema",
        name=inner.string("name"),
        schema=inner.mapping("schema"),
        strict=inner.boolean("strict"),
        description=inner.string("description"),
    )


def _read_reasoning(top: Members, request: Request) -> ReasoningOptions | None:
    """``reasoning_effort``, OpenRouter's ``reasoning`` and ``include_reasoning``, DeepSeek's ``thinking``."""
    effort, include = top.string("reasoning_effort"), top.boolean("include_reasoning")
    item, thinking = top.object("reasoning"), top.object("thinking")
    if effort is None and include is None and item is None and thinking is None:
        return None
    request.paths["reasoning"] = "reasoning" if item is not None else "thinking" if thinking else "reasoning_effort"
    enabled = limit = summary = exclude = None
    if item is not None:
        own = item.string("effort")
        if effort is not None and own is not None and own != effort:
            raise top.wrong("reasoning_effort", "contradicts 'reasoning.effort'; send one of them")
        effort = own or effort
        enabled, limit = item.boolean("enabled"), item.integer("max_tokens", 0)
        summary, exclude = item.string("summary"), item.boolean("exclude")
        request.extra.update({item.at(name): value for name, value in (item.rest() or {}).items()})
    if thinking is not None:
        enabled = thinking.one_of("type", "enabled", "disabled", "auto") != "disabled"
        limit = thinking.integer("budget_tokens", 0)
        request.extra.update({thinking.at(name): value for name, value in (thinking.rest() or {}).items()})
    if effort is not None and effort not in EFFORTS:
        raise top.wrong("reasoning_effort", f"must be one of {', '.join(EFFORTS)}")
    if include is False:
        exclude = True
    return ReasoningOptions(enabled=enabled, effort=effort, max_tokens=limit, summary=summary, exclude=exclude)


def _read_rest(top: Members, request: Request) -> None:
    """What is left goes to ``extra`` by full path."""
    if "stream_options" in top.value and (options := top.object("stream_options")) is not None:
        request.include_usage = options.boolean("include_usage")
        request.extra.update({options.at(name): value for name, value in (options.rest() or {}).items()})
    request.extra.update(top.rest() or {})
