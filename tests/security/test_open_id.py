"""Signing in at an OpenID provider, and tokens of another issuer, over real sockets."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from open_id_simulator import CLIENT, CLIENT_SECRET, Provider, running_provider

from gateway import RunningGateway, running_gateway, wait_until

BEGIN, BACK = "/api/auth/oidc/company/login", "/api/auth/oidc/company/callback"


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: Provider) -> Iterator[Provider]:
    """The provider as it usually is."""
    shared_provider.claims, shared_provider.header = {}, {}
    shared_provider.key = shared_provider.published
    return shared_provider


@pytest.fixture(scope="module")
def gateway(shared_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that lets people of one domain in, and believes the provider's tokens, too."""
    row = {
        "id": "company", "issuer": shared_provider.address, "client_id": CLIENT, "client_secret": CLIENT_SECRET,
        "domains": ["example.org"], "admins": ["root@example.org"], "create_users": True, "allow_private": True,
    }  # fmt: skip
    issuer = {"issuer": shared_provider.address, "audience": "api", "jwks_url": f"{shared_provider.address}/keys"}
    settings = {
        "identity": {"public_url": "https://gateway.example.org"},
        "sign_in": [
            row,
            {**row, "id": "closed", "create_users": False},
            {**row, "id": "walled", "allow_private": False},
        ],
        "issuers": [issuer],
    }
    with running_gateway(tmp_path_factory.mktemp("open-id"), settings) as started:
        yield started


@pytest.fixture
def browser(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.address, timeout=20) as client:
        yield client


def sign_in(browser: httpx.Client, provider: Provider, name: str = "company", **changes: str) -> httpx.Response:
    """The whole way, with what comes back from the provider changed."""
    away = browser.get(BEGIN.replace("company", name))
    assert away.status_code == 302, away.text
    back = {**provider.authorize(away.headers["location"]), **changes}
    return browser.get(BACK.replace("company", name), params=back)


def test_a_person_signs_in_and_is_the_same_one_the_next_time(browser: httpx.Client, provider: Provider) -> None:
    done = sign_in(browser, provider)
    assert (done.status_code, done.headers["location"]) == (302, "/")
    first = browser.get("/api/auth/status").json()["user"]
    assert (first["email"], first["role"]) == ("a@example.org", "user")
    assert browser.get("/api/providers").status_code == 403
    provider.claims = {"email": "other@example.org"}  # an address may change, the subject is who it is
    assert sign_in(browser, provider).status_code == 302
    assert browser.get("/api/auth/status").json()["user"]["id"] == first["id"]


def test_an_administrator_is_one_from_the_first_sign_in_on(browser: httpx.Client, provider: Provider) -> None:
    provider.claims = {"sub": "1", "email": "Root@Example.org"}
    assert sign_in(browser, provider).status_code == 302
    assert browser.get("/api/providers").status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "50", "email_verified": False},
        {"sub": "51", "email_verified": "true"},
        {"sub": "52", "email": None},
        {"sub": "53", "email": "a@example.org.evil.example"},
        {"sub": "54", "email": "a@evil.example"},
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"iss": "https://evil.example"},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"exp": 1},
        {"at_hash": "c3RvbGVu"},
        {"sub": ""},
    ],
    ids=str,
)
def test_claims_that_can_not_be_believed_let_nobody_in(
    browser: httpx.Client, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    assert sign_in(browser, provider).status_code == 403
    assert browser.get("/api/auth/status").json()["authenticated"] is False


def test_a_token_that_another_key_signed_lets_nobody_in(browser: httpx.Client, provider: Provider) -> None:
    provider.key = RSAKey.generate_key(2048, {"kid": "one"})
    assert sign_in(browser, provider).status_code == 403


def test_a_callback_that_this_browser_did_not_begin_lets_nobody_in(browser: httpx.Client, provider: Provider) -> None:
    assert sign_in(browser, provider, state="another").status_code == 403
    away = browser.get(BEGIN)
    back = provider.authorize(away.headers["location"])
    assert httpx.get(f"{browser.base_url}{BACK}", params=back).status_code == 403  # another browser
    assert browser.get(BACK.replace("company", "closed"), params=back).status_code == 403  # another provider's
    assert browser.get(BACK, params={"state": back["state"], "error": "access_denied"}).status_code == 403
    assert browser.get(BACK, params=back).status_code == 302
    assert browser.get(BACK, params=back).status_code == 403  # once


def test_a_code_of_another_sign_in_fails_for_its_challenge(browser: httpx.Client, provider: Provider) -> None:
    stolen = provider.authorize(httpx.get(f"{browser.base_url}{BEGIN}").headers["location"])
    assert sign_in(browser, provider, code=stolen["code"]).status_code == 403


def test_strangers_are_let_in_only_where_that_is_wanted(browser: httpx.Client, provider: Provider) -> None:
    provider.claims = {"sub": "99", "email": "stranger@example.org"}
    assert sign_in(browser, provider, "closed").status_code == 403
    assert browser.get(BEGIN.replace("company", "nobody")).status_code == 404


def test_a_provider_in_a_private_network_is_asked_only_when_that_is_allowed(browser: httpx.Client) -> None:
    assert browser.get(BEGIN.replace("company", "walled")).status_code == 502


def test_tokens_of_a_declared_issuer_are_believed_once_its_keys_are_known(
    gateway: RunningGateway, provider: Provider
) -> None:
    claims = {"iss": provider.address, "aud": "api", "sub": "77", "iat": 1, "exp": 2**31}
    token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, provider.published)
    headers = {"authorization": f"Bearer {token}"}
    url = f"{gateway.address}/v1/request-logs"
    wait_until(lambda: httpx.get(url, headers=headers).status_code == 200, "known key")
    for change in ({"aud": "another"}, {"exp": 5}):
        other = jwt.encode({"alg": "RS256", "kid": "one"}, {**claims, **change}, provider.published)
        assert httpx.get(url, headers={"authorization": f"Bearer {other}"}).status_code == 401


def test_nothing_secret_of_a_sign_in_is_logged(
    gateway: RunningGateway, browser: httpx.Client, provider: Provider
) -> None:
    assert sign_in(browser, provider).status_code == 302
    log = gateway.log_text()
    assert CLIENT_SECRET not in log
    assert browser.cookies["auth_token"] not in log
