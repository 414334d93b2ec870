"""Signing in at an OpenID provider (OpenID Connect Core 1.0, the code flow) with state, nonce and PKCE (RFC 7636).

What a browser has to bring back stands sealed in its own cookie: no node keeps anything of a sign-in that was begun.
authlib makes the addresses and judges the claims, joserfc the signature; both are imported when somebody signs in.
"""

import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pointsman.clock import Clock
from pointsman.errors import ConfigError
from pointsman.identity.tokens import ASYMMETRIC, LEEWAY_SECONDS, MAX_SUBJECT, external_user_id
from pointsman.identity.users import NewUser, UserService
from pointsman.identity_settings import SignInSettings
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.database import AlreadyExistsError
from pointsman.storage.users import UserRow
from pointsman.upstream.client import UpstreamClient
from pointsman.upstream.identity_documents import DocumentError, fetch_document

PURPOSE: Final = "open-id-sign-in"
BEGUN_SECONDS: Final = 600
KEEP_SECONDS: Final = 3600.0
MAX_CODE: Final = 4096


class SignInError(Exception):
    """Nobody is let in; the message is for people and holds no secret."""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser brings back. ``until`` in us."""

    state: str
    nonce: str
    verifier: str
    until: int


class OpenIdProvider:
    """One provider. ``callback`` is where it sends people back."""

    def __init__(
        self,
        settings: SignInSettings,
        secret: Secret | None,
        callback: str,
        users: UserService,
        surroundings: tuple[UpstreamClient, MasterKey, Clock],
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._callback = callback
        self._users = users
        self._client, self._master, self._clock = surroundings
        self._document: dict[str, Any] = {}
        self._keys: dict[str, Any] = {}
        self._read_at = 0.0

    async def begin(self) -> tuple[str, str]:
        """Where to send the browser, and what its cookie shall hold. Raises SignInError."""
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        document = await self._discover()
        begun = Begun(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            until=self._clock.now_us() + BEGUN_SECONDS * 1_000_000,
        )
        address = prepare_grant_uri(
            document["authorization_endpoint"],
            client_id=self._settings.client_id,
            response_type="code",
            redirect_uri=self._callback,
            scope="openid email profile",
            state=begun.state,
            nonce=begun.nonce,
            code_challenge=create_s256_code_challenge(begun.verifier),
            code_challenge_method="S256",
        )
        sealed = self._master.seal_bytes(PURPOSE, self._settings.id, msgspec.json.encode(begun))
        return str(address), sealed.hex()

    async def finish(self, query: Mapping[str, str], cookie: str) -> UserRow:
        """The person whom the provider sent back. Raises SignInError."""
        begun = self._opened(cookie)
        if not hmac.compare_digest(query.get("state", "").encode(), begun.state.encode()):
            raise SignInError("this is not the sign-in that was begun here; begin again")
        if begun.until < self._clock.now_us():
            raise SignInError("it took too long; begin again")
        if "error" in query:
            raise SignInError("the provider did not let you in")
        code = query.get("code", "")
        if not 1 <= len(code) <= MAX_CODE:
            raise SignInError("the provider sent no code")
        return await self._person(await self._claims(code, begun))

    def _opened(self, cookie: str) -> Begun:
        try:
            data = self._master.open_bytes(PURPOSE, self._settings.id, bytes.fromhex(cookie))
            return msgspec.json.decode(data, type=Begun)
        except (ConfigError, ValueError, msgspec.DecodeError):
            raise SignInError("no sign-in was begun in this browser; begin again") from None

    async def _claims(self, code: str, begun: Begun) -> dict[str, Any]:
        document = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback,
            "client_id": self._settings.client_id,
            "code_verifier": begun.verifier,
        }
        if self._secret is not None:
            form["client_secret"] = self._secret.reveal()
        told = await self._fetch(document["token_endpoint"], form)
        token, access = told.get("id_token"), told.get("access_token")
        if not isinstance(token, str) or len(token) > 16 * 1024:
            raise SignInError("the provider did not say who you are")
        return self._checked(token, access if isinstance(access, str) else None, begun.nonce)

    def _checked(self, token: str, access: str | None, nonce: str) -> dict[str, Any]:
        from authlib.common.errors import AuthlibBaseError
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        public = [row for row in self._keys.get("keys", ()) if isinstance(row, dict) and row.get("kty") != "oct"]
        try:
            decoded = jwt.decode(token, KeySet.import_key_set({"keys": public[:100]}), algorithms=list(ASYMMETRIC))
            options = {
                "iss": {"essential": True, "value": self._settings.issuer},
                "aud": {"essential": True, "value": self._settings.client_id},
                "nonce": {"essential": True, "value": nonce},
            }
            known = {"nonce": nonce, "client_id": self._settings.client_id, "access_token": access}
            claims = CodeIDToken(decoded.claims, decoded.header, options, known)
            claims.validate(now=self._clock.now_us() // 1_000_000, leeway=LEEWAY_SECONDS)
        except (JoseError, AuthlibBaseError, ValueError, TypeError, KeyError):
            self._read_at = 0.0  # its keys may have changed: they are asked for anew next time
            raise SignInError("what the provider said of you could not be believed") from None
        return dict(decoded.claims)

    async def _person(self, claims: Mapping[str, Any]) -> UserRow:
        subject, issuer = claims.get("sub"), self._settings.issuer
        if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT:
            raise SignInError("the provider did not say who you are")
        user = await self._users.person_of(issuer, subject)
        if user is None:
            user = await self._newcomer(subject, claims)
        if user.disabled:
            raise SignInError("you may not sign in here")
        await self._users.note_sign_in(user)
        return user

    async def _newcomer(self, subject: str, claims: Mapping[str, Any]) -> UserRow:
        """Somebody who is here for the first time. Only an address that the provider vouches for says who it is."""
        email, settings = claims.get("email"), self._settings
        if not isinstance(email, str) or claims.get("email_verified") is not True:
            raise SignInError("the provider does not vouch for your address")
        email = email.lower()
        if settings.domains and email.rpartition("@")[2] not in {domain.lower() for domain in settings.domains}:
            raise SignInError("you may not sign in here")
        user = await self._users.person_with(email)
        if user is None:
            admin = email in {address.lower() for address in settings.admins}
            if not admin and not settings.create_users:
                raise SignInError("you may not sign in here")
            names = {name: claims.get(name) for name in ("given_name", "family_name")}
            first, last = (value[:100] if isinstance(value, str) else None for value in names.values())
            new = NewUser(
                email=email,
                role="admin" if admin else "user",
                first_name=first,
                last_name=last,
                user_id=external_user_id(settings.issuer, subject),
            )
            try:
                user = await self._users.create(new)
            except ConfigError:
                raise SignInError("your address can't be taken") from None
        try:
            await self._users.add_login(settings.issuer, subject, user.id)
        except AlreadyExistsError:
            pass  # the same person in two windows
        return user

    async def _discover(self) -> dict[str, Any]:
        """The provider's document and keys, kept for an hour (OpenID Connect Discovery 1.0)."""
        now = self._clock.monotonic()
        if self._document and self._read_at > 0.0 and now - self._read_at < KEEP_SECONDS:
            return self._document
        place = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        document = await self._fetch(place)
        needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if document.get("issuer") != self._settings.issuer or not all(
            isinstance(document.get(name), str) for name in needed
        ):
            raise SignInError("the provider's document is not that of this provider")
        self._keys = await self._fetch(document["jwks_uri"])
        self._document, self._read_at = document, now
        return document

    async def _fetch(self, url: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            return await fetch_document(self._client, url, allow_private=self._settings.allow_private, form=form)
        except DocumentError as error:
            raise SignInError(f"the provider can't be asked: {error}") from None


def callback_address(public_url: str, provider: str) -> str:
    """Where a provider sends people back."""
    return f"{public_url.rstrip('/')}/api/auth/oidc/{provider}/callback"
