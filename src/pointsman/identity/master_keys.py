"""Generations of the master key: which ones this process knows, which one seals, and what is kept of those gone.

A change goes in three steps, each confirmed by every server before the next: the new key is announced (all can open
with both), it is current (all seal with it), the old one is retired (docs/secrets.md). A process that knows one of the
two finds the other, sealed with it, in the database until the last step.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.keyring import (
    AUDIT_PURPOSE,
    KEY_BYTES,
    LASTING,
    MasterKey,
    Secret,
    key_id_of,
    load_key,
    replace_key_file,
)
from pointsman.storage.database import AlreadyExistsError, OutdatedKeyError
from pointsman.storage.master_keys import KeptKeyRow, MasterKeyRepository, MasterKeyRow

PURPOSE: Final = "master-key"
KEPT_PURPOSE: Final = "kept-key"
log = structlog.get_logger("pointsman.secrets")


class MasterKeys:
    """This process's master key among all generations. `load` comes first."""

    def __init__(
        self, repository: MasterKeyRepository, clock: Clock, data_dir: Path, configured: Secret | None
    ) -> None:
        """``configured``: the operator's own key, in place of the key file. Raises ConfigError."""
        self.repository = repository
        self.from_file = configured is None
        self._clock = clock
        self._data_dir = data_dir
        self._base = load_key(data_dir, configured)
        self.master = MasterKey(self._base)
        self.opened_with = self.master.id  # or what was put into the key file since: a restart has this one
        self.takes_part = False  # as a server, for which a change of the key waits before each of its steps
        self._seen: tuple[tuple[MasterKeyRow, ...], tuple[KeptKeyRow, ...]] | None = None

    async def load(self) -> None:
        """Know what the database tells; at the first start, note this key as the first generation.

        Raises ConfigError when the key is not the installation's, or not any more.
        """
        rows, _ = await self.repository.load()
        if not rows:
            first = MasterKeyRow(id=self.opened_with, number=1, state="current", created_at=self._clock.now_us())
            try:
                await self.repository.begin(first)
            except AlreadyExistsError:
                pass  # another process that starts at the same time was first
        await self.refresh()

    async def refresh(self) -> None:
        """Take over what has changed. A key file follows: it holds the current key. Raises ConfigError as `load`."""
        rows, kept = stored = await self.repository.load()
        if stored == self._seen:
            return
        known = self._unlocked(rows)
        current = next(row.id for row in rows if row.state == "current")
        if current not in known:
            raise _refused(key_id_of(self._base), rows)
        alive = {row.id: known[row.id] for row in rows if row.state != "retired" and row.id in known}
        self.master.adopt(alive, current, _opened(kept, alive, rows))
        self._base = alive[current]  # also of an operator's own key: this process outlives the old one
        if current != self.opened_with and self.from_file:
            replace_key_file(self._data_dir, self._base)
            self.opened_with = current
            log.info("the key file holds the new master key", key_id=current)
        self._seen = stored

    async def announce(self, key: bytes | None) -> int:
        """Have a new key (None: 32 random bytes) follow the current one; gives the configuration's revision.

        Raises ConfigError when another change is under way, or the key was used before.
        """
        await self.refresh()  # somebody else may have finished a change since this process began
        rows, _ = await self.repository.load()
        if is_under_way(rows):
            raise ConfigError("the master key is being changed already")
        key = key or os.urandom(KEY_BYTES)
        new, old = key_id_of(key), self.master.id
        if any(row.id == new for row in rows):
            raise ConfigError("this master key was used before: choose a new one, e.g. from: openssl rand -hex 32")
        fresh = MasterKey(key)
        row = MasterKeyRow(
            id=new,
            number=rows[-1].number + 1,
            state="announced",
            created_at=self._clock.now_us(),
            forward=self.master.seal_with(old, PURPOSE, new, key),
            backward=fresh.seal_bytes(PURPOSE, old, self.master.raw(old)),
        )
        revision = await self.repository.announce(row, self._to_keep(fresh, rows), old)
        if revision is None:
            raise ConfigError("the master key is being changed by somebody else")
        return revision

    async def check_seal(self, connection: AsyncConnection) -> None:
        """At the end of a transaction that stores something sealed: whoever changes the key after it finds it.

        Values that are sealed with the key before are sealed anew after every server knows the present one; of other
        processes nobody knows. Raises OutdatedKeyError.
        """
        state = await self.repository.hold(connection, self.master.id)
        if state != "current" and not (state == "retiring" and self.takes_part):
            raise OutdatedKeyError("the master key was changed meanwhile, nothing was stored: do it again")

    def _to_keep(self, fresh: MasterKey, rows: Sequence[MasterKeyRow]) -> list[KeptKeyRow]:
        """What the new key must have of the generations so far."""
        keys = [(purpose, rows[0].id, self.master.derive(purpose)) for purpose in sorted(LASTING)]
        for row in rows:
            seal = self.master.derive_of(row.id, AUDIT_PURPOSE)
            if seal is not None:
                keys.append((AUDIT_PURPOSE, row.id, seal))
        return [
            KeptKeyRow(
                purpose=purpose,
                key_id=key_id,
                holder=fresh.id,
                sealed=fresh.seal_bytes(KEPT_PURPOSE, f"{purpose}/{key_id}", key),
            )
            for purpose, key_id, key in keys
        ]

    def _unlocked(self, rows: Sequence[MasterKeyRow]) -> dict[str, bytes]:
        """Every master key that can be had from the one we have. Raises ConfigError when that one is none of them."""
        base = key_id_of(self._base)
        own = next((row for row in rows if row.id == base), None)
        if own is None or own.state == "retired":
            raise _refused(base, rows)
        known = {base: self._base}
        for older, newer in pairwise(rows):
            if older.id in known and newer.id not in known and newer.forward is not None:
                known[newer.id] = MasterKey(known[older.id]).open_bytes(PURPOSE, newer.id, newer.forward)
            if newer.id in known and older.id not in known and newer.backward is not None:
                known[older.id] = MasterKey(known[newer.id]).open_bytes(PURPOSE, older.id, newer.backward)
        return known


