"""Tools and the choice among them, as Anthropic has them."""

from typing import Any, Final

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import CacheMark, Extra
from pointsman.canonical.request import Request, Tool, ToolChoice
from pointsman.providers.anthropic.schemas import object_schema
from pointsman.providers.leftovers import note_left_out
from pointsman.wire.anthropic import WIRE

Json = dict[str, Any]

WEB_SEARCH: Final = "web_search_20250305"  # the version that every model with web search takes
# How other APIs call the web search that they run themselves.
_WEB_SEARCHES: Final = frozenset(
    {"web_search", "web_search_preview", "web_search_2025_08_26", "googleSearch", "google_search"}
)
_CHOICES: Final = {"auto": "auto", "required": "any", "none": "none"}
# Objects of requests that we have words for, whose other members are kept under their path.
_PARENTS: Final = frozenset(
    {
        "cache_control",
        "citations",
        "metadata",
        "output_config",
        "output_config.format",
        "output_format",
        "source",
        "thinking",
        "tool_choice",
    }
)
_PLACE: Final = ("city", "country", "region", "timezone")


def write_tools(request: Request, body: Json, fidelity: Fidelity) -> None:
    """Put ``tools`` and ``tool_choice`` into ``body``."""
    choice = request.tool_choice
    allowed = choice.allowed if choice is not None else None
    offered = request.tools if allowed is None else [tool for tool in request.tools if tool.name in allowed]
    tools = [written for tool in offered if (written := _tool(tool, request, fidelity)) is not None]
    if allowed is not None:
        fidelity.mapped(request.path("tool_choice"), "only the allowed tools are sent")
        note_left_out(request.tools, allowed, fidelity)
    if request.web_search is not None:
        tools.append(_searching(request.web_search, request.path("web_search"), fidelity))
    if tools:
        body["tools"] = tools
    _write_choice(request, body, fidelity)


def mark(cache: CacheMark | None) -> Json:
    """The ``cache_control`` member for a mark, or none."""
    if cache is None:
        return {}
    return {"cache_control": {"type": "ephemeral"} | ({"ttl": cache.ttl} if cache.ttl is not None else {})}


def put_back(target: Json, extra: Extra | None, path: str, own: bool, fidelity: Fidelity) -> None:
    """Members beyond our words: where they were for Anthropic's own client, else a note for each."""
    for name, value in (extra or {}).items():
        if not own:
            fidelity.dropped(f"{path}.{name}" if path else name, "Anthropic's API has no such member")
            continue
        parent, _, last = name.rpartition(".")
        holder = target
        if parent in _PARENTS:
            for one in parent.split("."):
                holder = holder.setdefault(one, {})
        else:
            last = name
        holder.setdefault(last, value)


def _tool(tool: Tool, request: Request, fidelity: Fidelity) -> Json | None:
    if tool.kind == "native":
        return _native(tool, fidelity)
    written: Json = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.kind == "custom":
        fidelity.approximated(tool.path, "a function whose one string 'input' is the text")
        if tool.format is not None and tool.format.get("type") != "text":
            fidelity.dropped(f"{tool.path}.format", "Anthropic's API has no grammars")
        input_schema = {"type": "string", "description": "The tool's whole input, as plain text."}
        written["input_schema"] = {"type": "object", "properties": {"input": input_schema}, "required": ["input"]}
    else:
        if tool.parameters is None or tool.parameters.get("type") != "object":
            fidelity.synthesised(f"{tool.path}.parameters", "Anthropic wants the schema of an object")
        written["input_schema"] = object_schema(tool.parameters)
    if tool.strict or (tool.strict is not None and request.wire == WIRE):
        written["strict"] = tool.strict
    if tool.namespace is not None:
        fidelity.mapped(f"{tool.path}.namespace", "it stands before the name")
    if tool.cache is not None:
        written |= mark(tool.cache)
    if tool.extra:
        put_back(written, tool.extra, tool.path, request.wire == WIRE, fidelity)
    return written


def _native(tool: Tool, fidelity: Fidelity) -> Json | None:
    value = tool.value or {}
    if tool.wire == WIRE:
        return value
    if tool.name in _WEB_SEARCHES or value.get("type") in _WEB_SEARCHES:
        return _searching(value, tool.path, fidelity)
    fidelity.dropped(tool.path, f"only {tool.wire} has this tool")
    return None


def _searching(options: Extra, path: str, fidelity: Fidelity) -> Json:
    """Anthropic's own web search for another API's."""
    fidelity.mapped(path, f"Anthropic's {WEB_SEARCH}")
    written: Json = {"type": WEB_SEARCH, "name": "web_search"}
    for name, value in options.items():
        if name == "user_location" and isinstance(value, dict):
            place = value.get("approximate", value)
            found = {key: place[key] for key in _PLACE if isinstance(place, dict) and place.get(key) is not None}
            written["user_location"] = {"type": "approximate", **found}
        elif name == "filters" and isinstance(value, dict) and isinstance(value.get("allowed_domains"), list):
            written["allowed_domains"] = value["allowed_domains"]
        elif name not in ("type", "googleSearch", "google_search"):
            fidelity.dropped(f"{path}.{name}", "Anthropic's web search has no such option")
    return written


def _write_choice(request: Request, body: Json, fidelity: Fidelity) -> None:
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    if choice is None and parallel is not False:
        return
    if "tools" not in body:
        if choice is not None and choice.mode not in ("auto", "none"):
            fidelity.dropped(request.path("tool_choice"), "there are no tools to choose from")
        if parallel is False:
            fidelity.dropped(request.path("parallel_tool_calls"), "there are no tools to call")
        return
    written = _choice(choice or ToolChoice(mode="auto"), request, fidelity)
    if written is None:
        if parallel is not False:
            return
        written = {"type": "auto"}
    if parallel is False and written["type"] == "none":
        fidelity.mapped(request.path("parallel_tool_calls"), "there are no calls")
    elif parallel is not None and (parallel is False or (request.wire == WIRE and written["type"] != "none")):
        written["disable_parallel_tool_use"] = not parallel
    body["tool_choice"] = written


def _choice(choice: ToolChoice, request: Request, fidelity: Fidelity) -> Json | None:
    if choice.mode == "tool":
        return {"type": "tool", "name": choice.name}
    if choice.mode == "native":
        if choice.wire == WIRE and choice.value is not None:
            return dict(choice.value)
        fidelity.dropped(request.path("tool_choice"), f"only {choice.wire} has this tool")
        return None
    return {"type": _CHOICES[choice.mode]}
