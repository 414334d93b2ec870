"""Answers in the Responses API: what upstreams stream and give whole, what clients get, and that both are the same."""

import itertools
import json
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response as SdkResponse
from openai.types.responses import ResponseStreamEvent

from pointsman.canonical.collect import collect, replay
from pointsman.canonical.events import (
    AnyEvent,
    ChoiceEnded,
    Ended,
    Failed,
    LogprobsAdded,
    OpaqueSet,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    TranscriptDelta,
    UsageReported,
)
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.identity import Identity
from pointsman.canonical.parts import (
    AudioPart,
    Citation,
    ImagePart,
    NativePart,
    Opaque,
    ReasoningPart,
    RefusalPart,
    Source,
    TextPart,
    ToolCallPart,
)
from pointsman.canonical.request import ReasoningOptions, Request, Tool
from pointsman.canonical.response import Choice, FinishReason, Response, TokenLogprob
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects import openai_responses as dialect
from pointsman.errors import GatewayError, Kind
from pointsman.providers import openai_responses as provider
from pointsman.testing import Behaviour, OpenAIResponses
from pointsman.testing.reply import Request as HttpRequest

WIRE = "openai.responses"
WHO = Identity(request_id="req_1", created=1_764_000_000)
EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"a": {}}}}
PATCH = {"type": "custom", "name": "apply_patch"}
SEALED = {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low", "summary": "auto"}}
CALLS: dict[str, dict[str, Any]] = {
    "text": {"input": "naïve 日本語 🙂 two  spaces"},
    "calls": {"input": "call the tool twice", "tools": [WEATHER, PATCH]},
    "namespaced": {"input": "call the tool", "tools": [{"type": "namespace", "name": "ns", "tools": [WEATHER]}]},
    "reasoning": {"input": "call the tool", "tools": [WEATHER], **SEALED},
    "hidden": {"input": "hello", "reasoning": {"effort": "low"}},
    "search": {"input": "search the web", "tools": [{"type": "web_search"}]},
    "refusal": {"input": "please refuse"},
    "logprobs": {"input": "a b c", "include": ["message.output_text.logprobs"], "top_logprobs": 2},
    "cut": {"input": "word " * 40, "max_output_tokens": 16},
}


def simulated(body: dict[str, Any], directives: str = "") -> bytes:
    """What the simulated API answers to ``body``."""
    headers = (("x-simulate", directives),)
    encoded = msgspec.json.encode({"model": "sim", **body})
    path = "/v1/responses"
    request = HttpRequest(method="POST", path=path, headers=headers, body=encoded, http_version="1.1", keep_alive=True)
    reply = OpenAIResponses().answer(request, Behaviour())
    return reply.body if reply.events is None else b"".join(event.data for event in reply.events)


def parsed(stream: Iterable[bytes]) -> list[AnyEvent]:
    """The events of a stream that comes in these pieces."""
    parser = provider.StreamParser(WHO)
    events: list[AnyEvent] = []
    for piece in stream:
        events += parser.feed(piece)
    return events + parser.finish()


def rendered(events: Iterable[AnyEvent], request: Request, fidelity: Fidelity | None = None) -> list[Any]:
    """What a client is streamed, strictly judged by the SDK."""
    renderer = dialect.StreamRenderer(request, WHO, Fidelity() if fidelity is None else fidelity)
    data = b"".join(renderer.feed(event) for event in events)
    frames = [frame.split(b"\n") for frame in data.split(b"\n\n") if frame]
    found = [json.loads(lines[1].removeprefix(b"data: ")) for lines in frames]
    assert [lines[0].removeprefix(b"event: ").decode() for lines in frames] == [event["type"] for event in found]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        assert_known(EVENT.validate_json(json.dumps(event), strict=True))
    return found


def assert_known(value: object) -> None:
    """The SDK has a name for every member."""
    if isinstance(value, pydantic.BaseModel):
        assert not value.model_extra, value.model_extra
        for name in type(value).model_fields:
            assert_known(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            assert_known(item)


def written(response: Response, request: Request, fidelity: Fidelity | None = None) -> Any:
    """What a client gets whole, strictly judged by the SDK."""
    body = dialect.write_response(response, request, WHO, Fidelity() if fidelity is None else fidelity)
    assert_known(SdkResponse.model_validate_json(body, strict=True))
    return json.loads(body)


def asked(body: dict[str, Any]) -> Request:
    """The request as the dialect reads it."""
    return dialect.read_request(msgspec.json.encode({"model": "sim", **body}), ClientCall())


def plain(**options: Any) -> Request:
    """A request of no matter."""
    return Request(wire=WIRE, model="m", messages=[], **options)


@pytest.mark.parametrize("name", CALLS)
def test_a_stream_collects_to_the_buffered_answer(name: str) -> None:
    stream = simulated({**CALLS[name], "stream": True})
    last = json.loads(stream.rstrip().rpartition(b"\ndata: ")[2])
    whole = provider.parse_response(json.dumps(last["response"]).encode(), WHO)
    assert collect(parsed([stream]), WIRE) == whole


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_comes_through_both_halves_with_all_its_items(name: str) -> None:
    body = CALLS[name]
    given = json.loads(simulated(body))
    response = provider.parse_response(json.dumps(given).encode(), WHO)
    fidelity = Fidelity()
    out = written(response, asked(body), fidelity)
    for item in given["output"]:
        if item["type"] == "custom_tool_call":
            del item["status"]
    for member in ("id", "model", "output", "usage", "status", "incomplete_details", "created_at", "service_tier"):
        assert out[member] == given[member], member
    assert not fidelity.notes
    events = rendered(parsed([simulated({**body, "stream": True})]), asked(body))
    assert events[-1]["type"] == ("response.incomplete" if name == "cut" else "response.completed")
    assert len(events[-1]["response"]["output"]) == len(given["output"])


@pytest.mark.parametrize("name", CALLS)
def test_what_is_streamed_to_a_client_adds_up_to_what_it_gets_whole(name: str) -> None:
    events = parsed([simulated({**CALLS[name], "stream": True})])
    request = asked(CALLS[name])
    assert rendered(events, request)[-1]["response"] == written(collect(events, WIRE), request)


STREAMS = [simulated({**body, "stream": True}) for body in CALLS.values()]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 20_000), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, *(cut % len(stream) for cut in cuts), len(stream)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert parsed(pieces) == parsed([stream])
    assert parsed([piece.replace(b"\n", b"\r\n") for piece in pieces]) == parsed([stream])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(STREAMS), st.integers(0, 20_000), st.binary(max_size=6))
