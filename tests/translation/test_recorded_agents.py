"""Requests of real coding agents, recorded behind a tool's result and shortened: every upstream format takes them."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import Outcome
from pointsman.testing import AnthropicMessages, Gemini, OpenAIChat, RunningSimulator, running_simulator

RECORDED = Path(__file__).with_name("recorded")
RAN = "tool-ran-42"
PAIRS = [
    ("claude_code", "openai"),
    ("claude_code", "gemini"),
    ("codex", "openai"),
    ("codex", "anthropic"),
    ("codex", "gemini"),
    ("opencode", "openai"),
    ("opencode", "anthropic"),
    ("opencode", "gemini"),
]


class Stand:
    """A gateway in front of one simulator of each format."""

    def __init__(self, gateway: RunningGateway, simulators: dict[str, RunningSimulator]) -> None:
        self.gateway = gateway
        self.simulators = simulators

    def send(self, agent: str, format_name: str, model: str = "sim-model", **headers: str) -> httpx.Response:
        """The agent's recorded request, onto an upstream of this format."""
        recorded = recording(agent)
        return httpx.post(
            self.gateway.address + recorded["path"],
            json={**recorded["body"], "model": f"{format_name}/{model}"},
            headers={**recorded["headers"], "authorization": f"Bearer {KEY}", **headers},
            timeout=10,
        )

    def received(self, format_name: str) -> dict[str, Any]:
        """What the upstream got last."""
        body: dict[str, Any] = json.loads(self.simulators[format_name].requests[-1].body)
        return body


@cache
def recording(agent: str) -> dict[str, Any]:
    """What the agent sent: path, headers, body."""
    found: dict[str, Any] = json.loads((RECORDED / f"{agent}.json").read_text())
    return found


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with (
        running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as openai,
        running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as anthropic,
        running_simulator(Gemini(api_key=UPSTREAM_KEY)) as gemini,
    ):
        simulators = {"openai": openai, "anthropic": anthropic, "gemini": gemini}
        connections = [
            {
                "id": name,
                "kind": name,
                "base_url": one.base_url if name == "openai" else one.origin,
                "api_key": UPSTREAM_KEY,
                "models": ["sim-model", "claude-sonnet-4-5"],
            }
            for name, one in simulators.items()
        ]
        with running_gateway(tmp_path_factory.mktemp("agents"), {"connections": connections}) as gateway:
            yield Stand(gateway, simulators)


@pytest.mark.parametrize(("agent", "format_name"), PAIRS)
def test_a_tool_result_of_an_agent_reaches_the_upstream_and_the_answer_ends_well(
    stand: Stand, agent: str, format_name: str
) -> None:
    answer = stand.send(agent, format_name)
    assert answer.status_code == 200, answer.text
    assert "echo: " in answer.text.replace('"echo:"', '"echo: "')
    body = json.dumps(stand.received(format_name))
    assert body.count(RAN) == 1
    [record] = wait_until(lambda: stand.gateway.journal.of(answer.headers["x-request-id"]), "record")
    assert record.outcome is Outcome.SUCCESS


@pytest.mark.parametrize(("agent", "format_name"), PAIRS)
def test_every_tool_of_an_agent_is_at_the_upstream_or_in_the_ledger(stand: Stand, agent: str, format_name: str) -> None:
    answer = stand.send(agent, format_name)
    [record] = wait_until(lambda: stand.gateway.journal.of(answer.headers["x-request-id"]), "record")
    told = {path for path, _, _ in json.loads(record.fidelity or "[]")}
    body = stand.received(format_name)
    sent = json.dumps(body["tools"])
    for number, tool in enumerate(recording(agent)["body"]["tools"]):
        for inner in tool.get("tools", [tool]):
            name = inner.get("name") or inner.get("function", {}).get("name")
            assert (name is not None and f'{name}"' in sent) or f"tools[{number}]" in told, tool


def test_an_instruction_in_mid_conversation_stays_in_its_place(stand: Stand) -> None:
    stand.send("claude_code", "openai")
    roles = [message["role"] for message in stand.received("openai")["messages"]]
    assert roles == ["system", "user", "system", "assistant", "tool"]
    stand.send("claude_code", "gemini")
    assert "<system>" in json.dumps(stand.received("gemini")["contents"][0])


def test_a_long_name_of_the_caller_is_shortened_to_what_openai_takes(stand: Stand) -> None:
    stand.send("claude_code", "openai")
    first = stand.received("openai")["user"]
    stand.send("claude_code", "openai")
    assert len(first) <= 64
    assert stand.received("openai")["user"] == first


def test_a_strict_caller_may_send_an_empty_text_beside_a_call(stand: Stand) -> None:
    assert recording("opencode")["body"]["messages"][2]["content"] == ""
    assert stand.send("opencode", "anthropic", **{"x-pointsman-strict": "1"}).status_code == 200


def test_namespaces_are_kept_in_the_names_of_tools(stand: Stand) -> None:
    stand.send("codex", "anthropic")
    names = [tool["name"] for tool in stand.received("anthropic")["tools"]]
    assert "multi_agent_v1__spawn_agent" in names


def test_an_agent_that_names_no_limit_gets_a_long_answer_of_claude(stand: Stand) -> None:
    assert stand.send("codex", "anthropic", model="claude-sonnet-4-5").status_code == 200
    assert stand.received("anthropic")["max_tokens"] >= 32_000


def test_calls_of_another_model_are_gone_on_from_without_thinking(stand: Stand) -> None:
    assert stand.send("codex", "anthropic").status_code == 200
    assert "thinking" not in stand.received("anthropic")


def test_the_base_address_answers_the_probe_of_claude_code(stand: Stand) -> None:
    assert httpx.head(f"{stand.gateway.address}/", timeout=10).status_code < 500
