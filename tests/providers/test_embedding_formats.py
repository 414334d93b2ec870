"""Embeddings written for every upstream's format and read back: nothing is lost in silence."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.canonical.embeddings import EmbeddingRequest, Embeddings, pack, unpack
from pointsman.canonical.fidelity import Action, Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.identity import Identity
from pointsman.dialects import openai_embeddings
from pointsman.errors import GatewayError, Kind
from pointsman.providers import embedding_hosts, openai_operations, retrieval_hosts

UPSTREAM = Upstream(model="up-model")
IDENTITY = Identity(request_id="req_1", created=1)
FORMATS: dict[str, Any] = {
    "cohere": retrieval_hosts.CohereEmbed(),
    "voyage": retrieval_hosts.VoyageEmbeddings(),
    "jina": retrieval_hosts.JinaEmbeddings(),
    "mistral": retrieval_hosts.MistralEmbeddings(),
    "gemini": embedding_hosts.GeminiEmbeddings(),
    "ollama": embedding_hosts.OllamaEmbed(),
    "openai": openai_operations.EMBEDDINGS,
}


def read(body: dict[str, Any]) -> EmbeddingRequest:
    return openai_embeddings.read_request(json.dumps(body).encode(), ClientCall())


def build(name: str, body: dict[str, Any]) -> tuple[dict[str, Any], Fidelity]:
    fidelity = Fidelity()
    built = FORMATS[name].build_request(read(body), UPSTREAM, fidelity)
    return json.loads(built.body), fidelity


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


FULL = {
    "model": "any",
    "input": ["first text", "second text"],
    "dimensions": 321,
    "encoding_format": "base64",
    "user": "a-user",
    "input_type": "search_query",
    "late_chunking": True,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_leaf_is_sent_or_noted(name: str) -> None:
    sent, fidelity = build(name, FULL)
    there = leaves(sent)
    noted = {note.path for note in fidelity.notes}
    assert {"first text", "second text", 321} <= set(map(str, there)) | set(there)
    for member, value in FULL.items():
        if member in ("model", "input", "encoding_format"):
            continue
        words = {"search_query", "query", "retrieval.query", "RETRIEVAL_QUERY"} if member == "input_type" else {value}
        assert member in noted or words & {leaf for leaf in there if isinstance(leaf, str | int)}, member
    assert "late_chunking" in noted


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cohere", {"output_dimension": 8, "input_type": "search_document", "embedding_types": ["float"]}),
        ("voyage", {"output_dimension": 8, "input_type": "document"}),
        ("jina", {"dimensions": 8, "task": "retrieval.passage"}),
        ("mistral", {"output_dimension": 8}),
        ("ollama", {"dimensions": 8}),
        ("openai", {"dimensions": 8, "encoding_format": "float"}),
    ],
)
def test_members_have_the_upstream_names(name: str, expected: dict[str, Any]) -> None:
    sent, _ = build(name, {"model": "m", "input": "x", "dimensions": 8, "input_type": "document"})
    assert expected.items() <= sent.items()
    assert sent["model"] == "up-model"


def test_gemini_gets_one_request_per_text() -> None:
    sent, _ = build("gemini", {"model": "m", "input": ["x", "y"], "dimensions": 8, "input_type": "clustering"})
    assert sent["requests"][1] == {
        "model": "models/up-model",
        "taskType": "CLUSTERING",
        "outputDimensionality": 8,
        "content": {"parts": [{"text": "y"}]},
    }


def test_cohere_demands_an_input_type_which_is_told() -> None:
    sent, fidelity = build("cohere", {"model": "m", "input": "x"})
    assert sent["input_type"] == "search_document"
    assert [(note.path, note.action) for note in fidelity.notes] == [("input_type", Action.SYNTHESISED)]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "openai"])
@pytest.mark.parametrize("value", [[1, 2], [[1], [2]], [{"content": []}]])
def test_tokens_and_parts_are_refused_where_only_texts_can_go(name: str, value: Any) -> None:
    with pytest.raises(GatewayError) as refused:
        build(name, {"model": "m", "input": value})
    assert (refused.value.kind, refused.value.param) == (Kind.UNSUPPORTED, "input")


VECTORS = [[0.5, -0.25, 1.0], [0.0, 2.0, -1.5]]
ANSWERS: dict[str, dict[str, Any]] = {
    "cohere": {"embeddings": {"float": VECTORS}, "meta": {"billed_units": {"input_tokens": 7}}},
    "voyage": {"data": [{"index": 1, "embedding": VECTORS[1]}, {"index": 0, "embedding": VECTORS[0]}],
               "model": "m", "usage": {"total_tokens": 7}},
    "jina": {"data": [{"index": 0, "embedding": VECTORS[0]}, {"index": 1, "embedding": VECTORS[1]}],
             "usage": {"total_tokens": 9, "prompt_tokens": 7}},
    "mistral": {"data": [{"index": 0, "embedding": VECTORS[0]}, {"index": 1, "embedding": VECTORS[1]}],
                "usage": {"prompt_tokens": 7.0, "total_tokens": 7}},
    "gemini": {"embeddings": [{"values": one} for one in VECTORS], "usageMetadata": {"promptTokenCount": 7}},
    "ollama": {"embeddings": VECTORS, "prompt_eval_count": 7, "model": "m"},
    "openai": {"data": [{"index": 0, "embedding": VECTORS[0]}, {"embedding": VECTORS[1]}],
               "usage": {"prompt_tokens": 7, "total_tokens": 7}},
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_answers_come_back_in_openai_shape(name: str, encoding: str) -> None:
    answer = ANSWERS[name]
    if name == "cohere" and encoding == "base64":
        answer = {"embeddings": {"base64": [pack(one) for one in VECTORS]}, "meta": answer["meta"]}
    request = read({"model": "m", "input": ["a", "b"], "encoding_format": encoding})
    response = FORMATS[name].parse_response(json.dumps(answer).encode(), request)
    written = json.loads(openai_embeddings.write_response(response, request, IDENTITY, Fidelity()))
    embeddings = [row["embedding"] for row in written["data"]]
    assert [unpack(one) if encoding == "base64" else one for one in embeddings] == VECTORS
    assert written["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":[],"embeddings":[]}', b'{"embeddings":{"float":[[1]]}}',
                                  b'{"data":[{"index":0,"embedding":["x"]},{"index":1,"embedding":[1]}]}'])  # fmt: skip
def test_half_answers_are_errors(name: str, body: bytes) -> None:
    request = read({"model": "m", "input": ["a", "b"]})
    with pytest.raises(GatewayError) as failed:
        FORMATS[name].parse_response(body, request)
    assert failed.value.kind is Kind.UPSTREAM_ERROR


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["data", "embeddings", "index", "embedding", "values", "usage", "meta", "float", "results"]),
        inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_answer_parsers_raise_only_our_errors(body: bytes) -> None:
    request = read({"model": "m", "input": ["a", "b"]})
    for form in FORMATS.values():
        try:
            form.parse_response(body, request)
        except GatewayError:
            pass


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=64))
def test_packing_keeps_32_bit_floats_exactly(vector: list[float]) -> None:
    assert unpack(pack(vector)) == vector


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": ""}, "input"),
        ({"model": "m", "input": ["a", ""]}, "input[1]"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": [[]]}, "input"),
        ({"model": "m", "input": ["a", 1]}, "input"),
        ({"model": "m", "input": "a", "dimensions": 0}, "dimensions"),
        ({"model": "m", "input": "a", "dimensions": "8"}, "dimensions"),
        ({"model": "m", "input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"model": "m" * 300, "input": "a"}, "model"),
        ({"model": 5, "input": "a"}, "model"),
    ],
)
def test_wrong_requests_name_their_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        read(body)
    assert (refused.value.kind, refused.value.param) == (Kind.INVALID_REQUEST, param)


def test_patching_changes_the_model_and_nothing_else() -> None:
    body = b'{"model":"sim/x","input":["\\u00e9", "b"],"dimensions": 8.0,"odd":{"a":[1,2 ,3]}}'
    built = openai_operations.EMBEDDINGS.patch_request(body, read(json.loads(body)), UPSTREAM)
    assert built.body == b'{"model":"up-model","input":["\\u00e9", "b"],"dimensions":8.0,"odd":{"a":[1,2 ,3]}}'


def test_an_answer_model_falls_back_to_the_one_asked_for() -> None:
    request = read({"model": "asked", "input": "a"})
    written = json.loads(openai_embeddings.write_response(Embeddings(vectors=[[1.0]]), request, IDENTITY, Fidelity()))
    assert written["model"] == "asked"
