"""The official SDK reads what the Ollama dialect writes, whatever the upstream speaks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.joined_halves import IDENTITY, Joined, unhurried
from tests.ollama_fixtures import CLOCK, PIXEL, WEATHER

from pointsman.canonical.collect import replay
from pointsman.canonical.events import ChoiceEnded, Ended, Failed, PartEnded, PartStarted, Started, SummaryDelta
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.parts import AnyPart, ReasoningPart, RefusalPart, Source, TextPart, ToolCallPart, VideoPart
from pointsman.canonical.response import Choice, FinishReason, Response, TokenLogprob
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects.ollama import chat, generate
from pointsman.errors import GatewayError, Kind
from pointsman.providers import ollama as provider
from pointsman.testing import Ollama, running_simulator

DIALECTS = {"/api/chat": chat, "/api/generate": generate}
REQUEST = chat.read_request(b'{"model": "asked", "messages": [{"role": "user", "content": "x"}]}', ClientCall())
PARTS = st.lists(
    st.one_of(
        st.builds(TextPart, text=st.text(min_size=1, max_size=9)),
        st.builds(ReasoningPart, text=st.text(min_size=1, max_size=9)),
        st.builds(
            ToolCallPart,
            id=st.sampled_from(["call_1", "call_2"]),
            name=st.just("f"),
            arguments=st.sampled_from(["", "{}", '{"a": [1, 2.5, "é"]}']),
        ),
    ),
    max_size=4,
)


@contextmanager
def joined(upstream: Any = None) -> Iterator[tuple[ollama.Client, Joined]]:
    bridge = Joined(DIALECTS, provider, Ollama() if upstream is None else upstream)
    with running_simulator(bridge) as running, ollama.Client(host=running.origin, timeout=20) as client:
        yield client, bridge


def answer_of(parts: list[AnyPart], reason: FinishReason = FinishReason.STOP) -> Response:
    usage = TokenUsage(input_tokens=3, output_tokens=4)
    return Response(wire="openai.chat", model="m", choices=[Choice(parts=parts, finish_reason=reason)], usage=usage)


def whole(response: Response, fidelity: Fidelity | None = None) -> dict[str, Any]:
    body = chat.write_response(response, REQUEST, IDENTITY, Fidelity() if fidelity is None else fidelity)
    found: dict[str, Any] = json.loads(body)
    return found


def lines(events: Any, fidelity: Fidelity | None = None) -> list[dict[str, Any]]:
    renderer = chat.StreamRenderer(REQUEST, IDENTITY, Fidelity() if fidelity is None else fidelity)
    data = b"".join(renderer.feed(event) for event in events)
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize("stream", [False, True])
def test_text_and_thinking_come_through(stream: bool) -> None:
    with joined() as (client, _):
        found = client.chat("m", [{"role": "user", "content": "hello there"}], think=True, stream=stream)
        parts = list(found) if stream else [found]
    assert "".join(part.message.content or "" for part in parts) == "echo: hello there"
    assert "".join(part.message.thinking or "" for part in parts) == "thinking about: hello there"
    assert (parts[-1].done, parts[-1].done_reason, parts[-1].eval_count) == (True, "stop", 7)
    assert parts[-1].total_duration
    assert parts[-1].created_at


@pytest.mark.parametrize("stream", [False, True])
def test_parallel_tool_calls_and_their_results_come_through(stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "call the tool twice"}]
    with joined() as (client, bridge):
        found = client.chat("m", messages, tools=[WEATHER, CLOCK], stream=stream)
        calls = [call for part in (found if stream else [found]) for call in part.message.tool_calls or ()]
        assert [call.function.arguments for call in calls] == [{"city": "example city"}, {}]
        messages.append({"role": "assistant", "content": "", "tool_calls": [call.model_dump() for call in calls]})
        messages.append({"role": "tool", "tool_name": "weather", "content": "sunny"})
        messages.append({"role": "tool", "tool_name": "clock", "content": "noon"})
        answer = client.chat("m", messages, tools=[WEATHER, CLOCK])
        assert answer.message.content == "echo: call the tool twice"
        assert [one.get("tool_name") for one in bridge.sent["messages"][2:]] == ["weather", "clock"]


def test_pictures_schemas_and_logprobs_come_through() -> None:
    with joined() as (client, bridge):
        messages: Any = [{"role": "user", "content": "x", "images": [PIXEL]}]
        answer = client.chat("m", messages, format="json", logprobs=True, top_logprobs=2)
        assert json.loads(answer.message.content or "") == {"echo": "x"}
        assert [one.token for one in answer.logprobs or ()] == ['{"echo":"x"}']
        assert bridge.sent["messages"][0]["images"] == [PIXEL]
        assert not bridge.fidelity


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_is_answered_with_a_response(stream: bool) -> None:
    with joined() as (client, bridge):
        found = client.generate("m", "one two", suffix="end", system="s", context=[1], stream=stream)
        parts = list(found) if stream else [found]
        assert "".join(part.response or "" for part in parts) == "echo: one two … end"
        assert next(iter(parts[-1].context or ())) == 1
        assert bridge.sent["system"] == "s"
        assert not bridge.fidelity


def test_an_upstreams_refusal_is_raised_by_the_sdk() -> None:
    with joined(Ollama(capabilities=frozenset({"completion"}))) as (client, _):
        with pytest.raises(ollama.ResponseError, match="does not support thinking") as caught:
            client.chat("m", [{"role": "user", "content": "x"}], think=True)
        assert caught.value.status_code == 400


@unhurried
@given(PARTS)
def test_a_streamed_answer_says_the_same_as_a_whole_one(parts: list[AnyPart]) -> None:
    response = answer_of(parts)
    message: dict[str, Any] = {"role": "assistant", "content": "", "thinking": "", "tool_calls": []}
    *pieces, last = lines(replay(response))
    for piece in [*pieces, last]:
        message["content"] += piece["message"]["content"]
        message["thinking"] += piece["message"].get("thinking", "")
        message["tool_calls"] += piece["message"].get("tool_calls", [])
    found = whole(response)
    assert {"thinking": "", "tool_calls": []} | found["message"] == message
    assert {key: found[key] for key in last if key != "message"} == {
        key: value for key, value in last.items() if key != "message"
    }


def test_logprobs_and_reasons_are_written() -> None:
    response = answer_of([TextPart(text="ab")], FinishReason.LENGTH)
    response.choices[0].logprobs = [TokenLogprob("ab", -0.5, [97, 98], [TokenLogprob("c", -2.0)])]
    found = whole(response)
    assert found["done_reason"] == "length"
    assert found["logprobs"] == [
        {"token": "ab", "logprob": -0.5, "bytes": [97, 98], "top_logprobs": [{"token": "c", "logprob": -2.0}]}
    ]
    assert found["created_at"] == "2026-01-21T12:53:20Z"
    assert [line["logprobs"] for line in lines(replay(response)) if "logprobs" in line] == [found["logprobs"]]


def test_summaries_are_thoughts_with_a_gap_between_sections() -> None:
    events = [
        Started(),
        PartStarted(0, 0, ReasoningPart()),
        SummaryDelta(0, 0, 0, "a"),
        SummaryDelta(0, 0, 0, "b"),
        SummaryDelta(0, 0, 1, "c"),
        PartEnded(0, 0),
        ChoiceEnded(0, FinishReason.STOP),
        Ended(),
    ]
    streamed = "".join(line["message"].get("thinking", "") for line in lines(events))
    assert streamed == "ab\n\nc"
    assert whole(answer_of([ReasoningPart(summary=["ab", "c"])]))["message"]["thinking"] == streamed


def test_what_ollama_has_no_place_for_is_told() -> None:
    fidelity = Fidelity()
    film = VideoPart(source=Source(url="https://example.org/film"))
    found = whole(answer_of([RefusalPart(text="no"), film], FinishReason.REFUSAL), fidelity)
    assert (found["message"]["content"], found["done_reason"]) == ("no", "refusal")
    assert [note.path for note in fidelity.notes] == ["refusal", "content"]


@pytest.mark.parametrize("arguments", ["{", "[]", '"x"', "1"])
def test_arguments_that_are_no_object_are_an_error_and_never_an_empty_one(arguments: str) -> None:
    response = answer_of([ToolCallPart(id="call_1", name="f", arguments=arguments)])
    with pytest.raises(GatewayError, match="no JSON object"):
        whole(response)
    found = lines(replay(response))
    assert found == [{"error": "the model called 'f' with arguments that are no JSON object"}]


def test_a_broken_stream_ends_with_an_error_and_no_done() -> None:
    error = GatewayError(Kind.UPSTREAM_ERROR, "cut")
    events = [Started(model="m"), PartStarted(0, 0, TextPart(text="half")), Failed(error), Ended()]
    *_, last = found = lines(events)
    assert last == {"error": "cut"}
    assert not any(line.get("done") for line in found)
    assert chat.render_stream_error(error, "req_1") == b'{"error":"cut"}\n'


def test_a_malformed_call_is_no_success() -> None:
    with pytest.raises(GatewayError):
        whole(answer_of([], FinishReason.MALFORMED_CALL))
    assert "error" in lines(replay(answer_of([], FinishReason.MALFORMED_CALL)))[-1]
