"""Pictures that are named by address."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pointsman.canonical.fidelity import Fidelity
from pointsman.canonical.parts import AnyPart, ImagePart, Source
from pointsman.errors import GatewayError, Kind
from pointsman.hub import fetching
from pointsman.hub.fetching import fetch_parts
from upstream_peers import upstream_client


class Pictures(BaseHTTPRequestHandler):
    """Ten bytes called a PNG, whatever the path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "image/png")
        self.send_header("content-length", "10")
        self.end_headers()
        self.wfile.write(b"0123456789")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def pictures() -> Iterator[str]:
    """The address of a server on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fetched(address: str, count: int, *, allow_private: bool = True) -> tuple[list[AnyPart], Fidelity]:
    """``count`` pictures after their bytes were fetched, and what was noted."""
    fidelity = Fidelity()
    parts: list[AnyPart] = [
        ImagePart(source=Source(url=f"{address}/{index}.png"), path=f"messages.0.content.{index}")
        for index in range(count)
    ]

    async def main() -> None:
        async with upstream_client() as client:
            await fetch_parts(client, parts, fidelity, allow_private=allow_private)

    asyncio.run(main())
    return parts, fidelity


def test_bytes_stand_in_the_place_of_addresses(pictures: str) -> None:
    [first, second], fidelity = fetched(pictures, 2)
    assert isinstance(first, ImagePart)
    assert isinstance(second, ImagePart)
    assert first.source == Source(data=base64.b64encode(b"0123456789").decode(), media_type="image/png")
    assert [note.path for note in fidelity.notes] == ["messages.0.content.0", "messages.0.content.1"]


def test_all_parts_of_a_request_share_one_bound(pictures: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_TOTAL_BYTES", 25)
    with pytest.raises(GatewayError, match="together") as caught:
        fetched(pictures, 3)
    assert caught.value.kind is Kind.INVALID_REQUEST
    assert caught.value.param == "messages.0.content.2"


def test_private_addresses_are_not_asked(pictures: str) -> None:
    with pytest.raises(GatewayError, match="can't be fetched"):
        fetched(pictures, 1, allow_private=False)


def test_more_parts_than_the_bound_are_refused(pictures: str) -> None:
    with pytest.raises(GatewayError, match="more than 20"):
        fetched(pictures, fetching.MAX_FETCHES + 1)
