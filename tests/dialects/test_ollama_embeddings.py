"""Ollama's two ways to ask for vectors."""

import json
from typing import Any

import pytest
from ollama import EmbeddingsResponse, EmbedResponse
from tests.joined_halves import IDENTITY

from pointsman.canonical.embeddings import Embeddings, pack
from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall
from pointsman.canonical.usage import TokenUsage
from pointsman.dialects.ollama import embed, embeddings
from pointsman.errors import GatewayError


def read(body: Any, dialect: Any = embed) -> Any:
    return dialect.read_request(json.dumps(body).encode(), ClientCall())


def test_texts_and_options_are_read() -> None:
    request = read({"model": "m", "input": ["a", "b"], "dimensions": 8, "truncate": False, "keep_alive": "5m"})
    assert (request.model, request.inputs, request.dimensions, request.truncate) == ("m", ["a", "b"], 8, False)
    assert request.extra == {"keep_alive": "5m"}
    assert read({"model": "m", "input": "a"}).inputs == ["a"]
    assert read({"model": "m", "prompt": "a"}, embeddings).inputs == ["a"]


@pytest.mark.parametrize(
    "body", [{"model": "m"}, {"model": "m", "input": []}, {"model": "m", "input": [1]}, {"input": "a"}]
)
def test_mistakes_are_refused(body: Any) -> None:
    with pytest.raises(GatewayError):
        read(body)
    with pytest.raises(GatewayError):
        read(body, embeddings)


def test_vectors_are_written_as_numbers_however_they_came() -> None:
    request = read({"model": "m", "input": ["a", "b"]})
    vectors = Embeddings(vectors=[pack([0.5, 1.0]), pack([1.0, 0.5])], usage=TokenUsage(input_tokens=3))
    body = embed.write_response(vectors, request, IDENTITY, Fidelity())
    found = EmbedResponse.model_validate_json(body, strict=True)
    assert found.embeddings == [[0.5, 1.0], [1.0, 0.5]]
    assert (found.model, found.prompt_eval_count) == ("m", 3)
    old = EmbeddingsResponse.model_validate_json(embeddings.write_response(vectors, request, IDENTITY, Fidelity()))
    assert list(old.embedding) == [0.5, 1.0]
    with pytest.raises(GatewayError):
        embed.write_response(Embeddings(vectors=["%"]), request, IDENTITY, Fidelity())
