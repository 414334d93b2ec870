"""What OpenAI accepts as a Responses request, and how it says no."""

import re
from collections.abc import Iterator
from typing import Any, Final

from .openai_request import InvalidRequest, Json, check_type, check_user, object_in, objects_in
from .responses_values import (
    ARGUMENTS,
    CONTENT_TYPES,
    ID_PREFIXES,
    INCLUDABLE,
    ITEM_FIELDS,
    ITEM_TYPES,
    PART_FIELDS,
    RANGES,
    ROLES,
    TOOL_FIELDS,
    TOOL_TYPES,
    TYPES,
    check_range,
    missing,
    unknown,
    unsupported,
)

MAX_CALL_ID: Final = 64
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]+")
_CALLS: Final = {
    "function_call_output": ("function_call", "function call"),
    "custom_tool_call_output": ("custom_tool_call", "custom tool call"),
}


def check_shape(request: Json) -> None:
    """Raise InvalidRequest when ``request`` lacks what no answer can be without, or a member has a wrong type."""
    if not request.get("model") and not request.get("prompt"):
        raise missing("model")
    for name, value in request.items():
        if value is not None and name in TYPES:
            check_type(value, name, *TYPES[name])
        elif value is not None and name in RANGES:
            check_range(name, value, *RANGES[name])
    for position, item in enumerate(items_of(request)):
        check_type(item, f"input[{position}]", dict)
    for position, tool in enumerate(request.get("tools") or ()):
        check_type(tool, f"tools[{position}]", dict)


def check_values(request: Json) -> None:
    """Raise InvalidRequest for the first thing in a well-shaped ``request`` that OpenAI would refuse."""
    if stranger := next((name for name in request if name not in ARGUMENTS), None):
        raise unknown(stranger)
    if request.get("input") is None and not any(request.get(name) for name in ("prompt", "previous_response_id")):
        raise InvalidRequest(
            'One of "input" or "previous_response_id" or \'prompt\' or "conversation_id" must be provided.',
            None,
            "missing_required_parameter",
        )
    for position, wanted in enumerate(request.get("include") or ()):
        if wanted not in INCLUDABLE:
            raise unsupported(wanted, INCLUDABLE, f"include[{position}]")
    if request.get("stream_options") is not None and not request.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise InvalidRequest(message, "stream_options")
    if request.get("previous_response_id") and request.get("conversation"):
        message = (
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation' can't both be given. "
            "Ensure you are only providing one of them."
        )
        raise InvalidRequest(message, None, "mutually_exclusive_parameters")
    for position, tool in enumerate(request.get("tools") or ()):
        _check_tool(tool, f"tools[{position}]")
    for position, item in enumerate(items_of(request)):
        _check_item(item, f"input[{position}]")
    check_user(request)
    _check_format(request)


def items_of(request: Json) -> list[Any]:
    """The input as a list of items; a plain string is one user message."""
    given = request.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return given if isinstance(given, list) else []


def kind_of(item: Json) -> str:
    """An item's type; OpenAI lets messages and references go without one."""
    kind = item.get("type")
    if isinstance(kind, str):
        return kind
    return "message" if "role" in item or "content" in item else "item_reference"


def text_of(item: Json) -> str:
    """The text of a message item: its content, or its text parts one after another."""
    content = item.get("content")
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in objects_in(item, "content") if isinstance(part.get("text"), str))


def last_user_text(items: list[Json]) -> str:
    """The text of the last user message, or an empty string."""
    for item in reversed(items):
        if kind_of(item) == "message" and item.get("role") == "user":
            return text_of(item)
    return ""


def functions_of(request: Json) -> list[Json]:
    """Everything that the model may call by name: functions and custom tools, with their ``namespace`` if they have."""
    found: list[Json] = []
    for tool in objects_in(request, "tools"):
        if tool.get("type") in ("function", "custom"):
            found.append(tool)
        elif tool.get("type") == "namespace":
            found += [{**nested, "namespace": tool.get("name")} for nested in objects_in(tool, "tools")]
    return found


