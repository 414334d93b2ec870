"""What goes to Cohere, and what comes back: nothing is lost without a word, and bytes may be cut anywhere."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.joined_halves import IDENTITY, JSON, KEY, UPSTREAM, parsed, unhurried
from tests.ollama_fixtures import CHAT, CLOCK, PIXEL, SCHEMA, WEATHER

from pointsman.canonical.collect import collect
from pointsman.canonical.events import Ended, Failed, Started
from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import ClientCall
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
from pointsman.dialects.ollama import chat
from pointsman.errors import GatewayError, Kind
from pointsman.providers import cohere as provider
from pointsman.testing import Behaviour, Cohere
from pointsman.testing.reply import Request as HttpRequest

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
STRICT_PARAMETERS: Any = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
DOCUMENTS: Any = [{"id": "a", "data": {"text": "Alpha", "title": "A", "url": "https://example.org"}}, "Beta"]


def asked(**members: Any) -> Request:
    messages = [Message(role="user", parts=[TextPart(text="hi", path="messages[0]")], path="messages[0]")]
    return Request(**{"wire": "openai.chat", "model": "m", "messages": messages, **members})


def said(*parts: AnyPart, role: Any = "user") -> Request:
    return asked(messages=[Message(role=role, parts=list(parts), path="messages[0]")])


def build(request: Request, fidelity: Fidelity | None = None) -> Any:
    built = provider.build_request(request, UPSTREAM, Fidelity() if fidelity is None else fidelity)
    assert built.path == "/v2/chat"
    return json.loads(built.body)


def answer(body: Any, **behaviour: Any) -> Any:
    request = HttpRequest(
        method="POST",
        path="/v2/chat",
        headers=(),
        body=json.dumps(body).encode(),
        http_version="1.1",
        keep_alive=True,
    )
    reply = Cohere().answer(request, Behaviour(**behaviour))
    assert reply.status == 200, reply.body
    return reply


def ask(text: str, **members: Any) -> Any:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **members}


def tool(name: str, **members: Any) -> Tool:
    return Tool(kind="function", name=name, path=f"tools.{name}", **members)


def test_cohere_takes_what_becomes_of_a_full_request() -> None:
    answer(build(chat.read_request(json.dumps(CHAT).encode(), ClientCall())))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_sent_or_told(option: str) -> None:
    fidelity = Fidelity()
    value = SET.get(option, "x" if "str" in str(Request.__annotations__[option]) else 2)
    sent = build(asked(**{option: value}), fidelity)
    assert sent != build(asked()) or fidelity.counts, option


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(source=Source(file_id="file_1"), path="p"),
        FilePart(source=Source(data="AAAA"), path="p"),
        AudioPart(source=Source(data="AAAA"), path="p"),
        VideoPart(source=Source(data="AAAA"), path="p"),
        NativePart(wire="gemini", type="x", value={}, path="p"),
        TextPart(text="x", cache=CacheMark(), path="p"),
        TextPart(text="x", extra={"k": 1}, path="p"),
        TextPart(text="x", citations=[Citation(url="https://example.org")], path="p"),
        ToolResultPart(call_id="c", content=[TextPart(text="x")], is_error=True, path="p"),
        ToolResultPart(
            call_id="c", content=[TextPart(text="x"), ImagePart(source=Source(data="A"), path="p")], path="p"
        ),
    ],
)
def test_what_cohere_cannot_take_is_told_at_its_place(part: AnyPart) -> None:
    fidelity = Fidelity()
    build(asked(messages=[Message(role="user", parts=[part, TextPart(text="x")], path="m")]), fidelity)
    assert {note.action for note in fidelity.notes} == {Action.DROPPED}
    assert all(note.path.startswith("p") for note in fidelity.notes)


def test_a_conversation_of_another_api_becomes_coheres() -> None:
    request = asked(
        messages=[
            Message(role="system", parts=[TextPart(text="a")]),
            Message(role="developer", parts=[TextPart(text="b")]),
            Message(
                role="user",
                parts=[
                    TextPart(text="look"),
                    ImagePart(source=Source(data=PIXEL, media_type="image/png"), detail="low"),
                ],
            ),
            Message(
                role="assistant",
                parts=[
                    ReasoningPart(text="r"),
                    TextPart(text="plan"),
                    ToolCallPart(id="c1", name="f", arguments='{"a":  1}'),
                    ToolCallPart(id="c2", name="g", arguments=""),
                ],
            ),
            Message(
                role="user",
                parts=[
                    ToolResultPart(call_id="c1", content=[TextPart(text="r1"), TextPart(text="r2")]),
                    ToolResultPart(call_id="c2", content=[]),
                    TextPart(text="go on"),
                ],
            ),
            Message(role="assistant", parts=[TextPart(text="done")]),
            Message(role="system", parts=[TextPart(text="late")], path="messages[6]"),
        ]
    )
    fidelity = Fidelity()
    sent = build(request, fidelity)
    answer(sent)
    assert sent["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":  1}'}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
            "tool_plan": "plan",
            "content": [{"type": "thinking", "thinking": "r"}],
        },
        {
            "role": "tool",
            "tool_call_id": "c1",
            "content": [{"type": "text", "text": "r1"}, {"type": "text", "text": "r2"}],
        },
        {"role": "tool", "tool_call_id": "c2", "content": "{}"},
        {"role": "user", "content": "go on"},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": "<system>\nlate\n</system>"},
    ]
    assert fidelity.counts == {Action.SYNTHESISED: 1, Action.APPROXIMATED: 1}


def test_opaque_state_of_others_is_dropped_and_the_thoughts_stay() -> None:
    fidelity = Fidelity()
    opaque = Opaque(origin="anthropic", kind="signature", data="s")
    hidden = ReasoningPart(opaque=Opaque(origin="anthropic", kind="redacted", data="s"), path="b")
    sent = build(said(ReasoningPart(text="t", opaque=opaque, path="a"), hidden, role="assistant"), fidelity)
    assert sent["messages"][0]["content"] == [{"type": "thinking", "thinking": "t"}]
    assert [note.path for note in fidelity.notes] == ["a.signature", "b"]


def test_documents_are_cited_where_the_client_asks_and_told_as_text_elsewhere() -> None:
    cited = FilePart(text="Alpha", title="A", citations=True, path="a")
    plain = FilePart(text="Beta", filename="b.txt", path="b")
    sent = build(said(TextPart(text="x"), cited, plain))
    assert sent["documents"] == [{"id": "doc:0", "data": {"text": "Alpha", "title": "A"}}]
    assert sent["messages"][0]["content"][1]["text"] == "b.txt\nBeta"
    answer(sent)
    bound = said(TextPart(text="x"), cited)
    bound.output_format = OutputFormat(kind="json_object")
    assert "documents" not in build(bound)


def test_own_citations_go_back_as_they_came() -> None:
    first = ask("x", documents=DOCUMENTS)
    response = provider.parse_response(answer(first).body, IDENTITY)
    fidelity = Fidelity()
    sent = build(asked(messages=[Message(role="assistant", parts=response.choices[0].parts)]), fidelity)
    assert sent["messages"][0]["citations"] == json.loads(answer(first).body)["message"]["citations"]
    assert not fidelity


@pytest.mark.parametrize("arguments", ["{oops", "[]", "1"])
def test_arguments_that_are_no_object_are_the_clients_error(arguments: str) -> None:
    with pytest.raises(GatewayError) as caught:
        build(said(ToolCallPart(id="c", name="f", arguments=arguments, path="messages[0].x"), role="assistant"))
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, "messages[0].x")


@pytest.mark.parametrize(
    ("reasoning", "thinking", "noted"),
    [
        (ReasoningOptions(enabled=False), {"type": "disabled"}, False),
        (ReasoningOptions(effort="none"), {"type": "disabled"}, False),
        (ReasoningOptions(effort="low"), {"type": "enabled", "token_budget": 4096}, True),
        (ReasoningOptions(max_tokens=777), {"type": "enabled", "token_budget": 777}, False),
        (ReasoningOptions(enabled=True), {"type": "enabled"}, False),
    ],
)
def test_efforts_become_budgets(reasoning: Any, thinking: Any, noted: bool) -> None:
    fidelity = Fidelity()
    assert build(asked(reasoning=reasoning), fidelity)["thinking"] == thinking
    assert bool(fidelity) is noted


@pytest.mark.parametrize(
    ("choice", "names", "sent_choice"),
    [
        (ToolChoice(mode="auto"), ["weather", "clock"], None),
        (ToolChoice(mode="none"), ["weather", "clock"], "NONE"),
        (ToolChoice(mode="required"), ["weather", "clock"], "REQUIRED"),
        (ToolChoice(mode="tool", name="clock"), ["clock"], "REQUIRED"),
        (ToolChoice(mode="required", allowed=("weather",)), ["weather"], "REQUIRED"),
    ],
)
def test_the_choice_of_tools_is_kept(choice: ToolChoice, names: list[str], sent_choice: str | None) -> None:
    tools = [tool("weather", parameters={"type": "object"}), tool("clock")]
    sent = build(asked(tools=tools, tool_choice=choice))
    assert [one["function"]["name"] for one in sent["tools"]] == names
    assert sent.get("tool_choice") == sent_choice
    answer(sent)


@pytest.mark.parametrize(
    ("strict", "parameters", "sent_strict", "action"),
    [
        ((True, True), STRICT_PARAMETERS, True, None),
        ((True, None), STRICT_PARAMETERS, True, Action.APPROXIMATED),
        ((True, True), {"type": "object"}, None, Action.DROPPED),
        ((None, False), STRICT_PARAMETERS, None, None),
    ],
)
def test_strictness_holds_for_all_tools_or_none(strict: Any, parameters: Any, sent_strict: Any, action: Any) -> None:
    fidelity = Fidelity()
    tools = [tool(name, parameters=parameters, strict=one) for name, one in zip("fg", strict, strict=True)]
    sent = build(asked(tools=tools), fidelity)
    assert sent.get("strict_tools") is sent_strict
    assert {note.action for note in fidelity.notes} == ({action} if action else set())
    answer(sent)


def test_numbers_beyond_coheres_are_brought_to_its_bounds() -> None:
    fidelity = Fidelity()
    sent = build(asked(temperature=1.5, top_p=1, frequency_penalty=-1, stop=list("abcdefg")), fidelity)
    assert (sent["temperature"], sent["p"], sent["frequency_penalty"]) == (1, 0.99, 0)
    assert sent["stop_sequences"] == list("abcde")
    assert [note.path for note in fidelity.notes] == ["temperature", "top_p", "frequency_penalty", "stop[5]"]
    answer(sent)


def test_schemas_are_sent_unless_tools_stand_in_the_way() -> None:
    fidelity = Fidelity()
    form = OutputFormat(kind="json_schema", schema=SCHEMA)
    sent = build(asked(output_format=form), fidelity)
    assert sent["response_format"] == {"type": "json_object", "json_schema": SCHEMA}
    assert not fidelity
    build(asked(output_format=form, tools=[tool("f")]), fidelity)
    assert fidelity.counts[Action.DROPPED] == 1


STREAMS = [
    ask("hello there", thinking={"type": "enabled"}, logprobs=True),
    ask("call the tool twice", tools=[WEATHER, CLOCK], thinking={"type": "enabled"}),
    ask("é 日本", documents=DOCUMENTS, max_tokens=2),
    ask("stop here", stop_sequences=["here"]),
]
FIXED = [b"".join(event.data for event in answer({**body, "stream": True}, cached_tokens=2).events) for body in STREAMS]


@pytest.mark.parametrize("stream", FIXED)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_any_cutting_of_a_stream_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    assert parsed(provider.StreamParser(IDENTITY), stream, cuts) == parsed(provider.StreamParser(IDENTITY), stream, [])


@pytest.mark.parametrize("number", range(len(STREAMS)))
def test_a_collected_stream_is_the_whole_answer(number: int) -> None:
    streamed = collect(parsed(provider.StreamParser(IDENTITY), FIXED[number], []), "cohere")
    buffered = provider.parse_response(answer(STREAMS[number], cached_tokens=2).body, IDENTITY)
    for response in (streamed, buffered):  # ids of calls follow the answer's number at the simulator
        response.id = None
        for part in response.choices[0].parts:
            if isinstance(part, ToolCallPart):
                assert part.id.startswith(part.name)
                part.id = "call"
    assert streamed == buffered


def test_an_answer_is_read_with_plan_calls_and_what_is_billed() -> None:
    reply = answer(ask("call the tool", tools=[WEATHER]), prompt_tokens=40, cached_tokens=7)
    response = provider.parse_response(reply.body, IDENTITY)
    plan, call = response.choices[0].parts
    assert plan == TextPart(text="I will call weather.")
    assert isinstance(call, ToolCallPart)
    assert json.loads(call.arguments) == {"city": "example city"}
    assert response.choices[0].finish_reason is FinishReason.TOOL_CALLS
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.cache_read_tokens) == (40, 7)
    assert response.extra == {}  # what was counted beside what is billed is no use to any client


def test_citations_name_each_source() -> None:
    response = provider.parse_response(answer(ask("x", documents=DOCUMENTS)).body, IDENTITY)
    (text,) = response.choices[0].parts
    assert isinstance(text, TextPart)
    first, second = text.citations or ()
    assert (first.url, first.title, first.cited_text) == ("https://example.org", "A", "Alpha")
    assert (first.start, first.end, first.file_id, second.file_id) == (0, 5, "a", "doc:1")
    assert second.native is None


@pytest.mark.parametrize("keep", [0, 1, 4])
def test_a_stream_without_its_end_fails(keep: int) -> None:
    cut = b"".join(block + b"\n\n" for block in FIXED[0].split(b"\n\n")[:keep])
    events = parsed(provider.StreamParser(IDENTITY), cut, [])
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Ended) for event in events)


def test_a_stream_that_says_how_it_failed_fails() -> None:
    end = b'event: message-end\ndata: {"type":"message-end","delta":{"error":"oh","finish_reason":"ERROR"}}\n\n'
    for tail in (end, b'data: {"message":"oh","id":"x"}\n\n', b"data: {oops\n\n", end.replace(b"ERROR", b"TIMEOUT")):
        head = b"\n\n".join(FIXED[0].split(b"\n\n")[:3]) + b"\n\n"
        *_, last = parsed(provider.StreamParser(IDENTITY), head + tail + FIXED[0], [])
        assert isinstance(last, Failed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"message": "oh"}',
        b'{"message": {"content": []}}',
        b'{"message": {"content": []}, "finish_reason": "ERROR"}',
    ],
)
def test_an_answer_that_is_not_whole_is_an_error(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        provider.parse_response(body, IDENTITY)
    assert caught.value.kind is Kind.UPSTREAM_ERROR


@unhurried
@given(
    st.dictionaries(st.sampled_from(["message", "finish_reason", "usage", "logprobs", "id"]), JSON),
    st.dictionaries(st.sampled_from(["content", "tool_calls", "tool_plan", "citations"]), JSON),
)
def test_whatever_an_upstream_says_is_read_or_an_error(body: dict[str, Any], message: dict[str, Any]) -> None:
    for whole in (body, {**body, "message": message, "finish_reason": "COMPLETE"}):
        kind = Kind.UPSTREAM_ERROR
        try:
            provider.parse_response(json.dumps(whole).encode(), IDENTITY)
        except GatewayError as error:
            kind = error.kind
        assert kind in (Kind.UPSTREAM_ERROR, Kind.UPSTREAM_TIMEOUT)


KINDS = ["message-start", "content-start", "content-delta", "tool-call-start", "tool-call-delta", "citation-start"]


@unhurried
@given(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from([*KINDS, "tool-plan-delta", "message-end"])},
            optional={
                "index": JSON,
                "logprobs": JSON,
                "delta": JSON
                | st.fixed_dictionaries(
                    {"message": st.dictionaries(st.sampled_from(["content", "tool_calls", "citations"]), JSON)}
                ),
            },
        ),
        max_size=5,
    )
)
def test_whatever_events_come_end_in_one_way(found: list[Any]) -> None:
    stream = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in found)
    events = parsed(provider.StreamParser(IDENTITY), stream, [])
    assert isinstance(events[0], Started)
    assert sum(isinstance(event, Ended | Failed) for event in events) == 1
    assert isinstance(events[-1], Ended | Failed)


@pytest.mark.parametrize(
    ("status", "message", "kind", "shown"),
    [
        (400, "invalid request: k must be between 0 and 500 inclusive.", Kind.INVALID_REQUEST, True),
        (400, "too many tokens: size limit exceeded by 5 tokens.", Kind.CONTEXT_LENGTH, True),
        (422, "this cannot be processed", Kind.INVALID_REQUEST, True),
        (404, "model 'm' not found", Kind.MODEL_NOT_FOUND, True),
        (401, "invalid api token", Kind.UPSTREAM_REJECTED, False),
        (498, "invalid token", Kind.UPSTREAM_REJECTED, False),
        (429, "You are using a Trial key", Kind.RATE_LIMITED, True),
        (500, "internal server error", Kind.UPSTREAM_ERROR, False),
        (503, "come back later", Kind.OVERLOADED, False),
    ],
)
def test_refusals_say_whose_fault_it_is(status: int, message: str, kind: Kind, shown: bool) -> None:
    error = provider.parse_error(status, {}, json.dumps({"message": message}).encode(), KEY)
    assert error.kind is kind
    assert (message in error.message) is shown


def test_a_refusal_in_words_becomes_text() -> None:
    fidelity = Fidelity()
    assert build(said(RefusalPart(text="no"), role="assistant"), fidelity)["messages"][0]["content"] == "no"
    assert fidelity.counts[Action.APPROXIMATED] == 1
