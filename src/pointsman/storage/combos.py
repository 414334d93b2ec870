"""Combos that were made while running, what holds for all of them, and fallback chains."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Row, Table, delete, func, insert, select, update

from pointsman.storage import combo_tables, configuration
from pointsman.storage.database import Database


class ComboRow(msgspec.Struct, frozen=True, kw_only=True):
    """One combo; ``document`` is all that was said of it but for these members. Instants in us."""

    id: str
    name: str
    document: dict[str, Any]
    sort_order: int
    created_at: int
    updated_at: int


class ChainRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model's fallback chain: a list of {provider, priority, enabled}."""

    model: str
    chain: list[dict[str, Any]]
    updated_at: int


_COMBOS: Final = combo_tables.combos
_OPTIONS: Final = combo_tables.combo_options
_CHAINS: Final = combo_tables.fallback_chains


class ComboRepository:
    """Asks and changes the tables. Every change gives the new configuration revision."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: ComboRow) -> int:
        """Store a new combo behind all others. Raises AlreadyExistsError for a known id or name."""
        async with self._database.write() as connection:
            last = select(func.coalesce(func.max(_COMBOS.c.sort_order), 0))
            place = int((await connection.execute(last)).scalar_one()) + 1
            await connection.execute(insert(_COMBOS), _values(msgspec.structs.replace(row, sort_order=place)))
            return await configuration.bump(connection)

    async def replace(self, row: ComboRow) -> int | None:
        """Change everything but the id and ``created_at``. None: no such combo. Raises AlreadyExistsError."""
        values = _values(row)
        del values["created_at"]
        async with self._database.write() as connection:
            changed = await connection.execute(update(_COMBOS).where(_COMBOS.c.id == row.id).values(values))
            return await configuration.bump(connection) if changed.rowcount else None

    async def reorder(self, ids: Sequence[str]) -> int:
        """Put combos in this order; those that are not named keep their place numbers."""
        async with self._database.write() as connection:
            for place, combo_id in enumerate(ids, 1):
                await connection.execute(update(_COMBOS).where(_COMBOS.c.id == combo_id).values(sort_order=place))
            return await configuration.bump(connection)

    async def list(self) -> tuple[ComboRow, ...]:
        """Every combo in the operator's order."""
        query = select(_COMBOS).order_by(_COMBOS.c.sort_order, _COMBOS.c.created_at, _COMBOS.c.id)
        async with self._database.read() as connection:
            return tuple(_row(row) for row in await connection.execute(query))

    async def find(self, combo_id: str) -> ComboRow | None:
        """The combo with this id."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(_COMBOS).where(_COMBOS.c.id == combo_id))).one_or_none()
        return None if row is None else _row(row)

    async def remove(self, combo_id: str) -> int | None:
        """Delete it. None: no such combo."""
        return await self._delete(_COMBOS, _COMBOS.c.id == combo_id)

    async def options(self) -> dict[str, Any]:
        """What holds for all combos, by name."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_OPTIONS))
            return {row.name: msgspec.json.decode(row.value) for row in found}

    async def set_options(self, values: dict[str, Any]) -> int:
        """Store these, and leave the others alone; None takes one away."""
        async with self._database.write() as connection:
            await connection.execute(delete(_OPTIONS).where(_OPTIONS.c.name.in_(values)))
            rows = [
                {"name": name, "value": msgspec.json.encode(value).decode()}
                for name, value in values.items()
                if value is not None
            ]
            if rows:
                await connection.execute(insert(_OPTIONS), rows)
            return await configuration.bump(connection)

    async def chains(self) -> tuple[ChainRow, ...]:
        """Every fallback chain by model."""
        async with self._database.read() as connection:
            found = await connection.execute(select(_CHAINS).order_by(_CHAINS.c.model))
            return tuple(
                ChainRow(model=row.model, chain=msgspec.json.decode(row.chain), updated_at=row.updated_at)
                for row in found
            )

    async def set_chain(self, row: ChainRow) -> int:
        """Store a chain in place of the model's older one."""
        async with self._database.write() as connection:
            await connection.execute(delete(_CHAINS).where(_CHAINS.c.model == row.model))
            values = {**msgspec.structs.asdict(row), "chain": msgspec.json.encode(row.chain).decode()}
            await connection.execute(insert(_CHAINS), values)
            return await configuration.bump(connection)

    async def remove_chain(self, model: str) -> int | None:
        """Delete a chain. None: the model has none."""
        return await self._delete(_CHAINS, _CHAINS.c.model == model)

    async def _delete(self, table: Table, condition: Any) -> int | None:
        async with self._database.write() as connection:
            gone = await connection.execute(delete(table).where(condition))
            return await configuration.bump(connection) if gone.rowcount else None


def _values(row: ComboRow) -> dict[str, Any]:
    return {**msgspec.structs.asdict(row), "document": msgspec.json.encode(row.document).decode()}


def _row(row: Row[tuple[Any, ...]]) -> ComboRow:
    values: dict[str, Any] = dict(row._mapping)
    values["document"] = msgspec.json.decode(values["document"])
    return ComboRow(**values)
