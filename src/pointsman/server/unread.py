"""How much of what was written to a client it has not taken yet."""

import asyncio
import fcntl
import struct
import sys
import termios


def waiting_bytes(transport: asyncio.Transport, carrier: asyncio.Transport | None) -> int:
    """What waits in the transport, and in its ``carrier`` below TLS."""
    waiting = transport.get_write_buffer_size()
    return waiting if carrier is None else waiting + carrier.get_write_buffer_size()


def unread_bytes(transport: asyncio.Transport, carrier: asyncio.Transport | None) -> int:
    """The same and, on Linux, what waits in the kernel.

    The kernel takes more when a third of its queue is free: a client that reads a few kilobytes a second takes
    something all the time, though nothing leaves the transport.
    """
    unread = waiting_bytes(transport, carrier)
    connection = transport.get_extra_info("socket")
    if sys.platform == "linux" and connection is not None:
        try:
            unread += struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]  # tcp(7)
        except (OSError, ValueError):
            pass  # it is closed
    return unread
