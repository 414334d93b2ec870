"""Simulated embedding and rerank services, read by their vendors' SDKs where those are at hand."""

import base64
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

import cohere
import httpx
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types

from pointsman.testing import (
    Api,
    CohereRetrieval,
    GeminiEmbeddings,
    JinaRetrieval,
    MistralEmbeddings,
    RunningSimulator,
    VoyageRetrieval,
    running_simulator,
)

KEY = "key-retrieval-0000"
DOCUMENTS = ["bananas are yellow", "the capital of France is Paris", "Paris is a city in France"]
QUERY = "what is the capital of France"


def post(running: RunningSimulator, path: str, body: object, key: str = KEY) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", running.port, timeout=20)
    try:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@contextmanager
def cohere_client(api_key: str = KEY) -> Iterator[cohere.ClientV2]:
    with running_simulator(CohereRetrieval(api_key=KEY)) as running, httpx.Client(timeout=20) as transport:
        yield cohere.ClientV2(api_key=api_key, base_url=running.origin, httpx_client=transport)


def test_cohere_embeds_in_several_kinds() -> None:
    with cohere_client() as client:
        answer = client.embed(
            model="embed-v4.0",
            input_type="search_query",
            texts=["one", "two"],
            output_dimension=256,
            embedding_types=["float", "base64"],
        )
    assert answer.embeddings.float_ is not None
    assert answer.embeddings.base64 is not None
    assert [len(vector) for vector in answer.embeddings.float_] == [256, 256]
    first = struct.unpack("<256f", base64.b64decode(answer.embeddings.base64[0]))
    assert list(first) == answer.embeddings.float_[0]
    assert answer.meta is not None
    assert answer.meta.billed_units is not None
    assert answer.meta.billed_units.input_tokens == 2


def test_cohere_ranks_the_fitting_document_first() -> None:
    with cohere_client() as client:
        answer = client.rerank(model="rerank-v4.0", query=QUERY, documents=DOCUMENTS, top_n=2)
    assert [row.index for row in answer.results] == [1, 2]
    assert answer.meta is not None
    assert answer.meta.billed_units is not None
    assert answer.meta.billed_units.search_units == 1


def test_cohere_refuses_a_wrong_key_and_a_missing_input_type() -> None:
    with cohere_client("wrong") as client, pytest.raises(cohere.UnauthorizedError, match="invalid api token"):
        client.embed(model="embed-v4.0", input_type="search_query", texts=["x"])
    with running_simulator(CohereRetrieval()) as running:
        status, body = post(running, "/v2/embed", {"model": "embed-v4.0", "texts": ["x"]})
    assert (status, body["message"]) == (400, "invalid request: input_type parameter is required")


def test_voyage_embeds_with_total_tokens_only() -> None:
    with running_simulator(VoyageRetrieval(api_key=KEY)) as running:
        status, body = post(
            running, "/v1/embeddings", {"model": "voyage-4", "input": ["a", "b"], "input_type": "query"}
        )
        assert status == 200
        assert body["usage"] == {"total_tokens": 2}
        assert [len(row["embedding"]) for row in body["data"]] == [1024, 1024]
        assert post(running, "/v1/embeddings", {"model": "voyage-4", "input": "a", "dimensions": 5}) == (
            400,
            {"detail": "Argument 'dimensions' is not supported by our API"},
        )
        assert post(running, "/v1/embeddings", {}, key="x") == (401, {"detail": "Provided API key is invalid."})


def test_voyage_names_its_results_data() -> None:
    with running_simulator(VoyageRetrieval()) as running:
        body = {"model": "rerank-3", "query": QUERY, "documents": DOCUMENTS, "top_k": 1, "return_documents": True}
        _, answer = post(running, "/v1/rerank", body)
    assert [(row["index"], row["document"]) for row in answer["data"]] == [(1, DOCUMENTS[1])]


def test_jina_embeds_and_ranks_with_documents_unless_told_not_to() -> None:
    with running_simulator(JinaRetrieval(api_key=KEY)) as running:
        _, answer = post(running, "/v1/embeddings", {"model": "jina-embeddings-v3", "input": ["a"], "dimensions": 16})
        assert len(answer["data"][0]["embedding"]) == 16
        body = {"model": "jina-reranker-v3", "query": QUERY, "documents": DOCUMENTS}
        _, answer = post(running, "/v1/rerank", body)
        assert answer["results"][0] == {
            "index": 1,
            "relevance_score": answer["results"][0]["relevance_score"],
            "document": {"text": DOCUMENTS[1]},
        }
        _, answer = post(running, "/v1/rerank", body | {"return_documents": False})
        assert "document" not in answer["results"][0]
        status, answer = post(running, "/v1/embeddings", {"model": "m", "input": "a", "encoding_format": "float"})
        assert (status, list(answer)) == (422, ["detail"])


def test_mistral_refuses_what_it_does_not_know() -> None:
    with running_simulator(MistralEmbeddings(api_key=KEY)) as running:
        status, answer = post(running, "/v1/embeddings", {"model": "mistral-embed", "input": "a", "dimensions": 5})
        assert status == 422
        assert answer["message"]["detail"][0]["type"] == "extra_forbidden"
        body = {"model": "codestral-embed", "input": ["a"], "output_dimension": 32, "encoding_format": "base64"}
        status, answer = post(running, "/v1/embeddings", body)
        assert (status, len(base64.b64decode(answer["data"][0]["embedding"]))) == (200, 128)


@contextmanager
def genai_client(running: RunningSimulator, key: str) -> Iterator[genai.Client]:
    with httpx.Client(timeout=20) as transport:
        options = types.HttpOptions(base_url=running.origin, httpx_client=transport)
        yield genai.Client(api_key=key, http_options=options)


def test_gemini_embeds_one_and_several() -> None:
    with running_simulator(GeminiEmbeddings(api_key=KEY)) as running:
        with genai_client(running, KEY) as client:
            answer = client.models.embed_content(
                model="gemini-embedding-001",
                contents=["one", "two"],
                config={"output_dimensionality": 16, "task_type": "RETRIEVAL_QUERY"},
            )
        assert answer.embeddings is not None
        assert [len(one.values or ()) for one in answer.embeddings] == [16, 16]
        with (
            genai_client(running, "wrong") as client,
            pytest.raises(google_errors.ClientError, match="API key not valid"),
        ):
            client.models.embed_content(model="gemini-embedding-001", contents="x")


@pytest.mark.parametrize(
    ("api", "path", "body"),
    [
        (CohereRetrieval(), "/v2/embed", {"model": "m#fault=http_503"}),
        (VoyageRetrieval(), "/v1/embeddings", {"model": "m#fault=http_503"}),
        (JinaRetrieval(), "/v1/rerank", {"model": "m#fault=http_503"}),
        (MistralEmbeddings(), "/v1/embeddings", {"model": "m#fault=http_503"}),
        (GeminiEmbeddings(), "/v1beta/models/m%23fault=http_503:embedContent", {}),
    ],
)
def test_faults_come_in_each_service_own_shape(api: Api, path: str, body: object) -> None:
    with running_simulator(api) as running:
        status, answer = post(running, path, body)
    assert status == 503
    assert next(iter(answer)) in ("id", "detail", "object", "error")


def test_only_listed_models_are_there() -> None:
    with running_simulator(JinaRetrieval(models=("jina-embeddings-v3",), only_listed=True)) as running:
        assert post(running, "/v1/embeddings", {"model": "jina-embeddings-v3", "input": "x"})[0] == 200
        assert post(running, "/v1/embeddings", {"model": "other", "input": "x"})[0] == 404
