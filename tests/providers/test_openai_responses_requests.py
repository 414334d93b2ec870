"""Requests for a Responses upstream: nothing of a client's request is lost, or it is called by name."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.parts import (
    AudioPart,
    CacheMark,
    FilePart,
    NativePart,
    Opaque,
    ReasoningPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    VideoPart,
)
from pointsman.canonical.request import (
    OPTIONS,
    Message,
    OutputFormat,
    ReasoningOptions,
    Request,
    Tool,
    ToolChoice,
)
from pointsman.dialects import openai_responses as dialect
from pointsman.errors import GatewayError, Kind
from pointsman.providers import openai_responses as provider
from responses_samples import CHOICES, SAMPLES, TOOLS

UPSTREAM = Upstream(model="gpt-6-sol")


def through(body: Any) -> tuple[Any, Fidelity]:
    """A client's body read and written again for an upstream of the same API, and what the ledger says."""
    fidelity = Fidelity()
    request = dialect.read_request(msgspec.json.encode(body), ClientCall())
    return json.loads(provider.build_request(request, UPSTREAM, fidelity).body), fidelity


def built(request: Request, **quirks: Any) -> tuple[Any, dict[str, str]]:
    """What an upstream is sent for another API's request, and the ledger by path."""
    fidelity = Fidelity()
    upstream = Upstream(model="gpt-6-sol", quirks=quirks)
    body = json.loads(provider.build_request(request, upstream, fidelity).body)
    return body, {note.path: note.action.value for note in fidelity.notes}


def foreign(*messages: Message, **options: Any) -> Request:
    """A request of a client that speaks Anthropic's API."""
    return Request(wire="anthropic", model="m", messages=list(messages), **options)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_api_gets_every_member_back(name: str) -> None:
    body, fidelity = through(SAMPLES[name])
    assert body == SAMPLES[name]
    assert not fidelity.notes


@pytest.mark.parametrize("choice", CHOICES)
def test_the_same_api_gets_every_choice_of_tools_back(choice: Any) -> None:
    body, _ = through({**TOOLS, "tool_choice": choice})
    assert body["tool_choice"] == choice


