"""What Cohere accepts as a v2 chat request, and how it says no."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from .cohere_errors import CohereRefusal

Json = dict[str, Any]

_ROLES: Final = ("user", "assistant", "system", "tool")
_MEMBERS: Final[dict[str, type | tuple[type, ...]]] = {
    "model": str,
    "messages": list,
    "stream": bool,
    "tools": list,
    "strict_tools": bool,
    "documents": list,
    "citation_options": dict,
    "response_format": dict,
    "safety_mode": str,
    "max_tokens": int,
    "stop_sequences": list,
    "temperature": (int, float),
    "seed": int,
    "frequency_penalty": (int, float),
    "presence_penalty": (int, float),
    "k": int,
    "p": (int, float),
    "logprobs": bool,
    "tool_choice": str,
    "thinking": dict,
    "priority": int,
}
_RANGES: Final[dict[str, tuple[float, float, str]]] = {
    "temperature": (0, 1, "0 and 1.0"),
    "frequency_penalty": (0, 1, "0 and 1"),
    "presence_penalty": (0, 1, "0 and 1"),
    "k": (0, 500, "0 and 500"),
    "p": (0.01, 0.99, "0.01 and 0.99"),
}
_ENUMS: Final[dict[str, tuple[str, ...]]] = {
    "safety_mode": ("CONTEXTUAL", "STRICT", "OFF", "NONE"),
    "tool_choice": ("REQUIRED", "NONE"),
}
_CITATION_MODES: Final = ("enabled", "disabled", "fast", "accurate", "off")
_MOST_STOPS: Final = 5
# The blocks that a role's content may hold, and the member that each must have.
_BLOCKS: Final[dict[str, dict[str, tuple[str, type]]]] = {
    "user": {"text": ("text", str), "image_url": ("image_url", dict)},
    "assistant": {"text": ("text", str), "thinking": ("thinking", str)},
    "system": {"text": ("text", str)},
    "tool": {"text": ("text", str), "document": ("document", dict)},
}
_MESSAGE_MEMBERS: Final[dict[str, frozenset[str]]] = {
    "user": frozenset({"role", "content"}),
    "system": frozenset({"role", "content"}),
    "assistant": frozenset({"role", "content", "tool_calls", "tool_plan", "citations"}),
    "tool": frozenset({"role", "content", "tool_call_id"}),
}


def parse(body: bytes) -> Json:
    """The JSON object in ``body``; CohereRefusal when there is none."""
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise CohereRefusal("invalid request: could not parse request body as JSON") from None
    if not isinstance(decoded, dict):
        raise CohereRefusal("invalid request: request body must be a JSON object")
    return decoded


def check(request: Json) -> None:
    """Raise CohereRefusal for the first thing in ``request`` that Cohere refuses."""
    for name, value in request.items():
        if name not in _MEMBERS:
            raise CohereRefusal(f"unknown field: parameter '{name}' is not a valid field")
        if value is not None:
            _check_value(name, value)
    if not request.get("model"):
        raise CohereRefusal("a model parameter is required for this endpoint.")
    if not request.get("messages"):
        raise CohereRefusal("invalid request: messages must contain at least one message.")
    for step in _STEPS:
        step(request)
    known: set[str] = set()
    for position, message in enumerate(request["messages"]):
        _check_message(message, f"messages[{position}]", known)
        if position and message["role"] == "system":
            raise CohereRefusal("system turn must be the first in the list")


def text_of(message: Json) -> str:
    """The text of a message's content."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content or () if block.get("type") == "text")


def _check_value(name: str, value: Any) -> None:
    expected: Any = _MEMBERS[name]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise CohereRefusal(f"invalid type: parameter {name} is of the wrong type.")
    if name in _RANGES and not _RANGES[name][0] <= float(value) <= _RANGES[name][1]:
        raise CohereRefusal(f"invalid request: {name} must be between {_RANGES[name][2]} inclusive.")
    if name in _ENUMS and value not in _ENUMS[name]:
        raise CohereRefusal(f"invalid request: {name} must be one of {', '.join(_ENUMS[name])}.")


def _check_limits(request: Json) -> None:
    if len(request.get("stop_sequences") or ()) > _MOST_STOPS:
        raise CohereRefusal(f"invalid request: stop_sequences must have at most {_MOST_STOPS} elements.")
    limit = request.get("max_tokens")
    if limit is not None and limit < 0:
        raise CohereRefusal("invalid request: max_tokens must be greater than or equal to 0.")


