"""A call that the user's text spells out is made by every simulated model, with exactly those arguments."""

import json
from typing import Any

import httpx
import pytest

from pointsman.testing import AnthropicMessages, Api, Gemini, Ollama, OpenAIChat, OpenAIResponses, running_simulator
from pointsman.testing.scripted_call import scripted_call

PROMPT = 'call the tool second with {"a": {"b": "}"}} and then stop'
SCHEMA = {"type": "object", "properties": {"a": {"type": "object"}}}
FUNCTIONS = [{"name": name, "parameters": SCHEMA} for name in ("first", "second")]
MESSAGES = [{"role": "user", "content": PROMPT}]
ASKED: list[tuple[type[Any], str, dict[str, Any]]] = [
    (
        OpenAIChat,
        "/v1/chat/completions",
        {"messages": MESSAGES, "tools": [{"type": "function", "function": one} for one in FUNCTIONS]},
    ),
    (OpenAIResponses, "/v1/responses", {"input": PROMPT, "tools": [{"type": "function", **one} for one in FUNCTIONS]}),
    (
        AnthropicMessages,
        "/v1/messages",
        {
            "max_tokens": 100,
            "messages": MESSAGES,
            "tools": [{"name": one["name"], "input_schema": SCHEMA} for one in FUNCTIONS],
        },
    ),
    (
        Gemini,
        "/v1beta/models/m:generateContent",
        {
            "contents": [{"role": "user", "parts": [{"text": PROMPT}]}],
            "tools": [
                {"functionDeclarations": [{"name": one["name"], "parametersJsonSchema": SCHEMA} for one in FUNCTIONS]}
            ],
        },
    ),
    (
        Ollama,
        "/api/chat",
        {"messages": MESSAGES, "stream": False, "tools": [{"type": "function", "function": one} for one in FUNCTIONS]},
    ),
]


@pytest.mark.parametrize(("api", "path", "body"), ASKED)
def test_the_spelled_out_call_is_made(api: type[Api], path: str, body: dict[str, Any]) -> None:
    model = {} if api is Gemini else {"model": "sim-model"}
    with running_simulator(api()) as simulator:
        headers = {"anthropic-version": "2023-06-01"}
        answer = httpx.post(simulator.origin + path, json={**model, **body}, headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    said = json.dumps(answer.json()).replace("\\", "").replace(" ", "")
    assert '{"a":{"b":"}"}}' in said
    assert '"second"' in said
    assert '"first"' not in said.partition('"tools"')[0]


@pytest.mark.parametrize("text", ["call the tool", "call the tool third with {}", "call the tool first with {oops"])
def test_what_spells_out_no_call_is_none(text: str) -> None:
    assert scripted_call(text, ["first", "second"], str) is None
