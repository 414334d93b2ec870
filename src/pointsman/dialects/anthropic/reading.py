"""An Anthropic Messages request in our words."""

from collections.abc import Callable
from typing import Any, Final

from pointsman.canonical.halves import ClientCall
from pointsman.canonical.parts import AnyPart, Extra, ToolCallPart, ToolResultPart
from pointsman.canonical.request import Message, OutputFormat, ReasoningOptions, Request, Tool, ToolChoice
from pointsman.errors import GatewayError, Kind
from pointsman.wire.anthropic import STANDARD_TIERS, WIRE
from pointsman.wire.anthropic.blocks import keep_rest, read_cache, read_content
from pointsman.wire.members import Members
from pointsman.wire.members import read_request as read_body

MAX_MODEL_LENGTH: Final = 256
_ROLES: Final = ("user", "assistant", "system")
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none", "tool": "tool"}
_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
_TIERS: Final = {"standard_only": STANDARD_TIERS["standard"]}
_REASONING: Final = frozenset(("thinking", "output_config", "output_format"))
# How its clients call what the ledger calls by our words.
NAMES: Final = {
    "redacted": "data",
    "tools.parameters": "input_schema",
    "thinking.max_tokens": "budget_tokens",
    "thinking.effort": "/output_config.effort",
    "effort.effort": "/output_config.effort",
    "thinking.exclude": "display",
    "thinking.summary": "display",
    "thinking.adaptive": "type",
    "thinking.enabled": "type",
}
_PATHS: Final = {
    "max_output_tokens": "max_tokens",
    "stop": "stop_sequences",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "output_format": "output_config.format",
    "reasoning": "thinking",
    "user": "metadata.user_id",
    "cache": "cache_control",
    "betas": "anthropic-beta",
}


def read_request(body: bytes, call: ClientCall) -> Request:
    """The request in ``body``, for which ``call`` names the model where the path does.

    Raises GatewayError(INVALID_REQUEST) that names the client's field.
    """
    members = read_body(body, "'model', 'max_tokens' and 'messages'")
    request = _read(members, call)
    for name in members.value:  # a request has few of them
        option = _OPTIONS.get(name)
        if option is not None:
            setattr(request, option[0], option[1](members, name))
    if call.stream is not None:
        request.stream = call.stream
    if "metadata" in members:
        _read_metadata(members, request)
    request.extra |= members.rest() or {}
    return request


def _read_stream(members: Members, name: str) -> bool:
    return members.boolean(name) is True


def _read_tier(members: Members, name: str) -> str | None:
    tier = members.string(name)
    return _TIERS.get(tier, tier) if tier is not None else None


def _read_limit(members: Members, name: str) -> int | None:
    return members.integer(name, 0)


# Members that are one of our options each, and how they are read.
_OPTIONS: Final[dict[str, tuple[str, Callable[[Members, str], Any]]]] = {
    "max_tokens": ("max_output_tokens", _read_limit),
    "stop_sequences": ("stop", Members.strings),
    "temperature": ("temperature", Members.number),
    "top_p": ("top_p", Members.number),
    "top_k": ("top_k", Members.integer),
    "stream": ("stream", _read_stream),
    "service_tier": ("service_tier", _read_tier),
}


def _read_metadata(members: Members, request: Request) -> None:
    metadata = members.object("metadata")
    if metadata is not None:
        request.user = metadata.string("user_id")
        keep_rest(metadata, "metadata", request.extra)


def read_count_request(body: bytes, call: ClientCall) -> Request:
    """A request to count the tokens of a prompt: the same, without what only an answer needs."""
    members = read_body(body, "'model' and 'messages'")
    request = _read(members, call)
    request.extra |= members.rest() or {}
    return request


def _read(members: Members, call: ClientCall) -> Request:
    """What both operations have."""
    model = members.string("model") or call.model
    if not model:
        raise members.wrong("model", "is missing")
    if len(model) > MAX_MODEL_LENGTH:
        raise members.wrong("model", f"is longer than {MAX_MODEL_LENGTH} characters")
    if members.items("messages") is None:
        raise members.wrong("messages", "is missing")
    extra: Extra = {}
    messages = _messages(members)
    if not any(message.role != "system" for message in messages):
        raise members.wrong("messages", "is empty; send at least one message")
    request = Request(wire=WIRE, model=model, messages=messages, extra=extra, paths=dict(_PATHS), names=NAMES)
    given = members.value
    if "cache_control" in given:
        request.cache = read_cache(members, extra)
    if "tools" in given:
        request.tools = [_tool(tool) for tool in members.objects("tools")]
    if "tool_choice" in given:
        _read_tool_choice(members, request)
    if not given.keys().isdisjoint(_REASONING):
        _read_reasoning(members, request)
    if b"anthropic-beta" in call.headers:
        request.betas = _betas(call)
    return request


