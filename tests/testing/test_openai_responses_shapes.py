"""The official SDK is the judge of every shape the simulated Responses API emits."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent

from pointsman.testing import Behaviour, OpenAIResponses, RunningSimulator, running_simulator
from pointsman.testing.responses_values import ARGUMENTS

KEY = "sk-test-responses-1234"
# Members that OpenAI sends and its SDK has no name for.
UNNAMED = {"store", "obfuscation", "status"}
EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
ITEM: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseItem)
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    "strict": False,
}
PATCH: Any = {"type": "custom", "name": "apply_patch", "description": "x", "format": {"type": "text"}}
DOCS: Any = {
    "type": "namespace",
    "name": "mcp__docs",
    "description": "d",
    "tools": [{"type": "function", "name": "find", "parameters": {"type": "object", "properties": {}}}],
}
SEALED: Any = {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low", "summary": "auto"}}


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator(OpenAIResponses(api_key=KEY), Behaviour()) as running:
        yield running


@pytest.fixture(scope="module")
def client(simulator: RunningSimulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0, timeout=20) as sdk:
        yield sdk


def assert_strict(value: object, path: str = "$") -> None:
    """Nothing in ``value`` is unknown to the SDK."""
    if isinstance(value, pydantic.BaseModel):
        assert set(value.model_extra or ()) <= UNNAMED, f"unknown members at {path}: {value.model_extra}"
        for name in type(value).model_fields:
            assert_strict(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            assert_strict(item, f"{path}[]")


def ask(client: openai.OpenAI, text: Any = "hello there", **options: Any) -> Response:
    """A buffered answer, strictly judged."""
    raw = client.responses.with_raw_response.create(model="sim-model", input=text, **options)
    answer = Response.model_validate_json(raw.text, strict=True)
    assert_strict(answer)
    return answer


def stream(client: openai.OpenAI, text: Any = "hello there", **options: Any) -> list[Any]:
    """All events, strictly judged, in the order of their numbers."""
    arguments = {"model": "sim-model", "input": text, "stream": True, **options}
    with client.responses.with_streaming_response.create(**arguments) as response:
        lines = [line for line in response.iter_lines() if line]
    names = [line.removeprefix("event: ") for line in lines[::2]]
    events = [EVENT.validate_json(line.removeprefix("data: "), strict=True) for line in lines[1::2]]
    assert [event.type for event in events] == names
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for event in events:
        assert_strict(event)
    return events


def without_ids(answer: Response) -> Any:
    """What two answers to one request have in common."""
    members = answer.model_dump(exclude={"id", "created_at", "completed_at"})
    for item in members["output"]:
        for name in ("id", "call_id", "encrypted_content"):
            item.pop(name, None)
    return members


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"tools": [PATCH], "tool_choice": {"type": "custom", "name": "apply_patch"}},
        {"tools": [DOCS], "text": "call the tool"},
        {"tools": [WEATHER, PATCH], "text": "call the tool twice", **SEALED},
        {"tools": [{"type": "web_search"}], "text": "search the web", "include": ["web_search_call.action.sources"]},
        {"text": "please refuse"},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"max_output_tokens": 16, "text": "word " * 30},
        {"reasoning": {"effort": "high"}},
    ],
)
def test_a_stream_adds_up_to_the_buffered_answer(client: openai.OpenAI, options: dict[str, Any]) -> None:
    options = dict(options)
    text = options.pop("text", "hello there")
    whole = ask(client, text, **options)
    events = stream(client, text, **options)
    assert events[0].type == "response.created"
    assert events[0].response.status == "in_progress"
    assert without_ids(events[-1].response) == without_ids(whole)
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert done == events[-1].response.output


def test_deltas_add_up_to_the_text(client: openai.OpenAI) -> None:
    events = stream(client, "naïve 日本語 🙂\n\n two  spaces ")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == (
        "echo: naïve 日本語 🙂\n\n two  spaces "
    )
    assert all("obfuscation" in event.model_extra for event in events if event.type.endswith(".delta"))


def test_the_sdks_own_stream_helper_and_parser_accept_the_answers(client: openai.OpenAI) -> None:
    class Place(pydantic.BaseModel):
        name: str
        inhabitants: int

    with client.responses.stream(model="m", input="call the tool twice", tools=[WEATHER, WEATHER]) as events:
        final = events.get_final_response()
    assert [item.type for item in final.output] == ["function_call", "function_call"]
    parsed = client.responses.parse(model="m", input="x", text_format=Place)
    assert parsed.output_parsed == Place(name="example name", inhabitants=1)


def test_parallel_calls_have_their_own_ids_and_can_be_forbidden(client: openai.OpenAI) -> None:
    both = ask(client, "call the tool twice", tools=[WEATHER, PATCH]).output
    assert [item.type for item in both] == ["function_call", "custom_tool_call"]
    assert len({item.call_id for item in both if item.type in ("function_call", "custom_tool_call")}) == 2
    assert len(ask(client, "call the tool twice", tools=[WEATHER, PATCH], parallel_tool_calls=False).output) == 1
    (one,) = ask(client, "call the tool", tools=[DOCS]).output
    assert one.type == "function_call"
    assert (one.namespace, one.name) == ("mcp__docs", "find")


def test_a_tool_turn_goes_round_statelessly_with_encrypted_reasoning(client: openai.OpenAI) -> None:
    turns: list[Any] = [{"role": "user", "content": "call the tool"}]
    first = ask(client, turns, tools=[WEATHER], store=False, **SEALED)
    reasoning, call = first.output
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text.endswith("call the tool")
    assert call.type == "function_call"
    turns += [reasoning.model_dump(exclude_none=True), call.model_dump(exclude_none=True)]
    turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    assert ask(client, turns, tools=[WEATHER], store=False).output_text == "echo: call the tool"


def test_a_stored_response_is_gone_on_from_read_and_deleted(client: openai.OpenAI) -> None:
    first = ask(client, "call the tool", tools=[WEATHER], **SEALED)
    call = first.output[-1]
    assert call.type == "function_call"
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    second = ask(client, result, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert client.responses.retrieve(second.id).output == second.output
    page = client.responses.input_items.list(second.id)
    assert [ITEM.validate_python(item.model_dump()).type for item in page] == ["function_call_output"]
    replay = list(client.responses.retrieve(second.id, stream=True, starting_after=4))
    assert replay[0].sequence_number == 5
    assert replay[-1].type == "response.completed"
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{second.id}' not found"):
        client.responses.retrieve(second.id)


def test_a_background_response_is_queued_cancelled_and_done(client: openai.OpenAI) -> None:
    slow: Any = {"model": "m#pace_ms=60000", "input": "x", "background": True}
    queued = client.responses.create(**slow)
    assert queued.status == "queued"
    assert client.responses.retrieve(queued.id).status == "in_progress"
    assert client.responses.cancel(queued.id).status == "cancelled"
    quick = client.responses.create(model="m", input="x", background=True)
    assert client.responses.retrieve(quick.id).status == "completed"
    synchronous = client.responses.create(model="m", input="x")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(synchronous.id)


def test_tokens_of_a_request_are_counted_without_answering(client: openai.OpenAI) -> None:
    counted = client.responses.input_tokens.count(model="m", input="hello there")
    assert counted.input_tokens == ask(client).usage.input_tokens  # type: ignore[union-attr]


CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
STRICT = {**WEATHER, "strict": True}


@pytest.mark.parametrize(
    ("members", "param", "code", "words"),
    [
        ({"model": None}, "model", "missing_required_parameter", "Missing required parameter: 'model'"),
        ({"messages": []}, "messages", "unknown_parameter", "Unknown parameter: 'messages'"),
        ({"max_output_tokens": 5}, "max_output_tokens", "integer_below_min_value", ">= 16"),
        ({"temperature": 3}, "temperature", "decimal_above_max_value", "<= 2"),
        ({"input": 3}, "input", "invalid_type", "a string or an array"),
        ({"input": [{"role": "robot", "content": ""}]}, "input[0].role", "invalid_value", "'robot'"),
        ({"input": [{"type": "odd"}]}, "input[0]", "invalid_value", "'odd'"),
        ({"input": [{"role": "user", "content": "x", "odd": 1}]}, "input[0].odd", "unknown_parameter", "input[0].odd"),
        (
            {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "input[0].content[0].type",
            "invalid_value",
            "'text'",
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]},
            "input[0].content[0]",
            "invalid_value",
            "'output_text', and 'refusal'",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": {"url": "x"}}]}]},
            "input[0].content[0].image_url",
            "invalid_type",
            "expected an image URL",
        ),
        ({"input": [CALL]}, "input", None, "No tool output found for function call call_1."),
        ({"input": [OUTPUT]}, "input", None, "No tool call found for function call output with call_id call_1."),
        ({"input": [{**CALL, "id": "x"}, OUTPUT]}, "input[0].id", "invalid_value", "begins with 'fc'"),
        ({"input": [{**CALL, "call_id": "c" * 65}]}, "input[0].call_id", "string_above_max_length", "length 64"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "tools[0].name",
            "missing_required_parameter",
            "",
        ),
        ({"tools": [{"type": "function", "name": "a.b"}]}, "tools[0].name", "invalid_value", "pattern"),
        ({"tools": [STRICT]}, "tools[0].parameters", "invalid_function_parameters", "additionalProperties"),
        ({"include": ["odd"]}, "include[0]", "invalid_value", "'odd'"),
        ({"stream_options": {}}, "stream_options", None, "only allowed when 'stream' is enabled"),
        ({"text": {"format": {"type": "json_object"}}}, "input", None, "must contain the word 'json'"),
        ({"previous_response_id": "resp_x"}, "previous_response_id", "previous_response_not_found", "not found"),
    ],
)
def test_wrong_requests_get_openais_own_errors(
    client: openai.OpenAI, members: dict[str, Any], param: str, code: str | None, words: str
) -> None:
    body = {"model": "m", "input": "hello", **members}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/responses", body={k: v for k, v in body.items() if v is not None}, cast_to=Response)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert words in caught.value.message


def test_changed_or_foreign_reasoning_is_refused(client: openai.OpenAI) -> None:
    first = ask(client, "hi", store=False, **SEALED)
    item: Any = first.output[0].model_dump(exclude_none=True)
    tail: Any = [first.output[1].model_dump(exclude_none=True), {"role": "user", "content": "on"}]
    assert ask(client, [item, *tail]).output_text == "echo: on"
    sealed = item["encrypted_content"]
    broken = sealed[:60] + ("A" if sealed[60] != "A" else "B") + sealed[61:]
    for other in (broken, "", "ErUBCkYIBR"):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, [{**item, "encrypted_content": other}, *tail])
        assert caught.value.code == "invalid_encrypted_content"
    del item["encrypted_content"]
    with pytest.raises(openai.NotFoundError, match="Items are not persisted"):
        ask(client, [item, *tail])
    with pytest.raises(openai.NotFoundError, match="Item with id 'msg_x' not found"):
        ask(client, [{"type": "item_reference", "id": "msg_x"}])


def test_reasoning_and_what_follows_it_stay_together(client: openai.OpenAI) -> None:
    first = ask(client, "call the tool", tools=[WEATHER], **SEALED)
    reasoning, call = (item.model_dump(exclude_none=True) for item in first.output)
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "x"}
    with pytest.raises(openai.BadRequestError, match="without its required 'reasoning' item"):
        ask(client, [call, result])
    with pytest.raises(openai.BadRequestError, match="without its required following item"):
        ask(client, [reasoning])


def test_failures_in_mid_stream_are_events_and_faults_are_the_sdks_errors(client: openai.OpenAI) -> None:
    arguments: Any = {"model": "m#fault=error_event,after_events=5", "input": "hello there", "stream": True}
    *_, last = client.responses.create(**arguments)
    assert last.type == "error"
    assert last.code == "server_error"
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="m#fault=rate_limit", input="x")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong-key-12345").responses.create(model="m", input="x")


def test_every_parameter_of_the_sdk_is_known() -> None:
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

    assert set(ResponseCreateParamsStreaming.__annotations__) <= ARGUMENTS


def test_a_data_line_is_one_line_of_json(client: openai.OpenAI) -> None:
    for event in stream(client, 'line\nbreak " \\'):
        assert json.loads(event.model_dump_json())
