"""Addresses that clients put into requests: what is fetched from there, how much, for how long, and where from.

Servers on this machine stand for those of the world: loopback is allowed here, and what is private is tried besides.
"""

import asyncio
import time
from typing import Any

import pytest

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import AnyPart, FilePart, ImagePart, Source
from pointsman.errors import GatewayError, Kind
from pointsman.hub import fetching
from pointsman.hub.fetching import fetch_parts
from pointsman.upstream import egress
from upstream_peers import Peer, listening, run, upstream_client

PICTURE = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 2\r\n\r\nhi"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine that counts as public here; all others stay what they are."""
    usual = egress.is_public
    monkeypatch.setattr(egress, "is_public", lambda address: str(address) == "127.0.0.2" or usual(address))
    return "127.0.0.2"


def part_at(url: str, kind: type[ImagePart] | type[FilePart] = ImagePart) -> AnyPart:
    """A picture, or a file, that is named by address."""
    return kind(source=Source(url=url), path="messages.0.content.0")


async def fetched(url: str, kind: type[ImagePart] | type[FilePart] = ImagePart, **more: Any) -> AnyPart:
    """The part with its bytes; raises GatewayError."""
    part = part_at(url, kind)
    async with upstream_client() as client:
        await fetch_parts(client, [part], Fidelity(), **{"allow_private": True, **more})
    return part


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.com/a.png", "gopher://127.0.0.1:6379/_FLUSHALL", "data:text/html,x",
        "//example.com/a.png", "http://", "http:///a", "http://user:pass@example.com/a.png", "http://user@127.0.0.1/",
        "http://127.0.0.1:99999/", "http://[::1", "http://a b/", "http://example.com/a b", "http://ex\r\nx: y/",
        "http://example.com/\r\nx: y", "javascript:alert(1)", "unix:///var/run/docker.sock",
    ],
)  # fmt: skip
def test_only_plain_web_addresses_are_asked(url: str) -> None:
    with pytest.raises(GatewayError) as caught:
        run(fetched(url))
    assert caught.value.kind is Kind.INVALID_REQUEST
    assert caught.value.param == "messages.0.content.0"


def test_a_redirect_to_a_private_address_is_judged_like_the_first_one(world: str) -> None:
    async def main() -> tuple[int, int]:
        async with listening(Peer()) as secret:
            away = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:%d/\r\ncontent-length: 0\r\n\r\n" % secret.port
            async with listening(Peer(away), host=world) as first:
                with pytest.raises(GatewayError, match="private"):
                    await fetched(f"http://{world}:{first.port}/a.png", allow_private=False)
            return len(first.seen), len(secret.seen)

    assert run(main()) == (1, 0)


def test_redirects_come_to_an_end_and_carry_nothing_along() -> None:
    async def main() -> list[bytes]:
        peer = Peer()
        async with listening(peer):
            peer.answer = b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n"
            with pytest.raises(GatewayError, match="302"):
                await fetched(f"http://127.0.0.1:{peer.port}/")
            return [seen.data for seen in peer.seen]

    requests = b"".join(run(main()))
    assert requests.count(b"GET ") == fetching.MAX_REDIRECTS + 1
    for name in (b"authorization", b"cookie", b"referer", b"x-api-key"):
        assert name not in requests.lower()


def test_no_more_is_read_than_a_picture_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 100_000)
    sent, over = 0, asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while sent < 30_000_000:
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()
                sent += 0x10000
        except OSError:
            pass
        writer.transport.abort()
        over.set()

    async def main() -> None:
        server = await asyncio.start_server(endless, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(GatewayError, match="larger than"):
                await fetched(f"http://127.0.0.1:{port}/")
            await over.wait()

    run(main())
    assert sent < 20_000_000, "only what the kernel had taken already"


def test_a_server_that_drips_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 0.2)
    over = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        except OSError:
            pass
        writer.transport.abort()
        over.set()

    async def main() -> float:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        async with server:
            started = time.monotonic()
            with pytest.raises(GatewayError, match="too long"):
                await fetched(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            took = time.monotonic() - started
            await over.wait()
            return took

    assert run(main()) < 10


@pytest.mark.parametrize(
    "media_type", ["text/html", "application/json", "text/plain; charset=utf-8", "image", "video/mp4"]
)
def test_what_is_no_picture_is_not_passed_on_as_one(media_type: str) -> None:
    async def main() -> None:
        answer = PICTURE.replace(b"image/png", media_type.encode())
        async with listening(Peer(answer)) as peer:
            with pytest.raises(GatewayError, match="no picture"):
                await fetched(f"http://127.0.0.1:{peer.port}/")

    run(main())


@pytest.mark.parametrize("media_type", ["image/png", "IMAGE/JPEG", "application/octet-stream", ""])
def test_a_picture_is_passed_on(media_type: str) -> None:
    async def main() -> AnyPart:
        answer = PICTURE.replace(b"image/png", media_type.encode())
        async with listening(Peer(answer)) as peer:
            return await fetched(f"http://127.0.0.1:{peer.port}/")

    part = run(main())
    assert isinstance(part, ImagePart)
    assert part.source is not None
    assert part.source.data == "aGk="
