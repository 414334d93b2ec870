"""The OpenAI format towards upstreams: requests byte for byte, answers and errors read without surprises."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.canonical.usage import TokenUsage
from pointsman.errors import GatewayError, Kind
from pointsman.providers import openai

SECRET = "wX/2LrT0cE9vB4nHs6JyK/Qm7"
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from(
    ["model", "choices", "usage", "error", "data", "index", "finish_reason", "prompt_tokens", "id"]
)
ANSWERS = st.recursive(
    JSON_VALUES, lambda inner: st.dictionaries(MEMBERS, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=12
)


def answer(**more: Any) -> bytes:
    """A chat completion's JSON."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return json.dumps({"id": "c-1", "model": "m-1", "choices": [choice], **more}).encode()


def test_a_head_holds_the_credential_and_nothing_of_the_client() -> None:
    head = openai.build_head("/v1", b"api.example.com", SECRET)
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert b"host: api.example.com" in lines
    assert b"authorization: Bearer " + SECRET.encode() in lines
    assert lines[-1] == b"content-length: "


def test_a_head_without_a_credential_sends_no_authorization() -> None:
    assert b"authorization" not in openai.build_head("", b"h", None)


def test_a_request_has_the_length_of_its_body_and_the_model_in_its_place() -> None:
    fields = msgspec.json.decode(b'{"messages":[ ],"model":"a","x":1.0}', type=openai.Fields)
    request = openai.build_request(openai.build_head("", b"h", None), fields, msgspec.Raw(b'"b"'))
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == b'{"messages":[ ],"model":"b","x":1.0}'
    assert head.endswith(b"content-length: %d" % len(body))


def test_an_answer_tells_model_finish_reason_and_usage() -> None:
    usage = {
        "prompt_tokens": 30,
        "completion_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    assert openai.parse_response(answer(usage=usage)) == openai.Answer(
        model="m-1",
        finish_reason="stop",
        usage=TokenUsage(
            input_tokens=30, output_tokens=12, cache_read_tokens=8, cache_write_tokens=4, reasoning_tokens=5
        ),
    )


@pytest.mark.parametrize("usage", [{}, {"usage": None}])
def test_an_answer_without_usage_says_so(usage: dict[str, None]) -> None:
    assert openai.parse_response(answer(**usage)).usage is None


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}, {"text_tokens": 3}])
def test_usage_details_may_be_missing_or_null(details: object) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": details}
    assert openai.parse_response(answer(usage=usage)).usage == TokenUsage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize("figure", [-5, 2**64, 10**400, 1.5, "7", [], True])
def test_impossible_token_figures_never_become_usage(figure: object) -> None:
    reading = openai.parse_response(answer(usage={"prompt_tokens": figure, "completion_tokens": 2}))
    usage = reading.usage
    assert reading.finish_reason == "stop"
    assert usage is None or (0 <= usage.input_tokens < 2**63 and usage.output_tokens == 2)


