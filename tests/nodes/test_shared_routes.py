"""Where a conversation went, and how targets did, is known to every worker, and to the next life."""

import json
from pathlib import Path
from typing import Any

from gateway import KEY, UPSTREAM_KEY, wait_until
from pointsman.testing import RunningSimulator
from raw_client import ask, chat, request
from serve_process import ServeProcess, serving, toml

PATIENCE_S = 20.0
MODEL = "lab/echo"
EXPLAIN = "x-pointsman-explain: 1"


def config(upstream: RunningSimulator, workers: int) -> str:
    """Two accounts of one model that cost the same."""
    rows = [
        {"id": name, "kind": "vllm", "provider": name, "base_url": upstream.base_url, "api_key": UPSTREAM_KEY,
         "models": ["sim-model"]}
        for name in ("one", "two")
    ]  # fmt: skip
    facts = "".join(f'\n[[facts]]\nmodel = "{name}/sim-model"\nslug = "{MODEL}"\nprompt = 1.0\ncompletion = 1.0\n'
                    for name in ("one", "two"))  # fmt: skip
    return toml(rows, {"server": {"workers": workers}}) + facts


def first_choice(server: ServeProcess, session: str, **members: Any) -> str:
    """The account that a request of a session goes to."""
    answer = ask(server.port, chat("", EXPLAIN, model=MODEL, session_id=session, **members))
    assert answer.status == 200, answer.body
    return answer.headers["x-pointsman-plan"].partition("order=")[2].partition("/")[0]


def told(server: ServeProcess, sessions: list[str]) -> list[dict[str, str]]:
    """Where several answers, of both workers, say that sessions would go: that leaves nothing behind."""
    found = []
    for _ in range(8):
        places = {}
        for session in sessions:
            body = json.dumps({"model": MODEL, "session_id": session}).encode()
            answer = ask(server.port, request("POST", "/api/pointsman/route/explain", body, key=KEY))
            assert answer.status == 200, answer.body
            places[session] = answer.json()["order"][0]["target"].partition("/")[0]
        found.append(places)
    return found


def uptimes(server: ServeProcess) -> dict[str, Any]:
    """What the list of endpoints says of each account's last five minutes."""
    told = ask(server.port, request("GET", f"/api/v1/models/{MODEL}/endpoints", key=KEY)).json()["data"]["endpoints"]
    return {row["provider_name"]: row["uptime_last_5m"] for row in told}


def test_a_session_goes_to_one_target_at_every_worker_from_its_first_requests_on(
    upstream: RunningSimulator, tmp_path: Path
) -> None:
    with serving(tmp_path, config(upstream, 2)) as server:
        chosen = {name: {first_choice(server, name) for _ in range(4)} for name in map(str, range(8))}
        assert all(len(places) == 1 for places in chosen.values())
        assert len({place for places in chosen.values() for place in places}) == 2


def test_a_session_that_moved_stays_there_at_every_worker_and_after_a_restart(
    upstream: RunningSimulator, tmp_path: Path
) -> None:
    pinned = {name: ("one", "two")[number % 2] for number, name in enumerate(map(str, range(4)))}
    with serving(tmp_path, config(upstream, 2)) as server:
        for name, place in pinned.items():
            assert first_choice(server, name, provider={"only": [place]}) == place
        wait_until(
            lambda: told(server, list(pinned)) == [pinned] * 8, "the sessions' places at both workers", PATIENCE_S
        )
        assert {name: first_choice(server, name) for name in pinned} == pinned
        wait_until(lambda: set(uptimes(server).values()) == {100}, "uptimes of all workers", PATIENCE_S)
    with serving(tmp_path, config(upstream, 1)) as server:
        assert {name: first_choice(server, name) for name in pinned} == pinned
        assert set(uptimes(server).values()) == {100}
