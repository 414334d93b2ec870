"""Encoded request bodies: decoded as they come, within the limits."""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable

import brotli
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import RunningGateway
from pointsman.errors import GatewayError, Kind
from pointsman.server.bodies import FREE_BYTES, BodyDecoder
from pointsman.testing import RunningSimulator
from raw_client import CHAT, Connection, ask, chat_body, request

SETTINGS = {"server": {"max_body_bytes": 4 * 1024 * 1024, "max_decompression_ratio": 50}}
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
names = pytest.mark.parametrize("name", CODINGS)


def encoded(name: str, body: bytes, *headers: str) -> bytes:
    """A chat request with an encoded body."""
    return request("POST", CHAT, CODINGS[name](body), f"content-encoding: {name}", *headers)


@names
def test_an_encoded_body_reaches_the_upstream_decoded(
    gateway: RunningGateway, simulator: RunningSimulator, name: str
) -> None:
    answer = ask(gateway.port, encoded(name, chat_body(text="a b c" * 1000)))
    assert answer.status == 200
    [received] = simulator.requests
    assert json.loads(received.body)["messages"][0]["content"] == "a b c" * 1000
    assert received.header("content-encoding") is None
    assert gateway.journal.the(answer.request_id).bytes_in == len(chat_body(text="a b c" * 1000))


@names
def test_an_encoded_body_in_many_chunks_and_packets_is_decoded(gateway: RunningGateway, name: str) -> None:
    body = CODINGS[name](chat_body(text="a b c" * 1000))
    with Connection(gateway.port) as connection:
        connection.send(request("POST", CHAT, b"", "transfer-encoding: chunked", f"content-encoding: {name}"))
        for byte in body:
            connection.send(b"1\r\n%c\r\n" % byte)
        connection.send(b"0\r\n\r\n")
        assert connection.answer().status == 200


def test_two_codings_come_off_in_the_reverse_order(gateway: RunningGateway) -> None:
    body = brotli.compress(gzip.compress(chat_body()))
    for value in ("gzip, br", "GZIP,Br", "identity, gzip, br"):
        assert ask(gateway.port, request("POST", CHAT, body, f"content-encoding: {value}")).status == 200
    assert ask(gateway.port, request("POST", CHAT, body, "content-encoding: br, gzip")).status == 400
    lines = ("content-encoding: gzip", "content-encoding: br")
    assert ask(gateway.port, request("POST", CHAT, body, *lines)).status == 200


@names
def test_a_body_cut_short_is_refused_and_so_is_one_with_a_tail(gateway: RunningGateway, name: str) -> None:
    whole = CODINGS[name](chat_body())
    for body in (whole[:-1], whole[: len(whole) // 2], whole + b"x", whole + whole, b"no such thing"):
        answer = ask(gateway.port, request("POST", CHAT, body, f"content-encoding: {name}"))
        assert (answer.status, answer.error["param"]) == (400, "content-encoding"), body


@names
def test_the_connection_serves_on_behind_an_encoded_body(gateway: RunningGateway, name: str) -> None:
    with Connection(gateway.port) as connection:
        for _ in range(3):
            assert connection.ask(encoded(name, chat_body())).status == 200
            assert connection.ask(request("POST", CHAT, chat_body())).status == 200


def test_an_encoded_body_of_nothing_is_an_empty_body(gateway: RunningGateway) -> None:
    answer = ask(gateway.port, request("POST", CHAT, b"", "content-encoding: gzip", "content-length: 0"))
    assert (answer.status, "no body" in answer.error["message"]) == (400, True)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=3000), cuts=st.lists(st.integers(0, 3000), max_size=6), name=st.sampled_from([*CODINGS]))
def test_any_split_decodes_to_the_same(data: bytes, cuts: list[int], name: str) -> None:
    body = CODINGS[name](data)
    decoder = BodyDecoder(name.encode(), 10_000, 100)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    decoded = b"".join(decoder.decode(body[a:b]) for a, b in itertools.pairwise(edges))
    decoder.end()
    assert decoded == data


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=500), name=st.sampled_from([*CODINGS, "gzip, br", "zstd, deflate"]))
def test_any_bytes_are_decoded_or_refused(data: bytes, name: str) -> None:
    decoder = BodyDecoder(name.encode(), 10_000, 100)
    try:
        decoder.decode(data)
        decoder.end()
    except GatewayError as error:
        refused = error.kind
    else:
        return
    assert refused in (Kind.INVALID_REQUEST, Kind.TOO_LARGE)


@names
def test_what_is_just_within_the_limits_is_taken_and_a_byte_more_is_not(name: str) -> None:
    for size, fits in ((FREE_BYTES, True), (FREE_BYTES + 1, False)):
        body = CODINGS[name](bytes(size))
        decoder = BodyDecoder(name.encode(), 10 * FREE_BYTES, 1)
        if fits:
            assert len(decoder.decode(body)) == size
            decoder.end()
        else:
            with pytest.raises(GatewayError, match="1 times what was sent"):
                decoder.decode(body)
        decoder = BodyDecoder(name.encode(), size - 1, 10**6)
        with pytest.raises(GatewayError, match=f"limit of {size - 1} bytes"):
            decoder.decode(body)


@pytest.mark.parametrize(("window_log", "fits"), [(23, True), (24, False), (27, False)])
def test_a_frame_that_wants_more_memory_than_8_mib_is_refused(window_log: int, fits: bool) -> None:
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    body = packer.compress(b"{}") + packer.flush()  # in pieces: the head tells a window and no size
    decoder = BodyDecoder(b"zstd", 10_000, 100)
    if fits:
        assert decoder.decode(body) == b"{}"
    else:
        with pytest.raises(GatewayError) as refused:
            decoder.decode(body)
        assert refused.value.kind is Kind.INVALID_REQUEST