def test_a_damaged_stream_never_raises_and_ends_once(stream: bytes, place: int, junk: bytes) -> None:
    place %= len(stream)
    events = parsed([stream[:place] + junk + stream[place + 3 :]])
    assert isinstance(events[0], Started)
    assert [type(event) for event in events if isinstance(event, Ended | Failed)] == [type(events[-1])]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STREAMS), st.integers(0, 20_000))
def test_a_stream_that_is_cut_before_its_end_has_failed(stream: bytes, place: int) -> None:
    events = parsed([stream[: place % (len(stream) - 2)]])
    assert isinstance(events[-1], Failed)
    assert events[-1].error.kind is Kind.UPSTREAM_ERROR


def test_hosts_that_leave_events_out_lose_nothing() -> None:
    for name, body in CALLS.items():
        stream = simulated({**body, "stream": True})
        frames = stream.split(b"\n\n")[:-1]
        whole = collect(parsed([stream]), WIRE)
        for kept in ((b"added", b"done"), (b"output_item.done",), ()):
            few = [
                frame
                for frame in frames
                if any(word in frame.partition(b"\n")[0] for word in (*kept, b"response.c", b"response.incomplete"))
            ]
            assert collect(parsed([b"\n\n".join([*few, b""])]), WIRE) == whole, (name, kept)


def test_errors_in_streams_are_failures_of_the_fitting_kind() -> None:
    def failed(data: dict[str, Any]) -> GatewayError:
        (*_, last) = parsed([b"data: %b\n\n" % msgspec.json.encode(data)])
        assert isinstance(last, Failed)
        return last.error

    flat = failed({"type": "error", "code": "rate_limit_exceeded", "message": "Slow down", "sequence_number": 1})
    assert (flat.kind, flat.message) == (Kind.RATE_LIMITED, "Slow down")
    nested = failed({"type": "error", "error": {"code": "context_length_exceeded", "message": "Too long"}})
    assert (nested.kind, nested.message) == (Kind.CONTEXT_LENGTH, "Too long")
    ours = failed({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "secret"}}})
    assert ours.kind is Kind.UPSTREAM_ERROR
    assert "secret" not in ours.message
    bare = failed({"error": {"message": "x", "type": "server_error"}})
    assert bare.kind is Kind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    "body",
    [
        {"status": "failed", "error": {"code": "server_error", "message": "x"}, "output": []},
        {"status": "in_progress", "output": []},
        {"status": "queued", "output": []},
        {"status": "cancelled", "output": []},
        {"error": {"message": "x"}},
        {"status": "completed"},
        {"status": "completed", "output": [3]},
        {"status": "completed", "output": [{"type": "function_call"}]},
        [],
    ],
)
def test_an_answer_that_is_none_is_the_upstreams_error(body: Any) -> None:
    with pytest.raises(GatewayError) as caught:
        provider.parse_response(json.dumps(body).encode(), WHO)
    assert caught.value.kind is Kind.UPSTREAM_ERROR


