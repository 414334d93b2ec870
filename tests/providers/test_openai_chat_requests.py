"""Requests of Chat Completions clients, read into our own words and written for hosts of the table."""

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.providers.chat_halves import read, upstream

from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.parts import Opaque, ReasoningPart, ToolCallPart, ToolResultPart
from pointsman.canonical.request import Message, ReasoningOptions, Request
from pointsman.dialects import openai_chat as dialect
from pointsman.errors import GatewayError, Kind
from pointsman.providers import openai_chat as provider
from pointsman.providers.hosts import hosts

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}
MARK = {"type": "ephemeral", "ttl": "1h"}
NOTES: dict[str, Any] = {
    "type": "custom",
    "custom": {
        "name": "notes",
        "description": "takes notes",
        "format": {"type": "grammar", "grammar": {"syntax": "lark"}},
    },
}
FULL: dict[str, Any] = {
    "model": "client-model",
    "messages": [
        {"role": "developer", "content": "be brief", "name": "boss"},
        {"role": "system", "content": [{"type": "text", "text": "be kind", "cache_control": MARK}]},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "look", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,CCCC"}},
                {"type": "file", "file": {"file_id": "file-77"}},
                {"type": "video_url", "video_url": {"url": "https://example.com/v.mp4", "fps": 3}},
                {"type": "novel", "novel": {"a": 99}},
            ],
        },
        {
            "role": "assistant",
            "content": "calling",
            "refusal": "not that",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city" : "Bern"}'}},
                {"id": "call_2", "type": "custom", "custom": {"name": "notes", "input": "free text"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
        {"role": "tool", "tool_call_id": "call_2", "content": "noted"},
        {"role": "assistant", "audio": {"id": "audio_9"}},
        {"role": "user", "content": "and now?", "unheard_of": 41},
    ],
    "tools": [WEATHER, NOTES, {"type": "web_search", "depth": 17}],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [
                {"type": "function", "function": {"name": "weather"}},
                {"type": "custom", "custom": {"name": "notes"}},
            ],
        },
    },
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "shape", "description": "its shape", "strict": True, "schema": {"title": "S"}},
    },
    "reasoning_effort": "high",
    "max_completion_tokens": 321,
    "n": 2,
    "stop": ["END", "FIN"],
    "temperature": 0.25,
    "top_p": 0.75,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "seed": 1234567,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 4,
    "service_tier": "flex",
    "verbosity": "low",
    "user": "user-5",
    "safety_identifier": "safe-6",
    "metadata": {"team": "red"},
    "store": False,
    "prompt_cache_key": "cache-8",
    "prompt_cache_retention": "24h",
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "pcm16"},
    "prediction": {"type": "content", "content": "predicted words"},
    "web_search_options": {"search_context_size": "medium"},
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "novelty": {"deep": [55, 66]},
}  # fmt: skip


def built(client: dict[str, Any], kind: str = "openai") -> tuple[dict[str, Any], Fidelity]:
    fidelity = Fidelity()
    out = provider.build_request(read(client), upstream(kind), fidelity)
    body: dict[str, Any] = json.loads(out.body)
    return body, fidelity


def plain(**options: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **options}


def test_everything_that_openai_knows_comes_out_as_it_went_in() -> None:
    client = copy.deepcopy(FULL)
    del client["messages"][1]["content"][0]["cache_control"]
    body, fidelity = built(client)
    client["model"] = "upstream-model"
    client["messages"][1]["content"] = "be kind"
    client["messages"][4]["content"] = "sunny"
    client["messages"][6]["content"] = None
    assert body == client
    assert not fidelity.notes


def test_drops_are_named_as_the_client_named_them() -> None:
    _, fidelity = built(plain(top_k=3, n=2, logprobs=True), "groq")
    dropped = {note.path for note in fidelity.notes if note.action is Action.DROPPED}
    assert dropped == {"top_k", "n", "logprobs"}


