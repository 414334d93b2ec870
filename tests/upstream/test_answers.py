"""What becomes of a stream's end: told as it was, once."""

import pytest

from pointsman.errors import GatewayError, Kind
from pointsman.providers.openai import StreamReader
from pointsman.providers.openai_operations import EventWatcher
from pointsman.upstream.answers import StreamedAnswer

CONTENT = b'data: {"choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'
BROKEN = b'data: {"error":{"message":"the engine died","type":"server_error"}}\n\n'
DONE = b"data: [DONE]\n\n"


class Client:
    """Takes a stream."""

    throttle = None

    def __init__(self) -> None:
        self.got = b""
        self.finished = 0

    def start(self, status: int, content_type: bytes, extra: bytes = b"") -> None:
        """The head is not looked at."""

    def write(self, data: bytes) -> None:
        """Kept."""
        self.got += data

    def finish(self) -> None:
        """Counted."""
        self.finished += 1

    def cut(self) -> None:
        raise AssertionError


def relayed(
    reader: type[StreamReader] | type[EventWatcher], pieces: list[bytes]
) -> tuple[Client, list[GatewayError | None]]:
    """What a client got of a stream that came in these pieces and ended well, and how it was settled."""
    settled: list[GatewayError | None] = []
    client = Client()
    answer = StreamedAnswer(client, reader(), lambda error, last: settled.append(error), lambda error: b"")
    answer.head(200, {b"content-type": b"text/event-stream"}, None)  # type: ignore[arg-type]
    for piece in pieces:
        answer.data(piece)
    answer.end(b"")
    return client, settled


@pytest.mark.parametrize("pieces", [[CONTENT + BROKEN + DONE], [CONTENT, BROKEN, DONE], [CONTENT, BROKEN + DONE]])
@pytest.mark.parametrize("reader", [StreamReader, EventWatcher])
def test_what_broke_is_no_success_though_its_upstream_ends_it_properly(
    reader: type[StreamReader] | type[EventWatcher], pieces: list[bytes]
) -> None:
    client, settled = relayed(reader, pieces)
    [error] = settled
    assert error is not None
    assert error.kind is Kind.UPSTREAM_ERROR
    assert (client.got, client.finished) == (CONTENT + BROKEN + DONE, 1)


@pytest.mark.parametrize("pieces", [[CONTENT + DONE + BROKEN], [CONTENT, DONE, BROKEN], [CONTENT + DONE, BROKEN]])
@pytest.mark.parametrize("reader", [StreamReader, EventWatcher])
def test_what_comes_behind_the_end_makes_no_failure_of_a_success_however_it_is_read(
    reader: type[StreamReader] | type[EventWatcher], pieces: list[bytes]
) -> None:
    client, settled = relayed(reader, pieces)
    assert settled == [None]
    assert (client.got, client.finished) == (CONTENT + DONE + BROKEN, 1)
