"""What the gateway itself refuses: in OpenAI's shape, saying what is wrong and what to do, and never more."""

import json
import time

import pytest

from gateway import KEY, RunningGateway, wait_until
from pointsman.testing import RunningSimulator
from raw_client import CHAT, ask, chat, chat_body, request

SETTINGS = {
    "connections": [
        {"id": "one", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "models": ["shared", "gpt-large"]},
        {"id": "two", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "models": ["shared"]},
    ],
    "models": [{"name": "quick", "target": "nowhere/at-all"}],
}


def refused(gateway: RunningGateway, body: bytes, *headers: str) -> tuple[int, dict[str, object]]:
    """Status and error of a chat request with this body; the record says the same."""
    answer = ask(gateway.port, request("POST", CHAT, body, *headers or ("content-length: 0",) * (not body)))
    record = gateway.journal.the(answer.request_id)
    assert (record.status, record.outcome.value) == (answer.status, "error")
    assert (record.connection_id, record.input_tokens, record.output_tokens) == (None, 0, 0)
    assert b"Traceback" not in answer.raw
    assert answer.headers["content-type"] == "application/json"
    return answer.status, answer.error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"model": "m",\n "messages": [}', ["byte 29", "line 2, column 15"]),
        (b"garbage", ["byte 0", "line 1"]),
        (b'{"model": "m", "messages": [{"role":"user"}]} x', ["byte 47"]),
        (b'{"model": "m", "messages"', ["too early", "byte 25"]),
        (b'{"model": "\\x", "messages": []}', ["byte 13"]),
        (b"", ["no body"]),
        (b"[]", ["JSON object"]),
        (b"null", ["JSON object"]),
        (b'{"model": "\xff\xfe", "messages": []}', ["UTF-8"]),
    ],
)
def test_a_body_that_is_no_json_object_is_told_where(gateway: RunningGateway, body: bytes, words: list[str]) -> None:
    status, error = refused(gateway, body)
    assert status == 400
    assert error["type"] == "invalid_request_error"
    for word in words:
        assert word in str(error["message"])


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}, 5]}, "messages[1]"),
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"n": "2"}, "n"),
        ({"n": 0}, "n"),
        ({"n": -1}, "n"),
        ({"tools": {}}, "tools"),
        ({"stop": 5}, "stop"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"response_format": "json"}, "response_format"),
    ],
)
def test_a_wrong_member_is_named(gateway: RunningGateway, members: dict[str, object], param: str) -> None:
    body = {"model": "sim/x", "messages": [{"role": "user", "content": "hi"}], **members}
    status, error = refused(gateway, json.dumps(body).encode())
    assert (status, error["type"]) == (400, "invalid_request_error")
    place = str(error["param"]).replace("[...]", f"[{param.partition('[')[2].partition(']')[0]}]")
    assert place == param
    assert str(error["param"]) in str(error["message"])


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_member_is_named(gateway: RunningGateway, name: str) -> None:
    body = json.loads(chat_body())
    del body[name]
    status, error = refused(gateway, json.dumps(body).encode())
    assert (status, error["param"], error["message"]) == (400, name, f"'{name}' is missing")


def test_deep_nesting_is_refused_and_harms_nobody(gateway: RunningGateway) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = opening * 100_000 + "1" + closing * 100_000
        body = f'{{"model":"sim/x","messages":[{{"role":"user","content":"hi"}}],"x":{deep}}}'.encode()
        status, error = refused(gateway, body)
        assert status == 400
        assert "nested too deeply" in str(error["message"])
    assert ask(gateway.port, chat()).status == 200


def test_an_unknown_model_is_told_with_the_nearest_names(gateway: RunningGateway) -> None:
    status, error = refused(gateway, chat_body(model="one/gpt-lrage"))
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "'one/gpt-large'" in str(error["message"])


def test_an_ambiguous_bare_name_is_told_with_its_candidates(gateway: RunningGateway) -> None:
    status, error = refused(gateway, chat_body(model="shared"))
    assert (status, error["code"]) == (404, "model_not_found")
    assert "one/shared, two/shared" in str(error["message"])


