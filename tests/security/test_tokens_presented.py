"""Signed tokens that are none, shown to a running gateway; and what is left when the key of everything is gone."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.errors import ConfigError
from pointsman.identity.users import NewUser
from pointsman.testing import OpenAIChat, running_simulator

SHARED = "a secret that another program shares with this gateway, long enough"
ELSEWHERE = "https://issuer.example.org"
SAID = "an unmistakable sentence of a kept response"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that believes another program's tokens, too."""
    settings = {"issuers": [{"issuer": ELSEWHERE, "audience": "api", "secret": SHARED}]}
    with running_gateway(tmp_path_factory.mktemp("tokens"), settings) as started:
        yield started


@pytest.fixture(scope="module")
def own(gateway: RunningGateway) -> str:
    """A good token of our own, of somebody who is no administrator."""
    work = gateway.installation

    async def make() -> str:
        person = await work.users.create(NewUser(email="ada@example.org"))
        token, _ = work.tokens.issue(person, work.clock.now_us())
        assert await work.await_revision(await work.configuration.revision())
        return token.reveal()

    return gateway.call(make())


def part(value: Any) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def read(text: str) -> Any:
    """What a part says."""
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def signed(head: dict[str, Any], claims: dict[str, Any], secret: str = SHARED, digest: str = "sha256") -> str:
    """A token signed with HMAC."""
    text = f"{part(head)}.{part(claims)}"
    mac = hmac.digest(secret.encode(), text.encode(), digest)
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def status(gateway: RunningGateway, token: str, path: str = "/v1/request-logs") -> int:
    """What the gateway says to it."""
    return httpx.get(gateway.address + path, headers={"authorization": f"Bearer {token}"}, timeout=10).status_code


def claims(**change: Any) -> dict[str, Any]:
    """Claims that hold, with a change; None takes one away."""
    now = int(time.time())
    found = {"iss": ELSEWHERE, "aud": "api", "sub": "42", "iat": now, "exp": now + 600, **change}
    return {name: value for name, value in found.items() if value is not None}


def test_good_tokens_are_believed(gateway: RunningGateway, own: str) -> None:
    assert status(gateway, own) == 200
    assert status(gateway, signed({"alg": "HS256"}, claims())) == 200


@pytest.mark.parametrize(
    "head",
    [
        {"alg": "none"}, {"alg": "None"}, {"alg": ""}, {}, {"alg": "RS256"}, {"alg": "ES256"}, {"alg": "HS384"},
        {"alg": ["HS256"]}, {"alg": "HS256", "crit": ["b64"], "b64": False}, {"alg": "HS256", "b64": False},
    ],
    ids=str,
)  # fmt: skip
def test_the_token_does_not_choose_how_it_is_checked(gateway: RunningGateway, head: dict[str, Any]) -> None:
    assert status(gateway, signed(head, claims())) == 401
    assert status(gateway, f"{part(head)}.{part(claims())}.") == 401


@pytest.mark.parametrize(
    "name",
    ["../../../../dev/null", "x' UNION SELECT 'a", "http://127.0.0.1:9/keys", "/proc/self/environ", "\x00", "a" * 3000],
)
def test_the_token_does_not_choose_its_key(gateway: RunningGateway, name: str) -> None:
    jwk = {"kty": "oct", "k": base64.urlsafe_b64encode(b"mine").rstrip(b"=").decode(), "kid": name}
    for head in ({"kid": name}, {"kid": name, "jku": name}, {"x5u": name}, {"jwk": jwk}, {"x5c": [name], "kid": name}):
        for secret in ("", "mine", name):
            assert status(gateway, signed({"alg": "HS256", **head}, claims(), secret)) == 401


@pytest.mark.parametrize(
    "change",
    [
        {"exp": int(time.time()) - 3600}, {"exp": None}, {"nbf": int(time.time()) + 3600},
        {"iat": int(time.time()) + 3600}, {"aud": "another"}, {"aud": None}, {"iss": "https://evil.example"},
        {"iss": None}, {"iss": "pointsman"}, {"sub": None}, {"sub": ""}, {"exp": "never"}, {"exp": 1e300},
    ],
    ids=[
        "over", "without an end", "not yet", "from the future", "for another", "for nobody", "a stranger's",
        "nobody's", "our own", "without a subject", "an empty subject", "a word for an end", "hardly an end",
    ],
)  # fmt: skip
def test_claims_that_do_not_hold(gateway: RunningGateway, change: dict[str, Any]) -> None:
    assert status(gateway, signed({"alg": "HS256"}, claims(**change))) == 401


def test_a_token_that_was_believed_makes_none_like_it_believed(gateway: RunningGateway, own: str) -> None:
    """What is remembered of a good token is found by all of it, not by a beginning, and not by what it says."""
    assert status(gateway, own) == 200
    head, body, mac = own.split(".")
    said = read(body)
    for told in ({**said, "role": "admin"}, {**said, "account": "default"}, {**said, "sub": "usr_other"}):
        assert status(gateway, f"{head}.{part(told)}.{mac}") == 401
    flipped = "A" if mac[10] != "A" else "B"
    for other in (mac[:-4], mac[:10] + flipped + mac[11:], "", mac + "AAAA"):
        assert status(gateway, f"{head}.{body}.{other}") == 401
    assert status(gateway, f"{part({**read(head), 'kid': 'x'})}.{body}.{mac}") == 401
    for guess in ("", "secret", "pointsman", hashlib.sha256(b"").hexdigest()):
        assert status(gateway, signed({"alg": "HS256"}, {**said, "role": "admin"}, guess)) == 401


def test_a_persons_token_is_no_administrators(gateway: RunningGateway, own: str) -> None:
    wanted = signed({"alg": "HS256"}, claims(role="admin", account="default", scope="admin manage"))
    for token in (own, wanted):
        for path in ("/api/providers", "/api/pointsman/budgets", "/api/v1/presets"):
            assert status(gateway, token, path) in (401, 403)


def test_without_the_master_key_nothing_that_was_stored_is_readable(tmp_path: Path) -> None:
    """Who destroys the key destroys what it sealed: kept responses, providers' keys, people's keys."""
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY, strict=False)) as upstream:
        row = {"provider": "openai-compatible", "name": "kept", "apiKey": UPSTREAM_KEY, "url": upstream.base_url,
               "allowPrivate": True}  # fmt: skip
        settings = {"responses": {"keep": True}}
        headers = {"authorization": f"Bearer {KEY}"}
        with (
            running_gateway(tmp_path, settings) as gateway,
            httpx.Client(base_url=gateway.address, headers=headers, timeout=20) as client,
        ):
            identifier = client.post("/api/providers", json=row).json()["connection"]["id"]
            made = client.post("/v1/responses", json={"model": f"{identifier}/m", "input": SAID, "store": True})
            assert made.status_code == 200, made.text
            path = f"/v1/responses/{made.json()['id']}"
            assert SAID in client.get(f"{path}/input_items").text
        stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert SAID.encode() not in stored
        assert UPSTREAM_KEY.encode() not in stored
        (tmp_path / "secret.key").unlink()
        with pytest.raises(ConfigError), running_gateway(tmp_path, settings):
            pass  # another key is not this database's: nothing of it is served, and no new key takes its place
