"""Endpoints: addresses, Host headers and request heads, built once."""

import asyncio
from types import SimpleNamespace

import pytest

from pointsman.accounting.prices import PriceService
from pointsman.accounting.pricing import FREE
from pointsman.keyring import Secret
from pointsman.providers import openai
from pointsman.providers.formats import provider_format
from pointsman.upstream.endpoints import LocalEndpoint, Place, RemoteEndpoint, Speech, host_header
from pointsman.upstream.origins import Origin

HUB = provider_format("openai.chat")


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("https", "api.example.com", 443, b"api.example.com"),
        ("https", "api.example.com", 8443, b"api.example.com:8443"),
        ("https", "api.example.com", 80, b"api.example.com:80"),
        ("http", "api.example.com", 80, b"api.example.com"),
        ("http", "api.example.com", 443, b"api.example.com:443"),
        ("http", "127.0.0.1", 8080, b"127.0.0.1:8080"),
        ("http", "::1", 80, b"[::1]"),
        ("http", "::1", 8080, b"[::1]:8080"),
        ("https", "2001:db8::1", 443, b"[2001:db8::1]"),
        ("https", "bücher.example", 443, b"xn--bcher-kva.example"),
        ("https", "bücher.example", 8443, b"xn--bcher-kva.example:8443"),
        ("https", "api.example.com.", 443, b"api.example.com."),
    ],
)
def test_the_host_header_of_each_form(scheme: str, host: str, port: int, expected: bytes) -> None:
    assert host_header(scheme, host, port) == expected


def remote(base_url: str, **more: object) -> RemoteEndpoint:
    """A connection at ``base_url``."""
    return at(Place(base_url=base_url, **more), Secret("sk-upstream"))  # type: ignore[arg-type]


def at(place: Place, *secrets: Secret, name: str = "c") -> RemoteEndpoint:
    """A connection at a place."""
    return RemoteEndpoint(name, place, Speech(raw=openai, hub=HUB), secrets, PriceService())


@pytest.mark.parametrize(
    ("base_url", "target", "host", "origin"),
    [
        ("https://api.openai.com/v1", b"/v1", b"api.openai.com", ("https", "api.openai.com", 443)),
        ("https://api.openai.com/v1/", b"/v1", b"api.openai.com", ("https", "api.openai.com", 443)),
        ("https://api.openai.com", b"", b"api.openai.com", ("https", "api.openai.com", 443)),
        ("http://[::1]:9/a/b", b"/a/b", b"[::1]:9", ("http", "::1", 9)),
        ("HTTPS://API.Example.com:443/v1", b"/v1", b"api.example.com", ("https", "api.example.com", 443)),
        ("https://h/v1beta/openai//", b"/v1beta/openai", b"h", ("https", "h", 443)),
    ],
)
def test_an_endpoint_is_built_from_its_address(
    base_url: str, target: bytes, host: bytes, origin: tuple[str, str, int]
) -> None:
    access = asyncio.run(remote(base_url).acquire())
    lines = access.head.split(b"\r\n")
    assert lines[0] == b"POST " + target + b"/chat/completions HTTP/1.1"
    assert b"host: " + host in lines
    assert b"authorization: Bearer sk-upstream" in lines
    assert (access.origin.scheme, access.origin.host, access.origin.port) == origin
    assert access.reveal() == "sk-upstream"
    assert "sk-upstream" not in repr(access.secret)


def test_an_access_shows_no_credential() -> None:
    assert "sk-upstream" not in repr(asyncio.run(remote("https://h").acquire()))


def test_trust_and_limits_reach_the_origin() -> None:
    plain = asyncio.run(remote("https://h").acquire()).origin
    assert (plain.allow_private, plain.limit) == (False, None)
    trusted = asyncio.run(remote("https://h", allow_private=True, max_concurrent=3).acquire()).origin
    assert (trusted.allow_private, trusted.limit) == (True, 3)
    assert plain != trusted


class Child:
    """What the embedded model's supervisor looks like from here."""

    def __init__(self) -> None:
        self.lives = 1
        self.held = 0

    async def acquire(self) -> SimpleNamespace:
        self.held += 1
        return SimpleNamespace(host="127.0.0.1", port=9000 + self.lives, api_key=f"life-{self.lives}")

    def release(self) -> None:
        self.held -= 1


def test_the_local_model_is_reached_where_its_present_life_listens() -> None:
    async def run() -> None:
        child = Child()
        endpoint = LocalEndpoint("local", child, openai, HUB)
        first, again = await endpoint.acquire(), await endpoint.acquire()
        assert first is again
        assert child.held == 2
        child.lives = 2
        second = await endpoint.acquire()
        assert (first.origin.port, second.origin.port) == (9001, 9002)
        assert second.origin.allow_private
        assert b"host: 127.0.0.1:9002\r\nauthorization: Bearer life-2\r\n" in second.head
        for _ in range(3):
            endpoint.release()
        assert child.held == 0
        assert await endpoint.price("any") is FREE

    asyncio.run(run())


def test_a_limit_is_a_connections_own_and_connections_without_one_are_shared() -> None:
    def origin(connection_id: str, limit: int | None) -> Origin:
        endpoint = at(Place(base_url="https://h/v1", max_concurrent=limit), name=connection_id)
        return asyncio.run(endpoint.acquire()).origin

    assert origin("a", 3) != origin("b", 3)
    assert origin("a", 3) == origin("a", 3)
    assert origin("a", None) == origin("b", None)
