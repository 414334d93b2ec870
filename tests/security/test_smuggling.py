"""Requests that two readers could take for different ones: refused, or read in the one way that the standard knows."""

from contextlib import suppress

import pytest

from gateway import KEY, RunningGateway
from pointsman.testing import RunningSimulator
from raw_client import CHAT, Answer, Connection, chat, chat_body, request

HIDDEN = b"GET /v1/models/hidden HTTP/1.1\r\nhost: x\r\n\r\n"
BODY = chat_body()
HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n".encode()
WISH = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
SETTINGS = {"server": {"max_header_bytes": 8192}}


def refused(gateway: RunningGateway, simulator: RunningSimulator, data: bytes) -> Answer:
    """The one answer to ``data``: a refusal, behind which the connection ends and nothing was passed on.

    With a wish for HTTP/2 in its head too, which the parser reads twice.
    """
    refused_once(gateway, simulator, data.replace(b"\r\n", b"\r\n" + WISH, 1))
    return refused_once(gateway, simulator, data)


def refused_once(gateway: RunningGateway, simulator: RunningSimulator, data: bytes) -> Answer:
    """As `refused`, for these bytes alone."""
    with Connection(gateway.port) as connection:
        connection.send(data)
        answer = connection.answer()
        assert answer.status in (400, 431), answer
        assert answer.headers.get("connection") == "close", answer
        assert connection.is_closed(), "a second answer came: something was smuggled"
    assert simulator.requests == ()
    return answer


