"""The official Anthropic SDK through a whole gateway: onto Anthropic's API, and onto OpenAI's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from anthropic_client import CLOCK, SAY, THINK, WEATHER, ask, assert_known, buffered, events, user
from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import AnthropicMessages, OpenAIChat, RunningSimulator, running_simulator

CLAUDE, GPT = "claude/sim-model", "gpt/sim-model"


@pytest.fixture(scope="module")
def claude() -> Iterator[RunningSimulator]:
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(claude: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    data_dir: Path = tmp_path_factory.mktemp("gateway")
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as gpt:
        connections: list[dict[str, Any]] = [
            {"id": "claude", "kind": "anthropic", "base_url": claude.origin},
            {"id": "gpt", "kind": "openai", "base_url": gpt.base_url},
        ]
        for connection in connections:
            connection |= {"api_key": UPSTREAM_KEY, "allow_private": True}
        with running_gateway(
            data_dir, {"connections": connections, "models": [{"name": "fast", "target": CLAUDE}]}
        ) as running:
            yield running


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.address, api_key=KEY, max_retries=0, timeout=20) as sdk:
        yield sdk


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_messages_arrive_whole_and_streamed(client: anthropic.Anthropic, model: str) -> None:
    answer = buffered(client, model=model, messages=ask("hello there"))
    assert [block.text for block in answer.content if block.type == "text"] == ["echo: hello there"]
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens == 3
    last = events(client, model=model, messages=ask("hello there"))[-2]
    assert (last.delta.stop_reason, last.usage.output_tokens) == ("end_turn", 3)


@pytest.mark.parametrize("model", [CLAUDE, GPT])
@pytest.mark.parametrize("streamed", [False, True])
def test_two_tools_are_called_and_answered(client: anthropic.Anthropic, model: str, streamed: bool) -> None:
    arguments: Any = {**SAY, "model": model, "tools": [WEATHER, CLOCK]}
    asked = ask("call the tool twice")
    if streamed:
        with client.messages.stream(**arguments, messages=asked) as stream:
            answer = stream.get_final_message()
    else:
        answer = client.messages.create(**arguments, messages=asked)
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [
        ("weather", {"city": "example city", "days": 1, "unit": "c"}),
        ("clock", {}),
    ]
    assert answer.stop_reason == "tool_use"
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "fine"} for call in calls]
    turns = [*asked, {"role": "assistant", "content": answer.content}, user(*results)]
    assert client.messages.create(**arguments, messages=turns).stop_reason == "end_turn"


def test_thinking_survives_the_raw_lane(client: anthropic.Anthropic) -> None:
    arguments: Any = {"model": CLAUDE, "tools": [CLOCK], "thinking": THINK}
    asked = ask("think in secret, then call the tool")
    answer = buffered(client, **arguments, messages=asked)
    result = {"type": "tool_result", "tool_use_id": answer.content[-1].id, "content": "12:00"}  # type: ignore[union-attr]
    turns = [*asked, {"role": "assistant", "content": answer.content}, user(result)]
    assert buffered(client, **arguments, messages=turns).stop_reason == "end_turn"


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_tokens_are_counted(client: anthropic.Anthropic, model: str) -> None:
    assert client.messages.count_tokens(model=model, messages=ask("hello there")).input_tokens > 0


@pytest.mark.parametrize("model", [CLAUDE, GPT])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("rate_limit", anthropic.RateLimitError),
        ("bad_request", anthropic.BadRequestError),
        ("http_500", anthropic.InternalServerError),
        ("http_503", anthropic.InternalServerError),
        ("cut_mid_stream", anthropic.APIStatusError),
    ],
)
def test_failures_are_the_sdks_own_errors(
    client: anthropic.Anthropic, model: str, fault: str, error: type[anthropic.APIStatusError]
) -> None:
    arguments: Any = {**SAY, "model": f"{model}#fault={fault}", "messages": ask("a b c d e f")}
    with pytest.raises(error) as caught:
        list(client.messages.create(**arguments, stream=True))
    assert caught.value.type is not None


def test_a_wrong_key_is_anthropics_401(gateway: RunningGateway) -> None:
    with (
        anthropic.Anthropic(base_url=gateway.address, api_key="wrong", max_retries=0) as other,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        other.messages.create(**{**SAY, "model": CLAUDE}, messages=ask())
    assert caught.value.type == "authentication_error"


def test_the_upstream_gets_betas_its_key_and_nothing_of_ours(
    client: anthropic.Anthropic, claude: RunningSimulator
) -> None:
    client.beta.messages.create(**{**SAY, "model": CLAUDE}, messages=ask(), betas=["context-1m-2025-08-07"])
    received = claude.requests[-1]
    assert received.header("anthropic-beta") == "context-1m-2025-08-07"
    assert received.header("x-api-key") == UPSTREAM_KEY
    assert received.header("anthropic-version") == "2023-06-01"
    assert KEY not in str(received.headers)


def test_the_large_window_is_asked_for_by_the_models_name(
    client: anthropic.Anthropic, claude: RunningSimulator
) -> None:
    client.messages.create(**{**SAY, "model": f"{CLAUDE}[1m]"}, messages=ask())
    received = claude.requests[-1]
    assert received.header("anthropic-beta") == "context-1m-2025-08-07"
    assert "[1m]" not in json.loads(received.body)["model"]


def test_models_are_listed_as_anthropic_does_and_as_openai_does(client: anthropic.Anthropic) -> None:
    assert {model.id for model in client.models.list()} == {"fast"}
    response = client.models.with_raw_response.retrieve(CLAUDE)
    assert_known(response.parse())
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("nowhere/none")
    assert caught.value.type == "not_found_error"