def check_conversation(items: list[Json]) -> None:
    """Every call is answered and every answer belongs to a call before it, as OpenAI demands."""
    calls: dict[str, str] = {}
    for item in items:
        kind = kind_of(item)
        if kind in ("function_call", "custom_tool_call"):
            calls[str(item.get("call_id"))] = kind
        elif kind in _CALLS:
            expected, words = _CALLS[kind]
            if calls.get(str(item.get("call_id"))) not in (expected, "answered"):
                message = f"No tool call found for {words} output with call_id {item.get('call_id')}."
                raise InvalidRequest(message, "input")
            calls[str(item["call_id"])] = "answered"
    for call_id, kind in calls.items():
        if kind != "answered":
            words = "function call" if kind == "function_call" else "custom tool call"
            raise InvalidRequest(f"No tool output found for {words} {call_id}.", "input")


def _check_item(item: Json, name: str) -> None:
    kind = kind_of(item)
    if kind not in ITEM_TYPES:
        raise unsupported(kind, ITEM_TYPES, name)
    fields = ITEM_FIELDS.get(kind)
    if fields is not None:
        for field in item:
            if field not in fields:
                raise unknown(f"{name}.{field}")
    for field in ("call_id", "name", "arguments", "input", "encrypted_content"):
        if fields is not None and item.get(field) is not None:
            check_type(item[field], f"{name}.{field}", str)
    _check_ids(item, kind, name)
    if kind == "message":
        _check_message(item, name)
    elif kind in ("function_call", "custom_tool_call"):
        for field in ("call_id", "name", "arguments" if kind == "function_call" else "input"):
            if item.get(field) is None:
                raise missing(f"{name}.{field}")
    elif kind in _CALLS:
        _check_output(item, name)
    elif kind == "reasoning" and not isinstance(item.get("summary"), list):
        raise missing(f"{name}.summary")


def _check_ids(item: Json, kind: str, name: str) -> None:
    identity, prefix = item.get("id"), ID_PREFIXES.get(kind)
    if isinstance(identity, str) and prefix is not None and not identity.startswith(prefix):
        message = f"Invalid '{name}.id': '{identity}'. Expected an ID that begins with '{prefix}'."
        raise InvalidRequest(message, f"{name}.id", "invalid_value")
    call_id = item.get("call_id")
    if isinstance(call_id, str) and len(call_id) > MAX_CALL_ID:
        message = (
            f"Invalid '{name}.call_id': string too long. Expected a string with maximum length {MAX_CALL_ID}, but got "
            f"a string with length {len(call_id)} instead."
        )
        raise InvalidRequest(message, f"{name}.call_id", "string_above_max_length")


def _check_message(item: Json, name: str) -> None:
    role = item.get("role")
    if role not in ROLES:
        raise unsupported(role, ROLES, f"{name}.role")
    if item.get("content") is None:
        raise missing(f"{name}.content")
    check_type(item["content"], f"{name}.content", str, list)
    if isinstance(item["content"], list):
        allowed = ("output_text", "refusal") if role == "assistant" else CONTENT_TYPES
        for position, part in enumerate(item["content"]):
            _check_part(part, f"{name}.content[{position}]", allowed)


def _check_output(item: Json, name: str) -> None:
    if item.get("call_id") is None:
        raise missing(f"{name}.call_id")
    if item.get("output") is None:
        raise missing(f"{name}.output")
    check_type(item["output"], f"{name}.output", str, list)
    if isinstance(item["output"], list):
        for position, part in enumerate(item["output"]):
            _check_part(part, f"{name}.output[{position}]", CONTENT_TYPES)


def _check_part(part: Any, name: str, allowed: tuple[str, ...]) -> None:
    check_type(part, name, dict)
    kind = part.get("type")
    if kind not in allowed:
        raise unsupported(kind, allowed, f"{name}.type" if allowed is CONTENT_TYPES else name)
    for field in part:
        if field not in PART_FIELDS[kind]:
            raise unknown(f"{name}.{field}")
    if kind in ("input_text", "output_text"):
        if part.get("text") is None:
            raise missing(f"{name}.text")
        check_type(part["text"], f"{name}.text", str)
    elif kind == "input_image":
        _check_image(part, name)
    elif kind == "input_file" and not any(part.get(key) for key in ("file_data", "file_id", "file_url")):
        raise missing(f"{name}.file_id")


