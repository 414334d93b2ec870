"""``/api/v1/keys`` and ``/api/v1/key``: the keys of an account for those who manage it, and for each key itself."""

from typing import Any, Final, Literal

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import MAX_OFFSET, HttpRequest, answer, flag, line, number, read_body, short, wrong
from pointsman.api.omniroute.resilience import Apply
from pointsman.api.openrouter.exchange import amount, caller_of, moment_of, usd, words_of
from pointsman.clock import Clock
from pointsman.identity.keys import Key, NewKey
from pointsman.policy.router_keys import BYOK, EXTERNAL_USER, KeyLimit, RouterKey, RouterKeyChange, RouterKeys
from pointsman.storage.key_usage import KeyUsage
from pointsman.storage.keys import KeyFilter

PAGE: Final = 100
PATH: Final = "/api/v1/keys"
ONE: Final = "/api/v1/keys/{fingerprint:str}"
MAX_FINGERPRINT: Final = 64
Reset = Literal["daily", "weekly", "monthly"]


class External(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a key is for in the words of who made it. Its ``api_key`` is not taken: keys are drawn here."""

    user: str
    api_key: str | None = None


class NewKeyBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a key is to be. ``limit`` in dollars."""

    name: str
    limit: float | int | None = None
    limit_reset: Reset | None = None
    include_byok_in_limit: bool = False
    expires_at: str | None = None
    creator_user_id: str | None = None
    workspace_id: str | None = None
    external: External | None = None


class KeyChangeBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different; null takes a limit away."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    limit: float | int | msgspec.UnsetType | None = msgspec.UNSET
    limit_reset: Reset | msgspec.UnsetType | None = msgspec.UNSET
    include_byok_in_limit: bool | msgspec.UnsetType = msgspec.UNSET
    workspace_id: str | msgspec.UnsetType = msgspec.UNSET


class KeyViews:
    """The views of ``/keys``."""

    def __init__(self, keys: RouterKeys, clock: Clock, apply: Apply) -> None:
        self._keys = keys
        self._clock = clock
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """One per operation."""

        @get(PATH)
        async def list_keys(request: HttpRequest) -> Response[bytes]:
            offset = number(request, "offset", 0, (0, MAX_OFFSET))
            page = await self._keys.list_page(self._filter(request), PAGE, offset)
            return answer({"data": [shown(key) for key in page]})

        @post(PATH, status_code=201)
        async def create_key(request: HttpRequest) -> Response[bytes]:
            caller, body = caller_of(request), await read_body(request, NewKeyBody)
            limit = KeyLimit(amount(body.limit, "limit"), body.limit_reset)
            key, secret, revision = await self._keys.create(caller, _new(caller, body), limit)
            await self._apply(revision)
            return answer({"data": shown(key), "key": secret.reveal()})

        @get(ONE)
        async def show_key(request: HttpRequest, fingerprint: FromPath[str]) -> Response[bytes]:
            key = await self._keys.find(caller_of(request), fingerprint[: MAX_FINGERPRINT + 1])
            return answer({"data": shown(key)})

        @patch(ONE)
        async def change_key(request: HttpRequest, fingerprint: FromPath[str]) -> Response[bytes]:
            caller, body = caller_of(request), await read_body(request, KeyChangeBody)
            key, revision = await self._keys.change(caller, fingerprint[: MAX_FINGERPRINT + 1], _change(body))
            await self._apply(revision)
            return answer({"data": shown(key)})

        @delete(ONE, status_code=200)
        async def delete_key(request: HttpRequest, fingerprint: FromPath[str]) -> Response[bytes]:
            await self._apply(await self._keys.end(caller_of(request), fingerprint[: MAX_FINGERPRINT + 1]))
            return answer({"deleted": True})

        return [list_keys, create_key, show_key, change_key, delete_key]

    def _filter(self, request: HttpRequest) -> KeyFilter:
        return KeyFilter(
            account_id=caller_of(request).account_id,
            workspace_id=line(request, "workspace_id"),
            kinds=("openrouter",),
            roles=("inference",),
            include_disabled=flag(request, "include_disabled"),
            valid_at=None if flag(request, "include_expired") else self._clock.now_us(),
        )


def shown(key: RouterKey) -> dict[str, Any]:
    """A key as the API shows it."""
    row = key.row
    return {
        "hash": row.fingerprint,
        "name": row.name,
        "label": row.hint,
        "disabled": row.disabled,
        **limits_of(key),
        **usage_of(key.usage),
        "created_at": words_of(row.created_at),
        "updated_at": words_of(row.updated_at),
        "expires_at": words_of(row.expires_at),
        "last_used_at": words_of(row.last_used_at),
        "creator_user_id": row.creator_user_id,
        "workspace_id": row.workspace_id,
        "external_user": row.settings.get(EXTERNAL_USER),
    }


def limits_of(key: RouterKey) -> dict[str, Any]:
    """The members that tell of a key's limit."""
    limit, remaining = key.limit.nano_usd, key.remaining
    return {
        "limit": None if limit is None else usd(limit),
        "limit_remaining": None if remaining is None else usd(remaining),
        "limit_reset": key.limit.reset,
        "include_byok_in_limit": key.includes_byok,
    }


def usage_of(usage: KeyUsage) -> dict[str, float]:
    """The members that tell what a key has spent, in dollars."""
    found = {}
    for name, spent in (("usage", usage.charged), ("byok_usage", usage.byok)):
        found[name] = usd(spent.total)
        found |= {f"{name}_{window}": usd(spent.within(window)) for window in ("daily", "weekly", "monthly")}
    return found


def _new(caller: Key, body: NewKeyBody) -> NewKey:
    settings: dict[str, Any] = {BYOK: body.include_byok_in_limit}
    if body.external is not None:
        if body.external.api_key is not None:
            raise wrong("external.api_key", "can't be chosen: keys are drawn here")
        settings[EXTERNAL_USER] = short(body.external.user, "external.user")
    creator = body.creator_user_id
    return NewKey(
        name=body.name,
        kind="openrouter",
        account_id=caller.account_id,
        workspace_id=caller.workspace_id if body.workspace_id is None else short(body.workspace_id, "workspace_id"),
        creator_user_id=caller.user_id if creator is None else short(creator, "creator_user_id"),
        expires_at=moment_of(body.expires_at, "expires_at"),
        settings=settings,
    )


def _change(body: KeyChangeBody) -> RouterKeyChange:
    workspace = body.workspace_id
    return RouterKeyChange(
        name=body.name,
        disabled=body.disabled,
        workspace_id=workspace if workspace is msgspec.UNSET else short(workspace, "workspace_id"),
        includes_byok=body.include_byok_in_limit,
        nano_usd=msgspec.UNSET if body.limit is msgspec.UNSET else amount(body.limit, "limit"),
        reset=body.limit_reset,
    )
