"""A program gets a key by a code: OpenRouter's PKCE flow, by its own SDK."""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import openrouter
import pytest
from openrouter import errors

from driven_clock import DrivenClock
from gateway import KEY, RunningGateway, running_gateway
from pointsman.canonical.windows import Window
from pointsman.errors import GatewayError
from pointsman.identity.keys import NewKey
from pointsman.identity.users import NewUser
from pointsman.keyring import Secret
from pointsman.policy.key_codes import LIFETIME_US, CodeWish, check_wish

VERIFIER = "a-verifier-that-has-at-least-forty-three-characters"
CALLBACK = "https://app.example/back"


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with nothing behind it."""
    with running_gateway(tmp_path_factory.mktemp("codes"), {"limits": {}}) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[openrouter.OpenRouter]:
    """The SDK with a key for calls."""
    with openrouter.OpenRouter(
        api_key=key_of(gateway), server_url=f"{gateway.address}/api/v1", retry_config=None, timeout_ms=20_000
    ) as client:
        yield client


def key_of(gateway: RunningGateway, limit: int | None = None, **more: Any) -> str:
    async def make() -> str:
        work = gateway.installation
        row, secret = await work.keys.issue(NewKey(name="grants", kind="openrouter", **more))
        revision = row.revision
        if limit is not None:
            _, revision = await work.budgets.set("key", row.id, limit, Window())
        assert await work.await_revision(revision)
        return secret.reveal()

    return gateway.call(make())


def post(gateway: RunningGateway, path: str, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.address}/api/v1{path}", json=body, headers=headers, timeout=10)


def test_a_code_is_exchanged_for_a_key_once(gateway: RunningGateway, client: openrouter.OpenRouter) -> None:
    granted = client.o_auth.create_auth_code(
        callback_url=CALLBACK, code_challenge=challenge_of(VERIFIER), code_challenge_method="S256", limit=3,
        usage_limit_type="weekly", key_label="my app",
    ).data  # fmt: skip
    assert granted.id.startswith("auth_code_")
    assert granted.app_id > 0
    made = client.o_auth.exchange_auth_code_for_api_key(
        code=granted.id, code_verifier=VERIFIER, code_challenge_method="S256"
    )
    own = httpx.get(f"{gateway.address}/api/v1/key", headers={"authorization": f"Bearer {made.key}"}).json()["data"]
    assert (own["limit"], own["limit_reset"]) == (3, "weekly")
    with pytest.raises(errors.ForbiddenResponseError):
        client.o_auth.exchange_auth_code_for_api_key(code=granted.id, code_verifier=VERIFIER)


@pytest.mark.parametrize("spelling", ["padded", "plain base64"])
def test_a_challenge_in_another_base64_is_the_same(
    gateway: RunningGateway, client: openrouter.OpenRouter, spelling: str
) -> None:
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    challenge = (base64.urlsafe_b64encode if spelling == "padded" else base64.b64encode)(digest).decode()
    granted = client.o_auth.create_auth_code(
        callback_url=CALLBACK, code_challenge=challenge, code_challenge_method="S256"
    )
    body = {"code": granted.data.id, "code_verifier": VERIFIER}
    assert post(gateway, "/auth/keys", body).status_code == 200


def test_a_plain_challenge_is_the_verifier_itself(gateway: RunningGateway, client: openrouter.OpenRouter) -> None:
    granted = client.o_auth.create_auth_code(
        callback_url=CALLBACK, code_challenge=VERIFIER, code_challenge_method="plain"
    )
    body = {"code": granted.data.id, "code_verifier": VERIFIER, "code_challenge_method": "plain"}
    assert post(gateway, "/auth/keys", body).status_code == 200


def test_a_wrong_verifier_ends_the_code_and_a_wrong_method_does_not(
    gateway: RunningGateway, client: openrouter.OpenRouter
) -> None:
    def code(**more: Any) -> str:
        return client.o_auth.create_auth_code(callback_url=CALLBACK, **more).data.id

    announced: dict[str, Any] = {"code_challenge": challenge_of(VERIFIER), "code_challenge_method": "S256"}
    one = code(**announced)
    body = {"code": one, "code_verifier": VERIFIER, "code_challenge_method": "plain"}
    assert post(gateway, "/auth/keys", body).status_code == 400
    assert post(gateway, "/auth/keys", {**body, "code_challenge_method": "S256"}).status_code == 200
    for wrong in ({"code_verifier": VERIFIER + "x"}, {}):
        burnt = code(**announced)
        assert post(gateway, "/auth/keys", {"code": burnt, **wrong}).status_code == 403
        assert post(gateway, "/auth/keys", {"code": burnt, "code_verifier": VERIFIER}).status_code == 403
    assert post(gateway, "/auth/keys", {"code": code(), "code_verifier": VERIFIER}).status_code == 403
    assert post(gateway, "/auth/keys", {"code": code()}).status_code == 200
    assert post(gateway, "/auth/keys", {"code": "auth_code_nobodys"}).status_code == 403


def test_a_code_is_too_old_after_ten_minutes(gateway: RunningGateway, client: openrouter.OpenRouter) -> None:
    code = client.o_auth.create_auth_code(callback_url=CALLBACK).data.id
    codes = gateway.installation.key_codes
    usual = codes._clock
    codes._clock = DrivenClock(usual.now_us() + LIFETIME_US + 1)
    try:
        assert post(gateway, "/auth/keys", {"code": code}).status_code == 403
    finally:
        codes._clock = usual


def test_a_key_that_is_limited_itself_gives_no_codes(gateway: RunningGateway) -> None:
    limited = [
        key_of(gateway, limit=5),
        key_of(gateway, expires_at=2**60),
        key_of(gateway, settings={"allowedModels": ["a"]}),
    ]
    for key in limited:
        assert post(gateway, "/auth/keys/code", {"callback_url": CALLBACK}, key).status_code == 403
    management = key_of(gateway, role="management")
    assert post(gateway, "/auth/keys/code", {"callback_url": CALLBACK}, management).status_code == 200
    body = {"callback_url": CALLBACK, "workspace_id": "elsewhere"}
    assert post(gateway, "/auth/keys/code", body, management).status_code == 400
    assert post(gateway, "/auth/keys/code", {"callback_url": CALLBACK}).status_code == 401


@pytest.mark.parametrize(
    "address",
    ["http://app.example/", "ftp://app.example/", "javascript:alert(1)", "//app.example", "https://", "https://a b/",
     "https://user@app.example/", "https://app.example/\r\nx: y", "https://app.example:99999/", "http://localhost.evil/",
     "https://app.example/<script>"],
)  # fmt: skip
def test_nobody_is_sent_to_an_address_that_is_no_program_s(address: str) -> None:
    with pytest.raises(GatewayError, match="callback_url"):
        check_wish(CodeWish(callback_url=address))


@pytest.mark.parametrize(
    "address", ["https://app.example:8443/x?y=z", "http://localhost:3000/", "http://127.0.0.1:1/cb"]
)
def test_https_and_this_machine_are_told_codes(address: str) -> None:
    assert address.startswith(check_wish(CodeWish(callback_url=address)))


def session_of(gateway: RunningGateway) -> str:
    """A person's cookie."""

    async def make() -> str:
        work = gateway.installation
        user = await work.users.create(NewUser(email=f"{work.clock.new_id('u')}@example.org"), Secret("a password"))
        row, session = await work.users.open_session(user, 1)
        assert await work.await_revision(row.revision)
        return f"auth_token={session.reveal()}"

    return gateway.call(make())


