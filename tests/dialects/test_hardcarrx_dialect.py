"""Hardcarrx's requests, answers and errors, and Hybrid Thinking's errors: what their contracts allow, and no more."""

import json
from typing import Any

import pytest

from pointsman.canonical.halves import ClientCall
from pointsman.dialects import hardcarrx, hybrid
from pointsman.errors import STATUS, GatewayError, Kind

BODY: dict[str, Any] = {"provider": "openai", "model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refused(**members: Any) -> str | None:
    """The field that a request is refused for."""
    with pytest.raises(GatewayError) as caught:
        hardcarrx.read_request(json.dumps({**BODY, **members}).encode(), ClientCall())
    assert caught.value.kind is Kind.INVALID_REQUEST
    return caught.value.param


def test_what_the_contract_does_not_allow_is_refused_by_name() -> None:
    assert refused(temperature=2.01) == "temperature"
    assert refused(temperature=-0.1) == "temperature"
    assert refused(max_tokens=0) == "max_tokens"
    assert refused(messages=[*BODY["messages"], {"role": "developer", "content": "x"}]) == "messages[1].role"
    assert refused(messages=[]) == "messages"


def test_what_is_meant_for_the_service_goes_no_further() -> None:
    body = {**BODY, "cache": {"ttl": 1}, "memory": True, "llm_provider": "x", "llm_api_key": "sk-secret", "seed": 7}
    body |= {"provider_key": "sk-secret", "no_cache": True}
    request = hardcarrx.read_request(json.dumps(body).encode(), ClientCall())
    assert set(request.extra) <= {"provider", "seed"}
    assert request.extra["provider"] == "openai"


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_failure_has_one_of_the_contract_s_statuses(kind: Kind) -> None:
    error = GatewayError(kind, "words", param="field")
    status = hardcarrx.status_of(error)
    assert status in (400, 401, 402, 429, 500) or kind in (Kind.NOT_FOUND, Kind.METHOD_NOT_ALLOWED)
    assert (status >= 500) == (STATUS[kind] >= 500)
    told = json.loads(hardcarrx.render_error(error, "req_1"))["error"]
    assert (told["code"], told["message"], told["param"]) == (status, "words", "field")
    last = hardcarrx.render_stream_error(error, "req_1")
    assert json.loads(last.removeprefix(b"data: ").removesuffix(b"\n\n"))["error"] == told


@pytest.mark.parametrize("kind", Kind)
def test_hybrid_thinking_s_errors_are_flat_and_never_403(kind: Kind) -> None:
    error = GatewayError(kind, "words", param="field")
    told = json.loads(hybrid.render_error(error, "req_1"))
    assert hybrid.status_of(error) != 403
    assert set(told) == {"code", "message", "details"}
    assert told["code"] in {*hybrid.CODES.values(), "internal_error"}
