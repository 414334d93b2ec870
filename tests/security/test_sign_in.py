"""The dashboard's sign-in over HTTP: the contract, and what is tried against it."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import KEY, RunningGateway, running_gateway
from pointsman.identity.users import NewUser
from pointsman.keyring import Secret

PASSWORD = "correct horse battery staple"
EMAIL = "user@example.org"
OTHER_SITE = {"origin": "https://evil.example.org"}


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose administrator has a password, and one user."""
    with running_gateway(tmp_path_factory.mktemp("sign-in"), {"server": {"trusted_proxies": ["127.0.0.1"]}}) as started:
        started.call(started.installation.users.create(NewUser(email=EMAIL), Secret(PASSWORD)))
        yield started


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """A browser, as far as cookies go; the administrator's password is set."""
    key = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=gateway.address, timeout=20) as browser:
        set_up = browser.post("/api/settings/require-login", json={"password": PASSWORD}, headers=key)
        assert (set_up.status_code, set_up.json()) == (200, {"success": True})
        yield browser


def login(
    client: httpx.Client, password: str = PASSWORD, headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    """One try."""
    return client.post("/api/auth/login", json={"password": password, **more}, headers=headers)


def test_without_a_password_nobody_signs_in_and_setting_one_needs_an_administrators_key(
    gateway: RunningGateway,
) -> None:
    with httpx.Client(base_url=gateway.address) as browser:
        refused = login(browser, "anything")
        assert (refused.status_code, refused.json()["needsSetup"]) == (403, True)
        assert browser.post("/api/settings/require-login", json={"password": PASSWORD}).status_code == 401
        shown = browser.get("/api/settings/require-login").json()
        assert (shown["requireLogin"], shown["hasPassword"], shown["setupComplete"]) == (True, False, False)
        assert browser.get("/api/init").json() == {"initialized": True}


def test_signing_in_sets_a_cookie_that_no_script_reads_and_signing_out_ends_it_everywhere(client: httpx.Client) -> None:
    done = login(client)
    assert (done.status_code, done.json()) == (200, {"success": True})
    cookie = done.headers["set-cookie"]
    assert cookie.startswith("auth_token=")
    assert {"Path=/", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert client.get("/api/providers").status_code == 200
    told = client.get("/api/auth/status").json()
    assert (told["authenticated"], told["kind"], told["role"]) == (True, "session", "admin")
    stolen = dict(client.cookies)
    assert client.post("/api/auth/logout").json() == {"success": True}
    assert "auth_token" not in client.cookies
    assert httpx.get(f"{client.base_url}/api/providers", cookies=stolen).status_code == 401
    assert client.get("/api/auth/status").json()["authenticated"] is False


def test_a_user_signs_in_by_address_and_is_no_administrator(client: httpx.Client) -> None:
    assert login(client, email=EMAIL.upper()).status_code == 200
    assert client.get("/api/providers").status_code == 403
    assert client.get("/v1/request-logs").status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "password"), ({"password": ""}, "password"), ({"password": 5}, "password"),
        ({"password": "x" * 201}, "password"), ({"password": "x", "email": []}, "email"),
        ({"password": "x", "admin": True}, "admin"), ([], "body"),
    ],
)  # fmt: skip
def test_a_body_at_fault_is_400_that_names_the_field(client: httpx.Client, body: Any, field: str) -> None:
    refused = client.post("/api/auth/login", json=body)
    assert refused.status_code == 400
    assert [fault["field"] for fault in refused.json()["error"]["details"]] == [field]


def test_wrong_passwords_lock_an_address_out_and_no_other(client: httpx.Client) -> None:
    first, second = {"x-forwarded-for": "203.0.113.1"}, {"x-forwarded-for": "203.0.113.2"}
    for _ in range(5):
        refused = login(client, "wrong", first)
        assert (refused.status_code, refused.json()) == (401, {"error": "Invalid password"})
    locked = login(client, PASSWORD, first)
    assert locked.status_code == 429
    assert locked.json()["error"].startswith("Too many failed attempts")
    assert 0 < int(locked.headers["retry-after"]) <= 900
    assert login(client, PASSWORD, second).status_code == 200
    token = {"email": EMAIL, "password": PASSWORD}
    assert client.post("/api/pointsman/auth/token", json=token, headers=first).status_code == 429


def test_many_tries_at_once_are_no_more_than_as_many_one_by_one(gateway: RunningGateway, client: httpx.Client) -> None:
    statuses: list[int] = []

    def attempt() -> None:
        statuses.append(
            httpx.post(f"{gateway.address}/api/auth/login", json={"password": "wrong"}, timeout=20).status_code
        )

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [401] * 5 + [429] * 15


def test_an_unknown_address_is_refused_as_a_wrong_password_is(client: httpx.Client) -> None:
    known = login(client, "wrong", email=EMAIL)
    unknown = login(client, "wrong", email="nobody@example.org")
    assert (known.status_code, known.json()) == (unknown.status_code, unknown.json())


