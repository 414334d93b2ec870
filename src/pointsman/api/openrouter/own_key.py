"""``GET /api/v1/key``: what the credential that asks may do, and what is left of its limits."""

from typing import Any, Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.openrouter.exchange import caller_of, usd, words_of
from pointsman.api.openrouter.keys import limits_of, usage_of
from pointsman.gateway import Gateway
from pointsman.identity.keys import Key
from pointsman.policy.budget_service import BudgetService
from pointsman.policy.router_keys import KeyLimit, RouterKey, RouterKeys
from pointsman.storage.accounts import AccountRepository
from pointsman.storage.budgets import BudgetRow
from pointsman.storage.key_usage import NOTHING
from pointsman.storage.keys import KeyRow
from pointsman.storage.ledger import LedgerRepository

# OpenRouter's words for whose budget it is, in its order, and for how often it begins anew. An account's has none.
_SCOPES: Final = {"guardrail": "api_key", "member": "member", "workspace": "workspace", "key": "key_limit"}
_BY_GUARDRAIL: Final = ("workspace_default_member", "workspace_default_key", "member", "api_key")
_ORDER: Final = (*_BY_GUARDRAIL, "workspace", "key_limit")
_INTERVALS: Final = {"day": "daily", "week": "weekly", "month": "monthly"}
# Calls of free models are not counted apart here: this many are left, always.
_MANY: Final = 2**31 - 1


class OwnKeyView:
    """The view."""

    def __init__(
        self,
        gateway: Gateway,
        keys: RouterKeys,
        budgets: BudgetService,
        accounts: AccountRepository,
        ledger: LedgerRepository,
    ) -> None:
        self._gateway = gateway
        self._keys = keys
        self._budgets = budgets
        self._accounts = accounts
        self._ledger = ledger

    def handler(self) -> HTTPRouteHandler:
        """The route for Litestar."""

        @get("/api/v1/key")
        async def show_own_key(request: HttpRequest) -> Response[bytes]:
            return answer({"data": await self._shown(caller_of(request))})

        return show_own_key

    async def _shown(self, caller: Key) -> dict[str, Any]:
        key = await self._keys.own(caller) or _of_token(caller)
        account = await self._accounts.find(caller.account_id)
        budgets = [await self._budget(row) for row in self._bound(caller)]
        manages = caller.role == "management"
        return {
            "label": key.row.hint,
            **limits_of(key),
            **usage_of(key.usage),
            "is_free_tier": not await self._ledger.has_paid(caller.account_id),
            "is_management_key": manages,
            "is_provisioning_key": manages,
            "expires_at": words_of(key.row.expires_at),
            "creator_user_id": key.row.creator_user_id,
            "organization_id": caller.account_id if account is not None and account.kind == "organization" else None,
            "workspace_id": caller.workspace_id,
            "allowed_data_regions": [],
            "budgets": budgets,
            "effective_budget": min(budgets, key=lambda one: float(one["remaining_usd"]), default=None),
            "free_model_daily_requests": {"limit": _MANY, "used": 0, "remaining": _MANY},
            "rate_limit": _rate(caller),
        }

    def _bound(self, caller: Key) -> list[BudgetRow]:
        """The budgets that can refuse the caller's calls and that the API has a word for."""
        table = self._gateway.snapshot.budgets
        bound = None if table is None else table.bound(caller, {})
        rows = [] if bound is None else [row for row in bound.rows if row.hard and row.scope in _SCOPES]
        return sorted(rows, key=lambda row: _ORDER.index(_scope(row)))

    async def _budget(self, row: BudgetRow) -> dict[str, Any]:
        standing = await self._budgets.standing(row)
        return {
            "scope": _scope(row),
            "limit_usd": usd(row.limit_nano_usd),
            "spend_usd": usd(standing.spent),
            "remaining_usd": usd(standing.remaining),
            "reset_interval": _INTERVALS.get(row.window.kind),
            "resets_at": words_of(standing.resets_at),
            "include_byok": row.include_byok,
            "guardrail_id": row.subject.partition("/")[0] if row.scope == "guardrail" else None,
            "budget_id": row.id,
        }


def _scope(row: BudgetRow) -> str:
    """OpenRouter's word for whose budget it is; a guardrail's says by which way it came."""
    by_guardrail = row.scope == "guardrail" and row.source in _BY_GUARDRAIL
    return row.source if by_guardrail else _SCOPES[row.scope]


def _of_token(caller: Key) -> RouterKey:
    """A credential that is not stored, such as a person's token."""
    row = KeyRow(
        id=caller.id, digest=b"", name=caller.name, hint=caller.name, role=caller.role, created_at=0,
        expires_at=caller.expires_at, creator_user_id=caller.user_id,
    )  # fmt: skip
    return RouterKey(row=row, limit=KeyLimit(), usage=NOTHING)


def _rate(caller: Key) -> dict[str, Any]:
    most = caller.limits.requests_per_minute if caller.limits is not None else None
    note = "Requests a minute; -1: as many as there are. Budgets and provider limits stand elsewhere."
    return {"requests": -1 if most is None else most, "interval": "1m", "note": note}
