"""The official SDK talks to a Gemini upstream through our own words, and notices nothing."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest
from gemini_hub import KEY, GeminiHub
from google import genai
from google.genai import errors, types

from pointsman.canonical.halves import Upstream
from pointsman.testing import Behaviour, Gemini, RunningSimulator, running_simulator
from pointsman.testing.reply import Reply

TOOLS: Any = [
    types.Tool(
        function_declarations=[
            types.FunctionDeclaration(
                name="weather",
                parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
            ),
            types.FunctionDeclaration(name="clock"),
        ]
    )
]
THINKING = types.ThinkingConfig(include_thoughts=True)
MANUAL = types.AutomaticFunctionCallingConfig(disable=True)


@pytest.fixture(scope="module", params=["gemini", "vertex"])
def hub(request: pytest.FixtureRequest) -> Iterator[RunningSimulator]:
    options = {"project": "p", "location": "l"} if request.param == "vertex" else {}
    with running_simulator(GeminiHub(Gemini(api_key=KEY), options)) as running:
        yield running


@pytest.fixture(scope="module")
def client(hub: RunningSimulator) -> Iterator[genai.Client]:
    made = genai.Client(api_key="any", http_options=types.HttpOptions(base_url=hub.origin, timeout=5000))
    yield made
    made.close()


def ask(client: genai.Client, contents: Any, **config: Any) -> types.GenerateContentResponse:
    made = types.GenerateContentConfig(automatic_function_calling=MANUAL, **config)
    return client.models.generate_content(model="sim-model", contents=contents, config=made)


def stream(client: genai.Client, contents: Any, **config: Any) -> list[types.GenerateContentResponse]:
    made = types.GenerateContentConfig(automatic_function_calling=MANUAL, **config)
    return list(client.models.generate_content_stream(model="sim-model", contents=contents, config=made))


def parts_of(chunks: list[types.GenerateContentResponse]) -> list[types.Part]:
    return [
        part
        for chunk in chunks
        for candidate in chunk.candidates or []
        if candidate.content
        for part in candidate.content.parts or []
    ]


def test_text_and_usage(client: genai.Client) -> None:
    answer = ask(client, "hello there")
    assert answer.text == "echo: hello there"
    chunks = stream(client, "hello there")
    assert "".join(chunk.text or "" for chunk in chunks) == answer.text
    for usage in (answer.usage_metadata, chunks[-1].usage_metadata):
        assert usage
        assert (usage.prompt_token_count, usage.candidates_token_count, usage.total_token_count) == (5, 3, 8)


def test_thoughts_and_their_counts(client: genai.Client) -> None:
    answer = ask(client, "hello", thinking_config=THINKING)
    chunks = stream(client, "hello", thinking_config=THINKING)
    thoughts = "".join(part.text or "" for part in parts_of(chunks) if part.thought)
    assert thoughts.startswith("**Considering")
    assert thoughts == parts_of([answer])[0].text
    for one in (answer, chunks[-1]):
        assert one.usage_metadata
        assert one.usage_metadata.thoughts_token_count


@pytest.mark.parametrize("streamed", [False, True])
def test_parallel_calls_with_signatures_come_back_and_are_taken(client: genai.Client, streamed: bool) -> None:
    text = "call the tool twice"
    got = stream(client, text, tools=TOOLS) if streamed else [ask(client, text, tools=TOOLS)]
    called = [part for part in parts_of(got) if part.function_call]
    assert [part.function_call.name for part in called if part.function_call] == ["weather", "clock"]
    assert [bool(part.thought_signature) for part in called] == [True, False]
    history: list[Any] = [
        types.UserContent(text),
        types.Content(role="model", parts=called),
        types.Content(role="user", parts=[answered(part) for part in called]),
    ]
    assert ask(client, history, tools=TOOLS).text == f"echo: {text}"


def answered(part: types.Part) -> types.Part:
    call = part.function_call
    assert call
    return types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"ok": True}))


def test_a_client_that_lost_the_signature_gets_an_answer_all_the_same(client: genai.Client) -> None:
    called = [part for part in parts_of([ask(client, "call the tool", tools=TOOLS)]) if part.function_call]
    called[0].thought_signature = None
    history: list[Any] = [
        types.UserContent("call the tool"),
        types.Content(role="model", parts=called),
        types.Content(role="user", parts=[answered(called[0])]),
    ]
    assert ask(client, history, tools=TOOLS).text == "echo: call the tool"


def test_structured_output(client: genai.Client) -> None:
    schema = {"type": "object", "properties": {"sky": {"type": "string"}}}
    answer = ask(client, "hello", response_mime_type="application/json", response_json_schema=schema)
    assert json.loads(answer.text or "") == {"sky": "example sky"}


def test_media_in_and_out(client: genai.Client) -> None:
    picture = types.Part.from_bytes(data=b"PNG", mime_type="image/png")
    for got in (
        [ask(client, [picture, "x"], response_modalities=["TEXT", "IMAGE", "AUDIO"])],
        stream(client, [picture, "x"], response_modalities=["TEXT", "IMAGE", "AUDIO"]),
    ):
        kinds = [part.inline_data.mime_type for part in parts_of(got) if part.inline_data]
        assert kinds == ["image/png", "audio/L16;codec=pcm;rate=24000"]


def test_search_results_keep_their_grounding(client: genai.Client) -> None:
    search: Any = [types.Tool(google_search=types.GoogleSearch())]
    for got in ([ask(client, "hello", tools=search)], stream(client, "hello", tools=search)):
        candidates = got[-1].candidates
        assert candidates
        grounding = candidates[0].grounding_metadata
        assert grounding
        assert grounding.grounding_chunks
        assert grounding.grounding_chunks[0].web
        assert got[-1].usage_metadata
        assert got[-1].usage_metadata.tool_use_prompt_token_count == 42


def test_every_candidate_comes_with_its_log_probabilities(client: genai.Client) -> None:
    answer = ask(client, "hello", candidate_count=2, response_logprobs=True, logprobs=1)
    assert [candidate.index for candidate in answer.candidates or []] == [0, 1]
    for candidate in answer.candidates or []:
        assert candidate.logprobs_result
        assert candidate.logprobs_result.chosen_candidates
        assert candidate.logprobs_result.top_candidates


def test_a_blocked_prompt_and_a_blocked_answer(client: genai.Client) -> None:
    for got in (ask(client, "block with JAILBREAK"), stream(client, "block with JAILBREAK")[-1]):
        assert got.prompt_feedback
        assert got.prompt_feedback.block_reason == types.BlockedReason.JAILBREAK
        assert not got.candidates
    for got in (ask(client, "finish with SPII"), stream(client, "finish with SPII")[-1]):
        assert got.candidates
        assert got.candidates[0].finish_reason == types.FinishReason.SPII


def test_tokens_are_counted(client: genai.Client) -> None:
    assert client.models.count_tokens(model="sim-model", contents="hello there").total_tokens == 5


def test_refusals_of_the_upstream_reach_the_client(hub: RunningSimulator) -> None:
    for fault, code, status in (
        ("rate_limit", 429, "RESOURCE_EXHAUSTED"),
        ("context_length", 400, "INVALID_ARGUMENT"),
        ("http_503", 503, "UNAVAILABLE"),
        ("unauthorized", 502, "FAILED_PRECONDITION"),
    ):
        options = types.HttpOptions(base_url=hub.origin, headers={"x-simulate": f"fault={fault}"})
        with (
            closing(genai.Client(api_key="any", http_options=options)) as sdk,
            pytest.raises(errors.APIError) as refused,
        ):
            ask(sdk, "hello")
        assert (refused.value.code, refused.value.status) == (code, status)


def test_a_mistake_is_told_with_its_member(client: genai.Client, hub: RunningSimulator) -> None:
    call = urllib.request.Request(
        f"{hub.origin}/v1beta/models/m:streamGenerateContent", b'{"contents":[{"parts":[{"text":1}]}]}', method="POST"
    )
    with pytest.raises(urllib.request.HTTPError) as refused:
        urllib.request.urlopen(call, timeout=20)
    with refused.value as answer:
        error = json.loads(answer.read())[0]["error"]
    assert error["code"] == 400
    assert error["details"][1]["fieldViolations"][0]["field"] == "contents[0].parts[0].text"


def test_without_sse_the_stream_is_an_array(hub: RunningSimulator) -> None:
    call = urllib.request.Request(
        f"{hub.origin}/v1beta/models/m:streamGenerateContent",
        b'{"contents":[{"parts":[{"text":"hi"}]}]}',
        method="POST",
    )
    with urllib.request.urlopen(call, timeout=20) as answer:
        chunks = json.loads(answer.read())
    texts = [part["text"] for chunk in chunks for part in chunk["candidates"][0].get("content", {}).get("parts", [])]
    assert "".join(texts) == "echo: hi"
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
    assert chunks[-1]["usageMetadata"]["totalTokenCount"] == 5


class Cut(GeminiHub):
    """An upstream whose streams end before their last chunk."""

    def _send(self, built: Any, behaviour: Behaviour, target: Upstream) -> Reply:
        reply = super()._send(built, behaviour, target)
        if reply.events is None:
            return reply
        return msgspec.structs.replace(reply, events=list(reply.events)[:-1])


def test_an_answer_that_breaks_off_is_an_error_for_the_sdk() -> None:
    with running_simulator(Cut(Gemini(), {})) as running:
        options = types.HttpOptions(base_url=running.origin, timeout=5000)
        words = "before its answer was whole"
        sdk = genai.Client(api_key="any", http_options=options)
        with closing(sdk), pytest.raises(errors.ServerError, match=words) as broken:
            stream(sdk, "hello there")
    assert (broken.value.code, broken.value.status) == (502, "UNAVAILABLE")
