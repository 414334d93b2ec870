"""``/api/auth/...`` and ``/api/settings/require-login``: the dashboard's sign-in.

The session is a cookie that no script can read. Its value is a credential like any other, so that signing out and a new
password end it on every server at once.
"""

import platform
from typing import Any, Final

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from pointsman.api.exchange import HttpRequest, answer
from pointsman.api.omniroute.management import ManagementError, admit, invalid, read_object
from pointsman.api.omniroute.moments import instant
from pointsman.api.omniroute.resilience import Apply
from pointsman.gateway import Gateway
from pointsman.identity.credentials import COOKIE
from pointsman.identity.keys import Key
from pointsman.identity.passwords import MAX_LENGTH, MIN_LENGTH
from pointsman.identity.sign_in import LockedError, SignIn
from pointsman.keyring import Secret
from pointsman.policy.authentication import is_own_page

RENEW_DAYS: Final = 7  # a session with less left is renewed when the dashboard asks how it stands
DAY_US: Final = 86_400_000_000
MAX_EMAIL: Final = 254


class SignInViews:
    """The views."""

    def __init__(self, gateway: Gateway, sign_in: SignIn, apply: Apply) -> None:
        self._gateway = gateway
        self._sign_in = sign_in
        self._apply = apply

    def handlers(self) -> list[HTTPRouteHandler]:
        """The routes for Litestar."""

        @post("/api/auth/login", status_code=200)
        async def login(request: HttpRequest) -> Response[bytes]:
            return await self._login(request)

        @post("/api/auth/logout", status_code=200)
        async def logout(request: HttpRequest) -> Response[bytes]:
            key: Key | None = request.scope["state"]["caller"]
            if key is not None and key.kind == "session":
                await self._sign_in.users.close_session(key.id)
                await self._in_effect()
            done = answer({"success": True})
            done.headers["set-cookie"] = session_cookie("", 0, secure=self._secure(request))
            return done

        @get("/api/auth/status")
        async def status(request: HttpRequest) -> Response[bytes]:
            return await self._status(request)

        @get("/api/init")
        async def init() -> Response[bytes]:
            return answer({"initialized": True})

        @get("/api/settings/require-login")
        async def show() -> Response[bytes]:
            return answer(await self._requirements())

        @post("/api/settings/require-login", status_code=200)
        async def change(request: HttpRequest) -> Response[bytes]:
            return await self._change(request)

        return [login, logout, status, init, show, change]

    async def _login(self, request: HttpRequest) -> Response[bytes]:
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        if not is_own_page(headers, self._sign_in.settings.public_origin):
            raise ManagementError(403, "another site's page may not sign in here")
        email, password = _read_login(await read_object(request))
        if email is None and not await self._sign_in.has_password():
            return answer({"error": "No password is set: pointsman users password admin", "needsSetup": True}, 403)
        client = request.scope["client"]
        try:
            user = await self._sign_in.by_password(email, password, client[0] if client else "")
        except LockedError as error:
            locked = answer({"error": f"Too many failed attempts; try again in {error.seconds} s"}, 429)
            locked.headers["retry-after"] = str(error.seconds)
            return locked
        if user is None:
            raise ManagementError(401, "Invalid password")
        days = self._sign_in.settings.session_days
        row, secret = await self._sign_in.users.open_session(user, days)
        await self._apply(row.revision)
        done = answer({"success": True})
        done.headers["set-cookie"] = session_cookie(secret.reveal(), days * 86_400, secure=self._secure(request))
        return done

    async def _status(self, request: HttpRequest) -> Response[bytes]:
        key: Key | None = request.scope["state"]["caller"]
        told: dict[str, Any] = {"authenticated": key is not None, **await self._requirements()}
        if key is None:
            return answer(told)
        told["kind"], told["role"] = key.kind, key.role
        if key.user_id is not None and key.kind == "session":
            user = await self._sign_in.users.find(key.user_id)
            told["user"] = {"id": user.id, "email": user.email, "role": user.role}
        if key.kind != "session" or key.expires_at is None:
            return answer(told)
        told["expiresAt"] = instant(key.expires_at)
        cookie = request.cookies.get(COOKIE.decode())
        if key.expires_at - self._gateway.clock.now_us() > RENEW_DAYS * DAY_US or cookie is None:
            return answer(told)
        days = self._sign_in.settings.session_days
        told["expiresAt"] = instant(await self._sign_in.users.renew_session(key.id, days))
        await self._in_effect()
        renewed = answer(told)
        renewed.headers["set-cookie"] = session_cookie(cookie, days * 86_400, secure=self._secure(request))
        return renewed

    async def _requirements(self) -> dict[str, Any]:
        has_password = await self._sign_in.has_password()
        return {
            "requireLogin": self._gateway.snapshot.login_required,
            "hasPassword": has_password,
            "setupComplete": has_password,
            "nodeVersion": f"Python {platform.python_version()}",
            "nodeCompatible": True,
        }

    async def _change(self, request: HttpRequest) -> Response[bytes]:
        admit(request)
        asked = await read_object(request)
        faults = [(name, "is not known") for name in asked if name not in ("requireLogin", "password")]
        required, password = asked.get("requireLogin"), asked.get("password")
        if required is not None and not isinstance(required, bool):
            faults.append(("requireLogin", "must be true or false"))
        if password is not None and not (isinstance(password, str) and MIN_LENGTH <= len(password) <= MAX_LENGTH):
            faults.append(("password", f"must have {MIN_LENGTH} to {MAX_LENGTH} characters"))
        if not asked:
            faults.append(("body", "must hold requireLogin or password"))
        if faults:
            raise invalid(faults)
        administrator = await self._sign_in.users.administrator()
        if isinstance(password, str) and administrator is not None:
            await self._sign_in.users.set_password(administrator.id, Secret(password))
        if required is not None:
            await self._sign_in.set_login_required(bool(required))
        await self._in_effect()
        return answer({"success": True})

    async def _in_effect(self) -> None:
        await self._apply(await self._sign_in.users.revision())

    def _secure(self, request: HttpRequest) -> bool:
        return self._sign_in.settings.secure_cookies or request.scope["scheme"] == "https"


def _read_login(asked: dict[str, Any]) -> tuple[str | None, Secret]:
    """Address and password. The password alone means the administrator. Raises ManagementError that names the field."""
    faults = [(name, "is not known") for name in asked if name not in ("email", "password")]
    email, password = asked.get("email"), asked.get("password")
    if email is not None and not (isinstance(email, str) and 1 <= len(email) <= MAX_EMAIL):
        faults.append(("email", f"must be a text of 1 to {MAX_EMAIL} characters"))
    if not (isinstance(password, str) and 1 <= len(password) <= MAX_LENGTH):
        faults.append(("password", f"must be a text of 1 to {MAX_LENGTH} characters"))
    if faults:
        raise invalid(faults)
    return email, Secret(str(password))


def session_cookie(value: str, seconds: int, *, secure: bool) -> str:
    """RFC 6265bis: no script reads it, no other site's page sends it but by a link."""
    name = COOKIE.decode()
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"
