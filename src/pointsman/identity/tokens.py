"""Signed tokens (JSON Web Tokens, RFC 7519) of people: our own, and those of issuers that the operator trusts.

Each issuer has its own keys and its own list of algorithms, chosen by the claim ``iss`` before anything is believed: a
token can't choose how it is checked. ``none`` is in no list, an issuer with a shared secret takes HMAC alone and one
with public keys never does. Headers that name keys elsewhere (``jku``, ``x5u``, ``jwk``) are not looked at.

joserfc is imported when the first token comes, or in a thread as soon as there are people who could have one.
"""

import asyncio
import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pointsman.identity.credentials import is_token
from pointsman.identity.keys import Key
from pointsman.identity.logins import Logins, VoidTokens
from pointsman.identity_settings import IdentitySettings, IssuerSettings
from pointsman.keyring import MasterKey, Secret
from pointsman.storage.accounts import DEFAULT
from pointsman.storage.users import LoginName, UserRepository, UserRow

PURPOSE: Final = "user-tokens"
LEEWAY_SECONDS: Final = 30  # of clocks that differ
MAX_SUBJECT: Final = 255
MAX_KEPT: Final = 4096
ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")


class Issuer(NamedTuple):
    """Whose tokens are believed, and how they are checked. ``keys`` is a key or a set of them, of joserfc."""

    name: str
    audience: str
    algorithms: tuple[str, ...]
    keys: Any


class Kept(NamedTuple):
    """A token that was checked, and its instants in us."""

    key: Key
    issued_at: int
    not_before: int


