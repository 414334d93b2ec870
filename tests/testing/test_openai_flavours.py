"""What the OpenAI simulator plays beyond plain chats, as the official SDK sees it: other hosts, Azure, parts."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from raw_http import KEY

from pointsman.testing import FLAVOURS, OpenAIChat, RunningSimulator, running_simulator

TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
NOTES: Any = {"type": "custom", "custom": {"name": "notes"}}


@contextmanager
def sdk(flavour: str) -> Iterator[openai.OpenAI]:
    with (
        running_simulator(OpenAIChat(flavour=FLAVOURS[flavour])) as simulator,
        openai.OpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0, timeout=20) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def plain(simulator: RunningSimulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def ask(text: Any = "hello there") -> Any:
    return [{"role": "user", "content": text}]


def deltas(stream: Any) -> list[dict[str, Any]]:
    return [chunk.choices[0].delta.model_dump(exclude_unset=True) for chunk in stream if chunk.choices]


def test_deepseek_thinks_in_reasoning_content_buffered_and_streamed() -> None:
    with sdk("deepseek") as client:
        message = client.chat.completions.create(model="m", messages=ask()).choices[0].message
        streamed = deltas(client.chat.completions.create(model="m", messages=ask(), stream=True))
        thought = "".join(delta.get("reasoning_content") or "" for delta in streamed)
        said = "".join(delta.get("content") or "" for delta in streamed)
        off = client.chat.completions.create(
            model="m", messages=ask(), extra_body={"thinking": {"type": "disabled"}}
        ).choices[0]
    assert message.model_extra == {"reasoning_content": "Thinking about: hello there"}
    assert (thought, said) == ("Thinking about: hello there", "echo: hello there")
    assert off.message.model_extra == {}


def test_deepseek_demands_the_reasoning_of_tool_turns_back() -> None:
    with sdk("deepseek") as client:
        asked = ask("call the tool")
        called = client.chat.completions.create(model="m", messages=asked, tools=[TOOL]).choices[0].message
        result = {"role": "tool", "tool_call_id": (called.tool_calls or [])[0].id, "content": "sunny"}
        history = [*asked, called.model_dump(exclude_none=True), result]
        assert client.chat.completions.create(model="m", messages=history, tools=[TOOL]).choices[0].message.content
        del history[1]["reasoning_content"]
        with pytest.raises(openai.BadRequestError, match="must be passed back to the API"):
            client.chat.completions.create(model="m", messages=history, tools=[TOOL])


def test_deepseek_reports_usage_with_the_finish_reason_and_counts_cache_hits() -> None:
    with sdk("deepseek") as client:
        chunks = list(
            client.chat.completions.create(
                model="m",
                messages=ask(),
                stream=True,
                extra_headers={"x-simulate": "prompt_tokens=90;cached_tokens=64"},
            )
        )
    assert chunks[-1].choices[0].finish_reason == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.model_extra == {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 26}
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 4


def test_openrouters_reasoning_details_are_signed_and_a_changed_one_is_refused() -> None:
    with sdk("openrouter") as client:
        extra: Any = {"reasoning": {"effort": "high"}}
        message = client.chat.completions.create(model="m", messages=ask(), extra_body=extra).choices[0].message
        kept: Any = message.model_dump(exclude_none=True)
        client.chat.completions.create(model="m", messages=[*ask(), kept, *ask()], extra_body=extra)
        kept["reasoning_details"][0]["text"] += "!"
        with pytest.raises(openai.BadRequestError, match="Invalid `signature`"):
            client.chat.completions.create(model="m", messages=[*ask(), kept, *ask()], extra_body=extra)
        streamed = deltas(client.chat.completions.create(model="m", messages=ask(), stream=True, extra_body=extra))
    signatures = [
        part["signature"] for one in streamed for part in one.get("reasoning_details", ()) if "signature" in part
    ]
    assert signatures == [message.model_dump()["reasoning_details"][0]["signature"]]


def test_mistral_thinks_in_parts_takes_short_ids_and_refuses_unknown_members_with_422() -> None:
    with sdk("mistral") as client:
        thinking: Any = {"prompt_mode": "reasoning"}
        message = client.chat.completions.create(model="m", messages=ask(), extra_body=thinking).choices[0].message
        content: Any = message.content
        assert content[0]["thinking"] == [{"type": "text", "text": "Thinking about: hello there"}]
        any_choice: Any = "any"
        called = client.chat.completions.create(model="m", messages=ask(), tools=[TOOL], tool_choice=any_choice)
        identifier = (called.choices[0].message.tool_calls or [])[0].id
        assert len(identifier) == 9
        call: Any = {"id": "call_too_long", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        wrong: Any = [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": ""},
        ]
        with pytest.raises(openai.BadRequestError, match="length of 9"):
            client.chat.completions.create(model="m", messages=[*ask(), *wrong])
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            client.chat.completions.create(model="m", messages=ask(), extra_body={"top_k": 5})
        assert "Extra inputs are not permitted" in refused.value.response.text


def test_groq_names_its_reasoning_reports_usage_in_x_groq_and_refuses_properties() -> None:
    with sdk("groq") as client:
        chunks = list(client.chat.completions.create(model="m", messages=ask(), stream=True, reasoning_effort="low"))
        assert "".join(
            (chunk.choices[0].delta.model_extra or {}).get("reasoning", "") for chunk in chunks if chunk.choices
        )
        assert (chunks[-1].model_extra or {})["x_groq"]["usage"]["total_tokens"] > 0
        with pytest.raises(openai.BadRequestError, match="property 'top_k' is unsupported"):
            client.chat.completions.create(model="m", messages=ask(), extra_body={"top_k": 5})


def test_think_tags_stand_in_the_text() -> None:
    with sdk("think_tags") as client:
        whole = client.chat.completions.create(model="m", messages=ask()).choices[0].message.content
        streamed = deltas(client.chat.completions.create(model="m", messages=ask(), stream=True))
    assert whole == "<think>\nThinking about: hello there\n</think>\n\necho: hello there"
    assert "".join(delta.get("content") or "" for delta in streamed) == whole


def test_openai_hides_its_reasoning_and_counts_it(plain: openai.OpenAI) -> None:
    answer = plain.chat.completions.create(model="m", messages=ask(), reasoning_effort="high")
    assert not answer.choices[0].message.model_extra
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4


def test_a_custom_tool_is_called_with_text(plain: openai.OpenAI) -> None:
    answer = plain.chat.completions.create(model="m", messages=ask("call the tool twice"), tools=[NOTES, TOOL])
    first, second = answer.choices[0].message.tool_calls or []
    assert first.type == "custom"
    assert first.custom.input == "example input of notes"
    assert second.type == "function"
    with plain.chat.completions.stream(model="m", messages=ask("call the tool"), tools=[TOOL]) as stream:
        final = stream.get_final_completion().choices[0].message.tool_calls or []
    assert json.loads(final[0].function.arguments) == {"city": "example city"}
    chunks = plain.chat.completions.create(model="m", messages=ask("call the tool"), tools=[NOTES], stream=True)
    calls = [call for delta in deltas(chunks) for call in delta.get("tool_calls", ())]
    assert "".join(call["custom"]["input"] for call in calls) == "example input of notes"


def test_an_answer_can_be_spoken(plain: openai.OpenAI) -> None:
    wanted: Any = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    answer = plain.chat.completions.create(model="m", messages=ask(), **wanted)
    audio = answer.choices[0].message.audio
    assert audio is not None
    assert base64.b64decode(audio.data).decode() == audio.transcript == "echo: hello there"
    assert answer.choices[0].message.content is None
    wanted["audio"]["format"] = "pcm16"
    parts = [
        delta["audio"]
        for delta in deltas(plain.chat.completions.create(model="m", messages=ask(), stream=True, **wanted))
        if "audio" in delta
    ]
    assert base64.b64decode("".join(part.get("data", "") for part in parts)).decode() == audio.transcript


def test_a_refusal_is_no_content(plain: openai.OpenAI) -> None:
    message = plain.chat.completions.create(model="m", messages=ask("please refuse")).choices[0].message
    assert (message.content, message.refusal) == (None, "I'm sorry, but I can't help with that.")
    streamed = deltas(plain.chat.completions.create(model="m", messages=ask("please refuse"), stream=True))
    assert "".join(delta.get("refusal") or "" for delta in streamed) == message.refusal


def test_sources_are_named_when_the_web_was_asked(plain: openai.OpenAI) -> None:
    message = plain.chat.completions.create(model="m", messages=ask(), web_search_options={}).choices[0].message
    assert message.annotations is not None
    assert message.annotations[0].url_citation.end_index == len(message.content or "")


def test_parts_that_are_no_text_are_told_in_the_echo(plain: openai.OpenAI) -> None:
    parts = [
        {"type": "text", "text": "see "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAAAAAA", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    said = plain.chat.completions.create(model="m", messages=ask(parts)).choices[0].message.content
    assert said == (
        "echo: see [image image/png 4 characters][audio wav 8 characters]"
        "[file a.pdf application/pdf 2 characters][file file-1]"
    )


def test_azure_names_the_deployment_in_the_path_and_reports_its_filter() -> None:
    with (
        running_simulator(OpenAIChat(api_key=KEY)) as simulator,
        openai.AzureOpenAI(
            azure_endpoint=simulator.origin, api_key=KEY, api_version="2024-10-21", max_retries=0
        ) as client,
    ):
        answer = client.chat.completions.create(model="my-gpt", messages=ask())
        assert answer.model == "my-gpt"
        assert (answer.model_extra or {})["prompt_filter_results"][0]["prompt_index"] == 0
        chunks = list(client.chat.completions.create(model="my-gpt", messages=ask(), stream=True))
        assert chunks[0].choices == []
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "echo: hello there"
        with pytest.raises(openai.BadRequestError) as blocked:
            client.chat.completions.create(model="my-gpt", messages=ask("block this prompt"))
        assert blocked.value.code == "content_filter"
        with pytest.raises(openai.AuthenticationError, match="invalid subscription key"):
            client.with_options(api_key="wrong").chat.completions.create(model="my-gpt", messages=ask())
        wrong = openai.AzureOpenAI(azure_endpoint=simulator.origin, api_key=KEY, api_version="soon", max_retries=0)
        with wrong, pytest.raises(openai.NotFoundError, match="Resource not found"):
            wrong.chat.completions.create(model="m", messages=ask())


def test_legacy_completions_answer_several_prompts(plain: openai.OpenAI) -> None:
    answer = plain.completions.create(model="m", prompt=["one", "two"], n=2, logprobs=1, echo=True)
    assert [choice.text for choice in answer.choices] == [
        "oneecho: one", "oneecho 1: one", "twoecho: two", "twoecho 1: two",
    ]  # fmt: skip
    assert answer.choices[0].logprobs is not None
    assert answer.usage is not None
    chunks = list(
        plain.completions.create(model="m", prompt="one", stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "echo: one"
    assert chunks[-1].usage is not None
    with pytest.raises(openai.BadRequestError, match="Unrecognized request argument supplied: messages"):
        plain.completions.create(model="m", prompt="x", extra_body={"messages": []})


def test_a_long_prompts_beginning_is_read_from_the_cache_the_second_time() -> None:
    with sdk("openai") as client:
        system: Any = [{"role": "system", "content": "rule " * 2000}]

        def cached(question: str, key: str | None = None) -> int:
            options: Any = {} if key is None else {"prompt_cache_key": key}
            answer = client.chat.completions.create(model="m", messages=[*system, *ask(question)], **options)
            assert answer.usage is not None
            assert answer.usage.prompt_tokens_details is not None
            return answer.usage.prompt_tokens_details.cached_tokens or 0

        assert cached("one") == 0
        assert cached("two") == 2432  # 2,507 tokens in steps of 128
        assert cached("three", "another key") == 0
