"""OmniRoute's chat over a WebSocket, before a real gateway."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.canonical.record import Outcome
from pointsman.server.chat_socket import MAX_RUNNING
from pointsman.testing import AnthropicMessages, OpenAIChat, RunningSimulator, running_simulator
from pointsman.wire import json_width
from raw_client import ask, request

PATH = "/api/v1/ws"
SAY: Any = {"model": "gpt/sim-model", "messages": [{"role": "user", "content": "hello there"}]}
ENDS = ("response.completed", "response.cancelled", "response.error", "protocol.error", "pong")


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_simulator(AnthropicMessages(api_key=UPSTREAM_KEY)) as claude:
        connections = [
            {"id": "gpt", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY},
            {"id": "claude", "kind": "anthropic", "base_url": claude.origin, "api_key": UPSTREAM_KEY},
        ]
        settings = {"connections": connections, "server": {"max_body_bytes": 100_000}}
        with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as running:
            yield running


def dial(gateway: RunningGateway, query: str = "", key: str | None = KEY) -> connect:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return connect(f"ws://127.0.0.1:{gateway.port}{PATH}{query}", additional_headers=headers, compression=None)


@pytest.fixture
def socket(gateway: RunningGateway) -> Iterator[ClientConnection]:
    with dial(gateway) as opened:
        assert receive(opened)["type"] == "session.ready"
        yield opened


def receive(socket: ClientConnection) -> Any:
    return json.loads(socket.recv(timeout=20))


def send(socket: ClientConnection, identity: Any = "r1", **members: Any) -> None:
    payload = {**SAY, **members.pop("payload", {})}
    socket.send(json.dumps({"type": "request", "id": identity, "payload": payload, **members}))


def frames(socket: ClientConnection) -> list[Any]:
    """All up to the end of a request."""
    found = [receive(socket)]
    while found[-1]["type"] not in ENDS:
        found.append(receive(socket))
    return found


def chunks(found: list[Any], identity: str = "r1") -> str:
    return "".join(frame["chunk"] for frame in found if frame["type"] == "response.chunk" and frame["id"] == identity)


def test_a_get_without_an_upgrade_is_told_how(gateway: RunningGateway) -> None:
    plain = ask(gateway.port, request("GET", PATH, key=None))
    assert (plain.status, plain.error["code"], plain.headers["upgrade"]) == (426, "upgrade_required", "websocket")
    told = ask(gateway.port, request("GET", f"{PATH}?handshake=1"))
    assert told.status == 200
    assert told.json()["path"] == PATH
    assert (told.json()["wsAuth"], told.json()["authenticated"]) == (True, True)
    assert set(told.json()["protocol"]) == {"request", "cancel"}
    for query, key, status, code in (
        ("", None, 401, "ws_auth_required"),
        ("", "wrong", 403, "ws_auth_invalid"),
        ("&api_key=wrong", None, 403, "ws_auth_invalid"),
    ):
        refused = ask(gateway.port, request("GET", f"{PATH}?handshake=1{query}", key=key))
        assert (refused.status, refused.error["code"]) == (status, code)


@pytest.mark.parametrize(("query", "key", "status"), [("", None, 401), ("", "wrong", 403), ("?token=x", None, 403)])
def test_nobody_gets_a_socket_without_a_key(gateway: RunningGateway, query: str, key: str | None, status: int) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught, dial(gateway, query, key):
        pass
    assert caught.value.response.status_code == status


@pytest.mark.parametrize("name", ["api_key", "token", "access_token"])
def test_a_browser_sends_its_key_in_the_query(gateway: RunningGateway, name: str) -> None:
    with dial(gateway, f"?{name}={KEY}", None) as socket:
        ready = receive(socket)
        assert (ready["type"], ready["path"], ready["authType"]) == ("session.ready", PATH, "api_key")
        send(socket)
        assert frames(socket)[-1]["type"] == "response.completed"


def test_a_payload_goes_out_as_it_came_but_for_what_a_stream_is_asked_for(
    simulator: RunningSimulator, socket: ClientConnection
) -> None:
    payload = '{"model":"gpt/sim-model","messages":[{"role":"user","content":"\\u00e9"}],"seed":7,"temperature":1.0}'
    socket.send(f'{{"type":"request","id":"r1","payload":{payload}}}')
    assert frames(socket)[-1]["type"] == "response.completed"
    expected = payload.replace("gpt/", "")[:-1] + ',"stream":true,"stream_options":{"include_usage":true}}'
    assert simulator.requests[-1].body.decode() == expected


@pytest.mark.parametrize("model", ["gpt/sim-model", "claude/sim-model"])
def test_a_request_is_answered_by_a_stream_and_recorded_once(
    gateway: RunningGateway, socket: ClientConnection, model: str
) -> None:
    send(socket, payload={"model": model})
    found = frames(socket)
    assert found[0]["type"] == "response.start"
    assert (found[0]["status"], found[0]["ok"], found[0]["endpoint"]) == (200, True, "/v1/chat/completions")
    text = chunks(found)
    assert "hello" in text
    assert text.endswith("data: [DONE]\n\n")
    assert found[-1] == {"type": "response.completed", "id": "r1", "status": 200, "ok": True}
    record = gateway.journal.the(found[0]["requestId"])
    assert (record.outcome, record.stream, record.bytes_out) == (Outcome.SUCCESS, True, len(text))


@pytest.mark.parametrize(
    ("endpoint", "payload", "end"),
    [
        ("/v1/messages", {"max_tokens": 9}, "message_stop"),
        ("/api/v1/responses", {"input": "hello", "messages": None}, "response.completed"),
        ("/v1/completions", {"prompt": "hello", "messages": None}, "[DONE]"),
    ],
)
def test_other_endpoints_speak_their_own_api(
    socket: ClientConnection, endpoint: str, payload: dict[str, Any], end: str
) -> None:
    whole = {name: value for name, value in {**SAY, **payload}.items() if value is not None}
    socket.send(json.dumps({"type": "request", "id": "r1", "endpoint": endpoint, "payload": whole}))
    found = frames(socket)
    assert found[-1]["type"] == "response.completed"
    assert end in chunks(found)


def test_without_a_stream_the_answer_is_one_frame(gateway: RunningGateway, socket: ClientConnection) -> None:
    send(socket, payload={"stream": False})
    start, output, end = frames(socket)
    assert start["contentType"].startswith("application/json")
    assert output["type"] == "response.output"
    assert output["body"]["choices"][0]["message"]["content"] == "echo: hello there"
    assert end["type"] == "response.completed"
    assert gateway.journal.the(start["requestId"]).outcome is Outcome.SUCCESS


def test_a_refusal_is_a_frame_and_the_socket_stays_open(gateway: RunningGateway, socket: ClientConnection) -> None:
    send(socket, payload={"model": "nowhere/none"})
    start, refused = frames(socket)
    assert (start["status"], start["ok"]) == (404, False)
    assert refused["type"] == "response.error"
    assert refused["body"]["error"]["code"] == "model_not_found"
    assert receive(socket)["type"] == "response.completed"
    assert gateway.journal.the(start["requestId"]).status == 404
    send(socket)
    assert frames(socket)[-1]["type"] == "response.completed"


def test_a_stream_that_breaks_ends_in_the_dialects_error_event(socket: ClientConnection) -> None:
    send(socket, payload={"model": "gpt/sim-model#fault=cut_mid_stream,tokens=9"})
    assert '"upstream_error"' in chunks(frames(socket))


def test_requests_run_side_by_side(socket: ClientConnection) -> None:
    send(socket, "slow", payload={"model": "gpt/sim-model#first_token_ms=400"})
    send(socket, "quick")
    found = [*frames(socket), *frames(socket)]
    assert [frame["id"] for frame in found if frame["type"] == "response.completed"] == ["quick", "slow"]
    assert "hello" in chunks(found, "slow")


def test_a_request_can_be_cancelled_and_its_upstream_call_ends(
    gateway: RunningGateway, socket: ClientConnection
) -> None:
    send(socket, payload={"model": "gpt/sim-model#tokens=5000,pace_ms=20"})
    start = receive(socket)
    assert receive(socket)["type"] == "response.chunk"
    socket.send(json.dumps({"type": "cancel", "id": "r1"}))
    assert (frames(socket)[-1]["type"], gateway.journal.the(start["requestId"]).outcome) == (
        "response.cancelled", Outcome.CLIENT_CLOSED,
    )  # fmt: skip
    send(socket)  # its id is free again
    assert frames(socket)[-1]["type"] == "response.completed"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_envelope"),
        ('{"type":"request","id":"x","payload":[]}', "invalid_payload"),
        ('{"type":"other"}', "unsupported_type"),
        ('{"type":"cancel"}', "invalid_cancel"),
        ('{"type":"cancel","id":"x"}', "unknown_request"),
        ('{"type":"request","payload":{}}', "invalid_request_id"),
        ('{"type":"request","id":7,"payload":{}}', "invalid_request_id"),
        ('{"type":"request","id":"x"}', "invalid_payload"),
        ('{"type":"request","id":"x","payload":{},"endpoint":"/metrics"}', "invalid_endpoint"),
        ('{"type":"request","id":"x","payload":{},"endpoint":"/v1/messages/../keys"}', "invalid_endpoint"),
        ('{"type":"request","id":"x","payload":{},"endpoint":"http://other/v1/messages"}', "invalid_endpoint"),
    ],
)
def test_a_wrong_message_is_told_and_the_socket_stays_open(socket: ClientConnection, message: str, code: str) -> None:
    socket.send(message)
    told = receive(socket)
    assert (told["type"], told.get("code")) == ("protocol.error", code)
    socket.send('{"type":"ping"}')
    assert receive(socket)["type"] == "pong"


def test_a_message_of_too_many_objects_is_told_and_the_socket_stays_open(
    socket: ClientConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_width, "LARGE_BYTES", 1000)
    monkeypatch.setattr(json_width, "MOST_OBJECTS", 400)
    test_a_wrong_message_is_told_and_the_socket_stays_open(
        socket, '{"type":"request","id":"x","payload":{"other":[' + "{}," * 400 + "1]}}", "message_too_large"
    )


def test_what_runs_at_once_has_a_limit_and_ends_with_the_socket(gateway: RunningGateway) -> None:
    slow = {"model": "gpt/sim-model#first_token_ms=30000"}
    with dial(gateway) as socket:
        receive(socket)
        for number in range(MAX_RUNNING):
            send(socket, f"r{number}", payload=slow)
        send(socket, "r0", payload=slow)
        assert receive(socket)["code"] == "duplicate_request"
        send(socket, "one too many", payload=slow)
        assert receive(socket)["code"] == "too_many_requests"
        wait_until(lambda: gateway.read(lambda: gateway.server.admission.running) == MAX_RUNNING, "calls in flight")
    wait_until(lambda: gateway.read(lambda: gateway.server.admission.running) == 0, "free places")


def test_the_bodies_that_run_at_once_have_the_bytes_of_one_message(gateway: RunningGateway) -> None:
    large: Any = {"messages": [{"role": "user", "content": "x" * 60_000}]}
    slow = {"model": "gpt/sim-model#first_token_ms=30000"}
    with dial(gateway) as socket:
        receive(socket)
        send(socket, "r1", payload=slow | large)
        send(socket, "r2", payload=slow | large)
        refused = receive(socket)
        assert (refused["code"], refused["id"]) == ("too_many_requests", "r2")
        send(socket, "r3")
        assert frames(socket)[-1]["type"] == "response.completed"
        socket.send('{"type":"cancel","id":"r1"}')
        assert frames(socket)[-1]["type"] == "response.cancelled"
        send(socket, "r2", payload=large)
        assert frames(socket)[-1]["type"] == "response.completed"


def test_a_message_without_measure_closes_the_socket(socket: ClientConnection) -> None:
    socket.send("x" * 100_001)
    with pytest.raises(websockets.ConnectionClosedError) as caught:
        socket.recv(timeout=20)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


def test_large_answers_side_by_side_reach_a_slow_client_whole(
    gateway: RunningGateway,
) -> None:
    with dial(gateway) as socket:
        receive(socket)
        for number in range(4):
            send(socket, f"r{number}", payload={"model": "gpt/sim-model#tokens=20000"})
        found: list[Any] = []
        for _ in range(4):
            found += frames(socket)
        for number in range(4):
            assert chunks(found, f"r{number}").endswith("data: [DONE]\n\n")
