"""Responses that clients asked to have kept. Every question names the workspace: another's rows are not there."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Integer, Label, and_, delete, func, insert, literal, select, update

from pointsman.storage import tables
from pointsman.storage.database import Database

ACTIVE: Final = ("queued", "in_progress")
_TABLE: Final = tables.responses
_IS_ACTIVE: Final = _TABLE.c.status.in_(ACTIVE)
_EVENTS: Final = tables.response_events


class ResponseRow(msgspec.Struct, frozen=True, kw_only=True):
    """One kept response; instants in microseconds since 1970. ``sealed`` is what the keyring made of it."""

    workspace_id: str
    id: str
    status: str
    created_at: int
    updated_at: int
    expires_at: int
    sealed: bytes
    background: bool = False
    key_id: str | None = None
    previous_id: str | None = None


class EventBatch(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` events of a stream from ``first_number`` on, sealed together."""

    first_number: int
    count: int
    sealed: bytes


class ResponseRepository:
    """Asks and changes the tables of responses and their events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: ResponseRow, most: int) -> None:
        """Keep a response, and at most ``most`` of its workspace: the oldest that is finished goes.

        Raises AlreadyExistsError for a known id.
        """
        async with self._database.write(sealing=True) as connection:
            await connection.execute(insert(_TABLE), msgspec.structs.asdict(row))
            mine = _TABLE.c.workspace_id == row.workspace_id
            count = (await connection.execute(select(func.count()).select_from(_TABLE).where(mine))).scalar_one()
            if count > most:
                finished = and_(mine, ~_IS_ACTIVE, _TABLE.c.id != row.id)
                oldest = select(_TABLE.c.id).where(finished).order_by(_TABLE.c.created_at).limit(count - most)
                await connection.execute(delete(_TABLE).where(mine, _TABLE.c.id.in_(oldest)))

    async def get(self, workspace_id: str, response_id: str, now: int) -> ResponseRow | None:
        """The response, unless there is none, it is another's, or its time is over at the instant ``now``."""
        query = select(_TABLE).where(
            _TABLE.c.workspace_id == workspace_id, _TABLE.c.id == response_id, _TABLE.c.expires_at > now
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else ResponseRow(**row._mapping)

    async def chain(self, workspace_id: str, response_id: str, now: int, most: int) -> tuple[ResponseRow, ...]:
        """The response and those that it goes on from, oldest first, at most ``most``; empty when it isn't there.

        It ends early where an earlier one is gone; who asks sees that by the first one's ``previous_id``.
        """
        mine = and_(_TABLE.c.workspace_id == workspace_id, _TABLE.c.expires_at > now)
        start = select(_TABLE.c.id, _TABLE.c.previous_id, _depth_zero()).where(mine, _TABLE.c.id == response_id)
        steps = start.cte("steps", recursive=True)
        earlier = _TABLE.alias("earlier")
        behind = (
            select(earlier.c.id, earlier.c.previous_id, steps.c.depth + 1)
            .join(steps, steps.c.previous_id == earlier.c.id)
            .where(earlier.c.workspace_id == workspace_id, earlier.c.expires_at > now, steps.c.depth + 1 < most)
        )
        steps = steps.union_all(behind)
        query = (
            select(_TABLE).join(steps, steps.c.id == _TABLE.c.id).where(mine).order_by(steps.c.depth.desc()).limit(most)
        )
        async with self._database.read() as connection:
            return tuple(ResponseRow(**row._mapping) for row in await connection.execute(query))

    async def update_active(
        self, workspace_id: str, response_id: str, status: str, now: int, sealed: bytes | None = None
    ) -> bool:
        """Change a response that is queued or in progress; False when it is neither, or not there."""
        values: dict[str, object] = {"status": status, "updated_at": now}
        if sealed is not None:
            values["sealed"] = sealed
        query = update(_TABLE).where(_TABLE.c.workspace_id == workspace_id, _TABLE.c.id == response_id, _IS_ACTIVE)
        async with self._database.write(sealing=True) as connection:
            return bool((await connection.execute(query.values(**values))).rowcount)

    async def delete(self, workspace_id: str, response_id: str) -> bool:
        """Forget a response and its events; False when there is none."""
        query = delete(_TABLE).where(_TABLE.c.workspace_id == workspace_id, _TABLE.c.id == response_id)
        async with self._database.write() as connection:
            return bool((await connection.execute(query)).rowcount)

    async def add_events(self, workspace_id: str, response_id: str, batch: EventBatch) -> None:
        """Keep a batch of a response's events. Raises AlreadyExistsError when its first number is taken."""
        values = {"workspace_id": workspace_id, "response_id": response_id, **msgspec.structs.asdict(batch)}
        async with self._database.write(sealing=True) as connection:
            await connection.execute(insert(_EVENTS), values)

    async def events(self, workspace_id: str, response_id: str, after: int, most: int) -> Sequence[EventBatch]:
        """The first ``most`` batches that hold events with numbers greater than ``after``, in order."""
        query = (
            select(_EVENTS.c.first_number, _EVENTS.c.count, _EVENTS.c.sealed)
            .where(_EVENTS.c.workspace_id == workspace_id, _EVENTS.c.response_id == response_id)
            .where(_EVENTS.c.first_number + _EVENTS.c.count > after + 1)
            .order_by(_EVENTS.c.first_number)
            .limit(most)
        )
        async with self._database.read() as connection:
            return [EventBatch(**row._mapping) for row in await connection.execute(query)]

    async def abandoned(self, before: int) -> tuple[ResponseRow, ...]:
        """Background responses that nobody has touched since the instant ``before``: their process is gone."""
        query = select(_TABLE).where(_IS_ACTIVE, _TABLE.c.updated_at < before).limit(1000)
        async with self._database.read() as connection:
            return tuple(ResponseRow(**row._mapping) for row in await connection.execute(query))

    async def forget_expired(self, now: int) -> int:
        """Delete everything whose time is over at the instant ``now``; gives how many."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_TABLE).where(_TABLE.c.expires_at <= now))).rowcount


def _depth_zero() -> Label[int]:
    return literal(0, Integer).label("depth")
