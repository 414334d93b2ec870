"""NotDiamond configured over the API: in effect at once, its key sealed and never shown."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from gateway import KEY, UPSTREAM_KEY, RunningGateway, running_gateway
from pointsman.cli import app
from pointsman.testing import NotDiamond, OpenAIChat, running_simulator

PATH = "/api/pointsman/profiles/notdiamond"
SECRET = "nd-key-QwErTy0123456789"
BY = "x-crosscompute-routing-intelligence"
FACTS = [
    {"model": f"up/{name}", "slug": f"sim/{name}", "prompt": 0.1, "completion": 0.1} for name in ("small", "other")
]


def call(gateway: RunningGateway, method: str, path: str = PATH, **rest: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.request(method, gateway.address + path, headers=headers, timeout=20, **rest)


def test_it_chooses_from_the_next_request_on_until_it_is_removed_and_after_a_restart(tmp_path: Path) -> None:
    with (
        running_simulator(OpenAIChat(api_key=UPSTREAM_KEY)) as upstream,
        running_simulator(NotDiamond(api_key=SECRET)) as service,
    ):
        connection = {"id": "up", "kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        document = {"connections": [connection | {"models": ["small", "other"]}], "facts": FACTS}

        def chooser(gateway: RunningGateway) -> str:
            body = {"model": "cheap", "messages": [{"role": "user", "content": "choose sim/other"}]}
            answer = call(gateway, "POST", "/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            return answer.headers[BY]

        with running_gateway(tmp_path, document) as gateway:
            assert call(gateway, "GET").json() == {"configured": False}
            assert chooser(gateway) == "local"
            wanted = {
                "api_key": SECRET, "base_url": service.base_url.removesuffix("/v1"), "timeout_ms": 3000,
                "allow_private": True,
            }  # fmt: skip
            shown = call(gateway, "PUT", json=wanted)
            assert (shown.status_code, shown.json()["configured"], shown.json()["source"]) == (200, True, "stored")
            assert SECRET not in shown.text
            assert chooser(gateway) == "notdiamond"
            assert call(gateway, "PUT", json={"timeout_ms": 4000}).json()["timeout_ms"] == 4000  # the key stays
            assert SECRET not in gateway.log_text()
        with running_gateway(tmp_path, document) as gateway:
            assert chooser(gateway) == "notdiamond"
            stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
            assert SECRET.encode() not in stored
            result = CliRunner().invoke(app, ["route", "notdiamond", "--json", "--data-dir", str(tmp_path)])
            assert result.exit_code == 0
            assert '"timeout_ms":4000' in result.stdout
            assert SECRET not in result.stdout
            assert call(gateway, "DELETE").json() == {"configured": False}
            assert chooser(gateway) == "local"
            assert call(gateway, "DELETE").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "api_key"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": "with blank\r\n"}, "api_key"),
        ({"api_key": 1}, "api_key"),
        ({"api_key": "k", "timeout_ms": 0}, "timeout_ms"),
        ({"api_key": "k", "base_url": "ftp://x"}, "base_url"),
        ({"api_key": "k", "unknown": 1}, None),
    ],
)
def test_wrong_settings_are_refused_and_named(tmp_path: Path, body: Any, field: str | None) -> None:
    with running_gateway(tmp_path, {}) as gateway:
        answer = call(gateway, "PUT", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field), answer.text
        assert call(gateway, "GET").json() == {"configured": False}


def test_what_the_file_says_is_changed_there_alone(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {"profiles": {"notdiamond": {"api_key": SECRET}}}) as gateway:
        shown = call(gateway, "GET")
        assert (shown.json()["source"], SECRET in shown.text) == ("file", False)
        assert call(gateway, "PUT", json={"api_key": "other"}).status_code == 409
        assert call(gateway, "DELETE").status_code == 409
        assert httpx.get(gateway.address + PATH, timeout=20).status_code == 401