def _messages(members: Members) -> list[Message]:
    messages = []
    if "system" in members.value and (system := read_content(members, "system")):
        messages.append(Message(role="system", parts=system, path="system"))
    names: dict[str, str] = {}
    for item in members.objects("messages"):
        role = item.one_of("role", *_ROLES)
        if role is None:
            raise item.wrong("role", "is missing")
        if item.value.get("content") is None:
            raise item.wrong("content", "is missing")
        parts = read_content(item)
        _name_results(parts, names)
        messages.append(Message(role=role, parts=parts, path=item.path, extra=item.rest()))  # type: ignore[arg-type]
    return messages


def _name_results(parts: list[AnyPart], names: dict[str, str]) -> None:
    """Tell each result the name of the tool that was called: some APIs want it."""
    for part in parts:
        if isinstance(part, ToolCallPart):
            names[part.id] = part.name
        elif isinstance(part, ToolResultPart):
            part.name = names.get(part.call_id)


def _tool(tool: Members) -> Tool:
    kind = tool.string("type")
    if kind is not None and kind != "custom":
        name = tool.string("name") or kind
        return Tool(kind="native", name=name, wire=WIRE, value=tool.value, path=tool.path)
    extra: Extra = {}
    found = Tool(
        kind="function",
        name=tool.text("name"),
        description=tool.string("description"),
        parameters=tool.mapping("input_schema"),
        strict=tool.boolean("strict"),
        cache=read_cache(tool, extra),
        path=tool.path,
    )
    if found.parameters is None:
        raise tool.wrong("input_schema", "is missing")
    found.extra = extra | (tool.rest() or {}) or None
    return found


def _read_tool_choice(members: Members, request: Request) -> None:
    choice = members.object("tool_choice")
    if choice is None:
        return
    kind = choice.one_of("type", *_CHOICES)
    if kind is None:
        raise choice.wrong("type", "is missing")
    name = choice.text("name") if kind == "tool" else None
    request.tool_choice = ToolChoice(mode=_CHOICES[kind], name=name)  # type: ignore[arg-type]
    alone = choice.boolean("disable_parallel_tool_use")
    request.parallel_tool_calls = None if alone is None else not alone
    keep_rest(choice, "tool_choice", request.extra)


def _read_reasoning(members: Members, request: Request) -> None:
    """``thinking`` and ``output_config``, which holds the effort and the answer's format."""
    options: dict[str, Any] = {}
    thinking = members.object("thinking")
    if thinking is not None:
        options = _thinking(thinking, request)
    config = members.object("output_config")
    if config is not None:
        effort = config.one_of("effort", *_EFFORTS)
        if effort is not None:
            options["effort"] = effort
            if thinking is None:
                request.paths["reasoning"] = "output_config.effort"
        _read_format(config, request)
        keep_rest(config, "output_config", request.extra)
    if "output_format" in members:
        request.paths["output_format"] = "output_format"
        _read_format(members, request, "output_format")
    if options:
        request.reasoning = ReasoningOptions(**options)


def _thinking(thinking: Members, request: Request) -> dict[str, Any]:
    kind = thinking.text("type")
    if (
        kind == "between_tools"
    ):  # has no word of ours; other types of thinking that may come are told apart the same way
        request.extra["thinking"] = thinking.value
        return {}
    options: dict[str, Any] = {"enabled": kind != "disabled"}
    if kind == "enabled":
        budget = thinking.integer("budget_tokens", 1)
        if budget is None:
            raise thinking.wrong("budget_tokens", "is missing")
        options["max_tokens"] = budget
    elif kind == "adaptive":
        options["adaptive"] = True
    elif kind != "disabled":
        raise thinking.wrong("type", "must be one of enabled, disabled, adaptive, between_tools")
    display = thinking.string("display") if options["enabled"] else None
    if display == "omitted":
        options["exclude"] = True
    elif display == "summarized":
        options["summary"] = "auto"
    elif display is not None:
        request.extra["thinking.display"] = display
    keep_rest(thinking, "thinking", request.extra)
    return options


def _read_format(holder: Members, request: Request, name: str = "format") -> None:
    wanted = holder.object(name)
    if wanted is None:
        return
    kind = wanted.one_of("type", "json_schema")
    schema = wanted.mapping("schema")
    if kind is None or schema is None:
        raise wanted.wrong("type" if kind is None else "schema", "is missing")
    request.output_format = OutputFormat(kind="json_schema", schema=schema)
    keep_rest(wanted, request.paths["output_format"], request.extra)


def _betas(call: ClientCall) -> tuple[str, ...]:
    try:
        listed = call.headers[b"anthropic-beta"].decode("ascii")
    except UnicodeDecodeError:
        raise GatewayError(
            Kind.INVALID_REQUEST, "the header anthropic-beta must be ASCII", param="anthropic-beta"
        ) from None
    return tuple(name for name in map(str.strip, listed.split(",")) if name)
