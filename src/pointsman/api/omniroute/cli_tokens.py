"""``/api/cli/...``: tokens (``oma_live_``) with which a command line manages this server from elsewhere.

Their scopes contain each other: ``admin``, ``write``, ``read`` (policy/authorization.py). A secret is shown once.
"""

from typing import Any, Final
from urllib.parse import unquote

from litestar import Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import ManagementError, admit, denied, invalid, read_object, whole_number
from pointsman.api.omniroute.moments import instant
from pointsman.api.omniroute.resilience import Apply
from pointsman.clock import Clock
from pointsman.errors import GatewayError
from pointsman.identity.keys import Key, KeyService, NewKey
from pointsman.identity.passwords import MAX_LENGTH
from pointsman.identity.sign_in import LockedError, SignIn
from pointsman.keyring import Secret
from pointsman.policy.authentication import is_own_page
from pointsman.policy.authorization import CLI_SCOPES, check_subset
from pointsman.storage.accounts import DEFAULT
from pointsman.storage.keys import KeyFilter, KeyRow
from pointsman.storage.users import UserRow

KIND: Final = "omniroute_cli"
MAX_NAME: Final = 100
MAX_DAYS: Final = 3650
MAX_TOKENS: Final = 500
DAY_US: Final = 86_400_000_000
DEFAULT_NAME: Final = "cli"
_KINDS: Final = {"omniroute_cli": "access_token", "session": "session"}


class CliTokens:
    """The views."""

    def __init__(self, keys: KeyService, sign_in: SignIn, clock: Clock, apply: Apply) -> None:
        self._keys = keys
        self._sign_in = sign_in
        self._clock = clock
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @post("/api/cli/connect", status_code=200)
        async def connect(request: HttpRequest) -> Response[bytes]:
            return await self._connect(request)

        @get("/api/cli/whoami")
        async def whoami(request: HttpRequest) -> Response[bytes]:
            return answer(await self._who(admit(request)))

        @get("/api/cli/tokens")
        async def list_tokens(request: HttpRequest) -> Response[bytes]:
            limit = whole_number(request, "limit", MAX_TOKENS, (1, MAX_TOKENS))
            offset = whole_number(request, "offset", 0, (0, 1_000_000))
            rows, total = await self._keys.list_page(_all(admit(request)), limit, offset)
            now = self._clock.now_us()
            return answer({"tokens": [_described(row, now) for row in rows], "total": total})

        @post("/api/cli/tokens", status_code=200)
        async def create_token(request: HttpRequest) -> Response[bytes]:
            creator, asked = admit(request), await read_object(request)
            if asked.get("name") is None:
                raise invalid([("name", "is missing")])
            return await self._make(creator, _read(asked, "read"))

        @delete("/api/cli/tokens/{token_id:str}", status_code=200)
        async def revoke_token(request: HttpRequest, token_id: FromPath[str]) -> Response[bytes]:
            return await self._revoke(admit(request), unquote(token_id))

        return [connect, whoami, list_tokens, create_token, revoke_token]

    async def _connect(self, request: HttpRequest) -> Response[bytes]:
        asked = await read_object(request)
        wanted, password = _read(asked, "admin"), asked.get("password")
        if not isinstance(password, str) or not 1 <= len(password) <= MAX_LENGTH:
            raise invalid([("password", f"must be a text of 1 to {MAX_LENGTH} characters")])
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        if not is_own_page(headers, self._sign_in.settings.public_origin):
            raise ManagementError(401, "another site's page may not sign in here")
        client = request.scope["client"]
        try:
            user = await self._sign_in.by_password(None, Secret(password), client[0] if client else "")
        except LockedError as error:
            locked = answer({"error": f"Too many failed attempts; try again in {error.seconds} s"}, 429)
            locked.headers["retry-after"] = str(error.seconds)
            return locked
        if user is None:
            raise ManagementError(401, "Invalid password")
        return await self._make(_speaking(user), wanted)

    async def _make(self, creator: Key, wanted: tuple[str, str, int | None]) -> Response[bytes]:
        name, scope, days = wanted
        now = self._clock.now_us()
        new = NewKey(
            name=name,
            kind=KIND,
            role="management",
            account_id=DEFAULT,
            user_id=creator.user_id,
            creator_user_id=creator.user_id,
            scopes=(scope,),
            expires_at=None if days is None else now + days * DAY_US,
        )
        try:
            check_subset(creator, new)
        except GatewayError as error:
            raise denied(403, error.message) from None
        row, secret = await self._keys.issue(new)
        await self._apply(row.revision)
        made = answer({"token": secret.reveal(), **_described(row, now)})
        made.headers["cache-control"] = "no-store"
        return made

    async def _who(self, key: Key) -> dict[str, Any]:
        told: dict[str, Any] = {"authenticated": True, "kind": _KINDS.get(key.kind, "api_key")}
        row = await self._keys.owned(key.account_id, key.id)
        if row is None or row.kind == "session":
            return told
        return told | {name: value for name, value in _described(row, 0).items() if name in _TOLD}

    async def _revoke(self, creator: Key, reference: str) -> Response[bytes]:
        """By its id, or by how lists show it when that means one alone."""
        row = await self._keys.owned(creator.account_id, reference)
        if row is None:
            rows, _ = await self._keys.list_page(_all(creator), MAX_TOKENS)
            found = [one for one in rows if one.hint == reference]
            row = found[0] if len(found) == 1 else None
        if row is None or row.kind != KIND:
            raise ManagementError(404, "Token not found or already revoked")
        gone = await self._keys.revoke(row.id)
        await self._apply((gone or row).revision)
        return answer({"success": True})


_TOLD: Final = frozenset(("id", "name", "scope", "prefix", "expiresAt"))


def _speaking(user: UserRow) -> Key:
    """The administrator, as the maker of a token."""
    return Key(id=user.id, name=user.id, role="admin", workspace_id=DEFAULT, kind="session", user_id=user.id)


def _all(creator: Key) -> KeyFilter:
    return KeyFilter(account_id=creator.account_id, kinds=(KIND,))


def _read(asked: dict[str, Any], usual: str) -> tuple[str, str, int | None]:
    """Name, scope and days. Raises ManagementError that names what is wrong."""
    name, scope, days = asked.get("name", DEFAULT_NAME), asked.get("scope", usual), asked.get("expiresInDays")
    faults: list[tuple[str, str]] = []
    if not (isinstance(name, str) and 1 <= len(name) <= MAX_NAME and name.isprintable() and name.strip()):
        faults.append(("name", f"must be 1 to {MAX_NAME} printable characters"))
    if scope not in CLI_SCOPES or not isinstance(scope, str):
        faults.append(("scope", f"must be one of {', '.join(CLI_SCOPES)}"))
    if days is not None and (isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MAX_DAYS):
        faults.append(("expiresInDays", f"must be a whole number from 1 to {MAX_DAYS}"))
    if faults:
        raise invalid(faults)
    return str(name), str(scope), days


def _described(row: KeyRow, now: int) -> dict[str, Any]:
    expired = row.expires_at is not None and row.expires_at <= now
    return {
        "id": row.id,
        "name": row.name,
        "scope": next((scope for scope in CLI_SCOPES if scope in row.scopes), None),
        "prefix": row.hint,
        "createdAt": instant(row.created_at),
        "lastUsedAt": instant(row.last_used_at or 0),
        "expiresAt": instant(row.expires_at or 0),
        "revokedAt": None,
        "status": "disabled" if row.disabled else "expired" if expired else "active",
    }
