"""Full requests of other APIs' clients for Gemini models, as strict as Google takes them."""

import json
from typing import Any

import pytest
from tests import ollama_fixtures, responses_samples
from tests.providers.test_openai_chat_requests import FULL

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.dialects import anthropic, openai_chat, openai_responses
from pointsman.dialects.ollama import chat as ollama_chat
from pointsman.dialects.ollama import generate as ollama_generate
from pointsman.providers import gemini
from pointsman.testing.gemini_request import parse
from pointsman.testing.gemini_rules import check_values
from pointsman.testing.gemini_signature import check_signatures

ANTHROPIC: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "UE5H"}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "UERG"},
                    "title": "a title",
                    "citations": {"enabled": True},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hmm", "signature": "signed"},
                {"type": "redacted_thinking", "data": "hidden"},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "blue"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "broken", "is_error": True},
                {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ],
        },
    ],
    "tools": [
        {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
        {"name": "clock", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
    ],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "metadata": {"user_id": "u1"},
    "stop_sequences": ["END"],
    "temperature": 1.0,
    "top_k": 4,
    "stream": True,
}


def without_uploads(value: Any) -> Any:
    """``value`` without parts that name another API's uploaded files: they are refused, not dropped."""
    if isinstance(value, list):
        return [without_uploads(one) for one in value if "file_id" not in json.dumps(one) or not is_upload(one)]
    return {key: without_uploads(one) for key, one in value.items()} if isinstance(value, dict) else value


def is_upload(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("file", "input_file", "input_image")


REQUESTS = {
    "chat": (openai_chat, FULL),
    "responses": (openai_responses, responses_samples.MESSAGES),
    "responses tools": (openai_responses, responses_samples.TOOLS),
    "responses options": (openai_responses, responses_samples.OPTIONS),
    "responses native": (openai_responses, responses_samples.NATIVE),
    "anthropic": (anthropic, ANTHROPIC),
    "ollama chat": (ollama_chat, ollama_fixtures.CHAT),
    "ollama generate": (ollama_generate, ollama_fixtures.GENERATE),
}


@pytest.mark.parametrize("model", ["gemini-3-pro", "gemini-2.5-flash"])
@pytest.mark.parametrize("name", list(REQUESTS))
def test_google_takes_what_becomes_of_a_full_request(name: str, model: str) -> None:
    dialect, body = REQUESTS[name]
    request = dialect.read_request(json.dumps(without_uploads(body)).encode(), ClientCall())
    built = gemini.build_request(request, Upstream(model=model), Fidelity()).body
    read = parse(built, "GenerateContentRequest", vertex=False)
    check_values(read)
    check_signatures(read["contents"], required=model == "gemini-3-pro")
