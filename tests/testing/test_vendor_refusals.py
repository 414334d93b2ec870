"""Every simulated API has every refusal of the fault wall in its vendor's own shape."""

import json
from typing import Any

import pytest

from pointsman.testing import (
    FAULTS,
    AnthropicMessages,
    Api,
    Bedrock,
    Behaviour,
    Cohere,
    CohereRetrieval,
    Gemini,
    GeminiEmbeddings,
    JinaRetrieval,
    MistralEmbeddings,
    Ollama,
    OpenAIChat,
    OpenAIOperations,
    OpenAIResponses,
    VoyageRetrieval,
)
from pointsman.testing.reply import Reply, Request

REFUSALS = [name for name, fault in FAULTS.items() if fault.refusal]
APIS = (
    AnthropicMessages, Bedrock, Cohere, CohereRetrieval, Gemini, GeminiEmbeddings, JinaRetrieval, MistralEmbeddings,
    Ollama, OpenAIChat, OpenAIOperations, OpenAIResponses, VoyageRetrieval,
)  # fmt: skip
HELLO = {"role": "user", "content": "hello"}
GENERATE: Any = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
CHATS = {
    "openai": (OpenAIChat, "/v1/chat/completions", {"model": "m", "messages": [HELLO]}),
    "responses": (OpenAIResponses, "/v1/responses", {"model": "m", "input": "hello"}),
    "anthropic": (AnthropicMessages, "/v1/messages", {"model": "m", "max_tokens": 9, "messages": [HELLO]}),
    "gemini": (Gemini, "/v1beta/models/m:generateContent", GENERATE),
    "ollama": (Ollama, "/api/chat", {"model": "m", "messages": [HELLO], "stream": False}),
    "cohere": (Cohere, "/v2/chat", {"model": "m", "messages": [HELLO]}),
    "bedrock": (Bedrock, "/model/m/converse", {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}),
}
# API, fault: status and words that clients are known to look for.
SHAPES = [
    ("openai", "content_filter", 400, "invalid_prompt"),
    ("openai", "no_credit", 402, "Insufficient Balance"),
    ("openai", "quota", 429, "insufficient_quota"),
    ("openai", "daily_quota", 429, "requests per day (RPD)"),
    ("openai", "model_not_found", 404, "model_not_found"),
    ("openai", "overloaded", 503, "currently overloaded"),
    ("anthropic", "content_filter", 400, "content filtering policy"),
    ("anthropic", "no_credit", 400, "credit balance is too low"),
    ("anthropic", "quota", 400, "specified API usage limits"),
    ("anthropic", "daily_quota", 429, "rate_limit_error"),
    ("anthropic", "model_not_found", 404, "not_found_error"),
    ("anthropic", "overloaded", 529, "overloaded_error"),
    ("gemini", "content_filter", 200, "blockReason"),
    ("gemini", "no_credit", 403, "BILLING_DISABLED"),
    ("gemini", "quota", 429, "limit: 0"),
    ("gemini", "daily_quota", 429, "RequestsPerDay"),
    ("gemini", "model_not_found", 404, "NOT_FOUND"),
    ("gemini", "overloaded", 503, "UNAVAILABLE"),
    ("ollama", "no_credit", 402, "requires a subscription"),
    ("ollama", "quota", 429, "usage limit"),
    ("ollama", "model_not_found", 404, "model 'm' not found"),
    ("cohere", "no_credit", 402, "payment method"),
    ("cohere", "quota", 429, "API calls / month"),
    ("cohere", "model_not_found", 404, "model 'm' not found"),
    ("bedrock", "no_credit", 403, "INVALID_PAYMENT_INSTRUMENT"),
    ("bedrock", "quota", 400, "service quota"),
    ("bedrock", "daily_quota", 429, "tokens per day"),
    ("bedrock", "model_not_found", 400, "model identifier is invalid"),
]  # fmt: skip
# What each API calls an answer that a content filter cut short.
FILTERED = {
    "openai": '"content_filter"',
    "responses": '"reason": "content_filter"',
    "anthropic": '"refusal"',
    "gemini": '"SAFETY"',
    "ollama": '"stop"',
    "cohere": '"ERROR"',
    "bedrock": '"content_filtered"',
}


def request_of(path: str, body: Any) -> Request:
    headers = (("content-type", "application/json"), ("anthropic-version", "2023-06-01"))
    return Request(
        method="POST", path=path, headers=headers, body=json.dumps(body).encode(), http_version="1.1", keep_alive=True
    )


def refused(api: str, fault: str) -> Reply:
    kind, path, body = CHATS[api]
    made: Api = kind()  # type: ignore[operator]
    return made.refuse(fault, request_of(path, body), Behaviour())


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("api", APIS, ids=lambda api: api.__name__)
def test_every_api_has_every_refusal(api: type[Api], fault: str) -> None:
    reply = api().refuse(fault, request_of("/v1/x", {"model": "m", **GENERATE}), Behaviour())
    assert reply.status >= 400
    assert reply.body


@pytest.mark.parametrize(("api", "fault", "status", "words"), SHAPES)
def test_a_refusal_has_its_vendors_status_and_words(api: str, fault: str, status: int, words: str) -> None:
    reply = refused(api, fault)
    assert reply.status == status
    assert words in reply.body.decode()


@pytest.mark.parametrize("api", CHATS)
def test_a_content_filter_cuts_an_answer_short_and_says_so(api: str) -> None:
    kind, path, body = CHATS[api]
    behave = FAULTS["content_filter_mid_stream"].behave
    assert behave is not None
    behaviour = behave(Behaviour(tokens=20, after_events=2))
    made: Api = kind()  # type: ignore[operator]
    reply = made.answer(request_of(path, body), behaviour)
    assert reply.status == 200
    text = reply.body.decode()
    assert FILTERED[api] in text
    assert text.count("hello") <= 1
