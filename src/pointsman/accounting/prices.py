"""Prices for the request path: plain dictionaries, filled by a short-lived process that knows the price data."""

import asyncio
import contextlib
import sys
from typing import Final

import msgspec
import structlog

from pointsman.accounting.price_lookup import Question
from pointsman.accounting.pricing import Price

REFRESH_SECONDS: Final = 3600.0
LOOKUP_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 30.0
SPACING_SECONDS: Final = 0.5  # callers choose model names: they can't keep a core busy with look-ups
MAX_ASKED: Final = 1000
MAX_KNOWN: Final = 10_000  # callers can name any model of an open connection
log = structlog.get_logger("pointsman.prices")

_UNASKED: Final = object()

PriceTable = dict[str, Price | None]


class PriceService:
    """Answers for prices. What is asked while a look-up runs is asked together in the next one."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str | None, str | None], PriceTable] = {}
        self._asked: dict[Question, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()
        self._retry_at = 0.0
        self.changed: set[Question] = set()  # whose price is another than before; whoever reads it empties it

    def table(self, provider: str | None, base_url: str | None) -> PriceTable:
        """The known prices of a provider by model: read it, don't write it. A model that is missing has to be asked."""
        return self._tables.setdefault((provider, base_url), {})

    async def find(self, provider: str | None, base_url: str | None, model: str) -> Price | None:
        """The price of a model, looked up if need be (about 0.3 s); None when nobody knows it.

        After a look-up failed, what isn't known counts as unpriced for 30 s, and is asked again after that.
        """
        table = self.table(provider, base_url)
        if model not in table:
            await asyncio.shield(self.ask(provider, base_url, model))
        return table.get(model)

    def ask(self, provider: str | None, base_url: str | None, model: str) -> asyncio.Future[None]:
        """Begin to look a price up, unless look-ups failed just now; done when it is in the table, or can't be."""
        if asyncio.get_running_loop().time() < self._retry_at or len(self._asked) >= MAX_ASKED:
            refused = asyncio.get_running_loop().create_future()
            refused.set_result(None)
            return refused
        question = Question(provider=provider, base_url=base_url, model=model)
        future = self._asked.get(question)
        if future is None:
            future = self._asked[question] = asyncio.get_running_loop().create_future()
            self._wake.set()
        return future

    async def run(self) -> None:
        """Look up what is asked, and everything again every hour, since prices change at dates."""
        while True:
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                for (provider, base_url), table in self._tables.items():
                    for model in table:
                        self.ask(provider, base_url, model)
            self._wake.clear()
            asked, self._asked = self._asked, {}
            await self._answer(asked)
            await asyncio.sleep(SPACING_SECONDS)

    async def _answer(self, asked: dict[Question, asyncio.Future[None]]) -> None:
        try:
            prices = await look_up(list(asked))
        except (OSError, TimeoutError, msgspec.DecodeError, UnicodeError) as error:
            self._retry_at = asyncio.get_running_loop().time() + RETRY_SECONDS
            log.error("prices can't be looked up; new models are recorded as unpriced", reason=type(error).__name__)
        else:
            for question, price in zip(asked, prices, strict=True):
                table = self.table(question.provider, question.base_url)
                if len(table) >= MAX_KNOWN:
                    table.clear()
                if table.get(question.model, _UNASKED) != price:
                    if len(self.changed) < MAX_KNOWN:
                        self.changed.add(question)
                    table[question.model] = price
        finally:
            for future in asked.values():
                if not future.done():
                    future.set_result(None)


async def look_up(questions: list[Question]) -> list[Price | None]:
    """Ask the price process. Raises OSError, TimeoutError or msgspec.DecodeError when it does not answer well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the folder where the server was started is no place to import from
        "-m",
        "pointsman.accounting.price_lookup",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            output, _ = await process.communicate(msgspec.json.encode(questions))
    finally:
        if process.returncode is None:
            process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await process.communicate()  # until its pipes are closed too: no loop can be closed before
    answers = msgspec.json.decode(output, type=list[Price | None])
    if len(answers) != len(questions):
        raise msgspec.DecodeError("the price process answered another number of questions")
    return answers
