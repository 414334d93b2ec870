"""What Anthropic accepts in a Messages request, member by member: the names of everything, and nothing else.

Facts from the API reference at platform.claude.com/docs/en/api/messages and the types of Anthropic's own clients.
"""

from typing import Any, Final

from .anthropic_checks import (
    Check,
    anything,
    base64_text,
    boolean,
    each,
    mapping,
    nullable,
    number,
    one_of,
    record,
    string,
    tagged,
    text_or,
    values,
    whole,
)

_TEXT: Final = string()
_NAME: Final = string(pattern="[a-zA-Z0-9_-]{1,128}")
_CACHE: Final = nullable(
    tagged({"ephemeral": record({"type": anything}, {"ttl": one_of("5m", "1h"), "scope": anything})})
)
_CACHEABLE: Final[dict[str, Check]] = {"cache_control": _CACHE}
_CITATIONS_CONFIG: Final = nullable(record({}, {"enabled": boolean}))
_CALLER: Final = tagged(
    {
        "direct": record({"type": anything}),
        "code_execution_20250825": record({"type": anything, "tool_id": _TEXT}),
        "code_execution_20260120": record({"type": anything, "tool_id": _TEXT}),
    }
)


def _block(required: dict[str, Check], optional: dict[str, Check] | None = None, *, cacheable: bool = True) -> Check:
    marks = _CACHEABLE if cacheable else {}
    return record({"type": anything, **required}, {**marks, **(optional or {})})


def _located(*integers: str, **others: Check) -> Check:
    return record({"type": anything, "cited_text": _TEXT, **dict.fromkeys(integers, whole()), **others}, _CITED_TITLES)


_CITED_TITLES: Final[dict[str, Check]] = {
    "document_title": nullable(_TEXT),
    "title": nullable(_TEXT),
    "file_id": nullable(_TEXT),
}
_CITATION: Final = tagged(
    {
        "char_location": _located("document_index", "start_char_index", "end_char_index"),
        "page_location": _located("document_index", "start_page_number", "end_page_number"),
        "content_block_location": _located("document_index", "start_block_index", "end_block_index"),
        "web_search_result_location": _located(url=_TEXT, encrypted_index=_TEXT),
        "search_result_location": _located("search_result_index", "start_block_index", "end_block_index", source=_TEXT),
    }
)
_TEXT_BLOCK: Final = _block(
    {"text": string(shortest=1)},
    {"citations": nullable(each(_CITATION))},
)
_IMAGE: Final = _block(
    {
        "source": tagged(
            {
                "base64": record(
                    {
                        "type": anything,
                        "media_type": one_of("image/jpeg", "image/png", "image/gif", "image/webp"),
                        "data": base64_text,
                    }
                ),
                "url": record({"type": anything, "url": string(shortest=1)}),
                "file": record({"type": anything, "file_id": string(shortest=1)}),
            }
        )
    },
    {"transformations": nullable(record({}, {"oversized_image": one_of("downsize", "error")}))},
)
_TEXT_OR_IMAGE: Final = tagged({"text": _TEXT_BLOCK, "image": _IMAGE})
_DOCUMENT: Final = _block(
    {
        "source": tagged(
            {
                "base64": record({"type": anything, "media_type": one_of("application/pdf"), "data": base64_text}),
                "text": record({"type": anything, "media_type": one_of("text/plain"), "data": string(shortest=1)}),
                "content": record({"type": anything, "content": text_or(each(_TEXT_OR_IMAGE))}),
                "url": record({"type": anything, "url": string(shortest=1)}),
                "file": record({"type": anything, "file_id": string(shortest=1)}),
            }
        )
    },
    {
        "title": nullable(string(shortest=1, longest=500)),
        "context": nullable(string(shortest=1)),
        "citations": _CITATIONS_CONFIG,
    },
)
_SEARCH_RESULT: Final = _block(
    {"content": each(tagged({"text": _TEXT_BLOCK})), "source": _TEXT, "title": _TEXT}, {"citations": _CITATIONS_CONFIG}
)
_TOOL_REFERENCE: Final = _block({"tool_name": _NAME})
_TOOL_RESULT_PART: Final = tagged(
    {
        "text": _TEXT_BLOCK,
        "image": _IMAGE,
        "document": _DOCUMENT,
        "search_result": _SEARCH_RESULT,
        "tool_reference": _TOOL_REFERENCE,
        "browser_state": mapping,
    }
)
_CALL_ID: Final = string(pattern="[a-zA-Z0-9_-]+")


