"""What goes to Ollama, and what comes back: nothing is lost without a word, and bytes may be cut anywhere."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.joined_halves import IDENTITY, JSON, KEY, UPSTREAM, parsed, same, unhurried
from tests.ollama_fixtures import CHAT, CLOCK, GENERATE, PIXEL, WEATHER

from pointsman.canonical.collect import collect
from pointsman.canonical.events import Ended, Failed, Started
from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import Built, ClientCall, Upstream
from pointsman.canonical.parts import (
    AnyPart,
    AudioPart,
    CacheMark,
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
from pointsman.dialects.ollama import chat, generate
from pointsman.errors import GatewayError, Kind
from pointsman.providers import ollama as provider
from pointsman.testing import Behaviour, Ollama
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


def asked(**members: Any) -> Request:
    messages = [Message(role="user", parts=[TextPart(text="hi", path="messages[0]")], path="messages[0]")]
    return Request(**{"wire": "openai.chat", "model": "m", "messages": messages, **members})


def build(request: Request, fidelity: Fidelity | None = None, upstream: Upstream = UPSTREAM) -> Any:
    built = provider.build_request(request, upstream, Fidelity() if fidelity is None else fidelity)
    return json.loads(built.body)


def said(*parts: AnyPart, role: Any = "user") -> Request:
    return asked(messages=[Message(role=role, parts=list(parts), path="messages[0]")])


def answer(body: Any, simulator: Ollama | None = None, path: str = "/api/chat") -> Any:
    request = HttpRequest(
        method="POST", path=path, headers=(), body=json.dumps(body).encode(), http_version="1.1", keep_alive=True
    )
    return (simulator or Ollama()).answer(request, Behaviour())


def ask(text: str, **members: Any) -> Any:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **members}


@pytest.mark.parametrize(("dialect", "body"), [(chat, CHAT), (generate, GENERATE)])
def test_a_request_of_ollamas_own_client_needs_no_note(dialect: Any, body: Any) -> None:
    fidelity = Fidelity()
    request = dialect.read_request(json.dumps(body).encode(), ClientCall())
    build(request, fidelity, Upstream(model=body["model"]))
    assert not fidelity


@pytest.mark.parametrize(
    ("dialect", "body", "path"), [(chat, CHAT, "/api/chat"), (generate, GENERATE, "/api/generate")]
)
def test_the_same_dialect_round_trip_keeps_every_field(dialect: Any, body: Any, path: str) -> None:
    first = dialect.read_request(json.dumps(body).encode(), ClientCall())
    built: Built = provider.build_request(first, Upstream(model=body["model"]), Fidelity())
    assert built.path == path
    assert same(dialect.read_request(built.body, ClientCall()), first)


def test_a_patched_body_changes_in_nothing_but_the_model() -> None:
    rest = b'"messages":[{"role":"user","content":"\\u00e9"}]}'
    body = b'{"options": {"temperature": 1.50},  "model":"a", ' + rest
    request = chat.read_request(body, ClientCall())
    built = provider.patch_request(body, request, Upstream(model="b"))
    assert (
        built.body == b'{"options":{"temperature": 1.50},"model":"b","messages":[{"role":"user","content":"\\u00e9"}]}'
    )
    assert built.path == "/api/chat"
    prompt = b'{"model":"a","prompt":"x"}'
    assert provider.patch_request(prompt, generate.read_request(prompt, ClientCall()), UPSTREAM).path == "/api/generate"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_sent_or_told(option: str) -> None:
    fidelity = Fidelity()
    value = SET.get(option, "x" if "x" in str(Request.__annotations__[option]) else 2)
    plain = build(asked())
    sent = build(asked(**{option: value}), fidelity)
    assert sent != plain or option in [note.path for note in fidelity.notes] or fidelity.counts, option


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(source=Source(url="https://example.org/a.png"), path="p"),
        ImagePart(source=Source(data=PIXEL), detail="high", path="p"),
        FilePart(source=Source(data="AAAA"), path="p"),
        AudioPart(source=Source(data="AAAA"), path="p"),
        VideoPart(source=Source(data="AAAA"), path="p"),
        NativePart(wire="gemini", type="x", value={}, path="p"),
        TextPart(text="x", cache=CacheMark(), path="p"),
        TextPart(text="x", extra={"k": 1}, path="p"),
        ReasoningPart(opaque=Opaque(origin="anthropic", kind="signature", data="s"), text="t", path="p"),
        ReasoningPart(opaque=Opaque(origin="anthropic", kind="redacted", data="s"), path="p"),
        ToolResultPart(call_id="c", content=[], is_error=True, path="p"),
    ],
)
def test_what_ollama_cannot_take_is_told_at_its_place(part: AnyPart) -> None:
    fidelity = Fidelity()
    build(said(part), fidelity)
    assert {note.action for note in fidelity.notes} == {Action.DROPPED}
    assert all(note.path.startswith("p") for note in fidelity.notes)


def test_a_conversation_of_another_api_becomes_ollamas() -> None:
    picture = ImagePart(source=Source(url=f"data:image/png;base64,{PIXEL}"))
    request = asked(
        messages=[
            Message(role="developer", parts=[TextPart(text="a"), TextPart(text="b")]),
            Message(
                role="user",
                parts=[TextPart(text="look"), picture],
            ),
            Message(
                role="assistant",
                parts=[
                    ReasoningPart(summary=["s1", "s2"]),
                    TextPart(text="t"),
                    ToolCallPart(id="c1", name="f", arguments='{"a": 1}'),
                    ToolCallPart(id="c2", name="g", arguments=""),
                ],
            ),
            Message(
                role="user",
                parts=[
                    ToolResultPart(call_id="c2", content=[TextPart(text="r2")]),
                    ToolResultPart(call_id="c1", content=[TextPart(text="r1"), ImagePart(source=Source(data=PIXEL))]),
                    TextPart(text="go on"),
                ],
            ),
        ]
    )
    fidelity = Fidelity()
    assert build(request, fidelity)["messages"] == [
        {"role": "system", "content": "a\nb"},
        {"role": "user", "content": "look", "images": [PIXEL]},
        {
            "role": "assistant",
            "content": "t",
            "thinking": "s1\ns2",
            "tool_calls": [
                {"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}},
                {"id": "c2", "function": {"name": "g", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "r2", "tool_name": "g", "tool_call_id": "c2"},
        {"role": "tool", "content": "r1", "images": [PIXEL], "tool_name": "f", "tool_call_id": "c1"},
        {"role": "user", "content": "go on"},
    ]
    assert not fidelity


def test_arguments_that_are_no_object_are_the_clients_error() -> None:
    with pytest.raises(GatewayError) as caught:
        build(said(ToolCallPart(id="c", name="f", arguments="{oops", path="messages[0].x"), role="assistant"))
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, "messages[0].x")


@pytest.mark.parametrize(
    ("reasoning", "think", "action"),
    [
        (ReasoningOptions(enabled=False), False, None),
        (ReasoningOptions(effort="none"), False, None),
        (ReasoningOptions(effort="low"), "low", None),
        (ReasoningOptions(effort="minimal"), "low", Action.APPROXIMATED),
        (ReasoningOptions(effort="max"), "high", Action.APPROXIMATED),
        (ReasoningOptions(enabled=True, max_tokens=10_000), "medium", Action.MAPPED),
        (ReasoningOptions(enabled=True), True, None),
        (ReasoningOptions(adaptive=True), True, None),
    ],
)
def test_efforts_and_budgets_become_levels(reasoning: Any, think: Any, action: Action | None) -> None:
    fidelity = Fidelity()
    assert build(asked(reasoning=reasoning), fidelity)["think"] == think
    assert [note.action for note in fidelity.notes] == ([] if action is None else [action])


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (ToolChoice(mode="auto"), ["weather", "clock"]),
        (ToolChoice(mode="none"), []),
        (ToolChoice(mode="tool", name="clock"), ["clock"]),
        (ToolChoice(mode="auto", allowed=("weather",)), ["weather"]),
        (ToolChoice(mode="required"), ["weather", "clock"]),
    ],
)
def test_tools_that_may_not_be_called_are_not_offered(choice: ToolChoice, names: list[str]) -> None:
    fidelity = Fidelity()
    tools = [Tool(kind="function", name=name, parameters={"type": "object"}) for name in ("weather", "clock")]
    sent = build(asked(tools=tools, tool_choice=choice), fidelity)
    assert [tool["function"]["name"] for tool in sent.get("tools", [])] == names
    assert bool(fidelity) is (choice.mode != "auto" or choice.allowed is not None)


def test_a_connections_context_size_is_sent_unless_the_client_has_its_own() -> None:
    upstream = Upstream(model="m", options={"num_ctx": "32768"})
    fidelity = Fidelity()
    assert build(asked(), fidelity, upstream)["options"] == {"num_ctx": 32768}
    assert fidelity.counts[Action.SYNTHESISED] == 1
    own = chat.read_request(json.dumps(ask("x", options={"num_ctx": 5})).encode(), ClientCall())
    assert build(own, upstream=upstream)["options"] == {"num_ctx": 5}


STREAMS = [
    ask("hello there", think=True),
    ask("call the tool twice", tools=[WEATHER, CLOCK], think=True),
    ask("a b c", logprobs=True, top_logprobs=2, options={"num_predict": 2}),
    {"model": "m", "prompt": "é 日本", "think": True},
]


def path_of(body: Any) -> str:
    return "/api/generate" if "prompt" in body else "/api/chat"


def lines_of(body: Any) -> bytes:
    return b"".join(event.data for event in answer(body, path=path_of(body)).events)


@pytest.mark.parametrize("body", STREAMS)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_any_cutting_of_a_stream_gives_the_same_events(body: Any, cuts: list[int]) -> None:
    stream = FIXED[json.dumps(body)]
    assert parsed(provider.StreamParser(IDENTITY), stream, cuts) == parsed(provider.StreamParser(IDENTITY), stream, [])


FIXED = {json.dumps(body): lines_of(body) for body in STREAMS}


@pytest.mark.parametrize("body", STREAMS)
def test_a_collected_stream_is_the_whole_answer(body: Any) -> None:
    streamed = collect(parsed(provider.StreamParser(IDENTITY), FIXED[json.dumps(body)], []), "ollama")
    reply = answer({**body, "stream": False}, path=path_of(body))
    buffered = provider.parse_response(reply.body, IDENTITY)
    assert streamed.created is not None
    assert buffered.created is not None
    streamed.created = buffered.created
    for response in (streamed, buffered):  # a simulator's ids follow its clock
        for part in response.choices[0].parts:
            if isinstance(part, ToolCallPart):
                assert part.id.startswith("call_")
                part.id = "call"
    assert streamed == buffered


def test_an_answer_is_read_with_all_that_it_says() -> None:
    reply = answer(ask("call the tool", tools=[WEATHER], think=True, stream=False))
    response = provider.parse_response(reply.body, IDENTITY)
    thought, call = response.choices[0].parts
    assert isinstance(thought, ReasoningPart)
    assert isinstance(call, ToolCallPart)
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "example city"})
    assert response.choices[0].finish_reason is FinishReason.TOOL_CALLS
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    assert response.extra["total_duration"] > 0


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_a_stream_without_its_end_fails(keep: int) -> None:
    lines = lines_of(ask("hello there")).splitlines(keepends=True)
    events = parsed(provider.StreamParser(IDENTITY), b"".join(lines[:keep]), [])
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Ended) for event in events)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"error":"x"}', b'{"message":[],"done":false}', b"\xff"])
def test_a_line_that_cannot_be_read_fails_and_nothing_follows(line: bytes) -> None:
    parser = provider.StreamParser(IDENTITY)
    events = [*parser.feed(line + b"\n"), *parser.feed(lines_of(ask("x"))), *parser.finish()]
    assert [type(event) for event in events] == [Started, Failed]


def test_a_last_line_without_its_line_feed_counts() -> None:
    stream = lines_of(ask("x")).rstrip(b"\n")
    assert isinstance(parsed(provider.StreamParser(IDENTITY), stream, [])[-1], Ended)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"error":"x"}', b'{"message":{"content":"x"},"done":false}'])
def test_an_answer_that_is_not_whole_is_an_error(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        provider.parse_response(body, IDENTITY)
    assert caught.value.kind is Kind.UPSTREAM_ERROR


@pytest.mark.parametrize("counts", [{"prompt_eval_count": -5}, {"eval_count": 1e300}, {"eval_count": "x"}])
def test_odd_figures_cost_no_answer(counts: Any) -> None:
    body = {"message": {"content": "x"}, "done": True, "prompt_eval_count": 3, **counts}
    response = provider.parse_response(json.dumps(body).encode(), IDENTITY)
    assert response.usage is not None
    assert response.usage.output_tokens == 0


@unhurried
@given(st.dictionaries(st.sampled_from(["message", "response", "done", "done_reason", "model", "created_at"]), JSON))
def test_whatever_an_upstream_says_is_read_or_an_error(body: dict[str, Any]) -> None:
    line = json.dumps({**body, "message": {"content": "x", **body}}).encode()
    for whole in (json.dumps(body).encode(), line):
        assert parsed(provider.StreamParser(IDENTITY), whole, [])
        kind = Kind.UPSTREAM_ERROR
        try:
            provider.parse_response(whole, IDENTITY)
        except GatewayError as error:
            kind = error.kind
        assert kind is Kind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("status", "message", "kind", "shown"),
    [
        (400, "top_logprobs must be between 0 and 20", Kind.INVALID_REQUEST, True),
        (400, '"m" does not support thinking', Kind.UNSUPPORTED, True),
        (400, "the input length exceeds the context length", Kind.CONTEXT_LENGTH, True),
        (404, "model 'm' not found", Kind.MODEL_NOT_FOUND, True),
        (401, "unauthorized", Kind.UPSTREAM_REJECTED, False),
        (429, "you've reached your limit", Kind.RATE_LIMITED, True),
        (500, 'option "seed" must be of type integer', Kind.INVALID_REQUEST, True),
        (500, "llama runner process has terminated", Kind.UPSTREAM_ERROR, False),
        (503, "server busy", Kind.OVERLOADED, False),
    ],
)
def test_refusals_say_whose_fault_it_is(status: int, message: str, kind: Kind, shown: bool) -> None:
    body = json.dumps({"error": message}).encode()
    error = provider.parse_error(status, {b"retry-after": b"3"}, body, KEY)
    assert error.kind is kind
    assert (message in error.message) is shown
    if status == 429:
        assert error.retry_after_seconds == 3
    if kind is Kind.INVALID_REQUEST:
        assert error.status == 400
        assert error.upstream_body == body


def test_a_refusal_that_shows_the_key_is_not_passed_on() -> None:
    error = provider.parse_error(400, {}, json.dumps({"error": f"bad key {KEY}"}).encode(), KEY)
    assert KEY not in error.message
    assert error.upstream_body is None


def test_parts_that_are_words_in_other_apis_become_text() -> None:
    fidelity = Fidelity()
    sent = build(said(FilePart(text="body", filename="a.txt"), RefusalPart(text="no")), fidelity)
    assert sent["messages"][0]["content"] == "a.txt:\nbody\nno"
    assert fidelity.counts[Action.APPROXIMATED] == 2


def test_members_of_the_other_operation_take_no_part() -> None:
    hidden = [{"role": "user", "content": "not looked at"}]
    body = json.dumps({"model": "m", "prompt": "x", "messages": hidden, "tools": [WEATHER]}).encode()
    fidelity = Fidelity()
    sent = build(generate.read_request(body, ClientCall()), fidelity)
    assert (sent["prompt"], "messages" in sent, "tools" in sent) == ("x", False, False)
    assert [note.path for note in fidelity.notes] == ["messages", "tools"]
