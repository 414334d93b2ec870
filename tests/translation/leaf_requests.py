"""Requests of every dialect that together hold all that its clients can say, and every kind of upstream they go to."""

from types import ModuleType
from typing import Any, Final

import msgspec
from tests import ollama_fixtures, responses_samples
from tests.dialects.test_anthropic_reading import WHOLE as ANTHROPIC
from tests.providers.test_openai_chat_requests import FULL as CHAT
from tests.translation import gemini_requests

from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.dialects import anthropic, gemini, openai_chat, openai_completions, openai_responses
from pointsman.dialects.ollama import chat as ollama_chat
from pointsman.dialects.ollama import generate as ollama_generate
from pointsman.providers.hosts import hosts

Json = dict[str, Any]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A client's request."""

    dialect: ModuleType
    body: Json
    call: ClientCall = ClientCall()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream and the format that it speaks."""

    wire: str
    upstream: Upstream


_ASKED: Final = {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}
LEGACY: Final[Json] = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "hello there"},
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"a": 1}'}},
        {"role": "function", "name": "weather", "content": "sunny"},
    ],
    "functions": [{"name": "weather", "description": "tells it", "parameters": {"type": "object"}}],
    "function_call": {"name": "weather"},
    "max_tokens": 55,
}
OPENROUTER: Final[Json] = {
    "model": "m",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hello there", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": "well",
            "reasoning": "so I thought",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "one idea", "signature": "sig-1", "format": "anthropic-claude-v1"},
                {"type": "reasoning.encrypted", "data": "enc-2", "format": "openai-responses-v1", "id": "rs_2"},
                {"type": "reasoning.summary", "summary": "in short", "format": "openai-responses-v1"},
            ],
        },
        {"role": "user", "content": "go on"},
    ],
    "models": ["other/one", "other/two"],
    "route": "fallback",
    "provider": {"order": ["first-host"], "allow_fallbacks": False, "max_price": {"prompt": 3}},
    "plugins": [{"id": "web", "max_results": 4}],
    "transforms": ["middle-out"],
    "usage": {"include": True},
    "reasoning": {"max_tokens": 2000, "exclude": True, "context": "all_turns"},
    "top_k": 40,
    "top_a": 0.25,
    "min_p": 0.125,
    "repetition_penalty": 1.5,
    "session_id": "session-3",
    "trace": {"trace_id": "trace-4"},
}  # fmt: skip
COMPLETION: Final[Json] = {
    "model": "m",
    "prompt": "once upon a time",
    "suffix": "they lived",
    "max_tokens": 77,
    "temperature": 0.5,
    "top_p": 0.875,
    "n": 2,
    "best_of": 3,
    "echo": True,
    "logprobs": 4,
    "stop": ["END"],
    "presence_penalty": 0.25,
    "frequency_penalty": -0.25,
    "logit_bias": {"50256": -100},
    "seed": 4711,
    "user": "user-9",
    "top_k": 12,
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
}
THINKING: Final[Json] = {
    "model": "m",
    "max_tokens": 4000,
    "messages": [{"role": "user", "content": "hello there"}],
    "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "summarized"},
    "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object", "title": "T"}}},
}
_GEMINI: Final = ClientCall(model="m", stream=False)


def _chat(**members: Any) -> Sample:
    return Sample(dialect=openai_chat, body={**_ASKED, **members})


_TOOLS: Final = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}},
]
# One tool of each kind that a choice may name.
_NAMED: Final = [tool for tool in responses_samples.TOOLS["tools"] if tool.get("name") != "clock"]
SAMPLES: Final[dict[str, Sample]] = {
    "chat": Sample(dialect=openai_chat, body=CHAT),
    "chat legacy": Sample(dialect=openai_chat, body=LEGACY),
    "chat one tool": _chat(tools=_TOOLS, tool_choice={"type": "function", "function": {"name": "clock"}}),
    "chat required": _chat(tools=_TOOLS, tool_choice="required", response_format={"type": "json_object"}),
    "openrouter": Sample(dialect=openai_chat, body=OPENROUTER),
    "completions": Sample(dialect=openai_completions, body=COMPLETION),
    **{
        f"responses {name}": Sample(dialect=openai_responses, body=body)
        for name, body in responses_samples.SAMPLES.items()
    },
    **{
        f"responses choice {number}": Sample(
            dialect=openai_responses, body={"model": "m", "input": "hi there", "tools": _NAMED, "tool_choice": choice}
        )
        for number, choice in enumerate(responses_samples.CHOICES)
    },
    "anthropic": Sample(dialect=anthropic, body=ANTHROPIC),
    "anthropic thinking": Sample(dialect=anthropic, body=THINKING),
    "gemini": Sample(dialect=gemini, body={**gemini_requests.VERTEX, "store": False}, call=_GEMINI),
    "gemini cached": Sample(dialect=gemini, body=gemini_requests.CACHED, call=_GEMINI),
    "ollama chat": Sample(dialect=ollama_chat, body=ollama_fixtures.CHAT),
    "ollama generate": Sample(dialect=ollama_generate, body=ollama_fixtures.GENERATE),
}


def _targets() -> dict[str, Target]:
    """One upstream of every kind: each format, each family of models that it tells apart, each departure of a host."""
    found: dict[str, Target] = {}
    seen: set[str] = set()
    for kind, host in hosts().items():
        row = host.quirk_map()
        known = host.format + repr(sorted((name, repr(value)) for name, value in row.items() if name != "auth"))
        if known in seen or host.format == "none":
            continue
        seen.add(known)
        found[kind] = Target(wire=host.format, upstream=Upstream(model="upstream-model", quirks=row))
    for name, wire, model, options in (
        ("claude 3", "anthropic", "claude-3-5-haiku-latest", {}),
        ("claude 4", "anthropic", "claude-opus-4-6", {}),
        ("gemini 3", "gemini", "gemini-3-pro", {}),
        ("gemini 2.5", "gemini", "gemini-2.5-flash", {}),
        ("vertex by project", "gemini", "gemini-3-pro", {"project": "p"}),
        ("claude on bedrock", "bedrock", "anthropic.claude-opus-4-6", {}),
    ):
        found[name] = Target(wire=wire, upstream=Upstream(model=model, options=options))
    return found


TARGETS: Final = _targets()