def decide(gateway: RunningGateway, wish: dict[str, str], decision: str, **headers: str) -> httpx.Response:
    """What a browser does with the page's buttons."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(
        f"{gateway.address}/auth", params=wish, data={"decision": decision}, headers=sent, follow_redirects=False
    )


WISH = {
    "callback_url": "https://app.example/back?state=7", "code_challenge": challenge_of(VERIFIER),
    "code_challenge_method": "S256", "limit": "2.5", "key_label": "<b>app</b>",
}  # fmt: skip


def test_a_person_allows_a_program_a_key_on_a_page_of_its_own(gateway: RunningGateway) -> None:
    page = httpx.get(f"{gateway.address}/auth", params=WISH)
    assert page.status_code == 200
    assert "app.example" in page.text
    assert "$2.50" in page.text
    assert "<b>" not in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; form-action 'self' https://app.example; frame-ancestors 'none'")
    cookie = session_of(gateway)
    sent = decide(gateway, WISH, "allow", cookie=cookie, sec_fetch_site="same-origin")
    assert sent.status_code == 303
    back = httpx.URL(sent.headers["location"])
    assert (back.host, back.params["state"]) == ("app.example", "7")
    made = post(gateway, "/auth/keys", {"code": back.params["code"], "code_verifier": VERIFIER}).json()
    assert made["user_id"].startswith("usr")
    denied = decide(gateway, WISH, "deny", cookie=cookie)
    assert httpx.URL(denied.headers["location"]).params["error"] == "access_denied"


def test_who_is_not_signed_in_can_sign_in_on_the_page(gateway: RunningGateway) -> None:
    work = gateway.installation
    gateway.call(work.users.create(NewUser(email="eve@example.org"), Secret("four words are enough")))
    asked = decide(gateway, WISH, "allow")
    assert asked.status_code == 401
    assert 'type="password"' in asked.text
    fields = {"decision": "sign-in", "email": "eve@example.org", "password": "four words are enough"}

    def sign_in(**more: str) -> httpx.Response:
        headers = {name.replace("_", "-"): more.pop(name) for name in ("origin",) if name in more}
        return httpx.post(f"{gateway.address}/auth", params=WISH, data={**fields, **more}, headers=headers)

    wrong = sign_in(password="no such words at all")
    assert wrong.status_code == 401
    assert "wrong" in wrong.text
    assert "no such words" not in wrong.text
    assert sign_in(origin="https://app.example").status_code == 403
    done = sign_in()
    assert done.status_code == 303
    assert httpx.URL(done.headers["location"]).path == "/auth"
    cookie = done.headers["set-cookie"].partition(";")[0]
    again = httpx.get(f"{gateway.address}{done.headers['location']}", headers={"cookie": cookie})
    assert "app.example" in again.text
    assert decide(gateway, WISH, "allow", cookie=cookie).status_code == 303


def test_nobody_else_can_allow_it_for_a_person(gateway: RunningGateway) -> None:
    cookie = session_of(gateway)
    for headers in (
        {}, {"cookie": cookie, "sec_fetch_site": "cross-site"}, {"cookie": cookie, "origin": "https://app.example"},
        {"authorization": f"Bearer {KEY}"},
    ):  # fmt: skip
        answer = decide(gateway, WISH, "allow", **headers)
        assert answer.status_code == 401
        assert "location" not in answer.headers
    assert decide(gateway, WISH, "perhaps", cookie=cookie).status_code == 400
    assert httpx.get(f"{gateway.address}/auth", params={**WISH, "callback_url": "javascript:x"}).status_code == 400


def test_without_an_address_the_person_is_shown_the_code(gateway: RunningGateway) -> None:
    wish = {name: value for name, value in WISH.items() if name != "callback_url"}
    shown = decide(gateway, wish, "allow", cookie=session_of(gateway)).text
    code = shown.partition("<code>")[2].partition("</code>")[0]
    assert post(gateway, "/auth/keys", {"code": code, "code_verifier": VERIFIER}).status_code == 200
    assert httpx.get(f"{gateway.address}/auth", params={"key_label": "x"}).status_code == 400
