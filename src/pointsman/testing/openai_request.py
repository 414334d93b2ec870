"""What OpenAI accepts as a Chat Completions request, and how it says no."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

Json = dict[str, Any]

_ROLES: Final = ("system", "assistant", "user", "function", "tool", "developer")
_ARGUMENTS: Final = frozenset(
    [
        "messages",
        "model",
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "modalities",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)
MAX_USER: Final = 64
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "model": (str,),
    "messages": (list,),
    "tools": (list,),
    "tool_choice": (str, dict),
    "response_format": (dict,),
    "stream": (bool,),
    "stream_options": (dict,),
    "stop": (str, list),
    "service_tier": (str,),
    "logprobs": (bool,),
}
# name: (lowest, highest, only whole numbers)
_RANGES: Final[dict[str, tuple[int, int | None, bool]]] = {
    "n": (1, 128, True),
    "max_tokens": (1, None, True),
    "max_completion_tokens": (1, None, True),
    "temperature": (0, 2, False),
    "top_p": (0, 1, False),
    "frequency_penalty": (-2, 2, False),
    "presence_penalty": (-2, 2, False),
    "top_logprobs": (0, 20, True),
}
_TYPE_NAMES: Final = {
    str: "a string",
    list: "an array",
    dict: "an object",
    int: "an integer",
    float: "a decimal",
    bool: "a boolean",
    type(None): "null",
}
_NO_JSON: Final = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)
_STRAY_RESULT: Final = (
    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
)
_UNANSWERED: Final = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
    "The following tool_call_ids did not have response messages: "
)


class InvalidRequest(ValueError):
    """A request that OpenAI refuses with 400: its message, the parameter at fault and its code."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


def parse(body: bytes) -> Json:
    """The JSON object in ``body``; InvalidRequest when there is none."""
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise InvalidRequest(_NO_JSON)
    return decoded


def check_shape(request: Json) -> None:
    """Raise InvalidRequest when ``request`` lacks what no answer can be without, or a member has a wrong type."""
    for name in ("model", "messages"):
        _require(request.get(name), name)
    for name, value in request.items():
        if value is not None and name in _TYPES:
            check_type(value, name, *_TYPES[name])
        elif value is not None and name in _RANGES:
            _check_range(name, value, *_RANGES[name])
    for position, message in enumerate(request["messages"]):
        check_type(message, f"messages[{position}]", dict)
    for position, tool in enumerate(request.get("tools") or ()):
        _check_tool(tool, f"tools[{position}]")


def unknown_argument(request: Json) -> str | None:
    """The first member of ``request`` that OpenAI doesn't know."""
    return next((name for name in request if name not in _ARGUMENTS), None)


def check_values(request: Json) -> None:
    """Raise InvalidRequest for the first thing in a well-shaped ``request`` that OpenAI would refuse.

    Unknown members are left to the host's flavour.
    """
    for name in ("messages", "tools"):
        if request.get(name) == []:
            minimum = "empty array. Expected an array with minimum length 1, but got an empty array instead."
            raise InvalidRequest(f"Invalid '{name}': {minimum}", name, "empty_array")
    if request.get("stream_options") is not None and not request.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise InvalidRequest(message, "stream_options")
    if request.get("tool_choice") is not None and not request.get("tools"):
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise InvalidRequest(message, "tool_choice")
    check_user(request)
    for position, message in enumerate(request["messages"]):
        _check_message(message, f"messages[{position}]")
    _check_tool_results(request["messages"])


def check_user(request: Json) -> None:
    """Raise InvalidRequest when the caller's name for its user is too long."""
    user = request.get("user")
    if isinstance(user, str) and len(user) > MAX_USER:
        wanted = f"Expected a string with maximum length {MAX_USER}, but got a string with length {len(user)} instead."
        raise InvalidRequest(f"Invalid 'user': string too long. {wanted}", "user", "string_above_max_length")


