"""``/api/v1/auth/keys``: a program exchanges a code for a key; ``/api/v1/auth/keys/code``: somebody grants the code."""

from typing import Literal

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer, read_body, short
from pointsman.api.omniroute.resilience import Apply
from pointsman.api.openrouter.exchange import amount, caller_of, moment_of, words_of
from pointsman.policy.key_codes import CodeWish, KeyCodes

Method = Literal["S256", "plain"]
NO_STORE = {"cache-control": "no-store"}


class CodeBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a program asks for. ``limit`` in dollars."""

    callback_url: str
    code_challenge: str | None = None
    code_challenge_method: Method | None = None
    limit: float | int | None = None
    expires_at: str | None = None
    key_label: str | None = None
    usage_limit_type: Literal["daily", "weekly", "monthly"] | None = None
    workspace_id: str | None = None


class ExchangeBody(msgspec.Struct, frozen=True, kw_only=True):
    """A code, with what its challenge was made from."""

    code: str
    code_verifier: str | None = None
    code_challenge_method: Method | None = None


class CodeViews:
    """The views."""

    def __init__(self, codes: KeyCodes, apply: Apply) -> None:
        self._codes = codes
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """One per operation."""

        @post("/api/v1/auth/keys/code", status_code=200)
        async def grant_code(request: HttpRequest) -> Response[bytes]:
            body = await read_body(request, CodeBody)
            grant = await self._codes.grant(caller_of(request), _wish(body))
            made = {"id": grant.code, "app_id": grant.app_id, "created_at": words_of(grant.created_at)}
            return answer({"data": made})

        @post("/api/v1/auth/keys", status_code=200)
        async def exchange_code(request: HttpRequest) -> Response[bytes]:
            body = await read_body(request, ExchangeBody)
            code, method = short(body.code, "code"), body.code_challenge_method
            verifier = None if body.code_verifier is None else short(body.code_verifier, "code_verifier")
            secret, user_id, revision = await self._codes.exchange(code, verifier, method)
            await self._apply(revision)
            told = answer({"key": secret.reveal(), "user_id": user_id})
            told.headers.update(NO_STORE)
            return told

        return [grant_code, exchange_code]


def _wish(body: CodeBody) -> CodeWish:
    return CodeWish(
        callback_url=body.callback_url,
        label=body.key_label,
        challenge=body.code_challenge,
        method=body.code_challenge_method,
        nano_usd=amount(body.limit, "limit"),
        reset=body.usage_limit_type,
        expires_at=moment_of(body.expires_at, "expires_at"),
        workspace_id=None if body.workspace_id is None else short(body.workspace_id, "workspace_id"),
    )
