"""A person's API keys (``cc_live_``) as CrossCompute's clients make, list and stop them.

A quota is a budget of the key: the most that it may ever spend. A key without one counts what it spends, no more.
"""

from typing import Any, Final

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.crosscompute.client import caller, read_members, tell, text_of
from pointsman.api.exchange import HttpRequest, number, wrong
from pointsman.api.omniroute.moments import instant
from pointsman.canonical.credits import CREDIT_NANO_USD, credits_number, nano_of_credits
from pointsman.errors import GatewayError, Kind
from pointsman.identity.key_numbers import key_id_of, uuid_of
from pointsman.identity.keys import Key, KeyChange, KeyService, NewKey
from pointsman.keyring import Secret
from pointsman.policy.authorization import check_subset
from pointsman.policy.budget_service import MAX_NANO, BudgetService
from pointsman.storage.budgets import BudgetRow
from pointsman.storage.keys import KeyFilter, KeyRow

DEFAULT_LABEL: Final = "Default"
MAX_LABEL: Final = 100  # of a key's name
MAX_KEYS: Final = 1000  # of one account
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 100
MAX_OFFSET: Final = 10_000
SOURCE: Final = "crosscompute"  # of the budgets that are quotas
NO_QUOTA: Final = MAX_NANO  # the limit of a budget that only counts
MOST_QUOTA: Final = MAX_NANO // CREDIT_NANO_USD * CREDIT_NANO_USD - 1


class CrossComputeKeys:
    """What the views of keys and accounts share."""

    def __init__(self, keys: KeyService, budgets: BudgetService, apply: Any) -> None:
        self._keys = keys
        self._budgets = budgets
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar that no other contract has."""

        @post("/api/keys/{key_id:str}/deactivate", status_code=200)
        async def deactivate(request: HttpRequest, key_id: FromPath[str]) -> Response[bytes]:
            return await self._deactivate(caller(request), key_id_of(key_id))

        return [deactivate]

    async def list_keys(self, request: HttpRequest) -> Response[bytes]:
        """``GET /api/keys``: the account's keys, newest first, also those that are stopped."""
        key = caller(request)
        limit = number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
        offset = number(request, "offset", 0, (0, MAX_OFFSET))
        rows, total = await self._keys.list_page(_mine(key.account_id), limit, offset)
        return tell({"keys": await self._shown(rows), "total": total, "limit": limit, "offset": offset})

    async def create_key(self, request: HttpRequest) -> Response[bytes]:
        """``POST /api/keys``: a new key, whose secret is shown this once."""
        key, members = caller(request), await read_members(request)
        label = text_of(members, "label", MAX_LABEL) or DEFAULT_LABEL
        quota = members.get("quotaCredits")
        nano = nano_of_credits(quota) if quota is not None else None
        if quota is not None and (nano is None or nano > MOST_QUOTA):
            raise wrong("quotaCredits", "must be a number from 0 with at most five decimals")
        if await self.count(key.account_id) >= MAX_KEYS:
            raise GatewayError(Kind.INVALID_REQUEST, f"an account has at most {MAX_KEYS} keys")
        shown, secret = await self.make(key, label, nano)
        return tell({"key": shown, "apiKey": secret.reveal()})

    async def count(self, account_id: str) -> int:
        """How many keys of this kind an account has, stopped ones too."""
        return await self._keys.count(_mine(account_id))

    async def make(self, creator: Key, label: str, quota: int | None) -> tuple[dict[str, Any], Secret]:
        """A new key of the creator's account, as it is shown, and its secret. ``quota`` in nano-USD."""
        wanted = NewKey(
            name=label,
            kind="crosscompute",
            account_id=creator.account_id,
            workspace_id=creator.workspace_id,
            user_id=creator.user_id,
            creator_user_id=creator.user_id,
        )
        check_subset(creator, wanted)
        row, secret = self._keys.draw(wanted)
        # The budget first: a key without it would have no bound until it came.
        limit, hard = (NO_QUOTA, False) if quota is None else (quota, True)
        await self._budgets.set("key", row.id, limit, hard=hard, source=SOURCE)
        stored = await self._keys.store(row)
        await self._apply(stored.revision)
        return (await self._shown((stored,)))[0], secret

    async def _deactivate(self, key: Key, key_id: FromPath[str]) -> Response[bytes]:
        row = await self._keys.owned(key.account_id, key_id)
        if row is None or row.kind != "crosscompute":
            raise GatewayError(Kind.NOT_FOUND, "there is no such key", param="id")
        if not row.disabled:
            row = await self._keys.change(key_id, KeyChange(disabled=True)) or row
            await self._apply(row.revision)
        return tell({"key": (await self._shown((row,)))[0]})

    async def _shown(self, rows: tuple[KeyRow, ...]) -> list[dict[str, Any]]:
        found = await self._budgets.spent_by("key", [row.id for row in rows], SOURCE)
        return [_described(row, *found.get(row.id, (None, 0))) for row in rows]


def _mine(account_id: str) -> KeyFilter:
    return KeyFilter(account_id=account_id, kinds=("crosscompute",))


def _described(row: KeyRow, budget: BudgetRow | None, spent: int) -> dict[str, Any]:
    quota = budget.limit_nano_usd if budget is not None and budget.hard else None
    return {
        "id": uuid_of(row.id),
        "label": row.name,
        "prefix": row.hint,
        "quotaCredits": credits_number(quota) if quota is not None else None,
        "usedCredits": credits_number(spent),
        "remainingCredits": credits_number(max(0, quota - spent)) if quota is not None else None,
        "active": not row.disabled,
        "createdAt": instant(row.created_at),
    }
