"""What goes to Bedrock, and what comes back: nothing is lost without a word, and bytes may be cut anywhere."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.joined_halves import IDENTITY, JSON, KEY, parsed, unhurried
from tests.ollama_fixtures import PIXEL, SCHEMA

from pointsman.canonical.collect import collect
from pointsman.canonical.events import Ended, Failed, Started, UsageReported
from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import Upstream
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    CacheMark,
    Citation,
    FilePart,
    ImagePart,
    NativePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
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
from pointsman.canonical.response import FinishReason
from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.framing.aws_event_stream import encode_message
from pointsman.providers import bedrock as provider
from pointsman.testing import Bedrock, Behaviour
from pointsman.testing.reply import Request as HttpRequest

CLAUDE = Upstream(model="us.anthropic.claude-sonnet-v1:0")
OTHER = Upstream(model="acme.large")
SET: dict[str, Any] = {
    "tool_choice": ToolChoice(mode="required"),
    "output_format": OutputFormat(kind="grammar", value={"x": 1}),
    "reasoning": ReasoningOptions(effort="high"),
    "stop": ["x"],
    "logit_bias": {"1": 1.0},
    "logprobs": True,
    "parallel_tool_calls": False,
    "store": True,
    "metadata": {"a": 1},
    "cache": CacheMark(),
    "modalities": ["audio"],
    "audio": {"voice": "x"},
    "prediction": {"x": 1},
    "web_search": {},
    "betas": ("x",),
}
TOOL: Any = {"toolSpec": {"name": "f", "inputSchema": {"json": SCHEMA}}}
THINKING: Any = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


def asked(**members: Any) -> Request:
    messages = [Message(role="user", parts=[TextPart(text="hi", path="messages[0]")], path="messages[0]")]
    return Request(**{"wire": "openai.chat", "model": "m", "messages": messages, **members})


def said(*parts: AnyPart, role: Any = "user") -> Request:
    return asked(messages=[Message(role=role, parts=list(parts), path="messages[0]")])


def build(request: Request, fidelity: Fidelity | None = None, upstream: Upstream = CLAUDE) -> Any:
    built = provider.build_request(request, upstream, Fidelity() if fidelity is None else fidelity)
    return json.loads(built.body)


def answer(body: Any, operation: str = "converse", **behaviour: Any) -> Any:
    request = HttpRequest(
        method="POST",
        path=f"/model/m/{operation}",
        headers=(),
        body=json.dumps(body).encode(),
        http_version="1.1",
        keep_alive=True,
    )
    reply = Bedrock().answer(request, Behaviour(**behaviour))
    assert reply.status == 200, reply.body
    return reply


def ask(text: str, **members: Any) -> Any:
    return {"messages": [{"role": "user", "content": [{"text": text}]}], **members}


def event(name: str, members: Any, kind: str = "event") -> bytes:
    return encode_message({f":{kind}-type": name, ":message-type": kind}, json.dumps(members).encode())


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("upstream", [CLAUDE, OTHER])
def test_every_option_is_sent_or_told(option: str, upstream: Upstream) -> None:
    fidelity = Fidelity()
    value = SET.get(option, "x" if "str" in str(Request.__annotations__[option]) else 2)
    sent = build(asked(**{option: value}), fidelity, upstream)
    assert sent != build(asked(), upstream=upstream) or fidelity.counts, option


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(source=Source(url="https://example.org/a.png"), path="p"),
        ImagePart(source=Source(data=PIXEL, media_type="image/png"), detail="high", path="p"),
        ImagePart(source=Source(data=PIXEL, media_type="image/bmp"), path="p"),
        FilePart(source=Source(file_id="file_1"), path="p"),
        AudioPart(source=Source(data="AAAA"), format="amr", path="p"),
        VideoPart(source=Source(data="AAAA", media_type="video/odd"), path="p"),
        NativePart(wire="gemini", type="x", value={}, path="p"),
        TextPart(text="x", extra={"k": 1}, path="p"),
        TextPart(text="x", citations=[Citation(url="https://example.org")], path="p"),
        ReasoningPart(text="x", path="p"),
    ],
)
def test_what_bedrock_cannot_take_is_told_at_its_place(part: AnyPart) -> None:
    fidelity = Fidelity()
    build(said(part), fidelity)
    assert {note.action for note in fidelity.notes} == {Action.DROPPED}
    assert all(note.path.startswith("p") for note in fidelity.notes)


def test_a_conversation_of_another_api_becomes_bedrocks() -> None:
    request = asked(
        tools=[
            Tool(kind="function", name="f", description="d", parameters=SCHEMA, strict=True, cache=CacheMark(ttl="1h"))
        ],
        messages=[
            Message(role="system", parts=[TextPart(text="a", cache=CacheMark())]),
            Message(role="user", parts=[TextPart(text="look")]),
            Message(
                role="user",
                parts=[
                    ImagePart(source=Source(data=PIXEL, media_type="image/png")),
                    FilePart(source=Source(data="AAAA", media_type="application/pdf"), filename="a_b.pdf", context="c"),
                    VideoPart(source=Source(url="s3://bucket/film", media_type="video/mp4")),
                    AudioPart(source=Source(data="AAAA"), format="wav"),
                ],
            ),
            Message(
                role="assistant",
                parts=[
                    ReasoningPart(text="t", opaque=Opaque(origin="bedrock", kind="signature", data="s")),
                    ReasoningPart(opaque=Opaque(origin="bedrock", kind="redacted", data="AAAA")),
                    TextPart(text="ok"),
                    ToolCallPart(id="c1", name="f", arguments='{"answer": "x"}'),
                    ToolCallPart(id="bad id!", name="f", arguments=""),
                ],
            ),
            Message(
                role="user",
                parts=[
                    ToolResultPart(call_id="c1", content=[TextPart(text="r")], is_error=True),
                    ToolResultPart(call_id="bad id!", content=[ImagePart(source=Source(data=PIXEL))], is_error=False),
                    TextPart(text="go on"),
                ],
            ),
            Message(role="developer", parts=[TextPart(text="late")], path="messages[5]"),
        ],
    )
    fidelity = Fidelity()
    sent = build(request, fidelity)
    assert sent["system"] == [{"text": "a"}, {"cachePoint": {"type": "default"}}]
    spec = {"name": "f", "inputSchema": {"json": SCHEMA}, "description": "d", "strict": True}
    assert sent["toolConfig"] == {"tools": [{"toolSpec": spec}, {"cachePoint": {"type": "default", "ttl": "1h"}}]}
    user, assistant, results = sent["messages"]
    assert [next(iter(block)) for block in user["content"]] == ["text", "image", "document", "video", "audio"]
    document = user["content"][2]["document"]
    assert document == {"name": "a b pdf", "source": {"bytes": "AAAA"}, "format": "pdf", "context": "c"}
    assert user["content"][3]["video"]["source"] == {"s3Location": {"uri": "s3://bucket/film"}}
    assert assistant["content"][:2] == [
        {"reasoningContent": {"reasoningText": {"text": "t", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": "AAAA"}},
    ]
    ids = [block["toolUse"]["toolUseId"] for block in assistant["content"][3:]]
    assert [block["toolResult"]["toolUseId"] for block in results["content"][:2]] == ids
    assert ids[0] == "c1"
    assert [block["toolResult"]["status"] for block in results["content"][:2]] == ["error", "success"]
    assert results["content"][-1] == {"text": "<system>\nlate\n</system>"}
    assert fidelity.counts == {Action.MAPPED: 1, Action.SYNTHESISED: 1, Action.APPROXIMATED: 1}


def test_bedrock_takes_what_is_built() -> None:
    first = provider.parse_response(
        answer(ask("call the tool", toolConfig={"tools": [TOOL]}, additionalModelRequestFields=THINKING)).body, IDENTITY
    )
    parts = first.choices[0].parts
    call = parts[1]
    assert isinstance(call, ToolCallPart)
    messages = [
        Message(role="user", parts=[TextPart(text="call the tool")]),
        Message(role="assistant", parts=parts),
        Message(role="user", parts=[ToolResultPart(call_id=call.id, content=[TextPart(text="fine")])]),
    ]
    tools = [Tool(kind="function", name="f", parameters=SCHEMA)]
    fidelity = Fidelity()
    sent = build(asked(messages=messages, tools=tools, reasoning=ReasoningOptions(max_tokens=2000)), fidelity)
    assert not fidelity
    second = provider.parse_response(answer(sent).body, IDENTITY)
    assert second.choices[0].finish_reason is FinishReason.STOP


def test_signatures_of_others_go_nowhere_and_their_thoughts_only_where_they_may() -> None:
    opaque = Opaque(origin="anthropic", kind="signature", data="s")
    thought = ReasoningPart(text="t", opaque=opaque, path="p")
    fidelity = Fidelity()
    assert build(said(thought, TextPart(text="x"), role="assistant"), fidelity)["messages"][0]["content"] == [
        {"text": "x"}
    ]
    assert {note.path for note in fidelity.notes} == {"p", "p.signature"}
    fidelity = Fidelity()
    sent = build(said(thought, role="assistant"), fidelity, OTHER)
    assert sent["messages"][0]["content"] == [{"reasoningContent": {"reasoningText": {"text": "t"}}}]
    assert [note.path for note in fidelity.notes] == ["p.signature"]


@pytest.mark.parametrize("arguments", ["{oops", "[]"])
def test_arguments_that_are_no_object_are_the_clients_error(arguments: str) -> None:
    with pytest.raises(GatewayError) as caught:
        build(said(ToolCallPart(id="c", name="f", arguments=arguments, path="messages[0].x"), role="assistant"))
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, "messages[0].x")


@pytest.mark.parametrize(
    ("reasoning", "thinking", "effort"),
    [
        (ReasoningOptions(enabled=False), {"type": "disabled"}, "none"),
        (ReasoningOptions(effort="low"), {"type": "enabled", "budget_tokens": 4096}, "low"),
        (ReasoningOptions(max_tokens=10_000), {"type": "enabled", "budget_tokens": 10_000}, "medium"),
        (ReasoningOptions(adaptive=True), {"type": "adaptive"}, None),
    ],
)
def test_reasoning_is_asked_for_in_the_models_way(reasoning: Any, thinking: Any, effort: str | None) -> None:
    fields = build(asked(reasoning=reasoning))["additionalModelRequestFields"]
    assert fields == {"thinking": thinking}
    fidelity = Fidelity()
    sent = build(asked(reasoning=reasoning), fidelity, OTHER)
    assert sent.get("outputConfig", {}).get("effort") == effort
    assert bool(fidelity) or effort is not None


@pytest.mark.parametrize(
    ("choice", "sent_choice"),
    [
        (ToolChoice(mode="auto"), {"auto": {}}),
        (ToolChoice(mode="required"), {"any": {}}),
        (ToolChoice(mode="tool", name="f"), {"tool": {"name": "f"}}),
    ],
)
def test_the_choice_of_tools_is_kept(choice: ToolChoice, sent_choice: Any) -> None:
    sent = build(asked(tools=[Tool(kind="function", name="f")], tool_choice=choice))
    assert sent["toolConfig"]["toolChoice"] == sent_choice


def test_tools_stay_where_a_conversation_has_called_them() -> None:
    tools = [Tool(kind="function", name="f", path="tools[0]")]
    none = ToolChoice(mode="none")
    fidelity = Fidelity()
    assert "toolConfig" not in build(asked(tools=tools, tool_choice=none), fidelity)
    assert {note.action for note in fidelity.notes} == {Action.MAPPED}
    messages = [Message(role="assistant", parts=[ToolCallPart(id="c", name="f", arguments="{}")])]
    fidelity = Fidelity()
    assert "toolConfig" in build(asked(tools=tools, tool_choice=none, messages=messages), fidelity)
    assert {note.action for note in fidelity.notes} == {Action.DROPPED}


def test_options_find_their_places() -> None:
    fidelity = Fidelity()
    request = asked(
        max_output_tokens=9,
        temperature=1.5,
        top_p=0.5,
        stop=["x"],
        top_k=3,
        service_tier="flex",
        metadata={"team": "a"},
        betas=("b",),
        output_format=OutputFormat(kind="json_schema", schema=SCHEMA, name="n"),
    )
    sent = build(request, fidelity)
    assert sent["inferenceConfig"] == {"maxTokens": 9, "temperature": 1, "topP": 0.5, "stopSequences": ["x"]}
    assert sent["additionalModelRequestFields"] == {"top_k": 3, "anthropic_beta": ["b"]}
    assert (sent["serviceTier"], sent["requestMetadata"]) == ({"type": "flex"}, {"team": "a"})
    schema = sent["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert (json.loads(schema["schema"]), schema["name"]) == (SCHEMA, "n")
    assert [note.path for note in fidelity.notes] == ["temperature"]
    answer(sent | {"additionalModelRequestFields": {}})


def test_the_model_stands_in_the_path() -> None:
    built = provider.build_request(asked(stream=True), CLAUDE, Fidelity())
    assert built.path == "/model/us.anthropic.claude-sonnet-v1%3A0/converse-stream"
    assert provider.auth_headers("AKIAEXAMPLE:secret", CLAUDE) == ()
    assert provider.auth_headers("key", CLAUDE) == (("authorization", "Bearer key"),)


STREAMS = [
    ask("hello there", additionalModelRequestFields=THINKING),
    ask("call the tool twice", toolConfig={"tools": [TOOL]}, additionalModelRequestFields=THINKING),
    ask("redacted é", additionalModelRequestFields=THINKING),
    ask("a b c", inferenceConfig={"maxTokens": 2}, system=[{"text": "x"}, {"cachePoint": {"type": "default"}}]),
]
FIXED = [b"".join(event.data for event in answer(body, "converse-stream").events) for body in STREAMS]


@pytest.mark.parametrize("stream", FIXED)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_any_cutting_of_a_stream_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    assert parsed(provider.StreamParser(IDENTITY), stream, cuts) == parsed(provider.StreamParser(IDENTITY), stream, [])


@pytest.mark.parametrize("number", range(len(STREAMS)))
def test_a_collected_stream_is_the_whole_answer(number: int) -> None:
    streamed = collect(parsed(provider.StreamParser(IDENTITY), FIXED[number], []), "bedrock")
    assert streamed == provider.parse_response(answer(STREAMS[number]).body, IDENTITY)


def test_usage_includes_the_cache() -> None:
    usage = {"inputTokens": 5, "outputTokens": 7, "cacheReadInputTokens": 11, "cacheWriteInputTokens": 13}
    usage["cacheDetails"] = [{"ttl": "1h", "inputTokens": 3}, {"ttl": "5m", "inputTokens": 10}]  # type: ignore[assignment]
    body = {"output": {"message": {"content": []}}, "stopReason": "end_turn", "usage": usage}
    response = provider.parse_response(json.dumps(body).encode(), IDENTITY)
    assert response.usage == TokenUsage(
        input_tokens=29, output_tokens=7, cache_read_tokens=11, cache_write_tokens=13, cache_write_1h_tokens=3
    )


def test_citations_are_read_and_go_back_as_they_came() -> None:
    citation = {"title": "T", "source": "s", "sourceContent": [{"text": "c"}], "location": {"web": {"url": "u"}}}
    block = {"citationsContent": {"content": [{"text": "said"}], "citations": [citation]}}
    body = {"output": {"message": {"content": [block]}}, "stopReason": "end_turn"}
    (part,) = provider.parse_response(json.dumps(body).encode(), IDENTITY).choices[0].parts
    assert isinstance(part, TextPart)
    assert part.citations == [
        Citation(url="u", title="T", cited_text="c", file_id="s", wire="bedrock", native=citation)
    ]
    assert build(said(part, role="assistant"))["messages"][0]["content"] == [block]


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_stream_without_its_end_fails(keep: int) -> None:
    messages = [one.data for one in answer(STREAMS[0], "converse-stream").events]
    events = parsed(provider.StreamParser(IDENTITY), b"".join(messages[:keep]), [])
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Ended) for event in events)


def test_a_stream_is_whole_without_its_usage() -> None:
    messages = [one.data for one in answer(STREAMS[0], "converse-stream").events]
    events = parsed(provider.StreamParser(IDENTITY), b"".join(messages[:-1]), [])
    assert isinstance(events[-1], Ended)
    assert not any(isinstance(event, UsageReported) for event in events)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", Kind.RATE_LIMITED),
        ("serviceUnavailableException", Kind.OVERLOADED),
        ("internalServerException", Kind.UPSTREAM_ERROR),
        ("modelStreamErrorException", Kind.UPSTREAM_ERROR),
    ],
)
def test_exceptions_in_a_stream_say_what_happened(name: str, kind: Kind) -> None:
    stream = event("messageStart", {"role": "assistant"}) + event(name, {"message": "secret words"}, "exception")
    *_, last = parsed(provider.StreamParser(IDENTITY), stream + FIXED[0], [])
    assert isinstance(last, Failed)
    assert last.error.kind is kind
    assert "secret" not in last.error.message


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"message": "oh"}', b'{"output": {"message": {"content": []}}}'])
def test_an_answer_that_is_not_whole_is_an_error(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        provider.parse_response(body, IDENTITY)
    assert caught.value.kind is Kind.UPSTREAM_ERROR


BLOCKS = st.dictionaries(
    st.sampled_from(["text", "toolUse", "reasoningContent", "citationsContent", "image", "odd"]), JSON, max_size=2
)


@unhurried
@given(st.lists(BLOCKS, max_size=3), JSON)
def test_whatever_an_upstream_says_is_read_or_an_error(content: list[Any], usage: Any) -> None:
    body = {"output": {"message": {"content": content}}, "stopReason": "end_turn", "usage": usage}
    kind = Kind.UPSTREAM_ERROR
    try:
        provider.parse_response(json.dumps(body).encode(), IDENTITY)
    except GatewayError as error:
        kind = error.kind
    assert kind is Kind.UPSTREAM_ERROR


NAMES = ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "odd"]
DELTAS = st.dictionaries(
    st.sampled_from(["text", "toolUse", "reasoningContent", "citation", "image"]), JSON, max_size=1
)


@unhurried
@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.fixed_dictionaries(
                {},
                optional={"contentBlockIndex": st.integers(0, 2), "delta": JSON | DELTAS, "start": JSON, "usage": JSON},
            ),
        ),
        max_size=6,
    )
)
def test_whatever_events_come_end_in_one_way(found: list[Any]) -> None:
    stream = b"".join(event(name, members) for name, members in found)
    events = parsed(provider.StreamParser(IDENTITY), stream, [])
    assert isinstance(events[0], Started)
    assert sum(isinstance(one, Ended | Failed) for one in events) == 1
    assert isinstance(events[-1], Ended | Failed)


@pytest.mark.parametrize(
    ("status", "name", "message", "kind", "shown"),
    [
        (400, "ValidationException", "A conversation must start", Kind.INVALID_REQUEST, True),
        (400, "ValidationException", "Input is too long for requested model.", Kind.CONTEXT_LENGTH, True),
        (403, "AccessDeniedException", "You don't have access", Kind.UPSTREAM_REJECTED, False),
        (404, "ResourceNotFoundException", "no such model", Kind.MODEL_NOT_FOUND, True),
        (408, "ModelTimeoutException", "slow", Kind.UPSTREAM_TIMEOUT, False),
        (424, "ModelErrorException", "broken", Kind.UPSTREAM_ERROR, False),
        (429, "ThrottlingException", "Too many requests", Kind.RATE_LIMITED, True),
        (429, "ModelNotReadyException", "warming", Kind.OVERLOADED, False),
        (500, "InternalServerException", "oh", Kind.UPSTREAM_ERROR, False),
        (503, "ServiceUnavailableException", "later", Kind.OVERLOADED, False),
    ],
)
def test_refusals_say_whose_fault_it_is(status: int, name: str, message: str, kind: Kind, shown: bool) -> None:
    headers = {b"x-amzn-errortype": f"{name}:http://internal.amazon.com/".encode()}
    error = provider.parse_error(status, headers, json.dumps({"message": message}).encode(), KEY)
    assert error.kind is kind
    assert (message in error.message) is shown


def test_a_refusal_in_words_becomes_text() -> None:
    fidelity = Fidelity()
    sent = build(said(RefusalPart(text="no"), role="assistant"), fidelity)
    assert sent["messages"][0]["content"] == [{"text": "no"}]
    assert fidelity.counts[Action.APPROXIMATED] == 1
