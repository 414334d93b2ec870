"""The clock is set by a day, forwards or back, while calls go through: nothing is cut, lost, given away or held up."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import UPSTREAM_KEY, RunningGateway, limited_key, running_gateway, wait_until
from pointsman.canonical.limits import Limits
from pointsman.clock import SystemClock
from pointsman.testing import RunningSimulator
from raw_client import Connection, ask, chat, request

DAY_S = 86_400
SetClock = Callable[[float], None]
both_ways = pytest.mark.parametrize("seconds", [DAY_S, -DAY_S], ids=["forwards", "back"])


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Sets the time of day; the time that only durations are measured with goes on."""
    set_by_us = 0

    def now_us(_: SystemClock) -> int:
        return time.time_ns() // 1000 + set_by_us

    def set_by(seconds: float) -> None:
        nonlocal set_by_us
        set_by_us += round(seconds * 1e6)

    monkeypatch.setattr(SystemClock, "now_us", now_us)
    return set_by


def stored(gateway: RunningGateway) -> list[str]:
    """The requests in the database, as often as they are there."""
    body = ask(gateway.port, request("GET", "/v1/request-logs?limit=100")).json()
    return [entry["request_id"] for entry in body["logs"]]


@both_ways
def test_calls_in_flight_are_served_whole_and_recorded_once_with_the_time_they_took(
    simulator: RunningSimulator, tmp_path: Path, set_clock: SetClock, seconds: float
) -> None:
    connection = {"id": "sim", "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY}
    with (
        running_gateway(tmp_path, {"connections": [connection]}) as gateway,
        Connection(gateway.port) as idle,
        Connection(gateway.port) as stream,
        Connection(gateway.port) as buffered,
    ):
        answers = [idle.ask(chat())]
        simulator.log.clear()
        stream.send(chat("tokens=60,pace_ms=20", stream=True))
        buffered.send(chat("first_token_ms=1200"))
        simulator.wait_for_requests(2)
        stream.peek(b"data: ")
        set_clock(seconds)
        answers += [stream.answer(), buffered.answer(), idle.ask(chat())]
        assert [answer.status for answer in answers] == [200] * 4
        assert answers[1].events[-1] == "[DONE]"
        ids = sorted(answer.request_id for answer in answers)
        wait_until(lambda: sorted(stored(gateway)) == ids, "every record in the database, once")
        for answer in answers:
            record = gateway.journal.the(answer.request_id)
            assert record.outcome.value == "success"
            assert 0 < record.duration_us < 60_000_000


@both_ways
def test_a_limit_counts_a_minute_whatever_the_clock_says(
    gateway: RunningGateway, set_clock: SetClock, seconds: float
) -> None:
    key = limited_key(gateway, Limits(requests_per_minute=1))
    assert ask(gateway.port, chat(key=key)).status == 200
    set_clock(seconds)
    refused = ask(gateway.port, chat(key=key))
    assert refused.status == 429, "set forwards, it gives another call away"
    assert 0 < int(refused.headers["retry-after"]) <= 61


@pytest.mark.parametrize(
    "held",
    [
        {"connection_cooldown": {"apikey": {"base_cooldown_ms": 1000}}},
        {
            "connection_cooldown": {"apikey": {"base_cooldown_ms": 0}},
            "provider_breaker": {
                "apikey": {"failure_threshold": 1, "degradation_threshold": 1, "reset_timeout_ms": 1000}
            },
        },
    ],
    ids=["account", "provider"],
)
def test_an_account_that_failed_is_left_alone_no_longer_because_the_clock_was_set_back(
    simulator: RunningSimulator, tmp_path: Path, set_clock: SetClock, held: dict[str, Any]
) -> None:
    settings = {
        "connections": [
            {"id": name, "kind": "openai", "base_url": simulator.base_url, "api_key": UPSTREAM_KEY, "provider": name}
            for name in ("one", "two")
        ],
        "combos": [
            {"name": "broken", "targets": ["one/m#fault=http_500", "two/m"]},
            {"name": "sound", "targets": ["one/m", "two/m"]},
        ],
        "resilience": held,
    }

    def served_by(model: str) -> str | None:
        return gateway.journal.the(ask(gateway.port, chat(model=model)).request_id).connection_id

    with running_gateway(tmp_path, settings) as gateway:
        assert [served_by("broken"), served_by("sound")] == ["two", "two"]
        set_clock(-DAY_S)
        wait_until(lambda: served_by("sound") == "one", "next try of the first", 5)
