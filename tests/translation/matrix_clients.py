"""Six clients of six APIs, driven through their official SDKs, that ask the same things and show the answers alike."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from client_terms import Client
from clients_chat import OpenAIChatClient, OpenRouterClient
from clients_messages import AnthropicClient, OpenAIResponsesClient
from clients_native import GeminiClient, OllamaClient

TIMEOUT_S = 10.0


CLIENTS: tuple[Any, ...] = (
    OpenAIChatClient,
    OpenAIResponsesClient,
    AnthropicClient,
    GeminiClient,
    OllamaClient,
    OpenRouterClient,
)


def open_clients(address: str, timeout_seconds: float = TIMEOUT_S) -> Iterator[dict[str, Client]]:
    """All clients of the gateway at ``address``, by name."""
    with ExitStack() as stack:
        yield {kind.NAME: stack.enter_context(kind(address, timeout_seconds)) for kind in CLIENTS}
