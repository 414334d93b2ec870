"""The official SDK through both halves: every answer arrives as the simulator gave it, strictly read."""

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from anthropic_client import CLOCK, SAY, THINK, WEATHER, ask, assert_strict, buffered, events, user
from anthropic_passage import Passage
from pointsman.testing import AnthropicMessages, RunningSimulator, running_simulator

SEARCH: Any = {"type": "web_search_20250305", "name": "web_search"}
CODE: Any = {"type": "code_execution_20250825", "name": "code_execution"}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
CITED: Any = {"citations": {"enabled": True}}
EVERYTHING: list[dict[str, Any]] = [
    {"messages": ask()},
    {"messages": ask("call the tool twice"), "tools": [WEATHER, CLOCK]},
    {"messages": ask("think, then call the tool"), "tools": [WEATHER], "thinking": THINK},
    {"messages": ask("think in secret"), "thinking": {"type": "adaptive", "display": "omitted"}},
    {"messages": ask("search the web and run the code"), "tools": [SEARCH, CODE]},
    {"messages": ask("search the web, then pause the turn"), "tools": [SEARCH]},
    {"messages": ask("please refuse")},
    {"messages": ask("a b c d e f g h"), "max_tokens": 3},
    {"messages": ask("a b c STOP d"), "stop_sequences": ["x", "STOP"]},
    {"messages": ask("mark it"), "cache_control": {"type": "ephemeral", "ttl": "1h"}, "system": "Be brief. " * 40},
    {
        "messages": [
            user(
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A. B."}, **CITED},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "text", "text": "cite"},
            )
        ],
        "output_config": {"effort": "low"},
        "metadata": {"user_id": "u"},
    },
]


@pytest.fixture(scope="module")
def direct() -> Iterator[anthropic.Anthropic]:
    with running_simulator(AnthropicMessages()) as running:
        yield from client_of(running)


@pytest.fixture(scope="module")
def passage() -> Passage:
    return Passage(AnthropicMessages())


@pytest.fixture(scope="module")
def through(passage: Passage) -> Iterator[anthropic.Anthropic]:
    with running_simulator(passage) as running:
        yield from client_of(running)


def client_of(running: RunningSimulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.origin, api_key="any", max_retries=0, timeout=20) as sdk:
        yield sdk


def bare(answer: Any) -> Any:
    """An answer without its ids and without what the simulator's cache remembers."""
    found = answer.model_dump(exclude_none=True)
    for block in found["content"]:
        block.pop("id", None)
        block.pop("tool_use_id", None)
        block.pop("parsed_output", None)
    found.get("container", {}).clear()
    found["usage"].pop("inference_geo", None)
    return {**found, "id": "", "model": ""}


@pytest.mark.parametrize("arguments", EVERYTHING)
def test_a_buffered_answer_arrives_as_it_was(
    direct: anthropic.Anthropic, through: anthropic.Anthropic, passage: Passage, arguments: dict[str, Any]
) -> None:
    assert bare(buffered(through, **arguments)) == bare(buffered(direct, **arguments))
    assert passage.fidelity.notes == []


@pytest.mark.parametrize("arguments", EVERYTHING)
def test_a_streamed_answer_is_the_buffered_one(through: anthropic.Anthropic, arguments: dict[str, Any]) -> None:
    buffered(through, **arguments)  # so that both find the same in the simulator's cache
    whole = bare(buffered(through, **arguments))
    assert events(through, **arguments)[0].type == "message_start"
    with through.messages.stream(**{**SAY, **arguments}) as stream:
        assert bare(stream.get_final_message()) == whole


def test_thinking_and_tools_survive_a_whole_tool_loop(through: anthropic.Anthropic) -> None:
    asked = ask("think in secret, then call the tool twice")
    arguments: Any = {"tools": [CLOCK, WEATHER], "thinking": THINK}
    with through.messages.stream(**SAY, messages=asked, **arguments) as stream:
        answer = stream.get_final_message()
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "12:00"}
        for block in answer.content
        if block.type == "tool_use"
    ]
    turns = [*asked, {"role": "assistant", "content": answer.content}, user(*results)]
    assert buffered(through, messages=turns, **arguments).stop_reason == "end_turn"


def test_beta_members_pass_with_their_header(through: anthropic.Anthropic) -> None:
    response = through.beta.messages.with_raw_response.create(
        **SAY,
        messages=ask("ask the server"),
        mcp_servers=[{"type": "url", "url": "https://mcp.example", "name": "helper"}],
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
        betas=["mcp-client-2025-11-20", "context-management-2025-06-27"],
    )
    answer = response.parse()
    assert_strict(answer, response.text())
    assert [block.type for block in answer.content] == ["mcp_tool_use", "mcp_tool_result", "text"]
    assert answer.context_management is not None


def test_a_refusal_of_the_upstream_is_the_sdks_own_error(through: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="made_up: Extra inputs are not permitted"):
        through.messages.create(**SAY, messages=ask(), extra_body={"made_up": 1})
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].content' is missing"):
        through.messages.create(**SAY, messages=[{"role": "user"}])  # type: ignore[typeddict-item]
