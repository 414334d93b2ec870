"""The keys that one process knows, found without a wait; those it doesn't know are looked up (identity/late_keys.py).

HMAC-SHA-256 under the installation's pepper names a key in the database; a quicker digest of the process's own names
those that were seen.
"""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from pointsman.identity.keys import Key, Verifier, key_of
from pointsman.storage.keys import KeyRow

MOST: Final = 50_000  # keys in memory, unless the settings say otherwise


class Known(NamedTuple):
    """A valid key and the digest that the database has of it."""

    digest: bytes
    key: Key


class KeyNews(msgspec.Struct, frozen=True, kw_only=True):
    """What became of keys since the table was told last, up to the configuration's ``revision``.

    ``valid`` are new or changed, ``gone`` the ids of those that are valid no more. ``anew``: forget all that was known;
    with ``whole`` the valid ones are all there are. ``limited``, ``prepaid``: any key of the installation is.
    """

    revision: int
    valid: tuple[Known, ...] = ()
    gone: tuple[str, ...] = ()
    anew: bool = False
    whole: bool = False
    limited: bool = False
    prepaid: bool = False


class KeyTable:
    """Valid keys by digest, at most ``most`` of them. It changes only where `apply` and `learn` are called.

    ``tokens`` checks what is no key; ``public_origin`` is where browsers reach this server, when that is not what they
    say in ``Host``. While it is ``whole``, what it doesn't know is no key, and no good token.
    """

    def __init__(
        self,
        pepper: bytes,
        rows: Iterable[KeyRow] = (),
        tokens: Verifier | None = None,
        public_origin: str | None = None,
        most: int = MOST,
    ) -> None:
        self._tokens = tokens
        self.public_origin = public_origin
        # HMAC (RFC 2104) from its two halves, keyed once: a third of the time of hmac.digest, which `KeyService` uses.
        block = pepper.ljust(hashlib.sha256().block_size, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))
        self.most = most
        self._keys: dict[bytes, Key] = {}
        self._others: dict[bytes, Key] = {}  # those that may not call models, so that those that may pay nothing
        self._held: OrderedDict[str, Known] = OrderedDict()  # by id, oldest first
        self._marks: dict[str, bytes] = {}  # by id, where `_seen` has it
        self._seen: dict[bytes, Key] = {}  # by a cheaper digest, which is worth nothing outside of this table
        self._quick = hashlib.blake2s(key=secrets.token_bytes(hashlib.blake2s.MAX_KEY_SIZE))
        self.revision = 0
        self._all_keys = True
        self.whole = True
        valid = tuple(Known(row.digest, key_of(row)) for row in rows if row.revoked_at is None)
        self.apply(KeyNews(revision=0, valid=valid, anew=True, whole=True))

    def find(self, presented: bytes) -> Key | None:
        """The key that was presented, if it may call models, or None. Expiry is the caller's to judge."""
        quick = self._quick.copy()
        quick.update(presented)
        mark = quick.digest()
        return self._seen.get(mark) or self._look_up(presented, mark)

    def find_any(self, presented: bytes) -> Key | None:
        """As `find`, also those that may not call models: for management alone, or disabled. See both fields."""
        return self.find(presented) or self._others.get(self.digest(presented))

    def verify(self, presented: bytes, now_us: int) -> Key | None:
        """Whom a signed token speaks for; None for anything else. Its expiry is judged."""
        return None if self._tokens is None else self._tokens.verify(presented, now_us)

    def by_id(self, key_id: str) -> Key | None:
        """The known key of this id that is not revoked. Expiry is the caller's to judge, and whether it is disabled."""
        held = self._held.get(key_id)
        return None if held is None else held.key

    def digest(self, presented: bytes) -> bytes:
        """What the database names a key by."""
        inner = self._inner.copy()
        inner.update(presented)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def apply(self, news: KeyNews) -> None:
        """Let changes be in effect, with nothing of before them left."""
        if news.anew:
            for held in (self._keys, self._others, self._held, self._marks, self._seen):
                held.clear()
            self._all_keys = news.whole
        self.forget(news.gone)
        for known in news.valid:
            if self._all_keys or known.key.id in self._held:  # others are looked up when somebody presents them
                self._hold(known)
        self.whole = self._all_keys and (self._tokens is None or self._tokens.whole)
        self.revision = news.revision

    def forget(self, key_ids: Iterable[str]) -> None:
        """Know these keys no more."""
        for key_id in key_ids:
            self._forget(key_id)

    async def learn_people(self, presented: Sequence[bytes], now_us: int) -> None:
        """Know whom these tokens speak for. Raises StorageError."""
        if self._tokens is not None:
            await self._tokens.learn(presented, now_us)

    def learn(self, found: Iterable[Known]) -> None:
        """Know keys that were looked up; the oldest ones make room for them."""
        for known in found:
            self._hold(known)

    def _hold(self, known: Known) -> None:
        key = known.key
        self._forget(key.id)
        calls = key.role != "management" and not key.disabled
        (self._keys if calls else self._others)[known.digest] = key
        self._held[key.id] = known
        if len(self._held) > self.most:
            self._all_keys = self.whole = False
            self._forget(next(iter(self._held)))

    def _forget(self, key_id: str) -> None:
        known = self._held.pop(key_id, None)
        if known is None:
            return
        self._keys.pop(known.digest, None)
        self._others.pop(known.digest, None)
        mark = self._marks.pop(key_id, None)
        if mark is not None:
            self._seen.pop(mark, None)

    def _look_up(self, presented: bytes, mark: bytes) -> Key | None:
        key = self._keys.get(self.digest(presented))
        if key is not None:
            self._seen[mark] = key
            self._marks[key.id] = mark
        return key

    def __len__(self) -> int:
        return len(self._held)