def test_odd_usage_does_not_cost_an_answer() -> None:
    body = {"status": "completed", "output": [], "usage": {"input_tokens": "many"}}
    assert provider.parse_response(json.dumps(body).encode(), WHO).usage is None


@pytest.mark.parametrize(
    ("status", "code", "param", "kind"),
    [
        (400, "context_length_exceeded", "input", Kind.CONTEXT_LENGTH),
        (400, "invalid_prompt", None, Kind.CONTENT_FILTERED),
        (400, "unknown_parameter", "x", Kind.INVALID_REQUEST),
        (404, "model_not_found", "model", Kind.MODEL_NOT_FOUND),
        (404, None, "id", Kind.NOT_FOUND),
        (413, None, None, Kind.TOO_LARGE),
        (429, "rate_limit_exceeded", None, Kind.RATE_LIMITED),
        (401, "invalid_api_key", None, Kind.UPSTREAM_REJECTED),
        (500, None, None, Kind.UPSTREAM_ERROR),
        (503, None, None, Kind.OVERLOADED),
    ],
)
def test_each_error_of_an_upstream_has_its_kind(status: int, code: str | None, param: str | None, kind: Kind) -> None:
    body = msgspec.json.encode({"error": {"message": "words", "type": "t", "param": param, "code": code}})
    error = provider.parse_error(status, {b"retry-after": b"7"}, body, "sk-secret-secret-1")
    assert error.kind is kind
    callers = kind not in (Kind.UPSTREAM_REJECTED, Kind.UPSTREAM_ERROR, Kind.OVERLOADED)
    assert (error.upstream_body == body) is callers
    assert ("words" in error.message) is callers
    leaking = body.replace(b"words", b"key sk-secret-secret-1")
    assert provider.parse_error(status, {}, leaking, "sk-secret-secret-1").upstream_body is None
    assert "sk-" not in provider.parse_error(status, {}, leaking, "sk-secret-secret-1").message


# What other APIs' upstreams give.


def answer(*parts: Any, reason: FinishReason = FinishReason.STOP, **members: Any) -> Response:
    return Response(wire="anthropic", choices=[Choice(parts=list(parts), finish_reason=reason)], **members)


def test_text_and_calls_of_another_api_are_items_with_ids_of_our_own() -> None:
    given = answer(
        TextPart(text="one", citations=[Citation(url="https://x", title="X"), Citation(cited_text="q")]),
        TextPart(text="two"),
        ToolCallPart(id="toolu_1", name="f", arguments='{"a":1}'),
        ToolCallPart(id="toolu_2", name="f", arguments="{}"),
        reason=FinishReason.TOOL_CALLS,
        usage=TokenUsage(
            input_tokens=9, output_tokens=4, cache_read_tokens=3, cache_write_tokens=2, reasoning_tokens=1
        ),
    )
    fidelity = Fidelity()
    out = written(given, plain(), fidelity)
    message, *calls = out["output"]
    assert [part["text"] for part in message["content"]] == ["one", "two"]
    assert message["content"][0]["annotations"][0]["url"] == "https://x"
    assert [(call["call_id"], call["arguments"]) for call in calls] == [("toolu_1", '{"a":1}'), ("toolu_2", "{}")]
    assert len({item["id"] for item in out["output"]}) == 3
    assert all("_pm" in item["id"] for item in out["output"])
    assert out["usage"]["input_tokens_details"] == {"cached_tokens": 3, "cache_write_tokens": 2}
    assert [note.path for note in fidelity.notes] == ["output[].annotations"]


