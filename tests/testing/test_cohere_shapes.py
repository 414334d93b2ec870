"""The official SDK is the judge of every shape the Cohere simulator emits."""

import json
from collections.abc import Iterator
from typing import Any

import cohere
import cohere.core
import httpx
import pytest

from pointsman.testing import Cohere, RunningSimulator, running_simulator

KEY = "co-simulated-0123456789"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
DOCUMENTS: Any = [{"id": "a", "data": {"text": "Alpha"}}, "Beta"]


@pytest.fixture(scope="module")
def upstream() -> Iterator[RunningSimulator]:
    with running_simulator(Cohere(api_key=KEY, only_listed=True)) as running:
        yield running


@pytest.fixture(scope="module")
def client(upstream: RunningSimulator) -> Iterator[cohere.ClientV2]:
    with httpx.Client(timeout=20) as transport:
        yield cohere.ClientV2(KEY, base_url=upstream.origin, max_retries=0, httpx_client=transport)


def ask(text: str = "hello there", **members: Any) -> Any:
    return {"model": "sim-model", "messages": [{"role": "user", "content": text}], **members}


def assert_strict(answer: Any) -> None:
    """The answer has no member that the SDK does not know, at any depth that it models."""
    assert (answer.model_extra or {}) == {}
    for name in type(answer).model_fields:
        value = getattr(answer, name)
        for one in value if isinstance(value, list) else [value]:
            if hasattr(one, "model_extra"):
                assert_strict(one)


def events(client: cohere.ClientV2, **request: Any) -> list[Any]:
    found = list(client.chat_stream(**request))
    assert found[0].type == "message-start"
    assert found[-1].type == "message-end"
    for one in found[1:]:
        assert_strict(one)
    return found


def streamed(found: list[Any], kind: str) -> str:
    contents = [one.delta.message.content for one in found if one.type == "content-delta"]
    return "".join(getattr(content, kind) or "" for content in contents)


def test_a_buffered_answer_has_only_members_that_the_sdk_knows(client: cohere.ClientV2) -> None:
    answer = client.chat(**ask())
    assert_strict(answer)
    assert answer.message.content
    assert answer.message.content[0].text == "echo: hello there"
    assert answer.finish_reason == "COMPLETE"
    assert answer.usage
    assert answer.usage.billed_units
    assert answer.usage.billed_units.output_tokens == 3
    assert answer.usage.tokens
    assert (answer.usage.tokens.input_tokens or 0) > (answer.usage.billed_units.input_tokens or 0)


def test_a_stream_says_the_same_as_a_buffered_answer(client: cohere.ClientV2) -> None:
    found = events(client, **ask())
    assert [one.type for one in found] == [
        "message-start",
        "content-start",
        *["content-delta"] * 3,
        "content-end",
        "message-end",
    ]
    assert streamed(found, "text") == "echo: hello there"
    assert found[-1].delta.usage == client.chat(**ask()).usage


def test_thinking_is_a_block_of_its_own_before_the_text(client: cohere.ClientV2) -> None:
    request = ask(thinking={"type": "enabled", "token_budget": 100})
    answer = client.chat(**request)
    assert [block.type for block in answer.message.content or ()] == ["thinking", "text"]
    found = events(client, **request)
    assert streamed(found, "thinking") == "thinking about: hello there"
    assert streamed(found, "text") == "echo: hello there"
    assert [one.index for one in found if one.type == "content-start"] == [0, 1]


def test_tools_are_planned_then_called_in_parallel(client: cohere.ClientV2) -> None:
    request = ask("call the tool twice", tools=[WEATHER, CLOCK])
    answer = client.chat(**request)
    assert_strict(answer)
    assert answer.finish_reason == "TOOL_CALL"
    assert answer.message.tool_plan == "I will call weather."
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in answer.message.tool_calls or ()]
    assert calls == [("weather", {"city": "example city"}), ("clock", {})]
    found = events(client, **request)
    plan = "".join(one.delta.message.tool_plan for one in found if one.type == "tool-plan-delta")
    assert plan == answer.message.tool_plan
    arguments = {0: "", 1: ""}
    for one in found:
        if one.type == "tool-call-delta":
            arguments[one.index] += one.delta.message.tool_calls.function.arguments
    assert [json.loads(text) for text in arguments.values()] == [{"city": "example city"}, {}]
    assert found[-1].delta.finish_reason == "TOOL_CALL"


