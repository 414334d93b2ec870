"""What one worker finds out, the others know, too."""

from pathlib import Path

import msgspec

from gateway import KEY, UPSTREAM_KEY, wait_until
from pointsman.testing import RunningSimulator
from raw_client import ask, chat, request
from serve_process import ServeProcess, serving, toml

PATIENCE_S = 20.0  # each worker loads the management plane first
LIMITED = "sim-model#fault=rate_limit,retry_after=300"


def config(upstream: RunningSimulator) -> str:
    """Two workers, two accounts and a combo of them."""
    rows = [
        {"id": name, "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        for name in ("one", "two")
    ]
    combos = f'\n[[combos]]\nname = "both"\ntargets = ["one/{LIMITED}", "two/sim-model"]\n'
    return toml(rows, {"server": {"workers": 2}}) + combos


def limited_calls(upstream: RunningSimulator) -> int:
    """Calls that were sent to the account that is limited."""
    return sum("fault=rate_limit" in str(one) for one in upstream.requests)


def ask_all(server: ServeProcess, count: int) -> None:
    """Requests on as many connections: both workers get some."""
    for _ in range(count):
        assert ask(server.port, chat("", model="both")).status == 200


def cooling(server: ServeProcess) -> list[int]:
    """Models that each of several answers says to be locked."""
    found = []
    for _ in range(12):
        told = ask(server.port, request("GET", "/api/monitoring/health", b"", key=KEY)).body
        found.append(len(msgspec.json.decode(told)["lockouts"]))
    return found


def test_two_workers_share_what_they_find_out(upstream: RunningSimulator, tmp_path: Path) -> None:
    upstream.log.clear()
    with serving(tmp_path, config(upstream)) as server:
        assert ask(server.port, chat("", model="both")).status == 200
        wait_until(lambda: cooling(server) == [1] * 12, "the state at both workers", PATIENCE_S)
        ask_all(server, 20)
        assert limited_calls(upstream) == 1
        freed = ask(server.port, request("POST", "/api/resilience/reset", b"", key=KEY))
        assert freed.status == 200
        wait_until(lambda: cooling(server) == [0] * 12, "the reset at both workers", PATIENCE_S)
        ask_all(server, 1)
        assert limited_calls(upstream) == 2
