"""The official SDK is the judge of every shape the Gemini simulator emits."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pydantic
import pytest
from google import genai
from google.auth.credentials import Credentials
from google.genai import errors, types
from raw_http import KEY

from pointsman.testing import Behaviour, Gemini, RunningSimulator, running_simulator
from pointsman.testing.reply import Request
from pointsman.wire.gemini_schema import BLOCK_REASONS, FINISH_REASONS

WEATHER = types.FunctionDeclaration(
    name="weather",
    parameters_json_schema={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["c", "f"]}},
    },
)
CLOCK = types.FunctionDeclaration(name="clock")
TOOLS: Any = [types.Tool(function_declarations=[WEATHER, CLOCK])]
THINKING = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)


class Token(Credentials):
    """A bearer token that never ends."""

    def __init__(self, token: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = token

    def refresh(self, request: object) -> None:
        """Nothing to refresh."""


@pytest.fixture(scope="module")
def gemini() -> Iterator[RunningSimulator]:
    with running_simulator(Gemini(api_key=KEY, models=("sim-model", "sim-large"))) as running:
        yield running


@pytest.fixture(scope="module", params=["gemini", "vertex", "express"])
def client(request: pytest.FixtureRequest, gemini: RunningSimulator) -> Iterator[genai.Client]:
    """The SDK with a key of the Gemini API, with a token for Vertex AI, and with Vertex AI's express key."""
    options = types.HttpOptions(base_url=gemini.origin, timeout=5000)
    if request.param == "gemini":
        made = genai.Client(api_key=KEY, http_options=options)
    elif request.param == "vertex":
        made = genai.Client(vertexai=True, project="p", location="l", credentials=Token(KEY), http_options=options)
    else:
        made = genai.Client(vertexai=True, api_key=KEY, http_options=options)
    yield made
    made.close()


@pytest.fixture
def keyed(gemini: RunningSimulator) -> Iterator[genai.Client]:
    made = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=gemini.origin, timeout=5000))
    yield made
    made.close()


def ask(client: genai.Client, contents: Any = "hello there", **config: Any) -> types.GenerateContentResponse:
    return client.models.generate_content(
        model="sim-model", contents=contents, config=types.GenerateContentConfig(**no_automation(config))
    )


def stream(client: genai.Client, contents: Any = "hello there", **config: Any) -> list[types.GenerateContentResponse]:
    return list(
        client.models.generate_content_stream(
            model="sim-model", contents=contents, config=types.GenerateContentConfig(**no_automation(config))
        )
    )


def no_automation(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "automatic_function_calling": {"disable": True}}


def parts(answer: types.GenerateContentResponse) -> list[types.Part]:
    assert answer.candidates
    content = answer.candidates[0].content
    return (content.parts or []) if content else []


def merged(chunks: list[types.GenerateContentResponse]) -> tuple[str, str]:
    thoughts = "".join(part.text or "" for chunk in chunks for part in parts(chunk) if part.thought)
    text = "".join(part.text or "" for chunk in chunks for part in parts(chunk) if not part.thought)
    return thoughts, text


def raw(body: Any, path: str = "/v1beta/models/sim-model:generateContent", **headers: str) -> tuple[int, Any]:
    """The simulator's answer without a socket: what the SDK can't be made to send."""
    request = Request(
        method="POST",
        path=path,
        headers=tuple(headers.items()),
        body=json.dumps(body).encode(),
        http_version="1.1",
        keep_alive=True,
    )
    reply = Gemini().answer(request, Behaviour())
    whole = reply.body if reply.events is None else b"".join(event.data for event in reply.events)
    return reply.status, json.loads(whole)


def text_body(text: str = "hello", **members: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **members}


def test_an_answer_echoes_and_reports_its_usage(client: genai.Client) -> None:
    answer = ask(client)
    assert answer.text == "echo: hello there"
    assert answer.model_version == "sim-model"
    assert answer.response_id
    usage = answer.usage_metadata
    assert usage
    assert (usage.prompt_token_count, usage.candidates_token_count) == (5, 3)
    assert usage.total_token_count == 8


def test_a_stream_says_what_the_buffered_answer_says(client: genai.Client) -> None:
    chunks = stream(client)
    assert merged(chunks)[1] == ask(client).text
    assert chunks[-1].usage_metadata
    assert chunks[-1].usage_metadata.total_token_count == 8
    assert chunks[-1].candidates
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert all(chunk.response_id == chunks[0].response_id for chunk in chunks)