class Tokens:
    """Makes our own tokens, and checks all. `refresh` before the first check, and after each change of people."""

    def __init__(
        self,
        users: UserRepository,
        master: MasterKey,
        settings: IdentitySettings,
        issuers: Iterable[IssuerSettings] = (),
        secrets: Mapping[str, Secret] | None = None,
    ) -> None:
        """``secrets``: of each issuer that shares one with us, by its name."""
        self._users = users
        self._settings = settings
        self._master = master
        self._declared = {issuer.issuer: issuer for issuer in issuers}
        self._secrets = secrets or {}
        self._sets: dict[str, Any] = {}
        self._issuers: dict[str, Issuer] = {}
        self._kept: dict[bytes, Kept] = {}
        self._revision: int | None = None  # of the people it knows
        self._master_keys = master.ids
        self._void = VoidTokens(users)
        self._logins = Logins(users)
        self.wanted: set[str] = set()  # issuers one of whose tokens named a key that nobody has told yet

    async def refresh(self) -> None:
        """Take note of who may not come in any more, who is who at other issuers, and of the master keys.

        Raises StorageError.
        """
        if self._master.ids != self._master_keys:  # tokens signed under one that is gone are none, under a new one are
            self._master_keys = self._master.ids
            self._issuers.pop(self._settings.token_issuer, None)
            self._kept.clear()
        revision = await self._users.revision()
        if revision == self._revision:
            return
        await self._void.refresh()
        await self._logins.refresh()
        self._kept.clear()
        self._revision = revision

    def set_keys(self, issuer: str, document: Mapping[str, Any]) -> int:
        """Use an issuer's public keys (a JSON Web Key Set, RFC 7517) from now on; gives how many there are.

        Shared secrets in it are left out: a public document can't hold any. Raises ValueError when it is no key set.
        """
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        rows = document.get("keys")
        if not isinstance(rows, list):
            raise ValueError("it is not a set of keys")
        public = [row for row in rows if isinstance(row, dict) and row.get("kty") in ("RSA", "EC", "OKP")]
        self._issuers.pop(issuer, None)
        self._sets.pop(issuer, None)
        if not public:
            return 0
        try:
            self._sets[issuer] = KeySet.import_key_set({"keys": public[:100]})
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"its keys can't be read: {type(error).__name__}") from error
        self.wanted.discard(issuer)
        return len(public)

    def issue(self, user: UserRow, now_us: int, seconds: int | None = None) -> tuple[Secret, int]:
        """A token for a person, and when it ends (us)."""
        from joserfc import jwt

        own = self._issuer(self._settings.token_issuer)
        assert own is not None, "our own issuer is always there"
        signer = self._own_key(self._master.derive(PURPOSE))
        expires_at = now_us // 1_000_000 + (seconds or self._settings.token_seconds)
        claims = {
            "iss": own.name,
            "aud": own.audience,
            "sub": user.id,
            "iat": now_us / 1e6,  # with its fraction: a new password ends tokens of the same second
            "exp": expires_at,
            "account": user.account_id,
            "role": user.role,
        }
        [algorithm] = own.algorithms
        text = jwt.encode({"alg": algorithm, "kid": signer.kid}, claims, signer, algorithms=[algorithm])
        return Secret(text), expires_at * 1_000_000

    def verify(self, presented: bytes, now_us: int) -> Key | None:
        """Whom a token speaks for; None for anything that is not a good one. Its expiry is judged here."""
        mark = hashlib.sha256(presented).digest()
        kept = self._kept.get(mark)
        if kept is None:
            kept = self._check(presented, now_us)
            if kept is None:
                return None
            if len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[mark] = kept
        return kept.key if self._holds(kept, now_us) else None

    @property
    def whole(self) -> bool:
        """Whether every good token is known to be one without a look-up (`learn`)."""
        return self._logins.whole and self._void.whole

    async def learn(self, presented: Sequence[bytes], now_us: int) -> None:
        """Look up whom these tokens speak for, if they are of other issuers, and who may not. Raises StorageError."""
        good = []
        for one in presented:
            found = self._claims(one, now_us)
            if found is not None:
                good.append(found)
            await asyncio.sleep(0)  # a signature takes a quarter of a millisecond: then others get their turn
        await self._logins.learn([_name(*one) for one in good if not self._is_own(one[0])])
        people = [kept.key.user_id for one in good if (kept := self._kept_of(*one)) is not None]
        await self._void.learn([user_id for user_id in people if user_id is not None])

    def _is_own(self, issuer: Issuer) -> bool:
        return issuer.name == self._settings.token_issuer

    def _holds(self, kept: Kept, now_us: int) -> bool:
        user, expires_at = kept.key.user_id, kept.key.expires_at
        if user is not None and not self._void.knows(user):
            return False  # (`learn`)
        return (
            (user is None or kept.issued_at >= (self._void.find(user) or 0))
            and kept.not_before <= now_us + LEEWAY_SECONDS * 1_000_000
            and expires_at is not None
            and now_us < expires_at
        )

    def _check(self, presented: bytes, now_us: int) -> Kept | None:
        found = self._claims(presented, now_us)
        return self._kept_of(*found) if found is not None else None

    def _claims(self, presented: bytes, now_us: int) -> tuple[Issuer, Mapping[str, Any]] | None:
        """What a good token says, and whose it is."""
        text = presented.decode("ascii", "replace")
        issuer = self._issuer(_claimed_issuer(text)) if is_token(text) else None
        if issuer is None:
            return None
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, JoseError

        try:
            claims = jwt.decode(text, issuer.keys, algorithms=list(issuer.algorithms)).claims
            jwt.JWTClaimsRegistry(
                now=now_us // 1_000_000,
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": issuer.name},
                aud={"essential": True, "value": issuer.audience},
                exp={"essential": True},
                sub={"essential": True},
                iat={"essential": True},
            ).validate(claims)
        except InvalidKeyIdError:
            if issuer.name in self._declared:
                self.wanted.add(issuer.name)
            return None
        except (JoseError, ValueError, TypeError, KeyError, OverflowError):
            return None
        subject, numbers = claims["sub"], (claims["exp"], claims["iat"], claims.get("nbf", 0))
        if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT:
            return None
        return (issuer, claims) if all(_is_instant(number) for number in numbers) else None

    def _kept_of(self, issuer: Issuer, claims: Mapping[str, Any]) -> Kept | None:
        """None: it is not known here who that is (`learn`)."""
        subject, expires, issued = claims["sub"], claims["exp"], claims["iat"]
        if self._is_own(issuer):
            user_id, account_id, admin = subject, claims.get("account"), claims.get("role") == "admin"
        elif self._logins.knows(_name(issuer, claims)):
            user_id, account_id, admin = self._person(_name(issuer, claims))
        else:
            return None
        if not isinstance(account_id, str):
            return None
        key = Key(
            id=f"jwt_{user_id}",
            name=user_id,
            role="admin" if admin else "inference",
            workspace_id=account_id,  # each account's first workspace has its id
            expires_at=int(expires) * 1_000_000,
            kind="jwt",
            account_id=account_id,
            user_id=user_id,
        )
        return Kept(key, round(issued * 1e6), round(claims.get("nbf", 0) * 1e6))

    def _person(self, name: LoginName) -> tuple[str, str, bool]:
        """User, account, and whether an administrator: as was noted, else what such a person gets when it is noted."""
        login = self._logins.find(name)
        if login is not None:
            return login.user_id, login.account_id, login.role == "admin"
        user_id = external_user_id(*name)
        return user_id, account_of(user_id), False

    def _issuer(self, name: str | None) -> Issuer | None:
        if name is None:
            return None
        found = self._issuers.get(name)
        if found is None:
            found = self._own() if name == self._settings.token_issuer else self._declared_issuer(name)
            if found is not None:
                self._issuers[name] = found
        return found

    def _own(self) -> Issuer:
        """Ourselves: while the master key is being changed, tokens signed under either are good."""
        from joserfc.jwk import KeySet

        keys = [self._own_key(seed) for seed in self._master.accepted(PURPOSE)]
        algorithm, audience = self._settings.token_algorithm, self._settings.token_audience
        return Issuer(self._settings.token_issuer, audience, (algorithm,), keys[0] if len(keys) == 1 else KeySet(keys))

    def _own_key(self, seed: bytes) -> Any:
        from joserfc.jwk import OctKey, OKPKey

        key_id = hashlib.sha256(b"key id" + seed).hexdigest()[:16]
        if self._settings.token_algorithm == "HS256":
            return OctKey.import_key(seed, {"kid": key_id})
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        numbers = {"x": _base64(public), "d": _base64(seed)}
        return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "kid": key_id, **numbers})

    def _declared_issuer(self, name: str) -> Issuer | None:
        declared = self._declared.get(name)
        if declared is None:
            return None
        secret = self._secrets.get(name)
        if secret is not None:
            from joserfc.jwk import OctKey

            return Issuer(name, declared.audience, ("HS256",), OctKey.import_key(secret.reveal().encode()))
        if name not in self._sets:
            self.wanted.add(name)
            return None
        return Issuer(name, declared.audience, ASYMMETRIC, self._sets[name])


def external_user_id(issuer: str, subject: str) -> str:
    """The id of a person whom another issuer vouches for, the same on every node before anything is stored."""
    return "usr_" + hashlib.sha256(f"{issuer}\0{subject}".encode()).hexdigest()[:32]


def account_of(user_id: str) -> str:
    """The id of a person's own account, and of its first workspace."""
    return "acc_" + user_id.removeprefix("usr_") if user_id != DEFAULT else DEFAULT


def _name(issuer: Issuer, claims: Mapping[str, Any]) -> LoginName:
    return issuer.name, claims["sub"]


def _claimed_issuer(text: str) -> str | None:
    """The claim ``iss``, which nobody has checked: it only says whose keys to check with."""
    payload = text.split(".")[1]
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else None


def _is_instant(value: Any) -> bool:
    """Seconds that are an instant in microseconds of 64 bits, too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**42


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
