"""The reading of an upstream's answer: the same bytes mean the same however they are cut, and odd ones are refused."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pointsman.clock import SystemClock
from pointsman.errors import GatewayError
from pointsman.settings import UpstreamSettings
from pointsman.ticker import Ticker
from pointsman.upstream.http1 import STALE_SECONDS, Sink, UpstreamConnection

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
LIMITS = UpstreamSettings(max_header_bytes=200, max_header_count=8, max_response_bytes=64)


class Recorder:
    """A sink that keeps what it was told."""

    def __init__(self, stream: bool) -> None:
        self.done = False
        self.connection: UpstreamConnection | None = None
        self.stream = stream
        self.heads = 0
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.outcome = "open"

    def __await__(self) -> Iterator[None]:
        yield

    def head(self, status: int, headers: dict[bytes, bytes], call: UpstreamConnection) -> bool:
        """Keep it. What is raised here would look like a fault of the answer to the parser: heads are counted."""
        self.heads += 1
        self.status, self.headers = status, headers
        return self.stream

    def data(self, chunk: bytes) -> None:
        """Add it."""
        assert self.outcome == "open"
        self.body += chunk

    def end(self, body: bytes) -> None:
        """The answer is whole."""
        assert self.outcome == "open"
        self.body += body
        self.outcome = "end"

    def fail(self, error: GatewayError) -> None:
        """It is not."""
        assert self.outcome == "open"
        self.outcome = error.message

    def told(self) -> tuple[object, ...]:
        """Everything that a caller can tell apart."""
        return self.status, sorted(self.headers.items()), self.body, self.outcome


class Wire(asyncio.Transport):
    """A transport that takes everything; `abort`, and whether it is read from, are remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Taken."""

    def abort(self) -> None:
        """Closed."""
        self.closed = True

    def pause_reading(self) -> None:
        """Not read from."""
        self.reading = False

    def resume_reading(self) -> None:
        """Read from again."""
        self.reading = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed


class Home:
    """What a connection goes back to."""

    def __init__(self, settings: UpstreamSettings = LIMITS) -> None:
        self.settings = settings
        self.ticker = Ticker(cast(asyncio.AbstractEventLoop, None), SystemClock())  # never started
        self.kept = 0
        self.repeated = 0

    def put(self, connection: UpstreamConnection) -> None:
        """Taken back."""
        self.kept += 1

    def proven(self, transport: asyncio.Transport) -> None:
        """It works."""

    def lost(self, connection: UpstreamConnection) -> None:
        """Gone."""

    def repeat(
        self, message: bytes, sink: Sink, total_deadline: float, limits: UpstreamSettings, begin_by: float
    ) -> None:
        """Asked to send again."""
        self.repeated += 1


def exchange(place: Home, pieces: list[bytes], *, stream: bool, close: bool = True) -> tuple[Recorder, bool]:
    """Read an answer that comes in ``pieces``; gives what the sink was told, and whether the connection was kept."""
    connection, sink = UpstreamConnection(place), Recorder(stream)
    wire = Wire()
    connection.connection_made(wire)
    kept = place.kept
    connection.send(b"request", sink, 1e9)
    for piece in pieces:
        if piece and not connection.closed:
            connection.data_received(piece)
    keeps = place.kept > kept and not wire.closed
    if close:
        connection.connection_lost(None)
    assert sink.outcome != "open" or not close
    assert sink.heads <= 1
    return sink, keeps


def ask(answer: bytes, *, stream: bool = False) -> tuple[Recorder, bool]:
    """Read an answer that comes in one piece."""
    return exchange(Home(), [answer], stream=stream)


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """An HTTP chunk."""
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


ACCEPTED = {
    "length": (OK + b"content-length: 2\r\n\r\nhi", 200, b"hi", True),
    "chunked": (CHUNKED + chunk(b"h") + chunk(b"i") + b"0\r\n\r\n", 200, b"hi", True),
    "chunk extensions": (CHUNKED + chunk(b"hi", b';a=b;c="d e"') + b"0;last\r\n\r\n", 200, b"hi", True),
    "trailers": (CHUNKED + chunk(b"hi") + b"0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n", 200, b"hi", True),
    "until close": (OK + b"\r\nhi", 200, b"hi", False),
    "until close, empty": (OK + b"\r\n", 200, b"", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", False),
    "connection: close": (OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", False),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, b"", True),
    "100 and 103 before": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
        + OK
        + b"content-length: 2\r\n\r\nhi",
        200,
        b"hi",
        True,
    ),
    "empty lines before": (b"\r\n\r\n" + OK + b"content-length: 2\r\n\r\nhi", 200, b"hi", True),
    "identity": (OK + b"content-encoding: identity\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", True),
    "obsolete text": (OK + b"x-name: caf\xe9\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", True),
    "as many fields as the limit": (
        OK + b"".join(b"a%d: 1\r\n" % n for n in range(7)) + b"content-length: 2\r\n\r\nhi", 200, b"hi", True,
    ),
    # What comes after a whole answer was not asked for: the answer counts, the connection is not used again.
    "204 with a body": (b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nhi", 204, b"", False),
    "rubbish after": (OK + b"content-length: 2\r\n\r\nhiRUBBISH", 200, b"hi", False),
    "rubbish after close": (OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhiRUBBISH", 200, b"hi", False),
    "a second whole answer": (
        OK + b"content-length: 2\r\n\r\nhi" + OK.replace(b"200", b"500") + b"content-length: 2\r\n\r\nho",
        200, b"hi", False,
    ),
    "a second answer": (OK + b"content-length: 2\r\n\r\nhi" + OK + b"x: y\r\n\r\n", 200, b"hi", False),
}  # fmt: skip
REFUSED = {
    "obs-fold": OK + b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "length too large for 64 bits": OK + b"content-length: 99999999999999999999999\r\n\r\n",
    "negative length": OK + b"content-length: -1\r\n\r\n",
    "signed length": OK + b"content-length: +2\r\n\r\nhi",
    "two lengths": OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nhi",
    "a list of lengths": OK + b"content-length: 2, 2\r\n\r\nhi",
    "length and chunked": OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "chunked and length": OK + b"transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "compressed": OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\nhi",
    "compressed twice": OK + b"content-encoding: identity\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nhi",
    "compressed on the way": OK + b"transfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "compressed until close": OK + b"transfer-encoding: gzip\r\n\r\nhi",
    "NUL in a value": OK + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "blank before the colon": OK + b"x : a\r\ncontent-length: 0\r\n\r\n",
    "no name": OK + b": a\r\ncontent-length: 0\r\n\r\n",
    "chunk too large for 64 bits": CHUNKED + b"ffffffffffffffffff\r\na",
    "chunk of no size": CHUNKED + b"\r\na\r\n0\r\n\r\n",
    "negative chunk": CHUNKED + b"-1\r\na\r\n0\r\n\r\n",
    "chunk longer than it says": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "status 000": b"HTTP/1.1 000 Nothing\r\ncontent-length: 0\r\n\r\n",
    "status 000 before an answer": b"HTTP/1.1 000 Nothing\r\n\r\n" + OK + b"content-length: 2\r\n\r\nhi",
    "HTTP/0.9": b"<html>hello</html>",
    "not HTTP": b"SSH-2.0-OpenSSH_9\r\n",
    "length never reached": OK + b"content-length: 5\r\n\r\nhi",
    "no last chunk": CHUNKED + chunk(b"hi"),
    "trailers cut": CHUNKED + chunk(b"hi") + b"0\r\nx: y\r\n",
    "head cut": OK + b"content-length: 2\r\n",
    "only a 100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "nothing": b"",
    "long head": OK + b"x: " + b"a" * 200 + b"\r\ncontent-length: 0\r\n\r\n",
    "long reason": b"HTTP/1.1 200 " + b"a" * 200 + b"\r\ncontent-length: 0\r\n\r\n",
    "many fields": OK + b"".join(b"a%d: 1\r\n" % n for n in range(9)) + b"\r\n",
    "endless 100s": b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + OK + b"content-length: 0\r\n\r\n",
}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])


@BOTH
@pytest.mark.parametrize("name", ACCEPTED)
def test_an_answer_is_read(name: str, stream: bool) -> None:
    answer, status, body, kept = ACCEPTED[name]
    sink, keeps = ask(answer, stream=stream)
    assert (sink.status, sink.body, sink.outcome, keeps) == (status, body, "end", kept)
    assert b"x-sum" not in sink.headers
    assert b"link" not in sink.headers
    assert b"x" not in sink.headers


@BOTH
@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_is_refused(name: str, stream: bool) -> None:
    sink, keeps = ask(REFUSED[name], stream=stream)
    assert "upstream" in sink.outcome
    assert not keeps


def test_a_buffered_answer_larger_than_the_limit_is_refused_before_it_is_whole() -> None:
    sink, keeps = ask(OK + b"content-length: 1000000\r\n\r\n" + b"a" * 65)
    assert sink.outcome == "the upstream's answer is larger than the limit"
    assert not keeps
    sink, _ = ask(OK + b"content-length: 64\r\n\r\n" + b"a" * 64)
    assert sink.outcome == "end"


@BOTH
@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["fin", "rst"])
def test_an_answer_without_a_length_is_whole_at_a_proper_end_alone(error: Exception | None, stream: bool) -> None:
    connection, sink = UpstreamConnection(Home()), Recorder(stream)
    connection.connection_made(Wire())
    connection.send(b"", sink, 1e9)
    connection.data_received(ACCEPTED["until close"][0])
    connection.connection_lost(error)
    assert sink.outcome == ("the upstream closed the connection in mid-answer" if error else "end")


@BOTH
def test_a_head_may_be_as_long_as_the_limit_whatever_follows_it(stream: bool) -> None:
    for size in (200, 201):
        fixed = OK + b"content-length: 40\r\nx: \r\n\r\n"
        head = fixed.replace(b"x: ", b"x: " + b"a" * (size - len(fixed)))
        sink, _ = ask(head + b"b" * 40, stream=stream)
        assert (sink.outcome == "end") == (size == 200)
        alone, _ = exchange(Home(), [head, b"b" * 40], stream=stream)
        assert alone.outcome == sink.outcome
        if size == 201:
            assert sink.outcome == "the upstream's answer has too large a head"


@BOTH
@pytest.mark.parametrize("endless", [b"x: " + b"a" * 50, b"a-trailer: b\r\n" * 5])
def test_endless_trailers_are_cut_off(endless: bytes, stream: bool) -> None:
    place = Home()
    start = CHUNKED + chunk(b"hi") + b"0\r\n"
    sink, keeps = exchange(place, [start, *[endless] * 50], stream=stream, close=False)
    assert sink.outcome == "the upstream's answer is not valid HTTP"
    assert not keeps


@BOTH
def test_an_endless_chunk_extension_is_cut_off(stream: bool) -> None:
    place = Home()
    sink, _ = exchange(place, [CHUNKED + b"1;", *[b"a" * 50] * 50], stream=stream, close=False)
    assert sink.outcome == "the upstream's answer is not valid HTTP"


@BOTH
def test_small_chunks_without_end_are_no_endless_talk(stream: bool) -> None:
    place = Home(UpstreamSettings(max_header_bytes=200))
    pieces = [CHUNKED, *[piece for _ in range(500) for piece in (b"1;x=y\r\n", b"a\r\n")], b"0\r\n\r\n"]
    sink, keeps = exchange(place, pieces, stream=stream)
    assert (sink.body, sink.outcome, keeps) == (b"a" * 500, "end", True)


def test_a_connection_past_its_age_is_not_used_again() -> None:
    place = Home(UpstreamSettings(max_connection_age_seconds=1e-9))
    place.ticker.now += 1.0
    connection, sink = UpstreamConnection(place), Recorder(False)
    connection.connection_made(Wire())
    connection.send(b"", sink, 1e9)
    place.ticker.now += 1.0
    connection.data_received(ACCEPTED["length"][0])
    assert sink.outcome == "end"
    assert (place.kept, connection.usable) == (0, False)


def test_a_kept_connection_that_dies_is_repeated_only_when_nothing_was_answered() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTED["chunked"][0]
    for cut in range(len(answer)):
        for error in (None, ConnectionResetError()):
            place = Home()
            connection = UpstreamConnection(place)
            connection.connection_made(Wire())
            connection.send(b"", Recorder(False), 1e9)
            connection.data_received(ACCEPTED["length"][0])
            sink = Recorder(False)
            connection.send(b"", sink, 1e9)
            if cut:
                connection.data_received(answer[:cut])
            connection.connection_lost(error)
            assert place.repeated == (1 if cut == 0 else 0)
            assert (sink.outcome == "open") == (cut == 0)


@pytest.mark.parametrize(("waited", "repeated"), [(STALE_SECONDS, 1), (STALE_SECONDS + 0.1, 0)])
def test_a_call_that_may_have_been_worked_on_is_not_repeated(waited: float, repeated: int) -> None:
    place = Home()
    connection, sink = UpstreamConnection(place), Recorder(False)
    connection.connection_made(Wire())
    place.ticker.now = 100.0
    connection.send(b"", Recorder(False), 1e9)
    connection.data_received(ACCEPTED["length"][0])
    connection.send(b"", sink, 1e9)
    place.ticker.now += waited
    connection.connection_lost(ConnectionResetError())
    assert place.repeated == repeated
    assert sink.outcome == ("open" if repeated else "the upstream closed the connection without an answer")


def test_a_client_that_lags_at_the_end_of_its_answer_does_not_stop_the_next_call_on_the_connection() -> None:
    class Lagging(Recorder):
        """Its client takes no more just when the end is written to it."""

        def end(self, body: bytes) -> None:
            super().end(body)
            assert self.connection is not None
            self.connection.pause()

    place, wire = Home(), Wire()
    connection, sink = UpstreamConnection(place), Lagging(True)
    connection.connection_made(wire)
    connection.send(b"", sink, 1e9)
    connection.data_received(ACCEPTED["chunked"][0])
    assert (sink.outcome, place.kept, wire.reading) == ("end", 1, True)
    assert connection.deadline < 1e9, "an idle connection has an end"


@pytest.mark.parametrize("begun", [False, True], ids=["no head", "head alone"])
def test_an_answer_that_must_begin_by_a_time_has_no_more_than_that(begun: bool) -> None:
    place = Home(UpstreamSettings(headers_timeout_seconds=10, first_byte_timeout_seconds=10))
    connection = UpstreamConnection(place)
    connection.connection_made(Wire())
    now = place.ticker.now = 100.0
    connection.send(b"", Recorder(True), 1e9, place.settings, now + 10)  # that it had to wait was 0 s
    place.ticker.now += 9
    if begun:
        connection.data_received(CHUNKED)
    assert connection.deadline == now + 10


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` in pieces."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


every_answer = st.sampled_from([answer for answer, *_ in ACCEPTED.values()] + list(REFUSED.values()))


@given(answer=every_answer, cuts=st.lists(st.integers(0, 2000), max_size=8), stream=st.booleans())
@hypothesis_settings(max_examples=400, deadline=None)
def test_any_split_of_an_answer_gives_the_same_result(answer: bytes, cuts: list[int], stream: bool) -> None:
    whole, _ = exchange(Home(), [answer], stream=stream)
    parts, _ = exchange(Home(), split(answer, cuts), stream=stream)
    assert parts.told() == whole.told()


fields = st.lists(
    st.tuples(
        st.sampled_from([b"x-a", b"Set-Cookie", b"server", b"Connection"]),
        st.sampled_from([b"a", b"", b"\xff", b"close"]),
    ),
    max_size=5,
)  # fmt: skip


@st.composite
def generated(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """An answer of random parts, sound or damaged."""
    head = b"HTTP/1.1 %d X\r\n" % draw(st.sampled_from([200, 204, 304, 400, 429, 500]))
    for name, value in draw(fields):
        head += name + b": " + value + b"\r\n"
    body = b"".join(draw(st.lists(st.sampled_from([b"", b"data: x\n\n", b"{}", b"\r\n"]), max_size=5)))
    framing = draw(st.sampled_from(["chunked", "length", "close"]))
    if framing == "chunked":
        answer = head + b"transfer-encoding: chunked\r\n\r\n" + (chunk(body) if body else b"") + b"0\r\n\r\n"
    elif framing == "length":
        answer = head + b"content-length: %d\r\n\r\n" % len(body) + body
    else:
        answer = head + b"\r\n" + body
    for place in draw(st.lists(st.integers(0, len(answer) - 1), max_size=2)):
        answer = answer[:place] + draw(st.sampled_from([b"\0", b"\n", b"0", b":", b" "])) + answer[place + 1 :]
    return answer


@given(answer=generated(), cuts=st.lists(st.integers(0, 400), max_size=8), stream=st.booleans())
@hypothesis_settings(max_examples=400, deadline=None)
def test_any_split_of_a_generated_answer_gives_the_same_result(answer: bytes, cuts: list[int], stream: bool) -> None:
    whole, _ = exchange(Home(), [answer], stream=stream)
    parts, _ = exchange(Home(), split(answer, cuts), stream=stream)
    assert parts.told() == whole.told()
