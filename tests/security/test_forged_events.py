"""A model's text in streams of every API that clients speak: it stays text."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import AnthropicMessages, RunningSimulator, running_simulator
from raw_client import CHAT, ask, request

FORGERIES = [
    '\n\ndata: {"forged":1}\n\n',
    '\n\ndata:{"forged":1}\n\n',
    '\r\n\r\nevent: error\r\ndata: {"forged":1}\r\n\r\n',
    '\r\rdata: {"forged":1}\r\r',
    '\n{"forged":1,"done":true}\n',
    '"}}\n\ndata: {"forged":1}\n\n',
    "\u2028\u2029\x85\x0b\x0c\x00",
]
MODEL = "sim/sim-model"


def anthropic(text: str) -> tuple[str, Any]:
    """A message."""
    message = {"role": "user", "content": text}
    return "/v1/messages", {"model": MODEL, "max_tokens": 500, "stream": True, "messages": [message]}


def gemini(text: str) -> tuple[str, Any]:
    """A streamed generation, as events."""
    contents = [{"role": "user", "parts": [{"text": text}]}]
    return f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse", {"contents": contents}


def responses(text: str) -> tuple[str, Any]:
    """A streamed response."""
    return "/v1/responses", {"model": MODEL, "input": text, "stream": True, "store": False}


def ollama(text: str) -> tuple[str, Any]:
    """A chat, as lines."""
    return "/api/chat", {"model": MODEL, "messages": [{"role": "user", "content": text}]}


def completions(text: str) -> tuple[str, Any]:
    """A completion of the old kind."""
    return "/v1/completions", {"model": MODEL, "prompt": text, "stream": True}


def chat(text: str) -> tuple[str, Any]:
    """A chat whose chunks are written here: its upstream speaks another API."""
    return CHAT, {"model": "claude/sim-model", "messages": [{"role": "user", "content": text}], "stream": True}


TEXTS: dict[Callable[[str], tuple[str, Any]], Callable[[Any], str]] = {
    anthropic: lambda event: event["delta"].get("text", "") if event["type"] == "content_block_delta" else "",
    gemini: lambda event: "".join(
        part.get("text", "") for part in event["candidates"][0].get("content", {}).get("parts", [])
    ),
    responses: lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
    ollama: lambda event: event["message"]["content"],
    completions: lambda event: "".join(choice["text"] for choice in event["choices"]),
    chat: lambda event: "".join(choice["delta"].get("content") or "" for choice in event["choices"]),
}


@pytest.fixture(scope="module")
def gateway(shared_simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with upstreams of two APIs."""
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as claude:
        connections = [
            {"id": "sim", "kind": "openai", "base_url": shared_simulator.base_url, "api_key": UPSTREAM_KEY},
            {"id": "claude", "kind": "anthropic", "base_url": claude.origin, "api_key": UPSTREAM_KEY},
        ]
        with running_gateway(tmp_path_factory.mktemp("forged"), {"connections": connections}) as running:
            yield running


def value(line: bytes) -> Any:
    """The JSON of a line; a line that is none as it came."""
    try:
        return json.loads(line.removeprefix(b"data:"))
    except ValueError:
        return line


def values(body: bytes) -> list[Any]:
    """What every event or line holds, read as strictly as a client may: any of three line ends ends a line."""
    lines = [line for line in re.split(rb"\r\n|\r|\n", body) if line and not line.startswith((b":", b"event: "))]
    return [value(line) for line in lines if line != b"data: [DONE]"]


@pytest.mark.parametrize("build", TEXTS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("text", FORGERIES)
def test_a_models_text_forges_nothing_in_any_dialect(
    gateway: RunningGateway, build: Callable[[str], tuple[str, Any]], text: str
) -> None:
    path, body = build(text)
    answer = ask(gateway.port, request("POST", path, json.dumps(body).encode()))
    assert answer.status == 200, answer.body
    found = values(answer.body)
    assert not [event for event in found if not isinstance(event, dict) or "forged" in event]
    assert "".join(map(TEXTS[build], found)) == f"echo: {text}"
