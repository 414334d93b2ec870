"""Keys as OpenRouter's management API keeps them: each with a limit of dollars, which is a budget of the key.

A key's budget has the source ``openrouter``; the one that an operator sets beside it stays. What else the API alone
knows of a key stands in its settings.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from pointsman.canonical.windows import Window, WindowKind
from pointsman.clock import Clock
from pointsman.errors import ConfigError, GatewayError, Kind
from pointsman.identity.keys import Key, KeyChange, KeyService, NewKey
from pointsman.keyring import Secret
from pointsman.policy.authorization import check_subset
from pointsman.policy.budget_service import BudgetService
from pointsman.storage.accounts import AccountRepository
from pointsman.storage.budgets import BudgetRow
from pointsman.storage.key_usage import NOTHING, KeyUsage, KeyUsageRepository
from pointsman.storage.keys import KeyFilter, KeyRow

SOURCE: Final = "openrouter"
RESETS: Final[dict[str, WindowKind]] = {"daily": "day", "weekly": "week", "monthly": "month"}
_NAMES: Final = {kind: name for name, kind in RESETS.items()}
BYOK: Final = "include_byok_in_limit"
EXTERNAL_USER: Final = "external_user"
RESET: Final = "limit_reset"


class KeyLimit(NamedTuple):
    """How much a key may spend, in nano-USD (None: without a limit), and how often that begins anew."""

    nano_usd: int | None = None
    reset: str | None = None


class RouterKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key with its limit and with what it has spent."""

    row: KeyRow
    limit: KeyLimit
    usage: KeyUsage

    @property
    def includes_byok(self) -> bool:
        """Whether what a provider bills the caller itself is taken off the limit, too."""
        return bool(self.row.settings.get(BYOK, False))

    @property
    def remaining(self) -> int | None:
        """What is left of the limit in the present window, in nano-USD; None: there is no limit."""
        if self.limit.nano_usd is None:
            return None
        spent = self.usage.charged.within(self.limit.reset)
        if self.includes_byok:
            spent += self.usage.byok.within(self.limit.reset)
        return max(0, self.limit.nano_usd - spent)


class RouterKeyChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different about a key; what is UNSET stays."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    workspace_id: str | msgspec.UnsetType = msgspec.UNSET
    includes_byok: bool | msgspec.UnsetType = msgspec.UNSET
    nano_usd: int | msgspec.UnsetType | None = msgspec.UNSET
    reset: str | msgspec.UnsetType | None = msgspec.UNSET