def test_every_member_of_an_answer_is_known_to_the_sdk(gemini: RunningSimulator) -> None:
    config = {
        "candidateCount": 2,
        "responseLogprobs": True,
        "logprobs": 2,
        "thinkingConfig": {"includeThoughts": True},
        "responseModalities": ["TEXT", "IMAGE", "AUDIO"],
    }
    tools: Any = [{"googleSearch": {}}, {"codeExecution": {}}, {"urlContext": {}}]
    for path in ("/v1beta/models/m:generateContent", "/v1/publishers/google/models/m:generateContent"):
        for body in (
            text_body(generationConfig=config, tools=tools),
            text_body("call the tool twice", tools=[{"functionDeclarations": [{"name": "a"}, {"name": "b"}]}]),
            text_body("block with SAFETY"),
            text_body("finish with SAFETY"),
        ):
            status, answer = raw(body, path)
            assert status == 200
            assert_known(answer, types.GenerateContentResponse)


def assert_known(value: Any, model: Any, path: str = "$") -> None:
    """``value`` has no member that the SDK's ``model`` doesn't have, at any depth."""
    made = model.model_validate(value)
    known = {(field.alias or name): name for name, field in model.model_fields.items()}
    for key, inner in value.items():
        assert key in known, f"{path}.{key} is unknown"
        got = getattr(made, known[key])
        if isinstance(got, pydantic.BaseModel):
            assert_known(inner, type(got), f"{path}.{key}")
        elif isinstance(got, list) and got and isinstance(got[0], pydantic.BaseModel):
            for position, one in enumerate(inner):
                assert_known(one, type(got[0]), f"{path}.{key}[{position}]")


def test_the_tool_is_called_with_arguments_of_its_schema_and_answers_are_taken(client: genai.Client) -> None:
    first = ask(client, "call the tool", tools=TOOLS)
    calls = first.function_calls
    assert calls
    assert [(call.name, call.args) for call in calls] == [("weather", {"city": "example city", "days": 1, "unit": "c"})]
    history = [
        types.UserContent("call the tool"),
        first.candidates[0].content,  # type: ignore[index]
        types.Content(role="user", parts=[result(calls[0], {"sky": "blue"})]),
    ]
    assert ask(client, history, tools=TOOLS).text == "echo: call the tool"


def result(call: types.FunctionCall, response: dict[str, Any]) -> types.Part:
    return types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response=response))


def test_parallel_calls_stream_whole_and_only_the_first_is_signed(client: genai.Client) -> None:
    chunks = stream(client, "call the tool twice", tools=TOOLS)
    called = [part for chunk in chunks for part in parts(chunk) if part.function_call]
    assert [part.function_call.name for part in called if part.function_call] == ["weather", "clock"]
    assert [bool(part.thought_signature) for part in called] == [True, False]
    assert len({part.function_call.id for part in called if part.function_call}) == 2


def test_thoughts_come_first_and_are_counted(client: genai.Client) -> None:
    answer = ask(client, thinking_config=THINKING)
    assert [bool(part.thought) for part in parts(answer)] == [True, False]
    assert parts(answer)[1].thought_signature
    assert answer.usage_metadata
    assert answer.usage_metadata.thoughts_token_count == 8
    chunks = stream(client, thinking_config=THINKING)
    assert merged(chunks) == (parts(answer)[0].text, parts(answer)[1].text)
    assert parts(chunks[-1])[0].thought_signature


def turn(**part: Any) -> dict[str, Any]:
    """A conversation whose call has the members ``part``."""
    called = {"functionCall": {"name": "weather", "args": {"days": 1}}, **part}
    return {
        "contents": [
            {"role": "user", "parts": [{"text": "call the tool"}]},
            {"role": "model", "parts": [called]},
            {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"sky": "blue"}}}]},
        ]
    }


def test_a_call_without_its_signature_is_refused_in_the_current_turn_only() -> None:
    status, answer = raw(turn())
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "missing a thought_signature in functionCall parts" in answer["error"]["message"]
    assert "`default_api:weather` , position 2" in answer["error"]["message"]
    earlier = turn()
    earlier["contents"].append({"role": "user", "parts": [{"text": "and now?"}]})
    assert raw(earlier)[0] == 200
    assert raw(turn(), "/v1beta/models/gemini-2.5-flash:generateContent")[0] == 200
    assert raw(turn(thoughtSignature="skip_thought_signature_validator"))[0] == 200


def test_a_changed_or_moved_signature_is_refused(keyed: genai.Client) -> None:
    first = ask(keyed, "call the tool", tools=TOOLS)
    signature = parts(first)[0].thought_signature
    assert signature
    changed = base64.b64encode(signature[:-1] + b"x").decode()
    moved = base64.b64encode(signature).decode()
    for wrong in (changed, moved):
        status, answer = raw(turn(thoughtSignature=wrong))
        assert (status, answer["error"]["message"]) == (400, "Corrupted thought signature.")


