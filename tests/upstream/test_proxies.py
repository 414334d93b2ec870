"""Handshakes with proxies as bytes: what is sent, what is accepted, and that it doesn't matter how bytes are cut."""

import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError, GatewayError
from pointsman.upstream.origins import Proxy
from pointsman.upstream.proxies import open_handshake, parse_proxy

PASSWORD = "s3cret-Pa55"
OK = b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n"
GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"


def proxy(kind: str, user: str = "") -> Proxy:
    """A proxy at loopback; ``user`` brings a password."""
    return parse_proxy(f"{kind}://{f'{user}:{PASSWORD}@' if user else ''}127.0.0.1:9", "place")


def talk(one: Proxy, host: str, pieces: list[bytes]) -> tuple[bytes, str]:
    """Everything that was sent, and how it ended: "done", "open" or the refusal."""
    sent = b""
    try:
        handshake = open_handshake(one, host, 443)
        sent += handshake.feed(b"")
        for piece in pieces:
            if piece and not handshake.done:
                sent += handshake.feed(piece)
    except GatewayError as error:
        return sent, error.message
    return sent, "done" if handshake.done else "open"


def test_connect_names_the_upstream_and_the_user() -> None:
    sent, outcome = talk(proxy("http", "me"), "bücher.example", [OK])
    pair = base64.b64encode(f"me:{PASSWORD}".encode())
    assert outcome == "done"
    assert sent == (
        b"CONNECT xn--bcher-kva.example:443 HTTP/1.1\r\nHost: xn--bcher-kva.example:443\r\n"
        b"Proxy-Authorization: Basic " + pair + b"\r\n\r\n"
    )
    assert talk(proxy("http"), "2001:db8::1", [OK])[0].startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")
    assert b"Authorization" not in talk(proxy("http"), "h", [OK])[0]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", "done"),
        (b"HTTP/1.1 204\r\n\r\n", "done"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, "done"),
        (b"HTTP/1.1 407 Auth\r\ncontent-length: 5\r\n\r\nhello", "the proxy does not accept our credentials"),
        (b"HTTP/1.1 403 No\r\n\r\n", "the proxy did not connect to the upstream: it answered 403"),
        (b"HTTP/1.1 302 Go\r\n\r\n", "the proxy did not connect to the upstream: it answered 302"),
        (b"HTTP/1.1 101 Switch\r\n\r\n", "the proxy did not connect to the upstream: it answered 101"),
        (b"HTTP/1.1 999 Go\r\n\r\n", "the proxy's answer is not valid HTTP"),
        (b"SSH-2.0-x\r\n\r\n", "the proxy's answer is not valid HTTP"),
        (OK + b"more", "the proxy sent more than it was asked for"),
        (b"HTTP/1.1 200 OK\r\n", "open"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 20000, "the proxy's answer has too large a head"),
    ],
)
def test_an_http_proxys_answer_is_judged(answer: bytes, outcome: str) -> None:
    assert talk(proxy("http", "me"), "h", [answer])[1] == outcome


def test_socks5_sends_a_name_or_an_address_and_the_user() -> None:
    greeting, auth = b"\x05\x02\x00\x02", b"\x01\x02me" + bytes([len(PASSWORD)]) + PASSWORD.encode()
    request = b"\x05\x01\x00\x03\x09h.example\x01\xbb"
    assert talk(proxy("socks5h", "me"), "h.example", [b"\x05\x02", b"\x01\x00", GRANTED]) == (
        greeting + auth + request,
        "done",
    )
    assert talk(proxy("socks5h", "me"), "h.example", [b"\x05\x00", GRANTED]) == (greeting + request, "done")
    assert talk(proxy("socks5"), "127.0.0.1", [b"\x05\x00", GRANTED])[0] == (
        b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb"
    )
    assert talk(proxy("socks5"), "::1", [b"\x05\x00", GRANTED])[0][6:] == b"\x04" + b"\0" * 15 + b"\x01\x01\xbb"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"\x05\x00" + GRANTED, "done"),
        (b"\x05\x00\x05\x00\x00\x03\x02ab\x00\x50", "done"),
        (b"\x05\x00\x05\x00\x00\x04" + b"\0" * 18, "done"),
        (b"\x05\x00" + GRANTED[:-1], "open"),
        (b"\x05", "open"),
        (b"\x04\x00", "the proxy does not speak SOCKS5"),
        (b"HTTP/1.1 400 Bad\r\n\r\n", "the proxy does not speak SOCKS5"),
        (b"\x05\x01", "the proxy does not speak SOCKS5"),
        (b"\x05\xff", "the proxy wants another kind of credentials"),
        (b"\x05\x02\x01\x01", "the proxy does not accept our credentials"),
        (b"\x05\x02\x05\x00" + GRANTED, "the proxy does not accept our credentials"),
        (b"\x05\x00\x04" + GRANTED[1:], "the proxy does not speak SOCKS5"),
        (b"\x05\x00\x05\x05", "the proxy did not connect to the upstream: was refused"),
        (b"\x05\x00\x05\x63", "the proxy did not connect to the upstream: reply 99"),
        (b"\x05\x00\x05\x00\x00\x02\x00", "the proxy does not speak SOCKS5"),
        (b"\x05\x00" + GRANTED + b"x", "the proxy sent more than it was asked for"),
    ],
)
def test_a_socks_proxys_answer_is_judged(answer: bytes, outcome: str) -> None:
    assert talk(proxy("socks5h", "me"), "h", [answer])[1] == outcome


