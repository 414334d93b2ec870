"""The OpenAI Chat Completions dialect: mistakes are named, members stay as they came, errors have OpenAI's shape."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.canonical.limits import Quota, Standing
from pointsman.dialects import openai_chat
from pointsman.errors import STATUS, GatewayError, Kind
from pointsman.providers import openai

MESSAGES = [{"role": "user", "content": "hi"}]
VALID: dict[str, Any] = {"model": "m", "messages": MESSAGES}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.one_of(st.text(max_size=10), st.sampled_from(["messages", "stream", "n", "tools", "stop", "user", "seed"]))


def refusal(body: bytes | dict[str, Any]) -> GatewayError:
    """The error that a body is refused with."""
    with pytest.raises(GatewayError) as caught:
        openai_chat.parse_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.kind is Kind.INVALID_REQUEST
    assert caught.value.status == 400
    return caught.value


def check_refusal(body: bytes) -> None:
    """Parse; a refusal must be a GatewayError that is fit to be shown."""
    error = None
    try:
        openai_chat.parse_request(body)
    except GatewayError as caught:
        error = caught
    if error is not None:
        assert error.kind is Kind.INVALID_REQUEST
        assert error.message.isprintable()
        assert len(error.message) < 300


def test_a_plain_request_is_read() -> None:
    call = openai_chat.parse_request(json.dumps({**VALID, "stream": True, "n": 3}).encode())
    assert (call.model, call.stream, call.choices) == ("m", True, 3)
    assert list(call.fields) == ["model", "messages", "stream", "n"]


@pytest.mark.parametrize("more", [{}, {"stream": None, "n": None}, {"stream": False, "n": 1}])
def test_null_means_not_given(more: dict[str, object]) -> None:
    call = openai_chat.parse_request(json.dumps({**VALID, **more}).encode())
    assert (call.stream, call.choices) == (False, 1)


WRONG: list[tuple[str, object]] = [
    ("model", 5),
    ("model", None),
    ("messages", "hi"),
    ("messages", None),
    ("messages", {}),
    ("stream", "true"),
    ("stream", 1),
    ("stream_options", True),
    ("stream_options", []),
    ("temperature", "warm"),
    ("temperature", True),
    ("top_p", []),
    ("n", "2"),
    ("n", 1.5),
    ("n", True),
    ("n", 0),
    ("n", -1),
    ("max_tokens", "many"),
    ("max_tokens", 1.5),
    ("max_completion_tokens", {}),
    ("presence_penalty", "a"),
    ("frequency_penalty", {}),
    ("seed", "x"),
    ("stop", 5),
    ("stop", {}),
    ("logprobs", 1),
    ("top_logprobs", "5"),
    ("tools", {}),
    ("tools", "t"),
    ("tool_choice", 5),
    ("tool_choice", []),
    ("parallel_tool_calls", "yes"),
    ("response_format", "json"),
    ("user", 5),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_every_wrong_type_names_its_field(name: str, value: object) -> None:
    error = refusal({**VALID, name: value})
    assert error.param == name
    assert f"'{name}'" in error.message


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": [*MESSAGES, 5]}, "messages[1]"),
        ({"messages": [*MESSAGES, {"content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": 7}]}, "messages[0].role"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"tools": [{}, 3]}, "tools[1]"),
        ({"stop": ["a", 5]}, "stop[1]"),
    ],
)
def test_a_mistake_inside_a_member_is_named_by_its_place(more: dict[str, object], param: str) -> None:
    error = refusal({**VALID, **more})
    assert error.param == param
    assert f"'{param}'" in error.message


@pytest.mark.parametrize("name", ["model", "messages"])
def test_what_is_missing_is_named(name: str) -> None:
    error = refusal({key: value for key, value in VALID.items() if key != name})
    assert (error.param, error.message) == (name, f"'{name}' is missing")


def test_messages_must_not_be_empty() -> None:
    assert refusal({"model": "m", "messages": []}).param == "messages"


@pytest.mark.parametrize("size", [10_000, 2_000_000])
def test_an_over_long_model_name_is_refused(size: int) -> None:
    error = refusal({**VALID, "model": "m" * size})
    assert error.param == "model"
    assert len(error.message) < 300


@pytest.mark.parametrize("body", [b"[]", b"5", b'"text"', b"null", b"true"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert "must be a JSON object" in refusal(body).message


def test_an_empty_body_is_refused_with_what_to_send() -> None:
    assert "'model' and 'messages'" in refusal(b"").message


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"model": x}', "byte 10 (line 1, column 11)"),
        (b'{\n  "model": "m",\n  "messages": x\n}', "byte 32 (line 3, column 15)"),
        (b'{"model":"m",}', "byte 13 (line 1, column 14)"),
        (b'{"model":"m","x":NaN}', "byte 17 (line 1, column 18)"),
        (b"\xef\xbb\xbf{}", "byte 0 (line 1, column 1)"),
    ],
)
def test_malformed_json_is_shown_by_its_position(body: bytes, place: str) -> None:
    assert f"error at {place}" in refusal(body).message


@given(length=st.integers(1, 47))
@settings(max_examples=50, deadline=None)
def test_a_truncated_body_is_shown_as_ending_too_early(length: int) -> None:
    body = b'{"model": "m", "messages": [{"role": "user"}] }'
    message = refusal(body[: min(length, len(body) - 1)]).message
    assert f"it ends too early, at byte {min(length, len(body) - 1)}" in message


@pytest.mark.parametrize(
    "body",
    [b'{"model":"\xff","messages":[{"role":"user"}]}', b'{"\xc3\x28":1,"model":"m","messages":[{"role":"user"}]}'],
)
def test_invalid_utf_8_is_called_that(body: bytes) -> None:
    message = refusal(body).message
    assert "UTF-8" in message
    assert "too early" not in message


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    refusal(b'{"x":' + opening * 100_000)


def test_deep_nesting_inside_an_untyped_member_is_refused_or_carried() -> None:
    body = b'{"model":"m","messages":[{"role":"user"}],"x":%b%b}' % (b"[" * 100_000, b"]" * 100_000)
    check_refusal(body)


@given(body=st.binary(max_size=80))
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes_raise_nothing_but_gateway_errors(body: bytes) -> None:
    check_refusal(body)


@given(more=st.dictionaries(NAMES, JSON_VALUES, max_size=4), where=st.integers(min_value=0), what=st.binary(max_size=2))
@settings(max_examples=150, deadline=None)
def test_mutated_requests_raise_nothing_but_gateway_errors(more: dict[str, Any], where: int, what: bytes) -> None:
    body = json.dumps({**VALID, **more}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    place = where % len(body)
    for changed in (body, body[:place] + what + body[place + 1 :]):
        check_refusal(changed)


HOSTILE = "\x1b[31m\r\n" + "A" * 5000


@pytest.mark.parametrize(
    "name", ["temperature", "n", "stream", "tools", "response_format", "messages", "stream_options"]
)
def test_a_message_never_repeats_the_callers_value(name: str) -> None:
    error = refusal({**VALID, name: HOSTILE})
    assert "AAA" not in error.message
    assert error.message.isprintable()
    assert (error.param or "").isprintable()


@given(fields=st.dictionaries(st.text(max_size=10), JSON_VALUES, max_size=6), indent=st.sampled_from([None, 0, 2]))
@settings(max_examples=150, deadline=None)
def test_every_member_reaches_the_upstream_byte_for_byte(fields: dict[str, Any], indent: int | None) -> None:
    values = {**fields, **VALID}
    written = {name: json.dumps(value, indent=indent, ensure_ascii=False) for name, value in values.items()}
    body = "{ " + " , ".join(f"{json.dumps(name)} : {text}" for name, text in written.items()) + " }"
    try:
        call = openai_chat.parse_request(body.encode("utf-8"))
    except GatewayError:
        assert any(name in openai_chat.ChatRequest.__struct_fields__ for name in fields)
        return
    request = openai.build_request(b"content-length: ", call.fields, msgspec.Raw(b'"other"'))
    head, _, sent = request.partition(b"\r\n\r\n")
    assert head == b"content-length: %d" % len(sent)
    received = msgspec.json.decode(sent, type=dict[str, msgspec.Raw])
    expected = {**written, "model": '"other"'}
    assert {name: bytes(value).decode() for name, value in received.items()} == expected
    assert list(received) == list(expected)


@pytest.mark.parametrize(
    "text", ['"\\u00e9\\ud83d\\ude00"', "1.0000", "1E+2", "-0", "123456789012345678901234567890", "[ 1 ]"]
)
def test_numbers_and_escapes_keep_their_spelling(text: str) -> None:
    call = openai_chat.parse_request(f'{{"model":"m","messages":[{{"role":"user"}}],"x":{text}}}'.encode())
    assert bytes(call.fields["x"]).decode() == text


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_error_has_openais_shape(kind: Kind) -> None:
    error = GatewayError(kind, 'said "so"', param="messages[0]")
    body = json.loads(openai_chat.render_error(error, "req_1"))
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["message"], body["error"]["param"]) == ('said "so"', "messages[0]")
    assert body["error"]["type"]
    assert error.status == STATUS[kind]


def test_an_upstreams_own_error_is_passed_as_it_came() -> None:
    error = GatewayError(Kind.RATE_LIMITED, "x", upstream_body=b'{"error": {"message": "slow down"} }')
    assert openai_chat.render_error(error, "req_1") == b'{"error": {"message": "slow down"} }'


def test_a_stream_error_is_one_whole_event() -> None:
    event = openai_chat.render_stream_error(GatewayError(Kind.UPSTREAM_ERROR, "a\n\nb"), "req_1")
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2


def test_an_upstreams_error_with_line_feeds_is_still_one_event() -> None:
    pretty = json.dumps({"error": {"message": "x", "type": "y"}}, indent=2).encode() + b"\n"
    event = openai_chat.render_stream_error(GatewayError(Kind.RATE_LIMITED, "x", upstream_body=pretty), "req_1")
    value = event.removeprefix(b"data: ").removesuffix(b"\n\n")
    assert b"\n" not in value
    assert json.loads(value)["error"]["message"] == "x"


def test_bytes_that_are_no_utf_8_are_refused_wherever_they_stand() -> None:
    with pytest.raises(GatewayError, match="not valid UTF-8"):
        openai_chat.parse_request(b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}')


def test_limits_are_told_in_openai_s_headers() -> None:
    standing = Standing(requests=Quota(60, 59, 1), tokens=Quota(150000, 0, 3_724_000_001))
    assert openai_chat.render_limits(standing).decode() == (
        "x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\nx-ratelimit-reset-requests: 1s\r\n"
        "x-ratelimit-limit-tokens: 150000\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 1h2m5s\r\n"
    )
    assert openai_chat.render_limits(Standing()) == b""
    for seconds, told in ((0, "0s"), (59, "59s"), (60, "1m0s"), (360, "6m0s"), (3600, "1h0m0s"), (87_840, "24h24m0s")):
        lines = openai_chat.render_limits(Standing(requests=Quota(1, 1, seconds * 1_000_000)))
        assert lines.endswith(f"reset-requests: {told}\r\n".encode())


@pytest.mark.parametrize(
    ("members", "tokens"),
    [
        ({}, 0),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9, "n": 2}, 18),
        ({"max_tokens": -5}, 0),
    ],
)
def test_the_longest_answer_is_what_the_caller_allows(members: dict[str, int], tokens: int) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **members}
    assert openai_chat.parse_request(msgspec.json.encode(body)).max_output_tokens == tokens


@pytest.mark.parametrize("size", [10, 100_000])
def test_large_bodies_are_checked_like_small_ones(size: int) -> None:
    text = "x" * size
    call = openai_chat.parse_request(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    )
    assert text.encode() in bytes(call.fields["messages"])
    for wrong, named in (
        ({"temperature": "hot"}, "temperature"),
        ({"messages": text}, "messages"),
        ({"model": 3}, "model"),
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **wrong}
        with pytest.raises(GatewayError, match=named) as caught:
            openai_chat.parse_request(json.dumps(body).encode())
        assert caught.value.param == named


def test_the_outline_of_a_large_body_has_all_names_and_short_texts_and_the_members_their_long_ones() -> None:
    parts = [{"type": "file", "file": {"file_id": "file-1"}}, {"type": "text", "text": "x" * 200_000}]
    body = json.dumps({"model": "m", "messages": [{"role": "developer", "content": parts}]}).encode()
    call = openai_chat.parse_request(body)
    assert call.outline is not None
    assert len(call.outline) < 1000
    assert b'"file_id": "file-1"' in call.outline
    assert b'"developer"' in call.outline
    assert json.loads(bytes(call.fields["messages"]))[0]["content"] == parts
