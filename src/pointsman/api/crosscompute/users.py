"""``/api/config``, ``/api/me`` and ``/api/bootstrap-account``: people and what they have."""

import asyncio
from typing import Any, Final

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.crosscompute.client import caller, read_members, tell
from pointsman.api.crosscompute.keys import DEFAULT_LABEL, CrossComputeKeys
from pointsman.api.exchange import HttpRequest
from pointsman.api.omniroute.moments import instant
from pointsman.canonical.credits import credits_number
from pointsman.clock import Clock
from pointsman.errors import GatewayError, Kind
from pointsman.identity.keys import Key
from pointsman.storage.accounts import DEFAULT, AccountRepository, AccountRow, WorkspaceRow
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.ledger import LedgerRepository
from pointsman.storage.users import UserRepository, UserRow

# People sign in here and not at Supabase: there is nothing of it that a page could use.
CONFIG: Final = {"supabaseUrl": None, "supabaseAnonKey": None}


class UserViews:
    """The views."""

    def __init__(
        self,
        keys: CrossComputeKeys,
        accounts: AccountRepository,
        users: UserRepository,
        ledger: LedgerRepository,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._accounts = accounts
        self._users = users
        self._ledger = ledger
        self._clock = clock
        self._founding = asyncio.Lock()

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/config")
        async def config() -> Response[bytes]:
            return tell(dict(CONFIG))

        @get("/api/me")
        async def me(request: HttpRequest) -> Response[bytes]:
            key = caller(request)
            return tell(await self._profile(key))

        @post("/api/bootstrap-account", status_code=200)
        async def bootstrap(request: HttpRequest) -> Response[bytes]:
            await read_members(request, required=False)
            return await self._bootstrap(caller(request))

        return [config, me, bootstrap]

    async def _profile(self, key: Key) -> dict[str, Any]:
        user = await self._users.find(key.user_id) if key.user_id is not None else None
        account = await self._accounts.find(key.account_id)
        credit = await self._ledger.credit(key.account_id)
        count = await self._keys.count(key.account_id)
        return {
            "user": _shown_user(key, user),
            "account": {
                "id": key.account_id,
                "name": account.name if account is not None else None,
                "remainingCredits": credits_number(credit),
                "keys": count,
            },
            "bootstrapped": account is not None and count > 0,
        }

    async def _bootstrap(self, key: Key) -> Response[bytes]:
        """Make what is missing; a second call finds all of it and gives no secret."""
        async with self._founding:  # two calls at once make one key, as long as they reach one process
            if key.account_id != DEFAULT and await self._accounts.find(key.account_id) is None:
                await self._found(key)
            if await self._keys.count(key.account_id):
                return tell({"created": False, **await self._profile(key), "apiKey": None})
            made, secret = await self._keys.make(key, DEFAULT_LABEL, None)
        return tell({"created": True, **await self._profile(key), "key": made, "apiKey": secret.reveal()})

    async def _found(self, key: Key) -> None:
        """The account of a person for whom another issuer vouches."""
        if key.user_id is None:
            raise GatewayError(Kind.UNAUTHENTICATED, "this needs a person's token")
        now, account_id = self._clock.now_us(), key.account_id
        account = AccountRow(id=account_id, kind="user", name=key.user_id, created_at=now, updated_at=now)
        workspace = WorkspaceRow(
            id=account_id, account_id=account_id, slug=DEFAULT, name="Default", created_at=now, updated_at=now
        )
        try:
            await self._accounts.add(account, workspace)
        except AlreadyExistsError:
            pass  # another process was first


def _shown_user(key: Key, user: UserRow | None) -> dict[str, Any]:
    if user is None:
        return {"id": key.user_id, "email": None, "role": "admin" if key.role == "admin" else "user"}
    return {"id": user.id, "email": user.email, "role": user.role, "createdAt": instant(user.created_at)}