def test_a_signature_of_another_api_survives_in_the_encrypted_content() -> None:
    signature = Opaque(origin="anthropic", kind="signature", data="ErUB")
    thought = ReasoningPart(text="I think so", opaque=signature)
    request = plain(reasoning=ReasoningOptions(encrypted=True))
    item = written(answer(thought, TextPart(text="yes")), request)["output"][0]
    assert item["content"] == [{"type": "reasoning_text", "text": "I think so"}]
    for member in ("content", "nothing"):  # some clients keep the encrypted content alone
        kept = {name: value for name, value in item.items() if name != member}
        back = asked({"input": [kept, {"role": "assistant", "content": "yes"}]}).messages[0].parts[0]
        assert isinstance(back, ReasoningPart)
        assert (back.text, back.opaque, back.item_id) == ("I think so", signature, "")
    assert "encrypted_content" not in written(answer(thought), plain())["output"][0]


def test_reasoning_is_shown_as_a_summary_to_who_asked_for_one_and_comes_back_once() -> None:
    request = plain(reasoning=ReasoningOptions(summary="auto"))
    fidelity = Fidelity()
    events = rendered(replay(answer(ReasoningPart(text="I think so"), TextPart(text="yes"))), request, fidelity)
    assert [event["delta"] for event in events if event["type"] == "response.reasoning_summary_text.delta"] == [
        "I think so"
    ]
    item = events[-1]["response"]["output"][0]
    assert item["summary"] == [{"type": "summary_text", "text": "I think so"}]
    assert fidelity.notes[0].path == "reasoning.summary"
    back = asked({"input": [item]}).messages[0].parts[0]
    assert isinstance(back, ReasoningPart)
    assert (back.text, back.summary) == ("I think so", None)


def test_a_function_that_stands_for_a_custom_tool_gives_its_free_text() -> None:
    request = plain(
        tools=[Tool(kind="custom", name="apply_patch"), Tool(kind="function", name="ns__f", namespace="ns")]
    )
    patch = ToolCallPart(id="c1", name="apply_patch", arguments='{"input":"*** Begin\\n"}')
    spaced = ToolCallPart(id="c2", name="ns__f", arguments="{}")
    given = answer(patch, spaced, reason=FinishReason.TOOL_CALLS)
    custom, function = written(given, request)["output"]
    assert (custom["type"], custom["input"]) == ("custom_tool_call", "*** Begin\n")
    assert (function["namespace"], function["name"]) == ("ns", "f")
    events = rendered(replay(given), request)
    deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert deltas == ["*** Begin\n"]