@pytest.mark.parametrize(
    ("choice", "openai", "mistral"),
    [
        ("auto", "auto", "auto"),
        ("none", "none", "none"),
        ("required", "required", "any"),
        ("any", "required", "any"),
        (
            {"type": "function", "function": {"name": "weather"}},
            {"type": "function", "function": {"name": "weather"}},
            {"type": "function", "function": {"name": "weather"}},
        ),
        (
            {"type": "custom", "custom": {"name": "notes"}},
            {"type": "custom", "custom": {"name": "notes"}},
            {"type": "function", "function": {"name": "notes"}},
        ),
    ],
)
def test_tool_choice_in_all_forms(choice: Any, openai: Any, mistral: Any) -> None:
    asked = plain(tools=[WEATHER, NOTES], tool_choice=choice)
    assert built(asked)[0]["tool_choice"] == openai
    assert built(asked, "mistral")[0]["tool_choice"] == mistral


def test_calls_at_once_are_no_option_where_no_tool_is_left() -> None:
    body, fidelity = built(
        plain(
            tools=[WEATHER],
            parallel_tool_calls=False,
            tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        ),
        "groq",
    )
    assert not {"tools", "parallel_tool_calls"} & body.keys()
    assert Action.DROPPED in {note.action for note in fidelity.notes if note.path == "parallel_tool_calls"}


def test_allowed_tools_without_a_list_are_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        read(plain(tools=[WEATHER], tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}))
    assert caught.value.param == "tool_choice.allowed_tools.tools"


def test_allowed_tools_are_the_only_ones_where_a_host_has_no_such_choice() -> None:
    asked = plain(tools=[WEATHER, NOTES], tool_choice=copy.deepcopy(FULL["tool_choice"]))
    asked["tool_choice"]["allowed_tools"]["tools"][1:] = []
    body, fidelity = built(asked, "groq")
    assert [tool["function"]["name"] for tool in body["tools"]] == ["weather"]
    assert body["tool_choice"] == "required"
    assert fidelity.notes[0].path == "tool_choice"


@pytest.mark.parametrize(
    ("kind", "asked", "sent"),
    [
        ("openai", {"reasoning_effort": "minimal"}, {"reasoning_effort": "minimal"}),
        ("openai", {"reasoning": {"max_tokens": 24_000}}, {"reasoning_effort": "high"}),
        ("openai", {"reasoning": {"enabled": True}}, {"reasoning_effort": "medium"}),
        ("openai", {"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
        ("openai", {"include_reasoning": False}, {}),
        ("openrouter", {"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        (
            "openrouter",
            {"reasoning": {"max_tokens": 2000, "exclude": True, "context": "all_turns"}},
            {"reasoning": {"max_tokens": 2000, "exclude": True, "context": "all_turns"}},
        ),
        ("deepseek", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ("deepseek", {"reasoning_effort": "max"}, {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
        ("alibaba", {"reasoning_effort": "low"}, {"enable_thinking": True, "thinking_budget": 4096}),
        ("mistral", {"reasoning_effort": "low"}, {"prompt_mode": "reasoning"}),
    ],
)
def test_reasoning_in_each_hosts_words(kind: str, asked: dict[str, Any], sent: dict[str, Any]) -> None:
    body, _ = built(plain(**asked), kind)
    names = ("reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget", "prompt_mode")
    assert {name: body[name] for name in names if name in body} == sent


def test_deepseek_gets_the_reasoning_of_tool_turns_back_and_an_empty_one_where_there_is_none() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}
    told = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]}
    silent = {"role": "assistant", "content": None, "tool_calls": [call]}
    client = plain(tools=[WEATHER])
    client["messages"] += [told, result, silent, result]
    body, fidelity = built(client, "deepseek")
    assert [message.get("reasoning_content") for message in body["messages"]] == [None, "hm", None, "", None]
    assert [note.action for note in fidelity.notes] == [Action.SYNTHESISED]
    assert "reasoning_content" not in built(client)[0]["messages"][1]


def test_openrouters_details_come_back_as_they_were() -> None:
    details = [
        {
            "type": "reasoning.text",
            "text": "a",
            "signature": "s1",
            "format": "anthropic-claude-v1",
            "id": None,
            "index": 0,
        },
        {"type": "reasoning.encrypted", "data": "d1", "format": "anthropic-claude-v1", "id": None, "index": 1},
        {"type": "reasoning.summary", "summary": "b", "format": "openai-responses-v1", "id": "rs_1", "index": 2},
        {"type": "reasoning.encrypted", "data": "d2", "format": "openai-responses-v1", "id": "rs_1", "index": 3},
    ]
    client = plain()
    client["messages"] += [{"role": "assistant", "content": "x", "reasoning_details": details}, client["messages"][0]]
    request = read(client)
    thoughts = [part for part in request.messages[1].parts if isinstance(part, ReasoningPart)]
    assert [(part.opaque.origin, part.opaque.kind) for part in thoughts if part.opaque is not None] == [
        ("anthropic", "signature"),
        ("anthropic", "redacted"),
        ("openai.responses", "encrypted"),
    ]
    assert built(client, "openrouter")[0]["messages"][1]["reasoning_details"] == details
    _, fidelity = built(client, "vllm")
    assert {note.action for note in fidelity.notes} == {Action.DROPPED}


def test_googles_signature_of_a_call_is_read_and_goes_back_to_google_alone() -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "sig"}},
    }
    client = plain(tools=[WEATHER])
    client["messages"] += [{"role": "assistant", "tool_calls": [call]}]
    part = read(client).messages[1].parts[0]
    assert part.opaque == Opaque(origin="gemini", kind="thought_signature", data="sig")
    assert built(client, "gemini-openai")[0]["messages"][1]["tool_calls"] == [call]
    body, fidelity = built(client)
    assert "extra_content" not in body["messages"][1]["tool_calls"][0]
    assert fidelity.notes[0].path == "messages[1].tool_calls[0].thought_signature"