def object_in(holder: Json, name: str) -> Json:
    """The member ``name`` if it is an object, else an empty one: for members whose inner shape is not checked."""
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def objects_in(holder: Json, name: str) -> list[Json]:
    """The objects in the array ``name``; none if it is no array."""
    found = holder.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def text_of(message: Json) -> str:
    """The text of a message: its content, or its text parts one after another."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(_part_text(part) for part in objects_in(message, "content"))


def _part_text(part: Json) -> str:
    """What a part says; of a part that is no text, what it is and how large."""
    if isinstance(part.get("text"), str):
        return str(part["text"])
    kind = str(part.get("type"))
    inner = object_in(part, kind)
    if kind in ("image_url", "video_url"):
        return f"[{kind.removesuffix('_url')} {_shown(str(inner.get('url')))}]"
    if kind == "input_audio":
        return f"[audio {inner.get('format')} {_shown('data:,' + str(inner.get('data')))}]"
    if kind == "file":
        named = inner.get("filename") or inner.get("file_id") or "unnamed"
        return f"[file {named} {_shown(str(inner.get('file_data')))}]" if "file_data" in inner else f"[file {named}]"
    return ""


def _shown(url: str) -> str:
    """An address, or of a data URL the type and the length."""
    if not url.startswith("data:"):
        return url
    head, _, data = url.partition(",")
    return f"{head[5:].partition(';')[0]} {len(data)} characters".strip()


def last_user_text(request: Json) -> str:
    """The text of the last user message, or an empty string."""
    for message in reversed(request["messages"]):
        if message.get("role") == "user":
            return text_of(message)
    return ""


def ends_with_tool_result(request: Json) -> bool:
    """True when the last message is a tool's result."""
    return bool(request["messages"]) and request["messages"][-1].get("role") == "tool"


def prompt_tokens(request: Json) -> int:
    """A stable count of the prompt's tokens: one per four characters, and the overhead of messages and tools."""
    texts = sum((len(text_of(message)) + 3) // 4 + 4 for message in request["messages"])
    tools = request.get("tools")
    return texts + 3 + (len(msgspec.json.encode(tools)) // 4 if tools else 0)


def _require(value: object, name: str) -> None:
    if value is None or value == "":
        raise InvalidRequest(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")


def check_type(value: object, name: str, *expected: type) -> None:
    """Raise InvalidRequest unless ``value`` is exactly of one of these types."""
    if type(value) not in expected:
        wanted = " or ".join(_TYPE_NAMES[one] for one in expected)
        message = f"Invalid type for '{name}': expected {wanted}, but got {_TYPE_NAMES[type(value)]} instead."
        raise InvalidRequest(message, name, "invalid_type")


def _check_range(name: str, value: Any, lowest: int, highest: int | None, whole: bool) -> None:
    check_type(value, name, *((int,) if whole else (float, int)))
    kind = "integer" if whole else "decimal"
    if value < lowest:
        message = (
            f"Invalid '{name}': {kind} below minimum value. Expected a value >= {lowest}, but got {value} instead."
        )
        raise InvalidRequest(message, name, f"{kind}_below_min_value")
    if highest is not None and value > highest:
        message = (
            f"Invalid '{name}': {kind} above maximum value. Expected a value <= {highest}, but got {value} instead."
        )
        raise InvalidRequest(message, name, f"{kind}_above_max_value")


def _check_tool(tool: Any, name: str) -> None:
    check_type(tool, name, dict)
    kind = tool.get("type")
    if kind not in ("function", "custom"):
        message = f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'."
        raise InvalidRequest(message, f"{name}.type", "invalid_value")
    _require(tool.get(kind), f"{name}.{kind}")
    check_type(tool[kind], f"{name}.{kind}", dict)
    _require(tool[kind].get("name"), f"{name}.{kind}.name")
    check_type(tool[kind]["name"], f"{name}.{kind}.name", str)


def _check_message(message: Json, name: str) -> None:
    role = message.get("role")
    _require(role, f"{name}.role")
    if role not in _ROLES:
        supported = ", ".join(f"'{known}'" for known in _ROLES[:-1])
        wrong = f"Invalid value: '{role}'. Supported values are: {supported}, and '{_ROLES[-1]}'."
        raise InvalidRequest(wrong, f"{name}.role", "invalid_value")
    if message.get("content") is not None:
        check_type(message["content"], f"{name}.content", str, list)
    elif role != "assistant" or not any(message.get(key) for key in ("tool_calls", "function_call", "refusal")):
        raise InvalidRequest("Invalid value for 'content': expected a string, got null.", f"{name}.content")


def _check_tool_results(messages: list[Json]) -> None:
    """Every call is answered by the tool messages right after it, and every tool message answers a call."""
    open_ids: set[str] = set()
    for position, message in enumerate(messages):
        if message["role"] != "tool":
            _check_answered(open_ids, position)
            open_ids = set(_call_ids(message))
        elif (answered := str(message.get("tool_call_id"))) in open_ids:
            open_ids.remove(answered)
        else:
            raise InvalidRequest(_STRAY_RESULT, f"messages.[{position}].role")
    _check_answered(open_ids, len(messages))


def _check_answered(open_ids: set[str], position: int) -> None:
    if open_ids:
        raise InvalidRequest(_UNANSWERED + ", ".join(sorted(open_ids)), f"messages.[{position}].role")


def _call_ids(message: Json) -> Iterator[str]:
    for call in objects_in(message, "tool_calls"):
        if isinstance(call.get("id"), str):
            yield call["id"]
