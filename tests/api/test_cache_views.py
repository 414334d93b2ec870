"""The response cache's figures and its clearing over HTTP, seen by requests."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.testing import OpenAIChat, running_simulator
from raw_client import ask, chat

ON = "x-pointsman-cache: on"


class Place:
    """A gateway whose cache is on for everybody."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.http = httpx.Client(base_url=gateway.address, headers={"authorization": f"Bearer {KEY}"}, timeout=10)

    def outcome(self, text: str, model: str = "sim/sim-model") -> str:
        """What the cache did for a question."""
        return ask(self.gateway.port, chat(text=text, model=model)).headers["x-pointsman-cache"]

    def clear(self, **query: Any) -> Any:
        """What a clearing answers."""
        answer = self.http.delete("/api/cache", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as simulator:
        row = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
        settings = {"connections": [row], "cache": {"mode": "on"}}
        with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as gateway:
            found = Place(gateway)
            with found.http:
                yield found


def test_figures_count_what_the_records_say(place: Place) -> None:
    place.http.delete("/api/cache/stats")
    assert [place.outcome("figures") for _ in range(3)] == ["miss", "hit", "hit"]
    memory = place.http.get("/api/cache/stats").json()
    assert (memory["hits"], memory["misses"], memory["hitRate"]) == (2, 1, "66.7")
    assert memory["bytes"] > 0

    def projected() -> Any:
        shown = place.http.get("/api/cache", params={"trendHours": 2}).json()
        return shown if shown["semanticCache"]["hits"] >= 2 and shown["semanticCache"]["dbEntries"] else None

    shown = wait_until(projected, "figures")
    assert shown["semanticCache"]["tokensSaved"] > 0
    assert sum(hour["hits"] for hour in shown["trend"]) == shown["semanticCache"]["hits"]
    assert shown["config"] == {"semanticCacheEnabled": False, "mode": "on"}


def test_clearing_everything_empties_memory_and_database(place: Place) -> None:
    assert [place.outcome("all") for _ in range(2)] == ["miss", "hit"]
    assert place.clear()["scope"] == "all"
    assert place.outcome("all") == "miss"


def test_a_model_alone_is_cleared(place: Place) -> None:
    for model in ("sim/one", "sim/two"):
        assert [place.outcome("by model", model) for _ in range(2)] == ["miss", "hit"]
    assert place.clear(model="sim/one") == {"ok": True, "invalidated": True, "scope": "model"}
    assert place.outcome("by model", "sim/one") == "miss"
    assert place.outcome("by model", "sim/two") == "hit"


def test_an_entry_alone_is_cleared(place: Place) -> None:
    first = ask(place.gateway.port, chat(text="by entry"))
    assert place.outcome("by entry") == "hit"
    place.clear(signature=first.headers["x-pointsman-cache-key"])
    assert place.outcome("by entry") == "miss"


def test_what_is_older_is_cleared(place: Place) -> None:
    assert [place.outcome("stale") for _ in range(2)] == ["miss", "hit"]
    place.clear(staleMs=60_000)
    assert place.outcome("stale") == "hit"
    place.clear(staleMs=0)
    assert place.outcome("stale") == "miss"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"model": "m", "staleMs": 1}, "model"),
        ({"signature": "zz"}, "signature"),
        ({"staleMs": "-1"}, "staleMs"),
        ({"model": ""}, "model"),
    ],
)
def test_a_clearing_that_is_not_clear_is_refused(place: Place, query: dict[str, Any], field: str) -> None:
    answer = place.http.delete("/api/cache", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == field


@pytest.mark.parametrize("path", ["/api/cache", "/api/cache/stats"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_strangers_are_kept_out(place: Place, method: str, path: str) -> None:
    assert httpx.request(method, place.gateway.address + path).status_code == 401


def test_hardcarrx_and_omniroute_clients_are_told_in_their_words(place: Place) -> None:
    body = {"model": "sim-model", "messages": [{"role": "user", "content": "theirs"}]}
    told = [place.http.post("/hardcarrx/v1/chat/completions", json={**body, "provider": "sim"}) for _ in range(2)]
    assert [answer.headers.get("x-cache-status") for answer in told] == ["MISS", "HIT"], told[0].text
    body["model"] = "sim/sim-model"
    told = [place.http.post("/omniroute/api/v1/chat/completions", json=body) for _ in range(2)]
    assert told[1].headers["x-omniroute-cache"] == "HIT"
    assert told[1].headers["x-omniroute-cache-hit"] == "true"