def _check_thinking(request: Json) -> None:
    thinking = request.get("thinking")
    if thinking is None:
        return
    if thinking.get("type") not in ("enabled", "disabled"):
        raise CohereRefusal("invalid request: thinking.type must be one of enabled, disabled.")
    budget = thinking.get("token_budget")
    if budget is not None and (not isinstance(budget, int) or budget < 1):
        raise CohereRefusal("invalid request: thinking.token_budget must be a positive integer.")


def _check_strictness(request: Json) -> None:
    for tool in request.get("tools") or () if request.get("strict_tools") else ():
        if not tool["function"]["parameters"].get("required"):
            raise CohereRefusal("invalid request: strict_tools needs at least one required parameter in every tool.")


def _check_format(request: Json) -> None:
    form = request.get("response_format")
    if form is None:
        return
    if form.get("type") not in ("text", "json_object"):
        raise CohereRefusal("invalid request: response_format.type must be one of text, json_object.")
    if form["type"] == "text" and "json_schema" in form:
        raise CohereRefusal("invalid request: json_schema must not be specified when response_format type is text.")
    if form["type"] == "json_object" and request.get("documents"):
        raise CohereRefusal("invalid request: response_format is not supported with RAG.")
    if form["type"] == "json_object" and request.get("tools"):
        raise CohereRefusal("invalid request: response_format is not supported with tools.")


def _check_tools(request: Json) -> None:
    if request.get("tool_choice") is not None and not request.get("tools"):
        raise CohereRefusal("invalid request: tool_choice is only supported when tools are provided.")
    for position, tool in enumerate(request.get("tools") or ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            raise CohereRefusal(f"invalid request: tools[{position}] must be a function.")
        if not function.get("name"):
            raise CohereRefusal(f"invalid request: tools[{position}].function.name is required.")
        if not isinstance(function.get("parameters"), dict):
            raise CohereRefusal(f"invalid request: tools[{position}].function.parameters must be a JSON schema.")


def _check_documents(request: Json) -> None:
    for document in request.get("documents") or ():
        if not isinstance(document, str) and not isinstance(document.get("data"), dict):
            raise CohereRefusal("invalid request: all documents must be a string or have data.")
    mode = (request.get("citation_options") or {}).get("mode")
    if mode is not None and str(mode).lower() not in _CITATION_MODES:
        raise CohereRefusal("invalid request: citation_options.mode is not supported.")


_STEPS: Final[tuple[Callable[[Json], None], ...]] = (
    _check_limits,
    _check_thinking,
    _check_format,
    _check_tools,
    _check_strictness,
    _check_documents,
)


def _check_message(message: Any, name: str, known: set[str]) -> None:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in _ROLES:
        raise CohereRefusal(f"invalid request: {name}.role must be one of {', '.join(_ROLES)}.")
    if unknown := next((key for key in message if key not in _MESSAGE_MEMBERS[role]), None):
        raise CohereRefusal(f"unknown field: parameter '{name}.{unknown}' is not a valid field")
    content = message.get("content")
    if isinstance(content, list):
        for block in content:
            _check_block(block, _BLOCKS[role], name)
    elif content is not None and not isinstance(content, str):
        raise CohereRefusal(f"invalid type: parameter {name}.content is of the wrong type.")
    if not content and not (role == "assistant" and message.get("tool_calls")):
        raise CohereRefusal("message must not be empty in a turn")
    if role == "tool":
        _check_result(message, name, known)
    for call in message.get("tool_calls") or ():
        _check_call(call, name)
        known.add(call["id"])


def _check_block(block: Any, allowed: dict[str, tuple[str, type]], name: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind not in allowed:
        raise CohereRefusal(f"invalid request: {name}.content has a block of an unsupported type.")
    member, expected = allowed[kind]
    if not isinstance(block.get(member), expected):
        raise CohereRefusal(f"invalid request: {name}.content has a {kind} block without {member}.")
    if kind == "image_url" and not str(block[member].get("url", "")).startswith(("data:image/", "https://", "http://")):
        raise CohereRefusal("invalid request: image_url must be a base64 data URI or a web URL.")


def _check_result(message: Json, name: str, known: set[str]) -> None:
    if message.get("tool_call_id") not in known:
        raise CohereRefusal(f"invalid request: {name}.tool_call_id does not match any tool call.")


def _check_call(call: Any, name: str) -> None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not call.get("id") or call.get("type") != "function":
        raise CohereRefusal(f"invalid request: {name}.tool_calls must have id, type and function.")
    try:
        arguments = msgspec.json.decode(function["arguments"])
    except (KeyError, TypeError, msgspec.DecodeError):
        arguments = None
    if not isinstance(arguments, dict):
        raise CohereRefusal(f"invalid request: {name}.tool_calls arguments must be a JSON object string.")