def test_structured_output_follows_either_kind_of_schema(client: genai.Client) -> None:
    class City(pydantic.BaseModel):
        name: str
        size: int

    schema = City.model_json_schema()
    for config in ({"response_schema": City}, {"response_json_schema": schema}):
        answer = ask(client, response_mime_type="application/json", **config)
        assert json.loads(answer.text or "") == {"name": "example name", "size": 1}


def test_pictures_are_counted_and_made(client: genai.Client) -> None:
    picture = types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png")
    answer = ask(client, [picture, "paint"], response_modalities=["TEXT", "IMAGE"])
    blob = parts(answer)[0].inline_data
    assert blob
    assert (blob.mime_type, (blob.data or b"")[:4]) == ("image/png", b"\x89PNG")
    usage = answer.usage_metadata
    assert usage
    assert usage.prompt_tokens_details
    assert {one.modality: one.token_count for one in usage.prompt_tokens_details}[types.MediaModality.IMAGE] == 258


def test_tokens_are_counted_as_usage_counts_them(client: genai.Client) -> None:
    assert client.models.count_tokens(model="sim-model", contents="hello there").total_tokens == 5


def test_models_are_listed_page_by_page_and_one_by_one(client: genai.Client) -> None:
    listed = client.models.list(config={"page_size": 1})
    assert [str(model.name).rpartition("/")[2] for model in listed] == ["sim-model", "sim-large"]
    assert str(client.models.get(model="sim-large").name).endswith("models/sim-large")


def test_cached_tokens_are_part_of_the_prompt(keyed: genai.Client) -> None:
    answer = ask(keyed, cached_content="cachedContents/abc")
    usage = answer.usage_metadata
    assert usage
    assert usage.cached_content_token_count == 2048
    assert usage.prompt_token_count == 2053


@pytest.mark.parametrize("reason", sorted(FINISH_REASONS))
def test_every_finish_reason_can_be_had(reason: str) -> None:
    assert raw(text_body(f"finish with {reason}"))[1]["candidates"][0]["finishReason"] == reason
    assert types.FinishReason(reason).value == reason


@pytest.mark.parametrize("reason", sorted(BLOCK_REASONS))
def test_every_reason_to_block_a_prompt_can_be_had(reason: str) -> None:
    answer = raw(text_body(f"block with {reason}"))[1]
    assert answer["promptFeedback"]["blockReason"] == reason
    assert "candidates" not in answer


def test_a_short_limit_can_be_used_up_by_thoughts(keyed: genai.Client) -> None:
    answer = ask(keyed, thinking_config=THINKING, max_output_tokens=2)
    assert answer.candidates
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert answer.text is None


def test_a_wrong_key_and_a_wrong_token_are_told_apart(gemini: RunningSimulator) -> None:
    options = types.HttpOptions(base_url=gemini.origin)
    keyed = genai.Client(api_key="wrong", http_options=options)
    with closing(keyed), pytest.raises(errors.ClientError, match="API key not valid") as refused:
        ask(keyed)
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    vertex = genai.Client(vertexai=True, project="p", location="l", credentials=Token("x"), http_options=options)
    words = "invalid authentication credentials"
    with closing(vertex), pytest.raises(errors.ClientError, match=words) as refused:
        ask(vertex)
    assert (refused.value.code, refused.value.status) == (401, "UNAUTHENTICATED")


def test_a_rate_limit_says_in_the_body_when_to_come_back(gemini: RunningSimulator) -> None:
    headers = {"x-simulate": "fault=rate_limit;retry_after=7"}
    options = types.HttpOptions(base_url=gemini.origin, headers=headers)
    with closing(genai.Client(api_key=KEY, http_options=options)) as sdk, pytest.raises(errors.ClientError) as refused:
        ask(sdk)
    details = refused.value.details["error"]["details"]
    assert details[-1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}


