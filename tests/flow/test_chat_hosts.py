"""Clients of other APIs through the gateway onto hosts that speak Chat Completions, each in its own way."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import Outcome
from pointsman.testing import FLAVOURS, OpenAIChat, RunningSimulator, running_simulator
from raw_client import Connection, ask, chat

HOSTS = {"deepseek": "deepseek", "mistral": "mistral", "groq": "groq", "openrouter": "openrouter", "vllm": "think_tags"}
HELLO: Any = [{"role": "user", "content": "hello there"}]
WEATHER: Any = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, RunningSimulator]]:
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, flavour=FLAVOURS[flavour])))
            for kind, flavour in (*HOSTS.items(), ("azure", "openai"))
        }


@pytest.fixture(scope="module")
def gateway(
    upstreams: dict[str, RunningSimulator], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    data: Path = tmp_path_factory.mktemp("hosts")
    rows = [
        {
            "id": kind,
            "kind": kind,
            "base_url": simulator.origin if kind == "azure" else simulator.base_url,
            "api_key": UPSTREAM_KEY,
        }
        for kind, simulator in upstreams.items()
    ]
    with running_gateway(data, {"connections": rows}) as running:
        yield running


@pytest.fixture(scope="module")
def claude(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.address, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def gpt(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.parametrize("kind", HOSTS)
def test_an_anthropic_client_gets_text_whole_and_streamed_from_every_host(
    claude: anthropic.Anthropic, kind: str
) -> None:
    asked: Any = {"model": f"{kind}/sim-model", "max_tokens": 100, "messages": HELLO}
    whole = claude.messages.create(**asked)
    assert "".join(block.text for block in whole.content if block.type == "text") == "echo: hello there"
    assert whole.usage.output_tokens > 0
    with claude.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == "echo: hello there"
        assert stream.get_final_message().stop_reason == "end_turn"


@pytest.mark.parametrize("kind", HOSTS)
def test_an_anthropic_client_completes_a_tool_turn_on_every_host(
    claude: anthropic.Anthropic, upstreams: dict[str, RunningSimulator], kind: str
) -> None:
    asked: Any = {"model": f"{kind}/sim-model", "max_tokens": 1000, "tools": [WEATHER]}
    messages: list[Any] = [{"role": "user", "content": "call the tool twice"}]
    called = claude.messages.create(**asked, messages=messages)
    calls = [block for block in called.content if block.type == "tool_use"]
    assert [call.input for call in calls] == [{"city": "example city"}] * 2
    assert called.stop_reason == "tool_use"
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    # A client that keeps no thinking: the gateway has to remember what DeepSeek wants back.
    kept = [call.model_dump() for call in calls]
    messages += [{"role": "assistant", "content": kept}, {"role": "user", "content": results}]
    answer = claude.messages.create(**asked, messages=messages)
    assert "".join(block.text for block in answer.content if block.type == "text").startswith("echo")


def test_azure_is_reached_by_deployment_and_header(
    claude: anthropic.Anthropic, gpt: openai.OpenAI, upstreams: dict[str, RunningSimulator]
) -> None:
    answer = claude.messages.create(model="azure/my-gpt", max_tokens=100, messages=HELLO)
    assert answer.model == "my-gpt"
    assert gpt.chat.completions.create(model="azure/my-gpt", messages=HELLO).model == "my-gpt"
    for received in upstreams["azure"].requests:
        assert received.path.startswith("/openai/deployments/my-gpt/chat/completions?api-version=")
        assert received.header("api-key") == UPSTREAM_KEY
        assert received.header("authorization") is None


@pytest.mark.parametrize("kind", HOSTS)
def test_a_legacy_client_gets_text_whole_and_streamed_from_every_host(gpt: openai.OpenAI, kind: str) -> None:
    whole = gpt.completions.create(model=f"{kind}/sim-model", prompt="hello there", max_tokens=100)
    assert whole.choices[0].text == "echo: hello there"
    assert whole.usage is not None
    stream = gpt.completions.create(
        model=f"{kind}/sim-model", prompt="hello there", stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "echo: hello there"
    assert chunks[-1].usage is not None


def test_what_a_host_refuses_is_left_out_and_named(gpt: openai.OpenAI) -> None:
    raw = gpt.completions.with_raw_response.create(
        model="groq/sim-model", prompt="hello there", logprobs=1, logit_bias={"1": 5}
    )
    assert raw.parse().choices[0].text == "echo: hello there"
    told = raw.headers["x-pointsman-fidelity"]
    assert "dropped=" in told
    assert "logit_bias" in told
    with pytest.raises(openai.BadRequestError, match="strict mode"):
        gpt.completions.create(
            model="groq/sim-model", prompt="x", logit_bias={"1": 5}, extra_headers={"x-pointsman-strict": "1"}
        )


@pytest.mark.parametrize("fault", ["cut_mid_stream", "missing_terminator", "malformed_json", "error_event"])
def test_a_broken_stream_is_an_error_for_a_legacy_client(gpt: openai.OpenAI, fault: str) -> None:
    stream = gpt.completions.create(model=f"groq/sim-model#tokens=20,fault={fault}", prompt="hello", stream=True)
    with pytest.raises(openai.APIError):
        list(stream)


def test_a_chat_client_that_strips_reasoning_completes_a_tool_turn_on_deepseek(gpt: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER["input_schema"]}}]
    asked: Any = {"model": "deepseek/sim-model", "tools": tools, "max_completion_tokens": 1000}
    messages: list[Any] = [{"role": "user", "content": "call the tool"}]
    raw = gpt.chat.completions.with_raw_response.create(**asked, messages=messages)
    message = raw.parse().choices[0].message
    assert message.model_extra == {"reasoning_content": "Thinking about: call the tool"}
    call = (message.tool_calls or [])[0]
    messages.append({"role": "assistant", "content": None, "tool_calls": [call.model_dump()]})
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    answer = gpt.chat.completions.create(**asked, messages=messages)
    assert (answer.choices[0].message.content or "").startswith("echo")


def test_a_chat_client_speaks_openais_words_to_mistral(
    gpt: openai.OpenAI, upstreams: dict[str, RunningSimulator]
) -> None:
    raw = gpt.chat.completions.with_raw_response.create(
        model="mistral/sim-model", messages=HELLO, seed=5, max_completion_tokens=50, user="ann", tool_choice="required",
        tools=[{"type": "function", "function": {"name": "weather"}}],
    )  # fmt: skip
    assert raw.parse().choices[0].finish_reason == "tool_calls"
    assert "user" in raw.headers["x-pointsman-fidelity"]
    body = upstreams["mistral"].requests[-1].body
    for sent in (b'"random_seed":5', b'"max_tokens":50', b'"tool_choice":"any"'):
        assert sent in body


def test_several_choices_come_from_a_host_that_gives_one(gpt: openai.OpenAI) -> None:
    answer = gpt.chat.completions.create(model="groq/sim-model", messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_what_is_left_out_of_several_calls_is_named_as_well(gpt: openai.OpenAI) -> None:
    raw = gpt.chat.completions.with_raw_response.create(
        model="groq/sim-model", messages=HELLO, n=2, logit_bias={"1": 5}
    )
    assert len(raw.parse().choices) == 2
    assert "logit_bias" in raw.headers["x-pointsman-fidelity"]


def test_what_is_left_out_of_several_calls_is_noted_once(gpt: openai.OpenAI) -> None:
    create = gpt.chat.completions.with_raw_response.create
    told = [create(model="groq/sim-model", messages=HELLO, n=n, logit_bias={"1": 5}).headers for n in (2, 4)]
    assert told[0]["x-pointsman-fidelity"] == told[1]["x-pointsman-fidelity"]


def test_of_several_calls_those_that_were_made_count_though_the_last_never_was(
    upstreams: dict[str, RunningSimulator], tmp_path: Path
) -> None:
    host = upstreams["groq"]
    row = {"id": "groq", "kind": "groq", "base_url": host.base_url, "api_key": UPSTREAM_KEY, "max_concurrent": 1}
    settings = {"connections": [row], "limits": {"key_requests_per_minute": 2}}
    before = host.log.total
    with running_gateway(tmp_path, settings) as gateway:
        with Connection(gateway.port) as connection:
            connection.send(chat(model="groq/sim-model#first_token_ms=700", n=3))
            wait_until(lambda: host.log.total == before + 2, "second call")
        record = wait_until(gateway.journal.records, "record")[0]
        assert (record.outcome, record.input_tokens > 0) == (Outcome.CLIENT_CLOSED, True)
        answer = ask(gateway.port, chat(model="groq/sim-model"))
        assert (answer.status, answer.headers["x-ratelimit-remaining-requests"]) == (200, "0")


def test_calls_beside_a_failed_one_are_counted(gpt: openai.OpenAI, gateway: RunningGateway) -> None:
    whole = gpt.chat.completions.create(model="groq/sim-model#tokens=5", messages=HELLO)
    assert whole.usage is not None
    with pytest.raises(openai.InternalServerError) as caught:
        gpt.chat.completions.create(model="groq/sim-model#tokens=5,fault=http_500,fail_first=1", messages=HELLO, n=3)
    record = gateway.journal.the(caught.value.response.headers["x-request-id"])
    assert record.output_tokens == 2 * whole.usage.completion_tokens
    assert record.input_tokens == 2 * whole.usage.prompt_tokens


def test_a_plain_chat_still_passes_untouched(gpt: openai.OpenAI, upstreams: dict[str, RunningSimulator]) -> None:
    raw = gpt.chat.completions.with_raw_response.create(
        model="groq/sim-model", messages=HELLO, temperature=0.5, extra_headers={"x-pointsman-strict": "1"}
    )
    assert "x-pointsman-fidelity" not in raw.headers
    assert raw.parse().system_fingerprint == "fp_simulated0"
