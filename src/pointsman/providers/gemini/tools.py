"""Tools for Gemini: function declarations with exact JSON schemas, and Google's own tools."""

from typing import Any, Final

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.request import Request, Tool
from pointsman.providers.gemini.target import Target
from pointsman.wire.gemini import WIRE

Json = dict[str, Any]
# The JSON schema members that Gemini heeds. Source: ai.google.dev, GenerationConfig.responseJsonSchema.
_HEEDED: Final = frozenset(
    {
        "$id", "$defs", "$ref", "$anchor", "$schema", "$comment", "type", "format", "title", "description", "enum",
        "items", "prefixItems", "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties",
        "additionalProperties", "required", "propertyOrdering", "default", "examples", "definitions", "nullable",
    }
)  # fmt: skip
_OF_SCHEMAS: Final = ("properties", "$defs", "definitions", "patternProperties")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties", "not")
_DEPTH: Final = 32
# Other APIs' own tools by the beginning of their type, and the tool of Google's that does the same.
_ALIKE: Final = {"web_search": "googleSearch", "code_interpreter": "codeExecution", "code_execution": "codeExecution",
                 "web_fetch": "urlContext"}  # fmt: skip


def tools_of(request: Request, target: Target, fidelity: Fidelity) -> list[Json]:
    """The request's ``tools``: all functions in one, each of Google's own tools in one."""
    declared: list[Json] = []
    others: list[Json] = []
    for tool in request.tools:
        _note(tool, request.wire, fidelity)
        if tool.kind == "native":
            others += _native(tool, target, fidelity)
        else:
            declared.append(_declaration(tool, request.wire, fidelity))
    if request.web_search is not None:
        fidelity.approximated(request.path("web_search"), "Google's own search, without these settings")
        others.append({"googleSearch": {}})
    return ([{"functionDeclarations": declared}] if declared else []) + others


def _note(tool: Tool, wire: str, fidelity: Fidelity) -> None:
    if tool.cache is not None:
        fidelity.dropped(f"{tool.path}.cache_control", "Gemini caches prompts by itself")
    if tool.namespace is not None:
        fidelity.mapped(f"{tool.path}.namespace", "it stands before the name")
    if wire != WIRE:
        for key in tool.extra or ():
            fidelity.dropped(f"{tool.path}.{key}", "Gemini's functions have no such member")


def _declaration(tool: Tool, wire: str, fidelity: Fidelity) -> Json:
    made: Json = {"name": tool.name}
    if tool.description is not None:
        made["description"] = tool.description
    if tool.kind == "custom":
        fidelity.approximated(tool.path, "a custom tool was declared as a function with one text argument")
        if tool.format is not None:
            fidelity.dropped(f"{tool.path}.format", "Gemini's functions have no grammars")
        made["parametersJsonSchema"] = {
            "type": "object",
            "properties": {"input": {"type": "string"}},
            "required": ["input"],
        }
    elif tool.parameters is not None:
        made["parametersJsonSchema"] = tool.parameters
        note_schema(tool.parameters, f"{tool.path}.parameters", fidelity)
    if tool.strict is not None:
        fidelity.mapped(f"{tool.path}.strict", "the mode VALIDATED or ANY" if tool.strict else "Gemini's default")
    if wire == WIRE:
        made.update(tool.extra or {})
    return made


def note_schema(schema: Json, path: str, fidelity: Fidelity) -> None:
    """Schemas go out whole; what Gemini does not heed in them is said."""
    unheeded = sorted(_unheeded(schema, _DEPTH))
    if unheeded:
        fidelity.approximated(path, f"sent whole, but Gemini does not enforce {', '.join(unheeded)}")


def _unheeded(schema: Any, depth: int) -> set[str]:
    if not isinstance(schema, dict) or depth == 0:
        return set()
    found = set(schema) - _HEEDED
    for name in _OF_SCHEMAS:
        if isinstance(schema.get(name), dict):
            for inner in schema[name].values():
                found |= _unheeded(inner, depth - 1)
    for name in _LISTS:
        if isinstance(schema.get(name), list):
            for inner in schema[name]:
                found |= _unheeded(inner, depth - 1)
    for name in _SINGLE:
        found |= _unheeded(schema.get(name), depth - 1)
    return found


def _native(tool: Tool, target: Target, fidelity: Fidelity) -> list[Json]:
    if tool.wire == WIRE:
        return [dict(tool.value or {tool.name: {}})]
    kind = str((tool.value or {}).get("type") or tool.name)
    alike = next((ours for prefix, ours in _ALIKE.items() if kind.startswith(prefix)), None)
    if alike is None:
        fidelity.dropped(tool.path, f"only {tool.wire} has the tool {kind}")
        return []
    fidelity.approximated(tool.path, f"Google's {alike} in place of {kind}, without its settings")
    return [{alike: {}}]


def tool_config_of(request: Request, fidelity: Fidelity) -> Json:
    """functionCallingConfig; empty when there is nothing to say."""
    functions = [tool for tool in request.tools if tool.kind != "native"]
    path = request.path("tool_choice")
    choice = request.tool_choice
    if choice is None:
        return {"mode": "VALIDATED"} if any(tool.strict for tool in functions) and request.wire != WIRE else {}
    if choice.mode == "native":
        fidelity.dropped(path, "Gemini can't be made to use a tool of its own")
        return {}
    if not functions:
        fidelity.mapped(path, "there is no function to choose")
        return {}
    names = [choice.name] if choice.mode == "tool" and choice.name else list(choice.allowed or ())
    mode = {"none": "NONE", "required": "ANY", "tool": "ANY"}.get(choice.mode, "AUTO")
    if mode == "AUTO" and (names or (request.wire != WIRE and any(tool.strict for tool in functions))):
        mode = "VALIDATED"
    if choice.mode != mode:
        fidelity.mapped(path, f"the mode {mode}")
    if names and mode == "NONE":
        return {"mode": mode}
    return {"mode": mode, **({"allowedFunctionNames": names} if names else {})}
