"""Rankings written for every upstream's format and read back."""

import json
from typing import Any

import pytest

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.halves import ClientCall, Upstream
from pointsman.canonical.identity import Identity
from pointsman.canonical.rerank import RerankRequest
from pointsman.dialects import rerank
from pointsman.errors import GatewayError, Kind
from pointsman.providers import retrieval_hosts

UPSTREAM = Upstream(model="up-model")
IDENTITY = Identity(request_id="req_1", created=1)
FORMATS: dict[str, Any] = {
    "cohere": retrieval_hosts.CohereRerank(),
    "voyage": retrieval_hosts.VoyageRerank(),
    "jina": retrieval_hosts.JinaRerank(),
}
BODY = {"model": "m", "query": "q", "documents": ["a", {"text": "b", "title": "B"}, "c"], "top_n": 2}


def read(body: dict[str, Any]) -> RerankRequest:
    return rerank.read_request(json.dumps(body).encode(), ClientCall())


@pytest.mark.parametrize(("name", "limit"), [("cohere", "top_n"), ("voyage", "top_k"), ("jina", "top_n")])
def test_documents_go_as_texts(name: str, limit: str) -> None:
    sent = json.loads(FORMATS[name].build_request(read(BODY), UPSTREAM, Fidelity()).body)
    assert (sent["model"], sent["query"], sent["documents"], sent[limit]) == ("up-model", "q", ["a", "b", "c"], 2)
    assert sent.get("return_documents") is not True


@pytest.mark.parametrize("name", FORMATS)
def test_what_has_no_place_is_noted(name: str) -> None:
    fidelity = Fidelity()
    body = BODY | {"max_tokens_per_doc": 99, "rank_fields": ["title"], "truncation": True}
    sent = json.loads(FORMATS[name].build_request(read(body), UPSTREAM, fidelity).body)
    noted = {note.path for note in fidelity.notes}
    assert "rank_fields" in noted
    assert ("max_tokens_per_doc" in noted) == (99 not in sent.values())
    assert ("truncation" in noted) == ("truncation" not in sent)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("cohere", {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
                    "meta": {"billed_units": {"search_units": 1}}}),
        ("voyage", {"data": [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": 0.9}],
                    "usage": {"total_tokens": 12}}),
        ("jina", {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
                  "usage": {"total_tokens": 12}}),
    ],
)  # fmt: skip
def test_answers_come_back_by_relevance_with_their_documents(name: str, answer: dict[str, Any]) -> None:
    request = read(BODY)
    response = FORMATS[name].parse_response(json.dumps(answer).encode(), request)
    written = json.loads(rerank.write_response(response, request, IDENTITY, Fidelity()))
    assert written["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "b", "title": "B"}},
        {"index": 0, "relevance_score": 0.1, "document": {"text": "a"}},
    ]
    assert written["meta"]["billed_units"] == {"search_units": 1}
    assert ("usage" in written) == (name != "cohere")


def test_documents_stay_away_when_the_client_says_so() -> None:
    request = read(BODY | {"return_documents": False})
    answer = {"results": [{"index": 1, "relevance_score": 0.9}]}
    response = FORMATS["jina"].parse_response(json.dumps(answer).encode(), request)
    written = json.loads(rerank.write_response(response, request, IDENTITY, Fidelity()))
    assert written["results"] == [{"index": 1, "relevance_score": 0.9}]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "row", [{}, {"index": 3, "relevance_score": 1}, {"index": -1, "relevance_score": 1}, {"index": 0}]
)
def test_rows_that_make_no_sense_are_errors(name: str, row: dict[str, Any]) -> None:
    body = json.dumps({"results": [row], "data": [row]}).encode()
    with pytest.raises(GatewayError) as failed:
        FORMATS[name].parse_response(body, read(BODY))
    assert failed.value.kind is Kind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": "", "documents": ["a"]}, "query"),
        ({"query": "q"}, "documents"),
        ({"query": "q", "documents": []}, "documents"),
        ({"query": "q", "documents": [5]}, "documents[0]"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
def test_wrong_requests_name_their_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        read(body)
    assert (refused.value.kind, refused.value.param) == (Kind.INVALID_REQUEST, param)


def test_without_a_model_the_local_one_ranks() -> None:
    assert read({"query": "q", "documents": ["a"]}).model == "minilm"