def _server_result(*, content: Check = anything, **optional: Check) -> Check:
    return _block({"tool_use_id": _CALL_ID, "content": content}, {"caller": _CALLER, **optional})


_BLOCKS: Final[dict[str, Check]] = {
    "text": _TEXT_BLOCK,
    "image": _IMAGE,
    "document": _DOCUMENT,
    "search_result": _SEARCH_RESULT,
    "thinking": _block({"thinking": _TEXT, "signature": _TEXT}, cacheable=False),
    "redacted_thinking": _block({"data": _TEXT}, cacheable=False),
    "tool_use": _block(
        {"id": _CALL_ID, "name": string(shortest=1, longest=200), "input": mapping},
        {"caller": _CALLER, "toolset_name": nullable(_TEXT)},
    ),
    "tool_result": _block(
        {"tool_use_id": _CALL_ID},
        {"content": text_or(each(_TOOL_RESULT_PART)), "is_error": boolean, "toolset_name": nullable(_TEXT)},
    ),
    "server_tool_use": _block(
        {
            "id": string(pattern="srvtoolu_[a-zA-Z0-9_]+"),
            "name": one_of(
                "web_search",
                "web_fetch",
                "code_execution",
                "bash_code_execution",
                "text_editor_code_execution",
                "tool_search_tool_regex",
                "tool_search_tool_bm25",
                "advisor",
            ),
            "input": mapping,
        },
        {"caller": _CALLER},
    ),
    "web_search_tool_result": _server_result(),
    "web_fetch_tool_result": _server_result(),
    "code_execution_tool_result": _server_result(),
    "bash_code_execution_tool_result": _server_result(),
    "text_editor_code_execution_tool_result": _server_result(),
    "tool_search_tool_result": _server_result(),
    "advisor_tool_result": _server_result(),
    "mcp_tool_use": _block({"id": _CALL_ID, "name": _TEXT, "server_name": _TEXT, "input": mapping}),
    "mcp_tool_result": _block(
        {"tool_use_id": _CALL_ID}, {"content": text_or(each(tagged({"text": _TEXT_BLOCK}))), "is_error": boolean}
    ),
    "mcp_tool_listing": _block({"mcp_server_name": _TEXT, "tools": each(mapping)}, cacheable=False),
    "container_upload": _block({"file_id": _TEXT}),
    "compaction": _block(
        {},
        {
            "content": nullable(_TEXT),
            "encrypted_content": nullable(_TEXT),
            "signature": nullable(_TEXT),
            "tool_changes": nullable(each(mapping)),
        },
    ),
    "fallback": _block({"from": mapping, "to": mapping}, {"trigger": anything}, cacheable=False),
    "tool_addition": _block({"tool": mapping}),
    "tool_removal": _block({"tool": mapping}),
}
_CONTENT: Final = text_or(each(tagged(_BLOCKS)))
_SYSTEM_MESSAGE_BLOCKS: Final = {name: _BLOCKS[name] for name in ("text", "tool_addition", "tool_removal")}
_SYSTEM_MESSAGE: Final = record(
    {"role": anything, "content": text_or(each(tagged(_SYSTEM_MESSAGE_BLOCKS)))},
    {
        "clear_at": nullable(one_of("next_user_message", "never")),
        "output_config": nullable(record({}, {"effort": nullable(_TEXT)})),
    },
)
_MESSAGE: Final = record({"role": one_of("user", "assistant", "system"), "content": _CONTENT})


