"""``/api/auth/oidc/{provider}/...``: signing in at an OpenID provider. Browsers come here by links and redirects."""

from collections.abc import Mapping
from typing import Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pointsman.api.exchange import HttpRequest
from pointsman.api.omniroute.management import ManagementError
from pointsman.api.omniroute.resilience import Apply
from pointsman.api.omniroute.sign_in import session_cookie
from pointsman.identity.sign_in import SignIn
from pointsman.upstream.open_id import BEGUN_SECONDS, OpenIdProvider, SignInError

BEGUN_COOKIE: Final = "sign_in"
COOKIE_PATH: Final = "/api/auth/oidc"


class OpenIdViews:
    """The views. A provider that nobody declared is not found."""

    def __init__(self, sign_in: SignIn, providers: Mapping[str, OpenIdProvider], apply: Apply) -> None:
        self._sign_in = sign_in
        self._providers = providers
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @get("/api/auth/oidc/{provider:str}/login")
        async def begin(request: HttpRequest, provider: FromPath[str]) -> Response[bytes]:
            try:
                address, begun = await self._provider(provider).begin()
            except SignInError as error:
                raise ManagementError(502, str(error)) from None
            away = Response(b"", status_code=302, headers={"location": address, "cache-control": "no-store"})
            away.headers["set-cookie"] = self._cookie(request, begun, BEGUN_SECONDS)
            return away

        @get("/api/auth/oidc/{provider:str}/callback")
        async def finish(request: HttpRequest, provider: FromPath[str]) -> Response[bytes]:
            known = self._provider(provider)
            query = {name: value for name, value in request.query_params.items() if isinstance(value, str)}
            try:
                user = await known.finish(query, request.cookies.get(BEGUN_COOKIE, ""))
            except SignInError as error:
                raise ManagementError(403, str(error)) from None
            days = self._sign_in.settings.session_days
            row, secret = await self._sign_in.users.open_session(user, days)
            await self._apply(row.revision)
            back = Response(b"", status_code=302, headers={"location": "/", "cache-control": "no-store"})
            secure = self._secure(request)
            back.headers["set-cookie"] = session_cookie(secret.reveal(), days * 86_400, secure=secure)
            back.delete_cookie(BEGUN_COOKIE, path=COOKIE_PATH)
            return back

        return [begin, finish]

    def _provider(self, name: str) -> OpenIdProvider:
        found = self._providers.get(name)
        if found is None:
            raise ManagementError(404, "There is no such provider")
        return found

    def _secure(self, request: HttpRequest) -> bool:
        return self._sign_in.settings.secure_cookies or request.scope["scheme"] == "https"

    def _cookie(self, request: HttpRequest, value: str, seconds: int) -> str:
        secure = "; Secure" if self._secure(request) else ""
        return f"{BEGUN_COOKIE}={value}; Path={COOKIE_PATH}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
