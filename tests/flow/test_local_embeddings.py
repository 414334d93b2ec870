"""The embedder on this machine, through the gateway: the embedded default of embeddings and rankings."""

import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import openai
import pytest

from gateway import KEY, RunningGateway, running_gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"local": {"enabled": True}}) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.address}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


def post(gateway: RunningGateway, path: str, body: object) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body), {"authorization": f"Bearer {KEY}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_it_is_offered_and_free(client: openai.OpenAI, gateway: RunningGateway) -> None:
    assert "local/minilm" in [model.id for model in client.models.list()]
    raw = client.embeddings.with_raw_response.create(model="local/minilm", input=["a cat", "a kitten", "an invoice"])
    first, second, third = (row.embedding for row in raw.parse().data)
    assert len(first) == 384

    def near(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert near(first, second) > near(first, third) + 0.2
    record = gateway.journal.the(raw.headers["x-request-id"])
    assert (record.connection_id, record.provider, record.cost_nano_usd) == ("local", "local", 0)
    assert (record.input_tokens, record.usage_estimated) == (14, False)


def test_rankings_need_no_model(gateway: RunningGateway) -> None:
    documents = ["bananas are yellow", "Paris is the capital of France"]
    status, answer = post(gateway, "/api/v1/rerank", {"query": "capital of France", "documents": documents})
    assert (status, answer["results"][0]["index"]) == (200, 1)


def test_it_has_its_dimensions_and_its_length(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="local/minilm", input="x", dimensions=8)
    assert refused.value.param == "dimensions"
    with pytest.raises(openai.BadRequestError, match="takes 512"):
        client.embeddings.create(model="minilm", input="word " * 600)


def test_it_does_no_chat(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does no chat"):
        client.chat.completions.create(model="local/minilm", messages=[{"role": "user", "content": "x"}])


def test_the_gateway_answers_others_while_it_works(client: openai.OpenAI, gateway: RunningGateway) -> None:
    """The loop is not blocked: the health route answers at once while two hundred texts are embedded."""
    many = threading.Thread(
        target=client.embeddings.create, kwargs={"model": "minilm", "input": ["some words " * 20] * 200}
    )
    many.start()
    slowest = 0.0
    while many.is_alive():
        began = time.monotonic()
        connection = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
        slowest = max(slowest, time.monotonic() - began)
        many.join(0.02)
    assert slowest < 1.0
