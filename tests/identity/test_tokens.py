"""Signed tokens: what is accepted, and the attacks on their checking that are not (RFC 8725)."""

import asyncio
import base64
import json
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from pointsman.identity.tokens import LEEWAY_SECONDS, Tokens, account_of, external_user_id
from pointsman.identity_settings import IdentitySettings, IssuerSettings
from pointsman.keyring import MasterKey, Secret, key_id_of
from pointsman.storage.accounts import AccountRow
from pointsman.storage.database import Database
from pointsman.storage.users import UserRepository, UserRow

MASTER = MasterKey(b"m" * 32)
NOW = 1_800_000_000
NOW_US = NOW * 1_000_000
ELSEWHERE, SHARED = "https://id.example.org", "https://shared.example.org"
SHARED_SECRET = "a secret that both of us know, long enough"
ISSUERS = (
    IssuerSettings(issuer=ELSEWHERE, audience="gateway", jwks_url=f"{ELSEWHERE}/keys"),
    IssuerSettings(issuer=SHARED, audience="authenticated", secret=Secret(SHARED_SECRET)),
)
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1"})
USER = UserRow(id="usr_1", account_id="acc_1", created_at=1, updated_at=1, email="a@example.org")
ACCOUNT = AccountRow(id="acc_1", kind="user", name="A", created_at=1, updated_at=1)
CLAIMS = {"iss": ELSEWHERE, "aud": "gateway", "sub": "42", "iat": NOW, "exp": NOW + 600}


