"""The price book as a service: loaded in the background, refreshed every hour, waited for when it is not there yet."""

import asyncio

from pointsman.accounting.pricing import Price, PriceBook

REFRESH_SECONDS = 3600.0


class PriceService:
    """Answers for prices; the first questions wait until the data is in memory (about 0.2 s after the start)."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Load the data in a thread, then forget looked-up prices every hour, since they change at dates."""
        await asyncio.to_thread(self._book.load)
        self._ready.set()
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            self._book.refresh()

    async def find(self, provider: str | None, base_url: str | None, model: str) -> Price | None:
        """The price of a model, or None when it is not known."""
        if not self._book.loaded:
            await self._ready.wait()
        return self._book.find(provider, base_url, model)
