"""API keys: made once, shown once, kept as HMAC-SHA-256 digests under a pepper that only this installation has.

A key is 256 random bits, so a fast keyed digest is enough (no dictionary attack is possible) and costs about a
microsecond per request. Look-up is by digest: no comparison of secrets whose time could tell anything.
"""

import hmac
import secrets
from collections.abc import Iterable
from typing import Final

import msgspec

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.keys import KeyRepository, KeyRow, Role

PREFIX: Final = "sk-pm-"
PEPPER_PURPOSE: Final = "api-key-pepper"
MINIMUM_LENGTH: Final = 32
BOOTSTRAP_NAME: Final = "bootstrap"


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A valid key, as the request path sees it. ``expires_at`` is in microseconds since 1970 UTC."""

    id: str
    name: str
    role: str
    workspace_id: str
    expires_at: int | None = None


class KeyTable:
    """The valid keys by digest: immutable, swapped whole on every change."""

    def __init__(self, pepper: bytes, rows: Iterable[KeyRow]) -> None:
        self._pepper = pepper
        self._keys = {
            row.digest: Key(
                id=row.id, name=row.name, role=row.role, workspace_id=row.workspace_id, expires_at=row.expires_at
            )
            for row in rows
            if row.revoked_at is None
        }

    def find(self, presented: bytes) -> Key | None:
        """The key that was presented, or None. Expiry is the caller's to judge."""
        return self._keys.get(hmac.digest(self._pepper, presented, "sha256"))

    def __len__(self) -> int:
        return len(self._keys)


class KeyService:
    """Makes, lists and revokes keys."""

    def __init__(self, keys: KeyRepository, master: MasterKey, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._pepper = master.derive(PEPPER_PURPOSE)

    async def create(self, name: str, role: Role = "inference", secret: Secret | None = None) -> tuple[KeyRow, Secret]:
        """Store a new key and give it back with its secret, which can't be had again."""
        secret = secret or Secret(PREFIX + secrets.token_urlsafe(32))
        row = KeyRow(
            id=self._clock.new_id("key"),
            digest=self._digest(secret),
            name=name,
            hint=_hint(secret),
            role=role,
            workspace_id="default",
            created_at=self._clock.now_us(),
        )
        await self._keys.add(row)
        return row, secret

    async def ensure_first(self, configured: Secret | None) -> Secret | None:
        """Make the first admin key if it is missing, and give back its secret only when it was made up here.

        With ``configured`` (POINTSMAN_BOOTSTRAP_KEY) that key is made to exist, unless it was revoked before. Raises
        ConfigError when it is too short to be safe.
        """
        if configured is not None:
            if len(configured.reveal()) < MINIMUM_LENGTH or not configured.reveal().isascii():
                raise ConfigError(f"POINTSMAN_BOOTSTRAP_KEY must have {MINIMUM_LENGTH} ASCII characters or more")
            if await self._keys.find_by_digest(self._digest(configured)) is None:
                await self.create(BOOTSTRAP_NAME, "admin", configured)
            return None
        if await self._keys.load_all():
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
