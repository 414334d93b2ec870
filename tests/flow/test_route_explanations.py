"""Why a request went where it did: in a header, by the dry run, by the kept decision, in the error when nothing can."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway, wait_until
from pointsman.cli import app
from pointsman.identity.keys import KeyService
from pointsman.routing.replay import load
from pointsman.storage.requests import RequestRepository
from pointsman.testing import OpenAIChat, running_simulator

HELLO: Any = [{"role": "user", "content": "hello there"}]
EXPLAIN = "/api/pointsman/route/explain"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[RunningGateway, httpx.Client]]:
    with running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as upstream:
        rows = [
            {"id": name, "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY, "models": ["m"]}
            for name in ("one", "two")
        ]
        combos = [{"name": "smart", "targets": ["one/m", "two/m"], "strategy": "round-robin"}]
        with running_gateway(tmp_path, {"connections": rows, "combos": combos}) as gateway:
            headers = {"Authorization": f"Bearer {KEY}"}
            with httpx.Client(base_url=gateway.address, headers=headers, timeout=20) as client:
                yield gateway, client


def ask(client: httpx.Client, model: str, **headers: str) -> httpx.Response:
    """A chat request."""
    return client.post("/v1/chat/completions", json={"model": model, "messages": HELLO}, headers=headers)


def kept_of(gateway: RunningGateway, request_id: str) -> bytes | None:
    """The decision that is in the database, once it is."""
    requests = RequestRepository(gateway.installation.database)

    def found() -> bool:
        return gateway.call(requests.find(request_id)) is not None

    wait_until(found, "projected record")
    return gateway.call(requests.find_plan(request_id))


def test_the_header_tells_the_order_only_when_asked(site: tuple[RunningGateway, httpx.Client]) -> None:
    _, client = site
    assert "x-pointsman-plan" not in ask(client, "smart").headers
    told = ask(client, "smart", **{"X-Pointsman-Explain": "1"}).headers["x-pointsman-plan"]
    assert told == "strategy=round-robin; order=two/m,one/m"


def test_a_decision_is_kept_with_its_request_and_made_again(site: tuple[RunningGateway, httpx.Client]) -> None:
    gateway, client = site
    for first in ("one/m", "two/m", "one/m"):
        request_id = ask(client, "smart").headers["x-request-id"]
        kept = kept_of(gateway, request_id)
        assert kept is not None
        replay = load(kept)
        assert replay.identical()
        assert replay.order[0] == first
        told = client.get("/api/pointsman/route/replay", params={"request_id": request_id}).json()
        assert told.get("identical") is True, told
        assert told["plan"]["order"][0]["target"] == first


def test_a_request_without_a_choice_keeps_no_decision(site: tuple[RunningGateway, httpx.Client]) -> None:
    gateway, client = site
    request_id = ask(client, "one/m").headers["x-request-id"]
    assert kept_of(gateway, request_id) is None
    told = client.get("/api/pointsman/route/replay", params={"request_id": request_id})
    assert (told.status_code, "routing decision" in told.text) == (404, True)
    assert client.get("/api/pointsman/route/replay").json()["error"]["param"] == "request_id"


def test_the_log_holds_no_decision(site: tuple[RunningGateway, httpx.Client]) -> None:
    gateway, client = site
    request_id = ask(client, "smart").headers["x-request-id"]
    [line] = [line for line in gateway.log_text().splitlines() if request_id in line]
    assert "plan" not in json.loads(line)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "smart"},
        {"model": "smart", "messages": HELLO, "max_tokens": 10},
        {"model": "smart", "system": "be short", "messages": HELLO, "max_tokens": 10},
        {"model": "smart", "input": "hello"},
        {"model": "smart", "contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
    ],
)
def test_the_dry_run_takes_bodies_of_any_api_and_calls_nobody(
    site: tuple[RunningGateway, httpx.Client], body: dict[str, Any]
) -> None:
    _, client = site
    told = client.post(EXPLAIN, json=body)
    assert told.status_code == 200, told.text
    assert [row["target"] for row in told.json()["order"]] == ["one/m", "two/m"]
    again = client.post(EXPLAIN, json=body).json()
    assert [row["target"] for row in again["order"]] == ["one/m", "two/m"]  # a dry run takes nobody's turn


@pytest.mark.parametrize(
    ("body", "field"), [({}, "model"), ({"model": 3}, "model"), ({"model": "smart", "max_tokens": -1}, "max_tokens")]
)
def test_the_dry_run_names_the_field_at_fault(
    site: tuple[RunningGateway, httpx.Client], body: dict[str, Any], field: str
) -> None:
    told = site[1].post(EXPLAIN, json=body)
    assert (told.status_code, told.json()["error"]["param"]) == (400, field)


def test_explanations_are_for_administrators(site: tuple[RunningGateway, httpx.Client]) -> None:
    gateway, client = site

    async def make() -> str:
        _, secret = await gateway.installation.keys.create("app", "inference")
        return secret.reveal()

    assert isinstance(gateway.installation.keys, KeyService)
    secret = gateway.call(make())
    told = wait_until(
        lambda: (
            answer
            if (
                answer := client.post(EXPLAIN, json={"model": "smart"}, headers={"Authorization": f"Bearer {secret}"})
            ).status_code
            != 401
            else None
        ),
        "new key",
    )
    assert told.status_code == 403
    assert client.post(EXPLAIN, json={"model": "smart"}, headers={"Authorization": "Bearer no"}).status_code == 401


def test_the_command_line_explains_and_replays(site: tuple[RunningGateway, httpx.Client], tmp_path: Path) -> None:
    gateway, client = site
    request_id = ask(client, "smart").headers["x-request-id"]
    assert kept_of(gateway, request_id) is not None
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"model": "other", "messages": HELLO}))
    config = tmp_path / "none.toml"
    config.write_text("")
    place = ["--data-dir", str(gateway.data_dir), "--config", str(config)]
    told = CliRunner().invoke(app, ["route", "replay", request_id, *place, "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["identical"] is True
    shown = CliRunner().invoke(app, ["route", "replay", request_id, *place])
    assert "identical" in shown.output
    assert CliRunner().invoke(app, ["route", "replay", "req_none", *place]).exit_code != 0
