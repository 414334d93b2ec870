"""What OmniRoute's request headers do: the account, the budget, the names of conversations and their number."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.clock import SystemClock
from pointsman.identity.keys import NewKey
from pointsman.keyring import Secret
from pointsman.testing import OpenAIChat, RunningSimulator, running_simulator

BODY: Any = {"messages": [{"role": "user", "content": "hello there"}]}
COMBOS: Any = [
    {"name": "smart", "targets": ["one/m", "two/m"]},
    {"name": "least", "targets": ["one/m#pace_ms=200,tokens=5", "two/m"], "strategy": "least-used"},
    {"name": "choice", "targets": ["one/m", "two/m"], "strategy": "auto", "settings": {"budgetCap": 0.0}},
]


class Site:
    """A gateway before two accounts."""

    def __init__(self, upstreams: list[RunningSimulator], gateway: RunningGateway) -> None:
        self.upstreams = upstreams
        self.gateway = gateway

    def ask(self, model: str, **headers: str) -> httpx.Response:
        """One request; underscores in the headers' names are hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"authorization": f"Bearer {KEY}", **named}
        url = f"{self.gateway.address}/v1/chat/completions"
        return httpx.post(url, json={"model": model, **BODY}, headers=headers, timeout=20)

    def counts(self) -> list[int]:
        """How many calls each account got."""
        return [len(upstream.requests) for upstream in self.upstreams]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        upstreams = [stack.enter_context(running_simulator(OpenAIChat(api_key=UPSTREAM_KEY))) for _ in range(2)]
        rows = [
            {"id": name, "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
            for name, upstream in zip(("one", "two"), upstreams, strict=True)
        ]
        prices = [{"model": f"{name}/m", "prompt": price, "completion": price} for name, price in
                  (("one", 5.0), ("two", 1.0))]  # fmt: skip
        settings = {"connections": rows, "combos": COMBOS, "limits": {"key_sessions": 2}, "facts": prices}
        yield Site(upstreams, stack.enter_context(running_gateway(tmp_path, settings)))


def test_a_request_can_name_its_account(site: Site) -> None:
    assert site.ask("smart", x_omniroute_connection="two").status_code == 200
    assert site.ask("one/m", x_omniroute_connection="one").status_code == 200
    assert site.counts() == [1, 1]


def test_an_account_that_the_model_has_not_is_an_error_that_names_it(site: Site) -> None:
    for model in ("smart", "one/m"):
        answer = site.ask(model, x_omniroute_connection="three")
        assert answer.status_code == 404
        assert "not at the connection that the request names, three" in answer.json()["error"]["message"]
    assert site.counts() == [0, 0]


def test_a_strict_budget_that_no_target_keeps_is_refused_with_402(site: Site) -> None:
    answer = site.ask("smart", x_omniroute_budget="0.0000001", x_omniroute_budget_fallback="strict")
    assert answer.status_code == 402
    assert site.ask("smart", x_omniroute_budget="0.0000001").status_code == 200
    assert site.ask("smart", x_omniroute_budget="much", x_omniroute_budget_fallback="strict").status_code == 200


def test_beyond_its_budget_an_automatic_combo_takes_the_cheapest(site: Site) -> None:
    for _ in range(3):
        assert site.ask("choice").status_code == 200
    assert site.counts() == [0, 3]


def test_the_least_used_account_is_the_one_with_the_fewest_calls_under_way(site: Site) -> None:
    with openai.OpenAI(base_url=f"{site.gateway.address}/v1", api_key=KEY, timeout=20) as client:
        stream = client.chat.completions.create(model="one/m#pace_ms=200,tokens=5", stream=True, **BODY)
        next(iter(stream))
        for _ in range(2):
            assert site.ask("least").status_code == 200
    assert site.counts() == [1, 2]


def restricted(site: Site, **settings: Any) -> str:
    """A key that may not use everything."""
    secret = Secret("sk-pm-restricted-0123456789abcdefghijklmnop-" + "".join(sorted(settings)).lower())
    site.gateway.call(site.gateway.installation.keys.issue(NewKey(name="few", settings=settings), secret))
    headers = {"authorization": f"Bearer {secret.reveal()}"}
    url = f"{site.gateway.address}/v1/models"
    wait_until(lambda: httpx.get(url, headers=headers).status_code == 200, "key in force")
    return f"Bearer {secret.reveal()}"


def test_a_key_reaches_only_the_models_that_it_may_use(site: Site) -> None:
    key = restricted(site, allowedModels=["two/*", "choice"])
    refused = site.ask("one/m", authorization=key)
    assert refused.status_code == 403
    assert "the key may not use this model" in refused.json()["error"]["message"]
    assert site.ask("smart", authorization=key).status_code == 200  # by those of its targets that are allowed
    assert site.counts() == [0, 1]
    assert site.ask("choice", authorization=key).status_code == 200  # a name that is allowed, whatever it stands for
    assert site.ask("one/m").status_code == 200


def test_a_fallback_is_no_way_around_a_keys_restriction(site: Site) -> None:
    key = restricted(site, allowedModels=["two/*"])
    body = {"model": "two/m#fault=http_500", "models": ["one/m"], **BODY}
    url = f"{site.gateway.address}/v1/chat/completions"
    assert httpx.post(url, json=body, headers={"authorization": key}, timeout=20).status_code >= 500
    assert site.counts() == [0, 1]


def test_a_key_reaches_only_the_accounts_that_it_may_use(site: Site) -> None:
    key = restricted(site, allowedConnections=["two"])
    assert site.ask("one/m", authorization=key).status_code == 403
    assert site.ask("smart", authorization=key).status_code == 200
    assert site.ask("smart", authorization=key, x_omniroute_connection="one").status_code in (403, 404)
    assert site.counts() == [0, 1]


@pytest.mark.parametrize("name", ["x-session-id", "session-id", "x-omniroute-session"])
def test_a_conversation_that_the_client_names_is_named_in_the_answer(site: Site, name: str) -> None:
    answer = site.ask("one/m", **{name: "mine"})
    assert answer.headers["x-omniroute-session-id"] == "ext:mine"
    assert "x-omniroute-session-id" not in site.ask("one/m").headers


def test_a_planned_conversation_is_named_by_what_it_begins_with(site: Site) -> None:
    first, second = site.ask("smart"), site.ask("smart")
    assert len(first.headers["x-omniroute-session-id"]) == 16
    assert first.headers["x-omniroute-session-id"] == second.headers["x-omniroute-session-id"]


def test_a_key_has_no_more_conversations_at_a_time_than_allowed(site: Site) -> None:
    for name in ("a", "b", "a"):
        assert site.ask("one/m", x_session_id=name).status_code == 200
    refused = site.ask("one/m", x_session_id="c")
    assert refused.status_code == 429
    assert "SESSION_LIMIT_EXCEEDED: 2 sessions of this key are active, and 2 are allowed" in refused.text
    assert 0 < int(refused.headers["retry-after"]) <= 1800
    assert site.ask("one/m", x_session_id="b").status_code == 200
    assert site.counts() == [4, 0]


class SetClock(SystemClock):
    """The machine's clock, some time later; the time of day was also set by somebody. Both in seconds."""

    later = set_by = 0

    def monotonic(self) -> float:
        """Seconds."""
        return super().monotonic() + self.later

    def now_us(self) -> int:
        """Microseconds."""
        return super().now_us() + (self.later + self.set_by) * 1_000_000


def test_conversations_are_over_after_half_an_hour_whoever_sets_the_clock(site: Site) -> None:
    gateway, clock = site.gateway.server.gateway, SetClock()
    site.gateway.read(lambda: setattr(gateway, "clock", clock))
    for name in ("a", "b"):
        assert site.ask("one/m", x_session_id=name).status_code == 200
    clock.set_by = -86_400
    assert site.ask("one/m", x_session_id="c").status_code == 429
    clock.later = 1801
    assert site.ask("one/m", x_session_id="c").status_code == 200
