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
from gateway import RunningGateway, running_gateway
from pointsman.canonical.windows import Window
from pointsman.errors import GatewayError
from pointsman.identity.keys import NewKey
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
