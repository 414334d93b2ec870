"""Raw sockets to a simulator, and what came over them."""

import json
import socket

from pointsman.testing import RunningSimulator

KEY = "sk-simulated-0123456789-wxyz"
# How a buffered answer and an error end.
END = b'fp_simulated0"\n}\n'
ERROR_END = b"}\n}\n"


class Wire:
    """Raw HTTP to a simulator: nothing between the test and the bytes."""

    def __init__(self, simulator: RunningSimulator) -> None:
        self.simulator = simulator

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """A new connection whose reads fail after five seconds."""
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(5)
        client.connect(("127.0.0.1", self.simulator.port))
        return client

    def head(self, length: int, simulate: str = "", version: str = "1.1") -> bytes:
        """The head of a chat request with a body of ``length`` bytes."""
        return (
            f"POST /v1/chat/completions HTTP/{version}\r\nhost: simulator\r\nauthorization: Bearer {KEY}\r\n"
            f"content-type: application/json\r\nx-simulate: {simulate}\r\ncontent-length: {length}\r\n\r\n"
        ).encode()

    def request(
        self, simulate: str = "", *, text: str = "one two three", version: str = "1.1", **members: object
    ) -> bytes:
        """The bytes of a chat request."""
        body = json.dumps({"model": "sim-model", "messages": [{"role": "user", "content": text}], **members}).encode()
        return self.head(len(body), simulate, version) + body

    def ask(self, simulate: str = "", **members: object) -> socket.socket:
        """A connection on which a chat request has been sent."""
        client = self.connect()
        client.sendall(self.request(simulate, **members))
        return client


def read_to_end(client: socket.socket) -> bytes:
    """Everything up to the FIN; then closes."""
    with client:
        received = b""
        while data := client.recv(65536):
            received += data
        return received


def read_until(client: socket.socket, mark: bytes) -> bytes:
    """Everything up to and including ``mark``; what comes in the same packet stays with it."""
    received = bytearray()
    while mark not in received[-65536 - len(mark) :]:
        data = client.recv(65536)
        assert data, f"the connection ended before {mark!r}: {received!r}"
        received += data
    return bytes(received)


def split_head(response: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the bytes after the head."""
    head, end, rest = response.partition(b"\r\n\r\n")
    assert end, response
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), rest


def chunks(body: bytes) -> list[bytes]:
    """The HTTP chunks in ``body``, the empty last one included; ValueError when a size is no number."""
    found = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n", rest
        found.append(rest[:length])
        body = rest[length + 2 :]
    return found
