"""``POST /api/pointsman/auth/token``: a signed token for somebody with a password, as some clients present it."""

from typing import Annotated

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer, read_body
from pointsman.errors import GatewayError, Kind
from pointsman.gateway import Gateway
from pointsman.identity.passwords import MAX_LENGTH
from pointsman.identity.sign_in import LockedError, SignIn
from pointsman.keyring import Secret
from pointsman.policy.authentication import is_own_page


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asks. Without an address the administrator is meant."""

    password: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LENGTH)]
    email: Annotated[str, msgspec.Meta(min_length=1, max_length=254)] | None = None

    def __repr__(self) -> str:
        return "TokenRequest(****)"


class UserTokens:
    """The view."""

    def __init__(self, gateway: Gateway, sign_in: SignIn) -> None:
        self._gateway = gateway
        self._sign_in = sign_in

    def handlers(self) -> list[HTTPRouteHandler]:
        """The route for Litestar."""

        @post("/api/pointsman/auth/token", status_code=200)
        async def issue_token(request: HttpRequest) -> Response[bytes]:
            if not is_own_page(dict(request.scope["headers"]), self._sign_in.settings.public_origin):
                raise GatewayError(Kind.PERMISSION_DENIED, "another site's page may not sign in here")
            return await self._issue(await read_body(request, TokenRequest), request.scope["client"])

        return [issue_token]

    async def _issue(self, asked: TokenRequest, client: tuple[str, int] | None) -> Response[bytes]:
        sign_in, now = self._sign_in, self._gateway.clock.now_us()
        try:
            user = await sign_in.by_password(asked.email, Secret(asked.password), client[0] if client else "")
        except LockedError as error:
            message = "too many failed attempts; try again later"
            raise GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=error.seconds) from None
        if user is None:
            raise GatewayError(Kind.UNAUTHENTICATED, "the address or the password is not right")
        token, expires_at = sign_in.tokens.issue(user, now)
        told = {"token": token.reveal(), "token_type": "Bearer", "expires_in": (expires_at - now) // 1_000_000}
        issued = answer(told)
        issued.headers["cache-control"] = "no-store"
        return issued
