"""What Ollama accepts, and how it says no: its JSON decoder's own words for wrong types, then its handlers' checks."""

import base64
import binascii
import re
from typing import Any, Final

import msgspec

from .ollama_errors import OllamaRefusal

Json = dict[str, Any]

_KINDS: Final = {str: "string", list: "array", dict: "object", bool: "bool", int: "number", float: "number"}
_TEXT: Final = (("string",), "string")
_FLAG: Final = (("bool",), "bool")
_MAP: Final = (("object",), "map[string]interface {}")
_COUNT: Final = (("number",), "int")

# member: (JSON kinds that are accepted, the type that the error names)
Members = dict[str, tuple[tuple[str, ...], str]]

_COMMON: Final[Members] = {
    "model": _TEXT,
    "stream": _FLAG,
    "options": _MAP,
    "logprobs": _FLAG,
    "top_logprobs": _COUNT,
    "truncate": _FLAG,
    "shift": _FLAG,
}
_MEMBERS: Final[dict[str, Members]] = {
    "ChatRequest": {
        **_COMMON,
        "messages": (("array",), "[]api.Message"),
        "tools": (("array",), "api.Tools"),
    },
    "GenerateRequest": {
        **_COMMON,
        "prompt": _TEXT,
        "suffix": _TEXT,
        "system": _TEXT,
        "template": _TEXT,
        "raw": _FLAG,
        "context": (("array",), "[]int"),
        "images": (("array",), "[]api.ImageData"),
    },
    "EmbedRequest": {"model": _TEXT, "truncate": _FLAG, "options": _MAP, "dimensions": _COUNT},
    "EmbeddingRequest": {"model": _TEXT, "prompt": _TEXT, "options": _MAP},
    "ShowRequest": {"model": _TEXT, "name": _TEXT, "system": _TEXT, "verbose": _FLAG},
}
_MESSAGE: Final[Members] = {
    "role": _TEXT,
    "content": _TEXT,
    "thinking": _TEXT,
    "images": (("array",), "[]api.ImageData"),
    "tool_calls": (("array",), "[]api.ToolCall"),
    "tool_name": _TEXT,
    "tool_call_id": _TEXT,
}
_FUNCTION: Final[Members] = {"name": _TEXT, "arguments": (("object",), "api.ToolCallFunctionArguments")}
_TOOL_FUNCTION: Final[Members] = {
    "name": _TEXT,
    "description": _TEXT,
    "parameters": (("object",), "api.ToolFunctionParameters"),
}
_INTEGER_OPTIONS: Final = frozenset(
    [
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "repeat_last_n",
    ]
)
_FLOAT_OPTIONS: Final = frozenset(
    ["top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"]
)
_LEVELS: Final = ("high", "medium", "low")
_DURATION: Final = re.compile(r"-?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+|0")


def parse(body: bytes, kind: str) -> Json:
    """The request in ``body``, whose members have the types of Ollama's struct ``kind``; OllamaRefusal otherwise."""
    if not body.strip():
        raise OllamaRefusal(400, "missing request body")
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise OllamaRefusal(400, "invalid character in JSON request body") from None
    if not isinstance(decoded, dict):
        raise OllamaRefusal(400, f"json: cannot unmarshal {_kind(decoded)} into Go value of type api.{kind}")
    _check_members(decoded, _MEMBERS[kind], f"{kind}.")
    for message in decoded.get("messages") or ():
        _check_message(message, f"{kind}.messages")
    for tool in decoded.get("tools") or ():
        _check_struct(tool, f"{kind}.tools", "api.Tool")
        if tool.get("function") is not None:
            _check_struct(tool["function"], f"{kind}.tools.function", "api.ToolFunction")
            _check_members(tool["function"], _TOOL_FUNCTION, f"{kind}.tools.function.")
    _check_images(decoded.get("images"))
    _check_duration(decoded.get("keep_alive"))
    return decoded


def check_generation(request: Json) -> None:
    """Raise OllamaRefusal for the first value of a chat or generate request that Ollama's handlers refuse."""
    if not 0 <= (request.get("top_logprobs") or 0) <= 20:
        raise OllamaRefusal(400, "top_logprobs must be between 0 and 20")
    think = request.get("think")
    if think is not None and not isinstance(think, bool) and think not in _LEVELS:
        wrong = msgspec.json.encode(think).decode()
        raise OllamaRefusal(400, f'invalid think value: {wrong} (must be "high", "medium", "low", true, or false)')
    for name, value in (request.get("options") or {}).items():
        _check_option(name, value)
    form = request.get("format")
    if form not in (None, "", "json") and not isinstance(form, dict):
        shown = msgspec.json.encode(form).decode()
        raise OllamaRefusal(500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')


def image_bytes(request: Json) -> list[bytes]:
    """Every image of a request, decoded."""
    holders = [request, *(request.get("messages") or ())]
    return [base64.b64decode(image) for holder in holders for image in holder.get("images") or ()]


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "null")


def _check_struct(value: object, path: str, expected: str) -> None:
    if not isinstance(value, dict):
        raise OllamaRefusal(
            400, f"json: cannot unmarshal {_kind(value)} into Go struct field {path} of type {expected}"
        )


def _check_members(holder: Json, members: Members, path: str) -> None:
    for name, value in holder.items():
        kinds, expected = members.get(name, ((), ""))
        if expected and value is not None and _kind(value) not in kinds:
            message = f"json: cannot unmarshal {_kind(value)} into Go struct field {path}{name} of type {expected}"
            raise OllamaRefusal(400, message)


def _check_message(message: Any, path: str) -> None:
    _check_struct(message, path, "api.Message")
    _check_members(message, _MESSAGE, f"{path}.")
    for call in message.get("tool_calls") or ():
        _check_struct(call, f"{path}.tool_calls", "api.ToolCall")
        function = call.get("function") or {}
        _check_struct(function, f"{path}.tool_calls.function", "api.ToolCallFunction")
        _check_members(function, _FUNCTION, f"{path}.tool_calls.function.")
    _check_images(message.get("images"))


def _check_images(images: Any) -> None:
    for image in images or ():
        if not isinstance(image, str):
            raise OllamaRefusal(400, f"json: cannot unmarshal {_kind(image)} into Go value of type api.ImageData")
        try:
            base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError):
            raise OllamaRefusal(400, "illegal base64 data at input byte 0") from None


def _check_duration(value: object) -> None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return
    if not isinstance(value, str):
        raise OllamaRefusal(400, f"Unsupported type: '{_kind(value)}'")
    if not _DURATION.fullmatch(value):
        raise OllamaRefusal(400, f'time: invalid duration "{value}"')


def _check_option(name: str, value: object) -> None:
    """Options that are not known are ignored, as Ollama does; wrong types fail with 500, as they do there."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or not (name == "stop" or name in _INTEGER_OPTIONS or name in _FLOAT_OPTIONS):
        return
    if name in _INTEGER_OPTIONS and not number:
        raise OllamaRefusal(500, f'option "{name}" must be of type integer')
    if name in _FLOAT_OPTIONS and not number:
        raise OllamaRefusal(500, f'option "{name}" must be of type float32')
    if name == "stop" and not isinstance(value, list):
        raise OllamaRefusal(500, f'option "{name}" must be of type array')
    if name == "stop" and not all(isinstance(one, str) for one in value):  # type: ignore[attr-defined]
        raise OllamaRefusal(500, f'option "{name}" must be of an array of strings')
