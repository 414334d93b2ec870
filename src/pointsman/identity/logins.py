"""Who is who at other issuers: everybody of a small installation, of a large one those whose tokens were presented."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from pointsman.storage.users import LoginName, LoginRow, UserRepository

MOST: Final = 10_000  # people in memory; each has some 500 bytes


class Logins:
    """At most ``most`` of them. While it is ``whole``, who is not in it was never noted."""

    def __init__(self, users: UserRepository, most: int = MOST) -> None:
        self._users = users
        self._most = most
        self._held: OrderedDict[LoginName, LoginRow | None] = OrderedDict()  # None: nobody has noted who that is
        self._refreshed = 0
        self.whole = True

    async def refresh(self) -> None:
        """Read all, or else those that are held, anew. Raises StorageError."""
        self._refreshed += 1  # first: what is looked up meanwhile may be from before the change
        rows = await self._users.load_logins(self._most)
        if rows is not None:
            self._held = OrderedDict(((row.issuer, row.subject), row) for row in rows)
            self.whole = True
            return
        self.whole = False
        names = list(self._held)
        found = await self._users.logins_among(names)
        for name in names:
            if name in self._held:
                self._held[name] = found.get(name)

    async def learn(self, names: Iterable[LoginName]) -> None:
        """Look up those of these that are not known; the oldest ones make room for them. Raises StorageError."""
        while unknown := [name for name in dict.fromkeys(names) if not self.knows(name)]:
            refreshed = self._refreshed
            found = await self._users.logins_among(unknown)
            if refreshed != self._refreshed:
                continue  # what was read may be older than what is in effect
            for name in unknown:
                self._held[name] = found.get(name)
                if len(self._held) > max(self._most, len(unknown)):
                    self._held.popitem(last=False)
            return

    def knows(self, name: LoginName) -> bool:
        """Whether `find` can say who that is."""
        return self.whole or name in self._held

    def find(self, name: LoginName) -> LoginRow | None:
        """The person of this name; None when nobody has noted who that is."""
        return self._held.get(name)

    def __len__(self) -> int:
        return len(self._held)