def test_another_sites_page_can_neither_sign_in_nor_use_the_session(client: httpx.Client) -> None:
    assert login(client, headers=OTHER_SITE).status_code == 403
    assert login(client, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert login(client).status_code == 200
    for headers in (OTHER_SITE, {"origin": "null"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "cross-site"}):
        assert client.post("/api/resilience/reset", headers=headers).status_code == 403
        assert client.get("/v1/request-logs", headers=headers).status_code == 401  # that contract has no 403
    own = {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    assert client.post("/api/resilience/reset", headers=own).status_code == 200


def test_a_session_is_always_a_new_one_and_a_planted_cookie_never_becomes_one(client: httpx.Client) -> None:
    client.cookies.set("auth_token", "pms_planted-by-somebody-else-0123456789")
    assert login(client, headers={"cookie": "auth_token=pms_planted-by-somebody-else-0123456789"}).status_code == 200
    first = client.cookies.jar
    values = {cookie.value for cookie in first}
    assert login(client).status_code == 200
    values |= {cookie.value for cookie in client.cookies.jar}
    assert len(values) == 3
    planted = {"cookie": "auth_token=pms_planted-by-somebody-else-0123456789"}
    assert httpx.get(f"{client.base_url}/api/providers", headers=planted).status_code == 401


def test_a_key_in_the_place_of_the_cookie_is_no_session(client: httpx.Client) -> None:
    assert httpx.get(f"{client.base_url}/api/providers", cookies={"auth_token": KEY}).status_code == 401


def test_a_wrong_key_is_not_made_good_by_a_session(client: httpx.Client) -> None:
    assert login(client).status_code == 200
    assert client.get("/api/providers", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_a_new_password_ends_sessions_and_tokens(client: httpx.Client) -> None:
    assert login(client).status_code == 200
    issued = client.post("/api/pointsman/auth/token", json={"password": PASSWORD}).json()
    bearer = {"authorization": f"Bearer {issued['token']}"}
    bare = httpx.Client(base_url=client.base_url)
    assert bare.get("/v1/request-logs", headers=bearer).status_code == 200
    changed = client.post("/api/settings/require-login", json={"password": "another one"})
    assert changed.status_code == 200
    assert client.get("/api/providers").status_code == 401
    assert bare.get("/v1/request-logs", headers=bearer).status_code == 401
    bare.close()


def test_where_no_login_is_required_this_machine_alone_manages(client: httpx.Client, gateway: RunningGateway) -> None:
    key = {"authorization": f"Bearer {KEY}"}
    assert client.post("/api/settings/require-login", json={"requireLogin": False}, headers=key).status_code == 200
    address, other = {"x-forwarded-for": "203.0.113.1"}, {"host": "gateway.example.org"}
    with httpx.Client(base_url=gateway.address) as anybody:
        assert anybody.get("/api/providers").status_code == 200
        assert anybody.get("/api/providers", headers=address).status_code == 401
        assert anybody.get("/api/providers", headers=other).status_code == 401  # a name that resolves to us by a trick
        assert anybody.get("/api/providers", headers=OTHER_SITE).status_code == 401
        assert anybody.get("/api/providers", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert anybody.post("/api/settings/require-login", json={"password": "mine"}).status_code == 401
        assert anybody.post("/v1/chat/completions", json={}).status_code == 401


@pytest.fixture(scope="module")
def open_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that believes no proxy, where nobody has to sign in."""
    with running_gateway(tmp_path_factory.mktemp("open"), {}) as started:
        key = {"authorization": f"Bearer {KEY}"}
        off = httpx.post(f"{started.address}/api/settings/require-login", json={"requireLogin": False}, headers=key)
        assert off.status_code == 200
        yield started


@pytest.mark.parametrize(
    "name",
    [
        "forwarded", "via", "x-forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
        "x-forwarded-server", "x-forwarded-anything", "X-Forwarded-Port", "x-real-ip", "x-client-ip",
        "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip", "cf-connecting-ipv6", "fastly-client-ip",
        "fly-client-ip", "x-original-forwarded-for",
    ],
)  # fmt: skip
def test_where_no_login_is_required_who_comes_by_a_proxy_is_not_of_this_machine(
    open_gateway: RunningGateway, name: str
) -> None:
    with httpx.Client(base_url=open_gateway.address, timeout=20) as anybody:
        assert anybody.get("/api/providers").status_code == 200
        for value in ("203.0.113.1", "127.0.0.1", ""):
            assert anybody.get("/api/providers", headers={name: value}).status_code == 401
            assert anybody.get("/metrics", headers={name: value}).status_code == 401
        assert anybody.get("/metrics").status_code == 200


def test_secrets_of_signing_in_are_nowhere_to_be_read(gateway: RunningGateway, client: httpx.Client) -> None:
    assert login(client).status_code == 200
    session = client.cookies["auth_token"]
    token = client.post("/api/pointsman/auth/token", json={"password": PASSWORD}).json()["token"]
    client.get("/v1/request-logs")
    login(client, "a wrong password that was typed")
    written = b"".join(path.read_bytes() for path in gateway.data_dir.rglob("*") if path.is_file())
    log = gateway.log_text()
    for secret in (PASSWORD, session, token, "a wrong password that was typed"):
        assert secret.encode() not in written
        assert secret not in log
