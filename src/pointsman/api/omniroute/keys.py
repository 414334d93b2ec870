"""``/api/keys``: OmniRoute's API keys, with what each may do. A secret is shown once, when its key is made."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Response, delete, get, patch
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.key_fields import BUDGETS, changed, read_fields, scopes_after
from pointsman.api.omniroute.management import ManagementError, admit, denied, invalid, read_object, whole_number
from pointsman.api.omniroute.moments import instant
from pointsman.api.omniroute.resilience import Apply
from pointsman.canonical.windows import Window
from pointsman.errors import GatewayError
from pointsman.identity.keys import Key, KeyChange, KeyService, NewKey
from pointsman.keyring import Secret
from pointsman.policy.authorization import check_subset
from pointsman.policy.budget_service import BudgetService, nano_of
from pointsman.storage.keys import KeyFilter, KeyRow

KIND: Final = "omniroute"
SOURCE: Final = "omniroute"  # of the budgets that are a key's limits
WINDOWS: Final = dict(zip(BUDGETS, (Window("day"), Window("week")), strict=True))
MAX_LIMIT: Final = 500
DEFAULT_LIMIT: Final = 100
MAX_OFFSET: Final = 1_000_000


class OmniRouteKeys:
    """The views."""

    def __init__(self, keys: KeyService, budgets: BudgetService, apply: Apply) -> None:
        self._keys = keys
        self._budgets = budgets
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar that no other contract has."""

        @get("/api/keys/{key_id:str}")
        async def show_key(request: HttpRequest, key_id: FromPath[str]) -> Response[bytes]:
            return answer(_described(await self._find(admit(request), key_id)))

        @patch("/api/keys/{key_id:str}")
        async def change_key(request: HttpRequest, key_id: FromPath[str]) -> Response[bytes]:
            return await self._change(request, admit(request), key_id)

        @delete("/api/keys/{key_id:str}", status_code=200)
        async def delete_key(request: HttpRequest, key_id: FromPath[str]) -> Response[bytes]:
            row = await self._find(admit(request), key_id)
            gone = await self._keys.revoke(row.id)
            await self._forget_budgets(row.id)
            await self._in_effect(gone or row)
            return answer({"message": "Key deleted successfully"})

        return [show_key, change_key, delete_key]

    async def list_keys(self, request: HttpRequest) -> Response[bytes]:
        """``GET /api/keys``: newest first."""
        key = admit(request)
        limit = whole_number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT))
        offset = whole_number(request, "offset", 0, (0, MAX_OFFSET))
        rows, total = await self._keys.list_page(KeyFilter(account_id=key.account_id, kinds=(KIND,)), limit, offset)
        return answer({"keys": [_described(row) for row in rows], "total": total, "allowKeyReveal": False})

    async def create_key(self, request: HttpRequest) -> Response[bytes]:
        """``POST /api/keys``: 201 with the secret. Raises ManagementError."""
        creator, fields = admit(request), read_fields(await read_object(request))
        if "name" not in fields and "label" not in fields:
            raise invalid([("label", "is missing")])
        change = changed(fields, None)
        wanted = NewKey(
            name=str(change.name),
            kind=KIND,
            account_id=creator.account_id,
            workspace_id=creator.workspace_id,
            user_id=creator.user_id,
            creator_user_id=creator.user_id,
        )
        values = {name: getattr(change, name) for name in ("scopes", "expires_at", "limits", "settings")}
        wanted = msgspec.structs.replace(
            wanted, **{name: value for name, value in values.items() if value is not msgspec.UNSET}
        )
        _check_rights(creator, wanted)
        row, secret = self._keys.draw(wanted)
        row = msgspec.structs.replace(row, disabled=bool(change.disabled))
        await self._set_budgets(row.id, wanted.settings)
        row = await self._keys.store(row)
        await self._in_effect(row)
        return _made(row, secret)

    async def _change(self, request: HttpRequest, creator: Key, key_id: str) -> Response[bytes]:
        row = await self._find(creator, key_id)
        fields = read_fields(await read_object(request))
        if not fields:
            raise ManagementError(400, "No valid fields to update")
        change = changed(fields, row.settings)
        _check_rights(creator, _as_new(row, change))
        # The budgets first: they must bind before a key may be used again.
        await self._set_budgets(row.id, change.settings if change.settings is not msgspec.UNSET else {})
        row = await self._keys.change(row.id, change) or row
        await self._in_effect(row)
        shown = _described(row)
        echoed = {name: shown[name] for name in fields if name in shown}
        return answer({"message": "API key updated successfully", "id": row.id, **echoed})

    async def _find(self, creator: Key, key_id: str) -> KeyRow:
        row = await self._keys.owned(creator.account_id, key_id)
        if row is None or row.kind != KIND:
            raise ManagementError(404, "Key not found")
        return row

    async def _set_budgets(self, key_id: str, settings: Mapping[str, Any]) -> None:
        limits = settings if settings.get("usageLimitEnabled") else {}
        wanted = {WINDOWS[name]: limits[name] for name in BUDGETS if limits.get(name) is not None}
        for window, dollars in wanted.items():
            await self._budgets.set("key", key_id, nano_of(dollars), window, source=SOURCE)
        await self._forget_budgets(key_id, set(wanted))

    async def _forget_budgets(self, key_id: str, but: set[Window] | None = None) -> None:
        for budget in await self._budgets.list_page(MAX_LIMIT, scope="key", subject=key_id):
            if budget.source == SOURCE and budget.window not in (but or ()):
                await self._budgets.remove(budget.id)

    async def _in_effect(self, row: KeyRow) -> None:
        await self._apply(row.revision)


def _as_new(row: KeyRow, change: KeyChange) -> NewKey:
    return NewKey(name=row.name, kind=KIND, role=row.role, account_id=row.account_id, scopes=scopes_after(row, change))


def _check_rights(creator: Key, wanted: NewKey) -> None:
    """Raises ManagementError(403) for a key that may do more than who makes it."""
    try:
        check_subset(creator, wanted)
    except GatewayError as error:
        raise denied(403, error.message) from None


def _described(row: KeyRow) -> dict[str, Any]:
    settings = dict(row.settings)
    settings.pop("isActive", None)
    return {
        **settings,
        "id": row.id,
        "label": row.name,
        "name": row.name,
        "keyPreview": row.hint[-4:],
        "key": row.hint,
        "isActive": row.settings.get("isActive") is not False,
        "isBanned": settings.get("isBanned") is True,
        "noLog": settings.get("noLog") is True,
        "scopes": list(row.scopes),
        "expiresAt": None if row.expires_at is None else instant(row.expires_at),
        "lastUsedAt": None if row.last_used_at is None else instant(row.last_used_at),
        "createdAt": instant(row.created_at),
    }


def _made(row: KeyRow, secret: Secret) -> Response[bytes]:
    text = secret.reveal()
    told = answer({**_described(row), "key": text, "machineId": text.split("-")[1]}, 201)
    told.headers["cache-control"] = "no-store"
    return told