def chunks(body: bytes) -> bytes:
    """A chunked body."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("order", [0, 1])
def test_cl_te_and_te_cl_both_framings_at_once(
    gateway: RunningGateway, simulator: RunningSimulator, order: int
) -> None:
    body = chunks(BODY) + HIDDEN
    lines = [b"content-length: %d\r\n" % len(body), b"transfer-encoding: chunked\r\n"]
    refused(gateway, simulator, HEAD + lines[order] + lines[1 - order] + b"\r\n" + body)


@pytest.mark.parametrize(
    "lines",
    [
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"transfer-encoding: chunked, gzip\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding: identity\r\n",
        b"transfer-encoding:\r\n",
        b'transfer-encoding: "chunked"\r\n',
        b"transfer-encoding: chunked;q=1\r\n",
        b"transfer-encoding : chunked\r\n",
        b"transfer-encoding:\x0bchunked\r\n",
        b"transfer-encoding: chunked\x00\r\n",
        b"transfer-encoding:\r\n chunked\r\n",
        b"x: y\ntransfer-encoding: chunked\r\n",
        b"x: y\rtransfer-encoding: chunked\r\n",
        b" transfer-encoding: chunked\r\n",
    ],
)
def test_te_te_an_obfuscated_transfer_coding(
    gateway: RunningGateway, simulator: RunningSimulator, lines: bytes
) -> None:
    refused(gateway, simulator, HEAD + lines + b"\r\n" + chunks(BODY) + HIDDEN)


def test_chunked_in_http_1_0_which_an_old_proxy_does_not_see(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
    refused(gateway, simulator, head + b"transfer-encoding: chunked\r\n\r\n" + chunks(BODY) + HIDDEN)


@pytest.mark.parametrize("second", [b"%d", b"0", b"+%d", b"%d,%d"])
def test_duplicate_content_length(gateway: RunningGateway, simulator: RunningSimulator, second: bytes) -> None:
    second = second.replace(b"%d", b"%d" % len(BODY))
    refused(gateway, simulator, HEAD + b"content-length: %d\r\ncontent-length: %b\r\n\r\n" % (len(BODY), second) + BODY)


@pytest.mark.parametrize(
    "value", [b"-1", b"+5", b"0x5", b"5 5", b"5,5", b"5;", b"", b"1e1", b"\xb2", b"5\x0b", b"18446744073709551617"]
)
def test_content_length_that_is_no_plain_number(
    gateway: RunningGateway, simulator: RunningSimulator, value: bytes
) -> None:
    refused(gateway, simulator, HEAD + b"content-length: %b\r\n\r\n" % value + BODY)


@pytest.mark.parametrize("fold", [b"x: a\r\n b\r\n", b"x: a\r\n\tb\r\n", b"x:\r\n b\r\n"])
def test_obs_fold(gateway: RunningGateway, simulator: RunningSimulator, fold: bytes) -> None:
    refused(gateway, simulator, HEAD + fold + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)


@pytest.mark.parametrize("place", range(4))
def test_bare_lf_ends_no_line(gateway: RunningGateway, simulator: RunningSimulator, place: int) -> None:
    parts = (HEAD + b"content-length: %d\r\n\r\n" % len(BODY)).split(b"\r\n")
    data = b"".join(part + (b"\n" if at == place else b"\r\n") for at, part in enumerate(parts[:-1]))
    refused(gateway, simulator, data + BODY)


@pytest.mark.parametrize("place", range(4))
def test_bare_cr_ends_no_line(gateway: RunningGateway, simulator: RunningSimulator, place: int) -> None:
    parts = (HEAD + b"content-length: %d\r\n\r\n" % len(BODY)).split(b"\r\n")
    data = b"".join(part + (b"\r" if at == place else b"\r\n") for at, part in enumerate(parts[:-1]))
    refused(gateway, simulator, data + BODY)


def test_a_bare_cr_ends_no_head(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    refused(gateway, simulator, HEAD + b"content-length: %d\r\n\r" % len(BODY) + BODY)


@pytest.mark.parametrize("where", ["name", "value", "target", "method"])
@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x7f", b"\r"])
def test_nul_and_other_controls(gateway: RunningGateway, simulator: RunningSimulator, where: str, byte: bytes) -> None:
    message = {
        "name": HEAD + b"x" + byte + b"y: z\r\n",
        "value": HEAD + b"x: y" + byte + b"z\r\n",
        "target": HEAD.replace(b"/v1/chat", b"/v1/ch" + byte + b"at"),
        "method": HEAD.replace(b"POST", b"PO" + byte + b"ST"),
    }[where]
    refused(gateway, simulator, message + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)


@pytest.mark.parametrize(
    "body",
    [
        b"1\nx\r\n0\r\n\r\n",
        b"1\r\nxx\r\n0\r\n\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b"-1\r\nx\r\n0\r\n\r\n",
        b" 1\r\nx\r\n0\r\n\r\n",
        b"1;a\nb\r\nx\r\n0\r\n\r\n",
        b"1;a\rb\r\nx\r\n0\r\n\r\n",
        b"1;\x00\r\nx\r\n0\r\n\r\n",
        b"ffffffffffffffff1\r\nx\r\n0\r\n\r\n",
        b"10000000000000001\r\nx\r\n0\r\n\r\n",
        b"1 \r\nx\r\n0\r\n\r\n",
        b"1\t\r\nx\r\n0\r\n\r\n",
        b"1\rx\r\n0\r\n\r\n",
        b"1\r\nx0\r\n\r\n",
        b"1\r\nx\r0\r\n\r\n",
        b"1\r\nx\n0\r\n\r\n",
        b"1\r\nx\r\n0\r\n\n",
        b"1\r\nx\r\n0\r\n\r",
        b"\r\nx\r\n0\r\n\r\n",
    ],
)
def test_chunk_heads_that_lenient_readers_take(
    gateway: RunningGateway, simulator: RunningSimulator, body: bytes
) -> None:
    refused(gateway, simulator, HEAD + b"transfer-encoding: chunked\r\n\r\n" + body + HIDDEN)


def test_a_chunk_extension_without_end(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    refused(gateway, simulator, HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"a" * 300_000)


def test_chunk_extensions_that_cost_more_than_the_body(gateway: RunningGateway, simulator: RunningSimulator) -> None:
    with Connection(gateway.port) as connection:
        connection.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        with suppress(OSError):
            for _ in range(2000):  # 6 MB for 2000 bytes of body
                connection.send(b"1;" + b"a" * 3000 + b"\r\n \r\n")
            connection.send(b"0\r\n\r\n")
        assert connection.answer().status == 431
    assert simulator.requests == ()


@pytest.mark.parametrize("more", ["", "host: evil\r\n"], ids=["key", "key and host"])
def test_trailers_that_would_be_headers(gateway: RunningGateway, simulator: RunningSimulator, more: str) -> None:
    body = chunks(BODY)[:-2] + f"authorization: Bearer {KEY}\r\n{more}\r\n".encode()
    with Connection(gateway.port) as connection:
        connection.send(request("POST", CHAT, body, "transfer-encoding: chunked", key=None))
        assert connection.answer().status == 401
    assert simulator.requests == ()


@pytest.mark.parametrize("wish", [(), tuple(WISH.decode().split("\r\n")[:-1])], ids=["plain", "h2c"])
def test_a_body_of_get_is_a_body_and_no_request(gateway: RunningGateway, wish: tuple[str, ...]) -> None:
    with Connection(gateway.port) as connection:
        connection.send(request("GET", "/health", HIDDEN, *wish) + request("GET", "/health"))
        assert [connection.answer().status for _ in range(2)] == [200, 200]


def test_what_stands_behind_connection_close_is_not_served(
    gateway: RunningGateway, simulator: RunningSimulator
) -> None:
    for lines in (("connection: close",), ("connection: close, upgrade", "upgrade: h2c")):
        simulator.log.clear()
        with Connection(gateway.port) as connection:
            connection.send(chat("", *lines) + HIDDEN + chat())
            assert connection.answer().status == 200
            assert connection.is_closed()
        assert len(simulator.requests) == 1


@pytest.mark.parametrize("name", ["content_length", "transfer_encoding", "Content-Length_"])
def test_underscores_do_not_make_framing(gateway: RunningGateway, name: str) -> None:
    with Connection(gateway.port) as connection:
        connection.send(request("GET", "/health", b"", f"{name}: 44") + request("GET", "/health"))
        assert [connection.answer().status for _ in range(2)] == [200, 200]
