"""The settings of people, their sessions and tokens: a part of pointsman.toml (settings.py reads it)."""

from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from pointsman.errors import ConfigError
from pointsman.keyring import Secret

Count = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class IdentitySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[identity]``: people who sign in, their sessions and tokens (docs/identity.md)."""

    session_days: Count = 30
    keys_in_memory: Annotated[int, msgspec.Meta(ge=100, le=10**8)] = 50_000
    secure_cookies: bool = False
    public_url: str | None = None
    security_contact: Annotated[str, msgspec.Meta(pattern=r"^(mailto:|https?://)[!-~]{3,500}$")] | None = None
    sign_in_failures: Count = 5
    sign_in_window_seconds: Seconds = 900.0
    wrong_credentials: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 1000
    wrong_credentials_window_seconds: Seconds = 60.0
    agent_registrations: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 20
    agent_registration_secret: Secret | None = None  # env:NAME, file:PATH or the secret itself
    token_issuer: str = "pointsman"
    token_audience: str = "pointsman"
    token_algorithm: Literal["HS256", "Ed25519"] = "HS256"
    token_seconds: Count = 3600

    @property
    def public_origin(self) -> str | None:
        """The origin of ``public_url`` as browsers write it (RFC 6454 6.2)."""
        if self.public_url is None:
            return None
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}".lower()


class IssuerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[issuers]]`` row: another program whose JSON Web Tokens are believed."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    secret: Secret | None = None  # env:NAME, file:PATH or the secret itself


class SignInSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[sign_in]]`` row: an OpenID provider at which people can sign in."""

    id: str
    issuer: str
    client_id: str
    client_secret: Secret | None = None  # env:NAME, file:PATH or the secret itself
    domains: list[str] = []
    admins: list[str] = []
    create_users: bool = False
    allow_private: bool = False


def check_issuers(
    identity: IdentitySettings, issuers: Sequence[IssuerSettings], sign_in: Sequence[SignInSettings], source: str
) -> None:
    """Raises ConfigError for rows that can't be meant, naming the field."""
    if identity.public_url is not None:
        _check_url(identity.public_url, f"{source}: identity.public_url")
    seen = {identity.token_issuer}
    for index, row in enumerate(issuers):
        place = f"{source}: issuers[{index}]"
        if not row.issuer or row.issuer in seen:
            raise ConfigError(f"{place}.issuer: '{row.issuer}' is declared twice, or empty, or our own")
        if (row.jwks_url is None) == (row.secret is None):
            raise ConfigError(f"{place}: needs either jwks_url or secret")
        if row.jwks_url is not None:
            _check_url(row.jwks_url, f"{place}.jwks_url")
        seen.add(row.issuer)
    names: set[str] = set()
    for index, provider in enumerate(sign_in):
        place = f"{source}: sign_in[{index}]"
        if not provider.id.replace("-", "").isalnum() or provider.id in names:
            raise ConfigError(f"{place}.id: must be letters, digits and '-', and no other row's")
        _check_url(provider.issuer, f"{place}.issuer")
        if identity.public_url is None:
            raise ConfigError(f"{place}: needs identity.public_url, to which the provider sends people back")
        names.add(provider.id)


def _check_url(url: str, place: str) -> None:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise ConfigError(f"{place}: must be like https://example.org, without query or fragment")