def _check_image(part: Json, name: str) -> None:
    url = part.get("image_url")
    if url is None:
        if part.get("file_id") is None:
            raise missing(f"{name}.image_url")
        return
    if not isinstance(url, str):
        message = f"Invalid type for '{name}.image_url': expected an image URL, but got an object instead."
        raise InvalidRequest(message, f"{name}.image_url", "invalid_type")
    if not url.startswith(("data:image/", "https://", "http://")):
        message = (
            f"Invalid '{name}.image_url'. Expected a valid URL, but got a value with an invalid format."
            if not url.startswith("data:")
            else f"Invalid '{name}.image_url'. Expected a base64-encoded data URL with an image MIME type (e.g. "
            "'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got unsupported MIME type."
        )
        raise InvalidRequest(message, f"{name}.image_url", "invalid_value")


def _check_tool(tool: Json, name: str) -> None:
    kind = tool.get("type")
    if kind not in TOOL_TYPES:
        raise unsupported(kind, TOOL_TYPES, f"{name}.type")
    fields = TOOL_FIELDS.get(kind)
    if fields is None:
        return
    if not tool.get("name"):
        raise missing(f"{name}.name")
    for field in tool:
        if field not in fields:
            raise unknown(f"{name}.{field}")
    check_type(tool["name"], f"{name}.name", str)
    if not _NAME.fullmatch(tool["name"]):
        message = (
            f"Invalid '{name}.name': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'."
        )
        raise InvalidRequest(message, f"{name}.name", "invalid_value")
    if kind == "namespace":
        for position, nested in enumerate(objects_in(tool, "tools")):
            _check_tool(nested, f"{name}.tools[{position}]")
    elif kind == "function" and tool.get("strict") is True:
        check_strict(tool.get("parameters"), f"function '{tool['name']}'", f"{name}.parameters", _FUNCTION_CODE)


_FUNCTION_CODE: Final = "invalid_function_parameters"


def check_strict(schema: Any, what: str, name: str, code: str) -> None:
    """Raise InvalidRequest unless ``schema`` is one that strict mode takes, objects at all depths."""
    for path, found in _objects(schema, ()):
        context = ", ".join(f"'{step}'" for step in path) + ("," if len(path) == 1 else "")
        if found.get("additionalProperties") is not False:
            message = "'additionalProperties' is required to be supplied and to be false."
            raise InvalidRequest(f"Invalid schema for {what}: In context=({context}), {message}", name, code)
        properties = object_in(found, "properties")
        required = found.get("required")
        lacking = [key for key in properties if not isinstance(required, list) or key not in required]
        if lacking:
            message = (
                "'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{lacking[0]}'."
            )
            raise InvalidRequest(f"Invalid schema for {what}: In context=({context}), {message}", name, code)


def _objects(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json]]:
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object" or "properties" in schema:
        yield path, schema
    for key, value in object_in(schema, "properties").items():
        yield from _objects(value, (*path, "properties", key))
    yield from _objects(schema.get("items"), (*path, "items"))


def _check_format(request: Json) -> None:
    wanted = object_in(object_in(request, "text"), "format")
    kind = wanted.get("type")
    if wanted and kind not in ("text", "json_object", "json_schema"):
        raise unsupported(kind, ("json_object", "json_schema", "text"), "text.format.type")
    if kind == "json_schema":
        for field in ("name", "schema"):
            if wanted.get(field) is None:
                raise missing(f"text.format.{field}")
        if wanted.get("strict") is True:
            name = f"response_format '{wanted['name']}'"
            check_strict(wanted["schema"], name, "text.format.schema", "invalid_json_schema")
    if kind == "json_object":
        texts = [text_of(item) for item in items_of(request)] + [str(request.get("instructions"))]
        if not any("json" in text.lower() for text in texts):
            message = (
                "Response input messages must contain the word 'json' in some form to use 'text.format' of type "
                "'json_object'."
            )
            raise InvalidRequest(message, "input")