def test_plain_strings_are_messages() -> None:
    body, _ = through({"model": "m", "input": "hello", "instructions": None})
    assert body["input"] == [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
    said = [{"role": "assistant", "content": "before"}, {"role": "user", "content": "now"}]
    body, _ = through({"model": "m", "input": said})
    assert [item["content"][0]["type"] for item in body["input"]] == ["output_text", "input_text"]


def test_a_body_on_the_raw_lane_changes_in_its_model_only() -> None:
    body = b'{"input":"a","model":"alias",  "odd":{"x":[1.0,2e5]},"stream":true}'
    request = dialect.read_request(body, ClientCall())
    patched = provider.patch_request(body, request, Upstream(model="gpt-6"))
    assert patched.path == "/responses"
    assert patched.body == b'{"input":"a","model":"gpt-6","odd":{"x":[1.0,2e5]},"stream":true}'


def test_ids_that_the_gateway_made_are_not_sent() -> None:
    item = {"type": "function_call", "id": "fc_pmAbc", "call_id": "c", "name": "f", "arguments": "{}"}
    body, _ = through({"model": "m", "input": [item]})
    assert "id" not in body["input"][0]


def test_every_option_is_sent_or_named() -> None:
    request = foreign(
        Message(role="user", parts=[TextPart(text="x")]),
        stream=True,
        tool_choice=ToolChoice(mode="required"),
        parallel_tool_calls=True,
        max_tool_calls=2,
        output_format=OutputFormat(kind="json_schema", schema={"type": "object"}),
        reasoning=ReasoningOptions(max_tokens=9000),
        max_output_tokens=5,
        choices=2,
        stop=["x"],
        temperature=0.1,
        top_p=0.2,
        top_k=3,
        min_p=0.1,
        top_a=0.1,
        frequency_penalty=0.1,
        presence_penalty=0.1,
        repetition_penalty=1.1,
        seed=1,
        logit_bias={"1": 2.0},
        logprobs=True,
        top_logprobs=2,
        service_tier="standard_only",
        verbosity="low",
        user="u",
        safety_identifier="s",
        metadata={"a": {"b": 1}, "c": "x" * 600},
        store=True,
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        cache=CacheMark(),
        modalities=["text", "audio"],
        audio={"voice": "x"},
        prediction={"type": "content"},
        web_search={"user_location": {"type": "approximate", "approximate": {"city": "Bern"}}},
        betas=("b",),
        extra={"container": "c"},
    )
    body, ledger = built(request)
    sent = {
        "tool_choice", "parallel_tool_calls", "max_tool_calls", "temperature", "top_p", "top_logprobs", "user",
        "safety_identifier", "store", "prompt_cache_key", "prompt_cache_retention", "metadata", "max_output_tokens",
    }  # fmt: skip
    assert sent <= set(body)
    assert body["include"] == ["reasoning.encrypted_content", "message.output_text.logprobs"]
    assert body["text"] == {
        "format": {"type": "json_schema", "name": "response", "schema": {"type": "object"}},
        "verbosity": "low",
    }
    assert body["reasoning"] == {"effort": "medium", "summary": "auto"}
    assert body["max_output_tokens"] == 16
    assert body["tools"] == [{"type": "web_search", "user_location": {"type": "approximate", "city": "Bern"}}]
    assert body["metadata"] == {"a": '{"b":1}'}
    written_elsewhere = {"output_format", "reasoning", "verbosity", "logprobs"}
    missing = set(OPTIONS) - sent - written_elsewhere - set(ledger)
    assert not missing
    assert ledger["container"] == Action.DROPPED


def test_other_apis_clients_are_not_stored_unless_they_ask() -> None:
    body, ledger = built(foreign(Message(role="user", parts=[TextPart(text="x")])))
    assert body["store"] is False
    assert ledger == {"store": "synthesised"}
    assert "reasoning" not in body


def test_functions_of_other_apis_are_not_strict_by_accident() -> None:
    body, _ = built(foreign(tools=[Tool(kind="function", name="f")]))
    assert body["tools"] == [
        {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
    ]


def test_parts_of_other_apis_are_sent_or_named() -> None:
    path = "messages[0].content[{}]".format
    foreign_state = Opaque(origin="anthropic", kind="signature", data="sig")
    body, ledger = built(
        foreign(
            Message(
                role="user",
                parts=[
                    TextPart(text="a", path=path(0), cache=CacheMark("1h")),
                    FilePart(text="plain", title="T", path=path(1), context="c"),
                    AudioPart(source=Source(url="https://x"), path=path(2)),
                    VideoPart(source=Source(url="https://x"), path=path(3)),
                    NativePart(wire="anthropic", type="search_result", value={}, path=path(4)),
                ],
            ),
            Message(
                role="assistant",
                parts=[
                    ReasoningPart(text="hm", opaque=foreign_state, path=path(5)),
                    TextPart(text="said", path=path(6)),
                    ToolCallPart(id="toolu_1", name="f", arguments="{}", path=path(7), extra={"caller": 1}),
                ],
            ),
            Message(
                role="user",
                parts=[ToolResultPart(call_id="toolu_1", content=[TextPart(text="no")], is_error=True, path=path(8))],
            ),
        )
    )
    assert [item["type"] for item in body["input"]] == ["message", "message", "function_call", "function_call_output"]
    assert body["input"][0]["content"] == [
        {"type": "input_text", "text": "a"},
        {"type": "input_file", "file_data": "data:text/plain;base64,cGxhaW4=", "filename": "T"},
    ]
    assert ledger == {
        path(0) + ".cache_control": "dropped",
        path(1): "mapped",
        path(1) + ".title": "mapped",
        path(1) + ".context": "dropped",
        path(2): "dropped",
        path(3): "dropped",
        path(4): "dropped",
        path(5): "dropped",
        path(5) + ".signature": "dropped",
        path(7) + ".caller": "dropped",
        path(8) + ".is_error": "dropped",
        "store": "synthesised",
    }


def test_a_host_that_takes_readable_reasoning_gets_it() -> None:
    thought = Message(role="assistant", parts=[ReasoningPart(text="hm", path="p"), TextPart(text="so")])
    body, ledger = built(foreign(thought), reasoning_text=True, cache_breakpoints=True)
    assert body["input"][0] == {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    }
    assert "p" not in ledger


def test_cache_marks_become_breakpoints_where_the_model_takes_them() -> None:
    marked = TextPart(text="a", path="p", cache=CacheMark("1h"))
    body, ledger = built(foreign(Message(role="user", parts=[marked])), cache_breakpoints=True)
    mark = {"mode": "explicit", "ttl": "12h"}
    assert body["input"][0]["content"] == [{"type": "input_text", "text": "a", "prompt_cache_breakpoint": mark}]
    assert ledger["p.cache_control.ttl"] == "approximated"


def test_the_credential_goes_where_the_host_wants_it() -> None:
    assert provider.auth_headers("sk", UPSTREAM) == (("Authorization", "Bearer sk"),)
    azure = Upstream(model="m", quirks={"auth": "api-key"})
    assert provider.auth_headers("sk", azure) == (("api-key", "sk"),)
    named = Upstream(model="m", options={"organization": "org", "project": "p"})
    assert provider.auth_headers("sk", named)[1:] == (("OpenAI-Organization", "org"), ("OpenAI-Project", "p"))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": 3}, "input"),
        ({"model": "m", "input": [3]}, "input[0]"),
        ({"model": "m", "input": [{"role": "odd", "content": "x"}]}, "input[0].role"),
        ({"model": "m", "input": [{"role": "user"}]}, "input[0].content"),
        ({"model": "m", "input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"model": "m", "input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"model": "m", "input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"model": "m", "input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"model": "m", "input": "x", "tool_choice": "some"}, "tool_choice"),
        ({"model": "m", "input": "x", "text": {"format": {"type": "odd"}}}, "text.format.type"),
        ({"model": "m", "input": "x", "reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"model": "m", "input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"model": "m", "input": "x", "top_logprobs": 21}, "top_logprobs"),
    ],
)
def test_a_wrong_request_is_told_its_member(body: Any, param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        dialect.read_request(msgspec.json.encode(body), ClientCall())
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, param)


def read_or_refuse(body: bytes) -> Request | None:
    """The request, or None for one that is refused as the client's mistake; any other error comes through."""
    try:
        return dialect.read_request(body, ClientCall())
    except GatewayError as error:
        if error.kind is not Kind.INVALID_REQUEST:
            raise
        return None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["message", "reasoning", "m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def disturbed(draw: st.DrawFn) -> Any:
    """A sample with one value somewhere in it put in another's place."""
    body = json.loads(json.dumps(draw(st.sampled_from(list(SAMPLES.values())))))
    holder = body
    while True:
        key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
            holder[key] = draw(JSON)
            return body
        holder = inner


@settings(max_examples=300, deadline=None)
@given(disturbed())
def test_whatever_is_sent_is_read_or_refused(body: Any) -> None:
    request = read_or_refuse(msgspec.json.encode(body))
    if request is not None:
        provider.build_request(request, UPSTREAM, Fidelity())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=60).map(str.encode))
def test_whatever_bytes_are_sent_are_refused_as_ours(body: bytes) -> None:
    read_or_refuse(body)
