"""What Anthropic accepts as a conversation: rules between the members of a request, and ways to read one."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from .anthropic_checks import InvalidRequest, Json, refuse

_IMAGE_STARTS: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
_MOST_CACHE_MARKS: Final = 4
# Blocks that may stand in an assistant message only; Anthropic names the first it finds elsewhere.
_ASSISTANT_ONLY: Final = frozenset({"tool_use", "thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use"})


def parse(body: bytes) -> Json:
    """The JSON object in ``body``; InvalidRequest when there is none."""
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise InvalidRequest("The request body is not valid JSON: could not parse it") from None
    if not isinstance(decoded, dict):
        raise InvalidRequest("Input should be an object")
    return decoded


def check_rules(request: Json) -> None:
    """Raise InvalidRequest for the first thing in a well-shaped ``request`` that Anthropic would refuse."""
    if not request["messages"]:
        raise InvalidRequest("messages: at least one message is required")
    _check_roles(request["messages"])
    _check_contents(request["messages"])
    _check_images(request["messages"])
    _check_tool_turns(request["messages"])
    _check_tools(request)
    _check_thinking_options(request)
    _check_cache_marks(request)


def check_version(request: Json) -> None:
    """Raise InvalidRequest for what API version 2026-10-21 no longer takes: docs/en/api/versioning."""
    for name in ("temperature", "top_p", "top_k"):
        if name in request:
            raise refuse(name, "Extra inputs are not permitted")
    for position, message in enumerate(request["messages"]):
        for number, block in enumerate(blocks_of(message)):
            path = f"messages.{position}.content.{number}"
            if message["role"] == "assistant" and block["type"] == "document":
                raise InvalidRequest(f"{path}: `document` blocks are not permitted in `assistant` messages")
            texts = [block, *blocks_of(block)] if block["type"] == "search_result" else [block]
            if message["role"] == "user" and any(text["type"] == "text" and text.get("citations") for text in texts):
                raise InvalidRequest(f"{path}: `citations` are not permitted on `text` blocks in `user` messages")


def blocks_of(holder: Json, name: str = "content") -> list[Json]:
    """The content of a message, tool result or system prompt as blocks: a string is one text block."""
    content = holder.get(name)
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content or () if isinstance(block, dict)]


def last_user_text(request: Json) -> str:
    """The text of the last user message that has any, or an empty string."""
    for message in reversed(request["messages"]):
        texts = [block["text"] for block in blocks_of(message) if block.get("type") == "text"]
        if message["role"] == "user" and texts:
            return "".join(texts)
    return ""


def ends_with_tool_result(request: Json) -> bool:
    """True when the last user message holds the result of a tool call."""
    users = [message for message in request["messages"] if message["role"] == "user"]
    return bool(users) and any(block.get("type") == "tool_result" for block in blocks_of(users[-1]))


def thinks(request: Json) -> bool:
    """True when the answer is to begin with thinking."""
    return (request.get("thinking") or {}).get("type") in ("enabled", "adaptive")


def _check_roles(messages: list[Json]) -> None:
    for position, message in enumerate(messages):
        if message["role"] != "system":
            continue
        # docs/en/build-with-claude/mid-conversation-system-messages: after a user turn, never first.
        if position == 0 or messages[position - 1]["role"] != "user":
            raise InvalidRequest(
                f'messages.{position}: a message with role "system" must follow a user message; '
                "use the top-level `system` parameter for the system prompt"
            )


def _check_contents(messages: list[Json]) -> None:
    for position, message in enumerate(messages):
        last = position == len(messages) - 1
        prefill = last and message["role"] == "assistant"
        if message["content"] in ("", []) and not prefill:
            raise InvalidRequest(
                f"messages.{position}: all messages must have non-empty content except for the optional final "
                "assistant message"
            )
        for number, block in enumerate(blocks_of(message)):
            _check_block(message["role"], block, f"messages.{position}.content.{number}")
        texts = [block["text"] for block in blocks_of(message) if block["type"] == "text"]
        if prefill and texts and texts[-1] != texts[-1].rstrip():
            raise InvalidRequest("messages: final assistant content cannot end with trailing whitespace")


def _check_block(role: str, block: Json, path: str) -> None:
    kind = block["type"]
    if role != "assistant" and kind in _ASSISTANT_ONLY:
        raise InvalidRequest(f"{path}: `{kind}` blocks can only be in `assistant` messages")
    if role != "user" and kind == "tool_result":
        raise InvalidRequest(f"{path}: `tool_result` blocks can only be in `user` messages")
    if kind == "text" and not block["text"].strip():
        raise InvalidRequest("messages: text content blocks must contain non-whitespace text")


def _check_images(messages: list[Json]) -> None:
    for position, message in enumerate(messages):
        for number, block in enumerate(blocks_of(message)):
            _check_image(block, f"messages.{position}.content.{number}")
            for inner, part in enumerate(blocks_of(block)) if block["type"] == "tool_result" else ():
                _check_image(part, f"messages.{position}.content.{number}.tool_result.content.{inner}")


def _check_image(block: Json, path: str) -> None:
    if block["type"] != "image" or block["source"]["type"] != "base64":
        return
    source = block["source"]
    first = msgspec.convert(source["data"], bytes)[:16]
    found = next((kind for start, kind in _IMAGE_STARTS.items() if first.startswith(start)), None)
    if found is None:
        raise InvalidRequest(f"{path}.image.source.base64.data: Could not process image")
    if found != source["media_type"]:
        raise InvalidRequest(
            f"{path}.image.source.base64.data: The image was specified using the {source['media_type']} media type, "
            f"but the image appears to be a {found} image"
        )


def _check_tool_turns(messages: list[Json]) -> None:
    """Every call is answered in the message right after it, and every result answers a call of the message before."""
    asked: list[str] = []
    turns = [(place, message) for place, message in enumerate(messages) if message["role"] != "system"]
    for place, message in turns:
        blocks = blocks_of(message)
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        _check_results(blocks, asked, place)
        if unanswered := [call for call in asked if call not in answered]:
            raise InvalidRequest(
                f"messages.{place - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(unanswered)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(asked)) != len(asked):
            raise InvalidRequest(f"messages.{place}.content: `tool_use` ids must be unique")
    if asked and messages[-1]["role"] != "assistant":
        raise InvalidRequest("messages: `tool_use` blocks must be followed by `tool_result` blocks")


def _check_results(blocks: list[Json], asked: list[str], place: int) -> None:
    seen: set[str] = set()
    for number, block in enumerate(blocks):
        if block["type"] != "tool_result":
            continue
        call = block["tool_use_id"]
        if call not in asked:
            raise InvalidRequest(
                f"messages.{place}.content.{number}: unexpected `tool_use_id` found in `tool_result` blocks: {call}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if call in seen:
            raise InvalidRequest(
                f"messages.{place}.content.{number}: each tool_use must have a single result. "
                f"Found multiple `tool_result` blocks with id: {call}"
            )
        seen.add(call)


def _check_tools(request: Json) -> None:
    tools = request.get("tools") or []
    names = [tool["name"] for tool in tools if "name" in tool]
    if len(set(names)) != len(names):
        raise InvalidRequest("tools: Tool names must be unique.")
    for position, tool in enumerate(tools):
        schema = tool.get("input_schema")
        if schema is not None and schema.get("type") != "object":
            raise refuse(f"tools.{position}.custom.input_schema.type", "Input should be 'object'")
    choice = request.get("tool_choice")
    if choice is None:
        return
    if not tools and choice["type"] != "none":
        raise InvalidRequest("tool_choice: Tool choice may only be specified while providing tools.")
    if choice["type"] == "tool" and choice["name"] not in names:
        raise InvalidRequest(f"Tool '{choice['name']}' not found in provided tools")


def _check_thinking_options(request: Json) -> None:
    thinking = request.get("thinking") or {}
    if not thinks(request):
        return
    where = "Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
    if "max_tokens" in request and thinking.get("budget_tokens", 0) >= request["max_tokens"]:
        raise InvalidRequest(f"`max_tokens` must be greater than `thinking.budget_tokens`. {where}#max-tokens")
    if request.get("temperature", 1) != 1:
        raise InvalidRequest(f"`temperature` may only be set to 1 when thinking is enabled. {where}")
    if request.get("top_k") is not None:
        raise InvalidRequest(f"`top_k` must be unset when thinking is enabled. {where}")
    if request.get("top_p", 1) < 0.95:
        raise InvalidRequest(
            f"`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled. {where}"
        )
    if (request.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise InvalidRequest("Thinking may not be enabled when tool_choice forces tool use.")
    if request["messages"][-1]["role"] == "assistant":
        raise InvalidRequest(f"messages: a final `assistant` message may not be prefilled with thinking. {where}")


def _check_cache_marks(request: Json) -> None:
    marks = list(cache_marks(request))
    if len(marks) > _MOST_CACHE_MARKS:
        raise InvalidRequest(
            f"A maximum of {_MOST_CACHE_MARKS} blocks with cache_control may be provided. Found {len(marks)}."
        )
    shorter = False
    for path, mark in marks:
        if mark.get("ttl") == "1h" and shorter:
            raise InvalidRequest(
                f"{path}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, `system`, "
                "`messages`."
            )
        shorter = shorter or mark.get("ttl") != "1h"


def cacheable_blocks(request: Json) -> Iterator[tuple[str, Json]]:
    """Everything that can carry ``cache_control``, with its path, in the order in which Anthropic reads a prompt."""
    for position, tool in enumerate(request.get("tools") or ()):
        yield f"tools.{position}", tool
    for position, block in enumerate(blocks_of(request, "system")):
        yield f"system.{position}", block
    for place, message in enumerate(request["messages"]):
        for position, block in enumerate(blocks_of(message)):
            path = f"messages.{place}.content.{position}"
            for inner, part in enumerate(_inner_blocks(block)):
                yield f"{path}.{block['type']}.content.{inner}", part
            yield path, block


def cache_marks(request: Json) -> Iterator[tuple[str, Json]]:
    """Every cache mark with the path of its block, the automatic one of the whole request last."""
    for path, block in cacheable_blocks(request):
        if block.get("cache_control") is not None:
            yield path, block["cache_control"]
    if request.get("cache_control") is not None:
        yield "", request["cache_control"]


def _inner_blocks(block: Json) -> list[Json]:
    if block["type"] == "tool_result" and not isinstance(block.get("content"), str):
        return blocks_of(block)
    return []


def documents_of(request: Json) -> list[tuple[Any, Json]]:
    """The documents with citations on, each with its index among all documents, as citations count them."""
    found = [
        block
        for message in request["messages"]
        for block in blocks_of(message)
        if block["type"] in ("document", "search_result")
    ]
    counts = {"document": -1, "search_result": -1}
    cited = []
    for block in found:
        counts[block["type"]] += 1
        if (block.get("citations") or {}).get("enabled"):
            cited.append((counts[block["type"]], block))
    return cited