def test_unknown_members_are_named_with_their_place() -> None:
    status, answer = raw(text_body(generation_config={"foo": 1}, bar=2))
    assert status == 400
    violations = answer["error"]["details"][0]["fieldViolations"]
    assert violations == [
        {
            "field": "generation_config",
            "description": "Invalid JSON payload received. Unknown name \"foo\" at 'generation_config': "
            "Cannot find field.",
        },
        {"description": 'Invalid JSON payload received. Unknown name "bar": Cannot find field.'},
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "contents is not specified"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "a"}]}]}, "valid role: user, model"),
        ({"contents": [{"parts": [{}]}]}, "required oneof field 'data'"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "'contents[0].parts[0].text' (TYPE_STRING), 1"),
        ({"contents": [{"parts": [{"text": "a", "inlineData": {}}]}]}, "Cannot set 'inlineData'"),
        ({"contents": [{"parts": [{"functionResponse": {"name": "f"}}]}]}, "comes immediately after a function call"),
        (text_body(generationConfig={"temperature": 3}), "temperature must be in the range"),
        (text_body(generationConfig={"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "LOW"}}), "only one of"),
        (text_body(safetySettings=[{"category": "X"}]), 'HarmCategory), "X"'),
        (text_body(toolConfig={"functionCallingConfig": {"mode": "ANY"}}), "without function_declarations"),
        (text_body(tools=[{"functionDeclarations": [{"name": "a b"}]}]), "Invalid function name"),
        (
            text_body(tools=[{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}]),
            "should be non-empty for OBJECT type",
        ),
        (
            text_body(tools=[{"functionDeclarations": [{"name": "f", "parameters": {"additionalProperties": False}}]}]),
            "additionalProperties",
        ),
        (text_body(labels={"a": "b"}), 'Unknown name "labels"'),
        (text_body(cachedContent="cachedContents/a", tools=[{"googleSearch": {}}]), "CachedContent can not be used"),
    ],
)
def test_wrong_requests_are_refused_in_googles_words(body: Any, words: str) -> None:
    status, answer = raw(body)
    assert (status, answer["error"]["code"], answer["error"]["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert words in answer["error"]["message"]


def test_snake_case_is_as_good_as_camel_case() -> None:
    body = text_body(
        system_instruction={"parts": [{"text": "be brief"}]},
        generation_config={"max_output_tokens": 1, "thinking_config": {"thinking_budget": 0}},
    )
    status, answer = raw(body)
    assert (status, answer["candidates"][0]["finishReason"]) == (200, "MAX_TOKENS")


def test_without_sse_a_stream_and_its_errors_are_arrays() -> None:
    path = "/v1beta/models/sim-model:streamGenerateContent"
    status, chunks = raw(text_body(), path)
    assert status == 200
    assert "".join(chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks) == "echo: hello"
    status, failed = raw({}, path)
    assert (status, failed[0]["error"]["code"]) == (400, 400)


def test_forced_modes_are_obeyed(client: genai.Client) -> None:
    def mode(name: str, allowed: list[str] | None = None) -> types.ToolConfig:
        calling = types.FunctionCallingConfig(
            mode=types.FunctionCallingConfigMode(name), allowed_function_names=allowed
        )
        return types.ToolConfig(function_calling_config=calling)

    assert not ask(client, "call the tool", tools=TOOLS, tool_config=mode("NONE")).function_calls
    forced = ask(client, "hello", tools=TOOLS, tool_config=mode("ANY", ["clock"])).function_calls
    assert [call.name for call in forced or []] == ["clock"]


@pytest.mark.parametrize("alt", ["?alt=sse", ""])
def test_an_error_in_mid_stream_stands_in_the_framing_of_the_stream(gemini: RunningSimulator, alt: str) -> None:
    path = f"{gemini.origin}/v1beta/models/sim-model:streamGenerateContent{alt}"
    headers = {"x-goog-api-key": KEY, "x-simulate": "fault=error_event;after_events=2"}
    call = urllib.request.Request(path, json.dumps(text_body()).encode(), headers, method="POST")
    with urllib.request.urlopen(call, timeout=20) as answer:
        data = answer.read()
    if alt:
        chunks = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")]
    else:
        chunks = json.loads(data)
    assert len(chunks) == 3
    assert chunks[-1]["error"]["status"] == "INTERNAL"


def test_a_broken_event_stays_an_event_of_its_own(gemini: RunningSimulator) -> None:
    path = f"{gemini.origin}/v1beta/models/sim-model:streamGenerateContent?alt=sse"
    headers = {"x-goog-api-key": KEY, "x-simulate": "fault=malformed_json;after_events=1"}
    call = urllib.request.Request(path, json.dumps(text_body()).encode(), headers, method="POST")
    with urllib.request.urlopen(call, timeout=20) as answer:
        events = [event.removeprefix(b"data: ") for event in answer.read().split(b"\r\n\r\n") if event]
    assert len(events) == 3
    for event in (events[0], events[2]):
        json.loads(event)
    with pytest.raises(json.JSONDecodeError):
        json.loads(events[1])
