"""What Bedrock accepts as a Converse request, and how it says no."""

import base64
import binascii
import re
from typing import Any, Final

import msgspec

from .bedrock_errors import BedrockRefusal
from .bedrock_signature import signature_of

Json = dict[str, Any]

_BLOCKS: Final = frozenset(
    (
        "text",
        "image",
        "document",
        "video",
        "audio",
        "toolUse",
        "toolResult",
        "guardContent",
        "cachePoint",
        "reasoningContent",
        "citationsContent",
        "searchResult",
    )
)
_FORMATS: Final = {
    "image": ("png", "jpeg", "gif", "webp"),
    "document": ("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"),
    "video": ("mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp"),
    "audio": ("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "m4a", "mpeg", "pcm", "webm"),
}
_RANGES: Final = {"temperature": (0, 1), "topP": (0, 1), "maxTokens": (1, 2**31)}
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_DOCUMENT_NAME: Final = re.compile(r"[a-zA-Z0-9()\[\]-]+( [a-zA-Z0-9()\[\]-]+)*")
_TIERS: Final = ("priority", "default", "flex", "reserved")


def parse(body: bytes) -> Json:
    """The JSON object in ``body``; BedrockRefusal when there is none."""
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise BedrockRefusal("The request body is not valid JSON.", "SerializationException")
    return decoded


def check(request: Json) -> None:
    """Raise BedrockRefusal for the first thing in ``request`` that Bedrock refuses."""
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or messages[0].get("role") != "user":
        raise BedrockRefusal(
            "A conversation must start with a user message. Try again with a conversation that starts with a user "
            "message."
        )
    _check_config(request)
    for number, message in enumerate(messages):
        _check_turn(message, number, messages)
        for place, block in enumerate(message["content"]):
            _check_block(block, f"messages.{number}.content.{place}")
    _check_tools(request)
    _check_calls(messages)
    _check_thoughts(request)


def thinks(request: Json) -> bool:
    """Whether the request asks the model to think."""
    fields = request.get("additionalModelRequestFields") or {}
    effort = (request.get("outputConfig") or {}).get("effort", "none")
    return (fields.get("thinking") or {}).get("type") in ("enabled", "adaptive") or effort != "none"


def text_of(message: Json) -> str:
    """The text of a message."""
    return "".join(block["text"] for block in message["content"] if "text" in block)


def _check_config(request: Json) -> None:
    for name, (least, most) in _RANGES.items():
        value = (request.get("inferenceConfig") or {}).get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or not least <= value <= most:
            bound = f"less than or equal to {most}" if value > most else f"greater than or equal to {least}"
            raise BedrockRefusal(
                f"1 validation error detected: Value '{value}' at 'inferenceConfig.{name}' failed to satisfy "
                f"constraint: Member must have value {bound}"
            )
    tier = request.get("serviceTier")
    if tier is not None and tier.get("type") not in _TIERS:
        raise BedrockRefusal("1 validation error detected: Value at 'serviceTier.type' failed to satisfy constraint")
    form = (request.get("outputConfig") or {}).get("textFormat")
    if form is not None:
        try:
            msgspec.json.decode(form["structure"]["jsonSchema"]["schema"])
        except (KeyError, TypeError, msgspec.DecodeError):
            raise BedrockRefusal("The schema at outputConfig.textFormat is not valid JSON.") from None


def _check_turn(message: Json, number: int, messages: list[Json]) -> None:
    if message.get("role") not in ("user", "assistant") or not isinstance(message.get("content"), list):
        raise BedrockRefusal(f"The message at messages.{number} has no valid role or content.")
    if number and messages[number - 1]["role"] == message["role"]:
        raise BedrockRefusal(
            "A conversation must alternate between user and assistant roles. Make sure the conversation alternates "
            "between user and assistant roles and try again."
        )
    if not message["content"]:
        raise BedrockRefusal(f"The content field in the Message object at messages.{number} is empty.")
    if any("document" in block for block in message["content"]) and not text_of(message):
        raise BedrockRefusal("A text block is required along with documents. Add text and try again.")


def _check_block(block: Json, place: str) -> None:
    kinds = _BLOCKS & block.keys()
    if len(kinds) != 1:
        raise BedrockRefusal(f"The content block at {place} must have exactly one of its members set.")
    (kind,) = kinds
    value = block[kind]
    if kind == "text" and not str(value).strip():
        raise BedrockRefusal(
            f"The text field in the ContentBlock object at {place} is blank. Add text to the text field, and try again."
        )
    if kind in _FORMATS:
        _check_medium(kind, value, place)
    if kind == "toolUse" and not (_NAME.fullmatch(value["toolUseId"]) and isinstance(value.get("input"), dict)):
        raise BedrockRefusal(f"The value at {place}.toolUse is invalid.")
    if kind == "toolResult":
        for inner in value.get("content") or ():
            if not {"text", "json", "image", "document", "video", "searchResult"} & inner.keys():
                raise BedrockRefusal(f"The content of the tool result at {place} is invalid.")


def _check_medium(kind: str, value: Json, place: str) -> None:
    if "format" in value and value["format"] not in _FORMATS[kind]:
        raise BedrockRefusal(f"The format field at {place}.{kind} is not supported.")
    if kind == "document" and not _DOCUMENT_NAME.fullmatch(value.get("name") or ""):
        raise BedrockRefusal(
            "The document file name can only contain alphanumeric characters, single spaces and -()[]."
        )
    source = value.get("source") or {}
    if "bytes" in source:
        try:
            base64.b64decode(source["bytes"], validate=True)
        except (binascii.Error, ValueError):
            raise BedrockRefusal(f"The bytes at {place}.{kind} are not valid base64.") from None
    elif not {"s3Location", "text", "content"} & source.keys():
        raise BedrockRefusal(f"The source at {place}.{kind} is empty.")


def _check_tools(request: Json) -> None:
    config = request.get("toolConfig")
    used = any("toolUse" in block or "toolResult" in block for one in request["messages"] for block in one["content"])
    if config is None:
        if used:
            raise BedrockRefusal(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks."
            )
        return
    if not config.get("tools"):
        raise BedrockRefusal("The tools field at toolConfig must have at least one tool.")
    for tool in config["tools"]:
        spec = tool.get("toolSpec")
        if spec is None:
            continue
        if not _NAME.fullmatch(spec.get("name") or "") or "json" not in (spec.get("inputSchema") or {}):
            raise BedrockRefusal("The tool specification at toolConfig.tools is invalid.")
        if spec.get("description") == "":
            raise BedrockRefusal("The description of a tool must have at least one character.")


def _check_calls(messages: list[Json]) -> None:
    """Every call is answered in the next turn, and every result answers a call of the turn before."""
    for number, message in enumerate(messages):
        asked = {block["toolUse"]["toolUseId"] for block in messages[number - 1]["content"] if "toolUse" in block}
        if number == 0:
            asked = set()
        given = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        if not set(given) <= asked or len(given) > len(asked):
            raise BedrockRefusal(
                f"The number of toolResult blocks at messages.{number}.content exceeds the number of toolUse blocks of "
                "previous turn."
            )
        if missing := sorted(asked - set(given)):
            raise BedrockRefusal(
                f"Expected toolResult blocks at messages.{number}.content for the following Ids: {', '.join(missing)}"
            )


def _check_thoughts(request: Json) -> None:
    """Signatures hold, and with thinking on a turn that calls tools begins with its thoughts."""
    for number, message in enumerate(request["messages"]):
        for place, block in enumerate(message["content"]):
            told = (block.get("reasoningContent") or {}).get("reasoningText")
            if told is not None and told.get("signature") != signature_of(told.get("text", "")):
                raise BedrockRefusal(
                    "The model returned the following errors: "
                    f"messages.{number}.content.{place}: Invalid `signature` in `thinking` block"
                )
        calls = message["role"] == "assistant" and any("toolUse" in block for block in message["content"])
        if calls and thinks(request) and "reasoningContent" not in message["content"][0]:
            raise BedrockRefusal(
                f"The model returned the following errors: messages.{number}.content.0.type: Expected `thinking` or "
                "`redacted_thinking`, but found `tool_use`."
            )