def test_mistral_gets_ids_of_nine_characters_for_calls_and_results_alike() -> None:
    client = plain(tools=[WEATHER], seed=5)
    call = {"id": "call_abcdefghijklmno", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    client["messages"] += [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "sunny"},
    ]
    body, _ = built(client, "mistral")
    identifier = body["messages"][1]["tool_calls"][0]["id"]
    assert len(identifier) == 9
    assert body["messages"][2]["tool_call_id"] == identifier
    assert (body["random_seed"], body.get("seed")) == (5, None)


def test_cache_marks_go_where_they_are_read_and_are_named_elsewhere() -> None:
    mark = {"type": "ephemeral"}
    client = plain(tools=[{**WEATHER, "cache_control": mark}])
    client["messages"].insert(0, {"role": "system", "content": "long", "cache_control": mark})
    body, fidelity = built(client, "openrouter")
    assert body["messages"][0]["content"] == [{"type": "text", "text": "long", "cache_control": mark}]
    assert body["tools"][0]["cache_control"] == mark
    assert not fidelity.notes
    _, fidelity = built(client)
    assert {note.path for note in fidelity.notes} == {"messages[0].content.cache_control", "tools[0].cache_control"}


def test_legacy_functions_are_tools() -> None:
    client = plain(functions=[WEATHER["function"]], function_call={"name": "weather"})
    client["messages"] += [
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "sunny"},
    ]
    body, _ = built(client)
    assert body["tools"] == [WEATHER]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["messages"][2]["tool_call_id"] == body["messages"][1]["tool_calls"][0]["id"]


def test_results_that_follow_one_another_are_one_message_in_our_words() -> None:
    request = read(FULL)
    results = request.messages[4]
    assert [part.call_id for part in results.parts if isinstance(part, ToolResultPart)] == ["call_1", "call_2"]
    assert [part.name for part in results.parts if isinstance(part, ToolResultPart)] == ["weather", "notes"]


def test_what_other_apis_say_is_named_when_it_has_no_place() -> None:
    call = ToolCallPart(
        id="c1", name="f", namespace="ns", path="p1", opaque=Opaque(origin="gemini", kind="thought_signature", data="x")
    )
    result = ToolResultPart(call_id="c1", content=[], is_error=True, path="p2")
    thought = ReasoningPart(text="hm", path="p3", opaque=Opaque(origin="anthropic", kind="signature", data="s"))
    request = Request(
        wire="anthropic",
        model="m",
        messages=[Message(role="assistant", parts=[thought, call]), Message(role="user", parts=[result])],
        reasoning=ReasoningOptions(adaptive=True, enabled=True),
        betas=("a",),
        extra={"container": 1},
    )
    fidelity = Fidelity()
    body = json.loads(provider.build_request(request, upstream("vllm"), fidelity).body)
    assert body["messages"][0]["reasoning_content"] == "hm"
    dropped = {note.path for note in fidelity.notes if note.action is Action.DROPPED}
    assert dropped == {
        "p1.thought_signature",
        "p2.is_error",
        "p3.signature",
        "anthropic-beta",
        "container",
    }


