"""Health through a whole gateway: what is left alone and for how long, who hears of it, and how it is reset."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.keyring import Secret
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator
from raw_client import Answer, ask, chat, request

LIMITED = "one/sim-model#fault=rate_limit,retry_after"
INFERENCE_KEY = "sk-pm-inference-0123456789abcdefghijklmnopqrstuvw"


class Site:
    """A gateway before two OpenAI upstreams; its folder outlives it."""

    def __init__(self, folder: Path, first: RunningSimulator, second: RunningSimulator) -> None:
        self.folder = folder
        self.first = first
        self.second = second
        self.gateway: RunningGateway

    def settings(self, **more: Any) -> dict[str, Any]:
        """The configuration."""
        rows = [
            {"id": "one", "kind": "openai", "base_url": self.first.base_url, "api_key": UPSTREAM_KEY, "provider": "p1"},
            {"id": "two", "kind": "openai", "base_url": self.second.base_url, "api_key": UPSTREAM_KEY,
             "provider": "p2"},
        ]  # fmt: skip
        combos = [
            {"name": "limited", "targets": [f"{LIMITED}=1", "two/sim-model"]},
            {"name": "long", "targets": [f"{LIMITED}=300", "two/sim-model"]},
            {"name": "cut", "targets": ["one/sim-model#fault=cut_mid_stream", "two/sim-model"]},
            {"name": "plain", "targets": ["one/sim-model", "two/sim-model"]},
            {"name": "broken", "targets": ["one/sim-model#fault=http_500", "two/sim-model"]},
            {"name": "rejected", "targets": ["one/sim-model#fault=unauthorized", "two/sim-model"]},
        ]
        return {"connections": rows, "combos": combos, **more}

    def ask(self, model: str, *, stream: bool = False, headers: tuple[str, ...] = ()) -> Answer:
        """A chat request."""
        return ask(self.gateway.port, chat("", *headers, model=model, stream=stream))

    def api(self, method: str, path: str, body: Any = None, key: str | None = KEY) -> Answer:
        """A management request."""
        data = b"" if body is None else msgspec.json.encode(body)
        return ask(self.gateway.port, request(method, path, data, key=key))

    def state(self, name: str) -> Any:
        """What an administrator is told of a connection; None: nothing is amiss."""
        return self.api("GET", "/api/monitoring/health").json()["rateLimitStatus"].get(name)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        first = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        second = stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)))
        found = Site(tmp_path, first, second)
        found.gateway = stack.enter_context(running_gateway(tmp_path, found.settings()))
        yield found


def test_a_limited_account_is_left_alone_as_long_as_it_says_and_then_used_again(site: Site) -> None:
    begun = time.monotonic()
    assert site.ask("limited").status == 200
    while time.monotonic() - begun < 0.8:
        assert site.ask("limited").status == 200
    assert len(site.first.requests) == 1
    wait_until(lambda: site.ask("plain").status == 200 and len(site.first.requests) == 2, "use of the first again")
    assert time.monotonic() - begun >= 1.0
    assert site.state("one") is None


def test_a_stream_that_breaks_after_its_begin_counts_against_the_account(site: Site) -> None:
    assert b"error" in site.ask("cut", stream=True).body
    state = site.state("one")
    assert (state["state"], state["reason"]) == ("unavailable", "upstream_error")
    assert site.ask("plain", stream=True).status == 200
    assert len(site.first.requests) == 1


def test_a_shared_stream_that_goes_well_counts_for_the_account(site: Site) -> None:
    site.api("PATCH", "/api/resilience", {"connectionCooldown": {"apikey": {"baseCooldownMs": 100}}})
    site.ask("broken")
    wait_until(lambda: site.state("one")["state"] == "recovering", "end of the rest")
    assert site.ask("one/sim-model", stream=True, headers=("x-pointsman-share: 1",)).events[-1] == "[DONE]"
    wait_until(lambda: site.state("one") is None, "trust in the account")


def test_a_stream_that_breaks_on_the_ordinary_path_counts_too(site: Site) -> None:
    assert b"error" in site.ask("one/sim-model#fault=cut_mid_stream", stream=True).body
    assert site.state("one")["reason"] == "upstream_error"


def test_others_go_the_ordinary_way_while_one_is_left_alone(site: Site) -> None:
    site.ask("long")
    health = site.gateway.server.health
    find = site.gateway.server.gateway.snapshot.catalogue.resolve
    assert site.gateway.read(lambda: (health.quiet, health.clear(find("two/m")), health.clear(find("one/m")))) == (
        False, True, False
    )  # fmt: skip


def test_a_restart_remembers_what_was_left_alone(site: Site) -> None:
    folder = site.folder / "second"
    with running_gateway(folder, site.settings()) as gateway:
        site.gateway = gateway
        site.ask("long")
        until = site.state("one")["until"]
    with running_gateway(folder, site.settings()) as gateway:
        site.gateway = gateway
        assert site.state("one")["until"] == until
        site.first.log.clear()
        assert site.ask("plain").status == 200
        assert not site.first.requests


def test_another_credential_starts_without_guilt(site: Site) -> None:
    folder = site.folder / "second"
    with running_gateway(folder, site.settings()) as gateway:
        site.gateway = gateway
        site.ask("rejected")
        assert site.state("one")["state"] == "error"
        site.first.log.clear()
    settings = site.settings()
    settings["connections"][0]["api_key"] = "sk-another"
    with running_gateway(folder, settings) as gateway:
        site.gateway = gateway
        site.ask("plain")
        assert len(site.first.requests) == 1


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/resilience/reset"), ("DELETE", "/api/monitoring/health")])
def test_a_reset_frees_it(site: Site, method: str, path: str) -> None:
    site.ask("long")
    answer = site.api(method, path)
    assert (answer.status, answer.json()["success"], answer.json()["resetCount"]) == (200, True, 2)
    assert site.gateway.read(lambda: site.gateway.server.health.quiet)
    assert site.ask("plain").status == 200
    assert len(site.first.requests) == 2


def test_an_account_that_is_out_of_requests_is_spared_before_it_refuses(site: Site) -> None:
    site.gateway.read(
        lambda: site.gateway.server.health.learn(
            site.gateway.server.gateway.snapshot.catalogue.connections["one"],
            {b"x-ratelimit-limit-requests": b"100", b"x-ratelimit-remaining-requests": b"1",
             b"x-ratelimit-reset-requests": b"60s"},
            site.gateway.server.gateway.clock.now_us(),
        )
    )  # fmt: skip
    assert site.ask("plain").status == 200
    assert not site.first.requests
    assert site.state("one")["reason"] == "quota_low"


@pytest.mark.parametrize("stream", [False, True])
def test_limits_are_learned_from_the_heads_of_answers(site: Site, stream: bool) -> None:
    site.ask("one/sim-model", stream=stream)
    [one] = [one for one in site.api("GET", "/api/rate-limits").json()["connections"] if one["connectionId"] == "one"]
    assert one["limits"]["requests"]["limit"] == 10_000
    assert one["limits"]["requests"]["remaining"] == 9999
    assert (one["provider"], one["rateLimitProtection"], one["state"]) == ("p1", True, "active")


@pytest.mark.parametrize("path", ["/api/rate-limits", "/api/rate-limit"])
def test_the_protection_of_an_account_is_turned_off_and_stays_so(site: Site, path: str) -> None:
    answer = site.api("POST", path, {"connectionId": "one", "enabled": False})
    assert (answer.status, answer.json()) == (200, {"success": True, "connectionId": "one", "enabled": False})
    shown = {one["connectionId"]: one["rateLimitProtection"] for one in site.api("GET", path).json()["connections"]}
    assert shown == {"one": False, "two": True}
    wrong = site.api("POST", path, {"connectionId": "none", "enabled": 1})
    assert wrong.status == 400
    assert {detail["field"] for detail in wrong.json()["error"]["details"]} == {"connectionId", "enabled"}


def test_the_settings_are_shown_changed_and_in_effect(site: Site) -> None:
    shown = site.api("GET", "/api/resilience").json()
    assert shown["connectionCooldown"]["oauth"] == {
        "baseCooldownMs": 5000, "useUpstreamRetryHints": False, "maxBackoffSteps": 8
    }  # fmt: skip
    assert shown["providerBreaker"]["apikey"] == {
        "failureThreshold": 12, "degradationThreshold": 7, "resetTimeoutMs": 30_000
    }  # fmt: skip
    assert shown["waitForCooldown"] == {"enabled": False, "maxRetries": 3, "maxRetryWaitSec": 30}
    change = {"connectionCooldown": {"apikey": {"useUpstreamRetryHints": False, "baseCooldownMs": 60_000}}}
    changed = site.api("PATCH", "/api/resilience", change)
    assert changed.status == 200
    assert changed.json()["connectionCooldown"]["apikey"]["maxBackoffSteps"] == 5
    site.ask("broken")
    assert site.state("one")["remainingMs"] > 50_000


WRONG: list[tuple[Any, str]] = [
    ({}, "body"),
    ({"nonsense": 1}, "nonsense"),
    ({"connectionCooldown": {"apikey": {"base_cooldown_ms": 1}}}, "connectionCooldown.apikey.?baseCooldownMs"),
    ({"connectionCooldown": {"apikey": {"baseCooldownMs": -1}}}, "connectionCooldown.apikey.baseCooldownMs"),
    ({"connectionCooldown": {"apikey": {"maxBackoffSteps": 33}}}, "connectionCooldown.apikey.maxBackoffSteps"),
    ({"connectionCooldown": 3}, "connectionCooldown"),
    ({"providerBreaker": {"oauth": {"resetTimeoutMs": 10}}}, "providerBreaker.oauth.resetTimeoutMs"),
    ({"providerBreaker": {"oauth": {"failureThreshold": 5}}}, "providerBreaker.oauth"),
    ({"waitForCooldown": {"maxRetries": 11}}, "waitForCooldown.maxRetries"),
    ({"waitForCooldown": {"enabled": None}}, "waitForCooldown.enabled"),
]


@pytest.mark.parametrize(("body", "field"), WRONG, ids=[field for _, field in WRONG])
def test_a_wrong_setting_is_named(site: Site, body: Any, field: str) -> None:
    answer = site.api("PATCH", "/api/resilience", body)
    assert answer.status == 400
    [detail] = answer.json()["error"]["details"]
    assert detail["field"] == field


def test_the_public_page_says_nothing_of_tenants(site: Site) -> None:
    site.ask("rejected", headers=("x-session-id: secret-session",))
    site.ask("one/private-model#fault=rate_limit,retry_after=9")
    answer = site.api("GET", "/api/monitoring/health", key=None)
    assert answer.status == 200
    for word in ("secret-session", "private-model", "key_", "sim-model", "unauthorized"):
        assert word not in answer.body.decode()
    told = answer.json()
    assert (told["status"], told["activeConnections"], told["sessions"]) == ("degraded", 2, {"activeCount": 2})
    assert set(told["circuitBreakers"]) == {"open", "halfOpen", "closed", "total"}


def test_the_status_is_a_true_one(site: Site) -> None:
    def status() -> str:
        return str(site.api("GET", "/api/monitoring/health", key=None).json()["status"])

    assert status() == "healthy"
    site.ask("limited")
    assert status() == "degraded"
    site.ask("rejected")
    assert status() == "degraded"
    site.ask("two/sim-model#fault=unauthorized")
    assert status() == "unhealthy"
    site.api("POST", "/api/resilience/reset")
    assert status() == "healthy"


def test_sessions_that_clients_name_are_listed(site: Site) -> None:
    for _ in range(2):
        site.ask("two/sim-model", headers=("x-session-id: mine",))
    site.ask("one/sim-model", headers=("session-id: other",))
    site.ask("one/sim-model")
    told = site.api("GET", "/api/sessions").json()
    assert told["count"] == 2
    rows = {one["sessionId"]: (one["requestCount"], one["connectionId"]) for one in told["sessions"]}
    assert rows == {"ext:mine": (2, "two"), "ext:other": (1, "one")}
    assert list(told["byApiKey"].values()) == [2]


def test_a_planned_conversation_is_a_session_without_a_name(site: Site) -> None:
    for _ in range(2):
        site.ask("plain")
    told = site.api("GET", "/api/sessions").json()
    assert [one["requestCount"] for one in told["sessions"]] == [2]


PROTECTED = [
    ("GET", "/api/resilience"), ("PATCH", "/api/resilience"), ("POST", "/api/resilience/reset"),
    ("DELETE", "/api/monitoring/health"), ("GET", "/api/rate-limits"), ("POST", "/api/rate-limits"),
    ("GET", "/api/rate-limit"), ("POST", "/api/rate-limit"), ("GET", "/api/sessions"),
]  # fmt: skip


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with a key for inference beside the administrator's."""
    with running_gateway(tmp_path_factory.mktemp("guarded"), {}) as gateway:
        keys = gateway.installation.keys
        gateway.call(keys.create("app", "inference", Secret(INFERENCE_KEY)))
        wait_until(lambda: gateway.read(lambda: len(gateway.server.gateway.snapshot.keys) == 2), "second key")
        yield gateway


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize(("key", "status"), [(None, 401), (INFERENCE_KEY, 403)])
def test_only_administrators_come_in(
    guarded: RunningGateway, method: str, path: str, key: str | None, status: int
) -> None:
    answer = ask(guarded.port, request(method, path, b"{}", key=key))
    assert answer.status == status
    assert set(answer.json()) == {"error", "requestId"}
