"""Listening sockets: shared, counted and closed."""

import socket
from pathlib import Path

import pytest

from gateway import running_gateway, wait_until
from pointsman.server.host import Host
from pointsman.server.listeners import bind_listeners, queue_length, shut_door
from raw_client import Connection, request


def test_shares_of_port_0_are_one_free_port_with_queues_of_their_own() -> None:
    shares = bind_listeners("127.0.0.1", 0, 2)
    [port] = {listener.getsockname()[1] for share in shares for listener in share}
    clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(40)]
    lengths = [queue_length(share[0].fileno()) for share in shares]
    assert sum(lengths) == 40
    assert all(lengths)
    for one in [*clients, *(listener for share in shares for listener in share)]:
        one.close()


def test_a_shut_door_lets_nobody_in_and_keeps_who_is_there() -> None:
    [[listener]] = bind_listeners("127.0.0.1", 0, 1)
    with listener, socket.create_connection(listener.getsockname(), 5) as early, socket.socket() as late:
        shut_door(listener.fileno())
        late.setblocking(False)
        late.connect_ex(listener.getsockname())
        early.sendall(b"hello")
        wait_until(lambda: queue_length(listener.fileno()) == 1, "the early one in the queue")
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(5)
            assert accepted.recv(5) == b"hello"
        assert queue_length(listener.fileno()) == 0


@pytest.mark.parametrize("shut", [True, False])
def test_a_door_that_was_shut_is_opened_by_the_next_who_takes_connections(tmp_path: Path, shut: bool) -> None:
    [[listener]] = bind_listeners("127.0.0.1", 0, 1)
    with listener, running_gateway(tmp_path, {}) as gateway:
        if shut:
            shut_door(listener.fileno())
        host = Host(gateway.server.edge, "127.0.0.1", 0, grace_seconds=0.0)
        servers = gateway.call(host.take_from([listener]))
        try:
            with Connection(listener.getsockname()[1]) as client:
                assert client.ask(request("GET", "/health", key=None)).status == 200
        finally:
            gateway.read(lambda: [server.close() for server in servers])
