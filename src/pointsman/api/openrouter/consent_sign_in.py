"""Signing in on the consent page: by password, or by a link to where people of this gateway have accounts."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final
from urllib.parse import quote

from pointsman.api.exchange import HttpRequest
from pointsman.api.omniroute.resilience import Apply
from pointsman.api.omniroute.sign_in import session_cookie
from pointsman.errors import GatewayError, Kind
from pointsman.identity.passwords import MAX_LENGTH
from pointsman.identity.sign_in import LockedError, SignIn
from pointsman.keyring import Secret
from pointsman.policy.authentication import is_own_page

MAX_EMAIL: Final = 300
DECISION: Final = "sign-in"
_FORM: Final = (
    '<form method="post"><p><label>Address <input name="email" type="email" autocomplete="username"></label></p>'
    '<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>'
    '<button name="decision" value="sign-in">Sign in</button></form>'
)


class ConsentSignIn:
    """The form, and what its answer does. ``providers`` are those at which people can sign in, by name."""

    def __init__(self, sign_in: SignIn, providers: Iterable[str], apply: Apply) -> None:
        self._sign_in = sign_in
        self._providers = tuple(providers)
        self._apply = apply

    def form(self, told: str) -> str:
        """The form as HTML, with what there is to tell. Other sites lead back to the dashboard, not here."""
        links = "".join(
            f'<p><a href="/api/auth/oidc/{quote(name, safe="")}/login">Sign in with {escape(name)}</a>,'
            " then go back to the program and begin again.</p>"
            for name in self._providers
        )
        return f"<p>{escape(told)}</p>{_FORM}{links}"

    async def cookie(self, request: HttpRequest, fields: Mapping[str, str]) -> str:
        """The line of the session's cookie for whoever gave a right password; without an address the administrator.

        Raises GatewayError: UNAUTHENTICATED for a wrong one, RATE_LIMITED after too many, PERMISSION_DENIED for another
        site's page.
        """
        settings = self._sign_in.settings
        if not is_own_page(dict(request.scope["headers"]), settings.public_origin):
            raise GatewayError(Kind.PERMISSION_DENIED, "another site's page may not sign in here")
        email, password = fields.get("email") or None, fields.get("password", "")
        if not 1 <= len(password) <= MAX_LENGTH or len(email or "") > MAX_EMAIL:
            raise GatewayError(Kind.UNAUTHENTICATED, "Address or password is wrong.")
        client = request.scope["client"]
        try:
            user = await self._sign_in.by_password(email, Secret(password), client[0] if client else "")
        except LockedError as error:
            message = f"There were too many failed attempts; try again in {error.seconds} s."
            raise GatewayError(Kind.RATE_LIMITED, message, retry_after_seconds=error.seconds) from None
        if user is None:
            raise GatewayError(Kind.UNAUTHENTICATED, "Address or password is wrong.")
        row, secret = await self._sign_in.users.open_session(user, settings.session_days)
        await self._apply(row.revision)
        secure = settings.secure_cookies or request.scope["scheme"] == "https"
        return session_cookie(secret.reveal(), settings.session_days * 86_400, secure=secure)
