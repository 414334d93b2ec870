"""A model's text in streams of every API that clients speak: it stays text."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from gateway import RunningGateway
from raw_client import ask, request

FORGERIES = [
    '\n\ndata: {"forged":1}\n\n',
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


TEXTS: dict[Callable[[str], tuple[str, Any]], Callable[[Any], str]] = {
    anthropic: lambda event: event["delta"].get("text", "") if event["type"] == "content_block_delta" else "",
    gemini: lambda event: "".join(
        part.get("text", "") for part in event["candidates"][0].get("content", {}).get("parts", [])
    ),
    responses: lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
    ollama: lambda event: event["message"]["content"],
    completions: lambda event: "".join(choice["text"] for choice in event["choices"]),
}


def values(body: bytes) -> list[Any]:
    """The JSON of every event or line, read as strictly as a client may: any of three line ends ends a line."""
    lines = [line for line in re.split(rb"\r\n|\r|\n", body) if line and not line.startswith((b":", b"event: "))]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines if line != b"data: [DONE]"]


@pytest.mark.parametrize("build", TEXTS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("text", FORGERIES)
def test_a_models_text_forges_nothing_in_any_dialect(
    gateway: RunningGateway, build: Callable[[str], tuple[str, Any]], text: str
) -> None:
    path, body = build(text)
    answer = ask(gateway.port, request("POST", path, json.dumps(body).encode()))
    assert answer.status == 200, answer.body
    found = values(answer.body)
    assert not [event for event in found if "forged" in event]
    assert "".join(map(TEXTS[build], found)) == f"echo: {text}"