def test_an_alias_to_nowhere_says_so(gateway: RunningGateway) -> None:
    status, error = refused(gateway, chat_body(model="quick"))
    assert status == 404
    assert "'nowhere/at-all'" in str(error["message"])


def test_a_models_name_is_repeated_short_and_printable(gateway: RunningGateway) -> None:
    status, error = refused(gateway, chat_body(model="x\n\x1b[31m" + "y" * 5000))
    assert status in (400, 404)
    assert len(str(error["message"])) < 400
    assert str(error["message"]).isprintable()


def test_a_refused_request_never_reaches_the_upstream(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    refused(gateway, b"{")
    ask(gateway.port, chat(key="sk-wrong"))
    assert simulator.requests == ()


# keys


def test_keys_are_taken_in_both_headers_and_any_case_of_bearer(gateway: RunningGateway) -> None:
    assert ask(gateway.port, chat("", f"x-api-key: {KEY}", key=None)).status == 200
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert ask(gateway.port, chat("", f"Authorization: {scheme} {KEY}", key=None)).status == 200


@pytest.mark.parametrize(
    "headers",
    [(), ("authorization: Basic abc",), ("authorization: Bearer",), ("x-api-key: ",), (f"x-other-key: {KEY}",)],
)
def test_a_request_without_a_key_is_told_how_to_send_one(gateway: RunningGateway, headers: tuple[str, ...]) -> None:
    answer = ask(gateway.port, chat("", *headers, key=None))
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert "Authorization: Bearer" in answer.error["message"]


def test_wrong_revoked_and_expired_keys_look_the_same(gateway: RunningGateway) -> None:
    keys, clock = gateway.installation.keys, gateway.installation.clock
    expires_at = clock.now_us() + 400_000
    _, expiring = gateway.call(keys.create("expiring", expires_at=expires_at))
    row, revoked = gateway.call(keys.create("revoked"))

    def accepted(key: str) -> bool:
        return ask(gateway.port, chat(key=key)).status == 200

    wait_until(lambda: accepted(revoked.reveal()), "key in force")
    assert clock.now_us() > expires_at or accepted(expiring.reveal())
    gateway.call(keys.revoke(row.id))
    wait_until(lambda: not accepted(revoked.reveal()), "revocation in force")
    wait_until(lambda: clock.now_us() > expires_at, "expiry")
    bodies = set()
    for key in ("sk-pm-wrong", "ü", KEY[:-1], KEY + "x", revoked.reveal(), expiring.reveal()):
        answer = ask(gateway.port, chat(key=key))
        assert answer.status == 401
        assert key not in answer.body.decode()
        bodies.add(answer.body)
    assert len(bodies) == 1


def test_a_revoked_key_stops_within_a_second_while_others_go_on(gateway: RunningGateway) -> None:
    keys = gateway.installation.keys
    row, secret = gateway.call(keys.create("short-lived"))
    wait_until(lambda: ask(gateway.port, chat(key=secret.reveal())).status == 200, "key in force")
    gateway.call(keys.revoke(row.id))
    started = time.monotonic()
    wait_until(lambda: ask(gateway.port, chat(key=secret.reveal())).status == 401, "revocation in force")
    assert time.monotonic() - started < 1.0
    assert ask(gateway.port, chat()).status == 200


def test_no_log_line_holds_a_key_or_a_prompt(gateway: RunningGateway) -> None:
    ask(gateway.port, chat(text="a-private-prompt"))
    ask(gateway.port, chat(key="sk-pm-a-wrong-key-that-nobody-may-see"))
    refused(gateway, b'{"model": "a-private-model" "messages"')
    log = gateway.log_text()
    assert '"status":200' in log
    assert '"status":401' in log
    for secret in (KEY, "a-private-prompt", "nobody-may-see", "a-private-model", "Traceback"):
        assert secret not in log