def test_calls_whose_arguments_arrive_mixed_come_one_after_the_other() -> None:
    events: list[AnyEvent] = [Started()]
    for index in (0, 1):
        events.append(PartStarted(0, index, ToolCallPart(id=f"c{index}", name="f")))
    events += [PartDelta(0, 1, "[2"), PartDelta(0, 0, "[1"), PartDelta(0, 1, "]"), PartDelta(0, 0, "]")]
    events += [PartEnded(0, 1), PartEnded(0, 0), ChoiceEnded(0, FinishReason.TOOL_CALLS), Ended()]
    output = rendered(events, plain())[-1]["response"]["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [("c0", "[1]"), ("c1", "[2]")]


def test_what_a_response_cannot_hold_is_named() -> None:
    fidelity = Fidelity()
    given = answer(
        NativePart(wire="anthropic", type="server_tool_use", value={"a": 1}),
        ImagePart(source=Source(data="aGk=", media_type="image/png")),
        AudioPart(source=Source(data="UklGRg=="), transcript="hello"),
    )
    out = written(given, plain(), fidelity)["output"]
    assert [item["type"] for item in out] == ["image_generation_call", "message"]
    assert out[1]["content"][0]["text"] == "hello"
    assert [note.path for note in fidelity.notes] == ["output[].server_tool_use", "output[].audio"]
    spoken: list[AnyEvent] = [
        Started(), PartStarted(0, 0, AudioPart(source=Source(data=""))), PartDelta(0, 0, "UklG"),
        TranscriptDelta(0, 0, "hi"), PartEnded(0, 0), ChoiceEnded(0, FinishReason.STOP), Ended(),
    ]  # fmt: skip
    assert rendered(spoken, plain())[-1]["response"]["output"][0]["content"][0]["text"] == "hi"


@pytest.mark.parametrize("reason", list(FinishReason))
def test_every_end_of_an_answer_has_its_status(reason: FinishReason) -> None:
    out = written(answer(TextPart(text="x"), reason=reason), plain())
    expected = {
        FinishReason.LENGTH: ("incomplete", "max_output_tokens"),
        FinishReason.CONTEXT_LENGTH: ("incomplete", "max_output_tokens"),
        FinishReason.PAUSE: ("incomplete", "max_output_tokens"),
        FinishReason.CONTENT_FILTER: ("incomplete", "content_filter"),
        FinishReason.REFUSAL: ("incomplete", "content_filter"),
        FinishReason.MALFORMED_CALL: ("failed", None),
        FinishReason.ERROR: ("failed", None),
    }.get(reason, ("completed", None))
    assert (out["status"], (out["incomplete_details"] or {}).get("reason")) == expected
    assert (out["error"] is not None) == (out["status"] == "failed")
    refused = written(answer(RefusalPart(text="no"), reason=FinishReason.REFUSAL), plain())
    assert refused["status"] == "completed"


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_failure_ends_a_stream_with_a_failed_response(kind: Kind) -> None:
    events: list[AnyEvent] = [Started(), PartStarted(0, 0, TextPart(text="a")), Failed(GatewayError(kind, "broke"))]
    renderer = dialect.StreamRenderer(plain(), WHO, Fidelity())
    data = b"".join(renderer.feed(event) for event in events)
    last = json.loads(data.rstrip().rpartition(b"\ndata: ")[2])
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["message"] == "broke"
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert renderer.feed(Ended()) == b""
    assert json.loads(dialect.render_error(GatewayError(kind, "broke"), "req"))["error"]["message"] == "broke"
    error = dialect.render_stream_error(GatewayError(kind, "broke", param="p"), "req", 7)
    event = EVENT.validate_json(error.split(b"data: ")[1], strict=True)
    assert (event.type, event.sequence_number, event.param) == ("error", 7, "p")


def test_log_probabilities_go_along_with_their_words() -> None:
    token = TokenLogprob(token="a", logprob=-0.5, bytes=[97], top=[TokenLogprob(token="b", logprob=-1.0, bytes=[98])])
    events: list[AnyEvent] = [
        Started(), PartStarted(0, 0, TextPart(text="")), PartDelta(0, 0, "a"), LogprobsAdded(0, [token]),
        PartEnded(0, 0), ChoiceEnded(0, FinishReason.STOP), Ended(),
    ]  # fmt: skip
    found = rendered(events, plain(logprobs=True))
    (delta,) = [event for event in found if event["type"] == "response.output_text.delta"]
    assert delta["logprobs"][0]["token"] == "a"
    assert found[-1]["response"]["output"][0]["content"][0]["logprobs"][0]["top_logprobs"][0]["bytes"] == [98]


def test_the_settings_of_a_request_are_in_its_response() -> None:
    body = {
        "input": "x", "instructions": "be brief", "temperature": 0.5, "tools": [WEATHER], "tool_choice": "required",
        "text": {"format": {"type": "json_object"}, "verbosity": "low"}, "metadata": {"a": "b"}, "truncation": "auto",
        "previous_response_id": "resp_0", "max_output_tokens": 50, "user": "u", "parallel_tool_calls": False,
    }  # fmt: skip
    out = written(answer(TextPart(text="x")), asked(body))
    for name, value in body.items():
        if name not in ("input", "tools"):
            assert out[name] == value, name
    assert out["tools"] == [WEATHER]


PARTS = st.one_of(
    st.builds(TextPart, text=st.text(min_size=1, max_size=8), item_id=st.sampled_from(["msg_a", "msg_b"])),
    st.builds(RefusalPart, text=st.text(min_size=1, max_size=8), item_id=st.just("msg_c")),
    st.builds(
        ReasoningPart,
        text=st.text(max_size=5),
        summary=st.none() | st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3),
        item_id=st.just("rs_a"),
        opaque=st.none() | st.builds(Opaque, origin=st.just(WIRE), kind=st.just("encrypted"), data=st.just("gA"),
                                     id=st.just("rs_a")),
    ),
    st.builds(
        ToolCallPart,
        id=st.sampled_from(["call_1", "call_2"]),
        name=st.just("f"),
        arguments=st.text(max_size=8),
        kind=st.sampled_from(["function", "custom"]),
        item_id=st.just("fc_a"),
    ),
    st.builds(NativePart, wire=st.just(WIRE), type=st.just("mcp_call"), value=st.just({"type": "mcp_call", "id": "m"}),
              item_id=st.just("")),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTS, max_size=6), st.sampled_from([TokenUsage(input_tokens=5, output_tokens=3), None]))
