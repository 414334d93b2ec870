"""Keys as processes read them from the database, each with what binds it: all of a small installation, of a large one
those that are asked for, and what changed.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pointsman.identity.key_table import KeyNews, Known
from pointsman.identity.keys import Verifier, key_of
from pointsman.storage.budgets import BudgetRepository
from pointsman.storage.keys import KeyRepository, KeyRow

PRELOADED: Final = 10_000  # of an installation with more keys none is read before somebody uses it


class Found(NamedTuple):
    """A valid key, and the configuration's revision at its last change."""

    known: Known
    revision: int


class KeySource:
    """Reads keys. ``most``: how many a process holds."""

    def __init__(
        self, keys: KeyRepository, budgets: BudgetRepository, most: int, tokens: Verifier | None = None
    ) -> None:
        self._keys = keys
        self._budgets = budgets
        self._preloaded = min(most, PRELOADED)
        self._tokens = tokens

    async def news(self, since: int | None, revision: int) -> KeyNews:
        """What changed behind the revision ``since``, up to ``revision``; None: what there is to begin with.

        Raises StorageError.
        """
        if self._tokens is not None:
            await self._tokens.refresh()
        limited, prepaid = await self._keys.traits()
        if since is not None:
            changed = await self._keys.load_changed(since, self._preloaded + 1)
            if len(changed) <= self._preloaded:
                valid = await self._with_budgets([row for row, is_valid in changed if is_valid])
                gone = tuple(row.id for row, is_valid in changed if not is_valid)
                return KeyNews(revision=revision, valid=valid, gone=gone, limited=limited, prepaid=prepaid)
        rows = await self._keys.load_valid(self._preloaded)
        valid, whole = await self._with_budgets(rows or ()), rows is not None
        return KeyNews(revision=revision, valid=valid, anew=True, whole=whole, limited=limited, prepaid=prepaid)

    async def look_up(self, digests: Sequence[bytes]) -> tuple[Found, ...]:
        """The valid keys among these, a few hundred. Raises StorageError."""
        return await self._found(await self._keys.load_presented(digests))

    async def by_id(self, key_id: str) -> Found | None:
        """The valid key with this id. Raises StorageError."""
        found = await self._found(await self._keys.load_named(key_id))
        return found[0] if found else None

    async def _found(self, rows: Sequence[KeyRow]) -> tuple[Found, ...]:
        known = await self._with_budgets(rows)
        return tuple(Found(one, row.revision) for one, row in zip(known, rows, strict=True))

    async def _with_budgets(self, rows: Iterable[KeyRow]) -> tuple[Known, ...]:
        listed = list(rows)
        budgets = await self._budgets.of_keys([row.id for row in listed])
        return tuple(Known(row.digest, key_of(row, budgets.get(row.id, ()))) for row in listed)