def test_an_answer_that_was_begun_is_marked_as_the_host_wants_it() -> None:
    client = plain()
    client["messages"].append({"role": "assistant", "content": "Dear"})
    assert built(client, "deepseek")[0]["messages"][1]["prefix"] is True
    assert built(client, "moonshot")[0]["messages"][1]["partial"] is True
    assert built(client, "vllm")[0]["messages"][1] == {"role": "assistant", "content": "Dear"}
    assert built(client)[1].notes[0].action is Action.APPROXIMATED


def test_azures_deployment_and_key_stand_where_azure_has_them() -> None:
    azure = Upstream(model="my gpt", quirks=hosts()["azure"].quirk_map(), options={"api_version": "2025-04-01-preview"})
    out = provider.build_request(read(plain()), azure, Fidelity())
    assert out.path == "/openai/deployments/my%20gpt/chat/completions?api-version=2025-04-01-preview"
    assert provider.auth_headers("k", azure) == (("api-key", "k"),)
    assert provider.auth_headers("k", upstream("groq")) == (("authorization", "Bearer k"),)


def test_a_patched_body_has_another_model_and_is_else_the_clients() -> None:
    body = b'{"messages" : [ {"role":"user","content":"\\u00e9"} ],"model":"a","x":1.50}'
    out = provider.patch_request(body, read(plain()), upstream("groq", "b"))
    assert out.body == b'{"messages":[ {"role":"user","content":"\\u00e9"} ],"model":"b","x":1.50}'


def test_what_a_host_lacks_is_told() -> None:
    assert provider.lacks(upstream("openai")) == {"file_url"}
    assert provider.lacks(upstream("deepseek")) == {"json_schema", "file_url"}
    assert provider.lacks(upstream("perplexity")) == {"choices", "tools", "file_url"}
    assert provider.lacks(upstream("openrouter")) == frozenset()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 5}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"n": 0}, "n"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "reasoning_effort"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_a_mistake_is_named_by_the_clients_own_field(change: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        read(plain() | change)
    assert (refused.value.kind, refused.value.param) == (Kind.INVALID_REQUEST, param)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "type",
                    "text",
                    "function",
                    "name",
                    "id",
                    "tool_calls",
                    "image_url",
                    "url",
                    "reasoning",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(messages=JSON, options=st.dictionaries(st.sampled_from(sorted(FULL)), JSON, max_size=5))
@example(messages=5, options={})
def test_whatever_comes_is_read_and_built_or_refused_by_name(messages: Any, options: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", **options, "messages": messages}).encode()
    try:
        request = dialect.read_request(body, ClientCall())
    except GatewayError:
        return
    provider.build_request(request, upstream("deepseek"), Fidelity())


def test_only_hosts_that_are_known_to_depart_have_requests_written_anew() -> None:
    for kind in ("openai", "azure", "openai-compatible", "vllm", "together", "openrouter"):
        assert provider.departures(upstream(kind)) == frozenset()
    assert provider.departures(upstream("deepseek")) == {"tools", "response_format", "max_completion_tokens"}
    assert {"seed", "tool_choice", "tools", "user", "stream_options"} <= provider.departures(upstream("mistral"))


@settings(max_examples=60, deadline=None)
@given(keys=st.sets(st.sampled_from(sorted(set(FULL) - {"model", "stream_options"}))))
def test_what_was_built_reads_as_what_was_read(keys: set[str]) -> None:
    if keys & {"tool_choice", "parallel_tool_calls"}:
        keys = keys | {"tools"}  # without tools they mean nothing, and are dropped by name
    first = read(plain(**{key: FULL[key] for key in keys}))
    quirks = upstream("openai").quirks | {"cache_marks": True, "reasoning_history": "allowed"}
    out = provider.build_request(first, Upstream(model="m", quirks=quirks), Fidelity())
    second = dialect.read_request(out.body, ClientCall())
    for message in (*first.messages, *second.messages):
        for part in message.parts:
            part.path = ""  # one text may stand alone or in a list
            if isinstance(part, ToolResultPart):
                for inner in part.content:
                    inner.path = ""
    first.include_usage, first.paths["max_output_tokens"] = second.include_usage, "max_completion_tokens"
    second.paths["max_output_tokens"] = "max_completion_tokens"
    first.model = second.model
    assert second == first