def test_whatever_is_written_for_a_client_is_read_again_the_same(parts: list[Any], usage: TokenUsage | None) -> None:
    calls = any(isinstance(part, ToolCallPart) for part in parts)
    reason = FinishReason.TOOL_CALLS if calls else FinishReason.STOP
    choice = Choice(parts=parts, finish_reason=reason, native_finish_reason="completed")
    given = Response(wire=WIRE, id="resp_1", model="m", created=5, choices=[choice], usage=usage)
    request = plain(reasoning=ReasoningOptions(encrypted=True))
    assert provider.parse_response(dialect.write_response(given, request, WHO, Fidelity()), WHO) == given
    renderer = dialect.StreamRenderer(request, WHO, Fidelity())
    stream = [renderer.feed(event) for event in replay(given)]
    assert collect(parsed(stream), WIRE) == given


def test_usage_that_comes_twice_holds_the_last_time() -> None:
    def events() -> Iterator[AnyEvent]:
        yield UsageReported(TokenUsage(input_tokens=1))
        yield OpaqueSet(0, 0, Opaque(origin="x", kind="redacted", data=""))
        yield UsageReported(TokenUsage(input_tokens=2), None, "flex")
        yield Ended()

    last = rendered(events(), plain())[-1]["response"]
    assert (last["usage"]["input_tokens"], last["service_tier"]) == (2, "flex")


def test_what_another_api_says_of_its_usage_is_no_usage_of_a_response() -> None:
    fidelity = Fidelity()
    renderer = dialect.StreamRenderer(
        Request(wire="openai.responses", model="m", messages=[]), Identity(request_id="r", created=1), fidelity
    )
    foreign = {"usage": {"billed_units": {"input_tokens": 5}}, "load_duration": 3}
    told = [Started(), UsageReported(TokenUsage(input_tokens=5, output_tokens=2), extra=foreign), Ended()]
    last = b"".join(renderer.feed(event) for event in told).rpartition(b"data: ")[2]
    whole = json.loads(last)["response"]
    assert (whole["usage"]["input_tokens"], whole["usage"]["total_tokens"]) == (5, 7)
    assert "load_duration" not in whole
    assert {note.path for note in fidelity.notes} == {"response.usage.billed_units"}  # durations are telemetry


BEYOND: dict[str, Any] = {
    "conversation": {"id": "conv_1"},
    "moderation": {"flagged": False},
    "tool_usage": {"web_search": {"num_requests": 2}},
}


def _told_beyond() -> bytes:
    whole = json.loads(simulated(CALLS["text"]))
    whole |= BEYOND
    whole["usage"] |= {"cost": 0.5, "odd_member": 1}
    whole["usage"]["input_tokens_details"]["audio_tokens"] = 4
    return json.dumps(whole).encode()


def test_members_and_usage_beyond_our_words_stay_for_clients_of_the_same_api_whole_and_streamed() -> None:
    response = provider.parse_response(_told_beyond(), WHO)
    fidelity = Fidelity()
    whole = json.loads(dialect.write_response(response, plain(), WHO, fidelity))
    renderer = dialect.StreamRenderer(plain(), WHO, Fidelity())
    stream = b"".join(renderer.feed(event) for event in replay(response))
    for told in (whole, json.loads(stream.rpartition(b"data: ")[2])["response"]):
        assert {name: told[name] for name in BEYOND} == BEYOND
        assert told["usage"]["cost"] == 0.5
        assert told["usage"]["input_tokens_details"]["audio_tokens"] == 4
    assert {note.path for note in fidelity.notes} == {"response.usage.odd_member"}


@pytest.mark.parametrize("name", ["anthropic", "gemini", "openai_chat", "openai_completions", "ollama.chat"])
def test_members_and_usage_beyond_our_words_are_noted_for_clients_of_other_apis(name: str) -> None:
    response = provider.parse_response(_told_beyond(), WHO)
    fidelity = Fidelity()
    import_module(f"pointsman.dialects.{name}").write_response(response, plain(), WHO, fidelity)
    noted = {note.path.removeprefix("response.") for note in fidelity.notes}
    assert {"conversation", "moderation", "tool_usage", "usage"} <= noted


def test_telemetry_and_nulls_of_another_api_are_not_worth_a_note() -> None:
    fidelity = Fidelity()
    for name in ("system_fingerprint", "x_groq", "timings"):
        fidelity.unplaced(f"response.{name}", {"id": "x"}, "no place")
    fidelity.unplaced("response.prompt_logprobs", None, "no place")
    assert not fidelity
    fidelity.unplaced("response.citations", ["https://a.example"], "no place")
    assert [note.path for note in fidelity.notes] == ["response.citations"]
