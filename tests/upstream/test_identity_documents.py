"""Documents of identity providers: an address in one may be anything."""

import asyncio

import pytest

from pointsman.clock import SystemClock
from pointsman.settings import UpstreamSettings
from pointsman.ticker import Ticker
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.identity_documents import DocumentError, fetch_document


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example.org:99999/keys",
        "https://id.example.org:port/keys",
        "https://[half/keys",
        "https://a..b/keys",
        "ftp://id.example.org/keys",
        "https:///keys",
        "https://id.example.org/a b",
    ],
)
def test_an_address_that_is_none_is_told_as_such(url: str) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        client = UpstreamClient(loop, UpstreamSettings(), Ticker(loop, SystemClock()))
        with pytest.raises(DocumentError, match="its address"):
            await fetch_document(client, url, allow_private=False)

    asyncio.run(story())
