"""Guessing credentials: refusals tell nothing, neither in words nor in time, and who guesses has to wait."""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import httpx
import pytest

from driven_clock import DrivenClock
from gateway import KEY, RunningGateway, running_gateway
from pointsman.errors import GatewayError
from pointsman.identity.credentials import new_secret
from pointsman.identity.guessing import MAX_SOURCES, Guessing
from pointsman.identity.keys import KeyChange, NewKey
from pointsman.keyring import MasterKey
from pointsman.policy.authentication import authenticate

UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with nothing behind it."""
    with running_gateway(tmp_path_factory.mktemp("guessing"), {"identity": {"sign_in_failures": 5}}) as started:
        yield started


@pytest.fixture(scope="module")
def refused(gateway: RunningGateway) -> dict[str, str]:
    """Keys that nobody may use, by why."""
    work = gateway.installation

    async def make() -> dict[str, str]:
        found = {"unknown": new_secret("plain", MasterKey(bytes(32))).reveal()}
        for name in ("revoked", "expired", "disabled"):
            row, secret = await work.keys.issue(NewKey(name=name, expires_at=1 if name == "expired" else None))
            found[name] = secret.reveal()
            if name == "revoked":
                await work.keys.revoke(row.id)
            if name == "disabled":
                await work.keys.change(row.id, KeyChange(disabled=True))
        assert await work.await_revision(await work.configuration.revision())
        return found

    return gateway.call(make())


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat", "/v1/request-logs"]
)
def test_unknown_revoked_expired_and_disabled_keys_are_refused_in_the_same_words(
    gateway: RunningGateway, refused: dict[str, str], path: str
) -> None:
    method = "GET" if path.endswith("logs") else "POST"
    answers = set()
    for secret in refused.values():
        answer = httpx.request(method, gateway.address + path, headers={"authorization": f"Bearer {secret}"})
        head = {
            name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id", "request-id")
        }
        text = answer.text.replace(answer.headers.get("x-request-id", "?"), "ID")
        answers.add((answer.status_code, text, str(head)))
    assert len(answers) == 1
    assert answers.pop()[0] == 401


def steps(gateway: RunningGateway, secret: str) -> list[str]:
    """The functions that a look at a credential goes through, those of the interpreter too, in their order."""
    found: list[str] = []

    def note(frame: FrameType, event: str, what: Any) -> None:
        found.append(getattr(what, "__name__", frame.f_code.co_name))

    def look() -> None:
        headers, keys = {b"authorization": b"Bearer " + secret.encode()}, gateway.server.gateway.snapshot.keys
        now = gateway.installation.clock.now_us()
        sys.setprofile(note)
        try:
            authenticate(headers, keys, now, "/v1/chat/completions")
        except GatewayError:
            pass
        finally:
            sys.setprofile(None)

    gateway.read(look)
    return found


def test_no_refusal_takes_another_way_than_the_others(gateway: RunningGateway, refused: dict[str, str]) -> None:
    ways = {name: steps(gateway, secret) for name, secret in refused.items()}
    assert len(ways["unknown"]) > 5
    # A key that has expired is still known, and found some steps sooner: who shows one has it already.
    assert set(ways.pop("expired")) <= set(ways["unknown"])
    assert ways == dict.fromkeys(ways, ways["unknown"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/auth/login", {"password": "wrong"}),
        ("/api/auth/login", {"password": "wrong", "email": "a@example.org"}),
        ("/api/pointsman/auth/token", {"password": "wrong", "email": "a@example.org"}),
        ("/api/cli/connect", {"password": "wrong"}),
    ],
)
def test_who_guesses_passwords_has_to_wait(
    tmp_path_factory: pytest.TempPathFactory, path: str, body: dict[str, str]
) -> None:
    with running_gateway(tmp_path_factory.mktemp("wait"), {"identity": {"sign_in_failures": 5}}) as gateway:
        key = {"authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=gateway.address, timeout=30) as client:
            right = {"password": "four words are enough"}
            assert client.post("/api/settings/require-login", json=right, headers=key).status_code == 200
            statuses = [client.post(path, json=body).status_code for _ in range(8)]
            assert statuses[:5].count(429) == 0
            assert statuses[-1] == 429
            late = client.post(path, json={**body, **right})
            assert late.status_code == 429, "also the right one waits"
            assert int(late.headers["retry-after"]) > 0


def test_who_guesses_keys_has_to_wait_and_nobody_else(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {
        "server": {"trusted_proxies": ["127.0.0.1"]},
        "identity": {"wrong_credentials": 20, "wrong_credentials_window_seconds": 600},
    }
    with (
        running_gateway(tmp_path_factory.mktemp("keys"), settings) as gateway,
        httpx.Client(base_url=gateway.address, timeout=20) as client,
    ):
        right = {"authorization": f"Bearer {KEY}"}
        paths = ("/v1/chat/completions", "/v1/messages", "/api/v1/keys", "/api/providers")
        for number in range(20):
            shown = [{"authorization": f"Bearer guess{number}"}, {"x-api-key": f"guess{number}"}][number % 2]
            answer = client.post(paths[number % 4], json={}, headers={**shown, "x-forwarded-for": "203.0.113.7"})
            assert answer.status_code == 401
        for headers in ({"authorization": "Bearer guess"}, right, {}):
            late = client.get("/v1/request-logs", headers={**headers, "x-forwarded-for": "203.0.113.7"})
            assert (late.status_code, int(late.headers["retry-after"]) > 0) == (429, True)
        for near in ("203.0.113.8", "2001:db8::7"):
            assert client.get("/v1/request-logs", headers={**right, "x-forwarded-for": near}).status_code == 200
        for _ in range(30):
            assert client.get("/v1/request-logs", headers={"authorization": "Bearer guess"}).status_code == 401
        for _ in range(30):  # who shows nothing guesses nothing
            assert client.get("/v1/request-logs", headers={"x-forwarded-for": "203.0.113.9"}).status_code == 401


# What tells a right credential from a wrong one without 401, and how a wrong one is answered there.
TELLING = {
    "the socket's description": ("/v1/ws?handshake=1", {}, 403),
    "the socket": ("/v1/ws", UPGRADE, 403),
    "the socket, with the key in its query": ("/v1/ws?api_key={key}", UPGRADE, 403),
    "the status of a sign-in": ("/api/auth/status", {}, 200),
    "health as administrators are shown it": ("/api/monitoring/health", {}, 200),
}


def test_who_guesses_where_no_401_tells_it_has_to_wait_as_well(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {
        "server": {"trusted_proxies": ["127.0.0.1"]},
        "identity": {"wrong_credentials": 20, "wrong_credentials_window_seconds": 600},
    }

    def ask_with(key: str | None, path: str, lines: dict[str, str], peer: str) -> int:
        shown = {} if key is None or "{key}" in path else {"authorization": f"Bearer {key}"}
        url = gateway.address + path.format(key=key)
        return httpx.get(url, headers={**lines, **shown, "x-forwarded-for": peer}).status_code

    with running_gateway(tmp_path_factory.mktemp("telling"), settings) as gateway:
        for number, (path, lines, status) in enumerate(TELLING.values()):
            peer = f"203.0.113.{10 + number}"
            for guess in range(20):
                assert ask_with(f"guess{guess}", path, lines, peer) == status
            assert ask_with(KEY, path, lines, peer) == 429, "also the right one waits"
        for path in ("/api/auth/status", "/api/monitoring/health"):
            for key in (KEY, None):
                for _ in range(30):
                    assert ask_with(key, path, {}, "203.0.113.9") == 200


def test_a_request_is_one_guess_at_most(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"server": {"trusted_proxies": ["127.0.0.1"]}, "identity": {"wrong_credentials": 20}}
    with running_gateway(tmp_path_factory.mktemp("once"), settings) as gateway:
        lines = {"authorization": "Bearer guess", "x-forwarded-for": "203.0.113.7"}
        wrong = {"email": "a@example.org", "password": "wrong"}
        answer = httpx.post(f"{gateway.address}/api/pointsman/auth/token", json=wrong, headers=lines)
        assert answer.status_code == 401
        counts = gateway.read(lambda: dict(gateway.server.edge.guessing._counts))
        assert [count for count, _ in counts.values()] == [1]


def test_the_wait_ends_and_what_is_remembered_is_bounded() -> None:
    clock = DrivenClock()
    guessing = Guessing(clock, 3, 60.0)
    for _ in range(2):
        guessing.note("203.0.113.7")
    clock.advance(61)
    guessing.note("203.0.113.7")
    assert not guessing.locked
    for _ in range(2):
        guessing.note("203.0.113.7")
    assert (guessing.locked, guessing.wait_seconds("203.0.113.7")) == (True, 60)
    assert guessing.wait_seconds("203.0.113.8") == 0
    clock.advance(61)
    assert guessing.wait_seconds("203.0.113.7") == 0
    assert not guessing.locked
    for number in range(MAX_SOURCES + 50):
        guessing.note(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1")
    assert len(guessing._counts) <= MAX_SOURCES
    for _ in range(5):
        guessing.note("127.0.0.1")
        guessing.note("")
    assert guessing.wait_seconds("127.0.0.1") == 0


def test_codes_are_long_drawn_anew_and_used_once(gateway: RunningGateway) -> None:
    """What is guessed is guessed among 2**256: a code, a key, a session."""
    wish = {"callback_url": "https://program.example/back"}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=gateway.address, timeout=20) as client:
        codes = [
            client.post("/api/v1/auth/keys/code", json=wish, headers=headers).json()["data"]["id"] for _ in range(5)
        ]
        assert len(set(codes)) == 5
        assert all(len(code.removeprefix("auth_code_")) >= 43 for code in codes)
        for guess in (codes[0][:-1], codes[0] + "A", codes[0].upper(), "", "%", "auth_code_%", codes[0] + "\0"):
            assert client.post("/api/v1/auth/keys", json={"code": guess}).status_code in (400, 403)
        assert client.post("/api/v1/auth/keys", json={"code": codes[0]}).status_code == 200
        assert client.post("/api/v1/auth/keys", json={"code": codes[0]}).status_code == 403


def test_what_is_drawn_has_as_many_bits_as_nobody_guesses() -> None:
    master = MasterKey(bytes(32))
    least = {"plain": 43, "openrouter": 64, "hardcarrx": 43, "crosscompute": 43, "crosscompute_agent": 43,
             "omniroute": 32, "omniroute_cli": 43, "session": 43}  # fmt: skip
    for kind, length in least.items():
        drawn = {new_secret(kind, master).reveal() for _ in range(50)}  # type: ignore[arg-type]
        assert len(drawn) == 50
        shared = len(_common([*drawn]))
        assert min(len(text) for text in drawn) - shared >= length - 2, kind


def _common(texts: list[str]) -> str:
    first, last = min(texts), max(texts)
    for place, letter in enumerate(first):
        if letter != last[place]:
            return first[:place]
    return first