def finish(users: UserRepository, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` and close the database again: each test has several loops."""

    async def run() -> None:
        await work
        await users._database.aclose()

    asyncio.run(run())


@pytest.fixture
def users(tmp_path: Path) -> UserRepository:
    """The people of a new installation: one."""

    async def prepare() -> Database:
        database = Database.open(None, tmp_path)
        await database.migrate()
        await UserRepository(database).add(USER, ACCOUNT)
        await database.aclose()
        return database

    return UserRepository(asyncio.run(prepare()))


def checker(users: UserRepository, **settings: Any) -> Tokens:
    """A checker that knows both issuers."""
    tokens = Tokens(users, MASTER, IdentitySettings(**settings), ISSUERS, {SHARED: Secret(SHARED_SECRET)})
    tokens.set_keys(ELSEWHERE, KeySet([RSA, EC]).as_dict(private=False))
    return tokens


def signed(claims: Mapping[str, Any], key: Any = RSA, **header: Any) -> bytes:
    """A token of the other issuer."""
    header = {"alg": "RS256", "kid": "rsa-1", **header}
    return jwt.encode(header, dict(claims), key, algorithms=[header["alg"]]).encode()


def part(value: Any) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("place", [0, 1], ids=["header", "claims"])
@pytest.mark.parametrize(
    "odd", [b"[" * 3000 + b"]" * 3000, b'{"alg":' + b"[" * 3000 + b"]" * 3000 + b"}", b'"\xff"', b'{"iss":"\xff"}']
)
def test_a_token_of_odd_json_is_no_token_and_no_fault(users: UserRepository, place: int, odd: bytes) -> None:
    parts = [part({"alg": "RS256", "kid": "rsa-1"}), part(CLAIMS), "c2ln"]
    parts[place] = base64.urlsafe_b64encode(odd).rstrip(b"=").decode()
    assert checker(users).verify(".".join(parts).encode(), NOW_US) is None


@pytest.mark.parametrize("algorithm", ["HS256", "Ed25519"])
def test_our_own_token_speaks_for_its_person_until_it_ends(users: UserRepository, algorithm: str) -> None:
    tokens = checker(users, token_algorithm=algorithm, token_seconds=60)
    secret, expires_at = tokens.issue(USER, NOW_US)
    assert expires_at == NOW_US + 60_000_000
    key = tokens.verify(secret.reveal().encode(), NOW_US)
    assert key is not None
    assert (key.kind, key.role, key.user_id, key.account_id, key.workspace_id) == (
        "jwt", "inference", "usr_1", "acc_1", "acc_1",
    )  # fmt: skip
    assert tokens.verify(secret.reveal().encode(), expires_at - 1) is not None
    assert tokens.verify(secret.reveal().encode(), expires_at) is None
    other = Tokens(users, MasterKey(b"o" * 32), IdentitySettings(token_algorithm=algorithm))
    assert other.verify(secret.reveal().encode(), NOW_US) is None


@pytest.mark.parametrize("algorithm", ["HS256", "Ed25519"])
def test_a_change_of_the_master_key_changes_whose_tokens_are_good(users: UserRepository, algorithm: str) -> None:
    master, old, new = MasterKey(b"m" * 32), b"m" * 32, b"n" * 32
    ids = {key_id_of(old): old, key_id_of(new): new}
    tokens = Tokens(users, master, IdentitySettings(token_algorithm=algorithm))  # type: ignore[arg-type]

    def good(token: Secret) -> bool:
        return tokens.verify(token.reveal().encode(), NOW_US) is not None

    async def test() -> None:
        await tokens.refresh()
        before, _ = tokens.issue(USER, NOW_US)
        assert good(before)
        master.adopt(ids, key_id_of(new), {})
        await tokens.refresh()
        after, _ = tokens.issue(USER, NOW_US)
        assert good(before)
        assert good(after)
        master.adopt({key_id_of(new): new}, key_id_of(new), {})
        await tokens.refresh()
        assert not good(before)
        assert good(after)

    finish(users, test())


def test_an_administrators_token_says_so(users: UserRepository) -> None:
    tokens = checker(users)
    row = UserRow(id="usr_admin", account_id="default", role="admin", created_at=1, updated_at=1)
    key = tokens.verify(tokens.issue(row, NOW_US)[0].reveal().encode(), NOW_US)
    assert key is not None
    assert (key.role, key.workspace_id) == ("admin", "default")


def test_tokens_of_other_issuers_are_checked_with_their_keys(users: UserRepository) -> None:
    tokens = checker(users)
    for token in (
        signed(CLAIMS),
        signed(CLAIMS, EC, alg="ES256", kid="ec-1"),
        signed({**CLAIMS, "aud": ["x", "gateway"]}),
    ):
        key = tokens.verify(token, NOW_US)
        assert key is not None
        assert key.user_id == external_user_id(ELSEWHERE, "42")
        assert key.account_id == account_of(external_user_id(ELSEWHERE, "42"))
        assert key.role == "inference"
    shared = jwt.encode(
        {"alg": "HS256"}, {**CLAIMS, "iss": SHARED, "aud": "authenticated"}, OctKey.import_key(SHARED_SECRET)
    )
    assert tokens.verify(shared.encode(), NOW_US) is not None


def test_a_person_who_is_known_by_another_issuers_name_is_that_person(users: UserRepository) -> None:
    tokens = checker(users)

    async def link() -> None:
        await users.add_login(ELSEWHERE, "42", "usr_1", 1)
        await tokens.refresh()

    finish(users, link())
    key = tokens.verify(signed(CLAIMS), NOW_US)
    assert key is not None
    assert (key.user_id, key.account_id) == ("usr_1", "acc_1")


def unsigned(algorithm: str) -> bytes:
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(CLAIMS)}.".encode()


def confused() -> bytes:
    """Signed with HMAC, the public key being the secret."""
    public = RSA.public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    import hashlib
    import hmac

    head = f"{part({'alg': 'HS256', 'kid': 'rsa-1'})}.{part(CLAIMS)}"
    mac = hmac.digest(public, head.encode(), hashlib.sha256)
    return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}".encode()


def with_own_key(**header: Any) -> bytes:
    """Signed with a key of the attacker's that the header names."""
    key = RSAKey.generate_key(2048, {"kid": "mine"})
    return signed(CLAIMS, key, **header)


def test_attacks_on_the_way_of_checking_are_refused(users: UserRepository) -> None:
    tokens = checker(users)
    mine = RSAKey.generate_key(2048, {"kid": "rsa-1"})
    attacks = {
        "none": unsigned("none"),
        "None": unsigned("None"),
        "NONE": unsigned("NONE"),
        "empty algorithm": unsigned(""),
        "public key as secret": confused(),
        "another key under a known name": signed(CLAIMS, mine),
        "key in the header": with_own_key(kid="rsa-1", jwk=mine.as_dict(private=False)),
        "key at an address": with_own_key(kid="rsa-1", jku="http://127.0.0.1:1/keys"),
        "certificate at an address": with_own_key(kid="rsa-1", x5u="http://127.0.0.1:1/cert"),
        "path as a key's name": with_own_key(kid="../../../../dev/null"),
        "statement as a key's name": with_own_key(kid="x' UNION SELECT 'a"),
        "unknown critical header": f"{part({'alg': 'RS256', 'kid': 'rsa-1', 'crit': ['b64'], 'b64': False})}."
        f"{part(CLAIMS)}.{signed(CLAIMS).decode().split('.')[2]}".encode(),
        "another issuer's secret": jwt.encode({"alg": "HS256"}, CLAIMS, OctKey.import_key(SHARED_SECRET)).encode(),
        "unknown issuer": signed({**CLAIMS, "iss": "https://evil.example.org"}),
        "our name, their key": signed({**CLAIMS, "iss": "pointsman", "aud": "pointsman", "account": "default"}),
        "issuer as a list": signed({**CLAIMS, "iss": [ELSEWHERE]}),
        "changed claims": b".".join(
            (signed(CLAIMS).split(b".")[0], part({**CLAIMS, "sub": "1"}).encode(), signed(CLAIMS).split(b".")[2])
        ),
        "no signature": signed(CLAIMS).rsplit(b".", 1)[0] + b".",
        "two parts": signed(CLAIMS).rsplit(b".", 1)[0],
        "four parts": signed(CLAIMS) + b".x",
        "blank inside": signed(CLAIMS).replace(b".", b". ", 1),
        "not JSON": b"eyJhbGciOiJSUzI1NiJ9.bm90IGpzb24.c2ln",
        "deep": f"{part({'alg': 'RS256'})}.{base64.urlsafe_b64encode(b'[' * 5000).decode().rstrip('=')}.c2ln".encode(),
    }
    told = {name: tokens.verify(token, NOW_US) for name, token in attacks.items()}
    assert {name for name, key in told.items() if key is not None} == set()


@pytest.mark.parametrize(
    "change",
    [
        {"exp": NOW},
        {"exp": NOW - LEEWAY_SECONDS - 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": 2**80},
        {"exp": -1},
        {"nbf": NOW + LEEWAY_SECONDS + 5},
        {"iat": NOW + LEEWAY_SECONDS + 5},
        {"iat": None},
        {"aud": "another"},
        {"aud": None},
        {"aud": []},
        {"sub": None},
        {"sub": ""},
        {"sub": 42},
        {"sub": "x" * 300},
    ],
    ids=str,
)
def test_claims_that_do_not_hold_are_refused(users: UserRepository, change: dict[str, Any]) -> None:
    claims = {name: value for name, value in {**CLAIMS, **change}.items() if value is not None}
    head = {"alg": "RS256", "kid": "rsa-1"}
    token = jwt.encode(head, claims, RSA, algorithms=["RS256"])
    assert checker(users).verify(token.encode(), NOW_US) is None


def test_keys_of_an_issuer_can_be_replaced_and_unknown_ones_are_wanted(users: UserRepository) -> None:
    tokens = checker(users)
    new = RSAKey.generate_key(2048, {"kid": "rsa-2"})
    token = signed(CLAIMS, new, kid="rsa-2")
    assert tokens.verify(token, NOW_US) is None
    assert tokens.wanted == {ELSEWHERE}
    assert tokens.set_keys(ELSEWHERE, KeySet([new]).as_dict(private=False)) == 1
    assert tokens.verify(token, NOW_US) is not None
    assert tokens.wanted == set()


def test_a_shared_secret_in_a_public_document_is_no_key(users: UserRepository) -> None:
    tokens = checker(users)
    planted = OctKey.import_key("known to everybody, long enough", {"kid": "oct-1"})
    assert tokens.set_keys(ELSEWHERE, {"keys": [planted.as_dict(private=True)]}) == 0
    token = jwt.encode({"alg": "HS256", "kid": "oct-1"}, CLAIMS, planted)
    assert tokens.verify(token.encode(), NOW_US) is None
    with pytest.raises(ValueError, match="set of keys"):
        tokens.set_keys(ELSEWHERE, {"keys": "none"})


def test_a_disabled_person_and_tokens_of_before_a_new_password_are_refused(users: UserRepository) -> None:
    tokens = checker(users)
    old = tokens.issue(USER, NOW_US)[0].reveal().encode()
    assert tokens.verify(old, NOW_US) is not None

    async def change(**values: Any) -> None:
        await users.change("usr_1", values)
        await tokens.refresh()

    finish(users, change(tokens_from=NOW_US + 1))
    assert tokens.verify(old, NOW_US + 5) is None
    new = tokens.issue(USER, NOW_US + 2_000_000)[0].reveal().encode()
    assert tokens.verify(new, NOW_US + 2_000_000) is not None
    finish(users, change(disabled=True))
    assert tokens.verify(new, NOW_US + 2_000_000) is None
