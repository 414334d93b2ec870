"""Presets: requests filled in beforehand, named by ``@preset/slug`` in the model, or by the member ``preset``.

What the request says itself wins over the preset; tools of both are put together. A preset is written in the words of
Chat Completions, and put into other APIs' words here. Source: openrouter.ai/docs (presets), as of 2026-11.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from pointsman.errors import GatewayError, Kind
from pointsman.wire.members import read_request

MARK: Final = "@preset/"
MEMBER: Final = "preset"
CHAT, RESPONSES, ANTHROPIC = "openai.chat", "openai.responses", "anthropic"
# Parameters that a preset may hold, and what they are called in other APIs; None: there is no such thing.
PARAMETERS: Final[dict[str, tuple[str | None, str | None]]] = {
    "max_tokens": ("max_output_tokens", "max_tokens"),
    "temperature": ("temperature", "temperature"),
    "top_p": ("top_p", "top_p"),
    "top_k": ("top_k", "top_k"),
    "min_p": (None, None),
    "top_a": (None, None),
    "seed": (None, None),
    "stop": (None, "stop_sequences"),
    "frequency_penalty": (None, None),
    "presence_penalty": (None, None),
    "repetition_penalty": (None, None),
    "reasoning": ("reasoning", None),
    "response_format": (None, None),
    "parallel_tool_calls": ("parallel_tool_calls", None),
    "service_tier": ("service_tier", "service_tier"),
    "user": ("user", None),
}
# Members that say the same: a request that has one of them has said it.
_SAME: Final = {"max_tokens": ("max_completion_tokens",), "reasoning": ("reasoning_effort",)}
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode


class Preset(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What requests are filled in with. ``provider`` holds preferences, ``tools`` and ``parameters`` are in Chat
    Completions' words. ``cache_enabled`` and ``cache_ttl_seconds`` are for the response cache.
    """

    model: str | None = None
    models: tuple[str, ...] = ()
    system: str | None = None
    provider: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    parameters: dict[str, Any] = {}
    cache_enabled: bool | None = None
    cache_ttl_seconds: int | None = None


Presets = Mapping[str, Preset]


def preset_of(body: bytes, asked: str, presets: Presets) -> Preset | None:
    """The preset that a request names, before it is filled in; None for none, or one that there isn't."""
    _, marked, slug = asked.partition(MARK)
    return presets.get(slug if marked else read_request(body, "'model'").string(MEMBER) or "")


def filled_in(body: bytes, wire: str, asked: str | None, presets: Presets) -> bytes:
    """A body that names a preset (in ``asked``, its model, or in a member), with what the preset holds.

    Raises GatewayError: MODEL_NOT_FOUND when there is none of the name, INVALID_REQUEST for an API that has no presets.
    """
    head, marked, slug = (asked or "").partition(MARK)
    if wire not in _SYSTEM:
        if not marked:
            return body
        raise GatewayError(Kind.INVALID_REQUEST, "requests of this API can't name a preset", param="model")
    top = read_request(body, "'model'")
    named = top.string(MEMBER)
    if not marked and named is None:
        return body
    preset = presets.get(slug if marked else named or "")
    if preset is None:
        shown = "".join(one if one.isprintable() else "?" for one in (slug if marked else named or "")[:100])
        message = f"the preset '{shown}' does not exist"
        if marked:
            raise GatewayError(Kind.MODEL_NOT_FOUND, message, param="model")
        raise GatewayError(Kind.INVALID_REQUEST, message, param=MEMBER)
    fields: dict[str, Any] = dict(_fields.decode(body))
    fields.pop(MEMBER, None)
    _name_model(fields, head if marked else asked, preset)
    if preset.provider is not None:
        fields.setdefault("provider", preset.provider)
    _fill_parameters(fields, wire, preset.parameters)
    if preset.system is not None:
        _SYSTEM[wire](fields, preset.system)
    if preset.tools:
        own = [tool for tool in top.items("tools") or [] if isinstance(tool, dict)]
        fields["tools"] = _together(own, preset.tools, wire)
    return _encode(fields)


def _name_model(fields: dict[str, Any], asked: str | None, preset: Preset) -> None:
    """The request's own model, else the preset's, with its fallbacks."""
    if asked:
        fields["model"] = asked
        return
    names = [name for name in (preset.model, *preset.models) if name]
    if not names:
        raise GatewayError(Kind.INVALID_REQUEST, "the preset names no model: name one before it", param="model")
    fields["model"] = names[0]
    if len(names) > 1 and "models" not in fields:
        fields["models"] = list(dict.fromkeys(names[1:]))


def _fill_parameters(fields: dict[str, Any], wire: str, parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        in_responses, in_anthropic = PARAMETERS.get(name, (None, None))
        theirs = name if wire == CHAT else in_responses if wire == RESPONSES else in_anthropic
        if theirs is None or any(same in fields for same in (theirs, *_SAME.get(name, ()))):
            continue
        fields[theirs] = [value] if theirs == "stop_sequences" and isinstance(value, str) else value


def _system_of_chat(fields: dict[str, Any], text: str) -> None:
    messages = msgspec.json.decode(fields.get("messages", b"null"))
    if not isinstance(messages, list):
        return  # refused by whoever reads it
    if any(isinstance(one, dict) and one.get("role") in ("system", "developer") for one in messages):
        return
    fields["messages"] = [{"role": "system", "content": text}, *messages]


def _system_of_responses(fields: dict[str, Any], text: str) -> None:
    fields.setdefault("instructions", text)


def _system_of_anthropic(fields: dict[str, Any], text: str) -> None:
    fields.setdefault("system", text)


_SYSTEM: Final[dict[str, Callable[[dict[str, Any], str], None]]] = {
    CHAT: _system_of_chat,
    RESPONSES: _system_of_responses,
    ANTHROPIC: _system_of_anthropic,
}


def _together(own: list[dict[str, Any]], more: tuple[dict[str, Any], ...], wire: str) -> list[dict[str, Any]]:
    """The request's tools, then those of the preset that it has none of the name of."""
    known = {_tool_name(tool) for tool in own}
    return own + [tool for one in more if _tool_name(one) not in known and (tool := _tool(one, wire)) is not None]


def _tool_name(tool: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells tools apart: the name of a function, else the type."""
    function = tool.get("function")
    if isinstance(function, dict):
        return "function", str(function.get("name"))
    kind = str(tool.get("type") or "function")
    return ("function", str(tool.get("name"))) if kind in ("function", "custom") else (kind,)


def _tool(tool: dict[str, Any], wire: str) -> dict[str, Any] | None:
    """A tool in an API's words; None when it has no such tool."""
    function = tool.get("function")
    if wire == CHAT or not isinstance(function, dict):
        return None if wire == ANTHROPIC else tool
    if wire == RESPONSES:
        return {"type": "function", **function}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    told = {"name": function.get("name"), "description": function.get("description"), "input_schema": schema}
    return {name: value for name, value in told.items() if value is not None}
