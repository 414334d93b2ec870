"""Clients that have closed their sending side: are they still there?"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from pointsman.server.exchange import CONTINUE, STREAMING, Exchange

TCP_CLOSE: Final = 7  # linux/include/net/tcp_states.h
FIRST_LOOK_SECONDS: Final = 0.005
LONGEST_LOOK_SECONDS: Final = 0.25


def probe(
    transport: asyncio.Transport,
    exchange: Exchange,
    loop: asyncio.AbstractEventLoop,
    in_flight: Callable[[], bool],
) -> None:
    """Find out whether the client has only closed its sending side, or is gone: a FIN looks the same.

    A harmless piece is sent: an interim answer, or in a stream a zero, with which the size of any chunk may begin
    (RFC 9112 7.1); in a stream of HTTP/1.0, which has no chunks, the comment of its API. Who is gone answers it with
    RST, which nobody reads any more after the end of input, so the socket's state is looked at while a request is
    ``in_flight``, and the connection of who is gone is aborted.
    """
    if exchange.http11:
        transport.write(b"0" if exchange.state == STREAMING else CONTINUE)
    elif exchange.state == STREAMING:
        exchange.comment()

    loop.call_later(FIRST_LOOK_SECONDS, _look, transport, loop, in_flight, FIRST_LOOK_SECONDS)


def _look(
    transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, in_flight: Callable[[], bool], delay: float
) -> None:
    if not in_flight():
        return
    sock = transport.get_extra_info("socket")
    if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE:
        transport.abort()
    else:
        delay = min(delay * 2, LONGEST_LOOK_SECONDS)
        loop.call_later(delay, _look, transport, loop, in_flight, delay)
