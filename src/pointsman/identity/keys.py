"""API keys: made once, shown once, kept as HMAC-SHA-256 digests under a pepper that only this installation has.

A key is 256 random bits, so a fast keyed digest is enough (no dictionary attack is possible) and costs about a
microsecond per request. Look-up is by digest: no comparison of secrets whose time could tell anything.
"""

import difflib
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

import msgspec

from pointsman.canonical.limits import NO_LIMITS, NORMAL, RANKS, Limits, Priority
from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.keys import KeyRepository, KeyRow, Role

PREFIX: Final = "sk-pm-"
PEPPER_PURPOSE: Final = "api-key-pepper"
MINIMUM_LENGTH: Final = 32
MINIMUM_PREFIX: Final = 8  # of an id: "key_" alone must never mean the only key
MAXIMUM_NAME: Final = 100
BOOTSTRAP_NAME: Final = "bootstrap"


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A valid key, as the request path sees it. ``expires_at`` is in microseconds since 1970 UTC."""

    id: str
    name: str
    role: str
    workspace_id: str
    expires_at: int | None = None
    limits: Limits | None = None
    priority: int = NORMAL
    account_id: str = "default"  # who pays


class KeyTable:
    """The valid keys by digest: immutable, swapped whole on every change."""

    def __init__(self, pepper: bytes, rows: Iterable[KeyRow]) -> None:
        # HMAC (RFC 2104) from its two halves, keyed once: a third of the time of hmac.digest, which `_digest` uses.
        block = pepper.ljust(hashlib.sha256().block_size, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))
        self._keys = {
            row.digest: Key(
                id=row.id,
                name=row.name,
                role=row.role,
                workspace_id=row.workspace_id,
                expires_at=row.expires_at,
                limits=_limits(row),
                priority=RANKS[row.priority],
            )
            for row in rows
            if row.revoked_at is None
        }
        self._by_id = {key.id: key for key in self._keys.values()}
        self._seen: dict[bytes, Key] = {}  # by a cheaper digest, which is worth nothing outside of this table
        self._quick = hashlib.blake2s(key=secrets.token_bytes(hashlib.blake2s.MAX_KEY_SIZE))
        self.limited = any(key.limits is not None for key in self._keys.values())

    def find(self, presented: bytes) -> Key | None:
        """The key that was presented, or None. Expiry is the caller's to judge."""
        quick = self._quick.copy()
        quick.update(presented)
        mark = quick.digest()
        return self._seen.get(mark) or self._look_up(presented, mark)

    def by_id(self, key_id: str) -> Key | None:
        """The valid key of this id. Expiry is the caller's to judge."""
        return self._by_id.get(key_id)

    def _look_up(self, presented: bytes, mark: bytes) -> Key | None:
        inner = self._inner.copy()
        inner.update(presented)
        outer = self._outer.copy()
        outer.update(inner.digest())
        key = self._keys.get(outer.digest())
        if key is not None:
            self._seen[mark] = key
        return key

    def __len__(self) -> int:
        return len(self._keys)


