"""What calls leave behind: nothing that only the garbage collector would find, since it looks seldom."""

import gc
import json
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from gateway import RunningGateway, wait_until
from pointsman.testing import FAULTS
from raw_client import Connection, ask, chat, chat_body, request

SETTINGS = {
    "upstream": {
        "headers_timeout_seconds": 0.3,
        "first_byte_timeout_seconds": 0.3,
        "idle_timeout_seconds": 0.3,
        "total_timeout_seconds": 1.0,
    },
    "combos": [{"name": "second", "targets": ["sim/sim-model#fault=http_500", "sim/sim-model"]}],
}
CALLS = 2
REFUSED = {
    "unknown key": chat(key="sk-unknown"),
    "no key": chat(key=None),
    "broken JSON": request("POST", "/v1/chat/completions", b'{"model": '),
    "wrong member": chat(temperature="warm"),
    "unknown model": chat(model="nobody/nothing"),
    "unknown path": request("GET", "/v1/nothing"),
    "broken body": request("POST", "/v1/chat/completions", b"no gzip", "content-encoding: gzip"),
    "broken HTTP": b"GET / HTTP/1.1\r\nhost gateway\r\n\r\n",
    "management": request("GET", "/api/pointsman/keys", key="sk-unknown"),
}


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """Nothing but reference counts frees anything."""
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.enable()


def rings(gateway: RunningGateway) -> Counter[str]:
    """What is unreachable and was not freed: objects of the gateway, by their kinds, once all its clients have left.

    Simulators run in this process, too: what they leave, and what both use, does not count.
    """
    edge = gateway.server.edge
    wait_until(lambda: not edge.connections and not edge.active, "end of all connections")
    gateway.read(lambda: None)  # the turn in which the last of them ended is over
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    kinds = [f"{type(one).__module__}.{type(one).__name__}" for one in gc.garbage]
    gc.garbage.clear()
    gc.collect()
    return Counter(
        kind for kind in kinds if kind.startswith("pointsman.") and not kind.startswith("pointsman.testing.")
    )


@pytest.mark.parametrize("fault", [None, *FAULTS])
@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "stream"])
def test_a_call_leaves_no_ring_whatever_its_upstream_does(
    gateway: RunningGateway, fault: str | None, stream: bool
) -> None:
    directives = f"fault={fault},after_events=2,headers_ms=500,at_byte=40" if fault else "tokens=3"
    body = chat_body(directives, stream=stream, max_tokens=9)
    turn = json.dumps({"model": f"sim/sim-model#{directives}", "input": "one two", "stream": stream}).encode()
    for _ in range(CALLS):
        ask(gateway.port, chat(directives, stream=stream))
        ask(gateway.port, request("POST", "/v1/messages", body))
        ask(gateway.port, request("POST", "/v1/responses", turn))
    assert rings(gateway) == Counter()


def test_an_operation_that_its_upstream_refuses_leaves_no_ring(gateway: RunningGateway) -> None:
    for _ in range(CALLS):
        body = b'{"model": "sim/sim-model", "input": "one two"}'
        assert ask(gateway.port, request("POST", "/v1/embeddings", body)).status == 404
    assert rings(gateway) == Counter()


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "stream"])
def test_a_call_that_a_second_target_answers_leaves_no_ring(gateway: RunningGateway, stream: bool) -> None:
    for _ in range(CALLS):
        assert ask(gateway.port, chat(model="second", stream=stream)).status == 200
    assert rings(gateway) == Counter()


@pytest.mark.parametrize("how", REFUSED)
def test_a_request_that_is_refused_leaves_no_ring(gateway: RunningGateway, how: str) -> None:
    for _ in range(CALLS):
        assert 400 <= ask(gateway.port, REFUSED[how]).status < 500
    assert rings(gateway) == Counter()


@pytest.mark.parametrize("directives", ["tokens=1000,pace_ms=10", "fault=stall,after_events=2"])
@pytest.mark.parametrize("half", [False, True], ids=["closed", "half-closed"])
@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_a_client_that_leaves_its_stream_leaves_no_ring(
    gateway: RunningGateway, directives: str, half: bool, path: str
) -> None:
    turn = json.dumps({"model": f"sim/sim-model#{directives}", "input": "one two", "stream": True}).encode()
    body = turn if path == "responses" else chat_body(directives, stream=True, max_tokens=2000)
    for _ in range(CALLS):
        with Connection(gateway.port) as connection:
            connection.send(request("POST", f"/v1/{path}", body))
            connection.read_until(b"\n\n")
            if half:
                connection.socket.shutdown(socket.SHUT_WR)
                connection.read_until(b"\n\n")
    assert rings(gateway) == Counter()


@pytest.mark.parametrize("part", [10, 200, -1], ids=["in the head", "in the body", "before its end"])
def test_a_client_that_leaves_in_mid_request_leaves_no_ring(gateway: RunningGateway, part: int) -> None:
    for _ in range(CALLS):
        with Connection(gateway.port) as connection:
            connection.send(chat()[:part])
    assert rings(gateway) == Counter()
