"""``/api/pointsman/guards``: guards on content, for administrators. Secrets go in and never come out."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import HttpRequest, answer, number, read_body, wrong
from pointsman.api.omniroute.resilience import Apply
from pointsman.errors import GatewayError, Kind
from pointsman.guard_settings import GuardSettings
from pointsman.policy.guards import GuardService, checked, described, try_on, webhooks_of
from pointsman.storage.database import AlreadyExistsError

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_NAMED: Final = 100  # guards that are tried on a text at once
PATH: Final = "/api/pointsman/guards"
ONE: Final = "/api/pointsman/guards/{name:str}"
ROLES: Final = ("system", "developer", "user", "assistant", "tool")
TRIED: Final = "tried"  # the name of a guard that is made of rules which are only tried


class TrialBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text, where it stands, and what is tried on it: ``rules`` as in a guard, guards by name, or all in effect."""

    text: str
    where: str = "request"
    role: str = "user"
    guards: list[str] | None = None
    rules: list[dict[str, Any]] | None = None


class GuardViews:
    """The views."""

    def __init__(self, guards: GuardService, apply: Apply) -> None:
        self._guards = guards
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get(PATH)
        async def list_guards(request: HttpRequest) -> Response[bytes]:
            return answer(await self._page(request))

        @post(PATH, status_code=201)
        async def create_guard(request: HttpRequest) -> Response[bytes]:
            try:
                shown, revision = await self._guards.create(await read_body(request, dict[str, Any]))
            except AlreadyExistsError:  # somebody else was faster by a moment
                message = "there is a guard of this name already"
                raise GatewayError(Kind.INVALID_REQUEST, message, param="name", status=409) from None
            await self._apply(revision)
            return answer(described(shown), 201)

        @get(ONE)
        async def show_guard(request: HttpRequest, name: FromPath[str]) -> Response[bytes]:
            return answer(described(await self._guards.find(name)))

        @patch(ONE, status_code=200)
        async def change_guard(request: HttpRequest, name: FromPath[str]) -> Response[bytes]:
            shown, revision = await self._guards.change(name, await read_body(request, dict[str, Any]))
            await self._apply(revision)
            return answer(described(shown))

        @delete(ONE, status_code=200)
        async def remove_guard(request: HttpRequest, name: FromPath[str]) -> Response[bytes]:
            await self._apply(await self._guards.remove(name))
            return answer({"deleted": True, "name": name})

        @post("/api/pointsman/guards/test", status_code=200)
        async def try_guards(request: HttpRequest) -> Response[bytes]:
            return answer(await self._try(await read_body(request, TrialBody)))

        return [list_guards, create_guard, show_guard, change_guard, remove_guard, try_guards]

    async def _page(self, request: HttpRequest) -> dict[str, Any]:
        limit, after = number(request, "limit", DEFAULT_LIMIT, (1, MAX_LIMIT)), request.query_params.get("after", "")
        rows = [one for one in await self._guards.list() if one.settings.name > after]
        following = rows[limit - 1].settings.name if len(rows) > limit else None
        return {"data": [described(one) for one in rows[:limit]], "next": following}

    async def _try(self, asked: TrialBody) -> dict[str, Any]:
        if asked.where not in ("request", "answer"):
            raise wrong("where", "must be 'request' or 'answer'")
        if asked.role not in ROLES:
            raise wrong("role", f"must be one of {', '.join(ROLES)}")
        guards = await self._tried(asked)
        role = asked.role if asked.where == "request" else None
        trial = await asyncio.to_thread(try_on, guards, asked.text, role)  # many patterns take a while to compile
        return {
            "blocked": trial.blocked,
            "findings": [spot._asdict() for spot in trial.spots],
            "text": trial.text,
            "not_asked": webhooks_of(guards, role),
        }

    async def _tried(self, asked: TrialBody) -> Sequence[GuardSettings]:
        if asked.rules is not None:
            return [checked({"name": TRIED, "rules": asked.rules}, {})[0]]
        if asked.guards is not None and len(asked.guards) > MAX_NAMED:
            raise wrong("guards", f"must be at most {MAX_NAMED} names")
        return await self._guards.named(asked.guards)