class RouterKeys:
    """Makes, changes, lists and ends the keys of an account. All raise StorageError."""

    def __init__(
        self,
        keys: KeyService,
        budgets: BudgetService,
        usage: KeyUsageRepository,
        accounts: AccountRepository,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._budgets = budgets
        self._usage = usage
        self._accounts = accounts
        self._clock = clock

    async def create(self, caller: Key, new: NewKey, limit: KeyLimit) -> tuple[RouterKey, Secret, int]:
        """Make a key of the caller's account; gives it, its secret, and the configuration revision in which it works.

        Raises GatewayError(INVALID_REQUEST) naming the field.
        """
        check_subset(caller, new)
        await self.check_workspace(caller, new.workspace_id)
        await self._check_creator(caller, new)
        return await self.issue(new, limit)

    async def issue(self, new: NewKey, limit: KeyLimit) -> tuple[RouterKey, Secret, int]:
        """As `create`, of whom may have it somebody has asked already."""
        named = msgspec.structs.replace(new, settings=_with_reset(new.settings, limit.reset))
        try:
            row, secret = await self._keys.issue(named)
        except ConfigError as error:
            raise GatewayError(Kind.INVALID_REQUEST, str(error), param="name") from error
        # Nobody knows the secret before the limit binds.
        revision = await self._set_limit(row.id, limit, named.settings) or row.revision
        return RouterKey(row=row, limit=limit, usage=NOTHING), secret, revision

    async def change(self, caller: Key, fingerprint: str, change: RouterKeyChange) -> tuple[RouterKey, int]:
        """Change a key; gives it, and the revision of the configuration from which on it is so.

        Raises GatewayError: NOT_FOUND, INVALID_REQUEST naming the field.
        """
        before = await self.find(caller, fingerprint)
        if change.workspace_id is not msgspec.UNSET:
            await self.check_workspace(caller, change.workspace_id)
        limit = KeyLimit(
            before.limit.nano_usd if change.nano_usd is msgspec.UNSET else change.nano_usd,
            before.limit.reset if change.reset is msgspec.UNSET else change.reset,
        )
        settings = {**before.row.settings}
        if change.includes_byok is not msgspec.UNSET:
            settings[BYOK] = change.includes_byok
        # The budget first: an answer that never comes leaves no key that may spend what it was to be refused.
        changed = limit != before.limit or settings.get(BYOK, False) != before.includes_byok
        revision = await self._set_limit(before.row.id, limit, settings) if changed else None
        try:
            row = await self._keys.change(
                before.row.id,
                KeyChange(
                    name=change.name,
                    disabled=change.disabled,
                    workspace_id=change.workspace_id,
                    settings=_with_reset(settings, limit.reset),
                ),
            )
        except ConfigError as error:
            raise GatewayError(Kind.INVALID_REQUEST, str(error), param="name") from error
        if row is None or row.revoked_at is not None:
            raise _unknown()
        return RouterKey(row=row, limit=limit, usage=before.usage), max(row.revision, revision or 0)

    async def end(self, caller: Key, fingerprint: str) -> int:
        """Revoke a key for good; gives the revision from which on it is refused. Raises GatewayError(NOT_FOUND)."""
        found = await self.find(caller, fingerprint)
        row = await self._keys.revoke(found.row.id)
        revision = await self._set_limit(found.row.id, KeyLimit(), {})
        return max(revision or 0, row.revision if row is not None else 0)

    async def find(self, caller: Key, fingerprint: str) -> RouterKey:
        """The key of the caller's account with this SHA-256 in hex. Raises GatewayError(NOT_FOUND)."""
        row = await self._keys.owned_by_fingerprint(caller.account_id, fingerprint)
        if row is None or row.role != "inference":
            raise _unknown()
        return (await self._with_figures((row,)))[0]

    async def list_page(self, wanted: KeyFilter, limit: int, offset: int) -> tuple[RouterKey, ...]:
        """Up to ``limit`` of those wanted, newest first."""
        rows = await self._keys.page(wanted, limit, offset)
        return await self._with_figures(rows)

    async def own(self, caller: Key) -> RouterKey | None:
        """The caller's own key; None when its credential is none that is stored (a token)."""
        row = await self._keys.owned(caller.account_id, caller.id)
        return None if row is None else (await self._with_figures((row,)))[0]

    async def _with_figures(self, rows: tuple[KeyRow, ...]) -> tuple[RouterKey, ...]:
        ids = [row.id for row in rows]
        usage = await self._usage.of(ids, self._clock.now_us())
        limits = {budget.subject: _limit(budget) for budget in await self._budgets.of_subjects("key", ids, SOURCE)}
        return tuple(
            RouterKey(
                row=row,
                limit=limits.get(row.id) or KeyLimit(None, row.settings.get(RESET)),
                usage=usage.get(row.id, NOTHING),
            )
            for row in rows
        )

    async def _set_limit(self, key_id: str, limit: KeyLimit, settings: Mapping[str, Any]) -> int | None:
        """Let this be the key's limit; gives the last revision that was made. None: nothing was to be changed."""
        kept, revision = None, None
        if limit.nano_usd is not None:
            window = Window(RESETS[limit.reset]) if limit.reset is not None else Window()
            byok = bool(settings.get(BYOK, False))
            try:
                row, revision = await self._budgets.set(
                    "key", key_id, limit.nano_usd, window, source=SOURCE, include_byok=byok
                )
            except ConfigError as error:
                raise GatewayError(Kind.INVALID_REQUEST, str(error), param="limit") from error
            kept = row.id
        for budget in await self._budgets.of_subjects("key", (key_id,), SOURCE):
            if budget.id != kept:
                revision = await self._budgets.remove(budget.id) or revision
        return revision

    async def check_workspace(self, caller: Key, workspace_id: str) -> None:
        """Raises GatewayError(INVALID_REQUEST) unless it is the caller's own workspace, or one of its account."""
        if workspace_id == caller.workspace_id:
            return
        if await self._accounts.find_workspace(caller.account_id, workspace_id) is None:
            message = "'workspace_id' is no workspace of this account"
            raise GatewayError(Kind.INVALID_REQUEST, message, param="workspace_id")

    async def has_budget(self, caller: Key) -> bool:
        """Whether the caller's key has a budget of its own, whoever set it."""
        return bool(await self._budgets.list_page(1, scope="key", subject=caller.id))

    async def _check_creator(self, caller: Key, new: NewKey) -> None:
        creator = new.creator_user_id
        if creator is None or creator == caller.user_id:
            return
        if new.account_id not in await self._accounts.memberships(creator):
            message = "'creator_user_id' is nobody of this organization"
            raise GatewayError(Kind.INVALID_REQUEST, message, param="creator_user_id")


def _with_reset(settings: Any, reset: str | None) -> dict[str, Any]:
    """Settings that keep how often a limit begins anew, for a key that has none now and may get one."""
    kept = {name: value for name, value in settings.items() if name != RESET}
    return kept if reset is None else {**kept, RESET: reset}


def _limit(budget: BudgetRow) -> KeyLimit:
    return KeyLimit(budget.limit_nano_usd, _NAMES.get(budget.window.kind))


def _unknown() -> GatewayError:
    return GatewayError(Kind.NOT_FOUND, "API key not found")
