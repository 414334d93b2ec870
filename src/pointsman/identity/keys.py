"""Credentials: made once, shown once, kept as HMAC-SHA-256 digests under a pepper that only this installation has.

A key is 256 random bits, so a fast keyed digest is enough (no dictionary attack is possible) and costs about a
microsecond per request. Look-up is by digest: no comparison of secrets whose time could tell anything.
"""

import difflib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from pointsman.canonical.limits import NO_LIMITS, NORMAL, RANKS, Limits, Priority
from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.identity.credentials import fingerprint_of, hint_of, kind_of, new_secret
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.accounts import DEFAULT
from pointsman.storage.budgets import BudgetRow
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.keys import NO_SETTINGS, CredentialKind, KeyFilter, KeyRepository, KeyRow, Role

PEPPER_PURPOSE: Final = "api-key-pepper"
MINIMUM_LENGTH: Final = 32
MINIMUM_PREFIX: Final = 8  # of an id: "key_" alone must never mean the only key
MAXIMUM_NAME: Final = 100
MOST_MEANT: Final = 1000  # keys that one name may stand for
MOST_NEAR: Final = 10_000  # keys whose names are looked through for one that was mistyped
BOOTSTRAP_NAME: Final = "bootstrap"
# Settings that policy/key_conditions.py holds a call against.
CONDITIONS: Final = ("accessSchedule", "allowedEndpoints", "allowedCombos")
PREFERRED: Final = "preferredConnections"
PREPAID: Final = "crosscompute_agent"  # keys of this kind spend no more than their account has paid in
GUARDS: Final = "guards"  # the setting with the names of guards that look at a key's calls (hub/guarding.py)
NO_SCOPES: Final[frozenset[str]] = frozenset()


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A valid credential, as a request's course sees it. ``expires_at`` is in microseconds since 1970 UTC.

    ``account_id`` pays and owns what is made with it; ``user_id`` is the person it acts for, ``creator_user_id`` who
    made it. ``settings`` holds what the contract of its kind alone knows. ``allowed_models`` (patterns with ``*``) and
    ``allowed_connections`` are all that it may use; ``restricted`` says that there are any, or conditions
    (policy/key_conditions.py). ``budgets`` are those of the key itself.
    """

    id: str
    name: str
    role: Role
    workspace_id: str
    expires_at: int | None = None
    limits: Limits | None = None
    priority: int = NORMAL
    kind: CredentialKind = "plain"
    account_id: str = DEFAULT
    user_id: str | None = None
    creator_user_id: str | None = None
    scopes: frozenset[str] = NO_SCOPES
    settings: Mapping[str, Any] = NO_SETTINGS
    disabled: bool = False
    allowed_models: tuple[str, ...] = ()
    allowed_connections: tuple[str, ...] = ()
    restricted: bool = False
    budgets: tuple[BudgetRow, ...] = ()

    @property
    def owner(self) -> str | None:
        """The member of its account whom its calls count for: a key of OpenRouter's API is its maker's."""
        return self.user_id or (self.creator_user_id if self.kind == "openrouter" else None)


def member_of(account_id: str, user_id: str) -> str:
    """The name of a person as a member of just this account; the same person's calls for another one have another."""
    return f"{account_id}/{user_id}"


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a new credential is to be. ``expires_at`` in us."""

    name: str
    kind: CredentialKind = "plain"
    role: Role = "inference"
    account_id: str = DEFAULT
    workspace_id: str = DEFAULT
    user_id: str | None = None
    creator_user_id: str | None = None
    scopes: tuple[str, ...] = ()
    expires_at: int | None = None
    limits: Limits = NO_LIMITS
    priority: Priority = "normal"
    settings: Mapping[str, Any] = NO_SETTINGS


class KeyChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be different about a key; what is UNSET stays. ``settings`` replaces all of them."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    workspace_id: str | msgspec.UnsetType = msgspec.UNSET
    scopes: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    expires_at: int | msgspec.UnsetType | None = msgspec.UNSET
    limits: Limits | msgspec.UnsetType = msgspec.UNSET
    priority: Priority | msgspec.UnsetType = msgspec.UNSET
    settings: Mapping[str, Any] | msgspec.UnsetType = msgspec.UNSET


class Verifier(Protocol):
    """Whom a signed token speaks for (identity/tokens.py)."""

    def verify(self, presented: bytes, now_us: int) -> Key | None:
        """None for anything that is not a good token at ``now_us``."""
        ...

    async def refresh(self) -> None:
        """Take note of who may not come in any more. Raises StorageError."""
        ...


class KeyService:
    """Makes, lists and revokes keys."""

    def __init__(
        self,
        keys: KeyRepository,
        master: MasterKey,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._master = master
        self._pepper = master.derive(PEPPER_PURPOSE)
        self.first_made: str | None = None  # the id of the key that `ensure_first` made

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
        """Make a plain key of the default account: the short form of `issue`."""
        wanted = NewKey(name=name, role=role, expires_at=expires_at, limits=limits, priority=priority)
        return await self.issue(wanted, secret)

    async def issue(self, new: NewKey, secret: Secret | None = None) -> tuple[KeyRow, Secret]:
        """Store a new credential and give it back with its secret, which can't be had again.

        ``secret``: use this one in place of a new one. Raises ConfigError for a name that can't be shown on one line,
        AlreadyExistsError for a secret that is there already.
        """
        row, secret = self.draw(new, secret)
        return await self.store(row), secret

    async def store(self, row: KeyRow) -> KeyRow:
        """Store what `draw` gave, with its revision. Raises AlreadyExistsError."""
        return msgspec.structs.replace(row, revision=await self._keys.add(row))

    def draw(self, new: NewKey, secret: Secret | None = None) -> tuple[KeyRow, Secret]:
        """A new credential that is not stored yet: for who stores it together with something else. As `issue`."""
        check_name(new.name)
        secret = secret or new_secret(new.kind, self._master)
        row = KeyRow(
            id=self._clock.new_id("key"),
            digest=self._digest(secret),
            name=new.name,
            hint=hint_of(new.kind, secret),
            role=new.role,
            kind=new.kind,
            account_id=new.account_id,
            workspace_id=new.workspace_id,
            user_id=new.user_id,
            creator_user_id=new.creator_user_id,
            scopes=new.scopes,
            fingerprint=fingerprint_of(new.kind, secret),
            created_at=self._clock.now_us(),
            expires_at=new.expires_at,
            requests_per_minute=new.limits.requests_per_minute,
            requests_per_day=new.limits.requests_per_day,
            tokens_per_minute=new.limits.tokens_per_minute,
            priority=new.priority,
            settings=new.settings,
        )
        return row, secret

    async def change(self, key_id: str, change: KeyChange) -> KeyRow | None:
        """Change a key; None: no such key. Whether the caller may is the caller's to ask (`owned`).

        Raises ConfigError for a name that can't be shown on one line.
        """
        fields = {name: getattr(change, name) for name in change.__struct_fields__}
        values = {name: value for name, value in fields.items() if value is not msgspec.UNSET}
        if "name" in values:
            check_name(values["name"])
        if "limits" in values:
            values |= msgspec.structs.asdict(values.pop("limits"))
        return await self._keys.change(key_id, {**values, "updated_at": self._clock.now_us()})

    async def owned(self, account_id: str, key_id: str) -> KeyRow | None:
        """The account's key with this id, unless it is revoked. Another account's is not found."""
        return _of_account(account_id, await self._keys.find(key_id))

    async def owned_by_fingerprint(self, account_id: str, fingerprint: str) -> KeyRow | None:
        """The account's key with this SHA-256 in hex, unless it is revoked. Another account's is not found."""
        return _of_account(account_id, await self._keys.find_by_fingerprint(fingerprint))

    async def list_page(self, wanted: KeyFilter, limit: int, offset: int = 0) -> tuple[tuple[KeyRow, ...], int]:
        """Up to ``limit`` of those wanted, newest first, and how many there are."""
        return await self._keys.list_page(wanted, limit, offset), await self._keys.count(wanted)

    async def page(self, wanted: KeyFilter, limit: int, offset: int = 0) -> tuple[KeyRow, ...]:
        """As `list_page`, without the count."""
        return await self._keys.list_page(wanted, limit, offset)

    async def count(self, wanted: KeyFilter) -> int:
        """How many there are of those wanted."""
        return await self._keys.count(wanted)

    async def limit(self, key_id: str, limits: Limits, priority: Priority) -> KeyRow | None:
        """Give a key these limits and this priority from now on. None: no such key."""
        return await self.change(key_id, KeyChange(limits=limits, priority=priority))

    async def list_newest(self, limit: int) -> tuple[KeyRow, ...]:
        """The newest ``limit`` credentials but sessions, also revoked and expired ones, oldest first."""
        return await self._keys.load_newest(limit)

    async def count_all(self) -> int:
        """How many credentials but sessions there are, also revoked and expired ones."""
        return await self._keys.count_all()

    async def names(self, key_ids: Sequence[str]) -> dict[str, str]:
        """The names of these keys, a few hundred, by id."""
        return await self._keys.load_names(key_ids)

    async def others_manage(self, key_id: str) -> bool:
        """Whether another key than this may manage the gateway."""
        return await self._keys.has_admin(self._clock.now_us(), but=key_id)

    async def find(self, reference: str) -> KeyRow:
        """The key that an operator means: by id, by a name that one key has, by the beginning of one id, or by itself.

        Of several keys with the name the one that isn't revoked is meant. Raises ConfigError when there is none or
        more than one, with the nearest names or the ids to choose from.
        """
        if kind_of(reference) is not None:  # the key itself, perhaps found where it should not be: never repeated
            row = await self._keys.find_by_digest(self._digest(Secret(reference)))
            if row is None:
                raise ConfigError("that key is not one of this installation")
            return row
        rows = await self._keys.load_meant(reference, MOST_MEANT)
        named = [row for row in rows if row.name == reference]
        active = [row for row in named if row.revoked_at is None]
        begins = [row for row in rows if row.id.startswith(reference)] if len(reference) >= MINIMUM_PREFIX else []
        found = [row for row in rows if row.id == reference] or active or named[-1:] or begins
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(row.id for row in found[:5])
            raise ConfigError(f"{len(found)} keys are meant by '{reference}'; say which by its id: {ids}")
        rows = await self._keys.load_newest(MOST_NEAR)
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
                    row, _ = await self.create(BOOTSTRAP_NAME, "admin", configured)
                    self.first_made = row.id
                except AlreadyExistsError:
                    pass  # another node that starts at the same time was first
            return None
        if await self._keys.has_admin(self._clock.now_us()):
            return None
        row, secret = await self.create(BOOTSTRAP_NAME, "admin")
        self.first_made = row.id
        return secret

    def _digest(self, secret: Secret) -> bytes:
        return hmac.digest(self._pepper, secret.reveal().encode(), "sha256")


def check_name(name: str) -> None:
    """Raises ConfigError for a name that can't be shown on one line."""
    if not name.strip() or not name.isprintable() or len(name) > MAXIMUM_NAME:
        raise ConfigError(f"a key's name must be 1 to {MAXIMUM_NAME} printable characters")


def _of_account(account_id: str, row: KeyRow | None) -> KeyRow | None:
    return row if row is not None and row.account_id == account_id and row.revoked_at is None else None


def key_of(row: KeyRow, budgets: tuple[BudgetRow, ...] = ()) -> Key:
    """A stored key as requests see it, with its own budgets."""
    models, connections = _names(row.settings, "allowedModels"), _names(row.settings, "allowedConnections")
    return Key(
        id=row.id,
        name=row.name,
        role=row.role,
        workspace_id=row.workspace_id,
        expires_at=row.expires_at,
        limits=_limits(row),
        priority=RANKS[row.priority],
        kind=row.kind,
        account_id=row.account_id,
        user_id=row.user_id,
        creator_user_id=row.creator_user_id,
        scopes=frozenset(row.scopes) if row.scopes else NO_SCOPES,
        settings=row.settings,
        disabled=row.disabled,
        allowed_models=models,
        allowed_connections=connections,
        budgets=budgets,
        restricted=bool(models or connections or any(row.settings.get(name) for name in (*CONDITIONS, PREFERRED))),
    )


def _names(settings: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = settings.get(name)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list | tuple) else ()


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
