"""The upstreams of the matrix: one simulator for each provider format, and one gateway in front of them all."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from client_terms import Count

from gateway import UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.testing import (
    FLAVOURS,
    AnthropicMessages,
    Api,
    Bedrock,
    Cohere,
    Gemini,
    Ollama,
    OpenAIChat,
    OpenAIResponses,
    RunningSimulator,
    running_simulator,
)

# What the case "counted" makes every simulator report.
PROMPT, CACHED, SPOKEN, THOUGHT = 100, 30, 17, 5
UNASKED = 4  # tokens of "Thinking about: count me", where a model thinks without being asked
CASES = {
    "plain": "",
    "counted": f"#prompt_tokens={PROMPT},cached_tokens={CACHED},tokens={SPOKEN},reasoning_tokens={THOUGHT}",
    "limited": "#fault=rate_limit",
    "refused": "#fault=bad_request",
    "broken": "#tokens=20,after_events=8,fault=error_event",
    "cut": "#tokens=20,after_events=8,fault=cut_mid_stream",
}


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of upstream, and the model that is asked for. ``root``: its address ends before ``/v1``.

    ``counted``: what it reports in the case "counted".
    """

    api: Api
    model: str = "sim-model"
    counted: Count = Count(PROMPT, CACHED, SPOKEN + THOUGHT, THOUGHT)
    root: bool = True
    key: str | None = UPSTREAM_KEY


def _chat(flavour: str, **members: Any) -> Provider:
    return Provider(api=OpenAIChat(api_key=UPSTREAM_KEY, flavour=FLAVOURS[flavour]), root=False, **members)


# By the kind of the connection; its id is the same.
PROVIDERS = {
    "openai": _chat("openai"),
    "azure": Provider(api=OpenAIChat(api_key=UPSTREAM_KEY)),
    "deepseek": _chat("deepseek", counted=Count(PROMPT, CACHED, SPOKEN + THOUGHT + UNASKED, THOUGHT + UNASKED)),
    "mistral": _chat("mistral"),
    "openrouter": _chat("openrouter"),
    "openai-responses": Provider(api=OpenAIResponses(api_key=UPSTREAM_KEY), root=False),
    "anthropic": Provider(api=AnthropicMessages(api_key=UPSTREAM_KEY), model="claude-sonnet-4-5"),
    "gemini": Provider(api=Gemini(api_key=UPSTREAM_KEY)),
    "ollama": Provider(api=Ollama(), key=None, counted=Count(PROMPT, 0, SPOKEN + THOUGHT, 0)),
    "cohere": Provider(api=Cohere(api_key=UPSTREAM_KEY), counted=Count(PROMPT, CACHED, SPOKEN + THOUGHT, 0)),
    "bedrock": Provider(
        api=Bedrock(api_key=UPSTREAM_KEY),
        model="anthropic.claude-sonnet-4-5-20250929-v1:0",
        counted=Count(PROMPT + CACHED, CACHED, SPOKEN + THOUGHT, 0),  # Converse counts cache reads beside the input
    ),
}


class Place(msgspec.Struct, frozen=True):
    """Where the matrix is run."""

    gateway: RunningGateway
    simulators: dict[str, RunningSimulator]


def model_of(provider: str, case: str = "plain") -> str:
    """The model's name for a client that wants this case of this provider."""
    return f"{provider}.{case}"


@contextmanager
def matrix_place(data_dir: Path) -> Iterator[Place]:
    """Every simulator, and a gateway with a connection to each."""
    with ExitStack() as stack:
        simulators = {
            kind: stack.enter_context(running_simulator(provider.api)) for kind, provider in PROVIDERS.items()
        }
        settings = {"connections": [_connection(kind, simulators[kind]) for kind in PROVIDERS], "models": _aliases()}
        yield Place(stack.enter_context(running_gateway(data_dir, settings)), simulators)


def _connection(kind: str, simulator: RunningSimulator) -> dict[str, Any]:
    provider = PROVIDERS[kind]
    key = {} if provider.key is None else {"api_key": provider.key}
    return {"id": kind, "kind": kind, "base_url": simulator.origin if provider.root else simulator.base_url, **key}


def _aliases() -> list[dict[str, str]]:
    return [
        {"name": model_of(kind, case), "target": f"{kind}/{provider.model}{directives}"}
        for kind, provider in PROVIDERS.items()
        for case, directives in CASES.items()
    ]
