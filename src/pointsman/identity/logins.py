"""Who is who at other issuers, and whose tokens are void: everybody of a small installation, of a large one those whose
tokens were presented.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from pointsman.storage.users import LoginName, LoginRow, UserRepository

MOST: Final = 10_000  # people in memory; each has some 500 bytes
Name = TypeVar("Name", bound=Hashable)
Row = TypeVar("Row")


class People(ABC, Generic[Name, Row]):
    """At most ``most`` of them. While it is ``whole``, who is not in it was never noted."""

    def __init__(self, users: UserRepository, most: int = MOST) -> None:
        self._users = users
        self._most = most
        self._held: OrderedDict[Name, Row | None] = OrderedDict()  # None: nothing was noted of it
        self._refreshed = 0
        self.whole = True

    async def refresh(self) -> None:
        """Read all, or else those that are held, anew. Raises StorageError."""
        self._refreshed += 1  # first: what is looked up meanwhile may be from before the change
        rows = await self._load(self._most)
        if rows is not None:
            self._held = OrderedDict(rows)
            self.whole = True
            return
        self.whole = False
        names = list(self._held)
        found = await self._among(names)
        for name in names:
            if name in self._held:
                self._held[name] = found.get(name)

    async def learn(self, names: Iterable[Name]) -> None:
        """Look up those of these that are not known; the oldest ones make room for them. Raises StorageError."""
        while unknown := [name for name in dict.fromkeys(names) if not self.knows(name)]:
            refreshed = self._refreshed
            found = await self._among(unknown)
            if refreshed != self._refreshed:
                continue  # what was read may be older than what is in effect
            for name in unknown:
                self._held[name] = found.get(name)
                if len(self._held) > max(self._most, len(unknown)):
                    self._held.popitem(last=False)
            return

    def knows(self, name: Name) -> bool:
        """Whether `find` can say what was noted."""
        return self.whole or name in self._held

    def find(self, name: Name) -> Row | None:
        """What was noted of this name; None: nothing."""
        return self._held.get(name)

    def __len__(self) -> int:
        return len(self._held)

    @abstractmethod
    async def _load(self, most: int) -> Mapping[Name, Row] | None:
        """All; None: there are more than ``most``."""

    @abstractmethod
    async def _among(self, names: Sequence[Name]) -> Mapping[Name, Row]:
        """Those of these names of which something was noted."""


class Logins(People[LoginName, LoginRow]):
    """Who is who, by the issuer and its name for the person."""

    async def _load(self, most: int) -> Mapping[LoginName, LoginRow] | None:
        rows = await self._users.load_logins(most)
        return None if rows is None else {(row.issuer, row.subject): row for row in rows}

    async def _among(self, names: Sequence[LoginName]) -> Mapping[LoginName, LoginRow]:
        return await self._users.logins_among(names)


class VoidTokens(People[str, int]):
    """By a person's id, the instant (us) before which its tokens are void."""

    async def _load(self, most: int) -> Mapping[str, int] | None:
        return await self._users.load_void(most)

    async def _among(self, names: Sequence[str]) -> Mapping[str, int]:
        return await self._users.void_among(names)
