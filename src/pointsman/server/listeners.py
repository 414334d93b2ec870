"""Listening sockets: several on one port for several workers, and how one is closed without losing a connection."""

import ctypes
import socket
import struct
import sys
from contextlib import suppress
from typing import Final

import structlog

from pointsman.errors import ConfigError

BACKLOG: Final = 4096
# linux/include/uapi/asm-generic/socket.h; the socket module has no names for them
SO_ATTACH_FILTER: Final = 26
SO_DETACH_FILTER: Final = 27
# Classic BPF over the TCP header: drop what asks for a new connection (SYN without ACK), let everything else pass.
_NO_NEW_CONNECTIONS: Final = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)
_UNACKED: Final = 24  # tcpi_unacked in struct tcp_info: of a listening socket, the length of its queue
log = structlog.get_logger("pointsman.listeners")


def bind_listeners(host: str, port: int, shares: int) -> list[list[socket.socket]]:
    """Listen on the address ``shares`` times, each with a queue of its own among which the kernel spreads connections.

    Gives the sockets of each share: one for every address that ``host`` has. With port 0 all get the same free port.
    Raises ConfigError when the address can't be had, also when another program of the same user listens on it.
    """
    made: list[list[socket.socket]] = [[] for _ in range(shares)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            if port:
                _bind(family, (address[0], port, *address[2:]), alone=True).close()  # is it free?
            for share in made:
                share.append(_bind(family, (address[0], port, *address[2:]), alone=False))
                port = share[0].getsockname()[1]
        for share in made:
            for listener in share:
                listener.listen(BACKLOG)
    except OSError as error:
        for share in made:
            for listener in share:
                listener.close()
        raise ConfigError(f"can't listen on {host}:{port}: {error.strerror or error}") from error
    return made


def _bind(family: int, address: tuple[object, ...], *, alone: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if not alone:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setblocking(False)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def shut_door(descriptor: int) -> None:
    """Let no further connection into a listening socket's queue, so that the queue can be emptied before the close.

    Closing resets every connection that waits to be accepted, though its client may have sent a request already. Who
    knocks now gets no answer, knocks again after a second, and is refused then. Only Linux can do this.
    """
    if sys.platform != "linux":
        return
    program = b"".join(struct.pack("HBBI", *line) for line in _NO_NEW_CONNECTIONS)
    lines = ctypes.create_string_buffer(program, len(program))
    listener = socket.socket(fileno=socket.dup(descriptor))
    try:
        argument = struct.pack("HP", len(_NO_NEW_CONNECTIONS), ctypes.addressof(lines))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, argument)
    except OSError as error:
        log.warning("connections may be lost at the close", reason=error.strerror)
    finally:
        listener.close()


def open_door(descriptor: int) -> None:
    """Let connections into a listening socket's queue again, whoever has shut its door.

    Sockets outlive the workers that share them: what one of them did in its last moments binds the next.
    """
    if sys.platform != "linux":
        return
    listener = socket.socket(fileno=socket.dup(descriptor))
    try:
        with suppress(OSError):  # it was open
            listener.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    finally:
        listener.close()


def queue_length(descriptor: int) -> int:
    """How many connections wait to be accepted from a listening socket; 0 where that can't be asked."""
    if sys.platform != "linux":
        return 0
    listener = socket.socket(fileno=socket.dup(descriptor))
    try:
        information = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED + 4)
    finally:
        listener.close()
    return int(struct.unpack_from("I", information, _UNACKED)[0])