def test_cached_tokens_are_never_more_than_the_input() -> None:
    details = {"cached_tokens": 50, "cache_write_tokens": 50}
    usage = openai.parse_response(answer(usage={"prompt_tokens": 60, "prompt_tokens_details": details})).usage
    assert usage is None or usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":5}',
        b'{"choices":null}',
        b'{"choices":[]',
        b"[" * 100_000,
        b'{"choices":[{"index":0}],"model":"\xff"}',
    ],
)
def test_an_answer_that_is_no_chat_completion_is_an_upstream_error(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        openai.parse_response(body)
    assert caught.value.kind is Kind.UPSTREAM_ERROR
    assert caught.value.status == 502


def test_an_error_inside_a_200_is_an_upstream_error() -> None:
    with pytest.raises(GatewayError, match="status 200 and an error inside"):
        openai.parse_response(b'{"error":{"message":"overloaded"},"choices":[]}')


@given(body=st.one_of(st.binary(max_size=60), ANSWERS.map(lambda value: json.dumps(value).encode("utf-8"))))
@settings(max_examples=200, deadline=None)
def test_parsers_raise_nothing_but_gateway_errors(body: bytes) -> None:
    with contextlib.suppress(GatewayError):
        openai.parse_response(body)
    for status in (400, 401, 429, 500):
        error = openai.parse_error(status, {b"retry-after": body}, body, SECRET)
        assert error.retry_after_seconds is None or error.retry_after_seconds >= 0
        assert len(error.message) < 200


ERROR_BODY = b'{"error":{"message":"max_tokens is too large","type":"invalid_request_error","param":"max_tokens"}}'


@pytest.mark.parametrize(
    ("status", "kind", "shown", "passed"),
    [
        (400, Kind.INVALID_REQUEST, 400, True),
        (401, Kind.UPSTREAM_REJECTED, 502, False),
        (402, Kind.UPSTREAM_REJECTED, 502, False),
        (403, Kind.UPSTREAM_REJECTED, 502, False),
        (404, Kind.MODEL_NOT_FOUND, 404, True),
        (407, Kind.UPSTREAM_REJECTED, 502, False),
        (409, Kind.INVALID_REQUEST, 409, True),
        (413, Kind.TOO_LARGE, 413, True),
        (422, Kind.INVALID_REQUEST, 422, True),
        (429, Kind.RATE_LIMITED, 429, True),
        (499, Kind.INVALID_REQUEST, 499, True),
        (500, Kind.UPSTREAM_ERROR, 502, False),
        (502, Kind.UPSTREAM_ERROR, 502, False),
        (503, Kind.UPSTREAM_ERROR, 503, False),
        (504, Kind.UPSTREAM_ERROR, 504, False),
        (529, Kind.UPSTREAM_ERROR, 502, False),
        (204, Kind.UPSTREAM_ERROR, 502, False),
        (301, Kind.UPSTREAM_ERROR, 502, False),
    ],
)
def test_what_each_status_means_to_the_client(status: int, kind: Kind, shown: int, passed: bool) -> None:
    error = openai.parse_error(status, {}, ERROR_BODY, SECRET)
    assert (error.kind, error.status, error.upstream_body) == (kind, shown, ERROR_BODY if passed else None)
    assert str(status) in error.message
    assert "max_tokens" not in error.message


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":"text"}', b'{"error":null}', b'{"detail":"x"}'])
def test_a_body_that_is_no_error_object_is_not_passed(body: bytes) -> None:
    assert openai.parse_error(400, {}, body, SECRET).upstream_body is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"0", 0),
        (b"7", 7),
        (b"1.5", 1.5),
        (b"-1", None),
        (b"nan", None),
        (b"1e9", None),
        (b"9" * 40, None),
        (b"", None),
    ],
)
def test_retry_after_is_read_in_seconds(text: bytes, seconds: float | None) -> None:
    assert openai.parse_error(429, {b"retry-after": text}, b"", None).retry_after_seconds == seconds
    assert openai.parse_error(503, {b"retry-after": text}, b"", None).retry_after_seconds == seconds


def test_retry_after_ends_with_its_digits() -> None:
    assert openai.parse_error(429, {b"retry-after": b"7\n"}, b"", None).retry_after_seconds in (None, 7)


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        f"Bearer {SECRET}",
        SECRET[:8] + "***",
        "***" + SECRET[-8:],
        f"{SECRET[:8]}****{SECRET[-4:]}",
        "****" + SECRET[-4:],
        SECRET.replace("/", "\\/"),
        SECRET[:8] + "...".join(SECRET[8:]),
        "".join(f"\\u{ord(character):04x}" for character in SECRET),
    ],
    ids=["whole", "header", "beginning", "end", "both ends", "last four", "escaped slash", "spread", "escaped"],
)
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_neither_the_credential_nor_its_ends_reach_the_client(status: int, shown: str) -> None:
    body = f'{{"error":{{"message":"bad key {shown}"}}}}'.encode()
    error = openai.parse_error(status, {}, body, SECRET)
    assert error.upstream_body is None
    assert SECRET[-4:] not in error.message


@pytest.mark.parametrize("secret", ["k", "hunter2", "local-key-01234"])
def test_a_short_credential_is_looked_for_whole(secret: str) -> None:
    body = f'{{"error":{{"message":"bad key {secret}"}}}}'.encode()
    assert openai.parse_error(400, {}, body, secret).upstream_body is None


def test_an_error_that_is_no_utf_8_is_told_without_its_words() -> None:
    body = b'{"error":{"message":"\xff"}}'
    assert openai.parse_error(400, {}, body, "sk-secret-0123456789").upstream_body is None
    with pytest.raises(GatewayError):
        openai.StreamReader(1, "sk-secret-0123456789").feed(b"data: " + body + b"\n\n")
