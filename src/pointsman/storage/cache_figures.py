"""What the response cache did, counted from the records of requests: over all processes, and after a restart too."""

from typing import Any, Final

import msgspec
from sqlalchemy import func, select

from pointsman.storage import tables
from pointsman.storage.database import Database

HOUR_US: Final = 3_600_000_000
HITS: Final = ("hit", "semantic")
ASKED: Final = (*HITS, "miss")
_REQUESTS: Final = tables.requests
_SOURCES: Final = tables.requests.alias("sources")


class CacheHour(msgspec.Struct, frozen=True, kw_only=True):
    """An hour's figures; ``begins_at`` in us. ``tokens_saved``: what the answers that were given again had used."""

    begins_at: int
    hits: int = 0
    semantic: int = 0
    misses: int = 0
    tokens_saved: int = 0


class CacheFigures:
    """Asks the table of requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hours(self, since: int) -> tuple[CacheHour, ...]:
        """By hour, of requests after ``since`` (us) that were let near the cache. Raises StorageError."""
        hour = _REQUESTS.c.created_at - _REQUESTS.c.created_at % HOUR_US
        near = (_REQUESTS.c.created_at >= since) & _REQUESTS.c.cache.in_(ASKED)
        counts = select(hour, _REQUESTS.c.cache, func.count()).where(near).group_by(hour, _REQUESTS.c.cache)
        used = func.sum(_SOURCES.c.input_tokens + _SOURCES.c.output_tokens)
        same = _SOURCES.c.request_id == _REQUESTS.c.cache_source
        saved = select(hour, used).join(_SOURCES, same).where(near & _REQUESTS.c.cache.in_(HITS)).group_by(hour)
        found: dict[int, dict[str, Any]] = {}
        async with self._database.read() as connection:
            for begins_at, outcome, count in await connection.execute(counts):
                name = {"hit": "hits", "semantic": "semantic"}.get(outcome, "misses")
                found.setdefault(int(begins_at), {})[name] = int(count)
            for begins_at, tokens in await connection.execute(saved):
                found.setdefault(int(begins_at), {})["tokens_saved"] = int(tokens or 0)
        return tuple(CacheHour(begins_at=begins_at, **figures) for begins_at, figures in sorted(found.items()))

    async def stored(self, space: str, now: int) -> int:
        """How many entries the database has whose workspace begins with ``space``. Raises StorageError."""
        states = tables.opaque_states.c
        mine = states.workspace_id.startswith(space, autoescape=True) & (states.expires_at > now)
        async with self._database.read() as connection:
            return int((await connection.execute(select(func.count()).where(mine))).scalar_one())