def test_tool_results_are_cited_and_must_answer_a_call(client: cohere.ClientV2) -> None:
    first = client.chat(**ask("call the tool", tools=[WEATHER]))
    (call,) = first.message.tool_calls or ()
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "blue"}'}
    messages: Any = [ask("call the tool")["messages"][0], first.message, result]
    answer = client.chat(model="sim-model", messages=messages, tools=[WEATHER])
    assert answer.message.citations
    (source,) = answer.message.citations[0].sources or ()
    assert (source.type, source.id, source.tool_output) == ("tool", f"{call.id}:0", {"sky": "blue"})
    result["tool_call_id"] = "weather_unknown"
    with pytest.raises(cohere.BadRequestError, match="does not match any tool call"):
        client.chat(model="sim-model", messages=messages, tools=[WEATHER])


def test_documents_are_cited_unless_citations_are_off(client: cohere.ClientV2) -> None:
    answer = client.chat(**ask(documents=DOCUMENTS))
    assert_strict(answer)
    (citation,) = answer.message.citations or ()
    assert (citation.start, citation.end, citation.text) == (0, 5, "echo:")
    assert [source.id for source in citation.sources or ()] == ["a", "doc:1"]
    assert client.chat(**ask(documents=DOCUMENTS, citation_options={"mode": "OFF"})).message.citations is None
    kinds = [one.type for one in events(client, **ask(documents=DOCUMENTS))]
    assert kinds[-4:] == ["citation-start", "citation-end", "content-end", "message-end"]


def test_a_schema_gets_an_object_that_fits_it(client: cohere.ClientV2) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    answer = client.chat(**ask(response_format={"type": "json_object", "json_schema": schema}))
    assert json.loads((answer.message.content or [])[0].text) == {"age": 1}


def test_limits_stops_and_logprobs(client: cohere.ClientV2) -> None:
    assert client.chat(**ask(max_tokens=2)).finish_reason == "MAX_TOKENS"
    assert client.chat(**ask(stop_sequences=["there"])).finish_reason == "STOP_SEQUENCE"
    answer = client.chat(**ask(logprobs=True))
    assert [one.text for one in answer.logprobs or ()] == ["echo:", " hello", " there"]
    found = [one.logprobs for one in events(client, **ask(logprobs=True)) if one.type == "content-delta"]
    assert [one.text for one in found] == ["echo:", " hello", " there"]


def test_cached_tokens_are_reported(client: cohere.ClientV2) -> None:
    answer = client.chat(**{**ask(), "model": "sim-model#cached_tokens=7,prompt_tokens=40"})
    assert answer.usage
    assert answer.usage.cached_tokens == 7


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"nonsense": 1}, "unknown field: parameter 'nonsense' is not a valid field"),
        ({"temperature": 3}, "temperature must be between 0 and 1.0 inclusive"),
        ({"k": 501}, "k must be between 0 and 500 inclusive"),
        ({"tool_choice": "REQUIRED"}, "tool_choice is only supported when tools are provided"),
        ({"stop_sequences": list("abcdef")}, "at most 5"),
        ({"thinking": {"type": "enabled", "token_budget": 0}}, "positive integer"),
        ({"response_format": {"type": "json_object"}, "documents": ["x"]}, "response_format is not supported with RAG"),
        ({"messages": []}, "messages must contain at least one message"),
        ({"messages": [{"role": "user", "content": ""}]}, "message must not be empty in a turn"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role must be one of"),
    ],
)
def test_wrong_requests_are_refused(upstream: RunningSimulator, members: dict[str, Any], message: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{upstream.origin}/v2/chat", json={**ask(), **members}, headers=headers, timeout=20)
    assert answer.status_code == 400
    assert message in answer.json()["message"]


def test_keys_and_models_are_checked(upstream: RunningSimulator, client: cohere.ClientV2) -> None:
    with httpx.Client(timeout=20) as transport:
        wrong = cohere.ClientV2("other", base_url=upstream.origin, max_retries=0, httpx_client=transport)
        with pytest.raises(cohere.UnauthorizedError, match="invalid api token"):
            wrong.chat(**ask())
    with pytest.raises(cohere.NotFoundError, match="model 'other' not found"):
        client.chat(**{**ask(), "model": "other"})
    assert [model.name for model in client.models.list().models] == ["sim-model"]


@pytest.mark.parametrize(
    ("fault", "status"),
    [("rate_limit", 429), ("http_500", 500), ("http_503", 503), ("unauthorized", 401), ("context_length", 400)],
)
def test_faults_refuse_in_coheres_shape(client: cohere.ClientV2, fault: str, status: int) -> None:
    with pytest.raises(cohere.core.ApiError) as caught:
        client.chat(**{**ask(), "model": f"sim-model#fault={fault}"})
    assert caught.value.status_code == status
    assert set(caught.value.body) == {"id", "message"}


def test_an_error_in_mid_stream_is_a_message_end_with_an_error(client: cohere.ClientV2) -> None:
    found = events(client, **{**ask(), "model": "sim-model#fault=error_event"})
    assert found[-1].delta.finish_reason == "ERROR"
    assert "internal server error" in found[-1].delta.error
