"""The egress guard: only global unicast addresses pass, however spelt or wrapped; metadata services never do."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.clock import SystemClock
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.settings import UpstreamSettings
from pointsman.testing import OpenAIChat, Simulator
from pointsman.ticker import Ticker
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.declared import refuse_private_literal
from pointsman.upstream.egress import check_address, check_remote_name, is_public
from pointsman.upstream.origins import Origin
from pointsman.upstream.probes import Probe, fetch_models

PRIVATE_V4 = (
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
)
PRIVATE_V6 = (
    "::",
    "::1",
    "fe80::1",
    "fe80::1%lo",
    "fc00::1",
    "fd00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2001:db8::1",
    "2001:2::1",
    "2001:10::1",
    "100::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
    "::127.0.0.1",
    "::169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b:1::1",
    "64:ff9b:1:7f00:0:100:808:808",
)
PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "223.255.255.1",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "2001:4860:4860::8888",
)
METADATA_V4 = ("169.254.169.254", "169.254.170.2", "100.100.100.200")
METADATA_V6 = ("fd00:ec2::254",)


def wrappings(text: str) -> Iterator[str]:
    """An IPv4 address in every IPv6 form that carries one."""
    address = int(ipaddress.IPv4Address(text))
    high, low = address >> 16, address & 0xFFFF
    yield f"::ffff:{text}"
    yield f"2002:{high:x}:{low:x}::1"
    yield f"64:ff9b::{high:x}:{low:x}"
    yield f"2001:0:4136:e378:8000:63bf:{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}"


@pytest.mark.parametrize("text", [*PRIVATE_V4, *PRIVATE_V6])
def test_what_is_not_global_unicast_is_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    with pytest.raises(GatewayError) as caught:
        check_address(text, allow_private=False)
    assert caught.value.kind is Kind.UPSTREAM_UNAVAILABLE
    assert text not in caught.value.message


@pytest.mark.parametrize("text", PRIVATE_V4)
def test_a_private_address_inside_another_is_refused(text: str) -> None:
    for wrapped in wrappings(text):
        with pytest.raises(GatewayError):
            check_address(wrapped, allow_private=False)


@pytest.mark.parametrize("text", PUBLIC)
def test_a_global_unicast_address_passes_as_it_is(text: str) -> None:
    assert check_address(text, allow_private=False) == text
    assert check_address(text, allow_private=True) == text


@pytest.mark.parametrize("text", [text for text in PRIVATE_V4 if text not in METADATA_V4])
def test_a_private_address_passes_when_it_is_allowed(text: str) -> None:
    assert check_address(text, allow_private=True) == text


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize(
    "text", [*METADATA_V4, *METADATA_V6, *(form for text in METADATA_V4 for form in wrappings(text))]
)
def test_a_metadata_service_is_refused_whatever_is_allowed(text: str, allow_private: bool) -> None:
    with pytest.raises(GatewayError, match="metadata service: never allowed"):
        check_address(text, allow_private=allow_private)


@given(number=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_every_wrapping_is_judged_like_what_it_carries(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    for wrapped in wrappings(str(address)):
        if address.is_loopback or address.is_private or address.is_link_local or address.is_multicast:
            assert not is_public(ipaddress.ip_address(wrapped))
        if not is_public(address):
            assert not is_public(ipaddress.ip_address(wrapped))


@given(number=st.integers(0, 2**128 - 1))
@settings(max_examples=300, deadline=None)
def test_only_2000_3_and_mapped_public_addresses_are_public_in_ipv6(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    if is_public(address):
        assert address in ipaddress.IPv6Network("2000::/3") or address.ipv4_mapped or number >> 32 == 0x64FF9B << 64


def attempt(
    host: str, *, allow_private: bool, port: int = 9, answers: list[list[str]] | None = None
) -> tuple[Any, int]:
    """Send a request to ``host``; gives the model ids or the GatewayError, and how often the name was looked up.

    ``answers`` are the resolver's answers, one list for each look-up; None: the system's resolver.
    """
    lookups = 0

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def getaddrinfo(name: Any, port: Any, **more: Any) -> Any:
            nonlocal lookups
            lookups += 1
            if answers is None:
                return await resolve(name, port, **more)
            return [
                (socket.AF_INET6 if ":" in text else socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port))
                for text in answers[min(lookups, len(answers)) - 1]
            ]

        loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
        ticker = Ticker(loop, SystemClock())
        ticker.start()
        client = UpstreamClient(loop, UpstreamSettings(connect_timeout_seconds=5), ticker)
        origin = Origin(scheme="http", host=host, port=port, allow_private=allow_private)
        try:
            return await fetch_models(
                client, Probe(origin=origin, message=b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", secret=None)
            )
        except GatewayError as error:
            return error
        finally:
            client.close()
            ticker.stop()

    return asyncio.run(main()), lookups


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1.",
        "169.254.169.254",
        "2852039166",
        "0xA9FEA9FE",
        "fd00:ec2::254",
        "",
        "a" * 300,
        "\u2460\u2461\u2466.0.0.1",
        "..",
        "x\x00y",
    ],
)
def test_no_spelling_of_a_private_address_is_connected_to(host: str) -> None:
    result, _ = attempt(host, allow_private=False)
    assert isinstance(result, GatewayError)
    assert result.kind is Kind.UPSTREAM_UNAVAILABLE
    assert "refused the connection" not in result.message, "it was connected to"


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "0xA9FEA9FE", "::ffff:169.254.169.254"])
def test_no_spelling_of_a_metadata_service_is_connected_to_even_when_private_is_allowed(host: str) -> None:
    result, _ = attempt(host, allow_private=True)
    assert isinstance(result, GatewayError)
    assert "metadata service" in result.message


@pytest.mark.parametrize("others", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["10.0.0.1", "2606:4700::1111"], []])
def test_a_name_with_one_private_address_is_refused_before_any_is_tried(others: list[str]) -> None:
    result, lookups = attempt("rebinding.example", allow_private=False, answers=[others, ["127.0.0.1"]])
    assert isinstance(result, GatewayError)
    assert result.kind is Kind.UPSTREAM_UNAVAILABLE
    assert lookups == 1


def test_a_name_is_resolved_once_and_the_judged_address_is_connected_to() -> None:
    async def serve() -> None:
        async with Simulator(OpenAIChat()) as simulator:
            port = int(simulator.base_url.split(":")[2].split("/")[0])
            # The second answer would be the metadata service: nobody may ask for it.
            answers = [["127.0.0.1"], ["169.254.169.254"]]
            found, lookups = await asyncio.to_thread(
                attempt, "once.example", allow_private=True, port=port, answers=answers
            )
            assert isinstance(found, tuple), found
            assert found
            assert lookups == 1

    asyncio.run(serve())


def wide(text: str) -> str:
    """The same in full-width forms, which IDNA takes for the usual ones."""
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


SPELT_PRIVATE = ("localhost", "a.LOCALHOST.", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "::1", "0")
SPELT_METADATA = ("169.254.169.254", "2852039166", "Metadata.google.internal.", "::ffff:169.254.169.254")


@pytest.mark.parametrize("host", [*SPELT_PRIVATE, wide("127.0.0.1"), wide("localhost"), "10\u30020\uff610\u30021"])
def test_a_private_host_behind_a_proxy_is_refused_however_spelt(host: str) -> None:
    with pytest.raises(GatewayError, match="private"):
        check_remote_name(host, allow_private=False)
    check_remote_name(host, allow_private=True)


@pytest.mark.parametrize("host", [*SPELT_METADATA, wide("169.254.169.254"), "meta\u00addata.google.internal"])
def test_a_metadata_service_behind_a_proxy_is_refused(host: str) -> None:
    with pytest.raises(GatewayError, match="metadata service: never allowed"):
        check_remote_name(host, allow_private=True)


def test_a_name_behind_a_proxy_is_the_proxys_to_resolve() -> None:
    for host in ("api.example.com", "1.1.1.1", "2606:4700::1111", "10.example", "b\u00fccher.example"):
        check_remote_name(host, allow_private=False)


@pytest.mark.parametrize("host", [wide("127.0.0.1"), wide("localhost")])
def test_a_private_address_in_other_digits_is_refused_when_it_is_set(host: str) -> None:
    with pytest.raises(ConfigError, match="private or local"):
        refuse_private_literal(f"http://{host}/v1")