def message(value: Any, path: str) -> None:
    """One of ``messages``; a system message has members of its own."""
    if isinstance(value, dict) and value.get("role") == "system":
        _SYSTEM_MESSAGE(value, path)
    else:
        _MESSAGE(value, path)


_CALLERS: Final = each(
    one_of("direct", "code_execution_20250825", "code_execution_20260120", "code_execution_20260521")
)
_EVERY_TOOL: Final[dict[str, Check]] = {
    **_CACHEABLE,
    "allowed_callers": _CALLERS,
    "defer_loading": boolean,
    "strict": boolean,
}
_CUSTOM_TOOL: Final = record(
    {"name": _NAME, "input_schema": mapping},
    {
        **_EVERY_TOOL,
        "type": nullable(_TEXT),
        "description": _TEXT,
        "eager_input_streaming": nullable(boolean),
        "input_examples": each(mapping),
    },
)


def _named_tool(name: str, **optional: Check) -> Check:
    return record({"type": anything, "name": one_of(name)}, {**_EVERY_TOOL, **optional})


_DOMAINS: Final = nullable(each(_TEXT))
_LIMITS: Final[dict[str, Check]] = {
    "allowed_domains": _DOMAINS,
    "blocked_domains": _DOMAINS,
    "max_uses": nullable(whole(1)),
    "response_inclusion": one_of("full", "excluded"),
}
_LOCATION: Final = nullable(
    record(
        {"type": one_of("approximate")},
        dict.fromkeys(("city", "country", "region", "timezone"), nullable(_TEXT)),
    )
)
_FETCH: Final[dict[str, Check]] = {
    **_LIMITS,
    "citations": _CITATIONS_CONFIG,
    "max_content_tokens": nullable(whole(1)),
    "url_sources": nullable(mapping),
    "use_cache": boolean,
}
_EXAMPLES: Final[dict[str, Check]] = {"input_examples": each(mapping)}
_SCREEN: Final[dict[str, Check]] = {
    "display_width_px": whole(1),
    "display_height_px": whole(1),
    "display_number": nullable(whole(0)),
    "enable_zoom": boolean,
    **_EXAMPLES,
}
_TOOLS: Final[dict[str, Check]] = {
    "custom": _CUSTOM_TOOL,
    **{f"bash_{day}": _named_tool("bash", **_EXAMPLES) for day in ("20241022", "20250124")},
    **{f"text_editor_{day}": _named_tool("str_replace_editor", **_EXAMPLES) for day in ("20241022", "20250124")},
    "text_editor_20250429": _named_tool("str_replace_based_edit_tool", **_EXAMPLES),
    "text_editor_20250728": _named_tool("str_replace_based_edit_tool", max_characters=nullable(whole(1)), **_EXAMPLES),
    **{f"computer_{day}": _named_tool("computer", **_SCREEN) for day in ("20241022", "20250124", "20251124")},
    "memory_20250818": _named_tool("memory", **_EXAMPLES),
    **{
        f"code_execution_{day}": _named_tool("code_execution")
        for day in ("20250522", "20250825", "20260120", "20260521")
    },
    **{
        f"web_search_{day}": _named_tool("web_search", user_location=_LOCATION, **_LIMITS)
        for day in ("20250305", "20260209", "20260318")
    },
    **{
        f"web_fetch_{day}": _named_tool("web_fetch", **_FETCH)
        for day in ("20250910", "20260209", "20260309", "20260318")
    },
    **{
        f"tool_search_tool_{kind}{day}": _named_tool(f"tool_search_tool_{kind}")
        for kind in ("bm25", "regex")
        for day in ("", "_20251119")
    },
    "advisor_20260301": _named_tool(
        "advisor", model=_TEXT, caching=_CACHE, max_tokens=nullable(whole(1)), max_uses=nullable(whole(1))
    ),
    "browser_toolset_20260801": mapping,
    "computer_toolset_20260801": mapping,
    "mcp_toolset": record(
        {"type": anything, "mcp_server_name": _TEXT},
        {
            **_CACHEABLE,
            "configs": nullable(values(mapping)),
            "default_config": mapping,
            "tools": nullable(each(mapping)),
        },
    ),
}
_PARALLEL: Final[dict[str, Check]] = {"disable_parallel_tool_use": boolean}
_TOOL_CHOICE: Final = tagged(
    {
        "auto": record({"type": anything}, _PARALLEL),
        "any": record({"type": anything}, _PARALLEL),
        "tool": record({"type": anything, "name": _TEXT}, _PARALLEL),
        "none": record({"type": anything}),
    }
)
_THOUGHT: Final[dict[str, Check]] = {
    "display": nullable(one_of("summarized", "omitted", "updates")),
    "block_binding": nullable(mapping),
}
_THINKING: Final = tagged(
    {
        "enabled": record({"type": anything, "budget_tokens": whole(1024)}, _THOUGHT),
        "adaptive": record({"type": anything}, _THOUGHT),
        "between_tools": record({"type": anything}),
        "disabled": record({"type": anything}),
    }
)
_FORMAT: Final = nullable(tagged({"json_schema": record({"type": anything, "schema": mapping})}))
_MCP_SERVER: Final = record(
    {"type": one_of("url"), "url": _TEXT, "name": _TEXT},
    {"authorization_token": nullable(_TEXT), "tool_configuration": nullable(mapping)},
)
_COUNTED: Final[dict[str, Check]] = {
    "cache_control": _CACHE,
    "context_management": nullable(record({}, {"edits": each(mapping)})),
    "mcp_servers": each(_MCP_SERVER, longest=20),
    "output_config": record(
        {},
        {
            "effort": nullable(one_of("low", "medium", "high", "xhigh", "max")),
            "format": _FORMAT,
            "task_budget": nullable(mapping),
        },
    ),
    "output_format": _FORMAT,
    "speed": nullable(one_of("standard", "fast")),
    "system": text_or(each(tagged({"text": _TEXT_BLOCK}))),
    "thinking": _THINKING,
    "tool_choice": _TOOL_CHOICE,
    "tools": each(tagged(_TOOLS, default="custom")),
}
_ALWAYS: Final[dict[str, Check]] = {
    "model": string(shortest=1, longest=256),
    "messages": each(message, longest=100_000),
}
_GENERATED: Final[dict[str, Check]] = {
    "container": nullable(text_or(record({}, {"id": nullable(_TEXT), "skills": nullable(each(mapping))}))),
    "diagnostics": nullable(record({}, {"previous_message_id": nullable(_TEXT)})),
    "inference_geo": nullable(_TEXT),
    "metadata": record({}, {"user_id": nullable(string(longest=512))}),
    "service_tier": one_of("auto", "standard_only"),
    "stop_sequences": each(_TEXT),
    "stream": boolean,
    "temperature": number(0, 1),
    "top_k": whole(0),
    "top_p": number(0, 1),
    **{name: anything for name in ("billing_policy", "compaction", "fallback_credit_token", "fallbacks", "thread")},
}

# The bodies of POST /v1/messages and POST /v1/messages/count_tokens.
CREATE: Final = record({**_ALWAYS, "max_tokens": whole(0)}, {**_COUNTED, **_GENERATED})
COUNT: Final = record(_ALWAYS, _COUNTED)
CREATE_MEMBERS: Final = frozenset({*_ALWAYS, *_COUNTED, *_GENERATED, "max_tokens"})
COUNTED_MEMBERS: Final = frozenset({*_ALWAYS, *_COUNTED})
