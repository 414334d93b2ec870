"""The operator's words on models that came by command or over the API, a row for each model or pattern."""

from collections.abc import Callable
from typing import Final

import msgspec
from sqlalchemy import delete, func, insert, select, update

from pointsman.storage import configuration, tables
from pointsman.storage.database import Database


class WordsRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one model; ``words`` is JSON, ``updated_at`` in us."""

    model: str
    words: str
    updated_at: int


_TABLE: Final = tables.model_words


class ModelWordsRepository:
    """Asks and changes the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def change(
        self, model: str, make: Callable[[str | None], str], now: int, most: int
    ) -> tuple[str, int] | None:
        """Store what ``make`` makes of a model's words (None: there are none yet), in one transaction.

        Gives them and the new configuration revision; None when there are ``most`` models already. What ``make``
        raises leaves everything as it was.
        """
        async with self._database.write() as connection:
            found = await connection.execute(select(_TABLE.c.words).where(_TABLE.c.model == model))
            before: str | None = found.scalar_one_or_none()
            words = make(before)
            if before is None:
                count = (await connection.execute(select(func.count()).select_from(_TABLE))).scalar_one()
                if count >= most:
                    return None
                await connection.execute(insert(_TABLE), {"model": model, "words": words, "updated_at": now})
            else:
                row = update(_TABLE).where(_TABLE.c.model == model)
                await connection.execute(row.values(words=words, updated_at=now))
            return words, await configuration.bump(connection)

    async def page(self, limit: int, after: str = "") -> tuple[WordsRow, ...]:
        """Rows by model, those behind ``after``."""
        query = select(_TABLE).where(_TABLE.c.model > after).order_by(_TABLE.c.model).limit(limit)
        async with self._database.read() as connection:
            return tuple(WordsRow(**row._mapping) for row in await connection.execute(query))

    async def find(self, model: str) -> WordsRow | None:
        """The words on this model or pattern."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(_TABLE).where(_TABLE.c.model == model))).one_or_none()
        return None if row is None else WordsRow(**row._mapping)

    async def remove(self, model: str) -> int | None:
        """Forget them; gives the new revision. None: there were none."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(_TABLE).where(_TABLE.c.model == model))
            return await configuration.bump(connection) if gone.rowcount else None
