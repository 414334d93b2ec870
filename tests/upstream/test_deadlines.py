"""Each phase of a call has its own limit, and all of them together one more; the connection ends with the call."""

import socket
from typing import Any

import pytest

from upstream_peers import ANSWER, Names, Peer, deaf_address, get, listening, run, until, upstream_client

HEAD, BODY = ANSWER[:-2], ANSWER[-2:]
SLOW = "the upstream took too long "


@pytest.mark.parametrize(
    ("setting", "answer", "message"),
    [
        ("headers_timeout_seconds", None, SLOW + "to answer"),
        ("headers_timeout_seconds", HEAD[:-3], SLOW + "to answer"),
        ("first_byte_timeout_seconds", HEAD, SLOW + "to send the first byte"),
        ("idle_timeout_seconds", ANSWER[:-1], SLOW + "between two parts of the answer"),
        ("total_timeout_seconds", None, SLOW + "in all"),
        ("total_timeout_seconds", ANSWER[:-1], SLOW + "in all"),
    ],
)
def test_a_slow_answer_ends_with_its_phase_named(setting: str, answer: bytes | None, message: str) -> None:
    async def main() -> None:
        async with listening(Peer(answer)) as peer, upstream_client(**{setting: 0.3}) as client:
            assert await get(client, peer.origin()) == message
            await until(lambda: peer.all_ended, "end of the connection")
            assert client.open_connections == 0

    run(main())


@pytest.mark.parametrize("limits", [{"connect_timeout_seconds": 0.01}, {"total_timeout_seconds": 0.01}])
@pytest.mark.parametrize("phase", ["look-up", "connect"])
def test_reaching_an_upstream_has_a_limit(limits: dict[str, Any], phase: str) -> None:
    async def main() -> None:
        names = Names({"deaf.example": ["127.0.0.2"]})
        if phase == "look-up":
            names.free.clear()
        with deaf_address("127.0.0.2") as port:
            async with upstream_client(names, **limits) as client:
                origin = Peer().origin(host="deaf.example", port=port)
                assert await get(client, origin) == SLOW + "to connect"
                assert client.open_connections == 0
            names.free.set()

    run(main())


def test_a_connection_notices_a_peer_that_vanished_and_sends_small_writes_at_once() -> None:
    async def main() -> None:
        async with listening(Peer()) as peer, upstream_client() as client:
            assert await get(client, peer.origin()) == "hi"
            [connection] = client.pool(peer.origin())._idle
            raw = connection._transport.get_extra_info("socket")
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            idle = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            interval = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            count = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            assert idle + interval * count == 120

    run(main())