def test_a_socks_proxy_that_asks_for_a_user_we_did_not_offer_is_refused() -> None:
    assert talk(proxy("socks5h"), "h", [b"\x05\x02"])[1] == "the proxy does not speak SOCKS5"


answers = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([OK, b"\x05\x02\x01\x00" + GRANTED, b"\x05\x00" + GRANTED, b"HTTP/1.1 100 C\r\n\r\n" + OK]),
)


@given(
    kind=st.sampled_from(["http", "socks5", "socks5h"]), answer=answers, cuts=st.lists(st.integers(0, 60), max_size=6)
)
def test_it_does_not_matter_how_a_proxys_bytes_are_cut(kind: str, answer: bytes, cuts: list[int]) -> None:
    one = proxy(kind, "me")
    edges = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    pieces = [answer[start:end] for start, end in pairwise(edges)]
    sent, outcome = talk(one, "h", [answer])
    sent_in_parts, outcome_in_parts = talk(one, "h", pieces)
    if outcome == "the proxy sent more than it was asked for":
        assert outcome_in_parts in (outcome, "done")  # the rest may come later: then the upstream's reader judges it
    else:
        assert outcome_in_parts == outcome
    assert sent_in_parts.startswith(sent)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"https://me:{PASSWORD}@h:1", "must begin with"),
        (f"socks4://me:{PASSWORD}@h:1", "must begin with"),
        (f"me:{PASSWORD}@h:1", "must begin with"),
        (f"http://me:{PASSWORD}@", "must be kind://"),
        (f"http://me:{PASSWORD}@h:0", "must be kind://"),
        (f"http://me:{PASSWORD}@h:1/path", "must be kind://"),
        (f"http://me:{PASSWORD}@h:1?q", "must be kind://"),
        (f"http://me:{PASSWORD}@h:port", "is not a URL"),
        (f"http://me:{PASSWORD}@[::1", "is not a URL"),
        (f"http://me:{PASSWORD}@{'a' * 70}.example:1", "is not a URL"),
        (f"http://me:{PASSWORD}@h :1", "must not hold blanks"),
        (f"socks5://me:{PASSWORD * 30}@h:1", "may have 255 bytes"),
        ("socks5://me@h:1", "needs both"),
        (f"http://a%3Ab:{PASSWORD}@h:1", "must not hold a colon"),
    ],
)
def test_a_wrong_proxy_is_refused_without_its_password(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_proxy(text, "connections[0].proxy")
    assert problem in str(caught.value)
    assert str(caught.value).startswith("connections[0].proxy: ")
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_user_and_password_are_as_long_as_socks5_can_say() -> None:
    longest = parse_proxy(f"socks5h://{'u' * 255}:{'p' * 255}@h:1", "place")
    sent, _ = talk(longest, "h", [b"\x05\x02"])
    assert sent.endswith(b"\x01\xff" + b"u" * 255 + b"\xff" + b"p" * 255)
    for pair in (f"{'u' * 256}:p", f"u:{'p' * 256}", f"{'%C3%BC' * 128}:p"):
        with pytest.raises(ConfigError, match="may have 255 bytes"):
            parse_proxy(f"socks5h://{pair}@h:1", "place")


def test_a_proxy_is_parsed_and_never_shows_its_password() -> None:
    one = parse_proxy("socks5://us%40er:p%3Aw@[::1]", "place")
    assert (one.kind, one.host, one.port, one.username, one.password) == ("socks5", "::1", 1080, "us@er", "p:w")
    assert parse_proxy("http://h", "place").port == 80
    shown = proxy("http", "me")
    assert PASSWORD not in f"{shown!r} {shown} {[shown]}"
