"""Anthropic's requests in our words: everything is read or carried, and goes out to Anthropic as it came."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthropic_passage import UPSTREAM, body_of
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.parts import (
    CacheMark,
    FilePart,
    ImagePart,
    NativePart,
    Opaque,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from pointsman.canonical.request import Request, ToolChoice
from pointsman.dialects import anthropic as dialect
from pointsman.errors import GatewayError, Kind
from pointsman.providers import anthropic as provider

LONG: Any = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SHORT: Any = {"cache_control": {"type": "ephemeral"}}
TEXT: Any = {"type": "text", "text": "Hi"}
CITATION: Any = {
    "type": "char_location",
    "cited_text": "c",
    "document_index": 0,
    "document_title": "T",
    "start_char_index": 0,
    "end_char_index": 1,
}
DOCUMENTS: Any = [
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}, **LONG},
    {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "Text."},
        "title": "T",
        "context": "C",
        "citations": {"enabled": True},
    },
    {"type": "document", "source": {"type": "content", "content": [TEXT, {"type": "text", "text": "there"}]}},
    {"type": "document", "source": {"type": "content", "content": "whole"}, "citations": {"enabled": False}},
    {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}},
    {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
]
IMAGES: Any = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
    {
        "type": "image",
        "source": {"type": "url", "url": "https://x/y.png"},
        "transformations": {"oversized_image": "error"},
    },
    {"type": "image", "source": {"type": "file", "file_id": "file_2"}, **SHORT},
]
FOUND: Any = {
    "type": "search_result",
    "source": "https://s",
    "title": "S",
    "content": [TEXT],
    "citations": {"enabled": True},
}
SERVED: Any = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [], **SHORT},
    {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "n", "server_name": "s", "input": {}},
    {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": [TEXT]},
    {"type": "container_upload", "file_id": "file_3"},
    {"type": "compaction", "content": "shorter"},
    {"type": "not_yet_invented", "x": [1, {"y": None}]},
]
TURNS: Any = [
    {"role": "user", "content": "Hello"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZGF0YQ=="},
            {"type": "text", "text": "Look:", "citations": [CITATION]},
            *SERVED,
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "look",
                "input": {"at": [1.5, None, "é"]},
                "caller": {"type": "direct"},
                **SHORT,
            },
            {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen", "is_error": False, **SHORT},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_2",
                "is_error": True,
                "content": [TEXT, IMAGES[0], DOCUMENTS[1], FOUND, {"type": "tool_reference", "tool_name": "look"}],
            },
            *DOCUMENTS,
            *IMAGES,
            FOUND,
            {**TEXT, **LONG},
        ],
    },
    {"role": "system", "content": "From now on, be brief.", "clear_at": "never"},
    {"role": "assistant", "content": "Well"},
]
TOOLS: Any = [
    {
        "name": "look",
        "description": "Looks.",
        "input_schema": {"type": "object", "properties": {"at": {"type": "array"}}},
        "strict": True,
        "defer_loading": False,
        "input_examples": [{"at": []}],
        "allowed_callers": ["direct"],
        **LONG,
    },
    {"type": "custom", "name": "bare", "input_schema": {"type": "object"}, "strict": False},
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 3, **SHORT},
    {"type": "mcp_toolset", "mcp_server_name": "s"},
]
WHOLE: Any = {
    "model": "sim-model",
    "max_tokens": 4000,
    "system": [{"type": "text", "text": "Be kind.", **LONG}, {"type": "text", "text": "Be brief."}],
    "messages": TURNS,
    "tools": TOOLS,
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "summarized", "block_binding": {"x": 1}},
    "output_config": {
        "effort": "xhigh",
        "format": {"type": "json_schema", "schema": {"type": "object", "properties": {"n": {"minimum": 1}}}},
        "task_budget": {"type": "tokens", "total": 9},
    },
    "stop_sequences": ["END", " "],
    "temperature": 1,
    "top_p": 0.95,
    "top_k": 5,
    "metadata": {"user_id": "u", "later": 1},
    "service_tier": "standard_only",
    "stream": True,
    "cache_control": {"type": "ephemeral", "ttl": "5m"},
    "container": {"id": "c", "skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}]},
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 3}}]},
    "mcp_servers": [{"type": "url", "url": "https://mcp", "name": "s", "authorization_token": "t"}],
    "inference_geo": "eu",
    "speed": "fast",
    "diagnostics": {"previous_message_id": "msg_0"},
    "fallbacks": [{"model": "other"}],
}


def read(body: Any, **headers: str) -> Request:
    call = ClientCall(headers={name.replace("_", "-").encode(): value.encode() for name, value in headers.items()})
    return dialect.read_request(json.dumps(body).encode(), call)


def sent(body: Any) -> tuple[dict[str, Any], Fidelity]:
    fidelity = Fidelity()
    built = provider.build_request(read(body), UPSTREAM, fidelity)
    return body_of(built), fidelity


def plain(value: Any) -> Any:
    """A request in one of the spellings that mean the same."""
    value = msgspec.json.decode(msgspec.json.encode(value))
    for tool in value.get("tools", ()):
        if tool.get("type") == "custom":
            del tool["type"]
    for message in value["messages"]:
        message["content"] = texts(message["content"])
        for block in message["content"]:
            if block["type"] == "tool_result" and "content" in block:
                block["content"] = texts(block["content"])
    if "system" in value:
        value["system"] = texts(value["system"])
    return value


def texts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def test_a_request_with_everything_goes_out_as_it_came_in() -> None:
    body, fidelity = sent(WHOLE)
    assert plain(body) == plain(WHOLE)
    assert fidelity.notes == []


@pytest.mark.parametrize(
    "members",
    [
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
        {"thinking": {"type": "adaptive"}},
        {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "low"}},
        {"thinking": {"type": "adaptive", "display": "updates"}},
        {"thinking": {"type": "between_tools"}},
        {"output_config": {"effort": "max"}},
        {"output_config": {"task_budget": {"type": "tokens", "total": 1}}},
        {"tool_choice": {"type": "any"}, "tools": TOOLS},
        {"tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": False}, "tools": TOOLS},
        {"tool_choice": {"type": "none"}, "tools": TOOLS},
        {"service_tier": "auto"},
        {"system": "Be kind."},
        {"max_tokens": 0},
        {"stream": False, "cache_control": {"type": "ephemeral", "scope": "global"}},
        {"thinking": {"type": "enabled", "budget_tokens": 100_000}, "tool_choice": {"type": "any"}, "tools": TOOLS},
    ],
)
def test_every_form_of_an_option_goes_out_as_it_came_in(members: dict[str, Any]) -> None:
    whole = {"model": "sim-model", "max_tokens": 100, "messages": [{"role": "user", "content": "x"}], **members}
    body, fidelity = sent(whole)
    if whole.get("stream") is False:
        del whole["stream"]
    assert plain(body) == plain(whole)
    assert fidelity.notes == []


BLOCKS = st.sampled_from([*TURNS[1]["content"], *DOCUMENTS, *IMAGES, FOUND, TEXT])
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": st.lists(BLOCKS, min_size=1, max_size=4)}),
    min_size=1,
    max_size=1,
)
OPTIONAL = {
    name: st.just(value) for name, value in WHOLE.items() if name not in ("model", "messages", "stream", "max_tokens")
}
REQUESTS = st.fixed_dictionaries(
    {"model": st.just("sim-model"), "messages": MESSAGES, "max_tokens": st.just(100)}, optional=OPTIONAL
)


@settings(max_examples=150, deadline=None)
@given(REQUESTS)
def test_same_dialect_round_trips_keep_every_field(whole: dict[str, Any]) -> None:
    if "tools" not in whole:
        whole.pop("tool_choice", None)
    body, fidelity = sent(whole)
    assert plain(body) == plain(whole)
    assert fidelity.notes == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "content", "role", "source", "id", "name", "ttl", "enabled"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), JSON, st.booleans())
def test_parsers_raise_only_errors_of_ours(name: str, value: Any, counting: bool) -> None:
    body = json.dumps({**WHOLE, name: value}).encode()
    with contextlib.suppress(GatewayError):
        request = (dialect.read_count_request if counting else dialect.read_request)(body, ClientCall())
        provider.build_request(request, UPSTREAM, Fidelity())


def test_parts_are_our_words_with_the_clients_paths() -> None:
    request = read(WHOLE, anthropic_beta="a-2025-01-01, b-2025-01-01")
    assert [message.role for message in request.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "system",
        "assistant",
    ]
    thinking, redacted, text, *rest = request.messages[2].parts
    assert isinstance(thinking, ReasoningPart)
    assert thinking.opaque == Opaque(origin="anthropic", kind="signature", data="c2ln")
    assert isinstance(redacted, ReasoningPart)
    assert redacted.opaque == Opaque(origin="anthropic", kind="redacted", data="ZGF0YQ==")
    assert isinstance(text, TextPart)
    assert text.path == "messages[1].content[2]"
    assert [type(part) for part in rest] == [NativePart] * 7 + [ToolCallPart] * 2
    call = rest[7]
    assert isinstance(call, ToolCallPart)
    assert (call.arguments, call.cache) == ('{"at":[1.5,null,"é"]}', CacheMark())
    results = request.messages[3].parts[:2]
    assert [(part.name, part.is_error) for part in results if isinstance(part, ToolResultPart)] == [
        ("look", False),
        ("look", True),
    ]
    documents = [part for part in request.messages[3].parts if isinstance(part, FilePart)]
    assert documents[2].text == "Hi\nthere"
    assert documents[-1].title == "S"
    assert sum(isinstance(part, ImagePart) for part in request.messages[3].parts) == 3
    assert request.betas == ("a-2025-01-01", "b-2025-01-01")
    assert request.tool_choice == ToolChoice(mode="auto")
    assert request.parallel_tool_calls is False
    assert (request.service_tier, request.user, request.stop) == ("default", "u", ["END", " "])
    assert request.path("max_output_tokens") == "max_tokens"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": None}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        (
            {"messages": [{"role": "user", "content": [{**TEXT, "cache_control": {"ttl": "2h"}}]}]},
            "messages[0].content[0].cache_control.ttl",
        ),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"stop_sequences": "x"}, "stop_sequences"),
    ],
)
def test_a_wrong_field_is_named(members: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        read({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], **members})
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, param)


def test_tokens_are_counted_for_the_prompt_alone() -> None:
    body = {name: WHOLE[name] for name in ("model", "system", "messages", "tools", "tool_choice", "thinking")}
    request = dialect.read_count_request(json.dumps(body).encode(), ClientCall())
    built = provider.build_count_request(request, UPSTREAM, Fidelity())
    assert built.path == "/v1/messages/count_tokens"
    assert plain(body_of(built)) == plain(body)


def test_the_raw_lane_changes_the_model_and_nothing_else() -> None:
    body = b'{ "max_tokens": 5,\n "model" : "mine", "messages": [ {"role":"user","content":"\\u00e9"} ], "x": 1.00 }'
    request = dialect.read_request(body, ClientCall(headers={b"anthropic-beta": b"x-2025-01-01"}))
    built = provider.patch_request(body, request, UPSTREAM)
    assert (
        built.body
        == b'{"max_tokens":5,"model":"sim-model","messages":[ {"role":"user","content":"\\u00e9"} ],"x":1.00}'
    )
    assert ("anthropic-beta", "x-2025-01-01") in built.headers
    request.model = "sim-model"
    assert provider.patch_request(built.body, request, UPSTREAM).body == built.body
