"""Tools, the choice among them, and what the answer's text has to be."""

from typing import Any, Final

from pointsman.canonical.parts import Extra
from pointsman.canonical.request import OutputFormat, Tool, ToolChoice
from pointsman.wire.members import Members
from pointsman.wire.openai_responses import WIRE, flat_name, short_name

_WORDS: Final = ("auto", "none", "required")


def read_tools(body: Members) -> tuple[list[Tool], Extra]:
    """All tools, those of a namespace one by one; and what is said of namespaces themselves, by path."""
    tools: list[Tool] = []
    about: Extra = {}
    for tool in body.objects("tools"):
        if tool.value.get("type") == "namespace":
            found = _read_namespace(tool)
            said = (one.value or {} for one in found if one.kind != "native")
            about |= {tool.at(name): value for words in said for name, value in words.items()}
            tools += found
        else:
            tools.append(_read_tool(tool, None))
    return tools, about


def _read_namespace(value: Members) -> list[Tool]:
    value.ignore("type")
    name = value.text("name")
    description = value.string("description")
    tools = [_read_tool(nested, name) for nested in value.objects("tools")]
    about = {**({"description": description} if description is not None else {}), **(value.rest() or {})}
    first = next((tool for tool in tools if tool.kind != "native"), None)
    if first is None:
        return [Tool(kind="native", name=name, wire=WIRE, value=value.value, path=value.path)]
    if about:
        first.value = about  # the namespace's own words, once
    return tools


def _read_tool(value: Members, namespace: str | None) -> Tool:
    kind = value.text("type")
    if kind not in ("function", "custom"):
        return Tool(kind="native", name=kind, wire=WIRE, value=value.value, namespace=namespace, path=value.path)
    tool = Tool(
        kind="function" if kind == "function" else "custom",
        name=flat_name(namespace, value.text("name")),
        description=value.string("description"),
        namespace=namespace,
        path=value.path,
    )
    if kind == "function":
        tool.parameters, tool.strict = value.mapping("parameters"), value.boolean("strict")
    else:
        tool.format = value.mapping("format")
    tool.extra = value.rest()
    return tool


def write_tools(tools: list[Tool], *, own: bool) -> list[Extra]:
    """All tools, those of a namespace in it again. ``own``: the client speaks this API, its extras go along.

    A function of another API's client is not strict unless it says so; here it would be.
    """
    written: list[Extra] = []
    spaces: dict[str, Extra] = {}
    for tool in tools:
        one = dict(tool.value or {}) if tool.kind == "native" else _write_tool(tool, own)
        if tool.namespace is None:
            written.append(one)
            continue
        space = spaces.get(tool.namespace)
        if space is None:
            space = spaces[tool.namespace] = {"type": "namespace", "name": tool.namespace, "description": ""}
            space["tools"] = []
            written.append(space)
        if tool.kind != "native":
            space |= tool.value or {}
        space["tools"].append(one)
    return written


def _write_tool(tool: Tool, own: bool) -> Extra:
    one: Extra = {"type": tool.kind, "name": short_name(tool.namespace, tool.name)}
    if tool.description is not None:
        one["description"] = tool.description
    if tool.kind == "function":
        if tool.parameters is not None or not own:
            one["parameters"] = tool.parameters or {"type": "object", "properties": {}}
        if tool.strict is not None or not own:
            one["strict"] = bool(tool.strict)
    elif tool.format is not None:
        one["format"] = tool.format
    return {**one, **(tool.extra or {})} if own else one


def read_choice(value: Any, body: Members) -> ToolChoice | None:
    """``tool_choice`` in all its forms. Raises the reader's error for anything else."""
    if value is None:
        return None
    if isinstance(value, str):
        if value == "auto":
            return ToolChoice(mode="auto")
        if value == "none":
            return ToolChoice(mode="none")
        if value == "required":
            return ToolChoice(mode="required")
        raise body.wrong("tool_choice", f"must be one of {', '.join(_WORDS)}, or an object")
    if not isinstance(value, dict):
        raise body.wrong("tool_choice", "must be a string or an object")
    return _read_object(Members(value, body.at("tool_choice")))


def _read_object(choice: Members) -> ToolChoice:
    kind = choice.text("type")
    if kind in ("function", "custom"):
        name = flat_name(choice.string("namespace"), choice.text("name"))
        return ToolChoice(mode="tool", name=name, kind="function" if kind == "function" else "custom")
    if kind != "allowed_tools":
        return ToolChoice(mode="native", wire=WIRE, value=choice.value)
    mode = choice.one_of("mode", "auto", "required") or "auto"
    allowed = [one.value for one in choice.objects("tools")]
    names = tuple(
        flat_name(one.get("namespace"), str(one.get("name")))
        for one in allowed
        if one.get("type") in ("function", "custom")
    )
    whole = choice.value if len(names) < len(allowed) else None
    return ToolChoice(
        mode="required" if mode == "required" else "auto", allowed=names, wire=WIRE if whole else None, value=whole
    )


def write_choice(choice: ToolChoice, tools: list[Tool]) -> Any:
    """The choice as this API has it. A native choice has to be this API's own."""
    if choice.value is not None and choice.wire == WIRE:
        return choice.value
    known = {tool.name: tool for tool in tools}
    if choice.mode == "tool":
        return _named(choice.name or "", choice.kind, known)
    if choice.allowed is not None and choice.mode in ("auto", "required"):
        names = [_named(name, "function", known) for name in choice.allowed]
        return {"type": "allowed_tools", "mode": choice.mode, "tools": names}
    return "auto" if choice.mode == "native" else choice.mode


def _named(name: str, kind: str, known: dict[str, Tool]) -> Extra:
    tool = known.get(name)
    if tool is None:
        return {"type": kind, "name": name}
    one: Extra = {"type": tool.kind, "name": short_name(tool.namespace, name)}
    return one if tool.namespace is None else {**one, "namespace": tool.namespace}


def read_format(text: Members) -> tuple[OutputFormat | None, Extra]:
    """``text.format``, and what it holds beyond our words."""
    value = text.object("format")
    if value is None:
        return None, {}
    kind = value.one_of("type", "text", "json_object", "json_schema")
    if kind is None:
        raise value.wrong("type", "is missing")
    if kind != "json_schema":
        found = OutputFormat(kind="text" if kind == "text" else "json_object")
    else:
        found = OutputFormat(
            kind="json_schema",
            name=value.text("name"),
            schema=value.mapping("schema"),
            strict=value.boolean("strict"),
            description=value.string("description"),
        )
    return found, {f"text.format.{name}": one for name, one in (value.rest() or {}).items()}


def write_format(wanted: OutputFormat) -> Extra:
    """``text.format``; a schema without a name gets one, this API demands it."""
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    one: Extra = {"type": "json_schema", "name": wanted.name or "response", "schema": wanted.schema or {}}
    if wanted.description is not None:
        one["description"] = wanted.description
    if wanted.strict is not None:
        one["strict"] = wanted.strict
    return one
