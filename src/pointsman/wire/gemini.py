"""What both halves of the Gemini format share: bodies read in either case of letters, schemas in either language."""

import re
from typing import Any, Final

import msgspec

from pointsman.canonical.response import FinishReason
from pointsman.wire.gemini_schema import MESSAGES, camel_case
from pointsman.wire.members import Members, read_request

WIRE: Final = "gemini"
# Stands in for the signature of a call that no Gemini model made. Source: ai.google.dev, "Thought signatures".
PLACEHOLDER_SIGNATURE: Final = "skip_thought_signature_validator"
# What Google's finish reasons mean; STOP after a function call is TOOL_CALLS. One that isn't here is an ERROR.
FINISH: Final = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "SAFETY": FinishReason.CONTENT_FILTER,
    "RECITATION": FinishReason.CONTENT_FILTER,
    "BLOCKLIST": FinishReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "SPII": FinishReason.CONTENT_FILTER,
    "IMAGE_SAFETY": FinishReason.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "IMAGE_RECITATION": FinishReason.CONTENT_FILTER,
    "MODEL_ARMOR": FinishReason.CONTENT_FILTER,
    "MALFORMED_FUNCTION_CALL": FinishReason.MALFORMED_CALL,
    "UNEXPECTED_TOOL_CALL": FinishReason.MALFORMED_CALL,
    "MALFORMED_RESPONSE": FinishReason.MALFORMED_CALL,
    "CONTINUATION": FinishReason.PAUSE,
}
# What Google says of a candidate, and of a whole answer, beyond our words.
CANDIDATE_EXTRA: Final = frozenset(
    {
        "safetyRatings", "citationMetadata", "groundingMetadata", "groundingAttributions", "urlContextMetadata",
        "avgLogprobs", "tokenCount", "finishMessage", "continuationToken",
    }
)  # fmt: skip
ANSWER_EXTRA: Final = frozenset({"promptFeedback", "usageMetadata", "createTime", "modelStatus"})
# A name in snake case somewhere: only then the body is rewritten.
_SNAKE: Final = re.compile(rb'"[a-z]+(?:_[a-z0-9]+)+"\s*:')
_MAPS: Final = ("properties", "defs")
_WHOLES: Final = (
    "minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength",
)  # fmt: skip
# Google's words for kinds of media in token counts.
AUDIO: Final = "AUDIO"
IMAGE: Final = "IMAGE"
TEXT: Final = "TEXT"

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def read_body(body: bytes, message: str, needs: str) -> Members:
    """A client's JSON body with its members in camel case. Raises GatewayError(INVALID_REQUEST)."""
    members = read_request(body, needs)
    if _SNAKE.search(body) is None:
        return members
    return Members(in_camel_case(members.value, message))


def in_camel_case(value: dict[str, Any], message: str) -> dict[str, Any]:
    """``value`` with the names of the table of ``message``; names that it doesn't have, and free objects, stay."""
    kinds = MESSAGES[message]
    renamed: dict[str, Any] = {}
    for key, member in value.items():
        known = key if key in kinds else camel_case(key)
        if known in kinds:
            renamed[known] = _renamed(member, kinds[known])
        else:
            renamed[key] = member
    return renamed


def _renamed(value: Any, kind: str) -> Any:
    if kind[0] == "[" and isinstance(value, list):
        return [_renamed(one, kind[1:-1]) for one in value]
    if kind[0] == "{" and isinstance(value, dict):
        return {key: _renamed(one, kind[1:-1]) for key, one in value.items()}
    return in_camel_case(value, kind) if kind in MESSAGES and isinstance(value, dict) else value


def is_older(model: str) -> bool:
    """True for the families before Gemini 3: budgets instead of levels of thinking, signatures not demanded."""
    name = model.rpartition("/")[2]
    return name.startswith(("gemini-1", "gemini-2", "gemma", "learnlm"))


def json_schema_of(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of Google's OpenAPI subset as JSON schema; it means the same."""
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, str):
            made["type"] = value.lower()
        elif key in _MAPS and isinstance(value, dict):
            name = "$defs" if key == "defs" else key
            made[name] = {inner: _inner(one) for inner, one in value.items()}
        elif key in ("items", "additionalProperties"):
            made[key] = _inner(value)
        elif key == "anyOf" and isinstance(value, list):
            made[key] = [_inner(one) for one in value]
        elif key == "ref":
            made["$ref"] = value
        elif key == "example":
            made["examples"] = [value]
        elif key in _WHOLES and isinstance(value, str) and value.isdigit():
            made[key] = int(value)
        elif key != "nullable":
            made[key] = value
    return _nullable(made) if schema.get("nullable") is True else made


def _inner(value: Any) -> Any:
    return json_schema_of(value) if isinstance(value, dict) else value


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    return schema


def object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that ``text`` is, or None when it is none."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = _decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return value if isinstance(value, dict) else None


# Google documents "output" and "error" as the members of a function's response; any other object is the output itself.


def response_of(text: str, is_error: bool | None) -> dict[str, Any]:
    """A tool result's text as a function's response; `text_of_response` is its inverse."""
    value = object_in(text)
    if is_error:
        return {"error": text if value is None else value}
    return {"output": text} if value is None else value


def text_of_response(response: dict[str, Any]) -> tuple[str, bool | None]:
    """A function's response as a tool result's text, and whether it is an error (None: not said)."""
    if len(response) == 1:
        ((key, value),) = response.items()
        if key in ("output", "error") and isinstance(value, str) and object_in(value) is None:
            return value, True if key == "error" else None
        if key == "error" and isinstance(value, dict):
            return _encode(value).decode(), True
    return _encode(response).decode(), None
