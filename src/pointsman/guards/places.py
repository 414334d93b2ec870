"""Every place in a request or an answer where somebody's words can stand, and how to write something else there.

What is left out is named here; anything else is looked at, also what has no word in our own language. Left out are
names and ids, bytes (pictures, sound, files), addresses of files, and state that only its maker can read.
"""

import copy
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    Citation,
    FilePart,
    NativePart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from pointsman.canonical.request import Message, Request, Tool
from pointsman.canonical.response import Response

S = TypeVar("S", bound=msgspec.Struct)
Change = Callable[[str], str]  # gives the same text where nothing is to be changed
TOOL: Final = "tool"  # the role of what tools have given
OPTIONS: Final = ("user", "stop", "metadata", "prediction", "web_search", "audio", "extra")
# Members of objects that we have no word for, which hold no words.
UNREAD: Final = frozenset(
    ("id", "type", "role", "name", "data", "signature", "encrypted_content", "thought_signature", "thoughtSignature",
     "call_id", "tool_use_id", "tool_call_id", "file_id", "file_data", "image_url", "media_type", "mime_type",
     "mimeType")
)  # fmt: skip
_TEXTS: Final[dict[type, tuple[str, ...]]] = {
    TextPart: ("text",),
    RefusalPart: ("text",),
    ReasoningPart: ("text", "summary"),
    FilePart: ("text", "filename", "title", "context"),
    AudioPart: ("transcript",),
    NativePart: ("value",),
}
_CITED: Final = ("url", "title", "cited_text", "native")
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def in_json(value: Any, change: Change) -> Any:
    """A JSON value with its strings changed; the same object where none was."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        rows = [in_json(one, change) for one in value]
        return rows if any(one is not other for one, other in zip(rows, value, strict=True)) else value
    if isinstance(value, dict):
        members = {name: one if name in UNREAD else in_json(one, change) for name, one in value.items()}
        return members if any(members[name] is not value[name] for name in value) else value
    return value


def in_arguments(text: str, change: Change) -> str:
    """A tool call's arguments with the strings in them changed; as they came where nothing was."""
    try:
        value = _decode(text) if text.lstrip()[:1] in ("{", "[", '"') else None
    except (msgspec.DecodeError, RecursionError):
        value = None
    if value is None:
        return change(text)
    changed = _all_of(value, change)
    return text if changed is value else _encode(changed).decode()


def _all_of(value: Any, change: Change) -> Any:
    """Like `in_json`, but no member is left out: a tool's arguments are nobody's ids."""
    if isinstance(value, dict):
        members = {name: _all_of(one, change) for name, one in value.items()}
        return members if any(members[name] is not value[name] for name in value) else value
    if isinstance(value, list):
        rows = [_all_of(one, change) for one in value]
        return rows if any(one is not other for one, other in zip(rows, value, strict=True)) else value
    return change(value) if isinstance(value, str) else value


def in_request(request: Request, change_for: Callable[[str], Change]) -> Request:
    """The request with what was written in it changed; ``change_for`` gives what changes the words of a role."""
    new = copy.copy(request)
    new.messages = [_message(message, change_for) for message in request.messages]
    own = change_for("system")
    new.tools = [_tool(tool, own) for tool in request.tools]
    if request.output_format is not None:
        new.output_format = _members(request.output_format, ("description", "schema", "value"), own)
    return _members(new, OPTIONS, change_for("user"))


def _message(message: Message, change_for: Callable[[str], Change]) -> Message:
    change = change_for(message.role)
    parts = [_request_part(part, change, change_for) for part in message.parts]
    extra = in_json(message.extra, change)
    if extra is message.extra and all(one is other for one, other in zip(parts, message.parts, strict=True)):
        return message
    return msgspec.structs.replace(message, parts=parts, extra=extra)


def _request_part(part: AnyPart, change: Change, change_for: Callable[[str], Change]) -> AnyPart:
    if isinstance(part, ToolResultPart):
        given = change_for(TOOL)
        content = [in_part(one, given) for one in part.content]
        if any(one is not other for one, other in zip(content, part.content, strict=True)):
            part = msgspec.structs.replace(part, content=content)
        return _members(part, ("extra",), given)
    return in_part(part, change)


def in_part(part: AnyPart, change: Change, arguments: Change | None = None) -> AnyPart:
    """The part with its words changed; the same object where none were. ``arguments`` changes those of a tool call."""
    if isinstance(part, ToolCallPart):
        new = arguments(part.arguments) if arguments is not None else in_arguments(part.arguments, change)
        if new != part.arguments:
            part = msgspec.structs.replace(part, arguments=new)
    if isinstance(part, TextPart) and part.citations:
        cited = [cited_by(one, change) for one in part.citations]
        if any(one is not other for one, other in zip(cited, part.citations, strict=True)):
            part = msgspec.structs.replace(part, citations=cited)
    return _members(part, (*_TEXTS.get(type(part), ()), "extra"), change)


def cited_by(citation: Citation, change: Change) -> Citation:
    """The citation with its words changed."""
    return _members(citation, _CITED, change)


def _tool(tool: Tool, change: Change) -> Tool:
    return _members(tool, ("description", "parameters", "format", "value", "extra"), change)


def _members(one: S, names: tuple[str, ...], change: Change) -> S:
    changed: dict[str, Any] = {}
    for name in names:
        before = getattr(one, name)
        if before is not None and (after := in_json(before, change)) is not before:
            changed[name] = after
    return msgspec.structs.replace(one, **changed) if changed else one


def in_response(response: Response, change: Change, arguments: Change | None = None) -> None:
    """Change the words of an answer where they stand."""
    for choice in response.choices:
        choice.parts = [in_part(part, change, arguments) for part in choice.parts]
        if choice.stop_sequence is not None:
            choice.stop_sequence = change(choice.stop_sequence)