class KeyService:
    """Makes, lists and revokes keys."""

    def __init__(self, keys: KeyRepository, master: MasterKey, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._pepper = master.derive(PEPPER_PURPOSE)

    async def create(
        self,
        name: str,
        role: Role = "inference",
        secret: Secret | None = None,
        *,
        expires_at: int | None = None,
        limits: Limits = NO_LIMITS,
        priority: Priority = "normal",
    ) -> tuple[KeyRow, Secret]:
        """Store a new key and give it back with its secret, which can't be had again. ``expires_at`` in us.

        Raises ConfigError for a name that can't be shown on one line.
        """
        if not name.strip() or not name.isprintable() or len(name) > MAXIMUM_NAME:
            raise ConfigError(f"a key's name must be 1 to {MAXIMUM_NAME} printable characters")
        secret = secret or Secret(PREFIX + secrets.token_urlsafe(32))
        row = KeyRow(
            id=self._clock.new_id("key"),
            digest=self._digest(secret),
            name=name,
            hint=_hint(secret),
            role=role,
            workspace_id="default",
            created_at=self._clock.now_us(),
            expires_at=expires_at,
            requests_per_minute=limits.requests_per_minute,
            requests_per_day=limits.requests_per_day,
            tokens_per_minute=limits.tokens_per_minute,
            priority=priority,
        )
        await self._keys.add(row)
        return row, secret

    async def limit(self, key_id: str, limits: Limits, priority: Priority) -> KeyRow | None:
        """Give a key these limits and this priority from now on. None: no such key."""
        return await self._keys.limit(key_id, limits, priority)

    async def list_all(self) -> tuple[KeyRow, ...]:
        """Every key, also revoked and expired ones, oldest first."""
        return await self._keys.load_all()

    async def find(self, reference: str) -> KeyRow:
        """The key that an operator means: by id, by a name that one key has, by the beginning of one id, or by itself.

        Of several keys with the name the one that isn't revoked is meant. Raises ConfigError when there is none or
        more than one, with the nearest names or the ids to choose from.
        """
        if reference.startswith(PREFIX):  # the key itself, perhaps found where it should not be: never repeated
            row = await self._keys.find_by_digest(self._digest(Secret(reference)))
            if row is None:
                raise ConfigError("that key is not one of this installation")
            return row
        rows = await self._keys.load_all()
        named = [row for row in rows if row.name == reference]
        active = [row for row in named if row.revoked_at is None]
        begins = [row for row in rows if row.id.startswith(reference)] if len(reference) >= MINIMUM_PREFIX else []
        found = [row for row in rows if row.id == reference] or active or named[-1:] or begins
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(row.id for row in found[:5])
            raise ConfigError(f"{len(found)} keys are meant by '{reference}'; say which by its id: {ids}")
        near = difflib.get_close_matches(reference[:100], dict.fromkeys(n for row in rows for n in (row.name, row.id)))
        hint = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else "pointsman keys list shows them"
        raise ConfigError(f"there is no key {reference[:100]!r}; {hint}")

    async def revoke(self, key_id: str) -> KeyRow | None:
        """Revoke a key from now on; one that is revoked already keeps its instant. None: no such key."""
        return await self._keys.revoke(key_id, self._clock.now_us())

    async def ensure_first(self, configured: Secret | None) -> Secret | None:
        """Make the first admin key if it is missing, and give back its secret only when it was made up here.

        With ``configured`` (POINTSMAN_BOOTSTRAP_KEY) that key is made to exist, unless it was revoked before. Raises
        ConfigError when it is too short to be safe.
        """
        if configured is not None:
            text = configured.reveal()
            if len(text) < MINIMUM_LENGTH or any(not "!" <= character <= "~" for character in text):
                raise ConfigError(
                    f"POINTSMAN_BOOTSTRAP_KEY must have {MINIMUM_LENGTH} or more visible ASCII characters, no blanks"
                )
            if await self._keys.find_by_digest(self._digest(configured)) is None:
                try:
                    await self.create(BOOTSTRAP_NAME, "admin", configured)
                except AlreadyExistsError:
                    pass  # another node that starts at the same time was first
            return None
        now = self._clock.now_us()
        for row in await self._keys.load_all():
            usable = row.revoked_at is None and (row.expires_at is None or row.expires_at > now)
            if row.role == "admin" and usable:
                return None
        _, secret = await self.create(BOOTSTRAP_NAME, "admin")
        return secret

    async def table(self) -> KeyTable:
        """A snapshot for the request path."""
        return KeyTable(self._pepper, await self._keys.load_all())

    def _digest(self, secret: Secret) -> bytes:
        return hmac.digest(self._pepper, secret.reveal().encode(), "sha256")


def _hint(secret: Secret) -> str:
    """Enough to recognise a key by, never enough to guess it."""
    text = secret.reveal()
    return f"{text[:6]}…{text[-4:]}"


def _limits(row: KeyRow) -> Limits | None:
    limits = limits_of(row)
    return limits if limits != NO_LIMITS else None


def limits_of(row: KeyRow) -> Limits:
    """The limits that were given to the key itself."""
    return Limits(
        requests_per_minute=row.requests_per_minute,
        requests_per_day=row.requests_per_day,
        tokens_per_minute=row.tokens_per_minute,
    )