def is_under_way(rows: Sequence[MasterKeyRow]) -> bool:
    """Whether a change was begun and is not finished."""
    return any(row.state in ("announced", "retiring") for row in rows)


def _opened(
    kept: Sequence[KeptKeyRow], alive: Mapping[str, bytes], rows: Sequence[MasterKeyRow]
) -> dict[str, tuple[tuple[str, bytes], ...]]:
    """Of each purpose the keys that are kept, the oldest first."""
    numbers = {row.id: row.number for row in rows}
    holders = {key_id: MasterKey(key) for key_id, key in alive.items()}
    found: dict[str, dict[str, bytes]] = {}
    for row in sorted(kept, key=lambda one: numbers.get(one.key_id, 0)):
        if row.holder in holders:
            key = holders[row.holder].open_bytes(KEPT_PURPOSE, f"{row.purpose}/{row.key_id}", row.sealed)
            found.setdefault(row.purpose, {})[row.key_id] = key
    return {purpose: tuple(keys.items()) for purpose, keys in found.items()}


def _refused(key_id: str, rows: Sequence[MasterKeyRow]) -> ConfigError:
    current = next((row.id for row in rows if row.state == "current"), "?")
    where = "POINTSMAN_SECRET_KEY or secret.key in the data directory"
    if any(row.id == key_id for row in rows):
        return ConfigError(
            f"the master key {key_id} ({where}) was replaced and opens nothing any more: the database is sealed with "
            f"{current}; take the present key, from another node or a newer backup"
        )
    return ConfigError(
        f"the master key {key_id} ({where}) is not this database's, which is sealed with {current}: restore the key "
        "that belongs to it"
    )
